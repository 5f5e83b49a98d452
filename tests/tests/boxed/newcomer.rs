//! A newcomer's day: torbox's package on a Debian that has nothing of the build, its icon, and what somebody does with it until it is removed, in a
//! session with a bus and a window manager.
//!
//! The user's calls are those of docs/guide.md, and the entry's are run as the desktop runs them. Packages of Debian's are looked for in the
//! machine's own network, as for the kept images; everything else happens in the private one.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use torbox_tests::boxed::readable;
use torbox_tests::debian::{self, Account, Caller, Debian, Reach};
use torbox_tests::display::Xvfb;
use torbox_tests::testnet::Via;
use torbox_tests::testnet::daemon::stop;
use torbox_tests::testnet::web::PAGE_TEXT;
use torbox_tests::{process, screen, wait};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{AtomEnum, ConnectionExt, MapState};

use crate::ground::{Stage, outcome, soon};

/// How long a page may take, from the icon to its text on the screen.
const PATIENCE: u64 = 120;
const PAUSE: Duration = Duration::from_millis(100);
/// The entry's name, for gtk-launch.
const ENTRY: &str = "dev.torbox.Torbox";
/// What the icon stands for here: the stand-in, in the private network.
const OPTIONS: [&str; 4] = ["--browser", "firefox-esr", "--torrc", "private.torrc"];
/// Windows that are smaller are menus, tips, and torbox's own.
const BROWSER: u16 = 500;

/// The Debian and who sits in front of it.
struct Day<'a> {
    stage: &'a Stage<'a>,
    debian: Debian,
    user: Account,
    display: Xvfb,
    session: Session,
}

/// What runs as long as the user is logged in. It ends with its Debian.
#[derive(Default)]
struct Session(Vec<Child>, Vec<String>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(stop);
    }
}

pub(crate) fn a_day(stage: &Stage<'_>) {
    let package = PathBuf::from(debian::made("deb-built", stage.out.path()).unwrap());
    let day = Day::begin(stage);
    let before = day.everything();
    day.install(&package);
    day.look_around();
    day.first_start();
    day.download();
    day.new_identity();
    day.second_window();
    day.stop();
    day.without_relays();
    day.start_again();
    day.two_profiles();
    day.update();
    day.update_and_go_back();
    day.remove();
    day.everything().assert_is(&before);
}

/// What there is of a machine: files, processes, mounts.
struct Everything {
    files: BTreeSet<String>,
    processes: Vec<String>,
    mounts: String,
}

impl Everything {
    fn assert_is(&self, before: &Self) {
        let Self { files, processes, mounts } = self;
        assert_eq!(files.symmetric_difference(&before.files).collect::<Vec<_>>(), Vec::<&String>::new(), "files");
        assert_eq!((processes, mounts), (&before.processes, &before.mounts));
    }
}

impl<'a> Day<'a> {
    fn begin(stage: &'a Stage<'a>) -> Self {
        let display = Xvfb::start().unwrap();
        let debian = Debian::start(Some(&stage.ground.net.client())).unwrap();
        let user = debian.add_user("ann").unwrap();
        let mut day = Self { stage, debian, user, display, session: Session::default() };
        day.display.write_auth(&day.home(".Xauthority"), Some(day.user.ids)).unwrap();
        fs::copy(&stage.ground.net.state().client_torrc, day.home("private.torrc")).unwrap();
        // What a desktop has made in a home long before.
        day.says(&["mkdir", "-p", ".config", ".cache", ".local/share/applications", ".local/share/icons/hicolor/scalable/apps", ".local/share/metainfo", ".local/state"]);
        day.log_in();
        day
    }

