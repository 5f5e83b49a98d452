//! What tor's own words mean when it does not get on: which of its messages say so, and what to do (tor's `control_event_bootstrap_problem`).
//!
//! It never repeats an address: whose bridge it is stands in the user's own list.

/// Why tor does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What is wrong.
    pub(crate) what: String,
    /// What can be done about it.
    pub(crate) hint: &'static str,
}

/// Words in a message, what they mean to somebody without bridges, and to somebody with them.
const MEANINGS: [(&str, &str, &str, &str, &str); 7] = [
    ("CONNECTREFUSED", "relays refuse the connection", NETWORK, "the bridge refuses the connection", BRIDGE),
    ("TIMEOUT", "relays do not answer", NETWORK, "the bridge does not answer", BRIDGE),
    ("NOROUTE", "this machine has no way to the network", OFFLINE, "this machine has no way to the bridge", OFFLINE),
    ("IDENTITY", "somebody else answers in a relay's place", NETWORK, "another relay answers than the bridge's line says", BRIDGE),
    ("CONNECTRESET", "somebody on the way cuts the connection to relays", NETWORK, "somebody on the way cuts the connection to the bridge", BRIDGE),
    ("IOERROR", "the connection to relays breaks", NETWORK, "the connection to the bridge breaks", BRIDGE),
    ("identity keys were not as expected", "somebody else answers in a relay's place", NETWORK, "another relay answers than the bridge's line says", BRIDGE),
];
/// The same of what snowflake-client says: it names no address (safelog).
const SNOWFLAKE: [(&str, &str, &str); 6] = [
    ("broker failure no snowflake proxies", "Snowflake has no proxy to give just now", PATIENCE),
    ("broker failure timed out", "the proxy that Snowflake gave does not answer", PATIENCE),
    ("x509: ", "somebody else answers in the place of Snowflake's broker", BROKER),
    (" lookup ", "the name of Snowflake's broker cannot be looked up", RESOLVER),
    ("broker failure", "Snowflake's broker cannot be reached", BROKER),
    ("trying a new proxy", "the proxy that Snowflake gave is out of reach; another is tried", UDP),
];
/// How a connection ends that a mute transport took for tor and then could not carry.
const CUT: [&str; 3] = ["TLS_ERROR", "CONNECTRESET", "IOERROR"];
const PATIENCE: &str = "it keeps on trying; a bridge of another kind may be quicker";
const BROKER: &str = "torbox bridge list shows the bridges: url and fronts name the broker, and newer lines may name others";
const RESOLVER: &str = "is the machine online, and does it look names up? /etc/resolv.conf says where it asks, in an engine's box that of the engine's machine";
const UDP: &str = "Snowflake needs UDP, which this network may block; a bridge with obfs4 does not";
const NETWORK: &str = "this network may block Tor: torbox bridge builtin has bridges, and --proxy takes a proxy";
const OFFLINE: &str = "is the machine online? a captive network wants its page opened in another browser first";
pub(crate) const BRIDGE: &str = "torbox bridge list shows the bridges, to be compared with what you were given; another may work";
/// A mute transport finds its server by the names of its line.
pub(crate) const FRONT: &str = "url and front in torbox bridge list name who is asked, and move at times: newer lines may work; is the machine online, does it look names up, and is its clock right?";
const CONN_DONE: u8 = 10;
/// For who asks for bridges and has none.
pub(crate) const BUILT_IN: &str = "where Tor is blocked, add a built-in bridge first: torbox bridge builtin snowflake --add; torbox bridge builtin lists others";
/// Until something comes.
pub(crate) const SILENT: &str = "nothing has come from the network for a minute";
const NO_CONNECTION: &str = "the proxy on the way out makes no connection";
const PROXY: &str = "is it the one that --proxy names, and does it let you reach relays?";
const PROGRAM: &str = "torbox run --verbose shows what tor says of it; torbox verify checks the image that has it";
const OLD: &str = "is the machine online, and its clock right? tor goes on by itself once both are";
const CLOCK: &str = "set the clock: timedatectl set-ntp true; tor needs it right to the hour";

/// Whether `line` says that a tor that was connected finds no way through the network any more.
pub(crate) fn is_lost(line: &str) -> bool {
    line.contains("Our directory information is no longer up-to-date enough to build circuits")
}

/// Whether what has this hint may be over in a moment, because another proxy of Snowflake's is tried.
pub(crate) fn may_pass(hint: &str) -> bool {
    [PATIENCE, UDP].contains(&hint)
}

/// Whether `line` says that it finds one again.
pub(crate) fn is_found_again(line: &str) -> bool {
    line.contains("We now have enough directory information to build circuits")
}

