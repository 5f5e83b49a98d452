//! Debian's package versions and their order (deb-version(7)).

use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt};

/// A package's version: `[epoch:]upstream[-revision]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Version(String);

impl Version {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Epoch, upstream version and revision.
    fn parts(&self) -> (u64, &str, &str) {
        let (epoch, rest) = self.0.split_once(':').unwrap_or(("0", &self.0));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        (epoch.parse().unwrap_or(0), upstream, revision)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((e1, u1, r1), (e2, u2, r2)) = (self.parts(), other.parts());
        e1.cmp(&e2).then_with(|| compare(u1.as_bytes(), u2.as_bytes())).then_with(|| compare(r1.as_bytes(), r2.as_bytes()))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

/// Alternating runs: non-digits by [`weight`], then digits by value.
fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let ((text_a, rest_a), (text_b, rest_b)) = (split(a, |c| !c.is_ascii_digit()), split(b, |c| !c.is_ascii_digit()));
        let ((digits_a, rest_a), (digits_b, rest_b)) = (split(rest_a, |c| c.is_ascii_digit()), split(rest_b, |c| c.is_ascii_digit()));
        let order = compare_text(text_a, text_b).then_with(|| compare_digits(digits_a, digits_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

fn split(text: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|c| !belongs(c)).unwrap_or(text.len()))
}

fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    let weights = |text: &[u8]| text.iter().map(|c| weight(*c)).chain([0]).collect::<Vec<_>>();
    weights(a).cmp(&weights(b))
}

/// `~` before the end, the end before letters, letters before everything else.
fn weight(c: u8) -> i32 {
    match c {
        b'~' => -1,
        c if c.is_ascii_alphabetic() => i32::from(c),
        c => i32::from(c) + 256,
    }
}

fn compare_digits(a: &[u8], b: &[u8]) -> Ordering {
    let (_, a) = split(a, |c| *c == b'0');
    let (_, b) = split(b, |c| *c == b'0');
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ordering::{Equal, Greater, Less};

    // Each row was checked with `dpkg --compare-versions`.
    const TABLE: [(&str, Ordering, &str); 20] = [
        ("1.0", Equal, "1.0"),
        ("1.0", Equal, "1.0-0"),
        ("0:1.0", Equal, "1.0"),
        ("1.00", Equal, "1.0"),
        ("1", Equal, "1-0"),
        ("1.0~rc1", Less, "1.0"),
        ("1.0~~", Less, "1.0~"),
        ("1.0", Less, "1.0a"),
        ("1.0a", Less, "1.0+"),
        ("1.9", Less, "1.10"),
        ("1:0.1", Greater, "9.9"),
        ("1.0-1", Less, "1.0-1+deb13u1"),
        ("1.0-1~bpo1", Less, "1.0-1"),
        ("153.7.0esr-1~deb13u1", Greater, "153.5.1esr-1~deb13u1"),
        ("1.2-3-4", Greater, "1.2-3"),
        ("15.0.9", Less, "15.0.24"),
        ("15.0a1", Greater, "15.0"),
        ("1.0.", Greater, "1.0"),
        ("2:4.36-1", Greater, "2:4.35-9"),
        ("1.0-a", Less, "1.0-b"),
    ];

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        for (a, expected, b) in TABLE {
            assert_eq!(Version::new(a).cmp(&Version::new(b)), expected, "{a} {b}");
            assert_eq!(Version::new(b).cmp(&Version::new(a)), expected.reverse(), "{b} {a}");
        }
    }

    #[test]
    fn dpkg_agrees_with_the_table() {
        for (a, expected, b) in TABLE {
            let relation = match expected {
                Less => "lt",
                Equal => "eq",
                Greater => "gt",
            };
            let Ok(status) = std::process::Command::new("dpkg").args(["--compare-versions", a, relation, b]).status() else {
                return crate::testing::skip("dpkg");
            };
            assert!(status.success(), "{a} {relation} {b}");
        }
    }
}
