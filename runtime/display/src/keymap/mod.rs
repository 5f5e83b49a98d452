//! The keyboard's map as Wayland clients take it (the text format of xkbcommon, "xkb_v1"), made from which symbols the keys have and which keys
//! are modifiers: of a keyboard is told what makes letters, and the rest is the same for everyone. Pure.

mod keys;
mod xkb;

use kbvm::{Keysym, syms};
use std::fmt::Write as _;

/// Symbols of a key of the X protocol that are taken: two of the first group, two of the second, and the third and fourth level of each.
const COLUMNS: usize = 8;
/// `ISO_Level3_Shift`, of which one chooses the third level, and `ISO_Level5_Shift` the fifth.
const LEVEL3: u32 = syms::ISO_Level3_Shift.0;
const LEVEL5: u32 = syms::ISO_Level5_Shift.0;
const NUM_LOCK: u32 = syms::Num_Lock.0;
/// Caps Lock, and Num Lock, of [`Keymap::locks`].
const LOCK: u8 = 1 << 1;
const NAMES: [&str; 8] = ["Shift", "Lock", "Control", "Mod1", "Mod2", "Mod3", "Mod4", "Mod5"];

/// A keyboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keymap {
    /// The whole text.
    pub(crate) text: String,
    /// The modifiers that stay on by themselves, as bits of a key's state.
    pub(crate) locks: u8,
}

/// A key: the symbols of each level of each group.
struct Key {
    code: u8,
    groups: Vec<Vec<u32>>,
}

/// The keys of each modifier: Shift, Lock, Control, Mod1 to Mod5.
type Modifiers = [Vec<u8>; NAMES.len()];

impl Keymap {
    /// From the symbols of all keys, `width` for each from the key `first` on, and eight groups of keys that are modifiers, as any client of an X
    /// server is told them ("GetKeyboardMapping" in the X protocol).
    pub(crate) fn new(first: u8, symbols: &[u32], width: u8, modifiers: &[u8]) -> Self {
        Self::of(&rows(first, symbols, width), &split(modifiers))
    }

    /// The same of a user's keyboard: what of it is the layout's, among the keys that everyone has.
    pub(crate) fn of_server(first: u8, symbols: &[u32], width: u8, modifiers: &[u8]) -> Self {
        Self::of(&keys::framed(rows(first, symbols, width)), &split(modifiers))
    }

    /// The same from a map of a compositor's; none of what is no map.
    pub(crate) fn of_compositor(map: &[u8]) -> Option<Self> {
        let xkb::Map { keys, level3, level5 } = xkb::read(map)?;
        let keys = keys::framed(keys);
        let modifiers = keys::modifiers(&keys, level3, level5);
        Some(Self::of(&keys, &modifiers))
    }

    fn of(keys: &[Key], modifiers: &Modifiers) -> Self {
        let with = |symbol: u32| {
            let has = |code: &u8| keys.iter().any(|key| key.code == *code && key.groups.iter().flatten().any(|own| *own == symbol));
            modifiers.iter().position(|codes| codes.iter().any(has))
        };
        let name = |place: Option<usize>, usual| place.and_then(|place| NAMES.get(place)).copied().unwrap_or(usual);
        let num = with(NUM_LOCK);
        let text = render(keys, modifiers, &types(name(with(LEVEL3), "Mod5"), name(with(LEVEL5), "Mod3"), name(num, "Mod2")));
        Self { text, locks: LOCK | num.map_or(0, |place| 1 << place) }
    }
}

fn rows(first: u8, symbols: &[u32], width: u8) -> Vec<Key> {
    (first..=u8::MAX).zip(symbols.chunks(usize::from(width.max(1)))).map(|(code, row)| Key { code, groups: groups(row) }).collect()
}

fn split(modifiers: &[u8]) -> Modifiers {
    let mut groups = modifiers.chunks((modifiers.len() / NAMES.len()).max(1)).map(|codes| codes.iter().copied().filter(|code| *code != 0).collect());
    std::array::from_fn(|_| groups.next().unwrap_or_default())
}

fn render(keys: &[Key], modifiers: &Modifiers, types: &str) -> String {
    let codes: String = keys.iter().map(|Key { code, .. }| format!("<K{code}> = {code};\n")).collect();
    let symbols: String = keys.iter().map(line).collect();
    let mut maps = String::new();
    for (name, codes) in NAMES.iter().zip(modifiers) {
        for code in codes.iter().filter(|code| keys.iter().any(|key| key.code == **code)) {
            // Writing to a string does not fail.
            writeln!(maps, "modifier_map {name} {{ <K{code}> }};").ok();
        }
    }
    format!(
        "xkb_keymap {{\nxkb_keycodes \"torbox\" {{\nminimum = 8;\nmaximum = 255;\n{codes}}};\nxkb_types \"torbox\" {{\n{types}}};\nxkb_compatibility \"torbox\" {{\n}};\nxkb_symbols \"torbox\" {{\n{symbols}{maps}}};\n}};\n"
    )
}

