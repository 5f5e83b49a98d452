//! A gate in a directory of its own, and the far end of its streams: a SOCKS server that says what it was asked.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::allow_attributes,
    reason = "shared by several tests, each of which uses a part"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const SECRET: &str = "a secret of this box";

/// A running gate. Dropped, it ends.
pub(crate) struct Gate {
    pub(crate) directory: tempfile::TempDir,
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Gate {
    pub(crate) fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::start_in(directory, more)
    }

    pub(crate) fn start_in(directory: tempfile::TempDir, more: &[&str]) -> Self {
        let at = |name: &str| directory.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_torbox-gate"));
        command.arg("--socks").arg(at("socks")).arg("--tor-socks").arg(at("tor"));
        command.arg("--admin").arg(at("admin")).args(["--lifeline", "stdin", "--tag", "00112233445566778899aabbccddeeff"]);
        command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "ready\n" {
            let mut text = String::new();
            child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
            panic!("the gate did not start: {text}");
        }
        let lifeline = child.stdin.take();
        Self { directory, child, lifeline }
    }

    /// With a control side, whose tor is `tor-control`.
    pub(crate) fn start_with_control() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("secret"), SECRET).unwrap();
        let (control, tor, cookie, secret) = (path("control"), path("tor-control"), path("cookie"), path("secret"));
        let options = [["--control", &control], ["--tor-control", &tor], ["--tor-cookie", &cookie], ["--control-secret-file", &secret]];
        Self::start_in(directory, options.as_flattened())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn cut_lifeline(&mut self) {
        self.lifeline = None;
    }

    /// The exit code, if it ends in time.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        wait_for(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn admin(&self, request: &str) -> String {
        let mut socket = connect(&self.path("admin"));
        socket.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// One number of `status`.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let status = self.admin("status");
        let found = status.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{name} is not in {status}")).parse().unwrap()
    }

    pub(crate) fn status_field(&self, field: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }

    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Clock ticks of processor time so far.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    pub(crate) fn pss_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.lifeline = None;
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub(crate) fn connect(path: &Path) -> UnixStream {
    let socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Waits for a state that nothing announces. Whether it came.
pub(crate) fn wait_for(mut state: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if state() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// One stream as tor would see it, after the handshake.
pub(crate) struct Arrival {
    pub(crate) user: Vec<u8>,
    pub(crate) password: Vec<u8>,
    /// The request without its first three bytes: address type, address, port.
    pub(crate) destination: Vec<u8>,
    pub(crate) socket: UnixStream,
}

/// A SOCKS server in the place of tor: it answers every request with `reply` and hands the stream over.
pub(crate) struct Tor {
    pub(crate) arrivals: Receiver<Arrival>,
}

impl Tor {
    pub(crate) fn start(gate: &Gate, reply: &[u8]) -> Self {
        let listener = UnixListener::bind(gate.path("tor")).unwrap();
        let (sender, arrivals) = channel();
        let reply = reply.to_vec();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (sender, reply) = (sender.clone(), reply.clone());
                thread::spawn(move || arrive(socket.unwrap(), &reply, &sender));
            }
        });
        Self { arrivals }
    }

    pub(crate) fn next(&self) -> Arrival {
        self.arrivals.recv_timeout(PATIENCE).unwrap()
    }
}

fn arrive(mut socket: UnixStream, reply: &[u8], sender: &Sender<Arrival>) -> Option<()> {
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut greeting = [0; 3];
    socket.read_exact(&mut greeting).ok()?;
    assert_eq!(greeting, [5, 1, 2], "only with credentials");
    socket.write_all(&[5, 2]).ok()?;
    let _version = counted(&mut socket, 1)?;
    let user = prefixed(&mut socket)?;
    let password = prefixed(&mut socket)?;
    socket.write_all(&[1, 0]).ok()?;
    let head = counted(&mut socket, 4)?;
    let mut destination = vec![head[3]];
    match head[3] {
        1 => destination.extend(counted(&mut socket, 6)?),
        4 => destination.extend(counted(&mut socket, 18)?),
        _ => {
            let name = prefixed(&mut socket)?;
            destination.extend(name);
            destination.extend(counted(&mut socket, 2)?);
        }
    }
    socket.write_all(reply).ok()?;
    sender.send(Arrival { user, password, destination, socket }).ok()
}

fn counted(socket: &mut UnixStream, count: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn prefixed(socket: &mut UnixStream) -> Option<Vec<u8>> {
    let count = counted(socket, 1)?;
    counted(socket, count[0].into())
}

pub(crate) const SUCCESS: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

/// A client's handshake for `example.org:80`. The stream and the reply's code.
pub(crate) fn ask(gate: &Gate, user: &[u8], password: &[u8]) -> (UnixStream, u8) {
    let mut socket = connect(&gate.path("socks"));
    let mut answer = [0; 10];
    socket.write_all(&[5, 1, 2]).unwrap();
    socket.read_exact(&mut answer[..2]).unwrap();
    assert_eq!(answer[..2], [5, 2]);
    let field = |bytes: &[u8]| [&[u8::try_from(bytes.len()).unwrap()][..], bytes].concat();
    socket.write_all(&[&[1][..], &field(user), &field(password)].concat()).unwrap();
    socket.read_exact(&mut answer[..2]).unwrap();
    assert_eq!(answer[..2], [1, 0]);
    socket.write_all(b"\x05\x01\0\x03\x0bexample.org\0\x50").unwrap();
    socket.read_exact(&mut answer).unwrap();
    (socket, answer[1])
}

/// A stream from end to end.
pub(crate) fn stream(gate: &Gate, tor: &Tor) -> (UnixStream, UnixStream) {
    let (client, code) = ask(gate, b"site", b"nonce");
    assert_eq!(code, 0);
    (client, tor.next().socket)
}
