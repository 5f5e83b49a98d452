//! G8, G9 and G11: no privilege, nothing shared, the inner sandbox, the lifeline. proc_pid_status(5), namespaces(7), capabilities(7), pipe(7).

use super::Guarantee::{G6, G8, G9, G11};
use super::child::{self, Child};
use super::{Finding, Probe, errno, none, text};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid, getppid};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Lines of proc_pid_status(5) that must have this value.
const STATUS: [(&str, &str, &str); 7] = [
    ("NoNewPrivs", "1", "gain privileges by execve(2)"),
    ("Seccomp", "2", "call without a filter"),
    ("CapInh", "0000000000000000", "inherit a capability"),
    ("CapPrm", "0000000000000000", "have a capability permitted"),
    ("CapEff", "0000000000000000", "use a capability"),
    ("CapBnd", "0000000000000000", "gain a capability from a file"),
    ("CapAmb", "0000000000000000", "hand a capability on"),
];

/// Namespaces and the numbers that the kernel gives to the first ones (include/uapi/linux/nsfs.h, since 6.18; proc_ns.h before, but for
/// network and mounts).
const FIRST: [(&str, u64); 8] = [
    ("ipc", 0xEFFF_FFFF), ("uts", 0xEFFF_FFFE), ("user", 0xEFFF_FFFD), ("pid", 0xEFFF_FFFC), ("cgroup", 0xEFFF_FFFB), ("time", 0xEFFF_FFFA), ("net", 0xEFFF_FFF9), ("mnt", 0xEFFF_FFF8),
];
/// Those that an engine may not be able to give.
const OPTIONAL: [&str; 3] = ["cgroup", "time", "user"];

/// What only a child can try.
const CHILDREN: [(&str, &str, Child); 4] = [
    ("identity.setuid", "become root", Child::SetUid),
    ("identity.setgid", "become a member of root's group", Child::SetGid),
    ("identity.setgroups", "take a group", Child::SetGroups),
    ("escape.chroot", "leave the root directory by chroot(2)", Child::ChrootEscape),
];

/// Tables of System V IPC (sysvipc(7)).
const IPC: [(&str, &str); 3] = [("shm", "shared memory"), ("msg", "message queues"), ("sem", "semaphores")];

pub(super) fn probes() -> Vec<Probe> {
    let status = STATUS.map(|(key, value, tries)| Probe::new(format!("status.{key}"), G8, tries, move || is_status(key, value)));
    let namespaces = FIRST.map(|(name, number)| {
        let probe = Probe::new(format!("namespace.{name}"), if name == "time" { G6 } else { G8 }, format!("share the host's {name} namespace"), move || own_namespace(name, number));
        if OPTIONAL.contains(&name) { probe.in_audits() } else { probe }
    });
    let of_first = FIRST.map(|(name, _)| Probe::new(format!("namespace.{name}.of-1"), G8, format!("find another {name} namespace than one's own at process 1"), move || same_as_first(name)));
    let children = CHILDREN.map(|(id, tries, child)| Probe::new(id, G8, tries, move || child::attempt(child)).in_audits());
    let ipc = IPC.map(|(table, what)| Probe::new(format!("ipc.{table}"), G8, format!("find {what} of other programs"), move || none(&rows(&format!("/proc/sysvipc/{table}")), "none")));
    let others = [
        Probe::new("status.Groups", G8, "use a group of the host", groups),
        Probe::new("identity.root", G8, "be root", not_root),
        Probe::new("identity.map", G8, "be the host's user of the same number", id_map).in_audits(),
        Probe::new("process.foreign", G8, "see a process of the host", foreign_processes),
        Probe::new("process.parent", G8, "signal whoever started the box", parent),
        Probe::new("process.kernel", G8, "see a thread of the kernel", kernel_threads),
        Probe::new("process.root", G8, "reach the root of process 1", first_root),
        Probe::new("seccomp.count", G8, "be without the box's own filter", filters),
        Probe::new("inner.sandbox", G9, "break the browser's own sandbox by half of what it needs", inner_sandbox).in_audits(),
        Probe::new("lifeline.stdin", G11, "outlive the runtime, whose pipe is standard input", lifeline).in_audits(),
    ];
    let parts: [Vec<Probe>; 6] = [status.into(), namespaces.into(), of_first.into(), children.into(), ipc.into(), others.into()];
    parts.into_iter().flatten().collect()
}

fn status(key: &str) -> Option<String> {
    let table = text("/proc/self/status");
    table.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| *name == key).map(|(_, value)| value.trim().to_owned())
}

fn is_status(key: &str, value: &str) -> Finding {
    match status(key) {
        Some(found) => super::equal(value, &found),
        None => Finding::Unavailable("the kernel does not say".to_owned()),
    }
}

/// Docker lists the group that the process has anyway once more among the supplementary ones (its answer to CVE-2022-36109).
fn groups() -> Finding {
    let own = nix::unistd::getgid().as_raw().to_string();
    match status("Groups") {
        Some(found) if found == own => Finding::Held("its own alone".to_owned()),
        Some(found) => super::equal("", &found),
        None => Finding::Unavailable("the kernel does not say".to_owned()),
    }
}

