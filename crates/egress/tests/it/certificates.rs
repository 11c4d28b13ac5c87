//! Peers that cannot prove who they are (attacks T15, T17).

use std::time::{Duration, SystemTime};

use egress::ca::{Authority, Identity};
use egress::error::TlsFault;
use egress::loopback::{Loopback, reply};
use egress::{Config, Exception, Failure, SendError};
use http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use types::{Field, Host, HostName, Port, Verdict};

use crate::world::{Setup, World, host};

/// An authority and a leaf whose time is `from` to `to` hours from now.
#[allow(clippy::disallowed_methods, reason = "a certificate states from when to when it is valid")]
fn dated(name: &HostName, from: i64, to: i64) -> (Identity, Vec<u8>) {
    let at = |hours: i64| {
        let span = Duration::from_secs(hours.unsigned_abs() * 3600);
        if hours < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
    };
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let pem = authority.self_signed(&key).unwrap().pem().into_bytes();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec![name.to_string()]).unwrap();
    (leaf.not_before, leaf.not_after) = (at(from).into(), at(to).into());
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    (Identity { chain: vec![leaf.der().clone()], key }, pem)
}

async fn fault(identity: Identity, ca: Option<Vec<u8>>, name: &HostName) -> TlsFault {
    let upstream = Loopback::https_as(identity, |_| reply(StatusCode::OK, "")).await.unwrap();
    let exception = Exception { ca, ..upstream.exception(name, Port::new(443).unwrap()) };
    let config = Config { exceptions: vec![exception], ..Config::default() };
    let world = World::new(Setup::with_secret(name, "bearer"), config).await;
    let error = world.get("/").await.unwrap_err();
    assert_eq!(upstream.requests().len(), 0, "no request may follow a failed handshake");
    let settled = world.settled().await;
    assert_eq!(settled[0].verdict, Verdict::Failed);
    assert_eq!(settled[0].field(Field::Reason), Some(error.to_string().as_str()));
    match error {
        SendError::Failed(Failure::Tls(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn t15_expired_and_future_certificates() {
    let name = host();
    let (identity, ca) = dated(&name, -48, -24);
    assert_eq!(fault(identity, Some(ca), &name).await, TlsFault::Expired);
    let (identity, ca) = dated(&name, 24, 48);
    assert_eq!(fault(identity, Some(ca), &name).await, TlsFault::NotYetValid);
}

#[tokio::test]
async fn t15_a_certificate_for_another_name() {
    let name = host();
    let authority = Authority::new().unwrap();
    let identity = authority.issue(&Host::Name(host())).unwrap();
    let ca = authority.pem().as_bytes().to_vec();
    assert_eq!(fault(identity, Some(ca), &name).await, TlsFault::WrongName);
}

#[tokio::test]
async fn t15_an_authority_nobody_knows() {
    let name = host();
    let identity = Authority::new().unwrap().issue(&Host::Name(name.clone())).unwrap();
    assert_eq!(fault(identity, None, &name).await, TlsFault::UnknownIssuer);
    let identity = Authority::new().unwrap().issue(&Host::Name(name.clone())).unwrap();
    let another = Authority::new().unwrap().pem().as_bytes().to_vec();
    let fault = fault(identity, Some(another), &name).await;
    assert!(matches!(fault, TlsFault::UnknownIssuer | TlsFault::BadCertificate), "{fault}");
}

#[tokio::test]
async fn t15_a_peer_without_tls() {
    let name = host();
    let upstream = Loopback::http(|_| reply(StatusCode::OK, "clear")).await.unwrap();
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    assert!(matches!(
        world.get("/").await,
        Err(SendError::Failed(Failure::Tls(TlsFault::Handshake | TlsFault::Closed)))
    ));
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn t17_clear_text_is_for_requests_without_secrets() {
    let name = host();
    let upstream = Loopback::http(|_| reply(StatusCode::OK, "clear")).await.unwrap();
    let setup = Setup { clear_text: true, port: 80, ..Setup::open(&name) };
    let world = World::around(&upstream, setup).await;
    assert_eq!(world.get("/").await.unwrap().bytes, b"clear");

    let world = World::around(&upstream, Setup { port: 80, ..Setup::with_secret(&name, "bearer") }).await;
    let refusal = world.decide("GET", &format!("http://{name}/")).await.unwrap_err();
    assert_eq!(refusal.rule.id, "policy.clear-text");
    assert_eq!(upstream.connections(), 1);
}
