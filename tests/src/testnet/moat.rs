//! A service for bridges, in the place of the Tor Project's: HTTPS behind the exits, with a certificate that a root of its own signed.
//!
//! It answers every question with what it was last given, and keeps who asked what. openssl-req(1), openssl-x509(1).

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::config;
use super::netns::Namespace;
use crate::process;

const TIMEOUT: Duration = Duration::from_secs(20);
const MOST_BYTES: usize = 64 << 10;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who connected: an exit.
    pub peer: IpAddr,
    /// The request line's method and target.
    pub what: String,
    /// Its head, in lower case.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// It runs; dropping it ends it.
#[derive(Debug)]
pub struct Moat {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    root: PathBuf,
    stranger: PathBuf,
}

#[derive(Debug, Default)]
struct Shared {
    answer: Mutex<(u16, Vec<u8>)>,
    asked: Mutex<Vec<Asked>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Moat {
    /// Starts it in `place`, with its certificates in `dir`, which whoever asks can read.
    pub fn start(place: &Namespace, dir: &Path) -> Result<Self> {
        let (root, stranger) = (authority(dir, "root")?, authority(dir, "stranger")?);
        let (certificate, key) = signed(dir)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![CertificateDer::from_pem_file(certificate)?], PrivateKeyDer::from_pem_file(key)?)?);
        place.add_local(config::MOAT.0)?;
        let listener = Arc::new(place.within(|| TcpListener::bind(config::MOAT).context("cannot listen"))?);
        let shared = Arc::new(Shared::default());
        let (its, listening) = (shared.clone(), listener.clone());
        let thread = std::thread::spawn(move || {
            while let Ok((stream, peer)) = listening.accept() {
                if let Err(error) = its.answer(&config, stream, peer.ip()) {
                    eprintln!("moat: {peer}: {error:#}");
                }
            }
        });
        Ok(Self { listener, thread: Some(thread), shared, root, stranger })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}/moat", config::MOAT_NAME)
    }

    /// The certificate that signed its own.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One that did not.
    #[must_use]
    pub fn stranger(&self) -> &Path {
        &self.stranger
    }

    /// From now on it answers `status` and `body`.
    pub fn answers(&self, status: u16, body: impl Into<Vec<u8>>) {
        *locked(&self.shared.answer) = (status, body.into());
    }

    /// What it was asked since the last call.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut locked(&self.shared.asked))
    }
}

impl Shared {
    fn answer(&self, config: &Arc<ServerConfig>, stream: TcpStream, peer: IpAddr) -> Result<()> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone())?, stream);
        let (head, body) = read(&mut stream)?;
        let what = head.lines().next().and_then(|line| line.strip_suffix(" HTTP/1.1")).unwrap_or_default().to_owned();
        locked(&self.asked).push(Asked { peer, what, head: head.to_lowercase(), body });
        let (status, body) = locked(&self.answer).clone();
        let head = format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nLocation: http://{}/\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", config::WEB, body.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)?;
        stream.conn.send_close_notify();
        Ok(stream.flush()?)
    }
}

/// Head and body of a request.
fn read(stream: &mut impl Read) -> Result<(String, String)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 || bytes.len() > MOST_BYTES {
            bail!("no request");
        }
        bytes.extend(buffer.get(..count).unwrap_or_default());
        let text = String::from_utf8(bytes.clone())?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().filter_map(|line| line.split_once(": ")).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if body.len() >= length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0) {
            return Ok((head.to_owned(), body.to_owned()));
        }
    }
}

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/// The certificate of a new authority.
fn authority(dir: &Path, name: &str) -> Result<PathBuf> {
    let [key, certificate] = ["key", "crt"].map(|end| dir.join(format!("{name}.{end}")));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-days", "2"]).args(NEW_KEY).args(["-subj", &format!("/CN=torbox test {name}")]).arg("-keyout").arg(key).arg("-out").arg(&certificate);
    process::output(&mut openssl)?;
    fs::set_permissions(&certificate, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    Ok(certificate)
}

/// The service's certificate and key.
fn signed(dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let [key, request, certificate, root, root_key] = ["moat.key", "moat.csr", "moat.crt", "root.crt", "root.key"].map(|name| dir.join(name));
    let mut openssl = Command::new("openssl");
    openssl.arg("req").args(NEW_KEY).args(["-subj", &format!("/CN={}", config::MOAT_NAME), "-addext", &format!("subjectAltName=DNS:{}", config::MOAT_NAME)]);
    process::output(openssl.arg("-keyout").arg(&key).arg("-out").arg(&request))?;
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-req", "-days", "2", "-copy_extensions", "copy"]).arg("-in").arg(request).arg("-CA").arg(root).arg("-CAkey").arg(root_key);
    process::output(openssl.arg("-out").arg(&certificate))?;
    Ok((certificate, key))
}

impl Drop for Moat {
    fn drop(&mut self) {
        // Whoever waits for a connection is told that none comes.
        let _closed = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}
