//! Each attempt of `torbox audit` shown to succeed once: the browser's container with one thing opened, and nothing else changed.
//!
//! An attempt that fails in a box proves something only if it would succeed where the way is open. Every mutation takes the
//! configuration that torbox renders, opens one thing, and runs the same program on the same root. Nothing is sent anywhere; the
//! network of one of them is a cable between two namespaces made here.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use torbox_plan::oci::{self, Sources, Uptime};
use torbox_plan::{
    BoxName, CgroupAccess, ClientAuth, Clipboard, Container, Display, Host, IdRange, Identity, Image, Intent, Limits, Link, Memory, Mount, Plan, Program, Proof, Role, Start, SuppliedFile, seccomp,
};
use torbox_tests::boxed::{Installed, Who, kept_dir};
use torbox_tests::process;
use torbox_tests::testnet::Namespace;

/// What one mutation opens.
struct Mutation {
    name: &'static str,
    /// Beginnings of the ids of attempts that must succeed through it; no others may.
    opens: &'static [&'static [&'static str]],
    change: fn(&mut Weak),
}

/// The container, as torbox renders it, and what may be changed of it.
struct Weak {
    spec: Value,
    filter: Option<Value>,
    /// The network namespace that it is started in.
    network: Option<Namespace>,
    stdin: Stdio,
    /// The other end of that, where it is no pipe.
    held: Option<UnixStream>,
    stage: PathBuf,
}

/// What a filter alone holds back.
const FILTERED: [&str; 10] = ["socket.", "family.", "pair.", "ioctl.", "call.", "argument.", "abi.", "seccomp.", "status.Seccomp", "unshare.user-mnt"];
/// What root with capabilities can do that a user of a container cannot.
const PRIVILEGED: [&str; 3] = ["status.Cap", "identity.root", "write."];

const MUTATIONS: [Mutation; 26] = [
    Mutation { name: "shared network", opens: &[&["net.", "abstract."]], change: |weak| { without_namespace(weak, "network"); weak.network = Some(far()); } },
    Mutation { name: "no filter", opens: &[&FILTERED], change: |weak| weak.filter = None },
    Mutation { name: "shared network, no filter", opens: &[&FILTERED, &["net.", "abstract.", "socket.inet.ping", "socket.inet6.ping"]], change: |weak| { without_namespace(weak, "network"); weak.network = Some(far()); weak.filter = None; } },
    Mutation { name: "no filter, all capabilities", opens: &[&FILTERED, &PRIVILEGED, &["unshare.", "identity.set"]], change: |weak| { weak.filter = None; all_capabilities(weak); be_root(weak); } },
    Mutation { name: "all capabilities", opens: &[&["status.Cap", "write."]], change: all_capabilities },
    Mutation { name: "privileges can be gained", opens: &[&FILTERED, &["status.NoNewPrivs"]], change: |weak| { weak.filter = None; set(weak, "/process/noNewPrivileges", json!(false)); } },
    Mutation { name: "root", opens: &[&PRIVILEGED], change: |weak| { all_capabilities(weak); be_root(weak); } },
    Mutation { name: "a group of the host", opens: &[&["status.Groups"]], change: |weak| set(weak, "/process/user/additionalGids", json!([5])) },
    Mutation { name: "root file system writable", opens: &[&PRIVILEGED], change: |weak| { set(weak, "/root/readonly", json!(false)); all_capabilities(weak); be_root(weak); } },
    Mutation { name: "programs from temporary places", opens: &[&["run."]], change: |weak| each_mount(weak, |options| options.retain(|option| option != "noexec")) },
    Mutation { name: "temporary places without end", opens: &[&["file.bound"]], change: |weak| each_mount(weak, |options| options.retain(|o| !o.as_str().unwrap().starts_with("size="))) },
    Mutation { name: "core dumps", opens: &[&["core.", "host.limits"]], change: |weak| set(weak, "/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 4096, "hard": 4096}])) },
    Mutation { name: "proc without masks", opens: &[&["host.proc."]], change: |weak| set(weak, "/linux/maskedPaths", json!([])) },
    Mutation { name: "the host's places, services, devices and tools", opens: &[&["service.", "host-path.", "device.", "tool.", "endpoint.", "host.mounts"]], change: bind_everything },
    Mutation { name: "the host's names", opens: &[&["host.etc.", "host.nodename", "host.domainname"]], change: foreign_names },
    Mutation { name: "the host's environment", opens: &[&["host.environment", "host.transproxy", "host.preload"]], change: environment },
    Mutation { name: "a gate that grants everything", opens: &[&["socks.", "control.", "link."]], change: |weak| { let gate = weak.stage.join("yes"); link(weak, &gate); } },
    Mutation { name: "half of the inner sandbox", opens: &[&["inner."]], change: without_chroot },
    Mutation { name: "no cage", opens: &[&["landlock."]], change: without_landlock },
    Mutation { name: "no lifeline", opens: &[&["lifeline."]], change: no_lifeline },
    Mutation { name: "shared ipc", opens: &[&["ipc.", "namespace.ipc"]], change: |weak| without_namespace(weak, "ipc") },
    Mutation { name: "shared processes and users", opens: &[&["process.", "namespace.pid", "namespace.user", "identity.map", "host.clock"]], change: shared_processes },
    Mutation { name: "shared clocks", opens: &[&["namespace.time", "host.clock"]], change: |weak| { without_namespace(weak, "time"); remove(weak, "/linux/timeOffsets"); } },
    Mutation { name: "shared names", opens: &[&["namespace.uts", "host.nodename"]], change: |weak| { without_namespace(weak, "uts"); remove(weak, "/hostname"); } },
    Mutation { name: "shared control groups", opens: &[&["namespace.cgroup"]], change: |weak| without_namespace(weak, "cgroup") },
    Mutation { name: "a setuid program", opens: &[&["file.setuid"]], change: |weak| { let file = weak.stage.join("setuid"); bind(weak, &file, "/opt/setuid"); } },
];

/// Where in a container the gate's sockets are.
const LINK: &str = "/run/torbox/browser";
/// The secret of the control side, as the browser's environment has it.
const SECRET: &str = "mutations-secret-0123456789";

fn set(weak: &mut Weak, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    weak.spec.pointer_mut(parent).unwrap()[key] = value;
}

fn remove(weak: &mut Weak, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    weak.spec.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
}

fn list<'a>(weak: &'a mut Weak, pointer: &str) -> &'a mut Vec<Value> {
    weak.spec.pointer_mut(pointer).unwrap().as_array_mut().unwrap()
}

fn without_namespace(weak: &mut Weak, kind: &str) {
    list(weak, "/linux/namespaces").retain(|namespace| namespace["type"] != kind);
}

fn each_mount(weak: &mut Weak, change: fn(&mut Vec<Value>)) {
    for mount in list(weak, "/mounts") {
        change(mount["options"].as_array_mut().unwrap());
    }
}

fn all_capabilities(weak: &mut Weak) {
    let all = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_ADMIN", "NET_RAW", "SETGID", "SETUID", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_PTRACE", "SYS_TIME", "BPF"];
    let all = json!(all.map(|name| format!("CAP_{name}")));
    for kind in ["bounding", "effective", "inheritable", "permitted", "ambient"] {
        set(weak, &format!("/process/capabilities/{kind}"), all.clone());
    }
}

