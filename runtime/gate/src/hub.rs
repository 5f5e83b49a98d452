//! The sockets of the control side: clients on one hand, one authenticated connection to tor on the other.
//! It never moves bytes from one to the other: lines go to [`crate::control`], and what comes out of it is sent.

use crate::config;
use crate::control::display::{Display, Shown};
use crate::control::keys::OnionKeys;
use crate::control::parse::Secret;
use crate::control::question::Question;
use crate::control::reply::{self, Event, Message, Messages};
use crate::control::session::{Session, Step, Tables};
use crate::control::text::to_hex;
use crate::cookie::{Cookie, CookieError};
use crate::counters::Counters;
use crate::policy::control::{LINE_BYTES, NEWNYM_SECONDS, OUTPUT_BYTES, QUESTION_SECONDS, QUESTIONS, SESSIONS, UNAUTHENTICATED_SECONDS};
use crate::slab::{Key, Slab};
use crate::socket::{self, ListenError};
use crate::tag::Tag;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrUnix, recv, send};
use std::collections::VecDeque;

/// Lengths that a secret may have.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

/// Why the control side does not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A socket cannot be made.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// tor's cookie can never be read.
    #[error(transparent)]
    Cookie(#[from] CookieError),
    /// The secret cannot be read.
    #[error("{0}: cannot be read")]
    Secret(String, #[source] std::io::Error),
    /// The secret is too short to be one, or too long for a line.
    #[error("{0}: a secret has 16 to 128 bytes")]
    SecretLength(String),
}

/// What epoll should watch a socket for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Input.
    Input,
    /// Room for output.
    Output,
    /// Nothing but its end.
    End,
}

/// What the loop does for the control side.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A client wants a new identity: later streams carry another tag.
    NewIdentity,
    /// tor's connection is new.
    WatchTor,
}

struct Client {
    socket: OwnedFd,
    session: Session,
    held: Vec<u8>,
    out: Vec<u8>,
    waiting: Waiting,
    /// Closed once `out` is sent.
    closing: bool,
    deadline: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    No,
    ForTor,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Client(Key),
    Nobody,
}

enum Expected {
    /// The reply to AUTHENTICATE, SETEVENTS or the like: anything but 250 ends the connection.
    Ok,
    /// The circuits that were there before the gate.
    Circuits,
    Answer(Asker, Question, u64),
}

struct Tor {
    socket: OwnedFd,
    messages: Messages,
    expected: VecDeque<Expected>,
}

/// The control side of one gate.
pub(crate) struct Hub {
    listener: OwnedFd,
    address: SocketAddrUnix,
    cookie: Cookie,
    secret: Secret,
    clients: Slab<Client>,
    tor: Option<Tor>,
    display: Display,
    keys: OnionKeys,
    /// tor has still to be told of a new identity.
    owes_newnym: bool,
    /// When the last new identity was made.
    renewed: Option<u64>,
}

impl Hub {
    pub(crate) fn start(config: &config::Control) -> Result<Self, ControlError> {
        let name = || config.secret.display().to_string();
        let secret = std::fs::read(&config.secret).map_err(|error| ControlError::Secret(name(), error))?;
        if !SECRET_BYTES.contains(&secret.len()) {
            return Err(ControlError::SecretLength(name()));
        }
        Ok(Self {
            cookie: Cookie::open(&config.cookie)?,
            address: socket::address(&config.tor)?,
            listener: socket::listener(&config.listen)?,
            secret: Secret::new(secret),
            clients: Slab::new(),
            tor: None,
            display: Display::default(),
            keys: OnionKeys::default(),
            owes_newnym: false,
            renewed: None,
        })
    }

    pub(crate) fn listener(&self) -> &OwnedFd {
        &self.listener
    }

    pub(crate) fn tor_socket(&self) -> Option<&OwnedFd> {
        self.tor.as_ref().map(|tor| &tor.socket)
    }

    pub(crate) fn sessions(&self) -> usize {
        self.clients.len()
    }

    /// tor's cookie.
    pub(crate) fn cookie(&self) -> &Cookie {
        &self.cookie
    }

    /// Whether anything has a deadline.
    pub(crate) fn is_busy(&self) -> bool {
        self.clients.len() > 0 || self.owes_newnym
    }

    pub(crate) fn client_socket(&mut self, key: Key) -> Option<(&OwnedFd, Interest)> {
        let client = self.clients.get_mut(key)?;
        let interest = if !client.out.is_empty() {
            Interest::Output
        } else if client.waiting == Waiting::ForTor {
            Interest::End
        } else {
            Interest::Input
        };
        Some((&client.socket, interest))
    }

    /// Takes the next connection. Too many are turned away: Tor Browser needs one.
    pub(crate) fn accept(&mut self, now: u64, counters: &mut Counters) -> Option<Key> {
        let socket = socket::accept(&self.listener).ok()?;
        if self.clients.len() >= SESSIONS as usize {
            counters.refused_limit += 1;
            return None;
        }
        Some(self.clients.insert(Client {
            socket,
            session: Session::default(),
            held: Vec::new(),
            out: Vec::new(),
            waiting: Waiting::No,
            closing: false,
            deadline: now + u64::from(UNAUTHENTICATED_SECONDS),
        }))
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.clients.remove(key);
    }

