//! The keyboard's map as Wayland clients take it (the text format of xkbcommon, "xkb_v1"), made from what any X client may know of
//! a keyboard: which symbols its keys have, and which keys are modifiers ("GetKeyboardMapping" in the X protocol). Pure.

use std::fmt::Write as _;

/// Symbols of a key that are taken: two of the first group, two of the second, and the third and fourth level of each.
const COLUMNS: usize = 8;
/// `Mode_switch` and `ISO_Level3_Shift`, of which one chooses the third level.
const LEVEL3: u32 = 0xfe03;
const NUM_LOCK: u32 = 0xff7f;
/// Caps Lock, and Num Lock, of [`Keymap::locks`].
const LOCK: u8 = 1 << 1;
const NAMES: [&str; 8] = ["Shift", "Lock", "Control", "Mod1", "Mod2", "Mod3", "Mod4", "Mod5"];

/// A keyboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keymap {
    /// The whole text.
    pub(super) text: String,
    /// The modifiers that stay on by themselves, as bits of a key's state.
    pub(super) locks: u8,
}

impl Keymap {
    /// From the symbols of all keys, `width` for each from the key `first` on, and eight groups of keys that are modifiers.
    pub(super) fn new(first: u8, symbols: &[u32], width: u8, modifiers: &[u8]) -> Self {
        let keys: Vec<_> = (first..=u8::MAX).zip(symbols.chunks(usize::from(width.max(1)))).collect();
        let groups: Vec<_> = NAMES.into_iter().zip(modifiers.chunks((modifiers.len() / NAMES.len()).max(1))).collect();
        let with = |symbol: u32| {
            let has = |key: &u8| keys.iter().any(|(code, symbols)| code == key && symbols.contains(&symbol));
            groups.iter().position(|(_, codes)| codes.iter().any(|key| *key != 0 && has(key)))
        };
        let level3 = with(LEVEL3).and_then(|place| NAMES.get(place)).copied().unwrap_or("Mod5");
        let num = with(NUM_LOCK);
        let text = render(&keys, &groups, level3, num.and_then(|place| NAMES.get(place)).copied().unwrap_or("Mod2"));
        Self { text, locks: LOCK | num.map_or(0, |place| 1 << place) }
    }
}

fn render(keys: &[(u8, &[u32])], groups: &[(&str, &[u8])], level3: &str, num: &str) -> String {
    let lines = |each: &dyn Fn(u8, &[u32]) -> String| keys.iter().map(|(code, symbols)| each(*code, symbols)).collect::<String>();
    let codes = lines(&|code, _| format!("<K{code}> = {code};\n"));
    let symbols = lines(&|code, symbols| key(code, symbols));
    let mut modifiers = String::new();
    for (name, codes) in groups {
        for code in codes.iter().filter(|code| keys.iter().any(|(key, _)| key == *code)) {
            // Writing to a string does not fail.
            writeln!(modifiers, "modifier_map {name} {{ <K{code}> }};").ok();
        }
    }
    format!(
        "xkb_keymap {{\nxkb_keycodes \"torbox\" {{\nminimum = 8;\nmaximum = 255;\n{codes}}};\nxkb_types \"torbox\" {{\n{}}};\nxkb_compatibility \"torbox\" {{\n}};\nxkb_symbols \"torbox\" {{\n{symbols}{modifiers}}};\n}};\n",
        types(level3, num)
    )
}

/// Which modifiers choose which symbol of a key. The names are xkbcommon's own where it has these.
fn types(level3: &str, num: &str) -> String {
    format!(
        "type \"ONE_LEVEL\" {{ modifiers = none; level_name[1] = \"Any\"; }};\n\
         type \"PLAIN\" {{ modifiers = Shift+{level3}; map[Shift] = 2; map[{level3}] = 3; map[Shift+{level3}] = 4; level_name[1] = \"1\"; level_name[2] = \"2\"; level_name[3] = \"3\"; level_name[4] = \"4\"; }};\n\
         type \"LETTER\" {{ modifiers = Shift+Lock+{level3}; map[Shift] = 2; map[Lock] = 2; map[{level3}] = 3; map[Shift+{level3}] = 4; map[Lock+{level3}] = 4; map[Shift+Lock+{level3}] = 3; level_name[1] = \"1\"; level_name[2] = \"2\"; level_name[3] = \"3\"; level_name[4] = \"4\"; }};\n\
         type \"PAD\" {{ modifiers = Shift+{num}; map[Shift] = 2; map[{num}] = 2; level_name[1] = \"1\"; level_name[2] = \"2\"; }};\n"
    )
}

