//! Starting the network's daemons as an account of their own, never as root.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};

use super::config::Layout;
use super::netns::Namespace;
use crate::process::ProcessId;

const NAME: &str = "debian-tor";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The account that the daemons run as.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// The account that comes with Debian's tor.
    pub fn of_tor() -> Result<Self> {
        let user = User::from_name(NAME).context("cannot read the user database")?;
        let user = user.with_context(|| format!("there is no user {NAME}; it comes with the Debian package tor"))?;
        Ok(Self { uid: user.uid, gid: user.gid })
    }

    /// Makes a private directory of this account, and those above it.
    pub fn make_dir(self, path: &Path) -> Result<()> {
        for dir in [path.parent().unwrap_or(path), path] {
            if !dir.exists() {
                fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
                fs::set_permissions(dir, PermissionsExt::from_mode(0o700))?;
                self.give(dir)?;
            }
        }
        Ok(())
    }

    /// Makes an empty file of this account that everyone may read.
    pub fn make_file(self, path: &Path) -> Result<()> {
        File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        fs::set_permissions(path, PermissionsExt::from_mode(0o644))?;
        self.give(path)
    }

    fn give(self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw())).with_context(|| format!("cannot give away {}", path.display()))
    }

    /// Adds to `command`, which ends in setpriv(1), running `program` as this account; everything execs.
    #[must_use]
    pub fn command(self, mut command: Command, program: &str) -> Command {
        command.env_clear().env("PATH", PATH).current_dir("/").process_group(0);
        command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid)).args(["--clear-groups", "--", program]);
        command
    }

    /// Makes the calling process this account for good. It must have one thread only.
    pub fn become_it(self) -> Result<()> {
        setgroups(&[]).context("setgroups")?;
        setresgid(self.gid, self.gid, self.gid).context("setresgid")?;
        setresuid(self.uid, self.uid, self.uid).context("setresuid")
    }
}

/// How long the daemons of a network live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the process that started them.
    Owned,
    /// Until they are ended by name.
    Detached,
}

/// Starts a tor by its configuration in `layout`.
pub fn start_tor(layout: &Layout, name: &str, account: Account, place: &Namespace, lifetime: Lifetime) -> Result<Child> {
    let out = layout.file(&format!("{name}.out"));
    let out = File::create(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut command = account.command(place.command("/usr/bin/setpriv"), "tor");
    command.arg("-f").arg(layout.torrc(name)).arg("--defaults-torrc").arg(layout.file("empty"));
    if lifetime == Lifetime::Owned {
        command.args(["--__OwningControllerProcess", &ProcessId::own().0.to_string()]);
    }
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    command.spawn().with_context(|| format!("cannot start tor as {name}"))
}
