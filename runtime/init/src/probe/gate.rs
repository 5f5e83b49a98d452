//! G4 and G5: what the gate grants. RFC 1928, tor's socks-extensions and control-spec.
//!
//! The gate is the box's own. Every request here is one that it must refuse itself: none reaches tor, or asks for a host that
//! somebody has.

use super::Guarantee::{self, G4, G5};
use super::{Finding, Probe, errno};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::env;
use std::fs;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The gate's sockets as the browser has them.
const SOCKS: &str = "/run/torbox/browser/socks";
const CONTROL: &str = "/run/torbox/browser/control";
/// How long the gate may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A greeting that offers credentials, and the credentials `torbox` and `probe` (RFC 1929).
const GREETING: &[u8] = &[5, 1, 2];
const CREDENTIALS: &[u8] = b"\x01\x06torbox\x05probe";

/// Requests that the gate must refuse: name, what it asks for, command, address type and address, port 9.
const REQUESTS: [(&str, &str, u8, &[u8]); 14] = [
    ("bind", "listen through tor", 2, b"\x03\x12torbox-probe.test."),
    ("udp", "send UDP through tor", 3, b"\x03\x12torbox-probe.test."),
    ("resolve-ptr", "look an address up", 0xf1, &[1, 192, 0, 2, 1]),
    ("loopback", "reach tor's own loopback", 1, &[1, 127, 0, 0, 1]),
    ("loopback.v6", "reach tor's own IPv6 loopback", 1, &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    ("loopback.name", "reach tor's own loopback by name", 1, b"\x03\x09localhost"),
    ("private", "reach a private network", 1, &[1, 192, 168, 0, 1]),
    ("private.v6", "reach a private IPv6 network", 1, &[4, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    ("metadata", "reach a cloud's metadata service", 1, &[1, 169, 254, 169, 254]),
    ("disguised", "reach loopback as an IPv6 address", 1, &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]),
    ("written", "reach loopback as a name that is an address", 1, b"\x03\x09127.0.0.1"),
    ("mdns", "reach a name of the local network", 1, b"\x03\x12torbox-probe.local"),
    ("exit", "choose the exit", 1, b"\x03\x15torbox-probe.test.exit"),
    ("any", "reach the unspecified address", 1, &[1, 0, 0, 0, 0]),
];

/// Control commands that the gate must not grant.
const COMMANDS: [(&str, &str, &str); 14] = [
    ("address", "ask tor for the machine's address", "GETINFO address"),
    ("config-text", "read tor's configuration", "GETINFO config-text"),
    ("config-file", "learn where tor's configuration lies", "GETINFO config-file"),
    ("entry-guards", "ask for the guards", "GETINFO entry-guards"),
    ("descriptor", "ask for descriptors", "GETINFO ns/all"),
    ("pid", "ask for tor's process", "GETINFO process/pid"),
    ("user", "ask for tor's user", "GETINFO process/user"),
    ("setconf", "change tor's configuration", "SETCONF SocksPort=0"),
    ("loadconf", "replace tor's configuration", "+LOADCONF\r\n."),
    ("saveconf", "write tor's configuration", "SAVECONF"),
    ("mapaddress", "redirect an address", "MAPADDRESS 192.0.2.1=192.0.2.2"),
    ("extendcircuit", "build a circuit of one's own choice", "EXTENDCIRCUIT 0"),
    ("add-onion", "publish a service", "ADD_ONION NEW:BEST Port=9"),
    ("shutdown", "end tor", "SIGNAL SHUTDOWN"),
];

pub(super) fn probes() -> Vec<Probe> {
    let requests = REQUESTS.map(|(name, tries, command, address)| talk(format!("socks.{name}"), G4, tries, move || request(command, address)));
    let others = [
        talk("socks.version-4".to_owned(), G4, "ask without any authentication, as SOCKS4 does", || granted(&exchange(SOCKS, &[b"\x04\x01\x00\x09\xc0\x00\x02\x01\x00"])?, &[0, 90])),
        talk("socks.garbage".to_owned(), G4, "be understood in another protocol", || granted(&exchange(SOCKS, &[b"GET http://192.0.2.1/ HTTP/1.0\r\n\r\n"])?, b"HTTP")),
        talk("socks.descriptor".to_owned(), G4, "hand a descriptor through the gate", smuggle),
    ];
    let commands = COMMANDS.map(|(name, tries, command)| talk(format!("control.{name}"), G5, tries, move || control(command)));
    requests.into_iter().chain(others).chain(commands).collect()
}

/// A probe of the gate; without a gate it cannot be made.
fn talk(id: String, guarantee: Guarantee, tries: &str, attempt: impl Fn() -> io::Result<Finding> + 'static) -> Probe {
    Probe::new(id, guarantee, tries, move || attempt().unwrap_or_else(|error| Finding::Unavailable(format!("the gate is not there: {}", errno(&error))))).in_audits()
}

/// Says `words`, each after an answer to the one before; all that was answered.
fn exchange(socket: &str, words: &[&[u8]]) -> io::Result<Vec<Vec<u8>>> {
    let mut stream = connect(socket)?;
    let mut answers = Vec::new();
    for word in words {
        // A gate that has hung up does not take the next word: what it answered is what counts.
        let answer = stream.write_all(word).and_then(|()| answer(&mut stream)).unwrap_or_default();
        answers.push(answer);
    }
    Ok(answers)
}

fn connect(socket: &str) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn answer(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 512];
    let count = stream.read(&mut buffer)?;
    Ok(buffer.get(..count).unwrap_or_default().to_vec())
}

/// Whether the last answer begins as a grant does.
fn granted(answers: &[Vec<u8>], grant: &[u8]) -> io::Result<Finding> {
    let last = answers.last().map(Vec::as_slice).unwrap_or_default();
    Ok(match last {
        [] => Finding::Held("the gate hung up".to_owned()),
        answer if answer.starts_with(grant) => Finding::NotHeld("granted".to_owned()),
        answer => Finding::Held(format!("refused with {:?}", String::from_utf8_lossy(answer.get(..answer.len().min(8)).unwrap_or_default()))),
    })
}

fn request(command: u8, address: &[u8]) -> io::Result<Finding> {
    let request = [&[5, command, 0], address, &[0, 9]].concat();
    let answers = exchange(SOCKS, &[GREETING, CREDENTIALS, &request])?;
    Ok(match answers.last().map(Vec::as_slice).unwrap_or_default() {
        [] => Finding::Held("the gate hung up".to_owned()),
        [5, 0, ..] => Finding::NotHeld("granted".to_owned()),
        [_, code, ..] => Finding::Held(format!("refused with reply {code:#04x}")),
        [_] => Finding::Held("refused".to_owned()),
    })
}

fn control(command: &str) -> io::Result<Finding> {
    // As Tor Browser does with the file that this variable names.
    let secret: String = fs::read(env::var_os("TOR_CONTROL_COOKIE_AUTH_FILE").unwrap_or_default())?.iter().map(|byte| format!("{byte:02X}")).collect();
    let lines = [format!("AUTHENTICATE {secret}\r\n"), format!("{command}\r\n")];
    let answers = exchange(CONTROL, &lines.each_ref().map(|line| line.as_bytes()))?;
    match answers.first() {
        Some(answer) if answer.starts_with(b"250") => granted(&answers, b"250"),
        _ => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the box's own secret is not taken")),
    }
}

/// Sends the one end of a pair; a gate that does not take it lets go of it at once, which the other end shows.
fn smuggle() -> io::Result<Finding> {
    let stream = connect(SOCKS)?;
    let (mut mine, theirs) = UnixStream::pair()?;
    mine.set_read_timeout(Some(PATIENCE))?;
    let theirs = OwnedFd::from(theirs);
    let descriptors = [theirs.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(GREETING)], &rights, MsgFlags::empty(), None)?;
    drop(theirs);
    Ok(match answer(&mut mine) {
        Ok(bytes) if bytes.is_empty() => Finding::Held("the gate let go of it".to_owned()),
        Ok(_) => Finding::NotHeld("the gate wrote to it".to_owned()),
        Err(error) => Finding::NotHeld(format!("the gate holds it: {}", errno(&error))),
    })
}
