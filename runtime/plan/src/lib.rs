//! What a box is, as pure data: an [`Intent`] and a [`Host`] in, a [`Plan`] and its [`Facts`] out.
//!
//! This crate never performs I/O, starts nothing and holds no unsafe code. Everything that will exist when a box
//! runs is decided here and nowhere else: executors read a plan and decide nothing.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking"))]

mod facts;
mod host;
mod ids;
mod intent;
pub mod oci;
mod plan;
pub mod seccomp;
pub mod steps;

pub use facts::{Facts, Mismatch, MountFact, Namespace, NetworkFact};
pub use host::{CgroupAccess, Display, Host, IdRange, Identity, SocketAccess};
pub use ids::{BoxName, BoxPath, InvalidName, Role};
pub use intent::{ClientAuth, Image, Intent, Limits, Program};
pub use plan::{Access, Cgroup, Container, Exec, GroupLimits, IdMap, Link, Mount, Network, Owner, Plan, PlanError, SuppliedFile, paths};
