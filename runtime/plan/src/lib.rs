//! What a box is, as pure data: an [`Intent`] and a [`Host`] in, a [`Plan`] and its [`Facts`] out.
//!
//! This crate never performs I/O, starts nothing and holds no unsafe code. Everything that will exist when a box
//! runs is decided here and nowhere else: executors read a plan and decide nothing.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking"))]

mod address;
pub mod compose;
pub mod engine;
mod facts;
mod handed;
mod host;
mod ids;
mod intent;
pub mod oci;
mod plan;
mod proof;
pub mod seccomp;
pub mod steps;

pub use address::{Address, AddressError, NOT_OPENED, OPENED, Wish};
pub use facts::{Facts, Mismatch, MountFact, Namespace, NetworkFact};
pub use handed::{COPIED, COPY, Handed};
pub use host::{CgroupAccess, Display, Host, IdRange, Identity, SocketAccess};
pub use ids::{BoxName, BoxPath, InvalidName, Role};
pub use intent::{ClientAuth, Clipboard, Image, Intent, JOURNAL, Limits, Memory, PROFILE_FILES, Program, Resolver, Start};
pub use plan::{Access, Cgroup, Clocks, Container, Exec, GroupLimits, IdMap, Link, Mount, Network, Owner, Plan, PlanError, SOUND_VARIABLE, SuppliedFile, TELLTALE, UPTIME, USER, paths, writable};
pub use proof::{BESIDE, Landlock, Proof};
