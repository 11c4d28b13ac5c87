//! Certificates for the hosts that clients ask for, each made once and kept while it is used.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use types::Host;

use crate::ca::{Authority, AuthorityError};

/// Certificates that are kept; the one that was not used for longest goes first. Names under a wildcard rule are the
/// client's to choose, so that their number has to be bounded.
const MOST_LEAVES: usize = 128;

/// The authority of a proxy and its certificates. No key leaves memory.
pub(super) struct Leaves {
    authority: Authority,
    /// The one used last stands last.
    made: Mutex<Vec<(Host, Arc<ServerConfig>)>>,
}

impl Leaves {
    pub(super) fn new(authority: Authority) -> Self {
        Self { authority, made: Mutex::default() }
    }

    pub(super) fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// How to be this host toward a client.
    pub(super) fn of(&self, host: &Host) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.iter().position(|(own, _)| own == host);
        let leaf = match known {
            Some(at) => made.remove(at),
            None => (host.clone(), self.make(host)?),
        };
        let config = leaf.1.clone();
        if made.len() >= MOST_LEAVES {
            made.remove(0);
        }
        made.push(leaf);
        Ok(config)
    }

    fn make(&self, host: &Host) -> Result<Arc<ServerConfig>, AuthorityError> {
        let identity = self.authority.issue(host)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(identity.chain, identity.key))
            .map_err(|_| AuthorityError)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn t18_names_do_not_fill_memory_and_the_ones_in_use_stay() {
        let leaves = Leaves::new(Authority::new().unwrap());
        let first = leaves.of(&host("used.example.com")).unwrap();
        for index in 0..MOST_LEAVES + 8 {
            leaves.of(&host(&format!("n{index}.example.com"))).unwrap();
            assert!(Arc::ptr_eq(&first, &leaves.of(&host("used.example.com")).unwrap()));
        }
        let made = leaves.made.lock().unwrap();
        assert_eq!(made.len(), MOST_LEAVES);
        assert!(!made.iter().any(|(own, _)| *own == host("n0.example.com")));
    }
}
