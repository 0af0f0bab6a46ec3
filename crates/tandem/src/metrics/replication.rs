//! The families of what one node of a pair knows of what the other one holds.

use super::text::Exposition;
use crate::replica::ReplicaView;

/// Writes the families; `None`: there is no other node.
pub fn write(view: Option<&ReplicaView>, out: &mut Exposition) {
    let mut connected = out
        .gauge("tandem_replication_connected", "Whether the other node is connected, to be told of changes.");
    if let Some(view) = view {
        connected.is(view.connected);
    }
    let mut ready = out.gauge(
        "tandem_replication_ready_ratio",
        "How much of everything the standby holds, as far as this node knows.",
    );
    if let Some(view) = view {
        ready.is(f64::from(view.ready) / 100.0);
    }
    // The active node alone knows it.
    let lag = view.and_then(|view| view.lag);
    let mut messages =
        out.gauge("tandem_replication_lag_messages", "Messages that are on their way to the standby.");
    if let Some(lag) = lag {
        messages.is(lag.messages);
    }
    let mut bytes = out.gauge("tandem_replication_lag_bytes", "Their bytes.");
    if let Some(lag) = lag {
        bytes.is(lag.bytes);
    }
    let mut age =
        out.gauge("tandem_replication_lag_seconds", "How long the oldest of them has been on its way.");
    if let Some(lag) = lag {
        age.is(lag.age_ms as f64 / 1_000.0);
    }
    let mut entries = out.gauge(
        "tandem_replication_entries",
        "Entries of a kind that are on this node, and on the other one at the last comparison.",
    );
    for (kind, view) in view.iter().flat_map(|view| &view.kinds) {
        entries.sample(&[("kind", kind), ("place", "here")], view.here);
        entries.sample(&[("kind", kind), ("place", "there")], view.there);
    }
}
