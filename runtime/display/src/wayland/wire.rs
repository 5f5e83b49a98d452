//! The wire format of Wayland ("Wire Format" in the protocol's documentation): a header of two words, then arguments as the
//! message's signature says, each padded to whole words. Pure; host byte order, as both ends are of one machine.
//!
//! Parsing never reads past a message, and takes exactly the descriptors of the signature. Writing makes every message anew, so
//! that nothing of its sender's padding goes on.

use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use wayland_client::backend::protocol::{AllowNull, ArgumentType};

/// Bytes of a header.
pub(crate) const HEADER: usize = 8;
const WORD: usize = 4;

/// The parts of a header: to which object, which message, how long in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) object: u32,
    pub(crate) opcode: u16,
    pub(crate) size: usize,
}

/// A message that its signature does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Its length is not that of any message.
    Size,
    /// It is shorter or longer than its arguments.
    Length,
    /// A string without its end, or with an end in the middle.
    Text,
    /// Nothing where something must be.
    Null,
    /// A descriptor that was not sent.
    Descriptor,
}

impl Header {
    /// The header at the beginning of `bytes`, if all of it is there.
    pub(crate) fn peek(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some((object, rest)) = word(bytes) else { return Ok(None) };
        let Some((second, _)) = word(rest) else { return Ok(None) };
        let size = (second >> 16) as usize;
        if size < HEADER || !size.is_multiple_of(WORD) {
            return Err(Malformed::Size);
        }
        Ok(Some(Self { object, opcode: (second & 0xffff) as u16, size }))
    }
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk::<WORD>().map(|(word, rest)| (u32::from_ne_bytes(*word), rest))
}

/// One argument.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    /// A number of any kind, or an object's: one word.
    Word(u32),
    /// Text without its NUL; `None` for no text.
    Text(Option<&'a [u8]>),
    /// Bytes.
    Array(&'a [u8]),
    /// A descriptor.
    Descriptor(OwnedFd),
}

impl Value<'_> {
    /// The word that it is, 0 for what is none.
    pub(crate) const fn word(&self) -> u32 {
        match self {
            Self::Word(word) => *word,
            _ => 0,
        }
    }
}

/// The arguments of a message with this signature and body; descriptors are taken from `descriptors`.
pub(crate) fn parse<'a>(signature: &[ArgumentType], body: &'a [u8], descriptors: &mut VecDeque<OwnedFd>) -> Result<Vec<Value<'a>>, Malformed> {
    let mut rest = body;
    let values = signature.iter().map(|kind| argument(*kind, &mut rest, descriptors)).collect::<Result<Vec<_>, _>>()?;
    if rest.is_empty() { Ok(values) } else { Err(Malformed::Length) }
}

fn argument<'a>(kind: ArgumentType, rest: &mut &'a [u8], descriptors: &mut VecDeque<OwnedFd>) -> Result<Value<'a>, Malformed> {
    match kind {
        ArgumentType::Int | ArgumentType::Uint | ArgumentType::Fixed => take_word(rest).map(Value::Word),
        ArgumentType::NewId | ArgumentType::Object(AllowNull::No) => match take_word(rest)? {
            0 => Err(Malformed::Null),
            id => Ok(Value::Word(id)),
        },
        ArgumentType::Object(AllowNull::Yes) => take_word(rest).map(Value::Word),
        ArgumentType::Str(null) => match (take_text(rest)?, null) {
            (None, AllowNull::No) => Err(Malformed::Null),
            (text, _) => Ok(Value::Text(text)),
        },
        ArgumentType::Array => take_bytes(rest).map(Value::Array),
        ArgumentType::Fd => descriptors.pop_front().map(Value::Descriptor).ok_or(Malformed::Descriptor),
    }
}

fn take_word(rest: &mut &[u8]) -> Result<u32, Malformed> {
    let (first, after) = word(rest).ok_or(Malformed::Length)?;
    *rest = after;
    Ok(first)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let count = take_word(rest)? as usize;
    let (padded, after) = rest.split_at_checked(count.next_multiple_of(WORD)).ok_or(Malformed::Length)?;
    *rest = after;
    padded.get(..count).ok_or(Malformed::Length)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    match take_bytes(rest)?.split_last() {
        None => Ok(None),
        Some((0, text)) if !text.contains(&0) => Ok(Some(text)),
        Some(_) => Err(Malformed::Text),
    }
}

