//! The image store: an OCI layout on disk (OCI image specification, image-layout.md), and unpacked images beside it.
//!
//! ```text
//! oci-layout index.json blobs/sha256/<hex>   the images
//! rootfs/sha256-<hex>  rootfs/sha256-<hex>.json   an image unpacked, by manifest digest, and the list of what it holds
//! locks/ sboms/   what each image was made of
//! layers/ state/   what earlier builds found out
//! lock tmp/   one writer at a time (flock(2)), and what it has not finished
//! ```
//! Nothing is ever changed in place: every file and directory is written in `tmp/`, synced and renamed, so that a reader
//! needs no lock and a writer may be killed at any time. What a dead writer left in `tmp/` goes when the next one starts.

use crate::{
    build::{LayerRecord, read_state},
    digest::Digest,
    error::Error,
    fetch::digest_file,
    floor::Floor,
    image::Image,
    lock::Lock,
    names::{Arch, Channel, ImageName, RecipeName},
    oci, rootfs, system,
};
use oci_spec::image::Descriptor;
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Tells how far a build or an unpacking has come.
pub trait Progress {
    /// Something begins.
    fn phase(&mut self, what: &str);
    /// So much of it is done, in bytes, of so much where that is known.
    fn advance(&mut self, done: u64, total: Option<u64>);
}

/// An unpacked image. As long as this or a copy of it exists, in any process, pruning leaves the directory alone.
#[derive(Clone, Debug)]
pub struct Rootfs {
    path: PathBuf,
    digest: Digest,
    /// The listing, with a shared lock on it.
    _used: Arc<File>,
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

const DIRS: [&str; 8] = ["blobs", "blobs/sha256", "rootfs", "layers", "locks", "sboms", "state", "tmp"];

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

    /// The image called `name` for `arch`, if there is one.
    ///
    /// # Errors
    /// [`Error::Store`] when a document is damaged or missing.
    pub fn image(&self, name: &ImageName, arch: Arch) -> Result<Option<Image>, Error> {
        let entries = self.entries()?;
        let entry = entries.iter().find(|entry| is_called(entry, name, arch));
        entry.map(|entry| self.read_image(entry)).transpose()
    }

    /// The image unpacked: once, and from then on only checked to hold what it held (types, modes, sizes and times). One that
    /// was changed is unpacked again.
    ///
    /// # Errors
    /// [`Error::Store`] when a layer is damaged, [`Error::Io`] when it cannot be unpacked.
    pub fn rootfs(&self, image: &Image, progress: &mut dyn Progress) -> Result<Rootfs, Error> {
        if let Some(unpacked) = self.unpacked(image) {
            return Ok(unpacked);
        }
        let writer = self.write()?;
        if self.unpacked(image).is_none() {
            progress.phase(&format!("unpacking {} {}", image.name, image.version));
            writer.unpack(image, progress)?;
        }
        self.unpacked(image).ok_or(Error::Internal("an image just unpacked that is not intact"))
    }

    /// The image's directory where it is there and intact. The lock comes first, so that nobody removes what was found intact.
    fn unpacked(&self, image: &Image) -> Option<Rootfs> {
        let (path, listing) = (self.rootfs_path(image), self.listing_path(image));
        let used = File::open(&listing).ok()?;
        used.lock_shared().ok()?;
        rootfs::is_intact(&path, &listing).then(|| Rootfs { path, digest: image.digest, _used: Arc::new(used) })
    }

    /// The file at `path`, without a leading slash, of an image that need not be unpacked; none where there is no such file, or a link. The layer that
    /// it comes from is digested.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Checksum`] when a layer is damaged, [`Error::Io`] when the file has more than `limit` bytes.
    pub fn file(&self, image: &Image, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        rootfs::read_file(self, image, path, limit)
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
        if path.exists() { rootfs::compare(self, image, &path) } else { Ok(()) }
    }

