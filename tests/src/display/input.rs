//! A hand on an X server's mouse and keyboard, through the XTEST extension.

use anyhow::{Context, Result, bail};
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ConnectionExt as _, KEY_PRESS_EVENT, KEY_RELEASE_EVENT};
use x11rb::protocol::xproto::{Keycode, Keysym, MOTION_NOTIFY_EVENT, Window};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use super::xvfb::screen;

const SHIFT: Keysym = 0xffe1;
/// Keys by the names of keysymdef.h.
const NAMED: [(&str, Keysym); 13] = [
    ("Shift", SHIFT),
    ("Control", 0xffe3),
    ("Alt", 0xffe9),
    ("Return", 0xff0d),
    ("Tab", 0xff09),
    ("Escape", 0xff1b),
    ("BackSpace", 0xff08),
    ("Left", 0xff51),
    ("Up", 0xff52),
    ("Right", 0xff53),
    ("Down", 0xff54),
    ("F5", 0xffc2),
    ("F11", 0xffc8),
];

/// Types and clicks.
#[derive(Debug)]
pub struct Input {
    connection: RustConnection,
    root: Window,
    keys: Keyboard,
}

/// The server's keyboard map: which key gives which symbol, alone and with Shift.
#[derive(Debug)]
struct Keyboard {
    first: Keycode,
    width: usize,
    symbols: Vec<Keysym>,
}

impl Keyboard {
    /// The key for `symbol` and its level: 0 alone, 1 with Shift.
    fn find(&self, symbol: Keysym) -> Option<(Keycode, usize)> {
        let rows = self.symbols.chunks_exact(self.width);
        let mut found = (self.first..=Keycode::MAX).zip(rows).filter_map(|(code, row)| Some((code, row.iter().take(2).position(|s| *s == symbol)?)));
        found.next()
    }
}

impl Input {
    pub(super) fn new(connection: RustConnection) -> Result<Self> {
        connection.xtest_get_version(2, 2)?.reply().context("the X server has no XTEST extension")?;
        let (first, last) = (connection.setup().min_keycode, connection.setup().max_keycode);
        let map = connection.get_keyboard_mapping(first, last - first + 1)?.reply()?;
        let keys = Keyboard { first, width: map.keysyms_per_keycode.into(), symbols: map.keysyms };
        let root = screen(&connection)?.root;
        Ok(Self { connection, root, keys })
    }

    /// Clicks the left button at this place of the screen.
    pub fn click(&self, x: i16, y: i16) -> Result<()> {
        self.button(1, x, y)
    }

    /// Presses a button here and lets go: 1 to 3 from the left, 4 and 5 turn the wheel.
    pub fn button(&self, button: u8, x: i16, y: i16) -> Result<()> {
        self.fake(MOTION_NOTIFY_EVENT, 0, x, y)?;
        self.fake(BUTTON_PRESS_EVENT, button, 0, 0)?;
        self.fake(BUTTON_RELEASE_EVENT, button, 0, 0)?;
        self.done()
    }

    /// Types `text`, which must be Latin-1: there a character's keysym is its number.
    pub fn write(&self, text: &str) -> Result<()> {
        for c in text.chars() {
            let (code, level) = self.keys.find(c.into()).with_context(|| format!("no key for {c:?}"))?;
            let shift = self.keys.find(SHIFT).context("no Shift key")?.0;
            let held = [shift, code];
            self.chord(held.get(1 - level..).unwrap_or_default())?;
        }
        self.done()
    }

    /// Presses keys one after another and lets go in the reverse order: `["Control", "l"]`.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        let codes: Vec<_> = keys.iter().map(|name| self.named(name)).collect::<Result<_>>()?;
        self.chord(&codes)?;
        self.done()
    }

    fn named(&self, name: &str) -> Result<Keycode> {
        let mut letters = name.chars();
        let symbol = match (NAMED.iter().find(|(n, _)| *n == name), letters.next(), letters.next()) {
            (Some((_, symbol)), _, _) => *symbol,
            (None, Some(letter), None) => letter.into(),
            _ => bail!("no key is called {name:?}"),
        };
        Ok(self.keys.find(symbol).with_context(|| format!("no key for {name:?}"))?.0)
    }

    fn chord(&self, codes: &[Keycode]) -> Result<()> {
        codes.iter().try_for_each(|code| self.fake(KEY_PRESS_EVENT, *code, 0, 0))?;
        codes.iter().rev().try_for_each(|code| self.fake(KEY_RELEASE_EVENT, *code, 0, 0))
    }

    fn fake(&self, kind: u8, detail: u8, x: i16, y: i16) -> Result<()> {
        self.connection.xtest_fake_input(kind, detail, x11rb::CURRENT_TIME, self.root, x, y, 0)?;
        Ok(())
    }

    /// A round trip: when it returns, the server has taken every event.
    fn done(&self) -> Result<()> {
        self.connection.get_input_focus()?.reply()?;
        Ok(())
    }
}
