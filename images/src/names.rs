//! The names of images, recipes and architectures.
//!
//! All are closed or checked: they become parts of file names and of image references.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A recipe that torbox carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecipeName {
    /// tor and the gate.
    Tor,
    /// Tor Browser as the Tor Project releases it.
    TorBrowser,
    /// Debian's Firefox ESR, the stand-in that is not anonymous.
    FirefoxEsr,
}

impl RecipeName {
    /// Every recipe.
    pub const ALL: [Self; 3] = [Self::Tor, Self::TorBrowser, Self::FirefoxEsr];

    /// The recipe's name in paths, options and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tor => "tor",
            Self::TorBrowser => "tor-browser",
            Self::FirefoxEsr => "firefox-esr",
        }
    }

    /// The name of the image that the recipe makes.
    #[must_use]
    pub fn image(self) -> ImageName {
        ImageName(format!("torbox/{}", self.as_str()))
    }
}

impl fmt::Display for RecipeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RecipeName {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        let unknown = || Error::Name { value: name.to_owned(), expected: "a recipe: tor, tor-browser or firefox-esr" };
        Self::ALL.into_iter().find(|recipe| recipe.as_str() == name).ok_or_else(unknown)
    }
}

/// The name of an image in the store: `torbox/` and 1 to 32 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

impl ImageName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Error::Name`] when it does not have the form that the type asks for.
    pub fn new(name: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let short = name.strip_prefix("torbox/").unwrap_or_default();
        let well_formed = short.starts_with(|c: char| c.is_ascii_lowercase()) && short.len() <= 32 && short.chars().all(allowed);
        let invalid = Error::Name { value: name.to_owned(), expected: "an image name: torbox/ and 1 to 32 of a-z, 0-9 and '-'" };
        if well_formed { Ok(Self(name.to_owned())) } else { Err(invalid) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ImageName {
    type Error = Error;
    fn try_from(name: String) -> Result<Self, Error> {
        Self::new(&name)
    }
}

/// A processor architecture that images can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Arch {
    /// The architecture that this program was built for, if images can be made for it.
    #[must_use]
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    /// Debian's and OCI's name of it, which are the same for these two.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The multiarch triplet that Debian's library directories are named after.
    #[must_use]
    pub const fn triplet(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipe_names_are_closed() {
        for recipe in RecipeName::ALL {
            assert_eq!(recipe.as_str().parse::<RecipeName>().unwrap(), recipe);
            assert_eq!(ImageName::new(recipe.image().as_str()).unwrap(), recipe.image());
        }
        assert!("chromium".parse::<RecipeName>().is_err());
    }

    #[test]
    fn image_names_are_checked() {
        for bad in ["", "tor", "torbox/", "torbox/-a", "torbox/A", "torbox/a/b", "torbox/..", "other/tor"] {
            assert!(ImageName::new(bad).is_err(), "{bad:?}");
        }
    }
}
