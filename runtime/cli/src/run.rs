//! `torbox run` and `torbox probe`: makes the request, launches, shows what happens, and ends with the box.

use crate::args::{self, Browser};
use crate::control::{Claim, State};
use crate::dirs::Dirs;
use crate::display::{self, Opened};
use crate::error::CliError;
use crate::images;
use crate::progress::Progress;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::Path;
use torbox_backend::native::{self, Event, Launch, LaunchError, Launched, Supplies};
use torbox_images::Image;
use torbox_plan::{ClientAuth, Display, Host, Intent, Limits, Program, Role};

/// A launch and what to say about it.
pub(crate) struct Request {
    pub(crate) launch: Launch,
    state: State,
}

/// `torbox run`.
pub(crate) fn run(dirs: &Dirs, args: &args::Run) -> Result<(), CliError> {
    let claim = Claim::take(dirs, &args.of.name)?;
    let program = Program::Browser { url: args.url.clone() };
    // Whatever fails from here on, the claim's files are removed.
    let ended = display::open(args.of.display)
        .and_then(|opened| request(dirs, &args.of, program, opened))
        .and_then(|request| watch(&claim, request, args.of.verbose, &mut |_| {}));
    claim.release()?;
    match ended? {
        None | Some(0) => Ok(()),
        Some(code) => Err(CliError::Browser(code)),
    }
}

/// `torbox probe`: the browser's container with the probe in the browser's place. Its report goes to standard output.
pub(crate) fn probe(dirs: &Dirs, args: &args::Box) -> Result<(), CliError> {
    let claim = Claim::take(dirs, &args.name)?;
    let mut print = |line: &str| println!("{line}");
    let ended = request(dirs, args, Program::Probe, Opened::NONE).and_then(|request| watch(&claim, request, args.verbose, &mut print));
    claim.release()?;
    match ended? {
        Some(0) => Ok(()),
        Some(code) => Err(CliError::Browser(code)),
        None => Err(CliError::Killed),
    }
}

/// Everything that a launch of `args` needs; builds images if they are missing.
pub(crate) fn request(dirs: &Dirs, args: &args::Box, program: Program, opened: Opened) -> Result<Request, CliError> {
    let identity = native::identity()?;
    let torrc = args.torrc.as_deref().map(load).transpose()?.unwrap_or_default();
    let mut progress = Progress::new();
    let unpacked = images::provide(dirs, args.browser, &args.sources, &mut progress)?;
    progress.end();
    let state = State {
        name: args.name.clone(),
        pid: std::process::id(),
        bootstrap: 0,
        display: kind(&opened.display).to_owned(),
        browser: format!("{} {}", unpacked.browser.recipe, unpacked.browser.version),
        anonymous: unpacked.browser.anonymous,
    };
    let intent = Intent {
        name: args.name.clone(),
        tor: described(&unpacked.tor),
        browser: described(&unpacked.browser),
        program,
        client_auth: if args.browser == Browser::TorBrowser { ClientAuth::Required } else { ClientAuth::Absent },
        torrc,
        limits: Limits::default(),
    };
    let (_, open_files) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| CliError::System("read the limit on open files", errno.into()))?;
    let host = Host { identity, cgroup: native::cgroup_access(), display: opened.display, open_files };
    let supplies = Supplies {
        tor_root: unpacked.tor_root,
        browser_root: unpacked.browser_root,
        scratch: dirs.scratch(&args.name)?,
        tor_state: dirs.tor_state(&args.name)?,
        xauthority: opened.xauthority,
    };
    Ok(Request { launch: Launch { intent, host, supplies }, state })
}

fn load(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::Path { path: path.to_owned(), source })
}

const fn kind(display: &Display) -> &'static str {
    match display {
        Display::X11 { .. } => "x11",
        Display::Wayland { .. } => "wayland",
        Display::None => "none",
    }
}

fn described(image: &Image) -> torbox_plan::Image {
    torbox_plan::Image { name: image.name.as_str().to_owned(), digest: image.digest.to_string(), entrypoint: image.entrypoint.clone() }
}

/// What is shown of a running box.
struct Shown {
    state: State,
    verbose: bool,
    progress: Progress,
    /// Whether the box's own namespaces exist: what fails before that is the machine's refusal.
    enclosed: bool,
    /// The last lines of tor, for when it fails.
    tor: VecDeque<String>,
}

const TOR_LINES: usize = 20;

