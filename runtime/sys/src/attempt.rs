//! syscalls(2): calls that no program of a box may make, with arguments that no kernel accepts.
//!
//! Neither rustix nor nix calls by number, nor with arguments that are wrong on purpose. An answer of the kernel's own code
//! (`EBADF`, `EFAULT`, ...) tells that the call got past whatever should have refused it. None of them changes anything.

use std::io;

/// One call with its arguments. They exist in the tables below alone, so that nobody can make another.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    name: &'static str,
    number: libc::c_long,
    arguments: [libc::c_long; 5],
}

/// `number`, and how many arguments follow is up to the man page: the rest is zero.
const fn call(name: &'static str, number: libc::c_long, first: [libc::c_long; 2]) -> Attempt {
    Attempt { name, number, arguments: [first[0], first[1], 0, 0, 0] }
}

/// ioctl(2) on a descriptor that does not exist: the kernel says `EBADF` before it looks at the request.
const fn ioctl(name: &'static str, request: libc::c_long) -> Attempt {
    Attempt { name, number: libc::SYS_ioctl, arguments: [BAD, request, 0, 0, 0] }
}

/// A call that is allowed with other arguments: `name` is its own, and then what it asks for.
const fn asking(name: &'static str, number: libc::c_long, arguments: [libc::c_long; 5]) -> Attempt {
    Attempt { name, number, arguments }
}

/// No descriptor, no address, no command, no set of flags.
const BAD: libc::c_long = -1;
/// No clock.
const NO_CLOCK: libc::c_long = 99;
/// syslog(2): the size of the kernel's log.
const SYSLOG_ACTION_SIZE_BUFFER: libc::c_long = 10;

