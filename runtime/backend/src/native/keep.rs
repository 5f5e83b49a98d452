//! tor's state between runs: its guards, and the directory documents that make the next start quick.
//!
//! tor works on a tmpfs; a closed list of files is copied in before it starts and out after it ended. tor may have been
//! taken over, so only regular files of bounded size come out, never through a link, and each replaces the kept one whole.

use super::enclose::KEEP;
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, chown};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use torbox_plan::Container;

/// Files of tor's data directory that are kept (tor(1), "FILES").
const KEPT: [&str; 5] = ["state", "cached-certs", "cached-microdesc-consensus", "cached-microdescs", "cached-microdescs.new"];
const MAX_FILE: u64 = 64 << 20;
const STATE: &str = "/state";

/// A file that could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep tor's {}", path.display())]
pub(super) struct KeepError {
    /// Which.
    path: PathBuf,
    /// Why not.
    #[source]
    source: io::Error,
}

/// Puts what was kept where tor finds it.
pub(super) fn restore(tor: &Container) -> Result<(), KeepError> {
    for name in KEPT {
        let target = Path::new(STATE).join(name);
        let owner = (Uid::from_raw(tor.outside_uid()), Gid::from_raw(tor.outside_gid()));
        let give = |target: &Path| chown(target, Some(owner.0), Some(owner.1)).map_err(io::Error::from);
        let copied = copy(&Path::new(KEEP).join(name), &target).and_then(|found| if found { give(&target) } else { Ok(()) });
        copied.map_err(|source| KeepError { path: target, source })?;
    }
    Ok(())
}

/// Keeps what tor left.
pub(super) fn save() -> Result<(), KeepError> {
    for name in KEPT {
        let target = Path::new(KEEP).join(name);
        let fresh = Path::new(KEEP).join(format!(".{name}.new"));
        let copied = copy(&Path::new(STATE).join(name), &fresh).and_then(|found| if found { replace_kept(&fresh, &target) } else { Ok(()) });
        copied.map_err(|source| KeepError { path: target, source })?;
    }
    Ok(())
}

/// The kept file belongs to whom the directory belongs to: the user, not an id of the box.
fn replace_kept(fresh: &Path, target: &Path) -> io::Result<()> {
    let directory = fs::metadata(KEEP)?;
    chown(fresh, Some(Uid::from_raw(directory.uid())), Some(Gid::from_raw(directory.gid())))?;
    fs::rename(fresh, target)
}

/// Whether there was a regular file to copy.
fn copy(source: &Path, target: &Path) -> io::Result<bool> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let source = match OpenOptions::new().read(true).custom_flags(flags).open(source) {
        Ok(file) if file.metadata()?.is_file() => file,
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut target = replace(target)?;
    let copied = io::copy(&mut source.take(MAX_FILE), &mut target)?;
    if copied == MAX_FILE {
        return Err(io::Error::other("the file is larger than 64 MiB"));
    }
    target.sync_all().map(|()| true)
}

fn replace(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
