//! Messages of the bus (D-Bus Specification, "Message Protocol"): as much of them as one browser needs. Pure: bytes in, values out.
//!
//! Nothing is believed of a length; big-endian messages, which no program of this machine sends, are not understood.

/// The longest message that is read: far longer than any that the bus answers.
const MAX_MESSAGE: usize = 1 << 20;
const HEADER: usize = 16;
const LITTLE_ENDIAN: u8 = b'l';
const VERSION: u8 = 1;
const NO_REPLY: u8 = 1;

/// What a message is (its second byte).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// Codes of header fields.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Path = 1,
    Interface = 2,
    Member = 3,
    ErrorName = 4,
    ReplySerial = 5,
    Destination = 6,
    Sender = 7,
    Signature = 8,
}

/// The value of a header field.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Number(u32),
}

/// What the bus reads of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) wants_reply: bool,
    pub(super) serial: u32,
    pub(super) member: String,
    pub(super) destination: String,
    pub(super) reply_serial: u32,
    /// The body's first text, where it begins with one.
    pub(super) text: String,
}

/// What the beginning of a stream holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Not yet a message.
    Incomplete,
    /// A message, and how many bytes it takes.
    Message(Message, usize),
    /// No message of this protocol.
    Garbage,
}

/// Reads the message at the beginning of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Parsed::Incomplete };
    let number = |at: usize| header.get(at..).and_then(|rest| rest.first_chunk()).map_or(u32::MAX, |four| u32::from_le_bytes(*four));
    let (body, serial, fields) = (number(4) as usize, number(8), number(12) as usize);
    if header[0] != LITTLE_ENDIAN || header[3] != VERSION || body > MAX_MESSAGE || fields > MAX_MESSAGE {
        return Parsed::Garbage;
    }
    let start = (HEADER + fields).next_multiple_of(8);
    let Some(message) = bytes.get(..start + body) else { return Parsed::Incomplete };
    let parsed = kind(header[1]).and_then(|kind| {
        let mut read = Message { kind, wants_reply: header[2] & NO_REPLY == 0, serial, member: String::new(), destination: String::new(), reply_serial: 0, text: String::new() };
        let texts = read_fields(&mut Reader { bytes: message.get(..HEADER + fields)?, at: HEADER }, &mut read)?;
        if texts {
            read.text = Reader { bytes: message.get(start..)?, at: 0 }.text()?;
        }
        Some(read)
    });
    parsed.map_or(Parsed::Garbage, |message| Parsed::Message(message, start + body))
}

fn kind(byte: u8) -> Option<Kind> {
    [Kind::Call, Kind::Return, Kind::Error, Kind::Signal].into_iter().find(|kind| *kind as u8 == byte)
}

/// Whether the body begins with a text.
fn read_fields(reader: &mut Reader<'_>, message: &mut Message) -> Option<bool> {
    let mut text_first = false;
    while reader.at < reader.bytes.len() {
        reader.align(8);
        let code = reader.byte()?;
        match reader.signature()?.as_str() {
            "u" => {
                let number = reader.number()?;
                if code == Field::ReplySerial as u8 {
                    message.reply_serial = number;
                }
            }
            "s" | "o" => {
                let text = reader.text()?;
                match code {
                    code if code == Field::Member as u8 => message.member = text,
                    code if code == Field::Destination as u8 => message.destination = text,
                    _ => {}
                }
            }
            "g" => text_first = reader.signature()?.starts_with('s'),
            _ => return None,
        }
    }
    Some(text_first)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)?.first_chunk().map(|four| u32::from_le_bytes(*four))
    }

    fn text(&mut self) -> Option<String> {
        let count = self.number()? as usize;
        self.terminated(count)
    }

    fn signature(&mut self) -> Option<String> {
        let count = usize::from(self.byte()?);
        self.terminated(count)
    }

    fn terminated(&mut self, count: usize) -> Option<String> {
        let text = String::from_utf8(self.take(count)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

/// Writes a message; `body` is of type `signature`, empty where there is none.
pub(super) fn write(kind: Kind, serial: u32, fields: &[(Field, Value<'_>)], signature: &str, body: &[u8]) -> Vec<u8> {
    let mut header = Writer(Vec::new());
    for (field, value) in fields {
        header.align(8);
        header.0.push(*field as u8);
        match value {
            Value::Number(number) => header.signature("u").number(*number),
            Value::Text(text) if matches!(field, Field::Path) => header.signature("o").text(text),
            Value::Text(text) => header.signature("s").text(text),
        };
    }
    if !signature.is_empty() {
        header.align(8);
        header.0.push(Field::Signature as u8);
        header.signature("g").signature(signature);
    }
    let mut message = Writer(vec![LITTLE_ENDIAN, kind as u8, 0, VERSION]);
    message.number(length(body)).number(serial).number(length(&header.0));
    message.0.extend(header.0);
    message.align(8);
    message.0.extend(body);
    message.0
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Bytes aligned to their own beginning.
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn number(&mut self, number: u32) -> &mut Self {
        self.align(4);
        self.0.extend(number.to_le_bytes());
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.number(length(text.as_bytes()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self
    }

    fn signature(&mut self, signature: &str) -> &mut Self {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Vec<u8> {
        let mut body = Writer(Vec::new());
        body.text("org.mozilla.firefox.x").number(4);
        let fields = [(Field::Path, Value::Text("/org/freedesktop/DBus")), (Field::Member, Value::Text("RequestName")), (Field::Destination, Value::Text("org.freedesktop.DBus")), (Field::ReplySerial, Value::Number(7))];
        write(Kind::Call, 3, &fields, "su", &body.0)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = call();
        let expected = Message {
            kind: Kind::Call,
            wants_reply: true,
            serial: 3,
            member: "RequestName".to_owned(),
            destination: "org.freedesktop.DBus".to_owned(),
            reply_serial: 7,
            text: "org.mozilla.firefox.x".to_owned(),
        };
        assert_eq!(parse(&bytes), Parsed::Message(expected, bytes.len()));
    }

    #[test]
    fn every_beginning_is_incomplete_and_no_change_is_a_crash() {
        let bytes = call();
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Parsed::Incomplete, "{end}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, b's', 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                parse(&changed);
            }
        }
        let mut big_endian = bytes.clone();
        big_endian[0] = b'B';
        assert_eq!(parse(&big_endian), Parsed::Garbage);
        let mut endless = bytes;
        endless[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&endless), Parsed::Garbage);
    }
}
