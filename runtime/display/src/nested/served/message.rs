//! What the page and the display say to each other: a letter, and what belongs to it. Numbers are big-endian. Pure.

use super::super::desk::Id;
use super::super::pixels::{PIXEL, Picture, Rect};
use super::keys::Key;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::io::Write as _;

/// What the page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// A page is there, of this size. `h`, width, height.
    Here((i32, i32)),
    /// It is not any more. `g`; torbox says it when the page's connection ends.
    Gone,
    /// It shows the picture that it was sent. `a`.
    Shown,
    /// `r`, width, height.
    Size((i32, i32)),
    /// Whether keys go to the page. `f`, 0 or 1.
    Focus(bool),
    /// `m`, modifiers, x, y.
    Motion { at: (i32, i32), modifiers: u16 },
    /// `b`, modifiers, x, y, the button as X counts it, 0 or 1.
    Button { button: u8, pressed: bool, at: (i32, i32), modifiers: u16 },
    /// `k`, modifiers, 0 or 1, the key's place (`KeyboardEvent.code`), a zero byte, its symbol (`KeyboardEvent.key`).
    Key { key: Key<'a>, pressed: bool, modifiers: u16 },
    /// Letters of an input method. `t`, UTF-8.
    Text(&'a str),
    /// What the user pastes. `v`, UTF-8.
    Copied(&'a str),
    /// The user wants what was copied in the box. `y`.
    Wanted,
    /// Put a window above the others. `s`, its number.
    Raise(Id),
    /// Close a window. `x`, its number.
    Close(Id),
}

/// Reads a message; none that is not one.
pub(super) fn read(message: &[u8]) -> Option<Said<'_>> {
    let (letter, rest) = message.split_first()?;
    let bit = |byte: u8| (byte < 2).then_some(byte == 1);
    let short = |a: u8, b: u8| u16::from_be_bytes([a, b]);
    let side = |a: u8, b: u8| i32::from(short(a, b));
    match (letter, rest) {
        (b'h', &[a, b, c, d]) => Some(Said::Here((side(a, b), side(c, d)))),
        (b'r', &[a, b, c, d]) => Some(Said::Size((side(a, b), side(c, d)))),
        (b'g', []) => Some(Said::Gone),
        (b'a', []) => Some(Said::Shown),
        (b'y', []) => Some(Said::Wanted),
        (b'f', &[has]) => bit(has).map(Said::Focus),
        (b'm', &[a, b, c, d, e, f]) => Some(Said::Motion { modifiers: short(a, b), at: (side(c, d), side(e, f)) }),
        (b'b', &[a, b, c, d, e, f, button @ 1..=9, pressed]) => {
            bit(pressed).map(|pressed| Said::Button { modifiers: short(a, b), at: (side(c, d), side(e, f)), button, pressed })
        }
        (b'k', &[a, b, pressed, ref key @ ..]) => {
            let (place, symbol) = std::str::from_utf8(key).ok()?.split_once('\0')?;
            bit(pressed).map(|pressed| Said::Key { modifiers: short(a, b), pressed, key: Key { place, symbol } })
        }
        (b't', text) => std::str::from_utf8(text).ok().map(Said::Text),
        (b'v', text) => std::str::from_utf8(text).ok().map(Said::Copied),
        (b's', id) => <[u8; 8]>::try_from(id).ok().map(|id| Said::Raise(Id::from_be_bytes(id))),
        (b'x', id) => <[u8; 8]>::try_from(id).ok().map(|id| Said::Close(Id::from_be_bytes(id))),
        _ => None,
    }
}

/// What the display tells the page.
pub(super) enum Told<'a> {
    /// The screen's size. `r`, width, height.
    Size((i32, i32)),
    /// A part of the screen. `p`, x, y, width, height, and the pixels, red, green, blue and 255 each, as a zlib stream (RFC 1950).
    Picture { rect: Rect, screen: &'a Picture },
    /// How the pointer looks. `c`, a value of the property `cursor` of style sheets.
    Cursor(&'a str),
    /// Whether something was copied in the box that the user can have. `o`, 0 or 1.
    Offer(bool),
    /// What the user wanted of it. `v`, UTF-8.
    Text(&'a str),
    /// All windows but dialogs. `w`, the topmost one's number, and for each its number, the length of its title, the title.
    Windows { top: Option<Id>, all: &'a [(Id, &'a str)] },
}

/// Bytes of a title that are told.
const TITLE: usize = 256;

impl Told<'_> {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Size((width, height)) => {
                to.push(b'r');
                shorts(to, [*width, *height]);
            }
            Self::Picture { rect, screen } => {
                let rect = rect.intersection(Rect::of(screen.size()));
                to.push(b'p');
                shorts(to, [rect.x, rect.y, rect.width, rect.height]);
                deflate(rect, screen, to);
            }
            Self::Cursor(name) => {
                to.push(b'c');
                to.extend(name.as_bytes());
            }
            Self::Offer(there) => to.extend([b'o', u8::from(*there)]),
            Self::Text(text) => {
                to.push(b'v');
                to.extend(text.as_bytes());
            }
            Self::Windows { top, all } => {
                to.push(b'w');
                to.extend(top.unwrap_or_default().to_be_bytes());
                for (id, title) in *all {
                    let end = (0..=TITLE.min(title.len())).rev().find(|end| title.is_char_boundary(*end)).unwrap_or_default();
                    let title = title.get(..end).unwrap_or_default();
                    to.extend(id.to_be_bytes());
                    to.extend(u16::try_from(title.len()).unwrap_or_default().to_be_bytes());
                    to.extend(title.as_bytes());
                }
            }
        }
    }
}

