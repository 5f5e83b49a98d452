//! What `torbox run` and the process that holds its box say to each other: one JSON object a line over two pipes.
//!
//! Requests go down standard input: a launch first, then a [`Request`] at a time; its end is the request to stop. Events come up
//! standard output.

use serde::{Deserialize, Serialize};
use torbox_plan::{Address, Proof, Role};

/// What a running box can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Streams from now on share no circuit with those before, which are ended. Answered by [`Event::NewIdentity`].
    NewIdentity,
    /// The browser opens an address, or a window where there is none. Answered by [`Event::Opened`].
    Open(Option<Address>),
    /// The display hands over what the browser copied: lines of it that begin with [`torbox_plan::COPIED`].
    Copy,
    /// Every attempt to get out, made once more beside the browser: lines of it that begin with [`torbox_plan::BESIDE`].
    Audit,
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
    /// What the init of a container proved before it started its program.
    Proved {
        /// Whose.
        role: Role,
        /// What.
        proof: Proof,
    },
    /// Process 1 of a container that was started, tor's or the browser's, as seen inside the runtime's PID namespace. An engine's tor is not told of.
    Running {
        /// Whose.
        role: Role,
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
    /// The answer to [`Request::NewIdentity`].
    NewIdentity {
        /// Why there is none; absent if there is.
        error: Option<String>,
    },
    /// The answer to [`Request::Open`].
    Opened {
        /// Why it was not opened; absent if it was.
        error: Option<String>,
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
