//! The shape of the private network, and tor's configuration for each of its daemons (tor(1), section "TESTING NETWORK OPTIONS").
//!
//! Values in, text out: nothing here touches the machine.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::snowflake::ENDS;

/// The first votes are cast at multiples of this many seconds of the wall clock; tor refuses anything below 10 with these delays.
pub const FIRST_VOTE_INTERVAL: u64 = 10;
/// Where the web server listens, inside the network.
pub const WEB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The name of that address, which a client's tor maps: the gate lets no private address through.
pub const WEB_NAME: &str = "page.torbox.test";
/// The page's port behind an exit.
pub const EXIT_PORT: u16 = 80;
/// The port that the onion service forwards to.
pub const ONION_PORT: u16 = 8081;
/// A bridge, which no authority knows.
pub const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 40);
/// A bridge that speaks obfs4 there, on this port alone as its users see it.
pub const OBFS4: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 41), 6000);
/// A bridge that snowflake's proxies bring clients to, and where it listens for them.
pub const SNOWFLAKE: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 42), 6000);
/// The broker that knows the proxies.
pub const BROKER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 43), 8080);
/// Where somebody else answers in its place, or in that of meek's front, over TLS.
pub const IMPOSTOR_PORT: u16 = 8443;
/// Its name.
pub const BROKER_NAME: &str = "broker.torbox.test";
/// Where a client learns its own address.
pub const STUN: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 44), 3478);
/// Its name.
pub const STUN_NAME: &str = "stun.torbox.test";
/// Who knows those names.
pub const NAMES: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 45), 53);
/// A bridge's end of meek.
pub const MEEK: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 47), 8080);
/// What brings requests to it.
pub const FRONT_NAME: &str = "front.torbox.test";
/// Its own name, which nobody knows but the front.
pub const MEEK_NAME: &str = "meek.torbox.test";
/// A service for bridges, and its port.
pub const MOAT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 46), 443);
/// Its name, which a client's tor maps.
pub const MOAT_NAME: &str = "moat.torbox.test";
/// The network's end of the cable between the two namespaces.
pub const NET_END: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The client's end of it.
pub const CLIENT_END: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);

const OR_PORT: u16 = 5000;
const DIR_PORT: u16 = 7000;
/// Where relays and authorities listen.
pub const RELAY_PORTS: [u16; 2] = [OR_PORT, DIR_PORT];

/// What a relay does beside relaying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It also votes on the consensus.
    Authority,
    /// Nothing more.
    Relay,
}

/// One relay of the network; every one is an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its nickname, and the name of its directory.
    pub name: String,
    /// What else it does.
    pub role: Role,
    /// Its address: a /32 on the namespace's loopback.
    pub address: Ipv4Addr,
}

/// The public names of an authority that every other daemon must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its nickname.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Fingerprint of its voting identity, hexadecimal.
    pub v3ident: String,
    /// Fingerprint of its relay identity, hexadecimal.
    pub fingerprint: String,
}

impl Authority {
    fn line(&self) -> String {
        let Self { name, address, v3ident, fingerprint } = self;
        format!("DirAuthority {name} orport={OR_PORT} no-v2 v3ident={v3ident} {address}:{DIR_PORT} {fingerprint}\n")
    }
}

/// `authorities` and `relays` nodes, authorities first.
#[must_use]
pub fn nodes(authorities: u8, relays: u8) -> Vec<Node> {
    let authorities = (0..authorities).map(|i| (Role::Authority, format!("auth{i}")));
    let relays = (0..relays).map(|i| (Role::Relay, format!("relay{i}")));
    let address = |i: u8| Ipv4Addr::new(10, 77, 0, 10 + i);
    (0..).zip(authorities.chain(relays)).map(|(i, (role, name))| Node { name, role, address: address(i) }).collect()
}

/// Where everything of one network lies: its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, an absolute path.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// A file directly below it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
    /// A daemon's data directory.
    #[must_use]
    pub fn data(&self, daemon: &str) -> PathBuf {
        self.root.join(daemon)
    }
    /// Where a relay has its keys.
    #[must_use]
    pub fn keys(&self, daemon: &str) -> PathBuf {
        self.data(daemon).join("keys")
    }
    /// A daemon's configuration.
    #[must_use]
    pub fn torrc(&self, daemon: &str) -> PathBuf {
        self.root.join(format!("{daemon}.torrc"))
    }
    /// A daemon's log.
    #[must_use]
    pub fn log(&self, daemon: &str) -> PathBuf {
        self.data(daemon).join("notice.log")
    }
    /// What a client of this network gives tor beside its own options.
    #[must_use]
    pub fn client_torrc(&self) -> PathBuf {
        self.file("client.torrc")
    }
    /// The web server's log.
    #[must_use]
    pub fn web_log(&self) -> PathBuf {
        self.file("web.jsonl")
    }
    /// What the authorities take for the relays' measured speed.
    #[must_use]
    pub fn bandwidths(&self) -> PathBuf {
        self.file("bandwidths")
    }
    /// The onion service's directory.
    #[must_use]
    pub fn onion(&self) -> PathBuf {
        self.data("onion").join("service")
    }
    /// The control socket of its tor.
    #[must_use]
    pub fn onion_control(&self) -> PathBuf {
        self.data("onion").join("control")
    }
    /// The SOCKS socket of the client that checks the network.
    #[must_use]
    pub fn probe_socket(&self) -> PathBuf {
        self.data("probe").join("socks")
    }
}

