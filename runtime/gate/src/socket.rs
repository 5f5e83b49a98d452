//! The few socket operations of the gate and of the display, all AF_UNIX, all non-blocking, all close-on-exec. unix(7), socket(2).
//! It never makes a socket of another family, and binds only when the gate starts.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, recv, send, socket_with};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
const BACKLOG: i32 = 512;

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something that is not a socket is in the way.
    #[error("{0}: exists and is not a socket")]
    InTheWay(String),
    /// The path is longer than an address can hold.
    #[error("{0}: not usable as a socket's address")]
    Address(String, #[source] Errno),
    /// The stale socket could not be removed.
    #[error("{0}: cannot be replaced")]
    Replace(String, #[source] std::io::Error),
    /// The kernel refused.
    #[error("{0}: cannot listen")]
    Listen(String, #[source] Errno),
}

/// A path as a socket's address.
///
/// # Errors
/// The path is too long or has a NUL byte.
pub fn address(path: &Path) -> std::result::Result<SocketAddrUnix, ListenError> {
    SocketAddrUnix::new(path).map_err(|error| ListenError::Address(path.display().to_string(), error))
}

/// Listens at `path` with mode 0666, in place of a socket that an earlier run left.
///
/// # Errors
/// Something else is in the way, or the kernel refused.
pub fn listener(path: &Path) -> std::result::Result<OwnedFd, ListenError> {
    let name = || path.display().to_string();
    let address = address(path)?;
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            std::fs::remove_file(path).map_err(|error| ListenError::Replace(name(), error))?;
        }
        Ok(_) => return Err(ListenError::InTheWay(name())),
        Err(_) => {}
    }
    listen_at(&address).map_err(|error| ListenError::Listen(name(), error))
}

/// The mode comes from the umask and not from a later chmod: in between, the socket would have another.
fn listen_at(address: &SocketAddrUnix) -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    let before = rustix::process::umask(Mode::from_raw_mode(0o111));
    let bound = bind(&socket, address);
    rustix::process::umask(before);
    bound?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The next connection, if one waits.
///
/// # Errors
/// What accept4(2) says.
pub fn accept(listener: &OwnedFd) -> Result<OwnedFd> {
    accept_with(listener, FLAGS)
}

/// Connects to a socket. `EAGAIN` means that its queue is full.
///
/// # Errors
/// What connect(2) says.
pub fn dial(address: &SocketAddrUnix) -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    connect(&socket, address)?;
    Ok(socket)
}

/// Appends at most `room` bytes. `None` when there is nothing now; the end is an error (`EPIPE`).
pub(crate) fn receive(socket: impl AsFd, held: &mut Vec<u8>, room: usize) -> Result<Option<usize>> {
    let mut buffer = [0_u8; 1024];
    let room = room.min(buffer.len());
    match recv(socket, buffer.get_mut(..room).unwrap_or_default(), RecvFlags::empty()) {
        Ok((0, _)) => Err(Errno::PIPE),
        Ok((count, _)) => {
            held.extend_from_slice(buffer.get(..count).unwrap_or_default());
            Ok(Some(count))
        }
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends a whole small message. A peer that leaves so little unread that it does not fit is in error.
pub(crate) fn send_all(socket: impl AsFd, message: &[u8]) -> Result<()> {
    match send(socket, message, SendFlags::NOSIGNAL)? {
        count if count == message.len() => Ok(()),
        _ => Err(Errno::NOBUFS),
    }
}
