//! The objects of one connection: which interface and version each number has. It never lets a number be used for two things.

use std::collections::BTreeMap;
use wayland_client::backend::protocol::Interface;

/// The first number that a server gives; those below are the client's.
const SERVERS: u32 = 0xff00_0000;
/// Objects of one client; a browser has some hundreds.
const MOST: usize = 16_384;

/// An object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub(crate) interface: &'static Interface,
    pub(crate) version: u32,
    /// Its client destroyed it; the server's events for it may still be under way.
    pub(crate) dead: bool,
}

/// A number that cannot be given to a new object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It has an object, or is the other side's.
    Number,
    /// There are too many.
    TooMany,
}

/// Who makes an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    Client,
    Server,
}

/// All of them.
pub(crate) struct Objects(BTreeMap<u32, Object>);

impl Objects {
    /// Those that every connection begins with.
    pub(crate) fn new(display: &'static Interface) -> Self {
        Self(BTreeMap::from([(1, Object { interface: display, version: 1, dead: false })]))
    }

    pub(crate) fn get(&self, id: u32) -> Option<Object> {
        self.0.get(&id).copied()
    }

    /// A server reuses its numbers once it knows that their objects are dead, and says so to nobody.
    pub(crate) fn add(&mut self, id: u32, maker: Maker, interface: &'static Interface, version: u32) -> Result<(), Unusable> {
        let own = if maker == Maker::Client { (1..SERVERS).contains(&id) } else { id >= SERVERS };
        let free = self.get(id).is_none_or(|object| maker == Maker::Server && object.dead);
        if !own || !free {
            return Err(Unusable::Number);
        }
        if self.0.len() >= MOST {
            return Err(Unusable::TooMany);
        }
        self.0.insert(id, Object { interface, version, dead: false });
        Ok(())
    }

    pub(crate) fn destroy(&mut self, id: u32) {
        self.0.entry(id).and_modify(|object| object.dead = true);
    }

    /// The number is free again (`wl_display.delete_id`).
    pub(crate) fn forget(&mut self, id: u32) {
        self.0.remove(&id);
    }
}