fn own_namespace(name: &str, first: u64) -> Finding {
    match fs::metadata(format!("/proc/self/ns/{name}")) {
        Ok(metadata) if metadata.ino() == first => Finding::NotHeld("it is the first one".to_owned()),
        Ok(_) => Finding::Held("another one".to_owned()),
        Err(error) => Finding::Unavailable(errno(&error)),
    }
}

/// With setns(2) a process 1 of elsewhere would be a way there. Without one, there is nowhere to go.
fn same_as_first(name: &str) -> Finding {
    let number = |process: &str| fs::metadata(format!("/proc/{process}/ns/{name}")).map(|metadata| metadata.ino());
    match (number("1"), number("self")) {
        (Ok(first), Ok(own)) if first != own => Finding::NotHeld("it is another".to_owned()),
        (Ok(_), Ok(_)) => Finding::Held("the same".to_owned()),
        (Err(error), _) => Finding::Held(errno(&error)),
        (_, Err(error)) => Finding::Unavailable(errno(&error)),
    }
}

fn rows(path: &str) -> Vec<String> {
    text(path).lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

fn not_root() -> Finding {
    let ids = [nix::unistd::getuid().as_raw(), nix::unistd::geteuid().as_raw(), nix::unistd::getgid().as_raw(), nix::unistd::getegid().as_raw()];
    if ids.contains(&0) { Finding::NotHeld(format!("{ids:?}")) } else { Finding::Held(format!("user {}", ids[0])) }
}

/// A map that gives each id itself is that of a host (user_namespaces(7)).
fn id_map() -> Finding {
    let map = text("/proc/self/uid_map");
    let same = map.lines().any(|line| matches!(line.split_whitespace().collect::<Vec<_>>().as_slice(), [inside, outside, _] if inside == outside));
    if same { Finding::NotHeld("every id is itself".to_owned()) } else { Finding::Held("another".to_owned()) }
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Processes of other users: everything of a box runs as one.
fn foreign_processes() -> Finding {
    let own = nix::unistd::geteuid().as_raw();
    let foreign = processes().into_iter().filter(|pid| fs::metadata(format!("/proc/{pid}")).is_ok_and(|metadata| metadata.uid() != own));
    let foreign: Vec<String> = foreign.map(|pid| format!("{pid} {}", text(&format!("/proc/{pid}/comm")).trim_end())).collect();
    none(&foreign, "none")
}

/// Only a process of this PID namespace has a number here; signal 0 asks and sends nothing.
fn parent() -> Finding {
    if getpid() == Pid::from_raw(1) {
        return match getppid().as_raw() {
            0 => Finding::Held("it has no number here".to_owned()),
            pid => Finding::NotHeld(format!("process {pid}")),
        };
    }
    match kill(getppid(), None) {
        Err(Errno::ESRCH | Errno::EPERM | Errno::ENOSYS) => Finding::Held("refused".to_owned()),
        _ if getppid() == Pid::from_raw(1) || getppid() == Pid::from_raw(0) => Finding::Held("it is process 1 of the box".to_owned()),
        _ => Finding::NotHeld(format!("process {}", getppid())),
    }
}

fn kernel_threads() -> Finding {
    let threads = processes().into_iter().filter(|pid| text(&format!("/proc/{pid}/status")).lines().any(|line| line == "Kthread:\t1"));
    none(&threads.map(|pid| pid.to_string()).collect::<Vec<_>>(), "none")
}

fn first_root() -> Finding {
    let identity = |path: &str| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    match (identity("/proc/1/root/"), identity("/")) {
        (Ok(first), Ok(own)) if first != own => Finding::NotHeld("it is another than one's own".to_owned()),
        (Ok(_), Ok(_)) => Finding::Held("it is one's own".to_owned()),
        (Err(error), _) | (_, Err(error)) => Finding::Held(errno(&error)),
    }
}

fn filters() -> Finding {
    match status("Seccomp_filters").as_deref() {
        Some("0") => Finding::NotHeld("no filter".to_owned()),
        Some(count) => Finding::Held(count.to_owned()),
        None => Finding::Unavailable("the kernel does not say".to_owned()),
    }
}

/// Both or neither: with namespaces and without chroot(2) every page breaks.
fn inner_sandbox() -> Finding {
    match (child::outcome(Child::InnerNamespaces), child::outcome(Child::InnerChroot)) {
        (Ok(None), Ok(None)) => Finding::Held("user, network and ipc namespaces, and chroot, can be had".to_owned()),
        (Ok(Some(_)), Ok(Some(_))) => Finding::Unavailable("this box gives its web processes no namespaces; their filters remain".to_owned()),
        (Ok(None), Ok(Some(refusal))) => Finding::NotHeld(format!("namespaces can be had, chroot cannot: {refusal}")),
        (Ok(Some(refusal)), Ok(None)) => Finding::NotHeld(format!("namespaces cannot be had: {refusal}")),
        (Err(error), _) | (_, Err(error)) => Finding::Unavailable(format!("no child: {}", errno(&error))),
    }
}

fn lifeline() -> Finding {
    match fs::metadata("/proc/1/fd/0") {
        Ok(metadata) if metadata.file_type().is_fifo() => Finding::Held("a pipe".to_owned()),
        Ok(_) => Finding::NotHeld("it is no pipe".to_owned()),
        Err(error) => Finding::Unavailable(errno(&error)),
    }
}
