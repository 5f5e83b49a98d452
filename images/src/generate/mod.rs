//! Files that maintainer scripts would have made: constant, or made from the packages' own files alone.
//!
//! Nothing of the machine that builds gets in: names, ids and zone are the same in every image.

mod gvdb;
mod mime;
mod schemas;

use crate::{
    error::Error,
    names::Arch,
    recipe::Generated,
    tree::{Mode, Node, Tree, TreePath, matches},
};
use std::sync::Arc;

/// Directories that every image has, because something is mounted there on a read-only root.
const MOUNT_POINTS: [&str; 7] = ["dev", "home/user", "proc", "run", "sys", "tmp", "var/tmp"];
/// Where an engine mounts the volume with tor's state: a new volume takes over the mode of the directory below it.
const STATE: &str = "run/torbox/state";
/// The one machine-id of every box: it says nothing.
const MACHINE_ID: &str = "746f72626f78746f72626f78746f7262\n";

/// Adds what `generated` names to `tree`; `packages` holds every file of the recipe's packages.
pub(crate) fn add(generated: &[Generated], arch: Arch, packages: &Tree, tree: &mut Tree, mtime: u64) -> Result<(), Error> {
    for dir in MOUNT_POINTS {
        let node = if dir.ends_with("tmp") { Node::SharedDir } else { Node::Dir };
        tree.insert(path(dir)?, node, mtime);
    }
    tree.insert(path(STATE)?, Node::SharedDir, mtime);
    for one in generated {
        let hosts = if generated.contains(&Generated::Names) { "files dns" } else { "files" };
        for (name, node) in files(*one, arch, packages, hosts)? {
            if tree.insert(path(&name)?, node, mtime).is_some() {
                return Err(Error::Package { package: format!("/{name}"), reason: "a package already holds this generated file".to_owned() });
            }
        }
    }
    Ok(())
}

fn files(generated: Generated, arch: Arch, packages: &Tree, hosts: &str) -> Result<Vec<(String, Node)>, Error> {
    match generated {
        Generated::Accounts => Ok(accounts(hosts)),
        Generated::Names => Ok(vec![("etc/ssl/certs/ca-certificates.crt".to_owned(), file(authorities(packages)?))]),
        Generated::TimeZone => Ok(time_zone()),
        Generated::SettingsSchemas => Ok(vec![("usr/share/glib-2.0/schemas/gschemas.compiled".to_owned(), file(schemas::compile(packages)?))]),
        Generated::MimeTypes => Ok(mime::files().into_iter().map(|(name, bytes)| (format!("usr/share/mime/{name}"), file(bytes))).collect()),
        Generated::PixbufLoaders => {
            // PNG and JPEG are built into the library; an empty list is a list, none is a warning at every start.
            let name = format!("usr/lib/{}/gdk-pixbuf-2.0/2.10.0/loaders.cache", arch.triplet());
            Ok(vec![(name, file(b"# PNG and JPEG are built in.\n".to_vec()))])
        }
        Generated::BrowserFonts => Ok(vec![("etc/fonts/local.conf".to_owned(), file(BROWSER_FONTS.as_bytes().to_vec()))]),
        Generated::Sound => Ok(vec![("etc/pulse/sound.conf".to_owned(), file(SOUND_CLIENTS.into())), ("etc/pulse/sound.pa".to_owned(), file(SOUND.into()))]),
    }
}

/// What a box's clients of PulseAudio go by when they are told to (pulse-client.conf(5)): the first of them starts what mixes their sound.
const SOUND_CLIENTS: &str = "autospawn = yes\ndaemon-binary = /usr/bin/pulseaudio\nextra-arguments = -n --file=/etc/pulse/sound.pa --exit-idle-time=-1 \
    --realtime=no --high-priority=no --disallow-module-loading --disallow-exit --log-target=null\n";

/// What it does (pulse-cli-syntax(5)): all that is heard goes into a FIFO, from which torbox plays it, and nothing is ever recorded.
const SOUND: &str = "load-module module-pipe-sink file=/run/user/sound format=s16le rate=48000 channels=2\n\
    load-module module-suspend-on-idle timeout=2\n\
    load-module module-native-protocol-unix auth-cookie-enabled=0\n";

/// The browser's own fonts, for programs that read the system's configuration (fonts-conf(5)).
const BROWSER_FONTS: &str = "<?xml version=\"1.0\"?>\n<!DOCTYPE fontconfig SYSTEM \"urn:fontconfig:fonts.dtd\">\n\
    <fontconfig><dir>/opt/tor-browser/Browser/fonts</dir></fontconfig>\n";

