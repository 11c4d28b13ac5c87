//! A `CONNECT`, read from the wire as the proxy reads it: refused, or for one host in its canonical form.
#![no_main]

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use egress::proxy::identity::of_connect;
use http::{Method, Request, Response};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt as _;
use types::Endpoint;

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> =
        RefCell::new(tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
}

fuzz_target!(|data: &[u8]| {
    let found = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        if request.method() == Method::CONNECT {
            found.lock().expect("a lock").push((request.uri().clone(), request.headers().clone()));
        }
        async { Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new())) }
    });
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(data.len() + 4096);
            client.write_all(data).await.expect("room for all of it");
            client.shutdown().await.expect("an end");
            // What the connection comes to is the sender's affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
        });
    });
    for (uri, headers) in found.lock().expect("a lock").drain(..) {
        let Ok(endpoint) = of_connect(&uri, &headers) else { continue };
        let text = endpoint.to_string();
        assert_eq!(Endpoint::parse(&text, None).as_ref(), Ok(&endpoint), "{uri}");
        assert_eq!(text, text.to_ascii_lowercase());
        for host in headers.get_all(http::header::HOST) {
            let host = Endpoint::parse(host.to_str().expect("text"), Some(endpoint.port.get()));
            assert_eq!(host.as_ref(), Ok(&endpoint), "{uri}");
        }
    }
});
