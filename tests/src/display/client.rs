//! A Wayland client that speaks the wire format itself, and so can say what no library would.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

const PATIENCE: Duration = Duration::from_secs(10);
const REGISTRY: u32 = 2;
/// The first number that is free for what a test makes.
const FIRST: u32 = 3;

/// A global as a compositor offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Its number.
    pub name: u32,
    /// Its interface.
    pub interface: String,
    /// Its version.
    pub version: u32,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of which object.
    pub object: u32,
    /// Which.
    pub opcode: u16,
    /// Its arguments, as they came.
    pub body: Vec<u8>,
}

/// A connection with a registry.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    next: u32,
    /// Descriptors that came and were not taken yet.
    descriptors: VecDeque<OwnedFd>,
    /// What the compositor offered.
    pub globals: Vec<Global>,
}

/// A message in the wire format.
#[must_use]
pub fn message(object: u32, opcode: u16, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).unwrap_or(u32::MAX);
    [&object.to_ne_bytes(), &(size << 16 | u32::from(opcode)).to_ne_bytes(), body].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn text(text: &str) -> Vec<u8> {
    let count = text.len() + 1;
    let mut bytes = [&u32::try_from(count).unwrap_or(u32::MAX).to_ne_bytes(), text.as_bytes(), &[0]].concat();
    bytes.resize(4 + count.next_multiple_of(4), 0);
    bytes
}

fn word(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(4 * place..4 * place + 4)?.try_into().ok()?))
}

fn global(event: &Event) -> Option<Global> {
    let count = word(&event.body, 1)? as usize;
    let interface = String::from_utf8_lossy(event.body.get(8..8 + count.saturating_sub(1))?).into_owned();
    Some(Global { name: word(&event.body, 0)?, interface, version: word(&event.body, 2 + count.div_ceil(4))? })
}

impl Client {
    /// Connects, and learns what is offered.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { stream, next: FIRST, descriptors: VecDeque::new(), globals: Vec::new() };
        client.send(&message(1, 1, &words(&[REGISTRY])))?;
        let events = client.round_trip()?;
        client.globals = events.iter().filter(|event| (event.object, event.opcode) == (REGISTRY, 0)).filter_map(global).collect();
        Ok(client)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("the compositor does not read")
    }

    /// The socket, for what a message cannot do.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Asks for a global; the events until the compositor has done it. An error is the compositor's.
    pub fn bind(&mut self, global: &Global) -> Result<Vec<Event>> {
        self.bind_numbered(global).map(|(_, events)| events)
    }

    /// The same, with the object's number.
    pub fn bind_numbered(&mut self, global: &Global) -> Result<(u32, Vec<Event>)> {
        let id = self.number();
        let body = [words(&[global.name]), text(&global.interface), words(&[global.version, id])].concat();
        self.send(&message(REGISTRY, 0, &body))?;
        Ok((id, self.round_trip()?))
    }

    /// Asks `object` for a new one, which takes `arguments` after its number; the events until the compositor has done it.
    pub fn make(&mut self, object: u32, opcode: u16, arguments: &[u32]) -> Result<Vec<Event>> {
        let id = self.number();
        self.send(&message(object, opcode, &words(&[&[id], arguments].concat())))?;
        self.round_trip()
    }

    /// The events until the compositor has done all that it was asked. An error is the compositor's, or its hanging up.
    pub fn round_trip(&mut self) -> Result<Vec<Event>> {
        let callback = self.number();
        // Whoever has hung up by now said why before: that is read next.
        self.send(&message(1, 0, &words(&[callback]))).ok();
        let mut events = Vec::new();
        loop {
            let event = self.event()?;
            match (event.object, event.opcode) {
                (1, 0) => bail!("protocol error: {}", String::from_utf8_lossy(event.body.get(12..).unwrap_or_default()).trim_end_matches('\0')),
                (object, 0) if object == callback => return Ok(events),
                // A number that is free again: nothing of what was asked.
                (1, _) => {}
                _ => events.push(event),
            }
        }
    }

    /// What the next descriptor that came holds, up to its end or the first 0.
    pub fn contents(&mut self) -> Result<String> {
        let file = File::from(self.descriptors.pop_front().context("no descriptor came")?);
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned())
    }

    fn read(&mut self, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(28))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let count = recvmsg(&self.stream, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
            ensure!(count > 0, "it is closed");
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    self.descriptors.extend(rights);
                }
            }
            bytes = bytes.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    fn event(&mut self) -> Result<Event> {
        let mut header = [0; 8];
        self.read(&mut header).context("the compositor hung up")?;
        let (object, second) = (word(&header, 0).unwrap_or_default(), word(&header, 1).unwrap_or_default());
        let mut body = vec![0; (second >> 16).saturating_sub(8) as usize];
        self.read(&mut body)?;
        Ok(Event { object, opcode: (second & 0xffff) as u16, body })
    }
}
