//! A gateway as commands show it.

use std::time::{SystemTime, UNIX_EPOCH};

use routing::gateway::{Failure, GatewayView, ProbeAnswer, Service, State};

use crate::control::GatewayRow;

/// What is shown of a gateway. `calls` are those that count for its limit, if it has one.
pub fn gateway_row(view: &GatewayView, calls: usize) -> GatewayRow {
    let gateway = &view.gateway;
    let (state, reason) = match (view.service, view.state, view.busy_for) {
        (Service::Out, ..) => ("out", Some("taken out by the operator".to_owned())),
        (_, State::Down(failure), _) => ("down", Some(failure_text(failure))),
        (_, _, Some(time)) => {
            ("busy", Some(format!("it asked to be left alone, {} s to go", time.as_secs().max(1))))
        }
        (_, State::Up, None) => ("up", None),
        (_, State::Unknown, None) => ("unknown", None),
    };
    let (probed_s, probe_answer) = match view.last_probe {
        Some((at, ProbeAnswer::Status(status))) => (Some(seconds_since(at)), Some(status.0.to_string())),
        Some((at, ProbeAnswer::Failed(failure))) => (Some(seconds_since(at)), Some(failure_text(failure))),
        None => (None, None),
    };
    GatewayRow {
        name: gateway.name.to_string(),
        group: gateway.group.as_deref().map(str::to_owned),
        uri: String::from_utf8_lossy(&gateway.uri).into_owned(),
        priority: gateway.priority,
        weight: gateway.weight,
        calls: gateway.calls_max.map(|_| calls),
        calls_max: gateway.calls_max,
        state: state.to_owned(),
        reason,
        since_s: seconds_since(view.since),
        probe_interval_s: gateway.watch.interval.map(|interval| interval.as_secs()),
        probed_s,
        probe_answer,
        tried: view.tried,
        failed: view.failed,
    }
}

fn failure_text(failure: Failure) -> String {
    match failure {
        Failure::Silent => "no answer".to_owned(),
        Failure::Refused(status) => format!("answered {}", status.0),
        Failure::Unreachable => "out of reach".to_owned(),
        Failure::NoAddress => "its name has no address".to_owned(),
    }
}

fn seconds_since(at: clock::WallTime) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    now.saturating_sub(at.as_millis()) / 1_000
}
