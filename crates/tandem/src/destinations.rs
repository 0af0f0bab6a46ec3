//! Gateways that stand for a set of the table `dispatcher`: each destination of the set becomes a gateway in their place.
//!
//! The configuration says how such a gateway is used, the table where it is. Its name is made of the name in the
//! configuration and of the row's, so that it stays the same, with all that is known of it, as long as the row does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use routing::dial_plan::{Goal, ListenerName, Route, Watch};
use routing::{DialPlan, Gateway};
use sip::SipUri;
use store::{Destination, Probes};
use transport::{Listeners, Transport};

use crate::config::set_of;

/// Destinations that are used: each is probed, and each request is compared with all of them.
const DESTINATIONS_MAX: usize = 300;

/// A plan with the destinations in it.
#[derive(Debug)]
pub struct Filled {
    /// The plan.
    pub plan: DialPlan,
    /// What can not be used, and the mend.
    pub remarks: Vec<String>,
}

/// Puts the destinations in the place of the gateways that stand for their sets.
pub fn fill(plan: &DialPlan, destinations: &[Destination], listeners: &Listeners) -> Filled {
    let mut filling = Filling { destinations, listeners, members: BTreeMap::new(), remarks: Vec::new() };
    let mut gateways = Vec::with_capacity(plan.gateways.len());
    for gateway in &plan.gateways {
        match set_of(gateway) {
            None => gateways.push(Arc::clone(gateway)),
            Some(set) => gateways.extend(filling.members_of(gateway, set).iter().cloned()),
        }
    }
    let routes = plan.routes.iter().map(|route| filling.route(route)).collect();
    Filled { plan: DialPlan { gateways, routes }, remarks: filling.remarks }
}

struct Filling<'a> {
    destinations: &'a [Destination],
    listeners: &'a Listeners,
    /// By the name of the gateway in the configuration.
    members: BTreeMap<Box<str>, Vec<Arc<Gateway>>>,
    remarks: Vec<String>,
}

impl Filling<'_> {
    fn members_of(&mut self, gateway: &Gateway, set: u32) -> &[Arc<Gateway>] {
        let rows: Vec<&Destination> = self.destinations.iter().filter(|it| it.set == set).collect();
        let priorities: BTreeSet<i32> = rows.iter().map(|it| it.priority).collect();
        let weight = if rows.iter().any(|it| it.weight.is_some()) { 0 } else { gateway.weight };
        let mut names = BTreeSet::new();
        let mut members = Vec::with_capacity(rows.len());
        let room = DESTINATIONS_MAX - self.members.values().map(Vec::len).sum::<usize>();
        for row in rows {
            // There the highest is the first, here the lowest.
            let rank = priorities.iter().rev().take_while(|priority| **priority > row.priority).count();
            let priority = gateway.priority.saturating_add(u16::try_from(rank).unwrap_or(u16::MAX));
            let built = self.member(gateway, row).and_then(|member| {
                if !names.insert(member.name.clone()) {
                    return Err(format!(
                        "{} is the name of another row of the set too: give it another duid",
                        member.name
                    ));
                }
                if members.len() >= room {
                    return Err(format!(
                        "no more than {DESTINATIONS_MAX} destinations are used: take some away"
                    ));
                }
                Ok(member)
            });
            match built {
                Ok(member) => {
                    let weight = row.weight.unwrap_or(weight);
                    members.push(Arc::new(Gateway { priority, weight, ..member }));
                }
                Err(what) => self.remarks.push(format!("table dispatcher, row {}: {what}", row.row)),
            }
        }
        if members.is_empty() {
            let name = &gateway.name;
            self.remarks.push(format!(
                "table dispatcher: set {set} has no row that can be used: calls to `{name}` get 503"
            ));
        }
        self.members.entry(gateway.name.clone()).or_insert(members)
    }

    fn member(&self, gateway: &Gateway, row: &Destination) -> Result<Gateway, String> {
        let own = row.name.clone().unwrap_or_else(|| row.row.to_string());
        let via = row.socket.as_deref().map(|socket| self.listener(socket, &row.uri)).transpose()?;
        let interval = gateway.watch.interval.filter(|_| row.probes == Probes::Allowed);
        Ok(Gateway {
            // A name of the configuration has no such sign, so that none is the same.
            name: format!("{}/{own}", gateway.name).into(),
            group: Some(gateway.group.as_ref().unwrap_or(&gateway.name).clone()),
            uri: row.uri.clone().into(),
            via: via.or(gateway.via),
            calls_max: row.calls_max.or(gateway.calls_max),
            watch: Watch { interval, ..gateway.watch.clone() },
            ..gateway.clone()
        })
    }

    /// The listener that a socket names.
    fn listener(&self, socket: &str, uri: &str) -> Result<ListenerName, String> {
        let told = |what: &str| {
            format!(
                "socket `{socket}` {what}: write one of sip.listen, such as udp:192.0.2.5:5060, or empty it"
            )
        };
        let name = read_socket(socket, uri).ok_or_else(|| told("can not be followed"))?;
        match name.find(self.listeners) {
            Some(_) => Ok(name),
            None => Err(told("is no listener of this server")),
        }
    }

    fn route(&self, route: &Arc<Route>) -> Arc<Route> {
        let is_filled = |name: &str| self.members.contains_key(name);
        let leads = match &route.goal {
            Goal::Gateways(lists) => lists.iter().flatten().any(|gateway| is_filled(&gateway.name)),
            Goal::User { .. } | Goal::Reject(_) => false,
        };
        if !leads && !route.fits.gateways.iter().any(|name| is_filled(name)) {
            return Arc::clone(route);
        }
        let mut filled = Route::clone(route);
        if let Goal::Gateways(lists) = &mut filled.goal {
            for list in lists {
                *list = list.iter().flat_map(|gateway| self.in_place_of(gateway)).collect();
            }
        }
        let names = filled.fits.gateways.into_iter();
        filled.fits.gateways = names
            .flat_map(|name| match self.members.get(&name) {
                // A criterion that nobody fits must not become none, which all fit.
                Some(members) if !members.is_empty() => members.iter().map(|it| it.name.clone()).collect(),
                Some(_) | None => vec![name],
            })
            .collect();
        Arc::new(filled)
    }

    fn in_place_of(&self, gateway: &Arc<Gateway>) -> Vec<Arc<Gateway>> {
        self.members.get(&gateway.name).cloned().unwrap_or_else(|| vec![Arc::clone(gateway)])
    }
}

