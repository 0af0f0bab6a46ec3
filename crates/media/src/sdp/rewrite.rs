//! A description with the relay's addresses in it.

use std::net::IpAddr;
use std::ops::Range;

use super::address::{self, Address, Place};
use super::media::{Media, RtcpPort};
use super::{Carriage, Description};

/// Whether the address in `o=` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It stays: it only serves to tell one session from another (RFC 8866 §5.2).
    Kept,
    /// The relay's address stands there too, so that no address of a phone is told.
    Replaced,
}

/// The relay's ports for one media line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinePorts {
    /// The line stays as it is, and so does where it leads.
    Left,
    /// Media and RTCP come here.
    Relayed {
        /// For media.
        rtp: u16,
        /// For RTCP, where it has a port of its own.
        rtcp: u16,
    },
}

/// What is to stand in a description.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite<'a> {
    /// The relay's address, as the reader of the description reaches it.
    pub address: IpAddr,
    /// For each media line; one that is not told is left.
    pub ports: &'a [LinePorts],
    /// What becomes of `o=`.
    pub origin: Origin,
}

impl Description<'_> {
    /// The description's bytes with the relay's addresses and ports in it.
    ///
    /// Lines that are not relayed, all other attributes, directions, keys and unknown lines stay byte for byte; a line
    /// that is on hold by its address stays so. If no line is relayed the bytes are those that were read.
    pub fn rewrite(&self, rewrite: &Rewrite<'_>) -> Vec<u8> {
        let relayed = |index: usize, media: &Media| match rewrite.ports.get(index) {
            Some(LinePorts::Relayed { rtp, rtcp }) if media.is_relayed() => Some((*rtp, *rtcp)),
            _ => None,
        };
        if !self.media.iter().enumerate().any(|(index, media)| relayed(index, media).is_some()) {
            return self.bytes.to_vec();
        }
        let mut edits = Edits::default();
        if rewrite.origin == Origin::Replaced
            && let Some(origin) = &self.origin
        {
            edits.replace(origin.span.clone(), address::write(rewrite.address));
        }
        if let Some(connection) = &self.connection {
            self.connect(connection, rewrite.address, &mut edits);
        }
        let mut removed = self.detours.clone();
        for (index, media) in self.media.iter().enumerate() {
            match relayed(index, media) {
                Some((rtp, rtcp)) => {
                    removed.extend(&media.detours);
                    self.relay(media, rewrite.address, rtp, rtcp, &mut edits);
                }
                None => self.keep_where_it_leads(media, &mut edits),
            }
        }
        removed.sort_unstable();
        self.remove(&removed, &mut edits);
        edits.apply(self.bytes)
    }

    fn relay(&self, media: &Media, address: IpAddr, rtp: u16, rtcp: u16, edits: &mut Edits) {
        edits.replace(media.port_span.clone(), rtp.to_string());
        if let Some(connection) = &media.connection {
            self.connect(connection, address, edits);
        }
        if let Some(RtcpPort { port, port_span, place }) = &media.rtcp {
            // RFC 5761 §5.1.1: who has RTCP on the port of RTP may say so here too.
            let told = if *port == media.port && media.carriage != Carriage::Datagrams { rtp } else { rtcp };
            if *port != 0 {
                edits.replace(port_span.clone(), told.to_string());
            }
            if let Some(place) = place {
                self.connect(place, address, edits);
            }
        }
    }

    /// Hold stays hold, in the family of its reader.
    fn connect(&self, place: &Place, ip: IpAddr, edits: &mut Edits) {
        match place.address {
            Address::Nowhere if address::is_of_family(self.bytes, place.span.clone(), ip) => {}
            Address::Nowhere => edits.replace(place.span.clone(), address::write_nowhere(ip)),
            Address::Ip(_) | Address::Name => edits.replace(place.span.clone(), address::write(ip)),
        }
    }

    /// A line that is not relayed gets the session's address as its own, because there the relay's stands.
    fn keep_where_it_leads(&self, media: &Media, edits: &mut Edits) {
        let (None, Some(connection)) = (&media.connection, &self.connection) else { return };
        if media.port == 0 {
            return;
        }
        // RFC 8866 §5: `i=` comes before `c=`, all others behind it.
        let following = self.lines.get(media.line + 1).filter(|line| line.kind == Some(b'i'));
        let before = following.unwrap_or(&self.lines[media.line]);
        let end = if self.bytes[..before.next].ends_with(b"\r\n") || before.next == before.end {
            "\r\n"
        } else {
            "\n"
        };
        let place = String::from_utf8_lossy(&self.bytes[connection.span.clone()]);
        edits.replace(before.end..before.end, format!("{end}c={place}"));
    }

    /// Takes lines out; a line end stays where the last line has none, so that what is left ends as it did.
    fn remove(&self, lines: &[usize], edits: &mut Edits) {
        let mut rest = lines;
        while let Some(&first) = rest.first() {
            let run = rest.iter().enumerate().take_while(|(at, line)| **line == first + at).count();
            let last = first + run - 1;
            rest = &rest[run..];
            let has_end = self.lines[last].next != self.lines[last].end;
            let span = match first.checked_sub(1) {
                Some(before) if !has_end => self.lines[before].end..self.lines[last].end,
                _ => self.lines[first].start..self.lines[last].next,
            };
            edits.replace(span, String::new());
        }
    }
}

/// Places of the original bytes with what is to stand there.
#[derive(Debug, Default)]
struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    fn replace(&mut self, span: Range<usize>, text: String) {
        self.0.push((span, text));
    }

    /// Invariant: no two places overlap, because each is within a line of its own or is whole lines.
    fn apply(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.sort_by_key(|(span, _)| (span.start, span.end));
        let grown: usize = self.0.iter().map(|(_, text)| text.len()).sum();
        let mut out = Vec::with_capacity(bytes.len() + grown);
        let mut at = 0;
        for (span, text) in self.0 {
            debug_assert!(at <= span.start, "two edits overlap");
            out.extend_from_slice(&bytes[at..span.start]);
            out.extend_from_slice(text.as_bytes());
            at = span.end;
        }
        out.extend_from_slice(&bytes[at..]);
        out
    }
}
