//! What a plan needs to know of the machine that it is made for.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The machine, as far as a plan depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Whose ids the containers are mapped to.
    pub identity: Identity,
    /// Whether limits can be set.
    pub cgroup: CgroupAccess,
    /// How the names of the box's control groups begin, on this machine the box's alone; an engine gives its own.
    pub group: String,
    /// The one display socket.
    pub display: Display,
    /// Hard limit on open files (getrlimit(2), `RLIMIT_NOFILE`): a plan never asks for more.
    pub open_files: u64,
}

/// A contiguous range of user or group ids (subuid(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// Who runs torbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// Root: containers are mapped to ids that no user of the host has.
    Root {
        /// The ids to use.
        ids: IdRange,
    },
    /// An unprivileged user with subordinate ids.
    User {
        /// The user's own id.
        uid: u32,
        /// The user's primary group.
        gid: u32,
        /// From subuid(5).
        subuid: IdRange,
        /// From subgid(5).
        subgid: IdRange,
    },
    /// An engine that maps ids by itself.
    Engine,
}

/// Which cgroups the containers can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupAccess {
    /// Groups can be made and limited (cgroups(7)).
    Delegated,
    /// None: memory and process limits cannot be set.
    None,
}

/// How a box is shown: by what listens at a socket, which is bound into the display's container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Display {
    /// An X server's socket.
    X11 {
        /// The socket on the host.
        socket: PathBuf,
        /// Who may connect.
        access: SocketAccess,
    },
    /// An X server's socket, for a display of the box's own: the browser speaks Wayland to that, and never X.
    Nested {
        /// The socket on the host.
        socket: PathBuf,
        /// Who may connect.
        access: SocketAccess,
    },
    /// A Wayland compositor's socket.
    Wayland {
        /// The socket on the host.
        socket: PathBuf,
        /// Who may connect.
        access: SocketAccess,
    },
    /// The socket of what shows the box as a page (`torbox run --display served`), for a display of the box's own.
    Served {
        /// The socket on the host.
        socket: PathBuf,
        /// Who may connect.
        access: SocketAccess,
    },
    /// The same page, where the box is in an engine, which may be another machine's: whoever launches the box carries what the page and the display say
    /// to each other, and no socket of the host is named.
    Carried,
    /// No display: only a program that draws nothing can run.
    None,
}

/// Who may connect to a socket, by its mode (unix(7): connecting needs write permission).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SocketAccess {
    /// Every user of the host.
    Everyone,
    /// Its owner.
    Owner(u32),
}
