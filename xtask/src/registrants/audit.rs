//! Looks whether a node keeps what the phones were promised.

use anyhow::Result;

use super::Registrants;
use super::ledger::{Comparison, Entry, Promise, Verdict};
use crate::control::Control;
use crate::lab::observer::now;

impl Registrants {
    /// Compares all phones with all bindings that an engine has of them.
    pub fn audit_all(&self, engine: &mut Control) -> Result<Verdict> {
        let (before, begun) = (self.entries(), now());
        let bindings = engine.contacts(None)?;
        let (after, read) = (self.entries(), (begun, now()));
        let comparison = Comparison { before: &before, after: &after, read };
        let verdict = comparison.judge(0..self.plan().phones, &bindings);
        self.forget(&verdict.victims, &before);
        Ok(verdict)
    }

    /// Compares some phones with their bindings.
    pub fn audit(&self, engine: &mut Control, phones: &[u32]) -> Result<Verdict> {
        let (before, begun) = (self.entries(), now());
        let mut bindings = Vec::new();
        for phone in phones {
            bindings.extend(engine.contacts(Some(&format!("user{phone}@{}", self.plan().domain)))?);
        }
        let (after, read) = (self.entries(), (begun, now()));
        let comparison = Comparison { before: &before, after: &after, read };
        let verdict = comparison.judge(phones.iter().copied(), &bindings);
        self.forget(&verdict.victims, &before);
        Ok(verdict)
    }

    /// A promise that was not kept is told once.
    fn forget(&self, victims: &[u32], before: &[Entry]) {
        let mut state = self.state();
        for &phone in victims {
            let entry = &mut state.entries[phone as usize];
            if *entry == before[phone as usize] {
                entry.promise = Promise::Nothing;
            }
        }
    }
}