fn be_root(weak: &mut Weak) {
    set(weak, "/process/user/uid", json!(0));
    set(weak, "/process/user/gid", json!(0));
}

fn bind(weak: &mut Weak, source: &Path, target: &str) {
    list(weak, "/mounts").push(json!({"destination": target, "type": "bind", "source": source, "options": ["bind", "rw"]}));
}

/// The gate's link replaced by `directory`.
fn link(weak: &mut Weak, directory: &Path) {
    list(weak, "/mounts").retain(|mount| mount["destination"] != LINK);
    bind(weak, directory, LINK);
}

/// A file at each place of which an attempt says that it looks for it; a socket, a device and a directory of the host besides.
fn bind_everything(weak: &mut Weak) {
    let file = weak.stage.join("file");
    let targets = fs::read_to_string(weak.stage.join("places")).unwrap();
    // What is mounted on one of them hides what lies below it.
    let below = |target: &str| targets.lines().any(|other| target.strip_prefix(other).is_some_and(|rest| rest.starts_with('/')));
    // libcontainer makes this one, as a link that leads nowhere without the file system of terminals.
    for target in targets.lines().filter(|target| !below(target) && *target != "/dev/ptmx") {
        bind(weak, &file, target);
    }
    list(weak, "/mounts").push(json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666"]}));
    let sockets = weak.stage.join("yes");
    bind(weak, &sockets, "/var/sockets");
    bind(weak, Path::new("/dev/zero"), "/dev/zero-of-the-host");
    bind(weak, Path::new("/var/lib"), "/opt/host");
}

fn foreign_names(weak: &mut Weak) {
    set(weak, "/hostname", json!("host7"));
    set(weak, "/domainname", json!("home7"));
    for name in ["machine-id", "hosts", "resolv.conf"] {
        let file = weak.stage.join("file");
        bind(weak, &file, &format!("/etc/{name}"));
    }
}

fn environment(weak: &mut Weak) {
    list(weak, "/process/env").extend(["TOR_TRANSPROXY=1", "LD_PRELOAD=/nowhere.so"].map(Value::from));
}

/// Something silent that does not end with its writer.
fn no_lifeline(weak: &mut Weak) {
    let (end, held) = UnixStream::pair().unwrap();
    weak.stdin = OwnedFd::from(end).into();
    weak.held = Some(held);
}

/// proc(5) of a PID namespace can be mounted only in the user namespace that owns it.
fn shared_processes(weak: &mut Weak) {
    ["pid", "user"].iter().for_each(|kind| without_namespace(weak, kind));
    ["/linux/uidMappings", "/linux/gidMappings"].iter().for_each(|maps| remove(weak, maps));
}

fn without_calls(weak: &mut Weak, beginning: &str) {
    for rule in weak.filter.as_mut().unwrap()["rules"].as_array_mut().unwrap() {
        rule["calls"].as_array_mut().unwrap().retain(|call| !call.as_str().unwrap().starts_with(beginning));
    }
    // A rule without calls is none.
    weak.filter.as_mut().unwrap()["rules"].as_array_mut().unwrap().retain(|rule| !rule["calls"].as_array().unwrap().is_empty());
}

fn without_chroot(weak: &mut Weak) {
    without_calls(weak, "chroot");
}

fn without_landlock(weak: &mut Weak) {
    without_calls(weak, "landlock_");
}

/// The end of a cable to nowhere, with routes through it.
fn far() -> Namespace {
    Namespace::named("torbox-weak")
}

/// A namespace with a network, made for one test.
struct Cable;

impl Cable {
    fn lay() -> Self {
        let far = far();
        far.remove().unwrap();
        far.create().unwrap();
        for words in [
            "link add weak0 type veth peer name weak1", "addr add 10.78.0.1/24 dev weak0", "-6 addr add 2001:db8:1::1/64 dev weak0 nodad", "link set weak0 up", "link set weak1 up",
            "route add default via 10.78.0.2", "-6 route add default via 2001:db8:1::2", "neigh add 10.78.0.2 lladdr 02:00:00:00:00:02 dev weak0",
        ] {
            process::output(Command::new("ip").args(["-netns", far.name()]).args(words.split(' '))).unwrap();
        }
        // Sockets for ICMP echo are given to the groups in this range, by default to none.
        far.within(|| Ok(fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?)).unwrap();
        Self
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // What cannot be removed fails the next run, which says why.
        far().remove().ok();
    }
}

/// Sockets in the far namespace, for the attempts to find.
fn sentinels() -> (TcpListener, UdpSocket, Vec<UnixListener>) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let made = far().within(|| {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        udp.send_to(b"octets for the counters", udp.local_addr()?)?;
        let names = ["/tmp/.X11-unix/X7", "/tmp/dbus-weak"].map(|name| UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?));
        Ok((tcp, udp, names.into_iter().collect::<std::io::Result<_>>()?))
    });
    made.unwrap()
}