/// What `line` of tor's means, if it tells of trouble.
pub(crate) fn explain(line: &str, way: Way) -> Option<Trouble> {
    let trouble = |what: &str, hint| Some(Trouble { what: what.to_owned(), hint });
    if let Some((_, rest)) = line.split_once("Our clock is ").or_else(|| line.split_once("our clock is ")) {
        let wrong = [" the time", ", or that"].iter().fold(rest, |rest, end| rest.split(end).next().unwrap_or_default());
        return trouble(&format!("the clock of this machine is {wrong}"), CLOCK);
    }
    if line.contains("Received a bad CERTS cell: At least one certificate expired") {
        return trouble("by the clock of this machine the certificates of relays have expired", CLOCK);
    }
    if is_lost(line) {
        return trouble("what tor knows of the network is too old for it", OLD);
    }
    if line.contains("Proxy Client: unable to connect") {
        return match way.bridges {
            Bridges::Transports | Bridges::Mute => trouble("the transport gets no connection to the bridge, which is gone, or other than its line says", BRIDGE),
            Bridges::None | Bridges::Plain => trouble(NO_CONNECTION, PROXY),
        };
    }
    if let Some((_, what, hint)) = SNOWFLAKE.iter().find(|(words, ..)| line.contains("snowflake-client") && line.contains(words)) {
        return trouble(what, hint);
    }
    if ["Could not launch managed proxy", "Managed proxy at", "We were unable to find a transport"].iter().any(|words| line.contains(words)) {
        return trouble("the program that speaks the bridge's transport does not work", PROGRAM);
    }
    if !line.contains("Problem bootstrapping") && !line.contains("identity keys were not as expected") {
        return None;
    }
    if way.bridges == Bridges::Mute && CUT.iter().any(|words| line.contains(words)) {
        return trouble("the server that the bridge's line names is out of reach, or somebody else answers in its place", FRONT);
    }
    let (_, alone, hint, bridged, bridged_hint) = MEANINGS.iter().find(|(words, ..)| line.contains(words))?;
    match way.bridges {
        // It is the proxy that tor connects to, whatever lies behind it.
        Bridges::None | Bridges::Plain if way.proxied && line.contains("Problem bootstrapping") => trouble(NO_CONNECTION, PROXY),
        Bridges::None => trouble(alone, hint),
        Bridges::Plain | Bridges::Transports | Bridges::Mute => trouble(bridged, bridged_hint),
    }
}

/// What is to be said of a tor that says nothing.
pub(crate) fn silent(way: Way) -> Trouble {
    let hint = match way.bridges {
        Bridges::None if way.proxied => PROXY,
        Bridges::None => NETWORK,
        Bridges::Plain | Bridges::Transports => BRIDGE,
        Bridges::Mute => FRONT,
    };
    Trouble { what: SILENT.to_owned(), hint }
}

/// What can be done where tor came to `percent` and no further, and what it said meant `hint`. A mute transport has tor believe that
/// it is connected (control-spec, "Bootstrap phases": conn_done).
pub(crate) fn last_word(way: Way, percent: u8, hint: Option<&'static str>) -> Option<&'static str> {
    match way.bridges {
        Bridges::None => Some(BUILT_IN),
        Bridges::Mute if percent <= CONN_DONE => hint.or(Some(FRONT)),
        Bridges::Plain | Bridges::Transports | Bridges::Mute => hint,
    }
}

/// How tor leaves this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) bridges: Bridges,
    /// Through a proxy that torbox knows of.
    pub(crate) proxied: bool,
}

