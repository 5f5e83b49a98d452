//! The real images, from the machine's own mirror: that everything needed is in them, and nothing that must not be.
//!
//! They take minutes and a hundred megabytes, so they are built only where `TORBOX_TEST_REAL` names a directory to work in;
//! what is there already is used again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::allow_attributes, missing_docs, unreachable_pub, dead_code, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};
use support::{Bench, Quiet, Signatory, gzip, now, skip, tar_of};
use torbox_images::{Arch, BuildRequest, Channel, Error, Image, Indexes, Mirrors, Programs, Recipe, RecipeName, ReleaseFiles, Rootfs, Store, Trust, build, build_from};

/// The image of `recipe`, unpacked; none where this was not asked for.
fn real(recipe: RecipeName) -> Option<(Image, Rootfs)> {
    let Some(dir) = std::env::var_os("TORBOX_TEST_REAL").map(PathBuf::from) else {
        skip("TORBOX_TEST_REAL does not name a directory to build the real images in");
        return None;
    };
    let store = Store::open(&dir.join("store")).unwrap();
    let program = dir.join(format!("program-{recipe}"));
    fs::write(&program, "program").unwrap();
    let programs = Programs { init: program.clone(), gate: program.clone(), display: program };
    let request = request(recipe, dir.join("cache"), programs);
    let image = build(&store, &request, &mut Quiet).unwrap();
    assert_eq!(build(&store, &request, &mut Quiet).unwrap(), image);
    let root = store.rootfs(&image, &mut Quiet).unwrap();
    Some((image, root))
}

