//! Settings: the file `config.toml`, then the profile's own, then variables of the environment, then flags, each stronger than the one before.
//!
//! A setting is a flag of the command line, of the same name, type and meaning: what the file or a variable says becomes that flag's
//! default. It never gives a setting that the command line does not have, and passes over nothing that it does not know.

use crate::args::{Args, ConfigAction};
use crate::dirs::{self, Dirs};
use crate::error::CliError;
use crate::profile;
use crate::system;
use clap::error::ContextKind;
use clap::{Arg, ArgAction, Command, CommandFactory};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process;
use toml::{Table, Value};
use torbox_plan::BoxName;

/// The flags that can be set. Which browser is none of them: nobody shall get the stand-in unawares.
const SETTINGS: [&str; 15] = ["backend", "channel", "clipboard", "display", "engine", "input-jitter", "mirror", "oci-runtime", "proxy", "reachable-ports", "sound", "tor", "verbose", "via", "wait"];
/// Those of them that are one for all profiles: images are shared.
const OF_IMAGES: [&str; 4] = ["channel", "mirror", "tor", "via"];
/// Those of them that mean nothing to a compose file.
const OF_ENGINES: [&str; 3] = ["backend", "engine", "oci-runtime"];
/// The command that has all of them.
const COMMAND: &str = "run";

/// A value, and where it comes from.
#[derive(Debug, PartialEq, Eq)]
struct Set {
    values: Vec<String>,
    from: String,
}

type Settings = BTreeMap<String, Set>;

/// The command line with its settings, as defaults of its flags, for a box that has `profile`.
pub(crate) fn command(dirs: &Dirs, profile: Option<&BoxName>) -> Result<Command, CliError> {
    // A command line lives as long as the process, and so do its defaults.
    let settings: BTreeMap<String, Vec<&'static str>> = load(dirs, profile)?.into_iter().map(|(flag, set)| (flag, set.values.into_iter().map(|value| &*value.leak()).collect())).collect();
    Ok(with_defaults(Args::command(), &settings))
}

fn with_defaults(command: Command, settings: &BTreeMap<String, Vec<&'static str>>) -> Command {
    let compose = command.get_name() == "compose";
    let command = command.mut_args(|arg| match arg.get_long().and_then(|flag| settings.get_key_value(flag)) {
        Some((flag, values)) if !compose || !OF_ENGINES.contains(&flag.as_str()) => arg.default_values(values),
        _ => arg,
    });
    command.mut_subcommands(|command| with_defaults(command, settings))
}

/// Whether the command `name` has a setting among its flags.
pub(crate) fn concerns(name: &str) -> bool {
    Args::command().find_subcommand(name).is_some_and(has_settings)
}

fn has_settings(command: &Command) -> bool {
    SETTINGS.iter().any(|setting| flag(command, setting).is_some()) || command.get_subcommands().any(has_settings)
}

/// `torbox config`.
pub(crate) fn config(dirs: &Dirs, action: ConfigAction, profile: Option<&BoxName>) -> Result<(), CliError> {
    profile::check(dirs, profile)?;
    match action {
        ConfigAction::Show => show(&load(dirs, profile)?),
        ConfigAction::Check => drop(load(dirs, profile)?),
        ConfigAction::Edit => return edit(dirs, profile),
    }
    Ok(())
}

/// A file of settings, as [`SETTINGS`] are now.
fn show(settings: &Settings) {
    for setting in all() {
        match setting.flag().and_then(|flag| settings.get(flag)) {
            Some(Set { values, from }) => println!("{} = {}  # {from}", setting.name, setting.written(values)),
            None if setting.is_unset() => println!("# {} is not set", setting.name),
            None => println!("# {} = {}", setting.name, setting.written(&setting.default())),
        }
    }
}

