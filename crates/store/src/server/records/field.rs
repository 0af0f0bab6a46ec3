//! What of a record can stand in a column.

use clock::WallTime;

use crate::records::Line;

/// One of the things that a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The 32 digits that tell calls apart.
    Id,
    /// When the INVITE came.
    Start,
    /// When somebody answered.
    Answer,
    /// When the call ended.
    End,
    /// When somebody answered, or when the call ended if nobody did.
    AnswerOrEnd,
    /// Milliseconds until the answer or the end.
    SetupMs,
    /// The same in seconds.
    SetupS,
    /// Milliseconds from the answer to the end.
    TalkMs,
    /// The same in whole seconds.
    TalkS,
    /// The same in seconds with their parts.
    Talk,
    /// `INVITE`.
    Method,
    /// The final response.
    Code,
    /// Its reason phrase.
    Reason,
    /// Who ended it.
    EndedBy,
    /// Why.
    Why,
    /// From.
    Caller,
    /// What stands before the @ in it.
    CallerUser,
    /// What stands behind.
    CallerDomain,
    /// To.
    Callee,
    /// What stands before the @ in it.
    CalleeUser,
    /// What stands behind.
    CalleeDomain,
    /// The Request-URI.
    RequestUri,
    /// What stands before the @ in it.
    RequestUser,
    /// What stands behind.
    RequestDomain,
    /// By what right.
    Admitted,
    /// Whose it is.
    Account,
    /// Transport, address and port that it came from.
    Source,
    /// The address of these.
    SourceIp,
    /// The gateway that it came from.
    GatewayIn,
    /// The gateway that it went to.
    GatewayOut,
    /// The Call-ID.
    CallId,
    /// The caller's tag.
    FromTag,
    /// The callee's tag.
    ToTag,
    /// Who has written it.
    Node,
    /// Under which epoch.
    Epoch,
    /// Milliseconds from the INVITE until its media were counted.
    MediaAfterMs,
    /// Packets that came from the caller.
    CallerPackets,
    /// Their bytes.
    CallerOctets,
    /// Those that did not come.
    CallerLost,
    /// Their jitter in microseconds.
    CallerJitterUs,
    /// Microseconds to the caller and back.
    CallerRoundTripUs,
    /// What a listener would say of what came from the caller, in hundredths.
    CallerMos,
    /// Packets that came from the callee.
    CalleePackets,
    /// Their bytes.
    CalleeOctets,
    /// Those that did not come.
    CalleeLost,
    /// Their jitter in microseconds.
    CalleeJitterUs,
    /// Microseconds to the callee and back.
    CalleeRoundTripUs,
    /// What a listener would say of what came from the callee, in hundredths.
    CalleeMos,
}

/// What stands in a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content<'a> {
    /// A text.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// Seconds with their parts: milliseconds.
    Seconds(u64),
    /// A time.
    Time(WallTime),
    /// What the column has by itself.
    Nothing,
}

/// What a field is by nature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Words.
    Text,
    /// A number.
    Number,
    /// A time.
    Time,
}

