//! Fetching over HTTP into a cache of files by digest.
//!
//! Every transfer is bounded in size and time. A file enters the cache by rename, after its digest was found right; nothing
//! is taken out of it without being digested again. No server sends this client further than the caller allows.

use crate::{
    digest::{Digest, Digesting},
    error::Error,
    via::Via,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use ureq::{Agent, Body, http::Response};

/// How often a server may send a request on to another address.
const REDIRECTS: usize = 3;

/// How long a file may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    /// A signed document tells its length.
    Exactly(u64),
    /// Only its digest is known.
    AtMost(u64),
}

impl Size {
    const fn limit(self) -> u64 {
        match self {
            Self::Exactly(size) | Self::AtMost(size) => size,
        }
    }

    const fn fits(self, length: u64) -> bool {
        match self {
            Self::Exactly(size) => length == size,
            Self::AtMost(size) => length <= size,
        }
    }
}

/// Which addresses a request may be sent on to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Within<'w> {
    /// Any: mirrors are not trusted anyway.
    Anywhere,
    /// Those that begin with one of these origins (`https://host`), the first address included.
    Origins(&'w [String]),
}

impl Within<'_> {
    /// Whether `url` is below one of the origins.
    pub(crate) fn holds(self, url: &str) -> bool {
        let below = |origin: &String| url.strip_prefix(origin.as_str()).is_some_and(|rest| rest.starts_with('/'));
        match self {
            Self::Anywhere => true,
            Self::Origins(origins) => origins.iter().any(below),
        }
    }
}

/// A file that is wanted: what it must be, and the addresses where it may be found, tried in turn.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'w> {
    pub(crate) what: String,
    pub(crate) urls: Vec<String>,
    pub(crate) within: Within<'w>,
    pub(crate) sha256: Digest,
    pub(crate) size: Size,
}

/// How far a transfer has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The whole will be so long.
    Whole(u64),
    /// So many bytes more are here.
    Had(u64),
}

/// How long a server is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For any answer.
    least: Duration,
    /// The slowest that is borne, in bytes per second: a transfer may take `least` and so long as its bytes take at this rate.
    slowest: u64,
}

impl Patience {
    /// For a file of `size` bytes, with all attempts at it.
    fn with(self, size: u64) -> Duration {
        self.least + Duration::from_secs(size / self.slowest)
    }
}

const PATIENCE: Patience = Patience { least: Duration::from_secs(60), slowest: 16 << 10 };

/// An HTTP client with a cache.
pub(crate) struct Fetcher {
    agent: Agent,
    cache: PathBuf,
    patience: Patience,
}