/// Files that the mutations bind, and a gate for the unchanged container.
struct Stage {
    dir: TempDir,
    root: PathBuf,
    init: PathBuf,
    _gate: Gate,
}

/// The real gate, without a tor: it refuses everything by itself.
struct Gate(std::process::Child);

impl Drop for Gate {
    fn drop(&mut self) {
        // It may have ended already; nothing is left either way.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Stage {
    fn new() -> Self {
        let kept = Installed::new(Who::Root, &kept_dir().unwrap()).unwrap();
        kept.build_images().unwrap();
        // In memory, as in a box: a bind mount of a disk's file would show the disk.
        let dir = tempfile::Builder::new().prefix("torbox-weak-").tempdir_in("/dev/shm").unwrap();
        let path = dir.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let libexec = kept.program().ancestors().nth(2).unwrap().join("libexec/torbox");
        for name in ["gate", "yes", "private", "scratch"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        fs::write(path.join("file"), "of the host\n").unwrap();
        fs::write(path.join("setuid"), "").unwrap();
        fs::set_permissions(path.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::set_permissions(path.join("yes"), fs::Permissions::from_mode(0o777)).unwrap();
        say_yes(&path.join("yes/socks"), socks_yes);
        say_yes(&path.join("yes/control"), control_yes);
        let gate = Gate::start(&libexec.join("gate"), path);
        let root = unpacked(&kept);
        Self { init: libexec.join("init"), root, dir, _gate: gate }
    }

    /// The browser's container as torbox would make it for root, with the audit in the browser's place.
    fn container(&self) -> Weak {
        let container = planned();
        let spec = oci::render(&container, &Paths(self.dir.path())).unwrap();
        let filter = Some(serde_json::to_value(seccomp::profile(Role::Browser).unwrap()).unwrap());
        Weak { spec: serde_json::to_value(spec).unwrap(), filter, network: None, stdin: Stdio::piped(), held: None, stage: self.dir.path().to_owned() }
    }

    /// The command that runs `weak` to its end.
    fn command(&self, weak: &Weak) -> Command {
        let [spec, filter] = ["spec.json", "filter.json"].map(|name| self.dir.path().join(name));
        fs::write(&spec, weak.spec.to_string()).unwrap();
        let filter = weak.filter.as_ref().map(|profile| fs::write(&filter, profile.to_string()).map(|()| filter).unwrap()).unwrap_or_default();
        let program = env!("CARGO_BIN_EXE_torbox-weak");
        let mut command = weak.network.as_ref().map_or_else(|| Command::new(program), |network| network.command(program));
        command.arg(spec).arg(filter).arg(&self.root).arg(self.dir.path().join("scratch"));
        command
    }

    fn audit(&self, weak: Weak) -> Vec<Row> {
        rows(self.command(&weak).stdin(weak.stdin))
    }

    /// Starts a program behind a proof in `weak`: exit code and what was said.
    fn proved(&self, mut weak: Weak, proof: &str) -> (Option<i32>, String, String) {
        let init = "/usr/libexec/torbox/init";
        set(&mut weak, "/process/args", json!([init, "run", "--proof", proof, "--", init, "probe"]));
        let done = finish(self.command(&weak).stdin(weak.stdin));
        (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    }
}

/// What came of one attempt.
#[derive(Debug, serde::Deserialize)]
struct Row {
    id: String,
    tries: String,
    verdict: String,
    found: String,
}

/// Runs `command` to its end.
fn finish(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The lifeline of the container, if it has one: waiting would close it.
    let _lifeline = child.stdin.take();
    child.wait_with_output().unwrap()
}

/// What an audit says. A terminal ends its lines with a carriage return.
fn rows(command: &mut Command) -> Vec<Row> {
    let done = finish(command);
    let text = String::from_utf8(done.stdout).unwrap();
    let rows: Result<Vec<Row>, _> = text.lines().map(|line| serde_json::from_str(line.trim_end())).collect();
    let rows = rows.unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&done.stderr)));
    assert!(done.status.success() && rows.len() > 350, "{command:?}: {} rows, {}: {}", rows.len(), done.status, String::from_utf8_lossy(&done.stderr));
    rows
}

fn open(rows: &[Row]) -> BTreeSet<&str> {
    rows.iter().filter(|row| row.verdict == "not-held").map(|row| row.id.as_str()).collect()
}

fn planned() -> Container {
    let image = |name: &str| Image { name: name.to_owned(), digest: format!("sha256:{name}"), entrypoint: vec!["/usr/bin/true".to_owned()] };
    let intent = Intent {
        name: BoxName::new("weak").unwrap(),
        tor: image("tor"),
        browser: image("browser"),
        program: Program::Audit,
        client_auth: ClientAuth::Required,
        memory: Memory::Nothing,
        start: Start::Listening,
        torrc: String::new(),
        resolver: None,
        clipboard: Clipboard::Both,
        jitter: 0,
        sound: false,
        limits: Limits::default(),
    };
    let identity = Identity::Root { ids: IdRange { start: 2_000_000_000, count: 65_536 } };
    let host = Host { identity, cgroup: CgroupAccess::Delegated, group: "torbox-weak".to_owned(), display: Display::None, open_files: 4096 };
    Plan::new(&intent, &host).unwrap().container(Role::Browser).unwrap().clone()
}

/// Where the sources of the container's mounts are in a test.
struct Paths<'a>(&'a Path);

