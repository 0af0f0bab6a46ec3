//! A SIP message as text: enough to write tests with, also messages that no honest phone sends.

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The start line.
    pub start: String,
    /// Header lines in order.
    pub headers: Vec<(String, String)>,
    /// What follows the empty line.
    pub body: String,
}

impl Message {
    /// A request without headers.
    pub fn request(method: &str, uri: &str) -> Message {
        Message { start: format!("{method} {uri} SIP/2.0"), headers: Vec::new(), body: String::new() }
    }

    /// A response with what has to be copied from the request.
    pub fn response(request: &Message, status: u16, reason: &str) -> Message {
        let copied = ["via", "from", "to", "call-id", "cseq", "record-route"];
        let headers = request
            .headers
            .iter()
            .filter(|(name, _)| copied.contains(&name.to_ascii_lowercase().as_str()))
            .cloned()
            .collect();
        Message { start: format!("SIP/2.0 {status} {reason}"), headers, body: String::new() }
    }

    /// Reads one message; none when it is not SIP.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        if !start.starts_with("SIP/2.0 ") && !start.ends_with(" SIP/2.0") {
            return None;
        }
        let headers = lines
            .map(|line| line.split_once(':').map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned())))
            .collect::<Option<_>>()?;
        Some(Message { start, headers, body: body.to_owned() })
    }

    /// The bytes to send, with a Content-Length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body));
        text.into_bytes()
    }

    /// Adds a header line at the end.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Message {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Replaces all lines of a header by one, or adds it.
    pub fn with_only(mut self, name: &str, value: impl Into<String>) -> Message {
        let place = self.headers.iter().position(|(n, _)| n.eq_ignore_ascii_case(name));
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        let place = place.unwrap_or(self.headers.len());
        self.headers.insert(place, (name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    pub fn with_body(mut self, content_type: &str, body: impl Into<String>) -> Message {
        self.body = body.into();
        self.with_only("Content-Type", content_type)
    }

    /// Adds a tag to the To header if it has none.
    pub fn with_to_tag(self, tag: &str) -> Message {
        let to = self.header("To").unwrap_or_default().to_owned();
        if to.contains(";tag=") { self } else { self.with_only("To", format!("{to};tag={tag}")) }
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// The values of all lines of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&str> {
        if self.status().is_some() { None } else { self.start.split(' ').next() }
    }

    /// The request URI.
    pub fn uri(&self) -> Option<&str> {
        if self.status().is_some() { None } else { self.start.split(' ').nth(1) }
    }

    /// The Call-ID.
    pub fn call_id(&self) -> &str {
        self.header("Call-ID").unwrap_or_default()
    }

    /// The CSeq value.
    pub fn cseq(&self) -> &str {
        self.header("CSeq").unwrap_or_default()
    }

    /// Whether this is a response to the request, by Call-ID and CSeq.
    pub fn answers(&self, request: &Message) -> bool {
        self.status().is_some() && self.call_id() == request.call_id() && self.cseq() == request.cseq()
    }
}

/// The value of a `;name=value` parameter.
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let after_uri = value.rsplit_once('>').map_or(value, |(_, after)| after);
    after_uri.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
}

/// What stands between `<` and `>`.
pub fn bracketed(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once('<')?;
    rest.split_once('>').map(|(uri, _)| uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_written_can_be_read() {
        let message = Message::request("INVITE", "sip:bob@example.org")
            .with("Call-ID", "1")
            .with("Via", "a")
            .with("Via", "b")
            .with_body("text/plain", "hello");

        let read = Message::parse(&message.to_bytes()).expect("it is SIP");

        assert_eq!(read.all("via"), ["a", "b"]);
        assert_eq!((read.method(), read.uri()), (Some("INVITE"), Some("sip:bob@example.org")));
        assert_eq!((read.body.as_str(), read.header("content-length")), ("hello", Some("5")));
    }

    #[test]
    fn what_is_not_sip_is_no_message() {
        assert_eq!(Message::parse(b"GET / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(Message::parse(b"\r\n\r\n"), None);
    }

    #[test]
    fn a_parameter_inside_the_brackets_is_not_one_of_the_header() {
        assert_eq!(parameter("<sip:a@b;tag=in>;tag=out", "tag"), Some("out"));
        assert_eq!(parameter("<sip:a@b;tag=in>", "tag"), None);
    }
}
