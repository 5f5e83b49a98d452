//! Carries what a page and the display of a box say to each other, where the box is in an engine: through the engine's API, by a program of init's beside the
//! display (`init carry`), because the engine's host may be another machine's. Nothing of it is read here.

use super::create::Output;
use super::endpoint::{Client, PATIENCE, bounded};
use super::error::EngineError;
use crate::system;
use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::StreamExt;
use std::io::{self, ErrorKind};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use torbox_plan::{Handed, Role, paths};

/// Bytes that are read at once of what the page says.
const READ: usize = 1 << 14;
/// What init may say before it carries.
const MAX_SAID: usize = 1 << 10;

/// Has the container `id` of the display find at [`paths::CARRIED`] what listens at `viewer` on this machine. It ends with either.
pub(super) async fn carry(client: &Client, id: &str, viewer: &Path) -> Result<(), EngineError> {
    let words = [paths::INIT.as_str(), "carry", paths::CARRIED.as_str()].map(str::to_owned).to_vec();
    let config = ExecConfig { attach_stdin: Some(true), attach_stdout: Some(true), attach_stderr: Some(true), cmd: Some(words), ..ExecConfig::default() };
    let what = "run init in the display's container";
    let exec = bounded(what, PATIENCE, client.docker.create_exec(id, config)).await?;
    let failed = |source| EngineError::Talk(Role::Display, source);
    let StartExecResults::Attached { mut output, mut input } = bounded(what, PATIENCE, client.docker.start_exec(&exec.id, None)).await? else {
        return Err(failed(ErrorKind::NotConnected.into()));
    };
    tokio::time::timeout(PATIENCE, ready(&mut output)).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map_err(failed)?;
    let (mut page, mut told) = system::connect(viewer).await.map_err(failed)?;
    tokio::spawn(async move {
        while let Some(Ok(LogOutput::StdOut { message })) = output.next().await {
            if told.write_all(&message).await.is_err() {
                break;
            }
        }
        // The page's server ends with it.
        told.shutdown().await.ok();
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; READ];
        while let Ok(count @ 1..) = page.read(&mut buffer).await {
            let said = buffer.get(..count).unwrap_or_default();
            if input.write_all(said).await.is_err() || input.flush().await.is_err() {
                break;
            }
        }
        input.shutdown().await.ok();
    });
    Ok(())
}

/// Waits until init listens.
async fn ready(output: &mut Output) -> io::Result<()> {
    let (mut said, mut complaint) = (Vec::new(), Vec::new());
    while let Some(written) = output.next().await {
        match written.map_err(io::Error::other)? {
            LogOutput::StdOut { message } => said.extend(message),
            other => complaint.extend(other.into_bytes()),
        }
        if said == format!("{}\n", Handed::READY).as_bytes() {
            return Ok(());
        }
        if said.len() + complaint.len() > MAX_SAID {
            break;
        }
    }
    Err(io::Error::other(String::from_utf8_lossy(&complaint).trim_end().to_owned()))
}