impl Sources for Paths<'_> {
    fn root(&self, _: &Container) -> String {
        "set by torbox-weak".to_owned()
    }

    fn source(&self, mount: &Mount) -> String {
        match mount {
            Mount::Link { link: Link::Browser, .. } => self.0.join("gate").display().to_string(),
            Mount::File { file: SuppliedFile::ControlSecret, .. } => self.0.join("private/secret").display().to_string(),
            other => panic!("the browser has no {other:?}"),
        }
    }

    fn uptime(&self) -> Uptime {
        let clock = |id| std::time::Duration::try_from(rustix::time::clock_gettime(id)).unwrap();
        Uptime { boot: clock(rustix::time::ClockId::Boottime), monotonic: clock(rustix::time::ClockId::Monotonic) }
    }
}

/// The unpacked root of the stand-in's image.
fn unpacked(kept: &Installed<'_>) -> PathBuf {
    let images: Value = serde_json::from_slice(&process::output(&mut kept.command(None, ["images", "--json"])).unwrap()).unwrap();
    let digest = images.as_array().unwrap().iter().find(|image| image.to_string().contains("firefox-esr")).unwrap()["digest"].as_str().unwrap().to_owned();
    // What unpacks it is a box; this one has no network at all.
    let mut audit = Command::new("unshare");
    audit.args(["--net"]).arg(kept.program()).arg("--dir").arg(kept.dir()).args(["audit", "--name", "weak", "--browser", "firefox-esr"]);
    process::output(&mut audit).unwrap();
    kept.dir().join("data/images/rootfs").join(digest.replace(':', "-"))
}

