//! The browser's side of SOCKS5, without I/O: bytes in, replies and one judged request out.
//! It never hands out a request that the policy refuses, never guesses at a message that it does not know, and keeps no
//! byte of the client but the credentials and the judged destination. RFC 1928, RFC 1929, tor's socks-extensions.

use crate::address::{self, AddressError, Host};
use crate::policy::{self, Verdict, socks::COMMANDS, socks::METHODS, socks::PASSWORD_BYTES, socks::USERNAMES};
use crate::wire::Reader;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const VERSION: u8 = 5;
pub(crate) const AUTH_VERSION: u8 = 1;
pub(crate) const NO_AUTH: u8 = 0x00;
pub(crate) const PASSWORD: u8 = 0x02;
const NO_METHOD: u8 = 0xFF;

pub(crate) const ATYP_V4: u8 = 1;
pub(crate) const ATYP_NAME: u8 = 3;
pub(crate) const ATYP_V6: u8 = 4;

/// Whether a client must authenticate (the command line's `--require-auth`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// As the policy says: credentials or nothing.
    Required,
    /// For browsers that cannot authenticate: one without credentials is isolated by the box's tag alone.
    Optional,
}

/// Reply codes of RFC 1928 section 6, and tor's extended errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u8);

impl Code {
    /// Succeeded.
    pub const OK: Self = Self(0);
    /// General failure.
    pub const FAILURE: Self = Self(1);
    /// Not allowed by the rules.
    pub const FORBIDDEN: Self = Self(2);
    /// Command not supported.
    pub const COMMAND: Self = Self(7);
    /// Address type not supported.
    pub const ADDRESS_TYPE: Self = Self(8);

    /// A code as tor sent it; one that no specification knows becomes a general failure.
    #[must_use]
    pub fn from_tor(byte: u8) -> Self {
        match byte {
            0..=8 | 0xF0..=0xF7 => Self(byte),
            _ => Self::FAILURE,
        }
    }

    /// The byte on the wire.
    #[must_use]
    pub fn byte(self) -> u8 {
        self.0
    }
}

/// Why a handshake ended without a request. Carries nothing that the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not SOCKS5 (SOCKS4, HTTP, anything).
    #[error("not SOCKS5")]
    Version,
    /// No acceptable method of authentication.
    #[error("no acceptable authentication")]
    Method,
    /// Credentials that are malformed, over-long or reserved.
    #[error("credentials refused")]
    Credentials,
    /// A command that the policy refuses or does not know.
    #[error("command refused")]
    Command,
    /// A malformed request.
    #[error("malformed request")]
    Malformed,
    /// A destination that the policy refuses.
    #[error("destination refused: {0}")]
    Address(AddressError),
}

/// What the client authenticated with: the site, and a nonce.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Tor Browser: the first-party domain.
    pub user: Vec<u8>,
    /// Tor Browser: a nonce.
    pub password: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(scrubbed)")
    }
}

/// Commands that the gate can pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open a stream.
    Connect,
    /// Look a name up.
    Resolve,
}

impl Command {
    /// The byte on the wire.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Connect => 0x01,
            Self::Resolve => 0xF0,
        }
    }
}

/// A request that the policy allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Absent only under [`Auth::Optional`].
    pub credentials: Option<Credentials>,
    /// What to do.
    pub command: Command,
    /// Judged destination.
    pub host: Host,
    /// Port; 0 for RESOLVE.
    pub port: u16,
}

/// What the caller does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The message is not complete.
    More,
    /// Send this, then step again.
    Say(Vec<u8>),
    /// The handshake is complete; the answer is [`reply`].
    Ask(Request),
    /// Send this (it may be empty), then close.
    Refuse(Vec<u8>, Refusal),
}

#[derive(Debug)]
enum Phase {
    Greeting,
    Credentials,
    Request(Option<Credentials>),
    Over,
}

/// One client's handshake.
#[derive(Debug)]
pub struct Handshake {
    auth: Auth,
    phase: Phase,
}

impl Handshake {
    /// A handshake that awaits its first byte.
    #[must_use]
    pub fn new(auth: Auth) -> Self {
        Self { auth, phase: Phase::Greeting }
    }

