//! A screen without a display server: what the browser shows goes, as pictures, to torbox's own page in a browser of the user's, and
//! from there come keys and pointer. Between the two lies `torbox` itself, which reads nothing of either.
//!
//! The first window fills the screen, dialogs lie in its middle; of several windows the user chooses. The page shows one picture at a
//! time, and says when it has: however slow the way to it, it is never behind.

mod keys;
mod message;
mod queue;

use super::clipboard::Exit;
use super::desk::{Desk, Id, Input, Shape, Wish};
use super::pixels::{Alpha, Picture, Rect};
use super::{Host, HostError, PICTURE};
use crate::keymap::Keymap;
use keys::Keyboard;
use message::{Said, Told};
use queue::Queue;
use rustix::fd::BorrowedFd;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The size of the screen until a page says its own.
const SCREEN: (i32, i32) = (1280, 800);
/// What a page may say its size is.
const SIDES: std::ops::RangeInclusive<i32> = 64..=4096;
/// The pace of what nobody sees.
const UNSEEN: Duration = Duration::from_millis(100);
/// The wheel of the X protocol: buttons of their own.
const FIRST_WHEEL: u8 = 4;

/// A window, and where it lies on the screen.
struct Window {
    canvas: Picture,
    place: (i32, i32),
    title: String,
    parent: Option<Id>,
}

impl Window {
    fn rect(&self) -> Rect {
        Rect::of(self.canvas.size()).shifted(self.place)
    }
}

/// The page that shows the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Absent,
    /// It waits for a picture.
    Waits,
    /// It has not shown the last one yet.
    Draws,
}

/// The window in which buttons are held, and which.
#[derive(Clone, Copy)]
struct Held {
    window: Id,
    /// A bit for each.
    buttons: u32,
}

/// The page's side of the display.
pub(in crate::nested) struct PageHost {
    queue: Queue,
    page: Page,
    screen: Picture,
    /// What of the screen the page has not got yet.
    damage: Rect,
    windows: BTreeMap<Id, Window>,
    /// From the lowest to the topmost.
    order: Vec<Id>,
    /// Windows opened, closed or renamed since the page was told of them.
    renamed: bool,
    keyboard: Keyboard,
    focus: Option<Id>,
    held: Option<Held>,
    cursor: &'static str,
    clipboard: Vec<u8>,
    /// Counts what the user copied elsewhere.
    copies: u32,
    /// What the page was told that it can take out.
    offered: Option<u32>,
}

/// The map of a keyboard of which nothing is known.
pub(crate) fn usual_keymap() -> Keymap {
    Keyboard::default().keymap()
}

