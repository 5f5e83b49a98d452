//! What Tor Browser's tor-launcher (TorControlPort.sys.mjs, TorProvider.sys.mjs) says to a tor that is not its own, in its order
//! and spelling, and what it reads from the answers. Each reader here takes exactly what the code of that name there takes:
//!
//! * a message ends with a line `NNN `, whose code is that of its first line; only a first line `NNN+...=` opens a data block;
//! * a simple command wants `250 OK`; GETINFO wants `250-KEY=VALUE`, or `250+KEY=`, the value, `.`, `250 OK`, KEY as asked;
//! * GETCONF takes `250 KEY` for unset; ONION_CLIENT_AUTH_ADD wants 250 to 252, REMOVE 250 or 251;
//! * a relay's `r` line has eight words, the sixth is its address; countries are compared with `??`;
//! * a circuit is `ID BUILT $40HEX,...`; a stream is `ID SUCCEEDED ID` with quoted SOCKS_USERNAME and SOCKS_PASSWORD.

use std::collections::BTreeMap;
use std::time::Duration;

use torbox_tests::testnet::Via;

use crate::control::{Control, hex};
use crate::scene::{Ground, Scene};

const PATIENCE: Duration = Duration::from_secs(20);
const HIDDEN: &str = "0000000000000000000000000000000000000000";
const ADDRESS: &str = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

pub(crate) fn replay(ground: &Ground) {
    let scene = Scene::with_control(ground, "");
    authentication(&scene);
    let mut browser = scene.client();
    every_command(&mut browser);
    let circuit = page_and_its_circuit(&scene, &mut browser);
    circuit_display(&scene, &mut browser, &circuit);
    onion_keys(&scene, &mut browser);
    refusals(&mut browser);
    new_identity(&scene, &mut browser);
}

/// `TOR_CONTROL_COOKIE_AUTH_FILE`: the bytes of the file, all of them, in hexadecimal digits.
fn authentication(scene: &Scene<'_>) {
    let secret = scene.secret();
    assert_eq!(secret.len(), 32);
    for wrong in [&b""[..], &secret[..31], &[&secret[..], b"\n"].concat(), secret.trim_ascii_end()] {
        let mut stranger = Control::connect(&scene.control());
        assert_eq!(stranger.ask(&format!("authenticate {}", hex(wrong))), "515 Authentication failed\r\n");
        assert_eq!(stranger.event(PATIENCE, |_| true), None, "the connection has ended");
    }
    let mut browser = Control::connect(&scene.control());
    assert!(is_simple_ok(&browser.ask(&format!("authenticate {}", hex(&secret).to_uppercase()))));
}

/// What a reader makes of a reply; `None` where tor-launcher would throw.
type Reader = fn(&str, &str) -> Option<String>;

/// Commands that do not depend on circuits: the line, its reader and what that wants, and what is read.
const COMMANDS: &[(&str, Reader, &str, &str)] = &[
    ("SETEVENTS CIRC STREAM", simple, "", ""),
    ("GETINFO status/bootstrap-phase", get_info, "status/bootstrap-phase", "NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY=\"Done\""),
    ("GETINFO circuit-status", get_info, "circuit-status", ""),
    ("GETCONF BRIDGE", get_conf, "BRIDGE", ""),
    ("GETCONF ClientTransportPlugin", get_conf, "ClientTransportPlugin", ""),
    ("onion_client_auth_view", keys, "", ""),
    ("GETINFO ip-to-country/203.0.113.77", get_info, "ip-to-country/203.0.113.77", "??"),
    ("GETINFO ip-to-country/0.0.0.0", get_info, "ip-to-country/0.0.0.0", "??"),
    // Where it takes tor for its own.
    ("SETEVENTS CIRC STREAM STATUS_CLIENT NOTICE WARN ERR", simple, "", ""),
    ("SETEVENTS CIRC STREAM", simple, "", ""),
];

fn every_command(browser: &mut Control) {
    for (line, reader, wants, read) in COMMANDS {
        let reply = browser.ask(line);
        assert!(is_framed(&reply), "{line}: {reply}");
        assert_eq!(reader(&reply, wants).as_deref(), Some(*read), "{line}: {reply}");
    }
}

