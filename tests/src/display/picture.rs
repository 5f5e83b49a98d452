//! A picture of a display, and its PNG file.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

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

    /// Reads a PNG file of eight bits a channel, with or without an alpha channel, which is ignored.
    pub fn load(file: &Path) -> Result<Self> {
        let input = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        let mut reader = png::Decoder::new(BufReader::new(input)).read_info().with_context(|| format!("no PNG: {}", file.display()))?;
        let mut data = vec![0; reader.output_buffer_size().context("the picture is too large")?];
        let info = reader.next_frame(&mut data)?;
        let samples = match (info.bit_depth, info.color_type) {
            (png::BitDepth::Eight, png::ColorType::Rgb) => 3,
            (png::BitDepth::Eight, png::ColorType::Rgba) => 4,
            other => bail!("{} is a picture of the kind {other:?}", file.display()),
        };
        let rgb = data.chunks_exact(samples).flat_map(|p| p.iter().take(3).copied()).collect();
        Ok(Self { width: info.width, height: info.height, rgb })
    }

    /// Every pixel as a square of `times` by `times`.
    #[must_use]
    pub fn enlarged(&self, times: u16) -> Self {
        let (factor, width, times) = (u32::from(times), self.width as usize, usize::from(times));
        let wide = |row: &[u8]| row.chunks_exact(3).flat_map(|p| p.repeat(times)).collect::<Vec<_>>();
        let rgb = self.rgb.chunks_exact(3 * width).flat_map(|row| wide(row).repeat(times)).collect();
        Self { width: self.width * factor, height: self.height * factor, rgb }
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

    #[test]
    fn enlarging_repeats_pixels_and_rows_and_a_file_keeps_them() {
        let small = Picture { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6] };
        let large = small.enlarged(2);
        let row = [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6];
        assert_eq!(large, Picture { width: 4, height: 2, rgb: [row, row].concat() });
        let file = tempfile::NamedTempFile::new().unwrap();
        large.save(file.path()).unwrap();
        assert_eq!(Picture::load(file.path()).unwrap(), large);
    }
}
