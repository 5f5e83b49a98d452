//! Where a menu lies (xdg-shell, `xdg_positioner`): by its anchor, and moved or cut so that it stays within its window. Pure.

use super::pixels::Rect;
use wayland_protocols::xdg::shell::server::xdg_positioner::{Anchor, ConstraintAdjustment, Gravity};

/// What a client says of where a menu is to lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Positioner {
    pub(super) size: (i32, i32),
    pub(super) anchor_rect: Rect,
    pub(super) anchor: Anchor,
    pub(super) gravity: Gravity,
    pub(super) adjustment: ConstraintAdjustment,
    pub(super) offset: (i32, i32),
}

impl Default for Positioner {
    fn default() -> Self {
        let adjustment = ConstraintAdjustment::empty();
        Self { size: (0, 0), anchor_rect: Rect::default(), anchor: Anchor::None, gravity: Gravity::None, adjustment, offset: (0, 0) }
    }
}

/// One of the two directions.
#[derive(Clone, Copy)]
struct Axis {
    /// Where the anchor begins and how long it is.
    anchor: (i32, i32),
    /// On which side of the anchor: -1, 0 or 1.
    side: i32,
    /// To which side of that point the menu extends.
    towards: i32,
    offset: i32,
    size: i32,
    flip: bool,
    slide: bool,
    resize: bool,
}

impl Positioner {
    /// The menu, in the coordinates of its parent's geometry, within `bounds` in the same coordinates.
    pub(super) fn place(&self, bounds: Rect) -> Rect {
        use ConstraintAdjustment as C;
        let (side, towards) = (sides(self.anchor.into()), sides(self.gravity.into()));
        let axis = |anchor, (side, towards), (offset, size), adjustments: [C; 3]| {
            let [flip, slide, resize] = adjustments.map(|adjustment| self.adjustment.contains(adjustment));
            Axis { anchor, side, towards, offset, size, flip, slide, resize }
        };
        let rect = self.anchor_rect;
        let across = axis((rect.x, rect.width), (side.0, towards.0), (self.offset.0, self.size.0), [C::FlipX, C::SlideX, C::ResizeX]);
        let down = axis((rect.y, rect.height), (side.1, towards.1), (self.offset.1, self.size.1), [C::FlipY, C::SlideY, C::ResizeY]);
        let (x, width) = across.place(bounds.x, bounds.right());
        let (y, height) = down.place(bounds.y, bounds.bottom());
        Rect::new(x, y, width, height)
    }
}

impl Axis {
    const fn begin(self) -> i32 {
        let point = self.anchor.0.saturating_add(match self.side {
            -1 => 0,
            0 => self.anchor.1 / 2,
            _ => self.anchor.1,
        });
        let begin = point.saturating_sub(match self.towards {
            -1 => self.size,
            0 => self.size / 2,
            _ => 0,
        });
        begin.saturating_add(self.offset)
    }

    const fn flipped(self) -> Self {
        Self { side: -self.side, towards: -self.towards, offset: self.offset.saturating_neg(), ..self }
    }

    fn place(self, low: i32, high: i32) -> (i32, i32) {
        let fits = |begin: i32| begin >= low && begin.saturating_add(self.size) <= high;
        let begin = self.begin();
        if fits(begin) {
            return (begin, self.size);
        }
        let other = self.flipped().begin();
        if self.flip && fits(other) {
            return (other, self.size);
        }
        let begin = if self.slide { begin.min(high.saturating_sub(self.size)).max(low) } else { begin };
        if !self.resize || fits(begin) {
            return (begin, self.size);
        }
        let (from, to) = (begin.max(low), begin.saturating_add(self.size).min(high));
        if to > from { (from, to.saturating_sub(from)) } else { (begin, self.size) }
    }
}

/// The sides that anchor and gravity name; both count alike.
fn sides(value: u32) -> (i32, i32) {
    match value {
        1 => (0, -1),
        2 => (0, 1),
        3 => (-1, 0),
        4 => (1, 0),
        5 => (-1, -1),
        6 => (-1, 1),
        7 => (1, -1),
        8 => (1, 1),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Rect = Rect::new(0, 0, 100, 100);

    /// A menu below a button.
    fn below(button: Rect, size: (i32, i32), adjustment: ConstraintAdjustment) -> Rect {
        let positioner = Positioner { size, anchor_rect: button, anchor: Anchor::BottomLeft, gravity: Gravity::BottomRight, adjustment, offset: (0, 0) };
        positioner.place(WINDOW)
    }

    #[test]
    fn a_menu_lies_below_its_button_or_above_where_there_is_no_room() {
        let none = ConstraintAdjustment::empty();
        assert_eq!(below(Rect::new(10, 10, 20, 5), (30, 40), none), Rect::new(10, 15, 30, 40));
        assert_eq!(below(Rect::new(10, 80, 20, 5), (30, 40), none), Rect::new(10, 85, 30, 40));
        assert_eq!(below(Rect::new(10, 80, 20, 5), (30, 40), ConstraintAdjustment::FlipY), Rect::new(10, 40, 30, 40));
        assert_eq!(below(Rect::new(90, 10, 5, 5), (30, 40), ConstraintAdjustment::SlideX), Rect::new(70, 15, 30, 40));
        assert_eq!(below(Rect::new(10, 50, 20, 5), (30, 140), ConstraintAdjustment::ResizeY), Rect::new(10, 55, 30, 45));
        assert_eq!(below(Rect::new(10, 50, 20, 5), (30, 140), ConstraintAdjustment::SlideY | ConstraintAdjustment::ResizeY), Rect::new(10, 0, 30, 100));
    }

    #[test]
    fn numbers_that_are_no_places_do_no_harm() {
        for far in [i32::MIN, i32::MAX] {
            below(Rect::new(far, far, far, far), (i32::MAX, i32::MAX), ConstraintAdjustment::all());
        }
        assert_eq!(Positioner { size: (10, 20), ..Positioner::default() }.place(WINDOW), Rect::new(-5, -10, 10, 20), "centred on its anchor");
    }
}
