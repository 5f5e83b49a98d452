//! `torbox bridge request`: bridges from the Tor Project's service, which is asked through the tor of a box without a browser.
//!
//! The process that asks is one of torbox's own (`__asker`). It connects to tor's socket, then gives up all but that connection, and only then begins
//! to speak; what it hands back are lines, which are judged here. Nobody is asked past tor, and no other box's tor is used.

use super::moat::{self, LIMIT, SERVICE};
use super::{Bridge, BridgeError, called, load, show, transports};
use crate::args::{Ask, Backend};
use crate::dirs::Dirs;
use crate::error::CliError;
use crate::helper::{Helper, Inside};
use crate::run::{self, Patience};
use crate::system;
use crate::terminal::say;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;
use torbox_images::Post;

/// Hidden subcommand of the process that asks.
pub(crate) const ASKER: &str = "__asker";
/// Whose circuits the question has to itself (tor(1), `IsolateSOCKSAuth`).
const USER: &str = "torbox-bridge-request";
/// How long the service may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// What is asked, and of whom.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    url: String,
    json: String,
    /// A root certificate (PEM) in the place of those that everybody trusts.
    root: Option<Vec<u8>>,
}

/// The process that asks.
pub(crate) struct Asker(Helper);

impl Asker {
    /// Starts it with its question, before there is a tor to ask through; its answer comes out of the pipe.
    fn start(question: &Question) -> io::Result<(Self, ChildStdout)> {
        let (mut helper, answer) = Helper::start(ASKER)?;
        helper.tell(question)?;
        Ok((Self(helper), answer))
    }

    /// Sends it to ask, through this tor. One that has ended says why in its answer.
    pub(crate) fn send(&mut self, tor: Inside) {
        self.0.tell(&tor).ok();
    }

    /// Whether it has asked, or will not.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.has_ended()
    }
}

/// `torbox bridge add -`, started before the box: who supervised one writes no file any more. It adds nothing where it is told nothing.
struct Keeper {
    process: Child,
}

impl Keeper {
    fn start(dir: Option<&Path>) -> io::Result<Self> {
        let mut command = Command::new(system::program()?);
        if let Some(dir) = dir {
            command.arg("--dir").arg(dir);
        }
        Ok(Self { process: command.args(["bridge", "add", "-"]).stdin(Stdio::piped()).spawn()? })
    }

    fn keep(mut self, bridges: &[Bridge]) -> io::Result<()> {
        let text: String = bridges.iter().map(|bridge| format!("{bridge}\n")).collect();
        self.process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?.write_all(text.as_bytes())?;
        if self.process.wait()?.success() { Ok(()) } else { Err(io::Error::other("torbox bridge add failed")) }
    }
}

/// Asks, shows what comes, and makes it the user's if that is wanted.
pub(super) fn request(dir: Option<&Path>, dirs: &Dirs, args: &Ask) -> Result<(), CliError> {
    system::linux_alone("torbox bridge request", "torbox bridge builtin has bridges, and torbox bridge add takes a line that you were given")?;
    if args.of.engine.is_given() && args.of.engine.backend != Backend::Native {
        return Err(CliError::AskInEngine);
    }
    let transports = transports()?;
    let asked: Vec<&String> = if args.transport.is_empty() { transports.keys().collect() } else { args.transport.iter().collect() };
    let known = |name: &String| called(name, &transports).map(str::to_owned).ok_or_else(|| BridgeError::Transport(name.clone()));
    let wanted = asked.into_iter().map(known).collect::<Result<Vec<_>, _>>()?;
    let service = args.service.as_deref().unwrap_or(SERVICE);
    let host = host(service);
    if args.service.is_some() {
        say(&format!("torbox: WARNING: {host} is asked in the place of the Tor Project: for private networks. Bridges of somebody else's see where you are."));
    }
    let root = args.service_root.as_ref().map(|path| fs::read(path).map_err(|source| CliError::Path { path: path.clone(), source })).transpose()?;
    let country = args.country.as_deref();
    let question = Question { url: format!("{service}/{}", moat::path(country)), json: moat::question(country, &wanted), root };
    let (asker, mut answer) = Asker::start(&question).map_err(|source| CliError::System("start the process that asks", source))?;
    let failed = |source| CliError::System("add the bridges", source);
    let keeper = args.add.then(|| Keeper::start(dir)).transpose().map_err(failed)?;
    let bridges = load(dirs)?;
    run::ask(dirs, &args.of, if bridges.len() == 1 { Patience::FirstFailure } else { Patience::Minute }, asker)?;
    let refused = |reason: String| CliError::Service { host: host.to_owned(), reason };
    let mut said = String::new();
    answer.read_to_string(&mut said).map_err(|error| refused(error.to_string()))?;
    let answered: Result<Vec<String>, String> = serde_json::from_str(&said).map_err(|_| refused("the question was broken off".to_owned()))?;
    let (good, bad): (Vec<_>, Vec<_>) = answered.map_err(refused)?.iter().map(|line| Bridge::parse(line, &transports)).partition(Result::is_ok);
    for error in bad.into_iter().filter_map(Result::err) {
        say(&format!("torbox: a line of the answer is left out: {error}"));
    }
    let good: Vec<Bridge> = good.into_iter().filter_map(Result::ok).collect();
    if good.is_empty() {
        return Err(refused("none of its lines is one that torbox can use".to_owned()));
    }
    show(&good, &args.format);
    keeper.map_or(Ok(()), |keeper| keeper.keep(&good)).map_err(failed)
}

fn host(service: &str) -> &str {
    service.trim_start_matches("https://").split('/').next().unwrap_or_default()
}

/// The process that asks: its question and its way in two lines, its answer in one.
pub(crate) fn main() -> ExitCode {
    let mut lines = io::stdin().lock().lines();
    let mut next = || lines.next().and_then(Result::ok);
    // Without a way there is nobody any more who waits.
    let (Some(question), Some(way)) = (next(), next()) else { return ExitCode::SUCCESS };
    let answer = match (serde_json::from_str(&question), serde_json::from_str(&way)) {
        (Ok(question), Ok(way)) => ask(&question, way),
        _ => Err("it was not told what to ask".to_owned()),
    };
    match serde_json::to_string(&answer).map_err(io::Error::from).and_then(|text| io::stdout().write_all(text.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn ask(Question { url, json, root }: &Question, way: Inside) -> Result<Vec<String>, String> {
    let tor = system::reach_tor(way).map_err(|error| with_causes(error.as_ref()))?;
    let post = Post { url, json: json.as_bytes(), user: USER, root: root.as_deref(), patience: PATIENCE, limit: LIMIT };
    let answer = post.ask(tor).map_err(|error| with_causes(&error))?;
    moat::lines(&answer).map_err(|error| error.to_string())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source()).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
