//! What the pair does when something happens to it. Each test also fails when two gates are open at once.

#[allow(dead_code, reason = "two tests share this world, and neither needs all of it")]
#[path = "pair/world.rs"]
mod world;

use std::time::Duration;

use cluster::guardian::{Alarm, Engine, Input, Output, Reason, Refused, Wish};
use cluster::health::{AT_ONCE, Check};
use cluster::peer::PathId;
use cluster::{
    Ask, Cause, Epoch, MemberId, Message, NodeId, Release, RequestNumber, ServiceId, VoterId, VoterList,
};
use world::{ADMISSION_TAKES, Pair, hardware_address};

const LEASE: Duration = Duration::from_millis(500);
const WITNESS: usize = 2;

#[test]
fn of_two_nodes_that_start_at_once_one_becomes_active_within_a_second() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed, LEASE);
        let took = pair.until(Duration::from_secs(1), |pair| pair.active().is_some());

        assert!(took.is_some(), "seed {seed}");
        pair.run(Duration::from_secs(5));
        assert!(pair.active().is_some());
        assert_eq!(became_active(&pair).len(), 1, "nobody takes it from the other, seed {seed}");
    }
}

#[test]
fn the_standby_takes_over_from_a_dead_host_within_the_lease() {
    for lease in [500, 200].map(Duration::from_millis) {
        let mut times: Vec<Duration> = Vec::new();
        for seed in 0..200 {
            let (mut pair, active) = Pair::settled(seed, lease);
            pair.run(Duration::from_micros(seed * 523));
            pair.kill(active);
            let took = pair.until(Duration::from_secs(3), |pair| pair.active() == Some(1 - active));
            times.push(took.unwrap_or_else(|| panic!("seed {seed}: nobody took over")));
        }
        times.sort_unstable();
        println!("lease {lease:?}: p50 {:?}, worst {:?}", times[100], times[199]);
        assert!(times[199] <= lease + Duration::from_millis(40), "{:?}", times[199]);
    }
}

/// Its questions come through, and keep the votes from the other one that could use them.
#[test]
fn the_standby_takes_over_from_a_node_that_hears_nobody_any_more() {
    for lease in [500, 200].map(Duration::from_millis) {
        for seed in 0..50 {
            let (mut pair, active) = Pair::settled(seed, lease);
            pair.run(Duration::from_micros(seed * 523));
            pair.deafen(active);

            let took = pair.until(Duration::from_secs(10), |pair| pair.active() == Some(1 - active));

            let bound = lease * 3 + Duration::from_millis(100);
            assert!(took.is_some_and(|took| took < bound), "seed {seed}: {took:?}");
            pair.run(Duration::from_secs(5));
            assert_eq!(pair.active(), Some(1 - active), "seed {seed}");
            pair.mend();
            pair.run(Duration::from_secs(3));
            assert_eq!(pair.active(), Some(1 - active), "seed {seed}");
        }
    }
}

#[test]
fn a_dead_engine_gives_the_service_to_the_peer_at_once() {
    let (mut pair, active) = Pair::settled(1, LEASE);

    pair.input(active, Input::Engine(Engine::Dead));
    let took =
        pair.until(Duration::from_secs(3), |pair| pair.active() == Some(1 - active)).expect("given away");

    assert!(took < Duration::from_millis(50), "{took:?}");
    assert_eq!(became_active(&pair).last(), Some(&(1 - active, Reason::PeerReleased)));
}

/// Its new engine knows what was on disk, which is less than what was acknowledged: the peer has all of it.
#[test]
fn who_gave_the_service_away_leaves_it_to_the_peer_though_its_engine_is_back_first() {
    let (mut pair, active) = Pair::settled(1, LEASE);
    pair.input(active, Input::Engine(Engine::Dead));
    pair.cut(1 - active, WITNESS);
    pair.cut(1 - active, active);

    pair.input(active, Input::Engine(Engine::Starting));
    pair.input(active, Input::Engine(Engine::Ready));
    pair.input(active, Input::Ready(0));
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.active(), None);
    pair.mend();
    pair.run(Duration::from_secs(2));

    assert_eq!(pair.active(), Some(1 - active));
}

