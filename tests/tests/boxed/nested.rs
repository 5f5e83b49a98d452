//! A display of the box's own on an X server (`--display x11-nested`, which is what a box on X11 gets): what is shown, what hands
//! can do, and what is not there for whoever is in the browser's place.

use std::path::PathBuf;
use std::time::Duration;

use torbox_tests::boxed::{Part, RunningBox, readable};
use torbox_tests::display::client::Client;
use torbox_tests::display::{Input, SIZE, Xvfb, read_text};
use torbox_tests::process::all;
use torbox_tests::testnet::Via;
use torbox_tests::wait;
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ConfigureWindowAux, ConnectionExt as _, CreateWindowAux, EventMask, PropMode, SELECTION_NOTIFY_EVENT, SelectionNotifyEvent, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use crate::ground::{Stage, soon};
use crate::page::{Awaited, content_sandbox_is_on};

/// Text that is on the page.
const TEXT: &str = "this page feels";
/// Where the browser's address field is.
const ADDRESS: (i16, i16) = (600, 64);
/// How long what a hand did may take to be seen.
const PATIENCE: u64 = 60;

pub(crate) fn on_x11(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let url = |path: &str| format!("{}{path}", stage.ground.net.state().named_url);
    let page = Awaited::new(stage);
    let command = stage.run_command(&display, "nested", &url("hands"));
    let running = stage.start(command, "nested");
    page.request_of(Via::Exit, "/hands", &running);
    assert!(running.said().contains("torbox: display: x11-nested\n"), "{}", running.said());
    let hands = Hands::new(stage, &display, &running);
    hands.try_everything();
    content_sandbox_is_on(&running);
    copied_by_the_user_alone(stage, &display, &hands);
    hands.resize(&url("hands"));
    nothing_of_the_server_is_there(&display, &running);
    assert_eq!(running.interrupt().unwrap(), Some(0));
}

/// `torbox copy` has the clipboard until another program has it, and can print what is in there.
fn copied_by_the_user_alone(stage: &Stage<'_>, display: &Xvfb, hands: &Hands<'_>) {
    let text = "no such page";
    hands.copy_out(text, || {
        let done = stage.installed.command_on(display, None, ["copy", "nested"]).unwrap().output().unwrap();
        assert!(matches!(done.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&done.stderr));
    });
    let program = stage.installed.program().display().to_string();
    let holders = || all().unwrap().into_iter().filter(|process| process.command_line() == format!("{program} __clipboard")).count();
    assert_eq!(holders(), 1);
    let _other = Copied::new(display, "of another program");
    assert!(wait::retry(Duration::from_millis(20), soon(5), || (holders() == 0).then_some(())).is_some(), "it still runs");
    hands.print_out("nested", text);
    let without = stage.call(&["copy", "nested"]);
    assert!(without.0 == Some(4) && without.2.contains("DISPLAY"), "{without:?}");
}

/// A server that trusts every client alike shows a box too, and torbox says what that leaves open.
pub(crate) fn on_a_server_without_the_extension(stage: &Stage<'_>) {
    let display = Xvfb::start_trusting().unwrap();
    let url = |path: &str| format!("{}{path}", stage.ground.net.state().named_url);
    let running = stage.start(stage.run_command(&display, "trusting", &url("hands")), "trusting");
    shown(stage, &display, TEXT, &running);
    let said = running.said();
    assert!(said.contains("torbox: display: x11-nested-trusted: ") && said.contains("could read every key"), "{said}");
    let hands = Hands::new(stage, &display, &running);
    hands.type_an_address(&url("typed"));
    assert_eq!(running.interrupt().unwrap(), Some(0));
}

