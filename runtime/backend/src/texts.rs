//! The kernel's texts about a process (proc(5)), as values. Pure: it opens nothing, and takes what is missing for the worst.

use std::collections::{BTreeMap, BTreeSet};
use torbox_plan::{NOT_OPENED, NetworkFact, OPENED, Role};

/// Roles in a message. tor has listened, and not proved that it finds a network, where there are none.
pub(crate) fn names(roles: &[Role]) -> String {
    let roles = if roles.is_empty() { &[Role::Tor] } else { roles };
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ")
}

/// What can be done about the end of a role.
pub(crate) const fn hint_of_lost(role: Role) -> Option<&'static str> {
    match role {
        Role::Tor => Some("what tor said last stands above; --verbose shows all of it"),
        Role::Display => Some("is the display server still there? a box ends with what shows it"),
        Role::Gate | Role::Browser => None,
    }
}

/// proc_pid_status(5).
pub(crate) struct Status(BTreeMap<String, String>);

impl Status {
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    fn number(&self, key: &str, radix: u32) -> Option<u64> {
        self.0.get(key).and_then(|value| u64::from_str_radix(value, radix).ok())
    }

    pub(crate) fn no_new_privs(&self) -> bool {
        self.number("NoNewPrivs", 10) == Some(1)
    }

    /// How many filters are installed; 0 in any mode but that of filters.
    pub(crate) fn seccomp_filters(&self) -> u32 {
        let filters = self.number("Seccomp_filters", 10).and_then(|filters| u32::try_from(filters).ok());
        if self.number("Seccomp", 10) == Some(2) { filters.unwrap_or(0) } else { 0 }
    }

    /// Every capability that is in any of the five sets.
    pub(crate) fn capabilities(&self) -> u64 {
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].iter().map(|set| self.number(set, 16).unwrap_or(u64::MAX)).fold(0, |all, set| all | set)
    }

    /// The one user id; an impossible one if real, effective, saved and file-system id differ.
    pub(crate) fn user(&self) -> u32 {
        let ids: BTreeSet<u32> = self.0.get("Uid").into_iter().flat_map(|ids| ids.split_whitespace()).filter_map(|id| id.parse().ok()).collect();
        match ids.first() {
            Some(&id) if ids.len() == 1 => id,
            _ => u32::MAX,
        }
    }
}

const LIMITS: [(&str, &str); 5] = [
    ("Max core file size", "RLIMIT_CORE"), ("Max open files", "RLIMIT_NOFILE"), ("Max processes", "RLIMIT_NPROC"), ("Max pending signals", "RLIMIT_SIGPENDING"),
    ("Max locked memory", "RLIMIT_MEMLOCK"),
];

/// Limits of proc_pid_limits(5); one whose soft and hard values differ is reported as the larger.
pub(crate) fn limits(text: &str) -> BTreeMap<String, u64> {
    let parse = |value: &str| value.parse().unwrap_or(u64::MAX);
    let found = LIMITS.iter().filter_map(|(label, name)| {
        let values = text.lines().find_map(|line| line.strip_prefix(label))?;
        let mut values = values.split_whitespace().map(parse);
        Some(((*name).to_owned(), values.next()?.max(values.next()?)))
    });
    found.collect()
}

/// Interfaces of `net/dev` and routes of `net/route` and `net/ipv6_route` (proc_pid_net(5)).
pub(crate) fn network(dev: &str, route: &str, ipv6_route: &str) -> NetworkFact {
    let mut interfaces: Vec<String> = dev.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect();
    interfaces.sort();
    let v4 = route.lines().skip(1).count();
    let v6 = ipv6_route.lines().filter(|line| !line.ends_with(" lo")).count();
    NetworkFact::Own { interfaces, routes: v4 + v6 }
}

/// One line of proc_pid_mountinfo(5).
pub(crate) struct MountInfo {
    pub(crate) id: u32,
    pub(crate) parent: u32,
    pub(crate) target: String,
    pub(crate) options: BTreeSet<String>,
    pub(crate) kind: String,
}

/// What the browser's init says of an address that it was given: why the browser did not open it, if it did not. The browser can
/// say the same, and deceives nobody but who waits for it.
pub(crate) fn opened(role: Role, line: &str) -> Option<Option<String>> {
    match line {
        _ if role != Role::Browser => None,
        OPENED => Some(None),
        NOT_OPENED => Some(Some("the browser did not take it".to_owned())),
        _ => None,
    }
}

