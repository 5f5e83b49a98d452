//! The store: the same inputs give the same bytes, nothing half-written is ever used, and what was built is not built again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::allow_attributes, missing_docs, unreachable_pub, dead_code, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use support::{Bench, Quiet, Repository, TOR_RECIPE, now};
use torbox_images::{Archive, Error, Image, Mirrors, Recipe, Store, Suite, Trust, current_of, export_archive, renew_from};

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), found);
        }
    }
}

#[test]
fn an_unpacked_image_holds_what_the_recipe_names_and_nothing_else() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let image = bench.build(&repository).unwrap();
    let root = bench.store().rootfs(&image, &mut Quiet).unwrap();
    assert_eq!(root.digest(), image.digest);
    let text = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    assert_eq!((text("usr/bin/server"), text("usr/libexec/torbox/init"), text("etc/hostname")), ("server 1.0-1".into(), "init".into(), "torbox\n".into()));
    for absent in ["usr/bin/sh", "usr/share/doc", "usr/lib/extra"] {
        assert!(!root.path().join(absent).exists(), "{absent}");
    }
    let mut found = Vec::new();
    walk(root.path(), &mut found);
    assert!(found.len() > 20);
    for path in found {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mode = meta.mode() & 0o7777;
        let allowed: &[u32] = if meta.is_dir() { &[0o755, 0o1777] } else { &[0o644, 0o755] };
        assert!(meta.is_symlink() || allowed.contains(&mode), "{} {mode:o}", path.display());
    }
    let mount_points = ["proc", "sys", "dev", "tmp", "run", "home/user", "var/tmp"];
    assert!(mount_points.iter().all(|dir| root.path().join(dir).is_dir()));
    let links = ["bin", "sbin", "lib", "lib64"];
    assert!(links.iter().all(|link| fs::read_link(root.path().join(link)).unwrap() == Path::new("usr").join(link)));
}

/// Without unpacking anything, and never from a layer that was altered.
#[test]
fn a_file_of_an_image_is_read_from_its_layer() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let (image, store) = (bench.build(&repository).unwrap(), bench.store());
    let file = |path: &str, limit: u64| store.file(&image, path, limit).map(|bytes| bytes.map(|bytes| String::from_utf8(bytes).unwrap()));
    for (path, text) in [("usr/bin/server", "server 1.0-1"), ("usr/libexec/torbox/init", "init"), ("etc/hostname", "torbox\n")] {
        assert_eq!(file(path, text.len() as u64).unwrap().as_deref(), Some(text), "{path}");
        assert!(matches!(file(path, text.len() as u64 - 1), Err(Error::Io { .. })), "{path} is longer than it may be");
    }
    for none in ["usr/bin", "bin", "bin/server", "/usr/bin/server", "usr/bin/../bin/server", "usr/bin/sh", ""] {
        assert_eq!(file(none, 100).unwrap(), None, "{none}");
    }
    for layer in &image.layers {
        let path = bench.dir.join("store/blobs/sha256").join(layer.hex());
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    assert!(matches!(file("usr/bin/server", 100), Err(Error::Store { .. } | Error::Checksum { .. })));
}

#[test]
fn nothing_is_done_twice() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let image = bench.build(&repository).unwrap();
    repository.server.taken();
    assert_eq!(bench.build(&repository).unwrap(), image);
    assert_eq!(repository.server.taken(), ["debian/dists/test/InRelease"]);
    // Another program: only its layer is new.
    let mut request = bench.request(&repository.server.url);
    request.programs.gate = bench.dir.join("gate2");
    fs::write(&request.programs.gate, "gate 2").unwrap();
    let changed = bench.build_with(&repository.trust(), &request).unwrap();
    assert_eq!((changed.layers[0], changed.layers.len()), (image.layers[0], 2));
    assert_ne!(changed.layers[1], image.layers[1]);
    assert_eq!(repository.server.taken(), ["debian/dists/test/InRelease"]);
}

