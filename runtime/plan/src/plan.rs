//! Intent and host in, plan out. Pure: the same values give the same plan.
//!
//! A plan leaves nothing to decide. It never names a directory of the user: what comes from the host (an unpacked
//! image, the display socket) is listed where an executor must bind it, and nowhere else.

use crate::host::{CgroupAccess, Display, Host, IdRange, Identity, SocketAccess};
use crate::ids::{BoxName, BoxPath, Role};
use crate::intent::{ClientAuth, Clipboard, Image, Intent, Memory, Program, Resolver, Start};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Everything that will exist while a box runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The box.
    pub name: BoxName,
    /// Its containers, in the order of [`Role::ALL`]; the display's only where there is a display.
    pub containers: Vec<Container>,
    /// The id map of the user namespace that holds the runtime and all containers; empty for root, who needs none.
    pub outer_uids: Vec<IdMap>,
    /// The same for groups.
    pub outer_gids: Vec<IdMap>,
    /// tor's configuration file, as the user wrote it.
    pub torrc: String,
    /// What the programs beside tor look names up with; none where nothing does.
    pub resolver: Option<Resolver>,
    /// When the browser starts.
    pub start: Start,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// What it is for.
    pub role: Role,
    /// Manifest digest of the image whose unpacked root it runs on, read-only.
    pub image: String,
    /// Program and arguments; the first is an absolute path in the image.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// User and group id inside the container.
    pub user: u32,
    /// Where the ids `0..` of the container lie in the runtime's user namespace.
    pub uids: IdMap,
    /// The same for groups.
    pub gids: IdMap,
    /// What network it has.
    pub network: Network,
    /// What is mounted over its root, in order.
    pub mounts: Vec<Mount>,
    /// Host name inside.
    pub hostname: &'static str,
    /// What its clocks show.
    pub clocks: Clocks,
    /// Resource limits (getrlimit(2)), soft and hard alike.
    pub rlimits: Vec<(&'static str, u64)>,
    /// Its control group.
    pub cgroup: Cgroup,
    /// Paths that are hidden.
    pub masked: Vec<&'static str>,
    /// Paths that are made read-only.
    pub read_only: Vec<&'static str>,
}

/// Which of the clocks that count from the machine's start show [`UPTIME`] when a container is created (time_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clocks {
    /// `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC`.
    Constant,
    /// `CLOCK_BOOTTIME` alone: a Wayland compositor stamps its events with the monotonic clock, and browsers hold them against
    /// their own.
    ConstantBoot,
    /// None: no engine offers time namespaces.
    Machine,
}

/// How long every machine has been up when a container is created, in seconds.
pub const UPTIME: i64 = 3600;

/// A control group (cgroups(7)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cgroup {
    /// Absolute path in the hierarchy.
    pub path: String,
    /// What is set in it, where control groups are delegated.
    pub limits: Option<GroupLimits>,
}

/// The limits of a control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GroupLimits {
    /// Bytes of memory.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u32,
}

/// `count` ids, from `inside` on the one hand and `outside` on the other (user_namespaces(7), `uid_map`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IdMap {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id in the namespace around it.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The network of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A network namespace of its own with loopback and nothing else.
    Loopback,
    /// The network of whoever started the box: tor's way out.
    Uplink,
}

/// A directory with AF_UNIX sockets that two roles share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// Made by tor, used by the gate.
    Tor,
    /// Made by the gate, used by the browser.
    Browser,
    /// Made by the display, used by the browser.
    Display,
    /// Made by the gate, used by the runtime alone: in no other container.
    Admin,
}

impl Link {
    /// Every link.
    pub const ALL: [Self; 4] = [Self::Tor, Self::Browser, Self::Display, Self::Admin];

    /// The role that makes the sockets, and alone can write to the directory.
    #[must_use]
    pub const fn owner(self) -> Role {
        match self {
            Self::Tor => Role::Tor,
            Self::Browser | Self::Admin => Role::Gate,
            Self::Display => Role::Display,
        }
    }

    /// The role that uses them. The directory belongs to its group, and so do the files that are made in it.
    #[must_use]
    pub const fn user(self) -> Option<Role> {
        match self {
            Self::Tor => Some(Role::Gate),
            Self::Browser | Self::Display => Some(Role::Browser),
            Self::Admin => None,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tor => "tor",
            Self::Browser => "browser",
            Self::Display => "display",
            Self::Admin => "admin",
        }
    }
}

/// A file that is supplied, and mounted read-only. The runtime writes it before the launch, but for a resolver that is the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SuppliedFile {
    /// tor's configuration.
    Torrc,
    /// Where names are looked up, for a transport that finds its way by them.
    Resolver,
    /// What opens the X server, for the display: the name of a method, a newline, its data (Xsecurity(7)).
    DisplayCookie,
    /// What the browser must know to talk to the gate's control server: 64 random hexadecimal digits, made for each run.
    ControlSecret,
}

impl SuppliedFile {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Torrc => "torrc",
            Self::Resolver => "resolver",
            Self::DisplayCookie => "display-cookie",
            Self::ControlSecret => "control-secret",
        }
    }
}

/// Who owns a tmpfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// Root of the container, as whom nothing runs.
    Root,
    /// The container's user.
    User,
}

/// Whether programs can be run from a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Exec {
    /// Yes.
    Allowed,
    /// `noexec`.
    Denied,
}

/// Whether a mount can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// As its files' modes allow.
    ReadWrite,
    /// `ro`.
    ReadOnly,
}

/// Something mounted over a container's read-only root. Every mount is `nosuid`; all but `/dev` are `nodev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mount {
    /// proc(5).
    Proc,
    /// A tmpfs with null, zero, full, random, urandom and tty.
    Dev,
    /// A bounded tmpfs.
    Tmpfs {
        /// Where.
        target: BoxPath,
        /// Bound, in bytes.
        size: u64,
        /// Mode bits of its root directory.
        mode: u32,
        /// Who owns it.
        owner: Owner,
        /// Whether programs can be run from it.
        exec: Exec,
    },
    /// A link's directory.
    Link {
        /// Which.
        link: Link,
        /// Where.
        target: BoxPath,
        /// Read-write for its owner alone.
        access: Access,
    },
    /// A supplied file, read-only.
    File {
        /// Which.
        file: SuppliedFile,
        /// Where.
        target: BoxPath,
    },
    /// tor's data directory, a bounded tmpfs whose guards are kept between runs.
    TorState {
        /// Where.
        target: BoxPath,
        /// Bound, in bytes.
        size: u64,
    },
    /// The browser's profile, a bounded tmpfs of which some files are kept between runs.
    Profile {
        /// Where.
        target: BoxPath,
        /// Bound, in bytes.
        size: u64,
    },
    /// The display server's socket, for the display's container alone.
    Socket {
        /// The socket on the host.
        source: PathBuf,
        /// Where.
        target: BoxPath,
    },
}