/// Calls with which programs have left their boxes, or which look beyond them.
pub const ATTEMPTS: &[Attempt] = &[
    call("io_uring_setup", libc::SYS_io_uring_setup, [0, 0]),
    call("io_uring_enter", libc::SYS_io_uring_enter, [BAD, 0]),
    call("io_uring_register", libc::SYS_io_uring_register, [BAD, 0]),
    call("io_setup", libc::SYS_io_setup, [0, 0]),
    call("io_submit", libc::SYS_io_submit, [0, 0]),
    call("io_destroy", libc::SYS_io_destroy, [0, 0]),
    call("bpf", libc::SYS_bpf, [BAD, 0]),
    call("perf_event_open", libc::SYS_perf_event_open, [0, 0]),
    call("userfaultfd", libc::SYS_userfaultfd, [BAD, 0]),
    call("keyctl", libc::SYS_keyctl, [0, -3]),
    call("add_key", libc::SYS_add_key, [0, 0]),
    call("request_key", libc::SYS_request_key, [0, 0]),
    call("ptrace", libc::SYS_ptrace, [16, 0]),
    call("process_vm_readv", libc::SYS_process_vm_readv, [0, 0]),
    call("process_vm_writev", libc::SYS_process_vm_writev, [0, 0]),
    call("process_madvise", libc::SYS_process_madvise, [BAD, 0]),
    call("process_mrelease", libc::SYS_process_mrelease, [BAD, 0]),
    call("kcmp", libc::SYS_kcmp, [0, 0]),
    call("pidfd_open", libc::SYS_pidfd_open, [0, 0]),
    call("pidfd_getfd", libc::SYS_pidfd_getfd, [BAD, BAD]),
    call("pidfd_send_signal", libc::SYS_pidfd_send_signal, [BAD, 0]),
    call("setns", libc::SYS_setns, [BAD, 0]),
    call("mount", libc::SYS_mount, [0, 0]),
    call("umount2", libc::SYS_umount2, [0, 0]),
    call("pivot_root", libc::SYS_pivot_root, [0, 0]),
    call("open_tree", libc::SYS_open_tree, [BAD, 0]),
    call("move_mount", libc::SYS_move_mount, [BAD, 0]),
    call("fsopen", libc::SYS_fsopen, [0, 0]),
    call("fsconfig", libc::SYS_fsconfig, [BAD, 0]),
    call("fsmount", libc::SYS_fsmount, [BAD, 0]),
    call("fspick", libc::SYS_fspick, [BAD, 0]),
    call("mount_setattr", libc::SYS_mount_setattr, [BAD, 0]),
    call("statmount", 457, [0, 0]),
    call("listmount", 458, [0, 0]),
    call("name_to_handle_at", libc::SYS_name_to_handle_at, [BAD, 0]),
    call("open_by_handle_at", libc::SYS_open_by_handle_at, [BAD, 0]),
    call("swapon", libc::SYS_swapon, [BAD, 0]),
    call("swapoff", libc::SYS_swapoff, [BAD, 0]),
    call("reboot", libc::SYS_reboot, [0, 0]),
    call("init_module", libc::SYS_init_module, [0, 0]),
    call("finit_module", libc::SYS_finit_module, [BAD, 0]),
    call("delete_module", libc::SYS_delete_module, [BAD, 0]),
    // With a null pointer it would end the accounting.
    call("acct", libc::SYS_acct, [BAD, 0]),
    call("syslog", libc::SYS_syslog, [SYSLOG_ACTION_SIZE_BUFFER, 0]),
    call("sethostname", libc::SYS_sethostname, [0, BAD]),
    call("setdomainname", libc::SYS_setdomainname, [0, BAD]),
    call("settimeofday", libc::SYS_settimeofday, [BAD, 0]),
    call("clock_settime", libc::SYS_clock_settime, [NO_CLOCK, 0]),
    call("clock_adjtime", libc::SYS_clock_adjtime, [NO_CLOCK, 0]),
    call("adjtimex", libc::SYS_adjtimex, [BAD, 0]),
    call("quotactl", libc::SYS_quotactl, [BAD, 0]),
    call("quotactl_fd", libc::SYS_quotactl_fd, [BAD, BAD]),
    call("fanotify_init", libc::SYS_fanotify_init, [BAD, 0]),
    call("fanotify_mark", libc::SYS_fanotify_mark, [BAD, 0]),
    call("memfd_secret", libc::SYS_memfd_secret, [BAD, 0]),
    call("personality", libc::SYS_personality, [0xffff_ffff, 0]),
    call("remap_file_pages", libc::SYS_remap_file_pages, [0, 0]),
    call("mq_open", libc::SYS_mq_open, [BAD, 0]),
    call("mq_unlink", libc::SYS_mq_unlink, [BAD, 0]),
    call("mq_timedsend", libc::SYS_mq_timedsend, [BAD, 0]),
    call("msgget", libc::SYS_msgget, [BAD, 0]),
    call("shmget", libc::SYS_shmget, [BAD, 0]),
    call("semget", libc::SYS_semget, [BAD, 0]),
    call("clone3", libc::SYS_clone3, [0, 0]),
    call("execveat", libc::SYS_execveat, [BAD, 0]),
    call("vmsplice", libc::SYS_vmsplice, [BAD, 0]),
    call("tee", libc::SYS_tee, [BAD, BAD]),
    call("splice", libc::SYS_splice, [BAD, 0]),
    call("mknodat", libc::SYS_mknodat, [BAD, 0]),
    call("setxattr", libc::SYS_setxattr, [BAD, 0]),
    call("getcpu", libc::SYS_getcpu, [0, 0]),
    call("cachestat", 451, [BAD, 0]),
    call("map_shadow_stack", 453, [1, 0]),
    call("lsm_get_self_attr", 459, [0, 0]),
    call("lsm_set_self_attr", 460, [0, 0]),
    call("lsm_list_modules", 461, [0, 0]),
    call("mseal", 462, [1, 0]),
    #[cfg(target_arch = "x86_64")]
    call("modify_ldt", libc::SYS_modify_ldt, [0, 0]),
    #[cfg(target_arch = "x86_64")]
    call("sysfs", libc::SYS_sysfs, [3, 0]),
    #[cfg(target_arch = "x86_64")]
    call("ustat", libc::SYS_ustat, [0, 0]),
];

