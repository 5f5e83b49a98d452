//! A container of the plan as an OCI runtime configuration (OCI runtime specification 1.2, `config.json`).
//!
//! Pure. Destructures the plan without `..`, so that a new field fails to compile here until it is rendered.

use crate::plan::{Access, Clocks, Container, Exec, GroupLimits, IdMap, Mount, Network, Owner, UPTIME};
use crate::seccomp::{self, Errno, Profile, ProfileError};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxIdMapping, LinuxIdMappingBuilder, LinuxMemoryBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder, LinuxTimeOffset, LinuxTimeOffsetBuilder, Mount as OciMount, MountBuilder, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Where the sources of mounts lie in the namespace of whoever executes the configuration.
pub trait Sources {
    /// The unpacked root of the container's image.
    fn root(&self, container: &Container) -> String;
    /// The directory or file that `mount` binds, for mounts that bind one.
    fn source(&self, mount: &Mount) -> String;
    /// What the clocks of the machine show.
    fn uptime(&self) -> Uptime;
}

/// Time since the machine's start (clock_gettime(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// `CLOCK_BOOTTIME`.
    pub boot: Duration,
    /// `CLOCK_MONOTONIC`, which stands still while the machine sleeps.
    pub monotonic: Duration,
}

impl Uptime {
    /// What clocks show without the offsets of the time namespace they are read in, which are told as in `/proc/self/timens_offsets`
    /// (time_namespaces(7)): those of a new one count from the machine's clocks, wherever it is made.
    #[must_use]
    pub fn without(self, offsets: &str) -> Self {
        let offset = |clock: &str| {
            let mut words = offsets.lines().find_map(|line| line.strip_prefix(clock))?.split_whitespace().map(str::parse::<i128>);
            Some(words.next()?.ok()? * NANOSECONDS + words.next()?.ok()?)
        };
        let machine = |shown: Duration, clock| {
            let nanoseconds = i128::try_from(shown.as_nanos()).unwrap_or(i128::MAX).saturating_sub(offset(clock).unwrap_or(0));
            Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
        };
        Self { boot: machine(self.boot, "boottime"), monotonic: machine(self.monotonic, "monotonic") }
    }
}

/// In a second.
const NANOSECONDS: i128 = 1_000_000_000;

/// A container that cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A value that the specification does not allow.
    #[error("the OCI runtime specification does not allow this")]
    Spec(#[from] OciSpecError),
    /// A seccomp profile that is not valid.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A resource limit that the specification does not know.
    #[error("the OCI runtime specification has no resource limit {0:?}")]
    Limit(String),
}

/// Renders `container`.
///
/// # Errors
/// [`RenderError`] when something cannot be expressed; nothing is left out silently.
pub fn render(container: &Container, sources: &dyn Sources) -> Result<Spec, RenderError> {
    let Container { role: _, image: _, args, env, user, uids, gids, network, mounts, hostname, clocks, rlimits, cgroup, masked, read_only } = container;
    let linux = LinuxBuilder::default()
        .namespaces(namespaces(*network)?)
        .uid_mappings(vec![id_mapping(*uids)?])
        .gid_mappings(vec![id_mapping(*gids)?])
        .time_offsets(time_offsets(*clocks, sources.uptime())?)
        .masked_paths(owned(masked))
        .readonly_paths(owned(read_only))
        .cgroups_path(cgroup.path.as_str())
        .resources(resources(cgroup.limits)?)
        .seccomp(seccomp(&seccomp::profile_of(container)?)?)
        .build()?;
    let mounts: Vec<OciMount> = mounts.iter().map(|mount| mount_of(mount, *user, sources)).collect::<Result<_, _>>()?;
    Ok(SpecBuilder::default()
        .version("1.2.0")
        .hostname(*hostname)
        .root(RootBuilder::default().path(sources.root(container)).readonly(true).build()?)
        .process(process(args, env, *user, rlimits)?)
        .mounts(mounts)
        .linux(linux)
        .build()?)
}

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|&path| path.to_owned()).collect()
}

