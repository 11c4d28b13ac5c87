//! Placeholders: random text that stands for a secret in the environment of a client.
//!
//! Each begins with its shape and a mark that all placeholders of the installation have, so that every run knows one of
//! another run, as a file can bring it that a command left in a workspace, from other letters (attack C20).
//!
//! A client puts one where it would put the key. Where it fills a place that a secret can have (a header's whole value,
//! the token of `Bearer`, the password of `Basic`, a query parameter, a part of the path), it is taken out and becomes a
//! claim, which policy grants or refuses. Anywhere else, and in bodies, the request is refused: a client that sends its
//! key to the wrong place is mistaken or hostile, and the owner should know.

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use types::{Digest, Injection, Refusal, SecretName, SecretUse};

use crate::rules;

/// Letters and digits that all placeholders of an installation have: more than 70 bits, which no honest body holds by chance.
const MARK: usize = 12;

/// Random letters and digits after it: more than 115 bits.
const RANDOM: usize = 20;

/// Letters and digits of a client's token: more than 190 bits.
const TOKEN: usize = 32;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The longest beginning that gives a placeholder its shape.
const MOST_SHAPE: usize = 32;

/// The placeholders of a run.
pub(super) struct Placeholders {
    each: Vec<(SecretName, String)>,
    /// What all of them have in them, and those of other runs.
    find: AhoCorasick,
}

/// Why placeholders could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlaceholderError {
    /// A beginning that is long or holds a character that headers, addresses or JSON would escape.
    #[error("a placeholder begins with at most 32 letters, digits, '-' and '_'")]
    Shape,
    /// The vault gave no mark.
    #[error("what placeholders have in common cannot be derived from the vault's key")]
    Mark,
    /// The kernel gave no random bytes.
    #[error("there are no random bytes")]
    Random,
}

impl Placeholders {
    /// One for each secret. `mark` is the installation's, where it has a vault; otherwise nobody else's placeholder is known.
    pub(super) fn new(
        mark: Option<Digest>,
        secrets: impl IntoIterator<Item = (SecretName, String)>,
    ) -> Result<Self, PlaceholderError> {
        let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
        let mark = match mark {
            Some(mark) => mark.as_bytes().iter().take(MARK).map(letter).collect(),
            None => random(MARK)?,
        };
        let made = |(name, shape): (SecretName, String)| Ok((name, placeholder(&shape, &mark)?));
        let each = secrets.into_iter().map(made).collect::<Result<Vec<_>, _>>()?;
        let find = AhoCorasick::new([&mark]).map_err(|_| PlaceholderError::Shape)?;
        Ok(Self { each, find })
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
                return Err(misplaced(&format!("one of several headers {name}")));
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
            let inject = inject.map_err(|_| misplaced(&format!("the header {name}")))?;
            return Ok(Some(SecretUse { secret, inject }));
        }
        match self.find.is_match(text) {
            true => Err(self.refusal(text, &format!("the header {name}"))),
            false => Ok(None),
        }
    }

    /// Why a text is refused that has a placeholder in it.
    fn refusal(&self, text: &[u8], place: &str) -> Refusal {
        let is_in = |own: &str| text.windows(own.len()).any(|part| part == own.as_bytes());
        match self.each.iter().any(|(_, own)| is_in(own)) {
            true => misplaced(place),
            false => misplaced(&format!("{place}, where it stands for a key of another run")),
        }
    }

    fn basic(&self, pair: &[u8]) -> Result<SecretUse, Refusal> {
        let refused = || self.refusal(pair, "Basic");
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
                _ => return Err(misplaced("two parts of the path")),
            }
            claims.push(SecretUse { secret: secret.clone(), inject: Injection::Path });
        }
        if self.find.is_match(&taken) {
            return Err(self.refusal(taken.as_bytes(), "the path"));
        }
        let Some(query) = query else { return Ok(taken) };
        let mut left = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match self.each.iter().find(|(_, own)| own == value) {
                Some((secret, _)) => {
                    let refused = |_| misplaced("the query");
                    let inject = Injection::parse(&format!("query:{name}")).map_err(refused)?;
                    claims.push(SecretUse { secret: secret.clone(), inject });
                }
                None if self.find.is_match(pair) => return Err(self.refusal(pair.as_bytes(), "the query")),
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
        match self.find.is_match(plain) {
            true => Err(self.refusal(plain, "the body")),
            false => Ok(()),
        }
    }

    /// Watches a body.
    pub(super) fn watch(&self) -> Watch {
        Watch { find: self.find.clone(), tail: Vec::new() }
    }
}

