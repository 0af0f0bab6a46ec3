//! Who is who: accounts from the store, digests, nonce counts, and what an account owns.

use super::*;
use crate::account::Loaded;
use crate::{Authenticate, Authenticated, Count, Quality};

#[test]
fn the_first_question_waits_for_the_store_and_the_second_does_not() {
    let mut world = World::new();

    assert_eq!(verdict(&mut world, right("alice", 1)), None);
    assert_eq!(world.take(), [Output::LoadAccount(aor("alice"))]);
    world.loaded("alice", found(account("alice")));
    assert_eq!(answers(&mut world), [(1, Authenticated::Yes)]);

    assert_eq!(verdict(&mut world, right("alice", 2)), Some(Authenticated::Yes));
    assert_eq!(world.take(), []);
}

#[test]
fn each_of_many_that_wait_gets_its_own_answer_in_order() {
    let mut world = World::new();
    verdict(&mut world, right("alice", 1));
    verdict(&mut world, wrong("alice", 2));
    verdict(&mut world, right("alice", 1));
    assert_eq!(world.take(), [Output::LoadAccount(aor("alice"))]);

    world.loaded("alice", found(account("alice")));

    assert_eq!(
        answers(&mut world),
        [(1, Authenticated::Yes), (2, Authenticated::No), (3, Authenticated::Stale)]
    );
}

#[test]
fn a_wrong_password_and_an_unknown_account_get_one_answer() {
    let mut world = World::new();
    know(&mut world, account("alice"));
    verdict(&mut world, right("nobody", 1));
    world.take();

    world.loaded("nobody", Loaded::NotFound);

    assert_eq!(answers(&mut world), [(1, Authenticated::No)]);
    assert_eq!(verdict(&mut world, wrong("alice", 1)), Some(Authenticated::No));
    assert_eq!(verdict(&mut world, right("nobody", 1)), Some(Authenticated::No));
}

#[test]
/// RFC 7616 §3.4: nc; a datagram may overtake another, and none is good twice.
fn nonce_count_3_before_2_is_accepted_and_each_is_good_once() {
    let mut world = World::new();
    know(&mut world, account("alice"));

    let verdicts = [1, 3, 2, 3, 2].map(|count| verdict(&mut world, right("alice", count)).unwrap());

    use Authenticated::{Stale, Yes};
    assert_eq!(verdicts, [Yes, Yes, Yes, Stale, Stale]);
}

#[test]
fn a_wrong_password_uses_no_count() {
    let mut world = World::new();
    know(&mut world, account("alice"));

    assert_eq!(verdict(&mut world, wrong("alice", 1)), Some(Authenticated::No));
    assert_eq!(verdict(&mut world, right("alice", 1)), Some(Authenticated::Yes));
}

#[test]
fn credentials_without_counts_use_their_nonce_up() {
    let mut world = World::new();
    know(&mut world, account("alice"));
    let old_form = || {
        let ha2 = md5("INVITE:sip:bob@example.org");
        let response = md5(&format!("{}:nonce:{ha2}", account("alice").ha1[0].1));
        Authenticate { quality: None, response: response.into(), ..right("alice", 1) }
    };

    assert_eq!(verdict(&mut world, old_form()), Some(Authenticated::Yes));
    assert_eq!(verdict(&mut world, old_form()), Some(Authenticated::Stale));
    assert_eq!(verdict(&mut world, right("alice", 9)), Some(Authenticated::Stale));
}

#[test]
fn nobody_speaks_for_an_address_of_record_that_is_not_theirs() {
    let mut world = World::new();
    know(&mut world, account("alice"));

    let as_bob = Authenticate { owns: aor("bob"), ..right("alice", 1) };

    assert_eq!(verdict(&mut world, as_bob), Some(Authenticated::NotOwner));
}

#[test]
fn that_somebody_owns_nothing_is_told_only_to_who_knows_the_password() {
    let mut world = World::new();
    know(&mut world, account("alice"));

    let as_bob = Authenticate { owns: aor("bob"), ..wrong("alice", 1) };

    assert_eq!(verdict(&mut world, as_bob), Some(Authenticated::No));
}

