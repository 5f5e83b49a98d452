//! A page instead of a display server: a process of torbox's own serves it (`viewer`), and gives the display a socket to speak to.

use super::{LISTENER, Lease, Mode, Opened};
use crate::error::CliError;
use crate::system;
use crate::terminal;
use crate::viewer::VIEWER;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Command, Stdio};
use torbox_plan::{Display, SocketAccess};

/// Starts what serves the page, with the display's socket in `place`, and says where the page is. It ends with the lease.
pub(super) fn open(place: &Path) -> Result<Opened, CliError> {
    let socket = place.join(LISTENER);
    system::make_private(place).map_err(|source| CliError::Path { path: place.to_owned(), source })?;
    let failed = |source| CliError::System("serve the box as a page", source);
    let (ends, lifeline) = io::pipe().map_err(failed)?;
    let own = std::env::current_exe().map_err(failed)?;
    let mut viewer = Command::new(own).arg(VIEWER).arg(&socket).stdin(Stdio::from(ends)).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut address = String::new();
    // It says one line as soon as it listens, or ends.
    let told = viewer.stdout.take().map(BufReader::new).ok_or_else(|| ErrorKind::BrokenPipe.into());
    told.and_then(|mut told| told.read_line(&mut address)).map_err(failed)?;
    if address.is_empty() {
        return Err(failed(ErrorKind::UnexpectedEof.into()));
    }
    terminal::say(&format!("torbox: the box is shown at {}", address.trim_end()));
    terminal::say("torbox: whoever knows this address and can reach this machine's loopback sees the box and types into it; keep it to yourself");
    Ok(Opened { display: Display::Served { socket, access: SocketAccess::Everyone }, cookie: Vec::new(), mode: Mode::Served, lease: Lease::Page { _lifeline: lifeline } })
}
