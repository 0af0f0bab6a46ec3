//! The families of the process that speaks SIP.

use std::collections::BTreeMap;

use super::replication;
use super::text::Exposition;
use crate::control::{MetricsView, PublicationView, RtpengineView};
use crate::degraded;

/// Counters that tell of what came, or was to leave, and was thrown away or refused.
pub const DISCARDS: [&str; 24] = [
    "connection_banned",
    "connection_broken",
    "connection_gone",
    "connection_refused",
    "connection_refused_by_source",
    "datagram_dropped",
    "datagram_dropped_by_kernel",
    "datagram_refused",
    "dropped_banned",
    "dropped_slowed",
    "full",
    "garbage",
    "inactive",
    "listener_gone",
    "malformed",
    "no_token",
    "scanner",
    "stray_cancel",
    "stray_response",
    "stream_full",
    "suspended_too_long",
    "transaction_refused",
    "unknown_token",
    "withheld_without_lease",
];

/// Answers that waited for the other node, and not in vain.
const REPLICATED: &str = "replicated";

/// States of a registration at a carrier that let calls come in.
const REGISTERED: &str = "registered";

/// Writes the families.
pub fn write(view: &MetricsView, out: &mut Exposition) {
    let status = &view.status;
    out.gauge("tandem_engine_uptime_seconds", "Since when the process that speaks SIP runs.")
        .is(status.uptime_s);
    out.gauge("tandem_bindings", "Phones that are registered.").is(status.bindings);
    out.gauge("tandem_accounts_cached", "Accounts that are in memory.").is(status.accounts_cached);
    out.gauge("tandem_calls", "Calls that ring or are up.").is(status.calls);
    out.gauge("tandem_calls_known", "Calls of the other node that this one would go on with.")
        .is(status.calls_known);
    out.gauge("tandem_connections", "Open TCP connections.").is(status.connections);
    out.gauge("tandem_connections_told", "TCP connections that the other node would end if this one died.")
        .is(status.connections_told);
    out.gauge("tandem_connections_known", "TCP connections of the other node that this one would end.")
        .is(status.connections_known);
    if let Some(relay) = &status.relay {
        out.gauge("tandem_relay_calls", "Calls whose media the relay knows, in either role.").is(relay.calls);
        out.gauge("tandem_relay_ports", "Ports of the media relay.").is(relay.ports);
        out.gauge(
            "tandem_relay_in_kernel",
            "Streams that the kernel sends on by itself, each direction apart.",
        )
        .is(relay.in_kernel);
        out.gauge("tandem_relay_ports_used", "Ports in use by calls that are here.").is(relay.ports_used);
    }
    rtpengines(&status.rtpengines, out);
    let mut transactions = out.gauge("tandem_transactions", "Transactions that are alive.");
    transactions.sample(&[("side", "server")], status.transactions.server);
    transactions.sample(&[("side", "client")], status.transactions.client);
    out.gauge("tandem_requests_waiting", "Requests that wait for the database or a name server.")
        .is(status.suspended);
    out.gauge("tandem_requests_forwarded", "Requests that were sent on and have no final answer.")
        .is(status.forwarding);
    replication::write(status.replica.as_ref(), out);
    traffic(view, out);
    latencies(view, out);
    out.gauge("tandem_sources_held", "Sources that are banned or restrained now.").is(status.held);
    store(view, out);
    carriers(view, out);
    let mut dropped = out.counter(
        "tandem_listener_kernel_drops_total",
        "Datagrams that the kernel dropped because this process did not read them in time.",
    );
    for (listener, figure) in &view.kernel_drops {
        dropped.sample(&[("listener", listener)], *figure);
    }
    counters(&status.counters, out);
}

fn rtpengines(views: &[RtpengineView], out: &mut Exposition) {
    if views.is_empty() {
        return;
    }
    let mut up = out.gauge("tandem_rtpengine_up", "Whether an rtpengine answers; on a standby always 1.");
    for view in views {
        up.sample(&[("rtpengine", &view.address)], u64::from(view.up));
    }
    let mut weight = out.gauge("tandem_rtpengine_weight", "An rtpengine's share of new calls.");
    for view in views {
        weight.sample(&[("rtpengine", &view.address)], u64::from(view.weight));
    }
    let mut commands = out.counter(
        "tandem_rtpengine_commands_total",
        "Commands by what became of them: asked of each, repeated each time, and of the answers those that came late.",
    );
    for view in views {
        for (result, figure) in [
            ("asked", view.asked),
            ("repeated", view.repeated),
            ("answered", view.answered),
            ("refused", view.refused),
            ("silent", view.silent),
            ("late", view.late),
            ("unsaid", view.unsaid),
            ("malformed", view.malformed),
        ] {
            commands.sample(&[("rtpengine", &view.address), ("result", result)], figure);
        }
    }
}

