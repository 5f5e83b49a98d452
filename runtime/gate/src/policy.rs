//! The policy files as tables of constants (made by the build script), and the few questions asked of them.
//! It never allows what no rule names, and never reads a file when the program runs.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let through.
    Allow,
    /// Refused.
    Deny,
}

/// A rule about a number in the SOCKS protocol.
#[derive(Debug)]
pub struct Coded {
    /// Name in the specification.
    pub id: &'static str,
    /// Number on the wire.
    pub code: u8,
    /// What the rule says.
    pub verdict: Verdict,
    /// Why.
    pub reason: &'static str,
}

/// A rule about a word: a command, a key, the beginning or the end of a name.
#[derive(Debug)]
pub struct Worded {
    /// The word.
    pub id: &'static str,
    /// What the rule says.
    pub verdict: Verdict,
    /// Why.
    pub reason: &'static str,
}

/// A rule about a network.
#[derive(Debug)]
pub struct Network {
    /// The network as written in the policy.
    pub id: &'static str,
    /// Its address; IPv4 takes the highest 32 bits.
    pub address: u128,
    /// Length of the prefix in bits.
    pub prefix: u8,
    /// What the rule says.
    pub verdict: Verdict,
    /// Why.
    pub reason: &'static str,
}

/// A limit.
#[derive(Debug)]
pub struct Limit {
    /// Name.
    pub id: &'static str,
    /// Value, in the unit that its name says.
    pub value: u32,
    /// Why.
    pub reason: &'static str,
}

/// A constant that stands for what must not be told.
#[derive(Debug)]
pub struct Constant {
    /// Name.
    pub id: &'static str,
    /// What clients are told.
    pub value: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// Which calls of a kind are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// All of them.
    Any,
    /// Those with this value in this argument.
    Value {
        /// Number of the argument, from 0.
        argument: u8,
        /// Its value.
        value: u64,
    },
    /// Those without these bits in this argument.
    Zero {
        /// Number of the argument, from 0.
        argument: u8,
        /// The bits that must be 0.
        bits: u64,
    },
}

/// In which runs a call is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In all of them.
    Always,
    /// Where tor's cookie has still to be read.
    Cookie,
}

/// A system call that is allowed after start.
#[derive(Debug)]
pub struct Syscall {
    /// Name.
    pub id: &'static str,
    /// Number on this architecture.
    pub number: i64,
    /// Which calls.
    pub only: Only,
    /// In which runs.
    pub when: When,
    /// Why.
    pub reason: &'static str,
}

/// Table of `cage.toml`.
pub mod cage {
    include!(concat!(env!("OUT_DIR"), "/cage.rs"));
}

/// Tables of `socks.toml`.
pub mod socks {
    include!(concat!(env!("OUT_DIR"), "/socks.rs"));
}

/// Tables of `control.toml`.
pub mod control {
    include!(concat!(env!("OUT_DIR"), "/control.rs"));
}

/// The verdict on a number; no rule is a refusal.
#[must_use]
pub fn code(table: &[Coded], code: u8) -> Verdict {
    table.iter().find(|rule| rule.code == code).map_or(Verdict::Deny, |rule| rule.verdict)
}

/// The verdict on a word, case ignored as tor ignores it; no rule is a refusal.
#[must_use]
pub fn word(table: &[Worded], word: &str) -> Verdict {
    table.iter().find(|rule| rule.id.eq_ignore_ascii_case(word)).map_or(Verdict::Deny, |rule| rule.verdict)
}

/// The verdict on an IPv4 address.
#[must_use]
pub fn ipv4(address: Ipv4Addr) -> Verdict {
    network(socks::IPV4, u128::from(address.to_bits()) << 96)
}

/// The verdict on an IPv6 address.
#[must_use]
pub fn ipv6(address: Ipv6Addr) -> Verdict {
    network(socks::IPV6, address.to_bits())
}

fn network(table: &[Network], address: u128) -> Verdict {
    let inside = |rule: &&Network| {
        let mask = !u128::MAX.checked_shr(rule.prefix.into()).unwrap_or(0);
        address & mask == rule.address
    };
    table.iter().find(inside).map_or(Verdict::Deny, |rule| rule.verdict)
}
