//! What the gate asks tor on behalf of a client: a closed list, worded by the gate from typed values, each with the reading
//! of tor's reply that its client gets. It never repeats tor's words: an unexpected reply is a constant error.

use super::display::{self, Display};
use super::keys::OnionKeys;
use super::reply::{self, Message, Progress};
use super::text::{ClientKey, Fingerprint, OnionAddress};
use std::net::IpAddr;

/// A question to tor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// How far tor is.
    BootstrapPhase,
    /// The addresses of a relay that was shown; the text is the client's way to write it.
    Relay(Fingerprint, String),
    /// The country of an address that was told; likewise.
    Country(IpAddr, String),
    /// Fresh circuits.
    NewNym,
    /// Adds a key.
    OnionAdd(OnionAddress, ClientKey),
    /// Removes a key.
    OnionRemove(OnionAddress),
}

/// What a client hears when tor cannot be asked.
pub const UNREACHABLE: &str = "551 Tor cannot be reached\r\n";
const FAILED: &str = "551 Tor did not do it\r\n";
const OK: &str = "250 OK\r\n";

impl Question {
    /// The line for tor.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::BootstrapPhase => "GETINFO status/bootstrap-phase\r\n".to_owned(),
            Self::Relay(relay, _) => format!("GETINFO ns/id/{relay}\r\n"),
            Self::Country(address, _) => format!("GETINFO ip-to-country/{address}\r\n"),
            Self::NewNym => "SIGNAL NEWNYM\r\n".to_owned(),
            Self::OnionAdd(address, key) => format!("ONION_CLIENT_AUTH_ADD {address} {key}\r\n"),
            Self::OnionRemove(address) => format!("ONION_CLIENT_AUTH_REMOVE {address}\r\n"),
        }
    }

    /// The client's answer from tor's reply, and what the gate remembers of it.
    pub fn answer(&self, message: &Message, display: &mut Display, keys: &mut OnionKeys) -> String {
        match self {
            Self::BootstrapPhase => reply::progress(message).map_or_else(|| FAILED.to_owned(), bootstrap_phase),
            Self::Relay(relay, text) => self::relay(message, relay, text, display),
            Self::Country(_, text) => country(text, reply::country(message).unwrap_or(['?', '?'])),
            Self::NewNym => renewed(message.code, keys),
            Self::OnionAdd(address, key) => onion_added(message.code, address, key, keys),
            Self::OnionRemove(address) => onion_removed(message.code, address, keys),
        }
    }

    /// The client's answer while tor cannot be reached.
    #[must_use]
    pub fn unreachable(&self) -> String {
        match self {
            Self::BootstrapPhase => bootstrap_phase(Progress::Start),
            _ => UNREACHABLE.to_owned(),
        }
    }
}

/// Three states and tor's own words for them. The finer ones tell a bridge from a guard.
fn bootstrap_phase(progress: Progress) -> String {
    let state = match progress {
        Progress::Start => "PROGRESS=0 TAG=starting SUMMARY=\"Starting\"",
        Progress::Some => "PROGRESS=50 TAG=loading_descriptors SUMMARY=\"Loading relay descriptors\"",
        Progress::Done => "PROGRESS=100 TAG=done SUMMARY=\"Done\"",
    };
    format!("250-status/bootstrap-phase=NOTICE BOOTSTRAP {state}\r\n{OK}")
}

fn relay(message: &Message, relay: &Fingerprint, text: &str, display: &mut Display) -> String {
    let Some((v4, v6)) = reply::addresses(message).filter(|_| message.code == 250) else {
        return unknown_relay(text);
    };
    [Some(v4), v6].into_iter().flatten().for_each(|address| display.told(address));
    relay_status(text, &display::open_status(relay, v4, v6))
}

/// A data reply with a router status.
#[must_use]
pub fn relay_status(text: &str, lines: &[String]) -> String {
    format!("250+ns/id/{text}=\r\n{}\r\n.\r\n{OK}", lines.join("\r\n"))
}

/// What tor says of a relay that does not exist.
#[must_use]
pub fn unknown_relay(text: &str) -> String {
    format!("552 Unrecognized key \"ns/id/{text}\"\r\n")
}

/// The reply to a question for a country.
#[must_use]
pub fn country(text: &str, country: [char; 2]) -> String {
    let [a, b] = country;
    format!("250-ip-to-country/{text}={a}{b}\r\n{OK}")
}

fn renewed(code: u16, keys: &mut OnionKeys) -> String {
    if code != 250 {
        return FAILED.to_owned();
    }
    keys.clear();
    OK.to_owned()
}

/// Whether tor knew the address before (251) would tell of the user's other runs; 251 here is about this run.
fn onion_added(code: u16, address: &OnionAddress, key: &ClientKey, keys: &mut OnionKeys) -> String {
    if !(250..=252).contains(&code) {
        return FAILED.to_owned();
    }
    let known = keys.contains(address);
    keys.insert(address.clone(), key.clone());
    if known { "251 Client for onion existed and replaced\r\n" } else { OK }.to_owned()
}

fn onion_removed(code: u16, address: &OnionAddress, keys: &mut OnionKeys) -> String {
    if !(250..=251).contains(&code) {
        return FAILED.to_owned();
    }
    keys.remove(address);
    OK.to_owned()
}
