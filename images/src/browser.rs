//! The browser's layer: an archive whose signature a pinned key made, read strictly.
//!
//! A release of the Tor Project and the stand-in go the same way; they differ in where archive, signature and key come from.

use crate::{
    base,
    build::{Build, LayerRecord, NewLayer, ReleaseFiles, code, read_state},
    debian::index::PackageFile,
    digest::{Digest, Fingerprint},
    error::Error,
    fetch::digest_file,
    intake,
    lock::{Lock, LockedRelease},
    oci,
    openpgp::Keyring,
    recipe::TorProject,
    select, standin,
    torproject::{self, Current},
    tree::TreePath,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Where the browser of this build comes from.
pub(crate) enum Source<'r> {
    /// Files that the user fetched.
    Files { project: &'r TorProject, files: &'r ReleaseFiles, sha256: Digest },
    /// The release that the index names; its digest is known where it was fetched before.
    Index { project: &'r TorProject, current: Current, sha256: Option<Digest> },
    /// A package, to be packed as a release.
    Package { file: PackageFile },
}

/// The layer that was made, and what it was made from.
pub(crate) struct BrowserLayer {
    pub(crate) record: LayerRecord,
    pub(crate) identity: Digest,
    pub(crate) release: Option<LockedRelease>,
}

/// An archive with all that is needed to judge it.
struct Staged {
    archive: PathBuf,
    /// For messages; its ending tells the compression.
    name: String,
    signature: Vec<u8>,
    keyring: Keyring,
}

impl Source<'_> {
    /// Digest of what the browser is made from, where it is known before it is fetched.
    pub(crate) fn identity(&self) -> Option<Digest> {
        match self {
            Self::Files { sha256, .. } => Some(*sha256),
            Self::Index { sha256, .. } => *sha256,
            Self::Package { file } => Some(package_identity(file)),
        }
    }

    fn is_release(&self) -> bool {
        matches!(self, Self::Files { .. } | Self::Index { .. })
    }
}

fn package_identity(file: &PackageFile) -> Digest {
    Fingerprint::new("package").with(standin::fingerprint().to_string().as_bytes()).with(file.sha256.to_string().as_bytes()).finish()
}

/// Finds out where the browser comes from; none for an image without one. A lock's release must be the one that is found.
pub(crate) fn source<'b>(build: &Build<'b>, lock: &Lock) -> Result<Option<Source<'b>>, Error> {
    let source = match (&build.recipe.tor_project, &build.request.release, &lock.browser) {
        (Some(project), Some(files), _) => Source::Files { project, files, sha256: digest_file(&files.tarball)? },
        (Some(project), None, _) => {
            let current = torproject::current(build.fetcher, project)?;
            let known: BTreeMap<String, Digest> = read_state(&known_path(build))?.unwrap_or_default();
            Source::Index { project, sha256: known.get(&current.binary).copied(), current }
        }
        (None, _, Some(file)) => Source::Package { file: file.clone() },
        (None, _, None) => return Ok(None),
    };
    match (&lock.release, source.identity()) {
        (Some(locked), Some(got)) if locked.sha256 != got => Err(wrong_release(locked, got)),
        _ => Ok(Some(source)),
    }
}

fn wrong_release(locked: &LockedRelease, got: Digest) -> Error {
    Error::Checksum { what: format!("the browser's archive, locked to version {},", locked.version), expected: locked.sha256, got }
}

fn known_path(build: &Build<'_>) -> PathBuf {
    build.writer.store().path("state/releases.json")
}

/// The browser's layer, made now unless an earlier build made it from the same input.
pub(crate) fn layer(build: &mut Build<'_>, source: Source<'_>) -> Result<BrowserLayer, Error> {
    let is_release = source.is_release();
    let (identity, staged) = match source.identity() {
        Some(identity) => (identity, None),
        None => stage(build, &source).and_then(|staged| Ok((digest_file(&staged.archive)?, Some(staged))))?,
    };
    let key = code("browser").with(identity.to_string().as_bytes()).finish();
    let record = build.layer(key, "the browser", |build| {
        let staged = staged.map_or_else(|| stage(build, &source), Ok)?;
        make(build, &staged, identity, &source)
    })?;
    if let Source::Index { current, .. } = &source {
        remember(build, &current.binary, identity)?;
    }
    let version = record.version.clone().unwrap_or_default();
    Ok(BrowserLayer { record, identity, release: is_release.then_some(LockedRelease { version, sha256: identity }) })
}

