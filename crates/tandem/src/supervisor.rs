//! What systemd, or whoever started the program, is told.

use std::time::Duration;

use sd_notify::NotifyState;

/// How often the watchdog is told that all is well, if systemd wants to know.
pub fn watchdog_interval() -> Option<Duration> {
    // Half of what is allowed, so that one late message is no death.
    sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
}

/// Serving has begun.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Every thread does its work.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The configuration is being read again.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the supervisor can not be told of the reload"),
    }
}

/// The end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Without a supervisor this does nothing.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the supervisor can not be told");
    }
}
