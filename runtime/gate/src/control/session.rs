//! One client of the control side: authenticated or not, and which events it wants. Lines in, answers or questions out.
//! It never answers a line before the one that came first, and never serves a client that does not know the secret.

use super::display::{self, Display, Shown};
use super::keys::OnionKeys;
use super::parse::{self, Command, Denied, Events, InfoKey, Secret, Wanted};
use super::question::{self, Question};
use crate::policy::control::{SOCKS_LISTENER, TOR_VERSION};

/// What the caller does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends this.
    Say(String),
    /// Asks tor; the client's answer comes from the reply.
    Ask(Question),
    /// Makes a new identity, then asks tor.
    NewIdentity,
    /// Sends this, then closes.
    Close(String),
}

/// The tables that all clients of a gate share.
pub struct Tables<'a> {
    /// Circuits.
    pub display: &'a mut Display,
    /// Onion-service keys.
    pub keys: &'a mut OnionKeys,
    /// What clients must know.
    pub secret: &'a Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stranger,
    Authenticated,
}

/// One client.
#[derive(Debug)]
pub struct Session {
    state: State,
    events: Events,
}

impl Default for Session {
    fn default() -> Self {
        Self { state: State::Stranger, events: Events::default() }
    }
}

impl Session {
    /// Whether it knows the secret.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.state == State::Authenticated
    }

    /// Answers one line, without its end.
    pub fn step(&mut self, line: &[u8], tables: &mut Tables<'_>) -> Step {
        match (parse::parse(line), self.state) {
            (Ok(Command::Authenticate(secret)), _) => self.authenticate(&secret, tables.secret),
            (Ok(Command::ProtocolInfo), _) => Step::Say(protocol_info()),
            (Ok(Command::Quit), _) => Step::Close("250 closing connection\r\n".to_owned()),
            (Err(Denied::Syntax), _) => Step::Close("500 Syntax error\r\n".to_owned()),
            (_, State::Stranger) => Step::Close("514 Authentication required.\r\n".to_owned()),
            (Ok(command), State::Authenticated) => self.obey(command, tables),
            (Err(denied), State::Authenticated) => Step::Say(denial(&denied)),
        }
    }

    fn authenticate(&mut self, offered: &Secret, secret: &Secret) -> Step {
        if !secret.matches(offered) {
            return Step::Close("515 Authentication failed\r\n".to_owned());
        }
        self.state = State::Authenticated;
        Step::Say("250 OK\r\n".to_owned())
    }

    fn obey(&mut self, command: Command, tables: &mut Tables<'_>) -> Step {
        match command {
            Command::SetEvents(events) => {
                self.events = events;
                Step::Say("250 OK\r\n".to_owned())
            }
            Command::GetInfo(keys) => get_info(&keys, tables.display),
            Command::GetConf(options) => Step::Say(get_conf(&options)),
            Command::NewNym => Step::NewIdentity,
            Command::OnionAdd(address, _) if !tables.keys.has_room(&address) => Step::Say("551 Too many keys\r\n".to_owned()),
            Command::OnionAdd(address, key) => Step::Ask(Question::OnionAdd(address, key)),
            Command::OnionRemove(address) if tables.keys.contains(&address) => Step::Ask(Question::OnionRemove(address)),
            Command::OnionRemove(address) => Step::Say(format!("251 No credentials for \"{address}\"\r\n")),
            Command::OnionView(address) => Step::Say(view(address.as_ref(), tables.keys)),
            Command::ProtocolInfo | Command::Authenticate(_) | Command::Quit => Step::Close("500 Syntax error\r\n".to_owned()),
        }
    }

    /// The line for this client, if it asked for that kind of event.
    #[must_use]
    pub fn wants<'a>(&self, shown: &'a Shown) -> Option<&'a str> {
        let (wanted, line) = match shown {
            Shown::Circ(line) => (self.events.circ, line),
            Shown::Stream(line) => (self.events.stream, line),
        };
        (self.is_authenticated() && wanted == Wanted::Yes).then_some(line)
    }
}

