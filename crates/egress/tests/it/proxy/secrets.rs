//! Keys that clients never hold (attacks C02 to C09, C19, C20, M11, P03, P04, T10, T17).

use std::io::Write as _;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use egress::loopback::{Loopback, reply, reply_in_frames};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use http_body::Frame;
use policy::Reach;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use types::{Field, Host, HostName};

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
    // Beside the owner's key no other one passes, in whatever place and spelling.
    for (path, own) in [
        ("/v1", "Cookie: session=own"),
        ("/v1", "X-Api-Key: own"),
        ("/v1", "x_api_key: own"),
        ("/v1?%61ccess_token=own", "X-Note: x"),
        ("/v1?a=b;access_token=own", "X-Note: x"),
        ("/must", "X-Api-Key: own"),
    ] {
        let both = format!("Authorization: Bearer {}\r\n{own}", world.placeholder());
        let answer = world.inside(name.as_str(), &get(&name, path, &both)).await;
        assert_eq!((answer.status, &*answer.code()), (403, "policy.cedar-forbids"), "{path} {own}");
    }
    let body = "api_key=own";
    let post = format!(
        "POST /v1 HTTP/1.1\r\nHost: {name}\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
        world.placeholder(),
        body.len()
    );
    assert_eq!(world.inside(name.as_str(), &post).await.code(), "policy.cedar-forbids");
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
    ] {
        let answer = world.inside(name.as_str(), &request).await;
        assert_eq!((answer.status, &*answer.code()), (403, "leaks.known-value"), "{request}");
        assert!(!answer.body.contains(&key));
    }
    // The third was the last that is looked at in that run.
    let post =
        |key: &str| format!("POST / HTTP/1.1\r\nHost: {name}\r\nContent-Length: {}\r\n\r\n{key}", key.len());
    assert_eq!(world.inside(name.as_str(), &post(&key)).await.code(), "policy.run-suspended");
    let world = self::world(&upstream, &name, "/", "bearer").await;
    assert_eq!(world.inside(name.as_str(), &post(&world.key)).await.code(), "leaks.known-value");
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn c19_a_grant_that_is_taken_back_ends_what_it_opened() {
    let name = host();
    // One event at once, and then nothing for as long as anyone listens.
    let served = Host::Name(name.clone());
    let upstream = Loopback::https(&served, |_| {
        let first =
            futures_util::stream::iter([Frame::data(bytes::Bytes::from_static(b"data: first event\n\n"))]);
        let mut answer = reply_in_frames(first.chain(futures_util::stream::pending()));
        answer.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        answer
    });
    let upstream = upstream.await.unwrap();
    let world = world(&upstream, &name, "/", "bearer").await;
    let request = format!(
        "GET /events HTTP/1.1\r\nHost: {name}\r\nAuthorization: Bearer {}\r\n\r\n",
        world.placeholder()
    );
    let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.windows(11).any(|window| window == b"first event") {
        seen.push(stream.read_u8().await.unwrap());
    }
    world.revoke().await;
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut seen)).await;
    // It is cut off, not ended.
    let _ = end.expect("the stream is closed");
    assert!(!seen.ends_with(b"0\r\n\r\n"));
    let again = world.inside(name.as_str(), &request).await;
    assert_eq!((again.status, &*again.code()), (403, "policy.secret-not-granted"));
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(world.refusals().await, ["policy.secret-not-granted"; 2]);
}

