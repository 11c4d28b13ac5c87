//! New tokens for those that end: asked for by `ironclaw secret refresh`, and by themselves while an agent or
//! the proxy runs.
//!
//! Once a request for a token is under way the endpoint may have put another refresh token in the place of the one that
//! was sent. So a renewal is a task of its own, which nobody's end cancels: whoever waits for it can be
//! interrupted, and the program ends once the answer is stored or the renewal's time is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use egress::{Egress, SendError};
use policy::{Policy, Turn};
use secrets::{Captured, Renewal, Vault};
use serde_json::json;
use tokio::task::AbortHandle;
use types::{Refusal, SecretName, Trace};

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
    let renewals = Renewals::new(vault, policy(base, catalog(base, Vec::new()))?, egress);
    let due = renewals.vault.renewal(name).await.map_err(Failure::failed)?;
    let Some(due) = due else {
        return Err(Failure::failed(format!(
            "a new {name} was asked for less than a minute ago; try again later"
        )));
    };
    let renewed = renewals.until_interrupted(renewals.renew(due), terminal).await?;
    let captured = renewed.map_err(failure)?;
    let refresh = captured.refresh.as_ref().map(SecretName::as_str);
    let until = captured.expires_ms.map(|end| format!(", good until {}", crate::commands::audit::utc(end)));
    terminal.done(
        json!({ "secret": name.as_str(), "expires_ms": captured.expires_ms, "refresh_token_replaced": refresh }),
        format!("{name} is a new token{}.", until.unwrap_or_default()),
    );
    Ok(())
}

/// What renews tokens as long as it is kept.
pub struct Kept {
    looking: AbortHandle,
    renewals: Renewals,
    terminal: Terminal,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.looking.abort();
        self.renewals.tell(&self.terminal);
    }
}

/// Renews what has ended already, and from then on what is about to. A failure is a warning: what needs the
/// token is refused with the command that asks again.
///
/// # Errors
/// Where the person does not want to wait any more.
pub async fn keep(
    vault: Arc<Vault>,
    policy: Policy,
    egress: Arc<Egress>,
    terminal: &Terminal,
) -> Result<Kept, Failure> {
    let renewals = Renewals::new(vault, policy, egress);
    for (name, error) in renewals.until_interrupted(renewals.all_due(), terminal).await? {
        terminal.warn(format!(
            "ironclaw: no new {name}: {error}\n  to ask again: ironclaw secret refresh {name}"
        ));
    }
    let kept = renewals.clone();
    let work = async move {
        loop {
            tokio::time::sleep(LOOK).await;
            // What fails is on record, and is tried again.
            let _ = renewals.all_due().await;
        }
    };
    Ok(Kept { looking: tokio::spawn(work).abort_handle(), renewals: kept, terminal: terminal.clone() })
}

/// The parts that a renewal takes.
#[derive(Clone)]
struct Renewals {
    vault: Arc<Vault>,
    policy: Policy,
    egress: Arc<Egress>,
    /// How many are under way.
    under_way: Arc<AtomicU32>,
}

/// Counts one that is under way, however it ends.
struct UnderWay(Arc<AtomicU32>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Renewals {
    fn new(vault: Arc<Vault>, policy: Policy, egress: Arc<Egress>) -> Self {
        Self { vault, policy, egress, under_way: Arc::default() }
    }

    /// Waits for renewals as long as the person wants to.
    async fn until_interrupted<T>(
        &self,
        work: impl Future<Output = T>,
        terminal: &Terminal,
    ) -> Result<T, Failure> {
        terminal.unless_interrupted(work).await.map_err(|interrupted| {
            self.tell(terminal);
            Failure::failed(interrupted)
        })
    }

    /// Says why the program does not end at once.
    fn tell(&self, terminal: &Terminal) {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            terminal
                .warn("ironclaw: waits for the answer of a token endpoint, half a minute at most".to_owned());
        }
    }

    /// Renews every token that is due; which ones failed.
    async fn all_due(&self) -> Vec<(SecretName, SendError)> {
        let mut failed = Vec::new();
        // A vault that cannot be read refuses every lease by itself.
        for due in self.vault.renewals(AHEAD).await.unwrap_or_default() {
            let name = due.into.clone();
            if let Err(error) = self.renew(due).await {
                failed.push((name, error));
            }
        }
        failed
    }

    /// Goes on also when nobody waits for it any more. The policy bounds its time, and the end of the program waits for
    /// everyone who can still record ([`audit::Drain::finish`]).
    async fn renew(&self, due: Renewal) -> Result<Captured, SendError> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let (Self { policy, egress, .. }, counted) = (self.clone(), UnderWay(self.under_way.clone()));
        let work = async move {
            let _counted = counted;
            let turn = Turn::begin(Trace::off());
            let permit = policy.decide_renewal(&turn, &due.grant, &due.claim).await?;
            egress.renew(permit, turn.trace()).await
        };
        match tokio::spawn(work).await {
            Ok(renewed) => renewed,
            // A fault of this program; the hook of panics has said where.
            Err(_) => Err(Refusal::new(&secrets::rules::NOT_RENEWED, "").into()),
        }
    }
}

/// How a request of this program's own that did not succeed ends a command.
pub fn failure(error: SendError) -> Failure {
    match error {
        SendError::Refused(refusal) => refusal.into(),
        SendError::Failed(failed) => Failure::failed(failed),
    }
}
