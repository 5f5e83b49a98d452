//! What goes on, in which form, and what ends a client. Sans-I/O but for the keyboard's map.
//!
//! A global that the policy does not name is never advertised; a client that binds it all the same, or breaks the protocol, gets
//! `wl_display.error` and is ended. Numbers of objects are the client's and the server's own: none is translated. Those of globals
//! are: which one a compositor gives to what, and in which order it offers, would tell which compositor it is.

use super::objects::{Maker, Object, Objects, Unusable};
use super::wire::{self, HEADER, Header, Malformed, Value};
use super::{keymap, tables};
use crate::judge::{Passed, Stream};
use crate::config::Terms;
use crate::policy::wayland::{BATCHES, CHOICES, CONSTANTS, CROSSINGS, GLOBALS, HANDS};
use crate::policy::{Batch, Crosses, Fixed, HELD_BYTES, PENDING_DESCRIPTORS, Way};
use rustix::fd::OwnedFd;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
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

/// A global as it was offered to the client, by the number that the client knows.
struct Offer {
    /// The compositor's number.
    name: u32,
    interface: &'static Interface,
    version: u32,
}

/// The state of one connection.
pub(crate) struct Filter {
    objects: Objects,
    offers: BTreeMap<u32, Offer>,
    /// What registries that were just asked for have been offered, by the client's numbers: it goes on in their order, and before
    /// whatever else the compositor says. Clients wait for that, as nothing else tells them that they have heard of all globals.
    held: BTreeMap<u32, BTreeMap<u32, Vec<u8>>>,
    /// By object, the events of a batch that has not ended, by their places in the protocol.
    batches: BTreeMap<u32, BTreeMap<u16, Vec<u8>>>,
    terms: Terms,
    /// What late events count their time from.
    begun: Instant,
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
    /// It is one of the globals that a new registry is offered: this one, by the client's number.
    Hold(u32),
}

impl Filter {
    pub(crate) fn new(terms: Terms) -> Self {
        let objects = Objects::new(tables::display());
        Self { objects, offers: BTreeMap::new(), held: BTreeMap::new(), batches: BTreeMap::new(), terms, begun: Instant::now() }
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
        if way == Way::Event && !self.terms.jitter.is_zero() {
            self.put_off(&mut message, passed);
        }
        match self.judge(way, &mut message)? {
            Verdict::Drop => return Ok(()),
            Verdict::Hold(name) => {
                let mut offer = Vec::new();
                wire::write(number, header.opcode, message.values, &mut offer, &mut passed.descriptors)?;
                self.held.entry(number).or_default().insert(name, offer);
                return Ok(());
            }
            Verdict::Pass => {}
        }
        if way == Way::Event {
            self.let_go(passed);
        }
        self.follow(way, &message)?;
        let of_it = |batch: &&Batch| way == Way::Event && batch.interface == message.object.interface.name && batch.since <= message.object.version;
        let Some(batch) = BATCHES.iter().find(of_it) else {
            return Ok(wire::write(number, header.opcode, message.values, &mut passed.bytes, &mut passed.descriptors)?);
        };
        let mut event = Vec::new();
        wire::write(number, header.opcode, message.values, &mut event, &mut passed.descriptors)?;
        if batch.end == message.kind.name {
            self.end_batch(number, &event, passed);
        } else {
            self.batches.entry(number).or_default().insert(header.opcode, event);
        }
        Ok(())
    }

    /// What was kept of the object goes on, with the `end` that alone says nothing.
    fn end_batch(&mut self, number: u32, end: &[u8], passed: &mut Passed) {
        if let Some(events) = self.batches.remove(&number) {
            events.values().map(Vec::as_slice).chain([end]).for_each(|event| passed.bytes.extend(event));
        }
    }

    /// The offers that were held; a registry that has none yet waits for its own.
    fn let_go(&mut self, passed: &mut Passed) {
        self.held.retain(|_, offers| {
            offers.values().for_each(|offer| passed.bytes.extend(offer));
            offers.is_empty()
        });
    }

