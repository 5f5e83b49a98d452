//! Displays that tests can look at: an X server and a Wayland compositor without a screen, pictures of them, what is written on
//! the pictures, and the moment a window appears.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

pub mod client;
mod desktop;
mod filtered;
mod input;
mod picture;
mod reaction;
mod sway;
mod watch;
mod weston;
mod xvfb;

pub use desktop::{Compositor, Desktop};
pub use filtered::Filtered;
pub use input::Input;
pub use picture::Picture;
pub use reaction::Reaction;
pub use sway::Sway;
pub(crate) use sway::{current_root, enclosed};
pub use watch::{Appeared, Watch};
pub use weston::Weston;
pub use xvfb::Xvfb;

use crate::process;

/// Size of every test display, in pixels.
pub const SIZE: (u16, u16) = (1280, 800);

/// Firefox's `user.js` without what a new profile would ask and fetch first.
const FIREFOX_SETTINGS: &str = r#"user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("termsofuse.bypassNotification", true);
"#;

/// `firefox`, a command that runs this machine's Firefox, on `url` in a window as large as the screen, with a new profile in the directory `home`. Of displays
/// it knows none yet.
pub fn kiosk(mut firefox: Command, home: &Path, url: &str) -> Result<Command> {
    fs::create_dir_all(home)?;
    fs::write(home.join("user.js"), FIREFOX_SETTINGS)?;
    firefox.args(["--no-remote", "--kiosk", "--profile"]).arg(home).arg(url);
    firefox.env("HOME", home).env("TMPDIR", home).env("XDG_RUNTIME_DIR", home).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    firefox.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    Ok(firefox)
}

/// The text on a picture, as tesseract(1) reads it; lines in reading order. tesseract expects letters as a scanner sees them, so
/// the picture is enlarged first.
pub fn read_text(png: &Path) -> Result<String> {
    let large = tempfile::Builder::new().prefix("torbox-read-").suffix(".png").tempfile()?;
    Picture::load(png)?.enlarged(2).save(large.path())?;
    recognise(large.path()).with_context(|| format!("cannot read the text on {}", png.display()))
}

fn recognise(png: &Path) -> Result<String> {
    let mut command = Command::new("tesseract");
    // One thread: on a small machine more are slower by far.
    command.env("OMP_THREAD_LIMIT", "1").arg(png).args(["stdout", "--psm", "6"]);
    let text = process::output(&mut command)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
