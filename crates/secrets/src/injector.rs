//! Injection: a permitted request and its leased secrets become one armed request.
//!
//! An [`Armed`] request can be neither shown nor read; only the wire takes it apart:
//!
//! ```compile_fail
//! fn show(armed: secrets::Armed<Vec<u8>>) -> String { format!("{armed:?}") }
//! ```
//!
//! ```
//! #[allow(clippy::disallowed_methods)]
//! fn send(armed: secrets::Armed<Vec<u8>>) -> String { format!("{:?}", armed.disarm_for_the_wire()) }
//! ```
//!
//! Injected headers and addresses lie in buffers that are wiped when the last reference is dropped;
//! what HTTP and TLS copy from them is beyond this crate. An injected address is not: never print the
//! URI of a disarmed request.

use std::time::Instant;

use ::types::folded;
use ::types::{Caller, Field, Injection, Outbound, Refusal, SecretName, Target, Verdict};
use audit::Seq;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Uri};
use policy::{Permit, Settlement};
use zeroize::Zeroizing;

use crate::lease::{Lease, Leases};
use crate::renewal::{self, Capture};
use crate::rules;
use crate::taking::Taking;
use crate::types::breaks_a_line;

/// A request that carries secrets, or is at least permitted to leave.
#[must_use = "an armed request is for the wire"]
pub struct Armed<B>(Request<B>);

impl<B> Armed<B> {
    /// Takes it apart. For the one place that writes it to a connection; banned everywhere else.
    pub fn disarm_for_the_wire(self) -> Request<B> {
        self.0
    }
}

/// Uses up a permit and its leases for the one request that they are for. The request's method and
/// absolute address must be the permitted ones. Deadline and policy generation are checked once more,
/// at this last moment.
pub fn inject<B>(
    leases: Leases,
    permit: Permit<Outbound>,
    request: Request<B>,
) -> Result<(Armed<B>, Settlement), Refusal> {
    let keep = |body, form: Option<Bytes>| form.is_none().then_some(body);
    let (armed, settlement, _) = use_up(leases, permit, request, keep)?;
    Ok((armed, settlement))
}

/// The same for the vault's own request for a new token: its body is the form that the vault fills in. The
/// [`Capture`] says what becomes of the answer.
pub fn inject_renewal<B: From<Bytes>>(
    leases: Leases,
    permit: Permit<Outbound>,
    request: Request<B>,
) -> Result<(Armed<B>, Settlement, Capture), Refusal> {
    let fill = |_, form: Option<Bytes>| form.map(B::from);
    let (armed, settlement, effect) = use_up(leases, permit, request, fill)?;
    let capture = Capture::of(&effect).ok_or_else(|| Refusal::new(&rules::REQUEST_MISMATCH, "no renewal"))?;
    Ok((armed, settlement, capture))
}

/// The same for a request to a token endpoint, of whose answer the [`Taking`] says what becomes.
pub fn inject_taking<B>(
    leases: Leases,
    permit: Permit<Outbound>,
    request: Request<B>,
) -> Result<(Armed<B>, Settlement, Taking), Refusal> {
    let keep = |body, form: Option<Bytes>| form.is_none().then_some(body);
    let (armed, settlement, effect) = use_up(leases, permit, request, keep)?;
    let taking =
        Taking::of(&effect).ok_or_else(|| Refusal::new(&rules::REQUEST_MISMATCH, "no token endpoint"))?;
    Ok((armed, settlement, taking))
}

fn use_up<B>(
    leases: Leases,
    permit: Permit<Outbound>,
    request: Request<B>,
    body: impl FnOnce(B, Option<Bytes>) -> Option<B>,
) -> Result<(Armed<B>, Settlement, Outbound), Refusal> {
    let (effect, settlement) = permit.redeem()?;
    match arm(leases, &effect, settlement.of(), request, body) {
        Ok(armed) => Ok((armed, settlement, effect)),
        Err(refusal) => {
            let fields = [
                (Field::Rule, refusal.rule.id.to_owned()),
                (Field::Refusal, refusal.id.to_string()),
                (Field::Reason, refusal.detail.clone()),
            ];
            settlement.settle_detached(Verdict::Block, fields);
            Err(refusal)
        }
    }
}