fn request(recipe: RecipeName, cache: PathBuf, programs: Programs) -> BuildRequest {
    let mirrors = Mirrors::Apt("/etc/apt".into());
    BuildRequest { recipe, mirrors, cache, channel: Channel::Release, release: None, key: None, accept_old: None, via: None, programs, arch: Arch::Amd64, locked: None, indexes: Indexes::default() }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.flat_map(|entry| if entry.file_type().unwrap().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}

fn check_contents(root: &Path, programs: &[&str]) {
    let mut executables = Vec::new();
    for path in files(root) {
        let meta = fs::symlink_metadata(&path).unwrap();
        assert!(meta.is_symlink() || meta.mode() & 0o7022 == 0, "{} {:o}", path.display(), meta.mode());
        let name = path.file_name().unwrap().to_str().unwrap();
        if meta.is_file() && meta.mode() & 0o111 != 0 && !name.contains(".so") {
            executables.push(path.strip_prefix(root).unwrap().display().to_string());
        }
        for absent in ["sh", "bash", "dash", "perl", "python3", "dpkg", "apt", "busybox", "su", "mount", "env"] {
            assert_ne!(name, absent, "{}", path.display());
        }
    }
    executables.sort();
    assert_eq!(executables, programs);
}

/// What the image's own dynamic linker says that `program` needs.
fn linked(root: &Path, program: &str) -> String {
    let output = Command::new("chroot").arg(root).args(["/usr/lib64/ld-linux-x86-64.so.2", "--list", program]).env_clear().env("PATH", "/usr/sbin:/usr/bin").env("LD_LIBRARY_PATH", "/opt/tor-browser/Browser").output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn root_the_tor_image_is_whole_and_small() {
    let Some((image, root)) = real(RecipeName::Tor) else { return };
    check_contents(root.path(), &["usr/bin/tor", "usr/libexec/torbox/display", "usr/libexec/torbox/gate", "usr/libexec/torbox/init"]);
    let output = Command::new("chroot").arg(root.path()).args(["/usr/bin/tor", "--version"]).env_clear().env("PATH", "/usr/sbin:/usr/bin").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("Tor version 0.4."));
    assert!(!linked(root.path(), "/usr/bin/tor").contains("not found"));
    assert!(image.compressed_size < 25_000_000 && image.anonymous, "{image:?}");
}

#[test]
fn root_the_tor_image_with_transports_has_their_programs_more() {
    let Some((image, root)) = real(RecipeName::TorTransports) else { return };
    let programs = ["usr/bin/obfs4proxy", "usr/bin/snowflake-client", "usr/bin/tor", "usr/libexec/torbox/display", "usr/libexec/torbox/gate", "usr/libexec/torbox/init"];
    check_contents(root.path(), &programs);
    for transport in Recipe::embedded(RecipeName::TorTransports).unwrap().transports.values() {
        let output = Command::new("chroot").arg(root.path()).args([&transport.program, "--version"]).env_clear().env("PATH", "/usr/sbin:/usr/bin").output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.starts_with(transport.program.rsplit('/').next().unwrap()), "{said}");
    }
    let authorities = fs::read_to_string(root.path().join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(authorities.matches("-----BEGIN CERTIFICATE-----").count() > 100 && !root.path().join("usr/share/ca-certificates").exists());
    assert!(image.compressed_size < 25_000_000 && image.anonymous, "{image:?}");
}

#[test]
fn root_the_browser_image_is_whole_and_small() {
    let Some((image, root)) = real(RecipeName::FirefoxEsr) else { return };
    check_contents(root.path(), &["opt/tor-browser/Browser/firefox.real", "opt/tor-browser/Browser/glxtest", "usr/bin/pulseaudio", "usr/libexec/torbox/init"]);
    for library in ["firefox.real", "libxul.so", "libmozgtk.so", "libsoftokn3.so", "libmozavcodec.so", "glxtest"] {
        let needed = linked(root.path(), &format!("/opt/tor-browser/Browser/{library}"));
        assert!(!needed.contains("not found"), "{library}: {needed}");
    }
    for opened in ["libXcursor.so.1", "libXi.so.6", "libgcc_s.so.1", "libpulse.so.0"] {
        assert!(root.path().join("usr/lib/x86_64-linux-gnu").join(opened).exists(), "{opened}");
    }
    assert!(!image.anonymous && image.created.starts_with("20"), "{image:?}");
    let above: u64 = image.layers.iter().map(|layer| fs::metadata(root.path().join("../../blobs/sha256").join(layer.hex())).unwrap().len()).sum::<u64>() - largest(&image, &root);
    assert!(above < 40_000_000, "{above} bytes above the browser's own");
}

/// A release of the test's own, from the stand-in's real programs, by the real recipe with the test's key.
#[test]
fn root_the_tor_browser_recipe_makes_a_whole_image_of_a_release() {
    let Some((_, standin)) = real(RecipeName::FirefoxEsr) else { return };
    let (bench, key) = (Bench::new(), Signatory::new(None));
    let file = |name: &str| fs::read(standin.path().join("opt/tor-browser/Browser").join(name)).unwrap();
    let mut trust = Trust::embedded().unwrap();
    trust.certificates.push(("test.asc".into(), key.public()));
    let mut recipe = Recipe::embedded(RecipeName::TorBrowser).unwrap();
    recipe.tor_project.as_mut().unwrap().primary = key.fingerprint();
    let make = |libraries: &[&str]| {
        let contents: Vec<(String, Vec<u8>)> = ["firefox.real", "application.ini"].iter().chain(libraries).map(|name| (format!("tor-browser/Browser/{name}"), file(name))).collect();
        let files: Vec<(&str, u32, &[u8])> = contents.iter().map(|(path, bytes)| (path.as_str(), 0o755, bytes.as_slice())).collect();
        let archive = gzip(&tar_of(&files));
        let (tarball, signature) = (bench.dir.join("release.tar.gz"), bench.dir.join("release.tar.gz.asc"));
        fs::write(&tarball, &archive).unwrap();
        fs::write(&signature, key.detached(&archive, now())).unwrap();
        let programs = bench.request("http://127.0.0.1:9").programs;
        let cache = PathBuf::from(std::env::var_os("TORBOX_TEST_REAL").unwrap()).join("cache");
        let release = Some(ReleaseFiles { tarball, signature });
        let request = BuildRequest { release, ..request(recipe.name, cache, programs) };
        build_from(&bench.store(), &recipe, &trust, chrono::Utc::now(), &request, &mut Quiet)
    };
    let image = make(&["libmozgtk.so"]).unwrap();
    assert!(image.anonymous && image.version.starts_with("153."), "{image:?}");
    let root = bench.store().rootfs(&image, &mut Quiet).unwrap();
    assert!(!linked(root.path(), "/opt/tor-browser/Browser/libmozgtk.so").contains("not found"));
    // Debian's build needs a library that a release brings along: an image without it is never made.
    let error = make(&["libmozgtk.so", "libnss3.so"]).unwrap_err();
    assert!(matches!(&error, Error::MissingLibrary { soname, .. } if soname.starts_with("lib")), "{error:?}");
}

/// The browser's own layer is the largest.
fn largest(image: &Image, root: &Rootfs) -> u64 {
    let sizes = image.layers.iter().map(|layer| fs::metadata(root.path().join("../../blobs/sha256").join(layer.hex())).unwrap().len());
    sizes.max().unwrap()
}
