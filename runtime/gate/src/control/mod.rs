//! The control side, without I/O: a server of its own for the browser, and a client of tor's control port.
//!
//! A client's line becomes a typed [`parse::Command`] or an error; the answer comes from the gate's own tables or from a
//! typed [`question::Question`] that the gate words itself; tor's reply is read into typed values and written anew.
//! No byte of a client reaches tor and no byte of tor reaches a client except inside a value that was parsed.
//! tor's control-spec.

pub mod display;
pub mod keys;
pub mod parse;
pub mod question;
pub mod reply;
pub mod session;
pub mod text;