/// Bytes in which a mark can begin that ends in the next piece.
const KEPT: usize = MARK - 1;

/// Looks for placeholders in a body, across the borders of its pieces (attack C04).
pub(super) struct Watch {
    find: AhoCorasick,
    /// What passed last, in which a mark could have begun.
    tail: Vec<u8>,
}

impl Watch {
    /// Gives the piece back, or refuses it.
    pub(super) fn pass<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], Refusal> {
        self.tail.extend_from_slice(&piece[..piece.len().min(KEPT)]);
        if self.find.is_match(&self.tail) || self.find.is_match(piece) {
            return Err(misplaced("the body"));
        }
        if piece.len() >= KEPT {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - KEPT..]);
        } else {
            let excess = self.tail.len().saturating_sub(KEPT);
            self.tail.drain(..excess);
        }
        Ok(piece)
    }
}

fn misplaced(place: &str) -> Refusal {
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
    random(TOKEN)
}

/// Shape, mark and random letters.
fn placeholder(shape: &str, mark: &str) -> Result<String, PlaceholderError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if shape.len() > MOST_SHAPE || !shape.bytes().all(plain) {
        return Err(PlaceholderError::Shape);
    }
    Ok(format!("{shape}{mark}{}", random(RANDOM)?))
}

/// So many random letters and digits, each equally likely.
fn random(length: usize) -> Result<String, PlaceholderError> {
    let mut text = String::new();
    while text.len() < length {
        let mut bytes = [0; TOKEN];
        getrandom::fill(&mut bytes).map_err(|_| PlaceholderError::Random)?;
        let letters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        text.extend(letters.take(length - text.len()).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(shape: &str) -> (Placeholders, String) {
        let name = SecretName::parse("KEY").unwrap();
        let placeholders = Placeholders::new(Some(Digest::of(b"one")), [(name, shape.to_owned())]).unwrap();
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

    #[test]
    fn c20_another_run_of_the_installation_knows_a_placeholder_and_another_installation_does_not() {
        let (own, _) = one("sk-");
        let (_, others) = one("key_");
        let elsewhere = Placeholders::new(Some(Digest::of(b"two")), []).unwrap();
        let none = Placeholders::new(Some(Digest::of(b"one")), []).unwrap();
        let basic = format!("Basic {}", STANDARD.encode(format!("app:{others}")));
        for (path, name, value) in [
            ("/v1", "authorization", format!("Bearer {others}")),
            ("/v1", "authorization", basic),
            ("/v1", "x-note", others.clone()),
            (&*format!("/v1/{others}"), "x-a", "b".to_owned()),
            (&*format!("/v1?a={others}"), "x-a", "b".to_owned()),
        ] {
            for run in [&own, &none] {
                assert_eq!(
                    taken(run, path, (name, &value)),
                    Err("egress.placeholder"),
                    "{path} {name}: {value}"
                );
            }
            assert!(taken(&elsewhere, path, (name, &value)).is_ok());
        }
        let refusal = own.look(others.as_bytes()).unwrap_err();
        assert!(refusal.detail.contains("another run"), "{}", refusal.detail);
        assert!(none.watch().pass(others.as_bytes()).is_err() && elsewhere.look(others.as_bytes()).is_ok());
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
