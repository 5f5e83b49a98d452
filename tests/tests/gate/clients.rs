//! Programs that others wrote: curl and torsocks on the SOCKS side, stem and nyx on the control side.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use torbox_tests::testnet::Via;
use torbox_tests::testnet::daemon::stop;
use torbox_tests::testnet::web::PAGE_TEXT;
use torbox_tests::{process, wait};

use crate::scene::{Ground, PUBLIC_NAME, Scene};

/// stem and nyx send a password, which is text.
const TEXT_SECRET: &str = "a secret of this box";
const SITE: [&str; 2] = ["--proxy-user", "site:nonce"];

/// The README's commands, one after the other; nothing else of torbox is there.
pub(crate) fn alone(ground: &Ground) {
    let page = |scene: &Scene<'_>| scene.page(&ground.net.state().named_url, &SITE);
    let mut scene = Scene::without_control(ground);
    assert!(page(&scene).contains(PAGE_TEXT));
    assert!(!scene.control().exists());
    assert_eq!(scene.end_gate(), Some(0), "SIGTERM");
    let mut scene = Scene::with_control(ground, "");
    assert!(page(&scene).contains(PAGE_TEXT));
    assert!(scene.client().ask("GETINFO version").starts_with("250-version="));
    assert_eq!(admin(&scene, "new-identity"), "ok\n");
    assert!(admin(&scene, "status").contains(" identity=1 "));
    assert_eq!(scene.end_gate(), Some(0), "the lifeline is cut");
}

fn admin(scene: &Scene<'_>, word: &str) -> String {
    let mut socat = Command::new("socat");
    socat.args(["-t", "5", "-"]).arg(format!("UNIX-CONNECT:{}", scene.path("run/gate/admin").display()));
    String::from_utf8(process::output_with(&mut socat, format!("{word}\n").as_bytes()).unwrap()).unwrap()
}

/// What is asked with which options, curl's exit code, and the number of the SOCKS reply or another word of what it says.
const REFUSED: &[(&str, &[&str], &str)] = &[
    ("http://page.torbox.test/", &[], "No authentication method was acceptable"),
    ("http://10.77.0.2/", &SITE, "(2)"),
    ("http://127.0.0.1/", &SITE, "(2)"),
    ("http://[::1]/", &SITE, "(2)"),
    ("http://[::ffff:10.77.0.2]/", &SITE, "(2)"),
    ("http://169.254.169.254/", &SITE, "(2)"),
    ("http://printer.local/", &SITE, "(2)"),
    ("http://localhost/", &SITE, "(2)"),
    // tor's own word for a malformed onion address.
    ("http://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaad.onion/", &SITE, "(246)"),
];

pub(crate) fn socks(ground: &Ground) {
    let scene = Scene::with_control(ground, "");
    let state = ground.net.state();
    for (url, via) in [(&state.named_url, Via::Exit), (&state.onion_url, Via::Onion)] {
        let mark = ground.net.web_log().mark();
        let page = scene.page(&format!("{url}?curl"), &SITE);
        assert!(page.contains(PAGE_TEXT));
        let request = ground.net.web_log().since(mark).unwrap().into_iter().find(|r| r.path == "/?curl" && r.via == via).unwrap();
        assert_eq!(ground.net.exit_of(&request).is_some(), via == Via::Exit, "{request:?}");
    }
    for (url, options, says) in REFUSED {
        let (code, said) = scene.curl(url, options).unwrap_err();
        assert!(code == Some(97) && said.contains(says), "{url}: {code:?} {said}");
    }
    let other_proxies = ["socks4", "socks4a", "http"].map(|scheme| format!("{scheme}://localhost{}", scene.socks().display()));
    for proxy in other_proxies {
        let refused = Command::new("curl").args(["--silent", "--max-time", "10", "--proxy", &proxy, &state.named_url]).output().unwrap();
        assert!(!refused.status.success(), "{proxy}");
    }
    assert!(scene.curl(&state.named_url, &SITE).unwrap().contains(PAGE_TEXT), "after all of that");
    torsocks(&scene);
}

