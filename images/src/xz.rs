//! Writing `.xz` without compressing: a container of stored LZMA2 chunks (the .xz file format, version 1.2.1).
//!
//! For an archive that lives for one build, where packing it small would take longer than everything else. Only what is
//! written here is ever made: one stream, one block, CRC32.

use flate2::Crc;
use std::io::{self, Write};

/// Stream flags: CRC32 as the check of blocks.
const FLAGS: [u8; 2] = [0, 1];
/// One filter, LZMA2, with the smallest dictionary: size byte (12 bytes in all), flags, id, properties, padding.
const BLOCK_HEADER: [u8; 8] = [2, 0, 0x21, 1, 0, 0, 0, 0];
const CHUNK: usize = 1 << 16;

/// Writes what it is given as an `.xz` file.
pub(crate) struct Stored<W> {
    out: W,
    pending: Vec<u8>,
    crc: Crc,
    /// Bytes of the block's LZMA2 data so far.
    packed: u64,
    /// Bytes that they stand for.
    length: u64,
}

impl<W: Write> Stored<W> {
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"\xfd7zXZ\0")?;
        write_checked(&mut out, &FLAGS)?;
        write_checked(&mut out, &BLOCK_HEADER)?;
        Ok(Self { out, pending: Vec::with_capacity(CHUNK), crc: Crc::new(), packed: 0, length: 0 })
    }

    /// A chunk: the first one resets the dictionary (1), the others do not (2); its size less one; its bytes.
    fn chunk(&mut self) -> io::Result<()> {
        let Some(size) = self.pending.len().checked_sub(1).and_then(|size| u16::try_from(size).ok()) else { return Ok(()) };
        self.out.write_all(&[if self.packed == 0 { 1 } else { 2 }])?;
        self.out.write_all(&size.to_be_bytes())?;
        self.out.write_all(&self.pending)?;
        self.crc.update(&self.pending);
        self.packed += 3 + self.pending.len() as u64;
        self.length += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Ends block and stream.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.chunk()?;
        self.out.write_all(&[0])?;
        self.packed += 1;
        self.out.write_all(padding(self.packed))?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        let unpadded = BLOCK_HEADER.len() as u64 + 4 + self.packed + 4;
        let mut index = vec![0, 1];
        push_number(&mut index, unpadded);
        push_number(&mut index, self.length);
        index.extend_from_slice(padding(index.len() as u64));
        write_checked(&mut self.out, &index)?;
        let backward = u32::try_from(index.len() / 4).unwrap_or(u32::MAX).to_le_bytes();
        let footer = [backward.as_slice(), &FLAGS].concat();
        self.out.write_all(&crc_of(&footer))?;
        self.out.write_all(&footer)?;
        self.out.write_all(b"YZ")?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Stored<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.get(..data.len().min(CHUNK - self.pending.len())).unwrap_or_default();
        self.pending.extend_from_slice(taken);
        if self.pending.len() == CHUNK {
            self.chunk()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn write_checked(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.write_all(&crc_of(bytes))
}

fn crc_of(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// Zeros up to a multiple of four.
fn padding(length: u64) -> &'static [u8] {
    match length % 4 {
        1 => &[0; 3],
        2 => &[0; 2],
        3 => &[0; 1],
        _ => &[],
    }
}

/// Seven bits a byte, least significant first; the high bit says that more follow.
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn stored(data: &[u8]) -> Vec<u8> {
        let mut writer = Stored::new(Vec::new()).unwrap();
        writer.write_all(data).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        for size in [0, 1, 2, 3, 4, 100, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7] {
            let data: Vec<u8> = (0..size).map(|i| (i % 253) as u8).collect();
            let mut read = Vec::new();
            lzma_rust2::XzReader::new(&stored(&data)[..], true).read_to_end(&mut read).unwrap();
            assert!(read == data, "{size}");
        }
    }

    #[test]
    fn xz_itself_accepts_it() {
        use std::process::{Command, Stdio};
        let child = Command::new("xz").arg("-t").stdin(Stdio::piped()).spawn();
        let Ok(mut child) = child else { return crate::testing::skip("xz") };
        child.stdin.take().unwrap().write_all(&stored(&[7; 200_000])).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
