//! Building an image: inputs are resolved, verified, selected, and written as layers; what did not change is not done again.
//!
//! Nothing is believed before its signature or its signed digest was checked, and the store's index changes last, in one
//! rename: a build that ends early leaves the images as they were.

use crate::{
    base,
    browser::{self, BrowserLayer},
    debian::{
        archive::{self, Client, Seen},
        resolve::{self, Candidates},
        version::Version,
    },
    digest::{Digest, Fingerprint},
    error::Error,
    fetch::Fetcher,
    image::Image,
    layer::{self, Written},
    lock::Lock,
    mirror::{Mirror, Mirrors},
    names::{Arch, RecipeName},
    oci::{self, Description, label},
    recipe::{ImageRole, ProgramName, Recipe},
    select::Needed,
    store::{Progress, Store, Writer},
    tree::{Mode, Node, Tree, TreePath},
    trust::Trust,
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
    /// A browser release that was fetched another way.
    pub release: Option<ReleaseFiles>,
    /// torbox's own programs.
    pub programs: Programs,
    /// For which architecture.
    pub arch: Arch,
    /// A lock whose packages are taken instead of the newest.
    pub locked: Option<PathBuf>,
}

/// A release of the browser as files.
#[derive(Clone, Debug)]
pub struct ReleaseFiles {
    /// The archive, `.tar.xz`.
    pub tarball: PathBuf,
    /// Its detached signature.
    pub signature: PathBuf,
    /// A newer copy of the signers' certificate.
    pub key: Option<PathBuf>,
}

/// torbox's own programs, as static executables.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The first process of every container.
    pub init: PathBuf,
    /// The filter between browser and tor.
    pub gate: PathBuf,
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
    let (fetcher, mirrors) = (Fetcher::new(&request.cache)?, request.mirrors.load()?);
    let writer = store.write()?;
    Build { writer: &writer, recipe, trust, now, request, fetcher: &fetcher, mirrors: &mirrors, progress }.run()
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
    /// Libraries that it needs from elsewhere.
    pub(crate) needs: Vec<Needed>,
}

type Program = (ProgramName, Vec<u8>);

impl<'b> Build<'b> {
    fn run(&mut self) -> Result<Image, Error> {
        self.progress.phase(&format!("resolving the packages of {}", self.recipe.name));
        let mut lock = self.lock()?;
        let programs = self.programs()?;
        let source = browser::source(self, &lock)?;
        let identity = source.as_ref().map(browser::Source::identity);
        if identity != Some(None) && let Some(image) = self.unchanged(self.input(&lock, &programs, identity.flatten())?)? {
            return Ok(image);
        }
        let browser = source.map(|source| browser::layer(self, source)).transpose()?;
        if let Some(browser) = &browser {
            self.refuse_downgrade(&browser.record)?;
            lock.release = browser.release.clone();
        }
        let base = base::layer(self, &lock, browser.as_ref().map_or(&[], |browser| browser.record.needs.as_slice()))?;
        self.finish(&lock, &programs, &base, browser.as_ref())
    }

