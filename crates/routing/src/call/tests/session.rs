//! Session timers: what a server that wants them adds, and when it forgets a session that nobody has refreshed.

use std::time::Duration;

use sip::Name;

use super::scene::*;
use crate::{Count, SessionTimers, Settings};

const CONTACT: &str = "Contact: <sip:bob@192.0.2.102:5060>";

#[test]
fn a_server_that_wants_no_timers_changes_nothing_and_follows_what_the_phones_agree_on() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").header("Session-Expires: 60").header("Supported: timer");
    let phone = only_left(&scene.call_as_account(ALICE, &request, vec![bob()]));
    assert_eq!(expires(&phone.request).as_deref(), Some("60"));

    scene.reply(&phone, 200, &format!("{CONTACT}\nSession-Expires: 100;refresher=uas"));

    scene.pass(Duration::from_secs(99));
    assert_eq!(scene.user.calls(), 1);
    scene.pass(Duration::from_secs(1));
    assert_eq!((scene.user.calls(), scene.counts().of(Count::SessionExpired)), (0, 1));
}

#[test]
fn a_call_without_a_timer_has_none() {
    let mut scene = Scene::new();
    let phone = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    assert_eq!(expires(&phone.request), None);
    let answered = only_response(&scene.reply(&phone, 200, CONTACT));
    assert_eq!(expires(&answered), None);

    scene.pass(Duration::from_secs(3 * 3_600));

    assert_eq!(scene.user.calls(), 1);
}

#[test]
fn a_timer_is_asked_for_and_a_larger_one_is_lowered() {
    for (wish, min_se, leaves) in [
        (None, None, "1800"),
        (Some("3600;refresher=uac"), None, "1800;refresher=uac"),
        (Some("3600"), Some(2_400), "2400"),
        (Some("600;refresher=uas"), None, "600;refresher=uas"),
        (None, Some(2_000), "2000"),
        (Some("99999999999"), None, "1800"),
        // Who does not know timers can not ask again.
        (Some("60"), None, "120"),
        (Some("60"), Some(150), "150"),
    ] {
        let mut scene = Scene::with(with_timers);
        let mut request = invite("sip:bob@example.org");
        if let Some(wish) = wish {
            request = request.header(&format!("Session-Expires: {wish}"));
        }
        if let Some(min_se) = min_se {
            request = request.header(&format!("Min-SE: {min_se}"));
        }

        let phone = only_left(&scene.call_as_account(ALICE, &request, vec![bob()]));

        assert_eq!(expires(&phone.request).as_deref(), Some(leaves), "{wish:?} {min_se:?}");
    }
}

#[test]
fn a_phone_that_knows_timers_and_asks_for_a_small_one_is_told_the_smallest() {
    let mut scene = Scene::with(with_timers);
    let request = invite("sip:bob@example.org").header("Session-Expires: 119").header("Supported: timer");

    let refused = only_response(&scene.receive(ALICE, &request.text()));

    assert_eq!((status(&refused), header(&refused, Name::MinSe).as_deref()), (422, Some("120")));
    let fine = invite("sip:bob@example.org").header("Session-Expires: 120").header("Supported: timer");
    assert_eq!(statuses(&scene.receive(ALICE, &fine.again().text())), [407]);
}

/// The caller refreshes where the callee does not know how; where neither does there is no timer.
#[test]
fn a_caller_that_knows_timers_is_told_to_refresh_if_the_callee_does_not() {
    for (is_known, told) in [(true, Some("1800;refresher=uac")), (false, None)] {
        let mut scene = Scene::with(with_timers);
        let mut request = invite("sip:bob@example.org");
        if is_known {
            request = request.header("Supported: timer");
        }
        let phone = only_left(&scene.call_as_account(ALICE, &request, vec![bob()]));

        let answered = only_response(&scene.reply(&phone, 200, CONTACT));

        assert_eq!(expires(&answered).as_deref(), told);
        assert_eq!(header(&answered, Name::Require).as_deref(), told.map(|_| "timer"));
        scene.pass(Duration::from_secs(1_799));
        assert_eq!(scene.user.calls(), 1);
        scene.pass(Duration::from_secs(1));
        assert_eq!(scene.user.calls(), usize::from(!is_known));
    }
}

