//! Turns the policy files into tables of constants, so that the program parses no file and carries no parser.
//! It never decides anything: a rule that it cannot express, or a field that it does not know, fails the build.

use serde::Deserialize;
use std::error::Error;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::{env, fs};

const POLICY: &str = "../plan/policy/gate";

#[derive(Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Coded {
    id: String,
    code: u8,
    verdict: Verdict,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Worded {
    #[serde(alias = "prefix", alias = "suffix")]
    id: String,
    verdict: Verdict,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    net: String,
    verdict: Verdict,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    id: String,
    value: u32,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Constant {
    id: String,
    value: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Socks {
    method: Vec<Coded>,
    command: Vec<Coded>,
    username: Vec<Worded>,
    name: Vec<Worded>,
    ipv4: Vec<Network>,
    ipv6: Vec<Network>,
    limit: Vec<Limit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    command: Vec<Worded>,
    getinfo: Vec<Worded>,
    getconf: Vec<Worded>,
    event: Vec<Worded>,
    signal: Vec<Worded>,
    constant: Vec<Constant>,
    limit: Vec<Limit>,
}

/// The one argument of a system call that is allowed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Only {
    argument: u8,
    value: Option<u64>,
    zero: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum When {
    Cookie,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Syscall {
    name: String,
    only: Option<Only>,
    when: Option<When>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cage {
    syscall: Vec<Syscall>,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    println!("cargo::rerun-if-changed={POLICY}");
    let socks: Socks = toml::from_str(&read("socks.toml")?)?;
    let control: Control = toml::from_str(&read("control.toml")?)?;
    let cage: Cage = toml::from_str(&read("cage.toml")?)?;
    let out = env::var("OUT_DIR")?;
    write(&out, "cage.rs", &cage_table(&cage)?)?;
    write(&out, "socks.rs", &socks_tables(&socks)?)?;
    write(&out, "control.rs", &control_tables(&control)?)
}

fn read(name: &str) -> Outcome<String> {
    let path = Path::new(POLICY).join(name);
    fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn write(out: &str, name: &str, text: &str) -> Outcome<()> {
    Ok(fs::write(Path::new(out).join(name), text)?)
}

fn socks_tables(policy: &Socks) -> Outcome<String> {
    let mut text = String::new();
    coded(&mut text, "METHODS", "Methods of authentication.", &policy.method)?;
    coded(&mut text, "COMMANDS", "SOCKS commands.", &policy.command)?;
    worded(&mut text, "USERNAMES", "Beginnings of names that are refused.", &policy.username)?;
    worded(&mut text, "NAMES", "Ends of host names that are refused.", &policy.name)?;
    networks(&mut text, "IPV4", "IPv4 addresses, first match wins.", &policy.ipv4)?;
    networks(&mut text, "IPV6", "IPv6 addresses, first match wins.", &policy.ipv6)?;
    limits(&mut text, &policy.limit)?;
    Ok(text)
}

fn control_tables(policy: &Control) -> Outcome<String> {
    let mut text = String::new();
    worded(&mut text, "COMMANDS", "Commands that have an answer.", &policy.command)?;
    worded(&mut text, "GETINFO", "Keys of GETINFO; one that ends in a slash takes an argument.", &policy.getinfo)?;
    worded(&mut text, "GETCONF", "Options that GETCONF knows, all of them unset.", &policy.getconf)?;
    worded(&mut text, "EVENTS", "Events that a client may ask for.", &policy.event)?;
    worded(&mut text, "SIGNALS", "Signals that a client may send.", &policy.signal)?;
    constants(&mut text, &policy.constant)?;
    limits(&mut text, &policy.limit)?;
    Ok(text)
}

fn cage_table(policy: &Cage) -> Outcome<String> {
    let mut text = String::from("/// System calls after start.\npub const SYSCALLS: &[super::Syscall] = &[\n");
    for Syscall { name, only, when, reason } in &policy.syscall {
        let only = match only {
            None => "super::Only::Any".to_owned(),
            Some(Only { argument, value: Some(value), zero: None }) => {
                format!("super::Only::Value {{ argument: {argument}, value: {value} }}")
            }
            Some(Only { argument, value: None, zero: Some(zero) }) => {
                format!("super::Only::Zero {{ argument: {argument}, bits: {zero} }}")
            }
            Some(_) => return Err(format!("{name}: an argument has either a value or bits that must be 0").into()),
        };
        let when = match when {
            None => "Always",
            Some(When::Cookie) => "Cookie",
        };
        writeln!(
            text,
            "super::Syscall {{ id: {name:?}, number: libc::SYS_{name}, only: {only}, when: super::When::{when}, \
             reason: {reason:?} }},"
        )?;
    }
    writeln!(text, "];")?;
    Ok(text)
}

fn coded(text: &mut String, table: &str, doc: &str, rules: &[Coded]) -> Outcome<()> {
    writeln!(text, "/// {doc}\npub const {table}: &[super::Coded] = &[")?;
    for Coded { id, code, verdict, reason } in rules {
        writeln!(text, "super::Coded {{ id: {id:?}, code: {code}, verdict: super::Verdict::{verdict:?}, reason: {reason:?} }},")?;
    }
    Ok(writeln!(text, "];")?)
}

fn worded(text: &mut String, table: &str, doc: &str, rules: &[Worded]) -> Outcome<()> {
    writeln!(text, "/// {doc}\npub const {table}: &[super::Worded] = &[")?;
    for Worded { id, verdict, reason } in rules {
        writeln!(text, "super::Worded {{ id: {id:?}, verdict: super::Verdict::{verdict:?}, reason: {reason:?} }},")?;
    }
    Ok(writeln!(text, "];")?)
}

fn networks(text: &mut String, table: &str, doc: &str, rules: &[Network]) -> Outcome<()> {
    writeln!(text, "/// {doc}\npub const {table}: &[super::Network] = &[")?;
    for Network { net, verdict, reason } in rules {
        let (address, prefix) = network(net)?;
        writeln!(
            text,
            "super::Network {{ id: {net:?}, address: {address}, prefix: {prefix}, \
             verdict: super::Verdict::{verdict:?}, reason: {reason:?} }},"
        )?;
    }
    Ok(writeln!(text, "];")?)
}

/// Both families as 128 bits: an IPv4 network takes the highest 32 of them.
fn network(net: &str) -> Outcome<(u128, u8)> {
    let (address, prefix) = net.split_once('/').ok_or_else(|| format!("{net}: no prefix length"))?;
    let (bits, width) = match address.parse()? {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let prefix: u8 = prefix.parse()?;
    let host = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
    if prefix > width || bits & host != 0 {
        return Err(format!("{net}: not a network").into());
    }
    Ok((bits, prefix))
}

fn limits(text: &mut String, rules: &[Limit]) -> Outcome<()> {
    for Limit { id, value, reason } in rules {
        writeln!(text, "/// {reason}.\npub const {}: u32 = {value};", id.to_uppercase())?;
    }
    writeln!(text, "/// Every limit, for the description.\npub const LIMITS: &[super::Limit] = &[")?;
    for Limit { id, value, reason } in rules {
        writeln!(text, "super::Limit {{ id: {id:?}, value: {value}, reason: {reason:?} }},")?;
    }
    Ok(writeln!(text, "];")?)
}

fn constants(text: &mut String, rules: &[Constant]) -> Outcome<()> {
    for Constant { id, value, reason } in rules {
        writeln!(text, "/// {reason}.\npub const {}: &str = {value:?};", id.to_uppercase())?;
    }
    writeln!(text, "/// Every constant, for the description.\npub const CONSTANTS: &[super::Constant] = &[")?;
    for Constant { id, value, reason } in rules {
        writeln!(text, "super::Constant {{ id: {id:?}, value: {value:?}, reason: {reason:?} }},")?;
    }
    Ok(writeln!(text, "];")?)
}
