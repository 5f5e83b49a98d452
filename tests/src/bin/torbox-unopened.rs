//! `make unopened`: which files of the images no process of a browsing run ever opens, with their size.
//!
//! Boxes show pages of the private Tor network, through an exit and of an onion service, on X11 and on Wayland. What is opened in them
//! is told by fanotify(7) on the overlays that their containers run on, from before any of their programs starts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use serde::Deserialize;
use torbox_tests::boxed::{Installed, RunningBox, Who, kept_dir, readable};
use torbox_tests::display::{Weston, Xvfb};
use torbox_tests::process::{self, ProcessId};
use torbox_tests::testnet::web::PAGE_TEXT;
use torbox_tests::testnet::{Options, TestNet, helper};

/// How long a page may take, from `torbox run` to its text on the screen.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(1);
/// The images: the name that their overlays give them, their own, and a program that every run starts, the proof that nothing was missed.
const IMAGES: [(&str, &str, &str); 2] = [("tor", "torbox/tor", "/usr/bin/tor"), ("browser", "torbox/firefox-esr", "/opt/tor-browser/Browser/firefox.real")];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unopened: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let torbox = Installed::new(Who::Root, &kept_dir()?)?;
    torbox.build_images()?;
    torbox.forget_state()?;
    let work = tempfile::Builder::new().prefix("torbox-unopened-").tempdir()?;
    let helper = helper()?;
    let net = TestNet::up(&Options::new(&work.path().join("net"), &helper))?;
    let xvfb = Xvfb::start()?;
    let weston = Weston::start(None)?;
    let on_wayland = || {
        let mut command = torbox.command(Some(&net.client()), ["run"]);
        command.env("WAYLAND_DISPLAY", weston.socket());
        command
    };
    let on_x11 = || torbox.command_on(&xvfb, Some(&net.client()), ["run"]);
    let runs = [
        browse(&torbox, &net, on_x11()?, &net.state().named_url, work.path(), |shot| xvfb.screenshot(shot))?,
        browse(&torbox, &net, on_x11()?, &net.state().onion_url, work.path(), |shot| xvfb.screenshot(shot))?,
        browse(&torbox, &net, on_wayland(), &net.state().named_url, work.path(), |shot| weston.screenshot(shot))?,
    ];
    let mut opened = Opened::new();
    for (image, paths) in runs.into_iter().flatten() {
        opened.entry(image).or_default().extend(paths);
    }
    for (image, name, program) in IMAGES {
        let opened = opened.get(image).filter(|paths| paths.contains(program)).with_context(|| format!("{program} was not seen"))?;
        print(name, &files(&unpacked(&torbox, name)?)?, opened);
    }
    Ok(())
}

/// Paths that were opened, by image.
type Opened = BTreeMap<&'static str, BTreeSet<String>>;

/// Opens `url` in a box that `command` runs, until its text can be read on the screen.
fn browse(torbox: &Installed<'_>, net: &TestNet, mut command: Command, url: &str, work: &Path, shoot: impl FnMut(&Path) -> Result<()>) -> Result<Opened> {
    command.args(["--browser", "firefox-esr", "--torrc"]).arg(torbox.copy_torrc(net)?).arg(url);
    let mut watch = Watch::new()?;
    let running = RunningBox::start(command, &work.join("log"))?;
    let (outer, seen) = (ProcessId(running.child.id()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch.until(&seen, outer));
        let shown = readable(shoot, PAGE_TEXT, &work.join("screen.png"), Instant::now() + PATIENCE);
        // What is opened on the way out counts as well.
        let said = running.said();
        let ended = running.interrupt();
        seen.store(true, Ordering::Relaxed);
        let watched = watching.join().map_err(|_| anyhow::anyhow!("the watching thread panicked"))?;
        ensure!(shown?.is_ok(), "the page did not appear on the screen; torbox said:\n{said}");
        ended.and(watched)
    })?;
    Ok(watch.opened)
}

/// Who opens what in a box: a group of fanotify(7) for each image, whose files cannot be told apart by their device numbers.
struct Watch {
    groups: BTreeMap<&'static str, Fanotify>,
    /// Device numbers of the overlays that are watched.
    overlays: BTreeSet<u64>,
    opened: Opened,
}