/// tor's own account of its progress, in percent and words:
/// `... [notice] Bootstrapped 45% (requesting_descriptors): Asking for relay descriptors`.
pub(crate) fn bootstrap(line: &str) -> Option<(u8, String)> {
    let (_, rest) = line.split_once("Bootstrapped ")?;
    let (percent, rest) = rest.split_once('%')?;
    let summary = rest.split_once(": ").map_or("", |(_, summary)| summary);
    Some((percent.parse().ok().filter(|percent| *percent <= 100)?, summary.to_owned()))
}

/// Whether tor says that it is connected to its network.
pub(crate) fn is_connected(role: Role, line: &str) -> bool {
    role == Role::Tor && bootstrap(line).is_some_and(|(percent, _)| percent == 100)
}

/// The gate and the display say `ready` when their sockets exist, tor that it opened its own.
pub(crate) fn says_it_listens(role: Role, line: &str) -> bool {
    match role {
        Role::Tor => line.contains("Opened Socks listener") || bootstrap(line).is_some(),
        Role::Gate | Role::Display => line == "ready",
        Role::Browser => false,
    }
}

/// All lines of proc_pid_mountinfo(5).
pub(crate) fn mountinfo(text: &str) -> Vec<MountInfo> {
    text.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<MountInfo> {
    let (own, superblock) = line.split_once(" - ")?;
    let mut fields = own.split(' ');
    let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let mut fields = fields.skip(2);
    let target = fields.next()?.to_owned();
    let options = fields.next()?.split(',').map(str::to_owned).collect();
    Some(MountInfo { id, parent, target, options, kind: superblock.split(' ').next()?.to_owned() })
}

/// Those mounts that a path leads to: not the ones that a later mount covers, at their place or above it.
pub(crate) fn visible(all: Vec<MountInfo>) -> Vec<MountInfo> {
    let covered = |(index, mount): (usize, &MountInfo)| all.iter().skip(index + 1).any(|later| covers(later, mount, &all));
    let covered: Vec<bool> = all.iter().enumerate().map(covered).collect();
    all.into_iter().zip(covered).filter_map(|(mount, covered)| (!covered).then_some(mount)).collect()
}

/// Whether `later` lies at the place of `mount` or above it, without `mount` being mounted on `later` or on what is mounted on it.
fn covers(later: &MountInfo, mount: &MountInfo, all: &[MountInfo]) -> bool {
    let above = later.target == "/" || mount.target.strip_prefix(later.target.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let parent = |of: &&MountInfo| all.iter().find(|candidate| candidate.id == of.parent && candidate.id != of.id);
    // A table has fewer levels than lines: the bound ends one that loops.
    above && !std::iter::successors(Some(mount), parent).take(all.len()).any(|of| of.id == later.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_lines_of_tor_are_read_and_others_are_not() {
        let of = |percent, summary: &str| Some((percent, summary.to_owned()));
        let cases = [
            ("Nov 23 16:00:00.000 [notice] Bootstrapped 0% (starting): Starting", of(0, "Starting")),
            ("Nov 23 16:00:01.000 [notice] Bootstrapped 45% (requesting_descriptors): Asking for relay descriptors", of(45, "Asking for relay descriptors")),
            ("Nov 23 16:00:02.000 [notice] Bootstrapped 100% (done): Done", of(100, "Done")),
            ("Bootstrapped 101% (done): Done", None),
            ("Bootstrapped x% (done): Done", None),
            ("[notice] Opening Socks listener", None),
        ];
        for (line, progress) in cases {
            assert_eq!(bootstrap(line), progress, "{line}");
        }
    }

    #[test]
    fn mountinfo_lines_are_read_by_field() {
        let line = "36 35 98:0 /mnt1 /mnt2 ro,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse_mount(line).unwrap();
        assert_eq!((mount.id, mount.parent, mount.target.as_str(), mount.kind.as_str()), (36, 35, "/mnt2", "ext3"));
        assert_eq!(mount.options, ["noatime", "ro"].map(str::to_owned).into());
        assert!(parse_mount("36 35 98:0 /mnt1").is_none());
    }

    #[test]
    fn what_a_later_mount_covers_is_not_visible() {
        let table = "77 50 0:40 / / ro - overlay o rw\n78 77 0:44 / /sys ro - sysfs s ro\n79 78 0:52 / /sys/fs/cgroup rw - tmpfs t rw\n\
            80 77 0:60 / /run rw - tmpfs t rw\n81 80 0:61 / /run/torbox rw - tmpfs t rw\n62 78 0:56 / /sys ro - tmpfs t ro\n";
        let left: Vec<_> = visible(mountinfo(table)).into_iter().map(|mount| mount.id).collect();
        assert_eq!(left, [77, 80, 81, 62]);
    }
}
