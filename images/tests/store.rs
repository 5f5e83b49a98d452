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
use support::{Bench, Quiet, Repository};
use torbox_images::{Archive, Error, Image, Store, Suite, Trust, export_archive};

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
        assert_eq!(store.rootfs(&image, &mut Quiet).unwrap(), root);
        assert_eq!(fs::read_to_string(&server).unwrap(), "server 1.0-1");
        assert!(!server.with_file_name("sh").exists());
    }
    // The same size and time, other bytes: seen by the full check.
    let time = fs::metadata(&server).unwrap().modified().unwrap();
    fs::write(&server, "server 1.0-2").unwrap();
    fs::File::options().write(true).open(&server).unwrap().set_modified(time).unwrap();
    assert!(matches!(store.verify(&image, &mut Quiet), Err(Error::Store { path, .. }) if path.ends_with("usr/bin/server")));
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
    let old = bench.build(&repository).unwrap();
    let store = bench.store();
    let old_root = store.rootfs(&old, &mut Quiet).unwrap();
    fs::write(bench.dir.join("store/tmp/layer"), "left behind").unwrap();
    fs::create_dir_all(bench.dir.join("store/tmp/rootfs/usr")).unwrap();
    repository.publish("1.0-2");
    let new = bench.build(&repository).unwrap();
    assert_eq!(fs::read_dir(bench.dir.join("store/tmp")).unwrap().count(), 0);
    assert!(store.prune().unwrap() > 0);
    assert!(!old_root.path().exists() && !bench.dir.join("store/blobs/sha256").join(old.digest.hex()).exists());
    store.verify(&new, &mut Quiet).unwrap();
    store.rootfs(&new, &mut Quiet).unwrap();
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
    for step in 0..12 {
        let mut command = child(&repository, &bench.dir, "022");
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(20 + 35 * step));
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
    for form in ["oci-archive", "docker-archive"] {
        let Ok(output) = Command::new("skopeo").args(["inspect", "--config", &format!("{form}:{}", path.display())]).output() else { return support::skip("skopeo is not installed") };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("torbox.anonymous"), "{form}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
}
