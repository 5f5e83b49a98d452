//! The clipboard of an X server: a program that gives its text to those who ask for it (Inter-Client Communication Conventions Manual, 2). A
//! process of torbox's own does, until something else is copied.

use super::connect_as_user;
use crate::error::CliError;
use nix::unistd::{chdir, setsid};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{self, AtomEnum, ConnectionExt as _, EventMask, PropMode, SelectionRequestEvent, WindowClass};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

/// Hidden subcommand; the text is its standard input.
pub(crate) const HOLDER: &str = "__clipboard";
/// What the process says once it has the clipboard.
const HELD: &str = "held";

x11rb::atom_manager! {
    /// Names that both sides know by numbers.
    Names: NamesCookie {
        CLIPBOARD,
        TARGETS,
        UTF8_STRING,
        TEXT_PLAIN: b"text/plain;charset=utf-8",
    }
}

/// Starts what holds the clipboard, which outlives this process.
pub(crate) fn hold(text: &str) -> Result<(), CliError> {
    // What is wrong with the display is told here.
    connect_as_user()?;
    let failed = |error| CliError::System("start what holds the clipboard", error);
    let own = std::env::current_exe().map_err(failed)?;
    let mut holder = Command::new(own).arg(HOLDER).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
    if let Some(mut input) = holder.stdin.take() {
        input.write_all(text.as_bytes()).map_err(failed)?;
    }
    let mut said = String::new();
    holder.stdout.take().map(|output| BufReader::new(output).read_line(&mut said)).transpose().map_err(failed)?;
    if said.trim_end() == HELD { Ok(()) } else { Err(CliError::NoClipboard(said.trim_end().to_owned())) }
}

/// The process: says [`HELD`] or what is wrong, and ends when something else is copied, or with the X server.
pub(crate) fn holder_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may listen any more.
            writeln!(io::stdout(), "{error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    // The end of the terminal is not its own, nor is the directory that it was started in.
    setsid()?;
    chdir("/")?;
    let (server, screen) = connect_as_user()?;
    let root = server.setup().roots.get(screen).ok_or("the X server has no such screen")?.root;
    let names = Names::new(&server)?.reply()?;
    let window = server.generate_id()?;
    server.create_window(0, window, root, 0, 0, 1, 1, 0, WindowClass::INPUT_ONLY, x11rb::COPY_FROM_PARENT, &xproto::CreateWindowAux::new())?;
    server.set_selection_owner(window, names.CLIPBOARD, x11rb::CURRENT_TIME)?;
    if server.get_selection_owner(names.CLIPBOARD)?.reply()?.owner != window {
        return Err("another program has it".into());
    }
    writeln!(io::stdout(), "{HELD}")?;
    loop {
        match server.wait_for_event()? {
            Event::SelectionRequest(asked) => give(&server, &names, &asked, &text)?,
            Event::SelectionClear(_) => return Ok(()),
            _ => {}
        }
    }
}

/// Answers a program that asks for the text, or for what there is. One that is gone is no error of this one.
fn give(server: &RustConnection, names: &Names, asked: &SelectionRequestEvent, text: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let kinds = [names.UTF8_STRING, names.TEXT_PLAIN];
    let place = if asked.property == x11rb::NONE { asked.target } else { asked.property };
    let property = if asked.target == names.TARGETS {
        server.change_property32(PropMode::REPLACE, asked.requestor, place, AtomEnum::ATOM, &[&[names.TARGETS][..], &kinds].concat())?;
        place
    } else if kinds.contains(&asked.target) {
        server.change_property8(PropMode::REPLACE, asked.requestor, place, asked.target, text)?;
        place
    } else {
        x11rb::NONE
    };
    let told = xproto::SelectionNotifyEvent {
        response_type: xproto::SELECTION_NOTIFY_EVENT,
        sequence: 0,
        time: asked.time,
        requestor: asked.requestor,
        selection: asked.selection,
        target: asked.target,
        property,
    };
    server.send_event(false, asked.requestor, EventMask::NO_EVENT, told)?;
    Ok(server.flush()?)
}
