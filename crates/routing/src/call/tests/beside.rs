//! A server beside this one that finds its phones in a table: what it sends by the Path there goes down the phone's flow.

use sip::Name;
use transport::Destination;

use super::scene::*;
use crate::Count;
use crate::call::beside::path_to;

/// RFC 3327 §5.4: the Path is Route in what the other server sends, and the Contact its Request-URI.
#[test]
fn a_trusted_server_gets_to_a_phone_behind_nat_by_the_path_in_the_table() {
    let mut scene = Scene::with(|settings| settings.is_location_published = true);
    let request = call_of_carol(&scene);

    let left = only_left(&scene.receive(CARRIER, &request.text()));

    assert_eq!(left.to, Destination::Flow(datagram(UDP, CAROL)));
    assert_eq!(request_uri(&left.request), "sip:carol@10.9.9.9:5060");
    assert_eq!(values(&left.request, Name::Route).len(), 0);
}

#[test]
fn nobody_else_gets_to_the_phone_by_it() {
    let mut scene = Scene::with(|settings| settings.is_location_published = true);
    let request = call_of_carol(&scene);

    for from in [STRANGER, ALICE, CAROL] {
        let out = scene.receive(from, &request.text());
        assert_eq!((statuses(&out), is_stateless(&out)), (vec![403], true), "{from}");
    }

    assert_eq!(scene.counts().of(Count::FlowRefused), 3);
}

#[test]
fn it_is_worth_nothing_where_bindings_are_not_published() {
    let mut scene = Scene::new();
    let request = call_of_carol(&scene);

    let left = left(&scene.receive(CARRIER, &request.text()));

    assert!(left.iter().all(|left| left.to != Destination::Flow(datagram(UDP, CAROL))), "{left:?}");
}

#[test]
fn a_phone_of_a_listener_that_is_gone_has_no_path() {
    let scene = Scene::new();
    let target = crate::Target { listener: None, ..carol() };

    assert_eq!(path_to(&scene.keyring, &settings().listeners, &target), None);
}

/// A call that a server beside this one sends by what it has read of Carol.
fn call_of_carol(scene: &Scene) -> Request {
    let path = path_to(&scene.keyring, &settings().listeners, &carol()).expect("her listener is there");
    let path = String::from_utf8(path.to_vec()).expect("it is a URI");
    assert!(path.starts_with("<sip:") && path.ends_with("@192.0.2.5:5060;lr>"), "{path}");
    invite("sip:carol@10.9.9.9:5060")
        .from("<sip:dave@elsewhere.example>;tag=dave-tag")
        .header(&format!("Route: {path}"))
}
