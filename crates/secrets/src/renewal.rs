//! New tokens for those that end (OAuth 2.0, RFC 6749, section 6).
//!
//! A refresh token is a secret like any other. The owner grants it to the vault itself, for one token endpoint,
//! with `--inject refresh:SECRET:CLIENT_ID`; the answer's access token becomes the next version of SECRET, and a
//! refresh token in the answer the next version of the one that was sent. The request is put together here and
//! sent by `egress`; the answer comes back here, and nobody else reads a byte of it: what they are told is
//! a [`Captured`], the names of what was stored.

use std::time::Duration;

use ::types::{Caller, Grant, Injection, Outbound, Record, Refusal, SecretName, ToolName};
use audit::now_ms;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::crypto;
use crate::error::VaultError;
use crate::injector::percent_encoded;
use crate::rules;
use crate::store::Vault;
use crate::types::Plain;

/// A second attempt waits so long for the first: longer than one may take.
const RETRY_MS: u64 = 60_000;

/// The longest life of a token that is believed; beyond it the number is a mistake.
const LONGEST_LIFE: u64 = 10 * 365 * 24 * 60 * 60;

/// A token that is to be asked for: what the policy decides about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renewal {
    /// The owner's grant to the vault.
    pub grant: Grant,
    /// The secret that the answer becomes.
    pub into: SecretName,
    /// What the record of this attempt claims.
    pub claim: String,
}

/// The right and the duty to give an answer to the vault. Made by injecting, used up by capturing.
#[must_use = "an answer that is not captured is a token lost"]
#[derive(Debug)]
pub struct Capture {
    into: SecretName,
    refresh: SecretName,
}

/// What an answer became: the placeholder for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// The secret that holds the access token.
    pub secret: SecretName,
    /// When it ends, in milliseconds since 1970; `None` where the answer does not say.
    pub expires_ms: Option<u64>,
    /// The secret whose value was replaced because the answer brought another refresh token.
    pub refresh: Option<SecretName>,
}

/// When the value in a row ends, as the row says it; in milliseconds since 1970. Using it proves it.
pub fn expires_ms(row: &::store::SecretRow) -> Option<u64> {
    crypto::expiry(&row.sealed)
}

impl Vault {
    /// The tokens that end within that time or are not there yet, and for which nobody has just asked. A
    /// secret that the owner disabled is left alone.
    pub async fn renewals(&self, within: Duration) -> Result<Vec<Renewal>, VaultError> {
        let mut due = Vec::new();
        for grant in self.renewal_grants().await? {
            let Injection::Refresh { into, .. } = &grant.inject else { continue };
            let ends = match self.reader.secret(&self.tenant, into).await? {
                Some(row) if row.state != ::store::SecretState::Current => continue,
                Some(row) => crypto::expiry(&row.sealed),
                None => Some(0),
            };
            let soon = now_ms().saturating_add(within.as_millis() as u64);
            if ends.is_some_and(|end| end <= soon)
                && let Some(renewal) = self.attempt(grant.clone(), into.clone()).await?
            {
                due.push(renewal);
            }
        }
        Ok(due)
    }

    /// The renewal of one token, due or not; `None` while somebody else has just asked.
    pub async fn renewal(&self, into: &SecretName) -> Result<Option<Renewal>, VaultError> {
        let is_it =
            |grant: &Grant| matches!(&grant.inject, Injection::Refresh { into: name, .. } if name == into);
        let grant = self.renewal_grants().await?.into_iter().find(is_it);
        let grant = grant.ok_or_else(|| VaultError::NotRenewable(into.clone()))?;
        self.attempt(grant, into.clone()).await
    }

