//! A private Tor network: authorities, relays that are exits, an onion service and a web server in a network namespace of their
//! own, and a client namespace whose only way out is a cable to it. `torbox run` is started in the client namespace.
//!
//! Names are derived from the network's directory, so that several can exist. Nothing here has a route to the machine's own
//! network. ip-netns(8), veth(4), tor(1).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub mod capture;
pub mod config;
pub mod daemon;
mod keys;
pub mod moat;
pub mod names;
pub mod netns;
pub mod probe;
mod published;
pub mod sentinel;
pub mod snowflake;
pub mod web;

pub use daemon::Lifetime;
pub use netns::Namespace;
pub use sentinel::{Door, Hit, Sentinel};
pub use web::{Mark, Request, Via, WebLog};

use crate::process::{self, ProcessId};
use crate::require::{self, Need};
use crate::wait;
use config::{Layout, Node, Spoken};
use daemon::{Account, start_helper, start_tor};
use keys::Known;
use names::Names;
use probe::Probe;
use published::Publication;
use snowflake::{ENDS, Snowflake};

/// How long one bring-up may take, from the start of the daemons until both pages came.
const PATIENCE: Duration = Duration::from_secs(100);
// The fewest with which onion services work, and relays enough for a path that does not turn back on itself.
const AUTHORITIES: u8 = 3;
const RELAYS: u8 = 3;
const STATE: &str = "state.json";

/// What to bring up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The network's directory; it must not exist, or be one that an earlier network left.
    pub dir: PathBuf,
    /// The `torbox-testnet` program, which also serves the web page and the sentinels.
    pub helper: PathBuf,
    /// How long the network lives.
    pub lifetime: Lifetime,
    /// Is told what is being done, one line at a time.
    pub progress: fn(&str),
}

impl Options {
    /// A network in `dir` that ends with the calling process and tells nothing.
    #[must_use]
    pub fn new(dir: &Path, helper: &Path) -> Self {
        Self { dir: dir.to_owned(), helper: helper.to_owned(), lifetime: Lifetime::Owned, progress: |_| {} }
    }
}

/// What is written into the network's directory, for those who come later.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The process that the network belongs to, and when that started; none if it is to stay.
    owner: Option<(ProcessId, Option<u64>)>,
    /// The address of every relay, by name. All are exits.
    pub relays: BTreeMap<String, std::net::Ipv4Addr>,
    /// Name of the namespace that holds the network.
    pub network: String,
    /// Name of the namespace for clients.
    pub client: String,
    /// What a client's tor needs, for `torbox run --torrc`.
    pub client_torrc: PathBuf,
    /// The page behind an exit.
    pub exit_url: String,
    /// The same page by its name, which the client's torrc maps to its address.
    pub named_url: String,
    /// The page of the onion service; empty until that has a name.
    pub onion_url: String,
    /// The web server's log.
    pub web_log: PathBuf,
    /// How long each part of the bring-up took, in milliseconds; empty until it is up.
    pub took_ms: BTreeMap<String, u64>,
}

/// A running network. Dropping it removes it, unless it is detached.
#[derive(Debug)]
pub struct TestNet {
    layout: Layout,
    state: State,
    lifetime: Lifetime,
    children: Vec<Child>,
}

impl TestNet {
    /// Brings a network up and returns when the page came from the exit and from the onion service; tries twice.
    /// What an earlier network left in the same directory is removed, unless its owner still lives.
    pub fn up(options: &Options) -> Result<Self> {
        refuse(options)?;
        match Self::try_up(options) {
            Err(error) => {
                (options.progress)(&format!("once more, because: {error:#}"));
                Self::try_up(options)
            }
            up => up,
        }
    }

    /// A network that was brought up elsewhere; it stays when the value is dropped.
    pub fn attach(dir: &Path) -> Result<Self> {
        let layout = Layout::new(dir);
        let state = read_state(&layout)?.with_context(|| format!("there is no network in {}", dir.display()))?;
        Ok(Self { layout, state, lifetime: Lifetime::Detached, children: Vec::new() })
    }

    fn try_up(options: &Options) -> Result<Self> {
        down(&options.dir)?;
        let begun = Instant::now();
        let layout = Layout::new(&options.dir);
        let account = Account::of_tor()?;
        // From here on the value's Drop cleans up after every error, so a detached network is owned until it is complete.
        let mut net = Self { state: new_state(&layout), layout, lifetime: Lifetime::Owned, children: Vec::new() };
        net.make_ground(options.lifetime, account)?;
        (options.progress)("making keys");
        let nodes = config::nodes(AUTHORITIES, RELAYS);
        net.configure(account, &nodes)?;
        let keys = begun.elapsed();
        align_to_votes();
        let aligned = begun.elapsed();
        net.start(options, account, &nodes)?;
        let (exit, onion) = net.wait_until_it_works(account, options.progress)?;
        let took = [("keys", keys), ("aligned", aligned - keys), ("exit", exit), ("onion", onion), ("all", begun.elapsed())];
        net.state.took_ms = took.into_iter().map(|(k, v)| (k.to_owned(), u64::try_from(v.as_millis()).unwrap_or(0))).collect();
        net.lifetime = options.lifetime;
        net.write_state()?;
        Ok(net)
    }

