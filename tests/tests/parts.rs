//! What docs/parts.md says of the parts, done as it says, without torbox: what has no test of its own elsewhere.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use torbox_tests::require;

/// A root with a shell's tools in it, and a store of podman's own for it.
struct Bare(TempDir);

impl Bare {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/bin")).unwrap();
        fs::copy("/bin/busybox", dir.path().join("root/bin/busybox")).unwrap();
        Self(dir)
    }

    /// What busybox says of `words` in a container with this profile, if any.
    fn says(&self, profile: Option<&str>, words: &[&str]) -> String {
        let dir = |name: &str| self.0.path().join(name);
        let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose/seccomp");
        let profile = profile.map_or_else(|| "unconfined".to_owned(), |name| profiles.join(format!("{name}.json")).display().to_string());
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(dir("store")).arg("--runroot").arg(dir("run")).args(["--storage-driver", "vfs"]);
        podman.args(["run", "--rm", "--network", "none", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]);
        podman.args(["--security-opt", "no-new-privileges", "--security-opt", &format!("seccomp={profile}"), "--rootfs"]).arg(dir("root"));
        let done = podman.arg("/bin/busybox").args(words).stdin(Stdio::null()).output().unwrap();
        String::from_utf8(if done.status.success() { done.stdout } else { done.stderr }).unwrap()
    }
}

/// Each profile lets a program run, and refuses what its role has no business with; without one the kernel does all of it.
#[test]
fn root_the_seccomp_profiles_serve_any_container() {
    require!("root", "podman", "runc", "busybox");
    let bare = Bare::new();
    let mount: &[&str] = &["mount", "-t", "tmpfs", "none", "/bin"];
    let spaces: &[&str] = &["unshare", "-U", "/bin/busybox", "echo", "made"];
    let socket: &[&str] = &["nc", "-w", "1", "127.0.0.1", "9"];
    assert_eq!(bare.says(None, spaces), "made\n");
    assert!(bare.says(None, socket).contains("refused"), "{}", bare.says(None, socket));
    for profile in ["tor", "gate", "display", "browser"] {
        assert_eq!(bare.says(Some(profile), &["echo", "runs"]), "runs\n", "{profile}");
        let said = [mount, spaces, socket].map(|words| bare.says(Some(profile), words));
        assert!(said[0].contains("Function not implemented"), "{profile}: {said:?}");
        // The browser's own sandbox makes one, and tor alone has IP sockets.
        assert_eq!(said[1] == "made\n", profile == "browser", "{profile}: {said:?}");
        assert_eq!(said[2].contains("refused"), profile == "tor", "{profile}: {said:?}");
    }
}
