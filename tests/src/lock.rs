//! One heavy test at a time, across threads and test binaries (flock(2)).

use std::fs::File;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// Held while a heavy test runs; the kernel lets go when it is dropped or the process ends.
#[derive(Debug)]
pub struct Heavy {
    _file: File,
}

/// Waits for the other heavy tests of this machine.
pub fn heavy() -> Result<Heavy> {
    named("tests")
}

/// Waits for the other tests of this machine that use the same things.
pub fn named(name: &str) -> Result<Heavy> {
    let path = std::env::temp_dir().join(format!("torbox-{name}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive).context("flock")?;
    Ok(Heavy { _file: file })
}
