//! The compiler of lanes: from the syntax tree of a rule's expression follow the bytes it is found by.
//!
//! It runs when the program is built (`build.rs`); a rule that fits no lane is refused there, and so is one whose
//! matches have no bound: it would make the time of a scan depend on more than the length of the text.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Capture, Class, Hir, HirKind, Look, Repetition};

use super::behind;
use super::lane::{
    Behind, CREDENTIALS, KEY, Key, Keys, LONG_DIGITS, LONG_RUN, LONGEST, Lane, RUN, VALUE, VALUE_WITHIN,
    fold, is_operator, is_wordy,
};

/// The most bytes between a name and its credential.
pub(super) const NAME_GAP: usize = 24;
/// The farthest that a match may begin before its key.
const FARTHEST: usize = 512;
/// The farthest that a long run may begin behind its key.
const NEAR: usize = 160;
/// The fewest bytes of a key, and as many as are enough for one of many.
const SHORTEST_KEY: usize = 3;
const ENOUGH: usize = 4;
/// So many ways to go on are followed where a key is long enough.
const FEW: usize = 8;
/// More keys than this say too little.
const MOST_KEYS: usize = 800;

/// A rule's lane and what its verification needs.
pub(super) struct Compiled {
    pub(super) lane: Lane,
    /// The bytes of its longest match.
    pub(super) longest: usize,
    /// The part of the expression that begins with the key, where a match begins before it.
    pub(super) tail: Option<String>,
    /// The whole match is the secret.
    pub(super) is_whole: bool,
    /// One of these follows the words that the key begins, if there are any.
    pub(super) operators: Vec<u8>,
    pub(super) behind: Behind,
}

/// Finds the lane of an expression. `name` is given where it begins with the name of something to which a value
/// is assigned. `literals` are what its author says stands on the line.
pub(super) fn compile(source: &str, name: Option<&str>, literals: &[String]) -> Result<Compiled, String> {
    let hir = parse(source)?;
    let longest = hir.properties().maximum_len().filter(|longest| *longest <= LONGEST);
    let longest = longest.ok_or(format!("its matches may be longer than {LONGEST} bytes"))?;
    if hir.properties().minimum_len().unwrap_or(0) == 0 {
        return Err("it matches the empty text".into());
    }
    let by_name = name.and_then(named).or_else(|| spoken(&hir));
    let (lane, from) = match by_name {
        Some(lane) => (lane, None),
        None => by_key(&hir).or_else(|| by_line(&hir, literals)).ok_or("it has no lane")?,
    };
    let parts = parts(&hir);
    let tail = from.filter(|from| *from > 0 && !matches!(lane, Lane::Word { .. }));
    let tail = tail.map(|from| Hir::concat(parts[from..].iter().map(|part| (*part).clone()).collect()));
    let tail = tail.map(|tail| tail.to_string());
    let operators = from.and_then(|from| operators(&parts[from..])).unwrap_or_default();
    let is_whole = hir.properties().explicit_captures_len() == 0;
    let rest = match (&lane, from) {
        // Behind the name and its credential, which end in this part at the latest.
        (Lane::Named { .. }, _) => parts.iter().position(|part| !is_all(part, is_wordy)).map(|last| last + 1),
        (Lane::Line(_), _) => None,
        (_, from) => from,
    };
    let behind = rest.map(|rest| behind::of(&parts[rest..])).unwrap_or_default();
    Ok(Compiled { lane, longest, tail, is_whole, operators, behind })
}

/// Expressions read bytes and know no Unicode classes.
fn parse(source: &str) -> Result<Hir, String> {
    let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
    parser.parse(source).map(bytewise).map_err(|error| error.to_string())
}

/// The parser makes a class of characters of single letters between which an expression chooses: one of bytes, here.
fn bytewise(hir: Hir) -> Hir {
    let all = |subs: Vec<Hir>| subs.into_iter().map(bytewise).collect();
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(Class::Unicode(class)) => {
            Hir::class(class.to_byte_class().map_or(Class::Unicode(class), Class::Bytes))
        }
        HirKind::Class(class) => Hir::class(class),
        HirKind::Repetition(Repetition { sub, min, max, greedy }) => {
            Hir::repetition(Repetition { sub: Box::new(bytewise(*sub)), min, max, greedy })
        }
        HirKind::Capture(Capture { index, name, sub }) => {
            Hir::capture(Capture { index, name, sub: Box::new(bytewise(*sub)) })
        }
        HirKind::Concat(subs) => Hir::concat(all(subs)),
        HirKind::Alternation(subs) => Hir::alternation(all(subs)),
    }
}

