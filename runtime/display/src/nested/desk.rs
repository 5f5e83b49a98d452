//! What the browser's surfaces are put on: windows, each with its menus, of which the user's display server gets a picture and a
//! title, and nothing else. The server's side (`x11`) says what the user does as [`Input`]s and is told what to do as [`Wish`]es.
//!
//! It never tells a client where its window lies, what else is shown, or what was typed elsewhere.

use super::clipboard::Clipboard;
use crate::config;
use crate::keymap::Keymap;
use super::pixels::{Picture, Rect};
use super::seat::Seat;
use super::shell::{Menu, Window};
use super::surface::{Role, Surface};
use std::collections::BTreeMap;
use std::time::Instant;
use wayland_server::backend::protocol::ProtocolError;
use wayland_server::{Client, DisplayHandle, Resource};

/// A surface; never used twice.
pub(super) type Id = u64;

/// What a window asks the window manager for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Fullscreen(bool),
    Maximized(bool),
    Minimized,
    /// The user drags the window by what the browser drew of its frame.
    Move,
    /// The user drags an edge of it (`_NET_WM_MOVERESIZE`).
    Resize(u32),
}

/// What the server's side is to do.
#[derive(Debug)]
pub(super) enum Wish {
    /// Show a window of this size.
    Open {
        window: Id,
        size: (i32, i32),
        parent: Option<Id>,
    },
    Close {
        window: Id,
    },
    Title {
        window: Id,
        title: String,
    },
    /// The least and the greatest size; 0 is no limit.
    Limits {
        window: Id,
        least: (i32, i32),
        most: (i32, i32),
    },
    Frame {
        window: Id,
        frame: Frame,
    },
    Pointer(Shape),
    /// Ask for the user's clipboard.
    Paste,
}

/// How the pointer looks over the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A glyph of the X server's cursor font ("Appendix B" of the X protocol).
    Glyph(u16),
    /// A picture, and its hot spot.
    Picture(Picture, (i32, i32)),
    Hidden,
}

/// What the user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Resized { window: Id, size: (i32, i32) },
    Exposed { window: Id, rect: Rect },
    Key { window: Id, code: u8, pressed: bool, modifiers: u16 },
    Button { window: Id, button: u8, pressed: bool, at: (i32, i32), modifiers: u16 },
    Motion { window: Id, at: (i32, i32), modifiers: u16 },
    Left,
    Focus { window: Id, has: bool },
    Closed { window: Id },
}

/// Everything that clients made.
pub(super) struct Desk {
    pub(super) handle: DisplayHandle,
    pub(super) surfaces: BTreeMap<Id, Surface>,
    /// By their surfaces, as are the menus.
    pub(super) windows: BTreeMap<Id, Window>,
    /// In the order in which they opened.
    pub(super) menus: Vec<Menu>,
    pub(super) seat: Seat,
    pub(super) clipboard: Clipboard,
    pub(super) wishes: Vec<Wish>,
    pub(super) pools: usize,
    last: Id,
    serial: u32,
    begun: Instant,
}

impl Desk {
    pub(super) fn new(handle: DisplayHandle, keymap: Keymap, clipboard: config::Clipboard) -> Self {
        Self {
            handle,
            surfaces: BTreeMap::new(),
            windows: BTreeMap::new(),
            menus: Vec::new(),
            seat: Seat::new(keymap),
            clipboard: Clipboard::new(clipboard),
            wishes: Vec::new(),
            pools: 0,
            last: 0,
            serial: 0,
            begun: Instant::now(),
        }
    }

    pub(super) const fn next_id(&mut self) -> Id {
        self.last += 1;
        self.last
    }

    pub(super) const fn serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// Milliseconds since the display started, as events are stamped with.
    pub(super) fn now(&self) -> u32 {
        u32::try_from(self.begun.elapsed().as_millis() & u128::from(u32::MAX)).unwrap_or_default()
    }

    /// A client that takes more than a browser ever needs is ended.
    pub(super) fn too_much(&self, client: &Client) {
        let error = ProtocolError {
            code: 2,
            object_id: 1,
            object_interface: "wl_display".to_owned(),
            message: "more than a display of torbox gives one client".to_owned(),
        };
        client.kill(&self.handle, error);
    }

