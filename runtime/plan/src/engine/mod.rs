//! A plan as what Docker's and Podman's API take (Docker Engine API 1.41, "ContainerCreate" and "VolumeCreate"), as plain data.
//!
//! Pure. Destructures the plan without `..`, so that a new field fails to compile here until it is rendered. It names no directory
//! of the host but the display socket: links and state are volumes of the engine, because the engine may run in a virtual
//! machine that shares no file with the caller. What an engine cannot express is an error, never left out.

mod body;
mod facts;
pub mod read;
mod seccomp;

pub use body::{Bind, BindOptions, Body, Health, HostConfig, LogConfig, Mount as BodyMount, Ulimit, Volume, VolumeOptions};
pub use facts::{facts, given_up, normalise};
pub use seccomp::profile_json;

use crate::ids::{BoxName, BoxPath, Role};
use crate::plan::{Access, Cgroup, Clocks, Container, Exec, GroupLimits, IdMap, Link, Mount, Network, Owner, Plan, SuppliedFile, paths};
use crate::seccomp::ProfileError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Whose API it is: they differ in what they accept and in what they add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Docker, and what is built on it.
    Docker,
    /// Podman's compatible API.
    Podman,
}

impl Dialect {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// Whether containers get a namespace of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Each its own.
    Own,
    /// The engine has none to give.
    Engine,
}

/// What a plan needs to know of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// Whose API it is.
    pub dialect: Dialect,
    /// Podman has no control group namespaces on the old hierarchy.
    pub cgroup_namespace: Share,
    /// The OCI runtime to ask for, if not the engine's own choice.
    pub runtime: Option<String>,
    /// `RLIMIT_NPROC` to ask for: else Podman sets the kernel's maximum, which it may not where it has no `CAP_SYS_RESOURCE`.
    pub processes: Option<u64>,
}

/// What is known only once images and volumes are in the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The engine's ids of the images, by the digest that the plan names.
    pub images: BTreeMap<String, String>,
    /// How the engine is given seccomp profiles.
    pub policy: Policy,
    /// The claim that whoever launches has on the box's name.
    pub claim: String,
}

/// Where the engine reads seccomp profiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In the request (Docker).
    Inline,
    /// In files of this directory on the engine's host, one a role (Podman).
    Directory(String),
}

/// A plan that the engine cannot be asked for.
#[derive(Debug, thiserror::Error)]
pub enum Unsupported {
    /// An image that was not loaded.
    #[error("the engine does not have the image {0}")]
    Image(String),
    /// A seccomp profile that is not valid.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A seccomp profile that cannot be written down.
    #[error("the seccomp profile of {0} cannot be written as JSON")]
    Json(Role),
    /// A resource limit that engines do not know.
    #[error("engines have no resource limit {0:?}")]
    Limit(String),
    /// A number that the API cannot carry.
    #[error("{0} is too large for the engine's API")]
    Number(u64),
    /// A profile of the browser that is kept.
    #[error("an engine keeps no profile of the browser")]
    Kept,
    /// Ids other than the engine's own.
    #[error("an engine maps ids by itself: the plan was made for containers that torbox maps")]
    Ids,
    /// Clocks other than the machine's.
    #[error("engines have no time namespaces: the plan was made for containers with clocks of their own")]
    Clocks,
    /// A path that would be read as something else.
    #[error("the path {} cannot be given to the engine", .0.display())]
    Path(PathBuf),
}

/// Everything to ask the engine for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rendered {
    /// Volumes, to be made first.
    pub volumes: Vec<Volume>,
    /// Containers, in the order of [`Role::ALL`].
    pub containers: Vec<(Role, Body)>,
}

/// Labels that say whose a container or volume is.
pub mod label {
    /// The box.
    pub const BOX: &str = "torbox.box";
    /// The role.
    pub const ROLE: &str = "torbox.role";
    /// The claim.
    pub const CLAIM: &str = "torbox.claim";
}

