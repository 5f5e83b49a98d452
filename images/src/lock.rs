//! The lock: every input of an image by name and digest, written beside it, so that it can be built again bit for bit.

use crate::{
    debian::index::{PackageFile, checked_path},
    digest::{Digest, Fingerprint},
    error::Error,
    names::{Arch, RecipeName},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// The inputs of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    pub(crate) recipe: RecipeName,
    pub(crate) arch: Arch,
    /// The browser's archive, where the Tor Project's releases are the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) release: Option<LockedRelease>,
    /// The package that the browser is packed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) browser: Option<PackageFile>,
    #[serde(rename = "package")]
    pub(crate) packages: Vec<PackageFile>,
}

/// A release of the browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedRelease {
    pub(crate) version: String,
    pub(crate) sha256: Digest,
    /// When it was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signed: Option<DateTime<Utc>>,
}

impl Lock {
    /// Reads the lock at `path`, which must be for this recipe and architecture.
    pub(crate) fn load(path: &Path, recipe: RecipeName, arch: Arch) -> Result<Self, Error> {
        Self::parse(path, &fs::read_to_string(path).map_err(Error::io("read", path))?, recipe, arch)
    }

    /// The lock that torbox carries.
    pub(crate) fn carried(recipe: RecipeName, arch: Arch) -> Result<Self, Error> {
        let text = match (recipe, arch) {
            (RecipeName::Tor, Arch::Amd64) => include_str!("../locks/tor-amd64.toml"),
            (RecipeName::Tor, Arch::Arm64) => include_str!("../locks/tor-arm64.toml"),
            (RecipeName::TorTransports, Arch::Amd64) => include_str!("../locks/tor-transports-amd64.toml"),
            (RecipeName::TorTransports, Arch::Arm64) => include_str!("../locks/tor-transports-arm64.toml"),
            (RecipeName::TorBundle, Arch::Amd64) => include_str!("../locks/tor-bundle-amd64.toml"),
            (RecipeName::TorBundle, Arch::Arm64) => include_str!("../locks/tor-bundle-arm64.toml"),
            (RecipeName::TorBrowser, Arch::Amd64) => include_str!("../locks/tor-browser-amd64.toml"),
            (RecipeName::TorBrowser, Arch::Arm64) => include_str!("../locks/tor-browser-arm64.toml"),
            (RecipeName::FirefoxEsr, Arch::Amd64) => include_str!("../locks/firefox-esr-amd64.toml"),
            (RecipeName::FirefoxEsr, Arch::Arm64) => include_str!("../locks/firefox-esr-arm64.toml"),
        };
        Self::parse(Path::new(&format!("locks/{recipe}-{arch}.toml")), text, recipe, arch)
    }

    fn parse(path: &Path, text: &str, recipe: RecipeName, arch: Arch) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Lock { path: path.to_owned(), reason };
        let lock: Self = toml::from_str(text).map_err(|e| wrong(e.message().to_owned()))?;
        if (lock.recipe, lock.arch) != (recipe, arch) {
            return Err(wrong(format!("it is for {} on {}", lock.recipe, lock.arch)));
        }
        let all = || lock.packages.iter().chain(&lock.browser);
        match all().find(|package| checked_path(&package.path).is_none()) {
            Some(package) => Err(wrong(format!("{:?} is not a path below the archive", package.path))),
            None => Ok(lock),
        }
    }

    pub(crate) fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|_| Error::Internal("a lock that is not TOML"))
    }

    /// The digests of all inputs.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        let packages = self.packages.iter().chain(&self.browser).map(|package| package.sha256);
        packages.chain(self.release.iter().map(|release| release.sha256))
    }

    /// Identifies all inputs.
    pub(crate) fn digest(&self) -> Result<Digest, Error> {
        Ok(Digest::of(self.to_toml()?.as_bytes()))
    }

    /// Identifies the packages; addresses do not count, only what the packages are.
    pub(crate) fn packages_digest(&self) -> Digest {
        self.packages.iter().fold(Fingerprint::new("packages"), |sum, package| sum.with(package.sha256.to_string().as_bytes())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{debian::version::Version, recipe::Archive};

    #[test]
    fn every_carried_lock_is_of_its_recipe() {
        for recipe in RecipeName::ALL {
            for arch in [Arch::Amd64, Arch::Arm64] {
                let lock = Lock::carried(recipe, arch).unwrap();
                assert!(lock.packages.len() > 1 && lock.browser.is_some() == (recipe == RecipeName::FirefoxEsr), "{recipe} {arch}");
            }
        }
    }

    #[test]
    fn a_lock_reads_back_and_is_checked() {
        let package = |path: &str| PackageFile { name: "a".into(), version: Version::new("1"), archive: Archive::DebianSecurity, path: path.into(), size: 3, sha256: Digest::of(b"a") };
        let release = LockedRelease { version: "15.0".into(), sha256: Digest::of(b"r"), signed: Some("2026-09-29T13:06:31Z".parse().unwrap()) };
        let lock = Lock { recipe: RecipeName::Tor, arch: Arch::Amd64, release: Some(release), browser: Some(package("pool/b")), packages: vec![package("pool/a")] };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let load = |text: &str, arch| {
            fs::write(&path, text).unwrap();
            Lock::load(&path, RecipeName::Tor, arch)
        };
        let text = lock.to_toml().unwrap();
        assert_eq!(load(&text, Arch::Amd64).unwrap(), lock);
        assert!(load(&text, Arch::Arm64).unwrap_err().to_string().contains("for tor on amd64"));
        assert!(load(&text.replace("pool/a", "../a"), Arch::Amd64).is_err());
        assert!(load(&format!("extra = 1\n{text}"), Arch::Amd64).unwrap_err().to_string().contains("extra"));
    }
}
