//! A Debian as it is after its installation, running beside this machine: a writable copy of a root file system in mount and PID namespaces of
//! its own, with homes on the disk, with which everything in it goes away. The displays of this machine are its displays. unshare(1), pivot_root(8).
//!
//! It is no chroot, in which the kernel lets nobody make a user namespace (user_namespaces(7)). It never changes the root file system that it copies.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::boxed::kept_dir;
use crate::lock;
use crate::process::{self, ProcessId};
use crate::testnet::Namespace;

/// What its first process does: it makes the root and then waits for what it inherits. Its words: where to make it, and of what.
const BOOT: &str = r#"set -eu
mount -t tmpfs -o mode=755 none "$1/system"
mkdir "$1/system/upper" "$1/system/work" "$1/system/root"
mount -t overlay none -o "lowerdir=$2,upperdir=$1/system/upper,workdir=$1/system/work" "$1/system/root"
cd "$1/system/root"
mount -t proc none proc
mount -t sysfs none sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 none run
mount -t tmpfs -o mode=1777 none tmp
mount --bind "$1/home" home
mkdir -p -m 1777 /tmp/.X11-unix tmp/.X11-unix
mount --bind /tmp/.X11-unix tmp/.X11-unix
pivot_root . mnt
cd /
umount -l mnt
echo ready
sleep infinity & wait
"#;
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// Where no box and no desktop keeps anything, or where dpkg keeps account of what it does.
const NOT_LISTED: [&str; 7] = ["./proc", "./sys", "./dev", "./run", "./tmp", "./var/lib/dpkg", "./var/log"];

/// The root file system that `make out/debian` makes.
pub fn root() -> Result<PathBuf> {
    Ok(kept_dir()?.join("debian"))
}

/// Makes what `target` of the Makefile makes of the programs that are built already, in `out`: the last line that it prints.
pub fn made(target: &str, out: &Path) -> Result<String> {
    let _alone = lock::named("package")?;
    let workspace = kept_dir()?;
    let workspace = workspace.parent().context("no workspace")?;
    let said = process::output(Command::new("make").args(["--silent", "-C"]).arg(workspace).args([target, "LEVEL=0"]).arg(format!("DIST={}", out.display())))?;
    Ok(String::from_utf8(said)?.lines().last().unwrap_or_default().to_owned())
}

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller<'a> {
    /// The administrator.
    Root,
    /// Somebody without any privilege.
    User(&'a Account),
}

/// A user of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    /// User and group number.
    pub ids: (u32, u32),
}

impl Account {
    /// Its home, as it is named inside.
    #[must_use]
    pub fn home(&self) -> String {
        format!("/home/{}", self.name)
    }

    /// Where the user's session keeps its sockets.
    #[must_use]
    pub fn runtime_dir(&self) -> String {
        format!("/run/user/{}", self.ids.0)
    }
}

/// Where a call reaches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The network that the Debian is in.
    Own,
    /// The network of this machine: for packages of Debian's alone.
    Machine,
}

/// The running system. Dropping it ends it.
#[derive(Debug)]
pub struct Debian {
    machine: Child,
    first: ProcessId,
    scratch: TempDir,
}

