//! The program: reads its command line, listens, says `ready`, serves. Standard output carries that word and what the user takes out; all else
//! goes to standard error. It ends with 0 on SIGTERM, SIGINT or the end of its lifeline, and never restarts anything.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use torbox_display::config::{self, ConfigError};
use torbox_display::server::Server;
use torbox_gate::cage;

const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    match serve(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("torbox-display: {}", chain(error.as_ref()));
            ExitCode::from(if error.is::<ConfigError>() { USAGE_ERROR } else { 1 })
        }
    }
}

fn serve(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<(), Box<dyn Error>> {
    let config = config::parse(arguments)?;
    let mut server = Server::start(&config)?;
    // Before `ready`: a client must never find a display that is not yet caged.
    cage::close(&server.needs(), config.cage, |line| eprintln!("torbox-display: {line}"))?;
    let mut out = std::io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    server.run()?;
    Ok(())
}

fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
