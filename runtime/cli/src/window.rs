//! `--window`: the same call without the flag, and what it says in a window: for starts without a terminal.
//!
//! The windows are those of a program that the desktop has. It is given torbox's own messages alone, as plain text.

use crate::error::CliError;
use crate::system;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};

/// Of what a call said, how many lines an error window shows.
const LINES: usize = 12;
/// The flag, which the inner call goes without.
const FLAG: &str = "--window";
/// The line after which the browser shows itself.
const UP: &str = "torbox: the box holds";

/// How the line begins that says why a box does not connect. The next one has the hint.
const STALLED: &str = "torbox: not connected yet";
/// The line after which that is past.
const CONNECTED: &str = "torbox: connected to the Tor network";

/// Programs that show an error, and the words before its text; the first that is there is taken.
const ERRORS: [(&str, &[&str]); 4] = [
    ("zenity", &["--error", "--title=torbox", "--no-markup", "--width=480", "--text"]),
    ("kdialog", &["--title", "torbox", "--error"]),
    ("xmessage", &["-title", "torbox", "-center"]),
    ("notify-send", &["--app-name=torbox", "--urgency=critical", "torbox"]),
];
/// The same for what may still come right by itself.
const WARNINGS: [(&str, &[&str]); 4] = [
    ("zenity", &["--warning", "--title=torbox", "--no-markup", "--width=480", "--text"]),
    ("kdialog", &["--title", "torbox", "--sorry"]),
    ("xmessage", &["-title", "torbox", "-center"]),
    ("notify-send", &["--app-name=torbox", "torbox"]),
];
/// The same for what a call has found.
const RESULTS: [(&str, &[&str]); 3] =
    [("zenity", &["--info", "--title=torbox", "--no-markup", "--width=640", "--text"]), ("kdialog", &["--title", "torbox", "--msgbox"]), ("xmessage", &["-title", "torbox", "-center"])];
/// The program that shows progress, and its words. It reads `# text` from standard input (zenity(1)).
const PROGRESS: (&str, &[&str]) = ("zenity", &["--progress", "--pulsate", "--no-cancel", "--auto-close", "--title=torbox", "--text=torbox", "--width=420"]);

/// What a call makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A window of its own.
    Window,
    /// A text on standard output.
    Text,
}

/// Calls torbox again with the words of this call; the code is that call's.
pub(crate) fn run(outcome: Outcome) -> Result<ExitCode, CliError> {
    system::linux_alone("--window", "leave it out: messages come in the terminal")?;
    let program = system::program().map_err(|error| CliError::System("call torbox", error))?;
    let words = std::env::args_os().skip(1).filter(|word| word != OsStr::new(FLAG));
    let call = Command::new(program).args(words).stdin(Stdio::null()).stdout(if outcome == Outcome::Text { Stdio::piped() } else { Stdio::inherit() }).stderr(Stdio::piped()).spawn();
    let mut call = call.map_err(|error| CliError::System("call torbox", error))?;
    let last = follow(&mut call);
    let done = call.wait_with_output().map_err(|error| CliError::System("wait for torbox", error))?;
    let (status, found) = (done.status, String::from_utf8_lossy(&done.stdout));
    if !found.is_empty() {
        show(&RESULTS, found.trim_end());
    } else if !status.success() {
        show(&ERRORS, &end_of(&last));
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Passes on what the call says, shows it as progress until the browser is up, warns while it does not connect, and returns the last of it.
fn follow(call: &mut Child) -> Vec<String> {
    let mut progress = Progress::start();
    let mut warning = None;
    let mut last: VecDeque<String> = VecDeque::new();
    for line in call.stderr.take().into_iter().flat_map(|said| BufReader::new(said).lines().map_while(Result::ok)) {
        writeln!(std::io::stderr(), "{line}").ok();
        progress = progress.filter(|_| !line.starts_with(UP)).and_then(|progress| progress.say(&line));
        if let Some(stalled) = last.back().filter(|before| before.starts_with(STALLED)) {
            warning = Warning::show(&format!("{stalled}\n{line}"));
        }
        warning = warning.filter(|_| line != CONNECTED);
        if last.len() == LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last.into()
}

/// A window with what is being done. When it is dropped its input ends, and it closes.
struct Progress {
    window: Child,
}

impl Progress {
    /// `None` where no program shows it: it is no reason not to start.
    fn start() -> Option<Self> {
        let (program, words) = PROGRESS;
        let window = Command::new(program).args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Some(Self { window: window.ok()? })
    }

    /// `None` once the window is gone.
    fn say(mut self, line: &str) -> Option<Self> {
        let text = plain(line.strip_prefix("torbox: ").unwrap_or(line));
        writeln!(self.window.stdin.as_mut()?, "# {text}").ok()?;
        Some(self)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.window.stdin.take());
        self.window.wait().ok();
    }
}

/// A window that nobody waits for, and that goes when it is dropped.
struct Warning {
    window: Child,
}

impl Warning {
    fn show(text: &str) -> Option<Self> {
        let window = |(program, words): &(&str, &[&str])| Command::new(program).args(*words).arg(text).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok();
        WARNINGS.iter().find_map(window).map(|window| Self { window })
    }
}

impl Drop for Warning {
    fn drop(&mut self) {
        self.window.kill().ok();
        self.window.wait().ok();
    }
}

/// What a progress text may hold: it is read as markup.
fn plain(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() && !"<>&".contains(*c)).collect()
}

/// The end of what was said: from the error on, where it stands in it.
fn end_of(last: &[String]) -> String {
    let error = last.iter().rposition(|line| line.starts_with("torbox: ")).unwrap_or(0);
    last.get(error..).unwrap_or_default().join("\n")
}

fn show(programs: &[(&str, &[&str])], text: &str) {
    for (program, words) in programs {
        if Command::new(program).args(*words).arg(text).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_no_markup() {
        assert_eq!(plain("50% of <b>132</b> MiB & more\x1b[K"), "50% of b132/b MiB  more[K");
    }
}