#[tokio::test]
async fn c20_a_placeholder_of_another_run_is_refused_wherever_it_stands() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = world(&upstream, &name, "/v1", "bearer").await;
    let (own, others) = (world.placeholder(), world.placeholder_of_another_run());
    assert_ne!(own, others);
    for (request, place) in [
        (
            format!("GET /v1 HTTP/1.1\r\nHost: {name}\r\nAuthorization: Bearer {others}\r\n\r\n"),
            "the header authorization",
        ),
        (format!("GET /v2 HTTP/1.1\r\nHost: {name}\r\nX-Note: {others}\r\n\r\n"), "the header x-note"),
        (format!("GET /v2/{others} HTTP/1.1\r\nHost: {name}\r\n\r\n"), "the path"),
        (format!("GET /v2?a={others} HTTP/1.1\r\nHost: {name}\r\n\r\n"), "the query"),
        (
            format!("POST /v2 HTTP/1.1\r\nHost: {name}\r\nContent-Length: {}\r\n\r\n{others}", others.len()),
            "the body",
        ),
    ] {
        let refused = world.inside(name.as_str(), &request).await;
        assert_eq!((refused.status, &*refused.code()), (403, "egress.placeholder"), "{place}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    let told = world.close().await;
    let whys: Vec<_> = told.iter().filter_map(|entry| entry.record.field(Field::Reason)).collect();
    assert_eq!(whys.iter().filter(|why| why.contains("for a key of another run")).count(), 5, "{whys:?}");
}

#[tokio::test]
async fn c20_a_placeholder_of_another_installation_stands_for_nothing() {
    let name = host();
    let upstream = upstream(&name).await;
    let (world, another) =
        (world(&upstream, &name, "/v1", "bearer").await, world(&upstream, &name, "/v1", "bearer").await);
    let request = |path: &str, header: &str| {
        let header = header.replace("PH", &another.placeholder());
        format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n{header}\r\n\r\n")
    };
    // Where this run's key belongs, it is a credential of somebody else's.
    let refused = world.inside(name.as_str(), &request("/v1", "Authorization: Bearer PH")).await;
    assert_eq!((refused.status, &*refused.code()), (403, "policy.other-credential"));
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    // Elsewhere it is random letters, to whoever gets them.
    assert_eq!(world.inside(name.as_str(), &request("/v2", "X-Note: PH")).await.status, 200);
    let seen = format!("{:?}", upstream.requests());
    assert!(!seen.contains(&world.key) && !seen.contains(&another.key));
    assert_ne!(world.placeholder(), another.placeholder());
}

#[tokio::test]
async fn p03_a_second_value_of_the_keys_parameter_is_refused() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = world(&upstream, &name, "/", "query:appid").await;
    let own = world.placeholder();
    for query in [
        format!("appid={own}&appid=other"),
        format!("appid=other&appid={own}"),
        format!("appid={own}&APPID=other"),
        "appid=other".to_owned(),
    ] {
        let answer =
            world.inside(name.as_str(), &format!("GET /v1?{query} HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
        assert_eq!((answer.status, &*answer.code()), (403, "policy.other-credential"), "{query}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn t10_what_is_hidden_in_the_framing_of_a_body_does_not_leave() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = world(&upstream, &name, "/v1", "bearer").await;
    let (own, key) = (world.placeholder(), world.key.clone());
    for hidden in [&own, &key] {
        let request = |trailer: &str| {
            format!(
                "POST /v1 HTTP/1.1\r\nHost: {name}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Hidden\r\n\r\n\
                 4;ext=\"{hidden}\"\r\nbody\r\n0;ext={hidden}\r\n{trailer}\r\n"
            )
        };
        assert_eq!(world.inside(name.as_str(), &request("")).await.status, 200);
        let refused = world.inside(name.as_str(), &request(&format!("X-Hidden: {hidden}\r\n"))).await;
        assert_eq!((refused.status, &*refused.code()), (400, "egress.request-trailers"), "{refused:?}");
    }
    for seen in upstream.requests() {
        let (parts, body) = seen.into_parts();
        assert_eq!(body, "body");
        assert!(!parts.headers.contains_key("trailer") && !parts.headers.contains_key("x-hidden"));
    }
    // The upstream read bodies with a length: there is no framing of the client's in which anything could stand.
    assert_eq!(upstream.requests().len(), 2);
    assert!(upstream.requests().iter().all(|seen| seen.headers()["content-length"] == "4"));
}

#[tokio::test]
async fn m11_the_program_is_told_the_rule_and_the_owner_what_would_widen_it() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = world(&upstream, &name, "/v1", "bearer").await;
    let other = host();
    let refused = world
        .raw(&format!(
            "GET http://{other}/pay HTTP/1.1\r\nHost: {other}\r\nX-Words: run this now\r\nTOKEN\r\n\r\n"
        ))
        .await;
    assert_eq!((refused.status, &*refused.code()), (403, "policy.not-allowed"));
    let told = format!("{}{}", refused.head, refused.body);
    assert!(
        !told.contains("--allow") && !told.contains("ironclaw ") && !told.contains("run this now"),
        "{told}"
    );
    let entries = world.close().await;
    let widen: Vec<_> = entries.iter().filter_map(|entry| entry.record.field(Field::Widen)).collect();
    assert_eq!(
        widen,
        [format!("add --allow http://{other}:80 to the command, or an [[allow]] to its rules file")]
    );
    assert!(!format!("{entries:?}").contains("run this now"));
}

#[tokio::test]
async fn c10_c11_a_key_that_the_host_keeps_comes_back_neither_in_pieces_nor_in_disguise() {
    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }
    let name = host();
    let kept = Mutex::new(String::new());
    let upstream = Loopback::https(&Host::Name(name.clone()), move |request| {
        let mut kept = kept.lock().unwrap();
        let range = request.headers().get("range").map(|range| range.to_str().unwrap().to_owned());
        match (request.uri().path(), range.as_deref().and_then(|range| range[6..].split_once('-'))) {
            ("/v1/store", _) => {
                *kept = request.headers()["authorization"].to_str().unwrap().replace("Bearer ", "");
                reply(StatusCode::OK, "kept")
            }
            ("/v2/gz", _) => reply_in_frames(stream::iter([Frame::data(gzip(kept.as_bytes()).into())])),
            (_, Some((from, to))) => {
                let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                reply(StatusCode::PARTIAL_CONTENT, kept[from..kept.len().min(to + 1)].to_owned())
            }
            (_, None) => reply(StatusCode::OK, kept.clone()),
        }
    })
    .await
    .unwrap();
    // The host is bound, whatever the path.
    let world = world(&upstream, &name, "/v1", "bearer").await;
    let bearer = format!("Authorization: Bearer {}", world.placeholder());
    let stored = format!("GET /v1/store HTTP/1.1\r\nHost: {name}\r\n{bearer}\r\n\r\n");
    assert_eq!(world.inside(name.as_str(), &stored).await.status, 200);
    let asked = format!("GET /v2/gz HTTP/1.1\r\nHost: {name}\r\n\r\n");
    let disguised = world.inside(name.as_str(), &asked).await;
    assert!(!disguised.head.contains("200") || disguised.body.is_empty(), "{disguised:?}");
    let mut pieces = String::new();
    for from in (0..world.key.len()).step_by(10) {
        let range = format!("Range: bytes={from}-{}\r\nIf-Range: \"x\"", from + 9);
        let asked = format!("GET /v2/kept HTTP/1.1\r\nHost: {name}\r\n{range}\r\n\r\n");
        pieces += &world.inside(name.as_str(), &asked).await.body;
    }
    assert!(!pieces.contains(&world.key[..10]), "{pieces}");
    let seen = upstream.requests();
    assert!(seen.iter().all(|seen| !seen.headers().contains_key("range")));
    let rules = world.refusals().await;
    assert_eq!(rules.first().map(String::as_str), Some("egress.disguised-body"), "{rules:?}");
}

/// Servers know `Range` under other names, and some send a part that nobody asked for.
#[tokio::test]
async fn c11_a_key_does_not_come_back_in_pieces_by_another_name_of_range() {
    let name = host();
    let named = Host::Name(name.clone());
    let upstream = Loopback::https(&named, |seen| {
        let heads = seen.headers();
        let whole = heads.get("authorization").map_or("none", |key| key.to_str().unwrap()).to_owned();
        let asked = ["request-range", "x-ms-range", "range"].iter().find_map(|name| heads.get(*name));
        let unasked = seen.uri().query().map(|query| format!("bytes={query}"));
        let range = asked.map(|range| range.to_str().unwrap().to_owned()).or(unasked);
        let Some(range) = range else { return reply(StatusCode::OK, "whole") };
        let (from, to) = range[6..].split_once('-').unwrap();
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        let part = whole.get(from..whole.len().min(to + 1)).unwrap_or_default().to_owned();
        // As up to three kinds of servers mark it.
        let marked = seen.uri().path();
        let mut answer =
            reply(if marked == "/v1/206" { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK }, part);
        if marked == "/v1/range" {
            answer.headers_mut().insert("content-range", format!("bytes {from}-{to}/*").parse().unwrap());
        }
        if marked == "/v1/parts" {
            answer.headers_mut().insert("content-type", "multipart/byteranges; boundary=x".parse().unwrap());
        }
        answer
    });
    let upstream = upstream.await.unwrap();
    let world = world(&upstream, &name, "/v1", "bearer").await;
    let bearer = format!("Authorization: Bearer {}", world.placeholder());
    let mut pieces = String::new();
    for from in (0..world.key.len() + 7).step_by(8) {
        let to = from + 7;
        for asked in ["Range", "Request-Range", "X-Ms-Range", "x_ms_range"] {
            let request =
                format!("GET /v1 HTTP/1.1\r\nHost: {name}\r\n{bearer}\r\n{asked}: bytes={from}-{to}\r\n\r\n");
            let answer = world.inside(name.as_str(), &request).await;
            assert!(answer.status == 200 && answer.body.contains("whole"), "{asked}: {answer:?}");
        }
        for path in ["/v1/206", "/v1/range", "/v1/parts"] {
            let request = format!("GET {path}?{from}-{to} HTTP/1.1\r\nHost: {name}\r\n{bearer}\r\n\r\n");
            let answer = world.inside(name.as_str(), &request).await;
            assert_eq!((answer.status, &*answer.code()), (403, "egress.partial"), "{path}: {answer:?}");
            pieces += &answer.body;
        }
    }
    // Its end is random; the id of a refusal can begin as it does.
    let end = &world.key[world.key.len() - 12..];
    assert!(!end.as_bytes().windows(8).any(|part| pieces.contains(std::str::from_utf8(part).unwrap())));
    assert!(world.refusals().await.iter().all(|rule| rule == "egress.partial"));
}

#[tokio::test]
async fn c21_m05_the_third_value_of_a_key_is_the_last_that_a_run_can_ask_for() {
    let (name, free) = (host(), host());
    let named = Host::Name(name.clone());
    let upstream = Loopback::https(&named, |seen| {
        let key = seen.headers().get("authorization").map_or("none", |key| key.to_str().unwrap());
        reply(StatusCode::OK, format!("you sent {key}"))
    });
    let upstream = upstream.await.unwrap();
    let other = Loopback::https(&Host::Name(free.clone()), |_| reply(StatusCode::OK, "fine")).await.unwrap();
    let mut config = leads_to(&upstream, &name);
    config.exceptions.push(other.exception(&free, types::Port::new(443).unwrap()));
    let granted = Granted { host: &name, path: "/v1", inject: "bearer" };
    let world = World::with_secret(config, reach(&[name.as_str(), free.as_str()]), granted).await;
    let bearer = format!("Authorization: Bearer {}", world.placeholder());
    let with_key = format!("GET /v1 HTTP/1.1\r\nHost: {name}\r\n{bearer}\r\n\r\n");
    for _ in 0..3 {
        let answer = world.inside(name.as_str(), &with_key).await;
        assert!(!format!("{answer:?}").contains(&world.key), "{answer:?}");
    }
    // The third is settled when its answer broke, which the client may see first.
    world.until_refused(3).await;
    let without = format!("GET /v2 HTTP/1.1\r\nHost: {name}\r\n\r\n");
    for request in [&with_key, &without] {
        let answer = world.inside(name.as_str(), request).await;
        assert_eq!((answer.status, &*answer.code()), (403, "policy.run-suspended"), "{request}");
    }
    assert_eq!(upstream.requests().len(), 3);
    // Nor elsewhere: where an answer breaks off says what was in it.
    let elsewhere = format!("GET / HTTP/1.1\r\nHost: {free}\r\n\r\n");
    assert_eq!(world.inside(free.as_str(), &elsewhere).await.code(), "policy.run-suspended");
    assert_eq!(other.requests().len(), 0);
    let (kinds, more) = world.proxy.run().refused();
    let told: Vec<(&str, &str, u64)> =
        kinds.iter().map(|kind| (&*kind.rule, &*kind.asked, kind.count)).collect();
    let place = format!("GET {name}:443");
    let away = format!("GET {free}:443");
    let known = [
        ("leaks.known-value", &*place, 3),
        ("policy.run-suspended", &*place, 2),
        ("policy.run-suspended", &*away, 1),
    ];
    assert_eq!((told, more), (known.to_vec(), 0));
    // By each id the owner finds one that is on the record.
    let entries = world.close().await;
    for kind in kinds {
        let has = |entry: &&audit::Entry| entry.record.field(Field::Refusal) == Some(&kind.id);
        assert_eq!(entries.iter().filter(has).count(), 1, "{kind:?}");
    }
}