/// Whether tor goes through bridges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bridges {
    /// It connects to public relays.
    None,
    /// It connects to bridges alone, and speaks its own protocol.
    Plain,
    /// To bridges alone, and some need a pluggable transport.
    Transports,
    /// To bridges alone, whose transports say nothing of what they lack.
    Mute,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY_FAILS: &str =
        "[warn] Proxy Client: unable to connect OR connection (handshaking (proxy)) with 192.0.2.7:9 ID=<none> RSA_ID=2B28 (\"general SOCKS server failure\")";

    #[test]
    fn tors_words_have_a_meaning() {
        let stuck = |reason: &str| format!("Nov 25 19:00:00.000 [warn] Problem bootstrapping. Stuck at 5% (conn): Connecting to a relay. ({reason}; count 1; recommendation warn; host A at 192.0.2.7:443)");
        for (line, bridges, what) in [
            (stuck("Connection refused; CONNECTREFUSED"), Bridges::None, "relays refuse the connection"),
            (stuck("Connection refused; CONNECTREFUSED"), Bridges::Plain, "the bridge refuses the connection"),
            (stuck("Network is unreachable; NOROUTE"), Bridges::Plain, "this machine has no way to the bridge"),
            ("[warn] Tried connecting to router at X, but RSA + ed25519 identity keys were not as expected: wanted A but got B".to_owned(), Bridges::Plain, "another relay answers than the bridge's line says"),
            (PROXY_FAILS.to_owned(), Bridges::Transports, "the transport gets no connection to the bridge, which is gone, or other than its line says"),
            (PROXY_FAILS.to_owned(), Bridges::None, "the proxy on the way out makes no connection"),
            ("[warn] Managed proxy at '/usr/bin/obfs4proxy' failed the configuration protocol".to_owned(), Bridges::Transports, "the program that speaks the bridge's transport does not work"),
            (
                "[notice] Managed proxy \"/usr/bin/snowflake-client\": broker failure dial tcp: lookup broker.example on [scrubbed]: no such host".to_owned(),
                Bridges::Transports,
                "the name of Snowflake's broker cannot be looked up",
            ),
            (
                "[notice] Managed proxy \"/usr/bin/snowflake-client\": broker failure Unexpected error, no answer.".to_owned(),
                Bridges::Transports,
                "Snowflake's broker cannot be reached",
            ),
            (
                stuck("unexpected eof while reading; TLS_ERROR"),
                Bridges::Mute,
                "the server that the bridge's line names is out of reach, or somebody else answers in its place",
            ),
            (stuck("identity mismatch; IDENTITY"), Bridges::Mute, "another relay answers than the bridge's line says"),
            (
                "[warn] Our clock is 3 hours, 4 minutes behind the time published in the consensus network status document (2026).".to_owned(),
                Bridges::None,
                "the clock of this machine is 3 hours, 4 minutes behind",
            ),
            ("[warn] Received a bad CERTS cell: At least one certificate expired.".to_owned(), Bridges::None, "by the clock of this machine the certificates of relays have expired"),
            ("[notice] Our directory information is no longer up-to-date enough to build circuits: We have no recent usable consensus.".to_owned(), Bridges::None, "what tor knows of the network is too old for it"),
            ("[warn] It seems that our clock is behind by 5 hours, 0 minutes, or that theirs is ahead.".to_owned(), Bridges::None, "the clock of this machine is behind by 5 hours, 0 minutes"),
        ] {
            let trouble = explain(&line, Way { bridges, proxied: false }).unwrap();
            assert_eq!(trouble.what, what, "{line}");
            assert!(!trouble.what.contains("192.0.2"));
        }
        assert_eq!(explain(&stuck("unexpected eof while reading; TLS_ERROR"), Way { bridges: Bridges::Transports, proxied: false }), None);
        assert_eq!(explain("[notice] Bootstrapped 10% (conn_done): Connected to a relay", Way { bridges: Bridges::None, proxied: false }), None);
        for (bridges, what) in [(Bridges::None, NO_CONNECTION), (Bridges::Plain, NO_CONNECTION), (Bridges::Transports, "the bridge refuses the connection")] {
            assert_eq!(explain(&stuck("Connection refused; CONNECTREFUSED"), Way { bridges, proxied: true }).unwrap().what, what);
        }
    }

    #[test]
    fn a_mute_transport_is_no_bridge_that_answers() {
        let word = |bridges, percent, hint| last_word(Way { bridges, proxied: false }, percent, hint);
        assert_eq!((word(Bridges::Mute, 10, None), word(Bridges::Mute, 10, Some(CLOCK)), word(Bridges::Mute, 14, None)), (Some(FRONT), Some(CLOCK), None));
        assert_eq!((word(Bridges::Transports, 10, None), word(Bridges::None, 10, Some(CLOCK))), (None, Some(BUILT_IN)));
    }

    #[test]
    fn another_proxy_may_do_what_one_does_not() {
        let way = Way { bridges: Bridges::Transports, proxied: false };
        let passes = |said: &str| may_pass(explain(&format!("[notice] Managed proxy \"/usr/bin/snowflake-client\": {said}"), way).unwrap().hint);
        assert!(["broker failure no snowflake proxies currently available", "broker failure timed out", "trying a new proxy: x"].into_iter().all(passes));
        assert!(!["broker failure dial tcp: lookup broker.example: no such host", "broker failure Unexpected error", "x509: unknown authority"].into_iter().any(passes));
        assert!(!may_pass(explain(PROXY_FAILS, way).unwrap().hint));
    }
}
