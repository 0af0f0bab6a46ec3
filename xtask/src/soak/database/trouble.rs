//! What happens to the database, and what happens to the nodes meanwhile.

use crate::database_server::Product;

/// What happens to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// It was killed, and nobody starts it.
    Stopped,
    /// Nothing that is sent to it arrives, and nobody is told so.
    CutOff,
    /// Each answer takes five seconds, and later a third of one.
    Slow,
    /// Its disk is full.
    Full,
    /// It is killed and started again and again.
    Restarted,
    /// It was killed, and its replica takes its place.
    Moved,
}

/// What happens to the pair in the middle of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// kill -9 of all processes of the active node.
    Killed,
    /// The active node's cable is out: what it began at the database ends with nobody.
    CableOut,
    /// A planned switchover.
    Switchover,
}

impl Trouble {
    /// In their order; a primary that was left is not used again.
    pub const ALL: [Trouble; 6] =
        [Trouble::Stopped, Trouble::CutOff, Trouble::Slow, Trouble::Full, Trouble::Restarted, Trouble::Moved];

    /// Those that are done with a product.
    pub fn of(product: Product) -> &'static [Trouble] {
        match product {
            Product::Postgres => &Trouble::ALL,
            Product::MariaDb => &Trouble::ALL[..5],
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Trouble::Stopped => "stopped",
            Trouble::CutOff => "cut off",
            Trouble::Slow => "slow",
            Trouble::Full => "full",
            Trouble::Restarted => "killed and started again and again",
            Trouble::Moved => "killed, and its replica is the primary",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Trouble> {
        Trouble::ALL.into_iter().find(|trouble| trouble.name() == name)
    }

    /// What happens to the pair meanwhile.
    pub fn change(self) -> Change {
        match self {
            Trouble::Stopped | Trouble::Restarted => Change::Killed,
            Trouble::CutOff | Trouble::Full => Change::Switchover,
            Trouble::Slow | Trouble::Moved => Change::CableOut,
        }
    }
}

impl Change {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Change::Killed => "everything of the active node killed",
            Change::CableOut => "the active node's cable out",
            Change::Switchover => "switchover",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_is_found_by_its_name() {
        for trouble in Trouble::ALL {
            assert_eq!(Trouble::named(trouble.name()), Some(trouble));
        }
    }
}
