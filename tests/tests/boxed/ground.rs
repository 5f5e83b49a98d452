//! What all these tests stand on, made once and removed with the last of them: a private Tor network, an unprivileged user, and
//! torbox installed for root and for that user.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use torbox_tests::boxed::{Installed, RunningBox, Who, kept_dir};
use torbox_tests::display::Xvfb;
use torbox_tests::left::{Left, Scope, Snapshot};
use torbox_tests::lock::{self, Heavy};
use torbox_tests::testnet::{Options, TestNet, helper};
use torbox_tests::user::{SUB_IDS, TestUser};

/// Who runs torbox in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Root,
    User,
}

/// The ground; fields are dropped in this order.
pub(crate) struct Ground {
    pub(crate) engines: crate::engines::Kept,
    pub(crate) net: TestNet,
    pub(crate) user: TestUser,
    pub(crate) temporary: TempDir,
    _alone: Heavy,
}

impl Ground {
    fn new() -> anyhow::Result<Self> {
        let alone = lock::heavy()?;
        let temporary = tempfile::Builder::new().prefix("torbox-boxed-").tempdir()?;
        fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let user = TestUser::create("boxed")?;
        let kept = Installed::new(Who::Root, &kept_dir()?)?;
        kept.build_images()?;
        Installed::new(Who::Root, &temporary.path().join("root"))?.take_images(&kept)?;
        Installed::new(Who::User(&user), user.home())?.take_images(&kept)?;
        let net = TestNet::up(&Options::new(&temporary.path().join("net"), &helper()?))?;
        eprintln!("the network took {:?}", net.state().took_ms);
        Ok(Self { engines: crate::engines::Kept::default(), net, user, temporary, _alone: alone })
    }
}

/// The ground of the test that runs and of those that wait for it.
static GROUND: Mutex<Option<Arc<Ground>>> = Mutex::new(None);
/// One test at a time: a snapshot of the machine must not show another test's box.
static TURN: Mutex<()> = Mutex::new(());

/// A failed test has nothing to do with the next one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A hold on the ground. Tests that wait for their turn hold it too, so that it stays from one to the next.
struct Hold(Option<Arc<Ground>>);

impl Hold {
    fn take() -> Self {
        let mut ground = lock(&GROUND);
        let held = ground.get_or_insert_with(|| Arc::new(Ground::new().expect("the ground of the tests"))).clone();
        Self(Some(held))
    }
}

impl Deref for Hold {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        self.0.as_ref().expect("held until dropped")
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut ground = lock(&GROUND);
        self.0 = None;
        // With the lock held nobody can take it: the last one removes it.
        if ground.as_ref().is_some_and(|ground| Arc::strong_count(ground) == 1) {
            *ground = None;
        }
    }
}

/// Runs `test` as `kind`, alone.
pub(crate) fn with(kind: Kind, test: fn(&Stage<'_>)) {
    let ground = Hold::take();
    let _turn = lock(&TURN);
    let begun = Instant::now();
    test(&Stage::new(&ground, kind));
    eprintln!("{kind:?}: {:.1} s", begun.elapsed().as_secs_f32());
}

/// torbox as one kind of caller, and what one test needs of it.
pub(crate) struct Stage<'a> {
    pub(crate) kind: Kind,
    pub(crate) ground: &'a Ground,
    pub(crate) installed: Installed<'a>,
    pub(crate) out: TempDir,
    torrc: PathBuf,
}

impl<'a> Stage<'a> {
    fn new(ground: &'a Ground, kind: Kind) -> Self {
        let installed = match kind {
            Kind::Root => Installed::new(Who::Root, &ground.temporary.path().join("root")),
            Kind::User => Installed::new(Who::User(&ground.user), ground.user.home()),
        };
        Self::of(ground, kind, installed.unwrap())
    }

    /// The same with another installation.
    pub(crate) fn of(ground: &'a Ground, kind: Kind, installed: Installed<'a>) -> Self {
        let torrc = installed.copy_torrc(&ground.net).unwrap();
        Self { kind, ground, installed, out: tempfile::tempdir().unwrap(), torrc }
    }

