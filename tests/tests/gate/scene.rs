//! What the tests stand on: one private network, made once, and for each test a tor and a gate of its own, started with the
//! command lines and the torrc that the gate's README shows, below a directory of the test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use torbox_tests::lock::{self, Heavy};
use torbox_tests::process;
use torbox_tests::testnet::config::{CLIENT_END, WEB};
use torbox_tests::testnet::daemon::stop;
use torbox_tests::testnet::{Options, TestNet, helper};
use torbox_tests::wait;

use crate::control::Control;

/// A public address in the network, with the page behind it: torsocks connects to numbers, and private ones are refused.
pub(crate) const PUBLIC: &str = "203.0.113.80";
/// The name of that address.
pub(crate) const PUBLIC_NAME: &str = "public.torbox.test";
/// Where the bridge listens.
pub(crate) const BRIDGE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 77, 0, 99);

/// 32 bytes, the worst that random ones can be: they begin like a quoted string and end like a line.
const SECRET: &[u8; 32] = b"\"\\\0\xFF\x80 any bytes at all are good\n";

/// The network; fields are dropped in this order.
pub(crate) struct Ground {
    pub(crate) net: TestNet,
    public: Child,
    dir: TempDir,
    _alone: Heavy,
}

/// Held by the tests that run; the last one removes it.
static GROUND: Mutex<Weak<Ground>> = Mutex::new(Weak::new());

impl Ground {
    pub(crate) fn take() -> Arc<Self> {
        let mut shared = GROUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ground) = shared.upgrade() {
            return ground;
        }
        let ground = Arc::new(Self::new());
        *shared = Arc::downgrade(&ground);
        ground
    }

    fn new() -> Self {
        let alone = lock::heavy().unwrap();
        let dir = tempfile::Builder::new().prefix("torbox-gate-").tempdir().unwrap();
        let net = TestNet::up(&Options::new(&dir.path().join("net"), &helper().unwrap())).unwrap();
        net.network().add_local(PUBLIC.parse().unwrap()).unwrap();
        net.network().add_local(BRIDGE).unwrap();
        let mut public = net.network().command("socat");
        public.arg(format!("TCP-LISTEN:80,bind={PUBLIC},fork")).arg(format!("TCP:{WEB}:80"));
        Self { public: public.spawn().unwrap(), net, dir, _alone: alone }
    }

    /// The fingerprint of a relay that a client may take for its only guard.
    pub(crate) fn guard(&self) -> String {
        let consensus = fs::read_to_string(self.dir.path().join("net/probe/cached-microdesc-consensus")).unwrap();
        let stable = consensus.split("\nr ").skip(1).find(|entry| entry.contains(" Guard ") && entry.contains(" Stable "));
        self.fingerprint(stable.unwrap().split(' ').next().unwrap())
    }

    /// What a relay of the network wrote about itself.
    fn fingerprint(&self, name: &str) -> String {
        let text = fs::read_to_string(self.dir.path().join("net").join(name).join("fingerprint")).unwrap();
        text.split_whitespace().nth(1).unwrap().to_owned()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        stop(&mut self.public);
    }
}

/// The part of the gate's README that `begins` so and has `word` in it or not.
fn readme(begins: &str, word: (&str, bool)) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/gate/README.md");
    let text = fs::read_to_string(file).unwrap();
    let mut blocks = text.split("```").skip(1).step_by(2).map(str::trim);
    let found = blocks.find(|block| block.starts_with(begins) && block.contains(word.0) == word.1);
    found.unwrap_or_else(|| panic!("the README has no such block: {begins}")).to_owned()
}

/// A tor of a test's own in the client's namespace.
pub(crate) struct Tor {
    child: Child,
    log: PathBuf,
}

impl Tor {
    /// With the network's options for clients, and `lines`, in `place`.
    pub(crate) fn start(ground: &Ground, place: &torbox_tests::testnet::Namespace, home: &Path, lines: &str) -> Self {
        fs::create_dir_all(home).unwrap();
        let [torrc, empty, log] = ["torrc", "empty", "log"].map(|name| home.join(name));
        fs::write(&torrc, fs::read_to_string(&ground.net.state().client_torrc).unwrap() + lines).unwrap();
        fs::write(&empty, "").unwrap();
        let mut tor = place.command("tor");
        tor.arg("-f").arg(&torrc).arg("--defaults-torrc").arg(&empty).arg("--DataDirectory").arg(home.join("data"));
        tor.args(["--__OwningControllerProcess", &std::process::id().to_string()]);
        Self { child: tor.stdin(Stdio::null()).stdout(fs::File::create(&log).unwrap()).spawn().unwrap(), log }
    }

    /// Waits until it says `word`. One that may use a single relay waits for the next consensus, where the relay was late for this one.
    pub(crate) fn wait_for(&self, word: &str) {
        let seen = || Ok(wait::text_so_far(&self.log).contains(word).then_some(()));
        let came = wait::on_change(&self.log, Instant::now() + Duration::from_secs(150), seen).unwrap();
        assert!(came.is_some(), "tor does not say {word}:\n{}", wait::text_so_far(&self.log));
    }
}

