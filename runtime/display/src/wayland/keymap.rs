//! A keyboard's map in a file of our own: that of the compositor has a name, which may be a path of the host, and may be one that
//! the compositor shares with others. memfd_create(2).

use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Result, pread, write};

/// The largest map; those of xkbcommon have some 60 KiB.
const MOST: usize = 1 << 20;

/// A sealed copy of the first `size` bytes.
pub(super) fn copy(map: &OwnedFd, size: u32) -> Result<OwnedFd> {
    let mut bytes = vec![0; (size as usize).min(MOST)];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match pread(map, rest, filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    file(&bytes)
}

/// A sealed file with `map`.
///
/// # Errors
/// There is no memory, or no descriptor left.
pub(crate) fn file(map: &[u8]) -> Result<OwnedFd> {
    let file = memfd_create("keymap", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = map;
    while !rest.is_empty() {
        rest = rest.get(write(&file, rest)?..).unwrap_or_default();
    }
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file)
}
