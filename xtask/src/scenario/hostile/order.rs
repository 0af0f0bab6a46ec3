//! Honest messages at the wrong time: replayed, reordered, doubled.

use anyhow::{Context, Result, ensure};

use super::Siege;
use crate::lab::Lab;
use crate::phone::call;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "replayed_requests_do_nothing_twice", run: replayed },
    Scenario { name: "requests_in_the_wrong_order_do_no_harm", run: reordered },
];

/// Somebody who has heard everything sends it again, from another address.
fn replayed(lab: &Lab) -> Result<()> {
    let mut siege = Siege::begin(lab, "")?;
    let refresh = siege.alice.register_request(600);
    let refresh = siege.alice.with_credentials(refresh);
    siege.alice.send(&refresh)?;
    siege.alice.expect_status(&refresh, 200)?;
    let invite = call::invite(&mut siege.alice, &siege.bob.aor())?;
    let arrived = siege.bob.expect_request("INVITE")?;
    siege.bob.reply(&arrived, 486, "Busy Here")?;
    let busy = siege.alice.expect_status(&invite, 486)?;
    siege.alice.send(&call::acknowledge(&invite, &busy))?;

    // While the transactions live a retransmission is absorbed, and its answer goes to the phone.
    for request in [&refresh, &invite] {
        let came = siege.exchange(0, &request.to_bytes())?;
        ensure!(came.is_empty(), "a replay of {} was answered: {}", request.start, came[0].start);
    }
    // As transactions of their own they lack a fresh proof.
    for (request, status) in [(&refresh, 401), (&invite, 407)] {
        let via = "SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK-replayed;rport";
        let again = request.clone().with_only("Via", via);
        let came = siege.exchange(0, &again.to_bytes())?;
        let answer = came.first().and_then(|message| message.status());
        ensure!(answer == Some(status), "a replayed {} was answered by {answer:?}", request.start);
    }
    siege.bob.expect_none("a replayed INVITE", std::time::Duration::from_millis(300), |message| {
        message.method() == Some("INVITE")
    })?;
    siege.end()
}

fn reordered(lab: &Lab) -> Result<()> {
    let mut siege = Siege::begin(lab, "")?;
    // CANCEL before its INVITE.
    let uri = siege.bob.aor();
    let late = siege.alice.request("INVITE", &uri);
    let early = call::cancel(&late);
    siege.alice.send(&early)?;
    siege.alice.expect_status(&early, 481)?;

    // ACK before the 2xx, twice, and again after the call; a CANCEL of what was answered.
    let invite = call::invite(&mut siege.alice, &uri)?;
    let arrived = siege.bob.expect_request("INVITE")?;
    let too_soon = call::cancel(&invite).with_only("CSeq", "2 ACK");
    let too_soon =
        crate::phone::message::Message { start: too_soon.start.replacen("CANCEL", "ACK", 1), ..too_soon };
    siege.alice.send(&too_soon)?;
    let answer = siege.bob.reply(&arrived, 200, "OK")?;
    let accepted = siege.alice.expect_status(&invite, 200)?;
    let mut dialog = call::Dialog::of_caller(&invite, &accepted)?;
    let ack = dialog.ack(&mut siege.alice);
    for _ in 0..3 {
        siege.alice.send(&ack)?;
        siege.bob.expect_request("ACK").context("an ACK that came again")?;
    }
    let cancel = call::cancel(&invite);
    siege.alice.send(&cancel)?;
    siege.alice.expect_status(&cancel, 200).context("the CANCEL of an answered INVITE")?;
    siege.bob.expect_none("a CANCEL", std::time::Duration::from_millis(300), |message| {
        message.method() == Some("CANCEL")
    })?;

    // A BYE that came twice reaches the phone once; after it the dialog's requests are the phone's to refuse.
    let bye = dialog.request(&mut siege.alice, "BYE");
    siege.alice.send(&bye)?;
    siege.alice.send(&bye)?;
    let heard = siege.bob.expect_request("BYE")?;
    siege.bob.reply(&heard, 200, "OK")?;
    siege.alice.expect_status(&bye, 200)?;
    siege.bob.expect_none("a second BYE", std::time::Duration::from_millis(300), |message| {
        message.method() == Some("BYE")
    })?;
    let _ = answer;
    siege.end()
}
