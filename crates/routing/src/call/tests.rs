//! Scenarios of the whole machine: messages in, outputs out, no layer below. Each of them is played twice: on one
//! node, and with another node that takes over after each step.

mod admission;
mod amplification;
mod another_node;
mod beside;
mod cancel;
mod dial;
mod dialog;
mod dialogs;
mod diversion;
mod edge;
mod elsewhere;
mod fork;
mod forward;
mod gruu;
mod hostile;
mod identity;
mod limits;
mod orphan;
mod records;
mod register;
mod relay_rules;
mod round;
mod routing;
pub(super) mod scene;
mod servers;
mod session;
mod standby;
mod taken_over;
mod takeovers;
mod trunk;
mod upkeep;
mod waiting;
