//! What only tor knows is collected from tor itself (canaries), together with the answers that told it. Then everything is sent to
//! the gate that a patient client could send, while pages come through it and through tor beside it. No canary may come back.
//! The positive control: the same search finds every canary in tor's own answers.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use torbox_gate::fuzz::Inputs;

use crate::control::{Control, hex};
use crate::scene::{BRIDGE, Ground, Scene, Tor, curl};

/// Another box's stream: whose, and where to.
const FOREIGN: [&str; 3] = ["foreignsite", "foreignnonce", "foreign.torbox.test"];
const BRIDGE_NAME: &str = "canarybridge";

pub(crate) fn with_a_guard(ground: &Ground) {
    let guard = ground.guard();
    let torrc = format!("EntryNodes ${guard}\nNumEntryGuards 1\nExcludeExitNodes ${guard}\n");
    let scene = Scene::with_control(ground, &common(&torrc));
    let (canaries, tor) = collect(&scene, &guard);
    attack(&scene, &canaries, tor, &guard, seconds(20));
}

pub(crate) fn with_a_bridge(ground: &Ground) {
    let home = tempfile::tempdir().unwrap();
    let lines = format!(
        "SocksPort 0\nNickname {BRIDGE_NAME}\nAddress {BRIDGE}\nORPort {BRIDGE}:5000\nBridgeRelay 1\nExitRelay 0\n\
         PublishServerDescriptor 0\nContactInfo none\nOutboundBindAddress {BRIDGE}\n"
    );
    let bridge = Tor::start(ground, &ground.net.network(), home.path(), &lines);
    bridge.wait_for("Bootstrapped 100%");
    let text = fs::read_to_string(home.path().join("data/fingerprint")).unwrap();
    let fingerprint = text.split_whitespace().nth(1).unwrap();
    let scene = Scene::with_control(ground, &common(&format!("UseBridges 1\nBridge {BRIDGE}:5000 {fingerprint}\n")));
    let (mut canaries, mut tor) = collect(&scene, fingerprint);
    assert!(tor.ask("GETCONF Bridge").contains(fingerprint));
    canaries.add("bridge line", &format!("{BRIDGE}:5000"));
    canaries.add("bridge's name", BRIDGE_NAME);
    attack(&scene, &canaries, tor, fingerprint, seconds(5));
}

/// One guard, so that it is no relay's neighbour but the entry: the second leg of a conflux set would need another.
fn common(torrc: &str) -> String {
    format!("ConfluxEnabled 0\nMapAddress {} 10.77.0.2\n{torrc}", FOREIGN[2])
}

