//! Sequences of inputs to an engine: bytes become a program, and after each of its steps it is looked whether all
//! holds that must.
//!
//! A program is a list of records of eight bytes; some take more bytes behind them. The first byte says what happens,
//! the others how: a request, a response, the ACK, BYE or CANCEL of what went before, any bytes as a datagram or in a
//! stream, an answer of the store or of DNS, time that passes, a connection that opens or closes, a failure to send, a
//! reload, a restart. Every eight bytes are a record, so that each change of a program is a program.
//!
//! What must hold: nothing panics; all that leaves is a valid message; a response goes only where its request came
//! from; a stranger causes one answer at most and leaves nothing behind; time never stands still; and after ten minutes
//! of silence nothing is left of all calls, after half a day nothing of the registrations. The same program does the
//! same twice.

mod checks;
mod digest;
mod letters;
mod peers;
mod programs;
mod steps;
mod world;

pub use programs::programs;

use std::time::Duration;

use steps::Steps;
use world::World;

use crate::number_of;

/// Records of one program that are carried out; what comes behind is left out.
const STEPS_MAX: usize = 200;

/// Registrations have ended by then, and a call whose end was never heard counts no longer against its account's limit.
const COUNTED_MAX: Duration = Duration::from_secs(13 * 3_600);

/// Runs a program.
pub fn run(data: &[u8]) {
    let trace = trace_of(data);
    // Twice is twice the time, and what depends on chance shows soon.
    if number_of(data).is_multiple_of(8) {
        assert_eq!(trace, trace_of(data), "the same program did two things");
    }
}

/// Runs a program and returns a number that stands for all that left.
fn trace_of(data: &[u8]) -> u64 {
    let mut world = World::new();
    let mut steps = Steps::new(data);
    for _ in 0..STEPS_MAX {
        if !steps.step(&mut world) {
            break;
        }
    }
    world.fall_silent();
    world.pass(Duration::from_secs(600));
    world.check_no_calls();
    world.pass(COUNTED_MAX);
    world.check_no_bindings();
    world.trace()
}