/// Opens the file in the user's editor, made where there is none, and checks what was written.
fn edit(dirs: &Dirs, profile: Option<&BoxName>) -> Result<(), CliError> {
    let path = profile.map_or_else(|| dirs.settings(), |profile| dirs.settings_of(profile));
    let failed = |source| CliError::Path { path: path.clone(), source };
    if !path.try_exists().map_err(failed)? {
        write(&path, &example(profile))?;
    }
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| system::EDITOR.to_owned());
    let mut words = editor.split_whitespace();
    let status = process::Command::new(words.next().unwrap_or_default()).args(words).arg(&path).status();
    if !status.map_err(|error| CliError::System("start the editor that EDITOR names", error))?.success() {
        return Err(CliError::Editor(editor));
    }
    load(dirs, profile).map(drop)
}

/// Writes a new file of settings. It is the caller's alone: it may come to hold the password of a proxy.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), CliError> {
    dirs::make(path.parent().unwrap_or(path).to_owned())?;
    let file = system::private_file().create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|source| CliError::Path { path: path.to_owned(), source })
}

/// Every setting, commented out, with what it means.
fn example(profile: Option<&BoxName>) -> String {
    let mut text = profile.map_or_else(
        || "# Settings of torbox. The settings of a profile are stronger than this file, a variable of the environment than both, and a flag than all.\n".to_owned(),
        |profile| format!("# Settings of torbox's profile {profile}. They are stronger than config.toml, a variable of the environment is than both, and a flag than all.\n"),
    );
    for setting in all().iter().filter(|setting| profile.is_none() || setting.is_of_profiles()) {
        write!(text, "\n# {}\n# {} = {}\n", setting.about(), setting.name, setting.written(&setting.example())).ok();
    }
    text
}

fn load(dirs: &Dirs, profile: Option<&BoxName>) -> Result<Settings, CliError> {
    let path = dirs.settings();
    let mut settings = of_file(&path, &read(&path)?.unwrap_or_default())?;
    if let Some(profile) = profile {
        let path = dirs.settings_of(profile);
        settings.extend(of_profile(&path, &read(&path)?.unwrap_or_default())?);
    }
    settings.extend(of_environment(|variable| std::env::var_os(variable))?);
    Ok(settings)
}

/// A file of settings, if there is one.
pub(crate) fn read(path: &Path) -> Result<Option<String>, CliError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(|source| CliError::Path { path: path.to_owned(), source }),
    }
}

/// What in the settings of a profile that somebody else made decides how well its box is closed, and to whom it connects, as it is
/// written there. Harmless is what is named here, and nothing else.
pub(crate) fn not_harmless(path: &Path, text: &str) -> Result<Vec<String>, CliError> {
    const HARMLESS: [&str; 1] = ["wait"];
    let settings = of_profile(path, text)?;
    let told = |setting: &Setting| {
        let values: Vec<_> = settings.get(setting.name)?.values.iter().map(|value| without_login(value)).collect();
        Some(format!("{} = {}", setting.name, setting.written(&values)))
    };
    Ok(all().iter().filter(|setting| !HARMLESS.contains(&setting.name)).filter_map(told).collect())
}

fn of_profile(path: &Path, text: &str) -> Result<Settings, CliError> {
    let settings = of_file(path, text)?;
    match settings.keys().find(|name| OF_IMAGES.contains(&name.as_str())) {
        Some(name) => Err(CliError::NotOfProfile { place: path.display().to_string(), name: name.clone() }),
        None => Ok(settings),
    }
}

fn of_file(path: &Path, text: &str) -> Result<Settings, CliError> {
    let place = || path.display().to_string();
    let table: Table = toml::from_str(text).map_err(|source| CliError::SettingsFile { path: path.to_owned(), source: Box::new(source) })?;
    let set = |(name, value): (String, Value)| {
        let setting = all().into_iter().find(|setting| setting.name == name).ok_or_else(|| unknown(place(), &name))?;
        let values = setting.texts(&value).ok_or_else(|| setting.wrong(place(), &value.to_string()))?;
        setting.checked(place(), values)
    };
    table.into_iter().map(set).collect()
}

