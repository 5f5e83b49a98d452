//! `torbox __engine`: launches a box in an engine step by step, watches it, and removes it.
//!
//! It speaks the same protocol as the native runtime: a launch on standard input, then a request a line, whose end is the request to
//! stop, and events on standard output.

use super::admin::{ask_gate, audit};
use super::carry::carry;
use super::clean::remove;
use super::create::{Created, Input, Output, create, prepare};
use super::endpoint::{Client, PATIENCE, block_on, bounded, status};
use super::error::EngineError;
use super::report::{PREFIX, Report};
use super::Launch;
use crate::protocol::{Event, Request};
use crate::secret::random_hex;
use crate::{system, texts};
use bollard::container::LogOutput;
use bollard::query_parameters::KillContainerOptionsBuilder;
use futures_util::StreamExt;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use torbox_plan::engine::{Rendered, facts, hidden, normalise};
use torbox_plan::steps::{self, Action};
use torbox_plan::{BESIDE, COPIED, COPY, Container, Mount, Plan, Proof, Role, SuppliedFile, Wish, paths};

/// How long an init may take to report.
const REPORT_PATIENCE: Duration = Duration::from_secs(20);
/// How long tor, the gate and the display may take to listen.
const LISTEN_PATIENCE: Duration = Duration::from_secs(20);
/// How long an init may take to try every way out.
const PROOF_PATIENCE: Duration = Duration::from_secs(10);
/// How init begins what it says of a failure of its own.
const INIT: &str = "init: ";
/// How long tor may take to end when asked to, and to write its state.
const TOR_PATIENCE: Duration = Duration::from_secs(3);
const MAX_REQUEST: u64 = 4 << 20;
/// A longer line is dropped. A report has some 20 KiB.
const MAX_LINE: usize = 1 << 18;

/// Runs `__engine`.
#[must_use]
pub fn engine_main() -> ExitCode {
    let began = Instant::now();
    let event = match block_on(run(began)) {
        Ok(code) => Event::Ended { code },
        Err(EngineError::CalledOff) => Event::Ended { code: None },
        Err(error) => Event::Failed { hint: error.hint(), message: chain(&error) },
    };
    let failed = matches!(event, Event::Failed { .. });
    if tell(&event).is_err() || failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn tell(event: &Event) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    std::io::stdout().write_all(&line)
}

/// Reads the request, launches, watches, removes. The code is that of what ran in the browser's container.
async fn run(began: Instant) -> Result<Option<u8>, EngineError> {
    let mut stdin = BufReader::new(tokio::io::stdin());
    let mut request = String::new();
    (&mut stdin).take(MAX_REQUEST).read_line(&mut request).await.map_err(EngineError::Launcher)?;
    let launch: Launch = serde_json::from_str(&request).map_err(|error| EngineError::Launcher(error.into()))?;
    let plan = Plan::new(&launch.intent, &launch.host)?;
    let client = Client::connect(&launch.contact).await?;
    let (happened, happens) = unbounded_channel();
    let (asked, asks) = unbounded_channel();
    tokio::spawn(requests(stdin, asked, happened.clone()));
    let rendered = Rendered { volumes: Vec::new(), containers: Vec::new() };
    let secret = random_hex().map_err(EngineError::Launcher)?;
    let mut launcher = Launcher { launch, plan, client, rendered, secret, roles: Vec::new(), happened, happens, asks, began, supervising: false, connected: false };
    let outcome = match launcher.launch().await {
        Ok(()) => launcher.supervise().await,
        Err(error) => Err(error),
    };
    let undone = launcher.undo().await;
    let code = outcome?;
    undone.map(|()| code)
}

/// Hands on what is asked on standard input, until it ends or says what is not understood.
async fn requests(mut stdin: BufReader<tokio::io::Stdin>, asked: UnboundedSender<Request>, happened: UnboundedSender<Happened>) {
    let mut line = String::new();
    while (&mut stdin).take(MAX_REQUEST).read_line(&mut line).await.is_ok_and(|count| count > 0) {
        let Ok(request) = serde_json::from_str(&line) else { break };
        asked.send(request).ok();
        line.clear();
    }
    // Nobody listens any more when the box has ended.
    happened.send(Happened::CalledOff).ok();
}

