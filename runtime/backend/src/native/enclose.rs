//! The runtime's own root file system: what the plan names, and nothing of the host besides.
//!
//! Runs in a mount namespace of its own, so that all of it ends with the process. Everything that a container can read
//! of its mounts (proc_pid_mountinfo(5)) is a path of this root, the same on every host: images come in as the lower
//! layer of an overlay, whose own path is what is shown; links, files and state lie on tmpfs. Only the display
//! server's socket is bound from the host as it is, and only for the display's container.

use super::launch::Supplies;
use crate::secret::random_hex;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Gid, Uid, chdir, chown, pivot_root};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use torbox_plan::{Container, Link, Mount, Network, Plan, Resolver, Role, SuppliedFile};
use torbox_plan::oci::{Sources, Uptime};

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
    /// A plan that has no tor.
    #[error("the plan has no container for tor")]
    NoTor,
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
/// tor's working state.
pub(super) const STATE: &str = "/state";
/// Where the browser's kept profile is bound.
pub(super) const KEEP_PROFILE: &str = "/keep-profile";
/// The profile that the browser works on.
pub(super) const PROFILE: &str = "/profile";
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

/// Root keeps the host's hierarchies, where groups can be limited. A user is shown the unified one from its own group
/// downwards; where that cannot be limited libcontainer, which cannot do without, tolerates its refusals.
fn cgroups(new: &Path, plan: &Plan) -> Result<()> {
    let target = make_dir(&new.join("sys/fs/cgroup"))?;
    if plan.outer_uids.is_empty() && plan.containers.iter().all(|container| container.cgroup.limits.is_some()) {
        return attach(Some("/sys/fs/cgroup"), &target, None, MsFlags::MS_BIND | MsFlags::MS_REC, None);
    }
    attach(Some("cgroup2"), &target, Some("cgroup2"), GUARD, None)
}

/// What is bound from the host: unpacked images, kept state, the display socket.
fn host_sources(new: &Path, plan: &Plan, supplies: &Supplies) -> Result<()> {
    bind(&supplies.tor_root, &make_dir(&new.join("lower/tor"))?)?;
    bind(&supplies.browser_root, &make_dir(&new.join("lower/browser"))?)?;
    if let Some(state) = &supplies.tor_state {
        bind(state, &make_dir(&new.join("keep"))?)?;
    }
    if let Some(profile) = &supplies.profile {
        bind(profile, &make_dir(&new.join("keep-profile"))?)?;
    }
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
        make_link(plan, link)?;
    }
    let tor = plan.container(Role::Tor).ok_or(EncloseError::NoTor)?;
    let files = make_dir(Path::new("/files"))?;
    tmpfs_of(tor, tor, &files, "size=1m,mode=555")?;
    secret(&files.join(SuppliedFile::Torrc.name()), plan.torrc.as_bytes(), plan.container(Role::Tor))?;
    let resolver = if let Some(Resolver::File(text)) = &plan.resolver { text.as_str() } else { "" };
    secret(&files.join(SuppliedFile::Resolver.name()), resolver.as_bytes(), plan.container(Role::Tor))?;
    secret(&files.join(SuppliedFile::DisplayCookie.name()), &supplies.display_cookie, plan.container(Role::Display))?;
    let path = files.join(SuppliedFile::ControlSecret.name());
    let control_secret = random_hex().map_err(|source| EncloseError::Make { path: path.clone(), source })?;
    // Two roles of different ids read it: its mode admits both, and it is mounted nowhere else.
    make_file(&path, control_secret.as_bytes())?;
    for container in &plan.containers {
        for mount in &container.mounts {
            if let Mount::TorState { target: _, size } | Mount::Profile { target: _, size } = mount {
                tmpfs_of(container, container, &make_dir(Path::new(&Enclosed.source(mount)))?, &format!("size={size},mode=700"))?;
            }
        }
    }
    Ok(())
}

/// A directory that the link's owner writes to and its user's group can enter; what the owner makes in it belongs to that group.
fn make_link(plan: &Plan, link: Link) -> Result<()> {
    let Some(owner) = plan.container(link.owner()) else { return Ok(()) };
    let user = link.user().and_then(|role| plan.container(role)).unwrap_or(owner);
    tmpfs_of(owner, user, &make_dir(&link_dir(link))?, "size=64k,mode=2750")
}

/// Where the runtime finds a link's sockets.
pub(super) fn link_dir(link: Link) -> PathBuf {
    Path::new("/links").join(link.name())
}

const fn image_of(role: Role) -> &'static str {
    match role {
        Role::Tor | Role::Gate | Role::Display => "tor",
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
            Mount::Link { link, .. } => link_dir(*link).display().to_string(),
            Mount::File { file, .. } => format!("/files/{}", file.name()),
            Mount::TorState { .. } => STATE.to_owned(),
            Mount::Profile { .. } => PROFILE.to_owned(),
            Mount::Socket { .. } => "/display".to_owned(),
            Mount::Proc | Mount::Dev | Mount::Tmpfs { .. } => String::new(),
        }
    }

    fn uptime(&self) -> Uptime {
        let shown = Uptime { boot: clock(ClockId::CLOCK_BOOTTIME), monotonic: clock(ClockId::CLOCK_MONOTONIC) };
        // A kernel without time namespaces has no such file.
        shown.without(&fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default())
    }
}

/// A clock that every kernel with time namespaces has.
fn clock(id: ClockId) -> Duration {
    clock_gettime(id).map(Duration::from).unwrap_or_default()
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

/// A tmpfs that belongs to the user of `owner` and the group of `group`. What a container reads of its mounts says whose a tmpfs is, as the number that
/// the host has for it: the caller's must not stand there.
fn tmpfs_of(owner: &Container, group: &Container, target: &Path, options: &str) -> Result<()> {
    tmpfs(target, &format!("{options},uid={},gid={}", owner.outside_uid(), group.outside_gid()))
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
