//! The examples of the rule files, as tests. A class in braces becomes characters that are made up from
//! a counter, so that no file of this project holds a token.

use super::LeakDetector;
use super::engine::Engine;
use super::rule_file::{FILES, RuleFile};
use super::rules::{LeakRule, SHIPPED};
use super::tests::none;
use crate::signal::Fingerprinter;

/// The positive and negative examples of every rule, in the order of [`SHIPPED`].
pub(super) fn examples() -> impl Iterator<Item = (Vec<String>, Vec<String>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/leak_detector/rules");
    let read = move |name| RuleFile::read(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap();
    FILES.into_iter().map(read).flat_map(|file| file.rule).map(|rule| (rule.positive, rule.negative))
}

/// What an example is made from: always the same, so that a new rule does not change the examples of the others.
fn seed_of(template: &str) -> u64 {
    template
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// `{hex32}` and the like become that many characters; `~` becomes nothing, `<tilde>` a tilde.
pub(super) fn expand(template: &str, seed: &mut u64) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(&before.replace('~', ""));
        let inside = after.split_once('}').and_then(|(name, tail)| Some((characters(name, seed)?, tail)));
        match inside {
            Some((made, tail)) => {
                out.push_str(&made);
                rest = tail;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(&rest.replace('~', ""));
    out.replace("<tilde>", "~")
}

fn characters(name: &str, seed: &mut u64) -> Option<String> {
    const CLASSES: [(&str, &str); 9] = [
        ("b58_", "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"),
        ("bech_", "qpzry9x8gf2tvdw0s3jn54khce6mua7l"),
        ("b32_", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
        ("b64_", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
        ("hex", "0123456789abcdef"),
        ("dig", "0123456789"),
        ("an", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
        ("lo", "abcdefghijklmnopqrstuvwxyz0123456789"),
        ("up", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"),
    ];
    let (alphabet, count) =
        CLASSES.iter().find_map(|(class, alphabet)| Some((alphabet, name.strip_prefix(class)?)))?;
    let count: usize = count.parse().ok()?;
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        alphabet.as_bytes()[(*seed >> 33) as usize % alphabet.len()] as char
    };
    Some((0..count).map(|_| next()).collect())
}

/// Both the whole rule and the lane it is looked for in have to find it.
fn fires(rule: &LeakRule, engine: &Engine, text: &str) -> bool {
    let found = engine.find(std::slice::from_ref(rule), text.as_bytes());
    let mut slow = false;
    if rule.literal_on(text.as_bytes()) {
        rule.find(text.as_bytes(), |_, _| slow = true);
    }
    assert_eq!(!found.secrets.is_empty(), slow, "{} in its lane {:?}: {text}", rule.id, rule.lane);
    slow
}

#[test]
fn every_rule_finds_its_positive_examples_and_leaves_its_negative_ones() {
    let mut wrong = Vec::new();
    for (rule, (positive, negative)) in SHIPPED.iter().zip(examples()) {
        assert!(!positive.is_empty(), "{} has no example", rule.id);
        let engine = Engine::of(std::slice::from_ref(rule));
        for (template, wanted) in
            positive.iter().map(|e| (e, true)).chain(negative.iter().map(|e| (e, false)))
        {
            let text = expand(template, &mut seed_of(template));
            if fires(rule, &engine, &text) != wanted {
                wrong.push(format!("{}: {template} => {text}", rule.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_the_program_is_what_the_files_say() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/leak_detector/rules");
    let read = |name| super::rules::read(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap();
    let written: Vec<LeakRule> = FILES.into_iter().flat_map(read).collect();
    assert_eq!(written.len(), SHIPPED.len());
    for (written, shipped) in written.iter().zip(&SHIPPED) {
        assert_eq!((&written.id, written.kind, &written.lane), (&shipped.id, shipped.kind, &shipped.lane));
        assert_eq!((&written.literals, written.longest), (&shipped.literals, shipped.longest));
        assert!(shipped.compiles(), "{}", shipped.id);
    }
    for wrong in [
        "kind = 'password'\n[[rule]]\nid = 'a'\ndescription = 'a'\nseverity = 'grave'\npattern = 'abc'\npositive = []",
        "kind = 'password'\n[[rule]]\nid = 'a'\ndescription = 'a'\nseverity = 'high'\npattern = '[a-z]{9}'\npositive = []",
        "kind = 'password'\nrules = []",
    ] {
        assert!(super::rules::read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn ids_are_unique_and_there_are_many() {
    let mut ids: Vec<_> = SHIPPED.iter().map(|rule| rule.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), SHIPPED.len());
    assert!(SHIPPED.len() >= 1000);
}

#[test]
fn a_redaction_is_no_secret_to_any_rule() {
    let detector = LeakDetector::new(Fingerprinter::new(&[0; 32]));
    for rule in &SHIPPED {
        let mark = crate::screened::redaction(&(*rule.id).into());
        for text in [
            format!("password = \"{mark}\""),
            format!("token: {mark}"),
            format!("postgres://u:{mark}@h/d"),
            mark,
        ] {
            assert!(detector.scan(text.as_bytes(), &none()).is_empty(), "{text}");
        }
    }
}
