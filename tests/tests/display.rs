//! A hostile client in the browser's place, on a real compositor that lets its clients do everything: what works on the bare socket
//! does not work through the display.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::IoSlice;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use torbox_tests::display::client::{Client, Event, Global, message};
use torbox_tests::display::{Desktop, Filtered, SIZE, Sway, Weston, Xvfb, kiosk};
use torbox_tests::testnet::daemon::stop;
use torbox_tests::user::TestUser;
use torbox_tests::{lock, require, wait};

/// What a client of sway can use against the others and their user.
const WEAPONS: [&str; 15] = [
    "zwlr_screencopy_manager_v1",
    "zwlr_export_dmabuf_manager_v1",
    "zwlr_data_control_manager_v1",
    "zwp_primary_selection_device_manager_v1",
    "zwp_virtual_keyboard_manager_v1",
    "zwlr_virtual_pointer_manager_v1",
    "zwp_input_method_manager_v2",
    "zwlr_input_inhibit_manager_v1",
    "zwp_keyboard_shortcuts_inhibit_manager_v1",
    "zwlr_foreign_toplevel_manager_v1",
    "zwlr_layer_shell_v1",
    "zwlr_gamma_control_manager_v1",
    "zwlr_output_manager_v1",
    "zwlr_output_power_manager_v1",
    "org_kde_kwin_idle",
];

/// Runs `test` with a compositor.
fn on_sway(name: &str, test: impl FnOnce(&Sway<'_>)) {
    let _alone = lock::heavy().unwrap();
    let user = TestUser::create(name).unwrap();
    let sway = Sway::start(&user).unwrap();
    test(&sway);
}

#[test]
fn g3_a_hostile_client_gets_its_own_window_and_nothing_else() {
    require!("root", "sway", "grim", "useradd", "setpriv");
    on_sway("hostile", |sway| {
        let display = Filtered::start(&sway.socket()).unwrap();
        let bare = Client::connect(&sway.socket()).unwrap().globals;
        let offered = Client::connect(&display.socket()).unwrap().globals;
        for weapon in WEAPONS {
            let global = bare.iter().find(|global| global.interface == weapon).unwrap_or_else(|| panic!("no {weapon}: {bare:?}"));
            // The positive control: on the bare socket it can be had.
            Client::connect(&sway.socket()).unwrap().bind(global).unwrap();
            assert!(offered.iter().all(|global| global.interface != weapon), "{weapon}");
            assert_refused(&display, global);
        }
        let window: Vec<_> = offered.iter().map(|global| global.interface.as_str()).collect();
        for needed in ["wl_compositor", "wl_shm", "wl_seat", "wl_output", "xdg_wm_base", "wl_data_device_manager"] {
            assert!(window.contains(&needed), "{needed}: {window:?}");
            let global = offered.iter().find(|global| global.interface == needed).unwrap();
            Client::connect(&display.socket()).unwrap().bind(global).unwrap();
        }
        guessing_does_not_help(&display, &bare);
        no_picture_of_the_screen(sway, &display);
    });
}

fn assert_refused(display: &Filtered, global: &Global) {
    let refused = Client::connect(&display.socket()).unwrap().bind(global).unwrap_err().to_string();
    assert_eq!(refused, "protocol error: no such global", "{global:?}");
}

/// Every number with the name of a weapon, a weapon's number with the name of what is offered, and a version that is not.
fn guessing_does_not_help(display: &Filtered, bare: &[Global]) {
    for name in (0..=64).chain([u32::MAX]) {
        assert_refused(display, &Global { name, interface: "zwlr_screencopy_manager_v1".to_owned(), version: 1 });
    }
    for global in bare.iter().filter(|global| WEAPONS.contains(&global.interface.as_str())) {
        assert_refused(display, &Global { interface: "wl_shm".to_owned(), version: 1, ..global.clone() });
    }
    for global in bare.iter().filter(|global| global.interface == "wl_shm") {
        assert_refused(display, &Global { version: global.version + 1, ..global.clone() });
        assert_refused(display, &Global { version: 0, ..global.clone() });
    }
}

fn no_picture_of_the_screen(sway: &Sway<'_>, display: &Filtered) {
    let dir = tempfile::tempdir().unwrap();
    // The positive control.
    sway.screenshot(&dir.path().join("bare.png")).unwrap();
    let done = sway.client(&display.socket(), "grim").arg("-").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && done.stdout.is_empty() && said.contains("screencopy"), "{said}");
}

