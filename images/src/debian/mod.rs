//! A client of Debian's package archive: signed indexes, versions, dependencies, packages.
//!
//! Nothing here runs a program or a maintainer script, and nothing is believed that the archive's keys did not sign.

pub(crate) mod archive;
pub(crate) mod deb;
pub(crate) mod deb822;
pub(crate) mod index;
pub(crate) mod relation;
pub(crate) mod release;
pub(crate) mod resolve;
pub(crate) mod version;
