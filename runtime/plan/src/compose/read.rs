//! Reads facts back from a compose file. Written apart from the renderer: it knows the Compose Specification and what engines do
//! unasked, not the plan.

use super::{Document, Service};
use crate::engine::Dialect;
use crate::facts::{Facts, MountFact, Namespace, NetworkFact};
use std::collections::{BTreeMap, BTreeSet};

/// The facts of the container of `service` in `document`, in an engine that does what it is asked and no more than it must.
#[must_use]
pub fn facts(document: &Document, service: &Service, dialect: Dialect) -> Facts {
    let option = |wanted: &str| service.security_opt.iter().any(|option| option == wanted);
    let seccomp = service.security_opt.iter().filter(|option| option.starts_with("seccomp=") && *option != "seccomp=unconfined");
    let closed = !service.privileged && service.cap_drop == ["ALL"];
    Facts {
        no_new_privs: option("no-new-privileges:true"),
        seccomp_filters: u32::try_from(seccomp.count()).unwrap_or(0),
        capabilities: if closed { 0 } else { u64::MAX },
        user: service.user.split_once(':').filter(|(user, group)| user == group).and_then(|(user, _)| user.parse().ok()).unwrap_or(u32::MAX),
        own_namespaces: namespaces(service),
        network: match service.network_mode.as_str() {
            "none" => NetworkFact::Own { interfaces: vec!["lo".to_owned()], routes: 0 },
            "host" => NetworkFact::Shared,
            other => NetworkFact::Own { interfaces: vec!["lo".to_owned(), other.to_owned()], routes: 1 },
        },
        rlimits: service.ulimits.iter().filter(|(name, _)| *name != "nproc").map(|(name, limit)| (format!("RLIMIT_{}", name.to_ascii_uppercase()), limit.soft.max(limit.hard))).collect(),
        mounts: mounts(document, service, dialect),
        guarded: guarded(service),
        limits: service.mem_limit.zip(service.pids_limit.map(u64::from)).filter(|(memory, _)| service.memswap_limit == Some(*memory)),
    }
}

/// Below /proc, in every container that is not privileged.
const BY_ENGINES: &str = "acpi asound bus fs irq kcore keys latency_stats sched_debug scsi sys sysrq-trigger timer_list timer_stats";

fn guarded(service: &Service) -> BTreeSet<String> {
    let unasked = BY_ENGINES.split(' ').filter(|_| !service.privileged).map(|name| format!("/proc/{name}"));
    let asked = service.security_opt.iter().filter_map(|option| option.strip_prefix("mask=")).flat_map(|list| list.split(':')).map(str::to_owned);
    unasked.chain(asked).collect()
}

fn namespaces(service: &Service) -> BTreeSet<Namespace> {
    let asked = [(Namespace::Ipc, service.ipc == "private"), (Namespace::Net, service.network_mode != "host")];
    let asked = asked.into_iter().filter_map(|(namespace, own)| own.then_some(namespace));
    [Namespace::Mnt, Namespace::Pid, Namespace::Uts].into_iter().chain(asked).collect()
}

fn fact(kind: &str, options: &str) -> MountFact {
    let has = |wanted: &str| options.split(',').any(|option| option == wanted);
    MountFact { kind: kind.to_owned(), ro: has("ro"), nodev: has("nodev"), nosuid: has("nosuid"), noexec: has("noexec") }
}

fn mounts(document: &Document, service: &Service, dialect: Dialect) -> BTreeMap<String, MountFact> {
    let dev = if dialect == Dialect::Docker { "nosuid" } else { "nosuid,noexec" };
    let always = [
        ("/", fact("root", if service.read_only { "ro" } else { "rw" })),
        ("/proc", fact("proc", "nosuid,nodev,noexec")),
        ("/dev", fact("tmpfs", dev)),
        ("/dev/pts", fact("devpts", "nosuid,noexec")),
        ("/dev/mqueue", fact("mqueue", "nosuid,nodev,noexec")),
        ("/dev/shm", fact("tmpfs", "nosuid,nodev,noexec")),
    ];
    let always = always.into_iter().map(|(target, fact)| (target.to_owned(), fact));
    let tmpfs = service.tmpfs.iter().filter_map(|entry| entry.split_once(':')).map(|(target, options)| (target.to_owned(), fact("tmpfs", options)));
    // What else is mounted there lies over them.
    let hidden = guarded(service);
    let made = MADE.into_iter().filter(|path| !hidden.contains(*path)).map(|path| (path.to_owned(), fact("disk", &format!("{},{}", if service.read_only { "ro" } else { "rw" }, made_flags(dialect)))));
    made.chain(always).chain(tmpfs).chain(service.volumes.iter().filter_map(|entry| volume(document, entry, dialect))).collect()
}

/// Files that engines make for each container.
const MADE: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

const fn made_flags(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Docker => "",
        Dialect::Podman => "nosuid,nodev,noexec",
    }
}

/// `source:target:options`. The source may have colons of its own in a variable.
fn volume(document: &Document, entry: &str, dialect: Dialect) -> Option<(String, MountFact)> {
    let mut parts = entry.rsplitn(3, ':');
    let (options, target, source) = (parts.next()?, parts.next()?, parts.next()?);
    let found = match document.volumes.get(source) {
        Some(volume) => {
            let option = |key: &str| volume.driver_opts.get(key).map_or("", String::as_str);
            let kind = if option("type") == "tmpfs" { "tmpfs" } else { "disk" };
            fact(kind, &format!("{options},{}", flags(option("o"), options, dialect)))
        }
        None if source == "/dev/null" => fact("device", options),
        None => fact("socket", &format!("{options},nosuid,nodev,noexec")),
    };
    Some((target.to_owned(), found))
}

/// What a volume's mount has besides what the entry says. Docker makes a volume read-only by mounting it once more, without the flags
/// of its file system; Podman mounts every volume once more, with flags of its own.
fn flags<'a>(own: &'a str, entry: &str, dialect: Dialect) -> &'a str {
    match dialect {
        Dialect::Docker if entry.split(',').any(|option| option == "ro") => "",
        Dialect::Docker => own,
        Dialect::Podman => "nosuid,nodev",
    }
}
