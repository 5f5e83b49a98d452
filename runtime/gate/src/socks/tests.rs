//! The handshake against tables of exact bytes.

use super::*;

fn run(auth: Auth, messages: &[&[u8]]) -> Vec<Step> {
    let mut handshake = Handshake::new(auth);
    messages
        .iter()
        .map(|message| {
            let (used, step) = handshake.step(message);
            assert!(used == message.len() || step == Step::More || matches!(step, Step::Refuse(..)), "{message:?}");
            step
        })
        .collect()
}

fn request(command: u8, destination: &[u8]) -> Vec<u8> {
    [&[5, command, 0][..], destination].concat()
}

const GREETING: &[u8] = &[5, 1, 2];
const CREDENTIALS: &[u8] = b"\x01\x0btorproject\0\x05nonce";

fn name(host: &str, port: u16) -> Vec<u8> {
    [&[3, u8::try_from(host.len()).unwrap()][..], host.as_bytes(), &port.to_be_bytes()].concat()
}

fn last(command: u8, destination: &[u8]) -> Step {
    run(Auth::Required, &[GREETING, CREDENTIALS, &request(command, destination)]).pop().unwrap()
}

#[test]
fn an_authenticated_connect_passes() {
    let steps = run(Auth::Required, &[&[5, 2, 0, 2], CREDENTIALS, &request(1, &name("Example.org", 443))]);
    assert_eq!(steps[0], Step::Say(vec![5, 2]));
    assert_eq!(steps[1], Step::Say(vec![1, 0]));
    let Step::Ask(request) = &steps[2] else { panic!("{steps:?}") };
    assert_eq!(request.command, Command::Connect);
    assert_eq!(request.host, address::name(b"example.org").unwrap());
    assert_eq!(request.port, 443);
    let credentials = request.credentials.as_ref().unwrap();
    assert_eq!((credentials.user.as_slice(), credentials.password.as_slice()), (&b"torproject\0"[..], &b"nonce"[..]));
}

#[test]
fn g4_refused_handshakes() {
    for (auth, input, say, why) in [
        (Auth::Required, &b"\x04\x01\0\x50\x01\x01\x01\x01\0"[..], &[][..], Refusal::Version),
        (Auth::Optional, b"\x04", &[], Refusal::Version),
        (Auth::Required, b"GET / HTTP/1.0", &[], Refusal::Version),
        (Auth::Required, &[5, 1, 0], &[5, 0xFF], Refusal::Method),
        (Auth::Required, &[5, 0], &[5, 0xFF], Refusal::Method),
        (Auth::Required, &[5, 1, 1], &[5, 0xFF], Refusal::Method),
        (Auth::Optional, &[5, 1, 1], &[5, 0xFF], Refusal::Method),
    ] {
        assert_eq!(run(auth, &[input]), [Step::Refuse(say.to_vec(), why)], "{input:?}");
    }
}

#[test]
fn g4_refused_credentials() {
    let over_long = [&[1, 1, b'u', 201][..], &[b'p'; 201]].concat();
    let longest = [&[1, 1, b'u', 200][..], &[b'p'; 200]].concat();
    for (input, accepted) in [
        (&longest[..], true),
        (&over_long, false),
        (&b"\x01\0\x01p"[..], false),
        (b"\x01\x01u\0", false),
        (b"\x02\x01u\x01p", false),
        (b"\x05\x01u\x01p", false),
        (b"\x01\x08<torS0X>\x01p", false),
        (b"\x01\x09<torS0X>1\x01p", false),
        (b"\x01\x07<torS0X\x01p", true),
    ] {
        let step = run(Auth::Required, &[GREETING, input]).pop().unwrap();
        let expected = if accepted { Step::Say(vec![1, 0]) } else { Step::Refuse(vec![1, 1], Refusal::Credentials) };
        assert_eq!(step, expected, "{input:?}");
    }
}

#[test]
fn g4_refused_requests() {
    let refused = |code: u8| vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    for (command, destination, code, why) in [
        (2, name("example.org", 80), 7, Refusal::Command),
        (3, name("example.org", 80), 7, Refusal::Command),
        (0xF1, vec![1, 1, 1, 1, 1, 0, 0], 7, Refusal::Command),
        (0, name("example.org", 80), 7, Refusal::Command),
        (0xF2, name("example.org", 80), 7, Refusal::Command),
        (1, vec![2], 8, Refusal::Malformed),
        (1, vec![0], 8, Refusal::Malformed),
        (1, name("", 80), 2, Refusal::Address(AddressError::Malformed)),
        (1, name("example.org", 0), 2, Refusal::Address(AddressError::Port)),
        (1, name("localhost", 80), 2, Refusal::Address(AddressError::Suffix)),
        (0xF0, name("printer.local", 0), 2, Refusal::Address(AddressError::Suffix)),
        (1, vec![1, 127, 0, 0, 1, 0, 80], 2, Refusal::Address(AddressError::Network)),
        (1, [&[4][..], &[0; 15], &[1, 0, 80]].concat(), 2, Refusal::Address(AddressError::Network)),
    ] {
        assert_eq!(last(command, &destination), Step::Refuse(refused(code), why), "{command} {destination:?}");
    }
    let step = run(Auth::Required, &[GREETING, CREDENTIALS, &[4, 1, 0, 1, 1, 1, 1, 1, 0, 80]]).pop().unwrap();
    assert_eq!(step, Step::Refuse(refused(1), Refusal::Malformed));
}

#[test]
fn allowed_requests() {
    for (command, destination, port) in [
        (1, vec![1, 9, 9, 9, 9, 0, 53], 53),
        (1, [&[4, 0x2a][..], &[0; 14], &[1, 1, 187]].concat(), 443),
        (1, name("9.9.9.9", 53), 53),
        (0xF0, name("example.org", 0), 0),
        (0xF0, name("example.org", 80), 0),
    ] {
        let Step::Ask(request) = last(command, &destination) else { panic!("{destination:?}") };
        assert_eq!(request.port, port);
    }
}

#[test]
fn without_credentials_only_where_it_is_optional() {
    let steps = run(Auth::Optional, &[&[5, 1, 0], &request(1, &name("example.org", 80))]);
    assert_eq!(steps[0], Step::Say(vec![5, 0]));
    let Step::Ask(request) = &steps[1] else { panic!("{steps:?}") };
    assert_eq!(request.credentials, None);
    assert_eq!(run(Auth::Optional, &[&[5, 2, 0, 2]]), [Step::Say(vec![5, 2])], "credentials win where both are offered");
}

#[test]
fn byte_by_byte_equals_at_once() {
    let whole = [GREETING, CREDENTIALS, &request(1, &name("example.org", 80)), b"optimistic"].concat();
    let (mut handshake, mut held, mut steps) = (Handshake::new(Auth::Required), Vec::new(), Vec::new());
    for byte in &whole {
        held.push(*byte);
        if matches!(steps.last(), Some(Step::Ask(_))) {
            continue;
        }
        let (used, step) = handshake.step(&held);
        held.drain(..used);
        if step != Step::More {
            steps.push(step);
        }
    }
    assert_eq!(steps.len(), 3);
    assert_eq!(held, b"optimistic", "what follows the request belongs to the stream");
}

#[test]
fn over_is_over() {
    let mut handshake = Handshake::new(Auth::Required);
    assert!(matches!(handshake.step(&[4]).1, Step::Refuse(..)));
    assert!(matches!(handshake.step(&[5, 1, 2]).1, Step::Refuse(..)));
}