    /// Takes the answer in: parses it, stores what it brings, and forgets it.
    pub async fn capture(
        &self,
        capture: Capture,
        status: StatusCode,
        answer: Zeroizing<Vec<u8>>,
    ) -> Result<Captured, Refusal> {
        let Capture { into, refresh } = capture;
        let answer = Answer::read(status, &answer, &refresh)?;
        let failed = |error: VaultError| Refusal::new(&rules::NOT_RENEWED, error.to_string());
        let in_use = async |name: &SecretName| {
            self.reader.secret(&self.tenant, name).await.map(|row| row.map(|row| row.version))
        };
        self.accepts(std::iter::once(&answer.access).chain(&answer.refresh)).map_err(failed)?;
        let mut replaced = None;
        // First, for the old one may be worth nothing from now on.
        if let Some(token) = answer.refresh {
            let version = in_use(&refresh).await.map_err(|error| failed(error.into()))?;
            self.put(&refresh, token, version).await.map_err(failed)?;
            replaced = Some(refresh);
        }
        let version = in_use(&into).await.map_err(|error| failed(error.into()))?;
        self.put_until(&into, answer.access, version, answer.expires_ms).await.map_err(failed)?;
        Ok(Captured { secret: into, expires_ms: answer.expires_ms, refresh: replaced })
    }

    async fn renewal_grants(&self) -> Result<Vec<Grant>, VaultError> {
        let (vault, now) = (ToolName::vault(), now_ms());
        let grants = self.grants().await?.into_iter().filter(|info| info.authentic);
        let grants = grants.filter_map(|info| info.grant);
        let in_force = |grant: &Grant| grant.tool == vault && grant.expires_ms.is_none_or(|end| now < end);
        Ok(grants
            .filter(in_force)
            .filter(|grant| matches!(grant.inject, Injection::Refresh { .. }))
            .collect())
    }

    /// The next attempt, unless the last one was made a moment ago.
    async fn attempt(&self, grant: Grant, into: SecretName) -> Result<Option<Renewal>, VaultError> {
        let low = format!("renewal/{}/{into}/", self.tenant);
        let high = format!("renewal/{}/{into}0", self.tenant);
        let mut number = 0u64;
        if let Some(last) = self.reader.last_claim(&low, &high).await? {
            let asked = Record::decode(&last.record).map_or(u64::MAX, |(at_ms, _)| at_ms);
            if now_ms() < asked.saturating_add(RETRY_MS) {
                return Ok(None);
            }
            let claim = last.claim.and_then(|claim| String::from_utf8(claim).ok()).unwrap_or_default();
            number = claim.strip_prefix(&low).and_then(|digits| digits.parse().ok()).unwrap_or(number);
        }
        let claim = format!("{low}{:020}", number.saturating_add(1));
        Ok(Some(Renewal { grant, into, claim }))
    }
}

impl Capture {
    /// What the answer to a permitted renewal becomes; `None` for any other effect.
    pub(crate) fn of(effect: &Outbound) -> Option<Self> {
        let used = effect.secrets.iter().find_map(|used| match &used.inject {
            Injection::Refresh { into, .. } => Some((into.clone(), used.secret.clone())),
            _ => None,
        });
        let (into, refresh) = used.filter(|_| effect.caller == Caller::Vault)?;
        Some(Self { into, refresh })
    }
}

/// The body of the request.
pub(crate) fn form(client: &str, token: &[u8]) -> Bytes {
    let token = percent_encoded(token);
    let mut form = Zeroizing::new(Vec::with_capacity(64 + token.len() + client.len()));
    form.extend_from_slice(b"grant_type=refresh_token&refresh_token=");
    form.extend_from_slice(&token);
    if !client.is_empty() {
        form.extend_from_slice(b"&client_id=");
        form.extend_from_slice(client.as_bytes());
    }
    Bytes::from_owner(form)
}

/// What an answer brings (RFC 6749, section 5.1).
struct Answer {
    access: Plain,
    refresh: Option<Plain>,
    expires_ms: Option<u64>,
}

