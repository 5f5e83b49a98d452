//! Keys and pointer (wl_seat): what the user does over the browser's own windows, and nothing from elsewhere.

use super::desk::{Desk, Id, Shape, Wish};
use crate::keymap::Keymap;
use super::surface::Surface;
use rustix::fd::{AsFd, OwnedFd};
use std::io;
use wayland_protocols::wp::cursor_shape::v1::server::wp_cursor_shape_device_v1::{self, Shape as Named};
use wayland_protocols::wp::cursor_shape::v1::server::wp_cursor_shape_manager_v1;
use wayland_server::backend::ClientId;
use wayland_server::protocol::{wl_keyboard, wl_output, wl_pointer, wl_seat, wl_surface, wl_touch};
use wayland_server::{Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, WEnum};

/// What an X server counts from where Linux counts from 0 (linux/input-event-codes.h).
const FIRST_KEY: u8 = 8;
/// How far a step of the wheel scrolls, as compositors do it.
const STEP: f64 = 15.0;
/// Keys per second, and milliseconds before the first is repeated.
const REPEAT: (i32, i32) = (25, 500);
/// The size of the one screen that every box has, whatever the user's is.
const SCREEN: (i32, i32) = (1920, 1080);

/// The user's hands.
pub(super) struct Seat {
    keymap: Keymap,
    pointers: Vec<wl_pointer::WlPointer>,
    keyboards: Vec<wl_keyboard::WlKeyboard>,
    /// The surface under the pointer, and where the surface lies in its window.
    under: Option<(Id, (i32, i32))>,
    /// The window with the keyboard, and its surface or that of a menu.
    focus: Option<Id>,
    pressed_buttons: u32,
    pressed_keys: Vec<u32>,
    state: u16,
    /// A surface whose picture is the pointer's, and its hot spot.
    cursor: Option<(Id, (i32, i32))>,
}

impl Seat {
    pub(super) const fn new(keymap: Keymap) -> Self {
        Self {
            keymap,
            pointers: Vec::new(),
            keyboards: Vec::new(),
            under: None,
            focus: None,
            pressed_buttons: 0,
            pressed_keys: Vec::new(),
            state: 0,
            cursor: None,
        }
    }
}

/// A resource that belongs to the client of `surface`.
fn of<'a, R: Resource>(all: &'a [R], surface: &Surface) -> impl Iterator<Item = &'a R> {
    let client = surface.handle.client().map(|client| client.id());
    all.iter().filter(move |resource| resource.client().map(|client| client.id()) == client)
}

impl Desk {
    /// The keys have other symbols now.
    pub(super) fn remap(&mut self, keymap: Keymap) {
        self.seat.keymap = keymap;
        for keyboard in &self.seat.keyboards {
            say_keymap(&self.seat.keymap, keyboard);
        }
    }

    pub(super) fn key(&mut self, window: Id, code: u8, pressed: bool, state: u16) {
        if self.seat.focus.is_none() {
            self.focus(window);
        }
        self.modifiers(state);
        let key = u32::from(code.saturating_sub(FIRST_KEY));
        let known = self.seat.pressed_keys.contains(&key);
        if pressed == known {
            return;
        }
        if pressed {
            self.seat.pressed_keys.push(key)
        } else {
            self.seat.pressed_keys.retain(|other| *other != key)
        }
        if pressed {
            self.user_acted();
        }
        let (serial, now) = (self.serial(), self.now());
        let state = if pressed { wl_keyboard::KeyState::Pressed } else { wl_keyboard::KeyState::Released };
        if let Some(surface) = self.seat.focus.and_then(|id| self.surface(id)) {
            of(&self.seat.keyboards, surface).for_each(|keyboard| keyboard.key(serial, now, key, state));
        }
    }

    fn modifiers(&mut self, state: u16) {
        if std::mem::replace(&mut self.seat.state, state) == state {
            return;
        }
        let serial = self.serial();
        if let Some(surface) = self.seat.focus.and_then(|id| self.surface(id)) {
            of(&self.seat.keyboards, surface).for_each(|keyboard| say_modifiers(&self.seat, keyboard, serial));
        }
    }

    pub(super) fn focus(&mut self, window: Id) {
        if self.seat.focus == Some(window) {
            return;
        }
        if let Some(old) = self.seat.focus {
            self.unfocus(old);
        }
        self.seat.focus = Some(window);
        self.seat.pressed_keys.clear();
        self.activate(window, true);
        let serial = self.serial();
        let Some(surface) = self.surface(window) else { return };
        // Before the keyboard (`wl_data_device.selection`): clients look at the clipboard when they get that.
        surface.handle.client().iter().for_each(|client| self.offer_clipboard(client));
        for keyboard in of(&self.seat.keyboards, surface) {
            keyboard.enter(serial, &surface.handle, Vec::new());
            say_modifiers(&self.seat, keyboard, serial);
        }
    }

