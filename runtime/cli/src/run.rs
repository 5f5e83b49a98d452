//! `torbox run` and `torbox probe`: makes the request, launches, shows what happens, and ends with the box.

use crate::args::{self, Browser, DisplayChoice};
use crate::bridge::{self, request::Asker};
use crate::control::{Claim, DONE, State, Wish};
use crate::dirs::Dirs;
use crate::display::{self, Lease, Mode, Opened};
use crate::engine::{self, Chosen};
use crate::error::CliError;
use crate::helper::Inside;
use crate::images::{self, Provided, Roots};
use crate::profile;
use crate::progress::Progress;
use crate::proxy;
use crate::stall::{self, Trouble, Way};
use crate::status;
use crate::system::{self, NativeLaunch, Signals, Speaker};
use crate::terminal::say;
use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use torbox_backend::engine::{self as engines, EngineError, Machine};
use torbox_backend::launched::{LaunchError, Launched, STILL};
use torbox_backend::local::Stream;
use torbox_backend::protocol::{Event, Request as Question};
use torbox_images::Image;
use torbox_plan::steps::Action;
use torbox_plan::{Address, BESIDE, BoxName, COPIED, ClientAuth, Clipboard, Display, Host, Identity, Intent, Landlock, Limits, Memory, Plan, PlanError, Program, Proof, Resolver, Role, Start};

/// A launch and what to say about it.
pub(crate) struct Request {
    pub(crate) launch: PreparedLaunch,
    state: State,
    pub(crate) mode: Mode,
    /// Which way a text may go over the edge of its window.
    pub(crate) clipboard: Clipboard,
    way: Way,
    until: Until,
    /// Who asks for bridges once tor is connected.
    asker: Option<Asker>,
    /// Who plays what the browser plays.
    speaker: Option<Speaker>,
    /// Kept from being pruned as long as the box runs.
    roots: Option<Roots>,
    /// Keeps the display open for it.
    lease: Lease,
}

/// What a box is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// What runs in the browser's place.
    Ended,
    /// tor's way to the network.
    Connected(Patience),
    /// The same, and what is asked through it then.
    Answered(Patience),
}

/// A launch by torbox itself or in an engine.
pub(crate) enum PreparedLaunch {
    Native(Box<NativeLaunch>),
    Engine(Box<engines::Launch>),
}

impl PreparedLaunch {
    pub(crate) fn plan(&self) -> Result<Plan, CliError> {
        let (intent, host) = self.planned();
        Ok(Plan::new(intent, host)?)
    }

    fn waits(&self) -> bool {
        self.planned().0.start == Start::Connected
    }

    fn planned(&self) -> (&Intent, &Host) {
        match self {
            Self::Native(launch) => system::planned(launch),
            Self::Engine(launch) => (&launch.intent, &launch.host),
        }
    }

    /// Starts it; `claim` keeps what must be removed afterwards.
    fn start(&self, claim: &Claim) -> Result<Launched, CliError> {
        match self {
            Self::Native(launch) => system::start_native(launch, claim),
            Self::Engine(launch) => {
                claim.mark(&launch.contact, &launch.claim)?;
                Ok(Launched::start_in_engine(launch)?)
            }
        }
    }
}

/// `torbox run`.
pub(crate) fn run(dirs: &Dirs, args: &args::Run) -> Result<(), CliError> {
    let claim = match Claim::take(dirs, &args.of.name) {
        Err(CliError::Running(name)) => return open_in(dirs, &name, args.url.as_ref()),
        other => other?,
    };
    let program = Program::Browser { url: args.url.clone().map(String::from) };
    // Whatever fails from here on, the claim's files are removed.
    let ended = Place::of(&args.of, Needs::Display, &dirs.display(&args.of.name)?)
        .and_then(|place| request(dirs, &args.of, program, place))
        .and_then(|request| watch(&claim, request, args.of.verbose, &mut |_| {}));
    let released = claim.release();
    // What ended the box is told of first: it may be why something of it is left.
    let ended = ended?;
    released?;
    match ended {
        None | Some(0) => Ok(()),
        Some(code) => Err(CliError::Browser(code)),
    }
}

