//! What a program in the container can see and reach, as one JSON object on standard output.
//!
//! It creates sockets and reads files of its own container; it connects to nothing and sends nothing.

use crate::error::Error;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

#[derive(Serialize)]
struct Report {
    /// Names in `/proc/net/dev`.
    interfaces: Vec<String>,
    /// Result of socket(2) by family and type: `open` or the error's name.
    sockets: BTreeMap<String, String>,
    /// `/proc/self/status`, the lines that matter for security.
    status: BTreeMap<String, String>,
    /// `/proc/self/mountinfo`, as it is.
    mountinfo: Vec<String>,
    /// `open` or the error's name of writing to each directory.
    writable: BTreeMap<String, String>,
    /// The environment.
    environment: BTreeMap<String, String>,
    /// Files that tell of the host: their text, or the error's name.
    files: BTreeMap<String, String>,
    /// Whether each of these exists.
    exists: BTreeMap<String, bool>,
}

/// Families of socket(2), with the types to try.
const FAMILIES: [(&str, AddressFamily); 14] = [
    ("unix", AddressFamily::Unix),
    ("inet", AddressFamily::Inet),
    ("inet6", AddressFamily::Inet6),
    ("netlink", AddressFamily::Netlink),
    ("packet", AddressFamily::Packet),
    ("alg", AddressFamily::Alg),
    ("vsock", AddressFamily::Vsock),
    ("bluetooth", AddressFamily::Bluetooth),
    ("can", AddressFamily::Can),
    ("tipc", AddressFamily::Tipc),
    ("key", AddressFamily::Key),
    ("rds", AddressFamily::Rds),
    ("x25", AddressFamily::X25),
    ("appletalk", AddressFamily::AppleTalk),
];
const TYPES: [(&str, SockType); 4] =
    [("stream", SockType::Stream), ("dgram", SockType::Datagram), ("raw", SockType::Raw), ("seqpacket", SockType::SeqPacket)];
const STATUS: [&str; 9] = ["NoNewPrivs", "Seccomp", "Seccomp_filters", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Uid"];
const DIRECTORIES: [&str; 9] = ["/", "/etc", "/usr", "/opt", "/run", "/run/torbox/browser", "/home/user", "/tmp", "/dev/shm"];
const FILES: [&str; 8] = [
    "/proc/sys/kernel/hostname", "/etc/machine-id", "/etc/hosts", "/etc/resolv.conf", "/etc/passwd", "/proc/cmdline", "/proc/version", "/proc/self/cgroup",
];
const PLACES: [&str; 10] = [
    "/sys/class", "/dev/dri", "/dev/snd", "/dev/vsock", "/dev/kvm", "/run/dbus", "/var/run/docker.sock", "/bin/sh", "/usr/bin/dpkg", "/home/user",
];

/// Prints the report.
pub(crate) fn print() -> Result<(), Error> {
    let report = Report {
        interfaces: interfaces(),
        sockets: sockets(),
        status: status(),
        mountinfo: read("/proc/self/mountinfo").lines().map(str::to_owned).collect(),
        writable: DIRECTORIES.iter().map(|&path| (path.to_owned(), write_in(path))).collect(),
        environment: std::env::vars().collect(),
        files: FILES.iter().map(|&path| (path.to_owned(), read(path))).collect(),
        exists: PLACES.iter().map(|&path| (path.to_owned(), fs::exists(path).unwrap_or(true))).collect(),
    };
    let text = serde_json::to_string(&report).map_err(|error| Error::Report(error.into()))?;
    writeln!(std::io::stdout(), "{text}").map_err(Error::Report)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| name(&error))
}

fn name(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| format!("{:?}", nix::errno::Errno::from_raw(number)))
}

fn interfaces() -> Vec<String> {
    let table = read("/proc/self/net/dev");
    table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(interface, _)| interface.trim().to_owned()).collect()
}

fn sockets() -> BTreeMap<String, String> {
    let attempts = FAMILIES.iter().flat_map(|family| TYPES.iter().map(move |kind| (family, kind)));
    attempts.map(|((family, domain), (kind, ty))| (format!("{family}/{kind}"), open(*domain, *ty))).collect()
}

fn open(domain: AddressFamily, ty: SockType) -> String {
    match socket(domain, ty, SockFlag::SOCK_CLOEXEC, None) {
        Ok(_closed_at_once) => "open".to_owned(),
        Err(errno) => format!("{errno:?}"),
    }
}

fn status() -> BTreeMap<String, String> {
    let text = read("/proc/self/status");
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| STATUS.contains(key)).map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

fn write_in(directory: &str) -> String {
    let path = format!("{directory}/torbox-probe");
    match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(_file) => fs::remove_file(&path).map_or_else(|error| name(&error), |()| "open".to_owned()),
        Err(error) => name(&error),
    }
}
