//! `torbox-weak SPEC FILTER ROOT SCRATCH`: runs one container from an OCI configuration that a test has weakened, on the unpacked root
//! of an image, and exits as it does. Single-threaded, as libcontainer asks for. FILTER is a seccomp profile, or empty for none.
//!
//! Only the tests start it. What it makes ends with it: mounts lie in a namespace of its own, and the container in a PID namespace
//! of which it is process 1's parent; the control group is removed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use torbox_plan::seccomp::{Instruction, Profile, compile};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("torbox-weak: {error:#}");
            ExitCode::from(99)
        }
    }
}

fn run() -> Result<u8> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [spec, filter, root, scratch] = args.as_slice() else { bail!("usage: torbox-weak SPEC FILTER ROOT SCRATCH") };
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let scratch = Path::new(scratch);
    let merged = overlay(root, scratch)?;
    let bundle = bundle(spec, &merged, scratch)?;
    let filter = if filter.is_empty() { None } else { Some(compile(&serde_json::from_slice::<Profile>(&fs::read(filter)?)?)?) };
    let id = format!("torbox-weak-{}", std::process::id());
    let state = scratch.join("state");
    let builder = ContainerBuilder::new(id, SyscallType::default()).with_root_path(&state)?.with_executor(Weak { filter }).validate_id()?;
    let mut container = builder.as_init(&bundle).with_systemd(false).with_detach(true).build()?;
    let pid = container.pid().context("the container has no process")?.as_raw();
    container.start()?;
    let ended = waitpid(Pid::from_raw(pid), None)?;
    container.delete(true)?;
    match ended {
        WaitStatus::Exited(_, code) => Ok(u8::try_from(code)?),
        other => bail!("the container's process ended by {other:?}"),
    }
}

/// A root over `root` in which places to mount on can be made.
fn overlay(root: &str, scratch: &Path) -> Result<PathBuf> {
    mount(Some("tmpfs"), scratch, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    for name in ["upper", "work", "merged", "bundle", "state"] {
        fs::create_dir(scratch.join(name))?;
    }
    let merged = scratch.join("merged");
    let options = format!("lowerdir={root},upperdir={0}/upper,workdir={0}/work", scratch.display());
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(merged)
}

fn bundle(spec: &str, merged: &Path, scratch: &Path) -> Result<PathBuf> {
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(spec)?)?;
    for mount in spec.pointer("/mounts").and_then(|mounts| mounts.as_array()).into_iter().flatten() {
        if let (Some(target), Some(source)) = (mount["destination"].as_str(), mount["source"].as_str()) {
            make_target(merged, &merged.join(target.trim_start_matches('/')), Path::new(source))?;
        }
    }
    if let Some(path) = spec.pointer_mut("/root/path") {
        *path = merged.display().to_string().into();
    }
    let bundle = scratch.join("bundle");
    fs::write(bundle.join("config.json"), serde_json::to_vec(&spec)?)?;
    Ok(bundle)
}

/// Makes a place to mount on, which the container's root may not: the image's directories are not its own. Where a link leads out of the
/// image nothing is made.
fn make_target(merged: &Path, target: &Path, source: &Path) -> Result<()> {
    let there = target.ancestors().find(|path| path.exists()).context("no root")?;
    if there == target || !there.canonicalize()?.starts_with(merged.canonicalize()?) {
        return Ok(());
    }
    if source.is_absolute() && !source.is_dir() {
        fs::create_dir_all(target.parent().context("no parent")?)?;
        return Ok(fs::write(target, "")?);
    }
    Ok(fs::create_dir_all(target)?)
}

/// Installs the filter, if there is one, then runs the program with the environment of the configuration.
#[derive(Clone)]
struct Weak {
    filter: Option<Vec<Instruction>>,
}

impl Executor for Weak {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let Some(filter) = &self.filter else { return Ok(()) };
        let filter: Vec<_> = filter.iter().map(|&Instruction { code, jt, jf, k }| libc::sock_filter { code, jt, jf, k }).collect();
        torbox_sys::install(&filter).map_err(|error| ExecutorValidationError::ArgValidationError(error.to_string()))
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let [program, arguments @ ..] = process.args().as_deref().unwrap_or_default() else { return Err(ExecutorError::InvalidArg) };
        let env = process.env().iter().flatten().filter_map(|variable| variable.split_once('='));
        Err(ExecutorError::Other(Command::new(program).args(arguments).env_clear().envs(env).exec().to_string()))
    }
}
