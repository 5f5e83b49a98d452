//! `torbox __inner`: process 1 of a box. Launches it step by step, watches it, and undoes it.
//!
//! It is single-threaded: libcontainer forks and allocates in the child. It inherits no environment.

use super::admin;
use super::confine::{ConfineError, confine_inner};
use super::create::{CreateError, Created, create};
use super::enclose::{EncloseError, enclose};
use super::keep::{self, KeepError};
use super::observe::{ObserveError, observe};
use super::launch::{Launch, Supplies};
use crate::protocol::{Event, Request};
use super::supervise::{Ending, Flow, Happening, Watch, Watched, end};
use crate::texts::{self, bootstrap, is_connected, opened, says_it_listens};
use nix::sys::signal::{Signal, kill};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use torbox_plan::steps::{self, Action};
use torbox_plan::{BESIDE, COPIED, COPY, Container, Facts, Mismatch, Plan, PlanError, Proof, Role, Wish};
use torbox_sys::give_back_memory;

/// How long tor, the gate and the display may take to listen.
const LISTEN_PATIENCE: Duration = Duration::from_secs(20);
/// How long an init may take to try every way out.
const PROOF_PATIENCE: Duration = Duration::from_secs(10);
/// How init begins what it says of a failure of its own.
const INIT: &str = "init: ";
/// How long tor may take to end when asked to, and to write its state. The others have nothing to write.
const TOR_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum InnerError {
    #[error("the launch request cannot be read")]
    Request(#[source] io::Error),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Enclose(#[from] EncloseError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error("the {role} container is not what was planned: {}", list(differences))]
    Mismatch { role: Role, differences: Vec<Mismatch> },
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error("cannot give up what supervising does not need")]
    Confine(#[from] ConfineError),
    #[error("the {0} container does not exist at this step")]
    NoContainer(Role),
    #[error("{0} ended with code {1} while the box was running")]
    Lost(Role, u8),
    #[error("{0}; the browser was not started")]
    Escaped(String),
    #[error("the browser's container did not prove within {} s that it holds", PROOF_PATIENCE.as_secs())]
    Unproved,
    #[error("not ready within {} s: {}", LISTEN_PATIENCE.as_secs(), texts::names(.0))]
    Silent(Vec<Role>),
    #[error("cannot watch the box")]
    Watch(#[source] io::Error),
    #[error("the launch was called off")]
    CalledOff,
    #[error("cannot report to the launching process")]
    Report(#[source] io::Error),
}

fn list(differences: &[Mismatch]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Runs `__inner`.
#[must_use]
pub fn inner_main() -> ExitCode {
    let event = match run() {
        Ok(code) => Event::Ended { code },
        Err(InnerError::CalledOff) => Event::Ended { code: None },
        Err(error) => Event::Failed { hint: hint(&error), message: chain(&error) },
    };
    let failed = matches!(event, Event::Failed { .. });
    if report(&event).is_err() || failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn hint(error: &InnerError) -> Option<String> {
    match error {
        InnerError::Mismatch { .. } => Some("nothing was started; this kernel or its security module does not give what the box needs".to_owned()),
        InnerError::Escaped(_) => Some("please report this: `torbox audit` shows all that was tried".to_owned()),
        InnerError::Lost(role, _) => texts::hint_of_lost(*role).map(str::to_owned),
        _ => None,
    }
}

fn report(event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

/// Reads the request, launches, watches, undoes. The code is that of what ran in the browser's container.
fn run() -> Result<Option<u8>, InnerError> {
    let began = Instant::now();
    // Dies with __outer, the last process outside this PID namespace (prctl(2), PR_SET_PDEATHSIG).
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| InnerError::Watch(errno.into()))?;
    let mut watch = Watch::new().map_err(|errno| InnerError::Watch(errno.into()))?;
    let Launch { intent, host, supplies } = watch.requests().launch().map_err(InnerError::Request)?;
    let mut launcher = Launcher { plan: Plan::new(&intent, &host)?, supplies, watch, boxed: Vec::new(), began, connected: false };
    let outcome = launcher.launch().and_then(|()| launcher.supervise());
    let undone = launcher.undo();
    let code = outcome?;
    undone.map(|()| code)
}

struct Launcher {
    plan: Plan,
    supplies: Supplies,
    watch: Watch,
    boxed: Vec<Watched>,
    began: Instant,
    /// Whether tor was connected before all listened.
    connected: bool,
}

impl Launcher {
    fn launch(&mut self) -> Result<(), InnerError> {
        let steps: Vec<_> = steps::of(&self.plan).collect();
        for step in steps {
            self.act(step.action)?;
            let action = format!("{:?}", step.action);
            let after = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
            report(&Event::Done { action, after }).map_err(InnerError::Report)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), InnerError> {
        match action {
            Action::Enclose => {
                enclose(&self.plan, &self.supplies)?;
                Ok(keep::restore(&self.plan)?)
            }
            Action::Create(role) => {
                let created = create(&self.plan.name, self.planned(role)?)?;
                self.boxed.push(created.into());
                Ok(())
            }
            Action::Verify(role) => self.verify(role),
            Action::Start(role) => {
                let created = self.created(role)?;
                created.start()?;
                let pid = created.pid.as_raw().unsigned_abs();
                if matches!(role, Role::Tor | Role::Browser) { report(&Event::Running { role, pid }).map_err(InnerError::Report) } else { Ok(()) }
            }
            Action::AwaitListeners => self.await_listeners(),
            Action::AwaitNetwork => self.await_network(),
            Action::Prove(role) => self.prove(role),
            Action::Confine => Ok(confine_inner(self.plan.containers.iter().map(|container| container.cgroup.path.as_str()))?),
        }
    }

    fn planned(&self, role: Role) -> Result<&Container, InnerError> {
        self.plan.container(role).ok_or(InnerError::NoContainer(role))
    }

    fn created(&mut self, role: Role) -> Result<&mut Created, InnerError> {
        self.boxed.iter_mut().map(|watched| &mut watched.created).find(|created| created.role == role).ok_or(InnerError::NoContainer(role))
    }

    fn verify(&mut self, role: Role) -> Result<(), InnerError> {
        let pid = self.created(role)?.pid;
        let others: Vec<_> = self.boxed.iter().map(|watched| watched.created.pid).filter(|other| *other != pid).collect();
        let container = self.planned(role)?;
        let differences = Facts::of(container).mismatches(&observe(pid, &others, container)?);
        if differences.is_empty() { Ok(()) } else { Err(InnerError::Mismatch { role, differences }) }
    }

    /// Waits for the proof of `role`, the first that comes out of its container.
    fn prove(&mut self, role: Role) -> Result<(), InnerError> {
        if !self.planned(role)?.proves() {
            return Ok(());
        }
        let mut failure = String::new();
        let mut proved = |happening: Happening<'_>| {
            if let Happening::Line(from, line) = happening && from == role {
                failure.push_str(line.strip_prefix(INIT).unwrap_or_default());
                if tell_proof(role, line) {
                    return Flow::Enough;
                }
            }
            respond(happening)
        };
        match self.watch.run(&mut self.boxed, Some(Instant::now() + PROOF_PATIENCE), &mut proved) {
            Ok(None) => Ok(()),
            Ok(Some(Ending::Exited(ended, _))) if ended == role && !failure.is_empty() => Err(InnerError::Escaped(failure)),
            Ok(Some(Ending::Exited(ended, code))) => Err(InnerError::Lost(ended, code)),
            Ok(Some(Ending::Asked)) => Err(InnerError::CalledOff),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(InnerError::Unproved),
            Err(error) => Err(InnerError::Watch(error)),
        }
    }

    /// Every role but the browser has to say that it listens, and tor's init before that that it finds a network.
    fn await_listeners(&mut self) -> Result<(), InnerError> {
        let mut silent: Vec<Role> = self.plan.containers.iter().map(|container| container.role).filter(|role| *role != Role::Browser).collect();
        let mut proved = !self.planned(Role::Tor)?.proves();
        let mut connected = false;
        let mut listen = |happening: Happening<'_>| {
            if let Happening::Line(role, line) = happening {
                connected |= is_connected(role, line);
                if role == Role::Tor && !proved && tell_proof(role, line) {
                    proved = true;
                    return Flow::More;
                }
                silent.retain(|awaited| *awaited != role || !says_it_listens(role, line));
            }
            respond(happening);
            if proved && silent.is_empty() { Flow::Enough } else { Flow::More }
        };
        let watched = self.watch.run(&mut self.boxed, Some(Instant::now() + LISTEN_PATIENCE), &mut listen);
        self.connected = connected;
        match watched {
            Ok(None) => Ok(()),
            Ok(Some(Ending::Exited(role, code))) => Err(InnerError::Lost(role, code)),
            Ok(Some(Ending::Asked)) => Err(InnerError::CalledOff),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(InnerError::Silent(silent)),
            Err(error) => Err(InnerError::Watch(error)),
        }
    }

    /// tor may take any time to connect: the launching process tells why, and knows whether to go on.
    fn await_network(&mut self) -> Result<(), InnerError> {
        if self.connected {
            return Ok(());
        }
        let mut connected = |happening: Happening<'_>| {
            let done = matches!(&happening, Happening::Line(role, line) if is_connected(*role, line));
            respond(happening);
            if done { Flow::Enough } else { Flow::More }
        };
        match self.watch.run(&mut self.boxed, None, &mut connected).map_err(InnerError::Watch)? {
            None => Ok(()),
            Some(Ending::Exited(role, code)) => Err(InnerError::Lost(role, code)),
            Some(Ending::Asked) => Err(InnerError::CalledOff),
        }
    }

    /// Watches until the box ends. The end of the browser is how a box is meant to end; that of another role is a failure.
    fn supervise(&mut self) -> Result<Option<u8>, InnerError> {
        give_back_memory();
        let mut respond = |happening: Happening<'_>| match happening {
            // It may have ended just now, which ends the box.
            Happening::Request(Request::Audit, Some(browser)) => kill(browser.pid, Signal::SIGUSR1).map_or(Flow::More, |()| Flow::More),
            happening => respond(happening),
        };
        match self.watch.run(&mut self.boxed, None, &mut respond).map_err(InnerError::Watch)? {
            Some(Ending::Exited(Role::Browser, code)) => Ok(Some(code)),
            Some(Ending::Exited(role, code)) => Err(InnerError::Lost(role, code)),
            Some(Ending::Asked) | None => Ok(None),
        }
    }

    /// Undoes the launch in reverse: the browser first, tor last, whose state is then kept. All undos run; the first error
    /// is returned. What they do not reach ends with this process.
    fn undo(&mut self) -> Result<(), InnerError> {
        let mut first = Ok(());
        while let Some(watched) = self.boxed.pop() {
            let patience = if watched.created.role == Role::Tor { TOR_PATIENCE } else { Duration::ZERO };
            let ended = end(watched.created.pid, patience).map_err(InnerError::Watch);
            let deleted = watched.created.delete().map_err(InnerError::from);
            first = first.and(ended).and(deleted);
        }
        first.and(keep::save(&self.plan).map_err(InnerError::from))
    }
}

/// Passes a line of a role on as an event, and answers requests with one. Failing to report means that the launching
/// process is gone, which ends the request pipe too.
fn respond(happening: Happening<'_>) -> Flow {
    let event = match happening {
        Happening::Line(role, line) if let Some(error) = opened(role, line) => Event::Opened { error },
        Happening::Line(Role::Tor, line) if let Some((percent, summary)) = bootstrap(line) => Event::Bootstrap { percent, summary },
        Happening::Line(role, line) => Event::Line { role, text: line.to_owned() },
        Happening::Request(Request::Open(address), browser) => match told(browser, &Wish(address).to_string()) {
            Ok(()) => return Flow::More,
            Err(error) => Event::Opened { error: Some(error.to_string()) },
        },
        Happening::Request(Request::Copy, display) => match told(display, COPY) {
            Ok(()) => return Flow::More,
            Err(_) => Event::Line { role: Role::Display, text: COPIED.to_owned() },
        },
        Happening::Request(Request::NewIdentity, _) => Event::NewIdentity { error: admin::new_identity().err().map(|error| chain(&error)) },
        // There is no browser yet beside which it could be made.
        Happening::Request(Request::Audit, _) => Event::Line { role: Role::Browser, text: BESIDE.trim_end().to_owned() },
    };
    report(&event).ok();
    Flow::More
}

/// A container that is not there yet cannot be told anything.
fn told(container: Option<&mut Created>, line: &str) -> io::Result<()> {
    container.map_or(Err(io::ErrorKind::NotFound.into()), |container| container.tell(line))
}

/// Reports `line` if it is a proof; whether it is. Asked only until there is one: what the program says later proves nothing.
fn tell_proof(role: Role, line: &str) -> bool {
    let Some(proof) = Proof::parse(line) else { return false };
    report(&Event::Proved { role, proof }).ok();
    true
}
