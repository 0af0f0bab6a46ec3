//! A caller whose From is not the one that the callee sees.
//!
//! A gateway may want its own number in From. A proxy that writes it there has to keep both sides of the
//! dialog in their belief: each sees in every message the From and To of its own dialog, tags as they are. What
//! goes to the callee has the presented URI, what goes to the caller has the original one. Requests carry the
//! pair in the token of our Record-Route; a response gets back what its own request had.

use sip::{Editor, Message, Name, NameAddr};

use super::dialog_token::Direction;

/// A URI that is longer is not masked: the token would grow beyond what phones keep.
pub(super) const URI_BYTES_MAX: usize = 100;

/// The caller's URI on either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mask {
    /// What the caller wrote.
    pub(super) original: Box<[u8]>,
    /// What the callee sees.
    pub(super) presented: Box<[u8]>,
}

impl Mask {
    /// A mask that fits into a token.
    pub(super) fn new(original: &[u8], presented: &[u8]) -> Option<Self> {
        let fits = original.len() <= URI_BYTES_MAX && presented.len() <= URI_BYTES_MAX;
        (fits && original != presented)
            .then(|| Self { original: original.into(), presented: presented.into() })
    }

    /// Puts it on, or takes it off, a request within the dialog.
    pub(super) fn edit(&self, editor: &mut Editor<'_, '_>, request: &Message<'_>, direction: Direction) {
        let (name, uri) = match direction {
            Direction::ToCallee => (Name::From, &self.presented),
            Direction::ToCaller => (Name::To, &self.original),
        };
        if let Some(value) = request.header(name).and_then(|value| with_uri(value, uri, None)) {
            editor.set(name, &value);
        }
    }
}

/// From and To of a response as its request had them.
// RFC 3261 §8.2.6.2: they are those of the request; only a tag in To is the responder's.
pub(super) fn restore(editor: &mut Editor<'_, '_>, request: &Message<'_>) {
    if let Some(from) = request.header(Name::From) {
        editor.set(Name::From, from);
    }
    if request.to_tag().is_some()
        && let Some(to) = request.header(Name::To)
    {
        editor.set(Name::To, to);
    }
}

/// A value with another URI, perhaps another display name, and its own parameters.
pub(super) fn with_uri(value: &[u8], uri: &[u8], display: Option<&[u8]>) -> Option<Vec<u8>> {
    let address = NameAddr::parse(value).ok()?;
    let mut out = Vec::with_capacity(value.len() + uri.len());
    if let Some(display) = display.or(address.display) {
        out.extend_from_slice(display.trim_ascii());
        out.push(b' ');
    }
    out.push(b'<');
    out.extend_from_slice(uri);
    out.push(b'>');
    for (name, value) in address.params.iter() {
        out.push(b';');
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_uri_leaves_name_and_parameters_as_they_are() {
        for (value, changed) in [
            ("\"Alice, A.\" <sip:alice@a>;tag=1;x", "\"Alice, A.\" <sip:7@b>;tag=1;x"),
            ("sip:alice@a;tag=1", "<sip:7@b>;tag=1"),
            ("Alice <sip:alice@a;lr>", "Alice <sip:7@b>"),
        ] {
            let got = with_uri(value.as_bytes(), b"sip:7@b", None).unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), changed);
        }
    }

    #[test]
    fn a_uri_that_does_not_fit_is_not_masked() {
        assert!(Mask::new(&[b'x'; URI_BYTES_MAX + 1], b"sip:7@b").is_none());
        assert!(Mask::new(b"sip:7@b", b"sip:7@b").is_none());
    }
}
