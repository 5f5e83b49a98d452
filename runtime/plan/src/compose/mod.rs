//! A plan as a compose file (Compose Specification), which docker-compose and podman-compose run without torbox.
//!
//! Pure. Destructures the plan without `..`, so that a new field fails to compile here until it is rendered. Nobody compares these
//! containers with the plan: what a runtime of torbox would hand over or wait for, the init does by itself (`init alone`), and what a
//! compose file cannot ask of an engine is missing from [`facts`], which is the list of it.

mod entry;
mod facts;
pub mod read;
mod yaml;

pub use facts::facts;
pub use yaml::yaml;

use crate::engine::{Dialect, FILES, FILES_SIZE, LINK_PAGES, PODMAN_WRITABLE, PROCESSES, Unsupported, container_name, hidden, network_mode, profile_json, tmpfs_options};
use crate::ids::{BoxPath, Role};
use crate::plan::{Access, Cgroup, Clocks, Container, Exec, GroupLimits, IdMap, Link, Mount, Owner, Plan, SuppliedFile, paths};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is known only where the file will be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Whose compose reads it.
    pub dialect: Dialect,
    /// The engine's names of the images, by the digest that the plan names.
    pub images: BTreeMap<String, String>,
    /// Where the display server's socket is.
    pub display: DisplaySource,
    /// `RLIMIT_NPROC` to ask for: else Podman sets the kernel's maximum, which it may not without privileges.
    pub processes: Option<u64>,
}

/// Who says where the display server's socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplaySource {
    /// The plan.
    Plan,
    /// The environment of whoever uses the file: `XDG_RUNTIME_DIR` and `WAYLAND_DISPLAY`.
    Environment,
}

