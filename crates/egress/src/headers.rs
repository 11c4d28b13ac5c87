//! What a request carries when it leaves, and what a response carries when it arrives.
//!
//! The sender of a request has no word in framing, identity and credentials: those headers are ours
//! to set. What merely repeats what we set anyway is dropped; what would change the host, the path,
//! the method, the protocol or the credential that was judged is refused.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode, Uri, response};
use types::folded::header as folded;
use types::limits::{Bytes as Limit, MAX_REQUEST_BODY};
use types::{Caller, Injection, Outbound, Refusal, Rule, Target};

use crate::payload::Payload;
use crate::{limits, rules};

/// What a tool, a program or the agent wants to send to the target of its permit.
#[derive(Debug, Default)]
pub struct Message {
    /// The headers. The target's host, the framing and credentials are not among them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Payload,
}

/// How each message of a body is compressed by itself: in gRPC, and in the streams of Connect.
const MESSAGE_ENCODINGS: [&str; 2] = ["grpc-encoding", "connect-content-encoding"];

/// Headers that frame a message or negotiate a connection. We do both ourselves; a sender's library
/// sets them out of habit.
const FRAMING: [HeaderName; 10] = [
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    // What is not named is not used: messages come back as they are.
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("connect-accept-encoding"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
];

/// Headers that prove who the sender is. The vault alone fills these.
const CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("x-authorization"),
];