fn process(args: &[String], env: &[(String, String)], user: u32, rlimits: &[(&str, u64)]) -> Result<Process, RenderError> {
    let none = HashSet::new;
    let capabilities =
        LinuxCapabilitiesBuilder::default().bounding(none()).effective(none()).inheritable(none()).permitted(none()).ambient(none()).build()?;
    Ok(ProcessBuilder::default()
        .terminal(false)
        .user(UserBuilder::default().uid(user).gid(user).build()?)
        .args(args.to_vec())
        .env(env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
        .cwd("/")
        .no_new_privileges(true)
        .capabilities(capabilities)
        .rlimits(rlimits.iter().map(|&(name, value)| rlimit(name, value)).collect::<Result<Vec<_>, _>>()?)
        .build()?)
}

fn rlimit(name: &str, value: u64) -> Result<PosixRlimit, RenderError> {
    let typ = PosixRlimitType::from_str(name).map_err(|_| RenderError::Limit(name.to_owned()))?;
    Ok(PosixRlimitBuilder::default().typ(typ).soft(value).hard(value).build()?)
}

fn namespaces(network: Network) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network as Net, Pid, Time, User, Uts};
    let own = match network {
        Network::Loopback => vec![User, Pid, Ipc, Uts, Mount, Cgroup, Time, Net],
        Network::Uplink => vec![User, Pid, Ipc, Uts, Mount, Cgroup, Time],
    };
    own.into_iter().map(|typ| LinuxNamespaceBuilder::default().typ(typ).build()).collect()
}

fn id_mapping(map: IdMap) -> Result<LinuxIdMapping, OciSpecError> {
    let IdMap { inside, outside, count } = map;
    LinuxIdMappingBuilder::default().container_id(inside).host_id(outside).size(count).build()
}

fn time_offsets(clocks: Clocks, uptime: Uptime) -> Result<HashMap<String, LinuxTimeOffset>, OciSpecError> {
    let boot = ("boottime", uptime.boot);
    let shifted = match clocks {
        Clocks::Constant => vec![boot, ("monotonic", uptime.monotonic)],
        Clocks::ConstantBoot => vec![boot],
        Clocks::Machine => vec![],
    };
    shifted.into_iter().map(|(clock, shows)| Ok((clock.to_owned(), offset(shows)?))).collect()
}

/// What makes a clock that shows `now` show [`UPTIME`]. The nanoseconds count upwards from the seconds.
fn offset(now: Duration) -> Result<LinuxTimeOffset, OciSpecError> {
    const SECOND: u32 = 1_000_000_000;
    let (whole, nanoseconds) = match now.subsec_nanos() {
        0 => (now.as_secs(), 0),
        part => (now.as_secs() + 1, SECOND - part),
    };
    LinuxTimeOffsetBuilder::default().secs(UPTIME - i64::try_from(whole).unwrap_or(i64::MAX)).nanosecs(nanoseconds).build()
}

fn resources(limits: Option<GroupLimits>) -> Result<LinuxResources, OciSpecError> {
    let Some(GroupLimits { memory, pids }) = limits else { return LinuxResourcesBuilder::default().build() };
    let memory = LinuxMemoryBuilder::default().limit(i64::try_from(memory).unwrap_or(i64::MAX)).build()?;
    LinuxResourcesBuilder::default().memory(memory).pids(LinuxPidsBuilder::default().limit(i64::from(pids)).build()?).build()
}

fn mount_of(mount: &Mount, user: u32, sources: &dyn Sources) -> Result<OciMount, OciSpecError> {
    let (typ, source, options) = match mount {
        Mount::Proc => ("proc", "proc".to_owned(), vec!["nosuid".to_owned(), "noexec".to_owned(), "nodev".to_owned()]),
        Mount::Dev => ("tmpfs", "tmpfs".to_owned(), vec!["nosuid".to_owned(), "noexec".to_owned(), "mode=755".to_owned(), "size=64k".to_owned()]),
        Mount::Tmpfs { target: _, size, mode, owner, exec } => ("tmpfs", "tmpfs".to_owned(), tmpfs_options(*size, *mode, *owner, *exec, user)),
        Mount::Link { link: _, target: _, access } => ("bind", sources.source(mount), bind_options(*access)),
        Mount::File { file: _, target: _ } | Mount::Socket { source: _, target: _ } => ("bind", sources.source(mount), bind_options(Access::ReadOnly)),
        Mount::TorState { target: _, size: _ } | Mount::Profile { target: _, size: _ } => ("bind", sources.source(mount), bind_options(Access::ReadWrite)),
    };
    MountBuilder::default().destination(mount.target().as_str()).typ(typ).source(source).options(options).build()
}

