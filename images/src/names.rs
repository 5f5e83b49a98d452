//! The names of images, recipes and architectures.
//!
//! All are closed or checked: they become parts of file names and of image references.

use crate::error::Error;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A recipe that torbox carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecipeName {
    /// tor as Debian packages it, and the gate.
    Tor,
    /// The same, and a program for pluggable transports.
    TorTransports,
    /// tor and its pluggable transports as the Tor Project releases them, and the gate.
    TorBundle,
    /// Tor Browser as the Tor Project releases it.
    TorBrowser,
    /// Debian's Firefox ESR, the stand-in that is not anonymous.
    FirefoxEsr,
}

impl RecipeName {
    /// Every recipe.
    pub const ALL: [Self; 5] = [Self::Tor, Self::TorTransports, Self::TorBundle, Self::TorBrowser, Self::FirefoxEsr];

    /// The recipe's name in paths, options and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tor => "tor",
            Self::TorTransports => "tor-transports",
            Self::TorBundle => "tor-bundle",
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
        let unknown = || Error::Name { value: name.to_owned(), expected: "a recipe: tor, tor-transports, tor-bundle, tor-browser or firefox-esr" };
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

    /// The name that an image has once another took its place.
    pub(crate) fn previous(&self) -> Self {
        Self(format!("{}{PREVIOUS}", self.0))
    }

    /// Whether another image took the place of the one that has this name.
    #[must_use]
    pub fn is_previous(&self) -> bool {
        self.0.ends_with(PREVIOUS)
    }
}

const PREVIOUS: &str = "-previous";

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

    /// The kernel's name of it, which the Tor Project's files have.
    #[must_use]
    pub const fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
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

impl FromStr for Arch {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        let unknown = || Error::Name { value: name.to_owned(), expected: "an architecture: amd64 or arm64" };
        [Self::Amd64, Self::Arm64].into_iter().find(|arch| arch.as_str() == name).ok_or_else(unknown)
    }
}

/// Which releases of the Tor Project to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// Releases.
    #[default]
    Release,
    /// Test versions, ahead of the releases.
    Alpha,
}

impl Channel {
    /// The channel that a version is of: `16.0a9` is an alpha.
    #[must_use]
    pub fn of(version: &str) -> Self {
        if version.contains(|c: char| c.is_ascii_alphabetic()) { Self::Alpha } else { Self::Release }
    }

    /// The channel's name in the release index.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Alpha => "alpha",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A day, as `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub(crate) NaiveDate);

impl FromStr for Day {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |_| Error::Name { value: text.to_owned(), expected: "a day: YYYY-MM-DD" };
        NaiveDate::parse_from_str(text, "%Y-%m-%d").map(Self).map_err(invalid)
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
            assert!(ImageName::new(recipe.image().previous().as_str()).unwrap().is_previous() && !recipe.image().is_previous());
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
