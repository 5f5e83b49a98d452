//! Windows and menus (xdg-shell). A window gets the size that the user gave it; a menu lies within its window.

use super::desk::{Desk, Frame, Id, Wish};
use super::pixels::Rect;
use super::place::Positioner;
use super::surface::{Role, Surface};
use std::sync::{Arc, Mutex, PoisonError};
use wayland_protocols::xdg::shell::server::{xdg_popup, xdg_positioner, xdg_surface, xdg_toplevel, xdg_wm_base};
use wayland_server::backend::ClientId;
use wayland_server::{Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, WEnum};

/// Windows, and menus, at once.
const MANY: usize = 64;
/// The longest title, in characters.
const TITLE: usize = 200;
/// The size of a window that does not say what it wants, and where menus must fit before their window has one.
const SIZE: (i32, i32) = (1000, 800);

/// A window.
pub(super) struct Window {
    shell: xdg_surface::XdgSurface,
    toplevel: xdg_toplevel::XdgToplevel,
    geometry: Rect,
    pub(super) parent: Option<Id>,
    /// Of the user's window; nothing until it is there.
    pub(super) size: Option<(i32, i32)>,
    fullscreen: bool,
    maximized: bool,
    pub(super) focused: bool,
    greeted: bool,
    pub(super) damage: Rect,
    title: String,
    least: (i32, i32),
    most: (i32, i32),
}

impl Window {
    /// Where its surface's corner lies: what a client draws around its window is cut off.
    pub(super) const fn corner(&self) -> (i32, i32) {
        (self.geometry.x.saturating_neg(), self.geometry.y.saturating_neg())
    }

    pub(super) fn close(&self) {
        self.toplevel.close();
    }

    fn configure(&mut self, serial: u32) {
        let (width, height) = self.size.unwrap_or_default();
        use xdg_toplevel::State as S;
        // Tiled: it keeps to its size and draws no shadow around itself.
        let tiled = [S::TiledLeft, S::TiledRight, S::TiledTop, S::TiledBottom].into_iter().filter(|_| self.toplevel.version() >= 2);
        let states = [(S::Activated, self.focused), (S::Fullscreen, self.fullscreen), (S::Maximized, self.maximized)];
        let states = states.into_iter().filter_map(|(state, is)| is.then_some(state)).chain(tiled);
        self.toplevel.configure(width, height, states.flat_map(|state| u32::from(state).to_ne_bytes()).collect());
        self.shell.configure(serial);
        self.greeted = true;
    }
}

/// A menu, or whatever else belongs to a window and lies over it.
pub(super) struct Menu {
    pub(super) surface: Id,
    /// The window over which it lies.
    pub(super) window: Id,
    parent: Id,
    shell: xdg_surface::XdgSurface,
    popup: xdg_popup::XdgPopup,
    geometry: Rect,
    positioner: Positioner,
    /// Relative to the window's geometry.
    place: Rect,
    /// It closes when the user turns to something else.
    grabs: bool,
    greeted: bool,
}

impl Menu {
    /// Where its surface's corner lies in its window.
    pub(super) const fn corner(&self) -> (i32, i32) {
        (self.place.x.saturating_sub(self.geometry.x), self.place.y.saturating_sub(self.geometry.y))
    }
}

/// What is bound to an `xdg_surface` before it is a window or a menu.
pub(super) struct Shell {
    surface: Id,
    geometry: Mutex<Rect>,
}

type SharedPositioner = Arc<Mutex<Positioner>>;

fn positioner_of(positioner: &xdg_positioner::XdgPositioner) -> Positioner {
    let shared = positioner.data::<SharedPositioner>();
    shared.map(|shared| *shared.lock().unwrap_or_else(PoisonError::into_inner)).unwrap_or_default()
}

impl Desk {
    pub(super) fn resized(&mut self, id: Id, size: (i32, i32)) {
        let serial = self.serial();
        let Some(window) = self.windows.get_mut(&id).filter(|window| window.size != Some(size)) else { return };
        window.size = Some(size);
        window.damage = Rect::of(size);
        window.configure(serial);
    }

    /// Tells a window whether it has the user's attention.
    pub(super) fn activate(&mut self, id: Id, focused: bool) {
        let serial = self.serial();
        if let Some(window) = self.windows.get_mut(&id).filter(|window| window.focused != focused) {
            window.focused = focused;
            window.configure(serial);
        }
    }

