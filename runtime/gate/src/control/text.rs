//! Values that the control protocol writes as text, each with one reader and one writer: fingerprints, onion addresses,
//! keys, quoted strings. A reader accepts exactly what the writer makes (and what tor's specification adds to it).

use std::fmt;

/// A relay's identity: 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 20]);

impl Fingerprint {
    /// Reads 40 hexadecimal digits, with or without `$` before them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('$').unwrap_or(text);
        Some(Self(hex(digits.as_bytes())?.try_into().ok()?))
    }

    /// The form of a router status entry: base64 without padding.
    #[must_use]
    pub fn base64(&self) -> String {
        encode_base64(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(scrubbed)")
    }
}

/// An onion service's address (version 3), without `.onion`, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OnionAddress(String);

impl OnionAddress {
    /// Reads 56 letters of base32; the last one says version 3.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let legal = text.len() == 56 && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        (legal && text.ends_with('d')).then_some(Self(text))
    }
}

impl fmt::Display for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnionAddress(scrubbed)")
    }
}

/// A private x25519 key for an onion service that asks for one.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey([u8; 32]);

impl ClientKey {
    /// Reads `x25519:` and 32 bytes of base64, padded or not.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, blob) = text.split_once(':')?;
        let blob = blob.strip_suffix('=').unwrap_or(blob);
        let bytes = kind.eq_ignore_ascii_case("x25519").then(|| decode_base64(blob))??;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "x25519:{}=", encode_base64(&self.0))
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(scrubbed)")
    }
}

/// Reads an even number of hexadecimal digits.
#[must_use]
pub fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, odd) = digits.as_chunks::<2>();
    let nibble = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |[high, low]: &[u8; 2]| Some(nibble(*high)? << 4 | nibble(*low)?);
    odd.is_empty().then(|| pairs.iter().map(byte).collect())?
}

/// Writes hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * place) & 63) as usize;
            text.extend(BASE64.get(index).map(|letter| char::from(*letter)));
        }
    }
    text
}

/// Without padding; bits that stand for nothing must be 0, so that there is one way to write a value.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut bytes) = (0_u32, 0_u32, Vec::new());
    for letter in text.bytes() {
        let value = BASE64.iter().position(|known| *known == letter)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xFF).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0 && held < 6).then_some(bytes)
}

/// Writes bytes as a quoted string, everything but printable ASCII in octal.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            0x20..=0x7E => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    text.push('"');
    text
}

/// Reads a quoted string at the front (C escapes, as tor writes them), and what follows it.
#[must_use]
pub fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut bytes = Vec::new();
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((bytes, rest)),
            b'\\' => {
                let (value, after) = escape(rest)?;
                bytes.push(value);
                rest = after;
            }
            _ => bytes.push(*byte),
        }
    }
}

fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (first, after) = text.split_first()?;
    match first {
        b'n' => Some((b'\n', after)),
        b'r' => Some((b'\r', after)),
        b't' => Some((b'\t', after)),
        b'0'..=b'7' => octal(text),
        b'"' | b'\\' | b'\'' => Some((*first, after)),
        _ => None,
    }
}

/// One to three octal digits, at most 0o377.
fn octal(text: &[u8]) -> Option<(u8, &[u8])> {
    let digits = text.iter().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    let value = digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
    Some((u8::try_from(value).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints() {
        let text = "0123456789ABCDEF0123456789ABCDEF01234567";
        let parsed = Fingerprint::parse(text).unwrap();
        assert_eq!(parsed.to_string(), text);
        assert_eq!(Fingerprint::parse(&format!("${}", text.to_lowercase())), Some(parsed));
        assert_eq!(parsed.base64(), "ASNFZ4mrze8BI0VniavN7wEjRWc");
        for bad in ["", "$", "012345", &text[1..], &format!("{text}0"), &text.replace('A', "G")] {
            assert_eq!(Fingerprint::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn onion_addresses() {
        let good = format!("{}d", "a2".repeat(27) + "b");
        assert_eq!(OnionAddress::parse(&good.to_uppercase()).unwrap().to_string(), good);
        for bad in ["", &good[1..], &format!("{good}d"), &good.replace("2b", "1b"), &format!("{}e", &good[..55])] {
            assert_eq!(OnionAddress::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn keys() {
        let padded = "x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let key = ClientKey::parse(padded).unwrap();
        assert_eq!(key.to_string(), padded);
        assert_eq!(ClientKey::parse(padded.trim_end_matches('=')), Some(key));
        for bad in [
            "",
            "x25519",
            "x25519:",
            "rsa:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=",
            "x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8==",
            "x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH",
            "x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8h\r\n",
        ] {
            assert_eq!(ClientKey::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn quoted_strings() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unquote(quote(&bytes).as_bytes()), Some((bytes, &b""[..])));
        assert_eq!(quote(b"a\"b\\c\r\n"), r#""a\"b\\c\015\012""#);
        assert_eq!(unquote(br#""a\tb" rest"#), Some((b"a\tb".to_vec(), &b" rest"[..])));
        assert_eq!(unquote(br#""\1018""#), Some((b"A8".to_vec(), &b""[..])));
        for bad in [&b""[..], b"a", b"\"", b"\"a", b"\"\\", b"\"\\\"", b"\"\\x41\"", b"\"\\777\""] {
            assert_eq!(unquote(bad), None, "{bad:?}");
        }
    }
}