impl Fetcher {
    /// A client whose cache is the directory `cache`, which is made if it is not there.
    pub(crate) fn new(cache: &Path, via: Option<&Via>) -> Result<Self, Error> {
        for dir in [cache.join("sha256"), cache.join("partial")] {
            fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
        }
        let config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(if via.is_some() { 60 } else { 20 })))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .user_agent("torbox")
            // They are followed here, where it is known where to.
            .max_redirects(0)
            .max_redirects_will_error(false);
        let agent = match via {
            Some(via) => via.agent(config.proxy(None).build()),
            None => config.build().into(),
        };
        Ok(Self { agent, cache: cache.to_owned(), patience: PATIENCE })
    }

    /// The small file at one of `urls`, of at most `limit` bytes; it is not cached. When none will do, the first one's error
    /// is told.
    pub(crate) fn small(&self, urls: &[String], within: Within<'_>, limit: u64) -> Result<Vec<u8>, Error> {
        let mut first = None;
        for url in urls {
            match self.read(url, within, limit) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(Error::Internal("a small file has no address")))
    }

    fn read(&self, url: &str, within: Within<'_>, limit: u64) -> Result<Vec<u8>, Error> {
        let body = self.get(url, within, 0, self.patience.with(limit))?.into_body();
        let mut bytes = Vec::new();
        let read = body.into_reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|e| unreachable(url, ureq::Error::Io(e)))?;
        if bytes.len() as u64 > limit { Err(Error::Length { url: url.to_owned(), expected: limit, got: bytes.len() as u64 }) } else { Ok(bytes) }
    }

    /// Where the cached copy of a file is, or would be.
    fn cached(&self, wanted: &Wanted<'_>) -> PathBuf {
        self.cache.join("sha256").join(wanted.sha256.hex())
    }

    /// The length of the cached copy, where there is one that may be right.
    fn cached_length(&self, wanted: &Wanted<'_>) -> Option<u64> {
        fs::metadata(self.cached(wanted)).ok().map(|meta| meta.len()).filter(|length| wanted.size.fits(*length))
    }

    /// Makes sure that the file is in the cache, with its length; `tell` is told of every byte that is had.
    pub(crate) fn ensure(&self, wanted: &Wanted<'_>, tell: &dyn Fn(Step)) -> Result<(), Error> {
        if let Some(length) = self.cached_length(wanted) {
            tell(Step::Whole(length));
            tell(Step::Had(length));
            return Ok(());
        }
        let mut last = Error::NoSource { what: wanted.what.clone() };
        for url in &wanted.urls {
            match self.download(url, wanted, tell) {
                Ok(()) => return Ok(()),
                Err(error @ (Error::Fetch { .. } | Error::Length { .. } | Error::Checksum { .. } | Error::Redirect { .. })) => last = error,
                Err(other) => return Err(other),
            }
        }
        Err(last)
    }

    /// The file, whose cached copy is digested again: one that was damaged is removed and fetched again, once.
    pub(crate) fn file(&self, wanted: &Wanted<'_>, tell: &dyn Fn(Step)) -> Result<PathBuf, Error> {
        let path = self.cached(wanted);
        self.ensure(wanted, tell)?;
        if digest_file(&path)? == wanted.sha256 {
            return Ok(path);
        }
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        self.ensure(wanted, tell)?;
        check(&wanted.what, wanted.sha256, digest_file(&path)?)?;
        Ok(path)
    }

    /// The file's content, with the digest of the very bytes that are returned checked.
    pub(crate) fn bytes(&self, wanted: &Wanted<'_>) -> Result<Vec<u8>, Error> {
        let path = self.cached(wanted);
        for _ in 0..2 {
            self.ensure(wanted, &|_| ())?;
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            if Digest::of(&bytes) == wanted.sha256 {
                return Ok(bytes);
            }
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Err(Error::Store { path, reason: "the download cache does not keep what it is given".to_owned() })
    }

    /// Continues a partial download where there is one, also of an earlier run; a partial file is locked while it is written.
    fn download(&self, url: &str, wanted: &Wanted<'_>, tell: &dyn Fn(Step)) -> Result<(), Error> {
        let partial = self.cache.join("partial").join(wanted.sha256.hex());
        let wrong = |action| Error::io(action, &partial);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&partial).map_err(wrong("open"))?;
        file.lock().map_err(wrong("lock"))?;
        if self.cached_length(wanted).is_some() {
            // Another process finished it while this one waited for the lock: the descriptor is the cached file itself.
            return Ok(());
        }
        tell(Step::Had(usable_part(&file, wanted.size.limit()).map_err(wrong("read"))?));
        self.receive(url, wanted, &mut file, tell)?;
        let got = digest_of(&mut file).map_err(wrong("read"))?;
        if got != wanted.sha256 {
            fs::remove_file(&partial).map_err(wrong("remove"))?;
            return Err(Error::Checksum { what: wanted.what.clone(), expected: wanted.sha256, got });
        }
        file.sync_all().map_err(wrong("write"))?;
        fs::rename(&partial, self.cached(wanted)).map_err(wrong("rename"))
    }

    /// Receives the rest of a file. What breaks off is continued, for as long as it brings something.
    fn receive(&self, url: &str, wanted: &Wanted<'_>, file: &mut File, tell: &dyn Fn(Step)) -> Result<(), Error> {
        let length = |file: &File| file.metadata().map(|meta| meta.len()).map_err(Error::io("read", &self.cache));
        let end = Instant::now() + self.patience.with(wanted.size.limit());
        loop {
            let (have, left) = (length(file)?, end.saturating_duration_since(Instant::now()));
            match self.receive_once(url, wanted, file, (have, left), tell) {
                Err(Error::Fetch { .. }) if length(file)? > have && Instant::now() < end => {}
                other => return other,
            }
        }
    }

    /// Receives what comes after the bytes that are there, in the time that is left.
    fn receive_once(&self, url: &str, wanted: &Wanted<'_>, file: &mut File, (have, left): (u64, Duration), tell: &dyn Fn(Step)) -> Result<(), Error> {
        let response = self.get(url, wanted.within, have, left)?;
        let mut length = have;
        if have > 0 && !continues_at(&response, have) {
            file.set_len(0).map_err(Error::io("empty", &self.cache))?;
            length = 0;
        }
        file.seek(SeekFrom::Start(length)).map_err(Error::io("continue", &self.cache))?;
        if let Some(rest) = response.body().content_length() {
            tell(Step::Whole(length + rest));
        }
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = reader.read(&mut buffer).map_err(|e| unreachable(url, ureq::Error::Io(e)))?;
            length += read as u64;
            if length > wanted.size.limit() {
                file.set_len(0).map_err(Error::io("empty", &self.cache))?;
            }
            if length > wanted.size.limit() || (read == 0 && !wanted.size.fits(length)) {
                return Err(Error::Length { url: url.to_owned(), expected: wanted.size.limit(), got: length });
            }
            if read == 0 {
                return Ok(());
            }
            file.write_all(buffer.get(..read).unwrap_or_default()).map_err(Error::io("write", &self.cache))?;
            tell(Step::Had(read as u64));
        }
    }

    /// Asks for `url` from byte `from` on.
    fn get(&self, url: &str, within: Within<'_>, from: u64, left: Duration) -> Result<Response<Body>, Error> {
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS {
            if !within.holds(&at) {
                return Err(Error::Redirect { url: url.to_owned(), to: at });
            }
            let response = self.ask(&at, from, left)?;
            match location(&at, &response) {
                Some(next) => at = next,
                None => return Ok(response),
            }
        }
        Err(Error::Redirect { url: url.to_owned(), to: at })
    }

    fn ask(&self, url: &str, from: u64, left: Duration) -> Result<Response<Body>, Error> {
        let mut request = self.agent.get(url).config().timeout_recv_body(Some(left)).build();
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().map_err(|e| unreachable(url, e))
    }
}

