//! The image store: an OCI layout on disk (OCI image specification, image-layout.md), and unpacked images beside it.
//!
//! ```text
//! oci-layout index.json blobs/sha256/<hex>   the images
//! rootfs/sha256-<hex>  rootfs/sha256-<hex>.json   an image unpacked, by manifest digest, and the list of what it holds
//! layers/ locks/ state/   what earlier builds found out
//! lock tmp/   one writer at a time (flock(2)), and what it has not finished
//! ```
//! Nothing is ever changed in place: every file and directory is written in `tmp/`, synced and renamed, so that a reader
//! needs no lock and a writer may be killed at any time. What a dead writer left in `tmp/` goes when the next one starts.

use crate::{
    digest::Digest,
    error::Error,
    fetch::digest_file,
    image::Image,
    names::{Arch, ImageName},
    oci, rootfs,
};
use oci_spec::image::Descriptor;
use rustix::fs::FlockOperation;
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Tells how far a build or an unpacking has come.
pub trait Progress {
    /// Something begins.
    fn phase(&mut self, what: &str);
    /// So much of it is done, in bytes, of so much where that is known.
    fn advance(&mut self, done: u64, total: Option<u64>);
}

/// An unpacked image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs {
    path: PathBuf,
    digest: Digest,
}

impl Rootfs {
    /// Its directory: to be used read-only.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The digest of the image's manifest.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

/// An image store.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

const DIRS: [&str; 7] = ["blobs", "blobs/sha256", "rootfs", "layers", "locks", "state", "tmp"];

impl Store {
    /// Opens the store in the directory `root`, and makes it where there is none.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be made, [`Error::Store`] when `root` holds something else.
    pub fn open(root: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(Error::io("make", root))?;
        let root = root.canonicalize().map_err(Error::io("open", root))?;
        let store = Self { root };
        let layout = store.path("oci-layout");
        if !layout.exists() {
            store.refuse_foreign()?;
            store.make_dirs()?;
            let writer = store.write()?;
            if !store.path("index.json").exists() {
                writer.replace(&store.path("index.json"), &oci::index(Vec::new())?)?;
            }
            writer.replace(&layout, oci::LAYOUT.as_bytes())?;
        }
        store.make_dirs()?;
        Ok(store)
    }

    /// The images, by name.
    ///
    /// # Errors
    /// [`Error::Store`] when a document is damaged or missing.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        let mut images = self.entries()?.iter().map(|entry| self.read_image(entry)).collect::<Result<Vec<_>, _>>()?;
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// The image called `name`, if there is one.
    ///
    /// # Errors
    /// [`Error::Store`] when a document is damaged or missing.
    pub fn image(&self, name: &ImageName) -> Result<Option<Image>, Error> {
        let entries = self.entries()?;
        let entry = entries.iter().find(|entry| ref_name(entry) == Some(name.as_str()));
        entry.map(|entry| self.read_image(entry)).transpose()
    }

    /// The image unpacked: once, and from then on only checked to hold what it held (types, modes, sizes and times). One that
    /// was changed is unpacked again.
    ///
    /// # Errors
    /// [`Error::Store`] when a layer is damaged, [`Error::Io`] when it cannot be unpacked.
    pub fn rootfs(&self, image: &Image, progress: &mut dyn Progress) -> Result<Rootfs, Error> {
        let unpacked = Rootfs { path: self.rootfs_path(image), digest: image.digest };
        if rootfs::is_intact(&unpacked.path, &self.listing_path(image)) {
            return Ok(unpacked);
        }
        let writer = self.write()?;
        if rootfs::is_intact(&unpacked.path, &self.listing_path(image)) {
            return Ok(unpacked); // another process unpacked it while this one waited
        }
        progress.phase(&format!("unpacking {} {}", image.name, image.version));
        writer.unpack(image, progress)?;
        Ok(unpacked)
    }

