//! Time as a value: floors 0 to 3 get it as an argument and never read a clock.
//!
//! [`Instant`] is what deadlines use: it never goes back and has no relation to the calendar.
//! [`WallTime`] is the calendar: only nonces, the database and call records may use it. [`Now`]
//! carries both, read once for each batch of input. [`Deadlines`] keeps what is to happen when.

mod deadlines;
mod instant;
mod wall;

pub use deadlines::Deadlines;
pub use instant::Instant;
pub use wall::WallTime;

/// The time of one batch of input: both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For deadlines; never decreases.
    pub instant: Instant,
    /// The calendar; may jump.
    pub wall: WallTime,
}

impl Now {
    /// Pairs the two clocks.
    pub const fn new(instant: Instant, wall: WallTime) -> Self {
        Self { instant, wall }
    }
}
