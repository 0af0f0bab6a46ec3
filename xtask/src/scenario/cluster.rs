//! What a pair must do with its virtual addresses, whatever happens to it.
//!
//! In each scenario phones ask all the time, and an observer on the switch says who spoke for the addresses: nobody may
//! when another one does. No time is asserted; a wait fails when what it waits for has not come after many leases.

pub mod bindings;
pub mod cables;
pub mod call_rows;
pub mod calls;
pub mod drill;
pub mod fallback;
pub mod fast_path;
pub mod frozen;
pub mod full_disk;
pub mod killed;
pub mod lease_row;
pub mod load;
pub mod location;
pub mod lossless;
pub mod lost_node;
pub mod metrics;
pub mod moved_primary;
pub mod observed;
pub mod office;
pub mod planned;
pub mod records;
pub mod row_witness;
pub mod rtpengine;
pub mod stage;
pub mod start;
pub mod strangers;
pub mod streams;
pub mod survival;
pub mod talk;
pub mod talk_changes;
pub mod witness;
