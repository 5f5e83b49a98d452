//! What a compositor's map says (the text format of xkbcommon, read by kbvm): which symbols the keys make, and with which modifiers. Nothing else of it
//! goes on: neither how its author wrote it down, nor the names, types and actions that it has.

use super::Key;
use kbvm::ModifierMask;
use kbvm::xkb::keymap::{self, KeyGroup, Keymap};
use kbvm::xkb::Context;
use kbvm::xkb::diagnostic::Diagnostic;

/// The part of a map that is taken.
pub(super) struct Map {
    /// Keys that have symbols, in order.
    pub(super) keys: Vec<Key>,
    /// The place among the modifiers of the one that chooses the third level, and the fifth.
    pub(super) level3: usize,
    pub(super) level5: usize,
}

/// Levels that are taken.
const LEVELS: usize = 8;
const GROUPS: usize = 4;
/// Mod5 and Mod3, where xkeyboard-config has them.
const LEVEL3: usize = 7;
const LEVEL5: usize = 5;

/// None of what is no map.
pub(super) fn read(text: &[u8]) -> Option<Map> {
    let mut context = Context::builder();
    context.enable_default_includes(false);
    context.enable_environment(false);
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let map = context.build().keymap_from_bytes(Vec::<Diagnostic>::new(), None, text).ok()?;
    let (level3, level5) = (place(&map, "LevelThree").unwrap_or(LEVEL3), place(&map, "LevelFive").unwrap_or(LEVEL5));
    let of = |key: &keymap::Key| {
        let mut groups: Vec<_> = key.groups().take(GROUPS).map(|group| group.map(|group| symbols(group, level3, level5)).unwrap_or_default()).collect();
        // A layout that says nothing of a key leaves it to the others.
        let other = groups.iter().find(|levels| !levels.is_empty())?.clone();
        groups.iter_mut().filter(|levels| levels.is_empty()).for_each(|levels| levels.clone_from(&other));
        Some(Key { code: u8::try_from(key.keycode().to_x11()).ok()?, groups })
    };
    let mut keys: Vec<_> = map.keys().filter_map(of).collect();
    keys.sort_by_key(|key| key.code);
    Some(Map { keys, level3, level5 })
}

/// Where among the eight real modifiers a virtual one is.
fn place(map: &Keymap, name: &str) -> Option<usize> {
    let mask = map.virtual_modifiers().find(|modifier| modifier.name() == name)?.mask();
    usize::try_from(mask.0.trailing_zeros()).ok().filter(|place| *place < super::NAMES.len())
}

/// The symbol of each level: which one the modifiers choose, and not where it stands.
fn symbols(group: &KeyGroup, level3: usize, level5: usize) -> Vec<u32> {
    let of = |level: usize| {
        let held = [(1, 0), (2, level3), (4, level5)].into_iter().filter(|(bit, _)| level & bit != 0).fold(0, |mask, (_, place)| mask | 1 << place);
        let chosen = ModifierMask(held & group.ty().mask().0);
        let place = group.ty().mappings().find(|mapping| mapping.mask() == chosen).map_or(0, |mapping| mapping.level());
        group.levels().nth(place).and_then(|level| level.symbols().first()).map_or(0, |symbol| symbol.0)
    };
    let mut all: Vec<_> = (0..LEVELS).map(of).collect();
    // What a chooser does not change is not said twice.
    while let Some(half) = Some(all.len() / 2).filter(|half| *half > 0) {
        if all.get(..half) != all.get(half..) {
            break;
        }
        all.truncate(half);
    }
    if all == [0] { Vec::new() } else { all }
}