    fn judge(&mut self, way: Way, message: &mut Message<'_>) -> Result<Verdict, Fault> {
        match (way, message.object.interface.name, message.kind.name) {
            (Way::Request, "wl_registry", "bind") => self.bind(message),
            (Way::Event, "wl_registry", "global") => Ok(self.offer(message)),
            (Way::Event, "wl_registry", "global_remove") => Ok(self.removed(message)),
            (Way::Event, "wl_keyboard", "keymap") => own_keymap(message),
            (Way::Event, "wl_keyboard", "modifiers") => Ok(real_modifiers(message)),
            (_, interface, name) if self.forbids(way, interface, name) => Ok(Verdict::Drop),
            _ => Ok(by_policy(way, message)),
        }
    }

    /// Whether it carries what was copied a way that the user does not want.
    fn forbids(&self, way: Way, interface: &str, name: &str) -> bool {
        let clipboard = self.terms.clipboard;
        CROSSINGS.iter().any(|rule| {
            let allowed = if rule.crosses == Crosses::In { clipboard.lets_in() } else { clipboard.lets_out() };
            !allowed && (rule.way, rule.interface, rule.message) == (way, interface, name)
        })
    }

    /// What the user's hands did goes on later, with all that is read together with it, and says that time.
    fn put_off(&self, message: &mut Message<'_>, passed: &mut Passed) {
        let Some(hand) = HANDS.iter().find(|hand| (hand.interface, hand.message) == (message.object.interface.name, message.kind.name)) else { return };
        let due = *passed.due.get_or_insert_with(|| Instant::now() + some_of(self.terms.jitter));
        if let Some(stamp) = hand.stamp.and_then(|place| message.values.get_mut(place)) {
            let since = due.saturating_duration_since(self.begun).as_millis();
            *stamp = Value::Word(u32::try_from(since & u128::from(u32::MAX)).unwrap_or_default());
        }
    }

    /// Offers a global that the policy names, in a version that it allows, under a number that its place in the policy gives it.
    fn offer(&mut self, message: &mut Message<'_>) -> Verdict {
        let [Value::Word(name), Value::Text(Some(interface)), Value::Word(version)] = message.values.as_mut_slice() else { return Verdict::Drop };
        let named = |(_, rule): &(u32, &crate::policy::Global)| rule.interface.as_bytes() == *interface;
        let rule = (1..).zip(GLOBALS).find(named).and_then(|(place, rule)| Some((place, rule.version, tables::interface(rule.interface)?)));
        let Some((place, most, interface)) = rule else { return Verdict::Drop };
        *version = (*version).min(most).min(interface.version);
        let own = self.number(place, *name);
        self.offers.insert(own, Offer { name: std::mem::replace(name, own), interface, version: *version });
        if self.held.contains_key(&message.number) { Verdict::Hold(own) } else { Verdict::Pass }
    }

    /// The client's number of the compositor's global `name`: that of an earlier registry, or the next of its kind.
    fn number(&self, place: u32, name: u32) -> u32 {
        let kinds = GLOBALS.len().max(1);
        let of_kind = self.offers.iter().filter(|(own, _)| **own as usize % kinds == place as usize % kinds);
        let mut count = 0;
        for (own, offer) in of_kind {
            if offer.name == name {
                return *own;
            }
            count += 1;
        }
        place.saturating_add(u32::try_from(kinds).unwrap_or(u32::MAX).saturating_mul(count))
    }

    /// A client may bind a global that is just being removed: the offer stays.
    fn removed(&self, message: &mut Message<'_>) -> Verdict {
        let [Value::Word(name)] = message.values.as_mut_slice() else { return Verdict::Drop };
        let Some((own, _)) = self.offers.iter().find(|(_, offer)| offer.name == *name) else { return Verdict::Drop };
        *name = *own;
        Verdict::Pass
    }

    fn bind(&mut self, message: &mut Message<'_>) -> Result<Verdict, Fault> {
        let refused = Fault::NotOffered(message.number);
        let [Value::Word(name), Value::Text(Some(interface)), Value::Word(version), Value::Word(id)] = message.values.as_mut_slice() else { return Err(refused) };
        let offer = self.offers.get(name).filter(|offer| offer.interface.name.as_bytes() == *interface && (1..=offer.version).contains(version)).ok_or(refused)?;
        *name = offer.name;
        let (id, interface, version) = (*id, offer.interface, *version);
        self.add(id, Maker::Client, interface, version)?;
        Ok(Verdict::Pass)
    }

