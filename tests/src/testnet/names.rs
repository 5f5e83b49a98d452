//! What lies on the way to a bridge that is found by names: somebody who knows them (dnsmasq(8)), and somebody who answers over TLS in
//! the place of the first one and has no certificate that anybody signed (openssl-req(1), socat(1)).

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::config::{self, Layout};
use super::daemon::stop;
use super::netns::Namespace;
use crate::process;

/// They run; dropping it ends them.
#[derive(Debug)]
pub struct Names {
    children: Vec<Child>,
}

impl Names {
    /// Starts both in `place`. The impostor has the name and the address of the first of `known`, and passes on what it is told to `passed_to`.
    pub fn start(layout: &Layout, place: &Namespace, known: &[(&str, Ipv4Addr)], passed_to: (Ipv4Addr, u16)) -> Result<Self> {
        for at in known.iter().map(|(_, at)| *at).chain([config::NAMES.0]) {
            place.add_local(at)?;
        }
        let mut started = Self { children: Vec::new() };
        let mut names = place.command("dnsmasq");
        names.args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root"]);
        names.arg(format!("--listen-address={}", config::NAMES.0));
        for (name, at) in known {
            names.arg(format!("--address=/{name}/{at}"));
        }
        started.children.push(spawn(names, &layout.file("names.out"))?);
        if let Some((name, at)) = known.first() {
            started.children.push(spawn(impostor(layout, place, name, *at, passed_to)?, &layout.file("impostor.out"))?);
        }
        fs::write(layout.file(ASKING), format!("search torbox.test\nnameserver {}\n", config::NAMES.0))?;
        Ok(started)
    }
}

/// The resolv.conf(5) of who asks them.
pub(super) const ASKING: &str = "names.resolv.conf";

/// `command` on a machine that looks names up as `file` says: with it in the place of /etc/resolv.conf.
#[must_use]
pub fn asking(file: &Path, command: &Command) -> Command {
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "--propagation", "slave", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]).arg(file).arg(command.get_program()).args(command.get_args());
    wrapped.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").process_group(0).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}

fn impostor(layout: &Layout, place: &Namespace, name: &str, at: Ipv4Addr, (address, port): (Ipv4Addr, u16)) -> Result<Command> {
    let (key, certificate) = (layout.file("impostor.key"), layout.file("impostor.crt"));
    let mut made = Command::new("openssl");
    made.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", &format!("/CN={name}")]);
    made.args(["-addext", &format!("subjectAltName=DNS:{name}")]).arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    process::output(&mut made)?;
    let mut command = place.command("socat");
    let listen = format!("OPENSSL-LISTEN:{},bind={at},fork,reuseaddr,verify=0,key={},cert={}", config::IMPOSTOR_PORT, key.display(), certificate.display());
    command.arg(listen).arg(format!("TCP:{address}:{port}"));
    Ok(command)
}

pub(super) fn spawn(mut command: Command, out: &Path) -> Result<Child> {
    let out = File::create(out).with_context(|| format!("cannot make {}", out.display()))?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    command.spawn().with_context(|| format!("cannot run {command:?}"))
}

impl Drop for Names {
    fn drop(&mut self) {
        self.children.iter_mut().for_each(stop);
    }
}
