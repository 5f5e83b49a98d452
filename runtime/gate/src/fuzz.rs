//! What the fuzz targets and the smoke test drive: each function takes any bytes, and panics if an invariant is broken.
//! Not for the gate's own use: it never runs in the program.

#![expect(clippy::panic, reason = "a broken invariant has to stop the fuzzer")]

use crate::control::display::Display;
use crate::control::keys::OnionKeys;
use crate::control::parse::{Command, Secret, parse};
use crate::control::question::Question;
use crate::control::reply::{self, Event, Message, Messages};
use crate::control::session::{Session, Step, Tables};
use crate::control::text::{quote, unquote};
use crate::socks::{self, Auth, Handshake, Request};
use crate::tag::Tag;
use crate::upstream::{self, Upstream};

fn check(invariant: &str, holds: bool) {
    if !holds {
        panic!("{invariant}");
    }
}

fn tag() -> Tag {
    Tag::parse("00112233").unwrap_or_else(|error| panic!("{error}"))
}

/// Generated inputs, the same for the same seed: what random bytes would not find in a lifetime, put together at random.
pub struct Inputs(u64);

impl Inputs {
    /// Inputs of this seed, which is not 0.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// xorshift64*: enough to vary.
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let most = most as u64;
        usize::try_from((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % most).unwrap_or(0)
    }

    fn piece(&mut self) -> &'static [u8] {
        let at = self.below(PIECES.len());
        PIECES.get(at).copied().unwrap_or_default()
    }

    /// Bytes for any target.
    pub fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.below(24) {
            match self.below(8) {
                0 => bytes.extend(u8::try_from(self.below(256))),
                1 if !bytes.is_empty() => {
                    let (at, bit) = (self.below(bytes.len()), self.below(8));
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
                }
                2 if !bytes.is_empty() => bytes.truncate(self.below(bytes.len())),
                3 => bytes.extend_from_slice(b"\r\n"),
                _ => bytes.extend_from_slice(self.piece()),
            }
        }
        bytes
    }

    /// Lines of a control session: commands with arguments that fit them or do not.
    pub fn session(&mut self) -> Vec<u8> {
        let mut session = Vec::new();
        for _ in 0..=self.below(8) {
            if self.below(16) == 0 {
                session.extend(self.bytes());
            } else {
                session.extend_from_slice(self.command());
                (0..self.below(4)).for_each(|_| self.word(&mut session));
            }
            session.extend_from_slice(b"\r\n");
        }
        session
    }

    fn command(&mut self) -> &'static [u8] {
        let rules = crate::policy::control::COMMANDS;
        let at = self.below(rules.len());
        rules.get(at).map_or(b"", |rule| rule.id.as_bytes())
    }

    fn word(&mut self, session: &mut Vec<u8>) {
        let piece = self.piece();
        if piece.iter().all(u8::is_ascii_graphic) {
            session.push(b' ');
        }
        session.extend_from_slice(piece);
    }
}

/// Pieces of both protocols.
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

/// A client's whole handshake. What is accepted is read alike when it is written anew for tor.
pub fn socks_request(bytes: &[u8]) {
    for auth in [Auth::Required, Auth::Optional] {
        let (mut handshake, mut rest) = (Handshake::new(auth), bytes);
        for _ in 0..4 {
            let (used, step) = handshake.step(rest);
            let Some(left) = rest.get(used..) else { panic!("took more than there was") };
            rest = left;
            match step {
                socks::Step::Say(_) => check("a message has bytes", used > 0),
                socks::Step::Ask(request) => {
                    check("no request without credentials", auth == Auth::Optional || request.credentials.is_some());
                    return round_trip(&request);
                }
                socks::Step::More | socks::Step::Refuse(..) => break,
            }
        }
    }
}

/// Writes the request as tor gets it and reads it with the client's own parser.
fn round_trip(request: &Request) {
    let Ok(mut upstream) = Upstream::new(request, &tag()) else { panic!("an accepted request cannot be written") };
    let Ok((_, upstream::Step::Say(credentials))) = upstream.step(&[5, 2]) else { panic!("no credentials") };
    let Ok((_, upstream::Step::Say(message))) = upstream.step(&[1, 0]) else { panic!("no request") };
    let mut handshake = Handshake::new(Auth::Required);
    handshake.step(&Upstream::GREETING);
    // The tag may make the password longer than a client's may be; then only the request is compared.
    if let (_, socks::Step::Say(_)) = handshake.step(&credentials) {
        let (used, step) = handshake.step(&message);
        let socks::Step::Ask(again) = step else { panic!("what the gate wrote is refused") };
        check("read to the end", used == message.len());
        check("same destination", (again.command, &again.host, again.port) == (request.command, &request.host, request.port));
        let opened = again.credentials.as_ref().and_then(|seen| tag().open(&seen.password).map(<[u8]>::to_vec));
        let sent = request.credentials.as_ref().map_or_else(Vec::new, |sent| sent.password.clone());
        check("same password under the tag", opened == Some(sent));
    }
}

/// tor's side of a handshake.
pub fn socks_reply(bytes: &[u8]) {
    let mut handshake = Handshake::new(Auth::Optional);
    handshake.step(&[5, 1, 0]);
    let (_, socks::Step::Ask(request)) = handshake.step(b"\x05\x01\x00\x03\x0bexample.org\x00\x50") else { return };
    let Ok(mut upstream) = Upstream::new(&request, &tag()) else { return };
    let mut rest = bytes;
    while let Ok((used, step)) = upstream.step(rest) {
        let Some(left) = rest.get(used..) else { panic!("took more than there was") };
        rest = left;
        if !matches!(step, upstream::Step::Say(_)) {
            return;
        }
    }
}

