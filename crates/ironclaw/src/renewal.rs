//! New tokens for those that end: asked for by `ironclaw secret refresh`, and by themselves while an agent or
//! the proxy runs.

use std::sync::Arc;
use std::time::Duration;

use egress::{Egress, SendError};
use policy::{Policy, Turn};
use secrets::{Captured, Renewal, Vault};
use serde_json::json;
use tokio::task::AbortHandle;
use types::{SecretName, Trace};

use crate::exit::{Failure, Outcome};
use crate::parts::{Base, catalog, egress_config, policy};
use crate::terminal::Terminal;

/// A token is renewed when it ends within this: longer than the longest attempt, and short beside the hour that
/// most live.
const AHEAD: Duration = Duration::from_secs(120);

/// How often a running program looks.
const LOOK: Duration = Duration::from_secs(30);

/// `ironclaw secret refresh`.
pub async fn run(name: &SecretName, base: &Base, terminal: &Terminal) -> Outcome {
    let vault = base.vault(terminal).await?;
    let egress = Egress::new(egress_config(&base.config), base.safety.clone(), Some(vault.clone()));
    let egress = Arc::new(egress.map_err(Failure::usage)?);
    let renewals = Renewals { vault, policy: policy(base, catalog(base, Vec::new()))?, egress };
    let due = renewals.vault.renewal(name).await.map_err(Failure::failed)?;
    let Some(due) = due else {
        return Err(Failure::failed(format!(
            "a new {name} was asked for less than a minute ago; try again later"
        )));
    };
    let captured = renewals.renew(&due).await.map_err(failure)?;
    let refresh = captured.refresh.as_ref().map(SecretName::as_str);
    let until = captured.expires_ms.map(|end| format!(", good until {}", crate::commands::audit::utc(end)));
    terminal.done(
        json!({ "secret": name.as_str(), "expires_ms": captured.expires_ms, "refresh_token_replaced": refresh }),
        format!("{name} is a new token{}.", until.unwrap_or_default()),
    );
    Ok(())
}

/// What renews tokens as long as it is kept.
pub struct Kept(AbortHandle);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Renews what has ended already, and from then on what is about to. A failure is a warning: what needs the
/// token is refused with the command that asks again.
pub async fn keep(vault: Arc<Vault>, policy: Policy, egress: Arc<Egress>, terminal: &Terminal) -> Kept {
    let renewals = Renewals { vault, policy, egress };
    for (name, error) in renewals.all_due().await {
        terminal.warn(format!(
            "ironclaw: no new {name}: {error}\n  to ask again: ironclaw secret refresh {name}"
        ));
    }
    let work = async move {
        loop {
            tokio::time::sleep(LOOK).await;
            // What fails is on record, and is tried again.
            let _ = renewals.all_due().await;
        }
    };
    Kept(tokio::spawn(work).abort_handle())
}

/// The parts that a renewal takes.
struct Renewals {
    vault: Arc<Vault>,
    policy: Policy,
    egress: Arc<Egress>,
}

impl Renewals {
    /// Renews every token that is due; which ones failed.
    async fn all_due(&self) -> Vec<(SecretName, SendError)> {
        let mut failed = Vec::new();
        // A vault that cannot be read refuses every lease by itself.
        for due in self.vault.renewals(AHEAD).await.unwrap_or_default() {
            if let Err(error) = self.renew(&due).await {
                failed.push((due.into, error));
            }
        }
        failed
    }

    async fn renew(&self, due: &Renewal) -> Result<Captured, SendError> {
        let turn = Turn::begin(Trace::off());
        let permit = self.policy.decide_renewal(&turn, &due.grant, &due.claim).await?;
        self.egress.renew(permit, turn.trace()).await
    }
}

fn failure(error: SendError) -> Failure {
    match error {
        SendError::Refused(refusal) => refusal.into(),
        SendError::Failed(failed) => Failure::failed(failed),
    }
}
