//! Decisions about the requests of a permitted call, and about requests to the model.

use policy::manifest::{HostRule, SecretWish};
use policy::{ModelRule, Settings};
use safety::credential_detect::Carried;
use types::{Caller, Digest, Grant, HostName, Injection, PathPrefix, Port, Scheme, SecretName, Target};

use crate::world::{World, grant, turn};

fn target(method: &str, url: &str) -> Target {
    Target::parse(method, url).unwrap()
}

async fn digest(world: &World) -> Digest {
    *world.permitted(&turn(), "reader", r#"{"q":"x"}"#).await.scope().digest()
}

#[tokio::test]
async fn a_request_is_permitted_with_the_secrets_that_were_granted_for_it() {
    let world = World::new(Settings::default()).await;
    let permit = world.permitted(&turn(), "reader", r#"{"q":"x"}"#).await;
    let scope = permit.scope().clone();
    world.grant(grant(*scope.digest(), "/v1")).await;
    let request = world
        .policy
        .decide_request(&scope, target("GET", "https://API.example/v1/a?b=c"), &[])
        .await
        .unwrap();
    assert_eq!(request.effect().secrets, [grant(*scope.digest(), "/v1").secret_use()]);
    assert_eq!(request.effect().caller, scope.caller());
}

#[tokio::test]
async fn what_no_grant_covers_is_refused() {
    for (name, change) in [
        ("other code", (|g| g.digest = Digest::of(b"other")) as fn(&mut Grant)),
        ("other host", |g| g.host = HostName::parse("other.example").unwrap()),
        ("other port", |g| g.port = Port::new(8443).unwrap()),
        ("other path", |g| g.path = PathPrefix::parse("/v1/b").unwrap()),
        ("other method", |g| g.methods = vec![http::Method::PUT]),
        ("other place", |g| g.inject = Injection::Query { name: "key".to_owned() }),
        ("other secret", |g| g.secret = SecretName::parse("OTHER").unwrap()),
        ("expired", |g| g.expires_ms = Some(1)),
    ] {
        let world = World::new(Settings::default()).await;
        let mut loose = grant(digest(&world).await, "/v1");
        change(&mut loose);
        world.grant(loose).await;
        let permit = world.permitted(&turn(), "reader", r#"{"q":"x"}"#).await;
        let refusal =
            world.policy.decide_request(permit.scope(), target("GET", "https://api.example/v1/a"), &[]).await;
        let refusal = refusal.expect_err(name);
        assert_eq!(refusal.rule.id, "policy.secret-not-granted", "{name}");
        assert!(
            refusal
                .widen
                .unwrap()
                .starts_with("ironclaw secret grant KEY --tool reader --host api.example:443 --method GET"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_tool_brings_no_credential_beside_the_one_that_was_granted() {
    let world = World::new(Settings::default()).await;
    let permit = world.permitted(&turn(), "reader", r#"{"q":"x"}"#).await;
    let scope = permit.scope().clone();
    world.grant(grant(*scope.digest(), "/v1")).await;
    let own = [Carried::Query("token")];
    let to = || target("GET", "https://api.example/v1/a?token=v");
    let refusal = world.policy.decide_request(&scope, to(), &own).await.unwrap_err();
    assert_eq!(refusal.rule.id, "policy.cedar-forbids");
    assert!(refusal.to_string().contains("default.no-credential-beside-a-granted-one"), "{refusal}");
    // The same for what only its body shows; the permit is used up by the refusal.
    let permit = world.policy.decide_request(&scope, to(), &[]).await.unwrap();
    let permit = world.policy.admit_body(&scope, permit, &[]).await.unwrap();
    let refusal = world.policy.admit_body(&scope, permit, &[Carried::Body("password")]).await.unwrap_err();
    assert_eq!(refusal.rule.id, "policy.cedar-forbids");
    // A tool without a granted secret may bring what it likes.
    let permit = world.permitted(&turn(), "writer", "{}").await;
    let to = target("POST", "https://post.example/");
    assert!(world.policy.decide_request(permit.scope(), to, &own).await.is_ok());
}

#[tokio::test]
async fn w25_requests_are_counted() {
    let world = World::new(Settings::default()).await;
    let permit = world.permitted(&turn(), "writer", "{}").await;
    let scope = permit.scope();
    let limit = scope.limits().requests;
    for _ in 0..limit {
        drop(world.policy.decide_request(scope, target("POST", "https://post.example/"), &[]).await.unwrap());
    }
    let refusal =
        world.policy.decide_request(scope, target("POST", "https://post.example/"), &[]).await.unwrap_err();
    assert_eq!(refusal.rule.id, "policy.requests");
}

#[tokio::test]
async fn the_model_is_reached_only_where_it_was_configured_and_granted() {
    let key = SecretName::parse("MODEL_KEY").unwrap();
    let host = HostName::parse("model.example").unwrap();
    let wish = SecretWish { secret: key.clone(), host: host.clone(), inject: Injection::Bearer };
    let rule = HostRule {
        host: host.clone(),
        port: Port::new(443).unwrap(),
        scheme: Scheme::Https,
        methods: vec![http::Method::POST],
        path: PathPrefix::parse("/v1/chat/completions").unwrap(),
    };
    let model = ModelRule { rule: rule.clone(), secret: Some(wish) };
    let budget = policy::Budget { tokens: Some(100), ..Default::default() };
    let world = World::new(Settings { model: Some(model), budget, ..Settings::default() }).await;
    let decide = async |url: &str, tokens| {
        let decided = world.policy.decide_model(&turn(), target("POST", url), tokens, 0).await;
        decided.map(|(permit, _)| permit.effect().secrets.len()).map_err(|refusal| refusal.rule.id)
    };
    let url = "https://model.example/v1/chat/completions";
    assert_eq!(decide("https://evil.example/v1/chat/completions", 1).await, Err("policy.host-not-listed"));
    assert_eq!(decide("https://model.example/v1/files", 1).await, Err("policy.host-not-listed"));
    assert_eq!(decide(url, 1).await, Err("policy.secret-not-granted"));
    let (tool, digest) = Caller::Agent.identity();
    let methods = rule.methods.clone();
    let granted =
        Grant { tool, digest, secret: key, host, methods, path: rule.path, ..grant(Digest::of(b""), "/") };
    world.grant(granted).await;
    assert_eq!(decide(url, 60).await, Ok(1));
    assert_eq!(decide(url, 60).await, Err("policy.budget"));
    assert_eq!(decide(url, 40).await, Ok(1));
}
