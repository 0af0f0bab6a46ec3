//! The commands of rtpengine's `ng` protocol that make a session: a cookie and a bencoded dictionary in a datagram.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::cable::MEDIA;
use crate::lab::Host;
use crate::sessions::{Session, description};
use crate::talker::described;

const PATIENCE: Duration = Duration::from_secs(5);

/// Where commands go.
#[derive(Debug)]
pub struct Ng {
    socket: UdpSocket,
    cookie: u32,
}

impl Ng {
    /// On the relay's own host.
    pub fn open(host: &Host, remote: (IpAddr, u16)) -> Result<Ng> {
        let socket = host.enter(|| UdpSocket::bind((remote.0, 0)))??;
        socket.connect(remote)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Ng { socket, cookie: 0 })
    }

    /// A session from offer to answer.
    pub fn session(&mut self, number: usize) -> Result<Session> {
        let mut session = Session::of_phones(number);
        let call = format!("call-{number}");
        let names = [("call-id", call.as_str()), ("from-tag", "caller")];
        let offer = description(MEDIA, session.caller);
        session.towards_callee =
            self.ask(&[&names[..], &[("command", "offer"), ("sdp", &offer)]].concat())?;
        let answer = description(MEDIA, session.callee);
        let rest = [("to-tag", "callee"), ("command", "answer"), ("sdp", &answer)];
        session.towards_caller = self.ask(&[&names[..], &rest].concat())?;
        Ok(session)
    }

    /// Gives a command, and reads the port in the description that comes back.
    fn ask(&mut self, words: &[(&str, &str)]) -> Result<u16> {
        self.cookie += 1;
        let cookie = format!("{} ", self.cookie);
        self.socket.send(format!("{cookie}{}", dictionary(words)).as_bytes())?;
        let mut room = [0; 8_192];
        let length = self.socket.recv(&mut room).context("rtpengine does not answer")?;
        let text = String::from_utf8_lossy(&room[..length]);
        ensure!(text.starts_with(&cookie), "rtpengine answers something else: {text}");
        let port = text_of(&text, "sdp").and_then(described);
        Ok(port.with_context(|| format!("rtpengine answers: {text}"))?.port())
    }
}

fn dictionary(words: &[(&str, &str)]) -> String {
    let text = |word: &str| format!("{}:{word}", word.len());
    let inner: String = words.iter().map(|(name, value)| text(name) + &text(value)).collect();
    format!("d{inner}e")
}

/// The text behind a name.
fn text_of<'t>(answer: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = answer.split_once(&format!("{}:{name}", name.len()))?;
    let (length, rest) = rest.split_once(':')?;
    rest.get(..length.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_is_written_and_a_text_read_from_one() {
        assert_eq!(dictionary(&[("command", "ping"), ("x", "")]), "d7:command4:ping1:x0:e");
        assert_eq!(text_of("7 d6:result2:ok3:sdp4:v=0\ne", "sdp"), Some("v=0\n"));
        assert_eq!(text_of("7 d3:sdp9:v=0e", "sdp"), None);
    }
}
