//! A release's archive, read strictly: what is not plainly a file, directory or symlink in a place of the recipe is refused.
//!
//! The archive's signature was checked before; this does not rely on it. Each refusal names the entry.

use crate::{
    error::Error,
    names::Arch,
    tree::{Mode, Node, Tree, TreePath},
    unpack::{self, Bounded},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufReader, Read},
    path::Path,
    sync::Arc,
};

const MAX_ENTRIES: usize = 20_000;
const MAX_BYTES: u64 = 1 << 30;

/// Where an archive's paths go in the image; to nowhere what is left out.
pub(crate) type Places = BTreeMap<String, String>;

/// Where a browser goes.
pub(crate) fn browser_places() -> Places {
    Places::from([("tor-browser".to_owned(), "opt/tor-browser".to_owned())])
}

/// Reads the archive at `path`, whose compression is told by its name; paths in the result are the image's.
pub(crate) fn read(path: &Path, name: &str, places: &Places, arch: Arch) -> Result<Tree, Error> {
    let extension = [".xz", ".gz"].into_iter().find(|extension| name.ends_with(extension)).unwrap_or("");
    let file = BufReader::with_capacity(1 << 20, File::open(path).map_err(Error::io("open", path))?);
    let reader = unpack::decompress(extension, file).ok_or(Error::Internal("a known compression"))?;
    let places = places.iter().map(|(from, to)| (from.clone(), to.replace("{triplet}", arch.triplet()))).collect();
    read_tar(Bounded::new(reader, MAX_BYTES), name, &places)
}

/// Reads a tar archive.
pub(crate) fn read_tar(reader: Bounded<impl Read>, name: &str, places: &Places) -> Result<Tree, Error> {
    let damaged = |e: std::io::Error| Error::Archive { archive: name.to_owned(), reason: e.to_string() };
    let mut archive = tar::Archive::new(reader);
    let mut intake = Intake { archive: name, places, tree: Tree::default(), seen: BTreeSet::new() };
    for entry in archive.entries().map_err(damaged)? {
        intake.take(&mut entry.map_err(damaged)?)?;
    }
    if intake.tree.len() == 0 { Err(Error::Archive { archive: name.to_owned(), reason: "it holds nothing".to_owned() }) } else { Ok(intake.tree) }
}

struct Intake<'a> {
    archive: &'a str,
    places: &'a Places,
    tree: Tree,
    seen: BTreeSet<TreePath>,
}

/// Where an entry goes.
enum Place {
    At(TreePath),
    LeftOut,
}

