//! Finds the one display that a box is given, the strongest that works, and makes sure that it opens.
//!
//! It never hands on the user's cookie file, nor a socket of the user's to anyone but the display's container.

mod mode;
mod security;
mod served;
mod wayland;
mod x11;

pub(crate) use mode::Mode;

use crate::args::DisplayChoice;
use crate::dirs;
use crate::error::CliError;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use torbox_plan::{Display, SocketAccess};

/// The name of a listener that is made for a box, in a directory of its own.
const LISTENER: &str = "display";

/// How long a display server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// What keeps a display open for a box; the display server sees its end, also by SIGKILL, and lets nobody of the box in any more.
pub(crate) enum Lease {
    /// Nothing: it stays open as long as it is there.
    Endless,
    /// The security context's descriptor.
    Context { _close: std::io::PipeWriter },
    /// A connection with the box's own cookie.
    Untrusted { _connection: Box<x11rb::rust_connection::RustConnection> },
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

/// The display that `choice` and the environment name. Connects to it, so that a display that does not answer or does not accept
/// the cookie is found now. What has to be made for it is made in `place`, a directory that is not there yet.
pub(crate) fn open(choice: DisplayChoice, place: &Path) -> Result<Opened, CliError> {
    let place = place.to_owned();
    answered(move || open_at_length(choice, &place))
}

/// A server may stand still, and its libraries wait for ever.
fn answered<T: Send + 'static>(ask: impl FnOnce() -> Result<T, CliError> + Send + 'static) -> Result<T, CliError> {
    let (say, said) = mpsc::channel();
    thread::spawn(move || say.send(ask()));
    said.recv_timeout(PATIENCE).unwrap_or(Err(CliError::NoDisplayAnswer(PATIENCE.as_secs())))
}

fn open_at_length(choice: DisplayChoice, place: &Path) -> Result<Opened, CliError> {
    let wayland = || variable("WAYLAND_DISPLAY").ok_or(CliError::NoDisplay);
    let x11 = || variable("DISPLAY").map(|name| name.to_string_lossy().into_owned()).ok_or(CliError::NoDisplay);
    match choice {
        DisplayChoice::Auto if is_wayland() => wayland::open_best(wayland()?, place),
        DisplayChoice::Auto | DisplayChoice::X11Nested => x11::open_nested(&x11()?),
        DisplayChoice::X11Untrusted => x11::open_untrusted(&x11()?),
        DisplayChoice::Wayland => wayland::open_in_context(wayland()?, place),
        DisplayChoice::WaylandFilter => wayland::open_filtered(wayland()?),
        DisplayChoice::X11Trusted => x11::open_trusted(&x11()?),
        DisplayChoice::Served => served::open(place),
        DisplayChoice::None => Err(CliError::NoDisplay),
    }
}

/// The caller's own connection to the X server, and the number of the screen.
pub(crate) fn connect_as_user() -> Result<(x11rb::rust_connection::RustConnection, usize), CliError> {
    let name = variable("DISPLAY").ok_or(CliError::NoDisplay)?;
    answered(move || x11::connect_as_user(&name.to_string_lossy()))
}

/// Whether the environment names a compositor.
pub(crate) fn is_wayland() -> bool {
    variable("WAYLAND_DISPLAY").is_some()
}

/// Removes what [`open`] made in `place`.
pub(crate) fn remove(place: &Path) -> Result<(), CliError> {
    dirs::remove(&place.join(LISTENER))?;
    dirs::remove(place)
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn connect(socket: &Path) -> Result<UnixStream, CliError> {
    UnixStream::connect(socket).map_err(|source| CliError::DisplaySocket { socket: socket.to_owned(), source })
}

fn access(socket: &Path) -> Result<SocketAccess, CliError> {
    let metadata = fs::metadata(socket).map_err(|source| CliError::DisplaySocket { socket: socket.to_owned(), source })?;
    let everyone = metadata.permissions().mode() & 0o002 != 0;
    Ok(if everyone { SocketAccess::Everyone } else { SocketAccess::Owner(metadata.uid()) })
}
