//! What a program in the browser's place finds: `torbox probe`, read value by value.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;
use torbox_tests::boxed::Who;
use torbox_tests::display::{Weston, Xvfb};
use torbox_tests::process;

use crate::ground::{Stage, outcome};

/// The report of `torbox-init`'s probe.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    interfaces: Vec<String>,
    sockets: BTreeMap<String, String>,
    status: BTreeMap<String, String>,
    mountinfo: Vec<String>,
    writable: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    exists: BTreeMap<String, bool>,
}

/// The report from inside the box `name` that `command` makes.
fn inside(stage: &Stage<'_>, name: &str, mut command: Command) -> Report {
    let before = stage.before(&[name]);
    let (code, out, said) = outcome(&mut command);
    assert_eq!(code, Some(0), "{said}");
    before.assert_gone(std::time::Duration::from_secs(2), "after the probe");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

/// The report of the same program where the box was started, without the box.
fn outside(stage: &Stage<'_>) -> Report {
    let init = stage.installed.program().ancestors().nth(2).unwrap().join("libexec/torbox/init");
    let out = process::output(stage.ground.net.client().command(init).arg("probe")).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn map<V: Clone>(pairs: &[(&str, V)]) -> BTreeMap<String, V> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

const FAMILIES: [&str; 14] =
    ["unix", "inet", "inet6", "netlink", "packet", "alg", "vsock", "bluetooth", "can", "tipc", "key", "rds", "x25", "appletalk"];
const TYPES: [&str; 4] = ["stream", "dgram", "raw", "seqpacket"];

/// Network, sockets, places to write to, privileges.
pub(crate) fn finds_nothing(stage: &Stage<'_>) {
    let report = inside(stage, "probe", stage.probe_command("probe"));
    assert_eq!(report.interfaces, ["lo"]);
    let every = FAMILIES.iter().flat_map(|family| TYPES.map(|kind| (format!("{family}/{kind}"), if *family == "unix" { "open" } else { "EAFNOSUPPORT" })));
    assert_eq!(report.sockets, every.map(|(socket, result)| (socket, result.to_owned())).collect());
    let none = "0000000000000000";
    let status = [("CapAmb", none), ("CapBnd", none), ("CapEff", none), ("CapInh", none), ("CapPrm", none), ("NoNewPrivs", "1"), ("Seccomp", "2"),
        ("Seccomp_filters", "1"), ("Uid", "1000\t1000\t1000\t1000")];
    assert_eq!(report.status, strings(&status));
    let writable = [("/", "EROFS"), ("/etc", "EROFS"), ("/usr", "EROFS"), ("/opt", "EROFS"), ("/run", "EACCES"), ("/run/torbox/browser", "EROFS"),
        ("/home/user", "open"), ("/tmp", "open"), ("/dev/shm", "open")];
    assert_eq!(report.writable, strings(&writable));
    the_detectors_fire_outside(stage);
}

/// The positive control: started where torbox is, the same program finds the cable to the network and opens its sockets.
fn the_detectors_fire_outside(stage: &Stage<'_>) {
    let report = outside(stage);
    let known = |name: &&String| ["lo", "tbx-client"].contains(&name.as_str());
    assert_eq!(report.interfaces.iter().filter(known).collect::<Vec<_>>(), ["lo", "tbx-client"]);
    for socket in ["unix/stream", "inet/stream", "inet/dgram", "inet6/stream", "inet6/dgram", "netlink/raw", "netlink/dgram"] {
        assert_eq!(report.sockets[socket], "open", "{socket}");
    }
    assert_ne!(report.status["CapEff"], "0000000000000000", "root has capabilities");
    assert_eq!((report.status["Seccomp"].as_str(), report.writable["/etc"].as_str()), ("0", "open"));
}

/// An audit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Audit {
    display: String,
    leaves_open: Option<String>,
    attempts: Vec<Row>,
}

/// A row of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    guarantee: String,
    tries: String,
    verdict: String,
    found: String,
}

fn ids<'a>(rows: &'a [Row], verdict: &str) -> Vec<&'a str> {
    rows.iter().filter(|row| row.verdict == verdict).map(|row| row.id.as_str()).collect()
}