#[test]
fn an_account_speaks_for_its_aliases_and_for_what_it_may_use() {
    let mut world = World::new();
    know(
        &mut world,
        Account { aliases: vec![aor("2001")], may_use: vec![aor("reception")], ..account("alice") },
    );
    let as_user = |user, count| Authenticate { owns: aor(user), ..right("alice", count) };

    assert_eq!(verdict(&mut world, as_user("2001", 1)), Some(Authenticated::Alias(aor("alice"))));
    assert_eq!(verdict(&mut world, as_user("reception", 2)), Some(Authenticated::Yes));
    assert_eq!(verdict(&mut world, as_user("2002", 3)), Some(Authenticated::NotOwner));
}

#[test]
fn a_call_is_held_against_the_limit_of_its_account() {
    let name =
        |number: u8| crate::CallName::of(&keys::RootKey::new([1; 32]).subkey("test", 0), &[number], b"tag");
    let call = |number: u8| Authenticate { call: Some(name(number)), ..right("alice", u32::from(number)) };
    let counted = |number| {
        let (verdict, account) = (Box::new(Authenticated::Yes), aor("alice"));
        Some(Authenticated::Counted { verdict, account, call: name(number) })
    };
    let mut world = World::new();
    know(&mut world, account("alice"));
    assert_eq!(verdict(&mut world, call(1)), Some(Authenticated::Yes), "there is no limit");
    let limit =
        |limit| Account { calls: crate::CallRules { limit, ..Default::default() }, ..account("alice") };
    know(&mut world, limit(Some(1)));

    assert_eq!(verdict(&mut world, call(2)), counted(2));
    assert_eq!(verdict(&mut world, call(3)), Some(Authenticated::TooManyCalls));
    let other = Authenticate { response: Bytes::from(md5("guessed")), ..call(4) };
    assert_ne!(verdict(&mut world, other), Some(Authenticated::TooManyCalls));
    assert_eq!(verdict(&mut world, right("alice", 5)), Some(Authenticated::Yes), "it is no call");
    assert_eq!(world.ask(Question::CallEnded(aor("alice"), name(2))), Some(Answer::Noted));
    assert_eq!(verdict(&mut world, call(6)), counted(6));
}

#[test]
fn a_call_is_told_what_its_account_says_of_the_relay_and_other_requests_are_not() {
    let mut world = World::new();
    let rules =
        crate::CallRules { limit: Some(1), relay: Some(crate::Anchoring::Always), ..Default::default() };
    know(&mut world, Account { calls: rules, ..account("alice") });
    let call = crate::CallName::of(&keys::RootKey::new([1; 32]).subkey("test", 0), b"1", b"tag");

    let ruled =
        Authenticated::Ruled { verdict: Box::new(Authenticated::Yes), relay: crate::Anchoring::Always };
    let expected = Authenticated::Counted { verdict: Box::new(ruled), account: aor("alice"), call };
    let invite = Authenticate { call: Some(call), ..right("alice", 1) };
    assert_eq!(verdict(&mut world, invite), Some(expected));
    assert_eq!(verdict(&mut world, right("alice", 2)), Some(Authenticated::Yes));
}

#[test]
fn a_store_that_can_not_be_asked_is_no_wrong_password() {
    let mut world = World::new();
    verdict(&mut world, right("alice", 1));
    world.take();

    world.loaded("alice", Loaded::Unavailable);

    assert_eq!(answers(&mut world), [(1, Authenticated::Unavailable)]);
    assert_eq!(verdict(&mut world, right("alice", 1)), None);
    assert_eq!(world.take(), [Output::LoadAccount(aor("alice"))]);
}

#[test]
fn known_users_go_on_while_the_store_is_away_and_are_refreshed_when_it_is_back() {
    let mut world = World::new();
    know(&mut world, account("alice"));
    world.pass(Duration::from_secs(3_600));

    assert_eq!(verdict(&mut world, right("alice", 1)), Some(Authenticated::Yes));
    assert_eq!(world.take(), [Output::LoadAccount(aor("alice"))]);
    world.loaded("alice", Loaded::Unavailable);
    assert_eq!(verdict(&mut world, right("alice", 2)), Some(Authenticated::Yes));
    assert_eq!(world.take(), []);

    world.pass(Duration::from_secs(10));
    verdict(&mut world, right("alice", 3));
    assert_eq!(world.take(), [Output::LoadAccount(aor("alice"))]);
    world.loaded("alice", Loaded::NotFound);
    assert_eq!(verdict(&mut world, right("alice", 4)), Some(Authenticated::No));
}