    fn make_ground(&mut self, lifetime: Lifetime, account: Account) -> Result<()> {
        let root = self.layout.root().to_owned();
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        fs::set_permissions(&root, PermissionsExt::from_mode(0o755))?;
        let own = ProcessId::own();
        self.state.owner = (lifetime == Lifetime::Owned).then(|| (own, own.started()));
        self.write_state()?;
        // tor does not take /dev/null as a configuration file.
        fs::write(self.layout.file("empty"), "")?;
        fs::write(self.layout.file("resolv.conf"), "nameserver 127.0.0.1\n")?;
        account.make_file(&self.layout.web_log())?;
        let (network, client) = (self.network(), self.client());
        network.create()?;
        client.create()?;
        network.add_local(config::WEB)?;
        network.join(config::NET_END, &client, config::CLIENT_END)
    }

    fn configure(&self, account: Account, nodes: &[Node]) -> Result<()> {
        let layout = &self.layout;
        for name in nodes.iter().map(|n| n.name.as_str()).chain(["onion", "probe"]) {
            account.make_dir(&layout.keys(name))?;
        }
        let Known { authorities, fingerprints } = keys::generate(layout, account, nodes)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        write(&layout.bandwidths(), &config::bandwidths(now, fingerprints.iter().map(String::as_str)))?;
        for node in nodes {
            self.network().add_local(node.address)?;
            write(&layout.torrc(&node.name), &config::node(layout, node, &authorities))?;
        }
        write(&layout.torrc("onion"), &config::onion(layout, &authorities))?;
        write(&layout.torrc("probe"), &config::probe(layout, &authorities))?;
        write(&layout.client_torrc(), &config::client(&authorities))
    }

    fn start(&mut self, options: &Options, account: Account, nodes: &[Node]) -> Result<()> {
        let network = self.network();
        for name in nodes.iter().map(|n| n.name.as_str()).chain(["onion"]) {
            self.children.push(start_tor(&self.layout, name, account, &network, options.lifetime)?);
        }
        for (name, child) in nodes.iter().map(|n| n.name.as_str()).chain(["onion"]).zip(&mut self.children) {
            daemon::wait_for_log(&self.layout, name, child)?;
        }
        let mut web = network.command(&options.helper);
        web.arg("serve-web").arg("--log").arg(self.layout.web_log());
        self.children.push(start_helper(web, &self.layout.file("web.out"), options.lifetime)?);
        Ok(())
    }

    fn wait_until_it_works(&mut self, account: Account, progress: fn(&str)) -> Result<(Duration, Duration)> {
        let begun = Instant::now();
        let publication = Publication::follow(&self.layout.onion_control(), begun + PATIENCE)?;
        let probe = Probe::start(&self.layout, account, &self.client())?;
        progress("waiting for the first consensus and the page behind the exit");
        probe.wait_for_page(&config::WEB.to_string(), begun + PATIENCE)?;
        let exit = begun.elapsed();
        let onion = fs::read_to_string(self.layout.onion().join("hostname")).context("the onion service has no name")?;
        self.state.onion_url = format!("http://{}/", onion.trim());
        progress("waiting for the onion service to be published");
        publication.wait(begun + PATIENCE)?;
        progress("waiting for the onion page");
        probe.wait_for_page(onion.trim(), begun + PATIENCE)?;
        Ok((exit, begun.elapsed()))
    }

    /// Asks for both pages again, with a client of its own: how long each took.
    pub fn check(&self) -> Result<(Duration, Duration)> {
        let account = Account::of_tor()?;
        let begun = Instant::now();
        let probe = Probe::start(&self.layout, account, &self.client())?;
        probe.wait_for_page(&config::WEB.to_string(), begun + PATIENCE)?;
        let exit = begun.elapsed();
        let onion = self.state.onion_url.trim_start_matches("http://").trim_end_matches('/');
        probe.wait_for_page(onion, begun + PATIENCE)?;
        Ok((exit, begun.elapsed()))
    }

