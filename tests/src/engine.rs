//! Docker and Podman as the tests run them: started for a test in a network namespace that it made, with data and sockets in a
//! directory of their own, and ended with it. No engine of the machine is used or left.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::Value;
use tempfile::TempDir;

use crate::boxed::send;
use crate::testnet::Namespace;
use crate::testnet::names::asking;
use crate::user::TestUser;
use crate::{process, wait};

/// Which engine, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Docker's daemon, as root.
    Docker,
    /// Podman's service, as root.
    Podman,
    /// Docker's daemon, as an unprivileged user.
    RootlessDocker,
    /// Podman's service, as an unprivileged user.
    RootlessPodman,
}

impl Kind {
    /// The word for `--backend`.
    #[must_use]
    pub fn backend(self) -> &'static str {
        match self {
            Self::Docker | Self::RootlessDocker => "docker",
            Self::Podman | Self::RootlessPodman => "podman",
        }
    }

    /// Whether an unprivileged user runs it.
    #[must_use]
    pub fn is_rootless(self) -> bool {
        matches!(self, Self::RootlessDocker | Self::RootlessPodman)
    }
}

/// A running engine; dropping it ends it and removes what it had.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    machine: Machine,
    names: Option<PathBuf>,
    service: Option<Child>,
    dir: TempDir,
    place: PathBuf,
}

/// Where an engine runs.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
enum Machine {
    /// Among the caller's files, and processes.
    #[default]
    This,
    /// In a root file system and mount, process, host name and network namespaces of its own, like those of a virtual machine: it shares
    /// with this one the directory with its API socket.
    Another,
}

/// What an engine's machine has of its own.
#[derive(Clone, Debug, Default)]
struct Own {
    machine: Machine,
    /// Size of a disk, in MiB.
    disk: Option<u32>,
    /// What it has in the place of /etc/resolv.conf.
    names: Option<PathBuf>,
}

const START: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(15);

impl Engine {
    /// Starts one in `place`; a rootless one as `user`.
    pub fn start(kind: Kind, place: &Namespace, user: &TestUser) -> Result<Self> {
        Self::start_on(Own::default(), kind, place, user)
    }

    /// Starts one in a machine of its own, with root.
    pub fn start_elsewhere(kind: Kind, place: &Namespace, user: &TestUser) -> Result<Self> {
        Self::start_on(Own { machine: Machine::Another, ..Own::default() }, kind, place, user)
    }

    /// Starts one on a machine that looks names up as `names` says, where the caller's does not.
    pub fn start_asking(names: PathBuf, kind: Kind, place: &Namespace, user: &TestUser) -> Result<Self> {
        Self::start_on(Own { names: Some(names), ..Own::default() }, kind, place, user)
    }

    /// The same in a machine of its own, with root.
    pub fn start_asking_elsewhere(names: PathBuf, kind: Kind, place: &Namespace, user: &TestUser) -> Result<Self> {
        Self::start_on(Own { machine: Machine::Another, names: Some(names), ..Own::default() }, kind, place, user)
    }

    /// Starts one with a disk of its own, which has so many MiB.
    pub fn start_on_small_disk(mib: u32, kind: Kind, place: &Namespace, user: &TestUser) -> Result<Self> {
        Self::start_on(Own { disk: Some(mib), ..Own::default() }, kind, place, user)
    }