#[test]
fn a_machine_that_stood_still_gives_the_service_away_at_once_and_ends() {
    for is_active in [true, false] {
        let (mut pair, active) = Pair::settled(1, LEASE);
        let still = if is_active { active } else { 1 - active };

        pair.input(still, Input::StoodStill);
        let took = pair.until(Duration::from_secs(3), |pair| pair.active() == Some(1 - still));

        assert!(took.is_some_and(|took| took < Duration::from_millis(50)), "{took:?}");
        pair.run(Duration::from_secs(1));
        assert!(pair.said.iter().any(|(_, at, output)| (*at, output) == (still, &Output::MayEnd)));
        assert_eq!(pair.active(), Some(1 - still));
    }
}

#[test]
fn a_check_that_is_made_no_more_does_not_count() {
    let (mut pair, active) = Pair::settled(1, LEASE);
    let gateway = || Check::Gateway("192.0.2.1".into());
    for node in [0, 1] {
        pair.input(node, Input::Checked(gateway(), AT_ONCE, Err("no answer".into())));
    }
    pair.run(Duration::from_secs(1));

    pair.input(active, Input::Unchecked(gateway()));
    pair.run(Duration::from_secs(1));

    let view = pair.guardian(active).expect("it is on").view(pair.clock().instant);
    assert!(view.checks.is_empty());
    assert_eq!(pair.active(), Some(active));
}

#[test]
fn a_dead_engine_without_a_ready_peer_keeps_the_service() {
    let (mut pair, active) = Pair::settled(1, LEASE);
    pair.input(1 - active, Input::Engine(Engine::Dead));
    pair.run(Duration::from_millis(100));

    pair.input(active, Input::Engine(Engine::Dead));
    pair.run(Duration::from_secs(3));

    assert_eq!(pair.active(), Some(active));
}

#[test]
fn a_switchover_takes_milliseconds_and_needs_no_witness() {
    for asked_at in ["active", "standby"] {
        let (mut pair, active) = Pair::settled(3, LEASE);
        pair.cut(active, WITNESS);
        pair.cut(1 - active, WITNESS);
        let at = if asked_at == "active" { active } else { 1 - active };

        pair.wish(at, Wish::Switchover { force: false });
        let dark = dark_time(&mut pair, 1 - active);

        assert!(dark < Duration::from_millis(5), "asked at the {asked_at}: nobody served for {dark:?}");
        pair.mend();
        pair.run(Duration::from_secs(3));
        assert_eq!(pair.active(), Some(1 - active));
        assert_eq!(became_active(&pair).last(), Some(&(1 - active, Reason::Switchover)));
        assert!(
            pair.said.iter().any(|(_, _, output)| *output == Output::Switched(Ok(()))),
            "asked at the {asked_at}"
        );
    }
}

#[test]
fn a_switchover_works_when_heartbeats_are_faster_than_the_disk_of_the_standby() {
    let (mut pair, active) = Pair::settled(3, LEASE);
    // The standby has counted the next epoch as used before it can ask for it, and its heartbeats say so.
    pair.disk_takes[1 - active] = Duration::from_millis(120);

    pair.wish(active, Wish::Switchover { force: false });
    pair.run(Duration::from_secs(3));

    assert_eq!(became_active(&pair).last(), Some(&(1 - active, Reason::Switchover)));
}