    pub(super) fn unfocus(&mut self, window: Id) {
        if self.seat.focus != Some(window) {
            return;
        }
        self.dismiss_menus();
        self.seat.focus = None;
        self.activate(window, false);
        let serial = self.serial();
        if let Some(surface) = self.surface(window) {
            of(&self.seat.keyboards, surface).for_each(|keyboard| keyboard.leave(serial, &surface.handle));
        }
    }

    /// Whether the client has the keyboard.
    pub(super) fn has_keyboard(&self, client: &Client) -> bool {
        self.focused().is_some_and(|focused| focused.id() == client.id())
    }

    /// The client that has the keyboard.
    pub(super) fn focused(&self) -> Option<Client> {
        self.seat.focus.and_then(|id| self.surface(id)).and_then(|surface| surface.handle.client())
    }

    pub(super) fn motion(&mut self, window: Id, at: (i32, i32), state: u16) {
        self.modifiers(state);
        self.point(window, at);
        let now = self.now();
        let Some((id, corner)) = self.seat.under else { return };
        let Some(surface) = self.surface(id) else { return };
        for pointer in of(&self.seat.pointers, surface) {
            pointer.motion(now, f64::from(at.0.saturating_sub(corner.0)), f64::from(at.1.saturating_sub(corner.1)));
            end(pointer);
        }
    }

    /// Finds what is under the pointer; while a button is held, it stays what it was.
    fn point(&mut self, window: Id, at: (i32, i32)) {
        if self.seat.pressed_buttons > 0 && self.seat.under.is_some() {
            return;
        }
        let hit = self.hit(window, at).map(|(id, place)| (id, (at.0.saturating_sub(place.0), at.1.saturating_sub(place.1)), place));
        if self.seat.under.map(|(id, _)| id) == hit.map(|(id, ..)| id) {
            self.seat.under = hit.map(|(id, corner, _)| (id, corner));
            return;
        }
        self.leave();
        let Some((id, corner, place)) = hit else { return };
        self.seat.under = Some((id, corner));
        let serial = self.serial();
        let Some(surface) = self.surface(id) else { return };
        for pointer in of(&self.seat.pointers, surface) {
            pointer.enter(serial, &surface.handle, f64::from(place.0), f64::from(place.1));
            end(pointer);
        }
    }

    fn leave(&mut self) {
        let serial = self.serial();
        let Some((id, _)) = self.seat.under.take() else { return };
        let Some(surface) = self.surface(id) else { return };
        for pointer in of(&self.seat.pointers, surface) {
            pointer.leave(serial, &surface.handle);
            end(pointer);
        }
    }

    pub(super) fn pointer_leaves(&mut self) {
        if self.seat.pressed_buttons == 0 {
            self.leave();
        }
    }

    pub(super) fn button(&mut self, window: Id, button: u8, pressed: bool, at: (i32, i32), state: u16) {
        self.modifiers(state);
        self.point(window, at);
        match button {
            4..=7 => self.scroll(button, pressed),
            _ => self.click(button, pressed),
        }
    }

    fn click(&mut self, button: u8, pressed: bool) {
        let Some(code) = code_of(button) else { return };
        let count = self.seat.pressed_buttons;
        self.seat.pressed_buttons = if pressed { count.saturating_add(1) } else { count.saturating_sub(1) };
        if pressed {
            self.user_acted();
        }
        let (serial, now) = (self.serial(), self.now());
        let state = if pressed { wl_pointer::ButtonState::Pressed } else { wl_pointer::ButtonState::Released };
        let Some(surface) = self.seat.under.and_then(|(id, _)| self.surface(id)) else { return };
        for pointer in of(&self.seat.pointers, surface) {
            pointer.button(serial, now, code, state);
            end(pointer);
        }
    }

    /// An X server tells a step of the wheel as a button: 4 and 5 up and down, 6 and 7 to the left and right.
    fn scroll(&self, button: u8, pressed: bool) {
        let now = self.now();
        let axis = if button < 6 { wl_pointer::Axis::VerticalScroll } else { wl_pointer::Axis::HorizontalScroll };
        let way = if button.is_multiple_of(2) { -1 } else { 1 };
        let Some(surface) = self.seat.under.filter(|_| pressed).and_then(|(id, _)| self.surface(id)) else { return };
        for pointer in of(&self.seat.pointers, surface) {
            if pointer.version() >= 5 {
                pointer.axis_source(wl_pointer::AxisSource::Wheel);
                pointer.axis_discrete(axis, way);
            }
            pointer.axis(now, axis, f64::from(way) * STEP);
            end(pointer);
        }
    }

