//! One request of a client: read, decided, sent.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{Method, Response, Uri};
use hyper::Request;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use policy::{Asked, Asker, Permit};
use safety::credential_detect;
use tokio::time::sleep;
use types::{Digest, Endpoint, Outbound, Refusal, Scheme, SecretUse, Target};

use super::answer::{self, Outward};
use super::upload::Arrived;
use super::{Client, Place, Shared};
use crate::budget::Share;
use crate::cut::Cut;
use crate::error::Failure;
use crate::headers::Message;
use crate::limits::EXCHANGE_MEMORY;
use crate::payload::Payload;
use crate::rules;
use crate::silence::Silence;

/// Headers between a client and its proxy, which are not part of the request (RFC 9110, 7.6.1).
const HOP: [HeaderName; 2] = [header::PROXY_AUTHORIZATION, HeaderName::from_static("proxy-connection")];

/// How often an exchange is judged again while it goes on.
const LOOK: Duration = Duration::from_secs(1);

/// Characters of a method: the longest that is registered has 17 (RFC 4437).
const LONGEST_METHOD: usize = 32;

/// A request as it will be decided.
struct Read {
    target: Target,
    claims: Vec<SecretUse>,
    headers: HeaderMap,
}

impl Shared {
    /// Answers one request of a client that was let in, whatever comes.
    pub(super) async fn answer(
        self: Arc<Self>,
        place: Place,
        mut request: Request<Incoming>,
        asker: Asker,
    ) -> Response<Outward> {
        // With a protocol it opens no tunnel: it is a request for what its address names (RFC 8441, 4).
        let is_extended =
            matches!(place, Place::Inside(..)) && request.extensions().get::<Protocol>().is_some();
        if request.method() == Method::CONNECT && !is_extended {
            return Box::pin(self.open_tunnel(place, request)).await;
        }
        let addressed = addressed(&place, request.uri(), request.headers());
        // Refusals are told apart by what was asked, so that none hides among others.
        let (method, authority) =
            (request.method().clone(), addressed.as_ref().ok().map(|(_, to)| to.clone()));
        let read = async {
            let mut share = self.budget.share(EXCHANGE_MEMORY, self.bounds.handshake).await?;
            let upgrade = self.upgrade(&mut request)?;
            let (parts, body) = request.into_parts();
            let read = self.read(addressed?, parts)?;
            let arrived = self.payload(body, &read.headers, &mut share).await?;
            Ok((upgrade, read, arrived, share))
        };
        let read = tokio::select! {
            read = read => read,
            // There is nothing yet to be decided.
            () = asker.gone() => return answer::unsent(&Failure::Sender.into(), ""),
        };
        let (upgrade, Read { target, claims, headers }, Arrived { payload, plain, silence }, share) =
            match read {
                Ok(read) => read,
                Err(refusal) => {
                    let authority = authority.map(|to| to.to_string()).unwrap_or_default();
                    return self.refuse(refusal, &format!("{method} {authority}")).await;
                }
            };
        let asked = target.to_string();
        // What will be said in a WebSocket is as unknown as the rest of a body that streams.
        let body = (upgrade.is_none() && matches!(payload, Payload::Whole(_))).then_some(&plain);
        let question = question(target, claims, &headers, (body, &plain), &asker);
        let permit = match self.policy.decide_proxied(&self.run, question).await {
            Ok(permit) => permit,
            // An address that holds a secret is not repeated.
            Err(refusal) if refusal.rule.layer == types::Layer::Leaks => {
                return answer::refused(&refusal, None);
            }
            Err(refusal) => return answer::refused(&refusal, Some(&asked)),
        };
        let message = Message { headers, body: payload };
        match upgrade {
            // What is rare is kept elsewhere: the state of every answer has room for all of its ways.
            Some(upgrade) => Box::pin(self.open(permit, message, upgrade, share, (&asked, asker))).await,
            None => self.pass(permit, message, (share, silence), (&asked, asker)).await,
        }
    }

