//! The compiler of lanes: from the syntax tree of a rule's expression follow the bytes it is found by.
//!
//! It runs when the program is built (`build.rs`); a rule that fits no lane is refused there, and so is one whose
//! matches have no bound: it would make the time of a scan depend on more than the length of the text.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use super::lane::{KEY, Key, Keys, LONGEST, Lane, NO_FOURTH, RUN, fold};

/// The farthest that a match may begin before its key.
const FARTHEST: usize = 512;
/// More keys than this say too little.
const MOST_KEYS: usize = 300;
/// More combinations than this are not worth the time at start-up.
const MOST_CROSSED: usize = 4 * MOST_KEYS;

/// The two sides of an assignment, as they are written.
pub(super) struct Sides<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
}

/// A rule's lane and what its verification needs.
pub(super) struct Compiled {
    pub(super) lane: Lane,
    /// The bytes of its longest match.
    pub(super) longest: usize,
    /// The part of the expression that begins with the key, where a match begins before it.
    pub(super) tail: Option<String>,
    /// The whole match is the secret.
    pub(super) is_whole: bool,
}

/// Finds the lane of an expression. `sides` are given for a name that says nothing by itself: a run of token
/// characters is then what is looked for first. `literals` are what its author says stands on the line.
pub(super) fn compile(
    source: &str,
    sides: Option<Sides<'_>>,
    literals: &[String],
) -> Result<Compiled, String> {
    let hir = parse(source)?;
    let longest = hir.properties().maximum_len().filter(|longest| *longest <= LONGEST);
    let longest = longest.ok_or(format!("its matches may be longer than {LONGEST} bytes"))?;
    if hir.properties().minimum_len().unwrap_or(0) == 0 {
        return Err("it matches the empty text".into());
    }
    let assigned = sides.and_then(|sides| assigned(&sides, longest));
    let (lane, tail) = match assigned {
        Some(lane) => (lane, None),
        None => by_key(&hir).or_else(|| Some((by_line(literals)?, None))).ok_or("it has no lane")?,
    };
    let tail = tail.map(|tail| tail.to_string());
    Ok(Compiled { lane, longest, tail, is_whole: hir.properties().explicit_captures_len() == 0 })
}

/// Expressions read bytes and know no Unicode classes.
fn parse(source: &str) -> Result<Hir, String> {
    let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
    parser.parse(source).map_err(|error| error.to_string())
}

/// A value that is nothing but a run, behind an operator, with a name in front.
fn assigned(sides: &Sides<'_>, longest: usize) -> Option<Lane> {
    let value = parse(sides.value).ok()?;
    let keys = keys(&parse(&format!("(?i:{})", sides.name)).ok()?)?;
    let run = value.properties().minimum_len().filter(|shortest| *shortest >= RUN)?;
    let within = longest - value.properties().maximum_len()?;
    is_run(&value).then_some(Lane::Assigned { keys, within, run })
}

/// True when every match of a name is letters, digits, `_` and `-`.
pub(super) fn is_word(name: &str) -> bool {
    parse(name).is_ok_and(|name| is_run(&name))
}

/// The best key of an expression: at its beginning where a word begins, else where the rarest one is.
fn by_key(hir: &Hir) -> Option<(Lane, Option<Hir>)> {
    let parts = parts(hir);
    // Where something else is the secret, its surroundings may begin in a word.
    let begins_word = match parts.first().map(|part| part.kind()) {
        Some(HirKind::Look(Look::WordAscii | Look::WordStartAscii)) => true,
        _ => hir.properties().explicit_captures_len() == 0,
    };
    let first = keys(hir).filter(|keys| begins_word && keys.iter().all(|key| key[0].is_ascii_alphanumeric()));
    if let Some(keys) = first {
        let lane = if leading_run(hir).0 >= RUN { Lane::Run(keys) } else { Lane::Word(keys) };
        return Some((lane, None));
    }
    let starts: Vec<Option<Heads>> = parts.iter().map(|part| heads(part)).collect();
    let mut before = 0;
    let mut best: Option<(f64, Lane, usize)> = None;
    for (index, part) in parts.iter().enumerate() {
        if let Some(keys) = keys_of(&starts[index..]) {
            // A window is searched where a match may begin earlier, and every key fills the filter.
            let window = if before > 0 { 8.0 } else { 1.0 };
            let cost = keys.iter().map(|key| chance(key)).sum::<f64>() * window + keys.len() as f64 * 2e-6;
            if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, Lane::Anywhere { keys, before }, index));
            }
        }
        before += part.properties().maximum_len()?;
        if before > FARTHEST {
            break;
        }
    }
    let (_, lane, index) = best?;
    let tail = (index > 0).then(|| Hir::concat(parts[index..].iter().map(|part| (*part).clone()).collect()));
    Some((lane, tail))
}

