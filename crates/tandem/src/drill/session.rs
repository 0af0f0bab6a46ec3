//! A drill while it goes on: the hands, the phones, and who wants it to end.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use host::Signals;

use super::flock::Flock;
use super::reach::Reach;
use crate::guardian::view::ClusterView;

/// How often what is waited for is looked at.
const TICK: Duration = Duration::from_millis(20);

/// A pair that was broken is whole again within this time, or an operator must look at it.
const WHOLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Why a drill ends before its end.
#[derive(Debug)]
pub enum Over {
    /// Somebody wants it.
    Interrupted,
    /// Something could not be done.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Over {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Who is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// The node.
    pub node: String,
    /// Under which epoch.
    pub epoch: u64,
}

/// A drill.
#[derive(Debug)]
pub struct Session {
    /// The hands.
    pub hands: Vec<Reach>,
    /// The phones.
    pub flock: Flock,
    /// Who wants it to end.
    pub signals: Signals,
}

impl Session {
    /// Looks until something has come; `None`: it has not in this time.
    pub fn wait<T>(
        &mut self,
        limit: Duration,
        mut look: impl FnMut(&mut Self) -> Result<Option<T>, Over>,
    ) -> Result<Option<T>, Over> {
        let until = Instant::now() + limit;
        loop {
            if let Some(found) = look(self)? {
                return Ok(Some(found));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            if self.signals.next().is_some() {
                return Err(Over::Interrupted);
            }
            std::thread::sleep(TICK);
        }
    }

    /// Who is active, as far as a hand knows.
    pub fn active(&mut self) -> Option<Active> {
        active_of(&self.views())
    }

    /// Waits until one node is active and all others could take over.
    pub fn wait_until_whole(&mut self) -> Result<Active, Over> {
        let mut last = Vec::new();
        let found = self.wait(WHOLE_TIME_MAX, |session| {
            last = session.views();
            Ok(active_of(&last).filter(|_| last.iter().all(is_whole)))
        })?;
        let seconds = WHOLE_TIME_MAX.as_secs();
        let told: Vec<String> = last.iter().map(told).collect();
        found.ok_or_else(|| {
            Over::Failed(anyhow!(
                "the pair is not whole after {seconds} s: {}; `tandem status` tells more",
                if told.is_empty() { "no guardian answers".to_owned() } else { told.join("; ") }
            ))
        })
    }

    /// The hand on a node.
    pub fn hand_on(&self, node: &str) -> Option<usize> {
        self.hands.iter().position(|hand| hand.hello.node == node)
    }

    fn views(&mut self) -> Vec<ClusterView> {
        self.hands.iter_mut().filter_map(Reach::view).collect()
    }
}

/// Who says it of itself is believed first: the others hear it later.
fn active_of(views: &[ClusterView]) -> Option<Active> {
    let holds =
        |view: &&ClusterView| view.role == "active" && view.lease_left_ms.is_some_and(|left| left > 0);
    let own = views.iter().filter(holds).map(|view| Active { node: view.node.clone(), epoch: view.epoch });
    let told = views.iter().filter_map(|view| {
        // Of a node that has no hand.
        let node = view.active.clone().filter(|active| views.iter().all(|other| other.node != *active))?;
        Some(Active { node, epoch: view.epoch })
    });
    own.chain(told).max_by_key(|active| active.epoch)
}

fn is_whole(view: &ClusterView) -> bool {
    let is_active = view.nodes.iter().filter(|node| node.stance == "active").count() == 1;
    let others = view.nodes.iter().filter(|node| node.stance != "active");
    is_active && others.clone().count() > 0 && {
        others.into_iter().all(|node| node.stance == "standby" && node.ailment == 0 && node.ready == 100)
    }
}

fn told(view: &ClusterView) -> String {
    let nodes = view.nodes.iter().map(|node| {
        let ill = if node.ailment > 0 { ", not well" } else { "" };
        format!("{} {} ({} %{ill})", node.name, node.stance, node.ready)
    });
    format!("as {} sees it {}", view.node, nodes.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardian::view::NodeView;

    #[test]
    fn a_node_with_a_hand_is_believed_of_itself_alone() {
        let own = view("b", "active", Some(300), 7);
        let other = ClusterView { active: Some("b".to_owned()), ..view("a", "standby", None, 8) };
        let late = ClusterView { active: Some("b".to_owned()), ..view("a", "standby", None, 6) };
        let is = |views: &[ClusterView]| active_of(views).map(|active| (active.node, active.epoch));

        assert_eq!(is(&[own.clone(), late.clone()]), Some(("b".to_owned(), 7)));
        assert_eq!(is(&[other]), Some(("b".to_owned(), 8)), "b has no hand");
        assert_eq!(is(&[view("b", "active", Some(0), 7), late]), None, "its lease is over");
    }

    #[test]
    fn a_pair_is_whole_if_the_other_one_could_take_over() {
        let mut whole = view("a", "active", Some(300), 7);
        whole.nodes = vec![node("active", 0, 0), node("standby", 0, 100)];
        assert!(is_whole(&whole));

        for other in [node("standby", 0, 99), node("standby", 1, 100), node("silent", 0, 100)] {
            whole.nodes[1] = other;
            assert!(!is_whole(&whole));
        }
        whole.nodes.pop();
        assert!(!is_whole(&whole), "there is nobody");
    }

    fn view(node: &str, role: &str, lease_left_ms: Option<u64>, epoch: u64) -> ClusterView {
        let (node, role) = (node.to_owned(), role.to_owned());
        ClusterView { node, role, lease_left_ms, epoch, ..ClusterView::default() }
    }

    fn node(stance: &str, ailment: u8, ready: u8) -> NodeView {
        NodeView { stance: stance.to_owned(), ailment, ready, ..NodeView::default() }
    }
}
