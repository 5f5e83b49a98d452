//! Pages in the browser, on X11 and on Wayland, one box and two.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use torbox_tests::boxed::{END, Part, RunningBox, readable};
use torbox_tests::display::{Weston, Xvfb};
use torbox_tests::process::ProcessId;
use torbox_tests::testnet::web::PAGE_TEXT;
use torbox_tests::testnet::{Request, Via};
use torbox_tests::wait;

use crate::ground::{Stage, outcome, soon};

/// How long a page may take, from `torbox run` to its text on the screen.
const PATIENCE: u64 = 60;
/// How long everything may take to be gone once `torbox` has ended.
const GONE: Duration = Duration::from_secs(2);

/// A page that is on its way.
struct Awaited<'a> {
    stage: &'a Stage<'a>,
    mark: torbox_tests::testnet::Mark,
    deadline: Instant,
}

impl<'a> Awaited<'a> {
    /// To be made before the box is started.
    fn new(stage: &'a Stage<'a>) -> Self {
        Self { stage, mark: stage.ground.net.web_log().mark(), deadline: soon(PATIENCE) }
    }

    /// The request for it, of which the web server's log tells.
    fn request(&self, via: Via, running: &RunningBox) -> Request {
        let log = self.stage.ground.net.web_log();
        let request = log.wait_for(self.mark, self.deadline, |request| request.via == via && request.path == "/").unwrap();
        request.unwrap_or_else(|| panic!("the page was not asked for; torbox said:\n{}", running.said()))
    }

    /// Its text on the screen, read from a picture.
    fn text(&self, shoot: impl FnMut(&Path) -> anyhow::Result<()>, running: &RunningBox) {
        let shot = self.stage.out.path().join("screen.png");
        let seen = readable(shoot, PAGE_TEXT, &shot, self.deadline).unwrap();
        seen.unwrap_or_else(|text| panic!("the screen shows\n{text}\ntorbox said:\n{}", running.said()));
    }
}

/// The page behind an exit, and all that can be said of the box while it is open.
pub(crate) fn exit_page(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let before = stage.before(&["page"]);
    let page = Awaited::new(stage);
    let mut running = stage.open(&display, "page", &stage.ground.net.state().named_url);
    let request = page.request(Via::Exit, &running);
    assert!(stage.ground.net.exit_of(&request).is_some(), "not from an exit relay: {request:?}");
    page.text(|shot| display.screenshot(shot), &running);
    content_sandbox_is_on(&running);
    status_tells_of_it(stage, &running);
    a_second_run_is_refused(stage, &display);
    before.assert_something("the page is open");
    assert_eq!(stage.call(&["stop", "page"]), (Some(0), String::new(), String::new()));
    assert_eq!(running.ended(Instant::now() + END).unwrap(), Some(0), "{}", running.said());
    before.assert_gone(GONE, "after torbox stop");
}

/// The page of the onion service.
pub(crate) fn onion_page(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let page = Awaited::new(stage);
    let running = stage.open(&display, "onion", &stage.ground.net.state().onion_url);
    let request = page.request(Via::Onion, &running);
    assert_eq!(format!("http://{}/", request.host), stage.ground.net.state().onion_url);
    page.text(|shot| display.screenshot(shot), &running);
    assert_eq!(running.interrupt().unwrap(), Some(0));
}

/// Web content runs behind a second filter and in user and network namespaces of its own. The browser's own process, with the
/// container's filter alone, is the positive control: the numbers differ because of the inner sandbox.
fn content_sandbox_is_on(running: &RunningBox) {
    let browser = running.part(Part::Browser).unwrap();
    assert_eq!(browser.status("Seccomp_filters").as_deref(), Some("1"));
    let content = wait::retry(Duration::from_millis(100), soon(5), || Some(content_processes(running)).filter(|found| !found.is_empty()));
    let content = content.expect("there are content processes");
    let mut networks = BTreeMap::new();
    for process in content {
        let seen = ["Seccomp", "Seccomp_filters", "NoNewPrivs"].map(|key| process.status(key).unwrap());
        assert_eq!(seen, ["2", "2", "1"], "{}", process.command_line());
        for kind in ["user", "net"] {
            assert_ne!(process.namespace(kind).unwrap(), browser.namespace(kind).unwrap(), "{kind}: {}", process.command_line());
        }
        networks.insert(process.namespace("net").unwrap(), process);
    }
    for process in networks.values() {
        assert_eq!(process.interfaces().unwrap(), ["lo"]);
    }
}