/// A name with its credential, in it or behind it.
fn named(name: &str) -> Option<Lane> {
    let name = parse(&format!("(?i:{name})")).ok()?;
    let gap = if has_credential(&name) { 0 } else { NAME_GAP };
    let within = name.properties().maximum_len()? + gap;
    is_all(&name, is_wordy).then_some(Lane::Named { keys: keys(&name)?, within, assigned: true })
}

/// An expression that begins with words of which one is a credential.
fn spoken(hir: &Hir) -> Option<Lane> {
    let parts = parts(hir);
    let first = parts.first()?;
    let keys = keys_of(&[heads(first)]).filter(|_| is_all(first, is_wordy) && has_credential(first))?;
    Some(Lane::Named { keys, within: first.properties().maximum_len()?, assigned: false })
}

/// True when every match holds one of the credentials, in one piece.
fn has_credential(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Alternation(subs) => subs.iter().all(has_credential),
        HirKind::Capture(capture) => has_credential(&capture.sub),
        HirKind::Concat(_) | HirKind::Literal(_) | HirKind::Class(_) => holds(hir, &CREDENTIALS),
        _ => false,
    }
}

/// True when every match of parts that follow each other holds one of the words.
fn holds(hir: &Hir, words: &[&str]) -> bool {
    // What a sequence spells, as long as it spells one thing in each case; an alternative starts anew.
    let mut spelled = String::new();
    for part in parts(hir) {
        match part.kind() {
            HirKind::Literal(literal) => spelled.extend(literal.0.iter().map(|byte| char::from(*byte))),
            HirKind::Class(class) => match class_heads(class)[..] {
                [head] if !head.closed => spelled.push(char::from(head.bytes[0])),
                _ => spelled.push('\n'),
            },
            HirKind::Alternation(subs) => {
                // Each of them with what stands before it.
                let before = spelled.rsplit('\n').next().unwrap_or_default().to_owned();
                let spells = |sub: &Hir| {
                    let before = Hir::literal(before.clone().into_bytes());
                    holds(&Hir::concat(vec![before, sub.clone()]), words)
                };
                if subs.iter().all(spells) {
                    return true;
                }
                spelled.push('\n');
            }
            HirKind::Look(_) | HirKind::Empty => {}
            _ => spelled.push('\n'),
        }
    }
    let spelled = spelled.to_ascii_lowercase();
    words.iter().any(|word| spelled.contains(word))
}

/// The operators of which one follows the words that parts begin with, with nothing but quotes and spaces between.
fn operators(parts: &[&Hir]) -> Option<Vec<u8>> {
    let quote = |byte: u8| matches!(byte, b'"' | b'\'' | b'`' | b']' | b'\\' | b' ' | b'\t');
    let words = parts.iter().take_while(|part| is_all(part, is_wordy)).count();
    let rest = parts[words..].iter().position(|part| !is_all(part, quote)).filter(|_| words > 0)?;
    // Folded, a backslash is `|`.
    let operator = |head: &Head| {
        Some(head.bytes[0]).filter(|byte| head.length > 0 && *byte != b'|' && is_operator(*byte))
    };
    let mut operators: Vec<u8> = heads(parts[words + rest]).iter().map(operator).collect::<Option<_>>()?;
    operators.sort_unstable();
    operators.dedup();
    Some(operators)
}

