//! A Debian archive and a browser release that the tests make themselves, behind an HTTP server on loopback.
//!
//! Keys are made for one test and live in memory. Nothing here reaches beyond loopback.

pub mod keys;
pub mod project;
pub mod socks;

pub use keys::Signatory;

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use torbox_images::{Arch, BuildRequest, Channel, Error, Image, Indexes, Mirror, Mirrors, Programs, Progress, Recipe, RecipeName, ReleaseFiles, Store, Suite, Trust, build_from};

pub const NOW: &str = "2026-11-23T12:00:00Z";

pub fn now() -> DateTime<Utc> {
    NOW.parse().unwrap()
}

/// Says nothing.
pub struct Quiet;

impl Progress for Quiet {
    fn phase(&mut self, _what: &str) {}
    fn advance(&mut self, _done: u64, _total: Option<u64>) {}
}

/// How a server answers for one path.
#[derive(Clone)]
pub enum Answer {
    Whole(Vec<u8>),
    /// Announces everything, sends this much of it, and hangs up; continues when asked to.
    CutAt(usize, Vec<u8>),
    /// Sends the client to another address.
    SendOn(String),
}

type Files = Arc<Mutex<BTreeMap<String, Answer>>>;

/// An HTTP server on loopback, which ends with the test's process.
pub struct Server {
    pub url: String,
    pub files: Files,
    pub log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (files, log) = (Files::default(), Arc::new(Mutex::new(Vec::new())));
        let (served, logged) = (Arc::clone(&files), Arc::clone(&log));
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (served, logged) = (Arc::clone(&served), Arc::clone(&logged));
                thread::spawn(move || drop(answer(connection, &served, &logged)));
            }
        });
        Self { url, files, log }
    }

    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.files.lock().unwrap().insert(path.to_owned(), Answer::Whole(bytes));
    }

    /// The paths asked for since the last call.
    pub fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

