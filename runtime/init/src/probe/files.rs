//! G7: a file system that cannot be written, run from, or left. proc_sys(5), mount(2), null(4).

use super::Guarantee::G7;
use super::child::run_from;
use super::{Finding, Probe, absent, errno, none};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Directories in which nothing may be made.
const READ_ONLY: [&str; 9] = ["/", "/etc", "/usr", "/usr/bin", "/usr/lib", "/opt", "/run", "/run/torbox", "/dev"];
/// Directories that can be written to, from which nothing may be run.
const NO_PROGRAMS: [&str; 5] = ["/home/user", "/home/user/profile", "/tmp", "/dev/shm", "/run/user"];
/// What can be written to may hold at most this.
const BOUND: u64 = 4 << 30;

/// Devices that would lead out of the box or into the machine.
const DEVICES: [&str; 26] = [
    "/dev/mem", "/dev/port", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/vsock", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/dri", "/dev/snd", "/dev/video0",
    "/dev/input", "/dev/uinput", "/dev/hidraw0", "/dev/bus/usb", "/dev/loop-control", "/dev/loop0", "/dev/mapper/control", "/dev/console", "/dev/tty0", "/dev/ptmx", "/dev/rtc0",
    "/dev/sda", "/dev/vda", "/dev/userfaultfd",
];
/// The devices of every container (OCI runtime specification, "Default Devices").
const OWN_DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// Files of proc(5) through which the kernel is told what to do.
const KNOBS: [&str; 11] = [
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname", "/proc/sys/kernel/hotplug", "/proc/sys/kernel/sysrq", "/proc/sys/vm/overcommit_memory",
    "/proc/sys/fs/binfmt_misc/register", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/user/max_user_namespaces", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
];

/// Places of a host.
const HOST: [&str; 14] = [
    "/boot", "/root", "/mnt", "/media", "/srv", "/host", "/run/host", "/lost+found", "/var/lib/docker", "/var/lib/containers", "/sys/class/net", "/sys/devices", "/sys/fs/cgroup", "/sys/kernel",
];

/// Programs with which an intruder would make itself at home.
const TOOLS: [&str; 12] = [
    "/bin/sh", "/usr/bin/sh", "/usr/bin/bash", "/usr/bin/dash", "/usr/bin/busybox", "/usr/bin/dpkg", "/usr/bin/apt", "/usr/bin/perl", "/usr/bin/python3", "/usr/bin/su", "/usr/bin/mount", "/usr/bin/ssh",
];

pub(super) fn probes() -> Vec<Probe> {
    let written = READ_ONLY.map(|path| Probe::new(format!("write{}", dotted(path)), G7, format!("make a file in {path}"), move || write_in(path)));
    let run = NO_PROGRAMS.map(|path| Probe::new(format!("run{}", dotted(path)), G7, format!("run a program from {path}"), move || run_from(path)));
    let devices = DEVICES.map(|path| Probe::new(format!("device{}", dotted(path)), G7, format!("find {path}"), move || absent(path)));
    let knobs = KNOBS.map(|path| Probe::new(format!("knob{}", dotted(path)), G7, format!("open {path} for writing"), move || open_to_write(path)));
    let host = HOST.map(|path| Probe::new(format!("host-path{}", dotted(path)), G7, format!("find {path}"), move || absent(path)));
    let tools = TOOLS.map(|path| Probe::new(format!("tool{}", dotted(path)), G7, format!("find {path}"), move || absent(path)));
    let searches = [
        Probe::new("device.others", G7, "find another device", other_devices),
        Probe::new("file.setuid", G7, "find a program that changes its user", setuid),
        Probe::new("file.bound", G7, "fill memory with files without end", unbounded),
        Probe::new("core.dump", G7, "leave a core dump", core),
    ];
    let parts: [Vec<Probe>; 7] = [written.into(), run.into(), devices.into(), knobs.into(), host.into(), tools.into(), searches.into()];
    parts.into_iter().flatten().map(Probe::in_audits).collect()
}

fn dotted(path: &str) -> String {
    path.trim_end_matches('/').replace('/', ".")
}

fn write_in(directory: &str) -> Finding {
    let path = Path::new(directory).join("torbox-probe");
    match File::create_new(&path) {
        Ok(_) => fs::remove_file(&path).map_or_else(|error| Finding::Unavailable(format!("cannot remove it again: {}", errno(&error))), |()| Finding::NotHeld("it was made".to_owned())),
        Err(error) => Finding::Held(errno(&error)),
    }
}

/// Opens and writes nothing.
fn open_to_write(path: &str) -> Finding {
    match OpenOptions::new().write(true).open(path) {
        Ok(_) => Finding::NotHeld("it opens".to_owned()),
        Err(error) => Finding::Held(errno(&error)),
    }
}

fn other_devices() -> Finding {
    let mut found = Vec::new();
    walk(Path::new("/dev"), &mut |path, metadata| {
        let kind = metadata.file_type();
        let own = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| OWN_DEVICES.contains(&name));
        if (kind.is_char_device() || kind.is_block_device()) && !own {
            found.push(path.display().to_string());
        }
    });
    none(&found, "only the six of every container")
}

fn setuid() -> Finding {
    const SETUID_SETGID: u32 = 0o6000;
    let mut found = Vec::new();
    for place in ["/usr", "/opt", "/etc", "/home"] {
        walk(Path::new(place), &mut |path, metadata| {
            if metadata.is_file() && metadata.permissions().mode() & SETUID_SETGID != 0 {
                found.push(path.display().to_string());
            }
        });
    }
    none(&found, "none")
}

/// Visits everything below `directory`; links are not followed.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        visit(&path, &metadata);
        if metadata.is_dir() {
            walk(&path, visit);
        }
    }
}

/// The places that can be written to, on file systems of their own, hold together no more than the bound.
fn unbounded() -> Finding {
    let mut seen = Vec::new();
    let mut total = 0_u64;
    for path in NO_PROGRAMS.map(PathBuf::from) {
        let (Ok(metadata), Ok(stat)) = (fs::metadata(&path), rustix::fs::statvfs(&path)) else { continue };
        if !seen.contains(&metadata.dev()) {
            seen.push(metadata.dev());
            total = total.saturating_add(stat.f_blocks.saturating_mul(stat.f_frsize));
        }
    }
    if total <= BOUND { Finding::Held(format!("at most {} MiB", total >> 20)) } else { Finding::NotHeld(format!("{} MiB", total >> 20)) }
}

fn core() -> Finding {
    match rustix::process::getrlimit(rustix::process::Resource::Core).maximum {
        Some(0) => Finding::Held("limited to 0 bytes".to_owned()),
        limit => Finding::NotHeld(format!("limit {limit:?}")),
    }
}
