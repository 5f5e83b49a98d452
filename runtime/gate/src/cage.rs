//! The gate's own cage, closed once it listens: no file system (Landlock), no system call but those of `cage.toml` (seccomp).
//! The container has a cage as well; this one is tighter because nothing has to be started any more, and it is there when
//! the gate runs alone. It never loosens anything, and once closed it cannot be opened. landlock(7), seccomp(2).

use crate::config::Cage;
use crate::policy::{Only, Syscall, When, cage::SYSCALLS};
use crate::server::Server;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
use std::collections::BTreeMap;

/// Why the cage does not close.
#[derive(Debug, thiserror::Error)]
pub enum CageError {
    /// The kernel refuses Landlock.
    #[error("Landlock")]
    Landlock(#[from] RulesetError),
    /// The kernel has no Landlock, or has it switched off.
    #[error("this kernel does not enforce Landlock")]
    NoLandlock,
    /// The filter cannot be built, or the kernel refuses it.
    #[error("seccomp")]
    Seccomp(#[from] seccompiler::Error),
    /// The filter cannot be expressed.
    #[error("seccomp")]
    Filter(#[from] seccompiler::BackendError),
}

/// Closes the cage, and says what of it is closed.
///
/// # Errors
/// A part of it could not be closed, and the caller required all.
pub fn close(server: &Server, cage: Cage, mut say: impl FnMut(&str)) -> Result<(), CageError> {
    if cage == Cage::Off {
        say("cage: off");
        return Ok(());
    }
    // Landlock first: its system calls are not on the filter's list.
    for (name, outcome) in [("Landlock", landlock(server)), ("seccomp", seccomp(server))] {
        match outcome {
            Ok(()) => say(&format!("cage: {name} enforced")),
            Err(error) if cage == Cage::Required => return Err(error),
            Err(error) => say(&format!("cage: {name} NOT enforced: {error}")),
        }
    }
    Ok(())
}

/// No access to any file, no TCP, no abstract sockets and no signals beyond the gate itself.
fn landlock(server: &Server) -> Result<(), CageError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    let ruleset = match server.awaited_directory() {
        Some(directory) => ruleset.add_rule(PathBeneath::new(directory, AccessFs::ReadFile))?,
        None => ruleset,
    };
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err(CageError::NoLandlock),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn seccomp(server: &Server) -> Result<(), CageError> {
    let awaited = server.awaited_directory().is_some();
    let allowed = SYSCALLS.iter().filter(|call| call.when == When::Always || awaited);
    let program = filter(allowed, SeccompAction::KillProcess)?;
    Ok(seccompiler::apply_filter(&program)?)
}

fn filter<'a>(calls: impl Iterator<Item = &'a Syscall>, otherwise: SeccompAction) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut table: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls {
        table.entry(call.number).or_default().extend(rule(call.only)?);
    }
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(table, otherwise, SeccompAction::Allow, architecture)?.try_into()
}

/// No rule allows every call of that number; of several, one has to match.
fn rule(only: Only) -> Result<Option<SeccompRule>, seccompiler::BackendError> {
    let condition = match only {
        Only::Any => return Ok(None),
        Only::Value { argument, value } => SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?,
        Only::Zero { argument, bits } => SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits), 0)?,
    };
    SeccompRule::new(vec![condition]).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};

    const EPERM: u32 = 1;

    /// What one thread could do under a filter. (The filter of a thread is its own; the others go on.)
    fn attempts(filter: Option<BpfProgram>) -> [Result<(), Errno>; 5] {
        let attempt = move || {
            filter.iter().for_each(|program| seccompiler::apply_filter(program).unwrap());
            [
                socket(AddressFamily::UNIX, SocketType::STREAM, None).map(drop),
                socket(AddressFamily::INET, SocketType::STREAM, None).map(drop),
                openat(CWD, "/dev/null", OFlags::RDONLY, Mode::empty()).map(drop),
                openat(CWD, "/dev/null", OFlags::WRONLY, Mode::empty()).map(drop),
                rustix::fs::access("/dev/null", rustix::fs::Access::EXISTS),
            ]
        };
        std::thread::spawn(attempt).join().unwrap()
    }

    fn with_errno(calls: impl Iterator<Item = &'static Syscall>) -> Option<BpfProgram> {
        // The thread's own end is not the gate's: glibc unmaps stacks and exits threads.
        Some(filter(calls.chain(THREAD), SeccompAction::Errno(EPERM)).unwrap())
    }

    const THREAD: &[Syscall] = &[
        Syscall { id: "exit", number: libc::SYS_exit, only: Only::Any, when: When::Always, reason: "the thread" },
        Syscall { id: "futex", number: libc::SYS_futex, only: Only::Any, when: When::Always, reason: "the thread" },
    ];

    #[test]
    fn g4_the_filter_leaves_unix_sockets_and_nothing_else() {
        let no = Err(Errno::PERM);
        assert_eq!(attempts(None), [Ok(()); 5], "without the filter all of it works");
        let strict = with_errno(SYSCALLS.iter().filter(|call| call.when == When::Always));
        assert_eq!(attempts(strict), [Ok(()), no, no, no, no]);
        let awaiting = with_errno(SYSCALLS.iter());
        assert_eq!(attempts(awaiting), [Ok(()), no, Ok(()), no, no], "the cookie may be read, nothing written");
    }
}
