//! The socket on which a running box answers its user: one word in, one line out (unix(7)).
//!
//! It lies in a directory of the user's own. It never says what is browsed.

use crate::dirs::{self, Dirs};
use crate::display;
use crate::engine::Mark;
use crate::error::CliError;
use crate::system::{self, Callers};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use torbox_backend::engine::Contact;
use torbox_backend::local::{self, Stream};
use torbox_plan::{self as plan, Address, BoxName, Handed};

/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_LINE: u64 = 1 << 14;
/// How long an audit may be silent, and how much it may say.
const AUDIT_PATIENCE: Duration = Duration::from_secs(60);
const MAX_AUDIT: u64 = 1 << 20;
/// A display gives a megabyte, in hexadecimal digits.
const MAX_COPIED: u64 = 1 << 22;
/// How long the processes of a runtime that was killed may take to end in order.
const ENDING: Duration = Duration::from_secs(5);
/// How long what it ran may then take to leave its control groups.
const GONE: Duration = Duration::from_secs(2);
/// How long sweeping one box may take.
const SWEEP: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(10);

/// What a running box says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The box.
    pub(crate) name: BoxName,
    /// The process that holds it.
    pub(crate) pid: u32,
    /// tor's progress, in percent.
    pub(crate) bootstrap: u8,
    /// Why tor does not get on, or not any more, as far as it is known.
    pub(crate) trouble: Option<String>,
    /// How it is shown, as `--display` takes it.
    pub(crate) display: String,
    /// What that leaves open, if anything.
    pub(crate) leaves_open: Option<String>,
    /// Whether it is heard.
    pub(crate) sound: bool,
    /// The browser's recipe and version.
    pub(crate) browser: String,
    /// Whether the browser is one that makes its user anonymous.
    pub(crate) anonymous: bool,
    /// The browser's process 1, as the runtime sees it; none in an engine.
    #[serde(skip)]
    pub(crate) browser_process: Option<u32>,
    /// What was tried before the browser was started, and what came of it.
    pub(crate) proof: Option<String>,
}

impl State {
    /// Whether tor was connected and is not any more.
    pub(crate) const fn is_lost(&self) -> bool {
        self.bootstrap == 100 && self.trouble.is_some()
    }
}

/// The claim on a box's name: as long as it is held, no other process runs that box.
pub(crate) struct Claim {
    lock: File,
    callers: Callers,
    left: Left,
}

/// What a box has on the host's file systems while it runs, and a killed one leaves there.
struct Left {
    dirs: Dirs,
    name: BoxName,
    group: String,
    socket: PathBuf,
    scratch: PathBuf,
    display: PathBuf,
}

impl Left {
    fn of(dirs: &Dirs, name: &BoxName) -> Result<Self, CliError> {
        let display = dirs.display(name)?;
        let socket = dirs.boxes()?.join(format!("{name}.sock"));
        Ok(Self { dirs: dirs.clone(), name: name.clone(), group: dirs.group(name)?, socket, scratch: dirs.scratch(name)?, display })
    }

    /// Removes it; to be called with the lock held. The socket goes last: while it is there, [`sweep`] finds the rest. The
    /// processes of a runtime that was killed may take `patience` to leave their control groups.
    fn remove(&self, patience: Duration) -> Result<(), CliError> {
        let deadline = Instant::now() + patience;
        loop {
            match system::remove_left_cgroups(&self.group) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => std::thread::sleep(PAUSE),
                other => break other.map_err(|source| CliError::System("remove the control groups of an earlier run", source))?,
            }
        }
        Mark::clear(&self.dirs, &self.name)?;
        dirs::remove(&self.scratch)?;
        display::remove(&self.display)?;
        dirs::remove(&self.socket)
    }
}

