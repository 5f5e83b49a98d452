//! What torbox's own processes give up once a box runs: files but those named here, TCP, abstract sockets (landlock(7)), system calls
//! but those of their profile (seccomp(2)), new privileges, and that others read their memory (prctl(2), `PR_SET_DUMPABLE`).
//!
//! It never loosens anything, and what is given up cannot be had again, neither by the process nor by what it would start.

use super::enclose::{CONTAINERS, KEEP, KEEP_PROFILE, PROFILE, STATE};
use nix::errno::Errno;
use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use std::io;
use std::path::Path;
use torbox_gate::domain::{self, AccessFs, Allowed, DomainError, Kept, PathFd};
use torbox_plan::seccomp::{Instruction, Process, ProfileError, compile, process_profile};

/// Something that could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// prctl(2).
    #[error("prctl")]
    Prctl(#[source] Errno),
    /// Files, TCP and the rest cannot be given up.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The filter is not valid.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The kernel refuses the filter.
    #[error("seccomp")]
    Seccomp(#[source] io::Error),
}

type Result<T> = std::result::Result<T, ConfineError>;

const CGROUPS: &str = "/sys/fs/cgroup";

/// `torbox run`, after the launch: at the end it removes what lies in `boxes`, and control groups.
///
/// # Errors
/// [`ConfineError`]; some of it may have been given up.
pub fn confine_launcher(boxes: &Path) -> Result<()> {
    let allowed = [
        domain::at(boxes, AccessFs::RemoveFile | AccessFs::RemoveDir),
        domain::at(CGROUPS, AccessFs::ReadDir | AccessFs::RemoveDir),
        domain::at("/proc/self", AccessFs::ReadFile),
    ];
    confine(Process::Run, allowed)
}

/// `__outer`, once it only waits.
pub(super) fn confine_outer() -> Result<()> {
    confine(Process::Outer, [])
}

/// `__viewer`, once it listens, and `__asker`, once it is connected: what has its sockets, and speaks with who is not trusted.
///
/// # Errors
/// [`ConfineError`]; some of it may have been given up.
pub fn confine_viewer() -> Result<()> {
    confine(Process::Viewer, [])
}

/// `__inner`, after the launch: at the end it deletes containers, whose control groups' processes it kills (cgroups(7)), and copies
/// tor's state.
pub(super) fn confine_inner<'g>(groups: impl Iterator<Item = &'g str>) -> Result<()> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let remove = AccessFs::RemoveFile | AccessFs::RemoveDir;
    let write = AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate;
    let allowed = [
        domain::at(CONTAINERS, read | remove | write),
        domain::at(CGROUPS, read | AccessFs::RemoveDir),
        domain::at("/proc", read),
        domain::at(STATE, AccessFs::ReadFile),
        domain::at(PROFILE, AccessFs::ReadFile),
        domain::at(KEEP, AccessFs::ReadFile | AccessFs::RemoveFile | write),
        domain::at(KEEP_PROFILE, AccessFs::ReadFile | AccessFs::RemoveFile | write),
    ];
    // As a file is opened that shall be written anew.
    let kills = groups.map(|group| domain::at(format!("{CGROUPS}{group}/cgroup.kill"), AccessFs::WriteFile | AccessFs::Truncate));
    confine(Process::Inner, allowed.into_iter().chain(kills))
}

/// Signals are kept: run and inner end processes that they started before, and inner is ended with outer by one that counts as outer's
/// (`PR_SET_PDEATHSIG`).
fn confine(process: Process, allowed: impl IntoIterator<Item = Option<Allowed<PathFd>>>) -> Result<()> {
    set_dumpable(false).map_err(ConfineError::Prctl)?;
    set_no_new_privs().map_err(ConfineError::Prctl)?;
    // Landlock first: its system calls are not in the profiles.
    domain::enter(allowed.into_iter().flatten(), Kept::Signals)?;
    install(&compile(&process_profile(process)?)?).map_err(ConfineError::Seccomp)
}

