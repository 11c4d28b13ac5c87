//! Tokens that a token endpoint gives to a program (attack C14).

use std::sync::Mutex;
use std::time::Duration;

use egress::loopback::{Loopback, reply};
use http::{Response, StatusCode};
use policy::Reach;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use types::{Digest, Field, Host, HostName, Verdict};

use super::world::{Granted, World, leads_to, reach};
use crate::listener::Listener;
use crate::world::host;

/// A value that no other test has.
fn token() -> String {
    format!("t0-{}", Digest::of(types::CallId::new().as_bytes()))
}

/// A server whose `/token` answers so, and that says elsewhere whether it was shown this token.
async fn upstream(name: &HostName, shown: &str, answer: Response<String>) -> Loopback {
    let (bearer, answer) = (format!("Bearer {shown}"), Mutex::new(Some(answer)));
    Loopback::https(&Host::Name(name.clone()), move |seen| {
        if seen.uri().path() == "/token" {
            let (head, body) = answer.lock().unwrap().take().unwrap().into_parts();
            let mut response = reply(head.status, body);
            response.headers_mut().extend(head.headers);
            return response;
        }
        let is_shown = seen.headers().get("authorization").is_some_and(|value| value == bearer.as_str());
        reply(StatusCode::OK, if is_shown { "welcome" } else { "who are you?" })
    })
    .await
    .unwrap()
}

/// A proxy that captures what `/token` answers into `KEY`, which may be sent to the same host.
async fn capturing(upstream: &Loopback, name: &HostName) -> World {
    let rules = format!(
        "[[allow]]\nhost = \"{name}\"\n[[allow]]\nhost = \"{name}\"\npath = \"/token\"\nmethods = [\"POST\"]\n\
         capture = {{ access_token = \"KEY\" }}\n"
    );
    let granted = Granted { host: name, path: "/", inject: "bearer" };
    World::with_secret(leads_to(upstream, name), Reach::parse(rules.as_bytes()).unwrap(), granted).await
}

fn asks(name: &HostName) -> String {
    let form = "grant_type=client_credentials";
    format!(
        "POST /token HTTP/1.1\r\nHost: {name}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{form}",
        form.len()
    )
}

fn json(text: impl Into<String>) -> Response<String> {
    Response::builder().header("content-type", "application/json").body(text.into()).unwrap()
}

#[tokio::test]
async fn c14_a_token_goes_into_the_vault_and_the_program_gets_what_stands_for_it() {
    let (name, token) = (host(), token());
    let answer = format!(
        r#"{{"access_token":"{token}","token_type":"bearer","expires_in":3600,"scope":"a {token}","x":"{token}"}}"#
    );
    let mut answer = json(answer);
    answer.headers_mut().insert("set-cookie", format!("session={token}").parse().unwrap());
    let upstream = upstream(&name, &token, answer).await;
    let world = capturing(&upstream, &name).await;
    let stands = world.placeholder();

    let given = world.inside(name.as_str(), &asks(&name)).await;
    assert_eq!(given.status, 200, "{given:?}");
    let body: serde_json::Value = serde_json::from_str(&given.body).unwrap();
    let expected = serde_json::json!({"access_token": stands, "token_type": "Bearer", "expires_in": 3600});
    assert_eq!(body, expected);
    assert!(!given.head.contains(&token) && !given.head.to_lowercase().contains("set-cookie"), "{given:?}");

    // It is a secret like any other now: put in on the way to its place, and stopped on its way anywhere else.
    let shows = format!(
        "GET /v1 HTTP/1.1\r\nHost: {name}\r\nAuthorization: Bearer {stands}\r\nConnection: close\r\n\r\n"
    );
    let welcomed = world.inside(name.as_str(), &shows).await;
    assert!(welcomed.status == 200 && welcomed.body.contains("welcome"), "{welcomed:?}");
    let leaks = format!(
        "POST /v1 HTTP/1.1\r\nHost: {name}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{token}",
        token.len()
    );
    let stopped = world.inside(name.as_str(), &leaks).await;
    assert!(stopped.status == 403 && stopped.code().starts_with("leak"), "{stopped:?}");
    assert_eq!(upstream.requests().len(), 2);

    let records = world.close().await;
    assert!(!format!("{records:?}").contains(&token));
    let stored = records.iter().filter(|entry| entry.record.field(Field::Secret) == Some("KEY"));
    let stored = stored.filter(|entry| entry.record.verdict == Verdict::Done);
    let kinds: Vec<_> = stored.map(|entry| entry.record.kind).collect();
    // Put in by the test, captured, and told in the settlement of the exchange.
    let of = |kind| kinds.iter().filter(|own| **own == kind).count();
    assert_eq!((of(types::Kind::Secret), of(types::Kind::Settle)), (2, 1), "{kinds:?}");
}

