//! What a scrape gets can be read, and has every name that the dashboard and the alerts ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::ProcessFigures;
use super::text::Form;
use super::{Figures, Gathered, Part};
use crate::control::MetricsView;
use crate::guardian::view::{
    CheckView, ClusterView, DiscardView, GateView, HookView, LinkView, NodeView, PathView, VoterView,
};
use crate::guardian::wording::{CAUSES, REASONS};

const DASHBOARD: &str = include_str!("../../../../packaging/grafana/tandem.json");
const RULES: &str = include_str!("../../../../packaging/prometheus/tandem.rules.yml");
const MANUAL: &str = include_str!("../../../../docs/metrics.md");

#[test]
fn a_scrape_can_be_read_in_both_forms_and_says_the_same() {
    let figures = whole();

    let (text, open) = (read(&figures.write(Form::Text)), read(&figures.write(Form::OpenMetrics)));

    assert_eq!(text.samples, open.samples);
    let named: BTreeSet<String> = text
        .kinds
        .iter()
        .map(|(name, kind)| match kind.as_str() {
            "counter" => name.trim_end_matches("_total").to_owned(),
            _ => name.clone(),
        })
        .collect();
    assert_eq!(named, open.kinds.into_keys().collect());
}

#[test]
fn names_follow_the_conventions() {
    for (name, kind) in read(&whole().write(Form::Text)).kinds {
        assert!(name.starts_with("tandem_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
    }
}

#[test]
fn what_the_dashboard_and_the_alerts_ask_for_is_exported() {
    let exported = names_of_samples();

    for (file, text) in [("tandem.json", DASHBOARD), ("tandem.rules.yml", RULES)] {
        let asked = names_in(text);
        assert!(asked.len() > 20, "{file}: {asked:?}");
        let missing: Vec<_> = asked.difference(&exported).collect();
        assert!(missing.is_empty(), "{file} asks for {missing:?}, which no scrape has");
    }
}

#[test]
fn labels_that_are_asked_for_are_there() {
    let samples = read(&whole().write(Form::Text)).samples;

    for (file, text) in [("tandem.json", DASHBOARD), ("tandem.rules.yml", RULES)] {
        for (name, label, value) in selections(text) {
            let has = |sample: &String| {
                let (metric, rest) = sample.split_once('{').unwrap_or((sample, ""));
                metric == name && rest.contains(&format!("{label}=\"{value}\""))
            };
            assert!(
                samples.keys().any(has),
                "{file} asks for {name}{{{label}=\"{value}\"}}, which no scrape has"
            );
        }
    }
}

#[test]
fn the_manual_explains_every_family_and_no_other() {
    let families: BTreeSet<String> = read(&whole().write(Form::Text)).kinds.into_keys().collect();
    let explained = names_in(MANUAL);

    let unexplained: Vec<_> = families.difference(&explained).collect();
    assert!(unexplained.is_empty(), "docs/metrics.md lacks {unexplained:?}");
    let invented: Vec<_> =
        explained.difference(&families).filter(|name| !names_of_samples().contains(*name)).collect();
    assert!(invented.is_empty(), "docs/metrics.md speaks of {invented:?}");
}

#[test]
fn the_manual_names_every_reason_for_a_takeover_and_every_cause_of_a_loss() {
    for text in REASONS.iter().chain(&CAUSES) {
        let value = format!("`{}`", text.replace(' ', "_"));
        assert!(MANUAL.contains(&value), "docs/metrics.md lacks {value}");
    }
}

#[test]
fn the_dashboard_is_a_dashboard() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");

    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "each panel has its own id: {panel}");
        let is_row = panel["type"] == "row";
        assert!(is_row || panel["targets"].as_array().is_some_and(|it| !it.is_empty()), "{panel}");
        assert!(panel["gridPos"]["w"].as_u64().is_some_and(|width| width <= 24), "{panel}");
    }
}

