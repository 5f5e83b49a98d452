//! The browser's layer: an archive whose signature a pinned key made, read strictly.
//!
//! A release of the Tor Project and the stand-in go the same way; they differ in where archive, signature and key come from.

use crate::{
    base,
    build::{Build, LayerRecord, NewLayer, ReleaseFiles, code},
    certificate,
    debian::index::PackageFile,
    digest::{Digest, Fingerprint},
    error::Error,
    fetch::{Step, Wanted, digest_file},
    floor::Floor,
    intake,
    lock::{Lock, LockedRelease},
    names::Channel,
    recipe::{ImageRole, TorProject},
    select, standin,
    torproject::{self, Offer, Site},
    tree::TreePath,
};
use chrono::{DateTime, Utc};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Where the browser, or tor, of this build comes from.
pub(crate) enum Source<'r> {
    /// Files that the user fetched.
    Files { project: &'r TorProject, files: &'r ReleaseFiles, sha256: Digest },
    /// The channel's current release.
    Offered { project: &'r TorProject, offer: Offer },
    /// The release that a lock names by its digest: no signature is needed, and one of its time may have expired.
    Locked { project: &'r TorProject, release: LockedRelease },
    /// A package, to be packed as a release.
    Package { file: PackageFile },
}

/// The layer that was made, and what it was made from.
pub(crate) struct BrowserLayer {
    pub(crate) record: LayerRecord,
    pub(crate) identity: Digest,
    pub(crate) release: Option<LockedRelease>,
}

/// An archive whose origin was checked, in the store's directory of unfinished things.
struct Staged {
    archive: PathBuf,
    /// For messages; its ending tells the compression.
    name: String,
    /// When it was signed.
    signed: DateTime<Utc>,
}

impl Source<'_> {
    /// Digest of what the browser is made from.
    pub(crate) fn identity(&self) -> Digest {
        match self {
            Self::Files { sha256, .. } => *sha256,
            Self::Offered { offer, .. } => offer.sha256,
            Self::Locked { release, .. } => release.sha256,
            Self::Package { file } => package_identity(file),
        }
    }

    /// The version that a signed document or a lock tells.
    fn version(&self) -> Option<&str> {
        match self {
            Self::Offered { offer, .. } => Some(&offer.version),
            Self::Locked { release, .. } => Some(&release.version),
            Self::Files { .. } | Self::Package { .. } => None,
        }
    }

    fn project(&self) -> Option<&TorProject> {
        match self {
            Self::Files { project, .. } | Self::Offered { project, .. } | Self::Locked { project, .. } => Some(project),
            Self::Package { .. } => None,
        }
    }
}

/// Digest of what the browser of a lock is made from.
pub(crate) fn locked_identity(lock: &Lock) -> Option<Digest> {
    lock.release.as_ref().map(|release| release.sha256).or_else(|| lock.browser.as_ref().map(package_identity))
}

fn package_identity(file: &PackageFile) -> Digest {
    Fingerprint::new("package").with(standin::fingerprint().to_string().as_bytes()).with(file.sha256.to_string().as_bytes()).finish()
}

/// Finds out where the browser comes from; none for an image without one. A lock's release must be the one that is found.
pub(crate) fn source<'b>(build: &mut Build<'b>, lock: &Lock) -> Result<Option<Source<'b>>, Error> {
    let source = match (&build.recipe.tor_project, &build.request.release, &lock.release) {
        (Some(project), Some(files), _) => Source::Files { project, files, sha256: digest_file(&files.tarball)? },
        (Some(project), None, Some(release)) => Source::Locked { project, release: release.clone() },
        (Some(project), None, None) => Source::Offered { project, offer: torproject::offer(build, project)? },
        (None, ..) => match &lock.browser {
            Some(file) => Source::Package { file: file.clone() },
            None => return Ok(None),
        },
    };
    match &lock.release {
        Some(locked) if locked.sha256 != source.identity() => Err(wrong_release(locked, source.identity())),
        _ => Ok(Some(source)),
    }
}

fn wrong_release(locked: &LockedRelease, got: Digest) -> Error {
    Error::Checksum { what: format!("the browser's archive, locked to version {},", locked.version), expected: locked.sha256, got }
}

/// The browser's layer, made now unless an earlier build made it from the same input.
pub(crate) fn layer(build: &mut Build<'_>, source: &Source<'_>) -> Result<BrowserLayer, Error> {
    let identity = source.identity();
    let key = code("browser").with(identity.to_string().as_bytes()).finish();
    let record = build.layer(key, "the browser", |build| make(build, source))?;
    let (Some(_), Some(version)) = (source.project(), &record.version) else { return Ok(BrowserLayer { record, identity, release: None }) };
    let signed = match source {
        Source::Offered { offer, .. } => Some(offer.signed),
        Source::Locked { release, .. } => release.signed,
        Source::Files { .. } | Source::Package { .. } => record.signed,
    };
    let floor = Floor::load(build.writer.store(), build.recipe.name, Channel::of(version))?;
    floor.check(version, None)?;
    if let (Source::Files { .. }, Some(signed)) = (source, signed) {
        torproject::check_age(build, version, signed)?;
    }
    floor.raise(build.writer, version, None)?;
    let release = LockedRelease { version: version.clone(), sha256: identity, signed };
    Ok(BrowserLayer { record, identity, release: Some(release) })
}

