//! One route: what it fits, and where it leads.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use sip::{Aor, Status};
use transport::{ListenerId, Listeners, Transport};

use super::{Dialled, Gateway, HeaderEdits, Pattern, Rewrite};

/// One route. It fits what all its criteria fit; a criterion without entries fits everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// For logs and `tandem route`.
    pub name: Box<str>,
    /// What it is for.
    pub fits: Fits,
    /// What happens to the number.
    pub rewrite: Rewrite,
    /// The caller's number, whoever calls; `None`: the gateway's rules say.
    pub caller: Option<Box<str>>,
    /// Header fields, besides those of the gateway.
    pub headers: HeaderEdits,
    /// Where it leads.
    pub goal: Goal,
}

/// The criteria of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fits {
    /// Numbers that are dialled.
    pub numbers: Vec<Pattern>,
    /// Domains of the Request-URI, in lower case.
    pub domains: Vec<Box<str>>,
    /// Listeners that the request came in on.
    pub listeners: Vec<ListenerName>,
    /// Networks that the request came from.
    pub sources: Vec<IpNet>,
    /// Gateways that the request came from, by name.
    pub gateways: Vec<Box<str>>,
    /// Users of ours.
    pub callers: Vec<CallerName>,
}

/// A listener as the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerName {
    /// Its transport.
    pub transport: Transport,
    /// Its address; `None`: any.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// Which users of ours a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerName {
    /// All of them.
    Everybody,
    /// All of a domain.
    Domain(Box<str>),
    /// This one.
    User(Aor),
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To these, the first list first; within a list [`order`](super::order) says.
    Gateways(Vec<Vec<Arc<Gateway>>>),
    /// To a user of ours.
    User {
        /// The user; `None`: the number itself.
        user: Option<Box<str>>,
        /// The domain.
        domain: Box<str>,
    },
    /// Nowhere: this is the answer.
    Reject(Status),
}

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What was dialled.
    pub dialled: &'a Dialled,
    /// Whether the domain is one of ours, or none was named.
    pub is_own: bool,
    /// The listener it came in on.
    pub listener: (Transport, SocketAddr),
    /// The address it came from.
    pub source: IpAddr,
    /// Who sent it.
    pub origin: Origin<'a>,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A user of ours, who proved it.
    User(&'a Aor),
    /// A gateway.
    Gateway(&'a str),
    /// Somebody who is believed without a password.
    Believed,
}

/// The first criterion of a route that a request does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The number.
    Number,
    /// The domain of the Request-URI.
    Domain,
    /// The listener it came in on.
    Listener,
    /// The address it came from.
    Source,
    /// The gateway it came from, or that it came from none.
    Gateway,
    /// The user who calls, or that it is none of ours.
    Caller,
    /// It leads to a gateway, and whoever is believed without a password gets there only where he is named.
    Unproven,
}

impl Route {
    /// Whether the route is for this request.
    pub fn fits(&self, call: &Call<'_>) -> bool {
        self.misfit(call).is_none()
    }

    /// Why the route is not for this request; `None` if it is.
    pub fn misfit(&self, call: &Call<'_>) -> Option<Misfit> {
        let Fits { numbers, domains, listeners, sources, gateways, callers } = &self.fits;
        if !numbers.is_empty() && !numbers.iter().any(|it| it.matches(&call.dialled.number)) {
            return Some(Misfit::Number);
        }
        let domain = call.dialled.domain.as_deref();
        // What is for another server goes there, unless the route names that server's domain.
        let is_domain = match domains.as_slice() {
            [] => call.is_own,
            domains => domain.is_some_and(|domain| domains.iter().any(|it| **it == *domain)),
        };
        if !is_domain {
            return Some(Misfit::Domain);
        }
        if !listeners.is_empty() && !listeners.iter().any(|it| it.is(call.listener.0, call.listener.1)) {
            return Some(Misfit::Listener);
        }
        let source = call.source.to_canonical();
        if !sources.is_empty() && !sources.iter().any(|it| it.contains(&source)) {
            return Some(Misfit::Source);
        }
        let (is_gateway, is_caller) = match call.origin {
            Origin::User(user) => (gateways.is_empty(), names(callers, user)),
            Origin::Gateway(name) => {
                (gateways.is_empty() || gateways.iter().any(|it| **it == *name), callers.is_empty())
            }
            Origin::Believed => (gateways.is_empty(), callers.is_empty()),
        };
        if !is_gateway {
            return Some(Misfit::Gateway);
        }
        if !is_caller {
            return Some(Misfit::Caller);
        }
        (!self.lets_out(&call.origin)).then_some(Misfit::Unproven)
    }

    /// Who is believed without a password gets to a gateway only where the route names it.
    fn lets_out(&self, origin: &Origin<'_>) -> bool {
        match (&self.goal, origin) {
            (Goal::Reject(_) | Goal::User { .. }, _) | (Goal::Gateways(_), Origin::User(_)) => true,
            (Goal::Gateways(_), Origin::Gateway(_) | Origin::Believed) => self.names_origin(),
        }
    }

