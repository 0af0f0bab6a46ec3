//! Two servers on this host, each of which holds what the other one acknowledges.

mod calls;
mod testbed;

use std::time::{Duration, Instant};

use engine::{ByRole, Change};
use testbed::{Node, Pair, Phone, eventually};

#[test]
fn a_200_to_a_register_leaves_when_the_other_node_holds_the_binding() {
    let pair = Pair::equal();
    let phone = Phone::new();

    // On a busy host a wait may take longer than the cap; then it is counted, and another phone is tried.
    for number in 0.. {
        let (user, degraded) = (format!("user{number}"), pair.a.degraded());
        assert!(phone.register(&pair.a, &user, 1).starts_with("SIP/2.0 200 "));
        if pair.a.degraded() == degraded {
            assert_eq!(pair.b.contacts(&user), [phone.contact(&user)]);
            break;
        }
    }

    assert!(pair.a.count("replicated") > 0);
}

#[test]
fn what_a_standby_takes_is_written_to_its_own_disk_and_so_is_the_end_of_it() {
    let pair = Pair::equal();
    let phone = Phone::new();

    phone.register(&pair.a, "alice", 1);
    eventually("it is written", || matches!(&pair.b.store.changes()[..], [Change::Put(_)]));
    phone.unregister(&pair.a, "alice", 2);
    eventually("its end too", || matches!(pair.b.store.changes().last(), Some(Change::Remove(_))));

    assert_eq!(pair.b.contacts("alice"), [] as [String; 0]);
}

#[test]
fn without_another_node_a_200_leaves_at_once_and_is_counted() {
    let node = Node::alone();
    let phone = Phone::new();
    node.become_active(3);

    let answer = phone.register(&node, "alice", 1);

    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    assert_eq!((node.count("degraded_no_peer"), node.count("replicated")), (1, 0));
    assert!(!node.view().troubles.is_empty(), "it says whom it can not reach");
}

#[test]
fn another_node_that_hangs_costs_the_longest_wait_and_is_counted() {
    let pair = Pair::equal();
    let phone = Phone::new();
    pair.wire.stall();

    for number in 0..3 {
        assert!(phone.register(&pair.a, &format!("user{number}"), 1).starts_with("SIP/2.0 200 "));
    }

    assert!(pair.a.count("degraded_late") >= 3, "{:?}", pair.a.degraded());
    assert_eq!(pair.b.contacts("user0"), [] as [String; 0]);
    pair.wire.heal();
    eventually("it has caught up", || pair.b.contacts("user2").len() == 1);
}

#[test]
fn whoever_takes_over_has_every_contact_and_answers_the_same_register_again() {
    let pair = Pair::equal();
    let phone = Phone::new();
    for number in 0..50 {
        phone.register(&pair.a, &format!("user{number}"), 7);
    }
    eventually("all are there", || pair.b.server.status().bindings == 50);

    pair.a.lose_lease();
    pair.b.become_active(5);

    for number in 0..50 {
        let user = format!("user{number}");
        assert_eq!(pair.b.contacts(&user), [phone.contact(&user)]);
    }
    // The 200 of the first node was lost: the phone repeats its request, to the byte.
    let again = phone.register(&pair.b, "user7", 7);
    assert!(again.starts_with("SIP/2.0 200 ") && again.contains(&phone.contact("user7")), "{again}");
}

#[test]
fn whoever_was_active_before_is_made_equal_and_loses_what_has_ended_meanwhile() {
    let pair = Pair::equal();
    let phone = Phone::new();
    phone.register(&pair.a, "stays", 1);
    phone.register(&pair.a, "ends", 1);
    eventually("both are there", || pair.b.server.status().bindings == 2);

    pair.a.lose_lease();
    pair.b.become_active(5);
    phone.unregister(&pair.b, "ends", 2);
    phone.register(&pair.b, "new", 1);

    eventually("the first one has the same", || {
        let has = |user| pair.a.contacts(user).len();
        (has("stays"), has("ends"), has("new")) == (1, 0, 1)
    });
    eventually("and knows it", || pair.a.server.share() == 100);
    assert!(matches!(pair.a.view().by_role, ByRole::Standby(_)));
}

