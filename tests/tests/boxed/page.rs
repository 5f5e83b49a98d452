//! Pages in the browser, on X11 and on Wayland, one box and two.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use torbox_tests::boxed::{END, Installed, Part, RunningBox, Who, readable};
use torbox_tests::display::client::Client;
use torbox_tests::display::{Desktop, Sway, Weston, Xvfb};
use torbox_tests::process::ProcessId;
use torbox_tests::testnet::web::PAGE_TEXT;
use torbox_tests::testnet::{Request, Via};
use torbox_tests::wait;

use crate::ground::{Stage, outcome, soon};
use crate::nested::Hands;

/// How long a page may take, from `torbox run` to its text on the screen.
const PATIENCE: u64 = 120;
/// When a page that has not come is asked for once more.
const ONCE_MORE: Duration = Duration::from_secs(40);
/// How long everything may take to be gone once `torbox` has ended.
const GONE: Duration = Duration::from_secs(2);

/// A page that is on its way.
pub(crate) struct Awaited<'a> {
    stage: &'a Stage<'a>,
    mark: torbox_tests::testnet::Mark,
    deadline: Instant,
}

impl<'a> Awaited<'a> {
    /// To be made before the box is started.
    pub(crate) fn new(stage: &'a Stage<'a>) -> Self {
        Self { stage, mark: stage.ground.net.web_log().mark(), deadline: soon(PATIENCE) }
    }

    /// The page of the onion service: tor forgets only after two minutes that it did not reach where that is introduced.
    pub(crate) fn of_onion(stage: &'a Stage<'a>) -> Self {
        Self { deadline: soon(2 * PATIENCE), ..Self::new(stage) }
    }

    /// The request for it by box `name`. A rendezvous that fails, as happens in a network of a few relays, is tried again as a user would.
    pub(crate) fn request_of_onion(&self, name: &str, running: &RunningBox) -> Request {
        let log = self.stage.ground.net.web_log();
        while Instant::now() + ONCE_MORE < self.deadline && log.wait_for(self.mark, Instant::now() + ONCE_MORE, |request| request.via == Via::Onion).unwrap().is_none() {
            eprintln!("not asked for yet: once more; torbox said last:\n{}", running.said_last());
            let (code, _, said) = self.stage.call(&["open", "--name", name, &self.stage.ground.net.state().onion_url]);
            assert_eq!(code, Some(0), "{said}; torbox said last:\n{}", running.said_last());
        }
        self.request(Via::Onion, running)
    }

    /// The request for it, of which the web server's log tells.
    pub(crate) fn request(&self, via: Via, running: &RunningBox) -> Request {
        self.request_of(via, "/", running)
    }

    /// The same of another page.
    pub(crate) fn request_of(&self, via: Via, path: &str, running: &RunningBox) -> Request {
        let log = self.stage.ground.net.web_log();
        let request = log.wait_for(self.mark, self.deadline, |request| request.via == via && request.path == path).unwrap();
        request.unwrap_or_else(|| panic!("the page was not asked for; torbox said last:\n{}", running.said_last()))
    }

