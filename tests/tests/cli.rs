//! What torbox says when it cannot do what it was asked for: the exit code, the thing's name, what to do about it, and that nothing
//! is left behind. Every case runs the real program against the real obstacle.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::ffi::OsString;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use torbox_tests::boxed::{Installed, Who, kept_dir};
use torbox_tests::display::Xvfb;
use torbox_tests::process::{self, ProcessId};
use torbox_tests::testnet::Namespace;
use torbox_tests::testnet::daemon::stop;
use torbox_tests::user::TestUser;
use torbox_tests::{lock, require, screen, wait};

/// How long one call may take; unpacking both images is the longest.
const BOUND: Duration = Duration::from_secs(120);
/// The discard port of this machine, on which nothing listens.
const NO_MIRROR: &str = "http://127.0.0.1:9/debian";

/// What a call said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `command` to its end, which must come in time.
fn finish(mut command: Command) -> Said {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = ProcessId(child.id());
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(done) = receive.recv_timeout(BOUND) else {
        process::end(&[id], Duration::from_secs(1)).unwrap();
        panic!("{command:?} did not end in {BOUND:?}");
    };
    let done = done.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
}

/// How a call must fail.
struct Refusal<'a> {
    code: i32,
    /// What standard error must name.
    names: &'a [&'a str],
    /// What the hint must say; empty where nothing can be advised.
    hint: &'a str,
}

impl Refusal<'_> {
    /// Fails unless `command` is refused in exactly this way and leaves nothing in the runtime directory of `installed`.
    fn of(&self, what: &str, installed: &Installed<'_>, command: Command) {
        let Said { code, out, err } = finish(command);
        assert_eq!(code, Some(self.code), "{what}: {err}");
        assert_eq!(out, "", "{what}: standard output is for data");
        self.names.iter().for_each(|name| assert!(err.contains(name), "{what}: {name:?} is not in:\n{err}"));
        let hint = err.split_once("\n\nhint: ").map_or("", |(_, hint)| hint);
        assert_eq!(hint.is_empty(), self.hint.is_empty(), "{what}: {err}");
        assert!(hint.contains(self.hint), "{what}: {:?} is not the hint in:\n{err}", self.hint);
        assert_eq!(left(installed.dir()), Vec::<PathBuf>::new(), "{what}: left behind");
    }
}

/// What is on a terminal of 80 columns, and the same in a pipe: golden files, to be read as a user reads them.
#[test]
fn screens_are_the_golden_ones() {
    require!("script");
    let base = tempfile::tempdir().unwrap();
    let torbox = install(&base);
    fs::create_dir(torbox.dir().join("config")).unwrap();
    fs::write(torbox.dir().join("config/config.toml"), "backend = \"native\"\n").unwrap();
    fs::create_dir(torbox.dir().join("config/profiles")).unwrap();
    fs::write(torbox.dir().join("config/profiles/theirs.toml"), "display = \"x11-trusted\"\nproxy = \"socks5://me:secret@192.0.2.1:1080\"\n").unwrap();
    let archive = torbox.dir().join("theirs.tar");
    for words in [&["profile", "create", "theirs"][..], &["profile", "export", "theirs", archive.to_str().unwrap()], &["profile", "remove", "theirs"]] {
        assert_eq!(finish(torbox.command(None, words)).code, Some(0), "{words:?}");
    }
    let screens: [(&str, &[&str]); 7] = [
        ("status-of-nothing", &["status"]),
        ("settings", &["config", "show"]),
        ("error-no-box", &["open", "https://example.org/"]),
        ("error-no-display", &["run"]),
        ("error-no-profile", &["audit", "--display", "none", "--profile", "work"]),
        ("error-foreign-settings", &["profile", "import", "work", archive.to_str().unwrap()]),
        ("error-no-bridge", &["bridge", "add", "webtunnel", "192.0.2.7:443", "url=https://a.example/"]),
    ];
    for (name, words) in screens {
        let plain = |Said { out, err, .. }: Said| (out + &err).replace(&torbox.dir().display().to_string(), "/home/user/torbox");
        let piped = plain(finish(torbox.command(None, words)));
        let shown = screen::shown(&plain(finish(screen::on_terminal(&torbox.command(None, words)))));
        screen::check(name, &words.join(" ").replace(&torbox.dir().display().to_string(), "/home/user/torbox"), &piped, &shown).unwrap();
    }
}

