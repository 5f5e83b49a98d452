//! The box as a compose file, run by docker-compose and podman-compose without torbox: pages, the probe inside, and a file that was
//! weakened. The engines are the test's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use torbox_tests::boxed::{RunningBox, kept_dir};
use torbox_tests::display::{Weston, Xvfb};
use torbox_tests::engine::{Engine, Kind};
use torbox_tests::testnet::Via;
use torbox_tests::testnet::capture::Capture;

use crate::bridge::{only_snowflakes_own, tor_alone_asks_for_names};
use crate::engines::{IMAGES, assert_is_a_box, load_images, report, with};
use crate::ground::{Stage, outcome, soon};
use crate::page::Awaited;

/// How long a compose may take to end what it started.
const GONE: Duration = Duration::from_secs(30);
const NAME: &str = "composed";

/// A written file, and the compose that reads it.
struct Composed<'a> {
    stage: &'a Stage<'a>,
    engine: &'a Engine,
    dir: TempDir,
}

impl<'a> Composed<'a> {
    /// What `torbox compose` writes for a box that opens `url`; `command` says on which display.
    fn write(stage: &'a Stage<'a>, engine: &'a Engine, url: &str, command: Command) -> Self {
        Self::write_of(IMAGES, stage, engine, url, command)
    }

