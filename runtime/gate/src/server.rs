//! The loop: one thread, one epoll instance, edge-triggered, nothing in it waits but epoll_wait itself. epoll(7).
//! It never decides what is allowed; it hands bytes to the parts that do, in turns, so that no connection starves another.

use crate::admin::{self, Admin};
use crate::cage::Needs;
use crate::config::{Config, Lifeline};
pub use crate::cookie::CookieError;
use crate::counters::Counters;
use crate::ending;
pub use crate::hub::ControlError;
use crate::hub::{Hub, Interest, Order};
use crate::policy::{When, cage::SYSCALLS};
use crate::policy::socks::{HANDSHAKES, PIPES, STREAMS};
use crate::relay::{Ready, Room, Tools};
use crate::slab::{Key, Slab};
use crate::socket;
pub use crate::socket::ListenError;
use crate::socks::Auth;
use crate::spin::{self, Spin};
use crate::stream::{Context, Next, Stream};
use crate::tag::{Tag, TagError};
use nix::sys::signalfd::SignalFd;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Events taken from the kernel at once.
const EVENTS: usize = 128;
/// Connections accepted before others have their turn.
const ACCEPTS: usize = 64;
/// How long a stream waits before it tries tor's full queue again.
const REDIAL: Duration = Duration::from_millis(20);
/// Connections of the trusted side at once.
const ADMINS: usize = 8;
/// Descriptors for what is not a stream: listeners, control connections, standard streams.
const OTHER_FILES: u64 = 64;

/// Why the gate does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A socket cannot be made.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The control side cannot start.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The tag is unusable.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// A system call that cannot fail did.
    #[error("{0}")]
    System(&'static str, #[source] Errno),
    /// Signals cannot be received.
    #[error("signals")]
    Signals(#[source] nix::errno::Errno),
}

/// Why the gate ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM or SIGINT.
    Signal,
    /// The lifeline's other end is gone.
    Lifeline,
}

/// Whose event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Signals,
    Lifeline,
    SocksListener,
    AdminListener,
    Client(Key),
    Tor(Key),
    Admin(Key),
    ControlListener,
    Session(Key),
    TorControl,
}

impl Who {
    /// Kind in the top byte, slot in the next three, generation in the rest.
    fn token(self) -> u64 {
        let (kind, key) = match self {
            Self::Signals => (0, None),
            Self::Lifeline => (1, None),
            Self::SocksListener => (2, None),
            Self::AdminListener => (3, None),
            Self::Client(key) => (4, Some(key)),
            Self::Tor(key) => (5, Some(key)),
            Self::Admin(key) => (6, Some(key)),
            Self::ControlListener => (7, None),
            Self::Session(key) => (8, Some(key)),
            Self::TorControl => (9, None),
        };
        let key = key.map_or(0, |key| u64::from(key.slot & 0x00FF_FFFF) << 32 | u64::from(key.generation));
        kind << 56 | key
    }

    fn from_token(token: u64) -> Option<Self> {
        let key = Key { slot: u32::try_from(token >> 32 & 0x00FF_FFFF).ok()?, generation: u32::try_from(token & 0xFFFF_FFFF).ok()? };
        match token >> 56 {
            0 => Some(Self::Signals),
            1 => Some(Self::Lifeline),
            2 => Some(Self::SocksListener),
            3 => Some(Self::AdminListener),
            4 => Some(Self::Client(key)),
            5 => Some(Self::Tor(key)),
            6 => Some(Self::Admin(key)),
            7 => Some(Self::ControlListener),
            8 => Some(Self::Session(key)),
            9 => Some(Self::TorControl),
            _ => None,
        }
    }
}

