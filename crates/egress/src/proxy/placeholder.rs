//! Placeholders: random text that stands for a secret in the environment of a client.
//!
//! A client puts one where it would put the key. Where it fills a place that a secret can have (a header's whole value,
//! the token of `Bearer`, the password of `Basic`, a query parameter, a part of the path), it is taken out and becomes a
//! claim, which policy grants or refuses. Anywhere else, and in bodies, the request is refused: a client that sends its
//! key to the wrong place is mistaken or hostile, and the owner should know.

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use types::{Injection, Refusal, SecretName, SecretUse};

use crate::rules;

/// Random letters and digits of a placeholder: more than 190 bits.
const RANDOM: usize = 32;

/// The longest beginning that gives a placeholder its shape.
const MOST_SHAPE: usize = 32;

/// The placeholders of a run.
pub(super) struct Placeholders {
    each: Vec<(SecretName, String)>,
    find: AhoCorasick,
    longest: usize,
}

/// Why placeholders could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlaceholderError {
    /// A beginning that is long or holds a character that headers, addresses or JSON would escape.
    #[error("a placeholder begins with at most 32 letters, digits, '-' and '_'")]
    Shape,
    /// The kernel gave no random bytes.
    #[error("there are no random bytes")]
    Random,
}

impl Placeholders {
    pub(super) fn new(
        secrets: impl IntoIterator<Item = (SecretName, String)>,
    ) -> Result<Self, PlaceholderError> {
        let made = |(name, shape): (SecretName, String)| Ok((name, placeholder(&shape)?));
        let each = secrets.into_iter().map(made).collect::<Result<Vec<_>, _>>()?;
        let find =
            AhoCorasick::new(each.iter().map(|(_, text)| text)).map_err(|_| PlaceholderError::Shape)?;
        let longest = each.iter().map(|(_, text)| text.len()).max().unwrap_or_default();
        Ok(Self { each, find, longest })
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&SecretName, &str)> {
        self.each.iter().map(|(name, text)| (name, text.as_str()))
    }

    /// Takes the placeholders out of path, query and headers. Refuses one that stands where no secret can.
    pub(super) fn take(
        &self,
        path: &str,
        headers: &mut HeaderMap,
    ) -> Result<(String, Vec<SecretUse>), Refusal> {
        let mut claims = Vec::new();
        let path = self.take_from_address(path, &mut claims)?;
        let names: Vec<HeaderName> = headers.keys().cloned().collect();
        for name in names {
            let mut claimed = false;
            for value in headers.get_all(&name) {
                if let Some(claim) = self.claim(&name, value)? {
                    claims.push(claim);
                    claimed = true;
                }
            }
            if claimed && headers.get_all(&name).iter().count() > 1 {
                return Err(misplaced(format!("one of several headers {name}")));
            }
            if claimed {
                headers.remove(&name);
            }
        }
        Ok((path, claims))
    }

    /// The secret that one header stands for.
    fn claim(&self, name: &HeaderName, value: &HeaderValue) -> Result<Option<SecretUse>, Refusal> {
        let text = value.as_bytes();
        let exactly = |text: &[u8]| {
            self.each.iter().find(|(_, own)| own.as_bytes() == text).map(|(name, _)| name.clone())
        };
        if *name == AUTHORIZATION {
            let (scheme, token) = split(text);
            if scheme.eq_ignore_ascii_case(b"bearer")
                && let Some(secret) = exactly(token)
            {
                return Ok(Some(SecretUse { secret, inject: Injection::Bearer }));
            }
            if scheme.eq_ignore_ascii_case(b"basic") {
                let pair = STANDARD.decode(token).unwrap_or_default();
                if self.find.is_match(&pair) {
                    return self.basic(&pair).map(Some);
                }
            }
        } else if let Some(secret) = exactly(text) {
            let inject = Injection::parse(&format!("header:{name}"));
            let inject = inject.map_err(|_| misplaced(format!("the header {name}")))?;
            return Ok(Some(SecretUse { secret, inject }));
        }
        match self.find.is_match(text) {
            true => Err(misplaced(format!("the header {name}"))),
            false => Ok(None),
        }
    }

