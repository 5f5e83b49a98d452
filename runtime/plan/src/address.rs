//! An address for the browser: the one form in which it enters a box, at its start and while it runs.
//!
//! It is handed to the browser as one word, and never is an option, a file, or a script.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An address that a browser may be opened on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(String);

/// Why a text is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It has no scheme.
    #[error("an address begins with http:, https: or about:")]
    NoScheme,
    /// Its scheme is another.
    #[error("the browser is not opened on {0}: addresses; use http:, https: or about:")]
    Scheme(String),
    /// It names no host.
    #[error("the address names no host")]
    NoHost,
    /// It holds what no address may.
    #[error("the address has a space or control character in it")]
    Characters,
    /// It is longer than a request may be.
    #[error("the address is longer than {MAX_LEN} bytes")]
    Long,
}

/// Bytes of the longest address.
const MAX_LEN: usize = 8000;

impl Address {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`AddressError`] says what it is instead.
    pub fn new(text: impl Into<String>) -> Result<Self, AddressError> {
        let text = text.into();
        let (scheme, rest) = text.split_once(':').ok_or(AddressError::NoScheme)?;
        match scheme {
            "about" => {}
            "http" | "https" => {
                let host = rest.strip_prefix("//").unwrap_or_default();
                if host.is_empty() || host.starts_with(['/', '?', '#']) {
                    return Err(AddressError::NoHost);
                }
            }
            other => return Err(AddressError::Scheme(other.to_owned())),
        }
        if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(AddressError::Characters);
        }
        if text.len() > MAX_LEN { Err(AddressError::Long) } else { Ok(Self(text)) }
    }

    /// The address itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of a page of the web, and none of the browser's own.
    #[must_use]
    pub fn is_web(&self) -> bool {
        self.0.starts_with("http")
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::new(text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a running browser is asked for, as its init reads it: a new window, or a tab with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish(pub Option<Address>);

/// What init says when the browser took a wish.
pub const OPENED: &str = "init: the browser opened it";
/// What init says when the browser did not.
pub const NOT_OPENED: &str = "init: the browser did not open it";
const OPEN: &str = "open";

impl Wish {
    /// Reads a line without its end.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            Some((OPEN, address)) => Address::new(address).ok().map(|address| Self(Some(address))),
            None if line == OPEN => Some(Self(None)),
            _ => None,
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(address) => write!(f, "{OPEN} {address}"),
            None => f.write_str(OPEN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_as_they_are_written() {
        for wish in [Wish(None), Wish(Some(Address::new("http://a/").unwrap()))] {
            assert_eq!(Wish::parse(&wish.to_string()), Some(wish));
        }
        for other in ["", "open ", "open -P", "open file:///x", "go", "open http://a/ http://b/"] {
            assert_eq!(Wish::parse(other), None, "{other}");
        }
    }

    #[test]
    fn addresses_are_never_options_files_or_scripts() {
        for good in ["https://example.org/", "http://abc.onion/x?y#z", "about:blank"] {
            assert_eq!(Address::new(good).map(String::from), Ok(good.to_owned()));
        }
        let bad = [
            "", "-P", "--profile", "file:///etc/passwd", "javascript:alert(1)", "example.org", "data:text/html,x", "http://a b/", "http://a\n/", "http://a\u{a0}/", "http:a", "http:///a",
            "HTTP://a/", "view-source:http://a/", "resource://gre/", "chrome://browser/",
        ];
        for bad in bad {
            assert!(Address::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Address::new(format!("http://{}", "a".repeat(MAX_LEN))), Err(AddressError::Long));
        assert!(serde_json::from_str::<Address>("\"file:///x\"").is_err());
    }
}