    async fn open_tunnel(self: Arc<Self>, place: Place, request: Request<Incoming>) -> Response<Outward> {
        match place {
            Place::Front(..) => self.connect(request).await,
            Place::Inside(_, endpoint) => {
                let refusal = Refusal::new(&rules::NESTED_TUNNEL, format!("inside one to {endpoint}"));
                self.refuse(refusal, &format!("CONNECT {endpoint}")).await
            }
        }
    }

    /// Sends a request for which there is a permit, and passes its answer on.
    async fn pass(
        self: Arc<Self>,
        permit: Permit<Outbound>,
        message: Message,
        (share, silence): (Share, Option<Arc<Silence>>),
        (asked, asker): (&str, Asker),
    ) -> Response<Outward> {
        let of = place_of(permit.effect());
        let revoked = self.clone().revoked(&permit);
        let refused = stopped(revoked, silence.clone());
        if permit.effect().tokens.into_secrets().is_some() {
            // The endpoint may have replaced tokens when the client is gone: its answer is waited for and kept.
            let mut cut = Cut { refused, ..Cut::never() };
            return Box::pin(self.captured(permit, message, &mut cut, asked)).await;
        }
        let mut cut = Cut { refused, left: Box::pin(asker.gone()) };
        match self.egress.send_unless(permit, message, self.run.turn().trace(), &mut cut).await {
            Ok(response) => self.passed_on(response, (cut.refused, of), (share, silence)),
            Err(error) => answer::unsent(&error, asked),
        }
    }

    /// Sends a request whose answer brings tokens, and answers with what stands for them.
    async fn captured(
        &self,
        permit: Permit<Outbound>,
        message: Message,
        cut: &mut Cut,
        asked: &str,
    ) -> Response<Outward> {
        let taken = self.egress.capture(permit, message, self.run.turn().trace(), cut).await;
        let (status, taken) = match taken {
            Ok(taken) => taken,
            Err(error) => return answer::unsent(&error, asked),
        };
        answer::taken(status, &taken, |name| {
            self.placeholders.each().find(|(own, _)| *own == name).map(|(_, text)| text)
        })
    }

    /// Comes about when the exchange would not be permitted any more (attack C19). It is cut off; what has left has left.
    pub(super) fn revoked(self: Arc<Self>, permit: &Permit<Outbound>) -> BoxFuture<'static, Refusal> {
        let (outbound, generation) = (permit.effect().clone(), permit.generation());
        Box::pin(async move {
            loop {
                sleep(LOOK).await;
                if let Err(refusal) = self.policy.still_permitted(&self.run, &outbound, generation).await {
                    return refusal;
                }
            }
        })
    }

    /// Records a refusal of the proxy's own and makes an answer of it.
    pub(super) async fn refuse(&self, refusal: Refusal, of: &str) -> Response<Outward> {
        answer::refused(&self.policy.note_refused(&self.run, refusal, of).await, None)
    }

    /// Reads where a request goes and which secrets it stands for.
    fn read(&self, (scheme, to): (Scheme, Endpoint), parts: Parts) -> Result<Read, Refusal> {
        let Parts { method, uri, mut headers, .. } = parts;
        if method.as_str().len() > LONGEST_METHOD {
            return Err(malformed("a method that nobody defined"));
        }
        // What the host is was agreed on; it is sent in its canonical form.
        headers.remove(header::HOST);
        HOP.iter().for_each(|name| drop(headers.remove(name)));
        crate::headers::join_cookies(&mut headers);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // `OPTIONS *` is about the server, not about a resource of it.
        if !path.starts_with('/') {
            return Err(malformed("a target that is no path"));
        }
        let (path, claims) = self.placeholders.take(path, &mut headers)?;
        // Before anything is decided: what would be refused when it is sent would have cost a permit and two records.
        crate::headers::refuse_routing(&headers)?;
        let target = Target::at(method, scheme, to, &path).map_err(|error| malformed(&error.to_string()))?;
        Ok(Read { target, claims, headers })
    }
}

/// `METHOD HOST:PORT`, by which refusals are told apart.
pub(super) fn place_of(effect: &Outbound) -> String {
    format!("{} {}", effect.target.method, effect.target.endpoint)
}

