//! The web server behind the exits and the onion service, and the reader of its log.
//!
//! HTTP/1.1 (RFC 9112), GET and HEAD only, one request per connection. Everything is bounded: connections, bytes, time.
//! It serves one page that is compiled in, and never a file.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::wait;

const PAGE: &str = include_str!("../../www/index.html");
const HOSTILE: &str = include_str!("../../www/hostile.html");
const SESSION: &str = include_str!("../../www/session.html");
const PRESS: &str = include_str!("../../www/press.html");
const SCROLL: &str = include_str!("../../www/scroll.html");
const SHOWN: &str = include_str!("../../www/shown.html");
const SOUND: &str = include_str!("../../www/sound.html");
const HANDS: &str = include_str!("../../www/hands.html");
const MOST_CONNECTIONS: usize = 64;
const MOST_HEAD_BYTES: u64 = 16 * 1024;
const MOST_DOWNLOAD_BYTES: u64 = 64 * 1024 * 1024;
const MOST_DELAY: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(30);

/// Text that is on the page, whichever way it was reached.
pub const PAGE_TEXT: &str = "torbox: this page came through tor";

/// The way a request took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// To the server's address, through an exit.
    Exit,
    /// To the onion address.
    Onion,
}

impl Via {
    fn word(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Onion => "onion",
        }
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// Who connected: the exit, or the onion service's tor.
    pub peer: IpAddr,
    /// The listener it came to.
    pub via: Via,
    /// `GET` or `HEAD`.
    pub method: String,
    /// The request target with its query.
    pub path: String,
    /// The `Host` header, empty where absent.
    pub host: String,
    /// The `User-Agent` header, empty where absent.
    pub agent: String,
}

/// Listens at `exit` and `onion`, opens `log`, calls `ready`, then answers forever; each request is in the log before its answer.
pub fn serve(exit: SocketAddr, onion: SocketAddr, log: &Path, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    let [exit, onion] = [exit, onion].map(|at| TcpListener::bind(at).with_context(|| format!("cannot listen at {at}")));
    let (exit, onion) = (exit?, onion?);
    let log = OpenOptions::new().append(true).open(log).with_context(|| format!("cannot write {}", log.display()))?;
    ready()?;
    let server = Server { log: Mutex::new(log), busy: AtomicUsize::new(0) };
    std::thread::scope(|scope| {
        let second = scope.spawn(|| server.listen(&onion, Via::Onion));
        server.listen(&exit, Via::Exit).and(second.join().unwrap_or(Ok(())))
    })
}

struct Server {
    log: Mutex<File>,
    busy: AtomicUsize,
}

impl Server {
    fn listen(&self, listener: &TcpListener, via: Via) -> Result<()> {
        std::thread::scope(|scope| {
            loop {
                let (stream, peer) = listener.accept().context("accept")?;
                if self.busy.fetch_add(1, Ordering::SeqCst) >= MOST_CONNECTIONS {
                    self.busy.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                scope.spawn(move || {
                    if let Err(error) = self.answer(&stream, peer, via) {
                        eprintln!("web: {peer}: {error:#}");
                    }
                    self.busy.fetch_sub(1, Ordering::SeqCst);
                });
            }
        })
    }

    fn answer(&self, mut stream: &TcpStream, peer: SocketAddr, via: Via) -> Result<()> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let request = Request { peer: peer.ip(), via, ..read_head(stream)? };
        self.note(&request)?;
        let reply = route(&request);
        std::thread::sleep(reply.delay);
        stream.write_all(reply.head().as_bytes())?;
        if request.method == "GET" {
            std::io::copy(&mut reply.body(), &mut stream)?;
        }
        Ok(())
    }

    fn note(&self, request: &Request) -> Result<()> {
        let line = serde_json::to_string(request)? + "\n";
        let mut log = self.log.lock().map_err(|_poison| anyhow::anyhow!("a thread died while it wrote the log"))?;
        log.write_all(line.as_bytes()).context("cannot write the log")
    }
}

fn read_head(stream: &TcpStream) -> Result<Request> {
    let mut lines = BufReader::new(stream.take(MOST_HEAD_BYTES)).lines();
    let first = lines.next().context("no request")??;
    let (mut host, mut agent) = (String::new(), String::new());
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "host" => value.trim().clone_into(&mut host),
            "user-agent" => value.trim().clone_into(&mut agent),
            _ => {}
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    Ok(Request { time_ms: now_ms(), peer: IpAddr::from([0; 4]), via: Via::Exit, method, path, host, agent })
}

struct Reply {
    status: &'static str,
    headers: &'static str,
    text: String,
    /// Bytes of filling after the text.
    filling: u64,
    delay: Duration,
}

impl Reply {
    fn page(status: &'static str, text: String) -> Self {
        Self { status, headers: "Content-Type: text/html; charset=utf-8\r\n", text, filling: 0, delay: Duration::ZERO }
    }

    fn head(&self) -> String {
        let Self { status, headers, text, filling, delay: _ } = self;
        let length = text.len() as u64 + filling;
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n")
    }

