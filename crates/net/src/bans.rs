//! The bans, shared by all threads that receive.
//!
//! Whom a batch comes from is judged before a shard is locked, and what the machines tell of sources is learnt when the
//! batch is done. While nobody is held, which is nearly always, one load says so. While somebody is, all threads
//! read the table side by side, once for each batch. It is written only for news: that a phone is as good as it
//! was a moment ago is none.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use clock::Instant;
use routing::bans::{Ban, Judgement};
use routing::{Bans, Keyring, Report, Settings};
use transport::Flow;

#[derive(Debug)]
pub(crate) struct SharedBans {
    bans: RwLock<Bans>,
    /// Nanoseconds until which somebody may be held.
    busy_until: AtomicU64,
}

impl SharedBans {
    pub(crate) fn new(settings: &Arc<Settings>, keyring: &Keyring) -> Self {
        let bans = RwLock::new(Bans::new(Arc::clone(settings), keyring));
        Self { bans, busy_until: AtomicU64::new(Instant::START.as_nanos()) }
    }

    /// Whether nobody is held, so that nobody need be judged.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        // Relaxed: a ban may begin a packet later on another core.
        self.busy_until.load(Ordering::Relaxed) <= now.as_nanos()
    }

    /// Judges a batch.
    pub(crate) fn judge_all<'j>(&self, now: Instant, flows: impl Iterator<Item = (Flow, &'j mut Judgement)>) {
        let bans = self.bans.read().unwrap_or_else(PoisonError::into_inner);
        // A flood is a run of packets of one flow.
        let mut last: Option<(Flow, Judgement)> = None;
        for (flow, judgement) in flows {
            *judgement = match last {
                Some((before, judgement)) if before == flow => judgement,
                _ => bans.judge(now, &flow),
            };
            last = Some((flow, *judgement));
        }
    }

    /// Judges what came by one flow.
    pub(crate) fn judge(&self, now: Instant, flow: &Flow) -> Judgement {
        if self.is_quiet(now) { Judgement::Pass } else { self.read(|bans| bans.judge(now, flow)) }
    }

    /// Judges who connects.
    pub(crate) fn judge_address(&self, now: Instant, address: IpAddr) -> Judgement {
        if self.is_quiet(now) { Judgement::Pass } else { self.read(|bans| bans.judge_address(now, address)) }
    }

    /// Learns what sources did, and appends the bans that begin.
    pub(crate) fn learn(&self, now: Instant, reports: &mut Vec<Report>, begun: &mut Vec<Ban>) {
        self.read(|bans| reports.retain(|report| bans.is_news(now, report)));
        if !reports.is_empty() {
            self.with(|bans| {
                for report in reports.drain(..) {
                    bans.handle_report(now, &report, begun);
                }
            });
        }
    }

    /// Forgets what is long over.
    pub(crate) fn sweep(&self, now: Instant) {
        if self.read(|bans| bans.poll_timeout().is_some_and(|at| at <= now)) {
            self.with(|bans| bans.handle_timeout(now));
        }
    }

    /// Lets `look` read the bans.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Bans) -> R) -> R {
        look(&self.bans.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets `act` change the bans.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Bans) -> R) -> R {
        let mut bans = self.bans.write().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut bans);
        self.busy_until.store(bans.busy_until().as_nanos(), Ordering::Relaxed);
        result
    }
}
