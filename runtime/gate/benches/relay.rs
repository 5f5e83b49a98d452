//! The gate as a relay between two AF_UNIX sockets, against no relay, socat and systemd-socket-proxyd, in one run.
//! Three measures, medians of interleaved rounds: 64 bytes back and forth, bulk, and 500 parallel streams; and the
//! proportional set size of the relay at rest and with 500 streams open. What is not installed is named and left out.
//! Words on the command line (`ping`, `bulk`, `streams`) choose among them.

use rustix::event::{Timespec, epoll};
use std::error::Error;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: usize = 5;
const BULK_BYTES: usize = 2 << 30;
const STREAMS: usize = 500;
const STREAM_BYTES: usize = 4 << 20;
const CHUNK: usize = 256 * 1024;
/// Short turns, so that what else the machine does falls on every relay alike.
const PING_ROUNDS: usize = 100;
const PINGS: usize = 500;
const WARM_UP: usize = 50;
const PING_BYTES: usize = 64;
const HEADER_BYTES: usize = 8;
const MIB: f64 = 1024.0 * 1024.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speech {
    Plain,
    Socks,
}

struct Relay {
    name: &'static str,
    speech: Speech,
    entry: PathBuf,
    process: Option<Child>,
}

#[derive(Default)]
struct Figures {
    bulk: Vec<f64>,
    streams: Vec<f64>,
    ping: Vec<f64>,
    rest: Vec<f64>,
    busy: Vec<f64>,
}

fn main() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let raised = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, rustix::process::Rlimit { current: raised, maximum: raised })?;
    let (plain, socks) = (directory.path().join("plain"), directory.path().join("socks"));
    serve(&plain, Speech::Plain)?;
    serve(&socks, Speech::Socks)?;
    let mut relays = start_all(directory.path(), &plain, &socks)?;
    let mut figures: Vec<Figures> = relays.iter().map(|_| Figures::default()).collect();
    let measures: [(&str, usize, Measure); 3] = [("ping", PING_ROUNDS, ping), ("bulk", ROUNDS, bulk), ("streams", ROUNDS, many)];
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (_, rounds, measure) in measures.iter().filter(|(name, ..)| chosen.is_empty() || chosen.iter().any(|word| word == name)) {
        for _ in 0..*rounds {
            for (relay, figures) in relays.iter().zip(&mut figures) {
                measure(relay, figures).map_err(|error| format!("{}: {error}", relay.name))?;
            }
        }
    }
    print_table(&relays, &figures);
    for child in relays.iter_mut().filter_map(|relay| relay.process.as_mut()) {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

fn start_all(directory: &Path, plain: &Path, socks: &Path) -> Outcome<Vec<Relay>> {
    let mut relays = vec![
        Relay { name: "none", speech: Speech::Plain, entry: plain.to_owned(), process: None },
        Relay { name: "none, with SOCKS", speech: Speech::Socks, entry: socks.to_owned(), process: None },
    ];
    let at = |name: &str| directory.join(name);
    let mut add = |name, speech, entry: PathBuf, command: &mut Command| -> Outcome<()> {
        match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => {
                await_socket(&entry)?;
                relays.push(Relay { name, speech, entry, process: Some(child) });
            }
            Err(error) => println!("{name} is left out: {error}"),
        }
        Ok(())
    };
    let mut gate = Command::new(env!("CARGO_BIN_EXE_torbox-gate"));
    gate.arg("--socks").arg(at("gate")).arg("--tor-socks").arg(socks);
    add("torbox-gate", Speech::Socks, at("gate"), &mut gate)?;
    let mut proxyd = Command::new("systemd-socket-activate");
    proxyd.arg("-l").arg(at("proxyd")).arg("/lib/systemd/systemd-socket-proxyd").arg("--connections-max=1024").arg(plain);
    add("systemd-socket-proxyd", Speech::Plain, at("proxyd"), &mut proxyd)?;
    for (name, size) in [("socat, 8 KiB", "8192"), ("socat, 256 KiB", "262144")] {
        let mut socat = Command::new("socat");
        let listen = format!("UNIX-LISTEN:{},fork,backlog=512", at(size).display());
        socat.args(["-b", size, &listen]).arg(format!("UNIX-CONNECT:{}", plain.display()));
        add(name, Speech::Plain, at(size), &mut socat)?;
    }
    Ok(relays)
}

