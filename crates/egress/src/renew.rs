//! A new token for one that ends: the vault's own request, sent like every other, and its answer, which
//! goes into the vault unread.
//!
//! The answer is full of values that the leak detector does not know yet. So it is not passed on: its bytes go to
//! [`secrets::Vault::capture`], and whoever asked is told the names of what was stored.

use std::sync::Arc;

use futures_util::StreamExt as _;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use policy::Permit;
use secrets::{Captured, Vault};
use types::limits::Bytes as Limit;
use types::{Outbound, Refusal, Trace};
use zeroize::Zeroizing;

use crate::account::Account;
use crate::cut::Cut;
use crate::error::{Failure, SendError, UpstreamFault};
use crate::headers::Message;
use crate::send::{Egress, Ready};
use crate::wire::Arriving;
use crate::{receive, rules, wire};

impl Egress {
    /// Sends the request of a permitted renewal and gives its answer to the vault. From then on the scanners
    /// know the new values.
    pub async fn renew(&self, permit: Permit<Outbound>, trace: &Trace) -> Result<Captured, SendError> {
        let mut account = Account::open(&permit, trace);
        let Some(vault) = self.vault.clone() else {
            let refusal = Refusal::new(&rules::NO_VAULT, "").widened_by("ironclaw vault status");
            return Err(account.close_unsent(permit, refusal.into()).await);
        };
        let (deadline, most) = (account.deadline(), permit.effect().response);
        let asked = (&permit, form(), None);
        let ready = self.prepare_until(deadline, asked, &mut account, &mut Cut::never()).await;
        let Ready { request, leases, link, .. } = match ready {
            Ok(ready) => ready,
            Err(error) => return Err(account.close_unsent(permit, error).await),
        };
        let (armed, settlement, capture) = secrets::inject_renewal(leases, permit, request)?;
        let mut sent = account.leaves(settlement);
        let exchange = async {
            let since = std::time::Instant::now();
            // A connection of its own, so there is none to make anew.
            let redial = std::future::pending();
            let (head, arriving) = wire::exchange(link, None, armed, deadline, redial).await?;
            sent.account().answered(head.status, since);
            receive::refuse_encoded(&head.headers)?;
            let answer = read(arriving, most).await?;
            let length = answer.len();
            let status = head.status;
            let captured = self
                .storing(vault.clone(), async move { vault.capture(capture, status, answer).await })
                .await?;
            Ok((captured, length))
        };
        match exchange.await {
            Ok((captured, length)) => {
                let stored = [&captured.secret].into_iter().chain(&captured.refresh);
                sent.close_captured(length, stored).await;
                Ok(captured)
            }
            Err(error) => Err(sent.close(error).await),
        }
    }

    /// Has an answer stored, and teaches the scanners what the vault holds then, also where a part of it could not be
    /// stored. Once begun it comes to its end, whoever stops waiting: a value that is stored is looked for.
    pub(crate) async fn storing<T: Send + 'static>(
        &self,
        vault: Arc<Vault>,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let safety = self.safety.clone();
        let unread = || Refusal::new(&secrets::rules::NOT_READ, "values");
        let stored = tokio::spawn(async move {
            let stored = work.await;
            safety.learn(vault.known_values().await.map_err(|_| unread())?);
            stored
        });
        stored.await.map_err(|_| unread())?
    }
}

/// The head of the request; the vault fills the body in.
fn form() -> Message {
    let mut message = Message::default();
    message.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    message.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    message
}

/// The whole of a short body, in memory that is wiped.
pub(crate) async fn read(mut arriving: Arriving, most: Limit) -> Result<Zeroizing<Vec<u8>>, SendError> {
    // Never grown, so that no copy of a beginning stays behind.
    let mut whole = Zeroizing::new(Vec::with_capacity(most.as_usize()));
    while let Some(frame) = arriving.next().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > most.as_usize() {
            return Err(Failure::Upstream(UpstreamFault::BodyTooLarge).into());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}