#[test]
fn each_alert_is_whole_and_speaks_of_labels_that_exist() {
    let samples = read(&whole().write(Form::Text)).samples;
    let mut known: BTreeSet<String> =
        samples.keys().flat_map(|sample| labels(sample)).map(|(name, _)| name).collect();
    known.extend(["job", "instance", "le"].map(str::to_owned));
    let mut names = BTreeSet::new();

    for alert in RULES.split("- alert: ").skip(1) {
        let (name, rest) = alert.split_once('\n').expect("an alert has a body");
        assert!(name.starts_with("Tandem") && names.insert(name), "{name}");
        let of = |key: &str| {
            let line = rest.lines().find_map(|line| line.trim_start().strip_prefix(key));
            line.unwrap_or_else(|| panic!("{name} has no {key}")).trim()
        };
        let (expression, severity, _) = (of("expr:"), of("severity:"), of("summary:"));
        assert!(matches!(severity, "page" | "ticket" | "info"), "{name}: {severity}");
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            assert_eq!(
                expression.matches(open).count(),
                expression.matches(close).count(),
                "{name}: {expression}"
            );
        }
        let grouped = [" by (", " on ("].into_iter().flat_map(|word| expression.split(word).skip(1));
        let grouped = grouped.filter_map(|list| list.split(')').next()).flat_map(|list| list.split(", "));
        let told = rest.split("$labels.").skip(1).filter_map(|word| word.split([' ', '}']).next());
        for label in grouped.chain(told) {
            assert!(known.contains(label), "{name} speaks of {label}, which no metric has");
        }
    }
    assert!(names.len() > 20, "{names:?}");
}

#[test]
fn a_node_whose_engine_is_dead_still_says_how_the_cluster_is() {
    let text = Figures { server: None, ..whole() }.write(Form::Text);

    let samples = read(&text).samples;
    assert_eq!(samples["tandem_engine_up"], "0");
    assert_eq!(samples["tandem_cluster_role{role=\"standby\"}"], "0");
    assert_eq!(samples["tandem_active"], "1");
    assert!(!samples.contains_key("tandem_bindings"), "nobody knows how many there are");
}

#[test]
fn a_guardian_that_does_not_answer_is_told_and_the_engine_goes_on() {
    let samples = read(&Figures { part: Part::Member(None), ..whole() }.write(Form::Text)).samples;

    assert_eq!(samples["tandem_guardian_up"], "0");
    assert_eq!(samples["tandem_active"], "0");
    assert_eq!(samples["tandem_bindings"], "2");
}

#[test]
fn a_server_that_is_alone_is_active_and_has_no_cluster() {
    let samples = read(&Figures { part: Part::Alone, ..whole() }.write(Form::Text)).samples;

    assert_eq!(samples["tandem_active"], "1");
    assert!(!samples.keys().any(|name| name.starts_with("tandem_cluster_")));
    assert_eq!(samples["tandem_bans_total{measure=\"banned\",cause=\"wrong_credentials\"}"], "4");
    assert_eq!(samples["tandem_binding_changes_total{change=\"added\"}"], "5");
    assert_eq!(samples["tandem_discarded_total{cause=\"malformed\"}"], "6");
    assert_eq!(samples["tandem_replication_degraded_total{cause=\"no_peer\"}"], "2");
    assert_eq!(samples["tandem_replication_held_total"], "3");
    assert_eq!(samples["tandem_replication_lag_seconds"], "0.001");
    assert_eq!(samples["tandem_replication_entries{kind=\"bindings\",place=\"there\"}"], "4");
    assert_eq!(samples["tandem_events_total{event=\"forwarded\"}"], "7");
}

#[test]
fn many_scrapes_at_once_ask_the_service_once() {
    let asked = std::sync::atomic::AtomicU64::new(0);
    let gathered = Gathered::by(|| {
        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        whole()
    });

    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| gathered.figures());
        }
    });

    // A machine that stands still for a second between two of them asks again.
    assert!(asked.load(std::sync::atomic::Ordering::Relaxed) < 8);
}

