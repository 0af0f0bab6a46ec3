//! What a witness shows of itself: its vote, and whom it hears.

use super::{harmless, link_text, millis, paths_text, seconds};
use crate::guardian::witness::WitnessView;

/// All that an operator looks for on a witness's host.
pub fn witness_text(view: &WitnessView) -> String {
    let vote = match (&view.granted, view.is_able) {
        (_, false) => "its disk FAILED: it does not vote; mend the disk and start it again".to_owned(),
        (Some(grant), true) => format!("its vote is {}'s for {}", grant.node, millis(grant.left_ms)),
        (None, true) => "its vote is free".to_owned(),
    };
    let text = format!(
        "WITNESS {}: {vote}\nepoch {}\n\n{}link        {}\nwitness     Tandem {}, pid {}, up {}\n",
        view.voter,
        view.epoch,
        paths_text(&view.paths),
        link_text(&view.link),
        view.version,
        view.pid,
        seconds(view.uptime_s),
    );
    harmless(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardian::view::{GrantView, PathView};

    #[test]
    fn a_witness_says_whose_its_vote_is_and_whom_it_hears() {
        let path = |to: &str, heard_ms| PathView {
            to: to.to_owned(),
            heard_ms,
            is_up: heard_ms.is_some(),
            ..PathView::default()
        };
        let view = WitnessView {
            is_able: true,
            epoch: 7,
            granted: Some(GrantView { node: "a".to_owned(), epoch: None, left_ms: 400 }),
            paths: vec![path("a", Some(50)), path("b", None)],
            ..WitnessView::default()
        };

        let text = witness_text(&view);

        for part in ["its vote is a's for 400ms", "epoch 7", "50ms ago", "DOWN  never"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let failed = witness_text(&WitnessView { is_able: false, ..view });
        assert!(failed.contains("its disk FAILED"), "{failed}");
    }

    #[test]
    fn a_name_moves_no_cursor() {
        let view = WitnessView { voter: "\x1b[2J".to_owned(), ..WitnessView::default() };

        assert!(!witness_text(&view).contains('\x1b'));
    }
}
