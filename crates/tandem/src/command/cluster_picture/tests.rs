use super::*;
use crate::guardian::view::{
    CheckView, DiscardView, EngineView, GateView, GrantView, HookView, LinkView, PathView,
};

#[test]
fn a_pair_that_is_well_is_one_picture() {
    let text = cluster_text(&well());

    assert_eq!(text, include_str!("tests/well.txt"));
}

#[test]
fn a_standby_that_can_not_take_over_says_why() {
    let mut view = well();
    view.node = "b".to_owned();
    view.role = "standby".to_owned();
    view.active = None;
    view.lease_left_ms = None;
    view.votes = 0;
    view.granted = None;
    view.holds_addresses = false;
    let dead = VoterView {
        member: 0,
        is_seated: true,
        is_able: true,
        heard_ms: Some(64_000),
        ..VoterView::default()
    };
    view.nodes[0] = NodeView {
        name: "a".to_owned(),
        stance: "silent".to_owned(),
        voter: dead.clone(),
        ..NodeView::default()
    };
    view.nodes[1] = NodeView {
        name: "b".to_owned(),
        is_this: true,
        stance: "standby".to_owned(),
        ready: 100,
        voter: VoterView { heard_ms: None, votes: false, ..voter(1) },
        ..NodeView::default()
    };
    view.witness = Some(VoterView { member: 2, ..dead });
    view.paths = vec![path("a", "192.0.2.2:7950", "192.0.2.1:7950", Some(64_000), false)];
    view.checks[1].failing = Some("no answer".to_owned());
    view.engine.restarts = 0;
    view.alarms = vec!["the configuration differs: a has another file than this node".to_owned()];

    let text = cluster_text(&view);

    assert_eq!(text, include_str!("tests/nobody.txt"));
}

#[test]
fn a_link_that_carries_one_way_is_drawn_so() {
    let mut view = well();
    view.nodes[1].hears_us = false;
    assert!(
        cluster_text(&view).contains("◄─────╳───"),
        "the right one is heard, and does not hear the left one"
    );

    view.nodes[0].is_this = false;
    view.nodes[0].hears_us = false;
    view.nodes[1].is_this = true;
    assert!(
        cluster_text(&view).contains("───╳─────►"),
        "the left one is heard, and does not hear the right one"
    );
}

#[test]
fn long_and_hostile_texts_do_not_break_the_picture() {
    let mut view = well();
    view.nodes[1].name = "a-node-with-quite-a-long-name-\x1b[31m-in-red".to_owned();

    let text = cluster_text(&view);

    assert!(!text.contains('\x1b'), "{text}");
    let widths: Vec<usize> = text.lines().skip(3).take(6).map(|line| line.chars().count()).collect();
    assert_eq!(widths, [80; 6], "{text}");
}

#[test]
fn each_reason_why_nobody_is_active_is_told() {
    let reasons = |change: &dyn Fn(&mut ClusterView)| {
        let mut view = well();
        view.active = None;
        change(&mut view);
        reasons::why_nobody(&view).join("\n")
    };

    for (part, text) in [
        ("standby takes over within", reasons(&|_| ())),
        (
            "not there: b (another voter",
            reasons(&|view| {
                view.nodes[1].voter.is_stranger = true;
                view.witness = None;
            }),
        ),
        (
            "witness (it does not vote)",
            reasons(&|view| {
                view.nodes[1].voter.heard_ms = None;
                view.witness.as_mut().expect("it has one").is_able = false;
            }),
        ),
        (
            "a can not be active: its engine is ready",
            reasons(&|view| view.nodes[0].stance = "unable".to_owned()),
        ),
        ("a was taken out", reasons(&|view| view.nodes[0].stance = "away".to_owned())),
        ("b was taken out", reasons(&|view| view.nodes[1].stance = "away".to_owned())),
        ("gave up for its health and waits 7s more", reasons(&|view| view.paused_s = Some(7))),
        (
            "gateway 192.0.2.254 fails: no answer",
            reasons(&|view| view.checks[1].failing = Some("no answer".to_owned())),
        ),
        (
            "this node's vote is b's for 300ms more",
            reasons(&|view| {
                view.granted = Some(GrantView { node: "b".to_owned(), epoch: Some(3), left_ms: 300 });
            }),
        ),
        ("a asks for votes now: it has 3 of 2", reasons(&|view| view.role = "candidate".to_owned())),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn well() -> ClusterView {
    ClusterView {
        node: "a".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 700,
        uptime_s: 90_000,
        role: "active".to_owned(),
        since_s: 11_520,
        cause: Some("peer silent".to_owned()),
        active: Some("a".to_owned()),
        epoch: 42,
        lease_ms: 500,
        lease_left_ms: Some(381),
        votes: 3,
        votes_needed: 2,
        granted: Some(GrantView { node: "a".to_owned(), epoch: Some(42), left_ms: 480 }),
        nodes: vec![
            NodeView {
                name: "a".to_owned(),
                is_this: true,
                stance: "active".to_owned(),
                ready: 100,
                hears_us: true,
                voter: VoterView { heard_ms: None, ..voter(0) },
                ..NodeView::default()
            },
            NodeView {
                name: "b".to_owned(),
                stance: "standby".to_owned(),
                ready: 100,
                hears_us: true,
                voter: voter(1),
                ..NodeView::default()
            },
        ],
        witness: Some(VoterView {
            granted: Some(GrantView { node: "a".to_owned(), epoch: None, left_ms: 412 }),
            heard_ms: Some(312),
            ..voter(2)
        }),
        paths: vec![
            path("b", "192.0.2.1:7950", "192.0.2.2:7950", Some(12), true),
            path("b", "10.9.0.1:7950", "10.9.0.2:7950", Some(12), true),
            path("witness", "192.0.2.1:7950", "192.0.2.9:7950", Some(312), true),
        ],
        checks: ["carrier of eth0", "gateway 192.0.2.254", "disk"]
            .map(|name| CheckView { name: name.to_owned(), failing: None })
            .to_vec(),
        addresses: vec!["192.0.2.10".to_owned(), "2001:db8::10".to_owned()],
        vip: "tandem".to_owned(),
        interface: Some("eth0".to_owned()),
        holds_addresses: true,
        gate: GateView {
            kind: "program".to_owned(),
            passed: Some(71_204),
            dropped: Some(0),
            passed_on: Some(0),
            errors: Vec::new(),
        },
        engine: EngineView {
            state: "ready".to_owned(),
            pid: Some(712),
            restarts: 1,
            hung: 0,
            last_end: None,
        },
        link: LinkView {
            messages: 1_204_511,
            discarded: vec![DiscardView {
                cause: "wrong key".to_owned(),
                count: 3,
                last_source: Some("192.0.2.77:7950".to_owned()),
            }],
        },
        hooks: vec![HookView { hook: "on_active".to_owned(), ago_s: 11_520, failed: None }],
        settings: "0f135a0a5d2f39af".to_owned(),
        list: crate::guardian::view::ListView { version: 1, ..Default::default() },
        ..ClusterView::default()
    }
}

fn voter(member: u8) -> VoterView {
    VoterView {
        member,
        is_seated: true,
        votes: true,
        is_able: true,
        heard_ms: Some(12),
        ..VoterView::default()
    }
}

fn path(to: &str, ours: &str, theirs: &str, heard_ms: Option<u64>, is_up: bool) -> PathView {
    PathView {
        to: to.to_owned(),
        ours: ours.to_owned(),
        theirs: theirs.to_owned(),
        heard_ms,
        is_up,
        error: None,
    }
}