    /// Keeps account of the objects that a message makes and ends.
    fn follow(&mut self, way: Way, message: &Message<'_>) -> Result<(), Fault> {
        let maker = if way == Way::Request { Maker::Client } else { Maker::Server };
        if let Some(interface) = message.kind.child_interface {
            let made = message.kind.signature.iter().zip(&message.values).filter(|(kind, _)| **kind == ArgumentType::NewId);
            for (_, id) in made {
                self.add(id.word(), maker, interface, message.object.version)?;
                if interface.name == "wl_registry" {
                    self.held.insert(id.word(), BTreeMap::new());
                }
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
        self.batches.remove(&id);
        self.objects.add(id, maker, interface, version).map_err(|unusable| match unusable {
            Unusable::Number => Fault::Number(id),
            Unusable::TooMany => Fault::TooMany,
        })
    }
}

/// Says whether what is left to choice is one of the chosen, and sets what is constant.
fn by_policy(way: Way, message: &mut Message<'_>) -> Verdict {
    let (interface, name) = (message.object.interface.name, message.kind.name);
    let choice = CHOICES.iter().find(|rule| way == Way::Event && rule.interface == interface && rule.message == name);
    if choice.is_some_and(|rule| message.values.get(rule.argument).is_none_or(|value| !rule.only.contains(&value.word()))) {
        return Verdict::Drop;
    }
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
    Verdict::Pass
}

/// A random part of it. Where the kernel has no random numbers it is the whole.
fn some_of(most: Duration) -> Duration {
    let mut random = [0; 4];
    match rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()) {
        Ok(4) => most.mul_f64(f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX)),
        _ => most,
    }
}

fn own_keymap(message: &mut Message<'_>) -> Result<Verdict, Fault> {
    if let [_, Value::Descriptor(map), Value::Word(size)] = message.values.as_mut_slice() {
        (*map, *size) = keymap::own(map, *size).map_err(|_| Fault::Keymap)?;
    }
    Ok(Verdict::Pass)
}

