//! A Wayland compositor that lets its clients do everything: sway(5) with wlroots' headless backend, drawing in memory. This
//! machine's, and a current one, which knows security contexts, in a root file system of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{SIZE, Xvfb};
use super::weston::{command, wait_until_it_listens};
use crate::boxed::kept_dir;
use crate::process;
use crate::testnet::daemon::stop;
use crate::user::TestUser;

/// The name that it takes in an empty directory.
const SOCKET: &str = "wayland-1";

/// A running compositor; dropping it ends it. It refuses to run as root.
#[derive(Debug)]
pub struct Sway<'a> {
    child: Child,
    user: &'a TestUser,
    dir: TempDir,
}

/// Where what it draws is seen.
enum Shows<'a> {
    Nowhere,
    Window { layout: &'a str },
}

/// A file with what opens `server`, in `dir`.
fn authority(user: &TestUser, server: &Xvfb, dir: &Path) -> Result<PathBuf> {
    let file = dir.join("Xauthority");
    server.write_auth(&file, Some(user.ids())).map(|()| file)
}

impl<'a> Sway<'a> {
    /// Starts this machine's as a compositor of `user` and returns when it takes clients.
    pub fn start(user: &'a TestUser) -> Result<Self> {
        Self::start_as(user, Shows::Nowhere, |dir| Ok(command(Some(user), dir, "sway")))
    }

    /// The same with the sway of Debian trixie, which `make test` unpacks.
    pub fn current(user: &'a TestUser) -> Result<Self> {
        let root = current_root("sway")?;
        Self::start_as(user, Shows::Nowhere, |dir| {
            let mut command = enclosed(&root, user, dir, Path::new("/dev/null"));
            command.arg("sway");
            Ok(command)
        })
    }

    /// This machine's in a window that fills the X server `server`: what keyboard and pointer do there, its own do, and the keyboard has this layout.
    pub fn in_a_window(user: &'a TestUser, server: &Xvfb, layout: &str) -> Result<Self> {
        Self::start_as(user, Shows::Window { layout }, |dir| {
            let mut command = command(Some(user), dir, "sway");
            command.env("DISPLAY", server.display()).env("XAUTHORITY", authority(user, server, dir)?);
            Ok(command)
        })
    }

    /// The same with Debian trixie's.
    pub fn current_in_a_window(user: &'a TestUser, server: &Xvfb, layout: &str) -> Result<Self> {
        let root = current_root("sway")?;
        Self::start_as(user, Shows::Window { layout }, |dir| {
            let authority = authority(user, server, dir)?;
            let mut command = enclosed_with(&root, user, dir, Path::new("/dev/null"), &[&server.socket()]);
            command.env("DISPLAY", server.display()).env("XAUTHORITY", Path::new("/run").join(authority.file_name().unwrap_or_default())).arg("sway");
            Ok(command)
        })
    }

    fn start_as(user: &'a TestUser, shows: Shows<'_>, sway: impl FnOnce(&Path) -> Result<Command>) -> Result<Self> {
        // As an XDG_RUNTIME_DIR is: the owner's alone.
        let dir = tempfile::Builder::new().prefix("torbox-sway-").permissions(fs::Permissions::from_mode(0o700)).tempdir()?;
        user.give(dir.path())?;
        let config = dir.path().join("config");
        let (backend, own) = match shows {
            Shows::Nowhere => ("headless", format!("output HEADLESS-1 mode {}x{}\n", SIZE.0, SIZE.1)),
            Shows::Window { layout } => ("x11", format!("output X11-1 mode {}x{}\ninput * xkb_layout \"{layout}\"\n", SIZE.0, SIZE.1)),
        };
        fs::write(&config, own + "default_border none\nxwayland disable\nswaybg_command -\n")?;
        user.give(&config)?;
        let mut command = sway(dir.path())?;
        // Its directory is also its working directory, whatever it is called inside.
        command.args(["-c", "config"]).env("WLR_BACKENDS", backend).env("WLR_RENDERER", "pixman").env("WLR_LIBINPUT_NO_DEVICES", "1");
        let log = File::create(dir.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().context("cannot run sway")?;
        let sway = Self { child, user, dir };
        wait_until_it_listens("sway", &sway.socket(), &sway.dir.path().join("log"))?;
        Ok(sway)
    }

    /// Its socket, absolute, as `WAYLAND_DISPLAY` may hold it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// A command, as its user, that is a client of the compositor at `socket`.
    #[must_use]
    pub fn client(&self, socket: &Path, program: impl AsRef<OsStr>) -> Command {
        let mut command = command(Some(self.user), self.dir.path(), program);
        command.env("WAYLAND_DISPLAY", socket);
        command
    }

    /// Saves what it shows now as a PNG file, with what every client of it can do.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        let shot = self.dir.path().join("shot.png");
        process::output(self.client(&self.socket(), "grim").arg(&shot)).context("cannot take a picture of sway")?;
        fs::copy(&shot, file).with_context(|| format!("cannot write {}", file.display())).map(drop)
    }
}

/// The root file system with current compositors, `program` among them.
pub(crate) fn current_root(program: &str) -> Result<PathBuf> {
    let root = kept_dir()?.join("trixie");
    ensure!(root.join("usr/bin").join(program).exists(), "there is no {program} in {}: make out/trixie", root.display());
    Ok(root)
}

/// What runs a program, yet to be named, in `root` as `user`. Of this machine it has the devices and `dir`, which is its `/run`; its
/// users are those of the file `known`.
pub(crate) fn enclosed(root: &Path, user: &TestUser, dir: &Path, known: &Path) -> Command {
    enclosed_with(root, user, dir, known, &[])
}

/// The same, with these sockets of the machine.
fn enclosed_with(root: &Path, user: &TestUser, dir: &Path, known: &Path, sockets: &[&Path]) -> Command {
    let mut command = Command::new("bwrap");
    for (source, target) in [(root.join("usr"), "/usr"), (root.join("etc"), "/etc"), (known.to_owned(), "/etc/passwd")] {
        command.arg("--ro-bind").arg(source).arg(target);
    }
    command.args(["--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--perms", "1777", "--tmpfs", "/tmp"]);
    command.args(["--dev", "/dev", "--bind", "/dev/shm", "/dev/shm", "--proc", "/proc", "--bind"]).arg(dir).args(["/run", "--chdir", "/run"]);
    for socket in sockets {
        command.args(["--perms", "0755", "--dir"]).args(socket.parent()).arg("--bind").args([socket, socket]);
    }
    command.args(["--unshare-pid", "--unshare-net", "--die-with-parent", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "setpriv"]);
    let (uid, gid) = user.ids();
    command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("XDG_RUNTIME_DIR", "/run");
    command
}

impl Drop for Sway<'_> {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}
