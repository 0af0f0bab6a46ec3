//! Asks all the time who has the virtual addresses: by ARP, and by neighbour solicitations.
//!
//! Everybody on the switch hears the questions, as they are for all, so whoever would answer does, whatever the caches of
//! phones and routers say. The answers come to the prober alone, and heal no other cache.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use host::{Announcer, Interface};

use super::Host;

/// How often each address is asked for.
const EVERY: Duration = Duration::from_millis(10);

/// The prober, asking.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Asks from a host for these addresses.
    pub fn start(from: &Host, addresses: &[IpAddr]) -> Result<Prober> {
        let own_v6 = from.v6.context("the prober has no IPv6 address")?;
        let open = || -> Result<Announcer> { Ok(Announcer::open(Interface::find("eth0")?)?) };
        let mouth = from.enter(open)??;
        let stop = Arc::new(AtomicBool::new(false));
        let (until, own, addresses) = (stop.clone(), from.v4, addresses.to_vec());
        let thread = std::thread::Builder::new().name("prober".to_owned()).spawn(move || {
            while !until.load(Ordering::Relaxed) {
                for address in &addresses {
                    // A queue that is full now is empty 10 ms later.
                    let own = if address.is_ipv4() { IpAddr::V4(own) } else { IpAddr::V6(own_v6) };
                    let _ = mouth.ask(Some(own), *address);
                }
                std::thread::sleep(EVERY);
            }
        })?;
        Ok(Prober { stop, thread: Some(thread) })
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}
