//! What goes on, in which form, and what ends a client. Sans-I/O but for the keyboard's map.
//!
//! A global that the policy does not name is never advertised; a client that binds it all the same, or breaks the protocol, gets
//! `wl_display.error` and is ended. Numbers of objects are the client's and the server's own: none is translated.

use super::objects::{Maker, Object, Objects, Unusable};
use super::wire::{self, HEADER, Header, Malformed, Value};
use super::{keymap, tables};
use crate::judge::{Passed, Stream};
use crate::policy::wayland::{CHOICES, CONSTANTS, GLOBALS};
use crate::policy::{Fixed, HELD_BYTES, PENDING_DESCRIPTORS, Way};
use rustix::fd::OwnedFd;
use std::collections::{BTreeMap, VecDeque};
use wayland_client::backend::protocol::{ArgumentType, Interface, MessageDesc};

/// Why a client is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A message that cannot be read.
    Malformed(Malformed),
    /// A message to an object that is not there.
    NoObject(u32),
    /// A message that its object does not have.
    NoMessage(u32),
    /// A number that cannot be a new object's.
    Number(u32),
    /// More objects than any browser needs.
    TooMany,
    /// More descriptors than belong to messages.
    Descriptors,
    /// A global that was not offered, or not in this version.
    NotOffered(u32),
    /// The keyboard's map could not be copied.
    Keymap,
}

/// Codes of `wl_display.error`.
const INVALID_OBJECT: u32 = 0;
const INVALID_METHOD: u32 = 1;
const NO_MEMORY: u32 = 2;

impl Fault {
    /// The event that tells the client.
    pub(crate) fn event(self) -> Vec<u8> {
        let (object, code, text) = match self {
            Self::Malformed(_) => (1, INVALID_METHOD, "malformed message"),
            Self::NoObject(object) => (object, INVALID_OBJECT, "no such object"),
            Self::NoMessage(object) => (object, INVALID_METHOD, "no such message"),
            Self::Number(_) => (1, INVALID_OBJECT, "not a number for a new object"),
            Self::NotOffered(object) => (object, INVALID_OBJECT, "no such global"),
            Self::TooMany | Self::Descriptors | Self::Keymap => (1, NO_MEMORY, "too much"),
        };
        let (mut bytes, values) = (Vec::new(), vec![Value::Word(object.max(1)), Value::Word(code), Value::Text(Some(text.as_bytes()))]);
        let written = wire::write(1, 0, values, &mut bytes, &mut Vec::new());
        if written.is_err() { Vec::new() } else { bytes }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A global as it was offered to the client.
struct Offer {
    interface: &'static Interface,
    version: u32,
}

/// The state of one connection.
pub(crate) struct Filter {
    objects: Objects,
    offers: BTreeMap<u32, Offer>,
}

/// A message that was read.
struct Message<'a> {
    object: Object,
    number: u32,
    kind: &'static MessageDesc,
    values: Vec<Value<'a>>,
}

/// Whether a message goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Drop,
}

impl Filter {
    pub(crate) fn new() -> Self {
        Self { objects: Objects::new(tables::display()), offers: BTreeMap::new() }
    }

    /// Judges every whole message of `stream`; what goes on is appended to `passed`.
    pub(crate) fn pass(&mut self, way: Way, stream: &mut Stream, passed: &mut Passed) -> Result<(), Fault> {
        let mut rest = stream.bytes.as_slice();
        while let Some(header) = Header::peek(rest)? {
            let Some((message, after)) = rest.split_at_checked(header.size) else { break };
            let body = message.get(HEADER..).unwrap_or_default();
            self.one(way, header, body, &mut stream.descriptors, passed)?;
            rest = after;
        }
        let read = stream.bytes.len() - rest.len();
        stream.bytes.drain(..read);
        if stream.descriptors.len() > PENDING_DESCRIPTORS || stream.bytes.len() > HELD_BYTES { Err(Fault::Descriptors) } else { Ok(()) }
    }

