//! The identity tag: what tells the streams of one box and one identity from all others (tor isolates circuits by
//! SOCKS credentials). tor sees the client's password with `~BOX.IDENTITY` behind it. The box part has no `~`, so the
//! last `~` splits what tor reports into exactly what the client sent: one-to-one, for any password. Never logged.

use crate::policy::socks::PASSWORD_BYTES;

const MARK: u8 = b'~';

/// Why a box tag is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// Not 8 to 32 hexadecimal digits.
    #[error("a tag is 8 to 32 hexadecimal digits")]
    Malformed,
    /// The kernel gave no random bytes.
    #[error("no random bytes for a tag")]
    Random(#[source] rustix::io::Errno),
}

/// The tag of one box, and the number of its present identity.
#[derive(Clone, PartialEq, Eq)]
pub struct Tag {
    boxed: String,
    identity: u32,
}

impl Tag {
    /// A tag from its hexadecimal text.
    ///
    /// # Errors
    /// The text is not 8 to 32 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, TagError> {
        let legal = (8..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        legal.then(|| Self { boxed: text.to_ascii_lowercase(), identity: 0 }).ok_or(TagError::Malformed)
    }

    /// A fresh tag of 128 random bits.
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn random() -> Result<Self, TagError> {
        let mut bytes = [0_u8; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(TagError::Random)?;
        Self::parse(&format!("{:032x}", u128::from_le_bytes(bytes)))
    }

    /// Makes the next identity. Circuits of earlier ones can never be reused: their credentials differ.
    pub fn rotate(&mut self) {
        self.identity = self.identity.saturating_add(1);
    }

    /// The number of the present identity, counted from 0.
    #[must_use]
    pub fn identity(&self) -> u32 {
        self.identity
    }

    /// What tor is told instead of the client's password. At most 244 bytes for a password within its limit.
    #[must_use]
    pub fn seal(&self, password: &[u8]) -> Vec<u8> {
        let mut sealed = password.to_vec();
        sealed.push(MARK);
        sealed.extend_from_slice(format!("{}.{}", self.boxed, self.identity).as_bytes());
        sealed
    }

    /// The client's password, if tor reports a stream of this box (of any of its identities).
    #[must_use]
    pub fn open<'a>(&self, sealed: &'a [u8]) -> Option<&'a [u8]> {
        let at = sealed.iter().rposition(|b| *b == MARK)?;
        let (password, rest) = sealed.split_at_checked(at)?;
        let identity = rest.get(1..)?.strip_prefix(self.boxed.as_bytes())?.strip_prefix(b".")?;
        let legal = !identity.is_empty() && identity.iter().all(u8::is_ascii_digit);
        (legal && password.len() <= PASSWORD_BYTES as usize).then_some(password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_tags_tell_boxes_and_identities_apart() {
        let mut ours = Tag::parse("00112233aabbccdd").unwrap();
        let other = Tag::parse("00112233aabbccde").unwrap();
        let before = ours.seal(b"nonce");
        assert_eq!(before, b"nonce~00112233aabbccdd.0");
        ours.rotate();
        assert_ne!(before, ours.seal(b"nonce"));
        assert_eq!(ours.open(&before), Some(&b"nonce"[..]), "an earlier identity is still this box");
        assert_eq!(other.open(&before), None);
        assert_ne!(ours.seal(b"nonce"), other.seal(b"nonce"));
    }

    #[test]
    fn forged_tags_stay_passwords() {
        let ours = Tag::parse("0123456789").unwrap();
        let forged = b"x~abcdef0123.0";
        assert_eq!(ours.open(&ours.seal(forged)), Some(&forged[..]));
        for not_ours in [&b""[..], b"~", b"x", b"x~0123456789", b"x~0123456789.", b"x~0123456789.z", b"x~0123456789.1~"] {
            assert_eq!(ours.open(not_ours), None);
        }
    }

    #[test]
    fn fits_into_one_byte_of_length() {
        let mut tag = Tag::parse(&"f".repeat(32)).unwrap();
        tag.identity = u32::MAX;
        assert!(tag.seal(&[b'x'; PASSWORD_BYTES as usize]).len() <= 255);
        tag.rotate();
        assert_eq!(tag.identity(), u32::MAX);
    }

    #[test]
    fn texts() {
        for bad in ["", "1234567", "zzzzzzzz", "12345678.1", &"a".repeat(33)] {
            assert_eq!(Tag::parse(bad).err(), Some(TagError::Malformed), "{bad:?}");
        }
        assert_ne!(Tag::random().unwrap().boxed, Tag::random().unwrap().boxed);
    }
}
