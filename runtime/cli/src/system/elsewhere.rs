//! Where torbox makes no box itself, and no display has a socket for one: macOS and Windows. Boxes are an engine's, and shown as a page.

use super::Woken;
use crate::args::DisplayChoice;
use crate::control::Claim;
use crate::dirs::Dirs;
use crate::display::Opened;
use crate::error::CliError;
use crate::helper::Inside;
use crate::images::Roots;
use crate::system;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use torbox_backend::bell;
use torbox_backend::files::{Exchange, FilesError};
use torbox_backend::launched::Launched;
use torbox_backend::local::{Listener, Stream};
use torbox_plan::{BoxName, Display, Host, Identity, Intent};

/// There is none.
pub(crate) type NativeLaunch = Infallible;
/// Nothing but a page is shown, which is held otherwise.
pub(crate) type Held = Infallible;

/// Refuses what is there on Linux alone, and says what to do instead.
pub(crate) const fn linux_alone(what: &'static str, instead: &'static str) -> Result<(), CliError> {
    Err(CliError::LinuxAlone { what, instead })
}

/// There are none.
pub(crate) const fn native_main(_: &str) -> Option<ExitCode> {
    None
}

/// What is started here inherits nothing but its standard streams.
pub(crate) const fn close_on_exec() -> io::Result<()> {
    Ok(())
}

/// There is no such cage here: what serves a page has the rights of its user.
pub(crate) const fn confine_viewer() -> io::Result<()> {
    Ok(())
}

/// What plays a box's sound: none is played here.
pub(crate) struct Speaker(Infallible);

impl Speaker {
    /// Refused.
    pub(crate) const fn start() -> Result<Self, CliError> {
        Err(CliError::LinuxAlone { what: "sound", instead: "leave out --sound" })
    }

    /// Never called.
    pub(crate) const fn send(&mut self, _: Inside) {}
}

/// Nobody is handed it but torbox itself.
pub(crate) const fn admit_everyone(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The system does it by itself.
pub(crate) const fn give_back_memory() {}

/// This program.
pub(crate) fn program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Who has no ids to map.
pub(crate) const fn caller() -> Option<String> {
    None
}

/// The engine's own limit counts, which is not known here: every bound is asked for.
pub(crate) const fn open_files() -> Result<u64, CliError> {
    Ok(u64::MAX)
}

/// torbox makes no containers.
pub(crate) const fn identity() -> Option<Result<Identity, CliError>> {
    None
}

/// There are no control groups.
pub(crate) const fn group(_: &Path, _: &BoxName) -> io::Result<String> {
    Ok(String::new())
}

/// There are no control groups.
pub(crate) const fn remove_left_cgroups(_: &str) -> io::Result<()> {
    Ok(())
}

/// The desktop has no compositor that a box could use.
pub(crate) const fn is_wayland() -> bool {
    false
}

/// Refuses every display that has a server.
pub(crate) fn open_display(_: DisplayChoice, _: &Path) -> Result<Opened, CliError> {
    linux_alone("a display with a socket", "--display served shows the box as a page").and(Err(CliError::NoDisplay))
}

/// Refused.
pub(crate) fn hold_clipboard(_: &str) -> Result<(), CliError> {
    linux_alone("a clipboard that torbox gives texts to", "torbox copy --print writes it to standard output, and the box's page has a button for it")
}

/// Refused.
pub(crate) fn native_launch(_: &Dirs, _: Intent, _: &Roots, _: Display, _: Vec<u8>) -> Result<NativeLaunch, CliError> {
    linux_alone("--backend native", "--backend docker or --backend podman").and(Err(CliError::NoEngine("engine")))
}

/// Never.
pub(crate) const fn planned(launch: &NativeLaunch) -> (&Intent, &Host) {
    match *launch {}
}

/// Never.
pub(crate) const fn start_native(launch: &NativeLaunch, _: &Claim) -> Result<Launched, CliError> {
    match *launch {}
}

/// The same of tor's.
pub(crate) fn reach_tor(_: Inside) -> Result<torbox_images::Socket, Box<dyn std::error::Error>> {
    Err("no container can be joined here".into())
}

/// No container can be joined.
pub(crate) fn join(_: u32, _: u32) -> Result<Box<dyn Exchange>, FilesError> {
    Err(FilesError::Enter(io::ErrorKind::Unsupported.into()))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those who ask something of a box.
pub(crate) struct Callers(Arc<Mutex<VecDeque<Stream>>>);

impl Callers {
    pub(crate) fn new(listener: Listener) -> io::Result<Self> {
        let callers = Arc::new(Mutex::new(VecDeque::new()));
        let coming = Arc::clone(&callers);
        thread::spawn(move || {
            while let Ok((caller, _)) = listener.accept() {
                locked(&coming).push_back(caller);
                bell::ring();
            }
        });
        Ok(Self(callers))
    }

    /// One of them, if any waits.
    pub(crate) fn next(&self) -> Option<Stream> {
        locked(&self.0).pop_front()
    }

    fn are_there(&self) -> bool {
        !locked(&self.0).is_empty()
    }
}

/// What asks torbox to end the box: Ctrl-C, and the end of the terminal or of the session.
pub(crate) struct Signals(Arc<AtomicU32>);

impl Signals {
    /// From now on they are waited for, and end nothing by themselves.
    pub(crate) fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut endings = {
            let _entered = runtime.enter();
            system::Endings::new()?
        };
        let count = Arc::new(AtomicU32::new(0));
        let counting = Arc::clone(&count);
        thread::spawn(move || {
            while runtime.block_on(endings.next()).is_some() {
                counting.fetch_add(1, Ordering::SeqCst);
                bell::ring();
            }
        });
        Ok(Self(count))
    }

    /// Takes one; whether there was one.
    pub(crate) fn take(&self) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
    }

    fn are_there(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

/// Waits for an event, a caller or a signal, for as long as `patience`.
pub(crate) fn wait(launched: &Launched, callers: &Callers, signals: &Signals, patience: Option<Duration>) -> io::Result<Woken> {
    let woken = || Woken { event: launched.events().is_ready(), control: callers.are_there(), signal: signals.are_there() };
    bell::wait(patience, || {
        let Woken { event, control, signal } = woken();
        event || control || signal
    });
    Ok(woken())
}