fn tmpfs_options(size: u64, mode: u32, owner: Owner, exec: Exec, user: u32) -> Vec<String> {
    let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), format!("size={size}"), format!("mode={mode:o}")];
    if exec == Exec::Denied {
        options.push("noexec".to_owned());
    }
    if owner == Owner::User {
        options.extend([format!("uid={user}"), format!("gid={user}")]);
    }
    options
}

fn bind_options(access: Access) -> Vec<String> {
    let write = match access {
        Access::ReadWrite => "rw",
        Access::ReadOnly => "ro",
    };
    ["bind", "nosuid", "nodev", "noexec", write].map(str::to_owned).to_vec()
}

/// The profile for runtimes that install it themselves. A refused argument returns the profile's default error
/// there: the format cannot give one call both an allowed set of arguments and an error of its own.
fn seccomp(profile: &Profile) -> Result<LinuxSeccomp, OciSpecError> {
    let Profile { default, rules } = profile;
    let syscalls = rules.iter().flat_map(|rule| {
        let alternatives = if rule.when.is_empty() { vec![Vec::new()] } else { rule.when.clone() };
        alternatives.into_iter().map(|conditions| allow(&rule.calls, &conditions))
    });
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(u32::from(Errno::number(*default)))
        .architectures(vec![if seccomp::Arch::OWN == seccomp::Arch::Aarch64 { Arch::ScmpArchAarch64 } else { Arch::ScmpArchX86_64 }])
        .syscalls(syscalls.collect::<Result<Vec<_>, _>>()?)
        .build()
}

fn allow(calls: &[String], conditions: &[seccomp::Condition]) -> Result<LinuxSyscall, OciSpecError> {
    let args = conditions.iter().map(|condition| {
        LinuxSeccompArgBuilder::default()
            .index(usize::from(condition.arg))
            .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
            .value(u64::from(condition.mask))
            .value_two(u64::from(condition.eq))
            .build()
    });
    let args = args.collect::<Result<Vec<_>, _>>()?;
    let builder = LinuxSyscallBuilder::default().names(calls.to_vec()).action(LinuxSeccompAction::ScmpActAllow);
    if args.is_empty() { builder.build() } else { builder.args(args).build() }
}

/// Sources as a reader of the plan wants to see them: by name.
pub struct Named;

impl Sources for Named {
    fn root(&self, container: &Container) -> String {
        format!("image:{}", container.image)
    }

    fn source(&self, mount: &Mount) -> String {
        match mount {
            Mount::Link { link, .. } => format!("link:{}", link.name()),
            Mount::File { file, .. } => format!("file:{}", file.name()),
            Mount::TorState { .. } => "tor-state".to_owned(),
            Mount::Profile { .. } => "profile".to_owned(),
            Mount::Socket { source, .. } => Path::new(source).display().to_string(),
            Mount::Proc | Mount::Dev | Mount::Tmpfs { .. } => String::new(),
        }
    }

    fn uptime(&self) -> Uptime {
        Uptime { boot: Duration::ZERO, monotonic: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g6_a_time_namespace_around_torbox_changes_no_clock_of_a_box() {
        let uptime = |boot, monotonic| Uptime { boot: Duration::from_millis(boot), monotonic: Duration::from_millis(monotonic) };
        let shown = uptime(90_500, 70_000);
        assert_eq!(shown.without("monotonic           0         0\nboottime            0         0\n"), shown);
        assert_eq!(shown.without("monotonic          60 500000000\nboottime          -10         0\n"), uptime(100_500, 9_500));
        assert_eq!(shown.without("monotonic          -1 500000000\n"), uptime(90_500, 70_500));
        assert_eq!(shown.without(""), shown, "an older kernel");
    }

    #[test]
    fn g6_every_machine_has_been_up_for_the_same_time() {
        for (seconds, nanoseconds) in [(0, 0), (5, 0), (3600, 1), (86_400, 999_999_999), (10_000_000, 500_000_000)] {
            let offset = offset(Duration::new(seconds, nanoseconds)).unwrap();
            let shown = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds) + i128::from(offset.secs().unwrap()) * 1_000_000_000 + i128::from(offset.nanosecs().unwrap());
            assert_eq!(shown, i128::from(UPTIME) * 1_000_000_000, "{seconds}.{nanoseconds}");
        }
    }
}
