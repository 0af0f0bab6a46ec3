//! What the requests of a call that is up have in common, at either of its ends.

use sip::{Message, Method, Name};

use super::message::{Request, Speaker, text};

/// A dialog, as one end sees it.
#[derive(Clone, Debug)]
pub struct Dialog {
    uri: String,
    from: String,
    to: String,
    routes: Vec<String>,
    call_id: String,
}

impl Dialog {
    /// The caller's end, by the 2xx to its INVITE.
    // RFC 3261 §12.1.2: the caller's route set is the Record-Route of the response from its end to its beginning.
    pub fn of_caller(invite: &Request, response: &Message<'_>) -> Self {
        let mut routes = record_routes(response);
        routes.reverse();
        Self {
            uri: contact(response),
            from: invite.from.clone(),
            to: text(response.header(Name::To)),
            routes,
            call_id: invite.call_id.clone(),
        }
    }

    /// The callee's end, by the INVITE and the tag that it was answered with.
    // RFC 3261 §12.1.1: the callee's route set is the Record-Route of the request from its beginning to its end.
    pub fn of_callee(invite: &Message<'_>, speaker: &Speaker) -> Self {
        Self {
            uri: contact(invite),
            from: format!("{};tag={}", text(invite.header(Name::To)), speaker.tag()),
            to: text(invite.header(Name::From)),
            routes: record_routes(invite),
            call_id: text(invite.call_id().ok()),
        }
    }

    /// A request to the other end.
    pub fn request(&self, method: Method<'static>, cseq: u32) -> Request {
        Request {
            method,
            uri: self.uri.clone(),
            routes: self.routes.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            call_id: self.call_id.clone(),
            cseq,
            contact: None,
            lines: Vec::new(),
            body: b"",
        }
    }
}

fn record_routes(message: &Message<'_>) -> Vec<String> {
    message.values(Name::RecordRoute).map(|route| text(Some(route))).collect()
}

fn contact(message: &Message<'_>) -> String {
    let contact = text(message.header(Name::Contact));
    let uri = contact.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    uri.map_or(contact.clone(), |(uri, _)| uri.to_owned())
}
