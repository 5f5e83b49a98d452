//! Unpacking an image's layers into a directory, and checking later that the directory still holds what it held.
//!
//! Only directories, files and symlinks are made, each at a path that was checked, in a directory that this made itself; a
//! layer is digested before a byte of it is unpacked.

use crate::{
    digest::{Digest, Digesting},
    error::Error,
    image::Image,
    store::{Progress, Store},
    system,
    tree::TreePath,
    unpack::{Bounded, entry_name, link_name},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, FileTimes, Metadata, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    time::{Duration, SystemTime},
};

/// No image unpacks to more.
const LIMIT: u64 = 4 << 30;

/// What an unpacked image holds, by path.
pub(crate) type Listing = BTreeMap<String, Listed>;

/// What can be seen of a path without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(crate) enum Listed {
    Dir { mode: u32 },
    File { mode: u32, size: u64, mtime: i64 },
    Symlink { target: String },
}

/// Unpacks the layers of `image` into the new directory `root`.
pub(crate) fn unpack(store: &Store, image: &Image, root: &Path, progress: &mut dyn Progress) -> Result<Listing, Error> {
    fs::create_dir(root).map_err(Error::io("make", root))?;
    system::set_mode(root, 0o755).map_err(Error::io("make", root))?;
    let mut unpacking = Unpacking { root, listing: Listing::new() };
    let mut done = 0;
    for (layer, diff_id) in image.layers.iter().zip(&image.diff_ids) {
        let path = store.check_blob(*layer)?;
        each_entry(&path, *diff_id, &mut |entry| unpacking.take(entry))?;
        done += fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        progress.advance(done, Some(image.compressed_size));
    }
    system::sync_tree(root).map_err(Error::io("write", root))?;
    Ok(unpacking.listing)
}

/// The file of the image at `wanted`, as its last layer that has it holds it; none where there is no such file. One of more than `limit` bytes is an error.
pub(crate) fn read_file(store: &Store, image: &Image, wanted: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let mut found = None;
    for (layer, diff_id) in image.layers.iter().zip(&image.diff_ids).rev() {
        let path = store.check_blob(*layer)?;
        each_entry(&path, *diff_id, &mut |entry| {
            if entry.header().entry_type() != tar::EntryType::Regular || entry_name(entry).as_deref() != Some(wanted) {
                return Ok(());
            }
            let mut bytes = Vec::new();
            Bounded::new(entry, limit).read_to_end(&mut bytes).map_err(Error::io("read", wanted))?;
            found = Some(bytes);
            Ok(())
        })?;
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

/// Reads a layer's entries; that its unpacked digest is not `diff_id` is an error at the end.
fn each_entry(path: &Path, diff_id: Digest, take: &mut dyn FnMut(&mut tar::Entry<'_, &mut Tee>) -> Result<(), Error>) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let reader = Bounded::new(flate2::bufread::MultiGzDecoder::new(io::BufReader::new(file)), LIMIT);
    let mut tee = Tee { reader: Box::new(reader), digesting: Digesting::new(io::sink()) };
    let mut archive = tar::Archive::new(&mut tee);
    for entry in archive.entries().map_err(Error::io("unpack", path))? {
        take(&mut entry.map_err(Error::io("unpack", path))?)?;
    }
    io::copy(&mut tee, &mut io::sink()).map_err(Error::io("unpack", path))?;
    let (_, got, _) = tee.digesting.finish();
    if got == diff_id { Ok(()) } else { Err(Error::Checksum { what: path.display().to_string(), expected: diff_id, got }) }
}

/// Digests what is read through it.
struct Tee {
    reader: Box<dyn Read>,
    digesting: Digesting<io::Sink>,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.digesting.write_all(buffer.get(..read).unwrap_or_default())?;
        Ok(read)
    }
}

struct Unpacking<'u> {
    root: &'u Path,
    listing: Listing,
}

impl Unpacking<'_> {
    fn take(&mut self, entry: &mut tar::Entry<'_, &mut Tee>) -> Result<(), Error> {
        let (path, listed) = describe(self.root, entry)?;
        let at = self.root.join(path.as_str());
        let wrong = |reason: &str| Error::Store { path: at.clone(), reason: reason.to_owned() };
        let in_dir = path.parent().is_none_or(|parent| matches!(self.listing.get(parent.as_str()), Some(Listed::Dir { .. })));
        if !in_dir {
            return Err(wrong("a layer puts it where no directory is"));
        }
        match (&listed, self.listing.get(path.as_str())) {
            (Listed::Dir { .. }, Some(Listed::Dir { .. })) => return Ok(()),
            (_, Some(_)) => return Err(wrong("a layer holds it twice")),
            (_, None) => make(&at, &listed, entry).map_err(Error::io("unpack", &at))?,
        }
        self.listing.insert(path.as_str().to_owned(), listed);
        Ok(())
    }
}

