//! Two peers on this host: the whole way of a capsule, and what keeps it from going.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

mod testbed;

use std::time::Duration;

use engine::{ByRole, Outcome, Peer as _};
use peer::Plan;
use replica::{Cause, Epoch, Place, Ticket};

use testbed::{KIND, Wire, capsule, nodes, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_active_node_puts_is_held_by_the_standby() {
    let [a, b] = nodes([1, 1]).await;
    a.peer.become_active(Epoch(1));
    until("equal", || a.peer.ready() == 100).await;

    let outcome = a.put_until_held("alice", "one").await;

    assert_eq!(outcome, Outcome::Held);
    assert_eq!(b.content("alice").as_deref(), Some("one"));
    a.remove("alice");
    until("the removal", || b.content("alice").is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_the_peer_came_arrives_too() {
    let [a, b] = nodes([1, 1]).await;
    a.peer.become_active(Epoch(1));
    for number in 0..3_000 {
        a.put(&format!("key {number}"), "before");
    }

    until("equal", || a.peer.ready() == 100).await;

    // The last ones may still be on their way.
    until("all is there", || b.len() == 3_000).await;
    until("the standby knows it", || b.peer.ready() == 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_gets_nothing_and_gives_nothing() {
    let [a, b] = nodes([1, 2]).await;
    a.peer.become_active(Epoch(1));
    a.put("alice", "one");

    until("both refuse", || a.counts().not_ours > 1 && b.counts().not_ours > 1).await;

    assert_eq!((a.peer.ready(), b.len()), (0, 0));
    assert_eq!(a.wait_for_put("bob", "two").await, Outcome::Degraded(Cause::NoPeer));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_is_closed_and_who_is_not_the_peer_is_not_heard() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let [a, b] = nodes([1, 1]).await;
    let mut stream = tokio::net::TcpStream::connect(b.address).await.unwrap();
    stream.write_all(b"REGISTER sip:example.org SIP/2.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    until("it is counted", || b.counts().not_ours == 1).await;

    let from_elsewhere = tokio::net::TcpSocket::new_v4().unwrap();
    from_elsewhere.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let mut stream = from_elsewhere.connect(b.address).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);

    until("it is counted", || b.counts().strangers == 1).await;
    a.peer.become_active(Epoch(1));
    until("the peer is let in", || a.peer.ready() == 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_degrades_and_heals() {
    let [mut a, b] = nodes([1, 1]).await;
    let wire = Wire::between(&mut a, &b).await;
    a.peer.become_active(Epoch(1));
    until("equal", || a.peer.ready() == 100).await;

    wire.cut();
    until("the loss is seen", || a.peer.ready() == 0).await;
    assert_eq!(a.wait_for_put("alice", "in the cut").await, Outcome::Degraded(Cause::NoPeer));
    assert_eq!(b.content("alice"), None);
    wire.heal();

    until("equal again", || a.peer.ready() == 100).await;
    assert_eq!(b.content("alice").as_deref(), Some("in the cut"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_nothing_stops_nobody() {
    let [mut a, b] = nodes([1, 1]).await;
    let wire = Wire::between(&mut a, &b).await;
    a.peer.become_active(Epoch(1));
    until("equal", || a.peer.ready() == 100).await;
    wire.stall();

    // Ten times the window, by a thread that would hang if it had to wait for the network.
    let content = "x".repeat(10_000);
    for number in 0..4_000 {
        a.put(&format!("key {number}"), &content);
    }
    let ByRole::Active(view) = a.peer.view().by_role else { panic!("it is active") };
    assert!(view.counts.stale >= 1 || view.peer.is_none(), "{view:?}");
    assert!(view.lag.bytes <= 5 << 20, "{view:?}");
    let outcome = a.wait_for_put("alice", "in the standstill").await;
    assert!(matches!(outcome, Outcome::Degraded(_)), "{outcome:?}");

    wire.heal();
    until("equal again", || a.peer.ready() == 100).await;
    assert_eq!(b.len(), 4_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_path_serves_when_the_first_is_dead() {
    let [mut a, b] = nodes([1, 1]).await;
    // Nobody listens there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    a.start_again(Plan { peers: vec![dead, b.address], ..a.plan.clone() });

    a.peer.become_active(Epoch(1));

    until("equal", || a.peer.ready() == 100).await;
    assert!(a.counts().unreached >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_does_not_show_what_kept_it_from_its_peer_when_it_was_active() {
    let [mut a, b] = nodes([1, 1]).await;
    let wire = Wire::between(&mut a, &b).await;
    wire.cut();
    a.peer.become_active(Epoch(1));
    until("it is shown", || !a.peer.view().troubles.is_empty()).await;

    a.peer.become_standby(Epoch(1));

    until("it is shown no more", || a.peer.view().troubles.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_change_and_nothing_is_sent_twice() {
    let [a, b] = nodes([1, 1]).await;
    a.peer.become_active(Epoch(1));
    for number in 0..500 {
        a.put(&format!("key {number}"), "of a");
    }
    until("equal", || a.peer.ready() == 100).await;

    a.peer.become_standby(Epoch(1));
    b.peer.become_active(Epoch(2));
    until("equal the other way round", || b.peer.ready() == 100).await;
    b.put_until_held("key 7", "of b").await;

    assert_eq!(a.content("key 7").as_deref(), Some("of b"));
    let ByRole::Active(view) = b.peer.view().by_role else { panic!("it is active") };
    assert_eq!((view.counts.repaired, a.len()), (0, 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_becomes_active_waits_until_its_owners_are_done() {
    let [a, b] = nodes([1, 1]).await;
    a.peer.become_active(Epoch(1));
    until("equal", || a.peer.ready() == 100).await;
    b.hold_owner_up(true);
    a.put("key", "content");
    until("it is given to the owner", || b.is_owner_at_work()).await;

    let peer = b.peer.clone();
    let mut change = tokio::task::spawn_blocking(move || peer.become_active(Epoch(2)));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut change).await;
    // Before anything may fail: the runtime does not end before the owner does.
    b.hold_owner_up(false);

    assert!(early.is_err(), "it is active while an owner is at work");
    change.await.unwrap();
    assert!(!b.is_owner_at_work());
    assert_eq!(b.content("key").as_deref(), Some("content"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_replaced_learns_it_from_its_peer() {
    let [a, b] = nodes([1, 1]).await;
    b.peer.become_active(Epoch(2));

    a.peer.become_active(Epoch(1));

    until("it learns it", || a.superseded() == Some(Epoch(2))).await;
    assert_eq!(b.superseded(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_raises_its_epoch_goes_on_speaking() {
    let [a, b] = nodes([1, 1]).await;
    a.peer.become_active(Epoch(1));
    until("equal", || a.peer.ready() == 100).await;

    a.peer.raise(Epoch(5));

    assert_eq!(a.put_until_held("alice", "one").await, Outcome::Held);
    assert_eq!((b.content("alice").as_deref(), a.counts().called), (Some("one"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_raises_its_epoch_is_heard_by_a_peer_that_knew_a_higher_one() {
    let [a, b] = nodes([1, 1]).await;
    b.peer.become_active(Epoch(4));
    b.peer.become_standby(Epoch(4));
    a.peer.become_active(Epoch(1));
    until("it is refused", || a.superseded() == Some(Epoch(4))).await;

    a.peer.raise(Epoch(5));

    until("equal", || a.peer.ready() == 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_waits_for_nobody() {
    let [a, _b] = nodes([1, 1]).await;
    let posted = a.peer.put(capsule("alice", "one"), Place { owner: 0, number: 1 });

    a.peer.wait(&[(Ticket(5), posted)]);

    assert_eq!(a.outcome(Ticket(5)).await, Outcome::Degraded(Cause::NoPeer));
    let removed = a.peer.remove(KIND, b"alice").and(a.peer.everything());
    a.peer.wait(&[(Ticket(6), removed)]);
    assert_eq!(a.outcome(Ticket(6)).await, Outcome::Degraded(Cause::NoPeer));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_the_end_of_the_lease_is_told() {
    let [mut a, b] = nodes([1, 1]).await;
    let wire = Wire::between(&mut a, &b).await;
    a.peer.become_active(Epoch(1));
    until("equal", || a.peer.ready() == 100).await;
    wire.stall();
    let ticket = a.put_and_wait("alice", "one");

    a.peer.become_standby(Epoch(1));

    let outcome = tokio::time::timeout(Duration::from_secs(20), a.outcome(ticket)).await.unwrap();
    assert!(matches!(outcome, Outcome::Degraded(Cause::Lost | Cause::Late)), "{outcome:?}");
}
