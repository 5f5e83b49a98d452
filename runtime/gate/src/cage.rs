//! A cage that a program closes around itself once it listens: no file system (Landlock), no system call but those of its
//! `cage.toml` (seccomp).
//! The container has a cage as well; this one is tighter because nothing has to be started any more, and it is there when
//! the program runs alone. It never loosens anything, and once closed it cannot be opened. landlock(7), seccomp(2).

use crate::config::Cage;
use crate::domain::{self, AccessFs, DomainError, Kept};
use crate::policy::{Only, Syscall};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
use rustix::fd::BorrowedFd;
use std::collections::BTreeMap;

/// What a program still needs once it is caged.
pub struct Needs<'a> {
    /// System calls.
    pub calls: Vec<&'static Syscall>,
    /// A directory whose files it may read.
    pub readable: Option<BorrowedFd<'a>>,
}

/// Why the cage does not close.
#[derive(Debug, thiserror::Error)]
pub enum CageError {
    /// The file system cannot be given up.
    #[error(transparent)]
    Domain(#[from] DomainError),
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
pub fn close(needs: &Needs<'_>, cage: Cage, mut say: impl FnMut(&str)) -> Result<(), CageError> {
    if cage == Cage::Off {
        say("cage: off");
        return Ok(());
    }
    // Landlock first: its system calls are not on the filter's list.
    for (name, outcome) in [("Landlock", landlock(needs.readable)), ("seccomp", seccomp(&needs.calls))] {
        match outcome {
            Ok(()) => say(&format!("cage: {name} enforced")),
            Err(error) if cage == Cage::Required => return Err(error),
            Err(error) => say(&format!("cage: {name} NOT enforced: {error}")),
        }
    }
    Ok(())
}

/// No access to any file but the readable ones, no TCP, no abstract sockets and no signals beyond the program itself.
fn landlock(readable: Option<BorrowedFd<'_>>) -> Result<(), CageError> {
    domain::enter(readable.map(|directory| (directory, AccessFs::ReadFile.into())), Kept::Nothing)?;
    Ok(())
}

fn seccomp(calls: &[&Syscall]) -> Result<(), CageError> {
    let program = filter(calls.iter().copied(), SeccompAction::KillProcess)?;
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
    use crate::policy::{When, cage::SYSCALLS};
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
