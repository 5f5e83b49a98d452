//! tor's side against tables of exact bytes.

use super::*;
use crate::address;
use crate::socks::{Command, Credentials};

fn request(credentials: Option<(&[u8], &[u8])>, host: Host) -> Request {
    let credentials = credentials.map(|(user, password)| Credentials { user: user.to_vec(), password: password.to_vec() });
    Request { credentials, command: Command::Connect, host, port: 443 }
}

fn upstream(request: &Request) -> Upstream {
    Upstream::new(request, &Tag::parse("00112233").unwrap()).unwrap()
}

#[test]
fn a_request_in_tors_words() {
    let mut upstream = upstream(&request(Some((b"site", b"nonce")), address::name(b"Example.org").unwrap()));
    assert_eq!(Upstream::GREETING, [5, 1, 2]);
    assert_eq!(upstream.step(&[5]), Ok((0, Step::More)));
    assert_eq!(upstream.step(&[5, 2]), Ok((2, Step::Say(b"\x01\x04site\x10nonce~00112233.0".to_vec()))));
    assert_eq!(upstream.step(&[1, 0]), Ok((2, Step::Say(b"\x05\x01\0\x03\x0bexample.org\x01\xbb".to_vec()))));
    let answer = b"\x05\0\0\x01\0\0\0\0\0\0early data";
    assert_eq!(upstream.step(answer), Ok((10, Step::Done(Code::OK, Some(Ipv4Addr::UNSPECIFIED.into())))));
}

#[test]
fn nobody_is_isolated_by_the_tag_alone() {
    let mut upstream = upstream(&request(None, address::ipv4(Ipv4Addr::new(9, 9, 9, 9)).unwrap()));
    assert_eq!(upstream.step(&[5, 2]), Ok((2, Step::Say(b"\x01\x06torbox\x0b~00112233.0".to_vec()))));
    assert_eq!(upstream.step(&[1, 0]), Ok((2, Step::Say(b"\x05\x01\0\x01\x09\x09\x09\x09\x01\xbb".to_vec()))));
}

#[test]
fn extended_errors_pass_and_unknown_codes_do_not() {
    for (sent, read) in [(0xF0, 0xF0), (0xF6, 0xF6), (0xF7, 0xF7), (0xF8, 1), (0xEF, 1), (9, 1), (8, 8), (4, 4)] {
        assert_eq!(Code::from_tor(sent).byte(), read);
    }
}

#[test]
fn what_tor_must_not_say() {
    for (messages, error) in [
        (&[&[5, 0][..]][..], UpstreamError::Protocol),
        (&[&[4, 2]], UpstreamError::Protocol),
        (&[&[5, 2], &[1, 1]], UpstreamError::Credentials),
        (&[&[5, 2], &[1, 0], &[4, 0, 0, 1]], UpstreamError::Protocol),
        (&[&[5, 2], &[1, 0], &[5, 0, 0, 9]], UpstreamError::Protocol),
    ] {
        let mut upstream = upstream(&request(None, address::name(b"example.org").unwrap()));
        let (last, first) = messages.split_last().unwrap();
        first.iter().for_each(|message| drop(upstream.step(message).unwrap()));
        assert_eq!(upstream.step(last), Err(error), "{messages:?}");
    }
}

#[test]
fn a_resolved_name_is_no_address() {
    assert_eq!(read_reply(&mut Reader(b"\x05\0\0\x03\x03abc\0\0")), Ok(Some(Step::Done(Code::OK, None))));
    assert_eq!(read_reply(&mut Reader(b"\x05\0\0\x03\x03ab")), Ok(None));
}
