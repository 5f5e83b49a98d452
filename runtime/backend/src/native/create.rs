//! Creating, starting and deleting one container through libcontainer.
//!
//! The seccomp filter is installed by libcontainer's child while the container is created, after its capabilities are
//! gone and before its program can run, so that a created container already has everything that will be verified.

use super::confine::install;
use super::enclose::{BUNDLES, CONTAINERS, Enclosed};
use libcontainer::container::Container as Handle;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::unistd::{Pid, pipe2};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use torbox_plan::oci::{self, RenderError};
use torbox_plan::seccomp::{self, Instruction};
use torbox_plan::{BoxName, Container, Role};

/// A container that could not be created, started or deleted.
#[derive(Debug, thiserror::Error)]
pub(super) enum CreateError {
    /// The plan cannot be expressed.
    #[error("cannot render the {role} container")]
    Render {
        /// Which.
        role: Role,
        /// Why not.
        #[source]
        source: RenderError,
    },
    /// The bundle could not be written.
    #[error("cannot write the configuration of the {role} container")]
    Bundle {
        /// Which.
        role: Role,
        /// Why not.
        #[source]
        source: OciSpecError,
    },
    /// A pipe or directory.
    #[error("cannot prepare the {role} container")]
    Prepare {
        /// Which.
        role: Role,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// libcontainer refused.
    #[error("cannot {what} the {role} container")]
    Runtime {
        /// `create`, `start` or `delete`.
        what: &'static str,
        /// Which.
        role: Role,
        /// Why not.
        #[source]
        source: Box<LibcontainerError>,
    },
}

/// A container that exists.
pub(super) struct Created {
    /// What it is for.
    pub(super) role: Role,
    /// Its process 1, as this process sees it.
    pub(super) pid: Pid,
    /// Its standard output and error.
    pub(super) output: File,
    /// Held open for as long as it shall live, and never read. The browser's init reads wishes from it; never waited for.
    lifeline: File,
    handle: Handle,
}

/// Creates `container`, stopped before its program.
pub(super) fn create(name: &BoxName, container: &Container) -> Result<Created, CreateError> {
    let role = container.role;
    let spec = oci::render(container, &Enclosed).map_err(|source| CreateError::Render { role, source })?;
    let bundle = Path::new(BUNDLES).join(role.name());
    fs::create_dir_all(&bundle).map_err(|source| CreateError::Prepare { role, source })?;
    spec.save(bundle.join("config.json")).map_err(|source| CreateError::Bundle { role, source })?;
    let filter = seccomp::profile_of(container).and_then(|profile| seccomp::compile(&profile)).map_err(|error| CreateError::Render { role, source: error.into() })?;
    let (stdin, lifeline) = channel(role)?;
    fcntl(&lifeline, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| CreateError::Prepare { role, source: errno.into() })?;
    let (output, stdout) = channel(role)?;
    let stderr = stdout.try_clone().map_err(|source| CreateError::Prepare { role, source })?;
    let failed = |source| CreateError::Runtime { what: "create", role, source: Box::new(source) };
    let builder = ContainerBuilder::new(format!("torbox-{name}-{role}"), SyscallType::default())
        .with_root_path(CONTAINERS)
        .map_err(failed)?
        .with_executor(Filtered { filter })
        .with_stdin(stdin)
        .with_stdout(stdout)
        .with_stderr(stderr)
        .validate_id()
        .map_err(failed)?;
    let handle = builder.as_init(&bundle).with_systemd(false).with_detach(true).build().map_err(failed)?;
    let pid = handle.pid().map(|pid| Pid::from_raw(pid.as_raw()));
    let pid = pid.ok_or_else(|| CreateError::Prepare { role, source: io::Error::other("the container has no process") })?;
    Ok(Created { role, pid, output: File::from(output), lifeline: File::from(lifeline), handle })
}

fn channel(role: Role) -> Result<(OwnedFd, OwnedFd), CreateError> {
    pipe2(OFlag::O_CLOEXEC).map_err(|errno| CreateError::Prepare { role, source: errno.into() })
}

impl Created {
    /// Lets the program run.
    pub(super) fn start(&mut self) -> Result<(), CreateError> {
        self.handle.start().map_err(|source| CreateError::Runtime { what: "start", role: self.role, source: Box::new(source) })
    }

    /// Tells what runs in it a line.
    pub(super) fn tell(&mut self, line: &str) -> io::Result<()> {
        self.lifeline.write_all(format!("{line}\n").as_bytes())
    }

    /// Kills whatever is left of it and removes its state and control group.
    pub(super) fn delete(mut self) -> Result<(), CreateError> {
        self.handle.delete(true).map_err(|source| CreateError::Runtime { what: "delete", role: self.role, source: Box::new(source) })
    }
}

/// Installs the filter, then runs the program with exactly the environment of the plan.
#[derive(Clone)]
struct Filtered {
    filter: Vec<Instruction>,
}

impl Executor for Filtered {
    /// Called in the container when everything else is set up, before its creation is reported.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        install(&self.filter).map_err(|error| ExecutorValidationError::ArgValidationError(format!("seccomp: {error}")))
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let [program, arguments @ ..] = process.args().as_deref().unwrap_or_default() else { return Err(ExecutorError::InvalidArg) };
        let env = process.env().iter().flatten().filter_map(|variable| variable.split_once('='));
        let error = Command::new(program).args(arguments).env_clear().envs(env).exec();
        Err(ExecutorError::Other(format!("{program}: {error}")))
    }
}
