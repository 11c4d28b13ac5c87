//! The answer to a connection from a sandbox that has no network: a refusal that a program and a model understand.
//!
//! HTTP requests get status 403 with a JSON object; TLS gets the alert `access_denied` (RFC 8446, section 6.2). Not one byte
//! goes any further.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use types::{Endpoint, Refusal};

use crate::limits::MAX_REQUEST_HEAD;

/// How long a client may take to say what it wants. It is a process on the same machine.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// The first byte of a TLS record that holds a handshake.
const HANDSHAKE: u8 = 22;

/// A fatal alert `access_denied` (49) in a record of TLS 1.2, as every version reads it before a key is agreed on.
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// What a connection asked for, as far as it was understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The method; absent for TLS, which was not listened to.
    pub method: Option<Method>,
    /// Where it wanted to go; absent where that does not parse.
    pub endpoint: Option<Endpoint>,
}

/// Refuses everything on one connection. `dialled` is the endpoint that the connection itself was opened to, if it was
/// not opened to a proxy. `refuse` records each request and gives the refusal that is answered.
pub async fn refuse_all<S, F>(stream: S, dialled: Option<Endpoint>, refuse: impl Fn(Asked) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    F: Future<Output = Refusal>,
{
    // Whatever goes wrong from here on, the connection is closed and nothing was forwarded.
    match dialled {
        Some(endpoint) if endpoint.port.get() == 443 => refuse_tls(stream, endpoint, refuse).await,
        dialled => refuse_http(stream, dialled, refuse).await,
    }
}

async fn refuse_tls<S, F>(mut stream: S, endpoint: Endpoint, refuse: impl Fn(Asked) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Refusal>,
{
    let first = tokio::time::timeout(HEAD_TIME, stream.read_u8()).await;
    refuse(Asked { method: None, endpoint: Some(endpoint) }).await;
    if let Ok(Ok(HANDSHAKE)) = first {
        let _ = stream.write_all(&ACCESS_DENIED).await;
        let _ = stream.shutdown().await;
    }
}

async fn refuse_http<S, F>(stream: S, dialled: Option<Endpoint>, refuse: impl Fn(Asked) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    F: Future<Output = Refusal>,
{
    let answer = |request: Request<Incoming>| {
        let endpoint = dialled.clone().or_else(|| endpoint(request.method(), request.uri()));
        let asked = Asked { method: Some(request.method().clone()), endpoint };
        let refused = refuse(asked.clone());
        async move { Ok::<_, Infallible>(response(&asked, &refused.await)) }
    };
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_REQUEST_HEAD)
        .keep_alive(false)
        // A client that has said all it has to say still hears the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}

/// Where a request to a proxy wants to go: the authority of CONNECT, or that of an absolute form.
fn endpoint(method: &Method, uri: &Uri) -> Option<Endpoint> {
    let authority = uri.authority()?;
    let usual = match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    };
    let port = authority.port_u16().or(usual.filter(|_| *method != Method::CONNECT));
    Endpoint::parse(authority.host(), Some(port?)).ok()
}

fn response(asked: &Asked, refusal: &Refusal) -> Response<Full<Bytes>> {
    let told = json!({
        "refused": refusal.rule.id,
        "layer": refusal.rule.layer.as_str(),
        "asked": {
            "method": asked.method.as_ref().map(Method::as_str),
            "endpoint": asked.endpoint.as_ref().map(Endpoint::to_string),
        },
        "reason": refusal.rule.says,
        "id": refusal.id.to_string(),
    });
    let mut response = Response::new(Full::new(Bytes::from(format!("{told}\n"))));
    *response.status_mut() = StatusCode::FORBIDDEN;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use types::{Layer, Rule};

    use super::*;

    static RULE: Rule = Rule { id: "test.closed", layer: Layer::Container, says: "there is no network" };

    async fn exchange(dialled: Option<&str>, sent: &[u8]) -> (Vec<u8>, Vec<Asked>) {
        let (inside, host) = tokio::io::duplex(4096);
        let asked = std::sync::Mutex::new(Vec::new());
        let dialled = dialled.map(|text| {
            let (host, port) = text.rsplit_once(':').unwrap();
            Endpoint::parse(host, port.parse().ok()).unwrap()
        });
        let refuse = |what| {
            asked.lock().unwrap().push(what);
            async { Refusal::new(&RULE, "") }
        };
        let mut answer = Vec::new();
        let client = async {
            let (mut read, mut write) = tokio::io::split(inside);
            let _ = write.write_all(sent).await;
            let _ = write.shutdown().await;
            let _ = read.read_to_end(&mut answer).await;
        };
        tokio::join!(client, refuse_all(host, dialled, refuse));
        (answer, asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn http_is_refused_in_json_with_what_was_asked() {
        for (dialled, sent, method, endpoint) in [
            (
                None,
                "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
                Method::CONNECT,
                "api.example.com:443",
            ),
            (
                None,
                "GET http://API.example.com/x HTTP/1.1\r\nHost: x\r\n\r\n",
                Method::GET,
                "api.example.com:80",
            ),
            (Some("a.example:80"), "POST /x HTTP/1.1\r\nHost: evil\r\n\r\n", Method::POST, "a.example:80"),
        ] {
            let (answer, asked) = exchange(dialled, sent.as_bytes()).await;
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
            let told: serde_json::Value =
                serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
            assert_eq!(told["refused"], RULE.id);
            assert_eq!(told["asked"]["endpoint"], endpoint);
            assert_eq!(asked[0].method, Some(method));
            assert_eq!(asked[0].endpoint.as_ref().map(Endpoint::to_string).as_deref(), Some(endpoint));
        }
    }

    #[tokio::test]
    async fn tls_is_refused_with_an_alert_and_noise_is_closed() {
        let (answer, asked) = exchange(Some("a.example:443"), &[HANDSHAKE, 3, 1, 0, 200, 1]).await;
        assert_eq!(answer, ACCESS_DENIED);
        assert_eq!((asked.len(), asked[0].method.clone()), (1, None));
        let (answer, _) = exchange(Some("a.example:443"), b"SSH-2.0-x\r\n").await;
        assert_eq!(answer, b"");
        let (answer, asked) = exchange(None, b"\x05\x01\x00").await;
        assert!(!answer.starts_with(b"HTTP/1.1 2") && asked.is_empty());
    }
}
