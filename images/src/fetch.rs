//! Fetching over HTTP into a cache of files by digest.
//!
//! Every transfer is bounded in size and time. A file enters the cache by rename, after its digest was found right; nothing
//! is taken out of it without being digested again.

use crate::{
    digest::{Digest, Digesting},
    error::Error,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use ureq::{Agent, Body, http::Response};

/// The slowest server that is waited for, in bytes per second.
const SLOWEST: u64 = 16 << 10;

/// A file that is wanted: what it must be, and the addresses where it may be found, tried in turn.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) what: String,
    pub(crate) urls: Vec<String>,
    pub(crate) sha256: Digest,
    pub(crate) size: u64,
}

/// An HTTP client with a cache.
pub(crate) struct Fetcher {
    agent: Agent,
    cache: PathBuf,
}

impl Fetcher {
    /// A client whose cache is the directory `cache`, which is made if it is not there.
    pub(crate) fn new(cache: &Path) -> Result<Self, Error> {
        for dir in [cache.join("sha256"), cache.join("partial")] {
            fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
        }
        let config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .user_agent("torbox")
            .max_redirects(3)
            .build();
        Ok(Self { agent: config.into(), cache: cache.to_owned() })
    }

    /// The small file at `url`, of at most `limit` bytes; it is not cached.
    pub(crate) fn small(&self, url: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let body = self.get(url, 0, limit)?.into_body();
        let mut bytes = Vec::new();
        let read = body.into_reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|e| unreachable(url, ureq::Error::Io(e)))?;
        if bytes.len() as u64 > limit { Err(Error::Length { url: url.to_owned(), expected: limit, got: bytes.len() as u64 }) } else { Ok(bytes) }
    }

    /// Where the cached copy of a file is, or would be.
    fn cached(&self, wanted: &Wanted) -> PathBuf {
        self.cache.join("sha256").join(wanted.sha256.hex())
    }

    fn is_cached(&self, wanted: &Wanted) -> bool {
        fs::metadata(self.cached(wanted)).is_ok_and(|meta| meta.len() == wanted.size)
    }

    /// Makes sure that the file is in the cache, with its length; `advance` is told of every byte that is had.
    pub(crate) fn ensure(&self, wanted: &Wanted, advance: &dyn Fn(u64)) -> Result<(), Error> {
        if self.is_cached(wanted) {
            advance(wanted.size);
            return Ok(());
        }
        let mut last = Error::Internal("a wanted file has no address");
        for url in &wanted.urls {
            match self.download(url, wanted, advance) {
                Ok(()) => return Ok(()),
                Err(error @ (Error::Fetch { .. } | Error::Length { .. } | Error::Checksum { .. })) => last = error,
                Err(other) => return Err(other),
            }
        }
        Err(last)
    }

    /// The file's content. A cached copy that was damaged is removed and fetched again, once.
    pub(crate) fn bytes(&self, wanted: &Wanted) -> Result<Vec<u8>, Error> {
        self.ensure(wanted, &|_| ())?;
        let path = self.cached(wanted);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        if Digest::of(&bytes) == wanted.sha256 {
            return Ok(bytes);
        }
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        self.ensure(wanted, &|_| ())?;
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        check(&wanted.what, wanted.sha256, Digest::of(&bytes))?;
        Ok(bytes)
    }

    /// Fetches a file whose digest is not known beforehand to the new file `path`; its signature is still to be checked.
    pub(crate) fn unpinned(&self, url: &str, path: &Path, limit: u64, advance: &dyn Fn(u64)) -> Result<(), Error> {
        let mut reader = self.get(url, 0, limit)?.into_body().into_reader();
        let mut file = File::create_new(path).map_err(Error::io("create", path))?;
        let (mut buffer, mut length) = (vec![0; 64 << 10], 0);
        loop {
            let read = reader.read(&mut buffer).map_err(|e| unreachable(url, ureq::Error::Io(e)))?;
            length += read as u64;
            if length > limit {
                return Err(Error::Length { url: url.to_owned(), expected: limit, got: length });
            }
            if read == 0 {
                return Ok(());
            }
            file.write_all(buffer.get(..read).unwrap_or_default()).map_err(Error::io("write", path))?;
            advance(read as u64);
        }
    }

    /// Continues a partial download where there is one; a partial file is locked while it is written.
    fn download(&self, url: &str, wanted: &Wanted, advance: &dyn Fn(u64)) -> Result<(), Error> {
        let partial = self.cache.join("partial").join(wanted.sha256.hex());
        let wrong = |action| Error::io(action, &partial);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&partial).map_err(wrong("open"))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|e| wrong("lock")(e.into()))?;
        if self.is_cached(wanted) {
            // Another process finished it while this one waited for the lock: the descriptor is the cached file itself.
            return Ok(());
        }
        let have = usable_part(&file, wanted.size).map_err(wrong("read"))?;
        let response = self.get(url, have, wanted.size)?;
        if have > 0 && !continues_at(&response, have) {
            file.set_len(0).map_err(wrong("empty"))?;
        } else {
            advance(have);
        }
        let copied = self.copy(url, response, &mut file, wanted, advance);
        let digest = copied.and_then(|()| digest_of(&mut file).map_err(wrong("read")));
        match digest {
            Ok(digest) if digest == wanted.sha256 => {}
            Ok(got) => {
                fs::remove_file(&partial).map_err(wrong("remove"))?;
                return Err(Error::Checksum { what: wanted.what.clone(), expected: wanted.sha256, got });
            }
            // What came too short is continued the next time.
            Err(error) => return Err(error),
        }
        file.sync_all().map_err(wrong("write"))?;
        fs::rename(&partial, self.cached(wanted)).map_err(wrong("rename"))
    }

    fn copy(&self, url: &str, response: Response<Body>, file: &mut File, wanted: &Wanted, advance: &dyn Fn(u64)) -> Result<(), Error> {
        let mut reader = response.into_body().into_reader();
        let mut length = file.metadata().map_err(Error::io("read", &self.cache))?.len();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = reader.read(&mut buffer).map_err(|e| unreachable(url, ureq::Error::Io(e)))?;
            length += read as u64;
            if length > wanted.size || (read == 0 && length < wanted.size) {
                if length > wanted.size {
                    file.set_len(0).map_err(Error::io("empty", &self.cache))?;
                }
                return Err(Error::Length { url: url.to_owned(), expected: wanted.size, got: length });
            }
            if read == 0 {
                return Ok(());
            }
            file.write_all(buffer.get(..read).unwrap_or_default()).map_err(Error::io("write", &self.cache))?;
            advance(read as u64);
        }
    }

    /// Asks for `url` from byte `from` on; the time allowed grows with the `size` expected.
    fn get(&self, url: &str, from: u64, size: u64) -> Result<Response<Body>, Error> {
        let patience = Duration::from_secs(60 + size / SLOWEST);
        let mut request = self.agent.get(url).config().timeout_recv_body(Some(patience)).build();
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().map_err(|e| unreachable(url, e))
    }
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
