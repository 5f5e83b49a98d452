//! What outlives a box: tor's state, what a profile keeps, and nothing by way of a link.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use torbox_tests::boxed::{Part, Who};
use torbox_tests::display::Xvfb;
use torbox_tests::testnet::Via;
use torbox_tests::wait;

use crate::ground::{Stage, outcome, soon};
use crate::page::Awaited;

/// Where the state of box `name` lies.
pub(crate) fn dir_of(stage: &Stage<'_>, name: &str) -> PathBuf {
    stage.installed.dir().join("state/boxes").join(name).join("tor")
}

/// Runs box `name` until tor has built its first circuits, and ends it in order.
fn run_until_connected(stage: &Stage<'_>, display: &Xvfb, name: &str) {
    let mut running = stage.open(display, name, "about:blank");
    running.wait_until_said("connected to the Tor network", soon(90)).unwrap();
    assert_eq!(running.interrupt().unwrap(), Some(0));
}

/// The guards of a state file: identity, and the time of choice, which tor blurs at random.
pub(crate) fn guards(file: &Path) -> BTreeSet<String> {
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

/// The history and its journal in `dir`, as bytes, hold `path`.
fn history_has(dir: &Path, path: &str) -> bool {
    let holds = |name: &&str| fs::read(dir.join(name)).is_ok_and(|bytes| bytes.windows(path.len()).any(|window| window == path.as_bytes()));
    ["places.sqlite", "places.sqlite-wal"].iter().any(holds)
}

/// Opens a page in a box with `profile`, and ends it once the browser has written the visit down.
fn visit(stage: &Stage<'_>, display: &Xvfb, profile: &str, path: &str) {
    let page = Awaited::new(stage);
    let running = stage.start(stage.profile_command(display, profile, &format!("{}{}", stage.ground.net.state().named_url, &path[1..])), profile);
    page.request_of(Via::Exit, path, &running);
    // The profile's own: without it this X server would be shown through a display of the box's own.
    assert!(running.said().contains("display: x11-untrusted"), "{}", running.said());
    let browser = running.part(Part::Browser).unwrap();
    let inside = PathBuf::from(format!("/proc/{}/root/home/user/profile", browser.0));
    let written = wait::retry(Duration::from_millis(100), soon(30), || history_has(&inside, path).then_some(()));
    assert!(written.is_some(), "the browser wrote no history; torbox said last:\n{}", running.said_last());
    assert_eq!(running.interrupt().unwrap(), Some(0));
}

/// A profile comes back in the next run, also as an archive that was taken elsewhere; what it does not keep is not there.
pub(crate) fn profiles_are_kept(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let call = |words: &[&str]| {
        let (code, out, said) = stage.call(words);
        assert_eq!(code, Some(0), "{words:?}: {said}");
        out
    };
    let dir = |name: &str| stage.installed.dir().join("state/profiles").join(name);
    let (code, _, said) = stage.call(&["run", "--profile", "first", "--browser", "firefox-esr"]);
    assert!(code == Some(4) || said.contains("there is no profile first"), "{said}");
    call(&["profile", "create", "first"]);
    let settings = |name: &str| stage.installed.dir().join("config/profiles").join(format!("{name}.toml"));
    let mut edit = stage.installed.command(None, ["config", "edit", "--profile", "first"]);
    edit.env("EDITOR", "sed -i s/^#.display.=.*/display=\"x11-untrusted\"/");
    let (code, _, said) = outcome(&mut edit);
    assert_eq!(code, Some(0), "{said}");
    visit(stage, &display, "first", "/one");
    assert!(history_has(&dir("first"), "/one"));
    for entry in fs::read_dir(dir("first")).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        let seen = (metadata.uid(), metadata.permissions().mode() & 0o7777, metadata.is_file());
        assert_eq!(seen, (caller(stage).0, 0o600, true), "{}", entry.path().display());
        assert!(torbox_plan::PROFILE_FILES.contains(&entry.file_name().to_str().unwrap()), "{}", entry.path().display());
    }
    let archive = stage.installed.dir().join("first.tar");
    call(&["profile", "export", "first", archive.to_str().unwrap()]);
    call(&["profile", "remove", "first"]);
    assert!(!dir("first").exists());
    assert!(!settings("first").exists());
    let (code, _, said) = stage.call(&["profile", "import", "second", archive.to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("sets display = \"x11-untrusted\"") && !dir("second").exists(), "{said}");
    call(&["profile", "import", "second", archive.to_str().unwrap(), "--settings", "take"]);
    assert!(call(&["profile", "list"]).starts_with("second "));
    let victim = stage.installed.dir().join("victim");
    fs::write(&victim, "not the browser's\n").unwrap();
    let _absent = fs::remove_file(dir("second").join("prefs.js"));
    symlink(&victim, dir("second").join("prefs.js")).unwrap();
    visit(stage, &display, "second", "/two");
    assert!(history_has(&dir("second"), "/one") && history_has(&dir("second"), "/two"), "both runs are in it");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "not the browser's\n");
    call(&["profile", "remove", "second"]);
    assert_eq!(call(&["profile", "list", "--json"]), "[]\n");
}
