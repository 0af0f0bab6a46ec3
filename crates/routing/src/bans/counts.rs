//! How many sources were held, by what they did.

use super::{Cause, Measure};

/// How often sources were banned and restrained since the start, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BanCounts {
    banned: [u64; BANNED.len()],
    restrained: [u64; RESTRAINED.len()],
}

// By the order of `Cause`.
const BANNED: [&str; Cause::Operator as usize + 1] = [
    "banned_for_wrong_credentials",
    "banned_as_scanner",
    "banned_for_malformed",
    "banned_for_flood",
    "banned_by_operator",
];
// The operator only bans.
const RESTRAINED: [&str; Cause::Flood as usize + 1] = [
    "restrained_for_wrong_credentials",
    "restrained_as_scanner",
    "restrained_for_malformed",
    "restrained_for_flood",
];

impl BanCounts {
    pub(super) fn add(&mut self, measure: Measure, cause: Cause) {
        let figures = match measure {
            Measure::Banned => &mut self.banned[..],
            Measure::Restrained | Measure::Slowed => &mut self.restrained[..],
        };
        if let Some(figure) = figures.get_mut(cause as usize) {
            *figure += 1;
        }
    }

    /// How many sources were banned, for whatever cause.
    pub fn banned(&self) -> u64 {
        self.banned.iter().sum()
    }

    /// How many sources were restrained, for whatever cause.
    pub fn restrained(&self) -> u64 {
        self.restrained.iter().sum()
    }

    /// All names with their figures.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let banned = BANNED.into_iter().zip(self.banned);
        banned.chain(RESTRAINED.into_iter().zip(self.restrained))
    }
}
