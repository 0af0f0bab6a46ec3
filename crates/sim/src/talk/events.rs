//! What is worth counting while phones talk: a zero in this table says that something was not tried at all.

use crate::events::{Happened, events};
use crate::nat::Dependence;

events! {
    /// A packet was heard.
    Heard "heard",
    /// One was heard that had to be.
    OwedHeard "owed_heard",
    /// One was heard before the call was answered.
    EarlyHeard "early_media_heard",
    /// A report (RTCP) was heard.
    ReportHeard "report_heard",
    /// Packets came from behind a router whose mapping and filtering depend on nothing.
    FromFullCone "from_mapping_any_filtering_any",
    /// Mapping on nothing, filtering on the address.
    FromRestricted "from_mapping_any_filtering_address",
    /// Mapping on nothing, filtering on the address and the port.
    FromPortRestricted "from_mapping_any_filtering_port",
    /// Mapping on the address, filtering on nothing.
    FromAddressOpen "from_mapping_address_filtering_any",
    /// Mapping and filtering on the address.
    FromAddress "from_mapping_address_filtering_address",
    /// Mapping on the address, filtering on the address and the port.
    FromAddressPort "from_mapping_address_filtering_port",
    /// Mapping on the address and the port, filtering on nothing.
    FromSymmetricOpen "from_mapping_port_filtering_any",
    /// Mapping on the address and the port, filtering on the address.
    FromSymmetricAddress "from_mapping_port_filtering_address",
    /// All on the address and the port.
    FromSymmetric "from_mapping_port_filtering_port",
    /// Packets came from a phone in the open.
    FromOpen "from_the_open",
    /// Both phones sat behind one router.
    SameRouter "behind_one_router",
    /// A router let nothing in.
    Refused "refused_by_router",
    /// A router's mapping had ended when a phone spoke again.
    Remapped "mapping_ended_and_made_anew",
    /// A router forgot everything while phones talked.
    RouterForgot "router_forgot",
    /// A phone went on hold.
    Held "held",
    /// It came back.
    Resumed "resumed",
    /// A hold was longer than the router's mappings last.
    LongHold "held_longer_than_mappings",
    /// A phone moved to another port.
    Moved "moved_to_another_port",
    /// A phone began another stream (SSRC) in a call.
    OtherSource "other_source",
    /// A node died while phones talked.
    Killed "node_killed",
    /// It died with a latch that the other one was not told of.
    KilledBeforeTold "node_killed_before_latch_was_told",
    /// The service moved while phones talked.
    HandedOver "handed_over",
    /// A stranger sent before anybody was latched on to.
    StrangerBefore "stranger_before_latch",
    /// A stranger sent in a window.
    StrangerInWindow "stranger_in_window",
    /// A stranger sent later.
    StrangerLater "stranger_later",
    /// A stranger sent from a phone's own public address.
    StrangerFromRouter "stranger_from_phones_address",
    /// A stranger was dropped.
    StrangerDropped "stranger_dropped",
    /// A call was told as silent.
    Silent "silent",
    /// A call ended by a BYE.
    Ended "ended",
}

impl Event {
    /// A packet came from behind a router of this kind.
    pub(super) fn behind((mapping, filtering): (Dependence, Dependence)) -> Self {
        use Dependence::{
            AddressAndPortDependent as Port, AddressDependent as Address, EndpointIndependent as Any,
        };
        match (mapping, filtering) {
            (Any, Any) => Self::FromFullCone,
            (Any, Address) => Self::FromRestricted,
            (Any, Port) => Self::FromPortRestricted,
            (Address, Any) => Self::FromAddressOpen,
            (Address, Address) => Self::FromAddress,
            (Address, Port) => Self::FromAddressPort,
            (Port, Any) => Self::FromSymmetricOpen,
            (Port, Address) => Self::FromSymmetricAddress,
            (Port, Port) => Self::FromSymmetric,
        }
    }
}

/// How often each event happened.
pub(super) type Events = Happened<Event>;