    /// Its text on the screen, read from a picture.
    pub(crate) fn text(&self, shoot: impl FnMut(&Path) -> anyhow::Result<()>, running: &RunningBox) {
        let shot = self.stage.out.path().join("screen.png");
        let seen = readable(shoot, PAGE_TEXT, &shot, self.deadline).unwrap();
        seen.unwrap_or_else(|text| panic!("the screen shows\n{text}\ntorbox said last:\n{}", running.said_last()));
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
    display_alone_has_the_server(&display, &running);
    status_tells_of_it(stage, &running);
    a_second_start_opens_in_the_box(stage, &display, &running);
    an_audit_beside_it_holds(stage);
    before.assert_something("the page is open");
    assert_eq!(stage.call(&["stop", "page"]), (Some(0), String::new(), String::new()));
    assert_eq!(running.ended(Instant::now() + END).unwrap(), Some(0), "{}", running.said());
    before.assert_gone(GONE, "after torbox stop");
}

/// The server's socket is mounted in the display's container and in no other.
fn display_alone_has_the_server(display: &Xvfb, running: &RunningBox) {
    let name = display.display().replace(':', "/X");
    let has_it = |part| {
        let process = running.part(part).unwrap();
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", process.0)).unwrap();
        assert!(mounts.contains(" /run/torbox"), "{mounts}");
        mounts.split_whitespace().any(|word| word.ends_with(&name))
    };
    assert_eq!([Part::Display, Part::Browser, Part::Gate, Part::Tor].map(has_it), [true, false, false, false]);
}

/// The page of the onion service.
pub(crate) fn onion_page(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let page = Awaited::of_onion(stage);
    let running = stage.open(&display, "onion", &stage.ground.net.state().onion_url);
    let request = page.request_of_onion("onion", &running);
    assert_eq!(format!("http://{}/", request.host), stage.ground.net.state().onion_url);
    page.text(|shot| display.screenshot(shot), &running);
    assert_eq!(running.interrupt().unwrap(), Some(0));
}

/// With `--wait` the browser starts once tor is connected: at once where it is, and never where nothing answers.
pub(crate) fn waits(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let before = stage.before(&["waits", "waits-in-vain"]);
    let page = Awaited::new(stage);
    let mut command = stage.run_command(&display, "waits", &stage.ground.net.state().named_url);
    command.arg("--wait");
    let running = stage.start(command, "waits");
    page.request(Via::Exit, &running);
    let said = running.said();
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{said}"));
    assert!(place("connected to the Tor network") < place("Start(Browser)"), "{said}");
    assert_eq!(running.interrupt().unwrap(), Some(0));

    let torrc = stage.installed.dir().join("nowhere.torrc");
    std::fs::write(&torrc, stage.torrc_of_nowhere()).unwrap();
    std::fs::set_permissions(&torrc, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut command = stage.run_command_with(&display, "waits-in-vain", "about:blank", &torrc);
    command.arg("--wait");
    let mut running = stage.start(command, "in-vain");
    running.wait_until_said("AwaitListeners", soon(60)).unwrap();
    running.wait_until_said("not connected yet, at ", soon(90)).unwrap();
    assert!(!running.said().contains("Start(Browser)"), "{}", running.said());
    assert_eq!(running.interrupt().unwrap(), Some(0));
    before.assert_gone(GONE, "after Ctrl-C");
}

/// The desktop's entry, opened with an address. Whoever opened it does not wait for it.
pub(crate) fn from_an_entry(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let before = stage.before(&["entry"]);
    let page = Awaited::new(stage);
    let mut running = stage.start(stage.entry_command(&display, "entry", &stage.ground.net.state().named_url), "entry");
    assert_eq!(running.ended(Instant::now() + END).unwrap(), Some(0), "{}", running.said());
    let request = page.request(Via::Exit, &running);
    assert!(stage.ground.net.exit_of(&request).is_some(), "not from an exit relay: {request:?}");
    page.text(|shot| display.screenshot(shot), &running);
    assert_eq!(stage.call(&["stop", "entry"]), (Some(0), String::new(), String::new()));
    before.assert_gone(GONE, "after torbox stop");
}

/// Web content runs behind a second filter and in user and network namespaces of its own. The browser's own process, with the
/// container's filter alone, is the positive control: the numbers differ because of the inner sandbox.
pub(crate) fn content_sandbox_is_on(running: &RunningBox) {
    let browser = running.part(Part::Browser).unwrap();
    assert_eq!(browser.status("Seccomp_filters").as_deref(), Some("1"));
    let content = wait::retry(Duration::from_millis(100), soon(5), || Some(content_processes(running)).filter(|found| !found.is_empty()));
    let content = content.expect("there are content processes");
    let mut networks = BTreeMap::new();
    for process in content {
        // One that has just been started closes itself before it is given anything; one that has ended is none any more.
        let seen = || Some(["Seccomp", "Seccomp_filters", "NoNewPrivs"].map(|key| process.status(key).unwrap_or_default()));
        let closed = wait::retry(Duration::from_millis(100), soon(5), || seen().filter(|seen| seen == &["2", "2", "1"] || seen.contains(&String::new())));
        let Some(closed) = closed else { panic!("{:?}: {}", seen(), process.command_line()) };
        if closed.contains(&String::new()) {
            continue;
        }
        for kind in ["user", "net"] {
            assert_ne!(process.namespace(kind).unwrap(), browser.namespace(kind).unwrap(), "{kind}: {}", process.command_line());
        }
        networks.insert(process.namespace("net").unwrap(), process);
    }
    assert!(!networks.is_empty(), "every content process has ended");
    for process in networks.values() {
        assert_eq!(process.interfaces().unwrap(), ["lo"]);
    }
}

/// Processes that show web pages; the last word of their command line says so.
pub(crate) fn content_processes(running: &RunningBox) -> Vec<ProcessId> {
    let shows_pages = |p: &ProcessId| p.command_line().contains(" -contentproc ") && p.command_line().ends_with(" tab");
    running.processes().unwrap().into_iter().filter(shows_pages).collect()
}

fn status_tells_of_it(stage: &Stage<'_>, running: &RunningBox) {
    let connected = || Some(status(stage)).filter(|status| status[0]["bootstrap"] == 100);
    let mut seen = wait::retry(Duration::from_millis(50), soon(5), connected).unwrap_or_else(|| panic!("{}", status(stage)));
    let browser = seen[0]["browser"].take();
    assert!(browser.as_str().is_some_and(|b| b.starts_with("firefox-esr ")), "{browser}");
    let open = seen[0]["leaves_open"].take();
    assert!(open.as_str().is_some_and(|open| open.contains("the clipboard")), "{open}");
    let proof = seen[0]["proof"].take();
    let said = proof.as_str().unwrap_or_default();
    assert!(said.starts_with("the box holds: ") && said.ends_with(" ms; Landlock is enforced; the same attempts find tor's network"), "{proof}");
    assert!(running.said().contains(&format!("torbox: {said}\n")), "{said:?} in {}", running.said());
    let pid = running.child.id();
    let wanted = serde_json::json!([{"name": "page", "pid": pid, "bootstrap": 100, "trouble": null, "display": "x11-nested", "leaves_open": null, "sound": false, "browser": null, "anonymous": false, "proof": null}]);
    assert_eq!(seen, wanted);
}

/// The whole battery, while the page is shown. That each attempt can succeed is shown elsewhere (`mutations`).
fn an_audit_beside_it_holds(stage: &Stage<'_>) {
    let (code, out, said) = stage.call(&["audit", "--name", "page", "--json"]);
    // Whoever makes them is in the cage already, and cannot show what it would be without.
    let open = failures(&out, &said);
    assert_eq!((code, open.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>()), (Some(0), vec![BESIDE]), "{open:?} {said}");
    assert!(said.contains("beside its browser"), "{said}");
}

/// The attempt that an audit from within the cage cannot make.
pub(crate) const BESIDE: &str = "landlock.files";

/// The attempts of an audit that did not fail.
pub(crate) fn failures(out: &str, said: &str) -> Vec<serde_json::Value> {
    let audit: serde_json::Value = serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}\n{said}"));
    let attempts = audit["attempts"].as_array().unwrap();
    assert!(attempts.len() > 350, "{}: {said}", attempts.len());
    attempts.iter().filter(|row| row["verdict"] != "held").cloned().collect()
}

fn status(stage: &Stage<'_>) -> serde_json::Value {
    let (code, out, said) = stage.call(&["status", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str(&out).unwrap()
}

/// A second start goes to the box that runs, and so does `torbox open`: the browser asks for the page, through an exit as ever.
fn a_second_start_opens_in_the_box(stage: &Stage<'_>, display: &Xvfb, running: &RunningBox) {
    let url = |path: &str| format!("{}{path}", stage.ground.net.state().named_url);
    let page = Awaited::new(stage);
    let (code, out, said) = outcome(&mut stage.run_command(display, "page", &url("second")));
    assert_eq!((code, out.as_str()), (Some(0), ""), "{said}");
    assert_eq!(said, "torbox: box page is already running: the address was opened in it; --name opens another box beside it\n");
    assert!(stage.ground.net.exit_of(&page.request_of(Via::Exit, "/second", running)).is_some());
    let page = Awaited::new(stage);
    let (code, out, said) = stage.call(&["open", "--name", "page", &url("third")]);
    assert_eq!((code, out.as_str(), said.as_str()), (Some(0), "", ""));
    page.request_of(Via::Exit, "/third", running);
    for no_page in ["file:///etc/passwd", "javascript:alert(1)", "about:config", "--new-window"] {
        let (code, _, said) = stage.call(&["open", "--name", "page", "--", no_page]);
        assert_eq!(code, Some(2), "{no_page}: {said}");
    }
    let (code, _, said) = stage.call(&["open", "--name", "nobody"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(!running.said().contains("second"), "what is opened is not said: {}", running.said());
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

/// A box of the same name in another installation of torbox: each has control groups of its own, and the end of one is not the other's.
pub(crate) fn twins(stage: &Stage<'_>) {
    let installed = Installed::new(Who::Root, &stage.ground.temporary.path().join("twin")).unwrap();
    installed.take_images(&stage.installed).unwrap();
    let other = Stage::of(stage.ground, stage.kind, installed);
    let displays = [Xvfb::start().unwrap(), Xvfb::start().unwrap()];
    let before = stage.before(&["twin"]);
    let [mut one, mut two] = [(stage, &displays[0]), (&other, &displays[1])].map(|(stage, display)| {
        let page = Awaited::new(stage);
        let running = stage.open(display, "twin", &stage.ground.net.state().named_url);
        page.request(Via::Exit, &running);
        running
    });
    let groups = |running: &RunningBox| std::fs::read_to_string(format!("/proc/{}/cgroup", running.part(Part::Tor).unwrap().0)).unwrap();
    assert!(groups(&one).contains("/torbox-") && groups(&one) != groups(&two), "{}", groups(&one));
    assert_eq!(stage.call(&["stop", "twin"]).0, Some(0));
    assert_eq!(one.ended(Instant::now() + END).unwrap(), Some(0), "{}", one.said());
    let page = Awaited::new(&other);
    assert_eq!(other.call(&["open", "--name", "twin", &other.ground.net.state().named_url]).0, Some(0), "{}", two.said_last());
    page.request(Via::Exit, &two);
    assert_eq!(other.call(&["stop", "twin"]).0, Some(0));
    assert_eq!(two.ended(Instant::now() + END).unwrap(), Some(0), "{}", two.said());
    before.assert_gone(GONE, "after both boxes");
}

/// The page on two Wayland compositors of the caller.
pub(crate) fn on_wayland(stage: &Stage<'_>) {
    let weston = Weston::start(Some(&stage.ground.user)).unwrap();
    on_compositor(stage, &weston.socket(), "wayland-filter", |shot| weston.screenshot(shot));
    let sway = Sway::start(&stage.ground.user).unwrap();
    on_compositor(stage, &sway.socket(), "wayland-filter", |shot| sway.screenshot(shot));
    let current = Sway::current(&stage.ground.user).unwrap();
    on_compositor(stage, &current.socket(), "wayland", |shot| current.screenshot(shot));
    context_ends_with_torbox(stage, &current);
}

/// What hands do on Wayland: the keys of a German keyboard, whose map the browser has from torbox, late, and with no clipboard but
/// its own.
pub(crate) fn hands_on_wayland(stage: &Stage<'_>) {
    let server = Xvfb::start().unwrap();
    server.set_layout("de").unwrap();
    let sway = Sway::in_a_window(&stage.ground.user, &server, "de").unwrap();
    let mut command = stage.run_command_bare("hands", &format!("{}hands", stage.ground.net.state().named_url));
    command.env("WAYLAND_DISPLAY", sway.socket()).args(["--clipboard", "none", "--input-jitter", "40"]);
    let running = stage.start(command, "hands");
    let hands = Hands::new(stage, &server, &running);
    hands.try_what_needs_no_clipboard();
    hands.paste_ones_own(&format!("{}pasted", stage.ground.net.state().named_url));
    assert_eq!(running.interrupt().unwrap(), Some(0));
}

/// The page on the compositors of GNOME and of Plasma, which nobody but their own programs may take pictures of: it says itself
/// that it is drawn.
pub(crate) fn on_desktops(stage: &Stage<'_>) {
    // mutter 48 has no security contexts.
    for (desktop, name, mode) in [(Desktop::Gnome, "gnome", "wayland-filter"), (Desktop::Plasma, "plasma", "wayland")] {
        let compositor = desktop.start(&stage.ground.user).unwrap();
        let before = stage.before(&[name]);
        let page = Awaited::new(stage);
        let mut command = stage.run_command_bare(name, &format!("{}shown", stage.ground.net.state().named_url));
        command.env("WAYLAND_DISPLAY", compositor.socket());
        let running = stage.start(command, name);
        let request = page.request_of(Via::Exit, "/felt/shown", &running);
        assert!(stage.ground.net.exit_of(&request).is_some(), "{request:?}");
        assert!(running.said().contains(&format!("torbox: display: {mode}\n")), "{}", running.said());
        content_sandbox_is_on(&running);
        assert_eq!(running.interrupt().unwrap(), Some(0));
        before.assert_gone(GONE, "after Ctrl-C");
    }
}

/// The box's own listener is there while torbox is, and after a SIGKILL nobody is behind it.
fn context_ends_with_torbox(stage: &Stage<'_>, sway: &Sway<'_>) {
    let listener = stage.installed.dir().join("run/boxes/context.display/display");
    let mut command = stage.run_command_bare("context", "about:blank");
    command.env("WAYLAND_DISPLAY", sway.socket());
    let mut running = stage.start(command, "context");
    running.wait_until_said("connected to the Tor network", soon(PATIENCE)).unwrap();
    let connect = |socket: &Path| Client::connect(socket).unwrap_or_else(|error| panic!("{error:#}; torbox said last:\n{}", running.said_last()));
    let (bare, boxed) = (connect(&sway.socket()), connect(&listener));
    let offers = |client: &Client, interface: &str| client.globals.iter().any(|global| global.interface == interface);
    for weapon in ["wp_security_context_manager_v1", "zwlr_screencopy_manager_v1", "zwlr_data_control_manager_v1", "zwp_virtual_keyboard_manager_v1"] {
        assert_eq!([offers(&bare, weapon), offers(&boxed, weapon)], [true, false], "{weapon}");
    }
    running.child.kill().unwrap();
    running.ended(Instant::now() + END).unwrap();
    let refused = wait::retry(Duration::from_millis(20), soon(2), || UnixStream::connect(&listener).err());
    assert_eq!(refused.map(|error| error.kind()), Some(std::io::ErrorKind::ConnectionRefused));
    assert_eq!(stage.call(&["status"]).1, "no box is running\n");
}

fn on_compositor(stage: &Stage<'_>, socket: &Path, mode: &str, shoot: impl FnMut(&Path) -> anyhow::Result<()>) {
    let before = stage.before(&["wayland"]);
    let page = Awaited::new(stage);
    let mut command = stage.run_command_bare("wayland", &stage.ground.net.state().named_url);
    command.env("WAYLAND_DISPLAY", socket);
    let running = stage.start(command, "wayland");
    let request = page.request(Via::Exit, &running);
    assert!(stage.ground.net.exit_of(&request).is_some(), "{request:?}");
    page.text(shoot, &running);
    assert!(running.said().contains(&format!("torbox: display: {mode}\n")), "{}", running.said());
    content_sandbox_is_on(&running);
    let next = Awaited::new(stage);
    assert_eq!(stage.call(&["open", "--name", "wayland", &format!("{}next", stage.ground.net.state().named_url)]).0, Some(0), "{}", running.said());
    next.request_of(Via::Exit, "/next", &running);
    assert_eq!(running.interrupt().unwrap(), Some(0));
    before.assert_gone(GONE, "after Ctrl-C");
}