/// A newer torbox on a machine without network: what it changed is made new, of the packages that are there.
#[test]
fn an_image_of_older_programs_is_renewed_without_network() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let recipe = Recipe::parse("test", TOR_RECIPE).unwrap();
    let image = bench.build(&repository).unwrap();
    let request = |url: &str, program: &str, mirrors| {
        let request = bench.request(url);
        fs::write(&request.programs.gate, program).unwrap();
        torbox_images::BuildRequest { mirrors, ..request }
    };
    let nowhere = || Mirrors::Apt(bench.dir.join("none"));
    let renew = |request: &torbox_images::BuildRequest, recipe: &Recipe| renew_from(&bench.store(), recipe, &repository.trust(), now(), request, &mut Quiet);
    let same = request("http://127.0.0.1:9", "gate", nowhere());
    assert_eq!(current_of(&bench.store(), &recipe, &same).unwrap(), Some(image.clone()));
    // Newer programs, then a recipe that keeps less, with a newer package on a mirror that cannot be reached.
    repository.publish("1.0-2");
    repository.server.taken();
    let newer = request("http://127.0.0.1:9", "gate 2", nowhere());
    assert_eq!(current_of(&bench.store(), &recipe, &newer).unwrap(), None);
    let renewed = renew(&newer, &recipe).unwrap();
    assert_eq!((renewed.layers[0], renewed.version.as_str()), (image.layers[0], "1.0-1"));
    assert_ne!(renewed.layers[1], image.layers[1]);
    assert_eq!(current_of(&bench.store(), &recipe, &newer).unwrap(), Some(renewed));
    let less = Recipe::parse("test", &TOR_RECIPE.replace(", \"time-zone\"", "")).unwrap();
    assert_eq!(current_of(&bench.store(), &less, &newer).unwrap(), None);
    assert_eq!(renew(&newer, &less).unwrap().version, "1.0-1");
    assert_eq!(repository.server.taken(), Vec::<String>::new());
    // Packages that are no longer to be had: the newest then.
    fs::remove_dir_all(bench.dir.join("cache/sha256")).unwrap();
    fs::remove_dir_all(bench.dir.join("store/layers")).unwrap();
    renew(&newer, &recipe).unwrap_err();
    let reachable = request(&repository.server.url, "gate 2", bench.request(&repository.server.url).mirrors);
    assert_eq!(renew(&reachable, &recipe).unwrap().version, "1.0-2");
}

