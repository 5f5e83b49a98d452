//! Reading compressed archives: decompression by name, bounds, and the names of entries.
//!
//! An archive that unpacks to more than its bound ends in an error, whatever it claims about itself.

use crate::xz::Blocks;
use std::io::{self, Read};

/// A reader of `data`, whose compression is told by `extension` (with its dot, empty for none); none for an unknown one.
pub(crate) fn decompress<'d>(extension: &str, data: impl Read + 'd) -> Option<Box<dyn Read + 'd>> {
    match extension {
        "" => Some(Box::new(data)),
        ".xz" => Some(Box::new(lzma_rust2::XzReader::new(data, true))),
        ".gz" => Some(Box::new(flate2::read::MultiGzDecoder::new(data))),
        _ => None,
    }
}

/// The same for data that is in memory, of which at most `limit` bytes come out. `.xz` has to be one stream.
pub(crate) fn decompress_bytes<'d>(extension: &str, data: &'d [u8], limit: u64) -> io::Result<Option<Box<dyn Read + 'd>>> {
    if extension == ".xz" {
        let blocks = Blocks::of(data).ok_or_else(|| io::Error::other("it is not one xz stream"))?;
        return Ok(Some(Box::new(blocks.unpack(limit)?)));
    }
    Ok(decompress(extension, data).map(|reader| Box::new(Bounded::new(reader, limit)) as Box<dyn Read + 'd>))
}

/// Passes on at most a number of bytes; more is an error.
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) const fn new(inner: R, limit: u64) -> Self {
        Self { inner, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other("it unpacks to more than it may"))?;
        Ok(read)
    }
}

/// The path of a tar entry, as text; none when it is not UTF-8.
pub(crate) fn entry_name<R: Read>(entry: &tar::Entry<'_, R>) -> Option<String> {
    String::from_utf8(entry.path_bytes().into_owned()).ok()
}

/// The target of a tar entry's link, as text; none when it is missing, empty or not UTF-8.
pub(crate) fn link_name<R: Read>(entry: &tar::Entry<'_, R>) -> Option<String> {
    let name = String::from_utf8(entry.link_name_bytes()?.into_owned()).ok()?;
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_bound_is_an_error() {
        let read = |limit| Bounded::new(&b"four"[..], limit).read_to_end(&mut Vec::new());
        assert_eq!(read(4).unwrap(), 4);
        assert!(read(3).is_err());
    }
}
