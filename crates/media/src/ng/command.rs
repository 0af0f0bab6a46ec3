//! What an rtpengine is asked to do.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;

use super::bencode::Value;
use crate::sdp::Origin;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Whether it is there.
    Ping,
    /// A description that proposes.
    Offer(Described),
    /// A description that agrees.
    Answer(Described),
    /// A call is over, or one of its branches.
    Delete {
        /// The call.
        call_id: Bytes,
        /// The caller's tag.
        from_tag: Bytes,
        /// The branch; `None`: all of the call.
        branch: Option<Bytes>,
    },
    /// How many packets of a call have come.
    Query {
        /// The call.
        call_id: Bytes,
    },
}

/// A description on its way from one side to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The call.
    pub call_id: Bytes,
    /// The tag of whoever proposes.
    pub from_tag: Bytes,
    /// The tag of whoever is to agree, if it has one.
    pub to_tag: Option<Bytes>,
    /// Which copy of the first INVITE.
    pub branch: Option<Bytes>,
    /// The description.
    pub sdp: Bytes,
    /// The address that the message came from.
    pub source: IpAddr,
    /// Whether that is where its sender's media come from, rather than the address that it names.
    pub is_behind_nat: bool,
    /// An address of the family that the other side has.
    pub towards: IpAddr,
    /// What becomes of `o=`.
    pub origin: Origin,
}

impl Command {
    /// The datagram that says it. The same cookie makes rtpengine give the same answer again.
    pub fn datagram(&self, cookie: &str) -> Bytes {
        let mut out = Vec::with_capacity(512);
        out.extend(cookie.as_bytes());
        out.push(b' ');
        let source = match self {
            Self::Offer(described) | Self::Answer(described) => described.source.to_string(),
            Self::Ping | Self::Delete { .. } | Self::Query { .. } => String::new(),
        };
        self.dictionary(&source).write(&mut out);
        out.into()
    }

    /// What frees the ports that it has taken, should nobody want them any more.
    pub fn undo(&self) -> Option<Self> {
        match self {
            Self::Offer(Described { call_id, from_tag, branch, .. }) => Some(Self::Delete {
                call_id: call_id.clone(),
                from_tag: from_tag.clone(),
                branch: branch.clone(),
            }),
            _ => None,
        }
    }

    /// The call that it ends all of.
    pub(super) fn ended_call(&self) -> Option<&Bytes> {
        match self {
            Self::Delete { call_id, branch: None, .. } => Some(call_id),
            _ => None,
        }
    }

    fn dictionary<'a>(&'a self, source: &'a str) -> Value<'a> {
        let mut entries = BTreeMap::new();
        let mut set = |key: &'static str, value| entries.insert(key.as_bytes(), value);
        match self {
            Self::Ping => drop(set("command", Value::Text(b"ping"))),
            Self::Offer(described) => {
                set("command", Value::Text(b"offer"));
                described.put(source, &mut set);
            }
            Self::Answer(described) => {
                set("command", Value::Text(b"answer"));
                described.put(source, &mut set);
            }
            Self::Delete { call_id, from_tag, branch } => {
                set("command", Value::Text(b"delete"));
                set("call-id", Value::Text(call_id));
                // By default it keeps a call for half a minute more.
                set("delete-delay", Value::Integer(0));
                if let Some(branch) = branch {
                    set("from-tag", Value::Text(from_tag));
                    set("via-branch", Value::Text(branch));
                }
            }
            Self::Query { call_id } => {
                set("command", Value::Text(b"query"));
                set("call-id", Value::Text(call_id));
            }
        }
        Value::Dictionary(entries)
    }
}

impl Described {
    fn put<'a>(
        &'a self,
        source: &'a str,
        set: &mut impl FnMut(&'static str, Value<'a>) -> Option<Value<'a>>,
    ) {
        set("call-id", Value::Text(&self.call_id));
        set("from-tag", Value::Text(&self.from_tag));
        if let Some(to_tag) = &self.to_tag {
            set("to-tag", Value::Text(to_tag));
        }
        if let Some(branch) = &self.branch {
            set("via-branch", Value::Text(branch));
        }
        set("sdp", Value::Text(&self.sdp));
        // Candidates would lead the phones past the relay.
        set("ICE", Value::Text(b"remove"));
        if self.origin == Origin::Replaced {
            set("replace", Value::List(vec![Value::Text(b"origin")]));
        }
        let trust: &[u8] = if self.is_behind_nat { b"SIP-source-address" } else { b"trust-address" };
        set("flags", Value::List(vec![Value::Text(trust)]));
        set("address-family", Value::Text(family(self.towards)));
        set(
            "received-from",
            Value::List(vec![Value::Text(family(self.source)), Value::Text(source.as_bytes())]),
        );
    }
}

fn family(address: IpAddr) -> &'static [u8] {
    if address.is_ipv4() { b"IP4" } else { b"IP6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_said_as_an_rtpengine_wants_it() {
        let command = Command::Offer(Described {
            call_id: Bytes::from_static(b"a@b"),
            from_tag: Bytes::from_static(b"f"),
            to_tag: None,
            branch: Some(Bytes::from_static(b"7f")),
            sdp: Bytes::from_static(b"v=0\r\n"),
            source: "192.0.2.7".parse().unwrap(),
            is_behind_nat: true,
            towards: "2001:db8::1".parse().unwrap(),
            origin: Origin::Replaced,
        });

        let expected = "ab_1 d3:ICE6:remove14:address-family3:IP67:call-id3:a@b7:command5:offer5:flagsl18:SIP-source-addresse\
                        8:from-tag1:f13:received-froml3:IP49:192.0.2.7e7:replacel6:origine3:sdp5:v=0\r\n10:via-branch2:7fe";
        assert_eq!(String::from_utf8_lossy(&command.datagram("ab_1")), expected);
    }

    #[test]
    fn a_branch_is_deleted_by_its_name_and_a_call_as_a_whole() {
        let delete = |branch| Command::Delete {
            call_id: Bytes::from_static(b"a"),
            from_tag: Bytes::from_static(b"f"),
            branch,
        };

        let whole = delete(None).datagram("c");
        assert_eq!(whole, &b"c d7:call-id1:a7:command6:delete12:delete-delayi0ee"[..]);
        let branch = delete(Some(Bytes::from_static(b"7f"))).datagram("c");
        let expected = "c d7:call-id1:a7:command6:delete12:delete-delayi0e8:from-tag1:f10:via-branch2:7fe";
        assert_eq!(String::from_utf8_lossy(&branch), expected);
    }
}
