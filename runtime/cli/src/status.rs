//! `torbox status`, `torbox open`, `torbox stop` and `torbox new-identity`.

use crate::args::Format;
use crate::control::{DONE, State, ask, names};
use crate::dirs::Dirs;
use crate::error::CliError;
use crate::terminal::tell;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};
use torbox_plan::{Address, BoxName, Wish};

/// In which column `status` begins with what there is to say of a thing.
const VALUE: usize = 11;
/// How long a box may take to end.
const END: Duration = Duration::from_secs(10);

/// `torbox stop`: returns when nothing of the box is left.
pub(crate) fn stop(dirs: &Dirs, name: &BoxName) -> Result<(), CliError> {
    if ask(dirs, name, "stop")?.is_none() {
        return Err(CliError::NotRunning(name.clone()));
    }
    wait_for_lock(&dirs.boxes()?.join(format!("{name}.lock")))
}

/// `torbox new-identity`: returns when every stream has ended and those to come have circuits of their own.
pub(crate) fn new_identity(dirs: &Dirs, name: &BoxName) -> Result<(), CliError> {
    match ask(dirs, name, "new-identity")?.as_deref() {
        Some(DONE) => Ok(()),
        Some("") => Err(CliError::NoAnswer),
        Some(reason) => Err(CliError::NoNewIdentity(reason.to_owned())),
        None => Err(CliError::NotRunning(name.clone())),
    }
}

/// `torbox open`: returns when the browser has taken the address.
pub(crate) fn open(dirs: &Dirs, name: &BoxName, address: Option<&Address>) -> Result<(), CliError> {
    let answer = match ask(dirs, name, &Wish(address.cloned()).to_string()) {
        Err(CliError::NoAnswer) => Some(String::new()),
        other => other?,
    };
    match answer.as_deref() {
        Some(DONE) => Ok(()),
        Some("") => Err(CliError::NotOpened("it is still starting".to_owned())),
        Some(reason) => Err(CliError::NotOpened(reason.to_owned())),
        None => Err(CliError::NotRunning(name.clone())),
    }
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
    states.iter().for_each(|state| tell(&describe(state), VALUE - 2));
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
    let State { name, pid, bootstrap, trouble, display, leaves_open, sound, browser, anonymous, proof, browser_process: _ } = state;
    let tor = match bootstrap {
        100 if state.is_lost() => "no longer connected".to_owned(),
        100 => "connected".to_owned(),
        _ => format!("connecting, {bootstrap}%"),
    };
    let more = |text: &Option<String>| text.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    let warning = if *anonymous { "" } else { ", NOT ANONYMOUS" };
    let proof = proof.as_deref().unwrap_or("not made yet");
    let heard = sound.then(|| ("sound", "it is heard: how fast that is played tells it one sound card from another".to_owned()));
    let lines = [("browser", format!("{browser}{warning}")), ("tor", format!("{tor}{}", more(trouble))), ("display", format!("{display}{}", more(leaves_open)))];
    let lines: Vec<_> = lines.into_iter().chain(heard).chain([("proof", proof.to_owned()), ("process", pid.to_string())]).map(|(what, text)| format!("\n  {what:<width$}{text}", width = VALUE - 2)).collect();
    format!("{name}{}", lines.concat())
}
