//! The listeners: on which (address, port, transport) SIP is served, and what they are called outside.

use std::net::IpAddr;

use sip::Host;

use crate::{Advertise, ListenerId, LocalAddr, RemoteAddr, Transport};

/// A host with every address of a large router's interfaces and two transports stays far below; the
/// table is searched from end to end.
pub const LISTENERS_MAX: usize = 1_024;

/// One (address, port, transport) on which SIP is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its number.
    pub id: ListenerId,
    /// How messages travel here.
    pub transport: Transport,
    /// The address that is bound.
    pub local: LocalAddr,
    /// What others are told instead of it.
    pub advertise: Option<Advertise>,
    /// Whether requests must be authenticated by digest; `false` on a network that the operator trusts.
    pub digest: bool,
}

impl Listener {
    /// Host and port as they stand in a Via or a URI: the advertised form if there is one, an IPv6
    /// address in brackets.
    pub fn sent_by(&self) -> String {
        let port = self.advertised_port();
        match &self.advertise {
            Some(advertise) => format!("{}:{port}", advertise.host),
            None => match self.local.0.ip() {
                IpAddr::V4(address) => format!("{address}:{port}"),
                IpAddr::V6(address) => format!("[{address}]:{port}"),
            },
        }
    }

    /// Whether the host is this listener's own address or its advertised one.
    fn has_host(&self, host: &Host<'_>) -> bool {
        let own = self.local.0.ip().to_canonical();
        host.ip().is_some_and(|address| address.to_canonical() == own)
            || self.advertised_host().is_some_and(|advertised| advertised == *host)
    }

    fn is_at(&self, host: &Host<'_>, port: u16) -> bool {
        let own = self.local.0.ip().to_canonical();
        host.ip().is_some_and(|address| address.to_canonical() == own) && port == self.local.0.port()
            || self.advertised_host().is_some_and(|advertised| advertised == *host)
                && port == self.advertised_port()
    }

    fn advertised_host(&self) -> Option<Host<'_>> {
        let advertise = self.advertise.as_ref()?;
        Host::parse(advertise.host.as_bytes()).ok()
    }

    fn advertised_port(&self) -> u16 {
        self.advertise.as_ref().and_then(|advertise| advertise.port).unwrap_or(self.local.0.port())
    }

    /// How well this listener serves to reach `remote`; the best has the lowest. `None`: not at all.
    fn rank(&self, transport: Transport, remote: IpAddr, like: Option<&Listener>) -> Option<u8> {
        let own = self.local.0.ip();
        if self.transport != transport || own.is_ipv4() != remote.is_ipv4() {
            return None;
        }
        // What leaves from a loopback address reaches nobody outside.
        if own.is_loopback() && !remote.is_loopback() {
            return None;
        }
        let is_same = like.is_some_and(|like| like.id == self.id);
        let has_same_address = like.is_some_and(|like| like.local.0.ip() == own);
        let has_same_scope = own.is_loopback() == remote.is_loopback();
        Some(match (is_same, has_same_address, has_same_scope) {
            (true, ..) => 0,
            (_, true, _) => 1,
            (.., true) => 2,
            _ => 3,
        })
    }
}

/// All listeners, in the order of the configuration. It never changes; a reload makes another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    listeners: Vec<Listener>,
    /// By the same index: what would else be written anew for each message.
    sent_by: Vec<Box<str>>,
}

impl Listeners {
    /// The table of these listeners. Of two with one number the first one counts, and what is beyond
    /// [`LISTENERS_MAX`] is left out; the configuration refuses both.
    pub fn new(listeners: Vec<Listener>) -> Self {
        let mut kept: Vec<Listener> = Vec::with_capacity(listeners.len().min(LISTENERS_MAX));
        for listener in listeners {
            if kept.len() < LISTENERS_MAX && kept.iter().all(|other| other.id != listener.id) {
                kept.push(listener);
            }
        }
        let sent_by = kept.iter().map(|listener| listener.sent_by().into_boxed_str()).collect();
        Self { listeners: kept, sent_by }
    }

    /// The listener of this number.
    pub fn get(&self, id: ListenerId) -> Option<&Listener> {
        self.position(id).map(|index| &self.listeners[index])
    }

    /// [`Listener::sent_by`], without making it anew.
    pub fn sent_by(&self, id: ListenerId) -> Option<&str> {
        self.position(id).map(|index| &*self.sent_by[index])
    }

