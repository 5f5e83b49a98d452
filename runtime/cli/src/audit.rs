//! `torbox audit`: every attempt to get out of a box, as a table by guarantee.
//!
//! The attempts are made by the init of a box, in the browser's place; here they are only counted and shown.

use crate::args::{self, Compare};
use crate::control::{self, Claim, State};
use crate::dirs::Dirs;
use crate::display::Mode;
use crate::engine::Mark;
use crate::error::CliError;
use crate::images;
use crate::progress::Progress;
use crate::run::{Needs, Place, PreparedLaunch, request, watch};
use crate::system;
use crate::terminal::{say, tell};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::process::{Command, Stdio};
use torbox_plan::engine::given_up;
use torbox_plan::{Clipboard, Program, paths};

/// One attempt, as init reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    guarantee: String,
    tries: String,
    verdict: Verdict,
    found: String,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Held,
    NotHeld,
    Unavailable,
}

/// What each guarantee says, in a few words; SECURITY.md has all of them.
const GUARANTEES: [(&str, &str); 10] = [
    ("G1", "no network but loopback"),
    ("G2", "AF_UNIX sockets alone, few system calls"),
    ("G3", "the gate and the display, nothing else to talk to"),
    ("G4", "the gate grants streams, nothing more"),
    ("G5", "nothing learnt from tor"),
    ("G6", "nothing of the host"),
    ("G7", "nothing to write to, run or drive"),
    ("G8", "no privilege, nothing shared"),
    ("G9", "the browser's own sandbox works"),
    ("G11", "ends with its runtime"),
];

/// How a box is shown.
struct Shown {
    /// As `--display` takes it.
    display: String,
    /// What that leaves open, if anything.
    leaves_open: Option<String>,
}

impl Shown {
    fn of(mode: Mode, clipboard: Clipboard) -> Self {
        Self { display: mode.name().to_owned(), leaves_open: mode.leaves_open(clipboard) }
    }
}

/// Audits a box that runs, or a fresh one; an error if anything is open.
pub(crate) fn audit(dirs: &Dirs, args: &args::Audit) -> Result<(), CliError> {
    // First: what has launched a box can start nothing else.
    let theirs = args.compare.map(|Compare::PodmanRun| in_podman(dirs, &args.of)).transpose()?;
    let (rows, shown) = match in_running_box(dirs, &args.of)? {
        Some(audited) => audited,
        None => in_fresh_box(dirs, &args.of)?,
    };
    let open = rows.iter().filter(|row| row.verdict == Verdict::NotHeld).count();
    let text = match theirs {
        Some(theirs) => side_by_side(&rows, "podman run", &theirs),
        None if args.json => json(&rows, &shown)?,
        None => table(&rows, &shown),
    };
    if args.json { println!("{text}") } else { tell(&text, 4) }
    if open == 0 { Ok(()) } else { Err(CliError::Open(open)) }
}

/// Beside the browser of the box of that name; `None` if it does not run.
fn in_running_box(dirs: &Dirs, of: &args::Box) -> Result<Option<(Vec<Row>, Shown)>, CliError> {
    let Some(answer) = control::ask(dirs, &of.name, "status")? else { return Ok(None) };
    let in_engine = Mark::of(dirs, &of.name)?.is_some();
    let State { display, leaves_open, .. } = serde_json::from_str(&answer).map_err(|_| CliError::NoAnswer)?;
    say(&format!("torbox: box {} runs: the attempts are made beside its browser, and say nothing against one that was taken over before", of.name));
    let lines = control::audit(dirs, &of.name)?.ok_or_else(|| CliError::NotRunning(of.name.clone()))?;
    read(&lines).map(|rows| Some((judge(rows, in_engine), Shown { display, leaves_open })))
}

fn in_fresh_box(dirs: &Dirs, of: &args::Box) -> Result<(Vec<Row>, Shown), CliError> {
    let claim = Claim::take(dirs, &of.name)?;
    let mut lines = Vec::new();
    let mut keep = |line: &str| lines.push(line.to_owned());
    let (mut mode, mut in_engine) = (Mode::None, false);
    let ended = Place::of(of, Needs::Nothing, &dirs.display(&of.name)?)
        .and_then(|place| request(dirs, of, Program::Audit, place))
        .inspect(|request| (mode, in_engine) = (request.mode, matches!(request.launch, PreparedLaunch::Engine(_))))
        .and_then(|request| watch(&claim, request, of.verbose, &mut keep));
    claim.release()?;
    match ended? {
        Some(0) => read(&lines).map(|rows| (judge(rows, in_engine), Shown::of(mode, of.clipboard.into()))),
        Some(code) => Err(CliError::Browser(code)),
        None => Err(CliError::Killed),
    }
}