/// A page through the gate, and the circuit that tor-launcher takes its stream to use.
fn page_and_its_circuit(scene: &Scene<'_>, browser: &mut Control) -> Vec<String> {
    // Every kind of byte that a quoted string has to escape.
    let (path, site, nonce) = ("/?launcher", "first party.example", "no\"nce\\\u{e9}");
    let mark = scene.ground.net.web_log().mark();
    let circuit = load(scene, browser, path, &format!("{site}:{nonce}"));
    assert_eq!((circuit.site.as_str(), circuit.nonce.starts_with(nonce)), (site, true));
    let requests = scene.ground.net.web_log().since(mark).unwrap();
    let request = requests.iter().rfind(|request| request.path == path).unwrap();
    assert_eq!(request.via, Via::Exit);
    let exit = node_addresses(browser, circuit.nodes.last().unwrap());
    assert_eq!(exit, Some(request.peer.to_string()), "the last relay shown is the one that the server saw");
    circuit.nodes
}

/// A stream as the circuit display knows it.
struct Display {
    id: String,
    nodes: Vec<String>,
    site: String,
    nonce: String,
}

/// Loads a page, and takes note of circuits and streams as tor-launcher does. A circuit may fail: the next try has another nonce.
fn load(scene: &Scene<'_>, browser: &mut Control, path: &str, credentials: &str) -> Display {
    let url = scene.ground.net.state().named_url.trim_end_matches('/').to_owned() + path;
    let mut circuits = BTreeMap::new();
    for attempt in 0..4 {
        let came = scene.curl(&url, &["--max-time", "15", "--proxy-user", &format!("{credentials}{attempt}")]).is_ok();
        let seen = browser.event(if came { PATIENCE } else { Duration::from_millis(200) }, |event| {
            circuits.extend(circuit_built(event));
            stream_succeeded(event).is_some_and(|(_, _, nonce)| nonce.ends_with(&attempt.to_string()))
        });
        if let (true, Some(event)) = (came, seen) {
            let (id, site, nonce) = stream_succeeded(&event).unwrap();
            let nodes = circuits.remove(&id).unwrap_or_else(|| panic!("a stream of an unknown circuit: {event}"));
            return Display { id, nodes, site, nonce };
        }
    }
    panic!("{url} does not come");
}

/// What the circuit display asks for each relay: bridges first, then addresses, then the country.
fn circuit_display(scene: &Scene<'_>, browser: &mut Control, circuit: &[String]) {
    assert_eq!((circuit.len(), circuit[0].as_str()), (3, HIDDEN));
    let mut shown = Vec::new();
    for node in circuit {
        assert_eq!(get_conf(&browser.ask("GETCONF BRIDGE"), "BRIDGE").as_deref(), Some(""));
        let address = node_addresses(browser, node).unwrap();
        let key = format!("ip-to-country/{address}");
        shown.push((get_info(&browser.ask(&format!("GETINFO {key}")), &key).unwrap(), address));
    }
    assert_eq!(shown[0], ("??".to_owned(), "0.0.0.0".to_owned()), "the entry");
    assert!(shown[1..].iter().all(|(country, address)| country == "ch" && address.starts_with("10.77.0.")), "{shown:?}");
    let status = get_info(&browser.ask("GETINFO circuit-status"), "circuit-status").unwrap();
    assert!(status.lines().any(|line| circuit_built(line).is_some_and(|(_, nodes)| nodes == circuit)), "{status}");
    // The positive control: tor itself tells of the entry, and of circuits that are not this box's.
    let real = scene.directly().ask("GETINFO circuit-status");
    let real: Vec<_> = real.lines().filter_map(circuit_built).collect();
    let same = real.iter().find(|(_, nodes)| nodes.len() == 3 && nodes[1..] == circuit[1..]).expect("tor knows the circuit");
    assert_ne!(same.1[0], HIDDEN);
    assert!(real.len() > status.lines().count(), "{real:?}");
}