#[test]
fn a_node_passes_on_only_to_one_that_lets_in_already() {
    for seed in 0..20 {
        let (mut pair, active) = Pair::settled(seed, LEASE);
        let heir = 1 - active;

        pair.wish(active, Wish::Switchover { force: false });
        pair.until(Duration::from_secs(1), |pair| pair.active() == Some(heir)).expect("it moves");
        pair.run(Duration::from_secs(3));

        let first = |at, wanted: Output| {
            let mut said = pair.said.iter().filter(|said| said.1 == at && said.2 == wanted);
            said.next().unwrap_or_else(|| panic!("seed {seed}: node {at} never says {wanted:?}")).0
        };
        let passed_on = first(active, Output::Drain(Some(hardware_address(heir))));
        assert!(passed_on >= first(heir, Output::Admit) + ADMISSION_TAKES, "seed {seed}");
        assert!(pair.said.iter().all(|said| said.2 != Output::TurnAway), "it has taken over, seed {seed}");
    }
}

#[test]
fn a_node_that_does_not_take_over_after_all_lets_nothing_in() {
    let (mut pair, active) = Pair::settled(5, LEASE);
    let heir = 1 - active;
    pair.wish(heir, Wish::Switchover { force: false });
    pair.kill(active);

    pair.run(Duration::from_secs(11));

    let said = |wanted: &Output| pair.said.iter().rposition(|said| said.1 == heir && said.2 == *wanted);
    let (admitted, turned_away) = (said(&Output::Admit), said(&Output::TurnAway));
    assert!(admitted.is_some() && turned_away > admitted, "{admitted:?}, {turned_away:?}");
}

#[test]
fn an_active_node_that_dies_in_a_hand_over_is_taken_over_from_as_ever() {
    for (asked_at, after) in [0, 1].into_iter().flat_map(|at| (0..30).map(move |ms| (at, ms))) {
        let after = Duration::from_millis(after);
        let (mut pair, active) = Pair::settled(5, LEASE);
        let heir = 1 - active;
        pair.wish([active, heir][asked_at], Wish::Switchover { force: false });
        pair.run(after);

        pair.kill(active);

        let took = pair.until(LEASE + Duration::from_millis(50), |pair| pair.active() == Some(heir));
        assert!(took.is_some(), "asked at {asked_at}, dead after {after:?}: nobody serves");
        // The operator at the heir hears once what became of the wish.
        pair.run(Duration::from_secs(6));
        let told = pair.said.iter().filter(|said| said.1 == heir && matches!(said.2, Output::Switched(_)));
        assert_eq!(told.count(), asked_at, "dead after {after:?}");
    }
}

#[test]
fn a_node_whose_engine_dies_in_a_hand_over_is_relieved_at_once() {
    let (mut pair, active) = Pair::settled(5, LEASE);
    let heir = 1 - active;
    pair.wish(heir, Wish::Switchover { force: false });
    let drains = |pair: &Pair| pair.said.iter().any(|said| matches!(said.2, Output::Drain(_)));
    pair.until(Duration::from_secs(1), drains).expect("it begins to hand over");

    pair.input(active, Input::Engine(Engine::Dead));

    let took = pair.until(Duration::from_millis(50), |pair| pair.active() == Some(heir));
    assert!(took.is_some(), "nobody serves");
}

#[test]
fn a_switchover_is_no_success_before_the_witness_has_voted_for_the_new_holder() {
    for asked_at in ["active", "standby"] {
        let (mut pair, active) = Pair::settled(3, LEASE);
        pair.kill(WITNESS);
        let at = if asked_at == "active" { active } else { 1 - active };

        pair.wish(at, Wish::Switchover { force: false });
        pair.until(Duration::from_secs(1), |pair| pair.active() == Some(1 - active)).expect("it moves");
        pair.run(Duration::from_secs(6));

        let said: Vec<_> = pair
            .said
            .iter()
            .filter_map(|(_, at, output)| match output {
                Output::Switched(result) => Some((*at, *result)),
                _ => None,
            })
            .collect();
        assert_eq!(said, [(at, Err(Refused::WitnessSilent))], "asked at the {asked_at}");
        assert_eq!(pair.active(), Some(1 - active));
    }
}