/// The names that the configuration has for them.
const NAMES: [(&str, Field); 48] = [
    ("id", Field::Id),
    ("start", Field::Start),
    ("answer", Field::Answer),
    ("end", Field::End),
    ("answer_or_end", Field::AnswerOrEnd),
    ("setup_ms", Field::SetupMs),
    ("setup_s", Field::SetupS),
    ("talk_ms", Field::TalkMs),
    ("talk_s", Field::TalkS),
    ("talk", Field::Talk),
    ("method", Field::Method),
    ("code", Field::Code),
    ("reason", Field::Reason),
    ("ended_by", Field::EndedBy),
    ("why", Field::Why),
    ("caller", Field::Caller),
    ("caller_user", Field::CallerUser),
    ("caller_domain", Field::CallerDomain),
    ("callee", Field::Callee),
    ("callee_user", Field::CalleeUser),
    ("callee_domain", Field::CalleeDomain),
    ("request_uri", Field::RequestUri),
    ("request_user", Field::RequestUser),
    ("request_domain", Field::RequestDomain),
    ("admitted", Field::Admitted),
    ("account", Field::Account),
    ("source", Field::Source),
    ("source_ip", Field::SourceIp),
    ("gateway_in", Field::GatewayIn),
    ("gateway_out", Field::GatewayOut),
    ("call_id", Field::CallId),
    ("from_tag", Field::FromTag),
    ("to_tag", Field::ToTag),
    ("node", Field::Node),
    ("epoch", Field::Epoch),
    ("media_after_ms", Field::MediaAfterMs),
    ("caller_packets", Field::CallerPackets),
    ("caller_octets", Field::CallerOctets),
    ("caller_lost", Field::CallerLost),
    ("caller_jitter_us", Field::CallerJitterUs),
    ("caller_round_trip_us", Field::CallerRoundTripUs),
    ("caller_mos", Field::CallerMos),
    ("callee_packets", Field::CalleePackets),
    ("callee_octets", Field::CalleeOctets),
    ("callee_lost", Field::CalleeLost),
    ("callee_jitter_us", Field::CalleeJitterUs),
    ("callee_round_trip_us", Field::CalleeRoundTripUs),
    ("callee_mos", Field::CalleeMos),
];

impl Field {
    /// That of a name in the configuration.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    /// All names that the configuration can have.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// What it is by nature.
    pub fn nature(self) -> Nature {
        match self {
            Self::Start | Self::Answer | Self::End | Self::AnswerOrEnd => Nature::Time,
            Self::SetupMs
            | Self::SetupS
            | Self::TalkMs
            | Self::TalkS
            | Self::Talk
            | Self::Code
            | Self::Epoch
            | Self::MediaAfterMs
            | Self::CallerPackets
            | Self::CallerOctets
            | Self::CallerLost
            | Self::CallerJitterUs
            | Self::CallerRoundTripUs
            | Self::CallerMos
            | Self::CalleePackets
            | Self::CalleeOctets
            | Self::CalleeLost
            | Self::CalleeJitterUs
            | Self::CalleeRoundTripUs
            | Self::CalleeMos => Nature::Number,
            _ => Nature::Text,
        }
    }

    /// What a record has of it.
    pub fn of(self, line: &Line) -> Content<'_> {
        match self {
            Self::Id => Content::Text(&line.id),
            Self::Start => Content::Time(line.started()),
            Self::Answer => line.answered().map_or(Content::Nothing, Content::Time),
            Self::End => Content::Time(line.ended()),
            Self::AnswerOrEnd => Content::Time(line.answered().unwrap_or_else(|| line.ended())),
            Self::SetupMs => Content::Number(line.setup_ms),
            Self::SetupS => Content::Number(line.setup_ms / 1_000),
            Self::TalkMs => Content::Number(line.talk_ms),
            Self::TalkS => Content::Number(line.talk_ms / 1_000),
            Self::Talk => Content::Seconds(line.talk_ms),
            Self::Method => Content::Text("INVITE"),
            Self::Code => Content::Number(u64::from(line.code)),
            Self::Reason => Content::Text(&line.reason),
            Self::EndedBy => Content::Text(&line.ended_by),
            Self::Why => Content::Text(&line.why),
            Self::Caller => Content::Text(&line.caller),
            Self::CallerUser => Content::Text(user(&line.caller)),
            Self::CallerDomain => Content::Text(domain(&line.caller)),
            Self::Callee => Content::Text(&line.callee),
            Self::CalleeUser => Content::Text(user(&line.callee)),
            Self::CalleeDomain => Content::Text(domain(&line.callee)),
            Self::RequestUri => Content::Text(&line.request_uri),
            Self::RequestUser => Content::Text(user(&line.request_uri)),
            Self::RequestDomain => Content::Text(domain(&line.request_uri)),
            Self::Admitted => Content::Text(&line.admitted),
            Self::Account => told(&line.account),
            Self::Source => Content::Text(&line.source),
            Self::SourceIp => Content::Text(address(&line.source)),
            Self::GatewayIn => told(&line.gateway_in),
            Self::GatewayOut => told(&line.gateway_out),
            Self::CallId => Content::Text(&line.call_id),
            Self::FromTag => Content::Text(&line.from_tag),
            Self::ToTag => Content::Text(&line.to_tag),
            Self::Node => Content::Text(&line.node),
            Self::Epoch => Content::Number(line.epoch),
            Self::MediaAfterMs => counted(line.media.media_after_ms),
            Self::CallerPackets => counted(line.media.caller_packets),
            Self::CallerOctets => counted(line.media.caller_octets),
            Self::CallerLost => counted(line.media.caller_lost),
            Self::CallerJitterUs => counted(line.media.caller_jitter_us),
            Self::CallerRoundTripUs => counted(line.media.caller_round_trip_us),
            Self::CallerMos => counted(line.media.caller_mos),
            Self::CalleePackets => counted(line.media.callee_packets),
            Self::CalleeOctets => counted(line.media.callee_octets),
            Self::CalleeLost => counted(line.media.callee_lost),
            Self::CalleeJitterUs => counted(line.media.callee_jitter_us),
            Self::CalleeRoundTripUs => counted(line.media.callee_round_trip_us),
            Self::CalleeMos => counted(line.media.callee_mos),
        }
    }
}