impl Mount {
    /// Where it is mounted.
    #[must_use]
    pub const fn target(&self) -> BoxPath {
        match self {
            Self::Proc => paths::PROC,
            Self::Dev => paths::DEV,
            Self::Tmpfs { target, .. }
            | Self::Link { target, .. }
            | Self::File { target, .. }
            | Self::TorState { target, .. }
            | Self::Profile { target, .. }
            | Self::Socket { target, .. } => *target,
        }
    }
}

/// Where things are inside the containers: the same on every host.
pub mod paths {
    use crate::ids::BoxPath;
    /// proc(5).
    pub const PROC: BoxPath = BoxPath::new("/proc");
    /// Devices.
    pub const DEV: BoxPath = BoxPath::new("/dev");
    /// POSIX shared memory.
    pub const SHM: BoxPath = BoxPath::new("/dev/shm");
    /// Temporary files.
    pub const TMP: BoxPath = BoxPath::new("/tmp");
    /// Where all that torbox adds is mounted.
    pub const RUN: BoxPath = BoxPath::new("/run");
    /// The browser's `XDG_RUNTIME_DIR`.
    pub const RUN_USER: BoxPath = BoxPath::new("/run/user");
    /// The browser's message bus, which its init is.
    pub const BUS: BoxPath = BoxPath::new("/run/user/messages");
    /// The same, as its clients are told.
    pub const BUS_ADDRESS: &str = "unix:path=/run/user/messages";
    /// The FIFO that the sound of a box comes out of which may be heard; its clients go by [`SOUND_CLIENTS`].
    pub const SOUND: BoxPath = BoxPath::new("/run/user/sound");
    /// Where what mixes it listens, in a directory of its own.
    pub const SOUND_SOCKET: BoxPath = BoxPath::new("/run/user/pulse");
    /// What makes clients of PulseAudio mix their sound into it (pulse-client.conf(5)), in the browser's image.
    pub const SOUND_CLIENTS: BoxPath = BoxPath::new("/etc/pulse/sound.conf");
    /// The browser's home.
    pub const HOME: BoxPath = BoxPath::new("/home/user");
    /// The browser's profile, which must exist before it starts.
    pub const PROFILE: BoxPath = BoxPath::new("/home/user/profile");
    /// What was downloaded: the user takes it out from here.
    pub const DOWNLOADS: BoxPath = BoxPath::new("/home/user/Downloads");
    /// What the user put in for a page; the browser only reads it.
    pub const UPLOADS: BoxPath = BoxPath::new("/home/user/Uploads");
    /// Link between tor and gate.
    pub const LINK_TOR: BoxPath = BoxPath::new("/run/torbox/tor");
    /// Link between gate and browser.
    pub const LINK_BROWSER: BoxPath = BoxPath::new("/run/torbox/browser");
    /// tor's data directory.
    pub const TOR_STATE: BoxPath = BoxPath::new("/run/torbox/state");
    /// The same in an engine's volume, whose root belongs to nobody: tor makes a directory of its own in it.
    pub const TOR_STATE_OWN: BoxPath = BoxPath::new("/run/torbox/state/tor");
    /// tor's configuration.
    pub const TORRC: BoxPath = BoxPath::new("/run/torbox/torrc");
    /// Where every program looks for its resolver (resolv.conf(5)). The images have an empty file there.
    pub const RESOLVER: BoxPath = BoxPath::new("/etc/resolv.conf");
    /// What opens the X server.
    pub const DISPLAY_COOKIE: BoxPath = BoxPath::new("/run/torbox/display-cookie");
    /// Link between display and browser; in the browser of a box on X11 it is [`X11_DIR`].
    pub const LINK_DISPLAY: BoxPath = BoxPath::new("/run/torbox/display");
    /// Where an X client looks for the sockets of displays (X(7)).
    pub const X11_DIR: BoxPath = BoxPath::new("/tmp/.X11-unix");
    /// Display 0 in the link.
    pub const X11: BoxPath = BoxPath::new("/run/torbox/display/X0");
    /// The compositor's place in the link.
    pub const WAYLAND: BoxPath = BoxPath::new("/run/torbox/display/wayland-0");
    /// The user's display server, in the display's container.
    pub const DISPLAY_SERVER: BoxPath = BoxPath::new("/run/torbox/server");
    /// Where what is carried in and out of the display's container is handed over.
    pub const CARRIED_DIR: BoxPath = BoxPath::new("/run/torbox/carried");
    /// The socket there, in the server's place.
    pub const CARRIED: BoxPath = BoxPath::new("/run/torbox/carried/page");
    /// Process 1 of the tor and browser containers.
    pub const INIT: BoxPath = BoxPath::new("/usr/libexec/torbox/init");
    /// The gate.
    pub const GATE: BoxPath = BoxPath::new("/usr/libexec/torbox/gate");
    /// The display.
    pub const DISPLAY: BoxPath = BoxPath::new("/usr/libexec/torbox/display");
    /// The gate's SOCKS socket.
    pub const SOCKS: BoxPath = BoxPath::new("/run/torbox/browser/socks");
    /// The gate's control socket.
    pub const CONTROL: BoxPath = BoxPath::new("/run/torbox/browser/control");
    /// What opens it.
    pub const CONTROL_SECRET: BoxPath = BoxPath::new("/run/torbox/control-secret");
    /// tor's SOCKS socket.
    pub const TOR_SOCKS: BoxPath = BoxPath::new("/run/torbox/tor/socks");
    /// tor's control socket.
    pub const TOR_CONTROL: BoxPath = BoxPath::new("/run/torbox/tor/control");
    /// What opens it, written by tor.
    pub const TOR_COOKIE: BoxPath = BoxPath::new("/run/torbox/tor/cookie");
    /// Link between the gate and the runtime.
    pub const LINK_ADMIN: BoxPath = BoxPath::new("/run/torbox/admin");
    /// Where the gate listens to the runtime.
    pub const ADMIN: BoxPath = BoxPath::new("/run/torbox/admin/socket");
}

/// Where the program of `role` can make files, whatever the host: what its mounts say too, for who must know it without a plan.
#[must_use]
pub const fn writable(role: Role) -> &'static [BoxPath] {
    match role {
        Role::Tor => &[paths::SHM, paths::TMP, paths::LINK_TOR, paths::TOR_STATE],
        Role::Gate => &[paths::SHM, paths::LINK_BROWSER, paths::LINK_ADMIN],
        Role::Display => &[paths::SHM, paths::LINK_DISPLAY],
        Role::Browser => &[paths::SHM, paths::RUN_USER, paths::TMP, paths::HOME, paths::PROFILE, paths::DOWNLOADS],
    }
}