/// Directory of the supplied files: a small tmpfs, because no engine can be handed a file without a path of its host.
pub const FILES: &str = "/run/torbox";
/// Places that Podman would otherwise make writable, unbounded and executable in every read-only container.
pub(crate) const PODMAN_WRITABLE: [&str; 2] = ["/tmp", "/var/tmp"];
/// What engines add to a container that tells of the host.
const ADDED: [&str; 4] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/sys"];
/// Devices, links between the roles and supplied files need little.
pub(crate) const FILES_SIZE: u64 = 1 << 20;
pub(crate) const LINK_PAGES: u32 = 16;
/// Whom to ask for names where nothing does: an engine that is not told any copies those of its host, even if that is hidden.
const NOBODY: &str = "127.0.0.1";
/// Bounds nothing that the plan relies on: it counts what the same id runs outside the box too.
pub(crate) const PROCESSES: &str = "RLIMIT_NPROC";

/// What of that is hidden in `container`, together with the plan's own masked paths: whom to ask for names is not where something does.
pub fn hidden(container: &Container) -> impl Iterator<Item = &'static str> + use<> {
    let names = container.looks_up_names();
    ADDED.into_iter().filter(move |path| !(names && *path == paths::RESOLVER.as_str()))
}

/// The name of a container.
#[must_use]
pub fn container_name(name: &BoxName, role: Role) -> String {
    format!("torbox-{name}-{role}")
}

/// The name of a link's volume.
#[must_use]
pub fn link_volume(name: &BoxName, link: Link) -> String {
    format!("torbox-{name}-link-{}", link.name())
}

/// The name of the volume that keeps tor's state between runs.
#[must_use]
pub fn state_volume(name: &BoxName) -> String {
    format!("torbox-{name}-tor-state")
}

/// The name of the volume that holds seccomp profiles where the engine wants files.
#[must_use]
pub fn policy_volume(name: &BoxName) -> String {
    format!("torbox-{name}-policy")
}

/// Renders `plan` for `engine`.
///
/// # Errors
/// [`Unsupported`] when something cannot be expressed; nothing is left out silently.
pub fn render(plan: &Plan, engine: &Engine, placed: &Placed) -> Result<Rendered, Unsupported> {
    let Plan { name, containers, outer_uids, outer_gids, torrc: _, resolver: _, start: _ } = plan;
    if !outer_uids.is_empty() || !outer_gids.is_empty() {
        return Err(Unsupported::Ids);
    }
    let bodies = containers.iter().map(|container| Ok((container.role, body(name, container, engine, placed)?)));
    Ok(Rendered { volumes: volumes(plan, placed), containers: bodies.collect::<Result<_, Unsupported>>()? })
}

fn labels(name: &BoxName, placed: &Placed) -> BTreeMap<String, String> {
    BTreeMap::from([(label::BOX.to_owned(), name.to_string()), (label::CLAIM.to_owned(), placed.claim.clone())])
}

fn volumes(plan: &Plan, placed: &Placed) -> Vec<Volume> {
    let links = Link::ALL.into_iter().filter_map(|link| Some(link_of(plan, link, plan.container(link.owner())?, placed)));
    let state = Volume { name: state_volume(&plan.name), driver: "local".to_owned(), driver_opts: BTreeMap::new(), labels: labels(&plan.name, placed) };
    links.chain([state]).collect()
}

/// A tmpfs that exists as long as a container of the box runs. Bounded in pages, because Podman takes `size` for a disk quota.
fn link_of(plan: &Plan, link: Link, owner: &Container, placed: &Placed) -> Volume {
    let options = format!("nr_blocks={LINK_PAGES},mode=755,uid={0},gid={0},nosuid,nodev,noexec", owner.user);
    let driver_opts = [("type", "tmpfs"), ("device", "tmpfs"), ("o", options.as_str())].map(|(key, value)| (key.to_owned(), value.to_owned()));
    Volume { name: link_volume(&plan.name, link), driver: "local".to_owned(), driver_opts: driver_opts.into(), labels: labels(&plan.name, placed) }
}

