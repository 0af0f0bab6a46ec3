//! What a request to a gateway gets on its way: who calls, and header fields.
//!
//! Who calls is a number in the form that the gateway wants and in the place where it looks. The place is an
//! identity of RFC 3325 where possible; in From only where the operator says so, because a proxy leaves From
//! alone as a rule (see [`mask`](super::mask)). A caller that wants privacy keeps it: the number goes to the
//! gateway, which is trusted with it, together with the wish.

use std::sync::Arc;

use sip::{Editor, Message, Name, NameAddr};

use super::forward::asks_for_privacy;
use super::inbound::{Inbound, Sender};
use super::mask::{self, Mask};
use crate::dial_plan::{CallerPlace, Dialled, HeaderEdits};
use crate::{Gateway, Route};

// RFC 3323 §4.1.1.3: what stands in the place of a caller that does not tell.
const ANONYMOUS_URI: &[u8] = b"sip:anonymous@anonymous.invalid";
const ANONYMOUS_NAME: &[u8] = b"\"Anonymous\"";
const ANONYMOUS_DOMAIN: &str = "anonymous.invalid";

/// The part of a call that goes to a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    /// The gateway.
    pub(super) gateway: Arc<Gateway>,
    /// The route that led to it.
    pub(super) route: Arc<Route>,
}

impl Leg {
    /// Lines that a request may get, besides those of every request.
    pub(super) fn added_lines(&self) -> usize {
        self.edits().map(|edits| edits.set.len()).sum::<usize>() + 2
    }

    /// Edits a request that begins something.
    pub(super) fn edit(&self, editor: &mut Editor<'_, '_>, request: &Message<'_>, inbound: &Inbound) {
        self.edit_caller(editor, request, inbound);
        for edits in self.edits() {
            let is_gone = |raw_name: &[u8]| {
                let is = |name: &str| raw_name.eq_ignore_ascii_case(name.as_bytes());
                edits.removed.iter().any(|name| is(name)) || edits.set.iter().any(|(name, _)| is(name))
            };
            for (index, header) in request.headers().enumerate() {
                if is_gone(header.raw_name) {
                    editor.remove_line(index);
                }
            }
        }
        for (name, value) in self.edits().flat_map(|edits| &edits.set) {
            editor.append_named(name.as_bytes(), value.as_bytes());
        }
    }

    /// The mask of the caller's From, if the gateway wants the number there.
    pub(super) fn mask(&self, request: &Message<'_>, inbound: &Inbound) -> Option<Mask> {
        if self.gateway.caller.place != CallerPlace::From {
            return None;
        }
        let from = request.from().ok()?;
        let caller = Caller::of(request, inbound)?;
        let presented = match caller.wants_privacy {
            true => ANONYMOUS_URI.to_vec(),
            false => self.uri(&caller),
        };
        Mask::new(from.uri, &presented)
    }

    /// Whether the callee may see another From than the caller wrote.
    pub(super) fn may_mask(&self) -> bool {
        self.gateway.caller.place == CallerPlace::From
    }

    fn edits(&self) -> impl Iterator<Item = &HeaderEdits> {
        [&self.gateway.headers, &self.route.headers].into_iter()
    }

    fn edit_caller(&self, editor: &mut Editor<'_, '_>, request: &Message<'_>, inbound: &Inbound) {
        // RFC 3325 §5: what somebody else asserts is never passed on; this server says it anew.
        editor.remove(Name::PAssertedIdentity);
        editor.remove(Name::PPreferredIdentity);
        for (index, header) in request.headers().enumerate() {
            if header.raw_name.eq_ignore_ascii_case(REMOTE_PARTY) {
                editor.remove_line(index);
            }
        }
        let Some(caller) = Caller::of(request, inbound) else { return };
        let identity = [b"<", &self.uri(&caller)[..], b">"].concat();
        match self.gateway.caller.place {
            CallerPlace::Asserted => {
                editor.append(Name::PAssertedIdentity, &identity);
            }
            CallerPlace::Preferred => {
                editor.append(Name::PPreferredIdentity, &identity);
            }
            CallerPlace::RemoteParty => {
                let privacy: &[u8] = if caller.wants_privacy { b"full" } else { b"off" };
                let value = [&identity[..], b";party=calling;screen=yes;privacy=", privacy].concat();
                editor.append_named(REMOTE_PARTY, &value);
            }
            CallerPlace::From => {
                if let Some(mask) = self.mask(request, inbound)
                    && let Some(from) = request.header(Name::From)
                {
                    let display = caller.wants_privacy.then_some(ANONYMOUS_NAME);
                    if let Some(value) = mask::with_uri(from, &mask.presented, display) {
                        editor.set(Name::From, &value);
                    }
                }
            }
            CallerPlace::Nowhere => {}
        }
        // RFC 3325 §9.3: an anonymous From says to people what `id` says to servers.
        let is_told = matches!(self.gateway.caller.place, CallerPlace::Asserted | CallerPlace::Preferred);
        if is_told && caller.wants_privacy && request.header(Name::Privacy).is_none() {
            editor.append(Name::Privacy, b"id");
        }
    }

    /// The caller's URI in the form that the gateway wants.
    fn uri(&self, caller: &Caller) -> Vec<u8> {
        self.gateway.caller_uri(&self.route, &caller.user, &caller.domain)
    }
}

const REMOTE_PARTY: &[u8] = b"Remote-Party-ID";

/// Who calls, as far as this server believes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Caller {
    user: String,
    domain: String,
    wants_privacy: bool,
}

impl Caller {
    fn of(request: &Message<'_>, inbound: &Inbound) -> Option<Self> {
        let from = request.from().ok()?;
        let from = from.uri().ok().and_then(|uri| Dialled::of(&uri));
        let is_anonymous = from.as_ref().is_some_and(|from| from.domain.as_deref() == Some(ANONYMOUS_DOMAIN));
        let wants_privacy = is_anonymous || asks_for_privacy(request);
        // RFC 3325 §5: a trusted peer says who calls; what one of our users writes into From was checked.
        let asserted = inbound.is_trusted().then(|| asserted(request)).flatten();
        let known = asserted.or(from.filter(|_| !is_anonymous)).or_else(|| match &inbound.sender {
            Some(Sender::Account { account, .. }) => {
                Some(Dialled { number: account.user().to_owned(), domain: Some(account.domain().to_owned()) })
            }
            _ => None,
        })?;
        let domain = known.domain.or_else(|| own_domain(inbound))?;
        Some(Self { user: known.number, domain, wants_privacy })
    }
}

fn asserted(request: &Message<'_>) -> Option<Dialled> {
    let value = request.values(Name::PAssertedIdentity).next()?;
    Dialled::of(&NameAddr::parse(value).ok()?.uri().ok()?)
}

/// What stands behind a number without a domain.
fn own_domain(inbound: &Inbound) -> Option<String> {
    let listener = inbound.source.flow.listener();
    inbound.settings.listeners.sent_by(listener).map(str::to_owned)
}
