//! The same box through Docker and Podman: pages, the probe, what a plain container of the same image lacks, engines that fail, and
//! engines that do something else than they are asked. The engines are the test's own.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use torbox_tests::boxed::{END, RunningBox, send};
use torbox_tests::display::Xvfb;
use torbox_tests::engine::{Engine, Kind, Tamper, Tampering};
use torbox_tests::process::ProcessId;
use torbox_tests::testnet::Via;
use torbox_tests::{process, wait};

use crate::ground::{Stage, outcome, soon};
use crate::files;
use crate::page::{Awaited, BESIDE, failures};
use crate::served;

/// How long an engine may take to remove what a box had.
pub(crate) const GONE: Duration = Duration::from_secs(45);

/// The words that ask for `engine`.
pub(crate) fn through(mut command: Command, engine: &Engine) -> Command {
    command.args(["--backend", engine.kind().backend(), "--engine", &engine.url()]);
    command
}

/// Runs `test` with an engine of `kind`, kept from one test to the next.
pub(crate) fn with(stage: &Stage<'_>, kind: Kind, test: impl FnOnce(&mut Engine)) {
    let mut kept = stage.ground.engines.lock().unwrap_or_else(PoisonError::into_inner);
    let position = kept.iter().position(|engine| engine.kind() == kind).unwrap_or_else(|| {
        kept.push(Engine::start(kind, &stage.ground.net.client(), &stage.ground.user).unwrap());
        kept.len() - 1
    });
    test(&mut kept[position]);
}

/// The engines that were started so far.
pub(crate) type Kept = Mutex<Vec<Engine>>;

pub(crate) fn assert_nothing_left(engine: &Engine, what: &str) {
    let mut last = Vec::new();
    let gone = wait::retry(Duration::from_millis(100), Instant::now() + GONE, || {
        last = engine.left().unwrap();
        last.is_empty().then_some(())
    });
    assert!(gone.is_some(), "{what}: {last:?}");
}

/// The page behind an exit and the page of the onion service; nothing is left afterwards, and a foreign container untouched.
pub(crate) fn pages(stage: &Stage<'_>, kind: Kind, vias: &[Via]) {
    with(stage, kind, |engine| {
        let heard = outcome(through(stage.verb_command_on(&Xvfb::start().unwrap(), "run", "engine"), engine).arg("--sound"));
        assert!(heard.0 == Some(6) && heard.2.contains("no engine's box is heard"), "{heard:?}");
        for &via in vias {
            let state = stage.ground.net.state();
            let url = if via == Via::Exit { &state.named_url } else { &state.onion_url };
            let display = Xvfb::start().unwrap();
            let page = if via == Via::Onion { Awaited::of_onion(stage) } else { Awaited::new(stage) };
            let running = stage.start(through(stage.run_command(&display, "engine", url), engine), "engine");
            if via == Via::Onion { page.request_of_onion("engine", &running) } else { page.request(via, &running) };
            page.text(|shot| display.screenshot(shot), &running);
            if Some(&via) == vias.first() {
                its_user_is_served(stage, engine, &running);
            }
            assert!(!engine.left().unwrap().is_empty(), "the positive control: a box that runs is seen");
            assert_eq!(stage.call(&["new-identity", "engine"]), (Some(0), String::new(), String::new()), "{}", running.said());
            let log = running.log.clone();
            assert_eq!(running.interrupt_within(GONE).unwrap(), Some(0), "{}", wait::text_so_far(&log));
            assert_nothing_left(engine, "after Ctrl-C");
        }
    });
}

/// `command` of somebody who has no network at all.
pub(crate) fn apart(command: &Command) -> Command {
    let mut alone = Command::new("/usr/bin/unshare");
    alone.arg("--net").arg(command.get_program()).args(command.get_args());
    alone.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    alone
}

/// Whom the container of `role` of box `name` asks for names.
pub(crate) fn resolver_of(engine: &Engine, name: &str, role: &str) -> String {
    let told = engine.get(&format!("/containers/torbox-{name}-{role}/json")).unwrap();
    std::fs::read_to_string(format!("/proc/{}/root/etc/resolv.conf", told["State"]["Pid"])).unwrap()
}

