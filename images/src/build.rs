//! Building an image: inputs are resolved, verified, selected, and written as layers; what did not change is not done again.
//!
//! Nothing is believed before its signature or its signed digest was checked, and the store's index changes last, in one
//! rename: a build that ends early leaves the images as they were.

use crate::{
    base,
    browser::{self, BrowserLayer},
    debian::{
        archive::{self, Client, Indexes, Seen},
        index::PackageFile,
        resolve::{self, Candidates},
    },
    digest::{Digest, Fingerprint},
    elf,
    error::Error,
    fetch::{Fetcher, digest_file},
    image::Image,
    layer::{self, Written},
    lock::Lock,
    mirror::{Mirror, Mirrors},
    names::{Arch, Channel, Day, RecipeName},
    oci::{self, Description, label},
    recipe::{ProgramName, Recipe},
    sbom::{self, Files, Materials},
    select::Needed,
    store::{Progress, Store, Writer},
    tree::{Mode, Node, Tree, TreePath},
    trust::Trust,
    via::Via,
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The code that decides an image's bytes: what an earlier build made is used again only where this is the same.
const CODE: [&str; 14] = [
    include_str!("base.rs"),
    include_str!("browser.rs"),
    include_str!("build.rs"),
    include_str!("debian/deb.rs"),
    include_str!("generate/gvdb.rs"),
    include_str!("generate/mime.rs"),
    include_str!("generate/mod.rs"),
    include_str!("generate/schemas.rs"),
    include_str!("intake.rs"),
    include_str!("layer.rs"),
    include_str!("oci.rs"),
    include_str!("select.rs"),
    include_str!("standin.rs"),
    include_str!("tree.rs"),
];

/// What to build, and from where.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The recipe.
    pub recipe: RecipeName,
    /// Where packages are fetched from.
    pub mirrors: Mirrors,
    /// Directory of the download cache; made where it is not there.
    pub cache: PathBuf,
    /// Which releases of the Tor Project to follow.
    pub channel: Channel,
    /// A browser release that was fetched another way.
    pub release: Option<ReleaseFiles>,
    /// A newer copy of the certificate of the Tor Project's signers; what is new in it is kept.
    pub key: Option<PathBuf>,
    /// The oldest day of a signature that is accepted, should it be longer ago than a release normally lasts.
    pub accept_old: Option<Day>,
    /// A proxy that everything is fetched through.
    pub via: Option<Via>,
    /// torbox's own programs.
    pub programs: Programs,
    /// For which architecture.
    pub arch: Arch,
    /// A lock whose packages are taken instead of the newest.
    pub locked: Option<Locked>,
    /// The suites' indexes, as they were read for another build.
    pub indexes: Indexes,
}

/// Where a lock is.
#[derive(Clone, Debug)]
pub enum Locked {
    /// The one that torbox carries.
    Carried,
    /// In this file.
    File(PathBuf),
}

impl From<PathBuf> for Locked {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// A release of the browser as files.
#[derive(Clone, Debug)]
pub struct ReleaseFiles {
    /// The archive, `.tar.xz`.
    pub tarball: PathBuf,
    /// Its detached signature.
    pub signature: PathBuf,
}

/// torbox's own programs, as static executables.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The first process of every container.
    pub init: PathBuf,
    /// The filter between browser and tor.
    pub gate: PathBuf,
    /// What stands between the browser and the display server.
    pub display: PathBuf,
}

/// Builds the image that `request` asks for, or returns the one in the store when it was built from the same inputs.
///
/// # Errors
/// Any [`Error`]; the store is as it was before.
pub fn build(store: &Store, request: &BuildRequest, progress: &mut dyn Progress) -> Result<Image, Error> {
    build_from(store, &Recipe::embedded(request.recipe)?, &Trust::embedded()?, Utc::now(), request, progress)
}