/// torsocks knows no AF_UNIX socket: socat stands before the gate. It looks names up (RESOLVE) and connects to numbers.
fn torsocks(scene: &Scene<'_>) {
    let place = scene.ground.net.client();
    let mut door = place.command("socat");
    door.arg("TCP-LISTEN:9050,bind=127.0.0.1,fork,reuseaddr").arg(format!("UNIX-CONNECT:{}", scene.socks().display()));
    let mut door = door.spawn().unwrap();
    let wrapped = |url: &str, user: &[&str]| {
        let mut torsocks = place.command("torsocks");
        torsocks.args(user).args(["curl", "--silent", "--show-error", "--fail", "--max-time", "40", url]);
        let done = torsocks.output().unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let user = ["--user", "site", "--pass", "nonce"];
    // As for curl, a circuit may fail once; the door may not listen yet.
    let comes = |url: &str| {
        let mut last = None;
        let fetch = || last.insert(wrapped(url, &user)).0.then_some(());
        wait::retry(Duration::from_millis(200), Instant::now() + Duration::from_secs(60), fetch);
        assert!(last.as_ref().is_some_and(|(came, page)| *came && page.contains(PAGE_TEXT)), "{url}: {last:?}");
    };
    let public = format!("http://{PUBLIC_NAME}/");
    comes(&public);
    comes(&scene.ground.net.state().onion_url);
    for (url, options) in [("http://10.77.0.2/", &user[..]), (scene.ground.net.state().named_url.as_str(), &user)] {
        let (came, said) = wrapped(url, options);
        assert!(!came && said.contains("Connection not allowed by ruleset"), "{url}: {said}");
    }
    assert!(!wrapped(&public, &[]).0, "without credentials");
    stop(&mut door);
}

pub(crate) fn control(ground: &Ground) {
    let scene = Scene::with_secret(ground, TEXT_SECRET.as_bytes());
    let mut stem = Command::new("/usr/bin/python3");
    stem.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/with_stem.py")]).arg(scene.control()).arg(scene.socks());
    stem.arg(&ground.net.state().named_url).arg(TEXT_SECRET);
    let said = String::from_utf8(process::output(&mut stem).unwrap()).unwrap();
    assert_eq!(said, "ok\n");
    scene.page(&ground.net.state().named_url, &SITE);
    nyx(&scene);
}

/// nyx in a terminal: it draws the gate's version and the circuits, and ends by its key.
fn nyx(scene: &Scene<'_>) {
    let (settings, screen) = (scene.path("nyxrc"), scene.path("nyx.out"));
    std::fs::write(&settings, format!("password {TEXT_SECRET}\n")).unwrap();
    let command = format!("nyx --socket {} --config {}", scene.control().display(), settings.display());
    let mut nyx = Command::new("script");
    nyx.args(["--quiet", "--flush", "--return", "--command", &command, "/dev/null"]);
    nyx.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm").env("HOME", scene.path("")).env("COLUMNS", "120").env("LINES", "40");
    let mut nyx = nyx.stdin(Stdio::piped()).stdout(File::create(&screen).unwrap()).spawn().unwrap();
    let mut keys = nyx.stdin.take().unwrap();
    let drawn = |word: &str| {
        let seen = || Ok(wait::text_so_far(&screen).contains(word).then_some(()));
        let came = wait::on_change(&screen, Instant::now() + Duration::from_secs(20), seen).unwrap();
        assert!(came.is_some(), "nyx does not draw {word:?}:\n{}", wait::text_so_far(&screen));
    };
    drawn("Tor 0.4.9.0");
    // The key that terminals send for "right": the next page.
    keys.write_all(b"\x1bOC").unwrap();
    drawn("Circuit");
    keys.write_all(b"qq").unwrap();
    let ended = wait::retry(Duration::from_millis(50), Instant::now() + Duration::from_secs(10), || nyx.try_wait().unwrap());
    stop(&mut nyx);
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", wait::text_so_far(&screen));
    assert!(!wait::text_so_far(&screen).contains("Traceback"), "{}", wait::text_so_far(&screen));
}
