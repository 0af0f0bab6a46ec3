//! `tandem contacts`, `tandem calls` and `tandem registrations`, and the server's part of `tandem status`.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::print;
use crate::config::write_duration;
use crate::control::client::Client;
use crate::control::{
    CallView, ContactView, CopyView, OverloadView, PublicationView, RecordsDatabaseView, RecordsView,
    RegistrationView, RelayView, Request, RtpengineView, StatusView, TablesView, VoiceView,
};
use crate::replica::ReplicaView;
use crate::table::Table;

/// Shows which phones are registered.
pub fn contacts(server: &mut Client, aor: Option<String>, json: bool) -> Result<()> {
    let mut contacts = Vec::new();
    let request = Request::Contacts { aor: aor.clone() };
    let () = server.ask_for_items(&request, |contact: Value| {
        contacts.push(contact);
        Ok(())
    })?;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&contacts)?));
    }
    let contacts =
        contacts.into_iter().map(serde_json::from_value).collect::<Result<Vec<ContactView>, _>>()?;
    print(&contacts_text(&contacts, aor.as_deref()))
}

/// Shows the calls, at most so many.
pub fn calls(server: &mut Client, count_max: usize, json: bool) -> Result<()> {
    let mut calls = Vec::new();
    let count: usize = server.ask_for_items(&Request::Calls { count_max }, |call: Value| {
        calls.push(call);
        Ok(())
    })?;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&calls)?));
    }
    let calls = calls.into_iter().map(serde_json::from_value).collect::<Result<Vec<CallView>, _>>()?;
    print(&calls_text(&calls, count))
}

/// Shows how our own registrations stand.
pub fn registrations(server: &mut Client, json: bool) -> Result<()> {
    let mut registrations = Vec::new();
    let () = server.ask_for_items(&Request::Registrations {}, |registration: Value| {
        registrations.push(registration);
        Ok(())
    })?;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&registrations)?));
    }
    let views = registrations
        .into_iter()
        .map(serde_json::from_value)
        .collect::<Result<Vec<RegistrationView>, _>>()?;
    print(&registrations_text(&views))
}

