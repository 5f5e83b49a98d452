//! What a build trusts: the archive's suites and the certificates that the recipes' fingerprints select from.
//!
//! The certificates are data of this program (`keys/`), never taken from the machine.

use crate::{
    error::Error,
    openpgp::Keyring,
    recipe::{self, Suite},
};

/// Certificates by name, and the suites that they sign.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The parts of the archive that packages come from.
    pub suites: Vec<Suite>,
    /// Names and contents of certificate files.
    pub certificates: Vec<(String, Vec<u8>)>,
}

const CERTIFICATES: [(&str, &[u8]); 4] = [
    ("debian-archive-trixie-automatic.asc", include_bytes!("../keys/debian-archive-trixie-automatic.asc")),
    ("debian-archive-trixie-stable.asc", include_bytes!("../keys/debian-archive-trixie-stable.asc")),
    ("debian-archive-trixie-security-automatic.asc", include_bytes!("../keys/debian-archive-trixie-security-automatic.asc")),
    ("tor-browser-developers.asc", include_bytes!("../keys/tor-browser-developers.asc")),
];

impl Trust {
    /// What torbox carries.
    ///
    /// # Errors
    /// [`Error::Recipe`] when the list of suites is not well formed, which a test rules out.
    pub fn embedded() -> Result<Self, Error> {
        let certificates = CERTIFICATES.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        Ok(Self { suites: recipe::embedded_suites()?, certificates })
    }

    /// The certificates with the given primary fingerprints, all of which must be there.
    pub(crate) fn keyring(&self, pinned: &[String]) -> Result<Keyring, Error> {
        let files = self.certificates.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        let held: Vec<_> = files.filter(|(_, bytes)| Keyring::holds_any(bytes, pinned)).collect();
        Keyring::new(&held, pinned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{names::RecipeName, recipe::Recipe};

    #[test]
    fn every_pinned_fingerprint_has_its_certificate() {
        let trust = Trust::embedded().unwrap();
        for suite in &trust.suites {
            trust.keyring(&suite.keys).unwrap();
        }
        let browser = Recipe::embedded(RecipeName::TorBrowser).unwrap().tor_project.unwrap();
        trust.keyring(&[browser.primary]).unwrap();
    }

    #[test]
    fn a_key_that_is_not_carried_is_named() {
        let missing = "0123456789ABCDEF0123456789ABCDEF01234567".to_owned();
        let error = Trust::embedded().unwrap().keyring(std::slice::from_ref(&missing)).unwrap_err();
        assert!(error.to_string().contains(&missing), "{error}");
        assert!(Trust::embedded().unwrap().keyring(&["4E2C6E8793298290".to_owned()]).is_err(), "a key id is not a fingerprint");
    }
}
