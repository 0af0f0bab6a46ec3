//! What keeps this node from listening at an address of its own, or from reaching one of its peer.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The trouble with each address, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<SocketAddr, String>>);

impl Troubles {
    /// What is wrong with an address, or that nothing is; whether that is news.
    pub(crate) fn note(&self, address: SocketAddr, trouble: Option<&dyn Display>) -> bool {
        let trouble = trouble.map(|trouble| format!("{address}: {trouble}"));
        let mut troubles = self.lock();
        let is_news = troubles.get(&address) != trouble.as_ref();
        match trouble {
            Some(trouble) => troubles.insert(address, trouble),
            None => troubles.remove(&address),
        };
        is_news
    }

    /// One text for each address.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_trouble_with_the_same_address_is_news_and_the_same_one_is_not() {
        let (troubles, address) = (Troubles::default(), SocketAddr::from(([192, 0, 2, 2], 7070)));
        let note = |trouble: Option<&str>| match trouble {
            Some(trouble) => troubles.note(address, Some(&trouble)),
            None => troubles.note(address, None),
        };

        let news = [None, Some("silence"), Some("silence"), Some("a wrong key"), None, None].map(note);

        assert_eq!(news, [false, true, false, true, true, false]);
        assert_eq!(troubles.texts(), [""; 0]);
        note(Some("silence"));
        assert_eq!(troubles.texts(), ["192.0.2.2:7070: silence"]);
    }
}
