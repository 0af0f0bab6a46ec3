//! What is asked of the DNS, what it says, and the order in that: NAPTR by order and preference, SRV by
//! priority and weight.

use std::net::IpAddr;

use crate::Transport;

/// Records of one answer that count. A zone of a large carrier has a dozen.
const RECORDS_MAX: usize = 64;

/// Asked of the DNS. The names are lower case and have no final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// Which transports the domain offers.
    Naptr(Box<str>),
    /// Which servers offer a transport.
    Srv(Box<str>),
    /// A and AAAA.
    Addresses(Box<str>),
}

impl Query {
    /// What it asks for.
    pub fn name(&self) -> &str {
        match self {
            Self::Naptr(name) | Self::Srv(name) | Self::Addresses(name) => name,
        }
    }
}

/// What the DNS said to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// To [`Query::Naptr`].
    Naptr(Vec<NaptrRecord>),
    /// To [`Query::Srv`].
    Srv(Vec<SrvRecord>),
    /// To [`Query::Addresses`], in the order of preference.
    Addresses(Vec<IpAddr>),
    /// There is no such name, or no such record of it.
    None,
    /// It could not be found out.
    Failed,
}

/// One NAPTR record (RFC 3403 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NaptrRecord {
    /// Lower comes first.
    pub order: u16,
    /// Lower comes first among equal orders.
    pub preference: u16,
    /// `s`: the replacement is the name of an SRV record.
    pub flags: Box<str>,
    /// `SIP+D2U`, `SIP+D2T`.
    pub service: Box<str>,
    /// Whether there is a regular expression, which SIP does not use.
    pub has_regexp: bool,
    /// Where to look next.
    pub replacement: Box<str>,
}

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower comes first.
    pub priority: u16,
    /// More is taken more often among equal priorities.
    pub weight: u16,
    /// The server's port.
    pub port: u16,
    /// The server's name; `.` denies the service.
    pub target: Box<str>,
}

/// The SRV names that the NAPTR records lead to, best first; only those whose transport is supported.
// RFC 3263 §4.1: services that the client does not support are discarded before the order counts.
pub(super) fn services(mut records: Vec<NaptrRecord>, supported: &[Transport]) -> Vec<(Box<str>, Transport)> {
    records.sort_by_key(|record| (record.order, record.preference));
    records
        .into_iter()
        .filter(|record| record.flags.eq_ignore_ascii_case("s") && !record.has_regexp)
        .filter_map(|record| {
            let transport = transport_of(&record.service)?;
            supported.contains(&transport).then_some((record.replacement, transport))
        })
        .take(RECORDS_MAX)
        .collect()
}

/// SRV records in the order in which they are to be tried. Equal seeds give equal orders.
// RFC 2782: within a priority each next record is drawn with a chance in proportion to its weight.
pub(super) fn ordered(mut records: Vec<SrvRecord>, seed: u64) -> Vec<SrvRecord> {
    // The DNS may turn the records around; the seed alone is to decide.
    records.sort_by(|a, b| {
        (a.priority, a.weight, &a.target, a.port).cmp(&(b.priority, b.weight, &b.target, b.port))
    });
    records.truncate(RECORDS_MAX);
    let mut state = seed;
    let mut result = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let group = records.iter().take_while(|record| record.priority == priority).count();
        let chosen = drawn(&records[..group], next(&mut state));
        result.push(records.remove(chosen));
    }
    result
}

/// Which record of one priority a number means.
fn drawn(group: &[SrvRecord], number: u64) -> usize {
    let total: u64 = group.iter().map(|record| u64::from(record.weight)).sum();
    // RFC 2782: where no weight is given there is nothing to weigh, and each is as good as the others.
    if total == 0 {
        return (number % group.len().max(1) as u64) as usize;
    }
    let mut mark = number % (total + 1);
    let is_chosen = |record: &SrvRecord| {
        let weight = u64::from(record.weight);
        let is_chosen = mark <= weight;
        mark = mark.saturating_sub(weight);
        is_chosen
    };
    group.iter().position(is_chosen).unwrap_or(0)
}

fn transport_of(service: &str) -> Option<Transport> {
    match service.to_ascii_uppercase().as_str() {
        "SIP+D2U" => Some(Transport::Udp),
        "SIP+D2T" => Some(Transport::Tcp),
        _ => None,
    }
}

/// The next number of a sequence that its seed decides (splitmix).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_priority_number_always_comes_first() {
        for seed in 0..100 {
            let order = ordered(vec![srv(2, 100, "c"), srv(1, 0, "a"), srv(1, 10, "b")], seed);
            assert_eq!(&*order[2].target, "c");
        }
    }

    #[test]
    fn weights_decide_how_often_a_server_is_first() {
        let large = firsts(&[srv(1, 10, "small"), srv(1, 90, "large")], "large");

        assert!((850..=950).contains(&large), "{large}");
    }

    #[test]
    fn servers_without_weights_share() {
        let first = firsts(&[srv(1, 0, "a"), srv(1, 0, "b")], "a");

        assert!((430..=570).contains(&first), "{first}");
    }

    /// RFC 2782: a weight of 0 has a small chance beside others.
    #[test]
    fn a_server_of_no_weight_is_rarely_first_but_can_be() {
        let idle = firsts(&[srv(1, 0, "idle"), srv(1, 20, "busy")], "idle");

        assert!((1..=120).contains(&idle), "{idle}");
    }

    #[test]
    fn the_order_of_the_answer_does_not_matter() {
        let one = ordered(vec![srv(1, 10, "a"), srv(1, 20, "b"), srv(1, 30, "c")], 5);
        let two = ordered(vec![srv(1, 30, "c"), srv(1, 10, "a"), srv(1, 20, "b")], 5);

        assert_eq!(one, two);
    }

    #[test]
    fn a_naptr_record_with_a_regular_expression_or_other_flags_is_passed_over() {
        let record = |flags: &str, has_regexp| NaptrRecord {
            order: 1,
            preference: 1,
            flags: flags.into(),
            service: "SIP+D2U".into(),
            has_regexp,
            replacement: "_sip._udp.example.org".into(),
        };
        let found = |flags, has_regexp| services(vec![record(flags, has_regexp)], &[Transport::Udp]).len();

        assert_eq!((found("S", false), found("s", true), found("u", false), found("", false)), (1, 0, 0, 0));
    }

    fn firsts(records: &[SrvRecord], wanted: &str) -> usize {
        (0..1_000).filter(|&seed| &*ordered(records.to_vec(), seed)[0].target == wanted).count()
    }

    fn srv(priority: u16, weight: u16, target: &str) -> SrvRecord {
        SrvRecord { priority, weight, port: 5060, target: target.into() }
    }
}