/// Beside the page: addresses are opened, files leave and enter, and every attempt to get out is made.
fn its_user_is_served(stage: &Stage<'_>, engine: &Engine, running: &RunningBox) {
    let audited = stage.call(&["audit", "--name", "engine", "--json"]);
    assert_audited(&audited);
    assert!(audited.2.contains("beside its browser"), "{}", audited.2);
    let page = Awaited::new(stage);
    let url = format!("{}{}", stage.ground.net.state().named_url, files::path());
    assert_eq!(stage.call(&["open", "--name", "engine", &url]), (Some(0), String::new(), String::new()), "{}", running.said());
    page.request_of(Via::Exit, &format!("/{}", files::path()), running);
    let told = engine.get("/containers/torbox-engine-browser/json").unwrap();
    files::leave_and_enter(stage, "engine", ProcessId(told["State"]["Pid"].as_u64().unwrap().try_into().unwrap()));
}

/// Every attempt fails but those that no engine can do anything about, and the audit says which.
fn assert_audited((code, out, said): &(Option<i32>, String, String)) {
    let open = failures(out, said);
    let given_up: Vec<&str> = open.iter().map(|row| row["id"].as_str().unwrap()).filter(|id| *id != BESIDE).collect();
    assert!(open.iter().all(|row| row["verdict"] == "unavailable") && *code == Some(0), "{code:?} {open:?} {said}");
    for id in ["namespace.time", "host.clock", "device.dev.ptmx", "device.others", "host.mounts"] {
        assert!(given_up.contains(&id), "{id}: {given_up:?}");
    }
}

pub(crate) fn docker_pages(stage: &Stage<'_>) {
    pages(stage, Kind::Docker, &[Via::Exit, Via::Onion]);
}

pub(crate) fn podman_pages(stage: &Stage<'_>) {
    pages(stage, Kind::Podman, &[Via::Exit, Via::Onion]);
}

pub(crate) fn rootless_docker_pages(stage: &Stage<'_>) {
    // Its way to the network is another, that to the display is as in the others.
    pages(stage, Kind::RootlessDocker, &[Via::Onion]);
}

pub(crate) fn rootless_podman_pages(stage: &Stage<'_>) {
    pages(stage, Kind::RootlessPodman, &[Via::Exit, Via::Onion]);
}

/// The images of a box without a transport.
pub(crate) const IMAGES: [&str; 2] = ["torbox/tor", "torbox/firefox-esr"];

/// Loads those of the images that `engine` lacks, as a user does it.
pub(crate) fn load_images(stage: &Stage<'_>, engine: &Engine, images: [&str; 2]) {
    let there = engine.get("/images/json").unwrap();
    let tags: Vec<&Value> = there.as_array().unwrap().iter().flat_map(|image| image["RepoTags"].as_array().into_iter().flatten()).collect();
    for image in images.into_iter().filter(|image| !tags.contains(&&json!(format!("localhost/{image}:latest")))) {
        let archive = stage.out.path().join(format!("{}.tar", image.replace('/', "-")));
        let exported = stage.call(&["images", "export", image, &archive.display().to_string()]);
        assert_eq!(exported.0, Some(0), "{}", exported.2);
        process::output(engine.client(&stage.ground.net.client()).args(["load", "--input"]).arg(&archive)).unwrap();
    }
}

pub(crate) fn report(out: &str, said: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}\n{said}"))
}

const FAMILIES: [&str; 14] =
    ["unix", "inet", "inet6", "netlink", "packet", "alg", "vsock", "bluetooth", "can", "tipc", "key", "rds", "x25", "appletalk"];

