//! A hostile X client at the box's display socket, where the browser's own connections are: what works on the bare socket with the
//! user's cookie does not work through the box, but for what X servers leave open to those whom they do not trust.

use std::os::unix::net::UnixStream;

use torbox_tests::boxed::Part;
use torbox_tests::display::Xvfb;
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ConnectionExt as _, CreateWindowAux, EventMask, GrabMode, ImageFormat, InputFocus, KEY_PRESS_EVENT, KEY_RELEASE_EVENT,
    KeyPressEvent, ModMask, PropMode, Window, WindowClass,
};
use x11rb::protocol::Event;
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::{DefaultStream, RustConnection};
use x11rb::wrapper::ConnectionExt as _;

use crate::ground::{Stage, soon};

/// A key that every keyboard has.
const KEY: u8 = 38;
/// The other window's size.
const SIDE: u16 = 40;

/// What an X server lets untrusted clients do all the same; SECURITY.md says so.
const LEFT_OPEN: [&str; 2] = ["another window's title", "what another window selected"];

/// What an attempt came to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Works,
    Refused,
}

fn found(works: bool) -> Found {
    if works { Found::Works } else { Found::Refused }
}

/// Another program of the user: a window, with a key held down in it.
struct Other {
    connection: RustConnection,
    window: Window,
}

impl Other {
    fn open(display: &Xvfb) -> Self {
        let connection = display.connect().unwrap();
        let window = create_window(&connection);
        connection.map_window(window).unwrap();
        connection.change_property8(PropMode::REPLACE, window, AtomEnum::WM_NAME, AtomEnum::STRING, b"secret").unwrap();
        connection.set_selection_owner(window, AtomEnum::PRIMARY.into(), x11rb::CURRENT_TIME).unwrap();
        connection.xtest_fake_input(KEY_PRESS_EVENT, KEY, x11rb::CURRENT_TIME, connection.setup().roots[0].root, 0, 0, 0).unwrap();
        connection.sync().unwrap();
        Self { connection, window }
    }
}

impl Other {
    /// Types a key into the window.
    fn type_key(&self) {
        self.connection.set_input_focus(InputFocus::NONE, self.window, x11rb::CURRENT_TIME).unwrap();
        for kind in [KEY_PRESS_EVENT, KEY_RELEASE_EVENT] {
            self.connection.xtest_fake_input(kind, KEY + 2, x11rb::CURRENT_TIME, self.window, 0, 0, 0).unwrap();
        }
        self.connection.sync().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.connection.xtest_fake_input(KEY_RELEASE_EVENT, KEY, x11rb::CURRENT_TIME, self.window, 0, 0, 0).unwrap();
        self.connection.sync().unwrap();
    }
}

fn create_window(connection: &RustConnection) -> Window {
    let (window, root) = (connection.generate_id().unwrap(), connection.setup().roots[0].root);
    connection.create_window(x11rb::COPY_FROM_PARENT as u8, window, root, 0, 0, SIDE, SIDE, 0, WindowClass::INPUT_OUTPUT, 0, &CreateWindowAux::new()).unwrap();
    window
}

