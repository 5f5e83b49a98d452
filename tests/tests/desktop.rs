//! What torbox gives to a desktop and to a shell, judged by the programs that read it, and errors where there is no terminal.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use torbox_tests::boxed::{Installed, Who};
use torbox_tests::display::Xvfb;
use torbox_tests::process::{self, ProcessId};
use torbox_tests::{require, wait};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt, MapState};

/// torbox with its files in a directory of its own.
struct Desk {
    dir: TempDir,
    installed: Installed<'static>,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let installed = Installed::new(Who::Root, &dir.path().join("torbox")).unwrap();
        Self { dir, installed }
    }

    fn share(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    /// What `torbox` with these words prints.
    fn prints(&self, words: &[&str]) -> String {
        printed(&mut self.installed.command(None, words))
    }

    /// `torbox desktop VERB --share ...`.
    fn desktop(&self, verb: &str, more: &[&str]) -> String {
        self.prints(&[&["desktop", verb, "--share", self.share().to_str().unwrap()], more].concat())
    }
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn printed(command: &mut Command) -> String {
    let done = run(command);
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Every word that `judge` says of `file`.
fn judged(judge: &mut Command, file: &Path) -> String {
    let done = run(judge.arg(file));
    let said = [done.stdout, done.stderr].concat();
    format!("{}{}", if done.status.success() { "" } else { "refused\n" }, String::from_utf8_lossy(&said))
}

fn files(below: &Path) -> Vec<PathBuf> {
    let found = printed(Command::new("find").arg(below).args(["-type", "f"]));
    found.lines().map(PathBuf::from).collect()
}

#[test]
fn the_entry_and_its_metadata_are_valid() {
    require!("root", "desktop-file-validate", "appstreamcli");
    let desk = Desk::new();
    let default = PathBuf::from(desk.desktop("install", &[]).trim_end());
    let named = PathBuf::from(desk.desktop("install", &["--", "--name", "work", "--browser", "firefox-esr", "--torrc", "a file"]).trim_end());
    for entry in [&default, &named] {
        assert_eq!(judged(&mut Command::new("desktop-file-validate"), entry), "", "{}", fs::read_to_string(entry).unwrap());
    }
    assert!(fs::read_to_string(&named).unwrap().contains("\nName=Firefox ESR in a box, NOT ANONYMOUS (work)\n"));
    let metainfo = desk.share().join("metainfo/dev.torbox.Torbox.metainfo.xml");
    let said = judged(Command::new("appstreamcli").args(["validate", "--no-net"]), &metainfo);
    assert!(!said.starts_with("refused"), "{said}");

    // The judge sees an error where there is one.
    let text = fs::read_to_string(&default).unwrap();
    fs::write(&default, text.replace("Terminal=false", "Terminal=maybe")).unwrap();
    assert!(judged(&mut Command::new("desktop-file-validate"), &default).starts_with("refused"));

    desk.desktop("remove", &["work"]);
    assert!(default.exists() && !named.exists());
    desk.desktop("remove", &[]);
    assert_eq!(files(&desk.share()), Vec::<PathBuf>::new());
}

#[test]
fn completions_are_taken_by_the_shells() {
    require!("root", "bash", "zsh", "fish");
    let desk = Desk::new();
    let file = |name: &str, shell: &str| {
        let path = desk.dir.path().join(name);
        fs::write(&path, desk.prints(&["completions", shell])).unwrap();
        path.display().to_string()
    };
    let bash = format!("source {}; COMP_WORDS=(torbox desk); COMP_CWORD=1; _torbox torbox desk torbox; echo ${{COMPREPLY[@]}}", file("bash", "bash"));
    assert_eq!(printed(Command::new("bash").args(["--norc", "-c", &bash])), "desktop\n");
    let fish = format!("source {}; complete -C'torbox desk'", file("fish", "fish"));
    let offered = printed(Command::new("fish").env("HOME", desk.dir.path()).args(["--no-config", "-c", &fish]));
    assert!(offered.starts_with("desktop\t"), "{offered}");
    file("_torbox", "zsh");
    let zsh = format!("fpath=({} $fpath); autoload -U compinit; compinit -u -D; echo $_comps[torbox]; _torbox 2>&1 | head -n1", desk.dir.path().display());
    let loaded = printed(Command::new("zsh").env("HOME", desk.dir.path()).args(["-f", "-c", &zsh]));
    assert!(loaded.starts_with("_torbox\n") && !loaded.contains("parse error"), "{loaded}");
}

#[test]
fn manual_pages_have_no_warnings() {
    require!("root", "man");
    let desk = Desk::new();
    let dir = desk.dir.path().join("man");
    desk.prints(&["man", dir.to_str().unwrap()]);
    let pages = files(&dir);
    assert!(pages.iter().any(|page| page.ends_with("torbox-run.1")) && pages.len() > 10, "{pages:?}");
    let warnings = |page: &Path| {
        let done = run(Command::new("man").env("MANWIDTH", "100").args(["--warnings=w", "-l"]).arg(page));
        assert!(done.status.success() && !done.stdout.is_empty(), "{}", page.display());
        String::from_utf8(done.stderr).unwrap()
    };
    for page in &pages {
        assert_eq!(warnings(page), "", "{}", page.display());
    }
    let broken = desk.dir.path().join("broken.1");
    fs::write(&broken, ".TH broken 1\n.SH NAME\n.nosuchmacro\nbroken\n").unwrap();
    assert_ne!(warnings(&broken), "");
}

/// A call that fails where nobody reads standard error: the error and its hint are the text of a window.
#[test]
fn an_error_without_a_terminal_is_shown_in_a_window() {
    require!("root", "Xvfb", "xmessage");
    for program in ["xmessage", "zenity"] {
        if require::program(program).is_some() {
            shows_the_error_with(program);
        }
    }
}

fn shows_the_error_with(program: &str) {
    let desk = Desk::new();
    let display = Xvfb::start().unwrap();
    // Of all programs that show errors this one alone is found.
    let path = desk.dir.path().join("path");
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::symlink(require::program(program).unwrap(), path.join(program)).unwrap();
    let mut command = desk.installed.command_on(&display, None, ["run", "--window", "--display", "wayland"]).unwrap();
    let mut call = command.env("PATH", &path).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let soon = Instant::now() + Duration::from_secs(20);
    let shown = wait::retry(Duration::from_millis(50), soon, || shows_a_window(&display).then_some(()));
    let window = wait::retry(Duration::from_millis(50), soon, || error_window(call.id(), program));
    window.inspect(|window| process::end(&[*window], Duration::from_secs(5)).unwrap());
    let status = wait::retry(Duration::from_millis(20), soon, || call.try_wait().transpose());
    assert!(shown.is_some(), "{program}: no window");
    assert!(window.is_some(), "{program}: no window with the error");
    assert_eq!(status.expect("it ends").unwrap().code(), Some(4), "{program}");
}

fn shows_a_window(display: &Xvfb) -> bool {
    let connection = display.connect().unwrap();
    let windows = connection.query_tree(connection.setup().roots[0].root).unwrap().reply().unwrap().children;
    let state = |window| Some(connection.get_window_attributes(window).ok()?.reply().ok()?.map_state);
    windows.into_iter().any(|window| state(window) == Some(MapState::VIEWABLE))
}

/// The program below `call` that has the error and the hint as its text.
fn error_window(call: u32, program: &str) -> Option<ProcessId> {
    let below = process::descendants(ProcessId(call)).ok()?;
    below.into_iter().find(|process| {
        let line = process.command_line();
        line.contains(program) && line.contains("torbox: there is no display") && line.contains("hint: ")
    })
}
