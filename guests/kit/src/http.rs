//! One request, one response, both held in memory.

use crate::wasi::http::outgoing_handler::handle;
use crate::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
};
use crate::wasi::io::streams::StreamError;

/// The longest response this client reads. The host has a limit of its own.
const MAX_BODY: usize = 1 << 20;
/// How much is moved at a time.
const CHUNK: u64 = 4096;

/// What came back.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers that the host lets a tool see.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Gets a URL.
pub fn get(url: &str) -> Result<Response, String> {
    send(&Method::Get, url, &[], &[])
}

/// Sends one request and reads the whole response.
pub fn send(method: &Method, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, String> {
    let (scheme, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (Scheme::Https, rest),
        (_, Some(rest)) => (Scheme::Http, rest),
        _ => return Err("the address is neither https nor http".into()),
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => (&rest[..at], rest[at..].to_owned()),
        Some(at) => (&rest[..at], format!("/{}", &rest[at..])),
        None => (rest, "/".to_owned()),
    };
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).map_err(|error| format!("header {name}: {error:?}"))?;
    }
    let request = OutgoingRequest::new(fields);
    request.set_method(method).map_err(|()| "the method is not one HTTP knows")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "the scheme does not parse")?;
    request.set_authority(Some(authority)).map_err(|()| "the host does not parse")?;
    request.set_path_with_query(Some(&path)).map_err(|()| "the path does not parse")?;
    let outgoing = request.body().map_err(|()| "the request has no body")?;
    let pending = handle(request, None).map_err(|error| describe(&error))?;
    write_all(outgoing, body)?;
    pending.subscribe().block();
    let answer = pending.get().ok_or("the response did not come")?.map_err(|()| "the response was taken")?;
    read(answer.map_err(|error| describe(&error))?)
}

/// Writes the whole body in pieces that the host accepts.
fn write_all(outgoing: OutgoingBody, body: &[u8]) -> Result<(), String> {
    let stream = outgoing.write().map_err(|()| "the request body is taken")?;
    for piece in body.chunks(CHUNK as usize) {
        stream.blocking_write_and_flush(piece).map_err(|_| "the request body was not accepted")?;
    }
    drop(stream);
    OutgoingBody::finish(outgoing, None).map_err(|error| describe(&error))
}

/// Reads the head and then the body to its end.
fn read(incoming: IncomingResponse) -> Result<Response, String> {
    let status = incoming.status();
    let headers = incoming.headers().entries();
    let content = incoming.consume().map_err(|()| "the response body is taken")?;
    let stream = content.stream().map_err(|()| "the response body is taken")?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(bytes) if body.len() + bytes.len() > MAX_BODY => return Err("the response is longer than 1 MiB".into()),
            Ok(bytes) => body.extend_from_slice(&bytes),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => return Err("the response broke off".into()),
        }
    }
    drop(stream);
    drop(IncomingBody::finish(content));
    Ok(Response { status, headers, body })
}

/// What the host says of a request that did not happen.
fn describe(error: &ErrorCode) -> String {
    match error {
        ErrorCode::InternalError(Some(sentence)) => sentence.clone(),
        other => format!("the request failed: {other:?}"),
    }
}
