//! The short form of `cargo xtask soak internet`.

use super::Scenario;
use crate::soak::internet;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "no_call_is_hurt_by_scans_and_floods_of_every_kind", run: internet::short }];
