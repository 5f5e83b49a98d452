//! The Tor Project's releases: which is current, where its files are, and whether it may be taken.
//!
//! The index is not signed, so nothing but a version and an address is taken from it, and only below the origins that the
//! recipe names. What a release is, the signed list of checksums says: it binds the archive's name, and with it the version,
//! to a digest.

use crate::{
    build::Build,
    certificate,
    digest::Digest,
    error::Error,
    fetch::{Size, Wanted, Within},
    floor::Floor,
    names::{Arch, Channel},
    recipe::TorProject,
};
use chrono::{DateTime, Utc};
use serde::Deserialize;

const INDEX_LIMIT: u64 = 64 << 10;
const SUMS_LIMIT: u64 = 1 << 20;
pub(crate) const SIGNATURE_LIMIT: u64 = 64 << 10;
/// No release is larger.
const ARCHIVE_LIMIT: u64 = 512 << 20;
const SUMS: &str = "sha256sums-signed-build.txt";

/// A release whose checksum is signed for.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) version: String,
    pub(crate) sha256: Digest,
    /// When the checksums were signed.
    pub(crate) signed: DateTime<Utc>,
    /// Addresses of the directory that its files are in.
    pub(crate) places: Vec<String>,
}

/// What the index tells.
#[derive(Debug, Deserialize)]
pub(crate) struct Current {
    pub(crate) version: String,
    /// Address of the browser's archive.
    pub(crate) binary: String,
}

/// The current release of the channel, fresh and not older than one seen before.
pub(crate) fn offer(build: &mut Build<'_>, project: &TorProject) -> Result<Offer, Error> {
    let (arch, channel) = (build.request.arch, build.request.channel);
    build.progress.phase(&format!("asking for the current {channel} of {}", build.recipe.title));
    let at = Site::new(build, project);
    let index = project.index.replace("{channel}", channel.as_str()).replace("{machine}", arch.machine());
    let current = parse(project, channel, &index, &build.fetcher.small(&at.addresses(&index), at.within(), INDEX_LIMIT)?)?;
    let (place, _) = current.binary.rsplit_once('/').ok_or(Error::Internal("an address without a path"))?;
    let places = at.addresses(place);
    let file = |name: &str, limit| {
        let urls: Vec<String> = places.iter().map(|place| format!("{place}/{name}")).collect();
        build.fetcher.small(&urls, at.within(), limit)
    };
    let (sums, signature) = (file(SUMS, SUMS_LIMIT)?, file(&format!("{SUMS}.asc"), SIGNATURE_LIMIT)?);
    let signed = certificate::verify(build, project, SUMS, &signature, &sums)?;
    let name = archive_name(project, arch, &current.version);
    let sha256 = checksum(&sums, &name).map_err(|reason| Error::ReleaseIndex { url: format!("{place}/{SUMS}"), reason })?;
    let floor = Floor::load(build.writer.store(), build.recipe.name, channel)?;
    floor.check(&current.version, Some(signed))?;
    check_age(build, &current.version, signed)?;
    floor.raise(build.writer, &current.version, Some(signed))?;
    Ok(Offer { version: current.version, sha256, signed, places })
}

/// Shows how old signed data is, and refuses what is so old that a newer release must be kept back, unless the user knows.
pub(crate) fn check_age(build: &mut Build<'_>, version: &str, signed: DateTime<Utc>) -> Result<(), Error> {
    const LIMIT: i64 = 60;
    let days = (build.now - signed).num_days();
    build.progress.phase(&format!("{} {version}, signed on {} ({days} days ago)", build.recipe.title, signed.date_naive()));
    let accepted = build.request.accept_old.is_some_and(|oldest| signed.date_naive() >= oldest.0);
    if days <= LIMIT || accepted { Ok(()) } else { Err(Error::Stale { version: version.to_owned(), signed: signed.date_naive().to_string(), days }) }
}

/// The archive of a release, as it is fetched.
pub(crate) fn wanted<'w>(site: &'w Site, project: &TorProject, arch: Arch, version: &str, sha256: Digest, places: &[String]) -> Wanted<'w> {
    let name = archive_name(project, arch, version);
    let urls = places.iter().map(|place| format!("{place}/{name}")).collect();
    Wanted { what: name, urls, within: site.within(), sha256, size: Size::AtMost(ARCHIVE_LIMIT) }
}

/// Where any release of `version` should be.
pub(crate) fn places(site: &Site, project: &TorProject, version: &str) -> Vec<String> {
    project.releases.iter().flat_map(|place| site.addresses(&place.replace("{version}", version))).collect()
}

/// The archive's name, which the signed checksums bind to its content.
pub(crate) fn archive_name(project: &TorProject, arch: Arch, version: &str) -> String {
    project.archive.replace("{machine}", arch.machine()).replace("{version}", version)
}

