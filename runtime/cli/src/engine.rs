//! Engines on the command line: which one to use, images in it, and what a killed run left there.

use crate::args;
use crate::dirs::{self, Dirs};
use crate::error::CliError;
use crate::progress::Progress;
use crate::system;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use torbox_backend::engine::{self, About, Contact, Endpoint, Environment, Found, ImageFile};
use torbox_backend::secret::random_hex;
use torbox_images::{Image, Store, write_archive};
use torbox_plan::BoxName;
use torbox_plan::engine::{Dialect, Engine};

/// An engine that a box can be made in.
pub(crate) struct Chosen {
    pub(crate) about: About,
    pub(crate) engine: Engine,
}

/// The engine that `args` ask for; `None` for the native backend.
pub(crate) fn choose(args: &args::EngineChoice) -> Result<Option<Chosen>, CliError> {
    let dialect = match args.backend {
        args::Backend::Native => return system::linux_alone("--backend native", "leave it out: the first engine that is found makes the box").map(|()| None),
        args::Backend::Auto if args.engine.is_none() && system::identity().is_some() => return Ok(None),
        args::Backend::Auto => None,
        args::Backend::Docker => Some(Dialect::Docker),
        args::Backend::Podman => Some(Dialect::Podman),
    };
    let about = match &args.engine {
        Some(url) => named(url, dialect)?,
        None => first(dialect)?,
    };
    let engine = about.engine(args.oci_runtime.as_deref())?;
    Ok(Some(Chosen { about, engine }))
}

fn named(url: &str, dialect: Option<Dialect>) -> Result<About, CliError> {
    let endpoint = Endpoint::new(url)?;
    let about = engine::about(&endpoint)?;
    match dialect {
        Some(wanted) if wanted != about.dialect => Err(CliError::OtherEngine { endpoint, wanted: wanted.name(), found: about.dialect.name() }),
        _ => Ok(about),
    }
}

/// The first that answers, of those that may be of the wanted kind.
fn first(dialect: Option<Dialect>) -> Result<About, CliError> {
    let mut silent = None;
    for Found { address, dialect: expected, .. } in engine::find(&Environment::current()) {
        if dialect.is_some() && expected.is_some() && expected != dialect {
            continue;
        }
        match named(&address, None) {
            Ok(about) if dialect.is_none_or(|wanted| wanted == about.dialect) => return Ok(about),
            Ok(_) => {}
            Err(error) => silent = silent.or(Some(error)),
        }
    }
    Err(silent.unwrap_or(CliError::NoEngine(dialect.map_or("engine", Dialect::name))))
}

/// Loads those images that the engine lacks; its ids of them, by the digest that a plan names.
pub(crate) fn load_images(dirs: &Dirs, store: &Store, contact: &Contact, images: &[&Image], progress: &mut Progress) -> Result<BTreeMap<String, String>, CliError> {
    let files: Vec<ImageFile> =
        images.iter().map(|image| ImageFile { digest: image.digest.to_string(), config: image.config.to_string(), name: image.engine_name() }).collect();
    let mut ids = BTreeMap::new();
    for ((image, file), id) in images.iter().zip(&files).zip(engine::absent(contact, &files)?) {
        let id = match id {
            Some(id) => id,
            None => load(dirs, store, contact, image, file, progress)?,
        };
        ids.insert(file.digest.clone(), id);
    }
    Ok(ids)
}

fn load(dirs: &Dirs, store: &Store, contact: &Contact, image: &Image, file: &ImageFile, progress: &mut Progress) -> Result<String, CliError> {
    progress.begin(&format!("loading {} into the engine", image.name.as_str()));
    let path = dirs.cache()?;
    let failed = |source| CliError::Path { path: path.clone(), source };
    // Without a name: it ends with this process, however that ends.
    let mut archive = tempfile::tempfile_in(&path).map_err(failed)?;
    write_archive(store, image, &archive, &path)?;
    archive.rewind().map_err(failed)?;
    Ok(engine::load(contact, file, archive)?)
}

/// What a box has in an engine while it runs, and a killed one leaves there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    contact: Contact,
    claim: String,
}

impl Mark {
    /// Notes, before anything is made, that box `name` has something in the engine behind `contact`, marked with `claim`.
    pub(crate) fn set(dirs: &Dirs, name: &BoxName, contact: &Contact, claim: &str) -> Result<(), CliError> {
        let mark = Self { contact: contact.clone(), claim: claim.to_owned() };
        let path = path(dirs, name);
        let text = serde_json::to_vec(&mark).map_err(|error| CliError::System("note the engine", error.into()))?;
        fs::write(&path, text).map_err(|source| CliError::Path { path, source })
    }

    /// What box `name` has in an engine, if anything. A note that was cut off was written before anything was made.
    pub(crate) fn of(dirs: &Dirs, name: &BoxName) -> Result<Option<Self>, CliError> {
        let path = path(dirs, name);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(|text| serde_json::from_slice(&text).ok()).map_err(|source| CliError::Path { path, source }),
        }
    }

    /// Its files.
    pub(crate) fn files(&self, name: &BoxName) -> Result<engine::Files, CliError> {
        Ok(engine::Files::of(&self.contact, name, &self.claim)?)
    }

    /// Removes from the engine what the note says, then the note.
    pub(crate) fn clear(dirs: &Dirs, name: &BoxName) -> Result<(), CliError> {
        let path = path(dirs, name);
        if let Some(mark) = Self::of(dirs, name)? {
            let left = |source| CliError::EngineLeft { name: name.clone(), note: path.clone(), source: Box::new(source) };
            engine::clean(&mark.contact, name, &mark.claim).map_err(left)?;
        }
        dirs::remove(&path)
    }
}

/// In a directory that whoever claimed the box has made.
fn path(dirs: &Dirs, name: &BoxName) -> PathBuf {
    dirs.boxes_if_made().join(format!("{name}.engine"))
}

/// A number of this installation's box, made once: engines are shared, and names are taken by whoever comes first.
pub(crate) fn claim(dirs: &Dirs, name: &BoxName) -> Result<String, CliError> {
    let path = dirs.tor_state(name)?.with_file_name("claim");
    match fs::read_to_string(&path) {
        Ok(claim) if claim.len() == 32 && claim.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(claim),
        _ => new_claim(&path).map_err(|source| CliError::Path { path: path.clone(), source }),
    }
}

fn new_claim(path: &Path) -> io::Result<String> {
    let claim: String = random_hex()?.chars().take(32).collect();
    fs::write(path, &claim).map(|()| claim)
}
