//! Typed access: each value is read when it is asked for.

use super::Message;
use crate::grammar::{ValueRanges, decimal_u32, has_below};
use crate::{CSeq, Malformed, Name, NameAddr, Via};

impl<'a> Message<'a> {
    /// The first value of Via.
    pub fn top_via(&self) -> Result<Via<'a>, Malformed> {
        let first = self.lines(Name::Via).find_map(|line| Some(&line[ValueRanges::new(line).next()?]));
        Via::parse(first.ok_or(Malformed::Missing(Name::Via))?)
    }

    /// All values of Via, the top one first.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'a>, Malformed>> {
        self.values(Name::Via).map(Via::parse)
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr<'a>, Malformed> {
        self.address(Name::From)
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr<'a>, Malformed> {
        self.address(Name::To)
    }

    /// The tag of From. `None` also if From is malformed.
    pub fn from_tag(&self) -> Option<&'a [u8]> {
        self.from().ok()?.tag()
    }

    /// The tag of To. `None` also if To is malformed.
    pub fn to_tag(&self) -> Option<&'a [u8]> {
        self.to().ok()?.tag()
    }

    /// The Call-ID: any bytes but white space and controls.
    ///
    /// Deviation: the `word` of RFC 3261 §25.1 leaves out some characters that phones use.
    pub fn call_id(&self) -> Result<&'a [u8], Malformed> {
        let value = self.header(Name::CallId).ok_or(Malformed::Missing(Name::CallId))?;
        if value.is_empty() || has_below(value, b'!') {
            return Err(Malformed::Header(Name::CallId));
        }
        Ok(value)
    }

    /// CSeq.
    pub fn cseq(&self) -> Result<CSeq<'a>, Malformed> {
        CSeq::parse(self.header(Name::CSeq).ok_or(Malformed::Missing(Name::CSeq))?)
    }

    /// Max-Forwards, kept at the largest number when it is larger. `None` if it is not there.
    pub fn max_forwards(&self) -> Result<Option<u32>, Malformed> {
        match self.header(Name::MaxForwards) {
            Some(value) => decimal_u32(value).map(Some).ok_or(Malformed::Header(Name::MaxForwards)),
            None => Ok(None),
        }
    }

    /// Expires, kept at the largest number when it is larger. `None` also if it is no number.
    // RFC 3261 §20.19: a malformed value is treated as if there were none.
    pub fn expires(&self) -> Option<u32> {
        self.header(Name::Expires).and_then(decimal_u32)
    }

    /// Contact: the star alone, or addresses. All are read once here,
    /// so those in the list are well formed, and so are their URIs.
    // RFC 3261 §10.2.2: the star stands alone.
    pub fn contacts(&self) -> Result<Contacts<'_>, Malformed> {
        let mut values = self.values(Name::Contact);
        let list = ContactList { message: self, line: 0, values: ValueRanges::new(b""), text: b"" };
        match values.next() {
            None => Ok(Contacts::List(list)),
            Some(b"*") if values.next().is_none() => Ok(Contacts::Star),
            Some(first) => {
                let is_address = |value| NameAddr::parse(value).is_ok_and(|address| address.uri().is_ok());
                let is_list = std::iter::once(first).chain(values).all(is_address);
                is_list.then_some(Contacts::List(list)).ok_or(Malformed::Header(Name::Contact))
            }
        }
    }

    /// All values of Route, the next one first.
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'a>, Malformed>> {
        self.addresses(Name::Route)
    }

    /// All values of Record-Route.
    pub fn record_routes(&self) -> impl Iterator<Item = Result<NameAddr<'a>, Malformed>> {
        self.addresses(Name::RecordRoute)
    }

    /// All values of Path.
    pub fn paths(&self) -> impl Iterator<Item = Result<NameAddr<'a>, Malformed>> {
        self.addresses(Name::Path)
    }

    /// The first line with this name as one address.
    pub fn address(&self, name: Name) -> Result<NameAddr<'a>, Malformed> {
        let value = self.header(name).ok_or(Malformed::Missing(name))?;
        NameAddr::parse(value).map_err(|_| Malformed::Header(name))
    }

    /// All values with this name as addresses.
    pub fn addresses(&self, name: Name) -> impl Iterator<Item = Result<NameAddr<'a>, Malformed>> {
        self.values(name).map(move |value| NameAddr::parse(value).map_err(|_| Malformed::Header(name)))
    }
}

