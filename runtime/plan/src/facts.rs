//! The security-relevant projection of a plan: what can be read back from a running container.
//!
//! Facts are computed from the plan here and read from the kernel elsewhere, by code that never sees a rendering.
//! [`Facts::mismatches`] compares the two; a box starts only when there are none.

use crate::plan::{Access, Container, Exec, Mount, Network, Owner};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is true of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// `NoNewPrivs` of proc_pid_status(5).
    pub no_new_privs: bool,
    /// `Seccomp` is 2 (filter) and exactly this many filters are installed.
    pub seccomp_filters: u32,
    /// Union of the effective, permitted, inheritable, bounding and ambient capability sets.
    pub capabilities: u64,
    /// Real, effective, saved and file-system user id, all alike, as the runtime sees them.
    pub user: u32,
    /// Namespaces that the container does not share with the runtime, and shares with no other container.
    pub own_namespaces: BTreeSet<Namespace>,
    /// Its network.
    pub network: NetworkFact,
    /// Hard and soft limits, by name.
    pub rlimits: BTreeMap<String, u64>,
    /// Mounts by target. Masked and read-only paths of proc are in [`Facts::guarded`].
    pub mounts: BTreeMap<String, MountFact>,
    /// Paths of proc that are masked or read-only, as far as this kernel has them.
    pub guarded: BTreeSet<String>,
    /// Whether memory and process limits are set.
    pub limits: Option<(u64, u64)>,
}

/// A kind of namespace (namespaces(7)), named as in `/proc/PID/ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// Control groups.
    Cgroup,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Mounts.
    Mnt,
    /// Network.
    Net,
    /// Process ids.
    Pid,
    /// Clocks that count from the machine's start.
    Time,
    /// User and group ids.
    User,
    /// Host name.
    Uts,
}

impl Namespace {
    /// Every kind that torbox uses.
    pub const ALL: [Self; 8] = [Self::Cgroup, Self::Ipc, Self::Mnt, Self::Net, Self::Pid, Self::Time, Self::User, Self::Uts];

    /// Its file name in `/proc/PID/ns`.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mnt => "mnt",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Time => "time",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }
}

/// The network of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkFact {
    /// Interfaces and number of routes of a namespace of its own.
    Own {
        /// Names, sorted.
        interfaces: Vec<String>,
        /// IPv4 and IPv6 routes other than those of loopback.
        routes: usize,
    },
    /// The network of the runtime.
    Shared,
}

/// What is true of a mount (mount(2), `MS_RDONLY` and so on).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MountFact {
    /// `socket` or `device` where one is mounted by itself, otherwise the file system's type.
    pub kind: String,
    /// Read-only.
    pub ro: bool,
    /// No device nodes.
    pub nodev: bool,
    /// No setuid programs.
    pub nosuid: bool,
    /// No programs.
    pub noexec: bool,
}

/// A difference between what was asked for and what is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// What differs.
    pub what: String,
    /// As planned.
    pub planned: String,
    /// As found.
    pub found: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: planned {}, found {}", self.what, self.planned, self.found)
    }
}

/// Devices that the runtime puts into `/dev` (OCI runtime specification, "Default Devices").
const DEVICES: [&str; 6] = ["/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"];

impl Facts {
    /// What must be true of `container`.
    #[must_use]
    pub fn of(container: &Container) -> Self {
        Self {
            no_new_privs: true,
            seccomp_filters: 1,
            capabilities: 0,
            user: container.outside_uid(),
            own_namespaces: own_namespaces(container.network),
            network: match container.network {
                Network::Loopback => NetworkFact::Own { interfaces: vec!["lo".to_owned()], routes: 0 },
                Network::Uplink => NetworkFact::Shared,
            },
            rlimits: container.rlimits.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
            mounts: mounts(&container.mounts),
            guarded: container.masked.iter().chain(&container.read_only).map(|&path| path.to_owned()).collect(),
            limits: container.cgroup.limits.map(|limits| (limits.memory, u64::from(limits.pids))),
        }
    }

    /// Every difference between these planned facts and those `found` in a container.
    #[must_use]
    pub fn mismatches(&self, found: &Self) -> Vec<Mismatch> {
        let Self { no_new_privs, seccomp_filters, capabilities, user, own_namespaces, network, rlimits, mounts, guarded, limits } = self;
        let scalars = [
            differ("NoNewPrivs", no_new_privs, &found.no_new_privs),
            differ("seccomp filters", seccomp_filters, &found.seccomp_filters),
            differ("capabilities", capabilities, &found.capabilities),
            differ("user", user, &found.user),
            differ("namespaces of its own", own_namespaces, &found.own_namespaces),
            differ("network", network, &found.network),
            differ("resource limits", rlimits, &found.rlimits),
            differ("guarded paths", guarded, &found.guarded),
            differ("memory and process limits", limits, &found.limits),
        ];
        let targets: BTreeSet<&String> = mounts.keys().chain(found.mounts.keys()).collect();
        let mounts = targets.into_iter().map(|target| differ(&format!("mount {target}"), &mounts.get(target), &found.mounts.get(target)));
        scalars.into_iter().chain(mounts).flatten().collect()
    }
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, planned: &T, found: &T) -> Option<Mismatch> {
    (planned != found).then(|| Mismatch { what: what.to_owned(), planned: format!("{planned:?}"), found: format!("{found:?}") })
}

fn own_namespaces(network: Network) -> BTreeSet<Namespace> {
    let shared = |namespace: &Namespace| *namespace == Namespace::Net && network == Network::Uplink;
    Namespace::ALL.into_iter().filter(|namespace| !shared(namespace)).collect()
}

fn mounts(planned: &[Mount]) -> BTreeMap<String, MountFact> {
    let root = ("/".to_owned(), MountFact { kind: "overlay".to_owned(), ro: true, nodev: true, nosuid: true, noexec: false });
    let devices = DEVICES.iter().map(|&path| (path.to_owned(), MountFact { kind: "device".to_owned(), ro: false, nodev: false, nosuid: true, noexec: true }));
    let listed = planned.iter().map(|mount| (mount.target().as_str().to_owned(), mount_fact(mount)));
    std::iter::once(root).chain(devices).chain(listed).collect()
}

fn mount_fact(mount: &Mount) -> MountFact {
    let fact = |kind: &str| MountFact { kind: kind.to_owned(), ro: false, nodev: true, nosuid: true, noexec: true };
    match mount {
        Mount::Proc => fact("proc"),
        Mount::Dev => MountFact { nodev: false, ..fact("tmpfs") },
        Mount::Tmpfs { target: _, size: _, mode: _, owner: Owner::Root | Owner::User, exec } => MountFact { noexec: *exec == Exec::Denied, ..fact("tmpfs") },
        Mount::Link { link: _, target: _, access } => MountFact { ro: *access == Access::ReadOnly, ..fact("tmpfs") },
        Mount::File { file: _, target: _ } => MountFact { ro: true, ..fact("tmpfs") },
        Mount::TorState { target: _, size: _ } | Mount::Profile { target: _, size: _ } => fact("tmpfs"),
        Mount::Socket { source: _, target: _ } => MountFact { ro: true, ..fact("socket") },
    }
}
