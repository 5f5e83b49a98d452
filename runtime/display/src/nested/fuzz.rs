//! What the fuzz target drives: a browser that says anything in the form of messages, through the judge, to a display that shows its windows to nobody,
//! while the user does anything. Not for the display's own use: it never runs in the program.

#![expect(clippy::panic, reason = "a broken invariant has to stop the fuzzer")]

use super::desk::{Desk, Id, Input, Wish};
use super::pixels::{Alpha, Picture, Rect};
use super::served::usual_keymap;
use super::{Host, HostError, Nested};
use crate::config::{Clipboard, Terms};
use crate::judge::Speech;
use crate::lane;
use crate::server::Connection;
use crate::wayland::wire::{self, HEADER, Header, Value};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{IoSlice, read};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::rc::Rc;

/// What the user does next, as bytes.
type Acts = Rc<RefCell<Vec<[u8; 5]>>>;

/// Shows nothing to nobody.
struct Nowhere {
    windows: BTreeMap<Id, Picture>,
    acts: Acts,
    socket: OwnedFd,
}

impl Nowhere {
    fn act(&mut self, [which, kind, code, x, y]: [u8; 5], desk: &mut Desk) {
        let window = self.windows.keys().nth(usize::from(which) % self.windows.len().max(1)).copied();
        let Some(window) = window else { return };
        let (pressed, modifiers, at) = (kind & 8 != 0, u16::from(kind >> 4), (i32::from(x) * 2 - 64, i32::from(y) * 2 - 64));
        desk.take(match kind % 8 {
            0 | 1 => Input::Key { window, code, pressed, modifiers },
            2 => Input::Button { window, button: code % 12, pressed, at, modifiers },
            3 => Input::Motion { window, at, modifiers },
            4 => Input::Focus { window, has: pressed },
            5 => {
                let size = (i32::from(x) + 1, i32::from(y) + 1);
                self.windows.insert(window, Picture::new(size, Alpha::Ignored));
                Input::Resized { window, size }
            }
            6 => Input::Exposed { window, rect: Rect::new(at.0, at.1, i32::from(code), i32::from(y)) },
            _ if pressed => Input::Closed { window },
            _ => Input::Left,
        });
    }
}

impl Host for Nowhere {
    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn hear(&mut self, desk: &mut Desk) -> Result<(), HostError> {
        for act in self.acts.take() {
            self.act(act, desk);
        }
        Ok(())
    }

    fn fulfil(&mut self, wish: Wish, desk: &mut Desk) -> Result<(), HostError> {
        match wish {
            Wish::Open { window, size, parent: _ } => {
                let size = (size.0.clamp(1, 256), size.1.clamp(1, 256));
                self.windows.insert(window, Picture::new(size, Alpha::Ignored));
                desk.take(Input::Resized { window, size });
                desk.take(Input::Focus { window, has: true });
            }
            Wish::Close { window } => drop(self.windows.remove(&window)),
            Wish::Paste => desk.pasted(b"what the user copied"),
            _ => {}
        }
        Ok(())
    }

    fn show(&mut self, desk: &mut Desk) -> Result<(), HostError> {
        for (id, canvas) in &mut self.windows {
            let drawn = desk.compose(*id, canvas);
            assert!(drawn.is_empty() || Rect::of(canvas.size()).intersection(drawn) == drawn, "{drawn:?} is not in the window");
        }
        Ok(())
    }

    fn hand_out(&mut self, text: &str) {
        assert!(text.len() <= 4 << 20, "more was taken out than may be");
    }

    fn flush(&mut self) -> Result<(), HostError> {
        Ok(())
    }

    fn pace(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// A client and its display.
struct Session {
    nested: Nested,
    connection: Connection,
    client: OwnedFd,
    acts: Acts,
    buffer: Vec<u8>,
    /// The next object's number.
    next: u32,
    /// The last word that the display said.
    heard: u32,
}

/// The client is ended.
struct Ended;

fn ends() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).unwrap_or_else(|error| panic!("{error}"))
}

impl Session {
    /// With everything bound that is offered, and a window.
    fn new() -> Result<Self, Ended> {
        let acts = Acts::default();
        let host = Nowhere { windows: BTreeMap::new(), acts: Rc::clone(&acts), socket: ends().0 };
        let mut nested = Nested::new(Box::new(host), usual_keymap(), Clipboard::Both).unwrap_or_else(|error| panic!("{error}"));
        let ((client, own), server) = (ends(), nested.connect().unwrap_or_else(|| panic!("no place for a client")));
        let connection = Connection::new(own, server, 0, &Speech::Wayland(Terms::NONE));
        let mut session = Self { nested, connection, client, acts, buffer: lane::buffer(), next: 4, heard: 0 };
        session.say(1, 1, vec![Value::Word(2)])?;
        session.say(1, 0, vec![Value::Word(3)])?;
        for (name, interface, version) in globals(&session.turn()?) {
            let id = session.new_object();
            session.say(2, 0, vec![Value::Word(name), Value::Text(Some(&interface)), Value::Word(version), Value::Word(id)])?;
        }
        session.turn()?;
        Ok(session)
    }

