//! A name at the end of a line whose value stands on the next one: an element of XML, a block scalar of YAML. Rules read
//! lines, so the two are read once more as one: `name: value`.

use std::ops::Range;

use memchr::{memchr, memrchr};

use super::lane::{CREDENTIALS, is_wordy};

/// The most bytes of a name, and of a value that is read with it.
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 1024;

/// True when what begins with a credential may be the last name of its line.
pub(super) fn may_open(text: &[u8]) -> bool {
    let near = &text[..text.len().min(LONGEST_NAME + 16)];
    let name = near.iter().take_while(|byte| is_name(**byte)).count();
    let mark =
        |byte: &u8| matches!(byte, b'"' | b'\'' | b':' | b'|' | b'>' | b'+' | b'-' | b' ' | b'\t' | b'\r');
    let rest = &near[name..];
    let marks = rest.iter().take_while(|byte| mark(byte)).count();
    marks > 0 && rest.get(marks) == Some(&b'\n')
}

/// The name that a line, without its line feed, ends with, when its value may stand on the next line.
pub(super) fn opening(line: &[u8]) -> Option<Range<usize>> {
    let line = line.trim_ascii_end();
    let element = || {
        let inside = line.strip_suffix(b">")?;
        let start = memrchr(b'<', inside)? + 1;
        inside[start..].iter().all(|byte| is_name(*byte)).then_some(start..inside.len())
    };
    let scalar = || {
        let line = line.strip_suffix(b"-").or(line.strip_suffix(b"+")).unwrap_or(line);
        let line = line.strip_suffix(b"|").or(line.strip_suffix(b">"))?.trim_ascii_end();
        let line = line.strip_suffix(b":")?;
        let line = line.strip_suffix(b"\"").or(line.strip_suffix(b"'")).unwrap_or(line);
        let name = line.iter().rev().take_while(|byte| is_name(**byte)).count();
        Some(line.len() - name..line.len())
    };
    let name = element().or_else(scalar).filter(|name| name.len() <= LONGEST_NAME)?;
    let lower = line[name.clone()].to_ascii_lowercase();
    let names = |word: &str| lower.windows(word.len()).any(|window| window == word.as_bytes());
    CREDENTIALS.iter().any(|word| names(word)).then_some(name)
}

/// The line around a place and the next one as one line, and where each of its bytes stands, with the end.
pub(super) fn read(text: &[u8], at: usize) -> Option<(Vec<u8>, Vec<usize>)> {
    let start = memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
    let end = at + memchr(b'\n', &text[at..])?;
    let next = end + 1..memchr(b'\n', &text[end + 1..]).map_or(text.len(), |newline| end + 1 + newline);
    let name = opening(&text[start..end])?;
    let line = &text[next.clone()];
    if opening(line).is_some() {
        return None;
    }
    let value = line.trim_ascii();
    let value = &value[..memchr(b'<', value).unwrap_or(value.len()).min(LONGEST_VALUE)];
    let first = next.start + line.len() - line.trim_ascii_start().len();
    if value.is_empty() {
        return None;
    }
    let name = start + name.start..start + name.end;
    let joined = [&text[name.clone()], b": ", value].concat();
    let places = name.clone().chain([name.end; 2]).chain(first..=first + value.len());
    Some((joined, places.collect()))
}

fn is_name(byte: u8) -> bool {
    is_wordy(byte) && byte != b' '
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_opens_where_its_value_may_follow() {
        for (line, name) in [
            ("  <password>", Some("password")),
            ("<db.Api-Key>\r", Some("db.Api-Key")),
            ("  client_secret: |", Some("client_secret")),
            ("\"authToken\": >-", Some("authToken")),
            ("- pwd:  |+ ", Some("pwd")),
            ("</password>", None),
            ("<password type=\"x\">", None),
            ("<description>", None),
            ("password: value", None),
            ("steps: |", None),
            ("", None),
        ] {
            let found = opening(line.as_bytes()).map(|name| &line[name]);
            assert_eq!(found, name, "{line}");
            let word = name.and_then(|_| {
                let lower = line.to_ascii_lowercase();
                CREDENTIALS.iter().find_map(|word| lower.find(word))
            });
            assert!(word.is_none_or(|at| may_open(format!("{}\n", &line[at..]).as_bytes())), "{line}");
        }
    }

    #[test]
    fn a_joined_line_knows_where_it_stands() {
        let text = b"a\n <password>\n   value<b>\n</password>";
        let (joined, places) = read(text, 6).unwrap();
        assert_eq!(joined, b"password: value");
        assert_eq!((places[0], places[10], places[15], places.len()), (4, 17, 22, 16));
        assert!(read(b"<password>\n</password>", 3).is_none() && read(b"<password>", 3).is_none());
        assert!(read(b"<secret>\n<password>\nvalue", 3).is_none());
    }
}
