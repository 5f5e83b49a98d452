//! G3: nothing to talk to but the gate and the display. unix(7), proc_pid_fd(5).

use super::Guarantee::G3;
use super::{Finding, Probe, absent, errno, none, text};
use std::fs::{self, File};
use std::io::IsTerminal;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use torbox_plan::paths;

/// Sockets of services that would act outside the box, and where programs look for them.
const SERVICES: [(&str, &str); 34] = [
    ("docker", "/run/docker.sock"), ("docker.old", "/var/run/docker.sock"), ("podman", "/run/podman/podman.sock"), ("podman.user", "/run/user/1000/podman/podman.sock"),
    ("containerd", "/run/containerd/containerd.sock"), ("crio", "/run/crio/crio.sock"), ("lxd", "/var/lib/lxd/unix.socket"), ("libvirt", "/run/libvirt/libvirt-sock"),
    ("dbus.system", "/run/dbus/system_bus_socket"), ("dbus.session", "/run/user/1000/bus"), ("dbus.here", "/run/user/bus"), ("at-spi", "/run/user/1000/at-spi/bus"),
    ("systemd", "/run/systemd/private"), ("systemd.notify", "/run/systemd/notify"), ("journal", "/run/systemd/journal/socket"), ("syslog", "/dev/log"),
    ("resolved", "/run/systemd/resolve/io.systemd.Resolve"), ("nscd", "/run/nscd/socket"), ("avahi", "/run/avahi-daemon/socket"), ("udev", "/run/udev/control"),
    ("pulse", "/run/user/1000/pulse/native"), ("pulse.here", "/run/user/pulse/native"), ("pipewire", "/run/user/1000/pipewire-0"), ("pipewire.here", "/run/user/pipewire-0"),
    ("wayland.host", "/run/user/1000/wayland-0"), ("x11.other", "/tmp/.X11-unix/X1"), ("ice", "/tmp/.ICE-unix"), ("cups", "/run/cups/cups.sock"),
    ("gnupg", "/run/user/1000/gnupg/S.gpg-agent"), ("ssh-agent", "/run/user/1000/keyring/ssh"), ("keyring", "/run/user/1000/keyring/control"), ("snapd", "/run/snapd.socket"),
    ("acpid", "/run/acpid.socket"), ("portal", "/run/user/1000/doc"),
];

/// Where the box has sockets of its own.
const OWN: [&str; 3] = ["/run/torbox/browser", "/run/torbox/display", "/tmp/.X11-unix/X0"];
/// Where sockets could lie.
const PLACES: [&str; 6] = ["/run", "/tmp", "/var", "/dev", "/home", "/etc"];

pub(super) fn probes() -> Vec<Probe> {
    let services = SERVICES.map(|(name, path)| Probe::new(format!("service.{name}"), G3, format!("find {path}"), move || absent(path)));
    let searches = [
        Probe::new("endpoint.sockets", G3, "find a socket in the file system besides the gate's, the display's and that of its own init", foreign_sockets).in_audits(),
        Probe::new("abstract.any", G3, "find an abstract socket", || none(&abstract_names(""), "none")),
        Probe::new("abstract.x11", G3, "find an X server's abstract socket", || none(&abstract_names("@/tmp/.X11-unix/"), "none")),
        Probe::new("abstract.dbus", G3, "find a message bus's abstract socket", || none(&abstract_names("@/tmp/dbus-"), "none")),
        Probe::new("link.read-only", G3, "replace the gate's socket", || replace("/run/torbox/browser/socks-probe")),
        Probe::new("descriptor.inherited", G3, "use a descriptor that somebody left open", || none(&descriptors(|_| true), "none but the three standard ones")),
        Probe::new("descriptor.directory", G3, "use an open directory of the outside", || none(&descriptors(Path::is_dir), "none")),
        Probe::new("descriptor.socket", G3, "use an open socket of the outside", || none(&descriptors(is_socket), "none")),
        Probe::new("descriptor.terminal", G3, "type into the terminal of whoever started the box", terminal),
    ];
    services.into_iter().chain(searches).collect()
}

/// Names of the sockets of this network namespace that have no file.
fn abstract_names(prefix: &str) -> Vec<String> {
    let table = text("/proc/self/net/unix");
    let names = table.lines().filter_map(|line| line.split_whitespace().nth(7)).filter(|name| name.starts_with('@'));
    names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
}

fn foreign_sockets() -> Finding {
    let mut found = Vec::new();
    PLACES.iter().for_each(|place| collect(Path::new(place), &mut found));
    found.retain(|path: &String| path != paths::BUS.as_str() && !OWN.iter().any(|own| path.starts_with(own)));
    none(&found, "none")
}

/// Adds the sockets below `directory`; links are not followed.
fn collect(directory: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), found),
            Ok(kind) if kind.is_socket() => found.push(entry.path().display().to_string()),
            _ => {}
        }
    }
}

/// Descriptors above the standard ones, besides the one that lists them, whose target `is` of a kind.
fn descriptors(is: fn(&Path) -> bool) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return vec!["they cannot be listed".to_owned()] };
    let paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    let number = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or(0);
    let target = |path: &Path| fs::read_link(path).map(|target| target.display().to_string()).unwrap_or_default();
    // The directory that was read is closed by now.
    let open = paths.iter().filter(|path| number(path) > 2 && fs::symlink_metadata(path).is_ok());
    open.filter(|path| is(path)).map(|path| format!("{} {}", number(path), target(path))).collect()
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn terminal() -> Finding {
    let standard = [std::io::stdin().is_terminal(), std::io::stdout().is_terminal(), std::io::stderr().is_terminal()];
    if standard.contains(&true) {
        return Finding::NotHeld("a standard descriptor is one".to_owned());
    }
    match File::open("/dev/tty") {
        Ok(_) => Finding::NotHeld("/dev/tty opens".to_owned()),
        Err(error) => Finding::Held(errno(&error)),
    }
}

/// Makes a file beside the gate's socket, and removes it again.
fn replace(path: &str) -> Finding {
    match File::create_new(path) {
        Ok(_) => fs::remove_file(path).map_or_else(|error| Finding::Unavailable(errno(&error)), |()| Finding::NotHeld("a file can be made beside it".to_owned())),
        Err(error) => Finding::Held(errno(&error)),
    }
}