    pub(super) fn too_much_of(&self, id: Id) {
        if let Some(client) = self.surface(id).and_then(|surface| surface.handle.client()) {
            self.too_much(&client);
        }
    }

    /// `rect` of the surface `id` must be drawn again.
    pub(super) fn damage(&mut self, id: Id, rect: Rect) {
        let (root, place) = self.root(id);
        let menu = self.menus.iter().find(|menu| menu.surface == root).map(|menu| (menu.window, menu.corner()));
        let (window, corner) = menu.unwrap_or_else(|| (root, self.windows.get(&root).map(Window::corner).unwrap_or_default()));
        let Some(window) = self.windows.get_mut(&window).filter(|_| !rect.is_empty()) else { return };
        window.damage = window.damage.union(rect.shifted(place).shifted(corner));
    }

    /// Draws what has changed of a window; what that is.
    pub(super) fn compose(&mut self, id: Id, canvas: &mut Picture) -> Rect {
        let damage = self.changed(id, canvas.size());
        self.paint(id, (0, 0), canvas, damage);
        damage
    }

    /// What has changed of a window of this size since it was last asked for.
    pub(super) fn changed(&mut self, id: Id, size: (i32, i32)) -> Rect {
        let damage = self.windows.get_mut(&id).map(|window| std::mem::take(&mut window.damage));
        damage.unwrap_or_default().intersection(Rect::of(size))
    }

    /// Draws `clip` of a picture of the window from `begin` on.
    pub(super) fn paint(&self, id: Id, begin: (i32, i32), picture: &mut Picture, clip: Rect) {
        let Some(window) = self.windows.get(&id).filter(|_| !clip.is_empty()) else { return };
        let at = |(x, y): (i32, i32)| (x.saturating_sub(begin.0), y.saturating_sub(begin.1));
        picture.clear(clip);
        self.draw(id, at(window.corner()), picture, clip);
        for menu in self.menus.iter().filter(|menu| menu.window == id) {
            self.draw(menu.surface, at(menu.corner()), picture, clip);
        }
    }

    /// What lies under `place` of a window: a surface, and where that is in it.
    pub(super) fn hit(&self, window: Id, place: (i32, i32)) -> Option<(Id, (i32, i32))> {
        let local = |corner: (i32, i32)| (place.0.saturating_sub(corner.0), place.1.saturating_sub(corner.1));
        let menus = self.menus.iter().rev().filter(|menu| menu.window == window).map(|menu| (menu.surface, menu.corner()));
        let all = menus.chain(self.windows.get(&window).map(|shown| (window, shown.corner())));
        all.into_iter().find_map(|(root, corner)| self.under(root, local(corner)))
    }

    pub(super) fn take(&mut self, input: Input) {
        match input {
            Input::Resized { window, size } => self.resized(window, size),
            Input::Exposed { window, rect } => {
                self.windows.get_mut(&window).into_iter().for_each(|window| window.damage = window.damage.union(rect));
            }
            Input::Key { window, code, pressed, modifiers } => self.key(window, code, pressed, modifiers),
            Input::Button { window, button, pressed, at, modifiers } => self.button(window, button, pressed, at, modifiers),
            Input::Motion { window, at, modifiers } => self.motion(window, at, modifiers),
            Input::Left => self.pointer_leaves(),
            Input::Focus { window, has: true } => self.focus(window),
            Input::Focus { window, has: false } => self.unfocus(window),
            Input::Closed { window } => self.windows.get(&window).into_iter().for_each(Window::close),
        }
    }

    /// After a commit of a surface that is not a part that waits.
    pub(super) fn committed(&mut self, id: Id) {
        let (root, _) = self.root(id);
        match self.surface(root).map(|surface| surface.role) {
            Some(Role::Window) => self.window_committed(root),
            Some(Role::Menu) => self.menu_committed(root),
            _ => self.cursor_committed(root),
        }
    }
}

impl Desk {
    /// Whether anything must be drawn.
    pub(super) fn is_damaged(&self) -> bool {
        self.windows.values().any(|window| window.size.is_some() && !window.damage.is_empty())
    }
}
