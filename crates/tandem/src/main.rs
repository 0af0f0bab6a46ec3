//! Tandem: a SIP service in one program. This crate reads the command line and the configuration,
//! starts the server and speaks to a running one.

mod calendar;
mod cluster_key;
mod command;
mod config;
mod control;
mod database;
mod degraded;
mod demo;
mod destinations;
mod drill;
mod forwards;
mod gateway_row;
mod guardian;
mod host;
mod kernel_path;
mod logs;
mod metrics;
mod outbox;
mod page;
mod page_lease;
mod password;
mod phones;
mod port_owner;
mod records;
mod replica;
mod row_witness;
mod sequences;
mod service;
mod serving;
mod small_thread;
mod state_directory;
mod supervisor;
mod table;
mod tables;

use std::process::ExitCode;

use clap::Parser;

use command::CommandLine;
use config::ConfigError;

/// Half of a request's allocations are small and die in its batch: glibc's allocator spent a tenth of the processor time
/// on merging them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The configuration has mistakes, or a drill could not be done; clap ends with the same status for mistakes of the command
/// line.
const STATUS_WRONG: u8 = 2;

fn main() -> ExitCode {
    match CommandLine::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tandem: {error:#}");
            let is_wrong =
                matches!(error.downcast_ref(), Some(ConfigError::Wrong(_) | ConfigError::Unreadable { .. }));
            if is_wrong || error.is::<drill::NotDone>() {
                ExitCode::from(STATUS_WRONG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// `tandem contacts | head` is no failure. That of a drill is one: the pipe that is closed leads to its hand.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let is_closed = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
    is_closed && !error.is::<drill::NotDone>()
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use anyhow::Context as _;

    use super::*;

    #[test]
    fn whoever_stops_reading_sees_no_failure_but_a_drill_whose_hand_is_gone_has_failed() {
        let closed = || Err::<(), _>(Error::from(ErrorKind::BrokenPipe));
        let read_no_more = closed().context("the contacts").expect_err("it is closed");
        let hand_is_gone = closed().context("a WAS NOT HEALED").context(drill::NotDone).expect_err("it is");

        assert!(is_closed_pipe(&read_no_more));
        assert!(!is_closed_pipe(&hand_is_gone));
    }
}
