//! The browser's archive, read strictly: what is not plainly a file, directory or symlink below `tor-browser/` is refused.
//!
//! The archive's signature was checked before; this does not rely on it. Each refusal names the entry.

use crate::{
    error::Error,
    tree::{Mode, Node, Tree, TreePath},
    unpack::{self, Bounded},
};
use std::{collections::BTreeSet, fs::File, io::BufReader, io::Read, path::Path, sync::Arc};

/// The directory that an archive holds.
const TOP: &str = "tor-browser";
/// Where its content is in the image.
const PLACE: &str = "opt/tor-browser";
const MAX_ENTRIES: usize = 20_000;
const MAX_BYTES: u64 = 1 << 30;

/// Reads the archive at `path`, whose compression is told by its name; paths in the result are the image's.
pub(crate) fn read(path: &Path, name: &str) -> Result<Tree, Error> {
    let extension = [".xz", ".gz"].into_iter().find(|extension| name.ends_with(extension)).unwrap_or("");
    let file = BufReader::with_capacity(1 << 20, File::open(path).map_err(Error::io("open", path))?);
    let reader = unpack::decompress(extension, file).ok_or(Error::Internal("a known compression"))?;
    read_tar(reader, name)
}

fn read_tar(reader: impl Read, name: &str) -> Result<Tree, Error> {
    let damaged = |e: std::io::Error| Error::Archive { archive: name.to_owned(), reason: e.to_string() };
    let mut archive = tar::Archive::new(Bounded::new(reader, MAX_BYTES));
    let mut intake = Intake { archive: name, tree: Tree::default(), seen: BTreeSet::new() };
    for entry in archive.entries().map_err(damaged)? {
        intake.take(&mut entry.map_err(damaged)?)?;
    }
    if intake.tree.len() == 0 { Err(Error::Archive { archive: name.to_owned(), reason: "it holds no tor-browser directory".to_owned() }) } else { Ok(intake.tree) }
}

struct Intake<'a> {
    archive: &'a str,
    tree: Tree,
    seen: BTreeSet<TreePath>,
}

impl Intake<'_> {
    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), Error> {
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refuse = |reason| Error::Entry { archive: self.archive.to_owned(), entry: shown.clone(), reason };
        let damaged = |e: std::io::Error| Error::Archive { archive: self.archive.to_owned(), reason: format!("entry {shown:?}: {e}") };
        let path = inside(&unpack::entry_name(entry).ok_or_else(|| refuse("has a path that is not UTF-8"))?).ok_or_else(|| refuse("is not below tor-browser/"))?;
        if !self.seen.insert(path.clone()) {
            return Err(refuse("is there twice"));
        }
        if self.seen.len() > MAX_ENTRIES {
            return Err(refuse("is one too many"));
        }
        if self.below_other(&path) {
            return Err(refuse("is below something that is no directory"));
        }
        let bits = entry.header().mode().map_err(damaged)?;
        if bits & 0o7000 != 0 {
            return Err(refuse("is setuid, setgid or sticky"));
        }
        let mtime = entry.header().mtime().map_err(damaged)?;
        let node = match entry.header().entry_type() {
            tar::EntryType::Directory => Node::Dir,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let mut data = Vec::new();
                entry.read_to_end(&mut data).map_err(damaged)?;
                Node::File { mode: Mode::from_bits(bits), data: Arc::from(data) }
            }
            tar::EntryType::Symlink => {
                let target = unpack::link_name(entry).ok_or_else(|| refuse("is a symlink without a usable target"))?;
                leads_inside(&path, &target).then_some(Node::Symlink { target }).ok_or_else(|| refuse("is a symlink that leads out"))?
            }
            tar::EntryType::Link => {
                let target = unpack::link_name(entry).as_deref().and_then(inside).ok_or_else(|| refuse("is a hard link that leads out"))?;
                self.tree.get(&target).filter(|earlier| matches!(earlier.node, Node::File { .. })).map(|earlier| earlier.node.clone()).ok_or_else(|| refuse("is a hard link to no file before it"))?
            }
            _ => return Err(refuse("is neither file, directory nor link")),
        };
        // A directory may have been made for an entry that came before its own; nothing else may take its place.
        if self.tree.get(&path).is_some_and(|earlier| earlier.node != Node::Dir || node != Node::Dir) {
            return Err(refuse("is there twice"));
        }
        self.tree.insert(path, node, mtime);
        Ok(())
    }

    /// Whether one of the path's parents is something other than a directory.
    fn below_other(&self, path: &TreePath) -> bool {
        let parents = std::iter::successors(path.parent(), TreePath::parent);
        parents.into_iter().any(|parent| self.tree.get(&parent).is_some_and(|entry| entry.node != Node::Dir))
    }
}

/// The place in the image of an archive's path; none for one that is not `tor-browser/...`, plainly.
fn inside(name: &str) -> Option<TreePath> {
    let rest = name.strip_prefix("./").unwrap_or(name).strip_prefix(TOP)?;
    match rest {
        "" | "/" => TreePath::new(PLACE),
        _ => TreePath::new(&format!("{PLACE}{}", rest.strip_prefix('/').map(|rest| format!("/{rest}"))?)),
    }
}