    fn basic(&self, pair: &[u8]) -> Result<SecretUse, Refusal> {
        let refused = || misplaced("the user of Basic".to_owned());
        let pair = std::str::from_utf8(pair).map_err(|_| refused())?;
        let (user, password) = pair.split_once(':').ok_or_else(refused)?;
        let secret = self.each.iter().find(|(_, own)| own == password).ok_or_else(refused)?.0.clone();
        let inject = Injection::parse(&format!("basic:{user}")).map_err(|_| refused())?;
        Ok(SecretUse { secret, inject })
    }

    fn take_from_address(&self, address: &str, claims: &mut Vec<SecretUse>) -> Result<String, Refusal> {
        let (path, query) = match address.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (address, None),
        };
        let mut taken = path.to_owned();
        for (secret, own) in &self.each {
            match path.matches(own.as_str()).count() {
                0 => continue,
                1 => taken = taken.replace(own, &format!("{{{secret}}}")),
                _ => return Err(misplaced("two parts of the path".to_owned())),
            }
            claims.push(SecretUse { secret: secret.clone(), inject: Injection::Path });
        }
        let Some(query) = query else { return Ok(taken) };
        let mut left = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match self.each.iter().find(|(_, own)| own == value) {
                Some((secret, _)) => {
                    let refused = |_| misplaced("the query".to_owned());
                    let inject = Injection::parse(&format!("query:{name}")).map_err(refused)?;
                    claims.push(SecretUse { secret: secret.clone(), inject });
                }
                None if self.find.is_match(pair) => return Err(misplaced("the query".to_owned())),
                None => left.push(pair),
            }
        }
        if !left.is_empty() {
            taken = format!("{taken}?{}", left.join("&"));
        }
        Ok(taken)
    }

    /// Looks through a body, or what is here of it.
    pub(super) fn look(&self, plain: &[u8]) -> Result<(), Refusal> {
        match !self.each.is_empty() && self.find.is_match(plain) {
            true => Err(misplaced("the body".to_owned())),
            false => Ok(()),
        }
    }

    /// Watches a body.
    pub(super) fn watch(&self) -> Watch {
        let find = (!self.each.is_empty()).then(|| self.find.clone());
        Watch { find, keep: self.longest.saturating_sub(1), tail: Vec::new() }
    }
}

/// Looks for placeholders in a body, across the borders of its pieces (attack C04).
pub(super) struct Watch {
    find: Option<AhoCorasick>,
    /// Bytes of what passed in which a placeholder could have begun.
    keep: usize,
    tail: Vec<u8>,
}

impl Watch {
    /// Gives the piece back, or refuses it.
    pub(super) fn pass<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], Refusal> {
        let Some(find) = &self.find else { return Ok(piece) };
        let border = self.tail.len() + piece.len().min(self.keep);
        self.tail.extend_from_slice(&piece[..piece.len().min(self.keep)]);
        if find.is_match(&self.tail[..border]) || find.is_match(piece) {
            return Err(misplaced("the body".to_owned()));
        }
        if piece.len() >= self.keep {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - self.keep..]);
        } else {
            let excess = self.tail.len().saturating_sub(self.keep);
            self.tail.drain(..excess);
        }
        Ok(piece)
    }
}

fn misplaced(place: String) -> Refusal {
    Refusal::new(&rules::PLACEHOLDER, format!("in {place}; nothing of it was put in"))
}

/// The word before the first space, and what follows.
fn split(value: &[u8]) -> (&[u8], &[u8]) {
    match value.iter().position(|byte| *byte == b' ') {
        Some(at) => (&value[..at], value[at..].trim_ascii()),
        None => (value, &[]),
    }
}

/// A token for the clients of a proxy, as hard to guess as a placeholder and in the alphabet of a URL.
pub fn token() -> Result<String, PlaceholderError> {
    placeholder("")
}

