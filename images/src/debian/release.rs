//! InRelease: the signed list of a suite's indexes (Debian's repository format).
//!
//! This reads text whose signature was already checked; it decides whether that text may be used now.

use crate::{debian::deb822, digest::Digest, error::Error};
use chrono::{DateTime, Duration, Utc};
use std::collections::BTreeMap;

/// How far ahead of this machine's clock a suite's date may be.
const CLOCK_TOLERANCE: Duration = Duration::hours(24);

/// What an InRelease file says.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) date: DateTime<Utc>,
    valid_until: Option<DateTime<Utc>>,
    codename: String,
    files: BTreeMap<String, (Digest, u64)>,
}

impl Release {
    /// Reads the signed text of `suite`.
    pub(crate) fn parse(suite: &str, text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Release { suite: suite.to_owned(), reason: reason.to_owned() };
        let mut stanzas = deb822::stanzas(text);
        let stanza = stanzas.next().and_then(Result::ok).ok_or_else(|| wrong("it is not a control file"))?;
        if stanzas.next().is_some() {
            return Err(wrong("it has more than one stanza"));
        }
        let field = |name: &str| stanza.get(name).ok_or_else(|| wrong(&format!("it has no {name}")));
        let date = |text: &str| parse_date(text).ok_or_else(|| wrong(&format!("{text:?} is not a date")));
        Ok(Self {
            date: date(field("Date")?)?,
            valid_until: stanza.get("Valid-Until").map(date).transpose()?,
            codename: field("Codename")?.to_owned(),
            files: parse_files(field("SHA256")?).ok_or_else(|| wrong("its list of SHA256 sums is not well formed"))?,
        })
    }

    /// Fails closed unless this is `suite`, and current at `now`.
    pub(crate) fn check(&self, suite: &str, now: DateTime<Utc>) -> Result<(), Error> {
        if self.codename != suite {
            return Err(Error::Release { suite: suite.to_owned(), reason: format!("its Codename is {}", self.codename) });
        }
        if self.date > now + CLOCK_TOLERANCE {
            return Err(Error::Release { suite: suite.to_owned(), reason: format!("its Date, {}, is in the future", self.date) });
        }
        match self.valid_until {
            Some(until) if until < now => Err(Error::Expired { suite: suite.to_owned(), expired: until.to_string() }),
            _ => Ok(()),
        }
    }

    /// Digest and size of the file at `path` below the suite.
    pub(crate) fn file(&self, suite: &str, path: &str) -> Result<(Digest, u64), Error> {
        self.files.get(path).copied().ok_or_else(|| Error::Release { suite: suite.to_owned(), reason: format!("it lists no {path}") })
    }
}

/// `<sha256> <size> <path>` lines; none when one is malformed or a path is there twice with different sums.
fn parse_files(text: &str) -> Option<BTreeMap<String, (Digest, u64)>> {
    let mut files = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_ascii_whitespace();
        let (Some(hex), Some(size), Some(path), None) = (words.next(), words.next(), words.next(), words.next()) else { return None };
        let value = (Digest::from_hex(hex).ok()?, size.parse().ok()?);
        if files.insert(path.to_owned(), value).is_some_and(|old| old != value) {
            return None;
        }
    }
    Some(files)
}

/// `Sat, 21 Nov 2026 09:15:44 UTC`: RFC 2822 with a zone name that only Debian writes.
fn parse_date(text: &str) -> Option<DateTime<Utc>> {
    let text = text.strip_suffix(" UTC").map_or_else(|| text.to_owned(), |text| format!("{text} +0000"));
    DateTime::parse_from_rfc2822(&text).ok().map(|date| date.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn release(extra: &str) -> Result<Release, Error> {
        Release::parse("trixie", &format!("Codename: trixie\nDate: Sat, 21 Nov 2026 09:15:44 UTC\n{extra}SHA256:\n {SUM} 0 main/x\n"))
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn dates_decide() {
        let valid = "Valid-Until: Sat, 28 Nov 2026 09:15:44 UTC\n";
        let good = release(valid).unwrap();
        assert_eq!(good.date, at("2026-11-21T09:15:44Z"));
        assert_eq!(good.file("trixie", "main/x").unwrap(), (Digest::of(b""), 0));
        good.check("trixie", at("2026-11-28T09:15:44Z")).unwrap();
        assert!(matches!(good.check("trixie", at("2026-11-28T09:15:45Z")), Err(Error::Expired { .. })));
        assert!(good.check("trixie", at("2026-11-20T09:15:43Z")).unwrap_err().to_string().contains("in the future"));
        release("").unwrap().check("trixie", at("2030-01-01T00:00:00Z")).unwrap();
    }

    #[test]
    fn another_suite_and_malformed_text_are_refused() {
        let other = release("").unwrap().check("trixie-security", at("2026-11-22T00:00:00Z")).unwrap_err();
        assert!(other.to_string().contains("Codename is trixie"), "{other}");
        assert!(release("").unwrap().file("trixie", "main/y").is_err());
        for extra in ["Valid-Until: soon\n", "Date: again\n", "\nSecond: stanza\n"] {
            assert!(release(extra).is_err(), "{extra:?}");
        }
        for sums in ["xyz 0 a", "", &format!("{SUM} a b"), &format!("{SUM} 0 a b"), &format!("{SUM} 0 a\n {SUM} 1 a")] {
            let parsed = Release::parse("s", &format!("Codename: s\nDate: Sat, 21 Nov 2026 09:15:44 UTC\nSHA256:\n {sums}\n"));
            assert_eq!(parsed.is_err(), !sums.is_empty(), "{sums:?}");
        }
    }
}
