//! The display by itself: its program between a compositor and a socket of the test's own, without a box around it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::Xvfb;
use crate::boxed::static_program;
use crate::process::ProcessId;
use crate::testnet::daemon::stop;

/// A running display; dropping it ends it.
#[derive(Debug)]
pub struct Filtered {
    child: Child,
    dir: TempDir,
}

impl Filtered {
    /// Starts one for the compositor at `server`, and returns when it takes clients.
    pub fn start(server: &Path) -> Result<Self> {
        Self::speaking(server, "wayland", None)
    }

    /// Starts one that is a display of its own on an X server.
    pub fn nested(server: &Xvfb) -> Result<Self> {
        Self::speaking(&server.socket(), "nested", Some(&[b"MIT-MAGIC-COOKIE-1\n", server.cookie()].concat()))
    }

    fn speaking(server: &Path, protocol: &str, cookie: Option<&[u8]>) -> Result<Self> {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("torbox-filtered-").permissions(open).tempdir()?;
        let mut command = Command::new(static_program("display")?);
        command.arg("--listen").arg(dir.path().join("wayland-0")).arg("--server").arg(server).args(["--protocol", protocol]);
        if let Some(cookie) = cookie {
            std::fs::write(dir.path().join("cookie"), cookie)?;
            command.arg("--cookie").arg(dir.path().join("cookie"));
        }
        command.args(["--clipboard", "both", "--jitter", "0", "--cage", "required"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot run the display: make build")?;
        let mut line = String::new();
        let out = child.stdout.take().context("no standard output")?;
        BufReader::new(out).read_line(&mut line)?;
        let display = Self { child, dir };
        ensure!(line == "ready\n", "the display said {line:?}");
        Ok(display)
    }

    /// The socket for its clients.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("wayland-0")
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> ProcessId {
        ProcessId(self.child.id())
    }
}

impl Drop for Filtered {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}
