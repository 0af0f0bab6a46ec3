//! What the server says of itself, as the command line is told it.

use std::time::Duration;

use engine::{Publication, PublicationWork, StoreState};
use sip::MethodName;
use transaction::Progress;
use transport::Transport;

use super::whole_seconds;
use crate::control::{
    BanView, CallView, ComparisonView, ContactView, CopyView, LatencyView, ListenerView, OverloadView,
    PublicationView, RegistrationView, RtpengineView, StoreView, StreamView, VoiceView,
};

pub(super) fn overload_view(overload: net::OverloadStatus) -> OverloadView {
    let [other, new_registrations, known_registrations, calls] = overload.refused_percent;
    OverloadView { lasts_s: overload.lasts.as_secs(), other, new_registrations, known_registrations, calls }
}

/// A call as it is shown.
pub(super) fn call_view(call: net::CallStatus) -> CallView {
    let net::CallStatus { view, streams, rtpengine } = call;
    let net::CallView { name: _, caller, callee, call_id, age, state, account, gateways } = view;
    let answered = match state {
        net::CallState::Ringing => None,
        net::CallState::Up(age) => Some(age),
    };
    CallView {
        caller,
        callee,
        state: if answered.is_some() { "up" } else { "ringing" }.to_owned(),
        began_s: age.as_secs(),
        up_s: answered.as_ref().map(Duration::as_secs),
        account,
        gateways,
        media: streams.iter().map(stream_view).collect(),
        rtpengine: rtpengine.map(|node| node.to_string()),
        call_id,
    }
}

pub(super) fn rtpengine_view(view: &media::ng::NodeView) -> RtpengineView {
    let media::ng::NodeView { node, is_up, counts } = view;
    RtpengineView {
        address: node.address.to_string(),
        weight: node.weight,
        up: *is_up,
        asked: counts.asked,
        repeated: counts.repeated,
        answered: counts.answered,
        refused: counts.refused,
        silent: counts.silent,
        late: counts.late,
        unsaid: counts.unsaid,
        malformed: counts.malformed,
    }
}

pub(super) fn stream_view(stream: &net::StreamFigures) -> StreamView {
    let net::StreamFigures { caller, callee, discards } = stream;
    StreamView {
        caller: voice_view(caller),
        callee: voice_view(callee),
        dropped: discards.strangers + discards.noise + discards.no_target,
    }
}

pub(super) fn voice_view(side: &net::SideFigures) -> VoiceView {
    let milliseconds = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
    VoiceView {
        from: side.source.map(|source| source.to_string()),
        packets: side.received.packets,
        lost: side.received.lost,
        jitter_ms: milliseconds(side.received.jitter),
        round_trip_ms: side.round_trip.map(milliseconds),
        opinion: side.opinion().map(|hundredths| f64::from(hundredths) / 100.0),
    }
}

/// Who is held, as it is shown: sources first.
pub(super) fn held_views(held: &net::Held) -> Vec<BanView> {
    let names = held.names.iter().map(|name| BanView {
        source: name.source.to_string(),
        account: Some(name.account.to_string()),
        measure: net::Measure::Slowed.name().to_owned(),
        cause: net::Cause::WrongCredentials.name().to_owned(),
        left_s: whole_seconds(name.left),
        count: name.failures,
    });
    held.sources.iter().map(source_view).chain(names).collect()
}

pub(super) fn source_view(ban: &net::Ban) -> BanView {
    BanView {
        source: ban.source.to_string(),
        account: None,
        measure: ban.measure.name().to_owned(),
        cause: ban.cause.name().to_owned(),
        left_s: whole_seconds(ban.left),
        count: ban.number,
    }
}

pub(super) fn listener_view(listener: &net::ListenerStatus) -> ListenerView {
    ListenerView {
        listener: format!("{}:{}", listener.transport, listener.local),
        advertise: listener.advertise.as_ref().map(|advertise| match advertise.port {
            Some(port) => format!("{}:{port}", advertise.host),
            None => advertise.host.clone(),
        }),
        digest: listener.digest,
    }
}

pub(super) fn latency_view(latency: &net::Latency) -> LatencyView {
    let method = match latency.method {
        MethodName::Other => "other",
        named => named.name(),
    };
    LatencyView {
        method: method.to_owned(),
        outcome: if latency.by == Progress::Forwarded { "forwarded" } else { "answered" }.to_owned(),
        buckets: latency
            .buckets
            .iter()
            .map(|(bound, figure)| (bound.map(|bound| bound.as_secs_f64()), *figure))
            .collect(),
        sum_s: latency.sum.as_secs_f64(),
    }
}

pub(super) fn kernel_drops(listener: &net::ListenerStatus) -> Option<(String, u64)> {
    let name = format!("{}:{}", listener.transport, listener.local);
    (listener.transport == Transport::Udp).then_some((name, listener.dropped_by_kernel))
}

pub(super) fn store_view(state: &StoreState) -> StoreView {
    StoreView {
        state: if state.failing.is_some() { "failing" } else { "ok" }.to_owned(),
        error: state.failing.as_ref().map(ToString::to_string),
        owed: state.owed,
        dropped: state.dropped,
        copy: state.copy.map(|copy| CopyView {
            accounts: copy.accounts,
            age_s: copy.age.map(|age| age.as_secs()),
            serving: copy.is_serving,
        }),
    }
}

pub(super) fn publication_view(publication: &Publication) -> PublicationView {
    let state = match publication.work {
        PublicationWork::None => "standby",
        PublicationWork::Comparing => "comparing",
        PublicationWork::Writing => "writing",
    };
    PublicationView {
        state: state.to_owned(),
        error: publication.failing.as_ref().map(|(error, _)| error.to_string()),
        away_s: publication.failing.as_ref().map_or(0, |(_, away)| away.as_secs()),
        owed: publication.owed,
        written: publication.written,
        removed: publication.removed,
        refused: publication.refused,
        comparisons: publication.comparisons,
        last: publication.last.as_ref().map(|last| ComparisonView {
            ago_s: last.ago.as_secs(),
            took_ms: u64::try_from(last.took.as_millis()).unwrap_or(u64::MAX),
            rows: last.rows,
            differing: last.differing,
            strange: last.strange,
        }),
    }
}

pub(super) fn registration_view(view: routing::RegistrationView) -> RegistrationView {
    let (last_answer_at, last_answer) = view.last_answer.map(|(at, answer)| (at.as_secs(), answer)).unzip();
    RegistrationView {
        name: view.name,
        address: view.address,
        registrar: view.registrar,
        state: view.state.name().to_owned(),
        granted_s: view.granted_for.map(|left| left.as_secs()),
        last_answer,
        last_answer_at,
        next_s: view.next_in.map(|left| left.as_secs()),
        failures: view.failures,
    }
}

pub(super) fn contact_view(binding: &net::BindingView) -> ContactView {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (transport, local) = binding.listener;
    ContactView {
        aor: binding.aor.to_string(),
        contact: text(&binding.contact),
        received: format!("{transport}:{}", binding.received),
        listener: format!("{transport}:{local}"),
        reachable: binding.is_reachable,
        expires_s: binding.expires.as_secs(),
        q: binding.q.map(|q| f64::from(q) / 1_000.0),
        instance: binding.instance.as_deref().map(text),
        reg_id: binding.reg_id,
        path: binding.path.iter().map(|value| text(value)).collect(),
        user_agent: binding.user_agent.as_deref().map(text),
        nat: binding.nat,
    }
}