impl Drop for Tor {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// A tor, a gate and what they share.
pub(crate) struct Scene<'a> {
    pub(crate) ground: &'a Ground,
    gate: Child,
    lifeline: Option<ChildStdin>,
    _tor: Tor,
    dir: TempDir,
}

impl<'a> Scene<'a> {
    /// The README's larger command line.
    pub(crate) fn with_control(ground: &'a Ground, torrc: &str) -> Self {
        Self::start(ground, torrc, &readme("torbox-gate", ("--control", true)), SECRET)
    }

    /// The same with another secret.
    pub(crate) fn with_secret(ground: &'a Ground, secret: &[u8]) -> Self {
        Self::start(ground, "", &readme("torbox-gate", ("--control", true)), secret)
    }

    /// The README's smaller command line.
    pub(crate) fn without_control(ground: &'a Ground) -> Self {
        Self::start(ground, "", &readme("torbox-gate", ("--control", false)), b"")
    }

    fn start(ground: &'a Ground, torrc: &str, gate: &str, secret: &[u8]) -> Self {
        let dir = tempfile::Builder::new().prefix("tbx-").tempdir().unwrap();
        let here = |text: &str| text.replace("/run/", &format!("{}/run/", dir.path().display()));
        for name in ["run/tor", "run/box", "run/gate", "keys"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("run/gate/secret"), secret).unwrap();
        fs::write(dir.path().join("geoip"), "172818432,172883967,CH\n").unwrap();
        let more = format!(
            "\nGeoIPFile {0}/geoip\nClientOnionAuthDir {0}/keys\nOutboundBindAddress {CLIENT_END}\nMapAddress {PUBLIC_NAME} {PUBLIC}\n{torrc}\n",
            dir.path().display()
        );
        let tor = Tor::start(ground, &ground.net.client(), &dir.path().join("tor"), &(here(&readme("SocksPort", ("", true))) + &more));
        let (gate, lifeline) = start_gate(&here(gate));
        tor.wait_for("Bootstrapped 100%");
        Self { ground, gate, lifeline, _tor: tor, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socks(&self) -> PathBuf {
        self.path("run/box/socks")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.path("run/box/control")
    }

    pub(crate) fn secret(&self) -> Vec<u8> {
        fs::read(self.path("run/gate/secret")).unwrap()
    }

    /// An authenticated client of the gate.
    pub(crate) fn client(&self) -> Control {
        Control::open(&self.control(), &self.secret())
    }

    /// An authenticated client of tor itself.
    pub(crate) fn directly(&self) -> Control {
        Control::open(&self.path("run/tor/control"), &fs::read(self.path("run/tor/cookie")).unwrap())
    }

    /// curl through the gate, or what it says and its exit code.
    pub(crate) fn curl(&self, url: &str, more: &[&str]) -> Result<String, (Option<i32>, String)> {
        curl(&self.socks(), url, more)
    }

    /// A page that has to come; a new circuit is tried where one does not carry.
    pub(crate) fn page(&self, url: &str, more: &[&str]) -> String {
        let mut last = None;
        let more = [more, &["--max-time", "15"]].concat();
        let fetch = || self.curl(url, &more).map_err(|error| last = Some(error)).ok();
        let page = wait::retry(Duration::from_millis(200), Instant::now() + Duration::from_secs(60), fetch);
        page.unwrap_or_else(|| panic!("{url} does not come: {last:?}"))
    }

    /// The gate's exit code after its lifeline was cut, or after SIGTERM where it has none.
    pub(crate) fn end_gate(&mut self) -> Option<i32> {
        match self.lifeline.take() {
            Some(lifeline) => drop(lifeline),
            None => process::ProcessId(self.gate.id()).send(rustix::process::Signal::TERM).unwrap(),
        }
        let ended = || self.gate.try_wait().unwrap();
        wait::retry(Duration::from_millis(10), Instant::now() + Duration::from_secs(5), ended).and_then(|status| status.code())
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        stop(&mut self.gate);
    }
}

fn start_gate(command_line: &str) -> (Child, Option<ChildStdin>) {
    let words: Vec<_> = command_line.split_whitespace().filter(|word| *word != "\\").collect();
    let own = std::env::current_exe().unwrap();
    let built = own.ancestors().map(|dir| dir.join("libexec/torbox/gate")).find(|file| file.is_file());
    let mut gate = Command::new(built.expect("the gate is not built: make build"));
    gate.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut gate = gate.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(gate.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{words:?}");
    let lifeline = gate.stdin.take().filter(|_| words.contains(&"--lifeline"));
    (gate, lifeline)
}

/// curl through a SOCKS socket.
pub(crate) fn curl(socks: &Path, url: &str, more: &[&str]) -> Result<String, (Option<i32>, String)> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "40"]);
    curl.arg("--proxy").arg(format!("socks5h://localhost{}", socks.display())).args(more).arg(url);
    let done = curl.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned()).ok_or((done.status.code(), said))
}