    /// Reads at most one message from the front of `input`. The number says how many bytes it took: 0 with [`Step::More`].
    pub fn step(&mut self, input: &[u8]) -> (usize, Step) {
        let mut reader = Reader(input);
        let step = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Greeting => self.greeting(&mut reader),
            Phase::Credentials => self.credentials(&mut reader),
            Phase::Request(credentials) => self.request(&mut reader, credentials),
            Phase::Over => Some(Step::Refuse(Vec::new(), Refusal::Malformed)),
        };
        match step {
            Some(step) => (input.len() - reader.0.len(), step),
            None => (0, Step::More),
        }
    }

    fn greeting(&mut self, reader: &mut Reader<'_>) -> Option<Step> {
        self.phase = Phase::Greeting;
        if reader.byte()? != VERSION {
            return Some(self.refuse(Vec::new(), Refusal::Version));
        }
        let method = self.choose(reader.counted()?);
        self.phase = match method {
            Some(PASSWORD) => Phase::Credentials,
            Some(_) => Phase::Request(None),
            None => return Some(self.refuse(vec![VERSION, NO_METHOD], Refusal::Method)),
        };
        Some(Step::Say(vec![VERSION, method?]))
    }

    fn choose(&self, offered: &[u8]) -> Option<u8> {
        let allowed = |method: u8| match (method, self.auth) {
            (NO_AUTH, Auth::Optional) => true,
            _ => policy::code(METHODS, method) == Verdict::Allow,
        };
        [PASSWORD, NO_AUTH].into_iter().find(|method| offered.contains(method) && allowed(*method))
    }

    fn credentials(&mut self, reader: &mut Reader<'_>) -> Option<Step> {
        self.phase = Phase::Credentials;
        let version = reader.byte()?;
        if version != AUTH_VERSION {
            return Some(self.refuse(vec![AUTH_VERSION, 1], Refusal::Credentials));
        }
        let credentials = Credentials { user: reader.counted()?.to_vec(), password: reader.counted()?.to_vec() };
        if !acceptable(&credentials) {
            return Some(self.refuse(vec![AUTH_VERSION, 1], Refusal::Credentials));
        }
        self.phase = Phase::Request(Some(credentials));
        Some(Step::Say(vec![AUTH_VERSION, 0]))
    }

    fn request(&mut self, reader: &mut Reader<'_>, credentials: Option<Credentials>) -> Option<Step> {
        match read_request(reader) {
            Ok(Some(wanted)) => {
                let (command, host, port) = wanted;
                Some(Step::Ask(Request { credentials, command, host, port }))
            }
            Ok(None) => {
                self.phase = Phase::Request(credentials);
                None
            }
            Err((code, refusal)) => Some(self.refuse(reply(code, None), refusal)),
        }
    }

    fn refuse(&mut self, say: Vec<u8>, refusal: Refusal) -> Step {
        self.phase = Phase::Over;
        Step::Refuse(say, refusal)
    }
}

/// RFC 1929 knows no empty fields, tor reserves some names, and the tag needs room.
fn acceptable(credentials: &Credentials) -> bool {
    let Credentials { user, password } = credentials;
    let reserved = USERNAMES.iter().any(|rule| user.starts_with(rule.id.as_bytes()) && rule.verdict == Verdict::Deny);
    !user.is_empty() && !reserved && (1..=PASSWORD_BYTES as usize).contains(&password.len())
}

type Wanted = (Command, Host, u16);

/// The whole request is read before it is judged, so that a refusal leaves no half message in the stream.
fn read_request(reader: &mut Reader<'_>) -> Result<Option<Wanted>, (Code, Refusal)> {
    let Some(head) = reader.array::<4>() else { return Ok(None) };
    let [version, command, _reserved, kind] = head;
    if version != VERSION {
        return Err((Code::FAILURE, Refusal::Malformed));
    }
    let Some((host, port)) = read_destination(reader, kind)? else { return Ok(None) };
    let command = judge_command(command)?;
    if port == 0 && command == Command::Connect {
        return Err((Code::FORBIDDEN, Refusal::Address(AddressError::Port)));
    }
    let host = host.map_err(|error| (Code::FORBIDDEN, Refusal::Address(error)))?;
    Ok(Some((command, host, if command == Command::Resolve { 0 } else { port })))
}

type Destination = (Result<Host, AddressError>, u16);

fn read_destination(reader: &mut Reader<'_>, kind: u8) -> Result<Option<Destination>, (Code, Refusal)> {
    let host = match kind {
        ATYP_V4 => reader.array::<4>().map(|bytes| address::ipv4(Ipv4Addr::from(bytes))),
        ATYP_V6 => reader.array::<16>().map(|bytes| address::ipv6(Ipv6Addr::from(bytes))),
        ATYP_NAME => reader.counted().map(address::name),
        _ => return Err((Code::ADDRESS_TYPE, Refusal::Malformed)),
    };
    let port = reader.array::<2>().map(u16::from_be_bytes);
    Ok(host.zip(port))
}

fn judge_command(byte: u8) -> Result<Command, (Code, Refusal)> {
    let known = [Command::Connect, Command::Resolve].into_iter().find(|command| command.byte() == byte);
    match (known, policy::code(COMMANDS, byte)) {
        (Some(command), Verdict::Allow) => Ok(command),
        _ => Err((Code::COMMAND, Refusal::Command)),
    }
}

/// The reply to a request. Only an answer to RESOLVE carries an address: the others would tell about tor's host.
#[must_use]
pub fn reply(code: Code, resolved: Option<IpAddr>) -> Vec<u8> {
    let mut message = vec![VERSION, code.byte(), 0];
    write_ip(&mut message, resolved.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    message.extend_from_slice(&[0, 0]);
    message
}

pub(crate) fn write_ip(message: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            message.push(ATYP_V4);
            message.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            message.push(ATYP_V6);
            message.extend_from_slice(&v6.octets());
        }
    }
}

#[cfg(test)]
mod tests;
