//! The worlds that are searched.

#[cfg(feature = "test-faults")]
use cluster::fault::Fault;

use super::state::Setting;

/// A world and what it is about.
#[derive(Debug)]
pub struct Named {
    pub name: &'static str,
    pub setting: Setting,
}

/// One node's clock is as slow as it can be, and all others as fast as they can be.
const APART: &[u32] = &[9, 11, 11];
/// The other way round.
const APART_TOO: &[u32] = &[11, 9, 9];
const TWO_WITNESSES: &[u32] = &[9, 11, 11, 11];

/// One message in flight, which may be lost or as late as you like; two epochs; nothing else happens.
const QUIET: Setting = Setting {
    ticks: 1,
    rates: APART,
    flight_max: 1,
    epoch_max: 2,
    crashes: 0,
    freezes: 0,
    lags: 0,
    copies: 0,
    handovers: 0,
    surrenders: 0,
    changes: 0,
};

/// In the test command: a minute on one core.
pub const SMALL: &[Named] = &[
    named("one message", QUIET),
    named("one message, one node fast", Setting { rates: APART_TOO, ..QUIET }),
    named("hand-over", Setting { handovers: 1, ..QUIET }),
    named("surrender", Setting { surrenders: 1, ..QUIET }),
];

/// In `cargo xtask soak lease`.
pub const LARGE: &[Named] = &[
    named("crash", Setting { crashes: 1, ..QUIET }),
    named("slow disk or gate", Setting { lags: 1, ..QUIET }),
    named("freeze", Setting { freezes: 1, ..QUIET }),
    named("doubled message", Setting { copies: 1, ..QUIET }),
    named("two ticks a lease", Setting { ticks: 2, ..QUIET }),
    named("two messages", Setting { flight_max: 2, ..QUIET }),
    named("hand-over and surrender", Setting { handovers: 1, surrenders: 1, ..QUIET }),
    named("hand-over and back", Setting { handovers: 2, epoch_max: 3, ..QUIET }),
    named("hand-over, crash", Setting { handovers: 1, crashes: 1, ..QUIET }),
    named("hand-over, slow disk or gate", Setting { handovers: 1, lags: 1, ..QUIET }),
    named("hand-over, freeze", Setting { handovers: 1, freezes: 1, ..QUIET }),
    named("a seat changes", Setting { changes: 1, rates: TWO_WITNESSES, ..QUIET }),
    named("the witness is replaced", Setting { changes: 2, rates: TWO_WITNESSES, ..QUIET }),
    named("three epochs", Setting { epoch_max: 3, ..QUIET }),
    named("two crashes", Setting { crashes: 2, ..QUIET }),
    named("three messages", Setting { flight_max: 3, ..QUIET }),
];

/// Faults, and a world that is large enough for each.
#[cfg(feature = "test-faults")]
pub const PLANTED: &[(Fault, Setting)] = &[
    (Fault::NoMargin, QUIET),
    (Fault::NoRestartWait, Setting { crashes: 1, ..QUIET }),
    (Fault::AnswerBeforeDisk, Setting { crashes: 1, lags: 1, ..QUIET }),
    (Fault::EpochRepeated, Setting { surrenders: 1, ..QUIET }),
    (Fault::CountedFromArrival, Setting { ticks: 2, ..QUIET }),
    (Fault::AnswerWithoutQuestion, Setting { ticks: 2, copies: 1, ..QUIET }),
    (Fault::OwnLeaseLength, Setting { ticks: 2, ..QUIET }),
    (Fault::ReleaseOfAnything, Setting { flight_max: 2, epoch_max: 3, ..QUIET }),
    (Fault::ReleaseClosesNothing, QUIET),
    (Fault::VotesNotForgotten, Setting { ticks: 2, epoch_max: 3, ..QUIET }),
    (Fault::ChangeUnsettled, Setting { ticks: 2, changes: 2, rates: TWO_WITNESSES, ..QUIET }),
    (Fault::ReleaseBeforeGate, Setting { surrenders: 1, lags: 1, ..QUIET }),
    (Fault::HandoverBeforeGate, Setting { handovers: 1, lags: 1, ..QUIET }),
];

const fn named(name: &'static str, setting: Setting) -> Named {
    Named { name, setting }
}
