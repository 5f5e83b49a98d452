//! A client's line as a typed command, or the error that the protocol knows for it.
//! It never guesses: what is not written here in full is an error, and a command that no rule allows is unknown.
//! tor's control-spec, sections 2 and 3.

use super::text::{ClientKey, Fingerprint, OnionAddress, hex, unquote};
use crate::policy::{self, Verdict, control as rules};
use std::net::IpAddr;

/// Most keys that one line may ask for.
const WORDS: usize = 8;

/// A command that has an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// How to authenticate.
    ProtocolInfo,
    /// With the bytes of a secret.
    Authenticate(Secret),
    /// End of the connection.
    Quit,
    /// Which events from now on.
    SetEvents(Events),
    /// At least one key.
    GetInfo(Vec<InfoKey>),
    /// At least one option.
    GetConf(Vec<&'static str>),
    /// New identity.
    NewNym,
    /// Adds a key for an onion service.
    OnionAdd(OnionAddress, ClientKey),
    /// Removes it.
    OnionRemove(OnionAddress),
    /// Shows one key or all.
    OnionView(Option<OnionAddress>),
}

/// What a client authenticates with. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret with these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Equality in a time that depends on the lengths alone.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let differences = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        self.0.len() == other.0.len() && differences == 0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(scrubbed)")
    }
}

/// The events of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Circuits.
    pub circ: Wanted,
    /// Streams.
    pub stream: Wanted,
}

/// Whether a client wants a kind of event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// It does not.
    #[default]
    No,
    /// It does.
    Yes,
}

/// A key of GETINFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InfoKey {
    /// `version`
    Version,
    /// `status/bootstrap-phase`
    BootstrapPhase,
    /// `circuit-status`
    CircuitStatus,
    /// `net/listeners/socks`
    SocksListeners,
    /// `ns/id/FINGERPRINT`, and the text of it as asked: clients compare it
    Relay(Fingerprint, String),
    /// `ip-to-country/ADDRESS`, likewise
    Country(IpAddr, String),
}

/// Why there is no command. The word is one that parsed as a word, cut to what a reply may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 510: no such command.
    Command(Word),
    /// 512: wrong arguments.
    Arguments,
    /// 552: no such key.
    InfoKey(Word),
    /// 552: no such option.
    Option(Word),
    /// 552: no such event.
    Event(Word),
    /// 552: no such signal.
    Signal(Word),
    /// 500: not a line of this protocol. The connection ends.
    Syntax,
}

/// At most 64 letters, digits and `/ _ - .`; a longer or other word is empty. It is all of a client's line that an error repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    fn new(text: &str) -> Self {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'.');
        Self(if text.len() <= 64 && text.bytes().all(legal) { text.to_owned() } else { String::new() })
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads one line, without its end.
///
/// # Errors
/// The reply that the protocol has for what the line asks.
pub fn parse(line: &[u8]) -> Result<Command, Denied> {
    let line = std::str::from_utf8(line).map_err(|_| Denied::Syntax)?;
    // A command with a body would leave the body to be read as commands.
    if !line.bytes().all(|b| matches!(b, 0x20..=0x7E)) || line.starts_with('+') {
        return Err(Denied::Syntax);
    }
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    if policy::word(rules::COMMANDS, name) == Verdict::Deny {
        return Err(Denied::Command(Word::new(name)));
    }
    let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
    if words.len() > WORDS {
        return Err(Denied::Arguments);
    }
    command(&name.to_ascii_uppercase(), rest, &words)
}

fn command(name: &str, rest: &str, words: &[&str]) -> Result<Command, Denied> {
    match (name, words) {
        ("PROTOCOLINFO", [] | ["1"]) => Ok(Command::ProtocolInfo),
        ("AUTHENTICATE", _) => secret(rest).map(Command::Authenticate),
        ("QUIT", []) => Ok(Command::Quit),
        ("SETEVENTS", _) => events(words).map(Command::SetEvents),
        ("GETINFO", [_, ..]) => words.iter().map(|word| info_key(word)).collect::<Result<_, _>>().map(Command::GetInfo),
        ("GETCONF", [_, ..]) => words.iter().map(|word| option(word)).collect::<Result<_, _>>().map(Command::GetConf),
        ("SIGNAL", [signal]) => newnym(signal),
        ("ONION_CLIENT_AUTH_ADD", [address, key, flags @ ..]) => onion_add(address, key, flags),
        ("ONION_CLIENT_AUTH_REMOVE", [address]) => onion(address).map(Command::OnionRemove),
        ("ONION_CLIENT_AUTH_VIEW", []) => Ok(Command::OnionView(None)),
        ("ONION_CLIENT_AUTH_VIEW", [address]) => onion(address).map(|address| Command::OnionView(Some(address))),
        _ => Err(Denied::Arguments),
    }
}