/// What the probe finds in a box, whoever made it.
pub(crate) fn assert_is_a_box(boxed: &Value) {
    assert_eq!(boxed["interfaces"], json!(["lo"]));
    for family in FAMILIES {
        for ty in ["stream", "dgram", "raw", "seqpacket"] {
            let expected = if family == "unix" { "open" } else { "EAFNOSUPPORT" };
            assert_eq!(boxed["sockets"][format!("{family}/{ty}")], expected, "{family}/{ty}");
        }
    }
    for (key, value) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Seccomp_filters", "1"), ("CapBnd", "0000000000000000"), ("CapEff", "0000000000000000"), ("Uid", "1000\t1000\t1000\t1000")] {
        assert_eq!(boxed["status"][key], value, "{key}");
    }
    for (place, result) in [("/", "EROFS"), ("/etc", "EROFS"), ("/usr", "EROFS"), ("/run", "EACCES"), ("/run/torbox/browser", "EROFS"), ("/home/user", "open"), ("/tmp", "open")] {
        assert_eq!(boxed["writable"][place], result, "{place}");
    }
    for file in ["/etc/hosts", "/etc/resolv.conf"] {
        assert_eq!(boxed["files"][file], "", "{file}");
    }
    for place in ["/sys/class", "/dev/dri", "/dev/snd", "/dev/vsock", "/dev/kvm", "/run/dbus", "/var/run/docker.sock", "/bin/sh"] {
        assert_eq!(boxed["exists"][place], false, "{place}");
    }
}

/// The probe through an engine; each row is what a plain container of the same image fails, or not.
fn probe_finds_nothing(stage: &Stage<'_>, kind: Kind) {
    with(stage, kind, |engine| {
        let (code, out, said) = outcome(&mut through(stage.probe_command("probe"), engine));
        assert_eq!(code, Some(0), "{said}");
        assert_nothing_left(engine, "after the probe");
        let boxed = report(&out, &said);
        assert_is_a_box(&boxed);
        for file in ["/proc/cmdline", "/proc/version"] {
            assert_eq!(boxed["files"][file], "", "{file}");
        }
        assert_eq!(boxed["files"]["/proc/sys/kernel/hostname"], "ENOENT");
        let names: Vec<&String> = boxed["environment"].as_object().unwrap().keys().collect();
        assert!(!names.iter().any(|name| ["container", "HOSTNAME", "TERM"].contains(&name.as_str())), "{names:?}");
        assert_audited(&outcome(&mut through(stage.audit_command("audit"), engine)));
        runtimes(stage, engine);
        the_doctor_knows(stage, engine);
        a_plain_container_is_red(stage, engine);
    });
}

/// The runtime that the engine has anyway can be asked for by name; one that it does not know, or would not take, is refused by name.
fn runtimes(stage: &Stage<'_>, engine: &Engine) {
    let with = |runtime: &str| outcome(through(stage.probe_command("runtime"), engine).args(["--oci-runtime", runtime]));
    let (code, out, said) = with("runc");
    assert_eq!(code, Some(0), "{said}");
    assert_is_a_box(&report(&out, &said));
    // Podman lists runtimes that are not installed, and silently takes its own instead.
    let known = if engine.kind().backend() == "podman" { vec![("crun", "\"crun\" would be ignored")] } else { Vec::new() };
    for (runtime, reason) in known.into_iter().chain([("no-such-runtime", "knows no OCI runtime \"no-such-runtime\"; it has ")]) {
        let (code, out, said) = with(runtime);
        assert_eq!((code, out.as_str()), (Some(6), ""), "{said}");
        assert!(said.contains(reason), "{said}");
    }
}

/// `torbox doctor` finds the engine and takes it; an address that is none, and a socket behind which nobody is, it names and refuses.
fn the_doctor_knows(stage: &Stage<'_>, engine: &Engine) {
    let dead = stage.out.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let dead = format!("unix://{}", dead.display());
    let doctor = |variable: &str, address: &str| {
        let mut command = stage.installed.command(None, ["doctor", "--json"]);
        let (code, out, said) = outcome(command.env(variable, address));
        assert_eq!(code, Some(0), "{said}");
        let makers = report(&out, &said);
        assert_eq!((&makers[0]["backend"], &makers[0]["refused"]), (&json!("native"), &Value::Null));
        makers.as_array().unwrap().iter().find(|maker| maker["found"] == variable).unwrap().clone()
    };
    let (variable, backend) = if engine.kind().backend() == "docker" { ("DOCKER_HOST", "docker") } else { ("CONTAINER_HOST", "podman") };
    let found = doctor(variable, &engine.url());
    assert_eq!((&found["backend"], &found["address"], &found["refused"]), (&json!(backend), &json!(engine.url()), &Value::Null));
    let can = |what: &str| found["can"].as_array().unwrap().contains(&json!(what));
    assert!(can("on this machine") && can(if engine.kind().is_rootless() { "without root" } else { "users are its host's" }), "{found}");
    for (address, reason) in [("tcp://127.0.0.1:2375", "is no engine's address"), (&dead, "does not answer")] {
        let refused = doctor("DOCKER_HOST", address);
        assert!(refused["refused"].as_str().unwrap().contains(reason) && refused["refused"] != "", "{refused}");
    }
}