/// User and group that the programs of a box run as.
pub const USER: u32 = 1000;
/// Ids that each container is given.
const SLICE: u32 = 2048;
/// Roles that are given a slice, whether a box has them or not.
const ROLES: u32 = 4;
const MIB: u64 = 1 << 20;

/// A request that cannot be planned.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too few ids for every role.
    #[error("{available} subordinate ids are too few: a box needs {needed}")]
    TooFewIds {
        /// In the range.
        available: u32,
        /// Wanted.
        needed: u32,
    },
    /// The display socket lets only its owner in.
    #[error("the display socket {} admits only the user with id {owner}", socket.display())]
    ForeignDisplay {
        /// The socket.
        socket: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Name servers of another than who makes the containers.
    #[error("an engine's containers ask the engine's name servers, and no others do")]
    ForeignResolver,
    /// Sound is taken out of the namespaces of a container of torbox's own.
    #[error("no engine's box is heard")]
    SoundOfEngine,
    /// The browser is a client of the user's X server.
    #[error("a browser that speaks to the X server itself gets its clipboard and its input from there, and neither can be kept from it")]
    NotKept,
    /// A browser without a display.
    #[error("there is no display to show the browser on")]
    NoDisplay,
    /// An address that a program could take for an option.
    #[error("the address {0:?} begins with '-'")]
    UrlIsOption(String),
    /// An image without a program.
    #[error("the image {0} has no entry point")]
    NoEntrypoint(String),
}

impl Plan {
    /// Decides everything.
    ///
    /// # Errors
    /// [`PlanError`] when the host cannot give what the box needs, or the intent asks for what cannot be.
    pub fn new(intent: &Intent, host: &Host) -> Result<Self, PlanError> {
        check_display(intent, host)?;
        check_resolver(intent, host)?;
        check_sound(intent, host)?;
        let ids = IdLayout::new(host)?;
        let seen = Seen::of(&host.display);
        let display = seen.as_ref().map(|seen| display(intent, host, seen, &ids));
        let browser = browser(intent, host, seen.as_ref(), &ids)?;
        let containers = [tor(intent, host, &ids)?, gate(intent, host, &ids)].into_iter().chain(display).chain([browser]).collect();
        Ok(Self { name: intent.name.clone(), containers, outer_uids: ids.outer_uids, outer_gids: ids.outer_gids, torrc: intent.torrc.clone(), resolver: intent.resolver.clone(), start: intent.start })
    }

    /// The container that plays `role`.
    #[must_use]
    pub fn container(&self, role: Role) -> Option<&Container> {
        self.containers.iter().find(|c| c.role == role)
    }
}

/// An init that proves `what` before it starts the program that follows.
fn proving(what: &str) -> Vec<String> {
    strings(&[paths::INIT.as_str(), "run", "--proof", what, "--"])
}

impl Container {
    /// Whether its init says a [`crate::Proof`] before it starts anything.
    #[must_use]
    pub fn proves(&self) -> bool {
        self.args.iter().any(|word| word == "--proof")
    }

    /// Whether something in it looks names up.
    #[must_use]
    pub fn looks_up_names(&self) -> bool {
        self.mounts.iter().any(|mount| matches!(mount, Mount::File { file: SuppliedFile::Resolver, target: _ }))
    }

    /// Whether what its programs play is heard.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.env.iter().any(|(name, _)| name == SOUND_VARIABLE)
    }

    /// The container's user as an id of the runtime's user namespace.
    #[must_use]
    pub const fn outside_uid(&self) -> u32 {
        self.uids.outside + self.user
    }

    /// The container's group as an id of the runtime's user namespace.
    #[must_use]
    pub const fn outside_gid(&self) -> u32 {
        self.gids.outside + self.user
    }
}

/// The box's ids are nobody's: a display that admits only its owner does not admit them. What X clients are given by their server, and by
/// one another, passes torbox unseen.
fn check_display(intent: &Intent, host: &Host) -> Result<(), PlanError> {
    match &host.display {
        Display::X11 { .. } if intent.clipboard != Clipboard::Both || intent.jitter != 0 => Err(PlanError::NotKept),
        Display::X11 { socket, access: SocketAccess::Owner(owner) }
        | Display::Nested { socket, access: SocketAccess::Owner(owner) }
        | Display::Served { socket, access: SocketAccess::Owner(owner) }
        | Display::Wayland { socket, access: SocketAccess::Owner(owner) } => {
            Err(PlanError::ForeignDisplay { socket: socket.clone(), owner: *owner })
        }
        Display::X11 { .. } | Display::Nested { .. } | Display::Served { .. } | Display::Wayland { .. } | Display::Carried | Display::None => Ok(()),
    }
}

/// Name servers go with the network, which is the engine's where an engine makes the containers.
const fn check_resolver(intent: &Intent, host: &Host) -> Result<(), PlanError> {
    match (&intent.resolver, &host.identity) {
        (Some(Resolver::Engine), Identity::Root { .. } | Identity::User { .. }) | (Some(Resolver::File(_)), Identity::Engine) => Err(PlanError::ForeignResolver),
        (Some(Resolver::Engine), Identity::Engine) | (Some(Resolver::File(_)), Identity::Root { .. } | Identity::User { .. }) | (None, _) => Ok(()),
    }
}

/// A process of the user's takes it out of the container's namespaces, and nobody can join an engine's.
fn check_sound(intent: &Intent, host: &Host) -> Result<(), PlanError> {
    if intent.sound && host.identity == Identity::Engine { Err(PlanError::SoundOfEngine) } else { Ok(()) }
}

/// Which ids each container gets. Slices never overlap: no two roles share a user of the host.
struct IdLayout {
    outer_uids: Vec<IdMap>,
    outer_gids: Vec<IdMap>,
    slices: Slices,
}

/// Where a container's ids lie.
enum Slices {
    /// In a slice of its own, from this id on.
    From(u32),
    /// Wherever the engine puts the ids of all its containers.
    Engine,
}

