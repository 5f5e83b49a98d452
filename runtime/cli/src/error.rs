//! What the user is told when something goes wrong: the error, its causes, and what to do.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use torbox_backend::native::{IdError, LaunchError};
use torbox_plan::{BoxName, PlanError};

/// Exit codes of torbox. 2 is a wrong command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Anything else.
    Failure = 1,
    /// A box of that name runs, or does not run.
    Box = 3,
    /// There is no display that can be used.
    Display = 4,
    /// An image could not be built or used.
    Image = 5,
    /// This machine cannot give what the box needs.
    Host = 6,
    /// The box ended because a part of it did.
    Lost = 7,
}

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("box {0} is already running")]
    Running(BoxName),
    #[error("box {0} is not running")]
    NotRunning(BoxName),
    #[error("there is no display: neither WAYLAND_DISPLAY nor DISPLAY is set")]
    NoDisplay,
    #[error("{variable} is {value:?}, which names no local display")]
    DisplayName { variable: &'static str, value: String },
    #[error("cannot connect to the display at {}", socket.display())]
    DisplaySocket { socket: PathBuf, source: std::io::Error },
    #[error("the X server at {} refused the cookie: {reason}", socket.display())]
    Cookie { socket: PathBuf, reason: String },
    #[error("the cookie file cannot be read")]
    CookieFile(#[source] std::io::Error),
    #[error("cannot use {}", path.display())]
    Path { path: PathBuf, source: std::io::Error },
    #[error("the environment variable {0} is not set to an absolute path")]
    NoDirectory(&'static str),
    #[error("torbox's own {0} is missing: it belongs in {1}")]
    Program(&'static str, String),
    #[error(transparent)]
    Image(#[from] torbox_images::Error),
    #[error("the containers have no user ids to be mapped to")]
    Ids(#[from] IdError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Render(#[from] torbox_plan::oci::RenderError),
    #[error("the box could not be launched")]
    Launch(#[from] LaunchError),
    #[error("{message}")]
    Refused { message: String, hint: Option<String> },
    #[error("{message}")]
    Failed { message: String, hint: Option<String> },
    #[error("the runtime was killed; nothing of the box is left running")]
    Killed,
    #[error("the browser ended with code {0}")]
    Browser(u8),
    #[error("cannot {0}")]
    System(&'static str, #[source] std::io::Error),
    #[error("the running box did not answer")]
    NoAnswer,
}

impl CliError {
    fn exit(&self) -> Exit {
        match self {
            Self::Running(_) | Self::NotRunning(_) | Self::NoAnswer => Exit::Box,
            Self::NoDisplay | Self::DisplayName { .. } | Self::DisplaySocket { .. } | Self::Cookie { .. } | Self::CookieFile(_) => Exit::Display,
            Self::Image(_) | Self::Program(..) => Exit::Image,
            Self::Ids(_) | Self::Plan(_) | Self::Launch(_) | Self::Refused { .. } => Exit::Host,
            Self::Failed { .. } | Self::Killed => Exit::Lost,
            Self::Path { .. } | Self::NoDirectory(_) | Self::Render(_) | Self::Browser(_) | Self::System(..) => Exit::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Running(name) => return Some(format!("torbox stop {name} ends it; --name opens another box beside it")),
            Self::NotRunning(_) => "torbox status shows which boxes run",
            Self::NoDisplay => "run torbox in a desktop session, or set DISPLAY or WAYLAND_DISPLAY",
            Self::DisplayName { .. } => "torbox uses displays of this machine through their socket, such as DISPLAY=:0; displays over TCP are not safe",
            Self::DisplaySocket { .. } => "is the display server running, and are you allowed to use it?",
            Self::Cookie { .. } => "XAUTHORITY names the cookie file of your session; xauth list shows what is in it",
            Self::CookieFile(_) => "set XAUTHORITY to the cookie file of your session",
            Self::Path { source, .. } if source.kind() == ErrorKind::PermissionDenied => "torbox keeps everything below a directory of yours if you give one with --dir",
            Self::NoDirectory(_) => "set it, or give --dir",
            Self::Program(..) => "install torbox completely (make install), or set TORBOX_LIBEXEC to the directory that has it",
            Self::Image(error) => return error.hint().map(str::to_owned),
            Self::Ids(_) => "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 YOUR-NAME",
            Self::Plan(PlanError::TooFewIds { .. }) => "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 YOUR-NAME",
            Self::Plan(PlanError::ForeignDisplay { .. }) => "run torbox as the user whose display it is; the socket's directory must be that user's alone (mode 0700)",
            Self::Launch(LaunchError::NoMapper { .. }) => "install the package uidmap (Debian, Ubuntu) or shadow-utils (Fedora, Arch)",
            Self::Launch(LaunchError::MapRefused { .. }) => "the ranges in /etc/subuid and /etc/subgid must be yours and large enough",
            Self::Refused { hint, .. } | Self::Failed { hint, .. } => return hint.clone(),
            Self::NoAnswer => "torbox stop ends it; if that does not, end the process that torbox status shows",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Prints the error, its causes and a hint to standard error.
    pub(crate) fn print(&self) -> ExitCode {
        eprintln!("torbox: {self}");
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            eprintln!("  because: {error}");
            cause = error.source();
        }
        if let Some(hint) = self.hint() {
            eprintln!("\nhint: {hint}");
        }
        ExitCode::from(self.exit() as u8)
    }
}
