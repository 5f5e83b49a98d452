//! What a box may leave on the machine, before and after: processes, mounts, network namespaces, control groups, files, sockets.
//!
//! It must find what a careless box would leave, not what torbox says it made, so it reads /proc and /sys alone.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::{self, ProcessId};
use crate::wait;

/// What counts as a box's own, among all that goes on on a machine.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Processes of these users, first to last inclusive.
    pub uids: Vec<(u32, u32)>,
    /// Processes with one of these words in their command line, control groups with one in their name, and AF_UNIX sockets
    /// with one in theirs.
    pub words: Vec<String>,
    /// Directories whose whole content counts.
    pub dirs: Vec<PathBuf>,
}

/// What exists at one moment. Processes in another PID namespace than the caller's always count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    things: BTreeSet<Thing>,
}

/// One thing that can be left behind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A process, with the time it was started, so that a number used again is another process.
    Process {
        /// Its number.
        pid: ProcessId,
        /// Clock ticks since boot.
        started: u64,
        /// Its command line.
        command_line: String,
    },
    /// A mount in the caller's mount namespace: its place and its type.
    Mount(String),
    /// A network namespace that has a name.
    NamedNetwork(String),
    /// A network namespace that some process is in.
    Network(u64),
    /// A control group.
    ControlGroup(PathBuf),
    /// A file of any type.
    File(PathBuf),
    /// A bound AF_UNIX socket; `@` for an abstract one.
    Socket(String),
}

/// What is there now and was not before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left(Vec<Thing>);

impl Left {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The things, in order.
    #[must_use]
    pub fn things(&self) -> &[Thing] {
        &self.0
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|thing| writeln!(f, "left behind: {thing:?}"))
    }
}

impl Snapshot {
    /// What exists now, within `scope`.
    pub fn take(scope: &Scope) -> Result<Self> {
        let mut things = BTreeSet::new();
        processes(scope, &mut things)?;
        mounts(&mut things)?;
        networks(&mut things)?;
        control_groups(scope, Path::new("/sys/fs/cgroup"), &mut things);
        scope.dirs.iter().for_each(|dir| files(dir, &mut things));
        sockets(scope, &mut things)?;
        Ok(Self { things })
    }

    /// What is in `self` and was not in `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Left {
        Left(self.things.difference(&before.things).cloned().collect())
    }

    /// Waits up to `bound` until nothing is there that is not in `self`: how long that took, or what is left. The end of a process
    /// or a mount in general has no event to wait for, so this looks every 20 ms.
    pub fn wait_until_gone(&self, scope: &Scope, bound: Duration) -> Result<std::result::Result<Duration, Left>> {
        let begun = Instant::now();
        let mut last = Ok(Left(Vec::new()));
        let gone = wait::retry(Duration::from_millis(20), begun + bound, || {
            last = Self::take(scope).map(|now| now.since(self));
            last.as_ref().map_or(true, Left::is_empty).then(|| begun.elapsed())
        });
        let left = last?;
        Ok(gone.ok_or(left))
    }
}

fn processes(scope: &Scope, things: &mut BTreeSet<Thing>) -> Result<()> {
    let own_space = ProcessId::own().namespace("pid");
    for pid in process::all()?.into_iter().filter(|p| *p != ProcessId::own()) {
        let (Some(uid), Some(started)) = (pid.uid(), pid.started()) else { continue };
        // One that has ended and whose parent is gone waits for the machine's own process 1 to take note, which has its own pace.
        if pid.status("State").is_some_and(|state| state.starts_with('Z')) && pid.parent() == Some(ProcessId(1)) {
            continue;
        }
        let command_line = pid.command_line();
        let of_user = scope.uids.iter().any(|(first, last)| (*first..=*last).contains(&uid));
        let elsewhere = pid.namespace("pid").is_some_and(|space| Some(space) != own_space);
        if of_user || elsewhere || scope.names(&command_line) {
            things.insert(Thing::Process { pid, started, command_line });
        }
    }
    Ok(())
}

fn mounts(things: &mut BTreeSet<Thing>) -> Result<()> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    things.extend(text.lines().map(|line| Thing::Mount(mount(line))));
    Ok(())
}

/// Mount point, type and source of a line of proc_pid_mountinfo(5).
fn mount(line: &str) -> String {
    let place = line.split(' ').nth(4).unwrap_or_default();
    let kind = line.split_once(" - ").map_or("", |(_, kind)| kind);
    format!("{place} {kind}")
}

fn networks(things: &mut BTreeSet<Thing>) -> Result<()> {
    things.extend(process::all()?.iter().filter_map(|p| p.namespace("net")).map(Thing::Network));
    let named = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    things.extend(named.map(|entry| Thing::NamedNetwork(entry.file_name().to_string_lossy().into_owned())));
    Ok(())
}

fn control_groups(scope: &Scope, dir: &Path, things: &mut BTreeSet<Thing>) {
    for entry in directories(dir) {
        if entry.file_name().is_some_and(|name| scope.names(&name.to_string_lossy())) {
            things.insert(Thing::ControlGroup(entry.clone()));
        }
        control_groups(scope, &entry, things);
    }
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Everything below `dir`, not through symbolic links.
fn files(dir: &Path, things: &mut BTreeSet<Thing>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        things.insert(Thing::File(entry.path()));
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            files(&entry.path(), things);
        }
    }
}

fn sockets(scope: &Scope, things: &mut BTreeSet<Thing>) -> Result<()> {
    // Those of the calling thread's network namespace, which /proc/net would not show (network_namespaces(7)).
    let text = fs::read_to_string("/proc/thread-self/net/unix").context("cannot read the sockets")?;
    let names = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7));
    let own = |name: &&str| scope.names(name) || scope.dirs.iter().any(|dir| Path::new(name).starts_with(dir));
    things.extend(names.filter(own).map(|name| Thing::Socket(name.to_owned())));
    Ok(())
}

impl Scope {
    fn names(&self, text: &str) -> bool {
        self.words.iter().any(|word| text.contains(word.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_without_its_changing_numbers() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(mount(line), "/mnt2 ext3 /dev/root rw,errors=continue");
    }
}