/// A second start goes to the box that runs.
fn open_in(dirs: &Dirs, name: &BoxName, address: Option<&Address>) -> Result<(), CliError> {
    status::open(dirs, name, address)?;
    let what = if address.is_some() { "the address was opened in it" } else { "it has a new window" };
    say(&format!("torbox: box {name} is already running: {what}; --name opens another box beside it"));
    Ok(())
}

/// `torbox probe`: the browser's container with the probe in the browser's place. Its report goes to standard output.
pub(crate) fn probe(dirs: &Dirs, args: &args::Box) -> Result<(), CliError> {
    let claim = Claim::take(dirs, &args.name)?;
    let mut print = |line: &str| println!("{line}");
    let ended = Place::of(args, Needs::Nothing, &dirs.display(&args.name)?)
        .and_then(|place| request(dirs, args, Program::Probe, place))
        .and_then(|request| watch(&claim, request, args.verbose, &mut print));
    let released = claim.release();
    let ended = ended?;
    released?;
    match ended {
        Some(0) => Ok(()),
        Some(code) => Err(CliError::Browser(code)),
        None => Err(CliError::Killed),
    }
}

/// What makes [`connect`] give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The first word of tor's that says why it does not get on.
    FirstFailure,
    /// The end of the program that waits in the browser's place.
    Minute,
}

/// `torbox bridge test`: a box that ends as soon as its tor is connected to the network.
pub(crate) fn connect(dirs: &Dirs, args: &args::Box, patience: Patience) -> Result<(), CliError> {
    let claim = Claim::take(dirs, &args.name)?;
    let ended = engine::choose(&args.engine)
        .and_then(|chosen| request(dirs, args, Program::Nothing, Place { chosen, opened: Opened::NONE }))
        .and_then(|request| watch(&claim, Request { until: Until::Connected(patience), ..request }, args.verbose, &mut |_| {}));
    let released = claim.release();
    ended?;
    released
}

/// `torbox bridge request`: a box that ends as soon as `asker` has asked through its tor.
pub(crate) fn ask(dirs: &Dirs, args: &args::Box, patience: Patience, asker: Asker) -> Result<(), CliError> {
    let claim = Claim::take(dirs, &args.name)?;
    let ended = request(dirs, args, Program::Nothing, Place { chosen: None, opened: Opened::NONE })
        .and_then(|request| watch(&claim, Request { until: Until::Answered(patience), asker: Some(asker), ..request }, args.verbose, &mut |_| {}));
    let released = claim.release();
    ended?;
    released
}

/// Whether what runs in a box can do without a display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Display,
    Nothing,
}

/// Where a box is made, and how it is shown.
pub(crate) struct Place {
    pub(crate) chosen: Option<Chosen>,
    pub(crate) opened: Opened,
}

impl Place {
    /// What `args` ask for; what has to be made for the display is made in `directory`. To another machine no socket can be handed: a page can.
    pub(crate) fn of(args: &args::Box, needs: Needs, directory: &Path) -> Result<Self, CliError> {
        let chosen = engine::choose(&args.engine)?;
        let elsewhere = chosen.as_ref().is_some_and(|chosen| chosen.about.machine == Machine::Another);
        let choice = match args.display {
            DisplayChoice::Auto if elsewhere && needs == Needs::Display => DisplayChoice::Served,
            DisplayChoice::Auto if elsewhere => DisplayChoice::None,
            DisplayChoice::None | DisplayChoice::Served => args.display,
            _ if elsewhere => return Err(EngineError::DisplayElsewhere { source: None }.into()),
            other => other,
        };
        let opened = match needs {
            Needs::Display => display::open(choice, directory),
            Needs::Nothing => display::open_if_any(choice, directory),
        };
        Ok(Self { chosen, opened: opened? })
    }
}

