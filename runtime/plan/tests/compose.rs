//! Compose files: the shipped ones are the plan's, and one property holds plan, file and its reader together.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use torbox_plan::compose::{DisplaySource, Document, Placed, Service, facts, profiles, read, render, yaml};
use torbox_plan::engine::{Dialect, Unsupported, profile_json};
use torbox_plan::{BoxName, CgroupAccess, ClientAuth, Clipboard, Display, Facts, Host, IdRange, Identity, Image, Intent, Limits, Memory, Plan, Program, Resolver, Role, SocketAccess, Start};

const DIALECTS: [Dialect; 2] = [Dialect::Docker, Dialect::Podman];

fn placed(dialect: Dialect) -> Placed {
    let images = [("sha256:t", "localhost/torbox/tor:latest"), ("sha256:b", "localhost/torbox/tor-browser:latest")];
    Placed { dialect, images: images.map(|(digest, name)| (digest.to_owned(), name.to_owned())).into(), display: DisplaySource::Plan, processes: (dialect == Dialect::Podman).then_some(4096) }
}

fn display(which: u8) -> Display {
    let access = SocketAccess::Everyone;
    match which % 3 {
        0 => Display::Wayland { socket: "/run/user/1000/wayland-0".into(), access },
        1 => Display::X11 { socket: "/tmp/.X11-unix/X7".into(), access },
        _ => Display::None,
    }
}

fn host(which: u8) -> Host {
    Host { identity: Identity::Engine, cgroup: CgroupAccess::Delegated, group: String::new(), display: display(which), open_files: u64::MAX }
}

fn intent(program: Program) -> Intent {
    let image = |name: &str, digest: &str, program: &str| Image { name: name.to_owned(), digest: digest.to_owned(), entrypoint: vec![program.to_owned()] };
    Intent {
        name: BoxName::new("default").unwrap(),
        tor: image("torbox/tor", "sha256:t", "/usr/bin/tor"),
        browser: image("torbox/tor-browser", "sha256:b", "/opt/tor-browser/Browser/firefox.real"),
        program,
        client_auth: ClientAuth::Required,
        memory: Memory::Nothing,
        start: Start::Listening,
        torrc: String::new(),
        resolver: None,
        clipboard: Clipboard::Both,
        jitter: 0,
        sound: false,
        limits: Limits::default(),
    }
}

fn plan(which: u8) -> Plan {
    let program = if which % 3 == 2 { Program::Probe } else { Program::Browser { url: None } };
    Plan::new(&intent(program), &host(which)).unwrap()
}

fn document(which: u8, dialect: Dialect) -> Document {
    render(&plan(which), &placed(dialect)).unwrap()
}

/// What the shipped file begins with.
const HEAD: [&str; 2] = [
    "# The box of torbox as a compose file for docker compose, and docker-compose from 1.29 on. README.md in this directory says how to use it.\n",
    "# The box of torbox as a compose file for podman-compose, from 1.3 on. README.md in this directory says how to use it.\n",
];
const NAMES: [&str; 2] = ["compose.yaml", "podman-compose.yaml"];

#[test]
fn the_shipped_files_are_the_plan() {
    let directory = format!("{}/../../compose", env!("CARGO_MANIFEST_DIR"));
    let of = |(dialect, (name, head)): (Dialect, (&str, &str))| {
        let document = render(&plan(0), &Placed { display: DisplaySource::Environment, ..placed(dialect) }).unwrap();
        (name.to_owned(), head.to_owned() + &yaml(&serde_json::to_value(document).unwrap()))
    };
    let files = DIALECTS.into_iter().zip(NAMES.into_iter().zip(HEAD)).map(of).chain(profiles(&plan(0)).unwrap());
    for (name, text) in files {
        let path = format!("{directory}/{name}");
        if std::env::var_os("TORBOX_WRITE_GOLDEN").is_some() {
            fs::create_dir_all(path.rsplit_once('/').unwrap().0).unwrap();
            fs::write(&path, &text).unwrap();
        }
        assert!(text == fs::read_to_string(&path).unwrap_or_default(), "{path} is not what the plan renders; TORBOX_WRITE_GOLDEN=1 writes it anew");
    }
}

