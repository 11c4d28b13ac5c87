//! A name whose value stands on a line below: the next one behind an element of XML, a block scalar of YAML or three quotes,
//! the one that is called `value` behind the name of a list of names and values, and the one that is called `value` or
//! `default` in a block that has a name. Rules read lines, so the two are read once more as one: `name: value`.

use std::ops::Range;

use memchr::{memchr, memmem, memrchr};

use super::lane::{CREDENTIALS, is_wordy};

/// The most bytes of a name, and of a value that is read with it.
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 1024;
/// A line that is longer begins no block and holds no name of a list.
const LONGEST_LINE: usize = 256;
/// Lines between a name and its value, and how far from the first line that one begins at most.
const MOST_BETWEEN: usize = 6;
const FAR: usize = 2 * 1024;

/// A name at the end of a line.
struct Opening {
    name: Range<usize>,
    form: Form,
}

/// Which line below holds the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// The next.
    Next,
    /// The member `value` of the same object: `- name: NAME`, `"Key": "NAME",`, `<name>NAME</name>`.
    Listed,
    /// The member `value` or `default` of the block: `variable "NAME" {`, `NAME:`.
    Block,
}

/// What the lines below a name hold.
enum Below {
    /// A value, as it stands on its line.
    Value(Range<usize>),
    Nothing,
    /// It depends on what follows the text.
    Unknown,
}

/// True when what begins with a credential may be the last name of its line.
pub(super) fn may_open(text: &[u8]) -> bool {
    let near = &text[..text.len().min(LONGEST_NAME + 16)];
    let name = near.iter().take_while(|byte| is_name(**byte)).count();
    let rest = &near[name..];
    let rest = match rest.strip_prefix(b"</") {
        Some(element) => &element[element.iter().take_while(|byte| is_name(**byte)).count()..],
        None => rest,
    };
    let marks = rest.iter().take_while(|byte| b"\"':|>+- \t\r,={".contains(byte)).count();
    rest.get(marks) == Some(&b'\n')
}

/// Where the first of the last lines of a text begins that ends with a name whose value may follow the text.
pub(super) fn undecided(text: &[u8]) -> Option<usize> {
    let mut first = None;
    let mut start = text.len();
    for _ in 0..=MOST_BETWEEN {
        let end = start.checked_sub(1)?;
        start = memrchr(b'\n', &text[..end]).map_or(0, |newline| newline + 1);
        let open = opening(&text[start..end]);
        if open.is_some_and(|open| matches!(below(text, start, end, open.form), Below::Unknown)) {
            first = Some(start);
        }
        if start == 0 || text.len() - start >= FAR {
            break;
        }
    }
    first
}

/// The line around a place and the one that holds its value as one line, and where each of its bytes stands, with the
/// end.
pub(super) fn read(text: &[u8], at: usize) -> Option<(Vec<u8>, Vec<usize>)> {
    let start = memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
    let end = at + memchr(b'\n', &text[at..])?;
    let Opening { name, form } = opening(&text[start..end])?;
    let Below::Value(value) = below(text, start, end, form) else { return None };
    let name = start + name.start..start + name.end;
    let joined = [&text[name.clone()], b": ", &text[value.clone()]].concat();
    let places = name.clone().chain([name.end; 2]).chain(value.start..=value.end);
    Some((joined, places.collect()))
}

/// The name that a line, without its line feed, ends with, when its value may stand on a line below.
fn opening(line: &[u8]) -> Option<Opening> {
    let line = line.trim_ascii_end();
    let last = *line.last()?;
    let name = match last {
        b'>' if line.ends_with(b"</name>") || line.ends_with(b"</key>") => listed_element(line),
        b'>' => element(line).or_else(|| scalar(line)),
        b'|' | b'+' | b'-' => scalar(line),
        b'"' | b'\'' => quotes(line).or_else(|| listed(line)),
        b'{' | b':' => block(line),
        _ => listed(line),
    };
    let open = name.filter(|open| open.name.len() <= LONGEST_NAME)?;
    let lower = line[open.name.clone()].to_ascii_lowercase();
    CREDENTIALS.iter().any(|word| memmem::find(&lower, word.as_bytes()).is_some()).then_some(open)
}

/// `<NAME>`.
fn element(line: &[u8]) -> Option<Opening> {
    let inside = line.strip_suffix(b">")?;
    let start = memrchr(b'<', inside)? + 1;
    let is_element = inside[start..].iter().all(|byte| is_name(*byte));
    is_element.then_some(Opening { name: start..inside.len(), form: Form::Next })
}

