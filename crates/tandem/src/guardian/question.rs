//! What an operator asks a running guardian.

use std::sync::mpsc::SyncSender;

use serde_json::Value;

/// A question to the guardian's thread, which answers from what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// How the cluster looks from here.
    ClusterStatus,
}

/// Where the answer goes. It has room for one, so that the guardian never waits for who asked.
pub type Reply = SyncSender<Result<Value, String>>;
