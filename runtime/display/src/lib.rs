//! The display: all that the browser reaches of the user's display server.
//!
//! It stands between the two as the gate stands between browser and tor: it alone has the server's socket, and what the browser
//! finds in its place is the same on every machine. `lane` moves bytes and descriptors of one direction; the one loop in
//! [`server`] says when; `judge` says what goes on: of Wayland by the tables of [`policy`] (`wayland`), of X11 everything, but with
//! another key than the client's (`x11`).
//!
//! It never makes a socket that is not AF_UNIX, never writes a file, and never logs what is shown or typed. unix(7).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking"))]

pub mod config;
mod judge;
mod keymap;
mod lane;
pub mod nested;
pub mod policy;
pub mod server;
mod wayland;
mod x11;