fn protocol_info() -> String {
    format!("250-PROTOCOLINFO 1\r\n250-AUTH METHODS=HASHEDPASSWORD\r\n250-VERSION Tor=\"{TOR_VERSION}\"\r\n250 OK\r\n")
}

fn denial(denied: &Denied) -> String {
    match denied {
        Denied::Command(word) => format!("510 Unrecognized command \"{word}\"\r\n"),
        Denied::Arguments => "512 Wrong arguments\r\n".to_owned(),
        Denied::InfoKey(word) => format!("552 Unrecognized key \"{word}\"\r\n"),
        Denied::Option(word) => format!("552 Unrecognized configuration key \"{word}\"\r\n"),
        Denied::Event(word) => format!("552 Unrecognized event \"{word}\"\r\n"),
        Denied::Signal(word) => format!("552 Unrecognized signal code \"{word}\"\r\n"),
        Denied::Syntax => "500 Syntax error\r\n".to_owned(),
    }
}

/// A key that tor has to be asked for comes alone; the others come in any number.
fn get_info(keys: &[InfoKey], display: &mut Display) -> Step {
    let mut answer = String::new();
    for key in keys {
        match (info(key, display), keys.len()) {
            (Info::Line(line), _) => answer.push_str(&line),
            (Info::Ask(question), 1) => return Step::Ask(question),
            (Info::Whole(reply), 1) => return Step::Say(reply),
            (Info::Ask(_) | Info::Whole(_), _) => return Step::Say("551 Ask for this key alone\r\n".to_owned()),
        }
    }
    Step::Say(answer + "250 OK\r\n")
}

enum Info {
    Line(String),
    Whole(String),
    Ask(Question),
}

fn info(key: &InfoKey, display: &Display) -> Info {
    match key {
        InfoKey::Version => Info::Line(format!("250-version={TOR_VERSION}\r\n")),
        InfoKey::SocksListeners => Info::Line(format!("250-net/listeners/socks=\"{SOCKS_LISTENER}\"\r\n")),
        InfoKey::CircuitStatus => Info::Line(circuit_status(&display.circuit_status())),
        InfoKey::BootstrapPhase => Info::Ask(Question::BootstrapPhase),
        InfoKey::Relay(relay, text) if display::is_hidden(relay) => Info::Whole(question::relay_status(text, &display::hidden_status(relay))),
        InfoKey::Relay(relay, text) if display.was_shown(relay) => Info::Ask(Question::Relay(*relay, text.clone())),
        InfoKey::Relay(_, text) => Info::Whole(question::unknown_relay(text)),
        InfoKey::Country(address, text) if display.was_told(address) => Info::Ask(Question::Country(*address, text.clone())),
        InfoKey::Country(_, text) => Info::Whole(question::country(text, ['?', '?'])),
    }
}

fn circuit_status(lines: &[String]) -> String {
    match lines {
        [] => "250-circuit-status=\r\n".to_owned(),
        _ => format!("250+circuit-status=\r\n{}\r\n.\r\n", lines.join("\r\n")),
    }
}

/// Every option as if unset: `250 Keyword`, the last line without a dash.
fn get_conf(options: &[&str]) -> String {
    let last = options.len().saturating_sub(1);
    let line = |(at, option): (usize, &&str)| format!("250{}{option}\r\n", if at == last { ' ' } else { '-' });
    options.iter().enumerate().map(line).collect()
}

fn view(address: Option<&super::text::OnionAddress>, keys: &OnionKeys) -> String {
    let mut answer = match address {
        Some(address) => format!("250-ONION_CLIENT_AUTH_VIEW {address}\r\n"),
        None => "250-ONION_CLIENT_AUTH_VIEW\r\n".to_owned(),
    };
    for (address, key) in keys.view(address) {
        answer.push_str(&format!("250-CLIENT {address} {key}\r\n"));
    }
    answer + "250 OK\r\n"
}

#[cfg(test)]
mod tests;