    pub(super) fn window_committed(&mut self, id: Id) {
        let serial = self.serial();
        let shown = self.surface(id).and_then(Surface::size);
        let Some(window) = self.windows.get_mut(&id) else { return };
        if !window.greeted {
            window.configure(serial);
        }
        let geometry = window.shell.data::<Shell>().map(|shell| *shell.geometry.lock().unwrap_or_else(PoisonError::into_inner)).unwrap_or_default();
        if geometry != window.geometry && !geometry.is_empty() {
            window.geometry = geometry;
            window.damage = window.size.map(Rect::of).unwrap_or_default();
        }
        match (shown, window.size) {
            (Some(drawn), None) => {
                let size = if window.geometry.is_empty() { drawn } else { (window.geometry.width, window.geometry.height) };
                window.size = Some(size);
                window.damage = Rect::of(size);
                let (title, least, most) = (window.title.clone(), window.least, window.most);
                let parent = window.parent;
                // What it became before it was there.
                let frames = [(window.fullscreen, Frame::Fullscreen(true)), (window.maximized, Frame::Maximized(true))];
                self.wishes.extend([Wish::Open { window: id, size, parent }, Wish::Title { window: id, title }, Wish::Limits { window: id, least, most }]);
                self.wishes.extend(frames.into_iter().filter_map(|(is, frame)| is.then_some(Wish::Frame { window: id, frame })));
            }
            (None, Some(_)) => self.unmapped(id),
            _ => {}
        }
    }

    /// A surface shows nothing any more, or is gone.
    pub(super) fn unmapped(&mut self, id: Id) {
        if let Some(window) = self.windows.get_mut(&id) {
            window.greeted = false;
            if window.size.take().is_some() {
                self.wishes.push(Wish::Close { window: id });
            }
        }
        self.seat_forgets(id);
    }

    pub(super) fn menu_committed(&mut self, id: Id) {
        let serial = self.serial();
        let shown = self.surface(id).is_some_and(|surface| surface.picture().is_some());
        let Some(menu) = self.menus.iter_mut().find(|menu| menu.surface == id) else { return };
        let geometry = menu.shell.data::<Shell>().map(|shell| *shell.geometry.lock().unwrap_or_else(PoisonError::into_inner)).unwrap_or_default();
        let moved = geometry != menu.geometry;
        menu.geometry = geometry;
        if !std::mem::replace(&mut menu.greeted, true) {
            menu.shell.configure(serial);
        }
        if moved && shown {
            let window = menu.window;
            self.redraw(window);
        }
    }

    fn redraw(&mut self, window: Id) {
        self.windows.get_mut(&window).into_iter().for_each(|window| window.damage = window.size.map(Rect::of).unwrap_or_default());
    }

    /// Where the menu's parent lies in the window.
    fn parent_place(&self, parent: Id) -> (Id, (i32, i32)) {
        let menu = self.menus.iter().find(|menu| menu.surface == parent);
        menu.map_or((parent, (0, 0)), |menu| (menu.window, (menu.place.x, menu.place.y)))
    }

    fn place(&self, positioner: &Positioner, parent: Id) -> Rect {
        let (window, place) = self.parent_place(parent);
        let bounds = Rect::of(self.windows.get(&window).and_then(|window| window.size).unwrap_or(SIZE));
        positioner.place(bounds.shifted((place.0.saturating_neg(), place.1.saturating_neg())))
    }

    fn add_menu(&mut self, menu: Menu) {
        let place = self.place(&menu.positioner, menu.parent);
        let (window, parent) = self.parent_place(menu.parent);
        menu.popup.configure(place.x, place.y, place.width, place.height);
        self.menus.push(Menu { window, place: place.shifted(parent), ..menu });
    }

    /// Closes the menus that close when the user turns to something else, the last one first.
    pub(super) fn dismiss_menus(&mut self) {
        for menu in self.menus.iter().rev().filter(|menu| menu.grabs) {
            menu.popup.popup_done();
        }
    }

    fn frame(&mut self, id: Id, frame: Frame) {
        if self.windows.get(&id).is_some_and(|window| window.size.is_some()) {
            self.wishes.push(Wish::Frame { window: id, frame });
        }
    }

