//! `torbox __outer`: enters the namespaces that hold a whole box, starts `__inner` in them, and waits.
//!
//! It must be single-threaded (unshare(2) refuses `CLONE_NEWUSER` otherwise) and must never hold anything of the box
//! itself: it is the last process outside the PID namespace. Once it waits it can do nothing else.

use super::INNER;
use super::confine::confine_outer;
use crate::protocol::Event;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};

/// Reads one byte at a time up to the newline, past std's buffer: what follows on standard input belongs to `__inner`.
fn read_line() -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_WORD && nix::unistd::read(io::stdin(), &mut byte)? == 1 && byte != *b"\n" {
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

const MAX_WORD: usize = 64;

/// Runs `__outer`. The first line of standard input is `user` or `root`: whether a user namespace is wanted.
#[must_use]
pub fn outer_main() -> ExitCode {
    match enter().and_then(|()| wait_for_inner()) {
        Ok(code) => code,
        Err(error) => {
            let failed = Event::Failed { message: format!("cannot enter the runtime's namespaces: {error}"), hint: hint(&error) };
            report(&failed).ok();
            ExitCode::FAILURE
        }
    }
}

fn hint(error: &io::Error) -> Option<String> {
    let refused = matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSPC | libc::EACCES));
    refused.then(|| {
        "unprivileged user namespaces are disabled on this machine; as root: sysctl -w user.max_user_namespaces=15000, and on Debian \
         kernel.unprivileged_userns_clone=1; on Ubuntu torbox's profile for AppArmor must be loaded, which its package puts to /etc/apparmor.d/torbox"
            .to_owned()
    })
}

fn report(event: &Event) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, event)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn enter() -> io::Result<()> {
    let base = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    match read_line()?.as_str() {
        "root" => Ok(unshare(base)?),
        "user" => {
            unshare(base | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWCGROUP)?;
            report(&Event::NeedsMaps { pid: std::process::id() })?;
            match read_line()?.as_str() {
                "mapped" => become_root(),
                _ => Err(io::Error::other("the id maps were not written")),
            }
        }
        other => Err(io::Error::other(format!("unknown request {other:?}"))),
    }
}

/// Root of the user namespace just entered, who owns nothing outside it.
fn become_root() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}

/// The next child is process 1 of the new PID namespace. It is a new program rather than a fork, so that its memory
/// belongs to the new user namespace and its children can be inspected from it (ptrace(2), access mode checking).
fn wait_for_inner() -> io::Result<ExitCode> {
    let mut inner = Command::new("/proc/self/exe").arg(INNER).env_clear().stdin(Stdio::inherit()).stdout(Stdio::inherit()).spawn()?;
    torbox_sys::give_back_memory();
    confine_outer().map_err(io::Error::other)?;
    let status = inner.wait()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
