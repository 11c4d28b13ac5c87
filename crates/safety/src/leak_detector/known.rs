//! The vault's own values, recognised without holding them.
//!
//! When a secret is stored, its secret parts and their encodings are cut into windows of
//! [`WINDOW`] bytes. Of each window two numbers are kept, both under a key: a rolling hash that finds
//! candidates in one pass, and 64 bits of HMAC-SHA256 (RFC 2104) that confirm them. Parts of 8 to 15
//! bytes are kept as one window of their own length. Nothing of the plaintext is kept.

use std::ops::Range;

use sha2::{Digest as _, Sha256};
use types::SecretName;

use super::encodings;
use crate::finding::{Kind, Severity};
use crate::signal::Signal;

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
pub struct Fingerprints(Vec<Print>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Print {
    /// Rolling hash of the last [`SHORT`] or [`WINDOW`] bytes.
    rolling: u64,
    /// Bytes that the tag is over.
    length: u8,
    tag: u64,
}

impl Fingerprints {
    const VERSION: u8 = 1;

    /// Fingerprints of a value under a key; the same key opens [`KnownValues`].
    pub fn of(key: &[u8; 32], value: &[u8]) -> Result<Self, TooWeak> {
        let value = value.trim_ascii();
        if value.len() < SHORT {
            return Err(TooWeak::Short);
        }
        let parts = encodings::secret_parts(value);
        if parts.iter().all(|part| part.len() < SHORT) {
            return Err(TooWeak::Public);
        }
        if parts.iter().any(|part| is_simple(part)) {
            return Err(TooWeak::Simple);
        }
        let keys = Keys::new(key);
        let mut prints = Vec::new();
        for part in parts.iter().filter(|part| part.len() >= SHORT) {
            for form in encodings::all(part) {
                keys.windows(&form, &mut prints);
            }
        }
        prints.sort_unstable();
        prints.dedup();
        Ok(Self(prints))
    }

    /// The stored form: a version byte, then 17 bytes for each window.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![Self::VERSION];
        for print in &self.0 {
            bytes.push(print.length);
            bytes.extend_from_slice(&print.rolling.to_be_bytes());
            bytes.extend_from_slice(&print.tag.to_be_bytes());
        }
        bytes
    }

    /// Reads the stored form back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FingerprintsError> {
        let Some((&Self::VERSION, rest)) = bytes.split_first() else { return Err(FingerprintsError) };
        let (rows, []) = rest.as_chunks::<17>() else { return Err(FingerprintsError) };
        let number = |part: &[u8]| part.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let read = |row: &[u8; 17]| {
            let length = row[0];
            let good = (SHORT..=WINDOW).contains(&usize::from(length));
            good.then(|| Print { length, rolling: number(&row[1..9]), tag: number(&row[9..]) })
        };
        rows.iter().map(read).collect::<Option<Vec<_>>>().map(Self).ok_or(FingerprintsError)
    }
}

/// Without the windows.
impl std::fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprints({} windows)", self.0.len())
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

/// The two keyed functions, derived from one key.
#[derive(Clone)]
struct Keys {
    inner: Sha256,
    outer: Sha256,
    base: u64,
    /// `base` to the power of [`SHORT`] and of [`WINDOW`]: what a leaving byte weighs.
    leaving_short: u64,
    leaving: u64,
}

impl Keys {
    fn new(key: &[u8; 32]) -> Self {
        let pad = |mask: u8| {
            let mut block = [mask; 64];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            Sha256::new_with_prefix(block)
        };
        let mut keys = Self { inner: pad(0x36), outer: pad(0x5c), base: 1, leaving_short: 1, leaving: 1 };
        keys.base = keys.tag(b"rolling hash") | 1;
        keys.leaving_short = (0..SHORT).fold(1u64, |power, _| power.wrapping_mul(keys.base));
        keys.leaving = (0..WINDOW).fold(1u64, |power, _| power.wrapping_mul(keys.base));
        keys
    }

    /// 64 bits of HMAC-SHA256.
    fn tag(&self, window: &[u8]) -> u64 {
        let inner = self.inner.clone().chain_update(window).finalize();
        let mac: [u8; 32] = self.outer.clone().chain_update(inner).finalize().into();
        mac.iter().take(8).fold(0, |tag, byte| tag << 8 | u64::from(*byte))
    }

    fn rolling(&self, bytes: &[u8]) -> u64 {
        bytes.iter().fold(0u64, |hash, byte| hash.wrapping_mul(self.base).wrapping_add(u64::from(*byte) + 1))
    }

    /// Adds the windows of one form of a value.
    fn windows(&self, form: &[u8], prints: &mut Vec<Print>) {
        if (SHORT..WINDOW).contains(&form.len()) {
            let rolling = self.rolling(&form[form.len() - SHORT..]);
            prints.push(Print { rolling, length: form.len() as u8, tag: self.tag(form) });
            return;
        }
        let step = (form.len() / MOST_WINDOWS).max(1);
        for window in form.windows(WINDOW).step_by(step).filter(|window| distinct(window) >= LEAST_DISTINCT) {
            prints.push(Print { rolling: self.rolling(window), length: WINDOW as u8, tag: self.tag(window) });
        }
    }
}

/// The values of one vault.
#[derive(Clone)]
pub struct KnownValues {
    keys: Keys,
    names: Vec<SecretName>,
    /// Sorted by rolling hash.
    prints: Vec<(Print, u16)>,
    /// A bit for the highest bits of every rolling hash.
    sieve: Vec<u64>,
    sieve_shift: u32,
    has_short: bool,
}

