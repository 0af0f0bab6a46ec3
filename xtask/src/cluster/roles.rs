//! Who is active and who could be, asked often: by the guardians' sockets, without a program between.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Cluster, is_active, is_peer_ready, is_ready_standby, peer_stance, state_directory};
use crate::control::Control;
use crate::lab::pair::Side;
use crate::process;

impl Cluster {
    /// What the guardian of a node says, in the place where `tandem status --json` has it; nothing while it is silent.
    pub fn view(&self, side: Side) -> Option<Value> {
        let view = Control::of_guardian(&state_directory(side.name())).ok()?.cluster_status().ok()?;
        Some(json!({ "cluster": view }))
    }

    /// The node that says that it is active, if it is one.
    pub fn active(&self) -> Option<Side> {
        let mut active =
            Side::BOTH.into_iter().filter(|side| self.view(*side).is_some_and(|it| is_active(&it)));
        let first = active.next()?;
        active.next().is_none().then_some(first)
    }

    /// Waits until a node is active.
    pub fn wait_until_active(&self, side: Side, limit: Duration) -> Result<()> {
        process::wait_until(&format!("sign of {} being active", side.name()), limit, || {
            Ok(self.view(side).is_some_and(|it| is_active(&it)).then_some(()))
        })
    }

    /// Waits until one node is active, the other one could take over, and both know it; gives the active one.
    pub fn wait_until_whole(&self, limit: Duration) -> Result<Side> {
        let start = Instant::now();
        loop {
            if let Some(active) = self.active().filter(|active| self.is_whole(*active)) {
                return Ok(active);
            }
            if start.elapsed() > limit {
                let views = Side::BOTH.map(|side| self.view(side).unwrap_or_default());
                bail!("the pair is not whole within {limit:?}: {} {}", views[0], views[1]);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_whole(&self, active: Side) -> bool {
        let hears = |view: &Value| is_ready_standby(view) && peer_stance(view) == Some("active");
        self.view(active).is_some_and(|it| is_active(&it) && is_peer_ready(&it))
            && self.view(active.other()).is_some_and(|it| hears(&it))
    }

    /// The engine of a node, to be asked.
    pub fn control(&self, side: Side) -> Result<Control> {
        Control::of_engine(&state_directory(side.name()))
            .with_context(|| format!("the engine of {}", side.name()))
    }
}