    /// All listeners in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Whether (host, port, transport) names one of the listeners, by its own or its advertised form.
    /// Without a port the default one is meant (RFC 3261 §19.1.2), without a transport any.
    pub fn is_ours(&self, host: &Host<'_>, port: Option<u16>, transport: Option<Transport>) -> bool {
        self.listeners.iter().any(|listener| {
            transport.is_none_or(|transport| transport == listener.transport)
                && listener.is_at(host, port.unwrap_or(listener.transport.default_port()))
        })
    }

    /// Whether the host is the own or advertised one of any listener, whatever the port: every
    /// listener's address is a domain of this server.
    pub fn has_host(&self, host: &Host<'_>) -> bool {
        self.listeners.iter().any(|listener| listener.has_host(host))
    }

    /// The listener that is bound to this address.
    pub fn find(&self, transport: Transport, local: LocalAddr) -> Option<ListenerId> {
        let found = self.listeners.iter().find(|it| it.transport == transport && it.local == local);
        found.map(|listener| listener.id)
    }

    /// A listener by which `remote` can be reached: `like` itself if it fits, else one with its
    /// address, else the first of the right family. None from a loopback address to the outside.
    pub fn any_for(
        &self,
        transport: Transport,
        remote: RemoteAddr,
        like: Option<ListenerId>,
    ) -> Option<ListenerId> {
        let like = like.and_then(|id| self.get(id));
        let remote = remote.0.ip();
        let ranked =
            self.listeners.iter().filter_map(|it| it.rank(transport, remote, like).map(|rank| (rank, it)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, listener)| listener.id)
    }