impl Answer {
    fn read(status: StatusCode, bytes: &[u8], refresh: &SecretName) -> Result<Self, Refusal> {
        let refused = |detail: String| Refusal::new(&rules::NOT_RENEWED, detail);
        let mut answer: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let mut token = |name: &str| match answer.get_mut(name).map(Value::take) {
            Some(Value::String(text)) => Some(Plain::new(text.into_bytes())),
            _ => None,
        };
        let (access, new) = (token("access_token"), token("refresh_token"));
        let (Some(access), StatusCode::OK) = (access, status) else {
            let error =
                ERRORS.iter().find(|error| answer.get("error").and_then(Value::as_str) == Some(error));
            let refusal =
                refused(format!("status {}, {}", status.as_u16(), error.unwrap_or(&"no error of OAuth")));
            return Err(match error {
                Some(&"invalid_grant") => {
                    refusal.widened_by(format!("sign in again, then: ironclaw secret set {refresh}"))
                }
                _ => refusal,
            });
        };
        let bearer = answer.get("token_type").and_then(Value::as_str);
        if bearer.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(refused("a token that is not a bearer token".to_owned()));
        }
        let seconds = life(&answer);
        for value in std::iter::once(&access).chain(&new) {
            value.check().map_err(|error| refused(error.to_string()))?;
        }
        Ok(Self { access, refresh: new, expires_ms: seconds.map(ends_ms) })
    }
}

/// For how many seconds an answer says that its access token is good.
pub(crate) fn life(answer: &Value) -> Option<u64> {
    let seconds = match answer.get("expires_in") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(digits)) => digits.parse().ok(),
        _ => None,
    };
    seconds.map(|seconds| seconds.min(LONGEST_LIFE))
}

/// When a token ends that is good for so many seconds from now on, in milliseconds since 1970.
pub(crate) fn ends_ms(seconds: u64) -> u64 {
    now_ms() + seconds * 1000
}

/// The errors that an endpoint may name (RFC 6749, section 5.2); any other word of its is not repeated.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ValueError;

    fn read(status: u16, text: &str) -> Result<Answer, Refusal> {
        let name = SecretName::parse("A_REFRESH").unwrap();
        Answer::read(StatusCode::from_u16(status).unwrap(), text.as_bytes(), &name)
    }

    #[test]
    fn an_answer_is_a_token_or_a_reason_in_our_words() {
        let long = "t-0123456789abcdef";
        let good =
            read(200, &format!(r#"{{"access_token":"{long}","token_type":"Bearer","expires_in":"60"}}"#));
        let good = good.ok().unwrap();
        assert!(good.refresh.is_none() && good.access.len() == long.len());
        let left = good.expires_ms.unwrap() - now_ms();
        assert!((59_000..=60_000).contains(&left), "{left}");
        for (status, text, says) in [
            (400, r#"{"error":"invalid_grant"}"#.to_owned(), "status 400, invalid_grant"),
            (400, format!(r#"{{"error":"{long}"}}"#), "status 400, no error of OAuth"),
            (500, format!(r#"{{"access_token":"{long}"}}"#), "status 500, no error of OAuth"),
            (200, format!("access_token={long}"), "status 200, no error of OAuth"),
            (
                200,
                format!(r#"{{"access_token":"{long}","token_type":"mac"}}"#),
                "a token that is not a bearer token",
            ),
            (200, r#"{"access_token":"short"}"#.to_owned(), &ValueError::TooShort.to_string()),
            (200, format!(r#"{{"access_token":"{long}\n"}}"#), &ValueError::LineBreak.to_string()),
        ] {
            let refusal = read(status, &text).err().unwrap();
            assert_eq!(refusal.detail, says);
            assert!(!format!("{refusal:?}").contains(long));
        }
        assert!(
            read(400, r#"{"error":"invalid_grant"}"#).err().unwrap().widen.unwrap().ends_with("A_REFRESH")
        );
    }

    #[test]
    fn a_form_holds_its_values_and_nothing_beside_them() {
        assert_eq!(
            &form("id.7", b"a b&c=d")[..],
            b"grant_type=refresh_token&refresh_token=a%20b%26c%3Dd&client_id=id.7"
        );
        assert_eq!(&form("", b"x")[..], b"grant_type=refresh_token&refresh_token=x");
    }
}
