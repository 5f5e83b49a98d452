//! Recipes and suites: what an image is made of, as data (`recipes/*.toml`).
//!
//! A recipe holds no code and names no package mirror. An unknown key is an error that names it, never ignored.

use crate::{error::Error, names::RecipeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an image is made of.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// The recipe's name.
    pub name: RecipeName,
    /// One line for people.
    pub title: String,
    /// Licences of what the image is made for (SPDX expression).
    pub licences: String,
    /// The part that the image plays.
    pub role: ImageRole,
    /// The image's entry point: an absolute path in it, then arguments.
    pub entrypoint: Vec<String>,
    /// Which of torbox's own programs the image carries.
    pub programs: Vec<ProgramName>,
    /// The package whose version is the image's; none where the browser's own is.
    pub version_of: Option<String>,
    /// The packages to start from; what they depend on comes with them.
    pub packages: Vec<String>,
    /// Packages that are left out, and whose own dependencies are not followed.
    pub exclude: Vec<String>,
    /// Which of the packages' files the image keeps.
    pub files: Files,
    /// A browser from the Tor Project's releases.
    pub tor_project: Option<TorProject>,
    /// A browser packed from a Debian package.
    pub debian_package: Option<DebianPackage>,
    /// Pluggable transports, by their names in bridges' lines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transports: BTreeMap<String, Transport>,
}

/// A pluggable transport.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// What the Tor Project calls it in its releases and its service, where a bridge's line calls it something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    /// The program of the image that speaks it: an absolute path.
    pub program: String,
    /// What a bridge's line must say beside its address and fingerprint: the program does not check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// What shows that it is the bridge that answers.
    #[serde(default)]
    pub proof: Proof,
    /// Whether it finds its way by names, so that tor's container needs a resolver.
    #[serde(default)]
    pub names: bool,
    /// Whether it goes through the proxy that tor is given, which then looks the names up.
    #[serde(default)]
    pub proxy: bool,
    /// Whether tor takes itself for connected before the program is, which never says what it lacks.
    #[serde(default)]
    pub mute: bool,
}

/// What shows that a bridge is the one of its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The fingerprint, which the line must have.
    #[default]
    Fingerprint,
    /// Where the line has no fingerprint, a certificate: of its front, or without one of the server that its `url` names, by `https`.
    Certificate,
}

/// The part that an image plays in a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageRole {
    /// It carries tor and the gate.
    Tor,
    /// It carries a browser.
    Browser,
}

impl ImageRole {
    /// The role's name in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tor => "tor",
            Self::Browser => "browser",
        }
    }
}

/// One of torbox's own programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProgramName {
    /// The first process of every container.
    Init,
    /// The filter between browser and tor.
    Gate,
    /// What stands between the browser and the display server.
    Display,
}

impl ProgramName {
    /// Where the program is in the image, below the root.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Init => "usr/libexec/torbox/init",
            Self::Gate => "usr/libexec/torbox/gate",
            Self::Display => "usr/libexec/torbox/display",
        }
    }
}

/// Which files of the packages an image keeps: nothing that is not named here, or needed by what is.
///
/// Patterns are absolute paths; `*` stands for characters within a part, `**` for any number of parts.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Files {
    /// Programs; the libraries that they need are kept with them.
    #[serde(default)]
    pub executables: Vec<String>,
    /// Sonames of libraries that are opened at run time.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Other files.
    #[serde(default)]
    pub data: Vec<String>,
    /// What packages' maintainer scripts would have made.
    pub generate: Vec<Generated>,
}

/// Files that no package holds and that the builder makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generated {
    /// `/etc/passwd`, the host name and its like.
    Accounts,
    /// `dns` among the sources of names (nsswitch.conf(5)), and the certificates of the authorities that the packages bring.
    Names,
    /// UTC.
    TimeZone,
    /// The compiled GSettings schemas.
    SettingsSchemas,
    /// The table of file types.
    MimeTypes,
    /// The list of image loaders.
    PixbufLoaders,
    /// A pointer to the browser's own fonts.
    BrowserFonts,
    /// What makes sound a stream of samples in a FIFO, where that is wanted.
    Sound,
}

/// Where the Tor Project's releases come from, and who may sign them. In addresses and names, `{machine}`, `{channel}` and
/// `{version}` stand for what they say.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TorProject {
    /// Fingerprint of the primary key.
    pub primary: String,
    /// Address of the signers' certificate.
    pub certificate: String,
    /// Address of the release index.
    pub index: String,
    /// Directories that hold a version's files.
    pub releases: Vec<String>,
    /// Name of the archive.
    pub archive: String,
    /// The origins (`https://host`) below which all addresses must be, those that the index tells included.
    pub origins: Vec<String>,
    /// Onion services that serve what an origin does, for those who fetch through tor.
    #[serde(default)]
    pub onions: BTreeMap<String, String>,
    /// Where the archive's directories and files go in the image, without leading slashes; to nowhere what is left out.
    /// The longest that fits decides, and what none fits is refused. `{triplet}` is the architecture's library directory.
    pub places: BTreeMap<String, String>,
}

/// A browser that Debian packages.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DebianPackage {
    /// The package's name.
    pub package: String,
}

