//! What somebody sees of a box that comes up, of one that does not get on, and of what there is to ask about it. The golden files are read like code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use torbox_tests::boxed::RunningBox;
use torbox_tests::display::Xvfb;
use torbox_tests::screen::{check, on_terminal, shown, without_numbers};

use crate::ground::{Stage, outcome, soon};

/// The box's name.
const NAME: &str = "default";
const PATIENCE: u64 = 120;

/// In a pipe, then on a terminal.
pub(crate) fn golden(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let screens = Screens { stage, display: &display };
    // Whoever has unpacked the images reads of that once.
    screens.once("audit", || screens.command("audit", stage.torrc(), &["--display", "none"]));
    screens.of_a_box("run", stage.torrc(), "connected to the Tor network", "status");
    let nowhere = stage.installed.dir().join("nowhere.torrc");
    fs::write(&nowhere, stage.torrc_of_nowhere()).unwrap();
    fs::set_permissions(&nowhere, fs::Permissions::from_mode(0o644)).unwrap();
    // With a consensus of before tor finds relays by itself.
    stage.installed.forget_state().unwrap();
    screens.of_a_box("run-that-stalls", &nowhere, "not connected yet", "status-that-stalls");
}

struct Screens<'a> {
    stage: &'a Stage<'a>,
    display: &'a Xvfb,
}

impl Screens<'_> {
    fn command(&self, verb: &str, torrc: &Path, more: &[&str]) -> Command {
        self.stage.quiet_command(self.display, verb, NAME, torrc, more)
    }

    /// A call that ends by itself.
    fn once(&self, name: &str, command: impl Fn() -> Command) {
        let both = [command(), on_terminal(&command())].map(|mut command| {
            let (code, out, said) = outcome(&mut command);
            assert_eq!(code, Some(0), "{out}{said}");
            self.plain(&(said + &out))
        });
        // An audit does not wait for tor, and may be done before it.
        let [piped, terminal] = [both[0].clone(), shown(&both[1])].map(|text| text.replace("torbox: connected to the Tor network\n", ""));
        self.check(name, &command(), &piped, &terminal);
    }

    /// A box that says `until`, and how `torbox status` tells of it.
    fn of_a_box(&self, name: &str, torrc: &Path, until: &str, status: &str) {
        let command = || self.command("run", torrc, &["about:blank"]);
        let said = [command(), on_terminal(&command())].map(|command| {
            let mut running: RunningBox = self.stage.start(command, "screen");
            running.wait_until_said("the box holds", soon(PATIENCE)).unwrap();
            running.wait_until_said(until, soon(PATIENCE)).unwrap();
            self.once(status, || self.stage.installed.command(None, ["status"]));
            assert_eq!(self.stage.call(&["stop"]), (Some(0), String::new(), String::new()));
            running.ended(soon(10)).unwrap();
            self.plain(&running.said())
        });
        self.check(name, &command(), &said[0], &shown(&said[1]));
    }

    /// Without what is another's elsewhere.
    fn plain(&self, text: &str) -> String {
        let dir = self.stage.installed.dir().display().to_string();
        text.split_inclusive('\n').filter(|line| !line.contains("torbox: unpacking ")).map(counts).collect::<String>().replace(&dir, "/home/user/torbox")
    }

    fn check(&self, name: &str, command: &Command, piped: &str, terminal: &str) {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).skip_while(|word| word != "--dir").skip(2).collect();
        let words = words.join(" ").replace(&format!("{}/", self.stage.installed.dir().display()), "").replace(&format!(" --name {NAME}"), "");
        let same = |text: &str| versions(&without_numbers(text, &["attempts", "ms"], &["process"]));
        check(name, &words, &same(piped), &same(terminal)).unwrap();
    }
}

/// The stand-in's version is that of the day.
fn versions(text: &str) -> String {
    text.split("firefox-esr ").enumerate().map(|(at, part)| if at == 0 { part.to_owned() } else { format!("firefox-esr VERSION{}", part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')) }).collect()
}

/// A line of an audit's table without how much was tried, which is another kernel's elsewhere. What succeeded stays.
fn counts(line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    match words.as_slice() {
        [guarantee, held, open, unavailable, says @ ..] if guarantee.starts_with('G') && [held, open, unavailable].iter().all(|word| word.parse::<u16>().is_ok()) => {
            let end = if line.ends_with("\r\n") { "\r\n" } else { "\n" };
            format!("{guarantee:<4} {:>5} {open:>5} {:>5}  {}{end}", "N", "N", says.join(" "))
        }
        _ => line.to_owned(),
    }
}
