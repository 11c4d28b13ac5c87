//! An upstream that answers with exact bytes, for what no HTTP library would send.

use std::net::Ipv4Addr;
use std::sync::Arc;

use egress::ca::Authority;
use egress::{Config, Exception};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use types::{Host, HostName, Port};

pub(crate) struct Raw {
    pub(crate) config: Config,
    task: JoinHandle<()>,
}

impl Raw {
    /// Answers each connection with what `answer` makes of the request's head, then closes it.
    pub(crate) async fn start(
        host: &HostName,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new().unwrap();
        let identity = authority.issue(&Host::Name(host.clone())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain, identity.key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let exception = Exception {
            host: host.clone(),
            port: Port::new(443).unwrap(),
            address: listener.local_addr().unwrap(),
            ca: Some(authority.pem().as_bytes().to_vec()),
            containers: false,
        };
        let config = Config { exceptions: vec![exception], ..Config::default() };
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let _ = stream.write_all(&answer(&String::from_utf8_lossy(&head))).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { config, task }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The value after `Authorization: Bearer`.
pub(crate) fn bearer(head: &str) -> String {
    let line = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
    line.expect("the request carries its secret").to_owned()
}