/// How long generated sessions are sent, unless a number of them is asked for.
fn seconds(usual: u64) -> Duration {
    Duration::from_secs(std::env::var("TORBOX_TAINT_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual))
}

/// Words that must not come out, in small letters.
#[derive(Default)]
struct Canaries(Vec<(String, Vec<u8>)>);

impl Canaries {
    fn add(&mut self, what: &str, text: &str) {
        self.add_bytes(what, text.as_bytes());
    }

    fn add_bytes(&mut self, what: &str, bytes: &[u8]) {
        assert!(bytes.len() >= 4, "{what} is too short to be told from anything: {bytes:?}");
        self.0.push((what.to_owned(), bytes.to_ascii_lowercase()));
    }

    /// What of it is in `output`.
    fn found_in(&self, output: &[u8]) -> Vec<&str> {
        let output = output.to_ascii_lowercase();
        let inside = |canary: &[u8]| output.windows(canary.len()).any(|window| window == canary);
        self.0.iter().filter(|(_, canary)| inside(canary)).map(|(what, _)| what.as_str()).collect()
    }

    /// What was sent, by chance, and comes back told nothing.
    fn none_in(&self, output: &[u8], sent: &[u8]) {
        let known = self.found_in(sent);
        let found: Vec<_> = self.found_in(output).into_iter().filter(|what| !known.contains(what)).collect();
        assert!(found.is_empty(), "{found:?} came out in\n{}\nafter\n{}", String::from_utf8_lossy(output), sent.escape_ascii());
    }
}

/// Everything that tor tells its owner of the entry and of itself; and that connection, with all that was heard on it.
fn collect(scene: &Scene<'_>, entry: &str) -> (Canaries, Control) {
    let mut canaries = Canaries::default();
    let mut tor = scene.directly();
    assert_eq!(tor.ask("SETEVENTS CIRC STREAM"), "250 OK\r\n");
    tors_own(scene, &mut tor, &mut canaries);
    the_entry(&mut tor, entry, &mut canaries);
    foreign_keys(&mut tor, &mut canaries);
    foreign_stream(scene, &mut tor, &mut canaries);
    own_stream(scene, &mut tor, &mut canaries);
    (canaries, tor)
}

fn tors_own(scene: &Scene<'_>, tor: &mut Control, canaries: &mut Canaries) {
    for option in ["DataDirectory", "ControlSocket", "CookieAuthFile", "SocksPort", "GeoIPFile", "ClientOnionAuthDir"] {
        let reply = tor.ask(&format!("GETCONF {option}"));
        let path = reply.split_once('/').unwrap_or_else(|| panic!("{option}: {reply}")).1;
        canaries.add(option, path.split([' ', '\r', '"']).next().unwrap());
    }
    canaries.add("the client's address", tor.ask("GETCONF OutboundBindAddress").trim_end().split_once('=').unwrap().1);
    canaries.add("version", tor.ask("GETINFO version").split(['=', ' ', '\r']).nth(1).unwrap());
    canaries.add("configuration file", tor.ask("GETINFO config-file").split(['=', '\r']).nth(1).unwrap());
    // tor says where its cookie is; whoever reads that says this.
    let cookie = hex(&fs::read(scene.path("run/tor/cookie")).unwrap());
    tor.heard.push_str(&cookie);
    canaries.add("cookie", &cookie);
}

fn the_entry(tor: &mut Control, entry: &str, canaries: &mut Canaries) {
    assert!(tor.ask("GETINFO entry-guards").contains(entry), "tor took another entry");
    let circuits = tor.ask("GETINFO circuit-status");
    let long = circuits.lines().filter(|line| line.matches('$').count() >= 3);
    assert!(long.clone().count() > 0 && long.clone().all(|line| line.matches(entry).count() == 1 && line.contains(&format!(" ${entry}"))), "{circuits}");
    canaries.add("entry's fingerprint", entry);
    let address = match router_status(tor, entry) {
        Some(words) => {
            canaries.add("entry's name", &words[0]);
            canaries.add("entry's identity in base64", &words[1]);
            canaries.add("entry's descriptor", &words[2]);
            words[5].clone()
        }
        // A bridge is not in the consensus.
        None => BRIDGE.to_string(),
    };
    canaries.add("entry's address", &address);
    // As SOCKS would write it; tor has no occasion to.
    let address: Ipv4Addr = address.parse().unwrap();
    tor.heard.push_str(&String::from_utf8_lossy(&address.octets()));
    canaries.add_bytes("entry's address in binary", &address.octets());
    let descriptor = [tor.ask(&format!("GETINFO md/id/{entry}")), tor.ask(&format!("GETINFO desc/id/{entry}"))].concat();
    for word in ["ntor-onion-key ", "id ed25519 ", "master-key-ed25519 "] {
        if let Some(key) = descriptor.lines().find_map(|line| line.strip_prefix(word)) {
            canaries.add(word, key.trim_end_matches('='));
        }
    }
}

/// The words of the relay's `r` line.
fn router_status(tor: &mut Control, relay: &str) -> Option<Vec<String>> {
    let status = tor.ask(&format!("GETINFO ns/id/{relay}"));
    status.lines().find_map(|line| line.strip_prefix("r ")).map(|line| line.split(' ').map(str::to_owned).collect())
}

/// Keys of the user's other runs, and an onion service that is somebody else's.
fn foreign_keys(tor: &mut Control, canaries: &mut Canaries) {
    let service = tor.ask("ADD_ONION NEW:ED25519-V3 Port=80");
    let field = |name: &str| service.lines().find_map(|line| line.strip_prefix(&format!("250-{name}="))).unwrap_or_else(|| panic!("{service}"));
    let (id, key) = (field("ServiceID"), "x25519:8OvmZWJVKvW7mMRDgLRZK5xPgVxZZLz0lvVQl0wXhXg=");
    canaries.add("onion service", id);
    canaries.add("onion service's key", field("PrivateKey").trim_start_matches("ED25519-V3:"));
    let added = tor.ask(&format!("ONION_CLIENT_AUTH_ADD {id} {key} Flags=Permanent"));
    assert!(added.starts_with("25"), "{added}");
    assert!(tor.ask("ONION_CLIENT_AUTH_VIEW").contains(key));
    canaries.add("another run's key", key.trim_end_matches('='));
}

fn foreign_stream(scene: &Scene<'_>, tor: &mut Control, canaries: &mut Canaries) {
    fetch_foreign(&scene.path("run/tor/socks")).unwrap();
    let event = tor.event(Duration::from_secs(20), |event| FOREIGN[..2].iter().all(|word| event.contains(word))).expect("tor tells of the stream");
    FOREIGN.iter().for_each(|word| canaries.add("another box's stream", word));
    assert!(event.contains("650 STREAM "), "{event}");
}

fn fetch_foreign(tor: &Path) -> Result<String, (Option<i32>, String)> {
    let [user, password, host] = FOREIGN;
    curl(tor, &format!("http://{host}/?foreign"), &["--proxy-user", &format!("{user}:{password}")])
}

/// This box's own stream: what tor sees of its credentials is more than what the browser sent.
fn own_stream(scene: &Scene<'_>, tor: &mut Control, canaries: &mut Canaries) {
    scene.page(&scene.ground.net.state().named_url, &["--proxy-user", "site:own"]);
    let event = tor.event(Duration::from_secs(20), |event| event.contains("SOCKS_PASSWORD=\"own~")).expect("tor tells of the stream");
    let tag = event.split_once("own~").unwrap().1.split('.').next().unwrap();
    canaries.add("the box's tag", tag);
}

fn fetch(scene: &Scene<'_>, password: &str) -> Result<String, (Option<i32>, String)> {
    scene.curl(&scene.ground.net.state().named_url, &["--proxy-user", &format!("site:{password}")])
}

/// Says that it is over, also when a test fails: threads wait for it.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn attack(scene: &Scene<'_>, canaries: &Canaries, mut tor: Control, entry: &str, patience: Duration) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = AtEnd(&over);
        let pages = scope.spawn(|| keep_busy(scene, &over));
        let listener = scope.spawn(|| listen(scene, canaries, &over));
        everything_allowed(scene, canaries);
        oracles(scene, &mut tor, entry);
        corpus(scene, canaries);
        let sessions = generated(scene, canaries, patience);
        socks_side(scene, canaries);
        drop(end);
        let (pages, events) = (pages.join().unwrap(), listener.join().unwrap());
        eprintln!("{} canaries, {sessions} generated sessions, {pages} pages, {events} events", canaries.0.len());
        assert!(pages > 3 && events > 3 && sessions > 1000, "{pages} pages, {events} events, {sessions} sessions");
    });
    let found = canaries.found_in(tor.heard.as_bytes());
    let missed: Vec<_> = canaries.0.iter().map(|(what, _)| what.as_str()).filter(|what| !found.contains(what)).collect();
    assert!(missed.is_empty(), "the search does not find {missed:?} in tor's own answers");
}

