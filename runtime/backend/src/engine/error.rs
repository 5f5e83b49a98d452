//! What can go wrong between torbox and an engine.

use crate::texts;
use torbox_plan::engine::Unsupported;
use torbox_plan::{Mismatch, PlanError, Role};

/// A box that an engine does not give.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each means")]
pub enum EngineError {
    #[error("{0:?} is no engine's address: use unix:///path/to/socket or, on Windows, npipe:////./pipe/name")]
    Address(String),
    #[error("the engine at {endpoint} does not answer")]
    Unreachable { endpoint: String, source: Box<bollard::errors::Error> },
    #[error("the engine did not {what}")]
    Refused { what: String, source: Box<bollard::errors::Error> },
    #[error("the engine did not {what} within {seconds} s")]
    Slow { what: String, seconds: u64 },
    #[error("{name} {version} has a known hole: {reason}")]
    KnownHole { name: &'static str, version: String, reason: &'static str, good: &'static str },
    #[error("{name} {version} is too old")]
    TooOld { name: &'static str, version: String, good: &'static str },
    #[error("the engine maps its users (userns-remap), and gives volumes to ids that it does not tell")]
    Remapped,
    #[error("the engine knows no OCI runtime {wanted:?}; it has {has}")]
    NoRuntime { wanted: String, has: String },
    #[error("through this API Podman makes every container with {own:?}, whatever it is asked for: {wanted:?} would be ignored")]
    OwnRuntime { wanted: String, own: String },
    #[error("the engine already has a {kind} named {name}, which is not this box's")]
    Foreign { kind: &'static str, name: String },
    #[error("the engine loaded {found} where {wanted} was sent")]
    WrongImage { wanted: String, found: String },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    #[error("the engine does not see the display's socket: it runs in a machine of its own, or in a container")]
    DisplayElsewhere { source: Option<Box<bollard::errors::Error>> },
    #[error("the request for the {0} container is not what the API takes")]
    Request(Role, #[source] serde_json::Error),
    #[error("the {role} container is not what was planned: {}", list(differences))]
    Mismatch { role: Role, differences: Vec<Mismatch> },
    #[error("the {role} container did not report what it is; it said {said:?}")]
    NoReport { role: Role, said: String },
    #[error("the {0} container cannot be talked to")]
    Talk(Role, #[source] std::io::Error),
    #[error("the {0} container does not exist at this step")]
    NoContainer(Role),
    #[error("{0} ended with code {1} while the box was running")]
    Lost(Role, u8),
    #[error("somebody removed the {0} container from the engine while the box was running")]
    Removed(Role),
    #[error("the engine is gone: it no longer tells of {role}'s container")]
    EngineGone { role: Role, source: Box<bollard::errors::Error> },
    #[error("{0}; the browser was not started")]
    Escaped(String),
    #[error("the browser's container did not prove within {0} s that it holds")]
    Unproved(u64),
    #[error("not ready within {seconds} s: {}", texts::names(roles))]
    Silent { roles: Vec<Role>, seconds: u64 },
    #[error("the gate answered {0:?}")]
    Gate(String),
    #[error("the launch was called off")]
    CalledOff,
    #[error("cannot talk to the launching process")]
    Launcher(#[source] std::io::Error),
}

fn list(differences: &[Mismatch]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl EngineError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreachable { .. } => "is the engine running, and may you use its socket? --engine names another",
            Self::KnownHole { good, .. } | Self::TooOld { good, .. } => return Some(format!("{good} is the first good version; --backend native needs no engine")),
            Self::Remapped => "use an engine without userns-remap, a rootless one, or --backend native",
            Self::NoRuntime { .. } => "configure the runtime in the engine first, or leave --oci-runtime out",
            Self::OwnRuntime { wanted, .. } => return Some(format!("to make it Podman's own: runtime = {wanted:?} below [engine] in containers.conf(5), then start the service again")),
            Self::Foreign { .. } => "choose another name for the box with --name; what is not torbox's own is never touched",
            Self::DisplayElsewhere { .. } => "--display served shows the box as a page instead; torbox probe and torbox audit need no display",
            Self::Mismatch { .. } => "nothing was started; this engine does not give, or does not tell of, what the box needs",
            Self::Slow { .. } => "is the engine overloaded or stuck? torbox leaves nothing behind once it answers again",
            Self::Escaped(_) => "please report this: `torbox audit` shows all that was tried",
            Self::Lost(role, _) => return texts::hint_of_lost(*role).map(str::to_owned),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
