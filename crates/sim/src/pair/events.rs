//! What is worth counting in the world of a pair.

use crate::events::{Happened, events};

events! {
    /// A node became active for the first time.
    FirstActive "first_active",
    /// A node took over from one that was not asked.
    TookOver "took_over",
    /// A node took over as the active one asked, or an operator.
    SwitchedOver "switched_over",
    /// A node that was active raised its epoch and went on.
    EpochRaised "epoch_raised",
    /// A switchover was refused or failed.
    SwitchoverRefused "switchover_refused",
    /// A lease ran out.
    LeaseExpired "lease_expired",
    /// A node gave its lease back without a hand-over.
    GaveUp "gave_up",
    /// A node brought what it had begun to its end before a hand-over.
    Drained "drained",
    /// A host lost its power with all that was not synced.
    HostCrashed "host_crashed",
    /// It did so while its voter's record was being written.
    CrashedWhileWriting "crashed_while_writing",
    /// A host was switched off and had written everything before.
    HostStopped "host_stopped",
    /// A whole host stood still, but for its kernel's gate.
    HostFroze "host_froze",
    /// A guardian stood still.
    GuardianFroze "guardian_froze",
    /// It did so between looking at its clock and acting.
    GuardianFrozeBeforeActing "guardian_froze_before_acting",
    /// A guardian was killed, and its engine with it.
    GuardianKilled "guardian_killed",
    /// An engine stood still for a moment.
    EngineFroze "engine_froze",
    /// An engine stood still for so long that its guardian ended it.
    EngineHung "engine_hung",
    /// An engine was killed.
    EngineKilled "engine_killed",
    /// The witness was killed.
    WitnessKilled "witness_killed",
    /// What goes from one member to another was lost.
    OneWayCut "one_way_cut",
    /// What goes to and fro between two members was lost.
    TwoWayCut "two_way_cut",
    /// Phones did not hear a node, or it did not hear them.
    LanCut "lan_cut",
    /// A message between members was lost.
    MessageLost "message_lost",
    /// It came twice.
    MessageDoubled "message_doubled",
    /// It came late.
    MessageLate "message_late",
    /// A datagram that was worked out in time came too late to the socket.
    TooLateAtTheSocket "too_late_at_the_socket",
    /// It was past the socket and came too late to the gate.
    TooLateAtTheGate "too_late_at_the_gate",
    /// A datagram came to a closed gate.
    StoppedAtTheGate "stopped_at_the_gate",
    /// A datagram came to a node that has handed over, and went on to the other one.
    PassedOn "passed_on",
    /// A datagram came to a node that was about to become active, and was handled then.
    Early "early",
    /// The nodes connected.
    Connected "connected",
    /// A connection between the nodes broke.
    LinkBroken "link_broken",
    /// It broke while the standby was being made equal.
    LinkBrokenInSync "link_broken_in_sync",
    /// It carried nothing for a while.
    LinkStalled "link_stalled",
    /// It was slow for a while.
    LinkSlow "link_slow",
    /// A node called another one that is active too.
    TurnedAway "turned_away",
    /// The standby was given an entry.
    Applied "applied",
    /// The standby was told to end one.
    Withdrawn "withdrawn",
    /// A standby had everything.
    Agreed "agreed",
    /// A node lied in garbage.
    LiedGarbage "lied_garbage",
    /// It acknowledged what was never sent.
    LiedAcknowledgement "lied_acknowledgement",
    /// It said that it has something else.
    LiedVerdict "lied_verdict",
    /// It spoke under a lower epoch.
    LiedEpoch "lied_epoch",
    /// A 200 to a REGISTER left when both nodes had the binding.
    AnsweredHeld "answered_held",
    /// It left without.
    AnsweredDegraded "answered_degraded",
    /// A binding was ended and the end was with both nodes.
    EndedHeld "ended_held",
    /// A binding that was acknowledged was found at the node that took over.
    KeptOverTakeover "kept_over_takeover",
    /// An end that was acknowledged, too.
    EndKeptOverTakeover "end_kept_over_takeover",
    /// A binding was lost with both nodes, one after the other, or was never with both.
    LostWithBoth "lost_with_both",
    /// A REGISTER that one node had heard was answered by the other one.
    RepeatedAtTheOther "repeated_at_the_other",
    /// A nonce of one node was accepted by the other one.
    NonceOfTheOther "nonce_of_the_other",
    /// A phone was called and rang.
    Rang "rang",
    /// It rang by another node than the one it registered at.
    RangByTheOther "rang_by_the_other",
    /// It did so behind NAT.
    RangBehindNat "rang_behind_nat",
    /// A phone answered a keepalive of another node than the one it registered at.
    KeptAliveByTheOther "kept_alive_by_the_other",
    /// A phone ended its binding.
    Unregistered "unregistered",
    /// A binding ran out.
    Expired "expired",
    /// A SIP datagram was lost, doubled or held back.
    SipDisturbed "sip_disturbed",
}

/// How often each event happened.
pub(super) type Events = Happened<Event>;
