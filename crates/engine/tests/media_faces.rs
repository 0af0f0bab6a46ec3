//! A call that leaves from several addresses: each callee is told the relay's address on its own side.

use std::sync::Arc;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use engine::{Output, RelaySettings, Shard};
use keys::RootKey;
use lease::{Epoch, LeaseMirror};
use media::offer_answer::{Broken, Face, Output as MediaOutput};
use media::ports::PortRange;
use media::sdp::Origin;
use routing::{Anchoring, Answer, Keyring, Located, RelayRules, Settings, Target, Token, TrustedPeer};
use sip::Aor;
use transport::{Flow, Listener, ListenerId, Listeners, LocalAddr, RemoteAddr, Source, Transport};

#[path = "testbed/call.rs"]
mod call;
#[path = "testbed/settings.rs"]
mod testbed;

use call::*;

const OF_OLD: &str = "198.51.100.7:5060";
const OF_NEW: &str = "[2001:db8::7]:5060";

#[test]
fn each_branch_of_a_fork_is_told_the_relays_address_of_its_own_family() {
    let mut world = World::new();
    let [old, new] = world.fork();

    assert_eq!(line_of(&old, "c="), "IN IP4 192.0.2.1");
    assert_eq!(line_of(&new, "c="), "IN IP6 2001:db8::1");
}

#[test]
fn whichever_branch_answers_talks_by_the_ports_that_it_was_told() {
    for (answers, other, family) in [(OF_OLD, OF_NEW, 4), (OF_NEW, OF_OLD, 6)] {
        let mut world = World::new();
        let [old, new] = world.fork();
        let (invite, refused) = if family == 4 { (&old, &new) } else { (&new, &old) };
        world.receive(other, &response(refused, "183 Session Progress", "c", ANSWER));

        let answer = sole(world.receive(answers, &response(invite, "200 OK", "b", ANSWER)));
        world.receive(other, &response(refused, "487 Request Terminated", "c", ""));
        world.receive(CALLER, &within("ACK", 1, &answer, ""));

        assert_eq!(line_of(&answer, "c="), "IN IP4 192.0.2.1", "the caller is told its own side's");
        let again = sole(world.receive(CALLER, &within("INVITE", 2, &answer, OFFER)));
        assert_eq!(port_of(&again), port_of(invite), "what comes later keeps the ports");
        assert_eq!(world.sessions(), 1, "the other one's are given back");
        assert!(world.binds.iter().any(|local| local.ends_with(&port_of(invite))), "{:?}", world.binds);
    }
}

struct World {
    shard: Shard,
    tokens: Vec<Token>,
    /// What sockets were wanted: the address and the port.
    binds: Vec<String>,
}

impl World {
    fn new() -> Self {
        let [v4, v6] = ["192.0.2.1:5060", "[2001:db8::1]:5060"].map(|it| it.parse().expect("an address"));
        let listener = |(number, local)| Listener {
            id: ListenerId(number),
            transport: Transport::Udp,
            local: LocalAddr(local),
            advertise: None,
            digest: true,
        };
        let settings = Settings {
            listeners: Arc::new(Listeners::new(vec![listener((0, v4)), listener((1, v6))])),
            trusted: vec![TrustedPeer {
                network: "198.51.100.66/32".parse().expect("a network"),
                name: "peer".to_owned(),
            }],
            relay: RelayRules { default: Anchoring::Always, ..RelayRules::default() },
            ..testbed::settings()
        };
        let mut shard = Shard::new(Arc::new(settings), Keyring::derive(&RootKey::new([5; 32])), 0, 1);
        let relay = RelaySettings {
            ports: PortRange::new(30_000, 39_999),
            faces: [v4, v6].map(|it| Face { local: it.ip(), named: it.ip() }).to_vec(),
            broken: Broken::Refuse,
            origin: Origin::Kept,
            is_elsewhere: false,
            silence: None,
        };
        shard.set_relay(Instant::START, Some(Arc::new(relay)));
        Self { shard, tokens: Vec::new(), binds: Vec::new() }
    }

    /// A call to a user with a phone of each family; gives the INVITEs in that order.
    fn fork(&mut self) -> [Bytes; 2] {
        let text =
            invite("call-1").replace(&format!("INVITE sip:bob@{CALLEE}"), "INVITE sip:bob@example.org");
        self.receive(CALLER, &text);
        let token = self.tokens.pop().expect("somebody is looked for");
        let targets = [OF_OLD, OF_NEW].map(|at| target(&format!("sip:bob@{at}")));
        let sent = self.step(|shard, now, lease, out| {
            shard.handle_answer(now, lease, token, Answer::Located(Located::Targets(targets.into())), out);
        });
        let [(one, first), (_, second)] = <[Sent; 2]>::try_from(sent).expect("two INVITEs");
        if one.listener() == ListenerId(0) { [first, second] } else { [second, first] }
    }

    fn receive(&mut self, from: &str, text: &str) -> Vec<Sent> {
        let remote = RemoteAddr(from.parse().expect("an address"));
        let listener = ListenerId(u16::from(remote.0.is_ipv6()));
        let source = Source { flow: Flow::Datagram { listener, remote }, transport: Transport::Udp };
        self.step(|shard, now, lease, out| shard.handle_message(now, lease, source, text.as_bytes(), out))
            .into_iter()
            .filter(|(_, message)| !message.starts_with(b"ACK ") && !message.starts_with(b"CANCEL "))
            .filter(|(_, message)| !message.starts_with(b"SIP/2.0 183"))
            .collect()
    }

    fn step(
        &mut self,
        act: impl FnOnce(&mut Shard, Now, &lease::ActiveLease<'_>, &mut Vec<Output>),
    ) -> Vec<Sent> {
        let now = Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000));
        let mirror = LeaseMirror::until(Instant::FAR, Epoch(3));
        let lease = mirror.active(now.instant).expect("it is far from its end");
        let (mut out, mut orders) = (Vec::new(), Vec::new());
        act(&mut self.shard, now, &lease, &mut out);
        self.shard.take_relay_orders(&mut orders);
        for order in orders {
            if let MediaOutput::Bind(side, ports) = order.output {
                self.binds.push(format!("{:?} {}", order.faces.towards(side).local, ports.rtp()));
            }
        }
        let mut sent = Vec::new();
        for output in out {
            match output {
                Output::Send { to, message, .. } => sent.push((to, message)),
                Output::Ask { token, .. } => self.tokens.push(token),
                _ => {}
            }
        }
        without_100(sent)
    }

    fn sessions(&self) -> usize {
        self.shard.counts().media.sessions
    }
}

fn line_of<'a>(message: &'a Bytes, start: &str) -> &'a str {
    body_of(message).lines().find_map(|line| line.strip_prefix(start)).expect("a line")
}

fn target(contact: &str) -> Target {
    Target {
        aor: Aor::parse("bob@example.org").expect("an address of record"),
        contact: Bytes::copy_from_slice(contact.as_bytes()),
        path: Vec::new(),
        flow: None,
        listener: None,
        nat: false,
        q: 1_000,
        instance: None,
        reg_id: None,
    }
}