fn traffic(view: &MetricsView, out: &mut Exposition) {
    let mut requests =
        out.counter("tandem_sip_requests_total", "Requests that came, retransmissions left out.");
    for (method, figure) in &view.requests {
        requests.sample(&[("method", method)], *figure);
    }
    let mut answers = out.counter(
        "tandem_sip_responses_total",
        "Final responses that were sent to them, by class; each request is counted once.",
    );
    for answer in &view.answers {
        let class = format!("{}xx", answer.class);
        answers.sample(&[("method", &answer.method), ("class", &class)], answer.count);
    }
}

fn latencies(view: &MetricsView, out: &mut Exposition) {
    let mut waits = out.histogram(
        "tandem_sip_request_duration_seconds",
        "From the reading of the batch in which a request came to the sending of its final response, or of what it was \
         forwarded as, whichever was first.",
    );
    for latency in &view.latencies {
        waits.distribution(
            &[("method", &latency.method), ("outcome", &latency.outcome)],
            &latency.buckets,
            latency.sum_s,
        );
    }
}

fn location(publication: &PublicationView, out: &mut Exposition) {
    out.gauge("tandem_location_failing", "Whether bindings can not be written to the table location.")
        .is(publication.error.is_some());
    out.gauge("tandem_location_away_seconds", "For how long they could not be written by now.")
        .is(publication.away_s);
    out.gauge("tandem_location_owed_bindings", "Bindings that have changed and are not written there.")
        .is(publication.owed);
    out.gauge("tandem_location_comparing", "Whether the table is being compared with the bindings.")
        .is(publication.state == "comparing");
    out.counter("tandem_location_written_rows_total", "Rows that were written.").is(publication.written);
    out.counter("tandem_location_removed_rows_total", "Rows that were removed.").is(publication.removed);
    out.counter("tandem_location_refused_total", "How often the table could not take a binding.")
        .is(publication.refused);
    out.counter("tandem_location_comparisons_total", "How often the table was compared with the bindings.")
        .is(publication.comparisons);
    if let Some(last) = &publication.last {
        out.gauge("tandem_location_compared_seconds_ago", "How long ago the last comparison ended.")
            .is(last.ago_s);
        out.gauge(
            "tandem_location_compared_differing",
            "Bindings whose row was missing or differed when the table was compared last.",
        )
        .is(last.differing);
    }
}

fn store(view: &MetricsView, out: &mut Exposition) {
    let store = &view.status.store;
    out.gauge("tandem_store_failing", "Whether the database can not be written.").is(store.state != "ok");
    out.gauge("tandem_store_owed_changes", "Changes that wait to be written.").is(store.owed);
    out.counter("tandem_store_lost_changes_total", "Changes that found no room and will never be written.")
        .is(store.dropped);
    if let Some(publication) = &view.status.publication {
        location(publication, out);
    }
    if let Some(copy) = store.copy {
        out.gauge(
            "tandem_store_copied_accounts",
            "Accounts of the database server of which this node has a copy.",
        )
        .is(copy.accounts);
        out.gauge("tandem_store_copy_serving", "Whether accounts are read from the copy.").is(copy.serving);
        let mut age =
            out.gauge("tandem_store_copy_age_seconds", "How long ago the copy was the same as the server.");
        if let Some(age_s) = copy.age_s {
            age.is(age_s);
        }
    }
    let records = view.status.records.clone().unwrap_or_default();
    out.gauge("tandem_records_failing", "Whether records of calls can not be written.")
        .is(records.error.is_some());
    out.gauge("tandem_records_waiting", "Records of calls that wait to be written.").is(records.waiting);
    out.counter("tandem_records_written_total", "Records of calls that were written.").is(records.written);
    out.counter(
        "tandem_records_lost_total",
        "Records of calls that found no room and will never be written.",
    )
    .is(records.lost);
    let database = records.database.unwrap_or_default();
    out.gauge(
        "tandem_records_database_failing",
        "Whether records of calls can not be written to the database.",
    )
    .is(database.error.is_some());
    out.gauge("tandem_records_database_away_seconds", "For how long it has been so.").is(database.away_s);
    out.gauge(
        "tandem_records_owed",
        "Records of calls that are in this node's files and not in the database.",
    )
    .is(database.owed);
    out.gauge("tandem_records_oldest_owed_seconds", "How long ago the oldest of these calls ended.")
        .is(database.oldest_s);
    out.counter(
        "tandem_records_database_written_total",
        "Records of calls that were written to the database.",
    )
    .is(database.written);
    out.counter(
        "tandem_records_cut_total",
        "Records of calls of which something was longer than its column, or of characters that this has not.",
    )
    .is(database.cut);
    out.counter("tandem_records_aside_total", "Records of calls that the database did not take.")
        .is(database.aside);
    out.counter(
        "tandem_records_alone_total",
        "Records of calls that the other node did not owe to the database too, because they were too many.",
    )
    .is(database.alone);
}

