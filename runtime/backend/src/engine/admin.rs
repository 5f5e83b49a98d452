//! What the runtime asks in the containers of an engine: of the gate, whose sockets only they reach, by a program of its own beside it, under the same
//! profile and the same limits; and of the browser's init, by a signal.
//!
//! Either may have been taken over: an answer is bounded, and awaited for a bounded time.

use super::endpoint::{Client, bounded};
use super::error::EngineError;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use bollard::query_parameters::KillContainerOptionsBuilder;
use futures_util::StreamExt;
use std::time::Duration;
use torbox_plan::paths;

/// How long the engine and the gate may take.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 128;

/// Has the init in the container `id` make every attempt to get out, beside the browser: what they find it says itself.
pub(super) async fn audit(client: &Client, id: &str) -> Result<(), EngineError> {
    let options = KillContainerOptionsBuilder::new().signal("SIGUSR1").build();
    bounded("ask for an audit", PATIENCE, client.docker.kill_container(id, Some(options))).await
}

/// Says `word` to the gate in the container `id`; its answer, without the newline.
pub(super) async fn ask_gate(client: &Client, id: &str, word: &str) -> Result<String, EngineError> {
    let words = [paths::INIT.as_str(), "ask", paths::ADMIN.as_str(), word];
    let answer = bounded("ask the gate", PATIENCE, run(client, id, &words, MAX_ANSWER)).await?;
    Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
}

/// Runs a program in the container `id`; what it writes to its standard output, at most `most` bytes.
async fn run(client: &Client, id: &str, words: &[&str], most: usize) -> Result<Vec<u8>, bollard::errors::Error> {
    let words = words.iter().map(|&word| word.to_owned()).collect();
    let config = ExecConfig { attach_stdout: Some(true), cmd: Some(words), ..ExecConfig::default() };
    let exec = client.docker.create_exec(id, config).await?;
    let StartExecResults::Attached { mut output, input: _ } = client.docker.start_exec(&exec.id, None).await? else { return Ok(Vec::new()) };
    let mut answer = Vec::new();
    while let Some(written) = output.next().await {
        answer.extend_from_slice(&written?.into_bytes());
        answer.truncate(most);
    }
    Ok(answer)
}