    fn names_origin(&self) -> bool {
        !self.fits.gateways.is_empty() || !self.fits.sources.is_empty() || !self.fits.listeners.is_empty()
    }

    /// Whether every request that `later` fits is already this one's, so that `later` is never reached.
    pub fn shadows(&self, later: &Self) -> bool {
        let (mine, theirs) = (&self.fits, &later.fits);
        let is_for_users_only = matches!(self.goal, Goal::Gateways(_)) && !self.names_origin();
        let later_is_for_users_only =
            !theirs.callers.is_empty() || matches!(later.goal, Goal::Gateways(_)) && !later.names_origin();
        let is_for_gateways_only = !theirs.gateways.is_empty();
        covers(&mine.numbers, &theirs.numbers, Pattern::covers)
            && (mine.domains == theirs.domains || covers_named(&mine.domains, &theirs.domains))
            && covers(&mine.listeners, &theirs.listeners, ListenerName::covers)
            && covers(&mine.sources, &theirs.sources, |one, other| one.contains(other))
            && (!is_for_users_only || later_is_for_users_only)
            && covers(&mine.gateways, &theirs.gateways, |one, other| one == other)
            && (covers(&mine.callers, &theirs.callers, CallerName::covers)
                || is_everybody(&mine.callers) && later_is_for_users_only && !is_for_gateways_only)
    }
}

fn is_everybody(callers: &[CallerName]) -> bool {
    callers.contains(&CallerName::Everybody)
}

/// Whether each entry of the narrow list is in one of the wide one. An empty list has everything.
fn covers<T>(wide: &[T], narrow: &[T], has: impl Fn(&T, &T) -> bool) -> bool {
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|it| wide.iter().any(|other| has(other, it)))
}

/// Domains: an empty list has our own alone.
fn covers_named(wide: &[Box<str>], narrow: &[Box<str>]) -> bool {
    !narrow.is_empty() && narrow.iter().all(|it| wide.contains(it))
}

fn names(callers: &[CallerName], user: &Aor) -> bool {
    callers.is_empty()
        || callers.iter().any(|caller| match caller {
            CallerName::Everybody => true,
            CallerName::Domain(domain) => user.domain() == &**domain,
            CallerName::User(named) => named == user,
        })
}

impl CallerName {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everybody, _) => true,
            (Self::Domain(domain), Self::User(user)) => user.domain() == &**domain,
            (one, other) => one == other,
        }
    }
}

impl ListenerName {
    /// Whether this is the listener.
    pub fn is(&self, transport: Transport, local: SocketAddr) -> bool {
        self.transport == transport
            && self.port == local.port()
            && self.address.is_none_or(|address| address.to_canonical() == local.ip().to_canonical())
    }

    /// The listener that it names; of several the first.
    pub fn find(&self, listeners: &Listeners) -> Option<ListenerId> {
        listeners.iter().find(|listener| self.is(listener.transport, listener.local.0)).map(|found| found.id)
    }

