//! Every way in which a box ends, and that nothing is left of it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use torbox_tests::boxed::{END, Part, RunningBox, send};
use torbox_tests::display::{Appeared, Xvfb};
use torbox_tests::left::{Left, Thing};
use x11rb::protocol::xproto::{ClientMessageEvent, ConnectionExt, EventMask};

use crate::ground::{Before, Stage, soon};

/// After a process was killed, this much later nothing is left.
const KILLED: Duration = Duration::from_secs(2);
/// The last step of a launch.
const UP: &str = "Confine";
/// A box with an empty page, on a display of its own.
struct Up<'a> {
    running: RunningBox,
    display: Xvfb,
    before: Before<'a>,
}

impl<'a> Up<'a> {
    fn new(stage: &'a Stage<'a>, name: &str) -> Self {
        let display = Xvfb::start().unwrap();
        let before = stage.before(&[name]);
        let mut running = stage.open(&display, name, "about:blank");
        running.wait_until_said(UP, soon(20)).unwrap();
        before.assert_something(name);
        Self { running, display, before }
    }

    /// The same, once its window shows something.
    fn with_window(stage: &'a Stage<'a>, name: &str) -> (Self, Appeared) {
        let display = Xvfb::start().unwrap();
        let before = stage.before(&[name]);
        let mut watch = display.watch().unwrap();
        let running = stage.open(&display, name, "about:blank");
        let appeared = watch.first_window(soon(30)).unwrap();
        let appeared = appeared.unwrap_or_else(|| panic!("no window; torbox said last:\n{}", running.said_last()));
        (Self { running, display, before }, appeared)
    }

    /// torbox ends in order with `code`, and then nothing is left.
    fn assert_ended(mut self, code: i32, bound: Duration, what: &str) {
        let begun = Instant::now();
        let ended = self.running.ended(begun + bound).unwrap();
        assert_eq!(ended, Some(code), "{what}: {}", self.running.said_last());
        self.before.assert_gone(bound.saturating_sub(begun.elapsed()), what);
        eprintln!("{what}: {:?}", begun.elapsed());
    }
}

/// Ctrl-C, `torbox stop`, the window closed.
pub(crate) fn orderly(stage: &Stage<'_>) {
    let (up, _) = Up::with_window(stage, "ctrl-c");
    send(&up.running.child, Signal::SIGINT).unwrap();
    up.assert_ended(0, END, "Ctrl-C");

    let (up, _) = Up::with_window(stage, "stop");
    assert_eq!(stage.call(&["stop", "stop"]), (Some(0), String::new(), String::new()));
    up.assert_ended(0, END, "torbox stop");

    let (up, window) = Up::with_window(stage, "close");
    close(&up.display, window.window);
    up.assert_ended(0, END, "the window closed");

    let (code, _, said) = stage.call(&["stop", "close"]);
    assert_eq!((code, said.as_str()), (Some(3), "torbox: box close is not running\n\nhint: torbox status shows which boxes run\n"));
}

/// Asks the window to close, as a window manager does (ICCCM, section 4.2.8.1).
fn close(display: &Xvfb, window: u32) {
    let x = display.connect().unwrap();
    let atom = |name: &[u8]| x.intern_atom(false, name).unwrap().reply().unwrap().atom;
    let (protocols, delete) = (atom(b"WM_PROTOCOLS"), atom(b"WM_DELETE_WINDOW"));
    let event = ClientMessageEvent::new(32, window, protocols, [delete, x11rb::CURRENT_TIME, 0, 0, 0]);
    x.send_event(false, window, EventMask::NO_EVENT, event).unwrap().check().unwrap();
}

/// Each process of the box killed.
pub(crate) fn killed(stage: &Stage<'_>) {
    let cases = [(Part::Inner, 7), (Part::Outer, 7), (Part::Tor, 7), (Part::TorInit, 7), (Part::Gate, 7), (Part::Display, 7), (Part::Init, 1), (Part::Browser, 1)];
    for (part, code) in cases {
        let up = Up::new(stage, "killed");
        let process = up.running.part_soon(part).unwrap();
        process.send(rustix::process::Signal::KILL).unwrap();
        up.assert_ended(code, KILLED, &format!("{part:?} killed"));
    }
    let mut up = Up::new(stage, "killed");
    up.running.child.kill().unwrap();
    assert_gone_or_removed(stage, &mut up.running, &up.before, "torbox run killed");
    the_name_is_free_at_once(stage);
    the_name_is_not_free_before(stage);
}