#[test]
fn a_password_that_seems_wrong_is_checked_against_the_store_once_the_account_is_old() {
    let mut world = World::new();
    let before =
        Account { ha1: vec![(Algorithm::Md5, md5("alice:example.org:old").into())], ..account("alice") };
    know(&mut world, before);
    assert_eq!(verdict(&mut world, right("alice", 1)), Some(Authenticated::No));
    world.pass(Duration::from_secs(5));

    assert_eq!(verdict(&mut world, right("alice", 1)), None);
    assert_eq!(world.take(), [Output::LoadAccount(aor("alice"))]);
    world.loaded("alice", found(account("alice")));

    assert_eq!(answers(&mut world), [(2, Authenticated::Yes)]);
}

#[test]
fn a_password_that_seems_wrong_is_wrong_if_the_store_is_away() {
    let mut world = World::new();
    know(&mut world, account("alice"));
    world.pass(Duration::from_secs(5));
    verdict(&mut world, wrong("alice", 1));
    world.take();

    world.loaded("alice", Loaded::Unavailable);

    assert_eq!(answers(&mut world), [(1, Authenticated::No)]);
}

#[test]
fn a_changed_account_is_asked_for_again() {
    let mut world = World::new();
    know(&mut world, account("alice"));

    world.partition.handle_account_changed(world.now, &aor("alice"));

    assert_eq!(world.partition.account_count(), 0);
    assert_eq!(verdict(&mut world, right("alice", 1)), None);
    assert_eq!(world.take(), [Output::LoadAccount(aor("alice"))]);
}

#[test]
fn an_answer_from_before_a_change_is_not_believed() {
    let mut world = World::new();
    verdict(&mut world, right("alice", 1));
    world.take();
    world.partition.handle_account_changed(world.now, &aor("alice"));

    world.loaded("alice", found(account("alice")));
    assert_eq!(world.take(), [Output::LoadAccount(aor("alice"))]);
    world.loaded("alice", Loaded::NotFound);

    assert_eq!(answers(&mut world), [(1, Authenticated::No)]);
}

#[test]
fn a_new_account_is_good_although_it_was_unknown_a_moment_ago() {
    let mut world = World::new();
    verdict(&mut world, right("alice", 1));
    world.loaded("alice", Loaded::NotFound);
    world.take();
    assert_eq!(verdict(&mut world, right("alice", 1)), Some(Authenticated::No));

    world.partition.handle_account_changed(world.now, &aor("alice"));

    assert_eq!(verdict(&mut world, right("alice", 1)), None);
}

#[test]
fn a_store_that_never_answers_ends_the_waiting() {
    let mut world = World::new();
    verdict(&mut world, right("alice", 1));
    world.take();

    world.pass(Duration::from_secs(30));
    assert_eq!(answers(&mut world), [(1, Authenticated::Unavailable)]);

    world.loaded("alice", found(account("alice")));
    assert_eq!(world.take(), []);
    assert_eq!(verdict(&mut world, right("alice", 1)), Some(Authenticated::Yes));
}

#[test]
fn too_many_that_wait_for_one_account_are_told_so() {
    let mut world = World::new();
    let verdicts: Vec<_> = (1..=70).map(|count| verdict(&mut world, right("alice", count))).collect();

    assert_eq!(verdicts.iter().filter(|it| it.is_none()).count(), 64);
    assert_eq!(verdicts[69], Some(Authenticated::Unavailable));
    assert_eq!(world.partition.counts().of(Count::Full), 6);
}

#[test]
fn an_endless_name_is_nobody_and_is_not_looked_up() {
    let mut world = World::new();

    assert_eq!(verdict(&mut world, right(&"a".repeat(600), 1)), Some(Authenticated::No));
    assert_eq!(world.take(), []);
}

#[test]
fn a_partition_restarted_with_the_stored_nonces_goes_on_counting() {
    let mut before = World::new();
    know(&mut before, account("alice"));
    verdict(&mut before, right("alice", 1));
    let mut after = World::new();
    know(&mut after, account("alice"));
    for nonce in before.partition.stored_nonces(before.now) {
        assert_eq!(nonce.account, aor("alice"));
        after.partition.restore_nonce(after.now, nonce);
    }

    assert_eq!(verdict(&mut after, right("alice", 1)), Some(Authenticated::Stale));
    assert_eq!(verdict(&mut after, right("alice", 2)), Some(Authenticated::Yes));
}

