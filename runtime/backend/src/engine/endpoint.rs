//! An engine's API socket, and what the engine says of itself.

use super::error::EngineError;
use super::known::{self, Version};
use crate::system;
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use torbox_plan::CgroupAccess;
use torbox_plan::engine::{Dialect, Engine, Share};

/// How long one request may take. Loading an image has a bound of its own.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the first answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Where an engine listens: an AF_UNIX socket, or a named pipe of Windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(String);

impl Endpoint {
    /// Reads an address. Engines behind TCP or SSH are not for a box: who can read their traffic sees all of it.
    ///
    /// # Errors
    /// [`EngineError::Address`].
    pub fn new(url: &str) -> Result<Self, EngineError> {
        let local = url.strip_prefix("unix://").is_some_and(|path| path.starts_with('/')) || url.starts_with("npipe://");
        if local { Ok(Self(url.to_owned())) } else { Err(EngineError::Address(url.to_owned())) }
    }

    /// Whether it is a socket that is not root's.
    fn belongs_to_a_user(&self) -> bool {
        self.0.strip_prefix("unix://").and_then(|path| system::owner(path.as_ref())).is_some_and(|owner| owner != 0)
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EngineError;
    fn try_from(url: String) -> Result<Self, EngineError> {
        Self::new(&url)
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How to reach an engine that has answered. Podman takes a third of a second to say what it is, and is asked once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The version of its API to speak: major, minor.
    api: (usize, usize),
}

/// Whose ids the engine runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// The host's own: an id inside is the same id outside.
    Host,
    /// A user's subordinate ids.
    Rootless,
    /// A range that root set aside (userns-remap).
    Remapped,
}

/// Where the engine's containers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// On this machine's kernel.
    This,
    /// On another's, which shares no socket with this one.
    Another,
}

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// How it is reached from now on.
    pub contact: Contact,
    /// Docker or Podman.
    pub dialect: Dialect,
    /// Its version.
    pub version: Version,
    /// Whose ids.
    pub users: Users,
    /// Whether limits can be set.
    pub cgroup: CgroupAccess,
    /// Whether containers have control group namespaces.
    pub cgroup_namespace: Share,
    /// OCI runtimes that it can be asked for.
    pub runtimes: Vec<String>,
    /// The one that it uses unasked.
    pub runtime: String,
    /// Its host's operating system.
    pub system: String,
    /// Whose kernel.
    pub machine: Machine,
    /// The limit on processes to ask for, where the engine does not find one by itself.
    pub processes: Option<u64>,
}

impl About {
    /// The engine as a plan sees it, with `runtime` if one is wanted.
    ///
    /// # Errors
    /// What makes it unfit for a box.
    pub fn engine(&self, runtime: Option<&str>) -> Result<Engine, EngineError> {
        known::check(self.dialect, self.version)?;
        if self.users == Users::Remapped {
            return Err(EngineError::Remapped);
        }
        let runtime = runtime.map(|wanted| self.with(wanted)).transpose()?.flatten();
        Ok(Engine { dialect: self.dialect, cgroup_namespace: self.cgroup_namespace, runtime, processes: self.processes })
    }

    /// What to ask for in order to have containers made by the OCI runtime `wanted`. Podman takes its own whatever this API asks for.
    fn with(&self, wanted: &str) -> Result<Option<String>, EngineError> {
        let wanted = wanted.to_owned();
        match self.dialect {
            _ if !self.runtimes.contains(&wanted) => Err(EngineError::NoRuntime { wanted, has: self.runtimes.join(", ") }),
            Dialect::Docker => Ok(Some(wanted)),
            Dialect::Podman if self.runtime == wanted => Ok(None),
            Dialect::Podman => Err(EngineError::OwnRuntime { wanted, own: self.runtime.clone() }),
        }
    }
}

/// Asks the engine at `endpoint` what it is.
///
/// # Errors
/// [`EngineError::Unreachable`].
pub fn about(endpoint: &Endpoint) -> Result<About, EngineError> {
    let unreachable = |source| EngineError::Unreachable { endpoint: endpoint.to_string(), source: Box::new(source) };
    block_on(async {
        let docker = docker(endpoint, API_DEFAULT_VERSION).map_err(unreachable)?;
        let answer = tokio::time::timeout(ANSWER, ask(&docker, endpoint)).await;
        answer.unwrap_or(Err(bollard::errors::Error::RequestTimeoutError)).map_err(unreachable)
    })
}

/// Runs `work` to its end on this thread.
pub(super) fn block_on<T, E: From<EngineError>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EngineError::Launcher)?;
    let outcome = runtime.block_on(work);
    // A read of standard input cannot be called off.
    runtime.shutdown_background();
    outcome
}

fn docker(endpoint: &Endpoint, api: &ClientVersion) -> Result<Docker, bollard::errors::Error> {
    Docker::connect_with_local(endpoint.as_str(), PATIENCE.as_secs(), api)
}

/// A connection to an engine.
pub(super) struct Client {
    pub(super) docker: Docker,
}

impl Client {
    /// Makes sure that the engine is there.
    pub(super) async fn connect(contact: &Contact) -> Result<Self, EngineError> {
        let unreachable = |source| EngineError::Unreachable { endpoint: contact.endpoint.to_string(), source: Box::new(source) };
        let (major_version, minor_version) = contact.api;
        let docker = docker(&contact.endpoint, &ClientVersion { major_version, minor_version }).map_err(unreachable)?;
        let answer = tokio::time::timeout(ANSWER, docker.ping()).await;
        answer.unwrap_or(Err(bollard::errors::Error::RequestTimeoutError)).map_err(unreachable)?;
        Ok(Self { docker })
    }
}