/// Like [`build`], with a recipe, trust and time of the caller's.
///
/// # Errors
/// Any [`Error`]; the store is as it was before.
pub fn build_from(store: &Store, recipe: &Recipe, trust: &Trust, now: DateTime<Utc>, request: &BuildRequest, progress: &mut dyn Progress) -> Result<Image, Error> {
    if request.release.is_some() && recipe.tor_project.is_none() {
        return Err(Error::NoRelease(recipe.name));
    }
    let fetcher = Fetcher::new(&request.cache, request.via.as_ref())?;
    let mirrors = match (request.mirrors.load(), &request.locked) {
        // All of it may be in the cache; what is not asks for a mirror then.
        (Err(_), Some(_)) => Vec::new(),
        (mirrors, _) => mirrors?,
    };
    let writer = store.write()?;
    Build { writer: &writer, recipe, trust, now, request, fetcher: &fetcher, mirrors: &mirrors, progress }.run()
}

/// The lock of the newest packages that the suites sign for, as TOML: nothing is built.
///
/// # Errors
/// Any [`Error`] of resolving.
pub fn resolve_lock(store: &Store, request: &BuildRequest, progress: &mut dyn Progress) -> Result<String, Error> {
    let (recipe, trust, writer) = (Recipe::embedded(request.recipe)?, Trust::embedded()?, store.write()?);
    let (fetcher, mirrors) = (Fetcher::new(&request.cache, request.via.as_ref())?, request.mirrors.load()?);
    Build { writer: &writer, recipe: &recipe, trust: &trust, now: Utc::now(), request, fetcher: &fetcher, mirrors: &mirrors, progress }.resolve()?.to_toml()
}

/// The image in the store, where this torbox would make the very same one of the packages and the browser that it was made
/// of: nothing is fetched for that. None where there is no image, or one that [`renew`] must make anew.
///
/// # Errors
/// [`Error::Io`] when torbox's own programs cannot be read, [`Error::Store`] when the store is damaged.
pub fn current(store: &Store, request: &BuildRequest) -> Result<Option<Image>, Error> {
    current_of(store, &Recipe::embedded(request.recipe)?, request)
}

/// Like [`current`], with a recipe of the caller's.
///
/// # Errors
/// As [`current`].
pub fn current_of(store: &Store, recipe: &Recipe, request: &BuildRequest) -> Result<Option<Image>, Error> {
    let Some(image) = store.image(&recipe.name.image(), request.arch)? else { return Ok(None) };
    // An image without a lock that can be read is of an older torbox.
    let Ok(lock) = Lock::load(&store.lock_path(&image), recipe.name, request.arch) else { return Ok(None) };
    let browser = match &request.release {
        Some(files) => Some(digest_file(&files.tarball)?),
        None => browser::locked_identity(&lock),
    };
    let input = input(recipe, request.arch, &lock, &programs(recipe, request)?, browser)?;
    Ok((image.input == input && store.is_whole(&image)).then_some(image))
}

/// Builds the image again from the packages and the browser that the one in the store was made of, without the network where
/// they are in the cache; from the newest where that is not possible, or where there is none.
///
/// # Errors
/// Any [`Error`]; the store is as it was before.
pub fn renew(store: &Store, request: &BuildRequest, progress: &mut dyn Progress) -> Result<Image, Error> {
    renew_from(store, &Recipe::embedded(request.recipe)?, &Trust::embedded()?, Utc::now(), request, progress)
}

/// Like [`renew`], with a recipe, trust and time of the caller's.
///
/// # Errors
/// Any [`Error`]; the store is as it was before.
pub fn renew_from(store: &Store, recipe: &Recipe, trust: &Trust, now: DateTime<Utc>, request: &BuildRequest, progress: &mut dyn Progress) -> Result<Image, Error> {
    let lock = store.image(&recipe.name.image(), request.arch)?.map(|image| store.lock_path(&image)).filter(|lock| lock.is_file());
    if let Some(lock) = lock {
        let locked = BuildRequest { locked: Some(Locked::File(lock)), ..request.clone() };
        match build_from(store, recipe, trust, now, &locked, progress) {
            Ok(image) => return Ok(image),
            // The mirrors may have newer packages only, or the recipe may need others now.
            Err(error) => progress.phase(&format!("{} cannot be made of the same packages ({error}): taking the newest", recipe.name)),
        }
    }
    build_from(store, recipe, trust, now, request, progress)
}

