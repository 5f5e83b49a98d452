//! When tor cannot be used, nothing else is: the page does not come, and nobody is knocked at.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use torbox_tests::boxed::{END, Part, RunningBox};
use torbox_tests::display::{Xvfb, read_text};
use torbox_tests::testnet::web::PAGE_TEXT;
use torbox_tests::testnet::{Door, Hit, Namespace, Sentinel, Via, helper, sentinel};

use crate::ground::{Stage, outcome, soon};

/// For how long after its window is there the browser has every chance to get out.
const CHANCE: Duration = Duration::from_secs(6);

/// Listeners where a browser that goes past tor would knock: name servers, proxies, the bus, in both namespaces.
pub(crate) struct Sentinels {
    place: Namespace,
    doors: Vec<Door>,
    watcher: Sentinel,
}

impl Sentinels {
    pub(crate) fn all(stage: &Stage<'_>) -> [Self; 2] {
        let net = &stage.ground.net;
        let tcp = |text: &str| Door::Tcp(text.parse::<SocketAddr>().unwrap());
        let udp = |text: &str| Door::Udp(text.parse::<SocketAddr>().unwrap());
        let of = |name: &str| Door::Abstract(name.to_owned());
        let client = vec![tcp("127.0.0.1:53"), udp("127.0.0.1:53"), tcp("127.0.0.1:80"), tcp("[::1]:80"), tcp("127.0.0.1:9050"), tcp("127.0.0.1:9150"),
            of("torbox-sentinel"), of("/tmp/.X11-unix/X0"), of("/tmp/dbus-sentinel")];
        let network = vec![tcp("10.77.1.1:53"), udp("10.77.1.1:53"), udp("10.77.0.2:53"), tcp("10.77.0.2:443"), udp("10.77.0.2:443"), of("torbox-sentinel")];
        [Self::new(stage, "client", net.client(), client), Self::new(stage, "network", net.network(), network)]
    }

    fn new(stage: &Stage<'_>, name: &str, place: Namespace, doors: Vec<Door>) -> Self {
        let log = stage.ground.temporary.path().join(format!("hits-{name}"));
        let _absent = fs::remove_file(&log);
        let watcher = Sentinel::start(&helper().unwrap(), &place, &doors, &log).unwrap();
        Self { place, doors, watcher }
    }

    /// Every knock that was recorded so far.
    pub(crate) fn hits(&self) -> Vec<Hit> {
        self.watcher.hits().unwrap()
    }

    pub(crate) fn assert_no_hit(&self, what: &str) {
        assert_eq!(self.watcher.settle().unwrap(), [], "{what}");
    }

    /// The positive control: every door records a knock from where the box was started.
    fn assert_every_knock_is_seen(&self) {
        let knocked = self.place.within(|| Ok(self.doors.iter().filter(|door| sentinel::knock(door, "control")).count())).unwrap();
        assert_eq!(knocked, self.doors.len());
        assert_eq!(self.watcher.settle().unwrap().len(), self.doors.len());
    }
}

/// A tor that was told to keep off the network.
pub(crate) fn tor_without_network(stage: &Stage<'_>) {
    let sentinels = Sentinels::all(stage);
    let display = Xvfb::start().unwrap();
    let torrc = stage.torrc_with("\nDisableNetwork 1\n");
    let mark = stage.ground.net.web_log().mark();
    let mut watch = display.watch().unwrap();
    let command = stage.run_command_with(&display, "offline", &stage.ground.net.state().named_url, &torrc);
    let running = stage.start(command, "offline");
    assert!(watch.first_window(soon(30)).unwrap().is_some(), "no window; torbox said last:\n{}", running.said_last());
    assert_page_stays_away(stage, &display, mark, &running);
    sentinels.iter().for_each(|s| s.assert_no_hit("tor has no network"));
    assert_eq!(running.interrupt().unwrap(), Some(0));
    sentinels.iter().for_each(Sentinels::assert_every_knock_is_seen);
}

/// A tor that is stopped in the middle. That it lets the page through once it goes on is the positive control.
pub(crate) fn tor_stopped(stage: &Stage<'_>) {
    let sentinels = Sentinels::all(stage);
    let display = Xvfb::start().unwrap();
    let log = stage.ground.net.web_log();
    let mark = log.mark();
    let mut watch = display.watch().unwrap();
    let mut running = stage.open(&display, "stopped", &stage.ground.net.state().named_url);
    running.wait_until_said("Opened Socks listener connection (ready)", soon(20)).unwrap();
    let tor = running.part(Part::Tor).expect("tor runs");
    tor.send(Signal::STOP).unwrap();
    assert!(watch.first_window(soon(30)).unwrap().is_some(), "no window; torbox said last:\n{}", running.said_last());
    assert_page_stays_away(stage, &display, mark, &running);
    sentinels.iter().for_each(|s| s.assert_no_hit("tor is stopped"));
    tor.send(Signal::CONT).unwrap();
    let request = log.wait_for(mark, soon(30), |request| request.via == Via::Exit && request.path == "/").unwrap();
    let request = request.unwrap_or_else(|| panic!("the page did not come afterwards; torbox said last:\n{}", running.said_last()));
    assert!(stage.ground.net.exit_of(&request).is_some(), "{request:?}");
    sentinels.iter().for_each(|s| s.assert_no_hit("tor went on"));
    assert_eq!(running.interrupt().unwrap(), Some(0));
}

fn assert_page_stays_away(stage: &Stage<'_>, display: &Xvfb, mark: torbox_tests::testnet::Mark, running: &RunningBox) {
    let log = stage.ground.net.web_log();
    let came = log.wait_for(mark, Instant::now() + CHANCE, |_| true).unwrap();
    assert_eq!(came, None, "{}", running.said());
    let shot = stage.out.path().join("closed.png");
    display.screenshot(&shot).unwrap();
    let text = read_text(&shot).unwrap();
    assert!(!text.contains(PAGE_TEXT), "{text}");
    eprintln!("the screen says: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
}

/// A filter of seccomp(2) that allows everything: one instruction, `ret ALLOW`. Under it every container has one filter more than
/// was planned, which torbox did not do and cannot undo.
const ALLOW_ALL: [u8; 8] = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];

/// A difference between plan and container ends the launch before anything starts.
pub(crate) fn a_mismatch_starts_nothing(stage: &Stage<'_>) {
    let before = stage.before(&["mismatch"]);
    let filter = stage.out.path().join("filter");
    fs::write(&filter, ALLOW_ALL).unwrap();
    let under_filter = |arguments: &[&str]| {
        let probe = stage.probe_command("mismatch");
        let mut command = Command::new("bwrap");
        command.args(["--dev-bind", "/", "/", "--cap-add", "ALL"]).args(arguments).arg("--").arg(probe.get_program()).args(probe.get_args());
        command.env_clear().envs(probe.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command
    };
    let mut filtered = under_filter(&["--seccomp", "0"]);
    let done = filtered.stdin(File::open(&filter).unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!((done.status.code(), done.stdout.len()), (Some(7), 0), "{said}");
    assert!(said.contains("the tor container is not what was planned: ") && said.contains("hint: nothing was started"), "{said}");
    assert!(!said.contains("Verify(") && !said.contains("Start("), "{said}");
    before.assert_gone(END, "after a mismatch");
    // The positive control: without the filter the same call prints its report.
    let (code, out, said) = outcome(&mut under_filter(&[]));
    assert_eq!(code, Some(0), "{said}");
    assert!(out.starts_with("{\"interfaces\":"), "{out}");
}