#[test]
fn a_switchover_to_a_standby_that_is_not_ready_is_refused_with_the_reason() {
    let (mut pair, active) = Pair::settled(3, LEASE);
    pair.input(1 - active, Input::Ready(60));
    pair.run(Duration::from_millis(200));

    pair.wish(active, Wish::Switchover { force: false });
    pair.run(Duration::from_secs(1));

    assert!(pair.said.contains(&(
        pair.said.iter().find(|said| matches!(said.2, Output::Switched(_))).expect("an answer").0,
        active,
        Output::Switched(Err(Refused::PeerNotReady(60)))
    )));
    assert_eq!(pair.active(), Some(active));
}

#[test]
fn a_node_that_is_stopped_hands_over_and_may_end() {
    let (mut pair, active) = Pair::settled(4, LEASE);

    pair.wish(active, Wish::Stop);
    let dark = dark_time(&mut pair, 1 - active);
    let ended =
        pair.until(Duration::from_secs(2), |pair| pair.said.iter().any(|said| said.2 == Output::MayEnd));

    assert!(dark < Duration::from_millis(5), "{dark:?}");
    assert!(ended.is_some());
}

#[test]
fn the_last_node_that_is_stopped_ends_without_waiting_for_anybody() {
    let (mut pair, active) = Pair::settled(4, LEASE);
    pair.kill(1 - active);
    pair.run(Duration::from_secs(1));

    pair.wish(active, Wish::Stop);
    let ended =
        pair.until(Duration::from_secs(2), |pair| pair.said.iter().any(|said| said.2 == Output::MayEnd));

    assert!(ended.is_some_and(|took| took < Duration::from_millis(100)), "{ended:?}");
}

#[test]
fn nodes_that_are_cut_from_each_other_do_not_fight() {
    let (mut pair, active) = Pair::settled(5, LEASE);

    pair.cut(0, 1);
    for _ in 0..100 {
        pair.run(Duration::from_millis(100));
        assert_eq!(pair.active(), Some(active));
    }
    pair.mend();
    pair.run(Duration::from_secs(3));

    assert_eq!(pair.active(), Some(active));
    assert_eq!(became_active(&pair).len(), 1);
}

#[test]
fn the_witness_may_be_gone_but_then_not_the_active_node() {
    let (mut pair, active) = Pair::settled(6, LEASE);

    pair.kill(WITNESS);
    pair.run(Duration::from_secs(3));
    assert_eq!(pair.active(), Some(active));
    pair.kill(active);
    pair.run(Duration::from_secs(10));
    assert_eq!(pair.active(), None, "one of three is no majority");

    pair.start(WITNESS);
    let took = pair.until(Duration::from_secs(3), |pair| pair.active() == Some(1 - active));
    assert!(took.is_some());
}

#[test]
fn a_witness_that_restarts_while_the_standby_is_down_does_not_end_the_service() {
    let (mut pair, active) = Pair::settled(7, LEASE);
    pair.kill(1 - active);
    pair.run(Duration::from_secs(1));

    pair.kill(WITNESS);
    pair.start(WITNESS);
    pair.run(Duration::from_secs(2));

    assert_eq!(pair.active(), Some(active));
    assert_eq!(became_active(&pair).len(), 1, "it was renewed at once");
}

#[test]
fn a_node_that_returns_does_not_take_the_service_back() {
    let (mut pair, active) = Pair::settled(8, LEASE);
    pair.kill(active);
    pair.run(Duration::from_secs(2));
    pair.start(active);
    pair.run(Duration::from_secs(5));

    assert_eq!(pair.active(), Some(1 - active));
}

