//! torbox's own processes while a box runs: what they hold, and what they gave up.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::io::{FdFlags, fcntl_setfd};
use torbox_tests::boxed::Part;
use torbox_tests::display::Xvfb;
use torbox_tests::process::ProcessId;

use crate::ground::{Kind, Stage, soon};

/// What each descriptor is: a path, or the kind of thing without its number.
fn descriptors(process: ProcessId) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", process.0)).unwrap();
    let mut kinds: Vec<_> = entries.map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string()).map(|target| target.split(":[").next().unwrap().to_owned()).collect();
    kinds.sort();
    kinds
}

/// Each has its filter, no thread that could lack it, and nothing of the caller's. The caller's other programs can read none but `__inner` of a
/// user's box, which is in a user namespace that the caller owns.
pub(crate) fn holds_only_what_it_supervises_with(stage: &Stage<'_>) {
    let server = Xvfb::start().unwrap();
    let left = stage.out.path().join("left-open");
    fs::write(&left, "of the caller").unwrap();
    let open = fs::File::open(&left).unwrap();
    fcntl_setfd(&open, FdFlags::empty()).unwrap();
    let mut running = stage.open(&server, "parent", "about:blank");
    drop(open);
    running.wait_until_said("Confine", soon(60)).unwrap();
    let run = ProcessId(running.child.id());
    let [outer, inner] = [Part::Outer, Part::Inner].map(|part| running.part_soon(part).unwrap());

    for process in [run, outer, inner] {
        let [privileges, filter, threads] = ["NoNewPrivs", "Seccomp", "Threads"].map(|key| process.status(key).unwrap());
        assert_eq!([privileges, filter, threads], ["1", "2", "1"], "{}", process.command_line());
    }
    let hidden = if stage.kind == Kind::Root { vec![run, outer, inner] } else { vec![run, outer] };
    for process in hidden {
        // Not an unprivileged caller's: proc_pid(5), on processes that are not dumpable.
        assert_eq!(fs::metadata(format!("/proc/{}/environ", process.0)).unwrap().uid(), 0, "{}", process.command_line());
    }
    for process in [outer, inner] {
        assert_eq!(fs::read(format!("/proc/{}/environ", process.0)).unwrap(), b"", "{}", process.command_line());
    }
    let left = left.display().to_string();
    assert!(descriptors(run).contains(&left), "the positive control: the caller left it open: {:?}", descriptors(run));
    let log = running.log.display().to_string();
    // The name's lock, which the last of them frees.
    let lock = stage.installed.dir().display().to_string();
    let lock = descriptors(run).into_iter().find(|target| target.starts_with(&lock) && target.ends_with("/parent.lock")).unwrap();
    let held = |others: &[&'static str]| {
        let mut all: Vec<_> = [log.clone(), lock.clone()].into_iter().chain(others.iter().map(|&other| other.to_owned())).collect();
        all.sort();
        all
    };
    assert_eq!(descriptors(outer), held(&["pipe"; 2]));
    // Requests and events, signals, and of each of four containers its lifeline and its output.
    assert_eq!(descriptors(inner), held(&[&["anon_inode"][..], &["pipe"; 2 + 4 * 2]].concat()));
    for part in [Part::Browser, Part::Init, Part::Tor, Part::TorInit, Part::Gate, Part::Display] {
        let held = descriptors(running.part_soon(part).unwrap());
        assert!(!held.contains(&lock), "{part:?}: {held:?}");
    }
    assert_eq!(running.interrupt().unwrap(), Some(0));
}
