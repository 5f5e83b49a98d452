//! A package's file: an ar archive of exactly `debian-binary`, `control.tar.*` and `data.tar.*` (deb(5)).
//!
//! Only the data member is read; scripts in the control member are never looked at. The caller has checked the digest, and
//! this still believes nothing: sizes are bounded, and what has no place in an image is an error.

use crate::{
    error::Error,
    tree::{Mode, Node, TreePath},
    unpack,
};
use std::{io::Read, sync::Arc};

/// More than any package of the archive unpacks to.
const LIMIT: u64 = 2 << 30;
const MAGIC: &[u8] = b"!<arch>\n";

/// A file of a package.
pub(crate) struct PackageEntry {
    pub(crate) path: TreePath,
    pub(crate) node: Node,
    pub(crate) mtime: u64,
}

/// The files, symlinks and directories of the package whose file is `deb`, for which `keep` says so; hard links become copies.
pub(crate) fn entries(package: &str, deb: &[u8], keep: &dyn Fn(&TreePath) -> bool) -> Result<Vec<PackageEntry>, Error> {
    entries_within(package, deb, keep, LIMIT)
}

/// The same for a package that unpacks to at most `limit` bytes.
pub(crate) fn entries_within(package: &str, deb: &[u8], keep: &dyn Fn(&TreePath) -> bool, limit: u64) -> Result<Vec<PackageEntry>, Error> {
    let wrong = |reason: String| Error::Package { package: package.to_owned(), reason };
    let (name, data) = data_member(deb).map_err(|reason| wrong(reason.to_owned()))?;
    let reader = unpack::decompress_bytes(name.strip_prefix("data.tar").unwrap_or_default(), data, limit).map_err(|e| wrong(e.to_string()))?;
    read_tar(reader.ok_or_else(|| wrong(format!("its {name} has an unknown compression")))?, keep).map_err(wrong)
}

fn read_tar(reader: impl Read, keep: &dyn Fn(&TreePath) -> bool) -> Result<Vec<PackageEntry>, String> {
    let mut archive = tar::Archive::new(reader);
    let mut found: Vec<PackageEntry> = Vec::new();
    for entry in archive.entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        let name = unpack::entry_name(&entry).ok_or("a path in it is not UTF-8")?;
        if matches!(name.as_str(), "./" | ".") {
            continue;
        }
        if is_merged_link(&name, entry.header().entry_type()) {
            continue;
        }
        let path = TreePath::new(&name).map(merge_usr).ok_or_else(|| format!("its path {name:?} climbs out"))?;
        if !keep(&path) {
            continue;
        }
        let node = read_node(&mut entry, &found)?;
        let mtime = entry.header().mtime().map_err(|e| e.to_string())?;
        found.push(PackageEntry { path, node, mtime });
    }
    Ok(found)
}

fn read_node(entry: &mut tar::Entry<'_, impl Read>, before: &[PackageEntry]) -> Result<Node, String> {
    let link = |entry: &tar::Entry<'_, _>| unpack::link_name(entry).ok_or("a link in it has no usable target");
    match entry.header().entry_type() {
        tar::EntryType::Directory => Ok(Node::Dir),
        tar::EntryType::Symlink => Ok(Node::Symlink { target: link(entry)? }),
        tar::EntryType::Link => {
            let target = TreePath::new(&link(entry)?).map(merge_usr);
            let earlier = before.iter().find(|earlier| Some(&earlier.path) == target.as_ref());
            earlier.map(|earlier| earlier.node.clone()).ok_or_else(|| "a hard link in it points to nothing before it".to_owned())
        }
        tar::EntryType::Regular => {
            let mode = Mode::from_bits(entry.header().mode().map_err(|e| e.to_string())?);
            let mut data = Vec::new();
            entry.read_to_end(&mut data).map_err(|e| e.to_string())?;
            Ok(Node::File { mode, data: Arc::from(data) })
        }
        other => Err(format!("it holds an entry of type {other:?}")),
    }
}

/// Paths as they are where `/bin`, `/sbin`, `/lib` and `/lib64` are symlinks into `/usr`.
pub(crate) fn merge_usr(path: TreePath) -> TreePath {
    let first = path.as_str().split('/').next().unwrap_or_default();
    if MERGED.contains(&first) { TreePath::new(&format!("usr/{}", path.as_str())).unwrap_or(path) } else { path }
}

/// The symlinks themselves, which a package holds and the builder makes.
fn is_merged_link(name: &str, kind: tar::EntryType) -> bool {
    kind == tar::EntryType::Symlink && MERGED.contains(&name.trim_start_matches("./"))
}

