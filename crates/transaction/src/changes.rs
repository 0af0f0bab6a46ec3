//! Which transactions have changed: for who tells another node of them.

use crate::{ClientKey, ServerKey};

/// The keys of those that have changed since they were taken last, if that is to be noted. One may stand here twice.
#[derive(Debug, Default)]
pub(crate) enum Changes {
    #[default]
    Ignored,
    Noted {
        servers: Vec<ServerKey>,
        clients: Vec<ClientKey>,
    },
}

impl Changes {
    pub fn note(&mut self) {
        if matches!(self, Self::Ignored) {
            *self = Self::Noted { servers: Vec::new(), clients: Vec::new() };
        }
    }

    pub fn server(&mut self, key: ServerKey) {
        if let Self::Noted { servers, .. } = self {
            servers.push(key);
        }
    }

    pub fn client(&mut self, key: ClientKey) {
        if let Self::Noted { clients, .. } = self {
            clients.push(key);
        }
    }

    /// Appends them, and forgets them here.
    pub fn take(&mut self, to_servers: &mut Vec<ServerKey>, to_clients: &mut Vec<ClientKey>) {
        if let Self::Noted { servers, clients } = self {
            to_servers.append(servers);
            to_clients.append(clients);
        }
    }
}