    /// Says to a window what it is now; the user's window manager may have it otherwise.
    fn becomes(&mut self, id: Id, change: impl FnOnce(&mut Window), frame: Frame) {
        let serial = self.serial();
        let Some(window) = self.windows.get_mut(&id) else { return };
        change(window);
        if window.greeted {
            window.configure(serial);
        }
        self.frame(id, frame);
    }
}

/// Of a title, what cannot change how it is shown.
fn plain(title: &str) -> String {
    title
        .chars()
        .filter(|letter| !letter.is_control() && !('\u{202a}'..='\u{202e}').contains(letter) && !('\u{2066}'..='\u{2069}').contains(letter))
        .take(TITLE)
        .collect()
}

impl GlobalDispatch<xdg_wm_base::XdgWmBase, ()> for Desk {
    fn bind(_: &mut Self, _: &DisplayHandle, _: &Client, new: New<xdg_wm_base::XdgWmBase>, (): &(), init: &mut DataInit<'_, Self>) {
        init.init(new, ());
    }
}

impl Dispatch<xdg_wm_base::XdgWmBase, ()> for Desk {
    fn request(_: &mut Self, _: &Client, _: &xdg_wm_base::XdgWmBase, request: xdg_wm_base::Request, (): &(), _: &DisplayHandle, init: &mut DataInit<'_, Self>) {
        match request {
            xdg_wm_base::Request::CreatePositioner { id } => drop(init.init(id, SharedPositioner::default())),
            xdg_wm_base::Request::GetXdgSurface { id, surface } => {
                let surface = surface.data::<Id>().copied().unwrap_or_default();
                init.init(id, Shell { surface, geometry: Mutex::default() });
            }
            _ => {}
        }
    }
}

impl Dispatch<xdg_positioner::XdgPositioner, SharedPositioner> for Desk {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &xdg_positioner::XdgPositioner,
        request: xdg_positioner::Request,
        shared: &SharedPositioner,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        let mut own = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            xdg_positioner::Request::SetSize { width, height } => own.size = (width.max(1), height.max(1)),
            xdg_positioner::Request::SetAnchorRect { x, y, width, height } => own.anchor_rect = Rect::new(x, y, width, height),
            xdg_positioner::Request::SetAnchor { anchor: WEnum::Value(anchor) } => own.anchor = anchor,
            xdg_positioner::Request::SetGravity { gravity: WEnum::Value(gravity) } => own.gravity = gravity,
            xdg_positioner::Request::SetConstraintAdjustment { constraint_adjustment: WEnum::Value(adjustment) } => own.adjustment = adjustment,
            xdg_positioner::Request::SetOffset { x, y } => own.offset = (x, y),
            _ => {}
        }
    }
}

impl Dispatch<xdg_surface::XdgSurface, Shell> for Desk {
    fn request(
        desk: &mut Self,
        client: &Client,
        shell: &xdg_surface::XdgSurface,
        request: xdg_surface::Request,
        data: &Shell,
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let surface = data.surface;
        match request {
            xdg_surface::Request::GetToplevel { id } => {
                let toplevel = init.init(id, surface);
                if !desk.give(surface, Role::Window) {
                    return shell.post_error(xdg_surface::Error::AlreadyConstructed, "the surface has another role");
                }
                let window = Window {
                    shell: shell.clone(),
                    toplevel,
                    geometry: Rect::default(),
                    parent: None,
                    size: None,
                    fullscreen: false,
                    maximized: false,
                    focused: false,
                    greeted: false,
                    damage: Rect::default(),
                    title: String::new(),
                    least: (0, 0),
                    most: (0, 0),
                };
                desk.windows.insert(surface, window);
            }
            xdg_surface::Request::GetPopup { id, parent, positioner } => {
                let popup = init.init(id, surface);
                let parent = parent.as_ref().and_then(|parent| parent.data::<Shell>()).map(|parent| parent.surface);
                let Some(parent) = parent.filter(|_| desk.give(surface, Role::Menu)) else {
                    return shell.post_error(xdg_surface::Error::AlreadyConstructed, "a menu without a window, or with another role");
                };
                let (shell, positioner) = (shell.clone(), positioner_of(&positioner));
                let (geometry, place) = (Rect::default(), Rect::default());
                desk.add_menu(Menu { surface, window: parent, parent, shell, popup, geometry, positioner, place, grabs: false, greeted: false });
            }
            xdg_surface::Request::SetWindowGeometry { x, y, width, height } => {
                *data.geometry.lock().unwrap_or_else(PoisonError::into_inner) = Rect::new(x, y, width, height)
            }
            _ => {}
        }
        if desk.windows.len() > MANY || desk.menus.len() > MANY {
            desk.too_much(client);
        }
    }
}