/// Installs a compiled filter for this process and what it starts.
pub(super) fn install(filter: &[Instruction]) -> io::Result<()> {
    let filter: Vec<_> = filter.iter().map(|&Instruction { code, jt, jf, k }| libc::sock_filter { code, jt, jf, k }).collect();
    torbox_sys::install(&filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use torbox_plan::Role;
    use torbox_plan::seccomp::profile;
    use nix::sys::signal::kill;
    use nix::unistd::{Pid, getpid, getppid};
    use std::fs;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    /// What a process can do, each `ok` or an error's number. `others` is a process of somebody else.
    fn attempts(others: Pid) -> String {
        let place = std::env::temp_dir();
        let results = [
            fs::read("/etc/hostname").map(drop),
            fs::write(place.join("torbox-confine"), "x").and_then(|()| fs::remove_file(place.join("torbox-confine"))),
            fs::read_dir(&place).map(drop),
            TcpListener::bind("127.0.0.1:0").map(drop),
            UnixStream::pair().map(drop),
            Command::new("/bin/true").status().map(drop),
            kill(others, None).map_err(io::Error::from),
            kill(getpid(), None).map_err(io::Error::from),
            fs::read("/proc/self/status").map(drop),
        ];
        results.map(|result| result.map_or_else(|error| error.raw_os_error().unwrap_or(0).to_string(), |()| "ok".to_owned())).join(" ")
    }

    /// Which of the calls that make code, or ask for what no program of a box needs, a filter refuses.
    fn refused() -> String {
        let attempts = torbox_sys::CODE.iter().chain(torbox_sys::ARGUMENTS);
        let refused = attempts.filter(|attempt| attempt.make().is_err_and(|error| error.raw_os_error() == Some(libc::EPERM)));
        refused.map(torbox_sys::Attempt::name).collect::<Vec<_>>().join(" ")
    }

    /// Not a test by itself: what a child does that the tests below start.
    #[test]
    fn child_of_the_tests_below() {
        let Ok(process) = std::env::var("TORBOX_CONFINE") else { return };
        if let Some(role) = process.strip_prefix("role ") {
            let role = Role::ALL.into_iter().find(|known| known.name() == role);
            role.iter().for_each(|role| {
                set_no_new_privs().unwrap();
                install(&compile(&profile(*role).unwrap()).unwrap()).unwrap();
            });
            println!("attempts: {}", refused());
            std::process::exit(0);
        }
        let others = getppid();
        let confined = match process.as_str() {
            "run" => confine_launcher(Path::new("/nowhere")),
            "outer" => confine_outer(),
            "inner" => confine_inner(std::iter::empty()),
            _ => Ok(()),
        };
        confined.unwrap();
        println!("attempts: {}", attempts(others));
        // The end of a thread alone is in no profile.
        std::process::exit(0);
    }

    fn attempts_of(process: &str) -> String {
        let name = "native::confine::tests::child_of_the_tests_below";
        let child = Command::new("/proc/self/exe").args(["--exact", name, "--nocapture", "--test-threads=1"]).env("TORBOX_CONFINE", process).output().unwrap();
        let said = String::from_utf8(child.stdout).unwrap();
        let line = said.lines().find_map(|line| line.split_once("attempts: "));
        line.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&child.stderr))).1.to_owned()
    }

    #[test]
    fn g2_the_kernel_refuses_code_to_all_but_the_browser_and_arguments_that_nobody_needs() {
        assert_eq!(attempts_of("role nobody"), "", "the positive control: without a filter each of them reaches the kernel");
        let code = "mmap.PROT_WRITE_EXEC mprotect.PROT_EXEC";
        let all = torbox_sys::ARGUMENTS.iter().map(torbox_sys::Attempt::name);
        let (maps, rest): (Vec<_>, Vec<_>) = all.partition(|name| name.starts_with("mmap."));
        assert_eq!(attempts_of("role browser"), format!("{} {}", rest.join(" "), maps.join(" ")));
        for role in ["tor", "gate", "display"] {
            assert_eq!(attempts_of(&format!("role {role}")), format!("{code} {}", rest.join(" ")), "{role}");
        }
    }

    #[test]
    fn g12_what_a_process_gave_up_it_cannot_do() {
        let (eacces, enosys, eafnosupport) = (libc::EACCES, libc::ENOSYS, libc::EAFNOSUPPORT);
        assert_eq!(attempts_of("nothing"), "ok ok ok ok ok ok ok ok ok", "the positive control");
        let run = format!("{eacces} {eacces} {eacces} {enosys} {enosys} {enosys} ok ok ok");
        assert_eq!(attempts_of("run"), run);
        assert_eq!(attempts_of("outer"), [enosys; 9].map(|error| error.to_string()).join(" "));
        let inner = format!("{eacces} {eacces} {eacces} {eafnosupport} {enosys} {enosys} ok ok ok");
        assert_eq!(attempts_of("inner"), inner);
    }
}
