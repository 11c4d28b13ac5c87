//! Who may vouch for whom: TLS configurations, each built once.
//!
//! Public hosts are checked by the machine's own verifier. Where the machine has no trust store at
//! all (a minimal container), the authorities that Mozilla trusts are used, as built into this
//! program; [`Roots`] says which of the two it is. An exception with an authority of its own is
//! checked against that one alone, and no other host is.
//!
//! Revocation is as good as the machine's verifier: checked on macOS and Windows, not on Linux.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, WantsVerifier};
use types::{Endpoint, Host, HostName, Port};

use crate::config::{ConfigError, Exception};
use crate::error::TlsFault;
use crate::link::Version;
use crate::socket::Opening;

/// Whose word counts for public hosts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Roots {
    /// The machine's trust store.
    Platform,
    /// The list built into this program, because the machine has none.
    BuiltIn,
}

impl Roots {
    /// One word for reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::BuiltIn => "built-in",
        }
    }
}

/// What a peer is offered to speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offer {
    /// HTTP/2 first, HTTP/1.1 otherwise.
    Either,
    /// HTTP/1.1 alone, for what HTTP/2 says in another way: a WebSocket.
    Http1,
}

impl Offer {
    /// What is offered for a request that may open a WebSocket.
    pub(crate) fn of(opening: Option<&Opening>) -> Self {
        if opening.is_some() { Self::Http1 } else { Self::Either }
    }
}

/// The configurations by place.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    /// Built when the first public host is asked for: reading a trust store takes milliseconds.
    public: OnceLock<(Arc<ClientConfig>, Roots)>,
    excepted: HashMap<(HostName, Port), Arc<ClientConfig>>,
}

impl Tls {
    /// Builds the configurations of the exceptions.
    pub(crate) fn new(exceptions: &[Exception]) -> Result<Self, ConfigError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut excepted = HashMap::new();
        for exception in exceptions {
            let Some(pem) = &exception.ca else { continue };
            let roots =
                authorities(pem).ok_or_else(|| ConfigError::Authority { host: exception.host.clone() })?;
            let builder = base(&provider).map_err(|_| ConfigError::Tls)?.with_root_certificates(roots);
            excepted.insert((exception.host.clone(), exception.port), finish(builder));
        }
        Ok(Self { provider, public: OnceLock::new(), excepted })
    }

    /// The configuration for an endpoint, and the name its certificate has to bear.
    pub(crate) fn of(
        &self,
        endpoint: &Endpoint,
        offer: Offer,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsFault> {
        let (mut config, name) = self.of_any(endpoint)?;
        if offer == Offer::Http1 {
            Arc::make_mut(&mut config).alpn_protocols = vec![alpn(Version::Http1).to_vec()];
        }
        Ok((config, name))
    }

    fn of_any(&self, endpoint: &Endpoint) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsFault> {
        let host = match &endpoint.host {
            Host::Addr(addr) => return Ok((self.public()?.0.clone(), ServerName::IpAddress((*addr).into()))),
            Host::Name(host) => host,
        };
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|_| TlsFault::WrongName)?;
        let config = match self.excepted.get(&(host.clone(), endpoint.port)) {
            Some(config) => config,
            None => &self.public()?.0,
        };
        Ok((config.clone(), name))
    }

    /// Whose word counts for public hosts.
    pub(crate) fn roots(&self) -> Result<Roots, TlsFault> {
        Ok(self.public()?.1)
    }

    fn public(&self) -> Result<&(Arc<ClientConfig>, Roots), TlsFault> {
        if let Some(built) = self.public.get() {
            return Ok(built);
        }
        let built = public(&self.provider).map_err(|_| TlsFault::Handshake)?;
        Ok(self.public.get_or_init(|| built))
    }
}

/// Checks against the machine's trust store, or against the built-in list where there is none.
fn public(provider: &Arc<CryptoProvider>) -> Result<(Arc<ClientConfig>, Roots), rustls::Error> {
    let builder = base(provider)?;
    Ok(match rustls_platform_verifier::Verifier::new(provider.clone()) {
        Ok(verifier) => {
            let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
            (finish(builder), Roots::Platform)
        }
        Err(_) => {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            (finish(builder.with_root_certificates(roots)), Roots::BuiltIn)
        }
    })
}

/// TLS 1.3 and 1.2 with the provider's choice of parameters.
fn base(provider: &Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()
}

fn finish(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> Arc<ClientConfig> {
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = [Version::Http2, Version::Http1].map(|version| alpn(version).to_vec()).into();
    Arc::new(config)
}

/// A version as a handshake names it (RFC 7301, 6; RFC 9113, 3.3).
pub(crate) fn alpn(version: Version) -> &'static [u8] {
    match version {
        Version::Http1 => b"http/1.1",
        Version::Http2 => b"h2",
    }
}

/// What the peer chose of what it was offered; HTTP/1.1 where it chose nothing.
pub(crate) fn version(connection: &ClientConnection) -> Version {
    match connection.alpn_protocol() == Some(alpn(Version::Http2)) {
        true => Version::Http2,
        false => Version::Http1,
    }
}

/// All certificates of a PEM text; `None` when there is none or one does not parse.
pub(crate) fn authorities(pem: &[u8]) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then_some(roots)
}

/// Reads what the TLS library says about a failed handshake, without its words.
pub(crate) fn fault(error: &std::io::Error) -> TlsFault {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return TlsFault::Closed;
    };
    let rustls::Error::InvalidCertificate(problem) = error else {
        return TlsFault::Handshake;
    };
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::WrongName
        }
        CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
        CertificateError::Revoked => TlsFault::Revoked,
        _ => TlsFault::BadCertificate,
    }
}
