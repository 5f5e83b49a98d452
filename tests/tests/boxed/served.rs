//! A box where there is no display server (`--display served`): its page in a real browser of the user's, what hands can do there, and
//! who does not get in.

use std::path::Path;
use std::process::Child;

use torbox_tests::boxed::{RunningBox, readable};
use torbox_tests::display::{Xvfb, kiosk};
use torbox_tests::engine::{Engine, Kind};
use torbox_tests::testnet::daemon::stop;
use torbox_tests::testnet::{Namespace, Via};

use crate::engines;
use crate::ground::{Stage, soon};
use crate::nested::{Hands, shown};
use crate::page::{Awaited, content_sandbox_is_on};

/// Where the page has its button to take out what was copied: without a window manager a kiosk has nine tenths of the screen.
const OUT: (i16, i16) = (1072, 695);

/// The user's ordinary browser.
struct Ordinary(Child);

impl Ordinary {
    /// Its window fills the screen, so that a place of the page is a place of the screen.
    fn start(display: &Xvfb, place: &Namespace, home: &Path, url: &str) -> Self {
        let mut command = kiosk(place.command("firefox-esr"), &home.join("profile"), url).unwrap();
        Self(command.env("DISPLAY", display.display()).env("XAUTHORITY", display.auth_file()).spawn().unwrap())
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}

pub(crate) fn in_a_browser(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let url = format!("{}hands", stage.ground.net.state().named_url);
    let page = Awaited::new(stage);
    let mut command = stage.run_command_bare("served", &url);
    command.args(["--display", "served"]);
    let running = stage.start(command, "served");
    // The box runs whether it is looked at or not.
    page.request_of(Via::Exit, "/hands", &running);
    let address = address(&running);
    let (place, secret) = address.split_once('#').unwrap();
    let client = stage.ground.net.client();
    let ordinary = Ordinary::start(&display, &client, stage.out.path(), &address);
    let hands = Hands::new(stage, &display, &running);
    hands.try_everything();
    hands.copy_out("no such page", || hands.press_at(OUT));
    hands.print_out("served", "no such page");
    content_sandbox_is_on(&running);
    // Any user of the machine, and any page, can connect, and does not know the secret; who knows it is let in, and shows the box then.
    assert_eq!(screen(&client, place, &"0".repeat(secret.len())), "403");
    shown(stage, &display, "no such page", &running);
    assert_eq!(screen(&client, place, secret), "101");
    shown_after(stage, &display, "another page shows it now");
    drop(ordinary);
    let _ordinary = Ordinary::start(&display, &client, stage.out.path(), &address);
    shown(stage, &display, "no such page", &running);
    assert_eq!(running.interrupt().unwrap(), Some(0));
    shown_after(stage, &display, "The box has ended");
}

pub(crate) fn in_podman(stage: &Stage<'_>) {
    in_an_engine(stage, Kind::Podman);
}

pub(crate) fn in_docker(stage: &Stage<'_>) {
    in_an_engine(stage, Kind::Docker);
}

/// The same in an engine of this machine.
fn in_an_engine(stage: &Stage<'_>, kind: Kind) {
    let display = Xvfb::start().unwrap();
    engines::with(stage, kind, |engine| {
        let mut command = engines::through(stage.run_command_bare("served", &stage.ground.net.state().named_url), engine);
        command.args(["--display", "served", "--wait"]);
        let page = Awaited::new(stage);
        let running = stage.start(command, "served");
        page.request(Via::Exit, &running);
        let _ordinary = Ordinary::start(&display, &stage.ground.net.client(), stage.out.path(), &address(&running));
        page.text(|shot| display.screenshot(shot), &running);
        Hands::new(stage, &display, &running).print_out("served", torbox_tests::testnet::web::PAGE_TEXT);
        assert_eq!(running.interrupt_within(engines::GONE).unwrap(), Some(0));
        engines::assert_nothing_left(engine, "after Ctrl-C");
    });
}

/// The box of `words` in an engine of another machine, with which torbox and the user's browser share no network.
pub(crate) fn from_elsewhere(stage: &Stage<'_>, engine: &Engine, words: &[String]) {
    let display = Xvfb::start().unwrap();
    let apart = Apart(Namespace::named("tbx-apart"));
    apart.0.remove().unwrap();
    apart.0.create().unwrap();
    let url = format!("{}hands", stage.ground.net.state().named_url);
    let command = engines::through(stage.installed.command(Some(&apart.0), words.iter().chain([&url])), engine);
    let page = Awaited::new(stage);
    let running = stage.start(command, "far");
    page.request_of(Via::Exit, "/hands", &running);
    let ordinary = Ordinary::start(&display, &apart.0, stage.out.path(), &address(&running));
    Hands::new(stage, &display, &running).try_everything();
    assert_eq!(running.interrupt_within(engines::GONE).unwrap(), Some(0));
    shown_after(stage, &display, "The box has ended");
    engines::assert_nothing_left(engine, "after Ctrl-C");
    drop(ordinary);
}

/// A network with nothing but its loopback.
struct Apart(Namespace);

impl Drop for Apart {
    fn drop(&mut self) {
        self.0.remove().unwrap();
    }
}

/// What the page's server answers to who asks for the screen with this secret, as the page itself would.
fn screen(client: &Namespace, place: &str, secret: &str) -> String {
    let mut curl = client.command("curl");
    curl.args(["--silent", "--max-time", "3", "--output", "/dev/null", "--write-out", "%{http_code}", "--header", "Upgrade: websocket"]);
    curl.args(["--header", "Sec-WebSocket-Key: a2V5", "--header", &format!("Origin: {}", place.trim_end_matches('/'))]).arg(format!("{place}screen/{secret}"));
    String::from_utf8(curl.output().unwrap().stdout).unwrap()
}

/// The same as [`shown`] of a page whose box is not there for it.
fn shown_after(stage: &Stage<'_>, display: &Xvfb, text: &str) {
    let seen = readable(|shot| display.screenshot(shot), text, &stage.out.path().join("after.png"), soon(20)).unwrap();
    seen.unwrap_or_else(|seen| panic!("the page shows\n{seen}\ninstead of {text:?}"));
}

/// Where torbox says that the page is.
fn address(running: &RunningBox) -> String {
    let said = running.said();
    let address = said.lines().find_map(|line| line.strip_prefix("torbox: the box is shown at "));
    address.unwrap_or_else(|| panic!("no address in\n{said}")).to_owned()
}