/// How the server is.
pub fn status_text(status: &StatusView) -> String {
    let StatusView { node, version, pid, uptime_s, .. } = status;
    let uptime = write_duration(Duration::from_secs(*uptime_s));
    let mut text = format!("Tandem {version} on {node}: {} for {uptime} (pid {pid})\n", status.state);
    let mut listeners = Table::new(["LISTENER", "ADVERTISED AS", "DIGEST"]);
    for listener in &status.listeners {
        listeners.push([
            listener.listener.clone(),
            listener.advertise.clone().unwrap_or_default(),
            if listener.digest { "on" } else { "OFF" }.to_owned(),
        ]);
    }
    text.push_str(&format!("\n{listeners}\n"));
    let domains = match status.domains.as_slice() {
        [] => "the listeners' addresses".to_owned(),
        domains => format!("{}, and the listeners' addresses", domains.join(", ")),
    };
    let edges: Vec<String> = status.edges.iter().map(|(domain, to)| format!("{domain} at {to}")).collect();
    let database = match (&status.store.error, status.store.owed) {
        (Some(error), owed) => format!("FAILING: {error} ({owed} changes wait)"),
        (None, owed) => format!("{} ({owed} changes wait)", status.store.state),
    };
    let banned = match status.held {
        0 => "nobody".to_owned(),
        held => format!("{held} sources; `tandem bans list` shows them"),
    };
    let lost = match status.store.dropped {
        0 => String::new(),
        dropped => format!(", {dropped} LOST"),
    };
    let in_database = status.records.as_ref().and_then(|records| records.database.as_ref());
    for (name, value) in [
        ("domains", domains),
        ("edge of", edges.join(", ")),
        ("bindings", status.bindings.to_string()),
        ("accounts cached", status.accounts_cached.to_string()),
        ("calls", status.calls.to_string()),
        (
            "media relay",
            status.relay.as_ref().map(|relay| relay_text(relay, &status.rtpengines)).unwrap_or_default(),
        ),
        ("rtpengine", rtpengines_text(&status.rtpengines)),
        (
            "media path",
            (status.relay.as_ref().filter(|_| status.rtpengines.is_empty()).map(path_text))
                .unwrap_or_default(),
        ),
        ("connections", status.connections.to_string()),
        ("banned", banned),
        ("OVERLOADED", status.overload.map_or_else(String::new, overload_text)),
        (
            "transactions",
            format!("{} server, {} client", status.transactions.server, status.transactions.client),
        ),
        ("in progress", format!("{} waiting, {} forwarded", status.suspended, status.forwarding)),
        ("database", database + &lost),
        ("accounts", status.store.copy.map_or_else(String::new, copy_text)),
        ("tables", status.tables.as_ref().map(tables_text).unwrap_or_default()),
        ("location table", status.publication.as_ref().map(publication_text).unwrap_or_default()),
        ("call records", status.records.as_ref().map(records_text).unwrap_or_default()),
        ("  in database", in_database.map(records_database_text).unwrap_or_default()),
        ("other node", status.replica.as_ref().map(ReplicaView::text).unwrap_or_default()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    {
        text.push_str(&format!("{name:<16}{value}\n"));
    }
    let mut counters = Table::new(["SINCE THE START", ""]);
    for (name, figure) in status.counters.iter().filter(|(_, figure)| **figure > 0) {
        counters.push([name.replace('_', " "), figure.to_string()]);
    }
    if counters.len() > 0 {
        text.push_str(&format!("\n{counters}"));
    }
    text
}

fn publication_text(publication: &PublicationView) -> String {
    let PublicationView { state, error, away_s, owed, refused, last, .. } = publication;
    let refused = match refused {
        0 => String::new(),
        refused => format!(", {refused} times it had no place for a binding"),
    };
    if let Some(error) = error {
        return format!(
            "FAILING for {}: {error} ({owed} changes wait)",
            write_duration(Duration::from_secs(*away_s))
        );
    }
    let compared = last.as_ref().map_or_else(String::new, |last| {
        format!(
            ", compared {} ago when it had {} rows",
            write_duration(Duration::from_secs(last.ago_s)),
            last.rows
        )
    });
    match state.as_str() {
        "standby" => "written by the active node".to_owned(),
        "comparing" => format!("is compared with the bindings ({owed} changes wait){refused}"),
        _ => format!("ok ({owed} changes wait){compared}{refused}"),
    }
}

fn records_text(records: &RecordsView) -> String {
    let RecordsView { error, written, waiting, lost, database: _ } = records;
    let state = error.as_ref().map_or_else(|| "ok".to_owned(), |error| format!("FAILING: {error}"));
    let lost = if *lost == 0 { String::new() } else { format!(", {lost} LOST") };
    format!("{state} ({written} written, {waiting} wait){lost}")
}

fn records_database_text(records: &RecordsDatabaseView) -> String {
    let RecordsDatabaseView { error, away_s, owed, oldest_s, written, cut, aside, alone } = records;
    let seconds = |seconds: &u64| write_duration(Duration::from_secs(*seconds));
    let state = match error {
        None => "ok".to_owned(),
        Some(error) => format!("FAILING for {}: {error}", seconds(away_s)),
    };
    let mut text = format!("{state} ({written} written, {owed} owed");
    if *owed > 0 {
        text.push_str(&format!(", the oldest ended {} ago", seconds(oldest_s)));
    }
    if *alone > 0 {
        text.push_str(&format!(", {alone} of them not owed by the other node too"));
    }
    if *cut > 0 {
        text.push_str(&format!(", {cut} cut"));
    }
    text.push(')');
    if *aside > 0 {
        text.push_str(&format!(", {aside} PUT ASIDE: see not-in-database.jsonl beside the records"));
    }
    text
}

fn tables_text(view: &TablesView) -> String {
    let TablesView { tables, dialect, age_s, error, remarks } = view;
    let rows = |(table, version, rows): &(String, u32, usize)| format!("{table} {version}: {rows} rows");
    let rows: Vec<String> = tables.iter().map(rows).collect();
    let mut text = format!("{} ({dialect})", rows.join(", "));
    if let Some(error) = error {
        let age = age_s.map_or_else(
            || "never read".to_owned(),
            |age_s| format!("as read {} ago", write_duration(Duration::from_secs(age_s))),
        );
        text = format!("FAILING: {error} ({age}: {text})");
    }
    if !remarks.is_empty() {
        text.push_str(&format!(", {} NOT USED: `tandem check` says why", remarks.len()));
    }
    text
}

fn copy_text(copy: CopyView) -> String {
    let CopyView { accounts, age_s, serving } = copy;
    let age = match age_s {
        Some(age_s) => {
            format!("as they were on the server {} ago", write_duration(Duration::from_secs(age_s)))
        }
        None => "never compared with the server".to_owned(),
    };
    let state = if serving { "FROM THE COPY" } else { "from the server; in the copy" };
    format!("{state}: {accounts}, {age}")
}

fn relay_text(relay: &RelayView, rtpengines: &[RtpengineView]) -> String {
    let RelayView { calls, ports_used, ports, .. } = relay;
    if !rtpengines.is_empty() {
        return format!("{calls} calls");
    }
    format!("{calls} calls, {ports_used} of {ports} ports in use")
}

fn rtpengines_text(rtpengines: &[RtpengineView]) -> String {
    let text = |it: &RtpengineView| {
        let state = if it.up { "up" } else { "DOWN" };
        let unanswered = if it.silent == 0 { String::new() } else { format!(", {} unanswered", it.silent) };
        format!("{} {state}, weight {}, {} commands{unanswered}", it.address, it.weight, it.asked)
    };
    rtpengines.iter().map(text).collect::<Vec<_>>().join("; ")
}

/// Who sends packets on.
fn path_text(relay: &RelayView) -> String {
    match &relay.no_fast_path {
        None => format!("the kernel ({} streams), and what it can not have this program", relay.in_kernel),
        Some(reason) => format!("this program; not the kernel: {reason}"),
    }
}

fn overload_text(overload: OverloadView) -> String {
    let OverloadView { lasts_s, other, new_registrations, known_registrations, calls } = overload;
    let lasts = write_duration(Duration::from_secs(lasts_s));
    let refused: Vec<String> = [
        (other, "of other requests"),
        (new_registrations, "of new registrations"),
        (known_registrations, "of known phones' registrations"),
        (calls, "of calls"),
    ]
    .into_iter()
    .filter(|(percent, _)| *percent > 0)
    .map(|(percent, what)| format!("{percent} % {what}"))
    .collect();
    match refused.as_slice() {
        [] => format!("for {lasts}; nothing is refused at the moment"),
        refused => format!("for {lasts}; refused: {}", refused.join(", ")),
    }
}

fn contacts_text(contacts: &[ContactView], aor: Option<&str>) -> String {
    if contacts.is_empty() {
        return match aor {
            Some(aor) => format!("{aor} is not registered.\n"),
            None => "No phone is registered.\n".to_owned(),
        };
    }
    let mut table =
        Table::new(["ADDRESS OF RECORD", "CONTACT", "SEEN AT", "LISTENER", "EXPIRES", "NAT", "PHONE"]);
    for contact in contacts {
        table.push([
            contact.aor.clone(),
            contact.contact.clone(),
            contact.received.clone(),
            if contact.reachable { contact.listener.clone() } else { format!("{} (gone)", contact.listener) },
            write_duration(Duration::from_secs(contact.expires_s)),
            if contact.nat { "yes" } else { "" }.to_owned(),
            contact.user_agent.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

fn calls_text(calls: &[CallView], count: usize) -> String {
    if calls.is_empty() {
        return match count {
            0 => "There is no call.\n".to_owned(),
            count => format!("There are {count} calls.\n"),
        };
    }
    let mut table = Table::new(["CALLER", "CALLED", "STATE", "FOR", "VOICE", "ACCOUNT", "GATEWAY"]);
    for call in calls {
        table.push([
            call.caller.clone(),
            call.callee.clone(),
            call.state.clone(),
            write_duration(Duration::from_secs(call.up_s.unwrap_or(call.began_s))),
            voice_text(call),
            call.account.clone().unwrap_or_default(),
            call.gateways.join(", "),
        ]);
    }
    let mut text = table.to_string();
    if count > calls.len() {
        text.push_str(&format!("... and {} more: see --count.\n", count - calls.len()));
    }
    text
}

/// What is worst of what the call's sides send: its opinion, and what was lost.
fn voice_text(call: &CallView) -> String {
    let sides = || call.media.iter().flat_map(|stream| [&stream.caller, &stream.callee]);
    let Some(opinion) = sides().filter_map(|side| side.opinion).reduce(f64::min) else {
        return String::new();
    };
    let lost_of = |side: &VoiceView| side.lost as f64 * 100.0 / (side.packets + side.lost).max(1) as f64;
    match sides().map(lost_of).fold(0.0, f64::max) {
        lost if lost < 0.05 => format!("{opinion:.1}"),
        lost => format!("{opinion:.1}, {lost:.1} % lost"),
    }
}

fn registrations_text(registrations: &[RegistrationView]) -> String {
    if registrations.is_empty() {
        return "Nothing is registered elsewhere: the configuration has no [[registration]] with a registrar.\n"
            .to_owned();
    }
    let mut table =
        Table::new(["NAME", "ADDRESS", "REGISTRAR", "STATE", "GRANTED FOR", "LAST ANSWER", "NEXT TRY"]);
    let time = |seconds: Option<u64>| seconds.map(|it| write_duration(Duration::from_secs(it)));
    for registration in registrations {
        let failures = match registration.failures {
            0 => String::new(),
            failures => format!(" ({failures} in a row)"),
        };
        table.push([
            registration.name.clone(),
            registration.address.clone(),
            registration.registrar.clone(),
            registration.state.clone(),
            time(registration.granted_s).unwrap_or_default(),
            registration.last_answer.clone().unwrap_or_default() + &failures,
            time(registration.next_s).unwrap_or_else(|| "under way".to_owned()),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_database_is_shown_with_its_reason() {
        let status: StatusView = serde_json::from_value(serde_json::json!({
            "state": "running", "node": "a", "version": "0.1.0", "pid": 7, "uptime_s": 3_661,
            "listeners": [{"listener": "udp:192.0.2.5:5060", "digest": false}],
            "domains": ["example.org"], "edges": {"pbx.example": "sip:10.0.0.20"}, "bindings": 2, "accounts_cached": 1,
            "transactions": {"server": 3, "client": 4}, "suspended": 0, "forwarding": 0, "connections": 0, "held": 2,
            "relay": {"calls": 3, "ports_used": 12, "ports": 10_000, "in_kernel": 5},
            "overload": {"lasts_s": 65, "other": 100, "new_registrations": 40, "known_registrations": 0, "calls": 0},
            "counters": {"forwarded": 5, "loop": 0},
            "store": {"state": "failing", "error": "/s/tandem.sqlite: disk full", "owed": 6, "dropped": 1,
                "copy": {"accounts": 12, "age_s": 3_700, "serving": true}},
            "publication": {"state": "comparing", "error": "db1: no way leads there", "away_s": 65, "owed": 9,
                "written": 1, "removed": 2, "refused": 0, "comparisons": 1}
        }))
        .expect("it is a status");

        let text = status_text(&status);

        for part in [
            "Tandem 0.1.0 on a: running for 1h1m1s (pid 7)",
            "udp:192.0.2.5:5060                 OFF",
            "domains         example.org, and the listeners' addresses",
            "edge of         pbx.example at sip:10.0.0.20",
            "banned          2 sources",
            "media relay     3 calls, 12 of 10000 ports in use",
            "media path      the kernel (5 streams), and what it can not have this program",
            "OVERLOADED      for 1m5s; refused: 100 % of other requests, 40 % of new registrations\n",
            "database        FAILING: /s/tandem.sqlite: disk full (6 changes wait), 1 LOST",
            "accounts        FROM THE COPY: 12, as they were on the server 1h1m40s ago",
            "location table  FAILING for 1m5s: db1: no way leads there (9 changes wait)",
            "forwarded        5",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("loop"));
    }

    #[test]
    fn a_registration_that_is_refused_is_shown_with_the_answer_and_the_next_try() {
        let view: RegistrationView = serde_json::from_value(serde_json::json!({
            "name": "carrier", "address": "sip:49301@carrier.example", "registrar": "sip:carrier.example",
            "state": "refused", "last_answer": "403 Forbidden", "next_s": 300, "failures": 2
        }))
        .expect("it is a registration");

        let text = registrations_text(&[view]);

        assert!(text.contains("refused"), "{text}");
        assert!(text.contains("403 Forbidden (2 in a row)  5m"), "{text}");
    }

    #[test]
    fn a_call_is_shown_with_who_talks_and_for_how_long() {
        let view: CallView = serde_json::from_value(serde_json::json!({
            "caller": "sip:alice@example.org", "callee": "sip:+4930@example.org", "state": "up", "began_s": 70,
            "up_s": 61, "account": "alice@example.org", "gateways": ["carrier-a"], "call_id": "1", "media": [{
                "caller": {"packets": 3_000, "lost": 0, "jitter_ms": 0.4, "opinion": 4.39},
                "callee": {"packets": 985, "lost": 15, "jitter_ms": 2.0, "round_trip_ms": 40.5, "opinion": 3.84},
                "dropped": 2
            }]
        }))
        .expect("it is a call");

        let text = calls_text(&[view], 3);

        assert!(text.contains("up     1m1s  3.8, 1.5 % lost  alice@example.org  carrier-a\n"), "{text}");
        assert!(text.ends_with("... and 2 more: see --count.\n"), "{text}");
        assert_eq!(calls_text(&[], 0), "There is no call.\n");
    }

    #[test]
    fn nobody_registered_is_said_in_words() {
        assert_eq!(contacts_text(&[], None), "No phone is registered.\n");
        assert_eq!(contacts_text(&[], Some("a@b")), "a@b is not registered.\n");
    }
}