    /// Makes the image that another one replaced the current one again, and keeps that as the previous.
    ///
    /// # Errors
    /// [`Error::NoPrevious`] where there is none, [`Error::Downgrade`] where it has an older browser than was ever installed.
    pub fn roll_back(&self, recipe: RecipeName, arch: Arch) -> Result<Image, Error> {
        let (name, writer) = (recipe.image(), self.write()?);
        let image = self.image(&name.previous(), arch)?.ok_or_else(|| Error::NoPrevious { name: name.to_string() })?;
        if image.signed.is_some() {
            Floor::load(self, recipe, Channel::of(&image.version))?.check(&image.version, None)?;
        }
        let swap = |entry: Descriptor| match () {
            () if is_called(&entry, &name, arch) => oci::renamed(entry, &name.previous()),
            () if is_called(&entry, &name.previous(), arch) => oci::renamed(entry, &name),
            () => entry,
        };
        let entries = self.entries()?.into_iter().map(swap).collect();
        writer.replace(&self.path("index.json"), &oci::index(entries)?)?;
        self.image(&name, arch)?.ok_or(Error::Internal("the image rolled back to is not there"))
    }

    /// Forgets the image that the current one replaced, if it did; what it alone uses goes with the next [`Store::prune`].
    ///
    /// # Errors
    /// [`Error::Io`] when the list of images cannot be written.
    pub fn forget_previous(&self, recipe: RecipeName, arch: Arch) -> Result<(), Error> {
        let (name, writer) = (recipe.image().previous(), self.write()?);
        let entries = self.entries()?.into_iter().filter(|entry| !is_called(entry, &name, arch)).collect();
        writer.replace(&self.path("index.json"), &oci::index(entries)?)
    }

    /// Removes what no image of the store uses, and the unpacked roots of images that were replaced and that no box runs on;
    /// from the download cache in `cache`, what no image was made of. Returns how many bytes that were.
    ///
    /// # Errors
    /// [`Error::Io`] when something cannot be removed.
    pub fn prune(&self, cache: &Path) -> Result<u64, Error> {
        let writer = self.write()?;
        let images = self.images()?;
        let unused = self.unused_roots(&images)?;
        let mut freed = 0;
        for Unused { listing, .. } in &unused {
            let root = listing.with_extension("");
            freed += tree_size(&root)? + remove(&root)? + remove(listing)?;
        }
        // A root without a listing counts as not there.
        for root in list(&self.path("rootfs"))?.into_iter().filter(|path| path.is_dir() && !path.with_extension("json").exists()) {
            freed += tree_size(&root)? + remove(&root)?;
        }
        for (dir, extension) in [("locks", ".toml"), ("sboms", ".json")] {
            let keep: Vec<String> = images.iter().map(|image| format!("{}{extension}", image.digest.hex())).collect();
            freed += writer.remove_others(&self.path(dir), &keep)?;
        }
        freed += writer.remove_others(&self.path("blobs/sha256"), &blob_names(&images))?;
        freed += writer.remove_others(&self.path("layers"), &self.layers_with_blobs()?)?;
        if !cache.join("sha256").is_dir() {
            return Ok(freed);
        }
        Ok(freed + writer.remove_others(&cache.join("sha256"), &self.cached_names(&images)?)?)
    }

