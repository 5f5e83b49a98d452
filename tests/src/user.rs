//! An unprivileged user for one test, with a home, a runtime directory and subordinate ids (subuid(5)), and commands run as that user.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::User;

use crate::process::{self, ProcessId};
use crate::testnet::Namespace;

const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// How many subordinate ids a user gets.
pub const SUB_IDS: u32 = 65536;
const PREFIX: &str = "tbx-";

/// A user that exists as long as the value, or longer where `TORBOX_KEEP=1` is set.
#[derive(Debug)]
pub struct TestUser {
    name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
    sub_ids: u32,
}

impl TestUser {
    /// Makes the user `tbx-<name>`; one that an earlier run left is removed first. Needs root.
    pub fn create(name: &str) -> Result<Self> {
        let name = format!("{PREFIX}{name}");
        remove(&name)?;
        let home = std::env::temp_dir().join(&name);
        let add = ["--no-log-init", "--user-group", "--create-home", "--shell", "/bin/sh", "--home-dir"];
        process::output(system("useradd").args(add).arg(&home).arg(&name)).context("cannot add a user")?;
        let made = Self::finish(&name, home);
        if made.is_err() {
            remove(&name)?;
        }
        made
    }

    fn finish(name: &str, home: PathBuf) -> Result<Self> {
        let user = User::from_name(name)?.with_context(|| format!("useradd made no user {name}"))?;
        let sub_ids = subordinate_ids(name)?;
        let made = Self { name: name.to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw(), home, sub_ids };
        fs::set_permissions(&made.home, PermissionsExt::from_mode(0o700))?;
        for dir in [".run", ".config", ".cache", ".local", ".local/share", ".local/state"] {
            made.make_dir(dir)?;
        }
        Ok(made)
    }

    /// The login name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// User and group number.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// The home directory, mode 0700.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// `XDG_RUNTIME_DIR`.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        self.home.join(".run")
    }

    /// Its subordinate ids, first and last.
    #[must_use]
    pub fn sub_ids(&self) -> (u32, u32) {
        (self.sub_ids, self.sub_ids + SUB_IDS - 1)
    }

    /// Whether a process of this user number is this user's: its own, or one of its subordinate ids.
    #[must_use]
    pub fn owns(&self, uid: u32) -> bool {
        uid == self.uid || (self.sub_ids..self.sub_ids + SUB_IDS).contains(&uid)
    }

    /// Every process of this user.
    pub fn processes(&self) -> Result<Vec<ProcessId>> {
        Ok(process::all()?.into_iter().filter(|p| p.uid().is_some_and(|uid| self.owns(uid))).collect())
    }

    /// Makes a private directory below the home.
    pub fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.home.join(name);
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o700))?;
        self.give(&dir)?;
        Ok(dir)
    }

    /// Gives a file or a directory to this user.
    pub fn give(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid)).with_context(|| format!("cannot give {} to {}", path.display(), self.name))
    }

    /// A command that runs `program` as this user, in `place` if given, with an environment built here and nothing inherited.
    /// Everything execs, so the process started is the program.
    #[must_use]
    pub fn command(&self, place: Option<&Namespace>, program: impl AsRef<OsStr>) -> Command {
        let setpriv = "/usr/bin/setpriv";
        let mut command = place.map_or_else(|| Command::new(setpriv), |place| place.command(setpriv));
        command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid));
        command.args(["--init-groups", "--inh-caps=-all", "--"]).arg(program);
        command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").env("SHELL", "/bin/sh");
        command.env("HOME", &self.home).env("USER", &self.name).env("LOGNAME", &self.name);
        command.env("XDG_RUNTIME_DIR", self.runtime_dir()).current_dir(&self.home).process_group(0);
        command
    }
}

impl Drop for TestUser {
    fn drop(&mut self) {
        if std::env::var_os("TORBOX_KEEP").is_some_and(|v| v == "1") {
            eprintln!("kept: user {} with {}", self.name, self.home.display());
            return;
        }
        let ended = self.processes().and_then(|left| process::end(&left, Duration::from_secs(1)));
        if let Err(error) = ended.and_then(|()| remove(&self.name)) {
            eprintln!("the user {} is not gone: {error:#}", self.name);
        }
    }
}

fn remove(name: &str) -> Result<()> {
    let Some(user) = User::from_name(name)? else { return Ok(()) };
    let of_user = |p: &ProcessId| p.uid() == Some(user.uid.as_raw());
    process::end(&process::all()?.into_iter().filter(of_user).collect::<Vec<_>>(), Duration::from_secs(1))?;
    process::output(system("userdel").args(["--force", "--remove", name])).map(drop)
}

/// The first of the user's subordinate ids; useradd gave the range where login.defs says so, otherwise it is given here.
fn subordinate_ids(name: &str) -> Result<u32> {
    for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        if range(&read(file)?, name).is_none() {
            let first = first_free(&read(file)?);
            process::output(system("usermod").args([option, &format!("{first}-{}", first + SUB_IDS - 1), name]))?;
        }
    }
    match (range(&read("/etc/subuid")?, name), range(&read("/etc/subgid")?, name)) {
        (Some((first, SUB_IDS)), Some((_, SUB_IDS))) => Ok(first),
        other => bail!("the subordinate ids of {name} are {other:?}"),
    }
}

fn read(file: &str) -> Result<String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.with_context(|| format!("cannot read {file}")),
    }
}

/// First id and count of `name` in a file like subuid(5).
fn range(text: &str, name: &str) -> Option<(u32, u32)> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_once(':'));
    let (first, count) = lines.next()?;
    Some((first.parse().ok()?, count.parse().ok()?))
}

fn first_free(text: &str) -> u32 {
    let ends = text.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(1);
        Some(fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?)
    });
    ends.max().unwrap_or(0).max(100_000)
}

fn system(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges() {
        let text = "ann:100000:65536\ntbx-a:165536:65536\n";
        assert_eq!(range(text, "tbx-a"), Some((165_536, 65_536)));
        assert_eq!(range(text, "tbx"), None, "a prefix is another user");
        assert_eq!((first_free(text), first_free("")), (231_072, 100_000));
    }
}
