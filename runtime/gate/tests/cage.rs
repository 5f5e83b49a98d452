//! The cage from inside and outside: a process that closed it as the gate does ends at the first call that the gate has no use for,
//! and a running gate holds nothing but sockets and pipes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::allow_attributes, reason = "a test that panics fails, which is what it is for")]

mod common;

use common::Gate;
use libc::SIGSYS;
use std::fs::File;
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use torbox_gate::cage;
use torbox_gate::config;
use torbox_gate::server::Server;

const DIRECTORY: &str = "TORBOX_CAGED_IN";
const DEED: &str = "TORBOX_CAGED_DOES";

type Deed = fn(&Path) -> std::io::Result<()>;

/// What a taken-over gate might do. The first ones it has to do anyway.
const DEEDS: &[(&str, Deed)] = &[
    ("nothing", |_| Ok(())),
    ("connect to its link", |at| UnixStream::connect(at.join("socks")).map(drop)),
    ("read the cookie", |at| File::open(at.join("cookie")).map(drop)),
    ("read another file", |_| File::open("/etc/passwd").map(drop)),
    ("write a file", |at| File::create(at.join("new")).map(drop)),
    ("remove a file", |at| std::fs::remove_file(at.join("cookie"))),
    ("make an IP socket", |_| UdpSocket::bind("127.0.0.1:0").map(drop)),
    ("listen elsewhere", |at| UnixListener::bind(at.join("other")).map(drop)),
    ("make a socket of its own", |_| UnixDatagram::unbound().map(drop)),
    ("run a program", |_| Err(Command::new("/bin/true").exec())),
    ("start a thread", |_| std::thread::Builder::new().spawn(|| ()).map(drop)),
    ("signal its parent", |_| Ok(nix::sys::signal::kill(nix::unistd::Pid::parent(), nix::sys::signal::Signal::SIGCONT)?)),
];

/// Run by the tests below in a process of its own: closes the cage, does one deed, and ends with its error as exit code.
#[test]
#[ignore = "ends its process"]
fn in_the_cage() {
    let directory = std::env::var(DIRECTORY).unwrap();
    let deed = std::env::var(DEED).unwrap();
    let (_, deed) = DEEDS.iter().find(|(name, _)| *name == deed).unwrap();
    let at = |name: &str| Path::new(&directory).join(name).into_os_string();
    let mut line = ["--socks".into(), at("socks"), "--tor-socks".into(), at("tor"), "--cage".into(), "required".into()].to_vec();
    if Path::new(&directory).join("cookie").exists() {
        for (option, name) in [("--control", "control"), ("--tor-control", "tor-control"), ("--tor-cookie", "cookie"), ("--control-secret-file", "secret")] {
            line.extend([option.into(), at(name)]);
        }
    }
    let config = config::parse(line).unwrap();
    let server = Server::start(&config).unwrap();
    cage::close(&server.needs(), config.cage, |_| ()).unwrap();
    let code = deed(Path::new(&directory)).map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0);
    std::process::exit(code);
}

fn caged(directory: &Path, deed: &str) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "in_the_cage", "--ignored", "--nocapture"]).env(DIRECTORY, directory).env(DEED, deed);
    command.output().unwrap().status
}

#[test]
fn g4_a_call_that_the_gate_has_no_use_for_ends_it() {
    for (deed, _) in DEEDS {
        let directory = tempfile::tempdir().unwrap();
        let status = caged(directory.path(), deed);
        match *deed {
            "nothing" | "connect to its link" | "make a socket of its own" => assert_eq!(status.code(), Some(0), "{deed}: {status}"),
            _ => assert_eq!(status.signal(), Some(SIGSYS), "{deed}: {status}"),
        }
    }
}

/// While tor's cookie is awaited, opening a file is no longer the end; Landlock leaves the cookie's directory and nothing else.
#[test]
fn g4_while_the_cookie_is_awaited_no_other_file_can_be_opened() {
    const EACCES: i32 = 13;
    for (deed, expected) in [("read the cookie", Some(0)), ("read another file", Some(EACCES)), ("write a file", None), ("run a program", None)] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("secret"), "a secret of this box").unwrap();
        // Not yet whole: tor is about to write it.
        std::fs::write(directory.path().join("cookie"), "begun").unwrap();
        let status = caged(directory.path(), deed);
        assert_eq!((status.code(), status.signal()), (expected, expected.is_none().then_some(SIGSYS)), "{deed}: {status}");
    }
}

#[test]
fn g4_a_running_gate_is_caged_and_holds_no_file() {
    const O_PATH: u32 = 0o10_000_000;
    let gate = Gate::start_with_control();
    assert_eq!((gate.status_field("Seccomp"), gate.status_field("NoNewPrivs")), ("2".to_owned(), "1".to_owned()));
    let process = Path::new("/proc").join(gate.id().to_string());
    for entry in process.join("fd").read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = std::fs::read_link(entry.path()).unwrap();
        let info = std::fs::read_to_string(process.join("fdinfo").join(entry.file_name())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let is_name_only = u32::from_str_radix(flags.trim(), 8).unwrap() & O_PATH != 0;
        let is_channel = ["socket:", "pipe:", "anon_inode:[eventpoll]", "anon_inode:[signalfd]", "/dev/null"].iter().any(|kind| target.to_string_lossy().starts_with(kind));
        assert!(is_channel || is_name_only, "{}", target.display());
    }
}
