//! What must be true of a container that an engine made: the plan's facts, as a process inside the container sees them, and
//! as far as engines can give them. Every difference from the native backend is written here.

use super::{Dialect, Engine, FILES, PODMAN_WRITABLE, Share, hidden};
use crate::facts::{Facts, MountFact, Namespace, NetworkFact};
use crate::plan::{Access, Container, Mount, Network, SuppliedFile, paths};
use std::collections::BTreeMap;

/// Devices that every engine puts into `/dev`, as nodes or, without privileges, as mounts.
const DEVICES: [&str; 6] = ["/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"];

/// An attempt of the audit that succeeds in every engine's box, or in some engines' boxes.
struct GivenUp {
    id: &'static str,
    /// What alone it may find, where more than that would be something else.
    found: Option<&'static str>,
    why: &'static str,
}

const CLOCKS: &str = "no engine has time namespaces";
const USERS: &str = "an engine maps the users of all containers alike, or not at all";
const TERMINALS: &str = "every engine gives a container a file system of terminals of its own";

const GIVEN_UP: [GivenUp; 10] = [
    GivenUp { id: "host.clock", found: None, why: CLOCKS },
    GivenUp { id: "namespace.time", found: None, why: CLOCKS },
    GivenUp { id: "namespace.user", found: None, why: USERS },
    GivenUp { id: "identity.map", found: None, why: USERS },
    GivenUp { id: "namespace.cgroup", found: None, why: "Podman makes no namespace of control groups beside hierarchies of the old kind" },
    GivenUp { id: "host.limits", found: None, why: "the kernel counts these by user, who may be one of the host" },
    GivenUp { id: "host.mounts", found: None, why: "the table names the engine's storage" },
    GivenUp { id: "write.run.torbox", found: Some("it was made"), why: "the container's init writes the supplied files there; it is Landlock that keeps the browser from it" },
    GivenUp { id: "device.dev.ptmx", found: None, why: TERMINALS },
    GivenUp { id: "device.others", found: Some("/dev/pts/ptmx"), why: TERMINALS },
];

/// Why the attempt `id`, which found something, is not to be had in an engine; none if it is.
#[must_use]
pub fn given_up(id: &str, found: &str) -> Option<&'static str> {
    let row = GIVEN_UP.iter().find(|row| row.id == id)?;
    row.found.is_none_or(|only| only == found).then_some(row.why)
}

/// What must be true of `container` in `engine`.
#[must_use]
pub fn facts(container: &Container, engine: &Engine) -> Facts {
    let mut facts = Facts::of(container);
    facts.user = container.user;
    // Where an engine maps ids, it maps all containers alike: no role has a user namespace that another has not.
    facts.own_namespaces.remove(&Namespace::User);
    facts.own_namespaces.remove(&Namespace::Time);
    if engine.cgroup_namespace == Share::Engine {
        facts.own_namespaces.remove(&Namespace::Cgroup);
    }
    facts.guarded.extend(hidden(container).map(str::to_owned));
    facts.mounts = mounts(container, engine.dialect, facts.mounts);
    if container.network == Network::Uplink {
        facts.network = NetworkFact::Shared;
    }
    facts
}

fn mounts(container: &Container, dialect: Dialect, mut mounts: BTreeMap<String, MountFact>) -> BTreeMap<String, MountFact> {
    DEVICES.iter().for_each(|device| drop(mounts.remove(*device)));
    let fact = |kind: &str| MountFact { kind: kind.to_owned(), ro: false, nodev: true, nosuid: true, noexec: true };
    let open = |kind: &str| MountFact { nodev: false, nosuid: false, noexec: false, ..fact(kind) };
    // Engines set no flags on the root: nothing gains privileges from a setuid bit, and no device can be used that the group forbids.
    mounts.insert("/".to_owned(), MountFact { ro: true, ..open("root") });
    mounts.insert(paths::DEV.as_str().to_owned(), MountFact { nodev: false, noexec: dialect == Dialect::Podman, ..fact("tmpfs") });
    mounts.insert("/dev/pts".to_owned(), MountFact { nodev: false, ..fact("devpts") });
    mounts.insert("/dev/mqueue".to_owned(), fact("mqueue"));
    for mount in &container.mounts {
        let target = mount.target().as_str();
        match mount {
            // Docker's files have no flags either.
            Mount::File { file: SuppliedFile::Resolver, target: _ } => drop(mounts.insert(target.to_owned(), MountFact { ro: true, ..if dialect == Dialect::Docker { open("disk") } else { fact("disk") } })),
            Mount::File { .. } => {
                mounts.remove(target);
                mounts.insert(FILES.to_owned(), fact("tmpfs"));
            }
            // Docker's volumes have no flags, Podman's have.
            Mount::TorState { .. } => drop(mounts.insert(target.to_owned(), if dialect == Dialect::Docker { open("disk") } else { fact("disk") })),
            Mount::Socket { .. } => drop(mounts.insert(target.to_owned(), MountFact { ro: true, ..fact("socket") })),
            // Docker makes a volume read-only by mounting it once more, without the flags that it had.
            Mount::Link { access: Access::ReadOnly, .. } if dialect == Dialect::Docker => drop(mounts.insert(target.to_owned(), MountFact { ro: true, ..open("tmpfs") })),
            Mount::Proc | Mount::Dev | Mount::Tmpfs { .. } | Mount::Profile { .. } | Mount::Link { .. } => {}
        }
    }
    if dialect == Dialect::Podman {
        mounts.extend(PODMAN_WRITABLE.map(|place| (place.to_owned(), fact("tmpfs"))));
    }
    mounts
}

/// Brings what was found to the words in which [`facts`] speaks: the file systems of disks are alike, the flags of a socket's mount
/// say nothing, and the six devices are there either way. Flags that a mount has beyond those of `planned` only take away: without
/// root no engine can drop those of the mount that it binds (`mount_namespaces(7)`).
pub fn normalise(found: &mut Facts, planned: &Facts) {
    found.mounts.retain(|target, fact| !(DEVICES.contains(&target.as_str()) && fact.kind == "device"));
    for (target, fact) in &mut found.mounts {
        match fact.kind.as_str() {
            "socket" => (fact.nodev, fact.nosuid, fact.noexec) = (true, true, true),
            _ if target == "/" => fact.kind = "root".to_owned(),
            "ext4" | "ext3" | "ext2" | "xfs" | "btrfs" | "zfs" | "f2fs" | "overlay" | "virtiofs" => fact.kind = "disk".to_owned(),
            _ => {}
        }
        if let Some(asked) = planned.mounts.get(target) {
            if asked.kind == "disk" && fact.kind == "tmpfs" {
                // The engine's storage is in memory.
                "disk".clone_into(&mut fact.kind);
            }
            (fact.nodev, fact.nosuid, fact.noexec) = (fact.nodev && asked.nodev, fact.nosuid && asked.nosuid, fact.noexec && asked.noexec);
        }
    }
}
