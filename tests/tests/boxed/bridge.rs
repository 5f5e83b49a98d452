//! Bridges: what the network sees of a box that has one, and what is said where one does not work.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use tempfile::NamedTempFile;
use torbox_tests::builtin::Brought;
use torbox_tests::display::Xvfb;
use torbox_tests::engine::{Engine, Kind};
use torbox_tests::testnet::capture::{Capture, Flow};
use torbox_tests::testnet::config::Spoken;
use torbox_tests::testnet::daemon::stop;
use torbox_tests::testnet::moat::{Asked, Moat};
use torbox_tests::testnet::{Via, config, names};

use crate::{compose, engines};
use crate::ground::{Stage, outcome, soon};
use crate::page::Awaited;

/// A bridge that is another, one that is not there, and one that works: of it alone the network sees anything.
pub(crate) fn bridges(stage: &Stage<'_>) {
    let bridge = stage.ground.net.start_bridge(Spoken::Tor).unwrap();
    let display = Xvfb::start().unwrap();
    let (address, _) = bridge.line().split_once(' ').unwrap();
    let another = format!("{address} {}", "A".repeat(40));
    says_why(stage, &display, &another, "another relay answers than the bridge's line says");
    says_why(stage, &display, &format!("{}:9", config::BRIDGE), "the bridge refuses the connection");
    only_it_is_contacted(stage, &display, bridge.line(), |end| end.0 == config::BRIDGE && config::RELAY_PORTS.contains(&end.1));
}

/// The same of one that speaks obfs4, of whose own port for tor's protocol nothing is seen. What does not fit its key gets no answer.
pub(crate) fn obfs4(stage: &Stage<'_>) {
    let bridge = stage.ground.net.start_bridge(Spoken::Obfs4).unwrap();
    let display = Xvfb::start().unwrap();
    let right = bridge.line();
    let (before, cert) = right.split_once("cert=").unwrap();
    let (first, rest) = cert.split_at(1);
    let wrong = format!("{before}cert={}{rest}", if first == "A" { "B" } else { "A" });
    let gone = right.replace(&format!(":{}", config::OBFS4.1), ":9");
    with_bridge(stage, right, || {
        let (code, said) = connects(stage);
        assert!(code == Some(0) && said.contains("connected to the Tor network"), "{said}");
    });
    for line in [&wrong, &gone] {
        with_bridge(stage, line, || {
            let (code, said) = connects(stage);
            assert!(code == Some(7) && said.contains("it came to 2%") && said.contains("nothing answers at the bridge's address as its line says"), "{said}");
            // What does not know the key is never answered, and obfs4proxy waits for a minute itself.
            assert!(line == &wrong || said.contains("the transport gets no connection to the bridge"), "{said}");
            assert!(!said.contains("10.77."), "whose bridge it is is not said: {said}");
        });
    }
    only_it_is_contacted(stage, &display, right, |end| end == config::OBFS4);
    let (code, _, said) = stage.call(&["bridge", "add", &right.replace("obfs4", "webtunnel")]);
    assert!(code == Some(2) && said.contains("webtunnel") && said.contains("obfs4"), "{said}");
}

