//! Packages: the index of one suite, component and architecture (Debian's repository format).
//!
//! It reads text whose digest was signed for. Fields that nobody here needs are not kept.

use crate::{
    debian::{
        deb822::{self, Stanza},
        relation::{self, Relation},
        version::Version,
    },
    digest::Digest,
    error::Error,
    recipe::Archive,
};
use serde::{Deserialize, Serialize};

/// Where a package's file is, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackageFile {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) archive: Archive,
    /// Path below the archive's root.
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
}

impl PackageFile {
    /// The package's name among all packages' (package URL), from which its source is found.
    pub(crate) fn source(&self) -> String {
        format!("pkg:deb/debian/{}@{}", self.name, self.version)
    }
}

/// One package of an index.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) file: PackageFile,
    /// Depends and Pre-Depends.
    pub(crate) depends: Vec<Vec<Relation>>,
    pub(crate) provides: Vec<Relation>,
}

/// Reads the packages of `text`.
pub(crate) fn parse(archive: Archive, text: &str) -> Result<Vec<Package>, Error> {
    let wrong = |line: &str| Error::Package { package: "index".to_owned(), reason: format!("{line:?} is not a control field") };
    deb822::stanzas(text).map(|stanza| package(archive, &stanza.map_err(wrong)?)).collect()
}

fn package(archive: Archive, stanza: &Stanza<'_>) -> Result<Package, Error> {
    let name = stanza.get("Package").unwrap_or("without a name");
    let wrong = |reason: String| Error::Package { package: name.to_owned(), reason };
    let field = |field: &str| stanza.get(field).ok_or_else(|| wrong(format!("it has no {field}")));
    let relations = |field: &str| {
        let text = stanza.get(field).unwrap_or_default();
        relation::parse(text).map_err(|part| wrong(format!("{part:?} in {field} is not a relation")))
    };
    let mut depends = relations("Pre-Depends")?;
    depends.extend(relations("Depends")?);
    let file = PackageFile {
        name: field("Package")?.to_owned(),
        version: Version::new(field("Version")?),
        archive,
        path: checked_path(field("Filename")?).ok_or_else(|| wrong("its Filename is not a path below the archive".to_owned()))?,
        size: field("Size")?.parse().map_err(|_| wrong("its Size is not a number".to_owned()))?,
        sha256: Digest::from_hex(field("SHA256")?)?,
    };
    Ok(Package { file, depends, provides: relations("Provides")?.into_iter().flatten().collect() })
}

/// The path becomes a part of an address: nothing that climbs, and no character that an address would change.
pub(crate) fn checked_path(path: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._~:/".contains(c);
    let good = path.chars().all(plain) && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    good.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Package: a\nVersion: 1\nFilename: pool/a_1.deb\nSize: 3\n\
        SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nPre-Depends: b\nDepends: c | d\nProvides: e (= 2)\n";

    #[test]
    fn packages_are_read() {
        let packages = parse(Archive::Debian, &format!("{GOOD}\n{GOOD}")).unwrap();
        assert_eq!(packages.len(), 2);
        assert_eq!((packages[0].depends.len(), packages[0].provides[0].to_string().as_str()), (2, "e (= 2)"));
    }

    #[test]
    fn malformed_packages_are_refused() {
        for (from, to) in [
            ("Size: 3", "Size: three"),
            ("Filename: pool/", "Filename: ../pool/"),
            ("Filename: pool/", "Filename: /pool/"),
            ("Filename: pool/", "Filename: po ol/"),
            ("SHA256: e", "SHA256: g"),
            ("Version: 1\n", ""),
            ("Depends: c", "Depends: c ("),
            ("Package: a\n", "Package: a\njunk\n"),
        ] {
            assert!(parse(Archive::Debian, &GOOD.replacen(from, to, 1)).is_err(), "{to:?}");
        }
    }
}