fn body(name: &BoxName, container: &Container, engine: &Engine, placed: &Placed) -> Result<Body, Unsupported> {
    let Container { role, image, args, env, user, uids, gids, network, mounts, hostname, clocks, rlimits, cgroup, masked, read_only } = container;
    let as_engine = IdMap { inside: 0, outside: 0, count: u32::MAX };
    if *uids != as_engine || *gids != as_engine {
        return Err(Unsupported::Ids);
    }
    if *clocks != Clocks::Machine {
        return Err(Unsupported::Clocks);
    }
    let Cgroup { path: _, limits } = cgroup;
    let mut labels = labels(name, placed);
    labels.insert(label::ROLE.to_owned(), role.name().to_owned());
    let hidden = masked.iter().copied().chain(hidden(container)).map(str::to_owned).collect::<Vec<_>>();
    let mut host_config = HostConfig {
        security_opt: security(container, engine.dialect, placed, &hidden)?,
        network_mode: network_mode(*network).to_owned(),
        masked_paths: hidden,
        readonly_paths: read_only.iter().map(|&path| path.to_owned()).collect(),
        ulimits: rlimits.iter().map(|&(name, value)| ulimit(name, value)).collect::<Result<_, _>>()?,
        runtime: engine.runtime.clone(),
        dns: if container.looks_up_names() { Vec::new() } else { vec![NOBODY.to_owned()] },
        ..HostConfig::closed()
    };
    host_config.ulimits.extend(engine.processes.map(|most| ulimit(PROCESSES, most)).transpose()?);
    limit(&mut host_config, *limits)?;
    mount_all(name, &mut host_config, mounts, *user, engine.dialect)?;
    let image = placed.images.get(image).ok_or_else(|| Unsupported::Image(image.clone()))?;
    Ok(Body {
        image: image.clone(),
        hostname: (*hostname).to_owned(),
        user: format!("{user}:{user}"),
        env: env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        entrypoint: held(args),
        cmd: Vec::new(),
        working_dir: "/".to_owned(),
        open_stdin: true,
        stdin_once: true,
        attach_stdin: true,
        attach_stdout: true,
        attach_stderr: true,
        tty: false,
        labels,
        healthcheck: Health { test: vec!["NONE".to_owned()] },
        host_config,
    })
}

/// The program behind the init that holds it until the container was compared with the plan.
fn held(args: &[String]) -> Vec<String> {
    [paths::INIT.as_str(), "hold", "--"].iter().map(|&word| word.to_owned()).chain(args.iter().cloned()).collect()
}

pub(crate) const fn network_mode(network: Network) -> &'static str {
    match network {
        Network::Loopback => "none",
        Network::Uplink => "host",
    }
}

fn security(container: &Container, dialect: Dialect, placed: &Placed, hidden: &[String]) -> Result<Vec<String>, Unsupported> {
    let profile = match &placed.policy {
        Policy::Inline => profile_json(container)?,
        Policy::Directory(directory) => format!("{directory}/{}.json", container.role),
    };
    let mut options = vec!["no-new-privileges:true".to_owned(), format!("seccomp={profile}")];
    if dialect == Dialect::Podman {
        // Its API does not read MaskedPaths.
        options.push(format!("mask={}", hidden.join(":")));
    }
    Ok(options)
}

fn ulimit(name: &str, value: u64) -> Result<Ulimit, Unsupported> {
    let short = name.strip_prefix("RLIMIT_").ok_or_else(|| Unsupported::Limit(name.to_owned()))?;
    let value = number(value)?;
    Ok(Ulimit { name: short.to_ascii_lowercase(), soft: value, hard: value })
}

fn number(value: u64) -> Result<i64, Unsupported> {
    i64::try_from(value).map_err(|_| Unsupported::Number(value))
}

fn limit(config: &mut HostConfig, limits: Option<GroupLimits>) -> Result<(), Unsupported> {
    if let Some(GroupLimits { memory, pids }) = limits {
        config.memory = number(memory)?;
        config.memory_swap = config.memory;
        config.pids_limit = i64::from(pids);
    }
    Ok(())
}

