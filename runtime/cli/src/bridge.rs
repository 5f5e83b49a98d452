//! `torbox bridge`: the bridges through which tor reaches its network, in a file of the user's (tor(1), "Bridge").
//!
//! A line becomes part of tor's configuration, and so is taken apart and put together again. It is told to nobody but tor, and to who
//! asks for the list.

mod builtin;
mod moat;
pub(crate) mod request;

use crate::args::{BridgeAction, Format};
use crate::dirs::{self, Dirs};
use crate::error::CliError;
use crate::proxy::Proxy;
use crate::run::{self, Patience};
use crate::stall::Bridges;
use crate::system;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use torbox_images::{Proof, Recipe, RecipeName, Transport};
use torbox_plan::Resolver;

pub(crate) use builtin::BuiltinError;

/// A relay that is in no public list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// What it speaks, if that is not tor's own protocol.
    transport: Option<String>,
    address: SocketAddr,
    /// Of its identity: tor talks to no other relay at that address.
    fingerprint: Option<String>,
    /// What the transport must know, each `KEY=VALUE`.
    arguments: Vec<String>,
}

/// Pluggable transports that programs of tor's image speak, by name.
pub(crate) type Transports = BTreeMap<String, Transport>;

/// The file that says where this machine looks names up (resolv.conf(5)).
const RESOLVER: &str = "/etc/resolv.conf";

/// Of standard input no more is read.
const MAX_GIVEN: u64 = 64 << 10;

/// Why a line is no bridge.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BridgeError {
    #[error("a bridge is an address with a port, such as 192.0.2.7:443 or [2001:db8::7]:443, and perhaps a fingerprint of 40 hexadecimal digits")]
    Form,
    #[error("a bridge with a pluggable transport is its name, an address with a port, a fingerprint of 40 hexadecimal digits, and settings such as cert=...")]
    Settings,
    #[error("no program in torbox's images speaks the pluggable transport {0}")]
    Transport(String),
    #[error("a bridge with {0} says {1}=... as well")]
    Lacks(String, String),
    #[error("a bridge with {0} says its fingerprint or url=https://..., or anybody could answer in its place")]
    Unproven(String),
}

impl Bridge {
    /// Reads one line, of a transport that is one of `transports` or of none.
    fn parse(line: &str, transports: &Transports) -> Result<Self, BridgeError> {
        let line = line.trim();
        let words: Vec<&str> = line.strip_prefix("Bridge ").unwrap_or(line).split_whitespace().collect();
        match words.as_slice() {
            [address] => Ok(Self { transport: None, address: socket(address)?, fingerprint: None, arguments: Vec::new() }),
            [address, fingerprint] if is_fingerprint(fingerprint) => {
                Ok(Self { transport: None, address: socket(address)?, fingerprint: Some(fingerprint.to_uppercase()), arguments: Vec::new() })
            }
            [transport, address, rest @ ..] if socket(address).is_ok() && is_name(transport) => {
                let Some(Transport { needs, proof, .. }) = transports.get(*transport) else {
                    return Err(BridgeError::Transport((*transport).to_owned()));
                };
                let (fingerprint, arguments) = match rest {
                    [fingerprint, arguments @ ..] if is_fingerprint(fingerprint) => (Some(fingerprint.to_uppercase()), arguments),
                    arguments if *proof == Proof::Certificate => (None, arguments),
                    _ => return Err(BridgeError::Settings),
                };
                if arguments.is_empty() || !arguments.iter().all(|argument| is_argument(argument)) {
                    return Err(BridgeError::Settings);
                }
                if let Some(lacks) = needs.iter().find(|needed| !arguments.iter().any(|argument| argument.split('=').next() == Some(needed))) {
                    return Err(BridgeError::Lacks((*transport).to_owned(), lacks.clone()));
                }
                if fingerprint.is_none() && !arguments.iter().all(|argument| !argument.starts_with("url=") || argument.starts_with("url=https://")) {
                    return Err(BridgeError::Unproven((*transport).to_owned()));
                }
                let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
                Ok(Self { transport: Some((*transport).to_owned()), address: socket(address)?, fingerprint, arguments })
            }
            _ => Err(BridgeError::Form),
        }
    }
}

fn socket(word: &str) -> Result<SocketAddr, BridgeError> {
    word.parse().ok().filter(|address: &SocketAddr| address.port() != 0).ok_or(BridgeError::Form)
}

