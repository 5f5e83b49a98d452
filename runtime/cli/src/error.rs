//! What the user is told when something goes wrong: the error, its causes, and what to do.

use crate::bridge::{BridgeError, BuiltinError};
use crate::system;
use crate::terminal::say;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use torbox_backend::engine::{Endpoint, EngineError};
use torbox_backend::files::FilesError;
use torbox_backend::launched::LaunchError;
use torbox_images::ImageName;
use torbox_plan::{BoxName, PlanError};

/// Exit codes of torbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Anything else.
    Failure = 1,
    /// A wrong command line, or a wrong setting.
    Usage = 2,
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
    /// An audit found a way out.
    Open = 8,
}

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("box {0} is already running")]
    Running(BoxName),
    #[error("box {0} was killed, and a process of it has not ended yet")]
    Ending(BoxName),
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
    #[error("the compositor at {} has no security contexts", .0.display())]
    NoContext(PathBuf),
    #[error("the X server at {} takes no untrusted client: {reason}", socket.display())]
    Untrusted { socket: PathBuf, reason: String },
    #[error("the cookie file cannot be read")]
    CookieFile(#[source] std::io::Error),
    #[error("cannot use {}", path.display())]
    Path { path: PathBuf, source: std::io::Error },
    #[error("the environment variable {0} is not set to an absolute path")]
    NoDirectory(&'static str),
    #[error("torbox's own {0} is missing: it belongs in {1}")]
    Program(&'static str, String),
    #[error("there are no images for the architecture of this machine")]
    Architecture,
    #[error("no image is installed")]
    NothingInstalled,
    #[error("there is no image {0}")]
    NoImage(ImageName),
    #[error(transparent)]
    Image(#[from] torbox_images::Error),
    #[error("the containers have no user ids to be mapped to")]
    Ids(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Render(#[from] torbox_plan::oci::RenderError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{what} is there on Linux alone")]
    #[cfg_attr(target_os = "linux", expect(dead_code, reason = "on Linux it is there"))]
    LinuxAlone { what: &'static str, instead: &'static str },
    #[error("no {0} was found")]
    NoEngine(&'static str),
    #[error("the engine at {endpoint} is {found}, not {wanted}")]
    OtherEngine { endpoint: Endpoint, wanted: &'static str, found: &'static str },
    #[error("an engine has something of box {name}, which must be removed first")]
    EngineLeft { name: BoxName, note: PathBuf, source: Box<EngineError> },
    #[error(
        "podman kube play cannot keep a box: programs can be run from the volumes of a pod (G7), its containers read the host's names and hardware in /etc/hosts and /sys, and nothing hides the rest of proc(5) (G6)"
    )]
    ComposeKube,
    #[error("a compose file is for whatever engine it is used with: --backend, --engine and --oci-runtime say nothing about it")]
    ComposeEngine,
    #[error("a security context ends with the command that made it, and would not outlive this one")]
    ComposeContext,
    #[error("the page of a served display ends with the command that serves it, and would not outlive this one")]
    ComposeServed,
    #[error("the plan cannot be written as a compose file")]
    Compose(#[from] torbox_plan::engine::Unsupported),
    #[error("the box could not be launched")]
    Launch(#[from] LaunchError),
    #[error("what is not needed once the box runs cannot be given up")]
    Confine(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    #[error("the box does not hold: {0} attempts to get out succeeded")]
    Open(usize),
    #[error("the line is no bridge that torbox can use")]
    Bridge(#[from] BridgeError),
    #[error("{host} gave no bridges: {reason}")]
    Service { host: String, reason: String },
    #[error("through an engine torbox asks nobody for bridges")]
    AskInEngine,
    #[error(transparent)]
    Builtin(#[from] BuiltinError),
    #[error("there is no bridge {0}")]
    NoBridge(usize),
    #[error("there are no bridges")]
    NoBridges,
    #[error("tor does not get to its network: it came to {percent}%")]
    NotConnected { percent: u8, hint: Option<&'static str> },
    #[error("with tor from the Tor Project torbox starts no pluggable transport, and a bridge needs one")]
    TransportsOfBundle,
    #[error("the pluggable transport {0} goes through no proxy, and a bridge needs it")]
    PastProxy(String),
    #[error("the pluggable transport {0} goes through no proxy that speaks SOCKS4, which takes no names, and a bridge needs it")]
    PastSocks4(String),
    #[error("there is no profile {0}")]
    NoProfile(BoxName),
    #[error("there is a profile {0} already")]
    ProfileExists(BoxName),
    #[error("{} is no profile: {reason}", path.display())]
    Archive { path: PathBuf, reason: String },
    #[error("{} sets {settings}", path.display())]
    ForeignSettings { path: PathBuf, settings: String },
    #[error("{place} sets {name}, which is one for all profiles")]
    NotOfProfile { place: String, name: String },
    #[error("the box's files cannot be reached")]
    Files(#[from] FilesError),
    #[error("box {0} has no files yet: it is still starting")]
    NoFiles(BoxName),
    #[error("{0} of the downloads could not be saved")]
    NotSaved(usize),
    #[error("the running box did not answer")]
    NoAnswer,
    #[error("what follows -- is no list of options for `torbox run`")]
    DesktopOptions,
    #[error("{place} has an unknown setting: {name}")]
    UnknownSetting { place: String, name: String, nearest: Option<&'static str> },
    #[error("in {place} {name} is {value}, which it cannot be")]
    WrongSetting { place: String, name: &'static str, value: String, hint: String },
    #[error("{} is no file of settings", path.display())]
    SettingsFile { path: PathBuf, source: Box<toml::de::Error> },
    #[error("the editor {0:?} failed")]
    Editor(String),
    #[error("the running box did not open it: {0}")]
    NotOpened(String),
    #[error("the display server does not answer within {0} s")]
    NoDisplayAnswer(u64),
    #[error("nothing was copied: {0}")]
    NotCopied(String),
    #[error("the box cannot be heard: {0}")]
    NoSound(String),
    #[error("the browser of box {0} copied no text")]
    NothingCopied(BoxName),
    #[error("the clipboard cannot be had: {0}")]
    NoClipboard(String),
    #[error("the box has no new identity: {0}")]
    NoNewIdentity(String),
}

impl CliError {
    fn exit(&self) -> Exit {
        match self {
            Self::Running(_) | Self::Ending(_) | Self::NotRunning(_) | Self::NoAnswer | Self::NotOpened(_) => Exit::Box,
            Self::NoDisplay | Self::NoDisplayAnswer(_) | Self::DisplayName { .. } | Self::DisplaySocket { .. } | Self::NoContext(_) | Self::ComposeContext | Self::ComposeServed => Exit::Display,
            Self::Cookie { .. } | Self::CookieFile(_) | Self::Untrusted { .. } => Exit::Display,
            Self::Image(_) | Self::Program(..) | Self::Architecture | Self::NothingInstalled | Self::NoImage(_) | Self::Builtin(BuiltinError::NotBuilt(_) | BuiltinError::NotThere(_) | BuiltinError::Form(_)) => Exit::Image,
            Self::Ids(_) | Self::Plan(_) | Self::Launch(_) | Self::NoSound(_) | Self::Confine(_) | Self::Refused { .. } | Self::Engine(_) | Self::NoEngine(_) | Self::LinuxAlone { .. } | Self::OtherEngine { .. } | Self::EngineLeft { .. } => Exit::Host,
            Self::Failed { .. } | Self::Killed | Self::NoNewIdentity(_) | Self::NotConnected { .. } | Self::Service { .. } => Exit::Lost,
            Self::Open(_) => Exit::Open,
            Self::Bridge(_) | Self::AskInEngine | Self::Builtin(BuiltinError::Unknown { .. }) | Self::NoBridge(_) | Self::NoBridges | Self::TransportsOfBundle | Self::PastProxy(_) | Self::PastSocks4(_) | Self::UnknownSetting { .. } | Self::WrongSetting { .. } | Self::SettingsFile { .. } | Self::NotOfProfile { .. } => Exit::Usage,
            Self::NoProfile(_) | Self::ProfileExists(_) | Self::Archive { .. } | Self::ForeignSettings { .. } | Self::Editor(_) | Self::Path { .. } | Self::NoDirectory(_) | Self::Render(_) | Self::Compose(_) | Self::ComposeEngine | Self::ComposeKube | Self::Browser(_) | Self::System(..) | Self::DesktopOptions => Exit::Failure,
            Self::NotCopied(_) | Self::NothingCopied(_) | Self::NoClipboard(_) | Self::Files(_) | Self::NoFiles(_) | Self::NotSaved(_) => Exit::Failure,
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownSetting { nearest: Some(nearest), .. } => return Some(format!("did you mean {nearest}? torbox config show lists all settings")),
            Self::UnknownSetting { .. } => "torbox config show lists all settings",
            Self::WrongSetting { hint, .. } => return Some(hint.clone()),
            Self::SettingsFile { .. } => "torbox config edit opens it",
            Self::Bridge(BridgeError::Transport(_)) => "ask the Tor Project for a bridge with obfs4, snowflake or meek, or for one without a transport",
            Self::Bridge(_) => "the Tor Project gives such lines to those who ask it for bridges: with obfs4, snowflake or meek, or without a transport",
            Self::TransportsOfBundle => "--tor debian has obfs4, snowflake and meek; torbox bridge list shows the bridges",
            Self::PastProxy(_) => "bridges with obfs4, with meek or without a transport go through it; torbox bridge list shows the bridges",
            Self::PastSocks4(_) => "it goes through socks5:// and http://; torbox bridge list shows the bridges",
            Self::Service { .. } => "try again in a while, with another --transport, or without --country; torbox bridge builtin has the bridges that everybody has",
            Self::AskInEngine => "--backend native does, on Linux; torbox bridge builtin has bridges, and torbox bridge add takes a line that you were given",
            Self::Builtin(BuiltinError::NotBuilt(_)) => "torbox build makes it; where the Tor Project is blocked, --via or --tarball help",
            Self::Builtin(BuiltinError::NotThere(_) | BuiltinError::Form(_)) => "torbox update makes it anew of the newest release; torbox bridge add takes a line that you were given",
            Self::Builtin(BuiltinError::Unknown { .. }) => "torbox bridge builtin lists them",
            Self::NoBridge(_) => "torbox bridge list shows their numbers",
            Self::NoBridges => "torbox bridge builtin has some, torbox bridge request asks the Tor Project for others, and torbox bridge add takes a line that you were given",
            Self::NotConnected { hint: Some(hint), .. } => hint,
            // tor's phases (control-spec, "Bootstrap phases"): what comes before conn_done.
            Self::NotConnected { percent: ..10, .. } => "nothing answers at the bridge's address as its line says: compare the line with what you were given; another may work",
            Self::NotConnected { .. } => "the bridge answers, but what is behind it does not: --verbose shows tor's own words; another bridge may work",
            Self::NoProfile(name) => return Some(format!("torbox profile create {name} makes it")),
            Self::ProfileExists(_) => "torbox profile list shows all; torbox profile remove removes one",
            Self::Archive { .. } => "it must come from torbox profile export",
            Self::ForeignSettings { .. } => "whoever made the archive decides by that how well the box is closed, and to whom it connects: --settings leave takes the profile without its settings, --settings take with them",
            Self::NotOfProfile { .. } => "images are shared: torbox config edit sets it for all",
            Self::Editor(_) => "set EDITOR to one that works",
            Self::Running(name) => return Some(format!("torbox stop {name} ends it; --name opens another box beside it")),
            Self::Ending(_) => "try again in a moment; if it stands still, it must be killed: pgrep -f '__outer|__inner' shows it",
            Self::NotRunning(_) => "torbox status shows which boxes run",
            Self::NoDisplay => "run torbox in a desktop session, or set DISPLAY or WAYLAND_DISPLAY; --display served shows the box as a page instead",
            Self::DisplayName { .. } => "torbox uses displays of this machine through their socket, such as DISPLAY=:0; displays over TCP are not safe",
            Self::NoDisplayAnswer(_) => "it stands still, or has much to do: try again once its other windows work; --display served does without it",
            Self::DisplaySocket { .. } => "is the display server running, and are you allowed to use it?",
            Self::Cookie { .. } => "XAUTHORITY names the cookie file of your session; xauth list shows what is in it",
            Self::NoContext(_) | Self::ComposeContext => "--display wayland-filter does without",
            Self::EngineLeft { note, .. } => return Some(format!("start that engine, and torbox removes it; if the engine is gone for good: rm {}", note.display())),
            Self::ComposeServed => "torbox run --display served serves it for as long as it runs",
            Self::ComposeKube => "--format podman writes the box for podman-compose; torbox run --backend podman needs no file",
            Self::ComposeEngine => "--format says whether Docker's or Podman's compose reads it",
            Self::Untrusted { .. } => "leave out --display: the box gets a display of its own. With --display x11-trusted a browser that was taken over could read every key and the whole screen",
            Self::CookieFile(_) => "set XAUTHORITY to the cookie file of your session",
            Self::Path { source, .. } if source.kind() == ErrorKind::PermissionDenied => "torbox keeps everything below a directory of yours if you give one with --dir",
            Self::NoDirectory(_) => "set it, or give --dir",
            Self::Program(..) => "install torbox completely: make install, or elsewhere than on Linux the whole archive of make dist-platforms; TORBOX_LIBEXEC names another directory",
            Self::NothingInstalled => "torbox build makes the images",
            Self::NoImage(_) => "torbox images lists those that are there",
            Self::Engine(error) => return error.hint(),
            Self::LinuxAlone { instead, .. } => instead,
            Self::NoEngine(_) => "start it, or say with --engine where it listens: unix:///path, on Windows npipe:////./pipe/NAME",
            Self::Image(error) => return error.hint().map(str::to_owned),
            Self::Ids(_) | Self::Plan(PlanError::TooFewIds { .. }) => return Some(format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}", system::caller().unwrap_or_else(|| "YOUR-NAME".to_owned()))),
            Self::Plan(PlanError::ForeignDisplay { .. }) => "run torbox as the user whose display it is; the socket's directory must be that user's alone (mode 0700)",
            Self::Plan(PlanError::NotKept) => "clipboard and input-jitter are kept with --display wayland, x11-nested and served; leave them as they are with others",
            Self::Plan(PlanError::SoundOfEngine) => "leave out --sound (TORBOX_SOUND=false where a setting asks for it), or use --backend native",
            Self::NoSound(_) => "PulseAudio must run, or PipeWire with pipewire-pulse; leave out --sound, or the setting, to do without",
            Self::Launch(LaunchError::NoMapper { .. }) => "install the package uidmap (Debian, Ubuntu) or shadow-utils (Fedora, Arch)",
            Self::Launch(LaunchError::MapRefused { .. }) => "the ranges in /etc/subuid and /etc/subgid must be yours and large enough",
            Self::Refused { hint, .. } | Self::Failed { hint, .. } => return hint.clone(),
            Self::DesktopOptions => "leave out the address and --window: the entry gives both",
            Self::NoNewIdentity(_) => "close the browser and start it again: every run is a new identity",
            Self::NotCopied(_) => "x11-nested and served keep it, unless --clipboard is in or none; with the other displays it is in the clipboard already, or can be had by no one",
            Self::NothingCopied(_) => "select it in the browser, copy it there as always, and try again; only text can be taken out",
            Self::NoClipboard(_) => "torbox copy --print writes it to standard output",
            Self::NotOpened(_) => "try again once its window is there",
            Self::Files(FilesError::Missing(_)) => "torbox downloads list shows what there is",
            Self::NoAnswer => "torbox stop ends it; if that does not, end the process that torbox status shows",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Prints the error and its causes to standard error.
    pub(crate) fn say(&self) {
        say(&format!("torbox: {self}"));
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            say(&format!("  because: {error}"));
            cause = error.source();
        }
    }

    /// Prints the error, its causes and a hint to standard error.
    pub(crate) fn print(&self) -> ExitCode {
        self.say();
        if let Some(hint) = self.hint() {
            say(&format!("\nhint: {hint}"));
        }
        ExitCode::from(self.exit() as u8)
    }
}
