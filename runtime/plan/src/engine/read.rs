//! Reads facts back from request bodies. Written apart from the renderer: it knows the API, not the plan.

use super::{Bind, Body, BodyMount, Dialect, HostConfig, Volume};
use crate::facts::{Facts, Mismatch, MountFact, Namespace, NetworkFact};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The facts of a container made from `body` and `volumes`.
#[must_use]
pub fn body(body: &Body, volumes: &[Volume], dialect: Dialect) -> Facts {
    let config = &body.host_config;
    let option = |name: &str| config.security_opt.iter().filter(|option| option.starts_with(name)).count();
    let closed = !config.privileged && config.cap_add.is_empty() && config.cap_drop == ["ALL"] && config.devices.is_empty() && config.group_add.is_empty();
    Facts {
        no_new_privs: config.security_opt.iter().any(|option| option == "no-new-privileges:true"),
        seccomp_filters: if config.security_opt.iter().any(|option| option == "seccomp=unconfined") { 0 } else { u32::try_from(option("seccomp=")).unwrap_or(0) },
        capabilities: if closed { 0 } else { u64::MAX },
        user: body.user.split_once(':').filter(|(user, group)| user == group).and_then(|(user, _)| user.parse().ok()).unwrap_or(u32::MAX),
        own_namespaces: namespaces(config),
        network: network(config),
        rlimits: config.ulimits.iter().filter(|limit| limit.name != "nproc").map(|limit| (format!("RLIMIT_{}", limit.name.to_ascii_uppercase()), u64::try_from(limit.soft.max(limit.hard)).unwrap_or(0))).collect(),
        mounts: mounts(config, volumes, dialect),
        guarded: guarded(config, dialect),
        limits: (config.memory > 0 && config.pids_limit > 0).then(|| (config.memory.unsigned_abs(), config.pids_limit.unsigned_abs())),
    }
}

fn namespaces(config: &HostConfig) -> BTreeSet<Namespace> {
    let own = [
        (Namespace::Mnt, true),
        (Namespace::Pid, config.pid_mode.is_empty()),
        (Namespace::Ipc, config.ipc_mode == "private"),
        (Namespace::Uts, config.uts_mode.is_empty()),
        (Namespace::Cgroup, config.cgroupns_mode == "private"),
        (Namespace::Net, config.network_mode == "none"),
    ];
    own.into_iter().filter_map(|(namespace, own)| own.then_some(namespace)).collect()
}

fn network(config: &HostConfig) -> NetworkFact {
    let ports = config.port_bindings.len() + usize::from(config.publish_all_ports);
    match config.network_mode.as_str() {
        "none" if ports == 0 => NetworkFact::Own { interfaces: vec!["lo".to_owned()], routes: 0 },
        "host" if ports == 0 => NetworkFact::Shared,
        other => NetworkFact::Own { interfaces: vec!["lo".to_owned(), other.to_owned()], routes: ports },
    }
}

fn guarded(config: &HostConfig, dialect: Dialect) -> BTreeSet<String> {
    let masks = config.security_opt.iter().filter_map(|option| option.strip_prefix("mask="));
    let masked: Vec<String> = match dialect {
        Dialect::Docker => config.masked_paths.clone(),
        Dialect::Podman => masks.flat_map(|paths| paths.split(':')).map(str::to_owned).collect(),
    };
    masked.into_iter().chain(config.readonly_paths.iter().cloned()).collect()
}

/// In a container with a read-only root they are read-only.
const MADE: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

fn flags(options: &str) -> BTreeSet<&str> {
    options.split(',').collect()
}

fn fact(kind: &str, options: &BTreeSet<&str>) -> MountFact {
    let has = |option: &str| options.contains(option);
    MountFact { kind: kind.to_owned(), ro: has("ro"), nodev: has("nodev"), nosuid: has("nosuid"), noexec: has("noexec") }
}

