//! The texts of a binding in one piece of memory.
//!
//! There may be a million bindings, so their texts share one allocation without spare room: contact,
//! Call-ID, instance, user agent, and then each Path value behind its length.

use std::ops::Range;

use bytes::Bytes;

/// The longest text of one kind: contact, Call-ID or instance. Real ones have less than 200 bytes.
pub(super) const PART_BYTES_MAX: usize = 2_048;
/// All Path values together: a handful of proxies, each with its own token.
pub(super) const PATH_BYTES_MAX: usize = 4_096;
/// The user agent is cut here: it is for the operator's eyes alone.
pub(super) const USER_AGENT_BYTES_MAX: usize = 128;

const ABSENT: u16 = u16::MAX;

/// What is put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    /// The URI that was registered.
    pub contact: &'a [u8],
    /// Call-ID of the last REGISTER.
    pub call_id: &'a [u8],
    /// `+sip.instance`.
    pub instance: Option<&'a [u8]>,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The Path values, topmost first.
    pub path: &'a [Bytes],
}

/// Copies of the texts of one binding, for others to keep.
#[derive(Debug)]
pub(super) struct Copies {
    /// The URI that was registered.
    pub contact: Bytes,
    /// Call-ID of the last REGISTER.
    pub call_id: Bytes,
    /// `+sip.instance`.
    pub instance: Option<Bytes>,
    /// `User-Agent`.
    pub user_agent: Option<Bytes>,
}

/// The texts of one binding.
#[derive(Debug)]
pub(super) struct BindingText {
    bytes: Box<[u8]>,
    contact: u16,
    call_id: u16,
    instance: u16,
    user_agent: u16,
}

impl BindingText {
    /// Puts texts together; `None` if one is too long for a binding.
    pub(super) fn new(parts: &Parts<'_>) -> Option<Self> {
        let user_agent = parts.user_agent.map(cut);
        let path_bytes: usize = parts.path.iter().map(|value| 2 + value.len()).sum();
        let named = [parts.contact, parts.call_id, parts.instance.unwrap_or_default()];
        if path_bytes > PATH_BYTES_MAX || named.iter().any(|part| part.len() > PART_BYTES_MAX) {
            return None;
        }
        let named_bytes: usize = named.iter().map(|part| part.len()).sum();
        let mut bytes =
            Vec::with_capacity(named_bytes + user_agent.map_or(0, |text| text.len()) + path_bytes);
        for part in named {
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(user_agent.unwrap_or_default());
        for value in parts.path {
            bytes.extend_from_slice(&length(value).to_be_bytes());
            bytes.extend_from_slice(value);
        }
        Some(Self {
            bytes: bytes.into_boxed_slice(),
            contact: length(parts.contact),
            call_id: length(parts.call_id),
            instance: parts.instance.map_or(ABSENT, length),
            user_agent: user_agent.map_or(ABSENT, length),
        })
    }

    /// The URI that was registered.
    pub(super) fn contact(&self) -> &[u8] {
        &self.bytes[self.contact_range()]
    }

    /// Call-ID of the last REGISTER.
    pub(super) fn call_id(&self) -> &[u8] {
        &self.bytes[self.call_id_range()]
    }

    /// `+sip.instance`.
    pub(super) fn instance(&self) -> Option<&[u8]> {
        self.instance_range().map(|range| &self.bytes[range])
    }

    /// `User-Agent`.
    pub(super) fn user_agent(&self) -> Option<&[u8]> {
        self.user_agent_range().map(|range| &self.bytes[range])
    }

    /// Copies of all texts but the Path, with one piece of memory for all of them.
    pub(super) fn copies(&self) -> Copies {
        let all = Bytes::copy_from_slice(&self.bytes[..self.path_start()]);
        Copies {
            contact: all.slice(self.contact_range()),
            call_id: all.slice(self.call_id_range()),
            instance: self.instance_range().map(|range| all.slice(range)),
            user_agent: self.user_agent_range().map(|range| all.slice(range)),
        }
    }

    /// The Path values, topmost first.
    pub(super) fn path(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[self.path_start()..];
        std::iter::from_fn(move || {
            let (prefix, behind) = rest.split_first_chunk::<2>()?;
            let (value, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*prefix)))?;
            rest = behind;
            Some(value)
        })
    }

    /// Whether there is a Path.
    pub(super) fn has_path(&self) -> bool {
        self.path_start() < self.bytes.len()
    }

    fn contact_range(&self) -> Range<usize> {
        0..usize::from(self.contact)
    }

    fn call_id_range(&self) -> Range<usize> {
        let start = usize::from(self.contact);
        start..start + usize::from(self.call_id)
    }

    fn instance_range(&self) -> Option<Range<usize>> {
        let start = self.call_id_range().end;
        (self.instance != ABSENT).then(|| start..start + usize::from(self.instance))
    }

    fn user_agent_range(&self) -> Option<Range<usize>> {
        let start = self.call_id_range().end + present(self.instance);
        (self.user_agent != ABSENT).then(|| start..start + usize::from(self.user_agent))
    }

    fn path_start(&self) -> usize {
        self.call_id_range().end + present(self.instance) + present(self.user_agent)
    }
}

