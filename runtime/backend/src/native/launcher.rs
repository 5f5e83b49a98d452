//! Starts the runtime process of a box of torbox's own, and writes its id maps.

use super::OUTER;
use super::host::{RUNTIME_GROUP, make_group};
use super::launch::Launch;
use crate::launched::{LaunchError, Launched};
use crate::protocol::Event;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::Command;
use torbox_plan::{IdMap, Plan};

impl Launched {
    /// Starts the runtime for `launch`. Events follow through [`Launched::next_event`]. Its processes hold `lock` too, a descriptor that is locked
    /// (flock(2)): the lock is free when the last of them has ended, and nothing that belongs to the box is touched by it any more.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left running.
    pub fn start(launch: &Launch, lock: BorrowedFd<'_>) -> Result<Self, LaunchError> {
        let plan = Plan::new(&launch.intent, &launch.host)?;
        // A duplicate is not closed by execve(2).
        let held = rustix::io::dup(lock).map_err(|errno| LaunchError::Start(errno.into()))?;
        let mut launched = Self::spawn(OUTER)?;
        drop(held);
        // Before it is told to enter its namespaces: the group becomes the root of its cgroup namespace.
        let group = launch.supplies.cgroup.as_deref();
        if let Some(group) = group {
            make_group(group).map_err(|source| LaunchError::Group { group: group.to_owned(), source })?;
            join(group, launched.process.id())?;
        }
        launched.say(if plan.outer_uids.is_empty() { b"root\n" } else { b"user\n" })?;
        if !plan.outer_uids.is_empty() {
            launched.write_maps(&plan, group)?;
        }
        launched.say_json(launch)?;
        Ok(launched)
    }

    fn write_maps(&mut self, plan: &Plan, group: Option<&Path>) -> Result<(), LaunchError> {
        match self.next_event()? {
            Some(Event::NeedsMaps { pid }) => {
                // A group that limits those in it holds no process itself (cgroups(7), "no internal processes" rule).
                group.map_or(Ok(()), |group| join(&group.join(RUNTIME_GROUP), pid))?;
                write_map("newuidmap", pid, &plan.outer_uids)?;
                write_map("newgidmap", pid, &plan.outer_gids)?;
                self.say(b"mapped\n")
            }
            // It failed before: the caller finds the event when it asks for the next.
            Some(event @ Event::Failed { .. }) => {
                self.pending.extend(serde_json::to_vec(&event).map_err(|error| LaunchError::Talk(error.into()))?);
                self.pending.push(b'\n');
                Ok(())
            }
            other => Err(LaunchError::Unknown(format!("{other:?}"))),
        }
    }
}

/// Moves a process into a control group, which is made if it is not there.
fn join(group: &Path, pid: u32) -> Result<(), LaunchError> {
    let made = if group.is_dir() { Ok(()) } else { fs::create_dir(group) };
    made.and_then(|()| fs::write(group.join("cgroup.procs"), pid.to_string())).map_err(|source| LaunchError::Group { group: group.to_owned(), source })
}

/// Writes an id map with the setuid helper of shadow (newuidmap(1), newgidmap(1)).
fn write_map(program: &'static str, pid: u32, map: &[IdMap]) -> Result<(), LaunchError> {
    let words = map.iter().flat_map(|&IdMap { inside, outside, count }| [inside, outside, count]);
    let output = Command::new(program).arg(pid.to_string()).args(words.map(|word| word.to_string())).output();
    let output = output.map_err(|source| LaunchError::NoMapper { program, source })?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(LaunchError::MapRefused { program, said: said() }) }
}
