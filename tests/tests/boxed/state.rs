//! What outlives a box: tor's state, and nothing by way of a link.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use torbox_tests::boxed::Who;
use torbox_tests::display::Xvfb;

use crate::ground::{Stage, soon};

/// Where the state of box `name` lies.
fn dir_of(stage: &Stage<'_>, name: &str) -> PathBuf {
    stage.installed.dir().join("state/boxes").join(name).join("tor")
}

/// Runs box `name` until tor has built its first circuits, and ends it in order.
fn run_until_connected(stage: &Stage<'_>, display: &Xvfb, name: &str) {
    let mut running = stage.open(display, name, "about:blank");
    running.wait_until_said("connected to the Tor network", soon(90)).unwrap();
    assert_eq!(running.interrupt().unwrap(), Some(0));
}

/// The guards of a state file: identity, and the time of choice, which tor blurs at random.
fn guards(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let of = |line: &str| ["rsa_id=", "sampled_on="].map(|key| line.split(' ').find(|word| word.starts_with(key)).unwrap().to_owned()).join(" ");
    text.lines().filter(|line| line.starts_with("Guard ")).map(of).collect()
}

fn caller(stage: &Stage<'_>) -> (u32, u32) {
    match stage.installed.who() {
        Who::Root => (0, 0),
        Who::User(user) => user.ids(),
    }
}

/// The state is the caller's, and the next run begins with it.
pub(crate) fn guards_are_kept(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let dir = dir_of(stage, "guards");
    run_until_connected(stage, &display, "guards");
    let state = dir.join("state");
    let first = guards(&state);
    assert!(!first.is_empty(), "{}", fs::read_to_string(&state).unwrap());
    for entry in fs::read_dir(&dir).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        let seen = (metadata.uid(), metadata.gid(), metadata.permissions().mode() & 0o7777, metadata.is_file());
        assert_eq!(seen, (caller(stage).0, caller(stage).1, 0o600, true), "{}", entry.path().display());
    }
    run_until_connected(stage, &display, "guards");
    let second = guards(&state);
    assert!(first.is_subset(&second), "{first:?} became {second:?}");
    // The positive control: without that state the next run chooses anew.
    fs::remove_file(&state).unwrap();
    run_until_connected(stage, &display, "guards");
    let third = guards(&state);
    assert!(!third.is_empty() && first.is_disjoint(&third), "{first:?} became {third:?}");
}

/// A link where a kept file should be leads nowhere: neither is what it points to read, nor is it written to.
pub(crate) fn links_are_not_followed(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    run_until_connected(stage, &display, "links");
    let dir = dir_of(stage, "links");
    let victim = stage.installed.dir().join("victim");
    fs::write(&victim, "not tor's\n").unwrap();
    if let Who::User(user) = stage.installed.who() {
        user.give(&victim).unwrap();
    }
    for name in ["state", ".state.new", "cached-certs", ".cached-certs.new"] {
        let _absent = fs::remove_file(dir.join(name));
        symlink(&victim, dir.join(name)).unwrap();
    }
    run_until_connected(stage, &display, "links");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "not tor's\n");
    for name in ["state", "cached-certs"] {
        assert!(fs::symlink_metadata(dir.join(name)).unwrap().is_file(), "{name} is tor's own again");
    }
    for name in [".state.new", ".cached-certs.new"] {
        assert!(!dir.join(name).is_symlink(), "{name}");
    }
}
