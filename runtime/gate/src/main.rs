//! The program: reads its command line, listens, says `ready`, serves. Standard output carries that one word; all else
//! goes to standard error. It ends with 0 on SIGTERM, SIGINT or the end of its lifeline, and never restarts anything.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use torbox_gate::cage;
use torbox_gate::config::{self, ConfigError};
use torbox_gate::server::Server;

const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        print!("{}", config::USAGE);
        return ExitCode::SUCCESS;
    }
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::from(if error.is::<ConfigError>() { USAGE_ERROR } else { 1 })
        }
    }
}

fn serve(arguments: Vec<std::ffi::OsString>) -> Result<(), Box<dyn Error>> {
    let config = config::parse(arguments)?;
    let mut server = Server::start(&config)?;
    // Before `ready`: a client must never find a gate that is not yet caged.
    cage::close(&server.needs(), config.cage, |line| eprintln!("torbox-gate: {line}"))?;
    let mut out = std::io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    server.run()?;
    Ok(())
}

fn report(error: &(dyn Error + 'static)) {
    let mut text = format!("torbox-gate: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    eprintln!("{text}");
    if error.is::<ConfigError>() {
        eprint!("{}", config::USAGE);
    }
}
