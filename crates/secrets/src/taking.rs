//! Tokens that a token endpoint gives to a program behind the proxy (RFC 6749, 5.1): they become secrets, and the program
//! gets what stands for them (attack C14).
//!
//! Which place is a token endpoint, and which secret each token becomes, the owner's rule says; where such a secret may be
//! used, the owner's grants say, as for every secret. The answer is read here and nowhere else: whoever sent the request
//! is told a [`Taken`], in which no byte of the answer stands but a number and words from lists.

use ::types::{Outbound, Refusal, SecretName, TokensInto};
use http::StatusCode;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::renewal::{ends_ms, life};
use crate::rules;
use crate::store::Vault;
use crate::types::Plain;

/// The right and the duty to give an answer to the vault. Made by injecting, used up by taking it in.
#[must_use = "an answer that is not taken in is a token lost"]
#[derive(Debug)]
pub struct Taking(TokensInto);

/// What an answer was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It brought tokens, which are in the vault now.
    Tokens {
        /// The member of the answer that each was, and the secret that it is.
        stored: Vec<(&'static str, SecretName)>,
        /// For how many seconds the access token is good, where the answer says so.
        seconds: Option<u64>,
    },
    /// It said in a word of the protocol why there is none.
    Refused(&'static str),
}

impl Taking {
    /// What becomes of the answer to a permitted request; `None` where it is no token endpoint's.
    pub(crate) fn of(effect: &Outbound) -> Option<Self> {
        effect.tokens.into_secrets().cloned().map(Self)
    }
}

impl Vault {
    /// Takes the answer in: parses it, stores what it brings, and forgets it. What is not exactly an answer whose tokens all
    /// have a secret to become is refused before anything of it is stored.
    pub async fn take(
        &self,
        taking: Taking,
        status: StatusCode,
        answer: Zeroizing<Vec<u8>>,
    ) -> Result<Taken, Refusal> {
        let (tokens, seconds) = match read(&taking.0, status, &answer)? {
            Read::Tokens(tokens, seconds) => (tokens, seconds),
            Read::Refused(word) => return Ok(Taken::Refused(word)),
        };
        let failed = |error: VaultError| Refusal::new(&rules::NOT_CAPTURED, error.to_string());
        self.accepts(tokens.iter().map(|(_, _, value)| value)).map_err(failed)?;
        let mut stored = Vec::new();
        // The access token last, which is used first: whoever finds it new finds the others new too.
        for (member, name, value) in tokens.into_iter().rev() {
            let row = self.reader.secret(&self.tenant, &name).await;
            let version = row.map_err(|error| failed(error.into()))?.map(|row| row.version);
            let until = seconds.filter(|_| member == "access_token").map(ends_ms);
            self.put_until(&name, value, version, until).await.map_err(failed)?;
            stored.insert(0, (member, name));
        }
        Ok(Taken::Tokens { stored, seconds })
    }
}

/// What an answer holds.
enum Read {
    /// Each token with its member and its secret, and how long the access token lives.
    Tokens(Vec<(&'static str, SecretName, Plain)>, Option<u64>),
    Refused(&'static str),
}

fn read(into: &TokensInto, status: StatusCode, answer: &[u8]) -> Result<Read, Refusal> {
    let refused = |detail: String| Refusal::new(&rules::NOT_CAPTURED, detail);
    let mut members: Map<String, Value> = serde_json::from_slice(answer)
        .map_err(|_| refused(format!("status {}, and no JSON object", status.as_u16())))?;
    let brings = |members: &Map<String, Value>| {
        into.members().into_iter().any(|(member, _)| members.contains_key(member))
    };
    if status.is_client_error() && !brings(&members) {
        let said = members.get("error").and_then(Value::as_str);
        let word = ERRORS.iter().find(|word| said == Some(word));
        return match word {
            Some(word) => Ok(Read::Refused(word)),
            None => Err(refused(format!("status {}, no error of OAuth", status.as_u16()))),
        };
    }
    if status != StatusCode::OK {
        return Err(refused(format!("status {}", status.as_u16())));
    }
    if let Some(kind) = members.get("token_type")
        && !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))
    {
        return Err(refused("a token that is not a bearer token".to_owned()));
    }
    let mut tokens = Vec::new();
    for (member, name) in into.members() {
        let value = match members.get_mut(member).map(Value::take) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => Plain::new(text.into_bytes()),
            Some(_) => return Err(refused(format!("{member} is no text"))),
        };
        let name =
            name.ok_or_else(|| refused(format!("it brings {member}, for which the rule names no secret")))?;
        value.check().map_err(|error| refused(format!("{member}: {error}")))?;
        tokens.push((member, name.clone(), value));
    }
    match tokens.first() {
        Some(("access_token", ..)) => Ok(Read::Tokens(tokens, life(&Value::Object(members)))),
        _ => Err(refused("it brings no access_token".to_owned())),
    }
}

/// The errors that an endpoint may name (RFC 6749, 5.2; RFC 8628, 3.5); any other word of its is not repeated.
const ERRORS: [&str; 11] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "authorization_pending",
    "slow_down",
    "access_denied",
    "expired_token",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn into(refresh: bool) -> TokensInto {
        let name = |text: &str| SecretName::parse(text).unwrap();
        TokensInto { access: name("A"), refresh: refresh.then(|| name("R")), id: None }
    }

    fn what(refresh: bool, status: u16, text: &str) -> Result<String, String> {
        let status = StatusCode::from_u16(status).unwrap();
        match read(&into(refresh), status, text.as_bytes()) {
            Ok(Read::Tokens(tokens, seconds)) => {
                let of = |(member, name, value): &(&str, SecretName, Plain)| {
                    format!("{member} {name} {}", value.len())
                };
                Ok(format!("{} {seconds:?}", tokens.iter().map(of).collect::<Vec<_>>().join(", ")))
            }
            Ok(Read::Refused(word)) => Ok(word.to_owned()),
            Err(refusal) => {
                assert!(!format!("{refusal:?}").contains("0123456789"));
                Err(refusal.detail)
            }
        }
    }

    #[test]
    fn c14_an_answer_is_tokens_that_all_have_a_place_or_a_word_of_the_protocol() {
        let (a, r) = (r#""access_token":"a-0123456789""#, r#""refresh_token":"r-0123456789x""#);
        let good = |text: &str| what(true, 200, text).unwrap();
        assert_eq!(good(&format!("{{{a}}}")), "access_token A 12 None");
        assert_eq!(
            good(&format!(r#"{{{r},"x":[1],"token_type":"Bearer","expires_in":60,{a},"id_token":null}}"#)),
            "access_token A 12, refresh_token R 13 Some(60)"
        );
        assert_eq!(what(true, 400, r#"{"error":"authorization_pending"}"#).unwrap(), "authorization_pending");
        for (refresh, status, text, says) in [
            (
                false,
                200,
                format!("{{{a},{r}}}"),
                "it brings refresh_token, for which the rule names no secret",
            ),
            (
                true,
                200,
                format!(r#"{{{a},"id_token":"0123456789"}}"#),
                "it brings id_token, for which the rule names no secret",
            ),
            (true, 200, format!("{{{r}}}"), "it brings no access_token"),
            (true, 200, r#"{"access_token":["0123456789"]}"#.to_owned(), "access_token is no text"),
            (true, 200, format!(r#"{{{a},"token_type":"mac"}}"#), "a token that is not a bearer token"),
            (true, 200, format!(r#"{{{a},"token_type":7}}"#), "a token that is not a bearer token"),
            (true, 201, format!("{{{a}}}"), "status 201"),
            (true, 302, format!("{{{a}}}"), "status 302"),
            (true, 400, format!(r#"{{{a},"error":"invalid_grant"}}"#), "status 400"),
            (true, 400, r#"{"error":"0123456789"}"#.to_owned(), "status 400, no error of OAuth"),
            (true, 200, "access_token=0123456789".to_owned(), "status 200, and no JSON object"),
            (true, 200, format!("[{{{a}}}]"), "status 200, and no JSON object"),
            (true, 200, format!("{{{a}}} {{}}"), "status 200, and no JSON object"),
            (true, 200, String::new(), "status 200, and no JSON object"),
        ] {
            assert_eq!(what(refresh, status, &text), Err(says.to_owned()), "{text}");
        }
        let short = what(true, 200, r#"{"access_token":"short"}"#).unwrap_err();
        assert!(short.starts_with("access_token: the value is shorter"), "{short}");
    }

    proptest! {
        /// No answer is quoted, and none panics.
        #[test]
        fn c14_no_answer_is_repeated(status in 200u16..600, text in prop_oneof![
            "\\PC{0,60}",
            r#"\{"(access_token|error|token_type)":"0123456789[a-z]{0,9}"\}"#,
        ]) {
            let _ = what(true, status, &text);
        }
    }
}
