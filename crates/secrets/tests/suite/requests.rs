//! From a grant to an armed request: what is covered is injected exactly once, everything else is
//! refused and recorded.

use http::Request;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrets::{Armed, Leases, inject};
use store::{Mutation, SecretRow};
use types::{Grant, Kind, PathPrefix, Record, Refusal, Tenant, Verdict};

use crate::fixture::{SECRET, World, name, plain, random_value, request_of};

const URL: &str = "https://api.weather.example/v1/now?city=x";

/// Leases and injects for one URL.
async fn send(world: &World, url: &str) -> Result<Request<&'static str>, Refusal> {
    let permit = world.permit("GET", url).await;
    let request = request_of(&permit);
    let leases = world.vault.lease(&permit, &world.safety).await?;
    let (armed, settlement) = inject(leases, permit, request)?;
    settlement.settle(Verdict::Done, []).await.unwrap();
    Ok(disarm(armed))
}

fn disarm<B>(armed: Armed<B>) -> Request<B> {
    #[expect(clippy::disallowed_methods, reason = "these tests look at what would reach the wire")]
    armed.disarm_for_the_wire()
}

fn rule<T>(outcome: Result<T, Refusal>) -> &'static str {
    outcome.err().map(|refusal| refusal.rule.id).unwrap_or("not refused")
}