    /// Reads, answers and sends what can be without waiting. Whether the client stays.
    pub(crate) fn client_event(&mut self, key: Key, now: u64, counters: &mut Counters, orders: &mut Vec<Order>) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        if !flush(client) {
            return false;
        }
        // Lines that were held back come before new ones.
        self.obey(key, now, counters, orders);
        let Some(client) = self.clients.get_mut(key) else { return false };
        if client.out.is_empty() && client.waiting == Waiting::No && !hear(client) {
            return false;
        }
        self.obey(key, now, counters, orders);
        self.clients.get_mut(key).is_some_and(flush)
    }

    /// Answers the complete lines, until one has to wait or the answers have to be sent first.
    fn obey(&mut self, key: Key, now: u64, counters: &mut Counters, orders: &mut Vec<Order>) {
        while let Some(client) = self.clients.get_mut(key) {
            if client.waiting == Waiting::ForTor || !client.out.is_empty() || client.closing {
                return;
            }
            let Some(line) = next_line(&mut client.held) else { return };
            counters.control_commands += 1;
            let mut tables = Tables { display: &mut self.display, keys: &mut self.keys, secret: &self.secret };
            let step = client.session.step(&line, &mut tables);
            if client.session.is_authenticated() {
                client.deadline = u64::MAX;
            }
            match step {
                Step::Say(answer) => {
                    counters.control_denied += u64::from(answer.starts_with('5'));
                    client.out.extend_from_slice(answer.as_bytes());
                    flush(client);
                }
                Step::Close(answer) => {
                    counters.control_denied += u64::from(answer.starts_with('5'));
                    client.out.extend_from_slice(answer.as_bytes());
                    client.closing = true;
                }
                Step::Ask(question) => self.ask(key, question, now, orders),
                Step::NewIdentity => self.client_newnym(key, now, orders),
            }
        }
    }

    /// The tag changes in any case: that alone keeps new streams off old circuits. Within the limit the answer is the same,
    /// and nothing else happens.
    fn client_newnym(&mut self, key: Key, now: u64, orders: &mut Vec<Order>) {
        let too_soon = self.renewed.is_some_and(|then| now < then + u64::from(NEWNYM_SECONDS));
        if too_soon {
            if let Some(client) = self.clients.get_mut(key) {
                client.out.extend_from_slice(b"250 OK\r\n");
            }
            return;
        }
        self.renewed = Some(now);
        orders.push(Order::NewIdentity);
        self.ask(key, Question::NewNym, now, orders);
    }

    /// The trusted side made a new identity; tor is told now or as soon as it is there.
    pub(crate) fn newnym(&mut self, now: u64, orders: &mut Vec<Order>) {
        self.owes_newnym = true;
        self.pay(now, orders);
    }

    fn pay(&mut self, now: u64, orders: &mut Vec<Order>) {
        if self.owes_newnym && self.reach(orders) {
            self.owes_newnym = !self.put(Asker::Nobody, Question::NewNym, now);
        }
    }

    fn ask(&mut self, key: Key, question: Question, now: u64, orders: &mut Vec<Order>) {
        let unreachable = question.unreachable();
        let asked = self.reach(orders) && self.put(Asker::Client(key), question, now);
        let Some(client) = self.clients.get_mut(key) else { return };
        if asked {
            client.waiting = Waiting::ForTor;
        } else {
            client.out.extend_from_slice(unreachable.as_bytes());
        }
    }

    fn put(&mut self, asker: Asker, question: Question, now: u64) -> bool {
        let Some(tor) = self.tor.as_mut().filter(|tor| tor.expected.len() < QUESTIONS as usize) else { return false };
        if socket::send_all(&tor.socket, question.line().as_bytes()).is_err() {
            return false;
        }
        tor.expected.push_back(Expected::Answer(asker, question, now + u64::from(QUESTION_SECONDS)));
        true
    }

    /// Connects to tor if it is not connected. Replies are read later, in order, so that nothing waits here.
    fn reach(&mut self, orders: &mut Vec<Order>) -> bool {
        if self.tor.is_some() {
            return true;
        }
        let Some(cookie) = self.cookie.read() else { return false };
        let hello = format!("AUTHENTICATE {}\r\nSETEVENTS CIRC STREAM\r\nGETINFO circuit-status\r\n", to_hex(&cookie));
        let Ok(socket) = socket::dial(&self.address) else { return false };
        if socket::send_all(&socket, hello.as_bytes()).is_err() {
            return false;
        }
        let expected = VecDeque::from([Expected::Ok, Expected::Ok, Expected::Circuits]);
        self.tor = Some(Tor { socket, messages: Messages::default(), expected });
        orders.push(Order::WatchTor);
        true
    }

    /// Reads what tor says. A connection that fails is dropped, and those who wait hear that tor cannot be reached.
    pub(crate) fn tor_event(&mut self, tag: &Tag, now: u64) -> Vec<Key> {
        let mut touched = Vec::new();
        let Some(tor) = &mut self.tor else { return touched };
        let mut buffer = [0_u8; 4096];
        let messages = match recv(&tor.socket, &mut buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN) => return touched,
            Ok((count, _)) if count > 0 => tor.messages.push(buffer.get(..count).unwrap_or_default()).ok(),
            _ => None,
        };
        let understood = messages.is_some_and(|messages| messages.iter().all(|message| self.message(message, tag, now, &mut touched)));
        if !understood {
            self.lose_tor(&mut touched);
        }
        touched
    }

    fn message(&mut self, message: &Message, tag: &Tag, now: u64, touched: &mut Vec<Key>) -> bool {
        if message.code == 650 {
            self.event(message, tag, now, touched);
            return true;
        }
        match self.tor.as_mut().and_then(|tor| tor.expected.pop_front()) {
            Some(Expected::Ok) => message.code == 250,
            Some(Expected::Circuits) => {
                message.lines.iter().filter_map(|line| reply::circuit(line)).for_each(|circuit| {
                    self.display.circuit(circuit);
                });
                true
            }
            Some(Expected::Answer(asker, question, _)) => {
                let answer = question.answer(message, &mut self.display, &mut self.keys);
                self.tell(asker, &answer, touched);
                true
            }
            None => false,
        }
    }

    fn tell(&mut self, asker: Asker, answer: &str, touched: &mut Vec<Key>) {
        let Asker::Client(key) = asker else { return };
        let Some(client) = self.clients.get_mut(key) else { return };
        client.waiting = Waiting::No;
        client.out.extend_from_slice(answer.as_bytes());
        touched.push(key);
    }

    fn event(&mut self, message: &Message, tag: &Tag, now: u64, touched: &mut Vec<Key>) {
        let shown = match message.lines.first().and_then(|line| reply::event(line)) {
            Some(Event::Circuit(event)) => self.display.circuit(event).into_iter().collect(),
            Some(Event::Stream(event)) => self.display.stream(&event, tag, now),
            None => Vec::new(),
        };
        shown.iter().for_each(|shown| self.publish(shown, touched));
    }

    fn publish(&mut self, shown: &Shown, touched: &mut Vec<Key>) {
        let keys: Vec<Key> = self.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(client) = self.clients.get_mut(key) else { continue };
            if let Some(line) = client.session.wants(shown) {
                client.out.extend_from_slice(line.as_bytes());
                touched.push(key);
            }
        }
    }

    fn lose_tor(&mut self, touched: &mut Vec<Key>) {
        let Some(tor) = self.tor.take() else { return };
        for expected in tor.expected {
            if let Expected::Answer(asker, question, _) = expected {
                self.tell(asker, &question.unreachable(), touched);
            }
        }
    }

    /// The connection to tor cannot be watched: those who wait hear it at the next sweep, as late questions do.
    pub(crate) fn drop_tor(&mut self) {
        self.lose_tor(&mut Vec::new());
    }

    /// Once a second: clients that did not authenticate, questions without an answer, what is owed to tor.
    pub(crate) fn sweep(&mut self, now: u64, orders: &mut Vec<Order>) -> Vec<Key> {
        let late: Vec<Key> = self.clients.iter().filter(|(_, c)| c.deadline <= now).map(|(key, _)| key).collect();
        late.into_iter().for_each(|key| self.remove(key));
        let mut touched = Vec::new();
        let stuck = |expected: &Expected| matches!(expected, Expected::Answer(_, _, deadline) if *deadline <= now);
        if self.tor.as_ref().is_some_and(|tor| tor.expected.iter().any(stuck)) {
            self.lose_tor(&mut touched);
        }
        if self.clients.len() > 0 {
            // Without a connection there are no events; whether it succeeds shows at the next question.
            self.reach(orders);
        }
        self.pay(now, orders);
        touched
    }
}

