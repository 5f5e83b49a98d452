//! `torbox desktop`: the applications' entry of a box (Desktop Entry Specification; Icon Theme Specification; AppStream).
//!
//! The entry is offered as a handler for web addresses and never made the default one.

use crate::args::{Args, Command as Verb, DesktopAction, Install, Remove};
use crate::dirs;
use crate::error::CliError;
use crate::system;
use clap::Parser;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use torbox_plan::BoxName;

/// Names the entry, its icon and its metadata.
const ID: &str = "dev.torbox.Torbox";
const ICON: &str = include_str!("../desktop/dev.torbox.Torbox.svg");
const METAINFO: &str = include_str!("../desktop/dev.torbox.Torbox.metainfo.xml");

/// Installs or removes an entry.
pub(crate) fn desktop(dir: Option<&Path>, action: &DesktopAction) -> Result<(), CliError> {
    system::linux_alone("torbox desktop", "torbox run opens a box, and torbox open an address in it")?;
    match action {
        DesktopAction::Install(install) => self::install(dir, install),
        DesktopAction::Remove(remove) => self::remove(remove),
    }
}

fn install(dir: Option<&Path>, args: &Install) -> Result<(), CliError> {
    let share = share(args.share.as_deref())?;
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|error| CliError::System("find torbox itself", error))?,
    };
    let entry = Entry::new(&program, dir, &args.options)?;
    let working = std::env::current_dir().map_err(|error| CliError::System("find the working directory", error))?;
    write(&share.join("icons/hicolor/scalable/apps"), &format!("{ID}.svg"), ICON)?;
    write(&share.join("metainfo"), &format!("{ID}.metainfo.xml"), METAINFO)?;
    let applications = share.join("applications");
    write(&applications, &file_name(&entry.name), &entry.text(args.program.is_none().then_some(&working)))?;
    refresh(&applications);
    println!("{}", applications.join(file_name(&entry.name)).display());
    Ok(())
}

fn remove(args: &Remove) -> Result<(), CliError> {
    let share = share(args.share.as_deref())?;
    let applications = share.join("applications");
    dirs::remove(&applications.join(file_name(&args.name)))?;
    if !holds(&applications, |name| name.starts_with(ID)) {
        dirs::remove(&share.join("icons/hicolor/scalable/apps").join(format!("{ID}.svg")))?;
        dirs::remove(&share.join("metainfo").join(format!("{ID}.metainfo.xml")))?;
    }
    refresh(&applications);
    // Of no entry at all there is nothing to be kept.
    if !holds(&applications, |name| name.ends_with(".desktop")) { dirs::remove(&applications.join("mimeinfo.cache")) } else { Ok(()) }
}

/// Whether a directory has a file of such a name.
fn holds(dir: &Path, wanted: impl Fn(&str) -> bool) -> bool {
    fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| wanted(&entry.file_name().to_string_lossy()))
}

/// An entry before it is text.
struct Entry {
    name: BoxName,
    title: String,
    program: String,
    /// The words of every call, before the verb.
    common: Vec<String>,
    options: Vec<String>,
    /// The same for an audit, which is made in a box beside the one that runs.
    audit: Vec<String>,
}

impl Entry {
    /// The options are checked as those of `torbox run`.
    fn new(program: &Path, dir: Option<&Path>, options: &[String]) -> Result<Self, CliError> {
        let words = ["torbox", "run"].into_iter().map(str::to_owned).chain(options.iter().cloned());
        let args = Args::try_parse_from(words).unwrap_or_else(|error| error.exit());
        let Verb::Run(run) = args.command else { return Err(CliError::DesktopOptions) };
        if run.url.is_some() || run.window {
            return Err(CliError::DesktopOptions);
        }
        let common = match dir.map(std::path::absolute).transpose() {
            Ok(dir) => dir.into_iter().flat_map(|dir| ["--dir".to_owned(), dir.display().to_string()]).collect(),
            Err(error) => return Err(CliError::System("find the directory", error)),
        };
        let name = run.of.profile.unwrap_or(run.of.name);
        let which = if is_default(&name) { String::new() } else { format!(" ({name})") };
        let title = run.of.browser.title();
        let audit = beside(&name, options);
        Ok(Self { audit, title: format!("{title}{which}"), name, program: program.display().to_string(), common, options: options.to_vec() })
    }

