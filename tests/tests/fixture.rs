//! Proof that the test equipment works: a detector that has never fired proves nothing.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use torbox_tests::display::{self, Weston, Xvfb};
use torbox_tests::left::{Scope, Snapshot, Thing};
use torbox_tests::process::{self, ProcessId};
use torbox_tests::testnet::daemon::stop;
use torbox_tests::testnet::web::PAGE_TEXT;
use torbox_tests::testnet::{Door, Namespace, Options, Sentinel, TestNet, Via, helper, sentinel};
use torbox_tests::user::TestUser;
use torbox_tests::{lock, require, wait};

fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// A network namespace for one test.
struct OwnNamespace(Namespace);

impl OwnNamespace {
    fn new(name: &str) -> Self {
        let own = Self(Namespace::named(&format!("tbx-test-{name}")));
        own.0.remove().unwrap();
        own.0.create().unwrap();
        own
    }
}

impl Drop for OwnNamespace {
    fn drop(&mut self) {
        self.0.remove().expect("the namespace is removed");
    }
}

#[test]
fn root_testnet_serves_both_pages_through_tor_and_leaves_nothing() {
    require!("root", "tor", "tor-gencert", "curl");
    let _alone = lock::heavy().unwrap();
    let dir = std::env::temp_dir().join("torbox-fixture-net");
    let scope = Scope { words: vec![dir.display().to_string()], dirs: vec![dir.clone()], ..Scope::default() };
    let before = Snapshot::take(&scope).unwrap();

    let net = TestNet::up(&Options::new(&dir, &helper().unwrap())).unwrap();
    eprintln!("took {:?}", net.state().took_ms);
    let again = TestNet::up(&Options::new(&dir, &helper().unwrap())).unwrap_err();
    assert!(again.to_string().contains("take it down first"), "{again}");
    fetch_both_pages(&net);
    a_page_fetched_past_tor_is_told_from_one_through_it(&net);
    the_network_has_no_way_out(&net);

    drop(net);
    let left = before.wait_until_gone(&scope, Duration::from_secs(2)).unwrap();
    assert!(left.is_ok(), "{}", left.unwrap_err());
    assert!(!dir.exists());
}

/// A tor of the test's own, by nothing but `client.torrc`: what `torbox run --torrc` gets.
fn fetch_both_pages(net: &TestNet) {
    let home = tempfile::tempdir().unwrap();
    let (socks, log) = (home.path().join("socks"), home.path().join("log"));
    let mut tor = net.client().command("tor");
    let none = home.path().join("none");
    fs::write(&none, "").unwrap();
    tor.arg("-f").arg(&net.state().client_torrc).arg("--defaults-torrc").arg(&none).arg("--DataDirectory").arg(home.path().join("data"));
    tor.arg("--SocksPort").arg(format!("unix:{} RelaxDirModeCheck", socks.display())).process_group(0);
    let mut tor = tor.stdout(fs::File::create(&log).unwrap()).spawn().unwrap();
    let mark = net.web_log().mark();
    for (url, via) in [(&net.state().exit_url, Via::Exit), (&net.state().onion_url, Via::Onion)] {
        let fetch = || curl(net, Some(&socks), url);
        let page = wait::retry(Duration::from_millis(200), soon(60), fetch);
        let page = page.unwrap_or_else(|| panic!("no page from {url}: {}", wait::text_so_far(&log)));
        assert!(page.contains(PAGE_TEXT) && page.contains(url_word(via)), "{page}");
        let request = net.web_log().wait_for(mark, soon(5), |r| r.via == via && r.path == "/").unwrap().expect("it is in the log");
        assert_eq!(format!("http://{}/", request.host), *url);
        assert_eq!(net.exit_of(&request).is_some(), via == Via::Exit, "{request:?}");
    }
    stop(&mut tor);
}

fn url_word(via: Via) -> &'static str {
    match via {
        Via::Exit => "at the exit address",
        Via::Onion => "at the onion address",
    }
}