/// A client's options: the authorities, and what makes tor accept a network this small.
/// It leaves out ports, directories and logs, which belong to whoever starts that tor.
#[must_use]
pub fn client(authorities: &[Authority]) -> String {
    let own = "ClientRejectInternalAddresses 0\nClientDNSRejectInternalAddresses 0\nClientUseIPv6 0\nVanguardsLiteEnabled 0\n";
    let names = format!("MapAddress {WEB_NAME} {WEB}\nMapAddress {MOAT_NAME} {}\n", MOAT.0);
    TESTING.to_owned() + own + &names + &authorities.iter().map(Authority::line).collect::<String>()
}

/// The checking client.
#[must_use]
pub fn probe(layout: &Layout, authorities: &[Authority]) -> String {
    let socket = layout.probe_socket();
    daemon(layout, "probe")
        + &client(authorities)
        + &format!("SocksPort unix:{} RelaxDirModeCheck IsolateSOCKSAuth ExtendedErrors\n", socket.display())
}

/// The daemon that offers the onion service.
#[must_use]
pub fn onion(layout: &Layout, authorities: &[Authority]) -> String {
    let (service, control) = (layout.onion(), layout.onion_control());
    let own = format!("SocksPort 0\nHiddenServiceDir {}\nHiddenServicePort 80 {WEB}:{ONION_PORT}\n", service.display());
    daemon(layout, "onion") + &client(authorities) + &own + &format!("ControlSocket unix:{} RelaxDirModeCheck\n", control.display())
}

/// A relay or an authority.
#[must_use]
pub fn node(layout: &Layout, node: &Node, authorities: &[Authority]) -> String {
    let Node { name, role, address } = node;
    let mut text = daemon(layout, name) + TESTING + RELAY;
    let _infallible = write!(
        text,
        "Nickname {name}\nAddress {address}\nOutboundBindAddress {address}\nORPort {address}:{OR_PORT}\nServerDNSResolvConfFile {}\n",
        layout.file("resolv.conf").display()
    );
    if *role == Role::Authority {
        text += AUTHORITY;
        text += &format!("DirPort {address}:{DIR_PORT}\nV3BandwidthsFile {}\n", layout.bandwidths().display());
    }
    text + &authorities.iter().map(Authority::line).collect::<String>()
}

/// What a bridge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// tor's own protocol.
    Tor,
    /// A pluggable transport, through Debian's obfs4proxy.
    Obfs4,
    /// The same, of the programs that `make out/snowflake` builds.
    Snowflake,
    /// The same, of those programs.
    Meek,
}

impl Spoken {
    /// The bridge's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tor => "bridge",
            Self::Obfs4 => "obfs4",
            Self::Snowflake => "snowflake",
            Self::Meek => "meek",
        }
    }

    /// Its address.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        match self {
            Self::Tor => BRIDGE,
            Self::Obfs4 => OBFS4.0,
            Self::Snowflake => SNOWFLAKE.0,
            Self::Meek => MEEK.0,
        }
    }

    /// The names that lead to it.
    #[must_use]
    pub const fn names(self) -> &'static [(&'static str, Ipv4Addr)] {
        match self {
            Self::Tor | Self::Obfs4 => &[],
            Self::Snowflake => &[(BROKER_NAME, BROKER.0), (STUN_NAME, STUN.0)],
            Self::Meek => &[(FRONT_NAME, MEEK.0)],
        }
    }
}

/// A bridge, with the lines of the authorities.
#[must_use]
pub fn bridge(layout: &Layout, spoken: Spoken, authorities: &str) -> String {
    let (name, address) = (spoken.name(), spoken.address());
    let own = format!("Nickname {name}\nAddress {address}\nOutboundBindAddress {address}\nORPort {address}:{OR_PORT}\nBridgeRelay 1\nPublishServerDescriptor 0\n");
    let plugin = |program: &str, port: u16| format!("ServerTransportPlugin {name} exec {program}\nServerTransportListenAddr {name} {address}:{port}\nExtORPort auto\n");
    let transport = match spoken {
        Spoken::Tor => String::new(),
        Spoken::Obfs4 => plugin("/usr/bin/obfs4proxy", OBFS4.1),
        Spoken::Snowflake => plugin(&layout.file(ENDS).display().to_string(), SNOWFLAKE.1),
        Spoken::Meek => plugin(&layout.file(ENDS).display().to_string(), MEEK.1),
    };
    let resolver = format!("ServerDNSResolvConfFile {}\n", layout.file("resolv.conf").display());
    daemon(layout, name) + TESTING + &RELAY.replace("ExitRelay 1", "ExitRelay 0") + &own + &transport + &resolver + authorities
}

