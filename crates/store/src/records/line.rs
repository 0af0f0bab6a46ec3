//! One record as a line of JSON.

use std::time::Duration;

use clock::WallTime;
use engine::CallMedia;
use lease::Epoch;
use routing::CallRecord;
use serde::{Deserialize, Serialize};

use super::calendar::utc;

/// A record as it stands in a file. Fields may be added; none changes its meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Tells calls apart: 32 digits.
    pub id: String,
    /// When the INVITE came.
    pub start: String,
    /// When somebody answered.
    pub answer: Option<String>,
    /// When the call ended.
    pub end: String,
    /// `start` in milliseconds since 1970.
    pub start_ms: u64,
    /// From the INVITE to the answer, or to the end if there was none.
    pub setup_ms: u64,
    /// From the answer to the end.
    pub talk_ms: u64,
    /// The final response.
    pub code: u16,
    /// Its reason phrase.
    pub reason: String,
    /// `caller`, `callee` or `server`.
    pub ended_by: String,
    /// Why, in one word.
    pub why: String,
    /// From.
    pub caller: String,
    /// To.
    pub callee: String,
    /// The Request-URI.
    pub request_uri: String,
    /// By what right the call was admitted.
    pub admitted: String,
    /// Whose it is.
    pub account: Option<String>,
    /// Where the INVITE came from.
    pub source: String,
    /// The gateway that it came from.
    pub gateway_in: Option<String>,
    /// The gateway that it went to.
    pub gateway_out: Option<String>,
    /// The Call-ID.
    pub call_id: String,
    /// The caller's tag.
    pub from_tag: String,
    /// The callee's tag.
    pub to_tag: String,
    /// The node that has written this.
    pub node: String,
    /// The epoch of the lease under which it was active.
    pub epoch: u64,
    /// What is known of its media.
    #[serde(flatten)]
    pub media: LineMedia,
}

/// How the media of a call went. Numbers are whole, so that a line is read as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineMedia {
    /// Milliseconds from the INVITE until the counting began; `None`: nothing was counted, nor is anything of the rest known.
    pub media_after_ms: Option<u64>,
    /// Packets that came from the caller.
    pub caller_packets: Option<u64>,
    /// Their bytes.
    pub caller_octets: Option<u64>,
    /// Those that did not come.
    pub caller_lost: Option<u64>,
    /// Microseconds.
    pub caller_jitter_us: Option<u64>,
    /// Microseconds to the caller and back.
    pub caller_round_trip_us: Option<u64>,
    /// A mean opinion score in hundredths.
    pub caller_mos: Option<u64>,
    /// Packets that came from the callee.
    pub callee_packets: Option<u64>,
    /// Their bytes.
    pub callee_octets: Option<u64>,
    /// Those that did not come.
    pub callee_lost: Option<u64>,
    /// Microseconds.
    pub callee_jitter_us: Option<u64>,
    /// Microseconds to the callee and back.
    pub callee_round_trip_us: Option<u64>,
    /// A mean opinion score in hundredths.
    pub callee_mos: Option<u64>,
}

impl LineMedia {
    fn of(media: &CallMedia) -> Self {
        let (caller, callee) = (&media.figures.caller, &media.figures.callee);
        Self {
            media_after_ms: Some(millis(media.counted_after)),
            caller_packets: Some(caller.packets),
            caller_octets: Some(caller.octets),
            caller_lost: Some(caller.lost),
            caller_jitter_us: caller.jitter.map(micros),
            caller_round_trip_us: caller.round_trip.map(micros),
            caller_mos: caller.opinion.map(u64::from),
            callee_packets: Some(callee.packets),
            callee_octets: Some(callee.octets),
            callee_lost: Some(callee.lost),
            callee_jitter_us: callee.jitter.map(micros),
            callee_round_trip_us: callee.round_trip.map(micros),
            callee_mos: callee.opinion.map(u64::from),
        }
    }
}

impl Line {
    /// That of a record.
    pub fn of(record: &CallRecord, media: Option<&CallMedia>, node: &str, epoch: Epoch) -> Self {
        let CallRecord { started, answered_after, ended_after, ending, .. } = record;
        Self {
            id: format!("{:032x}", record.id),
            start: utc(*started),
            answer: record.answered().map(utc),
            end: utc(record.ended()),
            start_ms: started.as_millis(),
            setup_ms: millis(answered_after.unwrap_or(*ended_after)),
            talk_ms: millis(record.talk()),
            code: record.status.0,
            reason: record.reason.clone(),
            ended_by: ending.by().as_str().to_owned(),
            why: ending.why().to_owned(),
            caller: record.caller.clone(),
            callee: record.callee.clone(),
            request_uri: record.request_uri.clone(),
            admitted: record.right.as_str().to_owned(),
            account: record.account.clone(),
            source: record.source.clone(),
            gateway_in: record.gateway_in.clone(),
            gateway_out: record.gateway_out.clone(),
            call_id: record.call_id.clone(),
            from_tag: record.from_tag.clone(),
            to_tag: record.to_tag.clone(),
            node: node.to_owned(),
            epoch: epoch.0,
            media: media.map(LineMedia::of).unwrap_or_default(),
        }
    }

    /// Appends the line with its end.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Text and numbers can always be written, and a Vec takes all.
        let _ = serde_json::to_writer(&mut *out, self);
        out.push(b'\n');
    }

    /// When the INVITE came.
    pub fn started(&self) -> WallTime {
        WallTime::from_millis(self.start_ms)
    }

    /// When somebody answered.
    pub fn answered(&self) -> Option<WallTime> {
        self.answer.as_ref().map(|_| self.started() + Duration::from_millis(self.setup_ms))
    }

    /// When the call ended.
    pub fn ended(&self) -> WallTime {
        self.started() + Duration::from_millis(self.setup_ms.saturating_add(self.talk_ms))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