impl Gate {
    fn start(program: &Path, stage: &Path) -> Self {
        fs::write(stage.join("private/secret"), SECRET).unwrap();
        let path = |name: &str| stage.join(name).display().to_string();
        let mut command = Command::new(program);
        command.args(["--socks", &path("gate/socks"), "--tor-socks", &path("private/tor-socks"), "--require-auth", "no", "--lifeline", "stdin"]);
        command.args(["--control", &path("gate/control"), "--tor-control", &path("private/tor-control"), "--tor-cookie", &path("private/cookie")]);
        command.args(["--control-secret-file", &path("private/secret"), "--admin", &path("private/admin")]);
        let mut gate = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut ready = String::new();
        BufReader::new(gate.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        gate
    }
}

/// A server that grants whatever it is asked for, in a thread that ends with the tests.
fn say_yes(path: &Path, talk: fn(UnixStream) -> std::io::Result<()>) {
    let listener = UnixListener::bind(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    // A client that goes away has been granted enough.
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| talk(stream).unwrap_or_default()));
}

fn socks_yes(mut stream: UnixStream) -> std::io::Result<()> {
    loop {
        let mut buffer = [0; 512];
        let (count, descriptor) = receive(&stream, &mut buffer)?;
        if let Some(descriptor) = descriptor {
            rustix::io::write(descriptor, b"taken")?;
        }
        let answer: &[u8] = match buffer.get(..count).unwrap_or_default() {
            [] => return Ok(()),
            [4, ..] => &[0, 90, 0, 0, 0, 0, 0, 0],
            [1, ..] => &[1, 0],
            [5, 1, 2] => &[5, 2],
            [5, ..] => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
            _ => b"HTTP/1.0 200 OK\r\n\r\n",
        };
        stream.write_all(answer)?;
    }
}

