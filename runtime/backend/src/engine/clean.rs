//! Removes from an engine what carries a claim: containers, and the volumes that need not persist.
//!
//! It never touches anything that does not carry the claim.

use super::endpoint::{Client, Contact, PATIENCE, block_on, bounded, status};
use super::error::EngineError;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListVolumesOptionsBuilder, PruneContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder};
use bollard::models::ContainerSummary;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use torbox_plan::BoxName;
use torbox_plan::engine::{label, state_volume};

const PAUSE: Duration = Duration::from_millis(50);
/// How long something of a container that has ended may be busy.
const BUSY: Duration = Duration::from_secs(5);

/// Removes everything of box `name` with `claim`, but for tor's state.
///
/// # Errors
/// The first thing that could not be removed; everything else was.
pub fn clean(contact: &Contact, name: &BoxName, claim: &str) -> Result<(), EngineError> {
    block_on(async { remove(&Client::connect(contact).await?, name, claim).await })
}

pub(super) async fn remove(client: &Client, name: &BoxName, claim: &str) -> Result<(), EngineError> {
    let labels = vec![format!("{}={name}", label::BOX), format!("{}={claim}", label::CLAIM)];
    let filters = HashMap::from([("label".to_owned(), labels)]);
    let mut outcome = Ok(());
    for id in containers(client, &filters).await?.into_iter().filter_map(|container| container.id) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        outcome = outcome.and(gone(|| client.docker.remove_container(&id, Some(options.clone())), "container", &id).await);
    }
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let volumes = bounded("list volumes", PATIENCE, client.docker.list_volumes(Some(options))).await?;
    for volume in volumes.volumes.unwrap_or_default().into_iter().filter(|volume| volume.name != state_volume(name)) {
        let options = RemoveVolumeOptionsBuilder::new().force(true).build();
        outcome = outcome.and(gone(|| client.docker.remove_volume(&volume.name, Some(options.clone())), "volume", &volume.name).await);
    }
    outcome
}

/// A container that has ended is `stopped` to Podman until somebody has cleaned up behind it, which nobody does where that was killed: a word
/// that Docker's API does not have. What carries the claim and does not run is then removed without being looked at.
async fn containers(client: &Client, filters: &HashMap<String, Vec<String>>) -> Result<Vec<ContainerSummary>, EngineError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let options = ListContainersOptionsBuilder::new().all(true).filters(filters).build();
        match bounded("list containers", PATIENCE, client.docker.list_containers(Some(options))).await {
            Err(EngineError::Refused { source, .. }) if matches!(*source, bollard::errors::Error::JsonDataError { .. }) && Instant::now() < deadline => {
                let options = PruneContainersOptionsBuilder::new().filters(filters).build();
                bounded("remove containers that ended", PATIENCE, client.docker.prune_containers(Some(options))).await?;
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Something that was removed, or was not there any more. Engines refuse as long as something is busy of a container that has just ended.
async fn gone<Work: Future<Output = Result<(), bollard::errors::Error>>>(remove: impl Fn() -> Work, kind: &str, name: &str) -> Result<(), EngineError> {
    let what = format!("remove the {kind} {name}");
    let deadline = Instant::now() + BUSY;
    loop {
        match tokio::time::timeout(PATIENCE, remove()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if status(&error) == Some(404) => return Ok(()),
            Ok(Err(error)) if matches!(status(&error), Some(409 | 500)) && Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Ok(Err(source)) => return Err(EngineError::Refused { what, source: Box::new(source) }),
            Err(_) => return Err(EngineError::Slow { what, seconds: PATIENCE.as_secs() }),
        }
    }
}