    fn start_on(Own { machine, disk, names }: Own, kind: Kind, place: &Namespace, user: &TestUser) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("torbox-engine-").tempdir()?;
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        if kind.is_rootless() {
            user.give(dir.path())?;
        }
        // Where a machine cannot raise limits Podman's own defaults would be refused.
        let conf = "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n[engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\n";
        fs::write(dir.path().join("containers.conf"), conf)?;
        if let Some(mib) = disk {
            let data = dir.path().join("data");
            fs::create_dir(&data)?;
            nix::mount::mount(Some("torbox-small"), &data, Some("tmpfs"), nix::mount::MsFlags::empty(), Some(format!("size={mib}m,mode=711").as_str()))?;
        }
        let mut engine = Self { kind, machine, names, service: None, dir, place: PathBuf::new() };
        engine.serve(place, user)?;
        Ok(engine)
    }

    /// Starts its service, again after [`Engine::kill`].
    pub fn serve(&mut self, place: &Namespace, user: &TestUser) -> Result<()> {
        self.place = place.path();
        let at = |name: &str| self.dir.path().join(name);
        let own = |name: &str| if self.machine == Machine::This { at(name) } else { Path::new(ELSEWHERE).join(name) };
        let mut command = match self.kind {
            Kind::Docker | Kind::Podman if self.machine == Machine::Another => in_another_machine(place, self.dir.path(), self.kind),
            Kind::Docker => place.command(DOCKERD),
            Kind::Podman => place.command(PODMAN),
            Kind::RootlessDocker => in_a_user_namespace(place, user, self.dir.path())?,
            Kind::RootlessPodman => {
                // In the user's it would find another service, and join the mounts of that one.
                let own = at("run");
                if !own.exists() {
                    fs::create_dir(&own)?;
                    user.give(&own)?;
                }
                let mut command = user.command(Some(place), PODMAN);
                command.env("XDG_RUNTIME_DIR", own);
                command
            }
        };
        match self.kind {
            Kind::Docker | Kind::RootlessDocker => {
                command.arg("--data-root").arg(own("data")).arg("--exec-root").arg(own("exec")).arg("--pidfile").arg(own("pid")).arg("--host").arg(self.url());
                command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
            }
            Kind::Podman | Kind::RootlessPodman => {
                command.arg("--root").arg(own("data")).arg("--runroot").arg(own("exec"));
                command.args(["system", "service", "--time", "0"]).arg(self.url()).env("CONTAINERS_CONF", at("containers.conf"));
            }
        }
        command = self.asking(command);
        let log = fs::File::options().append(true).create(true).open(at("log"))?;
        self.service = Some(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("cannot start the engine")?);
        let up = wait::retry(Duration::from_millis(50), Instant::now() + START, || self.get("/version").ok());
        up.map(drop).with_context(|| format!("the engine did not answer:\n{}", self.said()))
    }

    /// `command`, which looks names up where this engine's machine does.
    #[must_use]
    pub fn asking(&self, command: Command) -> Command {
        match &self.names {
            Some(names) => asking(names, &command),
            None => command,
        }
    }

    /// Which.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The path of its API socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    /// The address of its API socket.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What it has said.
    #[must_use]
    pub fn said(&self) -> String {
        wait::text_so_far(&self.dir.path().join("log"))
    }

    /// Its own client.
    #[must_use]
    pub fn client(&self, place: &Namespace) -> Command {
        match self.kind {
            Kind::Docker | Kind::RootlessDocker => {
                let mut command = place.command("/usr/bin/docker");
                command.env("DOCKER_HOST", self.url());
                command
            }
            Kind::Podman | Kind::RootlessPodman => {
                let mut command = place.command("/usr/bin/podman");
                command.arg("--remote").arg("--url").arg(self.url());
                command
            }
        }
    }

    /// A program that is Podman with this engine's data, for tools that start one themselves.
    pub fn own_program(&self) -> Result<PathBuf> {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let path = self.dir.path().join("podman");
        let text = format!("#!/bin/sh\nexport CONTAINERS_CONF={}\nexec /usr/bin/podman --root {} --runroot {} \"$@\"\n", at("containers.conf"), at("data"), at("exec"));
        fs::write(&path, text)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        Ok(path)
    }

    /// `GET` of its API.
    pub fn get(&self, path: &str) -> Result<Value> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(START))?;
        write!(stream, "GET /v1.41{path} HTTP/1.0\r\nHost: engine\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let at = find(&answer, b"\r\n\r\n").context("no answer")?;
        serde_json::from_slice(answer.get(at + 4..).unwrap_or_default()).context("no JSON")
    }

    /// Everything of torbox's that it has: names of containers and volumes, but for tor's state.
    pub fn left(&self) -> Result<Vec<String>> {
        let filter = "%7B%22label%22%3A%5B%22torbox.box%22%5D%7D";
        let containers = self.get(&format!("/containers/json?all=1&filters={filter}"))?;
        let volumes = self.get(&format!("/volumes?filters={filter}"))?;
        let containers = containers.as_array().into_iter().flatten().filter_map(|container| Some(container.pointer("/Names/0")?.to_string()));
        let volumes = volumes.get("Volumes").and_then(Value::as_array).into_iter().flatten().filter_map(|volume| Some(volume.get("Name")?.to_string()));
        Ok(containers.chain(volumes).filter(|name| !name.contains("-tor-state")).collect())
    }

    /// Ends its service without asking, and with it what it leaves behind: a containerd without its daemon keeps the next one out.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut service) = self.service.take() else { return Ok(()) };
        service.kill()?;
        service.wait().context("wait")?;
        self.end_rest()?;
        // A number that dockerd would take for a containerd that still runs.
        match fs::remove_file(self.dir.path().join("exec/containerd/containerd.pid")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("cannot remove containerd's number"),
            _ => Ok(()),
        }
    }

    /// Stops its service where it is; it then accepts and never answers.
    pub fn freeze(&self, signal: Signal) -> Result<()> {
        self.service.as_ref().map_or(Ok(()), |service| send(service, signal))
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut service) = self.service.take() else { return Ok(()) };
        send(&service, Signal::SIGCONT)?;
        // With its first process a machine ends.
        send(&service, if self.machine == Machine::This { Signal::SIGTERM } else { Signal::SIGKILL })?;
        let ended = wait::retry(Duration::from_millis(50), Instant::now() + END, || service.try_wait().transpose());
        if ended.is_none() {
            service.kill()?;
            service.wait()?;
        }
        Ok(())
    }

    /// Processes that outlive their engine (containerd, shims, conmon) name its directory on their command line.
    fn end_rest(&self) -> Result<()> {
        let dir = self.dir.path().display().to_string();
        let of_engine: Vec<_> = process::all()?.into_iter().filter(|one| one.command_line().contains(&dir)).collect();
        process::end(&of_engine, Duration::from_secs(3))
    }

    /// Mounts below its directory, the innermost first.
    fn unmount(&self) {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let dir = self.dir.path().display().to_string();
        let mounts = table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|target| target.starts_with(&dir));
        for target in mounts.collect::<Vec<_>>().into_iter().rev() {
            if let Err(error) = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH) {
                eprintln!("{target} stays mounted: {error}");
            }
        }
    }
}

