//! The one function through which everything leaves: six steps, read from top to bottom.
//!
//! A permit is for one request. It is used up by sending:
//!
//! ```compile_fail
//! async fn send(egress: &egress::Egress, permit: policy::Permit<types::Outbound>) {
//!     let _ = egress.send(permit, egress::Message::default(), &types::Trace::off()).await;
//!     let _ = egress.send(permit, egress::Message::default(), &types::Trace::off()).await;
//! }
//! ```
//!
//! ```
//! async fn send(egress: &egress::Egress, permit: policy::Permit<types::Outbound>) {
//!     let _ = egress.send(permit, egress::Message::default(), &types::Trace::off()).await;
//!     let _ = egress.roots();
//! }
//! ```

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response, response};
use policy::Permit;
use safety::{Channel, Encoding, Safety, ScreenedBody};
use secrets::{Leases, Vault};
use tokio::time::timeout_at;
use types::{Outbound, Refusal, Target, Trace};

use crate::account::{Account, Sent};
use crate::connect::connect;
use crate::credential_injector as injector;
use crate::cut::Cut;
use crate::error::{Failure, SendError};
use crate::headers::{self, Message};
use crate::link::Link;
use crate::payload::{Outflow, Payload};
use crate::pool::{Home, Pool};
use crate::resolve::{Pinned, Resolver};
use crate::socket::Opening;
use crate::tls::{Offer, Roots, Tls};
use crate::wire::Arriving;
use crate::{Config, ConfigError, receive, wire};

/// The door. Built once and shared: resolver and TLS configurations live here.
pub struct Egress {
    connect: std::time::Duration,
    resolver: Resolver,
    tls: Tls,
    pool: Pool,
    pub(crate) safety: Arc<Safety>,
    pub(crate) vault: Option<Arc<Vault>>,
}

/// A request that may leave, the secrets it leaves with, and the connection it leaves on: where that leads, and where
/// it may wait afterwards.
pub(crate) struct Ready {
    pub(crate) request: Request<Outflow>,
    pub(crate) leases: Leases,
    pub(crate) link: Link,
    pub(crate) pinned: Pinned,
    pub(crate) home: Option<Home>,
}

/// A request that was sent, and the beginning of its answer. The head was scanned.
pub(crate) struct Exchange {
    pub(crate) head: response::Parts,
    pub(crate) arriving: Arriving,
    pub(crate) encoding: Option<Encoding>,
    pub(crate) effect: Outbound,
    pub(crate) sent: Sent,
}

impl Egress {
    /// Reads the owner's settings. Without a vault, requests that need a secret are refused.
    pub fn new(config: Config, safety: Arc<Safety>, vault: Option<Arc<Vault>>) -> Result<Self, ConfigError> {
        Ok(Self {
            connect: config.connect,
            resolver: Resolver::new(&config.name_servers, &config.exceptions)?,
            tls: Tls::new(&config.exceptions)?,
            pool: Pool::default(),
            safety,
            vault,
        })
    }

    /// Carries out one permitted request and gives back its answer, whatever the status: a redirect
    /// is an answer too, and following it takes a permit of its own.
    ///
    /// The body streams through the leak detector; how the request ended is recorded when the body
    /// ends, fails or is dropped. An error is recorded before it is returned.
    pub async fn send(
        &self,
        permit: Permit<Outbound>,
        message: Message,
        trace: &Trace,
    ) -> Result<Response<ScreenedBody>, SendError> {
        self.send_unless(permit, message, trace, &mut Cut::never()).await
    }

    /// The same, as long as nothing stops it.
    pub(crate) async fn send_unless(
        &self,
        permit: Permit<Outbound>,
        message: Message,
        trace: &Trace,
        cut: &mut Cut,
    ) -> Result<Response<ScreenedBody>, SendError> {
        Ok(self.answer(self.exchange(permit, message, None, (trace, cut)).await?))
    }

    /// The six steps, up to the head of the answer. A request that is to open a WebSocket says so.
    pub(crate) async fn exchange(
        &self,
        permit: Permit<Outbound>,
        message: Message,
        opening: Option<&Opening>,
        (trace, cut): (&Trace, &mut Cut),
    ) -> Result<Exchange, SendError> {
        let mut account = Account::open(&permit, trace);
        let deadline = account.deadline();
        let effect = permit.effect().clone();
        if effect.tokens.into_secrets().is_some() {
            // Its answer is the vault's: it takes [`Egress::capture`].
            let refusal = Refusal::new(&secrets::rules::NOT_CAPTURED, "nothing was sent");
            return Err(account.close_unsent(permit, refusal.into()).await);
        }
        let ready = self.prepare_until(deadline, (&permit, message, opening), &mut account, cut).await;
        let Ready { request, leases, link, pinned, home } = match ready {
            Ok(ready) => ready,
            Err(error) => return Err(account.close_unsent(permit, error).await),
        };
        account.uploads(request.body().meter());
        let (armed, settlement) = secrets::inject(leases, permit, request)?;
        let mut sent = account.leaves(settlement);
        let since = Instant::now();
        let redial = self.dial(&pinned, &effect.target, Offer::of(opening));
        let (head, arriving) = match cut.unless(wire::exchange(link, home, armed, deadline, redial)).await {
            Ok(answer) => answer,
            Err(error) => {
                let error = sent.account().cause(error);
                return Err(sent.close(error).await);
            }
        };
        let account = sent.account();
        account.connected(arriving.addr());
        account.answered(head.status, since);
        let since = Instant::now();
        let encoding = receive::screen_head(&self.safety, &effect, &head);
        let encoding = match account.leak_step("response head", since, encoding) {
            Ok(encoding) => encoding,
            Err(error) => return Err(sent.close(error).await),
        };
        Ok(Exchange { head, arriving, encoding, effect, sent })
    }

