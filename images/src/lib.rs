//! Builds torbox's images from signed inputs: Debian's packages and the Tor Project's releases in, OCI images out.
//!
//! No daemon, no root, no program of the host, and no script of a package is needed or run. The same inputs give the same
//! digests on every machine. What is not signed, or signed by another key, or expired, is an error, never a warning.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking"))]

mod base;
mod browser;
mod build;
mod certificate;
mod debian;
mod digest;
mod elf;
mod error;
mod export;
mod fetch;
mod floor;
pub mod fuzz;
mod generate;
mod image;
mod intake;
mod layer;
mod lock;
mod mirror;
mod names;
mod oci;
mod openpgp;
mod parallel;
mod post;
mod recipe;
mod rootfs;
mod sbom;
mod select;
mod sources;
mod standin;
mod store;
mod system;
mod torproject;
mod tree;
mod trust;
mod unpack;
mod via;
mod xz;

pub use build::{BuildRequest, Locked, Programs, ReleaseFiles, build, build_from, current, current_of, renew, renew_from, resolve_lock};
pub use debian::archive::Indexes;
pub use digest::Digest;
pub use error::Error;
pub use export::{export_archive, export_dir, write_archive};
pub use image::Image;
pub use mirror::{Mirror, Mirrors};
pub use names::{Arch, Channel, Day, ImageName, RecipeName};
pub use openpgp::Keyring;
pub use recipe::{Archive, DebianPackage, Files, Generated, ImageRole, ProgramName, Proof, Recipe, Suite, TorProject, Transport};
pub use post::{Post, PostError};
pub use store::{Progress, Rootfs, Store};
pub use system::Socket;
pub use trust::Trust;
pub use via::Via;

#[cfg(test)]
mod testing {
    //! What the unit tests share.

    /// Says that a test was not run because the tool that judges is not here; where everything must run, that is a failure.
    pub(crate) fn skip(tool: &str) {
        assert!(std::env::var_os("TORBOX_MUST_WORK").is_none(), "{tool} is not installed");
        eprintln!("skipped: {tool} is not installed");
    }
}
