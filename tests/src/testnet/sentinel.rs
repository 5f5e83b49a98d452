//! Sentinels: listeners that a caged program must never reach. Every hit is one line of JSON, written before it is answered.
//!
//! "No hit" means nothing unless the same sentinel sees the same knock from a place that may reach it; [`Sentinel::settle`]
//! knocks once more on every door, after which all earlier knocks are in the record.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::daemon::{Lifetime, start_helper, stop};
use super::netns::Namespace;
use crate::wait;

const PATIENCE: Duration = Duration::from_millis(250);
const REPLY: &[u8] = b"seen";
const BARRIER: &str = "torbox-barrier-";

/// One address that is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// A TCP listener.
    Tcp(SocketAddr),
    /// A UDP socket.
    Udp(SocketAddr),
    /// A stream listener with a name in the abstract AF_UNIX namespace, which belongs to the network namespace.
    Abstract(String),
}

/// One knock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hit {
    /// Where.
    pub door: Door,
    /// Who: an address, or `pid=… uid=…`.
    pub from: String,
    /// The first bytes that came within a quarter of a second, as far as they are text.
    pub said: String,
}

/// Opens `doors` and `log`, calls `ready`, then writes every hit to `log`, forever.
pub fn serve(doors: &[Door], log: &Path, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    let open: Vec<Open> = doors.iter().map(Open::new).collect::<Result<_>>()?;
    let log = OpenOptions::new().append(true).open(log).with_context(|| format!("cannot write {}", log.display()))?;
    ready()?;
    let log = Mutex::new(log);
    std::thread::scope(|scope| {
        for (door, open) in doors.iter().zip(&open) {
            let log = &log;
            scope.spawn(move || watch(door, open, log));
        }
    });
    bail!("no sentinel is left")
}

enum Open {
    Tcp(TcpListener),
    Udp(UdpSocket),
    Abstract(UnixListener),
}

impl Open {
    fn new(door: &Door) -> Result<Self> {
        let opened = match door {
            Door::Tcp(address) => TcpListener::bind(address).map(Self::Tcp),
            Door::Udp(address) => UdpSocket::bind(address).map(Self::Udp),
            Door::Abstract(name) => unix_address(name).and_then(|a| UnixListener::bind_addr(&a)).map(Self::Abstract),
        };
        opened.with_context(|| format!("cannot listen at {door:?}"))
    }

    /// Waits for one knock. They are taken one after another, so that a later one cannot be recorded before an earlier one.
    fn next(&self, note: impl Fn(String, &[u8])) -> std::io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                let (mut stream, from) = listener.accept()?;
                stream.set_read_timeout(Some(PATIENCE))?;
                note(from.to_string(), &first_bytes(&mut stream));
                stream.write_all(REPLY)
            }
            Self::Udp(socket) => {
                let mut bytes = [0; 128];
                let (length, from) = socket.recv_from(&mut bytes)?;
                note(from.to_string(), bytes.get(..length).unwrap_or_default());
                socket.send_to(REPLY, from).map(drop)
            }
            Self::Abstract(listener) => {
                let (mut stream, _unnamed) = listener.accept()?;
                stream.set_read_timeout(Some(PATIENCE))?;
                let peer = rustix::net::sockopt::socket_peercred(&stream)?;
                let from = format!("pid={} uid={}", peer.pid.as_raw_nonzero(), peer.uid.as_raw());
                note(from, &first_bytes(&mut stream));
                stream.write_all(REPLY)
            }
        }
    }
}

fn watch(door: &Door, open: &Open, log: &Mutex<File>) {
    loop {
        let noted = open.next(|from, said| {
            let said = String::from_utf8_lossy(said).trim_end().to_owned();
            record(log, &Hit { door: door.clone(), from, said });
        });
        if let Err(error) = noted {
            eprintln!("sentinel {door:?}: {error}");
        }
    }
}

