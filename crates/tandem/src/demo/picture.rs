//! The picture: both nodes, the witness, the phones, and what was said last. It fits a terminal of 80 columns and 24 rows.

use std::time::Duration;

use super::ink::{Ink, Line, beside};
use super::node::Plight;
use crate::command::cluster_picture::card::{Border, Card};
use crate::guardian::view::{ClusterView, NodeView};
use crate::phones::PhoneView;
use crate::phones::callee::Doing;
use crate::phones::caller::Standing;
use crate::phones::pulse::Beat;

/// So many of a phone's questions are shown.
pub const BEATS: usize = 16;

/// Lines in the card of a node.
const CARD_LINES: usize = 3;

/// All that is drawn.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The virtual address.
    pub address: String,
    /// The nodes.
    pub nodes: [NodeScene; 2],
    /// The phones, each with where it is.
    pub phones: Vec<(PhoneView, String)>,
    /// Who calls, and how each call stands.
    pub calls: (String, Vec<(String, Option<Standing>)>),
    /// What was said, the latest last.
    pub said: Vec<Line>,
    /// What can be done, or what is waited for, piece by piece.
    pub prompt: Vec<Line>,
}

/// A node, and what it says.
#[derive(Clone, Debug)]
pub struct NodeScene {
    /// Its name.
    pub name: String,
    /// What was done to it.
    pub plight: Plight,
    /// What its guardian says; nothing while it says nothing.
    pub view: Option<ClusterView>,
}

impl NodeScene {
    /// What it says of itself.
    fn own(&self) -> Option<(&ClusterView, &NodeView)> {
        let view = self.view.as_ref()?;
        view.nodes.iter().find(|node| node.is_this).map(|own| (view, own))
    }

    fn is_active(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.role == "active")
    }
}

/// The rows of the picture, for a terminal of so many rows and columns.
pub fn picture(scene: &Scene, rows: usize, columns: usize) -> Vec<Line> {
    let prompt = beside(&scene.prompt, columns);
    let mut lines = vec![headline(scene)];
    lines.extend(cards(scene));
    lines.push(witness(scene));
    lines.push(Line::new());
    lines.push(phone_heads());
    lines.extend(scene.phones.iter().map(|(phone, place)| phone_row(phone, place)));
    lines.push(calls_row(scene));
    lines.push(Line::new());
    let room = rows.saturating_sub(lines.len() + prompt.len() + 1);
    let first = scene.said.len().saturating_sub(room);
    let said = &scene.said[first..];
    lines.extend(said.iter().cloned());
    lines.extend(std::iter::repeat_n(Line::new(), room - said.len() + 1));
    // Whoever has a small window wants to know the keys first.
    lines.truncate(rows.saturating_sub(prompt.len()));
    lines.extend(prompt);
    lines.truncate(rows);
    lines
}

fn active(scene: &Scene) -> Option<&NodeScene> {
    let epoch = |node: &&NodeScene| node.view.as_ref().map(|view| view.epoch);
    scene.nodes.iter().filter(|node| node.is_active()).max_by_key(epoch)
}

fn headline(scene: &Scene) -> Line {
    let line = Line::of(Ink::Strong, " Tandem").with(Ink::Plain, format!("   {} ", scene.address));
    let Some((view, node)) = active(scene).and_then(|node| Some((node.view.as_ref()?, node))) else {
        return line.with(Ink::Bad, "is held by nobody");
    };
    let seats = seats(view);
    line.with(Ink::Plain, "is held by ")
        .with(Ink::Good, node.name.clone())
        .with(Ink::Plain, format!("   epoch {}, {} of {seats} votes", view.epoch, view.votes))
}

fn seats(view: &ClusterView) -> usize {
    let voters = view.nodes.iter().map(|node| &node.voter).chain(&view.witness);
    voters.filter(|voter| voter.is_seated).count()
}

fn cards(scene: &Scene) -> Vec<Line> {
    let [left, right] = &scene.nodes;
    let drawn = [left, right].map(|node| (card(node).draw(CARD_LINES), ink(node)));
    let [(left_rows, left_ink), (right_rows, right_ink)] = drawn;
    let is_cut = [left, right].iter().any(|node| node.plight != Plight::None);
    let wire = if is_cut {
        (Ink::Odd, "───╳  ╳───")
    } else {
        (Ink::Faint, "◄────────►")
    };
    let rows = left_rows.into_iter().zip(right_rows).enumerate();
    rows.map(|(row, (left, right))| {
        let (wire_ink, wire) = if row == 2 { wire } else { (Ink::Plain, "") };
        Line::of(left_ink, left).with(wire_ink, format!("{wire:^12}")).with(right_ink, right)
    })
    .collect()
}

fn ink(node: &NodeScene) -> Ink {
    match node.plight {
        Plight::None if node.is_active() => Ink::Good,
        Plight::None if node.view.is_some() => Ink::Plain,
        Plight::None => Ink::Faint,
        Plight::Killed | Plight::Frozen | Plight::Unplugged => Ink::Odd,
    }
}

