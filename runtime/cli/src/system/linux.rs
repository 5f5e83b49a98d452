//! Linux, where torbox makes boxes itself, and displays have sockets.

use super::Woken;
use crate::control::Claim;
use crate::dirs::Dirs;
use crate::error::CliError;
use crate::helper::Inside;
use crate::images::Roots;
use crate::speaker::{self, SPEAKER};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use torbox_backend::files::{Exchange, FilesError};
use torbox_backend::launched::Launched;
use torbox_backend::local::{Listener, Stream};
use torbox_backend::native::{self, Groups, Supplies};
use torbox_plan::{BoxName, CgroupAccess, Display, Host, Identity, Intent, Memory, Program};

use crate::bridge::request::{self, ASKER};
use crate::display::servers::clipboard::{HOLDER, holder_main};
pub(crate) use crate::display::servers::clipboard::hold as hold_clipboard;
pub(crate) use crate::display::servers::{Held, is_wayland, open as open_display};
pub(crate) use crate::speaker::Speaker;
pub(crate) use torbox_backend::native::{Launch as NativeLaunch, close_on_exec, remove_left_cgroups};
pub(crate) use torbox_sys::give_back_memory;

/// What opens a file for its user, where no variable names another.
pub(crate) const EDITOR: &str = "editor";

/// Of what is there on Linux alone: nothing is refused.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it is refused")]
pub(crate) const fn linux_alone(_: &'static str, _: &'static str) -> Result<(), CliError> {
    Ok(())
}

/// The processes of the native backend, of the clipboard, of questions and of sound. The first must be single-threaded from their first instruction on.
pub(crate) fn native_main(word: &str) -> Option<ExitCode> {
    match word {
        native::OUTER => Some(native::outer_main()),
        native::INNER => Some(native::inner_main()),
        HOLDER => Some(holder_main()),
        ASKER => Some(request::main()),
        SPEAKER => Some(speaker::main()),
        _ => None,
    }
}

/// What serves a page gives up all but that.
pub(crate) fn confine_viewer() -> io::Result<()> {
    native::confine_viewer().map_err(io::Error::other)
}

/// A connection to the SOCKS socket of that tor. This process then has nothing else.
pub(crate) fn reach_tor(Inside { launcher, process }: Inside) -> Result<torbox_images::Socket, Box<dyn std::error::Error>> {
    let tor = native::reach_tor(launcher, process)?;
    native::confine_viewer()?;
    Ok(tor)
}

/// Where the sound of that browser comes from. This process then has nothing but what it has open.
pub(crate) fn open_sound(Inside { launcher, process }: Inside) -> io::Result<fs::File> {
    let sound = native::open_sound(launcher, process)?;
    confine_viewer()?;
    Ok(sound)
}

/// Everybody may connect who can reach it: its directory is the user's alone, and the display is handed it by a mount.
pub(crate) fn admit_everyone(socket: &Path) -> io::Result<()> {
    fs::set_permissions(socket, PermissionsExt::from_mode(0o666))
}

/// This program, also when another has taken its place on disk.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn program() -> io::Result<PathBuf> {
    Ok(PathBuf::from("/proc/self/exe"))
}

/// The caller's name, as a command takes it.
pub(crate) fn caller() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name)
}

/// How many files may be open at once.
pub(crate) fn open_files() -> Result<u64, CliError> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| CliError::System("read the limit on open files", errno.into()))?;
    Ok(hard)
}

/// Whose ids the containers of torbox's own get; `None` where it makes none.
pub(crate) fn identity() -> Option<Result<Identity, CliError>> {
    Some(native::identity().map_err(|error| CliError::Ids(error.into())))
}

/// How the names of a box's control groups begin: with what tells this installation's boxes from those of all others on the
/// machine, the device and inode of their directory (inode(7)).
pub(crate) fn group(boxes: &Path, name: &BoxName) -> io::Result<String> {
    let found = fs::metadata(boxes)?;
    Ok(format!("torbox-{:x}-{:x}-{name}", found.dev(), found.ino()))
}

/// A launch by torbox itself.
pub(crate) fn native_launch(dirs: &Dirs, intent: Intent, roots: &Roots, display: Display, display_cookie: Vec<u8>) -> Result<NativeLaunch, CliError> {
    let group = dirs.group(&intent.name)?;
    let groups = native::groups(&group);
    let cgroup = if groups == Groups::Nowhere { CgroupAccess::None } else { CgroupAccess::Delegated };
    let identity = native::identity().map_err(|error| CliError::Ids(error.into()))?;
    let host = Host { identity, cgroup, group, display, open_files: open_files()? };
    let supplies = Supplies {
        tor_root: roots.tor.path().to_owned(),
        browser_root: roots.browser.path().to_owned(),
        scratch: dirs.scratch(&intent.name)?,
        // What tor would keep of a test names the bridges, and there is no next run.
        tor_state: (intent.program != Program::Nothing).then(|| dirs.tor_state(&intent.name)).transpose()?,
        profile: (intent.memory == Memory::Profile).then(|| dirs.profile(&intent.name)),
        cgroup: if let Groups::Below(group) = groups { Some(group) } else { None },
        display_cookie,
    };
    Ok(NativeLaunch { intent, host, supplies })
}

/// What a launch was planned of.
pub(crate) const fn planned(launch: &NativeLaunch) -> (&Intent, &Host) {
    (&launch.intent, &launch.host)
}

/// Starts it; `claim` keeps what must be removed afterwards. This process then keeps only what supervising needs.
pub(crate) fn start_native(launch: &NativeLaunch, claim: &Claim) -> Result<Launched, CliError> {
    let launched = Launched::start(launch, claim.lock().as_fd())?;
    native::confine_launcher(claim.directory()).map_err(|error| CliError::Confine(error.into()))?;
    Ok(launched)
}

/// Moves this process into the box that `launcher` holds.
pub(crate) fn join(launcher: u32, browser: u32) -> Result<Box<dyn Exchange>, FilesError> {
    Ok(Box::new(native::Files::join(launcher, browser)?))
}

/// Those who ask something of a box.
pub(crate) struct Callers(Listener);

impl Callers {
    pub(crate) fn new(listener: Listener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// One of them, if any waits.
    pub(crate) fn next(&self) -> Option<Stream> {
        self.0.accept().ok().map(|(stream, _)| stream)
    }
}

impl AsFd for Callers {
    /// Readable when someone asks.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What asks torbox to end the box: Ctrl-C, and the end of the terminal or of the session. The end of a process that it started only wakes it.
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// From now on they are waited for, and end nothing by themselves; the runtime resets its own mask.
    pub(crate) fn catch() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD].iter().for_each(|&signal| signals.add(signal));
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Takes one; whether it asks for the end.
    pub(crate) fn take(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(signal)) if signal.ssi_signo != Signal::SIGCHLD as u32)
    }
}

/// Waits for an event, a caller or a signal, for as long as `patience`.
pub(crate) fn wait(launched: &Launched, callers: &Callers, signals: &Signals, patience: Option<Duration>) -> io::Result<Woken> {
    let mut fds = [launched.events().as_fd(), callers.as_fd(), signals.0.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut fds, patience.map_or(PollTimeout::NONE, |patience| PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX))) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let [event, control, signal] = fds.map(|fd| fd.any().unwrap_or(true));
    Ok(Woken { event, control, signal })
}
