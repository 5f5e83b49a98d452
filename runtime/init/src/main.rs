//! Process 1 of the tor and browser containers.
//!
//! `init run -- PROGRAM [ARG ...]` starts one program, passes signals on, reaps whatever is left to it and exits as the
//! program did. Its standard input is a pipe that the runtime holds open and never writes to: when that closes, the
//! runtime is gone, and init exits at once, with which the kernel ends every process of the PID namespace
//! (pid_namespaces(7)). `init probe` reports what a program in its place can see and reach.
//!
//! It never opens a file of the container, never waits without a bound on what it waits for, and never outlives its runtime.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking"))]

mod probe;
mod run;

use std::process::ExitCode;

/// Exit code for a wrong command line or a failure of init itself; a program's own codes are passed through.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["run", "--", program, arguments @ ..] => run::run(program, arguments),
        ["probe"] => probe::print().map(|()| 0),
        _ => Err(run::Error::Usage),
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
