//! As much of HTTP (RFC 9112) as one page takes, and the beginning of a WebSocket (RFC 6455, 4.2).

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};
use tungstenite::handshake::derive_accept_key;

/// Bytes of a request.
const REQUEST: usize = 8 << 10;
const HEADERS: usize = 64;

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    kind: &'static str,
    text: &'static str,
}

impl Page {
    const ALL: [(&str, Self); 3] = [
        ("/", Self { kind: "text/html; charset=utf-8", text: include_str!("page.html") }),
        ("/page.css", Self { kind: "text/css; charset=utf-8", text: include_str!("page.css") }),
        ("/page.js", Self { kind: "text/javascript; charset=utf-8", text: include_str!("page.js") }),
    ];
}

/// What a browser asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    File(Page),
    /// The screen, by one that knows the secret; with the key that it is to be answered with.
    Screen { key: String },
    /// Nothing that there is, or nothing for it; with the status.
    Wrong(&'static str),
}

/// Reads a request's head, which is to come within `patience`.
pub(super) fn read(browser: &mut impl Read, secret: &str, patience: Duration) -> io::Result<Asked> {
    let (mut head, begun) = (Vec::new(), Instant::now());
    // Byte by byte: what follows is the WebSocket's.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if browser.read(&mut byte)? == 0 || head.len() >= REQUEST || begun.elapsed() >= patience {
            return Err(ErrorKind::InvalidData.into());
        }
        head.extend(byte);
    }
    Ok(judge(&head, secret))
}

fn judge(head: &[u8], secret: &str) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if !request.parse(head).is_ok_and(|parsed| parsed.is_complete()) {
        return Asked::Wrong("400 Bad Request");
    }
    let header = |name: &str| {
        let mut all = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        all.next().filter(|_| all.next().is_none()).and_then(|header| std::str::from_utf8(header.value).ok())
    };
    // A name that leads here without being this machine's is another page's attempt (DNS rebinding).
    let Some(host) = header("Host").filter(|host| is_local(host)) else { return Asked::Wrong("421 Misdirected Request") };
    if request.method != Some("GET") {
        return Asked::Wrong("405 Method Not Allowed");
    }
    let path = request.path.unwrap_or_default();
    let Some(told) = path.strip_prefix("/screen/") else {
        return Page::ALL.iter().find(|(own, _)| *own == path).map_or(Asked::Wrong("404 Not Found"), |(_, page)| Asked::File(*page));
    };
    // Any page may open a WebSocket to anywhere: its browser says which page it was.
    let own = header("Origin").and_then(|origin| origin.strip_prefix("http://")) == Some(host);
    let key = header("Sec-WebSocket-Key").filter(|_| header("Upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")));
    match key {
        Some(key) if own && is_same(told, secret) => Asked::Screen { key: key.to_owned() },
        _ => Asked::Wrong("403 Forbidden"),
    }
}

/// This machine's names, with whatever port: it may come through a tunnel.
fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.parse::<u16>().is_ok() { name } else { host });
    ["127.0.0.1", "localhost", "[::1]"].contains(&name)
}

/// In a time that does not tell where they differ.
fn is_same(told: &str, secret: &str) -> bool {
    told.len() == secret.len() && told.bytes().zip(secret.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

pub(super) fn give(browser: &mut impl Write, Page { kind, text }: Page) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n\r\n{text}",
        text.len()
    );
    browser.write_all(answer.as_bytes())
}

pub(super) fn refuse(browser: &mut impl Write, status: &str) -> io::Result<()> {
    browser.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
}

pub(super) fn upgrade(browser: &mut impl Write, key: &str) -> io::Result<()> {
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    browser.write_all(answer.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "00ff";

    fn asked(path: &str, host: &str, more: &str) -> Asked {
        judge(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n").as_bytes(), SECRET)
    }

    #[test]
    fn the_page_is_given_to_whoever_asks_this_machine() {
        assert!(matches!(asked("/", "127.0.0.1:4000", ""), Asked::File(page) if page.text.contains("<canvas")));
        assert!(matches!(asked("/page.js", "localhost", ""), Asked::File(page) if page.text.contains("WebSocket")));
        assert_eq!(asked("/../page.js", "127.0.0.1:1", ""), Asked::Wrong("404 Not Found"));
        for host in ["evil.example", "127.0.0.1.evil.example:80", "", "localhost:x", "127.0.0.1\r\nHost: 127.0.0.1"] {
            assert_eq!(asked("/", host, ""), Asked::Wrong("421 Misdirected Request"), "{host}");
        }
        assert_eq!(judge(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", SECRET), Asked::Wrong("405 Method Not Allowed"));
        assert_eq!(judge(b"\x16\x03\x01\r\n\r\n", SECRET), Asked::Wrong("400 Bad Request"));
    }

    #[test]
    fn the_screen_is_for_torboxs_own_page_with_the_secret() {
        let socket = |origin: &str| format!("Origin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a2V5\r\n");
        let own = socket("http://127.0.0.1:4000");
        assert_eq!(asked("/screen/00ff", "127.0.0.1:4000", &own), Asked::Screen { key: "a2V5".to_owned() });
        for (path, host, more) in [
            ("/screen/00fe", "127.0.0.1:4000", own.as_str()),
            ("/screen/", "127.0.0.1:4000", &own),
            ("/screen/00ff0", "127.0.0.1:4000", &own),
            ("/screen/00ff", "127.0.0.1:4001", &own),
            ("/screen/00ff", "127.0.0.1:4000", ""),
            ("/screen/00ff", "127.0.0.1:4000", &socket("https://evil.example")),
            ("/screen/00ff", "127.0.0.1:4000", "Origin: http://127.0.0.1:4000\r\nSec-WebSocket-Key: a2V5\r\n"),
        ] {
            assert_eq!(asked(path, host, more), Asked::Wrong("403 Forbidden"), "{path} {host} {more}");
        }
    }

    #[test]
    fn a_request_that_does_not_end_is_cut_off() {
        const LONG: Duration = Duration::from_secs(60);
        let whole = &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..];
        let cut = |mut from: &[u8], patience| read(&mut from, SECRET, patience).is_err();
        assert!(!cut(whole, LONG) && cut(whole, Duration::ZERO) && cut(&whole[..whole.len() - 1], LONG) && cut(&[b'a'; REQUEST + 1], LONG));
    }

    #[test]
    fn nothing_but_the_page_itself_can_be_loaded() {
        let mut given = Vec::new();
        give(&mut given, Page::ALL[0].1).unwrap();
        let given = String::from_utf8(given).unwrap();
        assert!(given.contains("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"), "{given}");
    }
}
