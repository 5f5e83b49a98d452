//! The runtime's own root file system: what the plan names, and nothing of the host besides.
//!
//! Runs in a mount namespace of its own, so that all of it ends with the process. Everything that a container can read
//! of its mounts (proc_pid_mountinfo(5)) is a path of this root, the same on every host: images come in as the lower
//! layer of an overlay, whose own path is what is shown; links, files and state lie on tmpfs. Only the display socket is
//! bound from the host as it is.

use super::protocol::Supplies;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, chdir, chown, pivot_root};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use torbox_plan::{Container, Link, Mount, Network, Plan, Role, SuppliedFile};
use torbox_plan::oci::Sources;

/// A mount or file that could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncloseError {
    /// mount(2) or a relative of it.
    #[error("cannot mount {} for the box", target.display())]
    Mount {
        /// What was to be mounted on.
        target: PathBuf,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// A file or directory of the new root.
    #[error("cannot make {} for the box", path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, EncloseError>;

/// Devices that libcontainer binds into every container.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const GUARD: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
/// Where tor's kept state is bound.
pub(super) const KEEP: &str = "/keep";
/// libcontainer's own state.
pub(super) const CONTAINERS: &str = "/containers";
/// Bundles (OCI runtime specification, "Filesystem Bundle").
pub(super) const BUNDLES: &str = "/bundles";

/// Builds the root and enters it. Afterwards no path of the host can be reached by name.
pub(super) fn enclose(plan: &Plan, supplies: &Supplies) -> Result<()> {
    attach(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    let new = supplies.scratch.as_path();
    tmpfs(new, "size=1m,mode=755")?;
    attach(Some("proc"), &make_dir(&new.join("proc"))?, Some("proc"), GUARD, None)?;
    devices(new)?;
    cgroups(new, plan)?;
    host_sources(new, plan, supplies)?;
    for name in ["tmp", "old", "bundles", "containers", "lower/empty"] {
        make_dir(&new.join(name))?;
    }
    enter(new)?;
    private_sources(plan, supplies)
}

/// Replaces the root and lets go of the old one.
fn enter(new: &Path) -> Result<()> {
    let failed = |source| EncloseError::Mount { target: PathBuf::from("/"), source };
    chdir(new).map_err(failed)?;
    pivot_root(".", "old").map_err(failed)?;
    chdir("/").map_err(failed)?;
    umount2("/old", MntFlags::MNT_DETACH).map_err(failed)?;
    fs::remove_dir("/old").map_err(|source| EncloseError::Make { path: "/old".into(), source })
}

fn devices(new: &Path) -> Result<()> {
    let directory = make_dir(&new.join("dev"))?;
    for name in DEVICES {
        let target = make_file(&directory.join(name), &[])?;
        bind(&Path::new("/dev").join(name), &target)?;
        restrict(&target, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)?;
    }
    Ok(())
}

/// Where groups can be limited the host's hierarchies are kept. Elsewhere libcontainer, which cannot do without, is shown a
/// fresh view of the unified one, whose refusals it tolerates.
fn cgroups(new: &Path, plan: &Plan) -> Result<()> {
    let target = make_dir(&new.join("sys/fs/cgroup"))?;
    if plan.containers.iter().all(|container| container.cgroup.limits.is_some()) {
        return attach(Some("/sys/fs/cgroup"), &target, None, MsFlags::MS_BIND | MsFlags::MS_REC, None);
    }
    attach(Some("cgroup2"), &target, Some("cgroup2"), GUARD, None)
}

/// What is bound from the host: unpacked images, kept state, the display socket.
fn host_sources(new: &Path, plan: &Plan, supplies: &Supplies) -> Result<()> {
    bind(&supplies.tor_root, &make_dir(&new.join("lower/tor"))?)?;
    bind(&supplies.browser_root, &make_dir(&new.join("lower/browser"))?)?;
    bind(&supplies.tor_state, &make_dir(&new.join("keep"))?)?;
    for mount in plan.containers.iter().flat_map(|container| &container.mounts) {
        if let Mount::Socket { source, target: _ } = mount {
            bind(source, &make_file(&new.join("display"), &[])?)?;
        }
    }
    Ok(())
}

/// What exists only in this namespace: container roots, links, supplied files, tor's working state.
fn private_sources(plan: &Plan, supplies: &Supplies) -> Result<()> {
    for container in &plan.containers {
        let root = make_dir(Path::new(&Enclosed.root(container)))?;
        let options = format!("lowerdir=/lower/{}:/lower/empty", image_of(container.role));
        attach(Some("overlay"), &root, Some("overlay"), MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID, Some(&options))?;
    }
    for link in Link::ALL {
        let directory = make_dir(&Path::new("/links").join(link.name()))?;
        tmpfs(&directory, "size=64k,mode=755")?;
        give(&directory, plan.container(link.owner()))?;
    }
    let files = make_dir(Path::new("/files"))?;
    tmpfs(&files, "size=1m,mode=755")?;
    secret(&files.join(SuppliedFile::Torrc.name()), plan.torrc.as_bytes(), plan.container(Role::Tor))?;
    secret(&files.join(SuppliedFile::Xauthority.name()), &supplies.xauthority, plan.container(Role::Browser))?;
    let state = make_dir(Path::new("/state"))?;
    tmpfs(&state, &format!("size={},mode=700", tor_state_size(plan)))?;
    give(&state, plan.container(Role::Tor))
}

fn tor_state_size(plan: &Plan) -> u64 {
    let mounts = plan.containers.iter().flat_map(|container| &container.mounts);
    mounts.filter_map(|mount| if let Mount::TorState { size, target: _ } = mount { Some(*size) } else { None }).sum()
}

const fn image_of(role: Role) -> &'static str {
    match role {
        Role::Tor | Role::Gate => "tor",
        Role::Browser => "browser",
    }
}

/// Where the sources of a plan's mounts lie in this root.
pub(super) struct Enclosed;

impl Sources for Enclosed {
    fn root(&self, container: &Container) -> String {
        format!("/roots/{}", container.role)
    }

    fn source(&self, mount: &Mount) -> String {
        match mount {
            Mount::Link { link, .. } => format!("/links/{}", link.name()),
            Mount::File { file, .. } => format!("/files/{}", file.name()),
            Mount::TorState { .. } => "/state".to_owned(),
            Mount::Socket { .. } => "/display".to_owned(),
            Mount::Proc | Mount::Dev | Mount::Tmpfs { .. } => String::new(),
        }
    }
}

/// The network namespace that the containers of `network` share with the runtime, if they do.
pub(super) const fn shares_network(network: Network) -> bool {
    match network {
        Network::Loopback => false,
        Network::Uplink => true,
    }
}

fn attach(source: Option<&str>, target: &Path, kind: Option<&str>, flags: MsFlags, options: Option<&str>) -> Result<()> {
    mount(source, target, kind, flags, options).map_err(|source| EncloseError::Mount { target: target.to_owned(), source })
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|error| EncloseError::Mount { target: source.to_owned(), source: error })
}

