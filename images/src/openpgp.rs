//! OpenPGP signatures by pinned keys (RFC 9580), judged by sequoia.
//!
//! Trust is a list of primary fingerprints: a certificate without one of them counts for nothing. Signing subkeys, their
//! bindings, revocations and dates are the library's business; beyond it, key and certificate must be alive at the time given.

use crate::error::Error;
use chrono::{DateTime, Utc};
use sequoia_openpgp::{
    Cert, Fingerprint, KeyHandle,
    cert::{CertParser, prelude::ValidErasedKeyAmalgamation},
    packet::{Signature, key::PublicParts},
    parse::{
        Parse,
        stream::{DetachedVerifierBuilder, GoodChecksum, MessageLayer, MessageStructure, VerificationError, VerificationHelper, VerifierBuilder},
    },
    policy::StandardPolicy,
    serialize::MarshalInto,
    types::RevocationStatus,
};
use std::{
    io::Read,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Certificates, and the fingerprints of those that are trusted.
#[derive(Clone, Debug)]
pub struct Keyring {
    certs: Vec<Cert>,
    pinned: Vec<Fingerprint>,
}

impl Keyring {
    /// The certificates of `files` (name and content, armoured or not) that have a fingerprint of `pinned`.
    ///
    /// # Errors
    /// [`Error::Certificate`] when a file cannot be read, holds no pinned certificate, or a fingerprint has none.
    pub fn new(files: &[(&str, &[u8])], pinned: &[String]) -> Result<Self, Error> {
        let pinned = pinned.iter().map(|text| parse_fingerprint(text)).collect::<Result<Vec<_>, _>>()?;
        let mut certs: Vec<Cert> = Vec::new();
        for (name, bytes) in files {
            certs.extend(read_certs(name, bytes, &pinned)?);
        }
        match pinned.iter().find(|pin| !certs.iter().any(|cert| cert.fingerprint() == **pin)) {
            Some(missing) => Err(wrong("file", &format!("the pinned key {missing:X} is missing"))),
            None => Ok(Self { certs, pinned }),
        }
    }

    /// The same, with what the copy `bytes` of its one certificate knows: keys, bindings and revocations are added, never
    /// removed, and each counts only with a signature of the primary key.
    pub(crate) fn with(&self, name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let failed = |error: sequoia_openpgp::anyhow::Error| wrong(name, &error.to_string());
        let mut certs = self.certs.clone();
        for copy in read_certs(name, bytes, &self.pinned)? {
            let merge = |cert: Cert| if cert.fingerprint() == copy.fingerprint() { cert.merge_public(copy.clone()) } else { Ok(cert) };
            certs = certs.into_iter().map(merge).collect::<Result<_, _>>().map_err(failed)?;
        }
        Ok(Self { certs, pinned: self.pinned.clone() })
    }

    /// The certificates, as a file.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let all: Result<Vec<Vec<u8>>, _> = self.certs.iter().map(MarshalInto::export_to_vec).collect();
        Ok(all.map_err(|_| Error::Internal("a certificate that cannot be written"))?.concat())
    }

    /// Whether `bytes` hold a certificate with one of the fingerprints.
    pub(crate) fn holds_any(bytes: &[u8], pinned: &[String]) -> bool {
        let pinned: Vec<Fingerprint> = pinned.iter().filter_map(|text| parse_fingerprint(text).ok()).collect();
        read_certs("", bytes, &pinned).is_ok()
    }

    /// Checks an inline-signed text (cleartext signature framework) and returns what was signed.
    pub(crate) fn verify_inline(&self, what: &str, signed: &[u8], now: DateTime<Utc>) -> Result<Vec<u8>, Error> {
        let policy = StandardPolicy::new();
        let mut judge = Judge::new(self, now);
        let mut text = Vec::new();
        let read = VerifierBuilder::from_bytes(signed)
            .and_then(|builder| builder.with_policy(&policy, SystemTime::from(now), &mut judge))
            .and_then(|mut verifier| Ok(verifier.read_to_end(&mut text)?));
        judge.conclude(what, read.map(|_| ()))?;
        Ok(text)
    }

    /// Checks a detached signature, and tells when it was made.
    pub(crate) fn verify_detached(&self, what: &str, signature: &[u8], signed: Signed<'_>, now: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
        let policy = StandardPolicy::new();
        let mut judge = Judge::new(self, now);
        let read = DetachedVerifierBuilder::from_bytes(signature)
            .and_then(|builder| builder.with_policy(&policy, SystemTime::from(now), &mut judge))
            .and_then(|mut verifier| match signed {
                Signed::File(path) => verifier.verify_file(path),
                Signed::Bytes(bytes) => verifier.verify_bytes(bytes),
            });
        judge.conclude(what, read)
    }
}

/// What a detached signature is over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signed<'s> {
    File(&'s Path),
    Bytes(&'s [u8]),
}

impl<'s> From<&'s PathBuf> for Signed<'s> {
    fn from(path: &'s PathBuf) -> Self {
        Self::File(path)
    }
}