fn curl(net: &TestNet, socks: Option<&Path>, url: &str) -> Option<String> {
    let mut command = net.client().command("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "15"]);
    if let Some(socks) = socks {
        command.arg("--proxy").arg(format!("socks5h://localhost{}", socks.display()));
    }
    process::output(command.arg(url)).ok().map(|page| String::from_utf8(page).unwrap())
}

/// The positive control of `exit_of`: without tor the page comes as well here, and the log tells it apart.
fn a_page_fetched_past_tor_is_told_from_one_through_it(net: &TestNet) {
    let mark = net.web_log().mark();
    let page = curl(net, None, &format!("{}?direct", net.state().exit_url)).expect("the client reaches the server's address");
    assert!(page.contains(PAGE_TEXT), "{page}");
    let request = net.web_log().wait_for(mark, soon(5), |r| r.path == "/?direct").unwrap().expect("it is in the log");
    assert_eq!((request.peer.to_string().as_str(), net.exit_of(&request)), ("10.77.1.2", None));
}

fn the_network_has_no_way_out(net: &TestNet) {
    for (namespace, devices) in [(net.network(), ["lo", "tbx-net"]), (net.client(), ["lo", "tbx-client"])] {
        let links = fs_within(&namespace, "/proc/net/dev");
        let names: Vec<_> = links.lines().skip(2).filter_map(|l| Some(l.split_once(':')?.0.trim())).collect();
        let mut names: Vec<_> = names.into_iter().filter(|n| !is_fallback_device(n)).collect();
        names.sort_unstable();
        assert_eq!(names, devices);
    }
}

/// Tunnels that some kernels put into every new namespace; they are down and lead nowhere.
fn is_fallback_device(name: &str) -> bool {
    ["tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"].contains(&name)
}

fn fs_within(namespace: &Namespace, file: &str) -> String {
    // /proc/net is the calling thread's only by way of thread-self.
    let file = file.replace("/proc/", "/proc/thread-self/");
    namespace.within(|| Ok(fs::read_to_string(&file)?)).unwrap()
}

#[test]
fn root_sentinels_record_every_knock_from_within_and_none_from_elsewhere() {
    require!("root", "ip");
    let _alone = lock::heavy().unwrap();
    let (inside, outside) = (OwnNamespace::new("inside"), OwnNamespace::new("outside"));
    let doors = [
        Door::Tcp("127.0.0.1:4001".parse().unwrap()),
        Door::Tcp("[::1]:4001".parse().unwrap()),
        Door::Udp("127.0.0.1:4002".parse().unwrap()),
        Door::Abstract("torbox-sentinel".to_owned()),
    ];
    let dir = tempfile::tempdir().unwrap();
    let watcher = Sentinel::start(&helper().unwrap(), &inside.0, &doors, &dir.path().join("hits")).unwrap();

    let knock_all = |say: &str| doors.each_ref().map(|door| sentinel::knock(door, say));
    assert_eq!(outside.0.within(|| Ok(knock_all("outside"))).unwrap(), [false; 4]);
    assert_eq!(watcher.settle().unwrap(), []);

    assert_eq!(inside.0.within(|| Ok(knock_all("inside"))).unwrap(), [true; 4]);
    let hits = watcher.settle().unwrap();
    assert_eq!(hits.iter().map(|h| (&h.door, h.said.as_str())).collect::<Vec<_>>(), doors.each_ref().map(|d| (d, "inside")));
}

#[test]
fn a_page_on_an_x_screen_can_be_read_and_its_window_is_timed() {
    require!("Xvfb", "xmessage", "tesseract");
    let _alone = lock::heavy().unwrap();
    let screen = Xvfb::start().unwrap();
    let dir = tempfile::tempdir().unwrap();

    let mut watch = screen.watch().unwrap();
    let begun = Instant::now();
    assert!(watch.first_window(begun + Duration::from_millis(300)).unwrap().is_none(), "nothing was started yet");

    let mut message = Command::new("xmessage");
    message.env("DISPLAY", screen.display()).env("XAUTHORITY", screen.auth_file());
    // Away from the corner, where the frame would be taken for letters.
    message.args(["-geometry", "600x300+50+50", &format!("\n\n   {PAGE_TEXT}")]);
    let mut message = message.stderr(Stdio::null()).spawn().unwrap();
    let seen = watch.first_window(soon(10)).unwrap().expect("a window appears");
    eprintln!("mapped {:?}, drawn {:?}, painted {:?}", seen.mapped - begun, seen.drawn - begun, seen.painted - begun);
    assert!(seen.mapped <= seen.drawn && seen.drawn <= seen.painted);

    let file = dir.path().join("screen.png");
    let read = || {
        screen.screenshot(&file).unwrap();
        let text = display::read_text(&file).unwrap();
        // The server's own font is so small that the colon is a guess.
        text.contains("this page came through tor").then_some(text)
    };
    assert!(wait::retry(Duration::from_millis(200), soon(10), read).is_some(), "{:?}", display::read_text(&file));

    // A click on its button ends it: input arrives.
    let geometry = x11_geometry(&screen, seen.window);
    let okay = (geometry.0 + 20, geometry.1 + geometry.3 - 13);
    screen.input().unwrap().click(okay.0, okay.1).unwrap();
    let ended = wait::retry(Duration::from_millis(20), soon(3), || message.try_wait().unwrap());
    stop(&mut message);
    assert!(ended.is_some(), "the click did not reach the button at {okay:?} of {geometry:?}");
}

#[test]
fn typed_letters_arrive() {
    use x11rb::connection::Connection as _;
    use x11rb::protocol::{Event, xproto::*};
    require!("Xvfb");
    let screen = Xvfb::start().unwrap();
    let x = screen.connect().unwrap();
    let (window, root) = (x.generate_id().unwrap(), x.setup().roots[0].root);
    let aux = CreateWindowAux::new().event_mask(EventMask::KEY_PRESS | EventMask::EXPOSURE);
    x.create_window(0, window, root, 0, 0, 200, 200, 0, WindowClass::INPUT_OUTPUT, 0, &aux).unwrap().check().unwrap();
    x.map_window(window).unwrap().check().unwrap();
    while !matches!(x.wait_for_event().unwrap(), Event::Expose(_)) {}
    x.set_input_focus(InputFocus::NONE, window, x11rb::CURRENT_TIME).unwrap().check().unwrap();

    let input = screen.input().unwrap();
    input.write("aB:").unwrap();
    input.press(&["Control", "l"]).unwrap();
    let map = x.get_keyboard_mapping(8, 248).unwrap().reply().unwrap();
    let symbol = |e: &KeyPressEvent| {
        let level = usize::from(u16::from(e.state) & u16::from(KeyButMask::SHIFT) != 0);
        (map.keysyms[usize::from(e.detail - 8) * usize::from(map.keysyms_per_keycode) + level], e.state.contains(KeyButMask::CONTROL))
    };
    // A modifier is a key press of its own; only the letters count here.
    let pressed = std::iter::from_fn(|| x.poll_for_event().unwrap()).filter_map(|e| match e {
        Event::KeyPress(e) => Some(symbol(&e)),
        _ => None,
    });
    let letters: Vec<_> = pressed.filter(|(s, _)| *s < 0x100).map(|(s, control)| (char::from_u32(s).unwrap(), control)).collect();
    assert_eq!(letters, [('a', false), ('B', false), (':', false), ('l', true)]);
    assert!(input.write("\u{4e2d}").is_err(), "no key for it");
}

fn x11_geometry(screen: &Xvfb, window: u32) -> (i16, i16, i16, i16) {
    use x11rb::protocol::xproto::ConnectionExt as _;
    let g = screen.connect().unwrap().get_geometry(window).unwrap().reply().unwrap();
    (g.x, g.y, g.width.try_into().unwrap(), g.height.try_into().unwrap())
}

#[test]
fn an_x_server_refuses_another_servers_cookie() {
    require!("Xvfb", "xmessage");
    let (one, other) = (Xvfb::start().unwrap(), Xvfb::start().unwrap());
    assert_ne!(one.display(), other.display());
    let connects = |auth: &Path| {
        let mut list = Command::new("xmessage");
        list.env("DISPLAY", one.display()).env("XAUTHORITY", auth).args(["-timeout", "1", "x"]);
        // xmessage ends with 0 after its time-out and with 1 where it finds no display.
        list.stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(connects(&one.auth_file()), "the right cookie");
    let wrong = tempfile::NamedTempFile::new().unwrap();
    fs::write(&wrong, rename_display(&fs::read(other.auth_file()).unwrap(), &other.display(), &one.display())).unwrap();
    assert!(!connects(wrong.path()), "another server's cookie under this one's number");
}

/// The same authority entry for another display number of the same length.
fn rename_display(entry: &[u8], from: &str, to: &str) -> Vec<u8> {
    let field = |display: &str| [&[0, u8::try_from(display.len() - 1).unwrap()], display.trim_start_matches(':').as_bytes()].concat();
    let (from, to) = (field(from), field(to));
    let at = entry.windows(from.len()).position(|w| w == from).unwrap();
    [&entry[..at], &to, &entry[at + from.len()..]].concat()
}

#[test]
fn root_weston_runs_as_a_user_and_can_be_photographed() {
    require!("root", "weston", "weston-screenshooter", "useradd");
    let _alone = lock::heavy().unwrap();
    let user = TestUser::create("weston").unwrap();
    let weston = Weston::start(Some(&user)).unwrap();
    let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    weston.screenshot(file.path()).unwrap();
    let (width, height) = png_size(&fs::read(&file).unwrap());
    assert_eq!((width, height), (1280, 800));
}

fn png_size(bytes: &[u8]) -> (u32, u32) {
    let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    (reader.info().width, reader.info().height)
}

#[test]
fn root_a_test_user_has_its_own_ids_home_and_environment_and_is_removed() {
    require!("root", "useradd", "setpriv", "ip");
    let _alone = lock::heavy().unwrap();
    let place = OwnNamespace::new("user");
    let user = TestUser::create("fixture").unwrap();
    let run = |script: &str| {
        let mut command = user.command(Some(&place.0), "/bin/sh");
        String::from_utf8(process::output(command.args(["-c", script])).unwrap()).unwrap()
    };
    let (uid, gid) = user.ids();
    assert_eq!(run("id -u; id -g; id -G; pwd; stat -c %a . $XDG_RUNTIME_DIR"), format!(
        "{uid}\n{gid}\n{gid}\n{}\n700\n700\n",
        user.home().display()
    ));
    let mut names: Vec<_> = run("env").lines().filter_map(|l| Some(l.split_once('=')?.0.to_owned())).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "USER", "XDG_RUNTIME_DIR"]);
    assert_eq!(run("grep -c : /proc/self/net/dev").trim(), device_count(&place.0).to_string(), "its network namespace");
    assert_eq!(run("grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status | grep -vc 0000000000000000 || true"), "0\n");
    assert_eq!(run("unshare --user --map-auto --map-root-user id -u"), "0\n", "it has subordinate ids");

    let (name, home) = (user.name().to_owned(), user.home().to_owned());
    let mut sleeper = user.command(None, "sleep").arg("1000").spawn().unwrap();
    // Until setpriv has changed it, it is root's.
    let becomes_the_users = || user.processes().unwrap().contains(&ProcessId(sleeper.id())).then_some(());
    assert!(wait::retry(Duration::from_millis(10), soon(5), becomes_the_users).is_some());
    drop(user);
    assert!(!sleeper.wait().unwrap().success(), "its processes are ended");
    assert!(!home.exists());
    for file in ["/etc/passwd", "/etc/subuid", "/etc/subgid", "/etc/group"] {
        assert!(!fs::read_to_string(file).unwrap().contains(&name), "{name} in {file}");
    }
}