fn present(length: u16) -> usize {
    if length == ABSENT { 0 } else { usize::from(length) }
}

fn length(text: &[u8]) -> u16 {
    u16::try_from(text.len()).expect("every text was found to be shorter than PATH_BYTES_MAX")
}

/// Cuts between two characters.
fn cut(text: &[u8]) -> &[u8] {
    let Some(&behind) = text.get(USER_AGENT_BYTES_MAX) else { return text };
    let is_continuation = |byte: u8| byte & 0xc0 == 0x80;
    let mut end = USER_AGENT_BYTES_MAX;
    if is_continuation(behind) {
        while end > USER_AGENT_BYTES_MAX - 4 && is_continuation(text[end]) {
            end -= 1;
        }
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_comes_back_as_it_was() {
        let path = [Bytes::from_static(b"<sip:p1;lr>"), Bytes::from_static(b"<sip:p2;lr>")];
        let text = BindingText::new(&Parts {
            contact: b"sip:alice@192.0.2.1",
            call_id: b"1@phone",
            instance: Some(b"<urn:uuid:1>"),
            user_agent: Some(b"phone/1"),
            path: &path,
        })
        .unwrap();

        assert_eq!(text.contact(), b"sip:alice@192.0.2.1");
        assert_eq!(text.call_id(), b"1@phone");
        assert_eq!(text.instance(), Some(b"<urn:uuid:1>".as_slice()));
        assert_eq!(text.user_agent(), Some(b"phone/1".as_slice()));
        assert_eq!(text.path().collect::<Vec<_>>(), path);
        let copies = text.copies();
        assert_eq!((&copies.contact[..], &copies.call_id[..]), (text.contact(), text.call_id()));
        assert_eq!(
            (copies.instance.as_deref(), copies.user_agent.as_deref()),
            (text.instance(), text.user_agent())
        );
        assert!(text.has_path());
    }

    #[test]
    fn an_absent_part_is_not_an_empty_one() {
        let absent = BindingText::new(&PLAIN).unwrap();
        let empty = BindingText::new(&Parts { instance: Some(b""), user_agent: Some(b""), ..PLAIN }).unwrap();

        assert_eq!((absent.instance(), absent.user_agent(), absent.has_path()), (None, None, false));
        assert_eq!((empty.instance(), empty.user_agent()), (Some(b"".as_slice()), Some(b"".as_slice())));
    }

    #[test]
    fn a_part_that_is_too_long_is_refused() {
        let long = vec![b'a'; PART_BYTES_MAX + 1];
        let path = vec![Bytes::from(vec![b'a'; PATH_BYTES_MAX / 2]); 2];

        assert!(BindingText::new(&Parts { contact: &long, ..PLAIN }).is_none());
        assert!(BindingText::new(&Parts { call_id: &long, ..PLAIN }).is_none());
        assert!(BindingText::new(&Parts { instance: Some(&long), ..PLAIN }).is_none());
        assert!(BindingText::new(&Parts { path: &path, ..PLAIN }).is_none());
        assert!(BindingText::new(&Parts { contact: &long[1..], ..PLAIN }).is_some());
    }

    #[test]
    fn a_long_user_agent_is_cut_between_two_characters() {
        let ascii = vec![b'a'; 200];
        let umlauts = format!("a{}", "ü".repeat(100));
        let garbage = vec![0x80; 200];
        let kept = |user_agent: &[u8]| {
            let parts = Parts { user_agent: Some(user_agent), ..PLAIN };
            BindingText::new(&parts).unwrap().user_agent().unwrap().to_vec()
        };

        assert_eq!(kept(&ascii).len(), USER_AGENT_BYTES_MAX);
        assert_eq!(String::from_utf8(kept(umlauts.as_bytes())).unwrap().chars().count(), 64);
        assert!(kept(&garbage).len() >= USER_AGENT_BYTES_MAX - 4);
    }

    const PLAIN: Parts<'static> =
        Parts { contact: b"sip:a@b", call_id: b"1", instance: None, user_agent: None, path: &[] };
}