    fn covers(&self, other: &Self) -> bool {
        self.transport == other.transport
            && self.port == other.port
            && (self.address.is_none() || self.address == other.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial_plan::samples::{gateway, route};

    #[test]
    fn a_route_to_a_gateway_is_for_users_of_ours_and_for_others_only_if_it_names_where_they_come_from() {
        let alice = Aor::parse("alice@example.org").unwrap();
        let strangers = [Origin::Gateway("carrier"), Origin::Believed];
        let out = route("out", &["0."], to_gateway());
        assert!(out.fits(&call("0301", Origin::User(&alice))));
        for origin in strangers {
            assert!(!out.fits(&call("0301", origin)), "{origin:?}");
            for goal in [Goal::Reject(Status::FORBIDDEN), to_user()] {
                assert!(route("in", &["0."], goal).fits(&call("0301", origin)), "{origin:?}");
            }
        }

        let mut by_source = out.clone();
        by_source.fits.sources = vec!["198.51.100.0/24".parse().unwrap()];
        for origin in strangers {
            assert!(by_source.fits(&call("0301", origin)), "{origin:?}");
        }
        let mut by_gateway = out.clone();
        by_gateway.fits.gateways = vec!["carrier".into()];
        assert!(by_gateway.fits(&call("0301", Origin::Gateway("carrier"))));
        assert!(!by_gateway.fits(&call("0301", Origin::Gateway("other"))));
        assert!(!by_gateway.fits(&call("0301", Origin::Believed)));
        assert!(!by_gateway.fits(&call("0301", Origin::User(&alice))));
    }

    #[test]
    fn a_route_for_some_callers_is_for_no_one_else() {
        let aor = |text| Aor::parse(text).unwrap();
        for (callers, user, fits) in [
            (CallerName::Everybody, "alice@example.org", true),
            (CallerName::Domain("example.org".into()), "alice@example.org", true),
            (CallerName::Domain("example.org".into()), "alice@example.com", false),
            (CallerName::User(aor("alice@example.org")), "alice@example.org", true),
            (CallerName::User(aor("alice@example.org")), "bob@example.org", false),
        ] {
            let mut out = route("out", &[], to_gateway());
            out.fits.callers = vec![callers];
            assert_eq!(out.fits(&call("1", Origin::User(&aor(user)))), fits, "{out:?}");
            out.goal = to_user();
            assert!(
                !out.fits(&call("1", Origin::Believed)) && !out.fits(&call("1", Origin::Gateway("carrier")))
            );
        }
    }

    #[test]
    fn listener_source_and_domain_all_have_to_fit() {
        let alice = Aor::parse("alice@example.org").unwrap();
        let mut it = route("it", &["1XX"], to_gateway());
        it.fits.listeners = vec![ListenerName { transport: Transport::Udp, address: None, port: 5060 }];
        it.fits.sources = vec!["198.51.100.0/24".parse().unwrap()];
        it.fits.domains = vec!["example.org".into()];
        let good = call("110", Origin::User(&alice));
        assert!(it.fits(&good));
        let tel = Dialled { number: "110".to_owned(), domain: None };
        let other = "203.0.113.9:5061".parse().unwrap();
        for bad in [
            call("1100", good.origin),
            Call { listener: (Transport::Tcp, good.listener.1), ..good },
            Call { listener: (Transport::Udp, other), ..good },
            Call { source: "203.0.113.9".parse().unwrap(), ..good },
            Call { dialled: &tel, ..good },
        ] {
            assert!(!it.fits(&bad), "{bad:?}");
        }
        assert_eq!(it.misfit(&Call { source: other.ip(), ..good }), Some(Misfit::Source));
        assert_eq!(it.misfit(&Call { listener: (Transport::Udp, other), ..good }), Some(Misfit::Listener));
        let mapped = Call { source: "::ffff:198.51.100.7".parse().unwrap(), ..good };
        assert!(it.fits(&mapped));
    }

    #[test]
    fn what_is_for_another_server_is_touched_only_by_a_route_that_names_it() {
        let alice = Aor::parse("alice@example.org").unwrap();
        let away = Call { is_own: false, ..call("110", Origin::User(&alice)) };
        let mut it = route("it", &[], to_gateway());
        assert!(!it.fits(&away));
        it.fits.domains = vec!["example.org".into()];
        assert!(it.fits(&away));
    }

    #[test]
    fn a_route_behind_one_that_takes_all_of_it_is_shadowed() {
        let rule = |change: fn(&mut Route)| {
            let mut it = route("it", &["0."], to_gateway());
            change(&mut it);
            it
        };
        let users: fn(&mut Route) = |it| it.fits.callers = vec![CallerName::Domain("example.org".into())];
        let everybody: fn(&mut Route) = |it| it.fits.callers = vec![CallerName::Everybody];
        let source: fn(&mut Route) = |it| it.fits.sources = vec!["10.0.0.0/8".parse().unwrap()];
        let carrier: fn(&mut Route) = |it| it.fits.gateways = vec!["carrier".into()];
        let reject: fn(&mut Route) = |it| it.goal = Goal::Reject(Status::FORBIDDEN);
        let narrow: fn(&mut Route) = |it| it.fits.numbers = vec![Pattern::parse("00.").unwrap()];
        let wide: fn(&mut Route) = |it| it.fits.numbers.clear();
        let all: fn(&mut Route) = |_| {};
        for (first, second, is_shadowed) in [
            (all, all, true),
            (all, narrow, true),
            (narrow, all, false),
            (wide, all, true),
            (all, users, true),
            (users, all, false),
            (everybody, all, true),
            (everybody, users, true),
            (everybody, source, false),
            (all, source, false),
            (all, carrier, false),
            (source, all, false),
            (reject, all, true),
            (reject, carrier, true),
            (reject, source, true),
            (all, reject, false),
        ] {
            let (first, second) = (rule(first), rule(second));
            assert_eq!(first.shadows(&second), is_shadowed, "{:?} {:?}", first.fits, second.fits);
        }
    }

    fn to_gateway() -> Goal {
        Goal::Gateways(vec![vec![Arc::new(gateway("a"))]])
    }

    fn to_user() -> Goal {
        Goal::User { user: None, domain: "example.org".into() }
    }

    fn call<'a>(number: &str, origin: Origin<'a>) -> Call<'a> {
        let dialled = Dialled { number: number.to_owned(), domain: Some("example.org".to_owned()) };
        Call {
            dialled: Box::leak(Box::new(dialled)),
            is_own: true,
            listener: (Transport::Udp, "192.0.2.5:5060".parse().unwrap()),
            source: "198.51.100.7".parse().unwrap(),
            origin,
        }
    }
}
