//! What a Snowflake has beside its bridge: a broker, a STUN server and one proxy, and names for the first two. The proxy is Snowflake's
//! own, the broker and the STUN server are `tests/snowflake`; `make out/snowflake` builds all of it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::config::{self, Layout};
use super::daemon::{Account, stop};
use super::netns::Namespace;
use crate::boxed::kept_dir;
use crate::process;

/// The programs, as they were built.
pub fn built() -> Result<PathBuf> {
    Ok(kept_dir()?.join("snowflake"))
}

/// They run; dropping it ends them.
#[derive(Debug)]
pub struct Snowflake {
    children: Vec<Child>,
}

impl Snowflake {
    /// Starts all but the bridge in `place`.
    pub fn start(layout: &Layout, account: Account, place: &Namespace) -> Result<Self> {
        let programs = copied(layout)?;
        let (broker, stun) = (address(config::BROKER), address(config::STUN));
        for (at, _) in [config::BROKER, config::STUN, config::NAMES] {
            place.add_local(at)?;
        }
        let mut started = Self { children: Vec::new() };
        let mut start = |name: &str, program: &Path, words: &[&str]| -> Result<()> {
            let mut command = account.command(place.command("/usr/bin/setpriv"), &program.display().to_string());
            command.args(words);
            started.children.push(spawn(command, &layout.file(&format!("{name}.out")))?);
            Ok(())
        };
        let ends = programs.join("ends");
        start("broker", &ends, &["broker", &broker])?;
        start("stun", &ends, &["stun", &stun])?;
        let (ask, relay) = (format!("http://{broker}/"), format!("ws://{}/", address(config::SNOWFLAKE)));
        let words = ["-broker", &ask, "-relay", &relay, "-stun", &format!("stun:{stun}"), "-keep-local-addresses", "-nat-retest-interval", "0s", "-verbose", "-unsafe-logging"];
        start("proxy", &programs.join("proxy"), &words)?;
        let mut names = place.command("dnsmasq");
        names.args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root"]);
        names.arg(format!("--listen-address={}", config::NAMES.0));
        for (name, (at, _)) in [(config::BROKER_NAME, config::BROKER), (config::STUN_NAME, config::STUN)] {
            names.arg(format!("--address=/{name}/{at}"));
        }
        started.children.push(spawn(names, &layout.file("names.out"))?);
        started.children.push(spawn(impostor(layout, place)?, &layout.file("impostor.out"))?);
        fs::write(layout.file("snowflake.resolv.conf"), format!("search torbox.test\nnameserver {}\n", config::NAMES.0))?;
        Ok(started)
    }
}

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

/// Who has the broker's name and no certificate that anybody signed: openssl-req(1), socat(1).
fn impostor(layout: &Layout, place: &Namespace) -> Result<Command> {
    let (key, certificate) = (layout.file("impostor.key"), layout.file("impostor.crt"));
    let mut made = Command::new("openssl");
    made.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", &format!("/CN={}", config::BROKER_NAME)]);
    made.args(["-addext", &format!("subjectAltName=DNS:{}", config::BROKER_NAME)]).arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    process::output(&mut made)?;
    let mut command = place.command("socat");
    let listen = format!("OPENSSL-LISTEN:{},bind={},fork,reuseaddr,verify=0,key={},cert={}", config::IMPOSTOR_PORT, config::BROKER.0, key.display(), certificate.display());
    command.arg(listen).arg(format!("TCP:{}", address(config::BROKER)));
    Ok(command)
}

fn address((address, port): (std::net::Ipv4Addr, u16)) -> String {
    format!("{address}:{port}")
}

/// Where the network's account can run them.
fn copied(layout: &Layout) -> Result<PathBuf> {
    let built = built()?;
    for name in ["ends", "proxy"] {
        let from = built.join(name);
        fs::copy(&from, layout.file(name)).with_context(|| format!("no {}: make out/snowflake", from.display()))?;
    }
    Ok(layout.root().to_owned())
}

fn spawn(mut command: Command, out: &Path) -> Result<Child> {
    let out = File::create(out).with_context(|| format!("cannot make {}", out.display()))?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    command.spawn().with_context(|| format!("cannot run {command:?}"))
}

impl Drop for Snowflake {
    fn drop(&mut self) {
        self.children.iter_mut().for_each(stop);
    }
}
