//! Network namespaces with names (ip-netns(8)), joined by nothing but the cable laid here.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process;

/// A named network namespace; the name, not the thing: dropping it removes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace of that name, whether it exists or not.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Its name, as in `ip netns list`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that it is bound to.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Makes it, with its loopback up.
    pub fn create(&self) -> Result<()> {
        ip(&["netns", "add", &self.name])?;
        self.ip(&["link", "set", "lo", "up"])
    }

    /// Ends every process in it and removes it; nothing where it does not exist.
    pub fn remove(&self) -> Result<()> {
        if !self.path().exists() {
            return Ok(());
        }
        // Forks may slip in between listing and killing, so look again.
        for _ in 0..5 {
            let inside = process::in_network(&self.path()).unwrap_or_default();
            if inside.is_empty() {
                break;
            }
            process::end(&inside, Duration::from_secs(3))?;
        }
        ip(&["netns", "del", &self.name])
    }

    /// Adds an address to its loopback.
    pub fn add_local(&self, address: Ipv4Addr) -> Result<()> {
        self.ip(&["addr", "replace", &format!("{address}/32"), "dev", "lo"])
    }

    /// Lays a cable from here to `other`; `other` sends everything it does not know through it.
    pub fn join(&self, here: Ipv4Addr, other: &Self, there: Ipv4Addr) -> Result<()> {
        self.ip(&["link", "add", "tbx-net", "type", "veth", "peer", "name", "tbx-client", "netns", &other.name])?;
        for (namespace, device, address) in [(self, "tbx-net", here), (other, "tbx-client", there)] {
            namespace.ip(&["addr", "add", &format!("{address}/30"), "dev", device])?;
            namespace.ip(&["link", "set", device, "up"])?;
        }
        other.ip(&["route", "add", "default", "via", &here.to_string()])
    }

    /// A command that runs `program` in here. It execs, so the process started is the program itself; unlike `ip netns exec`
    /// it leaves the mounts alone, so that /sys/fs/cgroup stays what it was.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Moves the calling thread, and what it starts, in here.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(self.path()).with_context(|| format!("no network namespace {}", self.name))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context("setns")
    }

    /// Calls `work` from a thread in here.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let thread = || {
            self.enter()?;
            work()
        };
        std::thread::scope(|scope| scope.spawn(thread).join()).map_err(|_panic| anyhow!("the thread in {} panicked", self.name))?
    }

    fn ip(&self, words: &[&str]) -> Result<()> {
        ip(&[&["-netns", &self.name], words].concat())
    }
}

fn ip(words: &[&str]) -> Result<()> {
    process::output(Command::new("ip").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(words)).map(drop)
}