impl Dispatch<xdg_toplevel::XdgToplevel, Id> for Desk {
    fn request(
        desk: &mut Self,
        _: &Client,
        _: &xdg_toplevel::XdgToplevel,
        request: xdg_toplevel::Request,
        id: &Id,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        use xdg_toplevel::Request as R;
        let id = *id;
        match request {
            R::SetTitle { title } => {
                let title = plain(&title);
                let Some(window) = desk.windows.get_mut(&id) else { return };
                window.title.clone_from(&title);
                if window.size.is_some() {
                    desk.wishes.push(Wish::Title { window: id, title });
                }
            }
            R::SetParent { parent } => {
                let parent = parent.as_ref().and_then(|parent| parent.data::<Id>()).copied();
                desk.windows.get_mut(&id).into_iter().for_each(|window| window.parent = parent);
            }
            R::SetMinSize { width, height } => desk.limit(id, |window| window.least = (width, height)),
            R::SetMaxSize { width, height } => desk.limit(id, |window| window.most = (width, height)),
            R::SetFullscreen { .. } => desk.becomes(id, |window| window.fullscreen = true, Frame::Fullscreen(true)),
            R::UnsetFullscreen => desk.becomes(id, |window| window.fullscreen = false, Frame::Fullscreen(false)),
            R::SetMaximized => desk.becomes(id, |window| window.maximized = true, Frame::Maximized(true)),
            R::UnsetMaximized => desk.becomes(id, |window| window.maximized = false, Frame::Maximized(false)),
            R::SetMinimized => desk.frame(id, Frame::Minimized),
            R::Move { .. } => desk.frame(id, Frame::Move),
            R::Resize { edges: WEnum::Value(edge), .. } => desk.frame(id, Frame::Resize(direction(edge))),
            _ => {}
        }
    }

    fn destroyed(desk: &mut Self, _: ClientId, _: &xdg_toplevel::XdgToplevel, id: &Id) {
        desk.unmapped(*id);
        desk.windows.remove(id);
    }
}

impl Desk {
    fn limit(&mut self, id: Id, change: impl FnOnce(&mut Window)) {
        let Some(window) = self.windows.get_mut(&id) else { return };
        change(window);
        if window.size.is_some() {
            let (least, most) = (window.least, window.most);
            self.wishes.push(Wish::Limits { window: id, least, most });
        }
    }
}

/// An edge as `_NET_WM_MOVERESIZE` counts them (Extended Window Manager Hints).
const fn direction(edge: xdg_toplevel::ResizeEdge) -> u32 {
    use xdg_toplevel::ResizeEdge as E;
    match edge {
        E::TopLeft => 0,
        E::Top => 1,
        E::TopRight => 2,
        E::Right => 3,
        E::Bottom => 5,
        E::BottomLeft => 6,
        E::Left => 7,
        _ => 4,
    }
}

impl Dispatch<xdg_popup::XdgPopup, Id> for Desk {
    fn request(desk: &mut Self, _: &Client, _: &xdg_popup::XdgPopup, request: xdg_popup::Request, id: &Id, _: &DisplayHandle, _: &mut DataInit<'_, Self>) {
        if let xdg_popup::Request::Grab { .. } = request {
            desk.menus.iter_mut().filter(|menu| menu.surface == *id).for_each(|menu| menu.grabs = true);
        }
    }

    fn destroyed(desk: &mut Self, _: ClientId, _: &xdg_popup::XdgPopup, id: &Id) {
        let window = desk.menus.iter().find(|menu| menu.surface == *id).map(|menu| menu.window);
        desk.menus.retain(|menu| menu.surface != *id);
        desk.seat_forgets(*id);
        window.into_iter().for_each(|window| desk.redraw(window));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_a_line_of_plain_text() {
        assert_eq!(plain("Tor\u{1b}[2J\n\u{202e}Browser\u{2066}"), "Tor[2JBrowser");
        assert_eq!(plain(&"x".repeat(TITLE + 1)).len(), TITLE);
    }
}
