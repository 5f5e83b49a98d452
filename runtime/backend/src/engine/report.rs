//! The facts of a held container, from what its init reports: texts of the kernel, taken inside.
//!
//! It knows neither the renderer nor what the engine was asked for.

use crate::texts::{self, MountInfo, Status};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use torbox_plan::engine::hidden;
use torbox_plan::{Container, Facts, Mismatch, MountFact, Namespace, Network, NetworkFact};

/// What a report begins with.
pub(super) const PREFIX: &str = "torbox-report ";
/// Numbers of the namespaces that a machine starts with (linux/proc_ns.h): a container in one of them has none of its own.
const INITIAL: [&str; 5] = ["ipc:[4026531839]", "uts:[4026531838]", "user:[4026531837]", "pid:[4026531836]", "cgroup:[4026531835]"];
/// What /dev/null is (null(4)).
const NULL: &str = "device 1:3";

/// One report of `init hold`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    status: String,
    mountinfo: String,
    limits: String,
    net_dev: String,
    net_route: String,
    net_ipv6_route: String,
    namespaces: BTreeMap<String, String>,
    kinds: BTreeMap<String, String>,
    sockets: Vec<String>,
}

impl Report {
    /// Its facts. `others` are the reports of the other containers; `container` says which paths are to be guarded; `limits` are
    /// those that the engine tells of, because a container does not see its control group.
    pub(super) fn facts(&self, others: &[&Self], container: &Container, limits: Option<(u64, u64)>) -> Facts {
        let status = Status::parse(&self.status);
        let visible = texts::visible(texts::mountinfo(&self.mountinfo));
        let guarded = self.guarded(&visible, container);
        let network = self.network();
        Facts {
            no_new_privs: status.no_new_privs(),
            seccomp_filters: status.seccomp_filters(),
            capabilities: status.capabilities(),
            user: status.user(),
            own_namespaces: self.own_namespaces(others, &network),
            network,
            // Those that the plan leaves to the engine are the engine's.
            rlimits: texts::limits(&self.limits).into_iter().filter(|(name, _)| container.rlimits.iter().any(|(planned, _)| planned == name)).collect(),
            mounts: self.mounts(&visible, &guarded),
            guarded,
            limits,
        }
    }

    /// Families of sockets that must not be there, and are: the sign that another seccomp profile is installed.
    pub(super) fn sockets(&self, container: &Container) -> Option<Mismatch> {
        let planned: &[&str] = match container.network {
            Network::Loopback => &["unix"],
            Network::Uplink if container.looks_up_names() => &["unix", "inet", "inet6", "netlink"],
            Network::Uplink => &["unix", "inet", "inet6"],
        };
        let differs = self.sockets.iter().map(String::as_str).ne(planned.iter().copied());
        differs.then(|| Mismatch { what: "families of sockets".to_owned(), planned: format!("{planned:?}"), found: format!("{:?}", self.sockets) })
    }

    /// Without an interface but loopback a network is the container's own: nothing else is reached through it.
    fn network(&self) -> NetworkFact {
        match texts::network(&self.net_dev, &self.net_route, &self.net_ipv6_route) {
            own @ NetworkFact::Own { .. } if own == (NetworkFact::Own { interfaces: vec!["lo".to_owned()], routes: 0 }) => own,
            _ => NetworkFact::Shared,
        }
    }

    fn own_namespaces(&self, others: &[&Self], network: &NetworkFact) -> BTreeSet<Namespace> {
        let own = |kind: &Namespace| {
            let Some(this) = self.namespaces.get(kind.file()) else { return false };
            let shared = INITIAL.contains(&this.as_str()) || others.iter().any(|other| other.namespaces.get(kind.file()) == Some(this));
            !(shared || *kind == Namespace::Net && *network == NetworkFact::Shared)
        };
        Namespace::ALL.into_iter().filter(own).collect()
    }

    /// Those of the paths to be guarded that this kernel lacks, or over which something read-only or empty is mounted.
    fn guarded(&self, visible: &[MountInfo], container: &Container) -> BTreeSet<String> {
        let all = container.masked.iter().chain(&container.read_only).copied().chain(hidden(container));
        let covered = |path: &str| visible.iter().find(|mount| mount.target == path).is_some_and(|mount| self.is_guard(mount));
        let absent = |path: &str| self.kinds.get(path).is_some_and(|kind| kind == "absent");
        all.filter(|path| covered(path) || absent(path)).map(str::to_owned).collect()
    }

    fn is_guard(&self, mount: &MountInfo) -> bool {
        mount.options.contains("ro") || self.kinds.get(&mount.target).is_some_and(|kind| kind == NULL)
    }

    /// Guards that an engine adds below /proc only take away.
    fn mounts(&self, visible: &[MountInfo], guarded: &BTreeSet<String>) -> BTreeMap<String, MountFact> {
        let more = |mount: &&MountInfo| mount.target.starts_with("/proc/") && self.is_guard(mount);
        let listed = visible.iter().filter(|mount| !guarded.contains(&mount.target) && !more(mount));
        listed.map(|mount| (mount.target.clone(), self.mount_fact(mount))).collect()
    }

    fn mount_fact(&self, mount: &MountInfo) -> MountFact {
        let has = |option: &str| mount.options.contains(option);
        let kind = match self.kinds.get(&mount.target).map(String::as_str) {
            Some("socket") => "socket".to_owned(),
            Some(kind) if kind.starts_with("device ") => "device".to_owned(),
            _ => mount.kind.clone(),
        };
        MountFact { kind, ro: has("ro"), nodev: has("nodev"), nosuid: has("nosuid"), noexec: has("noexec") }
    }
}
