//! `[export]`: where records are handed to.

use policy::CollectorRule;
use policy::manifest::{HostRule, SecretWish};
use serde::Deserialize;
use types::{Host, Injection, PathPrefix, Scheme, SecretName, Target};

use super::wrong;
use crate::exit::Failure;

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenExport {
    url: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default = "bearer")]
    inject: String,
}

fn bearer() -> String {
    "bearer".to_owned()
}

impl WrittenExport {
    /// The endpoint, and what the policy permits.
    pub(super) fn mean(self) -> Result<(Target, CollectorRule), Failure> {
        let target = Target::parse("POST", &self.url).map_err(|error| wrong("export.url", error))?;
        let Host::Name(host) = target.host().clone() else {
            return Err(wrong("export.url", "a host name is expected, not an address"));
        };
        let inject = Injection::parse(&self.inject).map_err(|error| wrong("export.inject", error))?;
        if matches!(inject, Injection::Refresh { .. }) {
            return Err(wrong("export.inject", "only the vault itself refreshes"));
        }
        let secret = match &self.key {
            Some(name) if target.scheme == Scheme::Https => Some(SecretWish {
                secret: SecretName::parse(name).map_err(|error| wrong("export.key", error))?,
                host: host.clone(),
                inject,
            }),
            Some(_) => return Err(wrong("export.url", "a key never travels in clear text; use https")),
            None => None,
        };
        let path = PathPrefix::parse(target.path.as_str()).map_err(|error| wrong("export.url", error))?;
        let (port, scheme, methods) = (target.endpoint.port, target.scheme, vec![target.method.clone()]);
        let rule = HostRule { host, port, scheme, methods, path };
        Ok((target, CollectorRule { rule, secret }))
    }
}
