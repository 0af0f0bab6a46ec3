//! `tandem import` on the control socket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is to be taken over, and how.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportWish {
    /// Only look.
    pub dry_run: bool,
    /// Take nothing: the rows that are there may be removed.
    pub nothing: bool,
    /// The domain of rows that name none.
    pub domain: Option<String>,
    /// Another database than the configuration's, by its URL.
    pub from: Option<String>,
    /// The password of that one.
    pub password: Option<String>,
    /// The time zone of its dates; `None`: as the configuration says.
    pub time_zone: Option<String>,
}

/// Prints no password.
impl std::fmt::Debug for ImportWish {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dry_run, nothing, domain, .. } = self;
        write!(formatter, "ImportWish {{ dry_run: {dry_run}, nothing: {nothing}, domain: {domain:?}, .. }}")
    }
}

/// One step of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportItem {
    /// So many rows of so many were looked at.
    Progress {
        /// So far.
        rows: u64,
        /// In all, when it began.
        of: u64,
    },
    /// A row that is not taken over, and why. Those that have just expired are only counted.
    LeftOut {
        /// Whose.
        name: String,
        /// Its Contact.
        contact: String,
        /// Why.
        why: String,
    },
}

/// What has become of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportView {
    /// Rows that were looked at.
    pub rows: u64,
    /// Bindings that were taken over, or would be.
    pub taken: u64,
    /// Bindings whose phone was registered here.
    pub known: u64,
    /// Rows that were left out, by the reason.
    pub left_out: BTreeMap<String, u64>,
    /// Who has what was taken over; `None`: nothing was to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldView>,
    /// Whether the table is Tandem's own, so that it writes and removes rows; `None`: the configuration does not want that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<bool>,
}

/// Who has what was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldView {
    /// This node, which has no peer.
    ThisNode,
    /// This node, which has no peer, and not on its disk.
    NotYetTheDisk,
    /// Both.
    BothNodes,
    /// The other one is away.
    NotYetTheOther,
}
