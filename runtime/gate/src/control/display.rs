//! The circuit display: which circuits carry streams of this box, and how they are shown.
//!
//! Every entry hop is replaced by a constant relay; circuits to onion services lose their second hop as well, because tor
//! keeps that one for days, too (vanguards). Numbers are the gate's own, so that nothing can be counted. It never shows a
//! circuit before a stream of this box is on it, and never more circuits than the policy allows in an hour.

use super::reply::{Circuit, CircuitEvent, StreamEvent, StreamStatus};
use super::text::{Fingerprint, quote};
use crate::policy::control::{CIRCUITS, CIRCUITS_PER_HOUR, HIDDEN_ADDRESS, HIDDEN_FINGERPRINT, RELAYS, TIME_CREATED};
use crate::tag::Tag;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

const HOUR: u64 = 3600;
/// Streams of this box that are followed at once; each has at most two events.
const STREAMS: usize = 1024;

/// What a client is told about a circuit or a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A line for those who asked for CIRC.
    Circ(String),
    /// A line for those who asked for STREAM.
    Stream(String),
}

struct Known {
    circuit: Circuit,
    /// The number and the path that clients know.
    shown: Option<(u64, String)>,
}

/// tor's circuits, and what of them is shown.
#[derive(Default)]
pub struct Display {
    circuits: BTreeMap<u64, Known>,
    streams: BTreeMap<u64, u64>,
    relays: VecDeque<Fingerprint>,
    addresses: VecDeque<IpAddr>,
    numbers: u64,
    /// Seconds at which circuits were shown during the last hour.
    recent: VecDeque<u64>,
}

impl Display {
    /// Takes note of a circuit; clients hear of it only if they have seen it.
    pub fn circuit(&mut self, event: CircuitEvent) -> Option<Shown> {
        match event {
            CircuitEvent::Built(circuit) => self.built(circuit),
            CircuitEvent::Gone(id) => self.gone(id),
        }
    }

    fn built(&mut self, circuit: Circuit) -> Option<Shown> {
        // A circuit that grows after it was shown keeps its first form.
        if let Some(known) = self.circuits.get_mut(&circuit.id) {
            known.circuit = circuit;
            return None;
        }
        if self.circuits.len() >= CIRCUITS as usize {
            self.circuits.pop_first();
        }
        self.circuits.insert(circuit.id, Known { circuit, shown: None });
        None
    }

    fn gone(&mut self, id: u64) -> Option<Shown> {
        let (number, path) = self.circuits.remove(&id)?.shown?;
        Some(Shown::Circ(format!("650 CIRC {number} CLOSED {path}\r\n")))
    }

    /// Shows a stream if it is this box's, and before it the circuit if that is new. Seconds count from any moment.
    pub fn stream(&mut self, event: &StreamEvent, tag: &Tag, now: u64) -> Vec<Shown> {
        let status = match event.status {
            StreamStatus::SentConnect => "SENTCONNECT",
            StreamStatus::Succeeded => "SUCCEEDED",
            StreamStatus::Over => {
                self.streams.remove(&event.id);
                return Vec::new();
            }
        };
        let (Some((user, sealed)), Some(circuit)) = (&event.credentials, event.circuit) else { return Vec::new() };
        let Some(password) = tag.open(sealed) else { return Vec::new() };
        let Some((number, new)) = self.show(circuit, event.onion, now) else { return Vec::new() };
        let stream = self.stream_number(event.id);
        let credentials = format!("SOCKS_USERNAME={} SOCKS_PASSWORD={}", quote(user), quote(password));
        let line = format!("650 STREAM {stream} {status} {number} box.invalid:0 {credentials}\r\n");
        new.into_iter().chain([Shown::Stream(line)]).collect()
    }

    fn stream_number(&mut self, id: u64) -> u64 {
        if let Some(number) = self.streams.get(&id) {
            return *number;
        }
        if self.streams.len() >= STREAMS {
            self.streams.pop_first();
        }
        self.numbers += 1;
        self.streams.insert(id, self.numbers);
        self.numbers
    }

