//! `torbox profile`: what a browser keeps between runs, as files of a closed list in a directory of the user's.
//!
//! A profile's settings are a file of their own, in another directory: whatever writes what a profile keeps never sets anything.
//!
//! An archive is believed nothing: what is not one of these files, once, plain and of bounded size, makes all of it refused. So do settings
//! that could weaken a box, unless whoever imports them says what is to be done with them.

use crate::args::{Archive, Foreign, Format, Import, ProfileAction};
use crate::config;
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

/// The settings in an archive, and how long they may be.
const SETTINGS: &str = "settings.toml";
const MAX_SETTINGS: u64 = 64 << 10;

/// Does what was asked for.
pub(crate) fn profile(dirs: &Dirs, action: &ProfileAction) -> Result<(), CliError> {
    match action {
        ProfileAction::Create(profile) => create(dirs, &profile.name),
        ProfileAction::List(format) => list(dirs, format),
        ProfileAction::Remove(profile) => remove(dirs, &profile.name),
        ProfileAction::Export(archive) => export(dirs, archive),
        ProfileAction::Import(wanted) => import(dirs, wanted),
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
    // What is still listed can be removed again: the profile itself comes after its settings.
    dirs::remove(&dirs.settings_of(name))?;
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
        let size = contents.metadata().map_err(failed)?.len();
        append(&mut archive, kept, size, contents).map_err(failed)?;
    }
    if let Some(settings) = config::read(&dirs.settings_of(name))? {
        append(&mut archive, SETTINGS, settings.len() as u64, settings.as_bytes()).map_err(failed)?;
    }
    archive.into_inner().and_then(|mut file| file.flush()).map_err(failed)
}

fn append(archive: &mut Builder<File>, name: &str, size: u64, contents: impl Read) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(size);
    archive.append_data(&mut header, name, contents)
}

/// The profile is there when all of it is.
fn import(dirs: &Dirs, Import { archive: Archive { name, file }, settings }: &Import) -> Result<(), CliError> {
    let path = dirs.profile(name);
    if path.exists() {
        return Err(CliError::ProfileExists(name.clone()));
    }
    let _claim = control::hold(dirs, name)?;
    let fresh = path.with_file_name(format!(".{name}.new"));
    fs::remove_dir_all(&fresh).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }).map_err(|source| CliError::Path { path: fresh.clone(), source })?;
    dirs::make(fresh.clone())?;
    let refused = |error: io::Error| CliError::Archive { path: file.clone(), reason: error.to_string() };
    let unpacked = File::open(file).and_then(|archive| unpack(archive, &fresh)).map_err(refused);
    let placed = unpacked.and_then(|found| set(&dirs.settings_of(name), file, found.filter(|_| *settings != Some(Foreign::Leave)), *settings));
    if let Err(error) = placed {
        fs::remove_dir_all(&fresh).map_err(|source| CliError::Path { path: fresh, source })?;
        return Err(error);
    }
    // Last: a profile whose settings are still missing could be used without its proxy.
    fs::rename(&fresh, &path).map_err(|source| CliError::Path { path, source })
}

/// Gives the profile the settings that came with an archive, and none that were there before the profile was.
fn set(path: &Path, archive: &Path, found: Option<String>, wanted: Option<Foreign>) -> Result<(), CliError> {
    dirs::remove(path)?;
    let Some(text) = found else { return Ok(()) };
    // What it says is shown on a terminal.
    let plain = |text: String| text.replace(char::is_control, "?");
    let weaker = config::not_harmless(archive, &text).map_err(|error| CliError::Archive { path: archive.to_owned(), reason: plain(error.to_string()) })?;
    if !weaker.is_empty() && wanted != Some(Foreign::Take) {
        return Err(CliError::ForeignSettings { path: archive.to_owned(), settings: plain(weaker.join(", ")) });
    }
    config::write(path, &text)
}

