//! Copies a message byte for byte but for what is edited.
//!
//! All edits are of the message as it came: what `prepend` adds is not what `replace_first` replaces. So a proxy
//! stamps the top Via and puts its own above it in whatever order. Lines that no edit names are copied with their
//! neighbours in one piece, whatever their form; of an edited line all but the edited value is kept.

use std::ops::Range;

use smallvec::SmallVec;

use crate::grammar::{DECIMAL_DIGITS_MAX, ValueRanges, decimal_digits};
use crate::limits::HEADERS_MAX;
use crate::write::{end_line, write_line, write_value};
use crate::{Message, Name, StartLine};

/// Text that is kept without allocation: a Via, two Record-Routes with tokens and some short values.
const TEXT_INLINE: usize = 1024;

/// Edits of each kind that are kept without allocation.
const EDITS_INLINE: usize = 8;

/// The edits to one message. Values given to it are copied.
#[derive(Debug)]
pub struct Editor<'m, 'a> {
    message: &'m Message<'a>,
    text: SmallVec<[u8; TEXT_INLINE]>,
    request_uri: Option<Range<usize>>,
    prepends: SmallVec<[Insert; EDITS_INLINE]>,
    appends: SmallVec<[Insert; EDITS_INLINE]>,
    edits: SmallVec<[Edit; EDITS_INLINE]>,
    /// A bit for each line.
    removed_lines: [u64; HEADERS_MAX / 64],
    body: Option<&'m [u8]>,
}

/// A new line. Ranges are of the editor's text.
#[derive(Debug)]
struct Insert {
    /// The index of the line before which it goes.
    place: usize,
    name: InsertName,
    value: Range<usize>,
}

#[derive(Debug)]
enum InsertName {
    Known(Name),
    Text(Range<usize>),
}

/// What happens to the lines of one name.
#[derive(Debug)]
struct Edit {
    name: Name,
    action: Action,
}

#[derive(Debug)]
enum Action {
    /// All lines go.
    Remove,
    /// The first line has this value, the others go.
    Set(Range<usize>),
    /// Some values go or are replaced.
    Values { removed_first: usize, removed_last: usize, first: Option<Range<usize>> },
}

impl<'m, 'a> Editor<'m, 'a> {
    /// Begins without edits: the message comes out as it is.
    pub fn new(message: &'m Message<'a>) -> Self {
        Self {
            message,
            text: SmallVec::new(),
            request_uri: None,
            prepends: SmallVec::new(),
            appends: SmallVec::new(),
            edits: SmallVec::new(),
            removed_lines: [0; HEADERS_MAX / 64],
            body: None,
        }
    }

    /// Replaces the Request-URI. Nothing happens to a response.
    pub fn request_uri(&mut self, uri: &[u8]) -> &mut Self {
        self.request_uri = Some(self.keep(uri));
        self
    }

    /// Adds a line before the first line of that name; of several the last call ends topmost. Where there is none
    /// it goes behind the last Via, and a Via before all others.
    // RFC 3261 §7.3.1: fields that proxies need belong near the top.
    pub fn prepend(&mut self, name: Name, value: &[u8]) -> &mut Self {
        let spans = self.message.spans();
        let place = match name {
            _ if self.message.has(name) => {
                spans.iter().position(|span| span.name == name).unwrap_or_default()
            }
            Name::Via => 0,
            _ => spans.iter().rposition(|span| span.name == Name::Via).map_or(0, |last| last + 1),
        };
        let value = self.keep(value);
        self.prepends.push(Insert { place, name: InsertName::Known(name), value });
        self
    }

    /// Adds a line at the end of the headers.
    pub fn append(&mut self, name: Name, value: &[u8]) -> &mut Self {
        let value = self.keep(value);
        self.append_kept(InsertName::Known(name), value);
        self
    }

    /// Adds a line of an extension at the end of the headers.
    pub fn append_named(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        let name = InsertName::Text(self.keep(name));
        let value = self.keep(value);
        self.append_kept(name, value);
        self
    }