    fn position(&self, id: ListenerId) -> Option<usize> {
        // Numbers are given in the order of the configuration, so mostly the number is the index.
        let guess = usize::from(id.0);
        if self.listeners.get(guess).is_some_and(|listener| listener.id == id) {
            return Some(guess);
        }
        self.listeners.iter().position(|listener| listener.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_called_by_its_address_or_by_what_it_advertises() {
        let mut listener = listener(0, Transport::Udp, "10.0.0.5:5070");
        assert_eq!(listener.sent_by(), "10.0.0.5:5070");

        listener.advertise = Some(Advertise { host: "203.0.113.10".into(), port: None });
        assert_eq!(listener.sent_by(), "203.0.113.10:5070");

        listener.advertise = Some(Advertise { host: "[2001:db8::9]".into(), port: Some(5060) });
        assert_eq!(listener.sent_by(), "[2001:db8::9]:5060");
    }

    #[test]
    fn an_ipv6_listener_is_called_in_brackets() {
        assert_eq!(listener(0, Transport::Tcp, "[2001:db8::1]:5060").sent_by(), "[2001:db8::1]:5060");
    }

    #[test]
    fn both_the_own_and_the_advertised_form_are_ours() {
        let mut inside = listener(0, Transport::Udp, "10.0.0.5:5070");
        inside.advertise = Some(Advertise { host: "Sip.Example.org".into(), port: Some(5060) });
        let listeners = Listeners::new(vec![inside]);

        assert!(listeners.is_ours(&host("10.0.0.5"), Some(5070), None));
        assert!(listeners.is_ours(&host("sip.example.ORG"), Some(5060), Some(Transport::Udp)));
        assert!(listeners.is_ours(&host("sip.example.org"), None, None));

        assert!(
            !listeners.is_ours(&host("10.0.0.5"), Some(5060), None),
            "the advertised port at our address"
        );
        assert!(
            !listeners.is_ours(&host("sip.example.org"), Some(5070), None),
            "our port at the advertised host"
        );
        assert!(!listeners.is_ours(&host("10.0.0.5"), Some(5070), Some(Transport::Tcp)), "another transport");
        assert!(!listeners.is_ours(&host("10.0.0.6"), Some(5070), None), "another address");
        assert!(!listeners.is_ours(&host("10.0.0.5"), None, None), "the default port is another one");
    }

    #[test]
    fn an_ipv6_address_is_ours_however_it_is_written() {
        let listeners = Listeners::new(vec![listener(0, Transport::Udp, "[2001:db8::1]:5060")]);

        assert!(listeners.is_ours(&host("[2001:DB8:0:0:0:0:0:1]"), None, None));
        assert!(listeners.has_host(&host("[2001:db8::1]")));
    }

    #[test]
    fn a_domain_is_ours_on_any_port() {
        let listeners = Listeners::new(vec![listener(0, Transport::Udp, "10.0.0.5:5070")]);

        assert!(listeners.has_host(&host("10.0.0.5")));
        assert!(!listeners.has_host(&host("10.0.0.6")));
        assert!(!listeners.has_host(&host("example.org")));
    }

    #[test]
    fn a_listener_is_found_by_its_number_in_any_order() {
        let listeners = Listeners::new(vec![
            listener(7, Transport::Udp, "10.0.0.5:5060"),
            listener(1, Transport::Tcp, "10.0.0.5:5060"),
        ]);

        assert_eq!(listeners.get(ListenerId(7)).map(|it| it.transport), Some(Transport::Udp));
        assert_eq!(listeners.get(ListenerId(1)).map(|it| it.transport), Some(Transport::Tcp));
        assert_eq!(listeners.get(ListenerId(0)), None);
        assert_eq!(listeners.sent_by(ListenerId(1)), Some("10.0.0.5:5060"));
        assert_eq!(listeners.find(Transport::Tcp, local("10.0.0.5:5060")), Some(ListenerId(1)));
        assert_eq!(listeners.find(Transport::Tcp, local("10.0.0.5:5061")), None);
    }

    #[test]
    fn of_two_listeners_with_one_number_the_first_one_counts() {
        let listeners = Listeners::new(vec![
            listener(0, Transport::Udp, "10.0.0.5:5060"),
            listener(0, Transport::Udp, "10.0.0.6:5060"),
        ]);

        assert_eq!(listeners.len(), 1);
        assert_eq!(listeners.get(ListenerId(0)).map(|it| it.local), Some(local("10.0.0.5:5060")));
    }

    #[test]
    fn a_remote_is_reached_from_the_preferred_listener_if_that_can() {
        let listeners = everywhere();
        let any_for =
            |transport, to: &str, like| listeners.any_for(transport, remote(to), like).map(|id| id.0);

        assert_eq!(any_for(Transport::Udp, "192.0.2.9:5060", Some(ListenerId(4))), Some(4));
        assert_eq!(any_for(Transport::Tcp, "192.0.2.9:5060", Some(ListenerId(4))), Some(5), "same address");
        assert_eq!(any_for(Transport::Udp, "192.0.2.9:5060", None), Some(2), "the first that reaches it");
        assert_eq!(any_for(Transport::Udp, "192.0.2.9:5060", Some(ListenerId(6))), Some(2), "other family");
        assert_eq!(any_for(Transport::Udp, "[2001:db8::9]:5060", Some(ListenerId(4))), Some(6));
        assert_eq!(any_for(Transport::Tcp, "[2001:db8::9]:5060", Some(ListenerId(4))), None);
    }

    #[test]
    fn nothing_leaves_a_loopback_address_to_the_outside() {
        let listeners = everywhere();
        let any_for = |to: &str, like| listeners.any_for(Transport::Udp, remote(to), like).map(|id| id.0);

        assert_eq!(any_for("192.0.2.9:5060", Some(ListenerId(0))), Some(2));
        assert_eq!(any_for("127.0.0.1:5060", None), Some(0));
        assert_eq!(any_for("127.0.0.1:5060", Some(ListenerId(4))), Some(4), "it can reach its own host");
    }

    fn everywhere() -> Listeners {
        Listeners::new(vec![
            listener(0, Transport::Udp, "127.0.0.1:5060"),
            listener(1, Transport::Tcp, "127.0.0.1:5060"),
            listener(2, Transport::Udp, "10.0.0.5:5060"),
            listener(3, Transport::Tcp, "10.0.0.5:5060"),
            listener(4, Transport::Udp, "10.1.0.5:5060"),
            listener(5, Transport::Tcp, "10.1.0.5:5060"),
            listener(6, Transport::Udp, "[2001:db8::1]:5060"),
        ])
    }

    fn listener(id: u16, transport: Transport, address: &str) -> Listener {
        Listener { id: ListenerId(id), transport, local: local(address), advertise: None, digest: true }
    }

    fn local(address: &str) -> LocalAddr {
        LocalAddr(address.parse().unwrap())
    }

    fn remote(address: &str) -> RemoteAddr {
        RemoteAddr(address.parse().unwrap())
    }

    fn host(text: &str) -> Host<'_> {
        Host::parse(text.as_bytes()).unwrap()
    }
}
