//! The browser's message bus, by which it is told to open an address while it runs (D-Bus Specification).
//!
//! Firefox takes addresses from its session bus alone. Here that is a socket inside its own container, with init as the bus and the only
//! caller: the browser takes a name on it, and init calls that name. The bus never passes on what one program says to
//! another, offers no service, and has nobody on it from outside of the container.

mod message;

use crate::error::Error;
use message::{Field, Kind, Message, Parsed, Value, Writer};
use nix::poll::{PollFd, PollFlags};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use torbox_plan::{Address, paths};

/// Programs of the container that are on the bus at once.
const CLIENTS: usize = 8;
/// Addresses that wait for the browser to take its name.
const WAITING: usize = 8;
/// The longest line of the handshake.
const MAX_LINE: usize = 1024;
const READ: usize = 4096;
const DAEMON: &str = "org.freedesktop.DBus";
/// What the browser's name begins with; its application's name follows, then its profile's.
const BROWSER: &str = "org.mozilla.";
/// Any would do: there is one bus.
const GUID: &str = "746f72626f7862757300000000000000";

/// What became of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    Yes,
    No,
}

/// The bus, and who is on it.
pub(crate) struct Bus {
    listener: UnixListener,
    clients: Vec<Client>,
    waiting: VecDeque<Option<Address>>,
    /// How many were there so far: names are not given twice.
    count: u32,
}