/// Everything that a launch of `args` needs; builds images if they are missing.
pub(crate) fn request(dirs: &Dirs, args: &args::Box, program: Program, Place { chosen, opened }: Place) -> Result<Request, CliError> {
    let sound = is_heard(args, &program);
    if sound && chosen.is_some() {
        return Err(PlanError::SoundOfEngine.into());
    }
    let torrc = torrc(dirs, args)?;
    let way = Way { bridges: bridge::in_use(dirs)?, proxied: args.proxy.is_some() };
    let resolver = match (bridge::looks_up_names(dirs, args.proxy.as_ref())?, &chosen) {
        (false, _) => None,
        (true, None) => Some(bridge::resolver()?),
        (true, Some(_)) => Some(Resolver::Engine),
    };
    profile::check(dirs, args.profile.as_ref())?;
    let mut progress = Progress::new();
    let provided = images::provide(dirs, args.browser, &args.sources, &mut progress)?;
    let state = State {
        name: args.name.clone(),
        pid: std::process::id(),
        bootstrap: 0,
        trouble: None,
        display: opened.mode.name().to_owned(),
        sound,
        leaves_open: opened.mode.leaves_open(args.clipboard.into()),
        browser: format!("{} {}", provided.browser.recipe, provided.browser.version),
        anonymous: provided.browser.anonymous,
        browser_process: None,
        proof: None,
    };
    let intent = intent(&Wanted { args, torrc, resolver, program, provided: &provided })?;
    let Opened { display, cookie, mode, lease } = opened;
    let (launch, roots) = match chosen {
        None => {
            let roots = provided.roots(&mut progress)?;
            (PreparedLaunch::Native(Box::new(system::native_launch(dirs, intent, &roots, display, cookie)?)), Some(roots))
        }
        Some(chosen) => (PreparedLaunch::Engine(Box::new(engine_launch(dirs, intent, &provided, (display, cookie), chosen, &mut progress)?)), None),
    };
    progress.end();
    let speaker = sound.then(Speaker::start).transpose()?;
    Ok(Request { launch, state, mode, clipboard: args.clipboard.into(), way, until: Until::Ended, asker: None, speaker, roots, lease })
}

/// Whether what runs in the browser's container plays something, and may.
const fn is_heard(args: &args::Box, program: &Program) -> bool {
    args.sound && matches!(program, Program::Browser { .. })
}

/// What an [`Intent`] is made of.
pub(crate) struct Wanted<'a> {
    pub(crate) args: &'a args::Box,
    pub(crate) torrc: String,
    pub(crate) resolver: Option<Resolver>,
    pub(crate) program: Program,
    pub(crate) provided: &'a Provided,
}

pub(crate) fn intent(wanted: &Wanted<'_>) -> Result<Intent, CliError> {
    let Wanted { args, torrc, resolver, program, provided } = wanted;
    Ok(Intent {
        name: args.name.clone(),
        tor: described(&provided.tor),
        browser: described(&provided.browser),
        program: program.clone(),
        client_auth: if args.browser == Browser::TorBrowser { ClientAuth::Required } else { ClientAuth::Absent },
        memory: if args.profile.is_some() { Memory::Profile } else { Memory::Nothing },
        start: if args.wait { Start::Connected } else { Start::Listening },
        torrc: torrc.clone(),
        resolver: resolver.clone(),
        clipboard: args.clipboard.into(),
        jitter: args.input_jitter,
        sound: is_heard(args, program),
        limits: Limits::default(),
    })
}

