//! Process 1 of the tor and browser containers.
//!
//! `init run -- PROGRAM [ARG ...]` starts one program, passes signals on, reaps whatever is left to it and exits as the
//! program did. Its standard input is a pipe that the runtime holds open: when that closes, the
//! runtime is gone, and init exits at once, with which the kernel ends every process of the PID namespace
//! (pid_namespaces(7)). Through it comes what the browser shall open, one address a line. With `--proof box` it first tries to get out of the box, and starts nothing if it can; with `--proof uplink`
//! it makes the same attempts where they must succeed. Then it gives up what the browser, or tor, has no need of. `init audit` makes every attempt and prints what came of each (`--beside` a program whose output goes the same way), `init
//! probe` what a program in its place can see. `init hold -- PROGRAM [ARG ...]` is what an engine starts, and `init ask SOCKET WORD`
//! puts a question to a program of the same container; `init downloads`, `init send` and `init receive` hand files out and take them in; `init carry SOCKET` is what lies beyond
//! the engine, to a program of the same container. `init alone [STEP ...] -- PROGRAM [ARG ...]` is what an engine starts for somebody
//! else, as from a compose file, and `init healthy ...` how that engine knows that it works; what the browser says is then dropped (`--silent`).
//! `init hook` makes the attempts of `--proof box` in any container, for an OCI runtime that starts nothing in it where one succeeds.
//!
//! It never opens a file of the container for writing but those it is supplied with, and to try whether it can, never waits without
//! a bound on what it waits for, and never outlives its runtime.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking"))]

mod alone;
mod ask;
mod bus;
mod cage;
mod carry;
mod error;
mod files;
mod healthy;
mod hold;
mod probe;
mod proof;
mod report;
mod run;

use error::Error;
use probe::Place;
use run::Output;
use std::process::ExitCode;

/// Exit code for a wrong command line or a failure of init itself; a program's own codes are passed through.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["run", "--", program, arguments @ ..] => run::run(program, arguments, Output::Kept, None),
        ["run", "--proof", "box", "--", program, arguments @ ..] => proof::nothing_gets_out().and_then(|bus| run::run(program, arguments, Output::Kept, Some(bus))),
        ["run", "--proof", "box", "--silent", "--", program, arguments @ ..] => proof::nothing_gets_out().and_then(|bus| run::run(program, arguments, Output::Dropped, Some(bus))),
        ["run", "--proof", "uplink", "--", program, arguments @ ..] => proof::uplink_is_found().and_then(|()| run::run(program, arguments, Output::Kept, None)),
        ["hook"] => proof::hook().map(|()| 0),
        ["alone", steps @ ..] => alone::alone(steps),
        ["healthy", "listens", socket] => healthy::listens(socket).map(|()| 0),
        ["healthy", "tor", socket, cookie] => healthy::tor(socket, cookie).map(|phase| healthy::print(&phase)),
        ["hold", "--", program, arguments @ ..] => hold::hold(program, arguments),
        ["ask", socket, word] => ask::ask(socket, word).map(|()| 0),
        ["carry", socket] => carry::carry(socket).map(|()| 0),
        ["audit"] => probe::audit(Place::Unknown, "").map(|()| 0),
        ["audit", "--boxed"] => probe::audit(Place::Box, "").map(|()| 0),
        ["audit", "--beside"] => probe::audit(Place::Box, torbox_plan::BESIDE).map(|()| 0),
        ["downloads"] => files::list().map(|()| 0),
        ["send", name] => files::send(name).map(|()| 0),
        ["receive", name, length] => files::receive(name, length).map(|()| 0),
        ["attempt", name] => Ok(probe::child::main(name)),
        ["probe"] => report::print().map(|()| 0),
        _ => Err(Error::Usage),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("init: {error}{}", cause(&error));
            ExitCode::from(FAILED)
        }
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(|source| format!(": {source}")).unwrap_or_default()
}