/// Headers by which servers, frameworks and proxies in front of them read another host, path, method
/// or protocol than the request line says.
const ROUTING: [HeaderName; 30] = [
    header::UPGRADE,
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("alt-used"),
    HeaderName::from_static("cf-connecting-ip"),
    HeaderName::from_static("client-ip"),
    HeaderName::from_static("front-end-https"),
    HeaderName::from_static("http2-settings"),
    // A program started as CGI reads `HTTP_PROXY` from it: httpoxy, CVE-2016-5385.
    HeaderName::from_static("proxy"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("x-cluster-client-ip"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-host-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
    // Next.js takes the request for one of its own and skips authorisation: CVE-2025-29927.
    HeaderName::from_static("x-middleware-subrequest"),
    HeaderName::from_static("x-ms-original-url"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-original-method"),
    HeaderName::from_static("x-original-path"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-override-url"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-script-name"),
    HeaderName::from_static("x-url-scheme"),
    HeaderName::from_static("x-wap-profile"),
];

/// Builds the request of a permit: its target, the sender's headers as far as they are the sender's
/// to set, its body.
pub(crate) fn outgoing(effect: &Outbound, message: Message) -> Result<Request<Payload>, Refusal> {
    let Message { headers, body } = message;
    if matches!(&body, Payload::Whole(bytes) if bytes.len() > MAX_REQUEST_BODY.as_usize()) {
        return Err(Refusal::new(&rules::TOO_LARGE, format!("a body of more than {MAX_REQUEST_BODY}")));
    }
    if headers.len() > limits::MAX_HEADERS {
        return Err(Refusal::new(&rules::TOO_LARGE, format!("more than {} headers", limits::MAX_HEADERS)));
    }
    let mut request = Request::new(body);
    *request.method_mut() = effect.target.method.clone();
    *request.uri_mut() = uri(&effect.target)?;
    let own = request.headers_mut();
    for (name, value) in &headers {
        if admit(effect, name, value)? {
            own.append(name, value.clone());
        }
    }
    own.insert(header::HOST, host(&effect.target)?);
    // What arrives is scanned; what is not compressed is scanned soonest.
    own.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    own.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("ironclaw"));
    if length_of_head(&request) > limits::MAX_REQUEST_HEAD {
        let most = Limit(limits::MAX_REQUEST_HEAD as u64);
        return Err(Refusal::new(&rules::TOO_LARGE, format!("a header of more than {most}")));
    }
    Ok(request)
}

/// True for a header that is sent on, false for one that is dropped.
fn admit(effect: &Outbound, name: &HeaderName, value: &HeaderValue) -> Result<bool, Refusal> {
    let refuse =
        |rule: &'static Rule| Err(Refusal::new(rule, format!("the header {name}; nothing was sent")));
    let spelt = folded(name);
    let is_one_of = |list: &[HeaderName]| list.iter().any(|known| known == &*spelt);
    if *name == header::HOST {
        return match value.as_bytes() == effect.target.host_header().as_bytes() {
            true => Ok(false),
            false => refuse(&rules::HOST),
        };
    }
    if !may_bring(effect, name) && is_one_of(&CREDENTIALS) || is_place_of_secret(effect, &spelt) {
        return refuse(&rules::OWN_CREDENTIAL);
    }
    if routes(&spelt) {
        return refuse(&rules::ROUTING_HEADER);
    }
    if spelt == header::CONTENT_ENCODING.as_str() || MESSAGE_ENCODINGS.contains(&&*spelt) {
        // A program's body is decoded to be scanned, and sent as it is; which encodings can be is for the payload to say.
        let can_be = *name == header::CONTENT_ENCODING && matches!(effect.caller, Caller::Client { .. });
        return match value.as_bytes().eq_ignore_ascii_case(b"identity") {
            true => Ok(false),
            false if can_be => Ok(true),
            false => refuse(&rules::ENCODED_BODY),
        };
    }
    // Who reads trailers says so with this one word, which HTTP/2 keeps (RFC 9113, 8.2.2) and gRPC asks for.
    if *name == header::TE {
        return Ok(value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    }
    // Two parts of an answer could each hide a part of an echoed secret from the scanner, or what a token is called from
    // its value.
    if effect.is_watched() && asks_for_part(&spelt) {
        return match spelt.ends_with("source-range") {
            // Of what a server is to copy; without it another thing would be copied.
            true => refuse(&rules::PARTIAL),
            false => Ok(false),
        };
    }
    Ok(!is_one_of(&FRAMING))
}

/// True for a header that asks for a part of something: `Range` under every name that some server gives it
/// (`Request-Range` in Apache, `x-ms-range` in Azure), and a difference to something else (RFC 3229). What
/// `Content-Range` says is about the body that a request brings.
fn asks_for_part(spelt: &str) -> bool {
    let is_range = |word| ["range", "ranges", "byterange", "byteranges"].contains(&word);
    spelt == "a-im" || !spelt.ends_with("content-range") && spelt.split('-').any(is_range)
}

/// True for an answer that says that it is a part of one (RFC 9110, 14 and 15.3.7; RFC 3229, 10.4.1).
pub(crate) fn is_part(answer: &response::Parts) -> bool {
    let has = |name: HeaderName, begins: &[&str]| {
        let values = answer.headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii_start());
        let mut values = values.map(<[u8]>::to_ascii_lowercase);
        values.any(|value| begins.iter().any(|begins| value.starts_with(begins.as_bytes())))
    };
    // Rows and pages are counted by it, too, and are whole, also where the status says that they are a part (PostgREST).
    let is_page =
        answer.headers.contains_key(header::CONTENT_RANGE) && !has(header::CONTENT_RANGE, &["bytes"]);
    answer.status == StatusCode::IM_USED
        || answer.status == StatusCode::PARTIAL_CONTENT && !is_page
        || has(header::CONTENT_RANGE, &["bytes"])
        || has(header::CONTENT_TYPE, &["multipart/byteranges", "multipart/x-byteranges"])
}

/// Refuses headers by which a gateway would take a request for another one, whatever its effect will be.
pub(crate) fn refuse_routing(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.keys().find(|name| routes(&folded(name))) {
        None => Ok(()),
        Some(name) => {
            Err(Refusal::new(&rules::ROUTING_HEADER, format!("the header {name}; nothing was sent")))
        }
    }
}

fn routes(spelt: &str) -> bool {
    let family = ["x-forwarded", "x-envoy-", "proxy-"];
    ROUTING.iter().any(|known| known == spelt) || family.iter().any(|family| spelt.starts_with(family))
}

/// Makes one header of the cookies that HTTP/2 lets a client send apart, as whoever reads another version needs them (RFC
/// 9113, 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// True for a credential that is a program's own, toward a place that is not reached with one of the owner's. Whether
/// the place is one is for policy to say.
fn may_bring(effect: &Outbound, name: &HeaderName) -> bool {
    matches!(effect.caller, Caller::Client { .. })
        && effect.secrets.is_empty()
        && [header::AUTHORIZATION, header::COOKIE].contains(name)
}

/// True when a secret of this request will stand in the header of that folded name.
fn is_place_of_secret(effect: &Outbound, spelt: &str) -> bool {
    let is_place = |inject: &Injection| matches!(inject, Injection::Header { name } if folded(name) == spelt);
    effect.secrets.iter().any(|used| is_place(&used.inject))
}

/// The absolute form; the wire sends its path and query.
fn uri(target: &Target) -> Result<Uri, Refusal> {
    let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
    Uri::builder()
        .scheme(target.scheme.as_str())
        .authority(target.host_header())
        .path_and_query(format!("{}{query}", target.path))
        .build()
        .map_err(|_| Refusal::new(&rules::TOO_LARGE, "the address does not fit a request"))
}

fn host(target: &Target) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(&target.host_header()).map_err(|_| Refusal::new(&rules::HOST, ""))
}

/// The head of a request as text for the scanner: everything that leaves but the body.
pub(crate) fn head_of_request<B>(request: &Request<B>) -> Vec<u8> {
    let uri = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut head = Vec::with_capacity(length_of_head(request));
    for piece in [request.method().as_str(), " ", uri, "\r\n"] {
        head.extend_from_slice(piece.as_bytes());
    }
    append(&mut head, request.headers());
    head
}

/// How long that text is.
fn length_of_head<B>(request: &Request<B>) -> usize {
    let uri = request.uri().path_and_query().map_or(1, |path| path.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    request.method().as_str().len() + uri + 3 + fields.sum::<usize>()
}

/// Header or trailer fields as text for the scanner.
pub(crate) fn fields(headers: &HeaderMap) -> Vec<u8> {
    let mut text = Vec::with_capacity(1024);
    append(&mut text, headers);
    text
}

fn append(text: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
}

/// Headers of a response that are about our connection, about bytes that are no longer as they were,
/// or that would make a tool keep state between calls.
const NOT_PASSED_ON: [HeaderName; 15] = [
    header::ALT_SVC,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("set-cookie2"),
];

/// Keeps of a response's trailers what its reader may see.
pub(crate) fn trailing(mut trailers: HeaderMap) -> HeaderMap {
    NOT_PASSED_ON.iter().for_each(|name| drop(trailers.remove(name)));
    trailers
}

/// True for a body of messages behind prefixes: gRPC, gRPC-Web but where it is text, and the streams of Connect.
pub(crate) fn is_in_messages(headers: &HeaderMap) -> bool {
    let media = media_type(headers);
    let kind = media.split(|byte| *byte == b'+').next().unwrap_or_default();
    let own = [&b"application/grpc"[..], b"application/grpc-web", b"application/connect"];
    own.iter().any(|own| kind.eq_ignore_ascii_case(own))
}

/// True for a stream of events (WHATWG HTML, server-sent events).
pub(crate) fn is_events(headers: &HeaderMap) -> bool {
    media_type(headers).eq_ignore_ascii_case(b"text/event-stream")
}

/// The media type without its parameters.
fn media_type(headers: &HeaderMap) -> &[u8] {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Keeps of a response's head what its reader may see: status and headers, no reason phrase. A program that brings its
/// own credentials keeps its own cookies.
pub(crate) fn incoming<B>(effect: &Outbound, parts: response::Parts, body: B) -> http::Response<B> {
    let mut response = http::Response::new(body);
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    let keeps = |name: &HeaderName| *name == header::SET_COOKIE && may_bring(effect, &header::COOKIE);
    for name in NOT_PASSED_ON.iter().filter(|name| !keeps(name)) {
        response.headers_mut().remove(name);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use types::{CallId, Digest, SecretName, SecretUse, Tokens, ToolName};

    use super::*;

    fn effect(secrets: &[Injection]) -> Outbound {
        let secret = SecretName::parse("KEY").unwrap();
        let used = |inject: &Injection| SecretUse { secret: secret.clone(), inject: inject.clone() };
        Outbound {
            caller: Caller::Tool {
                tool: ToolName::parse("weather").unwrap(),
                digest: Digest::of(b"x"),
                call: CallId::new(),
            },
            target: Target::parse("POST", "https://api.example:8443/v1/x?q=a%20b").unwrap(),
            secrets: secrets.iter().map(used).collect(),
            bound: !secrets.is_empty(),
            response: Limit::kib(1),
            time: Duration::from_secs(1),
            tokens: Tokens::PassOn,
        }
    }

    fn send(
        secrets: &[Injection],
        headers: &[(&'static str, &str)],
    ) -> Result<Request<Payload>, &'static str> {
        let mut message = Message::default();
        for (name, value) in headers {
            message.headers.append(*name, value.parse().unwrap());
        }
        outgoing(&effect(secrets), message).map_err(|refusal| refusal.rule.id)
    }

    #[test]
    fn the_length_of_a_head_is_that_of_its_text() {
        for headers in [&[][..], &[("x-a", "b"), ("x-a", "")]] {
            let request = send(&[], headers).unwrap();
            assert_eq!(length_of_head(&request), head_of_request(&request).len());
        }
        assert_eq!(length_of_head(&Request::new(())), head_of_request(&Request::new(())).len());
    }

    #[test]
    fn the_request_is_what_was_permitted() {
        let request =
            send(&[], &[("x-custom", "1"), ("x-custom", "2"), ("content-type", "text/plain")]).unwrap();
        assert_eq!(request.uri(), "https://api.example:8443/v1/x?q=a%20b");
        assert_eq!(request.headers()["host"], "api.example:8443");
        assert_eq!(request.headers()["accept-encoding"], "identity");
        assert_eq!(request.headers().get_all("x-custom").iter().count(), 2);
    }

    #[test]
    fn w20_framing_is_not_the_senders() {
        let headers = [
            ("host", "api.example:8443"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("grpc-accept-encoding", "gzip"),
            ("connect-accept-encoding", "gzip"),
            ("grpc-encoding", "identity"),
            ("trailer", "x"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip"),
            ("content-encoding", "identity"),
        ];
        let request = send(&[], &headers).unwrap();
        let mut left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept-encoding", "host", "user-agent"]);
        assert_eq!(request.headers()["accept-encoding"], "identity");
    }

    #[test]
    fn w20_c07_credentials_are_not_the_senders() {
        for name in ["authorization", "cookie", "proxy-authorization", "x-authorization"] {
            assert_eq!(send(&[], &[(name, "x")]).unwrap_err(), "egress.own-credential", "{name}");
        }
        let place = Injection::Header { name: HeaderName::from_static("x-api-key") };
        assert_eq!(
            send(std::slice::from_ref(&place), &[("x-api-key", "own")]).unwrap_err(),
            "egress.own-credential"
        );
        assert!(send(&[], &[("x-api-key", "own")]).is_ok());
        for name in ["x_api_key", "x.api_key"] {
            let sent = send(std::slice::from_ref(&place), &[(name, "own")]);
            assert_eq!(sent.unwrap_err(), "egress.own-credential", "{name}");
        }
    }

    #[test]
    fn m08_t02_nothing_changes_host_path_or_method() {
        assert_eq!(send(&[], &[("host", "evil.example")]).unwrap_err(), "egress.host");
        for name in [
            "x-original-url",
            "x-rewrite-url",
            "x-forwarded-host",
            "x-forwarded-for",
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "forwarded",
            "upgrade",
            "proxy-connection",
            "x-original-host",
            // As a program behind a gateway reads it, and its kin.
            "x_forwarded_host",
            "x_original_url",
            "x.http.method.override",
            "x-forwarded",
            "x-envoy-original-path",
            "proxy",
            "proxy_connection",
        ] {
            assert_eq!(send(&[], &[(name, "x")]).unwrap_err(), "egress.routing-header", "{name}");
        }
        assert_eq!(send(&[], &[("content_encoding", "gzip")]).unwrap_err(), "egress.encoded-body");
        let framed =
            send(&[], &[("content_length", "9"), ("transfer_encoding", "chunked"), ("api_key", "x")]);
        let framed = framed.unwrap();
        assert!(!framed.headers().contains_key("content_length"));
        assert!(!framed.headers().contains_key("transfer_encoding"));
        assert!(framed.headers().contains_key("api_key"));
    }

    #[test]
    fn c06_c11_nothing_hides_from_the_scanner() {
        for name in ["content-encoding", "content_encoding", "grpc-encoding", "connect-content-encoding"] {
            assert_eq!(send(&[], &[(name, "gzip")]).unwrap_err(), "egress.encoded-body", "{name}");
        }
    }

    #[test]
    fn c11_no_part_of_an_answer_is_asked_for_where_a_key_may_be_in_it() {
        for name in [
            "range",
            "if-range",
            "request-range",
            "x-ms-range",
            "x-ms-range-get-content-md5",
            "x-goog-range",
            "x_ms_range",
            "byterange",
            "a-im",
        ] {
            let ranged = [(name, "bytes=0-9")];
            assert!(send(&[], &ranged).unwrap().headers().contains_key(name), "{name}");
            let watched = send(&[Injection::Bearer], &ranged).unwrap();
            assert!(!watched.headers().contains_key(name), "{name}");
        }
        for name in ["content-range", "x-upload-content-range", "x-orange-id"] {
            let brought = send(&[Injection::Bearer], &[(name, "bytes 0-9/20")]).unwrap();
            assert!(brought.headers().contains_key(name), "{name}");
        }
        for name in ["x-amz-copy-source-range", "x-ms-source-range"] {
            let copies = send(&[Injection::Bearer], &[(name, "bytes=0-9")]);
            assert_eq!(copies.unwrap_err(), "egress.partial", "{name}");
        }
    }

    #[test]
    fn c11_a_part_of_an_answer_is_known_by_what_it_says() {
        let is_part = |status: u16, name: &str, value: &str| {
            let answer = http::Response::builder().status(status).header(name, value).body(()).unwrap();
            super::is_part(&answer.into_parts().0)
        };
        for (status, name, value) in [
            (206, "x-any", "x"),
            (226, "im", "vcdiff"),
            (200, "content-range", "Bytes 0-9/20"),
            (200, "content-type", "Multipart/Byteranges; boundary=x"),
            (200, "content-type", "multipart/x-byteranges"),
        ] {
            assert!(is_part(status, name, value), "{status} {name}: {value}");
        }
        for (name, value) in [("content-range", "0-24/*"), ("content-type", "multipart/mixed; boundary=x")] {
            assert!(!is_part(200, name, value), "{name}: {value}");
        }
    }

    #[test]
    fn t07_cookies_that_were_sent_apart_are_one_header() {
        let mut headers = HeaderMap::new();
        join_cookies(&mut headers);
        assert!(headers.is_empty());
        for crumb in ["a=1", "b=2", "c=3; d=4"] {
            headers.append(header::COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        let joined: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(joined, ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn a_request_has_bounds() {
        let body = Payload::Whole(vec![0; MAX_REQUEST_BODY.as_usize() + 1].into());
        let large = Message { headers: HeaderMap::new(), body };
        assert_eq!(outgoing(&effect(&[]), large).unwrap_err().rule.id, "egress.too-large");
        let mut many = Message::default();
        for index in 0..=limits::MAX_HEADERS {
            many.headers.append("x-many", index.into());
        }
        assert_eq!(outgoing(&effect(&[]), many).unwrap_err().rule.id, "egress.too-large");
        let long = "x".repeat(limits::MAX_REQUEST_HEAD);
        assert_eq!(send(&[], &[("x-long", &long)]).unwrap_err(), "egress.too-large");
    }

    #[test]
    fn c15_a_response_keeps_only_what_is_for_its_reader() {
        let mut head = http::Response::builder().status(302).header("location", "https://b.example/");
        for name in &NOT_PASSED_ON {
            head = head.header(name, "x");
        }
        let (parts, ()) = head.body(()).unwrap().into_parts();
        let response = incoming(&effect(&[]), parts, ());
        assert_eq!(response.status(), 302);
        assert_eq!(response.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["location"]);
        assert!(response.extensions().is_empty());
    }
}
