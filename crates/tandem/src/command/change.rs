//! What an operator changes in a running cluster: `tandem switchover`, `solo`, `cluster accept` and `cluster apply`.

use std::io::{BufRead, Read, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{Place, print};
use crate::control::client::Client;
use crate::guardian::question::Question;
use crate::guardian::view::ClusterView;

/// What must be typed before a node alone decides.
const OTHERS_ARE_OFF: &str = "the others are off";

/// Bytes of what is typed.
const LINE_BYTES_MAX: u64 = 256;

/// Makes the other node active, and waits until it is.
pub fn switchover(place: &Place, force: bool) -> Result<()> {
    let mut guardian = guardian(place)?;
    let before: ClusterView = guardian.ask(&Question::ClusterStatus {})?;
    wish(&mut guardian, &Question::Switchover { force }).context("no switchover")?;
    let after: ClusterView = guardian.ask(&Question::ClusterStatus {})?;
    print(&format!(
        "{} was active, {} is.{}\n",
        before.active.as_deref().unwrap_or("nobody"),
        after.active.as_deref().unwrap_or("nobody"),
        if after.witness.is_some() { " The witness has voted for it too." } else { "" }
    ))
}

/// Takes the votes of the other nodes out, or gives them back.
pub fn solo(place: &Place, end: bool, force: bool) -> Result<()> {
    let mut guardian = guardian(place)?;
    if force && !end {
        let view: ClusterView = guardian.ask(&Question::ClusterStatus {})?;
        confirm(&view, &mut std::io::stdin().lock(), &mut std::io::stderr())?;
    }
    wish(&mut guardian, &Question::Solo { on: !end, force }).context("the voters are as they were")?;
    print(if end {
        "All configured hosts vote again.\n"
    } else {
        "The other nodes do not vote: they may be switched off and mended, and can not take over.\n\
         When they are back: `tandem solo --end`.\n"
    })
}

/// Lets the voter count that is heard for a member.
pub fn accept(place: &Place, name: &str) -> Result<()> {
    let mut guardian = guardian(place)?;
    let view: ClusterView = guardian.ask(&Question::ClusterStatus {})?;
    let member = member_of(&view, name)?;
    wish(&mut guardian, &Question::Accept { member }).context("it is not accepted")?;
    print(&format!("The voter that is heard for {name} counts from here on.\n"))
}

/// Makes those the voters that are configured.
pub fn apply(place: &Place) -> Result<()> {
    wish(&mut guardian(place)?, &Question::ChangeList {}).context("the voters are as they were")?;
    print("The configured hosts are the voters.\n")
}

fn guardian(place: &Place) -> Result<Client> {
    let socket = place.state_directory()?.guardian_socket();
    Client::open(&socket)?.with_context(|| {
        format!(
            "no guardian answers at {}: this is for a running node of a cluster; name its configuration with --config \
             FILE",
            socket.display()
        )
    })
}

/// Waits for what is wished, and tells on the way how it stands.
fn wish(guardian: &mut Client, question: &Question) -> Result<()> {
    let (began, mut last) = (Instant::now(), String::new());
    guardian.ask_for_items(question, |view: ClusterView| {
        let text = progress(&view);
        if text != last {
            eprintln!("{:>6.1} s  {text}", began.elapsed().as_secs_f32());
            last = text;
        }
        Ok(())
    })
}

/// One line about who is what.
fn progress(view: &ClusterView) -> String {
    let nodes = view.nodes.iter().map(|node| {
        let ready = if node.ready < 100 { format!(" (holds {} %)", node.ready) } else { String::new() };
        format!("{} {}{ready}", node.name, node.stance)
    });
    let nodes: Vec<String> = nodes.collect();
    let change = view
        .list
        .change
        .as_ref()
        .map_or_else(String::new, |member| format!("; the vote of {member} changes"));
    format!("epoch {}: {}{change}", view.epoch, nodes.join(", "))
}

fn confirm(view: &ClusterView, input: &mut impl BufRead, out: &mut impl Write) -> Result<()> {
    let others: Vec<&str> = view
        .nodes
        .iter()
        .filter(|node| !node.is_this)
        .map(|node| node.name.as_str())
        .chain(view.witness.iter().map(|_| "the witness"))
        .collect();
    write!(
        out,
        "{} becomes the only voter. If one of the others ({}) is alive and holds the lease, TWO NODES ANSWER AT ONCE.\n\
         See with your own eyes that they are off, then type `{OTHERS_ARE_OFF}`: ",
        view.node,
        others.join(", ")
    )?;
    out.flush()?;
    let mut line = String::new();
    input.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)?;
    if line.trim() != OTHERS_ARE_OFF {
        bail!("nothing was changed");
    }
    Ok(())
}

fn member_of(view: &ClusterView, name: &str) -> Result<u8> {
    let node = view.nodes.iter().find(|node| node.name.eq_ignore_ascii_case(name));
    if let Some(node) = node {
        return Ok(node.voter.member);
    }
    match &view.witness {
        Some(witness) if name.eq_ignore_ascii_case("witness") => Ok(witness.member),
        _ => {
            let names: Vec<&str> = view
                .nodes
                .iter()
                .map(|node| node.name.as_str())
                .chain(view.witness.iter().map(|_| "witness"))
                .collect();
            bail!("{name} is no member of the cluster; its members are {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardian::view::{NodeView, VoterView};

    #[test]
    fn a_member_is_found_by_its_name() {
        let view = view();

        assert_eq!(member_of(&view, "B").ok(), Some(1));
        assert_eq!(member_of(&view, "witness").ok(), Some(2));
        let error = member_of(&view, "c").expect_err("there is none").to_string();
        assert!(error.ends_with("its members are a, b, witness"), "{error}");
    }

    #[test]
    fn nothing_is_forced_before_the_operator_has_said_that_the_others_are_off() {
        let told = |typed: &str| {
            let mut out = Vec::new();
            let is_confirmed = confirm(&view(), &mut typed.as_bytes(), &mut out).is_ok();
            (is_confirmed, String::from_utf8_lossy(&out).into_owned())
        };

        for typed in ["", "\n", "yes\n", "The others are off\n"] {
            assert!(!told(typed).0, "{typed}");
        }
        let (is_confirmed, text) = told("the others are off\n");
        assert!(is_confirmed && text.contains("(b, the witness)"), "{text}");
    }

    #[test]
    fn the_way_to_a_switchover_is_told_in_a_line() {
        let mut view = view();
        view.nodes[1].ready = 93;

        assert_eq!(progress(&view), "epoch 7: a active, b standby (holds 93 %)");
    }

    fn view() -> ClusterView {
        let node = |name: &str, stance: &str, member| NodeView {
            name: name.to_owned(),
            is_this: member == 0,
            stance: stance.to_owned(),
            ready: 100,
            voter: VoterView { member, ..VoterView::default() },
            ..NodeView::default()
        };
        ClusterView {
            node: "a".to_owned(),
            epoch: 7,
            nodes: vec![node("a", "active", 0), node("b", "standby", 1)],
            witness: Some(VoterView { member: 2, ..VoterView::default() }),
            ..ClusterView::default()
        }
    }
}
