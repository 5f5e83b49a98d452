//! What engines are asked for: golden requests, and one property that holds plan, requests and their reader together.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use proptest::prelude::*;
use std::collections::BTreeMap;
use torbox_plan::engine::{Body, Dialect, Engine, HostConfig, Placed, Policy, Share, Unsupported, facts, profile_json, read, render};
use torbox_plan::{BoxName, CgroupAccess, ClientAuth, Clipboard, Display, Facts, Host, IdRange, Identity, Image, Intent, Limits, Memory, Plan, Program, Resolver, Role, SocketAccess, Start};

fn engine(dialect: Dialect) -> Engine {
    Engine { dialect, cgroup_namespace: Share::Own, runtime: None, processes: (dialect == Dialect::Podman).then_some(4096) }
}

fn placed(dialect: Dialect) -> Placed {
    let policy = match dialect {
        Dialect::Docker => Policy::Inline,
        Dialect::Podman => Policy::Directory("/var/lib/containers/storage/volumes/torbox-default-policy/_data".to_owned()),
    };
    let id = |digest: &str| (digest.to_owned(), format!("id-of-{digest}"));
    Placed { images: [id("sha256:t"), id("sha256:b")].into(), policy, claim: "c1a1".to_owned() }
}

fn display(which: u8) -> Display {
    let access = SocketAccess::Everyone;
    match which % 4 {
        0 => Display::X11 { socket: "/tmp/.X11-unix/X7".into(), access },
        1 => Display::Wayland { socket: "/run/user/1000/wayland-0".into(), access },
        3 => Display::Carried,
        _ => Display::None,
    }
}

fn host(which: u8, cgroup: CgroupAccess, open_files: u64) -> Host {
    Host { identity: Identity::Engine, cgroup, group: String::new(), display: display(which), open_files }
}

fn intent(name: &str, program: Program, limits: Limits) -> Intent {
    let image = |name: &str, digest: &str, program: &str| Image { name: name.to_owned(), digest: digest.to_owned(), entrypoint: vec![program.to_owned()] };
    Intent {
        name: BoxName::new(name).unwrap(),
        tor: image("tor", "sha256:t", "/usr/bin/tor"),
        browser: image("browser", "sha256:b", "/opt/tor-browser/Browser/firefox.real"),
        program,
        client_auth: ClientAuth::Required,
        memory: Memory::Nothing,
        start: Start::Listening,
        torrc: String::new(),
        resolver: None,
        clipboard: Clipboard::Both,
        jitter: 0,
        sound: false,
        limits,
    }
}

fn plan(which: u8) -> Plan {
    let program = Program::Browser { url: Some("https://example.org/".to_owned()) };
    Plan::new(&intent("default", program, Limits::default()), &host(which, CgroupAccess::Delegated, 1 << 20)).unwrap()
}

const DIALECTS: [Dialect; 2] = [Dialect::Docker, Dialect::Podman];

/// What is asked of an engine for this plan, but for the seccomp profile, which has tests of its own.
fn golden(dialect: Dialect) -> String {
    let mut rendered = render(&plan(0), &engine(dialect), &placed(dialect)).unwrap();
    for (_, body) in &mut rendered.containers {
        for option in &mut body.host_config.security_opt {
            if option.starts_with("seccomp={") {
                "seccomp=PROFILE".clone_into(option);
            }
        }
    }
    serde_json::to_string_pretty(&rendered).unwrap() + "\n"
}

#[test]
fn requests_are_the_golden_ones() {
    for dialect in DIALECTS {
        let path = format!("{}/tests/golden/engine-{}.json", env!("CARGO_MANIFEST_DIR"), dialect.name());
        if std::env::var_os("TORBOX_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, golden(dialect)).unwrap();
        }
        assert_eq!(golden(dialect), std::fs::read_to_string(&path).unwrap(), "{path}; TORBOX_WRITE_GOLDEN=1 writes it anew");
    }
}

proptest! {
    /// The facts of a plan and those read back from its rendering are the same, for every plan and engine.
    #[test]
    fn no_drift_between_plan_and_requests(
        which: u8, podman: bool, limited: bool, open_files in 64_u64..1 << 40, url in proptest::option::of("[a-z]{1,9}"), probe: bool, names: bool, size in 1_u64..1 << 30, name in "[a-z][a-z0-9-]{0,31}",
    ) {
        let dialect = if podman { Dialect::Podman } else { Dialect::Docker };
        let cgroup = if limited { CgroupAccess::Delegated } else { CgroupAccess::None };
        let program = if probe || which % 4 == 2 { Program::Probe } else { Program::Browser { url } };
        let limits = Limits { browser_memory: size, home: size, tmp: size, profile: size, ..Limits::default() };
        let intent = Intent { resolver: names.then_some(Resolver::Engine), ..intent(&name, program, limits) };
        let plan = Plan::new(&intent, &host(which, cgroup, open_files)).unwrap();
        let rendered = render(&plan, &engine(dialect), &placed(dialect)).unwrap();
        for (container, (role, body)) in plan.containers.iter().zip(&rendered.containers) {
            prop_assert_eq!(container.role, *role);
            let planned = facts(container, &engine(dialect));
            let found = read::body(body, &rendered.volumes, dialect);
            prop_assert_eq!(planned.mismatches(&found), vec![], "{}", role);
            prop_assert_eq!(Facts { ..planned }, found);
        }
    }
}

