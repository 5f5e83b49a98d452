//! close_range(2), `CLOSE_RANGE_CLOEXEC`.
//!
//! Neither rustix nor nix offers it; to mark descriptors one by one, each would have to be made an owned one first.

use std::io;

/// Above standard input, output and error.
const FIRST: libc::c_uint = 3;

/// Marks every descriptor but the three standard ones close-on-exec: nothing that this process was left passes on to what it starts.
///
/// # Errors
/// What close_range(2) says: `ENOSYS` before Linux 5.9, `EINVAL` before 5.11.
pub fn close_on_exec() -> io::Result<()> {
    // SAFETY: the call takes three numbers and touches no memory of this process. With CLOSE_RANGE_CLOEXEC it closes nothing, so that
    // every owned descriptor stays valid.
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};

    const LEFT: &str = "/proc/version";

    #[test]
    fn a_descriptor_that_was_left_open_is_not_passed_on() {
        let listed = |mark: &dyn Fn()| {
            let left = std::fs::File::open(LEFT).unwrap();
            // SAFETY: fcntl(2) with F_SETFD on a descriptor that is owned here.
            assert_eq!(unsafe { libc::fcntl(left.as_raw_fd(), libc::F_SETFD, 0) }, 0);
            mark();
            let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).stdin(Stdio::null()).output().unwrap();
            String::from_utf8(listed.stdout).unwrap().lines().any(|fd| fd.ends_with(LEFT))
        };
        assert!(listed(&|| ()), "the positive control");
        assert!(!listed(&|| close_on_exec().unwrap()));
    }
}
