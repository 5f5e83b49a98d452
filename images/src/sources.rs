//! The addresses of Debian mirrors in a machine's apt sources (sources.list(5)).
//!
//! It reads addresses and nothing else, and believes none of them. The build script reads the building machine's with it, so
//! it uses nothing of this crate but the reader of stanzas.

use crate::debian::deb822;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// An address, and which of a mirror's two trees is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) is_security: bool,
    pub(crate) url: String,
}

/// What the apt sources below `root` name: `sources.list`, `sources.list.d/*.list` (one line each) and
/// `sources.list.d/*.sources` (deb822), each once. Sources of other vendors are passed over.
pub(crate) fn read(root: &Path) -> io::Result<Vec<Source>> {
    let mut found: Vec<Source> = Vec::new();
    for path in files(root)? {
        let text = fs::read_to_string(&path)?;
        let deb822 = path.extension().is_some_and(|extension| extension == "sources");
        for source in if deb822 { parse_deb822(&text) } else { parse_lines(&text) } {
            if !found.contains(&source) {
                found.push(source);
            }
        }
    }
    Ok(found)
}

fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = vec![root.join("sources.list")];
    let parts = root.join("sources.list.d");
    if parts.is_dir() {
        let mut names = fs::read_dir(&parts)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        files.extend(names.into_iter().filter(|path| path.extension().is_some_and(|e| e == "list" || e == "sources")));
    }
    files.retain(|path| path.is_file());
    Ok(files)
}

fn parse_lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

/// `deb [options] URI suite component...`
fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim().strip_prefix("deb")?;
    let line = line.strip_prefix([' ', '\t'])?.trim_start();
    let line = if line.starts_with('[') { line.split_once(']')?.1 } else { line };
    let mut words = line.split_ascii_whitespace();
    let (url, suite) = (words.next()?, words.next()?);
    source(url, suite)
}

fn parse_deb822(text: &str) -> Vec<Source> {
    // A file that apt itself would refuse names no mirror.
    deb822::stanzas(text).filter_map(Result::ok).flat_map(|stanza| parse_stanza(&stanza)).collect()
}

fn parse_stanza(stanza: &deb822::Stanza<'_>) -> Vec<Source> {
    let words = |name: &str| stanza.get(name).unwrap_or_default().split_ascii_whitespace().collect::<Vec<_>>();
    let off = stanza.get("Enabled").is_some_and(|value| matches!(value, "no" | "false" | "off" | "0"));
    if off || !words("Types").contains(&"deb") {
        return Vec::new();
    }
    let (urls, suites) = (words("URIs"), words("Suites"));
    urls.iter().flat_map(|url| suites.iter().filter_map(|suite| source(url, suite))).collect()
}

fn source(url: &str, suite: &str) -> Option<Source> {
    const RELEASES: [&str; 12] = ["bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldoldstable", "oldstable", "stable", "testing", "unstable", "buster"];
    let (release, part) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
    let url = url.trim_end_matches('/');
    let is_web = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    let is_security = part == "security" || url.ends_with("debian-security");
    (is_web && RELEASES.contains(&release)).then(|| Source { is_security, url: url.to_owned() })
}