impl PageHost {
    pub(in crate::nested) fn connect(socket: &Path) -> Result<Self, HostError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            queue: Queue::new(stream),
            page: Page::Absent,
            screen: Picture::new(SCREEN, Alpha::Ignored),
            damage: Rect::default(),
            windows: BTreeMap::new(),
            order: Vec::new(),
            renamed: false,
            keyboard: Keyboard::default(),
            focus: None,
            held: None,
            cursor: "default",
            clipboard: Vec::new(),
            copies: 0,
            offered: None,
        })
    }

    pub(in crate::nested) fn keymap(&self) -> Keymap {
        self.keyboard.keymap()
    }

    fn take(&mut self, said: Said<'_>, desk: &mut Desk) {
        match said {
            Said::Here(size) => {
                self.page = Page::Waits;
                self.resize(size, desk);
                self.tell_everything();
                self.turn_to_top(desk);
            }
            Said::Gone => {
                self.page = Page::Absent;
                self.turn_away(desk);
            }
            Said::Shown if self.page == Page::Draws => self.page = Page::Waits,
            Said::Shown => {}
            Said::Size(size) => {
                if self.resize(size, desk) {
                    self.queue.push(&Told::Size(self.screen.size()));
                }
            }
            Said::Focus(true) => self.turn_to_top(desk),
            Said::Focus(false) => self.turn_away(desk),
            Said::Motion { at, modifiers } => {
                if let Some((window, at)) = self.under(at) {
                    desk.take(Input::Motion { window, at, modifiers });
                }
            }
            Said::Button { button, pressed, at, modifiers } => self.button(button, pressed, (at, modifiers), desk),
            Said::Key { key, pressed, modifiers } => self.key(&key, pressed, modifiers, desk),
            Said::Text(text) => text.chars().for_each(|letter| self.letter(letter, desk)),
            Said::Copied(text) => {
                self.clipboard = text.into();
                self.copies = self.copies.wrapping_add(1);
                desk.clipboard_is_of(self.copies);
                desk.offer_to_focused();
            }
            Said::Wanted => desk.take_out(Exit::Host),
            Said::Raise(id) => self.raise(id, desk),
            Said::Close(id) => desk.take(Input::Closed { window: id }),
        }
    }

    /// A page that has just come knows nothing.
    fn tell_everything(&mut self) {
        self.queue.push(&Told::Size(self.screen.size()));
        self.queue.push(&Told::Cursor(self.cursor));
        self.damage = Rect::of(self.screen.size());
        self.renamed = true;
        self.offered = None;
    }

    fn key(&mut self, key: &keys::Key<'_>, pressed: bool, modifiers: u16, desk: &mut Desk) {
        let Some(window) = self.focus else { return };
        let Some((code, changed)) = self.keyboard.code(key, pressed, modifiers) else { return };
        if changed {
            desk.remap(self.keyboard.keymap());
        }
        desk.take(Input::Key { window, code, pressed, modifiers });
    }

    /// A letter that no key has: of an input method.
    fn letter(&mut self, letter: char, desk: &mut Desk) {
        let text = letter.to_string();
        for pressed in [true, false] {
            self.key(&keys::Key { place: "", symbol: &text }, pressed, 0, desk);
        }
    }

    fn button(&mut self, button: u8, pressed: bool, (at, modifiers): ((i32, i32), u16), desk: &mut Desk) {
        let Some((window, at)) = self.under(at) else { return };
        desk.take(Input::Button { window, button, pressed, at, modifiers });
        // The wheel is not held.
        if button < FIRST_WHEEL {
            let (bit, old) = (1 << button, self.held.map_or(0, |held| held.buttons));
            let buttons = if pressed { old | bit } else { old & !bit };
            self.held = (buttons != 0).then_some(Held { window, buttons });
        }
    }

    /// Nothing is held any more, and keys go to no window.
    fn turn_away(&mut self, desk: &mut Desk) {
        if let Some(Held { window, buttons }) = self.held.take() {
            for button in (1..FIRST_WHEEL).filter(|button| buttons & 1 << button != 0) {
                desk.take(Input::Button { window, button, pressed: false, at: (0, 0), modifiers: 0 });
            }
        }
        if let Some(window) = self.focus {
            for code in self.keyboard.release() {
                desk.take(Input::Key { window, code, pressed: false, modifiers: 0 });
            }
        }
        desk.take(Input::Left);
        self.turn_to(None, desk);
    }

    /// The window that gets the pointer at a place of the screen, and the place in it: the one in which a button is held, else the
    /// topmost. A window with a dialog gets nothing.
    fn under(&self, at: (i32, i32)) -> Option<(Id, (i32, i32))> {
        let id = self.held.map(|held| held.window).or_else(|| self.order.last().copied())?;
        let window = self.windows.get(&id)?;
        let place = (at.0.saturating_sub(window.place.0), at.1.saturating_sub(window.place.1));
        (self.held.is_some() || window.rect().contains(at)).then_some((id, place))
    }

    /// Whether the screen has another size now.
    fn resize(&mut self, (width, height): (i32, i32), desk: &mut Desk) -> bool {
        let size = (width.clamp(*SIDES.start(), *SIDES.end()), height.clamp(*SIDES.start(), *SIDES.end()));
        if size == self.screen.size() {
            return false;
        }
        self.screen = Picture::new(size, Alpha::Ignored);
        self.damage = Rect::of(size);
        let all: Vec<_> = self.windows.iter().map(|(id, window)| (*id, if window.parent.is_some() { window.canvas.size() } else { size })).collect();
        for (id, size) in all {
            self.lay(id, size);
            desk.take(Input::Resized { window: id, size });
        }
        true
    }

    /// Puts a window of this size where it belongs.
    fn lay(&mut self, id: Id, size: (i32, i32)) {
        let screen = self.screen.size();
        let Some(window) = self.windows.get_mut(&id) else { return };
        if window.canvas.size() != size {
            window.canvas = Picture::new(size, Alpha::Ignored);
        }
        window.place = ((screen.0.saturating_sub(size.0) / 2).max(0), (screen.1.saturating_sub(size.1) / 2).max(0));
        self.damage = Rect::of(screen);
    }

    fn turn_to_top(&mut self, desk: &mut Desk) {
        self.turn_to(self.order.last().copied().filter(|_| self.page != Page::Absent), desk);
    }

    fn turn_to(&mut self, window: Option<Id>, desk: &mut Desk) {
        if self.focus == window {
            return;
        }
        if let Some(old) = std::mem::replace(&mut self.focus, window) {
            desk.take(Input::Focus { window: old, has: false });
        }
        if let Some(new) = window {
            desk.take(Input::Focus { window: new, has: true });
        }
    }

    /// Puts a window, and its dialogs, above all others.
    fn raise(&mut self, id: Id, desk: &mut Desk) {
        let (mut above, mut rest): (Vec<_>, Vec<_>) = self.order.iter().copied().partition(|other| self.main_of(*other) == self.main_of(id));
        if above.is_empty() {
            return;
        }
        rest.append(&mut above);
        self.order = rest;
        self.damage = Rect::of(self.screen.size());
        self.renamed = true;
        self.turn_to_top(desk);
    }

    /// The window to which a dialog belongs, or itself.
    fn main_of(&self, id: Id) -> Id {
        let parent = |id: &Id| self.windows.get(id).and_then(|window| window.parent);
        // A chain of them cannot be longer than there are windows.
        std::iter::successors(Some(id), parent).take(self.windows.len() + 1).last().unwrap_or(id)
    }

    /// The first window fills the screen, and so does every other that is no dialog.
    fn open(&mut self, id: Id, size: (i32, i32), parent: Option<Id>, desk: &mut Desk) {
        let parent = parent.filter(|parent| self.windows.contains_key(parent));
        let screen = self.screen.size();
        let size = parent.map_or(screen, |_| (size.0.clamp(1, screen.0), size.1.clamp(1, screen.1)));
        self.windows.insert(id, Window { canvas: Picture::default(), place: (0, 0), title: String::new(), parent });
        self.order.push(id);
        self.lay(id, size);
        desk.take(Input::Resized { window: id, size });
        self.renamed = true;
        self.turn_to_top(desk);
    }

    fn close(&mut self, id: Id, desk: &mut Desk) {
        self.windows.remove(&id);
        self.order.retain(|other| *other != id);
        self.held = self.held.filter(|held| held.window != id);
        self.focus = self.focus.filter(|focus| *focus != id);
        self.damage = Rect::of(self.screen.size());
        self.renamed = true;
        self.turn_to_top(desk);
    }

    /// The windows that are no dialogs, in the order in which they opened.
    fn tell_windows(&mut self) {
        let main = |id: &Id| self.windows.get(id).filter(|window| window.parent.is_none()).map(|window| (*id, window.title.as_str()));
        let top = self.order.iter().rev().find_map(main).map(|(id, _)| id);
        let all: Vec<_> = self.windows.keys().filter_map(main).collect();
        self.queue.push(&Told::Windows { top, all: &all });
    }

    fn tell_picture(&mut self) {
        let damage = std::mem::take(&mut self.damage).intersection(Rect::of(self.screen.size()));
        self.screen.clear(damage);
        for window in self.order.iter().filter_map(|id| self.windows.get(id)) {
            self.screen.draw(&window.canvas, 1, window.place, damage);
        }
        self.queue.push(&Told::Picture { rect: damage, screen: &self.screen });
        self.page = Page::Draws;
    }
}