/// The positive control: the same program in the same image with nothing but `--network none`.
fn a_plain_container_is_red(stage: &Stage<'_>, engine: &Engine) {
    let mut command = engine.client(&stage.ground.net.client());
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
    command.args(["run", "--rm", "--network", "none"]).args(limits).args(["--entrypoint", "/usr/libexec/torbox/init", "localhost/torbox/firefox-esr:latest", "probe"]);
    let (_, out, said) = outcome(&mut command);
    let plain = report(&out, &said);
    for socket in ["inet/stream", "inet6/stream", "netlink/raw", "vsock/stream"] {
        assert_eq!(plain["sockets"][socket], "open", "{socket}");
    }
    assert_ne!(plain["status"]["CapBnd"], "0000000000000000");
    assert_eq!(plain["status"]["NoNewPrivs"], "0");
    assert_ne!(plain["files"]["/proc/version"], "");
    assert_ne!(plain["files"]["/etc/hosts"], "");
    assert_eq!(plain["exists"]["/sys/class"], true);
}

pub(crate) fn docker_probe(stage: &Stage<'_>) {
    probe_finds_nothing(stage, Kind::Docker);
}

pub(crate) fn podman_probe(stage: &Stage<'_>) {
    probe_finds_nothing(stage, Kind::Podman);
}

pub(crate) fn rootless_docker_probe(stage: &Stage<'_>) {
    probe_finds_nothing(stage, Kind::RootlessDocker);
}

pub(crate) fn rootless_podman_probe(stage: &Stage<'_>) {
    probe_finds_nothing(stage, Kind::RootlessPodman);
}

/// Changes a container's security options, where it has any.
fn options(body: &mut Value, change: impl FnMut(&mut Vec<Value>)) {
    body["HostConfig"]["SecurityOpt"].as_array_mut().into_iter().for_each(change);
}

fn without(options: &mut Vec<Value>, beginning: &str) {
    options.retain(|option| !option.as_str().unwrap().starts_with(beginning));
}

fn push(body: &mut Value, key: &str, value: Value) {
    match body["HostConfig"][key].as_array_mut() {
        Some(list) => list.push(value),
        None => body["HostConfig"][key] = json!([value]),
    }
}

/// What an engine may do behind the caller's back.
const TAMPERS: [(&str, Tamper); 8] = [
    ("drops the seccomp profile", |body| options(body, |options| without(options, "seccomp="))),
    ("installs no filter", |body| {
        options(body, |options| {
            without(options, "seccomp=");
            options.push(json!("seccomp=unconfined"));
        });
    }),
    ("adds a network", |body| body["HostConfig"]["NetworkMode"] = json!("host")),
    ("adds a mount", |body| push(body, "Binds", json!("/etc:/run/user:ro"))),
    ("adds a capability", |body| push(body, "CapAdd", json!("NET_RAW"))),
    ("makes it privileged", |body| body["HostConfig"]["Privileged"] = json!(true)),
    ("forgets the masks", |body| {
        body["HostConfig"]["MaskedPaths"] = json!([]);
        options(body, |options| without(options, "mask="));
    }),
    ("publishes a port", |body| body["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostPort": "18080"}]})),
];