/// An engine's version of the API where it is older than bollard's: engines refuse what is newer.
fn api(told: Option<&str>) -> (usize, usize) {
    let newest = (API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version);
    let told = told.and_then(|text| text.split_once('.')).and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    told.map_or(newest, |told| newest.min(told))
}

async fn ask(docker: &Docker, endpoint: &Endpoint) -> Result<About, bollard::errors::Error> {
    let (version, info) = tokio::try_join!(docker.version(), docker.info())?;
    let podman = version.components.iter().flatten().any(|component| component.name == "Podman Engine");
    let dialect = if podman { Dialect::Podman } else { Dialect::Docker };
    let options: Vec<String> = info.security_options.unwrap_or_default();
    let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == name));
    let unified = info.cgroup_version.is_some_and(|version| version.to_string() == "2");
    let limits = info.memory_limit == Some(true) && info.pids_limit == Some(true);
    // Podman tells nobody through this API; its socket belongs to whom it runs as.
    // An engine in a virtual machine has a kernel of its own.
    let machine = if info.kernel_version.is_some() && info.kernel_version == system::kernel() { Machine::This } else { Machine::Another };
    let rootless = has("name=rootless") || has("rootless") || podman && endpoint.belongs_to_a_user();
    Ok(About {
        contact: Contact { endpoint: endpoint.clone(), api: api(version.api_version.as_deref()) },
        dialect,
        version: version.version.as_deref().and_then(Version::parse).unwrap_or(Version(0, 0, 0)),
        users: if rootless { Users::Rootless } else if has("name=userns") { Users::Remapped } else { Users::Host },
        // Without privileges the old hierarchy cannot be limited, whatever the engine says of the machine.
        cgroup: if limits && (unified || !rootless) { CgroupAccess::Delegated } else { CgroupAccess::None },
        cgroup_namespace: if podman && !unified { Share::Engine } else { Share::Own },
        runtimes: info.runtimes.unwrap_or_default().into_keys().collect::<BTreeSet<_>>().into_iter().collect(),
        runtime: info.default_runtime.unwrap_or_default(),
        system: info.operating_system.unwrap_or_default(),
        machine,
        processes: if podman && machine == Machine::This { own_processes() } else { None },
    })
}

/// More than a box needs, and no more than Podman leaves itself.
const PROCESSES: u64 = 16_384;

/// The limit on processes that Podman can be asked for on this machine.
#[must_use]
pub fn own_processes() -> Option<u64> {
    system::processes().map(|most| most.min(PROCESSES))
}

/// Bounds `work` and names it.
pub(super) async fn bounded<T>(what: impl Into<String>, patience: Duration, work: impl Future<Output = Result<T, bollard::errors::Error>>) -> Result<T, EngineError> {
    match tokio::time::timeout(patience, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(bollard::errors::Error::RequestTimeoutError)) | Err(_) => Err(EngineError::Slow { what: what.into(), seconds: patience.as_secs() }),
        Ok(Err(source)) => Err(EngineError::Refused { what: what.into(), source: Box::new(source) }),
    }
}

/// The status of an answer that refuses.
pub(super) fn status(error: &bollard::errors::Error) -> Option<u16> {
    if let bollard::errors::Error::DockerResponseServerError { status_code, .. } = error { Some(*status_code) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(dialect: Dialect) -> About {
        About {
            contact: Contact { endpoint: Endpoint::new("unix:///x").unwrap(), api: (1, 41) },
            dialect,
            version: Version(28, 3, 3),
            users: Users::Host,
            cgroup: CgroupAccess::None,
            cgroup_namespace: Share::Own,
            runtimes: ["crun", "runc", "runsc"].map(str::to_owned).into(),
            runtime: "runc".to_owned(),
            system: String::new(),
            machine: Machine::This,
            processes: None,
        }
    }

    #[test]
    fn a_runtime_is_asked_for_where_that_is_heeded_and_refused_by_name_elsewhere() {
        let of = |dialect, wanted| about(dialect).engine(wanted).map(|engine| engine.runtime).map_err(|error| error.to_string());
        assert_eq!(of(Dialect::Docker, Some("runsc")), Ok(Some("runsc".to_owned())));
        assert_eq!((of(Dialect::Docker, None), of(Dialect::Podman, None)), (Ok(None), Ok(None)));
        assert_eq!(of(Dialect::Podman, Some("runc")), Ok(None), "it is the one that Podman takes");
        assert_eq!(of(Dialect::Podman, Some("crun")).unwrap_err(), "through this API Podman makes every container with \"runc\", whatever it is asked for: \"crun\" would be ignored");
        for dialect in [Dialect::Docker, Dialect::Podman] {
            assert_eq!(of(dialect, Some("kata")).unwrap_err(), "the engine knows no OCI runtime \"kata\"; it has crun, runc, runsc");
        }
    }

    #[test]
    fn an_older_api_is_spoken_where_the_engine_has_no_newer() {
        let newest = (API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version);
        for (told, spoken) in [(Some("1.41"), (1, 41)), (Some("1.999"), newest), (Some("x"), newest), (None, newest)] {
            assert_eq!(api(told), spoken, "{told:?}");
        }
    }
}
