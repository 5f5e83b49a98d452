//! Finds the one display socket that a box is given, and makes sure that it opens.
//!
//! It never hands on the user's cookie file: the box gets one of its own with the one cookie that it needs (Xau(3)).

use crate::args::DisplayChoice;
use crate::error::CliError;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use torbox_plan::{Display, SocketAccess};
use x11rb::errors::ConnectError;
use x11rb::rust_connection::{DefaultStream, RustConnection};
use x11rb_protocol::xauth;

/// A display and the cookie file that opens it, empty if it needs none.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) display: Display,
    pub(crate) xauthority: Vec<u8>,
}

impl Opened {
    /// For programs that draw nothing.
    pub(crate) const NONE: Self = Self { display: Display::None, xauthority: Vec::new() };
}

/// The display that `choice` and the environment name. Connects to it once, so that a display that does not answer or
/// does not accept the cookie is found now.
pub(crate) fn open(choice: DisplayChoice) -> Result<Opened, CliError> {
    let wayland = variable("WAYLAND_DISPLAY");
    let x11 = variable("DISPLAY");
    match (choice, wayland, x11) {
        (DisplayChoice::Auto | DisplayChoice::Wayland, Some(name), _) => open_wayland(name),
        (DisplayChoice::Auto | DisplayChoice::X11, _, Some(name)) => open_x11(&name.to_string_lossy()),
        _ => Err(CliError::NoDisplay),
    }
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn open_wayland(name: OsString) -> Result<Opened, CliError> {
    let unusable = || CliError::DisplayName { variable: "WAYLAND_DISPLAY", value: name.to_string_lossy().into_owned() };
    let socket = match PathBuf::from(&name) {
        path if path.is_absolute() => path,
        path => variable("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join(path)).ok_or_else(unusable)?,
    };
    connect(&socket)?;
    admit_box(&socket)?;
    Ok(Opened { display: Display::Wayland { access: access(&socket)?, socket }, xauthority: Vec::new() })
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

fn connect(socket: &Path) -> Result<UnixStream, CliError> {
    UnixStream::connect(socket).map_err(|source| CliError::DisplaySocket { socket: socket.to_owned(), source })
}

fn access(socket: &Path) -> Result<SocketAccess, CliError> {
    let metadata = fs::metadata(socket).map_err(|source| CliError::DisplaySocket { socket: socket.to_owned(), source })?;
    let everyone = metadata.permissions().mode() & 0o002 != 0;
    Ok(if everyone { SocketAccess::Everyone } else { SocketAccess::Owner(metadata.uid()) })
}

fn open_x11(name: &str) -> Result<Opened, CliError> {
    let (number, screen) = parse_display(name).ok_or_else(|| CliError::DisplayName { variable: "DISPLAY", value: name.to_owned() })?;
    let socket = PathBuf::from(format!("/tmp/.X11-unix/X{number}"));
    let (stream, (family, address)) =
        DefaultStream::from_unix_stream(connect(&socket)?).map_err(|source| CliError::DisplaySocket { socket: socket.clone(), source })?;
    let (kind, data) = match xauth::get_auth(family, &address, number) {
        Ok(cookie) => cookie.unwrap_or_default(),
        // No cookie file: a server that asks for none lets the box in all the same.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Default::default(),
        Err(error) => return Err(CliError::CookieFile(error)),
    };
    match RustConnection::connect_to_stream_with_auth_info(stream, screen, kind.clone(), data.clone()) {
        Ok(_) => {}
        Err(ConnectError::IoError(source)) => return Err(CliError::DisplaySocket { socket, source }),
        Err(error) => return Err(CliError::Cookie { socket, reason: error.to_string() }),
    }
    let xauthority = if kind.is_empty() { Vec::new() } else { cookie_file(&kind, &data) };
    Ok(Opened { display: Display::X11 { access: access(&socket)?, socket }, xauthority })
}

/// `:N`, `:N.S`, `unix:N` (X(7), "Display names"); displays over a network are not for a box.
fn parse_display(name: &str) -> Option<(u16, usize)> {
    let rest = name.strip_prefix("unix").unwrap_or(name).strip_prefix(':')?;
    let (number, screen) = rest.split_once('.').unwrap_or((rest, "0"));
    Some((number.parse().ok()?, screen.parse().ok()?))
}

/// One entry of Xau(3)'s format: family (here: any address), address, display number, name, data; big-endian lengths.
fn cookie_file(kind: &[u8], data: &[u8]) -> Vec<u8> {
    const FAMILY_WILD: u16 = 0xffff;
    let field = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes(), bytes].concat();
    [FAMILY_WILD.to_be_bytes().to_vec(), field(b""), field(b"0"), field(kind), field(data)].concat()
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

    #[test]
    fn cookie_file_has_one_entry_for_display_0_and_any_address() {
        assert_eq!(cookie_file(b"MIT", &[1, 2]), b"\xff\xff\x00\x00\x00\x010\x00\x03MIT\x00\x02\x01\x02");
    }
}
