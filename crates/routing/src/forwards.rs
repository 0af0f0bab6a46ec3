//! Where the calls of an account go when its phones do not take them: what its operator has set.

use std::fmt;
use std::time::Duration;

use sip::{Aor, Uri};

/// Longer targets are refused: they stand in the Request-URI of every call that is forwarded.
const TARGET_BYTES_MAX: usize = 256;

/// Where calls for an account go instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwards {
    /// Every call, before a phone rings.
    pub always: Option<ForwardTarget>,
    /// Calls that a phone refused as busy or declined.
    pub busy: Option<ForwardTarget>,
    /// Calls that nobody took in time.
    pub no_answer: Option<ForwardTarget>,
    /// How long the phones ring before; `None`: the time-out of serial forking.
    pub no_answer_after: Option<Duration>,
    /// Calls while no phone is registered, or none can be reached.
    pub not_registered: Option<ForwardTarget>,
}

/// A URI that calls are forwarded to, `sip:` or `tel:`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForwardTarget(Box<str>);

/// Why a call is forwarded, in the words of RFC 5806 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardReason {
    /// The account wants no calls.
    Unconditional,
    /// A phone was busy, or its user declined.
    UserBusy,
    /// Nobody answered.
    NoAnswer,
    /// No phone could be reached.
    Unavailable,
}

impl Forwards {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.always.is_none()
            && self.busy.is_none()
            && self.no_answer.is_none()
            && self.not_registered.is_none()
    }

    /// Where a call goes for this reason. What is said of calls that nobody answers is also meant for those that
    /// reach no phone, and the other way round, where only one of them is set.
    pub fn target(&self, reason: ForwardReason) -> Option<&ForwardTarget> {
        match reason {
            ForwardReason::Unconditional => self.always.as_ref(),
            ForwardReason::UserBusy => self.busy.as_ref(),
            ForwardReason::NoAnswer => self.no_answer.as_ref(),
            ForwardReason::Unavailable => self.not_registered.as_ref().or(self.no_answer.as_ref()),
        }
    }
}

impl ForwardTarget {
    /// Reads a target as an operator writes it: a `sip:` or `tel:` URI, `USER@HOST`, or a user or number within
    /// `domain`. `None` for anything else.
    pub fn parse(text: &str, domain: &str) -> Option<Self> {
        let uri = if ["sip:", "tel:"].iter().any(|scheme| text.starts_with(scheme)) {
            text.to_owned()
        } else if text.contains('@') {
            format!("sip:{text}")
        } else {
            format!("sip:{text}@{domain}")
        };
        // A scheme that is not served looks like a user with a password.
        let has_user = match Uri::parse(uri.as_bytes()).ok()? {
            Uri::Sip(sip) => sip.user.is_some() && sip.password.is_none() && !sip.secure,
            Uri::Tel(_) => true,
            Uri::Other { .. } => false,
        };
        (has_user && uri.len() <= TARGET_BYTES_MAX).then(|| Self(uri.into_boxed_str()))
    }

    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of record that it would be, if it is one of this server's.
    pub fn aor(&self) -> Option<Aor> {
        Aor::parse(&self.0)
    }
}

impl ForwardReason {
    /// The word of RFC 5806 §4.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unconditional => "unconditional",
            Self::UserBusy => "user-busy",
            Self::NoAnswer => "no-answer",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for ForwardTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ForwardTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_uri_an_address_or_a_number_of_the_own_domain() {
        for (text, uri) in [
            ("sip:mail@192.0.2.9:5080;transport=tcp", Some("sip:mail@192.0.2.9:5080;transport=tcp")),
            ("tel:+4930123456", Some("tel:+4930123456")),
            ("bob@example.org", Some("sip:bob@example.org")),
            ("*98", Some("sip:*98@example.com")),
            ("+4930123456", Some("sip:+4930123456@example.com")),
            ("sips:bob@example.org", None),
            ("mailto:bob@example.org", None),
            ("sip:example.org", None),
            ("", None),
            ("two words", None),
            ("bob@", None),
            ("<sip:bob@example.org>", None),
        ] {
            let target = ForwardTarget::parse(text, "example.com");
            assert_eq!(target.as_ref().map(ForwardTarget::as_str), uri, "{text}");
        }
        assert_eq!(ForwardTarget::parse(&"1".repeat(300), "example.com"), None);
    }

    #[test]
    fn whoever_wants_calls_that_nobody_answers_elsewhere_wants_those_that_reach_no_phone_there_too() {
        let there = ForwardTarget::parse("*98", "example.org");
        let forwards = Forwards { no_answer: there.clone(), ..Forwards::default() };

        assert_eq!(forwards.target(ForwardReason::Unavailable), there.as_ref());
        assert_eq!(forwards.target(ForwardReason::UserBusy), None);
        assert_eq!(forwards.target(ForwardReason::Unconditional), None);
    }
}
