//! A pair at which a thousand phones are registered, and what has to be true of them when a node is lost.
//!
//! The thousand are SIPp's: they register once, and from then on they only answer. Beside them are a baresip, phones that
//! refresh all the time, and one that sends its last REGISTER again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::stage::Stage;
use crate::baresip::{Account, Baresip};
use crate::cluster::fault::Fault;
use crate::cluster::{Settings, TIME_MAX};
use crate::control::Contact;
use crate::lab::observer::now;
use crate::lab::pair::{Side, VIP};
use crate::lab::{Family, Lab};
use crate::phone::Phone;
use crate::phone::message::Message;
use crate::phone::wire::Transport;
use crate::registrants::{Plan, Registrants};
use crate::sipp::{Many, Sipp};
use crate::soak::pair::degraded;

/// Phones of SIPp.
const PHONES: usize = 1_000;
/// Where they are on their host.
const PHONES_PORT: u16 = 5060;
/// They register at this pace.
const A_SECOND: u32 = 250;
/// Phones that refresh all the time.
const REFRESHING: u32 = 50;
/// So many of their REGISTERs in a second.
const REFRESHES_A_SECOND: u32 = 50;
/// So many phones are asked at a time: the window of nonce counts is not left.
const ASKED_AT_ONCE: usize = 40;
/// After each fault so many of the thousand are asked, others each time.
const ASKED: usize = 340;
/// And so many are called.
const CALLED: usize = 4;
/// The server counts whole seconds and rounds down, and so does who reads them.
const ROUNDING: Duration = Duration::from_secs(2);

/// All of it.
#[derive(Debug)]
pub struct Office<'l> {
    /// The pair in its lab.
    pub stage: Stage<'l>,
    /// The phones that refresh all the time.
    registrants: Registrants,
    /// The bindings of SIPp and baresip when all had registered, and when that was.
    bindings: (BTreeMap<String, Contact>, Duration),
    /// Asks the phones.
    caller: Phone,
    /// Registers now and then, and sends it again.
    repeater: Phone,
    repeated: Message,
    /// Who is asked and who is called next.
    next: (usize, usize),
    /// When it was looked last, and when a node was lost last.
    looked_at: Duration,
    lost_at: Duration,
    /// Who had been challenged again by then.
    challenged: u64,
    /// How many REGISTERs the node that was lost had answered although the other one might not hold them, since the pair
    /// was whole.
    degraded: u64,
    degraded_before: u64,
    _callees: Sipp,
    _baresip: Baresip,
}

