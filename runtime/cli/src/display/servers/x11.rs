//! X11: as a client whom the server does not trust (`security.rs`), or as any client of the user.

use super::{Held, Lease, Mode, Opened, access, connect, security};
use crate::error::CliError;
use std::path::{Path, PathBuf};
use torbox_plan::Display;
use x11rb::errors::ConnectError;
use x11rb::rust_connection::{DefaultStream, RustConnection};
use x11rb_protocol::xauth;

/// What opens a server: the name of a method, and its data.
pub(super) type Key = (Vec<u8>, Vec<u8>);

/// A server, and the caller's own connection to it.
struct Server {
    socket: PathBuf,
    screen: usize,
    key: Key,
    connection: RustConnection,
}

/// For a display of the box's own: nothing of the box but that is the server's client. A server that knows no clients whom it
/// trusts less gets that one as it gets all others.
pub(super) fn open_nested(name: &str) -> Result<Opened, CliError> {
    let (opened, mode) = match open_untrusted(name) {
        Err(CliError::Untrusted { .. }) => (open_trusted(name)?, Mode::X11NestedTrusted),
        opened => (opened?, Mode::X11Nested),
    };
    let display = match opened.display {
        Display::X11 { socket, access } => Display::Nested { socket, access },
        other => other,
    };
    Ok(Opened { display, mode, ..opened })
}

/// With a cookie of the box's own, whose clients the server does not trust.
pub(super) fn open_untrusted(name: &str) -> Result<Opened, CliError> {
    let server = Server::connect(name)?;
    let key = security::untrusted(&server.connection).map_err(|reason| CliError::Untrusted { socket: server.socket.clone(), reason })?;
    // The cookie lives as long as this connection.
    let connection = open(&server.socket, server.screen, &key)?;
    server.opened(&key, Mode::X11Untrusted, Lease::Server { _held: Held::Untrusted { _connection: Box::new(connection) } })
}

/// With the user's own cookie.
pub(super) fn open_trusted(name: &str) -> Result<Opened, CliError> {
    let server = Server::connect(name)?;
    server.opened(&server.key, Mode::X11Trusted, Lease::Endless)
}

/// As any program of the user does.
pub(super) fn connect_as_user(name: &str) -> Result<(RustConnection, usize), CliError> {
    Server::connect(name).map(|server| (server.connection, server.screen))
}

impl Server {
    /// Connects as any program of the user does.
    fn connect(name: &str) -> Result<Self, CliError> {
        let (number, screen) = parse_display(name).ok_or_else(|| CliError::DisplayName { variable: "DISPLAY", value: name.to_owned() })?;
        let socket = PathBuf::from(format!("/tmp/.X11-unix/X{number}"));
        let (_, (family, address)) = stream(&socket)?;
        let key = match xauth::get_auth(family, &address, number) {
            Ok(cookie) => cookie.unwrap_or_default(),
            // No cookie file: a server that asks for none lets the box in all the same.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Key::default(),
            Err(error) => return Err(CliError::CookieFile(error)),
        };
        let connection = open(&socket, screen, &key)?;
        Ok(Self { socket, screen, key, connection })
    }

    fn opened(&self, (method, data): &Key, mode: Mode, lease: Lease) -> Result<Opened, CliError> {
        let display = Display::X11 { access: access(&self.socket)?, socket: self.socket.clone() };
        Ok(Opened { display, cookie: [method, b"\n".as_slice(), data].concat(), mode, lease })
    }
}

fn stream(socket: &Path) -> Result<(DefaultStream, (xauth::Family, Vec<u8>)), CliError> {
    DefaultStream::from_unix_stream(connect(socket)?).map_err(|source| CliError::DisplaySocket { socket: socket.to_owned(), source })
}

/// Opens the server with `key`.
fn open(socket: &Path, screen: usize, (method, data): &Key) -> Result<RustConnection, CliError> {
    let opened = RustConnection::connect_to_stream_with_auth_info(stream(socket)?.0, screen, method.clone(), data.clone());
    opened.map_err(|error| match error {
        ConnectError::IoError(source) => CliError::DisplaySocket { socket: socket.to_owned(), source },
        error => CliError::Cookie { socket: socket.to_owned(), reason: error.to_string() },
    })
}

/// `:N`, `:N.S`, `unix:N` (X(7), "Display names"); displays over a network are not for a box.
fn parse_display(name: &str) -> Option<(u16, usize)> {
    let rest = name.strip_prefix("unix").unwrap_or(name).strip_prefix(':')?;
    let (number, screen) = rest.split_once('.').unwrap_or((rest, "0"));
    Some((number.parse().ok()?, screen.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_of_this_machine_only() {
        let cases = [(":0", Some((0, 0))), (":12.1", Some((12, 1))), ("unix:3", Some((3, 0))), ("host:0", None), ("127.0.0.1:0", None), ("", None), (":x", None), (":-1", None)];
        for (name, expected) in cases {
            assert_eq!(parse_display(name), expected, "{name:?}");
        }
    }
}
