//! What the user takes out of a running box and puts into it, by whichever backend: regular files, each way through one directory.
//!
//! What lies in the box was made by whoever took the browser over: names are made harmless here, nothing is longer than its directory can
//! hold, and on the user's side nothing is written over, executable, or for anybody else.

use crate::engine::EngineError;
use crate::system;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use torbox_plan::Limits;

pub use system::Directory;

/// A file that could not be taken out or put in.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The browser's container could not be entered.
    #[error("the browser's container cannot be entered")]
    Enter(#[source] io::Error),
    /// One of its directories, or one of the user's, could not be used.
    #[error("cannot use {}", path.display())]
    Place {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The engine did not do its part.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What runs in the browser's container did not do its part.
    #[error("the browser's container did not hand {name:?} over; its init said {said:?}")]
    Broken {
        /// Which, with a safe name.
        name: String,
        /// What it said, if anything: nothing that is to be believed.
        said: String,
    },
    /// No file of that name was downloaded.
    #[error("there is no download {0:?}")]
    Missing(String),
    /// What has that name cannot be taken out.
    #[error("{name:?} is {what}")]
    Refused {
        /// Which, with a safe name.
        name: String,
        /// What it is instead of a file that can be had.
        what: &'static str,
    },
}

/// Something that lies among the downloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    pub(crate) name: Vec<u8>,
    /// Its name as it can be shown, and given to a file.
    pub safe_name: String,
    /// Bytes.
    pub size: u64,
    /// Why it cannot be taken out, if it cannot.
    pub refused: Option<&'static str>,
}

impl Download {
    /// Judges what has this type and mode (inode(7)).
    pub(crate) fn new(name: Vec<u8>, mode: u32, size: u64) -> Self {
        // Linux's numbers, whatever this system's are.
        let refused = match mode & 0o170_000 {
            0o100_000 if size > limit() => Some("longer than it can be"),
            0o100_000 if name.ends_with(b".part") => Some("still being downloaded"),
            0o100_000 => None,
            0o040_000 => Some("a directory"),
            0o120_000 => Some("a symbolic link"),
            _ => Some("no regular file"),
        };
        Self { safe_name: safe_name(&String::from_utf8_lossy(&name)), name, size, refused }
    }

    /// An error if it is nothing that can be taken out.
    pub(crate) fn allowed(&self) -> Result<(), FilesError> {
        self.refused.map_or(Ok(()), |what| Err(self.refuse(what)))
    }

    pub(crate) fn refuse(&self, what: &'static str) -> FilesError {
        FilesError::Refused { name: self.safe_name.clone(), what }
    }
}

impl FilesError {
    pub(crate) fn at(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Place { path: path.as_ref().to_owned(), source }
    }
}

/// A running box, as far as files are concerned.
pub trait Exchange {
    /// What was downloaded, by name.
    ///
    /// # Errors
    /// [`FilesError`].
    fn downloads(&self) -> Result<Vec<Download>, FilesError>;

    /// Copies a download into the directory `to`, for its owner alone and not executable. The name is its safe name, with a number where
    /// that is taken; nothing is overwritten.
    ///
    /// # Errors
    /// [`FilesError`]; what was copied until then is removed.
    fn save(&self, download: &Download, to: &Directory) -> Result<String, FilesError>;

    /// Copies what `from` holds into the box under `name`, or one made of it; the browser can read it, and change nothing of it.
    ///
    /// # Errors
    /// [`FilesError`]; what was copied until then is removed.
    fn put(&self, from: &File, name: &str) -> Result<String, FilesError>;
}

/// Opens a directory of the user's, which has to be done before a box is joined.
///
/// # Errors
/// [`FilesError::Place`].
pub fn open_directory(path: &Path) -> Result<Directory, FilesError> {
    Directory::open(path).map_err(|source| FilesError::at(path, source))
}

/// More than a directory of the box can hold.
pub(crate) fn limit() -> u64 {
    Limits::default().exchange
}

