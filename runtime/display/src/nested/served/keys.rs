//! A keyboard by what its keys mean: a constant US one, whatever the user's is, and spare keys that take what it lacks. So the browser
//! learns no layout, and each letter that the user's keyboard can make comes. Pure.

use crate::keymap::Keymap;
use std::collections::BTreeMap;

/// What the page says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    /// Where it is; tells which one is let go.
    pub(super) place: &'a str,
    /// What it makes: a letter, or a name ("Named Key Attribute Values" of UI Events).
    pub(super) symbol: &'a str,
}

/// The modifiers of an X key event's state.
const SHIFT: u16 = 1;
/// The first key of the X protocol.
const FIRST: u8 = 8;
const WIDTH: usize = 2;
/// Rows of keys from the one with this number on: without and with Shift.
const ROWS: [(u8, &str); 6] = [
    (10, "1!2@3#4$5%6^7&8*9(0)-_=+"),
    (24, "qQwWeErRtTyYuUiIoOpP[{]}"),
    (38, "aAsSdDfFgGhHjJkKlL;:'\"`~"),
    (51, "\\|zZxXcCvVbBnNmM,<.>/?"),
    (65, "  "),
    (94, "<>"),
];
/// Keys with names, and their symbols (keysymdef.h).
const NAMED: [(&str, u8, u32); 31] = [
    ("Escape", 9, 0xff1b),
    ("Backspace", 22, 0xff08),
    ("Tab", 23, 0xff09),
    ("Enter", 36, 0xff0d),
    ("Control", 37, 0xffe3),
    ("Shift", 50, 0xffe1),
    ("Alt", 64, 0xffe9),
    ("F1", 67, 0xffbe),
    ("F2", 68, 0xffbf),
    ("F3", 69, 0xffc0),
    ("F4", 70, 0xffc1),
    ("F5", 71, 0xffc2),
    ("F6", 72, 0xffc3),
    ("F7", 73, 0xffc4),
    ("F8", 74, 0xffc5),
    ("F9", 75, 0xffc6),
    ("F10", 76, 0xffc7),
    ("F11", 95, 0xffc8),
    ("F12", 96, 0xffc9),
    ("Home", 110, 0xff50),
    ("ArrowUp", 111, 0xff52),
    ("PageUp", 112, 0xff55),
    ("ArrowLeft", 113, 0xff51),
    ("ArrowRight", 114, 0xff53),
    ("End", 115, 0xff57),
    ("ArrowDown", 116, 0xff54),
    ("PageDown", 117, 0xff56),
    ("Insert", 118, 0xff63),
    ("Delete", 119, 0xffff),
    ("Meta", 133, 0xffeb),
    ("ContextMenu", 135, 0xff67),
];
/// The modifiers' keys, two of each: Shift, Lock, Control, Mod1 to Mod5.
const MODIFIERS: [u8; 16] = [50, 0, 0, 0, 37, 0, 64, 0, 0, 0, 0, 0, 133, 0, 0, 0];
/// The first spare key, and how many there are.
const SPARE: (u8, usize) = (200, 48);

/// The keyboard, and which of its keys are held.
#[derive(Default)]
pub(super) struct Keyboard {
    spare: Vec<u32>,
    /// The spare key that is given away next.
    next: usize,
    held: BTreeMap<String, u8>,
}

impl Keyboard {
    pub(super) fn keymap(&self) -> Keymap {
        let mut symbols = [[0; WIDTH]; (u8::MAX - FIRST) as usize + 1];
        let all = letters().map(|(code, levels)| (code, levels.map(symbol_of)));
        let named = NAMED.into_iter().map(|(_, code, symbol)| (code, [symbol, 0]));
        let spare = (SPARE.0..).zip(self.spare.iter().map(|symbol| [*symbol; WIDTH]));
        for (code, levels) in all.chain(named).chain(spare) {
            symbols.get_mut(usize::from(code.saturating_sub(FIRST))).into_iter().for_each(|key| *key = levels);
        }
        Keymap::new(FIRST, symbols.as_flattened(), 2, &MODIFIERS)
    }

    /// The number of the key that is pressed or let go, and whether the keymap is another one now.
    pub(super) fn code(&mut self, key: &Key<'_>, pressed: bool, modifiers: u16) -> Option<(u8, bool)> {
        let place = if key.place.is_empty() { key.symbol } else { key.place };
        if !pressed {
            return self.held.remove(place).map(|code| (code, false));
        }
        let mut letters = key.symbol.chars();
        let (code, changed) = match (letters.next(), letters.next()) {
            (Some(letter), None) => self.letter(letter, modifiers & SHIFT != 0),
            _ => NAMED.iter().find(|(name, ..)| *name == key.symbol).map(|(_, code, _)| (*code, false)),
        }?;
        // Nobody holds as many keys as there are.
        if self.held.len() < usize::from(u8::MAX) {
            self.held.insert(place.to_owned(), code);
        }
        Some((code, changed))
    }

