//! A picture of a display, and its PNG file.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Pixels, eight bits each of red, green and blue, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// From an X server's ZPixmap of depth 24: four bytes a pixel, blue first.
    pub fn from_zpixmap(width: u16, height: u16, data: &[u8]) -> Result<Self> {
        let (width, height) = (u32::from(width), u32::from(height));
        ensure!(data.len() == 4 * width as usize * height as usize, "{width}x{height} pixels in {} bytes", data.len());
        let rgb = data.chunks_exact(4).flat_map(|p| p.iter().take(3).rev().copied()).collect();
        Ok(Self { width, height, rgb })
    }

    /// Writes it to `file`.
    pub fn save(&self, file: &Path) -> Result<()> {
        let out = File::create(file).with_context(|| format!("cannot make {}", file.display()))?;
        let mut encoder = png::Encoder::new(BufWriter::new(out), self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb).and_then(|()| writer.finish()).with_context(|| format!("cannot write {}", file.display()))
    }

    /// How many pixels are exactly of this colour.
    #[must_use]
    pub fn count(&self, rgb: [u8; 3]) -> usize {
        self.rgb.chunks_exact(3).filter(|p| **p == rgb).count()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn colours_change_places() {
        let picture = Picture::from_zpixmap(2, 1, &[1, 2, 3, 0, 4, 5, 6, 0]).unwrap();
        assert_eq!(picture.rgb, [3, 2, 1, 6, 5, 4]);
        assert_eq!((picture.count([3, 2, 1]), picture.count([1, 2, 3])), (1, 0));
        assert!(Picture::from_zpixmap(2, 1, &[0; 7]).is_err());
    }
}