fn mounts(config: &HostConfig, volumes: &[Volume], dialect: Dialect) -> BTreeMap<String, MountFact> {
    let root = fact("root", &flags(if config.readonly_rootfs { "ro" } else { "rw" }));
    let dev = if dialect == Dialect::Docker { "nosuid" } else { "nosuid,noexec" };
    let always = [
        ("/", root),
        ("/proc", fact("proc", &flags("nosuid,nodev,noexec"))),
        ("/dev", fact("tmpfs", &flags(dev))),
        ("/dev/pts", fact("devpts", &flags("nosuid,noexec"))),
        ("/dev/mqueue", fact("mqueue", &flags("nosuid,nodev,noexec"))),
        ("/dev/shm", fact("tmpfs", &flags("nosuid,nodev,noexec"))),
    ];
    let always = always.into_iter().map(|(target, fact)| (target.to_owned(), fact));
    let tmpfs = config.tmpfs.iter().map(|(target, options)| (target.clone(), fact("tmpfs", &flags(options))));
    let mounts = config.mounts.iter().map(|mount| (mount.target.clone(), mount_of(mount, volumes)));
    let binds = config.binds.iter().filter_map(|bind| bind_of(bind, volumes));
    // Files that engines make for each container, and mount as they mount volumes.
    let hidden = guarded(config, dialect);
    let flags = flags(if dialect == Dialect::Podman { "ro,nosuid,nodev,noexec" } else { "ro" });
    let made = MADE.into_iter().filter(|path| !hidden.contains(*path)).map(|path| (path.to_owned(), fact("disk", &flags)));
    always.chain(tmpfs).chain(mounts).chain(binds).chain(made).collect()
}

/// The kind of a volume, and the flags of its own file system.
fn volume<'a>(name: &str, volumes: &'a [Volume]) -> (&'static str, BTreeSet<&'a str>) {
    let volume = volumes.iter().find(|volume| volume.name == name);
    let option = |key: &str| volume.and_then(|volume| volume.driver_opts.get(key)).map(String::as_str);
    if option("type") == Some("tmpfs") { ("tmpfs", flags(option("o").unwrap_or_default())) } else { ("disk", BTreeSet::new()) }
}

fn mount_of(mount: &BodyMount, volumes: &[Volume]) -> MountFact {
    if mount.kind == "bind" {
        return fact("socket", &flags(if mount.read_only { "ro,nosuid,nodev,noexec" } else { "nosuid,nodev,noexec" }));
    }
    let (kind, mut flags) = volume(&mount.source, volumes);
    if mount.read_only {
        // Mounted once more, without the flags that the file system has.
        flags = BTreeSet::from(["ro"]);
    }
    fact(kind, &flags)
}

fn bind_of(bind: &Bind, volumes: &[Volume]) -> Option<(String, MountFact)> {
    let mut parts = bind.0.splitn(3, ':');
    let (source, target, options) = (parts.next()?, parts.next()?, flags(parts.next()?));
    let kind = if source.starts_with('/') { "socket" } else { volume(source, volumes).0 };
    Some((target.to_owned(), fact(kind, &options)))
}