/// One build: what it was given, and where it puts things.
pub(crate) struct Build<'b> {
    pub(crate) writer: &'b Writer<'b>,
    pub(crate) recipe: &'b Recipe,
    pub(crate) trust: &'b Trust,
    pub(crate) now: DateTime<Utc>,
    pub(crate) request: &'b BuildRequest,
    pub(crate) fetcher: &'b Fetcher,
    mirrors: &'b [Mirror],
    pub(crate) progress: &'b mut dyn Progress,
}

/// A layer that is in the store, and what the rest of the build needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerRecord {
    pub(crate) written: Written,
    /// The newest date in it, in seconds since 1970.
    pub(crate) newest: u64,
    /// The browser's version, of a browser's layer.
    pub(crate) version: Option<String>,
    /// When the browser was signed.
    pub(crate) signed: Option<DateTime<Utc>>,
    /// Libraries that it needs from elsewhere.
    pub(crate) needs: Vec<Needed>,
    /// Its files by the package that they are from.
    pub(crate) origins: BTreeMap<String, Files>,
}

pub(crate) type Program = (ProgramName, Vec<u8>);

impl<'b> Build<'b> {
    fn run(&mut self) -> Result<Image, Error> {
        self.progress.phase(&format!("resolving the packages of {}", self.recipe.name));
        let mut lock = self.lock()?;
        let programs = programs(self.recipe, self.request)?;
        let source = browser::source(self, &lock)?;
        let identity = source.as_ref().map(browser::Source::identity);
        if let Some(image) = self.unchanged(self.input(&lock, &programs, identity)?)? {
            return Ok(image);
        }
        let browser = source.map(|source| browser::layer(self, &source)).transpose()?;
        lock.release = browser.as_ref().and_then(|browser| browser.release.clone());
        let base = base::layer(self, &lock, browser.as_ref().map_or(&[], |browser| browser.record.needs.as_slice()))?;
        self.finish(&lock, &programs, &base, browser.as_ref())
    }

    /// The packages: those of the given lock, or the newest that the suites sign for.
    fn lock(&self) -> Result<Lock, Error> {
        match &self.request.locked {
            Some(Locked::File(path)) => Lock::load(path, self.recipe.name, self.request.arch),
            Some(Locked::Carried) => Lock::carried(self.recipe.name, self.request.arch),
            None => self.resolve(),
        }
    }

    /// What was resolved from the same signed indexes by the same recipe is not resolved again.
    fn resolve(&self) -> Result<Lock, Error> {
        let client = self.client();
        let seen_path = self.writer.store().path("state/seen.json");
        let mut seen: Seen = read_state(&seen_path)?.unwrap_or_default();
        let releases = client.releases(self.trust, &mut seen, self.now)?;
        self.writer.replace(&seen_path, &oci::canonical(&seen)?)?;
        let indexes = archive::fingerprint(&releases).to_string();
        let key = self.fingerprint("resolved")?.with(indexes.as_bytes()).finish();
        let path = self.writer.store().path(&format!("state/resolved-{}-{}.json", self.recipe.name, self.request.arch));
        if let Some(Resolved { key: known, lock }) = read_state(&path)? && known == key {
            return Ok(lock);
        }
        let of = Fingerprint::new(self.request.arch.as_str()).with(indexes.as_bytes()).finish();
        let packages = self.request.indexes.packages(of, || client.packages(&releases))?;
        let candidates = Candidates::new(&packages)?;
        let chosen = resolve::resolve(&candidates, &self.recipe.packages, &self.recipe.exclude)?;
        let lock = Lock {
            recipe: self.recipe.name,
            arch: self.request.arch,
            release: None,
            browser: self.recipe.debian_package.as_ref().map(|source| candidates.newest(&source.package)).transpose()?.map(|package| package.file.clone()),
            packages: chosen.iter().map(|package| package.file.clone()).collect(),
        };
        self.writer.replace(&path, &oci::canonical(&Resolved { key, lock: lock.clone() })?)?;
        Ok(lock)
    }