/// Everything that the client tries against `other`, by name.
fn attempts(client: &RustConnection, program: &Other) -> Vec<(&'static str, Found)> {
    let other = program.window;
    let root = client.setup().roots[0].root;
    let checked = |result: Result<(), x11rb::errors::ReplyError>| found(result.is_ok());
    let image = |window| client.get_image(ImageFormat::Z_PIXMAP, window, 0, 0, SIDE, SIDE, !0).unwrap().reply().is_ok();
    let key = KeyPressEvent { response_type: KEY_PRESS_EVENT, detail: KEY, root, event: other, ..KeyPressEvent::default() };
    vec![
        ("a picture of the screen", found(image(root))),
        ("a picture of another window", found(image(other))),
        ("another window's title", found(client.get_property(false, other, AtomEnum::WM_NAME, AtomEnum::ANY, 0, 9).unwrap().reply().is_ok_and(|title| title.value == b"secret"))),
        ("which keys are held", found(client.query_keymap().unwrap().reply().is_ok_and(|held| held.keys.iter().any(|byte| *byte != 0)))),
        ("another window's keys", found(is_told_of_a_key(client, program))),
        ("a key, wherever it is pressed", checked(client.grab_key(false, root, ModMask::ANY, KEY + 1, GrabMode::ASYNC, GrabMode::ASYNC).unwrap().check())),
        ("a key sent to another window", checked(client.send_event(false, other, EventMask::KEY_PRESS, key).unwrap().check())),
        ("a key of its own making", found(client.extension_information("XTEST").unwrap().is_some())),
        ("a record of all that happens", found(client.extension_information("RECORD").unwrap().is_some())),
        ("what another window selected", found(is_asked_for_the_selection(client, program))),
        ("a property of the screen", checked(client.change_property8(PropMode::REPLACE, root, AtomEnum::CUT_BUFFER0, AtomEnum::STRING, b"x").unwrap().check())),
        ("another window's end", checked(client.unmap_window(other).unwrap().check())),
    ]
}

/// Whether a key that is typed into the other window reaches the client, which wants to be told.
fn is_told_of_a_key(client: &RustConnection, other: &Other) -> bool {
    let listen = ChangeWindowAttributesAux::new().event_mask(EventMask::KEY_PRESS);
    client.change_window_attributes(other.window, &listen).unwrap();
    client.sync().unwrap();
    other.type_key();
    client.sync().unwrap();
    std::iter::from_fn(|| client.poll_for_event().unwrap()).any(|event| matches!(event, Event::KeyPress(_)))
}

/// Whether the client's request for the selection comes to its owner.
fn is_asked_for_the_selection(client: &RustConnection, other: &Other) -> bool {
    let window = create_window(client);
    let [selection, string, property] = [AtomEnum::PRIMARY, AtomEnum::STRING, AtomEnum::CUT_BUFFER1].map(u32::from);
    client.convert_selection(window, selection, string, property, x11rb::CURRENT_TIME).unwrap();
    client.sync().unwrap();
    other.connection.sync().unwrap();
    std::iter::from_fn(|| other.connection.poll_for_event().unwrap()).any(|event| matches!(event, Event::SelectionRequest(asked) if asked.requestor == window))
}

/// At the socket that the box's display made for its browser, with the user's own cookie and with none.
pub(crate) fn hostile(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let mut command = stage.run_command(&display, "hostile", "about:blank");
    command.env("TORBOX_DISPLAY", "x11-untrusted");
    let mut running = stage.start(command, "hostile");
    running.wait_until_said("connected to the Tor network", soon(60)).unwrap();
    let part = running.part(Part::Display).unwrap();
    let other = Other::open(&display);
    for (what, found) in attempts(&display.connect().unwrap(), &other) {
        assert_eq!(found, Found::Works, "on the bare socket: {what}");
    }
    other.connection.map_window(other.window).unwrap();
    other.connection.sync().unwrap();
    for cookie in [display.cookie().to_vec(), Vec::new()] {
        let socket = UnixStream::connect(format!("/proc/{}/root/run/torbox/display/X0", part.0)).unwrap();
        let (stream, _peer) = DefaultStream::from_unix_stream(socket).unwrap();
        let name = if cookie.is_empty() { Vec::new() } else { b"MIT-MAGIC-COOKIE-1".to_vec() };
        let client = RustConnection::connect_to_stream_with_auth_info(stream, 0, name, cookie).unwrap();
        let works: Vec<_> = attempts(&client, &other).into_iter().filter(|(_, found)| *found == Found::Works).map(|(what, _)| what).collect();
        assert_eq!(works, LEFT_OPEN, "through the box");
        // It is a client all the same: a window of its own is no trouble.
        client.map_window(create_window(&client)).unwrap().check().unwrap();
    }
    drop(other);
    assert_eq!(running.interrupt().unwrap(), Some(0));
}
