//! The layer of libraries and data: the part of the packages that the recipe keeps, and what scripts would have made.

use crate::{
    build::{Build, LayerRecord, NewLayer},
    debian::{
        deb::{self, PackageEntry},
        index::PackageFile,
    },
    digest::Digest,
    error::Error,
    fetch::{Step, Wanted},
    generate,
    lock::Lock,
    parallel,
    sbom::Files,
    select::{self, Needed},
    tree::{Node, Tree, TreePath},
};
use std::collections::BTreeMap;

const DOWNLOADS: usize = 4;
/// Directories that no recipe takes anything from: not even unpacked.
const NEVER: [&str; 8] = ["usr/share/bug/", "usr/share/doc/", "usr/share/help/", "usr/share/info/", "usr/share/lintian/", "usr/share/locale/", "usr/share/man/", "usr/share/perl5/"];

/// The layer for the packages of `lock` and for a browser that needs `needs` of it.
pub(crate) fn layer(build: &mut Build<'_>, lock: &Lock, needs: &[Needed]) -> Result<LayerRecord, Error> {
    let mut key = build.fingerprint("base")?.with(lock.packages_digest().to_string().as_bytes());
    for needed in needs {
        key = key.with(needed.soname.as_bytes());
    }
    build.layer(key.finish(), "libraries", |build| {
        let Unpacked { tree: packages, owners } = unpack(build, &lock.packages)?;
        let (recipe, arch) = (build.recipe, build.request.arch);
        let mut tree = select::select(recipe.name.as_str(), &recipe.files, arch, &packages, needs)?;
        let mtime = tree.newest();
        select::merged_usr(&mut tree, mtime);
        generate::add(&recipe.files.generate, arch, &packages, &mut tree, mtime)?;
        let origins = origins(&tree, &owners);
        Ok(NewLayer { origins, ..NewLayer::of(tree) })
    })
}

/// The files of the layer by the package that they are from; those of the builder's own making are under no name.
fn origins(tree: &Tree, owners: &BTreeMap<TreePath, String>) -> BTreeMap<String, Files> {
    let mut origins: BTreeMap<String, Files> = BTreeMap::new();
    for (path, _, data) in tree.files() {
        let owner = owners.get(path).cloned().unwrap_or_default();
        origins.entry(owner).or_default().insert(path.to_string(), Digest::of(data));
    }
    origins
}

/// What packages hold, and the package of each path.
pub(crate) struct Unpacked {
    pub(crate) tree: Tree,
    owners: BTreeMap<TreePath, String>,
}

/// Fetches packages, checks them, and merges their files.
pub(crate) fn unpack(build: &mut Build<'_>, packages: &[PackageFile]) -> Result<Unpacked, Error> {
    let client = build.client();
    let total = packages.iter().map(|package| package.size).sum();
    let wanted: Vec<Wanted<'_>> = packages.iter().map(|package| client.wanted(package)).collect();
    fetch(build, &wanted, total)?;
    build.progress.phase(&format!("unpacking {} packages", packages.len()));
    let fetcher = build.fetcher;
    let keep = |path: &TreePath| !NEVER.iter().any(|never| path.as_str().starts_with(never));
    let mut done = 0;
    let unpacked = parallel::map(
        &wanted,
        parallel::threads(),
        |wanted, tell| {
            let bytes = fetcher.bytes(wanted)?;
            tell(bytes.len() as u64);
            deb::entries(&wanted.what, &bytes, &keep)
        },
        |amount| {
            done += amount;
            build.progress.advance(done, Some(total));
        },
    )?;
    let mut all = Unpacked { tree: Tree::default(), owners: BTreeMap::new() };
    for ((package, wanted), entries) in packages.iter().zip(&wanted).zip(unpacked) {
        for entry in entries {
            all.owners.insert(entry.path.clone(), package.name.clone());
            merge(&mut all.tree, &wanted.what, entry)?;
        }
    }
    Ok(all)
}

fn fetch(build: &mut Build<'_>, wanted: &[Wanted<'_>], total: u64) -> Result<(), Error> {
    build.progress.phase(&format!("fetching {} packages", wanted.len()));
    let (fetcher, mut done) = (build.fetcher, 0);
    let one = |wanted: &Wanted<'_>, tell: &dyn Fn(u64)| {
        fetcher.ensure(wanted, &|step| match step {
            Step::Had(amount) => tell(amount),
            Step::Whole(_) => {}
        })
    };
    parallel::map(wanted, DOWNLOADS, one, |amount| {
        done += amount;
        build.progress.advance(done, Some(total));
    })?;
    Ok(())
}

/// Two packages may share a directory, or hold the very same thing; anything else would depend on who came last.
fn merge(tree: &mut Tree, package: &str, entry: PackageEntry) -> Result<(), Error> {
    match tree.get(&entry.path) {
        Some(earlier) if earlier.node == Node::Dir && entry.node == Node::Dir => return Ok(()),
        Some(earlier) if earlier.node != entry.node => {
            return Err(Error::Package { package: package.to_owned(), reason: format!("another package holds {} too", entry.path) });
        }
        _ => {}
    }
    tree.insert(entry.path, entry.node, entry.mtime);
    Ok(())
}