/// A new file in `dir`, under `name` or one made of it.
fn create(dir: &Directory, name: &str, mode: u32) -> io::Result<(String, File)> {
    for number in 0..SAME {
        let name = numbered(name, number);
        match dir.create_new(&name, mode) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => return Ok((name, other?)),
        }
    }
    Err(io::Error::other("there are a thousand files of that name"))
}

/// A name that no program takes for anything else: without control characters and those that turn text around, separators, what another
/// system reserves, and without a dot, a dash or a space at its ends where that would hide it or make an option of it. At most 120
/// characters; what comes behind the last dot stays.
#[must_use]
pub fn safe_name(name: &str) -> String {
    const LONGEST: usize = 120;
    const RESERVED: &str = "/\\<>:\"|?*\u{fffd}";
    let misleading = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}');
    let plain: String = name.chars().map(|c| if c.is_control() || misleading(c) || RESERVED.contains(c) { '_' } else { c }).collect();
    let trimmed = plain.trim_start_matches(['.', '-', ' ']).trim_end_matches(['.', ' ']);
    let whole = if is_device(trimmed) { format!("_{trimmed}") } else { trimmed.to_owned() };
    let (stem, extension) = split(&whole);
    let room = LONGEST.saturating_sub(extension.chars().count());
    match stem.chars().take(room).collect::<String>() + extension {
        name if name.is_empty() => "download".to_owned(),
        name => name,
    }
}

/// Whether Windows takes it for a device, whatever comes behind its first dot.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |kind| stem.strip_prefix(kind).is_some_and(|rest| ["1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³"].contains(&rest));
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str()) || numbered("COM") || numbered("LPT")
}

/// What comes before the last dot, and that dot with what follows; a long end is no extension.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= 16 => name.split_at(at),
        _ => (name, ""),
    }
}

/// A new file in `dir` with what `copy` writes into it; its name, which is `name` or one made of it. What was written until `copy` fails is removed.
pub(crate) fn write_new(dir: &Directory, name: &str, mode: u32, copy: impl FnOnce(&mut File) -> Result<(), FilesError>) -> Result<String, FilesError> {
    let (name, mut file) = create(dir, name, mode).map_err(|source| FilesError::at(name, source))?;
    if let Err(error) = copy(&mut file) {
        dir.remove(&name).ok();
        return Err(error);
    }
    Ok(name)
}

/// How often a name may be there already.
pub(crate) const SAME: u32 = 1000;

pub(crate) fn numbered(name: &str, number: u32) -> String {
    let (stem, extension) = split(name);
    if number == 0 { name.to_owned() } else { format!("{stem} ({number}){extension}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_harmless_and_stay_readable() {
        let long = "x".repeat(300) + ".tar";
        for (name, safe) in [
            ("letter.txt", "letter.txt"),
            ("Übung 1.pdf", "Übung 1.pdf"),
            ("-rf", "rf"),
            (".bashrc", "bashrc"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("invoice\u{202e}fdp.exe", "invoice_fdp.exe"),
            ("a\nb\x1b[31m.txt", "a_b_[31m.txt"),
            ("C:\\x?.txt", "C__x_.txt"),
            ("...", "download"),
            ("end. . ", "end"),
            ("con.txt", "_con.txt"),
            ("LPT1 .pdf", "_LPT1 .pdf"),
            ("console.log", "console.log"),
            (&long, &("x".repeat(116) + ".tar")),
        ] {
            assert_eq!(safe_name(name), *safe, "{name:?}");
        }
        assert_eq!(safe_name(&String::from_utf8_lossy(b"\xff.txt")), "_.txt");
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let to = open_directory(dir.path()).unwrap();
        let made = ["a.tar", "a.tar", "a.tar"].map(|name| create(&to, name, 0o600).unwrap().0);
        assert_eq!(made, ["a.tar", "a (1).tar", "a (2).tar"]);
        std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).unwrap();
        assert_eq!(create(&to, "link", 0o600).unwrap().0, "link (1)");
        assert!(!dir.path().join("elsewhere").exists());
    }
}
