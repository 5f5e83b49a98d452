//! tor's replies and events as typed values. tor is trusted not to lie, but not to stay as it is: what is not understood is
//! dropped, and nothing of it is ever passed on as it came. tor's control-spec, sections 2.3, 4.1.1 and 4.1.2.

use super::display::Onion;
use super::text::{Fingerprint, unquote};
use crate::policy::control::TOR_LINE_BYTES;
use std::net::IpAddr;

/// Lines that one message may have: more than tor has circuits.
const MESSAGE_LINES: usize = 4096;

/// tor's output is not of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tor's control port sent what the protocol does not know")]
pub struct ReplyError;

/// One complete reply or event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// 250 and so on; 650 is an event.
    pub code: u16,
    /// Its lines without code and line end; those of a data block follow theirs.
    pub lines: Vec<Vec<u8>>,
}

/// Cuts tor's output into messages.
#[derive(Debug, Default)]
pub struct Messages {
    held: Vec<u8>,
    lines: Vec<Vec<u8>>,
    data: Data,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Data {
    #[default]
    Outside,
    Inside,
}

impl Messages {
    /// Takes what was read, and gives the messages that it completes.
    ///
    /// # Errors
    /// The output is not of this protocol, or longer than anything that was asked for.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, ReplyError> {
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        let mut messages = Vec::new();
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = rest.split_at_checked(end).ok_or(ReplyError)?;
            rest = after.get(1..).unwrap_or_default();
            messages.extend(self.line(line.strip_suffix(b"\r").unwrap_or(line))?);
        }
        if rest.len() > TOR_LINE_BYTES as usize || self.lines.len() > MESSAGE_LINES {
            return Err(ReplyError);
        }
        self.held = rest.to_vec();
        Ok(messages)
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Message>, ReplyError> {
        if self.data == Data::Inside {
            match line {
                b"." => self.data = Data::Outside,
                _ => self.lines.push(line.strip_prefix(b".").unwrap_or(line).to_vec()),
            }
            return Ok(None);
        }
        let (code, rest) = line.split_at_checked(3).ok_or(ReplyError)?;
        let code = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok()).ok_or(ReplyError)?;
        let (kind, text) = rest.split_first().ok_or(ReplyError)?;
        self.lines.push(text.to_vec());
        match kind {
            b' ' => Ok(Some(Message { code, lines: std::mem::take(&mut self.lines) })),
            b'-' => Ok(None),
            b'+' => {
                self.data = Data::Inside;
                Ok(None)
            }
            _ => Err(ReplyError),
        }
    }
}

/// A circuit that is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// tor's number.
    pub id: u64,
    /// Its relays, entry first.
    pub path: Vec<Fingerprint>,
    /// Whether its purpose has to do with onion services.
    pub onion: Onion,
}

/// What matters of a CIRC event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CircuitEvent {
    /// BUILT.
    Built(Circuit),
    /// CLOSED or FAILED.
    Gone(u64),
}

/// What matters of a stream's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStatus {
    /// tor asked the exit to connect.
    SentConnect,
    /// The exit did.
    Succeeded,
    /// CLOSED, FAILED or DETACHED.
    Over,
}

/// What matters of a STREAM event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// tor's number.
    pub id: u64,
    /// Its state.
    pub status: StreamStatus,
    /// tor's number of the circuit.
    pub circuit: Option<u64>,
    /// Whether it leads to an onion service.
    pub onion: Onion,
    /// User name, and password with the tag behind it.
    pub credentials: Option<(Vec<u8>, Vec<u8>)>,
}

/// An event that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// CIRC.
    Circuit(CircuitEvent),
    /// STREAM.
    Stream(StreamEvent),
}

/// Reads the first line of an event; `None` for whatever does not matter.
#[must_use]
pub fn event(line: &[u8]) -> Option<Event> {
    if let Some(rest) = line.strip_prefix(b"CIRC ") {
        return circuit(rest).map(Event::Circuit);
    }
    line.strip_prefix(b"STREAM ").and_then(stream).map(Event::Stream)
}

/// A line of `GETINFO circuit-status`, or a CIRC event: number, state, path, and fields.
#[must_use]
pub fn circuit(line: &[u8]) -> Option<CircuitEvent> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split(' ');
    let id = words.next()?.parse().ok()?;
    match words.next()? {
        "BUILT" => {
            let path = words.next()?.split(',').map(hop).collect::<Option<_>>()?;
            let onion = if words.any(is_onion_purpose) { Onion::Yes } else { Onion::No };
            Some(CircuitEvent::Built(Circuit { id, path, onion }))
        }
        "CLOSED" | "FAILED" => Some(CircuitEvent::Gone(id)),
        _ => None,
    }
}

