//! Connections that wait for the next request of the same caller to the same place.
//!
//! A connection is kept only after an answer that ended as HTTP/1.1 says, and is taken up again only by a request of
//! the same caller under the same policy, to the same place at an address that was resolved and judged anew, with the
//! same secrets: whoever else comes gets one of their own. It waits for seconds, because its buffers still hold the
//! last request, the secrets in it included.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use http::{Method, Request};
use policy::Permit;
use tokio::time::sleep;
use types::{Caller, Endpoint, Outbound, Scheme, SecretUse};

use crate::limits::{IDLE_CONNECTIONS, IDLE_TIME};
use crate::link::Link;
use crate::payload::Payload;
use crate::resolve::Pinned;

/// Whose connection it is, and for what.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    caller: Caller,
    scheme: Scheme,
    endpoint: Endpoint,
    secrets: Vec<SecretUse>,
    generation: u64,
}

/// The connections that wait. One pool belongs to one door, and so to one tenant's vault.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The one that waits longest comes first.
    waiting: Vec<Waiting>,
    /// Whether a task will look for those whose time is over.
    swept: bool,
}

struct Waiting {
    key: Key,
    link: Link,
    since: Instant,
}

/// Where a connection goes back to.
pub(crate) struct Home {
    pool: Pool,
    key: Key,
}

impl Key {
    /// `None` for the vault's own requests, whose answers hold new keys: they are never mixed with others.
    fn of(permit: &Permit<Outbound>) -> Option<Self> {
        let effect = permit.effect();
        (effect.caller != Caller::Vault).then(|| Self {
            caller: effect.caller.clone(),
            scheme: effect.target.scheme,
            endpoint: effect.target.endpoint.clone(),
            secrets: effect.secrets.clone(),
            generation: permit.generation(),
        })
    }
}

impl Pool {
    /// Where the connection of a permitted request may wait after it. `None` after content that a server could pass
    /// over: because its method gives it no meaning (RFC 9110, 9.3), or because the path ignores it. Such a server reads the
    /// content as the beginning of the next request, and the head of that one, secrets included, as the rest of a request
    /// that nobody has judged. Of a post, that is for those to try who write its content and do not hold its secrets.
    pub(crate) fn home(&self, permit: &Permit<Outbound>, request: &Request<Payload>) -> Option<Home> {
        const WITHOUT: [Method; 5] =
            [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, Method::TRACE];
        let effect = permit.effect();
        let is_stranger = matches!(effect.caller, Caller::Tool { .. } | Caller::Client { .. });
        let is_tried = WITHOUT.contains(request.method()) || is_stranger && !effect.secrets.is_empty();
        let key = Key::of(permit).filter(|_| request.body().is_empty() || !is_tried)?;
        Some(Home { pool: self.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Home {
    /// A connection that waits here and leads to one of these addresses. Those that turn out closed are dropped.
    pub(crate) fn take(&self, pinned: &Pinned) -> Option<Link> {
        let mut state = self.pool.lock();
        loop {
            let fits =
                |one: &Waiting| one.key == self.key && pinned.sockets().any(|to| to.ip() == one.link.addr());
            let at = state.waiting.iter().rposition(fits)?;
            let Waiting { mut link, since, .. } = state.waiting.remove(at);
            if since.elapsed() < IDLE_TIME && link.waits() {
                return Some(link);
            }
        }
    }

    /// Keeps a connection for a while; the one that waited longest makes room.
    pub(crate) fn keep(self, mut link: Link) {
        if !link.waits() {
            return;
        }
        let mut state = self.pool.lock();
        if state.waiting.len() == IDLE_CONNECTIONS {
            state.waiting.remove(0);
        }
        state.waiting.push(Waiting { key: self.key, link, since: Instant::now() });
        if !std::mem::replace(&mut state.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.pool.0)));
        }
    }
}

/// Closes what has waited too long, until nothing waits.
async fn sweep(pool: Weak<Mutex<State>>) {
    loop {
        sleep(IDLE_TIME / 4).await;
        let Some(state) = pool.upgrade() else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.retain(|one| one.since.elapsed() < IDLE_TIME);
        if state.waiting.is_empty() {
            state.swept = false;
            return;
        }
    }
}