/// `udp:192.0.2.5:5060`; without a transport that of the destination, without a port the usual one.
fn read_socket(text: &str, uri: &str) -> Option<ListenerName> {
    let (transport, place) = match text.split_once(':') {
        Some((name, place)) if name.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            (Transport::of_name(name.as_bytes())?, place)
        }
        _ => (transport_of(uri), text),
    };
    let (address, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => place.split_once(':').map_or((place, ""), |(address, _)| (address, &place[address.len()..])),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None if port.is_empty() => transport.default_port(),
        None => return None,
    };
    Some(ListenerName { transport, address: Some(IpAddr::from_str(address).ok()?), port })
}

fn transport_of(uri: &str) -> Transport {
    let uri = SipUri::parse(uri.as_bytes()).ok();
    uri.and_then(|uri| uri.transport().and_then(Transport::of_name)).unwrap_or(Transport::Udp)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const FILE: &str = "[sip]\nlisten = ['udp://192.0.2.5:5060', 'tcp://192.0.2.5:5060']\n\
                        [database]\nurl = 'postgres://a@db/a'\ndispatcher = true\n\
                        [[gateway]]\nname = 'own'\nuri = 'sip:198.51.100.9'\ngroup = 'all'\n\
                        [[gateway]]\nname = 'carriers'\nuri = 'dispatcher:1'\ngroup = 'all'\nstrip = 1\ncalls_max = 9\n\
                        priority = 2\nsources = ['198.51.100.0/24']\n\
                        [[route]]\nnumber = ['0.']\nto = ['carriers', 'own']\n\
                        [[route]]\nnumber = ['1.']\nto = ['all']\n\
                        [[route]]\nname = 'in'\nfrom = ['carriers']\nto_user = '{number}@example.org'\n\
                        [[route]]\nnumber = ['2.']\nto = ['own']\n";

    #[test]
    fn each_destination_of_the_set_is_a_gateway_in_the_place_of_the_one_that_stands_for_it() {
        let filled = filled(&[
            Destination { name: Some("left".to_owned()), ..destination(4, 10) },
            Destination {
                weight: Some(70),
                calls_max: Some(30),
                probes: Probes::Forbidden,
                ..destination(5, 0)
            },
            Destination { set: 2, ..destination(6, 0) },
            Destination { socket: Some("tcp:192.0.2.5".to_owned()), ..destination(7, -1) },
        ]);

        let plan = &filled.plan;
        let shown: Vec<String> = plan.gateways.iter().map(|it| show(it)).collect();
        assert_eq!(
            shown,
            [
                "own 0 1 - sip:198.51.100.9",
                "carriers/left 2 0 9 sip:198.51.100.4",
                "carriers/5 3 70 30 sip:198.51.100.5",
                "carriers/7 4 0 9 sip:198.51.100.7",
            ]
        );
        assert_eq!(plan.gateways[2].watch.interval, None);
        assert_eq!(plan.gateways[3].via.map(|via| via.transport), Some(Transport::Tcp));
        assert_eq!(plan.gateways[1].rewrite.strip, 1);
        let [to_set, to_group, from, other] = plan.routes.as_slice() else { panic!("{plan:?}") };
        let members = ["carriers/left", "carriers/5", "carriers/7"];
        assert_eq!(lists(to_set), [members.to_vec(), vec!["own"]]);
        assert_eq!(lists(to_group), [["own", "carriers/left", "carriers/5", "carriers/7"]]);
        assert_eq!(from.fits.gateways, members.map(Box::from));
        assert_eq!(lists(other), [["own"]]);
        assert_eq!(filled.remarks, Vec::<String>::new());
    }

    #[test]
    fn a_destination_by_a_socket_of_another_host_is_left_out_and_told() {
        let sockets =
            ["udp:192.0.2.6:5060", "tls:192.0.2.5:5061", "lan", "udp:192.0.2.5:5060x", "udp:192.0.2.5:5060"];
        let rows = (1..)
            .zip(sockets)
            .map(|(row, socket)| Destination { socket: Some(socket.to_owned()), ..destination(row, 0) });

        let filled = filled(&Vec::from_iter(rows));

        let names: Vec<&str> = filled.plan.gateways.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["own", "carriers/5"]);
        assert!(
            filled.remarks[0]
                .starts_with("table dispatcher, row 1: socket `udp:192.0.2.6:5060` is no listener")
        );
        for (remark, row) in filled.remarks[1..].iter().zip(2..) {
            assert!(
                remark.starts_with(&format!("table dispatcher, row {row}: "))
                    && remark.contains("can not be followed"),
                "{remark}"
            );
        }
        assert_eq!(filled.remarks.len(), 4);
    }

    #[test]
    fn a_set_without_destinations_leads_nowhere_and_lets_nobody_in() {
        let filled = filled(&[]);

        let names: Vec<&str> = filled.plan.gateways.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["own"]);
        assert_eq!(lists(&filled.plan.routes[0]), [vec![], vec!["own"]]);
        assert_eq!(filled.plan.routes[2].fits.gateways, ["carriers".into()]);
        assert!(filled.remarks[0].contains("set 1 has no row that can be used"), "{:?}", filled.remarks);
    }

    #[test]
    fn two_rows_of_one_name_are_one_gateway_and_a_table_without_end_has_one() {
        let named = |row| Destination { name: Some("7".to_owned()), ..destination(row, 0) };
        let two = filled(&[destination(7, 0), named(8)]);
        assert_eq!(two.plan.gateways.len(), 2);
        assert!(two.remarks[0].contains("row 8: carriers/7 is the name of another row"), "{:?}", two.remarks);

        let many: Vec<Destination> = (0..400).map(|row| destination(row, 0)).collect();
        let many = filled(&many);
        assert_eq!((many.plan.gateways.len(), many.remarks.len()), (301, 100));
    }

    #[test]
    fn calls_of_a_gateway_from_the_table_can_be_counted() {
        let filled = filled(&[destination(4, 0)]);
        let key = filled.plan.gateways[1].calls_key().expect("it is an address of record");
        assert_eq!(key.to_string(), "carriers/4@gateway.invalid");
    }

    fn destination(row: u64, priority: i32) -> Destination {
        Destination {
            row,
            set: 1,
            uri: format!("sip:198.51.100.{row}"),
            name: None,
            socket: None,
            priority,
            weight: None,
            calls_max: None,
            probes: Probes::Allowed,
        }
    }

    fn filled(destinations: &[Destination]) -> Filled {
        let config = Config::parse(Path::new("a.toml"), FILE).unwrap_or_else(|error| panic!("{error}"));
        let settings = config.compile(&["192.0.2.5".parse().expect("an address")]).expect("it can be served");
        fill(&config.dial_plan, destinations, &settings.listeners)
    }

    fn show(gateway: &Gateway) -> String {
        let calls = gateway.calls_max.map_or_else(|| "-".to_owned(), |calls| calls.to_string());
        let uri = String::from_utf8_lossy(&gateway.uri);
        format!("{} {} {} {calls} {uri}", gateway.name, gateway.priority, gateway.weight)
    }

    fn lists(route: &Route) -> Vec<Vec<&str>> {
        let Goal::Gateways(lists) = &route.goal else { panic!("{route:?}") };
        lists.iter().map(|list| list.iter().map(|gateway| &*gateway.name).collect()).collect()
    }
}
