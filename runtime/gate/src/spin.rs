//! Whether to look again before sleeping. Over local sockets the answer to a small message often comes sooner than a sleeping
//! process is woken; then looking costs less than the wake-up, and the message goes on at once. It never looks for longer than
//! [`MOST`], and where looking does not pay it is tried ever more rarely: once in 1024 times.

use std::time::Duration;

/// How long it looks: about what two wake-ups cost on a virtual machine.
pub(crate) const MOST: Duration = Duration::from_micros(50);
/// Bytes moved since the last sleep after which it may look: of a stream in bulk it would only fetch smaller pieces.
pub(crate) const FEW: std::ops::Range<u64> = 1..16 * 1024;
const RAREST: u32 = 10;

/// What the last looks brought.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    misses: u32,
    skip: u32,
}

impl Spin {
    /// Whether to look this time.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    /// Something was there.
    pub(crate) fn found(&mut self) {
        *self = Self::default();
    }

    /// Nothing came in time.
    pub(crate) fn missed(&mut self) {
        self.misses = RAREST.min(self.misses + 1);
        self.skip = (1 << self.misses) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pay_becomes_rare_and_what_pays_is_done_again() {
        let mut spin = Spin::default();
        let looks = (0..100_000).filter(|_| {
            let due = spin.is_due();
            if due {
                spin.missed();
            }
            due
        });
        assert_eq!(looks.count(), 106);
        while !spin.is_due() {}
        spin.found();
        assert!(spin.is_due() && spin.is_due());
    }
}