/// What wakes the launcher.
enum Happened {
    /// A role wrote a line.
    Line(Role, String),
    /// A role's output has ended.
    Closed(Role),
    /// The launching process wants the box to end, or is gone.
    CalledOff,
}

/// A role's container.
struct Running {
    role: Role,
    id: String,
    input: Input,
    report: Option<Report>,
}

struct Launcher {
    launch: Launch,
    plan: Plan,
    client: Client,
    rendered: Rendered,
    /// Opens the gate's control socket.
    secret: String,
    roles: Vec<Running>,
    happened: UnboundedSender<Happened>,
    happens: UnboundedReceiver<Happened>,
    asks: UnboundedReceiver<Request>,
    began: Instant,
    supervising: bool,
    /// Whether tor has said that it is connected.
    connected: bool,
}

impl Launcher {
    async fn launch(&mut self) -> Result<(), EngineError> {
        // This process supervises through the engine's API, which needs what it would give up.
        let steps: Vec<_> = steps::of(&self.plan).filter(|step| step.action != Action::Confine).collect();
        for step in steps {
            self.act(step.action).await?;
            let after = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
            tell(&Event::Done { action: format!("{:?}", step.action), after }).map_err(EngineError::Launcher)?;
        }
        Ok(())
    }

    async fn act(&mut self, action: Action) -> Result<(), EngineError> {
        match action {
            Action::Enclose => {
                self.rendered = prepare(&self.client, &self.launch, &self.plan).await?;
                Ok(())
            }
            Action::Create(role) => self.create(role).await,
            Action::Verify(role) => self.verify(role),
            Action::Start(role) => self.start(role).await,
            Action::AwaitListeners => self.await_listeners().await,
            Action::AwaitNetwork => self.await_network().await,
            Action::Prove(role) => self.prove(role).await,
            Action::Confine => Ok(()),
        }
    }

    fn planned(&self, role: Role) -> Result<&Container, EngineError> {
        self.plan.container(role).ok_or(EngineError::NoContainer(role))
    }

    fn running(&mut self, role: Role) -> Result<&mut Running, EngineError> {
        self.roles.iter_mut().find(|running| running.role == role).ok_or(EngineError::NoContainer(role))
    }

    /// Creates a container and has its init report.
    async fn create(&mut self, role: Role) -> Result<(), EngineError> {
        let (_, body) = self.rendered.containers.iter().find(|(of, _)| *of == role).ok_or(EngineError::NoContainer(role))?;
        let Created { id, input, output } = create(&self.client, &self.launch, role, body).await?;
        tokio::spawn(lines(role, output, self.happened.clone()));
        self.roles.push(Running { role, id, input, report: None });
        self.say(role, question(self.planned(role)?).as_bytes()).await?;
        let report = self.reported(role).await?;
        self.running(role)?.report = Some(report);
        Ok(())
    }

    async fn say(&mut self, role: Role, bytes: &[u8]) -> Result<(), EngineError> {
        let input = &mut self.running(role)?.input;
        let said = async {
            input.write_all(bytes).await?;
            input.flush().await
        };
        said.await.map_err(|source| EngineError::Talk(role, source))
    }

    /// The first line of a container must be its report.
    async fn reported(&mut self, role: Role) -> Result<Report, EngineError> {
        let deadline = Instant::now() + REPORT_PATIENCE;
        loop {
            match self.next(Some(deadline)).await? {
                Some(Happened::Line(of, text)) if of == role => {
                    let report = text.strip_prefix(PREFIX).and_then(|json| serde_json::from_str(json).ok());
                    return report.ok_or_else(|| EngineError::NoReport { role, said: text.chars().take(200).collect() });
                }
                Some(Happened::Closed(of)) => return Err(EngineError::NoReport { role: of, said: String::new() }),
                Some(Happened::Line(of, text)) => line(of, text),
                Some(Happened::CalledOff) => return Err(EngineError::CalledOff),
                None => return Err(EngineError::NoReport { role, said: String::new() }),
            }
        }
    }