/// Each of these is refused, and nothing runs or stays; without tampering the same proxy serves a box.
fn tampering(stage: &Stage<'_>, kind: Kind) {
    with(stage, kind, |engine| {
        let proxy = Tampering::before(engine).unwrap();
        let probe = || {
            let mut command = stage.probe_command("tampered");
            command.args(["--backend", kind.backend(), "--engine", &proxy.url()]);
            outcome(&mut command)
        };
        // Podman itself drops the ports of a container without a network: there is nothing to see.
        let tampers = TAMPERS.iter().filter(|(what, _)| kind == Kind::Docker || *what != "publishes a port");
        for &(what, tamper) in tampers {
            proxy.set(Some(tamper));
            let (code, out, said) = probe();
            assert!(code.is_some_and(|code| code != 0), "{what}: {said}");
            assert!(said.contains("is not what was planned") || said.contains("the engine did not "), "{what}: {said}");
            assert!(!out.contains("interfaces") && !said.contains("Bootstrapped"), "{what}: something ran: {said}");
            assert_nothing_left(engine, what);
        }
        proxy.set(None);
        let (code, _, said) = probe();
        assert_eq!(code, Some(0), "the positive control: {said}");
    });
}

pub(crate) fn docker_tampering(stage: &Stage<'_>) {
    tampering(stage, Kind::Docker);
}

pub(crate) fn podman_tampering(stage: &Stage<'_>) {
    tampering(stage, Kind::Podman);
}

/// A foreign container with a name of ours is never touched; a killed torbox ends its box, and the next command removes the rest.
fn foreign_and_left(stage: &Stage<'_>, kind: Kind) {
    with(stage, kind, |engine| {
        load_images(stage, engine, IMAGES);
        let client = || engine.client(&stage.ground.net.client());
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let made = outcome(client().args(["create", "--name", "torbox-foreign-gate", "--network", "none"]).args(limits).arg("localhost/torbox/tor:latest"));
        assert_eq!(made.0, Some(0), "{}", made.2);
        let (code, _, said) = outcome(&mut through(stage.probe_command("foreign"), engine));
        assert_eq!(code, Some(7), "{said}");
        assert!(said.contains("already has a container named torbox-foreign-gate, which is not this box's"), "{said}");
        assert_nothing_left(engine, "after a name was taken");
        let there = outcome(client().args(["rm", "torbox-foreign-gate"]));
        assert_eq!(there.0, Some(0), "it is still there: {}", there.2);

        let display = Xvfb::start().unwrap();
        let mut running = stage.start(through(stage.run_command(&display, "killed", "about:blank"), engine), "killed");
        running.wait_until_said("connecting to the Tor network", soon(60)).unwrap();
        let parts = running.processes().unwrap();
        for part in &parts {
            // The child may have ended with its parent.
            part.send(rustix::process::Signal::KILL).ok();
        }
        send(&running.child, Signal::SIGKILL).unwrap();
        running.ended(Instant::now() + END).unwrap();
        let ended = wait::retry(Duration::from_millis(100), Instant::now() + GONE, || {
            let containers = engine.get("/containers/json").unwrap();
            containers.as_array().is_some_and(Vec::is_empty).then_some(())
        });
        assert!(ended.is_some(), "containers outlive a torbox that was killed: {}", engine.get("/containers/json").unwrap());
        assert!(!engine.left().unwrap().is_empty(), "the positive control: something is left for the next command");
        assert_eq!(stage.call(&["status"]).0, Some(0));
        assert_nothing_left(engine, "after the next command");
    });
}

pub(crate) fn docker_leaves_foreign_things_alone(stage: &Stage<'_>) {
    foreign_and_left(stage, Kind::Docker);
}

pub(crate) fn podman_leaves_foreign_things_alone(stage: &Stage<'_>) {
    foreign_and_left(stage, Kind::Podman);
}