impl IdLayout {
    fn new(host: &Host) -> Result<Self, PlanError> {
        let needed = SLICE * ROLES;
        let enough = |range: IdRange| if range.count < needed + 1 { Err(PlanError::TooFewIds { available: range.count, needed: needed + 1 }) } else { Ok(()) };
        match host.identity {
            Identity::Root { ids } => enough(ids).map(|()| Self { outer_uids: Vec::new(), outer_gids: Vec::new(), slices: Slices::From(ids.start) }),
            Identity::User { uid, gid, subuid, subgid } => {
                enough(subuid)?;
                enough(subgid)?;
                Ok(Self { outer_uids: outer(uid, subuid.start), outer_gids: outer(gid, subgid.start), slices: Slices::From(1) })
            }
            Identity::Engine => Ok(Self { outer_uids: Vec::new(), outer_gids: Vec::new(), slices: Slices::Engine }),
        }
    }

    /// One extent, which must lie in one extent of the map around it (user_namespaces(7)).
    fn of(&self, role: Role) -> IdMap {
        match self.slices {
            Slices::From(first) => IdMap { inside: 0, outside: first + slice(role), count: SLICE },
            Slices::Engine => IdMap { inside: 0, outside: 0, count: u32::MAX },
        }
    }
}

/// The caller's own id in the runtime's user namespace.
const CALLER: u32 = 0;

const fn slice(role: Role) -> u32 {
    match role {
        Role::Tor => 0,
        Role::Gate => SLICE,
        Role::Display => SLICE * 2,
        Role::Browser => SLICE * 3,
    }
}

/// The runtime's id map: the caller's own id, then subordinate ids.
fn outer(own: u32, sub: u32) -> Vec<IdMap> {
    vec![IdMap { inside: CALLER, outside: own, count: 1 }, IdMap { inside: CALLER + 1, outside: sub, count: SLICE * ROLES }]
}

fn container(role: Role, image: &Image, args: Vec<String>, host: &Host, ids: &IdLayout) -> Container {
    let base_mounts = vec![
        Mount::Proc,
        Mount::Dev,
        tmpfs(paths::SHM, 256 * MIB, 0o1777, Owner::Root),
        tmpfs(paths::RUN, MIB, 0o755, Owner::Root),
    ];
    Container {
        role,
        image: image.digest.clone(),
        args,
        env: vec![env("PATH", "/usr/bin"), env("LANG", "C.UTF-8"), env("TZ", "UTC")],
        user: USER,
        uids: ids.of(role),
        gids: ids.of(role),
        network: Network::Loopback,
        mounts: base_mounts,
        hostname: "torbox",
        clocks: if host.identity == Identity::Engine { Clocks::Machine } else { Clocks::Constant },
        rlimits: rlimits(host),
        cgroup: Cgroup { path: format!("/{}-{role}", host.group), limits: None },
        masked: MASKED.to_vec(),
        read_only: READ_ONLY.to_vec(),
    }
}

/// Those that the kernel counts by user are left to engines, whose containers may run as users of the host.
fn rlimits(host: &Host) -> Vec<(&'static str, u64)> {
    let all = [("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", host.open_files.min(OPEN_FILES)), ("RLIMIT_NPROC", 2048), ("RLIMIT_SIGPENDING", 1024), ("RLIMIT_MEMLOCK", 65_536)];
    all.into_iter().take(if host.identity == Identity::Engine { 2 } else { 5 }).collect()
}

/// The kernel makes the other limits of a machine's memory: constants tell nothing, and are below what it makes of 1 GiB.
const OPEN_FILES: u64 = 4096;

