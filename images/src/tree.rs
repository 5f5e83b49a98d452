//! A file tree in memory: what one layer of an image will hold.
//!
//! Paths are checked once, when they enter, and every owner is root: nothing setuid, group-writable or outside the root can
//! be expressed.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// A path below the image's root, without a leading slash: never empty, no `.` or `..`, no empty part.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TreePath(String);

impl TreePath {
    /// Accepts `usr/bin/tor`, `/usr/bin/tor` and `./usr/bin/tor/`; none for the root itself and for what climbs.
    pub(crate) fn new(path: &str) -> Option<Self> {
        let path = path.strip_prefix("./").unwrap_or(path);
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        (path.len() <= 1024 && path.split('/').all(plain)).then(|| Self(path.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    pub(crate) fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }

    pub(crate) fn join(&self, rest: &str) -> Option<Self> {
        Self::new(&format!("{}/{rest}", self.0))
    }

    /// Where a symlink at this path with `target` points to, without following further links; none when that is outside.
    pub(crate) fn resolve(&self, target: &str) -> Option<Self> {
        let base = if target.starts_with('/') { None } else { self.parent() };
        let mut parts: Vec<&str> = base.as_ref().map(|base| base.0.split('/').collect()).unwrap_or_default();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()?),
                other => parts.push(other),
            }
        }
        Self::new(&parts.join("/"))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

/// The two modes that a file can have in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// 0644.
    Plain,
    /// 0755.
    Executable,
}

impl Mode {
    /// From a tar header's mode: only the owner's execute bit counts.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        if bits & 0o100 == 0 { Self::Plain } else { Self::Executable }
    }

    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::Plain => 0o644,
            Self::Executable => 0o755,
        }
    }
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory, 0755.
    Dir,
    /// A directory that anyone may write to, 1777.
    SharedDir,
    /// A file.
    File { mode: Mode, data: Arc<[u8]> },
    /// A symbolic link.
    Symlink { target: String },
}

/// A path's node and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) node: Node,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
}

/// A file tree, in the order of its paths' bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<TreePath, Entry>);

impl Tree {
    /// Puts `node` at `path` and a directory at each parent that has none yet; returns what was there.
    pub(crate) fn insert(&mut self, path: TreePath, node: Node, mtime: u64) -> Option<Entry> {
        let mut parent = path.parent();
        while let Some(dir) = parent {
            parent = dir.parent();
            self.0.entry(dir).or_insert(Entry { node: Node::Dir, mtime });
        }
        self.0.insert(path, Entry { node, mtime })
    }

    pub(crate) fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.0.get(path)
    }

    pub(crate) fn contains(&self, path: &TreePath) -> bool {
        self.0.contains_key(path)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TreePath, &Entry)> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The files, with their content.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&TreePath, Mode, &Arc<[u8]>)> {
        self.0.iter().filter_map(|(path, entry)| match &entry.node {
            Node::File { mode, data } => Some((path, *mode, data)),
            Node::Dir | Node::SharedDir | Node::Symlink { .. } => None,
        })
    }

    /// The latest time in it; 0 when it is empty.
    pub(crate) fn newest(&self) -> u64 {
        self.0.values().map(|entry| entry.mtime).max().unwrap_or(0)
    }

    /// The path that is reached by following every symlink in `path`, and the entry there; none when it dangles or loops.
    pub(crate) fn follow(&self, path: &TreePath) -> Option<(TreePath, &Entry)> {
        let mut path = path.clone();
        for _ in 0..32 {
            match self.first_link(&path) {
                Some(next) => path = next?,
                None => return self.0.get(&path).map(|entry| (path, entry)),
            }
        }
        None
    }

    /// `path` with the first symlink in it replaced by its target; none when it has no symlink.
    fn first_link(&self, path: &TreePath) -> Option<Option<TreePath>> {
        let ends = path.0.match_indices('/').map(|(at, _)| at).chain([path.0.len()]);
        for end in ends {
            let prefix = TreePath(path.0.get(..end)?.to_owned());
            if let Some(Entry { node: Node::Symlink { target }, .. }) = self.0.get(&prefix) {
                let rest = path.0.get(end..)?.trim_start_matches('/');
                let target = prefix.resolve(target);
                return Some(if rest.is_empty() { target } else { target.and_then(|target| target.join(rest)) });
            }
        }
        None
    }
}

/// Whether `path` matches `pattern`: `*` stands for any characters within one part, `**` as a part for any number of parts.
pub(crate) fn matches(pattern: &str, path: &TreePath) -> bool {
    let pattern: Vec<&str> = pattern.trim_start_matches('/').split('/').collect();
    let path: Vec<&str> = path.0.split('/').collect();
    match_parts(&pattern, &path)
}

fn match_parts(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => (0..=path.len()).any(|skip| path.get(skip..).is_some_and(|path| match_parts(rest, path))),
        (Some((first, pattern)), Some((part, path))) => match_part(first.as_bytes(), part.as_bytes()) && match_parts(pattern, path),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn match_part(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skip| text.get(skip..).is_some_and(|text| match_part(rest, text))),
        (Some((a, pattern)), Some((b, text))) => a == b && match_part(pattern, text),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    #[test]
    fn paths_stay_below_the_root() {
        for good in ["usr/bin", "/usr/bin", "./usr/bin/", "usr/bin/"] {
            assert_eq!(path(good).as_str(), "usr/bin");
        }
        for bad in ["", "/", "./", ".", "..", "a/../b", "a//b", "a/./b", "//a", "a\0", "../a"] {
            assert_eq!(TreePath::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn links_are_resolved_within_the_root() {
        for (at, target, expected) in [
            ("usr/lib/a", "b", Some("usr/lib/b")),
            ("usr/lib/a", "../share/b", Some("usr/share/b")),
            ("usr/lib/a", "/etc/b", Some("etc/b")),
            ("a", "../b", None),
            ("usr/lib/a", "../../../b", None),
        ] {
            assert_eq!(path(at).resolve(target), expected.map(path), "{at} -> {target}");
        }
    }

    #[test]
    fn links_in_the_middle_are_followed_and_loops_end() {
        let mut tree = Tree::default();
        tree.insert(path("lib"), Node::Symlink { target: "usr/lib".into() }, 0);
        tree.insert(path("usr/lib/x.so.1"), Node::Symlink { target: "x.so.1.2".into() }, 0);
        tree.insert(path("usr/lib/x.so.1.2"), Node::File { mode: Mode::Plain, data: Arc::from(*b"x") }, 0);
        tree.insert(path("loop"), Node::Symlink { target: "loop".into() }, 0);
        assert_eq!(tree.follow(&path("lib/x.so.1")).unwrap().0, path("usr/lib/x.so.1.2"));
        assert!(tree.follow(&path("loop")).is_none());
        assert!(tree.follow(&path("lib/none")).is_none());
    }

    #[test]
    fn patterns_match_whole_paths() {
        for (pattern, text, expected) in [
            ("/usr/share/tor/geoip", "usr/share/tor/geoip", true),
            ("/usr/share/tor/geoip", "usr/share/tor/geoip6", false),
            ("/usr/share/tor/geoip*", "usr/share/tor/geoip6", true),
            ("/usr/share/*/geoip", "usr/share/tor/geoip", true),
            ("/usr/*/geoip", "usr/share/tor/geoip", false),
            ("/usr/**", "usr/share/tor/geoip", true),
            ("/usr/**/geoip", "usr/share/tor/geoip", true),
            ("/usr/**/geoip", "usr/geoip", true),
        ] {
            assert_eq!(matches(pattern, &path(text)), expected, "{pattern} {text}");
        }
    }
}
