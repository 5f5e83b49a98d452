//! A Landlock domain: what a process gives up for itself and all that it starts (landlock(7)). Files but those that it names, TCP,
//! abstract sockets, and signals to processes outside the domain. It never loosens anything, and cannot be left.
//!
//! The gate and the display enter one, init for the programs that it starts, and torbox's own processes once a box runs.

use landlock::{ABI, Access, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope};
use rustix::fd::AsFd;
use std::path::Path;

pub use landlock::{AccessFs, BitFlags, PathFd};

/// What may be done with what lies at or below a file.
pub type Allowed<F> = (F, BitFlags<AccessFs>);

/// What is kept besides the files that are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// TCP.
    Tcp,
    /// Signals to processes outside.
    Signals,
}

/// How much of a domain the kernel knows. It does so silently for what is newer than itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforced {
    /// All of it.
    Wholly,
    /// What there is in this kernel.
    Partly,
}

/// Why no domain was entered.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// The kernel refuses it.
    #[error("the kernel refuses a Landlock domain")]
    Refused(#[from] RulesetError),
    /// The kernel has no Landlock, or has it switched off.
    #[error("this kernel does not enforce Landlock")]
    Absent,
}

/// Every right to files that is given up unless it is allowed.
#[must_use]
pub fn all_of_files() -> BitFlags<AccessFs> {
    AccessFs::from_all(ABI::V5)
}

/// What lies at `path`; what is not there cannot be used, and needs no rule.
pub fn at(path: impl AsRef<Path>, access: impl Into<BitFlags<AccessFs>>) -> Option<Allowed<PathFd>> {
    PathFd::new(path).ok().map(|file| (file, access.into()))
}

/// Enters a domain.
///
/// # Errors
/// [`DomainError`]; then nothing was given up but the chance of new privileges (prctl(2), `PR_SET_NO_NEW_PRIVS`).
pub fn enter<F: AsFd>(files: impl IntoIterator<Item = Allowed<F>>, kept: Kept) -> Result<Enforced, DomainError> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all_of_files())?;
    let ruleset = if kept == Kept::Tcp { ruleset } else { ruleset.handle_access(AccessNet::from_all(ABI::V5))? };
    let scopes = if kept == Kept::Signals { Scope::AbstractUnixSocket.into() } else { Scope::from_all(ABI::V6) };
    let rules = files.into_iter().map(|(file, access)| Ok::<_, RulesetError>(PathBeneath::new(file, access)));
    match ruleset.scope(scopes)?.create()?.add_rules(rules)?.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Ok(Enforced::Wholly),
        RulesetStatus::PartiallyEnforced => Ok(Enforced::Partly),
        RulesetStatus::NotEnforced => Err(DomainError::Absent),
    }
}
