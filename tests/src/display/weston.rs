//! A Wayland compositor without a screen: weston(1) with its headless backend, drawing in memory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::SIZE;
use crate::process::{self, ProcessId};
use crate::testnet::daemon::stop;
use crate::user::TestUser;
use crate::wait;

const SOCKET: &str = "wayland-9";

/// A running compositor; dropping it ends it. Unlike an X server it takes clients of its own user only.
#[derive(Debug)]
pub struct Weston<'a> {
    child: Child,
    user: Option<&'a TestUser>,
    dir: TempDir,
}

impl<'a> Weston<'a> {
    /// Starts a compositor of `user`, or of the caller, and returns when it takes clients.
    pub fn start(user: Option<&'a TestUser>) -> Result<Self> {
        // As an XDG_RUNTIME_DIR is: the owner's alone.
        let private = fs::Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().prefix("torbox-weston-").permissions(private).tempdir()?;
        if let Some(user) = user {
            user.give(dir.path())?;
        }
        let size = [format!("--width={}", SIZE.0), format!("--height={}", SIZE.1)];
        let mut command = command(user, dir.path(), "weston");
        command.args(["--backend=headless-backend.so", "--use-pixman", "--idle-time=0", "--debug", "--no-config"]);
        command.args(size).arg(format!("--socket={SOCKET}"));
        let log = File::create(dir.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().context("cannot run weston")?;
        let weston = Self { child, user, dir };
        wait_until_it_listens("weston", &weston.socket(), &weston.dir.path().join("log"))?;
        Ok(weston)
    }

    /// The compositor.
    #[must_use]
    pub fn process(&self) -> ProcessId {
        ProcessId(self.child.id())
    }

    /// Its socket, absolute, as `WAYLAND_DISPLAY` may hold it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// A command that is a client of this compositor, as its user.
    #[must_use]
    pub fn client(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = command(self.user, self.dir.path(), program);
        command.env("WAYLAND_DISPLAY", self.socket());
        command
    }

    /// Saves what it shows now as a PNG file.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        process::output(&mut self.client("weston-screenshooter")).context("cannot take a picture of weston")?;
        let shots = fs::read_dir(self.dir.path())?.flatten().map(|e| e.path());
        let shot = shots.into_iter().find(|path| path.extension() == Some(OsStr::new("png")));
        let shot = shot.context("weston-screenshooter wrote no picture")?;
        fs::copy(&shot, file).with_context(|| format!("cannot write {}", file.display()))?;
        fs::remove_file(&shot).context("cannot remove the original picture")
    }
}

/// A compositor tells nobody when it listens; between bind and listen a connection is refused.
pub(super) fn wait_until_it_listens(name: &str, socket: &Path, log: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    let listens = wait::retry(Duration::from_millis(30), deadline, || UnixStream::connect(socket).ok());
    if listens.is_none() {
        bail!("{name} does not listen: {}", wait::text_so_far(log).trim());
    }
    Ok(())
}

impl Drop for Weston<'_> {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

pub(super) fn command(user: Option<&TestUser>, dir: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = match user {
        Some(user) => user.command(None, program),
        None => Command::new(program),
    };
    command.env("XDG_RUNTIME_DIR", dir).current_dir(dir);
    command
}