/// The same through Snowflake: broker, STUN server and the proxy that it gives are found by names, which are asked of this machine's
/// resolver, and nobody else is contacted. The bridge's own address is nobody's.
pub(crate) fn snowflake(stage: &Stage<'_>) {
    let bridge = stage.ground.net.start_bridge(Spoken::Snowflake).unwrap();
    let display = Xvfb::start().unwrap();
    let right = bridge.line();
    let fails = |line: &str, why: &str, (code, said): (Option<i32>, String)| {
        assert!(code == Some(7) && said.contains(why), "{line}: {said}");
        assert!(!said.contains("10.77.") && !said.contains("torbox.test"), "whose broker it is is not said: {said}");
        assert!(!said.contains("the bridge answers"), "{said}");
    };
    let nobody = right.replace(&format!(":{}/", config::BROKER.1), ":9/");
    with_bridge(stage, &nobody, || fails(&nobody, "Snowflake's broker cannot be reached", asking(stage, stage.bridge_test_command())));
    let impostor = right.replace(&format!("http://{}:{}/", config::BROKER_NAME, config::BROKER.1), &format!("https://{}:{}/", config::BROKER_NAME, config::IMPOSTOR_PORT));
    with_bridge(stage, &impostor, || fails(&impostor, "somebody else answers in the place of Snowflake's broker", asking(stage, stage.bridge_test_command())));
    // The network that the test made has no way to this machine's own resolver.
    with_bridge(stage, right, || fails(right, "the name of Snowflake's broker cannot be looked up", connects(stage)));
    with_bridge(stage, right, || {
        let (code, said) = asking(stage, stage.bridge_test_command());
        assert!(code == Some(0) && said.contains("connected to the Tor network"), "{said}");
        let (code, _, said) = outcome(stage.bridge_test_command().args(["--proxy", "socks5://192.0.2.9:1080"]));
        assert!(code == Some(2) && said.contains("snowflake goes through no proxy"), "{said}");
        let capture = Capture::start(&stage.ground.net.client()).unwrap();
        both_pages(stage, &display);
        only_snowflakes_own(&capture.end().unwrap());
    });
}

/// The same through meek, to whose server a front brings what is asked of it: the front is contacted alone, and its name alone is looked up.
pub(crate) fn meek(stage: &Stage<'_>) {
    let bridge = stage.ground.net.start_bridge(Spoken::Meek).unwrap();
    let display = Xvfb::start().unwrap();
    let right = bridge.line();
    let asking = || asking(stage, stage.bridge_test_command());
    let fails = |line: &str, percent: u8, why: &[&str], (code, said): (Option<i32>, String)| {
        assert!(code == Some(7) && said.contains(&format!("it came to {percent}%")) && why.iter().all(|why| said.contains(why)), "{line}: {said}");
        assert!(!said.contains("10.77.") && !said.contains("torbox.test"), "whose server it is is not said: {said}");
        assert!(!said.contains("the bridge answers"), "{said}");
    };
    let unreached = ["the server that the bridge's line names is out of reach, or somebody else answers in its place", "url and front in torbox bridge list"];
    let port = format!(":{}", config::MEEK.1);
    let nobody = right.replace(&format!("{}{port}", config::FRONT_NAME), &format!("{}:9", config::FRONT_NAME));
    with_bridge(stage, &nobody, || fails(&nobody, 10, &unreached, asking()));
    // Without a fingerprint it is the certificate that counts.
    let impostor = format!("meek_lite 192.0.2.20:80 url=https://{}/ front={}:{}", config::MEEK_NAME, config::FRONT_NAME, config::IMPOSTOR_PORT);
    assert_eq!(impostors_status(stage), "200", "the positive control: it passes on what is asked");
    with_bridge(stage, &impostor, || fails(&impostor, 10, &unreached, asking()));
    // The network that the test made has no way to this machine's own resolver.
    with_bridge(stage, right, || fails(right, 10, &unreached, connects(stage)));
    // A front that answers, and does not know the server: obfs4proxy asks again for minutes, and tor hears nothing.
    let moved = right.replace(config::MEEK_NAME, "moved.torbox.test");
    with_bridge(stage, &moved, || fails(&moved, 10, &unreached[1..], asking()));
    let (before, after) = right.split_once(" url=").unwrap();
    let another = format!("{} {} url={after}", before.rsplit_once(' ').unwrap().0, "A".repeat(40));
    with_bridge(stage, &another, || {
        let (code, said) = asking();
        assert!(code == Some(7) && said.contains("another relay answers than the bridge's line says"), "{said}");
    });
    with_bridge(stage, right, || {
        let (code, said) = asking();
        assert!(code == Some(0) && said.contains("connected to the Tor network"), "{said}");
        let (code, _, said) = outcome(stage.bridge_test_command().args(["--proxy", "socks4://192.0.2.9:1080"]));
        assert!(code == Some(2) && said.contains("meek_lite goes through no proxy that speaks SOCKS4"), "{said}");
        let capture = Capture::start(&stage.ground.net.client()).unwrap();
        both_pages(stage, &display);
        only_who_is_named(&capture.end().unwrap(), &[config::NAMES.0], config::MEEK);
        // Who is asked for the front's name is then the proxy, and tor's container is told of nobody.
        let proxy = Proxy::socks_asking(stage, 1080);
        let planned = |words: &[&str]| {
            let (code, out, said) = stage.call(&[&["plan", "--browser", "firefox-esr", "--display", "none"], words].concat());
            assert_eq!(code, Some(0), "{said}");
            out
        };
        assert!(planned(&[]).contains("/etc/resolv.conf") && !planned(&["--proxy", &proxy.url("secret")]).contains("/etc/resolv.conf"));
        page_through(stage, &display, &["--proxy", &proxy.url("secret")], |end| end == proxy.end);
    });
}

