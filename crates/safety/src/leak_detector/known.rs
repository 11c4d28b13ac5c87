//! The vault's own values, recognised without holding them.
//!
//! When a secret is stored, its secret parts and their encodings are cut into windows of [`WINDOW`] bytes.
//! Of each window two numbers are kept, both under a key: a fast hash that finds candidates, and 64 bits of
//! HMAC-SHA256 (RFC 2104) that confirm them. Parts of 8 to 15 bytes are kept as one window of their own
//! length. Nothing of the plaintext is kept.
//!
//! A text is not hashed at every byte. Wherever a window stands, eight of its first fifteen bytes begin at a
//! multiple of eight; so a word at every eighth byte is looked up in a filter of all such words, and only
//! around a hit are windows hashed ([`search`]).

mod keyed;
mod search;

use std::collections::BTreeSet;
use std::ops::Range;

use types::SecretName;

use super::{encodings, parts};
use crate::finding::{Kind, Severity};
use crate::signal::Signal;
use keyed::{Keys, Words};
pub(crate) use search::Cursor;

/// The id of the rule.
pub(super) const RULE: &str = "known-value";
/// Any run of this many bytes of a value is recognised.
const WINDOW: usize = 16;
/// The shortest value that is recognised; fewer bytes occur by chance.
const SHORT: usize = 8;
/// Windows of one encoding of one value; a longer value keeps every second, third... one.
const MOST_WINDOWS: usize = 1024;
/// Fewer different bytes than this in a window are padding, not a secret.
const LEAST_DISTINCT: usize = 5;

/// Why a value cannot be recognised, and so must not be stored as a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TooWeak {
    /// Under eight bytes.
    #[error("the value is shorter than 8 bytes: too short to be recognised if it leaks")]
    Short,
    /// Repetition, one character class of dictionary words, or a well-known password.
    #[error("the value is too simple: text that is no secret would be taken for it")]
    Simple,
    /// Nothing but what is public in a value of its form.
    #[error("the value holds no part that is secret")]
    Public,
}

/// Bytes that are no fingerprints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the stored fingerprints are cut short or of an unknown version")]
pub struct FingerprintsError;

/// What is kept of one value. Store it sealed: with the key it confirms a guess.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprints {
    prints: Vec<Print>,
    words: Words,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Print {
    /// Of the first [`SHORT`] bytes of a part that is shorter than [`WINDOW`], else of the window.
    hash: u64,
    /// Bytes that the tag is over.
    length: u8,
    tag: u64,
}

impl Fingerprints {
    const VERSION: u8 = 2;

    /// Fingerprints of a value under a key; the same key opens [`KnownValues`].
    pub fn of(key: &[u8; 32], value: &[u8]) -> Result<Self, TooWeak> {
        let value = value.trim_ascii();
        if value.len() < SHORT {
            return Err(TooWeak::Short);
        }
        let parts = parts::secret_parts(value);
        if parts.iter().all(|part| part.len() < SHORT) {
            return Err(TooWeak::Public);
        }
        if parts.iter().any(|part| is_simple(part)) {
            return Err(TooWeak::Simple);
        }
        let keys = Keys::new(key);
        let mut made = Self { prints: Vec::new(), words: Words::default() };
        for part in parts.iter().filter(|part| part.len() >= SHORT) {
            for form in encodings::all(part) {
                made.take(&keys, &form);
            }
        }
        made.prints.sort_unstable();
        made.prints.dedup();
        made.words.settle();
        Ok(made)
    }

    /// Adds the windows of one form of a value.
    fn take(&mut self, keys: &Keys, form: &[u8]) {
        if (SHORT..WINDOW).contains(&form.len()) {
            let hash = keys.short(form);
            self.prints.push(Print { hash, length: form.len() as u8, tag: keys.tag(form) });
            self.words.short.extend((0..=3).map(|at| keys.short_word(&form[at..])));
            return;
        }
        let step = (form.len() / MOST_WINDOWS).max(1);
        for window in form.windows(WINDOW).step_by(step).filter(|window| distinct(window) >= LEAST_DISTINCT) {
            let (hash, tag) = (keys.window(window), keys.tag(window));
            self.prints.push(Print { hash, length: WINDOW as u8, tag });
            self.words.long.extend((0..SHORT).map(|at| keys.word(&window[at..])));
        }
    }

    /// The stored form: a version byte; the number of prints, then 17 bytes for each; the number of words of
    /// each kind, then four bytes for each. Numbers are big-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![Self::VERSION];
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes();
        bytes.extend_from_slice(&count(self.prints.len()));
        for print in &self.prints {
            bytes.push(print.length);
            bytes.extend_from_slice(&print.hash.to_be_bytes());
            bytes.extend_from_slice(&print.tag.to_be_bytes());
        }
        for words in [&self.words.long, &self.words.short] {
            bytes.extend_from_slice(&count(words.len()));
            words.iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
        }
        bytes
    }

    /// Reads the stored form back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FingerprintsError> {
        let Some((&Self::VERSION, mut rest)) = bytes.split_first() else { return Err(FingerprintsError) };
        let number = |part: &[u8]| part.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let written = rows::<17>(&mut rest)?;
        let read = |row: &[u8; 17]| {
            let length = row[0];
            let good = (SHORT..=WINDOW).contains(&usize::from(length));
            good.then(|| Print { length, hash: number(&row[1..9]), tag: number(&row[9..]) })
        };
        let prints = written.iter().map(read).collect::<Option<Vec<_>>>().ok_or(FingerprintsError)?;
        let words = |rows: &[[u8; 4]]| rows.iter().map(|word| u32::from_be_bytes(*word)).collect();
        let long = words(rows::<4>(&mut rest)?);
        let short = words(rows::<4>(&mut rest)?);
        rest.is_empty().then_some(Self { prints, words: Words { long, short } }).ok_or(FingerprintsError)
    }
}