fn engine_launch(dirs: &Dirs, intent: Intent, provided: &Provided, (display, display_cookie): (Display, Vec<u8>), chosen: Chosen, progress: &mut Progress) -> Result<engines::Launch, CliError> {
    let Chosen { about, engine } = chosen;
    let (display, viewer) = match display {
        Display::Served { socket, access: _ } => (Display::Carried, Some(socket)),
        other => (other, None),
    };
    let host = Host { identity: Identity::Engine, cgroup: about.cgroup, group: String::new(), display, open_files: system::open_files()? };
    let images = engine::load_images(dirs, &provided.store, &about.contact, &[&provided.tor, &provided.browser], progress)?;
    let claim = engine::claim(dirs, &intent.name)?;
    Ok(engines::Launch { intent, host, engine, contact: about.contact, images, display_cookie, viewer, claim })
}

/// The user's lines for tor: to be read before anything is fetched, so that a wrong path is said at once.
pub(crate) fn torrc(dirs: &Dirs, args: &args::Box) -> Result<String, CliError> {
    if let Some(past) = args.proxy.as_ref().and_then(|proxy| bridge::past(dirs, proxy).transpose()).transpose()? {
        return Err(past);
    }
    let own = args.torrc.as_deref().map(load).transpose()?.map(|lines| lines + "\n").unwrap_or_default();
    Ok(own + &proxy::torrc(args.proxy.as_ref(), args.reachable_ports.as_ref()) + &bridge::torrc(dirs)?)
}

fn load(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::Path { path: path.to_owned(), source })
}

fn described(image: &Image) -> torbox_plan::Image {
    torbox_plan::Image { name: image.name.as_str().to_owned(), digest: image.digest.to_string(), entrypoint: image.entrypoint.clone() }
}

/// What is shown of a running box.
struct Shown {
    state: State,
    way: Way,
    until: Until,
    asker: Option<Asker>,
    speaker: Option<Speaker>,
    /// Process 1 of tor's container, as the runtime sees it.
    tor_process: Option<u32>,
    native: bool,
    /// Whether the browser starts once tor is connected.
    waits: bool,
    verbose: bool,
    progress: Progress,
    /// How often was waited in vain for the runtime that makes the box; none once it is made. An engine's has bounds of its own.
    silence: Option<u32>,
    /// What can be done about what is wrong, where that is more than comparing the bridge's line.
    hint: Option<&'static str>,
    /// When tor last came nearer to its network, or began to.
    advanced: Option<Instant>,
    /// Whether the box's own namespaces exist: what fails before that is the machine's refusal.
    enclosed: bool,
    /// The last lines of tor, for when it fails.
    tor: VecDeque<String>,
    /// What the attempts to get out find where there is a way.
    control: Option<Proof>,
    /// Who awaits a new identity, in the order of their asking.
    awaiting: VecDeque<Stream>,
    /// Who awaits that the browser opens something, in the same way.
    opening: VecDeque<Stream>,
    /// Who awaits what comes of an audit.
    auditor: Option<Stream>,
    /// Who awaits what the browser copied.
    copier: Option<Stream>,
    /// How the box is shown.
    mode: Mode,
    /// Which way a text may go.
    clipboard: Clipboard,
}

const TOR_LINES: usize = 20;
/// How long a tor that comes no nearer to its network may say nothing.
const QUIET: Duration = Duration::from_secs(60);
/// In how many parts is waited: where torbox stood still itself, as on a machine that sleeps, that was one of them.
const WAITS: u32 = 10;

/// A caller that went away is no error.
fn answer(mut caller: Stream, error: Option<&str>) {
    writeln!(caller, "{}", error.unwrap_or(DONE)).ok();
}