    fn new_object(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    fn say(&mut self, object: u32, opcode: u16, values: Vec<Value<'_>>) -> Result<(), Ended> {
        let mut bytes = Vec::new();
        wire::write(object, opcode, values, &mut bytes, &mut Vec::new()).unwrap_or_else(|error| panic!("{error:?}"));
        self.send(&bytes, None)
    }

    fn send(&self, bytes: &[u8], descriptor: Option<OwnedFd>) -> Result<(), Ended> {
        let descriptors: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        sendmsg(&self.client, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).map(drop).map_err(|_| Ended)
    }

    /// Lets everything happen that what was said brings about: what the display says to it.
    fn turn(&mut self) -> Result<Vec<u8>, Ended> {
        let mut said = Vec::new();
        for _ in 0..3 {
            self.connection.turn(&mut self.buffer).map_err(|_| Ended)?;
            self.nested.turn().unwrap_or_else(|error| panic!("{error}"));
            self.connection.turn(&mut self.buffer).map_err(|_| Ended)?;
            while let Ok(count) = read(&self.client, self.buffer.as_mut_slice()) {
                if count == 0 {
                    return Err(Ended);
                }
                said.extend_from_slice(self.buffer.get(..count).unwrap_or_default());
            }
        }
        if let Some(word) = said.last_chunk() {
            self.heard = u32::from_ne_bytes(*word);
        }
        Ok(said)
    }

    /// What a byte stands for in a message: mostly a small number, which may be an object's or a text's length.
    fn word(&mut self, byte: u8) -> u32 {
        match byte {
            255 => self.new_object(),
            254 => self.next - 1,
            253 => self.heard,
            252 => i32::MAX.unsigned_abs(),
            251 => i32::MIN.unsigned_abs(),
            250 => u32::MAX,
            240..250 => 1 << (byte - 232),
            200..240 => u32::MAX - u32::from(byte - 200),
            _ => u32::from(byte),
        }
    }

    /// Says, or does, what `bytes` begin with: what is left of them.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Ended> {
        let Some((kind, rest)) = bytes.split_first() else { return Ok(&[]) };
        if kind % 4 == 3 {
            let Some((act, rest)) = rest.split_first_chunk() else { return Ok(&[]) };
            self.acts.borrow_mut().push(*act);
            self.turn()?;
            return Ok(rest);
        }
        let Some(([object, opcode, words], rest)) = rest.split_first_chunk() else { return Ok(&[]) };
        let (values, rest) = rest.split_at_checked(usize::from(words % 12)).unwrap_or((rest, &[]));
        let object = if *object >= 240 { 0xff00_0000 + u32::from(object - 240) } else { u32::from(*object) };
        let size = u32::try_from(HEADER + 4 * values.len()).unwrap_or_default();
        let mut message = [object.to_ne_bytes(), (size << 16 | u32::from(opcode % 20)).to_ne_bytes()].concat();
        values.iter().for_each(|byte| message.extend(self.word(*byte).to_ne_bytes()));
        let descriptor = (kind & 4 != 0).then(|| memory(*kind)).flatten();
        self.send(&message, descriptor)?;
        // Some say much before they listen.
        if kind & 8 == 0 {
            self.turn()?;
        }
        Ok(rest)
    }
}

/// A file to draw in.
fn memory(kind: u8) -> Option<OwnedFd> {
    let file = memfd_create("fuzz", MemfdFlags::CLOEXEC).ok()?;
    ftruncate(&file, u64::from(kind >> 4) << 10).ok()?;
    Some(file)
}

/// Name, interface and version of every global that is offered.
fn globals(said: &[u8]) -> Vec<(u32, Vec<u8>, u32)> {
    let (mut found, mut rest) = (Vec::new(), said);
    while let Ok(Some(header)) = Header::peek(rest) {
        let Some((message, after)) = rest.split_at_checked(header.size) else { break };
        let word = |at: usize| message.get(at..).and_then(|from| from.first_chunk()).map_or(0, |word| u32::from_ne_bytes(*word));
        if (header.object, header.opcode) == (2, 0) {
            let length = word(12) as usize;
            let text = message.get(16..16 + length.saturating_sub(1)).unwrap_or_default();
            found.push((word(8), text.to_vec(), word(16 + length.next_multiple_of(4))));
        }
        rest = after;
    }
    found
}

/// A whole session; whether the client was ended in it.
#[must_use]
pub fn session(bytes: &[u8]) -> bool {
    let mut session = Session::new().unwrap_or_else(|Ended| panic!("a client that begins in order is ended"));
    let (mut rest, mut ended) = (bytes, false);
    while !rest.is_empty() && !ended {
        match session.step(rest) {
            Ok(more) => rest = more,
            Err(Ended) => ended = true,
        }
    }
    // The display outlives every client.
    drop(session.client);
    session.nested.turn().unwrap_or_else(|error| panic!("{error}"));
    ended
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_are_sessions_in_order() {
        let seeds = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/session")).unwrap();
        let ended: Vec<_> = seeds.map(|seed| seed.unwrap().path()).filter(|seed| super::session(&std::fs::read(seed).unwrap())).collect();
        assert!(ended.is_empty(), "{ended:?}");
        assert!(super::session(&[0, 1, 9, 0]), "a message that there is not ends a client");
    }
}
