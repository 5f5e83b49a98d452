//! One connection of the SOCKS side: handshake with the browser, request to tor, then bytes both ways.
//! It never decides whether something is allowed ([`crate::socks`] does), never waits, and in every failure it closes.

use crate::counters::Counters;
use crate::policy::socks::{CONNECT_TRIES, HANDSHAKE_BYTES, HANDSHAKE_SECONDS, IDLE_SECONDS, TOR_SECONDS, TURN_BYTES};
use crate::relay::{End, Flow, Ready, Tools, Turn};
use crate::socket;
use crate::socks::{self, Auth, Code, Command, Handshake, Request};
use crate::tag::Tag;
use crate::upstream::{self, Upstream};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

/// What the loop does with the stream next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Waits for epoll.
    Wait,
    /// Gets another turn after the others.
    Again,
    /// The socket to tor is new: epoll has to know it.
    Watch,
    /// tor's socket is full: tries once more after a while.
    Retry,
    /// Is closed.
    Close,
}

enum Phase {
    Greeting { handshake: Handshake, held: Vec<u8>, heard: usize },
    Dialing { request: Request, held: Vec<u8>, tries: u32 },
    Asking { command: Command, upstream: Upstream, held: Vec<u8>, heard: Vec<u8> },
    Relaying { up: Flow, down: Flow },
}

/// What a stream needs from the gate.
pub(crate) struct Context<'a> {
    pub(crate) tools: &'a mut Tools,
    pub(crate) tag: &'a Tag,
    pub(crate) tor: &'a SocketAddrUnix,
    pub(crate) counters: &'a mut Counters,
    /// Seconds since the gate started.
    pub(crate) now: u64,
}

/// One connection of the browser.
pub(crate) struct Stream {
    client: OwnedFd,
    tor: Option<OwnedFd>,
    phase: Phase,
    pub(crate) client_ready: Ready,
    pub(crate) tor_ready: Ready,
    /// When it is closed unless something moves, in seconds since the gate started.
    pub(crate) deadline: u64,
    /// Whether it waits for its turn already.
    pub(crate) queued: bool,
}

impl Stream {
    pub(crate) fn new(client: OwnedFd, auth: Auth, now: u64) -> Self {
        Self {
            client,
            tor: None,
            phase: Phase::Greeting { handshake: Handshake::new(auth), held: Vec::new(), heard: 0 },
            client_ready: Ready::UNKNOWN,
            tor_ready: Ready::UNKNOWN,
            deadline: now + u64::from(HANDSHAKE_SECONDS),
            queued: false,
        }
    }