/// Calls that every program makes, with what no browser asks of them: prctl(2), `F_SETOWN` and the rest of fcntl(2), madvise(2), mmap(2). What is
/// set is what is set already, and advice is given of no memory.
pub const ARGUMENTS: &[Attempt] = &[
    asking("prctl.PR_SET_KEEPCAPS", libc::SYS_prctl, [8, 0, 0, 0, 0]),
    asking("prctl.PR_SET_TSC", libc::SYS_prctl, [26, BAD, 0, 0, 0]),
    asking("prctl.PR_SET_CHILD_SUBREAPER", libc::SYS_prctl, [36, 0, 0, 0, 0]),
    asking("prctl.PR_CAP_AMBIENT", libc::SYS_prctl, [47, BAD, 0, 0, 0]),
    asking("prctl.PR_SET_SPECULATION_CTRL", libc::SYS_prctl, [53, BAD, 0, 0, 0]),
    asking("prctl.PR_SCHED_CORE", libc::SYS_prctl, [62, BAD, 0, 0, 0]),
    asking("fcntl.F_SETOWN", libc::SYS_fcntl, [BAD, 8, 0, 0, 0]),
    asking("fcntl.F_SETSIG", libc::SYS_fcntl, [BAD, 10, 0, 0, 0]),
    asking("fcntl.F_SETLEASE", libc::SYS_fcntl, [BAD, 1024, 0, 0, 0]),
    asking("fcntl.F_NOTIFY", libc::SYS_fcntl, [BAD, 1026, 0, 0, 0]),
    asking("madvise.MADV_MERGEABLE", libc::SYS_madvise, [0, 0, 12, 0, 0]),
    asking("madvise.MADV_PAGEOUT", libc::SYS_madvise, [0, 0, 21, 0, 0]),
    asking("mmap.MAP_GROWSDOWN", libc::SYS_mmap, [0, 0, 0, 0x102, BAD]),
    asking("mmap.MAP_HUGETLB", libc::SYS_mmap, [0, 0, 0, 0x4_0002, BAD]),
];

/// Making code of what was written: mmap(2) and mprotect(2), of no memory. A browser compiles scripts; nobody else does.
pub const CODE: &[Attempt] = &[
    asking("mmap.PROT_WRITE_EXEC", libc::SYS_mmap, [0, 0, 6, 2, BAD]),
    asking("mprotect.PROT_EXEC", libc::SYS_mprotect, [0, 0, 5, 0, 0]),
];

/// Requests with which a program drives a device, a terminal or a network interface.
pub const IOCTLS: &[Attempt] = &[
    ioctl("TIOCSTI", 0x5412),
    ioctl("TIOCLINUX", 0x541c),
    ioctl("TIOCSCTTY", 0x540e),
    ioctl("TIOCSETD", 0x5423),
    ioctl("TIOCCONS", 0x541d),
    ioctl("SIOCGIFCONF", 0x8912),
    ioctl("SIOCGIFHWADDR", 0x8927),
    ioctl("SIOCETHTOOL", 0x8946),
    ioctl("TUNSETIFF", 0x4004_54ca),
    ioctl("KVM_CREATE_VM", 0xae01),
    ioctl("IOCTL_VM_SOCKETS_GET_LOCAL_CID", 0x07b9),
    ioctl("DRM_IOCTL_VERSION", 0xc040_6400),
    ioctl("EVIOCGVERSION", 0x8004_4501),
    ioctl("LOOP_SET_FD", 0x4c00),
    ioctl("BLKGETSIZE64", 0x8008_1272),
    ioctl("FS_IOC_SETFLAGS", 0x4008_6602),
    ioctl("FIFREEZE", 0xc004_5877),
    ioctl("FICLONE", 0x4004_9409),
    ioctl("NS_GET_USERNS", 0xb701),
    ioctl("USBDEVFS_RESET", 0x5514),
];

impl Attempt {
    /// Its name in syscalls(2), with what it asks for after a dot, or that of its request in ioctl(2).
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Makes the call.
    ///
    /// # Errors
    /// Whatever refuses it says.
    pub fn make(&self) -> io::Result<()> {
        let [a, b, c, d, e] = self.arguments;
        // SAFETY: a system call is unsafe for what it does with this process's memory and descriptors. Values of this type are
        // those of the tables above: every argument that is an address there is null, 1 or -1, at which no process has memory
        // (the kernel answers EFAULT), every length is 0, every descriptor is -1, what they set is what is set already, and no call
        // among them maps (of descriptor -1 nothing can be mapped), unmaps or forks.
        let result = unsafe { libc::syscall(self.number, a, b, c, d, e, 0 as libc::c_long) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let all: Vec<_> = ATTEMPTS.iter().chain(ARGUMENTS).chain(CODE).chain(IOCTLS).map(Attempt::name).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn an_ioctl_on_no_descriptor_is_answered_by_the_kernel() {
        for attempt in IOCTLS {
            assert_eq!(attempt.make().unwrap_err().raw_os_error(), Some(libc::EBADF), "{}", attempt.name());
        }
    }
}