impl KnownValues {
    /// No values yet. The key is the one that their fingerprints were made with.
    pub fn new(key: [u8; 32]) -> Self {
        let keys = Keys::new(&key);
        Self {
            keys,
            names: Vec::new(),
            prints: Vec::new(),
            sieve: vec![0; 16],
            sieve_shift: 54,
            has_short: false,
        }
    }

    /// Adds the fingerprints of one value. At most 65,535 values are kept apart by name.
    pub fn add(&mut self, name: SecretName, fingerprints: Fingerprints) {
        let index = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        self.has_short |= fingerprints.0.iter().any(|print| usize::from(print.length) < WINDOW);
        self.prints.extend(fingerprints.0.into_iter().map(|print| (print, index)));
        self.prints.sort_unstable();
        self.build_sieve();
    }

    /// True when there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }

    /// Sixteen bits for each window, so that about one position in sixteen costs a search.
    fn build_sieve(&mut self) {
        let bits = (self.prints.len() * 16).next_power_of_two().max(1024);
        self.sieve_shift = 64 - bits.trailing_zeros();
        self.sieve = vec![0; bits / 64];
        for (print, _) in &self.prints {
            let bit = (print.rolling >> self.sieve_shift) as usize;
            self.sieve[bit / 64] |= 1 << (bit % 64);
        }
    }

    fn may_hold(&self, rolling: u64) -> bool {
        let bit = (rolling >> self.sieve_shift) as usize;
        self.sieve[bit / 64] >> (bit % 64) & 1 == 1
    }

    /// The value whose window of `length..` ends the bytes given, confirmed.
    fn confirm(&self, rolling: u64, ending: &[u8], short: bool) -> Option<(u16, usize)> {
        let first = self.prints.partition_point(|(print, _)| print.rolling < rolling);
        let same = self.prints[first..].iter().take_while(|(print, _)| print.rolling == rolling);
        for (print, index) in same {
            let length = usize::from(print.length);
            if (length < WINDOW) == short
                && length <= ending.len()
                && self.keys.tag(&ending[ending.len() - length..]) == print.tag
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

/// The place of a search in a stream: however it is cut into pieces, the findings are the same.
#[derive(Clone)]
pub(crate) struct Cursor {
    /// The last [`WINDOW`] bytes before the next piece.
    tail: Vec<u8>,
    position: usize,
}

impl Cursor {
    /// At the beginning of a stream.
    pub(crate) fn new() -> Self {
        Self { tail: Vec::with_capacity(2 * WINDOW), position: 0 }
    }

    /// Reads the next piece and adds a signal for each value in it; spans count from the beginning
    /// of the stream.
    pub(crate) fn read(&mut self, known: &KnownValues, piece: &[u8], signals: &mut Vec<Signal>) {
        if !known.is_empty() {
            // The windows that reach over the seam, then those inside the piece.
            let head = piece.len().min(WINDOW - 1);
            let mut seam = std::mem::take(&mut self.tail);
            let before = seam.len();
            seam.extend_from_slice(&piece[..head]);
            search(known, &seam, before, self.position - before, signals);
            search(known, piece, head, self.position, signals);
            let keep = seam.len() - before;
            self.tail = if piece.len() >= WINDOW - 1 {
                piece[piece.len() - (WINDOW - 1)..].to_vec()
            } else {
                seam[(before + keep).saturating_sub(WINDOW - 1)..].to_vec()
            };
        }
        self.position += piece.len();
    }
}

/// Reports the windows in `bytes` that end after offset `from`.
fn search(known: &KnownValues, bytes: &[u8], from: usize, base: usize, signals: &mut Vec<Signal>) {
    let keys = &known.keys;
    let (mut long, mut short) = (0u64, 0u64);
    for (at, byte) in bytes.iter().enumerate() {
        let entering = u64::from(*byte) + 1;
        long = long.wrapping_mul(keys.base).wrapping_add(entering);
        if at >= WINDOW {
            let left = u64::from(bytes[at - WINDOW]) + 1;
            long = long.wrapping_sub(left.wrapping_mul(keys.leaving));
        }
        if at >= from && at + 1 >= WINDOW && known.may_hold(long) {
            report(known, long, &bytes[..=at], false, base, signals);
        }
        if known.has_short {
            short = short.wrapping_mul(keys.base).wrapping_add(entering);
            if at >= SHORT {
                let left = u64::from(bytes[at - SHORT]) + 1;
                short = short.wrapping_sub(left.wrapping_mul(keys.leaving_short));
            }
            if at >= from && at + 1 >= SHORT && known.may_hold(short) {
                report(known, short, &bytes[..=at], true, base, signals);
            }
        }
    }
}

fn report(
    known: &KnownValues,
    rolling: u64,
    ending: &[u8],
    short: bool,
    base: usize,
    signals: &mut Vec<Signal>,
) {
    let Some((index, length)) = known.confirm(rolling, ending, short) else { return };
    let span = base + ending.len() - length..base + ending.len();
    let name = known.names.get(usize::from(index)).cloned();
    let same = |signal: &&mut Signal| {
        signal.kind == Kind::KnownValue && signal.secret == name && span.start <= signal.span.end
    };
    if let Some(open) = signals.last_mut().as_mut().and_then(|last| same(last).then_some(last)) {
        open.span.end = open.span.end.max(span.end);
        return;
    }
    signals.push(signal(name, span));
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
