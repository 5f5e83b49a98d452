//! Built-in bridges of a private network: the stand-in's image with another file of them, in the form in which a release has it.
//!
//! The image is in the store under the stand-in's name as long as the value lives. Nothing runs on it: it holds nothing else.

#![expect(clippy::indexing_slicing, reason = "what an image's document lacks makes the test fail")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::boxed::Installed;
use crate::process;

/// Where a release has the file, in the image.
const PLACE: &str = "opt/tor-browser/Browser/TorBrowser/Tor/PluggableTransports/pt_config.json";
const NAME: &str = "org.opencontainers.image.ref.name";

/// Another image in the place of the stand-in's.
#[derive(Debug)]
pub struct Brought {
    index: PathBuf,
    own: String,
}

impl Brought {
    /// Puts an image there that brings `text`, or one without that file.
    pub fn put(installed: &Installed<'_>, text: Option<&str>) -> Result<Self> {
        let store = installed.dir().join("data/images");
        let index = store.join("index.json");
        let own = fs::read_to_string(&index).context("no images")?;
        let brought = Self { index, own };
        let mut documents: Value = serde_json::from_str(&brought.own)?;
        let entries = documents["manifests"].as_array_mut().context("an index without images")?;
        let entry = entries.iter_mut().find(|entry| entry["annotations"][NAME] == "torbox/firefox-esr").context("no stand-in")?;
        let (layer, diff_id) = layer(&store, text)?;
        let mut manifest = document(&store, &entry["digest"])?;
        let mut config = document(&store, &manifest["config"]["digest"])?;
        config["rootfs"]["diff_ids"] = json!([diff_id]);
        config["history"] = json!([]);
        (manifest["config"]["digest"], manifest["config"]["size"]) = blob(&store, config.to_string().as_bytes())?;
        let mut only = manifest["layers"][0].clone();
        (only["digest"], only["size"]) = layer;
        manifest["layers"] = json!([only]);
        (entry["digest"], entry["size"]) = blob(&store, manifest.to_string().as_bytes())?;
        fs::write(&brought.index, documents.to_string())?;
        Ok(brought)
    }
}

fn document(store: &Path, digest: &Value) -> Result<Value> {
    let name = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:")).context("no digest")?;
    Ok(serde_json::from_slice(&fs::read(store.join("blobs/sha256").join(name))?)?)
}

/// Puts bytes among the blobs: their digest and size.
fn blob(store: &Path, bytes: &[u8]) -> Result<(Value, Value)> {
    let digest = sha256(bytes)?;
    fs::write(store.join("blobs/sha256").join(&digest), bytes)?;
    Ok((json!(format!("sha256:{digest}")), json!(bytes.len())))
}

fn sha256(bytes: &[u8]) -> Result<String> {
    let said = String::from_utf8(process::output_with(&mut Command::new("sha256sum"), bytes)?)?;
    Ok(said.split(' ').next().unwrap_or_default().to_owned())
}

/// A layer of that one file: its digest and size, and its digest before it was compressed.
fn layer(store: &Path, text: Option<&str>) -> Result<((Value, Value), String)> {
    let tree = tempfile::tempdir()?;
    let file = tree.path().join(PLACE);
    fs::create_dir_all(file.parent().context("a file below a directory")?)?;
    if let Some(text) = text {
        fs::write(&file, text)?;
    }
    let tar = process::output(Command::new("tar").args(["--create", "--owner=0", "--group=0", "-C"]).arg(tree.path()).arg("opt"))?;
    let packed = process::output_with(Command::new("gzip").arg("-n"), &tar)?;
    Ok((blob(store, &packed)?, format!("sha256:{}", sha256(&tar)?)))
}

impl Drop for Brought {
    fn drop(&mut self) {
        fs::write(&self.index, &self.own).unwrap_or_else(|error| eprintln!("the stand-in's image could not be put back: {error}"));
    }
}