fn device_count(namespace: &Namespace) -> usize {
    fs_within(namespace, "/proc/net/dev").lines().filter(|l| l.contains(':')).count()
}

#[test]
fn root_what_is_left_is_found_and_named() {
    require!("root", "unshare", "ip");
    let _alone = lock::heavy().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let scope = Scope { words: vec!["torbox-left-marker".into()], dirs: vec![dir.path().to_owned()], ..Scope::default() };
    let before = Snapshot::take(&scope).unwrap();
    assert_eq!(before.wait_until_gone(&scope, Duration::ZERO).unwrap().map(drop), Ok(()));

    // One of each kind, each made by hand.
    let boxed = Command::new("unshare").args(["--pid", "--fork", "--net", "--kill-child", "sleep", "1000"]).spawn().unwrap();
    let marked = Command::new("sleep").args(["1000"]).arg0("torbox-left-marker").spawn().unwrap();
    let place = OwnNamespace::new("left");
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let group = control_group_root().join("torbox-left-marker");
    fs::create_dir(&group).unwrap();
    let found = |wanted: &dyn Fn(&Thing) -> bool| Snapshot::take(&scope).unwrap().since(&before).things().iter().any(wanted);
    let in_time = |wanted: &dyn Fn(&Thing) -> bool| wait::retry(Duration::from_millis(20), soon(3), || found(wanted).then_some(())).is_some();
    assert!(in_time(&|t| matches!(t, Thing::Process { command_line, .. } if command_line == "sleep 1000")), "in another PID namespace");
    assert!(in_time(&|t| matches!(t, Thing::Network(_))));
    assert!(found(&|t| matches!(t, Thing::Process { pid, .. } if pid.0 == marked.id())), "by its command line");
    assert!(found(&|t| *t == Thing::NamedNetwork("tbx-test-left".into())));
    assert!(found(&|t| *t == Thing::ControlGroup(group.clone())));
    assert!(found(&|t| *t == Thing::File(dir.path().join("socket"))));
    assert!(found(&|t| *t == Thing::Socket(dir.path().join("socket").display().to_string())));
    assert!(found(&|t| matches!(t, Thing::Mount(m) if m.starts_with("/run/netns/tbx-test-left "))));
    assert!(before.wait_until_gone(&scope, Duration::from_millis(100)).unwrap().is_err());

    fs::remove_dir(&group).unwrap();
    drop((place, listener));
    fs::remove_file(dir.path().join("socket")).unwrap();
    [boxed, marked].iter_mut().for_each(stop);
    let left = before.wait_until_gone(&scope, Duration::from_secs(3)).unwrap();
    assert!(left.is_ok(), "{}", left.unwrap_err());
}

/// Where a control group can be made: the unified hierarchy, wherever this machine has it.
fn control_group_root() -> &'static Path {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.is_dir() { unified } else { Path::new("/sys/fs/cgroup") }
}

#[test]
fn without_root_the_network_says_so() {
    require!("root", "setpriv");
    let own = helper().unwrap();
    let copy = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let program = copy.path().join("torbox-testnet");
    fs::copy(own, &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(["up", "--dir", "/nonexistent/net"]);
    let done = command.output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(said, "torbox-testnet: cannot make a private Tor network: it needs root\n");
    assert!(!done.status.success());
}