#[tokio::test]
async fn the_secret_stands_where_the_grant_says() {
    for place in ["bearer", "header:x-api-key", "header:authorization"] {
        let world = World::new(place).await;
        let request = send(&world, URL).await.unwrap();
        let header =
            if place == "header:x-api-key" { HeaderName::from_static("x-api-key") } else { AUTHORIZATION };
        let expected =
            if place == "bearer" { format!("Bearer {}", world.value) } else { world.value.clone() };
        let all: Vec<&HeaderValue> = request.headers().get_all(&header).iter().collect();
        assert_eq!(all.len(), 1);
        assert!(all[0] == expected.as_str() && all[0].is_sensitive());
        assert_eq!(request.uri(), URL);
        assert_eq!(*request.body(), "body");
    }
    // RFC 7617, section 2, with a value that is long enough.
    let world = World::with("basic:Aladdin", "open sesame 4711".to_owned()).await;
    let request = send(&world, URL).await.unwrap();
    assert_eq!(request.headers()[AUTHORIZATION], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZSA0NzEx");
}

#[tokio::test]
async fn the_secret_stands_in_query_or_path_without_leaving_its_place() {
    let value = "k-7&x=1#/ü%41+w.Z";
    let encoded = "k-7%26x%3D1%23%2F%C3%BC%2541%2Bw.Z";
    let world = World::with("query:appid", value.to_owned()).await;
    assert_eq!(send(&world, URL).await.unwrap().uri().to_string(), format!("{URL}&appid={encoded}"));
    let bare = "https://api.weather.example/v1";
    assert_eq!(send(&world, bare).await.unwrap().uri().to_string(), format!("{bare}?appid={encoded}"));

    let world = World::with("path", "123456:ABC-def_1@x".to_owned()).await;
    let url = format!("https://api.weather.example/v1/bot{{{SECRET}}}/now?q=1")
        .replace('{', "%7B")
        .replace('}', "%7D");
    let sent = send(&world, &url).await.unwrap();
    assert_eq!(sent.uri().path(), "/v1/bot123456%3AABC-def_1%40x/now");
    assert_eq!(sent.uri().query(), Some("q=1"));
    assert_eq!(rule(send(&world, URL).await), "vault.no-place");
    let twice = url.replace("/now", &format!("/%7B{SECRET}%7D"));
    assert_eq!(rule(send(&world, &twice).await), "vault.no-place");

    for splits in ["../../../admin1", "a/b/c/d/e9", "abc%2fdef1", "abc;def;ghi1", "abcd?efgh1"] {
        let world = World::with("path", splits.to_owned()).await;
        assert_eq!(rule(send(&world, &url).await), "vault.value-unfit", "{splits}");
    }
}

#[tokio::test]
async fn k17_values_with_sql_arrive_exactly() {
    for value in
        ["'); DROP TABLE secret;--", "\" OR 1=1 /* x9", "x9$1 ${key} {{key}}", "\u{fc}ml\u{e4}ut-k\u{e9}y"]
    {
        let world = World::with("header:x-api-key", value.to_owned()).await;
        let request = send(&world, URL).await.unwrap();
        assert_eq!(request.headers()["x-api-key"].as_bytes(), value.as_bytes());
    }
}

#[tokio::test]
async fn w20_what_the_caller_put_in_the_place_of_the_secret_is_refused() {
    for (place, header) in [("bearer", "authorization"), ("header:x-api-key", "X-API-Key")] {
        let world = World::new(place).await;
        let permit = world.permit("GET", URL).await;
        let leases = world.vault.lease(&permit, &world.safety).await.unwrap();
        let mut request = request_of(&permit);
        request
            .headers_mut()
            .insert(HeaderName::from_bytes(header.as_bytes()).unwrap(), HeaderValue::from_static("mine"));
        assert_eq!(rule(inject(leases, permit, request)), "vault.place-taken");
        assert!(world.is_recorded(Kind::Settle, Verdict::Block, "vault.place-taken").await);
    }
    let world = World::new("query:appid").await;
    for query in ["appid=mine", "x=1&appid=mine", "AppId=mine", "%61ppid=mine", "x;appid=mine", "appid"] {
        let url = format!("https://api.weather.example/v1/now?{query}");
        assert_eq!(rule(send(&world, &url).await), "vault.place-taken", "{query}");
    }
}

#[tokio::test]
async fn every_unsealing_is_on_record_before_the_lease_exists() {
    let world = World::new("bearer").await;
    let permit = world.permit("GET", URL).await;
    let decided = permit.seq();
    let leases = world.vault.lease(&permit, &world.safety).await.unwrap();
    assert_eq!(leases.len(), 1);
    let log = audit::Log::new(world.reader.clone()).tail(5).await.unwrap();
    let unseal = log.iter().find(|entry| entry.record.kind == Kind::Unseal).unwrap();
    let field = |field| unseal.record.field(field).unwrap_or_default();
    assert_eq!(unseal.record.verdict, Verdict::Allow);
    assert_eq!(field(types::Field::Secret), SECRET);
    assert_eq!(field(types::Field::Of), decided.to_string());
    assert_eq!(field(types::Field::Target), "GET https://api.weather.example/v1/now");
    assert!(unseal.record.fields().iter().all(|(_, text)| !text.contains(&world.value)));
}

#[tokio::test]
async fn whoever_has_the_vault_finds_every_record_of_a_value_and_nobody_else_does() {
    for world in World::both().await {
        let second = random_value();
        for _ in 0..2 {
            drop(world.vault.lease(&world.permit("GET", URL).await, &world.safety).await.unwrap());
        }
        world.vault.put(&name(SECRET), plain(&second), Some(1)).await.unwrap();
        drop(world.vault.lease(&world.permit("GET", URL).await, &world.safety).await.unwrap());
        world.vault.delete(&name(SECRET), 2).await.unwrap();
        let told = async |vault: &std::sync::Arc<secrets::Vault>, value: &str| {
            let mut kinds = Vec::new();
            vault.told_of(&plain(value), |entry| kinds.push(entry.record.kind)).await.unwrap();
            kinds
        };
        assert_eq!(told(&world.vault, &world.value).await, [Kind::Secret, Kind::Unseal, Kind::Unseal]);
        assert_eq!(told(&world.home.vault().await, &second).await, [Kind::Secret, Kind::Unseal]);
        assert!(told(&world.vault, &random_value()).await.is_empty());
        // Another vault's digest of the same value is another one.
        let digest = |entries: &[audit::Entry]| {
            let of = |entry: &audit::Entry| entry.record.field(types::Field::Value).map(str::to_owned);
            entries.iter().find_map(of).unwrap()
        };
        let other = World::with("bearer", world.value.clone()).await;
        assert_ne!(digest(&world.records().await), digest(&other.records().await));
    }
}

#[tokio::test]
async fn k10_a_lease_is_for_its_own_request_alone() {
    for world in World::both().await {
        let urls = ["https://api.weather.example/v1/other", URL];
        for url in urls {
            let leases = world.vault.lease(&world.permit("GET", URL).await, &world.safety).await.unwrap();
            let other = world.permit("GET", url).await;
            let request = request_of(&other);
            assert_eq!(rule(inject(leases, other, request)), "vault.lease-mismatch", "{url}");
        }
        assert!(world.is_recorded(Kind::Settle, Verdict::Block, "vault.lease-mismatch").await);

        let permit = world.permit("GET", URL).await;
        let request = request_of(&permit);
        assert_eq!(rule(inject(Leases::none(), permit, request)), "vault.lease-mismatch");
    }
}

#[tokio::test]
async fn k10_the_request_must_be_the_permitted_one() {
    for world in World::both().await {
        type Change = fn(&mut Request<&'static str>);
        let changes: [Change; 6] = [
            |request| *request.method_mut() = http::Method::POST,
            |request| *request.uri_mut() = "https://evil.example/v1/now?city=x".parse().unwrap(),
            |request| *request.uri_mut() = "https://api.weather.example/v1/else?city=x".parse().unwrap(),
            |request| *request.uri_mut() = "https://api.weather.example:444/v1/now?city=x".parse().unwrap(),
            |request| *request.uri_mut() = "http://api.weather.example/v1/now?city=x".parse().unwrap(),
            |request| *request.uri_mut() = "/v1/now?city=x".parse().unwrap(),
        ];
        for change in changes {
            let permit = world.permit("GET", URL).await;
            let leases = world.vault.lease(&permit, &world.safety).await.unwrap();
            let mut request = request_of(&permit);
            change(&mut request);
            assert_eq!(rule(inject(leases, permit, request)), "vault.request-mismatch");
        }
        assert!(world.is_recorded(Kind::Settle, Verdict::Block, "vault.request-mismatch").await);
    }
}

#[tokio::test]
async fn k10_a_permit_from_before_a_change_of_policy_arms_nothing() {
    for world in World::both().await {
        let permit = world.permit("GET", URL).await;
        let request = request_of(&permit);
        let leases = world.vault.lease(&permit, &world.safety).await.unwrap();
        world.policy.reload(policy::Settings::default()).unwrap();
        assert_eq!(rule(inject(leases, permit, request)), "policy.permit-stale");
        assert!(world.is_recorded(Kind::Settle, Verdict::Block, "policy.permit-stale").await);

        let permit = world.permit("GET", URL).await;
        world.policy.reload(policy::Settings::default()).unwrap();
        assert_eq!(rule(world.vault.lease(&permit, &world.safety).await), "policy.permit-stale");
        assert!(world.is_recorded(Kind::Unseal, Verdict::Block, "policy.permit-stale").await);
    }
}

#[tokio::test]
async fn k04_a_grant_loosened_behind_the_vault_unseals_nothing() {
    type Change = fn(&mut Grant);
    let mut worlds = Vec::new();
    for _ in 0..4 {
        worlds.extend(World::both().await);
    }
    let changes: [(Change, &str, &str); 4] = [
        (|grant| grant.path = PathPrefix::all(), "GET", "https://api.weather.example/v2"),
        (|grant| grant.methods.push(http::Method::POST), "POST", URL),
        (|grant| grant.expires_ms = Some(u64::MAX), "GET", URL),
        (|grant| grant.path = PathPrefix::parse("/v1/now").unwrap(), "GET", URL),
    ];
    for (index, (change, method, url)) in changes.iter().enumerate().flat_map(|each| [each, each]) {
        let world = worlds.remove(0);
        let mut grant = world.grant.clone();
        change(&mut grant);
        world.tamper(|row| row.body = grant.encode()).await;
        let outcome = world.vault.lease(&world.permit(method, url).await, &world.safety).await;
        assert_eq!(rule(outcome), "vault.grant-altered", "change {index}");
        assert!(world.is_recorded(Kind::Unseal, Verdict::Block, "vault.grant-altered").await);
        assert!(!world.vault.grants().await.unwrap()[0].authentic);
    }
}

#[tokio::test]
async fn k04_every_column_of_a_grant_is_authenticated() {
    for world in World::both().await {
        let refused = async || rule(world.vault.lease(&world.permit("GET", URL).await, &world.safety).await);
        world.tamper(|row| row.created_ms += 1).await;
        assert_eq!(refused().await, "vault.grant-altered");
        world.tamper(|row| row.created_ms -= 1).await;
        assert!(world.vault.lease(&world.permit("GET", URL).await, &world.safety).await.is_ok());
        world.tamper(|row| row.id.push('0')).await;
        assert_eq!(refused().await, "vault.grant-altered");
        world
            .tamper(|row| {
                row.id.pop();
                row.mac[0] ^= 1
            })
            .await;
        assert_eq!(refused().await, "vault.grant-altered");
    }
}

#[tokio::test]
async fn k10_expired_revoked_and_missing_are_refused_and_recorded() {
    let world = World::new("bearer").await;
    let granted = world.permit("GET", URL).await;
    world.vault.revoke(&world.grant_id).await.unwrap();
    let refusal = world.vault.lease(&granted, &world.safety).await.err().unwrap();
    assert_eq!(refusal.rule.id, "vault.not-granted");
    assert_eq!(
        refusal.widen.as_deref(),
        Some(
            "ironclaw secret grant WEATHER_KEY --tool weather --host api.weather.example:443 --method GET --inject bearer"
        )
    );
    assert!(world.is_recorded(Kind::Unseal, Verdict::Block, "vault.not-granted").await);
    assert!(world.records().await.iter().any(|entry| entry.record.kind == Kind::Revoke));

    let world = World::new("bearer").await;
    let granted = world.permit("GET", URL).await;
    world.vault.revoke(&world.grant_id).await.unwrap();
    let ended = Grant { expires_ms: Some(1), ..world.grant.clone() };
    world.vault.grant(&ended).await.unwrap();
    assert_eq!(rule(world.vault.lease(&granted, &world.safety).await), "vault.grant-expired");

    let world = World::new("bearer").await;
    let granted = world.permit("GET", URL).await;
    world.vault.delete(&name(SECRET), 1).await.unwrap();
    assert_eq!(rule(world.vault.lease(&granted, &world.safety).await), "vault.not-granted");
}

#[tokio::test]
async fn k01_a_swapped_secret_is_refused_and_recorded() {
    for world in World::both().await {
        let tenant = Tenant::local();
        let mine = world.reader.secret(&tenant, &name(SECRET)).await.unwrap().unwrap();
        world.vault.put(&name("OTHER_KEY"), plain(&random_value()), None).await.unwrap();
        let other = world.reader.secret(&tenant, &name("OTHER_KEY")).await.unwrap().unwrap();
        let swapped = SecretRow { version: 2, sealed: other.sealed, ..mine.clone() };
        let record = Record::new(Kind::Secret, Verdict::Done);
        world.audit.change(record, Mutation::PutSecret { row: swapped, expected: Some(1) }).await.unwrap();
        let refusal = world.vault.lease(&world.permit("GET", URL).await, &world.safety).await.err().unwrap();
        assert_eq!(refusal.rule.id, "vault.rolled-back");
        assert!(refusal.detail.contains("version 1, current"), "{}", refusal.detail);
        assert!(world.is_recorded(Kind::Unseal, Verdict::Block, "vault.rolled-back").await);
    }
}

#[tokio::test]
async fn a_replaced_value_is_injected_from_the_next_lease_on() {
    let world = World::new("header:x-api-key").await;
    let new = random_value();
    world.vault.put(&name(SECRET), plain(&new), Some(1)).await.unwrap();
    assert_eq!(send(&world, URL).await.unwrap().headers()["x-api-key"], new.as_str());
}

#[tokio::test]
async fn grants_need_a_secret_and_a_method_and_are_listed() {
    let world = World::new("bearer").await;
    let nothing = Grant { methods: Vec::new(), ..world.grant.clone() };
    assert!(world.vault.grant(&nothing).await.is_err());
    let missing = Grant { secret: name("NO_KEY"), ..world.grant.clone() };
    assert!(world.vault.grant(&missing).await.is_err());
    let listed = world.vault.grants().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(
        listed[0].authentic
            && listed[0].grant.as_ref() == Some(&world.grant)
            && listed[0].id == world.grant_id
    );
    assert!(world.vault.revoke("no such id").await.is_err());
}