    /// Replaces the first value that is not removed; the rest of its line stays. Nothing happens without one.
    pub fn replace_first(&mut self, name: Name, value: &[u8]) -> &mut Self {
        let value = self.keep(value);
        if let Action::Values { first, .. } = self.edit(name) {
            *first = Some(value);
        }
        self
    }

    /// Removes the first value; each call one more.
    pub fn remove_first(&mut self, name: Name) -> &mut Self {
        if let Action::Values { removed_first, .. } = self.edit(name) {
            *removed_first += 1;
        }
        self
    }

    /// Removes the last value; each call one more.
    pub fn remove_last(&mut self, name: Name) -> &mut Self {
        if let Action::Values { removed_last, .. } = self.edit(name) {
            *removed_last += 1;
        }
        self
    }

    /// Removes all lines of that name.
    pub fn remove(&mut self, name: Name) -> &mut Self {
        *self.edit(name) = Action::Remove;
        self
    }

    /// Removes the line with this index in [`Message::headers`].
    pub fn remove_line(&mut self, index: usize) -> &mut Self {
        if let Some(bits) = self.removed_lines.get_mut(index / 64) {
            *bits |= 1 << (index % 64);
        }
        self
    }

    /// Makes this the only value of that name: in the first line, or in a line at the end where there was none.
    pub fn set(&mut self, name: Name, value: &[u8]) -> &mut Self {
        let value = self.keep(value);
        if self.message.header(name).is_some() {
            *self.edit(name) = Action::Set(value);
        } else {
            self.appends.retain(|insert| !matches!(insert.name, InsertName::Known(known) if known == name));
            self.append_kept(InsertName::Known(name), value);
        }
        self
    }

    /// Replaces the body, and Content-Length with it. Without a type Content-Type stays, but not with an empty body.
    pub fn body(&mut self, content_type: Option<&[u8]>, body: &'m [u8]) -> &mut Self {
        match content_type {
            Some(content_type) => {
                self.set(Name::ContentType, content_type);
            }
            None if body.is_empty() => {
                self.remove(Name::ContentType);
            }
            None => {}
        }
        self.set_content_length(body.len());
        self.body = Some(body);
        self
    }

    /// Adds Content-Length if it is not there: a message that came in a datagram may leave by a stream.
    // RFC 3261 §20.14: on a stream it must be there.
    pub fn ensure_content_length(&mut self) -> &mut Self {
        if self.message.header(Name::ContentLength).is_none() && self.body.is_none() {
            self.set_content_length(self.message.body().len());
        }
        self
    }

