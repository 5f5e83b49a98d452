//! What init gives up before it starts the program, and the program with it: files but those of its role, TCP where it has no network,
//! abstract sockets, and signals beyond the container. landlock(7).
//!
//! Mounts, the filter and namespaces hold the same by other means; this stands where one of them should fail. What the kernel does not
//! enforce at all it does not start without.

use crate::error::Error;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use torbox_gate::domain::{self, AccessFs, Allowed, BitFlags, Enforced, Kept, PathFd};
use torbox_plan::{Landlock, Role, SOUND_VARIABLE, paths, writable};

/// Where programs are, and the loader by which the kernel starts them.
const PROGRAMS: [&str; 3] = ["/usr", "/opt", "/lib64"];

/// Closes the cage of `role`, and says how much of it the kernel enforces.
pub(crate) fn close(role: Role) -> Result<Landlock, Error> {
    let kept = if role == Role::Tor { Kept::Tcp } else { Kept::Nothing };
    match domain::enter(files(role), kept).map_err(Error::Cage)? {
        Enforced::Wholly => Ok(Landlock::Whole),
        Enforced::Partly => Ok(Landlock::Part),
    }
}

fn files(role: Role) -> impl Iterator<Item = Allowed<PathFd>> {
    let read = domain::at("/", AccessFs::ReadFile | AccessFs::ReadDir);
    let programs = PROGRAMS.iter().filter_map(|path| domain::at(path, AccessFs::Execute));
    let devices = domain::at(paths::DEV.as_str(), AccessFs::WriteFile | AccessFs::IoctlDev);
    // The inner sandbox writes the id maps of its namespaces.
    let processes = domain::at(paths::PROC.as_str(), AccessFs::WriteFile);
    let written = writable(role).iter().filter_map(move |path| domain::at(path.as_str(), write(role)));
    read.into_iter().chain(programs).chain(devices).chain(processes).chain(written).chain(mixed(role))
}

/// Where what mixes the sound of a browser that is heard listens to it: the one place where sockets can be made. Without it there is no sound.
fn mixed(role: Role) -> Option<Allowed<PathFd>> {
    if role != Role::Browser || std::env::var_os(SOUND_VARIABLE).is_none() {
        return None;
    }
    let place = paths::SOUND_SOCKET.as_str();
    DirBuilder::new().recursive(true).mode(0o700).create(place).ok()?;
    domain::at(place, AccessFs::MakeSock)
}

/// All that can be done with files and directories of one's own, but to run them, and to make devices. A browser listens nowhere: its
/// processes talk through sockets without a name.
fn write(role: Role) -> BitFlags<AccessFs> {
    let no_file = AccessFs::Execute | AccessFs::IoctlDev | AccessFs::MakeChar | AccessFs::MakeBlock;
    let listening = if role == Role::Tor { BitFlags::EMPTY } else { AccessFs::MakeSock | AccessFs::MakeFifo };
    domain::all_of_files() & !(no_file | listening)
}
