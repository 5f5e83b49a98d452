//! What the init of a container says of the proof that it makes before its program starts: one line.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How each line of an audit begins that is made beside a running program; alone it is the last. A browser that was taken over can say the
/// same: what is tried beside it proves nothing against it.
pub const BESIDE: &str = "audit: ";

/// The outcome of a proof that did not fail. One that fails is an exit of init with an error, and nothing is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Proof {
    /// In the browser's container: every attempt to get out failed.
    Held {
        /// How many.
        attempts: u32,
        /// How long all of them took.
        micros: u32,
        /// How much of its Landlock domain the kernel enforces.
        landlock: Landlock,
    },
    /// In tor's container: the same attempts find a network.
    Uplink,
    /// In tor's container: they find its sockets, and no network, because this machine has none.
    NoNetwork,
}

/// How much of what a Landlock domain gives up the kernel enforces; where it enforces none of it nothing is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Landlock {
    /// All.
    Whole,
    /// What there is in this kernel.
    Part,
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "whole",
            Self::Part => "part",
        })
    }
}

impl Landlock {
    fn parse(word: &str) -> Option<Self> {
        [Self::Whole, Self::Part].into_iter().find(|landlock| landlock.to_string() == word)
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { attempts, micros, landlock } => write!(f, "proof: held {attempts} {micros} {landlock}"),
            Self::Uplink => f.write_str("proof: uplink"),
            Self::NoNetwork => f.write_str("proof: no-network"),
        }
    }
}

impl Proof {
    /// Reads the line that [`fmt::Display`] writes; anything else is none.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.strip_prefix("proof: ")?.split(' ').collect();
        match words.as_slice() {
            ["held", attempts, micros, landlock] => {
                Some(Self::Held { attempts: attempts.parse().ok()?, micros: micros.parse().ok()?, landlock: Landlock::parse(landlock)? })
            }
            ["uplink"] => Some(Self::Uplink),
            ["no-network"] => Some(Self::NoNetwork),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_as_written_and_nothing_else_is() {
        let held = |landlock| Proof::Held { attempts: 231, micros: 4100, landlock };
        for proof in [held(Landlock::Whole), held(Landlock::Part), Proof::Uplink, Proof::NoNetwork] {
            assert_eq!(Proof::parse(&proof.to_string()), Some(proof));
        }
        for other in ["", "proof: ", "proof: held", "proof: held x 1 part", "proof: held 1 2", "proof: held 1 2 none", " proof: uplink", "proof: uplink now"] {
            assert_eq!(Proof::parse(other), None, "{other:?}");
        }
    }
}
