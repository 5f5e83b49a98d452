//! One archive of an image that Docker, Podman and skopeo all load: an OCI layout with Docker's `manifest.json` beside it.
//!
//! Its bytes depend on the image alone.

use crate::{digest::Digest, error::Error, image::Image, oci, store::Store};
use serde::Serialize;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// What `docker load` reads (Docker image specification 1.2).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes the archive of `image` to the file `path`, which is there only once it is whole.
///
/// # Errors
/// [`Error::Checksum`] when a blob is damaged, [`Error::Io`] when it cannot be written.
pub fn export_archive(store: &Store, image: &Image, path: &Path) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let whole = || write_archive(store, image, &File::create(&temporary).map_err(Error::io("write", &temporary))?, &temporary);
    let written = whole().and_then(|()| fs::rename(&temporary, path).map_err(Error::io("write", path)));
    if written.is_err() && temporary.exists() {
        fs::remove_file(&temporary).map_err(Error::io("remove", &temporary))?;
    }
    written
}

/// Writes the image as an OCI layout into the new directory `path`.
///
/// # Errors
/// [`Error::Checksum`] when a blob is damaged, [`Error::Io`] when it cannot be written.
pub fn export_dir(store: &Store, image: &Image, path: &Path) -> Result<(), Error> {
    let blobs = path.join("blobs/sha256");
    fs::create_dir(path).and_then(|()| fs::create_dir_all(&blobs)).map_err(Error::io("make", path))?;
    for digest in blobs_of(image) {
        let blob = store.check_blob(digest)?;
        let copy = blobs.join(digest.hex());
        fs::copy(&blob, &copy).map_err(Error::io("write", &copy))?;
    }
    let (index, _) = documents(store, image)?;
    for (name, bytes) in [("index.json", index.as_slice()), ("oci-layout", oci::LAYOUT.as_bytes())] {
        fs::write(path.join(name), bytes).map_err(Error::io("write", path.join(name)))?;
    }
    Ok(())
}

fn blobs_of(image: &Image) -> Vec<Digest> {
    let mut blobs: Vec<Digest> = image.layers.iter().chain([&image.config, &image.digest]).copied().collect();
    blobs.sort();
    blobs.dedup();
    blobs
}

/// Writes the archive of `image` into `file`, which errors call `path`.
///
/// # Errors
/// As [`export_archive`]; the file then has a part of it.
pub fn write_archive(store: &Store, image: &Image, file: &File, path: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("write", path)(error);
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
    for dir in ["blobs/", "blobs/sha256/"] {
        append(&mut archive, tar::EntryType::Directory, dir, 0, io::empty()).map_err(failed)?;
    }
    let (index, docker) = documents(store, image)?;
    for digest in blobs_of(image) {
        let blob = store.check_blob(digest)?;
        let file = File::open(&blob).map_err(Error::io("open", &blob))?;
        let size = file.metadata().map_err(Error::io("read", &blob))?.len();
        append(&mut archive, tar::EntryType::Regular, &blob_path(digest), size, file).map_err(failed)?;
    }
    for (name, bytes) in [("index.json", index.as_slice()), ("manifest.json", &docker), ("oci-layout", oci::LAYOUT.as_bytes())] {
        append(&mut archive, tar::EntryType::Regular, name, bytes.len() as u64, bytes).map_err(failed)?;
    }
    let mut out = archive.into_inner().map_err(failed)?;
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(failed)
}

/// The index with this image alone, and Docker's manifest.
fn documents(store: &Store, image: &Image) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut entries = store.entries()?;
    // The same image may be there under two names.
    entries.retain(|entry| entry.digest().to_string() == image.digest.to_string());
    entries.truncate(1);
    let docker = DockerManifest { config: blob_path(image.config), repo_tags: vec![image.engine_name()], layers: image.layers.iter().copied().map(blob_path).collect() };
    Ok((oci::index(entries)?, oci::canonical(&[docker])?))
}

fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn append(archive: &mut tar::Builder<impl Write>, kind: tar::EntryType, name: &str, size: u64, content: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
    header.set_size(size);
    header.set_mtime(0);
    archive.append_data(&mut header, name, content)
}
