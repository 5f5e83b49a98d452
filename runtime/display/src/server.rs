//! The loop: one thread, one epoll instance, nothing in it waits but epoll_wait itself. epoll(7).
//! It never decides what is allowed; it lets each connection move what it can, in turn.

use crate::config::{Clipboard, Config, Protocol, Terms};
use crate::judge::{Judge, Speech};
use crate::lane::{self, Broken, Ends, Lane, Waits};
use crate::nested::{HostError, Nested};
use crate::policy::{CONNECTIONS, Way, cage::SYSCALLS};
use crate::x11::Cookie;
use nix::sys::signalfd::SignalFd;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use torbox_gate::cage::Needs;
use torbox_gate::ending;
use torbox_gate::socket::{self, ListenError};

/// Events taken from the kernel at once.
const EVENTS: usize = 64;

/// Why the display does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A socket cannot be made.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A system call that cannot fail did.
    #[error("{0}")]
    System(&'static str, #[source] Errno),
    /// What opens the X server cannot be read.
    #[error("{0}: cannot be read")]
    Cookie(String, #[source] std::io::Error),
    /// Signals cannot be received.
    #[error("signals")]
    Signals(#[source] nix::errno::Errno),
    /// A display of the box's own has no server, or none any more.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// The display, listening.
pub struct Server {
    epoll: OwnedFd,
    _signals: SignalFd,
    listener: OwnedFd,
    /// What the parent said since the last newline.
    told: Vec<u8>,
    relay: Relay,
}

/// Clients, each with its own connection to what serves it.
struct Relay {
    upstream: Upstream,
    speech: Speech,
    connections: BTreeMap<u64, Connection>,
    /// Number of the next connection: never used twice, so that an event for a closed one finds nobody.
    next: u64,
    buffer: Vec<u8>,
}

/// Who serves clients.
enum Upstream {
    /// The user's display server.
    Server(SocketAddrUnix),
    /// The display itself, which hears of a client what the judge let pass.
    Nested(Box<Nested>),
}

/// A client and its own connection to the server.
pub(crate) struct Connection {
    client: Side,
    server: Side,
    /// What judges both directions.
    judge: Judge,
    /// From the client to the server.
    up: Lane,
    /// From the server to the client.
    down: Lane,
}

/// A socket and what epoll watches it for.
struct Side {
    socket: OwnedFd,
    token: u64,
    watched: EventFlags,
}

const SIGNALS: u64 = 0;
const LIFELINE: u64 = 1;
const LISTENER: u64 = 2;
/// What the parent asks for: what the browser copied, for its user. Nothing else is heeded.
const COPY: &[u8] = b"copy";
/// What the nested display waits for: it looks at everything whenever anything happens.
const NESTED: u64 = 3;
/// The first connection's number; it and its successor are the tokens of its client and of its server.
const FIRST: u64 = 4;

impl Server {
    /// Listens. When it returns, clients can connect.
    ///
    /// # Errors
    /// The listener cannot be made, or the kernel lacks something.
    pub fn start(config: &Config) -> Result<Self, ServerError> {
        let failed = |what| move |error| ServerError::System(what, error);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("epoll_create1"))?;
        let signals = ending::signals().map_err(ServerError::Signals)?;
        let listener = socket::listener(&config.listen)?;
        let watched = [(signals.as_fd(), SIGNALS), (rustix::stdio::stdin(), LIFELINE), (listener.as_fd(), LISTENER)];
        for (fd, token) in watched {
            epoll::add(&epoll, fd, EventData::new_u64(token), EventFlags::IN).map_err(failed("epoll_ctl"))?;
        }
        let mut relay = Relay::new(config)?;
        if let Upstream::Nested(nested) = &mut relay.upstream {
            for socket in nested.sockets() {
                epoll::add(&epoll, socket, EventData::new_u64(NESTED), EventFlags::IN).map_err(failed("epoll_ctl"))?;
            }
        }
        Ok(Self { epoll, _signals: signals, listener, told: Vec::new(), relay })
    }

    /// What the cage must leave.
    #[must_use]
    pub fn needs(&self) -> Needs<'_> {
        Needs { calls: SYSCALLS.iter().collect(), readable: None }
    }

    /// Serves until a signal or the end of the lifeline.
    ///
    /// # Errors
    /// epoll failed, or the X server of a nested display is gone: the display cannot go on.
    pub fn run(&mut self) -> Result<(), ServerError> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let limit = self.turn()?;
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), limit.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(ServerError::System("epoll_wait", error)),
            }
            for event in &events {
                match event.data.u64() {
                    SIGNALS => return Ok(()),
                    LIFELINE => match ending::lifeline() {
                        Some(said) => self.heed(&said),
                        None => return Ok(()),
                    },
                    NESTED => {}
                    LISTENER => self.accept(),
                    token => self.relay.advance(token & !1, &self.epoll),
                }
            }
        }
    }

    /// How long to wait at most.
    fn turn(&mut self) -> Result<Option<Timespec>, ServerError> {
        self.relay.deliver_what_is_due(&self.epoll);
        let nested = match &mut self.relay.upstream {
            Upstream::Server(_) => None,
            Upstream::Nested(nested) => nested.turn()?,
        };
        let late = self.relay.due().map(|due| due.saturating_duration_since(Instant::now()));
        Ok(nested.into_iter().chain(late).min().and_then(|limit| Timespec::try_from(limit).ok()))
    }

    fn heed(&mut self, said: &[u8]) {
        for &byte in said {
            match (byte, &mut self.relay.upstream) {
                (b'\n', Upstream::Nested(nested)) if std::mem::take(&mut self.told) == COPY => nested.take_out(),
                (b'\n', _) => self.told.clear(),
                _ if self.told.len() <= COPY.len() => self.told.push(byte),
                _ => {}
            }
        }
    }

    fn accept(&mut self) {
        if let Ok(client) = socket::accept(&self.listener) {
            self.relay.accept(client, &self.epoll);
        }
    }
}