impl<'l> Office<'l> {
    /// Starts the pair and registers all phones by the virtual address.
    pub fn open(lab: &'l Lab) -> Result<Office<'l>> {
        // SIPp knows MD5 only, and its flows name no User-Agent.
        let toml = "[auth]\nalgorithms = [\"MD5\"]\n".to_owned();
        let mut stage = Stage::prepare(lab, &Settings { toml, ..Settings::default() })?;
        let users: Vec<String> = (0..PHONES).map(|number| format!("phone{number}")).collect();
        let others = ["caller", "repeater", "baresip"];
        let names: Vec<&str> = users.iter().map(String::as_str).chain(others).collect();
        stage.cluster.prepare_accounts(REFRESHING, &names)?;
        stage.start()?;

        let (domain, far, near) = (VIP.to_string(), stage.pair.far.clone(), stage.pair.phone.clone());
        let account = Account { user: "baresip", transport: Transport::Udp, family: Family::V4, hertz: 440 };
        let mut baresip = Baresip::start_in_domain(lab, &far, &domain, account)?;
        let line = |user: &String| {
            format!("{user};[authentication username={user} password={}]", crate::server::PASSWORD)
        };
        let lines: Vec<String> = users.iter().map(line).collect();
        let many = Many {
            name: "register_many",
            user: "",
            domain: &domain,
            port: PHONES_PORT,
            lines: &lines,
            a_second: A_SECOND,
        };
        Sipp::start_many(lab, &near, many)?.succeed()?;
        let callees = Sipp::answer_many(lab, &near, &domain, PHONES_PORT)?;
        baresip.wait_until_registered()?;
        let plan = Plan {
            phones: REFRESHING,
            domain: domain.clone(),
            registrar: (VIP, 5060).into(),
            expires: Duration::from_secs(3600),
            removal_one_in: 0,
            seed: 1,
        };
        let registrants = Registrants::start(&near, &plan)?;
        registrants.register_all(REFRESHES_A_SECOND, TIME_MAX)?;
        registrants.set_pace(REFRESHES_A_SECOND);
        let phone = |user| Phone::at_service(&near, user, &domain, (VIP, 5060).into());
        let (caller, mut repeater) = (phone("caller")?, phone("repeater")?);
        let repeated = register(&mut repeater)?;

        let bindings = (of_silent_phones(&stage, Side::A)?, now());
        ensure!(bindings.0.len() == PHONES + 1, "{} of {PHONES} phones are there", bindings.0.len());
        let mut office = Office {
            stage,
            registrants,
            bindings,
            caller,
            repeater,
            repeated,
            next: (0, 0),
            looked_at: now(),
            lost_at: Duration::ZERO,
            challenged: 0,
            degraded: 0,
            degraded_before: 0,
            _callees: callees,
            _baresip: baresip,
        };
        office.wait_until_whole(Side::A)?;
        office.ask_some().context("before any fault")?;
        Ok(office)
    }

    /// Something happens to a node so that the other one takes over; then everything must be there, and the node comes back.
    pub fn lose(&mut self, side: Side, fault: Fault) -> Result<()> {
        self.lose_unhealed(side, fault).with_context(|| format!("{}: {}", side.name(), fault.name()))
    }

    fn lose_unhealed(&mut self, side: Side, fault: Fault) -> Result<()> {
        self.degraded = self.degraded_by(side)? - self.degraded_before;
        self.lost_at = now();
        let Stage { lab, pair, cluster, .. } = &mut self.stage;
        let wound = cluster.hurt(lab, pair, side, fault)?;
        self.stage.wait_until_served_by(side.other())?;
        self.check(side.other())?;
        let Stage { lab, pair, cluster, .. } = &mut self.stage;
        cluster.heal(lab, pair, wound)?;
        self.wait_until_whole(side.other())
    }

    /// Waits until a node is active and the other one could take over.
    pub fn wait_until_whole(&mut self, active: Side) -> Result<()> {
        let found = self.stage.cluster.wait_until_whole(TIME_MAX)?;
        ensure!(found == active, "{} is active", found.name());
        self.degraded_before = self.degraded_by(active)?;
        Ok(())
    }

    /// How many REGISTERs a node has answered although the other one might not hold them.
    fn degraded_by(&self, side: Side) -> Result<u64> {
        Ok(degraded(&self.stage.cluster.control(side)?.status()?).values().sum())
    }

    /// What has to be true when a node has taken over.
    pub fn check(&mut self, active: Side) -> Result<()> {
        self.check_bindings(active).context("bindings")?;
        self.check_refreshes(active).context("refreshes")?;
        self.check_repeated().context("a REGISTER that is sent again")?;
        self.ask_some().context("OPTIONS to phones")?;
        self.call_some().context("calls")
    }

    /// Every binding of those that do not refresh is the one that was acknowledged.
    fn check_bindings(&self, active: Side) -> Result<()> {
        let there = of_silent_phones(&self.stage, active)?;
        let (wanted, at) = &self.bindings;
        ensure!(there.len() == wanted.len(), "{} of {} are at {}", there.len(), wanted.len(), active.name());
        let passed = now().saturating_sub(*at);
        for (aor, wanted) in wanted {
            let found = there.get(aor).with_context(|| format!("{aor} is not at {}", active.name()))?;
            let is_same = (&found.contact, &found.received) == (&wanted.contact, &wanted.received);
            ensure!(is_same, "{found:?} instead of {wanted:?}");
            let is_refreshed = aor.starts_with("baresip@");
            let is_late = found.expires + passed + ROUNDING < wanted.expires;
            let is_early = found.expires + passed > wanted.expires + ROUNDING;
            ensure!(is_refreshed || !(is_late || is_early), "{passed:?} later {found:?}, and {wanted:?}");
        }
        Ok(())
    }

    /// Phones that refresh use the nonce that the other node gave them, with the next count.
    fn check_refreshes(&mut self, active: Side) -> Result<()> {
        self.registrants.wait_for_service(REFRESHING as usize, TIME_MAX)?;
        let mut engine = self.stage.cluster.control(active)?;
        let phones: Vec<u32> = (0..REFRESHING).collect();
        let verdict = self.registrants.audit(&mut engine, &phones)?;
        // On a busy machine the other node is late, and what is then lost with this one was not promised to outlive it.
        let degraded = std::mem::take(&mut self.degraded);
        ensure!(verdict.broken() <= degraded, "{} were degraded: {:?}", degraded, verdict.told);
        let counts = self.registrants.counts();
        // A busy machine can make a node lose the lease and get it again. It then has forgotten a REGISTER that was under
        // way and not its nonce count, and asks for the proof anew.
        let Stage { pair, cluster, .. } = &self.stage;
        let looked_at = std::mem::replace(&mut self.looked_at, now());
        let lapses = cluster.lapses(pair, active, looked_at..self.looked_at)?
            + cluster.lapses(pair, active.other(), looked_at..self.lost_at)?;
        let challenged = if lapses > 0 { 0 } else { counts.challenged_again - self.challenged };
        self.challenged = counts.challenged_again;
        let hurt = challenged + counts.refused + counts.unanswered + counts.wrong;
        ensure!(hurt == 0, "{counts:?}: {:?}", self.registrants.take_complaints());
        Ok(())
    }

    /// What the other node has answered, and a phone sends again byte for byte, gets its 200 once more.
    fn check_repeated(&mut self) -> Result<()> {
        self.repeater.send(&self.repeated)?;
        let answer = self.repeater.expect_status(&self.repeated, 200)?;
        let (contact, local) = (answer.header("Contact").unwrap_or_default(), self.repeater.contact());
        ensure!(contact.contains(&local), "the 200 has {contact:?} and not {local}");
        // The next fault finds a REGISTER that was answered by this node.
        self.repeated = register(&mut self.repeater)?;
        Ok(())
    }

    /// The next of SIPp's phones are asked through the virtual address, and answer from where they were.
    fn ask_some(&mut self) -> Result<()> {
        let numbers: Vec<usize> = (self.next.0..).take(ASKED).map(|number| number % PHONES).collect();
        self.next.0 += ASKED;
        for some in numbers.chunks(ASKED_AT_ONCE) {
            let mut asked = Vec::new();
            for number in some {
                let uri = format!("sip:phone{number}@{VIP}");
                let request = self.caller.request("OPTIONS", &uri);
                let request = self.caller.with_credentials(request);
                self.caller.send(&request)?;
                asked.push((uri, request));
            }
            for (uri, request) in asked {
                let mut answer = self.caller.final_response(&request)?;
                if answer.status() == Some(407) {
                    // The first nonce, or one whose time is over.
                    self.caller.remember(&answer)?;
                    let again = self.caller.again(&request);
                    let again = self.caller.with_credentials(again);
                    self.caller.send(&again)?;
                    answer = self.caller.final_response(&again)?;
                }
                ensure!(answer.status() == Some(200), "{uri}: {}", answer.start);
            }
        }
        Ok(())
    }

    /// Some of them, and baresip, take a call.
    fn call_some(&mut self) -> Result<()> {
        let called = (self.next.1..).take(CALLED).map(|call| format!("phone{}", call * 37 % PHONES));
        let lines: Vec<String> = called.chain(["baresip".to_owned()]).collect();
        self.next.1 += CALLED;
        let domain = VIP.to_string();
        let many = Many {
            name: "caller_many",
            user: "caller",
            domain: &domain,
            port: 5080,
            lines: &lines,
            a_second: 20,
        };
        Sipp::start_many(self.stage.lab, &self.stage.pair.far, many)?.succeed()
    }

    /// Ends: exactly these nodes have spoken for the addresses, one after the other.
    pub fn close(self, expected: &[&str]) -> Result<()> {
        self.stage.end(expected)
    }
}

/// A REGISTER that got its 200.
fn register(phone: &mut Phone) -> Result<Message> {
    phone.register()?;
    let request = phone.register_request(600);
    let request = phone.with_credentials(request);
    phone.send(&request)?;
    phone.expect_status(&request, 200)?;
    Ok(request)
}

/// The bindings of those that register once and then only answer, which are at most one for each.
fn of_silent_phones(stage: &Stage<'_>, side: Side) -> Result<BTreeMap<String, Contact>> {
    let all = stage.cluster.control(side)?.contacts(None)?;
    let silent = all.into_iter().filter(|it| it.aor.starts_with("phone") || it.aor.starts_with("baresip"));
    let mut bindings = BTreeMap::new();
    for binding in silent {
        let before = bindings.insert(binding.aor.clone(), binding);
        ensure!(before.is_none(), "two bindings at {}: {before:?}", side.name());
    }
    Ok(bindings)
}