/// What `update-ca-certificates` would have made of the package `ca-certificates`, under the name by which programs look for it.
fn authorities(packages: &Tree) -> Result<Vec<u8>, Error> {
    let certificates = packages.files().filter(|(path, ..)| matches("/usr/share/ca-certificates/**/*.crt", path)).map(|(.., data)| &**data);
    let all = certificates.collect::<Vec<_>>().concat();
    if all.is_empty() {
        return Err(Error::Package { package: "ca-certificates".to_owned(), reason: "it holds no certificates".to_owned() });
    }
    Ok(all)
}

/// With the sources of the names of hosts.
fn accounts(hosts: &str) -> Vec<(String, Node)> {
    let sources = format!("passwd: files\ngroup: files\nhosts: {hosts}\n");
    let text = [
        ("etc/passwd", "root:x:0:0:root:/:/usr/sbin/nologin\nuser:x:1000:1000:user:/home/user:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"),
        ("etc/group", "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"),
        ("etc/hosts", "127.0.0.1 localhost torbox\n::1 localhost torbox\n"),
        ("etc/hostname", "torbox\n"),
        ("etc/nsswitch.conf", &sources),
        ("etc/resolv.conf", ""),
        ("etc/machine-id", MACHINE_ID),
        ("var/lib/dbus/machine-id", MACHINE_ID),
    ];
    text.map(|(name, text)| (name.to_owned(), file(text.as_bytes().to_vec()))).into()
}

/// UTC, and nothing else (tzfile(5), RFC 9636).
fn time_zone() -> Vec<(String, Node)> {
    let link = Node::Symlink { target: "/usr/share/zoneinfo/Etc/UTC".to_owned() };
    let utc = || file(utc_zone());
    vec![("etc/localtime".to_owned(), link), ("usr/share/zoneinfo/Etc/UTC".to_owned(), utc()), ("usr/share/zoneinfo/UTC".to_owned(), utc())]
}

/// Twice the same block, for readers of version 1 and of version 2: one type, UTC, no transitions.
fn utc_zone() -> Vec<u8> {
    let mut block = b"TZif2".to_vec();
    block.extend([0; 15]);
    for count in [0u32, 0, 0, 0, 1, 4] {
        block.extend(count.to_be_bytes());
    }
    block.extend([0; 6]);
    block.extend(b"UTC\0");
    [block.as_slice(), block.as_slice(), b"\nUTC0\n"].concat()
}

fn file(bytes: Vec<u8>) -> Node {
    Node::File { mode: Mode::Plain, data: Arc::from(bytes) }
}

fn path(name: &str) -> Result<TreePath, Error> {
    TreePath::new(name).ok_or(Error::Internal("a generated path that is not plain"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_what_the_time_zone_compiler_makes() {
        // From `printf 'Zone UTC 0 - UTC\n' | zic -b slim`: its size, and fields that readers depend on.
        let zone = utc_zone();
        assert_eq!(zone.len(), 114);
        assert!(zone.ends_with(b"UTC\0\nUTC0\n"));
    }

    #[test]
    fn names_are_the_same_everywhere() {
        let mut tree = Tree::default();
        add(&[Generated::Accounts, Generated::TimeZone], Arch::Amd64, &Tree::default(), &mut tree, 7).unwrap();
        let text = |name: &str| match &tree.get(&TreePath::new(name).unwrap()).unwrap().node {
            Node::File { data, .. } => String::from_utf8_lossy(data).into_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!((text("etc/hostname").as_str(), text("etc/resolv.conf").as_str()), ("torbox\n", ""));
        assert_eq!(text("etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n");
        assert_eq!(text("etc/machine-id").trim().len(), 32);
        assert_eq!(tree.get(&TreePath::new("var/tmp").unwrap()).unwrap().node, Node::SharedDir);
    }

    #[test]
    fn who_looks_names_up_has_a_source_of_them_and_the_authorities() {
        let made = |packages: &Tree| {
            let mut tree = Tree::default();
            add(&[Generated::Accounts, Generated::Names], Arch::Amd64, packages, &mut tree, 7).map(|()| tree)
        };
        let mut packages = Tree::default();
        for (name, text) in [("mozilla/B.crt", "b\n"), ("mozilla/A.crt", "a\n"), ("mozilla/README", "no\n")] {
            packages.insert(TreePath::new(&format!("usr/share/ca-certificates/{name}")).unwrap(), file(text.into()), 7);
        }
        let tree = made(&packages).unwrap();
        for (name, text) in [("etc/ssl/certs/ca-certificates.crt", "a\nb\n"), ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")] {
            assert_eq!(tree.get(&TreePath::new(name).unwrap()).unwrap().node, file(text.into()), "{name}");
        }
        assert!(made(&Tree::default()).unwrap_err().to_string().contains("ca-certificates"));
    }
}
