//! Turns the policy files into tables of constants, so that the program parses no file and carries no parser.
//! It never decides anything: a rule that it cannot express, or a field that it does not know, fails the build.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

const POLICY: &str = "../plan/policy/display";

/// The one argument of a system call that is allowed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, untagged)]
enum Only {
    Value { argument: u8, value: u64 },
    Zero { argument: u8, zero: u64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Syscall {
    name: String,
    only: Option<Only>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cage {
    syscall: Vec<Syscall>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Global {
    interface: String,
    version: u32,
    reason: String,
}

/// What an argument is set to.
#[derive(Deserialize)]
#[serde(untagged)]
enum Fixed {
    Word(u32),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Constant {
    event: Option<String>,
    request: Option<String>,
    set: BTreeMap<String, Fixed>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    event: String,
    argument: usize,
    only: Vec<u32>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    end: String,
    since: u32,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Crossing {
    event: Option<String>,
    request: Option<String>,
    way: Crosses,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Crosses {
    In,
    Out,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hand {
    event: String,
    stamp: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wayland {
    batch: Vec<Batch>,
    global: Vec<Global>,
    constant: Vec<Constant>,
    choice: Vec<Choice>,
    crossing: Vec<Crossing>,
    hand: Vec<Hand>,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    println!("cargo::rerun-if-changed={POLICY}");
    let cage: Cage = toml::from_str(&read("cage.toml")?)?;
    let wayland: Wayland = toml::from_str(&read("wayland.toml")?)?;
    write("cage.rs", &cage_table(&cage)?)?;
    write("wayland.rs", &wayland_tables(&wayland)?)
}

fn read(name: &str) -> Outcome<String> {
    let path = Path::new(POLICY).join(name);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn write(name: &str, text: &str) -> Outcome<()> {
    Ok(fs::write(Path::new(&env::var("OUT_DIR")?).join(name), text)?)
}

fn wayland_tables(policy: &Wayland) -> Outcome<String> {
    let mut text = String::from("/// Globals that are offered.\npub const GLOBALS: &[Global] = &[\n");
    for Global { interface, version, reason } in &policy.global {
        writeln!(text, "Global {{ interface: {interface:?}, version: {version}, reason: {reason:?} }},")?;
    }
    writeln!(text, "];\n/// Arguments that are constant.\npub const CONSTANTS: &[Constant] = &[")?;
    for Constant { event, request, set, reason } in &policy.constant {
        let (way, interface, message) = way(event.as_deref(), request.as_deref())?;
        let set: String = set.iter().map(|(place, fixed)| format!("({place}, {}), ", fixed_value(fixed))).collect();
        writeln!(text, "Constant {{ way: Way::{way}, interface: {interface:?}, message: {message:?}, set: &[{set}], reason: {reason:?} }},")?;
    }
    writeln!(text, "];\n/// Events that go on only with certain values.\npub const CHOICES: &[Choice] = &[")?;
    for Choice { event, argument, only, reason } in &policy.choice {
        let (interface, message) = parts(event)?;
        writeln!(text, "Choice {{ interface: {interface:?}, message: {message:?}, argument: {argument}, only: &{only:?}, reason: {reason:?} }},")?;
    }
    writeln!(text, "];\n/// Events that go on together.\npub const BATCHES: &[Batch] = &[")?;
    for Batch { end, since, reason } in &policy.batch {
        let (interface, end) = parts(end)?;
        writeln!(text, "Batch {{ interface: {interface:?}, end: {end:?}, since: {since}, reason: {reason:?} }},")?;
    }
    writeln!(text, "];\n/// Messages that carry what was copied over the window's edge.\npub const CROSSINGS: &[Crossing] = &[")?;
    for Crossing { event, request, way: crosses, reason } in &policy.crossing {
        let (way, interface, message) = way(event.as_deref(), request.as_deref())?;
        writeln!(text, "Crossing {{ way: Way::{way}, interface: {interface:?}, message: {message:?}, crosses: Crosses::{crosses:?}, reason: {reason:?} }},")?;
    }
    writeln!(text, "];\n/// Events of the user's hands.\npub const HANDS: &[Hand] = &[")?;
    for Hand { event, stamp } in &policy.hand {
        let (interface, message) = parts(event)?;
        writeln!(text, "Hand {{ interface: {interface:?}, message: {message:?}, stamp: {stamp:?} }},")?;
    }
    Ok(text + "];\n")
}

/// Which way a message goes, its interface and its name.
fn way<'a>(event: Option<&'a str>, request: Option<&'a str>) -> Outcome<(&'static str, &'a str, &'a str)> {
    let (way, name) = match (event, request) {
        (Some(name), None) => ("Event", name),
        (None, Some(name)) => ("Request", name),
        _ => return Err("a rule is of one event or of one request".into()),
    };
    let (interface, message) = parts(name)?;
    Ok((way, interface, message))
}

fn parts(name: &str) -> Outcome<(&str, &str)> {
    Ok(name.split_once('.').ok_or("a message is named INTERFACE.MESSAGE")?)
}

fn fixed_value(fixed: &Fixed) -> String {
    match fixed {
        Fixed::Word(word) => format!("Fixed::Word({word})"),
        Fixed::Text(text) => format!("Fixed::Text({text:?})"),
    }
}

fn cage_table(policy: &Cage) -> Outcome<String> {
    let mut text = String::from("/// System calls after start.\npub const SYSCALLS: &[Syscall] = &[\n");
    for Syscall { name, only, reason } in &policy.syscall {
        let only = match only {
            None => "Only::Any".to_owned(),
            Some(Only::Value { argument, value }) => format!("Only::Value {{ argument: {argument}, value: {value} }}"),
            Some(Only::Zero { argument, zero }) => format!("Only::Zero {{ argument: {argument}, bits: {zero} }}"),
        };
        writeln!(text, "Syscall {{ id: {name:?}, number: libc::SYS_{name}, only: {only}, when: When::Always, reason: {reason:?} }},")?;
    }
    Ok(text + "];\n")
}
