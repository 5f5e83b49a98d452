//! What can go wrong while an image is built or unpacked, each with the name of the thing that was wrong.
//!
//! Causes are in the source chain only; what to do next is in [`Error::hint`], never in the message.

use crate::{
    digest::Digest,
    names::{Arch, RecipeName},
};
use std::{io, path::PathBuf, sync::Arc};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, e.g. "read".
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A name of the caller's does not have the form that its type asks for.
    #[error("{value:?} is not {expected}")]
    Name {
        /// What was given.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// A recipe, or the list of suites, is not well formed.
    #[error("recipe {name}: {reason}")]
    Recipe {
        /// The recipe's name, or the file's.
        name: String,
        /// What is wrong; an unknown key is named.
        reason: String,
    },
    /// No package mirror is known.
    #[error("no mirror of Debian's {archive} archive is known")]
    NoMirror {
        /// `debian` or `debian-security`.
        archive: &'static str,
    },
    /// A server did not give what was asked for.
    #[error("cannot fetch {url}")]
    Fetch {
        /// The address.
        url: String,
        /// Why.
        source: Arc<ureq::Error>,
    },
    /// A server sent more, or less, than was announced.
    #[error("{url} is {got} bytes long, {expected} were expected")]
    Length {
        /// The address.
        url: String,
        /// Bytes announced or allowed.
        expected: u64,
        /// Bytes received.
        got: u64,
    },
    /// Bytes do not have the digest that a signed document names.
    #[error("{what} has the checksum {got}, {expected} is signed for")]
    Checksum {
        /// The file, package or address.
        what: String,
        /// The signed digest.
        expected: Digest,
        /// The digest of what arrived.
        got: Digest,
    },
    /// A certificate could not be read, or is not the pinned one.
    #[error("certificate {name}: {reason}")]
    Certificate {
        /// Where it came from.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A signature does not hold.
    #[error("the signature of {what} is not valid: {reason}")]
    Signature {
        /// What was signed.
        what: String,
        /// What is wrong, from the OpenPGP library.
        reason: String,
    },
    /// A signature was made by a key that the pinned certificate does not hold.
    #[error("{what} is signed by key {key}, which the known certificate of {primary} does not hold")]
    UnknownKey {
        /// What was signed.
        what: String,
        /// The issuer that the signature names.
        key: String,
        /// The pinned primary fingerprints.
        primary: String,
    },
    /// A signature was made by a key of the pinned certificate that counts for nothing.
    #[error("{what} is signed by key {key}, which must not be used: {reason}")]
    DeadKey {
        /// What was signed.
        what: String,
        /// The key.
        key: String,
        /// Why it counts for nothing: expired, revoked, or not bound to its certificate.
        reason: String,
    },
    /// A release is so old that a newer one must be there.
    #[error("version {version} was signed on {signed}, {days} days ago: newer releases may be kept from you")]
    Stale {
        /// The version.
        version: String,
        /// The day of the signature.
        signed: String,
        /// How long that is ago.
        days: i64,
    },
    /// A server sends the client to where it must not go.
    #[error("{url} leads to {to:?}, which is no address to go to from there")]
    Redirect {
        /// The address that was asked.
        url: String,
        /// Where it led.
        to: String,
    },
    /// A file is not in the cache, and no address of it is known.
    #[error("{what} is not in the download cache, and no address of it is known")]
    NoSource {
        /// The file.
        what: String,
    },
    /// A signed index of packages cannot be used.
    #[error("{suite}: {reason}")]
    Release {
        /// The suite, e.g. `trixie-security`.
        suite: String,
        /// What is wrong with its InRelease file.
        reason: String,
    },
    /// A signed index is older than it may be.
    #[error("{suite}: the signed index expired on {expired}")]
    Expired {
        /// The suite.
        suite: String,
        /// Its Valid-Until.
        expired: String,
    },
    /// A signed index is older than one seen before.
    #[error("{suite}: what is offered was signed on {offered}, before what was seen already ({seen})")]
    RolledBack {
        /// The suite.
        suite: String,
        /// The date offered.
        offered: String,
        /// The date seen before.
        seen: String,
    },
    /// A package's description or file is not well formed.
    #[error("package {package}: {reason}")]
    Package {
        /// The package, with its version where it is known.
        package: String,
        /// What is wrong.
        reason: String,
    },
    /// A dependency cannot be met.
    #[error("{needed_by} needs {relation}, which no package offers")]
    Unsatisfiable {
        /// Who needs it: a package or the recipe.
        needed_by: String,
        /// What is needed.
        relation: String,
    },
    /// A library that a program needs is not in the image.
    #[error("{needed_by} needs the library {soname}, which no package of the recipe holds")]
    MissingLibrary {
        /// The program or library that needs it.
        needed_by: String,
        /// The library's soname.
        soname: String,
    },
    /// Nothing in the packages matches a pattern of the recipe.
    #[error("recipe {recipe}: nothing in its packages matches {pattern}")]
    NoMatch {
        /// The recipe.
        recipe: String,
        /// The pattern.
        pattern: String,
    },
    /// A browser archive holds something that is never unpacked.
    #[error("{archive}: entry {entry:?} {reason}")]
    Entry {
        /// The archive's name.
        archive: String,
        /// The entry's path, as it is in the archive.
        entry: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A browser archive is not well formed.
    #[error("{archive}: {reason}")]
    Archive {
        /// The archive's name.
        archive: String,
        /// What is wrong.
        reason: String,
    },
    /// The release index of the browser cannot be used.
    #[error("release index {url}: {reason}")]
    ReleaseIndex {
        /// Its address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// An older browser would replace a newer one.
    #[error("{name} {offered} is older than {installed}, which is installed")]
    Downgrade {
        /// The image.
        name: String,
        /// The version offered.
        offered: String,
        /// The version in the store.
        installed: String,
    },
    /// There is no earlier image to go back to.
    #[error("no image was there before the current {name}")]
    NoPrevious {
        /// The image.
        name: String,
    },
    /// One of torbox's own programs cannot go into the image.
    #[error("{} is not a program for {arch}", path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// The image's architecture.
        arch: Arch,
    },
    /// The recipe takes no browser archive.
    #[error("recipe {0} takes no release files")]
    NoRelease(RecipeName),
    /// A lock does not fit the request.
    #[error("lock {}: {reason}", path.display())]
    Lock {
        /// The lock's path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The image store is damaged.
    #[error("image store {}: {reason}", path.display())]
    Store {
        /// The file that is wrong.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Something that the code rules out happened all the same.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl Error {
    /// What the user can do about it, if anything is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Some("free some space and run it again: nothing half-written is kept"),
            Self::NoMirror { .. } => Some("name a mirror with --mirror URL (one for debian, one for debian-security)"),
            Self::Fetch { url, .. } if is_release_host(url) => Some("fetch the tarball and its signature another way and pass them with --tarball FILE --signature FILE"),
            Self::Fetch { .. } => Some("check the network and the mirror's address; --mirror URL names another one"),
            Self::Program { .. } => Some("build torbox's programs for that architecture, and name their directory with TORBOX_LIBEXEC"),
            Self::NoSource { .. } => Some("name a mirror with --mirror URL (one for debian, one for debian-security)"),
            Self::DeadKey { .. } => Some("a newer copy of the certificate may tell of a newer key: pass the Tor Project's with --key FILE; Debian's comes with a newer torbox"),
            Self::Stale { .. } => Some("if you know by other means that there is none newer, pass its date with --accept-old YYYY-MM-DD"),
            Self::UnknownKey { .. } => Some("a newer copy of the certificate may hold the key: fetch it and pass it with --key FILE"),
            Self::Expired { .. } => Some("the mirror is out of date, or the clock is wrong: check the date, or name another mirror with --mirror URL"),
            Self::RolledBack { .. } => Some("the server is out of date, or keeps newer data from you: try again later, or another one (--mirror URL for packages)"),
            Self::Length { .. } | Self::Checksum { .. } => Some("the mirror may be in the middle of an update: try again, or name another one with --mirror URL"),
            Self::Certificate { .. } => Some("only a certificate with the pinned primary key is accepted"),
            Self::Store { .. } => Some("the store is damaged or of another version of torbox: remove its directory, then torbox build makes the images again"),
            _ => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

fn is_release_host(url: &str) -> bool {
    url.split('/').nth(2).is_some_and(|host| host == "torproject.org" || host.ends_with(".torproject.org"))
}
