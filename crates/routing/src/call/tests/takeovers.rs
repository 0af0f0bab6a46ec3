//! Calls that another node goes on with, in the midst of every scenario.
//!
//! After each step it is checked that the machine has named every call that it changed: all capsules are compared with
//! those of the step before, by one and the same time. In a scene that is taken over a fresh machine then gets each
//! call from the bytes of its capsule, and the scenario goes on with that machine. What has no capsule it gets as it is:
//! requests that are no calls, what waits for its account, and what a shard knows of others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use lease::LeaseMirror;
use sip::Aor;
use transaction::{Kind, ServerKey};
use transport::selection::Query;

use crate::call::client_branch::BranchState;
use crate::call::user::Reminder;
use crate::call::{Output, StoredCall, StoredDialog, TransactionUser};
use crate::{Answer, CallName, Count, Keyring, Question, Token};

/// Where more is under way than this, only each [`SELDOM`]th step is looked at.
const MANY: usize = 200;
const SELDOM: usize = 2_000;

/// What is remembered from one step to the next.
#[derive(Debug, Default)]
pub(super) struct Takeovers {
    /// Whether another node goes on after each step.
    are_wanted: bool,
    steps: usize,
    /// The capsules after the last step that was looked at.
    capsules: BTreeMap<ServerKey, Bytes>,
    /// The calls that were named since.
    named: BTreeSet<ServerKey>,
    /// The same of the calls that were answered.
    dialogs: BTreeMap<CallName, Bytes>,
    dialogs_named: BTreeSet<CallName>,
    /// What was asked and is not answered.
    asked: BTreeMap<Token, Asked>,
    /// What was asked again is answered by the token of the first time.
    tokens: BTreeMap<Token, Token>,
    /// Whether there was a call at the end of a step.
    has_seen_calls: bool,
    calls_taken_over: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Partition(Aor, Question),
    Dns(Query),
}

impl Takeovers {
    /// Nothing has happened.
    pub(super) fn new(are_wanted: bool) -> Self {
        let mut takeovers = Self::default();
        takeovers.are_wanted = are_wanted;
        takeovers
    }

    /// The token by which something is waited for that was first asked with this one.
    pub(super) fn token(&self, mut token: Token) -> Token {
        while let Some(next) = self.tokens.get(&token) {
            token = *next;
        }
        token
    }

    /// Nothing is under way any more.
    pub(super) fn forget(&mut self) {
        self.capsules.clear();
        self.dialogs.clear();
    }

    /// Every call that a step has changed was named.
    pub(super) fn after_step(&mut self, user: &mut TransactionUser, out: &[Output]) {
        self.steps += 1;
        for output in out {
            if let Some((token, asked)) = asked(output) {
                self.asked.insert(token, asked);
            }
        }
        let mut named = Vec::new();
        user.take_changed_calls(&mut named);
        self.named.extend(named);
        let mut named = Vec::new();
        user.take_changed_dialogs(&mut named);
        self.dialogs_named.extend(named);
        if !self.is_due(user) {
            return;
        }
        let capsules = capsules(user);
        let is_same = |key: &&ServerKey| self.capsules.get(key) == capsules.get(key);
        let unnamed = self.capsules.keys().chain(capsules.keys()).filter(|key| !is_same(key));
        for key in unnamed {
            assert!(self.named.contains(key), "a call has changed that was not named: {out:?}");
        }
        let dialogs = dialogs(user);
        let is_same = |name: &&CallName| self.dialogs.get(name) == dialogs.get(name);
        for name in self.dialogs.keys().chain(dialogs.keys()).filter(|name| !is_same(name)) {
            assert!(
                self.dialogs_named.contains(name),
                "an answered call has changed that was not named: {out:?}"
            );
        }
        self.dialogs = dialogs;
        self.dialogs_named.clear();
        self.has_seen_calls |= !capsules.is_empty();
        self.capsules = capsules;
        self.named.clear();
    }