fn carriers(view: &MetricsView, out: &mut Exposition) {
    let mut up = out.gauge("tandem_gateway_up", "Whether a gateway gets calls.");
    for gateway in &view.gateways {
        let gets_calls = !matches!(gateway.state.as_str(), "down" | "out");
        up.sample(&[("gateway", &gateway.name)], gets_calls);
    }
    let mut tried = out.counter("tandem_gateway_requests_total", "Requests that were sent to a gateway.");
    for gateway in &view.gateways {
        tried.sample(&[("gateway", &gateway.name)], gateway.tried);
    }
    let mut failed =
        out.counter("tandem_gateway_failures_total", "Requests that failed because of the gateway.");
    for gateway in &view.gateways {
        failed.sample(&[("gateway", &gateway.name)], gateway.failed);
    }
    let mut calls = out.gauge("tandem_gateway_calls", "Calls of a gateway whose number of calls is limited.");
    for gateway in &view.gateways {
        if let Some(number) = gateway.calls {
            calls.sample(&[("gateway", &gateway.name)], number);
        }
    }
    let mut registered =
        out.gauge("tandem_registration_up", "Whether an account of ours is registered at its carrier.");
    for registration in &view.registrations {
        registered.sample(&[("registration", &registration.name)], registration.state == REGISTERED);
    }
}

/// Every counter is in one family, so that one that is added later is there without a change here.
fn counters(counters: &BTreeMap<String, u64>, out: &mut Exposition) {
    let (mut discards, mut bans, mut bindings) = (Vec::new(), Vec::new(), Vec::new());
    let (mut degraded, mut events, mut held) = (Vec::new(), Vec::new(), None);
    for (name, figure) in counters {
        if DISCARDS.contains(&name.as_str()) {
            discards.push((name.as_str(), *figure));
        } else if let Some((measure, cause)) = ban_of(name) {
            bans.push(([("measure", measure), ("cause", cause)], *figure));
        } else if let Some(change) = name.strip_prefix("binding_") {
            bindings.push((change, *figure));
        } else if name == REPLICATED {
            held = Some(*figure);
        } else if let Some(cause) = name.strip_prefix(degraded::PREFIX) {
            degraded.push((cause, *figure));
        } else {
            events.push((name.as_str(), *figure));
        }
    }
    let mut family = out.counter(
        "tandem_discarded_total",
        "Messages and connections that were dropped or refused, by cause.",
    );
    for (cause, figure) in discards {
        family.sample(&[("cause", cause)], figure);
    }
    let mut family = out.counter("tandem_bans_total", "Sources that were banned or restrained, by cause.");
    for (labels, figure) in bans {
        family.sample(&labels, figure);
    }
    let mut family = out.counter("tandem_binding_changes_total", "What became of registrations.");
    for (change, figure) in bindings {
        family.sample(&[("change", change)], figure);
    }
    let mut family = out.counter(
        "tandem_replication_held_total",
        "Answers that were sent when the other node held what they stand for.",
    );
    if let Some(figure) = held {
        family.is(figure);
    }
    let mut family = out.counter(
        "tandem_replication_degraded_total",
        "Answers that were sent though no other node held what they stand for, by cause.",
    );
    for (cause, figure) in degraded {
        family.sample(&[("cause", cause)], figure);
    }
    let mut family =
        out.counter("tandem_events_total", "All else that is counted, by the names of `tandem status`.");
    for (event, figure) in events {
        family.sample(&[("event", event)], figure);
    }
}

/// `banned_for_flood` is a ban because of a flood.
fn ban_of(counter: &str) -> Option<(&str, &str)> {
    let (measure, rest) = counter.split_once('_')?;
    let cause = ["for_", "as_", "by_"].iter().find_map(|word| rest.strip_prefix(word))?;
    matches!(measure, "banned" | "restrained").then_some((measure, cause))
}