/// Bridges that are not the user's yet: what is wrong is said before anything is started, and nothing is added.
#[test]
fn bridges_to_be_had_are_refused_by_what_is_wrong() {
    let base = tempfile::tempdir().unwrap();
    let torbox = install(&base);
    let refuses = |code, names: &[&str], hint: &str, args: &[&str]| Refusal { code, names, hint }.of(&format!("{args:?}"), &torbox, torbox.command(None, args));
    refuses(5, &["the image torbox/tor-browser is not built yet"], "torbox build", &["bridge", "builtin"]);
    refuses(5, &["the image torbox/firefox-esr is not built yet"], "torbox build", &["bridge", "builtin", "obfs4", "--add", "--browser", "firefox-esr"]);
    refuses(2, &["no program in torbox's images speaks the pluggable transport webtunnel"], "obfs4, snowflake or meek", &["bridge", "request", "--transport", "webtunnel"]);
    refuses(2, &["through an engine torbox asks nobody for bridges"], "--backend native", &["bridge", "request", "--backend", "docker"]);
    for (args, told) in [
        (&["bridge", "builtin", "--add"][..], "<TRANSPORT>"),
        (&["bridge", "request", "--country", "germany"], "a country has two letters"),
        (&["bridge", "request", "--service", "http://moat.test"], "a service has an address with https"),
        (&["bridge", "request", "--service-root", "root.crt"], "--service"),
    ] {
        let said = finish(torbox.command(None, args));
        assert!(said.code == Some(2) && said.out.is_empty() && said.err.contains(told), "{args:?}: {}", said.err);
    }
    let meek = ["bridge", "add", "meek_lite", "192.0.2.20:80", "url=http://meek.example/", "front=front.example"];
    refuses(2, &["its fingerprint or url=https://..., or anybody could answer in its place"], "obfs4, snowflake or meek", &meek);
    let add = |text: &str| process::output_with(&mut torbox.command(None, ["bridge", "add", "-"]), text.as_bytes());
    assert!(add("192.0.2.7:443\nLog debug file /x\n").unwrap_err().to_string().contains("no bridge that torbox can use"));
    assert_eq!(finish(torbox.command(None, ["bridge", "list"])).out, "", "all lines or none");
    add("\n192.0.2.7:443\n192.0.2.8:443\n192.0.2.7:443\n").unwrap();
    add("").unwrap();
    assert_eq!(finish(torbox.command(None, ["bridge", "list"])).out, "1  192.0.2.7:443\n2  192.0.2.8:443\n");
}

/// The file, the variables and the flags; a wrong one names its place, and what would be right.
#[test]
fn settings_are_checked_and_the_stronger_wins() {
    let base = tempfile::tempdir().unwrap();
    let torbox = install(&base);
    let file = torbox.dir().join("config/config.toml");
    fs::create_dir(file.parent().unwrap()).unwrap();
    let set = |text: &str| fs::write(&file, text).unwrap();
    let refuses = |code, names: &[&str], hint: &str, args: &[&str]| Refusal { code, names, hint }.of(&format!("{args:?}"), &torbox, torbox.command(None, args));
    set(&format!("mirror = [\"{NO_MIRROR}\"]\n"));
    refuses(5, &["cannot fetch http://127.0.0.1:9/debian/"], "--mirror", &["build"]);
    refuses(5, &["http://127.0.0.1:7/debian/"], "--mirror", &["build", "--mirror", "http://127.0.0.1:7/debian"]);
    let mut of_variable = torbox.command(None, ["build"]);
    of_variable.env("TORBOX_MIRROR", "http://127.0.0.1:5/debian");
    Refusal { code: 5, names: &["http://127.0.0.1:5/debian/"], hint: "--mirror" }.of("a variable", &torbox, of_variable);
    set("mirror = [\"ftp://mirror.example/debian\"]\n");
    refuses(2, &["config.toml", "ftp://mirror.example/debian"], "begins with http:// or https://", &["build"]);
    set("displya = \"auto\"\n");
    refuses(2, &["config.toml", "displya"], "did you mean display?", &["config", "check"]);
    refuses(2, &["displya"], "did you mean display?", &["run"]);
    // What needs no setting works all the same.
    assert_eq!(finish(torbox.command(None, ["status"])).out, "no box is running\n");

    fs::remove_file(&file).unwrap();
    let mut edit = torbox.command(None, ["config", "edit"]);
    edit.env("EDITOR", "sed -i s/^#.display.=.*/display=\"none\"/");
    let edited = finish(edit);
    assert_eq!(edited.code, Some(0), "{}", edited.err);
    let shown = finish(torbox.command(None, ["config", "show"])).out;
    assert!(shown.contains(&format!("display = \"none\"  # {}\n", file.display())) && shown.contains("# backend = \"auto\"\n# channel is not set\n"), "{shown}");
    let mut edit = torbox.command(None, ["config", "edit"]);
    edit.env("EDITOR", "false");
    Refusal { code: 1, names: &["\"false\" failed"], hint: "EDITOR" }.of("an editor that fails", &torbox, edit);
}

