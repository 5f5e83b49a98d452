//! Every fuzz target for a minute, from the committed corpus: none may crash, hang or grow. `make fuzz` runs each for ten minutes.
//! What a target holds for true is written in `fuzz.rs` of its crate, or in the target. cargo-fuzz, libFuzzer with AddressSanitizer.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use torbox_tests::{process, require};

/// Each target, and the crate whose readers it drives.
const TARGETS: [(&str, &str); 13] = [
    ("runtime/display", "session"),
    ("runtime/init", "bus_message"),
    ("runtime/gate", "socks_request"),
    ("runtime/gate", "socks_reply"),
    ("runtime/gate", "control_command"),
    ("runtime/gate", "control_reply"),
    ("runtime/gate", "control_event"),
    ("runtime/gate", "taint"),
    ("images", "archive"),
    ("images", "indexes"),
    ("images", "package"),
    ("images", "releases"),
    ("images", "stanzas"),
];
const SECONDS: &str = "60";
/// How many run at a time.
const ABREAST: usize = 4;

fn directory(tested: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(tested).join("fuzz")
}

/// cargo-fuzz wants a nightly compiler; the stable one can do what it needs of it.
fn cargo_fuzz(tested: &str, words: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(["fuzz"]).args(words).env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTFLAGS").current_dir(directory(tested));
    command
}

#[test]
fn no_fuzz_target_finds_anything_in_a_minute() {
    require!("cargo-fuzz", "c++");
    for tested in ["runtime/display", "runtime/gate", "runtime/init", "images"] {
        let listed = String::from_utf8(process::output(&mut cargo_fuzz(tested, &["list"])).unwrap()).unwrap();
        let mut known: Vec<_> = listed.lines().collect();
        known.sort_unstable();
        let mut ours: Vec<_> = TARGETS.iter().filter(|(of, _)| *of == tested).map(|(_, target)| *target).collect();
        ours.sort_unstable();
        assert_eq!(known, ours);
        process::output(&mut cargo_fuzz(tested, &["build"])).unwrap();
    }
    for some in TARGETS.chunks(ABREAST) {
        thread::scope(|scope| some.iter().for_each(|(tested, target)| drop(scope.spawn(|| run(tested, target)))));
    }
}

fn run(tested: &str, target: &str) {
    // What is found on the way belongs to this run alone.
    let found = tempfile::tempdir().unwrap();
    let seeds = directory(tested).join("corpus").join(target);
    assert!(seeds.read_dir().unwrap().count() > 0, "{target} has no corpus");
    let mut fuzz = cargo_fuzz(tested, &["run", target]);
    fuzz.arg(found.path()).arg(seeds).args(["--", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    fuzz.arg(format!("-max_total_time={SECONDS}")).arg(format!("-artifact_prefix={}/", found.path().display()));
    let done = fuzz.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).map(str::trim).unwrap_or_default();
    let end: Vec<_> = said.lines().rev().take(40).collect();
    assert!(done.status.success(), "{target}: {}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
    eprintln!("{target}: {runs} runs");
    assert!(runs.parse::<u64>().unwrap() > 1000, "{target}: {runs} runs");
}
