//! `make demo`: builds the images, starts a private Tor network, opens its pages in the caged browser as root and as an
//! unprivileged user, saves screenshots, and tears everything down.
//!
//! It sends nothing outside the network namespaces that it makes, but for fetching signed packages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use torbox_tests::boxed::{Installed, RunningBox, Who, kept_dir};
use torbox_tests::display::{Xvfb, read_text};
use torbox_tests::testnet::web::PAGE_TEXT;
use torbox_tests::testnet::{Options, TestNet, Via, helper};
use torbox_tests::user::TestUser;
use torbox_tests::wait;

/// How long a page may take, from `torbox run` to its text on the screen.
const PATIENCE: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let kept = kept_dir()?;
    let shots = kept.join("demo");
    std::fs::create_dir_all(&shots)?;
    let temporary = tempfile::Builder::new().prefix("torbox-demo-").tempdir()?;
    say("building the images (kept for the next time)");
    let root = Installed::new(Who::Root, &kept)?;
    root.build_images()?;
    // Guards of the last demonstration's network are of no use in this one.
    root.forget_state()?;
    say("making an unprivileged user, and a private Tor network: 3 authorities, 3 relays, an onion service, a web server");
    let someone = TestUser::create("demo")?;
    let user = Installed::new(Who::User(&someone), someone.home())?;
    let helper = helper()?;
    let net = std::thread::scope(|scope| {
        let net = scope.spawn(|| TestNet::up(&Options { progress: say, ..Options::new(&temporary.path().join("net"), &helper) }));
        let taken = user.take_images(&root);
        let net = net.join().map_err(|_| anyhow::anyhow!("the network's thread panicked"))?;
        taken.and(net)
    })?;
    let saved = std::thread::scope(|scope| {
        let tours = [&user, &root].map(|installed| scope.spawn(|| tour(installed, &net, &shots)));
        let tours = tours.into_iter().map(|tour| tour.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?);
        tours.collect::<Result<Vec<_>>>()
    })?;
    say("done; everything is torn down. The screenshots:");
    saved.iter().flatten().for_each(|shot| println!("{}", shot.display()));
    Ok(())
}

/// Opens both pages, one after the other.
fn tour(installed: &Installed<'_>, net: &TestNet, shots: &Path) -> Result<[PathBuf; 2]> {
    let exit = open(installed, net, Via::Exit, &net.state().named_url, shots)?;
    Ok([exit, open(installed, net, Via::Onion, &net.state().onion_url, shots)?])
}

fn say(what: &str) {
    eprintln!("demo: {what}");
}

/// Opens `url` in a box and returns the screenshot on which its text can be read.
fn open(installed: &Installed<'_>, net: &TestNet, via: Via, url: &str, shots: &Path) -> Result<PathBuf> {
    let who = match installed.who() {
        Who::Root => "root",
        Who::User(_) => "user",
    };
    let way = if via == Via::Exit { "exit" } else { "onion" };
    // The query tells this box's request from the other's.
    let (url, path) = (format!("{url}?{who}"), format!("/?{who}"));
    say(&format!("torbox run {url} as {}", if who == "root" { "root" } else { "an unprivileged user" }));
    let display = Xvfb::start()?;
    let log = net.web_log();
    let mark = log.mark();
    let torrc = installed.copy_torrc(net)?;
    let args = ["run", "--browser", "firefox-esr", "--torrc", &torrc.display().to_string(), &url].map(str::to_owned);
    let deadline = Instant::now() + PATIENCE;
    let running = RunningBox::start(installed.command_on(&display, Some(&net.client()), args)?, &shots.join(format!("{who}-{way}.log")))?;
    let request = log.wait_for(mark, deadline, |request| request.via == via && request.path == path)?;
    let request = request.with_context(|| format!("the page was not asked for; torbox said:\n{}", running.said()))?;
    match net.exit_of(&request) {
        Some(relay) => say(&format!("the web server was asked by {}, the exit relay {relay}", request.peer)),
        None => ensure!(via == Via::Onion, "the request came from {}, which is no exit relay", request.peer),
    }
    let shot = shots.join(format!("{who}-{way}.png"));
    let readable = wait::retry(Duration::from_millis(500), deadline, || shows_page(&display, &shot).transpose());
    readable.context("the page did not appear on the screen")??;
    running.interrupt()?;
    Ok(shot)
}

fn shows_page(display: &Xvfb, shot: &Path) -> Result<Option<()>> {
    display.screenshot(shot)?;
    Ok(read_text(shot)?.contains(PAGE_TEXT).then_some(()))
}