/// Every attempt to get out fails. That each can succeed is shown elsewhere (`mutations`); here the same program, where the box was
/// started, finds the network.
pub(crate) fn holds(stage: &Stage<'_>) {
    let (code, out, said) = outcome(&mut stage.audit_command("audit"));
    let Audit { display, leaves_open, attempts: rows } = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{said}"));
    assert_eq!((display.as_str(), leaves_open), ("none", None));
    let open: Vec<_> = rows.iter().filter(|row| row.verdict == "not-held").collect();
    assert!(open.is_empty(), "{open:#?}");
    assert_eq!(code, Some(0), "{said}");
    assert!(rows.len() > 350 && rows.iter().all(|row| !row.tries.is_empty() && !row.found.contains('\n')), "{}", rows.len());
    assert_eq!(ids(&rows, "unavailable"), Vec::<&str>::new(), "every attempt was made, those on the control server too");
    let guarantees: std::collections::BTreeSet<_> = rows.iter().map(|row| row.guarantee.as_str()).collect();
    assert_eq!(guarantees.into_iter().collect::<Vec<_>>(), ["G1", "G11", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9"]);

    let init = stage.installed.program().ancestors().nth(2).unwrap().join("libexec/torbox/init");
    let refused = outcome(stage.ground.net.client().command(&init).arg("audit"));
    assert_eq!((refused.0, refused.2.as_str()), (Some(125), "init: this is no box: it has tbx-client\n"));
}

/// Nothing that tells whose machine this is, on no display, an X server and a compositor.
pub(crate) fn knows_no_host(stage: &Stage<'_>) {
    let words = host_words(stage);
    // The positive control: torbox itself, which made those mounts, was told every one of these words but the host's name.
    let host = outside(stage);
    assert_eq!(host.files["/proc/sys/kernel/hostname"].trim_end(), words[0]);
    assert!(host.mountinfo.len() > 3 && host.exists["/bin/sh"] && host.exists["/usr/bin/dpkg"]);
    knows_none_of(&words, &inside(stage, "names", stage.probe_command("names")), &[]);

    let server = Xvfb::start().unwrap();
    let of_server = [server.socket().display().to_string(), format!("{} ", server.display().replace(':', "/X"))];
    let wayland = [("GDK_BACKEND", "wayland"), ("MOZ_ENABLE_WAYLAND", "1"), ("WAYLAND_DISPLAY", "/run/torbox/display/wayland-0")];
    for (mode, told) in [("auto", &wayland[..]), ("x11-untrusted", &[("DISPLAY", ":0"), ("GDK_BACKEND", "x11")])] {
        let mut command = stage.probe_command_on(&server, "names");
        command.env("TORBOX_DISPLAY", mode);
        knows_none_of(&[&words[..], &of_server].concat(), &inside(stage, "names", command), told);
    }

    let compositor = Weston::start(stage.wayland_user()).unwrap();
    let mut command = stage.probe_command("names");
    command.env("WAYLAND_DISPLAY", compositor.socket());
    let of_compositor = [compositor.socket().display().to_string(), "wayland-9".to_owned(), "torbox-weston-".to_owned()];
    knows_none_of(&[&words[..], &of_compositor].concat(), &inside(stage, "names", command), &wayland);
}

/// None of `words` in what the report tells, whose environment has `more` than that of every box.
fn knows_none_of(words: &[String], report: &Report, more: &[(&str, &str)]) {
    let everything = format!("{:?}{:?}{:?}", report.mountinfo, report.environment, report.files);
    let [host, others @ ..] = words else { panic!("no words") };
    // As a word of its own: a short name may be part of a constant path.
    assert!(everything.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').all(|word| word != host), "{host} in {everything}");
    for word in others {
        assert!(!everything.contains(word.as_str()), "{word} in {everything}");
    }
    let roots: std::collections::BTreeSet<&str> = report.mountinfo.iter().map(|line| line.split(' ').nth(3).unwrap()).collect();
    let of_proc_and_dev = [
        "/", "/bus", "/control-secret", "/fs", "/full", "/irq", "/null", "/random", "/sys", "/sysrq-trigger", "/tty", "/urandom", "/zero",
    ];
    assert!(roots.iter().all(|root| of_proc_and_dev.contains(root)), "{roots:?}");
    assert_eq!(report.environment, strings(&[&ENVIRONMENT[..], more].concat()));
    assert_eq!(report.files, expected_files(report));
    let places = [("/sys/class", false), ("/dev/dri", false), ("/dev/snd", false), ("/dev/vsock", false), ("/dev/kvm", false), ("/run/dbus", false),
        ("/var/run/docker.sock", false), ("/bin/sh", false), ("/usr/bin/dpkg", false), ("/home/user", true)];
    assert_eq!(report.exists, map(&places));
}

/// The host's name first, then the caller's and where things are kept.
fn host_words(stage: &Stage<'_>) -> Vec<String> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let dir = stage.installed.dir().display().to_string();
    let mut words = vec![host, dir, "rootfs".to_owned(), "images".to_owned(), "torbox-boxed-".to_owned()];
    if let Who::User(user) = stage.installed.who() {
        words.extend([user.name().to_owned(), user.home().display().to_string(), format!("uid={},", user.ids().0)]);
    }
    words
}

const ENVIRONMENT: [(&str, &str); 16] = [
    ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/user/messages"),
    ("GSETTINGS_BACKEND", "memory"),
    ("GTK_USE_PORTAL", "0"),
    ("HOME", "/home/user"),
    ("LANG", "C.UTF-8"),
    ("LIBGL_ALWAYS_SOFTWARE", "1"),
    ("MOZ_CRASHREPORTER_DISABLE", "1"),
    ("MOZ_DISABLE_WAYLAND_PROXY", "1"),
    ("NO_AT_BRIDGE", "1"),
    ("PATH", "/usr/bin"),
    ("TOR_CONTROL_COOKIE_AUTH_FILE", "/run/torbox/control-secret"),
    ("TOR_CONTROL_IPC_PATH", "/run/torbox/browser/control"),
    ("TOR_SKIP_LAUNCH", "1"),
    ("TOR_SOCKS_IPC_PATH", "/run/torbox/browser/socks"),
    ("TZ", "UTC"),
    ("XDG_RUNTIME_DIR", "/run/user"),
];

/// The same text on every host. Of the control groups, of which a host has more or fewer, every one is the root of what is seen.
fn expected_files(report: &Report) -> BTreeMap<String, String> {
    let groups = report.files["/proc/self/cgroup"].clone();
    assert!(!groups.is_empty() && groups.lines().all(|line| line.ends_with(":/")), "{groups}");
    let passwd = "root:x:0:0:root:/:/usr/sbin/nologin\nuser:x:1000:1000:user:/home/user:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
    strings(&[
        ("/etc/hosts", "127.0.0.1 localhost torbox\n::1 localhost torbox\n"),
        ("/etc/machine-id", "746f72626f78746f72626f78746f7262\n"),
        ("/etc/passwd", passwd),
        ("/etc/resolv.conf", ""),
        ("/proc/cmdline", ""),
        ("/proc/self/cgroup", &groups),
        ("/proc/sys/kernel/hostname", "ENOENT"),
        ("/proc/version", ""),
    ])
}
