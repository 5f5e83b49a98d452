//! What the native backend finds on the machine: ids to map to, control groups to make.

use nix::unistd::{Uid, User, getegid, geteuid};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use torbox_plan::{BoxName, CgroupAccess, IdRange, Identity, Role};

/// No ids to map the containers to.
#[derive(Debug, thiserror::Error)]
pub enum IdError {
    /// The caller's account cannot be found.
    #[error("there is no account for user id {0}")]
    NoAccount(u32),
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No range for the caller.
    #[error("{} gives no subordinate ids to {name}", path.display())]
    NoRange {
        /// Which file.
        path: PathBuf,
        /// Whose are missing.
        name: String,
    },
}

/// Where root's containers are mapped to: above every range that account tools hand out, below the sign bit.
const ROOT_IDS: IdRange = IdRange { start: 2_000_000_000, count: 65_536 };

/// Who runs torbox, and the ids it may use.
///
/// # Errors
/// [`IdError`] for a user without subordinate ids.
pub fn identity() -> Result<Identity, IdError> {
    let uid = geteuid();
    if uid.is_root() {
        return Ok(Identity::Root { ids: ROOT_IDS });
    }
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name).ok_or(IdError::NoAccount(uid.as_raw()))?;
    let subuid = load_range("/etc/subuid", &name, uid)?;
    let subgid = load_range("/etc/subgid", &name, uid)?;
    Ok(Identity::User { uid: uid.as_raw(), gid: getegid().as_raw(), subuid, subgid })
}

fn load_range(path: &str, name: &str, uid: Uid) -> Result<IdRange, IdError> {
    let path = PathBuf::from(path);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(IdError::Unreadable { path, source }),
    };
    parse_range(&text, name, uid.as_raw()).ok_or_else(|| IdError::NoRange { path, name: name.to_owned() })
}

/// The largest range of `name` or `uid` in the format of subuid(5).
fn parse_range(text: &str, name: &str, uid: u32) -> Option<IdRange> {
    let number = uid.to_string();
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next().filter(|owner| *owner == name || *owner == number);
        owner.and(Some(IdRange { start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? }))
    });
    ranges.max_by_key(|range| range.count)
}

/// Which control groups can be made. Root makes them at the top of the hierarchy; a user has none unless the machine
/// delegates them, which libcontainer's manager cannot use from inside a group that holds other processes.
#[must_use]
pub fn cgroup_access() -> CgroupAccess {
    if geteuid().is_root() && CONTROLLERS.iter().any(|path| Path::new(path).exists()) {
        return CgroupAccess::Delegated;
    }
    CgroupAccess::None
}

/// A process limit can be set: on the unified hierarchy, or on the old one.
const CONTROLLERS: [&str; 2] = ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/pids/tasks"];

/// Removes control groups of a box that does not run, left by a runtime that was killed. Only root's boxes have any.
///
/// # Errors
/// What rmdir(2) says. `ResourceBusy`, after all others were removed: in one of them is a process, of the runtime that was
/// killed and is about to end, or of a box of that name that another installation of torbox runs.
pub fn remove_left_cgroups(name: &BoxName) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else { return Ok(()) };
    let below = hierarchies.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut outcome = Ok(());
    for hierarchy in std::iter::once(PathBuf::from("/sys/fs/cgroup")).chain(below) {
        for role in Role::ALL {
            match fs::remove_dir(hierarchy.join(format!("torbox-{name}-{role}"))) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => outcome = Err(error),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_are_found_by_name_or_number() {
        let text = "other:1:9\nalice:100000:65536\n1000:300000:100\nbad\nalice:x:1\n";
        let range = |start, count| Some(IdRange { start, count });
        assert_eq!(parse_range(text, "alice", 1000), range(100_000, 65_536));
        assert_eq!(parse_range(text, "bob", 1000), range(300_000, 100));
        assert_eq!(parse_range(text, "carol", 7), None);
    }
}