/// `$FINGERPRINT`, with `~` or `=` and a nickname behind it.
fn hop(text: &str) -> Option<Fingerprint> {
    text.split(['~', '=']).next().and_then(Fingerprint::parse)
}

/// Purposes that do not begin with `HS_` carry no stream to an onion service.
fn is_onion_purpose(field: &str) -> bool {
    field.strip_prefix("PURPOSE=").is_some_and(|purpose| purpose.starts_with("HS_"))
}

fn stream(line: &[u8]) -> Option<StreamEvent> {
    let mut words = line.splitn(5, |b| *b == b' ');
    let id = number(words.next()?)?;
    let status = match words.next()? {
        b"SENTCONNECT" => StreamStatus::SentConnect,
        b"SUCCEEDED" => StreamStatus::Succeeded,
        b"CLOSED" | b"FAILED" | b"DETACHED" => StreamStatus::Over,
        _ => return None,
    };
    let circuit = number(words.next()?).filter(|id| *id != 0);
    let onion = if is_onion(words.next()?) { Onion::Yes } else { Onion::No };
    let rest = words.next().unwrap_or_default();
    let credentials = field(rest, b"SOCKS_USERNAME=").zip(field(rest, b"SOCKS_PASSWORD="));
    Some(StreamEvent { id, status, circuit, onion, credentials })
}

fn is_onion(target: &[u8]) -> bool {
    let host = target.iter().rposition(|b| *b == b':').and_then(|at| target.get(..at)).unwrap_or(target);
    host.to_ascii_lowercase().ends_with(b".onion")
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A quoted field. Fields are read in order, because a quoted value may hold what looks like another field.
fn field(text: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut rest = text;
    loop {
        rest = rest.strip_prefix(b" ").unwrap_or(rest);
        let equals = rest.iter().position(|b| *b == b'=' || *b == b' ')?;
        let (key, value) = rest.split_at_checked(equals + 1)?;
        let quoted = unquote(value);
        match quoted {
            Some((bytes, _)) if key == name => return Some(bytes),
            Some((_, after)) => rest = after,
            None if key.ends_with(b" ") => rest = value,
            None => rest = value.get(value.iter().position(|b| *b == b' ')?..)?,
        }
    }
}

/// How far tor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has not begun.
    Start,
    /// It is under way.
    Some,
    /// It is done.
    Done,
}

/// Reads `status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=n …`.
#[must_use]
pub fn progress(message: &Message) -> Option<Progress> {
    let line = value(message, b"status/bootstrap-phase=")?;
    let text = std::str::from_utf8(line).ok()?;
    let percent: u8 = text.split(' ').find_map(|word| word.strip_prefix("PROGRESS="))?.parse().ok()?;
    match percent {
        0 => Some(Progress::Start),
        1..=99 => Some(Progress::Some),
        100 => Some(Progress::Done),
        _ => None,
    }
}

/// Reads the addresses of a router status.
#[must_use]
pub fn addresses(message: &Message) -> Option<(IpAddr, Option<IpAddr>)> {
    let texts = || message.lines.iter().filter_map(|line| std::str::from_utf8(line).ok());
    let v4 = texts().find_map(|line| line.strip_prefix("r ")).and_then(|line| line.split(' ').nth(5))?.parse().ok()?;
    let bracketed = texts().find_map(|line| line.strip_prefix("a [")).and_then(|line| line.split(']').next());
    Some((v4, bracketed.and_then(|text| text.parse().ok())))
}

/// Reads `ip-to-country/ADDRESS=cc`: two letters, or `??`.
#[must_use]
pub fn country(message: &Message) -> Option<[char; 2]> {
    let line = message.lines.first().filter(|line| line.starts_with(b"ip-to-country/"))?;
    let at = line.iter().position(|b| *b == b'=')?;
    match line.get(at + 1..)? {
        [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => Some([char::from(*a), char::from(*b)]),
        _ => None,
    }
}

fn value<'a>(message: &'a Message, key: &[u8]) -> Option<&'a [u8]> {
    message.lines.first()?.strip_prefix(key)
}
