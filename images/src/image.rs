//! An image of the store, as its documents describe it.

use crate::{
    digest::Digest,
    error::Error,
    names::{Arch, ImageName},
    oci::{self, label},
};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use chrono::{DateTime, Utc};
use std::{collections::HashMap, path::Path, time::SystemTime};

/// An image that the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: ImageName,
    /// Digest of its manifest: what identifies it.
    pub digest: Digest,
    /// Digest of its configuration: what Docker and Podman call the image's id.
    pub config: Digest,
    /// Its layers' digests, compressed.
    pub layers: Vec<Digest>,
    /// Its layers' digests, unpacked.
    pub diff_ids: Vec<Digest>,
    /// Version of what it is made for: tor's, or the browser's.
    pub version: String,
    /// The recipe that it was built by.
    pub recipe: String,
    /// Whether a browser of it may be called anonymous.
    pub anonymous: bool,
    /// The sum of its compressed layers, in bytes.
    pub compressed_size: u64,
    /// When the release in it was signed (RFC 3339), of an image of the Tor Project's releases.
    pub signed: Option<String>,
    /// The newest date of its inputs (RFC 3339).
    pub created: String,
    /// Its entry point: an absolute path, then arguments.
    pub entrypoint: Vec<String>,
    /// Digest of everything it was built from.
    pub input: Digest,
    /// Its architecture.
    pub arch: Arch,
}

impl Image {
    /// Reads an image's documents; `path` is the manifest's, for messages.
    pub(crate) fn read(path: &Path, entry: &Descriptor, manifest: &ImageManifest, config: &ImageConfiguration) -> Result<Self, Error> {
        let damaged = |reason: &str| Error::Store { path: path.to_owned(), reason: reason.to_owned() };
        let digest = Digest::try_from(entry.digest().to_string())?;
        let annotation = |key: &str| entry.annotations().as_ref().and_then(|all| all.get(key)).ok_or_else(|| damaged(&format!("the index has no {key} for it")));
        let none = HashMap::new();
        let labels = config.config().as_ref().and_then(|config| config.labels().as_ref()).unwrap_or(&none);
        let label = |key: &str| labels.get(key).ok_or_else(|| damaged(&format!("the image has no label {key}")));
        let digests = |descriptors: &[Descriptor]| descriptors.iter().map(|one| Digest::try_from(one.digest().to_string())).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            name: ImageName::new(annotation(oci::REF_NAME)?)?,
            digest,
            config: Digest::try_from(manifest.config().digest().to_string())?,
            layers: digests(manifest.layers())?,
            diff_ids: config.rootfs().diff_ids().iter().map(|id| Digest::try_from(id.clone())).collect::<Result<_, _>>()?,
            version: label(label::VERSION)?.clone(),
            recipe: label(label::RECIPE)?.clone(),
            anonymous: match label(label::ANONYMOUS)?.as_str() {
                "true" => true,
                "false" => false,
                _ => return Err(damaged("its label torbox.anonymous is neither true nor false")),
            },
            signed: labels.get(label::SIGNED).cloned(),
            compressed_size: manifest.layers().iter().map(Descriptor::size).sum(),
            created: config.created().clone().unwrap_or_default(),
            entrypoint: config.config().as_ref().and_then(|config| config.entrypoint().clone()).unwrap_or_default(),
            input: Digest::try_from(annotation(oci::INPUT)?.clone())?,
            arch: config.architecture().to_string().parse()?,
        })
    }

    /// How many days ago the release in it was signed, of an image of the Tor Project's releases.
    #[must_use]
    pub fn days_since_signed(&self, now: SystemTime) -> Option<i64> {
        let signed: DateTime<Utc> = self.signed.as_ref()?.parse().ok()?;
        Some((DateTime::<Utc>::from(now) - signed).num_days())
    }

    /// The name that Docker and Podman know the image by once they have loaded it.
    #[must_use]
    pub fn engine_name(&self) -> String {
        oci::engine_name(&self.name)
    }
}
