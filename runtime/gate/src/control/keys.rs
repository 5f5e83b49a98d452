//! The onion-service keys that this box added in this run: the only ones that it can see or remove.
//! It never asks tor for keys: those of the user's other runs stay unseen.

use super::text::{ClientKey, OnionAddress};
use crate::policy::control::ONION_KEYS;
use std::collections::BTreeMap;

/// Addresses with their keys.
#[derive(Debug, Default)]
pub struct OnionKeys(BTreeMap<OnionAddress, ClientKey>);

impl OnionKeys {
    /// Whether one more key has a place.
    #[must_use]
    pub fn has_room(&self, address: &OnionAddress) -> bool {
        self.0.contains_key(address) || self.0.len() < ONION_KEYS as usize
    }

    /// Whether this box added a key for the address.
    #[must_use]
    pub fn contains(&self, address: &OnionAddress) -> bool {
        self.0.contains_key(address)
    }

    /// Remembers a key that tor accepted.
    pub fn insert(&mut self, address: OnionAddress, key: ClientKey) {
        self.0.insert(address, key);
    }

    /// Forgets a key that tor removed.
    pub fn remove(&mut self, address: &OnionAddress) {
        self.0.remove(address);
    }

    /// Forgets all of them, as tor does with keys that are not permanent when it makes a new identity.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// One key, or all of them.
    pub fn view(&self, address: Option<&OnionAddress>) -> impl Iterator<Item = (&OnionAddress, &ClientKey)> {
        self.0.iter().filter(move |(known, _)| address.is_none_or(|wanted| wanted == *known))
    }
}
