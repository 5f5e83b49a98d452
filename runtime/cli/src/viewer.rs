//! `torbox __viewer`: serves a box's display as a page, on a port of this machine's loopback alone, to whoever knows the secret.
//!
//! The page is torbox's own and what the display says reaches it as bytes of a WebSocket, never as a page, a header or a script: a
//! display that was taken over can draw, and cannot make the user's browser load anything. What the display says is not even read
//! here, but for its length.

mod http;

use crate::error::CliError;
use crate::system;
use http::Asked;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use torbox_backend::local::{self, Stream};
use torbox_backend::secret::random_hex;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Message, WebSocket};

/// Hidden subcommand; the path of the socket to listen at follows.
pub(crate) const VIEWER: &str = "__viewer";

/// Connections of browsers at once.
const CONNECTIONS: usize = 16;
/// How long a browser may take to ask, or to take a part of what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a message of the display: a picture of the largest screen that deflate could not shorten.
const PICTURE: usize = 80 << 20;
/// Bytes of a message of the page.
const SAID: usize = 1 << 20;
/// What the display is told when the page's connection has ended.
const GONE: &[u8] = b"g";

/// The process: says the page's address on standard output, and ends with the display, or with standard input.
pub(crate) fn main() -> ExitCode {
    let outcome = std::env::args_os().nth(2).ok_or_else(|| io::Error::from(ErrorKind::InvalidInput)).and_then(|socket| serve(Path::new(&socket)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => CliError::System("show the box as a page", error).print(),
    }
}

fn serve(socket: &Path) -> io::Result<()> {
    let secret = random_hex()?;
    let displays = local::bind(socket)?;
    system::admit_everyone(socket)?;
    let browsers = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = browsers.local_addr()?;
    system::confine_viewer()?;
    // Before anyone is waited for: torbox waits for this line.
    let mut out = io::stdout();
    writeln!(out, "http://{address}/#{secret}")?;
    out.flush()?;
    thread::spawn(|| {
        io::stdin().lock().read_to_end(&mut Vec::new()).ok();
        std::process::exit(0);
    });
    let (display, _) = displays.accept()?;
    drop(displays);
    let shared = Shared { secret, display: Mutex::new(display.try_clone()?), page: Mutex::new((0, None)), connections: AtomicUsize::new(0) };
    thread::scope(|scope| {
        scope.spawn(|| {
            // Its end is the end of everything.
            let error = shared.pass_on(display).err();
            std::process::exit(i32::from(error.is_some_and(|error| error.kind() != ErrorKind::UnexpectedEof)));
        });
        for browser in browsers.incoming() {
            let Ok(browser) = browser else { continue };
            if shared.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                shared.connections.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let shared = &shared;
            scope.spawn(move || {
                // What a browser does wrong is its own loss.
                shared.answer(browser).ok();
                shared.connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

/// What all connections share.
struct Shared {
    secret: String,
    display: Mutex<Stream>,
    /// The page that shows the box, and its number: the last that came.
    page: Mutex<(u64, Option<WebSocket<TcpStream>>)>,
    connections: AtomicUsize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Passes the display's messages on to the page; those that come while there is none are lost, and come again with the next.
    fn pass_on(&self, mut display: Stream) -> io::Result<()> {
        loop {
            let mut length = [0; 4];
            display.read_exact(&mut length)?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > PICTURE {
                return Err(ErrorKind::InvalidData.into());
            }
            let mut message = vec![0; length];
            display.read_exact(&mut message)?;
            if let Some(page) = &mut locked(&self.page).1
                && page.send(Message::Binary(Bytes::from(message))).is_err()
            {
                // Whoever reads from it sees that it has ended.
                page.get_ref().shutdown(Shutdown::Both).ok();
            }
        }
    }

    fn tell(&self, message: &[u8]) -> io::Result<()> {
        let length = u32::try_from(message.len()).map_err(io::Error::other)?;
        locked(&self.display).write_all(&[&length.to_be_bytes(), message].concat())
    }

    fn answer(&self, mut browser: TcpStream) -> io::Result<()> {
        browser.set_nodelay(true)?;
        browser.set_read_timeout(Some(PATIENCE))?;
        browser.set_write_timeout(Some(PATIENCE))?;
        match http::read(&mut browser, &self.secret, PATIENCE)? {
            Asked::File(page) => http::give(&mut browser, page),
            Asked::Screen { key } => self.show(browser, &key),
            Asked::Wrong(status) => http::refuse(&mut browser, status),
        }
    }

    /// Serves the page until it goes. The one that showed the box before does not any more: it may be lost without having ended.
    fn show(&self, mut browser: TcpStream, key: &str) -> io::Result<()> {
        let config = WebSocketConfig::default().max_message_size(Some(SAID)).max_frame_size(Some(SAID));
        http::upgrade(&mut browser, key)?;
        let own = {
            let (number, page) = &mut *locked(&self.page);
            if let Some(old) = page.replace(WebSocket::from_raw_socket(browser.try_clone()?, Role::Server, Some(config))) {
                old.get_ref().shutdown(Shutdown::Both).ok();
            }
            *number += 1;
            *number
        };
        browser.set_read_timeout(None)?;
        let mut said = WebSocket::from_raw_socket(browser, Role::Server, Some(config));
        while let Ok(message) = said.read() {
            if let Message::Binary(message) = message {
                self.tell(&message)?;
            }
        }
        let (number, page) = &mut *locked(&self.page);
        if *number == own {
            *page = None;
            self.tell(GONE)?;
        }
        Ok(())
    }
}