proptest! {
    /// The facts of a plan and those read back from its compose file are the same, for every plan and either compose.
    #[test]
    fn no_drift_between_plan_and_compose_file(
        which: u8, podman: bool, limited: bool, open_files in 64_u64..1 << 40, url in proptest::option::of("[a-z$]{1,9}"), names: bool, size in 1_u64..1 << 30, name in "[a-z][a-z0-9-]{0,31}",
    ) {
        let dialect = if podman { Dialect::Podman } else { Dialect::Docker };
        let cgroup = if limited { CgroupAccess::Delegated } else { CgroupAccess::None };
        let program = if which % 3 == 2 { Program::Probe } else { Program::Browser { url } };
        let limits = Limits { browser_memory: size, home: size, tmp: size, profile: size, ..Limits::default() };
        let resolver = names.then_some(Resolver::Engine);
        let plan = Plan::new(&Intent { name: BoxName::new(&name).unwrap(), resolver, limits, ..intent(program) }, &Host { cgroup, open_files, ..host(which) }).unwrap();
        let document = render(&plan, &placed(dialect)).unwrap();
        prop_assert_eq!(plan.containers.len(), document.services.len());
        for container in &plan.containers {
            let planned = facts(container, dialect);
            let found = read::facts(&document, &document.services[container.role.name()], dialect);
            prop_assert_eq!(planned.mismatches(&found), vec![], "{}", container.role);
            prop_assert_eq!(Facts { ..planned }, found);
        }
    }
}

type Weaken = fn(&mut Service);

/// The positive control of the property: a file that says less is seen by the reader.
#[test]
fn every_weaker_file_is_seen() {
    let weaken: [(&str, Weaken); 13] = [
        ("network", |service| "bridge".clone_into(&mut service.network_mode)),
        ("the host's network", |service| "host".clone_into(&mut service.network_mode)),
        ("privileged", |service| service.privileged = true),
        ("capabilities", |service| service.cap_drop.clear()),
        ("seccomp", |service| service.security_opt.retain(|option| !option.starts_with("seccomp="))),
        ("new privileges", |service| service.security_opt.retain(|option| !option.starts_with("no-new"))),
        ("name servers", |service| {
            service.volumes.retain(|entry| entry != "/dev/null:/etc/resolv.conf:ro");
            service.security_opt.iter_mut().for_each(|option| *option = option.replace(":/etc/resolv.conf", ""));
        }),
        ("root", |service| service.read_only = false),
        ("user", |service| "0:0".clone_into(&mut service.user)),
        ("ipc", |service| "host".clone_into(&mut service.ipc)),
        ("memory", |service| service.mem_limit = None),
        ("mount", |service| service.tmpfs.push("/more:rw".to_owned())),
        ("path of the host", |service| service.volumes.push("/etc:/more:ro".to_owned())),
    ];
    for dialect in DIALECTS {
        let document = document(0, dialect);
        let plan = plan(0);
        for (what, weaken) in weaken {
            let mut service = document.services["browser"].clone();
            weaken(&mut service);
            let planned = facts(plan.container(Role::Browser).unwrap(), dialect);
            assert!(!planned.mismatches(&read::facts(&document, &service, dialect)).is_empty(), "{what}");
        }
    }
}

/// A file that Docker reads cannot mask all of what the plan masks; Podman's masks all.
#[test]
fn what_a_compose_file_cannot_hide_is_known() {
    let browser = plan(0).container(Role::Browser).unwrap().clone();
    let missing = |dialect| {
        let facts = facts(&browser, dialect);
        browser.masked.iter().filter(|path| !facts.guarded.contains(**path) && !facts.mounts.contains_key(**path)).count()
    };
    assert_eq!((missing(Dialect::Podman), missing(Dialect::Docker)), (0, 44));
}