    /// Starts the session: a bus, where the system's own would have it, and a window manager.
    fn log_in(&mut self) {
        let bus = format!("--address=unix:path={}/bus", self.user.runtime_dir());
        for words in [&["dbus-daemon", "--session", "--nofork", "--nopidfile", &bus][..], &["openbox"]] {
            let child = self.command(Reach::Own, words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            self.session.0.push(child);
        }
        wait::retry(PAUSE, soon(30), || self.is_managed().then_some(())).expect("a window manager");
        self.session.1 = self.debian.processes().unwrap();
        assert_eq!(self.session.1.len(), 2, "{:?}", self.session.1);
    }

    /// Whether a window manager says that it is there (Extended Window Manager Hints, "_NET_SUPPORTING_WM_CHECK").
    fn is_managed(&self) -> bool {
        let connection = self.display.connect().unwrap();
        let name = connection.intern_atom(false, b"_NET_SUPPORTING_WM_CHECK").unwrap().reply().unwrap().atom;
        let window = connection.get_property(false, connection.setup().roots[0].root, name, AtomEnum::WINDOW, 0, 1).unwrap().reply();
        window.is_ok_and(|window| window.value_len == 1)
    }

    /// A path of the user's home as this machine reaches it.
    fn home(&self, path: &str) -> PathBuf {
        self.debian.homes().join("ann").join(path)
    }

    fn command(&self, reach: Reach, words: &[&str]) -> Command {
        let mut command = self.debian.command(Caller::User(&self.user), reach, words);
        command.env("DISPLAY", self.display.display()).env("XAUTHORITY", format!("{}/.Xauthority", self.user.home()));
        command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}/bus", self.user.runtime_dir()));
        command
    }

    /// What the user's `words` print, and that they work.
    fn says(&self, words: &[&str]) -> String {
        self.says_of(Reach::Own, words).0
    }

    /// The same with what they say on standard error.
    fn says_of(&self, reach: Reach, words: &[&str]) -> (String, String) {
        let (code, out, said) = outcome(&mut self.command(reach, words));
        assert_eq!(code, Some(0), "{words:?}: {out}{said}");
        (out, said)
    }

