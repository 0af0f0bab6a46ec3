//! Session descriptions (RFC 8866), read in place, and written again with other addresses.
//!
//! A description is read only as far as a relay needs it: where media is wanted, over what, on which port. Whatever else
//! is in it is not looked at and stays as it is. What is read keeps its place in the bytes, so that a change is an edit
//! of these places; a description that is not changed is the same bytes.
//!
//! It is lenient with what leads nobody astray (missing `o=`, `s=` or `t=`, a bare LF, an empty line at the end, a last
//! line without an end) and strict where two readers could see different media: then it is [`Malformed`].

mod address;
mod attribute;
mod line;
mod media;
mod rewrite;

use std::fmt;

pub use address::Address;
pub use attribute::Direction;
pub use line::LINES_MAX;
pub use media::{Carriage, Media, RtcpPort};
pub use rewrite::{LinePorts, Origin, Rewrite};

use address::{NoAddress, Place};
use attribute::{Attribute, Detour};
use line::Line;

/// No SIP message that this server takes has a larger body.
pub const BYTES_MAX: usize = 65_535;

/// Media lines of one description: conferences with video have about ten.
pub const MEDIA_MAX: usize = 32;

/// Clock rates that are remembered of one media line.
const CLOCK_RATES_MAX: usize = 32;

/// The sender's bytes are no session description that a relay can take part in. Lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It has more than [`BYTES_MAX`] bytes.
    TooLarge,
    /// It has more than [`LINES_MAX`] lines.
    TooManyLines,
    /// It has more than [`MEDIA_MAX`] media lines.
    TooManyMedia,
    /// It does not begin with `v=0`.
    NoVersion,
    /// A line is not a letter, `=` and a value.
    Line(usize),
    /// A media line has no media, port and protocol.
    Media(usize),
    /// A `c=` can not be read, or is the second one of its section.
    Connection(usize),
    /// An `a=rtcp` can not be read, or is the second one of its media line.
    Rtcp(usize),
    /// The media line has no address, neither its own nor the session's.
    NoConnection(usize),
    /// Media is sent to a group, which is no affair of a relay.
    Multicast(usize),
    /// It can be reached by ICE alone: its own addresses are told later, by which this relay does not go.
    NeedsIce,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(formatter, "the description has more than {BYTES_MAX} bytes"),
            Self::TooManyLines => write!(formatter, "the description has more than {LINES_MAX} lines"),
            Self::TooManyMedia => write!(formatter, "the description has more than {MEDIA_MAX} media lines"),
            Self::NoVersion => write!(formatter, "the description does not begin with v=0"),
            Self::Line(line) => write!(formatter, "line {line} is not of the form x=value"),
            Self::Media(line) => write!(formatter, "line {line} is no m= with media, port and protocol"),
            Self::Connection(line) => {
                write!(formatter, "line {line} is no c= that could be read, or a second one")
            }
            Self::Rtcp(line) => {
                write!(formatter, "line {line} is no a=rtcp that could be read, or a second one")
            }
            Self::NoConnection(line) => write!(formatter, "the media of line {line} have no c="),
            Self::Multicast(line) => write!(formatter, "line {line} names a multicast group"),
            Self::NeedsIce => write!(formatter, "the description has no address but by ICE"),
        }
    }
}

/// A session description in its bytes.
#[derive(Clone, Debug)]
pub struct Description<'a> {
    bytes: &'a [u8],
    lines: Vec<Line>,
    /// Where `o=` has its address.
    origin: Option<Place>,
    connection: Option<Place>,
    /// Lines before the first media line that would lead past the relay.
    detours: Vec<usize>,
    media: Vec<Media>,
}

