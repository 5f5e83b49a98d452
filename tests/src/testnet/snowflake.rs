//! What a Snowflake has beside its bridge: a broker, a STUN server and one proxy. The proxy is Snowflake's
//! own, the broker and the STUN server are `tests/snowflake`; `make out/snowflake` builds all of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result};

use super::config::{self, Layout};
use super::daemon::{Account, stop};
use super::names::spawn;
use super::netns::Namespace;
use crate::boxed::kept_dir;

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
    /// Starts all but the bridge in `place`, which has the addresses already ([`super::names`]).
    pub fn start(layout: &Layout, account: Account, place: &Namespace) -> Result<Self> {
        let [ends, proxy] = [copied(layout, ENDS)?, copied(layout, "proxy")?];
        let (broker, stun) = (address(config::BROKER), address(config::STUN));
        let mut started = Self { children: Vec::new() };
        let mut start = |name: &str, program: &Path, words: &[&str]| -> Result<()> {
            let mut command = account.command(place.command("/usr/bin/setpriv"), &program.display().to_string());
            command.args(words);
            started.children.push(spawn(command, &layout.file(&format!("{name}.out")))?);
            Ok(())
        };
        start("broker", &ends, &["broker", &broker])?;
        start("stun", &ends, &["stun", &stun])?;
        let (ask, relay) = (format!("http://{broker}/"), format!("ws://{}/", address(config::SNOWFLAKE)));
        let words = ["-broker", &ask, "-relay", &relay, "-stun", &format!("stun:{stun}"), "-keep-local-addresses", "-nat-retest-interval", "0s", "-verbose", "-unsafe-logging"];
        start("proxy", &proxy, &words)?;
        Ok(started)
    }
}

fn address((address, port): (std::net::Ipv4Addr, u16)) -> String {
    format!("{address}:{port}")
}

/// The program with the ends that Debian has no packages of.
pub(super) const ENDS: &str = "ends";

/// One of them, where the network's account can run it.
pub(super) fn copied(layout: &Layout, name: &str) -> Result<PathBuf> {
    let (from, to) = (built()?.join(name), layout.file(name));
    fs::copy(&from, &to).with_context(|| format!("no {}: make out/snowflake", from.display()))?;
    Ok(to)
}

impl Drop for Snowflake {
    fn drop(&mut self) {
        self.children.iter_mut().for_each(stop);
    }
}
