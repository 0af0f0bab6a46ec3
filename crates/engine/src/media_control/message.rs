//! A message as `media` is told of it.

use media::body::Body;
use media::offer_answer::{Kind, Message as Told, Method as MediaMethod, Side, Tag, Within};
use routing::{MediaAsk, MediaSide, MediaWithin};
use sip::{Message, Method, Name, Status};

use super::branch;

/// What kind of message it is; `None` for one that says nothing of media.
pub(super) fn kind(message: &Message<'_>) -> Option<Kind> {
    let Some(status) = message.status() else {
        return match message.method()? {
            Method::Ack => Some(Kind::Ack),
            method => of_media(method).map(Kind::Request),
        };
    };
    let method = of_media(message.cseq().ok()?.method)?;
    match status {
        Status::TRYING => None,
        status if status.is_provisional() => {
            (method == MediaMethod::Invite).then(|| Kind::Provisional { is_reliable: is_reliable(message) })
        }
        status if status.is_success() => Some(Kind::Accepted(method)),
        _ => Some(Kind::Refused(method)),
    }
}

/// The message with what is known of it besides.
pub(super) fn told<'a>(ask: &MediaAsk, kind: Kind, message: &'a Message<'a>) -> Told<'a> {
    Told {
        kind,
        from: match ask.from {
            MediaSide::Caller => Side::Caller,
            MediaSide::Callee => Side::Callee,
        },
        within: match ask.within {
            MediaWithin::Branch { client, .. } => Within::Branch(branch(client)),
            MediaWithin::Fork(client, tag) => Within::Fork(branch(client), Tag(tag)),
            MediaWithin::Dialog(tag) => Within::Dialog(Tag(tag)),
        },
        cseq: ask.cseq,
        body: Body {
            content_type: message.header(Name::ContentType),
            disposition: message.header(Name::ContentDisposition),
            encoding: message.header(Name::ContentEncoding),
            bytes: message.body(),
        },
        source: ask.source,
        is_behind_nat: ask.is_behind_nat,
    }
}

fn of_media(method: Method<'_>) -> Option<MediaMethod> {
    match method {
        Method::Invite => Some(MediaMethod::Invite),
        Method::Update => Some(MediaMethod::Update),
        Method::Prack => Some(MediaMethod::Prack),
        _ => None,
    }
}

fn is_reliable(response: &Message<'_>) -> bool {
    response.values(Name::Require).any(|tag| tag.trim_ascii().eq_ignore_ascii_case(b"100rel"))
}