const DOCKERD: &str = "/usr/sbin/dockerd";
const PODMAN: &str = "/usr/bin/podman";
/// Where an engine in a machine of its own keeps its things.
const ELSEWHERE: &str = "/var/lib/engine";
/// Makes that machine in the directory `$1`, which alone of this machine's files is seen there, and runs the other words in it: this machine's
/// programs below a layer of its own, with a /tmp, /run and /var in memory.
const MACHINE: &str = "set -e
shared=$1; shift
mount --make-rprivate / && mount -t tmpfs machine /mnt && mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay machine -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root && cd /mnt/root
for place in tmp run var/lib; do mount -t tmpfs machine $place; done
cp --remove-destination /etc/resolv.conf etc/resolv.conf
mkdir -p ./$shared && mount --bind $shared ./$shared
mount -t proc proc proc && mount --rbind /sys sys && mount --rbind /dev dev
mkdir -p var/lib/engine/old && pivot_root . var/lib/engine/old && umount -l /var/lib/engine/old && hostname elsewhere
exec \"$@\"";

fn in_another_machine(place: &Namespace, shared: &Path, kind: Kind) -> Command {
    let mut command = place.command("/usr/bin/unshare");
    command.args(["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "/bin/sh", "-c", MACHINE, "sh"]).arg(shared);
    command.arg(if kind == Kind::Docker { DOCKERD } else { PODMAN });
    command
}

/// What dockerd-rootless.sh does: dockerd as root of a user namespace with /etc, /run and a network of its own, which slirp4netns(1) connects.
fn in_a_user_namespace(place: &Namespace, user: &TestUser, dir: &Path) -> Result<Command> {
    let tun = dir.join("tun");
    if !tun.exists() {
        // The machine's own may be root's alone.
        mknod(&tun, SFlag::S_IFCHR, Mode::empty(), makedev(10, 200))?;
        fs::set_permissions(&tun, PermissionsExt::from_mode(0o666))?;
    }
    let mut rootless = user.command(None, "/usr/bin/rootlesskit");
    rootless.arg("--state-dir").arg(dir.join("rootlesskit")).args(["--net=slirp4netns", "--mtu=65520", "--disable-host-loopback", "--copy-up=/etc", "--copy-up=/run"]);
    // What is removed are links to root's own; of a systemd it would want control groups, and nobody's session is here to give them.
    rootless.args(["/bin/sh", "-c", "rm -f /run/docker /run/containerd /run/xtables.lock /run/systemd; exec \"$0\" --rootless \"$@\"", DOCKERD]);
    let mut command = place.command("/usr/bin/unshare");
    command.args(["--mount", "/bin/sh", "-c", "mount --bind \"$0\" /dev/net/tun && exec \"$@\""]).arg(tun).arg(rootless.get_program()).args(rootless.get_args());
    command.env_clear().envs(rootless.get_envs().filter_map(|(name, value)| Some((name, value?)))).process_group(0);
    Ok(command)
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.stop().and_then(|()| self.end_rest()) {
            eprintln!("the engine is not gone: {error:#}");
        }
        self.unmount();
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
}

/// Changes the request body of a container.
pub type Tamper = fn(&mut Value);

/// An engine that does something else than it is asked: a proxy before a real one that changes what `POST /containers/create` says.
#[derive(Debug)]
pub struct Tampering {
    socket: PathBuf,
    tamper: Arc<Mutex<Option<Tamper>>>,
    _dir: TempDir,
}

impl Tampering {
    /// Listens before `engine`.
    pub fn before(engine: &Engine) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("torbox-proxy-").tempdir()?;
        let (socket, behind) = (dir.path().join("api.sock"), engine.socket());
        let listener = UnixListener::bind(&socket)?;
        let tamper = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&tamper);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (behind, tamper) = (behind.clone(), shared.lock().map(|tamper| *tamper).unwrap_or(None));
                // A connection that breaks off is the caller's to notice.
                std::thread::spawn(move || relay(client, &behind, tamper).ok());
            }
        });
        Ok(Self { socket, tamper, _dir: dir })
    }

    /// The address to give to torbox.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What it does from now on.
    pub fn set(&self, tamper: Option<Tamper>) {
        if let Ok(mut current) = self.tamper.lock() {
            *current = tamper;
        }
    }
}