    /// Appends the edited message to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let bytes = self.message.bytes();
        let inserts = self.prepends.len() + self.appends.len();
        out.reserve(bytes.len() + self.text.len() + self.body.map_or(0, <[u8]>::len) + inserts * 32);
        // Where the bytes begin that are not copied yet.
        let mut pending = self.write_start_line(out);
        pending = self.write_edited_headers(pending, out);
        if self.appends.is_empty() && self.body.is_none() {
            out.extend_from_slice(&bytes[pending..]);
            return;
        }
        let headers_end = self.message.headers_end();
        out.extend_from_slice(&bytes[pending..headers_end]);
        if !out.ends_with(b"\n") {
            end_line(out);
        }
        for insert in &self.appends {
            self.write_insert(insert, out);
        }
        match self.body {
            Some(body) => {
                end_line(out);
                out.extend_from_slice(body);
            }
            None => out.extend_from_slice(&bytes[headers_end..]),
        }
    }

    /// Writes the start line if it is edited; gives where the bytes begin that are not copied yet.
    fn write_start_line(&self, out: &mut Vec<u8>) -> usize {
        match (&self.request_uri, self.message.start_line()) {
            (Some(uri), StartLine::Request(line)) => {
                out.extend_from_slice(line.method.as_bytes());
                out.push(b' ');
                write_value(&self.text[uri.clone()], out);
                out.extend_from_slice(b" SIP/2.0\r\n");
                self.message.headers_start()
            }
            _ => 0,
        }
    }

    /// Writes the lines up to the last edit; gives where the bytes begin that are not copied yet.
    fn write_edited_headers(&self, mut pending: usize, out: &mut Vec<u8>) -> usize {
        let bytes = self.message.bytes();
        let spans = self.message.spans();
        let edited = self.edits.iter().fold(0, |names, edit| names | edit.name.bit());
        let has_removed_lines = self.removed_lines.iter().any(|&bits| bits != 0);
        let mut progress: SmallVec<[Progress; EDITS_INLINE]> =
            self.edits.iter().map(|edit| Progress::new(edit, self.message)).collect();
        let places =
            self.prepends.iter().fold(PlaceSet::default(), |places, insert| places.with(insert.place));
        for (index, span) in spans.iter().enumerate() {
            let is_removed = has_removed_lines && self.removed_lines[index / 64] >> (index % 64) & 1 == 1;
            let is_place = places.may_have(index);
            if !is_removed && !is_place && edited & span.name.bit() == 0 {
                continue;
            }
            let line = self.message.line_start(index)..self.message.line_start(index + 1);
            if is_place && self.prepends.iter().any(|insert| insert.place == index) {
                out.extend_from_slice(&bytes[pending..line.start]);
                pending = line.start;
                self.write_prepends(index, out);
            }
            if is_removed {
                out.extend_from_slice(&bytes[pending..line.start]);
                pending = line.end;
            } else if let Some(at) = self.edits.iter().position(|edit| edit.name == span.name) {
                let value = span.value_start as usize..span.value_end as usize;
                let outcome = progress[at].line(&self.edits[at].action, &bytes[value.clone()]);
                if outcome == Outcome::Keep {
                    continue;
                }
                out.extend_from_slice(&bytes[pending..line.start]);
                pending = line.end;
                self.write_edited(&outcome, &line, &value, out);
            }
        }
        if places.may_have(spans.len()) {
            out.extend_from_slice(&bytes[pending..self.message.headers_end()]);
            pending = self.message.headers_end();
            self.write_prepends(spans.len(), out);
        }
        pending
    }

    fn write_prepends(&self, place: usize, out: &mut Vec<u8>) {
        for insert in self.prepends.iter().rev().filter(|insert| insert.place == place) {
            self.write_insert(insert, out);
        }
    }

    fn write_insert(&self, insert: &Insert, out: &mut Vec<u8>) {
        let name = match &insert.name {
            InsertName::Known(name) => name.canonical(),
            InsertName::Text(range) => &self.text[range.clone()],
        };
        write_line(name, &self.text[insert.value.clone()], out);
    }

    /// Writes what is left of a line; its bytes before the value, and what follows a last value that stays, are kept.
    fn write_edited(&self, outcome: &Outcome, line: &Range<usize>, value: &Range<usize>, out: &mut Vec<u8>) {
        let bytes = self.message.bytes();
        let (first, kept, is_to_end) = match outcome {
            Outcome::Keep | Outcome::Drop => return,
            Outcome::Set(text) => (Some(text), value.end..value.end, true),
            Outcome::Partly { first, kept, is_to_end } => (first.as_ref(), kept.clone(), *is_to_end),
        };
        out.extend_from_slice(&bytes[line.start..value.start]);
        if let Some(text) = first {
            write_value(&self.text[text.clone()], out);
        }
        let kept = match outcome {
            Outcome::Set(_) => kept,
            _ => value.start + kept.start..value.start + kept.end,
        };
        out.extend_from_slice(&bytes[kept]);
        match is_to_end {
            true => out.extend_from_slice(&bytes[value.end..line.end]),
            false => end_line(out),
        }
    }

    fn set_content_length(&mut self, len: usize) {
        self.set(Name::ContentLength, decimal_digits(len as u64, &mut [0; DECIMAL_DIGITS_MAX]));
    }

    fn keep(&mut self, text: &[u8]) -> Range<usize> {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        start..self.text.len()
    }

    fn append_kept(&mut self, name: InsertName, value: Range<usize>) {
        self.appends.push(Insert { place: self.message.spans().len(), name, value });
    }

    /// What happens to the lines of that name: at first nothing, as an edit of single values.
    fn edit(&mut self, name: Name) -> &mut Action {
        let at = match self.edits.iter().position(|edit| edit.name == name) {
            Some(at) => at,
            None => {
                let action = Action::Values { removed_first: 0, removed_last: 0, first: None };
                self.edits.push(Edit { name, action });
                self.edits.len() - 1
            }
        };
        &mut self.edits[at].action
    }
}

