//! Which packages an image takes: the recipe's roots and what they depend on (Debian Policy 7.2).
//!
//! The newest version of a name, the first alternative that can be met unless another one is chosen already, real packages
//! before virtual ones: what apt chooses, but for alternatives that compete across packages, which apt takes in the order in
//! which it meets them. Conflicts are not looked at: packages are only unpacked, and two that hold the same path are an
//! error there.

use crate::{
    debian::{
        index::Package,
        relation::{self, Relation},
        version::Version,
    },
    error::Error,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// The packages that can be chosen from, by name and by what they provide.
pub(crate) struct Candidates<'p> {
    by_name: HashMap<&'p str, &'p Package>,
    /// Name, then packages that provide it with the version that they provide.
    provided: HashMap<&'p str, Vec<(&'p Package, Option<&'p Version>)>>,
}

impl<'p> Candidates<'p> {
    /// The newest version of every name in `packages`. Of equal versions it is the first, and they must be the same file.
    pub(crate) fn new(packages: &'p [Package]) -> Result<Self, Error> {
        let mut by_name: HashMap<&str, &Package> = HashMap::new();
        for package in packages {
            let best = by_name.entry(&package.file.name).or_insert(package);
            if package.file.version == best.file.version && package.file.sha256 != best.file.sha256 {
                let reason = format!("version {} is listed as two different files", package.file.version);
                return Err(Error::Package { package: package.file.name.clone(), reason });
            }
            if package.file.version > best.file.version {
                *best = package;
            }
        }
        let mut sorted: Vec<&&Package> = by_name.values().collect();
        sorted.sort_by_key(|package| &package.file.name);
        let mut provided: HashMap<&str, Vec<_>> = HashMap::new();
        for package in sorted {
            for relation in &package.provides {
                let version = relation.bound.as_ref().map(|(_, version)| version);
                provided.entry(&relation.name).or_default().push((*package, version));
            }
        }
        Ok(Self { by_name, provided })
    }

    /// The newest version of the package called `name`.
    pub(crate) fn newest(&self, name: &str) -> Result<&'p Package, Error> {
        self.by_name.get(name).copied().ok_or_else(|| unsatisfiable("the recipe", name.to_owned()))
    }

    /// The packages that meet `relation`, the real one first.
    fn meeting<'s>(&'s self, relation: &'s Relation) -> impl Iterator<Item = &'p Package> + 's {
        let real = self.by_name.get(relation.name.as_str()).filter(|package| relation.admits(Some(&package.file.version)));
        let others = self.provided.get(relation.name.as_str()).into_iter().flatten();
        real.copied().into_iter().chain(others.filter(|(_, version)| relation.admits(*version)).map(|(package, _)| *package))
    }
}

/// A dependency that is decided only when everything unambiguous is chosen.
struct Pending<'p> {
    needed_by: &'p str,
    alternatives: &'p [Relation],
}

/// The closure of `roots`, by name, without `exclude` and without what only those need.
pub(crate) fn resolve<'p>(candidates: &Candidates<'p>, roots: &[String], exclude: &[String]) -> Result<Vec<&'p Package>, Error> {
    let mut resolution = Resolution { candidates, exclude: exclude.iter().map(String::as_str).collect(), chosen: BTreeMap::new(), pending: VecDeque::new() };
    for root in roots {
        resolution.take(candidates.newest(root)?);
    }
    while let Some(next) = resolution.pending.pop_front() {
        if let Some(package) = resolution.decide(&next)? {
            resolution.take(package);
        }
    }
    Ok(resolution.chosen.into_values().collect())
}

struct Resolution<'c, 'p> {
    candidates: &'c Candidates<'p>,
    exclude: BTreeSet<&'c str>,
    chosen: BTreeMap<&'p str, &'p Package>,
    pending: VecDeque<Pending<'p>>,
}