/// The rows behind their number.
fn rows<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [[u8; N]], FingerprintsError> {
    let (count, tail) = rest.split_first_chunk().ok_or(FingerprintsError)?;
    let count = u32::from_be_bytes(*count) as usize;
    let length = count.checked_mul(N).ok_or(FingerprintsError)?;
    let (rows, tail) = tail.split_at_checked(length).ok_or(FingerprintsError)?;
    *rest = tail;
    Ok(rows.as_chunks().0)
}

/// Without the windows.
impl std::fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprints({} windows)", self.prints.len())
    }
}

/// True for values that honest text holds by chance.
fn is_simple(part: &[u8]) -> bool {
    if part.len() < SHORT {
        return false;
    }
    const COMMON: [&str; 12] = [
        "password",
        "changeme",
        "12345678",
        "qwertyui",
        "letmein1",
        "iloveyou",
        "administrator",
        "welcome1",
        "sunshine",
        "princess",
        "football",
        "baseball",
    ];
    let lower = part.to_ascii_lowercase();
    if COMMON.iter().any(|word| lower.starts_with(word.as_bytes()) && lower.len() < word.len() + 4) {
        return true;
    }
    let words = part.iter().all(|byte| byte.is_ascii_lowercase()) && part.len() < 16;
    let digits = part.iter().all(u8::is_ascii_digit) && part.len() < 12;
    words || digits || distinct(part) < LEAST_DISTINCT
}

fn distinct(window: &[u8]) -> usize {
    let mut seen = [0u64; 4];
    window.iter().for_each(|byte| seen[usize::from(*byte >> 6)] |= 1 << (byte & 63));
    seen.iter().map(|word| word.count_ones() as usize).sum()
}

/// The values of one vault.
#[derive(Clone)]
pub struct KnownValues {
    keys: Keys,
    names: Vec<SecretName>,
    /// Sorted by hash.
    prints: Vec<(Print, u16)>,
    words: Words,
    filters: search::Filters,
    /// Which versions of which secrets are here.
    versions: BTreeSet<(SecretName, i64)>,
}

impl KnownValues {
    /// No values yet. The key is the one that their fingerprints were made with.
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            keys: Keys::new(&key),
            names: Vec::new(),
            prints: Vec::new(),
            words: Words::default(),
            filters: search::Filters::default(),
            versions: BTreeSet::new(),
        }
    }

    /// True when this version was added.
    pub fn has(&self, name: &SecretName, version: i64) -> bool {
        self.versions.contains(&(name.clone(), version))
    }

    /// The newest version of a secret that was added.
    pub fn newest(&self, name: &SecretName) -> Option<i64> {
        let all = (name.clone(), i64::MIN)..=(name.clone(), i64::MAX);
        self.versions.range(all).next_back().map(|(_, version)| *version)
    }

    /// Adds the fingerprints of one version of a secret.
    pub fn add_version(&mut self, name: SecretName, version: i64, fingerprints: Fingerprints) {
        self.versions.insert((name.clone(), version));
        self.add(name, fingerprints);
    }

    /// Adds the fingerprints of one value. At most 65,535 values are kept apart by name.
    pub fn add(&mut self, name: SecretName, fingerprints: Fingerprints) {
        let index = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        self.prints.extend(fingerprints.prints.into_iter().map(|print| (print, index)));
        // The old ones are in order already, which this sort makes use of.
        self.prints.sort();
        self.words.add(fingerprints.words);
        self.filters = search::Filters::new(&self.words, self.prints.iter().map(|(print, _)| print.hash));
    }

    /// True when there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }

    /// Where values stand in a whole text.
    pub fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut signals = Vec::new();
        Cursor::new().read(self, text, &mut signals);
        signals.into_iter().map(|signal| signal.span).collect()
    }

    /// The value of which a window of this hash begins the bytes given, and its length, confirmed.
    fn confirm(&self, hash: u64, bytes: &[u8], short: bool) -> Option<(u16, usize)> {
        let first = self.prints.partition_point(|(print, _)| print.hash < hash);
        let same = self.prints[first..].iter().take_while(|(print, _)| print.hash == hash);
        for (print, index) in same {
            let length = usize::from(print.length);
            if (length < WINDOW) == short
                && length <= bytes.len()
                && self.keys.tag(&bytes[..length]) == print.tag
            {
                return Some((*index, length));
            }
        }
        None
    }
}

/// Says how many values, not which.
impl std::fmt::Debug for KnownValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KnownValues({})", self.names.len())
    }
}

/// A hit says which secret and where, and carries no digest of the bytes.
fn signal(secret: Option<SecretName>, span: Range<usize>) -> Signal {
    Signal {
        rule: RULE.into(),
        reason: "a value of the vault or one of its encodings".into(),
        kind: Kind::KnownValue,
        severity: Severity::Critical,
        span,
        view: "known value",
        fingerprint: crate::signal::Print::default(),
        secret,
    }
}