/// Which lines may have an insert before them: exact for the first 63, where nearly all are.
#[derive(Clone, Copy, Default)]
struct PlaceSet(u64);

impl PlaceSet {
    fn with(self, place: usize) -> Self {
        Self(self.0 | 1 << place.min(63))
    }

    fn may_have(self, place: usize) -> bool {
        self.0 >> place.min(63) & 1 == 1
    }
}

/// What becomes of one line. Ranges are of the editor's text (`Set`, `first`) or of the line's value (`kept`).
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Keep,
    Drop,
    Set(Range<usize>),
    Partly { first: Option<Range<usize>>, kept: Range<usize>, is_to_end: bool },
}

/// How far the lines of one name have been read.
struct Progress {
    /// Values before the next line.
    values: usize,
    /// Values of all lines; counted only when the last ones are removed.
    total: usize,
    is_first_line: bool,
}

impl Progress {
    fn new(edit: &Edit, message: &Message<'_>) -> Self {
        let total = match edit.action {
            Action::Values { removed_last, .. } if removed_last > 0 => message.values(edit.name).count(),
            _ => usize::MAX,
        };
        Self { values: 0, total, is_first_line: true }
    }

    fn line(&mut self, action: &Action, value: &[u8]) -> Outcome {
        let is_first_line = std::mem::replace(&mut self.is_first_line, false);
        match action {
            Action::Remove => Outcome::Drop,
            Action::Set(text) if is_first_line => Outcome::Set(text.clone()),
            Action::Set(_) => Outcome::Drop,
            Action::Values { removed_first, removed_last, first } => {
                let kept = *removed_first..self.total.saturating_sub(*removed_last);
                if kept.end == usize::MAX && self.values > kept.start {
                    // All that is edited lies before this line.
                    return Outcome::Keep;
                }
                self.line_of_values(&kept, first.as_ref(), value)
            }
        }
    }