impl<'s> From<&'s Vec<u8>> for Signed<'s> {
    fn from(bytes: &'s Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

fn parse_fingerprint(text: &str) -> Result<Fingerprint, Error> {
    match text.parse() {
        Ok(fingerprint @ (Fingerprint::V4(_) | Fingerprint::V6(_))) => Ok(fingerprint),
        _ => Err(wrong(text, "this is not a full fingerprint")),
    }
}

/// The pinned certificates of one file; that it has none is an error.
fn read_certs(name: &str, bytes: &[u8], pinned: &[Fingerprint]) -> Result<Vec<Cert>, Error> {
    let parser = CertParser::from_bytes(bytes).map_err(|e| wrong(name, &e.to_string()))?;
    let all = parser.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(name, &e.to_string()))?;
    let found: Vec<String> = all.iter().map(|cert| format!("{:X}", cert.fingerprint())).collect();
    let good: Vec<Cert> = all.into_iter().filter(|cert| pinned.contains(&cert.fingerprint())).collect();
    if good.is_empty() { Err(wrong(name, &format!("its primary key is {}, not the pinned {}", found.join(", "), display(pinned)))) } else { Ok(good) }
}

fn display(fingerprints: &[Fingerprint]) -> String {
    fingerprints.iter().map(|one| format!("{one:X}")).collect::<Vec<_>>().join(", ")
}

fn wrong(name: &str, reason: &str) -> Error {
    Error::Certificate { name: name.to_owned(), reason: reason.to_owned() }
}

/// What was found out about a message's signatures: one good one of a pinned key is enough, and needed.
struct Judge<'k> {
    keyring: &'k Keyring,
    now: DateTime<Utc>,
    /// When the newest good one was made.
    good: Option<SystemTime>,
    unknown: Option<String>,
    /// A key that the certificate holds, and why it counts for nothing.
    dead: Option<(String, String)>,
    reason: Option<String>,
}

impl<'k> Judge<'k> {
    const fn new(keyring: &'k Keyring, now: DateTime<Utc>) -> Self {
        Self { keyring, now, good: None, unknown: None, dead: None, reason: None }
    }

    fn weigh(&mut self, result: Result<GoodChecksum<'_>, VerificationError<'_>>) {
        let issuer = |sig: &Signature| sig.get_issuers().first().map(|issuer| format!("{issuer:X}")).unwrap_or_default();
        match result {
            Ok(good) => match self.is_current(&good.ka) {
                Ok(()) => self.good = self.good.max(good.sig.signature_creation_time()),
                Err(reason) => self.dead = Some((format!("{:X}", good.ka.key().fingerprint()), reason)),
            },
            Err(VerificationError::MissingKey { sig }) => self.unknown = Some(issuer(sig)),
            Err(VerificationError::UnboundKey { sig, error, .. } | VerificationError::BadKey { sig, error, .. }) => self.dead = Some((issuer(sig), error.to_string())),
            Err(other) => self.reason = Some(other.to_string()),
        }
    }

    /// The library judges at the signature's time; this asks for a key that is alive at the time of use as well.
    fn is_current(&self, key: &ValidErasedKeyAmalgamation<'_, PublicParts>) -> Result<(), String> {
        if !self.keyring.pinned.contains(&key.cert().fingerprint()) {
            return Err(format!("it was made by {:X}, which is not trusted", key.cert().fingerprint()));
        }
        let policy = StandardPolicy::new();
        let now = SystemTime::from(self.now);
        let cert = key.cert().with_policy(&policy, now).map_err(|e| e.to_string())?;
        cert.alive().map_err(|e| e.to_string())?;
        if matches!(cert.revocation_status(), RevocationStatus::Revoked(_)) {
            return Err("the certificate is revoked".to_owned());
        }
        let mut living = cert.keys().alive().revoked(false).for_signing();
        let found = living.any(|one| one.key().fingerprint() == key.key().fingerprint());
        found.then_some(()).ok_or_else(|| format!("key {:X} is expired or revoked", key.key().fingerprint()))
    }

    fn conclude(self, what: &str, read: sequoia_openpgp::Result<()>) -> Result<DateTime<Utc>, Error> {
        let what = what.to_owned();
        match (read, self.good, self.reason, self.dead, self.unknown) {
            (Ok(()), Some(made), ..) => Ok(made.into()),
            (_, _, Some(reason), ..) => Err(Error::Signature { what, reason }),
            (_, _, None, Some((key, reason)), _) => Err(Error::DeadKey { what, key, reason }),
            (_, _, None, None, Some(key)) => Err(Error::UnknownKey { what, key, primary: display(&self.keyring.pinned) }),
            (Err(error), _, None, None, None) => Err(Error::Signature { what, reason: error.to_string() }),
            (Ok(()), None, None, None, None) => Err(Error::Signature { what, reason: "there is none".to_owned() }),
        }
    }
}

impl VerificationHelper for &mut Judge<'_> {
    fn get_certs(&mut self, _ids: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        Ok(self.keyring.certs.clone())
    }

    /// Exactly one layer, of signatures: nothing encrypted or compressed is accepted.
    fn check(&mut self, structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        let mut layers = structure.into_iter();
        if let (Some(MessageLayer::SignatureGroup { results }), None) = (layers.next(), layers.next()) {
            results.into_iter().for_each(|result| self.weigh(result));
        }
        if self.good.is_some() { Ok(()) } else { Err(std::io::Error::other("no valid signature of a pinned key").into()) }
    }
}