/// One request, one answer.
fn answer(mut connection: TcpStream, files: &Files, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let mut from = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    log.lock().unwrap().push(format!("{path}{}", if from > 0 { format!(" from {from}") } else { String::new() }));
    let found = files.lock().unwrap().get(&path).cloned();
    let (bytes, cut) = match found {
        None => return connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Some(Answer::SendOn(to)) => return write!(connection, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Some(Answer::Whole(bytes)) => (bytes.clone(), bytes.len()),
        Some(Answer::CutAt(cut, bytes)) => (bytes, if from > 0 { usize::MAX } else { cut }),
    };
    let status = if from > 0 { format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len()) } else { "200 OK".to_owned() };
    write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len() - from)?;
    connection.write_all(&bytes[from..bytes.len().min(cut.max(from))])
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar archive of `path, mode, content`.
pub fn tar_of(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn deb_of(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let data = gzip(&tar_of(files));
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", b"2.0\n".as_slice()), ("control.tar.gz", &gzip(&[])), ("data.tar.gz", &data)] {
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

/// An archive with the packages `server` (whose version can be chosen) and `lib`.
pub struct Repository {
    pub server: Server,
    pub key: Signatory,
    pub codename: String,
    pub date: &'static str,
    pub valid_until: &'static str,
}

pub const SERVER_PATH: &str = "debian/pool/server.deb";
pub const IN_RELEASE: &str = "debian/dists/test/InRelease";

impl Repository {
    pub fn new() -> Self {
        let repository = Self {
            server: Server::start(),
            key: Signatory::new(None),
            codename: "test".into(),
            date: "Sat, 21 Nov 2026 00:53:03 UTC",
            valid_until: "Sat, 28 Nov 2026 00:53:03 UTC",
        };
        repository.publish("1.0-1");
        repository
    }

    /// Puts packages, index and signed release on the server.
    pub fn publish(&self, version: &str) {
        let server = deb_of(&[
            ("./usr/bin/server", 0o4755, format!("server {version}").as_bytes()),
            ("./usr/share/doc/server/copyright", 0o644, b"left out"),
            ("./usr/bin/sh", 0o755, b"left out"),
        ]);
        // Enough that a build can be stopped, and a disk filled, in the middle of it.
        let noise = std::iter::successors(Some(1u64), |n| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)));
        let big: Vec<u8> = noise.take(6_000_000).map(|n| (n >> 56) as u8).collect();
        let lib = deb_of(&[("./usr/share/lib/data", 0o600, &big), ("./lib/extra", 0o644, b"x")]);
        let mut packages = String::new();
        for (name, version, depends, deb) in [("server", version, "lib (>= 1)", server), ("lib", "2", "", lib)] {
            let path = format!("pool/{name}.deb");
            write!(packages, "Package: {name}\nVersion: {version}\nFilename: {path}\nSize: {}\nSHA256: {}\nDepends: {depends}\n\n", deb.len(), sha256(&deb)).unwrap();
            self.server.put(&format!("debian/{path}"), deb);
        }
        let packages = xz(packages.as_bytes());
        self.server.put(&format!("debian/dists/test/main/binary-amd64/by-hash/SHA256/{}", sha256(&packages)), packages.clone());
        self.sign(&packages, &self.key);
    }

    /// Puts packages on the server that hold one file each: name, version, further fields.
    pub fn publish_packages(&self, list: &[(&str, &str, &str)]) {
        let files: Vec<String> = list.iter().map(|(name, ..)| format!("usr/share/lib/{name}")).collect();
        let list: Vec<_> = list.iter().zip(&files).map(|((name, version, fields), file)| (*name, *version, *fields, file.as_str())).collect();
        self.publish_packages_as(&list);
    }

    /// The same with the path of the file.
    pub fn publish_packages_as(&self, list: &[(&str, &str, &str, &str)]) {
        let mut packages = String::new();
        for (name, version, fields, file) in list {
            let file = format!("./{file}");
            let deb = deb_of(&[(file.as_str(), 0o644, version.as_bytes()), ("./usr/bin/server", 0o755, b"server")]);
            let path = format!("pool/{name}_{version}_{}.deb", sha256(&deb));
            writeln!(packages, "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: {path}\nSize: {}\nSHA256: {}", deb.len(), sha256(&deb)).unwrap();
            write!(packages, "Description: a test\n{fields}\n").unwrap();
            self.server.put(&format!("debian/{path}"), deb);
        }
        let packages = xz(packages.as_bytes());
        self.server.put("debian/dists/test/main/binary-amd64/Packages.xz", packages.clone());
        self.sign(&packages, &self.key);
    }

    /// Signs a release for `packages` with `key`.
    pub fn sign(&self, packages: &[u8], key: &Signatory) {
        // The index as it is unpacked is listed too, as apt wants it.
        let mut unpacked = Vec::new();
        lzma_rust2::XzReader::new(packages, true).read_to_end(&mut unpacked).unwrap();
        let plain = format!("{} {}", sha256(&unpacked), unpacked.len());
        let release = format!(
            "Codename: {}\nDate: {}\nValid-Until: {}\nArchitectures: amd64\nComponents: main\nSHA256:\n {} {} main/binary-amd64/Packages.xz\n {plain} main/binary-amd64/Packages\n",
            self.codename,
            self.date,
            self.valid_until,
            sha256(packages),
            packages.len()
        );
        self.server.put(IN_RELEASE, key.clearsign(&release));
    }

    pub fn packages(&self) -> Vec<u8> {
        let files = self.server.files.lock().unwrap();
        let (_, answer) = files.iter().find(|(path, _)| path.contains("by-hash")).unwrap();
        let Answer::Whole(bytes) = answer else { panic!("a whole index") };
        bytes.clone()
    }

    pub fn trust(&self) -> Trust {
        let suite = Suite { archive: torbox_images::Archive::Debian, codename: "test".into(), component: "main".into(), keys: vec![self.key.fingerprint()] };
        Trust { suites: vec![suite], certificates: vec![("test.asc".into(), self.key.public())] }
    }
}

pub const TOR_RECIPE: &str = r#"
name = "tor"
title = "a test"
licences = "MIT"
role = "tor"
entrypoint = ["/usr/bin/server"]
programs = ["init", "gate"]
version-of = "server"
packages = ["server"]
exclude = []
[files]
executables = ["/usr/bin/server"]
data = ["/usr/share/lib/**"]
generate = ["accounts", "time-zone"]
"#;

