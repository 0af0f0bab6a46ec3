//! Bans: who is slowed down, and who is not heard at all.
//!
//! Kept by source address, before any shard and before any parsing of values. A source is judged by what it
//! could not prove: wrong passwords, requests that only scanners send, more unproven requests per second
//! than a crowd of phones makes. It is slowed first, per name that fails; when its offences go on it is
//! banned for a time that doubles with each ban.
//!
//! An office of many phones shares one address behind its NAT, so a source that proves itself (a right
//! digest, a live binding, a call) is never banned whole: only the names that fail are.
//!
//! Invariant: a source that has proved itself within [`PROOF_LASTS`] passes [`Bans::judge`]. Tables are bounded; when
//! one is full, those who have offended least recently are forgotten.

mod bucket;
mod network;
mod table;

use std::net::IpAddr;
use std::time::Duration;

use clock::Instant;
use ipnet::IpNet;

use bucket::Bucket;
pub use bucket::Rate;
pub use network::SourceNetwork;
use table::Table;

/// How long one proof protects a source: as long as a binding may last.
pub const PROOF_LASTS: Duration = Duration::from_secs(3_600);

/// Sources that are remembered. 100 bytes each: 10 MB under a flood with forged addresses.
const SOURCES_MAX: usize = 100_000;

/// Failing names that are remembered, all sources together.
const NAMES_MAX: usize = 100_000;

/// Names longer than this are cut: they are a table's key.
const NAME_BYTES_MAX: usize = 64;

/// The longest ban.
const BAN_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The longest time for which one name is slowed.
const SLOW_MAX: Duration = Duration::from_secs(60);

/// What the operator set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanRules {
    /// Failures of one name before it is slowed.
    pub failures_free: u32,
    /// Offences of a source, within `window`, that ban it.
    pub offences_max: u32,
    /// How long an offence counts.
    pub window: Duration,
    /// The first ban; each further one doubles.
    pub ban: Duration,
    /// Unproven requests of one source.
    pub unproven: Rate,
    /// Never banned and never slowed.
    pub never: Vec<IpNet>,
}

impl Default for BanRules {
    fn default() -> Self {
        Self {
            failures_free: 3,
            offences_max: 20,
            window: Duration::from_secs(300),
            ban: Duration::from_secs(600),
            unproven: Rate { per_second: 100, burst: 1_000 },
            never: Vec::new(),
        }
    }
}

/// What a source did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offence {
    /// A wrong password, or a user that does not exist.
    WrongCredentials,
    /// A request that phones do not send: a scanner's name in User-Agent.
    Scanner,
    /// Bytes that are not SIP.
    Malformed,
    /// More unproven requests than the rate allows.
    Flood,
}

impl Offence {
    /// How much it weighs against [`BanRules::offences_max`].
    const fn weight(self, rules: &BanRules) -> u32 {
        match self {
            Self::Scanner => rules.offences_max,
            Self::WrongCredentials | Self::Malformed => 1,
            Self::Flood => 0,
        }
    }

    /// For `status` and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongCredentials => "wrong credentials",
            Self::Scanner => "scanner",
            Self::Malformed => "malformed",
            Self::Flood => "flood",
        }
    }
}

/// What is to be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It goes on.
    Pass,
    /// It is dropped without an answer: its rate is too high, or its name has failed too often just now.
    Slow,
    /// It is dropped without an answer: its source, or its name from this source, is banned.
    Banned,
}

/// A ban, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub source: SourceNetwork,
    /// The name, if only one name of the source is banned.
    pub name: Option<Box<str>>,
    /// What the last offence was.
    pub cause: Offence,
    /// How long it still lasts.
    pub left: Duration,
    /// The how many-th ban it is.
    pub number: u32,
}

/// All that is remembered of sources.
#[derive(Debug)]
pub struct Bans {
    rules: BanRules,
    sources: Table<SourceNetwork, Source>,
    names: Table<(SourceNetwork, Box<[u8]>), Name>,
}

