//! The cluster in words: names of members, alarms with what to do about them, refusals with their reasons.

use cluster::guardian::{Alarm, Engine, Reason, Refused};
use cluster::heartbeat::Stance;
use cluster::{Cause, MemberId, NodeId, Role};

use crate::config::Cluster;
use crate::config::cluster::Vip;

/// Names of members by their numbers.
pub struct Names<'a>(pub &'a Cluster);

impl Names<'_> {
    /// A node.
    pub fn node(&self, node: NodeId) -> String {
        self.member(MemberId(node.0))
    }

    /// A node or the witness.
    pub fn member(&self, member: MemberId) -> String {
        let node = self.0.nodes.get(usize::from(member.0));
        node.map_or_else(|| "witness".to_owned(), |node| node.name.clone())
    }
}

/// An alarm in words, with what to do about it.
pub fn alarm_text(alarm: &Alarm, names: &Names<'_>) -> String {
    match alarm {
        Alarm::DiskFailed => {
            "this node's voter could not write its state directory and votes no more: mend the disk, then restart".to_owned()
        }
        Alarm::Cloned(node) => format!(
            "two machines run as node {}: one was copied from the other; stop one of them, neither is granted anything",
            names.node(*node)
        ),
        Alarm::VoterChanged(member, _) => {
            let name = names.member(*member);
            format!(
                "another voter speaks for {name} than before, and does not count: its state directory was emptied, restored \
                 or it was replaced; if that was meant, `tandem cluster accept {name}`"
            )
        }
        Alarm::Conflict => {
            "another host claims a virtual address: look for a machine with that address, or one without its gate".to_owned()
        }
        Alarm::SettingsDiffer(node) => format!(
            "the configuration differs: {} has another file than this node; copy it and `tandem reload` on both",
            names.node(*node)
        ),
        Alarm::ClocksApart(node) => format!(
            "the clocks are apart: {} has another time than this node; let NTP set both, phones are asked for their \
             password again at each takeover",
            names.node(*node)
        ),
    }
}

/// Why a switchover or a change of the list of voters is refused, in words.
pub fn refused_text(refused: Refused, names: &Names<'_>) -> String {
    match refused {
        Refused::NobodyActive => "nobody is active: there is nothing to hand over".to_owned(),
        Refused::PeerSilent => "the other node is not heard".to_owned(),
        Refused::PeerUnable => {
            "the other node can not be active: its engine is not ready, its disk failed, or it was taken \
                                out"
            .to_owned()
        }
        Refused::PeerNotReady(ready) => {
            format!("the other node holds only {ready} % of the state: wait, or lose the rest with --force")
        }
        Refused::PeerIll => {
            "the other node is less well than this one: see `tandem status` there; --force takes it so"
                .to_owned()
        }
        Refused::SelfUnable => {
            "this node can not be active: its engine is not ready, or its disk failed".to_owned()
        }
        Refused::WitnessSilent => {
            "the service has moved, but the witness has not voted for the new node: if that one dies, \
                                   nobody can take over until the witness is back"
                .to_owned()
        }
        Refused::NotActive => "the list of voters changes through the active node: run this there".to_owned(),
        Refused::Busy => "another change is under way: look at `tandem status` and try again".to_owned(),
        Refused::NoMajority => {
            "the voters that would be left did not vote: bring the witness or the other node back, or, if \
                                you have seen that all others are off, use --force"
                .to_owned()
        }
        Refused::VoterUnknown(member) => {
            format!("no other voter than the one that counts was heard for {}", names.member(member))
        }
        Refused::NotTaken => {
            "the other node did not take over in time; this one goes on if it can".to_owned()
        }
    }
}

/// All that [`reason_name`] says.
pub const REASONS: [&str; 5] = ["start", "peer silent", "peer released", "peer ill", "switchover"];

/// All that [`cause_name`] says.
pub const CAUSES: [&str; 3] = ["no majority", "given up", "handed over"];

/// Why a node has become active, as in `status` and for hooks.
pub fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Start => "start",
        Reason::PeerSilent => "peer silent",
        Reason::PeerReleased => "peer released",
        Reason::PeerIll => "peer ill",
        Reason::Switchover => "switchover",
    }
}

/// Why a node is active no more, as in `status` and for hooks.
pub fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Expired => "no majority",
        Cause::GivenUp => "given up",
        Cause::HandedOver => "handed over",
    }
}

/// What a node is.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Standby => "standby",
        Role::Candidate => "candidate",
        Role::Active => "active",
        Role::Closing => "closing",
    }
}

/// What a node tells others that it is.
pub fn stance_name(stance: Stance) -> &'static str {
    match stance {
        Stance::Active => "active",
        Stance::Standby => "standby",
        Stance::Unable => "unable",
        Stance::Away => "away",
    }
}

/// How an engine is.
pub fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Starting => "starting",
        Engine::Ready => "ready",
        Engine::Hung => "hung",
        Engine::Dead => "dead",
    }
}

/// Who moves the addresses, as in the configuration.
pub fn vip_name(vip: Vip) -> &'static str {
    match vip {
        Vip::Tandem => "tandem",
        Vip::Hooks => "hooks",
        Vip::External => "external",
    }
}
