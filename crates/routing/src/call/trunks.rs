//! What this shard knows of our own accounts at carriers: registrations, realms, and where their calls come from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use keys::Key;
use sip::{Message, Method, Name};

use super::client_branch::ClientBranch;
use super::forward;
use super::inbound::Inbound;
use crate::Settings;
use crate::trunk::{CarrierNews, DigestClient, Proofs, Registrants, Trunk, Unanswered};

/// Addresses of one carrier that calls may come from: those that our REGISTERs were sent to.
const ADDRESSES_MAX: usize = 32;

/// The accounts of one shard.
#[derive(Debug)]
pub(super) struct Trunks {
    /// Those that are registered from here.
    pub(super) registrants: Registrants,
    key: Key,
    /// Which shard of which start this is, so that no two make the same cnonce.
    place: [u8; 6],
    cnonces: u64,
    clients: BTreeMap<(Arc<str>, Purpose), DigestClient>,
    /// What was told of each carrier.
    news: BTreeMap<Arc<str>, Arc<CarrierNews>>,
    /// Where REGISTERs of this shard were sent.
    asked: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// Accounts whose password was not accepted: that is said once.
    doubted: BTreeSet<Arc<str>>,
}

/// What a nonce is used for: a registrar need not know those of its proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Register,
    Call,
}

impl Purpose {
    fn of(method: Method<'_>) -> Self {
        if method == Method::Register { Self::Register } else { Self::Call }
    }
}

impl Trunks {
    /// Nothing known yet.
    pub(super) fn new(key: Key, shard: u16, boot: u32) -> Self {
        let mut place = [0; 6];
        place[..2].copy_from_slice(&shard.to_be_bytes());
        place[2..].copy_from_slice(&boot.to_be_bytes());
        Self {
            registrants: Registrants::default(),
            key,
            place,
            cnonces: 0,
            clients: BTreeMap::new(),
            news: BTreeMap::new(),
            asked: BTreeMap::new(),
            doubted: BTreeSet::new(),
        }
    }

    /// Forgets what belongs to accounts that are not there any more, or are others.
    pub(super) fn reload(&mut self, before: &Settings, settings: &Settings) {
        let is_same = |name: &Arc<str>| {
            let trunk = settings.trunk(name);
            trunk.is_some() && trunk == before.trunk(name)
        };
        self.clients.retain(|(name, _), _| is_same(name));
        self.news.retain(|name, _| is_same(name));
        self.asked.retain(|name, _| is_same(name));
        self.doubted.retain(is_same);
    }

    /// The credentials that a request brings along on a branch to a carrier.
    pub(super) fn credentials(
        &mut self,
        inbound: &Inbound,
        request: &Message<'_>,
        branch: &mut ClientBranch,
    ) -> Vec<(Name, Vec<u8>)> {
        let ClientBranch { aim, proofs, .. } = branch;
        let (Some(trunk), Some(method)) = (&aim.account, request.method()) else {
            return Vec::new();
        };
        match self.clients.get_mut(&(Arc::clone(&trunk.name), Purpose::of(method))) {
            Some(client) => {
                client.authorize(&trunk.login, proofs, method, forward::leaving_uri(inbound, aim))
            }
            None => Vec::new(),
        }
    }

    /// Takes the challenges of a response; if that is `Ok`, then [`Self::credentials`] answers them.
    pub(super) fn challenged(
        &mut self,
        trunk: &Trunk,
        proofs: &mut Proofs,
        method: Method<'_>,
        response: &Message<'_>,
    ) -> Result<(), Unanswered> {
        self.cnonces += 1;
        let mut cnonce = Vec::with_capacity(16);
        let mac = self.key.mac(&[b"cnonce", &self.place, &self.cnonces.to_be_bytes()]);
        keys::hex(&mac.as_bytes()[..8], &mut cnonce);
        let client = self.clients.entry((Arc::clone(&trunk.name), Purpose::of(method))).or_default();
        if let Some(realm) = self.news.get(&trunk.name).and_then(|news| news.realm.clone()) {
            client.pin(realm);
        }
        client.challenged(&trunk.login, proofs, response, &cnonce)
    }

    /// Whether it is the first time that this account's password is not accepted.
    pub(super) fn doubt(&mut self, trunk: &Trunk) -> bool {
        self.doubted.insert(Arc::clone(&trunk.name))
    }

    /// A REGISTER was sent there.
    pub(super) fn asked(&mut self, trunk: &Trunk, address: IpAddr) {
        let asked = self.asked.entry(Arc::clone(&trunk.name)).or_default();
        if asked.len() >= ADDRESSES_MAX && !asked.contains(&address) {
            asked.clear();
        }
        asked.insert(address.to_canonical());
    }

    /// What every shard is to know after a REGISTER was accepted. One that was reloaded later than this one has
    /// forgotten what it knew, so it is told each time.
    pub(super) fn accepted(&mut self, trunk: &Trunk) -> CarrierNews {
        let client = self.clients.get(&(Arc::clone(&trunk.name), Purpose::Register));
        self.doubted.remove(&trunk.name);
        CarrierNews {
            trunk: Arc::clone(&trunk.name),
            addresses: self.asked.get(&trunk.name).cloned().unwrap_or_default(),
            realm: client.and_then(DigestClient::pinned).cloned(),
        }
    }

    /// What the other shards are to know of an account that is not registered any more.
    pub(super) fn gone(&mut self, trunk: Arc<str>) -> CarrierNews {
        self.asked.remove(&trunk);
        CarrierNews { trunk, ..CarrierNews::default() }
    }

    /// Learns how an account stands.
    pub(super) fn learn(&mut self, news: Arc<CarrierNews>) {
        self.news.insert(Arc::clone(&news.trunk), news);
    }

    /// The carrier that sends from this address, to this user if several do.
    pub(super) fn carrier_at<'s>(
        &self,
        settings: &'s Settings,
        address: IpAddr,
        user: &str,
    ) -> Option<&'s Arc<Trunk>> {
        let address = address.to_canonical();
        let is_there = |trunk: &&Arc<Trunk>| {
            self.news.get(&trunk.name).is_some_and(|news| news.addresses.contains(&address))
        };
        let is_meant = |trunk: &&Arc<Trunk>| {
            trunk.registration.as_ref().is_some_and(|registration| registration.contact_user == user)
        };
        let mut there = settings.trunks.iter().filter(is_there);
        there.clone().find(is_meant).or_else(|| there.next())
    }
}
