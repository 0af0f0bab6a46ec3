//! Guessers, scanners and floods, and the phones beside them.

use super::*;
use crate::cast::{FIRST, STRANGER};

/// Another flow of the router that Bob and Frank sit behind.
const ATTIC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 9_999);

#[test]
fn who_guesses_behind_the_nat_of_phones_is_held_and_the_phones_go_on() {
    let mut world = registered(&[who::BOB, who::FRANK, who::DAVE]);
    let nonce = nonce_for(&mut world, ATTIC);

    for number in 0..200 {
        guess(&mut world, ATTIC, "bob", &nonce, number);
    }
    for number in 200..1_000 {
        guess(&mut world, ATTIC, &format!("user{number}"), &nonce, number);
    }

    let bans = world.node().ban_counts();
    assert_eq!((bans.banned(), bans.restrained()), (0, 1));
    assert!(count(&world, Count::Slowed) > 20, "Bob's name is slowed there");
    assert!(world.node().dropped().slowed > 500);
    assert!(count(&world, Count::WrongCredentials) < 60, "{}", count(&world, Count::WrongCredentials));
    // Whatever is guessed, Bob is there, and calls, and is called.
    world.act(Action::Register(who::BOB));
    world.run_for(secs(2));
    assert!(count(&world, Count::BindingRefreshed) > 0);
    call(&mut world, who::BOB, to("dave"), &[(who::DAVE, answer(1))], secs(20));
    assert_eq!(outcome(&world), Some(200));
    let order = CallOrder { number: 2, ..to("frank") };
    call(&mut world, who::DAVE, order, &[(who::FRANK, answer(1))], secs(20));
    assert_good(world);
}

#[test]
fn who_guesses_alone_is_banned_for_a_time() {
    let mut world = registered(&[who::ALICE]);
    let nonce = nonce_for(&mut world, STRANGER);

    for number in 0..200 {
        guess(&mut world, STRANGER, &format!("user{number}"), &nonce, number);
    }

    assert_eq!(world.node().ban_counts().banned(), 1);
    assert_eq!(count(&world, Count::WrongCredentials), 20);
    assert!(world.node().dropped().banned > 150);
    look_away(&mut world);
    world.transmit(STRANGER, FIRST, probe(STRANGER, "OPTIONS", ""));
    world.run_for(secs(590));
    assert!(statuses_to(&world, STRANGER).is_empty());
    assert!(world.bindings.is_bound(who::ALICE, world.now()));

    world.run_for(secs(15));
    world.transmit(STRANGER, FIRST, probe(STRANGER, "OPTIONS", ""));
    world.run_for(secs(1));
    assert_eq!(statuses_to(&world, STRANGER), [200]);
    assert_good(world);
}

#[test]
fn a_scanner_hears_nothing_and_a_client_with_an_honest_name_does() {
    let mut world = registered(&[]);
    for (agent, expected) in [("friendly-scanner", vec![]), ("SIPVicious 1", vec![]), ("Friendly", vec![200])]
    {
        look_away(&mut world);
        world.transmit(STRANGER, FIRST, probe(STRANGER, "OPTIONS", &format!("User-Agent: {agent}\r\n")));
        world.run_for(secs(1));
        assert_eq!(statuses_to(&world, STRANGER), expected, "{agent}");
    }
    assert_eq!(world.node().ban_counts().banned(), 0, "an address that can be forged is not banned");
}

#[test]
fn a_flood_from_a_phones_own_address_costs_the_phone_nothing() {
    let mut world = registered(&[who::BOB, who::DAVE]);

    for number in 0..5_000 {
        let request = probe(ATTIC, "INVITE", &format!("X-Number: {number}\r\n"));
        world.transmit(ATTIC, FIRST, request);
    }
    world.run_for(secs(1));

    let answered = sent_to(&world, ATTIC, "SIP/2.0 407").len();
    assert!((1_000..1_200).contains(&answered), "{answered}");
    assert!(world.node().dropped().slowed > 3_500);
    assert_eq!(world.node().held().suspended, 0);
    call(&mut world, who::BOB, to("dave"), &[(who::DAVE, answer(1))], secs(20));
    assert_eq!(outcome(&world), Some(200));
}

/// The nonce that the server sends there.
fn nonce_for(world: &mut World, from: SocketAddr) -> String {
    world.transmit(from, FIRST, probe(from, "REGISTER", ""));
    world.run_for(secs(1));
    let challenge = sent_to(world, from, "SIP/2.0 401").pop().unwrap();
    let text = String::from_utf8(challenge).unwrap();
    text.split_once("nonce=\"").unwrap().1.split('"').next().unwrap().to_owned()
}

fn guess(world: &mut World, from: SocketAddr, user: &str, nonce: &str, number: u32) {
    let credentials = format!(
        "Authorization: Digest username=\"{user}\", realm=\"{DOMAIN}\", nonce=\"{nonce}\", uri=\"sip:{DOMAIN}\", \
         response=\"{number:032x}\", algorithm=MD5, qop=auth, nc={number:08x}, cnonce=\"x\"\r\n"
    );
    let text = String::from_utf8(probe(from, "REGISTER", &credentials)).unwrap();
    let text = text.replace("guesser@", &format!("{user}@")).replace("guess-0", &format!("guess-{number}"));
    world.transmit(from, FIRST, text.into_bytes());
    world.run_for(Duration::from_millis(10));
}

fn probe(from: SocketAddr, method: &str, lines: &str) -> Vec<u8> {
    let uri = if method == "INVITE" { format!("sip:dave@{DOMAIN}") } else { format!("sip:{DOMAIN}") };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bK-guess-0\r\n{lines}\
         Max-Forwards: 70\r\nFrom: <sip:guesser@{DOMAIN}>;tag=1\r\nTo: <sip:guesser@{DOMAIN}>\r\n\
         Call-ID: guess-0\r\nCSeq: 1 {method}\r\nContact: <sip:guesser@{from}>\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}
