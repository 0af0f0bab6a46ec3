//! `tandem gateways`.

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

use super::{Place, print};
use crate::config::write_duration;
use crate::control::client::Client;
use crate::control::{GatewayRow, Request};
use crate::table::Table;

/// What is done to a gateway.
#[derive(Debug, Subcommand)]
pub enum Change {
    /// Give it no new calls; those that it has go on. A restart puts it back
    Down {
        /// Its name
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Give it calls again
    Up {
        /// Its name
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

impl Change {
    /// Does it.
    pub fn run(self) -> Result<()> {
        let (name, place, in_service, told) = match self {
            Self::Down { name, place } => {
                (name, place, false, "gets no new calls until `up`, or a restart of the server")
            }
            Self::Up { name, place } => (name, place, true, "gets calls again"),
        };
        let request = Request::GatewayService { name: name.clone(), in_service };
        let () = place.server()?.ask(&request)?;
        print(&format!("{name} {told}.\n"))
    }
}

/// Shows all gateways.
pub fn show(server: &mut Client, json: bool) -> Result<()> {
    let mut gateways = Vec::new();
    let () = server.ask_for_items(&Request::Gateways {}, |gateway: Value| {
        gateways.push(gateway);
        Ok(())
    })?;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&gateways)?));
    }
    let gateways = gateways.into_iter().map(serde_json::from_value).collect::<Result<Vec<_>, _>>()?;
    print(&text(&gateways))
}

fn text(gateways: &[GatewayRow]) -> String {
    if gateways.is_empty() {
        return "There is no gateway: write a [[gateway]] into the configuration.\n".to_owned();
    }
    let mut table = Table::new([
        "GATEWAY",
        "GROUP",
        "URI",
        "PRIORITY",
        "WEIGHT",
        "CALLS",
        "STATE",
        "FOR",
        "LAST PROBE",
        "TRIED",
        "FAILED",
    ]);
    for gateway in gateways {
        let ago = |seconds| write_duration(Duration::from_secs(seconds));
        let probe = match (&gateway.probe_answer, gateway.probed_s, gateway.probe_interval_s) {
            (Some(answer), Some(seconds), _) => format!("{answer}, {} ago", ago(seconds)),
            (_, _, None) => "off".to_owned(),
            _ => String::new(),
        };
        let state = match &gateway.reason {
            Some(reason) => format!("{}: {reason}", gateway.state.to_uppercase()),
            None => gateway.state.clone(),
        };
        table.push([
            gateway.name.clone(),
            gateway.group.clone().unwrap_or_default(),
            gateway.uri.clone(),
            gateway.priority.to_string(),
            gateway.weight.to_string(),
            match (gateway.calls, gateway.calls_max) {
                (Some(calls), Some(max)) => format!("{calls}/{max}"),
                _ => String::new(),
            },
            state,
            ago(gateway.since_s),
            probe,
            gateway.tried.to_string(),
            gateway.failed.to_string(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_is_down_is_shown_with_its_reason() {
        let gateway: GatewayRow = serde_json::from_value(serde_json::json!({
            "name": "carrier-a", "group": "carrier", "uri": "sip:198.51.100.1", "priority": 0, "weight": 3,
            "calls": 2, "calls_max": 30,
            "state": "down", "reason": "no answer", "since_s": 61, "probe_interval_s": 30, "probed_s": 2,
            "probe_answer": "no answer", "tried": 7, "failed": 3
        }))
        .expect("it fits");

        let text = text(&[gateway]);

        for part in ["carrier-a", "2/30", "DOWN: no answer", "1m1s", "no answer, 2s ago"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
