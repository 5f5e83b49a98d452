//! A box that is heard (`--sound`), and one that is not.

use std::path::Path;
use std::time::Duration;

use torbox_tests::boxed::{Part, RunningBox};
use torbox_tests::display::Xvfb;
use torbox_tests::process::ProcessId;
use torbox_tests::sound::{Kind, SoundServer};
use torbox_tests::testnet::Via;
use torbox_tests::wait;

use crate::ground::{Stage, outcome, soon};
use crate::nested::shown;

/// What the page plays, in hertz.
const TONE: f64 = 440.0;
/// How long is listened at once.
const MOMENT: Duration = Duration::from_secs(1);
/// How long a tone may take to be heard.
const PATIENCE: u64 = 30;
/// Text that is on the page.
const TEXT: &str = "this page sounds";
/// After how long nothing of a box may be left.
const GONE: Duration = Duration::from_secs(2);

pub(crate) fn heard_through_pulseaudio(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let nobody = outcome(open(stage, &display, "unix:/nonexistent/native").arg("--sound"));
    assert!(nobody.0 == Some(6) && nobody.2.contains("the box cannot be heard") && nobody.2.contains("hint: "), "{nobody:?}");
    heard(stage, &display, Kind::PulseAudio);
}

pub(crate) fn heard_through_pipewire(stage: &Stage<'_>) {
    heard(stage, &Xvfb::start().unwrap(), Kind::PipeWire);
}

fn heard(stage: &Stage<'_>, display: &Xvfb, kind: Kind) {
    let server = SoundServer::start(kind, &stage.ground.user).unwrap();
    let before = stage.before(&["sound"]);
    let mut command = open(stage, display, &server.address());
    command.arg("--sound");
    let mut running = stage.start(command, "sound");
    shown(stage, display, TEXT, &running);
    assert_eq!(server.hears(TONE, MOMENT).unwrap(), 0.0, "nothing was pressed");
    press(stage, display, &running, "/felt/sound");
    let heard = wait::retry(Duration::ZERO, soon(PATIENCE), || Some(server.hears(TONE, MOMENT).unwrap()).filter(|share| *share > 0.9));
    assert!(heard.is_some(), "the tone was not heard; torbox said last:\n{}", running.said_last());
    let [plays, records] = server.clients().unwrap();
    assert!(plays.matches("Sink Input #").count() == 1 && plays.contains("application.name = \"torbox\"") && records.is_empty(), "{plays}\n{records}");
    assert!(stage.call(&["status"]).1.contains("\n  sound "), "{}", stage.call(&["status"]).1);
    assert_eq!(mixers(&running).len(), 1);
    has_what_it_plays_with_alone(&running);
    reaches_no_server(&server, &running);
    // A server that ends ends the sound, and not the box.
    drop(server);
    running.wait_until_said("torbox: the box is not heard any more", soon(PATIENCE)).unwrap();
    assert!(running.child.try_wait().unwrap().is_none());
    assert_eq!(running.interrupt().unwrap(), Some(0));
    before.assert_gone(GONE, "after Ctrl-C");
}

/// The same page in a box that shall not be heard.
pub(crate) fn not_heard(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let server = SoundServer::start(Kind::PulseAudio, &stage.ground.user).unwrap();
    let running = stage.start(open(stage, &display, &server.address()), "sound");
    shown(stage, &display, TEXT, &running);
    press(stage, &display, &running, "/felt/pressed");
    assert_eq!(server.hears(TONE, 4 * MOMENT).unwrap(), 0.0);
    assert_eq!(server.clients().unwrap(), [String::new(), String::new()]);
    assert_eq!((speakers(&running), mixers(&running)), (Vec::new(), Vec::new()));
    assert_eq!(running.interrupt().unwrap(), Some(0));
}

fn open(stage: &Stage<'_>, display: &Xvfb, server: &str) -> std::process::Command {
    let mut command = stage.run_command(display, "sound", &format!("{}sound", stage.ground.net.state().named_url));
    command.env("PULSE_SERVER", server);
    command
}

/// Presses on the page until it tells of `path`.
fn press(stage: &Stage<'_>, display: &Xvfb, running: &RunningBox, path: &str) {
    let (log, mark, input) = (stage.ground.net.web_log(), stage.ground.net.web_log().mark(), display.input().unwrap());
    let felt = wait::retry(Duration::from_secs(1), soon(PATIENCE), || {
        input.click(400, 500).unwrap();
        log.wait_for(mark, soon(3), |request| request.via == Via::Exit && request.path == path).unwrap()
    });
    assert!(felt.is_some(), "{path} was not felt; torbox said last:\n{}", running.said_last());
}

fn parts(running: &RunningBox, command: &str) -> Vec<ProcessId> {
    running.processes().unwrap().into_iter().filter(|process| process.command_line().starts_with(command)).collect()
}

fn speakers(running: &RunningBox) -> Vec<ProcessId> {
    parts(running, "/proc/self/exe __speaker")
}

fn mixers(running: &RunningBox) -> Vec<ProcessId> {
    parts(running, "/usr/bin/pulseaudio ")
}

/// Who plays has the server's socket, and the browser's container has no such place.
fn reaches_no_server(server: &SoundServer<'_>, running: &RunningBox) {
    let inside = |process: ProcessId| Path::new("/proc").join(process.0.to_string()).join("root").join(server.socket().strip_prefix("/").unwrap());
    assert!(inside(ProcessId(running.child.id())).exists(), "the positive control: torbox itself sees it");
    for process in [running.part(Part::Browser).unwrap(), mixers(running)[0]] {
        assert!(!inside(process).exists(), "{process:?}");
    }
}

/// What plays reads samples of whoever took the browser over: it has a filter, and nothing open but torbox's pipes, what the caller has for its errors,
/// the server and the FIFO.
fn has_what_it_plays_with_alone(running: &RunningBox) {
    let found = speakers(running);
    let [speaker] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!([speaker.status("Seccomp"), speaker.status("NoNewPrivs")].map(Option::unwrap), ["2", "1"]);
    let mut open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", speaker.0)).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let target = std::fs::read_link(entry.path()).unwrap().display().to_string();
        (entry.file_name().into_string().unwrap().parse::<u32>().unwrap(), target)
    }).collect();
    open.sort();
    let rest: Vec<_> = open.into_iter().filter(|(number, _)| *number > 2).map(|(_, target)| target.split(':').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(rest, ["socket", "/run/user/sound"], "{rest:?}");
}
