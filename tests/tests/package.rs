//! The packages as their users get them: judged by lintian, installed into a Debian that has nothing of the build, used, and removed.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use torbox_tests::debian::{self, Debian};
use torbox_tests::require;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What `command` prints; it must succeed.
fn output(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {}{said}", String::from_utf8_lossy(&done.stdout));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn root_the_debian_package_is_clean_and_leaves_nothing() {
    require!("root", "make", "lintian", "unshare", "nsenter", "objdump");
    if !debian::root().unwrap().is_dir() {
        assert!(!require::must_work(), "out/debian is not made: make out/debian");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let package = PathBuf::from(debian::made("deb-built", out.path()).unwrap());
    assert_eq!(output(Command::new("lintian").args(["--allow-root", "--fail-on", "error,warning"]).arg(&package)), "");
    output(Command::new("sha256sum").args(["--check", "--quiet", "--strict", "SHA256SUMS"]).current_dir(out.path()));
    let debian = Debian::start(None).unwrap();
    std::fs::copy(&package, debian.path("/tmp/torbox.deb")).unwrap();
    let before = debian.files().unwrap();
    debian.root(&["dpkg", "--install", "/tmp/torbox.deb"]).unwrap();
    let during = debian.files().unwrap();
    assert_eq!(debian.root(&["torbox", "--version"]).unwrap(), format!("torbox {}\n", env!("CARGO_PKG_VERSION")));
    let doctor: serde_json::Value = serde_json::from_str(&debian.root(&["torbox", "doctor", "--json"]).unwrap()).unwrap();
    assert!(doctor.is_object() || doctor.is_array(), "{doctor}");
    debian.root(&["dpkg", "--purge", "torbox"]).unwrap();
    assert_eq!(debian.files().unwrap().symmetric_difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    for installed in ["./usr/bin/torbox", "./usr/libexec/torbox/init", "./etc/apparmor.d/torbox", "./usr/share/man/man1/torbox-run.1.gz", "./usr/share/applications/dev.torbox.Torbox.desktop"] {
        assert!(during.contains(installed), "the positive control: {installed} was there");
    }
}

/// From wherever it is unpacked; and what `make uninstall` leaves of `make install`.
#[test]
fn the_tarball_runs_where_it_lies_and_uninstall_leaves_nothing() {
    require!("make", "tar", "objdump");
    let out = tempfile::tempdir().unwrap();
    debian::made("dist-built", out.path()).unwrap();
    output(Command::new("sha256sum").args(["--check", "--quiet", "--strict", "SHA256SUMS"]).current_dir(out.path()));
    let files = |dir: &Path| -> Vec<PathBuf> { output(Command::new("find").arg(dir).args(["(", "-type", "f", "-o", "-type", "l", ")"])).lines().map(PathBuf::from).collect() };
    let tarball = files(out.path()).into_iter().find(|path| path.extension().is_some_and(|end| end == "xz")).unwrap();
    let unpacked = out.path().join("anywhere");
    std::fs::create_dir(&unpacked).unwrap();
    output(Command::new("tar").arg("-xJf").arg(tarball).args(["--strip-components=1", "-C"]).arg(&unpacked));
    assert_eq!(output(Command::new(unpacked.join("bin/torbox")).arg("--version")), format!("torbox {}\n", env!("CARGO_PKG_VERSION")));
    assert!(unpacked.join("libexec/torbox/gate").is_file());
    let root = out.path().join("root");
    let make = |target: &str| output(Command::new("make").args(["--silent", "-C"]).arg(workspace()).arg(target).arg(format!("DESTDIR={}", root.display())));
    make("install-built");
    assert!(files(&root).len() > 30, "the positive control: it was installed");
    make("uninstall");
    assert_eq!(files(&root), Vec::<PathBuf>::new());
}
