//! A user who is registered at a server beside this one, which writes the same table.

use std::net::SocketAddr;

use sip::Aor;
use transport::Transport;

use super::scene::*;
use crate::call::Output;
use crate::{Answer, Located, Token};

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

fn beside() -> Scene {
    Scene::with(|settings| {
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
    let out = scene.receive(CARRIER, &invite("sip:bob@example.org").text());
    let (token, _) = only_ask(&out);
    let out = scene.answer(token, Answer::Located(Located::Targets(Vec::new())));
    assert!(statuses(&out).is_empty(), "nobody is refused yet");
    let (token, aor) = asked(&out).expect("the store is asked");
    assert_eq!(aor.as_str(), "bob@example.org");
    token
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
    scene.answer(token, Answer::Elsewhere(servers, Box::new(Located::Targets(Vec::new()))))
}