#[tokio::test]
async fn c14_an_answer_that_cannot_be_captured_whole_is_not_passed_on() {
    let token = token();
    let mut encoded = json(format!(r#"{{"access_token":"{token}"}}"#));
    encoded.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let mut redirect = json("");
    *redirect.status_mut() = StatusCode::FOUND;
    redirect.headers_mut().insert("location", format!("https://a.example/#{token}").parse().unwrap());
    let mut failed = json(format!(r#"{{"error":"{token}","error_description":"{token}"}}"#));
    *failed.status_mut() = StatusCode::BAD_REQUEST;
    for answer in [
        json(format!(r#"{{"access_token":"{token}","refresh_token":"{token}"}}"#)),
        json(format!(r#"{{"token":"{token}"}}"#)),
        json(format!("access_token={token}&token_type=bearer")),
        json(format!(r#"{{"access_token":"{token}{}"}}"#, " ".repeat(70_000))),
        json(format!(r#"{{"access_token":"{token}""#)),
        encoded,
        redirect,
        failed,
    ] {
        let name = host();
        let shown = format!("{answer:?}");
        let upstream = upstream(&name, &token, answer).await;
        let world = capturing(&upstream, &name).await;
        let given = world.inside(name.as_str(), &asks(&name)).await;
        assert!(given.status == 403 || given.status == 502, "{shown}: {given:?}");
        assert!(!format!("{given:?}").contains(&token), "{shown}: {given:?}");
        let old = world.key.clone();
        let stands = world.placeholder();
        let shows = format!(
            "GET /v1 HTTP/1.1\r\nHost: {name}\r\nAuthorization: Bearer {stands}\r\nConnection: close\r\n\r\n"
        );
        world.inside(name.as_str(), &shows).await;
        let seen = upstream.requests().pop().unwrap();
        assert_eq!(seen.headers()["authorization"], format!("Bearer {old}"), "{shown}");
        assert!(!format!("{:?}", world.close().await).contains(&token), "{shown}");
    }
}

/// A token that no scanner could recognise is not stored, nor is the other one beside it.
#[tokio::test]
async fn c14_of_two_tokens_both_are_stored_or_none() {
    for (access, reaches) in [("a".repeat(32), false), (token(), true)] {
        let (name, refresh) = (host(), token());
        let answer = json(format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}"}}"#));
        let upstream = upstream(&name, &refresh, answer).await;
        let rules = format!(
            "[[allow]]\nhost = \"{name}\"\ncapture = {{ access_token = \"KEY\", refresh_token = \"NEXT\" }}\n"
        );
        let world = World::new(leads_to(&upstream, &name), Reach::parse(rules.as_bytes()).unwrap()).await;
        let given = world.inside(name.as_str(), &asks(&name)).await;
        assert_eq!(given.status, if reaches { 200 } else { 403 }, "{given:?}");
        let records = world.close().await;
        let stored = records.iter().filter(|entry| {
            entry.record.kind == types::Kind::Secret && entry.record.field(Field::Secret) == Some("NEXT")
        });
        assert_eq!(stored.count(), usize::from(reaches));
    }
}

#[tokio::test]
async fn c14_a_word_of_the_protocol_is_passed_on_alone() {
    let (name, said) = (host(), token());
    let answer = format!(r#"{{"error":"authorization_pending","error_description":"{said}"}}"#);
    let mut answer = json(answer);
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    let upstream = upstream(&name, "", answer).await;
    let world = capturing(&upstream, &name).await;
    let given = world.inside(name.as_str(), &asks(&name)).await;
    assert_eq!((given.status, given.body.trim()), (400, r#"{"error":"authorization_pending"}"#), "{given:?}");
}

/// Without a rule the answer is one like any other, and the leak detector reads it: what looks like a key is taken out, so
/// the program has a token that works nowhere. What does not look like one reaches it (SECURITY.md).
#[tokio::test]
async fn c14_without_a_rule_that_captures_a_token_is_taken_out_where_it_is_recognised() {
    for (token, reaches) in [(token(), false), ("a plain word".to_owned(), true)] {
        let name = host();
        let answer = json(format!(r#"{{"access_token":"{token}","token_type":"bearer"}}"#));
        let upstream = upstream(&name, "", answer).await;
        let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
        let given = world.inside(name.as_str(), &asks(&name)).await;
        assert!(given.status == 200 && given.body.contains(&token) == reaches, "{given:?}");
        assert_eq!(given.body.contains("[redacted:assigned-secret]"), !reaches, "{given:?}");
    }
}

#[tokio::test]
async fn c14_a_rule_that_captures_into_what_the_run_does_not_hold_sends_nothing() {
    let name = host();
    let upstream = upstream(&name, "", json("{}")).await;
    let rules = format!("[[allow]]\nhost = \"{name}\"\ncapture = {{ access_token = \"OTHER\" }}\n");
    let world = World::new(leads_to(&upstream, &name), Reach::parse(rules.as_bytes()).unwrap()).await;
    let refused = world.inside(name.as_str(), &asks(&name)).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, policy::rules::SECRET_NOT_GRANTED.id));
    assert!(upstream.requests().is_empty());
}

/// A server that takes other spellings and methods for the place that is captured, and answers as it is told to.
async fn lax(name: &HostName, answer: Response<String>) -> Loopback {
    Loopback::https(&Host::Name(name.clone()), move |seen| {
        if seen.uri().path().to_ascii_lowercase().starts_with("/token") {
            let mut response = reply(answer.status(), answer.body().clone());
            response.headers_mut().extend(answer.headers().clone());
            return response;
        }
        reply(StatusCode::OK, r#"{"properties":{"access_token":{"type":"string"}}}"#)
    })
    .await
    .unwrap()
}

/// A broader rule beside the one that captures lets requests through that a server takes for the captured one.
#[tokio::test]
async fn c14_a_token_from_another_spelling_of_the_captured_path_does_not_reach_the_program() {
    let (name, token) = (host(), token());
    let mut form = Response::new(format!("access_token={token}&token_type=bearer"));
    form.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    let mut moved = json("");
    *moved.status_mut() = StatusCode::FOUND;
    moved
        .headers_mut()
        .insert("location", format!("https://a.example/#access_token={token}").parse().unwrap());
    let whole = format!(r#"{{"access_token":"{token}","token_type":"bearer"}}"#);
    let padded = format!("{{\"scope\":\"{}\",\n\"refresh_token\" : \"{token}\"}}", "x".repeat(100_000));
    for answer in [json(whole), json(padded), form, moved] {
        let upstream = lax(&name, answer).await;
        let world = capturing(&upstream, &name).await;
        for (method, path) in [("POST", "/Token"), ("POST", "/tokens"), ("PUT", "/token"), ("GET", "/TOKEN")]
        {
            let asks = format!(
                "{method} {path} HTTP/1.1\r\nHost: {name}\r\nRange: bytes=20-\r\nX-Ms-Range: bytes=20-\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let given = world.inside(name.as_str(), &asks).await;
            assert!(
                !given.body.contains(&token) && !given.head.contains(&token),
                "{method} {path} {given:?}"
            );
        }
        // What is written about tokens passes.
        let schema = format!("GET /schema HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        let given = world.inside(name.as_str(), &schema).await;
        assert!(given.status == 200 && given.body.contains("access_token"), "{given:?}");
        let seen = upstream.requests();
        assert_eq!(seen.len(), 5);
        assert!(seen.iter().all(|request| {
            !request.headers().contains_key("range") && !request.headers().contains_key("x-ms-range")
        }));
        let records = world.settled().await;
        let is_schema =
            |record: &&types::Record| record.field(Field::Target).is_some_and(|to| to.ends_with("/schema"));
        let odd: Vec<_> = records.iter().filter(|record| !is_schema(record)).collect();
        // Where a server may take the path for the captured one, the vault got the token; elsewhere nobody.
        let refused = |record: &&&types::Record| record.field(Field::Rule) == Some("egress.uncaptured-token");
        let is_kept =
            |record: &types::Record| record.verdict != Verdict::Done || record.field(Field::Secret).is_some();
        assert!(odd.len() == 4 && odd.iter().all(|record| is_kept(record)), "{records:#?}");
        assert!(odd.iter().filter(refused).count() >= 2, "{records:#?}");
    }
}

/// The endpoint may have replaced what it gave out before: what it answers is kept, whoever is there to hear of it.
#[tokio::test]
async fn c14_a_token_is_kept_when_the_client_leaves_before_it_comes() {
    let (name, token) = (host(), token());
    let (listener, config) = Listener::of(&name, &["http/1.1"]).await;
    let rules =
        format!("[[allow]]\nhost = \"{name}\"\npath = \"/token\"\ncapture = {{ access_token = \"KEY\" }}\n");
    let granted = Granted { host: &name, path: "/", inject: "bearer" };
    let world = World::with_secret(config, Reach::parse(rules.as_bytes()).unwrap(), granted).await;
    let mut client = world.secured(name.as_str(), name.as_str()).await.unwrap();
    client.write_all(asks(&name).as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    let mut upstream = listener.next().await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"client_credentials") {
        seen.push(upstream.read_u8().await.unwrap());
    }
    drop(client);
    // Whoever forgot the request when its client left would close this.
    let closed = timeout(Duration::from_millis(500), upstream.read_u8()).await;
    assert!(closed.is_err(), "{closed:?}");
    let answer = format!(r#"{{"access_token":"{token}","token_type":"bearer"}}"#);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
    let _ = upstream.write_all(format!("{head} {}\r\n\r\n{answer}", answer.len()).as_bytes()).await;
    let _ = upstream.flush().await;
    let settled = world.settled().await;
    let stored = |record: &&types::Record| record.field(Field::Secret) == Some("KEY");
    assert_eq!(settled.iter().filter(stored).count(), 1, "{settled:?}");
}
