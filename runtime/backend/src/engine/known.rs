//! Versions of engines that a box must not run on, with the reason and the first good version.

use super::error::EngineError;
use std::fmt;
use torbox_plan::engine::Dialect;

/// A version, as far as it orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `20.10.24+dfsg1`, `4.3.1`, `28.0.0-rc.1`; what is missing is 0.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = text.split(['+', '-', '~']).next()?;
        let mut parts = numbers.trim_start_matches('v').split('.').map(str::parse::<u32>);
        let mut next = || parts.next().unwrap_or(Ok(0)).ok();
        Some(Self(next()?, next()?, next()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// From `first` up to, but without, `good`.
struct Hole {
    dialect: Dialect,
    first: Version,
    good: (Version, &'static str),
    reason: &'static str,
}

const OLDEST: [(Dialect, Version, &str); 2] = [(Dialect::Docker, Version(20, 10, 0), "Docker 20.10"), (Dialect::Podman, Version(4, 0, 0), "Podman 4.0")];

const HOLES: [Hole; 6] = [
    Hole { dialect: Dialect::Docker, first: Version(20, 10, 0), good: (Version(20, 10, 14), "Docker 20.10.14"), reason: "containers are started with inheritable capabilities (CVE-2022-24769)" },
    Hole { dialect: Dialect::Docker, first: Version(23, 0, 0), good: (Version(23, 0, 11), "Docker 23.0.11"), reason: "the engine's resolver forwards the names of containers without a way out (CVE-2024-29018)" },
    Hole { dialect: Dialect::Docker, first: Version(25, 0, 0), good: (Version(25, 0, 5), "Docker 25.0.5"), reason: "the engine's resolver forwards the names of containers without a way out (CVE-2024-29018)" },
    Hole { dialect: Dialect::Docker, first: Version(26, 0, 0), good: (Version(26, 0, 2), "Docker 26.0.2"), reason: "interfaces get IPv6 addresses that nobody asked for (CVE-2024-32473)" },
    Hole { dialect: Dialect::Docker, first: Version(28, 2, 0), good: (Version(28, 3, 3), "Docker 28.3.3"), reason: "a reload of the firewall drops the isolation of containers (CVE-2025-54388)" },
    Hole { dialect: Dialect::Podman, first: Version(4, 0, 0), good: (Version(4, 0, 3), "Podman 4.0.3"), reason: "containers are started with inheritable capabilities (CVE-2022-27649)" },
];

/// Refuses what is too old or has a known hole.
pub(super) fn check(dialect: Dialect, version: Version) -> Result<(), EngineError> {
    let (name, told) = (dialect.name(), version.to_string());
    if let Some((.., good)) = OLDEST.iter().find(|(of, oldest, _)| *of == dialect && version < *oldest) {
        return Err(EngineError::TooOld { name, version: told, good });
    }
    let hole = HOLES.iter().find(|hole| hole.dialect == dialect && (hole.first..hole.good.0).contains(&version));
    hole.map_or(Ok(()), |hole| Err(EngineError::KnownHole { name, version: told, reason: hole.reason, good: hole.good.1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        let cases = [("20.10.24+dfsg1", Some(Version(20, 10, 24))), ("4.3.1", Some(Version(4, 3, 1))), ("v28.0-rc.1", Some(Version(28, 0, 0))), ("x", None), ("", None)];
        for (text, version) in cases {
            assert_eq!(Version::parse(text), version, "{text}");
        }
    }

    #[test]
    fn known_holes_are_refused_with_the_first_good_version() {
        let of = |dialect, version| check(dialect, version).err().map(|error| (error.to_string(), error.hint().unwrap()));
        for good in [Version(20, 10, 24), Version(24, 0, 0), Version(25, 0, 5), Version(26, 1, 5), Version(28, 3, 3)] {
            assert_eq!(of(Dialect::Docker, good), None, "{good}");
        }
        let (error, hint) = of(Dialect::Docker, Version(26, 0, 1)).unwrap();
        assert!(error.contains("CVE-2024-32473") && hint.starts_with("Docker 26.0.2 "), "{error} {hint}");
        assert!(of(Dialect::Docker, Version(19, 3, 15)).unwrap().0.contains("too old"));
        assert!(of(Dialect::Podman, Version(4, 0, 2)).unwrap().0.contains("CVE-2022-27649"));
        assert_eq!(of(Dialect::Podman, Version(4, 3, 1)), None);
    }
}
