//! New tokens for those that end: the vault asks a real token endpoint over TLS, and what it answers is seen by
//! nobody else.

use egress::SendError;
use egress::loopback::{Loopback, reply};
use http::{Request, StatusCode};
use policy::Turn;
use secrets::{Captured, Plain, Vault};
use types::{
    Caller, Field, Grant, HostName, Injection, Kind, PathPrefix, Port, Refusal, SecretName, Trace, Verdict,
};

use crate::world::{Setup, World, host};

/// A token that no other test has.
fn token(what: &str) -> String {
    format!("{what}-{}", types::Digest::of(types::CallId::new().as_bytes()))
}

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

/// What the owner grants to the vault: one secret, one place.
fn to_the_vault(host: &HostName, secret: &str, inject: &str) -> Grant {
    let (tool, digest) = Caller::Vault.identity();
    Grant {
        tool,
        digest,
        secret: name(secret),
        host: host.clone(),
        port: Port::new(443).unwrap(),
        methods: vec![http::Method::POST],
        path: PathPrefix::parse("/token").unwrap(),
        inject: Injection::parse(inject).unwrap(),
        expires_ms: None,
        max_uses: None,
    }
}

/// Puts a token in use that has ended, and its refresh token.
async fn with_an_ended_token(vault: &Vault, host: &HostName, refresh: &str) {
    let ended = audit::now_ms() - 1;
    let old = Plain::new(token("old").into_bytes());
    vault.put_until(&name("KEY"), old, Some(1), Some(ended)).await.unwrap();
    vault.put(&name("REFRESH"), Plain::new(refresh.as_bytes().to_vec()), None).await.unwrap();
    vault.grant(&to_the_vault(host, "REFRESH", "refresh:KEY:client.7")).await.unwrap();
}

async fn renew(world: &World, vault: &Vault) -> Result<Captured, SendError> {
    let due = vault.renewals(std::time::Duration::ZERO).await.unwrap().remove(0);
    let turn = Turn::begin(Trace::off());
    let permit = world.policy.decide_renewal(&turn, &due.grant, &due.claim).await?;
    world.egress.renew(permit, &Trace::off()).await
}

fn is_asked(request: &Request<bytes::Bytes>) -> bool {
    request.uri().path() == "/token"
}