#[derive(Clone, Debug)]
struct Source {
    bucket: Bucket,
    offences: u32,
    /// When the offences begin to count anew.
    window_ends: Instant,
    banned_until: Instant,
    bans: u32,
    cause: Offence,
    proved_until: Instant,
}

#[derive(Clone, Debug)]
struct Name {
    failures: u32,
    /// When the failures are forgotten.
    forgotten_at: Instant,
    slow_until: Instant,
}

impl Bans {
    /// Nobody is banned.
    pub fn new(rules: BanRules) -> Self {
        Self { rules, sources: Table::new(SOURCES_MAX), names: Table::new(NAMES_MAX) }
    }

    /// Takes other rules; bans that are in force stay.
    pub fn reload(&mut self, rules: BanRules) {
        self.rules = rules;
    }

    /// Judges a datagram or a connection's message before it is read.
    pub fn judge(&self, now: Instant, address: IpAddr) -> Judgement {
        match self.sources.of(&SourceNetwork::of(address)) {
            Some(source) if now < source.banned_until && !self.is_exempt(address, source, now) => {
                Judgement::Banned
            }
            _ => Judgement::Pass,
        }
    }

    /// Judges a request that proves nothing: one token of its source's bucket.
    pub fn judge_unproven(&mut self, now: Instant, address: IpAddr) -> Judgement {
        if self.is_never(address) {
            return Judgement::Pass;
        }
        let rate = self.rules.unproven;
        let source = self.source(now, address);
        match source.bucket.take(rate, now) {
            true => Judgement::Pass,
            false => {
                source.cause = Offence::Flood;
                Judgement::Slow
            }
        }
    }

    /// Judges a request that carries credentials of `name`, before they are checked.
    pub fn judge_name(&self, now: Instant, address: IpAddr, name: &[u8]) -> Judgement {
        let Some(record) = self.names.of(&(SourceNetwork::of(address), cut(name))) else {
            return Judgement::Pass;
        };
        if self.is_never(address) || now >= record.slow_until || now >= record.forgotten_at {
            return Judgement::Pass;
        }
        match record.failures >= self.rules.offences_max {
            true => Judgement::Banned,
            false => Judgement::Slow,
        }
    }

    /// Is told of an offence; `name` is the digest username of wrong credentials. Tells whether a ban begins.
    pub fn handle_offence(
        &mut self,
        now: Instant,
        address: IpAddr,
        name: Option<&[u8]>,
        offence: Offence,
    ) -> bool {
        if self.is_never(address) {
            return false;
        }
        if let Some(name) = name {
            self.count_failure(now, address, name);
        }
        let (max, window, ban) = (self.rules.offences_max, self.rules.window, self.rules.ban);
        let weight = offence.weight(&self.rules);
        let source = self.source(now, address);
        if now >= source.window_ends {
            source.offences = 0;
            source.window_ends = now + window;
        }
        source.offences = source.offences.saturating_add(weight);
        source.cause = offence;
        if source.offences < max || now < source.proved_until || now < source.banned_until {
            return false;
        }
        source.offences = 0;
        source.banned_until = now + doubled(ban, source.bans, BAN_MAX);
        source.bans = source.bans.saturating_add(1);
        true
    }

    /// Is told that a source proved itself: right credentials of `name`, or a live binding or call.
    pub fn handle_proof(&mut self, now: Instant, address: IpAddr, name: Option<&[u8]>) {
        let source = self.source(now, address);
        source.proved_until = now + PROOF_LASTS;
        if let Some(name) = name {
            self.names.remove(&(SourceNetwork::of(address), cut(name)));
        }
    }