/// Unpacks what a profile keeps, and returns its settings.
fn unpack(archive: impl Read, target: &Path) -> io::Result<Option<String>> {
    let (mut seen, mut settings) = (BTreeSet::new(), None);
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        let path = entry.path_bytes().into_owned();
        let known = PROFILE_FILES.iter().chain([&SETTINGS]).find(|file| file.as_bytes() == path);
        let known = known.ok_or_else(|| io::Error::other(format!("it holds {:?}", String::from_utf8_lossy(&path))))?;
        if entry.header().entry_type() != EntryType::Regular || !seen.insert(*known) {
            return Err(io::Error::other(format!("its {known} is no plain file, or there twice")));
        }
        if *known == SETTINGS {
            let mut text = String::new();
            if entry.take(MAX_SETTINGS + 1).read_to_string(&mut text)? as u64 > MAX_SETTINGS {
                return Err(io::Error::other(format!("its {SETTINGS} is larger than 64 KiB")));
            }
            settings = Some(text);
            continue;
        }
        let mut file = system::private_file().create_new(true).open(target.join(known))?;
        if entry.size() > MAX_FILE || io::copy(&mut entry.take(MAX_FILE + 1), &mut file)? > MAX_FILE {
            return Err(io::Error::other(format!("its {known} is larger than 64 MiB")));
        }
    }
    if seen.is_empty() { Err(io::Error::other("it holds nothing")) } else { Ok(settings) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unpacks an archive of these entries into a directory of its own, and says which files came of it, and which settings.
    fn unpacked(entries: &[(&str, EntryType, &[u8])]) -> io::Result<(Vec<String>, Option<String>)> {
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
        result.map(|settings| (files, settings))
    }

    #[test]
    fn an_archive_holds_the_known_files_or_is_refused() {
        let plain = EntryType::Regular;
        let files = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(unpacked(&[("prefs.js", plain, b"x"), ("places.sqlite", plain, b"y")]).unwrap(), (files(&["places.sqlite", "prefs.js"]), None));
        assert_eq!(unpacked(&[("settings.toml", plain, b"wait = true"), ("prefs.js", plain, b"x")]).unwrap(), (files(&["prefs.js"]), Some("wait = true".to_owned())), "no file of the profile's");
        let large = vec![0; usize::try_from(MAX_FILE).unwrap() + 1];
        let refused: [&[(&str, EntryType, &[u8])]; 13] = [
            &[],
            &[("prefs.js", plain, b"x"), ("../prefs.js", plain, b"x")],
            &[("/tmp/prefs.js", plain, b"x")],
            &[("./prefs.js", plain, b"x")],
            &[("extensions.json", plain, b"x")],
            &[("prefs.js", EntryType::Symlink, b"")],
            &[("prefs.js", EntryType::Directory, b"")],
            &[("prefs.js", plain, b"x"), ("prefs.js", plain, b"x")],
            &[("places.sqlite", plain, &large)],
            &[("settings.toml", plain, b"\xff")],
            &[("settings.toml", plain, large.get(..(64 << 10) + 1).unwrap())],
            &[("settings.toml", plain, b"wait = true"), ("settings.toml", plain, b"wait = true")],
            &[("settings.toml", EntryType::Symlink, b"")],
        ];
        for entries in refused {
            assert!(unpacked(entries).is_err(), "{:?}", entries.iter().map(|entry| (entry.0, entry.1)).collect::<Vec<_>>());
        }
    }

    /// Every setting but `wait` is one that an archive does not give unasked.
    #[test]
    fn settings_of_an_archive_weaken_nothing_unasked() {
        let dir = std::env::temp_dir().join(format!("torbox-foreign-{}", std::process::id()));
        let path = dir.join("work.toml");
        let given = |text: &str, wanted| {
            let given = set(&path, Path::new("work.tar"), Some(text.to_owned()), wanted);
            given.map(|()| fs::read_to_string(&path).unwrap())
        };
        assert_eq!(given("wait = true\n", None).unwrap(), "wait = true\n");
        let weaker = [
            "display = \"x11-trusted\"", "display = \"auto\"", "backend = \"docker\"", "engine = \"unix:///tmp/engine\"", "oci-runtime = \"runc\"",
            "proxy = \"socks5://192.0.2.1:1080\"", "reachable-ports = \"4443\"", "verbose = true",
        ];
        for text in weaker {
            let both = format!("wait = true\n{text}\n");
            assert!(matches!(given(&both, None).unwrap_err(), CliError::ForeignSettings { settings, .. } if settings == text), "{text}");
            assert!(!path.exists(), "{text}: nothing of before holds either");
            assert_eq!(given(&both, Some(Foreign::Take)).unwrap(), both);
        }
        for text in ["torrc = \"/tmp/torrc\"", "browser = \"firefox-esr\"", "mirror = [\"http://a/debian\"]", "display = \"windows\"", "wait", "\"\\u001b[2J\" = 1"] {
            let refused = given(text, Some(Foreign::Take)).unwrap_err();
            assert!(matches!(&refused, CliError::Archive { .. }) && !refused.to_string().contains('\u{1b}'), "{text}: {refused}");
        }
        let refused = given("proxy = \"socks5://me:secret@192.0.2.1:1080\"", None).unwrap_err().to_string();
        assert!(refused.contains("socks5://...@192.0.2.1:1080") && !refused.contains("secret"), "{refused}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
