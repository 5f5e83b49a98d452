//! What the network sees of a box, from outside: of a browser that does what it is told, and of one that was turned against its user.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::time::Duration;

use torbox_tests::boxed::{Part, RunningBox};
use torbox_tests::display::Xvfb;
use torbox_tests::process::ProcessId;
use torbox_tests::standin::Disguise;
use torbox_tests::testnet::capture::{Capture, Flow};
use torbox_tests::testnet::{Door, Via, config};
use torbox_tests::{process, wait};

use crate::closed::Sentinels;
use crate::ground::{Stage, soon};
use crate::page::{Awaited, content_processes};

/// The configuration of a browser that goes past tor wherever it can.
const HOSTILE: &str = include_str!("../../www/hostile.cfg");
/// How long what it tries at last may be on its way.
const LATE: Duration = Duration::from_secs(2);
/// What it says of each way.
const SAYS: &str = "hostile: ";
const LAST: &str = "hostile: everything was tried";

/// A session with a quiet browser, then one with a hostile one: in both only tor sends, and to nobody but its relays.
pub(crate) fn only_tor_sends(stage: &Stage<'_>) {
    let sentinels = Sentinels::all(stage);
    session(stage, "quiet", "", |running, display| {
        let page = Awaited::new(stage);
        page.text(|shot| display.screenshot(shot), running);
    });
    let hostile = Disguise::put(&stage.installed, HOSTILE).unwrap();
    let (log, mark) = (stage.ground.net.web_log(), stage.ground.net.web_log().mark());
    session(stage, "hostile", "hostile", |running, _| {
        let ran = log.wait_for(mark, soon(60), |request| request.path.starts_with("/ran?webrtc,")).unwrap();
        assert!(ran.is_some(), "the page's script did not run; torbox said last:\n{}", running.said_last());
        running.wait_until_said(LAST, soon(40)).unwrap();
        std::thread::sleep(LATE);
        let said = running.said();
        let tried: Vec<_> = said.lines().filter_map(|line| Some(line.split_once(SAYS)?.1)).collect();
        assert_eq!(tried.len(), 12, "{tried:?}");
        eprintln!("{tried:#?}");
    });
    sentinels.iter().for_each(|sentinels| sentinels.assert_no_hit("in both sessions"));
    the_same_browser_without_a_box_gets_out(stage, &hostile, &sentinels);
}

/// Opens a page in a box, does `act`, and holds what was seen on the way against what may be.
fn session(stage: &Stage<'_>, name: &str, path: &str, act: impl FnOnce(&mut RunningBox, &Xvfb)) {
    let net = &stage.ground.net;
    let capture = Capture::start(&net.client()).unwrap();
    let display = Xvfb::start().unwrap();
    let page = Awaited::new(stage);
    let mut running = stage.open(&display, name, &format!("{}{path}", net.state().named_url));
    let asked = page.request_of(Via::Exit, &format!("/{path}"), &running);
    assert!(net.exit_of(&asked).is_some(), "{asked:?}");
    act(&mut running, &display);
    nobody_else_has_a_socket(stage, &running);
    nothing_crossed_the_others_interfaces(&running);
    assert_eq!(running.interrupt().unwrap(), Some(0));
    let flows = capture.end().unwrap();
    let strangers: Vec<_> = flows.iter().filter(|flow| !to_a_relay(stage, flow)).collect();
    assert!(strangers.is_empty(), "{name}: {strangers:#?}");
    let count = flows.iter().filter(|flow| matches!(flow, Flow::Tcp { .. })).count();
    assert!(count >= 2, "the positive control: tor is seen both ways: {flows:?}");
    eprintln!("{name}: {count} flows, all between tor and its relays");
}

/// Between the client's end and a port of a relay, or of the kernel's own: ARP, and IPv6's neighbours on the cable.
fn to_a_relay(stage: &Stage<'_>, flow: &Flow) -> bool {
    const ARP: u16 = 0x0806;
    let relay = |(address, port): (Ipv4Addr, u16)| stage.ground.net.state().relays.values().any(|relay| *relay == address) && config::RELAY_PORTS.contains(&port);
    match *flow {
        Flow::Tcp { from, to } => from.0 == config::CLIENT_END && relay(to) || to.0 == config::CLIENT_END && relay(from),
        Flow::Ipv6 { next, .. } => next == 58 || next == 0,
        Flow::Ip { .. } => false,
        Flow::Other(kind) => kind == ARP,
    }
}

