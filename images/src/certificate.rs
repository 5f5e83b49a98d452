//! The certificate that signs releases: what torbox carries, with everything newer that was learnt from a file or from the
//! signers' own server (OpenPGP Web Key Directory).
//!
//! Signing keys change every few years, so the certificate is refreshed where a signature needs it. Trust never moves:
//! copies are merged, the library believes only what the pinned primary key certified, and no copy takes back a revocation
//! that another one told of.

use crate::{
    build::Build,
    error::Error,
    openpgp::{Keyring, Signed},
    recipe::TorProject,
    torproject::Site,
};
use chrono::{DateTime, Utc};
use std::{fs, path::PathBuf};

const LIMIT: u64 = 1 << 20;

/// Checks a detached signature with the certificate that is known, and, where that does not do, with a refreshed one.
/// Returns when it was made.
pub(crate) fn verify<'s>(build: &mut Build<'_>, project: &TorProject, what: &str, signature: &[u8], signed: impl Into<Signed<'s>>) -> Result<DateTime<Utc>, Error> {
    let signed = signed.into();
    let first = match known(build, project)?.verify_detached(what, signature, signed, build.now) {
        Err(error @ (Error::UnknownKey { .. } | Error::DeadKey { .. })) => error,
        other => return other,
    };
    // Whoever brought the files by other means may have reasons not to ask the project's servers.
    if build.request.release.is_some() {
        return Err(first);
    }
    build.progress.phase("refreshing the certificate of the signers");
    match refresh(build, project) {
        Ok(keyring) => keyring.verify_detached(what, signature, signed, build.now),
        Err(error @ Error::Certificate { .. }) => Err(error),
        Err(error) => {
            build.progress.phase(&format!("the certificate was not refreshed: {error}"));
            Err(first)
        }
    }
}

/// What torbox carries, what the user gave, and what was learnt before.
fn known(build: &Build<'_>, project: &TorProject) -> Result<Keyring, Error> {
    let carried = build.trust.keyring(std::slice::from_ref(&project.primary))?;
    let learnt = match fs::read(path(build, project)) {
        // What was damaged was not learnt.
        Ok(bytes) => carried.with("the store's copy", &bytes).unwrap_or(carried),
        Err(_) => carried,
    };
    let Some(file) = &build.request.key else { return Ok(learnt) };
    let bytes = fs::read(file).map_err(Error::io("read", file))?;
    learn(build, project, &learnt.with(&file.display().to_string(), &bytes)?)
}

fn refresh(build: &Build<'_>, project: &TorProject) -> Result<Keyring, Error> {
    let site = Site::new(build, project);
    let bytes = build.fetcher.small(&site.addresses(&project.certificate), site.within(), LIMIT)?;
    learn(build, project, &known(build, project)?.with(&project.certificate, &bytes)?)
}

fn learn(build: &Build<'_>, project: &TorProject, keyring: &Keyring) -> Result<Keyring, Error> {
    build.writer.replace(&path(build, project), &keyring.to_bytes()?)?;
    Ok(keyring.clone())
}

fn path(build: &Build<'_>, project: &TorProject) -> PathBuf {
    build.writer.store().path(&format!("state/certificate-{}.pgp", project.primary))
}
