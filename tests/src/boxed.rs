//! torbox itself as the tests, the demonstration and the benchmark run it: installed below a directory of its own, by root or by
//! an unprivileged user, in the client namespace of a private Tor network.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::display::{Xvfb, read_text};
use crate::process::{self, ProcessId};
use crate::testnet::{Namespace, TestNet};
use crate::user::TestUser;
use crate::wait;

/// Who runs torbox.
#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    /// The caller of the tests.
    Root,
    /// Somebody without any privilege.
    User(&'a TestUser),
}

/// An installation and where it keeps its things.
#[derive(Debug)]
pub struct Installed<'a> {
    who: Who<'a>,
    program: PathBuf,
    dir: PathBuf,
}

/// Where the workspace was built: the directory of the running program, or the one above for a test.
fn release_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("no path to the running program")?;
    let near = own.ancestors().skip(1).take(2).find(|dir| dir.join("torbox").is_file());
    near.map(Path::to_owned).context("torbox is not built: make build")
}

/// One of the programs that go into the images, as it was built.
pub fn static_program(name: &str) -> Result<PathBuf> {
    Ok(release_dir()?.join("../libexec/torbox").join(name))
}

/// The directory in which images are kept between runs of the tests and the demonstration.
pub fn kept_dir() -> Result<PathBuf> {
    let target = release_dir()?;
    Ok(target.parent().and_then(Path::parent).context("no workspace")?.join("out"))
}

impl<'a> Installed<'a> {
    /// Installs torbox for `who` below `base`, which must be a directory that `who` may enter.
    pub fn new(who: Who<'a>, base: &Path) -> Result<Self> {
        let release = release_dir()?;
        let [bin, libexec, dir] = ["bin", "libexec/torbox", "torbox"].map(|name| base.join(name));
        for made in [&bin, &libexec, &dir] {
            fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        let program = bin.join("torbox");
        copy(&release.join("torbox"), &program)?;
        for name in ["init", "gate", "display"] {
            copy(&static_program(name)?, &libexec.join(name))?;
        }
        if let Who::User(user) = who {
            user.give(&dir)?;
        }
        Ok(Self { who, program, dir })
    }

    /// The directory given as `--dir`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The installed program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Who runs it.
    #[must_use]
    pub fn who(&self) -> Who<'a> {
        self.who
    }

    /// `torbox` with `args`, in `place` if given, with an environment built here.
    pub fn command(&self, place: Option<&Namespace>, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = match self.who {
            Who::User(user) => user.command(place, &self.program),
            Who::Root => {
                let mut command = place.map_or_else(|| Command::new(&self.program), |place| place.command(&self.program));
                command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", "/root").process_group(0);
                command
            }
        };
        command.arg("--dir").arg(&self.dir).args(args);
        command
    }

    /// The same on a display.
    pub fn command_on(&self, display: &Xvfb, place: Option<&Namespace>, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Command> {
        let auth = self.dir.join("Xauthority.session");
        let owner = if let Who::User(user) = self.who { Some(user.ids()) } else { None };
        if auth.exists() {
            fs::remove_file(&auth)?;
        }
        display.write_auth(&auth, owner)?;
        let mut command = self.command(place, args);
        command.env("DISPLAY", display.display()).env("XAUTHORITY", auth);
        Ok(command)
    }

    /// The network's configuration for a client, where `who` can read it.
    pub fn copy_torrc(&self, net: &TestNet) -> Result<PathBuf> {
        let torrc = self.dir.join("client.torrc");
        fs::copy(&net.state().client_torrc, &torrc).context("cannot copy the torrc")?;
        fs::set_permissions(&torrc, fs::Permissions::from_mode(0o644))?;
        Ok(torrc)
    }

    /// Copies the images from `kept`, where they were built, so that each is built once.
    pub fn take_images(&self, kept: &Installed<'_>) -> Result<()> {
        let images = self.dir.join("data");
        if self.dir == kept.dir || images.exists() {
            return Ok(());
        }
        process::output(Command::new("cp").arg("-a").arg("--reflink=auto").arg(kept.dir.join("data")).arg(&images))?;
        if let Who::User(user) = self.who {
            let (uid, gid) = user.ids();
            process::output(Command::new("chown").arg("-R").arg(format!("{uid}:{gid}")).arg(&images))?;
        }
        Ok(())
    }

    /// Removes what tor kept of earlier runs.
    pub fn forget_state(&self) -> Result<()> {
        match fs::remove_dir_all(self.dir.join("state")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("cannot remove tor's state"),
            _ => Ok(()),
        }
    }

    /// Builds the tor images and the stand-in's: quick where nothing changed.
    pub fn build_images(&self) -> Result<()> {
        if let Err(error) = process::output(&mut self.command(None, ["images"])) {
            eprintln!("the kept images are of another torbox and are built anew: {error:#}");
            fs::remove_dir_all(self.dir.join("data")).context("cannot remove the kept images")?;
        }
        // Who prints a report does not want it in there.
        let status = self.command(None, ["build", "--browser", "firefox-esr", "--transports"]).stdout(std::io::stderr()).status()?;
        if status.success() { Ok(()) } else { bail!("torbox build failed: {status}") }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_file(to)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}: make build", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o755))?)
}

/// A `torbox run` in the background; dropping it ends the box.
#[derive(Debug)]
pub struct RunningBox {
    /// The process of `torbox run`.
    pub child: Child,
    /// What it says.
    pub log: PathBuf,
}

/// How many lines tell of a failure.
const LAST: usize = 40;
/// How a line of the browser's begins, and how many of them tell of a failure.
const CONSOLE: &str = "torbox: browser:";
const CONSOLE_LAST: usize = 5;
/// How long a box may take to end in order.
pub const END: Duration = Duration::from_secs(5);

impl RunningBox {
    /// Starts `command`, with what it says going to the file `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let out = fs::File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn().context("cannot run torbox")?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// What it has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        wait::text_so_far(&self.log)
    }

