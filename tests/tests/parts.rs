//! What docs/parts.md says of the parts, done as it says, without torbox: what has no test of its own elsewhere.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use torbox_tests::boxed::static_program;
use torbox_tests::require;
use torbox_tests::testnet::Namespace;

/// A root with a shell's tools in it, and a store of podman's own for it.
struct Bare(TempDir);

impl Bare {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for made in ["root/bin", "hooks"] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        fs::copy("/bin/busybox", dir.path().join("root/bin/busybox")).unwrap();
        Self(dir)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What busybox says of `words` in a container of podman's with this profile, if any, and `more`.
    fn says(&self, profile: Option<&str>, words: &[&str], more: &[&str]) -> String {
        let profile = profile.map_or_else(|| "unconfined".to_owned(), |name| workspace().join(format!("compose/seccomp/{name}.json")).display().to_string());
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(self.dir("store")).arg("--runroot").arg(self.dir("run")).args(["--storage-driver", "vfs", "--runtime", "runc", "--hooks-dir"]).arg(self.dir("hooks"));
        podman.args(["run", "--rm", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]).args(more);
        podman.args(["--security-opt", "no-new-privileges", "--security-opt", &format!("seccomp={profile}"), "--rootfs"]).arg(self.dir("root"));
        said(podman.arg("/bin/busybox").args(words))
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What `command` prints, or says if it fails.
fn said(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8(if done.status.success() { done.stdout } else { done.stderr }).unwrap()
}

/// Each profile lets a program run, and refuses what its role has no business with; without one the kernel does all of it.
#[test]
fn root_the_seccomp_profiles_serve_any_container() {
    require!("root", "podman", "runc", "busybox");
    let bare = Bare::new();
    let mount: &[&str] = &["mount", "-t", "tmpfs", "none", "/bin"];
    let spaces: &[&str] = &["unshare", "-U", "/bin/busybox", "echo", "made"];
    let socket: &[&str] = &["nc", "-w", "1", "127.0.0.1", "9"];
    let says = |profile, words| bare.says(profile, words, &["--network", "none"]);
    assert_eq!(says(None, spaces), "made\n");
    assert!(says(None, socket).contains("refused"), "{}", says(None, socket));
    for profile in ["tor", "gate", "display", "browser"] {
        assert_eq!(says(Some(profile), &["echo", "runs"]), "runs\n", "{profile}");
        let said = [mount, spaces, socket].map(|words| says(Some(profile), words));
        assert!(said[0].contains("Function not implemented"), "{profile}: {said:?}");
        // The browser's own sandbox makes one, and tor alone has IP sockets.
        assert_eq!(said[1] == "made\n", profile == "browser", "{profile}: {said:?}");
        assert_eq!(said[2].contains("refused"), profile == "tor", "{profile}: {said:?}");
    }
}

/// Where the page of the parts has torbox's init.
const INSTALLED: &str = "/usr/local/libexec/torbox/init";

/// The program that is the hook.
fn hook() -> PathBuf {
    static_program("init").unwrap().canonicalize().unwrap()
}

/// A network namespace with an interface, which leads nowhere.
struct Wired(Namespace);

impl Wired {
    fn new() -> Self {
        let namespace = Namespace::named("torbox-hook");
        namespace.remove().unwrap();
        namespace.create().unwrap();
        said(Command::new("ip").args(["-netns", namespace.name(), "link", "add", "wire0", "type", "veth", "peer", "name", "wire1"]));
        Self(namespace)
    }
}

impl Drop for Wired {
    fn drop(&mut self) {
        let _gone = self.0.remove();
    }
}

/// As the page says, with Podman: a container that holds starts, and one that has one thing more does not, which is named.
#[test]
fn root_the_hook_lets_no_container_start_that_lets_something_out() {
    require!("root", "podman", "runc", "busybox", "ip");
    let (bare, wired) = (Bare::new(), Wired::new());
    let page = fs::read_to_string(workspace().join("docs/parts.md")).unwrap();
    let hooks = page.split_once("```json\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    assert!(hooks.contains(INSTALLED));
    fs::write(bare.dir("hooks/torbox.json"), hooks.replace(INSTALLED, &hook().display().to_string())).unwrap();
    let mounted = format!("{0}:{0}:ro", hook().display());
    let (wire, socket) = (format!("ns:{}", wired.0.path().display()), format!("{}:/run/docker.sock", bare.dir("hooks").display()));
    let asked = ["--annotation", "dev.torbox.holds=true", "-v", &mounted];
    let closed = ["--network", "none", "--cap-drop", "all", "--user", "1000:1000"];
    let says = |profile, more: &[&[&str]]| bare.says(profile, &["echo", "runs"], &more.concat());
    assert_eq!(says(Some("browser"), &[&asked, &closed]), "runs\n");
    let opened: [(&str, String); 6] = [
        ("net.interfaces (wire1, wire0)", says(Some("browser"), &[&asked, &closed[2..], &["--network", &wire]])),
        ("socket.inet.stream (allowed)", says(None, &[&asked, &closed])),
        ("status.CapBnd (", says(Some("browser"), &[&asked, &closed[..2], &closed[4..]])),
        ("identity.root (", says(Some("browser"), &[&asked, &closed[..4]])),
        ("process.foreign (", says(Some("browser"), &[&asked, &closed, &["--pid", "host"]])),
        // Last: it leaves the place of the mount in the root.
        ("service.docker (it is there)", says(Some("browser"), &[&asked, &closed, &["-v", &socket]])),
    ];
    for (names, said) in opened {
        assert!(said.contains("init: the box does not hold: ") && said.contains(names) && !said.contains("runs\n"), "{names}: {said}");
    }
    let lacking = says(Some("browser"), &[&asked[..2], &closed]);
    assert!(!lacking.contains("runs\n"), "without its program nothing starts: {lacking}");
    assert_eq!(says(Some("browser"), &[&closed, &["--cap-add", "net_raw"]]), "runs\n", "who did not ask is left alone");
}

/// The same in a bundle of one's own.
#[test]
fn root_the_hook_serves_runc_alone() {
    require!("root", "runc", "busybox");
    let bare = Bare::new();
    said(Command::new("runc").arg("spec").current_dir(bare.0.path()));
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(bare.dir("config.json")).unwrap()).unwrap();
    spec["root"] = json!({"path": "root", "readonly": false});
    spec["process"]["args"] = json!(["/bin/busybox", "echo", "runs"]);
    spec["process"]["terminal"] = json!(false);
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    spec["process"]["capabilities"] = json!({});
    spec["linux"]["seccomp"] = serde_json::from_str(&fs::read_to_string(workspace().join("compose/seccomp/browser.json")).unwrap()).unwrap();
    spec["hooks"] = json!({"startContainer": [{"path": INSTALLED, "args": ["init", "hook"]}]});
    spec["mounts"].as_array_mut().unwrap().push(json!({"destination": INSTALLED, "type": "bind", "source": hook(), "options": ["bind", "ro"]}));
    let says = |spec: &Value| {
        fs::write(bare.dir("config.json"), spec.to_string()).unwrap();
        said(Command::new("runc").arg("--root").arg(bare.dir("state")).args(["run", "torbox-hook"]).current_dir(bare.0.path()))
    };
    assert_eq!(says(&spec), "runs\n");
    spec["linux"].as_object_mut().unwrap().remove("seccomp");
    let said = says(&spec);
    assert!(said.contains("the box does not hold: socket.inet.stream (allowed)") && !said.contains("runs\n"), "{said}");
}