    /// Roots that are no current image's, each with an exclusive lock that keeps new users away.
    fn unused_roots(&self, images: &[Image]) -> Result<Vec<Unused>, Error> {
        let current: Vec<PathBuf> = images.iter().filter(|image| !image.name.is_previous()).map(|image| self.listing_path(image)).collect();
        let mut unused = Vec::new();
        for listing in list(&self.path("rootfs"))?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json") && !current.contains(path)) {
            let lock = File::open(&listing).map_err(Error::io("open", &listing))?;
            if lock.try_lock().is_ok() {
                unused.push(Unused { listing, _lock: lock });
            }
        }
        Ok(unused)
    }

    /// Names of the records of layers whose blobs are there: others would only mislead.
    fn layers_with_blobs(&self) -> Result<Vec<String>, Error> {
        let has_blob = |path: &PathBuf| read_state::<LayerRecord>(path).ok().flatten().is_some_and(|record| self.blob(record.written.digest).is_file());
        let kept = list(&self.path("layers"))?.into_iter().filter(has_blob);
        Ok(kept.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    /// Names, in a download cache, of what the images were made of.
    fn cached_names(&self, images: &[Image]) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for image in images {
            if let Ok(recipe) = image.recipe.parse() {
                names.extend(Lock::load(&self.lock_path(image), recipe, image.arch)?.digests().map(|digest| digest.hex()));
            }
        }
        Ok(names)
    }

    /// The image's bill of materials (CycloneDX 1.5, JSON).
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read.
    pub fn sbom(&self, image: &Image) -> Result<Vec<u8>, Error> {
        let path = self.path("sboms").join(format!("{}.json", image.digest.hex()));
        fs::read(&path).map_err(Error::io("read", path))
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
        lock.lock().map_err(Error::io("lock", &path))?;
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

    /// Whether every layer of the image is there; what is in them is checked when they are used.
    pub(crate) fn is_whole(&self, image: &Image) -> bool {
        image.layers.iter().all(|layer| self.blob(*layer).is_file())
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

    /// A directory with files that are not a store's is not made into one. Another process may be making it into one just now.
    fn refuse_foreign(&self) -> Result<(), Error> {
        let mut names = fs::read_dir(&self.root).map_err(Error::io("list", &self.root))?;
        let own = |name: &str| ["lock", "index.json", "oci-layout"].contains(&name) || DIRS.contains(&name);
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
            system::set_mode(&dir, 0o755).map_err(Error::io("make", &dir))?;
        }
        Ok(())
    }
}

fn is_called(entry: &Descriptor, name: &ImageName, arch: Arch) -> bool {
    let called = entry.annotations().as_ref().and_then(|all| all.get(oci::REF_NAME));
    let made_for = entry.platform().as_ref().map(|platform| platform.architecture().to_string());
    called.is_some_and(|called| called == name.as_str()) && made_for.is_some_and(|made_for| made_for == arch.as_str())
}

fn blob_names(images: &[Image]) -> Vec<String> {
    images.iter().flat_map(|image| image.layers.iter().chain([&image.digest, &image.config]).map(Digest::hex)).collect()
}

/// A root that nobody uses, as long as this exists.
struct Unused {
    listing: PathBuf,
    _lock: File,
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(dir).map_err(Error::io("list", dir))?;
    entries.map(|entry| Ok(entry.map_err(Error::io("list", dir))?.path())).collect()
}

/// Bytes of all files below a directory, which may not be there.
fn tree_size(dir: &Path) -> Result<u64, Error> {
    if !dir.is_dir() {
        return Ok(0);
    }
    let size = |path: &PathBuf| {
        let meta = fs::symlink_metadata(path).map_err(Error::io("read", path))?;
        if meta.is_dir() { tree_size(path) } else { Ok(meta.len()) }
    };
    list(dir)?.iter().map(size).sum()
}

/// Removes a file or a directory, which may not be there; returns the bytes of a file.
fn remove(path: &Path) -> Result<u64, Error> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(0) };
    let removed = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(Error::io("remove", path))?;
    Ok(if meta.is_file() { meta.len() } else { 0 })
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
        system::sync_directory(dir).map_err(Error::io("write", dir))
    }

    /// Makes a finished file readable to everyone, and renames it to its place.
    pub(crate) fn publish(&self, finished: &Path, path: &Path) -> Result<(), Error> {
        system::set_mode(finished, 0o644).map_err(Error::io("write", finished))?;
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
        let entry = oci::index_entry(name, arch, input, manifest)?;
        let mut entries = self.store.entries()?;
        if let Some(replaced) = entries.iter().find(|old| is_called(old, name, arch) && old.digest() != entry.digest()).cloned() {
            entries.retain(|old| !is_called(old, &name.previous(), arch));
            entries.push(oci::renamed(replaced, &name.previous()));
        }
        entries.retain(|old| !is_called(old, name, arch));
        entries.push(entry);
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
            freed += remove(&entry.path())?;
        }
        Ok(freed)
    }
}