    /// A surface is gone or shows nothing.
    pub(super) fn seat_forgets(&mut self, id: Id) {
        if self.seat.under.is_some_and(|(under, _)| under == id) {
            (self.seat.under, self.seat.pressed_buttons) = (None, 0);
        }
        if self.seat.focus == Some(id) {
            self.seat.focus = None;
        }
        if self.seat.cursor.is_some_and(|(cursor, _)| cursor == id) {
            self.seat.cursor = None;
        }
    }

    /// A surface that is no window was committed: the pointer's, perhaps.
    pub(super) fn cursor_committed(&mut self, id: Id) {
        let Some((_, spot)) = self.seat.cursor.filter(|(cursor, _)| *cursor == id) else { return };
        let picture = self.surface(id).and_then(Surface::picture).cloned();
        self.wishes.push(Wish::Pointer(picture.map_or(Shape::Hidden, |picture| Shape::Picture(picture, spot))));
    }
}

/// What belongs together ends here.
fn end(pointer: &wl_pointer::WlPointer) {
    if pointer.version() >= 5 {
        pointer.frame();
    }
}

/// A button as Linux counts them.
const fn code_of(button: u8) -> Option<u32> {
    match button {
        1 => Some(0x110),
        2 => Some(0x112),
        3 => Some(0x111),
        8 => Some(0x113),
        9 => Some(0x114),
        _ => None,
    }
}

fn say_modifiers(seat: &Seat, keyboard: &wl_keyboard::WlKeyboard, serial: u32) {
    let on = seat.state & 0xff;
    let locked = on & u16::from(seat.keymap.locks);
    keyboard.modifiers(serial, u32::from(on & !locked), 0, u32::from(locked), u32::from(seat.state >> 13 & 3));
}

/// A client that gets none takes its own.
fn say_keymap(keymap: &Keymap, keyboard: &wl_keyboard::WlKeyboard) {
    if let Ok(file) = file_of(&keymap.text) {
        let size = u32::try_from(keymap.text.len() + 1).unwrap_or_default();
        keyboard.keymap(wl_keyboard::KeymapFormat::XkbV1, file.as_fd(), size);
    }
}

fn file_of(text: &str) -> io::Result<OwnedFd> {
    Ok(crate::wayland::keymap::file(&[text.as_bytes(), &[0]].concat())?)
}

impl GlobalDispatch<wl_seat::WlSeat, ()> for Desk {
    fn bind(_: &mut Self, _: &DisplayHandle, _: &Client, new: New<wl_seat::WlSeat>, (): &(), init: &mut DataInit<'_, Self>) {
        let seat = init.init(new, ());
        seat.capabilities(wl_seat::Capability::Pointer | wl_seat::Capability::Keyboard);
        if seat.version() >= 2 {
            seat.name("seat0".to_owned());
        }
    }
}

impl Dispatch<wl_seat::WlSeat, ()> for Desk {
    fn request(desk: &mut Self, client: &Client, _: &wl_seat::WlSeat, request: wl_seat::Request, (): &(), _: &DisplayHandle, init: &mut DataInit<'_, Self>) {
        match request {
            wl_seat::Request::GetPointer { id } => desk.seat.pointers.push(init.init(id, ())),
            wl_seat::Request::GetKeyboard { id } => {
                let keyboard = init.init(id, ());
                say_keymap(&desk.seat.keymap, &keyboard);
                if keyboard.version() >= 4 {
                    keyboard.repeat_info(REPEAT.0, REPEAT.1);
                }
                let serial = desk.serial();
                if let Some(surface) = desk.seat.focus.and_then(|id| desk.surface(id)).filter(|_| desk.has_keyboard(client)) {
                    keyboard.enter(serial, &surface.handle, Vec::new());
                    say_modifiers(&desk.seat, &keyboard, serial);
                }
                desk.seat.keyboards.push(keyboard);
            }
            wl_seat::Request::GetTouch { id } => drop(init.init(id, ())),
            _ => {}
        }
        if desk.seat.pointers.len() + desk.seat.keyboards.len() > MANY {
            desk.too_much(client);
        }
    }
}

/// Pointers and keyboards at once.
const MANY: usize = 64;

impl Dispatch<wl_pointer::WlPointer, ()> for Desk {
    fn request(
        desk: &mut Self,
        client: &Client,
        _: &wl_pointer::WlPointer,
        request: wl_pointer::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        let wl_pointer::Request::SetCursor { surface, hotspot_x, hotspot_y, .. } = request else { return };
        if !desk.is_under(client) {
            return;
        }
        match surface.as_ref().and_then(wl_surface::WlSurface::data::<Id>).copied() {
            None => {
                desk.seat.cursor = None;
                desk.wishes.push(Wish::Pointer(Shape::Hidden));
            }
            Some(id) => {
                desk.seat.cursor = Some((id, (hotspot_x, hotspot_y)));
                desk.cursor_committed(id);
            }
        }
    }

