//! What goes wrong inside a box, or stands still: the machine goes on, nothing gets out, and the box ends as any other.

use std::fs::File;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal as Ask;
use rustix::process::Signal;
use torbox_tests::boxed::{END, Part, RunningBox, send};
use torbox_tests::display::{Weston, Xvfb};
use torbox_tests::process::{ProcessId, descendants};
use torbox_tests::testnet::Via;
use torbox_tests::{require, wait};

use crate::closed::Sentinels;
use crate::ground::{Kind, Stage, soon};

/// How long something stands still, and everything as on a machine that sleeps: longer than anybody in a box waits for anybody. For root that would
/// show nothing more.
const STANDSTILL: Duration = Duration::from_secs(4);
const SLEEP: Duration = Duration::from_secs(60);
/// The most processes that a user of a box may have.
const PROCESSES: u32 = 2048;
const MIB: u64 = 1 << 20;

/// Runs a shell script as a program in the place of `part` would, but without its filter: in its namespaces, control groups and limits.
pub(crate) fn inside(running: &RunningBox, part: Part, script: &str) -> Output {
    let process = running.part_soon(part).unwrap();
    inside_of(process, script)
}

/// The same in the place of whatever `process` is in.
pub(crate) fn inside_of(process: ProcessId, script: &str) -> Output {
    // An engine's unified hierarchy beside others need not be mounted. The container has no shell: the directory where one lies comes as standard input.
    let enter = format!(
        "while IFS=: read -r _ kind path; do group=\"/sys/fs/cgroup/${{kind#name=}}$path\"; [ -z \"$kind\" ] && [ ! -d \"$group\" ] && continue; \
         echo $$ > \"$group/cgroup.procs\" || exit 99; done < /proc/{0}/cgroup; \
         exec prlimit --nproc={PROCESSES} nsenter --target {0} --all --root --wd=/ --setuid 1000 --setgid 1000 /proc/self/fd/0/busybox sh -c \"$1\"",
        process.0
    );
    Command::new("sh").args(["-c", &enter, "sh", script]).stdin(File::open(require::program("busybox").unwrap().parent().unwrap()).unwrap()).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Processes without end, files without end, memory without end: each is cut off at its limit, and the box can still be ended.
pub(crate) fn hogs(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let before = stage.before(&["hogs"]);
    let mut running = stage.open(&display, "hogs", "about:blank");
    running.wait_until_said("connected to the Tor network", soon(60)).unwrap();
    places_are_bounded(&running);
    if stage.kind == Kind::Root {
        memory_is_bounded(&running);
    }
    processes_are_bounded(&running);
    let begun = Instant::now();
    assert!(Command::new("true").status().unwrap().success() && begun.elapsed() < Duration::from_secs(1), "the machine answers after {:?}", begun.elapsed());
    assert_eq!(stage.call(&["stop", "hogs"]).0, Some(0));
    assert_eq!(running.ended(Instant::now() + END).unwrap(), Some(0), "{}", running.said());
    before.assert_gone(END, "after the hogs");
}

fn places_are_bounded(running: &RunningBox) {
    let of_browser = ["/tmp", "/home/user", "/home/user/profile", "/dev/shm", "/run/user"].map(|place| (Part::Init, place));
    for (part, place) in of_browser.into_iter().chain([(Part::TorInit, "/run/torbox/state"), (Part::TorInit, "/tmp")]) {
        let done = inside(running, part, &format!("dd if=/dev/zero of={place}/hog bs=1M count=1000; stat -c %s {place}/hog"));
        let (size, said) = (text(&done.stdout), text(&done.stderr));
        let size: u64 = size.trim().parse().unwrap_or_else(|error| panic!("{place}: {error}: {size}{said}"));
        assert!(said.contains("No space left on device") && size > 0 && size <= 768 * MIB, "{place}: {size}: {said}");
    }
}

/// Three programs want 6 GiB together: the kernel ends one of them, or the browser's own, and nothing of the machine.
fn memory_is_bounded(running: &RunningBox) {
    let hog = "for hog in 1 2 3; do { dd if=/dev/zero of=/dev/null bs=2000M count=1 2>/dev/null; echo $?; sleep 1; } & done; wait";
    let said = text(&inside(running, Part::Init, hog).stdout);
    assert!(said.lines().any(|code| code == "137"), "none was ended by SIGKILL: {said}");
}

fn processes_are_bounded(running: &RunningBox) {
    let bomb = "i=0; while [ $i -lt 4000 ]; do sleep 60 <&- >&- 2>&- & i=$((i+1)); echo $i; done";
    let done = inside(running, Part::Init, bomb);
    let (count, said) = (text(&done.stdout), text(&done.stderr));
    let count: u32 = count.lines().last().unwrap_or_else(|| panic!("no process at all: {said}")).parse().unwrap();
    assert!(said.contains("can't fork") && (500..PROCESSES).contains(&count), "{count}: {said}");
}

/// A box in which one part stands still ends all the same; where that is what supervises, at the second Ctrl-C.
pub(crate) fn stopped_parts(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    for part in [Part::Tor, Part::Gate, Part::Display, Part::Init, Part::Browser, Part::Inner, Part::Outer] {
        let before = stage.before(&["still"]);
        let mut running = stage.open(&display, "still", "about:blank");
        running.wait_until_said("Confine", soon(20)).unwrap();
        let process = running.part_soon(part).unwrap();
        process.send(Signal::STOP).unwrap();
        send(&running.child, Ask::SIGINT).unwrap();
        if part == Part::Inner {
            std::thread::sleep(Duration::from_millis(100));
            send(&running.child, Ask::SIGINT).unwrap();
        }
        assert_eq!(running.ended(Instant::now() + END).unwrap(), Some(0), "{part:?}: {}", running.said());
        before.assert_gone(END, &format!("{part:?} stood still"));
    }
}

/// What stands still from some step of the launch on, and what torbox says of it. Containers stand in the order of their making.
const FROZEN: [(&str, Option<usize>, &str); 8] = [
    ("", None, STUCK),
    ("Create(Gate)", None, STUCK),
    ("Start(Tor)", None, STUCK),
    ("AwaitListeners", None, STUCK),
    ("Create(Browser)", Some(0), "not ready within 20 s: tor\n"),
    ("Create(Browser)", Some(1), "not ready within 20 s: gate\n"),
    ("Create(Browser)", Some(2), "not ready within 20 s: display\n"),
    ("Create(Browser)", Some(3), "the browser's container did not prove within 10 s"),
];
const STUCK: &str = "torbox's own process that makes the box has stood still for 30 s";

/// A part that stands still in the launch: nothing is started behind it, torbox says which it was, and leaves nothing.
pub(crate) fn frozen_in_the_launch(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let names: Vec<String> = (0..FROZEN.len()).map(|number| format!("frozen{number}")).collect();
    let before = stage.before(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let frozen: Vec<_> = FROZEN.iter().zip(&names).map(|(&(step, container, says), name)| (freeze(stage, &display, name, step, container), says)).collect();
    for (mut running, says) in frozen {
        let code = running.ended(soon(60)).unwrap();
        assert!(code.is_some_and(|code| code != 0) && running.said().contains(says), "{says}: {code:?} {}", running.said());
        assert!(!running.said().contains("the box holds"), "{}", running.said());
    }
    before.assert_gone(END, "after everything that stood still");
}

/// A box that was launched up to `step` and not up to its end. Then one of its containers stands still, or all that makes it does.
fn freeze(stage: &Stage<'_>, display: &Xvfb, name: &str, step: &str, container: Option<usize>) -> RunningBox {
    // What makes it goes on for a moment at a time; a launch that has gone too far in it does not count.
    let too_far = if container.is_some() { "Start(Tor)" } else { "Start(Browser)" };
    for _ in 0..20 {
        let running = stage.open(display, name, "about:blank");
        let inner = wait::retry(Duration::from_micros(100), soon(60), || running.part(Part::Inner)).unwrap();
        inner.send(Signal::STOP).unwrap();
        while !running.said().contains(step) {
            inner.send(Signal::CONT).unwrap();
            std::thread::sleep(Duration::from_micros(300));
            inner.send(Signal::STOP).unwrap();
        }
        if running.said().contains(too_far) {
            inner.send(Signal::CONT).unwrap();
            assert_eq!(running.interrupt().unwrap(), Some(0));
            continue;
        }
        if let Some(container) = container {
            let mut containers: Vec<_> = running.processes().unwrap().into_iter().filter(|process| process.parent() == Some(inner)).collect();
            containers.sort_by_key(|process| process.0);
            assert_eq!(containers.len(), 4, "{}", running.said());
            containers[container].send(Signal::STOP).unwrap();
            inner.send(Signal::CONT).unwrap();
        }
        return running;
    }
    panic!("{name}: the launch cannot be stopped at {step:?}");
}

/// The gate, and then all of a box with torbox itself, stand still as on a machine that sleeps: nothing gets out, and then the page comes.
pub(crate) fn standstill(stage: &Stage<'_>) {
    let sentinels = Sentinels::all(stage);
    for (whole, at, long) in [(false, "Start(Browser)", STANDSTILL), (true, "Start(Browser)", STANDSTILL), (true, "Confine", SLEEP)] {
        if long == SLEEP && stage.kind == Kind::Root {
            continue;
        }
        let display = Xvfb::start().unwrap();
        let log = stage.ground.net.web_log();
        let mark = log.mark();
        let url = &stage.ground.net.state().named_url;
        let mut running = stage.open(&display, "standstill", url);
        running.wait_until_said(at, soon(20)).unwrap();
        let own = ProcessId(running.child.id());
        let still = if whole { [vec![own], descendants(own).unwrap()].concat() } else { vec![running.part(Part::Gate).unwrap()] };
        still.iter().for_each(|process| process.send(Signal::STOP).unwrap());
        let came = log.wait_for(mark, Instant::now() + long, |_| true).unwrap();
        assert_eq!(came, None, "{}", running.said());
        still.iter().for_each(|process| process.send(Signal::CONT).unwrap());
        let came = || log.wait_for(mark, soon(40), |request| request.via == Via::Exit && request.path == "/").unwrap();
        // The circuit may have gone meanwhile, and with it the page, as after any sleep: it is asked for once more.
        let again = || stage.call(&["open", "--name", "standstill", url]);
        let request = came().or_else(|| (again().0 == Some(0)).then(came).flatten());
        let request = request.unwrap_or_else(|| panic!("the page did not come afterwards; torbox said last:\n{}", running.said_last()));
        assert!(stage.ground.net.exit_of(&request).is_some(), "{request:?}");
        sentinels.iter().for_each(|sentinels| sentinels.assert_no_hit("after a standstill"));
        assert_eq!(running.interrupt().unwrap(), Some(0));
    }
}

/// A display server that stands still before a box, while one is made and while one runs, and one that is killed.
pub(crate) fn display_servers(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let of_server = |name: &str| stage.open(&display, name, "about:blank");
    while_it_stands_still(stage, display.process(), &of_server);
    // The display has not connected yet.
    let before = stage.before(&["made"]);
    let mut running = freeze(stage, &display, "made", "Create(Gate)", None);
    display.process().send(Signal::STOP).unwrap();
    running.part(Part::Inner).unwrap().send(Signal::CONT).unwrap();
    let code = running.ended(soon(60)).unwrap();
    assert!(code.is_some_and(|code| code != 0) && running.said().contains("not ready within 20 s: display\n"), "{code:?} {}", running.said());
    display.process().send(Signal::CONT).unwrap();
    before.assert_gone(END, "after a server that stood still in the launch");
    let said = when_it_is_killed(stage, display.process(), &of_server);
    assert!(said.contains("display ended with code 1") && said.contains("hint: is the display server still there?"), "{said}");

    let compositor = Weston::start(stage.wayland_user()).unwrap();
    let of_compositor = |name: &str| {
        let mut command = stage.run_command_bare(name, "about:blank");
        command.env("WAYLAND_DISPLAY", compositor.socket());
        stage.start(command, name)
    };
    while_it_stands_still(stage, compositor.process(), &of_compositor);
    when_it_is_killed(stage, compositor.process(), &of_compositor);
}

fn while_it_stands_still(stage: &Stage<'_>, server: ProcessId, open: &dyn Fn(&str) -> RunningBox) {
    let before = stage.before(&["never", "shown"]);
    server.send(Signal::STOP).unwrap();
    let mut running = open("never");
    assert_eq!(running.ended(soon(30)).unwrap(), Some(4), "{}", running.said());
    assert!(running.said().contains("the display server does not answer within 10 s"), "{}", running.said());
    server.send(Signal::CONT).unwrap();
    let mut running = open("shown");
    running.wait_until_said("Confine", soon(40)).unwrap();
    server.send(Signal::STOP).unwrap();
    // Longer than anybody in the box waits for anybody.
    std::thread::sleep(STANDSTILL);
    assert_eq!(running.child.try_wait().unwrap(), None, "{}", running.said());
    assert_eq!(stage.call(&["stop", "shown"]).0, Some(0), "{}", running.said());
    assert_eq!(running.ended(Instant::now() + END).unwrap(), Some(0), "{}", running.said());
    server.send(Signal::CONT).unwrap();
    before.assert_gone(END, "after a server that stood still");
}

fn when_it_is_killed(stage: &Stage<'_>, server: ProcessId, open: &dyn Fn(&str) -> RunningBox) -> String {
    let before = stage.before(&["orphan"]);
    let mut running = open("orphan");
    running.wait_until_said("Confine", soon(40)).unwrap();
    running.part_soon(Part::Browser).unwrap();
    server.send(Signal::KILL).unwrap();
    let code = running.ended(soon(40)).unwrap();
    assert!(code.is_some_and(|code| code != 0), "{code:?} {}", running.said());
    before.assert_gone(END, "after a server was killed");
    running.said()
}