/// An engine that hangs, is not there, or is killed under a running box: an error that names it, in bounded time, and nothing left once
/// it is back.
fn faults(stage: &Stage<'_>, kind: Kind) {
    with(stage, kind, |engine| {
        let unreachable = |what: &str, mut command: Command| {
            let begun = Instant::now();
            let (code, _, said) = outcome(&mut command);
            assert!(code == Some(6) && said.contains("does not answer"), "{what}: {code:?} {said}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}: {:?}", begun.elapsed());
        };
        engine.freeze(Signal::SIGSTOP).unwrap();
        unreachable("it hangs", through(stage.probe_command("hang"), engine));
        engine.freeze(Signal::SIGCONT).unwrap();
        let mut nowhere = stage.probe_command("nowhere");
        nowhere.args(["--backend", kind.backend(), "--engine", "unix:///run/torbox-nowhere.sock"]);
        unreachable("it is not there", nowhere);

        let display = Xvfb::start().unwrap();
        let mut running = stage.start(through(stage.run_command(&display, "fault", "about:blank"), engine), "fault");
        running.wait_until_said("connecting to the Tor network", soon(60)).unwrap();
        engine.kill().unwrap();
        let note = stage.installed.dir().join("run/boxes/fault.engine");
        let code = running.ended(Instant::now() + Duration::from_secs(60)).unwrap();
        assert!(code.is_some_and(|code| code != 0) && running.said().contains("engine"), "{code:?} {}", running.said());
        let (code, _, said) = outcome(&mut stage.probe_command("fault"));
        let told = said.contains("an engine has something of box fault") && said.contains(&format!("if the engine is gone for good: rm {}", note.display()));
        assert!(code == Some(6) && told && note.exists(), "{code:?} {said}");
        engine.serve(&stage.ground.net.client(), &stage.ground.user).unwrap();
        assert_eq!(stage.call(&["status"]).0, Some(0));
        assert_nothing_left(engine, "after the engine came back");
    });
}

pub(crate) fn docker_faults(stage: &Stage<'_>) {
    faults(stage, Kind::Docker);
}

pub(crate) fn podman_faults(stage: &Stage<'_>) {
    faults(stage, Kind::Podman);
}

/// What users and machines do to an engine while torbox works: an image that is deleted, two at once, Ctrl-C, a full disk.
fn disorder(stage: &Stage<'_>, kind: Kind) {
    with(stage, kind, |engine| {
        an_image_is_deleted(stage, engine);
        two_at_once(stage, engine);
        ctrl_c_in_every_phase(stage, engine);
    });
    a_full_disk(stage, kind);
}

/// Takes all images away from `engine`: exit code, and what its client says.
fn delete_images(stage: &Stage<'_>, engine: &Engine) -> (Option<i32>, String) {
    let images = engine.get("/images/json").unwrap();
    let ids: Vec<_> = images.as_array().unwrap().iter().map(|image| image["Id"].as_str().unwrap().trim_start_matches("sha256:")).collect();
    if ids.is_empty() {
        return (Some(0), String::new());
    }
    let (code, _, said) = outcome(engine.client(&stage.ground.net.client()).args(["rmi", "--force"]).args(ids));
    (code, said)
}

/// Docker keeps what a container uses, Podman removes the container with it.
fn an_image_is_deleted(stage: &Stage<'_>, engine: &Engine) {
    let display = Xvfb::start().unwrap();
    let mut running = stage.start(through(stage.run_command(&display, "image", "about:blank"), engine), "image");
    running.wait_until_said("connecting to the Tor network", soon(60)).unwrap();
    let (code, said) = delete_images(stage, engine);
    if engine.kind() == Kind::Docker {
        assert!(code == Some(1) && said.contains("running container"), "{code:?} {said}");
        assert!(running.child.try_wait().unwrap().is_none(), "{}", running.said());
        assert_eq!(running.interrupt_within(GONE).unwrap(), Some(0));
        assert_eq!(delete_images(stage, engine).0, Some(0));
    } else {
        // torbox ends the box at the first container that is gone: Podman may miss the next one, which it then reports.
        let code = running.ended(Instant::now() + GONE).unwrap();
        assert!(code.is_some_and(|code| code != 0) && running.said().contains("while the box was running"), "{code:?} {said} {}", running.said());
        let deleted = wait::retry(Duration::from_millis(100), Instant::now() + GONE, || (delete_images(stage, engine).0 == Some(0)).then_some(()));
        assert!(deleted.is_some(), "{said}");
    }
    assert_nothing_left(engine, "after the image was deleted");
}

