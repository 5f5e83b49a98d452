//! The authorities' keys (tor-gencert(1), `tor --list-fingerprint`): new ones for each network, all made at the same time.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use super::config::{Authority, Layout, Node, Role, dir_port};
use super::daemon::Account;
use crate::process;

/// Makes the keys of every authority among `nodes`, in its data directory.
pub(super) fn generate(layout: &Layout, account: Account, nodes: &[Node]) -> Result<Vec<Authority>> {
    std::thread::scope(|scope| {
        let authorities = nodes.iter().filter(|n| n.role == Role::Authority);
        let running: Vec<_> = authorities.map(|node| scope.spawn(move || authority(layout, account, node))).collect();
        running.into_iter().map(|thread| thread.join().map_err(|_panic| anyhow!("key generation panicked"))?).collect()
    })
}

fn authority(layout: &Layout, account: Account, node: &Node) -> Result<Authority> {
    let keys = layout.data(&node.name).join("keys");
    account.make_dir(&keys)?;
    let v3ident = voting_keys(account, node, &keys)?;
    let fingerprint = relay_keys(layout, account, node)?;
    Ok(Authority { name: node.name.clone(), address: node.address, v3ident, fingerprint })
}

fn voting_keys(account: Account, node: &Node, keys: &Path) -> Result<String> {
    let certificate = keys.join("authority_certificate");
    let mut command = account.command(Command::new("/usr/bin/setpriv"), "tor-gencert");
    command.args(["--create-identity-key", "-m", "12", "--passphrase-fd", "0", "-a", &dir_port(node)]);
    command.arg("-i").arg(keys.join("authority_identity_key"));
    command.arg("-s").arg(keys.join("authority_signing_key"));
    command.arg("-c").arg(&certificate);
    process::output_with(&mut command, b"of no use to anyone\n")?;
    let text = fs::read_to_string(&certificate).with_context(|| format!("cannot read {}", certificate.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("fingerprint "));
    line.map(str::to_owned).with_context(|| format!("no fingerprint in {}", certificate.display()))
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
