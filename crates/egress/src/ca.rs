//! A certificate authority that lives in memory and vouches for names, for as long as it is held.
//!
//! The demo's weather service and the tests use it. Its key is never written anywhere.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use types::Host;

/// How long an authority and its certificates are valid. Longer than any run of a demo, shorter than
/// anyone's memory of it.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Clocks of two containers may differ by this much.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// The authority's key could not be made or did not sign.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the certificate authority could not be made")]
pub struct AuthorityError;

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate with its key, as a TLS server presents it.
pub struct Identity {
    /// The certificate, then those that lead to the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Makes a P-256 key and a certificate for it, valid for a day.
    pub fn new() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(|_| AuthorityError)?;
        let mut params = params("IronClaw local authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|_| AuthorityError)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's own certificate, to be trusted by whoever should trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a key and vouches that it is that host's.
    pub fn issue(&self, host: &Host) -> Result<Identity, AuthorityError> {
        let key = KeyPair::generate().map_err(|_| AuthorityError)?;
        let mut params = params("IronClaw local service");
        params.subject_alt_names = vec![match host {
            Host::Name(name) => {
                SanType::DnsName(name.as_str().to_owned().try_into().map_err(|_| AuthorityError)?)
            }
            Host::Addr(addr) => SanType::IpAddress(*addr),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer).map_err(|_| AuthorityError)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Identity { chain: vec![leaf.der().clone(), self.certificate.clone()], key })
    }
}

/// Without the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

fn params(name: &str) -> CertificateParams {
    let now = UNIX_EPOCH + Duration::from_millis(audit::now_ms());
    let mut params = CertificateParams::default();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + LIFETIME).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