fn arm<B>(
    leases: Leases,
    effect: &Outbound,
    of: Seq,
    request: Request<B>,
    fill: impl FnOnce(B, Option<Bytes>) -> Option<B>,
) -> Result<Armed<B>, Refusal> {
    let leases = leases.take(of, &effect.secrets, Instant::now())?;
    let (mut parts, body) = request.into_parts();
    let target = Target::from_parts(parts.method.clone(), &parts.uri).ok();
    if target.as_ref() != Some(&effect.target) {
        return Err(Refusal::new(&rules::REQUEST_MISMATCH, format!("permitted: {}", effect.target)));
    }
    let mut address = Address::of(&effect.target);
    let mut form = None;
    for lease in &leases {
        match &lease.used.inject {
            Injection::Refresh { client, .. } if effect.caller == Caller::Vault && form.is_none() => {
                form = Some(renewal::form(client, lease.value.expose()));
            }
            _ => place(lease, &mut parts.headers, &mut address)?,
        }
    }
    let body = fill(body, form).ok_or_else(|| Refusal::new(&rules::NO_PLACE, "a form"))?;
    if address.is_armed {
        parts.uri = address.into_uri(&effect.target)?;
    }
    Ok(Armed(Request::from_parts(parts, body)))
}

/// Puts one secret where it belongs.
fn place(lease: &Lease, headers: &mut HeaderMap, address: &mut Address) -> Result<(), Refusal> {
    let (name, value) = (&lease.used.secret, lease.value.expose());
    if breaks_a_line(value) {
        return Err(Refusal::new(&rules::VALUE_UNFIT, name.to_string()));
    }
    match &lease.used.inject {
        Injection::Bearer => header(headers, &AUTHORIZATION, name, joined(b"Bearer ", value)),
        Injection::Basic { user } => header(headers, &AUTHORIZATION, name, basic(user, value)),
        Injection::Header { name: place } => header(headers, place, name, joined(b"", value)),
        Injection::Query { name: parameter } => address.append(parameter, name, value),
        Injection::Path => address.fill(name, value),
        Injection::Refresh { .. } => Err(Refusal::new(&rules::NO_PLACE, name.to_string())),
    }
}

/// A header that the request has already is never joined by a second one.
fn header(
    headers: &mut HeaderMap,
    place: &HeaderName,
    secret: &SecretName,
    value: Zeroizing<Vec<u8>>,
) -> Result<(), Refusal> {
    if headers.contains_key(place) {
        return Err(Refusal::new(&rules::PLACE_TAKEN, format!("header {place} for {secret}")));
    }
    let unfit = |_| Refusal::new(&rules::VALUE_UNFIT, format!("{secret} in header {place}"));
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(unfit)?;
    value.set_sensitive(true);
    headers.insert(place, value);
    Ok(())
}

/// `Basic base64(user:password)` (RFC 7617).
fn basic(user: &str, password: &[u8]) -> Zeroizing<Vec<u8>> {
    let pair = joined(format!("{user}:").as_bytes(), password);
    let mut value = joined(b"Basic ", &vec![0; pair.len().div_ceil(3) * 4]);
    // The space is exactly what the encoding takes.
    let _ = STANDARD.encode_slice(&*pair, &mut value[b"Basic ".len()..]);
    value
}

fn joined(prefix: &[u8], value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(prefix.len() + value.len()));
    out.extend_from_slice(prefix);
    out.extend_from_slice(value);
    out
}

/// Path and query while secrets are put into them.
struct Address {
    path: Zeroizing<Vec<u8>>,
    query: Option<Zeroizing<Vec<u8>>>,
    is_armed: bool,
}

impl Address {
    fn of(target: &Target) -> Self {
        let own = |text: &str| joined(b"", text.as_bytes());
        Self { path: own(target.path.as_str()), query: target.query().map(own), is_armed: false }
    }

