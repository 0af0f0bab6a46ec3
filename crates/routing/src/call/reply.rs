//! Responses that this server makes itself.

use bytes::Bytes;
use sip::{Message, Name, ResponseBuilder, Status};

use super::tag;
use crate::{Keyring, Settings};

/// What a request is answered with, short of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// The status.
    pub(super) status: Status,
    /// The reason phrase, if not the usual one.
    pub(super) reason: Option<&'static str>,
    /// Header fields besides those that every response has.
    pub(super) headers: Vec<(Name, Vec<u8>)>,
}

/// Seconds after which a client may try again when something was not there for the moment.
const RETRY_AFTER_SECONDS: &[u8] = b"5";

/// Room for nearly every response.
const BYTES_USUAL: usize = 1_024;

impl Reply {
    /// A bare response.
    pub(super) fn new(status: Status) -> Self {
        Self { status, reason: None, headers: Vec::new() }
    }

    /// The same with another reason phrase.
    pub(super) fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The same with one header field more.
    pub(super) fn with(mut self, name: Name, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A refusal for the moment.
    pub(super) fn later(status: Status) -> Self {
        Self::new(status).with(Name::RetryAfter, RETRY_AFTER_SECONDS)
    }

    /// The whole response to `request`. All but a 100 get a To tag.
    // RFC 3261 §8.2.6.2: the To tag is the same in all responses to one request.
    pub(super) fn write(&self, request: &Message<'_>, keyring: &Keyring, settings: &Settings) -> Bytes {
        let mut builder = ResponseBuilder::new(request, self.status);
        if let Some(reason) = self.reason {
            builder.reason(reason);
        }
        if self.status != Status::TRYING {
            builder.to_tag(&tag::derived(&keyring.tag, request));
        }
        for (name, value) in &self.headers {
            builder.header(*name, value);
        }
        if let Some(server) = &settings.server {
            builder.header(Name::Server, server.as_bytes());
        }
        let mut bytes = Vec::with_capacity(BYTES_USUAL);
        builder.write(&mut bytes);
        // A transaction keeps it for half a minute: a copy without spare room is one allocation and half the memory.
        Bytes::copy_from_slice(&bytes)
    }
}