/// Bytes, and a descriptor if one comes with them.
fn receive(stream: &UnixStream, buffer: &mut [u8]) -> std::io::Result<(usize, Option<OwnedFd>)> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream.as_fd(), &mut [std::io::IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::empty())?;
    let descriptors = ancillary.drain().filter_map(|message| if let RecvAncillaryMessage::ScmRights(rights) = message { Some(rights) } else { None });
    Ok((received.bytes, descriptors.flatten().next()))
}

fn control_yes(mut stream: UnixStream) -> std::io::Result<()> {
    let mut buffer = [0; 512];
    while stream.read(&mut buffer)? > 0 {
        stream.write_all(b"250 OK\r\n")?;
    }
    Ok(())
}

/// Who finds nothing in the unchanged container: the ground on which every mutation stands.
fn assert_holds(stage: &Stage) -> BTreeMap<String, String> {
    let rows = stage.audit(stage.container());
    let failed: Vec<_> = rows.iter().filter(|row| row.verdict != "held").collect();
    assert!(failed.is_empty(), "unchanged: {failed:#?}");
    rows.into_iter().map(|row| (row.id, row.tries)).collect()
}

/// What a mutation opens: what it says, and nothing else, or there is a fault.
fn opened_by(stage: &Stage, mutation: &Mutation, faults: &mut Vec<String>) -> BTreeSet<String> {
    let mut weak = stage.container();
    (mutation.change)(&mut weak);
    eprintln!("{}", mutation.name);
    let rows = stage.audit(weak);
    let opened = open(&rows);
    let said = |id: &&str| mutation.opens.iter().copied().flatten().any(|prefix| id.starts_with(prefix));
    let more: Vec<_> = opened.iter().filter(|id| !said(id)).collect();
    let less: Vec<_> = mutation.opens.iter().copied().flatten().filter(|prefix| !opened.iter().any(|id| id.starts_with(*prefix))).collect();
    if !more.is_empty() || !less.is_empty() {
        faults.push(format!("{}: opens more: {more:?}; does not open: {less:?}", mutation.name));
    }
    opened.into_iter().map(str::to_owned).collect()
}

/// The rows of the document.
#[test]
fn the_document_names_every_mutation() {
    let row = |mutation: &Mutation| {
        let opens: Vec<_> = mutation.opens.iter().copied().flatten().map(|prefix| format!("`{prefix}`")).collect();
        format!("| {} | {} |", mutation.name, opens.join(", "))
    };
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/attempts.md")).unwrap();
    let rows: Vec<_> = document.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
    let expected: Vec<_> = MUTATIONS.iter().map(row).collect();
    assert_eq!(rows, expected, "{}", expected.join("\n"));
}

/// Where no container is: as root on the machine itself, on a terminal, with descriptors left open, with the root changed by chroot(2), and
/// beside a process 1 of elsewhere. INIT and ROOT are set.
const WITHOUT: [&str; 6] = [
    "exec 7</ \"$INIT\" audit --boxed",
    "exec 7<&0 \"$INIT\" audit --boxed",
    "exec script -qec \"$INIT audit --boxed\" /dev/null",
    "mount -t proc proc $ROOT/proc && mount --bind /dev $ROOT/dev && chroot $ROOT /usr/libexec/torbox/init audit --boxed; true",
    "unshare --pid --mount --ipc --uts --net --cgroup --time --fork -- $INIT audit --boxed; true",
    "(until [ \"$(readlink /proc/1/ns/user)\" != \"$(readlink /proc/self/ns/user)\" ]; do :; done; exec $INIT audit --boxed) & exec unshare --user --map-root-user sleep 2",
];

fn without_a_container(stage: &Stage) -> Vec<Row> {
    let within = |script: &str| {
        // A PID namespace for those that look at its process 1.
        let place: &[&str] = if script.contains("$ROOT") || script.contains("unshare") { &["unshare", "--mount", "--pid", "--fork", "--mount-proc"] } else { &["env"] };
        let stdin = if script.contains("<&0") { OwnedFd::from(UnixStream::pair().unwrap().0).into() } else { Stdio::null() };
        rows(Command::new(place[0]).args(&place[1..]).args(["sh", "-c", script]).env("INIT", &stage.init).env("ROOT", &stage.root).stdin(stdin))
    };
    WITHOUT.iter().flat_map(|script| within(script)).collect()
}