/// The gate, listening.
pub struct Server {
    epoll: OwnedFd,
    signals: SignalFd,
    socks: OwnedFd,
    admin: Option<OwnedFd>,
    tor_socks: SocketAddrUnix,
    auth: Auth,
    tag: Tag,
    tools: Tools,
    counters: Counters,
    streams: Slab<Stream>,
    admins: Slab<Admin>,
    hub: Option<Hub>,
    /// Streams whose turn it is, in order.
    queue: VecDeque<Key>,
    /// Handshakes in the order in which they began: the first to go when there are too many.
    greeting: VecDeque<Key>,
    /// Streams that wait for room in tor's queue.
    dialing: Vec<Key>,
    redialed: Instant,
    started: Instant,
    swept: u64,
    spin: Spin,
}

impl Server {
    /// Makes the listeners. When it returns, clients can connect.
    ///
    /// # Errors
    /// A listener cannot be made, or the kernel lacks something.
    pub fn start(config: &Config) -> Result<Self, GateError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| GateError::System("epoll_create1", e))?;
        let server = Self {
            signals: ending::signals().map_err(GateError::Signals)?,
            socks: socket::listener(&config.socks)?,
            admin: config.admin.as_deref().map(socket::listener).transpose()?,
            tor_socks: socket::address(&config.tor_socks)?,
            auth: config.auth,
            tag: config.tag.as_deref().map_or_else(Tag::random, Tag::parse)?,
            tools: Tools::new(pipes_within(raise_file_limit()?)),
            counters: Counters::default(),
            streams: Slab::new(),
            admins: Slab::new(),
            hub: config.control.as_ref().map(Hub::start).transpose()?,
            queue: VecDeque::new(),
            greeting: VecDeque::new(),
            dialing: Vec::new(),
            redialed: Instant::now(),
            started: Instant::now(),
            swept: 0,
            spin: Spin::default(),
            epoll,
        };
        server.watch_all(config.lifeline)?;
        Ok(server)
    }

    fn watch_all(&self, lifeline: Lifeline) -> Result<(), GateError> {
        let listening = epoll::EventFlags::IN;
        let refused = |error| GateError::System("epoll_ctl", error);
        watch(&self.epoll, &self.signals, Who::Signals, listening).map_err(refused)?;
        watch(&self.epoll, &self.socks, Who::SocksListener, listening).map_err(refused)?;
        if let Some(admin) = &self.admin {
            watch(&self.epoll, admin, Who::AdminListener, listening).map_err(refused)?;
        }
        if let Some(hub) = &self.hub {
            watch(&self.epoll, hub.listener(), Who::ControlListener, listening).map_err(refused)?;
        }
        match lifeline {
            Lifeline::None => Ok(()),
            Lifeline::Stdin => watch(&self.epoll, rustix::stdio::stdin(), Who::Lifeline, listening).map_err(refused),
        }
    }

    /// What the cage must leave: the directory in which tor's cookie is awaited must stay readable until it was read.
    #[must_use]
    pub fn needs(&self) -> Needs<'_> {
        let awaited = self.hub.as_ref().and_then(|hub| hub.cookie().awaited_in());
        let calls = SYSCALLS.iter().filter(|call| call.when == When::Always || awaited.is_some());
        Needs { calls: calls.collect(), readable: awaited.map(AsFd::as_fd) }
    }

    /// Serves until a signal or the lifeline ends it.
    ///
    /// # Errors
    /// epoll failed: the gate cannot go on.
    pub fn run(&mut self) -> Result<End, GateError> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            self.wait(&mut events)?;
            for event in &events {
                if let Some(end) = self.dispatch(*event) {
                    return Ok(end);
                }
            }
            self.take_turns();
            self.redial();
            self.sweep();
        }
    }

    /// Sleeps until something happens, unless it pays to look again first.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), GateError> {
        let timeout = self.timeout();
        let moved = std::mem::take(&mut self.tools.moved);
        if spin::FEW.contains(&moved) && timeout != Some(AT_ONCE) && self.spin.is_due() {
            let until = Instant::now() + spin::MOST;
            while events.is_empty() && Instant::now() < until {
                poll(&self.epoll, events, Some(&AT_ONCE))?;
            }
            if events.is_empty() { self.spin.missed() } else { self.spin.found() }
        }
        if events.is_empty() { poll(&self.epoll, events, timeout.as_ref()) } else { Ok(()) }
    }

    /// No timer runs while nothing is connected: an idle gate uses no processor time at all.
    fn timeout(&self) -> Option<Timespec> {
        let milliseconds = if !self.queue.is_empty() {
            0
        } else if !self.dialing.is_empty() {
            20
        } else if self.streams.len() > 0 || self.hub.as_ref().is_some_and(Hub::is_busy) {
            1000
        } else {
            return None;
        };
        Some(Timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 })
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn dispatch(&mut self, event: epoll::Event) -> Option<End> {
        let flags = event.flags;
        match Who::from_token(event.data.u64())? {
            Who::Signals => return Some(End::Signal),
            Who::Lifeline => return ending::lifeline().is_none().then_some(End::Lifeline),
            Who::SocksListener => self.accept_streams(),
            Who::AdminListener => self.accept_admin(),
            Who::Client(key) => self.stream_event(key, flags, |stream| &mut stream.client_ready),
            Who::Tor(key) => self.stream_event(key, flags, |stream| &mut stream.tor_ready),
            Who::Admin(key) => self.admin_event(key),
            Who::ControlListener => self.accept_session(),
            Who::Session(key) => self.session_event(key, flags),
            Who::TorControl => self.tor_control_event(),
        }
        None
    }

    fn accept_streams(&mut self) {
        for _ in 0..ACCEPTS {
            let Ok(client) = socket::accept(&self.socks) else { return };
            self.counters.accepted += 1;
            self.make_room_for_handshake();
            if self.streams.len() >= STREAMS as usize {
                self.counters.refused_limit += 1;
                continue;
            }
            let key = self.streams.insert(Stream::new(client, self.auth, self.now()));
            self.greeting.push_back(key);
            let watched = self.streams.get_mut(key).map(|s| watch(&self.epoll, s.client(), Who::Client(key), EDGES));
            if watched != Some(Ok(())) {
                self.close(key);
            }
        }
    }

    /// Ends the oldest handshake when there are too many: silent connections never shut out one that speaks.
    fn make_room_for_handshake(&mut self) {
        if self.greeting.len() < HANDSHAKES as usize {
            return;
        }
        let streams = &mut self.streams;
        self.greeting.retain(|key| streams.get_mut(*key).is_some_and(|stream| stream.is_greeting()));
        while self.greeting.len() >= HANDSHAKES as usize {
            let Some(oldest) = self.greeting.pop_front() else { return };
            self.counters.refused_limit += 1;
            self.close(oldest);
        }
    }

    fn stream_event(&mut self, key: Key, flags: epoll::EventFlags, side: fn(&mut Stream) -> &mut Ready) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let ready = side(stream);
        ready.readable |= flags.contains(epoll::EventFlags::IN);
        if flags.contains(epoll::EventFlags::OUT) {
            ready.has_room();
        }
        ready.ended |= flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        ready.gone |= flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        if !stream.queued {
            stream.queued = true;
            self.queue.push_back(key);
        }
    }

    /// One turn for each stream that waits for one now; those that want another queue up again.
    fn take_turns(&mut self) {
        for _ in 0..self.queue.len() {
            let Some(key) = self.queue.pop_front() else { return };
            self.advance(key);
        }
    }

    fn advance(&mut self, key: Key) {
        let now = self.now();
        let Some(stream) = self.streams.get_mut(key) else { return };
        let mut context = Context { tools: &mut self.tools, tag: &self.tag, tor: &self.tor_socks, counters: &mut self.counters, now };
        stream.queued = false;
        let next = stream.advance(&mut context);
        watch_for_room(&self.epoll, stream, key);
        match next {
            Next::Wait => {}
            Next::Again => {
                stream.queued = true;
                self.queue.push_back(key);
            }
            Next::Retry => self.dialing.push(key),
            Next::Close => self.close(key),
            Next::Watch => {
                let watched = stream.tor().map(|tor| watch(&self.epoll, tor, Who::Tor(key), EDGES));
                if watched != Some(Ok(())) {
                    self.close(key);
                }
            }
        }
    }

    /// Not at every event: under load these come faster than tor accepts.
    fn redial(&mut self) {
        if self.dialing.is_empty() || self.redialed.elapsed() < REDIAL {
            return;
        }
        self.redialed = Instant::now();
        for key in std::mem::take(&mut self.dialing) {
            if self.streams.get_mut(key).is_some_and(|stream| stream.is_dialing()) {
                self.advance(key);
            }
        }
    }

    fn close(&mut self, key: Key) {
        if let Some(stream) = self.streams.remove(key) {
            stream.close(&mut self.tools);
        }
    }

    /// Once a second: closes what took too long.
    fn sweep(&mut self) {
        let now = self.now();
        if now == self.swept {
            return;
        }
        self.swept = now;
        let late: Vec<Key> = self.streams.iter().filter(|(_, s)| s.deadline <= now).map(|(key, _)| key).collect();
        self.counters.timed_out += late.len() as u64;
        late.into_iter().for_each(|key| self.close(key));
        let mut orders = Vec::new();
        let touched = self.hub.as_mut().map(|hub| hub.sweep(now, &mut orders)).unwrap_or_default();
        self.carry_out(orders);
        touched.into_iter().for_each(|key| self.serve_session(key));
    }

    /// A new identity: later streams carry another tag, and no earlier stream lives on.
    fn new_identity(&mut self) {
        self.tag.rotate();
        let all: Vec<Key> = self.streams.iter().map(|(key, _)| key).collect();
        all.into_iter().for_each(|key| self.close(key));
    }

    fn admin_new_identity(&mut self) {
        self.new_identity();
        let (now, mut orders) = (self.now(), Vec::new());
        if let Some(hub) = &mut self.hub {
            hub.newnym(now, &mut orders);
        }
        self.carry_out(orders);
    }

    fn accept_session(&mut self) {
        let now = self.now();
        let Some(hub) = &mut self.hub else { return };
        let Some(key) = hub.accept(now, &mut self.counters) else { return };
        let watched = hub.client_socket(key).map(|(fd, _)| watch(&self.epoll, fd, Who::Session(key), SESSION_INPUT));
        if watched != Some(Ok(())) {
            hub.remove(key);
        }
    }

    fn session_event(&mut self, key: Key, flags: epoll::EventFlags) {
        // Half-closed is gone as well: a client that does not wait for its answers is none.
        if flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            self.hub.iter_mut().for_each(|hub| hub.remove(key));
            return;
        }
        self.serve_session(key);
    }

    fn serve_session(&mut self, key: Key) {
        let (now, mut orders) = (self.now(), Vec::new());
        let Some(hub) = &mut self.hub else { return };
        let stays = hub.client_event(key, now, &mut self.counters, &mut orders);
        let watched = stays
            .then(|| hub.client_socket(key))
            .flatten()
            .map(|(fd, interest)| epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(Who::Session(key).token()), flags_for(interest)));
        if watched != Some(Ok(())) {
            hub.remove(key);
        }
        self.carry_out(orders);
    }

    fn tor_control_event(&mut self) {
        let now = self.now();
        let Some(hub) = &mut self.hub else { return };
        let touched = hub.tor_event(&self.tag, now);
        touched.into_iter().for_each(|key| self.serve_session(key));
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::NewIdentity => self.new_identity(),
                Order::WatchTor => {
                    let tor = self.hub.as_ref().and_then(Hub::tor_socket);
                    let watched = tor.map(|tor| watch(&self.epoll, tor, Who::TorControl, epoll::EventFlags::IN));
                    if watched != Some(Ok(()))
                        && let Some(hub) = &mut self.hub
                    {
                        hub.drop_tor();
                    }
                }
            }
        }
    }

    fn accept_admin(&mut self) {
        let Some(Ok(socket)) = self.admin.as_ref().map(socket::accept) else { return };
        if self.admins.len() >= ADMINS {
            return;
        }
        let key = self.admins.insert(Admin::new(socket));
        let watched = self.admins.get_mut(key).map(|a| watch(&self.epoll, a.socket(), Who::Admin(key), EDGES));
        if watched != Some(Ok(())) {
            self.admins.remove(key);
        }
    }

    fn admin_event(&mut self, key: Key) {
        let Some(admin) = self.admins.get_mut(key) else { return };
        let (requests, over) = admin.read();
        for request in requests {
            let answer = match request {
                admin::Request::NewIdentity => {
                    self.admin_new_identity();
                    "ok\n".to_owned()
                }
                admin::Request::Status => self.status(),
                admin::Request::Unknown => "error unknown request\n".to_owned(),
            };
            if !self.admins.get_mut(key).is_some_and(|admin| admin.say(&answer)) {
                self.admins.remove(key);
                return;
            }
        }
        if over {
            self.admins.remove(key);
        }
    }

    fn status(&self) -> String {
        let sessions = self.hub.as_ref().map_or(0, Hub::sessions);
        let (streams, identity) = (self.streams.len(), self.tag.identity());
        format!("streams={streams} sessions={sessions} identity={identity} {}\n", self.counters)
    }
}

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

