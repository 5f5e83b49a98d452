//! A client of a control socket, tor's or the gate's: replies in order, events kept apart, and all that was heard (control-spec, 2.3).

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
pub(crate) struct Control {
    reader: BufReader<UnixStream>,
    events: VecDeque<String>,
    /// Every byte that came.
    pub(crate) heard: String,
}

impl Control {
    /// Connects and authenticates with the bytes of `secret`.
    pub(crate) fn open(socket: &Path, secret: &[u8]) -> Self {
        let mut control = Self::connect(socket);
        assert_eq!(control.ask(&format!("authenticate {}", hex(secret))), "250 OK\r\n");
        control
    }

    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream), events: VecDeque::new(), heard: String::new() }
    }

    /// Sends a line; its reply as it came.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        loop {
            let message = self.message().unwrap_or_else(|| panic!("no reply to {line}"));
            match message.starts_with("650") {
                true => self.events.push_back(message),
                false => return message,
            }
        }
    }

    /// The first event from now on that `wanted` accepts, if it comes within `patience`; events before it are dropped.
    pub(crate) fn event(&mut self, patience: Duration, mut wanted: impl FnMut(&str) -> bool) -> Option<String> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            let event = self.events.pop_front().or_else(|| self.message())?;
            if wanted(&event) {
                return Some(event);
            }
        }
        None
    }

    /// One whole message; `None` at the end, or when none came in time.
    fn message(&mut self) -> Option<String> {
        let (mut message, mut data) = (String::new(), false);
        loop {
            let mut line = String::new();
            match self.reader.read_line(&mut line) {
                Ok(1..) => {}
                Ok(0) => return None,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset) => return None,
                Err(error) => panic!("{error}"),
            }
            self.heard.push_str(&line);
            message.push_str(&line);
            match line.as_bytes().get(3) {
                _ if data => data = line != ".\r\n",
                Some(b'+') => data = true,
                Some(b' ') => return Some(message),
                _ => {}
            }
        }
    }
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
