//! A hostile and patient browser: what it does to the gate, and what it does not do to other streams.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::allow_attributes, reason = "a test that panics fails, which is what it is for")]

mod common;

use common::{Gate, SUCCESS, Tor, connect, stream, wait_for};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

const MOST_KIB: u64 = 32 * 1024;

fn ping(client: &mut UnixStream, far: &mut UnixStream) {
    let mut byte = [0];
    client.write_all(b"?").unwrap();
    far.read_exact(&mut byte).unwrap();
    far.write_all(b"!").unwrap();
    client.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"!");
}

/// After an attack the gate is as before: descriptors returned, and no processor time without work.
fn recovers(gate: &Gate, files: usize) {
    assert!(wait_for(|| gate.files() <= files + 16), "{} descriptors, {files} before", gate.files());
    thread::sleep(Duration::from_millis(1200));
    let ticks = gate.ticks();
    thread::sleep(Duration::from_secs(1));
    assert!(gate.ticks() - ticks <= 2, "processor time without work");
    assert!(gate.pss_kib() < MOST_KIB);
}

#[test]
fn g4_silent_connections_shut_nobody_out() {
    let gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    let (mut client, mut far) = stream(&gate, &tor);
    let files = gate.files();
    let silent: Vec<UnixStream> = (0..2000).map(|_| connect(&gate.path("socks"))).collect();
    ping(&mut client, &mut far);
    let (mut another, mut its_far) = stream(&gate, &tor);
    ping(&mut another, &mut its_far);
    assert!(gate.counter("streams") <= 130);
    assert!(gate.pss_kib() < MOST_KIB);
    drop(silent);
    recovers(&gate, files);
    ping(&mut client, &mut far);
}

#[test]
fn g4_streams_have_a_most() {
    let gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    let mut streams: Vec<_> = (0..512).map(|_| stream(&gate, &tor)).collect();
    let mut refused = connect(&gate.path("socks"));
    assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(gate.counter("refused_limit"), 1);
    let (client, far) = &mut streams[511];
    ping(client, far);
    assert!(gate.pss_kib() < 8 * 1024, "{} KiB with 512 streams", gate.pss_kib());
    streams.truncate(1);
    assert!(wait_for(|| gate.counter("streams") == 1));
    let (mut client, mut far) = stream(&gate, &tor);
    ping(&mut client, &mut far);
}

#[test]
fn g4_a_flood_of_connections_starves_nobody() {
    let gate = Gate::start(&[]);
    let tor = Tor::start(&gate, SUCCESS);
    let (mut client, mut far) = stream(&gate, &tor);
    let files = gate.files();
    let until = Instant::now() + Duration::from_secs(seconds());
    let (mut floods, mut slowest) = (0_u64, Duration::ZERO);
    while Instant::now() < until {
        for _ in 0..100 {
            drop(UnixStream::connect(gate.path("socks")));
        }
        floods += 100;
        let start = Instant::now();
        ping(&mut client, &mut far);
        slowest = slowest.max(start.elapsed());
    }
    println!("{} connections a second, slowest ping {slowest:?}", floods / seconds());
    assert!(slowest < Duration::from_secs(1));
    recovers(&gate, files);
}

/// 30 where it is asked for; less in everyday tests.
fn seconds() -> u64 {
    std::env::var("TORBOX_GATE_FLOOD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[test]
fn g4_a_trickle_ends_after_its_time() {
    let gate = Gate::start(&[]);
    let mut trickle = connect(&gate.path("socks"));
    // The longest greeting: at this speed it would take four minutes.
    trickle.write_all(&[5, 255]).unwrap();
    let mut sent = 0;
    let start = Instant::now();
    while trickle.write_all(&[0]).is_ok() && sent < 20 {
        sent += 1;
        thread::sleep(Duration::from_secs(1));
    }
    assert!((9..=13).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(gate.counter("timed_out"), 1);
}

#[test]
fn g5_a_line_without_end_is_cut_off() {
    let gate = Gate::start_with_control();
    let tor = Tor::start(&gate, SUCCESS);
    let (mut client, mut far) = stream(&gate, &tor);
    let files = gate.files();
    // 64 MiB without a newline, over as many connections as that takes: each is cut off after the longest line.
    let (piece, mut sent) = (vec![b'x'; 1 << 16], 0);
    while sent < 64 << 20 {
        let mut endless = connect(&gate.path("control"));
        let taken = (0..64).take_while(|_| endless.write_all(&piece).is_ok()).count();
        assert!(taken < 64, "one connection took 4 MiB");
        sent += (taken + 1) * piece.len();
    }
    assert!(gate.pss_kib() < MOST_KIB);
    ping(&mut client, &mut far);
    recovers(&gate, files);
}

#[test]
fn g5_control_connections_have_a_most_and_a_reader_that_stops_goes() {
    let gate = Gate::start_with_control();
    let mut clients: Vec<UnixStream> = (0..8).map(|_| connect(&gate.path("control"))).collect();
    assert!(wait_for(|| gate.counter("sessions") == 8));
    assert!(matches!(connect(&gate.path("control")).read(&mut [0]), Ok(0) | Err(_)));
    let deaf = &mut clients[0];
    deaf.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let lines = b"PROTOCOLINFO 1\r\n".repeat(4096);
    while deaf.write_all(&lines).is_ok() {}
    assert!(gate.pss_kib() < 8 * 1024);
    let ticks = gate.ticks();
    thread::sleep(Duration::from_secs(1));
    assert!(gate.ticks() - ticks <= 2, "a deaf client costs no processor time");
    clients.truncate(1);
    clients.clear();
    assert!(wait_for(|| gate.counter("sessions") == 0));
}