    /// Digests every byte of the image again: documents, layers, and the unpacked root where there is one.
    ///
    /// # Errors
    /// [`Error::Checksum`] or [`Error::Store`] naming what differs.
    pub fn verify(&self, image: &Image, progress: &mut dyn Progress) -> Result<(), Error> {
        progress.phase(&format!("verifying {} {}", image.name, image.version));
        let mut done = 0;
        for digest in image.layers.iter().chain([&image.digest, &image.config]) {
            let path = self.blob(*digest);
            self.check_blob(*digest)?;
            done += fs::metadata(&path).map_err(Error::io("read", &path))?.len();
            progress.advance(done, None);
        }
        let path = self.rootfs_path(image);
        if path.exists() { rootfs::compare(self, image, &path, &self.listing_path(image)) } else { Ok(()) }
    }

    /// Removes what no image of the store uses; returns how many bytes that were.
    ///
    /// # Errors
    /// [`Error::Io`] when something cannot be removed.
    pub fn prune(&self) -> Result<u64, Error> {
        let writer = self.write()?;
        let images = self.images()?;
        let mut freed = 0;
        for (dir, keep) in [("blobs/sha256", blob_names(&images)), ("rootfs", rootfs_names(&images)), ("locks", lock_names(&images))] {
            freed += writer.remove_others(&self.path(dir), &keep)?;
        }
        // Records of layers whose blobs are gone would only mislead.
        freed += writer.remove_others(&self.path("layers"), &[])?;
        Ok(freed)
    }

    /// The lock of the packages that the image was built from, where this store built it.
    #[must_use]
    pub fn lock_path(&self, image: &Image) -> PathBuf {
        self.path("locks").join(format!("{}.toml", image.digest.hex()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Waits for other writers, and clears away what a dead one left.
    pub(crate) fn write(&self) -> Result<Writer<'_>, Error> {
        let path = self.path("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(Error::io("open", &path))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| Error::io("lock", &path)(e.into()))?;
        let writer = Writer { store: self, _lock: lock };
        writer.remove_others(&self.path("tmp"), &[])?;
        Ok(writer)
    }

    /// Fails unless the blob is there and has its digest.
    pub(crate) fn check_blob(&self, digest: Digest) -> Result<PathBuf, Error> {
        let path = self.blob(digest);
        let got = digest_file(&path)?;
        if got == digest { Ok(path) } else { Err(Error::Store { path, reason: format!("its digest is {got}") }) }
    }

    fn rootfs_path(&self, image: &Image) -> PathBuf {
        self.path("rootfs").join(format!("sha256-{}", image.digest.hex()))
    }

    fn listing_path(&self, image: &Image) -> PathBuf {
        self.path("rootfs").join(format!("sha256-{}.json", image.digest.hex()))
    }

    pub(crate) fn entries(&self) -> Result<Vec<Descriptor>, Error> {
        let path = self.path("index.json");
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        Ok(oci::read_index(&path, &bytes)?.manifests().clone())
    }

    fn read_image(&self, entry: &Descriptor) -> Result<Image, Error> {
        let digest = Digest::try_from(entry.digest().to_string())?;
        let (path, bytes) = self.read_document(digest)?;
        let manifest = oci::read_manifest(&path, &bytes)?;
        let (config_path, config) = self.read_document(Digest::try_from(manifest.config().digest().to_string())?)?;
        Image::read(&path, entry, &manifest, &oci::read_config(&config_path, &config)?)
    }

    /// A document's bytes, with its digest checked.
    pub(crate) fn read_document(&self, digest: Digest) -> Result<(PathBuf, Vec<u8>), Error> {
        let path = self.blob(digest);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let got = Digest::of(&bytes);
        if got == digest { Ok((path, bytes)) } else { Err(Error::Checksum { what: path.display().to_string(), expected: digest, got }) }
    }

    /// A directory with files that are not a store's is not made into one.
    fn refuse_foreign(&self) -> Result<(), Error> {
        let mut names = fs::read_dir(&self.root).map_err(Error::io("list", &self.root))?;
        let own = |name: &str| name == "lock" || name == "index.json" || DIRS.contains(&name);
        let foreign = names.find_map(|entry| entry.ok().filter(|entry| !entry.file_name().to_str().is_some_and(own)));
        match foreign {
            Some(entry) => Err(Error::Store { path: entry.path(), reason: "this is no file of an image store".to_owned() }),
            None => Ok(()),
        }
    }

    /// The containers' users must be able to enter, whatever the umask.
    fn make_dirs(&self) -> Result<(), Error> {
        for dir in DIRS.iter().map(|dir| self.path(dir)).filter(|dir| !dir.is_dir()) {
            fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
            fs::set_permissions(&dir, Permissions::from_mode(0o755)).map_err(Error::io("make", &dir))?;
        }
        Ok(())
    }
}

fn ref_name(entry: &Descriptor) -> Option<&str> {
    entry.annotations().as_ref()?.get(oci::REF_NAME).map(String::as_str)
}

fn blob_names(images: &[Image]) -> Vec<String> {
    images.iter().flat_map(|image| image.layers.iter().chain([&image.digest, &image.config]).map(Digest::hex)).collect()
}

fn rootfs_names(images: &[Image]) -> Vec<String> {
    images.iter().flat_map(|image| [format!("sha256-{}", image.digest.hex()), format!("sha256-{}.json", image.digest.hex())]).collect()
}

fn lock_names(images: &[Image]) -> Vec<String> {
    images.iter().map(|image| format!("{}.toml", image.digest.hex())).collect()
}

/// The right to change a store, until it is dropped.
pub(crate) struct Writer<'s> {
    store: &'s Store,
    _lock: File,
}

impl Writer<'_> {
    pub(crate) const fn store(&self) -> &Store {
        self.store
    }

    /// A path in the store's directory of unfinished things, which nothing uses yet.
    pub(crate) fn temporary(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.store.path("tmp").join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        } else if path.exists() {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(path)
    }

    /// Writes a whole file: after a crash it has either its old content or its new.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let temporary = self.temporary("document")?;
        let mut file = File::create_new(&temporary).map_err(Error::io("create", &temporary))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", &temporary))?;
        self.publish(&temporary, path)
    }

