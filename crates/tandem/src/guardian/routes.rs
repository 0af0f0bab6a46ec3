//! The thread that manages the routes of the virtual addresses while the guardian runs, and restores what was at its end.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ::host::{Changes, Interface, Routes, RoutesError};

use super::halt::Halt;
use crate::small_thread::spawn;

/// Between two looks at what has changed: a routing daemon that learns its routes changes many in a row.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How often it is looked whether the routes are still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The thread, as long as the routes are managed.
#[derive(Debug)]
pub struct ManagedRoutes {
    halt: Arc<Halt>,
    thread: JoinHandle<()>,
}

impl ManagedRoutes {
    /// Sets the routes, and begins to follow what changes. `kept` remembers what was before.
    pub fn set(
        interface: Interface,
        addresses: Vec<IpAddr>,
        gateways: Vec<IpAddr>,
        kept: &Path,
    ) -> Result<Self, RoutesError> {
        // Before the first look, so that no change is missed.
        let changes = Changes::open().map_err(RoutesError::Table)?;
        let routes = Routes::set(interface, addresses, gateways, kept)?;
        let halt = Arc::new(Halt::default());
        let seen = Arc::clone(&halt);
        let thread = spawn("routes", move || follow(routes, changes, &seen)).map_err(RoutesError::Table)?;
        Ok(Self { halt, thread })
    }

    /// Restores what was.
    pub fn restore(self) {
        self.halt.set();
        // One that panicked leaves it to the next start.
        let _ = self.thread.join();
    }
}

fn follow(mut routes: Routes, mut changes: Changes, halt: &Halt) {
    let mut has_failed = false;
    while !halt.is_set() {
        if let Err(error) = ::host::wait_readable(&[changes.as_fd()], LOOK_EVERY) {
            tracing::warn!(%error, "changes of the host's routes are not seen");
            halt.is_set_within(SETTLED_AFTER);
        }
        if !changes.take().map_or(true, |changed| changed.is_any()) {
            continue;
        }
        match routes.refresh() {
            Ok(()) => has_failed = false,
            Err(error) if !has_failed => {
                has_failed = true;
                tracing::warn!("{error}");
            }
            Err(_) => {}
        }
        halt.is_set_within(SETTLED_AFTER);
    }
    if let Err(error) = routes.restore() {
        tracing::warn!("what the routes were before is not restored: {error}");
    }
}