fn poll(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, timeout: Option<&Timespec>) -> Result<(), GateError> {
    match epoll::wait(epoll, rustix::buffer::spare_capacity(events), timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(GateError::System("epoll_wait", error)),
    }
}

/// Edge-triggered: what is left unread stays noted in [`Ready`] and costs no system call.
const EDGES: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP).union(epoll::EventFlags::ET);

/// Tells epoll about sockets that refused bytes. It answers at once if there is room by now, so that no edge is lost; if it
/// cannot be told, the stream's idle time ends it.
fn watch_for_room(epoll: &OwnedFd, stream: &mut Stream, key: Key) {
    let [client, tor] = [stream.client_ready.change(), stream.tor_ready.change()];
    let client = client.map(|change| (stream.client(), Who::Client(key), change));
    let tor = tor.zip(stream.tor()).map(|(change, tor)| (tor, Who::Tor(key), change));
    for (socket, who, change) in client.into_iter().chain(tor) {
        let flags = if change == Room::Watched { EDGES | epoll::EventFlags::OUT } else { EDGES };
        let _told = epoll::modify(epoll, socket, epoll::EventData::new_u64(who.token()), flags);
    }
}

/// Control sessions are few and slow: level-triggered, so that what one leaves unread is announced again.
const SESSION_INPUT: epoll::EventFlags = epoll::EventFlags::IN;

fn flags_for(interest: Interest) -> epoll::EventFlags {
    match interest {
        Interest::Input => SESSION_INPUT,
        Interest::Output => epoll::EventFlags::OUT,
        Interest::End => epoll::EventFlags::empty(),
    }
}

fn watch(epoll: &OwnedFd, fd: impl AsFd, who: Who, flags: epoll::EventFlags) -> Result<(), Errno> {
    epoll::add(epoll, fd, epoll::EventData::new_u64(who.token()), flags)
}

/// Takes as many descriptors as it may have, and says how many those are.
fn raise_file_limit() -> Result<u64, GateError> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(|e| GateError::System("setrlimit", e))?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Each stream needs two descriptors whatever happens; pipes get what is left.
fn pipes_within(files: u64) -> usize {
    let streams = u64::from(STREAMS) * 2;
    let left = files.saturating_sub(OTHER_FILES + streams) / 2;
    usize::try_from(left.min(u64::from(PIPES))).unwrap_or(0)
}
