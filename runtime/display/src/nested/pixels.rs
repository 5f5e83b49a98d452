//! Rectangles, and pictures of premultiplied ARGB8888 (wl_shm, "format"): bytes in the order blue, green, red, alpha.
//! Pure. No number that a client says makes it panic or reach beyond a picture.

use std::ops::Range;

/// Bytes of a pixel.
pub(super) const PIXEL: usize = 4;

/// A rectangle; without width or height it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) width: i32,
    pub(super) height: i32,
}

impl Rect {
    pub(super) const fn new(x: i32, y: i32, width: i32, height: i32) -> Self {
        Self { x, y, width, height }
    }

    pub(super) const fn of((width, height): (i32, i32)) -> Self {
        Self::new(0, 0, width, height)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.width <= 0 || self.height <= 0
    }

    /// Itself in parts, one below the other, of so many rows at most.
    pub(super) fn bands(self, rows: i32) -> impl Iterator<Item = Self> {
        let begins = (self.y..self.bottom()).step_by(usize::try_from(rows.max(1)).unwrap_or(1));
        begins.map(move |y| Self::new(self.x, y, self.width, rows.max(1)).intersection(self))
    }

    pub(super) const fn right(self) -> i32 {
        self.x.saturating_add(self.width)
    }

    pub(super) const fn bottom(self) -> i32 {
        self.y.saturating_add(self.height)
    }

    pub(super) const fn contains(self, (x, y): (i32, i32)) -> bool {
        x >= self.x && y >= self.y && x < self.right() && y < self.bottom()
    }

    pub(super) const fn shifted(self, (x, y): (i32, i32)) -> Self {
        Self { x: self.x.saturating_add(x), y: self.y.saturating_add(y), ..self }
    }

    pub(super) fn intersection(self, other: Self) -> Self {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        let side = |end: i32, begin: i32| end.saturating_sub(begin).max(0);
        Self::new(x, y, side(self.right().min(other.right()), x), side(self.bottom().min(other.bottom()), y))
    }

    /// The smallest rectangle around both.
    pub(super) fn union(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => {
                let (x, y) = (self.x.min(other.x), self.y.min(other.y));
                Self::new(x, y, self.right().max(other.right()).saturating_sub(x), self.bottom().max(other.bottom()).saturating_sub(y))
            }
        }
    }
}

/// Whether a picture's alpha means something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Alpha {
    /// Yes: ARGB8888.
    #[default]
    Used,
    /// No: XRGB8888.
    Ignored,
}

/// A picture in memory of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
    pub(super) alpha: Alpha,
}

impl Picture {
    /// Black, and transparent if its alpha is used.
    pub(super) fn new((width, height): (i32, i32), alpha: Alpha) -> Self {
        let [width, height] = [width, height].map(|side| usize::try_from(side).unwrap_or_default());
        Self { width, height, bytes: vec![0; width.saturating_mul(height).saturating_mul(PIXEL)], alpha }
    }