    fn one(&mut self, way: Way, header: Header, body: &[u8], descriptors: &mut VecDeque<OwnedFd>, passed: &mut Passed) -> Result<(), Fault> {
        let number = header.object;
        let object = self.objects.get(number).filter(|object| way == Way::Event || !object.dead).ok_or(Fault::NoObject(number))?;
        let kinds = if way == Way::Request { object.interface.requests } else { object.interface.events };
        let kind = kinds.get(usize::from(header.opcode)).filter(|kind| kind.since <= object.version).ok_or(Fault::NoMessage(number))?;
        let mut message = Message { object, number, kind, values: wire::parse(kind.signature, body, descriptors)? };
        if self.judge(way, &mut message)? == Verdict::Drop {
            return Ok(());
        }
        self.follow(way, &message)?;
        Ok(wire::write(number, header.opcode, message.values, &mut passed.bytes, &mut passed.descriptors)?)
    }

    fn judge(&mut self, way: Way, message: &mut Message<'_>) -> Result<Verdict, Fault> {
        match (way, message.object.interface.name, message.kind.name) {
            (Way::Request, "wl_registry", "bind") => self.bind(message),
            (Way::Event, "wl_registry", "global") => Ok(self.offer(message)),
            (Way::Event, "wl_registry", "global_remove") => Ok(self.known(message)),
            (Way::Event, "wl_keyboard", "keymap") => copy_keymap(message),
            _ => Ok(by_policy(way, message)),
        }
    }

    /// Offers a global that the policy names, in a version that it allows.
    fn offer(&mut self, message: &mut Message<'_>) -> Verdict {
        let [Value::Word(name), Value::Text(Some(interface)), Value::Word(version)] = message.values.as_mut_slice() else { return Verdict::Drop };
        let named = |rule: &&crate::policy::Global| rule.interface.as_bytes() == *interface;
        let rule = GLOBALS.iter().find(named).and_then(|rule| Some((rule.version, tables::interface(rule.interface)?)));
        let Some((most, interface)) = rule else { return Verdict::Drop };
        *version = (*version).min(most).min(interface.version);
        self.offers.insert(*name, Offer { interface, version: *version });
        Verdict::Pass
    }

    /// A client may bind a global that is just being removed: the offer stays.
    fn known(&self, message: &Message<'_>) -> Verdict {
        let known = message.values.first().is_some_and(|name| self.offers.contains_key(&name.word()));
        if known { Verdict::Pass } else { Verdict::Drop }
    }

    fn bind(&mut self, message: &Message<'_>) -> Result<Verdict, Fault> {
        let refused = Fault::NotOffered(message.number);
        let [Value::Word(name), Value::Text(Some(interface)), Value::Word(version), Value::Word(id)] = message.values.as_slice() else { return Err(refused) };
        let offer = self.offers.get(name).filter(|offer| offer.interface.name.as_bytes() == *interface && (1..=offer.version).contains(version));
        self.add(*id, Maker::Client, offer.ok_or(refused)?.interface, *version)?;
        Ok(Verdict::Pass)
    }

    /// Keeps account of the objects that a message makes and ends.
    fn follow(&mut self, way: Way, message: &Message<'_>) -> Result<(), Fault> {
        let maker = if way == Way::Request { Maker::Client } else { Maker::Server };
        if let Some(interface) = message.kind.child_interface {
            let made = message.kind.signature.iter().zip(&message.values).filter(|(kind, _)| **kind == ArgumentType::NewId);
            for (_, id) in made {
                self.add(id.word(), maker, interface, message.object.version)?;
            }
        }
        if message.kind.is_destructor {
            self.objects.destroy(message.number);
        }
        if (way, message.number, message.kind.name) == (Way::Event, 1, "delete_id") {
            message.values.iter().for_each(|id| self.objects.forget(id.word()));
        }
        Ok(())
    }