/// Three at once, two of them with one name, in an engine without images: two boxes run, the third is told why not.
fn two_at_once(stage: &Stage<'_>, engine: &Engine) {
    let names = ["one", "two", "one"];
    let outcomes = std::thread::scope(|scope| {
        let started: Vec<_> = names.iter().map(|name| scope.spawn(|| outcome(&mut through(stage.probe_command(name), engine)))).collect();
        started.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let mut codes: Vec<_> = outcomes.iter().map(|(code, ..)| *code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(0), Some(3)], "{outcomes:?}");
    assert!(outcomes.iter().any(|(_, _, said)| said.contains("loading torbox/tor into the engine")), "{outcomes:?}");
    assert!(outcomes.iter().any(|(code, _, said)| *code == Some(3) && said.contains("box one is already running")), "{outcomes:?}");
    assert_nothing_left(engine, "after two at once");
}

/// What torbox says at the beginning of the phases in which it is interrupted.
const PHASES: [&str; 4] = ["loading torbox/tor", "Create(Gate)", "AwaitListeners", "connecting to the Tor network"];

fn ctrl_c_in_every_phase(stage: &Stage<'_>, engine: &Engine) {
    assert_eq!(delete_images(stage, engine).0, Some(0));
    let display = Xvfb::start().unwrap();
    for phase in PHASES {
        let mut running = stage.start(through(stage.run_command(&display, "interrupted", "about:blank"), engine), "interrupted");
        running.wait_until_said(phase, soon(60)).unwrap();
        // Before the launch the signal ends torbox itself.
        let code = running.interrupt_within(GONE).unwrap();
        assert!([None, Some(0)].contains(&code), "{phase}: {code:?}");
        assert_eq!(stage.call(&["status"]).0, Some(0));
        assert_nothing_left(engine, phase);
        let kept = std::fs::read_dir(stage.installed.dir().join("cache")).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(kept.filter(|path| path.extension().is_some_and(|extension| extension == "tar")).collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new(), "{phase}");
    }
}

/// An engine that has no room for the images.
fn a_full_disk(stage: &Stage<'_>, kind: Kind) {
    let engine = Engine::start_on_small_disk(24, kind, &stage.ground.net.client(), &stage.ground.user).unwrap();
    let (code, _, said) = outcome(&mut through(stage.probe_command("full"), &engine));
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("the engine did not load the image") && said.contains("no space left on device"), "{said}");
    assert_nothing_left(&engine, "after the disk was full");
}

pub(crate) fn docker_disorder(stage: &Stage<'_>) {
    disorder(stage, Kind::Docker);
}

pub(crate) fn podman_disorder(stage: &Stage<'_>) {
    disorder(stage, Kind::Podman);
}

/// An engine in a machine of its own: everything works through its socket alone; a display's socket is refused, and a page is not.
fn elsewhere(stage: &Stage<'_>, kind: Kind) {
    let engine = Engine::start_elsewhere(kind, &stage.ground.net.client(), &stage.ground.user).unwrap();
    let apart = |command: Command| outcome(&mut apart(&command));
    let torrc = stage.torrc_with("");
    let words = |verb: &'static str| [verb, "--verbose", "--name", "far", "--browser", "firefox-esr", "--torrc"].map(str::to_owned).into_iter().chain([torrc.display().to_string()]);
    let (code, out, said) = apart(through(stage.installed.command(None, words("probe")), &engine));
    assert_eq!(code, Some(0), "{said}");
    // That tor's container was taken for one with a network says that the network is the engine's: there is none here.
    assert_is_a_box(&report(&out, &said));
    let display = Xvfb::start().unwrap();
    let (code, _, said) = apart(through(stage.installed.command_on(&display, None, words("run")).unwrap(), &engine));
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("the engine does not see the display's socket") && said.contains("--display served"), "{said}");
    assert_nothing_left(&engine, "after a display that is not there");
    let page = words("run").chain(["--display".to_owned(), "served".to_owned()]);
    served::from_elsewhere(stage, &engine, &page.collect::<Vec<_>>());
}

pub(crate) fn docker_elsewhere(stage: &Stage<'_>) {
    elsewhere(stage, Kind::Docker);
}

pub(crate) fn podman_elsewhere(stage: &Stage<'_>) {
    elsewhere(stage, Kind::Podman);
}
