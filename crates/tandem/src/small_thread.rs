//! Threads with a small stack: a guardian's memory is locked, and each stack is made of it.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Stack of a thread that calls the kernel, runs a command or answers a scrape.
const STACK_BYTES: usize = 256 * 1024;

/// Starts one.
pub fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run)
}
