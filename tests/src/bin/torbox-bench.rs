//! `make bench`: what a box costs beside the bare browser, bubblewrap and podman, all in one run and in turn.
//!
//! The browser is the same in all of them: the unpacked image of the stand-in, a fresh profile, an empty page, a network
//! namespace with nothing in it. A launch is timed from the start of the process to the first paint of the browser's window,
//! told by X events.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use torbox_tests::boxed::{Installed, Who, kept_dir};
use torbox_tests::display::Xvfb;
use torbox_tests::process;
use torbox_tests::require;
use torbox_tests::testnet::Namespace;
use torbox_tests::user::TestUser;

#[path = "torbox-bench/displays.rs"]
mod displays;
#[path = "torbox-bench/engines.rs"]
mod engines;

const RUNS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A way to run the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Bare,
    Torbox,
    Bubblewrap,
    Podman,
}

const WAYS: [(Way, &str); 4] = [(Way::Bare, "bare browser"), (Way::Torbox, "torbox run"), (Way::Bubblewrap, "bwrap"), (Way::Podman, "podman run")];

/// What one launch cost.
struct Sample {
    painted: Duration,
    /// Proportional memory of all that was added to the browser, in KiB, without tor.
    added: u64,
    tor: u64,
    steps: BTreeMap<String, f64>,
}

struct Bench<'a> {
    installed: Installed<'a>,
    user: &'a TestUser,
    place: Namespace,
    root: PathBuf,
    work: PathBuf,
}

fn bench() -> Result<()> {
    let kept = Installed::new(Who::Root, &kept_dir()?)?;
    kept.build_images()?;
    let user = TestUser::create("bench")?;
    let installed = Installed::new(Who::User(&user), user.home())?;
    installed.take_images(&kept)?;
    let place = Namespace::named("tbx-bench");
    place.remove()?;
    place.create()?;
    // With the word `boxes`, `displays` or `engines` that part alone.
    let part = std::env::args().nth(1);
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let result = (|| {
        if wanted("boxes") {
            measure(installed, &user, &place)?;
        }
        if wanted("displays") {
            displays::measure(&user, &place)?;
        }
        if wanted("engines") { engines::measure(&kept, &user, &place) } else { Ok(()) }
    })();
    place.remove()?;
    result
}

fn measure(installed: Installed<'_>, user: &TestUser, place: &Namespace) -> Result<()> {
    let work = tempfile::Builder::new().prefix("torbox-bench-").tempdir()?;
    let mut bench = Bench { installed, user, place: place.clone(), root: PathBuf::new(), work: work.path().to_owned() };
    // The first run of a box unpacks its images; the others use what it unpacked.
    bench.launch(Way::Torbox).context("the run that unpacks the images")?;
    bench.root = browser_root(bench.installed.dir())?;
    let ways: Vec<_> = WAYS.iter().filter(|(way, name)| *way != Way::Podman || require::program("podman").is_some() || skip(name)).collect();
    let mut samples: BTreeMap<Way, Vec<Sample>> = BTreeMap::new();
    for run in 0..=RUNS {
        for (way, name) in &ways {
            let sample = bench.launch(*way).with_context(|| format!("{name}, run {run}"))?;
            eprintln!("bench: run {run} {name}: {} ms", sample.painted.as_millis());
            // The first round warms the caches.
            if run > 0 {
                samples.entry(*way).or_default().push(sample);
            }
        }
    }
    print(&samples);
    Ok(())
}

fn skip(name: &str) -> bool {
    eprintln!("bench: {name} is not installed and is left out");
    false
}

/// The unpacked image of the browser: the only one with a browser in it.
fn browser_root(dir: &Path) -> Result<PathBuf> {
    let roots = fs::read_dir(dir.join("data/images/rootfs"))?;
    let mut roots = roots.filter_map(Result::ok).map(|entry| entry.path());
    roots.find(|root| root.join("opt/tor-browser/Browser/firefox.real").exists()).context("no unpacked image has the browser")
}