    /// The next thing that happens before `deadline`; what is asked meanwhile is answered.
    async fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Happened>, EngineError> {
        loop {
            let Self { happens, asks, .. } = self;
            let woken = async {
                tokio::select! {
                    happened = happens.recv() => Ok(happened),
                    Some(request) = asks.recv() => Err(request),
                }
            };
            let woken = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline.into(), woken).await.unwrap_or(Ok(None)),
                None => woken.await,
            };
            match woken {
                Ok(happened) => return Ok(happened),
                Err(Request::NewIdentity) => self.answer_new_identity().await?,
                Err(Request::Open(address)) => self.say(Role::Browser, format!("{}\n", Wish(address)).as_bytes()).await?,
                Err(Request::Copy) => self.answer_copy().await?,
                Err(Request::Audit) => self.answer_audit().await?,
            }
        }
    }

    async fn answer_new_identity(&mut self) -> Result<(), EngineError> {
        let error = self.new_identity().await.err().map(|error| chain(&error));
        tell(&Event::NewIdentity { error }).map_err(EngineError::Launcher)
    }

    /// Lines of the browser follow, as from the box of torbox's own. Of an audit that is not made there is the end: before its proof a box has no init that makes one.
    async fn answer_audit(&mut self) -> Result<(), EngineError> {
        let browser = self.running(Role::Browser)?.id.clone();
        if !self.supervising || audit(&self.client, &browser).await.is_err() {
            line(Role::Browser, BESIDE.trim_end().to_owned());
        }
        Ok(())
    }

    /// Lines of the display follow. Of one that does not run there is the end.
    async fn answer_copy(&mut self) -> Result<(), EngineError> {
        if !self.supervising {
            line(Role::Display, COPIED.to_owned());
            return Ok(());
        }
        self.say(Role::Display, format!("{COPY}\n").as_bytes()).await
    }

    async fn new_identity(&mut self) -> Result<(), EngineError> {
        let gate = self.running(Role::Gate)?.id.clone();
        match ask_gate(&self.client, &gate, "new-identity").await?.as_str() {
            "ok" => Ok(()),
            other => Err(EngineError::Gate(other.to_owned())),
        }
    }

    fn verify(&mut self, role: Role) -> Result<(), EngineError> {
        let reports: Vec<(Role, &Report)> = self.roles.iter().filter_map(|running| Some((running.role, running.report.as_ref()?))).collect();
        let (_, this) = reports.iter().find(|(of, _)| *of == role).ok_or(EngineError::NoContainer(role))?;
        let others: Vec<&Report> = reports.iter().filter(|(of, _)| *of != role).map(|(_, report)| *report).collect();
        let container = self.planned(role)?;
        // The engine's account of the limits was compared when the container was created.
        let limits = container.cgroup.limits.map(|limits| (limits.memory, u64::from(limits.pids)));
        let planned = facts(container, &self.launch.engine);
        let mut found = this.facts(&others, container, limits);
        normalise(&mut found, &planned);
        let mut differences = planned.mismatches(&found);
        differences.extend(this.sockets(container));
        match found.mounts.get(paths::DISPLAY_SERVER.as_str()) {
            // Podman makes a directory where its host has nothing.
            Some(server) if server.kind != "socket" => Err(EngineError::DisplayElsewhere { source: None }),
            _ if differences.is_empty() => Ok(()),
            _ => Err(EngineError::Mismatch { role, differences }),
        }
    }

    /// Hands over the supplied files and lets the program run.
    async fn start(&mut self, role: Role) -> Result<(), EngineError> {
        if role == Role::Display && let Some(viewer) = self.launch.viewer.clone() {
            let id = self.running(role)?.id.clone();
            carry(&self.client, &id, &viewer).await?;
        }
        let mut words = Vec::new();
        for mount in &self.planned(role)?.mounts {
            if let Mount::File { file, target } = mount
                && let Some(bytes) = self.supplied(*file)
            {
                words.extend(format!("file {target} 400 {}\n", bytes.len()).into_bytes());
                words.extend(bytes);
            }
        }
        words.extend(b"go\n");
        if role != Role::Browser {
            return self.say(role, &words).await;
        }
        // Asked before it goes on: Podman has words for a container that has just ended which no client knows.
        let id = self.running(role)?.id.clone();
        let told = bounded("tell of the browser's container", PATIENCE, self.client.docker.inspect_container(&id, None)).await?;
        let pid = told.state.and_then(|state| state.pid).and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        self.say(role, &words).await?;
        tell(&Event::Running { role, pid }).map_err(EngineError::Launcher)
    }

    /// What the file says; none where the engine supplies it.
    fn supplied(&self, file: SuppliedFile) -> Option<&[u8]> {
        match file {
            SuppliedFile::Torrc => Some(self.plan.torrc.as_bytes()),
            SuppliedFile::Resolver => None,
            SuppliedFile::DisplayCookie => Some(&self.launch.display_cookie),
            SuppliedFile::ControlSecret => Some(self.secret.as_bytes()),
        }
    }

    /// Every role but the browser has to say that it listens, and tor's init before that that it finds a network.
    async fn await_listeners(&mut self) -> Result<(), EngineError> {
        let mut silent: Vec<Role> = self.plan.containers.iter().map(|container| container.role).filter(|role| *role != Role::Browser).collect();
        let mut proved = !self.planned(Role::Tor)?.proves();
        let deadline = Instant::now() + LISTEN_PATIENCE;
        while !(proved && silent.is_empty()) {
            match self.next(Some(deadline)).await? {
                Some(Happened::Line(Role::Tor, text)) if !proved && tell_proof(Role::Tor, &text) => proved = true,
                Some(Happened::Line(role, text)) => {
                    self.connected |= texts::is_connected(role, &text);
                    silent.retain(|awaited| *awaited != role || !texts::says_it_listens(role, &text));
                    line(role, text);
                }
                Some(Happened::Closed(role)) => return Err(self.lost(role).await),
                Some(Happened::CalledOff) => return Err(EngineError::CalledOff),
                None => return Err(EngineError::Silent { roles: silent, seconds: LISTEN_PATIENCE.as_secs() }),
            }
        }
        Ok(())
    }

    /// tor may take any time to connect: the launching process tells why, and knows whether to go on.
    async fn await_network(&mut self) -> Result<(), EngineError> {
        while !self.connected {
            match self.next(None).await? {
                Some(Happened::Line(role, text)) => {
                    let connected = texts::is_connected(role, &text);
                    line(role, text);
                    self.connected = connected;
                }
                Some(Happened::Closed(role)) => return Err(self.lost(role).await),
                Some(Happened::CalledOff) | None => return Err(EngineError::CalledOff),
            }
        }
        Ok(())
    }

    /// Waits for the proof of `role`, the first that comes out of its container.
    async fn prove(&mut self, role: Role) -> Result<(), EngineError> {
        if !self.planned(role)?.proves() {
            return Ok(());
        }
        let mut failure = String::new();
        let deadline = Instant::now() + PROOF_PATIENCE;
        loop {
            match self.next(Some(deadline)).await? {
                Some(Happened::Line(from, text)) if from == role && tell_proof(role, &text) => return Ok(()),
                Some(Happened::Line(from, text)) => {
                    failure.push_str(text.strip_prefix(INIT).filter(|_| from == role).unwrap_or_default());
                    line(from, text);
                }
                Some(Happened::Closed(from)) if from == role && !failure.is_empty() => return Err(EngineError::Escaped(failure)),
                Some(Happened::Closed(from)) => return Err(self.lost(from).await),
                Some(Happened::CalledOff) => return Err(EngineError::CalledOff),
                None => return Err(EngineError::Unproved(PROOF_PATIENCE.as_secs())),
            }
        }
    }

    /// Watches until the box ends. The end of the browser is how a box is meant to end; that of another role is a failure.
    async fn supervise(&mut self) -> Result<Option<u8>, EngineError> {
        system::give_back_memory();
        self.supervising = true;
        loop {
            match self.next(None).await? {
                Some(Happened::Line(role, text)) => line(role, text),
                Some(Happened::Closed(role)) => match self.lost(role).await {
                    EngineError::Lost(Role::Browser, code) => return Ok(Some(code)),
                    error => return Err(error),
                },
                Some(Happened::CalledOff) | None => return Ok(None),
            }
        }
    }

    /// Why a role's output ended: its program did, or the engine is gone.
    async fn lost(&mut self, role: Role) -> EngineError {
        let Ok(running) = self.running(role) else { return EngineError::NoContainer(role) };
        let id = running.id.clone();
        let mut waited = self.client.docker.wait_container(&id, None);
        let code = match tokio::time::timeout(PATIENCE, waited.next()).await {
            Ok(Some(Ok(ended))) => ended.status_code,
            // How bollard tells of every code but 0.
            Ok(Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. }))) => code,
            Ok(Some(Err(error))) if status(&error) == Some(404) => return EngineError::Removed(role),
            Ok(Some(Err(source))) => return EngineError::EngineGone { role, source: Box::new(source) },
            Ok(None) | Err(_) => return EngineError::Slow { what: format!("tell how {role} ended"), seconds: PATIENCE.as_secs() },
        };
        EngineError::Lost(role, u8::try_from(code).unwrap_or(u8::MAX))
    }

    /// Undoes the launch in reverse: the browser first, tor last, which is asked to write its state. All undos run.
    async fn undo(&mut self) -> Result<(), EngineError> {
        if let Some(tor) = self.roles.iter().find(|running| running.role == Role::Tor) {
            let options = KillContainerOptionsBuilder::new().signal("SIGTERM").build();
            // It may have ended already; what is left of it is removed below.
            if self.client.docker.kill_container(&tor.id, Some(options)).await.is_ok() {
                self.drain_until_closed(Role::Tor, Instant::now() + TOR_PATIENCE).await;
            }
        }
        self.roles.clear();
        remove(&self.client, &self.plan.name, &self.launch.claim).await
    }

    async fn drain_until_closed(&mut self, role: Role, deadline: Instant) {
        while let Ok(Some(happened)) = self.next(Some(deadline)).await {
            match happened {
                Happened::Closed(of) if of == role => return,
                Happened::Line(of, text) => line(of, text),
                Happened::Closed(_) | Happened::CalledOff => {}
            }
        }
    }
}