/// `NAME: |`, `NAME: >-`.
fn scalar(line: &[u8]) -> Option<Opening> {
    let line = line.strip_suffix(b"-").or(line.strip_suffix(b"+")).unwrap_or(line);
    let line = line.strip_suffix(b"|").or(line.strip_suffix(b">"))?.trim_ascii_end();
    Some(Opening { name: last_name(line.strip_suffix(b":")?), form: Form::Next })
}

/// `NAME = """`.
fn quotes(line: &[u8]) -> Option<Opening> {
    let line = line.strip_suffix(b"\"\"\"").or(line.strip_suffix(b"'''"))?.trim_ascii_end();
    let line = line.strip_suffix(b"=").or(line.strip_suffix(b":"))?.trim_ascii_end();
    Some(Opening { name: last_name(line), form: Form::Next })
}

/// `variable "NAME" {`, `"NAME": {`, and indented `NAME:`, which a prompt is not.
fn block(line: &[u8]) -> Option<Opening> {
    let line = Some(line).filter(|line| line.len() <= LONGEST_LINE)?;
    if let Some(mapping) = line.strip_suffix(b":") {
        let name = last_name(mapping);
        let quote = |byte: &u8| matches!(byte, b' ' | b'\t' | b'"' | b'\'');
        let is_alone = name.start > 0 && mapping[..name.start].iter().all(quote);
        return is_alone.then_some(Opening { name, form: Form::Block });
    }
    let line = line.strip_suffix(b"{")?.trim_ascii_end();
    let line = line.strip_suffix(b":").or(line.strip_suffix(b"=")).unwrap_or(line).trim_ascii_end();
    Some(Opening { name: last_name(line), form: Form::Block })
}

/// `- name: NAME`, `"Key": "NAME",`, `name = "NAME"`.
fn listed(line: &[u8]) -> Option<Opening> {
    let line = Some(line).filter(|line| line.len() <= LONGEST_LINE)?;
    let (label, value) = member(line)?;
    let is_label = ["name", "key", "parameterkey", "variable"]
        .iter()
        .any(|name| label.eq_ignore_ascii_case(name.as_bytes()));
    let name = unquoted(line, value);
    let is_name = line[name.clone()].iter().all(|byte| is_name(*byte)) && !name.is_empty();
    (is_label && is_name).then_some(Opening { name, form: Form::Listed })
}

/// `<name>NAME</name>`.
fn listed_element(line: &[u8]) -> Option<Opening> {
    let end = memrchr(b'<', line)?;
    let start = memrchr(b'>', &line[..end])? + 1;
    let is_name = line[start..end].iter().all(|byte| is_name(*byte));
    is_name.then_some(Opening { name: start..end, form: Form::Listed })
}

/// What stands below the line from `start` to `end`, which ends with a name.
fn below(text: &[u8], start: usize, end: usize, form: Form) -> Below {
    let mut at = end + 1;
    for _ in 0..=MOST_BETWEEN {
        if at >= text.len() {
            return Below::Unknown;
        }
        let end = memchr(b'\n', &text[at..]).map_or(text.len(), |newline| at + newline);
        let line = &text[at..end];
        let whole = line.trim_ascii();
        let first = at + line.len() - line.trim_ascii_start().len();
        if form == Form::Next {
            let value = &whole[..memchr(b'<', whole).unwrap_or(whole.len()).min(LONGEST_VALUE)];
            return match value.is_empty() || opening(line).is_some() {
                true => Below::Nothing,
                false => Below::Value(first..first + value.len()),
            };
        }
        // The next of a list, the end of the object, another name.
        let ends = matches!(whole.first(), None | Some(b'-' | b'}' | b']')) || whole.starts_with(b"</");
        if let Some(value) = valued(line, form).filter(|_| !ends) {
            let end = value.end.min(value.start + LONGEST_VALUE);
            return Below::Value(at + value.start..at + end);
        }
        if ends || opening(line).is_some() || end + 1 - start >= FAR {
            return Below::Nothing;
        }
        at = end + 1;
    }
    Below::Nothing
}

/// The value of a line that holds the one of a name above it, with its quotes.
fn valued(line: &[u8], form: Form) -> Option<Range<usize>> {
    let is_value = |label: &[u8]| {
        label.eq_ignore_ascii_case(b"value")
            || label.eq_ignore_ascii_case(b"parametervalue") && form == Form::Listed
            || label.eq_ignore_ascii_case(b"default") && form == Form::Block
    };
    let trimmed = line.trim_ascii();
    if let Some(value) = trimmed.strip_prefix(b"<value>") {
        let start = line.len() - line.trim_ascii_start().len() + trimmed.len() - value.len();
        return Some(start..start + memchr(b'<', value).unwrap_or(value.len()));
    }
    let (label, value) = member(line)?;
    is_value(label).then_some(value).filter(|value| !value.is_empty())
}