/// What no engine gives cannot be had there, and says why.
fn judge(mut rows: Vec<Row>, in_engine: bool) -> Vec<Row> {
    for row in rows.iter_mut().filter(|row| in_engine && row.verdict == Verdict::NotHeld) {
        if let Some(why) = given_up(&row.id, &row.found) {
            row.verdict = Verdict::Unavailable;
            why.clone_into(&mut row.found);
        }
    }
    rows
}

/// A container as podman makes it by itself. The limits alone are named: podman's own are above what some callers may set.
const PODMAN_RUN: [&str; 7] = ["run", "--rm", "--interactive", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"];

/// The same program in podman's container, on the same root, of which it sees a copy.
fn in_podman(dirs: &Dirs, of: &args::Box) -> Result<Vec<Row>, CliError> {
    system::linux_alone("--compare", "leave it out")?;
    let mut progress = Progress::new();
    let roots = images::provide(dirs, of.browser, &of.sources, &mut progress)?.roots(&mut progress)?;
    progress.end();
    let root = format!("{}:O", roots.browser.path().display());
    let init = paths::INIT.as_str();
    let mut podman = Command::new("podman");
    podman.args(PODMAN_RUN).args(["--rootfs", &root, init, "run", "--", init, "audit", "--boxed"]);
    podman.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |source| CliError::System("run podman", source);
    let mut child = podman.spawn().map_err(failed)?;
    // Init's lifeline: waiting would close it.
    let _lifeline = child.stdin.take();
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Err(failed(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())));
    }
    read(&String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>())
}

/// What a program is told of an audit.
#[derive(Serialize)]
struct Told<'a> {
    display: &'a str,
    leaves_open: Option<&'a str>,
    attempts: &'a [Row],
}

fn json(attempts: &[Row], shown: &Shown) -> Result<String, CliError> {
    let told = Told { display: &shown.display, leaves_open: shown.leaves_open.as_deref(), attempts };
    serde_json::to_string(&told).map_err(|error| CliError::System("print the audit", error.into()))
}