/// A profile's own settings: stronger than config.toml, weaker than a variable; in the archive, from which none is taken that could weaken
/// a box unless somebody says so; and gone with the profile.
#[test]
fn a_profile_has_settings_of_its_own() {
    let base = tempfile::tempdir().unwrap();
    let torbox = install(&base);
    let call = |args: &[&str]| {
        let Said { code, out, err } = finish(torbox.command(None, args));
        assert_eq!(code, Some(0), "{args:?}: {err}");
        out
    };
    let refuses = |code, names: &[&str], hint: &str, args: &[&str]| Refusal { code, names, hint }.of(&format!("{args:?}"), &torbox, torbox.command(None, args));
    let config = torbox.dir().join("config");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("config.toml"), "backend = \"native\"\ndisplay = \"served\"\n").unwrap();
    refuses(1, &["no profile work"], "torbox profile create work", &["config", "edit", "--profile", "work"]);
    call(&["profile", "create", "work"]);
    let mut edit = torbox.command(None, ["config", "edit", "--profile", "work"]);
    edit.env("EDITOR", "sed -i s/^#.display.=.*/display=\"none\"/");
    let edited = finish(edit);
    assert_eq!(edited.code, Some(0), "{}", edited.err);
    let file = config.join("profiles/work.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\n# proxy = ") && !text.contains("\n# mirror = "), "images are shared: {text}");
    let of = |place: &Path, value: &str| format!("display = \"{value}\"  # {}\n", place.display());
    let shown = call(&["config", "show", "--profile", "work"]);
    assert!(shown.contains(&of(&file, "none")) && shown.contains("backend = \"native\"  # "), "{shown}");
    assert!(call(&["config", "show"]).contains(&of(&config.join("config.toml"), "served")), "without the profile its settings do not hold");
    let mut show = torbox.command(None, ["config", "show", "--profile", "work"]);
    show.env("TORBOX_DISPLAY", "wayland");
    assert!(finish(show).out.contains(&of(Path::new("TORBOX_DISPLAY"), "wayland")));

    let archive = base.path().join("work.tar").display().to_string();
    call(&["profile", "export", "work", &archive]);
    refuses(1, &["work.tar sets display = \"none\""], "--settings leave", &["profile", "import", "other", &archive]);
    assert_eq!(call(&["profile", "list", "--json"]), "[{\"bytes\":0,\"name\":\"work\"}]\n");
    call(&["profile", "import", "other", &archive, "--settings", "take"]);
    assert_eq!(fs::read_to_string(config.join("profiles/other.toml")).unwrap(), text);
    call(&["profile", "remove", "other"]);
    call(&["profile", "import", "other", &archive, "--settings", "leave"]);
    assert!(!config.join("profiles/other.toml").exists());

    fs::write(&file, "displya = \"none\"\n").unwrap();
    refuses(2, &["work.toml", "displya"], "did you mean display?", &["config", "check", "--profile", "work"]);
    refuses(2, &["displya"], "did you mean display?", &["run", "--profile", "work"]);
    call(&["config", "check"]);
    fs::write(&file, "tor = \"debian\"\n").unwrap();
    refuses(2, &["work.toml sets tor"], "torbox config edit", &["plan", "--profile", "work"]);
    call(&["profile", "remove", "work"]);
    assert!(!file.exists());
}

/// What is in the runtime directory below `dir`, but for the lock file, which stays so that no two processes lock different ones.
fn left(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("run/boxes")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_none_or(|e| e != "lock") || fs::read(path).unwrap() != b"").collect()
}

/// An installation of root's in a directory of its own.
fn install(base: &TempDir) -> Installed<'static> {
    Installed::new(Who::Root, base.path()).unwrap()
}

#[test]
fn command_lines_that_are_not_allowed() {
    let base = tempfile::tempdir().unwrap();
    let torbox = install(&base);
    let long = "a".repeat(33);
    let cases: &[(&[&str], &str)] = &[
        (&["run", "--name", "../x"], "../x"),
        (&["run", "--name", "Upper"], "Upper"),
        (&["run", "--name", ""], "--name"),
        (&["run", "--name", &long], &long),
        (&["probe", "--name", "1st"], "1st"),
        (&["stop", "a/b"], "a/b"),
        (&["run", "file:///etc/passwd"], "file: addresses"),
        (&["run", "javascript:alert(1)"], "javascript: addresses"),
        (&["run", "example.org"], "http:, https: or about:"),
        (&["run", "http://a b/"], "space or control character"),
        (&["run", "--profile"], "--profile"),
        (&["run", "--", "--profile"], "--profile"),
        (&["run", "--browser", "chromium"], "chromium"),
        (&["run", "--display", "tcp"], "tcp"),
        (&["plan", "--render", "xml"], "xml"),
        (&["build", "--tarball", "x"], "--signature"),
        (&["build", "--signature", "x"], "--tarball"),
        (&["remove"], "remove"),
        (&[], "Usage"),
    ];
    for (args, names) in cases {
        Refusal { code: 2, names: &[names], hint: "" }.of(&format!("{args:?}"), &torbox, torbox.command(None, *args));
    }
    assert_eq!(fs::read_dir(torbox.dir()).unwrap().count(), 0, "a wrong command line makes nothing");
}