fn mount_all(name: &BoxName, config: &mut HostConfig, mounts: &[Mount], user: u32, dialect: Dialect) -> Result<(), Unsupported> {
    for mount in mounts {
        match mount {
            // Every engine makes these by itself.
            Mount::Proc | Mount::Dev => {}
            Mount::Tmpfs { target, size, mode: _, owner: _, exec: _ } if *target == paths::SHM => config.shm_size = number(*size)?,
            Mount::Tmpfs { target, size, mode, owner, exec } => {
                config.tmpfs.insert(target.as_str().to_owned(), tmpfs_options(*size, *mode, *owner, *exec, user, dialect));
            }
            Mount::Link { link, target, access } => volume(config, link_volume(name, *link), *target, *access, dialect),
            Mount::Profile { target: _, size: _ } => return Err(Unsupported::Kept),
            Mount::TorState { target, size: _ } => volume(config, state_volume(name), *target, Access::ReadWrite, dialect),
            // The engine's own, which is not hidden.
            Mount::File { file: SuppliedFile::Resolver, target: _ } => {}
            Mount::File { file, target } => file_directory(config, *file, *target, user, dialect)?,
            Mount::Socket { source, target } => socket(config, source, *target, dialect)?,
        }
    }
    if dialect == Dialect::Podman {
        for place in PODMAN_WRITABLE {
            config.tmpfs.entry(place.to_owned()).or_insert_with(|| tmpfs_options(4096, 0o755, Owner::Root, Exec::Denied, user, dialect));
        }
    }
    Ok(())
}

pub(crate) fn tmpfs_options(size: u64, mode: u32, owner: Owner, exec: Exec, user: u32, dialect: Dialect) -> String {
    let exec = match exec {
        Exec::Allowed => "exec",
        Exec::Denied => "noexec",
    };
    let owner = match (owner, dialect) {
        (Owner::Root, _) => String::new(),
        (Owner::User, Dialect::Docker) => format!(",uid={user},gid={user}"),
        // Podman's word for the same.
        (Owner::User, Dialect::Podman) => ",U".to_owned(),
    };
    let copy = match dialect {
        Dialect::Docker => "",
        // What the image has there stays there, and with it Podman's idea of the mode.
        Dialect::Podman => ",notmpcopyup",
    };
    format!("rw,nosuid,nodev,{exec},size={size},mode={mode:o}{owner}{copy}")
}

fn volume(config: &mut HostConfig, volume: String, target: BoxPath, access: Access, dialect: Dialect) {
    match dialect {
        Dialect::Docker => config.mounts.push(BodyMount {
            kind: "volume".to_owned(),
            source: volume,
            target: target.as_str().to_owned(),
            read_only: access == Access::ReadOnly,
            volume_options: Some(VolumeOptions { no_copy: target != paths::TOR_STATE }),
            bind_options: None,
        }),
        Dialect::Podman => config.binds.push(Bind::new(&volume, target, access, if target == paths::TOR_STATE { "" } else { ",nocopy" })),
    }
}

/// All supplied files lie in one directory; the init writes them there before the program runs.
fn file_directory(config: &mut HostConfig, _: SuppliedFile, target: BoxPath, user: u32, dialect: Dialect) -> Result<(), Unsupported> {
    match target.as_str().rsplit_once('/') {
        Some((FILES, _)) => {
            config.tmpfs.insert(FILES.to_owned(), tmpfs_options(FILES_SIZE, 0o755, Owner::User, Exec::Denied, user, dialect));
            Ok(())
        }
        _ => Err(Unsupported::Path(target.as_str().into())),
    }
}

fn socket(config: &mut HostConfig, source: &std::path::Path, target: BoxPath, dialect: Dialect) -> Result<(), Unsupported> {
    let refused = || Unsupported::Path(source.to_owned());
    let source = source.to_str().filter(|path| !path.contains([':', ','])).ok_or_else(refused)?;
    match dialect {
        Dialect::Docker => config.mounts.push(BodyMount {
            kind: "bind".to_owned(),
            source: source.to_owned(),
            target: target.as_str().to_owned(),
            read_only: true,
            volume_options: None,
            bind_options: Some(BindOptions { propagation: "rprivate".to_owned() }),
        }),
        Dialect::Podman => config.binds.push(Bind::new(source, target, Access::ReadOnly, ",rprivate")),
    }
    Ok(())
}
