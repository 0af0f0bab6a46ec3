//! Servers of others: the registrar behind the edge, the carrier, the gateways.

use super::*;
use crate::cast::{CARRIER, FAILING_GATEWAY, FORWARDED, REGISTRAR, STRANGER, with_elsewhere};
use crate::events::Event;

fn beyond(phones: &[usize]) -> World {
    with_registered(scene_with(with_elsewhere(cast::defaults()), |_| {}), phones)
}

#[test]
fn a_registrar_behind_the_edge_reaches_its_phone_by_a_path_that_is_worth_nothing_to_others() {
    let mut world = beyond(&[who::IVAN]);
    assert_eq!(world.events.of(Event::PathFollowed), 1);

    let asked = sent_to(&world, cast::FIRST, "OPTIONS sip:ivan@");
    let route = Message::parse(&asked[0]).unwrap().header(Name::Route).unwrap().to_vec();
    let copied = format!(
        "MESSAGE sip:ivan@{} SIP/2.0\r\nVia: SIP/2.0/UDP {STRANGER};branch=z9hG4bK-1\r\nRoute: {}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:x@{DOMAIN}>;tag=1\r\nTo: <sip:ivan@{}>\r\nCall-ID: 1\r\n\
         CSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n",
        cast::EDGE_DOMAIN,
        String::from_utf8_lossy(&route),
        cast::EDGE_DOMAIN,
    );
    world.transmit(STRANGER, cast::FIRST, copied.into_bytes());
    world.run_for(secs(1));

    assert_eq!(statuses_to(&world, STRANGER), [403]);
    assert_eq!(count(&world, Count::FlowRefused), 1);
    assert!(sent_to(&world, REGISTRAR, "MESSAGE").is_empty());
    assert_good(world);
}

#[test]
fn the_account_at_the_carrier_is_registered_and_taken_back() {
    let mut world = beyond(&[]);
    world.run_for(secs(300));
    assert!(count(&world, Count::CarrierRegistered) > 0);
    assert!(count(&world, Count::CarrierChallenged) > 0);

    look_away(&mut world);
    world.act(Action::LeaveCarriers);
    world.run_for(secs(400));
    let sent = sent_to(&world, CARRIER, "REGISTER ");

    assert!(!sent.is_empty() && sent.iter().all(|it| Message::parse(it).unwrap().expires() == Some(0)));
    assert_good(world);
}

#[test]
fn a_number_is_called_by_the_gateway_that_works_and_some_are_not() {
    let mut world = beyond(&[who::ALICE]);
    // The one that fails is silent, or refuses, by the branch that it is sent.
    let mut number = 0;
    while count(&world, Count::GatewaySilent) == 0 {
        number += 1;
        assert!(number <= 20, "it refuses every time");
        let order = CallOrder { number, ..to("030123") };
        call(&mut world, who::ALICE, order, &[(who::GATEWAY, answer(1))], secs(60));
        assert_eq!(world.calls.of(number).and_then(|record| record.outcome()), Some(200));
        assert_eq!(count(&world, Count::GatewayFull), u64::from(number));
    }
    assert!(!sent_to(&world, FAILING_GATEWAY, "INVITE ").is_empty());

    let order = CallOrder { number: number + 1, ..to("0900123") };
    world.act(Action::Call { caller: who::ALICE, order, expected: Expected::Status(vec![403]) });
    world.run_for(secs(10));
    assert_eq!(count(&world, Count::RouteRefused), 1);
    assert_good(world);
}

#[test]
fn a_call_that_is_forwarded_rings_where_it_is_forwarded_to() {
    let mut world = beyond(&[who::ALICE, who::HENRY]);
    call(&mut world, who::HENRY, to(FORWARDED), &[(who::ALICE, answer(1))], secs(60));

    assert_eq!(outcome(&world), Some(200));
    assert_eq!(count(&world, Count::Diverted), 1);
    assert_good(world);
}