    fn letter(&mut self, letter: char, shift: bool) -> Option<(u8, bool)> {
        if letter.is_control() {
            return None;
        }
        if let Some((code, _)) = letters().find(|(_, levels)| levels.get(usize::from(shift)) == Some(&letter)) {
            return Some((code, false));
        }
        let symbol = symbol_of(letter);
        let known = self.spare.iter().position(|spare| *spare == symbol);
        let index = known.unwrap_or(self.next);
        if known.is_none() {
            match self.spare.get_mut(index) {
                Some(old) => *old = symbol,
                None => self.spare.push(symbol),
            }
            self.next = (index + 1) % SPARE.1;
        }
        Some((SPARE.0.saturating_add(u8::try_from(index).unwrap_or_default()), known.is_none()))
    }

    /// Every key that is held is let go.
    pub(super) fn release(&mut self) -> impl Iterator<Item = u8> + use<> {
        std::mem::take(&mut self.held).into_values()
    }
}

fn letters() -> impl Iterator<Item = (u8, [char; WIDTH])> {
    ROWS.into_iter().flat_map(|(first, row)| {
        let plain = row.chars().step_by(WIDTH);
        (first..).zip(plain.zip(row.chars().skip(1).step_by(WIDTH))).map(|(code, (plain, shifted))| (code, [plain, shifted]))
    })
}

/// A letter's symbol ("KEYSYM Encoding", appendix A of the X protocol).
fn symbol_of(letter: char) -> u32 {
    let number = u32::from(letter);
    if number < 0x100 { number } else { 0x0100_0000 + number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(keyboard: &mut Keyboard, symbol: &str, modifiers: u16) -> Option<(u8, bool)> {
        keyboard.code(&Key { place: "Somewhere", symbol }, true, modifiers)
    }

    #[test]
    fn letters_come_from_where_a_us_keyboard_has_them() {
        let mut keyboard = Keyboard::default();
        for (symbol, modifiers, code) in [("a", 0, 38), ("A", SHIFT, 38), ("/", 0, 61), ("?", SHIFT, 61), (" ", 0, 65), ("`", 0, 49), ("Enter", 0, 36)] {
            assert_eq!(press(&mut keyboard, symbol, modifiers), Some((code, false)), "{symbol}");
        }
        for symbol in ["Dead", "AltGraph", "", "\u{7f}"] {
            assert_eq!(press(&mut keyboard, symbol, 0), None, "{symbol}");
        }
    }

    #[test]
    fn what_a_us_keyboard_lacks_is_on_a_spare_key_whatever_is_held() {
        let mut keyboard = Keyboard::default();
        let (umlaut, changed) = press(&mut keyboard, "ä", 0).unwrap();
        assert!(changed && keyboard.keymap().text.contains(&format!("key <K{umlaut}> {{ type[Group1] = \"TWO_LEVEL\", symbols[Group1] = [ 0xe4, 0xe4 ] }};")), "{}", keyboard.keymap().text);
        assert_eq!(press(&mut keyboard, "ä", SHIFT), Some((umlaut, false)));
        // On a German keyboard `/` is had with Shift, and with Caps Lock `A` without.
        assert!(press(&mut keyboard, "/", SHIFT).unwrap().1 && press(&mut keyboard, "A", 0).unwrap().1);
        assert!(keyboard.keymap().text.contains("0x41, 0x41"));
        for letter in '一'..'乀' {
            let (code, changed) = press(&mut keyboard, &letter.to_string(), 0).unwrap();
            assert!(code >= SPARE.0 && changed);
            assert_eq!(press(&mut keyboard, &letter.to_string(), 0), Some((code, false)), "{letter}");
        }
        assert!(press(&mut keyboard, "€", 0).unwrap().1 && keyboard.spare.len() <= SPARE.1);
    }

    #[test]
    fn the_key_that_was_pressed_is_let_go() {
        let mut keyboard = Keyboard::default();
        let key = |symbol| Key { place: "KeyA", symbol };
        assert_eq!(keyboard.code(&key("A"), true, SHIFT), Some((38, false)));
        assert_eq!(keyboard.code(&key("a"), false, 0), Some((38, false)));
        assert_eq!(keyboard.code(&key("a"), false, 0), None);
        keyboard.code(&key("a"), true, 0);
        assert_eq!(keyboard.release().collect::<Vec<_>>(), [38]);
        assert_eq!(keyboard.release().count(), 0);
    }
}