/// A clipboard that goes one way, and hands that are late.
pub(crate) fn one_way(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let url = |path: &str| format!("{}{path}", stage.ground.net.state().named_url);
    for ways in ["out", "in"] {
        let mut command = stage.run_command(&display, ways, &url("hands"));
        command.args(["--clipboard", ways, "--input-jitter", "40"]);
        let running = stage.start(command, ways);
        let hands = Hands::new(stage, &display, &running);
        hands.try_what_needs_no_clipboard();
        let status = stage.call(&["status"]).1;
        if ways == "out" {
            let other = Copied::new(&display, "of another program");
            hands.paste();
            assert!(!other.gives() && status.contains("the keyboard's layout\n"), "{status}");
            hands.paste_ones_own(&url("pasted"));
            hands.print_out(ways, "no such page");
        } else {
            hands.paste_an_address(&url("pasted"));
            let refused = stage.call(&["copy", "--print", ways]);
            assert!(status.contains("the clipboard\n") && refused.0 == Some(1) && refused.1.is_empty() && refused.2.contains("--clipboard"), "{refused:?} {status}");
            hands.paste_ones_own(&url("pasted"));
        }
        assert_eq!(running.interrupt().unwrap(), Some(0));
    }
}

pub(crate) fn shown(stage: &Stage<'_>, display: &Xvfb, text: &str, running: &RunningBox) {
    let shot = stage.out.path().join("screen.png");
    let seen = readable(|shot| display.screenshot(shot), text, &shot, soon(PATIENCE)).unwrap();
    seen.unwrap_or_else(|seen| panic!("the screen shows\n{seen}\ninstead of {text:?}; torbox said last:\n{}", running.said_last()));
}

/// The user's.
pub(crate) struct Hands<'a> {
    stage: &'a Stage<'a>,
    display: &'a Xvfb,
    input: Input,
    running: &'a RunningBox,
}

impl<'a> Hands<'a> {
    pub(crate) fn new(stage: &'a Stage<'a>, display: &'a Xvfb, running: &'a RunningBox) -> Self {
        Self { stage, display, input: display.input().unwrap(), running }
    }

    /// With the page for it, which is shown.
    pub(crate) fn try_everything(&self) {
        self.try_what_needs_no_clipboard();
        self.paste_an_address(&format!("{}pasted", self.stage.ground.net.state().named_url));
    }

    /// The same without what another program copies.
    pub(crate) fn try_what_needs_no_clipboard(&self) {
        let url = |path: &str| format!("{}{path}", self.stage.ground.net.state().named_url);
        shown(self.stage, self.display, TEXT, self.running);
        self.point_and_turn();
        self.type_an_address(&url("typed"));
        self.open_a_menu(&url("hands"));
    }

    /// Does something until the page tells that it felt it: a browser that is still busy may miss it.
    fn until_felt(&self, path: &str, mut act: impl FnMut()) {
        let mark = self.stage.ground.net.web_log().mark();
        let felt = wait::retry(Duration::from_secs(2), soon(PATIENCE), || {
            act();
            let log = self.stage.ground.net.web_log();
            log.wait_for(mark, soon(3), |request| request.via == Via::Exit && request.path == path).unwrap()
        });
        assert!(felt.is_some(), "{path} was not felt; the screen shows\n{}\ntorbox said last:\n{}", self.on_screen(), self.running.said_last());
    }

    fn on_screen(&self) -> String {
        let shot = self.stage.out.path().join("unfelt.png");
        self.display.screenshot(&shot).and_then(|()| read_text(&shot)).unwrap_or_else(|error| error.to_string())
    }

    fn point_and_turn(&self) {
        let (x, y) = (400, 500);
        self.until_felt("/felt/button-0", || self.input.button(1, x, y).unwrap());
        self.until_felt("/felt/button-1", || self.input.button(2, x, y).unwrap());
        self.until_felt("/felt/wheel-down", || self.input.button(5, x, y).unwrap());
    }

    fn address(&self, enter: impl Fn()) {
        self.input.press(&["Control", "l"]).unwrap();
        enter();
        self.input.press(&["Return"]).unwrap();
    }

    fn type_an_address(&self, url: &str) {
        self.until_felt("/typed", || self.address(|| self.input.write(url).unwrap()));
    }

    /// The page's menu lies over its window, and closes again.
    fn open_a_menu(&self, url: &str) {
        self.until_felt("/hands", || self.address(|| self.input.write(url).unwrap()));
        shown(self.stage, self.display, TEXT, self.running);
        self.input.button(3, 400, 500).unwrap();
        shown(self.stage, self.display, "View Page Source", self.running);
        self.input.press(&["Escape"]).unwrap();
    }

