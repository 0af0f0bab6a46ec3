//! A pair in its lab, with phones that ask and an observer that watches.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{self, Cluster, Paths, Settings, TIME_MAX};
use crate::lab::Lab;
use crate::lab::asker::Asker;
use crate::lab::observer::{self, Claim, Mac, Observer, now};
use crate::lab::pair::{Pair, SECOND_VIP, Side, VIP, VIP_V6};
use crate::lab::prober::Prober;
use crate::process;

/// The virtual addresses.
pub const ADDRESSES: [IpAddr; 3] = [IpAddr::V4(VIP), IpAddr::V4(SECOND_VIP), IpAddr::V6(VIP_V6)];

/// How often a phone asks.
const EVERY: Duration = Duration::from_millis(10);
/// So many answers are a service.
const ANSWERS: usize = 20;

/// All of it.
#[derive(Debug)]
pub struct Stage<'l> {
    /// The lab.
    pub lab: &'l Lab,
    /// The hosts.
    pub pair: Pair,
    /// The programs.
    pub cluster: Cluster,
    /// Who watches.
    pub observer: Observer,
    macs: [Mac; 2],
    phones: Vec<Asker>,
    _prober: Prober,
}

impl<'l> Stage<'l> {
    /// Nothing runs but those who watch and ask.
    pub fn prepare(lab: &'l Lab, settings: &Settings) -> Result<Stage<'l>> {
        let pair = Pair::new(lab)?;
        if settings.paths == Paths::Two {
            lab.second_path(&[(&pair.a, 1), (&pair.b, 2)])?;
        }
        let cluster = Cluster::prepare(lab, &pair, settings)?;
        let macs = [pair.a.mac()?, pair.b.mac()?];
        let observer = Observer::start(lab, &ADDRESSES)?;
        let prober = Prober::start(&pair.prober, &ADDRESSES)?;
        let phones = vec![
            Asker::start(&pair.phone, ADDRESSES[0], EVERY)?,
            Asker::start(&pair.phone, ADDRESSES[2], EVERY)?,
            Asker::start(&pair.far, ADDRESSES[1], EVERY)?,
        ];
        Ok(Stage { lab, pair, cluster, observer, macs, phones, _prober: prober })
    }

    /// The node a is active, b could take over, and the phones are answered.
    pub fn begin(lab: &'l Lab, settings: &Settings) -> Result<Stage<'l>> {
        let mut stage = Stage::prepare(lab, settings)?;
        stage.start()?;
        Ok(stage)
    }

    /// Starts what was prepared, until it is as after [`Stage::begin`].
    pub fn start(&mut self) -> Result<()> {
        self.cluster.start_all(&self.pair)?;
        self.wait_for_service().context("at the start")?;
        // The active node hears the other one before it is heard: each opens its own session.
        let hears = |status: &Value| cluster::peer_stance(status) == Some("active");
        self.wait_for(Side::B, "hearing the active node", hears)
    }

    /// Waits until all phones are answered what they ask from here on.
    pub fn wait_for_service(&self) -> Result<()> {
        let start = now();
        for phone in &self.phones {
            phone.wait_for(ANSWERS, start, TIME_MAX)?;
        }
        Ok(())
    }

    /// The phones that ask.
    pub fn phones(&self) -> &[Asker] {
        &self.phones
    }

    /// The hardware address of a node.
    pub fn mac(&self, side: Side) -> Mac {
        self.macs[side as usize]
    }

    /// Waits until a node has spoken for each address, from here on, and the phones are answered.
    pub fn wait_until_served_by(&self, side: Side) -> Result<()> {
        let (start, mac) = (now(), self.macs[side as usize]);
        for address in ADDRESSES {
            let what = format!("word of {} for {address}", side.name());
            let is_it = |claim: &Claim| claim.at > start && claim.mac == mac && claim.address == address;
            self.observer.wait_for(&what, TIME_MAX, is_it)?;
        }
        self.wait_for_service()
    }

    /// Waits until the status of a node is as wanted.
    pub fn wait_for(&self, side: Side, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        self.cluster.wait_for(&self.pair, side, what, is_so)
    }

    /// Waits until the status of a node's engine is so.
    pub fn wait_for_engine(
        &self,
        side: Side,
        what: &str,
        time_max: Duration,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let mut last = Value::Null;
        process::wait_until(what, time_max, || {
            last = self.cluster.control(side)?.status()?;
            Ok(is_so(&last).then_some(()))
        })
        .with_context(|| format!("{last}"))
    }

    /// Waits until a node is standby and could take over, and the other one knows it.
    pub fn wait_until_ready(&self, standby: Side) -> Result<()> {
        self.wait_for(standby, "being a ready standby", cluster::is_ready_standby)?;
        self.wait_for(standby.other(), "a ready standby", cluster::is_peer_ready)
    }

    /// What `tandem calls --json` says on a node.
    pub fn calls(&self, side: Side) -> Result<Vec<Value>> {
        let text = process::output(&mut self.cluster.command(&self.pair, side, &["calls", "--json"]))?;
        serde_json::from_str(&text).with_context(|| format!("the calls of {}", side.name()))
    }

    /// The epoch that a node says.
    pub fn epoch(&self, side: Side) -> Result<u64> {
        let status = self.cluster.status(&self.pair, side).context("no status")?;
        status["cluster"]["epoch"].as_u64().context("no epoch in the status")
    }

    /// A cable of a node to the switch.
    pub fn cable(&self, side: Side) -> crate::lab::switch::Cable {
        self.pair.node(side).cable()
    }

    /// Ends: exactly these nodes must have spoken for the addresses, one after the other.
    pub fn end(self, expected: &[&str]) -> Result<()> {
        self.end_with(expected, |_| true)
    }

    /// As [`Stage::end`], without the claims that do not count.
    pub fn end_with(self, expected: &[&str], counts: impl Fn(&Claim) -> bool) -> Result<()> {
        let (begun, names) =
            (self.observer.begun(), BTreeMap::from([(self.macs[0], "a"), (self.macs[1], "b")]));
        let mut claims = self.observer.stop()?;
        claims.retain(counts);
        observer::check(&claims, begun, &names, expected)
    }

    /// The nodes that have spoken so far, one after the other.
    pub fn spoken(&self) -> Vec<&'static str> {
        let reigns = observer::reigns(&self.observer.claims());
        let name = |mac| {
            if mac == self.macs[0] {
                "a"
            } else if mac == self.macs[1] {
                "b"
            } else {
                "?"
            }
        };
        reigns.iter().map(|reign| name(reign.mac)).collect()
    }

    /// Fails when a node speaks for an address from here on, for as many questions as are asked in several leases.
    pub fn ensure_silence(&self, leases: u32) -> Result<()> {
        let start = now();
        let lease = Duration::from_millis(500);
        // Nothing is the event that is waited for.
        std::thread::sleep(lease * leases);
        let loud = self.observer.claims().into_iter().find(|claim| claim.at > start);
        ensure!(loud.is_none(), "somebody spoke for an address: {loud:?}");
        Ok(())
    }
}