#[test]
fn a_preferred_node_takes_the_service_back_after_its_delay() {
    let (mut pair, active) = Pair::settled(8, LEASE);
    pair.kill(active);
    pair.run(Duration::from_secs(2));
    pair.settings[active].preferred = Some(Duration::from_secs(4));
    pair.start(active);

    pair.run(Duration::from_millis(3_900));
    assert_eq!(pair.active(), Some(1 - active));
    let took = pair.until(Duration::from_secs(2), |pair| pair.active() == Some(active));
    assert!(took.is_some());
}

#[test]
fn an_ill_node_gives_way_to_a_well_one_and_not_the_other_way_round() {
    let (mut pair, active) = Pair::settled(9, LEASE);
    let gateway = Check::Gateway("192.0.2.1".into());

    pair.input(active, Input::Checked(gateway.clone(), AT_ONCE, Err("no answer".into())));
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.active(), Some(1 - active));
    assert_eq!(became_active(&pair).last(), Some(&(1 - active, Reason::PeerIll)));

    pair.input(1 - active, Input::Checked(gateway.clone(), AT_ONCE, Err("no answer".into())));
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.active(), Some(1 - active), "the other one is no better");

    pair.input(active, Input::Checked(gateway, AT_ONCE, Ok(())));
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.active(), Some(active));
}

#[test]
fn two_ill_nodes_are_better_than_none() {
    let mut pair = Pair::new(10, LEASE);
    for at in 0..2 {
        pair.input(at, Input::Checked(Check::Disk, AT_ONCE, Err("full".into())));
    }
    pair.run(Duration::from_secs(3));

    assert!(pair.active().is_some());
}

#[test]
fn a_voter_that_was_replaced_does_not_count() {
    let (mut pair, active) = Pair::settled(11, LEASE);
    pair.kill(WITNESS);
    pair.replace_voter(WITNESS, 99);
    pair.start(WITNESS);
    pair.run(Duration::from_secs(2));
    pair.kill(active);
    pair.run(Duration::from_secs(3));

    assert_eq!(pair.active(), None, "its disk was emptied: it may have forgotten what it granted");
    let view = pair.guardian(1 - active).expect("it is on").view(pair.clock().instant);
    assert!(view.members[WITNESS].stranger.is_some());
}

#[test]
fn a_lease_that_nobody_renews_ends_by_itself() {
    let (mut pair, active) = Pair::settled(12, LEASE);
    pair.cut(active, 1 - active);
    pair.cut(active, WITNESS);

    let ended = pair.until(Duration::from_secs(1), |pair| pair.active().is_none()).expect("it ends");
    assert!(ended <= Duration::from_millis(400), "{ended:?}");
    let took = pair.until(Duration::from_secs(1), |pair| pair.active() == Some(1 - active));
    assert!(took.is_some());
    assert!(pair.said.iter().any(|said| matches!(said.2, Output::BecameStandby(_, Cause::Expired))));
}

/// A flood of claims is no flood of alarms, of which each is a run of the operator's hook.
#[test]
fn a_stranger_that_claims_an_address_without_end_is_told_of_each_time_that_it_is_answered() {
    let (mut pair, active) = Pair::settled(13, LEASE);
    let begin = pair.said.len();

    for _ in 0..300 {
        pair.input(active, Input::Conflict);
        pair.run(Duration::from_millis(1));
    }

    assert_eq!(alarms(&pair, begin), [(active, Alarm::Conflict); 2]);
}

#[test]
fn each_voter_that_takes_the_place_of_an_accepted_one_is_told_of() {
    let (mut pair, active) = Pair::settled(14, LEASE);
    let begin = pair.said.len();
    let told = |pair: &Pair| {
        let alarms = alarms(pair, begin).into_iter().filter(|(at, _)| *at == active);
        alarms.map(|(_, alarm)| alarm).collect::<Vec<_>>()
    };
    let mut expected = Vec::new();
    for voter in [99, 98] {
        pair.kill(WITNESS);
        pair.replace_voter(WITNESS, voter);
        pair.start(WITNESS);
        pair.run(Duration::from_secs(2));
        expected.push(Alarm::VoterChanged(MemberId(WITNESS as u8), VoterId(voter)));
        assert_eq!(told(&pair), expected);

        pair.wish(active, Wish::Accept(MemberId(WITNESS as u8)));
        pair.run(Duration::from_secs(2));
    }
}

