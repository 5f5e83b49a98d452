//! Unpacking an `.xz` file of several blocks on every processor (the .xz file format, version 1.2.1), as packages of Debian are made.
//!
//! Only the container is read here. Each block goes to the decoder as a file of its own, with an index that says of it what the file's
//! says: sizes are compared and checks computed there, and what is longer than it claims is never unpacked. The decoder would believe
//! any number of records and any size of dictionary, and reserve the memory: it sees one record, and no block that asks for too much.

use crate::{parallel, unpack::Bounded};
use flate2::Crc;
use std::{
    collections::VecDeque,
    io::{self, Read},
};

/// Magic bytes, stream flags and their CRC32.
const HEADER: usize = 12;
/// CRC32, backward size, stream flags and magic bytes.
const FOOTER: usize = 12;

/// More than `xz -9` asks for, which is 64 MiB.
const DICTIONARY_LIMIT: u64 = 128 << 20;

/// The blocks of a file that is one stream.
pub(crate) struct Blocks<'f> {
    header: &'f [u8],
    flags: [u8; 2],
    blocks: Vec<Block<'f>>,
}

/// A block with its padding, and the two sizes that the index tells of it.
struct Block<'f> {
    packed: &'f [u8],
    unpadded: u64,
    size: u64,
}

impl<'f> Blocks<'f> {
    /// The blocks of `file`; none where it is anything but one stream.
    pub(crate) fn of(file: &'f [u8]) -> Option<Self> {
        let (rest, footer) = file.split_at_checked(file.len().checked_sub(FOOTER)?)?;
        let backward = u32::from_le_bytes(footer.get(4..8)?.try_into().ok()?);
        let flags = footer.get(8..10)?.try_into().ok()?;
        let length = usize::try_from((u64::from(backward) + 1) * 4).ok()?;
        let (before, index) = rest.split_at_checked(rest.len().checked_sub(length)?)?;
        let (header, mut packed) = before.split_at_checked(HEADER)?;
        let mut index = index.strip_prefix(&[0])?;
        let count = number(&mut index)?;
        let mut blocks = Vec::new();
        for _ in 0..count {
            let (unpadded, size) = (number(&mut index)?, number(&mut index)?);
            let (block, after) = packed.split_at_checked(usize::try_from(unpadded.checked_next_multiple_of(4)?).ok()?)?;
            packed = after;
            blocks.push(Block { packed: block, unpadded, size });
        }
        packed.is_empty().then_some(Self { header, flags, blocks })
    }

    /// What they unpack to, of which there may be at most `limit` bytes.
    pub(crate) fn unpack(&self, limit: u64) -> io::Result<Unpacked> {
        let whole = self.blocks.iter().try_fold(0u64, |sum, block| sum.checked_add(block.size));
        if whole.is_none_or(|whole| whole > limit) {
            return Err(io::Error::other("it unpacks to more than it may"));
        }
        if self.blocks.iter().any(|block| dictionary(block.packed).is_none_or(|size| size > DICTIONARY_LIMIT)) {
            return Err(io::Error::other("it has a block that cannot be read, or asks for more memory than it may"));
        }
        let unpacked = parallel::map(&self.blocks, parallel::threads(), |block, _| Ok(self.decode(block)), |_| ());
        Ok(Unpacked(unpacked.map_err(io::Error::other)?.into_iter().collect::<io::Result<_>>()?))
    }

    fn decode(&self, block: &Block<'_>) -> io::Result<io::Cursor<Vec<u8>>> {
        let end = self.end(block);
        let file = self.header.chain(block.packed).chain(end.as_slice());
        let mut bytes = Vec::with_capacity(usize::try_from(block.size).map_err(io::Error::other)?);
        Bounded::new(lzma_rust2::XzReader::new(file, false), block.size).read_to_end(&mut bytes)?;
        Ok(io::Cursor::new(bytes))
    }

    /// Index and footer of a file with this block alone.
    fn end(&self, block: &Block<'_>) -> Vec<u8> {
        let mut index = vec![0, 1];
        push_number(&mut index, block.unpadded);
        push_number(&mut index, block.size);
        index.resize(index.len().next_multiple_of(4), 0);
        let backward = u32::try_from(index.len() / 4).unwrap_or(u32::MAX).to_le_bytes();
        let footer = [backward.as_slice(), &self.flags].concat();
        [index.as_slice(), &crc_of(&index), &crc_of(&footer), &footer, b"YZ"].concat()
    }
}

/// What a file's blocks unpack to, each given back when it was read.
pub(crate) struct Unpacked(VecDeque<io::Cursor<Vec<u8>>>);

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(block) = self.0.front_mut() {
            match block.read(buffer)? {
                0 if !buffer.is_empty() => drop(self.0.pop_front()),
                read => return Ok(read),
            }
        }
        Ok(0)
    }
}