    fn show(&mut self, id: u64, onion: Onion, now: u64) -> Option<(u64, Option<Shown>)> {
        let known = self.circuits.get_mut(&id)?;
        if let Some((number, _)) = &known.shown {
            return Some((*number, None));
        }
        while self.recent.front().is_some_and(|then| then + HOUR <= now) {
            self.recent.pop_front();
        }
        if self.recent.len() >= CIRCUITS_PER_HOUR as usize {
            return None;
        }
        self.recent.push_back(now);
        self.numbers += 1;
        let path = disclose(&known.circuit, onion, &mut self.relays);
        let line = format!("650 CIRC {}\r\n", built_line(self.numbers, &path));
        known.shown = Some((self.numbers, path));
        Some((self.numbers, Some(Shown::Circ(line))))
    }

    /// The lines of `GETINFO circuit-status`.
    #[must_use]
    pub fn circuit_status(&self) -> Vec<String> {
        let shown = self.circuits.values().filter_map(|known| known.shown.as_ref());
        shown.map(|(number, path)| built_line(*number, path)).collect()
    }

    /// Whether clients were shown this relay in the open.
    #[must_use]
    pub fn was_shown(&self, relay: &Fingerprint) -> bool {
        self.relays.contains(relay)
    }

    /// Notes an address that clients were told.
    pub fn told(&mut self, address: IpAddr) {
        remember(&mut self.addresses, address);
    }

    /// Whether clients were told this address.
    #[must_use]
    pub fn was_told(&self, address: &IpAddr) -> bool {
        self.addresses.contains(address)
    }
}

/// Whether a stream or a circuit leads to an onion service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onion {
    /// It does not.
    No,
    /// It does, or may.
    Yes,
}

fn built_line(number: u64, path: &str) -> String {
    format!("{number} BUILT {path} PURPOSE=GENERAL TIME_CREATED={TIME_CREATED}")
}

fn disclose(circuit: &Circuit, onion: Onion, relays: &mut VecDeque<Fingerprint>) -> String {
    let hidden = if onion == Onion::Yes || circuit.onion == Onion::Yes { 2 } else { 1 };
    let hops = circuit.path.iter().enumerate().map(|(at, relay)| {
        if at < hidden {
            return format!("${HIDDEN_FINGERPRINT}");
        }
        remember(relays, *relay);
        format!("${relay}")
    });
    hops.collect::<Vec<_>>().join(",")
}

fn remember<T: PartialEq>(list: &mut VecDeque<T>, item: T) {
    if list.contains(&item) {
        return;
    }
    if list.len() >= RELAYS as usize {
        list.pop_front();
    }
    list.push_back(item);
}

/// Whether it is the relay that stands for every entry hop.
#[must_use]
pub fn is_hidden(relay: &Fingerprint) -> bool {
    Fingerprint::parse(HIDDEN_FINGERPRINT).as_ref() == Some(relay)
}

/// Router status of the relay that stands for every entry hop.
#[must_use]
pub fn hidden_status(relay: &Fingerprint) -> Vec<String> {
    status("hidden", relay, HIDDEN_ADDRESS, None)
}

/// Router status of a relay that was shown: its address, and constants.
#[must_use]
pub fn open_status(relay: &Fingerprint, v4: IpAddr, v6: Option<IpAddr>) -> Vec<String> {
    status("relay", relay, &v4.to_string(), v6)
}

/// tor's dir-spec: `r` nickname identity digest date time address port port, `a` address, `s` flags.
fn status(nickname: &str, relay: &Fingerprint, address: &str, v6: Option<IpAddr>) -> Vec<String> {
    let digest = "A".repeat(27);
    let mut lines = vec![format!("r {nickname} {} {digest} 2000-01-01 00:00:00 {address} 9001 0", relay.base64())];
    lines.extend(v6.map(|v6| format!("a [{v6}]:9001")));
    lines.push("s Running Valid".to_owned());
    lines
}
