//! A display of the box's own: the browser speaks Wayland to it, and what of that the judge lets pass is read, and drawn, here. On the user's X server
//! each of its windows is a window there ([`x11`]); of X it can say nothing, and hears nothing. Without a display server its windows
//! are pictures in a page ([`served`]).
//!
//! [`desk`] holds what clients made; `surface`, `memory`, `shell`, `seat` and `clipboard` are the protocols. `pixels` and `place`
//! are pure.

mod clipboard;
mod desk;
#[doc(hidden)]
pub mod fuzz;
mod memory;
mod outlet;
mod pixels;
mod place;
mod seat;
mod served;
mod shell;
mod surface;
mod x11;

pub(crate) use served::usual_keymap;
pub use x11::HostError;

use crate::config::Clipboard;
use crate::keymap::Keymap;
use crate::x11::Cookie;
use clipboard::Exit;
use desk::{Desk, Wish};
use outlet::Outlet;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wayland_protocols::wp::cursor_shape::v1::server::wp_cursor_shape_manager_v1::WpCursorShapeManagerV1;
use wayland_protocols::xdg::shell::server::xdg_wm_base::XdgWmBase;
use wayland_server::backend::{ClientData, ClientId, DisconnectReason};
use wayland_server::protocol::{wl_compositor, wl_data_device_manager, wl_output, wl_seat, wl_shm, wl_subcompositor};
use wayland_server::{Display, DisplayHandle};

/// How often a picture is shown at most: every 60th part of a second.
const PICTURE: Duration = Duration::from_micros(16_667);

/// The display.
pub(crate) struct Nested {
    wayland: Display<Desk>,
    desk: Desk,
    host: Box<dyn Host>,
    outlet: Outlet,
    shown: Instant,
}

/// Where the windows are shown.
trait Host {
    /// What tells of something to hear.
    fn socket(&self) -> BorrowedFd<'_>;

    /// Takes what the user did to the desk.
    fn hear(&mut self, desk: &mut Desk) -> Result<(), HostError>;

    /// Does what the desk wishes.
    fn fulfil(&mut self, wish: Wish, desk: &mut Desk) -> Result<(), HostError>;

    /// Shows what has changed.
    fn show(&mut self, desk: &mut Desk) -> Result<(), HostError>;

    /// Hands over what the user takes out of the browser here.
    fn hand_out(&mut self, _text: &str) {}

    /// Sends what can be sent.
    fn flush(&mut self) -> Result<(), HostError>;

    /// Whether something could not be sent yet.
    fn is_sending(&self) -> bool {
        false
    }

    /// Whether it would show what clients drew next.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether it would show something now though no window has changed.
    fn is_awaited(&self) -> bool {
        false
    }

    /// How often a picture is shown at most.
    fn pace(&self) -> Duration {
        PICTURE
    }
}

/// What is known of a client.
struct Nobody;

impl ClientData for Nobody {
    fn initialized(&self, _: ClientId) {}

    fn disconnected(&self, _: ClientId, _: DisconnectReason) {}
}

impl Nested {
    /// Connects to the X server at `socket`.
    ///
    /// # Errors
    /// It does not answer, does not accept the cookie, or is of another kind.
    pub(crate) fn on_x11(socket: &Path, cookie: &Cookie, clipboard: Clipboard) -> Result<Self, HostError> {
        let host = x11::XHost::connect(socket, cookie)?;
        let keymap = host.keymap()?;
        Self::new(Box::new(host), keymap, clipboard)
    }

    /// Connects to what serves the page at `socket`.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn served(socket: &Path, clipboard: Clipboard) -> Result<Self, HostError> {
        let host = served::PageHost::connect(socket)?;
        let keymap = host.keymap();
        Self::new(Box::new(host), keymap, clipboard)
    }

    fn new(host: Box<dyn Host>, keymap: Keymap, clipboard: Clipboard) -> Result<Self, HostError> {
        let wayland = Display::new().map_err(io::Error::other)?;
        let handle = wayland.handle();
        offer(&handle);
        let desk = Desk::new(handle, keymap, clipboard);
        Ok(Self { wayland, desk, host, outlet: Outlet::default(), shown: Instant::now() })
    }

    /// What to wait for besides clients' connections: what shows the windows, and the clients.
    pub(crate) fn sockets(&mut self) -> [BorrowedFd<'_>; 2] {
        [self.host.socket(), self.wayland.as_fd()]
    }

    /// The other end of a client; none where there is no place for one.
    pub(crate) fn connect(&mut self) -> Option<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (own, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
        self.desk.handle.insert_client(UnixStream::from(own), Arc::new(Nobody)).ok()?;
        Some(other)
    }

    /// The user wants what the browser copied: it is said on standard output, once the browser has given it.
    pub(crate) fn take_out(&mut self) {
        self.desk.take_out(Exit::Output);
    }

    /// Moves everything on that can be; how long nothing more can happen by itself.
    ///
    /// # Errors
    /// What shows the windows is gone, and with it the display.
    pub(crate) fn turn(&mut self) -> Result<Option<Duration>, HostError> {
        self.host.hear(&mut self.desk)?;
        self.wayland.dispatch_clients(&mut self.desk)?;
        for wish in std::mem::take(&mut self.desk.wishes) {
            self.host.fulfil(wish, &mut self.desk)?;
        }
        let ready = self.host.is_ready();
        let waits = ready && self.desk.is_awaited() || self.desk.is_damaged() || self.host.is_awaited();
        let pace = self.host.pace();
        if waits && self.shown.elapsed() >= pace {
            self.shown = Instant::now();
            self.host.show(&mut self.desk)?;
            if ready {
                self.desk.shown();
            }
        }
        self.desk.clipboard.tell();
        match self.desk.clipboard.taken() {
            Some((Exit::Host, text)) => self.host.hand_out(&text),
            Some((Exit::Output, text)) => self.outlet.say(&text),
            None => {}
        }
        self.outlet.turn();
        self.host.flush()?;
        // What came with an answer of the X server is heard now: no socket tells of it any more.
        self.host.hear(&mut self.desk)?;
        self.wayland.flush_clients()?;
        let more = waits || self.desk.clipboard.is_busy() || self.outlet.is_busy() || self.host.is_sending() || !self.desk.wishes.is_empty();
        Ok(more.then(|| pace.saturating_sub(self.shown.elapsed())))
    }
}

/// What is there for clients. What is not named here they cannot have.
fn offer(handle: &DisplayHandle) {
    handle.create_global::<Desk, wl_compositor::WlCompositor, ()>(4, ());
    handle.create_global::<Desk, wl_subcompositor::WlSubcompositor, ()>(1, ());
    handle.create_global::<Desk, wl_shm::WlShm, ()>(1, ());
    handle.create_global::<Desk, wl_seat::WlSeat, ()>(7, ());
    handle.create_global::<Desk, wl_output::WlOutput, ()>(3, ());
    handle.create_global::<Desk, wl_data_device_manager::WlDataDeviceManager, ()>(3, ());
    handle.create_global::<Desk, XdgWmBase, ()>(2, ());
    handle.create_global::<Desk, WpCursorShapeManagerV1, ()>(1, ());
}