    fn destroyed(desk: &mut Self, _: ClientId, pointer: &wl_pointer::WlPointer, (): &()) {
        desk.seat.pointers.retain(|other| other != pointer);
    }
}

impl Desk {
    fn is_under(&self, client: &Client) -> bool {
        let under = self.seat.under.and_then(|(id, _)| self.surface(id)).and_then(|surface| surface.handle.client());
        under.is_some_and(|under| under.id() == client.id())
    }
}

impl Dispatch<wl_keyboard::WlKeyboard, ()> for Desk {
    fn request(_: &mut Self, _: &Client, _: &wl_keyboard::WlKeyboard, _: wl_keyboard::Request, (): &(), _: &DisplayHandle, _: &mut DataInit<'_, Self>) {}

    fn destroyed(desk: &mut Self, _: ClientId, keyboard: &wl_keyboard::WlKeyboard, (): &()) {
        desk.seat.keyboards.retain(|other| other != keyboard);
    }
}

impl Dispatch<wl_touch::WlTouch, ()> for Desk {
    fn request(_: &mut Self, _: &Client, _: &wl_touch::WlTouch, _: wl_touch::Request, (): &(), _: &DisplayHandle, _: &mut DataInit<'_, Self>) {}
}

impl GlobalDispatch<wp_cursor_shape_manager_v1::WpCursorShapeManagerV1, ()> for Desk {
    fn bind(_: &mut Self, _: &DisplayHandle, _: &Client, new: New<wp_cursor_shape_manager_v1::WpCursorShapeManagerV1>, (): &(), init: &mut DataInit<'_, Self>) {
        init.init(new, ());
    }
}

impl Dispatch<wp_cursor_shape_manager_v1::WpCursorShapeManagerV1, ()> for Desk {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &wp_cursor_shape_manager_v1::WpCursorShapeManagerV1,
        request: wp_cursor_shape_manager_v1::Request,
        (): &(),
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        use wp_cursor_shape_manager_v1::Request as R;
        match request {
            R::GetPointer { cursor_shape_device, .. } | R::GetTabletToolV2 { cursor_shape_device, .. } => drop(init.init(cursor_shape_device, ())),
            _ => {}
        }
    }
}

impl Dispatch<wp_cursor_shape_device_v1::WpCursorShapeDeviceV1, ()> for Desk {
    fn request(
        desk: &mut Self,
        client: &Client,
        _: &wp_cursor_shape_device_v1::WpCursorShapeDeviceV1,
        request: wp_cursor_shape_device_v1::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        let wp_cursor_shape_device_v1::Request::SetShape { shape: WEnum::Value(shape), .. } = request else { return };
        if desk.is_under(client) {
            desk.seat.cursor = None;
            desk.wishes.push(Wish::Pointer(Shape::Glyph(glyph(shape))));
        }
    }
}

/// The nearest of the X server's cursor font.
const fn glyph(shape: Named) -> u16 {
    match shape {
        Named::Pointer | Named::Grab | Named::Grabbing => 60,
        Named::Text | Named::VerticalText => 152,
        Named::Wait | Named::Progress => 150,
        Named::Crosshair | Named::Cell => 34,
        Named::Move | Named::AllScroll => 52,
        Named::EResize => 96,
        Named::WResize => 70,
        Named::EwResize | Named::ColResize => 108,
        Named::NResize => 138,
        Named::SResize => 16,
        Named::NsResize | Named::RowResize => 116,
        Named::NeResize | Named::NeswResize => 136,
        Named::NwResize | Named::NwseResize => 134,
        Named::SeResize => 14,
        Named::SwResize => 12,
        Named::Help => 92,
        Named::NotAllowed | Named::NoDrop => 0,
        _ => 68,
    }
}

impl GlobalDispatch<wl_output::WlOutput, ()> for Desk {
    fn bind(_: &mut Self, _: &DisplayHandle, _: &Client, new: New<wl_output::WlOutput>, (): &(), init: &mut DataInit<'_, Self>) {
        let output = init.init(new, ());
        output.geometry(0, 0, 508, 286, wl_output::Subpixel::Unknown, "torbox".to_owned(), "torbox".to_owned(), wl_output::Transform::Normal);
        output.mode(wl_output::Mode::Current | wl_output::Mode::Preferred, SCREEN.0, SCREEN.1, 60_000);
        if output.version() >= 2 {
            output.scale(1);
            output.done();
        }
    }
}

impl Dispatch<wl_output::WlOutput, ()> for Desk {
    fn request(_: &mut Self, _: &Client, _: &wl_output::WlOutput, _: wl_output::Request, (): &(), _: &DisplayHandle, _: &mut DataInit<'_, Self>) {}
}