    /// The same, where the box is made of these images.
    fn write_of(images: [&str; 2], stage: &'a Stage<'a>, engine: &'a Engine, url: &str, mut command: Command) -> Self {
        let dir = tempfile::Builder::new().prefix("torbox-compose-").tempdir().unwrap();
        let format = engine.kind().backend();
        command.args(["--url", url, "--format", format]).arg(dir.path());
        let (code, out, said) = outcome(&mut command);
        assert_eq!((code, out.as_str()), (Some(0), ""), "{said}");
        load_images(stage, engine, images);
        Self { stage, engine, dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("compose.yaml")
    }

    /// The tool, in the file's directory.
    fn tool(&self) -> Command {
        let place = self.stage.ground.net.client();
        let mut command = match self.engine.kind() {
            Kind::Docker | Kind::RootlessDocker => {
                let mut command = place.command("/usr/bin/docker-compose");
                command.env("DOCKER_HOST", self.engine.url());
                command
            }
            Kind::Podman | Kind::RootlessPodman => {
                let mut command = place.command("/usr/bin/python3");
                command.env("PYTHONPATH", kept_dir().unwrap().join("podman-compose/usr/lib/python3/dist-packages")).args(["-m", "podman_compose", "--podman-path"]);
                command.arg(self.engine.own_program().unwrap());
                command
            }
        };
        command.current_dir(self.dir.path()).args(["--project-name", NAME, "--file"]).arg(self.file());
        self.engine.asking(command)
    }

    /// `up`, in the foreground: what it says is what the containers say.
    fn up(&self, display: Option<&Xvfb>) -> RunningBox {
        let mut command = self.tool();
        if let Some(display) = display {
            let digits: String = display.cookie().iter().map(|byte| format!("{byte:02x}")).collect();
            command.env("TORBOX_DISPLAY_COOKIE", digits);
        }
        command.arg("up");
        self.stage.start(command, NAME)
    }

    /// A program of the browser's container, beside the browser.
    fn beside_the_browser(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.engine.client(&self.stage.ground.net.client());
        outcome(command.args(["exec", &format!("torbox-{NAME}-browser"), "/usr/libexec/torbox/init"]).args(words))
    }

    /// `down`, after which nothing is left.
    fn down(&self, mut running: RunningBox) {
        torbox_tests::boxed::send(&running.child, nix::sys::signal::Signal::SIGINT).unwrap();
        running.ended(soon(GONE.as_secs())).unwrap();
        let (code, _, said) = outcome(self.tool().env("TORBOX_DISPLAY_COOKIE", "").args(["down", "--volumes"]));
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(self.left(), Vec::<String>::new());
    }

    /// Names of the containers and volumes that are there.
    fn left(&self) -> Vec<String> {
        let containers = self.engine.get("/containers/json?all=1").unwrap();
        let volumes = self.engine.get("/volumes").unwrap();
        let containers = containers.as_array().into_iter().flatten().map(|container| container["Names"][0].to_string());
        let volumes = volumes["Volumes"].as_array().into_iter().flatten().map(|volume| volume["Name"].to_string());
        containers.chain(volumes).filter(|name| name.contains(NAME)).collect()
    }
}

/// `torbox compose` on an X server.
fn on_x11(stage: &Stage<'_>, display: &Xvfb) -> Command {
    stage.verb_command_on(display, "compose", NAME)
}

pub(crate) fn docker(stage: &Stage<'_>) {
    with(stage, Kind::Docker, |engine| {
        let net = &stage.ground.net;
        for (url, via) in [(&net.state().named_url, Via::Exit), (&net.state().onion_url, Via::Onion)] {
            let display = Xvfb::start().unwrap();
            let composed = Composed::write(stage, engine, url, on_x11(stage, &display));
            let page = Awaited::new(stage);
            let running = composed.up(Some(&display));
            page.request(via, &running);
            page.text(|shot| display.screenshot(shot), &running);
            if via == Via::Exit {
                holds_inside(&composed, &running);
            }
            composed.down(running);
        }
        a_weakened_file_starts_nothing(stage, engine);
    });
}

pub(crate) fn podman(stage: &Stage<'_>) {
    with(stage, Kind::Podman, |engine| {
        let net = &stage.ground.net;
        for (url, via) in [(&net.state().named_url, Via::Exit), (&net.state().onion_url, Via::Onion)] {
            let display = Weston::start(None).unwrap();
            let mut command = stage.verb_command("compose", NAME);
            command.env("WAYLAND_DISPLAY", display.socket());
            let composed = Composed::write(stage, engine, url, command);
            let page = Awaited::new(stage);
            let running = composed.up(None);
            page.request(via, &running);
            page.text(|shot| display.screenshot(shot), &running);
            if via == Via::Exit {
                holds_inside(&composed, &running);
            }
            composed.down(running);
        }
    });
}

/// The page through the Snowflake that the stage's one bridge names; `engine` is on a machine that looks its names up.
pub(crate) fn through_snowflake(stage: &Stage<'_>, engine: &Engine) {
    let display = Xvfb::start().unwrap();
    let images = ["torbox/tor-transports", "torbox/firefox-esr"];
    let composed = Composed::write_of(images, stage, engine, &stage.ground.net.state().named_url, on_x11(stage, &display));
    let capture = Capture::start(&stage.ground.net.client()).unwrap();
    let page = Awaited::new(stage);
    let running = composed.up(Some(&display));
    page.request(Via::Exit, &running);
    page.text(|shot| display.screenshot(shot), &running);
    tor_alone_asks_for_names(engine, NAME);
    composed.down(running);
    only_snowflakes_own(&capture.end().unwrap());
}

/// What SECURITY.md says that engines and compose files leave open, apart from G6. The last is that of a program beside the browser.
const OPEN: [&str; 7] = ["write.run.torbox", "device.dev.ptmx", "device.others", "namespace.user", "namespace.cgroup", "identity.map", "lifeline.stdin"];

/// What the probe finds beside the browser, and what the browser's init said before it started it.
fn holds_inside(composed: &Composed<'_>, running: &RunningBox) {
    let (code, out, said) = composed.beside_the_browser(&["probe"]);
    assert_eq!(code, Some(0), "{said}");
    assert_is_a_box(&report(&out, &said));
    let (_, out, said) = composed.beside_the_browser(&["audit", "--boxed"]);
    let rows: Vec<Value> = out.lines().map(|line| report(line, &said)).collect();
    assert!(rows.len() > 350, "{out}\n{said}");
    // The bus that init is for the browser is the container's own.
    let bus = |row: &Value| row["id"] == "endpoint.sockets" && row["found"] == "/run/user/messages";
    let open = rows.iter().filter(|row| row["verdict"] == "not-held" && row["guarantee"] != "G6" && !bus(row)).map(|row| row["id"].as_str().unwrap());
    let more: Vec<_> = open.filter(|id| !OPEN.contains(id)).collect();
    assert_eq!(more, Vec::<&str>::new(), "{out}");
    assert!(running.said().contains("held"), "{}", running.said());
    assert!(!composed.left().is_empty(), "the positive control: a box that runs is seen");
}

/// Somebody gave the browser's container a network.
fn a_weakened_file_starts_nothing(stage: &Stage<'_>, engine: &Engine) {
    let display = Xvfb::start().unwrap();
    let composed = Composed::write(stage, engine, &stage.ground.net.state().named_url, on_x11(stage, &display));
    let text = fs::read_to_string(composed.file()).unwrap();
    let (browser, rest) = text.split_once("\n  display:").unwrap();
    assert_eq!(browser.matches("network_mode: \"none\"").count(), 1, "{browser}");
    fs::write(composed.file(), format!("{}\n  display:{rest}", browser.replace("network_mode: \"none\"", "network_mode: \"host\""))).unwrap();
    let mark = stage.ground.net.web_log().mark();
    let mut running = composed.up(Some(&display));
    running.wait_until_said("the box does not hold", soon(60)).unwrap();
    let asked = stage.ground.net.web_log().wait_for(mark, soon(3), |_| true).unwrap();
    assert!(asked.is_none(), "{asked:?}");
    composed.down(running);
}