/// A compose file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the specification says what each means")]
pub struct Document {
    pub services: BTreeMap<String, Service>,
    pub volumes: BTreeMap<String, Volume>,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the specification says what each means")]
pub struct Service {
    pub container_name: String,
    pub image: String,
    pub entrypoint: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub user: String,
    pub hostname: String,
    pub network_mode: String,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub dns_search: Vec<String>,
    pub ipc: String,
    pub read_only: bool,
    pub privileged: bool,
    pub cap_drop: Vec<String>,
    pub security_opt: Vec<String>,
    pub tmpfs: Vec<String>,
    pub volumes: Vec<String>,
    pub shm_size: u64,
    pub ulimits: BTreeMap<String, Ulimit>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mem_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memswap_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pids_limit: Option<u32>,
    pub restart: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub depends_on: BTreeMap<String, Condition>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub healthcheck: Option<Health>,
}

/// A resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the specification says what each means")]
pub struct Ulimit {
    pub soft: u64,
    pub hard: u64,
}

/// What another container must be before this one is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the specification says what each means")]
pub struct Condition {
    pub condition: String,
}

/// How an engine finds out whether a program does its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the specification says what each means")]
pub struct Health {
    pub test: Vec<String>,
    pub interval: String,
    pub timeout: String,
    pub start_period: String,
    pub retries: u32,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the specification says what each means")]
pub struct Volume {
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub driver_opts: BTreeMap<String, String>,
}

/// Directory of the seccomp profiles, beside the file.
const PROFILES: &str = "seccomp";
/// The volume that keeps tor's state.
const STATE: &str = "tor-state";
/// What is hidden of proc(5) where a compose file can: OCI runtimes let these alone be mounted over.
const COVERABLE: [&str; 8] =
    ["/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/slabinfo", "/proc/stat", "/proc/swaps", "/proc/uptime"];

/// Renders `plan`.
///
/// # Errors
/// [`Unsupported`] when the plan was made for other containers than an engine's, or names what the file cannot.
pub fn render(plan: &Plan, placed: &Placed) -> Result<Document, Unsupported> {
    let Plan { name: _, containers, outer_uids, outer_gids, torrc: _, resolver: _, start: _ } = plan;
    if !outer_uids.is_empty() || !outer_gids.is_empty() {
        return Err(Unsupported::Ids);
    }
    let services = containers.iter().map(|container| Ok((container.role.name().to_owned(), service(plan, container, placed)?)));
    let services = services.collect::<Result<_, Unsupported>>()?;
    Ok(Document { services, volumes: containers.iter().flat_map(volumes).collect() })
}

/// The seccomp profiles that the file of `plan` names, by their path beside it.
///
/// # Errors
/// [`Unsupported`] when a shipped profile is not valid.
pub fn profiles(plan: &Plan) -> Result<Vec<(String, String)>, Unsupported> {
    plan.containers.iter().map(|container| Ok((profile_path(container.role), profile_json(container)?))).collect()
}

fn profile_path(role: Role) -> String {
    format!("{PROFILES}/{role}.json")
}

fn service(plan: &Plan, container: &Container, placed: &Placed) -> Result<Service, Unsupported> {
    let Container { role, image, args: _, env, user, uids, gids, network, mounts: _, hostname, clocks, rlimits, cgroup, masked: _, read_only: _ } = container;
    let as_engine = IdMap { inside: 0, outside: 0, count: u32::MAX };
    if *uids != as_engine || *gids != as_engine {
        return Err(Unsupported::Ids);
    }
    if *clocks != Clocks::Machine {
        return Err(Unsupported::Clocks);
    }
    let Cgroup { path: _, limits } = cgroup;
    let memory = limits.map(|GroupLimits { memory, pids: _ }| memory);
    let mounted = Mounted::of(container, placed)?;
    Ok(Service {
        container_name: container_name(&plan.name, *role),
        image: placed.images.get(image).ok_or_else(|| Unsupported::Image(image.clone()))?.clone(),
        entrypoint: entry::point(plan, container),
        environment: env.iter().map(|(name, value)| (name.clone(), entry::literal(value))).chain(entry::environment(container)).collect(),
        user: format!("{user}:{user}"),
        hostname: (*hostname).to_owned(),
        network_mode: network_mode(*network).to_owned(),
        // No domain of the engine's host is told where whom to ask for names is.
        dns_search: if container.looks_up_names() { vec![".".to_owned()] } else { Vec::new() },
        ipc: "private".to_owned(),
        read_only: true,
        privileged: false,
        cap_drop: vec!["ALL".to_owned()],
        security_opt: security(container, placed.dialect),
        tmpfs: mounted.tmpfs,
        volumes: mounted.volumes,
        shm_size: mounted.shm_size,
        ulimits: rlimits.iter().copied().chain(placed.processes.map(|most| (PROCESSES, most))).map(ulimit).collect::<Result<_, _>>()?,
        mem_limit: memory,
        memswap_limit: memory,
        pids_limit: limits.map(|limits| limits.pids),
        restart: "no".to_owned(),
        depends_on: needs(plan, container).map(|role| (role.name().to_owned(), condition(placed.dialect))).collect(),
        healthcheck: if placed.dialect == Dialect::Docker { entry::health(plan, *role) } else { None },
    })
}

/// Podman takes the list of what to mask, Docker does not.
fn security(container: &Container, dialect: Dialect) -> Vec<String> {
    let mut options = vec!["no-new-privileges:true".to_owned(), format!("seccomp={}", profile_path(container.role))];
    if dialect == Dialect::Podman {
        options.push(format!("mask={}", container.masked.iter().copied().chain(hidden(container)).collect::<Vec<_>>().join(":")));
    }
    options
}

/// podman-compose runs health checks in a shell, which the images do not have; there the entry points alone wait.
fn condition(dialect: Dialect) -> Condition {
    let condition = match dialect {
        Dialect::Docker => "service_healthy",
        Dialect::Podman => "service_started",
    };
    Condition { condition: condition.to_owned() }
}

fn ulimit((name, value): (&str, u64)) -> Result<(String, Ulimit), Unsupported> {
    let short = name.strip_prefix("RLIMIT_").ok_or_else(|| Unsupported::Limit(name.to_owned()))?;
    Ok((short.to_ascii_lowercase(), Ulimit { soft: value, hard: value }))
}

/// The links that `container` uses and does not own.
fn used(container: &Container) -> impl Iterator<Item = (Link, BoxPath)> {
    container.mounts.iter().filter_map(|mount| if let Mount::Link { link, target, access: Access::ReadOnly } = mount { Some((*link, *target)) } else { None })
}

/// The roles whose sockets `container` connects to.
fn needs(plan: &Plan, container: &Container) -> impl Iterator<Item = Role> {
    used(container).map(|(link, _)| link.owner()).filter(|role| plan.container(*role).is_some()).collect::<BTreeSet<_>>().into_iter()
}

fn link_volume(link: Link) -> String {
    format!("link-{}", link.name())
}

/// The volumes that `container` owns: its links, which exist as long as a container uses them, and tor's state.
fn volumes(container: &Container) -> impl Iterator<Item = (String, Volume)> {
    let user = container.user;
    container.mounts.iter().filter_map(move |mount| match mount {
        Mount::Link { link, target: _, access: Access::ReadWrite } => Some((link_volume(*link), in_memory(user))),
        Mount::TorState { target: _, size: _ } => Some((STATE.to_owned(), Volume::default())),
        _ => None,
    })
}

/// Bounded in pages, because Podman takes `size` for a disk quota.
fn in_memory(user: u32) -> Volume {
    let options = format!("nr_blocks={LINK_PAGES},mode=755,uid={user},gid={user},nosuid,nodev,noexec");
    let driver_opts = [("type", "tmpfs"), ("device", "tmpfs"), ("o", options.as_str())].map(|(key, value)| (key.to_owned(), value.to_owned()));
    Volume { driver_opts: driver_opts.into() }
}

/// What is mounted into one container.
#[derive(Default)]
struct Mounted {
    tmpfs: Vec<String>,
    volumes: Vec<String>,
    shm_size: u64,
}

impl Mounted {
    fn of(container: &Container, placed: &Placed) -> Result<Self, Unsupported> {
        let mut mounted = Self::default();
        for mount in &container.mounts {
            mounted.add(mount, container.user, placed)?;
        }
        match placed.dialect {
            Dialect::Docker => mounted.hide(container),
            Dialect::Podman => {
                let free = PODMAN_WRITABLE.into_iter().filter(|place| !container.mounts.iter().any(|mount| mount.target().as_str() == *place));
                free.for_each(|place| mounted.tmpfs(place, 4096, 0o755, Owner::Root, Exec::Denied, 0, Dialect::Podman));
            }
        }
        mounted.tmpfs.sort();
        mounted.tmpfs.dedup();
        mounted.volumes.sort();
        Ok(mounted)
    }