impl Watch {
    fn new() -> Result<Self> {
        let flags = InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK | InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_UNLIMITED_QUEUE;
        let group = |(image, _, _)| Ok((image, Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC).context("fanotify_init")?));
        let groups = IMAGES.into_iter().map(group).collect::<Result<_>>()?;
        Ok(Self { groups, overlays: BTreeSet::new(), opened: Opened::new() })
    }

    /// Watches every overlay as soon as it is there, until `end` is set.
    fn until(&mut self, end: &AtomicBool, outer: ProcessId) -> Result<()> {
        while !end.load(Ordering::Relaxed) {
            // A process may be gone before its mounts are read.
            for process in process::descendants(outer)? {
                self.mark(process).unwrap_or(());
            }
            self.take()?;
            std::thread::sleep(PAUSE);
        }
        self.take()
    }

    /// Marks the overlays that `process` sees (proc_pid_mountinfo(5)).
    fn mark(&mut self, process: ProcessId) -> Result<()> {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", process.0))?;
        for (place, image) in mounts.lines().filter_map(overlay) {
            let root = File::open(format!("/proc/{}/root{place}", process.0))?;
            let group = self.groups.get(image).context("an overlay of another image")?;
            if self.overlays.insert(root.metadata()?.dev()) {
                group.mark(MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM, MaskFlags::FAN_OPEN | MaskFlags::FAN_OPEN_EXEC, &root, None::<&str>)?;
            }
        }
        Ok(())
    }

    /// Notes what was opened since the last time.
    fn take(&mut self) -> Result<()> {
        for (image, group) in &self.groups {
            while let Some(events) = some(group.read_events())? {
                for event in events {
                    let file = event.fd().context("fanotify lost events")?;
                    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
                    self.opened.entry(image).or_default().insert(path.display().to_string());
                }
            }
        }
        Ok(())
    }
}

/// None where there is nothing to be read now.
fn some<T>(read: nix::Result<T>) -> Result<Option<T>> {
    match read {
        Err(Errno::EAGAIN) => Ok(None),
        read => read.map(Some).context("fanotify"),
    }
}

/// Where an overlay is mounted and the image that it shows; none for a line that tells of something else.
fn overlay(line: &str) -> Option<(&str, &'static str)> {
    let (place, options) = line.split_once(" - overlay ")?;
    let name = options.split_once("lowerdir=/lower/")?.1.split(':').next()?;
    let (image, ..) = IMAGES.into_iter().find(|(image, ..)| *image == name)?;
    Some((place.split(' ').nth(4)?, image))
}

/// Where the image is unpacked.
fn unpacked(torbox: &Installed<'_>, name: &str) -> Result<PathBuf> {
    let text = process::output(&mut torbox.command(None, ["images", "--json"]))?;
    let images: Vec<Image> = serde_json::from_slice(&text)?;
    let image = images.iter().find(|image| image.name == name).with_context(|| format!("no image {name}"))?;
    Ok(torbox.dir().join("data/images/rootfs").join(image.digest.replace(':', "-")))
}

/// What `torbox images --json` tells of an image.
#[derive(Deserialize)]
struct Image {
    name: String,
    digest: String,
}

/// Size and path of the files below a directory.
fn files(root: &Path) -> Result<Vec<(u64, String)>> {
    let (mut found, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let (path, kind) = { let entry = entry?; (entry.path(), entry.file_type()?) };
            if kind.is_file() {
                found.push((fs::metadata(&path)?.len(), format!("/{}", path.strip_prefix(root)?.display())));
            }
            dirs.extend(kind.is_dir().then_some(path));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

fn print(image: &str, files: &[(u64, String)], opened: &BTreeSet<String>) {
    let never: Vec<_> = files.iter().filter(|(_, path)| !opened.contains(path)).collect();
    let sum = |files: &mut dyn Iterator<Item = u64>| files.sum::<u64>();
    let (all, unopened) = (sum(&mut files.iter().map(|(size, _)| *size)), sum(&mut never.iter().map(|(size, _)| *size)));
    println!("{image}: {} files with {all} bytes, of them never opened {} with {unopened} bytes", files.len(), never.len());
    never.iter().for_each(|(size, path)| println!("{size:>10} {path}"));
}