/// The addresses that may be used for a project.
pub(crate) struct Site {
    origins: Vec<String>,
    /// Origins, and the onion services that serve the same; none where names are not resolved by a proxy.
    onions: Vec<(String, String)>,
}

impl Site {
    pub(crate) fn new(build: &Build<'_>, project: &TorProject) -> Self {
        // Without a proxy, the name of an onion service would only be told to the machine's resolver (RFC 7686).
        let onions: Vec<(String, String)> = if build.request.via.is_some() { project.onions.clone().into_iter().collect() } else { Vec::new() };
        let origins = project.origins.iter().chain(onions.iter().map(|(_, onion)| onion)).cloned().collect();
        Self { origins, onions }
    }

    /// The address itself, then that of the onion service.
    pub(crate) fn addresses(&self, url: &str) -> Vec<String> {
        let onion = self.onions.iter().find_map(|(origin, onion)| Some(format!("{onion}{}", url.strip_prefix(origin.as_str())?)));
        [url.to_owned()].into_iter().chain(onion).collect()
    }

    pub(crate) fn within(&self) -> Within<'_> {
        Within::Origins(&self.origins)
    }
}

/// Reads a release index; `url` is for messages.
pub(crate) fn parse(project: &TorProject, channel: Channel, url: &str, json: &[u8]) -> Result<Current, Error> {
    let wrong = |reason: String| Error::ReleaseIndex { url: url.to_owned(), reason };
    let current: Current = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    if current.version.is_empty() || current.version.len() > 32 || !current.version.chars().all(plain) {
        return Err(wrong(format!("{:?} is not a version", current.version)));
    }
    if Channel::of(&current.version) != channel {
        return Err(wrong(format!("{} is not of the channel {channel}", current.version)));
    }
    if !Within::Origins(&project.origins).holds(&current.binary) {
        return Err(wrong(format!("it points to {:?}, which is no host of the recipe", current.binary)));
    }
    Ok(current)
}

/// The checksum of the file called `name` in a list of `<sha256>  <name>` lines.
pub(crate) fn checksum(sums: &[u8], name: &str) -> Result<Digest, String> {
    let text = std::str::from_utf8(sums).map_err(|_| "it is not text".to_owned())?;
    let mut found = text.lines().filter_map(|line| line.split_once("  ")).filter(|(_, file)| *file == name).map(|(hex, _)| hex);
    match (found.next(), found.next()) {
        (Some(hex), None) => Digest::from_hex(hex).map_err(|error| error.to_string()),
        (Some(_), Some(_)) => Err(format!("it lists {name} twice")),
        (None, _) => Err(format!("it does not list {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{names::RecipeName, recipe::Recipe};

    #[test]
    fn the_index_points_only_to_the_recipes_origins() {
        let project = TorProject { origins: vec!["https://d.example".into()], ..Recipe::embedded(RecipeName::TorBrowser).unwrap().tor_project.unwrap() };
        let parse = |binary: &str, version: &str, channel| parse(&project, channel, "index", format!(r#"{{"binary":"{binary}","sig":"x","version":"{version}","git_tag":"x"}}"#).as_bytes());
        let binary = "https://d.example/15.0.24/b.tar.xz";
        assert_eq!(parse(binary, "15.0.24", Channel::Release).unwrap().version, "15.0.24");
        assert_eq!(parse(binary, "16.0a9", Channel::Alpha).unwrap().version, "16.0a9");
        for (binary, version, channel) in [
            ("https://evil.example/b", "15.0", Channel::Release),
            ("https://d.example.evil/b", "15.0", Channel::Release),
            ("http://d.example/b", "15.0", Channel::Release),
            ("https://d.example@evil.example/b", "15.0", Channel::Release),
            (binary, "../15", Channel::Release),
            (binary, "", Channel::Release),
            (binary, "16.0a9", Channel::Release),
            (binary, "15.0.24", Channel::Alpha),
        ] {
            assert!(matches!(parse(binary, version, channel), Err(Error::ReleaseIndex { .. })), "{binary} {version} {channel}");
        }
    }

    #[test]
    fn the_real_checksums_are_read() {
        let sums = include_bytes!("../tests/data/15.0.24-sha256sums-signed-build.txt");
        for recipe in [RecipeName::TorBrowser, RecipeName::TorBundle] {
            let project = Recipe::embedded(recipe).unwrap().tor_project.unwrap();
            checksum(sums, &archive_name(&project, Arch::Amd64, "15.0.24")).unwrap();
            assert!(checksum(sums, &archive_name(&project, Arch::Amd64, "15.0.25")).unwrap_err().contains("does not list"));
        }
        let twice = [&sums[..], sums].concat();
        assert!(checksum(&twice, "tor-browser-linux-x86_64-15.0.24.tar.xz").unwrap_err().contains("twice"));
    }
}
