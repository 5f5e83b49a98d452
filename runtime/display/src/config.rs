//! The command line. It never has a default that opens anything: both sockets are named by the caller.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use torbox_gate::config::Cage;

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not the one form that there is.
    #[error("usage: torbox-display --listen PATH --server PATH --protocol x11|nested --cookie PATH|wayland|served --clipboard both|in|out|none --jitter MILLISECONDS --cage required|wanted|off")]
    Usage,
    /// What an X server passes between its clients is not seen, and so not kept.
    #[error("with --protocol x11 neither the clipboard nor the input can be kept: --clipboard both --jitter 0")]
    NotKept,
}

/// What a display server speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The X protocol.
    X11 {
        /// The file with what opens the server.
        cookie: PathBuf,
    },
    /// Wayland.
    Wayland,
    /// What torbox's page understands; the clients speak Wayland to the display itself.
    Served,
    /// X, of which the clients see nothing: they speak Wayland to the display itself.
    Nested {
        /// The file with what opens the server.
        cookie: PathBuf,
    },
}

/// Which way a text may go over the edge of the browser's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clipboard {
    /// Both.
    Both,
    /// To the browser alone.
    In,
    /// From it alone.
    Out,
    /// Neither.
    None,
}

impl Clipboard {
    /// Whether the browser can be given a text.
    #[must_use]
    pub const fn lets_in(self) -> bool {
        matches!(self, Self::Both | Self::In)
    }

    /// Whether one can be had of it.
    #[must_use]
    pub const fn lets_out(self) -> bool {
        matches!(self, Self::Both | Self::Out)
    }
}

/// What the user lets through of what a browser could be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What is copied.
    pub clipboard: Clipboard,
    /// By how much keys and the pointer are late at most, each by another time.
    pub jitter: Duration,
}

impl Terms {
    /// Everything, at once.
    pub const NONE: Self = Self { clipboard: Clipboard::Both, jitter: Duration::ZERO };
}

/// More than this and nobody can type.
const JITTER: u64 = 1000;

/// A complete configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the browser connects.
    pub listen: PathBuf,
    /// The display server's socket.
    pub server: PathBuf,
    /// What is spoken there.
    pub protocol: Protocol,
    /// What the user lets through.
    pub terms: Terms,
    /// How much the display insists on caging itself.
    pub cage: Cage,
}

/// Reads a command line (without the program's name): every option once, in this order.
///
/// # Errors
/// It has another form.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Config, ConfigError> {
    let mut words = arguments.into_iter();
    let mut value = |option: &str| words.next().filter(|word| word == option).and_then(|_| words.next()).ok_or(ConfigError::Usage);
    let (listen, server) = (value("--listen")?.into(), value("--server")?.into());
    let protocol = match value("--protocol")?.to_str() {
        Some("x11") => Protocol::X11 { cookie: value("--cookie")?.into() },
        Some("nested") => Protocol::Nested { cookie: value("--cookie")?.into() },
        Some("wayland") => Protocol::Wayland,
        Some("served") => Protocol::Served,
        _ => return Err(ConfigError::Usage),
    };
    let clipboard = clipboard_of(value("--clipboard")?.to_str())?;
    let jitter = value("--jitter")?.to_str().and_then(|text| text.parse().ok()).filter(|&most| most <= JITTER).ok_or(ConfigError::Usage)?;
    let terms = Terms { clipboard, jitter: Duration::from_millis(jitter) };
    let cage = cage_of(value("--cage")?.to_str())?;
    match protocol {
        _ if words.next().is_some() => Err(ConfigError::Usage),
        Protocol::X11 { .. } if terms != Terms::NONE => Err(ConfigError::NotKept),
        protocol => Ok(Config { listen, server, protocol, terms, cage }),
    }
}

fn clipboard_of(word: Option<&str>) -> Result<Clipboard, ConfigError> {
    match word {
        Some("both") => Ok(Clipboard::Both),
        Some("in") => Ok(Clipboard::In),
        Some("out") => Ok(Clipboard::Out),
        Some("none") => Ok(Clipboard::None),
        _ => Err(ConfigError::Usage),
    }
}

fn cage_of(word: Option<&str>) -> Result<Cage, ConfigError> {
    match word {
        Some("required") => Ok(Cage::Required),
        Some("wanted") => Ok(Cage::Wanted),
        Some("off") => Ok(Cage::Off),
        _ => Err(ConfigError::Usage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_and_no_other() {
        let read = |line: &str| parse(line.split_whitespace().map(OsString::from));
        let (listen, server) = (PathBuf::from("a"), PathBuf::from("b"));
        let config = Config { listen: listen.clone(), server: server.clone(), protocol: Protocol::Wayland, terms: Terms::NONE, cage: Cage::Required };
        assert_eq!(read("--listen a --server b --protocol wayland --clipboard both --jitter 0 --cage required"), Ok(config));
        let config = Config { protocol: Protocol::X11 { cookie: "c".into() }, listen, server, terms: Terms::NONE, cage: Cage::Off };
        assert_eq!(read("--listen a --server b --protocol x11 --cookie c --clipboard both --jitter 0 --cage off"), Ok(config));
        let nested = read("--listen a --server b --protocol nested --cookie c --clipboard in --jitter 20 --cage off").unwrap();
        assert_eq!((nested.protocol, nested.terms), (Protocol::Nested { cookie: "c".into() }, Terms { clipboard: Clipboard::In, jitter: Duration::from_millis(20) }));
        assert_eq!(read("--listen a --server b --protocol served --clipboard none --jitter 0 --cage off").unwrap().protocol, Protocol::Served);
        let wrong = [
            "",
            "--listen a --server b --cage off",
            "--listen a --server b --protocol wayland --cage off",
            "--server b --listen a --protocol wayland --clipboard both --jitter 0 --cage off",
            "--listen a --server b --protocol x12 --clipboard both --jitter 0 --cage off",
            "--listen a --server b --protocol wayland --clipboard both --jitter 0 --cage no",
            "--listen a --server b --protocol wayland --clipboard all --jitter 0 --cage off",
            "--listen a --server b --protocol wayland --clipboard both --jitter 1001 --cage off",
            "--listen a --server b --protocol wayland --clipboard both --jitter -1 --cage off",
            "--listen a --server b --protocol x11 --clipboard both --jitter 0 --cage off",
            "--listen a --server b --protocol nested --clipboard both --jitter 0 --cage off",
            "--listen a --server b --protocol wayland --cookie c --clipboard both --jitter 0 --cage off",
            "--listen a --server b --protocol wayland --clipboard both --jitter 0 --cage off x",
        ];
        for line in wrong {
            assert_eq!(read(line), Err(ConfigError::Usage), "{line}");
        }
        for terms in ["--clipboard none --jitter 0", "--clipboard both --jitter 1"] {
            assert_eq!(read(&format!("--listen a --server b --protocol x11 --cookie c {terms} --cage off")), Err(ConfigError::NotKept));
        }
    }
}