fn await_socket(path: &Path) -> Outcome<()> {
    let until = Instant::now() + Duration::from_secs(10);
    while !path.exists() {
        if Instant::now() > until {
            return Err(format!("{} did not appear", path.display()).into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A connection of the far end. Its first 8 bytes say how many it swallows before it says one byte; 0 is echo.
/// (A half-close would do, but systemd-socket-proxyd takes one for the end of both directions.)
struct Peer {
    stream: UnixStream,
    left: Option<u64>,
}

/// The far end. One thread serves every connection.
fn serve(path: &Path, speech: Speech) -> Outcome<()> {
    let listener = UnixListener::bind(path)?;
    thread::spawn(move || swallow(&listener, speech));
    Ok(())
}

fn swallow(listener: &UnixListener, speech: Speech) -> Outcome<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(u64::MAX), epoll::EventFlags::IN)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut buffer = vec![0; CHUNK];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            match event.data.u64() {
                u64::MAX => {
                    let (mut stream, _) = listener.accept()?;
                    if speech == Speech::Socks {
                        greet_as_tor(&mut stream)?;
                    }
                    stream.set_nonblocking(true)?;
                    let flags = epoll::EventFlags::IN;
                    epoll::add(&epoll, &stream, epoll::EventData::new_u64(peers.len() as u64), flags)?;
                    peers.push(Some(Peer { stream, left: None }));
                }
                slot => {
                    if let Some(slot) = peers.get_mut(usize::try_from(slot)?) {
                        take(slot, &mut buffer);
                    }
                }
            }
        }
    }
}

fn take(slot: &mut Option<Peer>, buffer: &mut [u8]) {
    if slot.as_mut().is_some_and(|peer| listen(peer, buffer).is_none()) {
        *slot = None;
    }
}

/// `None` at the end of the connection.
fn listen(peer: &mut Peer, buffer: &mut [u8]) -> Option<()> {
    let room = if peer.left.is_none() { HEADER_BYTES } else { buffer.len() };
    let count = match peer.stream.read(buffer.get_mut(..room)?) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(()),
        Err(_) | Ok(0) => return None,
        Ok(count) => count,
    };
    match &mut peer.left {
        None => peer.left = Some(u64::from_le_bytes(buffer.get(..count)?.try_into().ok()?)),
        Some(0) => peer.stream.write_all(buffer.get(..count)?).ok()?,
        Some(left) => {
            *left -= count as u64;
            if *left == 0 {
                peer.stream.write_all(b"!").ok()?;
            }
        }
    }
    Some(())
}

fn greet_as_tor(peer: &mut UnixStream) -> Outcome<()> {
    let (mut head, mut fields) = ([0; 3], [0; 2]);
    peer.read_exact(&mut head)?;
    peer.write_all(&[5, 2])?;
    peer.read_exact(&mut fields)?;
    let mut user = vec![0; fields[1].into()];
    peer.read_exact(&mut user)?;
    let mut length = [0];
    peer.read_exact(&mut length)?;
    let mut password = vec![0; length[0].into()];
    peer.read_exact(&mut password)?;
    peer.write_all(&[1, 0])?;
    let mut request = [0; 10];
    peer.read_exact(&mut request)?;
    Ok(peer.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?)
}

fn open(relay: &Relay, swallows: usize) -> Outcome<UnixStream> {
    let mut stream = UnixStream::connect(&relay.entry)?;
    if relay.speech == Speech::Socks {
        let mut answer = [0; 10];
        stream.write_all(&[5, 1, 2])?;
        stream.read_exact(&mut answer[..2])?;
        stream.write_all(b"\x01\x04site\x05nonce")?;
        stream.read_exact(&mut answer[..2])?;
        stream.write_all(&[5, 1, 0, 1, 9, 9, 9, 9, 0, 80])?;
        stream.read_exact(&mut answer)?;
    }
    stream.write_all(&(swallows as u64).to_le_bytes())?;
    Ok(stream)
}

