//! What must be true of a container that a compose file made. Every difference from a box in an engine is written here.

use super::COVERABLE;
use crate::engine::{self, Dialect, Engine, Share, hidden};
use crate::facts::{Facts, MountFact};
use crate::plan::{Container, Mount};

/// What engines hide or make read-only unasked (moby, `oci.DefaultSpec`); a compose file cannot ask Docker for more of proc(5).
const UNASKED: [&str; 14] = [
    "/proc/acpi", "/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/sys",
    "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats",
];

/// What must be true of `container`, in the engine whose compose is used.
#[must_use]
pub fn facts(container: &Container, dialect: Dialect) -> Facts {
    // A compose file does not ask for a control group namespace: docker-compose 1.29 has no word for it.
    let engine = Engine { dialect, cgroup_namespace: Share::Engine, runtime: None, processes: None };
    let mut facts = engine::facts(container, &engine);
    match dialect {
        Dialect::Docker => docker(container, &mut facts),
        Dialect::Podman => podman(container, &mut facts),
    }
    facts
}

/// What is hidden is hidden by mounts.
fn docker(container: &Container, facts: &mut Facts) {
    facts.guarded = UNASKED.map(str::to_owned).into();
    let null = MountFact { kind: "device".to_owned(), ro: true, nodev: false, nosuid: false, noexec: false };
    for path in hidden(container).chain(container.masked.iter().copied().filter(|path| COVERABLE.contains(path))) {
        facts.mounts.insert(path.to_owned(), null.clone());
    }
    facts.mounts.insert("/sys".to_owned(), MountFact { kind: "tmpfs".to_owned(), ro: false, nodev: true, nosuid: true, noexec: true });
}

/// podman-compose cannot give mount flags: volumes have those that Podman gives them.
fn podman(container: &Container, facts: &mut Facts) {
    for mount in &container.mounts {
        if let Mount::Link { target, .. } | Mount::TorState { target, .. } = mount
            && let Some(fact) = facts.mounts.get_mut(target.as_str())
        {
            fact.noexec = false;
        }
    }
    facts.guarded.extend(UNASKED.map(str::to_owned));
}
