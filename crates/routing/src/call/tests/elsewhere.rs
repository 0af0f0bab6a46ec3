//! A user who is registered at a server beside this one, which writes the same table.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sip::Aor;
use transport::Transport;

use super::scene::*;
use crate::call::Output;
use crate::{Account, Anchoring, Answer, CallRules, Count, ForwardTarget, Forwards, Located, Token};

const MAIL: &str = "sip:mail@203.0.113.5:5080";
const OTHER: &str = "192.0.2.30:5060";

#[test]
fn a_phone_of_a_named_server_is_called_by_way_of_it_with_its_address_of_record() {
    let mut scene = beside();
    let token = sought(&mut scene);

    let left = only_left(&found(&mut scene, token, &[OTHER]));

    assert_eq!(request_uri(&left.request), "sip:bob@example.org");
    assert!(format!("{:?}", left.to).contains(OTHER), "{:?}", left.to);
}

#[test]
fn rows_of_servers_that_nobody_has_named_and_of_this_one_lead_nowhere() {
    for server in ["198.51.100.66:5060", "192.0.2.5:5060"] {
        let mut scene = beside();
        let token = sought(&mut scene);

        let out = found(&mut scene, token, &[server]);

        assert_eq!(statuses(&out), [480], "{server}");
        assert!(left(&out).is_empty(), "{server}");
    }
}

#[test]
fn what_such_a_server_sends_is_never_sent_to_one() {
    let mut scene = beside();

    let out = scene.receive(OTHER, &invite("sip:bob@example.org").text());
    let (token, _) = only_ask(&out);
    let out = scene.answer(token, Answer::Located(Located::Targets(Vec::new())));

    assert_eq!(statuses(&out), [480]);
}

#[test]
fn what_has_been_here_is_never_sent_to_one_whatever_became_of_it() {
    let mut scene = beside();
    let token = sought(&mut scene);
    let sent = only_left(&found(&mut scene, token, &[OTHER])).request;
    // It comes back from an address that is not named, for somebody else.
    let text = String::from_utf8(sent.to_vec()).expect("it is text");
    let text = text.replacen("sip:bob@example.org", "sip:robert@example.org", 1);
    let via = "Via: SIP/2.0/UDP 203.0.113.99:5060;branch=z9hG4bKother\r\nVia:";
    let text = text.replacen("Via:", via, 1);

    let out = scene.receive_bytes(udp(UDP, CARRIER), text.as_bytes());
    let (token, _) = only_ask(&out);
    let out = scene.answer(token, Answer::Located(Located::Targets(Vec::new())));

    assert_eq!(statuses(&out), [480]);
}

#[test]
fn a_user_who_is_here_is_looked_for_nowhere_else() {
    let mut scene = beside();
    let out = scene.receive(CARRIER, &invite("sip:bob@example.org").text());
    let (token, _) = only_ask(&out);

    let out = scene.answer(token, Answer::Located(Located::Targets(vec![bob()])));

    assert_eq!(left(&out).len(), 1);
    assert!(asked(&out).is_none());
}

#[test]
fn the_relay_rule_of_an_account_counts_at_a_server_beside_this_one_too() {
    for (relay, is_relayed) in [(Some(Anchoring::Always), true), (None, false)] {
        let mut scene = beside();
        let token = sought_of(&mut scene, ruled(CallRules { relay, ..CallRules::default() }));

        let out = found(&mut scene, token, &[OTHER]);

        let is_so = out.iter().any(|output| matches!(output, Output::Relayed { .. }));
        assert_eq!(is_so, is_relayed, "{relay:?}: {out:?}");
    }
}

#[test]
fn who_is_not_looked_up_in_time_counts_as_not_registered() {
    let mut scene = beside();
    let token = sought(&mut scene);

    assert_eq!(scene.pass(Duration::from_millis(2_999)), []);
    let out = scene.pass(Duration::from_millis(1));

    assert_eq!(statuses(&out), [480]);
    assert_eq!(scene.counts().of(Count::SuspendedTooLong), 1);
    assert_eq!(found(&mut scene, token, &[OTHER]), [], "it comes too late");
}

#[test]
fn who_is_not_looked_up_in_time_is_forwarded() {
    let mut scene = beside();
    let not_registered = ForwardTarget::parse(MAIL, "example.org");
    let forwards = Forwards { not_registered, ..Forwards::default() };
    sought_of(&mut scene, ruled(CallRules { forwards, ..CallRules::default() }));

    let out = scene.pass(Duration::from_secs(3));

    assert_eq!(request_uri(&only_left(&out).request), MAIL);
}

#[test]
fn a_call_that_is_cancelled_while_it_is_looked_up_goes_nowhere() {
    let mut scene = beside();
    let token = sought(&mut scene);

    let invite = invite("sip:bob@example.org");
    let cancel = Request { method: "CANCEL", headers: Vec::new(), ..invite };
    let out = scene.receive(CARRIER, &cancel.text());

    assert_eq!(statuses(&out), [200, 487]);
    assert_eq!(found(&mut scene, token, &[OTHER]), []);
}

fn beside() -> Scene {
    Scene::with(|settings| {
        settings.relay.named = true;
        settings.location_peers =
            ["192.0.2.30", "192.0.2.5"].iter().map(|ip| ip.parse().expect("an address")).collect();
        settings.trusted.push(crate::TrustedPeer {
            network: "192.0.2.30/32".parse().expect("a network"),
            ..settings.trusted[0].clone()
        });
    })
}

/// Calls Bob, who is nowhere here; gives the question to the store.
fn sought(scene: &mut Scene) -> Token {
    sought_of(scene, Located::Targets(Vec::new()))
}

/// The same, with what the location knows of Bob.
fn sought_of(scene: &mut Scene, located: Located) -> Token {
    let out = scene.receive(CARRIER, &invite("sip:bob@example.org").text());
    let (token, _) = only_ask(&out);
    let out = scene.answer(token, Answer::Located(located));
    assert!(statuses(&out).is_empty(), "nobody is refused yet");
    let (token, aor) = asked(&out).expect("the store is asked");
    assert_eq!(aor.as_str(), "bob@example.org");
    token
}

/// Bob, who has these rules and no phone here.
fn ruled(calls: CallRules) -> Located {
    let aor = Aor::parse("bob@example.org").expect("an address of record");
    let account = Account { aor, ha1: Vec::new(), aliases: Vec::new(), may_use: Vec::new(), calls };
    Located::Ruled(Vec::new(), Arc::new(account))
}

fn asked(out: &[Output]) -> Option<(Token, Aor)> {
    out.iter().find_map(|output| match output {
        Output::FindElsewhere { token, aor, .. } => Some((*token, aor.clone())),
        _ => None,
    })
}

fn found(scene: &mut Scene, token: Token, servers: &[&str]) -> Vec<Output> {
    let server = |text: &&str| (Transport::Udp, text.parse::<SocketAddr>().expect("an address"));
    let servers = servers.iter().map(server).collect();
    scene.answer(token, Answer::Elsewhere(servers))
}
