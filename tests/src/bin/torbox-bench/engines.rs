//! The same box natively, through Docker and through Podman, beside one plain container of each, all as root and in turn: from the
//! start of the command until the browser's process runs, and the memory of every process that was added to it.
//!
//! The engines are the bench's own. Their daemons run before and are not counted.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use torbox_tests::boxed::Installed;
use torbox_tests::display::Xvfb;
use torbox_tests::engine::{Engine, Kind};
use torbox_tests::testnet::Namespace;
use torbox_tests::user::TestUser;
use torbox_tests::{lock, process, require, wait};

use super::{BROWSER, PATIENCE, RUNS, end, median, pss};

/// How long a browser runs before memory is looked at: processes that an engine needed for the start alone are then gone.
const SETTLED: Duration = Duration::from_secs(2);
const IMAGE: &str = "localhost/torbox/firefox-esr:latest";

/// A way to start the browser.
enum Way<'a> {
    Native,
    Through(&'a Engine),
    Plain(&'a Engine),
}

/// Milliseconds to the browser's process, and MiB added to it.
type Sample = (f64, f64);

struct Bench<'a> {
    installed: &'a Installed<'a>,
    place: &'a Namespace,
}

/// Measures and prints.
pub(super) fn measure(installed: &Installed<'_>, user: &TestUser, place: &Namespace) -> Result<()> {
    // Nobody else's browser may be taken for this one's.
    let _alone = lock::heavy()?;
    // tor's container must be seen to share a network: one with nothing but loopback could be its own. Nothing can be sent on these.
    process::output(place.command("ip").args(["link", "add", "tbx-one", "type", "veth", "peer", "name", "tbx-other"]))?;
    let mut engines = Vec::new();
    for (kind, program) in [(Kind::Docker, "dockerd"), (Kind::Podman, "podman")] {
        if require::program(program).is_some() || super::skip(program) {
            engines.push(Engine::start(kind, place, user)?);
        }
    }
    let through = engines.iter().map(|engine| (format!("torbox run --backend {}", engine.kind().backend()), Way::Through(engine)));
    let plain = engines.iter().map(|engine| (format!("{} run", engine.kind().backend()), Way::Plain(engine)));
    let ways: Vec<_> = std::iter::once(("torbox run".to_owned(), Way::Native)).chain(through).chain(plain).collect();
    let bench = Bench { installed, place };
    let mut samples: Vec<Vec<Sample>> = ways.iter().map(|_| Vec::new()).collect();
    for run in 0..=RUNS {
        for ((name, way), samples) in ways.iter().zip(&mut samples) {
            let sample = bench.launch(way).with_context(|| format!("{name}, run {run}"))?;
            eprintln!("bench: run {run} {name}: {:.0} ms", sample.0);
            // The first round loads the images and warms the caches.
            if run > 0 {
                samples.push(sample);
            }
        }
    }
    println!("\n| {RUNS} runs each as root, in turn, medians | browser's process after ms | memory added, PSS MiB |\n|---|---|---|");
    for ((name, _), samples) in ways.iter().zip(samples) {
        let (times, memory): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        println!("| {name} | {:.0} | {:.1} |", median(times), median(memory));
    }
    Ok(())
}

impl Bench<'_> {
    fn launch(&self, way: &Way<'_>) -> Result<Sample> {
        let display = Xvfb::start()?;
        let log = self.installed.dir().join("bench.log");
        let mut command = self.command(way, &display)?;
        let out = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let before = process::all()?;
        let begun = Instant::now();
        let mut child = command.spawn().context("cannot start it")?;
        let new = || process::all().map(|all| all.into_iter().filter(|process| !before.contains(process)).map(|process| (process.0, process.command_line())).collect::<Vec<_>>());
        let started = wait::retry(Duration::from_millis(2), begun + PATIENCE, || new().ok()?.iter().any(|(_, line)| line.starts_with(BROWSER)).then(|| begun.elapsed()));
        std::thread::sleep(SETTLED);
        let added: u64 = new()?.iter().filter(|(_, line)| was_added(line)).map(|(pid, _)| pss(*pid)).sum();
        end(&mut child);
        let started = started.with_context(|| format!("no browser was started; it said:\n{}", wait::text_so_far(&log)))?;
        Ok((started.as_secs_f64() * 1000.0, added as f64 / 1024.0))
    }

    fn command(&self, way: &Way<'_>, display: &Xvfb) -> Result<Command> {
        let engine = match way {
            Way::Plain(engine) => return self.plain(engine),
            Way::Native => Vec::new(),
            Way::Through(engine) => vec!["--backend".to_owned(), engine.kind().backend().to_owned(), "--engine".to_owned(), engine.url()],
        };
        let words = ["run", "--browser", "firefox-esr", "about:blank"].map(str::to_owned);
        self.installed.command_on(display, Some(self.place), words.into_iter().chain(engine))
    }

    /// Nothing but no network: without a display, because the browser itself is not what is measured.
    fn plain(&self, engine: &Engine) -> Result<Command> {
        let mut command = match engine.kind() {
            Kind::Docker | Kind::RootlessDocker => engine.client(self.place),
            Kind::Podman | Kind::RootlessPodman => self.place.command(engine.own_program()?),
        };
        command.args(["run", "--rm", "--network", "none", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--tmpfs", "/tmp", "--env", "HOME=/tmp"]);
        command.args(["--entrypoint", BROWSER, IMAGE, "--headless", "--new-instance", "about:blank"]);
        Ok(command)
    }
}

/// Whether a process is torbox's or an engine's: neither tor nor the browser, and none of the machine's other work.
fn was_added(line: &str) -> bool {
    let begins = ["/usr/libexec/torbox/", "/usr/bin/docker ", "/usr/bin/podman "].iter().any(|program| line.starts_with(program));
    begins || ["torbox-engine-", "bin/torbox", "__outer", "__inner", "__engine"].iter().any(|word| line.contains(word))
}
