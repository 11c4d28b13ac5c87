//! A program's request to a token endpoint: its answer goes into the vault, and the program gets what stands for it (attack C14).
//!
//! As in a renewal, the answer is full of values that the leak detector does not know yet, so none of its bytes is passed
//! on: they go to [`secrets::Vault::take`], and what comes out of that is a list of names.

use http::StatusCode;
use policy::Permit;
use secrets::Taken;
use tokio::time::timeout_at;
use types::{Outbound, Refusal, SecretName, Trace};

use crate::account::Account;
use crate::cut::Cut;
use crate::error::{Failure, SendError};
use crate::headers::Message;
use crate::renew::read;
use crate::send::{Egress, Ready};
use crate::tls::Offer;
use crate::{receive, rules, wire};

impl Egress {
    /// Sends a permitted request whose answer is to be captured, and gives it to the vault. Once this returns, the scanners
    /// know the new values. Gives the status too. What stops it stops no storing that has begun.
    pub(crate) async fn capture(
        &self,
        permit: Permit<Outbound>,
        message: Message,
        trace: &Trace,
        cut: &mut Cut,
    ) -> Result<(StatusCode, Taken), SendError> {
        let mut account = Account::open(&permit, trace);
        let Some(vault) = self.vault.clone() else {
            let refusal = Refusal::new(&rules::NO_VAULT, "").widened_by("ironclaw vault status");
            return Err(account.close_unsent(permit, refusal.into()).await);
        };
        let (deadline, effect) = (account.deadline(), permit.effect().clone());
        let ready = self.prepare_until(deadline, (&permit, message, None), &mut account, cut).await;
        let Ready { request, leases, link, pinned, .. } = match ready {
            Ok(ready) => ready,
            Err(error) => return Err(account.close_unsent(permit, error).await),
        };
        account.uploads(request.body().meter());
        let (armed, settlement, taking) = secrets::inject_taking(leases, permit, request)?;
        let mut sent = account.leaves(settlement);
        let exchange = async {
            let since = std::time::Instant::now();
            let redial = self.dial(&pinned, &effect.target, Offer::of(None));
            // The connection is not kept: what it held of the answer goes with it.
            let (head, arriving) = wire::exchange(link, None, armed, deadline, redial).await?;
            sent.account().connected(arriving.addr());
            sent.account().answered(head.status, since);
            receive::refuse_encoded(&head.headers)?;
            let answer = timeout_at(deadline, read(arriving, effect.response)).await;
            let answer = answer.map_err(|_| Failure::Timeout)??;
            let length = answer.len();
            let status = head.status;
            let taken =
                self.storing(vault.clone(), async move { vault.take(taking, status, answer).await }).await?;
            Ok((status, taken, length))
        };
        match cut.unless(exchange).await {
            Ok((status, taken, length)) => {
                let stored: Vec<&SecretName> = match &taken {
                    Taken::Tokens { stored, .. } => stored.iter().map(|(_, name)| name).collect(),
                    Taken::Refused(_) => Vec::new(),
                };
                sent.close_captured(length, stored).await;
                Ok((status, taken))
            }
            Err(error) => {
                let error = sent.account().cause(error);
                Err(sent.close(error).await)
            }
        }
    }
}
