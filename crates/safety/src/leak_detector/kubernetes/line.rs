//! Lines of YAML, and of JSON with one member a line: their column, name and value.

use std::ops::Range;

use memchr::{memchr, memchr_iter};

/// One line: `name: value`, `"name": "value",`, `- name: !!binary value`.
pub(super) struct Line {
    pub(super) start: usize,
    /// Where the next line begins.
    pub(super) next: usize,
    /// How many spaces and signs of a list stand before it.
    pub(super) column: usize,
    pub(super) is_item: bool,
    /// Empty where it has none.
    pub(super) name: Range<usize>,
    /// Without tag and quotes.
    pub(super) value: Range<usize>,
    /// All of it but the spaces around it.
    pub(super) whole: Range<usize>,
}

impl Line {
    /// The line that begins at `start`.
    pub(super) fn read(text: &[u8], start: usize) -> Self {
        let start = start.min(text.len());
        let next = memchr(b'\n', &text[start..]).map_or(text.len(), |newline| start + newline + 1);
        let column = text[start..next].iter().take_while(|byte| matches!(byte, b' ' | b'-')).count();
        let quote = text[start + column..next].first().filter(|byte| matches!(byte, b'"' | b'\''));
        let first = start + column + usize::from(quote.is_some());
        let named = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let end = first + text[first..next].iter().take_while(|byte| named(byte)).count();
        let colon = end + usize::from(quote.is_some() && text[end..next].first() == quote);
        let is_named = end > first && text[colon..next].starts_with(b":");
        let (name, value) = if is_named { (first..end, colon + 1) } else { (first..first, start + column) };
        let whole = text[start..next].trim_ascii_start();
        Self {
            start,
            next,
            column,
            is_item: text[start..start + column].contains(&b'-'),
            name,
            value: unquoted(text, value..next),
            whole: next - whole.len()..next - whole.len() + whole.trim_ascii_end().len(),
        }
    }

    /// True when the value is a block scalar, the text of which stands on the next lines.
    pub(super) fn opens_scalar(&self, text: &[u8]) -> bool {
        let value = &text[self.value.clone()];
        let rest = value.strip_prefix(b"|").or(value.strip_prefix(b">"));
        let indicator = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-');
        !self.name.is_empty() && rest.is_some_and(|rest| rest.iter().all(indicator))
    }
}

/// The lines of a part of a text.
pub(super) fn lines(text: &[u8], span: Range<usize>) -> impl Iterator<Item = Line> {
    let mut at = span.start;
    std::iter::from_fn(move || {
        let line = (at < span.end).then(|| Line::read(text, at))?;
        at = line.next;
        Some(line)
    })
}

/// A value without the spaces, the tag, the comma, the comment and the quotes around it.
fn unquoted(text: &[u8], span: Range<usize>) -> Range<usize> {
    let mut value = text[span.clone()].trim_ascii_start();
    if value.starts_with(b"!") {
        let tag = value.iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
        value = value[tag..].trim_ascii_start();
    }
    let start = span.end - value.len();
    if let Some(end) = closing(value) {
        return start + 1..start + end;
    }
    let comment =
        memchr_iter(b'#', value).find(|at| at.checked_sub(1).is_none_or(|at| b" \t".contains(&value[at])));
    let value = value[..comment.unwrap_or(value.len())].trim_ascii_end();
    start..start + value.strip_suffix(b",").unwrap_or(value).trim_ascii_end().len()
}

/// Where the quotes around a value close, when nothing but a comma and a comment stands behind them.
fn closing(value: &[u8]) -> Option<usize> {
    let quote = *value.first().filter(|byte| matches!(byte, b'"' | b'\''))?;
    let (mut last, mut end) = (0, None);
    for at in memchr_iter(quote, &value[1..]).map(|at| at + 1) {
        let escapes = value[last + 1..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if quote == b'\'' || escapes % 2 == 0 {
            end = Some(at);
            break;
        }
        last = at;
    }
    let rest = value[end? + 1..].trim_ascii_start();
    let rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
    end.filter(|_| rest.is_empty() || rest.starts_with(b"#"))
}