    /// The end of it; of the browser's console, which tells much of little, less.
    #[must_use]
    pub fn said_last(&self) -> String {
        let said = self.said();
        let (console, own): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.starts_with(CONSOLE));
        let last = |lines: &[&str], most: usize| lines.get(lines.len().saturating_sub(most)..).unwrap_or_default().join("\n");
        format!("{}\n{}", last(&console, CONSOLE_LAST), last(&own, LAST))
    }

    /// Waits until it has said `text`.
    pub fn wait_until_said(&mut self, text: &str, deadline: Instant) -> Result<()> {
        let log = self.log.clone();
        let found = wait::on_change(&log, deadline, || Ok(self.said().contains(text).then_some(())))?;
        found.with_context(|| format!("torbox did not say {text:?} but:\n{}", self.said()))
    }

    /// Asks it to end as Ctrl-C does and waits: its exit code.
    pub fn interrupt(self) -> Result<Option<i32>> {
        self.interrupt_within(END)
    }

    /// The same with another bound.
    pub fn interrupt_within(mut self, bound: Duration) -> Result<Option<i32>> {
        send(&self.child, interruption()?)?;
        self.ended(Instant::now() + bound)
    }

    /// Waits for its end: its exit code.
    pub fn ended(&mut self, deadline: Instant) -> Result<Option<i32>> {
        let status = wait::retry(Duration::from_millis(10), deadline, || self.child.try_wait().transpose());
        let status = status.with_context(|| format!("torbox did not end; it said:\n{}", self.said()))??;
        Ok(status.code())
    }
}

/// What Ctrl-C sends; SIGTERM where these tests, and so torbox until it watches for signals, ignore that, as what a shell starts with `&` does.
fn interruption() -> Result<Signal> {
    let ignored = ProcessId(std::process::id()).status("SigIgn").context("no SigIgn in proc(5)")?;
    let bit = 1_u64 << (Signal::SIGINT as i32 - 1);
    Ok(if u64::from_str_radix(&ignored, 16)? & bit == 0 { Signal::SIGINT } else { Signal::SIGTERM })
}

/// A process of a running box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The one that waits outside the box's PID namespace.
    Outer,
    /// Process 1 of the box.
    Inner,
    /// Process 1 of tor's container.
    TorInit,
    /// tor.
    Tor,
    /// The gate.
    Gate,
    /// The display.
    Display,
    /// Process 1 of the browser's container.
    Init,
    /// The browser's own process.
    Browser,
}

impl Part {
    /// Whether a process with this command line is it.
    fn is(self, command_line: &str) -> bool {
        let begins = |with: &str| command_line.starts_with(with);
        match self {
            Self::Outer => command_line == "/proc/self/exe __outer",
            Self::Inner => command_line == "/proc/self/exe __inner",
            Self::TorInit => begins("/usr/libexec/torbox/init run --proof uplink -- /usr/bin/tor "),
            Self::Tor => begins("/usr/bin/tor "),
            Self::Gate => begins("/usr/libexec/torbox/gate "),
            Self::Display => begins("/usr/libexec/torbox/display "),
            Self::Init => begins("/usr/libexec/torbox/init run --proof box -- /opt/"),
            Self::Browser => begins("/opt/") && !command_line.contains(" -contentproc "),
        }
    }
}

impl RunningBox {
    /// Every process of the box, as the caller sees them, parents before their children.
    pub fn processes(&self) -> Result<Vec<ProcessId>> {
        process::descendants(ProcessId(self.child.id()))
    }

    /// One of them; `None` as long as it is not there.
    #[must_use]
    pub fn part(&self, part: Part) -> Option<ProcessId> {
        self.processes().ok()?.into_iter().find(|process| part.is(&process.command_line()))
    }

    /// The same, which may be about to start.
    pub fn part_soon(&self, part: Part) -> Result<ProcessId> {
        let found = wait::retry(Duration::from_millis(10), Instant::now() + END, || self.part(part));
        found.with_context(|| format!("no {part:?}; torbox said last:\n{}", self.said_last()))
    }
}

/// Takes pictures with `shoot` into the file `shot` until `text` can be read on one; what could be read last if `deadline` passes.
pub fn readable(mut shoot: impl FnMut(&Path) -> Result<()>, text: &str, shot: &Path, deadline: Instant) -> Result<std::result::Result<(), String>> {
    let mut last = String::new();
    let seen = wait::retry(Duration::from_millis(300), deadline, || match shoot(shot).and_then(|()| read_text(shot)) {
        Ok(read) => {
            last = read;
            last.contains(text).then_some(Ok(()))
        }
        Err(error) => Some(Err(error)),
    });
    Ok(seen.transpose()?.ok_or(last))
}

/// Sends a signal to a child.
pub fn send(child: &Child, signal: Signal) -> Result<()> {
    Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id())?), signal)?)
}

impl Drop for RunningBox {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The runtime ends with it; a failure here would only mean that it is gone already.
            let _gone = self.child.kill();
            let _status = self.child.wait();
        }
    }
}