/// Everything that a client is told of a global, as text.
fn told(client: &mut Client, interface: &str) -> (String, Vec<Event>) {
    let global = client.globals.iter().find(|global| global.interface == interface).unwrap().clone();
    let events = client.bind(&global).unwrap();
    let bytes: Vec<u8> = events.iter().flat_map(|event| event.body.clone()).collect();
    (String::from_utf8_lossy(&bytes).into_owned(), events)
}

#[test]
fn g6_the_monitor_is_the_same_everywhere() {
    require!("root", "sway", "useradd", "setpriv");
    on_sway("monitor", |sway| {
        let display = Filtered::start(&sway.socket()).unwrap();
        let (bare, _) = told(&mut Client::connect(&sway.socket()).unwrap(), "wl_output");
        let (seen, events) = told(&mut Client::connect(&display.socket()).unwrap(), "wl_output");
        assert!(bare.contains("HEADLESS-1"), "{bare:?}");
        assert!(!seen.contains("HEADLESS") && !seen.to_lowercase().contains("headless") && seen.contains("torbox"), "{seen:?}");
        assert_eq!(events.len(), 4, "geometry, mode, scale, done: {events:?}");
        let (formats, _) = told(&mut Client::connect(&display.socket()).unwrap(), "wl_shm");
        assert_eq!(formats.len(), 8, "two formats");
    });
}

/// What a client learns of a compositor before it has a window: what there is, and all that is said of the outputs, the seats
/// and the pictures, by interface.
fn learned(socket: &Path) -> (Vec<Global>, BTreeMap<String, Vec<Event>>) {
    let globals = Client::connect(socket).unwrap().globals;
    let telling = ["wl_shm", "wl_output", "wl_seat", "zxdg_output_manager_v1"];
    let said = globals.iter().filter(|global| telling.contains(&global.interface.as_str())).map(|global| {
        // Each on a connection of its own, so that numbers of objects can be compared.
        let mut client = Client::connect(socket).unwrap();
        let (object, mut events) = client.bind_numbered(global).unwrap();
        if global.interface == "zxdg_output_manager_v1" {
            let output = globals.iter().find(|global| global.interface == "wl_output").unwrap();
            let (output, _) = client.bind_numbered(output).unwrap();
            events = client.make(object, 1, &[output]).unwrap();
        }
        // Which devices there are is the machine's, not the compositor's: SECURITY.md names it.
        let capabilities = |event: &Event| global.interface == "wl_seat" && event.opcode == 0;
        events.iter_mut().filter(|event| capabilities(event)).for_each(|event| event.body.clear());
        (global.interface.clone(), events)
    });
    (globals.clone(), said.collect())
}

/// Of `learned` what is about interfaces that `other` has as well.
fn in_common(learned: &(Vec<Global>, BTreeMap<String, Vec<Event>>), other: &[Global]) -> (Vec<Global>, BTreeMap<String, Vec<Event>>) {
    let known = |interface: &str| other.iter().any(|global| global.interface == interface);
    let (globals, said) = learned.clone();
    (globals.into_iter().filter(|global| known(&global.interface)).collect(), said.into_iter().filter(|(interface, _)| known(interface)).collect())
}

