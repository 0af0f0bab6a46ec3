//! `[[gateway]]` and `[[route]]`: from what was written to a [`DialPlan`].
//!
//! [`gateway`] and [`route`] are the tables of their keys; here is what one entry says of another: names that
//! nobody has, names that two have, routes that nothing can reach.

mod gateway;
mod parts;
mod route;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use routing::dial_plan::{Fits, Goal, ListenerName, Route};
use routing::{DialPlan, Gateway, Trunk};
use store::WantedLists;

pub use gateway::{GATEWAYS, GatewayDraft, place_name, set_of};
pub use route::{ROUTES, RouteDraft};

use super::listen::{Listen, Place};
use super::problem::Wrong;
use super::reader::{Entry, Reading};
use super::suggest::nearest;

/// A name within a list, and where it stands.
pub type Named = (String, Range<usize>);

/// Makes the plan. What is wrong is left out of it, and reported.
pub fn build(
    reading: &mut Reading<'_>,
    gateways: &[Entry<GatewayDraft>],
    routes: &[Entry<RouteDraft>],
    trunks: &[Arc<Trunk>],
    listen: &[Listen],
) -> DialPlan {
    check_listeners(reading, gateways, routes, listen);
    let gateways = build_gateways(reading, gateways, trunks);
    let routes = build_routes(reading, routes, &Directory::of(&gateways));
    DialPlan { gateways, routes }
}

/// Listeners that gateways and routes name are in `sip.listen`: a gateway with another one could not be reached as it is
/// meant, and a route with another one never fits.
fn check_listeners(
    reading: &mut Reading<'_>,
    gateways: &[Entry<GatewayDraft>],
    routes: &[Entry<RouteDraft>],
    listen: &[Listen],
) {
    // Whoever has to mend that list may have meant this one.
    if reading.problems.iter().any(|problem| problem.key == "sip.listen") {
        return;
    }
    let what = "is not in sip.listen";
    let names: Vec<String> = listen.iter().map(|listen| format!("\"{}\"", listen.name())).collect();
    let mend = format!("write one of {}, or add it there", names.join(", "));
    for entry in gateways {
        if entry.draft.via.is_some_and(|via| !is_served(&via, listen)) {
            reading.wrong_entry(GATEWAYS.name, entry, "via", what, mend.as_str());
        }
    }
    for (name, span) in routes.iter().flat_map(|entry| &entry.draft.listeners) {
        if !is_served(name, listen) {
            reading.wrong_part(ROUTES.name, "listener", Wrong::new(span.clone(), what, mend.as_str()));
        }
    }
}

/// Gateways that stand for a set need the table.
pub fn check_sets(reading: &mut Reading<'_>, gateways: &[Entry<GatewayDraft>], lists: &WantedLists) {
    for entry in gateways.iter().filter(|_| !lists.dispatcher) {
        if set_of(&entry.draft.build()).is_some() {
            let what = "names a set of a table that is not read";
            let mend = "write dispatcher = true into [database]";
            reading.wrong_entry(GATEWAYS.name, entry, "uri", what, mend);
        }
    }
}

fn is_served(name: &ListenerName, listen: &[Listen]) -> bool {
    listen.iter().any(|listen| {
        listen.transport == name.transport
            && match listen.place {
                // The address may come to this host later.
                Place::EveryAddress { port } => port == name.port,
                Place::At(local) => name.is(listen.transport, local),
            }
    })
}

fn build_gateways(
    reading: &mut Reading<'_>,
    entries: &[Entry<GatewayDraft>],
    trunks: &[Arc<Trunk>],
) -> Vec<Arc<Gateway>> {
    let mut built: Vec<Arc<Gateway>> = Vec::with_capacity(entries.len());
    for entry in entries {
        let draft = &entry.draft;
        if !entry.has("name") {
            reading.wrong_entry(GATEWAYS.name, entry, "", "has no name", "give it a name = \"carrier-a\"");
            continue;
        }
        if !entry.has("uri") {
            let mend = "say where it is: uri = \"sip:sbc.carrier.example\"";
            reading.wrong_entry(GATEWAYS.name, entry, "", "has no uri", mend);
            continue;
        }
        if draft.name.is_empty() || draft.uri.is_empty() {
            continue;
        }
        if built.iter().any(|other| *other.name == *draft.name) {
            reading.wrong_entry(
                GATEWAYS.name,
                entry,
                "name",
                "is the name of two gateways",
                "give each its own",
            );
            continue;
        }
        let name = draft.registration.as_str();
        if !name.is_empty() && !trunks.iter().any(|trunk| *trunk.name == *name) {
            let mend = match nearest(name, trunks.iter().map(|trunk| &*trunk.name)) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("write a [[registration]] with name = \"{name}\", or take it out"),
            };
            reading.wrong_entry(GATEWAYS.name, entry, "registration", "is no [[registration]]", mend);
        }
        built.push(Arc::new(draft.build()));
    }
    for entry in entries {
        let name = &entry.draft.group;
        if !name.is_empty() && built.iter().any(|gateway| *gateway.name == **name) {
            let mend = "give the group another name: routes name either";
            reading.wrong_entry(GATEWAYS.name, entry, "group", "is the name of a gateway too", mend);
        }
    }
    built
}

