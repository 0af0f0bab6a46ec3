//! What is counted, for the operator and for the simulation.

/// One thing that is counted. The order is the order of their names in `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Count {
    /// Messages that were not SIP or broke a rule of framing.
    Malformed,
    /// Requests answered without state because nothing proved who sent them.
    Challenged,
    /// Wrong passwords and unknown users.
    WrongCredentials,
    /// Credentials that were not checked, because too many were wrong before.
    Slowed,
    /// Requests of scanners, which get no answer.
    Scanner,
    /// Calls refused because their account began too many.
    CallsLimited,
    /// Right passwords with a used or old nonce.
    StaleNonce,
    /// Right passwords for somebody else's address of record.
    NotOwner,
    /// Answers that nobody waits for.
    UnknownToken,
    /// Responses that belong to no transaction.
    StrayResponse,
    /// Responses to what the node before this one has sent, which were sent on.
    OrphanForwarded,
    /// CANCELs of nothing that is under way.
    StrayCancel,
    /// ACKs to our own refusals.
    AckAbsorbed,
    /// Requests in a dialog without a valid token.
    NoToken,
    /// Requests with the token of a flow from somebody who may not use it.
    FlowRefused,
    /// Requests that came back to where they had been.
    Loop,
    /// Requests that waited too long for an answer.
    SuspendedTooLong,
    /// Requests refused because a table was full.
    Full,
    /// Bindings made.
    BindingAdded,
    /// Bindings made anew before they ended.
    BindingRefreshed,
    /// Bindings ended by their phone.
    BindingRemoved,
    /// Bindings that ran out.
    BindingExpired,
    /// Bindings dropped because the phone answered no keepalive.
    BindingDead,
    /// Keepalives sent.
    KeepaliveSent,
    /// Keepalives answered.
    KeepaliveAnswered,
    /// Calls and other requests forwarded.
    Forwarded,
    /// Branches cancelled.
    BranchCancelled,
    /// Servers of other domains that were silent, so that the next one was tried.
    ServerPassedOver,
    /// Branches that timer C or the ring time-out ended.
    RingTimeout,
    /// Challenges of carriers that one of our own accounts answered.
    CarrierChallenged,
    /// Answers that carriers did not accept.
    CarrierRefused,
    /// REGISTERs that carriers accepted.
    CarrierRegistered,
    /// REGISTERs that they did not.
    CarrierNotRegistered,
    /// Calls that a user of ours forwards.
    Diverted,
    /// Requests that a route led to a gateway.
    RoutedToGateway,
    /// Requests that a route refused, or all of whose gateways are out of service.
    RouteRefused,
    /// Gateways that were given up for a request, so that the next one was tried.
    GatewaySilent,
    /// Gateways that were left out because they had as many calls as they may have.
    GatewayFull,
    /// Requests that were answered by an address of this node's own while it was a standby.
    AnsweredAsStandby,
    /// Calls of another node that went on here.
    TakenOver,
    /// Calls of another node that could not go on here: nothing reaches the caller, or there was no room.
    NotTakenOver,
    /// Sessions that nobody has refreshed in time.
    SessionExpired,
    /// Calls that one of their phones does not know any more.
    CallDead,
    /// Calls that were ended because no media came.
    CallSilent,
    /// Requests that the media relay did not let go on.
    MediaRefused,
    /// Requests refused under overload that begin neither a call nor a registration.
    OverloadOther,
    /// Registrations refused under overload, from where nobody was registered.
    OverloadNewRegistration,
    /// Registrations refused under overload, of phones that are known.
    OverloadKnownRegistration,
    /// Calls refused under overload, and what peers asked.
    OverloadCall,
}

const NAMES: [&str; Count::OverloadCall as usize + 1] = [
    "malformed",
    "challenged",
    "wrong_credentials",
    "slowed",
    "scanner",
    "calls_limited",
    "stale_nonce",
    "not_owner",
    "unknown_token",
    "stray_response",
    "orphan_forwarded",
    "stray_cancel",
    "ack_absorbed",
    "no_token",
    "flow_refused",
    "loop",
    "suspended_too_long",
    "full",
    "binding_added",
    "binding_refreshed",
    "binding_removed",
    "binding_expired",
    "binding_dead",
    "keepalive_sent",
    "keepalive_answered",
    "forwarded",
    "branch_cancelled",
    "server_passed_over",
    "ring_timeout",
    "carrier_challenged",
    "carrier_refused",
    "carrier_registered",
    "carrier_not_registered",
    "diverted",
    "routed_to_gateway",
    "route_refused",
    "gateway_silent",
    "gateway_full",
    "answered_as_standby",
    "taken_over",
    "not_taken_over",
    "session_expired",
    "call_dead",
    "call_silent",
    "media_refused",
    "overload_refused_other",
    "overload_refused_new_registration",
    "overload_refused_known_registration",
    "overload_refused_call",
];

/// How often each thing happened since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts([u64; NAMES.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; NAMES.len()])
    }
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, count: Count) {
        self.0[count as usize] += 1;
    }

    /// Counts what happened `times` more.
    pub fn add_many(&mut self, count: Count, times: u64) {
        self.0[count as usize] += times;
    }

    /// How often it happened.
    pub fn of(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// Adds what another shard counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// All names with their figures.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.into_iter().zip(self.0)
    }
}