/// Reads the staged archive.
fn make(build: &mut Build<'_>, source: &Source<'_>) -> Result<NewLayer, Error> {
    let Staged { archive, name, signed } = stage(build, source)?;
    build.progress.phase(&format!("unpacking {name}"));
    let damaged = |reason: String| Error::Archive { archive: name.clone(), reason };
    let places = source.project().map_or_else(intake::browser_places, |project| project.places.clone());
    let tree = intake::read(&archive, &name, &places, build.request.arch)?;
    let version = match (build.recipe.role, source.version()) {
        (ImageRole::Browser, stated) => {
            let own = intake::version(&tree, &name)?;
            match stated {
                Some(stated) if stated != own => return Err(damaged(format!("it is version {own}, the release is {stated}"))),
                _ => own,
            }
        }
        (ImageRole::Tor, Some(stated)) => stated.to_owned(),
        (ImageRole::Tor, None) => return Err(damaged("its version is not known".to_owned())),
    };
    let program = build.recipe.entrypoint.first().and_then(|program| TreePath::new(program));
    if !program.is_some_and(|program| tree.contains(&program)) {
        return Err(damaged(format!("it does not hold {}", build.recipe.entrypoint.join(" "))));
    }
    let needs = select::needed_from_outside(&tree)?;
    fs::remove_file(&archive).map_err(Error::io("remove", &archive))?;
    let origins = BTreeMap::from([(String::new(), tree.files().map(|(path, _, data)| (path.to_string(), Digest::of(data))).collect())]);
    Ok(NewLayer { version: Some(version), signed: Some(signed), needs, origins, ..NewLayer::of(tree) })
}

/// Brings the archive into the store's directory of unfinished things and checks where it is from: what is verified there is
/// what is read there.
fn stage(build: &mut Build<'_>, source: &Source<'_>) -> Result<Staged, Error> {
    let archive = build.writer.temporary("release")?;
    match source {
        Source::Files { project, files, sha256 } => {
            copy(&files.tarball, &archive, *sha256)?;
            let signature = fs::read(&files.signature).map_err(Error::io("read", &files.signature))?;
            let name = file_name(&files.tarball);
            build.progress.phase(&format!("verifying {name}"));
            let signed = certificate::verify(build, project, &name, &signature, &archive)?;
            Ok(Staged { archive, name, signed })
        }
        Source::Offered { project, offer } => {
            let site = Site::new(build, project);
            let wanted = torproject::wanted(&site, project, build.request.arch, &offer.version, offer.sha256, &offer.places);
            let cached = fetch(build, &wanted)?;
            copy(&cached, &archive, offer.sha256)?;
            let urls: Vec<String> = wanted.urls.iter().map(|url| format!("{url}.asc")).collect();
            let signature = build.fetcher.small(&urls, site.within(), torproject::SIGNATURE_LIMIT)?;
            build.progress.phase(&format!("verifying {}", wanted.what));
            certificate::verify(build, project, &wanted.what, &signature, &archive)?;
            Ok(Staged { archive, name: wanted.what, signed: offer.signed })
        }
        Source::Locked { project, release } => {
            let site = Site::new(build, project);
            let places = torproject::places(&site, project, &release.version);
            let wanted = torproject::wanted(&site, project, build.request.arch, &release.version, release.sha256, &places);
            copy(&fetch(build, &wanted)?, &archive, release.sha256)?;
            Ok(Staged { archive, name: wanted.what, signed: release.signed.unwrap_or_default() })
        }
        Source::Package { file } => {
            let package = base::unpack(build, std::slice::from_ref(file))?.tree;
            build.progress.phase(&format!("packing {} {} as a release", file.name, file.version));
            standin::pack(&package, &archive)?;
            let (keyring, signature) = standin::sign(&archive, build.now)?;
            let name = format!("{}-{}.tar", file.name, file.version);
            let signed = keyring.verify_detached(&name, &signature, (&archive).into(), build.now)?;
            Ok(Staged { archive, name, signed })
        }
    }
}

/// Fetches a release, or finds it in the cache.
fn fetch(build: &mut Build<'_>, wanted: &Wanted<'_>) -> Result<PathBuf, Error> {
    build.progress.phase(&format!("fetching {}", wanted.what));
    let shown = RefCell::new((0, None, &mut *build.progress));
    build.fetcher.file(wanted, &|step| {
        let (done, whole, progress) = &mut *shown.borrow_mut();
        match step {
            Step::Whole(length) => *whole = Some(length),
            Step::Had(length) => *done += length,
        }
        progress.advance(*done, *whole);
    })
}

/// Copies a file, and checks the copy's digest.
fn copy(from: &Path, to: &Path, sha256: Digest) -> Result<(), Error> {
    fs::copy(from, to).map_err(Error::io("copy", from))?;
    let got = digest_file(to)?;
    if got == sha256 { Ok(()) } else { Err(Error::Checksum { what: file_name(from), expected: sha256, got }) }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
