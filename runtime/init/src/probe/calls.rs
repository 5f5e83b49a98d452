//! G2: system calls beyond those that the browser needs. syscalls(2), ioctl(2), unshare(2).

use super::Guarantee::G2;
use super::child::{self, Child};
use super::{Probe, from_io, refused};
use torbox_sys::{ARGUMENTS, ATTEMPTS, IOCTLS};

/// What only a child can try, because it would change whoever tries it.
const CHILDREN: [(&str, &str, Child); 6] = [
    ("unshare.mnt", "get a mount namespace", Child::UnshareMnt),
    ("unshare.uts", "get a host name of its own", Child::UnshareUts),
    ("unshare.cgroup", "get a control group namespace", Child::UnshareCgroup),
    ("unshare.time", "get a time namespace", Child::UnshareTime),
    ("unshare.user-mnt", "get a user namespace and mount in it", Child::UnshareUserMnt),
    ("abi.i386", "make a system call of 32-bit code", Child::I386),
];

pub(super) fn probes() -> Vec<Probe> {
    let calls = ATTEMPTS.iter().map(|attempt| Probe::new(format!("call.{}", attempt.name()), G2, format!("call {}(2)", attempt.name()), || refused(from_io(attempt.make()))));
    let arguments = ARGUMENTS.iter().map(|attempt| Probe::new(format!("argument.{}", attempt.name()), G2, format!("call {}", attempt.name().replacen('.', "(2) with ", 1)), || refused(from_io(attempt.make()))));
    let ioctls = IOCTLS.iter().map(|attempt| Probe::new(format!("ioctl.{}", attempt.name()), G2, format!("drive a device with {}", attempt.name()), || refused(from_io(attempt.make()))));
    let children = CHILDREN.map(|(id, tries, child)| Probe::new(id, G2, tries, move || child::attempt(child)).in_audits());
    calls.chain(arguments).chain(ioctls).chain(children).collect()
}