    /// Appends `parameter=value` to the query.
    fn append(&mut self, parameter: &str, secret: &SecretName, value: &[u8]) -> Result<(), Refusal> {
        let query = self.query.take().unwrap_or_default();
        let own = folded::parameter(parameter.as_bytes());
        if folded::parameters(&query).any(|(name, _)| name == own) {
            let detail = format!("query parameter {parameter} for {secret}");
            return Err(Refusal::new(&rules::PLACE_TAKEN, detail));
        }
        let separator: &[u8] = if query.is_empty() { b"" } else { b"&" };
        let value = percent_encoded(value);
        let mut longer =
            Zeroizing::new(Vec::with_capacity(query.len() + 1 + parameter.len() + 1 + value.len()));
        for part in [&query, separator, parameter.as_bytes(), b"=", &value] {
            longer.extend_from_slice(part);
        }
        self.query = Some(longer);
        self.is_armed = true;
        Ok(())
    }

    /// Replaces `{SECRET}`, which a canonical path spells `%7BSECRET%7D`. The value stays inside its
    /// segment, and the segment has no second reading: no separator, no escape, no step up.
    fn fill(&mut self, secret: &SecretName, value: &[u8]) -> Result<(), Refusal> {
        let mark = format!("%7B{secret}%7D").into_bytes();
        let found: Vec<usize> =
            (0..self.path.len()).filter(|at| self.path[*at..].starts_with(&mark)).collect();
        let [at] = found[..] else {
            return Err(Refusal::new(&rules::NO_PLACE, format!("{{{secret}}}")));
        };
        let (before, after) = (&self.path[..at], &self.path[at + mark.len()..]);
        let splits = |byte: &u8| matches!(byte, b'%' | b';' | b'?' | b'#');
        if value.iter().any(splits) || ::types::has_second_reading(&segment(before, value, after)) {
            return Err(Refusal::new(&rules::VALUE_UNFIT, format!("{secret} in the path")));
        }
        let value = percent_encoded(value);
        let mut filled = Zeroizing::new(Vec::with_capacity(self.path.len() + value.len()));
        for part in [before, &value, after] {
            filled.extend_from_slice(part);
        }
        self.path = filled;
        self.is_armed = true;
        Ok(())
    }

    fn into_uri(self, target: &Target) -> Result<Uri, Refusal> {
        let query = self.query.as_deref().map(Vec::as_slice);
        let length = self.path.len() + query.map_or(0, |query| 1 + query.len());
        let mut whole = Zeroizing::new(Vec::with_capacity(length));
        whole.extend_from_slice(&self.path);
        if let Some(query) = query {
            whole.push(b'?');
            whole.extend_from_slice(query);
        }
        // The library's errors would quote the address; they are dropped.
        let uri = PathAndQuery::from_maybe_shared(Bytes::from_owner(whole)).ok().and_then(|whole| {
            let address = Uri::builder().scheme(target.scheme.as_str()).authority(target.host_header());
            address.path_and_query(whole).build().ok()
        });
        uri.ok_or_else(|| Refusal::new(&rules::VALUE_UNFIT, "the address"))
    }
}

/// The decoded segment that a value makes together with what stands around it.
fn segment(before: &[u8], value: &[u8], after: &[u8]) -> Zeroizing<Vec<u8>> {
    let is_slash = |byte: &u8| *byte == b'/';
    let before = before.rsplit(is_slash).next().unwrap_or_default();
    let after = after.split(is_slash).next().unwrap_or_default();
    let mut whole = Zeroizing::new(Vec::with_capacity(before.len() + value.len() + after.len()));
    whole.extend_from_slice(&percent_decoded(before));
    whole.extend_from_slice(value);
    whole.extend_from_slice(&percent_decoded(after));
    whole
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digit = |byte: u8| (byte as char).to_digit(16);
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                out.push((digit(*high).unwrap_or(0) * 16 + digit(*low).unwrap_or(0)) as u8);
                rest = after;
            }
            (byte, _) => {
                out.push(if *byte == b'+' { b' ' } else { *byte });
                rest = tail;
            }
        }
    }
    out
}