fn card(node: &NodeScene) -> Card {
    let title = format!("node {}", node.name);
    let told = |state: &str, lines: [&str; 2]| Card {
        title: title.clone(),
        state: state.to_owned(),
        border: Border::Dashed,
        lines: lines.map(str::to_owned).to_vec(),
    };
    match node.plight {
        Plight::Killed => return told("KILLED", ["all its processes are gone", "h brings it back"]),
        Plight::Frozen => return told("FROZEN", ["all its processes stand still", "h lets it go on"]),
        Plight::Unplugged => return told("CUT OFF", ["its cable is drawn", "h puts it in again"]),
        Plight::None => {}
    }
    let Some((view, own)) = node.own() else { return told("starting", ["", ""]) };
    let engine = format!("engine {}", view.engine.state);
    if view.role == "active" {
        let left = view.lease_left_ms.unwrap_or_default();
        let lease = format!("lease: {left} ms left");
        let lines = vec![format!("answers at {}", view.addresses.join(", ")), engine, lease];
        return Card { title, state: "ACTIVE".to_owned(), border: Border::Double, lines };
    }
    let ready = match own.stance.as_str() {
        "standby" => "can take over at once".to_owned(),
        "away" => "is not there yet".to_owned(),
        stance => format!("can not take over ({stance})"),
    };
    let granted = view.granted.as_ref();
    let vote = granted.map_or_else(|| "its vote is free".to_owned(), |it| format!("votes for {}", it.node));
    Card { title, state: view.role.clone(), border: Border::Single, lines: vec![ready, engine, vote] }
}

/// What the witness says, as the nodes hear it.
fn witness(scene: &Scene) -> Line {
    let views = active(scene).into_iter().chain(&scene.nodes).filter_map(|node| node.view.as_ref());
    let heard =
        views.filter_map(|view| Some((view, view.witness.as_ref()?))).find(|(_, it)| it.heard_ms.is_some());
    let vote = match heard {
        None => "is not heard yet".to_owned(),
        Some((view, witness)) if witness.votes => format!("votes for {}", view.node),
        Some((_, witness)) => match &witness.granted {
            Some(grant) => format!("votes for {}", grant.node),
            None => "its vote is free".to_owned(),
        },
    };
    Line::of(Ink::Faint, format!("{:>80}", format!("└───── witness: {vote} ─────┘{}", " ".repeat(24))))
}

fn phone_heads() -> Line {
    let heads = format!(
        " {:<6}{:<16}{:<8}{:<10}{:<7}{:<6}{:<BEATS$}  STATE",
        "PHONE", "AT", "EXPIRES", "REGISTERS", "HEARD", "PINGS", "ANSWERED (10/s)"
    );
    Line::of(Ink::Faint, heads)
}

fn phone_row(phone: &PhoneView, place: &str) -> Line {
    let registered = match phone.registered_for {
        Some(left) => (Ink::Plain, time_left(left)),
        None => (Ink::Bad, "no".to_owned()),
    };
    let heard =
        phone.heard_ago.map_or_else(|| "never".to_owned(), |ago| format!("{:.1} s", ago.as_secs_f32()));
    let mut line = Line::of(Ink::Strong, format!(" {:<6}", phone.name))
        .with(Ink::Plain, format!("{place:<16}"))
        .with(registered.0, format!("{:<8}", registered.1))
        .with(Ink::Plain, format!("{:<10}{heard:<7}{:<6}", phone.registers, phone.kept_alive))
        .with(Ink::Plain, " ".repeat(BEATS.saturating_sub(phone.beats.len())));
    for beat in phone.beats.iter().take(BEATS) {
        line = match beat {
            Beat::Answered => line.with(Ink::Good, "▆"),
            Beat::Open => line.with(Ink::Faint, "·"),
            Beat::Missed => line.with(Ink::Bad, "▁"),
        };
    }
    match phone.doing {
        Doing::Idle if phone.rang == 0 => line.with(Ink::Faint, "  idle"),
        Doing::Idle => line.with(Ink::Faint, format!("  rang {}×", phone.rang)),
        Doing::Ringing => line.with(Ink::Odd, "  rings"),
        Doing::Talking => line.with(Ink::Good, "  in call"),
    }
}

fn calls_row(scene: &Scene) -> Line {
    let (caller, calls) = &scene.calls;
    let mut line = Line::of(Ink::Strong, format!(" {caller:<6}")).with(
        Ink::Plain,
        if calls.iter().any(|(_, it)| it.is_some()) { "calls  " } else { "calls nobody yet" },
    );
    for (name, standing) in calls {
        let Some(standing) = standing else { continue };
        let (ink, text) = match standing {
            Standing::Calling => (Ink::Faint, format!("{name} …")),
            Standing::Ringing => (Ink::Odd, format!("{name} rings")),
            Standing::Up(_) => (Ink::Good, format!("{name} talks")),
            Standing::Ended(after) => (Ink::Good, format!("{name} ✓ {:.1} s", after.as_secs_f32())),
            Standing::Cancelling | Standing::Cancelled => (Ink::Faint, format!("{name} –")),
            Standing::Failed(_) => (Ink::Bad, format!("{name} ✗")),
        };
        line = line.with(ink, format!("{text:<15}"));
    }
    line
}

