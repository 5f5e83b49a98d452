//! The program between two sockets of the test's own: bytes, descriptors, back-pressure, half-close, bounds.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that panics fails, which is what it is for")]

use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg};
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use torbox_display::policy::{CONNECTIONS, DESCRIPTORS};

/// What opens the server, as the runtime supplies it.
const COOKIE: &str = "METHOD\nDATA";
const PATIENCE: Duration = Duration::from_secs(10);

/// The program, and the listener to which it connects.
struct Display {
    child: Child,
    server: UnixListener,
    dir: TempDir,
}

impl Display {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = UnixListener::bind(dir.path().join("server")).unwrap();
        std::fs::write(dir.path().join("cookie"), COOKIE).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_torbox-display"));
        command.arg("--listen").arg(dir.path().join("listen")).arg("--server").arg(dir.path().join("server"));
        command.args(["--protocol", "x11", "--cookie"]).arg(dir.path().join("cookie")).args(["--clipboard", "both", "--jitter", "0", "--cage", "required"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, server, dir }
    }

    fn client(&self) -> UnixStream {
        let client = UnixStream::connect(self.dir.path().join("listen")).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// A client and what the server sees of it.
    fn pair(&self) -> (UnixStream, UnixStream) {
        let client = self.client();
        let (server, _) = self.server.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        begin(&client, &server);
        (client, server)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The beginning of an X client ("Connection Setup" in the X protocol) with this key.
fn setup(name: &[u8], data: &[u8]) -> Vec<u8> {
    let length = |field: &[u8]| u16::try_from(field.len()).unwrap().to_ne_bytes();
    let padding = |field: &[u8]| vec![0; field.len().next_multiple_of(4) - field.len()];
    let order = if cfg!(target_endian = "little") { b'l' } else { b'B' };
    [&[order, 0], &11_u16.to_ne_bytes()[..], &[0, 0], &length(name), &length(data), &[0, 0], name, &padding(name), data, &padding(data)].concat()
}

/// Whatever the client has for a key, the server is given the display's.
fn begin(mut client: &UnixStream, mut server: &UnixStream) {
    client.write_all(&setup(b"MIT-MAGIC-COOKIE-1", b"the client's own")).unwrap();
    let mut seen = setup(b"METHOD", b"DATA");
    let expected = seen.clone();
    server.read_exact(&mut seen).unwrap();
    assert_eq!(seen, expected);
}

/// Sends `bytes` with `descriptors` and receives both.
fn send(to: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) {
    let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    assert_eq!(sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap(), bytes.len());
}

fn receive(from: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty()).unwrap();
    let rights = |message| if let RecvAncillaryMessage::ScmRights(rights) = message { Some(rights) } else { None };
    let descriptors = control.drain().filter_map(rights).flatten().collect();
    (bytes[..received.bytes].to_vec(), descriptors)
}

fn files(count: usize) -> Vec<OwnedFd> {
    let file = |number: usize| {
        let mut file = tempfile::tempfile().unwrap();
        write!(file, "file {number}").unwrap();
        file.into()
    };
    (0..count).map(file).collect()
}

fn contents(fd: OwnedFd) -> String {
    let (mut file, mut text) = (File::from(fd), String::new());
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn bytes_and_descriptors_arrive_together_and_in_order() {
    let display = Display::start();
    let (client, server) = display.pair();
    for (from, to) in [(&client, &server), (&server, &client)] {
        send(from, b"first", &files(2));
        send(from, b"second", &files(DESCRIPTORS));
        let (bytes, descriptors) = receive(to);
        assert_eq!((bytes.as_slice(), descriptors.len()), (b"first".as_slice(), 2));
        assert_eq!(descriptors.into_iter().map(contents).collect::<Vec<_>>(), ["file 0", "file 1"]);
        let (bytes, descriptors) = receive(to);
        assert_eq!((bytes.as_slice(), descriptors.len()), (b"second".as_slice(), DESCRIPTORS));
    }
}

#[test]
fn a_message_with_too_many_descriptors_ends_that_client_alone() {
    let display = Display::start();
    let idle = descriptors_of(&display);
    let ((greedy, its), (client, server)) = (display.pair(), display.pair());
    send(&greedy, b"x", &files(DESCRIPTORS + 1));
    assert_eq!(receive(&its).0, b"");
    send(&client, b"x", &files(1));
    assert_eq!(receive(&server).0, b"x");
    // The client is told before the last of its descriptors is closed.
    let mut open = 0;
    for _ in 0..100 {
        open = descriptors_of(&display);
        if open == idle + 2 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("its own are not closed: {open}, {idle} when idle");
}

fn descriptors_of(display: &Display) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", display.child.id())).unwrap().count()
}

#[test]
fn who_does_not_begin_in_order_reaches_no_server() {
    let display = Display::start();
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &setup(&[b'x'; 300], b"")] {
        let mut client = display.client();
        let (mut server, _) = display.server.accept().unwrap();
        client.write_all(nonsense).unwrap();
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0, "{nonsense:?}");
        assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));
    }
    let client = display.client();
    let (mut server, _) = display.server.accept().unwrap();
    send(&client, b"l", &files(1));
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0, "a descriptor before anything is said");
}

#[test]
fn a_half_close_is_passed_on_and_the_other_half_goes_on() {
    let display = Display::start();
    let (mut client, mut server) = display.pair();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).unwrap();
    server.write_all(b"answer").unwrap();
    drop(server);
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "questionanswer");
}

#[test]
fn a_server_that_does_not_read_stops_its_client() {
    let display = Display::start();
    let (client, mut server) = display.pair();
    client.set_nonblocking(true).unwrap();
    let piece = [7; 1 << 16];
    let mut sent = 0;
    // It stops within what three sockets' buffers and the lane hold.
    while let Some(count) = write(&client, &piece) {
        sent += count;
        assert!(sent < 8 << 20, "nothing holds it back");
    }
    let (mut other, mut others) = display.pair();
    other.write_all(b"x").unwrap();
    assert_eq!(others.read(&mut [0; 8]).unwrap(), 1, "another client is not held back");
    let mut received = 0;
    while received < sent {
        received += server.read(&mut [0; 1 << 16]).unwrap();
    }
    assert_eq!(received, sent);
}

/// Writes what there is room for, for a while.
fn write(mut to: &UnixStream, bytes: &[u8]) -> Option<usize> {
    (0..20).find_map(|_| match to.write(bytes) {
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            std::thread::sleep(Duration::from_millis(10));
            None
        }
        Err(error) => panic!("{error}"),
    })
}

#[test]
fn one_client_too_many_finds_its_connection_closed_until_another_leaves() {
    let display = Display::start();
    let mut pairs: Vec<_> = (0..CONNECTIONS).map(|_| display.pair()).collect();
    assert_eq!(display.client().read(&mut [0; 8]).unwrap(), 0);
    let (last, mut of_last) = pairs.pop().unwrap();
    drop(last);
    assert_eq!(of_last.read(&mut [0; 8]).unwrap(), 0);
    drop(of_last);
    let (mut client, mut server) = display.pair();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn it_ends_with_its_lifeline() {
    let mut display = Display::start();
    drop(display.child.stdin.take());
    assert_eq!(display.child.wait().unwrap().code(), Some(0));
}