#[test]
fn a_changed_root_is_unpacked_again_and_a_damaged_blob_is_told() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let (store, image) = (bench.store(), bench.build(&repository).unwrap());
    let root = store.rootfs(&image, &mut Quiet).unwrap();
    store.verify(&image, &mut Quiet).unwrap();
    let server = root.path().join("usr/bin/server");
    type Change = fn(&Path);
    let changes: [Change; 4] = [
        |server| fs::write(server, "something else").unwrap(),
        |server| fs::set_permissions(server, PermissionsExt::from_mode(0o4755)).unwrap(),
        |server| fs::write(server.with_file_name("sh"), "added").unwrap(),
        |server| fs::remove_file(server).unwrap(),
    ];
    for change in changes {
        change(&server);
        assert_eq!(store.rootfs(&image, &mut Quiet).unwrap().path(), root.path());
        assert_eq!(fs::read_to_string(&server).unwrap(), "server 1.0-1");
        assert!(!server.with_file_name("sh").exists());
    }
    // The same size and time, other bytes: seen by the full check.
    let time = fs::metadata(&server).unwrap().modified().unwrap();
    fs::write(&server, "server 1.0-2").unwrap();
    fs::File::options().write(true).open(&server).unwrap().set_modified(time).unwrap();
    assert!(matches!(store.verify(&image, &mut Quiet), Err(Error::Store { path, .. }) if path.ends_with("usr/bin/server")));
    // A file that the listing was made to name as well.
    fs::write(&server, "server 1.0-1").unwrap();
    fs::File::options().write(true).open(&server).unwrap().set_modified(time).unwrap();
    let listing = root.path().with_extension("json");
    let listed = fs::read_to_string(&listing).unwrap();
    fs::write(root.path().join("usr/bin/sh"), "added").unwrap();
    fs::set_permissions(root.path().join("usr/bin/sh"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::File::options().write(true).open(root.path().join("usr/bin/sh")).unwrap().set_modified(time).unwrap();
    let seconds = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    fs::write(&listing, listed.replacen('{', &format!("{{\"usr/bin/sh\":{{\"file\":{{\"mode\":493,\"mtime\":{seconds},\"size\":5}}}},"), 1)).unwrap();
    assert!(store.rootfs(&image, &mut Quiet).unwrap().path().join("usr/bin/sh").exists(), "the quick check believes the listing");
    assert!(matches!(store.verify(&image, &mut Quiet), Err(Error::Store { .. })));
    let blob = bench.dir.join("store/blobs/sha256").join(image.layers[0].hex());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[5000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    assert!(matches!(store.verify(&image, &mut Quiet), Err(Error::Store { .. })));
    fs::remove_dir_all(root.path()).unwrap();
    assert!(matches!(store.rootfs(&image, &mut Quiet), Err(Error::Store { .. })));
    assert!(!root.path().exists());
}

#[test]
fn leftovers_go_and_pruning_keeps_what_is_used() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let store = bench.store();
    let oldest = bench.build(&repository).unwrap();
    repository.publish("1.0-2");
    let old = bench.build(&repository).unwrap();
    let old_root = store.rootfs(&old, &mut Quiet).unwrap();
    fs::write(bench.dir.join("store/tmp/layer"), "left behind").unwrap();
    fs::create_dir_all(bench.dir.join("store/tmp/rootfs/usr")).unwrap();
    fs::create_dir_all(bench.dir.join("store/rootfs/sha256-stray/usr")).unwrap();
    repository.publish("1.0-3");
    let new = bench.build(&repository).unwrap();
    assert_eq!(fs::read_dir(bench.dir.join("store/tmp")).unwrap().count(), 0);
    let blob = |image: &Image| bench.dir.join("store/blobs/sha256").join(image.digest.hex());
    let packages = || fs::read_dir(bench.dir.join("cache/sha256")).unwrap().count();
    let prune = || store.prune(&bench.dir.join("cache")).unwrap();
    let before = packages();
    // A box runs on the old one: in another process the lock is the same.
    assert!(prune() > 0);
    assert!(old_root.path().exists() && blob(&old).exists() && !blob(&oldest).exists());
    assert!(!bench.dir.join("store/rootfs/sha256-stray").exists() && packages() < before);
    let path = old_root.path().to_owned();
    drop(old_root);
    assert!(prune() > 0 && !path.exists() && blob(&old).exists());
    store.verify(&new, &mut Quiet).unwrap();
    store.verify(&old, &mut Quiet).unwrap();
    // What is left is enough: nothing is fetched or made again.
    repository.server.taken();
    assert_eq!(bench.build(&repository).unwrap(), new);
    assert_eq!(repository.server.taken(), ["debian/dists/test/InRelease"]);
    // And there is a way back, and forth again.
    let back = store.roll_back(torbox_images::RecipeName::Tor, new.arch).unwrap();
    assert_eq!((back.digest, back.name.as_str()), (old.digest, "torbox/tor"));
    assert_eq!(store.roll_back(torbox_images::RecipeName::Tor, new.arch).unwrap(), new);
    assert!(matches!(bench.store().roll_back(torbox_images::RecipeName::TorBrowser, new.arch), Err(Error::NoPrevious { .. })));
    store.forget_previous(torbox_images::RecipeName::Tor, new.arch).unwrap();
    assert!(matches!(store.roll_back(torbox_images::RecipeName::Tor, new.arch), Err(Error::NoPrevious { .. })));
    assert_eq!(store.image(&new.name, new.arch).unwrap(), Some(new));
}

#[test]
fn a_foreign_directory_is_not_made_a_store() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letter.txt"), "mine").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::Store { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Not a test of its own: what the tests below run in processes of their own.
#[test]
fn child_builds() {
    let Some(dir) = std::env::var_os("TORBOX_TEST_BENCH").map(PathBuf::from) else { return };
    let (url, key) = (std::env::var("TORBOX_TEST_URL").unwrap(), std::env::var("TORBOX_TEST_KEY").unwrap());
    let bench = Bench::at(&dir);
    let certificate = fs::read(std::env::var_os("TORBOX_TEST_CERT").unwrap()).unwrap();
    let suite = Suite { archive: Archive::Debian, codename: "test".into(), component: "main".into(), keys: vec![key] };
    let trust = Trust { suites: vec![suite], certificates: vec![("test.asc".into(), certificate)] };
    let image = bench.build_with(&trust, &bench.request(&url)).unwrap();
    bench.store().rootfs(&image, &mut Quiet).unwrap();
    println!("digests {} {:?}", image.digest, image.diff_ids);
}

/// A process that runs `child_builds` in `dir` with the given umask.
fn child(repository: &Repository, dir: &Path, umask: &str) -> Command {
    let certificate = dir.join("cert.asc");
    fs::write(&certificate, repository.key.public()).unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("umask {umask}; exec \"$0\" --exact child_builds --nocapture")]).arg(std::env::current_exe().unwrap());
    command.env("TORBOX_TEST_BENCH", dir).env("TORBOX_TEST_URL", &repository.server.url).env("TORBOX_TEST_KEY", repository.key.fingerprint()).env("TORBOX_TEST_CERT", certificate);
    command.current_dir(dir).stdin(Stdio::null());
    command
}

fn digests(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().find_map(|line| Some(line.split_once("digests ")?.1.to_owned())).unwrap()
}

