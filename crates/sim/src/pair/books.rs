//! The books of what was acknowledged: each binding that a REGISTER was answered 200 for, and which nodes have it.
//!
//! A node *has* a binding when its 200 was produced there, when the 200 waited for it, when both were found equal, or when its
//! disk had it at a start. It has nothing when its engine ends. What no node has any more is lost, and nobody can be blamed
//! for it; everything else must be found at whoever is active.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, WallTime};
use routing::StoredBinding;
use sip::{Aor, Message, Method, Name};

use crate::node::Truth;

/// A request's name: Call-ID and CSeq.
pub(super) type Asking = (Bytes, u32);

/// A REGISTER that a node has heard.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) aor: Aor,
    pub(super) contact: Bytes,
    pub(super) is_end: bool,
    pub(super) received: SocketAddr,
    pub(super) listener: SocketAddr,
    /// When each node heard it first.
    pub(super) heard: [Option<Instant>; 2],
    /// Its nonce and count.
    pub(super) nonce: Option<(Bytes, u32)>,
}

/// What a 200 stands for.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) asking: Asking,
    pub(super) asked: Asked,
    /// `None`: the binding was ended.
    pub(super) until: Option<Instant>,
    pub(super) holders: [bool; 2],
    /// The 200 has left.
    pub(super) is_answered: bool,
    /// Who produced it.
    pub(super) by: usize,
    /// A later request was heard: whether it ends the binding.
    later: Option<bool>,
}

impl Entry {
    /// No later request was heard that may have changed it.
    pub(super) fn is_undisputed(&self) -> bool {
        self.later.is_none()
    }
}

/// What was found at a node.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) kept: u64,
    pub(super) ends_kept: u64,
    pub(super) lost: u64,
    pub(super) problems: Vec<String>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Books {
    asked: BTreeMap<Asking, Asked>,
    entries: BTreeMap<(String, Bytes), Entry>,
}

/// Of what is granted so much passes at least in true time: the clocks of nodes may be fast by a tenth.
const LEAST: f64 = 0.88;
/// The way of a message, and what is rounded.
const SLACK: Duration = Duration::from_secs(1);

impl Books {
    /// A node that serves hears a REGISTER.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        host: usize,
        (from, listener): (SocketAddr, SocketAddr),
        request: &Message<'_>,
    ) {
        let Some((asking, asked)) = read(from, listener, request) else { return };
        if request.header(Name::Authorization).is_some()
            && let Some(entry) = self.entries.get_mut(&key(&asked))
            && entry.asking.1 < asking.1
        {
            entry.later = Some(asked.is_end);
        }
        let asked = self.asked.entry(asking).or_insert(asked);
        asked.heard[host].get_or_insert(now);
    }

    /// What was asked, if a node has heard it.
    pub(super) fn asked(&self, asking: &Asking) -> Option<&Asked> {
        self.asked.get(asking)
    }

    /// The entry of a request, if its 200 was produced.
    pub(super) fn of(&self, asking: &Asking) -> Option<&Entry> {
        self.entries.get(&key(self.asked.get(asking)?)).filter(|entry| entry.asking == *asking)
    }

    /// Whether the 200 to a later request of the same phone was produced: what comes for this one repeats what was said.
    pub(super) fn is_overtaken(&self, asking: &Asking) -> bool {
        let entry = self.asked.get(asking).and_then(|asked| self.entries.get(&key(asked)));
        entry.is_some_and(|entry| entry.asking.0 == asking.0 && entry.asking.1 > asking.1)
    }

    /// A node has produced the 200 to a request; these nodes have what it stands for.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        asking: &Asking,
        host: usize,
        granted: Option<Duration>,
        holders: [bool; 2],
    ) {
        let Some(asked) = self.asked.get(asking).cloned() else { return };
        if let Some(entry) = self.entries.get_mut(&key(&asked)).filter(|entry| entry.asking == *asking) {
            entry.holders = [0, 1].map(|node| entry.holders[node] || holders[node]);
            return;
        }
        let since = asked.heard[host].unwrap_or(now);
        let until = granted.filter(|_| !asked.is_end).map(|granted| since + granted.mul_f64(LEAST));
        let until = until.map(|until| Instant::START + until.since(Instant::START + SLACK));
        let entry = Entry {
            asking: asking.clone(),
            until,
            holders,
            is_answered: false,
            by: host,
            later: None,
            asked: asked.clone(),
        };
        self.entries.insert(key(&asked), entry);
    }

    /// The 200 has left.
    pub(super) fn answer(&mut self, asking: &Asking) {
        let Some(asked) = self.asked.get(asking) else { return };
        if let Some(entry) = self.entries.get_mut(&key(asked)).filter(|entry| entry.asking == *asking) {
            entry.is_answered = true;
        }
    }

    /// A node's engine has ended.
    pub(super) fn crash(&mut self, host: usize) {
        self.entries.values_mut().for_each(|entry| entry.holders[host] = false);
    }

    /// A node was found to have this, and it is as good as what its holders have.
    pub(super) fn find(&mut self, now: Instant, wall: WallTime, host: usize, truth: &Truth) {
        for (key, entry) in &mut self.entries {
            entry.holders[host] |= compare(now, wall, entry, truth.get(key)).is_ok();
        }
    }

    /// A node takes over: what it has is true from here on.
    pub(super) fn take_over(&mut self, now: Instant, wall: WallTime, host: usize, truth: &Truth) -> Found {
        let mut found = Found::default();
        self.entries.retain(|key, entry| {
            if !entry.holders[host] {
                found.lost += u64::from(entry.is_answered && entry.until.is_none_or(|until| now < until));
                return false;
            }
            if !entry.is_answered {
                return true;
            }
            match compare(now, wall, entry, truth.get(key)) {
                Ok(()) if entry.until.is_none() => found.ends_kept += 1,
                Ok(()) if entry.until.is_some_and(|until| until <= now) => {}
                Ok(()) => found.kept += 1,
                Err(problem) => found.problems.push(format!("{problem}: {entry:?}")),
            }
            true
        });
        found
    }

    /// What is wrong at the active node.
    pub(super) fn audit(&self, now: Instant, wall: WallTime, host: usize, truth: &Truth) -> Vec<String> {
        let due = self.entries.iter().filter(|(_, entry)| entry.is_answered && entry.holders[host]);
        due.filter_map(|(key, entry)| {
            let problem = compare(now, wall, entry, truth.get(key)).err()?;
            Some(format!("{problem}: {entry:?}"))
        })
        .collect()
    }

    /// All entries, in their order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The bindings that a phone at this address, as the world sees it, has or had.
    pub(super) fn at(&self, received: SocketAddr) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(move |entry| entry.asked.received == received && entry.until.is_some())
    }
}

