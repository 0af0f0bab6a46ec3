//! Whose rule says whether media pass the relay: that of the listeners, or of the accounts at both ends.

use std::sync::Arc;

use sip::Aor;

use super::scene::*;
use crate::call::Output;
use crate::dial_plan::samples::gateway;
use crate::{
    Account, Anchoring, Answer, Authenticated, CallRules, Forwards, Gateway, Located, Question, RelayRules,
    Target, TrustedPeer,
};

const NEVER: Option<Anchoring> = Some(Anchoring::Never);
const NAT: Option<Anchoring> = Some(Anchoring::Nat);
const ALWAYS: Option<Anchoring> = Some(Anchoring::Always);

#[test]
fn an_account_has_its_media_relayed_where_nothing_else_is() {
    let named = RelayRules { named: true, ..RelayRules::default() };

    for (caller, callee, is_relayed) in [
        (None, None, false),
        (ALWAYS, None, true),
        (None, ALWAYS, true),
        (NEVER, ALWAYS, true),
        (ALWAYS, NEVER, true),
        (NEVER, NEVER, false),
        (NAT, None, false),
    ] {
        assert_eq!(passes(&named, caller, callee, bob()), is_relayed, "{caller:?} {callee:?}");
    }
}

#[test]
fn an_account_has_its_media_not_relayed_where_all_else_is() {
    let always = RelayRules { default: Anchoring::Always, named: true, ..RelayRules::default() };

    for (caller, callee, is_relayed) in
        [(None, None, true), (NEVER, None, false), (None, NEVER, false), (NAT, NEVER, false)]
    {
        assert_eq!(passes(&always, caller, callee, bob()), is_relayed, "{caller:?} {callee:?}");
    }
}

#[test]
fn an_account_with_nat_has_its_media_relayed_where_a_phone_is_behind_one() {
    let named = RelayRules { named: true, ..RelayRules::default() };

    assert!(passes(&named, NAT, None, carol()));
    assert!(passes(&named, None, NAT, carol()));
    assert!(!passes(&named, None, None, carol()));
}

#[test]
fn no_account_has_a_relay_where_there_is_none() {
    assert!(!passes(&RelayRules::default(), ALWAYS, ALWAYS, carol()));
}

#[test]
fn a_gateway_has_the_media_of_its_calls_relayed_where_nothing_else_is() {
    for (rule, from, is_relayed) in [
        (ALWAYS, "198.51.100.1:5060", true),
        (NEVER, "198.51.100.1:5060", false),
        (ALWAYS, "198.51.100.9:5060", false),
    ] {
        let mut scene = Scene::with(|settings| {
            settings.relay = RelayRules { named: true, ..RelayRules::default() };
            let networks = ["198.51.100.1/32", "198.51.100.9/32"].map(|network| network.parse().unwrap());
            settings.trusted =
                networks.map(|network| TrustedPeer { network, name: "peer".to_owned() }).into();
            let gateway = Gateway { sources: vec![networks[0]], relay: rule, ..gateway("carrier") };
            settings.dial_plan.gateways = vec![Arc::new(gateway)];
        });
        let (token, _) = only_ask(&scene.receive(from, &invite("sip:bob@example.org").text()));

        let out = scene.answer(token, Answer::Located(Located::Targets(vec![bob()])));

        let passes = out.iter().any(|output| matches!(output, Output::Relayed { .. }));
        assert_eq!(passes, is_relayed, "{rule:?} {from} {out:?}");
    }
}

/// Whether an INVITE passes the relay.
fn passes(rules: &RelayRules, caller: Option<Anchoring>, callee: Option<Anchoring>, target: Target) -> bool {
    let mut scene = Scene::with(|settings| settings.relay = rules.clone());
    let request = invite("sip:bob@example.org");
    let refused = only_response(&scene.receive(ALICE, &request.text()));
    let request = request.clone().header(&credentials(&request, &refused)).again();
    let (token, _) = only_ask(&scene.receive(ALICE, &request.text()));
    let verdict = match caller {
        Some(relay) => Authenticated::Ruled { verdict: Box::new(Authenticated::Yes), relay },
        None => Authenticated::Yes,
    };
    let (token, question) = only_ask(&scene.answer(token, Answer::Authenticated(verdict)));
    assert!(matches!(question, Question::Call(_)));
    let located = match callee {
        Some(_) => Located::Ruled(vec![target], ruled(callee)),
        None => Located::Targets(vec![target]),
    };
    let out = scene.answer(token, Answer::Located(located));
    let is_relayed = out.iter().any(|output| matches!(output, Output::Relayed { .. }));
    assert!(is_relayed || left(&out).len() == 1, "it goes one way or the other: {out:?}");
    is_relayed
}

fn ruled(relay: Option<Anchoring>) -> Arc<Account> {
    Arc::new(Account {
        aor: Aor::parse("bob@example.org").unwrap(),
        ha1: Vec::new(),
        aliases: Vec::new(),
        may_use: Vec::new(),
        calls: CallRules { forwards: Forwards::default(), relay, ..CallRules::default() },
    })
}
