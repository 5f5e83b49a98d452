//! The filter for Wayland: both ways every message is read by its signature, judged, and written anew.
//!
//! [`wire`] reads and writes, [`tables`] knows the protocols, [`objects`] knows what each number is, [`filter`] judges by
//! `policy/display/wayland.toml`. All but [`keymap`] is without I/O.

mod filter;
pub(crate) mod keymap;
mod objects;
mod tables;
pub(crate) mod wire;

pub(crate) use filter::{Fault, Filter};