fn by_line(literals: &[String]) -> Option<Lane> {
    let head = |literal: &String| Head::default().then(literal.bytes().map(fold));
    let heads = distinct(literals.iter().map(head).collect());
    (!heads.is_empty()).then_some(())?;
    Some(Lane::Line(keys_from(&heads)?))
}

/// The parts of an expression that follow each other.
fn parts(hir: &Hir) -> Vec<&Hir> {
    match hir.kind() {
        HirKind::Concat(subs) => subs.iter().flat_map(parts).collect(),
        HirKind::Capture(capture) => parts(&capture.sub),
        _ => vec![hir],
    }
}

/// About how often a key stands at a byte of ordinary text.
fn chance(key: &[u8]) -> f64 {
    let each = |byte: &u8| match byte {
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b' ' => 0.07,
        byte if byte.is_ascii_alphabetic() => 0.02,
        _ => 0.01,
    };
    key.iter().map(each).product()
}

/// The keys with which every match begins.
fn keys(hir: &Hir) -> Option<Keys> {
    keys_of(&[heads(hir)])
}

/// The keys of parts that follow each other, from the heads of each.
fn keys_of(parts: &[Option<Heads>]) -> Option<Keys> {
    let mut heads = vec![Head::default()];
    for part in parts {
        heads = cross(&heads, part.as_ref()?)?;
        if heads.iter().all(|head| head.closed) {
            break;
        }
    }
    keys_from(&heads)
}

fn keys_from(heads: &Heads) -> Option<Keys> {
    let mut keys: Vec<Key> = heads.iter().map(|head| head.key()).collect::<Option<_>>()?;
    keys.sort_unstable();
    keys.dedup();
    Some(keys.into())
}

/// The first bytes of some matches. A closed one says nothing about the byte behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Head {
    bytes: [u8; KEY],
    length: usize,
    closed: bool,
}

impl Head {
    /// Nothing is known of what comes next.
    const UNKNOWN: Self = Self { bytes: [0; KEY], length: 0, closed: true };

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// What of it is long enough for a key.
    fn key(&self) -> Option<Key> {
        match self.bytes() {
            [.., NO_FOURTH] => None,
            [a, b, c, d] => Some([*a, *b, *c, *d]),
            [a, b, c] => Some([*a, *b, *c, NO_FOURTH]),
            _ => None,
        }
    }

    /// Appends folded bytes as far as a key is long; full, it is closed.
    fn then(mut self, next: impl IntoIterator<Item = u8>) -> Self {
        for byte in next.into_iter().take(KEY - self.length) {
            self.bytes[self.length] = byte;
            self.length += 1;
        }
        self.closed |= self.length == KEY;
        self
    }
}

/// In order, each once.
type Heads = Vec<Head>;

fn heads(hir: &Hir) -> Option<Heads> {
    let empty = || vec![Head::default()];
    Some(match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => empty(),
        HirKind::Literal(literal) => {
            vec![Head::default().then(literal.0.iter().map(|byte| fold(*byte)))]
        }
        HirKind::Class(class) => class_heads(class),
        HirKind::Repetition(repetition) => repetition_heads(repetition)?,
        HirKind::Capture(capture) => heads(&capture.sub)?,
        HirKind::Concat(subs) => subs.iter().try_fold(empty(), |before, sub| cross(&before, &heads(sub)?))?,
        HirKind::Alternation(subs) => {
            let mut all = Heads::new();
            for sub in subs {
                all.extend(heads(sub)?);
            }
            distinct(all)
        }
    })
}

fn class_heads(class: &Class) -> Heads {
    const WIDE: usize = 12;
    let Class::Bytes(class) = class else { return vec![Head::UNKNOWN] };
    let bytes = || class.iter().flat_map(|range| range.start()..=range.end());
    // A class that holds both cases of its letters is half as wide.
    if bytes().take(2 * WIDE + 1).count() > 2 * WIDE {
        return vec![Head::UNKNOWN];
    }
    let heads = distinct(bytes().map(|byte| Head::default().then([fold(byte)])).collect());
    if heads.len() > WIDE { vec![Head::UNKNOWN] } else { heads }
}

fn repetition_heads(repetition: &Repetition) -> Option<Heads> {
    let sub = heads(&repetition.sub)?;
    if repetition.min > 0 && sub.iter().all(|head| head.closed) {
        return Some(sub);
    }
    let least = repetition.min.min(KEY as u32);
    let most = repetition.max.unwrap_or(u32::MAX).min(KEY as u32);
    let mut times = vec![Head::default()];
    for _ in 0..least {
        times = cross(&times, &sub)?;
    }
    let mut all = times.clone();
    for _ in least..most {
        times = cross(&times, &sub)?;
        all.extend(times.iter().copied());
    }
    Some(distinct(all))
}