/// Hexadecimal digits, a quoted string, or nothing.
fn secret(text: &str) -> Result<Secret, Denied> {
    let bytes = match unquote(text.as_bytes()) {
        Some((bytes, [])) => Some(bytes),
        Some(_) => None,
        None => hex(text.as_bytes()),
    };
    bytes.map(Secret::new).ok_or(Denied::Arguments)
}

fn events(words: &[&str]) -> Result<Events, Denied> {
    let mut events = Events::default();
    for word in words.iter().filter(|word| !word.eq_ignore_ascii_case("EXTENDED")) {
        let allowed = policy::word(rules::EVENTS, word) == Verdict::Allow;
        match word.to_ascii_uppercase().as_str() {
            "CIRC" if allowed => events.circ = Wanted::Yes,
            "STREAM" if allowed => events.stream = Wanted::Yes,
            // The others that the policy allows are accepted and never sent.
            _ if allowed => {}
            _ => return Err(Denied::Event(Word::new(word))),
        }
    }
    Ok(events)
}

fn info_key(word: &str) -> Result<InfoKey, Denied> {
    let denied = || Denied::InfoKey(Word::new(word));
    let (rule, argument) = match rules::GETINFO.iter().find(|rule| word.starts_with(rule.id)) {
        Some(rule) if rule.verdict == Verdict::Allow => (rule.id, word.strip_prefix(rule.id).unwrap_or_default()),
        _ => return Err(denied()),
    };
    match (rule, argument) {
        ("version", "") => Ok(InfoKey::Version),
        ("status/bootstrap-phase", "") => Ok(InfoKey::BootstrapPhase),
        ("circuit-status", "") => Ok(InfoKey::CircuitStatus),
        ("net/listeners/socks", "") => Ok(InfoKey::SocksListeners),
        ("ns/id/", text) => Fingerprint::parse(text).map(|relay| InfoKey::Relay(relay, text.to_owned())).ok_or_else(denied),
        ("ip-to-country/", text) => text.parse().map(|address| InfoKey::Country(address, text.to_owned())).map_err(|_| denied()),
        _ => Err(denied()),
    }
}

fn option(word: &str) -> Result<&'static str, Denied> {
    let rule = rules::GETCONF.iter().find(|rule| rule.id.eq_ignore_ascii_case(word));
    match rule {
        Some(rule) if rule.verdict == Verdict::Allow => Ok(rule.id),
        _ => Err(Denied::Option(Word::new(word))),
    }
}

fn newnym(word: &str) -> Result<Command, Denied> {
    let allowed = policy::word(rules::SIGNALS, word) == Verdict::Allow;
    match word.to_ascii_uppercase().as_str() {
        "NEWNYM" if allowed => Ok(Command::NewNym),
        _ => Err(Denied::Signal(Word::new(word))),
    }
}

fn onion(word: &str) -> Result<OnionAddress, Denied> {
    OnionAddress::parse(word).ok_or(Denied::Arguments)
}

/// `Flags=Permanent` is understood and not obeyed: nothing of a box outlives it. A client's name for the key is dropped.
fn onion_add(address: &str, key: &str, flags: &[&str]) -> Result<Command, Denied> {
    let known = |flag: &&str| flag.eq_ignore_ascii_case("Flags=Permanent") || flag.starts_with("ClientName=");
    let key = ClientKey::parse(key).ok_or(Denied::Arguments)?;
    if !flags.iter().all(known) {
        return Err(Denied::Arguments);
    }
    Ok(Command::OnionAdd(onion(address)?, key))
}
