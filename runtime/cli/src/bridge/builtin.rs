//! `torbox bridge builtin`: the bridges that everybody has, as the browser's signed release brings them. torbox has no list of its own.

use super::{Bridge, Transports, add, called, load, transports};
use crate::args::Builtin;
use crate::dirs::Dirs;
use crate::error::CliError;
use crate::images;
use serde::Deserialize;
use std::collections::BTreeMap;
use torbox_images::{ImageName, Store};

/// Where a release keeps them, in the image.
const PLACE: &str = "opt/tor-browser/Browser/TorBrowser/Tor/PluggableTransports/pt_config.json";
/// No release has so long a file of them.
const LIMIT: u64 = 256 << 10;

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuiltinError {
    #[error("the built-in bridges come with the browser, and the image {0} is not built yet")]
    NotBuilt(ImageName),
    #[error("the image {0} brings no built-in bridges")]
    NotThere(ImageName),
    #[error("the file of built-in bridges in the image is not understood: {0}")]
    Form(String),
    #[error("the browser brings no bridges with {wanted}, but with {there}")]
    Unknown { wanted: String, there: String },
}

/// The parts of a release's file that matter; the rest is for the browser.
#[derive(Debug, Deserialize)]
struct Brought {
    #[serde(rename = "recommendedDefault")]
    recommended: Option<String>,
    bridges: BTreeMap<String, Vec<String>>,
}

impl Brought {
    fn parse(bytes: &[u8]) -> Result<Self, BuiltinError> {
        let brought: Self = serde_json::from_slice(bytes).map_err(|error| BuiltinError::Form(error.to_string()))?;
        let names = brought.bridges.keys().chain(&brought.recommended);
        match names.into_iter().find(|name| name.is_empty() || !super::is_name(name)) {
            Some(_) => Err(BuiltinError::Form("a transport has no plain name".to_owned())),
            None => Ok(brought),
        }
    }

    /// Those with one transport.
    fn with(&self, wanted: &str, transports: &Transports) -> Result<Vec<Bridge>, CliError> {
        let unknown = || BuiltinError::Unknown { wanted: wanted.to_owned(), there: self.bridges.keys().cloned().collect::<Vec<_>>().join(", ") };
        let named = [Some(wanted), called(wanted, transports)].into_iter().flatten().find_map(|name| self.bridges.get(name));
        let lines = named.filter(|lines| !lines.is_empty()).ok_or_else(unknown)?;
        lines.iter().map(|line| Ok(Bridge::parse(line, transports)?)).collect()
    }

    /// What there is of each transport, for people.
    fn described(&self, transports: &Transports) -> String {
        let described = self.bridges.iter().map(|(name, lines)| {
            let note = match self.with(name, transports) {
                Err(_) => "  torbox has no program for it",
                Ok(_) if self.recommended.as_ref() == Some(name) => "  recommended",
                Ok(_) => "",
            };
            format!("{name:<12}{:>3}{note}\n", lines.len())
        });
        described.collect()
    }
}

/// Lists them, or prints those of a transport, or adds those to the user's.
pub(super) fn builtin(dirs: &Dirs, args: &Builtin) -> Result<(), CliError> {
    let (brought, transports) = (read(dirs, args)?, transports()?);
    let Some(wanted) = &args.transport else {
        if args.format.json {
            println!("{}", serde_json::json!({"recommended": brought.recommended, "transports": brought.bridges}));
        } else {
            print!("{}", brought.described(&transports));
        }
        return Ok(());
    };
    let bridges = brought.with(wanted, &transports)?;
    super::show(&bridges, &args.format);
    if args.add { add(dirs, load(dirs)?, bridges) } else { Ok(()) }
}

fn read(dirs: &Dirs, args: &Builtin) -> Result<Brought, CliError> {
    let store = Store::open(&dirs.store()?)?;
    let name = images::recipe(args.browser).image();
    let image = store.image(&name, images::host())?.ok_or_else(|| BuiltinError::NotBuilt(name.clone()))?;
    let file = store.file(&image, PLACE, LIMIT)?.ok_or(BuiltinError::NotThere(name))?;
    Ok(Brought::parse(&file)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::BridgeError;

    /// What the stand-in brings, which has a release's form.
    const FILE: &[u8] = include_bytes!("../../../../images/standin/pt_config.json");

    #[test]
    fn a_releases_file_is_read() {
        let (brought, transports) = (Brought::parse(FILE).unwrap(), transports().unwrap());
        assert_eq!(brought.described(&transports), "meek          1\nobfs4         2  recommended\nsnowflake     1\n");
        let lines: Vec<_> = brought.with("obfs4", &transports).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(&lines, brought.bridges.get("obfs4").unwrap());
        assert_eq!(brought.with("snowflake", &transports).unwrap().len(), 1);
        assert_eq!(brought.with("meek", &transports).unwrap(), brought.with("meek_lite", &transports).unwrap());
    }

    #[test]
    fn what_is_not_there_or_not_spoken_is_named() {
        let (brought, transports) = (Brought::parse(FILE).unwrap(), transports().unwrap());
        for (wanted, said) in [("webtunnel", "no bridges with webtunnel, but with meek, obfs4, snowflake"), ("", "no bridges with , but")] {
            let error = brought.with(wanted, &transports).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let brought = Brought::parse(br#"{"bridges": {"webtunnel": ["webtunnel 192.0.2.7:443 url=https://a.example/"]}}"#).unwrap();
        assert!(matches!(brought.with("webtunnel", &transports), Err(CliError::Bridge(BridgeError::Transport(_)))));
        assert_eq!(brought.described(&transports), "webtunnel     1  torbox has no program for it\n");
    }

    #[test]
    fn a_line_becomes_nothing_but_a_bridge() {
        let transports = transports().unwrap();
        let brought = Brought::parse(br#"{"bridges": {"obfs4": ["192.0.2.7:443\nLog debug file /x"]}}"#).unwrap();
        assert!(brought.with("obfs4", &transports).is_err());
        let wrong: [&[u8]; 5] = [b"", b"[]", b"{}", br#"{"bridges": {"obfs4": [7]}}"#, br#"{"bridges": {"o\u001b[1m": []}}"#];
        for wrong in wrong {
            assert!(matches!(Brought::parse(wrong), Err(BuiltinError::Form(_))), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
