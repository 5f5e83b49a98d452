//! The floor of a channel: the newest release, and the newest signature, that this store ever believed.
//!
//! It is kept apart from the images, so that removing an image never opens the way for an older browser.

use crate::{
    build::read_state,
    debian::version::Version,
    error::Error,
    names::{Channel, RecipeName},
    oci,
    store::{Store, Writer},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// What was believed last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Newest {
    version: String,
    /// When the newest list of checksums was signed; none where releases came as files only.
    signed: Option<DateTime<Utc>>,
}

type Channels = BTreeMap<String, Newest>;

/// The floor of one recipe's channel.
pub(crate) struct Floor {
    all: Channels,
    key: String,
}

fn path(store: &Store) -> PathBuf {
    store.path("state/releases.json")
}

impl Floor {
    /// What the installed images tell counts as well, should the state be lost.
    pub(crate) fn load(store: &Store, recipe: RecipeName, channel: Channel) -> Result<Self, Error> {
        let mut floor = Self { all: read_state(&path(store))?.unwrap_or_default(), key: format!("{recipe} {channel}") };
        for image in store.images()?.iter().filter(|image| image.recipe == recipe.as_str() && Channel::of(&image.version) == channel) {
            floor.lift(&image.version, None);
        }
        Ok(floor)
    }

    /// Refuses a version below the floor, and checksums signed before those that were seen.
    pub(crate) fn check(&self, version: &str, signed: Option<DateTime<Utc>>) -> Result<(), Error> {
        let Some(newest) = self.all.get(&self.key) else { return Ok(()) };
        if Version::new(version) < Version::new(&newest.version) {
            return Err(Error::Downgrade { name: self.key.clone(), offered: version.to_owned(), installed: newest.version.clone() });
        }
        match (signed, newest.signed) {
            (Some(offered), Some(seen)) if offered < seen => Err(Error::RolledBack { suite: self.key.clone(), offered: offered.to_string(), seen: seen.to_string() }),
            _ => Ok(()),
        }
    }

    /// Notes what was believed.
    pub(crate) fn raise(mut self, writer: &Writer<'_>, version: &str, signed: Option<DateTime<Utc>>) -> Result<(), Error> {
        self.lift(version, signed);
        writer.replace(&path(writer.store()), &oci::canonical(&self.all)?)
    }

    fn lift(&mut self, version: &str, signed: Option<DateTime<Utc>>) {
        let newest = self.all.entry(self.key.clone()).or_insert_with(|| Newest { version: version.to_owned(), signed });
        newest.signed = newest.signed.max(signed);
        if Version::new(version) > Version::new(&newest.version) {
            version.clone_into(&mut newest.version);
        }
    }
}
