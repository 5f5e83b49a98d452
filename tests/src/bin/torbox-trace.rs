//! `make trace`: which system calls the programs of a box make, and which of them their profiles lack or nobody makes.
//!
//! A browser uses itself for some minutes in a box on the private Tor network, on X11 and on Wayland: pages with sound, pictures and
//! graphics, downloads, printing, settings, an extension, tabs, a crash (`tests/www/session.cfg`). Every call of every process is recorded by
//! strace(1), the refused ones as well. The report goes to standard output, the records to `out/trace`; of records that are named it
//! makes the report alone.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use torbox_tests::boxed::{Installed, RunningBox, Who, kept_dir};
use torbox_tests::display::{Weston, Xvfb};
use torbox_tests::process::{self, ProcessId};
use torbox_tests::standin::Disguise;
use torbox_tests::testnet::{Options, TestNet, helper};
use torbox_tests::trace::{Report, STRACE};
use torbox_tests::{lock, wait};

const SESSION: &str = include_str!("../../www/session.cfg");
const HEAD: &str = "# What a browsing session calls
`make trace` writes this file: what the programs of a box called while a browser used itself (`tests/www/session.cfg`), on X11 and on Wayland, recorded by strace(1). A new
release of the browser is reviewed as the difference to it. A refused call has its reason, or the profile lacks it and `make trace` fails. What was not called is not
superfluous for that: another kernel, C library or use may need it.
";
/// What the browser says at the end.
const LAST: &str = "session: everything was tried";
/// How long a session may take; a recorded browser is slow.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trace: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let named: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let records = if named.is_empty() { record()? } else { named };
    let records = records.iter().map(|record| fs::read_to_string(record).with_context(|| record.display().to_string()));
    let report = Report::read(&records.collect::<Result<String>>()?)?;
    print!("{HEAD}{report}");
    ensure!(report.lacking().is_empty(), "profiles lack {:?}", report.lacking());
    Ok(())
}

/// The records of a session on each kind of display.
fn record() -> Result<Vec<PathBuf>> {
    let _alone = lock::heavy()?;
    let torbox = Installed::new(Who::Root, &kept_dir()?)?;
    torbox.build_images()?;
    torbox.forget_state()?;
    let work = tempfile::Builder::new().prefix("torbox-trace-").tempdir()?;
    let helper = helper()?;
    let net = TestNet::up(&Options::new(&work.path().join("net"), &helper))?;
    // A box unpacks the image in which the configuration is then replaced.
    process::output(&mut torbox.command(Some(&net.client()), ["probe", "--browser", "firefox-esr", "--display", "none"]))?;
    let _disguise = Disguise::put(&torbox, SESSION)?;
    let xvfb = Xvfb::start()?;
    let weston = Weston::start(None)?;
    let mut on_wayland = torbox.command(Some(&net.client()), ["run"]);
    on_wayland.env("WAYLAND_DISPLAY", weston.socket());
    let on_x11 = torbox.command_on(&xvfb, Some(&net.client()), ["run"])?;
    let records = kept_dir()?.join("trace");
    fs::create_dir_all(&records)?;
    [("x11", on_x11), ("wayland", on_wayland)].into_iter().map(|(name, command)| recorded(&torbox, &net, command, records.join(name)).with_context(|| name.to_owned())).collect()
}

/// Records a session in a box that `command` runs, into `file`.
fn recorded(torbox: &Installed<'_>, net: &TestNet, mut command: Command, file: PathBuf) -> Result<PathBuf> {
    command.args(["--verbose", "--browser", "firefox-esr", "--torrc"]).arg(torbox.copy_torrc(net)?).arg(&net.state().named_url);
    let mut traced = Command::new("strace");
    traced.args(STRACE).arg(&file).arg(command.get_program()).args(command.get_args());
    traced.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running = RunningBox::start(traced, &file.with_extension("log"))?;
    let ended = running.ended(Instant::now() + PATIENCE);
    let said = running.said();
    said.lines().filter_map(|line| line.split_once("session: ")).for_each(|(_, step)| eprintln!("{step}"));
    if ended.is_err() {
        process::end(&process::descendants(ProcessId(running.child.id()))?, Duration::from_secs(5))?;
    }
    ended?;
    ensure!(said.contains(LAST), "the session did not end; torbox said:\n{said}");
    // The tracer ends after what it traced, and with that its file.
    let tracer = format!("-o {}", file.display());
    let ended = || process::all().is_ok_and(|all| !all.iter().any(|process| process.command_line().contains(&tracer))).then_some(());
    wait::retry(Duration::from_millis(50), Instant::now() + Duration::from_secs(30), ended).context("strace does not end")?;
    Ok(file)
}