/// Which modifiers choose which symbol of a key. The names are xkeyboard-config's.
fn types(level3: &str, level5: &str, num: &str) -> String {
    let names = |count| (1..=count).map(|level| format!(" level_name[{level}] = \"{level}\";")).collect::<String>();
    // `locked` says of how many of the first levels Caps Lock makes capitals.
    let of = |kind: &str, locked: usize, count: usize| {
        let choosers = [level3, level5].into_iter().take(count / 4);
        let all: Vec<_> = ["Shift"].into_iter().chain((locked > 0).then_some("Lock")).chain(choosers).collect();
        let mut text = format!("type \"{kind}\" {{ modifiers = {};", all.join("+"));
        for bits in 1_u32..1 << all.len() {
            let held: Vec<_> = all.iter().enumerate().filter(|(place, _)| bits & 1 << place != 0).map(|(_, name)| *name).collect();
            let has = |name: &str| held.contains(&name);
            let pair = 2 * usize::from(has(level3)) + 4 * usize::from(has(level5));
            let level = pair + usize::from(has("Shift") != (has("Lock") && pair < locked)) + 1;
            if level > 1 {
                write!(text, " map[{}] = {level};", held.join("+")).ok();
            }
        }
        text + &names(count) + " };\n"
    };
    let one = "type \"ONE_LEVEL\" { modifiers = none; level_name[1] = \"Any\"; };\n".to_owned();
    let pad = format!("type \"KEYPAD\" {{ modifiers = Shift+{num}; map[Shift] = 2; map[{num}] = 2;{} }};\n", names(2));
    let two = [of("TWO_LEVEL", 0, 2), of("ALPHABETIC", 2, 2)].concat();
    let four = [of("FOUR_LEVEL", 0, 4), of("FOUR_LEVEL_SEMIALPHABETIC", 2, 4), of("FOUR_LEVEL_ALPHABETIC", 4, 4)].concat();
    let eight = [of("EIGHT_LEVEL", 0, 8), of("EIGHT_LEVEL_SEMIALPHABETIC", 2, 8), of("EIGHT_LEVEL_ALPHABETIC", 8, 8)].concat();
    [one, pad, two, four, eight].concat()
}

/// The X protocol's order: group 1, group 2, and where there are more columns, the third and fourth level of each.
fn groups(row: &[u32]) -> Vec<Vec<u32>> {
    let at = |place: usize| row.get(place).copied().filter(|symbol| *symbol != 0 && place < COLUMNS);
    let [first, second] = [[at(0), at(1), at(4), at(5)], [at(2), at(3), at(6), at(7)]].map(filled);
    if first.is_empty() || second.is_empty() || first == second { vec![first] } else { vec![first, second] }
}

fn line(Key { code, groups }: &Key) -> String {
    if groups.first().is_none_or(Vec::is_empty) {
        return String::new();
    }
    let group = |(number, levels): (usize, &Vec<u32>)| {
        let names: Vec<_> = levels.iter().map(|symbol| if *symbol == 0 { "NoSymbol".to_owned() } else { format!("0x{symbol:x}") }).collect();
        format!("type[Group{number}] = \"{}\", symbols[Group{number}] = [ {} ]", kind(levels), names.join(", "))
    };
    format!("key <K{code}> {{ {} }};\n", (1..).zip(groups).map(group).collect::<Vec<_>>().join(", "))
}

/// The levels up to the last that there is. A letter that has one symbol has two ("KEYSYM" in the X protocol).
fn filled(levels: [Option<u32>; 4]) -> Vec<u32> {
    let [first, second, third, fourth] = levels;
    let second = second.or_else(|| first.map(|symbol| Keysym(symbol).to_uppercase().0).filter(|capital| first != Some(*capital) || third.is_some()));
    let all = [first, second, third, fourth.or(third)];
    let count = all.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    all.into_iter().take(count).map(Option::unwrap_or_default).collect()
}

fn kind(levels: &[u32]) -> &'static str {
    let letters = |pair: usize| matches!(levels.get(2 * pair..), Some([first, second, ..]) if is_pair(*first, *second));
    match (levels.len(), letters(0), letters(1)) {
        (1, ..) => "ONE_LEVEL",
        (2, ..) if levels.iter().any(|symbol| Keysym(*symbol).is_keypad()) => "KEYPAD",
        (2, false, _) => "TWO_LEVEL",
        (2, true, _) => "ALPHABETIC",
        (..=4, false, _) => "FOUR_LEVEL",
        (..=4, true, false) => "FOUR_LEVEL_SEMIALPHABETIC",
        (..=4, true, true) => "FOUR_LEVEL_ALPHABETIC",
        (_, false, _) => "EIGHT_LEVEL",
        (_, true, false) => "EIGHT_LEVEL_SEMIALPHABETIC",
        (_, true, true) => "EIGHT_LEVEL_ALPHABETIC",
    }
}