    pub(crate) fn client(&self) -> Client<'b> {
        Client { fetcher: self.fetcher, mirrors: self.mirrors, arch: self.request.arch }
    }

    /// A digest to which the recipe, the architecture and this code's version contribute.
    pub(crate) fn fingerprint(&self, purpose: &str) -> Result<Fingerprint, Error> {
        fingerprint(self.recipe, self.request.arch, purpose)
    }

    fn input(&self, lock: &Lock, programs: &[Program], browser: Option<Digest>) -> Result<Digest, Error> {
        input(self.recipe, self.request.arch, lock, programs, browser)
    }

    /// The image in the store, where it was built from the same inputs and all of it is there.
    fn unchanged(&self, input: Digest) -> Result<Option<Image>, Error> {
        let store = self.writer.store();
        // A damaged image is no reason not to build it again.
        let image = store.image(&self.recipe.name.image(), self.request.arch).ok().flatten();
        Ok(image.filter(|image| image.input == input && store.is_whole(image)))
    }

    /// The layer with the given key: the one that an earlier build made, or what `make` returns, written now.
    pub(crate) fn layer(&mut self, key: Digest, what: &str, make: impl FnOnce(&mut Self) -> Result<NewLayer, Error>) -> Result<LayerRecord, Error> {
        let path = self.writer.store().path("layers").join(format!("{}.json", key.hex()));
        if let Some(record) = read_state::<LayerRecord>(&path)? && self.writer.store().blob(record.written.digest).is_file() {
            return Ok(record);
        }
        let new = make(self)?;
        self.progress.phase(&format!("compressing {what}"));
        let temporary = self.writer.temporary("layer")?;
        let written = layer::write(&new.tree, &temporary)?;
        self.writer.publish(&temporary, &self.writer.store().blob(written.digest))?;
        let record = LayerRecord { written, newest: new.tree.newest(), version: new.version, signed: new.signed, needs: new.needs, origins: new.origins };
        self.writer.replace(&path, &oci::canonical(&record)?)?;
        Ok(record)
    }

    fn programs_layer(&mut self, programs: &[Program]) -> Result<LayerRecord, Error> {
        let mut key = code("programs");
        let mut tree = Tree::default();
        for (program, bytes) in programs {
            key = key.with(program.path().as_bytes()).with(bytes);
            let path = TreePath::new(program.path()).ok_or(Error::Internal("a program's path"))?;
            tree.insert(path, Node::File { mode: Mode::Executable, data: Arc::from(bytes.as_slice()) }, 0);
        }
        self.layer(key.finish(), "torbox's programs", |_| Ok(NewLayer::of(tree)))
    }

    /// Writes the documents, then the lock, then the index: the image is there only with all that belongs to it.
    fn finish(&mut self, lock: &Lock, programs: &[Program], base: &LayerRecord, browser: Option<&BrowserLayer>) -> Result<Image, Error> {
        let own = self.programs_layer(programs)?;
        let version = self.version(lock, browser)?;
        let newest = base.newest.max(browser.map_or(0, |browser| browser.record.newest));
        let created = i64::try_from(newest).ok().and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0)).unwrap_or_default();
        let input = self.input(lock, programs, browser.map(|browser| browser.identity))?;
        let mut layers = vec![(base.written.clone(), "libraries and data")];
        layers.extend(browser.map(|browser| (browser.record.written.clone(), "browser")));
        layers.push((own.written, "torbox's programs"));
        let (name, created) = (self.recipe.name.image(), rfc3339(created));
        let materials = Materials { recipe: self.recipe, lock, version: &version, created: &created, programs, base, browser };
        let description = Description {
            name: &name,
            title: &self.recipe.title,
            arch: self.request.arch,
            created: &created,
            entrypoint: &self.recipe.entrypoint,
            user: "1000:1000",
            labels: self.labels(lock, &version),
            licences: &self.recipe.licences,
            source: &self.source(lock, &version),
            revision: lock.digest()?,
            layers: &layers,
        };
        self.publish_image(input, &description, &materials)
    }

    /// Where the source of what the image is made for is found.
    fn source(&self, lock: &Lock, version: &str) -> String {
        match (&self.recipe.tor_project, &lock.browser) {
            (Some(project), _) => project.releases.first().map(|place| place.replace("{version}", version)).unwrap_or_default(),
            (None, Some(package)) => package.source(),
            (None, None) => lock.packages.iter().find(|package| Some(&package.name) == self.recipe.version_of.as_ref()).map(PackageFile::source).unwrap_or_default(),
        }
    }

    fn labels(&self, lock: &Lock, version: &str) -> BTreeMap<&'static str, String> {
        let mut labels = BTreeMap::from([
            (label::RECIPE, self.recipe.name.to_string()),
            (label::ROLE, self.recipe.role.as_str().to_owned()),
            (label::VERSION, version.to_owned()),
            (label::ANONYMOUS, self.recipe.is_anonymous().to_string()),
        ]);
        let signed = lock.release.as_ref().and_then(|release| release.signed);
        labels.extend(signed.map(|signed| (label::SIGNED, rfc3339(signed))));
        labels
    }

    fn publish_image(&self, input: Digest, description: &Description<'_>, materials: &Materials<'_>) -> Result<Image, Error> {
        let config = oci::config(description)?;
        let manifest = oci::manifest(description, &config)?;
        self.writer.put_document(&config)?;
        let digest = self.writer.put_document(&manifest)?;
        let lock_path = self.writer.store().path("locks").join(format!("{}.toml", digest.hex()));
        self.writer.replace(&lock_path, materials.lock.to_toml()?.as_bytes())?;
        let sbom_path = self.writer.store().path("sboms").join(format!("{}.json", digest.hex()));
        self.writer.replace(&sbom_path, &sbom::document(materials, digest)?)?;
        self.writer.put_image(description.name, description.arch, input, &manifest)?;
        self.writer.store().image(description.name, description.arch)?.ok_or(Error::Internal("the image just written is not there"))
    }

    fn version(&self, lock: &Lock, browser: Option<&BrowserLayer>) -> Result<String, Error> {
        match (browser, &self.recipe.version_of) {
            (Some(browser), _) => browser.record.version.clone().ok_or(Error::Internal("a browser without version")),
            (None, Some(of)) => {
                let package = lock.packages.iter().find(|package| package.name == *of);
                package.map(|package| package.version.to_string()).ok_or_else(|| Error::Unsatisfiable { needed_by: "the recipe".to_owned(), relation: of.clone() })
            }
            (None, None) => Err(Error::Internal("a recipe without version")),
        }
    }
}

