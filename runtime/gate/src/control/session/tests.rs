//! Sessions against exact lines; among them the sequences that Tor Browser's tor-launcher sends with a tor that is not its own.

use super::*;
use crate::control::reply::{CircuitEvent, Event, Message, Messages, event};
use crate::control::text::Fingerprint;
use crate::tag::Tag;

const SECRET: &[u8] = b"a secret of this box";
const ADDRESS: &str = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd";
const KEY: &str = "x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const GUARD: &str = "1111111111111111111111111111111111111111";
const VANGUARD: &str = "2222222222222222222222222222222222222222";
const MIDDLE: &str = "3333333333333333333333333333333333333333";
const EXIT: &str = "4444444444444444444444444444444444444444";
const NOBODYS: &str = "5555555555555555555555555555555555555555";
const HIDDEN: &str = "0000000000000000000000000000000000000000";

struct Fixture {
    display: Display,
    keys: OnionKeys,
    secret: Secret,
    session: Session,
    tag: Tag,
}

impl Fixture {
    fn stranger() -> Self {
        Self {
            display: Display::default(),
            keys: OnionKeys::default(),
            secret: Secret::new(SECRET.to_vec()),
            session: Session::default(),
            tag: Tag::parse("00112233").unwrap(),
        }
    }

    fn new() -> Self {
        let mut fixture = Self::stranger();
        let hex: String = SECRET.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(fixture.step(&format!("authenticate {hex}")), Step::Say("250 OK\r\n".to_owned()));
        fixture
    }

    fn step(&mut self, line: &str) -> Step {
        let mut tables = Tables { display: &mut self.display, keys: &mut self.keys, secret: &self.secret };
        self.session.step(line.as_bytes(), &mut tables)
    }

    fn say(&mut self, line: &str) -> String {
        match self.step(line) {
            Step::Say(answer) => answer,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// What tor is asked, and what the client hears when tor replies so.
    fn ask(&mut self, line: &str, reply: &str) -> (String, String) {
        let Step::Ask(question) = self.step(line) else { panic!("{line} asks nobody") };
        let message = message(reply);
        (question.line(), question.answer(&message, &mut self.display, &mut self.keys))
    }

    /// tor's event; the lines for a client that asked for both kinds.
    fn event(&mut self, line: &str) -> Vec<String> {
        let shown = match event(line.as_bytes()) {
            Some(Event::Circuit(event)) => self.display.circuit(event).into_iter().collect(),
            Some(Event::Stream(event)) => self.display.stream(&event, &self.tag, 0),
            None => Vec::new(),
        };
        shown.iter().filter_map(|shown| self.session.wants(shown).map(str::to_owned)).collect()
    }
}

fn message(text: &str) -> Message {
    Messages::default().push(text.as_bytes()).unwrap().pop().unwrap()
}

#[test]
fn g5_strangers_are_told_nothing() {
    for line in ["GETINFO version", "SETEVENTS CIRC", "SIGNAL NEWNYM", "GETCONF Bridge", "NONSENSE"] {
        assert_eq!(Fixture::stranger().step(line), Step::Close("514 Authentication required.\r\n".to_owned()));
    }
    for line in ["AUTHENTICATE", "AUTHENTICATE \"\"", "AUTHENTICATE 00", "AUTHENTICATE \"a secret of this bo\""] {
        assert_eq!(Fixture::stranger().step(line), Step::Close("515 Authentication failed\r\n".to_owned()), "{line}");
    }
    let mut fixture = Fixture::stranger();
    assert_eq!(fixture.step("AUTHENTICATE \"a secret of this box\""), Step::Say("250 OK\r\n".to_owned()));
    assert!(fixture.session.is_authenticated());
}

#[test]
fn tor_launcher_with_a_tor_that_is_not_its_own() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.say("SETEVENTS CIRC STREAM"), "250 OK\r\n");
    assert_eq!(fixture.say("SETEVENTS SIGNAL CONF_CHANGED STATUS_SERVER CIRC STREAM"), "250 OK\r\n");
    assert_eq!(fixture.say("GETCONF BRIDGE"), "250 Bridge\r\n");
    assert_eq!(fixture.say("GETCONF ClientTransportPlugin"), "250 ClientTransportPlugin\r\n");
    assert_eq!(fixture.say("GETINFO circuit-status"), "250-circuit-status=\r\n250 OK\r\n");
    assert_eq!(fixture.say("onion_client_auth_view"), "250-ONION_CLIENT_AUTH_VIEW\r\n250 OK\r\n");
    assert_eq!(fixture.step("SIGNAL NEWNYM"), Step::NewIdentity);
    let reply = "250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY=\"Done\"\r\n250 OK\r\n";
    let asked = fixture.ask("GETINFO status/bootstrap-phase", reply);
    assert_eq!(asked, ("GETINFO status/bootstrap-phase\r\n".to_owned(), reply.to_owned()));
}

