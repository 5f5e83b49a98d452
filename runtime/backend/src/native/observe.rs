//! Reads the facts of a container back from the kernel: proc(5), never what was asked for.
//!
//! It knows neither the renderer nor what the renderer produced; a property of the kernel that the plan does not name
//! still shows up as a difference.

use super::enclose::shares_network;
use crate::texts::{self, MountInfo, Status};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use torbox_plan::{Container, Facts, MountFact, Namespace, NetworkFact};

/// Something that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} of a created container", path.display())]
pub(super) struct ObserveError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

type Result<T> = std::result::Result<T, ObserveError>;

/// The facts of the container whose process 1 is `pid`. `others` are the processes 1 of the other containers; `container`
/// says only where to look: which paths to check for being guarded, and which control group to read.
pub(super) fn observe(pid: Pid, others: &[Pid], container: &Container) -> Result<Facts> {
    let status = Status::parse(&read(proc(pid, "status"))?);
    let mountinfo = mountinfo(pid)?;
    let guarded = guarded(pid, &mountinfo, container);
    Ok(Facts {
        no_new_privs: status.no_new_privs(),
        seccomp_filters: status.seccomp_filters(),
        capabilities: status.capabilities(),
        user: status.user(),
        own_namespaces: own_namespaces(pid, others)?,
        network: if shares_network(container.network) { shared_network(pid)? } else { own_network(pid)? },
        rlimits: texts::limits(&read(proc(pid, "limits"))?),
        mounts: mounts(pid, &mountinfo, &guarded),
        guarded,
        limits: group_limits(&container.cgroup.path),
    })
}

fn proc(pid: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn read(path: PathBuf) -> Result<String> {
    fs::read_to_string(&path).map_err(|source| ObserveError { path, source })
}

/// The number of a namespace: two processes share it if and only if the numbers are equal (namespaces(7)).
fn namespace(process: &str, namespace: Namespace) -> Result<u64> {
    let path = PathBuf::from(format!("/proc/{process}/ns/{}", namespace.file()));
    fs::metadata(&path).map(|metadata| metadata.ino()).map_err(|source| ObserveError { path, source })
}

fn own_namespaces(pid: Pid, others: &[Pid]) -> Result<BTreeSet<Namespace>> {
    let mut own = BTreeSet::new();
    for kind in Namespace::ALL {
        let this = namespace(&pid.to_string(), kind)?;
        let mut elsewhere = vec![namespace("self", kind)?];
        for other in others {
            elsewhere.push(namespace(&other.to_string(), kind)?);
        }
        if !elsewhere.contains(&this) {
            own.insert(kind);
        }
    }
    Ok(own)
}

fn shared_network(pid: Pid) -> Result<NetworkFact> {
    let shared = namespace(&pid.to_string(), Namespace::Net)? == namespace("self", Namespace::Net)?;
    if shared { Ok(NetworkFact::Shared) } else { own_network(pid) }
}

fn own_network(pid: Pid) -> Result<NetworkFact> {
    Ok(texts::network(&read(proc(pid, "net/dev"))?, &read(proc(pid, "net/route"))?, &optional(proc(pid, "net/ipv6_route"))))
}

/// Empty where the kernel has no such file.
fn optional(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn mountinfo(pid: Pid) -> Result<Vec<MountInfo>> {
    Ok(texts::mountinfo(&read(proc(pid, "mountinfo"))?))
}

fn mounts(pid: Pid, mountinfo: &[MountInfo], guarded: &BTreeSet<String>) -> BTreeMap<String, MountFact> {
    let listed = mountinfo.iter().filter(|mount| !guarded.contains(&mount.target));
    listed.map(|mount| (mount.target.clone(), mount_fact(pid, mount))).collect()
}

fn mount_fact(pid: Pid, mount: &MountInfo) -> MountFact {
    let has = |option: &str| mount.options.contains(option);
    let kind = match inside(pid, &mount.target).symlink_metadata().map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_socket() => "socket".to_owned(),
        Ok(kind) if kind.is_char_device() => "device".to_owned(),
        _ => mount.kind.clone(),
    };
    MountFact { kind, ro: has("ro"), nodev: has("nodev"), nosuid: has("nosuid"), noexec: has("noexec") }
}

fn inside(pid: Pid, path: &str) -> PathBuf {
    proc(pid, "root").join(path.trim_start_matches('/'))
}

/// Those of the paths to be guarded that this kernel lacks, or over which something read-only or empty is mounted.
fn guarded(pid: Pid, mountinfo: &[MountInfo], container: &Container) -> BTreeSet<String> {
    let covered = |path: &str| mountinfo.iter().any(|mount| mount.target == path && (mount.options.contains("ro") || is_null(&inside(pid, path))));
    let all = container.masked.iter().chain(&container.read_only);
    all.filter(|path| matches!(fs::exists(inside(pid, path)), Ok(false)) || covered(path)).map(|&path| path.to_owned()).collect()
}

/// Whether `path` is /dev/null (null(4): character device 1, 3).
fn is_null(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == libc::makedev(1, 3))
}

/// What the old hierarchy shows where there is no limit is a little below this.
const UNLIMITED: u64 = 1 << 62;

/// Memory and process limits of a control group, if both are set, from the unified hierarchy or the two old ones (cgroups(7)).
fn group_limits(path: &str) -> Option<(u64, u64)> {
    let number = |file: String| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok().filter(|limit| *limit < UNLIMITED);
    let memory = number(format!("/sys/fs/cgroup{path}/memory.max")).or_else(|| number(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")));
    let pids = number(format!("/sys/fs/cgroup{path}/pids.max")).or_else(|| number(format!("/sys/fs/cgroup/pids{path}/pids.max")));
    Some((memory?, pids?))
}
