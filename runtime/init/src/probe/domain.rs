//! G8: what the cage holds that nothing else of a box does. landlock(7).
//!
//! Each is done first without the cage, where it must work, and then by a child that closed the cage.

use super::Guarantee::G8;
use super::child::{self, Child};
use super::{Finding, Probe, errno};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::getppid;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use torbox_plan::paths;

/// The name of both sockets.
const NAME: &str = "torbox-probe";

pub(super) fn probes() -> Vec<Probe> {
    let probes = [
        Probe::new("landlock.files", G8, "make a socket among files of its own, in the cage", files),
        Probe::new("landlock.abstract", G8, "connect to an abstract socket outside the cage", abstract_socket),
        Probe::new("landlock.signals", G8, "signal a process outside the cage", || caged(Child::CagedSignal)),
    ];
    probes.into_iter().map(Probe::in_audits).collect()
}

fn files() -> Finding {
    match listen() {
        Ok(()) => caged(Child::CagedSocket),
        Err(error) => Finding::Unavailable(format!("it cannot be made without the cage either: {}", errno(&error))),
    }
}

fn abstract_socket() -> Finding {
    match SocketAddr::from_abstract_name(NAME).and_then(|name| UnixListener::bind_addr(&name)) {
        Ok(_listening) => caged(Child::CagedConnect),
        Err(error) => Finding::Unavailable(format!("there is none: {}", errno(&error))),
    }
}

fn caged(child: Child) -> Finding {
    match child::outcome(child) {
        Ok(None) => Finding::NotHeld("it worked".to_owned()),
        Ok(Some(refusal)) if refusal == super::name(child::OLD_KERNEL) => Finding::Unavailable("this kernel's Landlock does not know it".to_owned()),
        Ok(Some(refusal)) => Finding::Held(refusal),
        Err(error) => Finding::Unavailable(format!("no child: {}", errno(&error))),
    }
}

/// Makes a socket, and removes it.
pub(super) fn listen() -> io::Result<()> {
    let path = format!("{}/{NAME}", paths::TMP);
    UnixListener::bind(&path)?;
    std::fs::remove_file(path)
}

/// Connects to the parent's socket.
pub(super) fn connect() -> io::Result<()> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(NAME)?).map(drop)
}

/// Asks whether the parent can be signalled.
pub(super) fn signal() -> Result<(), Errno> {
    kill(getppid(), None)
}