type Weaken = fn(&mut Body);

/// The positive control of the property: a rendering that says less is seen by the reader.
#[test]
fn every_weaker_request_is_seen() {
    let weaken: [(&str, Weaken); 15] = [
        ("network", |body| "bridge".clone_into(&mut body.host_config.network_mode)),
        ("port", |body| drop(body.host_config.port_bindings.insert("80/tcp".to_owned(), "80".to_owned()))),
        ("privileged", |body| body.host_config.privileged = true),
        ("capability", |body| body.host_config.cap_add.push("NET_RAW".to_owned())),
        ("capabilities", |body| body.host_config.cap_drop.clear()),
        ("device", |body| body.host_config.devices.push("/dev/kvm".to_owned())),
        ("seccomp", |body| body.host_config.security_opt.retain(|option| !option.starts_with("seccomp="))),
        ("new privileges", |body| body.host_config.security_opt.retain(|option| !option.starts_with("no-new"))),
        ("masks", |body| {
            body.host_config.masked_paths.clear();
            body.host_config.security_opt.retain(|option| !option.starts_with("mask="));
        }),
        ("name servers", |body| {
            body.host_config.masked_paths.retain(|path| path != "/etc/resolv.conf");
            body.host_config.security_opt.iter_mut().for_each(|option| *option = option.replace(":/etc/resolv.conf", ""));
        }),
        ("root", |body| body.host_config.readonly_rootfs = false),
        ("user", |body| "0:0".clone_into(&mut body.user)),
        ("pid", |body| "host".clone_into(&mut body.host_config.pid_mode)),
        ("ipc", |body| "host".clone_into(&mut body.host_config.ipc_mode)),
        ("mount", |body| drop(body.host_config.tmpfs.insert("/more".to_owned(), "rw".to_owned()))),
    ];
    for dialect in DIALECTS {
        let plan = plan(0);
        let rendered = render(&plan, &engine(dialect), &placed(dialect)).unwrap();
        for (what, weaken) in weaken {
            let (container, mut body) = (plan.container(Role::Browser).unwrap(), rendered.containers.last().unwrap().1.clone());
            weaken(&mut body);
            assert!(!facts(container, &engine(dialect)).mismatches(&read::body(&body, &rendered.volumes, dialect)).is_empty(), "{what}");
        }
    }
}

#[test]
fn a_plan_for_other_ids_is_refused() {
    let native = Host { identity: Identity::Root { ids: IdRange { start: 1, count: 9999 } }, ..host(0, CgroupAccess::None, 9) };
    let plan = Plan::new(&intent("default", Program::Probe, Limits::default()), &native).unwrap();
    assert!(matches!(render(&plan, &engine(Dialect::Docker), &placed(Dialect::Docker)), Err(Unsupported::Ids)));
}

/// A plan whose tor has a transport that looks names up.
fn plan_with_names() -> Plan {
    let names = Intent { resolver: Some(Resolver::Engine), ..intent("default", Program::Probe, Limits::default()) };
    Plan::new(&names, &host(2, CgroupAccess::Delegated, 1 << 20)).unwrap()
}

/// Whom to ask for names is the engine's to say, to tor's container alone: no path and no text of the caller's goes there, and no domain.
#[test]
fn g3_the_engines_name_servers_are_tors_alone_and_where_a_transport_needs_them() {
    for dialect in DIALECTS {
        for (plan, names) in [(plan_with_names(), true), (plan(0), false)] {
            for (role, body) in render(&plan, &engine(dialect), &placed(dialect)).unwrap().containers {
                let HostConfig { masked_paths, dns, dns_search, binds, mounts, .. } = &body.host_config;
                let told = names && role == Role::Tor;
                assert_eq!(masked_paths.contains(&"/etc/resolv.conf".to_owned()), !told, "{role}");
                assert_eq!((dns.is_empty(), dns_search.as_slice()), (told, &[".".to_owned()][..]), "{role}");
                assert!(!binds.iter().any(|bind| bind.0.contains("resolv")) && !mounts.iter().any(|mount| mount.target.contains("resolv")), "{role}");
            }
        }
    }
}

/// An engine that tells of other servers, or of domains, than it was asked for is found out.
#[test]
fn g8_an_engine_that_tells_of_other_name_servers_is_refused() {
    let of_names = |told: [&[&str]; 2], body: &Body| {
        let told = serde_json::json!({"HostConfig": {"Dns": told[0], "DnsSearch": told[1]}});
        read::inspected(&told, body, Dialect::Docker).into_iter().filter(|differs| differs.what.contains("names") || differs.what.contains("name servers")).count()
    };
    let rendered = render(&plan_with_names(), &engine(Dialect::Docker), &placed(Dialect::Docker)).unwrap();
    for (role, body) in &rendered.containers {
        let asked: &[&str] = if *role == Role::Tor { &[] } else { &["127.0.0.1"] };
        assert_eq!([of_names([asked, &["."]], body), of_names([&["192.0.2.53"], &["."]], body), of_names([asked, &["work.example"]], body)], [0, 1, 1], "{role}");
    }
}

