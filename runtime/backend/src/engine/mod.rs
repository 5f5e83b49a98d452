//! The backend for Docker and Podman: the same plan, through an engine's API.
//!
//! ```text
//! torbox run ── plan, progress, the user's terminal
//!   └─ torbox __engine    talks to the engine: creates, verifies, starts, supervises, removes
//!        ┄┄ API socket ┄┄ engine, perhaps in a virtual machine
//!                           ├─ init (held) → init → tor
//!                           ├─ init (held) → gate
//!                           └─ init (held) → init → browser
//! ```
//! No engine shows a created container, so a created container here is one whose init waits: it reports what the kernel made
//! (`init hold`), the report and the engine's own account are compared with the plan, and only then is each told to go on.
//! The init's standard input is the box's lifeline: when `__engine` ends, however it ends, the engine closes it, and the
//! container ends. What is then left in the engine is labelled, and the next command removes it.
//!
//! It names no path of the engine's host but the display socket, and never touches what does not carry its claim.

mod admin;
mod carry;
mod clean;
mod create;
mod endpoint;
mod error;
mod files;
mod find;
mod image;
mod inner;
mod known;
mod report;

pub use clean::clean;
pub use endpoint::{About, Contact, Endpoint, Machine, Users, about, own_processes};
pub use error::EngineError;
pub use files::Files;
pub use find::{Environment, Found, Origin, find};
pub use image::{ImageFile, absent, load};
pub use inner::engine_main;
pub use known::Version;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use torbox_plan::engine::Engine;
use torbox_plan::{Host, Intent};

/// Hidden subcommand of the process that talks to an engine.
pub const ENGINE: &str = "__engine";

/// Everything that process needs. The plan itself is computed again from intent and host, which gives the same plan.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// What is wanted.
    pub intent: Intent,
    /// Where.
    pub host: Host,
    /// The engine, as the plan sees it.
    pub engine: Engine,
    /// How to reach it.
    pub contact: Contact,
    /// The engine's ids of the images, by the digest that the intent names.
    pub images: BTreeMap<String, String>,
    /// What opens the X server; empty without one.
    pub display_cookie: Vec<u8>,
    /// What serves the box as a page, where the plan's display is [`torbox_plan::Display::Carried`]: the socket at which it listens.
    pub viewer: Option<PathBuf>,
    /// The claim on the box's name, which marks everything made for it.
    pub claim: String,
}