/// A letter and its capital.
fn is_pair(first: u32, second: u32) -> bool {
    first != second && Keysym(first).to_uppercase() == Keysym(second)
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
            "key <K8> { type[Group1] = \"ALPHABETIC\", symbols[Group1] = [ 0x61, 0x41 ] };",
            "key <K9> { type[Group1] = \"TWO_LEVEL\", symbols[Group1] = [ 0x31, 0x21 ] };",
            "key <K10> { type[Group1] = \"FOUR_LEVEL_SEMIALPHABETIC\", symbols[Group1] = [ 0x71, 0x51, 0x40, 0x7d9 ] };",
            "key <K12> { type[Group1] = \"KEYPAD\", symbols[Group1] = [ 0xff95, 0xffb7 ] };",
            "key <K13> { type[Group1] = \"ONE_LEVEL\", symbols[Group1] = [ 0xfe03 ] };",
            "key <K14> { type[Group1] = \"ALPHABETIC\", symbols[Group1] = [ 0x66, 0x46 ], type[Group2] = \"ALPHABETIC\", symbols[Group2] = [ 0x6c1, 0x6e1 ] };",
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
            Keymap::of_server(0, &[], width, &[]);
        }
        for text in [&b""[..], b"\0", b"xkb_keymap {", b"xkb_keymap { xkb_keycodes { <A> = 38; }; xkb_symbols { key <A> { [ a ] }; }; };", &[0xff; 100]] {
            Keymap::of_compositor(text);
        }
    }

    /// What is written is what is read, by an implementation of its own.
    #[test]
    fn a_map_survives_being_read_again() {
        let first = Keymap::of_server(8, &[[0x71_u32, 0x51, 0x6c1, 0x6e1, 0x40, 0x7d9, 0, 0]; 247].concat(), 8, &[50, 66, 37, 64, 77, 0, 133, 108]);
        let second = Keymap::of_compositor(first.text.as_bytes()).unwrap();
        let keys = |map: &Keymap| map.text.lines().filter(|line| line.starts_with("key <") || line.starts_with("type ")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(keys(&first), keys(&second));
        assert_eq!(Keymap::of_compositor(second.text.as_bytes()).unwrap(), second);
    }

    /// How a compositor has written a layout down does not show.
    #[test]
    fn what_a_layout_is_called_and_how_it_is_written_is_not_said() {
        let written = |name: &str, types: &str, kind: &str, more: &str| {
            format!(
                "xkb_keymap {{ xkb_keycodes \"{name}\" {{ <AD01> = 24; <LFSH> = 50; <I252> = 252; }}; xkb_types \"{name}\" {{ {types} }}; xkb_compat \"{name}\" {{ }};
                 xkb_symbols \"{name}\" {{ name[Group1] = \"{name}\"; key <AD01> {{ {kind} [ q, Q ] }}; key <LFSH> {{ [ Shift_L ] }}; {more} }}; }};"
            )
        };
        let types = "virtual_modifiers NumLock; type \"MINE\" { modifiers = Shift+Lock; map[Shift] = Level2; map[Lock] = Level2; };";
        let one = Keymap::of_compositor(written("weston", types, "type = \"MINE\",", "key <I252> { [ XF86Go ] };").as_bytes()).unwrap();
        let other = "type \"OTHER\" { modifiers = Shift+Lock; map[Lock] = Level2; map[Shift] = Level2; level_name[Level1] = \"Base\"; };";
        let two = Keymap::of_compositor(written("kwin", other, "type = \"OTHER\", actions = [ NoAction(), NoAction() ], symbols =", "").as_bytes()).unwrap();
        assert_eq!(one, two);
        assert!(one.text.contains("key <K24> { type[Group1] = \"ALPHABETIC\", symbols[Group1] = [ 0x71, 0x51 ] };\n"), "{}", one.text);
        assert!(one.text.contains("modifier_map Shift { <K50> };") && !one.text.contains("K252"), "{}", one.text);
        let second = one.text.replace("type[Group1] = \"ALPHABETIC\", symbols[Group1] = [ 0x71, 0x51 ]", "symbols[Group1] = [ NoSymbol ], type[Group2] = \"ALPHABETIC\", symbols[Group2] = [ 0x71, 0x51 ]");
        assert_ne!(second, one.text);
        let second = Keymap::of_compositor(second.as_bytes()).unwrap().text;
        assert!(second.contains("symbols[Group1] = [ 0x71, 0x51 ], type[Group2]"), "a layout that says nothing of a key: {second}");
        let three = Keymap::of_compositor(written("weston", types, "type = \"MINE\",", "").replace("[ q, Q ]", "[ a, A ]").as_bytes()).unwrap();
        assert_ne!(one, three, "the positive control");
    }
}