fn time_left(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::ink::Colours;
    use crate::guardian::view::VoterView;

    #[test]
    fn the_picture_of_a_takeover_fits_a_terminal_and_tells_who_is_active() {
        let mut scene = scene();

        let rows = text(&picture(&scene, 24, 80));

        assert_eq!(rows.len(), 24);
        assert!(rows.iter().all(|row| row.chars().count() <= 80), "{rows:#?}");
        assert_eq!(rows[0], " Tandem   192.0.2.100 is held by a   epoch 7, 3 of 3 votes");
        assert!(rows[1].starts_with("╔═ node a") && rows[1].ends_with("standby ─┐"), "{}", rows[1]);
        assert!(rows[6].contains("witness: votes for a"), "{}", rows[6]);
        assert_eq!(
            rows[9],
            " anna  192.0.2.21      59 min  2         0.1 s  0                 ▆▆▁·  in call"
        );
        assert!(rows[11].contains("anna ✓ 0.4 s") && rows[11].contains("ben ✗"), "{}", rows[11]);
        assert!(rows[23].contains("q quit"), "{}", rows[23]);
        scene.nodes[0].view = None;
        scene.nodes[0].plight = Plight::Killed;
        let rows = text(&picture(&scene, 24, 80));
        assert_eq!(rows[0], " Tandem   192.0.2.100 is held by nobody");
        assert!(rows[1].contains("KILLED ╌┐"), "{}", rows[1]);
        assert!(rows[3].contains('╳'), "{}", rows[3]);
    }

    #[test]
    fn the_last_words_are_shown_where_there_is_no_room_for_all() {
        let mut scene = scene();
        scene.said = (0..50).map(|number| Line::of(Ink::Plain, number.to_string())).collect();

        for rows in [10, 18, 24, 50] {
            let drawn = text(&picture(&scene, rows, 80));
            assert_eq!((drawn.len(), drawn.last().map(String::as_str)), (rows, Some(" q quit")));
            assert!(rows < 20 || drawn.contains(&"49".to_owned()), "{drawn:#?}");
        }
    }

    #[test]
    fn all_keys_are_shown_in_a_narrow_terminal() {
        let mut scene = scene();
        scene.prompt = ["k kill ", "h heal ", "q quit"].map(|key| Line::of(Ink::Plain, key)).to_vec();

        let drawn = text(&picture(&scene, 10, 14));

        assert_eq!(drawn[8..], ["k kill h heal ", "q quit"]);
        assert_eq!(text(&picture(&scene, 1, 7)), ["k kill "]);
    }

    fn text(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.render(200, Colours::Off)).collect()
    }

    fn scene() -> Scene {
        let phone = PhoneView {
            name: "anna".to_owned(),
            registered_for: Some(Duration::from_secs(3_599)),
            heard_ago: Some(Duration::from_millis(90)),
            doing: Doing::Talking,
            registers: 2,
            kept_alive: 0,
            rang: 1,
            beats: vec![Beat::Answered, Beat::Answered, Beat::Missed, Beat::Open],
        };
        let ended = Some(Standing::Ended(Duration::from_millis(420)));
        let failed = Some(Standing::Failed("480".to_owned()));
        Scene {
            address: "192.0.2.100".to_owned(),
            nodes: [node("a", "active"), node("b", "standby")],
            phones: vec![
                (phone.clone(), "192.0.2.21".to_owned()),
                (PhoneView { registered_for: None, ..phone }, "192.168.1.2 NAT".to_owned()),
            ],
            calls: ("kim".to_owned(), vec![("anna".to_owned(), ended), ("ben".to_owned(), failed)]),
            said: vec![Line::of(Ink::Plain, "hello")],
            prompt: vec![Line::of(Ink::Plain, " q quit")],
        }
    }

    fn node(name: &str, role: &str) -> NodeScene {
        let voter = VoterView { is_seated: true, votes: true, heard_ms: Some(3), ..VoterView::default() };
        let of = |other: &str| NodeView {
            name: other.to_owned(),
            is_this: other == name,
            stance: if other == name { role.to_owned() } else { "silent".to_owned() },
            voter: voter.clone(),
            ..NodeView::default()
        };
        let view = ClusterView {
            node: name.to_owned(),
            role: role.to_owned(),
            epoch: 7,
            votes: 3,
            lease_left_ms: Some(391),
            addresses: vec!["192.0.2.100".to_owned()],
            nodes: vec![of("a"), of("b")],
            witness: Some(voter),
            ..ClusterView::default()
        };
        NodeScene { name: name.to_owned(), plight: Plight::None, view: Some(view) }
    }
}
