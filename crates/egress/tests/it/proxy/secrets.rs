//! Keys that clients never hold (attacks C02 to C09, P04, T17).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use egress::loopback::{Loopback, reply};
use http::StatusCode;
use policy::Reach;
use types::{Host, HostName};

use super::world::{Granted, World, leads_to, reach};
use crate::world::host;

async fn upstream(name: &HostName) -> Loopback {
    Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "fine")).await.unwrap()
}

async fn world(upstream: &Loopback, name: &HostName, path: &str, inject: &str) -> World {
    let granted = Granted { host: name, path, inject };
    World::with_secret(leads_to(upstream, name), reach(&[name.as_str()]), granted).await
}

#[tokio::test]
async fn c05_a_placeholder_in_its_place_becomes_the_key() {
    for (inject, path, header, place) in [
        ("bearer", "/v1", "Authorization: Bearer PH", "authorization"),
        ("basic:app", "/v1", "Authorization: Basic PAIR", "authorization"),
        ("header:x-api-key", "/v1", "X-Api-Key: PH", "x-api-key"),
        ("query:appid", "/v1?q=x&appid=PH", "X-Note: x", ""),
        ("path", "/bot/PH/x", "X-Note: x", ""),
    ] {
        let name = host();
        let upstream = upstream(&name).await;
        let world = world(&upstream, &name, "/", inject).await;
        let (placeholder, key) = (world.placeholder(), world.key.clone());
        let pair = STANDARD.encode(format!("app:{placeholder}"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n{header}\r\n\r\n");
        let request = request.replace("PH", &placeholder).replace("PAIR", &pair);
        assert_eq!(world.inside(name.as_str(), &request).await.status, 200, "{inject}");
        let seen = upstream.requests().remove(0);
        match inject {
            "bearer" => assert_eq!(seen.headers()[place], format!("Bearer {key}")),
            "basic:app" => {
                assert_eq!(seen.headers()[place], format!("Basic {}", STANDARD.encode(format!("app:{key}"))))
            }
            "header:x-api-key" => assert_eq!(seen.headers()[place], key),
            "query:appid" => assert_eq!(seen.uri().to_string(), format!("/v1?q=x&appid={key}")),
            _ => assert_eq!(seen.uri().to_string(), format!("/bot/{key}/x")),
        }
        assert!(!format!("{seen:?}").contains(&placeholder));
        let records = format!("{:?}", world.close().await);
        assert!(records.contains("\"KEY\"") && !records.contains(&key) && !records.contains(&placeholder));
    }
}

#[tokio::test]
async fn c02_c03_t17_a_placeholder_elsewhere_sends_nothing() {
    let (name, other) = (host(), host());
    let upstream = upstream(&name).await;
    let mut config = leads_to(&upstream, &name);
    config.exceptions.push(upstream.exception(&other, types::Port::new(443).unwrap()));
    config.exceptions.push(upstream.exception(&name, types::Port::new(80).unwrap()));
    let rules = reach(&[name.as_str(), other.as_str(), &format!("http://{name}")]);
    let granted = Granted { host: &name, path: "/v1", inject: "bearer" };
    let world = World::with_secret(config, rules, granted).await;
    let placeholder = world.placeholder();
    let bearer = format!("Authorization: Bearer {placeholder}");
    for (to, request, code) in [
        (
            &other,
            format!("GET /v1 HTTP/1.1\r\nHost: {other}\r\n{bearer}\r\n\r\n"),
            "policy.secret-not-granted",
        ),
        (&name, format!("GET /v2 HTTP/1.1\r\nHost: {name}\r\n{bearer}\r\n\r\n"), "policy.secret-not-granted"),
        (
            &name,
            format!("DELETE /v1 HTTP/1.1\r\nHost: {name}\r\n{bearer}\r\n\r\n"),
            "policy.secret-not-granted",
        ),
        (
            &name,
            format!("GET /v1 HTTP/1.1\r\nHost: {name}\r\nX-Api-Key: {placeholder}\r\n\r\n"),
            "policy.secret-not-granted",
        ),
        (
            &name,
            format!("GET /v1?key={placeholder} HTTP/1.1\r\nHost: {name}\r\n\r\n"),
            "policy.secret-not-granted",
        ),
        (
            &name,
            format!("GET /v1 HTTP/1.1\r\nHost: {name}\r\nCookie: a={placeholder}\r\n\r\n"),
            "egress.placeholder",
        ),
        (
            &name,
            format!("POST /v1 HTTP/1.1\r\nHost: {name}\r\nContent-Length: 39\r\n\r\n{{\"{placeholder}\"}}"),
            "egress.placeholder",
        ),
    ] {
        let answer = world.inside(to.as_str(), &request).await;
        assert_eq!((answer.status, &*answer.code()), (403, code), "{request}");
        assert!(!answer.body.contains(&placeholder));
    }
    let clear = format!("GET http://{name}/v1 HTTP/1.1\r\nHost: {name}\r\nTOKEN\r\n{bearer}\r\n\r\n");
    assert_eq!(world.raw(&clear).await.code(), "policy.secret-not-granted");
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    let records = format!("{:?}", world.close().await);
    assert!(!records.contains(&placeholder));
}

#[tokio::test]
async fn c07_p04_a_key_of_the_clients_own_does_not_pass_where_the_owners_is_bound() {
    let (name, free) = (host(), host());
    let upstream = upstream(&name).await;
    let mut config = leads_to(&upstream, &name);
    config.exceptions.push(upstream.exception(&free, types::Port::new(443).unwrap()));
    let rules = format!(
        "[[allow]]\nhost = \"{name}\"\n[[allow]]\nhost = \"{name}\"\npath = \"/must\"\nrequire = \"KEY\"\n[[allow]]\nhost = \"{free}\""
    );
    let granted = Granted { host: &name, path: "/", inject: "bearer" };
    let world = World::with_secret(config, Reach::parse(rules.as_bytes()).unwrap(), granted).await;
    let own = "Authorization: Bearer own-key-of-the-client";
    let get = |to: &HostName, path: &str, header: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{header}\r\n\r\n")
    };
    for (path, header, code) in [
        ("/v1", own, "policy.other-credential"),
        ("/must", own, "policy.secret-required"),
        ("/must", "X-Note: no key at all", "policy.secret-required"),
    ] {
        let answer = world.inside(name.as_str(), &get(&name, path, header)).await;
        assert_eq!((answer.status, &*answer.code()), (403, code), "{path} {header}");
    }
    let both = format!("Authorization: Bearer {}\r\nCookie: session=own", world.placeholder());
    assert_eq!(world.inside(name.as_str(), &get(&name, "/v1", &both)).await.code(), "egress.own-credential");
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    // Without a key, and with the owner's, and elsewhere with one's own.
    assert_eq!(world.inside(name.as_str(), &get(&name, "/v1", "X-Note: x")).await.status, 200);
    let owners = format!("Authorization: Bearer {}", world.placeholder());
    assert_eq!(world.inside(name.as_str(), &get(&name, "/must", &owners)).await.status, 200);
}

#[tokio::test]
async fn c08_c15_a_key_that_comes_back_does_not_reach_the_client() {
    for echo in [
        (|key: &str| reply(StatusCode::OK, format!("you sent {key}\n")))
            as fn(&str) -> egress::loopback::Reply,
        |key| reply(StatusCode::BAD_REQUEST, STANDARD.encode(format!("x: {key}"))),
        |key| {
            let mut answer = reply(StatusCode::FOUND, "");
            answer.headers_mut().insert("location", format!("https://x.example/{key}").parse().unwrap());
            answer
        },
    ] {
        let name = host();
        let served_as = Host::Name(name.clone());
        let upstream = Loopback::https(&served_as, move |request| {
            let sent = request.headers()["authorization"].to_str().unwrap().to_owned();
            echo(sent.trim_start_matches("Bearer "))
        });
        let upstream = upstream.await.unwrap();
        let world = world(&upstream, &name, "/", "bearer").await;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {name}\r\nAuthorization: Bearer {}\r\n\r\n",
            world.placeholder()
        );
        let answer = world.inside(name.as_str(), &request).await;
        let key = world.key.clone();
        assert_eq!(upstream.requests().len(), 1);
        for form in [key.clone(), STANDARD.encode(format!("x: {key}"))] {
            assert!(!answer.head.contains(&form) && !answer.body.contains(&form), "{answer:?}");
        }
        assert!(world.refusals().await.iter().any(|rule| rule == "leaks.known-value"));
    }
}

#[tokio::test]
async fn a_value_of_the_vault_does_not_leave_however_the_client_came_by_it() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = world(&upstream, &name, "/", "bearer").await;
    let key = world.key.clone();
    for request in [
        format!("GET /?a={key} HTTP/1.1\r\nHost: {name}\r\n\r\n"),
        format!("GET /{key} HTTP/1.1\r\nHost: {name}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {name}\r\nX-Note: {key}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: {name}\r\nContent-Length: {}\r\n\r\n{key}", key.len()),
    ] {
        let answer = world.inside(name.as_str(), &request).await;
        assert_eq!((answer.status, &*answer.code()), (403, "leaks.known-value"), "{request}");
        assert!(!answer.body.contains(&key));
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}