    /// A fresh machine takes the place of the one that was, where that is wanted.
    pub(super) fn take_over(
        &mut self,
        user: &mut TransactionUser,
        keyring: &Keyring,
        now: Now,
        mirror: &LeaseMirror,
    ) {
        if !self.are_wanted || !self.is_due(user) {
            return;
        }
        let keys: Vec<ServerKey> = user.calls_under_way().collect();
        let stored = |user: &TransactionUser, key| user.stored_call(now, key).expect("it is under way");
        let calls: Vec<(ServerKey, StoredCall)> = keys.iter().map(|key| (*key, stored(user, *key))).collect();
        let settings: Vec<_> = keys.iter().map(|key| settings_of(user, *key)).collect();
        let waits: Vec<Vec<Token>> = keys.iter().map(|key| waits_of(user, *key)).collect();
        let current = Arc::clone(&user.settings);
        let fresh = TransactionUser::new(Arc::clone(&current), keyring.clone(), 3, self.boot());
        let mut before = std::mem::replace(user, fresh);
        for token in waits.iter().flatten() {
            before.waiting.resume(*token);
        }
        user.keep_records();
        user.take_changed_calls(&mut Vec::new());
        user.take_changed_dialogs(&mut Vec::new());
        carry_what_has_no_capsule(user, &mut before);
        let answered = before.answered_calls();
        for name in &answered {
            let told = before.stored_dialog(now, *name).expect("it was answered");
            let dialog = StoredDialog::from_bytes(told.to_bytes()).expect("it was just written");
            assert_eq!(dialog, told, "nothing is lost on the way");
            assert!(user.inherit_dialog(now, *name, &dialog));
        }
        // The partitions of these scenes are the tests themselves.
        user.live.tell_nobody();
        for (((key, told), settings), mut waits) in calls.iter().zip(settings).zip(waits) {
            let call = StoredCall::from_bytes(told.to_bytes()).expect("it was just written");
            assert_eq!(call, *told, "nothing is lost on the way");
            // A request ends with the settings that it has begun with.
            user.settings = settings;
            let mut out = Vec::new();
            user.restore_call(now, Duration::ZERO, *key, call, &mut out);
            self.asked_again(user, now, mirror, &mut waits, &out);
            assert_eq!(waits, [], "all that waited is asked again");
            self.calls_taken_over += 1;
        }
        assert_eq!(user.counts.of(Count::NotTakenOver), 0);
        user.settings = current;
        for name in answered {
            let told = before.stored_dialog(now, name);
            assert_eq!(user.stored_dialog(now, name), told, "the other node would be told the same");
        }
        user.live.adopt(before.live);
        user.counts = before.counts;
        for (key, told) in &calls {
            assert_eq!(stored(user, *key), *told, "the other node would be told the same");
        }
        assert!(user.calls_under_way().eq(keys), "the same calls are under way");
        self.capsules = capsules(user);
    }

    /// Nothing leaves because a call is taken over; what is asked is what had been asked before.
    fn asked_again(
        &mut self,
        user: &mut TransactionUser,
        now: Now,
        mirror: &LeaseMirror,
        waits: &mut Vec<Token>,
        out: &[Output],
    ) {
        for output in out {
            let (token, asked) = asked(output).unwrap_or_else(|| panic!("a takeover has sent {output:?}"));
            // The partitions are told of what counts.
            if let Asked::Partition(_, Question::CallGoesOn(..) | Question::EnterGateway(_, _, u32::MAX)) =
                asked
            {
                let lease = mirror.active(now.instant).unwrap();
                user.handle_answer(now, &lease, token, Answer::Noted, &mut Vec::new());
                continue;
            }
            let place = waits.iter().position(|before| self.asked.get(before) == Some(&asked));
            let before = waits.remove(place.unwrap_or_else(|| panic!("{asked:?} was not asked before")));
            self.tokens.insert(before, token);
            self.asked.insert(token, asked);
        }
    }

    /// Each machine is of another start.
    fn boot(&self) -> u32 {
        1_000 + u32::try_from(self.steps).expect("a scenario is shorter")
    }

