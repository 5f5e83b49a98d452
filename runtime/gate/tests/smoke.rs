//! Generated sessions and mutations over the functions that the fuzz targets drive, for a bounded time and from a fixed
//! seed. Invariants: no bytes make a parser panic or take more than it was given; what was parsed and written is parsed
//! alike; and nothing that only tor knows ever comes out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::allow_attributes, reason = "a test that panics fails, which is what it is for")]

use std::time::{Duration, Instant};
use torbox_gate::fuzz;

/// xorshift64*: enough to vary, and the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % most
    }
}

/// Pieces of both protocols: what random bytes would not find in a lifetime.
const PIECES: &[&[u8]] = &[
    b"\x05\x01\x02",
    b"\x05\x02\x00\x02",
    b"\x01\x04site\x05nonce",
    b"\x05\x01\x00\x03\x0bexample.org\x00\x50",
    b"\x05\xf0\x00\x03\x09localhost\x00\x00",
    b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
    b"\x05\x01\x00\x04",
    b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
    b"\x04\x01",
    b"\xff",
    b"\x00",
    b"\r\n",
    b"\n",
    b" ",
    b"\"",
    b"\\",
    b"=",
    b"~",
    b"$",
    b",",
    b"+",
    b".",
    b"\r\n.\r\n",
    b"AUTHENTICATE ",
    b"\"a secret of this box\"",
    b"PROTOCOLINFO 1",
    b"GETINFO ",
    b"version",
    b"circuit-status",
    b"status/bootstrap-phase",
    b"ns/id/",
    b"ip-to-country/",
    b"203.0.113.9",
    b"net/listeners/socks",
    b"GETCONF ",
    b"Bridge",
    b"ClientTransportPlugin",
    b"SIGNAL NEWNYM",
    b"SETEVENTS ",
    b"CIRC",
    b"STREAM",
    b"EXTENDED",
    b"ONION_CLIENT_AUTH_ADD ",
    b"ONION_CLIENT_AUTH_REMOVE ",
    b"ONION_CLIENT_AUTH_VIEW",
    b"QUIT",
    b"pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd",
    b"x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    b"Flags=Permanent",
    b"1111111111111111111111111111111111111111",
    b"3333333333333333333333333333333333333333",
    b"0000000000000000000000000000000000000000",
    b"250 OK\r\n",
    b"250-",
    b"250+",
    b"650 ",
    b"551 ",
    b"CIRC 7 BUILT ",
    b"CIRC 7 CLOSED",
    b"STREAM 3 SUCCEEDED 7 x:80 ",
    b"SOCKS_USERNAME=\"a\" ",
    b"SOCKS_PASSWORD=\"b~00112233.0\"",
    b"PURPOSE=HS_CLIENT_REND",
    b"PROGRESS=100",
    b"r n i d 2026-11-23 01:02:03 203.0.113.9 1 0\r\n",
    b"a [2001:db8::9]:1\r\n",
    b"SETCONF ",
    b"RESETCONF ",
    b"GETINFO address",
    b"GETINFO config-text",
    b"MAPADDRESS ",
    b"ATTACHSTREAM ",
    b"EXTENDCIRCUIT 0 ",
    b"ADD_ONION ",
    b"HSFETCH ",
];

fn input(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.below(24) {
        match random.below(8) {
            0 => bytes.push(u8::try_from(random.below(256)).unwrap()),
            1 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            2 if !bytes.is_empty() => bytes.truncate(random.below(bytes.len())),
            3 => bytes.extend_from_slice(b"\r\n"),
            _ => bytes.extend_from_slice(PIECES[random.below(PIECES.len())]),
        }
    }
    bytes
}

/// Runs for `TORBOX_SMOKE_SECONDS` (default 3) or, with `TORBOX_SMOKE_SESSIONS`, so many inputs.
fn run(seed: u64, target: fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let until = Instant::now() + Duration::from_secs(number("TORBOX_SMOKE_SECONDS").unwrap_or(3));
    let (mut random, sessions) = (Random(seed), number("TORBOX_SMOKE_SESSIONS"));
    let mut count = 0_u64;
    while sessions.map_or_else(|| Instant::now() < until, |most| count < most) {
        target(&input(&mut random));
        count += 1;
    }
    println!("{count} inputs");
}

#[test]
fn socks_requests() {
    run(0x5eed_0001, fuzz::socks_request);
}

#[test]
fn socks_replies() {
    run(0x5eed_0002, fuzz::socks_reply);
}

#[test]
fn control_commands() {
    run(0x5eed_0003, fuzz::control_command);
}

#[test]
fn control_replies() {
    run(0x5eed_0004, fuzz::control_reply);
}

#[test]
fn control_events() {
    run(0x5eed_0005, fuzz::control_event);
}

#[test]
fn g5_no_session_brings_a_canary_to_light() {
    run(0x5eed_0006, fuzz::taint);
}
