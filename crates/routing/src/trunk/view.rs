//! A registration as the operator sees it.

use std::time::Duration;

use clock::WallTime;

/// A registration of ours at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationView {
    /// The account's name.
    pub name: String,
    /// The URI that is registered.
    pub address: String,
    /// Where.
    pub registrar: String,
    /// How it stands.
    pub state: RegistrationState,
    /// How long it still lasts.
    pub granted_for: Option<Duration>,
    /// What came last, and when.
    pub last_answer: Option<(WallTime, String)>,
    /// When the next REGISTER leaves; `None` while one is under way.
    pub next_in: Option<Duration>,
    /// Attempts in a row that failed.
    pub failures: u32,
}

/// How a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// The first answer is waited for.
    Registering,
    /// It is there.
    Registered,
    /// It is there, but the carrier does not answer any more.
    Failing,
    /// The carrier does not answer, or not now.
    Unreachable,
    /// The carrier does not want it.
    Refused,
}

impl RegistrationState {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registering => "registering",
            Self::Registered => "registered",
            Self::Failing => "failing",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}
