//! The same scenarios, in which a fresh machine goes on with all calls after each step.

#![expect(clippy::duplicate_mod, reason = "the scenarios are to be the same, and their scene another one")]

mod scene {
    pub(in crate::call) use super::super::scene::*;
    pub(in crate::call) type Scene = SceneOf<true>;
}

#[path = "admission.rs"]
mod admission;
#[path = "amplification.rs"]
mod amplification;
#[path = "cancel.rs"]
mod cancel;
#[path = "dial.rs"]
mod dial;
#[path = "dialog.rs"]
mod dialog;
#[path = "diversion.rs"]
mod diversion;
#[path = "edge.rs"]
mod edge;
#[path = "fork.rs"]
mod fork;
#[path = "forward.rs"]
mod forward;
#[path = "gruu.rs"]
mod gruu;
#[path = "hostile.rs"]
mod hostile;
#[path = "identity.rs"]
mod identity;
#[path = "limits.rs"]
mod limits;
#[path = "records.rs"]
mod records;
#[path = "register.rs"]
mod register;
#[path = "relay_rules.rs"]
mod relay_rules;
#[path = "round.rs"]
mod round;
#[path = "routing.rs"]
mod routing;
#[path = "servers.rs"]
mod servers;
#[path = "standby.rs"]
mod standby;
#[path = "trunk.rs"]
mod trunk;
#[path = "waiting.rs"]
mod waiting;