/// Sends what waits. Whether the client stays: it goes when it reads too little, and when its last answer is sent.
fn flush(client: &mut Client) -> bool {
    if client.out.is_empty() {
        return !client.closing;
    }
    match send(&client.socket, &client.out, SendFlags::NOSIGNAL) {
        Ok(sent) => drop(client.out.drain(..sent)),
        Err(Errno::AGAIN) => {}
        Err(_) => return false,
    }
    client.out.len() <= OUTPUT_BYTES as usize && !(client.closing && client.out.is_empty())
}

/// Reads what one line may still need. Whether the client stays: an over-long line ends the connection.
fn hear(client: &mut Client) -> bool {
    let room = (LINE_BYTES as usize).saturating_sub(client.held.len());
    if room == 0 {
        return true;
    }
    match socket::receive(&client.socket, &mut client.held, room) {
        Ok(Some(_)) => {}
        Ok(None) => return true,
        Err(_) => return false,
    }
    if client.held.len() >= LINE_BYTES as usize && !client.held.contains(&b'\n') {
        client.out.extend_from_slice(b"500 Line too long\r\n");
        client.closing = true;
    }
    true
}

fn next_line(held: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = held.iter().position(|b| *b == b'\n')?;
    let mut line: Vec<u8> = held.drain(..=end).collect();
    line.pop();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Some(line)
}