    fn add(&mut self, id: u32, maker: Maker, interface: &'static Interface, version: u32) -> Result<(), Fault> {
        self.objects.add(id, maker, interface, version).map_err(|unusable| match unusable {
            Unusable::Number => Fault::Number(id),
            Unusable::TooMany => Fault::TooMany,
        })
    }
}

/// Sets what is constant, and says whether what is left to choice is one of the chosen.
fn by_policy(way: Way, message: &mut Message<'_>) -> Verdict {
    let (interface, name) = (message.object.interface.name, message.kind.name);
    for rule in CONSTANTS.iter().filter(|rule| rule.way == way && rule.interface == interface && rule.message == name) {
        for (place, fixed) in rule.set {
            if let Some(value) = message.values.get_mut(*place) {
                *value = match fixed {
                    Fixed::Word(word) => Value::Word(*word),
                    Fixed::Text(text) => Value::Text(Some(text.as_bytes())),
                };
            }
        }
    }
    let choice = CHOICES.iter().find(|rule| way == Way::Event && rule.interface == interface && rule.message == name);
    let chosen = choice.is_none_or(|rule| message.values.get(rule.argument).is_some_and(|value| rule.only.contains(&value.word())));
    if chosen { Verdict::Pass } else { Verdict::Drop }
}

