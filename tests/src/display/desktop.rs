//! The compositors of GNOME and of KDE's Plasma, without a screen, drawing in memory: mutter(1) and kwin_wayland(1) of Debian trixie,
//! in the root file system that `make test` unpacks.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::SIZE;
use super::sway::{current_root, enclosed};
use super::weston::wait_until_it_listens;
use crate::testnet::daemon::stop;
use crate::user::TestUser;

const SOCKET: &str = "wayland-1";

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desktop {
    /// mutter.
    Gnome,
    /// kwin.
    Plasma,
}

impl Desktop {
    fn command_line(self) -> Vec<String> {
        let [width, height] = [SIZE.0, SIZE.1].map(|side| side.to_string());
        let words = match self {
            Self::Gnome => format!("mutter --headless --wayland --no-x11 --virtual-monitor {width}x{height} --wayland-display {SOCKET}"),
            Self::Plasma => format!("kwin_wayland --virtual --width {width} --height {height} --no-lockscreen --socket {SOCKET}"),
        };
        words.split(' ').map(str::to_owned).collect()
    }

    /// Starts it as a compositor of `user` and returns when it takes clients. It has a session bus of its own.
    pub fn start(self, user: &TestUser) -> Result<Compositor> {
        let dir = tempfile::Builder::new().prefix("torbox-desktop-").permissions(fs::Permissions::from_mode(0o700)).tempdir()?;
        user.give(dir.path())?;
        let (uid, gid) = user.ids();
        // The bus asks who its user is.
        let known = dir.path().join("passwd");
        fs::write(&known, format!("root:x:0:0::/:\nuser:x:{uid}:{gid}::/run:\n"))?;
        let mut command = enclosed(&current_root("mutter")?, user, dir.path(), &known);
        command.args(["dbus-run-session", "--config-file=/usr/share/dbus-1/session.conf", "--"]).args(self.command_line());
        command.env("HOME", "/run").env("LIBGL_ALWAYS_SOFTWARE", "1").env("QT_QPA_PLATFORM", "offscreen").env("KWIN_COMPOSE", "Q");
        let log = File::create(dir.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot run {self:?}"))?;
        let compositor = Compositor { child, dir };
        wait_until_it_listens(&format!("{self:?}"), &compositor.socket(), &compositor.dir.path().join("log"))?;
        Ok(compositor)
    }
}

/// A running compositor; dropping it ends it.
#[derive(Debug)]
pub struct Compositor {
    child: Child,
    dir: TempDir,
}

impl Compositor {
    /// Its socket, absolute, as `WAYLAND_DISPLAY` may hold it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }
}

impl Drop for Compositor {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}