impl<'a> Description<'a> {
    /// Reads a description.
    ///
    /// # Errors
    ///
    /// It has media that a relay could not carry without leading somebody astray.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() > BYTES_MAX {
            return Err(Malformed::TooLarge);
        }
        let lines = line::read(bytes)?;
        // RFC 8866 §5.1: it is the first line, and zero is the only version.
        let begins = lines
            .first()
            .is_some_and(|line| line.kind == Some(b'v') && bytes[line.value()].trim_ascii_end() == b"0");
        if !begins {
            return Err(Malformed::NoVersion);
        }
        let mut description =
            Self { bytes, lines, origin: None, connection: None, detours: Vec::new(), media: Vec::new() };
        let mut session = Session::default();
        for index in 0..description.lines.len() {
            description.read_line(index, &mut session)?;
        }
        description.finish(&session)?;
        Ok(description)
    }

    /// Its media lines, in their order.
    pub fn media(&self) -> &[Media] {
        &self.media
    }

    /// The bytes that it was read from.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn read_line(&mut self, index: usize, session: &mut Session) -> Result<(), Malformed> {
        let line = self.lines[index];
        let number = index + 1;
        match line.kind {
            Some(b'm') => {
                if self.media.len() == MEDIA_MAX {
                    return Err(Malformed::TooManyMedia);
                }
                let media = Media::read(self.bytes, line.value(), index).ok_or(Malformed::Media(number))?;
                self.media.push(media);
            }
            Some(b'c') => {
                let place = address::read(self.bytes, line.value()).map_err(|reason| match reason {
                    NoAddress::Malformed => Malformed::Connection(number),
                    NoAddress::Multicast => Malformed::Multicast(number),
                })?;
                let section = match self.media.last_mut() {
                    Some(media) => &mut media.connection,
                    None => &mut self.connection,
                };
                // RFC 8866 §5.7: several are for layers of multicast.
                if section.replace(place).is_some() {
                    return Err(Malformed::Connection(number));
                }
            }
            Some(b'o') if self.media.is_empty() => {
                let start = line::words(self.bytes, line.value()).nth(3).map(|network| network.start);
                self.origin = start.and_then(|start| address::read(self.bytes, start..line.end).ok());
            }
            Some(b'a') => {
                let attribute =
                    attribute::read(self.bytes, line.value()).map_err(|()| Malformed::Rtcp(number))?;
                if let (Some(Attribute::Rtcp { .. }), Some(media)) = (&attribute, self.media.last())
                    && media.rtcp.is_some()
                {
                    return Err(Malformed::Rtcp(number));
                }
                self.take_attribute(index, attribute, session);
            }
            _ => {}
        }
        Ok(())
    }

    fn take_attribute(&mut self, index: usize, attribute: Option<Attribute>, session: &mut Session) {
        match (attribute, self.media.last_mut()) {
            (Some(Attribute::Direction(direction)), Some(media)) => media.direction = Some(direction),
            (Some(Attribute::Direction(direction)), None) => session.direction = direction,
            (Some(Attribute::Detour(detour)), media) => {
                let (detours, speaks_ice) = match media {
                    Some(media) => (&mut media.detours, &mut media.speaks_ice),
                    None => (&mut self.detours, &mut session.speaks_ice),
                };
                detours.push(index);
                *speaks_ice |= detour == Detour::IceUsername;
            }
            (Some(Attribute::Rtcp { port, port_span, place }), Some(media)) => {
                media.rtcp = Some(RtcpPort { port, port_span, place });
            }
            (Some(Attribute::RtcpMux), Some(media)) => media.is_muxed = true,
            (Some(Attribute::ClockRate { payload, rate }), Some(media)) => {
                if media.clock_rates.len() < CLOCK_RATES_MAX {
                    media.clock_rates.push((payload, rate));
                }
            }
            // RFC 3605 §2.1 and RFC 5761 §5.1.1: they belong to a media line.
            (Some(_), None) | (None, _) => {}
        }
    }

    /// What can be said only when all is read.
    fn finish(&mut self, session: &Session) -> Result<(), Malformed> {
        for media in &mut self.media {
            media.direction.get_or_insert(session.direction);
            media.speaks_ice |= session.speaks_ice;
            let connection = media.connection.as_ref().or(self.connection.as_ref());
            let Some(connection) = connection else {
                // RFC 8866 §5.7: each has one or the session has; a line that is rejected is good for nothing.
                if media.port == 0 {
                    continue;
                }
                return Err(Malformed::NoConnection(media.line + 1));
            };
            media.address = connection.address;
            // RFC 8840: port 9 at no address is what stands there before there are candidates.
            if media.speaks_ice && media.port == 9 && media.address == Address::Nowhere {
                return Err(Malformed::NeedsIce);
            }
        }
        Ok(())
    }
}

/// What the session says for all media that say nothing themselves.
#[derive(Default)]
struct Session {
    direction: Direction,
    speaks_ice: bool,
}

#[cfg(test)]
mod tests;
