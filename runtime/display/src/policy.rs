//! The policy files as tables of constants, made by the build script. What no rule names is refused.

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Request,
    /// From the server.
    Event,
}

/// A global that is offered.
#[derive(Debug)]
pub struct Global {
    /// Its interface.
    pub interface: &'static str,
    /// The highest version that is offered.
    pub version: u32,
    /// Why.
    pub reason: &'static str,
}

/// The value of an argument that is the same for everybody.
#[derive(Debug)]
pub enum Fixed {
    /// A number.
    Word(u32),
    /// A text.
    Text(&'static str),
}

/// A message with arguments that are the same for everybody.
#[derive(Debug)]
pub struct Constant {
    /// Which way it goes.
    pub way: Way,
    /// Its object's interface.
    pub interface: &'static str,
    /// Its name.
    pub message: &'static str,
    /// Places, from 0, and values of the arguments.
    pub set: &'static [(usize, Fixed)],
    /// Why.
    pub reason: &'static str,
}

/// An event that goes on only with certain values.
#[derive(Debug)]
pub struct Choice {
    /// Its object's interface.
    pub interface: &'static str,
    /// Its name.
    pub message: &'static str,
    /// The place of the argument, from 0.
    pub argument: usize,
    /// The values.
    pub only: &'static [u32],
    /// Why.
    pub reason: &'static str,
}

/// An object's events that go on together, each kind once and in the order of the protocol, when the one comes that ends them.
#[derive(Debug)]
pub struct Batch {
    /// The object's interface.
    pub interface: &'static str,
    /// The event that ends them. Alone it says nothing, and is dropped.
    pub end: &'static str,
    /// The object's version from which on it is sent.
    pub since: u32,
    /// Why.
    pub reason: &'static str,
}

/// A message that carries what was copied, or is dragged, over the window's edge.
#[derive(Debug)]
pub struct Crossing {
    /// Which way it goes.
    pub way: Way,
    /// Its object's interface.
    pub interface: &'static str,
    /// Its name.
    pub message: &'static str,
    /// Which way the text goes.
    pub crosses: Crosses,
    /// Why.
    pub reason: &'static str,
}

/// Over the edge of the browser's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crosses {
    /// To the browser.
    In,
    /// From it.
    Out,
}

/// An event that tells what the user's hands do.
#[derive(Debug)]
pub struct Hand {
    /// Its object's interface.
    pub interface: &'static str,
    /// Its name.
    pub message: &'static str,
    /// The place of the argument, from 0, that says when, in milliseconds.
    pub stamp: Option<usize>,
}

/// The cage.
pub mod cage {
    use torbox_gate::policy::{Only, Syscall, When};
    include!(concat!(env!("OUT_DIR"), "/cage.rs"));
}

/// What a client gets of a compositor.
pub mod wayland {
    use super::{Batch, Choice, Constant, Crosses, Crossing, Fixed, Global, Hand, Way};
    include!(concat!(env!("OUT_DIR"), "/wayland.rs"));
}

/// Connections at once; a browser opens a handful.
pub const CONNECTIONS: usize = 64;
/// Descriptors in one message: libwayland sends no more, and libxcb 16.
pub const DESCRIPTORS: usize = 28;
/// Descriptors that came before the message to which they belong.
pub const PENDING_DESCRIPTORS: usize = 2 * DESCRIPTORS;
/// Bytes read at once, and all that one direction ever holds.
pub const HELD_BYTES: usize = 64 * 1024;