/// Launches and watches until the box has ended. The code is that of what ran in the browser's container, if that ended
/// by itself; its lines go to `output`.
pub(crate) fn watch(claim: &Claim, request: Request, verbose: bool, output: &mut dyn FnMut(&str)) -> Result<Option<u8>, CliError> {
    let Request { launch, state, mode, clipboard, way, until, asker, speaker, roots: _roots, lease: _lease } = request;
    warn(&state, mode);
    // Blocked before the runtime is started, so that Ctrl-C is never lost; the runtime resets its own mask.
    let signals = Signals::catch().map_err(|error| CliError::System("watch for signals", error))?;
    let native = matches!(launch, PreparedLaunch::Native(_));
    let mut launched = launch.start(claim)?;
    let mut shown = Shown { state, native, waits: launch.waits(), way, until, asker, speaker, tor_process: None, verbose, progress: Progress::new(), silence: native.then_some(0), hint: None, advanced: None, enclosed: false, tor: VecDeque::new(), control: None, awaiting: VecDeque::new(), opening: VecDeque::new(), auditor: None, copier: None, mode, clipboard };
    shown.progress.begin("starting the box");
    let mut asked = false;
    loop {
        while let Some(event) = launched.buffered()? {
            if let Some(ended) = shown.show(event, output) {
                return ended;
            }
        }
        let patience = shown.silence.map(|_| STILL / WAITS).or_else(|| shown.quiet());
        let woken = system::wait(&launched, claim.callers(), &signals, patience).map_err(|error| CliError::System("watch the box", error))?;
        if !(woken.event || woken.control || woken.signal) {
            shown.silence = shown.silence.map(|waits| waits + 1);
            if shown.silence.is_some_and(|waits| waits >= WAITS) {
                launched.kill();
                return Err(LaunchError::Still.into());
            }
        }
        if shown.quiet() == Some(Duration::ZERO) {
            shown.trouble(stall::silent(shown.way));
        }
        if woken.control && shown.serve(claim, &mut launched)? || woken.signal && signals.take() {
            if asked { launched.kill() } else { launched.stop() }
            asked = true;
        }
        if shown.is_answered() && !asked {
            launched.stop();
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

fn warn(state: &State, mode: Mode) {
    if !state.anonymous {
        say(&format!("torbox: WARNING: this is {}, a stand-in for demonstrations and tests. It does NOT make you anonymous.", state.browser));
    }
    match mode {
        Mode::None => {}
        Mode::X11Trusted => say(&format!("torbox: WARNING: on this display {}.", state.leaves_open.as_deref().unwrap_or_default())),
        Mode::X11NestedTrusted => say(&format!("torbox: display: {}: {}", mode.name(), state.leaves_open.as_deref().unwrap_or_default())),
        _ => say(&format!("torbox: display: {}", mode.name())),
    }
}

impl Shown {
    /// Serves everyone who asks something of the box; whether one of them wants its end.
    fn serve(&mut self, claim: &Claim, launched: &mut Launched) -> Result<bool, CliError> {
        let mut stop = false;
        for wish in claim.answer(&self.state) {
            match wish {
                Wish::Stop => stop = true,
                // Before its proof a box has no init that reads wishes.
                Wish::Open(caller, _) if self.state.proof.is_none() => answer(caller, Some("it is still starting")),
                Wish::Open(caller, address) => {
                    launched.ask(Question::Open(address))?;
                    self.opening.push_back(caller);
                }
                Wish::NewIdentity(caller) => {
                    launched.ask(Question::NewIdentity)?;
                    self.awaiting.push_back(caller);
                }
                // One at a time; the second is told nothing.
                Wish::Audit(caller) if self.auditor.is_none() => {
                    launched.ask(Question::Audit)?;
                    self.auditor = Some(caller);
                }
                Wish::Audit(_) => {}
                Wish::Copy(caller) if !self.mode.keeps_what_is_copied() => answer(caller, Some(&format!("with --display {} what the browser copies is not kept for it", self.mode.name()))),
                Wish::Copy(caller) if !self.clipboard.lets_out() => answer(caller, Some("--clipboard lets no text out of it")),
                Wish::Copy(caller) if self.copier.is_none() => {
                    launched.ask(Question::Copy)?;
                    self.copier = Some(caller);
                }
                Wish::Copy(_) => {}
            }
        }
        Ok(stop)
    }

    /// A step of the launch is done: how long the next may take.
    fn made(&mut self, action: &str) {
        let is = |step: Action| action == format!("{step:?}");
        if is(Action::AwaitListeners) && self.waits {
            self.silence = None;
            self.connects();
        } else if is(Action::AwaitNetwork) {
            self.silence = self.native.then_some(0);
        } else {
            self.silence = self.silence.filter(|_| !is(Action::Confine)).map(|_| 0);
        }
    }

    fn connects(&mut self) {
        self.advanced = Some(Instant::now());
        self.progress.begin("connecting to the Tor network");
    }

    /// Shows one event; how the box ended, if it did.
    fn show(&mut self, event: Event, output: &mut dyn FnMut(&str)) -> Option<Result<Option<u8>, CliError>> {
        match event {
            Event::NeedsMaps { .. } => return Some(Err(LaunchError::Unknown("needs-maps".to_owned()).into())),
            Event::Done { action, after } => {
                self.enclosed = true;
                self.made(&action);
                if self.verbose {
                    self.progress.note(&format!("torbox: {:8.1} ms  {action}", after as f64 / 1000.0));
                }
            }
            Event::Proved { role, proof } => self.proved(role, proof),
            Event::Running { role: Role::Tor, pid } => self.tor_process = Some(pid),
            Event::Running { role: _, pid } => {
                self.state.browser_process = self.native.then_some(pid);
                self.speaker.iter_mut().for_each(|speaker| speaker.send(Inside { launcher: self.state.pid, process: pid }));
                if self.state.bootstrap < 100 {
                    self.connects();
                }
            }
            Event::Bootstrap { percent, summary } => self.bootstrap(percent, &summary),
            Event::Line { role, text } => self.line(role, text, output),
            Event::NewIdentity { error } => self.awaiting.pop_front().into_iter().for_each(|caller| answer(caller, error.as_deref())),
            Event::Opened { error } => self.opening.pop_front().into_iter().for_each(|caller| answer(caller, error.as_deref())),
            Event::Ended { code } => {
                self.progress.end();
                let percent = self.state.bootstrap;
                return Some(if self.until != Until::Ended && percent < 100 { Err(CliError::NotConnected { percent, hint: stall::last_word(self.way, percent, self.hint) }) } else { Ok(code) });
            }
            Event::Failed { message, hint } if !self.enclosed => {
                self.progress.end();
                return Some(Err(CliError::Refused { message, hint }));
            }
            Event::Failed { message, hint } => {
                self.progress.end();
                self.tor.iter().for_each(|line| say(&format!("torbox: tor: {line}")));
                return Some(Err(CliError::Failed { message, hint }));
            }
        }
        None
    }

    /// Whether nothing more is to be learned from it.
    fn is_answered(&mut self) -> bool {
        match self.until {
            Until::Ended => false,
            Until::Answered(_) if self.state.bootstrap == 100 => self.asker.as_mut().is_none_or(Asker::has_ended),
            Until::Answered(patience) => self.is_given_up(patience),
            Until::Connected(patience) => self.state.bootstrap == 100 || self.is_given_up(patience),
        }
    }

    fn is_given_up(&self, patience: Patience) -> bool {
        patience == Patience::FirstFailure && self.state.trouble.is_some() && !self.hint.is_some_and(stall::may_pass)
    }

    /// Each init proves one thing, once.
    fn proved(&mut self, role: Role, proof: Proof) {
        let Proof::Held { attempts, micros, landlock } = proof else {
            if role == Role::Tor {
                self.control.get_or_insert(proof);
            }
            return;
        };
        let milliseconds = f64::from(micros) / 1000.0;
        let control = match self.control {
            Some(Proof::Uplink) => "the same attempts find tor's network",
            Some(Proof::NoNetwork) => "this machine has no network for the same attempts to find",
            Some(Proof::Held { .. }) | None => "no positive control",
        };
        let landlock = match landlock {
            Landlock::Whole => "Landlock is enforced",
            Landlock::Part => "Landlock is enforced as far as this kernel has it",
        };
        let proof = format!("the box holds: {attempts} attempts to get out failed in {milliseconds:.1} ms; {landlock}; {control}");
        self.progress.note(&format!("torbox: {proof}"));
        self.state.proof = Some(proof);
        // The box is up, and its images are not read again.
        system::give_back_memory();
    }

    fn bootstrap(&mut self, percent: u8, summary: &str) {
        if self.state.bootstrap != percent {
            self.advanced = self.advanced.map(|_| Instant::now());
            self.state.trouble.take_if(|what| what == stall::SILENT);
        }
        let was = std::mem::replace(&mut self.state.bootstrap, percent);
        if percent == 100 {
            self.state.trouble = None;
            self.progress.begin("connected to the Tor network");
            self.progress.end();
            if let (Some(asker), Some(tor), true) = (&mut self.asker, self.tor_process, was < 100) {
                asker.send(Inside { launcher: self.state.pid, process: tor });
                self.progress.begin("asking for bridges");
            }
        } else {
            self.progress.begin("connecting to the Tor network");
            self.progress.detail(&format!("{percent}%: {summary}"));
        }
    }

    /// How long tor may still say nothing before that is said, while it connects and nothing is known to be wrong.
    fn quiet(&self) -> Option<Duration> {
        let waits = self.until == Until::Ended && self.state.bootstrap < 100 && self.state.trouble.is_none();
        self.advanced.filter(|_| waits).map(|advanced| QUIET.saturating_sub(advanced.elapsed()))
    }

    fn explain(&mut self, line: &str) {
        if stall::is_found_again(line) && self.state.is_lost() {
            self.state.trouble = None;
            self.progress.note("torbox: connected to the Tor network again");
        }
        let heeds = self.state.bootstrap < 100 || self.state.is_lost() || stall::is_lost(line);
        stall::explain(line, self.way).filter(|_| heeds).into_iter().for_each(|trouble| self.trouble(trouble));
    }

    /// Says what is wrong once, as long as nothing else is.
    fn trouble(&mut self, Trouble { what, hint }: Trouble) {
        if self.state.trouble.as_ref() != Some(&what) {
            let since = if self.state.bootstrap < 100 { format!("not connected yet, at {}%", self.state.bootstrap) } else { "no longer connected".to_owned() };
            self.progress.note(&format!("torbox: {since}: {what}\n  hint: {hint}"));
            self.state.trouble = Some(what);
            self.hint = Some(hint).filter(|hint| *hint != stall::BRIDGE);
        }
    }

    /// What an audit beside the browser says, if somebody awaits it; whether it was that. A caller that went away is no error.
    fn audited(&mut self, text: &str) -> bool {
        let (Some(said), Some(caller)) = (text.strip_prefix(BESIDE.trim_end()), &mut self.auditor) else { return false };
        if said.is_empty() {
            writeln!(caller, "{DONE}").ok();
            self.auditor = None;
        } else {
            writeln!(caller, "{}", said.trim_start()).ok();
        }
        true
    }

    /// What the display hands over of what the browser copied, if somebody awaits it; whether it was that. A caller that went away is no error.
    fn copied(&mut self, text: &str) -> bool {
        let Some(part) = text.strip_prefix(COPIED) else { return false };
        match &mut self.copier {
            Some(_) if part.is_empty() => self.copier.take().into_iter().for_each(|caller| answer(caller, None)),
            Some(caller) => drop(writeln!(caller, "{part}")),
            // Nobody waits any more, and it is nobody else's business.
            None => {}
        }
        true
    }

    fn line(&mut self, role: Role, text: String, output: &mut dyn FnMut(&str)) {
        if role == Role::Browser && self.audited(&text) || role == Role::Display && self.copied(&text) {
            return;
        }
        if role == Role::Browser {
            output(&text);
        }
        if self.verbose {
            self.progress.note(&format!("torbox: {role}: {text}"));
        }
        if role == Role::Tor {
            self.explain(&text);
            if self.tor.len() == TOR_LINES {
                self.tor.pop_front();
            }
            self.tor.push_back(text);
        }
    }
}