/// What says that a kernel or machine does not have the thing at all.
const ABSENT: [&str; 5] = ["ENOENT", "ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT", "nothing"];
/// Needs CAP_SYS_RESOURCE, which root of a virtual machine may lack.
const RESOURCE: &str = "knob.proc.sys.user.max_user_namespaces";

#[test]
fn g1_g2_g3_g4_g5_g6_g7_g8_g9_g11_every_attempt_succeeds_where_the_way_is_open() {
    torbox_tests::require!("root", "ip", "nsenter", "unshare", "script", "ipcmk", "ipcrm");
    let _alone = torbox_tests::lock::named("mutations").unwrap();
    let stage = Stage::new();
    let _cable = Cable::lay();
    let _sentinels = sentinels();
    let _ipc = Ipc::make();
    let tries = assert_holds(&stage);
    let places: Vec<_> = tries.values().filter_map(|tries| tries.strip_prefix("find /")).map(|place| format!("/{place}")).collect();
    fs::write(stage.dir.path().join("places"), places.join("\n")).unwrap();
    let mut faults = Vec::new();
    let mut opened: BTreeSet<String> = MUTATIONS.iter().flat_map(|mutation| opened_by(&stage, mutation, &mut faults)).collect();
    let plain = without_a_container(&stage);
    opened.extend(open(&plain).into_iter().map(str::to_owned));
    let never: Vec<_> = tries.keys().filter(|id| !opened.contains(*id)).collect();
    // What not even the machine's root has cannot be opened here; elsewhere it can.
    let (absent, unproved): (Vec<_>, Vec<_>) = never.into_iter().partition(|id| plain.iter().any(|row| row.id == **id && (ABSENT.contains(&row.found.as_str()) || row.id == RESOURCE)));
    eprintln!("{} attempts of {} shown to succeed; not on this machine at all: {absent:?}", opened.len(), tries.len());
    assert!(faults.is_empty() && unproved.is_empty(), "{}\nno mutation opens {unproved:?}", faults.join("\n"));
}

#[test]
fn g8_an_init_that_finds_a_way_out_starts_nothing() {
    torbox_tests::require!("root");
    let _alone = torbox_tests::lock::named("mutations").unwrap();
    let stage = Stage::new();
    let (code, said, errors) = stage.proved(stage.container(), "box");
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let (proof, report) = said.split_once('\n').unwrap();
    assert!(matches!(Proof::parse(proof), Some(Proof::Held { attempts: 200.., .. })) && report.starts_with('{'), "{said}");

    let mut weak = stage.container();
    weak.filter = None;
    let (code, said, errors) = stage.proved(weak, "box");
    assert_eq!((code, said.as_str()), (Some(125), ""), "the program is not started");
    assert!(errors.starts_with("init: the box does not hold: socket.inet.stream (allowed); "), "{errors}");

    // The positive control of the launch: attempts that find nothing where they must prove nothing.
    let (code, said, errors) = stage.proved(stage.container(), "uplink");
    assert_eq!((code, said.as_str(), errors.as_str()), (Some(125), "", "init: the attempts to get out find nothing where they must\n"));
    let mut weak = stage.container();
    weak.filter = None;
    let (code, said, _) = stage.proved(weak, "uplink");
    assert_eq!((code, said.lines().next()), (Some(0), Some("proof: no-network")));
}

/// System V objects of this machine, for the attempts to find.
struct Ipc(Vec<[String; 2]>);

impl Ipc {
    fn make() -> Self {
        let made = [("-M", "4096", "-m"), ("-Q", "", "-q"), ("-S", "1", "-s")].map(|(make, size, remove)| {
            let words = [make, size].into_iter().filter(|word| !word.is_empty());
            let said = String::from_utf8(process::output(Command::new("ipcmk").args(words)).unwrap()).unwrap();
            [remove.to_owned(), said.trim().rsplit(' ').next().unwrap().to_owned()]
        });
        Self(made.into())
    }
}

impl Drop for Ipc {
    fn drop(&mut self) {
        for words in &self.0 {
            process::output(Command::new("ipcrm").args(words)).map(drop).unwrap_or_else(|error| eprintln!("{error:#}"));
        }
    }
}