    /// The answer as its reader gets it.
    pub(crate) fn answer(&self, exchange: Exchange) -> Response<ScreenedBody> {
        let Exchange { head, arriving, encoding, effect, sent } = exchange;
        let shape = (encoding, receive::Ends::of(&head));
        let (body, trailers) = receive::body(arriving, shape, &effect, &self.safety, sent);
        let mut response = headers::incoming(&effect, head, body);
        response.extensions_mut().insert(trailers);
        if let Some(encoding) = encoding {
            response.extensions_mut().insert(encoding);
        }
        response
    }

    /// [`Egress::prepare`], within the time of the exchange and unless something stops it.
    pub(crate) async fn prepare_until(
        &self,
        deadline: tokio::time::Instant,
        (permit, message, opening): (&Permit<Outbound>, Message, Option<&Opening>),
        account: &mut Account,
        cut: &mut Cut,
    ) -> Result<Ready, SendError> {
        let ready = timeout_at(deadline, self.prepare(permit, message, opening, account));
        cut.unless(async { ready.await.unwrap_or(Err(Failure::Timeout.into())) }).await
    }

    /// Everything that can refuse a request before a byte of it leaves: build, resolve, scan, lease,
    /// connect.
    async fn prepare(
        &self,
        permit: &Permit<Outbound>,
        message: Message,
        opening: Option<&Opening>,
        account: &mut Account,
    ) -> Result<Ready, SendError> {
        let effect = permit.effect();
        let since = Instant::now();
        let request = permit
            .check()
            .and_then(|()| injector::refuse_clear_text(effect))
            .and_then(|()| headers::outgoing(effect, message));
        let request = account.step("request", since, request, |request| {
            format!("{} headers, record {}", request.headers().len(), permit.seq().get())
        })?;
        let since = Instant::now();
        let pinned = self.resolver.pin(&effect.target.endpoint, &effect.caller).await;
        let pinned = account.step("resolve", since, pinned, |pinned| pinned.verdict())?;
        let since = Instant::now();
        let scanned = self.scan_out(&request);
        account.sends(account.step("scan out", since, scanned, |bytes| format!("{bytes} bytes, no secret"))?);
        let since = Instant::now();
        let leases = injector::lease(self.vault.as_ref(), &self.safety, permit).await;
        let leases = account.step("secret", since, leases, |_| injector::names(effect))?;
        let since = Instant::now();
        let home = self.pool.home(permit, &request).filter(|_| opening.is_none());
        let link = match home.as_ref().and_then(|home| home.take(&pinned)) {
            Some(link) => Ok(link),
            None => self.dial(&pinned, &effect.target, Offer::of(opening)).await,
        };
        let link = account.step("connect", since, link, |link| {
            let (at, kept) = (link.addr(), if link.is_used() { ", kept open" } else { "" });
            format!("{} at {at}, {}{kept}", effect.target.endpoint, effect.target.scheme.as_str())
        })?;
        account.connected(link.addr());
        let (mut head, payload) = request.into_parts();
        opening.map_or(Ok(()), |opening| opening.ask(&mut head.headers))?;
        let payload = Outflow::of(payload, &head.headers, &self.safety, account.trace())?;
        let request = Request::from_parts(head, payload);
        Ok(Ready { request, leases, link, pinned, home })
    }

    pub(crate) async fn dial(
        &self,
        pinned: &Pinned,
        target: &Target,
        offer: Offer,
    ) -> Result<Link, SendError> {
        Ok(Link::over(connect(pinned, target, (&self.tls, offer), self.connect).await?).await?)
    }

    /// Scans head and body for secrets and counts their bytes. A body that streams is scanned while it leaves.
    fn scan_out(&self, request: &Request<Payload>) -> Result<usize, SendError> {
        let body = request.body().plain(request.headers())?;
        let head = headers::head_of_request(request);
        // What an encoded body is decoded to leaves out names and comments (RFC 1952, 2.3).
        let encoded = request.body().encoded(request.headers())?;
        for bytes in [&head[..], &body, encoded] {
            self.safety.scan_bytes(bytes, Channel::Outbound).map_err(|blocked| blocked.refusal)?;
        }
        Ok(head.len() + request.body().len())
    }

    /// Whose word counts for the certificates of public hosts, for reports.
    pub fn roots(&self) -> Result<Roots, SendError> {
        self.tls.roots().map_err(|fault| Failure::Tls(fault).into())
    }
}