impl Bench<'_> {
    fn launch(&self, way: Way) -> Result<Sample> {
        let display = Xvfb::start()?;
        let log = self.work.join("log");
        let mut command = match way {
            Way::Torbox => self.torbox(&display)?,
            Way::Bare => self.bare(&display),
            Way::Bubblewrap => self.bubblewrap(&display)?,
            Way::Podman => self.podman(&display)?,
        };
        let out = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let before: Vec<_> = process::all()?;
        let mut watch = display.watch()?;
        let begun = Instant::now();
        let mut child = command.spawn().context("cannot start it")?;
        let appeared = watch.first_window(begun + PATIENCE);
        let new: Vec<_> = process::all()?.into_iter().filter(|process| !before.contains(process)).collect();
        let words = new.iter().map(|process| (process.0, process.command_line()));
        let memory: Vec<_> = words.map(|(pid, line)| (line, pss(pid))).collect();
        end(&mut child);
        let text = fs::read_to_string(&log).unwrap_or_default();
        let appeared = appeared?.with_context(|| format!("no window appeared; it said:\n{text}"))?;
        let sum = |wanted: &dyn Fn(&str) -> bool| memory.iter().filter(|(line, _)| wanted(line)).map(|(_, kib)| kib).sum();
        let tor = |line: &str| line.starts_with("/usr/bin/tor ");
        let browser = |line: &str| line.contains("firefox.real") && !line.contains("libexec/torbox") && !line.contains("bwrap") && !line.contains("podman") || line.starts_with("Xvfb");
        Ok(Sample { painted: appeared.painted - begun, added: sum(&|line| !tor(line) && !browser(line)), tor: sum(&tor), steps: steps(&text) })
    }

    fn torbox(&self, display: &Xvfb) -> Result<Command> {
        let torrc = self.installed.dir().join("offline.torrc");
        // Nothing can be sent: the namespace has no interface. With DisableNetwork tor would not open its socket.
        fs::write(&torrc, "")?;
        let args = ["run", "--verbose", "--browser", "firefox-esr", "--torrc", &torrc.display().to_string(), "about:blank"].map(str::to_owned);
        self.installed.command_on(display, Some(&self.place), args)
    }

    /// The browser in its image's root, which is all of the host that it needs. Read-only, as for the others: torbox unpacks a root
    /// that was written to again.
    fn bare(&self, display: &Xvfb) -> Command {
        let (root, socket) = (self.root.display(), display.socket());
        let socket = socket.display();
        let (uid, gid) = self.user.ids();
        let mounts = format!(
            "mount --bind {root} {root} && mount -o remount,bind,ro {root} && mount -t tmpfs tmpfs {root}/tmp && mount -t tmpfs tmpfs {root}/run && mkdir -m 777 {root}/tmp/.X11-unix {root}/run/home && mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && \
             touch {root}{socket} && mount --bind {socket} {root}{socket} && cp {} {root}/run/auth && chown {uid} {root}/run/auth && \
             exec chroot --userspec={uid}:{gid} {root} {BROWSER} --new-instance --profile /run/home about:blank",
            display.auth_file().display(),
        );
        let mut command = self.place.command("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &mounts]);
        environment(&mut command, display);
        command
    }

    fn bubblewrap(&self, display: &Xvfb) -> Result<Command> {
        let auth = self.user.home().join("bench.auth");
        if auth.exists() {
            fs::remove_file(&auth)?;
        }
        display.write_auth(&auth, Some(self.user.ids()))?;
        let mut command = self.user.command(None, "bwrap");
        command.args(["--unshare-all", "--die-with-parent", "--ro-bind"]).arg(&self.root).arg("/").args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]);
        command.args(["--dir", "/run/home", "--ro-bind"]).arg(display.socket()).arg(display.socket()).arg("--ro-bind").arg(auth).arg("/run/auth");
        command.args([BROWSER, "--new-instance", "--profile", "/run/home", "about:blank"]);
        environment(&mut command, display);
        Ok(command)
    }

    fn podman(&self, display: &Xvfb) -> Result<Command> {
        let mut command = Command::new("podman");
        command.args(["--cgroup-manager", "cgroupfs", "--runtime", "runc", "run", "--rm", "--network", "none", "--uts", "host", "--read-only", "--cap-drop", "all"]);
        command.args(["--security-opt", "seccomp=unconfined", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--tmpfs", "/tmp", "--tmpfs", "/run/home"]);
        command.arg("-v").arg(format!("{0}:{0}", display.socket().display())).arg("-v").arg(format!("{}:/run/auth:ro", display.auth_file().display()));
        for (name, value) in ENVIRONMENT.iter().chain(&[("DISPLAY", display.display().as_str())]) {
            command.args(["-e", &format!("{name}={value}")]);
        }
        command.arg("--rootfs").arg(format!("{}:O", self.root.display())).args([BROWSER, "--new-instance", "--profile", "/run/home", "about:blank"]);
        Ok(command)
    }
}

const BROWSER: &str = "/opt/tor-browser/Browser/firefox.real";
const ENVIRONMENT: [(&str, &str); 8] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
    ("HOME", "/run/home"),
    ("XAUTHORITY", "/run/auth"),
    ("LANG", "C.UTF-8"),
    ("GDK_BACKEND", "x11"),
    ("NO_AT_BRIDGE", "1"),
    ("GSETTINGS_BACKEND", "memory"),
    ("TOR_SOCKS_IPC_PATH", "/run/nowhere"),
];

fn environment(command: &mut Command, display: &Xvfb) {
    command.env_clear().envs(ENVIRONMENT).env("DISPLAY", display.display()).env("MOZ_CRASHREPORTER_DISABLE", "1");
}

fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    let ended = torbox_tests::wait::retry(Duration::from_millis(20), deadline, || child.try_wait().ok().flatten());
    if ended.is_none() {
        let _gone = child.kill();
        let _status = child.wait();
    }
}

/// Proportional set size in KiB (proc_pid_smaps(5)); 0 for a process that is gone.
fn pss(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// `torbox:   61.1 ms  Start(Browser)` of `torbox run --verbose`.
fn steps(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("torbox:")?.trim().split_once(" ms  "));
    lines.filter_map(|(ms, action)| Some((action.to_owned(), ms.trim().parse().ok()?))).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(samples: &BTreeMap<Way, Vec<Sample>>) {
    let of = |way: Way, field: &dyn Fn(&Sample) -> f64| median(samples.get(&way).into_iter().flatten().map(field).collect());
    let painted = |sample: &Sample| sample.painted.as_secs_f64() * 1000.0;
    let bare = of(Way::Bare, &painted);
    println!("| {RUNS} runs each, in turn, medians | first paint ms | of bare | memory added, PSS MiB |\n|---|---|---|---|");
    for (way, name) in WAYS.iter().filter(|(way, _)| samples.contains_key(way)) {
        let ms = of(*way, &painted);
        let mib = of(*way, &|sample| sample.added as f64) / 1024.0;
        println!("| {name} | {ms:.0} | {:.3} | {mib:.1} |", ms / bare);
    }
    println!("\ntor: {:.1} MiB PSS", of(Way::Torbox, &|sample| sample.tor as f64) / 1024.0);
    for action in ["Enclose", "Create(Tor)", "Create(Gate)", "Create(Browser)", "Verify(Browser)", "AwaitListeners", "Start(Browser)"] {
        println!("{action}: done after {:.1} ms", of(Way::Torbox, &|sample| sample.steps.get(action).copied().unwrap_or(f64::NAN)));
    }
}