impl<'p> Resolution<'_, 'p> {
    /// Chooses `package` and everything that it needs unambiguously; what needs a decision waits.
    fn take(&mut self, package: &'p Package) {
        let mut queue = VecDeque::from([package]);
        while let Some(package) = queue.pop_front() {
            if self.chosen.insert(&package.file.name, package).is_some() {
                continue;
            }
            for alternatives in &package.depends {
                match self.unambiguous(alternatives) {
                    Some(only) => queue.push_back(only),
                    None => self.pending.push_back(Pending { needed_by: &package.file.name, alternatives }),
                }
            }
        }
    }

    /// The package of that very name, where nothing else is named and it is not left out.
    fn unambiguous(&self, alternatives: &[Relation]) -> Option<&'p Package> {
        let [only] = alternatives else { return None };
        let package = self.candidates.by_name.get(only.name.as_str()).copied()?;
        (only.admits(Some(&package.file.version)) && !self.exclude.contains(only.name.as_str())).then_some(package)
    }

    /// The package to take; none when one that will do is chosen already, or is left out on purpose.
    fn decide(&self, next: &Pending<'p>) -> Result<Option<&'p Package>, Error> {
        let meeting: Vec<&Package> = next.alternatives.iter().flat_map(|relation| self.candidates.meeting(relation)).collect();
        let is_chosen = |package: &&Package| self.chosen.get(package.file.name.as_str()).is_some_and(|one| std::ptr::eq(*one, *package));
        let is_excluded = |name: &str| self.exclude.contains(name);
        if meeting.iter().any(is_chosen) || next.alternatives.iter().any(|relation| is_excluded(&relation.name)) {
            return Ok(None);
        }
        match meeting.first() {
            Some(first) if is_excluded(&first.file.name) => Ok(None),
            Some(first) => Ok(Some(first)),
            None => Err(unsatisfiable(next.needed_by, relation::display(next.alternatives))),
        }
    }
}

fn unsatisfiable(needed_by: &str, relation: String) -> Error {
    Error::Unsatisfiable { needed_by: needed_by.to_owned(), relation }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{debian::index, recipe::Archive};

    const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Lines of `name version [Field: value]...`.
    fn closure(packages: &[&str], roots: &[&str], exclude: &[&str]) -> Result<String, Error> {
        let stanza = |line: &&str| {
            let (head, fields) = line.split_once(" | ").unwrap_or((line, ""));
            let (name, version) = head.split_once(' ').unwrap();
            format!("Package: {name}\nVersion: {version}\nFilename: {name}.deb\nSize: 1\nSHA256: {SUM}\n{}\n\n", fields.replace("; ", "\n"))
        };
        let packages = index::parse(Archive::Debian, &packages.iter().map(stanza).collect::<String>()).unwrap();
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let chosen = resolve(&Candidates::new(&packages).unwrap(), &owned(roots), &owned(exclude))?;
        Ok(chosen.iter().map(|package| format!("{}={}", package.file.name, package.file.version)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_closure_is_what_apt_would_choose() {
        let newest = closure(&["a 1 | Depends: b", "b 1", "b 2", "c 1"], &["a"], &[]);
        assert_eq!(newest.unwrap(), "a=1 b=2");
        let chosen_alternative_wins = closure(&["a 1 | Depends: x | y, z", "x 1", "y 1", "z 1 | Depends: y"], &["a"], &[]);
        assert_eq!(chosen_alternative_wins.unwrap(), "a=1 y=1 z=1");
        let virtual_package = closure(&["a 1 | Depends: v (>= 2)", "p 1 | Provides: v", "q 1 | Provides: v (= 2)"], &["a"], &[]);
        assert_eq!(virtual_package.unwrap(), "a=1 q=1");
        let real_before_virtual = closure(&["a 1 | Depends: v | w", "p 1 | Provides: v", "v 1"], &["a"], &[]);
        assert_eq!(real_before_virtual.unwrap(), "a=1 v=1");
        let cycle = closure(&["a 1 | Pre-Depends: b", "b 1 | Depends: a"], &["a"], &[]);
        assert_eq!(cycle.unwrap(), "a=1 b=1");
    }

    #[test]
    fn excluded_packages_and_what_only_they_need_are_left_out() {
        let packages = ["a 1 | Depends: b, c, e | f", "b 1 | Depends: d", "c 1", "d 1", "e 1", "f 1"];
        assert_eq!(closure(&packages, &["a"], &["b", "e"]).unwrap(), "a=1 c=1");
    }

    #[test]
    fn what_cannot_be_met_names_who_needs_it() {
        let error = closure(&["a 1 | Depends: b (>= 2) | c", "b 1"], &["a"], &[]).unwrap_err();
        assert_eq!(error.to_string(), "a needs b (>= 2) | c, which no package offers");
        assert!(matches!(closure(&["a 1"], &["nothing"], &[]), Err(Error::Unsatisfiable { .. })));
    }
}