/// Everything but the unreserved characters of RFC 3986 as `%XX`.
pub(crate) fn percent_encoded(value: &[u8]) -> Zeroizing<Vec<u8>> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    for byte in value {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(*byte),
            other => {
                out.extend_from_slice(&[b'%', HEX[usize::from(other >> 4)], HEX[usize::from(other & 15)]])
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::Plain;

    fn armed(inject: &str, url: &str, value: &[u8]) -> Result<(HeaderMap, Uri), Refusal> {
        let target = Target::parse("GET", url).unwrap();
        let secret = SecretName::parse("KEY").unwrap();
        let used = ::types::SecretUse { secret, inject: Injection::parse(inject).unwrap() };
        let (mut headers, mut address) = (HeaderMap::new(), Address::of(&target));
        place(&Lease::of(used, Plain::new(value.to_vec()), 1, Vec::new()), &mut headers, &mut address)?;
        Ok((headers, address.into_uri(&target)?))
    }

    const PLACES: [(&str, &str); 5] = [
        ("bearer", "https://a.example/v1"),
        ("basic:user", "https://a.example/v1"),
        ("header:x-key", "https://a.example/v1"),
        ("query:key", "https://a.example/v1?a=b"),
        ("path", "https://a.example/v1/%7BKEY%7D/x"),
    ];

    #[test]
    fn c17_line_breaks_are_refused_at_the_last_moment_too() {
        for (inject, url) in PLACES {
            for value in ["token\r\nX-Evil: 1", "token\nx", "token\rx", "token\0x"] {
                let refusal = armed(inject, url, value.as_bytes()).unwrap_err();
                assert_eq!(refusal.rule.id, "vault.value-unfit");
                assert!(!refusal.to_string().contains("token"));
            }
        }
    }

    #[test]
    fn p03_a_parameter_of_the_same_name_to_some_server_is_a_second_one() {
        for own in
            ["api_key", "API_KEY", "api.key", "api%20key", "api+key", "api[key", "%61pi_key", "a=b;api_key"]
        {
            let refusal = armed("query:api_key", &format!("https://a.example/v1?{own}=x"), b"v").unwrap_err();
            assert_eq!(refusal.rule.id, rules::PLACE_TAKEN.id, "{own}");
        }
        assert!(armed("query:api_key", "https://a.example/v1?apikey=x&api_keys=y&a=api_key", b"v").is_ok());
    }

    #[test]
    fn p01_a_value_makes_no_segment_with_a_second_reading() {
        for (url, value) in [
            ("https://a.example/v1/%7BKEY%7D/x", ".."),
            ("https://a.example/v1/.%7BKEY%7D/x", "."),
            ("https://a.example/v1/%7BKEY%7D%20/x", ".."),
            ("https://a.example/v1/%7BKEY%7D;v=1/x", ".."),
        ] {
            assert_eq!(
                armed("path", url, value.as_bytes()).unwrap_err().rule.id,
                "vault.value-unfit",
                "{url}"
            );
        }
        for unfit in [&b"\xc0\xae\xc0\xae"[..], b"\xff", b"a/b", b"a\\b", b"100%41"] {
            assert!(armed("path", "https://a.example/v1/%7BKEY%7D/x", unfit).is_err());
        }
        assert!(armed("path", "https://a.example/v1/bot%7BKEY%7D/x", b"7:abc.def").is_ok());
    }

    proptest! {
        /// Whatever the value, one header or one parameter or one part of a segment changes.
        #[test]
        fn no_value_leaves_its_place(value in prop::collection::vec(any::<u8>(), 1..60)) {
            for (inject, url) in PLACES {
                let Ok((headers, uri)) = armed(inject, url, &value) else { continue };
                let before = Target::parse("GET", url).unwrap();
                prop_assert_eq!(uri.host(), Some("a.example"));
                prop_assert!(headers.len() <= 1);
                match inject {
                    "path" => {
                        let sent = ::types::CanonicalPath::parse(uri.path());
                        prop_assert!(sent.is_ok(), "{:?}", uri);
                        prop_assert_eq!(uri.path().matches('/').count(), before.path.as_str().matches('/').count());
                    }
                    "query:key" => {
                        let encoded = uri.query().and_then(|query| query.strip_prefix("a=b&key="));
                        prop_assert_eq!(percent_decoded(encoded.unwrap_or_default().as_bytes()), value.clone());
                        prop_assert_eq!(uri.query().unwrap_or_default().matches('&').count(), 1);
                    }
                    _ => prop_assert_eq!(uri.to_string(), url),
                }
            }
        }
    }
}
