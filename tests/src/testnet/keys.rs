//! The authorities' keys (tor-gencert(1), `tor --list-fingerprint`): new ones for each network, all made at the same time.

use std::fs;
use std::process::Command;
use std::thread::ScopedJoinHandle;

use anyhow::{Context, Result, anyhow};

use super::config::{Authority, Layout, Node, Role, dir_port};
use super::daemon::Account;
use crate::process;

/// What key generation makes known.
#[derive(Debug)]
pub(super) struct Known {
    /// Every authority.
    pub(super) authorities: Vec<Authority>,
    /// The fingerprint of every node, authority or not.
    pub(super) fingerprints: Vec<String>,
}

/// Makes the keys of all `nodes`, in their data directories.
pub(super) fn generate(layout: &Layout, account: Account, nodes: &[Node]) -> Result<Known> {
    let (fingerprints, votes) = std::thread::scope(|scope| {
        let begin = |node| (scope.spawn(move || relay_keys(layout, account, node)), scope.spawn(move || voting_keys(layout, account, node)));
        let (relay, voting): (Vec<_>, Vec<_>) = nodes.iter().map(begin).unzip();
        (collect(relay), collect(voting))
    });
    let (fingerprints, votes) = (fingerprints?, votes?);
    let known = nodes.iter().zip(&fingerprints).zip(votes).filter_map(|((node, fingerprint), v3ident)| {
        Some(Authority { name: node.name.clone(), address: node.address, v3ident: v3ident?, fingerprint: fingerprint.clone() })
    });
    Ok(Known { authorities: known.collect(), fingerprints })
}

fn collect<T>(running: Vec<ScopedJoinHandle<'_, Result<T>>>) -> Result<Vec<T>> {
    running.into_iter().map(|thread| thread.join().map_err(|_panic| anyhow!("key generation panicked"))?).collect()
}

/// Fingerprint of the voting identity; `None` for a node that does not vote.
fn voting_keys(layout: &Layout, account: Account, node: &Node) -> Result<Option<String>> {
    if node.role != Role::Authority {
        return Ok(None);
    }
    let keys = layout.keys(&node.name);
    let certificate = keys.join("authority_certificate");
    let mut command = account.command(Command::new("/usr/bin/setpriv"), "tor-gencert");
    command.args(["--create-identity-key", "-m", "12", "--passphrase-fd", "0", "-a", &dir_port(node)]);
    command.arg("-i").arg(keys.join("authority_identity_key"));
    command.arg("-s").arg(keys.join("authority_signing_key"));
    command.arg("-c").arg(&certificate);
    process::output_with(&mut command, b"of no use to anyone\n")?;
    let text = fs::read_to_string(&certificate).with_context(|| format!("cannot read {}", certificate.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("fingerprint "));
    line.map(|l| Some(l.to_owned())).with_context(|| format!("no fingerprint in {}", certificate.display()))
}

fn relay_keys(layout: &Layout, account: Account, node: &Node) -> Result<String> {
    let (empty, data) = (layout.file("empty"), layout.data(&node.name));
    let mut command = account.command(Command::new("/usr/bin/setpriv"), "tor");
    command.args(["--list-fingerprint", "--quiet", "-f"]).arg(&empty).arg("--defaults-torrc").arg(&empty);
    command.arg("--DataDirectory").arg(&data).args(["--Nickname", &node.name, "--Address", &node.address.to_string()]);
    command.args(["--ORPort", "1", "--SocksPort", "0", "--AssumeReachable", "1", "--ContactInfo", "none"]);
    process::output(&mut command)?;
    let file = data.join("fingerprint");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    text.split_whitespace().nth(1).map(str::to_owned).with_context(|| format!("no fingerprint in {}", file.display()))
}
