//! What can go wrong in init.

use nix::errno::Errno;
use std::fmt;
use torbox_gate::domain::DomainError;

/// What can go wrong.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line is not one of the forms.
    Usage,
    /// The program could not be started.
    Start(String, std::io::Error),
    /// A system call failed.
    System(&'static str, Errno),
    /// The report could not be written.
    Report(std::io::Error),
    /// The battery was started elsewhere than in a box, where these interfaces are.
    NoBox(String),
    /// The box lets something out.
    Escaped(Vec<String>),
    /// The attempts find nothing where there is something to find.
    Blind,
    /// The cage does not close.
    Cage(DomainError),
    /// The runtime said something unknown.
    Word(String),
    /// A supplied file could not be written.
    Supply(String, std::io::Error),
    /// A socket of the container could not be talked to.
    Ask(String, std::io::Error),
    /// Another container was not ready in so many seconds.
    Absent(String, u64, Box<Error>),
    /// tor is not connected to the network yet.
    Connecting(String),
    /// A variable does not hold what it must.
    Variable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage => f.write_str("usage: init run [--proof box|uplink] -- PROGRAM [ARG ...] | init hold -- PROGRAM [ARG ...] | init alone [STEP ...] -- PROGRAM [ARG ...] | init healthy listens SOCKET | init healthy tor SOCKET COOKIE | init ask SOCKET WORD | init carry SOCKET | init downloads | init send NAME | init receive NAME LENGTH | init audit [--boxed] | init probe | init hook"),
            Self::Start(program, _) => write!(f, "cannot start {program}"),
            Self::System(call, _) => write!(f, "{call} failed"),
            Self::Report(_) => f.write_str("cannot write the report"),
            Self::NoBox(interfaces) => write!(f, "this is no box: it has {interfaces}"),
            Self::Escaped(ways) => write!(f, "the box does not hold: {}", ways.join("; ")),
            Self::Blind => f.write_str("the attempts to get out find nothing where they must"),
            Self::Cage(_) => f.write_str("cannot close the cage"),
            Self::Word(word) => write!(f, "the runtime said {word:?}"),
            Self::Supply(path, _) => write!(f, "cannot write {path}"),
            Self::Ask(socket, _) => write!(f, "cannot talk to {socket}"),
            Self::Absent(what, seconds, _) => write!(f, "{what} was not ready in {seconds} s: is the container that makes it running?"),
            Self::Connecting(phase) => write!(f, "tor is not connected: {phase}"),
            Self::Variable(name) => write!(f, "{name} must be a cookie in hexadecimal digits, as xauth list prints it"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Usage | Self::NoBox(_) | Self::Escaped(_) | Self::Blind | Self::Word(_) | Self::Connecting(_) | Self::Variable(_) => None,
            Self::Absent(_, _, error) => Some(error.as_ref()),
            Self::Start(_, error) | Self::Report(error) | Self::Supply(_, error) | Self::Ask(_, error) => Some(error),
            Self::Cage(error) => Some(error),
            Self::System(_, errno) => Some(errno),
        }
    }
}