/// The size of the dictionary that a block's header asks for, in bytes (sections 3.1 and 5.3.1).
fn dictionary(block: &[u8]) -> Option<u64> {
    const LZMA2: u64 = 0x21;
    let (&[_, flags], mut fields) = block.split_first_chunk()?;
    for size_present in [0x40, 0x80] {
        if flags & size_present != 0 {
            number(&mut fields)?;
        }
    }
    for _ in 0..=flags & 3 {
        let (filter, length) = (number(&mut fields)?, number(&mut fields)?);
        let (properties, after) = fields.split_at_checked(usize::try_from(length).ok()?)?;
        match (filter, properties) {
            (LZMA2, &[bits @ 0..40]) => return Some(u64::from(2 | bits & 1) << (bits / 2 + 11)),
            _ => fields = after,
        }
    }
    None
}

fn crc_of(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// Seven bits a byte, least significant first; the high bit says that more follow. At most 63 bits.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

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
    use std::{
        io::Write,
        process::{Command, Stdio},
        thread,
    };

    /// Packed by xz itself.
    fn packed(data: &[u8], options: &[&str]) -> Option<Vec<u8>> {
        let mut child = Command::new("xz").args(["-1", "--stdout"]).args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut input = child.stdin.take().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || input.write_all(data).unwrap());
            Some(child.wait_with_output().unwrap().stdout)
        })
    }

    fn data() -> Vec<u8> {
        (0..300_001u32).flat_map(|i| (i / 7).to_le_bytes()).collect()
    }

    fn read(file: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        Blocks::of(file).unwrap().unpack(limit)?.read_to_end(&mut read)?;
        Ok(read)
    }

    #[test]
    fn what_xz_packed_is_read_block_by_block() {
        let data = data();
        for (options, count) in [(&["--block-size=100000"][..], 13), (&["--block-size=100000", "--check=crc32"], 13), (&["--block-size=100000", "--check=none"], 13), (&[], 1)] {
            let Some(file) = packed(&data, options) else { return crate::testing::skip("xz") };
            assert_eq!(Blocks::of(&file).unwrap().blocks.len(), count, "{options:?}");
            assert!(read(&file, data.len() as u64).unwrap() == data, "{options:?}");
        }
    }

    #[test]
    fn a_block_that_asks_for_much_memory_is_refused() {
        let data = data();
        for (options, size) in [
            ("--lzma2=preset=0,dict=64MiB", Some(64 << 20)),
            ("--lzma2=preset=0,dict=96MiB", Some(96 << 20)),
            ("--lzma2=preset=0,dict=192MiB", None),
        ] {
            let Some(file) = packed(&data, &["--x86", "--delta", options]) else { return crate::testing::skip("xz") };
            let blocks = Blocks::of(&file).unwrap();
            assert_eq!(dictionary(blocks.blocks[0].packed).filter(|size| *size <= DICTIONARY_LIMIT), size, "{options}");
            assert_eq!(read(&file, data.len() as u64).is_ok(), size.is_some(), "{options}");
        }
        assert_eq!(dictionary(&[2, 0, 0x21, 1, 40]), None, "4 GiB less a byte");
    }

    /// The decoder would reserve memory for as many records as an index claims.
    #[test]
    fn an_index_of_more_records_than_it_has_is_refused() {
        let Some(file) = packed(b"short", &[]) else { return crate::testing::skip("xz") };
        let at = file.windows(3).rposition(|bytes| bytes[..2] == [0, 1]).unwrap();
        let mut claimed = vec![0];
        push_number(&mut claimed, 1 << 60);
        let altered = [&file[..at], &claimed, &file[at + 2..]].concat();
        assert!(Blocks::of(&altered).is_none());
        assert!(crate::unpack::decompress_bytes(".xz", &altered, 1 << 20).is_err_and(|error| error.to_string().contains("not one xz stream")));
    }

    #[test]
    fn what_is_altered_or_too_long_is_refused() {
        let data = data();
        let Some(file) = packed(&data, &["--block-size=100000"]) else { return crate::testing::skip("xz") };
        let error = read(&file, data.len() as u64 - 1).unwrap_err().to_string();
        assert!(error.contains("more than it may"), "{error}");
        // Every byte of the container's end, and some of the rest: refused here, or left to the decoder, which refuses it.
        for at in (0..file.len() - 200).step_by(499).chain(file.len() - 200..file.len()) {
            let mut altered = file.clone();
            altered[at] ^= 1;
            let taken = Blocks::of(&altered).is_some_and(|blocks| {
                let mut bytes = Vec::new();
                blocks.unpack(1 << 24).and_then(|mut unpacked| unpacked.read_to_end(&mut bytes)).is_ok_and(|_| bytes != data)
            });
            assert!(!taken, "byte {at}");
        }
        let two = [file.as_slice(), &file].concat();
        assert!(Blocks::of(&two).is_none());
        assert!(Blocks::of(&file[..file.len() - 1]).is_none() && Blocks::of(b"").is_none());
    }
}
