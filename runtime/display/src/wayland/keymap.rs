//! A keyboard's map in a file of our own: that of the compositor has a name, which may be a path of the host, and may be one that
//! the compositor shares with others; and its text tells which compositor wrote it. memfd_create(2).

use crate::keymap::Keymap;
use crate::nested::usual_keymap;
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Result, pread, write};

/// The largest map; those of xkbcommon have some 60 KiB.
const MOST: usize = 1 << 20;

/// A sealed file with a map of torbox's own, made of what the first `size` bytes say of the layout, and its size. Of what is no map, that of the keyboard that a served
/// display has.
pub(super) fn own(map: &OwnedFd, size: u32) -> Result<(OwnedFd, u32)> {
    let mut bytes = vec![0; (size as usize).min(MOST)];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match pread(map, rest, filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    let own = Keymap::of_compositor(&bytes).unwrap_or_else(usual_keymap);
    let text = [own.text.as_bytes(), &[0]].concat();
    Ok((file(&text)?, u32::try_from(text.len()).unwrap_or_default()))
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
