//! What torbox's displays cost a page that scrolls: the frames that the page draws, and the display's own processor time, beside
//! the same browser on the bare socket of the same server, in turn. No box is around either.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use torbox_tests::display::{FIREFOX_SETTINGS, Filtered, Sway, Xvfb};
use torbox_tests::process::ProcessId;
use torbox_tests::testnet::daemon::{self, Lifetime};
use torbox_tests::testnet::{Namespace, Via, WebLog, config, helper};
use torbox_tests::user::TestUser;
use torbox_tests::{lock, require};

use super::{PATIENCE, median};

/// Each way is taken so often.
const ROUNDS: usize = 3;
/// For how long the page counts, in seconds, and how long it scrolls before.
const COUNTED: f64 = 10.0;
/// A second, in the units of `/proc/PID/stat` (sysconf(3), `_SC_CLK_TCK`).
const TICKS: f64 = 100.0;

/// Frames a second, and the part of one processor that the display took.
type Sample = (f64, Option<f64>);

/// Measures and prints.
pub(super) fn measure(user: &TestUser, place: &Namespace) -> Result<()> {
    if require::program("firefox-esr").is_none() {
        super::skip("firefox-esr");
        return Ok(());
    }
    let _alone = lock::heavy()?;
    let work = tempfile::Builder::new().prefix("torbox-bench-").tempdir()?;
    let log = work.path().join("web.jsonl");
    fs::write(&log, "")?;
    place.add_local(config::WEB)?;
    let mut web = place.command(helper()?);
    web.arg("serve-web").arg("--log").arg(&log);
    let mut web = daemon::start_helper(web, &work.path().join("web.out"), Lifetime::Owned)?;
    let measured = all(user, place, work.path(), &WebLog::at(log));
    daemon::stop(&mut web);
    let samples = measured?;
    println!("\n| {ROUNDS} rounds in turn, medians | frames a second | the display's part of a processor |\n|---|---|---|");
    for (name, samples) in samples {
        let (frames, own): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        let own: Vec<_> = own.into_iter().flatten().collect();
        let own = if own.is_empty() { "none".to_owned() } else { format!("{:.1} %", 100.0 * median(own)) };
        println!("| {name} | {:.1} | {own} |", median(frames));
    }
    Ok(())
}

fn all(user: &TestUser, place: &Namespace, work: &Path, log: &WebLog) -> Result<Vec<(&'static str, Vec<Sample>)>> {
    let sway = Sway::current(user)?;
    let mut samples = vec![("sway's own socket", Vec::new()), ("through the filter", Vec::new()), ("Xvfb's own socket", Vec::new()), ("x11-nested", Vec::new())];
    for round in 0..ROUNDS {
        for (number, (name, samples)) in samples.iter_mut().enumerate() {
            let xvfb = Xvfb::start()?;
            let display = match number {
                1 => Some(Filtered::start(&sway.socket())?),
                3 => Some(Filtered::nested(&xvfb)?),
                _ => None,
            };
            let mut command = place.command("firefox-esr");
            let profile = work.join(format!("{round}-{number}"));
            fs::create_dir_all(&profile)?;
            fs::write(profile.join("user.js"), FIREFOX_SETTINGS)?;
            command.args(["--no-remote", "--kiosk", "--profile"]).arg(&profile).arg(format!("http://{}/scroll", config::WEB));
            command.env("HOME", &profile).env("TMPDIR", &profile).env("XDG_RUNTIME_DIR", &profile).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
            match &display {
                Some(display) => command.env("WAYLAND_DISPLAY", display.socket()).env("MOZ_ENABLE_WAYLAND", "1"),
                None if number == 0 => command.env("WAYLAND_DISPLAY", sway.socket()).env("MOZ_ENABLE_WAYLAND", "1"),
                None => command.env("DISPLAY", xvfb.display()).env("XAUTHORITY", xvfb.auth_file()),
            };
            let sample = scroll(command, log, display.as_ref().map(Filtered::process)).with_context(|| format!("{name}, round {round}"))?;
            eprintln!("bench: round {round} {name}: {:.1} frames a second", sample.0);
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn scroll(mut command: Command, log: &WebLog, display: Option<ProcessId>) -> Result<Sample> {
    let mark = log.mark();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut browser = command.spawn().context("cannot start the browser")?;
    let sample = counted(log, mark, display);
    daemon::stop(&mut browser);
    sample
}

fn counted(log: &WebLog, mark: torbox_tests::testnet::Mark, display: Option<ProcessId>) -> Result<Sample> {
    let deadline = Instant::now() + PATIENCE;
    let asked = |path: &str| log.wait_for(mark, deadline, |request| request.via == Via::Exit && request.path.starts_with(path));
    asked("/scroll")?.context("the page was not asked for")?;
    let (begun, before) = (Instant::now(), display.map(used).transpose()?);
    let told = asked("/felt/frames-")?.context("the page did not say how many frames there were")?;
    let (took, after) = (begun.elapsed(), display.map(used).transpose()?);
    let frames: f64 = told.path.rsplit('-').next().unwrap_or_default().parse()?;
    Ok((frames / COUNTED, before.zip(after).map(|(before, after)| (after - before) / took.as_secs_f64())))
}

/// Processor time that a process has used, in seconds (proc_pid_stat(5)).
fn used(process: ProcessId) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.0))?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).context("cannot read its processor time");
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}