#[test]
fn a_clock_that_is_set_wrong_is_told_of_whenever_that_happens() {
    let (mut pair, active) = Pair::settled(15, LEASE);
    let begin = pair.said.len();
    let told = [0, 1].map(|at| (at, Alarm::ClocksApart(NodeId(1 - at as u8))));

    for times in 1..=2 {
        pair.ahead[1 - active] = Duration::from_secs(6);
        pair.run(Duration::from_secs(5));
        pair.ahead[1 - active] = Duration::ZERO;
        pair.run(Duration::from_secs(1));

        let mut alarms = alarms(&pair, begin);
        alarms.sort_by_key(|(at, _)| *at);
        assert_eq!(alarms, [vec![told[0]; times], vec![told[1]; times]].concat());
    }
}

#[test]
fn an_ill_node_that_nobody_relieves_has_not_given_up() {
    let (mut pair, active) = Pair::settled(16, LEASE);
    let paused = |pair: &Pair| {
        pair.guardian(active).expect("it is on").view(pair.clock().instant).paused_for.is_some()
    };
    // It can not set the next epoch aside.
    pair.disk_takes[1 - active] = Duration::from_secs(3_600);

    pair.input(active, Input::Checked(Check::Disk, AT_ONCE, Err("full".into())));
    pair.run(Duration::from_secs(20));

    assert_eq!(pair.active(), Some(active));
    assert!(!paused(&pair));
    pair.kill(1 - active);
    pair.disk_takes[1 - active] = Duration::from_millis(3);
    pair.start(1 - active);
    // What it claims is too low until it has tried as often as before.
    pair.until(Duration::from_secs(60), |pair| pair.active() == Some(1 - active)).expect("it is relieved");
    assert!(paused(&pair));
}

#[test]
fn what_is_said_of_another_service_changes_nothing() {
    let (mut pair, active) = Pair::settled(17, LEASE);
    let view = |pair: &Pair| {
        let view = pair.guardian(1 - active).expect("it is on").view(pair.clock().instant);
        (view.highest, view.granted.map(|(holder, epoch, _)| (holder, epoch)))
    };
    let before = view(&pair);
    let service = ServiceId(1);
    let (holder, epoch) = before.1.expect("the active one is voted for");
    let release = Release { service, holder, epoch };
    let list = VoterList::of_members([0, 1, 2].map(MemberId));
    let ask = Ask { service, holder, number: RequestNumber(1), epoch: Epoch(1_000), lease: LEASE, list };

    for message in [Message::Release(release), Message::Ask(ask)] {
        pair.input(1 - active, Input::Message(MemberId(active as u8), PathId(0), message));
        assert_eq!(view(&pair), before);
    }
}

fn alarms(pair: &Pair, begin: usize) -> Vec<(usize, Alarm)> {
    let alarms = pair.said[begin..].iter().filter_map(|(_, at, output)| match output {
        Output::Alarm(alarm) => Some((*at, *alarm)),
        _ => None,
    });
    alarms.collect()
}

fn became_active(pair: &Pair) -> Vec<(usize, Reason)> {
    let active = pair.said.iter().filter_map(|(_, at, output)| match output {
        Output::BecameActive(_, reason) => Some((*at, *reason)),
        _ => None,
    });
    active.collect()
}

/// How long nobody was active until `to` was.
fn dark_time(pair: &mut Pair, to: usize) -> Duration {
    pair.until(Duration::from_secs(3), |pair| pair.active().is_none()).expect("the old one ends");
    pair.until(Duration::from_secs(3), |pair| pair.active() == Some(to)).expect("the new one begins")
}