#[test]
fn things_that_are_not_there() {
    let base = tempfile::tempdir().unwrap();
    let torbox = install(&base);
    let refuses = |code, names: &[&str], hint: &str, args: &[&str]| Refusal { code, names, hint }.of(&format!("{args:?}"), &torbox, torbox.command(None, args));
    refuses(3, &["box default is not running"], "torbox status", &["stop"]);
    refuses(3, &["box other is not running"], "torbox status", &["stop", "other"]);
    refuses(1, &["cannot use /nonexistent/torrc", "No such file"], "", &["probe", "--name", "cli", "--torrc", "/nonexistent/torrc"]);
    refuses(5, &["cannot fetch http://127.0.0.1:9/debian/"], "--mirror", &["build", "--mirror", NO_MIRROR]);
    refuses(2, &["ftp://mirror.example/debian", "http://"], "", &["build", "--mirror", "ftp://mirror.example/debian"]);
    // A runtime whose launcher was killed has its name's lock, and nobody answers for the box.
    let boxes = torbox.dir().join("run/boxes");
    fs::create_dir_all(&boxes).unwrap();
    let lock = fs::File::create(boxes.join("cli.lock")).unwrap();
    lock.lock().unwrap();
    refuses(3, &["box cli was killed, and a process of it has not ended yet"], "try again", &["probe", "--name", "cli"]);
    drop(lock);
    let own = base.path().join("there");
    fs::write(&own, "").unwrap();
    let own = own.to_str().unwrap();
    refuses(1, &["cannot use /nonexistent/tarball"], "", &["build", "--mirror", NO_MIRROR, "--tarball", "/nonexistent/tarball", "--signature", own]);
    refuses(1, &["cannot use /nonexistent/asc"], "", &["build", "--mirror", NO_MIRROR, "--tarball", own, "--signature", "/nonexistent/asc"]);
    let mut command = torbox.command(None, ["build", "--mirror", NO_MIRROR]);
    let empty = tempfile::tempdir().unwrap();
    command.env("TORBOX_LIBEXEC", empty.path());
    Refusal { code: 5, names: &["torbox's own init is missing", empty.path().to_str().unwrap()], hint: "make install" }.of("no programs", &torbox, command);
    assert_eq!(finish(torbox.command(None, ["images", "--json"])).out, "[]\n", "no image came of it");
}

#[test]
fn root_displays_that_cannot_be_used() {
    require!("root", "Xvfb");
    let base = tempfile::tempdir().unwrap();
    let torbox = install(&base);
    let server = Xvfb::start().unwrap();
    let right = fs::read(server.auth_file()).unwrap();
    let wrong = base.path().join("wrong");
    fs::write(&wrong, [&right[..right.len() - 1], &[!right[right.len() - 1]]].concat()).unwrap();
    let (display, auth, nothing) = (server.display(), server.auth_file().display().to_string(), base.path().display().to_string());
    let refused = |what: &str, environment: &[(&str, &str)], args: &[&str], code, names: &[&str], hint: &str| {
        let mut command = torbox.command(None, [&["run", "--name", "cli", "--mirror", NO_MIRROR], args].concat());
        command.env("HOME", base.path()).envs(environment.iter().copied());
        Refusal { code, names, hint }.of(what, &torbox, command);
    };
    refused("neither", &[], &[], 4, &["neither WAYLAND_DISPLAY nor DISPLAY"], "set DISPLAY or WAYLAND_DISPLAY");
    refused("both empty", &[("DISPLAY", ""), ("WAYLAND_DISPLAY", "")], &[], 4, &["there is no display"], "set DISPLAY");
    refused("only the other", &[("DISPLAY", &display)], &["--display", "wayland"], 4, &["there is no display"], "WAYLAND_DISPLAY");
    for name in ["localhost:10.0", "127.0.0.1:0", "[::1]:0", "tcp/localhost:0", "0"] {
        refused("a display over TCP", &[("DISPLAY", name)], &[], 4, &["DISPLAY", &format!("{name:?}")], "over TCP are not safe");
    }
    refused("no such X socket", &[("DISPLAY", ":59999")], &[], 4, &["/tmp/.X11-unix/X59999"], "is the display server running");
    refused("no such compositor", &[("WAYLAND_DISPLAY", "wayland-9"), ("XDG_RUNTIME_DIR", &nothing)], &[], 4, &[&format!("{nothing}/wayland-9")], "is the display server running");
    refused("no runtime directory", &[("WAYLAND_DISPLAY", "wayland-9")], &[], 4, &["WAYLAND_DISPLAY", "wayland-9"], "through their socket");
    let socket = server.socket().display().to_string();
    refused("another cookie", &[("DISPLAY", &display), ("XAUTHORITY", wrong.to_str().unwrap())], &[], 4, &[&socket, "refused the cookie"], "XAUTHORITY");
    refused("no cookie file", &[("DISPLAY", &display)], &[], 4, &[&socket, "refused the cookie"], "XAUTHORITY");
    refused("a cookie file that is none", &[("DISPLAY", &display), ("XAUTHORITY", &nothing)], &[], 4, &["the cookie file cannot be read"], "XAUTHORITY");
    // The same server with its cookie: the next thing that is missing is the images.
    refused("the right cookie", &[("DISPLAY", &display), ("XAUTHORITY", &auth)], &[], 5, &["cannot fetch http://127.0.0.1:9/"], "--mirror");
}