impl Debian {
    /// Starts it in the network `place`, or in one without anything.
    pub fn start(place: Option<&Namespace>) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("torbox-debian-").tempdir()?;
        for dir in ["system", "home"] {
            fs::create_dir(scratch.path().join(dir))?;
        }
        fs::set_permissions(scratch.path().join("home"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let mut command = place.map_or_else(|| Command::new("unshare"), |place| place.command("unshare"));
        command.args(["--mount", "--pid", "--fork", "--kill-child"]).args(place.is_none().then_some("--net"));
        command.args(["sh", "-c", BOOT, "boot"]).arg(scratch.path()).arg(root()?);
        let machine = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run unshare")?;
        let mut debian = Self { first: ProcessId(machine.id()), machine, scratch };
        let mut line = String::new();
        BufReader::new(debian.machine.stdout.take().context("no standard output")?).read_line(&mut line)?;
        ensure!(line == "ready\n", "the Debian did not start: it said {line:?}");
        debian.first = process::descendants(debian.first)?.first().copied().context("the Debian has no first process")?;
        Ok(debian)
    }

    /// A command that runs `words` in it, in the caller's home with an environment as after a login.
    #[must_use]
    pub fn command(&self, caller: Caller<'_>, reach: Reach, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.first.0)).args(["--mount", "--pid"]).args((reach == Reach::Own).then_some("--net")).arg("--");
        command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").stdin(Stdio::null());
        match caller {
            Caller::Root => command.env("HOME", "/").env("DEBIAN_FRONTEND", "noninteractive"),
            Caller::User(account) => {
                let (uid, gid) = account.ids;
                command.args(["/usr/bin/setpriv", &format!("--reuid={uid}"), &format!("--regid={gid}"), "--init-groups", "--inh-caps=-all", "--"]);
                // Who logs in is at home.
                command.args(["/usr/bin/env", "-C", &account.home()]);
                command.env("HOME", account.home()).env("USER", &account.name).env("LOGNAME", &account.name).env("XDG_RUNTIME_DIR", account.runtime_dir())
            }
        };
        command.args(words);
        command
    }

    /// What root's `words` print.
    pub fn root(&self, words: &[&str]) -> Result<String> {
        Ok(String::from_utf8(process::output(&mut self.command(Caller::Root, Reach::Own, words))?)?)
    }

    /// Adds a user with a runtime directory. Subordinate ids are what Debian gives by itself.
    pub fn add_user(&self, name: &str) -> Result<Account> {
        self.root(&["useradd", "--create-home", "--shell", "/bin/sh", name])?;
        let number = |option| -> Result<u32> { Ok(self.root(&["id", option, name])?.trim().parse()?) };
        let account = Account { name: name.to_owned(), ids: (number("-u")?, number("-g")?) };
        self.root(&["mkdir", "-p", "/run/user"])?;
        self.root(&["install", "-d", "-m", "700", "-o", name, "-g", name, &account.runtime_dir()])?;
        Ok(account)
    }

    /// Where the homes lie on this machine.
    #[must_use]
    pub fn homes(&self) -> PathBuf {
        self.scratch.path().join("home")
    }

    /// A path of its root as this machine reaches it.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/{}", self.first.0, path.trim_start_matches('/')))
    }

    /// Every file of it, but for those in which dpkg keeps account.
    pub fn files(&self) -> Result<BTreeSet<String>> {
        let mut words = vec!["find", ".", "("];
        for (at, path) in NOT_LISTED.iter().enumerate() {
            words.extend((at > 0).then_some("-o"));
            words.extend(["-path", path]);
        }
        words.extend([")", "-prune", "-o", "-print"]);
        Ok(self.root(&words)?.lines().map(str::to_owned).collect())
    }

    /// The command lines of what runs in it, but for what it started with.
    pub fn processes(&self) -> Result<Vec<String>> {
        let space = self.first.namespace("pid");
        let below = process::descendants(self.first)?;
        let others = process::all()?.into_iter().filter(|process| process.namespace("pid") == space && *process != self.first && !below.contains(process));
        let lines = below.iter().copied().chain(others).map(ProcessId::command_line);
        Ok(lines.filter(|line| line != "sleep infinity").collect())
    }

    /// Its mounts, as proc_pid_mountinfo(5) has them.
    pub fn mounts(&self) -> Result<String> {
        fs::read_to_string(format!("/proc/{}/mountinfo", self.first.0)).context("cannot read the mounts")
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        // Its first process ends with this one, and with that everything in its PID namespace.
        let ended = self.machine.kill().and_then(|()| self.machine.wait());
        let gone = || self.first.started().is_none().then_some(());
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        if ended.is_err() || crate::wait::retry(Duration::from_millis(10), deadline, gone).is_none() {
            eprintln!("the Debian in {} is not gone", self.scratch.path().display());
        }
    }
}