/// What of proc(5) tells of the machine or could change it.
const MASKED: [&str; 23] = [
    "/proc/acpi", "/proc/asound", "/proc/buddyinfo", "/proc/cmdline", "/proc/config.gz", "/proc/diskstats", "/proc/interrupts", "/proc/iomem",
    "/proc/ioports", "/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/latency_stats", "/proc/modules", "/proc/mtrr",
    "/proc/partitions", "/proc/sched_debug", "/proc/scsi", "/proc/swaps", "/proc/timer_list", "/proc/timer_stats", "/proc/version",
];
/// What of proc(5) the browser has no need of, and tells one machine from another: empty files and directories in a browser's
/// container. Without `/proc/sys` programs take the kernel's defaults.
pub const TELLTALE: [&str; 42] = [
    "/proc/bootconfig", "/proc/bus", "/proc/cgroups", "/proc/consoles", "/proc/cpuinfo", "/proc/crypto", "/proc/devices", "/proc/dma", "/proc/driver",
    "/proc/dynamic_debug", "/proc/execdomains", "/proc/fb", "/proc/filesystems", "/proc/fs", "/proc/irq", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount",
    "/proc/kpageflags", "/proc/loadavg", "/proc/locks", "/proc/lockdep", "/proc/mdstat", "/proc/meminfo", "/proc/misc", "/proc/pagetypeinfo", "/proc/pressure",
    "/proc/schedstat", "/proc/slabinfo", "/proc/softirqs", "/proc/stat", "/proc/sys", "/proc/tty", "/proc/uptime", "/proc/vmallocinfo",
    "/proc/vmstat", "/proc/xen", "/proc/zoneinfo", "/proc/allocinfo", "/proc/hypervisor", "/proc/lock_stat", "/proc/mpt",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn tmpfs(target: BoxPath, size: u64, mode: u32, owner: Owner) -> Mount {
    Mount::Tmpfs { target, size, mode, owner, exec: Exec::Denied }
}

fn env(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn limits(host: &Host, memory: u64, pids: u32) -> Option<GroupLimits> {
    match host.cgroup {
        CgroupAccess::None => None,
        CgroupAccess::Delegated => Some(GroupLimits { memory, pids }),
    }
}

fn tor(intent: &Intent, host: &Host, ids: &IdLayout) -> Result<Container, PlanError> {
    let program = entrypoint(&intent.tor)?;
    let args = [proving("uplink"), program.to_vec(), tor_options(host)].concat();
    let mut tor = container(Role::Tor, &intent.tor, args, host, ids);
    tor.network = Network::Uplink;
    tor.cgroup.limits = limits(host, 1024 * MIB, 128);
    tor.mounts.extend([
        tmpfs(paths::TMP, 16 * MIB, 0o1777, Owner::Root),
        Mount::Link { link: Link::Tor, target: paths::LINK_TOR, access: Access::ReadWrite },
        Mount::TorState { target: paths::TOR_STATE, size: 256 * MIB },
        Mount::File { file: SuppliedFile::Torrc, target: paths::TORRC },
    ]);
    tor.mounts.extend(intent.resolver.as_ref().map(|_| Mount::File { file: SuppliedFile::Resolver, target: paths::RESOLVER }));
    Ok(tor)
}

/// What the box depends on; on the command line these replace whatever the configuration file says (tor(1)). tor's own `Sandbox` is
/// left off: it refuses `SIG_BLOCK`, with which the C library begins to start a thread, and what that then restores is no mask that
/// there ever was, so that tor misses signals, the one to end among them at times.
fn tor_options(host: &Host) -> Vec<String> {
    let data = if host.identity == Identity::Engine { paths::TOR_STATE_OWN } else { paths::TOR_STATE };
    let socks = format!("unix:{} WorldWritable RelaxDirModeCheck IsolateSOCKSAuth KeepAliveIsolateSOCKSAuth ExtendedErrors", paths::TOR_SOCKS);
    let control = format!("unix:{} WorldWritable RelaxDirModeCheck", paths::TOR_CONTROL);
    let pairs: [(&str, &str); 15] = [
        ("-f", paths::TORRC.as_str()),
        ("--defaults-torrc", "/dev/null"),
        ("--DataDirectory", data.as_str()),
        ("--SocksPort", &socks),
        ("--ControlPort", &control),
        ("--CookieAuthentication", "1"),
        ("--CookieAuthFile", paths::TOR_COOKIE.as_str()),
        ("--CookieAuthFileGroupReadable", "1"),
        ("--TransPort", "0"),
        ("--NATDPort", "0"),
        ("--DNSPort", "0"),
        ("--HTTPTunnelPort", "0"),
        ("--ORPort", "0"),
        ("--RunAsDaemon", "0"),
        // The first failure to connect is told of as information, and only the tenth as a warning.
        ("--Log", "[control]info [~control]notice stdout"),
    ];
    flat(&pairs).collect()
}

fn flat(options: &[(&str, &str)]) -> impl Iterator<Item = String> {
    options.iter().flat_map(|&(name, value)| [name.to_owned(), value.to_owned()])
}

fn gate(intent: &Intent, host: &Host, ids: &IdLayout) -> Container {
    let auth = match intent.client_auth {
        ClientAuth::Required => "yes",
        ClientAuth::Absent => "no",
    };
    let options: [(&str, &str); 10] = [
        ("--socks", paths::SOCKS.as_str()),
        ("--tor-socks", paths::TOR_SOCKS.as_str()),
        ("--control", paths::CONTROL.as_str()),
        ("--control-secret-file", paths::CONTROL_SECRET.as_str()),
        ("--tor-control", paths::TOR_CONTROL.as_str()),
        ("--tor-cookie", paths::TOR_COOKIE.as_str()),
        ("--admin", paths::ADMIN.as_str()),
        ("--require-auth", auth),
        ("--lifeline", "stdin"),
        ("--cage", "required"),
    ];
    let args = std::iter::once(paths::GATE.as_str().to_owned()).chain(flat(&options)).collect();
    let mut gate = container(Role::Gate, &intent.tor, args, host, ids);
    gate.cgroup.limits = limits(host, 64 * MIB, 16);
    gate.mounts.extend([
        Mount::Link { link: Link::Tor, target: paths::LINK_TOR, access: Access::ReadOnly },
        Mount::Link { link: Link::Browser, target: paths::LINK_BROWSER, access: Access::ReadWrite },
        Mount::Link { link: Link::Admin, target: paths::LINK_ADMIN, access: Access::ReadWrite },
        Mount::File { file: SuppliedFile::ControlSecret, target: paths::CONTROL_SECRET },
    ]);
    gate
}

/// The one place where the user's display server can be reached.
fn display(intent: &Intent, host: &Host, seen: &Seen<'_>, ids: &IdLayout) -> Container {
    let server = if seen.server.is_some() { paths::DISPLAY_SERVER } else { paths::CARRIED };
    let sockets = [("--listen", seen.socket.as_str()), ("--server", server.as_str()), ("--protocol", seen.protocol)];
    let cookie = seen.cookie.as_ref().map(|cookie| ("--cookie", cookie.target().as_str()));
    let jitter = intent.jitter.to_string();
    let options: Vec<_> = sockets.into_iter().chain(cookie).chain([("--clipboard", intent.clipboard.name()), ("--jitter", &jitter), ("--cage", "required")]).collect();
    let args = std::iter::once(paths::DISPLAY.as_str().to_owned()).chain(flat(&options)).collect();
    let mut display = container(Role::Display, &intent.tor, args, host, ids);
    // Where the display draws the windows itself, it holds their pictures.
    let draws = matches!(host.display, Display::Nested { .. } | Display::Served { .. } | Display::Carried);
    display.cgroup.limits = limits(host, if draws { 768 } else { 64 } * MIB, 16);
    display.mounts.extend([
        Mount::Link { link: Link::Display, target: paths::LINK_DISPLAY, access: Access::ReadWrite },
        match seen.server {
            Some(server) => Mount::Socket { source: server.to_owned(), target: paths::DISPLAY_SERVER },
            None => tmpfs(paths::CARRIED_DIR, MIB, 0o700, Owner::User),
        },
    ]);
    display.mounts.extend(seen.cookie.clone());
    display
}

fn browser(intent: &Intent, host: &Host, seen: Option<&Seen<'_>>, ids: &IdLayout) -> Result<Container, PlanError> {
    let mut browser = container(Role::Browser, &intent.browser, program(intent, host)?, host, ids);
    browser.cgroup.limits = limits(host, intent.limits.browser_memory, intent.limits.browser_pids);
    browser.mounts.extend([
        Mount::Link { link: Link::Browser, target: paths::LINK_BROWSER, access: Access::ReadOnly },
        Mount::File { file: SuppliedFile::ControlSecret, target: paths::CONTROL_SECRET },
        tmpfs(paths::RUN_USER, MIB, 0o700, Owner::User),
        tmpfs(paths::TMP, intent.limits.tmp, 0o1777, Owner::Root),
        tmpfs(paths::HOME, intent.limits.home, 0o700, Owner::User),
        match intent.memory {
            Memory::Nothing => tmpfs(paths::PROFILE, intent.limits.profile, 0o700, Owner::User),
            Memory::Profile => Mount::Profile { target: paths::PROFILE, size: intent.limits.profile },
        },
        tmpfs(paths::DOWNLOADS, intent.limits.exchange, 0o700, Owner::User),
        tmpfs(paths::UPLOADS, intent.limits.exchange, 0o755, Owner::Root),
    ]);
    browser.masked.extend(TELLTALE);
    browser.read_only.clear();
    if browser.clocks == Clocks::Constant && matches!(host.display, Display::Wayland { .. }) {
        browser.clocks = Clocks::ConstantBoot;
    }
    browser.env.extend(browser_env());
    browser.env.extend(intent.sound.then(|| env(SOUND_VARIABLE, paths::SOUND_CLIENTS.as_str())));
    if let Some(seen) = seen {
        browser.mounts.push(Mount::Link { link: Link::Display, target: seen.directory, access: Access::ReadOnly });
        browser.env.extend(seen.env.iter().map(|&(name, value)| env(name, value)));
    }
    Ok(browser)
}

fn entrypoint(image: &Image) -> Result<&[String], PlanError> {
    match image.entrypoint.first() {
        Some(program) if program.starts_with('/') => Ok(&image.entrypoint),
        _ => Err(PlanError::NoEntrypoint(image.name.clone())),
    }
}

fn program(intent: &Intent, host: &Host) -> Result<Vec<String>, PlanError> {
    let init = paths::INIT.as_str();
    let url = match &intent.program {
        Program::Probe => return Ok(strings(&[init, "probe"])),
        Program::Nothing => return Ok(strings(&[init, "hold", "--", init, "probe"])),
        Program::Audit => return Ok(strings(&[init, "run", "--", init, "audit", "--boxed"])),
        Program::Browser { .. } if host.display == Display::None => return Err(PlanError::NoDisplay),
        Program::Browser { url: Some(url) } if url.starts_with('-') => return Err(PlanError::UrlIsOption(url.clone())),
        Program::Browser { url } => url.clone(),
    };
    let init = proving("box");
    // It takes further addresses from its bus: Tor Browser only if it is told so, and others pass over what they do not know.
    let options = strings(&["--new-instance", "--profile", paths::PROFILE.as_str(), "--allow-remote"]);
    let url = url.into_iter().flat_map(|url| ["--url".to_owned(), url]).collect();
    Ok([init, entrypoint(&intent.browser)?.to_vec(), options, url].concat())
}

/// Names what clients of PulseAudio go by (pulseaudio(1)); it is in the environment of a browser that is heard, and of no other.
pub const SOUND_VARIABLE: &str = "PULSE_CLIENTCONFIG";

/// The environment of the browser, but for the display. `TOR_TRANSPROXY`, which turns the proxy off when merely
/// set, and all that a host might have set is absent because nothing is inherited.
fn browser_env() -> Vec<(String, String)> {
    vec![
        env("HOME", paths::HOME.as_str()),
        env("XDG_RUNTIME_DIR", paths::RUN_USER.as_str()),
        env("TOR_SKIP_LAUNCH", "1"),
        env("TOR_SOCKS_IPC_PATH", paths::SOCKS.as_str()),
        env("TOR_CONTROL_IPC_PATH", paths::CONTROL.as_str()),
        env("TOR_CONTROL_COOKIE_AUTH_FILE", paths::CONTROL_SECRET.as_str()),
        env("MOZ_CRASHREPORTER_DISABLE", "1"),
        env("MOZ_DISABLE_WAYLAND_PROXY", "1"),
        env("GSETTINGS_BACKEND", "memory"),
        env("NO_AT_BRIDGE", "1"),
        env("GTK_USE_PORTAL", "0"),
        env("LIBGL_ALWAYS_SOFTWARE", "1"),
        env("DBUS_SESSION_BUS_ADDRESS", paths::BUS_ADDRESS),
    ]
}

/// What the browser sees of a display: the same on every host.
struct Seen<'a> {
    /// The server's socket on the host; none where the server is carried.
    server: Option<&'a Path>,
    /// What the display is told to speak: `x11`, `nested`, `served` or `wayland`.
    protocol: &'static str,
    /// The socket that is made for it, in the display's container.
    socket: BoxPath,
    /// Where the link lies in the browser's container.
    directory: BoxPath,
    /// The file that opens the server.
    cookie: Option<Mount>,
    /// What tells the browser of it.
    env: Vec<(&'static str, &'static str)>,
}

impl<'a> Seen<'a> {
    fn of(display: &'a Display) -> Option<Self> {
        match display {
            Display::X11 { socket, access: _ } => Some(Self {
                server: Some(socket),
                protocol: "x11",
                socket: paths::X11,
                directory: paths::X11_DIR,
                cookie: Some(Mount::File { file: SuppliedFile::DisplayCookie, target: paths::DISPLAY_COOKIE }),
                env: vec![("DISPLAY", ":0"), ("GDK_BACKEND", "x11")],
            }),
            Display::Nested { socket, access: _ } => {
                let cookie = Mount::File { file: SuppliedFile::DisplayCookie, target: paths::DISPLAY_COOKIE };
                Some(Self { protocol: "nested", cookie: Some(cookie), ..Self::wayland(Some(socket)) })
            }
            Display::Served { socket, access: _ } => Some(Self { protocol: "served", ..Self::wayland(Some(socket)) }),
            Display::Carried => Some(Self { protocol: "served", ..Self::wayland(None) }),
            Display::Wayland { socket, access: _ } => Some(Self::wayland(Some(socket))),
            Display::None => None,
        }
    }

    fn wayland(server: Option<&'a Path>) -> Self {
        Self {
            server,
            protocol: "wayland",
            socket: paths::WAYLAND,
            directory: paths::LINK_DISPLAY,
            cookie: None,
            env: vec![("WAYLAND_DISPLAY", paths::WAYLAND.as_str()), ("GDK_BACKEND", "wayland"), ("MOZ_ENABLE_WAYLAND", "1")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Facts, NetworkFact};
    use crate::intent::Limits;
    use crate::steps::Action;
    use std::collections::BTreeSet;

    fn image(name: &str, program: &str) -> Image {
        Image { name: name.to_owned(), digest: format!("sha256:{name}"), entrypoint: vec![program.to_owned()] }
    }

    fn intent() -> Intent {
        Intent {
            name: BoxName::new("default").unwrap(),
            tor: image("tor", "/usr/bin/tor"),
            browser: image("browser", "/opt/tor-browser/Browser/firefox.real"),
            program: Program::Browser { url: Some("https://example.org/".to_owned()) },
            client_auth: ClientAuth::Required,
            memory: Memory::Nothing,
            start: Start::Listening,
            torrc: String::new(),
            resolver: None,
            clipboard: Clipboard::Both,
            jitter: 0,
            sound: false,
            limits: Limits::default(),
        }
    }

    fn user(access: SocketAccess) -> Host {
        let range = |start| IdRange { start, count: 65_536 };
        Host {
            identity: Identity::User { uid: 1000, gid: 1001, subuid: range(100_000), subgid: range(200_000) },
            cgroup: CgroupAccess::None,
            group: "torbox-1-a1b2-work".to_owned(),
            display: Display::X11 { socket: PathBuf::from("/tmp/.X11-unix/X7"), access },
            open_files: 1 << 20,
        }
    }

    fn root() -> Host {
        let identity = Identity::Root { ids: IdRange { start: 2_000_000_000, count: 65_536 } };
        Host { identity, cgroup: CgroupAccess::Delegated, ..user(SocketAccess::Everyone) }
    }

    fn engine() -> Host {
        Host { identity: Identity::Engine, ..root() }
    }

    /// The id of the host behind an id of the runtime's namespace.
    fn on_host(map: &[IdMap], id: u32) -> u32 {
        map.iter().find(|m| (m.inside..m.inside + m.count).contains(&id)).map_or(id, |m| m.outside + (id - m.inside))
    }

    #[test]
    fn g1_only_tor_has_a_network() {
        for host in [user(SocketAccess::Everyone), root()] {
            let plan = Plan::new(&intent(), &host).unwrap();
            let networks = Role::ALL.map(|role| plan.container(role).unwrap().network);
            assert_eq!(networks, [Network::Uplink, Network::Loopback, Network::Loopback, Network::Loopback]);
            let browser = Facts::of(plan.container(Role::Browser).unwrap());
            assert_eq!(browser.network, NetworkFact::Own { interfaces: vec!["lo".to_owned()], routes: 0 });
        }
    }

    #[test]
    fn g3_browser_gets_two_links_and_two_secrets_and_the_display_alone_the_socket_of_the_host() {
        let plan = Plan::new(&intent(), &user(SocketAccess::Everyone)).unwrap();
        let outside = |role| {
            let mounts = plan.container(role).unwrap().mounts.clone();
            mounts.into_iter().filter(|mount| !matches!(mount, Mount::Proc | Mount::Dev | Mount::Tmpfs { .. })).collect::<Vec<_>>()
        };
        let link = |link, target, access| Mount::Link { link, target, access };
        let cookie = Mount::File { file: SuppliedFile::DisplayCookie, target: paths::DISPLAY_COOKIE };
        let gate = link(Link::Browser, paths::LINK_BROWSER, Access::ReadOnly);
        let secret = Mount::File { file: SuppliedFile::ControlSecret, target: paths::CONTROL_SECRET };
        assert_eq!(outside(Role::Browser), [gate, secret, link(Link::Display, paths::X11_DIR, Access::ReadOnly)]);
        let socket = Mount::Socket { source: "/tmp/.X11-unix/X7".into(), target: paths::DISPLAY_SERVER };
        assert_eq!(outside(Role::Display), [link(Link::Display, paths::LINK_DISPLAY, Access::ReadWrite), socket, cookie]);
    }

    #[test]
    fn g3_a_resolver_is_tors_alone_and_where_a_transport_needs_it() {
        let file = Resolver::File("nameserver 192.0.2.53\n".to_owned());
        for (resolver, host) in [(None, root()), (Some(file), root()), (None, engine()), (Some(Resolver::Engine), engine())] {
            let wanted = resolver.is_some();
            let plan = Plan::new(&Intent { resolver, ..intent() }, &host).unwrap();
            for container in &plan.containers {
                assert_eq!(container.looks_up_names(), wanted && container.role == Role::Tor, "{}", container.role);
                assert_eq!(container.mounts.iter().any(|mount| mount.target() == paths::RESOLVER), container.looks_up_names(), "{}", container.role);
                // Netlink's families: ROUTE, SOCK_DIAG, GENERIC.
                let profile = crate::seccomp::profile_of(container).unwrap();
                let netlink = [0, 4, 16].map(|family| profile.rule("socket").unwrap().alternative([16, 3, family, 0, 0, 0]).is_some());
                assert_eq!(netlink, [container.looks_up_names(), false, false], "{}", container.role);
                assert_eq!(profile.rules.len(), crate::seccomp::profile(container.role).unwrap().rules.len());
            }
        }
    }

    #[test]
    fn g8_a_box_that_is_heard_has_one_variable_and_three_harmless_calls_more() {
        let of = |sound| Plan::new(&Intent { sound, ..intent() }, &root()).unwrap();
        let (heard, silent) = (of(true), of(false));
        for (one, other) in heard.containers.iter().zip(&silent.containers) {
            let more: Vec<_> = one.env.iter().filter(|pair| !other.env.contains(pair)).collect();
            assert_eq!(one.is_heard(), one.role == Role::Browser);
            assert!(!other.is_heard() && more.len() == usize::from(one.is_heard()), "{}: {more:?}", one.role);
            assert_eq!(Container { env: other.env.clone(), ..one.clone() }, *other);
            let profile = |container| crate::seccomp::profile_of(container).unwrap();
            let new: BTreeSet<_> = profile(one).rules.into_iter().filter(|rule| !profile(other).rules.contains(rule)).flat_map(|rule| rule.calls).collect();
            let expected = ["mknodat", "setresgid", "setresuid"].map(str::to_owned);
            assert_eq!(new, expected.into_iter().filter(|_| one.is_heard()).collect(), "{}", one.role);
        }
        let profile = crate::seccomp::profile_of(heard.container(Role::Browser).unwrap()).unwrap();
        let may = |call, arguments| profile.rule(call).unwrap().alternative(arguments).is_some();
        let own = u64::from(USER);
        for (at, root) in [(0, [0, own, own, 0, 0, 0]), (1, [own, 0, own, 0, 0, 0]), (2, [own, own, 0, 0, 0, 0])] {
            assert!(may("setresuid", [own, own, own, 0, 0, 0]) && !may("setresuid", root) && !may("setresgid", root), "{at}");
        }
        let [fifo, device, socket] = [0o010_666, 0o020_666, 0o140_666].map(|mode| may("mknodat", [0, 0, mode, 0, 0, 0]));
        assert_eq!([fifo, device, socket], [true, false, false]);
    }

    #[test]
    fn a_box_that_shows_nothing_has_no_display() {
        let nothing = Intent { program: Program::Probe, ..intent() };
        let plan = Plan::new(&nothing, &Host { display: Display::None, ..root() }).unwrap();
        assert_eq!(plan.containers.iter().map(|container| container.role).collect::<Vec<_>>(), [Role::Tor, Role::Gate, Role::Browser]);
        assert!(crate::steps::of(&plan).all(|step| step.action.role() != Some(Role::Display)));
        let shown = Plan::new(&Intent { start: Start::Connected, ..intent() }, &root()).unwrap();
        assert_eq!(crate::steps::of(&shown).count(), crate::steps::LAUNCH.len());
    }

    #[test]
    fn a_network_is_waited_for_where_that_is_wanted() {
        let waits = |start| crate::steps::of(&Plan::new(&Intent { start, ..intent() }, &root()).unwrap()).any(|step| step.action == Action::AwaitNetwork);
        assert_eq!([Start::Listening, Start::Connected].map(waits), [false, true]);
    }

    #[test]
    fn g6_browser_is_the_same_on_unlike_hosts_but_for_ids() {
        let constant = |host: &Host| {
            let Container { args, env, hostname, masked, read_only, mounts, .. } = Plan::new(&intent(), host).unwrap().container(Role::Browser).unwrap().clone();
            (args, env, hostname, masked, read_only, mounts)
        };
        let elsewhere = Host { display: Display::X11 { socket: "/tmp/.X11-unix/X99".into(), access: SocketAccess::Everyone }, ..root() };
        assert_eq!(constant(&user(SocketAccess::Everyone)), constant(&elsewhere));
    }

    #[test]
    fn roles_never_share_a_user_of_the_host_and_none_is_the_caller() {
        let plan = Plan::new(&intent(), &user(SocketAccess::Everyone)).unwrap();
        let mut seen = BTreeSet::new();
        for container in &plan.containers {
            for id in container.uids.outside..container.uids.outside + container.uids.count {
                assert!(seen.insert(on_host(&plan.outer_uids, id)), "{} shares id {id}", container.role);
            }
        }
        assert!(!seen.contains(&1000));
        assert_eq!(on_host(&plan.outer_uids, 0), 1000, "the runtime is the caller");
    }

    #[test]
    fn what_cannot_be_planned_is_refused() {
        let refused = |intent: &Intent, host: &Host| Plan::new(intent, host).unwrap_err();
        let range = IdRange { start: 1, count: 8192 };
        let few = Host { identity: Identity::User { uid: 1, gid: 1, subuid: range, subgid: range }, ..root() };
        assert_eq!(refused(&intent(), &few), PlanError::TooFewIds { available: 8192, needed: 8193 });
        let foreign = PlanError::ForeignDisplay { socket: "/tmp/.X11-unix/X7".into(), owner: 1234 };
        assert_eq!(refused(&intent(), &user(SocketAccess::Owner(1234))), foreign);
        let own = PlanError::ForeignDisplay { socket: "/tmp/.X11-unix/X7".into(), owner: 1000 };
        assert_eq!(refused(&intent(), &user(SocketAccess::Owner(1000))), own, "the browser is not the caller");
        let root_display = Host { display: Display::X11 { socket: "/tmp/.X11-unix/X7".into(), access: SocketAccess::Owner(0) }, ..root() };
        assert!(matches!(refused(&intent(), &root_display), PlanError::ForeignDisplay { owner: 0, .. }));
        assert_eq!(refused(&intent(), &Host { display: Display::None, ..root() }), PlanError::NoDisplay);
        let option = Intent { program: Program::Browser { url: Some("--profile".to_owned()) }, ..intent() };
        assert_eq!(refused(&option, &root()), PlanError::UrlIsOption("--profile".to_owned()));
        for (resolver, host) in [(Resolver::Engine, root()), (Resolver::File(String::new()), engine())] {
            assert_eq!(refused(&Intent { resolver: Some(resolver), ..intent() }, &host), PlanError::ForeignResolver);
        }
        assert_eq!(refused(&Intent { sound: true, ..intent() }, &engine()), PlanError::SoundOfEngine);
        let hollow = Intent { browser: Image { entrypoint: vec![], ..intent().browser }, ..intent() };
        assert_eq!(refused(&hollow, &root()), PlanError::NoEntrypoint("browser".to_owned()));
        for (clipboard, jitter) in [(Clipboard::In, 0), (Clipboard::Both, 1)] {
            let intent = Intent { clipboard, jitter, ..intent() };
            assert_eq!(refused(&intent, &root()), PlanError::NotKept);
            let display = Display::Nested { socket: "/tmp/.X11-unix/X7".into(), access: SocketAccess::Everyone };
            let plan = Plan::new(&intent, &Host { display, ..root() }).unwrap();
            let args = &plan.container(Role::Display).unwrap().args;
            assert!(args.windows(4).any(|args| args == ["--clipboard", clipboard.name(), "--jitter", &jitter.to_string()]), "{args:?}");
        }
    }

    #[test]
    fn g7_what_can_be_written_is_listed_bounded_and_holds_no_programs() {
        let plan = Plan::new(&intent(), &user(SocketAccess::Everyone)).unwrap();
        let writable = Facts::of(plan.container(Role::Browser).unwrap()).mounts.into_iter().filter(|(_, fact)| fact.kind == "tmpfs" && !fact.ro);
        let targets: Vec<_> = writable.map(|(target, fact)| (target, fact.noexec)).collect();
        let expected = ["/dev", "/dev/shm", "/home/user", "/home/user/Downloads", "/home/user/Uploads", "/home/user/profile", "/run", "/run/user", "/tmp"];
        assert_eq!(targets, expected.map(|target| (target.to_owned(), true)));
        let sizes = plan.containers.iter().flat_map(|container| &container.mounts).filter_map(|mount| if let Mount::Tmpfs { size, .. } = mount { Some(*size) } else { None });
        assert!(sizes.into_iter().all(|size| (1..=1024 * MIB).contains(&size)));
    }

    #[test]
    fn g7_what_a_role_can_write_to_is_what_is_mounted_so() {
        for host in [root(), user(SocketAccess::Everyone), engine()] {
            for container in Plan::new(&intent(), &host).unwrap().containers {
                let writes = |mount: &&Mount| match mount {
                    Mount::Tmpfs { mode, owner, .. } => *owner == Owner::User || mode & 0o002 != 0,
                    Mount::Link { access, .. } => *access == Access::ReadWrite,
                    Mount::TorState { .. } | Mount::Profile { .. } => true,
                    Mount::Proc | Mount::Dev | Mount::File { .. } | Mount::Socket { .. } => false,
                };
                let mounted: Vec<_> = container.mounts.iter().filter(writes).map(Mount::target).collect();
                assert_eq!(writable(container.role), mounted, "{}", container.role);
            }
        }
    }

    #[test]
    fn a_profile_that_is_kept_looks_like_one_that_is_not() {
        let kept = Plan::new(&Intent { memory: Memory::Profile, ..intent() }, &root()).unwrap();
        let facts = |plan: &Plan| Facts::of(plan.container(Role::Browser).unwrap());
        assert_eq!(facts(&kept), facts(&Plan::new(&intent(), &root()).unwrap()));
    }

    #[test]
    fn tor_transproxy_is_in_no_environment() {
        let plan = Plan::new(&intent(), &root()).unwrap();
        assert!(plan.containers.iter().flat_map(|container| &container.env).all(|(name, _)| name != "TOR_TRANSPROXY"));
    }
}
