//! Attempts that would change the process that makes them: made by a child, `init attempt NAME`, whose end tells.
//!
//! A child has the box's filter, identity and file system; it never outlives the probe.

use super::{Finding, domain, errno, from_io, name};
use crate::cage;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, chdir, chroot, fchdir, setgid, setgroups, setuid};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use torbox_plan::{Landlock, Role};

/// An attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    UnshareMnt,
    UnshareUts,
    UnshareCgroup,
    UnshareTime,
    UnshareUserMnt,
    I386,
    SetUid,
    SetGid,
    SetGroups,
    ChrootEscape,
    InnerNamespaces,
    InnerChroot,
    CagedSocket,
    CagedConnect,
    CagedSignal,
}

const ALL: [Child; 15] = [
    Child::UnshareMnt, Child::UnshareUts, Child::UnshareCgroup, Child::UnshareTime, Child::UnshareUserMnt, Child::I386, Child::SetUid, Child::SetGid,
    Child::SetGroups, Child::ChrootEscape, Child::InnerNamespaces, Child::InnerChroot, Child::CagedSocket, Child::CagedConnect, Child::CagedSignal,
];

/// How a child says that the attempt worked, or with which error it was refused (below 128).
const WORKED: u8 = 0;
/// An attempt of which the child does not know.
pub(crate) const UNKNOWN: u8 = 127;
/// How a child in a cage says that the kernel has only a part of what would refuse the attempt.
pub(super) const OLD_KERNEL: Errno = Errno::EOPNOTSUPP;
/// clone(2), `CLONE_NEWTIME`, which nix does not name.
const CLONE_NEWTIME: i32 = 0x80;

/// Makes the attempt in a child; it must be refused.
pub(super) fn attempt(child: Child) -> Finding {
    match outcome(child) {
        Ok(None) => Finding::NotHeld("it worked".to_owned()),
        Ok(Some(refusal)) => Finding::Held(refusal),
        Err(error) => Finding::Unavailable(format!("no child: {}", errno(&error))),
    }
}

/// `None` if it worked, otherwise what refused it.
pub(super) fn outcome(child: Child) -> io::Result<Option<String>> {
    let status = Command::new("/proc/self/exe").args(["attempt", &format!("{child:?}")]).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(WORKED) => None,
        (Some(code), _) => Some(name(Errno::from_raw(code))),
        (None, signal) => Some(format!("ended by signal {}", signal.unwrap_or(0))),
    })
}

/// The child's side: makes the attempt that is called `wanted`.
pub(crate) fn main(wanted: &str) -> u8 {
    let Some(child) = ALL.into_iter().find(|child| format!("{child:?}") == wanted) else { return UNKNOWN };
    match child.make() {
        Ok(()) => WORKED,
        Err(error) => u8::try_from(error as i32).unwrap_or(UNKNOWN),
    }
}

impl Child {
    fn make(self) -> nix::Result<()> {
        let user = CloneFlags::CLONE_NEWUSER;
        match self {
            Self::UnshareMnt => unshare(CloneFlags::CLONE_NEWNS),
            Self::UnshareUts => unshare(CloneFlags::CLONE_NEWUTS),
            Self::UnshareCgroup => unshare(CloneFlags::CLONE_NEWCGROUP),
            Self::UnshareTime => unshare(CloneFlags::from_bits_retain(CLONE_NEWTIME)),
            Self::UnshareUserMnt => unshare(user | CloneFlags::CLONE_NEWNS),
            Self::I386 => if i386_answers() { Ok(()) } else { Err(Errno::ENOSYS) },
            Self::SetUid => setuid(Uid::from_raw(0)),
            Self::SetGid => setgid(Gid::from_raw(0)),
            Self::SetGroups => setgroups(&[Gid::from_raw(0)]),
            Self::ChrootEscape => chroot_escape(),
            Self::InnerNamespaces => unshare(user | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC),
            Self::CagedSocket => caged(|| from_io(domain::listen())),
            Self::CagedConnect => caged(|| from_io(domain::connect())),
            Self::CagedSignal => caged(domain::signal),
            Self::InnerChroot => unshare(user).and_then(|()| chroot("/proc/self/fdinfo")),
        }
    }
}

/// Closes the cage before the attempt. Where that cannot be done nothing refuses it.
fn caged(attempt: fn() -> nix::Result<()>) -> nix::Result<()> {
    match (cage::close(Role::Browser), attempt()) {
        (Ok(Landlock::Part), Ok(())) => Err(OLD_KERNEL),
        (_, outcome) => outcome,
    }
}

#[cfg(target_arch = "x86_64")]
fn i386_answers() -> bool {
    torbox_sys::getpid_answers()
}

#[cfg(not(target_arch = "x86_64"))]
const fn i386_answers() -> bool {
    false
}

/// How far up the root of a file system may be.
const DEPTH: usize = 64;

/// The way out of chroot(2): with a directory of the outside open, change the root to one below and walk up from the open one.
/// From a root of pivot_root(2) it leads back to that root.
fn chroot_escape() -> nix::Result<()> {
    // Who may chroot(2) already needs no user namespace, and who may not gets the right in one.
    unshare(CloneFlags::CLONE_NEWUSER).or_else(|error| if Uid::effective().is_root() { Ok(()) } else { Err(error) })?;
    let root = identity("/")?;
    let outside = File::open("/").map_err(|_| Errno::EACCES)?;
    chroot("/proc")?;
    fchdir(&outside)?;
    for _ in 0..DEPTH {
        chdir("..")?;
    }
    if identity(".")? == root { Err(Errno::EPERM) } else { Ok(()) }
}

fn identity(path: &str) -> nix::Result<(u64, u64)> {
    let metadata = fs::metadata(path).map_err(|_| Errno::EACCES)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether a program that is put into `directory` can be run.
pub(super) fn run_from(directory: &str) -> Finding {
    let path = format!("{directory}/torbox-program");
    let written = fs::copy("/proc/self/exe", &path).and_then(|_| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)));
    let outcome = match written {
        Err(error) => Finding::Held(format!("cannot write: {}", errno(&error))),
        Ok(()) => match Command::new(&path).args(["attempt", ""]).stdin(Stdio::null()).status() {
            Ok(_) => Finding::NotHeld("it ran".to_owned()),
            Err(error) => Finding::Held(errno(&error)),
        },
    };
    match fs::remove_file(&path) {
        Ok(()) => outcome,
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::ReadOnlyFilesystem => outcome,
        Err(error) => Finding::Unavailable(format!("cannot remove the program: {}", errno(&error))),
    }
}