/// Pages through the gate, which the circuit display shows, and past it, which it must not.
fn keep_busy(scene: &Scene<'_>, over: &AtomicBool) -> usize {
    let mut pages = 0;
    while !over.load(Ordering::Relaxed) {
        pages += usize::from(fetch(scene, &format!("nonce{pages}")).is_ok());
        pages += usize::from(scene.curl(&scene.ground.net.state().onion_url, &["--proxy-user", "onion:nonce", "--max-time", "5"]).is_ok());
        pages += usize::from(fetch_foreign(&scene.path("run/tor/socks")).is_ok());
    }
    pages
}

/// A client that hears every event and asks again and again for what is shown.
fn listen(scene: &Scene<'_>, canaries: &Canaries, over: &AtomicBool) -> usize {
    let mut client = scene.client();
    client.ask("SETEVENTS CIRC STREAM");
    let mut shown = 0;
    while !over.load(Ordering::Relaxed) {
        let status = client.ask("GETINFO circuit-status");
        let relays: Vec<_> = status.split(['$', ',', ' ']).filter(|word| word.len() == 40).map(str::to_owned).collect();
        for relay in relays {
            client.ask(&format!("GETINFO ns/id/{relay}"));
        }
        shown += usize::from(client.event(Duration::from_millis(100), |_| true).is_some());
        canaries.none_in(client.heard.as_bytes(), b"a listener");
        client.heard.clear();
    }
    shown
}

/// Every rule of the policy, by itself and with arguments.
fn everything_allowed(scene: &Scene<'_>, canaries: &Canaries) {
    use torbox_gate::policy::control::{COMMANDS, EVENTS, GETCONF, GETINFO, SIGNALS};
    let mut client = scene.client();
    let with = |command: &str, rules: &[torbox_gate::policy::Worded], argument: &str| -> Vec<String> {
        rules.iter().map(|rule| format!("{command} {}{argument}", rule.id)).collect()
    };
    let alone = COMMANDS.iter().map(|rule| rule.id.to_owned()).filter(|id| !["QUIT", "AUTHENTICATE"].contains(&id.as_str()));
    let lines = alone
        .chain(with("GETINFO", GETINFO, ""))
        .chain(with("GETINFO", GETINFO, "0000000000000000000000000000000000000000"))
        .chain(with("GETINFO", GETINFO, "198.51.100.1"))
        .chain(with("GETCONF", GETCONF, ""))
        .chain(with("SETEVENTS", EVENTS, ""))
        .chain(with("SIGNAL", SIGNALS, ""))
        .chain(["PROTOCOLINFO 1".to_owned(), "SETEVENTS CIRC STREAM".to_owned()]);
    for line in lines {
        client.ask(&line);
        canaries.none_in(client.heard.as_bytes(), line.as_bytes());
    }
}

