//! The stand-in's configuration in an unpacked image, replaced by another one so that it looks the same from outside: how a test
//! makes the browser do what no page can.
//!
//! Dropping it puts the image's own back.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::boxed::Installed;

/// Where the configuration is below the image's root.
const CONFIG: &str = "opt/tor-browser/Browser/mozilla.cfg";

/// A configuration in the place of the image's own.
#[derive(Debug)]
pub struct Disguise {
    root: PathBuf,
    own: Vec<u8>,
}

impl Disguise {
    /// Puts `config` in the place of that of the image that was unpacked last.
    pub fn put(installed: &Installed<'_>, config: &str) -> Result<Self> {
        let roots = fs::read_dir(installed.dir().join("data/images/rootfs")).context("no image is unpacked")?;
        let roots = roots.filter_map(Result::ok).map(|entry| entry.path());
        let configured = roots.filter_map(|root| Some((fs::metadata(root.join(CONFIG)).ok()?.ctime(), root)));
        let (_, root) = configured.max().context("no unpacked image has a configuration")?;
        let own = fs::read(root.join(CONFIG))?;
        ensure!(config.len() < own.len(), "the configuration has {} bytes, the image's own {}", config.len(), own.len());
        let disguise = Self { root, own };
        disguise.write(&format!("{config:\n<0$}", disguise.own.len()).into_bytes())?;
        Ok(disguise)
    }

    /// The image's root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn write(&self, text: &[u8]) -> Result<()> {
        let file = self.root.join(CONFIG);
        let modified = fs::metadata(&file)?.modified()?;
        fs::write(&file, text)?;
        Ok(File::options().write(true).open(&file)?.set_times(FileTimes::new().set_modified(modified))?)
    }
}

impl Drop for Disguise {
    fn drop(&mut self) {
        self.write(&self.own).unwrap_or_else(|error| eprintln!("the stand-in's configuration could not be put back: {error:#}"));
    }
}