    /// A bridge of this network, connected to it. It ends with the value.
    pub fn start_bridge(&self, spoken: Spoken) -> Result<Bridge> {
        let (layout, account, name) = (&self.layout, Account::of_tor()?, spoken.name());
        account.make_dir(&layout.keys(name))?;
        self.network().add_local(spoken.address())?;
        let client = fs::read_to_string(layout.client_torrc())?;
        let authorities: String = client.lines().filter(|line| line.starts_with("DirAuthority ")).map(|line| format!("{line}\n")).collect();
        write(&layout.torrc(name), &config::bridge(layout, spoken, &authorities))?;
        // One that ran before said in it that it was connected.
        if layout.log(name).exists() {
            fs::remove_file(layout.log(name))?;
        }
        let names = |to| Names::start(layout, &self.network(), spoken.names(), to);
        let beside = match spoken {
            Spoken::Tor | Spoken::Obfs4 => None,
            Spoken::Snowflake => Some((names(config::BROKER)?, Some(Snowflake::start(layout, account, &self.network())?))),
            Spoken::Meek => {
                snowflake::copied(layout, ENDS)?;
                Some((names(config::MEEK)?, None))
            }
        };
        let mut bridge = Bridge { _beside: beside, child: start_tor(layout, name, account, &self.network(), Lifetime::Owned)?, line: String::new() };
        let log = layout.log(name);
        daemon::wait_for_log(layout, name, &mut bridge.child)?;
        let connected = || wait::text_so_far(&log).contains("Bootstrapped 100%").then_some(());
        wait::retry(Duration::from_millis(50), Instant::now() + PATIENCE, connected).with_context(|| format!("the bridge does not connect: {}", wait::text_so_far(&log)))?;
        let fingerprint = fs::read_to_string(layout.data(name).join("fingerprint")).context("the bridge has no fingerprint")?;
        let fingerprint = fingerprint.split_whitespace().last().unwrap_or_default();
        bridge.line = match spoken {
            Spoken::Tor => format!("{} {fingerprint}", config::bridge_address()),
            Spoken::Obfs4 => {
                let (address, port) = config::OBFS4;
                format!("obfs4 {address}:{port} {fingerprint} {}", obfs4_settings(layout)?)
            }
            // The address is nobody's (RFC 5737): it is the broker that knows the way.
            Spoken::Snowflake => {
                let ((_, broker), (_, stun)) = (config::BROKER, config::STUN);
                format!("snowflake 192.0.2.3:80 {fingerprint} fingerprint={fingerprint} url=http://{}:{broker}/ ice=stun:{}:{stun}", config::BROKER_NAME, config::STUN_NAME)
            }
            // Neither is this one: it is the front.
            Spoken::Meek => {
                let (_, port) = config::MEEK;
                format!("meek_lite 192.0.2.20:80 {fingerprint} url=http://{}:{port}/ front={}:{port} utls=HelloRandomizedALPN", config::MEEK_NAME, config::FRONT_NAME)
            }
        };
        Ok(bridge)
    }

    /// A resolv.conf(5) of a machine that asks this network for names, once there is a bridge that is found by them.
    #[must_use]
    pub fn names(&self) -> PathBuf {
        self.layout.file(names::ASKING)
    }

    /// What is known of it.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The namespace that holds the network.
    #[must_use]
    pub fn network(&self) -> Namespace {
        Namespace::named(&self.state.network)
    }

    /// The namespace for clients.
    #[must_use]
    pub fn client(&self) -> Namespace {
        Namespace::named(&self.state.client)
    }

    /// The web server's log.
    #[must_use]
    pub fn web_log(&self) -> WebLog {
        WebLog::at(self.state.web_log.clone())
    }

    /// The name of the relay that made `request`; `None` unless it came through an exit of this network.
    #[must_use]
    pub fn exit_of(&self, request: &Request) -> Option<&str> {
        let mut relays = self.state.relays.iter().filter(|(_, address)| request.via == Via::Exit && request.peer == **address);
        relays.next().map(|(name, _)| name.as_str())
    }

    /// The running daemons of the network, with their command lines.
    pub fn daemons(&self) -> Result<Vec<(ProcessId, String)>> {
        let inside = process::in_network(&self.network().path())?;
        Ok(inside.into_iter().map(|p| (p, p.command_line())).collect())
    }