/// Removes what killed runs have left. What cannot be removed yet, the next call removes.
pub(crate) fn sweep(dirs: &Dirs) -> Result<(), CliError> {
    for name in names(dirs)? {
        if let Ok(_lock) = lock(dirs, &name, Duration::ZERO) {
            Left::of(dirs, &name)?.remove(Duration::ZERO).ok();
        }
    }
    Ok(())
}

/// The boxes that run, or were killed.
pub(crate) fn names(dirs: &Dirs) -> Result<Vec<BoxName>, CliError> {
    let path = dirs.boxes_if_made();
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|source| CliError::Path { path, source })?,
    };
    let names = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|file| BoxName::new(file.strip_suffix(".sock")?).ok()).collect())
}

/// The claim on a name without a box.
pub(crate) fn hold(dirs: &Dirs, name: &BoxName) -> Result<File, CliError> {
    lock_in(dirs, name)
}

/// Another call may hold the lock for a moment, to sweep; and a runtime whose launcher was killed, until it has ended.
fn lock_in(dirs: &Dirs, name: &BoxName) -> Result<File, CliError> {
    match lock(dirs, name, SWEEP) {
        Err(CliError::Running(_)) if connect(dirs, name)?.is_none() => lock(dirs, name, ENDING).map_err(|error| match error {
            CliError::Running(name) => CliError::Ending(name),
            other => other,
        }),
        other => other,
    }
}

