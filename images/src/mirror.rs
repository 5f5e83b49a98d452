//! Where packages are fetched from: given addresses, or those in the machine's apt sources (sources.list(5)).
//!
//! Only addresses are taken from there. Suites and keys come from torbox's own data: a mirror is never trusted.

use crate::{debian::deb822, error::Error, recipe::Archive};
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
    /// The apt sources below this directory, which is `/etc/apt` on Debian.
    Apt(PathBuf),
}

impl Mirrors {
    /// The mirrors themselves.
    ///
    /// # Errors
    /// [`Error::NoMirror`] when one of the two trees has none.
    pub(crate) fn load(&self) -> Result<Vec<Mirror>, Error> {
        let mirrors = match self {
            Self::Named(mirrors) => with_siblings(mirrors),
            Self::Apt(root) => mirrors_from_apt(root)?,
        };
        require_both(mirrors)
    }
}

/// The Debian mirrors that the apt sources below `root` name: `sources.list`, `sources.list.d/*.list` (one line each) and
/// `sources.list.d/*.sources` (deb822). Sources of other vendors are passed over.
///
/// # Errors
/// [`Error::NoMirror`] when there is none, [`Error::Io`] when a file cannot be read.
pub fn mirrors_from_apt(root: &Path) -> Result<Vec<Mirror>, Error> {
    let mut found = Vec::new();
    for path in source_files(root)? {
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let deb822 = path.extension().is_some_and(|extension| extension == "sources");
        found.extend(if deb822 { parse_deb822(&text) } else { parse_lines(&text) });
    }
    let mut mirrors: Vec<Mirror> = Vec::new();
    for mirror in found {
        if !mirrors.contains(&mirror) {
            mirrors.push(mirror);
        }
    }
    require_both(with_siblings(&mirrors))
}

fn source_files(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = vec![root.join("sources.list")];
    let parts = root.join("sources.list.d");
    if parts.is_dir() {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&parts).map_err(Error::io("list", &parts))? {
            names.push(entry.map_err(Error::io("list", &parts))?.path());
        }
        names.sort();
        files.extend(names.into_iter().filter(|path| path.extension().is_some_and(|e| e == "list" || e == "sources")));
    }
    files.retain(|path| path.is_file());
    Ok(files)
}

fn parse_lines(text: &str) -> Vec<Mirror> {
    text.lines().filter_map(parse_line).collect()
}

/// `deb [options] URI suite component...`
fn parse_line(line: &str) -> Option<Mirror> {
    let line = line.split('#').next()?.trim().strip_prefix("deb")?;
    let line = line.strip_prefix([' ', '\t'])?.trim_start();
    let line = if line.starts_with('[') { line.split_once(']')?.1 } else { line };
    let mut words = line.split_ascii_whitespace();
    let (url, suite) = (words.next()?, words.next()?);
    mirror_of(url, suite)
}

fn parse_deb822(text: &str) -> Vec<Mirror> {
    // A file that apt itself would refuse names no mirror.
    deb822::stanzas(text).filter_map(Result::ok).flat_map(|stanza| parse_stanza(&stanza)).collect()
}

fn parse_stanza(stanza: &deb822::Stanza<'_>) -> Vec<Mirror> {
    let words = |name: &str| stanza.get(name).unwrap_or_default().split_ascii_whitespace().collect::<Vec<_>>();
    let off = stanza.get("Enabled").is_some_and(|value| matches!(value, "no" | "false" | "off" | "0"));
    if off || !words("Types").contains(&"deb") {
        return Vec::new();
    }
    let (urls, suites) = (words("URIs"), words("Suites"));
    urls.iter().flat_map(|url| suites.iter().filter_map(|suite| mirror_of(url, suite))).collect()
}

fn mirror_of(url: &str, suite: &str) -> Option<Mirror> {
    const RELEASES: [&str; 12] = ["bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldoldstable", "oldstable", "stable", "testing", "unstable", "buster"];
    let (release, part) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
    let archive = if part == "security" || url.trim_end_matches('/').ends_with("debian-security") { Archive::DebianSecurity } else { Archive::Debian };
    RELEASES.contains(&release).then(|| Mirror::of(archive, url).ok()).flatten()
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
        let mirrors = mirrors_from_apt(root.path())?;
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
    fn addresses_are_checked() {
        for bad in ["", "debian", "ftp://m.example/debian", "http://", "http://m.example/a b", "http://m.example/\n"] {
            assert!(Mirror::new(bad).is_err(), "{bad:?}");
        }
        let given = Mirrors::Named(vec![Mirror::new("http://m.example/x").unwrap()]).load();
        assert!(matches!(given, Err(Error::NoMirror { archive: "debian-security" })));
    }
}