    /// The network's torrc with `lines` added.
    pub(crate) fn torrc_with(&self, lines: &str) -> PathBuf {
        let file = self.installed.dir().join("more.torrc");
        fs::write(&file, fs::read_to_string(&self.torrc).unwrap() + lines).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        file
    }

    /// The words of `torbox VERB` for box `name`, with the stand-in and `torrc`.
    fn words(&self, verb: &str, name: &str, torrc: &Path, more: &[&str]) -> Vec<String> {
        let torrc = torrc.display().to_string();
        let common = [verb, "--verbose", "--name", name, "--browser", "firefox-esr", "--torrc", &torrc];
        common.iter().chain(more).map(|&word| word.to_owned()).collect()
    }

    /// `torbox` with the stand-in and `torrc`, and nothing but what a user reads.
    pub(crate) fn quiet_command(&self, display: &Xvfb, verb: &str, name: &str, torrc: &Path, more: &[&str]) -> Command {
        let words = self.words(verb, name, torrc, more).into_iter().filter(|word| word != "--verbose");
        self.installed.command_on(display, Some(&self.ground.net.client()), words).unwrap()
    }

    /// A torrc of the same network, none of whose relays answers.
    pub(crate) fn torrc_of_nowhere(&self) -> String {
        let text = fs::read_to_string(&self.torrc).unwrap();
        self.ground.net.state().relays.values().fold(text, |text, relay| text.replace(&format!(" {relay}:"), " 127.0.0.1:"))
    }

    /// The network's torrc.
    pub(crate) fn torrc(&self) -> &Path {
        &self.torrc
    }

    /// `torbox run` of box `name` on `display`, with `url`.
    pub(crate) fn run_command(&self, display: &Xvfb, name: &str, url: &str) -> Command {
        self.run_command_with(display, name, url, &self.torrc)
    }

    /// The same with another torrc.
    pub(crate) fn run_command_with(&self, display: &Xvfb, name: &str, url: &str, torrc: &Path) -> Command {
        let client = self.ground.net.client();
        self.installed.command_on(display, Some(&client), self.words("run", name, torrc, &[url])).unwrap()
    }

    /// `torbox run` with a profile, which names the box.
    pub(crate) fn profile_command(&self, display: &Xvfb, profile: &str, url: &str) -> Command {
        let torrc = self.torrc.display().to_string();
        let words = ["run", "--verbose", "--profile", profile, "--browser", "firefox-esr", "--torrc", &torrc, url];
        self.installed.command_on(display, Some(&self.ground.net.client()), words).unwrap()
    }

    /// The same without a display in its environment.
    pub(crate) fn run_command_bare(&self, name: &str, url: &str) -> Command {
        self.installed.command(Some(&self.ground.net.client()), self.words("run", name, &self.torrc, &[url]))
    }

    /// `torbox VERB` without a display in its environment.
    pub(crate) fn verb_command(&self, verb: &str, name: &str) -> Command {
        self.installed.command(Some(&self.ground.net.client()), self.words(verb, name, &self.torrc, &[]))
    }

    /// The same with an X server.
    pub(crate) fn verb_command_on(&self, display: &Xvfb, verb: &str, name: &str) -> Command {
        self.installed.command_on(display, Some(&self.ground.net.client()), self.words(verb, name, &self.torrc, &[])).unwrap()
    }

    /// `gio launch` of the entry of box `name`, which it installs, with `url`: how a desktop starts what an icon stands for.
    pub(crate) fn entry_command(&self, display: &Xvfb, name: &str, url: &str) -> Command {
        let share = self.installed.dir().join("share").display().to_string();
        let options = self.words("--", name, &self.torrc, &[]);
        let words = ["desktop", "install", "--share", &share].into_iter().chain(options.iter().map(String::as_str));
        let (code, entry, said) = self.call(&words.collect::<Vec<_>>());
        assert_eq!(code, Some(0), "{said}");
        let client = self.ground.net.client();
        let session = self.installed.command_on(display, Some(&client), [""; 0]).unwrap();
        let mut command = self.wayland_user().map_or_else(|| client.command("gio"), |user| user.command(Some(&client), "gio"));
        command.args(["launch", entry.trim_end(), url]);
        for (variable, value) in session.get_envs().filter_map(|(variable, value)| Some((variable, value?))) {
            command.env(variable, value);
        }
        command
    }