pub fn browser_recipe(primary: &str) -> Recipe {
    let text = format!(
        r#"
name = "tor-browser"
title = "a test"
licences = "MIT"
role = "browser"
entrypoint = ["/opt/tor-browser/Browser/firefox.real"]
programs = ["init"]
packages = ["lib"]
exclude = []
[files]
data = ["/usr/share/lib/**"]
generate = ["accounts"]
[tor-project]
primary = "{primary}"
certificate = "https://project.example/certificate"
index = "https://project.example/index.json"
releases = ["https://project.example/dist/{{version}}"]
archive = "tor-browser-linux-{{machine}}-{{version}}.tar.xz"
origins = ["https://project.example"]
places = {{ "tor-browser" = "opt/tor-browser" }}
"#
    );
    Recipe::parse("test", &text).unwrap()
}

/// A store, a cache and programs of one test's own.
pub struct Bench {
    pub dir: PathBuf,
    _owner: Option<tempfile::TempDir>,
}

impl Bench {
    pub fn new() -> Self {
        let owner = tempfile::tempdir().unwrap();
        Self { dir: owner.path().to_owned(), _owner: Some(owner) }
    }

    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _owner: None }
    }

    pub fn store(&self) -> Store {
        Store::open(&self.dir.join("store")).unwrap()
    }

    pub fn request(&self, url: &str) -> BuildRequest {
        for name in ["init", "gate", "display"] {
            std::fs::write(self.dir.join(name), name).unwrap();
        }
        // The security tree is not in the test's suites; an address must be there all the same.
        let mirrors = ["debian", "debian-security"].map(|tree| Mirror::new(&format!("{url}/{tree}")).unwrap());
        BuildRequest {
            recipe: RecipeName::Tor,
            mirrors: Mirrors::Named(mirrors.into()),
            cache: self.dir.join("cache"),
            channel: Channel::Release,
            release: None,
            key: None,
            accept_old: None,
            via: None,
            programs: Programs { init: self.dir.join("init"), gate: self.dir.join("gate"), display: self.dir.join("display") },
            arch: Arch::Amd64,
            locked: None,
            indexes: Indexes::default(),
        }
    }

    /// Builds the test's tor image.
    pub fn build(&self, repository: &Repository) -> Result<Image, Error> {
        self.build_with(&repository.trust(), &self.request(&repository.server.url))
    }

    pub fn build_with(&self, trust: &Trust, request: &BuildRequest) -> Result<Image, Error> {
        build_from(&self.store(), &Recipe::parse("test", TOR_RECIPE).unwrap(), trust, now(), request, &mut Quiet)
    }

    /// Builds the test's browser image from release files.
    pub fn build_browser(&self, repository: &Repository, recipe: &Recipe, trust: &Trust, files: Option<ReleaseFiles>) -> Result<Image, Error> {
        let request = BuildRequest { recipe: RecipeName::TorBrowser, release: files, ..self.request(&repository.server.url) };
        build_from(&self.store(), recipe, trust, now(), &request, &mut Quiet)
    }

    /// Writes an archive and a signature of it.
    pub fn release(&self, archive: &[u8], signature: &[u8]) -> ReleaseFiles {
        let (tarball, path) = (self.dir.join("tor-browser-linux.tar.xz"), self.dir.join("tor-browser-linux.tar.xz.asc"));
        std::fs::write(&tarball, archive).unwrap();
        std::fs::write(&path, signature).unwrap();
        ReleaseFiles { tarball, signature: path }
    }
}

/// A release of the browser, as a `.tar.xz`.
pub fn browser_archive(version: &str, more: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let json = format!("{{\"version\":\"{version}\"}}");
    let mut files: Vec<(&str, u32, &[u8])> = vec![("tor-browser/Browser/firefox.real", 0o755, b"program"), ("tor-browser/Browser/tbb_version.json", 0o644, json.as_bytes())];
    files.extend(more);
    xz(&tar_of(&files))
}

/// Says that a test was not run; where everything must run, that is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var_os("TORBOX_MUST_WORK").is_none(), "{why}");
    eprintln!("skipped: {why}");
}