fn counted(number: Option<u64>) -> Content<'static> {
    number.map_or(Content::Nothing, Content::Number)
}

fn told(text: &Option<String>) -> Content<'_> {
    text.as_deref().map_or(Content::Nothing, Content::Text)
}

/// `alice` of `sip:alice@example.org;user=phone`, and `+4930` of `tel:+4930`.
fn user(uri: &str) -> &str {
    let rest = without_scheme(uri);
    match rest.split_once('@') {
        Some((user, _)) => user.split([';', ':']).next().unwrap_or_default(),
        None if uri.starts_with("tel:") => rest.split(';').next().unwrap_or_default(),
        None => "",
    }
}

fn domain(uri: &str) -> &str {
    let rest = without_scheme(uri);
    let host = match rest.split_once('@') {
        Some((_, host)) => host,
        None if uri.starts_with("tel:") => "",
        None => rest,
    };
    let end = match host.find(']') {
        Some(bracket) => bracket + 1,
        None => host.find([';', ':', '?']).unwrap_or(host.len()),
    };
    &host[..end]
}

fn without_scheme(uri: &str) -> &str {
    ["sip:", "sips:", "tel:"].iter().find_map(|scheme| uri.strip_prefix(scheme)).unwrap_or(uri)
}

/// `192.0.2.1` of `udp:192.0.2.1:5060`.
fn address(source: &str) -> &str {
    let place = source.split_once(':').map_or(source, |(_, place)| place);
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_uri_are_found_whatever_it_is() {
        for (uri, wanted) in [
            ("sip:alice@example.org", ("alice", "example.org")),
            ("alice@example.org", ("alice", "example.org")),
            ("sip:+4930;phone-context=de:secret@[2001:db8::1]:5060;user=phone", ("+4930", "[2001:db8::1]")),
            ("sips:example.org:5061", ("", "example.org")),
            ("tel:+4930123;ext=1", ("+4930123", "")),
            ("", ("", "")),
            ("sip:@", ("", "")),
            ("sip:a@[", ("a", "[")),
        ] {
            assert_eq!((user(uri), domain(uri)), wanted, "{uri}");
        }
        assert_eq!(address("udp:192.0.2.1:5060"), "192.0.2.1");
        assert_eq!(address("tcp:[2001:db8::1]:5060"), "2001:db8::1");
        assert_eq!(address(""), "");
    }

    #[test]
    fn each_name_means_one_field() {
        for name in Field::names() {
            assert!(Field::named(name).is_some(), "{name}");
        }
        assert_eq!(Field::named("callid"), None);
    }
}
