//! Where an upstream of a test listens, over TLS.

use std::net::Ipv4Addr;
use std::sync::Arc;

use egress::ca::Authority;
use egress::{Config, Exception};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use types::{Host, HostName, Port};

pub(crate) struct Listener {
    acceptor: TlsAcceptor,
    listener: TcpListener,
}

impl Listener {
    /// Listens as that host and speaks these protocols (RFC 7301); with the settings by which it is reached.
    pub(crate) async fn of(name: &HostName, protocols: &[&str]) -> (Self, Config) {
        let authority = Authority::new().unwrap();
        let identity = authority.issue(&Host::Name(name.clone())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain, identity.key)
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let exception = Exception {
            host: name.clone(),
            port: Port::new(443).unwrap(),
            address: listener.local_addr().unwrap(),
            ca: Some(authority.pem().as_bytes().to_vec()),
            containers: false,
        };
        (Self { acceptor, listener }, Config { exceptions: vec![exception], ..Config::default() })
    }

    /// The next client whose handshake succeeds.
    pub(crate) async fn next(&self) -> Option<TlsStream<TcpStream>> {
        loop {
            let (stream, _) = self.listener.accept().await.ok()?;
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return Some(stream);
            }
        }
    }
}
