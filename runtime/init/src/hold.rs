//! `init hold -- PROGRAM [ARG ...]`: what an engine starts in place of a created container, which no engine can show.
//!
//! It does what its runtime says on standard input, line by line: `limit NAME VALUE` lowers a resource limit, which Podman without root
//! leaves as it is, whatever it is asked for; `report PATH ...` is answered with one line on standard output that
//! says what this container is and what lies at these paths; `file PATH MODE LENGTH`, followed by that many bytes, writes a file that
//! the runtime supplies; `go` lets PROGRAM take init's place. Anything else, the end of input or silence ends the container: nothing
//! runs in it that was not compared with the plan.
//!
//! The report is texts of the kernel (proc(5)), read by whoever knows the plan; init judges nothing.

use crate::error::Error;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::read;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the report begins with.
const REPORT: &str = "torbox-report ";
/// How long the runtime may take to compare four containers; and how long a box waits that has a held program in the browser's place
/// (`torbox_plan::Program::Nothing`).
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_LINE: usize = 4096;
const MAX_FILE: usize = 1 << 20;
/// What engines put into an environment besides what they are told.
const ADDED: [&str; 3] = ["HOSTNAME", "TERM", "container"];

/// One of every group of families that the kernel may offer.
const FAMILIES: [(&str, AddressFamily, SockType); 8] = [
    ("unix", AddressFamily::Unix, SockType::Stream),
    ("inet", AddressFamily::Inet, SockType::Stream),
    ("inet6", AddressFamily::Inet6, SockType::Datagram),
    ("netlink", AddressFamily::Netlink, SockType::Raw),
    ("packet", AddressFamily::Packet, SockType::Raw),
    ("vsock", AddressFamily::Vsock, SockType::Stream),
    ("alg", AddressFamily::Alg, SockType::SeqPacket),
    ("bluetooth", AddressFamily::Bluetooth, SockType::Raw),
];
/// Those that a plan for engines sets.
const LIMITS: [(&str, Resource); 2] = [("RLIMIT_CORE", Resource::RLIMIT_CORE), ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE)];
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

#[derive(Serialize)]
struct Report {
    status: String,
    mountinfo: String,
    limits: String,
    net_dev: String,
    net_route: String,
    net_ipv6_route: String,
    /// By name, as the links in `/proc/self/ns` show them.
    namespaces: BTreeMap<String, String>,
    /// What lies at each mount point and each path asked for: `absent`, `socket`, `device MAJOR:MINOR` or `other`.
    kinds: BTreeMap<String, String>,
    /// Those of [`FAMILIES`] that socket(2) gives.
    sockets: Vec<String>,
}

/// Waits for the word, and becomes `program`: returns only if that fails.
pub(crate) fn hold(program: &str, arguments: &[&str]) -> Result<u8, Error> {
    let input = Input { deadline: Instant::now() + PATIENCE };
    loop {
        let line = input.line()?;
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["go"] => break,
            ["limit", name, value] => limit(name, value)?,
            ["report", paths @ ..] => report(paths)?,
            ["file", path, mode, length] => input.file(path, mode, length)?,
            _ => return Err(Error::Word(line)),
        }
    }
    Err(become_program(program, arguments, &[]))
}

/// `program` takes init's place, without the variables `own` and those that engines add: returns only if that fails.
pub(crate) fn become_program(program: &str, arguments: &[&str], own: &[&str]) -> Error {
    let mut command = Command::new(program);
    command.args(arguments);
    for name in ADDED.iter().chain(own) {
        command.env_remove(name);
    }
    Error::Start(program.to_owned(), command.exec())
}

/// Never above what the kernel allows already: whether it is as low as it was to be is for the reader of the report to say.
fn limit(name: &str, value: &str) -> Result<(), Error> {
    let wrong = || Error::Word(format!("limit {name} {value}"));
    let (_, resource) = LIMITS.iter().find(|(of, _)| *of == name).ok_or_else(wrong)?;
    let (_, hard) = getrlimit(*resource).map_err(|errno| Error::System("getrlimit", errno))?;
    let value = value.parse::<u64>().map_err(|_| wrong())?.min(hard);
    setrlimit(*resource, value, value).map_err(|errno| Error::System("setrlimit", errno))
}

fn report(paths: &[&str]) -> Result<(), Error> {
    let text = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let mountinfo = text("mountinfo");
    let namespace = |name: &&str| Some(((*name).to_owned(), fs::read_link(format!("/proc/self/ns/{name}")).ok()?.display().to_string()));
    let report = Report {
        status: text("status"),
        limits: text("limits"),
        net_dev: text("net/dev"),
        net_route: text("net/route"),
        net_ipv6_route: text("net/ipv6_route"),
        namespaces: NAMESPACES.iter().filter_map(namespace).collect(),
        kinds: mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).chain(paths.iter().copied()).map(|target| (target.to_owned(), kind(target))).collect(),
        sockets: FAMILIES.iter().filter(|(_, family, kind)| socket(*family, *kind, SockFlag::SOCK_CLOEXEC, None).is_ok()).map(|(name, ..)| (*name).to_owned()).collect(),
        mountinfo,
    };
    let json = serde_json::to_string(&report).map_err(|error| Error::Report(error.into()))?;
    writeln!(std::io::stdout(), "{REPORT}{json}").map_err(Error::Report)
}

fn kind(target: &str) -> String {
    match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.file_type().is_socket() => "socket".to_owned(),
        Ok(metadata) if metadata.file_type().is_char_device() => format!("device {}:{}", nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "absent".to_owned(),
        Ok(_) | Err(_) => "other".to_owned(),
    }
}

/// Standard input, of which no byte is taken that belongs to the program.
struct Input {
    deadline: Instant,
}

impl Input {
    fn line(&self) -> Result<String, Error> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.exactly(&mut byte)?;
            match byte {
                [b'\n'] => return String::from_utf8(line).map_err(|_| Error::Word("bytes that are no text".to_owned())),
                _ if line.len() == MAX_LINE => return Err(Error::Word("a line without end".to_owned())),
                [other] => line.push(other),
            }
        }
    }

    fn file(&self, path: &str, mode: &str, length: &str) -> Result<(), Error> {
        let wrong = || Error::Word(format!("file {path} {mode} {length}"));
        let mode = u32::from_str_radix(mode, 8).map_err(|_| wrong())?;
        let length = length.parse().ok().filter(|length| *length <= MAX_FILE).ok_or_else(wrong)?;
        let mut bytes = vec![0; length];
        self.exactly(&mut bytes)?;
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        file.and_then(|mut file| file.write_all(&bytes)).map_err(|error| Error::Supply(path.to_owned(), error))
    }

    /// Fills `buffer`, or fails at the end of input or of patience.
    fn exactly(&self, buffer: &mut [u8]) -> Result<(), Error> {
        let stdin = std::io::stdin();
        let mut rest = buffer;
        while !rest.is_empty() {
            let left = PollTimeout::try_from(self.deadline.saturating_duration_since(Instant::now())).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], left) {
                Ok(0) => return Err(Error::System("poll", Errno::ETIMEDOUT)),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::System("poll", errno)),
            }
            match read(stdin.as_fd(), rest).map_err(|errno| Error::System("read", errno))? {
                0 => return Err(Error::System("read", Errno::EPIPE)),
                count => rest = rest.get_mut(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}
