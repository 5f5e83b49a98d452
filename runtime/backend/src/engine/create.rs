//! Volumes and containers of a box in the engine: made, attached to, compared with the engine's own account.

use super::Launch;
use super::endpoint::{Client, PATIENCE, bounded, status};
use super::error::EngineError;
use bollard::container::LogOutput;
use bollard::models::{ContainerCreateBody, VolumeCreateRequest};
use bollard::query_parameters::{AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::Bytes;
use futures_util::Stream;
use std::collections::BTreeMap;
use std::pin::Pin;
use tokio::io::AsyncWrite;
use torbox_plan::engine::{Body, Dialect, Placed, Policy, Rendered, Volume, container_name, label, policy_volume, profile_json, read, render};
use torbox_plan::{Plan, Role};

/// Where the profiles' volume is mounted in the container that is never started.
const POLICY: &str = "/run/torbox";

/// A container whose init waits.
pub(super) struct Created {
    /// Its id.
    pub(super) id: String,
    /// Its standard input: the lifeline.
    pub(super) input: Input,
    /// Its standard output and error.
    pub(super) output: Output,
}

/// What a container reads.
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;
/// What a container writes.
pub(super) type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// Makes the box's volumes and renders its requests.
pub(super) async fn prepare(client: &Client, launch: &Launch, plan: &Plan) -> Result<Rendered, EngineError> {
    let mut placed = Placed { images: launch.images.clone(), policy: Policy::Inline, claim: launch.claim.clone() };
    if launch.engine.dialect == Dialect::Podman {
        placed.policy = Policy::Directory(place_policy(client, launch, plan).await?);
    }
    let rendered = render(plan, &launch.engine, &placed)?;
    for volume in &rendered.volumes {
        make_volume(client, volume, &launch.claim).await?;
    }
    Ok(rendered)
}

/// Makes `volume`, or takes the one of an earlier run; where it lies on the engine's host.
async fn make_volume(client: &Client, volume: &Volume, claim: &str) -> Result<String, EngineError> {
    let Volume { name, driver, driver_opts, labels } = volume;
    let request = VolumeCreateRequest {
        name: Some(name.clone()),
        driver: Some(driver.clone()),
        driver_opts: Some(driver_opts.clone().into_iter().collect()),
        labels: Some(labels.clone().into_iter().collect()),
        ..VolumeCreateRequest::default()
    };
    if let Ok(found) = client.docker.inspect_volume(name).await {
        return if found.labels.get(label::CLAIM).is_some_and(|of| of == claim) { Ok(found.mountpoint) } else { Err(EngineError::Foreign { kind: "volume", name: name.clone() }) };
    }
    let made = bounded(format!("make the volume {name}"), PATIENCE, client.docker.create_volume(request)).await?;
    // Between the look and the making another may have made it.
    if made.labels.get(label::CLAIM).is_some_and(|of| of == claim) { Ok(made.mountpoint) } else { Err(EngineError::Foreign { kind: "volume", name: name.clone() }) }
}

/// Podman reads seccomp profiles from files of its own host. They get there through a volume of a container that is never started.
async fn place_policy(client: &Client, launch: &Launch, plan: &Plan) -> Result<String, EngineError> {
    let labels = BTreeMap::from([(label::BOX.to_owned(), plan.name.to_string()), (label::CLAIM.to_owned(), launch.claim.clone())]);
    let volume = Volume { name: policy_volume(&plan.name), driver: "local".to_owned(), driver_opts: BTreeMap::new(), labels: labels.clone() };
    let directory = make_volume(client, &volume, &launch.claim).await?;
    let image = launch.images.values().next().cloned();
    let host_config = bollard::models::HostConfig {
        network_mode: Some("none".to_owned()),
        binds: Some(vec![format!("{}:{POLICY}", volume.name)]),
        ..bollard::models::HostConfig::default()
    };
    let body = ContainerCreateBody { image, labels: Some(labels.into_iter().collect()), host_config: Some(host_config), ..ContainerCreateBody::default() };
    create_named(client, &volume.name, body).await?;
    let options = UploadToContainerOptionsBuilder::new().path(POLICY).build();
    let archive = bollard::body_full(Bytes::from(profiles(plan)?));
    bounded("take the seccomp profiles", PATIENCE, client.docker.upload_to_container(&volume.name, Some(options), archive)).await?;
    Ok(directory)
}

/// A tar archive (POSIX ustar) with one file a role.
fn profiles(plan: &Plan) -> Result<Vec<u8>, EngineError> {
    let mut archive = tar::Builder::new(Vec::new());
    for container in &plan.containers {
        let profile = profile_json(container)?;
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(profile.len() as u64);
        archive.append_data(&mut header, format!("{}.json", container.role), profile.as_bytes()).map_err(EngineError::Launcher)?;
    }
    archive.into_inner().map_err(EngineError::Launcher)
}

async fn create_named(client: &Client, name: &str, body: ContainerCreateBody) -> Result<String, EngineError> {
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    let created = tokio::time::timeout(PATIENCE, client.docker.create_container(Some(options), body)).await;
    match created.map_err(|_| EngineError::Slow { what: format!("create {name}"), seconds: PATIENCE.as_secs() })? {
        Ok(created) => Ok(created.id),
        Err(error) if taken(&error) => Err(EngineError::Foreign { kind: "container", name: name.to_owned() }),
        Err(source) => Err(EngineError::Refused { what: format!("create {name}"), source: Box::new(source) }),
    }
}

/// Docker answers 409 where a name is taken, older Podmans 500.
fn taken(error: &bollard::errors::Error) -> bool {
    status(error) == Some(409) || status(error).is_some() && error.to_string().contains("already in use")
}

/// Creates the container of `role`, compares the engine's account of it with the request, and starts its init, which waits.
pub(super) async fn create(client: &Client, launch: &Launch, role: Role, body: &Body) -> Result<Created, EngineError> {
    let name = container_name(&launch.intent.name, role);
    let request = serde_json::to_value(body).and_then(serde_json::from_value::<ContainerCreateBody>);
    let id = create_named(client, &name, request.map_err(|error| EngineError::Request(role, error))?).await.map_err(|error| unseen(role, error))?;
    let told = bounded(format!("tell of the {role} container"), PATIENCE, client.docker.inspect_container(&id, None)).await?;
    let told = serde_json::to_value(told).map_err(|error| EngineError::Request(role, error))?;
    let differences = read::inspected(&told, body, launch.engine.dialect);
    if !differences.is_empty() {
        return Err(EngineError::Mismatch { role, differences });
    }
    begin(client, role, &id).await.map_err(|error| unseen(role, error)).map(|(input, output)| Created { id, input, output })
}

async fn begin(client: &Client, role: Role, id: &str) -> Result<(Input, Output), EngineError> {
    let options = AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stderr(true).stream(true).build();
    let attached = bounded(format!("attach to the {role} container"), PATIENCE, client.docker.attach_container(id, Some(options))).await?;
    bounded(format!("start the {role} container"), PATIENCE, client.docker.start_container(id, None)).await?;
    Ok((attached.input, attached.output))
}

/// What Docker and Podman say of a path that their host does not have.
const MISSING: [&str; 2] = ["bind source path does not exist", "no such file or directory"];

/// The display's container alone names a path of the engine's host.
fn unseen(role: Role, error: EngineError) -> EngineError {
    match error {
        EngineError::Refused { source, .. } if role == Role::Display && MISSING.iter().any(|text| source.to_string().contains(text)) => {
            EngineError::DisplayElsewhere { source: Some(source) }
        }
        other => other,
    }
}