    pub(crate) fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. })
    }

    pub(crate) fn is_dialing(&self) -> bool {
        matches!(self.phase, Phase::Dialing { .. })
    }

    pub(crate) fn client(&self) -> &OwnedFd {
        &self.client
    }

    pub(crate) fn tor(&self) -> Option<&OwnedFd> {
        self.tor.as_ref()
    }

    /// Returns what the stream had borrowed.
    pub(crate) fn close(mut self, tools: &mut Tools) {
        if let Phase::Relaying { up, down } = &mut self.phase {
            up.abandon(tools);
            down.abandon(tools);
        }
    }

    /// Does what can be done without waiting.
    pub(crate) fn advance(&mut self, context: &mut Context<'_>) -> Next {
        match self.phase {
            Phase::Greeting { .. } => self.greet(context),
            Phase::Dialing { .. } => self.dial(context),
            Phase::Asking { .. } => self.ask(context),
            Phase::Relaying { .. } => self.relay(context),
        }
    }

    fn greet(&mut self, context: &mut Context<'_>) -> Next {
        let Phase::Greeting { handshake, held, heard } = &mut self.phase else { return Next::Close };
        loop {
            match socket::receive(&self.client, held, HANDSHAKE_BYTES as usize - *heard) {
                Ok(Some(count)) => *heard += count,
                Ok(None) => return Next::Wait,
                Err(_) => return Next::Close,
            }
            let outcome = listen(handshake, held, &self.client);
            match outcome {
                Heard::Nothing if *heard >= HANDSHAKE_BYTES as usize => return Next::Close,
                Heard::Nothing => {}
                Heard::Refused(refusal) => {
                    context.counters.refused(refusal);
                    return Next::Close;
                }
                Heard::Request(request) => {
                    let held = std::mem::take(held);
                    self.phase = Phase::Dialing { request, held, tries: 0 };
                    return self.dial(context);
                }
            }
        }
    }

    fn dial(&mut self, context: &mut Context<'_>) -> Next {
        let Phase::Dialing { request, held, tries } = &mut self.phase else { return Next::Close };
        let dialed = socket::dial(context.tor).and_then(|tor| socket::send_all(&tor, &Upstream::GREETING).map(|()| tor));
        match (dialed, Upstream::new(request, context.tag)) {
            (Ok(tor), Ok(upstream)) => {
                let (command, held) = (request.command, std::mem::take(held));
                self.phase = Phase::Asking { command, upstream, held, heard: Vec::new() };
                self.tor = Some(tor);
                self.deadline = context.now + u64::from(TOR_SECONDS);
                Next::Watch
            }
            (Err(Errno::AGAIN), Ok(_)) if *tries < CONNECT_TRIES => {
                *tries += 1;
                Next::Retry
            }
            _ => {
                context.counters.tor_unreachable += 1;
                answer(&self.client, Code::FAILURE)
            }
        }
    }

    fn ask(&mut self, context: &mut Context<'_>) -> Next {
        if self.client_ready.gone {
            return Next::Close;
        }
        let (Phase::Asking { command, upstream, held, heard }, Some(tor)) = (&mut self.phase, &self.tor) else {
            return Next::Close;
        };
        let verdict = match converse(upstream, tor, heard) {
            Ok(None) => return Next::Wait,
            Ok(Some(verdict)) => verdict,
            Err(_) => {
                context.counters.tor_unreachable += 1;
                return answer(&self.client, Code::FAILURE);
            }
        };
        match (verdict, *command) {
            ((Code::OK, _), Command::Connect) => {}
            ((Code::OK, Some(address)), Command::Resolve) => {
                // The answer is all there is; whether it arrives is the client's affair.
                let _closing = socket::send_all(&self.client, &socks::reply(Code::OK, Some(address)));
                return Next::Close;
            }
            ((Code::OK, None), Command::Resolve) => return answer(&self.client, Code::FAILURE),
            ((code, _), _) => return answer(&self.client, code),
        }
        if socket::send_all(&self.client, &socks::reply(Code::OK, None)).is_err() {
            return Next::Close;
        }
        let (up, down) = (Flow::new(std::mem::take(held)), Flow::new(std::mem::take(heard)));
        self.phase = Phase::Relaying { up, down };
        self.relay(context)
    }

    fn relay(&mut self, context: &mut Context<'_>) -> Next {
        let (Phase::Relaying { up, down }, Some(tor)) = (&mut self.phase, &self.tor) else { return Next::Close };
        let before = up.moved + down.moved;
        let mut client = End { fd: self.client.as_fd(), ready: &mut self.client_ready };
        let mut tor = End { fd: tor.as_fd(), ready: &mut self.tor_ready };
        let again_up = turn(up, &mut client, &mut tor, context.tools);
        let again_down = turn(down, &mut tor, &mut client, context.tools);
        // The other direction of a peer that is gone leads nowhere.
        let over = match (up.done, down.done) {
            (true, true) => true,
            (true, false) => client.ready.gone,
            (false, true) => tor.ready.gone,
            (false, false) => false,
        };
        let moved = up.moved + down.moved - before;
        context.tools.moved += moved;
        if moved > 0 {
            self.deadline = context.now + u64::from(IDLE_SECONDS);
        }
        match (over, again_up == Turn::Again || again_down == Turn::Again) {
            (true, _) => Next::Close,
            (false, true) => Next::Again,
            (false, false) => Next::Wait,
        }
    }
}

/// A direction that fails is over; the other one still delivers what it has.
fn turn(flow: &mut Flow, from: &mut End<'_>, to: &mut End<'_>, tools: &mut Tools) -> Turn {
    if flow.done {
        return Turn::Blocked;
    }
    flow.turn(from, to, tools, TURN_BYTES as usize).unwrap_or_else(|_| {
        flow.abandon(tools);
        Turn::Blocked
    })
}

enum Heard {
    Nothing,
    Refused(socks::Refusal),
    Request(Request),
}

fn listen(handshake: &mut Handshake, held: &mut Vec<u8>, client: &OwnedFd) -> Heard {
    loop {
        let (used, step) = handshake.step(held);
        held.drain(..used);
        match step {
            socks::Step::More => return Heard::Nothing,
            socks::Step::Ask(request) => return Heard::Request(request),
            socks::Step::Say(message) => {
                if socket::send_all(client, &message).is_err() {
                    return Heard::Refused(socks::Refusal::Malformed);
                }
            }
            socks::Step::Refuse(message, refusal) => {
                // Said for good manners: the connection closes either way.
                let _closing = socket::send_all(client, &message);
                return Heard::Refused(refusal);
            }
        }
    }
}

type Verdict = (Code, Option<std::net::IpAddr>);

/// The longest message of tor in a handshake has 262 bytes.
const ANSWER_BYTES: usize = 512;

fn converse(upstream: &mut Upstream, tor: &OwnedFd, heard: &mut Vec<u8>) -> Result<Option<Verdict>, ()> {
    loop {
        let room = ANSWER_BYTES.saturating_sub(heard.len());
        if socket::receive(tor, heard, room).map_err(drop)?.is_none() {
            return Ok(None);
        }
        loop {
            let (used, step) = upstream.step(heard).map_err(drop)?;
            heard.drain(..used);
            match step {
                upstream::Step::More => break,
                upstream::Step::Say(message) => socket::send_all(tor, &message).map_err(drop)?,
                upstream::Step::Done(code, address) => return Ok(Some((code, address))),
            }
        }
    }
}

fn answer(client: &OwnedFd, code: Code) -> Next {
    // The connection closes either way.
    let _closing = socket::send_all(client, &socks::reply(code, None));
    Next::Close
}
