//! Secrets for a request: leased before anything is dialled, put in when the peer has proved itself.
//!
//! Leasing records each use durably and may refuse, so it comes before the first byte. Injecting
//! makes the request one that can only be written to the wire, so it comes last. In between the
//! values lie in [`secrets::Leases`], which this crate cannot read.

use std::sync::Arc;

use policy::Permit;
use safety::Safety;
use secrets::{Leases, Vault};
use types::{Outbound, Refusal, Scheme};

use crate::rules;

/// Opens the secrets that a permit names, of which the scanners know each from then on. A permit without any needs
/// no vault.
pub(crate) async fn lease(
    vault: Option<&Arc<Vault>>,
    safety: &Safety,
    permit: &Permit<Outbound>,
) -> Result<Leases, Refusal> {
    if permit.effect().secrets.is_empty() {
        return Ok(Leases::none());
    }
    match vault {
        Some(vault) => vault.lease(permit, safety).await,
        None => Err(Refusal::new(&rules::NO_VAULT, "").widened_by("ironclaw vault status")),
    }
}

/// Refuses a secret toward a connection that anyone on the way can read, whatever was granted.
pub(crate) fn refuse_clear_text(effect: &Outbound) -> Result<(), Refusal> {
    if effect.target.scheme == Scheme::Http && !effect.secrets.is_empty() {
        return Err(Refusal::new(&rules::CLEAR_TEXT, format!("{}; nothing was sent", effect.target)));
    }
    Ok(())
}

/// The names of a permit's secrets, for the trace.
pub(crate) fn names(effect: &Outbound) -> String {
    match effect.secrets.as_slice() {
        [] => "none needed".to_owned(),
        secrets => {
            let name = |used: &types::SecretUse| format!("{} as {}", used.secret, used.inject);
            secrets.iter().map(name).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use types::limits::Bytes;
    use types::{Caller, Injection, SecretName, SecretUse, Target, Tokens};

    use super::*;

    #[test]
    fn t17_no_secret_in_clear_text_whatever_was_granted() {
        let used = SecretUse { secret: SecretName::parse("KEY").unwrap(), inject: Injection::Bearer };
        let effect = |url: &str, secrets: &[SecretUse]| Outbound {
            caller: Caller::Agent,
            target: Target::parse("GET", url).unwrap(),
            secrets: secrets.to_vec(),
            bound: !secrets.is_empty(),
            response: Bytes::kib(1),
            time: Duration::from_secs(1),
            tokens: Tokens::PassOn,
        };
        let refused = refuse_clear_text(&effect("http://a.example/", std::slice::from_ref(&used)));
        assert_eq!(refused.unwrap_err().rule.id, "egress.clear-text");
        assert!(refuse_clear_text(&effect("http://a.example/", &[])).is_ok());
        assert!(refuse_clear_text(&effect("https://a.example/", &[used])).is_ok());
    }
}