/// Comes about when an exchange is revoked, or says nothing for too long.
fn stopped(
    revoked: BoxFuture<'static, Refusal>,
    silence: Option<Arc<Silence>>,
) -> BoxFuture<'static, Refusal> {
    let Some(silence) = silence else { return revoked };
    Box::pin(async move {
        tokio::select! {
            refusal = revoked => refusal,
            refusal = silence.too_long() => refusal,
        }
    })
}

/// What is asked about a request.
fn question(
    target: Target,
    claims: Vec<SecretUse>,
    headers: &HeaderMap,
    (body, plain): (Option<&Bytes>, &Bytes),
    asker: &Asker,
) -> Asked {
    let mut brought = credential_detect::carried(headers, target.query());
    brought.extend(Payload::brought(plain, headers));
    Asked { target, claims, headers: headers.clone(), brought, body: body.cloned(), asker: asker.clone() }
}

/// Refuses a body whose end two programs could see at different places (RFC 9112, 6.1): one coding, once, and spelt as
/// everybody spells it.
fn framed(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(malformed("a transfer coding other than chunked, or more than one")),
    }
}

/// The scheme and the place of a request, on which everything in it that names a host has to agree.
fn addressed(place: &Place, uri: &Uri, headers: &HeaderMap) -> Result<(Scheme, Endpoint), Refusal> {
    framed(headers)?;
    let written = match (uri.scheme_str(), uri.authority()) {
        (Some("https"), Some(authority)) => Some((Scheme::Https, authority.as_str())),
        (Some("http"), Some(authority)) => Some((Scheme::Http, authority.as_str())),
        (Some(_), _) => return Err(malformed("a scheme that is neither https nor http")),
        _ => None,
    };
    if written.is_some_and(|(_, authority)| authority.contains('@')) {
        return Err(malformed("an address that names a user before the host"));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts
        .next()
        .map(|host| host.to_str().map_err(|_| malformed("a Host that is no text")))
        .transpose()?;
    if hosts.next().is_some() {
        return Err(malformed("two Host headers"));
    }
    let (scheme, expected) = match (place, written) {
        (Place::Inside(scheme, endpoint), _) => (*scheme, endpoint.clone()),
        (Place::Front(..), Some((scheme, authority))) => (scheme, parsed(scheme, authority)?),
        (Place::Front(..), None) => {
            return Err(malformed("an address without a host, which only a server takes"));
        }
    };
    if host.is_none() && written.is_none() {
        return Err(malformed("a request without a Host"));
    }
    let same_scheme = written.is_none_or(|(written, _)| written == scheme);
    for named in [host, written.map(|(_, authority)| authority)].into_iter().flatten() {
        if !same_scheme || parsed(scheme, named)? != expected {
            let detail = format!("a request on a connection to {expected}; nothing was sent");
            return Err(Refusal::new(&rules::NAMES_DISAGREE, detail));
        }
    }
    Ok((scheme, expected))
}

fn parsed(scheme: Scheme, authority: &str) -> Result<Endpoint, Refusal> {
    Endpoint::parse(authority, Some(scheme.default_port())).map_err(|error| malformed(&error.to_string()))
}

pub(super) fn malformed(why: &str) -> Refusal {
    Refusal::new(&rules::MALFORMED, why)
}

impl Place {
    /// True for a request that does not show what it has to. A client whose request does is let in.
    pub(super) async fn turns_away(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Front(Client::Token(token), _) if !shows(headers, token) => true,
            Self::Front(_, entry) => {
                entry.enter().await;
                false
            }
            Self::Inside(..) => false,
        }
    }
}

/// True when a request shows the token: as the password of Basic, under any user name, or as Bearer. Digests are
/// compared, so that how long it takes says nothing of the token.
fn shows(headers: &HeaderMap, token: &Digest) -> bool {
    let shown = headers.get(header::PROXY_AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, value)) = shown.and_then(|value| value.split_once(' ')) else { return false };
    if scheme.eq_ignore_ascii_case("bearer") {
        return Digest::of(value.trim().as_bytes()) == *token;
    }
    let pair = STANDARD.decode(value.trim()).unwrap_or_default();
    let password = pair.iter().position(|byte| *byte == b':').map(|at| &pair[at + 1..]);
    scheme.eq_ignore_ascii_case("basic") && password.is_some_and(|password| Digest::of(password) == *token)
}
