//! What torbox's displays cost: the frames that a page draws which scrolls, the display's own processor time, and how long after a button the page's
//! colour changes on the screen, beside the same browser on the bare socket of the same server, in turn. No box is around either.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use torbox_tests::display::{Filtered, Reaction, SIZE, Sway, Xvfb, kiosk};
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

/// How often a button is pressed in each round, and between which two times at most, in milliseconds: at every moment between two frames.
const PRESSES: u64 = 100;
const BETWEEN: u64 = 60;
/// How long a press may take to be seen.
const SEEN: Duration = Duration::from_secs(3);

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
    let log = WebLog::at(log);
    let measured = all(user, place, work.path(), &log).and_then(|frames| Ok((frames, reactions(user, place, work.path(), &log)?)));
    daemon::stop(&mut web);
    let (samples, reactions) = measured?;
    println!("\n| {ROUNDS} rounds in turn, medians | frames a second | the display's part of a processor |\n|---|---|---|");
    for (name, samples) in samples {
        let (frames, own): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        let own: Vec<_> = own.into_iter().flatten().collect();
        let own = if own.is_empty() { "none".to_owned() } else { format!("{:.1} %", 100.0 * median(own)) };
        println!("| {name} | {:.1} | {own} |", median(frames));
    }
    println!("\n| {ROUNDS} rounds in turn of {PRESSES} presses | from a button to the screen, mean ms | standard error |\n|---|---|---|");
    for (name, samples) in reactions {
        let (mean, error) = mean(&samples);
        println!("| {name} | {mean:.2} | {error:.2} |");
    }
    Ok(())
}

/// The mean, and its standard error.
fn mean(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let variance = samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
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
            let mut command = browser(place, &work.join(format!("{round}-{number}")), "scroll")?;
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

/// The browser on the page of that name.
fn browser(place: &Namespace, profile: &Path, page: &str) -> Result<Command> {
    kiosk(place.command("firefox-esr"), profile, &format!("http://{}/{page}", config::WEB))
}

/// Milliseconds from each press to the screen.
fn reactions(user: &TestUser, place: &Namespace, work: &Path, log: &WebLog) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let mut samples = vec![("sway's own socket", Vec::new()), ("through the filter", Vec::new()), ("Xvfb's own socket", Vec::new()), ("x11-nested", Vec::new())];
    for round in 0..ROUNDS {
        for (number, (name, samples)) in samples.iter_mut().enumerate() {
            let xvfb = Xvfb::start()?;
            let sway = if number < 2 { Some(Sway::current_in_a_window(user, &xvfb, "us")?) } else { None };
            let display = match (number, &sway) {
                (1, Some(sway)) => Some(Filtered::start(&sway.socket())?),
                (3, _) => Some(Filtered::nested(&xvfb)?),
                _ => None,
            };
            let mut command = browser(place, &work.join(format!("press-{round}-{number}")), "press")?;
            match (&display, &sway) {
                (Some(display), _) => command.env("WAYLAND_DISPLAY", display.socket()).env("MOZ_ENABLE_WAYLAND", "1"),
                (None, Some(sway)) => command.env("WAYLAND_DISPLAY", sway.socket()).env("MOZ_ENABLE_WAYLAND", "1"),
                (None, None) => command.env("DISPLAY", xvfb.display()).env("XAUTHORITY", xvfb.auth_file()),
            };
            let mark = log.mark();
            let mut browser = command.spawn().context("cannot start the browser")?;
            let told = log.wait_for(mark, Instant::now() + PATIENCE, |request| request.path == "/felt/pressable");
            let pressed = told.and_then(|told| told.context("the page did not say that it is there")).and_then(|_| press(&xvfb));
            daemon::stop(&mut browser);
            let pressed = pressed.with_context(|| format!("{name}, round {round}"))?;
            eprintln!("bench: round {round} {name}: {:.2} ms from a button to the screen", mean(&pressed).0);
            samples.extend(pressed);
        }
    }
    Ok(samples)
}

fn press(server: &Xvfb) -> Result<Vec<f64>> {
    let reaction = Reaction::of(server)?;
    let (x, y) = (i16::try_from(SIZE.0 / 2)?, i16::try_from(SIZE.1 / 2)?);
    let press = |number: u64| -> Result<f64> {
        // At another moment between two frames each time.
        std::thread::sleep(Duration::from_millis(BETWEEN / 2 + number * 7 % (BETWEEN / 2)));
        let took = reaction.to_button(x, y, Instant::now() + SEEN)?.with_context(|| format!("press {number} was not seen"))?;
        Ok(took.as_secs_f64() * 1000.0)
    };
    // The first ones find the window, and a browser that is busy with its start.
    (0..10).for_each(|number| drop(press(number)));
    (0..PRESSES).map(press).collect()
}

fn scroll(mut command: Command, log: &WebLog, display: Option<ProcessId>) -> Result<Sample> {
    let mark = log.mark();
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