    fn is_due(&self, user: &TransactionUser) -> bool {
        user.suspended() + user.contexts() < MANY || self.steps.is_multiple_of(SELDOM)
    }
}

/// A scene that had calls is worth nothing if no other node went on with them.
impl Drop for Takeovers {
    fn drop(&mut self) {
        let is_owed = self.are_wanted && self.has_seen_calls && !std::thread::panicking();
        assert!(!is_owed || self.calls_taken_over > 0, "no call was taken over");
    }
}

/// All capsules, as if they were written at one time.
fn capsules(user: &TransactionUser) -> BTreeMap<ServerKey, Bytes> {
    let now = Now::new(Instant::START, WallTime::from_millis(0));
    let bytes = |key| user.stored_call(now, key).expect("it is under way").to_bytes();
    user.calls_under_way().map(|key| (key, bytes(key))).collect()
}

/// The same of the calls that were answered.
fn dialogs(user: &TransactionUser) -> BTreeMap<CallName, Bytes> {
    let now = Now::new(Instant::START, WallTime::from_millis(0));
    let bytes = |name| user.stored_dialog(now, name).expect("it was answered").to_bytes();
    user.answered_calls().into_iter().map(|name| (name, bytes(name))).collect()
}

fn settings_of(user: &TransactionUser, key: ServerKey) -> Arc<crate::Settings> {
    let context = user.contexts.get(&key).map(|context| &context.inbound.settings);
    Arc::clone(context.unwrap_or(&user.settings))
}

/// The tokens of all that a call waits for, in the order of its branches.
fn waits_of(user: &TransactionUser, key: ServerKey) -> Vec<Token> {
    let Some(context) = user.contexts.get(&key) else {
        return user.waiting.token_of(key).into_iter().collect();
    };
    let of_branch = |state: &BranchState| match state {
        BranchState::Resolving(token) => Some(*token),
        BranchState::Idle | BranchState::Sent(_) | BranchState::Ended => None,
    };
    let branches = context.branches.iter().filter_map(|branch| of_branch(&branch.state));
    context.diversion.into_iter().chain(branches).collect()
}

fn carry_what_has_no_capsule(user: &mut TransactionUser, before: &mut TransactionUser) {
    std::mem::swap(&mut user.waiting, &mut before.waiting);
    for (at, token) in user.waiting.deadlines() {
        user.deadlines.push(at, Reminder::Waiting(token));
    }
    std::mem::swap(&mut user.trunks, &mut before.trunks);
    std::mem::swap(&mut user.avoided, &mut before.avoided);
    user.verdicts = Arc::clone(&before.verdicts);
    let is_other = |key: &ServerKey| before.contexts[key].inbound.kind != Kind::Invite;
    let others: Vec<ServerKey> = before.contexts.keys().copied().filter(is_other).collect();
    for key in others {
        let context = before.contexts.remove(&key).expect("it is one of them");
        for (index, branch) in context.branches.iter().enumerate() {
            if let Some(at) = branch.reminder_at {
                user.deadlines.push(at, Reminder::Branch(key, index));
            }
        }
        user.contexts.insert(key, context);
        let clients = before.by_client.iter().filter(|(_, (server, _))| *server == key);
        user.by_client.extend(clients.map(|(client, place)| (*client, *place)));
    }
    // Those of requests that were forgotten before their clients.
    let is_left = |server: &ServerKey| !before.contexts.contains_key(server);
    let clients = before.by_client.iter().filter(|(_, (server, _))| is_left(server));
    user.by_client.extend(clients.map(|(client, place)| (*client, *place)));
}

fn asked(output: &Output) -> Option<(Token, Asked)> {
    match output {
        Output::Ask { partition_of, token, question } => {
            Some((*token, Asked::Partition(partition_of.clone(), question.clone())))
        }
        Output::Resolve { token, query } => Some((*token, Asked::Dns(query.clone()))),
        _ => None,
    }
}