/// Where a redirection leads to; an address that is not understood is one that leads nowhere.
fn location(at: &str, response: &Response<Body>) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let to = response.headers().get("Location").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = at.split_once("://").and_then(|(scheme, rest)| Some(scheme.len() + 3 + rest.find('/')?)).unwrap_or(at.len());
    if to.starts_with('/') && !to.starts_with("//") { Some(format!("{}{to}", at.get(..path).unwrap_or_default())) } else { Some(to.to_owned()) }
}

/// How much of a partial file can be continued: nothing of one that is already as long as the whole.
fn usable_part(file: &File, size: u64) -> io::Result<u64> {
    let have = file.metadata()?.len();
    if have < size {
        return Ok(have);
    }
    file.set_len(0)?;
    Ok(0)
}

fn continues_at(response: &Response<Body>, from: u64) -> bool {
    let range = response.headers().get("Content-Range").and_then(|value| value.to_str().ok());
    response.status().as_u16() == 206 && range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

fn unreachable(url: &str, source: ureq::Error) -> Error {
    Error::Fetch { url: url.to_owned(), source: Arc::new(source) }
}

fn check(what: &str, expected: Digest, got: Digest) -> Result<(), Error> {
    if expected == got { Ok(()) } else { Err(Error::Checksum { what: what.to_owned(), expected, got }) }
}

/// The digest of the file at `path`.
pub(crate) fn digest_file(path: &Path) -> Result<Digest, Error> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    digest_of(&mut file).map_err(Error::io("read", path))
}