/// The name and the value of `name: value`, `"name": "value",`, `- name = value`; the value with its quotes.
fn member(line: &[u8]) -> Option<(&[u8], Range<usize>)> {
    let start = line.iter().take_while(|byte| b" \t-{\"'".contains(byte)).count();
    let end = start + line[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let rest = line[end..].trim_ascii_start();
    let rest = rest.strip_prefix(b"\"").or(rest.strip_prefix(b"'")).unwrap_or(rest).trim_ascii_start();
    let rest = rest.strip_prefix(b":").or(rest.strip_prefix(b"="))?.trim_ascii_start();
    let first = line.len() - rest.len();
    let value = rest.trim_ascii_end();
    let value = value.strip_suffix(b",").unwrap_or(value);
    Some((&line[start..end], first..first + value.len()))
}

/// A value without its quotes.
fn unquoted(line: &[u8], value: Range<usize>) -> Range<usize> {
    match &line[value.clone()] {
        [b'"', .., b'"'] | [b'\'', .., b'\''] => value.start + 1..value.end - 1,
        _ => value,
    }
}

/// The name at the end of a text, in quotes or not.
fn last_name(text: &[u8]) -> Range<usize> {
    let text = text.strip_suffix(b"\"").or(text.strip_suffix(b"'")).unwrap_or(text);
    let name = text.iter().rev().take_while(|byte| is_name(**byte)).count();
    text.len() - name..text.len()
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
            ("password = \"\"\"", Some("password")),
            ("- name: DB_PASSWORD", Some("DB_PASSWORD")),
            ("  \"Key\": \"DbPassword\",", Some("DbPassword")),
            ("  name  = \"API_TOKEN\"", Some("API_TOKEN")),
            ("<name>jdbc.ConnectionPassword</name>", Some("jdbc.ConnectionPassword")),
            ("variable \"db_password\" {", Some("db_password")),
            ("  password:", Some("password")),
            ("- name: the password", None),
            ("description: password", None),
            ("</password>", None),
            ("<password type=\"x\">", None),
            ("<description>", None),
            ("password: value", None),
            ("steps: |", None),
            ("", None),
        ] {
            let found = opening(line.as_bytes()).map(|open| &line[open.name]);
            assert_eq!(found, name, "{line}");
            let word = name.and_then(|name| {
                let (from, lower) = (line.rfind(name)?, name.to_ascii_lowercase());
                CREDENTIALS.iter().find_map(|word| Some(from + lower.find(word)?))
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

    #[test]
    fn a_value_below_is_found_behind_its_name() {
        for (text, joined) in [
            ("- name: PASSWORD\n  value: x\n", Some("PASSWORD: x")),
            ("- name: PASSWORD\n  # A note.\n  value: \"x\"\n", Some("PASSWORD: \"x\"")),
            ("{\n \"Key\": \"password\",\n \"Value\": \"x\"\n}", Some("password: \"x\"")),
            ("- ParameterKey: Password\n  ParameterValue: x\n", Some("Password: x")),
            ("<name>password</name>\n<value>x</value>\n", Some("password: x")),
            ("variable \"password\" {\n  type = string\n  default = \"x\"\n}\n", Some("password: \"x\"")),
            ("  password:\n    default: x\n", Some("password: x")),
            ("password:\n  default: x\n", None),
            ("password = '''\nx'''\n", Some("password: x'''")),
            ("- name: PASSWORD\n  valueFrom:\n    secretKeyRef:\n      name: a\n      value: x\n", None),
            ("- name: PASSWORD\n- value: x\n", None),
            ("variable \"password\" {\n}\ndefault = x\n", None),
            ("- name: PASSWORD\n  default: x\n", None),
        ] {
            let at = text.to_ascii_lowercase().find("pass").unwrap();
            let found = read(text.as_bytes(), at).map(|(joined, _)| String::from_utf8(joined).unwrap());
            let expected = joined.map(str::to_owned);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_name_is_undecided_until_its_value_has_come_or_cannot_come() {
        let place = |text: &str| undecided(text.as_bytes());
        assert_eq!(place("a: b\n- name: PASSWORD\n"), Some(5));
        assert_eq!(place("a: b\n- name: PASSWORD\n  x: y\n"), Some(5));
        assert_eq!(place("a: b\n- name: PASSWORD\n  value: y\n"), None);
        assert_eq!(place("a: b\n- name: PASSWORD\n- x: y\n"), None);
        assert_eq!(place(&format!(" password:\n{}", "  a: b\n".repeat(MOST_BETWEEN + 1))), None);
        assert_eq!(place(&format!(" password:\n  a: {}\n", "b".repeat(FAR))), None);
        assert_eq!((place(""), place("\n"), place("password: |\n")), (None, None, Some(0)));
    }
}
