//! A prober with its gateways around it.

use std::sync::Arc;
use std::time::Duration;

use clock::{Instant, Now, WallTime};
use lease::LeaseMirror;
use sip::{Message, Name, Status};
use transport::selection::{Query, Records};
use transport::{Listener, ListenerId, Listeners, LocalAddr, RemoteAddr, Transport};

use super::{Failure, GatewayMark, Outcome, Output, ProbeMark, Prober, Service, State, Verdict, Verdicts};
use crate::dial_plan::samples::gateway;
use crate::dial_plan::{Gateway, Watch};
use crate::{DialPlan, Keyring, Settings};

#[test]
fn a_gateway_that_answers_is_asked_again_after_its_interval() {
    let mut scene = Scene::new(vec![gateway("a")]);

    let probe = scene.only_probe();
    assert_eq!(scene.answer(&probe, 200), []);

    assert_eq!(scene.state("a"), State::Up);
    assert_eq!(scene.pass(Duration::from_millis(29_999)), []);
    let next = scene.only_probe();
    assert_ne!(branch(&probe), branch(&next));
}

#[test]
fn a_probe_has_what_every_request_has_and_goes_where_the_gateway_is() {
    let mut scene = Scene::new(vec![gateway("a")]);

    let Sent { to, text } = scene.only_probe();

    assert_eq!(to, "198.51.100.1:5060");
    let message = Message::parse(text.as_bytes()).unwrap();
    message.validate().unwrap();
    assert_eq!(message.request_uri(), Some(&b"sip:198.51.100.1:5060"[..]));
    assert!(message.header(Name::MaxForwards).is_some());
}

#[test]
fn a_gateway_that_dies_is_down_within_seconds_and_every_shard_is_told() {
    let mut scene = Scene::new(vec![gateway("a"), gateway("b")]);
    for probe in scene.probes() {
        scene.answer(&probe, 200);
    }
    scene.pass(Duration::from_secs(29));
    let mut published = Vec::new();
    for _ in 0..20 {
        for output in scene.pass(Duration::from_millis(500)) {
            match output {
                Output::Publish(verdicts) => published.push(verdicts),
                Output::Send { to, message } => {
                    let sent = sent(&to, &message);
                    if sent.text.contains("CSeq: 1 OPTIONS") && scene.is_of(&sent, "b") {
                        scene.answer(&sent, 486);
                    }
                }
                Output::Resolve { .. } => panic!("an address needs no look-up"),
            }
        }
    }

    assert_eq!(scene.state("a"), State::Down(Failure::Silent));
    assert_eq!(scene.state("b"), State::Up, "any answer is one");
    assert_eq!(published.len(), 1);
    assert_eq!((published[0].of("a"), published[0].of("b")), (Verdict::Doubtful, Verdict::Good));
}

#[test]
fn an_answer_that_says_nobody_is_there_is_none() {
    for status in [408, 503] {
        let mut scene = Scene::new(vec![gateway("a")]);
        for _ in 0..3 {
            let probe = scene.only_probe();
            scene.answer(&probe, status);
        }
        assert_eq!(scene.state("a"), State::Down(Failure::Refused(Status(status))));
    }
}

#[test]
fn an_answer_from_elsewhere_or_to_an_earlier_probe_says_nothing() {
    let mut scene = Scene::new(vec![gateway("a")]);
    let first = scene.only_probe();
    let elsewhere = RemoteAddr("203.0.113.66:5060".parse().unwrap());
    let key = scene.keyring.keepalive;
    assert_eq!(ProbeMark::read_branch(&key, branch(&first).as_bytes(), &elsewhere), None);

    let _second = scene.only_probe();
    scene.answer(&first, 200);

    assert_eq!(scene.state("a"), State::Unknown);
}

