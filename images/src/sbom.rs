//! The bill of materials of an image: every input by name, version and digest, and every file by the input that it is from
//! (CycloneDX 1.5, JSON).
//!
//! It depends on the image alone, and lies beside it: an image's digest does not depend on how it is described.

use crate::{
    browser::BrowserLayer,
    build::{LayerRecord, Program},
    debian::index::PackageFile,
    digest::Digest,
    error::Error,
    lock::Lock,
    oci,
    recipe::{Archive, Recipe},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The files of a layer, by path, with their digests.
pub(crate) type Files = BTreeMap<String, Digest>;

/// What an image is made of.
pub(crate) struct Materials<'m> {
    pub(crate) recipe: &'m Recipe,
    pub(crate) lock: &'m Lock,
    pub(crate) version: &'m str,
    pub(crate) created: &'m str,
    pub(crate) programs: &'m [Program],
    pub(crate) base: &'m LayerRecord,
    pub(crate) browser: Option<&'m BrowserLayer>,
}

/// The document for the image whose manifest has the given digest.
pub(crate) fn document(of: &Materials<'_>, manifest: Digest) -> Result<Vec<u8>, Error> {
    let components = components(of);
    let refs: Vec<Value> = components.iter().filter_map(|component| component.get("bom-ref").cloned()).collect();
    let tool = json!({"type": "application", "name": "torbox", "version": env!("CARGO_PKG_VERSION")});
    let image = json!({
        "type": "container", "bom-ref": "image", "name": of.recipe.name.image(), "version": of.version, "description": of.recipe.title,
        "hashes": hashes(manifest), "properties": [property("torbox:architecture", of.lock.arch.as_str())],
    });
    oci::canonical(&json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "serialNumber": serial(manifest),
        "metadata": {"timestamp": of.created, "tools": {"components": [tool]}, "component": image},
        "components": components,
        "dependencies": [{"ref": "image", "dependsOn": refs}],
    }))
}

fn components(of: &Materials<'_>) -> Vec<Value> {
    let no_files = Files::new();
    let from = |name: &str| of.base.origins.get(name).unwrap_or(&no_files);
    let packages = of.lock.packages.iter().map(|package| package_component(of, package, from(&package.name)));
    let browser_files = of.browser.and_then(|browser| browser.record.origins.get("")).unwrap_or(&no_files);
    let packed = of.lock.browser.iter().map(|package| package_component(of, package, browser_files));
    let released = of.lock.release.iter().map(|release| {
        json!({
            "type": "application", "bom-ref": "release", "name": of.recipe.title, "version": release.version, "hashes": hashes(release.sha256),
            "properties": release.signed.iter().map(|signed| property("torbox:signed", &signed.to_rfc3339())).collect::<Vec<_>>(),
            "components": files(browser_files),
        })
    });
    let programs = of.programs.iter().map(|(program, bytes)| {
        let name = program.path().rsplit('/').next().unwrap_or_default();
        let file = Files::from([(format!("/{}", program.path()), Digest::of(bytes))]);
        json!({
            "type": "application", "bom-ref": format!("torbox-{name}"), "name": format!("torbox-{name}"), "version": env!("CARGO_PKG_VERSION"),
            "hashes": hashes(Digest::of(bytes)), "components": files(&file),
        })
    });
    let made = json!({"type": "data", "bom-ref": "torbox-generated", "name": "what torbox itself generated", "components": files(from(""))});
    packages.chain(packed).chain(released).chain(programs).chain([made]).collect()
}

/// A package: `excluded` where the image holds no file of it.
fn package_component(of: &Materials<'_>, package: &PackageFile, from: &Files) -> Value {
    let PackageFile { name, version, archive, path, sha256, .. } = package;
    let suite = match archive {
        Archive::Debian => "debian",
        Archive::DebianSecurity => "debian-security",
    };
    json!({
        "type": "library", "bom-ref": format!("deb:{name}"), "name": name, "version": version.to_string(),
        "purl": format!("pkg:deb/debian/{}@{}?arch={}", encode(name), encode(&version.to_string()), of.lock.arch), "hashes": hashes(*sha256),
        "scope": if from.is_empty() { "excluded" } else { "required" },
        "properties": [property("torbox:file", &format!("{suite}/{path}"))], "components": files(from),
    })
}

fn files(files: &Files) -> Vec<Value> {
    files.iter().map(|(path, digest)| json!({"type": "file", "name": path, "hashes": hashes(*digest)})).collect()
}

fn hashes(digest: Digest) -> Value {
    json!([{"alg": "SHA-256", "content": digest.hex()}])
}

fn property(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

/// A UUID (RFC 9562, version 8) that the image's digest decides.
fn serial(manifest: Digest) -> String {
    let hex = manifest.hex();
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    format!("urn:uuid:{}-{}-8{}-8{}-{}", part(0..8), part(8..12), part(12..15), part(15..18), part(18..30))
}

/// Percent-encoding of what a package URL does not take as it is.
fn encode(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