/// All that could be had.
fn whole() -> Figures {
    let server: MetricsView = serde_json::from_value(json!({
        "status": {
            "state": "running", "node": "a", "version": "0.1.0", "pid": 7, "uptime_s": 61,
            "listeners": [{"listener": "udp:192.0.2.5:5060", "digest": true}],
            "domains": [], "bindings": 2, "accounts_cached": 1, "transactions": {"server": 3, "client": 4},
            "suspended": 0, "forwarding": 0, "connections": 0, "held": 2,
            "relay": {"calls": 3, "ports_used": 12, "ports": 10_000},
            "rtpengines": [{
                "address": "10.0.0.7:2223", "weight": 2, "up": true, "asked": 5, "repeated": 1, "answered": 4, "refused": 0,
                "silent": 1, "late": 0, "malformed": 0, "unsaid": 1
            }],
            "publication": {
                "state": "writing", "away_s": 0, "owed": 2, "written": 9, "removed": 1, "refused": 0, "comparisons": 1,
                "last": {"ago_s": 5, "took_ms": 7, "rows": 8, "differing": 1, "strange": 0}
            },
            "counters": {
                "banned_for_wrong_credentials": 4, "binding_added": 5, "malformed": 6, "forwarded": 7,
                "datagram_dropped_by_kernel": 0, "degraded_no_peer": 2, "degraded_late": 1, "replicated": 3, "challenged": 8, "wrong_credentials": 9
            },
            "store": {"state": "ok", "owed": 0, "dropped": 0, "copy": {"accounts": 12, "age_s": 3, "serving": false}},
            "replica": {
                "role": "active", "connected": true, "ready": 100, "lag": {"messages": 2, "bytes": 300, "age_ms": 1},
                "kinds": {"bindings": {"here": 5, "there": 4}}
            }
        },
        "requests": {"INVITE": 3, "REGISTER": 9},
        "answers": [
            {"method": "INVITE", "class": 2, "count": 2}, {"method": "INVITE", "class": 5, "count": 1},
            {"method": "REGISTER", "class": 4, "count": 9}
        ],
        "latencies": [
            {"method": "INVITE", "outcome": "forwarded", "buckets": [[0.00005, 1], [1.0, 0], [null, 2]], "sum_s": 4.5},
            {"method": "REGISTER", "outcome": "answered", "buckets": [[0.00005, 1], [null, 0]], "sum_s": 0.00001}
        ],
        "kernel_drops": {"udp:192.0.2.5:5060": 11},
        "gateways": [{
            "name": "carrier-a", "uri": "sip:c", "priority": 1, "weight": 1, "calls": 2, "calls_max": 3,
            "state": "up", "since_s": 1, "tried": 5, "failed": 1
        }],
        "registrations": [{
            "name": "carrier", "address": "sip:a@c", "registrar": "sip:c", "state": "registered", "failures": 0
        }]
    }))
    .expect("it is a view");
    let process = ProcessFigures {
        cpu: Duration::from_millis(1_500),
        resident_bytes: 4_096,
        threads: 3,
        open_files: Some(9),
        started: Duration::from_secs(1_700_000_000),
    };
    let processes = ["guardian", "engine", "exporter"].map(|name| (name, process)).to_vec();
    Figures { part: Part::Member(Some(Box::new(view()))), server: Some(server), processes }
}

fn view() -> ClusterView {
    let node = |name: &str, stance: &str, is_this| NodeView {
        name: name.to_owned(),
        is_this,
        stance: stance.to_owned(),
        ready: 100,
        voter: VoterView { votes: true, is_able: true, heard_ms: Some(12), ..VoterView::default() },
        ..NodeView::default()
    };
    ClusterView {
        node: "a".to_owned(),
        role: "active".to_owned(),
        epoch: 7,
        lease_ms: 500,
        lease_left_ms: Some(381),
        votes: 3,
        votes_needed: 2,
        takeovers: BTreeMap::from([("peer silent".to_owned(), 1)]),
        losses: BTreeMap::from([("handed over".to_owned(), 1)]),
        nodes: vec![node("a", "active", true), node("b\"\n", "silent", false)],
        witness: Some(VoterView { heard_ms: Some(200), is_able: true, ..VoterView::default() }),
        paths: vec![PathView {
            to: "b".to_owned(),
            ours: "192.0.2.1:7950".to_owned(),
            ..PathView::default()
        }],
        checks: vec![CheckView { name: "carrier".to_owned(), failing: None }],
        gate: GateView {
            kind: "program".to_owned(),
            passed: Some(1),
            dropped: Some(2),
            passed_on: Some(3),
            ..GateView::default()
        },
        link: LinkView {
            messages: 5,
            discarded: vec![DiscardView { cause: "wrong key".to_owned(), count: 1, last_source: None }],
        },
        hooks: vec![HookView { hook: "on_active".to_owned(), ago_s: 1, failed: None }],
        ..ClusterView::default()
    }
}

