//! Streams from end to end: what tor is told, and what becomes of the bytes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::allow_attributes, reason = "a test that panics fails, which is what it is for")]

mod common;

use common::{Gate, PATIENCE, SUCCESS, Tor, ask, connect, stream, wait_for};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

/// Bytes that repeat only after a long while, so that a lost or doubled piece shows.
fn pattern(length: usize) -> Vec<u8> {
    (0_u32..).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24 & 0xFF).unwrap()).take(length).collect()
}

#[test]
fn g4_every_stream_carries_the_tag_and_a_new_identity_changes_it() {
    let gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    let (mut before, _) = ask(&gate, b"example.org", b"nonce");
    let arrival = tor.next();
    assert_eq!(arrival.user, b"example.org");
    assert_eq!(arrival.password, b"nonce~00112233445566778899aabbccddeeff.0");
    assert_eq!(arrival.destination, b"\x03example.org\0\x50");
    assert_eq!(gate.admin("new-identity"), "ok");
    assert_eq!(before.read(&mut [0]).unwrap(), 0, "a stream of the old identity has ended");
    let (_after, _) = ask(&gate, b"example.org", b"nonce");
    assert_eq!(tor.next().password, b"nonce~00112233445566778899aabbccddeeff.1");
    assert_eq!(gate.counter("identity"), 1);
}

#[test]
fn g4_without_credentials_nothing_reaches_tor() {
    let gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    let mut client = connect(&gate.path("socks"));
    client.write_all(&[5, 1, 0]).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [5, 0xFF]);
    assert!(tor.arrivals.recv_timeout(Duration::from_millis(200)).is_err());
    let (_client, _far) = stream(&gate, &tor);
}

#[test]
fn g4_a_browser_that_cannot_authenticate_is_isolated_by_its_box() {
    let gate = Gate::start(&["--require-auth", "no"]);
    let tor = Tor::start(&gate, SUCCESS);
    let mut client = connect(&gate.path("socks"));
    client.write_all(b"\x05\x01\0\x05\x01\0\x03\x0bexample.org\0\x50optimistic").unwrap();
    let mut arrival = tor.next();
    assert_eq!((&arrival.user[..], &arrival.password[..]), (&b"torbox"[..], &b"~00112233445566778899aabbccddeeff.0"[..]));
    let mut early = [0; 10];
    arrival.socket.read_exact(&mut early).unwrap();
    assert_eq!(&early, b"optimistic");
}

#[test]
fn g11_without_tor_every_request_fails() {
    let mut gate = Gate::start(&[]);
    assert_eq!(ask(&gate, b"site", b"nonce").1, 1);
    assert_eq!(gate.counter("tor_unreachable"), 1);
    let tor = Tor::start(&gate, SUCCESS);
    let (_client, _far) = stream(&gate, &tor);
    assert!(gate.is_running());
}

#[test]
fn g11_the_gate_ends_with_its_lifeline() {
    let mut gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    let (mut client, _far) = stream(&gate, &tor);
    gate.cut_lifeline();
    assert_eq!(gate.wait(), Some(0));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn g8_the_gate_cages_itself() {
    let caged = Gate::start(&["--cage", "required"]);
    assert_eq!((caged.status_field("Seccomp"), caged.status_field("NoNewPrivs")), ("2".to_owned(), "1".to_owned()));
    let loose = Gate::start(&["--cage", "off"]);
    assert_ne!(loose.status_field("Seccomp_filters"), caged.status_field("Seccomp_filters"));
}

#[test]
fn tors_extended_errors_pass() {
    for (sent, seen) in [(0xF0, 0xF0), (0xF6, 0xF6), (4, 4), (0x42, 1)] {
        let gate = Gate::start(&[]);
        let _tor = Tor::start(&gate, &[5, sent, 0, 1, 127, 0, 0, 1, 0, 1]);
        assert_eq!(ask(&gate, b"site", b"nonce").1, seen);
    }
}

#[test]
fn bytes_arrive_whole_in_both_directions() {
    let gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    let sent = pattern(32 << 20);
    for chunk in [1 << 20, 100_000, 16 * 1024] {
        let (mut client, mut far) = stream(&gate, &tor);
        let (mut client_writes, mut far_writes) = (client.try_clone().unwrap(), far.try_clone().unwrap());
        thread::scope(|scope| {
            let up = scope.spawn(|| {
                sent.chunks(chunk).for_each(|chunk| client_writes.write_all(chunk).unwrap());
                client_writes.shutdown(Shutdown::Write).unwrap();
            });
            let down = scope.spawn(|| {
                sent.chunks(chunk / 3).for_each(|chunk| far_writes.write_all(chunk).unwrap());
                far_writes.shutdown(Shutdown::Write).unwrap();
            });
            let reader = scope.spawn(|| {
                let mut got = Vec::new();
                far.read_to_end(&mut got).unwrap();
                assert!(got == sent, "up, in chunks of {chunk}");
            });
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            assert!(got == sent, "down, in chunks of {chunk}");
            [up, down, reader].into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert!(wait_for(|| gate.counter("streams") == 0));
    }
}

#[test]
fn a_half_close_leaves_the_other_direction_open() {
    let gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    let (mut client, mut far) = stream(&gate, &tor);
    client.write_all(b"request").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    far.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"request");
    far.write_all(&pattern(100_000)).unwrap();
    drop(far);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == pattern(100_000));
}

#[test]
fn a_full_close_ends_both_directions() {
    let gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    for client_goes in [true, false] {
        let (client, far) = stream(&gate, &tor);
        let (gone, mut stays) = if client_goes { (client, far) } else { (far, client) };
        drop(gone);
        assert_eq!(stays.read(&mut [0]).unwrap(), 0);
        assert!(wait_for(|| gate.counter("streams") == 0), "client goes: {client_goes}");
        assert_eq!(stays.write_all(b"x").and_then(|()| stays.write_all(b"x")).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_reset_ends_the_stream() {
    let gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    let (mut client, far) = stream(&gate, &tor);
    client.write_all(&pattern(1 << 16)).unwrap();
    assert!(wait_for(|| far.try_clone().unwrap().peek_any()));
    drop(far);
    let mut got = Vec::new();
    assert!(client.read_to_end(&mut got).is_ok_and(|count| count == 0) || got.is_empty());
    assert!(wait_for(|| gate.counter("streams") == 0));
}

trait PeekAny {
    fn peek_any(&self) -> bool;
}

impl PeekAny for std::os::unix::net::UnixStream {
    /// Whether something waits to be read.
    fn peek_any(&self) -> bool {
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        rustix::net::recv(self, &mut [0_u8; 1], flags).is_ok()
    }
}

#[test]
fn a_reader_that_stops_stops_the_writer() {
    let gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    let (mut client, mut far) = stream(&gate, &tor);
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let chunk = vec![7; 64 * 1024];
    let mut accepted = 0;
    let stopped = loop {
        match client.write(&chunk) {
            Ok(count) => accepted += count,
            Err(error) => break error.kind(),
        }
        assert!(accepted < 16 << 20, "nobody reads, and the gate takes on");
    };
    assert_eq!(stopped, ErrorKind::WouldBlock);
    let idle = gate.ticks();
    thread::sleep(Duration::from_millis(500));
    assert!(gate.ticks() - idle <= 2, "a stalled stream costs no processor time");
    assert!(gate.pss_kib() < 8 * 1024);
    client.shutdown(Shutdown::Write).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = Vec::new();
    far.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), accepted);
}
