//! What the fuzz targets drive: each function takes any bytes, and panics if an invariant is broken.
//! Not for the builder's own use: it never runs in the program.

#![expect(clippy::panic, reason = "a broken invariant has to stop the fuzzer")]

use crate::{
    debian::{
        deb, deb822,
        index::{self, checked_path},
        release::Release,
    },
    fetch::Within,
    intake,
    names::{Arch, Channel, RecipeName},
    recipe::{Archive, Recipe, TorProject},
    torproject::{self, archive_name},
    tree::TreePath,
    unpack::Bounded,
};
use std::sync::LazyLock;

/// What an input may unpack to.
const LIMIT: u64 = 64 << 20;

fn check(invariant: &str, holds: bool) {
    if !holds {
        panic!("{invariant}");
    }
}

/// A package's file: every path that comes out is plain, and below the root.
pub fn package(bytes: &[u8]) {
    let Ok(entries) = deb::entries_within("fuzz", bytes, &|_| true, LIMIT) else { return };
    entries.iter().for_each(|entry| check("a path reads back", TreePath::new(entry.path.as_str()).as_ref() == Some(&entry.path)));
}

/// A release's archive: everything that comes out is in a place of the recipe.
pub fn archive(bytes: &[u8]) {
    let Ok(tree) = intake::read_tar(Bounded::new(bytes, LIMIT), "fuzz", &intake::browser_places()) else { return };
    let place = |path: &str| path == "opt" || path == "opt/tor-browser" || path.starts_with("opt/tor-browser/");
    tree.iter().for_each(|(path, _)| check("a path is in its place", place(path.as_str())));
}

/// Stanzas: fields have names, and values no outer white space.
pub fn stanzas(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for stanza in deb822::stanzas(text).filter_map(Result::ok) {
        for (name, value) in stanza.fields() {
            check("a field is found by its name", stanza.get(name) == Some(value));
            check("a value has no outer white space", value.trim() == value && !name.is_empty());
        }
    }
}

/// Indexes: every package's path stays below the archive, and a suite's list names what it was asked for.
pub fn indexes(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(packages) = index::parse(Archive::Debian, text) {
        packages.iter().for_each(|package| check("a path stays below", checked_path(&package.file.path).is_some()));
    }
    if let Ok(release) = Release::parse("fuzz", text) {
        check("what is not listed is not found", release.file("fuzz", "not\0listed").is_err());
    }
}

/// What the Tor Project tells of its releases: the address is one of the recipe's, and the version one of the channel.
pub fn releases(bytes: &[u8]) {
    static PROJECT: LazyLock<Option<TorProject>> = LazyLock::new(|| Recipe::embedded(RecipeName::TorBrowser).ok()?.tor_project);
    let Some(project) = PROJECT.as_ref() else { return };
    for channel in [Channel::Release, Channel::Alpha] {
        if let Ok(current) = torproject::parse(project, channel, "fuzz", bytes) {
            check("an address is the recipe's", Within::Origins(&project.origins).holds(&current.binary));
            check("a version is of its channel", Channel::of(&current.version) == channel);
        }
    }
    let name = archive_name(project, Arch::Amd64, "15.0");
    if torproject::checksum(bytes, &name).is_ok() {
        check("what is found is listed", String::from_utf8_lossy(bytes).contains(&name));
    }
}