#[test]
fn g5_the_circuit_display_hides_the_entry_and_what_is_not_this_boxs() {
    let mut fixture = Fixture::new();
    fixture.say("SETEVENTS CIRC STREAM");
    let built = format!("CIRC 7 BUILT ${GUARD}~g,${MIDDLE}~m,${EXIT}~e BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL");
    assert_eq!(fixture.event(&built), [""; 0]);
    assert_eq!(fixture.event(&format!("CIRC 8 BUILT ${GUARD}~g,${NOBODYS}~x PURPOSE=GENERAL")), [""; 0]);
    let stream = |password: &str, id: u32| {
        format!("STREAM 3 SENTCONNECT {id} example.org:443 SOCKS_USERNAME=\"example.org\" SOCKS_PASSWORD=\"{password}\" CLIENT_PROTOCOL=SOCKS5")
    };
    for foreign in ["nonce", "nonce~99999999.0", ""] {
        assert_eq!(fixture.event(&stream(foreign, 8)), [""; 0], "{foreign}");
    }
    let path = format!("${HIDDEN},${MIDDLE},${EXIT}");
    let shown = fixture.event(&stream("nonce~00112233.0", 7));
    assert_eq!(
        shown,
        [
            format!("650 CIRC 1 BUILT {path} PURPOSE=GENERAL TIME_CREATED=2000-01-01T00:00:00.000000\r\n"),
            "650 STREAM 2 SENTCONNECT 1 box.invalid:0 SOCKS_USERNAME=\"example.org\" SOCKS_PASSWORD=\"nonce\"\r\n".to_owned(),
        ]
    );
    let status = fixture.say("GETINFO circuit-status");
    assert_eq!(status, format!("250+circuit-status=\r\n1 BUILT {path} PURPOSE=GENERAL TIME_CREATED=2000-01-01T00:00:00.000000\r\n.\r\n250 OK\r\n"));
    assert_eq!(fixture.event("CIRC 8 CLOSED $X REASON=FINISHED"), [""; 0]);
    let closed = fixture.event(&format!("CIRC 7 CLOSED ${GUARD}~g,${MIDDLE}~m REASON=FINISHED"));
    assert_eq!(closed, [format!("650 CIRC 1 CLOSED {path}\r\n")]);
}

#[test]
fn g5_onion_circuits_hide_the_second_hop_too() {
    for (purpose, target) in [("HS_CLIENT_REND", "x:80"), ("GENERAL", "abc.onion:80"), ("GENERAL", "ABC.ONION:80")] {
        let mut fixture = Fixture::new();
        fixture.say("SETEVENTS CIRC STREAM");
        fixture.event(&format!("CIRC 7 BUILT ${GUARD},${VANGUARD},${MIDDLE},${EXIT} PURPOSE={purpose}"));
        let shown = fixture.event(&format!("STREAM 3 SUCCEEDED 7 {target} SOCKS_USERNAME=\"a\" SOCKS_PASSWORD=\"b~00112233.0\""));
        assert_eq!(shown[0], format!("650 CIRC 1 BUILT ${HIDDEN},${HIDDEN},${MIDDLE},${EXIT} PURPOSE=GENERAL TIME_CREATED=2000-01-01T00:00:00.000000\r\n"));
    }
}