    /// Ends the bans of a source and of its names; tells whether there was one.
    pub fn remove(&mut self, now: Instant, address: IpAddr) -> bool {
        let network = SourceNetwork::of(address);
        let was_banned = self.list(now).iter().any(|ban| ban.source == network);
        self.sources.remove(&network);
        self.names.retain(|(source, _), _| *source != network);
        was_banned
    }

    /// All bans in force, sources first, each ordered by address and name.
    pub fn list(&self, now: Instant) -> Vec<Ban> {
        let sources =
            self.sources.iter().filter(|(_, source)| now < source.banned_until && now >= source.proved_until);
        let mut bans: Vec<Ban> = sources
            .map(|(&network, source)| Ban {
                source: network,
                name: None,
                cause: source.cause,
                left: source.banned_until.since(now),
                number: source.bans,
            })
            .collect();
        let names = self.names.iter().filter(|(_, name)| {
            name.failures >= self.rules.offences_max && now < name.slow_until && now < name.forgotten_at
        });
        bans.extend(names.map(|((network, text), name)| Ban {
            source: *network,
            name: Some(String::from_utf8_lossy(text).into()),
            cause: Offence::WrongCredentials,
            left: name.slow_until.since(now),
            number: 1,
        }));
        bans.sort_by(|a, b| {
            (a.name.is_some(), a.source, &a.name).cmp(&(b.name.is_some(), b.source, &b.name))
        });
        bans
    }

    fn count_failure(&mut self, now: Instant, address: IpAddr, name: &[u8]) {
        let (free, max) = (self.rules.failures_free, self.rules.offences_max);
        let (window, ban) = (self.rules.window, self.rules.ban);
        let fresh = Name { failures: 0, forgotten_at: now + window, slow_until: Instant::START };
        let record = self.names.touch((SourceNetwork::of(address), cut(name)), || fresh.clone());
        if now >= record.forgotten_at {
            *record = fresh;
        }
        record.failures = record.failures.saturating_add(1);
        if record.failures >= max {
            record.slow_until = now + ban;
            record.forgotten_at = now + ban;
        } else if record.failures > free {
            record.slow_until =
                now + doubled(Duration::from_millis(500), record.failures - free - 1, SLOW_MAX);
        }
    }

    fn source(&mut self, now: Instant, address: IpAddr) -> &mut Source {
        let window = self.rules.window;
        self.sources.touch(SourceNetwork::of(address), || Source {
            bucket: Bucket::full(now),
            offences: 0,
            window_ends: now + window,
            banned_until: Instant::START,
            bans: 0,
            cause: Offence::Flood,
            proved_until: Instant::START,
        })
    }

    fn is_exempt(&self, address: IpAddr, source: &Source, now: Instant) -> bool {
        now < source.proved_until || self.is_never(address)
    }

    fn is_never(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.rules.never.iter().any(|network| network.contains(&address))
    }
}

fn cut(name: &[u8]) -> Box<[u8]> {
    name[..name.len().min(NAME_BYTES_MAX)].to_ascii_lowercase().into()
}

