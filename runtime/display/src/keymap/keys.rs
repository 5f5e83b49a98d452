//! Which keys are what their user's layout makes of them, and what the others are for everyone (xkeyboard-config's keycodes "evdev", keysymdef.h and
//! XF86keysym.h).

use super::{Key, LEVEL3, LEVEL5, Modifiers, NUM_LOCK};
use std::ops::RangeInclusive;

/// The keys that make letters, the modifiers and those that layouts and their options put in the place of these.
const OF_LAYOUT: [RangeInclusive<u8>; 9] = [9..=62, 64..=66, 77..=77, 91..=91, 94..=94, 97..=102, 105..=105, 108..=108, 129..=135];

/// The others. What a keyboard has beyond them a browser has no use for.
const FIXED: [(u8, &[u32]); 62] = [
    (63, &[0xffaa]),
    (67, &[0xffbe]),
    (68, &[0xffbf]),
    (69, &[0xffc0]),
    (70, &[0xffc1]),
    (71, &[0xffc2]),
    (72, &[0xffc3]),
    (73, &[0xffc4]),
    (74, &[0xffc5]),
    (75, &[0xffc6]),
    (76, &[0xffc7]),
    (78, &[0xff14]),
    (79, &[0xff95, 0xffb7]),
    (80, &[0xff97, 0xffb8]),
    (81, &[0xff9a, 0xffb9]),
    (82, &[0xffad]),
    (83, &[0xff96, 0xffb4]),
    (84, &[0xff9d, 0xffb5]),
    (85, &[0xff98, 0xffb6]),
    (86, &[0xffab]),
    (87, &[0xff9c, 0xffb1]),
    (88, &[0xff99, 0xffb2]),
    (89, &[0xff9b, 0xffb3]),
    (90, &[0xff9e, 0xffb0]),
    (92, &[LEVEL3]),
    (95, &[0xffc8]),
    (96, &[0xffc9]),
    (104, &[0xff8d]),
    (106, &[0xffaf]),
    (107, &[0xff61]),
    (110, &[0xff50]),
    (111, &[0xff52]),
    (112, &[0xff55]),
    (113, &[0xff51]),
    (114, &[0xff53]),
    (115, &[0xff57]),
    (116, &[0xff54]),
    (117, &[0xff56]),
    (118, &[0xff63]),
    (119, &[0xffff]),
    (121, &[0x1008_ff12]),
    (122, &[0x1008_ff11]),
    (123, &[0x1008_ff13]),
    (125, &[0xffbd]),
    (127, &[0xff13]),
    (136, &[0xff69]),
    (137, &[0xff66]),
    (139, &[0xff65]),
    (141, &[0x1008_ff57]),
    (143, &[0x1008_ff6d]),
    (144, &[0xff68]),
    (145, &[0x1008_ff58]),
    (146, &[0xff6a]),
    (166, &[0x1008_ff26]),
    (167, &[0x1008_ff27]),
    (171, &[0x1008_ff17]),
    (172, &[0x1008_ff14]),
    (173, &[0x1008_ff16]),
    (174, &[0x1008_ff15]),
    (180, &[0x1008_ff18]),
    (181, &[0x1008_ff73]),
    (225, &[0x1008_ff1b]),
];

/// Symbols of modifiers, and which modifier they are.
const MODIFIERS: [(u32, usize); 15] = [
    (0xffe1, 0),
    (0xffe2, 0),
    (0xffe5, 1),
    (0xffe6, 1),
    (0xffe3, 2),
    (0xffe4, 2),
    (0xffe9, 3),
    (0xffea, 3),
    (0xffe7, 3),
    (0xffe8, 3),
    (NUM_LOCK, 4),
    (0xffeb, 6),
    (0xffec, 6),
    (0xffed, 6),
    (0xffee, 6),
];
/// `Mode_switch`.
const MODE_SWITCH: u32 = 0xff7e;

/// Every key that there is for everyone, in order; of `keys` those that are the layout's.
pub(super) fn framed(keys: Vec<Key>) -> Vec<Key> {
    let fixed = FIXED.into_iter().map(|(code, levels)| Key { code, groups: vec![levels.to_vec()] });
    let own = keys.into_iter().filter(|key| OF_LAYOUT.iter().any(|codes| codes.contains(&key.code)));
    let mut all: Vec<_> = own.chain(fixed).collect();
    all.sort_by_key(|key| key.code);
    all
}

/// The keys of each modifier; `level3` and `level5` are the places of those that choose levels.
pub(super) fn modifiers(keys: &[Key], level3: usize, level5: usize) -> Modifiers {
    let place = |symbol: u32| match symbol {
        LEVEL3 | MODE_SWITCH => Some(level3),
        LEVEL5 => Some(level5),
        _ => MODIFIERS.iter().find(|(own, _)| *own == symbol).map(|(_, place)| *place),
    };
    let of = |key: &Key| key.groups.first().and_then(|levels| levels.first()).and_then(|symbol| place(*symbol));
    std::array::from_fn(|wanted| keys.iter().filter(|key| of(key) == Some(wanted)).map(|key| key.code).collect())
}
