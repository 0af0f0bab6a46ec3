//! What can be done to the active node.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// kill -9 of its engine.
    KillEngine,
    /// kill -9 of all its processes.
    KillNode,
    /// All its processes stand still.
    Freeze,
    /// Its cable is drawn.
    CutCable,
    /// It is told to hand over.
    SwitchOver,
}

impl Deed {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 5] =
        [Self::KillEngine, Self::KillNode, Self::Freeze, Self::CutCable, Self::SwitchOver];

    /// The key that does it.
    pub fn key(self) -> char {
        match self {
            Self::KillEngine => 'k',
            Self::KillNode => 'K',
            Self::Freeze => 'f',
            Self::CutCable => 'c',
            Self::SwitchOver => 's',
        }
    }

    /// The deed of a key.
    pub fn of(key: char) -> Option<Self> {
        Self::ALL.into_iter().find(|deed| deed.key() == key)
    }

    /// What stands beside its key.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillEngine => "kill engine",
            Self::KillNode => "kill node",
            Self::Freeze => "freeze",
            Self::CutCable => "cut cable",
            Self::SwitchOver => "switch",
        }
    }

    /// What is done to this node.
    pub fn title(self, node: &str) -> String {
        match self {
            Self::KillEngine => format!("kill -9 of the engine of {node}"),
            Self::KillNode => format!("kill -9 of everything on {node}"),
            Self::Freeze => format!("every process of {node} stands still"),
            Self::CutCable => format!("the cable of {node} is drawn"),
            Self::SwitchOver => format!("a planned switchover from {node}"),
        }
    }

    /// What is to be seen then, if `other` is the other node.
    pub fn expectation(self, node: &str, other: &str) -> String {
        match self {
            Self::KillEngine => format!("its guardian lives, and gives the address to {other} at once"),
            Self::KillNode => {
                format!("nobody is left to say so: {other} takes over when the lease is over")
            }
            Self::Freeze => {
                format!("{other} takes over when the lease is over; the kernel of {node} shuts its address")
            }
            Self::CutCable => {
                format!("{other} takes over when the lease is over; {node} gives the address up by itself")
            }
            Self::SwitchOver => format!("{other} has the votes beforehand: no phone notices"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deed_has_a_key_of_its_own() {
        for deed in Deed::ALL {
            assert_eq!(Deed::of(deed.key()), Some(deed));
        }
        assert_eq!(Deed::of('q'), None);
    }
}