/// A box whose parent was killed can be started again without waiting.
fn the_name_is_free_at_once(stage: &Stage<'_>) {
    let mut up = Up::new(stage, "killed");
    up.running.child.kill().unwrap();
    let (code, out, said) = crate::ground::outcome(&mut stage.probe_command("killed"));
    assert_eq!(code, Some(0), "{}", said.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
    assert!(out.starts_with("{\"interfaces\":"), "{out}");
    up.before.assert_gone(KILLED, "after the next run of the same name");
}

/// A runtime that has not ended yet keeps the name: both would write what the box keeps, and remove each other's control groups.
fn the_name_is_not_free_before(stage: &Stage<'_>) {
    let mut up = Up::new(stage, "killed");
    // The runtime gives it a second to end.
    up.running.part(Part::TorInit).unwrap().send(rustix::process::Signal::STOP).unwrap();
    let inner = up.running.part(Part::Inner).unwrap();
    up.running.child.kill().unwrap();
    let mut next = stage.start(stage.probe_command("killed"), "next");
    std::thread::sleep(Duration::from_millis(600));
    assert!(inner.status("Name").is_some(), "the runtime has ended already");
    assert!(!next.said().contains("starting"), "{}", next.said());
    assert_eq!(next.ended(soon(20)).unwrap(), Some(0), "{}", next.said());
    up.before.assert_gone(KILLED, "after the next run of the same name");
}

/// torbox killed at every step.
pub(crate) fn killed_at_every_step(stage: &Stage<'_>) {
    let up = Up::new(stage, "steps");
    let steps = steps_of(&up.running.said());
    let Up { running, display, before } = up;
    assert_eq!(running.interrupt().unwrap(), Some(0));
    before.assert_gone(END, "Ctrl-C during the launch");
    for step in &steps {
        let mut running = stage.open(&display, "steps", "about:blank");
        running.wait_until_said(step, soon(20)).unwrap();
        running.child.kill().unwrap();
        assert_gone_or_removed(stage, &mut running, &before, step);
    }
    for after in [0, 2, 5, 10, 20, 35] {
        let mut running = stage.open(&display, "steps", "about:blank");
        std::thread::sleep(Duration::from_millis(after));
        running.child.kill().unwrap();
        assert_gone_or_removed(stage, &mut running, &before, &format!("{after} ms"));
    }
}

/// The steps that `--verbose` printed: `torbox:     55.5 ms  Create(Tor)`.
fn steps_of(said: &str) -> Vec<String> {
    let steps: Vec<_> = said.lines().filter_map(|line| Some(line.strip_prefix("torbox: ")?.split_once(" ms  ")?.1.to_owned())).collect();
    assert_eq!((steps.len(), steps[0].as_str(), steps[15].as_str()), (16, "Enclose", UP), "{steps:?}");
    steps
}

/// Within two seconds there is no process, mount, namespace or open socket; what files and control groups then remain, the next
/// call of torbox removes.
fn assert_gone_or_removed(stage: &Stage<'_>, running: &mut RunningBox, before: &Before<'_>, what: &str) {
    let begun = Instant::now();
    assert_eq!(running.ended(begun + END).unwrap(), None, "{what}: killed");
    if let Err(left) = wait_for_the_living(before, begun + KILLED) {
        panic!("{what}: {KILLED:?} after torbox was killed:\n{left}");
    }
    let (code, _, said) = stage.call(&["status"]);
    assert_eq!(code, Some(0), "{said}");
    before.assert_gone(Duration::ZERO, &format!("{what}, and after the next call"));
}

fn wait_for_the_living(before: &Before<'_>, deadline: Instant) -> Result<(), Left> {
    let dead = |thing: &Thing| matches!(thing, Thing::ControlGroup(_) | Thing::File(_));
    loop {
        match before.left_after(Duration::ZERO) {
            Err(left) if left.things().iter().all(dead) => return Ok(()),
            Err(left) if Instant::now() > deadline => return Err(left),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
            Ok(_) => return Ok(()),
        }
    }
}