fn programs(recipe: &Recipe, request: &BuildRequest) -> Result<Vec<Program>, Error> {
    let paths = &request.programs;
    let read = |program: &ProgramName| {
        let path = match program {
            ProgramName::Init => &paths.init,
            ProgramName::Gate => &paths.gate,
            ProgramName::Display => &paths.display,
        };
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        if elf::is_foreign(&bytes, request.arch) {
            return Err(Error::Program { path: path.clone(), arch: request.arch });
        }
        Ok((*program, bytes))
    };
    recipe.programs.iter().map(read).collect()
}

fn fingerprint(recipe: &Recipe, arch: Arch, purpose: &str) -> Result<Fingerprint, Error> {
    Ok(code(purpose).with(&oci::canonical(recipe)?).with(arch.as_str().as_bytes()))
}

/// The digest of everything that the image is made of.
fn input(recipe: &Recipe, arch: Arch, lock: &Lock, programs: &[Program], browser: Option<Digest>) -> Result<Digest, Error> {
    let mut sum = fingerprint(recipe, arch, "input")?.with(lock.packages_digest().to_string().as_bytes());
    for (_, bytes) in programs {
        sum = sum.with(Digest::of(bytes).to_string().as_bytes());
    }
    Ok(sum.with(browser.map(|digest| digest.to_string()).unwrap_or_default().as_bytes()).finish())
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A digest to which this code contributes.
pub(crate) fn code(purpose: &str) -> Fingerprint {
    CODE.iter().fold(Fingerprint::new(purpose), |sum, source| sum.with(source.as_bytes()))
}

/// A layer to write.
pub(crate) struct NewLayer {
    pub(crate) tree: Tree,
    pub(crate) version: Option<String>,
    pub(crate) signed: Option<DateTime<Utc>>,
    pub(crate) needs: Vec<Needed>,
    pub(crate) origins: BTreeMap<String, Files>,
}

impl NewLayer {
    /// One that is nothing but its tree.
    pub(crate) fn of(tree: Tree) -> Self {
        Self { tree, version: None, signed: None, needs: Vec::new(), origins: BTreeMap::new() }
    }
}

/// What was resolved, and from what.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolved {
    key: Digest,
    lock: Lock,
}

/// What an earlier build noted; what cannot be read was not noted.
pub(crate) fn read_state<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}
