//! Display servers of this machine, through their sockets: Linux's alone.

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
use torbox_plan::SocketAccess;

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