/// The one thing more that such a tor may: netlink's routing family.
#[test]
fn g2_the_profile_of_a_tor_that_looks_names_up_has_one_family_more() {
    let sockets = |plan: &Plan| {
        let profile: serde_json::Value = serde_json::from_str(&profile_json(plan.container(Role::Tor).unwrap()).unwrap()).unwrap();
        profile["syscalls"].as_array().unwrap().iter().filter(|entry| entry["names"] == serde_json::json!(["socket"])).cloned().collect::<Vec<_>>()
    };
    let (plain, names) = (sockets(&plan(0)), sockets(&plan_with_names()));
    let netlink = serde_json::json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
        {"index": 0, "value": u32::MAX, "valueTwo": 16, "op": "SCMP_CMP_MASKED_EQ"}, {"index": 2, "value": u32::MAX, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"},
    ]});
    assert_eq!(names, [plain, vec![netlink]].concat());
}

#[test]
fn an_image_that_the_engine_lacks_is_refused() {
    let nothing = Placed { images: BTreeMap::new(), ..placed(Dialect::Docker) };
    assert!(matches!(render(&plan(0), &engine(Dialect::Docker), &nothing), Err(Unsupported::Image(_))));
}

#[test]
fn a_socket_path_is_never_read_as_options() {
    let socket = Display::X11 { socket: "/tmp/x:/etc:rw".into(), access: SocketAccess::Everyone };
    let plan = Plan::new(&intent("default", Program::Browser { url: None }, Limits::default()), &Host { display: socket, ..host(0, CgroupAccess::None, 9) }).unwrap();
    for dialect in DIALECTS {
        assert!(matches!(render(&plan, &engine(dialect), &placed(dialect)), Err(Unsupported::Path(_))));
    }
}

/// No directory of the host is named: an engine in a virtual machine has no other file of the caller's than what it is sent.
#[test]
fn nothing_but_the_display_socket_is_a_path_of_the_host() {
    for dialect in DIALECTS {
        for which in 0..4 {
            let program = if which == 2 { Program::Probe } else { Program::Browser { url: None } };
            let plan = Plan::new(&intent("default", program, Limits::default()), &host(which, CgroupAccess::None, 9)).unwrap();
            let rendered = render(&plan, &engine(dialect), &placed(dialect)).unwrap();
            let sources = rendered.containers.iter().flat_map(|(_, body)| {
                let mounts = body.host_config.mounts.iter().map(|mount| mount.source.clone());
                mounts.chain(body.host_config.binds.iter().map(|bind| bind.0.split(':').next().unwrap().to_owned())).collect::<Vec<_>>()
            });
            let of_host: Vec<String> = sources.filter(|source| source.starts_with('/')).collect();
            let expected: &[&str] = [&["/tmp/.X11-unix/X7"][..], &["/run/user/1000/wayland-0"], &[], &[]][usize::from(which)];
            assert_eq!(of_host, expected);
        }
    }
}

#[test]
fn g2_the_profile_for_engines_refuses_every_socket_but_af_unix_and_names_every_call() {
    for container in &plan(0).containers {
        let role = container.role;
        let profile: serde_json::Value = serde_json::from_str(&profile_json(container).unwrap()).unwrap();
        let entries = profile["syscalls"].as_array().unwrap();
        let of = |call: &str| entries.iter().filter(|entry| entry["names"].as_array().unwrap().iter().any(|name| name == call)).collect::<Vec<_>>();
        for call in torbox_plan::seccomp::Arch::OWN.calls() {
            assert!(!of(call).is_empty(), "{role}: {call} is left to the default");
        }
        let sockets = of("socket");
        assert!(sockets.iter().all(|entry| entry["args"].as_array().is_some_and(|args| args.len() == 1)), "{role}");
        if role != Role::Tor {
            let [allowed, refused] = sockets.as_slice() else { panic!("{role}: {sockets:?}") };
            assert_eq!((&allowed["action"], &allowed["args"][0]["op"], &allowed["args"][0]["value"]), (&"SCMP_ACT_ALLOW".into(), &"SCMP_CMP_EQ".into(), &1.into()));
            assert_eq!((&refused["action"], &refused["args"][0]["op"], &refused["errnoRet"]), (&"SCMP_ACT_ERRNO".into(), &"SCMP_CMP_NE".into(), &97.into()));
        }
        for call in ["io_uring_setup", "bpf", "mount", "setns", "ptrace", "keyctl", "clone3", "process_vm_readv"] {
            assert!(of(call).iter().all(|entry| entry["action"] == "SCMP_ACT_ERRNO"), "{role} may call {call}");
        }
    }
}