impl Relay {
    fn new(config: &Config) -> Result<Self, ServerError> {
        let server = || socket::address(&config.server).map(Upstream::Server);
        // A display of the box's own keeps the clipboard itself: what the browser copied it can paste in any case.
        let own = Speech::Wayland(Terms { clipboard: Clipboard::Both, ..config.terms });
        let (upstream, speech) = match &config.protocol {
            Protocol::Wayland => (server()?, Speech::Wayland(config.terms)),
            Protocol::X11 { cookie: file } => (server()?, Speech::X11(cookie(file)?)),
            Protocol::Nested { cookie: file } => (Upstream::Nested(Box::new(Nested::on_x11(&config.server, &cookie(file)?, config.terms.clipboard)?)), own),
            Protocol::Served => (Upstream::Nested(Box::new(Nested::served(&config.server, config.terms.clipboard)?)), own),
        };
        Ok(Self { upstream, speech, connections: BTreeMap::new(), next: FIRST, buffer: lane::buffer() })
    }

    /// A client for whom there is no place, or no server, finds its connection closed.
    fn accept(&mut self, client: OwnedFd, epoll: &OwnedFd) {
        if self.connections.len() >= CONNECTIONS {
            return;
        }
        let server = match &mut self.upstream {
            Upstream::Server(address) => socket::dial(address).ok(),
            Upstream::Nested(nested) => nested.connect(),
        };
        let Some(server) = server else { return };
        let number = self.next;
        self.next += 2;
        self.connections.insert(number, Connection::new(client, server, number, &self.speech));
        self.advance(number, epoll);
    }

    /// When the next of what was put off goes on.
    fn due(&self) -> Option<Instant> {
        self.connections.values().filter_map(Connection::due).min()
    }

    fn deliver_what_is_due(&mut self, epoll: &OwnedFd) {
        let now = Instant::now();
        let due: Vec<_> = self.connections.iter().filter(|(_, connection)| connection.due().is_some_and(|due| due <= now)).map(|(number, _)| *number).collect();
        due.into_iter().for_each(|number| self.advance(number, epoll));
    }

    fn advance(&mut self, number: u64, epoll: &OwnedFd) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let moved = connection.turn(&mut self.buffer).and_then(|()| Ok(connection.watch(epoll)?));
        if moved.is_err() || connection.is_over() {
            self.connections.remove(&number);
        }
    }
}

/// Reads what opens the server, which the cage will not let it do later.
fn cookie(file: &Path) -> Result<Cookie, ServerError> {
    let bytes = std::fs::read(file).map_err(|error| ServerError::Cookie(file.display().to_string(), error))?;
    Ok(Cookie::parse(&bytes))
}

impl Connection {
    pub(crate) fn new(client: OwnedFd, server: OwnedFd, number: u64, speech: &Speech) -> Self {
        let (client, server) = (Side::new(client, number), Side::new(server, number + 1));
        Self { client, server, judge: Judge::new(speech), up: Lane::new(Way::Request), down: Lane::new(Way::Event) }
    }

    pub(crate) fn turn(&mut self, buffer: &mut [u8]) -> Result<(), Broken> {
        let (client, server) = (self.client.socket.as_fd(), self.server.socket.as_fd());
        let moved = self.up.turn(&mut Ends { from: client, to: server, buffer }, &mut self.judge);
        let moved = moved.and_then(|()| self.down.turn(&mut Ends { from: server, to: client, buffer }, &mut self.judge));
        if let Err(Broken::Fault(fault)) = &moved {
            self.down.say(client, &fault.message());
        }
        moved
    }

    fn due(&self) -> Option<Instant> {
        if let Waits::Time(due) = self.down.waits() { Some(due) } else { None }
    }

    fn is_over(&self) -> bool {
        [&self.up, &self.down].iter().all(|lane| lane.waits() == Waits::Nothing)
    }

    fn watch(&mut self, epoll: &OwnedFd) -> Result<(), Errno> {
        let (up, down) = (self.up.waits(), self.down.waits());
        self.client.watch(epoll, interest(up, down))?;
        self.server.watch(epoll, interest(down, up))
    }
}

/// What to watch a socket for: `from` it one lane reads, to it the other writes.
fn interest(from: Waits, to: Waits) -> EventFlags {
    let input = if from == Waits::Input { EventFlags::IN } else { EventFlags::empty() };
    let room = if to == Waits::Room { EventFlags::OUT } else { EventFlags::empty() };
    input | room
}

impl Side {
    fn new(socket: OwnedFd, token: u64) -> Self {
        Self { socket, token, watched: EventFlags::empty() }
    }

    /// Level-triggered. A socket from which nothing is wanted is not watched at all: epoll would tell of its end for ever.
    fn watch(&mut self, epoll: &OwnedFd, wanted: EventFlags) -> Result<(), Errno> {
        let data = EventData::new_u64(self.token);
        let socket: BorrowedFd<'_> = self.socket.as_fd();
        match (self.watched.is_empty(), wanted.is_empty()) {
            _ if self.watched == wanted => Ok(()),
            (true, false) => epoll::add(epoll, socket, data, wanted),
            (false, true) => epoll::delete(epoll, socket),
            _ => epoll::modify(epoll, socket, data, wanted),
        }?;
        self.watched = wanted;
        Ok(())
    }
}