    /// What another program copied is pasted with the keys for that. Into the address field, which was clicked: the keys for it go
    /// through the page, and what follows at once would go there too.
    fn paste_an_address(&self, url: &str) {
        let other = Copied::new(self.display, url);
        // A page asks for it once, and then has it; what came of that may have been missed.
        let mut given = false;
        self.until_felt("/pasted", || {
            self.paste();
            given |= other.gives();
            if given {
                self.input.press(&["Return"]).unwrap();
            }
        });
    }

    fn paste(&self) {
        self.input.button(1, ADDRESS.0, ADDRESS.1).unwrap();
        ["a", "v"].iter().for_each(|key| self.input.press(&["Control", key]).unwrap());
    }

    /// What the browser copied itself it can paste in any case.
    pub(crate) fn paste_ones_own(&self, url: &str) {
        self.until_felt("/pasted", || {
            self.address(|| {
                self.input.write(url).unwrap();
                ["a", "x", "v"].iter().for_each(|key| self.input.press(&["Control", key]).unwrap());
            });
        });
    }

    /// What is on the page is copied, and comes out when it is `taken`, and not before.
    pub(crate) fn copy_out(&self, text: &str, mut taken: impl FnMut()) {
        self.copy();
        let early = wait::retry(Duration::from_millis(500), soon(3), || copied(self.display).filter(|copied| copied.contains(text)));
        assert_eq!(early, None, "nobody asked for it");
        // The browser is not asked whether it has copied by now: what is not there is taken the next time.
        let came = wait::retry(Duration::from_secs(1), soon(PATIENCE), || {
            self.copy();
            taken();
            copied(self.display).filter(|copied| copied.contains(text))
        });
        assert!(came.is_some(), "{:?}; torbox said last:\n{}", copied(self.display), self.running.said_last());
        self.unmark();
    }

    fn copy(&self) {
        self.input.press(&["Control", "a"]).unwrap();
        self.input.press(&["Control", "c"]).unwrap();
    }

    pub(crate) fn press_at(&self, (x, y): (i16, i16)) {
        self.input.button(1, x, y).unwrap();
    }

    /// What is on the page is copied, and printed where the user asks for it.
    pub(crate) fn print_out(&self, name: &str, text: &str) {
        let mut last = None;
        let printed = wait::retry(Duration::from_secs(1), soon(PATIENCE), || {
            self.press_at((400, 500));
            self.copy();
            let printed = self.stage.call(&["copy", "--print", name]);
            let found = (printed.0 == Some(0) && printed.1.contains(text)).then_some(());
            last = Some(printed);
            found
        });
        assert!(printed.is_some(), "{last:?}; torbox said last:\n{}", self.running.said_last());
        self.unmark();
    }

    /// What is marked is not read. A second click at one place would mark again.
    fn unmark(&self) {
        self.input.click(500, 600).unwrap();
    }

    /// The browser follows its window's size, and fills the screen when it is told to.
    fn resize(&self, url: &str) {
        self.until_felt("/hands", || self.address(|| self.input.write(url).unwrap()));
        shown(self.stage, self.display, TEXT, self.running);
        let server = self.display.connect().unwrap();
        let (window, _) = self.display.window("torbox: ").unwrap().expect("the box has a window");
        let mut width = 800;
        self.until_felt("/felt/narrower", || {
            width -= 100;
            server.configure_window(window, &ConfigureWindowAux::new().width(width).height(700)).unwrap().check().unwrap();
        });
        self.until_felt("/felt/wider", || self.input.press(&["F11"]).unwrap());
    }
}