/// What is open in a box and in `other`.
fn side_by_side(ours: &[Row], other: &str, theirs: &[Row]) -> String {
    let open = |rows: &[Row], guarantee| rows.iter().filter(|row| row.guarantee == guarantee && row.verdict == Verdict::NotHeld).count();
    let mut text = format!("open:  torbox  {other}  of\n");
    for (guarantee, says) in GUARANTEES {
        let all = ours.iter().filter(|row| row.guarantee == guarantee).count();
        writeln!(text, "{guarantee:<4} {:>8} {:>11} {all:>3}  {says}", open(ours, guarantee), open(theirs, guarantee)).ok();
    }
    for (name, rows) in [("torbox", ours), (other, theirs)] {
        for (guarantee, ids) in open_ids(rows) {
            writeln!(text, "open in {name}, {guarantee}: {}", ids.join(", ")).ok();
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// The attempts that succeeded, by guarantee.
fn open_ids(rows: &[Row]) -> BTreeMap<&str, Vec<&str>> {
    let mut open: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.verdict == Verdict::NotHeld) {
        open.entry(row.guarantee.as_str()).or_default().push(&row.id);
    }
    open
}

/// An audit that made no attempt has shown nothing.
fn read(lines: &[String]) -> Result<Vec<Row>, CliError> {
    let rows: Result<Vec<Row>, _> = lines.iter().map(|line| serde_json::from_str(line)).collect();
    match rows {
        Ok(rows) if !rows.is_empty() => Ok(rows),
        _ => Err(CliError::NoAnswer),
    }
}

fn table(rows: &[Row], shown: &Shown) -> String {
    let mut text = String::from("      held  open  not to be had here\n");
    for (guarantee, says) in GUARANTEES {
        let count = |verdict| rows.iter().filter(|row| row.guarantee == guarantee && row.verdict == verdict).count();
        let [held, open, unavailable] = [Verdict::Held, Verdict::NotHeld, Verdict::Unavailable].map(count);
        writeln!(text, "{guarantee:<4} {held:>5} {open:>5} {unavailable:>5}  {says}").ok();
    }
    for row in rows.iter().filter(|row| row.verdict == Verdict::NotHeld) {
        writeln!(text, "OPEN {} {}: could {}: {}", row.guarantee, row.id, row.tries, row.found).ok();
    }
    for ((guarantee, why), ids) in unavailable(rows) {
        writeln!(text, "not here, {guarantee}: {}: {why}", ids.join(", ")).ok();
    }
    if let Some(open) = &shown.leaves_open {
        writeln!(text, "not closed by display {}: {open}", shown.display).ok();
    }
    let tried = rows.iter().filter(|row| row.verdict != Verdict::Unavailable);
    match tried.clone().filter(|row| row.verdict == Verdict::NotHeld).count() {
        0 => write!(text, "none of {} attempts succeeded", tried.count()).ok(),
        open => write!(text, "{open} of {} attempts succeeded", tried.count()).ok(),
    };
    text
}

/// What could not be tried, by guarantee and reason.
fn unavailable(rows: &[Row]) -> BTreeMap<(&str, &str), Vec<&str>> {
    let mut reasons: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.verdict == Verdict::Unavailable) {
        reasons.entry((row.guarantee.as_str(), row.found.as_str())).or_default().push(&row.id);
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 3] = [
        r#"{"id":"a","guarantee":"G1","tries":"find a","verdict":"held","found":"none"}"#,
        r#"{"id":"b","guarantee":"G1","tries":"find b","verdict":"not-held","found":"eth0"}"#,
        r#"{"id":"c","guarantee":"G5","tries":"ask c","verdict":"unavailable","found":"no gate"}"#,
    ];

    #[test]
    fn what_is_open_and_what_was_not_tried_is_said() {
        let rows = read(&LINES.map(str::to_owned)).unwrap();
        let table = table(&rows, &Shown::of(Mode::X11Trusted, Clipboard::Both));
        assert!(table.contains("G1       1     1     0  no network"), "{table}");
        assert!(table.contains("OPEN G1 b: could find b: eth0") && table.contains("not here, G5: c: no gate\nnot closed by display x11-trusted: the browser can read every key"), "{table}");
        assert!(table.ends_with("\n1 of 2 attempts succeeded"), "{table}");
    }

    #[test]
    fn a_program_is_told_how_the_box_was_shown() {
        let rows = read(&[LINES[0].to_owned()]).unwrap();
        let told: serde_json::Value = serde_json::from_str(&json(&rows, &Shown::of(Mode::X11Trusted, Clipboard::Both)).unwrap()).unwrap();
        assert_eq!((&told["display"], &told["attempts"][0]["id"]), (&"x11-trusted".into(), &"a".into()));
        assert!(told["leaves_open"].as_str().unwrap().contains("every key"), "{told}");
        assert!(json(&rows, &Shown::of(Mode::None, Clipboard::Both)).unwrap().starts_with(r#"{"display":"none","leaves_open":null,"#));
    }

    #[test]
    fn two_audits_are_shown_side_by_side() {
        let [held, open, _] = LINES.map(|line| read(&[line.to_owned()]).unwrap().remove(0));
        let text = side_by_side(std::slice::from_ref(&held), "podman run", &[held.clone(), open]);
        assert!(text.contains("G1          0           1   1  no network"), "{text}");
        assert!(text.ends_with("open in podman run, G1: b"), "{text}");
    }

    #[test]
    fn an_engine_gives_up_what_it_says_and_nothing_else() {
        let row = |id: &str, found: &str| read(&[LINES[1].replace("\"b\"", &format!("\"{id}\"")).replace("eth0", found)]).unwrap();
        let verdict = |id, found, in_engine| judge(row(id, found), in_engine)[0].verdict;
        assert_eq!(verdict("namespace.time", "x", true), Verdict::Unavailable);
        assert_eq!(verdict("namespace.time", "x", false), Verdict::NotHeld);
        assert_eq!(verdict("device.others", "/dev/pts/ptmx", true), Verdict::Unavailable);
        assert_eq!(verdict("device.others", "/dev/pts/ptmx, /dev/sda", true), Verdict::NotHeld);
        assert_eq!(verdict("net.routes", "x", true), Verdict::NotHeld);
    }

    #[test]
    fn an_audit_that_tried_nothing_or_cannot_be_read_is_an_error() {
        assert!(read(&[]).is_err());
        assert!(read(&["torbox".to_owned()]).is_err());
        assert!(read(&[LINES[0].replace("held", "perhaps")]).is_err());
    }
}
