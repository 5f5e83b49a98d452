//! Numbers for the trusted side. They never say where a stream went, nor when.

use crate::socks::Refusal;
use std::fmt;

/// What happened since the gate started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: u64,
    pub(crate) refused_handshake: u64,
    pub(crate) refused_credentials: u64,
    pub(crate) refused_command: u64,
    pub(crate) refused_address: u64,
    pub(crate) refused_limit: u64,
    pub(crate) timed_out: u64,
    pub(crate) tor_unreachable: u64,
    pub(crate) control_commands: u64,
    pub(crate) control_denied: u64,
}

impl Counters {
    pub(crate) fn refused(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Version | Refusal::Method | Refusal::Malformed => self.refused_handshake += 1,
            Refusal::Credentials => self.refused_credentials += 1,
            Refusal::Command => self.refused_command += 1,
            Refusal::Address(_) => self.refused_address += 1,
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            accepted,
            refused_handshake,
            refused_credentials,
            refused_command,
            refused_address,
            refused_limit,
            timed_out,
            tor_unreachable,
            control_commands,
            control_denied,
        } = self;
        write!(f, "accepted={accepted} refused_handshake={refused_handshake} ")?;
        write!(f, "refused_credentials={refused_credentials} refused_command={refused_command} ")?;
        write!(f, "refused_address={refused_address} refused_limit={refused_limit} timed_out={timed_out} ")?;
        write!(f, "tor_unreachable={tor_unreachable} control_commands={control_commands} ")?;
        write!(f, "control_denied={control_denied}")
    }
}