    /// Renames a finished file or directory to its place.
    pub(crate) fn put(&self, finished: &Path, path: &Path) -> Result<(), Error> {
        fs::rename(finished, path).map_err(Error::io("write", path))?;
        let dir = path.parent().unwrap_or(&self.store.root);
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("write", dir))
    }

    /// Makes a finished file readable to everyone, and renames it to its place.
    pub(crate) fn publish(&self, finished: &Path, path: &Path) -> Result<(), Error> {
        fs::set_permissions(finished, Permissions::from_mode(0o644)).map_err(Error::io("write", finished))?;
        self.put(finished, path)
    }

    /// Puts a small document among the blobs.
    pub(crate) fn put_document(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        self.replace(&self.store.blob(digest), bytes)?;
        Ok(digest)
    }

    /// Makes `manifest` the image called `name`.
    pub(crate) fn put_image(&self, name: &ImageName, arch: Arch, input: Digest, manifest: &[u8]) -> Result<(), Error> {
        let mut entries = self.store.entries()?;
        entries.retain(|entry| ref_name(entry) != Some(name.as_str()));
        entries.push(oci::index_entry(name, arch, input, manifest)?);
        self.replace(&self.store.path("index.json"), &oci::index(entries)?)
    }

    fn unpack(&self, image: &Image, progress: &mut dyn Progress) -> Result<(), Error> {
        let (path, listing) = (self.store.rootfs_path(image), self.store.listing_path(image));
        let temporary = self.temporary("rootfs")?;
        let listed = rootfs::unpack(self.store, image, &temporary, progress)?;
        if path.exists() {
            fs::rename(&path, self.temporary("old-rootfs")?).map_err(Error::io("remove", &path))?;
        }
        // The list comes first: a root without a list counts as not there.
        self.replace(&listing, &oci::canonical(&listed)?)?;
        self.put(&temporary, &path)?;
        self.remove_others(&self.store.path("tmp"), &[]).map(|_| ())
    }

    /// Removes everything in `dir` that `keep` does not name; returns how many bytes of files at its top that were.
    fn remove_others(&self, dir: &Path, keep: &[String]) -> Result<u64, Error> {
        let mut freed = 0;
        for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let entry = entry.map_err(Error::io("list", dir))?;
            if entry.file_name().to_str().is_some_and(|name| keep.iter().any(|kept| kept == name)) {
                continue;
            }
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
            freed += if meta.is_file() { meta.len() } else { 0 };
            let removed = if meta.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::io("remove", &path))?;
        }
        Ok(freed)
    }
}
