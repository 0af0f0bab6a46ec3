//! What an operator asks a running guardian.

use std::sync::mpsc::SyncSender;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A question to the guardian's thread, which answers from what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// How the cluster looks from here: done with a [`super::view::ClusterView`].
    ClusterStatus {},
    /// The other node becomes active: done when it is, with nothing.
    Switchover {
        /// Also if it is not ready.
        force: bool,
    },
    /// For maintenance of the other nodes, their votes count no more: done when that is in force.
    Solo {
        /// Without the other nodes, or with them again.
        on: bool,
        /// Without a majority: an operator has said that the others are off.
        force: bool,
    },
    /// The voter that speaks for a member from now on is the one that is heard there: done when it is written down.
    Accept {
        /// The member's number.
        member: u8,
    },
    /// The list of voters becomes the one that is configured: done when it is in force.
    ChangeList {},
    /// Read the configuration again: done with a list of remarks.
    Reload {},
}

/// Where the answer goes. It has room for one, so that the guardian never waits for who asked.
pub type Reply = SyncSender<Result<Value, String>>;
