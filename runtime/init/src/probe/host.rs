//! G6: nothing that tells one machine from another. uname(2), machine-id(5), proc(5).

use super::Guarantee::G6;
use super::{Finding, Probe, equal, errno, none, text};
use rustix::process::Resource;
use std::fs::{self, File};
use std::io::Read;
use torbox_plan::{TELLTALE, UPTIME};

/// The names of the environment that a box may have; their values are the plan's.
const ENVIRONMENT: [&str; 26] = [
    "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "GDK_BACKEND", "GSETTINGS_BACKEND", "GTK_USE_PORTAL", "HOME", "LANG", "LIBGL_ALWAYS_SOFTWARE", "MOZ_CRASHREPORTER_DISABLE",
    "MOZ_DISABLE_WAYLAND_PROXY", "MOZ_ENABLE_WAYLAND", "NO_AT_BRIDGE", "PATH", "TOR_CONTROL_COOKIE_AUTH_FILE", "TOR_CONTROL_IPC_PATH", "TOR_PROVIDER", "TOR_SKIP_LAUNCH",
    "TOR_SOCKS_IPC_PATH", "TZ", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XCURSOR_THEME", "XCURSOR_SIZE",
];

/// Files whose text must be exactly this.
const CONSTANT: [(&str, &str); 3] = [
    ("/etc/machine-id", "746f72626f78746f72626f78746f7262\n"),
    ("/etc/hosts", "127.0.0.1 localhost torbox\n::1 localhost torbox\n"),
    ("/etc/resolv.conf", ""),
];

/// More files of proc(5) that are empty in every box.
const EMPTY: [&str; 6] = ["/proc/cmdline", "/proc/diskstats", "/proc/interrupts", "/proc/partitions", "/proc/swaps", "/proc/version"];

/// Beginnings of directories that only a host has, as they would show in the table of mounts.
const HOST_PATHS: [&str; 6] = ["/home/", "/root", "/Users/", "/media/", "/mnt/", "/var/lib/"];

pub(super) fn probes() -> Vec<Probe> {
    let constant = CONSTANT.map(|(path, expected)| Probe::new(format!("host{}", path.replace('/', ".")), G6, format!("learn of the host from {path}"), move || constant_text(path, expected)));
    // Reading the kernel's log takes it away from whoever else reads it.
    let empty = EMPTY.iter().chain(&TELLTALE).filter(|path| **path != "/proc/kmsg").map(|&path| Probe::new(format!("host{}", path.replace('/', ".")), G6, format!("learn of the machine from {path}"), move || nothing_in(path)));
    let others = [
        Probe::new("host.domainname", G6, "learn the host's domain from uname(2)", || equal("(none)", &rustix::system::uname().domainname().to_string_lossy())),
        Probe::new("host.clock", G6, "learn from the clock how long the machine has been up", uptime),
        Probe::new("host.limits", G6, "learn the size of memory from the limits that the kernel makes of it", limits),
        Probe::new("host.environment", G6, "find a variable of the host's environment", environment),
        Probe::new("host.nodename", G6, "learn the host's name from uname(2)", || equal("torbox", &rustix::system::uname().nodename().to_string_lossy())),
        Probe::new("host.mounts", G6, "find a path of the host in the table of mounts", mounts),
    ];
    let ways_out = [
        Probe::new("host.transproxy", G6, "find the variable that turns the proxy off", || variable("TOR_TRANSPROXY")),
        Probe::new("host.preload", G6, "find a variable that loads a library", || variable("LD_PRELOAD")),
    ];
    constant.into_iter().chain(empty).chain(others).map(Probe::in_audits).chain(ways_out).collect()
}

/// The image's own text, or, as where an engine hides its own behind it, none.
fn constant_text(path: &str, expected: &str) -> Finding {
    match text(path) {
        found if found.is_empty() => Finding::Held("nothing".to_owned()),
        found => equal(expected, &found),
    }
}

/// An empty file or directory, or none.
fn nothing_in(path: &str) -> Finding {
    if let Err(error) = fs::metadata(path) {
        return Finding::Held(errno(&error));
    }
    // Some of these files are read by words of eight bytes.
    let something = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => File::open(path).and_then(|mut file| file.read(&mut [0; 8])).is_ok_and(|count| count > 0),
    };
    if something { Finding::NotHeld("there is something in it".to_owned()) } else { Finding::Held("nothing".to_owned()) }
}

/// A box lives for less than a month; machines run for longer, or are started with another second.
fn uptime() -> Finding {
    const MONTH: i64 = 30 * 86_400;
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
    let started = text("/proc/1/stat").rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)?.parse::<i64>().ok());
    // In clock ticks, of which Linux shows a hundred a second to programs.
    match started.map(|ticks| ticks / 100) {
        Some(started) if (UPTIME..UPTIME + 5).contains(&started) && up < started + MONTH => Finding::Held(format!("{started} s when the box was made")),
        started => Finding::NotHeld(format!("{started:?} s when process 1 was started, {up} s now")),
    }
}

fn limits() -> Finding {
    let limit = |resource| rustix::process::getrlimit(resource).maximum;
    let found = [Resource::Nproc, Resource::Sigpending, Resource::Memlock].map(limit);
    if found == [Some(2048), Some(1024), Some(65_536)] { Finding::Held("constants".to_owned()) } else { Finding::NotHeld(format!("{found:?}")) }
}

fn environment() -> Finding {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    none(&names.filter(|name| !ENVIRONMENT.contains(&name.as_str())).collect::<Vec<_>>(), "only names of the plan")
}

fn variable(name: &str) -> Finding {
    if std::env::var_os(name).is_some() { Finding::NotHeld("it is set".to_owned()) } else { Finding::Held("not set".to_owned()) }
}

/// Root and source of each mount, proc_pid_mountinfo(5).
fn mounts() -> Finding {
    let table = text("/proc/self/mountinfo");
    let of_line = |line: &str| {
        let (own, rest) = line.split_once(" - ")?;
        Some([own.split(' ').nth(3)?.to_owned(), rest.split(' ').nth(1)?.to_owned()])
    };
    let found = table.lines().filter_map(of_line).flatten().filter(|path| HOST_PATHS.iter().any(|host| path.starts_with(host)) || path.starts_with("/dev/"));
    none(&found.collect::<Vec<_>>(), "none")
}