/// `SHAPE` and random letters and digits, each equally likely.
fn placeholder(shape: &str) -> Result<String, PlaceholderError> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if shape.len() > MOST_SHAPE || !shape.bytes().all(plain) {
        return Err(PlaceholderError::Shape);
    }
    let mut text = shape.to_owned();
    while text.len() < shape.len() + RANDOM {
        let mut bytes = [0; RANDOM];
        getrandom::fill(&mut bytes).map_err(|_| PlaceholderError::Random)?;
        let letters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        text.extend(letters.take(shape.len() + RANDOM - text.len()).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(shape: &str) -> (Placeholders, String) {
        let name = SecretName::parse("KEY").unwrap();
        let placeholders = Placeholders::new([(name, shape.to_owned())]).unwrap();
        let text = placeholders.each().next().unwrap().1.to_owned();
        (placeholders, text)
    }

    fn taken(
        placeholders: &Placeholders,
        path: &str,
        header: (&'static str, &str),
    ) -> Result<String, &'static str> {
        let mut headers = HeaderMap::new();
        headers.append(header.0, header.1.parse().unwrap());
        let (path, claims) = placeholders.take(path, &mut headers).map_err(|refusal| refusal.rule.id)?;
        let claims: Vec<String> = claims.iter().map(|claim| claim.inject.to_string()).collect();
        Ok(format!("{path} {} {}", claims.join(","), headers.len()))
    }

    #[test]
    fn c05_a_placeholder_in_its_place_is_a_claim() {
        let (placeholders, text) = one("sk-");
        assert!(text.starts_with("sk-") && text.len() == 35);
        let basic = format!("Basic {}", STANDARD.encode(format!("app:{text}")));
        let take = |path: &str, name, value: &str| taken(&placeholders, path, (name, value)).unwrap();
        assert_eq!(take("/v1", "authorization", &format!("bearer {text}")), "/v1 bearer 0");
        assert_eq!(take("/v1", "authorization", &basic), "/v1 basic:app 0");
        assert_eq!(take("/v1", "x-api-key", &text), "/v1 header:x-api-key 0");
        assert_eq!(take(&format!("/v1?a=b&key={text}"), "x-a", "b"), "/v1?a=b query:key 1");
        assert_eq!(take(&format!("/v1?key={text}"), "x-a", "b"), "/v1 query:key 1");
        assert_eq!(take(&format!("/bot{text}/x"), "x-a", "b"), "/bot{KEY}/x path 1");
        assert_eq!(take("/v1", "authorization", "Bearer own"), "/v1  1");
    }

    #[test]
    fn c03_a_placeholder_elsewhere_is_refused() {
        let (placeholders, text) = one("");
        let user = format!("Basic {}", STANDARD.encode(format!("{text}:x")));
        let within = format!("x{text}");
        for (path, name, value) in [
            ("/v1", "cookie", format!("session={text}")),
            ("/v1", "x-note", within.clone()),
            ("/v1", "host", text.clone()),
            ("/v1", "authorization", format!("token {text}")),
            ("/v1", "authorization", user),
            (&*format!("/v1?a={within}"), "x-a", "b".to_owned()),
            (&*format!("/v1?{text}=a"), "x-a", "b".to_owned()),
            (&*format!("/{text}/{text}"), "x-a", "b".to_owned()),
        ] {
            assert_eq!(
                taken(&placeholders, path, (name, &value)),
                Err("egress.placeholder"),
                "{path} {name}: {value}"
            );
        }
    }

    proptest! {
        /// Cut anywhere and any number of times, a placeholder in a body is found.
        #[test]
        fn c04_no_cut_hides_a_placeholder(before in 0usize..80, cuts in prop::collection::vec(1usize..50, 0..12)) {
            let (placeholders, text) = one("key_");
            let body = format!("{}{text}{}", "x".repeat(before), "y".repeat(40));
            let (mut rest, mut watch) = (body.as_bytes(), placeholders.watch());
            let mut found = false;
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                found |= watch.pass(piece).is_err();
                rest = tail;
            }
            found |= watch.pass(rest).is_err();
            prop_assert!(found);
        }

        #[test]
        fn no_request_panics(path in "/\\PC{0,40}", value in "\\PC{0,40}") {
            let (placeholders, _) = one("");
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(AUTHORIZATION, value);
            }
            let _ = placeholders.take(&path, &mut headers);
        }
    }
}