    fn write_state(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.state)?;
        let (new, file) = (self.layout.file("state.new"), self.layout.file(STATE));
        write(&new, &text)?;
        fs::rename(&new, &file).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// A running bridge.
#[derive(Debug)]
pub struct Bridge {
    child: Child,
    _beside: Option<(Names, Option<Snowflake>)>,
    line: String,
}

impl Bridge {
    /// What its users are given.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// What obfs4proxy tells its owner to give to users, behind the fingerprint.
fn obfs4_settings(layout: &Layout) -> Result<String> {
    let file = layout.data(Spoken::Obfs4.name()).join("pt_state/obfs4_bridgeline.txt");
    let settings = || wait::text_so_far(&file).split_once("cert=").map(|(_, rest)| format!("cert={}", rest.trim_end()));
    wait::retry(Duration::from_millis(50), Instant::now() + PATIENCE, settings).with_context(|| format!("obfs4proxy wrote no {}", file.display()))
}

impl Drop for Bridge {
    fn drop(&mut self) {
        daemon::stop(&mut self.child);
    }
}

impl Drop for TestNet {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Detached {
            return;
        }
        if let Err(error) = down(self.layout.root()) {
            eprintln!("the network in {} is not gone: {error:#}", self.layout.root().display());
        }
        for child in &mut self.children {
            let _status = child.wait();
        }
    }
}

/// Removes the network of `dir`, whole or in parts, with every process in its namespaces; nothing where there is none.
pub fn down(dir: &Path) -> Result<()> {
    let [network, client] = names(dir).map(|name| Namespace::named(&name));
    let namespaces = client.remove().and(network.remove());
    // Without a state file it was never ours, and what lies there is somebody's.
    let layout = Layout::new(dir);
    if layout.file(STATE).exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    namespaces
}

/// Where the `torbox-testnet` program is, seen from a test of this package: beside it, or one directory above.
pub fn helper() -> Result<PathBuf> {
    let own = std::env::current_exe().context("no path to the running program")?;
    let near = own.ancestors().skip(1).take(2).map(|dir| dir.join("torbox-testnet"));
    near.into_iter().find(|file| file.is_file()).context("torbox-testnet is not built")
}

fn refuse(options: &Options) -> Result<()> {
    let needs = [Need::Root, Need::Program("tor"), Need::Program("tor-gencert"), Need::Program("ip"), Need::Program("nsenter")];
    if let Some(why) = require::missing(&needs) {
        bail!("cannot make a private Tor network: {why}");
    }
    if !options.dir.is_absolute() {
        bail!("the network's directory must be an absolute path, not {}", options.dir.display());
    }
    let layout = Layout::new(&options.dir);
    if layout.root().exists() && fs::read_dir(layout.root())?.next().is_some() && !layout.file(STATE).exists() {
        bail!("{} is not empty and no network's", layout.root().display());
    }
    match read_state(&layout)? {
        Some(state) if state.alive() => bail!("there is a network in {} already; take it down first", layout.root().display()),
        _ => Ok(()),
    }
}

impl State {
    /// Whether its owner lives; one without an owner lives until it is taken down.
    fn alive(&self) -> bool {
        match self.owner {
            Some((owner, started)) => started.is_some() && owner.started() == started,
            None => !self.took_ms.is_empty(),
        }
    }
}

fn read_state(layout: &Layout) -> Result<Option<State>> {
    let file = layout.file(STATE);
    match fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text).map(Some).with_context(|| format!("cannot understand {}", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn new_state(layout: &Layout) -> State {
    let [network, client] = names(layout.root());
    State {
        owner: None,
        relays: config::nodes(AUTHORITIES, RELAYS).into_iter().map(|n| (n.name, n.address)).collect(),
        network,
        client,
        client_torrc: layout.client_torrc(),
        exit_url: format!("http://{}/", config::WEB),
        named_url: format!("http://{}/", config::WEB_NAME),
        onion_url: String::new(),
        web_log: layout.web_log(),
        took_ms: BTreeMap::new(),
    }
}

/// The two namespaces' names: `tbx-<digest of the directory>-net` and `-client`.
fn names(dir: &Path) -> [String; 2] {
    let digest = fnv1a(dir.as_os_str().as_encoded_bytes());
    ["net", "client"].map(|end| format!("tbx-{digest:016x}-{end}"))
}

/// FNV-1a, 64 bits: short names that stay the same in every build.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Waits for the wall clock to reach a vote: the daemons then publish their descriptors before the next one. Started in between,
/// a relay misses the first consensus and the network takes up to a minute.
fn align_to_votes() {
    let interval = Duration::from_secs(config::FIRST_VOTE_INTERVAL).as_millis();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    std::thread::sleep(Duration::from_millis(u64::try_from(interval - now % interval).unwrap_or(0)));
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directories_have_two_pairs_of_names() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        let ([n1, c1], [n2, c2]) = (names(Path::new("/a")), names(Path::new("/b")));
        assert!(n1 != n2 && c1 != c2 && n1 != c1, "{n1} {c1} {n2} {c2}");
        assert_eq!(names(Path::new("/a")), [n1, c1]);
    }
}
