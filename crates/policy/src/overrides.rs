//! Requests that ask to be taken for one of another method (attack P02): frameworks read it from a parameter, where no rule
//! on methods sees it. As a header it never leaves.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use safety::credential_detect::has_parameter;
use safety::validator::json;

/// The parameter of Rails, Laravel, Symfony and their kind, and the header's names where they are read as one.
const NAMES: [&str; 3] = ["_method", "x-http-method-override", "x-http-method"];

/// True when the query, or what was read of the body, holds such a parameter: of a form in either encoding, or a member of
/// a JSON object.
pub(crate) fn asks_for_another(query: Option<&str>, headers: &HeaderMap, body: Option<&Bytes>) -> bool {
    let holds = |text: &str| NAMES.iter().any(|name| has_parameter(text, name));
    query.is_some_and(holds) || body.is_some_and(|body| in_body(headers, body))
}

fn in_body(headers: &HeaderMap, body: &[u8]) -> bool {
    let media = headers.get(CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    let media = media.unwrap_or_default();
    let is_named = |name: &str| NAMES.iter().any(|known| name.eq_ignore_ascii_case(known));
    if media.starts_with(b"multipart/") {
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        return NAMES.iter().any(|name| {
            text.contains(&format!("name=\"{name}\"")) || text.contains(&format!("name={name}"))
        });
    }
    if json::is_object(body) {
        return json::members(body).any(|member| member.depth == 1 && is_named(&member.name));
    }
    std::str::from_utf8(body).is_ok_and(|text| NAMES.iter().any(|name| has_parameter(text, name)))
}
