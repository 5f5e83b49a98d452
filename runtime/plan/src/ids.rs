//! The names of things: roles, boxes, and paths inside a box.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The part that a container plays in a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// tor and its pluggable transports: the only role with a network.
    Tor,
    /// The filter between tor and the browser: no network.
    Gate,
    /// What stands between the browser and the user's display server: no network. Absent where nothing is shown.
    Display,
    /// The browser: no network, no IP sockets.
    Browser,
}

impl Role {
    /// Every role, in the order in which a launch creates them.
    pub const ALL: [Self; 4] = [Self::Tor, Self::Gate, Self::Display, Self::Browser];

    /// The role's name in paths, messages and container ids.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tor => "tor",
            Self::Gate => "gate",
            Self::Display => "display",
            Self::Browser => "browser",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a box: 1 to 32 of `a-z`, `0-9` and `-`, starting with a letter. It becomes part of file names and
/// container ids, so nothing else is accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoxName(String);

/// A box name that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a box name: use 1 to 32 of a-z, 0-9 and '-', starting with a letter")]
pub struct InvalidName(pub String);

impl BoxName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`InvalidName`] when it does not have the form that the type asks for.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let well_formed = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 32 && name.chars().all(allowed);
        if well_formed { Ok(Self(name.to_owned())) } else { Err(InvalidName(name.to_owned())) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BoxName {
    type Error = InvalidName;
    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(&name)
    }
}

impl From<BoxName> for String {
    fn from(name: BoxName) -> Self {
        name.0
    }
}

impl fmt::Display for BoxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An absolute path inside a container, fixed at compile time: nothing of the host can enter it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BoxPath(&'static str);

impl BoxPath {
    pub(crate) const fn new(path: &'static str) -> Self {
        Self(path)
    }

    /// The path as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for BoxPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn box_names_are_closed() {
        for good in ["default", "a", "work-2", &"a".repeat(32)] {
            assert_eq!(BoxName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "2a", "A", "a/b", "..", "a b", "a\n", "ä", &"a".repeat(33)] {
            assert_eq!(BoxName::new(bad), Err(InvalidName(bad.to_owned())), "{bad:?}");
        }
    }
}