fn key(code: u8, symbols: &[u32]) -> String {
    let at = |place: usize| symbols.get(place).copied().filter(|symbol| *symbol != 0 && place < COLUMNS);
    // The X protocol's order: group 1, group 2, and where there are more columns, the third and fourth level of group 1.
    let groups = [[at(0), at(1), at(4), at(5)], [at(2), at(3), at(6), at(7)]].map(filled);
    let Some(first) = groups.first().filter(|levels| !levels.is_empty()) else { return String::new() };
    let mut line = format!("key <K{code}> {{ ");
    let second = groups.get(1).filter(|levels| !levels.is_empty() && *levels != first);
    for (number, levels) in (1..).zip([Some(first), second].into_iter().flatten()) {
        let names: Vec<_> = levels.iter().map(|symbol| format!("0x{symbol:x}")).collect();
        let comma = if number == 1 { "" } else { ", " };
        write!(line, "{comma}type[Group{number}] = \"{}\", symbols[Group{number}] = [ {} ]", kind(levels), names.join(", ")).ok();
    }
    line + " };\n"
}

/// The levels up to the last that there is. A letter that has one symbol has two ("KEYSYM" in the X protocol).
fn filled(levels: [Option<u32>; 4]) -> Vec<u32> {
    let [first, second, third, fourth] = levels;
    let second = second.or_else(|| first.map(upper).filter(|capital| first != Some(*capital) || third.is_some()));
    let all = [first, second, third, fourth.or(third)];
    let count = all.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    all.into_iter().take(count).map(Option::unwrap_or_default).collect()
}

fn kind(levels: &[u32]) -> &'static str {
    match levels {
        [_] => "ONE_LEVEL",
        [first, second] if is_pad(*first) || is_pad(*second) => "PAD",
        [first, second, ..] if first != second && (upper(*first) == *second || is_legacy(*first) && is_legacy(*second)) => "LETTER",
        _ => "PLAIN",
    }
}

const fn is_pad(symbol: u32) -> bool {
    matches!(symbol, 0xff80..=0xffbd)
}

/// The letters of alphabets that had symbols before Unicode.
const fn is_legacy(symbol: u32) -> bool {
    matches!(symbol, 0x1a1..=0x13ff)
}

/// The capital of a symbol that is a letter (Latin-1 and Unicode's, whose symbols begin at 0x1000000).
fn upper(symbol: u32) -> u32 {
    const UNICODE: u32 = 0x0100_0000;
    let letter = char::from_u32(if symbol >= UNICODE { symbol - UNICODE } else { symbol }).filter(|_| !(0x100..UNICODE).contains(&symbol));
    let mut capital = letter.into_iter().flat_map(char::to_uppercase).map(u32::from);
    match (capital.next(), capital.next()) {
        (Some(one), None) if symbol >= UNICODE || one >= 0x100 => UNICODE + one,
        (Some(one), None) => one,
        _ => symbol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys 8 to 14: `a`, `1 !`, a German `q Q @`, Num Lock, the pad's 7, the chooser of the third level, Russian on the second group.
    fn keymap() -> Keymap {
        let rows: [[u32; 8]; 7] = [
            [0x61, 0, 0, 0, 0, 0, 0, 0],
            [0x31, 0x21, 0, 0, 0, 0, 0, 0],
            [0x71, 0x51, 0, 0, 0x40, 0x7d9, 0, 0],
            [NUM_LOCK, 0, 0, 0, 0, 0, 0, 0],
            [0xff95, 0xffb7, 0, 0, 0, 0, 0, 0],
            [LEVEL3, 0, 0, 0, 0, 0, 0, 0],
            [0x66, 0x46, 0x6c1, 0x6e1, 0, 0, 0, 0],
        ];
        Keymap::new(8, rows.as_flattened(), 8, &[0, 0, 0, 0, 11, 0, 13, 0])
    }

    #[test]
    fn every_key_has_its_symbols_and_what_chooses_among_them() {
        let text = keymap().text;
        let lines = [
            "key <K8> { type[Group1] = \"LETTER\", symbols[Group1] = [ 0x61, 0x41 ] };",
            "key <K9> { type[Group1] = \"PLAIN\", symbols[Group1] = [ 0x31, 0x21 ] };",
            "key <K10> { type[Group1] = \"LETTER\", symbols[Group1] = [ 0x71, 0x51, 0x40, 0x7d9 ] };",
            "key <K12> { type[Group1] = \"PAD\", symbols[Group1] = [ 0xff95, 0xffb7 ] };",
            "key <K13> { type[Group1] = \"ONE_LEVEL\", symbols[Group1] = [ 0xfe03 ] };",
            "key <K14> { type[Group1] = \"LETTER\", symbols[Group1] = [ 0x66, 0x46 ], type[Group2] = \"LETTER\", symbols[Group2] = [ 0x6c1, 0x6e1 ] };",
            "modifier_map Mod2 { <K11> };",
            "modifier_map Mod4 { <K13> };",
        ];
        for line in lines {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        assert!(text.contains("modifiers = Shift+Lock+Mod4;") && text.contains("modifiers = Shift+Mod2;"), "{text}");
    }

    #[test]
    fn caps_lock_and_num_lock_stay_on() {
        assert_eq!(keymap().locks, LOCK | 1 << 4);
    }

    #[test]
    fn nothing_a_server_says_stops_it() {
        for width in [0, 1, 255] {
            Keymap::new(255, &[u32::MAX; 600], width, &[255; 3]);
            Keymap::new(0, &[], width, &[]);
        }
    }
}
