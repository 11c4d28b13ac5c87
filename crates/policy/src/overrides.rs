//! Requests that ask to be taken for one of another method (attack P02): frameworks read it from a parameter, where no rule
//! on methods sees it. As a header it never leaves.

use safety::validator::json;
use types::folded;

/// The parameter of Rails, Laravel, Symfony and their kind, and the header's names where they are read as one; folded.
const NAMES: [&str; 3] = ["_method", "x_http_method_override", "x_http_method"];

/// Bytes of a field's name in a form, as it is written. One that is longer is for the sender's parser alone; and a header is a row of
/// names that each go on to its end, if it wants to be.
const LONGEST: usize = 256;

/// The header of a part of a form that names its field (RFC 7578, 4.2).
const DISPOSITION: &[u8] = b"content-disposition";

/// True when the query, or what was read of the body, holds such a parameter: of a form in either encoding, or a member of
/// a JSON object. The body is read as each of them, since the server may take it for another than its type says.
pub(crate) fn asks_for_another(query: Option<&str>, body: Option<&[u8]>) -> bool {
    let is_in_form = |form: &[u8]| folded::parameters(form).any(|(name, _)| NAMES.contains(&name.as_str()));
    query.is_some_and(|query| is_in_form(query.as_bytes()))
        || body.is_some_and(|body| is_in_form(body) || is_in_json(body) || is_in_parts(body))
}

fn is_named(name: &[u8]) -> bool {
    NAMES.contains(&folded::parameter(name).as_str())
}

/// What a server that goes on behind a mistake could read counts, too.
fn is_in_json(body: &[u8]) -> bool {
    json::members(body).any(|member| member.depth == 1 && is_named(member.name.as_bytes()))
}

/// True when a part of a multipart body is of that name, however it is written (RFC 2183, RFC 2231), or is written so that
/// only some parsers can say.
fn is_in_parts(body: &[u8]) -> bool {
    let mut lines = body.split(|byte| matches!(byte, b'\n' | b'\r')).peekable();
    while let Some(line) = lines.next() {
        let line = line.trim_ascii_start();
        let is_disposition = |begins: &[u8]| begins.eq_ignore_ascii_case(DISPOSITION);
        if !line.get(..DISPOSITION.len()).is_some_and(is_disposition) {
            continue;
        }
        // A line that begins with a space goes on with the one before (RFC 5322, 2.2.3).
        let mut header = line.to_vec();
        while let Some(more) =
            lines.next_if(|line| line.is_empty() || line.starts_with(b" ") || line.starts_with(b"\t"))
        {
            // The line between CR and LF is empty, and so is the one that ends the header.
            if more.is_empty() && lines.peek().is_none_or(|next| next.is_empty()) {
                break;
            }
            header.extend_from_slice(more);
        }
        if names_one(&header) {
            return true;
        }
    }
    false
}

/// True when one of the values of `name` in the header of a part is such a name.
fn names_one(header: &[u8]) -> bool {
    let lower = header.to_ascii_lowercase();
    let mut from = 0;
    while let Some(at) = lower[from..].windows(4).position(|word| word == b"name").map(|at| from + at) {
        from = at + 4;
        // Not the end of `filename`.
        if lower[..at].last().is_some_and(u8::is_ascii_alphanumeric) {
            continue;
        }
        let rest = header[from..].trim_ascii_start();
        let (is_extended, rest) = match rest.strip_prefix(b"*") {
            Some(rest) => (true, rest.trim_ascii_start()),
            None => (false, rest),
        };
        let Some(value) = rest.strip_prefix(b"=").map(<[u8]>::trim_ascii_start) else {
            // In pieces: `name*0="_me"; name*1="thod"` (RFC 2231, 3).
            if is_extended && rest.first().is_some_and(u8::is_ascii_digit) {
                return true;
            }
            continue;
        };
        if is_one(value, is_extended) {
            return true;
        }
    }
    false
}

fn is_one(value: &[u8], is_extended: bool) -> bool {
    let (quote, inside) = match value.split_first() {
        Some((quote @ (b'"' | b'\''), inside)) => (Some(*quote), inside),
        _ => (None, value),
    };
    let mut name = Vec::new();
    let mut bytes = inside.iter().copied();
    while let Some(byte) = bytes.next() {
        if name.len() > LONGEST {
            return true;
        }
        match byte {
            b'\\' => name.extend(bytes.next()),
            _ if Some(byte) == quote => break,
            b';' if quote.is_none() => break,
            _ => name.push(byte),
        }
    }
    // A word in an encoding of its own (RFC 2047), which some parsers undo.
    if name.starts_with(b"=?") {
        return true;
    }
    let language =
        if is_extended { name.iter().rposition(|byte| *byte == b'\'').map_or(0, |at| at + 1) } else { 0 };
    is_named(&name[language..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(disposition: &str) -> String {
        format!("--b\r\n{disposition}\r\n\r\nDELETE\r\n--b--\r\n")
    }

    #[test]
    fn p02_a_part_is_named_in_many_ways() {
        for name in [
            r#"name="_method""#,
            r#"name="\_method""#,
            "name*=utf-8''_method",
            "name*=UTF-8'en'%5Fmethod",
            r#"name = "_method""#,
            "name='_method'",
            "NAME=_Method",
            r#"name*0="_me"; name*1="thod""#,
            r#"name="=?utf-8?Q?=5Fmethod?=""#,
            r#"filename="x"; name=".method""#,
            "\r\n name=_method",
        ] {
            let body = part(&format!("Content-Disposition: form-data; {name}"));
            assert!(asks_for_another(None, Some(body.as_bytes())), "{name}");
        }
        for honest in [r#"name="method""#, r#"name="a"; filename="_method""#, r#"name="x_method""#] {
            let body = part(&format!("Content-Disposition: form-data; {honest}"));
            assert!(!asks_for_another(None, Some(body.as_bytes())), "{honest}");
        }
        let quoted = part("Content-Disposition: form-data; name=\"a\"\r\n\r\nname=\"_method\"");
        assert!(!asks_for_another(None, Some(quoted.as_bytes())));
    }

    /// Each of the names goes on to the end, and half a minute it took to read 256 KiB so.
    #[test]
    fn p02_a_header_of_names_is_read_once() {
        let body = part(&format!("Content-Disposition: form-data; {}", "name=".repeat(1 << 20)));
        assert!(asks_for_another(None, Some(body.as_bytes())));
        let body = part(&format!("Content-Disposition: form-data; {}", "name=a;".repeat(1 << 20)));
        assert!(!asks_for_another(None, Some(body.as_bytes())));
    }

    #[test]
    fn p02_a_body_is_read_as_whatever_a_server_may_take_it_for() {
        for body in [
            &b"a=b&.method=PUT"[..],
            b"%20_method=PUT",
            b"a=\xff&_method=PUT",
            b"{\"a\": [1], \"_Method\": \"PUT\"}",
            b"\xef\xbb\xbf{\"\\u005fmethod\": 1}",
            b"{\"_method\": 1, oops",
            b"{\"a\": \"&_method=PUT&\"}",
        ] {
            assert!(asks_for_another(None, Some(body)), "{}", String::from_utf8_lossy(body));
        }
        for body in [&b"{\"a\": {\"_method\": 1}}"[..], b"method=PUT", b"[\"_method\"]", b""] {
            assert!(!asks_for_another(None, Some(body)), "{}", String::from_utf8_lossy(body));
        }
        assert!(asks_for_another(Some("+_method=PUT"), None) && !asks_for_another(Some("a=_method"), None));
    }
}