/// Takes a user's subordinate ids away, and gives them back.
struct WithoutIds<'u> {
    user: &'u TestUser,
    ranges: Vec<(&'static str, String)>,
}

impl<'u> WithoutIds<'u> {
    const FILES: [(&'static str, &'static str); 2] = [("/etc/subuid", "uids"), ("/etc/subgid", "gids")];

    fn take(user: &'u TestUser) -> Self {
        let ranges = Self::FILES.map(|(file, kind)| (kind, range(file, user.name()).unwrap()));
        let taken = Self { user, ranges: ranges.to_vec() };
        taken.usermod("--del-sub");
        assert_eq!(Self::FILES.map(|(file, _)| range(file, user.name())), [None, None]);
        taken
    }

    fn usermod(&self, option: &str) {
        for (kind, range) in &self.ranges {
            process::output(Command::new("/usr/sbin/usermod").args([&format!("{option}{kind}"), range, self.user.name()])).unwrap();
        }
    }
}

impl Drop for WithoutIds<'_> {
    fn drop(&mut self) {
        self.usermod("--add-sub");
    }
}

/// `first-last` of `name` in a file like subuid(5).
fn range(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).unwrap();
    let (first, count) = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_once(':'))?;
    let first: u32 = first.parse().unwrap();
    Some(format!("{first}-{}", first + count.parse::<u32>().unwrap() - 1))
}

/// A user namespace in which everything is as outside, but no further one can be made (namespaces(7), max_user_namespaces):
/// the machine itself is left alone.
struct Narrow(Child);