/// Processes that show web pages; the last word of their command line says so.
fn content_processes(running: &RunningBox) -> Vec<ProcessId> {
    let shows_pages = |p: &ProcessId| p.command_line().contains(" -contentproc ") && p.command_line().ends_with(" tab");
    running.processes().unwrap().into_iter().filter(shows_pages).collect()
}

fn status_tells_of_it(stage: &Stage<'_>, running: &RunningBox) {
    let connected = || Some(status(stage)).filter(|status| status[0]["bootstrap"] == 100);
    let mut seen = wait::retry(Duration::from_millis(50), soon(5), connected).unwrap_or_else(|| panic!("{}", status(stage)));
    let browser = seen[0]["browser"].take();
    assert!(browser.as_str().is_some_and(|b| b.starts_with("firefox-esr ")), "{browser}");
    let pid = running.child.id();
    let wanted = serde_json::json!([{"name": "page", "pid": pid, "bootstrap": 100, "display": "x11", "browser": null, "anonymous": false}]);
    assert_eq!(seen, wanted);
}

fn status(stage: &Stage<'_>) -> serde_json::Value {
    let (code, out, said) = stage.call(&["status", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str(&out).unwrap()
}

fn a_second_run_is_refused(stage: &Stage<'_>, display: &Xvfb) {
    let (code, out, said) = outcome(&mut stage.run_command(display, "page", "about:blank"));
    assert_eq!((code, out.as_str()), (Some(3), ""), "{said}");
    assert_eq!(said, "torbox: box page is already running\n\nhint: torbox stop page ends it; --name opens another box beside it\n");
}

/// Two boxes of different names; the end of one leaves the other.
pub(crate) fn two_boxes(stage: &Stage<'_>) {
    let displays = [Xvfb::start().unwrap(), Xvfb::start().unwrap()];
    let before = stage.before(&["one", "two"]);
    let url = &stage.ground.net.state().named_url;
    let [mut one, mut two] = [("one", &displays[0]), ("two", &displays[1])].map(|(name, display)| {
        let page = Awaited::new(stage);
        let running = stage.open(display, name, url);
        let request = page.request(Via::Exit, &running);
        assert!(stage.ground.net.exit_of(&request).is_some(), "{name}: {request:?}");
        page.text(|shot| display.screenshot(shot), &running);
        running
    });
    let names = |seen: serde_json::Value| seen.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(status(stage)), ["one", "two"]);
    assert_eq!(stage.call(&["stop", "one"]).0, Some(0));
    assert_eq!(one.ended(Instant::now() + END).unwrap(), Some(0));
    assert_eq!(names(status(stage)), ["two"]);
    assert!(two.part(Part::Browser).is_some() && two.part(Part::Tor).is_some() && two.part(Part::Gate).is_some());
    assert_eq!(stage.call(&["stop", "two"]).0, Some(0));
    assert_eq!(two.ended(Instant::now() + END).unwrap(), Some(0));
    before.assert_gone(GONE, "after both boxes");
}

/// The page on a Wayland compositor of the caller.
pub(crate) fn on_wayland(stage: &Stage<'_>) {
    let weston = Weston::start(Some(&stage.ground.user)).unwrap();
    let before = stage.before(&["wayland"]);
    let page = Awaited::new(stage);
    let mut command = stage.run_command_bare("wayland", &stage.ground.net.state().named_url);
    command.env("WAYLAND_DISPLAY", weston.socket());
    let running = stage.start(command, "wayland");
    let request = page.request(Via::Exit, &running);
    assert!(stage.ground.net.exit_of(&request).is_some(), "{request:?}");
    page.text(|shot| weston.screenshot(shot), &running);
    content_sandbox_is_on(&running);
    assert_eq!(running.interrupt().unwrap(), Some(0));
    before.assert_gone(GONE, "after Ctrl-C");
}
