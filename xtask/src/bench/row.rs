//! What is measured, row by row, and in which order one server does it.

use std::time::Duration;

use super::contestant::{FloorKind, Kind};
use super::load::{Load, What};

/// Bindings of the usual runs.
pub const BINDINGS: u64 = 100_000;
/// Accounts that prove themselves by digest.
pub const ACCOUNTS: u64 = 40_000;
/// Addresses of the rows with many sources.
pub const SOURCES: u64 = 200;
/// Calls of a run, and registrations of a run that are not as many as there are bindings.
const CALLS: u64 = 20_000;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// A binding that is not there yet.
    First,
    /// As `First`, and then a wait until no transaction is kept: what memory a binding takes.
    Memory,
    /// A binding that is refreshed.
    Refresh,
    /// With a challenge each time.
    Challenge,
    /// With a nonce that was used before.
    Reuse,
    /// From INVITE to BYE.
    Call,
    /// As `Refresh`, but from many addresses.
    RefreshMany,
    /// As `Call`, but from many addresses.
    CallMany,
    /// As `Refresh`, with ten thousand bindings.
    RefreshSmall,
    /// As `Call`, with ten thousand bindings.
    CallSmall,
    /// As `First`, a million of them.
    FirstLarge,
    /// As `Refresh`, with a million bindings.
    RefreshLarge,
    /// As `Call`, with a million bindings.
    CallLarge,
}

/// What one server does from its start to its end.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Which servers.
    pub kinds: &'static [Kind],
    /// What the floor's program does, if it takes part.
    pub floor: FloorKind,
    /// In this order.
    pub rows: &'static [Row],
}

/// All sessions of one repeat.
pub const SESSIONS: [Session; 7] = [
    Session { kinds: &[Kind::Floor], floor: FloorKind::Answer, rows: &[Row::Refresh, Row::RefreshMany] },
    Session { kinds: &[Kind::Floor], floor: FloorKind::Forward, rows: &[Row::Call] },
    Session {
        kinds: &[Kind::KamailioFm, Kind::KamailioTlsf, Kind::Tandem],
        floor: FloorKind::Answer,
        rows: &[Row::Memory],
    },
    Session {
        kinds: &[Kind::KamailioFm, Kind::KamailioTlsf, Kind::Tandem],
        floor: FloorKind::Answer,
        rows: &[Row::First, Row::Refresh, Row::Call, Row::Challenge, Row::Reuse],
    },
    // By itself: an account that was registered from one address and then from another has two phones, and a call forks.
    Session {
        kinds: &[Kind::KamailioFm, Kind::KamailioTlsf, Kind::Tandem],
        floor: FloorKind::Answer,
        rows: &[Row::RefreshMany, Row::CallMany],
    },
    Session { kinds: &[Kind::Tandem], floor: FloorKind::Answer, rows: &[Row::RefreshSmall, Row::CallSmall] },
    Session {
        kinds: &[Kind::Tandem],
        floor: FloorKind::Answer,
        rows: &[Row::FirstLarge, Row::RefreshLarge, Row::CallLarge],
    },
];

impl Row {
    /// In the order of the table.
    pub const ALL: [Row; 13] = [
        Row::First,
        Row::Memory,
        Row::Refresh,
        Row::Challenge,
        Row::Reuse,
        Row::Call,
        Row::RefreshMany,
        Row::CallMany,
        Row::RefreshSmall,
        Row::CallSmall,
        Row::FirstLarge,
        Row::RefreshLarge,
        Row::CallLarge,
    ];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Row::First => "REGISTER, new binding, no digest",
            Row::Memory => "memory, 100 thousand new bindings",
            Row::Refresh => "REGISTER, refresh, no digest",
            Row::Challenge => "REGISTER, digest with 401",
            Row::Reuse => "REGISTER, digest, nonce reused",
            Row::Call => "call, INVITE to BYE",
            Row::RefreshMany => "REGISTER, refresh, 200 sources",
            Row::CallMany => "call, 200 sources",
            Row::RefreshSmall => "REGISTER, refresh, 10 thousand bindings",
            Row::CallSmall => "call, 10 thousand bindings",
            Row::FirstLarge => "REGISTER, new binding, to 1 million",
            Row::RefreshLarge => "REGISTER, refresh, 1 million bindings",
            Row::CallLarge => "call, 1 million bindings",
        }
    }

    /// What the load does for it.
    pub fn load(self) -> Load {
        let load = |what, users, count| Load { what, users, count, warm_up: 0, sources: 1 };
        match self {
            Row::First | Row::Memory | Row::Refresh => load(What::Refresh, BINDINGS, BINDINGS),
            Row::Challenge => Load { warm_up: ACCOUNTS, ..load(What::Challenge, ACCOUNTS, ACCOUNTS) },
            Row::Reuse => Load { warm_up: ACCOUNTS, ..load(What::Reuse, ACCOUNTS, ACCOUNTS) },
            // Each account is called once before: the server then knows it, as it does those that are called often.
            Row::Call => Load { warm_up: CALLS, ..load(What::Call, CALLS, CALLS) },
            Row::RefreshMany => {
                Load { warm_up: ACCOUNTS, sources: SOURCES, ..load(What::Refresh, ACCOUNTS, ACCOUNTS) }
            }
            Row::CallMany => Load { warm_up: CALLS, sources: SOURCES, ..load(What::Call, CALLS, CALLS) },
            Row::RefreshSmall => Load { warm_up: 10_000, ..load(What::Refresh, 10_000, 50_000) },
            Row::CallSmall => Load { warm_up: 10_000, ..load(What::Call, 10_000, CALLS) },
            Row::FirstLarge => load(What::Refresh, 1_000_000, 1_000_000),
            Row::RefreshLarge => load(What::Refresh, 1_000_000, 200_000),
            Row::CallLarge => Load { warm_up: CALLS, ..load(What::Call, CALLS, CALLS) },
        }
    }

    /// Whether others of its session need the bindings that it makes.
    pub fn makes_bindings(self) -> bool {
        matches!(self, Row::First | Row::RefreshMany | Row::RefreshSmall | Row::FirstLarge)
    }

    /// How long to wait before memory is looked at: our transactions are kept for 32 seconds after their end, and
    /// a million of them at once are refused.
    pub fn settles(self, kind: Kind) -> Duration {
        match (self, kind) {
            (Row::Memory | Row::FirstLarge, Kind::Tandem) => Duration::from_secs(34),
            _ => Duration::ZERO,
        }
    }

    /// How often at most: a million bindings take long to be made.
    pub fn repeats_max(self) -> usize {
        match self {
            Row::Memory | Row::FirstLarge | Row::RefreshLarge | Row::CallLarge => 3,
            _ => usize::MAX,
        }
    }
}
