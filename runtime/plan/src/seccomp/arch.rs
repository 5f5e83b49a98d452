//! The processor architectures that profiles are for: which calls each has, and under which numbers (syscalls(2)).
//!
//! A profile is written once, with the names of `x86_64`. What another architecture calls otherwise stands in a file of `policy/seccomp`:
//! the newer calls lack their predecessors (`include/uapi/asm-generic/unistd.h` of Linux). Nothing is allowed there that has not its
//! like in the profile.

use super::{Profile, ProfileError, Rule};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use syscalls::{aarch64, x86_64};

/// An architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// What the call of `x86_64` is there; null where programs do without.
const SUCCESSORS: &str = include_str!("../../policy/seccomp/aarch64.json");
/// Calls of `aarch64` that the table of numbers has under the names of their relatives.
const NAMES: [(&str, &str); 2] = [("newfstatat", "fstatat"), ("sync_file_range", "sync_file_range2")];

impl Arch {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];
    /// The one that this program was built for.
    pub const OWN: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// Its name in the kernel's `struct seccomp_data` (linux/audit.h).
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Its name in libseccomp, which engines take.
    #[must_use]
    pub const fn libseccomp(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
        }
    }

    /// The number of a call.
    pub(super) fn number(self, call: &str) -> Option<u32> {
        let number = match self {
            Self::X86_64 => x86_64::Sysno::from_str(call).ok()?.id(),
            Self::Aarch64 => {
                let known = NAMES.iter().find(|(name, _)| *name == call).map_or(call, |(_, table)| table);
                aarch64::Sysno::from_str(known).ok()?.id()
            }
        };
        u32::try_from(number).ok()
    }

    /// The names of its calls.
    pub fn calls(self) -> impl Iterator<Item = &'static str> {
        let names: Vec<&'static str> = match self {
            Self::X86_64 => x86_64::Sysno::iter().map(|call| call.name()).collect(),
            Self::Aarch64 => aarch64::Sysno::iter().map(|call| NAMES.iter().find(|(_, table)| *table == call.name()).map_or(call.name(), |(name, _)| name)).collect(),
        };
        names.into_iter()
    }
}

/// `profile` with the calls that `arch` has; rules of which nothing is left are gone.
///
/// # Errors
/// [`ProfileError`] for a call that `arch` lacks and of which no file says what takes its place.
pub(super) fn translate(profile: Profile, arch: Arch) -> Result<Profile, ProfileError> {
    if arch == Arch::X86_64 {
        return Ok(profile);
    }
    let successors: BTreeMap<String, Option<String>> = serde_json::from_str(SUCCESSORS).map_err(|source| ProfileError::Malformed { whose: "aarch64", source })?;
    let kept = profile.rules.iter().flat_map(|rule| &rule.calls).filter(|call| arch.number(call).is_some()).cloned();
    let mut named: BTreeSet<String> = kept.collect();
    let Profile { default, rules } = profile;
    let rules = rules.into_iter().map(|rule| {
        let mut calls = Vec::new();
        for call in &rule.calls {
            match (arch.number(call), successors.get(call)) {
                (Some(_), _) => calls.push(call.clone()),
                // The arguments that a rule looks at are others there.
                (None, Some(Some(successor))) if rule.when.is_empty() => calls.extend(named.insert(successor.clone()).then(|| successor.clone())),
                (None, Some(None)) => {}
                (None, _) => return Err(ProfileError::UnknownCall(call.clone())),
            }
        }
        Ok(Rule { calls, ..rule })
    });
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    Ok(Profile { default, rules: rules.into_iter().filter(|rule| !rule.calls.is_empty()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Role;
    use crate::seccomp::{Process, shipped, shipped_process};

    #[test]
    fn every_call_that_an_architecture_lacks_has_a_successor_there_and_no_other_has() {
        let successors: BTreeMap<String, Option<String>> = serde_json::from_str(SUCCESSORS).unwrap();
        let profiles = Role::ALL.map(|role| shipped(role).unwrap()).into_iter().chain(Process::ALL.map(|process| shipped_process(process).unwrap()));
        let named: BTreeSet<String> = profiles.flat_map(|profile| profile.rules).flat_map(|rule| rule.calls).collect();
        let lacking: BTreeSet<_> = named.iter().filter(|call| Arch::Aarch64.number(call).is_none()).collect();
        assert_eq!(successors.keys().collect::<BTreeSet<_>>(), lacking);
        for (call, successor) in successors {
            assert!(Arch::X86_64.number(&call).is_some() && successor.iter().all(|successor| Arch::Aarch64.number(successor).is_some()), "{call}: {successor:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        // asm-generic/unistd.h and syscall_64.tbl
        let known = [("openat", 56, 257), ("newfstatat", 79, 262), ("sync_file_range", 84, 277), ("socket", 198, 41), ("clone", 220, 56), ("mmap", 222, 9), ("prctl", 167, 157), ("seccomp", 277, 317)];
        for (call, aarch64, x86_64) in known {
            assert_eq!((Arch::Aarch64.number(call), Arch::X86_64.number(call)), (Some(aarch64), Some(x86_64)), "{call}");
        }
        assert_eq!((Arch::Aarch64.number("open"), Arch::X86_64.number("open")), (None, Some(2)));
    }
}