fn tmpfs(target: &Path, options: &str) -> Result<()> {
    attach(Some("tmpfs"), target, Some("tmpfs"), GUARD, Some(options))
}

/// Adds `flags` to those of the bind mount at `target`; the ones it has may be locked and must be repeated (mount_namespaces(7)).
fn restrict(target: &Path, flags: MsFlags) -> Result<()> {
    let failed = |source| EncloseError::Mount { target: target.to_owned(), source };
    let has = statvfs(target).map_err(failed)?.flags();
    let repeat = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let kept = repeat.iter().filter(|(flag, _)| has.contains(*flag)).fold(MsFlags::empty(), |all, (_, flag)| all | *flag);
    attach(None, target, None, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | kept | flags, None)
}

fn make_dir(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).map_err(|source| EncloseError::Make { path: path.to_owned(), source })?;
    Ok(path.to_owned())
}

fn make_file(path: &Path, contents: &[u8]) -> Result<PathBuf> {
    fs::write(path, contents).map_err(|source| EncloseError::Make { path: path.to_owned(), source })?;
    Ok(path.to_owned())
}

/// A file that `reader` alone can read.
fn secret(path: &Path, contents: &[u8], reader: Option<&Container>) -> Result<()> {
    make_file(path, contents)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o400)).map_err(|source| EncloseError::Make { path: path.to_owned(), source })?;
    give(path, reader)
}

fn give(path: &Path, container: Option<&Container>) -> Result<()> {
    let Some(container) = container else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(container.outside_uid()), Gid::from_raw(container.outside_gid()));
    chown(path, Some(uid), Some(gid)).map_err(|errno| EncloseError::Make { path: path.to_owned(), source: errno.into() })
}