fn onion_keys(scene: &Scene<'_>, browser: &mut Control) {
    let code = |reply: String| reply[..3].to_owned();
    let held = || scene.directly().ask("ONION_CLIENT_AUTH_VIEW").contains(&ADDRESS[..20]);
    assert_eq!(code(browser.ask(&format!("onion_client_auth_add {ADDRESS} x25519:{KEY} Flags=Permanent"))), "250");
    assert!(held(), "tor has the key");
    assert_eq!(keys(&browser.ask("onion_client_auth_view"), "").unwrap(), format!("{ADDRESS} x25519 {KEY}"));
    assert_eq!(code(browser.ask(&format!("onion_client_auth_add {ADDRESS} x25519:{KEY}"))), "251");
    assert_eq!(code(browser.ask(&format!("onion_client_auth_remove {ADDRESS}"))), "250");
    assert!(!held());
    assert_eq!(code(browser.ask(&format!("onion_client_auth_remove {ADDRESS}"))), "251");
    assert_eq!(code(browser.ask("onion_client_auth_add not-an-address x25519:AAAA")), "512", "an error that it reports");
}

/// What it says only to a tor of its own, or after a bridge without a fingerprint: an error with a code, and the connection goes on.
fn refusals(browser: &mut Control) {
    for (line, code) in [
        ("TAKEOWNERSHIP", "510"),
        ("RESETCONF __OwningControllerProcess", "510"),
        ("SETCONF DisableNetwork=0", "510"),
        ("SETCONF UseBridges=1 Bridge=\"obfs4 192.0.2.1:80\"", "510"),
        ("SAVECONF", "510"),
        ("GETINFO ns/purpose/bridge", "552"),
        ("GETINFO ns/id/0123456789012345678901234567890123456789", "552"),
    ] {
        let reply = browser.ask(line);
        assert!(is_framed(&reply) && reply.starts_with(&format!("{code} ")), "{line}: {reply}");
        assert!(simple(&browser.ask("SETEVENTS CIRC STREAM"), "").is_some(), "after {line}");
    }
}

/// New identity while events come: the circuits of the old one are not used again.
fn new_identity(scene: &Scene<'_>, browser: &mut Control) {
    let same = "site:same";
    let first = load(scene, browser, "/?before", same);
    assert_eq!(&browser.ask(&format!("onion_client_auth_add {ADDRESS} x25519:{KEY}"))[..3], "250");
    assert!(is_simple_ok(&browser.ask("SIGNAL NEWNYM")));
    assert_eq!(keys(&browser.ask("onion_client_auth_view"), "").unwrap(), "");
    let forgotten = || (!scene.directly().ask("ONION_CLIENT_AUTH_VIEW").contains(&ADDRESS[..20])).then_some(());
    let in_time = torbox_tests::wait::retry(Duration::from_millis(200), std::time::Instant::now() + PATIENCE, forgotten);
    assert!(in_time.is_some(), "tor has forgotten the key as well");
    assert_ne!(load(scene, browser, "/?after", same).id, first.id, "the same credentials, another circuit");
}

/// A message as tor-launcher cuts them.
fn is_framed(reply: &str) -> bool {
    let lines: Vec<_> = reply.strip_suffix("\r\n").unwrap_or_default().split("\r\n").collect();
    let opens_data = |line: &str| line.as_bytes().get(3) == Some(&b'+');
    let ends = |line: &&&str| line.len() > 3 && line.as_bytes()[..3].iter().all(u8::is_ascii_digit) && line.as_bytes()[3] == b' ';
    let after_data = if opens_data(lines[0]) { lines.iter().position(|line| *line == ".").unwrap_or(lines.len()) } else { 0 };
    let first_end = lines.iter().enumerate().skip(after_data).find(|(_, line)| ends(line)).map(|(at, _)| at);
    first_end == Some(lines.len() - 1) && lines[0][..3] == lines[lines.len() - 1][..3] && !lines[1..after_data.max(1)].iter().any(|line| line.is_empty())
}

fn is_simple_ok(reply: &str) -> bool {
    reply.trim_end().eq_ignore_ascii_case("250 OK")
}

