//! An upstream that gives a body back while it still arrives, in either version of HTTP.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use egress::Config;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;
use types::HostName;

use crate::listener::Listener;

type Echo = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

pub(crate) struct EchoServer {
    pub(crate) config: Config,
    /// The head of each request.
    pub(crate) heads: Arc<Mutex<Vec<HeaderMap>>>,
    task: JoinHandle<()>,
}

impl EchoServer {
    /// Gives back what it gets, with the trailers that `trailers` makes of the request's headers.
    pub(crate) async fn start(
        name: &HostName,
        version: Version,
        trailers: fn(&HeaderMap) -> HeaderMap,
    ) -> Self {
        let protocol = if version == Version::HTTP_2 { "h2" } else { "http/1.1" };
        let (listener, config) = Listener::of(name, &[protocol]).await;
        let heads = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let seen = heads.clone();
        let task = tokio::spawn(async move {
            while let Some(stream) = listener.next().await {
                let (seen, stream) = (seen.clone(), TokioIo::new(stream));
                let service = service_fn(move |request| {
                    let answer = echo(request, trailers, &seen);
                    async { Ok::<_, hyper::Error>(answer) }
                });
                tokio::spawn(async move {
                    let _ = match version {
                        Version::HTTP_2 => {
                            http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
                        }
                        _ => http1::Builder::new().serve_connection(stream, service).await,
                    };
                });
            }
        });
        Self { config, heads, task }
    }
}

fn echo(
    request: Request<Incoming>,
    trailers: fn(&HeaderMap) -> HeaderMap,
    seen: &Mutex<Vec<HeaderMap>>,
) -> Echo {
    let (parts, body) = request.into_parts();
    seen.lock().unwrap().push(parts.headers.clone());
    let media = parts.headers.get("content-type").cloned();
    let trailers = trailers(&parts.headers);
    let mut answer = Response::new(match parts.uri.path() {
        // A message that says that it is compressed.
        "/compressed" => http_body_util::Full::new(Bytes::from_static(&[1, 0, 0, 0, 1, 7]))
            .map_err(|never| match never {})
            .boxed_unsync(),
        _ => body.with_trailers(async { Some(Ok(trailers)) }).boxed_unsync(),
    });
    answer.headers_mut().extend(media.map(|media| (http::header::CONTENT_TYPE, media)));
    answer
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