impl Recipe {
    /// The recipe that torbox carries under `name`.
    ///
    /// # Errors
    /// [`Error::Recipe`] when it is not well formed, which a test rules out.
    pub fn embedded(name: RecipeName) -> Result<Self, Error> {
        Self::parse(name.as_str(), embedded_text(name))
    }

    /// Reads a recipe; `name` is for messages.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming what is wrong, such as an unknown key.
    pub fn parse(name: &str, text: &str) -> Result<Self, Error> {
        let recipe: Self = toml::from_str(text).map_err(|e| invalid(name, e.message()))?;
        let browsers = usize::from(recipe.tor_project.is_some()) + usize::from(recipe.debian_package.is_some());
        match (recipe.role, browsers, &recipe.version_of) {
            (ImageRole::Tor, 0, Some(_)) | (ImageRole::Browser, 1, None) => Ok(recipe),
            (ImageRole::Tor, 1, None) if recipe.tor_project.is_some() => Ok(recipe),
            (ImageRole::Tor, ..) => Err(invalid(name, "a tor image needs exactly one of version-of and tor-project, and takes no browser")),
            (ImageRole::Browser, ..) => Err(invalid(name, "a browser image needs exactly one of tor-project and debian-package, and no version-of")),
        }
    }

    /// Whether the image may be called anonymous: only a release of the Tor Project is, and tor itself.
    #[must_use]
    pub const fn is_anonymous(&self) -> bool {
        self.debian_package.is_none()
    }
}

fn embedded_text(name: RecipeName) -> &'static str {
    match name {
        RecipeName::Tor => include_str!("../recipes/tor.toml"),
        RecipeName::TorTransports => include_str!("../recipes/tor-transports.toml"),
        RecipeName::TorBundle => include_str!("../recipes/tor-bundle.toml"),
        RecipeName::TorBrowser => include_str!("../recipes/tor-browser.toml"),
        RecipeName::FirefoxEsr => include_str!("../recipes/firefox-esr.toml"),
    }
}

/// The two trees of a Debian mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Archive {
    /// The archive itself.
    Debian,
    /// Its security updates.
    DebianSecurity,
}

impl Archive {
    /// The name of the tree, as mirrors write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::DebianSecurity => "debian-security",
        }
    }
}

/// A part of the archive, and who may sign it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Suite {
    /// Which tree of a mirror it is in.
    pub archive: Archive,
    /// Its name below `dists/`, and the Codename that its InRelease file must state.
    pub codename: String,
    /// The component to read.
    pub component: String,
    /// Fingerprints of the primary keys that may sign it.
    pub keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suites {
    suite: Vec<Suite>,
}

/// The suites that torbox's images are made from.
pub(crate) fn embedded_suites() -> Result<Vec<Suite>, Error> {
    parse_suites("suites", include_str!("../recipes/suites.toml"))
}

fn parse_suites(name: &str, text: &str) -> Result<Vec<Suite>, Error> {
    let suites: Suites = toml::from_str(text).map_err(|e| invalid(name, e.message()))?;
    Ok(suites.suite)
}

fn invalid(name: &str, reason: &str) -> Error {
    Error::Recipe { name: name.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_recipe_is_well_formed() {
        for name in RecipeName::ALL {
            let recipe = Recipe::embedded(name).unwrap();
            assert_eq!(recipe.name, name);
            assert_eq!(recipe.is_anonymous(), name != RecipeName::FirefoxEsr);
        }
        assert_eq!(embedded_suites().unwrap().len(), 2);
    }

    /// Over https, or by the name of an onion service, which authenticates it.
    #[test]
    fn every_address_of_a_recipe_is_authenticated() {
        let projects = RecipeName::ALL.into_iter().filter_map(|name| Recipe::embedded(name).unwrap().tor_project);
        for project in projects {
            let holds = |url: &String| crate::fetch::Within::Origins(&project.origins).holds(url);
            assert!([&project.index, &project.certificate].into_iter().chain(&project.releases).all(holds), "{project:?}");
            assert!(project.origins.iter().all(|origin| origin.starts_with("https://") && origin.ends_with(".torproject.org")), "{project:?}");
            assert!(project.onions.iter().all(|(origin, onion)| project.origins.contains(origin) && onion.ends_with(".onion") && onion.len() == 69), "{project:?}");
        }
    }

    #[test]
    fn unknown_keys_are_named() {
        let tor = embedded_text(RecipeName::Tor);
        let cases = [
            (format!("colour = \"red\"\n{tor}"), "colour"),
            (tor.replace("[files]", "[files]\nshells = [\"/bin/sh\"]"), "shells"),
            (tor.replace("\"time-zone\"", "\"shell\""), "shell"),
            (tor.replace("role = \"tor\"", "role = \"browser\""), "exactly one of tor-project and debian-package"),
        ];
        for (text, expected) in cases {
            let error = Recipe::parse("test", &text).unwrap_err().to_string();
            assert!(error.contains("recipe test") && error.contains(expected), "{error}");
        }
        let error = parse_suites("s", "[[suite]]\narchive=\"debian\"\ncodename=\"x\"\ncomponent=\"main\"\nkeys=[]\ntrusted=true").unwrap_err();
        assert!(error.to_string().contains("trusted"), "{error}");
    }
}