fn simple(reply: &str, _: &str) -> Option<String> {
    is_simple_ok(reply).then(String::new)
}

fn get_info(reply: &str, key: &str) -> Option<String> {
    if let Some(line) = reply.lines().find_map(|line| line.strip_prefix("250-")) {
        let (found, value) = line.split_once('=')?;
        return (found == key).then(|| value.to_owned());
    }
    let value = reply.strip_prefix(&format!("250+{key}=\r\n"))?;
    Some(value.strip_suffix("\r\n.\r\n250 OK\r\n")?.to_owned())
}

fn get_conf(reply: &str, key: &str) -> Option<String> {
    let lines = || reply.lines().filter_map(|line| line.strip_prefix("250").and_then(|rest| rest.strip_prefix(['-', ' '])));
    if lines().any(|line| line.eq_ignore_ascii_case(key)) {
        return Some(String::new());
    }
    lines().find_map(|line| line.split_once('=').filter(|(found, _)| found.eq_ignore_ascii_case(key))).map(|(_, value)| value.to_owned())
}

/// Address, kind and key of each line.
fn keys(reply: &str, _: &str) -> Option<String> {
    let client = |line: &str| {
        let mut words = line.strip_prefix("250-CLIENT")?.split_whitespace();
        let (address, (kind, key)) = (words.next()?, words.next()?.split_once(':')?);
        Some(format!("{address} {kind} {key}"))
    };
    reply.starts_with("250").then(|| reply.lines().filter_map(client).collect::<Vec<_>>().join("\n"))
}

/// Number and relays.
fn circuit_built(line: &str) -> Option<(String, Vec<String>)> {
    let mut words = line.strip_prefix("650 CIRC ").unwrap_or(line).split_whitespace();
    let (id, "BUILT", path) = (words.next()?, words.next()?, words.next()?) else { return None };
    let relay = |hop: &str| {
        let fingerprint = hop.strip_prefix('$')?.split('~').next()?;
        (fingerprint.len() == 40 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit())).then(|| fingerprint.to_ascii_uppercase())
    };
    let nodes = path.split(',').map(relay).collect::<Option<_>>()?;
    is_id(id).then(|| (id.to_owned(), nodes))
}

/// The circuit's number, and the credentials.
fn stream_succeeded(event: &str) -> Option<(String, String, String)> {
    let mut words = event.strip_prefix("650 STREAM ")?.split(' ');
    let (stream, "SUCCEEDED", circuit) = (words.next()?, words.next()?, words.next()?) else { return None };
    let field = |name: &str| event.split_once(&format!("{name}=")).and_then(|(_, rest)| unquote(rest));
    (is_id(stream) && is_id(circuit)).then_some(())?;
    Some((circuit.to_owned(), field("SOCKS_USERNAME")?, field("SOCKS_PASSWORD")?))
}

fn is_id(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A quoted string: `\"`, `\\`, `\n`, `\r`, `\t`, and three octal digits for a byte of UTF-8.
fn unquote(text: &str) -> Option<String> {
    let mut rest = text.strip_prefix('"')?.bytes();
    let mut bytes = Vec::new();
    loop {
        match rest.next()? {
            b'"' => return String::from_utf8(bytes).ok(),
            b'\\' => match rest.next()? {
                b'n' => bytes.push(b'\n'),
                b'r' => bytes.push(b'\r'),
                b't' => bytes.push(b'\t'),
                mark @ (b'"' | b'\\') => bytes.push(mark),
                first => {
                    let digits = [first, rest.next()?, rest.next()?];
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 8).ok()?);
                }
            },
            other => bytes.push(other),
        }
    }
}

/// The address of a relay, as the circuit display asks for it.
fn node_addresses(browser: &mut Control, node: &str) -> Option<String> {
    let key = format!("ns/id/{node}");
    let value = get_info(&browser.ask(&format!("GETINFO {key}")), &key)?;
    let words: Vec<_> = value.lines().find_map(|line| line.strip_prefix("r "))?.split_whitespace().collect();
    (words.len() == 8).then(|| words[5].to_owned())
}