/// Checks the staged archive's signature, then reads it.
fn make(build: &mut Build<'_>, staged: &Staged, identity: Digest, source: &Source<'_>) -> Result<NewLayer, Error> {
    build.progress.phase(&format!("verifying {}", staged.name));
    staged.keyring.verify_detached(&staged.name, &staged.signature, &staged.archive, build.now)?;
    if source.is_release() {
        let got = digest_file(&staged.archive)?;
        if got != identity {
            return Err(Error::Checksum { what: staged.name.clone(), expected: identity, got });
        }
    }
    build.progress.phase(&format!("unpacking {}", staged.name));
    let tree = intake::read(&staged.archive, &staged.name)?;
    let version = intake::version(&tree, &staged.name)?;
    if let Source::Index { current, .. } = source && current.version != version {
        return Err(Error::Archive { archive: staged.name.clone(), reason: format!("it is version {version}, the release index says {}", current.version) });
    }
    let program = build.recipe.entrypoint.first().and_then(|program| TreePath::new(program));
    if !program.is_some_and(|program| tree.contains(&program)) {
        return Err(Error::Archive { archive: staged.name.clone(), reason: format!("it does not hold {}", build.recipe.entrypoint.join(" ")) });
    }
    let needs = select::needed_from_outside(&tree)?;
    fs::remove_file(&staged.archive).map_err(Error::io("remove", &staged.archive))?;
    Ok(NewLayer { tree, version: Some(version), needs })
}

/// Brings the archive into the store's directory of unfinished things: what is verified there is what is read there.
fn stage(build: &mut Build<'_>, source: &Source<'_>) -> Result<Staged, Error> {
    let archive = build.writer.temporary("release")?;
    match source {
        Source::Files { project, files, .. } => {
            fs::copy(&files.tarball, &archive).map_err(Error::io("copy", &files.tarball))?;
            let signature = fs::read(&files.signature).map_err(Error::io("read", &files.signature))?;
            Ok(Staged { archive, name: file_name(&files.tarball), signature, keyring: keyring(build, project, files.key.as_deref())? })
        }
        Source::Index { project, current, .. } => {
            build.progress.phase(&format!("fetching Tor Browser {}", current.version));
            let signature = torproject::signature(build.fetcher, current)?;
            build.fetcher.unpinned(&current.binary, &archive, torproject::ARCHIVE_LIMIT, &|_| ())?;
            let name = current.binary.rsplit('/').next().unwrap_or_default().to_owned();
            Ok(Staged { archive, name, signature, keyring: keyring(build, project, None)? })
        }
        Source::Package { file } => {
            let package = base::unpack(build, std::slice::from_ref(file))?;
            build.progress.phase(&format!("packing {} {} as a release", file.name, file.version));
            standin::pack(&package, &archive)?;
            let (keyring, signature) = standin::sign(&archive, build.now)?;
            Ok(Staged { archive, name: format!("{}-{}.tar.xz", file.name, file.version), signature, keyring })
        }
    }
}

/// The pinned certificate: the newer copy that was given, or the one that torbox carries.
fn keyring(build: &Build<'_>, project: &TorProject, key: Option<&Path>) -> Result<Keyring, Error> {
    let pinned = [project.primary.clone()];
    let Some(path) = key else { return build.trust.keyring(&pinned) };
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Keyring::new(&[(&file_name(path), &bytes)], &pinned)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Notes what the verified archive at `url` was, so that an unchanged release is not fetched again.
fn remember(build: &Build<'_>, url: &str, sha256: Digest) -> Result<(), Error> {
    let known = BTreeMap::from([(url.to_owned(), sha256)]);
    build.writer.replace(&known_path(build), &oci::canonical(&known)?)
}