/// Every socket of the namespace in which tor is that is not of the sentinels, which listen, is tor's.
fn nobody_else_has_a_socket(stage: &Stage<'_>, running: &RunningBox) {
    let tor = running.part(Part::Tor).unwrap();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", tor.0)).unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let of_tor: BTreeSet<_> = descriptors.map(|target| target.display().to_string()).collect();
    let tables = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"].map(|table| fs::read_to_string(format!("/proc/{}/net/{table}", tor.0)).unwrap_or_default());
    let mut seen = 0;
    for line in tables.iter().flat_map(|table| table.lines().skip(1)) {
        let words: Vec<_> = line.split_whitespace().collect();
        // A listener is nobody's way out, and what waits for its end has no owner any more.
        let (remote, inode) = (words[2], words[9]);
        if !remote.ends_with(":0000") && inode != "0" {
            seen += 1;
            assert!(of_tor.contains(&format!("socket:[{inode}]")), "{line}");
        }
    }
    assert!(seen > 0, "the positive control: tor has connections in {}", stage.ground.net.client().name());
}

/// Counters of every other container, and of every namespace that the browser made in its own.
fn nothing_crossed_the_others_interfaces(running: &RunningBox) {
    let count = |process: ProcessId| -> u64 {
        let table = fs::read_to_string(format!("/proc/{}/net/dev", process.0)).unwrap();
        let numbers = table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.1)).flat_map(str::split_whitespace);
        numbers.map(|number| number.parse::<u64>().unwrap()).sum()
    };
    let parts = [Part::Gate, Part::Display, Part::Init, Part::Browser].map(|part| running.part(part).unwrap());
    let content = content_processes(running);
    assert!(!content.is_empty(), "{}", running.said());
    for process in parts.into_iter().chain(content) {
        assert_eq!((process.interfaces().unwrap(), count(process)), (vec!["lo".to_owned()], 0), "{}", process.command_line());
    }
    assert!(count(running.part(Part::Tor).unwrap()) > 0, "the positive control");
}

/// A browser of its own, until it is dropped.
struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        process::end(&process::descendants(ProcessId(self.0.id())).unwrap_or_default(), Duration::from_millis(500)).ok();
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The positive control: started where torbox was, from the same files, it knocks where nobody of a box does.
fn the_same_browser_without_a_box_gets_out(stage: &Stage<'_>, hostile: &Disguise, sentinels: &[Sentinels]) {
    // A sentinel has the abstract name of display :0 in that namespace, and X clients try the abstract name first.
    let [_first, display] = [Xvfb::start().unwrap(), Xvfb::start().unwrap()];
    let user = &stage.ground.user;
    let auth = user.home().join("hostile.auth");
    display.write_auth(&auth, Some(user.ids())).unwrap();
    let mut command: Command = user.command(Some(&stage.ground.net.client()), "bwrap");
    command.args(["--unshare-user", "--unshare-pid", "--die-with-parent", "--ro-bind"]).arg(hostile.root()).arg("/").args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]);
    command.args(["--dir", "/run/home", "--ro-bind"]).arg(display.socket()).arg(display.socket()).arg("--ro-bind").arg(&auth).arg("/run/auth");
    command.args(["/opt/tor-browser/Browser/firefox.real", "--new-instance", "--profile", "/run/home", "about:blank"]);
    command.env("HOME", "/run/home").env("XAUTHORITY", "/run/auth").env("TOR_SOCKS_IPC_PATH", "/run/nowhere").env("DISPLAY", display.display()).env("MOZ_CRASHREPORTER_DISABLE", "1");
    let log = File::create(stage.out.path().join("bare.log")).unwrap();
    let _bare = Bare(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let wanted = ["tcp 10.77.0.2:443", "udp 10.77.0.2:443", "tcp 10.77.1.1:53", "udp 127.0.0.1:53", "tcp 127.0.0.1:9050"];
    let missing = || {
        let hits: BTreeSet<_> = sentinels.iter().flat_map(|sentinels| sentinels.hits()).map(|hit| match hit.door {
            Door::Tcp(at) => format!("tcp {at}"),
            Door::Udp(at) => format!("udp {at}"),
            Door::Abstract(name) => name,
        }).collect();
        wanted.iter().filter(|door| !hits.contains(**door)).collect::<Vec<_>>()
    };
    wait::retry(Duration::from_millis(100), soon(30), || missing().is_empty().then_some(()));
    assert_eq!(missing(), Vec::<&&str>::new(), "{}", wait::text_so_far(&stage.out.path().join("bare.log")));
}
