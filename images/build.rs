//! Records the mirrors that are used where a machine has no apt sources: `TORBOX_DEFAULT_MIRROR`, or those of the machine
//! that builds. No mirror's name stands in the source.

#[path = "src/debian"]
#[expect(dead_code, reason = "the build script does not use all of it")]
mod debian {
    pub(crate) mod deb822;
}
#[path = "src/sources.rs"]
mod sources;

use std::{env, path::Path};

const VARIABLE: &str = "TORBOX_DEFAULT_MIRROR";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=/etc/apt");
    println!("cargo::rerun-if-changed=build.rs");
    let mirrors = env::var(VARIABLE).unwrap_or_else(|_| of_this_machine());
    println!("cargo::rustc-env={VARIABLE}={mirrors}");
}

fn of_this_machine() -> String {
    let sources = sources::read(Path::new("/etc/apt")).unwrap_or_default();
    sources.into_iter().map(|source| source.url).collect::<Vec<_>>().join(" ")
}
