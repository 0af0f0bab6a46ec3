//! Who guesses, and who calls too often.

use super::authenticate::{right, wrong};
use super::*;
use crate::account::Loaded;
use crate::{Admission, Authenticate, Authenticated};

#[test]
fn a_guesser_is_slowed_before_anything_is_checked() {
    let mut world = World::new();
    know_alice(&mut world);

    let verdicts = [1, 2, 3, 4, 5].map(|count| verdict(&mut world, from(ATTIC, wrong("alice", count))));

    use Authenticated::{No, Slowed};
    assert_eq!(verdicts, [No, No, No, No, Slowed]);
    // Neither the right password nor the store is asked in the pause.
    assert_eq!(verdict(&mut world, from(ATTIC, right("alice", 6))), Slowed);
    world.stand_still(Duration::from_millis(500));
    assert_eq!(verdict(&mut world, from(ATTIC, right("alice", 6))), Authenticated::Yes);
}

#[test]
fn a_name_that_nobody_has_is_slowed_like_one_that_somebody_has() {
    let mut world = World::new();
    know_alice(&mut world);
    let known = [1, 2, 3, 4, 5, 6].map(|count| verdict(&mut world, from(ATTIC, wrong("alice", count))));
    let asked = world.ask(Question::Authenticate(Box::new(from(ATTIC, wrong("nobody", 1)))));
    assert_eq!(asked, None);
    world.loaded("nobody", Loaded::NotFound);
    let first = answered(&mut world);
    let rest = [2, 3, 4, 5, 6].map(|count| verdict(&mut world, from(ATTIC, wrong("nobody", count))));

    assert_eq!(known.to_vec(), [&[first][..], &rest].concat());
}

#[test]
fn the_guesses_that_wait_for_the_store_are_slowed_as_well() {
    let mut world = World::new();
    for count in 1..=10 {
        assert_eq!(world.ask(Question::Authenticate(Box::new(from(ATTIC, wrong("alice", count))))), None);
    }

    world.loaded("alice", Loaded::Found(Arc::new(account("alice"))));

    let answers: Vec<_> = std::iter::from_fn(|| next_answer(&mut world)).collect();
    assert_eq!(answers.iter().filter(|answer| **answer == Authenticated::No).count(), 4);
    assert_eq!(answers.iter().filter(|answer| **answer == Authenticated::Slowed).count(), 6);
}

#[test]
fn a_registered_phone_is_let_in_while_somebody_behind_its_nat_guesses_its_password() {
    let mut world = World::new();
    know_alice(&mut world);
    let mut phone = a_register("alice", 1, &[contact("sip:alice@10.0.0.2")]);
    phone.source = udp_from(PHONE);
    world.register(phone).unwrap();
    let guess =
        |count| Authenticate { nonce: Bytes::from_static(b"other"), ..from(ATTIC, wrong("alice", count)) };
    for count in 1..=30 {
        verdict(&mut world, guess(count));
    }

    assert_eq!(verdict(&mut world, from(PHONE, right("alice", 1))), Authenticated::Yes);
    assert_eq!(verdict(&mut world, guess(31)), Authenticated::Slowed, "the guesser is not forgiven for that");
}

#[test]
fn a_nonce_that_was_answered_rightly_is_believed_while_others_guess() {
    let mut world = World::new();
    know_alice(&mut world);
    assert_eq!(verdict(&mut world, from(PHONE, right("alice", 1))), Authenticated::Yes);
    for count in 1..=30 {
        let guess = Authenticate { nonce: Bytes::from_static(b"other"), ..wrong("alice", count) };
        verdict(&mut world, from(ATTIC, guess));
    }

    assert_eq!(verdict(&mut world, from(PHONE, right("alice", 2))), Authenticated::Yes);
}

#[test]
fn who_forges_an_address_slows_nobody_and_is_asked_for_a_nonce_of_that_address() {
    let mut world = World::new();
    know_alice(&mut world);
    let forged = |count| Authenticate {
        evidence: Evidence::Claimed,
        nonce: Bytes::from_static(b"sent to another"),
        ..from(PHONE, wrong("alice", count))
    };

    let verdicts = [1, 2, 3, 4, 5].map(|count| verdict(&mut world, forged(count)));

    use Authenticated::{No, Stale};
    assert_eq!(verdicts, [No, No, No, Stale, Stale]);
    assert_eq!(verdict(&mut world, from(PHONE, right("alice", 1))), Authenticated::Yes);
    world.out.clear();
    verdict(&mut world, forged(6));
    assert_eq!(world.take_reports(), []);
}

