//! The command line. It never has a default that opens anything: every socket is named by the caller.

use crate::socks::Auth;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
pub const USAGE: &str = "\
usage: torbox-gate --socks PATH --tor-socks PATH [options]
  --socks PATH                listen here for SOCKS5
  --tor-socks PATH            tor's SOCKS socket
  --control PATH              listen here for the control protocol
  --tor-control PATH          tor's control socket
  --tor-cookie FILE           tor's control cookie, read when tor is first needed
  --control-secret-file FILE  the secret that control clients must know
  --admin PATH                listen here for the trusted side (new-identity, status)
  --tag HEX                   this box's isolation tag, 8 to 32 digits (default: random)
  --require-auth yes|no       whether SOCKS clients must authenticate (default: yes)
  --lifeline stdin            end when standard input does
  --cage required|wanted|off  seccomp and Landlock of its own after start (default: wanted)
";

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An option that does not exist.
    #[error("unknown option {0}")]
    Unknown(String),
    /// An option given twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// An option without its value.
    #[error("{0} needs a value")]
    NoValue(String),
    /// A value outside of the option's choices.
    #[error("{0} does not take that value")]
    Value(&'static str),
    /// A required option is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// Whether the gate ends with its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifeline {
    /// It runs until a signal ends it.
    None,
    /// It ends when standard input does.
    Stdin,
}

/// How much the gate insists on caging itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cage {
    /// Without the cage it does not start.
    Required,
    /// It says on standard error what it could not have.
    Wanted,
    /// Not at all (for measurements and debuggers).
    Off,
}

/// The control side: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Where clients connect.
    pub listen: PathBuf,
    /// tor's control socket.
    pub tor: PathBuf,
    /// tor's cookie.
    pub cookie: PathBuf,
    /// The file with the secret of this box.
    pub secret: PathBuf,
}

/// A complete configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where SOCKS clients connect.
    pub socks: PathBuf,
    /// tor's SOCKS socket.
    pub tor_socks: PathBuf,
    /// The control side.
    pub control: Option<Control>,
    /// Where the trusted side connects.
    pub admin: Option<PathBuf>,
    /// The isolation tag in hexadecimal.
    pub tag: Option<String>,
    /// Whether SOCKS clients must authenticate.
    pub auth: Auth,
    /// Whether the gate ends with its parent.
    pub lifeline: Lifeline,
    /// How much the gate insists on caging itself.
    pub cage: Cage,
}

const OPTIONS: [&str; 11] = [
    "--socks",
    "--tor-socks",
    "--control",
    "--tor-control",
    "--tor-cookie",
    "--control-secret-file",
    "--admin",
    "--tag",
    "--require-auth",
    "--lifeline",
    "--cage",
];

/// Reads a command line (without the program's name).
///
/// # Errors
/// It is incomplete, contradictory or not understood.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Config, ConfigError> {
    let mut given = Given(Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        let option = *OPTIONS.iter().find(|option| **option == text).ok_or(ConfigError::Unknown(text.clone()))?;
        let value = arguments.next().ok_or(ConfigError::NoValue(text))?;
        if given.0.iter().any(|(earlier, _)| *earlier == option) {
            return Err(ConfigError::Twice(option));
        }
        given.0.push((option, value));
    }
    assemble(&mut given)
}

struct Given(Vec<(&'static str, OsString)>);

impl Given {
    fn take(&mut self, option: &'static str) -> Option<OsString> {
        let at = self.0.iter().position(|(given, _)| *given == option)?;
        Some(self.0.swap_remove(at).1)
    }

    fn path(&mut self, option: &'static str) -> Result<PathBuf, ConfigError> {
        self.take(option).map(PathBuf::from).ok_or(ConfigError::Missing(option))
    }

    fn choice<T: Copy>(&mut self, option: &'static str, choices: &[(&str, T)]) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.take(option) else { return Ok(None) };
        let found = choices.iter().find(|(name, _)| value == *name);
        found.map(|(_, choice)| Some(*choice)).ok_or(ConfigError::Value(option))
    }
}

fn assemble(given: &mut Given) -> Result<Config, ConfigError> {
    let tag = given.take("--tag").map(|tag| tag.into_string().map_err(|_| ConfigError::Value("--tag"))).transpose()?;
    Ok(Config {
        socks: given.path("--socks")?,
        tor_socks: given.path("--tor-socks")?,
        control: control(given)?,
        admin: given.take("--admin").map(PathBuf::from),
        tag,
        auth: given.choice("--require-auth", &[("yes", Auth::Required), ("no", Auth::Optional)])?.unwrap_or(Auth::Required),
        lifeline: given.choice("--lifeline", &[("stdin", Lifeline::Stdin)])?.unwrap_or(Lifeline::None),
        cage: given.choice("--cage", &[("required", Cage::Required), ("wanted", Cage::Wanted), ("off", Cage::Off)])?.unwrap_or(Cage::Wanted),
    })
}

/// Half a control side would be a mistake of the caller, so it is an error.
fn control(given: &mut Given) -> Result<Option<Control>, ConfigError> {
    let any = ["--control", "--tor-control", "--tor-cookie", "--control-secret-file"];
    if !given.0.iter().any(|(option, _)| any.contains(option)) {
        return Ok(None);
    }
    Ok(Some(Control {
        listen: given.path("--control")?,
        tor: given.path("--tor-control")?,
        cookie: given.path("--tor-cookie")?,
        secret: given.path("--control-secret-file")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Config, ConfigError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_least() {
        let config = read("--socks a --tor-socks b").unwrap();
        assert_eq!((config.auth, config.lifeline, config.cage), (Auth::Required, Lifeline::None, Cage::Wanted));
        assert_eq!((config.control, config.admin, config.tag), (None, None, None));
    }

    #[test]
    fn refused() {
        for (line, error) in [
            ("", ConfigError::Missing("--socks")),
            ("--socks a", ConfigError::Missing("--tor-socks")),
            ("--socks a --tor-socks b --control c", ConfigError::Missing("--tor-control")),
            ("--socks a --tor-socks b --control-secret-file c", ConfigError::Missing("--control")),
            ("--socks a --socks b", ConfigError::Twice("--socks")),
            ("--socks", ConfigError::NoValue("--socks".into())),
            ("--proxy x", ConfigError::Unknown("--proxy".into())),
            ("--socks a --tor-socks b --require-auth maybe", ConfigError::Value("--require-auth")),
            ("--socks a --tor-socks b --lifeline 3", ConfigError::Value("--lifeline")),
        ] {
            assert_eq!(read(line), Err(error), "{line}");
        }
    }
}
