//! The command line. It never has a default that opens anything: both sockets are named by the caller.

use std::ffi::OsString;
use std::path::PathBuf;
use torbox_gate::config::Cage;

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not the one form that there is.
    #[error("usage: torbox-display --listen PATH --server PATH --protocol x11|nested --cookie PATH|wayland|served --cage required|wanted|off")]
    Usage,
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

/// A complete configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the browser connects.
    pub listen: PathBuf,
    /// The display server's socket.
    pub server: PathBuf,
    /// What is spoken there.
    pub protocol: Protocol,
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
    let cage = cage_of(value("--cage")?.to_str())?;
    if words.next().is_some() { Err(ConfigError::Usage) } else { Ok(Config { listen, server, protocol, cage }) }
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
        let config = Config { listen: "a".into(), server: "b".into(), protocol: Protocol::Wayland, cage: Cage::Required };
        assert_eq!(read("--listen a --server b --protocol wayland --cage required"), Ok(config));
        let config = Config { protocol: Protocol::X11 { cookie: "c".into() }, listen: "a".into(), server: "b".into(), cage: Cage::Off };
        assert_eq!(read("--listen a --server b --protocol x11 --cookie c --cage off"), Ok(config));
        let nested = read("--listen a --server b --protocol nested --cookie c --cage off").unwrap();
        assert_eq!(nested.protocol, Protocol::Nested { cookie: "c".into() });
        assert_eq!(read("--listen a --server b --protocol served --cage off").unwrap().protocol, Protocol::Served);
        let wrong = [
            "",
            "--listen a --server b --cage off",
            "--server b --listen a --protocol wayland --cage off",
            "--listen a --server b --protocol x12 --cage off",
            "--listen a --server b --protocol wayland --cage no",
            "--listen a --server b --protocol x11 --cage off",
            "--listen a --server b --protocol nested --cage off",
            "--listen a --server b --protocol wayland --cookie c --cage off",
            "--listen a --server b --protocol wayland --cage off x",
        ];
        for line in wrong {
            assert_eq!(read(line), Err(ConfigError::Usage), "{line}");
        }
    }
}