#[test]
fn what_a_source_did_is_told() {
    let mut world = World::new();
    know_alice(&mut world);
    world.out.clear();
    for count in 1..=5 {
        verdict(&mut world, from(ATTIC, wrong("alice", count)));
    }
    let mut expected = vec![(Deed::WrongCredentials, Evidence::Shown); 4];
    expected.push((Deed::Persisted, Evidence::Shown));
    assert_eq!(world.take_reports(), expected);

    world.stand_still(Duration::from_secs(1));
    verdict(&mut world, Authenticate { owns: aor("bob"), ..from(ATTIC, right("alice", 1)) });
    assert_eq!(world.take_reports(), [(Deed::Authenticated, Evidence::Shown)]);
}

#[test]
fn neither_a_network_that_is_never_held_nor_a_server_without_admission_slows() {
    for admission in [
        Admission { never: vec!["203.0.113.0/24".parse().unwrap()], ..Admission::default() },
        Admission { enforcement: crate::bans::Enforcement::Off, ..Admission::default() },
    ] {
        let mut world = World::with(Settings { admission, ..settings() });
        know_alice(&mut world);

        let wrongs = (1..50).map(|count| verdict(&mut world, from(ATTIC, wrong("alice", count))));

        assert!(wrongs.collect::<Vec<_>>().iter().all(|verdict| *verdict == Authenticated::No));
        assert_eq!(world.partition.slowed_names(world.now), []);
    }
}

#[test]
fn the_operator_sees_a_slowed_name_and_can_forgive_it() {
    let mut world = World::new();
    know_alice(&mut world);
    for count in 1..=4 {
        verdict(&mut world, from(ATTIC, wrong("alice", count)));
    }

    let slowed = world.partition.slowed_names(world.now);
    assert_eq!((slowed.len(), slowed[0].failures, &slowed[0].account), (1, 4, &aor("alice")));
    world.partition.forgive(Some(slowed[0].source));
    assert_eq!(world.partition.slowed_names(world.now), []);
}

#[test]
fn an_account_begins_no_more_calls_than_it_may_but_registers() {
    let admission = Admission { calls_per_minute: 5, ..Admission::default() };
    let mut world = World::with(Settings { admission, ..settings() });
    know_alice(&mut world);

    let verdicts: Vec<_> = (1..=8).map(|count| verdict(&mut world, right("alice", count))).collect();

    let many = Authenticated::TooManyCalls;
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == many).count(), 3);
    assert_eq!(verdicts[5], many);
    let options = Authenticate { method: Bytes::from_static(b"OPTIONS"), ..wrong("alice", 9) };
    assert_eq!(verdict(&mut world, options), Authenticated::No);
    world.stand_still(Duration::from_secs(12));
    assert_eq!(verdict(&mut world, right("alice", 10)), Authenticated::Yes);
    assert_eq!(verdict(&mut world, right("alice", 11)), many);
}

/// Behind one NAT.
const PHONE: &str = "203.0.113.9:1024";
const ATTIC: &str = "203.0.113.9:1025";

fn from(remote: &str, authenticate: Authenticate) -> Authenticate {
    Authenticate { source: udp_from(remote), ..authenticate }
}

fn know_alice(world: &mut World) {
    let asked = world.ask(Question::Authenticate(Box::new(wrong("alice", 0))));
    assert_eq!(asked, None);
    world.loaded("alice", Loaded::Found(Arc::new(account("alice"))));
    world.out.clear();
}

fn verdict(world: &mut World, authenticate: Authenticate) -> Authenticated {
    match world.ask(Question::Authenticate(Box::new(authenticate))) {
        Some(Answer::Authenticated(verdict)) => verdict,
        other => panic!("{other:?}"),
    }
}

fn answered(world: &mut World) -> Authenticated {
    next_answer(world).expect("an answer")
}

fn next_answer(world: &mut World) -> Option<Authenticated> {
    let place = world.out.iter().position(|output| matches!(output, Output::Answer { .. }))?;
    match world.out.remove(place) {
        Output::Answer { answer: Answer::Authenticated(verdict), .. } => Some(verdict),
        other => panic!("{other:?}"),
    }
}