fn lock(dirs: &Dirs, name: &BoxName, patience: Duration) -> Result<File, CliError> {
    let path = dirs.boxes()?.join(format!("{name}.lock"));
    let failed = |source| CliError::Path { path: path.clone(), source };
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    let deadline = Instant::now() + patience;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(CliError::Running(name.clone())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

impl Claim {
    /// Claims `name`, and removes what a killed run of it has left.
    pub(crate) fn take(dirs: &Dirs, name: &BoxName) -> Result<Self, CliError> {
        let lock = lock_in(dirs, name)?;
        let left = Left::of(dirs, name)?;
        left.remove(GONE)?;
        let failed = |source| CliError::Path { path: left.socket.clone(), source };
        let callers = local::bind(&left.socket).and_then(Callers::new).map_err(failed)?;
        dirs::make(left.scratch.clone())?;
        Ok(Self { lock, callers, left })
    }

    /// Notes that the box has something in an engine, before anything is made there.
    pub(crate) fn mark(&self, contact: &Contact, claim: &str) -> Result<(), CliError> {
        Mark::set(&self.left.dirs, &self.left.name, contact, claim)
    }

    /// Where everything lies that [`Claim::release`] removes, but for control groups.
    pub(crate) fn directory(&self) -> &Path {
        self.left.socket.parent().unwrap_or(&self.left.socket)
    }

    /// What is locked as long as the box has a process.
    pub(crate) const fn lock(&self) -> &File {
        &self.lock
    }

    /// Those who ask something of the box.
    pub(crate) const fn callers(&self) -> &Callers {
        &self.callers
    }

    /// Answers everyone who waits, and returns what they want of the box. A caller that goes away is no error.
    pub(crate) fn answer(&self, state: &State) -> Vec<Wish> {
        let waiting = std::iter::from_fn(|| self.callers.next());
        waiting.filter_map(|stream| answer_one(stream, state).ok().flatten()).collect()
    }

    /// Gives the name up and removes what belongs to it.
    pub(crate) fn release(self) -> Result<(), CliError> {
        self.left.remove(GONE)
    }
}

/// What a caller wants of a running box.
pub(crate) enum Wish {
    /// That it ends.
    Stop,
    /// A new identity. The caller awaits [`DONE`] or what went wrong, in one line.
    NewIdentity(Stream),
    /// That the browser opens an address, or a window where there is none. The caller awaits the same.
    Open(Stream, Option<Address>),
    /// What the browser copied. The caller awaits it, in lines of hexadecimal digits, and then [`DONE`], or what went wrong, in one line.
    Copy(Stream),
    /// Every attempt to get out, made beside the browser. The caller awaits what came of each, a line each, and then [`DONE`].
    Audit(Stream),
}

/// Asks for [`State::browser_process`]: an empty line where there is none.
pub(crate) const BROWSER: &str = "browser";
/// The answer to what was done.
pub(crate) const DONE: &str = "done";

fn answer_one(mut stream: Stream, state: &State) -> io::Result<Option<Wish>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match read_line(&stream)?.as_str() {
        "stop" => stream.write_all(b"stopping\n").map(|()| Some(Wish::Stop)),
        line if let Some(plan::Wish(address)) = plan::Wish::parse(line) => Ok(Some(Wish::Open(stream, address))),
        BROWSER => writeln!(stream, "{}", state.browser_process.map(|id| id.to_string()).unwrap_or_default()).map(|()| None),
        "new-identity" => Ok(Some(Wish::NewIdentity(stream))),
        "audit" => Ok(Some(Wish::Audit(stream))),
        "copy" => Ok(Some(Wish::Copy(stream))),
        "status" => {
            serde_json::to_writer(&mut stream, state)?;
            stream.write_all(b"\n").map(|()| None)
        }
        _ => stream.write_all(b"unknown\n").map(|()| None),
    }
}

fn read_line(stream: &Stream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Asks box `name`; `None` if it does not run.
pub(crate) fn ask(dirs: &Dirs, name: &BoxName, word: &str) -> Result<Option<String>, CliError> {
    let talk = |mut stream: Stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{word}\n").as_bytes())?;
        read_line(&stream)
    };
    connect(dirs, name)?.map(talk).transpose().map_err(|_| CliError::NoAnswer)
}

/// What came of an audit of box `name`, a line for each attempt; `None` if it does not run.
pub(crate) fn audit(dirs: &Dirs, name: &BoxName) -> Result<Option<Vec<String>>, CliError> {
    let lines = ask_lines(dirs, name, "audit", AUDIT_PATIENCE, MAX_AUDIT)?;
    // Without its last line it is not whole.
    let whole = |mut lines: Vec<String>| if lines.pop().as_deref() == Some(DONE) { Ok(lines) } else { Err(CliError::NoAnswer) };
    lines.map(whole).transpose()
}

/// What the browser of box `name` copied; `None` if it does not run.
pub(crate) fn copied(dirs: &Dirs, name: &BoxName) -> Result<Option<Vec<u8>>, CliError> {
    let Some(mut lines) = ask_lines(dirs, name, "copy", PATIENCE, MAX_COPIED)? else { return Ok(None) };
    match lines.pop() {
        Some(last) if last == DONE => {
            let parts = lines.iter().map(|line| Handed::bytes(line)).collect::<Option<Vec<_>>>();
            parts.map(|parts| Some(parts.concat())).ok_or(CliError::NoAnswer)
        }
        Some(reason) if lines.is_empty() => Err(CliError::NotCopied(reason)),
        _ => Err(CliError::NoAnswer),
    }
}

/// Asks box `name` what it answers with any number of lines, in at most `most` bytes and with no more than `patience` between them; `None` if it does not run.
fn ask_lines(dirs: &Dirs, name: &BoxName, word: &str, patience: Duration, most: u64) -> Result<Option<Vec<String>>, CliError> {
    let talk = |mut stream: Stream| {
        stream.set_read_timeout(Some(patience))?;
        writeln!(stream, "{word}")?;
        BufReader::new(stream.take(most)).lines().collect::<io::Result<Vec<_>>>()
    };
    connect(dirs, name)?.map(talk).transpose().map_err(|_| CliError::NoAnswer)
}

/// The socket of box `name`; `None` if it does not run.
fn connect(dirs: &Dirs, name: &BoxName) -> Result<Option<Stream>, CliError> {
    let path = dirs.boxes()?.join(format!("{name}.sock"));
    match local::connect(&path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => Ok(None),
        Err(source) => Err(CliError::Path { path, source }),
    }
}