/// What is answered to a request to meek's server that comes by who has not its certificate, and is not asked for one: curl(1).
fn impostors_status(stage: &Stage<'_>) -> String {
    let mut command = stage.ground.net.client().command("curl");
    command.args(["--silent", "--insecure", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "20", "--data", "", "--header", &format!("Host: {}", config::MEEK_NAME)]);
    let (code, out, said) = outcome(command.arg(format!("https://{}:{}/", config::MEEK.0, config::IMPOSTOR_PORT)));
    assert_eq!(code, Some(0), "{said}");
    out
}

/// The page through an exit and that of the onion service, on a machine that looks the network's names up.
fn both_pages(stage: &Stage<'_>, display: &Xvfb) {
    for (via, url) in [(Via::Exit, &stage.ground.net.state().named_url), (Via::Onion, &stage.ground.net.state().onion_url)] {
        let page = Awaited::new(stage);
        let running = stage.start(names::asking(&stage.ground.net.names(), &stage.run_command(display, "bridge", url)), "bridge");
        page.request(via, &running);
        page.text(|shot| display.screenshot(shot), &running);
        assert_eq!(running.interrupt().unwrap(), Some(0));
    }
}

/// Connects through Docker and through Podman, whose machine looks the front's name up.
pub(crate) fn meek_in_docker(stage: &Stage<'_>) {
    meek_in(stage, Kind::Docker);
}

pub(crate) fn meek_in_podman(stage: &Stage<'_>) {
    meek_in(stage, Kind::Podman);
}

fn meek_in(stage: &Stage<'_>, kind: Kind) {
    let bridge = stage.ground.net.start_bridge(Spoken::Meek).unwrap();
    let engine = Engine::start_asking(stage.ground.net.names(), kind, &stage.ground.net.client(), &stage.ground.user).unwrap();
    let capture = Capture::start(&stage.ground.net.client()).unwrap();
    with_bridge(stage, bridge.line(), || through(stage, &engine, "meek"));
    only_who_is_named(&capture.end().unwrap(), &[config::NAMES.0], config::MEEK);
}

/// The page through Docker, Podman and a compose file. Names are looked up where the engine's machine does, whatever the caller's does.
pub(crate) fn snowflake_in_docker(stage: &Stage<'_>) {
    snowflake_in(stage, Kind::Docker);
}

pub(crate) fn snowflake_in_podman(stage: &Stage<'_>) {
    snowflake_in(stage, Kind::Podman);
}

fn snowflake_in(stage: &Stage<'_>, kind: Kind) {
    let bridge = stage.ground.net.start_bridge(Spoken::Snowflake).unwrap();
    let (names, client, user) = (stage.ground.net.names(), stage.ground.net.client(), &stage.ground.user);
    with_bridge(stage, bridge.line(), || {
        engines::with(stage, kind, |engine| {
            let (code, said) = asking(stage, engines::through(stage.bridge_test_command(), engine));
            assert!(code == Some(7) && said.contains("the name of Snowflake's broker cannot be looked up"), "the positive control: {said}");
        });
        let engine = Engine::start_asking(names.clone(), kind, &client, user).unwrap();
        page_in(stage, &engine);
        compose::through_snowflake(stage, &engine);
        drop(engine);
        let engine = Engine::start_asking_elsewhere(names, kind, &client, user).unwrap();
        let (code, out, said) = outcome(&mut engines::apart(&engines::through(stage.bridge_test_command(), &engine)));
        assert!((code, out.as_str()) == (Some(0), "") && said.contains("connected to the Tor network"), "{said}");
        engines::assert_nothing_left(&engine, "after a test elsewhere");
    });
}