/// Every difference between what was asked for and the engine's account of a created container (`GET /containers/ID/json`). What
/// only the kernel knows, such as whether a profile was installed, is left to the report from inside.
#[must_use]
pub fn inspected(told: &Value, asked: &Body, dialect: Dialect) -> Vec<Mismatch> {
    let (config, host, networks) = (&told["Config"], &told["HostConfig"], told.pointer("/NetworkSettings/Networks").unwrap_or(&Value::Null));
    let wanted = &asked.host_config;
    let mut found = Differences(Vec::new());
    found.unless("user", &asked.user, text(&config["User"]));
    found.unless("program", &format!("{:?}", asked.entrypoint), format!("{:?}", [strings(&config["Entrypoint"]), strings(&config["Cmd"])].concat()));
    found.unless("image", &asked.image, with_algorithm(text(&told["Image"])));
    found.unless("network", &wanted.network_mode, text(&host["NetworkMode"]));
    found.unless("networks", "{}", format!("{{{}}}", keys(networks).into_iter().filter(|name| *name != wanted.network_mode).collect::<String>()));
    if let Some(runtime) = &wanted.runtime {
        found.unless("OCI runtime", runtime, text(&host["Runtime"]));
    }
    found.unless("read-only root", "true", host["ReadonlyRootfs"].to_string());
    for name in ["Privileged", "PublishAllPorts"] {
        found.unless(name, "false", host[name].to_string());
    }
    for name in ["CapAdd", "Devices", "DeviceRequests", "DeviceCgroupRules", "GroupAdd", "PortBindings", "VolumesFrom", "Links"] {
        found.unless(name, "nothing", if is_empty(&host[name]) { "nothing".to_owned() } else { host[name].to_string() });
    }
    for (name, own) in [("PidMode", ["", "private"]), ("IpcMode", ["private", "shareable"]), ("UTSMode", ["", "private"]), ("UsernsMode", ["", ""])] {
        let mode = text(&host[name]);
        found.unless(name, "its own", if own.contains(&mode.as_str()) { "its own".to_owned() } else { mode });
    }
    found.unless("memory", &wanted.memory.to_string(), host["Memory"].as_i64().unwrap_or(0).to_string());
    found.unless("processes", &wanted.pids_limit.to_string(), host["PidsLimit"].as_i64().unwrap_or(0).to_string());
    found.unless("mounts", &format!("{:?}", asked_mounts(wanted)), format!("{:?}", told_mounts(told)));
    found.unless("name servers", &format!("{:?}", wanted.dns), format!("{:?}", strings(&host["Dns"])));
    found.unless("domains of names", &format!("{:?}", wanted.dns_search), format!("{:?}", strings(&host["DnsSearch"])));
    let tmpfs = keys(&host["Tmpfs"]);
    found.unless("tmpfs", &format!("{:?}", wanted.tmpfs.keys().collect::<BTreeSet<_>>()), format!("{:?}", tmpfs.iter().collect::<BTreeSet<_>>()));
    found.security(wanted, host, dialect);
    found.0
}

struct Differences(Vec<Mismatch>);

impl Differences {
    fn unless(&mut self, what: &str, planned: &str, found: String) {
        if planned != found {
            self.0.push(Mismatch { what: what.to_owned(), planned: planned.to_owned(), found });
        }
    }

    /// Docker repeats its options word for word, Podman only those that it has a name for.
    fn security(&mut self, wanted: &HostConfig, host: &Value, dialect: Dialect) {
        let told = strings(&host["SecurityOpt"]);
        match dialect {
            Dialect::Docker => {
                self.unless("security options", &format!("{:?}", wanted.security_opt), format!("{told:?}"));
                self.unless("dropped capabilities", &format!("{:?}", wanted.cap_drop), format!("{:?}", strings(&host["CapDrop"])));
                self.unless("masked paths", &format!("{:?}", wanted.masked_paths), format!("{:?}", strings(&host["MaskedPaths"])));
                self.unless("read-only paths", &format!("{:?}", wanted.readonly_paths), format!("{:?}", strings(&host["ReadonlyPaths"])));
            }
            Dialect::Podman => {
                let seccomp = wanted.security_opt.iter().find(|option| option.starts_with("seccomp=")).map(String::as_str).unwrap_or_default();
                self.unless("seccomp", seccomp, told.iter().find(|option| option.starts_with("seccomp=")).cloned().unwrap_or_default());
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn keys(value: &Value) -> Vec<String> {
    value.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect()
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// Podman leaves out the algorithm in some answers.
fn with_algorithm(digest: String) -> String {
    if digest.contains(':') { digest } else { format!("sha256:{digest}") }
}

/// Source, target and whether it is read-only, of everything that is not a tmpfs.
fn asked_mounts(config: &HostConfig) -> BTreeSet<(String, String, bool)> {
    let mounts = config.mounts.iter().map(|mount| (mount.source.clone(), mount.target.clone(), mount.read_only));
    let binds = config.binds.iter().filter_map(|bind| {
        let mut parts = bind.0.splitn(3, ':');
        Some((parts.next()?.to_owned(), parts.next()?.to_owned(), flags(parts.next()?).contains("ro")))
    });
    mounts.chain(binds).collect()
}

fn told_mounts(told: &Value) -> BTreeSet<(String, String, bool)> {
    let mounts = told["Mounts"].as_array().into_iter().flatten().filter(|mount| mount["Type"] != "tmpfs");
    mounts.map(|mount| (text(&mount[if mount["Type"] == "volume" { "Name" } else { "Source" }]), text(&mount["Destination"]), mount["RW"] == false)).collect()
}