    /// The packages: those of the given lock, or the newest that the suites sign for.
    fn lock(&self) -> Result<Lock, Error> {
        match &self.request.locked {
            Some(path) => Lock::load(path, self.recipe.name, self.request.arch),
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
        let path = self.writer.store().path(&format!("state/resolved-{}.json", self.recipe.name));
        if let Some(Resolved { key: known, lock }) = read_state(&path)? && known == key {
            return Ok(lock);
        }
        let packages = client.packages(&releases)?;
        let candidates = Candidates::new(&packages);
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

    fn programs(&self) -> Result<Vec<Program>, Error> {
        let read = |program: &ProgramName| {
            let path = match program {
                ProgramName::Init => &self.request.programs.init,
                ProgramName::Gate => &self.request.programs.gate,
            };
            Ok((*program, fs::read(path).map_err(Error::io("read", path))?))
        };
        self.recipe.programs.iter().map(read).collect()
    }

    /// A digest to which the recipe, the architecture and this code's version contribute.
    pub(crate) fn fingerprint(&self, purpose: &str) -> Result<Fingerprint, Error> {
        let recipe = oci::canonical(self.recipe)?;
        Ok(code(purpose).with(&recipe).with(self.request.arch.as_str().as_bytes()))
    }

    /// The digest of everything that the image is made of.
    fn input(&self, lock: &Lock, programs: &[Program], browser: Option<Digest>) -> Result<Digest, Error> {
        let mut sum = self.fingerprint("input")?.with(lock.packages_digest().to_string().as_bytes());
        for (_, bytes) in programs {
            sum = sum.with(Digest::of(bytes).to_string().as_bytes());
        }
        Ok(sum.with(browser.map(|digest| digest.to_string()).unwrap_or_default().as_bytes()).finish())
    }

    /// The image in the store, where it was built from the same inputs and all of it is there.
    fn unchanged(&self, input: Digest) -> Result<Option<Image>, Error> {
        let store = self.writer.store();
        let is_whole = |image: &Image| image.layers.iter().all(|layer| store.blob(*layer).is_file());
        // A damaged image is no reason not to build it again.
        let image = store.image(&self.recipe.name.image()).ok().flatten();
        Ok(image.filter(|image| image.input == input && is_whole(image)))
    }

    /// Only releases are held to this: a stand-in follows its packages, whose indexes cannot go back either.
    fn refuse_downgrade(&self, browser: &LayerRecord) -> Result<(), Error> {
        if self.recipe.tor_project.is_none() {
            return Ok(());
        }
        let name = self.recipe.name.image();
        let installed = self.writer.store().image(&name)?;
        match (installed, &browser.version) {
            (Some(image), Some(offered)) if Version::new(offered) < Version::new(&image.version) => {
                Err(Error::Downgrade { name: name.to_string(), offered: offered.clone(), installed: image.version })
            }
            _ => Ok(()),
        }
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
        let record = LayerRecord { written, newest: new.tree.newest(), version: new.version, needs: new.needs };
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
        self.layer(key.finish(), "torbox's programs", |_| Ok(NewLayer { tree, version: None, needs: Vec::new() }))
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
        let name = self.recipe.name.image();
        let description = Description {
            name: &name,
            title: &self.recipe.title,
            arch: self.request.arch,
            created: &created.to_rfc3339_opts(SecondsFormat::Secs, true),
            entrypoint: &self.recipe.entrypoint,
            user: "1000:1000",
            labels: BTreeMap::from([
                (label::RECIPE, self.recipe.name.to_string()),
                (label::ROLE, self.recipe.role.as_str().to_owned()),
                (label::VERSION, version),
                (label::ANONYMOUS, self.recipe.is_anonymous().to_string()),
            ]),
            layers: &layers,
        };
        self.publish_image(lock, input, &description)
    }

    fn publish_image(&self, lock: &Lock, input: Digest, description: &Description<'_>) -> Result<Image, Error> {
        let config = oci::config(description)?;
        let manifest = oci::manifest(description, &config)?;
        self.writer.put_document(&config)?;
        let digest = self.writer.put_document(&manifest)?;
        let lock_path = self.writer.store().path("locks").join(format!("{}.toml", digest.hex()));
        self.writer.replace(&lock_path, lock.to_toml()?.as_bytes())?;
        self.writer.put_image(description.name, description.arch, input, &manifest)?;
        self.writer.store().image(description.name)?.ok_or(Error::Internal("the image just written is not there"))
    }

    fn version(&self, lock: &Lock, browser: Option<&BrowserLayer>) -> Result<String, Error> {
        match (self.recipe.role, browser, &self.recipe.version_of) {
            (ImageRole::Browser, Some(browser), _) => browser.record.version.clone().ok_or(Error::Internal("a browser without version")),
            (_, _, Some(of)) => {
                let package = lock.packages.iter().find(|package| package.name == *of);
                package.map(|package| package.version.to_string()).ok_or_else(|| Error::Unsatisfiable { needed_by: "the recipe".to_owned(), relation: of.clone() })
            }
            _ => Err(Error::Internal("a recipe without version")),
        }
    }
}

/// A digest to which this code contributes.
pub(crate) fn code(purpose: &str) -> Fingerprint {
    CODE.iter().fold(Fingerprint::new(purpose), |sum, source| sum.with(source.as_bytes()))
}

/// A layer to write.
pub(crate) struct NewLayer {
    pub(crate) tree: Tree,
    pub(crate) version: Option<String>,
    pub(crate) needs: Vec<Needed>,
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