/// What a created container is told: to lower its limits, and to report.
fn question(container: &Container) -> String {
    let limits = container.rlimits.iter().map(|(name, value)| format!("limit {name} {value}\n"));
    limits.chain(["report".to_owned()]).collect::<String>() + &guarded(container).map(|path| format!(" {path}")).collect::<String>() + "\n"
}

/// Every path that must be hidden or read-only in `container`.
fn guarded(container: &Container) -> impl Iterator<Item = &'static str> {
    container.masked.iter().chain(&container.read_only).copied().chain(hidden(container))
}

/// Passes a line of a role on as an event. Failing to report means that the launching process is gone, which ends the
/// request pipe too.
fn line(role: Role, text: String) {
    if let Some(error) = texts::opened(role, &text) {
        tell(&Event::Opened { error }).ok();
        return;
    }
    let progress = if role == Role::Tor { texts::bootstrap(&text) } else { None };
    let event = progress.map_or(Event::Line { role, text }, |(percent, summary)| Event::Bootstrap { percent, summary });
    tell(&event).ok();
}

/// Reports `text` if it is a proof; whether it is. Asked only until there is one: what the program says later proves nothing.
fn tell_proof(role: Role, text: &str) -> bool {
    let Some(proof) = Proof::parse(text) else { return false };
    tell(&Event::Proved { role, proof }).ok();
    true
}

/// Cuts what a container writes into lines. Standard output and error come in turns, each cut anywhere.
async fn lines(role: Role, mut output: Output, happened: UnboundedSender<Happened>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(Ok(written)) = output.next().await {
        let partial = if matches!(written, LogOutput::StdErr { .. }) { &mut err } else { &mut out };
        partial.extend_from_slice(&written.into_bytes());
        while let Some(end) = partial.iter().position(|&byte| byte == b'\n') {
            let whole: Vec<u8> = partial.drain(..=end).collect();
            happened.send(Happened::Line(role, String::from_utf8_lossy(&whole).trim_end().to_owned())).ok();
        }
        if partial.len() > MAX_LINE {
            partial.clear();
        }
    }
    happened.send(Happened::Closed(role)).ok();
}