fn copy_keymap(message: &mut Message<'_>) -> Result<Verdict, Fault> {
    if let [_, Value::Descriptor(map), Value::Word(size)] = message.values.as_mut_slice() {
        *map = keymap::copy(map, *size).map_err(|_| Fault::Keymap)?;
    }
    Ok(Verdict::Pass)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write as _;

    /// A message of words and texts.
    fn message(object: u32, opcode: u16, values: Vec<Value<'_>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::write(object, opcode, values, &mut bytes, &mut Vec::new()).unwrap();
        bytes
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(Some(text.as_bytes()))
    }

    struct Connection(Filter);

    impl Connection {
        /// A client that has a registry, as object 2.
        fn new() -> Self {
            let mut connection = Self(Filter::new());
            connection.request(&message(1, 1, vec![Value::Word(2)])).unwrap();
            connection
        }

        fn pass(&mut self, way: Way, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<Passed, Fault> {
            let mut passed = Passed::default();
            let mut stream = Stream { bytes: bytes.to_vec(), descriptors: descriptors.into() };
            self.0.pass(way, &mut stream, &mut passed).map(|()| passed)
        }

        fn request(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
            self.pass(Way::Request, bytes, Vec::new()).map(|passed| passed.bytes)
        }

        fn event(&mut self, bytes: &[u8]) -> Vec<u8> {
            self.pass(Way::Event, bytes, Vec::new()).unwrap().bytes
        }

        /// What the client sees of a global.
        fn global(&mut self, name: u32, interface: &str, version: u32) -> Vec<u8> {
            self.event(&message(2, 0, vec![Value::Word(name), text(interface), Value::Word(version)]))
        }

        fn bind(&mut self, name: u32, interface: &str, version: u32, id: u32) -> Result<(), Fault> {
            self.request(&message(2, 0, vec![Value::Word(name), text(interface), Value::Word(version), Value::Word(id)])).map(drop)
        }
    }

    #[test]
    fn every_rule_is_about_something_that_is_there() {
        let mut reached: Vec<&'static Interface> = GLOBALS.iter().map(|rule| tables::interface(rule.interface).unwrap_or_else(|| panic!("{}", rule.interface))).collect();
        let mut at = 0;
        while let Some(interface) = reached.get(at).copied() {
            at += 1;
            let made = interface.requests.iter().chain(interface.events).filter_map(|kind| kind.child_interface);
            reached.extend(made.filter(|made| !reached.iter().any(|known| known.name == made.name)).collect::<Vec<_>>());
        }
        let kind = |way, interface: &str, message: &str| {
            let interface = reached.iter().find(|known| known.name == interface).unwrap_or_else(|| panic!("{interface}"));
            let kinds = if way == Way::Request { interface.requests } else { interface.events };
            kinds.iter().find(|kind| kind.name == message).unwrap_or_else(|| panic!("{message}"))
        };
        for rule in CONSTANTS {
            assert!(!rule.set.is_empty() && !rule.reason.is_empty());
            for (place, fixed) in rule.set {
                let is_text = matches!(kind(rule.way, rule.interface, rule.message).signature[*place], ArgumentType::Str(_));
                assert_eq!(is_text, matches!(fixed, Fixed::Text(_)), "{}.{} {place}", rule.interface, rule.message);
            }
        }
        for rule in CHOICES {
            assert_eq!(kind(Way::Event, rule.interface, rule.message).signature[rule.argument], ArgumentType::Uint);
        }
        for rule in GLOBALS {
            assert!(!rule.reason.is_empty() && (1..=tables::interface(rule.interface).unwrap().version).contains(&rule.version), "{}", rule.interface);
        }
    }

    #[test]
    fn what_is_not_named_is_neither_offered_nor_bound() {
        for hidden in ["zwlr_screencopy_manager_v1", "zwp_virtual_keyboard_manager_v1", "zwlr_data_control_manager_v1", "zwp_linux_dmabuf_v1", "wl_compositorx", ""] {
            let mut client = Connection::new();
            assert_eq!(client.global(7, hidden, 1), [0_u8; 0], "{hidden}");
            assert_eq!(client.bind(7, hidden, 1, 3), Err(Fault::NotOffered(2)), "{hidden}");
            assert_eq!(client.event(&message(2, 1, vec![Value::Word(7)])), [0_u8; 0], "its end is not told either");
        }
        let mut client = Connection::new();
        assert_eq!(client.global(7, "wl_compositor", 99), message(2, 0, vec![Value::Word(7), text("wl_compositor"), Value::Word(6)]), "in a version that can be read");
        assert_eq!(client.bind(7, "wl_compositor", 7, 3), Err(Fault::NotOffered(2)), "a later version");
        assert_eq!(client.bind(7, "wl_compositor", 0, 3), Err(Fault::NotOffered(2)), "no version");
        assert_eq!(client.bind(7, "wl_shm", 1, 3), Err(Fault::NotOffered(2)), "as something else");
        assert_eq!(client.bind(8, "wl_compositor", 6, 3), Err(Fault::NotOffered(2)), "another number");
        assert_eq!(client.bind(7, "wl_compositor", 6, 3), Ok(()));
        assert_eq!(client.bind(7, "wl_compositor", 6, 3), Err(Fault::Number(3)), "a number that is taken");
        assert_eq!(client.bind(7, "wl_compositor", 6, 0xff00_0000), Err(Fault::Number(0xff00_0000)), "one of the server's");
    }

    #[test]
    fn messages_that_an_object_does_not_have_end_the_client() {
        let mut client = Connection::new();
        assert_eq!(client.request(&message(9, 0, vec![])), Err(Fault::NoObject(9)));
        assert_eq!(client.request(&message(2, 1, vec![])), Err(Fault::NoMessage(2)));
        client.global(7, "wl_compositor", 6);
        client.bind(7, "wl_compositor", 1, 3).unwrap();
        client.request(&message(3, 0, vec![Value::Word(4)])).unwrap();
        let set_buffer_scale = message(4, 8, vec![Value::Word(1)]);
        assert_eq!(client.request(&set_buffer_scale), Err(Fault::NoMessage(4)), "of a later version than the object's");
        client.request(&message(4, 0, vec![])).unwrap();
        assert_eq!(client.request(&message(4, 6, vec![])), Err(Fault::NoObject(4)), "destroyed");
        assert_eq!(client.request(&message(3, 0, vec![Value::Word(4)])), Err(Fault::Number(4)), "not yet free");
        let free = message(1, 1, vec![Value::Word(4)]);
        assert_eq!(client.event(&free), free);
        client.request(&message(3, 0, vec![Value::Word(4)])).unwrap();
    }

    #[test]
    fn g6_what_tells_of_the_monitor_and_the_seat_is_constant() {
        let seen = |make: &str, size: u32| {
            let mut client = Connection::new();
            client.global(1, "wl_output", 4);
            client.global(2, "wl_seat", 8);
            client.bind(1, "wl_output", 4, 3).unwrap();
            client.bind(2, "wl_seat", 8, 4).unwrap();
            let word = Value::Word;
            let geometry = message(3, 0, vec![word(0), word(0), word(size), word(size), word(1), text(make), text(make), word(0)]);
            let events = [geometry, message(3, 4, vec![text(make)]), message(3, 5, vec![text(make)]), message(4, 1, vec![text(make)])];
            client.event(&events.concat())
        };
        let one = seen("Acme", 300);
        assert_eq!(one, seen("Other", 700));
        assert!(String::from_utf8_lossy(&one).contains("torbox") && !String::from_utf8_lossy(&one).contains("Acme"));
    }

    #[test]
    fn the_keyboards_map_is_a_copy() {
        let mut client = Connection::new();
        client.global(2, "wl_seat", 8);
        client.bind(2, "wl_seat", 8, 3).unwrap();
        client.request(&message(3, 1, vec![Value::Word(4)])).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"xkb_keymap").unwrap();
        let event = message(4, 0, vec![Value::Word(1), Value::Word(10)]);
        let passed = client.pass(Way::Event, &event, vec![file.reopen().unwrap().into()]).unwrap();
        let [copy] = <[OwnedFd; 1]>::try_from(passed.descriptors).unwrap();
        let mut read = [0; 16];
        let count = rustix::io::pread(&copy, &mut read, 0).unwrap();
        assert_eq!(&read[..count], b"xkb_keymap");
        assert!(File::from(copy).write_all(b"x").is_err(), "sealed");
    }

    #[test]
    fn descriptors_go_with_their_messages_and_no_others() {
        let mut client = Connection::new();
        client.global(1, "wl_shm", 1);
        client.bind(1, "wl_shm", 1, 3).unwrap();
        let create_pool = message(3, 0, vec![Value::Word(4), Value::Word(4096)]);
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        assert_eq!(client.pass(Way::Request, &create_pool, vec![]).map(|_| ()), Err(Fault::Malformed(Malformed::Descriptor)));
        assert_eq!(client.pass(Way::Request, &create_pool, vec![file(), file()]).unwrap().descriptors.len(), 1, "the other one waits for its message");
        let many = (0..=PENDING_DESCRIPTORS).map(|_| file()).collect();
        assert_eq!(client.pass(Way::Request, &[], many).map(|_| ()), Err(Fault::Descriptors));
    }

    /// Whatever comes, it is judged without a panic, and what goes on can be read again.
    #[test]
    fn noise_is_judged() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let (mut faults, mut passes) = (0, 0);
        for _ in 0..50_000 {
            let mut client = Connection::new();
            client.global(1, "wl_compositor", 6);
            client.bind(1, "wl_compositor", 6, 3).unwrap();
            let count = 8 + 4 * next(6);
            let mut bytes: Vec<u8> = (0..count).map(|_| if next(3) == 0 { next(256) as u8 } else { next(4) as u8 }).collect();
            bytes[..8].copy_from_slice(&[(1 + next(4)).to_ne_bytes()[..4].to_vec(), ((count << 16) as u32 | next(6) as u32).to_ne_bytes().to_vec()].concat());
            match client.request(&bytes) {
                Ok(passed) => {
                    passes += 1;
                    assert_eq!(passed.len(), bytes.len());
                }
                Err(fault) => {
                    faults += 1;
                    assert!(Header::peek(&fault.event()).unwrap().is_some());
                }
            }
        }
        assert!(faults > 1000 && passes > 1000, "{faults} faults, {passes} passed");
    }
}