    fn everything(&self) -> Everything {
        let shown = |file: &String| !NOT_TORBOXS.iter().any(|path| file.starts_with(path));
        let files = self.debian.files().unwrap().into_iter().filter(shown).collect();
        Everything { files, processes: self.debian.processes().unwrap(), mounts: self.debian.mounts().unwrap() }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.stage.ground.net.state().named_url)
    }

    /// Runs `act`, after which the page `path` is asked for, from an exit.
    fn brings(&self, path: &str, act: impl FnOnce()) {
        let net = &self.stage.ground.net;
        let (log, deadline) = (net.web_log(), soon(PATIENCE));
        let mark = log.mark();
        act();
        let wanted = format!("/{path}");
        let request = log.wait_for(mark, deadline, |request| request.via == Via::Exit && request.path == wanted).unwrap();
        let request = request.unwrap_or_else(|| panic!("/{path} was not asked for; {}", self.log()));
        assert!(net.exit_of(&request).is_some(), "not from an exit: {request:?}");
    }

    /// The page's text can be read on the screen, of which a picture is kept.
    fn shows_the_page(&self) {
        let seen = readable(|shot| self.display.screenshot(shot), PAGE_TEXT, &debian::root().unwrap().with_file_name("newcomer.png"), soon(PATIENCE)).unwrap();
        seen.unwrap_or_else(|text| panic!("the screen shows\n{text}\n{}", self.log()));
    }

    /// What was said by what the icon started.
    fn log(&self) -> String {
        wait::text_so_far(&self.stage.out.path().join("day.log"))
    }

    /// Starts what the icon stands for. Whoever does that does not wait for it.
    fn launch(&self, words: &[&str]) {
        self.background(&[&["gtk-launch", ENTRY], words].concat());
    }

    /// Runs `words` to their end, of which something may go on in the background.
    fn background(&self, words: &[&str]) {
        let log = fs::File::options().create(true).append(true).open(self.stage.out.path().join("day.log")).unwrap();
        let done = self.command(Reach::Own, words).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
        assert!(done.success(), "{words:?}: {}", self.log());
    }

    /// An action of the entry, as the desktop reads it.
    fn action(&self, name: &str) {
        let entry = fs::read_to_string(self.home(&format!(".local/share/applications/{ENTRY}.desktop"))).unwrap();
        let (_, action) = entry.split_once(&format!("[Desktop Action {name}]")).unwrap();
        let words = action.lines().find_map(|line| line.strip_prefix("Exec=")).unwrap();
        self.background(&words.split(' ').collect::<Vec<_>>());
    }

    /// How many windows of a browser the screen shows.
    fn windows(&self) -> usize {
        let connection = self.display.connect().unwrap();
        let windows = connection.query_tree(connection.setup().roots[0].root).unwrap().reply().unwrap().children;
        let shown = |window: &u32| {
            let mapped = connection.get_window_attributes(*window).ok()?.reply().ok()?.map_state == MapState::VIEWABLE;
            let place = connection.get_geometry(*window).ok()?.reply().ok()?;
            (mapped && place.width >= BROWSER && place.height >= BROWSER).then_some(())
        };
        windows.iter().filter_map(shown).count()
    }

    fn waits_for_windows(&self, wanted: usize) {
        wait::retry(PAUSE, soon(60), || (self.windows() == wanted).then_some(())).unwrap_or_else(|| panic!("{} windows, not {wanted}: {}", self.windows(), self.log()));
    }

    /// The names of the boxes that run.
    fn boxes(&self) -> Vec<String> {
        let status: serde_json::Value = serde_json::from_str(&self.says(&["torbox", "status", "--json"])).unwrap();
        status.as_array().unwrap().iter().map(|status| status["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Until nothing but the session runs: the desktop does not wait for what it started.
    fn nothing_runs(&self) {
        let left = || Some(self.debian.processes().unwrap()).filter(|all| *all == self.session.1);
        wait::retry(PAUSE, soon(10), left).unwrap_or_else(|| panic!("{:#?}", self.debian.processes().unwrap()));
    }
}

/// What the toolkit of the windows keeps for itself.
const NOT_TORBOXS: [&str; 1] = ["./home/ann/.cache/fontconfig"];

/// The parts of the day, in their order.
impl Day<'_> {
    fn install(&self, package: &Path) {
        fs::copy(package, self.debian.path("/tmp/torbox.deb")).unwrap();
        self.debian.root(&["dpkg", "--install", "/tmp/torbox.deb"]).unwrap();
    }

    /// The machine will do, and the images are made, of packages that were fetched before where they are the newest.
    fn look_around(&self) {
        self.screen("doctor");
        let ids = fs::read_to_string(self.debian.path("/etc/subuid")).unwrap();
        fs::write(self.debian.path("/etc/subuid"), "").unwrap();
        self.screen("doctor-without-ids");
        fs::write(self.debian.path("/etc/subuid"), ids).unwrap();
        let cache = self.home(".cache/torbox");
        process::output(Command::new("cp").arg("-a").arg(debian::root().unwrap().with_file_name("torbox/cache")).arg(&cache)).unwrap();
        let (uid, gid) = self.user.ids;
        process::output(Command::new("chown").arg("-R").arg(format!("{uid}:{gid}")).arg(&cache)).unwrap();
        let (built, _) = self.says_of(Reach::Machine, &["torbox", "build", "--browser", "firefox-esr"]);
        assert!(built.contains("torbox/firefox-esr ") && built.contains("NOT ANONYMOUS"), "{built}");
    }

    /// What `torbox doctor` shows here, where there is no engine.
    fn screen(&self, name: &str) {
        let command = self.command(Reach::Own, &["torbox", "doctor"]);
        let on_terminal = outcome(&mut screen::on_terminal(&command)).1;
        screen::check(name, "doctor", &self.says(&["torbox", "doctor"]), &screen::shown(&on_terminal)).unwrap();
    }

    fn first_start(&self) {
        let entry = self.says(&[&["torbox", "desktop", "install", "--"], &OPTIONS[..]].concat());
        assert_eq!(entry, format!("/home/ann/.local/share/applications/{ENTRY}.desktop\n"));
        self.brings("", || self.launch(&[&self.url("")]));
        self.shows_the_page();
        assert_eq!((self.boxes(), self.windows()), (vec!["default".to_owned()], 1));
    }

    fn download(&self) {
        let path = "download?bytes=70000";
        self.brings(path, || assert_eq!(self.says(&["torbox", "open", &self.url(path)]), ""));
        let listed = || Some(self.says(&["torbox", "downloads", "list"])).filter(|list| list.contains("torbox-download.bin") && list.contains("70"));
        wait::retry(PAUSE, soon(60), listed).unwrap_or_else(|| panic!("{}", self.says(&["torbox", "downloads", "list"])));
        let saved = wait::retry(PAUSE, soon(30), || {
            let (code, out, _) = outcome(&mut self.command(Reach::Own, &["torbox", "downloads", "save"]));
            (code == Some(0)).then_some(out)
        });
        assert_eq!(saved.as_deref(), Some("./torbox-download.bin\n"));
        assert_eq!(fs::read(self.home("torbox-download.bin")).unwrap(), vec![b'.'; 70_000]);
        fs::remove_file(self.home("torbox-download.bin")).unwrap();
    }

    fn new_identity(&self) {
        self.action("new-identity");
        self.brings("after", || assert_eq!(self.says(&["torbox", "open", &self.url("after")]), ""));
    }

    fn second_window(&self) {
        self.action("new-window");
        self.waits_for_windows(2);
        assert_eq!(self.boxes(), ["default"], "no second box: {}", self.log());
    }

    fn stop(&self) {
        self.action("stop");
        assert_eq!(self.says(&["torbox", "status"]), "no box is running\n");
        self.nothing_runs();
        self.waits_for_windows(0);
    }

    /// Whoever has no terminal is told in a window why nothing comes.
    fn without_relays(&self) {
        let state = self.home(".local/state/torbox/boxes/default");
        fs::remove_dir_all(&state).unwrap();
        fs::write(self.home("private.torrc"), self.stage.torrc_of_nowhere()).unwrap();
        self.launch(&[]);
        let told = || Some(self.debian.processes().unwrap()).filter(|all| all.iter().any(|line| line.starts_with("zenity --warning ") && line.contains("relays refuse the connection") && line.contains("hint: ")));
        wait::retry(PAUSE, soon(60), told).unwrap_or_else(|| panic!("{}", self.log()));
        self.action("stop");
        self.nothing_runs();
        fs::copy(&self.stage.ground.net.state().client_torrc, self.home("private.torrc")).unwrap();
    }

    /// Without an address; the next click with one goes to the box that runs, and so does what other programs open, once the user wants that.
    fn start_again(&self) {
        self.launch(&[]);
        self.waits_for_windows(1);
        self.brings("again", || self.launch(&[&self.url("again")]));
        self.says(&["xdg-mime", "default", &format!("{ENTRY}.desktop"), "x-scheme-handler/http"]);
        self.brings("from-elsewhere", || self.background(&["xdg-open", &self.url("from-elsewhere")]));
        assert_eq!(self.boxes(), ["default"]);
        self.action("stop");
        self.nothing_runs();
    }

    fn two_profiles(&self) {
        let names = ["home", "work"];
        for name in names {
            self.says(&["torbox", "profile", "create", name]);
            self.says(&[&["torbox", "desktop", "install", "--", "--profile", name], &OPTIONS[..]].concat());
        }
        for name in names {
            self.brings(name, || self.background(&["gtk-launch", &format!("{ENTRY}.{name}"), &self.url(name)]));
        }
        assert_eq!((self.boxes(), self.windows()), (names.map(str::to_owned).to_vec(), 2));
        for name in names {
            self.says(&["torbox", "stop", name]);
        }
        self.nothing_runs();
        assert_eq!(self.says(&["torbox", "profile", "list"]).lines().count(), 2);
    }

    /// Without the servers nothing is lost; with them it is looked for newer packages.
    fn update(&self) {
        let (updated, _) = self.says_of(Reach::Machine, &["torbox", "update"]);
        assert!(updated.contains("torbox/firefox-esr ") && updated.lines().all(|line| line.ends_with("  as it was")), "{updated}");
        let verified = self.says(&["torbox", "verify"]);
        assert!(verified.lines().count() >= 2 && verified.lines().all(|line| line.ends_with("  verified")), "{verified}");
        let images = self.says(&["torbox", "images"]);
        let (code, _, said) = outcome(&mut self.command(Reach::Own, &["torbox", "update", "--mirror", "http://127.0.0.1:9/debian"]));
        assert!(code == Some(5) && said.contains("cannot fetch http://127.0.0.1:9/debian/") && said.contains("\nhint: "), "{said}");
        assert_eq!(self.says(&["torbox", "images"]), images);
    }

    /// A newer torbox brings newer programs for its images. It is gone back from what that changed; what it left stays.
    fn update_and_go_back(&self) {
        let images = || self.says(&["torbox", "images"]).lines().filter(|line| !line.contains("-previous ")).map(str::to_owned).collect::<Vec<_>>();
        let (code, _, said) = outcome(&mut self.command(Reach::Own, &["torbox", "update", "--rollback"]));
        assert!(code == Some(5) && said.contains("no image was there before the current "), "there is nothing to go back to: {said}");
        self.says(&["cp", "-r", "/usr/libexec/torbox", "newer"]);
        let update = |newer: &str| {
            let mut program = fs::File::options().append(true).open(self.home("newer").join(newer)).unwrap();
            program.write_all(b"newer").unwrap();
            let (code, updated, said) = outcome(self.command(Reach::Machine, &["torbox", "update"]).env("TORBOX_LIBEXEC", format!("{}/newer", self.user.home())));
            assert_eq!(code, Some(0), "{said}");
            updated
        };
        let first = update("init");
        assert!(first.contains("  was ") && !first.contains("  as it was"), "init is in all of them: {first}");
        let before = images();
        // The browser's image has no gate: what the update before replaced is not gone back to.
        let second = update("gate");
        assert!(second.contains("  was ") && second.contains("  as it was"), "{second}");
        assert_ne!(images(), before);
        let back = self.says(&["torbox", "update", "--rollback"]);
        assert!(back.contains("  was ") && back.contains("  as it was"), "{back}");
        assert_eq!(images(), before);
        fs::remove_dir_all(self.home("newer")).unwrap();
    }

    /// As the guide says.
    fn remove(&self) {
        for name in ["default", "home", "work"] {
            self.says(&["torbox", "desktop", "remove", name]);
        }
        for place in places_of_the_guide() {
            let inside = place.replace('~', &self.user.home()).replace("$XDG_RUNTIME_DIR", &format!("/run/user/{}", self.user.ids.0));
            let rest = outcome(&mut self.command(Reach::Own, &["rm", "-r", &inside]));
            // Nobody changed a setting.
            assert!(rest.0 == Some(0) || place.contains("config"), "the positive control: {place} was there: {rest:?}");
        }
        // The choice was the user's.
        fs::remove_file(self.home(".config/mimeapps.list")).unwrap();
        self.debian.root(&["dpkg", "--purge", "torbox"]).unwrap();
        fs::remove_file(self.debian.path("/tmp/torbox.deb")).unwrap();
        self.nothing_runs();
    }
}

/// Where a user's things lie, as the guide has it.
fn places_of_the_guide() -> Vec<String> {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide.md")).unwrap();
    let (_, table) = guide.split_once("## Where things lie\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|')).skip(2);
    let places: Vec<_> = rows.map(|row| row.split('|').nth(2).unwrap().trim().trim_matches('`').to_owned()).collect();
    assert_eq!(places.len(), 5, "{places:?}");
    places
}
