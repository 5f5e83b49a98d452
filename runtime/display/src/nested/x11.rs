//! The user's X server, as the one client that speaks to it: plain windows with pictures in them, by requests of the core protocol
//! alone. A client that the server does not trust (Xsecurity(7)) can make all of them.
//!
//! It never asks for what lies outside its own windows, but for who owns the clipboard, and its text when the user pastes.

use super::Host;
use super::desk::{Desk, Frame, Id, Input, Shape, Wish};
use crate::keymap::Keymap;
use super::pixels::{Alpha, PIXEL, Picture, Rect};
use crate::x11::Cookie;
use rustix::fd::{AsFd, BorrowedFd};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::errors::{ConnectError, ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{self, AtomEnum, ConnectionExt as _, EventMask, ImageFormat, PropMode, WindowClass};
use x11rb::rust_connection::{DefaultStream, RustConnection};
use x11rb::wrapper::ConnectionExt as _;

/// The bytes of a pasted text that are taken.
const PASTED: u32 = 1 << 20;
/// Before the window's title, so that a page cannot call its window anything else.
const TITLE: &str = "torbox: ";
/// Bytes of a request beside its picture.
const HEADER: usize = 64;
/// Bytes of a picture that are drawn and sent at once: no window is kept as a whole.
const BAND: usize = 256 * 1024;

x11rb::atom_manager! {
    /// Names that both sides know by numbers.
    Names: NamesCookie {
        CLIPBOARD,
        UTF8_STRING,
        TORBOX_PASTE,
        WM_CHANGE_STATE,
        WM_DELETE_WINDOW,
        WM_PROTOCOLS,
        _NET_SUPPORTING_WM_CHECK,
        _NET_WM_MOVERESIZE,
        _NET_WM_NAME,
        _NET_WM_STATE,
        _NET_WM_STATE_FULLSCREEN,
        _NET_WM_STATE_MAXIMIZED_HORZ,
        _NET_WM_STATE_MAXIMIZED_VERT,
    }
}

/// Why there is no X server, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Its socket does not answer.
    #[error("the X server's socket")]
    Socket(#[from] std::io::Error),
    /// It refuses the cookie, or says something else than an X server.
    #[error("the X server refuses the display")]
    Connect(#[from] ConnectError),
    /// The connection broke.
    #[error("the connection to the X server")]
    Connection(#[from] ConnectionError),
    /// It did not answer.
    #[error("the X server's answer")]
    Reply(#[from] ReplyError),
    /// It gives no more names.
    #[error("the X server's resources")]
    Id(#[from] ReplyOrIdError),
    /// A screen of another kind.
    #[error("the X server's screen has no 24 bits of colour")]
    Colours,
}

/// A window of the user's server.
struct Window {
    own: xproto::Window,
    size: (i32, i32),
}

/// The user's server.
pub(super) struct XHost {
    connection: RustConnection,
    screen: xproto::Screen,
    names: Names,
    brush: xproto::Gcontext,
    font: xproto::Font,
    windows: BTreeMap<Id, Window>,
    cursor: Option<xproto::Cursor>,
    /// Where the pointer was on the screen, and what button was pressed, when one was pressed last.
    pressed: (i16, i16, u8),
    has_manager: bool,
}

impl XHost {
    pub(super) fn connect(socket: &Path, cookie: &Cookie) -> Result<Self, HostError> {
        let (stream, _) = DefaultStream::from_unix_stream(UnixStream::connect(socket)?)?;
        let (name, data) = cookie.parts();
        let connection = RustConnection::connect_to_stream_with_auth_info(stream, 0, name, data)?;
        // Long requests, if the server takes them.
        connection.prefetch_maximum_request_bytes();
        let setup = connection.setup();
        let deep = setup.pixmap_formats.iter().any(|format| format.depth == 24 && format.bits_per_pixel == 32)
            && setup.image_byte_order == xproto::ImageOrder::LSB_FIRST;
        let screen = setup.roots.first().filter(|screen| deep && screen.root_depth == 24).cloned().ok_or(HostError::Colours)?;
        let names = Names::new(&connection)?.reply()?;
        let (brush, font) = (connection.generate_id()?, connection.generate_id()?);
        connection.create_gc(brush, screen.root, &xproto::CreateGCAux::new().graphics_exposures(0))?;
        connection.open_font(font, b"cursor")?;
        let check = connection.get_property(false, screen.root, names._NET_SUPPORTING_WM_CHECK, AtomEnum::WINDOW, 0, 1)?.reply();
        let has_manager = check.is_ok_and(|reply| reply.value_len > 0);
        Ok(Self { connection, screen, names, brush, font, windows: BTreeMap::new(), cursor: None, pressed: (0, 0, 0), has_manager })
    }

    pub(super) fn keymap(&self) -> Result<Keymap, HostError> {
        let (first, last) = (self.connection.setup().min_keycode, self.connection.setup().max_keycode);
        let keys = self.connection.get_keyboard_mapping(first, last.saturating_sub(first).saturating_add(1))?;
        let modifiers = self.connection.get_modifier_mapping()?.reply()?.keycodes;
        let keys = keys.reply()?;
        Ok(Keymap::of_server(first, &keys.keysyms, keys.keysyms_per_keycode, &modifiers))
    }

    fn take_all(&mut self, events: Vec<Event>, desk: &mut Desk) -> Result<(), HostError> {
        let mut events = events.into_iter().peekable();
        while let Some(event) = events.next() {
            // Clients repeat keys by themselves. The server says a key that it repeats as released and pressed at one time.
            if let (Event::KeyRelease(released), Some(Event::KeyPress(pressed))) = (&event, events.peek())
                && (released.detail, released.time) == (pressed.detail, pressed.time)
            {
                events.next();
                continue;
            }
            self.take(&event, desk)?;
        }
        Ok(())
    }

    fn take(&mut self, event: &Event, desk: &mut Desk) -> Result<(), HostError> {
        let id = |own: xproto::Window| self.windows.iter().find(|(_, window)| window.own == own).map(|(id, _)| *id);
        let at = |x: i16, y: i16| (i32::from(x), i32::from(y));
        let input = match event {
            Event::ConfigureNotify(event) => id(event.window).map(|window| Input::Resized { window, size: (i32::from(event.width), i32::from(event.height)) }),
            Event::Expose(event) => {
                let [x, y, width, height] = [event.x, event.y, event.width, event.height].map(i32::from);
                id(event.window).map(|window| Input::Exposed { window, rect: Rect::new(x, y, width, height) })
            }
            Event::KeyPress(event) | Event::KeyRelease(event) => {
                let pressed = event.response_type & 0x7f == xproto::KEY_PRESS_EVENT;
                id(event.event).map(|window| Input::Key { window, code: event.detail, pressed, modifiers: event.state.into() })
            }
            Event::ButtonPress(event) | Event::ButtonRelease(event) => {
                let pressed = event.response_type & 0x7f == xproto::BUTTON_PRESS_EVENT;
                self.pressed = if pressed { (event.root_x, event.root_y, event.detail) } else { self.pressed };
                let button = event.detail;
                id(event.event).map(|window| Input::Button { window, button, pressed, at: at(event.event_x, event.event_y), modifiers: event.state.into() })
            }
            Event::MotionNotify(event) => {
                id(event.event).map(|window| Input::Motion { window, at: at(event.event_x, event.event_y), modifiers: event.state.into() })
            }
            Event::EnterNotify(event) => {
                id(event.event).map(|window| Input::Motion { window, at: at(event.event_x, event.event_y), modifiers: event.state.into() })
            }
            Event::LeaveNotify(event) if event.mode == xproto::NotifyMode::NORMAL => Some(Input::Left),
            // While another client holds the keyboard for a moment, as window managers do for their own keys, it is still this window's.
            Event::FocusIn(event) if event.mode != xproto::NotifyMode::GRAB && event.mode != xproto::NotifyMode::UNGRAB => {
                id(event.event).map(|window| Input::Focus { window, has: true })
            }
            Event::FocusOut(event) if event.mode != xproto::NotifyMode::GRAB && event.mode != xproto::NotifyMode::UNGRAB => {
                id(event.event).map(|window| Input::Focus { window, has: false })
            }
            Event::ClientMessage(event) if event.type_ == self.names.WM_PROTOCOLS && event.data.as_data32().first() == Some(&self.names.WM_DELETE_WINDOW) => {
                id(event.window).map(|window| Input::Closed { window })
            }
            Event::SelectionNotify(event) => {
                let text = self.pasted(event)?;
                desk.pasted(&text);
                None
            }
            Event::MappingNotify(event) if event.request != xproto::Mapping::POINTER => {
                desk.remap(self.keymap()?);
                None
            }
            _ => None,
        };
        if let Some(Input::Resized { window, size }) = input
            && let Some(own) = self.windows.get_mut(&window)
        {
            own.size = size;
        }
        if let Some(Input::Focus { has: true, .. }) = input {
            desk.clipboard_is_of(self.connection.get_selection_owner(self.names.CLIPBOARD)?.reply()?.owner);
        }
        input.into_iter().for_each(|input| desk.take(input));
        Ok(())
    }

    /// What the owner of the clipboard answered; nothing, if it has no text, or more than is taken.
    fn pasted(&self, event: &xproto::SelectionNotifyEvent) -> Result<Vec<u8>, HostError> {
        if event.property == x11rb::NONE {
            return Ok(Vec::new());
        }
        let reply = self.connection.get_property(true, event.requestor, event.property, self.names.UTF8_STRING, 0, PASTED / 4)?.reply()?;
        Ok(if reply.bytes_after == 0 && reply.type_ == self.names.UTF8_STRING { reply.value } else { Vec::new() })
    }

    fn on(&self, id: Id, act: impl FnOnce(&Self, xproto::Window) -> Result<(), HostError>) -> Result<(), HostError> {
        self.windows.get(&id).map_or(Ok(()), |window| act(self, window.own))
    }

    fn open(&mut self, id: Id, size: (i32, i32), parent: Option<Id>) -> Result<(), HostError> {
        let (width, height) = (side(size.0, self.screen.width_in_pixels), side(size.1, self.screen.height_in_pixels));
        let own = self.connection.generate_id()?;
        let wanted = EventMask::EXPOSURE
            | EventMask::STRUCTURE_NOTIFY
            | EventMask::FOCUS_CHANGE
            | EventMask::KEY_PRESS
            | EventMask::KEY_RELEASE
            | EventMask::BUTTON_PRESS
            | EventMask::BUTTON_RELEASE
            | EventMask::POINTER_MOTION
            | EventMask::ENTER_WINDOW
            | EventMask::LEAVE_WINDOW;
        // Without a background the server leaves what is there until it is drawn over: no flicker.
        let looks = xproto::CreateWindowAux::new().event_mask(wanted).bit_gravity(xproto::Gravity::NORTH_WEST);
        self.connection.create_window(
            x11rb::COPY_DEPTH_FROM_PARENT,
            own,
            self.screen.root,
            0,
            0,
            width,
            height,
            0,
            WindowClass::INPUT_OUTPUT,
            x11rb::COPY_FROM_PARENT,
            &looks,
        )?;
        self.connection.change_property32(PropMode::REPLACE, own, self.names.WM_PROTOCOLS, AtomEnum::ATOM, &[self.names.WM_DELETE_WINDOW])?;
        self.connection.change_property8(PropMode::REPLACE, own, AtomEnum::WM_CLASS, AtomEnum::STRING, b"torbox\0torbox\0")?;
        if let Some(parent) = parent.and_then(|parent| self.windows.get(&parent)) {
            self.connection.change_property32(PropMode::REPLACE, own, AtomEnum::WM_TRANSIENT_FOR, AtomEnum::WINDOW, &[parent.own])?;
        }
        self.connection.map_window(own)?;
        self.windows.insert(id, Window { own, size: (width.into(), height.into()) });
        Ok(())
    }

    /// Draws a part of a window and sends it.
    fn put(&self, desk: &Desk, id: Id, own: xproto::Window, part: Rect) -> Result<(), HostError> {
        let mut picture = Picture::new((part.width, part.height), Alpha::Ignored);
        desk.paint(id, (part.x, part.y), &mut picture, Rect::of((part.width, part.height)));
        let (Ok(x), Ok(y), Ok(width), Ok(height)) = (part.x.try_into(), part.y.try_into(), part.width.try_into(), part.height.try_into()) else { return Ok(()) };
        Ok(self.connection.put_image(ImageFormat::Z_PIXMAP, own, self.brush, width, height, x, y, 0, 24, picture.bytes()).map(drop)?)
    }

    fn close(&mut self, id: Id) -> Result<(), HostError> {
        if let Some(window) = self.windows.remove(&id) {
            self.connection.destroy_window(window.own)?;
        }
        Ok(())
    }

    fn title(&self, own: xproto::Window, title: &str) -> Result<(), HostError> {
        let title = format!("{TITLE}{title}");
        self.connection.change_property8(PropMode::REPLACE, own, self.names._NET_WM_NAME, self.names.UTF8_STRING, title.as_bytes())?;
        let plain: Vec<u8> = title.chars().map(|letter| if letter.is_ascii() { letter as u8 } else { b'?' }).collect();
        self.connection.change_property8(PropMode::REPLACE, own, AtomEnum::WM_NAME, AtomEnum::STRING, &plain)?;
        Ok(())
    }

    /// `WM_NORMAL_HINTS` (Inter-Client Communication Conventions Manual, 4.1.2.3).
    fn limits(&self, own: xproto::Window, least: (i32, i32), most: (i32, i32)) -> Result<(), HostError> {
        let positive = |(width, height): (i32, i32)| (width > 0 && height > 0).then_some((width, height));
        let hints = x11rb::properties::WmSizeHints { min_size: positive(least), max_size: positive(most), ..Default::default() };
        hints.set_normal_hints(&self.connection, own)?;
        Ok(())
    }

    fn frame(&self, own: xproto::Window, frame: Frame) -> Result<(), HostError> {
        let names = &self.names;
        match frame {
            Frame::Fullscreen(on) => {
                self.ask(own, names._NET_WM_STATE, [u32::from(on), names._NET_WM_STATE_FULLSCREEN, 0, 1, 0])?;
                if on && !self.has_manager {
                    let all = xproto::ConfigureWindowAux::new()
                        .x(0)
                        .y(0)
                        .width(u32::from(self.screen.width_in_pixels))
                        .height(u32::from(self.screen.height_in_pixels));
                    self.connection.configure_window(own, &all)?;
                }
                Ok(())
            }
            Frame::Maximized(on) => {
                self.ask(own, names._NET_WM_STATE, [u32::from(on), names._NET_WM_STATE_MAXIMIZED_HORZ, names._NET_WM_STATE_MAXIMIZED_VERT, 1, 0])
            }
            Frame::Minimized => self.ask(own, names.WM_CHANGE_STATE, [3, 0, 0, 0, 0]),
            Frame::Move => self.drag(own, 8),
            Frame::Resize(direction) => self.drag(own, direction),
        }
    }

    fn drag(&self, own: xproto::Window, direction: u32) -> Result<(), HostError> {
        let (x, y, button) = self.pressed;
        self.connection.ungrab_pointer(x11rb::CURRENT_TIME)?;
        self.ask(own, self.names._NET_WM_MOVERESIZE, [i32::from(x).cast_unsigned(), i32::from(y).cast_unsigned(), direction, button.into(), 1])
    }

    /// Asks the window manager (Extended Window Manager Hints).
    fn ask(&self, own: xproto::Window, what: xproto::Atom, data: [u32; 5]) -> Result<(), HostError> {
        let message = xproto::ClientMessageEvent::new(32, own, what, data);
        self.connection.send_event(false, self.screen.root, EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY, message)?;
        Ok(())
    }

    fn point(&mut self, shape: &Shape) -> Result<(), HostError> {
        let cursor = self.connection.generate_id()?;
        match shape {
            Shape::Glyph(glyph) => {
                self.connection.create_glyph_cursor(cursor, self.font, self.font, *glyph, glyph + 1, 0, 0, 0, u16::MAX, u16::MAX, u16::MAX)?;
            }
            Shape::Hidden => self.draw_cursor(cursor, &Picture::new((1, 1), Alpha::Used), (0, 0))?,
            Shape::Picture(picture, spot) => self.draw_cursor(cursor, picture, *spot)?,
        }
        let looks = xproto::ChangeWindowAttributesAux::new().cursor(cursor);
        for window in self.windows.values() {
            self.connection.change_window_attributes(window.own, &looks)?;
        }
        if let Some(old) = self.cursor.replace(cursor) {
            self.connection.free_cursor(old)?;
        }
        Ok(())
    }

    /// In black and white, as the core protocol has them.
    fn draw_cursor(&self, cursor: xproto::Cursor, picture: &Picture, spot: (i32, i32)) -> Result<(), HostError> {
        let most = 256;
        let (width, height) = (side(picture.size().0, most), side(picture.size().1, most));
        let is = |x: usize, y: usize, of: &dyn Fn([u8; PIXEL]) -> bool| picture.row(y, x..x + 1).first_chunk().is_some_and(|pixel| of(*pixel));
        let dark = |pixel: [u8; PIXEL]| pixel[3] > 127 && pixel.iter().take(3).map(|part| u32::from(*part)).sum::<u32>() < 3 * 128;
        let there = |pixel: [u8; PIXEL]| pixel[3] > 127;
        let source = self.bitmap(width, height, &|x, y| is(x, y, &dark))?;
        let mask = self.bitmap(width, height, &|x, y| is(x, y, &there))?;
        let within = |place: i32, side: u16| u16::try_from(place).unwrap_or_default().min(side.saturating_sub(1));
        self.connection.create_cursor(cursor, source, mask, 0, 0, 0, u16::MAX, u16::MAX, u16::MAX, within(spot.0, width), within(spot.1, height))?;
        self.connection.free_pixmap(source)?;
        self.connection.free_pixmap(mask)?;
        Ok(())
    }

    /// A picture of one bit, drawn point by point: how bits lie in bytes differs between servers.
    fn bitmap(&self, width: u16, height: u16, is: &dyn Fn(usize, usize) -> bool) -> Result<xproto::Pixmap, HostError> {
        let (map, brush) = (self.connection.generate_id()?, self.connection.generate_id()?);
        self.connection.create_pixmap(1, map, self.screen.root, width, height)?;
        self.connection.create_gc(brush, map, &xproto::CreateGCAux::new().foreground(0))?;
        self.connection.poly_fill_rectangle(map, brush, &[xproto::Rectangle { x: 0, y: 0, width, height }])?;
        self.connection.change_gc(brush, &xproto::ChangeGCAux::new().foreground(1))?;
        let all = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let points: Vec<_> = all.filter(|(x, y)| is((*x).into(), (*y).into())).map(|(x, y)| xproto::Point { x: x.cast_signed(), y: y.cast_signed() }).collect();
        for some in points.chunks(4096) {
            self.connection.poly_point(xproto::CoordMode::ORIGIN, map, brush, some)?;
        }
        self.connection.free_gc(brush)?;
        Ok(map)
    }
}

impl Host for XHost {
    fn socket(&self) -> BorrowedFd<'_> {
        self.connection.stream().as_fd()
    }

    fn hear(&mut self, desk: &mut Desk) -> Result<(), HostError> {
        loop {
            let mut events = Vec::new();
            while let Some(event) = self.connection.poll_for_event()? {
                events.push(event);
            }
            if events.is_empty() {
                return Ok(());
            }
            self.take_all(events, desk)?;
        }
    }

    fn fulfil(&mut self, wish: Wish, _: &mut Desk) -> Result<(), HostError> {
        match wish {
            Wish::Open { window, size, parent } => self.open(window, size, parent),
            Wish::Close { window } => self.close(window),
            Wish::Title { window, title } => self.on(window, |host, own| host.title(own, &title)),
            Wish::Limits { window, least, most } => self.on(window, |host, own| host.limits(own, least, most)),
            Wish::Frame { window, frame } => self.on(window, |host, own| host.frame(own, frame)),
            Wish::Pointer(shape) => self.point(&shape),
            Wish::Paste => {
                let Some(window) = self.windows.values().next() else { return Ok(()) };
                self.connection.convert_selection(window.own, self.names.CLIPBOARD, self.names.UTF8_STRING, self.names.TORBOX_PASTE, x11rb::CURRENT_TIME)?;
                Ok(())
            }
        }
    }

    fn show(&mut self, desk: &mut Desk) -> Result<(), HostError> {
        let most = self.connection.maximum_request_bytes().saturating_sub(HEADER).min(BAND);
        for (id, window) in &self.windows {
            let damage = desk.changed(*id, window.size);
            let row = usize::try_from(damage.width).unwrap_or_default() * PIXEL;
            for band in damage.bands(i32::try_from(most / row.max(1)).unwrap_or(1)) {
                self.put(desk, *id, window.own, band)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), HostError> {
        Ok(self.connection.flush()?)
    }
}

/// A side of a window: some of it, and no more than there is room for.
fn side(length: i32, most: u16) -> u16 {
    u16::try_from(length.max(1)).unwrap_or(most).min(most.max(1))
}
