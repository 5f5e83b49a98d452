//! Starting the network's daemons as an account of their own, never as root.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};

use super::config::Layout;
use super::netns::Namespace;
use crate::process::{self, ProcessId};
use crate::wait;

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

/// Waits until a tor has opened its log, which it does once it has accepted its configuration.
pub fn wait_for_log(layout: &Layout, name: &str, child: &mut Child) -> Result<()> {
    let settled = || (layout.log(name).exists() || !matches!(child.try_wait(), Ok(None))).then_some(());
    let settled = wait::retry(Duration::from_millis(20), Instant::now() + Duration::from_secs(20), settled);
    if settled.is_none() || !layout.log(name).exists() {
        bail!("tor does not run as {name}: {}", wait::text_so_far(&layout.file(&format!("{name}.out"))).trim());
    }
    Ok(())
}

/// Starts one of the `serve-…` commands of torbox-testnet, its messages going to `out`, and waits until it says "ready".
pub fn start_helper(mut command: Command, out: &Path, lifetime: Lifetime) -> Result<Child> {
    let messages = File::create(out).with_context(|| format!("cannot make {}", out.display()))?;
    let stdin = match lifetime {
        Lifetime::Owned => Stdio::piped(),
        Lifetime::Detached => Stdio::null(),
    };
    command.env_clear().env("PATH", PATH).current_dir("/").process_group(0);
    if lifetime == Lifetime::Owned {
        command.arg("--owned");
    }
    command.stdin(stdin).stdout(Stdio::piped()).stderr(messages);
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    if let Err(error) = wait_ready(&mut child) {
        stop(&mut child);
        return Err(error).with_context(|| format!("{command:?}: {}", wait::text_so_far(out).trim()));
    }
    Ok(child)
}

fn wait_ready(child: &mut Child) -> Result<()> {
    let out = child.stdout.take().context("no standard output")?;
    if !wait::readable(out.as_fd(), Instant::now() + Duration::from_secs(10))? {
        bail!("the helper did not become ready");
    }
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    if line != "ready\n" {
        bail!("the helper ended at once");
    }
    Ok(())
}

/// The other end of [`start_helper`]: becomes the daemons' account, watches the owner if there is one, and says "ready".
pub fn helper_ready(lifetime: Lifetime) -> Result<()> {
    Account::of_tor()?.become_it()?;
    if lifetime == Lifetime::Owned {
        std::thread::spawn(|| {
            let _end = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
    }
    println!("ready");
    Ok(())
}

/// Ends a child and takes its status; a failure is only told, as this is for destructors.
pub fn stop(child: &mut Child) {
    let ended = process::end(&[ProcessId(child.id())], Duration::from_secs(2)).and_then(|()| Ok(child.wait()?));
    if let Err(error) = ended {
        eprintln!("cannot end a child process: {error:#}");
    }
}
