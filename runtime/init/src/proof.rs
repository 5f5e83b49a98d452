//! The proof before each start: the box holds, and the attempts that say so can see a way out where there is one.
//!
//! Its result is one line on standard output, the first that comes from the container: no program has run in it before. Between the
//! attempts and that line init closes its cage: the attempts must fail without it.

use crate::bus::Bus;
use crate::cage;
use crate::error::Error;
use crate::probe;
use std::io::Write;
use std::time::Instant;
use torbox_plan::{Proof, Role};

/// Tries every way out. Fails if one is open. The bus of the browser is made once nothing more is tried.
pub(crate) fn nothing_gets_out() -> Result<Bus, Error> {
    let began = Instant::now();
    let (ways, attempts) = probe::escapes();
    let micros = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
    if !ways.is_empty() {
        return Err(Error::Escaped(ways));
    }
    let bus = Bus::start()?;
    let landlock = cage::close(Role::Browser)?;
    say(Proof::Held { attempts: u32::try_from(attempts).unwrap_or(u32::MAX), micros, landlock })?;
    Ok(bus)
}

/// The positive control, in tor's container: the same attempts find its sockets, and its network unless the machine has none.
pub(crate) fn uplink_is_found() -> Result<(), Error> {
    let found = probe::uplink();
    if !found.socket {
        return Err(Error::Blind);
    }
    cage::close(Role::Tor)?;
    say(if found.network { Proof::Uplink } else { Proof::NoNetwork })
}

/// The same attempts in any container, as the hook `startContainer` of the OCI runtime specification: a runtime runs it in the container,
/// under all that it puts on the program, and starts no program where it fails.
pub(crate) fn hook() -> Result<(), Error> {
    // What the runtime says of the container is read, as it may wait for that, and not believed: the container is looked at.
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).map_err(|error| Error::Ask("standard input".to_owned(), error))?;
    let (ways, _) = probe::escapes();
    if ways.is_empty() { Ok(()) } else { Err(Error::Escaped(ways)) }
}

fn say(proof: Proof) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{proof}").map_err(Error::Report)
}
