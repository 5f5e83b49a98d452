//! `torbox __inner`: process 1 of a box. Launches it step by step, watches it, and undoes it.
//!
//! It is single-threaded: libcontainer forks and allocates in the child. It inherits no environment.

use super::create::{CreateError, Created, create};
use super::enclose::{EncloseError, enclose};
use super::keep::{self, KeepError};
use super::observe::{ObserveError, observe};
use super::outer::read_request;
use super::protocol::{Event, Launch, Supplies};
use super::supervise::{Ending, Flow, Watch, Watched, bootstrap, end};
use nix::sys::signal::Signal;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use torbox_plan::steps::{Action, LAUNCH};
use torbox_plan::{Container, Facts, Mismatch, Plan, PlanError, Role};

/// How long tor and the gate may take to listen.
const LISTEN_PATIENCE: Duration = Duration::from_secs(20);
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
    #[error("the {0} container does not exist at this step")]
    NoContainer(Role),
    #[error("{0} ended with code {1} while the box was running")]
    Lost(Role, u8),
    #[error("tor and the gate were not ready within {} s", LISTEN_PATIENCE.as_secs())]
    Silent,
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
        InnerError::Lost(Role::Tor, _) => Some("what tor said last stands above; --verbose shows all of it".to_owned()),
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
    let watch = Watch::new().map_err(|errno| InnerError::Watch(errno.into()))?;
    let request = read_request().map_err(InnerError::Request)?;
    let Launch { intent, host, supplies } = serde_json::from_str(&request).map_err(|error| InnerError::Request(error.into()))?;
    let mut launcher = Launcher { plan: Plan::new(&intent, &host)?, supplies, watch, boxed: Vec::new(), began };
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
}

impl Launcher {
    fn launch(&mut self) -> Result<(), InnerError> {
        for step in &LAUNCH {
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
                Ok(keep::restore(self.planned(Role::Tor)?)?)
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
                if role == Role::Browser { report(&Event::Running { pid }).map_err(InnerError::Report) } else { Ok(()) }
            }
            Action::AwaitListeners => self.await_listeners(),
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

    /// The gate says `ready` when its sockets exist, tor that it opened its own.
    fn await_listeners(&mut self) -> Result<(), InnerError> {
        let (mut gate, mut tor) = (false, false);
        let mut listen = |role, line: &str| {
            gate |= role == Role::Gate && line == "ready";
            tor |= role == Role::Tor && (line.contains("Opened Socks listener") || bootstrap(line).is_some());
            tell(role, line);
            if gate && tor { Flow::Enough } else { Flow::More }
        };
        match self.watch.run(&mut self.boxed, Some(Instant::now() + LISTEN_PATIENCE), &mut listen) {
            Ok(None) => Ok(()),
            Ok(Some(Ending::Exited(role, code))) => Err(InnerError::Lost(role, code)),
            Ok(Some(Ending::Asked)) => Err(InnerError::CalledOff),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(InnerError::Silent),
            Err(error) => Err(InnerError::Watch(error)),
        }
    }

    /// Watches until the box ends. The end of the browser is how a box is meant to end; that of another role is a failure.
    fn supervise(&mut self) -> Result<Option<u8>, InnerError> {
        match self.watch.run(&mut self.boxed, None, &mut tell).map_err(InnerError::Watch)? {
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
        first.and(keep::save().map_err(InnerError::from))
    }
}

/// Passes a line of a role on as an event. Failing to report means that the launching process is gone, which ends the
/// request pipe too.
fn tell(role: Role, line: &str) -> Flow {
    let progress = if role == Role::Tor { bootstrap(line) } else { None };
    report(&progress.unwrap_or_else(|| Event::Line { role, text: line.to_owned() })).ok();
    Flow::More
}