/// One connection with one request, as torbox makes them.
fn relay(mut client: UnixStream, behind: &Path, tamper: Option<Tamper>) -> Result<()> {
    let mut server = UnixStream::connect(behind)?;
    let mut request = Vec::new();
    let head = loop {
        if let Some(end) = find(&request, b"\r\n\r\n") {
            break end + 4;
        }
        read_more(&mut client, &mut request)?;
    };
    let text = String::from_utf8_lossy(request.get(..head).unwrap_or_default()).into_owned();
    if let Some(tamper) = tamper.filter(|_| text.starts_with("POST ") && text.contains("/containers/create")) {
        let length = text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let length: usize = length.context("a body of unknown length")?.parse()?;
        while request.len() < head + length {
            read_more(&mut client, &mut request)?;
        }
        let mut body: Value = serde_json::from_slice(request.get(head..).unwrap_or_default())?;
        tamper(&mut body);
        let body = serde_json::to_vec(&body)?;
        let lines = text.lines().filter(|line| !line.to_ascii_lowercase().starts_with("content-length: ") && !line.is_empty());
        let head = lines.fold(String::new(), |head, line| head + line + "\r\n");
        request = [format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes(), body].concat();
    }
    server.write_all(&request)?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        // The end of what the client says is passed on; after it nothing is left to do.
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(std::net::Shutdown::Write).ok();
    });
    std::io::copy(&mut server, &mut client)?;
    Ok(client.shutdown(std::net::Shutdown::Both)?)
}

fn read_more(client: &mut UnixStream, request: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 8192];
    match client.read(&mut buffer)? {
        0 => anyhow::bail!("the request broke off"),
        count => request.extend_from_slice(buffer.get(..count).unwrap_or_default()),
    }
    Ok(())
}