fn record(log: &Mutex<File>, hit: &Hit) {
    let line = serde_json::to_string(hit).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}")) + "\n";
    let written = log.lock().map(|mut file| file.write_all(line.as_bytes()));
    if !matches!(written, Ok(Ok(()))) {
        eprintln!("sentinel: cannot record {line}");
        std::process::exit(1);
    }
}

fn first_bytes(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = [0; 128];
    let length = stream.read(&mut bytes).unwrap_or(0);
    bytes.get(..length).unwrap_or_default().to_vec()
}

fn unix_address(name: &str) -> std::io::Result<UnixAddress> {
    UnixAddress::from_abstract_name(name)
}

/// Knocks at `door` from the calling thread's network namespace and waits up to two seconds for the answer: whether it came.
#[must_use]
pub fn knock(door: &Door, say: &str) -> bool {
    let knocked = match door {
        Door::Tcp(address) => TcpStream::connect_timeout(address, Duration::from_secs(2)).and_then(|stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            answered(stream, say)
        }),
        Door::Udp(address) => knock_udp(*address, say),
        Door::Abstract(name) => unix_address(name).and_then(|a| UnixStream::connect_addr(&a)).and_then(|stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            answered(stream, say)
        }),
    };
    knocked.unwrap_or(false)
}

fn answered(mut stream: impl Read + Write, say: &str) -> std::io::Result<bool> {
    stream.write_all(say.as_bytes())?;
    Ok(first_bytes(&mut stream) == REPLY)
}

fn knock_udp(address: SocketAddr, say: &str) -> std::io::Result<bool> {
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(address)?;
    socket.send(say.as_bytes())?;
    let mut bytes = [0; 16];
    let length = socket.recv(&mut bytes)?;
    Ok(bytes.get(..length) == Some(REPLY))
}

/// A running sentinel process; dropping it ends it.
#[derive(Debug)]
pub struct Sentinel {
    child: Child,
    place: Namespace,
    doors: Vec<Door>,
    log: PathBuf,
}

static BARRIERS: AtomicU64 = AtomicU64::new(0);

impl Sentinel {
    /// Opens `doors` in `place` and returns when they are open. `helper` is the `torbox-testnet` program; `log` must not exist.
    pub fn start(helper: &Path, place: &Namespace, doors: &[Door], log: &Path) -> Result<Self> {
        File::create_new(log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut command = place.command(helper);
        command.arg("serve-sentinel").arg("--log").arg(log).arg("--doors").arg(serde_json::to_string(doors)?);
        let child = start_helper(command, &log.with_extension("out"), Lifetime::Owned)?;
        Ok(Self { child, place: place.clone(), doors: doors.to_vec(), log: log.to_owned() })
    }

    /// Every hit so far, without barriers. Knocks that are still on their way are missing; see [`Self::settle`].
    pub fn hits(&self) -> Result<Vec<Hit>> {
        Ok(self.all()?.into_iter().filter(|hit| !hit.said.starts_with(BARRIER)).collect())
    }

    /// Knocks at every door from inside the sentinel's own namespace, then returns every hit but those knocks. As the doors take
    /// knocks in order, all that came before the call are in it. An unanswered knock is an error: that sentinel proves nothing.
    pub fn settle(&self) -> Result<Vec<Hit>> {
        let barrier = format!("{BARRIER}{}", BARRIERS.fetch_add(1, Ordering::SeqCst));
        self.place.within(|| match self.doors.iter().find(|door| !knock(door, &barrier)) {
            None => Ok(()),
            Some(deaf) => bail!("the sentinel does not answer at {deaf:?}"),
        })?;
        let seen = self.all()?.iter().filter(|hit| hit.said == barrier).count();
        if seen != self.doors.len() {
            bail!("the sentinel recorded {seen} of {} barriers", self.doors.len());
        }
        self.hits()
    }

    fn all(&self) -> Result<Vec<Hit>> {
        let text = wait::text_so_far(&self.log);
        text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not a hit: {line}"))).collect()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}
