//! A cookie whose clients an X server does not trust ("Security Extension Specification", version 7.1): they see windows of their
//! own kind alone, no keys but those for them, and hardly any other extension. x11rb does not know this extension.

use super::x11::Key;
use std::io::IoSlice;
use x11rb::connection::RequestConnection;
use x11rb::cookie::Cookie;
use x11rb::errors::{ParseError, ReplyError};
use x11rb::rust_connection::RustConnection;
use x11rb::x11_utils::TryParse;

const NAME: &str = "SECURITY";
const METHOD: &[u8] = b"MIT-MAGIC-COOKIE-1";
const GENERATE_AUTHORIZATION: u8 = 1;
/// Bits of the value list: which of its values are given.
const TIMEOUT: u32 = 1;
const TRUST_LEVEL: u32 = 2;
const UNTRUSTED: u32 = 1;
/// Seconds that the cookie lives without a client. It must last until the first one comes, a moment later.
const WITHOUT_CLIENT: u32 = 10;

/// A reply: 32 bytes, and the cookie's data, whose length is at 12.
struct Generated(Vec<u8>);

impl TryParse for Generated {
    fn try_parse(reply: &[u8]) -> Result<(Self, &[u8]), ParseError> {
        let length = reply.get(12..14).and_then(|length| length.try_into().ok()).map(u16::from_ne_bytes).ok_or(ParseError::InsufficientData)?;
        let data = reply.get(32..32 + usize::from(length)).ok_or(ParseError::InsufficientData)?;
        Ok((Self(data.to_vec()), &[]))
    }
}

/// Makes such a cookie; why not, in words.
pub(super) fn untrusted(connection: &RustConnection) -> Result<Key, String> {
    let missing = || "it has no security extension".to_owned();
    let extension = connection.extension_information(NAME).map_err(|error| error.to_string())?.ok_or_else(missing)?;
    let data = generate(connection, extension.major_opcode).map_err(|error| error.to_string())?;
    Ok((METHOD.to_vec(), data))
}

fn generate(connection: &RustConnection, opcode: u8) -> Result<Vec<u8>, ReplyError> {
    let request = request(opcode);
    let cookie: Cookie<'_, _, Generated> = connection.send_request_with_reply(&[IoSlice::new(&request)], vec![])?;
    Ok(cookie.reply()?.0)
}

/// `SecurityGenerateAuthorization`: the method's name, no data of our own, timeout and trust level.
fn request(opcode: u8) -> Vec<u8> {
    let mut name = METHOD.to_vec();
    name.resize(METHOD.len().next_multiple_of(4), 0);
    let words = [TIMEOUT | TRUST_LEVEL].map(u32::to_ne_bytes).concat();
    let values = [WITHOUT_CLIENT, UNTRUSTED].map(u32::to_ne_bytes).concat();
    let lengths = [METHOD.len() as u16, 0].map(u16::to_ne_bytes).concat();
    let size = 4 + lengths.len() + words.len() + name.len() + values.len();
    [vec![opcode, GENERATE_AUTHORIZATION], ((size / 4) as u16).to_ne_bytes().to_vec(), lengths, words, name, values].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let request = request(200);
        assert_eq!((request.len(), &request[..2]), (40, &[200, 1][..]));
        assert_eq!(u16::from_ne_bytes([request[2], request[3]]), 10);
    }

    #[test]
    fn a_reply_that_is_cut_off_is_none() {
        let mut reply = vec![0; 48];
        reply[12..14].copy_from_slice(&16_u16.to_ne_bytes());
        assert_eq!(Generated::try_parse(&reply).map(|(made, _)| made.0.len()), Ok(16));
        assert!(Generated::try_parse(&reply[..47]).is_err() && Generated::try_parse(&reply[..13]).is_err());
    }
}