#[test]
fn g6_unlike_desktops_look_the_same() {
    require!("root", "sway", "weston", "bwrap", "useradd", "setpriv");
    on_sway("desktops", |sway| {
        let user = TestUser::create("desktops2").unwrap();
        let (weston, current) = (Weston::start(None).unwrap(), Sway::current(&user).unwrap());
        let (gnome, plasma) = (Desktop::Gnome.start(&user).unwrap(), Desktop::Plasma.start(&user).unwrap());
        let sockets = [weston.socket(), sway.socket(), current.socket(), gnome.socket(), plasma.socket()];
        let bare = sockets.each_ref().map(|socket| learned(socket));
        let seen = sockets.map(|socket| learned(&Filtered::start(&socket).unwrap().socket()));
        for (one, other) in (0..5).flat_map(|one| (0..one).map(move |other| (one, other))) {
            // The positive control.
            assert_ne!(in_common(&bare[one], &bare[other].0), in_common(&bare[other], &bare[one].0), "{one} {other}");
            assert_eq!(in_common(&seen[one], &seen[other].0), in_common(&seen[other], &seen[one].0), "{one} {other}");
        }
        // Which of these there are is seen: SECURITY.md says so.
        let [weston, sway, current, gnome, plasma] = seen.map(|(globals, _)| globals.into_iter().map(|global| global.interface).collect::<BTreeSet<_>>());
        assert_eq!([&gnome, &plasma], [&current, &current]);
        let newer: Vec<_> = current.difference(&sway).map(String::as_str).collect();
        assert_eq!(newer, ["wp_cursor_shape_manager_v1", "wp_fractional_scale_manager_v1"]);
        let more: Vec<_> = sway.difference(&weston).map(String::as_str).collect();
        assert_eq!(more, ["wl_seat", "zwp_idle_inhibit_manager_v1", "zwp_text_input_manager_v3"]);
        assert!(weston.is_subset(&sway) && sway.is_subset(&current));
    });
}

/// What a client is told of the keyboard: the events, and the map.
fn keyboard(socket: &Path) -> (Vec<Event>, String) {
    let mut client = Client::connect(socket).unwrap();
    let seat = client.globals.iter().find(|global| global.interface == "wl_seat").unwrap().clone();
    let (seat, _) = client.bind_numbered(&seat).unwrap();
    let mut events = client.make(seat, 1, &[]).unwrap();
    let map = client.contents().unwrap();
    // Its size is the map's.
    events[0].body.truncate(4);
    (events, map)
}

/// Two compositors of unlike Debians, whose libraries write down a layout in other words, and make other keys of what is on few keyboards.
#[test]
fn g6_unlike_desktops_have_the_same_keyboards() {
    require!("root", "Xvfb", "sway", "bwrap", "useradd", "setpriv");
    let _alone = lock::heavy().unwrap();
    let (user, server) = (TestUser::create("keyboards").unwrap(), Xvfb::start().unwrap());
    let mut seen = BTreeSet::new();
    let layouts = ["us", "de", "fr", "ru,us", "cz", "br", "jp", "es", "gb", "it", "ch", "tr", "de(neo)"];
    for layout in layouts {
        let [old, current] = [Sway::in_a_window, Sway::current_in_a_window].map(|start| {
            let sway = start(&user, &server, layout).unwrap();
            let display = Filtered::start(&sway.socket()).unwrap();
            (keyboard(&sway.socket()), keyboard(&display.socket()))
        });
        // The positive control.
        assert_ne!(old.0.1, current.0.1, "{layout}");
        assert_eq!(old.1.0, current.1.0, "{layout}");
        let lines = [&old.1.1, &current.1.1].map(|map| map.lines().collect::<BTreeSet<_>>());
        let differ: Vec<_> = lines[0].symmetric_difference(&lines[1]).collect();
        assert!(old.1.1 == current.1.1, "{layout}: {differ:#?}");
        assert!(old.1.1.starts_with("xkb_keymap {\nxkb_keycodes \"torbox\"") && old.1.1.len() < 32 << 10, "{layout}: {}", old.1.1);
        seen.insert(old.1.1);
    }
    assert_eq!(seen.len(), layouts.len(), "each layout is another");
}

/// Noise of every kind ends the client that makes it, and nobody else.
#[test]
fn noise_ends_its_client_alone() {
    require!("root", "sway", "useradd", "setpriv");
    on_sway("noise", |sway| {
        make_noise(&Filtered::start(&sway.socket()).unwrap());
        Client::connect(&sway.socket()).unwrap();
    });
}

/// The same of a display of the box's own, to which all that it offers is bound.
#[test]
fn noise_in_a_nested_display_ends_its_client_alone() {
    require!("root", "Xvfb");
    let server = Xvfb::start().unwrap();
    make_noise(&Filtered::nested(&server).unwrap());
    server.picture().unwrap();
}

