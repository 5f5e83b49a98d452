//! seccomp(2), `SECCOMP_SET_MODE_FILTER`.
//!
//! Neither rustix nor nix offers it, and the crates that do bring a compiler of their own.

use std::io;

/// A compiled filter: the layout of `struct sock_filter` of linux/filter.h.
pub type Filter = [libc::sock_filter];

/// Installs `filter` for every thread of this process and what it starts. It cannot be removed.
///
/// `no_new_privs` must have been set (prctl(2)), or the process must have `CAP_SYS_ADMIN` in its user namespace.
///
/// # Errors
/// What seccomp(2) says: among others `EINVAL` for a malformed filter and `EACCES` without `no_new_privs`.
pub fn install(filter: &Filter) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel requires a pointer to a sock_fprog whose `filter` points to `len` initialised instructions. `program`
    // lives until the call returns, `filter` is borrowed for as long, and the kernel only reads both and keeps a copy.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC, &raw const program) };
    match result {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        // With TSYNC the id of a thread that could not be brought under the filter.
        _ => Err(io::Error::other("another thread could not be brought under the filter")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const fn ret(k: u32) -> libc::sock_filter {
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k }
    }

    #[test]
    fn malformed_filters_are_refused() {
        assert_eq!(install(&[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        let runs_off_the_end = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
        assert_eq!(install(&[runs_off_the_end]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(install(&vec![ret(0x7fff_0000); 70_000]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
