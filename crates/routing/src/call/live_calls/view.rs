//! The calls of a shard for those who look at them.

use std::collections::BTreeSet;
use std::time::Duration;

use clock::WallTime;
use sip::NameAddr;

use super::super::user::TransactionUser;
use super::{CallName, LiveCall, LiveDialog};

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallView {
    /// Its name on both nodes.
    pub name: CallName,
    /// The URI of who calls; empty if it is too long to be kept.
    pub caller: String,
    /// The URI of who is called.
    pub callee: String,
    /// The Call-ID.
    pub call_id: String,
    /// How long ago it began.
    pub age: Duration,
    /// How far it is.
    pub state: CallState,
    /// The account whose limit it counts for.
    pub account: Option<String>,
    /// The gateways that have it.
    pub gateways: Vec<String>,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// Nobody has answered.
    Ringing,
    /// Somebody has answered, the first one so long ago.
    Up(Duration),
}

impl TransactionUser {
    /// The calls, at most so many: those that began first.
    pub fn call_views(&self, now: WallTime, count_max: usize) -> Vec<CallView> {
        let mut oldest = BTreeSet::new();
        for (_, name) in &self.live.deadlines {
            let Some(call) = self.live.calls.get(name) else { continue };
            oldest.insert((call.began, *name));
            if oldest.len() > count_max {
                oldest.pop_last();
            }
        }
        let calls = oldest.iter().filter_map(|(_, name)| Some((*name, self.live.calls.get(name)?)));
        calls.map(|(name, call)| view(now, name, call)).collect()
    }
}

fn view(now: WallTime, name: CallName, call: &LiveCall) -> CallView {
    let parties = call.parties.as_deref();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let uri = |value: &[u8]| NameAddr::parse(value).map(|address| text(address.uri)).unwrap_or_default();
    let answered = call.dialogs.iter().map(|dialog| dialog.answered).min();
    // The keys of limits are the gateways' names at a domain of nobody.
    let counted = call.gateways.iter().map(|key| key.user().to_owned());
    let reached =
        call.dialogs.iter().filter_map(|LiveDialog { gateway, .. }| gateway.as_deref().map(str::to_owned));
    let mut gateways: Vec<String> = reached.chain(counted).collect();
    gateways.sort();
    gateways.dedup();
    CallView {
        name,
        caller: parties.map(|it| uri(&it.from)).unwrap_or_default(),
        callee: parties.map(|it| uri(&it.to)).unwrap_or_default(),
        call_id: parties.map(|it| text(&it.call_id)).unwrap_or_default(),
        age: now.since(call.began),
        state: answered.map_or(CallState::Ringing, |since| CallState::Up(now.since(since))),
        account: call.account.as_ref().map(|account| account.as_str().to_owned()),
        gateways,
    }
}