fn is_fingerprint(word: &str) -> bool {
    word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_name(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Nothing that tor's configuration could take for more than a word.
fn is_argument(word: &str) -> bool {
    let plain = word.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'#'));
    plain && word.split_once('=').is_some_and(|(key, value)| !key.is_empty() && !value.is_empty())
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, address, fingerprint, arguments } = self;
        let address = address.to_string();
        let words = transport.iter().chain([&address]).chain(fingerprint).chain(arguments);
        f.write_str(&words.map(String::as_str).collect::<Vec<_>>().join(" "))
    }
}

/// The transports that torbox has programs for.
fn transports() -> Result<Transports, CliError> {
    Ok(Recipe::embedded(RecipeName::TorTransports)?.transports)
}

/// The Tor Project's word for the transport that is called `name`, there or in a bridge's line.
fn called<'a>(name: &'a str, transports: &'a Transports) -> Option<&'a str> {
    let called = |(own, transport): (&'a String, &'a Transport)| (own.as_str(), transport.called.as_deref().unwrap_or(own));
    transports.iter().map(called).find(|(own, theirs)| [own, theirs].contains(&&name)).map(|(_, theirs)| theirs)
}

/// Does what was asked for.
pub(crate) fn bridge(dir: Option<&Path>, dirs: &Dirs, action: &BridgeAction) -> Result<(), CliError> {
    let mut bridges = load(dirs)?;
    match action {
        BridgeAction::Add { line } => add(dirs, bridges, given(line)?),
        BridgeAction::Builtin(which) => builtin::builtin(dirs, which),
        BridgeAction::Request(of) => request::request(dir, dirs, of),
        BridgeAction::Test(_) if bridges.is_empty() => Err(CliError::NoBridges),
        BridgeAction::Test(of) => run::connect(dirs, of, if bridges.len() == 1 { Patience::FirstFailure } else { Patience::Minute }),
        BridgeAction::List => {
            bridges.iter().zip(1..).for_each(|(bridge, number)| println!("{number}  {bridge}"));
            Ok(())
        }
        BridgeAction::Remove { number } => {
            if *number == 0 || *number > bridges.len() {
                return Err(CliError::NoBridge(*number));
            }
            bridges.remove(number - 1);
            save(dirs, &bridges)
        }
    }
}

/// The bridge of a command line, or those on standard input.
fn given(line: &[String]) -> Result<Vec<Bridge>, CliError> {
    let transports = transports()?;
    let mut text = line.join(" ");
    if text == "-" {
        text.clear();
        io::stdin().take(MAX_GIVEN).read_to_string(&mut text).map_err(|source| CliError::System("read bridges from standard input", source))?;
        return parsed(&text, &transports);
    }
    Ok(vec![Bridge::parse(&text, &transports)?])
}

/// All of its lines, or none.
fn parsed(text: &str, transports: &Transports) -> Result<Vec<Bridge>, CliError> {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| Ok(Bridge::parse(line, transports)?)).collect()
}

/// Those of `new` that are not among the user's `bridges` yet become the user's.
fn add(dirs: &Dirs, mut bridges: Vec<Bridge>, new: Vec<Bridge>) -> Result<(), CliError> {
    let before = bridges.len();
    for bridge in new {
        if !bridges.contains(&bridge) {
            bridges.push(bridge);
        }
    }
    if bridges.len() == before { Ok(()) } else { save(dirs, &bridges) }
}

/// Prints bridges that are not the user's, or not yet.
fn show(bridges: &[Bridge], format: &Format) {
    if format.json {
        println!("{}", bridges.iter().map(ToString::to_string).collect::<serde_json::Value>());
    } else {
        bridges.iter().for_each(|bridge| println!("{bridge}"));
    }
}

/// What tor is told of them; nothing where there is none.
pub(crate) fn torrc(dirs: &Dirs) -> Result<String, CliError> {
    Ok(lines(&load(dirs)?, &transports()?))
}

fn lines(bridges: &[Bridge], transports: &Transports) -> String {
    let use_them = if bridges.is_empty() { "" } else { "UseBridges 1\n" };
    let used: BTreeSet<&String> = bridges.iter().filter_map(|bridge| bridge.transport.as_ref()).collect();
    let programs = used.iter().filter_map(|name| Some(format!("ClientTransportPlugin {name} exec {}\n", transports.get(*name)?.program)));
    use_them.to_owned() + &programs.collect::<String>() + &bridges.iter().map(|bridge| format!("Bridge {}\n", told(bridge))).collect::<String>()
}

/// As the programs of the image understand it: Debian's do not know `fronts`, and without a front they would ask for the broker, or for
/// meek's server, by its own name, which is what is blocked.
fn told(bridge: &Bridge) -> Bridge {
    let first = |argument: &String| match argument.strip_prefix("fronts=") {
        Some(fronts) => format!("front={}", fronts.split(',').next().unwrap_or_default()),
        None => argument.clone(),
    };
    Bridge { arguments: bridge.arguments.iter().map(first).collect(), ..bridge.clone() }
}