    fn add(&mut self, mount: &Mount, user: u32, placed: &Placed) -> Result<(), Unsupported> {
        match mount {
            // Every engine makes these by itself.
            Mount::Proc | Mount::Dev => {}
            Mount::Tmpfs { target, size, mode: _, owner: _, exec: _ } if *target == paths::SHM => self.shm_size = *size,
            Mount::Tmpfs { target, size, mode, owner, exec } => self.tmpfs(target.as_str(), *size, *mode, *owner, *exec, user, placed.dialect),
            Mount::Link { link, target, access } => self.volume(&link_volume(*link), *target, *access, placed.dialect),
            Mount::Profile { target: _, size: _ } => return Err(Unsupported::Kept),
            Mount::TorState { target, size: _ } => self.volumes.push(format!("{STATE}:{target}:rw")),
            // The engine's own, which is not hidden.
            Mount::File { file: SuppliedFile::Resolver, target: _ } => {}
            // The init writes them there before it becomes the program.
            Mount::File { file: SuppliedFile::Torrc | SuppliedFile::DisplayCookie | SuppliedFile::ControlSecret, target: _ } => {
                self.tmpfs(FILES, FILES_SIZE, 0o755, Owner::User, Exec::Denied, user, placed.dialect);
            }
            Mount::Socket { source, target } => self.volumes.push(format!("{}:{target}:ro", socket(source, placed.display)?)),
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a tmpfs has as many properties")]
    fn tmpfs(&mut self, target: &str, size: u64, mode: u32, owner: Owner, exec: Exec, user: u32, dialect: Dialect) {
        self.tmpfs.push(format!("{target}:{}", tmpfs_options(size, mode, owner, exec, user, dialect)));
    }

    /// podman-compose has no word for what Docker must be told: not to fill the volume from the image.
    fn volume(&mut self, name: &str, target: BoxPath, access: Access, dialect: Dialect) {
        let access = match access {
            Access::ReadWrite => "rw",
            Access::ReadOnly => "ro",
        };
        let more = match dialect {
            Dialect::Docker => ",nocopy",
            Dialect::Podman => "",
        };
        self.volumes.push(format!("{name}:{target}:{access}{more}"));
    }

    fn hide(&mut self, container: &Container) {
        for path in container.masked.iter().copied().filter(|path| COVERABLE.contains(path)).chain(hidden(container)) {
            match path {
                "/sys" => self.tmpfs(path, 4096, 0o755, Owner::Root, Exec::Denied, 0, Dialect::Docker),
                file => self.volumes.push(format!("/dev/null:{file}:ro")),
            }
        }
    }
}

fn socket(source: &std::path::Path, display: DisplaySource) -> Result<String, Unsupported> {
    match display {
        DisplaySource::Environment => Ok("${XDG_RUNTIME_DIR:?is not set}/${WAYLAND_DISPLAY:?is not set}".to_owned()),
        DisplaySource::Plan => {
            let refused = || Unsupported::Path(source.to_owned());
            source.to_str().filter(|path| !path.contains([':', ',', '$'])).map(str::to_owned).ok_or_else(refused)
        }
    }
}
