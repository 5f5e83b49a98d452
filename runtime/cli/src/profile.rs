//! `torbox profile`: what a browser keeps between runs, as files of a closed list in a directory of the user's.
//!
//! An archive is believed nothing: what is not one of these files, once, plain and of bounded size, makes all of it refused.

use crate::args::{Archive, Format, ProfileAction};
use crate::control;
use crate::dirs::{self, Dirs};
use crate::error::CliError;
use crate::system;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use tar::{Builder, EntryType, Header};
use torbox_plan::{BoxName, PROFILE_FILES};

/// The largest file that a profile keeps, as in the runtime.
const MAX_FILE: u64 = 64 << 20;

/// Does what was asked for.
pub(crate) fn profile(dirs: &Dirs, action: &ProfileAction) -> Result<(), CliError> {
    match action {
        ProfileAction::Create(profile) => create(dirs, &profile.name),
        ProfileAction::List(format) => list(dirs, format),
        ProfileAction::Remove(profile) => remove(dirs, &profile.name),
        ProfileAction::Export(archive) => export(dirs, archive),
        ProfileAction::Import(archive) => import(dirs, archive),
    }
}

/// Fails if a profile is wanted that is not there.
pub(crate) fn check(dirs: &Dirs, name: Option<&BoxName>) -> Result<(), CliError> {
    match name {
        Some(name) if !dirs.profile(name).is_dir() => Err(CliError::NoProfile(name.clone())),
        _ => Ok(()),
    }
}

fn create(dirs: &Dirs, name: &BoxName) -> Result<(), CliError> {
    let path = dirs.profile(name);
    if path.exists() { Err(CliError::ProfileExists(name.clone())) } else { dirs::make(path).map(drop) }
}

fn list(dirs: &Dirs, format: &Format) -> Result<(), CliError> {
    let entries = fs::read_dir(dirs.profiles()).into_iter().flatten().filter_map(Result::ok);
    let names: BTreeSet<_> = entries.filter_map(|entry| BoxName::new(entry.file_name().to_str()?).ok()).collect();
    let size = |name: &BoxName| PROFILE_FILES.iter().filter_map(|file| fs::metadata(dirs.profile(name).join(file)).ok()).map(|metadata| metadata.len()).sum::<u64>();
    if format.json {
        let list: Vec<_> = names.iter().map(|name| serde_json::json!({"name": name, "bytes": size(name)})).collect();
        println!("{}", serde_json::Value::Array(list));
    } else if names.is_empty() {
        println!("there is no profile: every box forgets its browser");
    }
    for name in names.iter().filter(|_| !format.json) {
        println!("{:24} {:6.1} MB", name.as_str(), size(name) as f64 / 1e6);
    }
    Ok(())
}

fn remove(dirs: &Dirs, name: &BoxName) -> Result<(), CliError> {
    check(dirs, Some(name))?;
    let _claim = control::hold(dirs, name)?;
    for path in [dirs.profile(name), dirs.kept(name)] {
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(CliError::Path { path, source }),
            _ => {}
        }
    }
    Ok(())
}

/// The archive says nothing of who made it, and when.
fn export(dirs: &Dirs, Archive { name, file }: &Archive) -> Result<(), CliError> {
    check(dirs, Some(name))?;
    let _claim = control::hold(dirs, name)?;
    let failed = |source| CliError::Path { path: file.clone(), source };
    let mut archive = Builder::new(system::private_file().create_new(true).open(file).map_err(failed)?);
    for kept in PROFILE_FILES {
        let contents = match File::open(dirs.profile(name).join(kept)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(failed)?,
        };
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(contents.metadata().map_err(failed)?.len());
        archive.append_data(&mut header, kept, contents).map_err(failed)?;
    }
    archive.into_inner().and_then(|mut file| file.flush()).map_err(failed)
}

/// The profile is there when all of it is.
fn import(dirs: &Dirs, Archive { name, file }: &Archive) -> Result<(), CliError> {
    let path = dirs.profile(name);
    if path.exists() {
        return Err(CliError::ProfileExists(name.clone()));
    }
    let _claim = control::hold(dirs, name)?;
    let fresh = path.with_file_name(format!(".{name}.new"));
    fs::remove_dir_all(&fresh).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }).map_err(|source| CliError::Path { path: fresh.clone(), source })?;
    dirs::make(fresh.clone())?;
    let unpacked = File::open(file).and_then(|archive| unpack(archive, &fresh)).map_err(|error| CliError::Archive { path: file.clone(), reason: error.to_string() });
    if let Err(error) = unpacked {
        fs::remove_dir_all(&fresh).map_err(|source| CliError::Path { path: fresh, source })?;
        return Err(error);
    }
    fs::rename(&fresh, &path).map_err(|source| CliError::Path { path, source })
}

fn unpack(archive: impl Read, target: &Path) -> io::Result<()> {
    let mut seen = BTreeSet::new();
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        let path = entry.path_bytes().into_owned();
        let known = PROFILE_FILES.iter().find(|file| file.as_bytes() == path);
        let known = known.ok_or_else(|| io::Error::other(format!("it holds {:?}", String::from_utf8_lossy(&path))))?;
        if entry.header().entry_type() != EntryType::Regular || !seen.insert(*known) {
            return Err(io::Error::other(format!("its {known} is no plain file, or there twice")));
        }
        let mut file = system::private_file().create_new(true).open(target.join(known))?;
        if entry.size() > MAX_FILE || io::copy(&mut entry.take(MAX_FILE + 1), &mut file)? > MAX_FILE {
            return Err(io::Error::other(format!("its {known} is larger than 64 MiB")));
        }
    }
    if seen.is_empty() { Err(io::Error::other("it holds nothing")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unpacks an archive of these entries into a directory of its own, and says what came of it.
    fn unpacked(entries: &[(&str, EntryType, &[u8])]) -> io::Result<Vec<String>> {
        let mut archive = Builder::new(Vec::new());
        for (name, kind, contents) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(contents.len() as u64);
            // Past the checks of who writes archives.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            if *kind == EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            archive.append(&header, *contents).unwrap();
        }
        let target = std::env::temp_dir().join(format!("torbox-profile-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir(&target).unwrap();
        let result = unpack(archive.into_inner().unwrap().as_slice(), &target);
        let mut files: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        fs::remove_dir_all(&target).unwrap();
        files.sort();
        result.map(|()| files)
    }

    #[test]
    fn an_archive_holds_the_known_files_or_is_refused() {
        let plain = EntryType::Regular;
        assert_eq!(unpacked(&[("prefs.js", plain, b"x"), ("places.sqlite", plain, b"y")]).unwrap(), ["places.sqlite", "prefs.js"]);
        let large = vec![0; usize::try_from(MAX_FILE).unwrap() + 1];
        let refused: [&[(&str, EntryType, &[u8])]; 9] = [
            &[],
            &[("prefs.js", plain, b"x"), ("../prefs.js", plain, b"x")],
            &[("/tmp/prefs.js", plain, b"x")],
            &[("./prefs.js", plain, b"x")],
            &[("extensions.json", plain, b"x")],
            &[("prefs.js", EntryType::Symlink, b"")],
            &[("prefs.js", EntryType::Directory, b"")],
            &[("prefs.js", plain, b"x"), ("prefs.js", plain, b"x")],
            &[("places.sqlite", plain, &large)],
        ];
        for entries in refused {
            assert!(unpacked(entries).is_err(), "{:?}", entries.iter().map(|entry| (entry.0, entry.1)).collect::<Vec<_>>());
        }
    }
}