#[test]
fn g5_relays_and_countries_only_of_what_was_shown() {
    let mut fixture = Fixture::new();
    fixture.event(&format!("CIRC 7 BUILT ${GUARD},${MIDDLE},${EXIT} PURPOSE=GENERAL"));
    for before in [GUARD, MIDDLE, NOBODYS] {
        assert_eq!(fixture.say(&format!("GETINFO ns/id/{before}")), format!("552 Unrecognized key \"ns/id/{before}\"\r\n"));
    }
    fixture.event("STREAM 3 SUCCEEDED 7 x:80 SOCKS_USERNAME=\"a\" SOCKS_PASSWORD=\"b~00112233.0\"");
    let status =
        format!("250+ns/id/{MIDDLE}=\r\nr nick QkJC QUFB 2026-11-23 01:02:03 203.0.113.9 443 80\r\na [2001:db8::9]:443\r\ns Fast Guard\r\n.\r\n250 OK\r\n");
    let (asked, answer) = fixture.ask(&format!("GETINFO ns/id/{MIDDLE}"), &status);
    assert_eq!(asked, format!("GETINFO ns/id/{MIDDLE}\r\n"));
    let identity = Fingerprint::parse(MIDDLE).unwrap().base64();
    let digest = "A".repeat(27);
    assert_eq!(
        answer,
        format!(
            "250+ns/id/{MIDDLE}=\r\nr relay {identity} {digest} 2000-01-01 00:00:00 203.0.113.9 9001 0\r\na [2001:db8::9]:9001\r\ns Running Valid\r\n.\r\n250 OK\r\n"
        )
    );
    assert_eq!(fixture.say(&format!("GETINFO ns/id/{GUARD}")), format!("552 Unrecognized key \"ns/id/{GUARD}\"\r\n"));
    assert!(fixture.say(&format!("GETINFO ns/id/{HIDDEN}")).contains(" 0.0.0.0 9001 0\r\n"));
    assert_eq!(
        fixture.ask("GETINFO ip-to-country/203.0.113.9", "250-ip-to-country/203.0.113.9=de\r\n250 OK\r\n"),
        ("GETINFO ip-to-country/203.0.113.9\r\n".to_owned(), "250-ip-to-country/203.0.113.9=de\r\n250 OK\r\n".to_owned())
    );
    for untold in ["0.0.0.0", "198.51.100.1", "::1"] {
        assert_eq!(fixture.say(&format!("GETINFO ip-to-country/{untold}")), format!("250-ip-to-country/{untold}=??\r\n250 OK\r\n"));
    }
}

#[test]
fn g5_no_more_circuits_than_the_policy_shows_in_an_hour() {
    let mut fixture = Fixture::new();
    fixture.say("SETEVENTS CIRC STREAM");
    let mut shown = 0;
    for id in 1..=u64::from(crate::policy::control::CIRCUITS_PER_HOUR) + 10 {
        fixture.event(&format!("CIRC {id} BUILT ${GUARD},${MIDDLE},${EXIT} PURPOSE=GENERAL"));
        let stream = format!("STREAM {id} SUCCEEDED {id} x:80 SOCKS_USERNAME=\"a\" SOCKS_PASSWORD=\"b~00112233.0\"");
        shown += usize::from(!fixture.event(&stream).is_empty());
    }
    assert_eq!(shown, crate::policy::control::CIRCUITS_PER_HOUR as usize);
}