    /// `kept` counts the values of all lines, the first of them may be replaced.
    fn line_of_values(&mut self, kept: &Range<usize>, first: Option<&Range<usize>>, value: &[u8]) -> Outcome {
        let mut outcome: Option<(Option<Range<usize>>, Range<usize>)> = None;
        let (mut is_whole, mut is_to_end, mut is_empty) = (true, true, true);
        for range in ValueRanges::new(value) {
            let index = self.values;
            self.values += 1;
            is_empty = false;
            is_to_end = kept.contains(&index);
            is_whole &= is_to_end;
            if !is_to_end {
                continue;
            }
            match &mut outcome {
                Some((_, text)) => text.end = range.end,
                None if index == kept.start && first.is_some() => {
                    is_whole = false;
                    outcome = Some((first.cloned(), range.end..range.end));
                }
                None => outcome = Some((None, range)),
            }
            if kept.end == usize::MAX && index >= kept.start {
                // The rest of the line stays, and later lines with it: no need to count their values.
                if let Some((_, text)) = &mut outcome {
                    text.end = value.len();
                }
                break;
            }
        }
        match outcome {
            _ if is_empty => Outcome::Keep,
            None => Outcome::Drop,
            Some(_) if is_whole => Outcome::Keep,
            Some((first, kept)) => Outcome::Partly { first, kept, is_to_end },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:bob@example.com SIP/2.0\r\n\
        v: SIP/2.0/UDP a ;branch=z9hG4bK1 ,\r\n SIP/2.0/UDP b;branch=z9hG4bK2\r\n\
        X-Odd  :  \xff;;,,\r\n\
        Route:<sip:p1;lr>\r\n\
        Route: <sip:p2;lr> , <sip:p3;lr>\t\n\
        mAx-forwards:70\r\n\
        Call-ID: 1\r\n\
        \r\nbody";

    fn edited(edit: impl FnOnce(&mut Editor<'_, '_>)) -> String {
        let message = Message::parse(INVITE).unwrap();
        let mut editor = Editor::new(&message);
        edit(&mut editor);
        let mut out = b"kept".to_vec();
        editor.write(&mut out);
        String::from_utf8(out.strip_prefix(b"kept").unwrap().escape_ascii().collect()).unwrap()
    }

    /// What is expected: the message with one piece of text changed for another.
    fn changed(from: &str, to: &str) -> String {
        let invite = INVITE.escape_ascii().to_string();
        let from = from.as_bytes().escape_ascii().to_string();
        assert_eq!(invite.matches(&from).count(), 1, "{from}");
        invite.replacen(&from, &to.as_bytes().escape_ascii().to_string(), 1)
    }

    #[test]
    fn without_edits_the_message_comes_out_as_it_is() {
        assert_eq!(edited(|_| ()), INVITE.escape_ascii().to_string());
    }

    #[test]
    fn the_request_uri_is_replaced_alone() {
        assert_eq!(
            edited(|editor| {
                editor.request_uri(b"sip:new");
            }),
            changed("sip:bob@example.com", "sip:new")
        );
    }

    #[test]
    fn the_last_prepended_line_ends_topmost() {
        let out = edited(|editor| {
            editor.prepend(Name::Route, b"<sip:n1>").prepend(Name::Route, b"<sip:n2>");
        });
        assert_eq!(
            out,
            changed("Route:<sip:p1;lr>", "Route: <sip:n2>\r\nRoute: <sip:n1>\r\nRoute:<sip:p1;lr>")
        );
    }

    #[test]
    fn a_prepended_line_without_its_like_goes_behind_the_last_via() {
        let out = edited(|editor| {
            editor.prepend(Name::RecordRoute, b"<sip:us>");
        });
        assert_eq!(out, changed("X-Odd  :", "Record-Route: <sip:us>\r\nX-Odd  :"));
    }

    #[test]
    fn a_via_goes_before_all_others_where_there_is_none() {
        let message = Message::parse(b"ACK sip:a SIP/2.0\r\nTo: x\r\n\r\n").unwrap();
        let mut out = Vec::new();
        Editor::new(&message).prepend(Name::Via, b"v").prepend(Name::Path, b"p").write(&mut out);
        assert_eq!(out, b"ACK sip:a SIP/2.0\r\nPath: p\r\nVia: v\r\nTo: x\r\n\r\n");
    }

    #[test]
    fn appended_lines_end_the_headers_in_their_order() {
        let out = edited(|editor| {
            editor.append(Name::Server, b"t").append_named(b"X-New", b"1");
        });
        assert_eq!(out, changed("Call-ID: 1\r\n", "Call-ID: 1\r\nServer: t\r\nX-New: 1\r\n"));
    }

    #[test]
    fn the_first_value_is_replaced_and_the_rest_of_its_line_stays() {
        let out = edited(|editor| {
            editor.prepend(Name::Via, b"ours").replace_first(Name::Via, b"stamped");
        });
        assert_eq!(out, changed("v: SIP/2.0/UDP a ;branch=z9hG4bK1 ,", "Via: ours\r\nv: stamped ,"));
    }

    #[test]
    fn first_values_are_removed_across_lines() {
        let once = edited(|editor| {
            editor.remove_first(Name::Route);
        });
        assert_eq!(once, changed("Route:<sip:p1;lr>\r\n", ""));
        let twice = edited(|editor| {
            editor.remove_first(Name::Route).remove_first(Name::Route);
        });
        assert_eq!(twice, changed("Route:<sip:p1;lr>\r\nRoute: <sip:p2;lr> , ", "Route: "));
        let more = edited(|editor| {
            (0..9).for_each(|_| {
                editor.remove_first(Name::Route);
            });
        });
        assert_eq!(more, changed("Route:<sip:p1;lr>\r\nRoute: <sip:p2;lr> , <sip:p3;lr>\t\n", ""));
    }

    #[test]
    fn last_values_are_removed_across_lines() {
        let once = edited(|editor| {
            editor.remove_last(Name::Route);
        });
        assert_eq!(once, changed(" , <sip:p3;lr>\t\n", "\r\n"));
        let first_and_last = edited(|editor| {
            editor.remove_last(Name::Route).remove_last(Name::Route).replace_first(Name::Route, b"<sip:x>");
        });
        assert_eq!(
            first_and_last,
            changed("<sip:p1;lr>\r\nRoute: <sip:p2;lr> , <sip:p3;lr>\t\n", "<sip:x>\r\n")
        );
        let more = edited(|editor| {
            (0..9).for_each(|_| {
                editor.remove_last(Name::Route);
            });
        });
        assert_eq!(more, changed("Route:<sip:p1;lr>\r\nRoute: <sip:p2;lr> , <sip:p3;lr>\t\n", ""));
    }

    #[test]
    fn a_first_value_can_be_removed_and_the_next_one_replaced() {
        let out = edited(|editor| {
            editor.remove_first(Name::Route).replace_first(Name::Route, b"<sip:x>");
        });
        assert_eq!(out, changed("Route:<sip:p1;lr>\r\nRoute: <sip:p2;lr>", "Route: <sip:x>"));
    }

    #[test]
    fn whole_headers_and_single_lines_are_removed() {
        let all = edited(|editor| {
            editor.remove(Name::Route).replace_first(Name::Route, b"lost");
        });
        assert_eq!(all, changed("Route:<sip:p1;lr>\r\nRoute: <sip:p2;lr> , <sip:p3;lr>\t\n", ""));
        let line = edited(|editor| {
            editor.remove_line(1).remove_line(9999);
        });
        assert_eq!(line, INVITE.escape_ascii().to_string().replacen("X-Odd  :  \\xff;;,,\\r\\n", "", 1));
    }

    #[test]
    fn a_set_value_is_the_only_one() {
        let once = edited(|editor| {
            editor.set(Name::MaxForwards, b"69");
        });
        assert_eq!(once, changed("mAx-forwards:70", "mAx-forwards:69"));
        let many = edited(|editor| {
            editor.set(Name::Route, b"<sip:x>");
        });
        assert_eq!(many, changed("<sip:p1;lr>\r\nRoute: <sip:p2;lr> , <sip:p3;lr>\t\n", "<sip:x>\r\n"));
        let absent = edited(|editor| {
            editor.set(Name::Expires, b"1").set(Name::Expires, b"2");
        });
        assert_eq!(absent, changed("Call-ID: 1\r\n", "Call-ID: 1\r\nExpires: 2\r\n"));
    }

    #[test]
    fn a_new_body_brings_its_length_and_type() {
        let out = edited(|editor| {
            editor.body(Some(b"application/sdp"), b"v=0\r\n");
        });
        let lines = "Call-ID: 1\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";
        assert_eq!(out, changed("Call-ID: 1\r\n\r\nbody", lines));
        let none = edited(|editor| {
            editor.body(None, b"");
        });
        assert_eq!(none, changed("Call-ID: 1\r\n\r\nbody", "Call-ID: 1\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn a_missing_content_length_is_added_and_a_present_one_stays() {
        let out = edited(|editor| {
            editor.ensure_content_length();
        });
        assert_eq!(out, changed("Call-ID: 1\r\n", "Call-ID: 1\r\nContent-Length: 4\r\n"));
        let message = Message::parse(b"ACK sip:a SIP/2.0\r\nL:0\r\n\r\nx").unwrap();
        let mut out = Vec::new();
        Editor::new(&message).ensure_content_length().write(&mut out);
        assert_eq!(out, b"ACK sip:a SIP/2.0\r\nL:0\r\n\r\n");
    }

    #[test]
    fn no_value_can_smuggle_a_line_in() {
        let out = edited(|editor| {
            editor.append_named(b"X-New", b"1\r\nVia: evil").set(Name::CallId, b"2\n\nbody");
        });
        assert_eq!(out, changed("Call-ID: 1\r\n", "Call-ID: 2 body\r\nX-New: 1 Via: evil\r\n"));
    }

    #[test]
    fn edits_of_absent_headers_change_nothing() {
        let out = edited(|editor| {
            editor.remove_first(Name::Path).remove_last(Name::Path).replace_first(Name::Path, b"x");
            editor.remove(Name::Contact);
        });
        assert_eq!(out, INVITE.escape_ascii().to_string());
    }
}
