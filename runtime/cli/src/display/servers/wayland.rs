//! Wayland: a listener of the box's own in a security context where the compositor has them ("security-context-v1" of
//! wayland-protocols), else the user's own socket. In both cases the display's container filters what is said.

use super::{Held, LISTENER, Lease, Mode, Opened, access, connect, variable};
use crate::error::CliError;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use torbox_plan::{Display, SocketAccess};
use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_registry::{Event, WlRegistry};
use wayland_client::{Connection, Dispatch, EventQueue, QueueHandle, delegate_noop};
use wayland_protocols::wp::security_context::v1::client::wp_security_context_manager_v1::WpSecurityContextManagerV1 as Manager;
use wayland_protocols::wp::security_context::v1::client::wp_security_context_v1::WpSecurityContextV1 as Context;

/// What the compositor is told of the box, the same for every box: it may show it to the user.
const ENGINE: &str = "torbox";

/// In a security context, or without one where the compositor has none.
pub(super) fn open_best(name: OsString, place: &Path) -> Result<Opened, CliError> {
    match open_in_context(name.clone(), place) {
        Err(CliError::NoContext(_)) => open_filtered(name),
        other => other,
    }
}

/// In a security context.
pub(super) fn open_in_context(name: OsString, place: &Path) -> Result<Opened, CliError> {
    let socket = socket(name)?;
    let compositor = Compositor::connect(&socket)?;
    let Some((manager, mut queue)) = compositor.manager()? else { return Err(CliError::NoContext(socket)) };
    let (path, listener) = listen(place)?;
    let (closed, close) = io::pipe().map_err(|error| CliError::System("make a pipe", error))?;
    let handle = queue.handle();
    let context = manager.create_listener(listener.as_fd(), closed.as_fd(), &handle, ());
    context.set_sandbox_engine(ENGINE.to_owned());
    context.set_app_id(ENGINE.to_owned());
    context.set_instance_id(std::process::id().to_string());
    context.commit();
    context.destroy();
    queue.roundtrip(&mut Client).map_err(|error| compositor.refused(&error))?;
    Ok(Opened {
        display: Display::Wayland { socket: path, access: SocketAccess::Everyone },
        cookie: Vec::new(),
        mode: Mode::Wayland,
        lease: Lease::Server { _held: Held::Context { _close: close } },
    })
}

/// At the user's own socket.
pub(super) fn open_filtered(name: OsString) -> Result<Opened, CliError> {
    let socket = socket(name)?;
    connect(&socket)?;
    admit_box(&socket)?;
    let display = Display::Wayland { access: access(&socket)?, socket };
    Ok(Opened { display, cookie: Vec::new(), mode: Mode::WaylandFilter, lease: Lease::Endless })
}

fn socket(name: OsString) -> Result<PathBuf, CliError> {
    let unusable = || CliError::DisplayName { variable: "WAYLAND_DISPLAY", value: name.to_string_lossy().into_owned() };
    match PathBuf::from(&name) {
        path if path.is_absolute() => Ok(path),
        path => variable("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join(path)).ok_or_else(unusable),
    }
}

/// Listens in `place`, which the caller alone can enter, for everyone to whom the socket is handed by a mount.
fn listen(place: &Path) -> Result<(PathBuf, UnixListener), CliError> {
    let path = place.join(LISTENER);
    let failed = |source| CliError::Path { path: path.clone(), source };
    DirBuilder::new().mode(0o700).create(place).map_err(failed)?;
    let listener = UnixListener::bind(&path).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
    Ok((path, listener))
}

/// Lets the box's ids connect to a socket of the caller's that lies in a directory which only the caller can enter: its
/// mode then bars nobody but those to whom the socket is handed by a mount.
fn admit_box(socket: &Path) -> Result<(), CliError> {
    const OTHERS: u32 = 0o077;
    const CONNECT: u32 = 0o006;
    let failed = |source| CliError::DisplaySocket { socket: socket.to_owned(), source };
    let caller = nix::unistd::geteuid().as_raw();
    let directory = fs::metadata(socket.parent().unwrap_or(socket)).map_err(failed)?;
    let metadata = fs::metadata(socket).map_err(failed)?;
    let private = directory.uid() == caller && directory.permissions().mode() & OTHERS == 0;
    if !private || metadata.uid() != caller {
        return Ok(());
    }
    fs::set_permissions(socket, fs::Permissions::from_mode(metadata.permissions().mode() | CONNECT)).map_err(failed)
}

/// The user's compositor, asked in the user's name.
struct Compositor<'a> {
    socket: &'a Path,
    connection: Connection,
}

impl<'a> Compositor<'a> {
    fn connect(socket: &'a Path) -> Result<Self, CliError> {
        let stream: UnixStream = connect(socket)?;
        let connection = Connection::from_socket(stream).map_err(|error| CliError::DisplaySocket { socket: socket.to_owned(), source: io::Error::other(error) })?;
        Ok(Self { socket, connection })
    }

    /// What makes security contexts, if it has them.
    fn manager(&self) -> Result<Option<(Manager, EventQueue<Client>)>, CliError> {
        let (globals, queue) = registry_queue_init::<Client>(&self.connection).map_err(|error| self.refused(&error))?;
        Ok(globals.bind(&queue.handle(), 1..=1, ()).ok().map(|manager| (manager, queue)))
    }

    fn refused(&self, error: &impl ToString) -> CliError {
        CliError::DisplaySocket { socket: self.socket.to_owned(), source: io::Error::other(error.to_string()) }
    }
}

/// A client without windows.
struct Client;

impl Dispatch<WlRegistry, GlobalListContents> for Client {
    fn event(_: &mut Self, _: &WlRegistry, _: Event, _: &GlobalListContents, _: &Connection, _: &QueueHandle<Self>) {}
}

delegate_noop!(Client: Manager);
delegate_noop!(Client: Context);