    /// `torbox bridge test`.
    pub(crate) fn bridge_test_command(&self) -> Command {
        let torrc = self.torrc.display().to_string();
        self.installed.command(Some(&self.ground.net.client()), ["bridge", "test", "--browser", "firefox-esr", "--torrc", &torrc])
    }

    /// `torbox probe`.
    pub(crate) fn probe_command(&self, name: &str) -> Command {
        self.verb_command("probe", name)
    }

    /// `torbox audit --json`.
    pub(crate) fn audit_command(&self, name: &str) -> Command {
        self.installed.command(Some(&self.ground.net.client()), self.words("audit", name, &self.torrc, &["--json"]))
    }

    /// The same with an X server.
    pub(crate) fn probe_command_on(&self, display: &Xvfb, name: &str) -> Command {
        self.verb_command_on(display, "probe", name)
    }

    /// Whose compositor a Wayland display must be.
    pub(crate) fn wayland_user(&self) -> Option<&'a TestUser> {
        match self.installed.who() {
            Who::Root => None,
            Who::User(user) => Some(user),
        }
    }

    /// Starts a box.
    pub(crate) fn start(&self, command: Command, name: &str) -> RunningBox {
        RunningBox::start(command, &self.out.path().join(format!("{name}.log"))).unwrap()
    }

    /// Starts a box with the browser on `display`.
    pub(crate) fn open(&self, display: &Xvfb, name: &str, url: &str) -> RunningBox {
        self.start(self.run_command(display, name, url), name)
    }

    /// Another call of torbox: exit code, standard output, standard error.
    pub(crate) fn call(&self, words: &[&str]) -> (Option<i32>, String, String) {
        outcome(&mut self.installed.command(None, words))
    }

    /// The machine as it is before a box of each of these names.
    pub(crate) fn before(&self, names: &[&str]) -> Before<'_> {
        let run = self.installed.dir().join("run");
        let boxes = run.join("boxes");
        // What stays: the directory, and a lock's file, because who removed it could not be told from who holds it.
        fs::create_dir_all(&boxes).unwrap();
        let locks = names.iter().map(|name| boxes.join(format!("{name}.lock")));
        for made in [run, boxes.clone()].into_iter().chain(locks) {
            if !made.exists() {
                fs::write(&made, "").unwrap();
            }
            if let Who::User(user) = self.installed.who() {
                user.give(&made).unwrap();
            }
        }
        let uids = match self.installed.who() {
            Who::Root => (2_000_000_000, 2_000_000_000 + SUB_IDS - 1),
            Who::User(user) => user.sub_ids(),
        };
        let own = ["__outer".to_owned(), "__inner".to_owned(), "__speaker".to_owned(), self.installed.program().display().to_string()];
        let words = own.into_iter().chain(names.iter().map(|name| format!("torbox-{name}-"))).collect();
        let scope = Scope { uids: vec![uids], words, dirs: vec![boxes] };
        Before { snapshot: self.within(|| Snapshot::take(&scope).unwrap()), scope, stage: self }
    }

    /// In the network namespace in which boxes are started, whose abstract sockets are its own.
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.ground.net.client().within(|| Ok(work())).unwrap()
    }
}

/// Runs `command` to its end: exit code, standard output, standard error.
pub(crate) fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let done = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

/// The machine before a box.
pub(crate) struct Before<'a> {
    snapshot: Snapshot,
    scope: Scope,
    stage: &'a Stage<'a>,
}

impl Before<'_> {
    /// Waits up to `bound` until nothing of the box is left; what is.
    pub(crate) fn left_after(&self, bound: Duration) -> Result<Duration, Left> {
        self.stage.within(|| self.snapshot.wait_until_gone(&self.scope, bound).unwrap())
    }

    /// Nothing is left within `bound`.
    pub(crate) fn assert_gone(&self, bound: Duration, what: &str) {
        if let Err(left) = self.left_after(bound) {
            panic!("{what}, after {bound:?}:\n{left}");
        }
    }

    /// Something is there: the positive control of the others.
    pub(crate) fn assert_something(&self, what: &str) {
        assert!(self.left_after(Duration::ZERO).is_err(), "{what}: the comparison sees nothing of a box that runs");
    }
}

/// A moment `seconds` from now.
pub(crate) fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}
