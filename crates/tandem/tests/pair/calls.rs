//! Calls that begin on one of two servers and go on on the other one.

use crate::testbed::{Pair, Phone, eventually};

#[test]
fn the_100_leaves_when_the_other_node_has_the_call() {
    let pair = Pair::equal();
    let call = Call::new();

    // On a busy host a wait may take longer than the cap; then it is counted, and another call is tried.
    for number in 0.. {
        eventually("it has caught up", || pair.b.server.status().inherited == number);
        let degraded = pair.a.degraded();
        call.invite(&pair, &format!("call{number}"));
        call.caller.hear("SIP/2.0 100 ");
        if pair.a.degraded() == degraded {
            assert_eq!(pair.b.server.status().inherited, number + 1);
            break;
        }
    }
}

#[test]
fn another_node_that_hangs_costs_a_call_the_longest_wait_and_is_counted() {
    let pair = Pair::equal();
    let call = Call::new();
    pair.wire.stall();

    call.invite(&pair, "call");
    call.callee.hear("INVITE ");
    call.caller.hear("SIP/2.0 100 ");

    assert_eq!(pair.a.count("degraded_late"), 1);
    assert_eq!(pair.b.server.status().inherited, 0);
    pair.wire.heal();
    eventually("it has caught up", || pair.b.server.status().inherited == 1);
}

#[test]
fn a_ringing_call_is_answered_though_its_node_was_killed() {
    let pair = Pair::equal();
    let call = Call::new();
    let invite = call.ring(&pair);

    pair.b.take_over(&pair.a, 5);
    call.callee.say(&pair.a, &response(&invite, "200 OK"));

    let answer = call.caller.hear("SIP/2.0 200 ");
    assert!(answer.contains(";tag=callee"), "{answer}");
    assert_eq!(pair.b.server.status().contexts, 1);
}

#[test]
fn a_ringing_call_is_cancelled_though_its_node_was_killed() {
    let pair = Pair::equal();
    let call = Call::new();
    let invite = call.ring(&pair);

    pair.b.take_over(&pair.a, 5);
    let uri = call.uri();
    call.caller.say(&pair.a, &call.caller.request("CANCEL", &uri, "call"));

    let confirmed = call.caller.hear("SIP/2.0 200 ");
    assert!(confirmed.contains("CSeq: 1 CANCEL"), "{confirmed}");
    let cancel = call.callee.hear("CANCEL ");
    assert_eq!(line(&cancel, "Via:"), line(&invite, "Via:"));
    call.callee.say(&pair.a, &response(&invite, "487 Request Terminated"));
    call.caller.hear("SIP/2.0 487 ");
    call.callee.hear("ACK ");
}

/// Two phones.
struct Call {
    caller: Phone,
    callee: Phone,
}

impl Call {
    fn new() -> Self {
        Self { caller: Phone::new(), callee: Phone::new() }
    }

    fn uri(&self) -> String {
        format!("sip:callee@{}", self.callee.address())
    }

    fn invite(&self, pair: &Pair, name: &str) {
        self.caller.say(&pair.a, &self.caller.request("INVITE", &self.uri(), name));
    }

    /// It rings, and the standby has it; gives the INVITE as the callee got it.
    fn ring(&self, pair: &Pair) -> String {
        self.invite(pair, "call");
        let invite = self.callee.hear("INVITE ");
        self.callee.say(&pair.a, &response(&invite, "180 Ringing"));
        self.caller.hear("SIP/2.0 180 ");
        eventually("the other node has it", || pair.b.server.status().inherited == 1);
        invite
    }
}

fn line<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find(|line| line.starts_with(name))
}

/// What the callee says.
fn response(request: &str, status: &str) -> String {
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:"];
    let lines = request.lines().filter(|line| copied.iter().any(|name| line.starts_with(name)));
    let lines: String = lines
        .map(|line| match line.starts_with("To:") {
            true => format!("{line};tag=callee\r\n"),
            false => format!("{line}\r\n"),
        })
        .collect();
    format!("SIP/2.0 {status}\r\n{lines}Content-Length: 0\r\n\r\n")
}
