//! What the end-to-end tests of torbox stand on: a private Tor network, displays that can be looked at, test users, and a
//! comparison of the machine before and after.
//!
//! It must never send a packet outside the network namespaces that it made itself, and never end a process it did not find there.

pub mod boxed;
pub mod builtin;
pub mod debian;
pub mod display;
pub mod engine;
pub mod left;
pub mod lock;
pub mod process;
pub mod require;
pub mod screen;
pub mod sound;
pub mod standin;
pub mod testnet;
pub mod trace;
pub mod user;
pub mod vm;
pub mod wait;