    fn body(&self) -> impl Read + '_ {
        self.text.as_bytes().chain(std::io::repeat(b'.').take(self.filling))
    }
}

fn route(request: &Request) -> Reply {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let page = || PAGE.replace("{{via}}", request.via.word());
    match (request.method.as_str(), path) {
        ("GET" | "HEAD", "/") => Reply::page("200 OK", page()),
        ("GET" | "HEAD", "/hostile") => Reply::page("200 OK", HOSTILE.to_owned()),
        ("GET" | "HEAD", "/hands") => Reply::page("200 OK", HANDS.to_owned()),
        ("GET" | "HEAD", "/sound") => Reply::page("200 OK", SOUND.to_owned()),
        ("GET" | "HEAD", "/press") => Reply::page("200 OK", PRESS.to_owned()),
        ("GET" | "HEAD", "/scroll") => Reply::page("200 OK", SCROLL.to_owned()),
        ("GET" | "HEAD", "/shown") => Reply::page("200 OK", SHOWN.to_owned()),
        ("GET" | "HEAD", "/session") => Reply::page("200 OK", SESSION.to_owned()),
        ("GET" | "HEAD", "/ran") => Reply::page("200 OK", String::new()),
        ("GET" | "HEAD", "/again") => Reply { headers: "Content-Type: text/html\r\nRefresh: 1\r\n", ..Reply::page("200 OK", page()) },
        ("GET" | "HEAD", "/slow") => {
            let delay = Duration::from_millis(number(query, "ms").unwrap_or(5000)).min(MOST_DELAY);
            Reply { delay, ..Reply::page("200 OK", page()) }
        }
        ("GET" | "HEAD", "/download") => Reply {
            headers: "Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"torbox-download.bin\"\r\n",
            filling: number(query, "bytes").unwrap_or(1024).min(MOST_DOWNLOAD_BYTES),
            ..Reply::page("200 OK", String::new())
        },
        ("GET" | "HEAD", _) => Reply::page("404 Not Found", "<p>no such page".to_owned()),
        _ => Reply::page("405 Method Not Allowed", String::new()),
    }
}

fn number(query: &str, key: &str) -> Option<u64> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key)?.1.parse().ok()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A place in the log: what came before it is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

/// The log, as its reader sees it.
#[derive(Clone, Debug)]
pub struct WebLog {
    path: PathBuf,
}

impl WebLog {
    /// The log at `path`.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its present end.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(wait::text_so_far(&self.path).len())
    }

    /// Every request after `mark`, in order.
    pub fn since(&self, mark: Mark) -> Result<Vec<Request>> {
        let text = wait::text_so_far(&self.path);
        let lines = text.get(mark.0..).unwrap_or_default().split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).with_context(|| format!("not a log line: {line}"))).collect()
    }

    /// The first request after `mark` that `wanted` accepts, waiting for it until `deadline`.
    pub fn wait_for(&self, mark: Mark, deadline: Instant, wanted: impl Fn(&Request) -> bool) -> Result<Option<Request>> {
        wait::on_change(&self.path, deadline, || Ok(self.since(mark)?.into_iter().find(&wanted)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn request(method: &str, path: &str) -> Request {
        let (method, path) = (method.to_owned(), path.to_owned());
        Request { time_ms: 0, peer: IpAddr::from([0; 4]), via: Via::Onion, method, path, host: String::new(), agent: String::new() }
    }

    #[test]
    fn routes() {
        let cases = [
            ("GET", "/", "200 OK", 0, 0),
            ("GET", "/index.html", "404 Not Found", 0, 0),
            ("GET", "/../etc/passwd", "404 Not Found", 0, 0),
            ("POST", "/", "405 Method Not Allowed", 0, 0),
            ("GET", "/slow?ms=20", "200 OK", 0, 20),
            ("GET", "/slow?ms=9999999", "200 OK", 0, 60_000),
            ("GET", "/download?bytes=5", "200 OK", 5, 0),
            ("GET", "/download?bytes=99999999999", "200 OK", MOST_DOWNLOAD_BYTES, 0),
        ];
        for (method, path, status, filling, delay) in cases {
            let reply = route(&request(method, path));
            let seen = (reply.status, reply.filling, reply.delay.as_millis());
            assert_eq!(seen, (status, filling, delay), "{method} {path}");
        }
    }

    #[test]
    fn the_page_says_how_it_was_reached() {
        let text = route(&request("GET", "/")).text;
        assert!(text.contains(PAGE_TEXT) && text.contains("at the onion address") && !text.contains("{{"), "{text}");
    }

    #[test]
    fn a_half_written_line_is_not_read_and_the_mark_hides_what_was_before() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = WebLog::at(file.path().to_owned());
        let line = |path: &str| serde_json::to_string(&request("GET", path)).unwrap() + "\n";
        std::fs::write(&file, line("/before")).unwrap();
        let mark = log.mark();
        let half = line("/half");
        std::fs::write(&file, line("/before") + &line("/after") + &half[..half.len() - 3]).unwrap();
        assert_eq!(log.since(mark).unwrap(), [request("GET", "/after")]);
    }
}
