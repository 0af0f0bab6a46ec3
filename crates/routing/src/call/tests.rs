//! Scenarios of the whole machine: messages in, outputs out, no layer below.

mod admission;
mod amplification;
mod cancel;
mod dial;
mod dialog;
mod diversion;
mod edge;
mod fork;
mod forward;
mod gruu;
mod hostile;
mod identity;
mod limits;
mod register;
mod round;
mod routing;
pub(super) mod scene;
mod servers;
mod standby;
mod trunk;
mod waiting;