    pub(super) fn size(&self) -> (i32, i32) {
        let side = |side: usize| i32::try_from(side).unwrap_or_default();
        (side(self.width), side(self.height))
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All rows, from the first.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of `columns` of row `y`; none where there are none.
    pub(super) fn row(&self, y: usize, columns: Range<usize>) -> &[u8] {
        self.span(y, &columns).and_then(|span| self.bytes.get(span)).unwrap_or_default()
    }

    /// The same, to be changed.
    pub(super) fn row_mut(&mut self, y: usize, columns: Range<usize>) -> &mut [u8] {
        self.span(y, &columns).and_then(|span| self.bytes.get_mut(span)).unwrap_or_default()
    }

    fn span(&self, y: usize, columns: &Range<usize>) -> Option<Range<usize>> {
        let inside = y < self.height && columns.start <= columns.end && columns.end <= self.width;
        inside.then(|| (y * self.width + columns.start) * PIXEL..(y * self.width + columns.end) * PIXEL)
    }

    /// The rows and columns of `rect` that it has.
    pub(super) fn cut(&self, rect: Rect) -> (Range<usize>, Range<usize>) {
        let rect = rect.intersection(Rect::of(self.size()));
        let [x, y, right, bottom] = [rect.x, rect.y, rect.right(), rect.bottom()].map(|place| usize::try_from(place).unwrap_or_default());
        (y..bottom.max(y), x..right.max(x))
    }

    /// Black.
    pub(super) fn clear(&mut self, rect: Rect) {
        let (rows, columns) = self.cut(rect);
        for y in rows {
            self.row_mut(y, columns.clone()).fill(0);
        }
    }

    /// Draws `picture`, of which `scale` pixels are one of this, with its corner at `at`, as far as it lies in `clip`.
    pub(super) fn draw(&mut self, picture: &Self, scale: usize, at: (i32, i32), clip: Rect) {
        let scale = scale.max(1);
        let size = |side: usize| i32::try_from(side / scale).unwrap_or_default();
        let target = Rect::new(at.0, at.1, size(picture.width), size(picture.height)).intersection(clip);
        let (rows, columns) = self.cut(target);
        let from = |place: usize, begin: i32| usize::try_from(i64::try_from(place).unwrap_or_default() - i64::from(begin)).unwrap_or_default() * scale;
        for y in rows {
            let source = from(y, at.1);
            let begin = from(columns.start, at.0);
            let row = picture.row(source, begin..begin + columns.len() * scale);
            put(self.row_mut(y, columns.clone()), row, scale, picture.alpha);
        }
    }
}

fn put(target: &mut [u8], source: &[u8], scale: usize, alpha: Alpha) {
    if scale == 1 && alpha == Alpha::Ignored && target.len() == source.len() {
        return target.copy_from_slice(source);
    }
    for (below, above) in target.chunks_exact_mut(PIXEL).zip(source.chunks_exact(PIXEL * scale)) {
        let (Some(below), Some(above)) = (below.first_chunk_mut::<PIXEL>(), above.first_chunk::<PIXEL>()) else { return };
        *below = match (alpha, above[3]) {
            (Alpha::Ignored, _) | (_, u8::MAX) => *above,
            (_, 0) => continue,
            (_, opacity) => over(*above, *below, opacity),
        };
    }
}

/// `above` over `below`, premultiplied.
fn over(above: [u8; PIXEL], below: [u8; PIXEL], opacity: u8) -> [u8; PIXEL] {
    let rest = u16::from(u8::MAX - opacity);
    let mix = |above: u8, below: u8| above.saturating_add(u8::try_from(u16::from(below) * rest / u16::from(u8::MAX)).unwrap_or(u8::MAX));
    let ([a, b, c, d], [e, f, g, h]) = (above, below);
    [mix(a, e), mix(b, f), mix(c, g), mix(d, h)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(size: (i32, i32), pixel: [u8; PIXEL], alpha: Alpha) -> Picture {
        let mut picture = Picture::new(size, alpha);
        picture.bytes = pixel.repeat(picture.width * picture.height);
        picture
    }

    #[test]
    fn rectangles() {
        let rect = Rect::new(1, 2, 3, 4);
        assert!(rect.contains((1, 2)) && rect.contains((3, 5)) && !rect.contains((4, 2)) && !rect.contains((1, 6)));
        assert_eq!(rect.intersection(Rect::new(2, 0, 10, 4)), Rect::new(2, 2, 2, 2));
        assert!(rect.intersection(Rect::new(9, 9, 1, 1)).is_empty());
        assert_eq!(rect.union(Rect::new(0, 0, 2, 2)), Rect::new(0, 0, 4, 6));
        assert_eq!(rect.union(Rect::default()), rect);
        let most = Rect::new(i32::MAX, i32::MIN, i32::MAX, i32::MAX);
        assert_eq!(most.shifted((i32::MAX, i32::MIN)).union(rect).x, 1);
        assert!(Rect::new(5, 5, -1, 5).intersection(rect).is_empty());
        assert!(rect.bands(3).eq([Rect::new(1, 2, 3, 3), Rect::new(1, 5, 3, 1)]) && rect.bands(0).count() == 4 && Rect::default().bands(9).next().is_none());
    }

    #[test]
    fn a_picture_is_drawn_where_it_lies_and_nowhere_else() {
        let mut canvas = Picture::new((4, 3), Alpha::Ignored);
        let red = filled((2, 2), [0, 0, 255, 255], Alpha::Ignored);
        canvas.draw(&red, 1, (-1, 1), Rect::new(0, 0, 4, 2));
        let drawn: Vec<_> = (0..3).flat_map(|y| (0..4).map(move |x| (x, y))).filter(|&(x, y)| canvas.row(y, x..x + 1) == [0, 0, 255, 255]).collect();
        assert_eq!(drawn, [(0, 1)]);
        for at in [(i32::MIN, i32::MIN), (i32::MAX, i32::MAX)] {
            let before = canvas.clone();
            canvas.draw(&red, 1, at, Rect::of((4, 3)));
            assert_eq!(canvas, before);
        }
    }

    #[test]
    fn half_transparent_pixels_are_mixed_and_two_pixels_can_be_one() {
        let mut canvas = filled((1, 1), [200, 100, 0, 255], Alpha::Ignored);
        canvas.draw(&filled((2, 2), [0, 0, 128, 128], Alpha::Used), 2, (0, 0), Rect::of((1, 1)));
        assert_eq!(canvas.row(0, 0..1), [99, 49, 128, 255]);
        canvas.draw(&filled((1, 1), [1, 2, 3, 0], Alpha::Used), 1, (0, 0), Rect::of((1, 1)));
        assert_eq!(canvas.row(0, 0..1), [99, 49, 128, 255], "transparent");
        canvas.clear(Rect::of((1, 1)));
        assert_eq!(canvas.row(0, 0..1), [0; 4]);
    }

    #[test]
    fn what_is_not_there_is_empty() {
        let picture = Picture::new((2, 2), Alpha::Used);
        assert_eq!((picture.row(2, 0..1), picture.row(0, 1..3)), (&[][..], &[][..]));
        assert_eq!(Picture::new((-1, 5), Alpha::Used).len(), 0);
    }
}
