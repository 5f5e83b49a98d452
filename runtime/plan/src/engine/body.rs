//! The request bodies, in the names of the API (Docker Engine API 1.41).
//!
//! Every field that could weaken a container is written out, empty where it must be empty: an engine's default is never relied on.

use crate::ids::BoxPath;
use crate::plan::Access;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `POST /containers/create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the API says what each means")]
pub struct Body {
    pub image: String,
    pub hostname: String,
    pub user: String,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub tty: bool,
    pub labels: BTreeMap<String, String>,
    pub healthcheck: Health,
    pub host_config: HostConfig,
}

/// A health check, which an engine would run beside the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the API says what each means")]
pub struct Health {
    pub test: Vec<String>,
}

/// The part of the body that says what the container may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the API says what each means")]
pub struct HostConfig {
    pub network_mode: String,
    pub ipc_mode: String,
    pub pid_mode: String,
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    pub cgroupns_mode: String,
    pub userns_mode: String,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub security_opt: Vec<String>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub tmpfs: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub binds: Vec<Bind>,
    pub devices: Vec<String>,
    pub port_bindings: BTreeMap<String, String>,
    pub publish_all_ports: bool,
    pub group_add: Vec<String>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub shm_size: i64,
    pub memory: i64,
    pub memory_swap: i64,
    pub pids_limit: i64,
    pub ulimits: Vec<Ulimit>,
    pub log_config: LogConfig,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runtime: Option<String>,
}

impl HostConfig {
    /// Nothing allowed that was not asked for.
    pub(super) fn closed() -> Self {
        Self {
            ipc_mode: "private".to_owned(),
            cgroupns_mode: "private".to_owned(),
            readonly_rootfs: true,
            cap_drop: vec!["ALL".to_owned()],
            // Else the engine writes the domains of its host into the container.
            dns_search: vec![".".to_owned()],
            log_config: LogConfig { kind: "none".to_owned() },
            ..Self::default()
        }
    }
}

/// What the program writes is kept nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the API says what each means")]
pub struct LogConfig {
    #[serde(rename = "Type")]
    pub kind: String,
}

/// A resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the API says what each means")]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

/// A mount, as Docker takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the API says what each means")]
pub struct Mount {
    #[serde(rename = "Type")]
    pub kind: String,
    pub source: String,
    pub target: String,
    pub read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bind_options: Option<BindOptions>,
}

/// Options of a volume's mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the API says what each means")]
pub struct VolumeOptions {
    pub no_copy: bool,
}

/// Options of a bind mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the API says what each means")]
pub struct BindOptions {
    pub propagation: String,
}

/// A mount as `source:target:options`, the one form in which Podman takes mount flags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bind(pub String);

impl Bind {
    pub(super) fn new(source: &str, target: BoxPath, access: Access, more: &str) -> Self {
        let access = match access {
            Access::ReadWrite => "rw",
            Access::ReadOnly => "ro",
        };
        Self(format!("{source}:{target}:{access},nosuid,nodev,noexec{more}"))
    }
}

/// `POST /volumes/create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the API says what each means")]
pub struct Volume {
    pub name: String,
    pub driver: String,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}