/// What Contact says.
#[derive(Clone, Debug)]
pub enum Contacts<'m> {
    /// `*`: all bindings.
    Star,
    /// Addresses, perhaps none.
    List(ContactList<'m>),
}

/// The addresses of Contact, in order.
#[derive(Clone, Debug)]
pub struct ContactList<'m> {
    message: &'m Message<'m>,
    /// The line to read after `values`.
    line: usize,
    values: ValueRanges<'m>,
    text: &'m [u8],
}

impl<'m> Iterator for ContactList<'m> {
    type Item = NameAddr<'m>;

    fn next(&mut self) -> Option<NameAddr<'m>> {
        loop {
            if let Some(range) = self.values.next() {
                // `contacts` has read them all; a value that does not parse cannot come.
                if let Ok(address) = NameAddr::parse(&self.text[range]) {
                    return Some(address);
                }
                continue;
            }
            let span = self.message.spans().get(self.line)?;
            self.line += 1;
            if span.name == Name::Contact {
                self.text = self.message.value_of(span);
                self.values = ValueRanges::new(self.text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contacts(lines: &str) -> Result<Option<Vec<String>>, Malformed> {
        let bytes = format!("REGISTER sip:h SIP/2.0\r\n{lines}\r\n");
        let message = Message::parse(bytes.as_bytes()).unwrap();
        Ok(match message.contacts()? {
            Contacts::Star => None,
            Contacts::List(list) => {
                Some(list.map(|contact| contact.uri.escape_ascii().to_string()).collect())
            }
        })
    }

    #[test]
    fn contacts_of_all_lines_come_in_order() {
        let lines = "Contact: <sip:a>;q=1, \"x, y\" <sip:b,c@h>\r\nVia: x\r\nm: sip:d\r\nContact:\r\n";
        assert_eq!(contacts(lines), Ok(Some(vec!["sip:a".into(), "sip:b,c@h".into(), "sip:d".into()])));
        assert_eq!(contacts(""), Ok(Some(vec![])));
    }

    /// RFC 3261 §10.2.2: the star stands alone.
    #[test]
    fn the_star_stands_alone() {
        assert_eq!(contacts("Contact: *\r\n"), Ok(None));
        for lines in [
            "Contact: *, <sip:a>\r\n",
            "Contact: <sip:a>\r\nm: *\r\n",
            "m: *\r\nm: *\r\n",
            "m: *;expires=0\r\n",
        ] {
            assert_eq!(contacts(lines), Err(Malformed::Header(Name::Contact)), "{lines}");
        }
    }

    #[test]
    fn one_bad_contact_spoils_the_list() {
        for bad in ["<sip:a", "sip:a?Route=x", "<nothing>", "<sip:a@b:x>"] {
            let lines = format!("Contact: <sip:a>, {bad}\r\n");
            assert_eq!(contacts(&lines), Err(Malformed::Header(Name::Contact)), "{bad}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_told_from_absent_ones() {
        let message =
            Message::parse(b"BYE sip:h SIP/2.0\r\nMax-Forwards: x\r\nExpires: soon\r\n\r\n").unwrap();
        assert_eq!(message.max_forwards(), Err(Malformed::Header(Name::MaxForwards)));
        assert_eq!(message.expires(), None);
        let message =
            Message::parse(b"BYE sip:h SIP/2.0\r\nMax-Forwards: 300\r\nExpires: 1000000000000000\r\n\r\n")
                .unwrap();
        assert_eq!(message.max_forwards(), Ok(Some(300)));
        assert_eq!(message.expires(), Some(u32::MAX));
        let message = Message::parse(b"BYE sip:h SIP/2.0\r\n\r\n").unwrap();
        assert_eq!(message.max_forwards(), Ok(None));
        assert_eq!(message.cseq(), Err(Malformed::Missing(Name::CSeq)));
    }

    #[test]
    fn values_of_many_lines_are_one_list() {
        let bytes = b"BYE sip:h SIP/2.0\r\nRoute: <sip:a;lr>,,<sip:b>\r\nX: y\r\nrOUTE:\r\nRoute:\r\n <sip:c>\r\n\r\n";
        let message = Message::parse(bytes).unwrap();
        let routes: Vec<&[u8]> = message.routes().map(|route| route.unwrap().uri).collect();
        assert_eq!(routes, [&b"sip:a;lr"[..], b"sip:b", b"sip:c"]);
        assert_eq!(message.count(Name::Route), 3);
    }
}
