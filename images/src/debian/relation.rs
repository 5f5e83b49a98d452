//! Relations between packages: the value of Depends, Pre-Depends and Provides (deb-control(5), Debian Policy 7.1).

use crate::debian::version::Version;
use std::fmt;

/// One package that is named, perhaps with a bound on its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) name: String,
    pub(crate) bound: Option<(Operator, Version)>,
}

/// How a version is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Earlier,
    AtMost,
    Exactly,
    AtLeast,
    Later,
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "<<" => Some(Self::Earlier),
            "<=" => Some(Self::AtMost),
            "=" => Some(Self::Exactly),
            ">=" => Some(Self::AtLeast),
            ">>" => Some(Self::Later),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::AtMost => "<=",
            Self::Exactly => "=",
            Self::AtLeast => ">=",
            Self::Later => ">>",
        }
    }

    fn holds(self, have: &Version, want: &Version) -> bool {
        match self {
            Self::Earlier => have < want,
            Self::AtMost => have <= want,
            Self::Exactly => have == want,
            Self::AtLeast => have >= want,
            Self::Later => have > want,
        }
    }
}

impl Relation {
    /// Reads `name[:arch] [(operator version)] [[architectures]]`; architectures are ignored.
    fn parse(text: &str) -> Option<Self> {
        let text = text.split('[').next()?.trim();
        let (name, bound) = match text.split_once('(') {
            None => (text, None),
            Some((name, bound)) => (name, Some(parse_bound(bound.strip_suffix(')')?)?)),
        };
        let name = name.trim().split(':').next()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
        (!name.is_empty() && name.chars().all(plain)).then(|| Self { name: name.to_owned(), bound })
    }

    /// Whether `version` is within the bound; an unversioned thing is within no bound.
    pub(crate) fn admits(&self, version: Option<&Version>) -> bool {
        match (&self.bound, version) {
            (None, _) => true,
            (Some((operator, want)), Some(have)) => operator.holds(have, want),
            (Some(_), None) => false,
        }
    }
}

fn parse_bound(text: &str) -> Option<(Operator, Version)> {
    let text = text.trim();
    let end = text.find(|c| !"<>=".contains(c))?;
    let (operator, version) = (text.get(..end)?, text.get(end..)?.trim());
    (!version.is_empty()).then_some((Operator::parse(operator)?, Version::new(version)))
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.bound.as_ref().map_or(Ok(()), |(operator, version)| write!(f, " ({} {version})", operator.as_str()))
    }
}

/// Reads `a (>= 1) | b, c`: a list of alternatives; an error is the part that is not well formed.
pub(crate) fn parse(text: &str) -> Result<Vec<Vec<Relation>>, &str> {
    let groups = text.split(',').map(str::trim).filter(|group| !group.is_empty());
    groups.map(|group| group.split('|').map(|one| Relation::parse(one).ok_or(group)).collect()).collect()
}

/// The alternatives as they are written in a control file.
pub(crate) fn display(alternatives: &[Relation]) -> String {
    alternatives.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_and_written() {
        let groups = parse("libc6 (>= 2.38), a:any | b(<<1), c [amd64], d (= 1:2-3) [linux-any],").unwrap();
        let written: Vec<_> = groups.iter().map(|group| display(group)).collect();
        assert_eq!(written, ["libc6 (>= 2.38)", "a | b (<< 1)", "c", "d (= 1:2-3)"]);
        for bad in ["a (", "a (>= )", "a (!= 1)", "a b", "(>= 1)", "a | "] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bounds_hold_or_not() {
        let admits = |relation: &str, version: &str| parse(relation).unwrap()[0][0].admits(Some(&Version::new(version)));
        for (relation, version, expected) in [
            ("a", "1", true),
            ("a (>= 2)", "2", true),
            ("a (>= 2)", "2~", false),
            ("a (>> 2)", "2", false),
            ("a (<< 2)", "2~", true),
            ("a (<= 2)", "2", true),
            ("a (= 2)", "2-1", false),
        ] {
            assert_eq!(admits(relation, version), expected, "{relation} {version}");
        }
        assert!(!parse("a (>= 1)").unwrap()[0][0].admits(None));
    }
}