impl Bus {
    /// Makes the socket; to be called before the cage closes, in which no socket can be made.
    pub(crate) fn start() -> Result<Self, Error> {
        let failed = |error| Error::Supply(paths::BUS.as_str().to_owned(), error);
        let listener = UnixListener::bind(paths::BUS.as_str()).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, clients: Vec::new(), waiting: VecDeque::new(), count: 0 })
    }

    /// What wakes it.
    pub(crate) fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let listener = (self.clients.len() < CLIENTS).then(|| self.listener.as_fd());
        listener.into_iter().chain(self.clients.iter().map(|client| client.stream.as_fd())).map(|fd| PollFd::new(fd, PollFlags::POLLIN))
    }

    /// Has the browser open `address`, or a window where there is none, as soon as it can.
    pub(crate) fn open(&mut self, address: Option<Address>) -> Vec<Opened> {
        if self.waiting.len() == WAITING {
            return vec![Opened::No];
        }
        self.waiting.push_back(address);
        self.hand_over();
        Vec::new()
    }

    /// Serves everyone who has something to say, and tells what became of addresses.
    pub(crate) fn serve(&mut self) -> Vec<Opened> {
        while self.clients.len() < CLIENTS && let Ok((stream, _)) = self.listener.accept() {
            self.count += 1;
            self.clients.push(Client::new(stream, self.count));
        }
        let opened = self.clients.iter_mut().flat_map(Client::serve).collect();
        self.clients.retain(|client| !client.gone);
        self.hand_over();
        opened
    }

    fn hand_over(&mut self) {
        let Some(browser) = self.clients.iter_mut().find(|client| client.application.is_some()) else { return };
        while let Some(address) = self.waiting.pop_front() {
            browser.call(address.as_ref());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Messages,
}

/// A program on the bus.
struct Client {
    stream: UnixStream,
    number: u32,
    phase: Phase,
    input: Vec<u8>,
    serial: u32,
    /// The middle of its name, if it is the browser.
    application: Option<String>,
    /// Serial numbers of calls that it has not answered.
    calls: Vec<u32>,
    gone: bool,
}

impl Client {
    fn new(stream: UnixStream, number: u32) -> Self {
        let gone = stream.set_nonblocking(true).is_err();
        Self { stream, number, phase: Phase::Handshake, input: Vec::new(), serial: 0, application: None, calls: Vec::new(), gone }
    }

    /// Reads what it said, and answers.
    fn serve(&mut self) -> Vec<Opened> {
        let mut buffer = [0; READ];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.gone = true,
            Ok(count) => self.input.extend(buffer.get(..count).unwrap_or_default()),
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) => {}
            Err(_) => self.gone = true,
        }
        let mut opened = Vec::new();
        while !self.gone && self.step(&mut opened) {}
        if self.gone {
            opened.extend(self.calls.drain(..).map(|_| Opened::No));
        }
        opened
    }

    /// Takes one line or message; whether there was one.
    fn step(&mut self, opened: &mut Vec<Opened>) -> bool {
        if self.phase == Phase::Handshake {
            return self.handshake();
        }
        match message::parse(&self.input) {
            Parsed::Incomplete => false,
            Parsed::Garbage => {
                self.gone = true;
                false
            }
            Parsed::Message(message, length) => {
                self.input.drain(..length);
                opened.extend(self.take(&message));
                true
            }
        }
    }

    /// "Authentication Protocol": everyone in the container is the same user, and nothing is kept from anybody.
    fn handshake(&mut self) -> bool {
        let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") else {
            self.gone |= self.input.len() > MAX_LINE;
            return false;
        };
        let line: Vec<u8> = self.input.drain(..end + 2).collect();
        let line = String::from_utf8_lossy(&line);
        match line.trim_start_matches('\0').trim_end() {
            "BEGIN" => self.phase = Phase::Messages,
            "AUTH" | "CANCEL" => self.say(b"REJECTED EXTERNAL\r\n"),
            // Who does not say at once who it is, is asked.
            "AUTH EXTERNAL" => self.say(b"DATA\r\n"),
            line if line == "DATA" || line.starts_with("DATA ") || line.starts_with("AUTH EXTERNAL ") => self.say(format!("OK {GUID}\r\n").as_bytes()),
            _ => self.say(b"ERROR\r\n"),
        }
        true
    }

    /// What has no room is not waited for: who does not read is gone.
    fn say(&mut self, bytes: &[u8]) {
        self.gone |= self.stream.write_all(bytes).is_err();
    }

    fn take(&mut self, message: &Message) -> Option<Opened> {
        let call = self.calls.iter().position(|call| *call == message.reply_serial);
        match message.kind {
            Kind::Call if message.wants_reply || message.member == "RequestName" => self.answer(message),
            Kind::Call | Kind::Signal => {}
            Kind::Return | Kind::Error => {
                let call = call?;
                self.calls.remove(call);
                return Some(if message.kind == Kind::Return { Opened::Yes } else { Opened::No });
            }
        }
        None
    }

    fn answer(&mut self, message: &Message) {
        let mut body = Writer(Vec::new());
        let signature = match message.member.as_str() {
            _ if message.destination != DAEMON => return self.refuse(message, "ServiceUnknown"),
            "Hello" => {
                body.text(&self.name());
                "s"
            }
            "RequestName" => {
                self.application = application(&message.text).or(self.application.take());
                body.number(1);
                "u"
            }
            "AddMatch" | "RemoveMatch" => "",
            "NameHasOwner" => {
                body.number(0);
                "b"
            }
            "GetNameOwner" => return self.refuse(message, "NameHasNoOwner"),
            "StartServiceByName" => return self.refuse(message, "ServiceUnknown"),
            _ => return self.refuse(message, "UnknownMethod"),
        };
        self.send(Kind::Return, &[(Field::ReplySerial, Value::Number(message.serial))], signature, &body.0);
    }

    fn refuse(&mut self, message: &Message, error: &str) {
        let error = format!("{DAEMON}.Error.{error}");
        self.send(Kind::Error, &[(Field::ReplySerial, Value::Number(message.serial)), (Field::ErrorName, Value::Text(&error))], "", &[]);
    }

    /// Calls the browser, as a second start of it would.
    fn call(&mut self, address: Option<&Address>) {
        let application = self.application.clone().unwrap_or_default();
        let (path, interface) = (format!("/org/mozilla/{application}/Remote"), format!("{BROWSER}{application}"));
        let line = command_line(address.map_or_else(|| vec!["browser", "--new-window"], |address| vec!["browser", "--new-tab", address.as_str()]).as_slice());
        let mut body = Writer(Vec::new());
        body.number(u32::try_from(line.len()).unwrap_or(u32::MAX));
        body.0.extend(line);
        self.send(Kind::Call, &[(Field::Path, Value::Text(&path)), (Field::Interface, Value::Text(&interface)), (Field::Member, Value::Text("OpenURL"))], "ay", &body.0);
        self.calls.push(self.serial);
    }

    fn send(&mut self, kind: Kind, fields: &[(Field, Value<'_>)], signature: &str, body: &[u8]) {
        self.serial += 1;
        let name = self.name();
        let ends = [(Field::Sender, Value::Text(DAEMON)), (Field::Destination, Value::Text(&name))];
        let fields: Vec<_> = fields.iter().chain(&ends).copied().collect();
        self.say(&message::write(kind, self.serial, &fields, signature, body));
    }

    fn name(&self) -> String {
        format!(":1.{}", self.number)
    }
}

/// The application in a browser's name. It becomes part of a path.
fn application(name: &str) -> Option<String> {
    let (application, _profile) = name.strip_prefix(BROWSER)?.split_once('.')?;
    let plain = !application.is_empty() && application.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain.then(|| application.to_owned())
}

/// As a second browser hands its words to the first: their number and places, the working directory, the words.
fn command_line(words: &[&str]) -> Vec<u8> {
    let directory = b"/\0";
    let mut place = 4 * (words.len() + 1) + directory.len();
    let mut line = u32::try_from(words.len()).unwrap_or_default().to_le_bytes().to_vec();
    for word in words {
        line.extend(u32::try_from(place).unwrap_or_default().to_le_bytes());
        place += word.len() + 1;
    }
    line.extend(directory);
    words.iter().for_each(|word| line.extend(word.bytes().chain([0])));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_where_the_numbers_say() {
        let line = command_line(&["browser", "--new-tab", "http://a/"]);
        assert_eq!(&line[..18], b"\x03\0\0\0\x12\0\0\0\x1a\0\0\0\x24\0\0\0/\0");
        assert_eq!(&line[18..], b"browser\0--new-tab\0http://a/\0");
    }

    #[test]
    fn only_a_browser_has_an_application() {
        assert_eq!(application("org.mozilla.firefox_esr.ZGVm_"), Some("firefox_esr".to_owned()));
        for other in ["org.mozilla.firefox", "org.mozilla..x", "org.mozilla.a/b.x", "org.freedesktop.Notifications", ""] {
            assert_eq!(application(other), None, "{other}");
        }
    }

    /// A browser's side of the bus, up to its name.
    #[test]
    fn a_browser_is_called_once_it_has_its_name() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours, 1);
        theirs.write_all(b"\0AUTH\r\nAUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n").unwrap();
        client.serve();
        let mut read = |client: &mut Client| {
            let mut buffer = vec![0; 4096];
            let count = theirs.read(&mut buffer).unwrap();
            assert!(!client.gone);
            buffer.truncate(count);
            buffer
        };
        assert_eq!(read(&mut client), format!("REJECTED EXTERNAL\r\nDATA\r\nOK {GUID}\r\nERROR\r\n").into_bytes());
        client.call(Some(&Address::new("http://a/").unwrap()));
        let Parsed::Message(call, _) = message::parse(&read(&mut client)) else { panic!("no message") };
        assert_eq!((call.kind, call.member.as_str(), call.destination.as_str()), (Kind::Call, "OpenURL", ":1.1"));
        let answer = |kind, serial| Message { kind, wants_reply: false, serial: 9, member: String::new(), destination: String::new(), reply_serial: serial, text: String::new() };
        assert_eq!(client.take(&answer(Kind::Return, 77)), None, "no call has this number");
        assert_eq!(client.take(&answer(Kind::Return, call.serial)), Some(Opened::Yes));
        assert_eq!(client.take(&answer(Kind::Error, call.serial)), None, "it was answered");
    }
}