/// The directories of the root that are symlinks into `/usr`.
pub(crate) const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Name and content of the member `data.tar.*`; the order of members is fixed, and nothing may follow.
fn data_member(deb: &[u8]) -> Result<(&str, &[u8]), &'static str> {
    let rest = deb.strip_prefix(MAGIC).ok_or("it is not an ar archive")?;
    let (name, version, rest) = member(rest)?;
    if name != "debian-binary" || !version.starts_with(b"2.") {
        return Err("it does not begin with debian-binary 2.x");
    }
    let (name, _, rest) = member(rest)?;
    if !name.starts_with("control.tar") {
        return Err("its second member is not control.tar");
    }
    let (name, data, rest) = member(rest)?;
    if !name.starts_with("data.tar") {
        return Err("its third member is not data.tar");
    }
    if rest.is_empty() { Ok((name, data)) } else { Err("something follows its third member") }
}

/// One ar member: name, content, and what follows (ar(5): header of 60 bytes, content padded to an even length).
fn member(ar: &[u8]) -> Result<(&str, &[u8], &[u8]), &'static str> {
    const TRUNCATED: &str = "it is truncated";
    let (header, rest) = ar.split_at_checked(60).ok_or(TRUNCATED)?;
    let text = |range: std::ops::Range<usize>| header.get(range).and_then(|field| std::str::from_utf8(field).ok()).map(str::trim_end);
    if header.get(58..60) != Some(b"`\n") {
        return Err("a member's header is not well formed");
    }
    let name = text(0..16).map(|name| name.strip_suffix('/').unwrap_or(name)).ok_or("a member's name is not text")?;
    let size = text(48..58).and_then(|size| size.parse::<usize>().ok()).ok_or("a member's size is not a number")?;
    let (content, rest) = rest.split_at_checked(size).ok_or(TRUNCATED)?;
    let padding = usize::from(size % 2 == 1).min(rest.len());
    Ok((name, content, rest.get(padding..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for (name, data) in members {
            out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, data.len()).bytes());
            out.extend_from_slice(data);
            if data.len() % 2 == 1 {
                out.push(b'\n');
            }
        }
        out
    }

    fn tar_of(kind: tar::EntryType, path: &str, target: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_link_name_literal(target).unwrap();
        header.set_size(0);
        header.set_mode(0o4755);
        header.set_mtime(7);
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
        builder.into_inner().unwrap()
    }

    fn read(deb: &[u8]) -> Result<Vec<PackageEntry>, Error> {
        entries("p", deb, &|_| true)
    }

    #[test]
    fn files_are_read_without_their_setuid_bit_and_below_usr() {
        let deb = ar(&[("debian-binary", b"2.0\n"), ("control.tar", b"x"), ("data.tar", &tar_of(tar::EntryType::Regular, "./bin/su", ""))]);
        let found = read(&deb).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].mtime), ("usr/bin/su", 7));
        assert_eq!(found[0].node, Node::File { mode: Mode::Executable, data: Arc::from(*b"") });
    }

    #[test]
    fn a_package_that_unpacks_to_more_than_it_may_is_refused() {
        use std::io::Write;
        let mut header = tar::Header::new_gnu();
        header.set_path("./a").unwrap();
        header.set_size(1 << 20);
        header.set_mode(0o644);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, std::io::repeat(0).take(1 << 20)).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&builder.into_inner().unwrap()).unwrap();
        let deb = ar(&[("debian-binary", b"2.0\n"), ("control.tar", b"x"), ("data.tar.gz", &gzip.finish().unwrap())]);
        assert!(deb.len() < 4096);
        entries_within("p", &deb, &|_| true, 2 << 20).unwrap();
        let error = entries_within("p", &deb, &|_| true, 1 << 19).map(drop).unwrap_err().to_string();
        assert!(error.contains("more than it may"), "{error}");
    }

    #[test]
    fn malformed_packages_are_refused() {
        let data = tar_of(tar::EntryType::Regular, "./a", "");
        let (version, control) = (("debian-binary", b"2.0\n".as_slice()), ("control.tar", b"x".as_slice()));
        let good = ar(&[version, control, ("data.tar", &data)]);
        read(&good).unwrap();
        let mut trailing = good.clone();
        trailing.extend(ar(&[("data.tar", b"")]).iter().skip(8));
        let cases: [(&str, Vec<u8>); 9] = [
            ("ar archive", b"!<ARCH>\n".to_vec()),
            ("truncated", good[..good.len() - 600].to_vec()),
            ("follows", trailing),
            ("control.tar", ar(&[version, ("data.tar", &data), control])),
            ("debian-binary", ar(&[control, ("data.tar", &data)])),
            ("compression", ar(&[version, control, ("data.tar.lz4", &data)])),
            ("climbs", ar(&[version, control, ("data.tar", &tar_of(tar::EntryType::Regular, "./../a", ""))])),
            ("type", ar(&[version, control, ("data.tar", &tar_of(tar::EntryType::Char, "./a", ""))])),
            ("points to nothing", ar(&[version, control, ("data.tar", &tar_of(tar::EntryType::Link, "./a", "b"))])),
        ];
        for (expected, deb) in cases {
            let error = read(&deb).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
