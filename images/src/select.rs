//! Which of the packages' files an image keeps: what the recipe names, and what that needs.
//!
//! Everything else is left out, so that no shell, package manager, script or helper gets in by accident. A library that is
//! needed and not there is an error: an image that cannot start is never made.

use crate::{
    debian::deb::MERGED,
    elf,
    error::Error,
    names::Arch,
    recipe::Files,
    tree::{Entry, Node, Tree, TreePath, matches},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where the dynamic linker looks without a cache (ld.so(8)), below the root; `{triplet}` stands for the architecture's.
const LIBRARY_DIRS: [&str; 2] = ["usr/lib/{triplet}", "usr/lib"];

/// Chooses from the packages' files.
pub(crate) struct Selection<'t> {
    recipe: &'t str,
    from: &'t Tree,
    dirs: Vec<TreePath>,
    kept: BTreeSet<TreePath>,
}

/// The part of `from` that the image keeps. `sonames` are libraries that files outside `from` need.
pub(crate) fn select(recipe: &str, files: &Files, arch: Arch, from: &Tree, sonames: &[Needed]) -> Result<Tree, Error> {
    let mut selection = Selection { recipe, from, dirs: library_dirs(arch), kept: BTreeSet::new() };
    for pattern in files.executables.iter().chain(&files.data) {
        selection.keep_matching(&pattern.replace("{triplet}", arch.triplet()))?;
    }
    let by_recipe = files.libraries.iter().map(|soname| Needed { by: format!("recipe {recipe}"), soname: soname.clone() });
    for needed in by_recipe.chain(sonames.iter().cloned()) {
        selection.keep_library(&needed.by, &needed.soname, &[])?;
    }
    selection.into_tree()
}

/// A library, and who needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Needed {
    pub(crate) by: String,
    pub(crate) soname: String,
}

fn library_dirs(arch: Arch) -> Vec<TreePath> {
    LIBRARY_DIRS.iter().filter_map(|dir| TreePath::new(&dir.replace("{triplet}", arch.triplet()))).collect()
}

impl Selection<'_> {
    fn keep_matching(&mut self, pattern: &str) -> Result<(), Error> {
        let from = self.from;
        let mut found = false;
        for (path, entry) in from.iter().filter(|(path, _)| matches(pattern, path)) {
            if entry.node != Node::Dir {
                found = true;
                self.keep(path)?;
            }
        }
        if found { Ok(()) } else { Err(Error::NoMatch { recipe: self.recipe.to_owned(), pattern: pattern.to_owned() }) }
    }

    /// Keeps what is at `path`, what it points to, and the libraries that it needs. A link that dangles is left out.
    fn keep(&mut self, path: &TreePath) -> Result<(), Error> {
        let Some((real, entry)) = self.from.follow(path) else { return Ok(()) };
        if *path != real {
            self.kept.insert(path.clone());
        }
        let Node::File { data, .. } = &entry.node else { return Ok(()) };
        if !self.kept.insert(real.clone()) {
            return Ok(());
        }
        let dynamic = elf::read(data).map_err(|reason| Error::Package { package: real.to_string(), reason })?.unwrap_or_default();
        if let Some(interpreter) = dynamic.interpreter.as_deref().and_then(TreePath::new) {
            self.keep_existing(&real, &crate::debian::deb::merge_usr(interpreter))?;
        }
        let search: Vec<TreePath> = dynamic.search.iter().filter_map(|dir| search_dir(&real, dir)).collect();
        dynamic.needed.iter().try_for_each(|soname| self.keep_library(&real.to_string(), soname, &search))
    }

    fn keep_existing(&mut self, needed_by: &TreePath, path: &TreePath) -> Result<(), Error> {
        let missing = || Error::MissingLibrary { needed_by: needed_by.to_string(), soname: path.to_string() };
        self.from.follow(path).ok_or_else(missing)?;
        self.keep(path)
    }

    fn keep_library(&mut self, needed_by: &str, soname: &str, search: &[TreePath]) -> Result<(), Error> {
        let places = search.iter().chain(&self.dirs).filter_map(|dir| dir.join(soname));
        let found = places.into_iter().find(|path| self.from.follow(path).is_some());
        let missing = || Error::MissingLibrary { needed_by: needed_by.to_owned(), soname: soname.to_owned() };
        self.keep(&found.ok_or_else(missing)?)
    }

    fn into_tree(self) -> Result<Tree, Error> {
        let mut tree = Tree::default();
        for path in &self.kept {
            let Entry { node, mtime } = self.from.get(path).ok_or(Error::Internal("a kept path is in no package"))?.clone();
            tree.insert(path.clone(), node, mtime);
        }
        Ok(tree)
    }
}

/// A directory of DT_RUNPATH, with `$ORIGIN` replaced.
fn search_dir(file: &TreePath, dir: &str) -> Option<TreePath> {
    let origin = file.parent().map(|parent| format!("/{}", parent.as_str())).unwrap_or_default();
    TreePath::new("x")?.resolve(&dir.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin))
}

/// The libraries that the files of `tree` need and that are not in it: those that its own directory must be given.
pub(crate) fn needed_from_outside(tree: &Tree) -> Result<Vec<Needed>, Error> {
    let own: BTreeSet<&str> = tree.files().map(|(path, ..)| path.file_name()).collect();
    let mut needed: Vec<Needed> = Vec::new();
    for (path, _, data) in tree.files() {
        let dynamic = elf::read(data).map_err(|reason| Error::Archive { archive: path.to_string(), reason })?.unwrap_or_default();
        for soname in dynamic.needed {
            if !own.contains(soname.as_str()) && !needed.iter().any(|one| one.soname == soname) {
                needed.push(Needed { by: path.to_string(), soname });
            }
        }
    }
    needed.sort_by(|a, b| a.soname.cmp(&b.soname));
    Ok(needed)
}

/// The symlinks of the root that make `/bin` and its like part of `/usr`.
pub(crate) fn merged_usr(tree: &mut Tree, mtime: u64) {
    for name in MERGED {
        if let (Some(link), Some(dir)) = (TreePath::new(name), TreePath::new(&format!("usr/{name}"))) {
            tree.insert(link, Node::Symlink { target: format!("usr/{name}") }, mtime);
            if !tree.contains(&dir) {
                tree.insert(dir, Node::Dir, mtime);
            }
        }
    }
}
