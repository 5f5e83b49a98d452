//! The stand-in: Debian's Firefox ESR, packed and signed as a Tor Browser release is.
//!
//! What comes out is consumed by the same code as a real release; its key exists for one build, in memory, and its image is
//! never called anonymous.

use crate::{
    digest::{Digest, Fingerprint},
    error::Error,
    openpgp::Keyring,
    tree::{Entry, Mode, Node, Tree, TreePath},
};
use chrono::{DateTime, Utc};
use sequoia_openpgp::{
    Cert,
    cert::CertBuilder,
    policy::StandardPolicy,
    serialize::{
        MarshalInto,
        stream::{Message, Signer},
    },
    types::HashAlgorithm,
};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

const FROM: &str = "usr/lib/firefox-esr";
const TO: &str = "tor-browser/Browser";
const AUTOCONFIG: &[u8] = include_bytes!("../standin/autoconfig.js");
const CONFIG: &[u8] = include_bytes!("../standin/mozilla.cfg");
/// Built-in bridges, in the place and the form in which a release has them. They are nobody's (RFC 5737).
const BRIDGES: &[u8] = include_bytes!("../standin/pt_config.json");
/// The browser's program, in Debian's package and in a release.
const PROGRAM: (&str, &str) = ("firefox-esr", "firefox.real");
/// What a release does not have, and what a box has no use for: crash reports, pings and hardware tests.
const LEFT_OUT: [&str; 9] = ["browser/defaults/syspref", "crashhelper", "crashreporter", "distribution", "firefox-bin", "gmp-clearkey", "pingsender", "vaapitest", "vulkantest"];

/// Identifies what the packing adds, so that a change of it makes a new layer.
pub(crate) fn fingerprint() -> Digest {
    let parts = LEFT_OUT.iter().fold(Fingerprint::new("standin").with(AUTOCONFIG).with(CONFIG).with(BRIDGES), |sum, name| sum.with(name.as_bytes()));
    parts.finish()
}

/// Writes the archive of the package's files to `path`.
pub(crate) fn pack(package: &Tree, path: &Path) -> Result<(), Error> {
    let file = File::create_new(path).map_err(Error::io("create", path))?;
    write(&release_tree(package)?, BufWriter::new(file)).map_err(Error::io("write", path))
}

/// The package's files as a release has them: all below one directory, links out of it replaced by what they point to.
fn release_tree(package: &Tree) -> Result<Tree, Error> {
    let plain = |path: &str| TreePath::new(path).ok_or(Error::Internal("a plain path"));
    let mut tree = Tree::default();
    copy(package, &plain(FROM)?, "", &mut tree, 0)?;
    let mtime = tree.newest();
    for (name, content) in [("defaults/pref/autoconfig.js", AUTOCONFIG), ("mozilla.cfg", CONFIG), ("TorBrowser/Tor/PluggableTransports/pt_config.json", BRIDGES)] {
        tree.insert(plain(&format!("{TO}/{name}"))?, Node::File { mode: Mode::Plain, data: Arc::from(content) }, mtime);
    }
    Ok(tree)
}

/// Copies what is at `from`, whose path within the release is `name`.
fn copy(package: &Tree, from: &TreePath, name: &str, out: &mut Tree, depth: usize) -> Result<(), Error> {
    if LEFT_OUT.contains(&name) || depth > 16 {
        return Ok(());
    }
    let Some((real, Entry { node, mtime })) = package.follow(from) else { return Ok(()) };
    let to = || TreePath::new(&format!("{TO}/{}", if name == PROGRAM.0 { PROGRAM.1 } else { name })).ok_or(Error::Internal("a plain path"));
    match node {
        Node::File { .. } => drop(out.insert(to()?, node.clone(), *mtime)),
        Node::Dir | Node::SharedDir => {
            for (child, _) in package.iter().filter(|(path, _)| path.parent().as_ref() == Some(&real)) {
                let below = if name.is_empty() { child.file_name().to_owned() } else { format!("{name}/{}", child.file_name()) };
                copy(package, child, &below, out, depth + 1)?;
            }
        }
        Node::Symlink { .. } => {}
    }
    Ok(())
}

/// Not compressed: the archive lives for one build.
fn write(tree: &Tree, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    for (path, entry) in tree.iter() {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(entry.mtime);
        match &entry.node {
            Node::File { mode, data } => {
                header.set_mode(mode.bits());
                header.set_size(data.len() as u64);
                archive.append_data(&mut header, path.as_str(), &data[..])?;
            }
            _ => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                archive.append_data(&mut header, format!("{}/", path.as_str()), io::empty())?;
            }
        }
    }
    archive.into_inner()?.flush()
}

/// Signs the file at `data` with a key made for this alone; returns the keyring that trusts it, and the signature.
pub(crate) fn sign(data: &Path, now: DateTime<Utc>) -> Result<(Keyring, Vec<u8>), Error> {
    let failed = |_| Error::Internal("the test key cannot sign");
    let now = SystemTime::from(now);
    let made = now.checked_sub(Duration::from_secs(60)).unwrap_or(now);
    let (cert, _) = CertBuilder::new().set_creation_time(made).add_userid("torbox stand-in").add_signing_subkey().generate().map_err(failed)?;
    let signature = detached_signature(&cert, data, now)?;
    let fingerprint = format!("{:X}", cert.fingerprint());
    let public = cert.strip_secret_key_material().armored().to_vec().map_err(failed)?;
    let keyring = Keyring::new(&[("the stand-in's key", &public)], &[fingerprint])?;
    Ok((keyring, signature))
}

fn detached_signature(cert: &Cert, data: &Path, now: SystemTime) -> Result<Vec<u8>, Error> {
    let failed = |_| Error::Internal("the test key cannot sign");
    let policy = StandardPolicy::new();
    let mut keys = cert.keys().with_policy(&policy, now).for_signing().secret();
    let key = keys.next().ok_or(Error::Internal("the test key cannot sign"))?.key().clone().into_keypair().map_err(failed)?;
    let mut signature = Vec::new();
    let signer = Signer::new(Message::new(&mut signature), key).map_err(failed)?;
    // The faster of the two where processors have instructions for it: hundreds of megabytes are signed, and verified.
    let signer = signer.hash_algo(HashAlgorithm::SHA256).map_err(failed)?;
    let mut signer = signer.detached().creation_time(now).build().map_err(failed)?;
    let mut file = File::open(data).map_err(Error::io("open", data))?;
    io::copy(&mut file, &mut signer).map_err(Error::io("read", data))?;
    signer.finalize().map_err(failed)?;
    Ok(signature)
}
