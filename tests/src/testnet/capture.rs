//! What crosses the interfaces of a network namespace, both ways: a packet socket that is given every frame (packet(7)).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};

use super::netns::Namespace;
use crate::wait;

/// Longer than any frame that is not put together from several.
const FRAME: usize = 1 << 17;
/// What the kernel keeps until it is read.
const BUFFER: usize = 32 << 20;
/// How often the end is looked for.
const TURN: Duration = Duration::from_millis(50);
/// How long the last connections of what is gone may take.
const QUIET: Duration = Duration::from_secs(20);

/// Packets of one kind from one address to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// TCP over IPv4.
    Tcp {
        /// Address and port.
        from: (Ipv4Addr, u16),
        /// Address and port.
        to: (Ipv4Addr, u16),
    },
    /// Other IPv4.
    Ip {
        /// Protocol number.
        protocol: u8,
        /// Address.
        from: Ipv4Addr,
        /// Address.
        to: Ipv4Addr,
    },
    /// IPv6.
    Ipv6 {
        /// Number of the next header.
        next: u8,
        /// Address.
        from: Ipv6Addr,
        /// Address.
        to: Ipv6Addr,
    },
    /// Neither; its type.
    Other(u16),
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Flow {
    /// Reads a frame (IEEE 802.3, RFC 791, RFC 8200).
    fn of(frame: &[u8]) -> Option<Self> {
        const HEADER: usize = 14;
        let kind = u16::from_be_bytes(frame.get(12..HEADER)?.try_into().ok()?);
        let packet = frame.get(HEADER..)?;
        match kind {
            0x0800 => {
                let address = |at: usize| packet.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
                let (protocol, from, to) = (*packet.get(9)?, address(12)?, address(16)?);
                let start = usize::from(packet.first()? & 0x0f) * 4;
                let port = |at: usize| packet.get(start + at..start + at + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()).map(u16::from_be_bytes);
                if protocol == 6 { Some(Self::Tcp { from: (from, port(0)?), to: (to, port(2)?) }) } else { Some(Self::Ip { protocol, from, to }) }
            }
            0x86dd => {
                let address = |at: usize| packet.get(at..at + 16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(Ipv6Addr::from);
                Some(Self::Ipv6 { next: *packet.get(6)?, from: address(8)?, to: address(24)? })
            }
            other => Some(Self::Other(other)),
        }
    }
}

/// A capture that runs.
#[derive(Debug)]
pub struct Capture {
    seen: Arc<Mutex<BTreeSet<Flow>>>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Capture {
    /// Begins in `place`, once the connections that it still has are closed: what has no process any more is spoken to for a while.
    pub fn start(place: &Namespace) -> Result<Self> {
        let socket = place.within(|| {
            let mut open = Vec::new();
            let quiet = wait::retry(TURN, Instant::now() + QUIET, || {
                open = connections().ok()?;
                open.is_empty().then_some(())
            });
            ensure!(quiet.is_some(), "connections are open before the capture begins: {open:#?}");
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).context("no packet socket")?;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).context("no buffer")?;
            Ok(socket)
        })?;
        let (seen, ends) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (seen, ends) = (Arc::clone(&seen), Arc::clone(&ends));
            move || read(&socket, &seen, &ends)
        });
        Ok(Self { seen, ends, thread })
    }

    /// Ends it: every flow that was seen.
    pub fn end(self) -> Result<BTreeSet<Flow>> {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_panic| anyhow!("the thread of the capture panicked"))??;
        Ok(self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The lines of proc_pid_net(5)'s `tcp` for connections of the calling thread's network that are not over.
fn connections() -> Result<Vec<String>> {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let text = fs::read_to_string("/proc/thread-self/net/tcp").context("/proc/thread-self/net/tcp")?;
    let is_over = |line: &&str| matches!(line.split_whitespace().nth(3), Some(TIME_WAIT | LISTEN));
    Ok(text.lines().skip(1).filter(|line| !is_over(line)).map(str::to_owned).collect())
}

fn read(socket: &OwnedFd, seen: &Mutex<BTreeSet<Flow>>, ends: &AtomicBool) -> Result<()> {
    let mut frame = vec![0; FRAME];
    // What arrived before the end was asked for is still read.
    loop {
        if wait::readable(socket.as_fd(), Instant::now() + TURN)? {
            let length = rustix::io::read(socket, &mut frame).context("packet socket")?;
            let flow = frame.get(..length).and_then(Flow::of).context("a frame that is cut off")?;
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(flow);
        } else if ends.load(Ordering::SeqCst) {
            return Ok(());
        }
    }
}
