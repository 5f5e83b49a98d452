//! The layer of libraries and data: the part of the packages that the recipe keeps, and what scripts would have made.

use crate::{
    build::{Build, LayerRecord, NewLayer},
    debian::{
        deb::{self, PackageEntry},
        index::PackageFile,
    },
    error::Error,
    fetch::Wanted,
    generate,
    lock::Lock,
    parallel,
    select::{self, Needed},
    tree::{Node, Tree, TreePath},
};

const DOWNLOADS: usize = 4;
const UNPACKERS: usize = 2;
/// Directories that no recipe takes anything from: not even unpacked.
const NEVER: [&str; 8] = ["usr/share/bug/", "usr/share/doc/", "usr/share/help/", "usr/share/info/", "usr/share/lintian/", "usr/share/locale/", "usr/share/man/", "usr/share/perl5/"];

/// The layer for the packages of `lock` and for a browser that needs `needs` of it.
pub(crate) fn layer(build: &mut Build<'_>, lock: &Lock, needs: &[Needed]) -> Result<LayerRecord, Error> {
    let mut key = build.fingerprint("base")?.with(lock.packages_digest().to_string().as_bytes());
    for needed in needs {
        key = key.with(needed.soname.as_bytes());
    }
    build.layer(key.finish(), "libraries", |build| {
        let packages = unpack(build, &lock.packages)?;
        let (recipe, arch) = (build.recipe, build.request.arch);
        let mut tree = select::select(recipe.name.as_str(), &recipe.files, arch, &packages, needs)?;
        let mtime = tree.newest();
        select::merged_usr(&mut tree, mtime);
        generate::add(&recipe.files.generate, arch, &packages, &mut tree, mtime)?;
        Ok(NewLayer { tree, version: None, needs: Vec::new() })
    })
}

/// Fetches packages, checks them, and merges their files.
pub(crate) fn unpack(build: &mut Build<'_>, packages: &[PackageFile]) -> Result<Tree, Error> {
    let client = build.client();
    let wanted: Vec<Wanted> = packages.iter().map(|package| client.wanted(package)).collect();
    fetch(build, &wanted)?;
    build.progress.phase(&format!("unpacking {} packages", packages.len()));
    let fetcher = build.fetcher;
    let keep = |path: &TreePath| !NEVER.iter().any(|never| path.as_str().starts_with(never));
    let mut done = 0;
    let unpacked = parallel::map(
        &wanted,
        UNPACKERS,
        |wanted, tell| {
            let entries = deb::entries(&wanted.what, &fetcher.bytes(wanted)?, &keep);
            tell(wanted.size);
            entries
        },
        |amount| {
            done += amount;
            build.progress.advance(done, Some(wanted.iter().map(|one| one.size).sum()));
        },
    )?;
    let mut tree = Tree::default();
    for (wanted, entries) in wanted.iter().zip(unpacked) {
        entries.into_iter().try_for_each(|entry| merge(&mut tree, &wanted.what, entry))?;
    }
    Ok(tree)
}

fn fetch(build: &mut Build<'_>, wanted: &[Wanted]) -> Result<(), Error> {
    let total = wanted.iter().map(|one| one.size).sum();
    build.progress.phase(&format!("fetching {} packages", wanted.len()));
    let (fetcher, mut done) = (build.fetcher, 0);
    parallel::map(wanted, DOWNLOADS, |wanted, tell| fetcher.ensure(wanted, tell), |amount| {
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