/// Engines of the user's own, whose way to the network is another.
pub(crate) fn snowflake_in_rootless_docker(stage: &Stage<'_>) {
    connects_in(stage, Kind::RootlessDocker);
}

pub(crate) fn snowflake_in_rootless_podman(stage: &Stage<'_>) {
    connects_in(stage, Kind::RootlessPodman);
}

fn connects_in(stage: &Stage<'_>, kind: Kind) {
    let bridge = stage.ground.net.start_bridge(Spoken::Snowflake).unwrap();
    let engine = Engine::start_asking(stage.ground.net.names(), kind, &stage.ground.net.client(), &stage.ground.user).unwrap();
    with_bridge(stage, bridge.line(), || through(stage, &engine, "rootless"));
}

/// The bridges work in a box of that engine. Its claim stays, under a name that no other test asks for what is left of.
fn through(stage: &Stage<'_>, engine: &Engine, name: &str) {
    let (code, out, said) = outcome(engines::through(stage.bridge_test_command(), engine).args(["--name", name]));
    assert!((code, out.as_str()) == (Some(0), "") && said.contains("connected to the Tor network"), "{said}");
    engines::assert_nothing_left(engine, "after a test");
}

fn page_in(stage: &Stage<'_>, engine: &Engine) {
    let display = Xvfb::start().unwrap();
    let capture = Capture::start(&stage.ground.net.client()).unwrap();
    let page = Awaited::new(stage);
    let running = stage.start(engines::through(stage.run_command(&display, "bridge", &stage.ground.net.state().named_url), engine), "bridge");
    page.request(Via::Exit, &running);
    page.text(|shot| display.screenshot(shot), &running);
    tor_alone_asks_for_names(engine, "bridge");
    assert_eq!(running.interrupt_within(engines::GONE).unwrap(), Some(0));
    engines::assert_nothing_left(engine, "after Ctrl-C");
    only_snowflakes_own(&capture.end().unwrap());
}

/// tor's container is told the servers that the engine's machine asks, and none of its domains; the others are told nothing.
pub(crate) fn tor_alone_asks_for_names(engine: &Engine, name: &str) {
    let told = engines::resolver_of(engine, name, "tor");
    let lines: Vec<_> = told.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(lines, [format!("nameserver {}", config::NAMES.0)], "{told}");
    for role in ["gate", "display", "browser"] {
        assert_eq!(engines::resolver_of(engine, name, role), "", "{role}");
    }
}

/// Broker, name servers, STUN server and the proxy, and nobody else.
pub(crate) fn only_snowflakes_own(flows: &BTreeSet<Flow>) {
    only_who_is_named(flows, &[config::NAMES.0, config::STUN.0, config::NET_END], config::BROKER);
}

/// `peers` by datagrams, one end by TCP, and nobody else.
fn only_who_is_named(flows: &BTreeSet<Flow>, peers: &[Ipv4Addr], named: (Ipv4Addr, u16)) {
    for &peer in peers {
        assert!(flows.contains(&Flow::Ip { protocol: UDP, from: config::CLIENT_END, to: peer }), "the positive control: {peer} is asked: {flows:#?}");
    }
    // The box has gone when Snowflake's proxy sends its last word.
    let datagram = |flow: &&Flow| matches!(flow, Flow::Ip { protocol: UDP | ICMP, from, to } if peers.contains(if *from == config::CLIENT_END { to } else { from }));
    only_the_bridge(&flows.iter().filter(|flow| !datagram(flow)).copied().collect(), |end| end == named);
}

/// Numbers of protocols.
const UDP: u8 = 17;
const ICMP: u8 = 1;

fn asking(stage: &Stage<'_>, command: Command) -> (Option<i32>, String) {
    let (code, out, said) = outcome(&mut names::asking(&stage.ground.net.names(), &command));
    assert_eq!(out, "");
    (code, said)
}

