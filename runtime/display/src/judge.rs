//! What goes on of the bytes of one connection, by the protocol that is spoken. It never lets a byte of a client pass before the
//! protocol's own rules have seen it.

use crate::config::Terms;
use crate::policy::Way;
use crate::wayland::{self, Filter};
use crate::x11::{Cookie, NoSetup, Setup};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::time::Instant;

/// Bytes and descriptors in one direction.
#[derive(Default)]
pub(crate) struct Stream {
    /// Read, and not yet a whole message.
    pub(crate) bytes: Vec<u8>,
    /// Read, and not yet of a message.
    pub(crate) descriptors: VecDeque<OwnedFd>,
}

/// What goes on.
#[derive(Default)]
pub(crate) struct Passed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// When, if not at once.
    pub(crate) due: Option<Instant>,
}

/// Why a client is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// By the rules of Wayland.
    Wayland(wayland::Fault),
    /// By those of X11.
    X11(NoSetup),
}

/// The judge of a connection.
pub(crate) enum Judge {
    /// Judges every message.
    Wayland(Filter),
    /// Judges how a client begins.
    X11(Setup),
}

/// What a display server speaks, with what its clients need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Wayland, and what the user lets through of it.
    Wayland(Terms),
    /// The X protocol, and what opens the server.
    X11(Cookie),
}

impl Fault {
    /// What the client is told.
    pub(crate) fn message(self) -> Vec<u8> {
        match self {
            Self::Wayland(fault) => fault.event(),
            // Who does not begin in order does not understand an answer either.
            Self::X11(NoSetup) => Vec::new(),
        }
    }
}

impl Judge {
    /// For a new connection.
    pub(crate) fn new(speech: &Speech) -> Self {
        match speech {
            Speech::Wayland(terms) => Self::Wayland(Filter::new(*terms)),
            Speech::X11(cookie) => Self::X11(Setup::new(cookie.clone())),
        }
    }

    /// Moves what may go on from `held` to `passed`.
    pub(crate) fn pass(&mut self, way: Way, held: &mut Stream, passed: &mut Passed) -> Result<(), Fault> {
        match self {
            Self::Wayland(filter) => filter.pass(way, held, passed).map_err(Fault::Wayland),
            Self::X11(setup) => setup.pass(way, held, passed).map_err(Fault::X11),
        }
    }
}
