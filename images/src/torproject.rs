//! The Tor Project's release index: which release is current, and where its archive and signature are.
//!
//! The index is not signed, so nothing but an address and a version is taken from it, and only for the hosts that the recipe
//! names. What it points to counts only once its signature was checked.

use crate::{error::Error, fetch::Fetcher, recipe::TorProject};
use serde::Deserialize;

const INDEX_LIMIT: u64 = 64 << 10;
const SIGNATURE_LIMIT: u64 = 64 << 10;
/// No release is larger.
pub(crate) const ARCHIVE_LIMIT: u64 = 512 << 20;

/// The current release, as the index tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Current {
    pub(crate) version: String,
    /// Address of the archive.
    pub(crate) binary: String,
    /// Address of its signature.
    pub(crate) sig: String,
}

/// Fetches the index.
pub(crate) fn current(fetcher: &Fetcher, source: &TorProject) -> Result<Current, Error> {
    parse(source, &fetcher.small(&source.index, INDEX_LIMIT)?)
}

fn parse(source: &TorProject, json: &[u8]) -> Result<Current, Error> {
    let wrong = |reason: String| Error::ReleaseIndex { url: source.index.clone(), reason };
    let current: Current = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    if current.version.is_empty() || !current.version.chars().all(plain) {
        return Err(wrong(format!("{:?} is not a version", current.version)));
    }
    for url in [&current.binary, &current.sig] {
        let host = url.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        if !source.hosts.iter().any(|allowed| allowed == host) {
            return Err(wrong(format!("it points to {url:?}, which is no host of the recipe")));
        }
    }
    Ok(current)
}

/// Fetches the signature of the current release.
pub(crate) fn signature(fetcher: &Fetcher, current: &Current) -> Result<Vec<u8>, Error> {
    fetcher.small(&current.sig, SIGNATURE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_points_only_to_the_recipes_hosts() {
        let source = TorProject { primary: String::new(), index: "https://a.example/i.json".into(), hosts: vec!["d.example".into()] };
        let parse = |binary: &str, sig: &str, version: &str| parse(&source, format!(r#"{{"binary":"{binary}","sig":"{sig}","version":"{version}","git_tag":"x"}}"#).as_bytes());
        let (binary, sig) = ("https://d.example/b.tar.xz", "https://d.example/b.tar.xz.asc");
        assert_eq!(parse(binary, sig, "15.0.24").unwrap().version, "15.0.24");
        for (binary, sig, version) in [
            ("https://evil.example/b", sig, "15.0"),
            (binary, "https://d.example.evil/b", "15.0"),
            (binary, "http://d.example/b", "15.0"),
            ("https://d.example@evil.example/b", sig, "15.0"),
            (binary, sig, "../15"),
            (binary, sig, ""),
        ] {
            assert!(matches!(parse(binary, sig, version), Err(Error::ReleaseIndex { .. })), "{binary} {sig} {version}");
        }
    }
}