/// Who guesses what is hidden learns nothing from the answer: it is the one for what does not exist, but for the guess itself.
fn oracles(scene: &Scene<'_>, tor: &mut Control, entry: &str) {
    let mut client = scene.client();
    let stored = tor.ask("ONION_CLIENT_AUTH_VIEW");
    let stored = stored.lines().find_map(|line| line.strip_prefix("250-CLIENT ")).unwrap_or_else(|| panic!("{stored}"));
    let known = stored.split(' ').next().unwrap().to_owned();
    let nobody = "0123456789ABCDEF0123456789ABCDEF01234567";
    let unknown = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd";
    let address = router_status(tor, entry).map_or_else(|| BRIDGE.to_string(), |words| words[5].clone());
    for (command, guess, other) in [
        ("GETINFO ns/id/", entry, nobody),
        ("GETINFO ip-to-country/", &address, "198.51.100.1"),
        ("ONION_CLIENT_AUTH_VIEW ", &known, unknown),
        ("ONION_CLIENT_AUTH_REMOVE ", &known, unknown),
    ] {
        let [right, wrong] = [guess, other].map(|word| client.ask(&format!("{command}{word}")).replace(word, "GUESS"));
        assert_eq!(right, wrong, "{command}");
    }
    assert!(tor.ask("ONION_CLIENT_AUTH_VIEW").contains(&known), "another run's key is still there");
}

/// The corpus of the fuzz targets.
fn corpus(scene: &Scene<'_>, canaries: &Canaries) {
    let files = ["taint", "control_command", "control_reply", "control_event"].iter().flat_map(|target| seeds(target));
    let sent = files.map(|file| session(scene, canaries, &fs::read(file).unwrap())).count();
    assert!(sent > 20, "{sent} files");
}

fn seeds(target: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/gate/fuzz/corpus").join(target);
    fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Sessions for so long, or so many as `TORBOX_TAINT_SESSIONS` says, on three connections at once.
fn generated(scene: &Scene<'_>, canaries: &Canaries, patience: Duration) -> u64 {
    let most = std::env::var("TORBOX_TAINT_SESSIONS").ok().and_then(|text| text.parse::<u64>().ok());
    let (until, sent) = (Instant::now() + patience, AtomicU64::new(0));
    std::thread::scope(|scope| {
        for seed in 1..=3 {
            let sent = &sent;
            scope.spawn(move || {
                let mut inputs = Inputs::new(0x5eed_0100 + seed);
                while most.map_or_else(|| Instant::now() < until, |most| sent.load(Ordering::Relaxed) < most) {
                    session(scene, canaries, &inputs.session());
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    sent.into_inner()
}

/// Authenticates, sends, and reads until the gate closes.
fn session(scene: &Scene<'_>, canaries: &Canaries, lines: &[u8]) {
    let hello = format!("authenticate {}\r\nSETEVENTS CIRC STREAM\r\n", hex(&scene.secret()));
    let sent = [hello.as_bytes(), lines, b"\r\nQUIT\r\n"].concat();
    canaries.none_in(&exchange(&scene.control(), &sent, Duration::from_secs(30)), &sent);
}

/// What comes back until the other side closes or says nothing for a while.
fn exchange(socket: &Path, sent: &[u8], patience: Duration) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    // It may close before it has read all.
    let _closed = stream.write_all(sent);
    let (mut output, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => output.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return output,
        }
    }
}

/// The corpus and generated bytes on the SOCKS side; a request that passes may wait for tor, so not for long.
fn socks_side(scene: &Scene<'_>, canaries: &Canaries) {
    let mut inputs = Inputs::new(0x5eed_0200);
    let files = seeds("socks_request").into_iter().map(|file| fs::read(file).unwrap());
    let greeted = |bytes: Vec<u8>| [b"\x05\x01\x02\x01\x04site\x05nonce", &bytes[..]].concat();
    for sent in files.chain((0..200).map(|_| inputs.bytes())).flat_map(|bytes| [bytes.clone(), greeted(bytes)]) {
        canaries.none_in(&exchange(&scene.socks(), &sent, Duration::from_millis(10)), &sent);
    }
}