#[test]
fn the_servers_of_a_name_are_asked_one_after_the_other_and_one_that_answers_is_enough() {
    let mut scene = Scene::new(vec![Gateway { uri: "sip:carrier.example:5060".into(), ..gateway("a") }]);
    let out = scene.pass(Duration::ZERO);
    let [Output::Resolve { gateway, query }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(query, &Query::Addresses("carrier.example".into()));
    let addresses = ["198.51.100.1", "198.51.100.2"].map(|text| text.parse().unwrap());

    let out = scene.resolved(*gateway, Records::Addresses(addresses.into()));
    let [Output::Send { to, .. }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(to.remote().to_string(), "198.51.100.1:5060");
    let second = scene.only_probe();
    assert_eq!(second.to, "198.51.100.2:5060");
    scene.answer(&second, 200);

    assert_eq!(scene.state("a"), State::Up);
}

#[test]
fn a_name_that_leads_nowhere_is_a_failure() {
    let mut scene = Scene::new(vec![Gateway { uri: "sip:carrier.example:5060".into(), ..gateway("a") }]);
    for _ in 0..3 {
        let out = scene.pass(Duration::from_secs(1));
        let Some(Output::Resolve { gateway, .. }) = out.last() else { panic!("{out:?}") };
        scene.resolved(*gateway, Records::None);
    }

    assert_eq!(scene.state("a"), State::Down(Failure::NoAddress));
}

#[test]
fn calls_that_fail_take_a_gateway_down_and_a_probe_brings_it_up() {
    let mut scene = Scene::new(vec![gateway("a")]);
    let probe = scene.only_probe();
    scene.answer(&probe, 200);

    for _ in 0..2 {
        assert_eq!(scene.outcome("a", Outcome::Failed(Failure::Silent)), []);
    }
    assert!(matches!(scene.outcome("a", Outcome::Failed(Failure::Silent))[..], [Output::Publish(_)]));
    assert_eq!(scene.state("a"), State::Down(Failure::Silent));

    scene.pass(Duration::from_secs(29));
    let probe = scene.only_probe();
    assert!(matches!(scene.answer(&probe, 404)[..], [Output::Publish(_)]));
    assert_eq!(scene.state("a"), State::Up);
    assert_eq!(scene.outcome("nobody", Outcome::Answered), []);
}

#[test]
fn a_busy_gateway_is_spared_until_its_time_is_over() {
    let mut scene = Scene::new(vec![Gateway { watch: unwatched(), ..gateway("a") }]);

    let out = scene.outcome("a", Outcome::Busy(Duration::from_secs(7)));
    assert_eq!(verdicts(&out).of("a"), Verdict::Doubtful);

    let out = scene.pass(Duration::from_secs(7));
    assert_eq!(verdicts(&out).of("a"), Verdict::Good);
}

#[test]
fn the_operator_takes_a_gateway_out_and_puts_it_back_and_a_reload_forgets_neither() {
    let mut scene = Scene::new(vec![gateway("a")]);
    let probe = scene.only_probe();
    scene.answer(&probe, 200);
    let mut out = Vec::new();

    assert!(scene.prober.set_service(scene.now, "nobody", Service::Out, &mut out).is_err());
    scene.prober.set_service(scene.now, "a", Service::Out, &mut out).unwrap();
    assert_eq!(verdicts(&out).of("a"), Verdict::Out);

    out.clear();
    let settings = settings(vec![Gateway { weight: 9, ..gateway("a") }, gateway("b")]);
    scene.prober.reload(scene.now, Arc::new(settings), &mut out);
    assert_eq!(out, []);
    assert_eq!((scene.state("a"), scene.state("b")), (State::Up, State::Unknown));

    scene.prober.set_service(scene.now, "a", Service::In, &mut out).unwrap();
    assert_eq!(verdicts(&out).of("a"), Verdict::Good);
}

#[test]
fn a_gateway_that_moved_is_not_what_it_was() {
    let mut scene = Scene::new(vec![gateway("a")]);
    let probe = scene.only_probe();
    scene.answer(&probe, 200);
    let mut out = Vec::new();

    let moved = Gateway { uri: "sip:198.51.100.9".into(), ..gateway("a") };
    scene.prober.reload(scene.now, Arc::new(settings(vec![moved])), &mut out);

    assert_eq!(scene.state("a"), State::Unknown);
    assert_eq!(scene.only_probe().to, "198.51.100.9:5060");
}

#[test]
fn what_is_not_to_be_probed_is_not() {
    let mut scene = Scene::new(vec![Gateway { watch: unwatched(), ..gateway("a") }]);

    assert_eq!(scene.pass(Duration::from_secs(3_600)), []);
    assert_eq!(scene.prober.poll_timeout(), None);
}

struct Scene {
    prober: Prober,
    keyring: Keyring,
    mirror: LeaseMirror,
    now: Now,
}

/// A probe that has left.
#[derive(Clone, Debug)]
struct Sent {
    to: String,
    text: String,
}

impl Scene {
    fn new(gateways: Vec<Gateway>) -> Self {
        let keyring = Keyring::derive(&keys::RootKey::new([7; 32]));
        let now = Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000));
        let prober = Prober::new(now, Arc::new(settings(gateways)), &keyring);
        Self { prober, keyring, mirror: LeaseMirror::permanent(), now }
    }

    /// Lets time pass until a probe leaves.
    fn only_probe(&mut self) -> Sent {
        let [probe] = &self.probes()[..] else { panic!("one probe") };
        probe.clone()
    }

    fn probes(&mut self) -> Vec<Sent> {
        loop {
            let wait = self.prober.poll_timeout().expect("a turn").since(self.now.instant);
            let out = self.pass(wait);
            let sent: Vec<_> = out
                .iter()
                .filter_map(|output| match output {
                    Output::Send { to, message } => Some(sent(to, message)),
                    _ => None,
                })
                .collect();
            if !sent.is_empty() {
                return sent;
            }
        }
    }

    fn pass(&mut self, time: Duration) -> Vec<Output> {
        let end = self.now.instant + time;
        let mut out = Vec::new();
        while let Some(at) = self.prober.poll_timeout().filter(|at| *at <= end) {
            self.step_to(at);
            let lease = self.mirror.active(self.now.instant).unwrap();
            self.prober.handle_timeout(self.now, &lease, &mut out);
        }
        self.step_to(end);
        out
    }

    fn step_to(&mut self, at: Instant) {
        let passed = at.since(self.now.instant);
        self.now = Now::new(self.now.instant.max(at), self.now.wall + passed);
    }

    fn answer(&mut self, probe: &Sent, status: u16) -> Vec<Output> {
        let remote = RemoteAddr(probe.to.parse().unwrap());
        let mark = ProbeMark::read_branch(&self.keyring.keepalive, branch(probe).as_bytes(), &remote);
        let lease = self.mirror.active(self.now.instant).unwrap();
        let mut out = Vec::new();
        self.prober.handle_answered(self.now, &lease, mark.unwrap(), Status(status), &mut out);
        out
    }

    fn resolved(&mut self, gateway: GatewayMark, records: Records) -> Vec<Output> {
        let lease = self.mirror.active(self.now.instant).unwrap();
        let mut out = Vec::new();
        self.prober.handle_resolved(self.now, &lease, gateway, records, &mut out);
        out
    }

    fn outcome(&mut self, name: &str, outcome: Outcome) -> Vec<Output> {
        let mut out = Vec::new();
        self.prober.handle_outcome(self.now, name, outcome, &mut out);
        out
    }

    fn state(&self, name: &str) -> State {
        let gateways = self.prober.gateways(self.now.instant);
        gateways.iter().find(|view| *view.gateway.name == *name).unwrap().state
    }

    fn is_of(&self, probe: &Sent, name: &str) -> bool {
        let remote = RemoteAddr(probe.to.parse().unwrap());
        let mark =
            ProbeMark::read_branch(&self.keyring.keepalive, branch(probe).as_bytes(), &remote).unwrap();
        mark.gateway == GatewayMark::of(&self.keyring.keepalive, name)
    }
}

fn branch(probe: &Sent) -> String {
    let message = Message::parse(probe.text.as_bytes()).unwrap();
    String::from_utf8(message.top_via().unwrap().branch().unwrap().to_vec()).unwrap()
}

fn sent(to: &transport::Destination, message: &bytes::Bytes) -> Sent {
    Sent { to: to.remote().to_string(), text: String::from_utf8(message.to_vec()).unwrap() }
}

fn verdicts(out: &[Output]) -> Arc<Verdicts> {
    let [Output::Publish(verdicts)] = out else { panic!("{out:?}") };
    Arc::clone(verdicts)
}

fn unwatched() -> Watch {
    Watch { interval: None, ..gateway("a").watch }
}

fn settings(gateways: Vec<Gateway>) -> Settings {
    let listener = Listener {
        id: ListenerId(0),
        transport: Transport::Udp,
        local: LocalAddr("192.0.2.5:5060".parse().unwrap()),
        advertise: None,
        digest: true,
    };
    let gateways = gateways.into_iter().map(Arc::new).collect();
    Settings {
        listeners: Arc::new(Listeners::new(vec![listener])),
        dial_plan: DialPlan { gateways, routes: Vec::new() },
        ..Settings::default()
    }
}