type Measure = fn(&Relay, &mut Figures) -> Outcome<()>;

fn pss(relay: &Relay) -> Outcome<f64> {
    relay.process.as_ref().map_or(Ok(0.0), |child| tree_pss(child.id()))
}

fn bulk(relay: &Relay, figures: &mut Figures) -> Outcome<()> {
    let mut stream = open(relay, BULK_BYTES)?;
    let chunk = vec![0x55; CHUNK];
    let start = Instant::now();
    for _ in 0..BULK_BYTES / CHUNK {
        stream.write_all(&chunk)?;
    }
    stream.read_exact(&mut [0])?;
    figures.bulk.push(BULK_BYTES as f64 / MIB / start.elapsed().as_secs_f64());
    Ok(())
}

fn ping(relay: &Relay, figures: &mut Figures) -> Outcome<()> {
    let mut stream = open(relay, 0)?;
    let (message, mut answer) = ([0x55; PING_BYTES], [0; PING_BYTES]);
    for turn in 0..WARM_UP + PINGS {
        let start = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        if turn >= WARM_UP {
            figures.ping.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(())
}

fn many(relay: &Relay, figures: &mut Figures) -> Outcome<()> {
    figures.rest.push(pss(relay)?);
    let streams = (0..STREAMS).map(|_| open(relay, STREAM_BYTES)).collect::<Outcome<Vec<_>>>()?;
    figures.streams.push(write_to_all(&streams)?);
    figures.busy.push(pss(relay)?);
    Ok(())
}

/// Writes to all streams from one thread, whichever has room; the time ends when the far end has all of it.
fn write_to_all(streams: &[UnixStream]) -> Outcome<f64> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut left = vec![STREAM_BYTES; streams.len()];
    for (stream, at) in streams.iter().zip(0..) {
        stream.set_nonblocking(true)?;
        epoll::add(&epoll, stream.as_fd(), epoll::EventData::new_u64(at), epoll::EventFlags::OUT)?;
    }
    let (chunk, start, mut open) = (vec![0x55; 64 * 1024], Instant::now(), streams.len());
    let mut events = Vec::with_capacity(256);
    while open > 0 {
        events.clear();
        let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
        if epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&patience))? == 0 {
            return Err("no stream had room for 30 seconds".into());
        }
        for event in &events {
            let at = usize::try_from(event.data.u64())?;
            let (Some(mut stream), Some(left)) = (streams.get(at), left.get_mut(at)) else { continue };
            let part = chunk.get(..chunk.len().min(*left)).unwrap_or_default();
            match stream.write(part) {
                Ok(sent) => *left -= sent,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if *left == 0 {
                epoll::delete(&epoll, stream)?;
                open -= 1;
            }
        }
    }
    for mut stream in streams {
        stream.set_nonblocking(false)?;
        stream.read_exact(&mut [0])?;
    }
    Ok((streams.len() * STREAM_BYTES) as f64 / MIB / start.elapsed().as_secs_f64())
}

/// Proportional set size of a process and its children, in MiB.
fn tree_pss(process: u32) -> Outcome<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0");
    let own: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    let children = children.split_whitespace().filter_map(|child| tree_pss(child.parse().ok()?).ok());
    Ok(own / 1024.0 + children.sum::<f64>())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_table(relays: &[Relay], figures: &[Figures]) {
    println!("| relay | 64 B median us | added | bulk MiB/s | 500 streams MiB/s | PSS at rest MiB | PSS with 500 streams MiB |");
    println!("|---|---|---|---|---|---|---|");
    let show = |values: &[f64]| median(&mut values.to_vec());
    for (relay, of_it) in relays.iter().zip(figures) {
        let Figures { bulk, streams, ping, rest, busy } = of_it;
        let without = relays.iter().zip(figures).find(|(none, _)| none.process.is_none() && none.speech == relay.speech);
        let added = without.map_or(f64::NAN, |(_, none)| show(ping) - show(&none.ping));
        print!("| {} | {:.1} | {added:.1} | {:.0} | {:.0} ", relay.name, show(ping), show(bulk), show(streams));
        println!("| {:.1} | {:.1} |", show(rest), show(busy));
    }
}