fn digest_of(file: &mut File) -> io::Result<Digest> {
    file.rewind()?;
    let mut digesting = Digesting::new(io::sink());
    io::copy(file, &mut digesting)?;
    Ok(digesting.finish().1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    /// A server that answers every request with `head`, then with `piece` again and again.
    fn server(head: String, piece: &'static [u8], pause: Duration, times: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        thread::spawn(move || {
            for mut connection in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 1024];
                let mut answer = || -> io::Result<()> {
                    if connection.read(&mut request)? == 0 {
                        return Ok(());
                    }
                    connection.write_all(head.as_bytes())?;
                    for _ in 0..times {
                        connection.write_all(piece)?;
                        thread::sleep(pause);
                    }
                    Ok(())
                };
                answer().ok();
            }
        });
        url
    }

    fn fetcher(dir: &Path, least: Duration) -> Fetcher {
        Fetcher { patience: Patience { least, slowest: 1 << 20 }, ..Fetcher::new(dir, None).unwrap() }
    }

    fn wanted(url: &str, size: u64) -> Wanted<'static> {
        Wanted { what: "a file".into(), urls: vec![url.into()], within: Within::Anywhere, sha256: Digest::of(&vec![b'x'; size as usize]), size: Size::Exactly(size) }
    }

    fn head(length: usize) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    }

    #[test]
    fn a_server_that_drips_is_given_up_after_a_bounded_time() {
        let dir = tempfile::tempdir().unwrap();
        let url = server(head(100_000), b"x", Duration::from_millis(20), 100_000);
        let fetcher = fetcher(dir.path(), Duration::from_millis(400));
        for fetch in [&|| fetcher.ensure(&wanted(&url, 100_000), &|_| ()) as Result<(), Error>, &|| fetcher.small(std::slice::from_ref(&url), Within::Anywhere, 200_000).map(drop)] as [&dyn Fn() -> Result<(), Error>; 2] {
            let begun = Instant::now();
            let error = fetch().unwrap_err();
            assert!(matches!(error, Error::Fetch { .. }), "{error:?}");
            // Each attempt brings something; together they are bounded as well.
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        }
    }

    #[test]
    fn what_is_longer_than_it_may_be_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let fetcher = fetcher(dir.path(), Duration::from_secs(5));
        let good = server(head(1000), &[b'x'; 100], Duration::ZERO, 10);
        fetcher.ensure(&wanted(&good, 1000), &|_| ()).unwrap();
        // Announced or not: with a length, and with what comes until the connection ends.
        for head in [head(2000), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned()] {
            let url = server(head, &[b'x'; 100], Duration::ZERO, 20);
            let error = fetcher.ensure(&wanted(&url, 1500), &|_| ()).unwrap_err();
            assert!(matches!(error, Error::Length { .. }), "{error:?}");
            assert!(matches!(fetcher.small(&[url], Within::Anywhere, 1999), Err(Error::Length { .. })));
        }
    }

    #[test]
    fn a_redirection_leads_only_where_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let fetcher = fetcher(dir.path(), Duration::from_secs(5));
        let good = server(head(4), b"good", Duration::ZERO, 1);
        let origin = |url: &str| url.trim_end_matches("/file").to_owned();
        let to = |place: &str| server(format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), b"", Duration::ZERO, 0);
        let sent_on = to(&good);
        let both = [origin(&good), origin(&sent_on)];
        assert_eq!(fetcher.small(std::slice::from_ref(&sent_on), Within::Origins(&both), 10).unwrap(), b"good");
        assert_eq!(fetcher.small(std::slice::from_ref(&sent_on), Within::Anywhere, 10).unwrap(), b"good");
        let first = &both[1..];
        assert!(matches!(fetcher.small(&[sent_on], Within::Origins(first), 10), Err(Error::Redirect { to, .. }) if to == good));
        let round = to("/file");
        assert!(matches!(fetcher.small(&[round], Within::Anywhere, 10), Err(Error::Redirect { .. })));
        for nowhere in ["", "//elsewhere.test/", "ftp://elsewhere.test/"] {
            assert!(fetcher.small(&[to(nowhere)], Within::Origins(&both), 10).is_err(), "{nowhere:?}");
        }
    }

    #[test]
    fn origins_are_whole_hosts() {
        let origins = ["https://a.example".to_owned()];
        assert!(Within::Origins(&origins).holds("https://a.example/x"));
        for other in ["https://a.example.evil/x", "https://a.example@evil.example/x", "http://a.example/x", "https://a.example"] {
            assert!(!Within::Origins(&origins).holds(other), "{other}");
        }
    }
}
