//! `torbox status` and `torbox stop`.

use crate::args::Format;
use crate::control::{State, ask, names};
use crate::dirs::Dirs;
use crate::error::CliError;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};
use torbox_plan::BoxName;

/// How long a box may take to end.
const END: Duration = Duration::from_secs(10);

/// `torbox stop`: returns when nothing of the box is left.
pub(crate) fn stop(dirs: &Dirs, name: &BoxName) -> Result<(), CliError> {
    if ask(dirs, name, "stop")?.is_none() {
        return Err(CliError::NotRunning(name.clone()));
    }
    wait_for_lock(&dirs.boxes()?.join(format!("{name}.lock")))
}

/// A running box holds its lock to the very end.
fn wait_for_lock(path: &Path) -> Result<(), CliError> {
    let failed = |source| CliError::Path { path: path.to_owned(), source };
    let lock = File::open(path).map_err(failed)?;
    let deadline = Instant::now() + END;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => return Err(CliError::NoAnswer),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// `torbox status`.
pub(crate) fn status(dirs: &Dirs, format: &Format) -> Result<(), CliError> {
    let states = running(dirs)?;
    if format.json {
        let text = serde_json::to_string(&states).map_err(|error| CliError::System("print the status", error.into()))?;
        println!("{text}");
        return Ok(());
    }
    if states.is_empty() {
        println!("no box is running");
    }
    states.iter().for_each(|state| println!("{}", describe(state)));
    Ok(())
}

fn running(dirs: &Dirs) -> Result<Vec<State>, CliError> {
    let mut states = Vec::new();
    for name in names(dirs)? {
        if let Some(answer) = ask(dirs, &name, "status")? {
            states.push(serde_json::from_str(&answer).map_err(|_| CliError::NoAnswer)?);
        }
    }
    states.sort_by(|a: &State, b: &State| a.name.cmp(&b.name));
    Ok(states)
}

fn describe(state: &State) -> String {
    let State { name, pid, bootstrap, display, browser, anonymous } = state;
    let tor = if *bootstrap == 100 { "connected".to_owned() } else { format!("connecting, {bootstrap}%") };
    let warning = if *anonymous { "" } else { "  NOT ANONYMOUS" };
    format!("{name}  process {pid}  tor {tor}  display {display}  {browser}{warning}")
}
