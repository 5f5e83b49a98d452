//! Where packages are fetched from: given addresses, those in the machine's apt sources, or those that a build recorded.
//!
//! Only addresses are taken from there. Suites and keys come from torbox's own data: a mirror is never trusted.

use crate::{error::Error, recipe::Archive, sources};
use std::path::{Path, PathBuf};

/// One tree of a Debian mirror, at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    archive: Archive,
    url: String,
}

impl Mirror {
    /// A tree at `url` (http or https), told apart by the last part of its path: `debian-security`, or anything else
    /// for the archive itself.
    ///
    /// # Errors
    /// [`Error::Name`] for anything but an http or https address.
    pub fn new(url: &str) -> Result<Self, Error> {
        let archive = if url.trim_end_matches('/').ends_with("debian-security") { Archive::DebianSecurity } else { Archive::Debian };
        Self::of(archive, url)
    }

    /// The given tree at `url`.
    ///
    /// # Errors
    /// [`Error::Name`] for anything but an http or https address.
    pub fn of(archive: Archive, url: &str) -> Result<Self, Error> {
        let url = url.trim_end_matches('/');
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or_default();
        let plain = |c: char| c.is_ascii_graphic() && !"\"'<>\\^`{|}".contains(c);
        if host.is_empty() || !url.chars().all(plain) {
            return Err(Error::Name { value: url.to_owned(), expected: "an address that begins with http:// or https://" });
        }
        Ok(Self { archive, url: url.to_owned() })
    }

    /// Which tree.
    #[must_use]
    pub const fn archive(&self) -> Archive {
        self.archive
    }

    /// Its address, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Where a build takes its mirrors from.
#[derive(Clone, Debug)]
pub enum Mirrors {
    /// These, tried in turn.
    Named(Vec<Mirror>),
    /// The apt sources below this directory, which is `/etc/apt` on Debian; where they name none, the mirrors that were
    /// recorded when this program was built.
    Apt(PathBuf),
}

impl Mirrors {
    /// The mirrors themselves.
    ///
    /// # Errors
    /// [`Error::NoMirror`] when one of the two trees has none.
    pub(crate) fn load(&self) -> Result<Vec<Mirror>, Error> {
        match self {
            Self::Named(mirrors) => require_both(with_siblings(mirrors)),
            Self::Apt(root) => require_both(of_apt(root)?).or_else(|_| require_both(recorded()?)),
        }
    }
}

/// The Debian mirrors that the apt sources below `root` name.
fn of_apt(root: &Path) -> Result<Vec<Mirror>, Error> {
    let sources = sources::read(root).map_err(Error::io("read the apt sources in", root))?;
    let mirror = |source: sources::Source| Mirror::of(if source.is_security { Archive::DebianSecurity } else { Archive::Debian }, &source.url);
    Ok(with_siblings(&sources.into_iter().map(mirror).collect::<Result<Vec<_>, _>>()?))
}

/// Those of the machine that this program was built on, or that its builder named: for machines without apt.
fn recorded() -> Result<Vec<Mirror>, Error> {
    let urls = env!("TORBOX_DEFAULT_MIRROR").split_ascii_whitespace();
    Ok(with_siblings(&urls.map(Mirror::new).collect::<Result<Vec<_>, _>>()?))
}

/// A mirror at `.../debian` usually has its sibling at `.../debian-security`: tried last, and trusted no more than any other.
fn with_siblings(mirrors: &[Mirror]) -> Vec<Mirror> {
    let has_security = mirrors.iter().any(|mirror| mirror.archive == Archive::DebianSecurity);
    let siblings = mirrors.iter().filter(|mirror| !has_security && mirror.url.ends_with("/debian"));
    let siblings = siblings.map(|mirror| Mirror { archive: Archive::DebianSecurity, url: format!("{}-security", mirror.url) });
    mirrors.iter().cloned().chain(siblings).collect()
}

fn require_both(mirrors: Vec<Mirror>) -> Result<Vec<Mirror>, Error> {
    for archive in [Archive::Debian, Archive::DebianSecurity] {
        if !mirrors.iter().any(|mirror| mirror.archive == archive) {
            return Err(Error::NoMirror { archive: archive.as_str() });
        }
    }
    Ok(mirrors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn apt(files: &[(&str, &str)]) -> Result<Vec<String>, Error> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(root.path().join(name), text).unwrap();
        }
        let mirrors = require_both(of_apt(root.path())?)?;
        Ok(mirrors.iter().map(|m| format!("{} {}", m.archive().as_str(), m.url())).collect())
    }

    #[test]
    fn apt_sources_of_both_forms_are_read() {
        let deb822 = "# comment\nTypes: deb deb-src\nURIs: http://m.example/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n\n\
            Types: deb\nURIs: http://m.example/debian-security\nSuites: bookworm-security\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n";
        let expected = vec!["debian http://m.example/debian".to_owned(), "debian-security http://m.example/debian-security".to_owned()];
        assert_eq!(apt(&[("sources.list.d/debian.sources", deb822)]).unwrap(), expected);
        let lines = "deb [arch=amd64 signed-by=/x] http://m.example/debian trixie main # c\n#deb http://off.example/debian trixie main\n\
            deb-src http://src.example/debian trixie main\ndeb http://m.example/debian-security trixie-security main\n";
        assert_eq!(apt(&[("sources.list", lines)]).unwrap(), expected);
        assert_eq!(apt(&[("sources.list.d/a.list", "deb http://m.example/debian sid main")]).unwrap(), expected);
    }

    #[test]
    fn other_vendors_and_disabled_sources_are_passed_over() {
        let cases = [
            ("sources.list", "deb https://vendor.example/apt cloud-sdk main\n"),
            ("sources.list", "deb cdrom:[Debian] trixie main\ndeb file:/srv/debian trixie main\n"),
            ("sources.list.d/a.sources", "Types: deb\nEnabled: no\nURIs: http://m.example/debian\nSuites: trixie\n"),
            ("sources.list.d/a.sources", "Types: deb-src\nURIs: http://m.example/debian\nSuites: trixie\n"),
            ("sources.list.d/a.txt", "deb http://m.example/debian trixie main\n"),
        ];
        for case in cases {
            assert!(matches!(apt(&[case]), Err(Error::NoMirror { archive: "debian" })), "{case:?}");
        }
    }

    #[test]
    fn a_machine_without_apt_has_the_mirrors_that_were_recorded() {
        let found = Mirrors::Apt(PathBuf::from("/nonexistent")).load();
        let recorded = require_both(recorded().unwrap());
        assert_eq!(found.is_ok(), recorded.is_ok());
        assert_eq!(found.unwrap_or_default(), recorded.unwrap_or_default());
    }

    #[test]
    fn addresses_are_checked() {
        for bad in ["", "debian", "ftp://m.example/debian", "http://", "http://m.example/a b", "http://m.example/\n"] {
            assert!(Mirror::new(bad).is_err(), "{bad:?}");
        }
        let given = Mirrors::Named(vec![Mirror::new("http://m.example/x").unwrap()]).load();
        assert!(matches!(given, Err(Error::NoMirror { archive: "debian-security" })));
    }
}