/// Where one that speaks tor's own protocol listens.
#[must_use]
pub fn bridge_address() -> String {
    format!("{BRIDGE}:{OR_PORT}")
}

/// The same speed for every relay, as if measured at `time`, seconds since 1970 (bandwidth-file-spec, version 1.0.0). Left to itself
/// the first consensus gives a speed to one relay alone; clients then choose it as first and as last hop at once, which its
/// neighbour refuses, and the onion service stays out of reach for a minute.
#[must_use]
pub fn bandwidths<'a>(time: u64, fingerprints: impl Iterator<Item = &'a str>) -> String {
    let lines = fingerprints.map(|fingerprint| format!("node_id=${fingerprint} bw=10000\n"));
    format!("{time}\n{}", lines.collect::<String>())
}

/// The `DirPort` of an authority, as tor-gencert wants it.
#[must_use]
pub fn dir_port(node: &Node) -> String {
    format!("{}:{DIR_PORT}", node.address)
}

fn daemon(layout: &Layout, name: &str) -> String {
    let (data, log) = (layout.data(name), layout.log(name));
    format!("DataDirectory {}\nLog notice file {}\nSafeLogging 0\nRunAsDaemon 0\n", data.display(), log.display())
}

// How long a circuit takes to build is not to be learned: here that is milliseconds, so that whoever has built a hundred gives up what
// a busy machine delays, the onion service its way to a rendezvous for good, while the client waits there for three times its own bound.
const TESTING: &str = "\
TestingTorNetwork 1
LearnCircuitBuildTimeout 0
CircuitBuildTimeout 10
AssumeReachable 1
PathsNeededToBuildCircuits 0.67
TestingClientDownloadInitialDelay 0
TestingServerDownloadInitialDelay 0
TestingClientConsensusDownloadInitialDelay 0
TestingServerConsensusDownloadInitialDelay 0
TestingBridgeDownloadInitialDelay 0
";

// A policy that accepts only the test's addresses is summarised as "reject 1-65535", and no client would use the exit.
// A relay that compresses a consensus takes 195 MB for it, and counts that among its queues: with less than it takes, every new
// consensus would end every circuit through it.
const RELAY: &str = "\
SocksPort 0
ShutdownWaitLength 1
ContactInfo none
ExitRelay 1
IPv6Exit 0
ExitPolicyRejectPrivate 0
ExitPolicyRejectLocalInterfaces 0
ExitPolicy accept *:*
ServerDNSAllowBrokenConfig 1
ServerDNSDetectHijacking 0
ServerDNSTestAddresses
BridgeRecordUsageByCountry 0
DirReqStatistics 0
ExtraInfoStatistics 0
NumCPUs 1
MaxMemInQueues 2 GB
";

const AUTHORITY: &str = "\
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
V3AuthVotingInterval 20
V3AuthVoteDelay 2
V3AuthDistDelay 2
V3AuthNIntervalsValid 3
TestingV3AuthInitialVotingInterval 10
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
TestingV3AuthVotingStartOffset 0
TestingAuthDirTimeToLearnReachability 0
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard *
TestingMinExitFlagThreshold 0
TestingMinFastFlagThreshold 0
MinUptimeHidServDirectoryV2 0
AuthDirMaxServersPerAddr 0
AuthDirTestReachability 0
";

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Authority {
        Authority { name: "auth0".into(), address: Ipv4Addr::new(10, 77, 0, 10), v3ident: "AA".into(), fingerprint: "BB".into() }
    }

    #[test]
    fn nodes_have_names_and_addresses_of_their_own() {
        let seen: Vec<_> = nodes(2, 1).into_iter().map(|n| (n.name, n.role, n.address.to_string())).collect();
        let wanted = [
            ("auth0", Role::Authority, "10.77.0.10"),
            ("auth1", Role::Authority, "10.77.0.11"),
            ("relay0", Role::Relay, "10.77.0.12"),
        ];
        assert_eq!(seen, wanted.map(|(n, r, a)| (n.to_owned(), r, a.to_owned())));
    }

    #[test]
    fn the_clients_file_leaves_ports_directories_and_logs_to_torbox() {
        let text = client(&[authority()]);
        assert!(text.contains("\nDirAuthority auth0 orport=5000 no-v2 v3ident=AA 10.77.0.10:7000 BB\n"), "{text}");
        for word in ["SocksPort", "ControlPort", "ControlSocket", "DataDirectory", "Log ", "PidFile", "RunAsDaemon", "ORPort "] {
            assert!(!text.lines().any(|line| line.starts_with(word)), "{word} in {text}");
        }
    }

    #[test]
    fn a_bandwidth_file() {
        assert_eq!(bandwidths(7, ["AA", "BB"].into_iter()), "7\nnode_id=$AA bw=10000\nnode_id=$BB bw=10000\n");
    }

    #[test]
    fn only_authorities_vote() {
        let layout = Layout::new(Path::new("/d"));
        for n in nodes(1, 1) {
            let votes = node(&layout, &n, &[authority()]).contains("\nV3AuthoritativeDirectory 1\n");
            assert_eq!(votes, n.role == Role::Authority, "{n:?}");
        }
    }
}