fn of_environment(get: impl Fn(&str) -> Option<OsString>) -> Result<Settings, CliError> {
    let mut settings = Settings::new();
    for setting in all() {
        let variable = setting.variable();
        let Some(value) = get(&variable).filter(|value| !value.is_empty()) else { continue };
        let text = value.to_str().ok_or_else(|| setting.wrong(variable.clone(), &value.to_string_lossy()))?;
        let values = if setting.is_list() { text.split_whitespace().map(str::to_owned).collect() } else { vec![text.to_owned()] };
        settings.extend([setting.checked(variable, values)?]);
    }
    Ok(settings)
}

fn unknown(place: String, name: &str) -> CliError {
    /// Less alike than this is no misspelling (0 to 1).
    const ALIKE: f64 = 0.7;
    let nearest = SETTINGS.iter().map(|known| (strsim::jaro(name, known), *known)).max_by(|a, b| a.0.total_cmp(&b.0));
    let nearest = nearest.filter(|(alike, _)| *alike > ALIKE).map(|(_, known)| known);
    CliError::UnknownSetting { place, name: name.to_owned(), nearest }
}

fn flag<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(name))
}

/// A setting and the flag that it is the default of.
struct Setting {
    name: &'static str,
    arg: Arg,
}

fn all() -> Vec<Setting> {
    let command = Args::command();
    let run = command.find_subcommand(COMMAND);
    SETTINGS.iter().filter_map(|name| Some(Setting { name, arg: flag(run?, name)?.clone() })).collect()
}

impl Setting {
    fn flag(&self) -> Option<&str> {
        self.arg.get_long()
    }

    fn variable(&self) -> String {
        format!("TORBOX_{}", self.name.replace('-', "_").to_uppercase())
    }

    fn is_of_profiles(&self) -> bool {
        !OF_IMAGES.contains(&self.name)
    }

    fn is_list(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::Append)
    }

    fn is_switch(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::SetTrue)
    }

    fn default(&self) -> Vec<String> {
        self.arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect()
    }

    fn is_unset(&self) -> bool {
        self.default().is_empty() && !self.is_list() && !self.is_switch()
    }

    /// The default, or something that stands for a value where there is none.
    fn example(&self) -> Vec<String> {
        if self.is_unset() { vec![self.values().into_iter().next().unwrap_or_else(|| self.value_name())] } else { self.default() }
    }

    fn value_name(&self) -> String {
        self.arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default()
    }

    /// What it is for, and which values there are.
    fn about(&self) -> String {
        let help = self.arg.get_help().map(ToString::to_string).unwrap_or_default();
        let values = self.values();
        if values.is_empty() { format!("{help}.") } else { format!("{help}. One of {}.", values.join(", ")) }
    }

    fn values(&self) -> Vec<String> {
        if self.is_switch() { return Vec::new() }
        self.arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
    }

    /// As the file has it.
    fn written(&self, values: &[String]) -> String {
        let text = |value: &String| Value::String(value.clone()).to_string();
        match values.first() {
            _ if self.is_list() => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", ")),
            Some(value) if self.is_switch() => value.clone(),
            None if self.is_switch() => "false".to_owned(),
            value => text(&value.cloned().unwrap_or_default()),
        }
    }

    /// `None` for a value of another type than the flag's.
    fn texts(&self, value: &Value) -> Option<Vec<String>> {
        match value {
            Value::Boolean(value) if self.is_switch() => Some(vec![value.to_string()]),
            Value::String(value) if !self.is_switch() => Some(vec![value.clone()]),
            Value::Array(values) if self.is_list() => values.iter().map(|value| Some(value.as_str()?.to_owned())).collect(),
            _ => None,
        }
    }

    /// The setting with `values`, if its flag takes them.
    fn checked(&self, place: String, values: Vec<String>) -> Result<(String, Set), CliError> {
        let arg = self.arg.clone().action(if self.is_switch() { ArgAction::Set } else { self.arg.get_action().clone() }).num_args(1);
        let words = values.iter().map(|value| format!("--{}={value}", self.name));
        let command = Command::new("setting").no_binary_name(true).arg(arg);
        match command.try_get_matches_from(words) {
            Ok(_) => Ok((self.name.to_owned(), Set { values, from: place })),
            Err(error) => {
                let value = error.get(ContextKind::InvalidValue).map(ToString::to_string).unwrap_or_default();
                let hint = error.source().map_or_else(|| self.expected(), ToString::to_string);
                Err(CliError::WrongSetting { place, name: self.name, value: without_login(&value), hint })
            }
        }
    }

    fn wrong(&self, place: String, value: &str) -> CliError {
        CliError::WrongSetting { place, name: self.name, value: value.to_owned(), hint: self.expected() }
    }

    fn expected(&self) -> String {
        let expected = match self.values() {
            _ if self.is_switch() => "true or false".to_owned(),
            values if values.is_empty() => self.value_name(),
            values => values.join(", "),
        };
        format!("it can be: {expected}")
    }
}

