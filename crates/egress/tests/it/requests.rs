//! What leaves (attacks W20, M08, C06, C07, C11, A05).

use egress::Message;
use egress::loopback::{Loopback, reply};
use http::StatusCode;
use policy::Settings;
use types::{Field, Host, Verdict};

use crate::world::{Setup, World, headers, host, settled_requests};

async fn upstream(name: &types::HostName) -> Loopback {
    Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "fine")).await.unwrap()
}

#[tokio::test]
async fn the_secret_arrives_in_its_place_and_nowhere_else() {
    for (inject, path, place) in [
        ("bearer", "/v1", "authorization"),
        ("basic:app", "/v1", "authorization"),
        ("header:x-api-key", "/v1", "x-api-key"),
        ("query:appid", "/v1?q=x", ""),
        ("path", "/v1/{KEY}/x", ""),
    ] {
        let name = host();
        let upstream = upstream(&name).await;
        let world = World::around(&upstream, Setup::with_secret(&name, inject)).await;
        assert_eq!(world.get(path).await.unwrap().bytes, b"fine");
        let seen = upstream.requests().remove(0);
        assert_eq!(seen.headers()["host"], name.as_str());
        let key = world.key.clone();
        match inject {
            "bearer" => assert_eq!(seen.headers()[place], format!("Bearer {key}")),
            "header:x-api-key" => assert_eq!(seen.headers()[place], key),
            "query:appid" => assert_eq!(seen.uri().to_string(), format!("/v1?q=x&appid={key}")),
            "path" => assert_eq!(seen.uri().to_string(), format!("/v1/{key}/x")),
            _ => assert!(seen.headers()[place].to_str().unwrap().starts_with("Basic ")),
        }
        assert_eq!(
            seen.headers().get_all("authorization").iter().count(),
            usize::from(place == "authorization")
        );
        assert_eq!(world.outcome().await, (Verdict::Done, None));
    }
}