#[test]
fn onion_keys_of_this_run_only() {
    let mut fixture = Fixture::new();
    let add = format!("ONION_CLIENT_AUTH_ADD {ADDRESS} {KEY} Flags=Permanent");
    let asked = fixture.ask(&add, "251 Client for onion existed and replaced\r\n");
    assert_eq!(asked.0, format!("ONION_CLIENT_AUTH_ADD {ADDRESS} {KEY}\r\n"), "never permanent");
    assert_eq!(asked.1, "250 OK\r\n", "that another run had a key is not told");
    assert_eq!(fixture.ask(&add, "251 x\r\n").1, "251 Client for onion existed and replaced\r\n");
    let view = fixture.say("ONION_CLIENT_AUTH_VIEW");
    assert_eq!(view, format!("250-ONION_CLIENT_AUTH_VIEW\r\n250-CLIENT {ADDRESS} {KEY}\r\n250 OK\r\n"));
    let remove = format!("onion_client_auth_remove {}", ADDRESS.to_uppercase());
    assert_eq!(fixture.ask(&remove, "250 OK\r\n").1, "250 OK\r\n");
    assert_eq!(fixture.say(&remove), format!("251 No credentials for \"{ADDRESS}\"\r\n"), "tor is not asked");
    fixture.ask(&add, "250 OK\r\n");
    assert_eq!(Question::NewNym.answer(&message("250 OK\r\n"), &mut fixture.display, &mut fixture.keys), "250 OK\r\n");
    assert_eq!(fixture.say("ONION_CLIENT_AUTH_VIEW"), "250-ONION_CLIENT_AUTH_VIEW\r\n250 OK\r\n", "tor has forgotten it as well");
}

#[test]
fn g5_everything_else_is_an_error_of_the_protocol() {
    let mut fixture = Fixture::new();
    for (line, answer) in [
        ("", "510 Unrecognized command \"\"\r\n"),
        ("SETCONF Bridge=x", "510 Unrecognized command \"SETCONF\"\r\n"),
        ("RESETCONF __OwningControllerProcess", "510 Unrecognized command \"RESETCONF\"\r\n"),
        ("TAKEOWNERSHIP", "510 Unrecognized command \"TAKEOWNERSHIP\"\r\n"),
        ("SAVECONF", "510 Unrecognized command \"SAVECONF\"\r\n"),
        ("LOADCONF", "510 Unrecognized command \"LOADCONF\"\r\n"),
        ("ADD_ONION NEW:BEST Port=80", "510 Unrecognized command \"ADD_ONION\"\r\n"),
        ("MAPADDRESS a=b", "510 Unrecognized command \"MAPADDRESS\"\r\n"),
        ("EXTENDCIRCUIT 0", "510 Unrecognized command \"EXTENDCIRCUIT\"\r\n"),
        ("HSFETCH x", "510 Unrecognized command \"HSFETCH\"\r\n"),
        ("AUTHCHALLENGE SAFECOOKIE 00", "510 Unrecognized command \"AUTHCHALLENGE\"\r\n"),
        ("<script>", "510 Unrecognized command \"\"\r\n"),
        ("GETINFO", "512 Wrong arguments\r\n"),
        ("GETINFO address", "552 Unrecognized key \"address\"\r\n"),
        ("GETINFO config-text", "552 Unrecognized key \"config-text\"\r\n"),
        ("GETINFO entry-guards", "552 Unrecognized key \"entry-guards\"\r\n"),
        ("GETINFO orconn-status", "552 Unrecognized key \"orconn-status\"\r\n"),
        ("GETINFO stream-status", "552 Unrecognized key \"stream-status\"\r\n"),
        ("GETINFO version config-file", "552 Unrecognized key \"config-file\"\r\n"),
        ("GETINFO versionx", "552 Unrecognized key \"versionx\"\r\n"),
        ("GETINFO ns/id/", "552 Unrecognized key \"ns/id/\"\r\n"),
        ("GETINFO ns/name/x", "552 Unrecognized key \"ns/name/x\"\r\n"),
        ("GETINFO ns/purpose/bridge", "552 Unrecognized key \"ns/purpose/bridge\"\r\n"),
        ("GETINFO ip-to-country/", "552 Unrecognized key \"ip-to-country/\"\r\n"),
        ("GETINFO version circuit-status status/bootstrap-phase", "551 Ask for this key alone\r\n"),
        ("GETCONF DataDirectory", "552 Unrecognized configuration key \"DataDirectory\"\r\n"),
        ("GETCONF Bridge SocksPort", "552 Unrecognized configuration key \"SocksPort\"\r\n"),
        ("SIGNAL SHUTDOWN", "552 Unrecognized signal code \"SHUTDOWN\"\r\n"),
        ("SIGNAL HUP", "552 Unrecognized signal code \"HUP\"\r\n"),
        ("SIGNAL NEWNYM NEWNYM", "512 Wrong arguments\r\n"),
        ("SETEVENTS CIRC GUARD", "552 Unrecognized event \"GUARD\"\r\n"),
        ("SETEVENTS ORCONN", "552 Unrecognized event \"ORCONN\"\r\n"),
        ("ONION_CLIENT_AUTH_ADD x y", "512 Wrong arguments\r\n"),
        (&format!("ONION_CLIENT_AUTH_ADD {ADDRESS} {KEY} Flags=Foo"), "512 Wrong arguments\r\n"),
        ("GETCONF Bridge UseBridges", "250-Bridge\r\n250 UseBridges\r\n"),
        ("GETINFO version net/listeners/socks", "250-version=0.4.9.0\r\n250-net/listeners/socks=\"127.0.0.1:9150\"\r\n250 OK\r\n"),
    ] {
        assert_eq!(fixture.say(line), answer, "{line}");
    }
    for line in ["+LOADCONF", "GETINFO version\0", "GETINFO\tversion", "GETINFO vérsion", "\x1b[2J"] {
        assert_eq!(Fixture::new().step(line), Step::Close("500 Syntax error\r\n".to_owned()), "{line:?}");
    }
}