    /// With `working`, relative paths in the options are meant from there.
    fn text(&self, working: Option<&PathBuf>) -> String {
        let call = |words: &[&str]| {
            let words = [self.program.as_str()].into_iter().chain(self.common.iter().map(String::as_str)).chain(words.iter().copied());
            words.map(quote).collect::<Vec<_>>().join(" ")
        };
        let name = self.name.as_str();
        let audit: Vec<&str> = ["audit", "--window"].into_iter().chain(self.audit.iter().map(String::as_str)).collect();
        let options: Vec<&str> = ["run", "--window"].into_iter().chain(self.options.iter().map(String::as_str)).collect();
        let path = working.map(|path| format!("Path={}\n", escape(&path.display().to_string()))).unwrap_or_default();
        // What follows `--` is never an option.
        let lines = [
            "[Desktop Entry]\nType=Application".to_owned(),
            format!("Name={}\nGenericName=Web Browser\nComment=Browse in a box that does not know who you are", self.title),
            format!("Exec={} -- %u\n{path}TryExec={}\nIcon={ID}\nTerminal=false", call(&options), escape(&self.program)),
            "Categories=Network;WebBrowser;\nKeywords=Tor;Onion;Privacy;\nMimeType=x-scheme-handler/http;x-scheme-handler/https;".to_owned(),
            "StartupNotify=true\nStartupWMClass=Tor Browser\nActions=new-window;new-identity;copy;audit;stop;".to_owned(),
            format!("\n[Desktop Action new-window]\nName=New window\nExec={}", call(&options)),
            format!("\n[Desktop Action new-identity]\nName=New identity\nExec={}", call(&["new-identity", name])),
            format!("\n[Desktop Action copy]\nName=Copy out\nExec={}", call(&["copy", name])),
            format!("\n[Desktop Action audit]\nName=Audit\nExec={}", call(&audit)),
            format!("\n[Desktop Action stop]\nName=Stop\nExec={}", call(&["stop", name])),
        ];
        lines.join("\n") + "\n"
    }
}

/// The options of a box of another name.
fn beside(name: &BoxName, options: &[String]) -> Vec<String> {
    let option = |word: &String| ["--name", "--profile"].iter().any(|option| word == option);
    let joined = |word: &String| ["--name=", "--profile="].iter().any(|option| word.starts_with(option));
    let is_name = |(at, word): (usize, &String)| option(word) || joined(word) || at > 0 && word == name.as_str() && options.get(at - 1).is_some_and(option);
    let others = options.iter().enumerate().filter(|part| !is_name(*part)).map(|(_, word)| word.clone());
    ["--name".to_owned(), format!("audit-{name}")].into_iter().chain(others).collect()
}

fn is_default(name: &BoxName) -> bool {
    name.as_str() == "default"
}

fn file_name(name: &BoxName) -> String {
    if is_default(name) { format!("{ID}.desktop") } else { format!("{ID}.{name}.desktop") }
}

/// A word of `Exec`, quoted where it must be: then as a value of the file once more ("The Exec key", "Values").
fn quote(word: &str) -> String {
    let reserved = |c: char| c.is_whitespace() || "\"'\\><~|&;$*?#()`".contains(c);
    let word = word.replace('%', "%%");
    if !word.is_empty() && !word.contains(reserved) {
        return word;
    }
    let escaped = word.chars().flat_map(|c| if "\"`$\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect::<String>();
    escape(&format!("\"{escaped}\""))
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r")
}

/// Where applications are looked for.
fn share(wanted: Option<&Path>) -> Result<PathBuf, CliError> {
    wanted.map_or_else(system::share, |share| Ok(share.to_owned()))
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), CliError> {
    let path = dir.join(name);
    fs::create_dir_all(dir).and_then(|()| fs::write(&path, text)).map_err(|source| CliError::Path { path, source })
}

/// The cache of handlers; where there is none, nobody reads it.
fn refresh(applications: &Path) {
    Command::new("update-desktop-database").arg("-q").arg(applications).stdin(Stdio::null()).stderr(Stdio::null()).status().ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_exec() {
        for (word, quoted) in [("plain", "plain"), ("", "\"\""), ("a b", "\"a b\""), ("50%", "50%%"), ("$HOME", "\"\\\\$HOME\""), ("a\\b", "\"a\\\\\\\\b\""), ("a\nb", "\"a\\nb\"")] {
            assert_eq!(quote(word), quoted, "{word:?}");
        }
    }

    #[test]
    fn each_box_has_an_entry_of_its_own_and_the_stand_in_says_what_it_is() {
        let entry = |options: &[&str]| Entry::new(Path::new("/bin/torbox"), None, &options.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()).unwrap();
        let standard = entry(&[]);
        assert_eq!((standard.title.as_str(), file_name(&standard.name).as_str()), ("Tor Browser in a box", "dev.torbox.Torbox.desktop"));
        assert!(standard.text(None).contains("\nExec=/bin/torbox run --window -- %u\nTryExec=/bin/torbox\n"), "{}", standard.text(None));
        let other = entry(&["--name", "work", "--browser", "firefox-esr"]);
        assert_eq!((other.title.as_str(), file_name(&other.name).as_str()), ("Firefox ESR in a box, NOT ANONYMOUS (work)", "dev.torbox.Torbox.work.desktop"));
        assert!(other.text(None).contains("\nExec=/bin/torbox stop work\n"), "{}", other.text(None));
        assert!(other.text(None).contains("\nExec=/bin/torbox audit --window --name audit-work --browser firefox-esr\n"), "{}", other.text(None));
        assert!(other.text(None).contains("\nExec=/bin/torbox run --window --name work --browser firefox-esr\n"), "{}", other.text(None));
    }

    #[test]
    fn an_address_in_the_entry_is_refused() {
        let options = ["https://example.org/".to_owned()];
        assert!(matches!(Entry::new(Path::new("/bin/torbox"), None, &options), Err(CliError::DesktopOptions)));
    }
}
