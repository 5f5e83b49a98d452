//! Which keys are what their user's layout makes of them, and what the others are for everyone (xkeyboard-config's keycodes "evdev", keysymdef.h and
//! XF86keysym.h).

use super::{Key, Modifiers};
use kbvm::{Keysym, syms};
use std::ops::RangeInclusive;

/// The keys that make letters, the modifiers and those that layouts and their options put in the place of these.
const OF_LAYOUT: [RangeInclusive<u8>; 9] = [9..=62, 64..=66, 77..=77, 91..=91, 94..=94, 97..=102, 105..=105, 108..=108, 129..=135];

/// The others. What a keyboard has beyond them a browser has no use for.
const FIXED: [(u8, &[Keysym]); 62] = [
    (63, &[syms::KP_Multiply]),
    (67, &[syms::F1]),
    (68, &[syms::F2]),
    (69, &[syms::F3]),
    (70, &[syms::F4]),
    (71, &[syms::F5]),
    (72, &[syms::F6]),
    (73, &[syms::F7]),
    (74, &[syms::F8]),
    (75, &[syms::F9]),
    (76, &[syms::F10]),
    (78, &[syms::Scroll_Lock]),
    (79, &[syms::KP_Home, syms::KP_7]),
    (80, &[syms::KP_Up, syms::KP_8]),
    (81, &[syms::KP_Prior, syms::KP_9]),
    (82, &[syms::KP_Subtract]),
    (83, &[syms::KP_Left, syms::KP_4]),
    (84, &[syms::KP_Begin, syms::KP_5]),
    (85, &[syms::KP_Right, syms::KP_6]),
    (86, &[syms::KP_Add]),
    (87, &[syms::KP_End, syms::KP_1]),
    (88, &[syms::KP_Down, syms::KP_2]),
    (89, &[syms::KP_Next, syms::KP_3]),
    (90, &[syms::KP_Insert, syms::KP_0]),
    (92, &[syms::ISO_Level3_Shift]),
    (95, &[syms::F11]),
    (96, &[syms::F12]),
    (104, &[syms::KP_Enter]),
    (106, &[syms::KP_Divide]),
    (107, &[syms::Print]),
    (110, &[syms::Home]),
    (111, &[syms::Up]),
    (112, &[syms::Prior]),
    (113, &[syms::Left]),
    (114, &[syms::Right]),
    (115, &[syms::End]),
    (116, &[syms::Down]),
    (117, &[syms::Next]),
    (118, &[syms::Insert]),
    (119, &[syms::Delete]),
    (121, &[syms::XF86AudioMute]),
    (122, &[syms::XF86AudioLowerVolume]),
    (123, &[syms::XF86AudioRaiseVolume]),
    (125, &[syms::KP_Equal]),
    (127, &[syms::Pause]),
    (136, &[syms::Cancel]),
    (137, &[syms::Redo]),
    (139, &[syms::Undo]),
    (141, &[syms::XF86Copy]),
    (143, &[syms::XF86Paste]),
    (144, &[syms::Find]),
    (145, &[syms::XF86Cut]),
    (146, &[syms::Help]),
    (166, &[syms::XF86Back]),
    (167, &[syms::XF86Forward]),
    (171, &[syms::XF86AudioNext]),
    (172, &[syms::XF86AudioPlay]),
    (173, &[syms::XF86AudioPrev]),
    (174, &[syms::XF86AudioStop]),
    (180, &[syms::XF86HomePage]),
    (181, &[syms::XF86Reload]),
    (225, &[syms::XF86Search]),
];

/// Symbols of modifiers, and which modifier they are.
const MODIFIERS: [(Keysym, usize); 15] = [
    (syms::Shift_L, 0),
    (syms::Shift_R, 0),
    (syms::Caps_Lock, 1),
    (syms::Shift_Lock, 1),
    (syms::Control_L, 2),
    (syms::Control_R, 2),
    (syms::Alt_L, 3),
    (syms::Alt_R, 3),
    (syms::Meta_L, 3),
    (syms::Meta_R, 3),
    (syms::Num_Lock, 4),
    (syms::Super_L, 6),
    (syms::Super_R, 6),
    (syms::Hyper_L, 6),
    (syms::Hyper_R, 6),
];
/// Every key that there is for everyone, in order; of `keys` those that are the layout's.
pub(super) fn framed(keys: Vec<Key>) -> Vec<Key> {
    let fixed = FIXED.into_iter().map(|(code, levels)| Key { code, groups: vec![levels.iter().map(|symbol| symbol.0).collect()] });
    let own = keys.into_iter().filter(|key| OF_LAYOUT.iter().any(|codes| codes.contains(&key.code)));
    let mut all: Vec<_> = own.chain(fixed).collect();
    all.sort_by_key(|key| key.code);
    all
}

/// The keys of each modifier; `level3` and `level5` are the places of those that choose levels.
pub(super) fn modifiers(keys: &[Key], level3: usize, level5: usize) -> Modifiers {
    let place = |symbol: u32| match Keysym(symbol) {
        syms::ISO_Level3_Shift | syms::Mode_switch => Some(level3),
        syms::ISO_Level5_Shift => Some(level5),
        symbol => MODIFIERS.iter().find(|(own, _)| *own == symbol).map(|(_, place)| *place),
    };
    let of = |key: &Key| key.groups.first().and_then(|levels| levels.first()).and_then(|symbol| place(*symbol));
    std::array::from_fn(|wanted| keys.iter().filter(|key| of(key) == Some(wanted)).map(|key| key.code).collect())
}