/// Launches and watches until the box has ended. The code is that of what ran in the browser's container, if that ended
/// by itself; its lines go to `output`.
fn watch(claim: &Claim, request: Request, verbose: bool, output: &mut dyn FnMut(&str)) -> Result<Option<u8>, CliError> {
    let Request { launch, state } = request;
    warn(&state);
    // Blocked before the runtime is started, so that Ctrl-C is never lost; the runtime resets its own mask.
    let signals = block_signals().map_err(|errno| CliError::System("watch for signals", errno.into()))?;
    let mut launched = Launched::start(&launch)?;
    let mut shown = Shown { state, verbose, progress: Progress::new(), enclosed: false, tor: VecDeque::new() };
    shown.progress.begin("starting the box");
    let mut asked = false;
    loop {
        while let Some(event) = launched.buffered()? {
            if let Some(ended) = shown.show(event, output) {
                return ended;
            }
        }
        let woken = wait(&launched, claim, &signals).map_err(|errno| CliError::System("watch the box", errno.into()))?;
        if woken.control && claim.answer(&shown.state) || woken.signal && signal(&signals) {
            if asked { launched.kill() } else { launched.stop() }
            asked = true;
        }
        if woken.event {
            match launched.next_event() {
                Ok(Some(event)) => {
                    if let Some(ended) = shown.show(event, output) {
                        return ended;
                    }
                }
                Ok(None) => return if asked { Ok(None) } else { Err(CliError::Killed) },
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn warn(state: &State) {
    if !state.anonymous {
        eprintln!("torbox: WARNING: {} is a stand-in for demonstrations and tests. It does NOT make you anonymous.", state.browser);
    }
    if state.display == "x11" {
        eprintln!("torbox: note: on X11 a browser that was taken over can read what is typed into other windows; a Wayland session does not allow that.");
    }
}

fn block_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].iter().for_each(|&signal| signals.add(signal));
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Takes one signal; whether there was one.
fn signal(signals: &SignalFd) -> bool {
    matches!(signals.read_signal(), Ok(Some(_)))
}

struct Woken {
    event: bool,
    control: bool,
    signal: bool,
}

fn wait(launched: &Launched, claim: &Claim, signals: &SignalFd) -> nix::Result<Woken> {
    let mut fds = [launched.events(), claim.listener().as_fd(), signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno),
    }
    let [event, control, signal] = fds.map(|fd| fd.any().unwrap_or(true));
    Ok(Woken { event, control, signal })
}

impl Shown {
    /// Shows one event; how the box ended, if it did.
    fn show(&mut self, event: Event, output: &mut dyn FnMut(&str)) -> Option<Result<Option<u8>, CliError>> {
        match event {
            Event::NeedsMaps { .. } => return Some(Err(LaunchError::Unknown("needs-maps".to_owned()).into())),
            Event::Done { action, after } => {
                self.enclosed = true;
                if self.verbose {
                    eprintln!("torbox: {:8.1} ms  {action}", after as f64 / 1000.0);
                }
            }
            Event::Running { .. } => self.progress.begin("connecting to the Tor network"),
            Event::Bootstrap { percent, summary } => self.bootstrap(percent, &summary),
            Event::Line { role, text } => self.line(role, text, output),
            Event::Ended { code } => {
                self.progress.end();
                return Some(Ok(code));
            }
            Event::Failed { message, hint } if !self.enclosed => {
                self.progress.end();
                return Some(Err(CliError::Refused { message, hint }));
            }
            Event::Failed { message, hint } => {
                self.progress.end();
                self.tor.iter().for_each(|line| eprintln!("torbox: tor: {line}"));
                return Some(Err(CliError::Failed { message, hint }));
            }
        }
        None
    }

    fn bootstrap(&mut self, percent: u8, summary: &str) {
        self.state.bootstrap = percent;
        if percent == 100 {
            self.progress.begin("connected to the Tor network");
            self.progress.end();
        } else {
            self.progress.begin("connecting to the Tor network");
            self.progress.detail(&format!("{percent}%: {summary}"));
        }
    }

    fn line(&mut self, role: Role, text: String, output: &mut dyn FnMut(&str)) {
        if role == Role::Browser {
            output(&text);
        }
        if self.verbose {
            eprintln!("torbox: {role}: {text}");
        }
        if role == Role::Tor {
            if self.tor.len() == TOR_LINES {
                self.tor.pop_front();
            }
            self.tor.push_back(text);
        }
    }
}
