//! What outlives a box: tor's guards and the directory documents that make the next start quick, and of the browser what a profile keeps.
//!
//! Both work on a tmpfs; a closed list of files is copied in before they start and out after they ended. They may have been
//! taken over, so only regular files of bounded size come out, never through a link, and each replaces the kept one whole.

use super::enclose::{KEEP, KEEP_PROFILE, PROFILE, STATE};
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, chown};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use torbox_plan::{Container, JOURNAL, Mount, PROFILE_FILES, Plan};

/// Files of tor's data directory that are kept (tor(1), "FILES").
const TOR_FILES: [&str; 5] = ["state", "cached-certs", "cached-microdesc-consensus", "cached-microdescs", "cached-microdescs.new"];
const MAX_FILE: u64 = 64 << 20;

/// Files that are kept of a directory of a container.
struct Kept<'a> {
    files: &'static [&'static str],
    working: &'static Path,
    keep: &'static Path,
    container: &'a Container,
}

fn kept(plan: &Plan) -> impl Iterator<Item = Kept<'_>> {
    let of = |container, mount: &Mount| match mount {
        Mount::TorState { .. } => Some(Kept { files: &TOR_FILES, working: Path::new(STATE), keep: Path::new(KEEP), container }),
        Mount::Profile { .. } => Some(Kept { files: &PROFILE_FILES, working: Path::new(PROFILE), keep: Path::new(KEEP_PROFILE), container }),
        _ => None,
    };
    let all = plan.containers.iter().flat_map(move |container| container.mounts.iter().filter_map(move |mount| of(container, mount)));
    all.filter(|kept| kept.keep.is_dir())
}

/// A file that could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep {}", path.display())]
pub(super) struct KeepError {
    /// Which.
    path: PathBuf,
    /// Why not.
    #[source]
    source: io::Error,
}

/// Puts what was kept where its program finds it.
pub(super) fn restore(plan: &Plan) -> Result<(), KeepError> {
    for Kept { files, working, keep, container } in kept(plan) {
        let give = |target: &Path| chown(target, Some(Uid::from_raw(container.outside_uid())), Some(Gid::from_raw(container.outside_gid()))).map_err(io::Error::from);
        for name in files {
            let target = working.join(name);
            let copied = copy(&keep.join(name), &target).and_then(|found| if found { give(&target) } else { Ok(()) });
            copied.map_err(|source| KeepError { path: target, source })?;
        }
    }
    Ok(())
}

/// Keeps what was left. A kept journal goes first: beside another state of its database it would spoil it.
pub(super) fn save(plan: &Plan) -> Result<(), KeepError> {
    for Kept { files, working, keep, .. } in kept(plan) {
        let target = |name: &str| keep.join(name);
        for name in files.iter().filter(|name| name.ends_with(JOURNAL)) {
            remove(&target(name)).map_err(|source| KeepError { path: target(name), source })?;
        }
        for name in files {
            let fresh = keep.join(format!(".{name}.new"));
            let copied = copy(&working.join(name), &fresh).and_then(|found| if found { replace_kept(keep, &fresh, &target(name)) } else { Ok(()) });
            copied.map_err(|source| KeepError { path: target(name), source })?;
        }
    }
    Ok(())
}

/// The kept file belongs to whom the directory belongs to: the user, not an id of the box.
fn replace_kept(keep: &Path, fresh: &Path, target: &Path) -> io::Result<()> {
    let directory = fs::metadata(keep)?;
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
    remove(path)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
