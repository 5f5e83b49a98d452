//! Holds the policy's three tellings together: the data, the code that obeys it, and the prose at the top of the crate.
//! `TORBOX_BLESS=1` writes the prose anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::allow_attributes, reason = "a test that panics fails, which is what it is for")]

use std::fmt::Write;
use std::path::Path;
use torbox_gate::control::parse::{Denied, parse};
use torbox_gate::policy::{Coded, Constant, Limit, Network, Only, Verdict, When, Worded, cage, control, socks};

const BEGIN: &str = "//! <!-- policy -->\n";
const END: &str = "//! <!-- end of policy -->\n";

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allowed",
        Verdict::Deny => "refused",
    }
}

fn section(text: &mut String, title: &str, rules: impl Iterator<Item = String>) {
    writeln!(text, "//!\n//! ## {title}").unwrap();
    rules.for_each(|rule| writeln!(text, "//! - {rule}").unwrap());
}

fn coded(rules: &'static [Coded]) -> impl Iterator<Item = String> {
    rules.iter().map(|Coded { id, code, verdict: v, reason }| format!("`{id}` (0x{code:02X}) is {}: {reason}", verdict(*v)))
}

fn worded(rules: &'static [Worded]) -> impl Iterator<Item = String> {
    rules.iter().map(|Worded { id, verdict: v, reason }| format!("`{id}` is {}: {reason}", verdict(*v)))
}

fn networks(rules: &'static [Network]) -> impl Iterator<Item = String> {
    rules.iter().map(|Network { id, verdict: v, reason, .. }| format!("`{id}` is {}: {reason}", verdict(*v)))
}

fn limits(rules: &'static [Limit]) -> impl Iterator<Item = String> {
    rules.iter().map(|Limit { id, value, reason }| format!("`{id}` {value}: {reason}"))
}

fn constants(rules: &'static [Constant]) -> impl Iterator<Item = String> {
    rules.iter().map(|Constant { id, value, reason }| format!("`{id}` `{value}`: {reason}"))
}

fn calls() -> impl Iterator<Item = String> {
    cage::SYSCALLS.iter().map(|call| {
        let only = match call.only {
            Only::Any => String::new(),
            Only::Value { argument, value } => format!(" with argument {argument} = {value}"),
            Only::Zero { argument, bits } => format!(" with bits 0x{bits:X} of argument {argument} = 0"),
        };
        let when = if call.when == When::Cookie { ", while the cookie is awaited" } else { "" };
        format!("`{}`{only}{when}: {}", call.id, call.reason)
    })
}

fn prose() -> String {
    let mut text = String::new();
    section(&mut text, "SOCKS: authentication", coded(socks::METHODS));
    section(&mut text, "SOCKS: commands", coded(socks::COMMANDS));
    section(&mut text, "SOCKS: user names that begin with", worded(socks::USERNAMES));
    section(&mut text, "SOCKS: host names that end in", worded(socks::NAMES));
    section(&mut text, "SOCKS: IPv4 literals, first match wins", networks(socks::IPV4));
    section(&mut text, "SOCKS: IPv6 literals, first match wins", networks(socks::IPV6));
    section(&mut text, "SOCKS: limits", limits(socks::LIMITS));
    section(&mut text, "Control: commands", worded(control::COMMANDS));
    section(&mut text, "Control: keys of GETINFO", worded(control::GETINFO));
    section(&mut text, "Control: options of GETCONF", worded(control::GETCONF));
    section(&mut text, "Control: events", worded(control::EVENTS));
    section(&mut text, "Control: signals", worded(control::SIGNALS));
    section(&mut text, "Control: constants", constants(control::CONSTANTS));
    section(&mut text, "Control: limits", limits(control::LIMITS));
    section(&mut text, "System calls after start", calls());
    text
}

#[test]
fn the_prose_says_what_the_policy_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let source = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = source.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let expected = prose();
    if std::env::var_os("TORBOX_BLESS").is_some() {
        std::fs::write(&path, [before, BEGIN, &expected, END, after].concat()).unwrap();
        return;
    }
    assert!(written == expected, "src/lib.rs differs from the policy: run this test with TORBOX_BLESS=1");
}

#[test]
fn the_code_obeys_every_rule_of_the_control_side() {
    let line = |text: String| parse(text.as_bytes());
    for rule in control::COMMANDS {
        assert!(!matches!(line(rule.id.to_owned()), Err(Denied::Command(_))), "{}", rule.id);
    }
    for rule in control::GETINFO {
        let argument = match rule.id {
            "ns/id/" => "0123456789012345678901234567890123456789",
            "ip-to-country/" => "203.0.113.1",
            _ => "",
        };
        assert!(line(format!("GETINFO {}{argument}", rule.id)).is_ok(), "{}", rule.id);
    }
    for (command, table) in [("GETCONF", control::GETCONF), ("SETEVENTS", control::EVENTS), ("SIGNAL", control::SIGNALS)] {
        table.iter().for_each(|rule| assert!(line(format!("{command} {}", rule.id)).is_ok(), "{}", rule.id));
    }
}

#[test]
fn every_rule_has_a_reason_of_its_own_and_no_name_twice() {
    let tables = [control::COMMANDS, control::GETINFO, control::GETCONF, control::EVENTS, control::SIGNALS, socks::NAMES];
    for table in tables {
        for (at, rule) in table.iter().enumerate() {
            assert!(!rule.reason.is_empty(), "{}", rule.id);
            assert!(!table.iter().skip(at + 1).any(|other| other.id == rule.id), "{} twice", rule.id);
        }
    }
}