/// Whether what a node has is what the entry says, or later.
fn compare(
    now: Instant,
    wall: WallTime,
    entry: &Entry,
    stored: Option<&StoredBinding>,
) -> Result<(), String> {
    let ends_later = entry.later == Some(true);
    let Some(until) = entry.until else {
        return match stored {
            Some(stored) if stored.cseq <= entry.asking.1 => {
                Err("a binding that was ended has come back".to_owned())
            }
            _ => Ok(()),
        };
    };
    if until <= now || ends_later {
        return Ok(());
    }
    let Some(stored) = stored else { return Err("a binding is not there".to_owned()) };
    if stored.cseq < entry.asking.1 {
        return Err(format!("a binding is as it was at CSeq {}", stored.cseq));
    }
    if stored.cseq > entry.asking.1 {
        return Ok(());
    }
    if (stored.received, stored.listener.1.0) != (entry.asked.received, entry.asked.listener) {
        return Err(format!("a binding leads to {} from {:?}", stored.received, stored.listener));
    }
    match stored.left(wall) < until.since(now) {
        true => Err(format!("a binding ends after {:?}, too early", stored.left(wall))),
        false => Ok(()),
    }
}

fn key(asked: &Asked) -> (String, Bytes) {
    (asked.aor.as_str().to_owned(), asked.contact.clone())
}

fn read(from: SocketAddr, listener: SocketAddr, request: &Message<'_>) -> Option<(Asking, Asked)> {
    if request.method() != Some(Method::Register) {
        return None;
    }
    let text = |name| request.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let (to, contact) = (text(Name::To)?, text(Name::Contact)?);
    let inside = |value: &str| Some(value.split_once('<')?.1.split_once('>')?.0.to_owned());
    let aor = Aor::parse(inside(&to)?.strip_prefix("sip:")?)?;
    let asked = Asked {
        aor,
        contact: Bytes::from(inside(&contact)?),
        is_end: text(Name::Expires)?.trim() == "0",
        received: from,
        listener,
        heard: [None; 2],
        nonce: text(Name::Authorization).and_then(|value| nonce(&value)),
    };
    Some((asking(request)?, asked))
}

/// The name of a request, or of what a response answers.
pub(super) fn asking(message: &Message<'_>) -> Option<Asking> {
    let call_id = message.header(Name::CallId)?;
    Some((Bytes::copy_from_slice(call_id), message.cseq().ok()?.number))
}

/// The nonce of a challenge or of credentials, with its count.
pub(super) fn nonce(value: &str) -> Option<(Bytes, u32)> {
    let part = |name: &str| value.split_once(name)?.1.split(['"', ',']).next();
    let count = part("nc=").and_then(|count| u32::from_str_radix(count.trim(), 16).ok());
    Some((Bytes::copy_from_slice(part(" nonce=\"")?.as_bytes()), count.unwrap_or(0)))
}