/// Those that a map of torbox's own has.
fn real_modifiers(message: &mut Message<'_>) -> Verdict {
    if let [_, Value::Word(held), Value::Word(latched), Value::Word(locked), _] = message.values.as_mut_slice() {
        [held, latched, locked].into_iter().for_each(|mask| *mask &= 0xff);
    }
    Verdict::Pass
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Clipboard;
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

    struct Connection {
        filter: Filter,
        callback: u32,
    }

    impl Connection {
        /// A client that has a registry, as object 2.
        fn new() -> Self {
            Self::on(Terms::NONE)
        }

        fn on(terms: Terms) -> Self {
            let mut connection = Self { filter: Filter::new(terms), callback: 1000 };
            connection.request(&message(1, 1, vec![Value::Word(2)])).unwrap();
            connection
        }

        fn pass(&mut self, way: Way, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<Passed, Fault> {
            let mut passed = Passed::default();
            let mut stream = Stream { bytes: bytes.to_vec(), descriptors: descriptors.into() };
            self.filter.pass(way, &mut stream, &mut passed).map(|()| passed)
        }

        fn request(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
            self.pass(Way::Request, bytes, Vec::new()).map(|passed| passed.bytes)
        }

        fn event(&mut self, bytes: &[u8]) -> Vec<u8> {
            self.pass(Way::Event, bytes, Vec::new()).unwrap().bytes
        }

        /// What the client sees of globals, and the numbers it knows them by.
        fn globals(&mut self, offers: &[(u32, &str, u32)]) -> (Vec<u8>, Vec<u32>) {
            let mut seen = Vec::new();
            for (name, interface, version) in offers {
                seen.extend(self.event(&message(2, 0, vec![Value::Word(*name), text(interface), Value::Word(*version)])));
            }
            // What a client does to know that it has heard of all.
            self.callback += 1;
            self.request(&message(1, 0, vec![Value::Word(self.callback)])).unwrap();
            seen.extend(self.event(&message(self.callback, 0, vec![Value::Word(0)])));
            seen.truncate(seen.len() - 12);
            let (mut numbers, mut rest) = (Vec::new(), seen.as_slice());
            while let Some(header) = Header::peek(rest).unwrap() {
                numbers.push(u32::from_ne_bytes(rest[8..12].try_into().unwrap()));
                rest = &rest[header.size..];
            }
            (seen, numbers)
        }

        /// The number by which the client knows the only one.
        fn global(&mut self, name: u32, interface: &str, version: u32) -> u32 {
            self.globals(&[(name, interface, version)]).1[0]
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
        for rule in BATCHES {
            assert!(kind(Way::Event, rule.interface, rule.end).since <= rule.since && !rule.reason.is_empty());
        }
        for rule in GLOBALS {
            assert!(!rule.reason.is_empty() && (1..=tables::interface(rule.interface).unwrap().version).contains(&rule.version), "{}", rule.interface);
        }
    }

    #[test]
    fn what_is_not_named_is_neither_offered_nor_bound() {
        for hidden in ["zwlr_screencopy_manager_v1", "zwp_virtual_keyboard_manager_v1", "zwlr_data_control_manager_v1", "zwp_linux_dmabuf_v1", "wl_compositorx", ""] {
            let mut client = Connection::new();
            assert_eq!(client.globals(&[(7, hidden, 1)]).0, [0_u8; 0], "{hidden}");
            assert_eq!(client.bind(7, hidden, 1, 3), Err(Fault::NotOffered(2)), "{hidden}");
            assert_eq!(client.event(&message(2, 1, vec![Value::Word(7)])), [0_u8; 0], "its end is not told either");
        }
        let mut client = Connection::new();
        let offered = message(2, 0, vec![Value::Word(1), text("wl_compositor"), Value::Word(4)]);
        assert_eq!(client.globals(&[(7, "wl_compositor", 99)]), (offered, vec![1]), "in a version that can be read, by the place in the policy");
        assert_eq!(client.bind(1, "wl_compositor", 5, 3), Err(Fault::NotOffered(2)), "a later version");
        assert_eq!(client.bind(1, "wl_compositor", 0, 3), Err(Fault::NotOffered(2)), "no version");
        assert_eq!(client.bind(1, "wl_shm", 1, 3), Err(Fault::NotOffered(2)), "as something else");
        assert_eq!(client.bind(7, "wl_compositor", 4, 3), Err(Fault::NotOffered(2)), "the compositor's number");
        assert_eq!(client.bind(1, "wl_compositor", 4, 3), Ok(()));
        assert_eq!(client.bind(1, "wl_compositor", 4, 3), Err(Fault::Number(3)), "a number that is taken");
        assert_eq!(client.bind(1, "wl_compositor", 4, 0xff00_0000), Err(Fault::Number(0xff00_0000)), "one of the server's");
    }

    #[test]
    fn g6_the_order_and_the_numbers_of_globals_are_the_policys() {
        let [mut one, mut other] = [Connection::new(), Connection::new()];
        let seen = one.globals(&[(1, "wl_shm", 1), (2, "zwlr_screencopy_manager_v1", 3), (3, "wl_output", 3), (4, "wl_compositor", 4), (40, "wl_output", 3)]);
        assert_eq!(seen, other.globals(&[(9, "wl_output", 4), (10, "wl_output", 4), (12, "wl_compositor", 6), (30, "wl_shm", 2)]));
        assert_eq!(seen.1, [1, 3, 5, 5 + GLOBALS.len() as u32]);
        let bound = one.request(&message(2, 0, vec![Value::Word(seen.1[3]), text("wl_output"), Value::Word(3), Value::Word(3)])).unwrap();
        assert_eq!(bound, message(2, 0, vec![Value::Word(40), text("wl_output"), Value::Word(3), Value::Word(3)]), "the second output's own number");
        assert_eq!(one.event(&message(2, 1, vec![Value::Word(3)])), message(2, 1, vec![Value::Word(seen.1[2])]), "the first one was taken away");
        let later = message(2, 0, vec![Value::Word(41), text("wl_output"), Value::Word(3)]);
        let number = 5 + 2 * GLOBALS.len() as u32;
        assert_eq!(one.event(&later), message(2, 0, vec![Value::Word(number), text("wl_output"), Value::Word(3)]), "at once, and with a number of its own");
        one.request(&message(1, 1, vec![Value::Word(50)])).unwrap();
        one.request(&message(1, 0, vec![Value::Word(51)])).unwrap();
        assert_eq!(one.event(&message(51, 0, vec![Value::Word(0)])).len(), 12, "what comes before is not held");
        let again = |object| message(object, 0, vec![Value::Word(40), text("wl_output"), Value::Word(3)]);
        assert_eq!(one.event(&again(50)), [0_u8; 0], "a second registry's are held likewise");
        let other = message(2, 0, vec![Value::Word(41), text("wl_output"), Value::Word(3)]);
        let known = message(50, 0, vec![Value::Word(seen.1[3]), text("wl_output"), Value::Word(3)]);
        assert_eq!(one.event(&other), [known, message(2, 0, vec![Value::Word(number), text("wl_output"), Value::Word(3)])].concat(), "and have the same numbers");
    }

    #[test]
    fn messages_that_an_object_does_not_have_end_the_client() {
        let mut client = Connection::new();
        assert_eq!(client.request(&message(9, 0, vec![])), Err(Fault::NoObject(9)));
        assert_eq!(client.request(&message(2, 1, vec![])), Err(Fault::NoMessage(2)));
        let number = client.global(7, "wl_compositor", 6);
        client.bind(number, "wl_compositor", 1, 3).unwrap();
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
            let (output, seat) = (client.global(1, "wl_output", 4), client.global(2, "wl_seat", 8));
            client.bind(output, "wl_output", 3, 3).unwrap();
            client.bind(seat, "wl_seat", 7, 4).unwrap();
            let word = Value::Word;
            let geometry = message(3, 0, vec![word(0), word(0), word(size), word(size), word(1), text(make), text(make), word(0)]);
            let mode = |flags, width| message(3, 1, vec![word(flags), word(width), word(800), word(size * 100)]);
            let (scale, done) = (message(3, 3, vec![word(1)]), message(3, 2, vec![]));
            let batch = if size == 300 { [geometry, mode(1, 1280), mode(2, size), scale] } else { [scale, mode(0, size), mode(3, 1280), geometry] };
            assert_eq!(client.event(&batch.concat()), [0_u8; 0], "until all is there");
            let told = client.event(&done);
            assert_eq!(client.event(&done), [0_u8; 0], "that nothing more has changed");
            [told, client.event(&message(4, 1, vec![text(make)]))].concat()
        };
        let one = seen("Acme", 300);
        assert_eq!(one.len(), 56 + 24 + 12 + 8 + 20, "geometry, mode, scale, done; the seat's name");
        assert_eq!(one, seen("Other", 700));
        assert!(String::from_utf8_lossy(&one).contains("torbox") && !String::from_utf8_lossy(&one).contains("Acme"));
    }

    #[test]
    fn the_keyboards_map_is_torboxs_own() {
        let mut client = Connection::new();
        let seat = client.global(2, "wl_seat", 8);
        client.bind(seat, "wl_seat", 7, 3).unwrap();
        client.request(&message(3, 1, vec![Value::Word(4)])).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"xkb_keymap").unwrap();
        let event = message(4, 0, vec![Value::Word(1), Value::Word(10)]);
        let passed = client.pass(Way::Event, &event, vec![file.reopen().unwrap().into()]).unwrap();
        let [copy] = <[OwnedFd; 1]>::try_from(passed.descriptors).unwrap();
        let mut read = vec![0; 1 << 16];
        let count = rustix::io::pread(&copy, &mut read, 0).unwrap();
        assert!(read.starts_with(b"xkb_keymap {\nxkb_keycodes \"torbox\""), "{}", String::from_utf8_lossy(&read[..count]));
        assert_eq!(read[count - 1], 0);
        assert_eq!(passed.bytes[12..], u32::try_from(count).unwrap().to_ne_bytes());
        assert!(File::from(copy).write_all(b"x").is_err(), "sealed");
    }

    #[test]
    fn descriptors_go_with_their_messages_and_no_others() {
        let mut client = Connection::new();
        let shm = client.global(1, "wl_shm", 1);
        client.bind(shm, "wl_shm", 1, 3).unwrap();
        let create_pool = message(3, 0, vec![Value::Word(4), Value::Word(4096)]);
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        assert_eq!(client.pass(Way::Request, &create_pool, vec![]).map(|_| ()), Err(Fault::Malformed(Malformed::Descriptor)));
        assert_eq!(client.pass(Way::Request, &create_pool, vec![file(), file()]).unwrap().descriptors.len(), 1, "the other one waits for its message");
        let many = (0..=PENDING_DESCRIPTORS).map(|_| file()).collect();
        assert_eq!(client.pass(Way::Request, &[], many).map(|_| ()), Err(Fault::Descriptors));
    }

    /// A client with a data device as object 4, a source as 5, and an offer of the compositor's.
    fn with_a_clipboard(clipboard: Clipboard) -> Connection {
        let mut client = Connection::on(Terms { clipboard, ..Terms::NONE });
        let manager = client.global(7, "wl_data_device_manager", 3);
        client.bind(manager, "wl_data_device_manager", 3, 3).unwrap();
        let seat = client.global(2, "wl_seat", 8);
        client.bind(seat, "wl_seat", 7, 6).unwrap();
        client.request(&message(3, 1, vec![Value::Word(4), Value::Word(6)])).unwrap();
        client.request(&message(3, 0, vec![Value::Word(5)])).unwrap();
        assert_eq!(client.event(&message(4, 0, vec![Value::Word(OFFER)])).len(), 12);
        client
    }

    /// The first number of the compositor's own objects.
    const OFFER: u32 = 0xff00_0000;

    #[test]
    fn what_is_copied_goes_the_ways_that_the_user_wants() {
        for clipboard in [Clipboard::Both, Clipboard::In, Clipboard::Out, Clipboard::None] {
            let mut client = with_a_clipboard(clipboard);
            let offered = client.event(&message(OFFER, 0, vec![text("text/plain")]));
            let mut ask = Vec::new();
            wire::write(OFFER, 1, vec![text("text/plain"), Value::Descriptor(tempfile::tempfile().unwrap().into())], &mut ask, &mut Vec::new()).unwrap();
            let asked = client.pass(Way::Request, &ask, vec![tempfile::tempfile().unwrap().into()]).unwrap();
            assert_eq!([offered.is_empty(), asked.bytes.is_empty(), asked.descriptors.is_empty()], [!clipboard.lets_in(); 3], "{clipboard:?}");
            let given = client.request(&message(5, 0, vec![text("text/plain")])).unwrap();
            let copied = client.request(&message(4, 1, vec![Value::Word(5), Value::Word(1)])).unwrap();
            assert_eq!([given.is_empty(), copied.is_empty()], [!clipboard.lets_out(); 2], "{clipboard:?}");
            // An offer of which nothing can be had is destroyed like any other.
            assert_eq!(client.request(&message(OFFER, 2, vec![])).unwrap().len(), 8);
        }
    }

    #[test]
    fn what_hands_do_is_late_and_says_when_it_goes_on() {
        let jitter = Duration::from_millis(200);
        let stamps_of = |terms: Terms| {
            let mut client = Connection::on(terms);
            let seat = client.global(2, "wl_seat", 8);
            client.bind(seat, "wl_seat", 7, 3).unwrap();
            client.request(&message(3, 1, vec![Value::Word(4)])).unwrap();
            let key = message(4, 3, vec![Value::Word(1), Value::Word(77_777), Value::Word(30), Value::Word(1)]);
            assert_eq!(client.pass(Way::Event, &message(3, 1, vec![text("seat7")]), Vec::new()).unwrap().due, None, "no hand's");
            let all: Vec<_> = (0..20).map(|_| client.pass(Way::Event, &key, Vec::new()).unwrap()).collect();
            all.into_iter().map(|passed| (u32::from_ne_bytes(passed.bytes[12..16].try_into().unwrap()), passed.due)).collect::<Vec<_>>()
        };
        assert!(stamps_of(Terms::NONE).iter().all(|told| *told == (77_777, None)));
        let begun = Instant::now();
        let late = stamps_of(Terms { jitter, ..Terms::NONE });
        let dues: Vec<_> = late.iter().map(|(_, due)| due.unwrap().duration_since(begun)).collect();
        assert!(dues.iter().all(|due| *due <= begun.elapsed() + jitter), "{dues:?}");
        let (first, last) = (*dues.iter().min().unwrap(), *dues.iter().max().unwrap());
        assert!(last - first > jitter / 4, "each by another time: {dues:?}");
        let off = late.iter().zip(&dues).map(|((stamp, _), due)| u128::from(*stamp).abs_diff(due.as_millis())).max().unwrap();
        assert!(off <= 20, "{late:?} for {dues:?}");
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
            let compositor = client.global(1, "wl_compositor", 4);
            client.bind(compositor, "wl_compositor", 4, 3).unwrap();
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