impl Intake<'_> {
    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), Error> {
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refuse = |reason| Error::Entry { archive: self.archive.to_owned(), entry: shown.clone(), reason };
        let damaged = |e: std::io::Error| Error::Archive { archive: self.archive.to_owned(), reason: format!("entry {shown:?}: {e}") };
        if is_sparse(entry).map_err(damaged)? {
            return Err(refuse("is sparse"));
        }
        let name = unpack::entry_name(entry).ok_or_else(|| refuse("has a path that is not UTF-8"))?;
        let path = match self.place(&name).ok_or_else(|| refuse("is in no place of the recipe"))? {
            Place::At(path) => path,
            Place::LeftOut => return Ok(()),
        };
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
                self.leads_inside(&path, &target).then_some(Node::Symlink { target }).ok_or_else(|| refuse("is a symlink that leads out"))?
            }
            tar::EntryType::Link => {
                let target = unpack::link_name(entry).and_then(|name| self.place(&name)).ok_or_else(|| refuse("is a hard link that leads out"))?;
                let Place::At(target) = target else { return Err(refuse("is a hard link to what is left out")) };
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

    /// The place in the image of an archive's path, which must be plain.
    fn place(&self, name: &str) -> Option<Place> {
        let name = name.strip_prefix("./").unwrap_or(name);
        let fits = |from: &str| name.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let fitting = self.places.iter().filter_map(|(from, to)| Some((from.len(), to, fits(from)?)));
        let (_, to, rest) = fitting.max_by_key(|(length, ..)| *length)?;
        match (to.as_str(), rest) {
            ("", _) => Some(Place::LeftOut),
            (to, "" | "/") => TreePath::new(to).map(Place::At),
            (to, rest) => TreePath::new(&format!("{to}{rest}")).map(Place::At),
        }
    }

    /// Whether a symlink stays below the places of the recipe.
    fn leads_inside(&self, at: &TreePath, target: &str) -> bool {
        let below = |path: &TreePath, to: &String| !to.is_empty() && path.as_str().strip_prefix(to.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        !target.starts_with('/') && at.resolve(target).is_some_and(|path| self.places.values().any(|to| below(&path, to)))
    }

    /// Whether one of the path's parents is something other than a directory.
    fn below_other(&self, path: &TreePath) -> bool {
        let parents = std::iter::successors(path.parent(), TreePath::parent);
        parents.into_iter().any(|parent| self.tree.get(&parent).is_some_and(|entry| entry.node != Node::Dir))
    }
}

/// Whether an entry says by extended headers (pax(1)) that what it holds is not its content.
fn is_sparse(entry: &mut tar::Entry<'_, impl Read>) -> std::io::Result<bool> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(false) };
    for extension in extensions {
        if extension?.key_bytes().starts_with(b"GNU.sparse.") {
            return Ok(true);
        }
    }
    Ok(false)
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

    fn bounded(bytes: &[u8]) -> Bounded<&[u8]> {
        Bounded::new(bytes, 1 << 20)
    }

    /// An archive of one file, `tor-browser/a`, with what stands before it.
    fn with_headers(kind: u8, headers: &[u8], size: u64) -> Result<Tree, Error> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_path("headers").unwrap();
        header.set_size(headers.len() as u64);
        header.set_cksum();
        builder.append(&header, headers).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_path("tor-browser/a").unwrap();
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        builder.append(&header, &vec![b'x'; size as usize][..]).unwrap();
        read_tar(bounded(&builder.into_inner().unwrap()), "x.tar", &browser_places())
    }

    fn pax(key: &str, value: &str) -> Vec<u8> {
        let rest = format!(" {key}={value}\n");
        let length = (1..).find(|length: &usize| length.to_string().len() + rest.len() == *length).unwrap();
        format!("{length}{rest}").into_bytes()
    }

    /// Extended headers replace an entry's name, link and size: what they say is what is judged.
    #[test]
    fn extended_headers_open_no_way_out() {
        let paths = |tree: Result<Tree, Error>| tree.map(|tree| tree.files().map(|(path, _, data)| (path.as_str().to_owned(), data.len())).collect::<Vec<_>>());
        let long = format!("tor-browser/{}", "n".repeat(180));
        assert_eq!(paths(with_headers(b'x', &pax("path", &long), 3)).unwrap(), [(format!("opt/{long}"), 3)]);
        assert_eq!(paths(with_headers(b'L', format!("{long}\0").as_bytes(), 3)).unwrap(), [(format!("opt/{long}"), 3)]);
        assert_eq!(paths(with_headers(b'x', &pax("comment", "x"), 3)).unwrap(), [("opt/tor-browser/a".to_owned(), 3)]);
        for out in ["/etc/passwd", "../etc/passwd", "tor-browser/../../etc/passwd", "tor-browser/./a", "etc/passwd"] {
            assert!(matches!(with_headers(b'x', &pax("path", out), 3), Err(Error::Entry { .. })), "{out}");
            assert!(matches!(with_headers(b'L', format!("{out}\0").as_bytes(), 3), Err(Error::Entry { .. })), "{out}");
        }
        // A size of its own would make one entry's content another's header.
        assert!(with_headers(b'x', &pax("size", "4000000000"), 3).is_err());
        assert!(with_headers(b'x', &pax("GNU.sparse.major", "1"), 3).unwrap_err().to_string().contains("sparse"));
        assert!(with_headers(b'x', b"9999 path=x\n", 3).is_err() || paths(with_headers(b'x', b"9999 path=x\n", 3)).unwrap() == [("opt/tor-browser/a".to_owned(), 3)]);
    }

    #[test]
    fn an_archive_that_unpacks_to_more_than_it_may_is_refused() {
        assert!(with_headers(b'x', &pax("comment", "x"), 900_000).is_ok());
        let error = with_headers(b'x', &pax("comment", "x"), 1 << 20).unwrap_err().to_string();
        assert!(error.contains("more than it may"), "{error}");
    }

    fn read(cases: &[Case]) -> Result<Tree, Error> {
        read_tar(bounded(&archive(cases)), "x.tar", &browser_places())
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
    fn the_longest_place_that_fits_decides() {
        let places = [("tor", "usr/lib"), ("tor/tor", "usr/bin/tor"), ("tor/pt", "usr/libexec/tor"), ("docs", "")];
        let places = places.into_iter().map(|(from, to)| (from.to_owned(), to.to_owned())).collect();
        let cases = [Case(Regular, "tor/tor", "", 0o755), Case(Regular, "tor/libx.so", "", 0o644), Case(Regular, "tor/pt/lyrebird", "", 0o755), Case(Regular, "docs/a", "", 0o644)];
        let tree = read_tar(bounded(&archive(&cases)), "x.tar", &places).unwrap();
        let files: Vec<_> = tree.files().map(|(path, ..)| path.as_str().to_owned()).collect();
        assert_eq!(files, ["usr/bin/tor", "usr/lib/libx.so", "usr/libexec/tor/lyrebird"]);
        for out in ["torrc", "tor/../etc/a", "tor//a"] {
            assert!(read_tar(bounded(&archive(&[Case(Regular, out, "", 0o644)])), "x.tar", &places).is_err(), "{out}");
        }
    }

    #[test]
    fn what_would_escape_is_refused_by_name() {
        let file = || Case(Regular, "tor-browser/a", "", 0o644);
        let cases: [(&str, Vec<Case>); 19] = [
            ("in no place", vec![Case(Regular, "other/a", "", 0o644)]),
            ("in no place", vec![Case(Regular, "tor-browser-evil/a", "", 0o644)]),
            ("in no place", vec![Case(Regular, "/tor-browser/a", "", 0o644)]),
            ("in no place", vec![Case(Regular, "tor-browser/../../etc/passwd", "", 0o644)]),
            ("in no place", vec![Case(Regular, "tor-browser//a", "", 0o644)]),
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
        assert!(read(&[]).unwrap_err().to_string().contains("it holds nothing"));
    }
}