/// A scrape as it was read: the kind of each family, and the value of each sample.
#[derive(Debug)]
struct Scrape {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, String>,
}

/// Reads the text by the rules of the format, and by those of OpenMetrics if it ends as such.
fn read(text: &str) -> Scrape {
    assert!(text.ends_with('\n'));
    let is_open = text.ends_with("\n# EOF\n");
    let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let (mut helped, mut family) = (None, String::new());
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a help has a text");
            assert!(help.ends_with('.'), "{line}");
            helped = Some(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type has a kind");
            assert_eq!(helped.take().as_deref(), Some(name), "a help comes before each type");
            assert!(matches!(kind, "gauge" | "counter" | "histogram"), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
            family = name.to_owned();
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample has a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = sample.split('{').next().unwrap_or_default();
            let suffixes: &[&str] = match (kinds[&family].as_str(), is_open) {
                ("histogram", _) => &["_bucket", "_sum", "_count"],
                ("counter", true) => &["_total"],
                _ => &[""],
            };
            let fits = suffixes.iter().any(|suffix| name == format!("{family}{suffix}"));
            assert!(fits, "{line} stands below {family}");
            labels(sample);
            assert!(samples.insert(sample.to_owned(), value.to_owned()).is_none(), "{sample} comes twice");
        }
    }
    Scrape { kinds, samples }
}

/// The labels of a sample, each a name and an escaped value in quotes.
fn labels(sample: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = sample.split_once('{') else { return Vec::new() };
    let mut rest = rest.strip_suffix('}').expect("the brackets close");
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").expect("a label has a value");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{sample}");
        let mut end = None;
        let mut is_escaped = false;
        for (place, letter) in value.char_indices() {
            match letter {
                _ if is_escaped => {
                    assert!(matches!(letter, '\\' | '"' | 'n'), "{sample}");
                    is_escaped = false;
                }
                '\\' => is_escaped = true,
                '"' => {
                    end = Some(place);
                    break;
                }
                _ => {}
            }
        }
        let end = end.expect("the quotes close");
        all.push((name.to_owned(), value[..end].to_owned()));
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    all
}

fn names_of_samples() -> BTreeSet<String> {
    let Scrape { kinds, samples } = read(&whole().write(Form::Text));
    let samples = samples.keys().map(|sample| sample.split('{').next().unwrap_or_default().to_owned());
    // A family without a sample is exported too, as soon as there is something to be told.
    samples.chain(kinds.into_keys()).collect()
}

/// All words of a text that look like metrics.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("tandem_")).map(str::to_owned).collect()
}

/// Metrics that are selected by the value of a label, such as `name{label="value"}`.
fn selections(text: &str) -> Vec<(String, String, String)> {
    let text = text.replace("\\\"", "\"");
    let mut found = Vec::new();
    for (place, _) in text.match_indices('{') {
        let name: String = text[..place]
            .chars()
            .rev()
            .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
            .collect();
        let name: String = name.chars().rev().collect();
        let Some((inside, _)) = text[place + 1..].split_once('}').filter(|_| name.starts_with("tandem_"))
        else {
            continue;
        };
        for matcher in inside.split(',') {
            if let Some((label, value)) = matcher.split_once("=\"") {
                found.push((name.clone(), label.trim().to_owned(), value.trim_end_matches('"').to_owned()));
            }
        }
    }
    found.retain(|(_, label, _)| !label.ends_with(['!', '~']));
    found
}