/// Appends the message with these arguments to `bytes`, and its descriptors to `descriptors`.
pub(crate) fn write(object: u32, opcode: u16, values: Vec<Value<'_>>, bytes: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> Result<(), Malformed> {
    let start = bytes.len();
    bytes.extend(object.to_ne_bytes());
    bytes.extend([0; WORD]);
    for value in values {
        match value {
            Value::Word(word) => bytes.extend(word.to_ne_bytes()),
            Value::Text(None) => bytes.extend([0; WORD]),
            Value::Text(Some(text)) => put(text, &[0], bytes),
            Value::Array(array) => put(array, &[], bytes),
            Value::Descriptor(descriptor) => descriptors.push(descriptor),
        }
    }
    let size = u16::try_from(bytes.len() - start).map_err(|_| Malformed::Size)?;
    let second = u32::from(size) << 16 | u32::from(opcode);
    bytes.get_mut(start + WORD..start + HEADER).ok_or(Malformed::Size)?.copy_from_slice(&second.to_ne_bytes());
    Ok(())
}

fn put(content: &[u8], end: &[u8], bytes: &mut Vec<u8>) {
    let count = content.len() + end.len();
    // A message is shorter than 64 KiB, and what is in it is shorter still.
    bytes.extend(u32::try_from(count).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(content);
    bytes.extend(end);
    bytes.resize(bytes.len() + count.next_multiple_of(WORD) - count, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ArgumentType::{Array, Fd, Int, NewId, Object, Str};

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn refused(signature: &[ArgumentType], body: &[u8]) -> Option<Malformed> {
        parse(signature, body, &mut VecDeque::new()).err()
    }

    #[test]
    fn headers() {
        assert_eq!(Header::peek(&words(&[7])), Ok(None));
        assert_eq!(Header::peek(&words(&[7, 12 << 16 | 3])), Ok(Some(Header { object: 7, opcode: 3, size: 12 })));
        for size in [0, 4, 7, 9, 13] {
            assert_eq!(Header::peek(&words(&[1, size << 16])), Err(Malformed::Size), "{size}");
        }
    }

    #[test]
    fn what_the_signature_does_not_allow_is_refused() {
        use AllowNull::{No, Yes};
        let text = |count: u32, bytes: &[u8]| [&count.to_ne_bytes(), bytes].concat();
        let cases = [
            (Int, vec![], Malformed::Length),
            (Int, words(&[1, 2]), Malformed::Length),
            (NewId, words(&[0]), Malformed::Null),
            (Object(No), words(&[0]), Malformed::Null),
            (Str(No), words(&[0]), Malformed::Null),
            (Str(Yes), text(4, b"abcd"), Malformed::Text),
            (Str(Yes), text(4, b"a\0c\0"), Malformed::Text),
            (Str(Yes), text(8, b"abc\0"), Malformed::Length),
            (Str(Yes), text(u32::MAX, b"abc\0"), Malformed::Length),
            (Array, text(5, b"abcd"), Malformed::Length),
            (Fd, vec![], Malformed::Descriptor),
        ];
        for (kind, body, error) in cases {
            assert_eq!(refused(&[kind], &body), Some(error), "{kind:?} {body:?}");
        }
        for (kind, body) in [(Object(Yes), words(&[0])), (Str(Yes), words(&[0])), (Str(No), text(1, b"\0\0\0\0")), (Array, words(&[0]))] {
            assert_eq!(refused(&[kind], &body), None, "{kind:?} {body:?}");
        }
    }

    #[test]
    fn padding_does_not_go_on() {
        let body = [&6_u32.to_ne_bytes(), b"hello\0XY".as_slice(), &3_u32.to_ne_bytes(), b"123Z"].concat();
        let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
        let values = parse(&[Str(AllowNull::No), Array], &body, &mut VecDeque::new()).unwrap();
        write(9, 2, values, &mut bytes, &mut descriptors).unwrap();
        let clean = [&words(&[9, 28 << 16 | 2, 6]), b"hello\0\0\0".as_slice(), &3_u32.to_ne_bytes(), b"123\0"].concat();
        assert_eq!(bytes, clean);
    }
}
