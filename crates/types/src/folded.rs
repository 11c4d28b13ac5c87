//! Paths and names as servers read them that are less exact than we are.
//!
//! Of `/Transfer`, `/transfer;x=1`, `/transfer.`, `/transfer%20` and `/transfer.json` some servers make `/transfer`: those
//! that keep files without regard to case, cut path parameters (Java servlets 4.0, 3.1), drop dots and spaces at the end
//! of a name (Windows), or take what follows a dot for the format of the answer (Rails, Spring). Which of them a server
//! does is not to be known from here. So what allows goes by the path as it is written, and what asks for more goes by
//! every reading as well.
//!
//! The same with names. Programs behind a gateway see `X-Api-Key`, `X_Api_Key` and `X.Api.Key` as one variable (CGI, RFC 3875,
//! 4.1.18), and PHP makes `api_key` of the parameters `api.key`, `api key` and `api[key`.

use std::borrow::Cow;

use http::HeaderName;

use crate::CanonicalPath;

/// A header's name as programs behind a gateway read it: CGI, WSGI, Rack and PHP see every header as a variable, in which
/// `-`, `_` and `.` are the same.
pub fn header(name: &HeaderName) -> Cow<'_, str> {
    let stays = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match name.as_str() {
        name if name.chars().all(stays) => Cow::Borrowed(name),
        name => Cow::Owned(name.replace(|c| !stays(c), "-")),
    }
}

/// A parameter's name, as it is written, as some server reads it: unescaped, to the first NUL, without space around it, in
/// lower case, with `_` for whatever is neither letter nor digit, and none of that at its end (`key[]`).
pub fn parameter(written: &[u8]) -> String {
    let unescaped = unescaped(written, true);
    let name = unescaped.split('\0').next().unwrap_or_default();
    let is_space = |c: char| c.is_whitespace() || c.is_control();
    let name = name.trim_matches(is_space).to_lowercase();
    let name = name.replace(|c: char| !c.is_alphanumeric(), "_");
    name.trim_end_matches('_').to_owned()
}

/// The parameters of a query or a form, split wherever any server splits: the folded name of each, and its value as it is
/// written.
pub fn parameters(form: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    form.split(|byte| matches!(byte, b'&' | b';')).map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (parameter(&pair[..end]), pair.get(end + 1..).unwrap_or_default())
    })
}

/// The segments of a path as some server compares them: unescaped, without parameters, in lower case, without spaces
/// around them or dots and spaces at their end, and none of them empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FoldedPath(Box<[Box<str>]>);

impl FoldedPath {
    /// Folds a path.
    pub(crate) fn of(path: &CanonicalPath) -> Self {
        let segments = path.as_str().split('/').map(folded);
        Self(segments.filter(|segment| !segment.is_empty()).collect())
    }

    /// How many segments it has.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// True when the path lies at or under the prefix.
    pub fn is_under(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// The same for a server that looks at the beginning of each segment alone, as far as the word goes: at `transfer` in
    /// `transfer.json` or `transfer,1`, not in `transfers`, `transfer-2` or `transfer_2`.
    pub fn begins_under(&self, prefix: &Self) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let begins =
            |own: &str, word: &str| own.strip_prefix(word).is_some_and(|rest| !rest.starts_with(is_word));
        let mut segments = self.0.iter().zip(&prefix.0);
        self.depth() >= prefix.depth() && segments.all(|(own, word)| begins(own, word))
    }
}

fn folded(segment: &str) -> Box<str> {
    let whole = unescaped(segment.as_bytes(), false);
    let name = whole.split(';').next().unwrap_or_default();
    name.trim_end_matches(|c: char| c == '.' || c.is_whitespace()).trim_start().to_lowercase().into()
}

/// A text without its escapes; what is no escape stays.
fn unescaped(text: &[u8], plus_is_space: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digit = |byte: u8| (byte as char).to_digit(16);
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                out.push((digit(*high).unwrap_or(0) * 16 + digit(*low).unwrap_or(0)) as u8);
                rest = after;
            }
            (b'+', _) if plus_is_space => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(path: &str) -> FoldedPath {
        CanonicalPath::parse(path).unwrap().folded()
    }

    #[test]
    fn p01_spellings_of_one_path_are_folded_to_one() {
        for spelt in [
            "/transfer;x=1",
            "/transfer;",
            "/transfer%3Bx=1",
            "/Transfer",
            "/TRANSFER/",
            "/%54ransfer",
            "/transfer%20",
            "/%20transfer",
            "/transfer.",
            "/transfer..%20.",
            "/transfer%E3%80%80",
        ] {
            assert_eq!(fold(spelt), fold("/transfer"), "{spelt}");
        }
        assert_eq!(fold("/%C3%89;a=b/c;d"), fold("/é/C"));
        for other in ["/transfers", "/trans", "/", "/x/transfer", "/transfer/x"] {
            assert_ne!(fold(other), fold("/transfer"), "{other}");
        }
    }

    #[test]
    fn p01_a_folded_path_lies_under_its_prefix_on_whole_words() {
        assert!(fold("/V1/x").is_under(&fold("/v1")) && fold("/v1").is_under(&fold("/v1/")));
        assert!(fold("/x").is_under(&fold("/")) && !fold("/v10").is_under(&fold("/v1")));
        for spelt in ["/transfer", "/transfer.json", "/Transfer.JSON/x", "/transfer,1", "/transfer:$DATA"] {
            assert!(fold(spelt).begins_under(&fold("/transfer")), "{spelt}");
        }
        for other in ["/transfers", "/transfer-2", "/transfer_2", "/transferé", "/", "/x.transfer"] {
            assert!(!fold(other).begins_under(&fold("/transfer")), "{other}");
        }
    }

    #[test]
    fn p02_p04_names_are_folded_as_servers_fold_them() {
        let spelt = |name: &'static str| header(&HeaderName::from_static(name)).into_owned();
        for name in ["x-api-key", "x_api_key", "x.api.key", "x-api.key"] {
            assert_eq!(spelt(name), "x-api-key");
        }
        assert_ne!(spelt("x-apikey"), "x-api-key");
        for name in [
            "_method",
            "_Method",
            "%5Fmethod",
            ".method",
            "%20_method",
            "+_method",
            "_method%00x",
            "_method[]",
        ] {
            assert_eq!(parameter(name.as_bytes()), "_method", "{name}");
        }
        for name in ["method", "_methods", "_met_hod", "x_method", "%_method"] {
            assert_ne!(parameter(name.as_bytes()), "_method", "{name}");
        }
        for name in ["api.key", "api%20key", "api+key", "api[key", "API-KEY", "api_key"] {
            assert_eq!(parameter(name.as_bytes()), "api_key", "{name}");
        }
        let form: Vec<_> = parameters(b"a.b=c=d;%61&=&\xff=1").collect();
        let form: Vec<(&str, &[u8])> = form.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(form, [("a_b", &b"c=d"[..]), ("a", b""), ("", b""), ("", b"1")]);
    }
}
