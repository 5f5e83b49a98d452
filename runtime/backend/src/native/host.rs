//! What the native backend finds on the machine: ids to map to, control groups to make.

use nix::unistd::{Uid, User, getegid, geteuid};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use torbox_plan::{IdRange, Identity, Role};

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

/// What the control groups of a box must be able to limit.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
const GROUPS: &str = "/sys/fs/cgroup";

/// Where the control groups of a box can be made (cgroups(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// At the top of every hierarchy, by root.
    Top,
    /// Below this group of the unified hierarchy, which is still to be made.
    Below(PathBuf),
    /// Nowhere: memory and processes cannot be limited.
    Nowhere,
}

/// Finds out where the box whose control groups' names begin with `group` can have them.
#[must_use]
pub fn groups(group: &str) -> Groups {
    let top = || ["cgroup.controllers", "pids/tasks"].iter().any(|file| Path::new(GROUPS).join(file).exists());
    match delegated_base() {
        _ if geteuid().is_root() => if top() { Groups::Top } else { Groups::Nowhere },
        Some(base) if passes_on(&base) => Groups::Below(base.join(group)),
        _ => Groups::Nowhere,
    }
}

/// The highest group above this process that was delegated to the caller: systemd gives each user one for what runs in a
/// desktop session. The highest, so that every call of torbox finds the same (cgroups(7), "Delegation of a cgroup").
fn delegated_base() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut base = PathBuf::from(GROUPS);
    fs::exists(base.join("cgroup.controllers")).ok().filter(|unified| *unified)?;
    for part in Path::new(own) {
        base.push(part);
        if fs::metadata(&base).is_ok_and(|group| group.uid() == geteuid().as_raw()) {
            return Some(base);
        }
    }
    None
}

/// Whether `base` can pass all of [`CONTROLLERS`] on: it does already, or it has them and holds no process (cgroups(7)).
fn passes_on(base: &Path) -> bool {
    let all_in = |file: &str| {
        let has = fs::read_to_string(base.join(file)).unwrap_or_default();
        CONTROLLERS.iter().all(|controller| has.split_whitespace().any(|one| one == *controller))
    };
    all_in(PASSED_ON) || all_in("cgroup.controllers") && fs::read_to_string(base.join("cgroup.procs")).is_ok_and(|processes| processes.is_empty())
}

const PASSED_ON: &str = "cgroup.subtree_control";

/// Makes the group that [`groups`] found room for.
///
/// # Errors
/// What mkdir(2) and write(2) say.
pub(super) fn make_group(group: &Path) -> io::Result<()> {
    let base = group.parent().unwrap_or(group);
    CONTROLLERS.iter().try_for_each(|controller| fs::write(base.join(PASSED_ON), format!("+{controller}")))?;
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Where the runtime's own processes are below a user's group, so that the group itself holds none.
pub(super) const RUNTIME_GROUP: &str = "runtime";

/// Removes control groups, with names that begin with `group`, of a box that does not run, left by a runtime that was killed.
///
/// # Errors
/// What rmdir(2) says. `ResourceBusy`, after all others were removed: in one of them is a process, of the runtime that was
/// killed and is about to end.
pub fn remove_left_cgroups(group: &str) -> io::Result<()> {
    let mut outcome = Ok(());
    for group in left_groups(group) {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => outcome = Err(error),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    outcome
}

/// Every group that the box may have had, those inside others first.
fn left_groups(group: &str) -> Vec<PathBuf> {
    let of_roles = |at: &Path| Role::ALL.map(|role| at.join(format!("{group}-{role}")));
    if !geteuid().is_root() {
        let Some(above) = delegated_base().map(|base| base.join(group)) else { return Vec::new() };
        return of_roles(&above).into_iter().chain([above.join(RUNTIME_GROUP), above]).collect();
    }
    let hierarchies = fs::read_dir(GROUPS).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    std::iter::once(PathBuf::from(GROUPS)).chain(hierarchies.filter(|path| path.is_dir())).flat_map(|at| of_roles(&at)).collect()
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