/// `first`, doubled `times` times, at most `max`.
fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(1 << times.min(20)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guesser_is_banned_and_a_longer_time_each_time() {
        let mut bans = Bans::new(BanRules::default());

        assert!(guess(&mut bans, at(0), 20));
        assert_eq!(bans.judge(at(599), GUESSER), Judgement::Banned);
        assert_eq!(bans.judge(at(600), GUESSER), Judgement::Pass);

        assert!(guess(&mut bans, at(600), 20));
        assert_eq!(bans.judge(at(600 + 1_199), GUESSER), Judgement::Banned);
        assert_eq!(bans.judge(at(600 + 1_200), GUESSER), Judgement::Pass);
    }

    #[test]
    fn an_office_with_a_live_phone_is_never_banned_whole() {
        let mut bans = Bans::new(BanRules::default());
        bans.handle_proof(at(0), GUESSER, Some(b"alice"));

        assert!(!guess(&mut bans, at(1), 500));

        assert_eq!(bans.judge(at(2), GUESSER), Judgement::Pass);
        assert_eq!(bans.judge_name(at(2), GUESSER, b"mallory"), Judgement::Banned);
        assert_eq!(bans.judge_name(at(2), GUESSER, b"alice"), Judgement::Pass);
    }

    #[test]
    fn a_name_that_fails_is_slowed_before_it_is_banned() {
        let mut bans = Bans::new(BanRules::default());

        guess(&mut bans, at(0), 3);
        assert_eq!(bans.judge_name(at(0), GUESSER, b"mallory"), Judgement::Pass);
        guess(&mut bans, at(0), 1);
        assert_eq!(bans.judge_name(at(0), GUESSER, b"mallory"), Judgement::Slow);
        assert_eq!(bans.judge_name(at(1), GUESSER, b"mallory"), Judgement::Pass);
    }

    #[test]
    fn the_right_password_ends_a_names_disgrace() {
        let mut bans = Bans::new(BanRules::default());
        guess(&mut bans, at(0), 10);

        bans.handle_proof(at(1), GUESSER, Some(b"MALLORY"));

        assert_eq!(bans.judge_name(at(1), GUESSER, b"mallory"), Judgement::Pass);
    }

    #[test]
    fn a_scanner_is_banned_at_once_but_not_a_network_that_never_is() {
        let rules = BanRules { never: vec!["198.51.100.0/24".parse().unwrap()], ..BanRules::default() };
        let mut bans = Bans::new(rules);

        assert!(bans.handle_offence(at(0), GUESSER, None, Offence::Scanner));
        assert!(!bans.handle_offence(at(0), FRIEND, None, Offence::Scanner));

        assert_eq!(bans.judge(at(1), GUESSER), Judgement::Banned);
        assert_eq!(bans.judge(at(1), FRIEND), Judgement::Pass);
    }

    #[test]
    fn unproven_requests_have_a_rate() {
        let mut bans = Bans::new(BanRules::default());
        let mut passed =
            |now| (0..5_000).filter(|_| bans.judge_unproven(now, GUESSER) == Judgement::Pass).count();

        assert_eq!(passed(at(0)), 1_000);
        assert_eq!(passed(at(1)), 100);
        assert_eq!(passed(at(100)), 1_000);
    }

    #[test]
    fn offences_that_are_spread_out_ban_nobody() {
        let mut bans = Bans::new(BanRules::default());

        assert!((0..50).all(|number| !guess(&mut bans, at(number * 60), 3)));
    }

    #[test]
    fn a_ban_is_listed_and_can_be_removed() {
        let mut bans = Bans::new(BanRules::default());
        guess(&mut bans, at(0), 20);

        let list = bans.list(at(10));

        assert_eq!(list.len(), 2);
        assert_eq!((list[0].left, list[0].number, list[0].cause), (secs(590), 1, Offence::WrongCredentials));
        assert_eq!(list[1].name.as_deref(), Some("mallory"));
        assert!(bans.remove(at(10), GUESSER));
        assert!(!bans.remove(at(10), GUESSER));
        assert_eq!(bans.judge(at(10), GUESSER), Judgement::Pass);
        assert_eq!(bans.list(at(10)), []);
    }

    #[test]
    fn memory_is_bounded_under_forged_addresses() {
        let mut bans = Bans::new(BanRules::default());
        for number in 0..250_000u32 {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            bans.handle_offence(at(0), address, Some(&number.to_be_bytes()), Offence::WrongCredentials);
        }
        assert!(bans.sources.len() <= SOURCES_MAX && bans.names.len() <= NAMES_MAX);
    }

    const GUESSER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
    const FRIEND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 9));

    fn guess(bans: &mut Bans, now: Instant, times: u32) -> bool {
        (0..times).any(|_| bans.handle_offence(now, GUESSER, Some(b"mallory"), Offence::WrongCredentials))
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + secs(seconds)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}
