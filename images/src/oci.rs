//! The documents of an OCI image: configuration, manifest, index (OCI image specification).
//!
//! They are written with sorted keys, so that the same image always has the same digest.

use crate::{
    digest::Digest,
    error::Error,
    layer::Written,
    names::{Arch, ImageName},
};
use oci_spec::{
    OciSpecError,
    image::{
    ConfigBuilder, Descriptor, DescriptorBuilder, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder, ImageIndex, ImageIndexBuilder, ImageManifest, ImageManifestBuilder, MediaType,
    PlatformBuilder, RootFsBuilder,
    },
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// The content of the file `oci-layout`.
pub(crate) const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";

/// Labels of the configuration that torbox reads back.
pub(crate) mod label {
    pub(crate) const RECIPE: &str = "torbox.recipe";
    pub(crate) const ROLE: &str = "torbox.role";
    pub(crate) const VERSION: &str = "torbox.version";
    pub(crate) const ANONYMOUS: &str = "torbox.anonymous";
    pub(crate) const SIGNED: &str = "torbox.signed";
}

/// Name of an image in the index, and in an engine that loads the archive.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(crate) const ENGINE_NAME: &str = "io.containerd.image.name";
/// Digest of what an image was built from: beside the image rather than in it, whose digest is that of its content alone.
pub(crate) const INPUT: &str = "torbox.input";

/// Everything that an image's documents are made from.
pub(crate) struct Description<'d> {
    pub(crate) name: &'d ImageName,
    pub(crate) title: &'d str,
    pub(crate) arch: Arch,
    /// RFC 3339.
    pub(crate) created: &'d str,
    pub(crate) entrypoint: &'d [String],
    /// Uid and gid of the entry point's process.
    pub(crate) user: &'d str,
    pub(crate) labels: BTreeMap<&'static str, String>,
    /// SPDX expression.
    pub(crate) licences: &'d str,
    /// Where the source is found.
    pub(crate) source: &'d str,
    /// Digest of all inputs by name.
    pub(crate) revision: Digest,
    /// Each layer, and a word that says what it holds.
    pub(crate) layers: &'d [(Written, &'static str)],
}

/// The bytes of the configuration.
pub(crate) fn config(description: &Description<'_>) -> Result<Vec<u8>, Error> {
    let labels: HashMap<String, String> = description.labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let config = ConfigBuilder::default().entrypoint(description.entrypoint.to_vec()).user(description.user).working_dir("/").labels(labels).build().map_err(invalid)?;
    let diff_ids: Vec<String> = description.layers.iter().map(|(layer, _)| layer.diff_id.to_string()).collect();
    let history = description.layers.iter().map(|(_, what)| HistoryBuilder::default().created(description.created).created_by(format!("torbox: {what}")).build());
    let configuration = ImageConfigurationBuilder::default()
        .created(description.created)
        .architecture(description.arch.as_str())
        .os("linux")
        .config(config)
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build().map_err(invalid)?)
        .history(history.collect::<Result<Vec<_>, _>>().map_err(invalid)?)
        .build()
        .map_err(invalid)?;
    canonical(&configuration)
}

/// The bytes of the manifest of an image with the configuration `config`.
pub(crate) fn manifest(description: &Description<'_>, config: &[u8]) -> Result<Vec<u8>, Error> {
    let layers = description.layers.iter().map(|(layer, _)| descriptor(MediaType::ImageLayerGzip, layer.digest, layer.size).build().map_err(invalid));
    let version = description.labels.get(label::VERSION).cloned().unwrap_or_default();
    let annotations = [
        ("title", description.title.to_owned()),
        ("created", description.created.to_owned()),
        ("version", version),
        ("licenses", description.licences.to_owned()),
        ("source", description.source.to_owned()),
        ("revision", description.revision.to_string()),
    ];
    let annotations: HashMap<String, String> = annotations.into_iter().map(|(key, value)| (format!("org.opencontainers.image.{key}"), value)).collect();
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, Digest::of(config), config.len() as u64).build().map_err(invalid)?)
        .layers(layers.collect::<Result<Vec<_>, _>>()?)
        .annotations(annotations)
        .build()
        .map_err(invalid)?;
    canonical(&manifest)
}

/// The index entry of an image whose manifest is `manifest`.
pub(crate) fn index_entry(name: &ImageName, arch: Arch, input: Digest, manifest: &[u8]) -> Result<Descriptor, Error> {
    let platform = PlatformBuilder::default().architecture(arch.as_str()).os("linux").build().map_err(invalid)?;
    let names = HashMap::from([(REF_NAME.to_owned(), name.to_string()), (ENGINE_NAME.to_owned(), engine_name(name)), (INPUT.to_owned(), input.to_string())]);
    let descriptor = descriptor(MediaType::ImageManifest, Digest::of(manifest), manifest.len() as u64);
    descriptor.platform(platform).annotations(names).build().map_err(invalid)
}

/// The same entry under another name.
pub(crate) fn renamed(mut entry: Descriptor, name: &ImageName) -> Descriptor {
    let mut annotations = entry.annotations().clone().unwrap_or_default();
    annotations.extend([(REF_NAME.to_owned(), name.to_string()), (ENGINE_NAME.to_owned(), engine_name(name))]);
    entry.set_annotations(Some(annotations));
    entry
}

/// The bytes of an index with the given entries.
pub(crate) fn index(entries: Vec<Descriptor>) -> Result<Vec<u8>, Error> {
    canonical(&ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex).manifests(entries).build().map_err(invalid)?)
}

/// The name that engines give the image when they load it.
pub(crate) fn engine_name(name: &ImageName) -> String {
    format!("localhost/{name}:latest")
}

fn descriptor(kind: MediaType, digest: Digest, size: u64) -> DescriptorBuilder {
    let hex: Result<oci_spec::image::Sha256Digest, _> = digest.hex().parse();
    let builder = DescriptorBuilder::default().media_type(kind).size(size);
    // Sixty-four digits always parse; without a digest the builder fails.
    match hex {
        Ok(digest) => builder.digest(digest),
        Err(_) => builder,
    }
}

/// Reads a document of the store; `path` is for messages.
pub(crate) fn read_index(path: &Path, bytes: &[u8]) -> Result<ImageIndex, Error> {
    read(path, bytes)
}

/// Reads a document of the store; `path` is for messages.
pub(crate) fn read_manifest(path: &Path, bytes: &[u8]) -> Result<ImageManifest, Error> {
    read(path, bytes)
}

/// Reads a document of the store; `path` is for messages.
pub(crate) fn read_config(path: &Path, bytes: &[u8]) -> Result<ImageConfiguration, Error> {
    read(path, bytes)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| Error::Store { path: path.to_owned(), reason: e.to_string() })
}

/// JSON with the keys of every object sorted and no white space.
pub(crate) fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let value = serde_json::to_value(value).map_err(|_| Error::Internal("a document that is not JSON"))?;
    serde_json::to_vec(&sorted(value)).map_err(|_| Error::Internal("a document that is not JSON"))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<String, Value> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn invalid(_: OciSpecError) -> Error {
    Error::Internal("an image document that is not complete")
}
