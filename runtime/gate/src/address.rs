//! Where a stream may go: a host name or a literal address that passed the policy (RFC 1928 section 4).
//! A `Host` that exists has been judged; there is no other way to make one, and nothing here looks a name up.

use crate::policy::{self, Verdict, socks::NAMES};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest host name of the DNS, in its written form.
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// Why a destination is refused. Carries nothing of the destination, so that it can be counted and logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A literal in a network that the policy refuses.
    #[error("a literal address in a refused network")]
    Network,
    /// A name under a suffix that the policy refuses.
    #[error("a name under a refused suffix")]
    Suffix,
    /// Not a host name: empty, over-long, or with characters that no host name has.
    #[error("not a host name")]
    Malformed,
    /// Port 0 in a CONNECT.
    #[error("port 0")]
    Port,
}

/// A judged destination host.
#[derive(Clone, PartialEq, Eq)]
pub enum Host {
    /// A literal of the public internet.
    Ip(IpAddr),
    /// A host name in lower case.
    Name(Name),
}

/// A host name in lower case, without a final dot.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host(scrubbed)")
    }
}

/// Judges an IPv4 literal.
///
/// # Errors
/// The policy refuses its network.
pub fn ipv4(address: Ipv4Addr) -> Result<Host, AddressError> {
    match policy::ipv4(address) {
        Verdict::Allow => Ok(Host::Ip(address.into())),
        Verdict::Deny => Err(AddressError::Network),
    }
}

/// Judges an IPv6 literal.
///
/// # Errors
/// The policy refuses its network.
pub fn ipv6(address: Ipv6Addr) -> Result<Host, AddressError> {
    match policy::ipv6(address) {
        Verdict::Allow => Ok(Host::Ip(address.into())),
        Verdict::Deny => Err(AddressError::Network),
    }
}

/// Judges what a client sent as a host name. A dotted quad is judged as the literal that it is.
///
/// # Errors
/// It is no host name, or the policy refuses its suffix or its network.
pub fn name(bytes: &[u8]) -> Result<Host, AddressError> {
    let text = std::str::from_utf8(bytes).map_err(|_| AddressError::Malformed)?.to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    if text.len() > NAME_BYTES || !text.split('.').all(is_label) {
        return Err(AddressError::Malformed);
    }
    if ends_in_number(text) {
        return text.parse().map_err(|_| AddressError::Malformed).and_then(ipv4);
    }
    match NAMES.iter().find(|rule| is_under(text, rule.id)) {
        None | Some(policy::Worded { verdict: Verdict::Allow, .. }) => Ok(Host::Name(Name(text.to_owned()))),
        Some(_) => Err(AddressError::Suffix),
    }
}

fn is_label(label: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=LABEL_BYTES).contains(&label.len()) && label.bytes().all(legal)
}

/// Whether resolvers would read the name as an address: `127.1`, `0x7f000001` and `2130706433` are 127.0.0.1 to many.
fn ends_in_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || last.bytes().all(|b| b.is_ascii_digit())
}

fn is_under(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long_label = "a".repeat(64);
        let long_name = format!("{}com", "abcdefg.".repeat(32));
        let cases: &[(&str, Result<&str, AddressError>)] = &[
            ("torproject.org", Ok("torproject.org")),
            ("TorProject.ORG.", Ok("torproject.org")),
            ("a_b.example", Ok("a_b.example")),
            ("router", Ok("router")),
            ("notlocalhost", Ok("notlocalhost")),
            ("localhost.example", Ok("localhost.example")),
            ("1.1.1.1.example", Ok("1.1.1.1.example")),
            ("localhost", Err(AddressError::Suffix)),
            ("LOCALHOST.", Err(AddressError::Suffix)),
            ("www.localhost", Err(AddressError::Suffix)),
            ("printer.local", Err(AddressError::Suffix)),
            ("metadata.google.internal", Err(AddressError::Suffix)),
            ("example.com.moria1.exit", Err(AddressError::Suffix)),
            ("nas.home.arpa", Err(AddressError::Suffix)),
            ("", Err(AddressError::Malformed)),
            (".", Err(AddressError::Malformed)),
            ("a..b", Err(AddressError::Malformed)),
            ("a b", Err(AddressError::Malformed)),
            ("a\0.example", Err(AddressError::Malformed)),
            ("::1", Err(AddressError::Malformed)),
            ("[::1]", Err(AddressError::Malformed)),
            ("bücher.example", Err(AddressError::Malformed)),
            ("127.1", Err(AddressError::Malformed)),
            ("2130706433", Err(AddressError::Malformed)),
            ("0x7f000001", Err(AddressError::Malformed)),
            ("0x7f.0.0.0x1", Err(AddressError::Malformed)),
            ("0177.0.0.1", Err(AddressError::Malformed)),
            ("127.0.0.1", Err(AddressError::Network)),
            ("192.168.1.1.", Err(AddressError::Network)),
            (&long_label, Err(AddressError::Malformed)),
            (&long_name, Err(AddressError::Malformed)),
        ];
        for (input, expected) in cases {
            let got = name(input.as_bytes()).map(|host| match host {
                Host::Name(name) => name.0,
                Host::Ip(ip) => ip.to_string(),
            });
            assert_eq!(got.as_deref().map_err(|e| *e), *expected, "{input:?}");
        }
        assert_eq!(name(b"9.9.9.9"), ipv4(Ipv4Addr::new(9, 9, 9, 9)));
    }

    #[test]
    fn literals() {
        for (text, allowed) in [
            ("1.1.1.1", true),
            ("203.0.113.7", true),
            ("11.0.0.0", true),
            ("172.15.255.255", true),
            ("172.32.0.0", true),
            ("100.63.255.255", true),
            ("0.0.0.0", false),
            ("10.255.255.255", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.168.0.1", false),
            ("198.19.0.1", false),
            ("224.0.0.251", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("2a00::1", true),
            ("::", false),
            ("::1", false),
            ("::7f00:1", false),
            ("::ffff:1.1.1.1", false),
            ("::ffff:127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("2001::1", false),
            ("2002:7f00:1::", false),
            ("fc00::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::fb", false),
        ] {
            let got = match text.parse().unwrap() {
                IpAddr::V4(v4) => ipv4(v4),
                IpAddr::V6(v6) => ipv6(v6),
            };
            assert_eq!(got.is_ok(), allowed, "{text}");
        }
    }
}