fn refused<T>(outcome: Result<T, SendError>) -> Refusal {
    match outcome {
        Err(SendError::Refused(refusal)) => refusal,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn a_token_that_ended_is_replaced_by_one_that_only_the_vault_saw() {
    let name_of_host = host();
    let (old, new, next) = (token("refresh"), token("access"), token("rotated"));
    let answer = format!(
        r#"{{"access_token":"{new}","token_type":"bearer","expires_in":3600,"refresh_token":"{next}"}}"#
    );
    let upstream = Loopback::https(&types::Host::Name(name_of_host.clone()), move |request| {
        reply(StatusCode::OK, if is_asked(&request) { answer.clone() } else { "fine".to_owned() })
    })
    .await
    .unwrap();
    let world = World::around(&upstream, Setup::with_secret(&name_of_host, "bearer")).await;
    let vault = world.vault().await;
    with_an_ended_token(&vault, &name_of_host, &old).await;
    let client = token("client");
    vault.put(&name("CLIENT"), Plain::new(client.clone().into_bytes()), None).await.unwrap();
    vault.grant(&to_the_vault(&name_of_host, "CLIENT", "basic:client.7")).await.unwrap();

    let ended = refused(world.get("/now").await);
    assert_eq!(ended.rule.id, "vault.secret-expired");
    assert!(ended.widen.unwrap().starts_with("ironclaw secret refresh KEY"));
    assert!(upstream.requests().is_empty(), "an ended token was sent");

    let captured = renew(&world, &vault).await.unwrap();
    assert_eq!((captured.secret.as_str(), captured.refresh), ("KEY", Some(name("REFRESH"))));
    let left = captured.expires_ms.unwrap() - audit::now_ms();
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
    let asked = upstream.requests().remove(0);
    assert_eq!(asked.method(), "POST");
    let expected = format!("grant_type=refresh_token&refresh_token={old}&client_id=client.7");
    assert_eq!(asked.body(), expected.as_bytes());
    assert_eq!(asked.headers()["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(asked.headers()["content-length"], expected.len().to_string());
    use base64::Engine as _;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("client.7:{client}"));
    assert_eq!(asked.headers()["authorization"], format!("Basic {basic}"));

    // The tool sends the new one, and nobody sends it anywhere else.
    assert_eq!(world.get("/now").await.unwrap().status, StatusCode::OK);
    assert_eq!(upstream.requests()[1].headers()["authorization"], format!("Bearer {new}"));
    for value in [&new, &next] {
        let leaked = egress::Message { body: value.clone().into(), ..Default::default() };
        assert!(world.refused("POST", "/leak", leaked).await.starts_with("leaks."), "{value}");
    }
    assert!(vault.renewals(std::time::Duration::ZERO).await.unwrap().is_empty());
    assert_eq!(vault.check().await.unwrap(), 5, "KEY and REFRESH twice, CLIENT once");
    drop(vault);
    for entry in world.close().await {
        for (field, text) in entry.record.fields() {
            let is_in = |value: &&String| text.contains(value.as_str());
            assert!(![&old, &new, &next, &client].iter().any(is_in), "record {}: {field}", entry.seq);
        }
    }
}

#[tokio::test]
async fn of_several_who_ask_for_one_token_one_does() {
    let name_of_host = host();
    let answer = format!(r#"{{"access_token":"{}","expires_in":3600}}"#, token("access"));
    let upstream = Loopback::https(&types::Host::Name(name_of_host.clone()), move |_| {
        reply(StatusCode::OK, answer.clone())
    })
    .await
    .unwrap();
    let world = World::around(&upstream, Setup::with_secret(&name_of_host, "bearer")).await;
    let vault = world.vault().await;
    with_an_ended_token(&vault, &name_of_host, &token("refresh")).await;
    let due = vault.renewals(std::time::Duration::ZERO).await.unwrap().remove(0);
    let turn = Turn::begin(Trace::off());
    let mut permits = Vec::new();
    for _ in 0..8 {
        match world.policy.decide_renewal(&turn, &due.grant, &due.claim).await {
            Ok(permit) => permits.push(permit),
            Err(refusal) => assert_eq!(refusal.rule.id, "policy.renewal-taken"),
        }
    }
    assert_eq!(permits.len(), 1);
    assert!(vault.renewals(std::time::Duration::ZERO).await.unwrap().is_empty(), "asked a moment ago");
    assert!(vault.renewal(&name("KEY")).await.unwrap().is_none());
    world.egress.renew(permits.remove(0), &Trace::off()).await.unwrap();
    assert_eq!(upstream.requests().len(), 1);
    assert!(vault.renewal(&name("OTHER")).await.is_err());
}

#[tokio::test]
async fn an_answer_without_a_token_changes_nothing_and_is_not_repeated() {
    let hidden = token("hidden");
    let long = format!(r#"{{"access_token":"{hidden}{}"}}"#, "x".repeat(70_000));
    let cases = [
        (400, r#"{"error":"invalid_grant","error_description":"HIDDEN"}"#.to_owned(), "vault.not-renewed"),
        (302, String::new(), "vault.not-renewed"),
        (200, "<html>HIDDEN</html>".to_owned(), "vault.not-renewed"),
        (200, r#"{"access_token":"a b\r\nX: HIDDEN"}"#.to_owned(), "vault.not-renewed"),
        (200, long, "too long"),
    ];
    for (status, body, rule) in cases {
        let (name_of_host, refresh) = (host(), token("refresh"));
        let body = body.replace("HIDDEN", &hidden);
        let upstream = Loopback::https(&types::Host::Name(name_of_host.clone()), move |_| {
            let mut answer = reply(StatusCode::from_u16(status).unwrap(), body.clone());
            answer.headers_mut().insert("location", "https://elsewhere.example/token".parse().unwrap());
            answer
        })
        .await
        .unwrap();
        let world = World::around(&upstream, Setup::with_secret(&name_of_host, "bearer")).await;
        let vault = world.vault().await;
        with_an_ended_token(&vault, &name_of_host, &refresh).await;
        let error = renew(&world, &vault).await.unwrap_err();
        match &error {
            SendError::Refused(refusal) => assert_eq!(refusal.rule.id, rule),
            SendError::Failed(_) => assert_eq!(rule, "too long"),
        }
        assert!(!format!("{error:?} {error}").contains(&hidden));
        assert_eq!(upstream.requests().len(), 1, "a redirect was followed");
        assert_eq!(refused(world.get("/now").await).rule.id, "vault.secret-expired");
        drop(vault);
        let entries = world.close().await;
        let settled = entries.iter().any(|entry| {
            entry.record.kind == Kind::Settle
                && matches!(entry.record.verdict, Verdict::Block | Verdict::Failed)
        });
        assert!(settled);
        let all = entries.iter().flat_map(|entry| entry.record.fields());
        assert!(!all.clone().any(|(_, text)| text.contains(&hidden) || text.contains(&refresh)));
        assert!(all.filter(|(field, _)| *field == Field::Target).any(|(_, text)| text.ends_with("/token")));
    }
}

#[tokio::test]
async fn nobody_but_the_vault_sends_a_refresh_token() {
    let name_of_host = host();
    let upstream =
        Loopback::https(&types::Host::Name(name_of_host.clone()), |_| reply(StatusCode::OK, "fine"))
            .await
            .unwrap();
    let world = World::around(&upstream, Setup::with_secret(&name_of_host, "bearer")).await;
    let vault = world.vault().await;
    vault.put(&name("REFRESH"), Plain::new(token("refresh").into_bytes()), None).await.unwrap();
    // Not granted to the vault, not granted for this host, and taken back.
    let turn = Turn::begin(Trace::off());
    let grant = to_the_vault(&name_of_host, "REFRESH", "refresh:KEY:client.7");
    let decide = async |grant: &Grant, claim: &str| {
        world.policy.decide_renewal(&turn, grant, claim).await.err().map(|refusal| refusal.rule.id)
    };
    assert_eq!(decide(&grant, "renewal/local/KEY/1").await, Some("policy.secret-not-granted"));
    let id = vault.grant(&grant).await.unwrap();
    assert_eq!(
        decide(&to_the_vault(&host(), "REFRESH", "refresh:KEY:client.7"), "renewal/local/KEY/2").await,
        Some("policy.secret-not-granted")
    );
    assert_eq!(decide(&grant, "renewal/local/KEY/3").await, None);
    vault.revoke(&id).await.unwrap();
    assert_eq!(decide(&grant, "renewal/local/KEY/4").await, Some("policy.secret-not-granted"));
    // A permit of any other kind is no renewal.
    let permit = world.permit("POST", "/token").await;
    let error = refused(world.egress.renew(permit, &Trace::off()).await);
    assert_eq!(error.rule.id, "vault.no-place");
    assert!(upstream.requests().is_empty());
}