/// The clipboard of the X server, as any program can have it.
fn copied(display: &Xvfb) -> Option<String> {
    let connection = display.connect().unwrap();
    let (window, root) = (connection.generate_id().unwrap(), connection.setup().roots[0].root);
    connection.create_window(0, window, root, 0, 0, 1, 1, 0, WindowClass::INPUT_OUTPUT, 0, &CreateWindowAux::new()).unwrap();
    let [clipboard, utf8] = ["CLIPBOARD", "UTF8_STRING"].map(|name| connection.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom);
    connection.convert_selection(window, clipboard, utf8, utf8, x11rb::CURRENT_TIME).unwrap().check().unwrap();
    wait::retry(Duration::from_millis(20), soon(2), || connection.poll_for_event().unwrap())?;
    let text = connection.get_property(false, window, utf8, AtomEnum::ANY, 0, 1 << 16).unwrap().reply().unwrap().value;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Another program, which copied a text.
struct Copied {
    connection: RustConnection,
    targets: Atom,
    utf8: Atom,
    text: String,
}

impl Copied {
    fn new(display: &Xvfb, text: &str) -> Self {
        let connection = display.connect().unwrap();
        let (window, root) = (connection.generate_id().unwrap(), connection.setup().roots[0].root);
        connection.create_window(0, window, root, 0, 0, 1, 1, 0, WindowClass::INPUT_OUTPUT, 0, &CreateWindowAux::new()).unwrap();
        let [clipboard, targets, utf8] = ["CLIPBOARD", "TARGETS", "UTF8_STRING"].map(|name| connection.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom);
        connection.set_selection_owner(window, clipboard, x11rb::CURRENT_TIME).unwrap();
        connection.sync().unwrap();
        Self { connection, targets, utf8, text: text.to_owned() }
    }

    /// Tells who asks soon that it has a text, and gives it until nobody asks any more: some ask twice.
    fn gives(&self) -> bool {
        let asked = || self.connection.poll_for_event().unwrap().and_then(|event| if let Event::SelectionRequest(asked) = event { Some(asked) } else { None });
        let mut given = false;
        while let Some(asked) = wait::retry(Duration::from_millis(10), soon(if given { 1 } else { 3 }), asked) {
            let is_text = asked.target != self.targets;
            if is_text {
                self.connection.change_property8(PropMode::REPLACE, asked.requestor, asked.property, asked.target, self.text.as_bytes()).unwrap();
            } else {
                self.connection.change_property32(PropMode::REPLACE, asked.requestor, asked.property, AtomEnum::ATOM, &[self.utf8]).unwrap();
            }
            let told = SelectionNotifyEvent {
                response_type: SELECTION_NOTIFY_EVENT,
                sequence: 0,
                time: asked.time,
                requestor: asked.requestor,
                selection: asked.selection,
                target: asked.target,
                property: asked.property,
            };
            self.connection.send_event(false, asked.requestor, EventMask::NO_EVENT, told).unwrap();
            self.connection.sync().unwrap();
            given |= is_text;
        }
        given
    }
}

/// The link holds one socket, which speaks Wayland, and what it offers is the same on every machine; the screen is not the user's.
fn nothing_of_the_server_is_there(display: &Xvfb, running: &RunningBox) {
    let browser = running.part(Part::Browser).unwrap();
    let link = PathBuf::from(format!("/proc/{}/root/run/torbox/display", browser.0));
    let names: Vec<_> = std::fs::read_dir(&link).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["wayland-0"]);
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", browser.0)).unwrap();
    assert!(environment.contains("WAYLAND_DISPLAY=") && !environment.split('\0').any(|variable| variable.starts_with("DISPLAY=")), "{environment}");
    let mut client = Client::connect(&link.join("wayland-0")).unwrap();
    let offered: Vec<_> = client.globals.iter().map(|global| (global.interface.as_str(), global.version)).collect();
    let expected = [
        ("wl_compositor", 4),
        ("wl_subcompositor", 1),
        ("wl_shm", 1),
        ("wl_seat", 7),
        ("wl_output", 3),
        ("wl_data_device_manager", 3),
        ("xdg_wm_base", 2),
        ("wp_cursor_shape_manager_v1", 1),
    ];
    assert_eq!(offered, expected);
    let output = client.globals.iter().find(|global| global.interface == "wl_output").cloned().unwrap();
    let said: Vec<u8> = client.bind(&output).unwrap().into_iter().flat_map(|event| event.body).collect();
    let has = |side: u16| said.windows(4).any(|bytes| bytes == u32::from(side).to_ne_bytes());
    assert!(has(1920) && has(1080) && !has(SIZE.0) && !has(SIZE.1), "{said:?}");
    // The display alone has the server's socket.
    let server = display.display().replace(':', "/X");
    let mounts = |part| {
        std::fs::read_to_string(format!("/proc/{}/mountinfo", running.part(part).unwrap().0)).unwrap().split_whitespace().any(|word| word.ends_with(&server))
    };
    assert_eq!([Part::Display, Part::Browser].map(mounts), [true, false]);
}
