//! The signed indexes of an archive: fetched from any mirror, believed only where the pinned keys signed them.

use crate::{
    debian::{
        index::{self, Package, PackageFile},
        release::Release,
    },
    digest::{Digest, Fingerprint},
    error::Error,
    fetch::{Fetcher, Size, Wanted, Within},
    mirror::Mirror,
    names::Arch,
    recipe::{Archive, Suite},
    trust::Trust,
    unpack,
};
use chrono::{DateTime, Utc};
use std::{
    collections::BTreeMap,
    fmt,
    io::Read,
    sync::{Arc, Mutex},
};

const RELEASE_LIMIT: u64 = 8 << 20;
const INDEX_LIMIT: u64 = 512 << 20;

/// The newest date of each suite's index that was ever believed, by codename: an older one is a rollback.
pub(crate) type Seen = BTreeMap<String, DateTime<Utc>>;

/// A suite's signed and current list of indexes.
pub(crate) struct Signed<'s> {
    suite: &'s Suite,
    release: Release,
    digest: Digest,
}

/// A client of the archive for one build.
pub(crate) struct Client<'c> {
    pub(crate) fetcher: &'c Fetcher,
    pub(crate) mirrors: &'c [Mirror],
    pub(crate) arch: Arch,
}

impl Client<'_> {
    /// Fetches and judges the InRelease file of every suite, and brings `seen` up to date.
    pub(crate) fn releases<'s>(&self, trust: &'s Trust, seen: &mut Seen, now: DateTime<Utc>) -> Result<Vec<Signed<'s>>, Error> {
        trust.suites.iter().map(|suite| self.release(suite, trust, seen, now)).collect()
    }

    /// Tries every mirror; when none will do, the first one's error is told.
    fn release<'s>(&self, suite: &'s Suite, trust: &Trust, seen: &mut Seen, now: DateTime<Utc>) -> Result<Signed<'s>, Error> {
        let keyring = trust.keyring(&suite.keys)?;
        let mut first = None;
        for url in self.urls(suite.archive, &format!("dists/{}/InRelease", suite.codename)) {
            let attempt = self.fetcher.small(std::slice::from_ref(&url), Within::Anywhere, RELEASE_LIMIT).and_then(|signed| {
                let text = keyring.verify_inline(&url, &signed, now)?;
                let text = String::from_utf8(text).map_err(|_| Error::Release { suite: suite.codename.clone(), reason: "it is not text".to_owned() })?;
                let release = Release::parse(&suite.codename, &text)?;
                release.check(&suite.codename, now)?;
                refuse_rollback(&suite.codename, &release, seen)?;
                Ok(Signed { suite, release, digest: Digest::of(text.as_bytes()) })
            });
            match attempt {
                Ok(signed) => {
                    seen.insert(suite.codename.clone(), signed.release.date);
                    return Ok(signed);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(Error::NoMirror { archive: suite.archive.as_str() }))
    }

    /// The packages of all suites, for one architecture and for all of them.
    pub(crate) fn packages(&self, releases: &[Signed<'_>]) -> Result<Vec<Package>, Error> {
        let mut packages = Vec::new();
        for signed in releases {
            let suite = signed.suite;
            let path = format!("{}/binary-{}/Packages.xz", suite.component, self.arch);
            let (sha256, size) = signed.release.file(&suite.codename, &path)?;
            let (dir, _) = path.rsplit_once('/').ok_or(Error::Internal("an index path without a directory"))?;
            let by_hash = format!("dists/{}/{dir}/by-hash/SHA256/{}", suite.codename, sha256.hex());
            let by_name = format!("dists/{}/{path}", suite.codename);
            let urls = [by_hash, by_name].iter().flat_map(|path| self.urls(suite.archive, path)).collect();
            let compressed = self.fetcher.bytes(&Wanted { what: format!("{} {path}", suite.codename), urls, within: Within::Anywhere, sha256, size: Size::Exactly(size) })?;
            packages.extend(index::parse(suite.archive, &decompress(&suite.codename, &compressed)?)?);
        }
        Ok(packages)
    }

    /// What to fetch for `package`.
    pub(crate) fn wanted(&self, package: &PackageFile) -> Wanted<'static> {
        let what = format!("package {} {}", package.name, package.version);
        Wanted { what, urls: self.urls(package.archive, &package.path), within: Within::Anywhere, sha256: package.sha256, size: Size::Exactly(package.size) }
    }

    fn urls(&self, archive: Archive, path: &str) -> Vec<String> {
        let mirrors = self.mirrors.iter().filter(|mirror| mirror.archive() == archive);
        mirrors.map(|mirror| format!("{}/{path}", mirror.url())).collect()
    }
}

/// What the suites' indexes say: read once for all builds that share this.
#[derive(Clone, Default)]
pub struct Indexes(Arc<Mutex<Option<LastRead>>>);

/// The digest of the indexes, and their packages.
type LastRead = (Digest, Arc<Vec<Package>>);

impl Indexes {
    /// The packages of the indexes with the digest `of`: those that were read last, or what `read` returns.
    pub(crate) fn packages(&self, of: Digest, read: impl FnOnce() -> Result<Vec<Package>, Error>) -> Result<Arc<Vec<Package>>, Error> {
        let mut last = self.0.lock().map_err(|_| Error::Internal("a thread ended early"))?;
        match &*last {
            Some((digest, packages)) if *digest == of => Ok(Arc::clone(packages)),
            _ => {
                let packages = Arc::new(read()?);
                *last = Some((of, Arc::clone(&packages)));
                Ok(packages)
            }
        }
    }
}

impl fmt::Debug for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Indexes")
    }
}

/// Identifies what the suites say, so that a choice made from it can be kept.
pub(crate) fn fingerprint(releases: &[Signed<'_>]) -> Digest {
    let parts = releases.iter().fold(Fingerprint::new("releases"), |sum, signed| sum.with(signed.digest.to_string().as_bytes()));
    parts.finish()
}

fn refuse_rollback(suite: &str, release: &Release, seen: &Seen) -> Result<(), Error> {
    match seen.get(suite) {
        Some(seen) if release.date < *seen => Err(Error::RolledBack { suite: suite.to_owned(), offered: release.date.to_string(), seen: seen.to_string() }),
        _ => Ok(()),
    }
}

fn decompress(suite: &str, compressed: &[u8]) -> Result<String, Error> {
    let wrong = |e: std::io::Error| Error::Release { suite: suite.to_owned(), reason: format!("its index cannot be unpacked: {e}") };
    let mut reader = unpack::decompress_bytes(".xz", compressed, INDEX_LIMIT).map_err(wrong)?.ok_or(Error::Internal("xz is known"))?;
    let mut text = String::new();
    reader.read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}