impl Narrow {
    fn make() -> Self {
        let narrow = Self(Command::new("unshare").args(["--user", "sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap());
        let own = ProcessId::own().namespace("user");
        let apart = || (ProcessId(narrow.0.id()).namespace("user") != own).then_some(());
        wait::retry(Duration::from_millis(5), Instant::now() + Duration::from_secs(5), apart).expect("a user namespace");
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", narrow.0.id()), "0 0 4294967295").unwrap();
        }
        process::output(narrow.within("/bin/sh").args(["-c", "echo 0 > /proc/sys/user/max_user_namespaces"])).unwrap();
        narrow
    }

    fn within(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--user").arg("--target").arg(self.0.id().to_string()).arg("--").arg(program);
        command
    }

    /// The same command in here, and in the network `place`, which must be entered first: it belongs to the outer namespace.
    fn wrap(&self, place: &Namespace, inner: &Command) -> Command {
        let entered = self.within(inner.get_program().to_str().unwrap());
        let mut command = place.command(entered.get_program());
        command.args(entered.get_args()).args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(inner.get_current_dir().unwrap());
        command
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}

/// A network namespace with nothing but loopback, as long as the value.
struct NoNetwork(Namespace);

impl NoNetwork {
    fn make(name: &str) -> Self {
        let own = Self(Namespace::named(&format!("tbx-cli-{name}")));
        own.0.remove().unwrap();
        own.0.create().unwrap();
        own
    }
}

impl Drop for NoNetwork {
    fn drop(&mut self) {
        self.0.remove().expect("the namespace is removed");
    }
}

/// root's installation that keeps the images from one run of the tests to the next.
fn kept() -> Installed<'static> {
    let kept = Installed::new(Who::Root, &kept_dir().unwrap()).unwrap();
    kept.build_images().unwrap();
    kept
}

/// In a box with a name of its own, so that no other box of root has its control groups.
const PROBE: [&str; 5] = ["probe", "--name", "cli", "--browser", "firefox-esr"];

/// Fails unless the probe runs in a box: the box can be made now.
fn probe_works(what: &str, installed: &Installed<'_>, command: Command) {
    let Said { code, out, err } = finish(command);
    assert_eq!(code, Some(0), "{what}: {err}");
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{what}: {error} in {out:?}; {err}"));
    assert!(report.is_object(), "{what}: {out}");
    assert_eq!(left(installed.dir()), Vec::<PathBuf>::new(), "{what}: left behind");
}

#[test]
fn root_user_without_what_a_box_needs() {
    require!("root", "setpriv", "unshare", "nsenter", "newuidmap", "usermod");
    let _alone = lock::heavy().unwrap();
    let someone = TestUser::create("cli").unwrap();
    let torbox = Installed::new(Who::User(&someone), someone.home()).unwrap();
    torbox.take_images(&kept()).unwrap();
    let place = NoNetwork::make("user");
    let probe = || torbox.command(Some(&place.0), PROBE);
    probe_works("a user with everything", &torbox, probe());

    let without = WithoutIds::take(&someone);
    let names = [someone.name(), "/etc/subuid gives no subordinate ids"];
    Refusal { code: 6, names: &names, hint: "usermod --add-subuids" }.of("no range", &torbox, probe());
    drop(without);

    let tools = someone.make_dir("tools").unwrap();
    let mut command = probe();
    command.env("PATH", &tools);
    Refusal { code: 6, names: &["newuidmap cannot be run"], hint: "uidmap" }.of("no newuidmap", &torbox, command);

    let narrow = Narrow::make();
    let refusal = Refusal { code: 6, names: &["namespaces"], hint: "sysctl -w user.max_user_namespaces" };
    refusal.of("no user namespaces", &torbox, narrow.wrap(&place.0, &torbox.command(None, PROBE)));
    drop(narrow);
    probe_works("everything again", &torbox, probe());

    let mut command = someone.command(None, torbox.program());
    command.args(["--dir", "/proc/torbox", "images"]);
    Refusal { code: 1, names: &["/proc/torbox"], hint: "" }.of("a directory that cannot be made", &torbox, command);
    for args in [["images"].as_slice(), &PROBE] {
        let mut command = someone.command(None, torbox.program());
        command.args(["--dir", "/usr/torbox"]).args(args);
        Refusal { code: 1, names: &["cannot use /usr/torbox/", "Permission denied"], hint: "--dir" }.of("not writable", &torbox, command);
    }
}

/// A file system of its own size, mounted as long as the value.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(mib: u64) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        process::output(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=755"), "torbox-small"]).arg(disk.0.path())).unwrap();
        disk
    }

    fn grow(&self, mib: u64) {
        process::output(Command::new("mount").args(["-o", &format!("remount,size={mib}m")]).arg(self.0.path())).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        process::output(Command::new("umount").arg(self.0.path())).expect("the disk is unmounted");
    }
}

/// Copies the image store without what was unpacked.
fn copy_packed(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in ["oci-layout", "index.json", "blobs", "locks"] {
        process::output(Command::new("cp").arg("-a").arg(from.join(entry)).arg(to)).unwrap();
    }
}

#[test]
fn root_full_disk_leaves_nothing_half_written() {
    require!("root", "mount", "umount");
    let _alone = lock::heavy().unwrap();
    let place = NoNetwork::make("disk");
    let kept = kept();
    let packed = kept.dir().join("data/images");
    let size = String::from_utf8(process::output(Command::new("du").args(["-sm", "--apparent-size"]).arg(packed.join("blobs"))).unwrap()).unwrap();
    let size: u64 = size.split_whitespace().next().unwrap().parse().unwrap();
    let base = tempfile::tempdir().unwrap();
    // Room for the images and torbox itself, and for the beginning of the first root.
    let disk = SmallDisk::mount(size + 24);
    let torbox = install(&base);
    copy_packed(&packed, &disk.0.path().join("data/images"));
    let command = |args: &[&str]| {
        let mut command = place.0.command(torbox.program());
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").arg("--dir").arg(disk.0.path()).args(args);
        command
    };
    let named = disk.0.path().join("data/images/tmp/rootfs").display().to_string();
    let refusal = Refusal { code: 5, names: &[&named, "No space left on device"], hint: "free some space" };
    refusal.of("full while unpacking", &torbox, command(&PROBE));
    assert_eq!(fs::read_dir(disk.0.path().join("data/images/rootfs")).unwrap().count(), 0, "nothing half-written counts");
    assert_eq!(left(disk.0.path()), Vec::<PathBuf>::new());
    refusal.of("still full", &torbox, command(&PROBE));
    disk.grow(size + 1024);
    probe_works("after room was made", &torbox, command(&PROBE));
    assert_eq!(fs::read_dir(disk.0.path().join("data/images/tmp")).unwrap().count(), 0, "what was begun is gone");

    let full = SmallDisk::mount(1);
    let mut command = place.0.command(torbox.program());
    fs::write(full.0.path().join("ballast"), vec![0; 2 << 20]).expect_err("more than there is room for");
    command.env_clear().arg("--dir").arg(full.0.path()).args(["build", "--mirror", NO_MIRROR]);
    Refusal { code: 5, names: &[full.0.path().to_str().unwrap(), "No space left on device"], hint: "free some space" }.of("full from the start", &torbox, command);
}

