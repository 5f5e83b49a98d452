//! Why `torbox compose --format kube` refuses: the nearest that a pod comes to the browser's container, run by a real `podman kube play`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use torbox_tests::engine::{Engine, Kind};
use torbox_tests::{process, wait};

use crate::engines::{IMAGES, load_images, with};
use crate::ground::{Stage, outcome};

/// Four of what the refusal names. Which of them a pod leaves open depends on Podman: where none is, there is no reason left to refuse.
const REASONS: [&str; 4] = ["run.tmp", "host-path.sys.kernel", "host.etc.hosts", "host.proc.version"];
const PATIENCE: Duration = Duration::from_secs(30);
const POD: &str = "torbox-kube-browser";

pub(crate) fn podman(stage: &Stage<'_>) {
    let (code, out, said) = stage.call(&["compose", "--format", "kube", "/nonexistent"]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("podman kube play cannot keep a box") && said.contains("--format podman"), "{said}");
    with(stage, Kind::Podman, |engine| {
        load_images(stage, engine, IMAGES);
        let rows = attempts(stage, engine);
        let open: Vec<&str> = rows.iter().filter(|row| row["verdict"] == "not-held").map(|row| row["id"].as_str().unwrap()).collect();
        assert!(rows.len() > 350, "{rows:?}");
        eprintln!("in a pod are open: {open:?}");
        assert!(REASONS.iter().any(|reason| open.contains(reason)), "{open:?}");
        let network = rows.iter().filter(|row| row["guarantee"] == "G1" && row["verdict"] == "not-held");
        assert_eq!(network.collect::<Vec<_>>(), Vec::<&Value>::new(), "what a pod does keep");
    });
}

/// Every attempt to get out of the pod, and what came of it.
fn attempts(stage: &Stage<'_>, engine: &Engine) -> Vec<Value> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = engine.own_program().unwrap();
    let podman = |words: &[&str]| -> Command {
        let mut command = stage.ground.net.client().command(&program);
        command.args(words);
        command
    };
    let file = tests.join("tests/boxed/kube.yaml");
    let mut play = podman(&["play", "kube", "--network", "none", "--no-hosts", "--log-driver", "k8s-file", "--seccomp-profile-root"]);
    process::output(play.arg(tests.join("../compose/seccomp").canonicalize().unwrap()).arg(&file)).unwrap();
    let container = format!("{POD}-browser");
    let ended = wait::retry(Duration::from_millis(100), Instant::now() + PATIENCE, || {
        let (_, state, _) = outcome(&mut podman(&["inspect", "--format", "{{.State.Status}}", &container]));
        (state.trim() == "exited").then_some(())
    });
    let (_, out, said) = outcome(&mut podman(&["logs", &container]));
    process::output(&mut podman(&["pod", "rm", "--force", POD])).unwrap();
    let (_, volumes, _) = outcome(&mut podman(&["volume", "ls", "--quiet", "--filter", "name=torbox-kube-"]));
    process::output(podman(&["volume", "rm", "--force"]).args(volumes.lines())).unwrap();
    assert!(ended.is_some(), "{out}{said}");
    out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