/// Whether a transport of the bridges' looks names up; where there is a proxy on the way, that does.
pub(crate) fn looks_up_names(dirs: &Dirs, proxy: Option<&Proxy>) -> Result<bool, CliError> {
    Ok(proxy.is_none() && any(dirs, |transport| transport.names)?.is_some())
}

/// The name servers that this machine asks, and nothing else that its file says of it.
pub(crate) fn resolver() -> Result<Resolver, CliError> {
    let text = fs::read_to_string(RESOLVER).map_err(|source| CliError::Path { path: RESOLVER.into(), source })?;
    Ok(Resolver::File(servers(&text)))
}

fn servers(text: &str) -> String {
    let addresses = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).map(str::trim);
    addresses.filter(|address| address.parse::<IpAddr>().is_ok()).map(|address| format!("nameserver {address}\n")).collect()
}

/// A transport of the bridges' that does not go through `proxy`, if there is one.
pub(crate) fn past(dirs: &Dirs, proxy: &Proxy) -> Result<Option<CliError>, CliError> {
    if let Some(transport) = any(dirs, |transport| !transport.proxy)? {
        return Ok(Some(CliError::PastProxy(transport)));
    }
    let named = any(dirs, |transport| transport.names && !proxy.takes_names())?;
    Ok(named.map(CliError::PastSocks4))
}

fn any(dirs: &Dirs, is: impl Fn(&Transport) -> bool) -> Result<Option<String>, CliError> {
    let transports = transports()?;
    let used = load(dirs)?.into_iter().filter_map(|bridge| bridge.transport);
    Ok(used.into_iter().find(|name| transports.get(name).is_some_and(&is)))
}

/// Of which kind they are.
pub(crate) fn in_use(dirs: &Dirs) -> Result<Bridges, CliError> {
    let bridges = load(dirs)?;
    Ok(match bridges.as_slice() {
        [] => Bridges::None,
        some if some.iter().any(|bridge| bridge.transport.is_some()) => {
            let transports = transports()?;
            let is_mute = |bridge: &Bridge| bridge.transport.as_ref().and_then(|name| transports.get(name)).is_some_and(|transport| transport.mute);
            if some.iter().all(is_mute) { Bridges::Mute } else { Bridges::Transports }
        }
        _ => Bridges::Plain,
    })
}

fn load(dirs: &Dirs) -> Result<Vec<Bridge>, CliError> {
    let path = dirs.bridges();
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(CliError::Path { path, source }),
        Ok(text) => parsed(&text, &transports()?),
    }
}

