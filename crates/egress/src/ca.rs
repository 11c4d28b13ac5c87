//! A certificate authority that lives in memory and vouches for names, for as long as it is held.
//!
//! A proxy ends its clients' TLS with one, and the demo's weather service and the tests use them. Its key is never
//! written anywhere.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use policy::Reach;
use policy::reach::HostPattern;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use types::Host;

/// How long an authority and its certificates are valid. Longer than any run of a demo, shorter than
/// anyone's memory of it.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Clocks of two containers may differ by this much.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// What its certificate calls it.
const NAME: &str = "IronClaw local authority";

/// Hosts that a limited authority lists. Clients compare a certificate with each, and read the list at each handshake.
const MOST_HOSTS: usize = 256;

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
        Self::limited_to(None)
    }

    /// One whose own certificate says that it vouches for the hosts of these rules alone (RFC 5280, 4.2.1.10), so that it
    /// is worth nothing elsewhere to whoever trusts it. Over more than 256 hosts it is not limited.
    pub fn over(reach: &Reach) -> Result<Self, AuthorityError> {
        Self::limited_to(constraints(reach))
    }

    /// Gathers what keys are made from. The library measures the clock's jitter for it when it is first asked in a process,
    /// which takes tens of milliseconds: who will make keys asks early, on a thread that may wait, beside other work.
    pub fn gather_entropy() {
        // The key itself is nobody's.
        let _ = KeyPair::generate();
    }

    fn limited_to(limits: Option<NameConstraints>) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(|_| AuthorityError)?;
        let mut params = params(NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.name_constraints = limits;
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

/// True for the certificate of an authority, this one or an earlier, as PEM text and nothing else.
pub fn is_authority(pem: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(pem) else { return false };
    let is_one = text.matches("-----BEGIN ").count() == 1 && text.starts_with("-----BEGIN CERTIFICATE-----");
    let certificate = CertificateDer::from_pem_slice(pem);
    let names = |certificate: CertificateDer<'_>| {
        // Subject and issuer: it vouches for itself.
        certificate.windows(NAME.len()).filter(|bytes| *bytes == NAME.as_bytes()).count() == 2
    };
    is_one && certificate.is_ok_and(names)
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

/// The hosts of the rules, and nothing of a kind of name that no rule has: a kind that is not mentioned would be free.
fn constraints(reach: &Reach) -> Option<NameConstraints> {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for rule in reach.rules() {
        match &rule.host {
            HostPattern::Exact(Host::Name(name)) | HostPattern::Under(name) => {
                _ = names.insert(name.as_str())
            }
            HostPattern::Exact(Host::Addr(address)) => _ = addresses.insert(*address),
        }
    }
    if names.len() + addresses.len() > MOST_HOSTS {
        return None;
    }
    let mut excluded = Vec::new();
    if names.is_empty() {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    if !addresses.iter().any(IpAddr::is_ipv4) {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)));
    }
    if !addresses.iter().any(IpAddr::is_ipv6) {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)));
    }
    let whole =
        |address: &IpAddr| CidrSubnet::from_addr_prefix(*address, if address.is_ipv4() { 32 } else { 128 });
    let names = names.into_iter().map(|name| GeneralSubtree::DnsName(name.to_owned()));
    let addresses = addresses.iter().map(whole).map(GeneralSubtree::IpAddress);
    Some(NameConstraints {
        permitted_subtrees: names.chain(addresses).collect(),
        excluded_subtrees: excluded,
    })
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn vouches(authority: &Authority, host: &str) -> bool {
        let identity = authority.issue(&Host::parse(host).unwrap()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        verifier.verify_server_cert(&identity.chain[0], &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn t18_an_authority_vouches_for_the_hosts_of_its_rules_alone() {
        let rules =
            |words: &[&str]| Authority::over(&Reach::of_words(words.iter().copied()).unwrap()).unwrap();
        let all = ["a.example", "b.wild.example.com", "other.example", "93.184.216.34", "1.1.1.1"];
        for (words, vouched) in [
            (&[][..], &[][..]),
            (&["a.example"], &["a.example"]),
            (&["a.example", "*.wild.example.com:8443/x"], &["a.example", "b.wild.example.com"]),
            (&["93.184.216.34"], &["93.184.216.34"]),
            (&["a.example", "93.184.216.34"], &["a.example", "93.184.216.34"]),
        ] {
            let authority = rules(words);
            let found: Vec<&str> = all.into_iter().filter(|host| vouches(&authority, host)).collect();
            assert_eq!(found, vouched, "{words:?}");
        }
        assert!(all.into_iter().all(|host| vouches(&Authority::new().unwrap(), host)));
    }
}