#[test]
fn root_images_are_checked_before_they_are_used() {
    require!("root", "Xvfb", "ip");
    let _alone = lock::heavy().unwrap();
    let place = NoNetwork::make("images");
    let base = tempfile::tempdir().unwrap();
    let torbox = install(&base);
    let kept = kept();
    torbox.take_images(&kept).unwrap();
    images_are_listed(&torbox);
    let display = Xvfb::start().unwrap();
    plans_are_json(&torbox, &display, &place.0);
    the_browser_that_cannot_be_fetched(&torbox, &display, &place.0);
    a_changed_root_is_unpacked_again(&torbox, &place.0);
    a_damaged_layer_is_refused(&torbox, &place.0);
    a_damaged_index_is_refused(&torbox, &place.0);
}

/// The images that a box would use: an earlier run of the tests, with other programs, may have left others for a rollback.
fn current_images(torbox: &Installed<'_>) -> Vec<Value> {
    let images: Vec<Value> = serde_json::from_str(&finish(torbox.command(None, ["images", "--json"])).out).unwrap();
    images.into_iter().filter(|image| !is_previous(image["name"].as_str().unwrap())).collect()
}

fn is_previous(name: &str) -> bool {
    name.contains("-previous")
}

fn images_are_listed(torbox: &Installed<'_>) {
    let images = current_images(torbox);
    let names: Vec<_> = images.iter().map(|image| (image["name"].as_str().unwrap(), image["anonymous"].as_bool().unwrap())).collect();
    assert_eq!(names, [("torbox/firefox-esr", false), ("torbox/tor", true), ("torbox/tor-transports", true)]);
    assert!(images[0]["digest"].as_str().unwrap().starts_with("sha256:"), "{images:?}");
    let said = finish(torbox.command(None, ["images"]));
    let lines: Vec<_> = said.out.lines().filter(|line| !is_previous(line)).collect();
    assert_eq!((said.code, lines.len()), (Some(0), 3), "{}{}", said.out, said.err);
    assert!(lines[0].starts_with("torbox/firefox-esr ") && lines[0].ends_with(" NOT ANONYMOUS"), "{lines:?}");
    assert!(lines[1].starts_with("torbox/tor ") && !lines[1].contains("ANONYMOUS"), "{lines:?}");
    assert!(lines[1].contains(images[1]["digest"].as_str().unwrap()), "{lines:?}");
}

fn plans_are_json(torbox: &Installed<'_>, display: &Xvfb, place: &Namespace) {
    let render = |which: &str| -> Value {
        let said = finish(torbox.command_on(display, Some(place), ["plan", "--browser", "firefox-esr", "--render", which]).unwrap());
        assert_eq!(said.code, Some(0), "{which}: {}", said.err);
        assert_eq!(left(torbox.dir()), Vec::<PathBuf>::new(), "{which}: a plan makes nothing");
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{which}: {error}"))
    };
    assert_eq!(render("plan")["containers"].as_array().unwrap().len(), 4);
    let specs = render("oci");
    assert_eq!(specs.as_array().unwrap().len(), 4);
    specs.as_array().unwrap().iter().for_each(|spec| assert_eq!(spec["root"]["readonly"], Value::Bool(true), "{spec}"));
    let steps = render("steps");
    assert!(steps.as_array().unwrap().iter().all(|step| step["why"].as_str().is_some_and(|why| !why.is_empty())), "{steps}");
}

fn the_browser_that_cannot_be_fetched(torbox: &Installed<'_>, display: &Xvfb, place: &Namespace) {
    let args = ["run", "--name", "cli", "--mirror", "http://mirror.example/debian", "about:blank"];
    let command = torbox.command_on(display, Some(place), args).unwrap();
    Refusal { code: 5, names: &["cannot fetch http://mirror.example/debian/"], hint: "check the network" }.of("no network", torbox, command);
}

/// The unpacked root of the tor image that is in use.
fn tor_root(torbox: &Installed<'_>) -> PathBuf {
    let images = current_images(torbox);
    let tor = images.iter().find(|image| image["name"] == "torbox/tor").unwrap();
    torbox.dir().join("data/images/rootfs").join(tor["digest"].as_str().unwrap().replace(':', "-"))
}