/// Whether a symlink stays below the browser's directory.
fn leads_inside(at: &TreePath, target: &str) -> bool {
    let inside = |path: TreePath| path.as_str() == PLACE || path.as_str().starts_with("opt/tor-browser/");
    !target.starts_with('/') && at.resolve(target).is_some_and(inside)
}

/// The browser's version: of Tor Browser where it says so, else of Firefox.
pub(crate) fn version(tree: &Tree, name: &str) -> Result<String, Error> {
    let text = |path: &str| TreePath::new(path).and_then(|path| match &tree.get(&path)?.node {
        Node::File { data, .. } => String::from_utf8(data.to_vec()).ok(),
        _ => None,
    });
    let own = text("opt/tor-browser/Browser/tbb_version.json").and_then(|json| {
        let value: serde_json::Value = serde_json::from_str(&json).ok()?;
        Some(value.get("version")?.as_str()?.to_owned())
    });
    let ini = || text("opt/tor-browser/Browser/application.ini")?.lines().find_map(|line| Some(line.strip_prefix("Version=")?.trim().to_owned()));
    let plain = |version: &String| !version.is_empty() && version.len() <= 32 && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    own.or_else(ini).filter(plain).ok_or_else(|| Error::Archive { archive: name.to_owned(), reason: "it does not tell its version".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::EntryType::{Block, Char, Directory, Fifo, GNUSparse, Link, Regular, Symlink};

    struct Case(tar::EntryType, &'static str, &'static str, u32);

    fn archive(cases: &[Case]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for Case(kind, path, target, mode) in cases {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_link_name_literal(target).unwrap();
            header.set_size(0);
            header.set_mode(*mode);
            header.set_mtime(5);
            header.set_cksum();
            builder.append(&header, &b""[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(cases: &[Case]) -> Result<Tree, Error> {
        read_tar(&archive(cases)[..], "x.tar")
    }

    #[test]
    fn a_plain_archive_is_read() {
        let tree = read(&[
            Case(Regular, "tor-browser/Browser/firefox.real", "", 0o755),
            Case(Directory, "./tor-browser/", "", 0o755),
            Case(Directory, "tor-browser/Browser/", "", 0o700),
            Case(Symlink, "tor-browser/Browser/link", "../Browser/firefox.real", 0o777),
            Case(Link, "tor-browser/Browser/copy", "tor-browser/Browser/firefox.real", 0o644),
        ])
        .unwrap();
        let paths: Vec<_> = tree.iter().map(|(path, _)| path.as_str().to_owned()).collect();
        let below = |name: &str| format!("opt/tor-browser/Browser{name}");
        assert_eq!(paths, ["opt".into(), "opt/tor-browser".into(), below(""), below("/copy"), below("/firefox.real"), below("/link")]);
    }

    #[test]
    fn what_would_escape_is_refused_by_name() {
        let file = || Case(Regular, "tor-browser/a", "", 0o644);
        let cases: [(&str, Vec<Case>); 19] = [
            ("not below", vec![Case(Regular, "other/a", "", 0o644)]),
            ("not below", vec![Case(Regular, "tor-browser-evil/a", "", 0o644)]),
            ("not below", vec![Case(Regular, "/tor-browser/a", "", 0o644)]),
            ("not below", vec![Case(Regular, "tor-browser/../../etc/passwd", "", 0o644)]),
            ("not below", vec![Case(Regular, "tor-browser//a", "", 0o644)]),
            ("leads out", vec![Case(Symlink, "tor-browser/a", "/etc/passwd", 0o777)]),
            ("leads out", vec![Case(Symlink, "tor-browser/a", "../../etc/passwd", 0o777)]),
            ("leads out", vec![Case(Symlink, "tor-browser/a", "../other", 0o777)]),
            ("leads out", vec![Case(Link, "tor-browser/a", "/etc/passwd", 0o644)]),
            ("leads out", vec![Case(Link, "tor-browser/a", "tor-browser/../b", 0o644)]),
            ("no file before it", vec![Case(Link, "tor-browser/a", "tor-browser/b", 0o644)]),
            ("no directory", vec![Case(Directory, "tor-browser/d", "", 0o755), Case(Symlink, "tor-browser/a", "d", 0o777), Case(Regular, "tor-browser/a/b", "", 0o644)]),
            ("neither", vec![Case(Char, "tor-browser/a", "", 0o644)]),
            ("neither", vec![Case(Block, "tor-browser/a", "", 0o644)]),
            ("neither", vec![Case(Fifo, "tor-browser/a", "", 0o644)]),
            ("setuid", vec![Case(Regular, "tor-browser/a", "", 0o4755)]),
            ("setuid", vec![Case(Directory, "tor-browser/a", "", 0o2755)]),
            ("twice", vec![file(), file()]),
            ("twice", vec![Case(Regular, "tor-browser/a/b", "", 0o644), file()]),
        ];
        read(&[file()]).unwrap();
        for (expected, entries) in cases {
            let last = entries.last().map(|case| case.1).unwrap();
            let error = read(&entries).unwrap_err();
            assert!(error.to_string().contains(expected), "{last}: {error}");
            assert!(matches!(error, Error::Entry { .. }), "{error}");
        }
        assert!(read(&[Case(GNUSparse, "tor-browser/a", "", 0o644)]).is_err());
        assert!(read(&[]).unwrap_err().to_string().contains("no tor-browser directory"));
    }
}