/// A URL without who may use it, as it is shown; what is none stays.
fn without_login(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").unwrap_or(("", value));
    match rest.rsplit_once('@') {
        Some((_, place)) if !scheme.is_empty() => format!("{scheme}://...@{place}"),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Settings, CliError> {
        of_file(Path::new("config.toml"), text)
    }

    fn values(settings: &Settings, name: &str) -> Vec<String> {
        settings[name].values.clone()
    }

    #[test]
    fn every_setting_is_a_flag_of_run_and_the_example_names_it() {
        assert_eq!(all().iter().map(|setting| setting.name).collect::<Vec<_>>(), SETTINGS);
        let work = BoxName::new("work").unwrap();
        let of_work = example(Some(&work));
        assert!(of_work.contains("\n# display = ") && OF_IMAGES.iter().all(|name| !of_work.contains(&format!("\n# {name} = "))), "{of_work}");
        let example = example(None);
        assert_eq!(of(&example).unwrap(), Settings::new());
        let has_a_form = |line: &str| ["via ", "proxy ", "reachable-ports "].iter().any(|setting| line.starts_with(setting));
        let given: String = example.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = ") && !has_a_form(line)).map(|line| format!("{line}\n")).collect();
        let settings = of(&given).unwrap();
        assert_eq!(values(&settings, "display"), ["auto"]);
        assert_eq!(values(&settings, "verbose"), ["false"]);
    }

    #[test]
    fn what_is_not_known_or_of_another_type_is_refused() {
        let said = |text: &str| of(text).unwrap_err();
        assert!(matches!(said("displya = \"auto\""), CliError::UnknownSetting { nearest: Some("display"), .. }));
        assert!(matches!(said("xyzzy = 1"), CliError::UnknownSetting { nearest: None, .. }));
        assert!(matches!(said("browser = \"firefox-esr\""), CliError::UnknownSetting { .. }));
        for wrong in ["display = \"windows\"", "display = 1", "display = [\"auto\"]", "verbose = \"yes\"", "mirror = [1]", "via = \"http://p:1\"", "proxy = \"192.0.2.1:1080\"", "reachable-ports = \"http\""] {
            assert!(matches!(said(wrong), CliError::WrongSetting { .. }), "{wrong}");
        }
        assert!(matches!(said("display = "), CliError::SettingsFile { .. }));
        let hint = |text: &str| if let CliError::WrongSetting { hint, .. } = said(text) { hint } else { String::new() };
        assert!(hint("display = \"windows\"").starts_with("it can be: auto, wayland, "));
        assert!(hint("proxy = \"socks5://proxy.example:1\"").contains("ADDRESS:PORT is missing"));
        let refused = said("proxy = \"socks5://me:secret@proxy.example:1\"").to_string();
        assert!(refused.contains("socks5://...@proxy.example:1") && !refused.contains("secret"), "{refused}");
    }

    #[test]
    fn variables_are_typed_as_the_file_is_and_empty_ones_are_not_set() {
        let only = |name: &'static str, value: &'static str| of_environment(move |asked: &str| (asked == name).then(|| value.into()));
        assert_eq!(values(&only("TORBOX_OCI_RUNTIME", "runsc").unwrap(), "oci-runtime"), ["runsc"]);
        assert_eq!(values(&only("TORBOX_MIRROR", "http://a/debian http://b/debian").unwrap(), "mirror"), ["http://a/debian", "http://b/debian"]);
        assert_eq!(only("TORBOX_DISPLAY", "").unwrap(), Settings::new());
        assert!(matches!(only("TORBOX_VERBOSE", "perhaps"), Err(CliError::WrongSetting { name: "verbose", .. })));
    }

    #[test]
    fn flags_win_over_settings() {
        let dir = std::env::temp_dir().join(format!("torbox-config-{}", process::id()));
        fs::create_dir_all(dir.join("config/profiles")).unwrap();
        fs::write(dir.join("config/config.toml"), "display = \"none\"\nbackend = \"podman\"\nverbose = true\n").unwrap();
        fs::write(dir.join("config/profiles/work.toml"), "display = \"served\"\nverbose = false\n").unwrap();
        let dirs = Dirs::new(Some(&dir)).unwrap();
        let [plain, work] = [None, Some(BoxName::new("work").unwrap())].map(|profile| command(&dirs, profile.as_ref()).unwrap());
        fs::write(dir.join("config/profiles/work.toml"), "mirror = [\"http://a/debian\"]\n").unwrap();
        let shared = command(&dirs, Some(&BoxName::new("work").unwrap())).unwrap_err();
        fs::remove_dir_all(&dir).unwrap();
        assert!(matches!(shared, CliError::NotOfProfile { name, .. } if name == "mirror"));
        let parse_as = |command: &Command, words: &[&str]| {
            let matches = command.clone().try_get_matches_from(words).unwrap();
            let (_, of) = matches.subcommand().unwrap();
            let display = of.get_raw("display").unwrap().next().unwrap().to_owned();
            let backend = of.get_raw("backend").unwrap().next().unwrap().to_owned();
            (display, backend, of.get_flag("verbose"))
        };
        let parse = |words: &[&str]| parse_as(&plain, words);
        assert_eq!(parse_as(&work, &["torbox", "run"]), ("served".into(), "podman".into(), false), "the profile's own are stronger than config.toml");
        assert_eq!(parse_as(&work, &["torbox", "run", "--display", "wayland"]).0, "wayland");
        assert_eq!(parse(&["torbox", "run"]), ("none".into(), "podman".into(), true));
        assert_eq!(parse(&["torbox", "run", "--display", "wayland", "--backend", "native"]), ("wayland".into(), "native".into(), true));
        assert_eq!(parse(&["torbox", "compose", "dir"]).1, "auto", "a compose file is for any engine");
    }

    /// The table of all settings in the documentation is the one that is made here.
    #[test]
    fn the_documentation_has_every_setting() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
        let mut text = String::from(
            "# Settings\n\nIn `~/.config/torbox/config.toml` (root: `/etc/torbox/config.toml`), which `torbox config edit` opens; `torbox config show` says what is set, \
             and where. A profile can have settings of its own, in `profiles/NAME.toml` beside it: the same commands with `--profile NAME` are for those. They hold for boxes of that profile, and are stronger than \
             `config.toml`; a variable of the environment is stronger than both, and a flag than all. `torbox profile export` takes them along; `torbox profile import` takes no other than `wait` from an archive unless `--settings take` says so.\n\nThis table is made from the command line (`TORBOX_WRITE_GOLDEN=1` in the test of that name).\n\n\
             | in the file | variable | flag | default | a profile's, too | what it is |\n|---|---|---|---|---|---|\n",
        );
        for setting in all() {
            let default = setting.default().join(" ");
            let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
            let of_profiles = if setting.is_of_profiles() { "yes" } else { "no" };
            writeln!(text, "| `{}` | `{}` | `--{}` | {default} | {of_profiles} | {} |", setting.name, setting.variable(), setting.name, setting.about()).unwrap();
        }
        if std::env::var_os("TORBOX_WRITE_GOLDEN").is_some() {
            fs::write(path, &text).unwrap();
        }
        assert!(text == fs::read_to_string(path).unwrap_or_default(), "{path} is not what is made here; TORBOX_WRITE_GOLDEN=1 writes it anew");
    }
}