/// `torbox bridge test`: its exit code and what it says. Nothing of its box is left.
fn connects(stage: &Stage<'_>) -> (Option<i32>, String) {
    let (code, out, said) = outcome(&mut stage.bridge_test_command());
    assert_eq!(out, "");
    assert!(!stage.installed.dir().join("state/boxes/bridge-test").exists(), "tor's state of the test is kept");
    (code, said)
}

/// A built-in line of meek's, which has no fingerprint.
const MEEK: &str = "meek_lite 192.0.2.20:80 url=https://meek.torbox.test/ front=front.torbox.test utls=HelloRandomizedALPN";

/// The built-in bridges of an image: shown, added, and a page through one of them.
pub(crate) fn builtin(stage: &Stage<'_>) {
    let builtin = |words: &[&str]| stage.call(&[&["bridge", "builtin", "--browser", "firefox-esr"], words].concat());
    let (code, out, said) = builtin(&[]);
    assert_eq!((code, out.as_str(), said.as_str()), (Some(0), "meek          1\nobfs4         2  recommended\nsnowflake     1\n", ""), "what the stand-in brings");
    let bridge = stage.ground.net.start_bridge(Spoken::Obfs4).unwrap();
    let text = |line: &str| format!(r#"{{"recommendedDefault": "obfs4", "pluggableTransports": {{}}, "bridges": {{"obfs4": ["{line}"], "meek": ["{MEEK}"], "webtunnel": ["webtunnel 192.0.2.7:443 url=x"]}}}}"#);
    let brought = Brought::put(&stage.installed, Some(&text(bridge.line()))).unwrap();
    assert_eq!(builtin(&["obfs4"]), (Some(0), format!("{}\n", bridge.line()), String::new()));
    assert_eq!(stage.call(&["bridge", "list"]).1, "", "what is shown is not added");
    for (wanted, told) in [("snowflake", "the browser brings no bridges with snowflake, but with meek, obfs4, webtunnel"), ("webtunnel", "no program in torbox's images speaks the pluggable transport webtunnel")] {
        let (code, out, said) = builtin(&[wanted, "--add"]);
        assert!(code == Some(2) && out.is_empty() && said.contains(told), "{said}");
    }
    for _ in 0..2 {
        assert_eq!(builtin(&["obfs4", "--add", "--json"]), (Some(0), format!("[\"{}\"]\n", bridge.line()), String::new()));
        assert_eq!(stage.call(&["bridge", "list"]).1, format!("1  {}\n", bridge.line()));
    }
    for name in ["meek", "meek_lite"] {
        assert_eq!(builtin(&[name, "--add"]), (Some(0), format!("{MEEK}\n"), String::new()), "a release calls it otherwise than its line");
        assert_eq!(stage.call(&["bridge", "list"]).1, format!("1  {}\n2  {MEEK}\n", bridge.line()));
    }
    assert_eq!(stage.call(&["bridge", "remove", "2"]).0, Some(0));
    drop(brought);
    page_through(stage, &Xvfb::start().unwrap(), &[], |end| end == config::OBFS4);
    assert_eq!(stage.call(&["bridge", "remove", "1"]).0, Some(0));
    for (text, told) in [(None, "brings no built-in bridges"), (Some("<html>"), "the file of built-in bridges in the image is not understood")] {
        let _brought = Brought::put(&stage.installed, text).unwrap();
        let (code, out, said) = builtin(&["obfs4", "--add"]);
        assert!(code == Some(5) && out.is_empty() && said.contains(told), "{code:?} {said}");
    }
    assert_eq!(stage.call(&["bridge", "list"]).1, "");
}

/// Bridges of a service that only an exit reaches, and answers that are none.
pub(crate) fn requests(stage: &Stage<'_>) {
    let certificates = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let moat = Moat::start(&stage.ground.net.network(), certificates.path()).unwrap();
    let torrc = stage.torrc().display().to_string();
    let url = moat.url();
    let request = |words: &[&str]| {
        let words = [&["bridge", "request", "--browser", "firefox-esr", "--torrc", &torrc, "--service", &url], words].concat();
        outcome(&mut stage.installed.command(Some(&stage.ground.net.client()), words))
    };
    let root = moat.root().display().to_string();
    let lines = [1, 2].map(|host| format!("obfs4 192.0.2.{host}:443 {} cert=x iat-mode=0", "A".repeat(40)));
    let settings = |lines: &[String]| serde_json::json!({"settings": [{"bridges": {"type": "obfs4", "source": "bridgedb", "bridge_strings": lines}}], "country": "zz"}).to_string();
    let seen = || moat.asked().into_iter().map(|Asked { peer, what, head, body }| {
        assert!(stage.ground.net.state().relays.values().any(|relay| *relay == peer), "{peer} is no exit");
        assert!(!head.contains("torbox/") && !head.contains("user-agent"), "{head}");
        (what, body)
    }).collect::<Vec<_>>();
    moat.answers(200, settings(&lines));
    let capture = Capture::start(&stage.ground.net.client()).unwrap();
    let (code, out, said) = request(&["--service-root", &root]);
    assert_eq!((code, out), (Some(0), format!("{}\n{}\n", lines[0], lines[1])), "{said}");
    assert!(said.contains(&format!("WARNING: {} is asked in the place of the Tor Project", config::MOAT_NAME)), "{said}");
    assert_eq!(seen(), [("POST /moat/circumvention/defaults".to_owned(), r#"{"transports":["meek","obfs4","snowflake"]}"#.to_owned())]);
    only_the_bridge(&capture.end().unwrap(), |end| config::RELAY_PORTS.contains(&end.1));
    assert_eq!(stage.call(&["bridge", "list"]).1, "", "what is shown is not added");
    // What torbox cannot use is left out, and told of.
    moat.answers(200, settings(&[lines[0].clone(), lines[1].replace("obfs4", "webtunnel"), format!("{} # x", lines[1])]));
    let (code, out, said) = request(&["--service-root", &root, "--country", "ZZ", "--transport", "obfs4", "--add", "--json"]);
    assert_eq!((code, out), (Some(0), format!("[\"{}\"]\n", lines[0])), "{said}");
    assert!(said.contains("left out: no program in torbox's images speaks the pluggable transport webtunnel") && said.matches("is left out").count() == 2, "{said}");
    assert_eq!(seen(), [("POST /moat/circumvention/settings".to_owned(), r#"{"country":"zz","transports":["obfs4"]}"#.to_owned())]);
    assert_eq!(stage.call(&["bridge", "list"]).1, format!("1  {}\n", lines[0]));
    assert_eq!(stage.call(&["bridge", "remove", "1"]).0, Some(0));
    let whole = settings(&lines);
    for (status, body, why) in [
        (200, r#"{"errors":[{"code":400,"detail":"no such country"}]}"#.to_owned(), "moat.torbox.test gave no bridges: it says \"no such country\""),
        (200, settings(&[lines[0].replace("obfs4", "webtunnel")]), "none of its lines is one that torbox can use"),
        (200, "<html>".to_owned(), "its answer is not understood"),
        (200, format!("{whole}{}", " ".repeat(50_000)), "its answer has more than 49152 bytes"),
        (302, whole.clone(), "it answered with the status 302"),
    ] {
        moat.answers(status, body);
        let (code, out, said) = request(&["--service-root", &root, "--country", "zz", "--add"]);
        assert!(code == Some(7) && out.is_empty() && said.contains(why), "{why}: {said}");
        assert_eq!(seen().len(), 1, "{why}");
    }
    // Who has not its certificate is asked nothing: by Mozilla's roots, or by another.
    moat.answers(200, whole);
    for words in [&[][..], &["--service-root", &moat.stranger().display().to_string()]] {
        let (code, out, said) = request(&[words, &["--add"]].concat());
        assert!(code == Some(7) && out.is_empty() && said.contains("who answers has not its certificate"), "{said}");
        assert_eq!(seen(), []);
    }
    assert_eq!(stage.call(&["bridge", "list"]).1, "");
    with_bridge(stage, &format!("{}:9", config::BRIDGE), || {
        let (code, out, said) = request(&["--service-root", &root]);
        assert!(code == Some(7) && out.is_empty() && said.contains("tor does not get to its network"), "{said}");
    });
    assert_eq!(seen(), []);
    assert!(!stage.installed.dir().join("state/boxes/bridge-request").exists(), "tor's state of the question is kept");
}

/// A page through Docker, and through Podman, to which the bridge is the only way.
pub(crate) fn obfs4_in_docker(stage: &Stage<'_>) {
    obfs4_in(stage, Kind::Docker);
}

pub(crate) fn obfs4_in_podman(stage: &Stage<'_>) {
    obfs4_in(stage, Kind::Podman);
}

fn obfs4_in(stage: &Stage<'_>, kind: Kind) {
    let bridge = stage.ground.net.start_bridge(Spoken::Obfs4).unwrap();
    with_bridge(stage, bridge.line(), || engines::pages(stage, kind, &[Via::Exit]));
}

fn only_it_is_contacted(stage: &Stage<'_>, display: &Xvfb, line: &str, is_it: impl Fn((Ipv4Addr, u16)) -> bool) {
    with_bridge(stage, line, || page_through(stage, display, &[], is_it));
}

/// A page, for which only who is meant is contacted.
fn page_through(stage: &Stage<'_>, display: &Xvfb, flags: &[&str], is_it: impl Fn((Ipv4Addr, u16)) -> bool) {
    let capture = Capture::start(&stage.ground.net.client()).unwrap();
    let page = Awaited::new(stage);
    let mut command = stage.run_command(display, "bridge", &stage.ground.net.state().named_url);
    command.args(flags);
    let running = stage.start(command, "bridge");
    let request = page.request(Via::Exit, &running);
    assert!(stage.ground.net.exit_of(&request).is_some(), "{request:?}");
    page.text(|shot| display.screenshot(shot), &running);
    assert!(!running.said().contains("not connected yet"), "{}", running.said());
    assert_eq!(running.interrupt().unwrap(), Some(0));
    only_the_bridge(&capture.end().unwrap(), is_it);
}

/// Networks that let tor out through a proxy alone, or to some ports: SOCKS5 by microsocks(1), HTTP's CONNECT by tinyproxy(8).
pub(crate) fn proxies(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let (socks, http) = (Proxy::socks(stage, 1080), Proxy::http(stage, 3128));
    for proxy in [&socks, &http] {
        page_through(stage, &display, &["--proxy", &proxy.url("secret")], |end| end == proxy.end);
    }
    let mut command = stage.run_command(&display, "bridge", "about:blank");
    command.args(["--proxy", &socks.url("wrong")]);
    let mut running = stage.start(command, "bridge");
    running.wait_until_said("the proxy on the way out makes no connection", soon(120)).unwrap();
    assert_eq!(running.interrupt().unwrap(), Some(0));
    // Every relay listens on the same port.
    let ports = config::RELAY_PORTS.map(|port| port.to_string()).join(",");
    page_through(stage, &display, &["--reachable-ports", &ports], |end| config::RELAY_PORTS.contains(&end.1));
    let capture = Capture::start(&stage.ground.net.client()).unwrap();
    let mut command = stage.run_command(&display, "bridge", "about:blank");
    command.args(["--reachable-ports", "443"]);
    let mut running = stage.start(command, "bridge");
    // tor says nothing of it.
    running.wait_until_said("torbox: not connected yet, at 0%: nothing has come from the network for a minute", soon(120)).unwrap();
    assert_eq!(running.interrupt().unwrap(), Some(0));
    let flows = capture.end().unwrap();
    assert!(!flows.iter().any(|flow| matches!(flow, Flow::Tcp { to, .. } if config::RELAY_PORTS.contains(&to.1))), "{flows:#?}");
}

/// A proxy in the network, for who has its password; dropping it ends it.
struct Proxy {
    child: Child,
    scheme: &'static str,
    end: (Ipv4Addr, u16),
    _configuration: NamedTempFile,
}

impl Proxy {
    fn socks(stage: &Stage<'_>, port: u16) -> Self {
        Self::start(Self::microsocks(stage, port), "socks5", port, NamedTempFile::new().unwrap())
    }

    /// The same, on a machine that looks the network's names up.
    fn socks_asking(stage: &Stage<'_>, port: u16) -> Self {
        Self::start(names::asking(&stage.ground.net.names(), &Self::microsocks(stage, port)), "socks5", port, NamedTempFile::new().unwrap())
    }

    fn microsocks(stage: &Stage<'_>, port: u16) -> Command {
        let mut command = stage.ground.net.network().command("microsocks");
        command.args(["-i", &config::NET_END.to_string(), "-p", &port.to_string(), "-u", "user", "-P", "secret"]);
        command
    }

    fn http(stage: &Stage<'_>, port: u16) -> Self {
        let configuration = NamedTempFile::new().unwrap();
        let ports: String = config::RELAY_PORTS.iter().map(|port| format!("ConnectPort {port}\n")).collect();
        let text = format!("Port {port}\nListen {}\nTimeout 600\nMaxClients 50\nBasicAuth user secret\n{ports}", config::NET_END);
        std::fs::write(configuration.path(), text).unwrap();
        let mut command = stage.ground.net.network().command("tinyproxy");
        command.arg("-d").arg("-c").arg(configuration.path());
        Self::start(command, "http", port, configuration)
    }

    fn start(mut command: Command, scheme: &'static str, port: u16, configuration: NamedTempFile) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, scheme, end: (config::NET_END, port), _configuration: configuration }
    }

    fn url(&self, password: &str) -> String {
        format!("{}://user:{password}@{}:{}", self.scheme, self.end.0, self.end.1)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// Has the one bridge `line` while `act` runs.
fn with_bridge(stage: &Stage<'_>, line: &str, act: impl FnOnce()) {
    let call = |words: &[&str]| {
        let (code, out, said) = stage.call(words);
        assert_eq!(code, Some(0), "{said}");
        out
    };
    call(&["bridge", "add", line]);
    let added = Added(stage);
    assert_eq!(call(&["bridge", "list"]), format!("1  {line}\n"));
    act();
    drop(added);
    assert_eq!(call(&["bridge", "list"]), "");
}

/// The one bridge, which goes whatever becomes of the test: the user's next boxes would all be behind it.
struct Added<'a>(&'a Stage<'a>);

impl Drop for Added<'_> {
    fn drop(&mut self) {
        self.0.call(&["bridge", "remove", "1"]);
    }
}

fn says_why(stage: &Stage<'_>, display: &Xvfb, line: &str, why: &str) {
    with_bridge(stage, line, || {
        let mut running = stage.open(display, "bridge", "about:blank");
        running.wait_until_said("torbox: not connected yet, at ", soon(120)).unwrap();
        running.wait_until_said(why, soon(120)).unwrap();
        let told: Vec<_> = running.said().lines().filter(|line| line.starts_with("torbox: not connected")).map(str::to_owned).collect();
        assert!(told.iter().all(|line| !line.contains("10.77.")), "whose bridge it is is not said: {told:?}");
        assert_eq!(running.interrupt().unwrap(), Some(0));
    });
}

fn only_the_bridge(flows: &BTreeSet<Flow>, bridge: impl Fn((Ipv4Addr, u16)) -> bool) {
    let own = |end: (Ipv4Addr, u16)| end.0 == config::CLIENT_END;
    let tcp = flows.iter().filter_map(|flow| if let Flow::Tcp { from, to } = flow { Some((*from, *to)) } else { None });
    // What speaks the transport is there for tor alone.
    let tcp: Vec<_> = tcp.filter(|(from, to)| !(from.0.is_loopback() && to.0.is_loopback())).collect();
    assert!(tcp.len() >= 2, "the positive control: tor is seen both ways: {flows:?}");
    let strangers: Vec<_> = tcp.iter().filter(|(from, to)| !(own(*from) && bridge(*to) || bridge(*from) && own(*to))).collect();
    assert!(strangers.is_empty(), "{strangers:#?}");
    assert!(flows.iter().all(|flow| !matches!(flow, Flow::Ip { .. })), "{flows:#?}");
}