#[tokio::test]
async fn w20_m08_c06_c07_what_a_sender_may_not_say() {
    let name = host();
    let upstream = upstream(&name).await;
    for (header, value, rule) in [
        ("host", "evil.example", "egress.host"),
        ("authorization", "Bearer own", "egress.own-credential"),
        ("cookie", "session=1", "egress.own-credential"),
        ("x-api-key", "own", "egress.own-credential"),
        ("proxy-authorization", "Basic x", "egress.own-credential"),
        ("x-original-url", "/admin", "egress.routing-header"),
        ("x-forwarded-host", "evil.example", "egress.routing-header"),
        ("x-http-method-override", "DELETE", "egress.routing-header"),
        ("upgrade", "websocket", "egress.routing-header"),
        ("content-encoding", "gzip", "egress.encoded-body"),
    ] {
        let world = World::around(&upstream, Setup::with_secret(&name, "header:x-api-key")).await;
        assert_eq!(world.refused("GET", "/", headers(&[(header, value)])).await, rule, "{header}");
        assert_eq!(world.outcome().await, (Verdict::Block, Some(rule.to_owned())));
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn w20_framing_is_ours() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::around(&upstream, Setup::open(&name)).await;
    let mut message = headers(&[
        ("transfer-encoding", "chunked"),
        ("content-length", "999"),
        ("te", "trailers"),
        ("expect", "100-continue"),
    ]);
    message.body = "four".into();
    world.send("POST", "/", message).await.unwrap();
    let seen = upstream.requests().remove(0);
    assert_eq!(seen.body().as_ref(), b"four");
    assert_eq!(seen.headers()["content-length"], "4");
    for absent in ["transfer-encoding", "te", "expect"] {
        assert!(!seen.headers().contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn c11_no_halves_of_an_answer_that_could_hold_the_secret() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    world.send("GET", "/", headers(&[("range", "bytes=0-9")])).await.unwrap();
    assert!(!upstream.requests()[0].headers().contains_key("range"));
}

#[tokio::test]
async fn known_values_and_tokens_do_not_leave() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    let key = world.key.clone();
    let in_query = world.refused("GET", &format!("/?leak={key}"), Message::default()).await;
    let in_header = world.refused("GET", "/", headers(&[("x-note", &key)])).await;
    let in_body = Message { body: format!("{{\"note\": \"{key}\"}}").into(), ..Message::default() };
    let in_body = world.refused("POST", "/", in_body).await;
    assert_eq!([in_query, in_header, in_body], ["leaks.known-value"; 3]);
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn a_permit_from_before_a_change_of_policy_sends_nothing() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::around(&upstream, Setup::open(&name)).await;
    let permit = world.permit("GET", "/").await;
    world.policy.reload(Settings::default()).unwrap();
    let error = world.egress.send(permit, Message::default(), &world.trace).await.unwrap_err();
    assert!(error.to_string().contains("policy.permit-stale"), "{error}");
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    assert_eq!(world.settled().await[0].verdict, Verdict::Block);
}

#[tokio::test]
async fn a_secret_that_was_revoked_meanwhile_sends_nothing() {
    let name = host();
    let upstream = upstream(&name).await;
    let setup = Setup::with_secret(&name, "bearer");
    let mut config = egress::Config::default();
    config.exceptions.push(upstream.exception(&name, types::Port::new(443).unwrap()));
    let world = World::new(setup, config.clone()).await;
    let permit = world.permit("GET", "/").await;
    // The same permit at a door whose vault is closed.
    let safety = std::sync::Arc::new(safety::Safety::new(Default::default()).unwrap());
    let closed = egress::Egress::new(config, safety, None).unwrap();
    let error = closed.send(permit, Message::default(), &world.trace).await.unwrap_err();
    assert!(error.to_string().contains("egress.no-vault"), "{error}");
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn a05_a_secret_in_host_or_path_is_refused_and_stands_in_no_record() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    let key = world.key.clone();
    let hex: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for url in [
        format!("https://{name}/v1/{key}"),
        format!("https://{name}/{hex}/x"),
        format!("https://{name}.{key}.example/v1"),
        format!("https://{key}.example/v1"),
    ] {
        let refusal = world.decide("GET", &url).await.unwrap_err();
        assert_eq!(refusal.rule.id, "leaks.known-value");
        assert!(!refusal.to_string().contains(&key));
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    let steps = format!("{:?}", world.trace.steps());
    let entries = world.close().await;
    assert_eq!(entries.iter().filter(|entry| entry.record.kind == types::Kind::Request).count(), 4);
    for text in entries.iter().map(|entry| format!("{:?}", entry.record)).chain([steps]) {
        assert!(!text.contains(&key) && !text.to_lowercase().contains(&hex), "{text}");
    }
}

#[tokio::test]
async fn a05_records_name_the_target_but_no_query_header_or_body() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::around(&upstream, Setup::with_secret(&name, "query:appid")).await;
    let key = world.key.clone();
    let mut message = headers(&[("x-note", "seen-in-header")]);
    message.body = "seen-in-body".into();
    let response = world.send("POST", "/v1/weather?city=seen-in-query", message).await.unwrap();
    response.into_body().collect().await.unwrap();
    let steps = format!("{:?}", world.trace.steps());
    let entries = world.close().await;
    let settled = settled_requests(&entries);
    let field = |field| settled[0].field(field).unwrap().to_owned();
    assert_eq!(field(Field::Target), format!("POST https://{name}/v1/weather"));
    assert_eq!((field(Field::Address), field(Field::Status)), ("127.0.0.1".to_owned(), "200".to_owned()));
    assert_eq!(field(Field::Received), "4");
    assert!(field(Field::Sent).parse::<u64>().unwrap() > 12);
    for entry in &entries {
        let text = format!("{:?}", entry.record);
        for never in [key.as_str(), "seen-in-query", "seen-in-header", "seen-in-body"] {
            assert!(!text.contains(never), "{text}");
            assert!(!steps.contains(never), "{steps}");
        }
    }
}