fn cross(left: &Heads, right: &Heads) -> Option<Heads> {
    let open = left.iter().filter(|head| !head.closed).count();
    if open * right.len() > MOST_CROSSED {
        return None;
    }
    let mut all = Vec::with_capacity(left.len() + open * right.len());
    for head in left {
        if head.closed {
            all.push(*head);
            continue;
        }
        all.extend(right.iter().map(|next| {
            let both = head.then(next.bytes().iter().copied());
            Head { closed: both.closed || next.closed, ..both }
        }));
    }
    let all = distinct(all);
    (all.len() <= MOST_KEYS).then_some(all)
}

fn distinct(mut heads: Heads) -> Heads {
    heads.sort_unstable();
    heads.dedup();
    heads
}

/// How many token characters every match begins with, and whether it is nothing but those.
fn leading_run(hir: &Hir) -> (usize, bool) {
    let properties = hir.properties();
    if is_run(hir) {
        return (properties.minimum_len().unwrap_or(0), true);
    }
    match hir.kind() {
        HirKind::Capture(capture) => leading_run(&capture.sub),
        HirKind::Concat(subs) => {
            let mut length = 0;
            for sub in subs {
                let (run, whole) = leading_run(sub);
                length += run;
                if !whole {
                    return (length, false);
                }
            }
            (length, true)
        }
        HirKind::Alternation(subs) => (subs.iter().map(|sub| leading_run(sub).0).min().unwrap_or(0), false),
        HirKind::Repetition(repetition) if repetition.min > 0 => (leading_run(&repetition.sub).0, false),
        _ => (0, false),
    }
}

/// True when every byte of every match is a token character.
fn is_run(hir: &Hir) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.iter().all(|byte| token(*byte)),
        HirKind::Class(Class::Bytes(class)) => {
            class.iter().flat_map(|range| range.start()..=range.end()).all(token)
        }
        HirKind::Class(Class::Unicode(_)) => false,
        HirKind::Repetition(repetition) => is_run(&repetition.sub),
        HirKind::Capture(capture) => is_run(&capture.sub),
        HirKind::Concat(subs) | HirKind::Alternation(subs) => subs.iter().all(is_run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(source: &str) -> Result<Lane, String> {
        compile(source, None, &["literal".to_owned()]).map(|compiled| compiled.lane)
    }

    fn set(keys: &[&str]) -> Keys {
        let heads = keys.iter().map(|key| Head::default().then(key.bytes().map(fold))).collect();
        keys_from(&heads).unwrap()
    }

    #[test]
    fn a_lane_follows_from_the_syntax() {
        assert_eq!(lane("ghp_[A-Za-z0-9]{36}"), Ok(Lane::Run(set(&["ghp_"]))));
        assert_eq!(lane(r"SG\.[A-Za-z0-9_-]{22}\.[a-z]{9}"), Ok(Lane::Word(set(&["sg."]))));
        assert_eq!(
            lane("gh[ou]_[A-Za-z0-9]{36}|(?i:npm)_[a-z]{36}"),
            Ok(Lane::Run(set(&["gho_", "ghu_", "npm_"])))
        );
        assert_eq!(
            lane("[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}"),
            Ok(Lane::Anywhere { keys: set(&["azdo"]), before: 76 })
        );
        assert_eq!(
            lane("[?&]sig=(?P<secret>[A-Z]{9})"),
            Ok(Lane::Anywhere { keys: set(&["?sig", "&sig"]), before: 0 })
        );
        assert_eq!(lane(r"\b[a-f0-9]{32}\b"), Ok(Lane::Line(set(&["lite"]))));
        let sides = Sides { name: "acme", value: "[a-f0-9]{32}" };
        let source = "(?i:acme)[a-z ]{0,20}=(?P<secret>[a-f0-9]{32})";
        let compiled = compile(source, Some(sides), &[]).unwrap();
        assert_eq!(compiled.lane, Lane::Assigned { keys: set(&["acme"]), within: 25, run: 32 });
    }

    #[test]
    fn a_rule_without_a_lane_or_a_bound_is_refused() {
        assert_eq!(compile("[a-f0-9]{32}", None, &[]).err().unwrap(), "it has no lane");
        assert!(compile("token=[a-z]+", None, &[]).err().unwrap().contains("longer"));
        assert!(compile("(?:token)?", None, &[]).err().unwrap().contains("empty"));
    }
}