/// Where an entry goes and what it is; anything but a directory, file or symlink is an error.
fn describe<R: Read>(root: &Path, entry: &tar::Entry<'_, R>) -> Result<(TreePath, Listed), Error> {
    let wrong = |reason: &str| Error::Store { path: root.to_owned(), reason: reason.to_owned() };
    let header = entry.header();
    let path = entry_name(entry).as_deref().and_then(TreePath::new).ok_or_else(|| wrong("a layer holds a path that is not plain"))?;
    let mode = header.mode().map_err(Error::io("unpack", root))?;
    let listed = match header.entry_type() {
        tar::EntryType::Directory => Listed::Dir { mode },
        tar::EntryType::Symlink => Listed::Symlink { target: link_name(entry).ok_or_else(|| wrong("a layer holds a link without target"))? },
        tar::EntryType::Regular => {
            let mtime = i64::try_from(header.mtime().map_err(Error::io("unpack", root))?).map_err(|_| wrong("a layer holds a time out of range"))?;
            Listed::File { mode, size: entry.size(), mtime }
        }
        _ => return Err(wrong("a layer holds something other than directories, files and symlinks")),
    };
    Ok((path, listed))
}

fn make<R: Read>(at: &Path, listed: &Listed, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
    match listed {
        Listed::Dir { mode } => {
            fs::create_dir(at)?;
            system::set_mode(at, *mode)
        }
        Listed::Symlink { target } => system::symlink(target, at),
        Listed::File { mode, size, mtime } => {
            let mut file = OpenOptions::new().write(true).create_new(true).open(at)?;
            if io::copy(entry, &mut file)? != *size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            system::set_mode_of(&file, *mode)?;
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(mtime.unsigned_abs());
            file.set_times(FileTimes::new().set_modified(time))
        }
    }
}

/// Whether the directory `root` holds exactly what its list says.
pub(crate) fn is_intact(root: &Path, listing: &Path) -> bool {
    let read = || -> Option<bool> {
        let listing: Listing = serde_json::from_slice(&fs::read(listing).ok()?).ok()?;
        let mut seen = 0;
        Some(same(root, "", &listing, &mut seen).ok()? && seen == listing.len())
    };
    read().unwrap_or(false)
}

/// Compares one directory; `seen` counts the paths met.
fn same(root: &Path, dir: &str, listing: &Listing, seen: &mut usize) -> io::Result<bool> {
    for entry in fs::read_dir(root.join(dir))? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| io::ErrorKind::InvalidData)?;
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        let meta = entry.metadata()?;
        *seen += 1;
        let expected = listing.get(&path);
        if expected != Some(&observe(&entry.path(), &meta)?) {
            return Ok(false);
        }
        if meta.is_dir() && !same(root, &path, listing, seen)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn observe(path: &Path, meta: &Metadata) -> io::Result<Listed> {
    let mode = system::mode(meta) & 0o7777;
    if meta.is_dir() {
        Ok(Listed::Dir { mode })
    } else if meta.is_file() {
        Ok(Listed::File { mode, size: meta.len(), mtime: system::mtime(meta) })
    } else {
        let target = fs::read_link(path)?.into_os_string().into_string().map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Listed::Symlink { target })
    }
}

/// Compares every byte of the unpacked root with the image's layers; what the list of the root says counts for nothing here.
pub(crate) fn compare(store: &Store, image: &Image, root: &Path) -> Result<(), Error> {
    let differs = |path: &Path| Error::Store { path: path.to_owned(), reason: "it differs from its image".to_owned() };
    let mut listing = Listing::new();
    for (layer, diff_id) in image.layers.iter().zip(&image.diff_ids) {
        each_entry(&store.blob(*layer), *diff_id, &mut |entry| {
            let (path, listed) = describe(root, entry)?;
            let at = root.join(path.as_str());
            if matches!(listed, Listed::File { .. }) {
                let (mut expected, found) = (Vec::new(), fs::read(&at).map_err(Error::io("read", &at))?);
                entry.read_to_end(&mut expected).map_err(Error::io("read", &at))?;
                if expected != found {
                    return Err(differs(&at));
                }
            }
            listing.insert(path.as_str().to_owned(), listed);
            Ok(())
        })?;
    }
    let mut seen = 0;
    let is_same = same(root, "", &listing, &mut seen).map_err(Error::io("read", root))?;
    if is_same && seen == listing.len() { Ok(()) } else { Err(differs(root)) }
}