impl Host for PageHost {
    fn socket(&self) -> BorrowedFd<'_> {
        self.queue.socket()
    }

    fn hear(&mut self, desk: &mut Desk) -> Result<(), HostError> {
        self.queue.receive()?;
        while let Some(message) = self.queue.next()? {
            // What makes no sense is not done: it comes from the user's own browser.
            if let Some(said) = message::read(&message) {
                self.take(said, desk);
            }
        }
        let own = desk.clipboard.own();
        if self.page != Page::Absent && std::mem::replace(&mut self.offered, own) != own {
            self.queue.push(&Told::Offer(own.is_some()));
        }
        Ok(())
    }

    fn hand_out(&mut self, text: &str) {
        if self.page != Page::Absent {
            self.queue.push(&Told::Text(text));
        }
    }

    fn fulfil(&mut self, wish: Wish, desk: &mut Desk) -> Result<(), HostError> {
        match wish {
            Wish::Open { window, size, parent } => self.open(window, size, parent, desk),
            Wish::Close { window } => self.close(window, desk),
            Wish::Title { window, title } => {
                self.windows.get_mut(&window).into_iter().for_each(|window| window.title.clone_from(&title));
                self.renamed = true;
            }
            Wish::Pointer(shape) => {
                self.cursor = match shape {
                    Shape::Hidden => "none",
                    Shape::Glyph(glyph) => message::cursor(glyph),
                    Shape::Picture(..) => "default",
                };
                self.queue.push(&Told::Cursor(self.cursor));
            }
            Wish::Paste => desk.pasted(&self.clipboard),
            // Windows have the size that the screen gives them.
            Wish::Frame { .. } | Wish::Limits { .. } => {}
        }
        Ok(())
    }

    fn show(&mut self, desk: &mut Desk) -> Result<(), HostError> {
        for id in &self.order {
            let Some(window) = self.windows.get_mut(id) else { continue };
            let damage = desk.compose(*id, &mut window.canvas).shifted(window.place);
            self.damage = self.damage.union(damage);
        }
        if self.page != Page::Absent && std::mem::take(&mut self.renamed) {
            self.tell_windows();
        }
        if self.page == Page::Waits && !self.damage.is_empty() {
            self.tell_picture();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), HostError> {
        Ok(self.queue.send()?)
    }

    fn is_sending(&self) -> bool {
        self.queue.is_sending()
    }

    /// A browser to whom nobody says that it is shown loads no page.
    fn is_ready(&self) -> bool {
        self.page != Page::Draws
    }

    fn is_awaited(&self) -> bool {
        match self.page {
            Page::Absent => false,
            Page::Draws => self.renamed,
            Page::Waits => self.renamed || !self.damage.is_empty(),
        }
    }

    fn pace(&self) -> Duration {
        if self.page == Page::Absent { UNSEEN } else { PICTURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    fn say(page: &mut UnixStream, message: &[u8]) {
        page.write_all(&[&u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()).unwrap();
    }

    /// The first letters of what the page is told.
    fn told(page: &mut UnixStream) -> String {
        let (mut all, mut letters) = (Vec::new(), String::new());
        page.set_nonblocking(true).unwrap();
        page.read_to_end(&mut all).unwrap_err();
        while let Some(length) = all.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize) {
            letters.push(char::from(all[4]));
            all.drain(..4 + length);
        }
        letters
    }

    #[test]
    fn each_page_is_told_everything_and_one_picture_until_it_has_shown_it() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("page")).unwrap();
        let mut host = PageHost::connect(&dir.path().join("page")).unwrap();
        let (mut page, _) = listener.accept().unwrap();
        let wayland = wayland_server::Display::<Desk>::new().unwrap();
        let mut desk = Desk::new(wayland.handle(), host.keymap(), crate::config::Clipboard::Both);
        let mut turn = |messages: &[&[u8]]| {
            messages.iter().for_each(|message| say(&mut page, message));
            host.hear(&mut desk).unwrap();
            host.show(&mut desk).unwrap();
            host.flush().unwrap();
            let ready = host.is_ready();
            (told(&mut page), ready)
        };
        let here: &[u8] = b"h\x00\x80\x00\x60";
        assert_eq!(turn(&[]), (String::new(), true), "to nobody");
        assert_eq!(turn(&[here]), ("rcwp".to_owned(), false));
        assert_eq!(turn(&[b"r\x00\x81\x00\x60"]), ("r".to_owned(), false), "the picture waits");
        assert_eq!(turn(&[b"a"]), ("p".to_owned(), false));
        assert_eq!(turn(&[b"a", b"?"]), (String::new(), true));
        // Of the same size as the one before.
        assert_eq!(turn(&[b"g", b"h\x00\x81\x00\x60"]), ("rcwp".to_owned(), false));
        assert_eq!(turn(&[b"g"]), (String::new(), true));
    }
}
