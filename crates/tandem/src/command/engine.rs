//! `tandem engine`: the process of a cluster's node that speaks SIP. Its guardian starts it, and nobody else.
//!
//! It has no rights and takes no signals: the guardian says by the pair of sockets what is to be done, and the lease
//! stands in the shared page. What the threads of the server do follows the page; an order only makes them look at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::host::{EngineEnd, Inheritance, Order, PairError, Reloaded, Report, Signals};
use anyhow::{Context, Result, anyhow, bail};
use keys::RootKey;
use net::Readiness;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::config::Config;
use crate::degraded;
use crate::kernel_path::KernelPath;
use crate::logs::Logs;
use crate::page_lease::{PageLease, tell};
use crate::replica::Pair;
use crate::sequences::{self, Sequences};
use crate::service::{Service, node_name};
use crate::serving::{Member, Part, Serving, Start};

/// How often it is looked at how much of the active node's state is here, and what was answered without the other node.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often the threads are looked at.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Serves until the guardian says that it is enough, or is dead.
pub fn run(config_file: PathBuf) -> Result<()> {
    let started = Instant::now();
    // Before anything else is opened: the descriptors have the numbers that come first.
    let Inheritance { pair, page, key, segments, relay } = Inheritance::take()
        .context("the engine of a cluster's node is started by `tandem run`, and not by hand")?;
    // Whoever stops a node signals all of its processes, and it is the guardian who ends this one.
    let _unread = Signals::take().context("signals can not be set aside")?;
    let guardian = Arc::new(pair);
    let segments = Arc::new(segments);
    let config = Config::load(Some(&config_file))?;
    let logs = Logs::start(config.log);
    super::run::raise_descriptor_limit();
    let Some(cluster) = &config.cluster else { bail!("{} has no [cluster]", config_file.display()) };
    let place = cluster.me(&node_name(&config)).map_err(|unfit| anyhow!("{unfit}"))?;
    let place = u8::try_from(place).context("there are more nodes than a cluster may have")?;
    let pair = Pair::of(cluster, place);
    if pair.is_none() {
        tracing::warn!("bindings are copied between two nodes, and there are more: each has its own");
    }
    let kernel_path = KernelPath::open(relay, cluster, &node_name(&config)).map_err(|reason| {
        tracing::info!("media are sent on by this process alone: {reason}");
        reason
    });
    let member = Member {
        place,
        pair,
        root_key: RootKey::new(key.0),
        lease: Arc::new(PageLease::new(page, Arc::clone(&guardian))),
        virtual_addresses: cluster.addresses.iter().copied().collect(),
        tickler: Some(Arc::new(Sequences(Arc::clone(&segments)))),
        kernel_path: kernel_path.map(|path| Arc::new(path) as Arc<dyn net::KernelPath>),
    };
    let part = Part::Member(member);
    let serving = Serving::begin(Start { started, config_file: Some(config_file), config, logs, part })?;
    sequences::follow(segments, &serving.service).context("no thread could be started")?;
    tell(&guardian, Report::Serving);
    let obeyed = obey(&serving.service, &guardian);
    serving.end()?;
    obeyed
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

/// What the guardian was told of what is here, so that it is told again only what has changed.
#[derive(Debug, Default)]
struct Told {
    ready: Option<u8>,
    bindings: Option<u64>,
    degraded: BTreeMap<u8, u64>,
}

impl Told {
    fn tell(&mut self, service: &Service, guardian: &EngineEnd, ready: u8) {
        if self.ready.replace(ready) != Some(ready) {
            tell(guardian, Report::Ready(ready));
        }
        let bindings = service.server.bindings() as u64;
        if self.bindings.replace(bindings) != Some(bindings) {
            tell(guardian, Report::Bindings(bindings));
        }
        self.tell_degraded(service, guardian);
    }

    fn tell_degraded(&mut self, service: &Service, guardian: &EngineEnd) {
        for (cause, count) in degraded::among(service.server.tallies()) {
            if self.degraded.insert(cause, count).unwrap_or(0) != count {
                tell(guardian, Report::Degraded { cause, count });
            }
        }
    }
}

/// Does what the guardian orders until the end.
fn obey(service: &Service, guardian: &EngineEnd) -> Result<()> {
    let interval = Timespec::try_from(LOOK_INTERVAL)?;
    let (mut is_alive, mut looked_at, mut told) = (true, Instant::now(), Told::default());
    loop {
        told.tell(service, guardian, if is_alive { service.server.share() } else { 0 });
        match poll(&mut [PollFd::new(guardian, PollFlags::IN)], Some(&interval)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => {
                if take_orders(service, guardian, &mut told)? == Then::End {
                    return Ok(());
                }
            }
            Err(error) => return Err(error).context("the guardian can not be heard"),
        }
        if looked_at.elapsed() >= HEALTH_INTERVAL {
            looked_at = Instant::now();
            let was_alive = std::mem::replace(&mut is_alive, service.server.is_alive());
            if was_alive != is_alive {
                changed_health(service, is_alive);
            }
        }
    }
}

fn changed_health(service: &Service, is_alive: bool) {
    if is_alive {
        tracing::info!("all threads of the server do their work again");
    } else {
        tracing::error!("a thread of the server hangs or has died");
    }
    service.server.set_readiness(if is_alive { Readiness::Ready } else { Readiness::NotReady });
}

/// Takes all orders that wait.
fn take_orders(service: &Service, guardian: &EngineEnd, told: &mut Told) -> Result<Then> {
    loop {
        match guardian.receive() {
            Ok(None) => return Ok(Then::GoOn),
            Ok(Some(order)) => {
                tracing::debug!(?order, "the guardian orders");
                if follow(service, guardian, told, order) == Then::End {
                    return Ok(Then::End);
                }
            }
            Err(PairError::Ended) => {
                tracing::error!("the guardian is dead");
                return Ok(Then::End);
            }
            // Orders are repeated by what is in the page.
            Err(error @ PairError::Garbage { .. }) => tracing::error!(%error, "an order was not understood"),
            Err(error) => return Err(error.into()),
        }
    }
}

fn follow(service: &Service, guardian: &EngineEnd, told: &mut Told, order: Order) -> Then {
    match order {
        Order::Active(_) | Order::Standby => service.server.look_at_lease(),
        Order::Drain => {
            service.server.drain();
            // The next that a guardian does is to end the report of this tenure.
            told.tell_degraded(service, guardian);
            tell(guardian, Report::Drained);
        }
        Order::Reload => {
            let reloaded = if service.reload().is_ok() { Reloaded::Taken } else { Reloaded::Refused };
            tell(guardian, Report::Reloaded(reloaded));
        }
        Order::Stop => return Then::End,
    }
    Then::GoOn
}
