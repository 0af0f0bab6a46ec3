//! What the command line is told of calls, and of those who relay their media.

use serde::{Deserialize, Serialize};

/// What the media relay has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayView {
    /// Calls whose media it knows; on a standby those of the active node.
    pub calls: usize,
    /// Ports in use by calls that are here, RTP and RTCP counted apart.
    pub ports_used: usize,
    /// Ports in all.
    pub ports: usize,
    /// Streams that the kernel sends on by itself, each direction apart.
    #[serde(default)]
    pub in_kernel: usize,
    /// Why the kernel sends on none, if it can not or is not to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_fast_path: Option<String>,
}

/// One rtpengine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtpengineView {
    /// Where it listens for commands.
    pub address: String,
    /// Its share of new calls.
    pub weight: u16,
    /// Whether it answers; a standby asks none and takes each to be up.
    pub up: bool,
    /// Commands that it was given.
    pub asked: u64,
    /// Those that were said again, each time.
    pub repeated: u64,
    /// Those that it answered in time.
    pub answered: u64,
    /// Those of them that it refused.
    pub refused: u64,
    /// Those that it did not answer.
    pub silent: u64,
    /// Answers that came when nobody waited any more.
    pub late: u64,
    /// Ends of calls that it was not told.
    pub unsaid: u64,
    /// Datagrams of it that are no answers.
    pub malformed: u64,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallView {
    /// The URI of who calls.
    pub caller: String,
    /// The URI of who is called.
    pub callee: String,
    /// `ringing` or `up`.
    pub state: String,
    /// For how many seconds it has been there.
    pub began_s: u64,
    /// For how many seconds somebody has talked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub up_s: Option<u64>,
    /// The account whose limit it counts for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<String>,
    /// The gateways that have it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gateways: Vec<String>,
    /// The streams that pass the relay.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub media: Vec<StreamView>,
    /// The rtpengine that has its media.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rtpengine: Option<String>,
    /// The Call-ID.
    pub call_id: String,
}

/// A stream of media.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamView {
    /// What comes from the caller.
    pub caller: VoiceView,
    /// What comes from the callee.
    pub callee: VoiceView,
    /// Packets of others, or for nobody.
    pub dropped: u64,
}

/// What comes from one side of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VoiceView {
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// Packets that came.
    pub packets: u64,
    /// Packets that were sent, by their numbers, and did not come.
    pub lost: u64,
    /// How unevenly they come (RFC 3550 §6.4.1).
    pub jitter_ms: f64,
    /// How long a packet takes to it and back, by its reports.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub round_trip_ms: Option<f64>,
    /// What a listener would say of it, from 1 to 4.5: an estimate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub opinion: Option<f64>,
}
