//! tor's side of SOCKS5, without I/O: writes the request anew from typed values and reads tor's answers.
//! It never sends a byte that came from the client unparsed: the destination has been judged, and the credentials are
//! length-prefixed fields with the tag behind them. RFC 1928, RFC 1929, tor's socks-extensions.

use crate::address::Host;
use crate::socks::{ATYP_NAME, ATYP_V4, ATYP_V6, AUTH_VERSION, Code, PASSWORD, Request, VERSION, write_ip};
use crate::tag::Tag;
use crate::wire::Reader;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The user name for clients without credentials ([`crate::socks::Auth::Optional`]).
const NOBODY: &[u8] = b"torbox";

/// A message that tor must not send, or that does not fit its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// tor answered something that the protocol does not know here.
    #[error("tor sent an unexpected SOCKS message")]
    Protocol,
    /// tor refused the credentials.
    #[error("tor refused the credentials")]
    Credentials,
    /// A field is longer than its length byte can say.
    #[error("a field is too long for SOCKS")]
    TooLong,
}

/// What the caller does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The message is not complete.
    More,
    /// Send this, then step again.
    Say(Vec<u8>),
    /// tor's verdict; what follows in the input belongs to the stream.
    Done(Code, Option<IpAddr>),
}

#[derive(Debug)]
enum Phase {
    Method,
    Credentials,
    Reply,
}

/// One request to tor.
pub struct Upstream {
    phase: Phase,
    credentials: Vec<u8>,
    request: Vec<u8>,
}

impl Upstream {
    /// What is sent first, before tor says anything.
    pub const GREETING: [u8; 3] = [VERSION, 1, PASSWORD];

    /// Prepares the request.
    ///
    /// # Errors
    /// A field does not fit (the limits of the policy rule it out).
    pub fn new(request: &Request, tag: &Tag) -> Result<Self, UpstreamError> {
        Ok(Self { phase: Phase::Method, credentials: credentials_message(request, tag)?, request: request_message(request)? })
    }

    /// Reads at most one message from the front of `input`. The number says how many bytes it took.
    ///
    /// # Errors
    /// tor refused, or does not speak SOCKS5.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, Step), UpstreamError> {
        let mut reader = Reader(input);
        let step = match self.phase {
            Phase::Method => self.method(&mut reader)?,
            Phase::Credentials => self.accepted(&mut reader)?,
            Phase::Reply => read_reply(&mut reader)?,
        };
        match step {
            Some(step) => Ok((input.len() - reader.0.len(), step)),
            None => Ok((0, Step::More)),
        }
    }

    fn method(&mut self, reader: &mut Reader<'_>) -> Result<Option<Step>, UpstreamError> {
        match reader.array() {
            None => Ok(None),
            Some([VERSION, PASSWORD]) => {
                self.phase = Phase::Credentials;
                Ok(Some(Step::Say(std::mem::take(&mut self.credentials))))
            }
            Some(_) => Err(UpstreamError::Protocol),
        }
    }

    fn accepted(&mut self, reader: &mut Reader<'_>) -> Result<Option<Step>, UpstreamError> {
        match reader.array() {
            None => Ok(None),
            Some([AUTH_VERSION, 0]) => {
                self.phase = Phase::Reply;
                Ok(Some(Step::Say(std::mem::take(&mut self.request))))
            }
            Some(_) => Err(UpstreamError::Credentials),
        }
    }
}

fn read_reply(reader: &mut Reader<'_>) -> Result<Option<Step>, UpstreamError> {
    let Some([version, code, _reserved, kind]) = reader.array::<4>() else { return Ok(None) };
    if version != VERSION {
        return Err(UpstreamError::Protocol);
    }
    let address = match kind {
        ATYP_V4 => reader.array::<4>().map(|bytes| Some(Ipv4Addr::from(bytes).into())),
        ATYP_V6 => reader.array::<16>().map(|bytes| Some(Ipv6Addr::from(bytes).into())),
        ATYP_NAME => reader.counted().map(|_| None),
        _ => return Err(UpstreamError::Protocol),
    };
    let port = reader.array::<2>();
    Ok(address.zip(port).map(|(address, _)| Step::Done(Code::from_tor(code), address)))
}

fn credentials_message(request: &Request, tag: &Tag) -> Result<Vec<u8>, UpstreamError> {
    let (user, password) = match &request.credentials {
        Some(credentials) => (credentials.user.as_slice(), tag.seal(&credentials.password)),
        None => (NOBODY, tag.seal(b"")),
    };
    let mut message = vec![AUTH_VERSION];
    write_counted(&mut message, user)?;
    write_counted(&mut message, &password)?;
    Ok(message)
}

fn request_message(request: &Request) -> Result<Vec<u8>, UpstreamError> {
    let mut message = vec![VERSION, request.command.byte(), 0];
    match &request.host {
        Host::Ip(ip) => write_ip(&mut message, *ip),
        Host::Name(name) => {
            message.push(ATYP_NAME);
            write_counted(&mut message, name.as_str().as_bytes())?;
        }
    }
    message.extend_from_slice(&request.port.to_be_bytes());
    Ok(message)
}

fn write_counted(message: &mut Vec<u8>, field: &[u8]) -> Result<(), UpstreamError> {
    message.push(u8::try_from(field.len()).map_err(|_| UpstreamError::TooLong)?);
    message.extend_from_slice(field);
    Ok(())
}

#[cfg(test)]
mod tests;
