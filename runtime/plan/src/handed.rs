//! How what leaves a box by its user's action, and enters it, is spoken of: of files in an engine a line for each download, a name as one word; of
//! what the browser copied some of its bytes in each line.

use std::fmt;

/// Something that lies among the downloads, as init tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Its name as it is: any bytes but a zero and a slash.
    pub name: Vec<u8>,
    /// Its type and mode (inode(7), `st_mode`).
    pub mode: u32,
    /// Bytes.
    pub size: u64,
}

/// What the display is told when its user wants what the browser copied.
pub const COPY: &str = "copy";
/// How each line begins with which it answers, before some of the bytes in hexadecimal; alone it is the last. What it says comes from the
/// browser, whoever has taken that over.
pub const COPIED: &str = "copied:";

impl Handed {
    /// What init says when it is ready to take a file's bytes.
    pub const READY: &str = "ready";
    /// What it says when it has them all.
    pub const DONE: &str = "done";
    /// What it says where there is a file of that name.
    pub const TAKEN: &str = "taken";
    /// The longest name that a file system keeps.
    const LONGEST: usize = 255;

    /// Reads a line without its end.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (mode, size, name) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, Self::name(words.next()?)?);
        words.next().is_none().then_some(Self { name, mode, size })
    }

    /// Reads what [`Self::word`] wrote.
    #[must_use]
    pub fn bytes(word: &str) -> Option<Vec<u8>> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = |pair: &[u8]| if let [high, low] = pair { Some(digit(high)? << 4 | digit(low)?) } else { None };
        word.as_bytes().chunks(2).map(pair).collect()
    }

    /// Reads a name: that of a directory's entry, and never a path.
    #[must_use]
    pub fn name(word: &str) -> Option<Vec<u8>> {
        let name = Self::bytes(word)?;
        let plain = !name.is_empty() && name.len() <= Self::LONGEST && !name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b"..";
        plain.then_some(name)
    }

    /// `name` as one word.
    #[must_use]
    pub fn word(name: &[u8]) -> String {
        name.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.mode, self.size, Self::word(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let handed = Handed { name: b"a \n\xff.txt".to_vec(), mode: 0o100_600, size: 7 };
        assert_eq!(handed.to_string(), "33152 7 61200aff2e747874");
        assert_eq!(Handed::parse(&handed.to_string()), Some(handed));
    }

    #[test]
    fn a_name_is_no_path() {
        for name in ["", ".", "..", "a/b", "/", "a\0", &"a".repeat(256)] {
            assert_eq!(Handed::name(&Handed::word(name.as_bytes())), None, "{name:?}");
        }
        for word in ["a", "0g", "+1", "61 ", "é"] {
            assert_eq!(Handed::name(word), None, "{word:?}");
        }
        for line in ["", "1 2", "1 2 61 62", "-1 2 61", "1 2 2f"] {
            assert_eq!(Handed::parse(line), None, "{line:?}");
        }
    }
}