#[test]
fn g10_the_same_inputs_give_the_same_digests_everywhere() {
    let (first, second, repository) = (Bench::new(), Bench::new(), Repository::new());
    let mut one = child(&repository, &first.dir, "022");
    one.env("TZ", "UTC").env("LC_ALL", "C");
    let deeper = second.dir.join("another/place");
    fs::create_dir_all(&deeper).unwrap();
    let mut two = child(&repository, &deeper, "077");
    two.env("TZ", "Asia/Tokyo").env("LC_ALL", "de_DE.UTF-8").env("HOME", "/nonexistent");
    if rustix::process::geteuid().is_root() {
        // As another user, who owns nothing but the directory; the programs must be readable to him.
        Command::new("chmod").args(["-R", "a+rX"]).args([&second.dir]).status().unwrap();
        Command::new("chown").args(["-R", "65534:65534"]).args([&second.dir]).status().unwrap();
        let exe = second.dir.join("exe");
        fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
        fs::set_permissions(&exe, PermissionsExt::from_mode(0o755)).unwrap();
        let mut other = Command::new("/bin/sh");
        other.args(["-c", "umask 077; exec \"$0\" --exact child_builds --nocapture"]).arg(exe).uid(65534).gid(65534);
        other.envs(two.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))).current_dir(&deeper);
        two = other;
    }
    thread::sleep(Duration::from_millis(1100)); // another second, for what would take the time
    assert_eq!(digests(one), digests(two));
}

#[test]
fn a_killed_build_leaves_the_store_right() {
    let (bench, repository) = (Bench::new(), Repository::new());
    // More of them by hand: TORBOX_TEST_KILLS=200.
    let kills = std::env::var("TORBOX_TEST_KILLS").map_or(12, |count| count.parse().unwrap());
    for step in 0..kills {
        let mut command = child(&repository, &bench.dir, "022");
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(20 + (35 * step) % 427));
        running.kill().unwrap();
        running.wait().unwrap();
        // Whatever is there is whole.
        for image in bench.store().images().unwrap() {
            bench.store().verify(&image, &mut Quiet).unwrap();
        }
    }
    let image = bench.build(&repository).unwrap();
    bench.store().rootfs(&image, &mut Quiet).unwrap();
    bench.store().verify(&image, &mut Quiet).unwrap();
    assert_eq!(image.digest, Bench::new().build(&repository).unwrap().digest);
}

#[test]
fn two_builds_at_once_wait_for_each_other() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let built: Vec<Image> = thread::scope(|scope| {
        let builds: Vec<_> = (0..3).map(|_| scope.spawn(|| bench.build(&repository).unwrap())).collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    assert!(built.iter().all(|image| *image == built[0]));
    bench.store().verify(&built[0], &mut Quiet).unwrap();
}

#[test]
fn who_opens_a_store_while_another_makes_it_has_it_too() {
    for _ in 0..200 {
        let bench = Bench::new();
        // More than there are processors: whoever is interrupted finds what another has made since.
        thread::scope(|scope| {
            (0..32).for_each(|_| drop(scope.spawn(|| bench.store())));
        });
        assert_eq!(bench.store().images().unwrap(), []);
    }
}

/// A small tmpfs, taken away again at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path, size: &str) -> Self {
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir).status().unwrap();
        assert!(mounted.success());
        Self(dir.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().unwrap();
    }
}

#[test]
fn root_a_full_disk_leaves_the_store_right() {
    if !rustix::process::geteuid().is_root() {
        return support::skip("mounting a small disk needs root");
    }
    let (bench, repository) = (Bench::new(), Repository::new());
    let store_dir = bench.dir.join("store");
    fs::create_dir(&store_dir).unwrap();
    // Room for the image, not for the unpacked root; then not even for the image.
    for (size, builds) in [("11m", true), ("2m", false)] {
        let _disk = SmallDisk::mount(&store_dir, size);
        let full = |error: Error| {
            assert!(matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull), "{error:?}");
            assert!(error.hint().unwrap().contains("free some space"));
        };
        match bench.build(&repository) {
            Ok(image) if builds => {
                full(bench.store().rootfs(&image, &mut Quiet).unwrap_err());
                assert_eq!(fs::read_dir(store_dir.join("rootfs")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(), 0);
                bench.store().verify(&image, &mut Quiet).unwrap();
            }
            Err(error) if !builds => {
                full(error);
                assert_eq!(bench.store().images().unwrap(), []);
            }
            other => panic!("{size}: {other:?}"),
        }
    }
    bench.build(&repository).unwrap();
}

#[test]
fn an_archive_is_what_engines_load() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let image = bench.build(&repository).unwrap();
    let path = bench.dir.join("image.tar");
    export_archive(&bench.store(), &image, &path).unwrap();
    let mut names = Vec::new();
    for entry in tar::Archive::new(fs::File::open(&path).unwrap()).entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().display().to_string());
    }
    assert_eq!(names.iter().filter(|name| name.starts_with("blobs/sha256/") && name.len() > 13).count(), 4);
    assert!(["index.json", "manifest.json", "oci-layout"].iter().all(|name| names.iter().any(|one| one == name)));
    let first = fs::read(&path).unwrap();
    export_archive(&bench.store(), &image, &path).unwrap();
    assert!(first == fs::read(&path).unwrap());
}