#[test]
fn g5_tors_words_never_pass() {
    let secret_words = "198.51.100.77 /var/lib/tor DEADBEEF";
    for line in ["GETINFO status/bootstrap-phase".to_owned(), format!("ONION_CLIENT_AUTH_ADD {ADDRESS} {KEY}")] {
        for reply in [
            format!("551 {secret_words}\r\n"),
            format!("250-status/bootstrap-phase=WARN BOOTSTRAP PROGRESS=14 TAG=handshake SUMMARY=\"x\" HOSTADDR=\"{secret_words}\"\r\n250 OK\r\n"),
            format!("250-{secret_words}\r\n250 {secret_words}\r\n"),
            format!("512 {secret_words}\r\n"),
        ] {
            let answer = Fixture::new().ask(&line, &reply).1;
            assert!(!answer.contains("198.51") && !answer.contains("/var") && !answer.contains("DEADBEEF"), "{answer}");
        }
    }
}

#[test]
fn fields_of_events_cannot_be_forged_by_credentials() {
    let line = br#"3 SUCCEEDED 7 x:80 SOCKS_USERNAME="a SOCKS_PASSWORD=\"no~00112233.0\" " SOCKS_PASSWORD="yes" NYM_EPOCH=0"#;
    let Some(Event::Stream(parsed)) = event(&[b"STREAM ", &line[..]].concat()) else { panic!("not a stream") };
    let (user, password) = parsed.credentials.unwrap();
    assert_eq!(user, b"a SOCKS_PASSWORD=\"no~00112233.0\" ");
    assert_eq!(password, b"yes");
}

#[test]
fn replies_in_pieces_equal_replies_at_once() {
    let text = b"250-a=1\r\n250+b=\r\nline\r\n..dot\r\n.\r\n250 OK\r\n650 CIRC 9 CLOSED $X\r\n";
    let whole = Messages::default().push(text).unwrap();
    assert_eq!(whole.len(), 2);
    assert_eq!(whole[0].lines, [&b"a=1"[..], b"b=", b"line", b".dot", b"OK"]);
    let mut messages = Messages::default();
    let pieces: Vec<Message> = text.iter().flat_map(|byte| messages.push(&[*byte]).unwrap()).collect();
    assert_eq!(pieces, whole);
    for bad in [&b"25\r\n"[..], b"abc x\r\n", b"250*x\r\n", b"\r\n", &[b'2'; 20_000]] {
        assert!(Messages::default().push(bad).is_err());
    }
}

#[test]
fn circuit_lines() {
    let circuit = |line: &str| crate::control::reply::circuit(line.as_bytes());
    assert_eq!(circuit("9 CLOSED"), Some(CircuitEvent::Gone(9)));
    for ignored in ["", "x BUILT", "9 EXTENDED $X", "9 BUILT", "9 BUILT $12", "9 BUILT named"] {
        assert_eq!(circuit(ignored), None, "{ignored}");
    }
}
