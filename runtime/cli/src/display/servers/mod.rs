//! Display servers of this machine, through their sockets: Linux's alone.

pub(crate) mod clipboard;
mod security;
mod wayland;
mod x11;

use super::{LISTENER, Lease, Mode, Opened};
use crate::args::DisplayChoice;
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
use torbox_plan::SocketAccess;

/// How long a display server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What keeps a display open; the display server sees its end, also by SIGKILL, and lets nobody of the box in any more.
pub(crate) enum Held {
    /// The security context's descriptor.
    Context { _close: std::io::PipeWriter },
    /// A connection with the box's own cookie.
    Untrusted { _connection: Box<x11rb::rust_connection::RustConnection> },
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
        DisplayChoice::Served | DisplayChoice::None => Err(CliError::NoDisplay),
    }
}

/// The caller's own connection to the X server, and the number of the screen.
fn connect_as_user() -> Result<(x11rb::rust_connection::RustConnection, usize), CliError> {
    let name = variable("DISPLAY").ok_or(CliError::NoDisplay)?;
    answered(move || x11::connect_as_user(&name.to_string_lossy()))
}

/// Whether the environment names a compositor.
pub(crate) fn is_wayland() -> bool {
    variable("WAYLAND_DISPLAY").is_some()
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