/// The best key of an expression: at its beginning where a word begins, else in front of a long run, else where
/// the rarest one is.
fn by_key(hir: &Hir) -> Option<(Lane, Option<usize>)> {
    let parts = parts(hir);
    if let Some(lane) = by_word(hir, &parts) {
        let from = usize::from(matches!(lane, Lane::Word { before: 1, .. }));
        return Some((lane, Some(from)));
    }
    let within = long_run(&parts);
    if let Some((keys, within)) = keys(hir).zip(within) {
        return Some((Lane::Near { keys, before: 0, within }, None));
    }
    let starts: Vec<Heads> = parts.iter().map(|part| heads(part)).collect();
    let mut before = 0;
    let mut best: Option<(f64, Lane, usize)> = None;
    for (index, part) in parts.iter().enumerate() {
        if let Some(keys) = keys_of(&starts[index..]) {
            // A window is searched where a match may begin earlier, and every key fills the filter.
            let window = if before > 0 { 8.0 } else { 1.0 };
            let cost = keys.iter().map(chance).sum::<f64>() * window + keys.len() as f64 * 2e-6;
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
    let lane = match (lane, within) {
        (Lane::Anywhere { keys, before }, Some(within)) => Lane::Near { keys, before, within },
        (lane, _) => lane,
    };
    Some((lane, Some(index)))
}

/// Keys that begin a word.
fn by_word(hir: &Hir, parts: &[&Hir]) -> Option<Lane> {
    let begins = |keys: &Keys| keys.iter().all(|key| key.bytes[0].is_ascii_alphanumeric());
    // Where something else is the secret, its surroundings may begin in a word.
    let begins_word = match parts.first()?.kind() {
        HirKind::Look(Look::WordAscii | Look::WordStartAscii) => true,
        _ => hir.properties().explicit_captures_len() == 0,
    };
    if let Some(keys) = keys(hir).filter(|keys| begins_word && begins(keys)) {
        if leading_run(hir, is_token).0 >= RUN {
            return Some(Lane::Run(keys));
        }
        return has_value(parts).then_some(Lane::Word { keys, before: 0 });
    }
    // One sign, or nothing at the beginning of a line.
    let signs = |byte: u8| !byte.is_ascii_alphanumeric();
    let sign = is_all(parts[0], signs) && parts[0].properties().maximum_len() == Some(1);
    let line = |hir: &Hir| matches!(hir.kind(), HirKind::Look(Look::Start | Look::StartLF));
    let edge = match parts[0].kind() {
        HirKind::Alternation(subs) => {
            subs.iter().all(|sub| line(sub) || sub.properties().minimum_len() == Some(1))
        }
        _ => parts[0].properties().minimum_len() == Some(1),
    };
    let rest: Vec<_> = parts[1..].iter().map(|part| heads(part)).collect();
    let keys = keys_of(&rest).filter(|keys| sign && edge && begins(keys) && has_value(&parts[1..]))?;
    Some(Lane::Word { keys, before: 1 })
}

/// True when a value stands close behind the beginning of parts.
fn has_value(parts: &[&Hir]) -> bool {
    run_ahead(parts, is_value, VALUE, VALUE_WITHIN).is_some()
}

/// How far behind the beginning of every match a long run begins at most.
fn long_run(parts: &[&Hir]) -> Option<usize> {
    run_ahead(parts, is_token, LONG_RUN, NEAR).or_else(|| run_ahead(parts, is_digit, LONG_DIGITS, NEAR))
}

/// How far behind the beginning of every match at least `least` characters of a class begin at most, if that is no more
/// than `limit`.
pub(super) fn run_ahead(parts: &[&Hir], class: fn(u8) -> bool, least: usize, limit: usize) -> Option<usize> {
    let mut before = 0;
    for (index, part) in parts.iter().enumerate() {
        let mut run = 0;
        for part in &parts[index..] {
            let (length, whole) = leading_run(part, class);
            run += length;
            if !whole {
                break;
            }
        }
        if run >= least {
            return Some(before);
        }
        before += part.properties().maximum_len()?;
        if before > limit {
            break;
        }
    }
    None
}

/// One of the literals: where each match holds one, around it, else anywhere on its line.
fn by_line(hir: &Hir, literals: &[String]) -> Option<(Lane, Option<usize>)> {
    let head = |literal: &String| Head::default().then(literal.bytes().map(fold));
    let heads = distinct(literals.iter().map(head).collect());
    (!heads.is_empty()).then_some(())?;
    let keys = keys_from(&heads)?;
    let words: Vec<String> = literals.iter().map(|literal| literal.to_ascii_lowercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // The first parts that always hold one together.
    let parts = parts(hir);
    let held = (1..=parts.len())
        .find(|end| holds(&Hir::concat(parts[..*end].iter().map(|part| (*part).clone()).collect()), &words));
    let before = held.and_then(|end| parts[..end].iter().map(|part| part.properties().maximum_len()).sum());
    Some(match before {
        Some(before) if before <= FARTHEST => (Lane::Anywhere { keys, before }, None),
        _ => (Lane::Line(keys), None),
    })
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
fn chance(key: &Key) -> f64 {
    let each = |byte: &u8| match byte {
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b' ' => 0.07,
        byte if byte.is_ascii_alphabetic() => 0.02,
        _ => 0.01,
    };
    key.bytes[..usize::from(key.length)].iter().map(each).product()
}

/// The keys with which every match begins.
fn keys(hir: &Hir) -> Option<Keys> {
    keys_of(&[heads(hir)])
}

/// The keys of parts that follow each other, from the heads of each.
fn keys_of(parts: &[Heads]) -> Option<Keys> {
    let mut heads = vec![Head::default()];
    for part in parts {
        heads = cross(&heads, part);
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
        (self.length >= SHORTEST_KEY).then(|| Key::of(self.bytes().iter().copied()))
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

fn heads(hir: &Hir) -> Heads {
    let empty = || vec![Head::default()];
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => empty(),
        HirKind::Literal(literal) => {
            vec![Head::default().then(literal.0.iter().map(|byte| fold(*byte)))]
        }
        HirKind::Class(class) => class_heads(class),
        HirKind::Repetition(repetition) => repetition_heads(repetition),
        HirKind::Capture(capture) => heads(&capture.sub),
        HirKind::Concat(subs) => {
            let mut all = empty();
            for sub in subs {
                if all.iter().all(|head| head.closed) {
                    break;
                }
                all = cross(&all, &heads(sub));
            }
            all
        }
        HirKind::Alternation(subs) => {
            let mut all = Heads::new();
            for sub in subs {
                all.extend(heads(sub));
            }
            distinct(all)
        }
    }
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

fn repetition_heads(repetition: &Repetition) -> Heads {
    let sub = heads(&repetition.sub);
    if repetition.min > 0 && sub.iter().all(|head| head.closed) {
        return sub;
    }
    let least = repetition.min.min(KEY as u32);
    let most = repetition.max.unwrap_or(u32::MAX).min(KEY as u32);
    let mut times = vec![Head::default()];
    for _ in 0..least {
        times = cross(&times, &sub);
    }
    let mut all = times.clone();
    for _ in least..most {
        times = cross(&times, &sub);
        all.extend(times.iter().copied());
    }
    distinct(all)
}

/// Every head of the left, continued by every one of the right. One that is long enough goes on by letters and
/// digits alone; where there are too many, the left stays as it is.
fn cross(left: &Heads, right: &Heads) -> Heads {
    let closed = |head: &Head| Head { closed: true, ..*head };
    let plain =
        right.len() <= FEW && right.iter().all(|next| next.bytes().iter().all(|byte| is_plain(*byte)));
    let mut all = Vec::new();
    for head in left {
        if head.closed || head.length >= ENOUGH && !plain {
            all.push(closed(head));
            continue;
        }
        all.extend(right.iter().map(|next| {
            let both = head.then(next.bytes().iter().copied());
            Head { closed: both.closed || next.closed, ..both }
        }));
    }
    let all = distinct(all);
    if all.len() > MOST_KEYS { distinct(left.iter().map(closed).collect()) } else { all }
}

/// A folded letter or digit, or what joins words without a space.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || [b'_', b'-', b'.', b'/'].map(fold).contains(&byte)
}

fn distinct(mut heads: Heads) -> Heads {
    heads.sort_unstable();
    heads.dedup();
    heads
}

/// How many characters of a class every match begins with, and whether it is nothing but those.
fn leading_run(hir: &Hir, class: fn(u8) -> bool) -> (usize, bool) {
    let properties = hir.properties();
    if is_all(hir, class) {
        return (properties.minimum_len().unwrap_or(0), true);
    }
    match hir.kind() {
        HirKind::Capture(capture) => leading_run(&capture.sub, class),
        HirKind::Concat(subs) => {
            let mut length = 0;
            for sub in subs {
                let (run, whole) = leading_run(sub, class);
                length += run;
                if !whole {
                    return (length, false);
                }
            }
            (length, true)
        }
        HirKind::Alternation(subs) => {
            (subs.iter().map(|sub| leading_run(sub, class).0).min().unwrap_or(0), false)
        }
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            (leading_run(&repetition.sub, class).0, false)
        }
        _ => (0, false),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// A digit of base64, of either alphabet.
fn is_digit(byte: u8) -> bool {
    is_token(byte) || matches!(byte, b'+' | b'/')
}

/// A digit of base64, or what fills them up.
pub(super) fn is_value(byte: u8) -> bool {
    is_digit(byte) || byte == b'='
}

/// True when every byte of every match is one of a class.
fn is_all(hir: &Hir, class: fn(u8) -> bool) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.iter().all(|byte| class(*byte)),
        HirKind::Class(Class::Bytes(bytes)) => {
            bytes.iter().flat_map(|range| range.start()..=range.end()).all(class)
        }
        HirKind::Class(Class::Unicode(_)) => false,
        HirKind::Repetition(repetition) => is_all(&repetition.sub, class),
        HirKind::Capture(capture) => is_all(&capture.sub, class),
        HirKind::Concat(subs) | HirKind::Alternation(subs) => subs.iter().all(|sub| is_all(sub, class)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(source: &str) -> Result<Lane, String> {
        compile(source, None, &["literal".to_owned()]).map(|compiled| compiled.lane)
    }

    fn set(keys: &[&str]) -> Keys {
        let mut keys: Vec<Key> = keys.iter().map(|key| Key::of(key.bytes())).collect();
        keys.sort_unstable();
        keys.into()
    }

    fn word(keys: &[&str], before: usize) -> Lane {
        Lane::Word { keys: set(keys), before }
    }

    #[test]
    fn a_lane_follows_from_the_syntax() {
        assert_eq!(lane("ghp_[A-Za-z0-9]{36}"), Ok(Lane::Run(set(&["ghp_"]))));
        assert_eq!(lane(r"SG\.[A-Za-z0-9_-]{22}\.[a-z]{9}"), Ok(word(&["sg."], 0)));
        assert_eq!(
            lane(r#"(?:^|[ "])(?i:acme|box[_-]?api) = [a-z]{40}"#),
            Ok(word(&["acme", "boxapi", "box-api", "box_api"], 1))
        );
        assert_eq!(
            lane("gh[ou]_[A-Za-z0-9]{36}|(?i:npm)_[a-z]{36}"),
            Ok(Lane::Run(set(&["gho_", "ghu_", "npm_"])))
        );
        assert_eq!(
            lane("[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}"),
            Ok(Lane::Near { keys: set(&["azdo"]), before: 76, within: 0 })
        );
        assert_eq!(
            lane("[?&]sig=(?P<secret>[A-Z]{9})"),
            Ok(Lane::Anywhere { keys: set(&["?sig=", "&sig="]), before: 0 })
        );
        assert_eq!(lane(r"\b[a-f0-9]{32}\b"), Ok(Lane::Line(set(&["literal"]))));
        assert_eq!(
            lane(r"(?i:acme)[^\n]{0,80}?(?P<secret>\b[a-f0-9]{8}(?:-[a-f0-9]{12}){2})"),
            Ok(Lane::Near { keys: set(&["acme"]), before: 0, within: 84 })
        );
        let source = "(?i:acme)[a-z ]{0,20}key=(?P<secret>[a-f0-9]{32})";
        let compiled = compile(source, Some("acme"), &[]).unwrap();
        assert_eq!(compiled.lane, Lane::Named { keys: set(&["acme"]), within: 28, assigned: true });
        let lane = |source| lane(source).unwrap();
        assert_eq!(
            lane(r#"(?i:password|passwd|api[ _-]?token) is (?P<secret>[^ ]{4,64})"#),
            Lane::Named {
                keys: set(&["password", "passwd", "api toke", "api-toke", "api_toke", "apitoken"]),
                within: 9,
                assigned: false
            }
        );
        assert!(matches!(lane("(?i:password|word) is (?P<secret>[^ ]{4,64})"), Lane::Anywhere { .. }));
    }

    #[test]
    fn a_rule_without_a_lane_or_a_bound_is_refused() {
        assert_eq!(compile("[a-f0-9]{32}", None, &[]).err().unwrap(), "it has no lane");
        assert!(compile("token=[a-z]+", None, &[]).err().unwrap().contains("longer"));
        assert!(compile("(?:token)?", None, &[]).err().unwrap().contains("empty"));
    }
}