fn shorts<const N: usize>(to: &mut Vec<u8>, numbers: [i32; N]) {
    to.extend(numbers.into_iter().flat_map(|number| u16::try_from(number).unwrap_or_default().to_be_bytes()));
}

fn deflate(rect: Rect, screen: &Picture, to: &mut Vec<u8>) {
    let (rows, columns) = screen.cut(rect);
    let mut encoder = ZlibEncoder::new(to, Compression::fast());
    let mut pixels = Vec::with_capacity(columns.len() * PIXEL);
    for y in rows {
        pixels.clear();
        let row = screen.row(y, columns.clone()).as_chunks::<PIXEL>().0;
        pixels.extend(row.iter().flat_map(|&[blue, green, red, _]| [red, green, blue, u8::MAX]));
        // Writing to a vector does not fail.
        encoder.write_all(&pixels).ok();
    }
    encoder.finish().ok();
}

/// A glyph of the X server's cursor font as style sheets call it.
pub(super) const fn cursor(glyph: u16) -> &'static str {
    match glyph {
        60 => "pointer",
        152 => "text",
        150 => "progress",
        34 => "crosshair",
        52 => "move",
        96 | 70 | 108 => "ew-resize",
        138 | 16 | 116 => "ns-resize",
        136 | 12 => "nesw-resize",
        134 | 14 => "nwse-resize",
        92 => "help",
        0 => "not-allowed",
        _ => "default",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn what_the_page_says_is_read_and_nothing_else() {
        let key = |place, symbol| Key { place, symbol };
        let said: [(&[u8], Said<'_>); 13] = [
            (b"h\x05\0\x03\x20", Said::Here((1280, 800))),
            (b"r\0\x01\0\x02", Said::Size((1, 2))),
            (b"g", Said::Gone),
            (b"a", Said::Shown),
            (b"y", Said::Wanted),
            (b"f\x01", Said::Focus(true)),
            (b"m\0\x05\0\x01\0\x02", Said::Motion { at: (1, 2), modifiers: 5 }),
            (b"b\0\0\0\x01\0\x02\x03\x01", Said::Button { button: 3, pressed: true, at: (1, 2), modifiers: 0 }),
            (b"k\0\x01\x01KeyA\0A", Said::Key { key: key("KeyA", "A"), pressed: true, modifiers: 1 }),
            (b"t\xc3\xa4", Said::Text("ä")),
            (b"v", Said::Copied("")),
            (b"s\0\0\0\0\0\0\0\x07", Said::Raise(7)),
            (b"x\0\0\0\0\0\0\x01\0", Said::Close(256)),
        ];
        for (message, expected) in said {
            assert_eq!(read(message), Some(expected));
        }
        let wrong: [&[u8]; 10] = [b"", b"?", b"h\0\0\0", b"f\x02", b"b\0\0\0\0\0\0\0\x01", b"b\0\0\0\0\0\0\x01\x02", b"k\0\0\x01KeyA", b"k\0\0\x02a\0b", b"t\xff", b"s\x01"];
        for message in wrong {
            assert_eq!(read(message), None, "{message:?}");
        }
    }

    #[test]
    fn a_picture_is_told_with_its_place() {
        let mut screen = Picture::new((3, 2), super::super::super::pixels::Alpha::Ignored);
        screen.row_mut(1, 1..2).copy_from_slice(&[1, 2, 3, 0]);
        let mut told = Vec::new();
        Told::Picture { rect: Rect::new(1, 1, 2, 9), screen: &screen }.write(&mut told);
        let (head, packed) = told.split_at(9);
        assert_eq!(head, b"p\0\x01\0\x01\0\x02\0\x01");
        let mut pixels = Vec::new();
        flate2::read::ZlibDecoder::new(packed).read_to_end(&mut pixels).unwrap();
        assert_eq!(pixels, [3, 2, 1, 255, 0, 0, 0, 255]);
    }

    #[test]
    fn windows_are_told_with_their_titles_cut_at_a_letter() {
        let long = "ä".repeat(200);
        let mut told = Vec::new();
        Told::Windows { top: Some(2), all: &[(1, "a"), (2, &long)] }.write(&mut told);
        assert_eq!(told.get(..20), Some(&b"w\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\x01a"[..]));
        assert_eq!(told.len(), 20 + 10 + 256);
    }
}
