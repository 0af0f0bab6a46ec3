//! What the configuration of a cluster means on this host.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Cluster, Unfit, Vip};

/// What one node is told by the file that all nodes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// This node's place in the list.
    pub me: usize,
    /// Where the virtual addresses go. `None`: this host adds none.
    pub interface: Option<String>,
    /// This node's paths that this host has no address for now.
    pub missing_paths: Vec<IpAddr>,
}

impl Cluster {
    /// What the file means on a host of this name, with these interfaces and the networks that they are in.
    pub fn here(&self, node_name: &str, interfaces: &[(String, IpNet)]) -> Result<Here, Vec<Unfit>> {
        let (me, interface) = (self.me(node_name), self.interface_of(interfaces));
        match (me, interface) {
            (Ok(me), Ok(interface)) => {
                let has = |address: IpAddr| interfaces.iter().any(|(_, network)| network.addr() == address);
                let paths = self.nodes[me].paths.iter().map(|path| path.ip());
                Ok(Here { me, interface, missing_paths: paths.filter(|path| !has(*path)).collect() })
            }
            (me, interface) => Err([me.err(), interface.err()].into_iter().flatten().collect()),
        }
    }

    fn interface_of(&self, interfaces: &[(String, IpNet)]) -> Result<Option<String>, Unfit> {
        if let Some(name) = &self.interface {
            // An interface without an address is not among them.
            return Ok(Some(name.clone()));
        }
        let Some(first) = self.addresses.first().filter(|_| self.vip == Vip::Tandem) else { return Ok(None) };
        let known = || interfaces.iter().filter(|(_, network)| network.contains(first));
        // A virtual address that a dead predecessor left is in the network of itself alone.
        let is_network = |network: &IpNet| network.prefix_len() < network.max_prefix_len();
        match known().find(|(_, network)| is_network(network)) {
            Some((name, _)) => Ok(Some(name.clone())),
            None => Err(Unfit {
                key: "cluster.addresses",
                what: format!("begins with {first}, and no interface of this host is in its network"),
                mend: "write interface = \"eth0\", the one where it is to be added; `ip address` lists them"
                    .to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::Config;
    use super::*;

    #[test]
    fn the_interface_is_the_one_in_whose_network_the_first_address_is() {
        let here = cluster("").here("b", &host()).expect("it fits");

        assert_eq!(here, Here { me: 1, interface: Some("lan".to_owned()), missing_paths: Vec::new() });
    }

    #[test]
    fn an_address_that_a_dead_predecessor_left_does_not_decide() {
        let mut interfaces = host();
        interfaces.insert(0, ("wan".to_owned(), network("192.0.2.10/32")));

        let here = cluster("").here("b", &interfaces).expect("it fits");

        assert_eq!(here.interface.as_deref(), Some("lan"));
    }

    #[test]
    fn an_interface_that_is_named_is_taken() {
        let here = cluster("interface = 'wan'").here("b", &host()).expect("it fits");

        assert_eq!(here.interface.as_deref(), Some("wan"));
    }

    #[test]
    fn whoever_moves_the_address_otherwise_needs_no_interface() {
        let cluster = cluster("vip = 'external'");

        assert_eq!(cluster.here("b", &[]).expect("it fits").interface, None);
    }

    #[test]
    fn a_path_that_the_host_has_not_is_told() {
        let here = cluster("").here("a", &host()).expect("it fits");

        assert_eq!(here.missing_paths, [IpAddr::from([192, 0, 2, 1])]);
    }

    #[test]
    fn all_that_does_not_fit_is_told_at_once() {
        let unfit = cluster("").here("x", &[]).expect_err("it does not fit");

        assert_eq!(
            unfit.iter().map(|unfit| unfit.key).collect::<Vec<_>>(),
            ["node.name", "cluster.addresses"]
        );
    }

    fn host() -> Vec<(String, IpNet)> {
        ["lo 127.0.0.1/8", "wan 198.51.100.2/24", "lan 192.0.2.2/24"]
            .iter()
            .filter_map(|text| text.split_once(' '))
            .map(|(name, network_of)| (name.to_owned(), network(network_of)))
            .collect()
    }

    fn network(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn cluster(more: &str) -> Cluster {
        let text = format!(
            "[cluster]\naddresses = ['192.0.2.10']\n{more}\n[[cluster.node]]\nname = 'a'\npaths = ['192.0.2.1']\n\
             [[cluster.node]]\nname = 'b'\npaths = ['192.0.2.2']\n"
        );
        let config = Config::parse(Path::new("a.toml"), &text).expect("it is right");
        config.cluster.expect("it has one")
    }
}