#[test]
fn what_a_node_has_from_its_own_disk_and_nobody_else_has_is_withdrawn() {
    let before = Pair::equal();
    Phone::new().register(&before.a, "alice", 1);
    eventually("it is written", || before.b.store.changes().len() == 1);
    let [Change::Put(stored)] = &before.b.store.changes()[..] else { unreachable!("it was one") };

    let pair = Pair::with_disk(vec![(**stored).clone()]);
    eventually("it is gone", || pair.b.contacts("alice").is_empty());

    assert!(matches!(&pair.b.store.changes()[..], [Change::Remove(_)]));
}

#[test]
fn who_is_banned_by_one_node_is_banned_by_the_other_until_the_ban_is_lifted() {
    let pair = Pair::equal();
    let (banned, other) = ([192, 0, 2, 66].into(), "2001:db8:1:2::9".parse().expect("an address"));
    let held = |node: &Node| -> Vec<String> {
        node.server.held().sources.iter().map(|ban| ban.source.to_string()).collect()
    };

    for source in [banned, other] {
        pair.a.server.ban(source, Duration::from_secs(600)).expect("it is nobody of ours");
    }
    eventually("both are banned there", || held(&pair.b) == ["192.0.2.66", "2001:db8:1:2::/64"]);
    pair.a.server.lift(net::SourceNetwork::parse("192.0.2.66"));
    eventually("one is not", || held(&pair.b) == ["2001:db8:1:2::/64"]);

    pair.a.lose_lease();
    pair.b.become_active(5);
    pair.b.server.lift(None);
    eventually("nobody is, anywhere", || held(&pair.a).is_empty());
}

#[test]
fn bans_that_were_there_before_the_standby_came_are_fetched() {
    let pair = Pair::equal();
    pair.wire.stall();
    for number in 1..200 {
        pair.a.server.ban([198, 51, 100, number].into(), Duration::from_secs(600)).expect("a stranger");
    }
    pair.a.lose_lease();
    pair.wire.heal();
    pair.a.become_active(5);

    eventually("all are there", || pair.b.server.held().sources.len() == 199);
}

#[test]
fn a_drain_waits_until_the_other_node_has_everything() {
    // On a busy host a drain may take longer than its limit; then another pair is tried.
    for _ in 0..20 {
        let pair = Pair::equal();
        let phone = Phone::new();
        pair.wire.stall();
        for number in 0..20 {
            phone.send_register(&pair.a, &format!("user{number}"), 1);
        }
        eventually("all are taken", || pair.a.server.bindings() == 20);

        let (there, took) = std::thread::scope(|scope| {
            let drain = scope.spawn(|| {
                let begun = Instant::now();
                pair.a.server.drain();
                (pair.b.server.bindings(), begun.elapsed())
            });
            // One that waited for nothing would have ended by then.
            let before = pair.a.count("inactive");
            eventually("it has been under way for a while", || {
                phone.send_register(&pair.a, "late", 1);
                pair.a.count("inactive") >= before + 5
            });
            pair.wire.heal();
            drain.join().expect("it does not panic")
        });

        if took < net::DRAIN_TIME_MAX {
            assert_eq!(there, pair.a.server.bindings());
            return;
        }
    }
    unreachable!("no drain ended before its limit");
}

#[test]
fn two_nodes_that_both_believe_to_be_active_take_nothing_from_each_other() {
    let pair = Pair::equal();
    let phone = Phone::new();
    phone.register(&pair.a, "alice", 1);
    eventually("it is there", || pair.b.server.status().bindings == 1);

    pair.b.become_active(5);
    phone.unregister(&pair.a, "alice", 2);

    eventually("the old one is told", || pair.a.count("superseded") > 0);
    assert_eq!(pair.b.contacts("alice"), [phone.contact("alice")]);
    assert_ne!(pair.a.degraded(), 0, "what only the old one knows is not called held");
}