/// A window that is to fill the screen before it is there does so.
#[test]
fn a_window_opens_as_large_as_the_screen() {
    require!("root", "Xvfb", "firefox-esr", "unshare");
    let server = Xvfb::start().unwrap();
    let display = Filtered::nested(&server).unwrap();
    let home = tempfile::tempdir().unwrap();
    // In a network of its own, in which it finds nobody.
    let mut alone = Command::new("unshare");
    alone.args(["--net", "firefox-esr"]);
    let mut firefox = kiosk(alone, home.path(), "about:blank").unwrap().env("WAYLAND_DISPLAY", display.socket()).env("MOZ_ENABLE_WAYLAND", "1").spawn().unwrap();
    let mut last = None;
    let fills = wait::retry(Duration::from_millis(100), Instant::now() + Duration::from_secs(60), || {
        last = server.window("torbox: ").unwrap();
        last.filter(|(_, size)| *size == SIZE)
    });
    stop(&mut firefox);
    assert!(fills.is_some(), "{last:?}");
}

fn make_noise(display: &Filtered) {
    let mut steady = Client::connect(&display.socket()).unwrap();
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    let before = memory(display);
    for round in 0..500 {
        let mut client = Client::connect(&display.socket()).unwrap();
        match round % 5 {
            // Bytes of any kind.
            0 => client.send(&noise.bytes(2048)).ok(),
            // Messages of the right form and no sense.
            1 => (0..50).try_for_each(|_| client.send(&noise.message(4, 3))).ok(),
            // The longest messages there are, cut off.
            2 => client.send(&[&[1, 0, 0, 0, 0, 0, 0xfc, 0xff][..], &noise.bytes(60_000)].concat()).ok(),
            // The same to everything that is offered, and what comes of it.
            3 => {
                for global in client.globals.clone() {
                    client.bind(&global).unwrap();
                }
                (0..200).try_for_each(|_| client.send(&noise.message(40, 12))).ok()
            }
            // Descriptors that belong to nothing.
            _ => (0..4).try_for_each(|_| send_descriptors(&client, 25)).ok(),
        };
    }
    steady.round_trip().unwrap();
    let after = memory(display);
    assert!(after < before + (8 << 20), "{before} bytes of memory became {after}");
    let open = std::fs::read_dir(format!("/proc/{}/fd", display.process().0)).unwrap().count();
    assert!(open < 20, "{open} descriptors");
}

/// Resident memory, in bytes.
fn memory(display: &Filtered) -> u64 {
    let text = display.process().status("VmRSS").unwrap();
    1024 * text.trim_end_matches(" kB").parse::<u64>().unwrap()
}

/// Numbers without end, the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.next(256)).unwrap()).collect()
    }

    /// To one of the first `objects`, one of the first `requests`.
    fn message(&mut self, objects: u64, requests: u64) -> Vec<u8> {
        let words = usize::try_from(self.next(8)).unwrap();
        let body: Vec<u8> = (0..words).flat_map(|_| u32::try_from(self.next(2 * objects)).unwrap().to_ne_bytes()).collect();
        message(u32::try_from(1 + self.next(objects)).unwrap(), u16::try_from(self.next(requests)).unwrap(), &body)
    }
}

fn send_descriptors(client: &Client, count: usize) -> anyhow::Result<()> {
    let mut file = tempfile::tempfile()?;
    file.write_all(b"nothing")?;
    let files: Vec<_> = (0..count).map(|_| std::os::fd::AsFd::as_fd(&file)).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
    sendmsg(client.stream(), &[IoSlice::new(&[1, 0, 0, 0][..1])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Rounds of question and answer through the display and without it, in turn; medians, in microseconds.
#[test]
fn the_filter_adds_less_than_half_a_millisecond() {
    require!("root", "sway", "useradd", "setpriv");
    on_sway("latency", |sway| {
        let display = Filtered::start(&sway.socket()).unwrap();
        let mut clients = [Client::connect(&sway.socket()).unwrap(), Client::connect(&display.socket()).unwrap()];
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..1000 {
            let begun = Instant::now();
            clients[round % 2].round_trip().unwrap();
            times[round % 2].push(begun.elapsed().as_micros());
        }
        let [bare, filtered] = times.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        });
        eprintln!("a round trip: {bare} us, through the filter {filtered} us");
        assert!(filtered < bare + 500, "{bare} us became {filtered} us");
    });
}
