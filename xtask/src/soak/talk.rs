//! `cargo xtask soak talk`: fifty of some faults and as many switchovers while two hundred calls talk, ours and Kamailio with
//! keepalived, rtpengine and Redis in turn; how long nothing was heard, and whether every talk went on.
//!
//! Each side says a packet every 20 ms, as phones do. A talk is hurt when one of its sides hears nothing more or somebody else, or
//! when it can not be ended by a BYE; also by a single packet that a planned switchover loses.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::trials::event::Event;
use super::trials::pairs::{Contestant, Servers};
use super::trials::record::Record;
use super::trials::{Size, Subject, Trial};
use crate::cluster::fault::Fault;
use crate::cluster::{Digest, Settings, TIME_MAX};
use crate::keepalived::Script;
use crate::lab::Lab;
use crate::lab::observer::now;
use crate::lab::pair::{Pair, VIP};
use crate::packages::{self, Needed};
use crate::phone::Phone;
use crate::sessions::Callers;

mod crowd;
mod heard;
mod page;

use crowd::Crowd;
use heard::Heard;

/// All talk for so long before it happens,
const BEFORE: Duration = Duration::from_secs(3);
/// for so long until it is mended, which is longer than any of the pairs needs to take over,
const UNTIL_MENDED: Duration = Duration::from_secs(6);
/// and for so long behind that: who comes back late comes back.
const AFTER: Duration = Duration::from_secs(12);
/// Who is heard in this last time is heard to the end.
const END: Duration = Duration::from_secs(1);

/// What the file of ours has of the relay.
const RELAY: &str = "[relay]\nrelay = \"always\"\n";
/// One phone has all calls, which is no flood.
const LIMITS: &str = "calls_per_account = 0\n";

/// Calls that talk all the time.
#[derive(Debug)]
pub struct UnderTalk;

impl Subject for UnderTalk {
    type Outcome = Heard;

    const WORD: &'static str = "talk";
    const PAGE: &'static str = "bench/SOAK-TALK.md";
    const PACKAGES: &'static [Needed] = packages::FOR_TALK;
    const EVENTS: &'static [Event] = &[
        Event::Fault(Fault::AllKilled),
        Event::Fault(Fault::AllFrozen),
        Event::Fault(Fault::CutOff),
        Event::Switchover,
    ];
    /// Calls.
    const SIZE: Size = Size { word: "--sessions", usual: 200, least: 1 };

    fn start(lab: &Lab, pair: &Pair, who: Contestant) -> Result<Servers> {
        let settings = Settings {
            digest: Digest::Off,
            log_level: "info",
            sip: LIMITS.to_owned(),
            toml: RELAY.to_owned(),
            ..Settings::default()
        };
        let servers = Servers::start(lab, pair, who, &settings, Script::Talk)?;
        if let Servers::Tandem(cluster) = &servers {
            cluster.wait_until_whole(TIME_MAX)?;
        }
        Ok(servers)
    }

    fn run(trial: &mut Trial<'_>) -> Result<Heard> {
        let Trial { lab, pair, servers, size, event, round } = trial;
        let hosts = [&pair.phone, &pair.far];
        let phone = |host, user| Phone::at_service(host, user, &VIP.to_string(), (VIP, 5060).into());
        let media = hosts.map(|host| host.v4.into());
        let mut callers = Callers::new(phone(hosts[0], "alice")?, phone(hosts[1], "bob")?, media)?;
        let sessions = (0..*size as usize).map(|number| callers.session(number));
        let sessions = sessions.collect::<Result<Vec<_>>>()?;
        let crowd = Crowd::talk(hosts, VIP.into(), &sessions)?;
        crowd.wait_until_all_hear(TIME_MAX)?;
        std::thread::sleep(BEFORE);
        event.wait_for_moment(*round);
        let from = now();
        let harm = servers.hurt(lab, pair, *event)?;
        std::thread::sleep(UNTIL_MENDED);
        servers.mend(lab, pair, harm)?;
        std::thread::sleep(AFTER);
        let (end, legs) = (now(), crowd.end());
        let open = callers.leave()?;
        Ok(Heard::of(&legs, from, end - END, &open, *event))
    }

    fn page(record: &Record<Heard>, command: &str, size: u32, binary: &Path) -> Result<String> {
        page::page(record, command, size, binary)
    }
}