fn a_changed_root_is_unpacked_again(torbox: &Installed<'_>, place: &Namespace) {
    probe_works("as copied", torbox, torbox.command(Some(place), PROBE));
    let tor = tor_root(torbox).join("usr/bin/tor");
    let whole = fs::read(&tor).unwrap();
    let planted = tor.with_file_name("planted");
    let changes: [(&str, &dyn Fn()); 4] = [
        ("longer", &|| fs::OpenOptions::new().append(true).open(&tor).unwrap().write_all(b"x").unwrap()),
        ("other bytes", &|| write_at(&tor, 64, b"x")),
        ("setuid", &|| fs::set_permissions(&tor, fs::Permissions::from_mode(0o4755)).unwrap()),
        ("one more file", &|| fs::write(&planted, "x").unwrap()),
    ];
    for (what, change) in changes {
        change();
        let said = finish(torbox.command(Some(place), PROBE));
        assert_eq!(said.code, Some(0), "{what}: {}", said.err);
        assert!(said.err.contains("unpacking torbox/tor "), "{what}: {}", said.err);
        assert_eq!(fs::metadata(&tor).unwrap().permissions().mode() & 0o7777, 0o755, "{what}");
        assert!(fs::read(&tor).unwrap() == whole && !planted.exists(), "{what}: it is as it was");
    }
}

fn write_at(file: &Path, place: u64, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(place)).unwrap();
    file.write_all(bytes).unwrap();
}

fn a_damaged_layer_is_refused(torbox: &Installed<'_>, place: &Namespace) {
    let images = current_images(torbox);
    let digest = images[1]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let blobs = torbox.dir().join("data/images/blobs/sha256");
    let manifest: Value = serde_json::from_slice(&fs::read(blobs.join(digest)).unwrap()).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let (blob, root) = (blobs.join(layer), torbox.dir().join(format!("data/images/rootfs/sha256-{digest}")));
    let whole = fs::read(&blob).unwrap();
    fs::remove_dir_all(&root).unwrap();
    write_at(&blob, whole.len() as u64 / 2, &[!whole[whole.len() / 2]]);
    let refusal = Refusal { code: 5, names: &[layer, "its digest is"], hint: "torbox build" };
    refusal.of("a damaged layer", torbox, torbox.command(Some(place), PROBE));
    assert!(!root.exists(), "nothing of it is unpacked");
    fs::write(&blob, whole).unwrap();
    probe_works("the layer as it was", torbox, torbox.command(Some(place), PROBE));
}

fn a_damaged_index_is_refused(torbox: &Installed<'_>, place: &Namespace) {
    let index = torbox.dir().join("data/images/index.json");
    let whole = fs::read(&index).unwrap();
    fs::write(&index, &whole[..whole.len() / 2]).unwrap();
    let refusal = Refusal { code: 5, names: &["image store", "index.json"], hint: "torbox build" };
    refusal.of("a damaged index", torbox, torbox.command(Some(place), PROBE));
    fs::write(&index, whole).unwrap();
}

#[test]
fn root_release_signed_by_nobody_is_refused() {
    require!("root");
    let _alone = lock::heavy().unwrap();
    let base = tempfile::tempdir().unwrap();
    let torbox = install(&base);
    let kept = kept();
    copy_packed(&kept.dir().join("data/images"), &torbox.dir().join("data/images"));
    // Packages that the images were built from are not fetched again; their signed index is.
    process::output(Command::new("cp").arg("-a").arg(kept.dir().join("cache")).arg(torbox.dir())).unwrap();
    for state in ["layers", "locks", "state"] {
        process::output(Command::new("cp").arg("-a").arg(kept.dir().join("data/images").join(state)).arg(torbox.dir().join("data/images"))).unwrap();
    }
    let own = |name: &str, text: &str| -> OsString {
        let file = base.path().join(name);
        fs::write(&file, text).unwrap();
        file.into()
    };
    let tarball = own("tor-browser.tar.xz", "not signed");
    let list = || finish(torbox.command(None, ["images", "--json"])).out;
    for (what, signature) in [("no signature", "nothing"), ("an empty signature", "")] {
        let args = ["run", "--name", "cli", "--display", "x11-untrusted", "--tarball"].map(OsString::from).into_iter();
        let args = args.chain([tarball.clone(), "--signature".into(), own("tor-browser.tar.xz.asc", signature)]);
        let display = Xvfb::start().unwrap();
        let before = list();
        let command = torbox.command_on(&display, None, args).unwrap();
        Refusal { code: 5, names: &["the signature of", "tor-browser.tar.xz", "is not valid"], hint: "" }.of(what, &torbox, command);
        assert_eq!(list(), before, "{what}: the images are as they were");
    }
}
