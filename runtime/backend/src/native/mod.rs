//! The native backend: libcontainer, in two processes of torbox's own binary.
//!
//! ```text
//! torbox run ── plan, progress, the user's terminal
//!   └─ torbox __outer     enters a user namespace (unprivileged) and a PID namespace, then only waits
//!        └─ torbox __inner    process 1 of that PID namespace: builds its own root, creates, verifies, starts, supervises
//!             ├─ init → tor
//!             ├─ gate
//!             └─ init → browser
//! ```
//! `__inner` is a process of its own because libcontainer forks and allocates, which hangs in a process with threads,
//! and because its death, however it comes, must end every process, mount and socket of the box: the kernel does that
//! for a PID namespace whose process 1 ends.

mod admin;
mod confine;
mod create;
mod enclose;
mod files;
mod host;
mod inner;
mod keep;
mod launch;
mod launcher;
mod observe;
mod outer;
mod reach;
mod requests;
mod sound;
mod supervise;

pub use confine::{ConfineError, confine_launcher, confine_viewer};
pub use files::Files;
pub use host::{Groups, IdError, groups, identity, remove_left_cgroups};
pub use inner::inner_main;
pub use launch::{Launch, Supplies};
pub use outer::outer_main;
pub use reach::{ReachError, reach_tor};
pub use sound::open_sound;
pub use torbox_sys::close_on_exec;

/// Hidden subcommand of the process that enters the namespaces.
pub const OUTER: &str = "__outer";
/// Hidden subcommand of the process that holds the containers.
pub const INNER: &str = "__inner";
