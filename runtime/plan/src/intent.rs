//! What the user asked for, before anything of the host is known.

use crate::ids::BoxName;
use serde::{Deserialize, Serialize};

/// One request for a box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The box's name; one box of a name runs at a time.
    pub name: BoxName,
    /// The image with tor, the gate and the display.
    pub tor: Image,
    /// The image with the browser.
    pub browser: Image,
    /// What runs in the browser's container.
    pub program: Program,
    /// Whether the browser can authenticate its streams.
    pub client_auth: ClientAuth,
    /// What the browser remembers from one run to the next.
    pub memory: Memory,
    /// When it starts.
    pub start: Start,
    /// Lines for tor's configuration file (torrc(5)); what the box depends on is set on tor's command line, which wins.
    pub torrc: String,
    /// Where one of tor's transports looks names up; none where none does.
    pub resolver: Option<Resolver>,
    /// Which way a text may go over the edge of the browser's window.
    pub clipboard: Clipboard,
    /// By how many milliseconds keys and the pointer are late at most, each by a random time.
    pub jitter: u16,
    /// Whether it is heard.
    pub sound: bool,
    /// Bounds on what the box may use.
    pub limits: Limits,
}

/// Whom programs ask for names (resolv.conf(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolver {
    /// The servers that this text names, which is the whole file.
    File(String),
    /// Those that the engine names to a container on its network: the caller's may be out of reach from there.
    Engine,
}

/// An image as the plan needs it: no path, which differs per host, but what identifies its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The image's name in the store, e.g. `torbox/browser`.
    pub name: String,
    /// Digest of its manifest, `sha256:<64 hex digits>`.
    pub digest: String,
    /// The image's entry point: an absolute path in the image, then arguments.
    pub entrypoint: Vec<String>,
}

/// What runs in the browser's container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// The browser, opening this address if there is one.
    Browser {
        /// Passed after the browser's own options; never begins with `-`.
        url: Option<String>,
    },
    /// The probe of `torbox-init`, which reports what it sees.
    Probe,
    /// Nothing, for as long as init waits for words that do not come: what is of interest is tor.
    Nothing,
    /// The audit of `torbox-init`, which makes every attempt to get out and reports what came of it.
    Audit,
}

/// How the gate tells one site's streams from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Tor Browser: a SOCKS user name and password per site, required.
    Required,
    /// A stand-in that cannot authenticate: one isolation group for the box.
    Absent,
}

/// Which way a text may go over the edge of the browser's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clipboard {
    /// Both.
    #[default]
    Both,
    /// To the browser alone.
    In,
    /// From it alone.
    Out,
    /// Neither.
    None,
}

impl Clipboard {
    /// As the display's command line has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::In => "in",
            Self::Out => "out",
            Self::None => "none",
        }
    }

    /// Whether the browser can be given a text.
    #[must_use]
    pub const fn lets_in(self) -> bool {
        matches!(self, Self::Both | Self::In)
    }

    /// Whether one can be had of it.
    #[must_use]
    pub const fn lets_out(self) -> bool {
        matches!(self, Self::Both | Self::Out)
    }
}

/// When a browser starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// As soon as what it connects to listens: its first request waits in tor.
    Listening,
    /// Once tor is connected to its network.
    Connected,
}

/// What a browser remembers from one run to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// Nothing.
    Nothing,
    /// The files of its profile that [`PROFILE_FILES`] names.
    Profile,
}

/// The files of a browser's profile that are kept where one is: bookmarks and history, settings, and what was permitted to which
/// site. Cookies, logins, the session, caches and extensions are none of them. A database may have a journal beside it, which ends in [`JOURNAL`].
pub const PROFILE_FILES: [&str; 8] = [
    "places.sqlite", "places.sqlite-wal", "favicons.sqlite", "favicons.sqlite-wal", "permissions.sqlite", "content-prefs.sqlite", "content-prefs.sqlite-wal", "prefs.js",
];
/// How the journal of a database is called. It is right beside that very state of the database alone.
pub const JOURNAL: &str = "-wal";

/// Bounds on what a box may use. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of the browser's container, where a cgroup can be had.
    pub browser_memory: u64,
    /// Processes and threads of the browser's container, where a cgroup can be had.
    pub browser_pids: u32,
    /// Size of the browser's home, a tmpfs.
    pub home: u64,
    /// Size of the browser's profile, a tmpfs.
    pub profile: u64,
    /// Size of the browser's `/tmp`.
    pub tmp: u64,
    /// Size of what it may download until the user saves it elsewhere, and of what the user may put in, a tmpfs each.
    pub exchange: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self { browser_memory: 4096 * MIB, browser_pids: 2048, home: 512 * MIB, profile: 768 * MIB, tmp: 256 * MIB, exchange: 1024 * MIB }
    }
}
