//! Keys that sign, and everything that can be wrong with them.

use super::now;
use chrono::{DateTime, Utc};
use sequoia_openpgp::{
    Cert, Packet,
    cert::{CertBuilder, CertRevocationBuilder, KeyBuilder, SubkeyRevocationBuilder},
    crypto::KeyPair,
    packet::{
        Key, Signature,
        key::{Key4, PublicParts, SecretParts, SubordinateRole},
        signature::SignatureBuilder,
    },
    policy::StandardPolicy,
    serialize::{
        MarshalInto,
        stream::{Message, Signer},
    },
    types::{Curve, KeyFlags, ReasonForRevocation, SignatureType},
};
use std::{
    io::Write,
    time::{Duration, SystemTime},
};

const DAY: Duration = Duration::from_secs(86400);

/// A certificate with its secret keys. The newest signing key of its own signs, whether others believe it or not.
#[derive(Clone)]
pub struct Signatory {
    pub cert: Cert,
    /// Signs in place of the certificate's keys.
    instead: Option<Key<SecretParts, SubordinateRole>>,
}

impl Signatory {
    /// Made long ago; its signing subkey is valid for ever, or for so many days from then.
    pub fn new(valid_days: Option<u64>) -> Self {
        let made = SystemTime::from(now()) - 400 * DAY;
        let builder = CertBuilder::new().set_creation_time(made).add_userid("a test").add_signing_subkey();
        let (cert, _) = builder.set_validity_period(valid_days.map(|days| days as u32 * DAY)).generate().unwrap();
        Self { cert, instead: None }
    }

    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.cert.fingerprint())
    }

    pub fn public(&self) -> Vec<u8> {
        self.cert.clone().strip_secret_key_material().armored().to_vec().unwrap()
    }

    fn primary(&self) -> KeyPair {
        self.cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap()
    }

    /// The signing subkey that was made last.
    pub fn subkey(&self) -> Key<PublicParts, SubordinateRole> {
        let newest = self.cert.keys().subkeys().max_by_key(|key| key.key().creation_time()).unwrap();
        newest.key().clone()
    }

    /// The same certificate with one more signing subkey, made two weeks ago.
    pub fn with_new_subkey(&self) -> Self {
        let policy = StandardPolicy::new();
        let made = SystemTime::from(now()) - 14 * DAY;
        let builder = KeyBuilder::new(KeyFlags::empty().set_signing()).set_creation_time(made).subkey(self.cert.with_policy(&policy, made).unwrap()).unwrap();
        let cert = builder.set_signature_creation_time(made).unwrap().attach_cert().unwrap();
        Self { cert, instead: None }
    }

    /// The same certificate with a signing subkey that did not agree to be one: nothing of it signs the binding back.
    pub fn with_subkey_that_does_not_sign_back(&self) -> Self {
        let (subkey, made) = (new_subkey(), SystemTime::from(now()) - 14 * DAY);
        let binding = SignatureBuilder::new(SignatureType::SubkeyBinding).set_signature_creation_time(made).unwrap();
        let binding = binding.set_key_flags(KeyFlags::empty().set_signing()).unwrap();
        let primary = self.cert.primary_key().key().clone();
        let binding = binding.sign_subkey_binding(&mut self.primary(), &primary, &subkey).unwrap();
        self.with_packets(subkey.clone(), binding, subkey)
    }

    /// The same certificate with a subkey that `other`'s primary key bound.
    pub fn with_subkey_bound_by(&self, other: &Self) -> Self {
        let (subkey, made) = (new_subkey(), SystemTime::from(now()) - 14 * DAY);
        let mut own = subkey.clone().into_keypair().unwrap();
        let primary = self.cert.primary_key().key().clone();
        let back = SignatureBuilder::new(SignatureType::PrimaryKeyBinding).set_signature_creation_time(made).unwrap();
        let back = back.sign_primary_key_binding(&mut own, &primary, &subkey).unwrap();
        let binding = SignatureBuilder::new(SignatureType::SubkeyBinding).set_signature_creation_time(made).unwrap();
        let binding = binding.set_key_flags(KeyFlags::empty().set_signing()).unwrap().set_embedded_signature(back).unwrap();
        let binding = binding.sign_subkey_binding(&mut other.primary(), &primary, &subkey).unwrap();
        self.with_packets(subkey.clone(), binding, subkey)
    }

    fn with_packets(&self, public: Key<SecretParts, SubordinateRole>, binding: Signature, instead: Key<SecretParts, SubordinateRole>) -> Self {
        let packets: Vec<Packet> = vec![public.parts_into_public().into(), binding.into()];
        Self { cert: self.cert.clone().insert_packets(packets).unwrap().0, instead: Some(instead) }
    }

    /// The same certificate, whose newest signing subkey was revoked yesterday.
    pub fn with_revoked_subkey(&self, reason: ReasonForRevocation) -> Self {
        let builder = SubkeyRevocationBuilder::new().set_signature_creation_time(SystemTime::from(now()) - DAY).unwrap();
        let revocation = builder.set_reason_for_revocation(reason, b"a test").unwrap().build(&mut self.primary(), &self.cert, &self.subkey(), None).unwrap();
        Self { cert: self.cert.clone().insert_packets(revocation).unwrap().0, instead: self.instead.clone() }
    }

    /// The whole certificate, revoked yesterday.
    pub fn revoked(&self, reason: ReasonForRevocation) -> Self {
        let builder = CertRevocationBuilder::new().set_signature_creation_time(SystemTime::from(now()) - DAY).unwrap();
        let revocation = builder.set_reason_for_revocation(reason, b"a test").unwrap().build(&mut self.primary(), &self.cert, None).unwrap();
        Self { cert: self.cert.clone().insert_packets(revocation).unwrap().0, instead: self.instead.clone() }
    }

    fn signer<'m>(&self, out: &'m mut Vec<u8>, at: SystemTime) -> Signer<'m> {
        let key = match &self.instead {
            Some(key) => key.clone().into_keypair().unwrap(),
            None => {
                let newest = self.cert.keys().subkeys().secret().max_by_key(|key| key.key().creation_time()).unwrap();
                newest.key().clone().into_keypair().unwrap()
            }
        };
        Signer::new(Message::new(out), key).unwrap().creation_time(at)
    }

    pub fn clearsign(&self, text: &str) -> Vec<u8> {
        self.clearsign_at(text, now())
    }

    pub fn clearsign_at(&self, text: &str, at: DateTime<Utc>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut signer = self.signer(&mut out, at.into()).cleartext().build().unwrap();
        signer.write_all(text.as_bytes()).unwrap();
        signer.finalize().unwrap();
        out
    }

    pub fn detached(&self, data: &[u8], at: DateTime<Utc>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut signer = self.signer(&mut out, at.into()).detached().build().unwrap();
        signer.write_all(data).unwrap();
        signer.finalize().unwrap();
        out
    }
}

fn new_subkey() -> Key<SecretParts, SubordinateRole> {
    let mut key: Key4<SecretParts, SubordinateRole> = Key4::generate_ecc(true, Curve::Ed25519).unwrap();
    key.set_creation_time(SystemTime::from(now()) - 15 * DAY).unwrap();
    key.into()
}