/// Written whole or not at all, and readable by nobody else.
fn save(dirs: &Dirs, bridges: &[Bridge]) -> Result<(), CliError> {
    let path: PathBuf = dirs.bridges();
    dirs::make(path.parent().unwrap_or(&path).to_owned())?;
    let fresh = path.with_extension("new");
    let text: String = bridges.iter().map(|bridge| format!("{bridge}\n")).collect();
    let written = system::private_file().create(true).truncate(true).open(&fresh).and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| fs::rename(&fresh, &path)).map_err(|source| CliError::Path { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINGERPRINT: &str = "00112233445566778899AABBCCDDEEFF00112233";

    fn parse(line: &str) -> Result<Bridge, BridgeError> {
        Bridge::parse(line, &transports().unwrap())
    }

    #[test]
    fn a_line_is_an_address_and_a_fingerprint_and_nothing_else() {
        let fingerprint = FINGERPRINT.to_lowercase();
        for (line, read) in [
            ("192.0.2.7:443".to_owned(), "192.0.2.7:443".to_owned()),
            (format!("Bridge 192.0.2.7:443 {fingerprint}"), format!("192.0.2.7:443 {FINGERPRINT}")),
            (format!("  [2001:db8::7]:9001   {fingerprint}\n"), format!("[2001:db8::7]:9001 {FINGERPRINT}")),
        ] {
            assert_eq!(parse(&line).map(|bridge| bridge.to_string()), Ok(read), "{line}");
        }
        for wrong in ["", "192.0.2.7", "192.0.2.7:0", "bridge.example:443", "192.0.2.7:443 short", "192.0.2.7:443\nLog debug file /x", "192.0.2.7:443 # x", "--torrc"] {
            assert_eq!(parse(wrong), Err(BridgeError::Form), "{wrong:?}");
        }
    }

    #[test]
    fn a_line_with_a_transport_has_settings_that_are_words() {
        let line = format!("obfs4 192.0.2.7:443 {FINGERPRINT} cert=aB+/9 iat-mode=0");
        let bridge = parse(&format!("Bridge  {}", line.replace(FINGERPRINT, &FINGERPRINT.to_lowercase()))).unwrap();
        assert_eq!(bridge.to_string(), line);
        let plain = parse("192.0.2.9:1").unwrap();
        let told = format!("UseBridges 1\nClientTransportPlugin obfs4 exec /usr/bin/obfs4proxy\nBridge 192.0.2.9:1\nBridge {line}\n");
        assert_eq!(lines(&[plain.clone(), bridge], &transports().unwrap()), told);
        assert_eq!(lines(&[plain], &transports().unwrap()), "UseBridges 1\nBridge 192.0.2.9:1\n");
        for other in ["webtunnel", "meek"] {
            assert_eq!(parse(&line.replace("obfs4", other)), Err(BridgeError::Transport(other.to_owned())));
        }
        for wrong in ["", "cert=", "=x", "cert", "cert=a\"b", "cert=a#b", "cert=a\\", "cert=x more"] {
            assert_eq!(parse(&format!("obfs4 192.0.2.7:443 {FINGERPRINT} {wrong}")), Err(BridgeError::Settings), "{wrong:?}");
        }
        assert_eq!(parse("obfs4 192.0.2.7:443 cert=x"), Err(BridgeError::Settings));
        assert_eq!(parse("obfs4 192.0.2.7:443"), Err(BridgeError::Settings));
    }

    #[test]
    fn a_front_is_told_as_debians_program_knows_it() {
        let line = format!("snowflake 192.0.2.3:80 {FINGERPRINT} fingerprint={FINGERPRINT} url=https://broker.example/ fronts=a.example,b.example ice=stun:stun.example:3478");
        let bridge = parse(&line).unwrap();
        assert_eq!(bridge.to_string(), line);
        let told = format!("UseBridges 1\nClientTransportPlugin snowflake exec /usr/bin/snowflake-client\nBridge {}\n", line.replace("fronts=a.example,b.example", "front=a.example"));
        assert_eq!(lines(&[bridge], &transports().unwrap()), told);
        let lacks = |setting: &str| Err(BridgeError::Lacks("snowflake".to_owned(), setting.to_owned()));
        assert_eq!(parse(line.split_once(" ice=").unwrap().0), lacks("ice"));
        assert_eq!(parse(&line.replace("url=", "broker=")), lacks("url"));
    }

    #[test]
    fn a_server_is_known_by_its_fingerprint_or_its_certificate() {
        let line = "meek_lite 192.0.2.20:80 url=https://meek.example/ front=front.example utls=HelloRandomizedALPN";
        let configured = format!("UseBridges 1\nClientTransportPlugin meek_lite exec /usr/bin/obfs4proxy\nBridge {line}\n");
        assert_eq!(lines(&[parse(line).unwrap()], &transports().unwrap()), configured);
        let open = format!("meek_lite 192.0.2.20:80 {FINGERPRINT} url=http://meek.example/ fronts=front.example,other.example");
        let bridge = parse(&open).unwrap();
        assert_eq!((bridge.to_string(), told(&bridge).to_string()), (open.clone(), open.replace("fronts=front.example,other.example", "front=front.example")));
        let unproven = Err(BridgeError::Unproven("meek_lite".to_owned()));
        assert_eq!(parse(&open.replace(&format!("{FINGERPRINT} "), "")), unproven);
        assert_eq!(parse(&format!("{line} url=http://meek.example/")), unproven);
        assert_eq!(parse("meek_lite 192.0.2.20:80 front=front.example"), Err(BridgeError::Lacks("meek_lite".to_owned(), "url".to_owned())));
        for wrong in ["meek_lite 192.0.2.20:80", "meek_lite 192.0.2.20:80 AABB url=https://meek.example/", "snowflake 192.0.2.3:80 url=https://broker.example/ ice=x"] {
            assert_eq!(parse(wrong), Err(BridgeError::Settings), "{wrong}");
        }
    }

    #[test]
    fn a_transport_has_two_names_at_most() {
        let transports = transports().unwrap();
        let names = ["meek", "meek_lite", "obfs4", "webtunnel"].map(|name| called(name, &transports));
        assert_eq!(names, [Some("meek"), Some("meek"), Some("obfs4"), None]);
    }

    #[test]
    fn of_the_resolver_go_the_servers_alone() {
        let text = "# of work.example\nsearch work.example\nnameserver 192.0.2.53\n nameserver\t2001:db8::53\noptions edns0\nnameserver name.example\n";
        assert_eq!(servers(text), "nameserver 192.0.2.53\nnameserver 2001:db8::53\n");
    }
}