/// One line of a client.
pub fn control_command(bytes: &[u8]) {
    if let Ok(Command::OnionAdd(address, key)) = parse(bytes) {
        let again = parse(format!("ONION_CLIENT_AUTH_ADD {address} {key}").as_bytes());
        check("a key is read as it was written", again == Ok(Command::OnionAdd(address, key)));
    }
    check("a quoted string is read as it was written", unquote(quote(bytes).as_bytes()) == Some((bytes.to_vec(), &[])));
}

/// tor's output, and what every question makes of it.
pub fn control_reply(bytes: &[u8]) {
    let Ok(messages) = Messages::default().push(bytes) else { return };
    for message in &messages {
        for question in questions() {
            let answer = question.answer(message, &mut Display::default(), &mut OnionKeys::default());
            check("an answer is lines", answer.ends_with("\r\n"));
        }
    }
}

fn questions() -> Vec<Question> {
    let lines = ["ONION_CLIENT_AUTH_ADD pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="];
    let added = lines.iter().filter_map(|line| match parse(line.as_bytes()) {
        Ok(Command::OnionAdd(address, key)) => Some(Question::OnionAdd(address, key)),
        _ => None,
    });
    [Question::BootstrapPhase, Question::NewNym].into_iter().chain(added).collect()
}

/// tor's events.
pub fn control_event(bytes: &[u8]) {
    let (mut display, tag) = (Display::default(), tag());
    for line in bytes.split(|byte| *byte == b'\n') {
        feed(&mut display, line, &tag);
    }
}

fn feed(display: &mut Display, line: &[u8], tag: &Tag) -> Vec<crate::control::display::Shown> {
    match reply::event(line) {
        Some(Event::Circuit(event)) => display.circuit(event).into_iter().collect(),
        Some(Event::Stream(event)) => display.stream(&event, tag, 0),
        None => Vec::new(),
    }
}

/// What tor alone knows. The first is an entry hop, which the display has to hide; the rest are in every reply and event.
const CANARIES: [&str; 6] =
    ["1111111111111111111111111111111111111111", "EREREREREREREREREREREREREQ", "198.51.100.77", "guardnick", "/var/lib/canary", "c00k1ec4n4ry"];

/// A whole session against a tor that puts canaries wherever it can. Lines are the client's; `650 ` begins an event of tor's.
pub fn taint(bytes: &[u8]) {
    let (mut display, mut keys, secret, tag) = (Display::default(), OnionKeys::default(), Secret::new(b"a secret of this box".to_vec()), tag());
    let mut session = Session::default();
    let hello = b"AUTHENTICATE \"a secret of this box\"\nSETEVENTS CIRC STREAM\n";
    let built = "CIRC 7 BUILT $1111111111111111111111111111111111111111~guardnick,$3333333333333333333333333333333333333333~m PURPOSE=GENERAL";
    feed(&mut display, built.as_bytes(), &tag);
    let stream = "STREAM 3 SUCCEEDED 7 198.51.100.77:80 SOCKS_USERNAME=\"a\" SOCKS_PASSWORD=\"b~00112233.0\" SOURCE_ADDR=/var/lib/canary";
    for shown in feed(&mut display, stream.as_bytes(), &tag) {
        session.wants(&shown).into_iter().for_each(|line| clean(line, bytes));
    }
    for line in hello.split(|byte| *byte == b'\n').chain(bytes.split(|byte| *byte == b'\n')) {
        let mut tables = Tables { display: &mut display, keys: &mut keys, secret: &secret };
        let step = session.step(line.strip_suffix(b"\r").unwrap_or(line), &mut tables);
        match step {
            Step::Say(answer) | Step::Close(answer) => clean(&answer, bytes),
            Step::NewIdentity => {}
            Step::Ask(question) => {
                check("one line for tor", question.line().matches("\r\n").count() == 1);
                for message in &poisoned() {
                    clean(&question.answer(message, &mut display, &mut keys), bytes);
                }
            }
        }
    }
}

/// Whatever tor might answer, canaries in all of it.
fn poisoned() -> Vec<Message> {
    let all = CANARIES.join(" ");
    let texts = [
        format!("551 {all}\r\n"),
        format!("250-{all}\r\n250 {all}\r\n"),
        format!("250-status/bootstrap-phase=WARN BOOTSTRAP PROGRESS=14 TAG=conn_pt SUMMARY=\"{all}\" HOSTADDR=\"{all}\"\r\n250 OK\r\n"),
        format!("250+ns/id/x=\r\nr guardnick EREREREREREREREREREREREREREREQ {all} 203.0.113.9 1 0\r\ns {all}\r\nw {all}\r\n.\r\n250 OK\r\n"),
        format!("250-ip-to-country/198.51.100.77={all}\r\n250 OK\r\n"),
    ];
    texts.iter().filter_map(|text| Messages::default().push(text.as_bytes()).ok()).flatten().collect()
}

/// What the client itself sent may come back in an error; what it did not send must not come at all.
fn clean(output: &str, sent: &[u8]) {
    let sent = String::from_utf8_lossy(sent);
    for canary in CANARIES {
        if output.contains(canary) && !sent.contains(canary) {
            panic!("{canary} came out");
        }
    }
}