#[test]
fn nothing_of_the_host_is_named_but_the_display_socket_and_the_null_device() {
    for dialect in DIALECTS {
        for (which, socket) in [(0, Some("/run/user/1000/wayland-0")), (1, Some("/tmp/.X11-unix/X7")), (2, None)] {
            let document = document(which, dialect);
            let sources = document.services.values().flat_map(|service| &service.volumes).map(|entry| entry.split(':').next().unwrap());
            let of_host: Vec<_> = sources.filter(|source| !document.volumes.contains_key(*source) && *source != "/dev/null").collect();
            assert_eq!(of_host, socket.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_cannot_be_rendered_is_refused() {
    let native = Host { identity: Identity::Root { ids: IdRange { start: 1, count: 9999 } }, ..host(2) };
    let refused = |plan: &Plan, placed: &Placed| render(plan, placed).unwrap_err();
    assert!(matches!(refused(&Plan::new(&intent(Program::Probe), &native).unwrap(), &placed(Dialect::Docker)), Unsupported::Ids));
    assert!(matches!(refused(&plan(0), &Placed { images: BTreeMap::new(), ..placed(Dialect::Docker) }), Unsupported::Image(_)));
    for path in ["/tmp/x:/etc:rw", "/tmp/$HOME", "/tmp/a,b"] {
        let host = Host { display: Display::Wayland { socket: path.into(), access: SocketAccess::Everyone }, ..host(0) };
        let plan = Plan::new(&intent(Program::Browser { url: None }), &host).unwrap();
        assert!(matches!(refused(&plan, &placed(Dialect::Podman)), Unsupported::Path(_)), "{path}");
    }
}

/// A file whose tor has a transport that looks names up says no more than that its engine's name servers are not hidden from tor.
#[test]
fn g3_the_engines_name_servers_are_tors_alone_in_a_compose_file() {
    let names = Plan::new(&Intent { resolver: Some(Resolver::Engine), ..intent(Program::Probe) }, &host(2)).unwrap();
    for dialect in DIALECTS {
        let hides = |service: &Service| service.volumes.iter().chain(&service.security_opt).any(|entry| entry.contains("/etc/resolv.conf"));
        for (plan, names) in [(&names, true), (&plan(2), false)] {
            for (role, service) in &render(plan, &placed(dialect)).unwrap().services {
                let told = names && role == "tor";
                assert_eq!((hides(service), service.dns_search == ["."]), (!told, told), "{role}");
            }
        }
        let of_tor = |plan: &Plan| profiles(plan).unwrap().into_iter().find(|(path, _)| path == "seccomp/tor.json").unwrap().1;
        assert_eq!(of_tor(&names), profile_json(names.container(Role::Tor).unwrap()).unwrap());
        assert_ne!(of_tor(&names), of_tor(&plan(2)));
    }
}

/// No text of the user's is taken for a variable, and no cookie is written down.
#[test]
fn variables_are_those_of_the_display_alone() {
    let program = Program::Browser { url: Some("https://example.org/?a=$HOME".to_owned()) };
    let plan = Plan::new(&Intent { torrc: "Nickname $HOME\n".to_owned(), ..intent(program) }, &host(1)).unwrap();
    let text = yaml(&serde_json::to_value(render(&plan, &placed(Dialect::Docker)).unwrap()).unwrap());
    let single = text.replace("$$", "");
    assert_eq!(text.matches("$$HOME").count(), 2);
    assert_eq!(single.matches('$').count(), 1);
    assert!(single.contains("\"${TORBOX_DISPLAY_COOKIE}\""));
}

#[test]
fn yaml_is_what_every_parser_reads_alike() {
    let value = serde_json::json!({"a": {"b-c": ["x: y", 1, true, [], {}, null], "no": "\"q\"\n#"}, "2": {"e": "1"}});
    let expected = "\"2\":\n  e: \"1\"\na:\n  b-c:\n    - \"x: y\"\n    - 1\n    - true\n    - []\n    - {}\n    - null\n  \"no\": \"\\\"q\\\"\\n#\"\n";
    assert_eq!(yaml(&value), expected);
}