#[test]
fn a_callee_that_knows_timers_has_the_word() {
    let mut scene = Scene::with(with_timers);
    let request = invite("sip:bob@example.org").header("Supported: timer");
    let phone = only_left(&scene.call_as_account(ALICE, &request, vec![bob()]));

    let extra = format!("{CONTACT}\nSession-Expires: 900;refresher=uas\nRequire: timer");
    let answered = only_response(&scene.reply(&phone, 200, &extra));

    assert_eq!(expires(&answered).as_deref(), Some("900;refresher=uas"));
    assert_eq!(values(&answered, Name::Require), ["timer"]);
}

#[test]
fn a_session_is_refreshed_by_either_side_and_may_lose_its_timer() {
    let mut scene = Scene::with(with_timers);
    let request = invite("sip:bob@example.org").header("Supported: timer");
    let phone = only_left(&scene.call_as_account(ALICE, &request, vec![bob()]));
    scene.reply(&phone, 200, &format!("{CONTACT}\nSession-Expires: 600;refresher=uac"));
    scene.pass(Duration::from_secs(500));

    let route = format!("Route: {}", values(&phone.request, Name::RecordRoute).join(", "));
    let update = super::scene::request("UPDATE", "sip:bob@192.0.2.102:5060")
        .to("<sip:bob@example.org>;tag=callee-tag")
        .header(&route);
    let with_timer = Request { cseq: 9, ..update.clone().header("Session-Expires: 600;refresher=uac") };
    let refreshing = only_left(&scene.receive(ALICE, &with_timer.again().text()));
    assert_eq!(expires(&refreshing.request).as_deref(), Some("600;refresher=uac"));
    scene.reply(&refreshing, 200, "Session-Expires: 600;refresher=uac");
    scene.pass(Duration::from_secs(599));
    assert_eq!(scene.user.calls(), 1);

    let without = Request { cseq: 11, via: update.via.replace("alice", "bare"), ..update };
    let bare = only_left(&scene.receive(ALICE, &without.text()));
    assert_eq!(expires(&bare.request), None, "an UPDATE may be about something else");
    scene.reply(&bare, 200, "");
    scene.pass(Duration::from_secs(3_600));
    assert_eq!(scene.user.calls(), 1, "without a word it has no end");
}

#[test]
fn other_requests_and_answers_have_no_timers() {
    let mut scene = Scene::with(with_timers);
    let options = super::scene::request("OPTIONS", "sip:bob@example.org").header("Supported: timer");
    let phone = only_left(&scene.call_as_account(ALICE, &options, vec![bob()]));
    assert_eq!(expires(&phone.request), None);
    assert_eq!(expires(&only_response(&scene.reply(&phone, 200, ""))), None);

    let request = invite("sip:bob@example.org").header("Supported: timer");
    let request =
        Request { via: request.via.replace("alice", "invite"), call_id: "other@a".to_owned(), ..request };
    let phone = only_left(&scene.call_as_account(ALICE, &request, vec![bob()]));
    assert_eq!(expires(&only_response(&scene.reply(&phone, 486, ""))), None);
}

#[test]
fn a_session_is_over_on_the_other_node_when_it_would_have_been_here() {
    let (mut here, mut there) = (Scene::new(), Scene::new());
    let phone = only_left(&here.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    here.reply(&phone, 200, &format!("{CONTACT}\nSession-Expires: 600"));
    here.pass(Duration::from_secs(400));
    let name = here.user.answered_calls()[0];
    let stored = here.user.stored_dialog(here.now, name).unwrap();

    assert!(there.user.inherit_dialog(there.now, name, &stored));

    there.pass(Duration::from_secs(199));
    assert_eq!(there.user.calls(), 1);
    there.pass(Duration::from_secs(1));
    assert_eq!(there.user.calls(), 0);
}

fn with_timers(settings: &mut Settings) {
    let (expires, min) = (Some(Duration::from_secs(1_800)), Duration::from_secs(120));
    settings.proxy.session = SessionTimers { expires, min };
}

fn expires(message: &[u8]) -> Option<String> {
    header(message, Name::SessionExpires)
}