fn verdict(world: &mut World, authenticate: Authenticate) -> Option<Authenticated> {
    world.ask(Question::Authenticate(Box::new(authenticate))).map(|answer| match answer {
        Answer::Authenticated(verdict) => verdict,
        other => panic!("{other:?}"),
    })
}

/// The verdicts that came out, each with its question's number.
fn answers(world: &mut World) -> Vec<(u64, Authenticated)> {
    let answer = |output| match output {
        Output::Answer { asker, answer: Answer::Authenticated(verdict) } => (asker.token.0, verdict),
        other => panic!("{other:?}"),
    };
    world.take().into_iter().map(answer).collect()
}

fn know(world: &mut World, account: Account) {
    let user = account.aor.user().to_owned();
    world.loaded(&user, found(account));
    assert_eq!(world.take(), []);
}

fn found(account: Account) -> Loaded {
    Loaded::Found(Arc::new(account))
}

pub(super) fn right(user: &str, count: u32) -> Authenticate {
    let nc = format!("{count:08x}");
    let ha2 = md5("INVITE:sip:bob@example.org");
    let response = md5(&format!("{}:nonce:{nc}:cnonce:auth:{ha2}", account(user).ha1[0].1));
    Authenticate {
        source: udp_from("192.0.2.7:5060"),
        evidence: Evidence::Shown,
        account: aor(user),
        username: Bytes::copy_from_slice(user.as_bytes()),
        owns: aor(user),
        method: Bytes::from_static(b"INVITE"),
        uri: Bytes::from_static(b"sip:bob@example.org"),
        algorithm: Algorithm::Md5,
        nonce: Bytes::from_static(b"nonce"),
        nonce_left: Duration::from_secs(3_700),
        quality: Some(Quality {
            qop: Bytes::from_static(b"auth"),
            nc: nc.into(),
            count,
            cnonce: Bytes::from_static(b"cnonce"),
            body_hash: None,
        }),
        response: response.into(),
        call: None,
    }
}

pub(super) fn wrong(user: &str, count: u32) -> Authenticate {
    Authenticate { response: Bytes::from(md5("guessed")), ..right(user, count) }
}

/// A call that began at another node counts like one that began here, whatever the limit is by now.
#[test]
fn a_call_of_another_node_counts_for_the_limit_of_its_account() {
    let name =
        |number: u8| crate::CallName::of(&keys::RootKey::new([1; 32]).subkey("test", 0), &[number], b"tag");
    let call = |number: u8| Authenticate { call: Some(name(number)), ..right("alice", u32::from(number)) };
    let mut world = World::new();
    let rules = crate::CallRules { limit: Some(1), ..Default::default() };
    know(&mut world, Account { calls: rules, ..account("alice") });

    for number in [8, 9, 9] {
        assert_eq!(world.ask(Question::CallGoesOn(aor("alice"), name(number))), Some(Answer::Noted));
    }

    assert_eq!(verdict(&mut world, call(1)), Some(Authenticated::TooManyCalls));
    for number in [8, 9] {
        assert_eq!(world.ask(Question::CallEnded(aor("alice"), name(number))), Some(Answer::Noted));
    }
    assert!(matches!(verdict(&mut world, call(2)), Some(Authenticated::Counted { .. })));
}

#[test]
fn a_gateway_has_a_place_for_a_call_when_another_one_has_left() {
    let mut world = World::new();
    let gateway = aor("carrier");
    let name =
        |number: u8| crate::CallName::of(&keys::RootKey::new([1; 32]).subkey("test", 0), &[number], b"tag");
    let enter = |number| Question::EnterGateway(gateway.clone(), name(number), 1);

    assert_eq!(world.ask(enter(1)), Some(Answer::AtGateway(gateway.clone(), name(1))));
    assert_eq!(world.ask(enter(2)), Some(Answer::GatewayFull));
    assert_eq!(world.ask(Question::LeaveGateway(gateway.clone(), name(1))), Some(Answer::Noted));
    assert_eq!(world.ask(enter(2)), Some(Answer::AtGateway(gateway.clone(), name(2))));
}
