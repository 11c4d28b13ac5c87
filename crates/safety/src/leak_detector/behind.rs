//! What every match of a rule has behind its key, so that its expression runs only where that stands.

use regex_syntax::hir::{Class, Hir, HirKind};

use super::compiler::{is_value, run_ahead};
use super::lane::{Behind, VALUE};

/// What every match of parts has, of which the first is a key or stands behind it.
pub(super) fn of(parts: &[&Hir]) -> Behind {
    let value = run_ahead(parts, is_value, VALUE, usize::MAX).is_some();
    let rest = parts.iter().skip(1).filter_map(|part| signs(part));
    let signs = rest.min_by_key(|signs| signs.iter().map(|sign| weight(*sign)).sum::<usize>());
    Behind { value, digit: false, signs: signs.unwrap_or_default() }
}

/// At most three signs, neither letters nor digits nor spaces, of which every match of a part holds one; zeros behind
/// them.
fn signs(part: &Hir) -> Option<[u8; 3]> {
    let mut found = [0; 3];
    let bytes: Vec<u8> = match part.kind() {
        HirKind::Literal(literal) => {
            literal.0.iter().copied().min_by_key(|byte| weight(*byte)).into_iter().collect()
        }
        HirKind::Class(Class::Bytes(class)) => {
            class.iter().flat_map(|range| range.start()..=range.end()).take(found.len() + 1).collect()
        }
        HirKind::Repetition(repetition) if repetition.min > 0 => return signs(&repetition.sub),
        HirKind::Capture(capture) => return signs(&capture.sub),
        _ => return None,
    };
    let good = bytes.iter().all(u8::is_ascii_punctuation) && !bytes.is_empty();
    found.get_mut(..bytes.len()).filter(|_| good)?.copy_from_slice(&bytes);
    Some(found)
}

/// How much a sign, or no sign at all, is worth less than a rarer one.
fn weight(byte: u8) -> usize {
    match byte {
        0 => 0,
        b'@' | b'?' | b'&' | b'$' | b'%' | b'#' | b'~' | b'|' | b'!' | b'+' | b'^' | b'\\' => 1,
        byte if byte.is_ascii_punctuation() => 4,
        _ => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::super::compiler::compile;
    use super::*;

    #[test]
    fn what_stands_behind_a_key_follows_from_the_syntax() {
        let behind = |source, name| compile(source, name, &[]).unwrap().behind;
        let found = |value, signs: &[u8]| {
            let mut behind = Behind { value, ..Behind::default() };
            behind.signs[..signs.len()].copy_from_slice(signs);
            behind
        };
        assert_eq!(behind("[a-z]{1,9}://[^@:]{1,9}:[^ ]{4,9}@[a-z]", None), found(false, b"@"));
        assert_eq!(behind(r#"(?i:password) is ["'][^"]{4,9}["']"#, None), found(false, b"\"'"));
        assert_eq!(
            behind("(?i:acme)[a-z ]{0,20}key=(?P<secret>[a-f0-9]{32})", Some("acme")),
            found(true, b"")
        );
        // A run in the name is no value.
        assert_eq!(
            behind("acme_of_many_characters_key=[a-f]{8}", Some("acme_of_many_characters")),
            found(false, b"")
        );
    }
}
