//! The launch that `torbox run` asks its runtime process for.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use torbox_plan::{Host, Intent};

/// Everything the runtime needs. The plan itself is computed again from intent and host, which gives the same plan.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// What is wanted.
    pub intent: Intent,
    /// Where.
    pub host: Host,
    /// What the plan names and the host has.
    pub supplies: Supplies,
}

/// Files and directories of the host that are bound into the box.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supplies {
    /// Unpacked root of the tor image.
    pub tor_root: PathBuf,
    /// Unpacked root of the browser image.
    pub browser_root: PathBuf,
    /// An empty directory, over which the runtime mounts its own root in its own mount namespace.
    pub scratch: PathBuf,
    /// Directory in which tor's guards are kept between runs; `None` where they are not.
    pub tor_state: Option<PathBuf>,
    /// Directory in which files of the browser's profile are kept between runs; `None` where nothing is.
    pub profile: Option<PathBuf>,
    /// The control group of a user's box, below which those of its containers are made; `None` for root, and where none is delegated.
    pub cgroup: Option<PathBuf>,
    /// What opens the X server, as [`torbox_plan::SuppliedFile::DisplayCookie`] says; empty without one.
    pub display_cookie: Vec<u8>,
}