fn build_routes(
    reading: &mut Reading<'_>,
    entries: &[Entry<RouteDraft>],
    directory: &Directory,
) -> Vec<Arc<Route>> {
    let mut built: Vec<Arc<Route>> = Vec::with_capacity(entries.len());
    for (number, entry) in entries.iter().enumerate() {
        let draft = &entry.draft;
        let Some(goal) = goal(reading, entry, directory) else { continue };
        let mut from = Vec::new();
        for name in &draft.from {
            from.extend(directory.find(reading, "from", name).iter().map(|gateway| gateway.name.clone()));
        }
        if let Some((name, span)) = draft.from.iter().find(|(name, _)| directory.has_no_sources(name)) {
            let what = format!("names `{name}`, whose calls nobody would know: it has no sources");
            let mend = "give the gateway its sources = [\"198.51.100.0/24\"]";
            reading.wrong_part(ROUTES.name, "from", Wrong::new(span.clone(), what, mend));
        }
        if !draft.from.is_empty() && !draft.callers.is_empty() {
            let mend = "leave one of them out: what a gateway sends has no caller of ours";
            reading.wrong_entry(ROUTES.name, entry, "callers", "stands beside from", mend);
        }
        let name = match draft.name.as_str() {
            "" => format!("route {}", number + 1),
            name => name.to_owned(),
        };
        let route = Route {
            name: name.into(),
            fits: Fits { gateways: from, ..draft.fits() },
            rewrite: draft.rewrite(),
            caller: draft.caller(),
            headers: draft.headers(),
            goal,
        };
        if entry.is_right
            && let Some(other) = built.iter().find(|other| other.shadows(&route))
        {
            let what = format!("is never reached: `{}` before it takes all that it would take", other.name);
            let mend = "put it before that one, or take it out";
            reading.wrong_entry(ROUTES.name, entry, "", what, mend);
        }
        built.push(Arc::new(route));
    }
    built
}

fn goal(reading: &mut Reading<'_>, entry: &Entry<RouteDraft>, directory: &Directory) -> Option<Goal> {
    let draft = &entry.draft;
    let goals = [!draft.to.is_empty(), draft.to_user.is_some(), draft.reject.is_some()];
    match goals.iter().filter(|is_there| **is_there).count() {
        1 => {}
        // The value that should be there was wrong by itself.
        0 if !entry.is_right => return None,
        0 => {
            let mend = "give it to = [\"carrier-a\"], to_user = \"alice@example.org\" or reject = 603";
            reading.wrong_entry(ROUTES.name, entry, "", "leads nowhere", mend);
            return None;
        }
        _ => {
            let mend = "keep one of to, to_user and reject";
            reading.wrong_entry(ROUTES.name, entry, "", "leads to more than one place", mend);
            return None;
        }
    }
    if let Some(status) = draft.reject {
        return Some(Goal::Reject(status));
    }
    if let Some((user, domain)) = &draft.to_user {
        return Some(Goal::User { user: user.clone(), domain: domain.clone() });
    }
    let lists = draft.to.iter().map(|name| directory.find(reading, "to", name));
    Some(Goal::Gateways(lists.collect()))
}

/// Gateways by the names that routes may use.
struct Directory(BTreeMap<String, Vec<Arc<Gateway>>>);

impl Directory {
    fn of(gateways: &[Arc<Gateway>]) -> Self {
        let mut names: BTreeMap<String, Vec<Arc<Gateway>>> = BTreeMap::new();
        for gateway in gateways {
            for name in std::iter::once(&gateway.name).chain(&gateway.group) {
                names.entry(name.to_string()).or_default().push(Arc::clone(gateway));
            }
        }
        Self(names)
    }

    /// The gateways of a name; one that nobody has is reported.
    fn find(&self, reading: &mut Reading<'_>, key: &str, (name, span): &Named) -> Vec<Arc<Gateway>> {
        if let Some(gateways) = self.0.get(name) {
            return gateways.clone();
        }
        let mend = match nearest(name, self.0.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("write a [[gateway]] with name = \"{name}\", or one of its group"),
        };
        let what = format!("names `{name}`, which is no gateway and no group");
        reading.wrong_part(ROUTES.name, key, Wrong::new(span.clone(), what, mend));
        Vec::new()
    }

    fn has_no_sources(&self, name: &str) -> bool {
        let is_unknown =
            |gateway: &Arc<Gateway>| gateway.sources.is_empty() && gateway.registration.is_none();
        self.0.get(name).is_some_and(|list| list.iter().all(is_unknown))
    }
}
