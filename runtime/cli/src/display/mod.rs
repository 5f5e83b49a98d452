//! Finds the one display that a box is given, the strongest that works, and makes sure that it opens.
//!
//! It never hands on the user's cookie file, nor a socket of the user's to anyone but the display's container.

mod mode;
mod served;
#[cfg(target_os = "linux")]
pub(crate) mod servers;

pub(crate) use mode::Mode;

use crate::args::DisplayChoice;
use crate::dirs;
use crate::error::CliError;
use crate::system;
use std::path::Path;
use torbox_plan::Display;

/// The name of a listener that is made for a box, in a directory of its own.
const LISTENER: &str = "display";

/// A display, open for one box.
pub(crate) struct Opened {
    /// Its socket.
    pub(crate) display: Display,
    /// What opens it, as the display's container is given it; empty if it needs nothing.
    pub(crate) cookie: Vec<u8>,
    /// How it is used.
    pub(crate) mode: Mode,
    /// Until this is dropped.
    pub(crate) lease: Lease,
}

/// What keeps a display open for a box.
pub(crate) enum Lease {
    /// Nothing: it stays open as long as it is there.
    Endless,
    /// What a display server sees the end of.
    Server { _held: system::Held },
    /// The standard input of what serves the page.
    Page { _lifeline: std::io::PipeWriter },
}

impl Opened {
    /// For programs that draw nothing.
    pub(crate) const NONE: Self = Self { display: Display::None, cookie: Vec::new(), mode: Mode::None, lease: Lease::Endless };
}

/// The same for a program that can do without.
pub(crate) fn open_if_any(choice: DisplayChoice, place: &Path) -> Result<Opened, CliError> {
    match open(choice, place) {
        Err(CliError::NoDisplay) if [DisplayChoice::Auto, DisplayChoice::None].contains(&choice) => Ok(Opened::NONE),
        other => other,
    }
}

/// The display that `choice` and the environment name. What has to be made for it is made in `place`, a directory that is not there yet.
pub(crate) fn open(choice: DisplayChoice, place: &Path) -> Result<Opened, CliError> {
    match choice {
        DisplayChoice::Served => served::open(place),
        DisplayChoice::None => Err(CliError::NoDisplay),
        other => system::open_display(other, place),
    }
}

/// Removes what [`open`] made in `place`.
pub(crate) fn remove(place: &Path) -> Result<(), CliError> {
    dirs::remove(&place.join(LISTENER))?;
    dirs::remove(place)
}
