//! A tor client in the client's namespace that asks for both pages: the proof that the network works before a test relies on it.
//!
//! It speaks SOCKS5 (RFC 1928) to tor's socket, with names, so that nothing resolves a name here.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::config::Layout;
use super::daemon::{Account, Lifetime, start_tor, stop};
use super::netns::Namespace;
use super::web::PAGE_TEXT;
use crate::wait;

/// Long enough for tor to try a second circuit, short enough for a new attempt to follow once the onion address is known.
const ATTEMPT: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(250);

/// The running client; dropping it ends it.
#[derive(Debug)]
pub struct Probe {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Probe {
    /// Starts the client; its configuration is part of `layout`.
    pub fn start(layout: &Layout, account: Account, client: &Namespace) -> Result<Self> {
        let child = start_tor(layout, "probe", account, client, Lifetime::Owned)?;
        Ok(Self { child, socket: layout.probe_socket(), log: layout.log("probe") })
    }

    /// Asks for the page at `host`, again and again until it comes or `deadline` passes. tor has no event for "this onion address
    /// can be reached now", so asking is the only way to know.
    pub fn wait_for_page(&self, host: &str, deadline: Instant) -> Result<()> {
        let mut last = anyhow::anyhow!("not tried");
        let came = wait::retry(PAUSE, deadline, || self.fetch(host).map_err(|error| last = error).ok());
        if came.is_some() {
            return Ok(());
        }
        let log = wait::text_so_far(&self.log);
        let log = log.lines().last().unwrap_or("nothing");
        Err(last).with_context(|| format!("no page from {host}; the client's tor last said: {log}"))
    }

    fn fetch(&self, host: &str) -> Result<()> {
        let page = get(&self.socket, host, "/?probe")?;
        if !page.contains(PAGE_TEXT) {
            bail!("another page came: {page}");
        }
        Ok(())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// Fetches `path` from port 80 of `host` through the SOCKS5 proxy at `socket`: the answer with its head, as text.
pub fn get(socket: &std::path::Path, host: &str, path: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket).context("cannot reach tor's SOCKS socket")?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    stream.set_write_timeout(Some(ATTEMPT))?;
    socks5(&mut stream, host, 80)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer).context("the answer broke off")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn socks5(stream: &mut UnixStream, host: &str, port: u16) -> Result<()> {
    let length = u8::try_from(host.len()).context("the host name is too long")?;
    stream.write_all(&[5, 1, 0])?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).context("SOCKS greeting")?;
    if method != [5, 0] {
        bail!("the proxy wants another method: {method:?}");
    }
    stream.write_all(&[&[5, 1, 0, 3, length], host.as_bytes(), &port.to_be_bytes()].concat())?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).context("SOCKS request")?;
    let [5, code, _, address_type] = reply else { bail!("not a SOCKS5 reply: {reply:?}") };
    if code != 0 {
        bail!("SOCKS error {code:#04x}");
    }
    skip_address(stream, address_type)
}

/// Reads past the bound address and its port, of which no use is made.
fn skip_address(stream: &mut UnixStream, address_type: u8) -> Result<()> {
    let length = match address_type {
        1 => 4,
        4 => 16,
        3 => {
            let mut length = [0];
            stream.read_exact(&mut length)?;
            length[0].into()
        }
        other => bail!("unknown SOCKS address type {other}"),
    };
    let wanted = length + 2;
    let skipped = std::io::copy(&mut stream.take(wanted), &mut std::io::sink()).context("SOCKS address")?;
    if skipped != wanted {
        bail!("the SOCKS reply broke off");
    }
    Ok(())
}
