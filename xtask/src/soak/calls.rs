//! `cargo xtask soak calls`: fifty of each fault and as many switchovers, under a hundred calls a second, ours and Kamailio
//! with keepalived in turn; how many calls were hurt.
//!
//! Each trial has calls of its own (see [`crate::calls`]), so that what was hurt is known to be its doing: they begin, then
//! it happens to the node that serves, some seconds later it is mended, and the calls go on to their ends.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::trials::event::Event;
use super::trials::pairs::{Contestant, Servers};
use super::trials::record::Record;
use super::trials::{Outcome, Size, Subject, Trial};
use crate::calls::books::Books;
use crate::calls::{self, Calls};
use crate::cluster::{Digest, Settings, TIME_MAX};
use crate::keepalived::Script;
use crate::lab::Lab;
use crate::lab::pair::{Pair, Side, VIP};
use crate::packages::{self, Needed};

mod page;

/// Calls begin for so long before it happens, so that as many ring and talk as ever will,
const BEFORE: u64 = 4;
/// for so long until it is mended, which is longer than any of the pairs needs to take over,
const UNTIL_MENDED: u64 = 6;
/// and for so long behind that, in seconds.
const AFTER: u64 = 4;

/// Calls that begin and end.
#[derive(Debug)]
pub struct UnderCalls;

impl Subject for UnderCalls {
    type Outcome = Books;

    const WORD: &'static str = "calls";
    const PAGE: &'static str = "bench/SOAK-CALLS.md";
    const PACKAGES: &'static [Needed] = packages::FOR_CALLS;
    const EVENTS: &'static [Event] = &Event::ALL;
    /// Calls that begin in each second; each kind of call is a part of them.
    const SIZE: Size = Size { word: "--rate", usual: 100, least: 10 };

    fn start(lab: &Lab, pair: &Pair, who: Contestant) -> Result<Servers> {
        let settings = Settings { digest: Digest::Off, log_level: "info", ..Settings::default() };
        let servers = Servers::start(lab, pair, who, &settings, Script::Calls)?;
        match &servers {
            Servers::Tandem(cluster) => {
                calls::register(lab, &pair.far, VIP)?;
                cluster.wait_until_whole(TIME_MAX)?;
            }
            // A node has no bindings of the other one.
            Servers::Kamailio(_) => {
                for side in Side::BOTH {
                    calls::register(lab, &pair.far, pair.node(side).v4).context(side.name())?;
                }
            }
        }
        Ok(servers)
    }

    fn run(trial: &mut Trial<'_>) -> Result<Books> {
        let Trial { lab, pair, servers, size, event, round } = trial;
        let mut calls = Calls::begin(lab, &pair.phone, &pair.far, *size, event.name())?;
        let of = |seconds: u64| u64::from(*size) * seconds;
        calls.wait_for(of(BEFORE))?;
        event.wait_for_moment(*round);
        let harm = servers.hurt(lab, pair, *event)?;
        calls.wait_for(of(UNTIL_MENDED))?;
        servers.mend(lab, pair, harm)?;
        calls.wait_for(of(AFTER))?;
        calls.end()
    }

    fn page(record: &Record<Books>, command: &str, size: u32, binary: &Path) -> Result<String> {
        page::page(record, command, size, binary)
    }
}

impl Outcome for Books {
    fn hurt(&self) -> u64 {
        Books::hurt(self)
    }

    fn complaints(&self) -> &[String] {
        Books::complaints(self)
    }

    fn json(&self) -> Value {
        Books::json(self)
    }

    fn read(value: &Value) -> Option<Books> {
        Books::read(value)
    }
}
