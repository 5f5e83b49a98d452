//! What `torbox run` and its runtime process say to each other: one JSON object a line over two pipes.
//!
//! Requests go down standard input: a [`Launch`] first, then nothing; its end is the request to stop. Events come up
//! standard output.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use torbox_plan::{Host, Intent, Role};

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
    /// Directory in which tor's guards are kept between runs.
    pub tor_state: PathBuf,
    /// Contents of the box's own cookie file (Xau(3)); empty without an X server.
    pub xauthority: Vec<u8>,
}

/// What happens in the runtime.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The user namespace exists and waits for its id maps, which only the process outside can write.
    NeedsMaps {
        /// The process in it.
        pid: u32,
    },
    /// A step of the launch was done.
    Done {
        /// Its action, as in `torbox plan --render steps`.
        action: String,
        /// Microseconds since the runtime began.
        after: u64,
    },
    /// Process 1 of the browser's container, as seen inside the runtime's PID namespace.
    Running {
        /// The process.
        pid: u32,
    },
    /// tor's own account of its progress.
    Bootstrap {
        /// 0 to 100.
        percent: u8,
        /// What it is at.
        summary: String,
    },
    /// A line that a role wrote to its standard output or error.
    Line {
        /// Who.
        role: Role,
        /// What, without the newline.
        text: String,
    },
    /// The box has ended; everything is undone.
    Ended {
        /// Exit code of what ran in the browser's container, if it ended by itself.
        code: Option<u8>,
    },
    /// The box could not be launched, or did not hold.
    Failed {
        /// What, with its causes.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}
