//! Where clients may go (attacks A04, A06, A09, N04 to N06, N12, N13, P01, P02, M08, R16, R17, S01, S08, S11, T09, X04).

use std::time::Duration;

use egress::Config;
use egress::loopback::{Loopback, reply};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use types::{Field, Host, Verdict};

use super::world::{World, leads_to, reach};
use crate::world::host;

async fn upstream(name: &types::HostName) -> Loopback {
    Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "fine")).await.unwrap()
}

#[tokio::test]
async fn a05_a_request_goes_through_and_its_record_holds_no_query() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[&format!("{name}/v1")])).await;
    let answer =
        world.inside(name.as_str(), &format!("GET /v1/x?q=hidden HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
    assert_eq!((answer.status, answer.body.contains("fine")), (200, true), "{answer:?}");
    let seen = upstream.requests().remove(0);
    assert_eq!(seen.uri().to_string(), "/v1/x?q=hidden");
    assert_eq!(seen.headers()["host"], name.as_str());
    let entries = world.close().await;
    assert!(!format!("{entries:?}").contains("hidden"));
    let settled = entries
        .iter()
        .find(|entry| entry.record.verdict == Verdict::Done && entry.record.field(Field::Status).is_some());
    let settled = &settled.unwrap().record;
    assert_eq!(settled.field(Field::Target), Some(&*format!("GET https://{name}/v1/x")));
    assert_eq!(settled.field(Field::Received), Some("4"));
}

#[tokio::test]
async fn x04_r17_what_no_rule_names_is_refused_before_a_name_is_looked_up() {
    let (name, evil) = (host(), host());
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    for to in [
        format!("{evil}:443"),
        format!("{name}:22"),
        format!("x{name}:443"),
        format!("{name}.evil.com:443"),
        "1.1.1.1:443".to_owned(),
    ] {
        let answer = world.raw(&format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nTOKEN\r\n\r\n")).await;
        assert_eq!((answer.status, answer.code()), (403, "policy.not-allowed".to_owned()), "{to}");
        // What would widen it is for the person alone (M11).
        assert!(!answer.body.contains("--allow") && answer.body.contains("CONNECT"), "{answer:?}");
    }
    let answer =
        world.raw(&format!("GET http://{name}:443/ HTTP/1.1\r\nHost: {name}:443\r\nTOKEN\r\n\r\n")).await;
    assert_eq!((answer.status, answer.code()), (403, "policy.scheme".to_owned()));
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    assert_eq!(world.refusals().await.len(), 6);
}

/// What the owner opened to the programs of this machine is not open to one in a container, whose rules name it.
#[tokio::test]
async fn s12_an_exception_is_for_no_container_unless_it_says_so() {
    let name = host();
    let upstream = upstream(&name).await;
    let asks = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let world = World::contained(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let refused = world.inside(name.as_str(), &asks).await;
    assert_eq!(
        (refused.status, refused.code()),
        (403, "egress.not-from-container".to_owned()),
        "{refused:?}"
    );
    assert!(!refused.body.contains("127.0.0.1") && !refused.body.contains("containers ="), "{refused:?}");
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    let settled = world.settled().await;
    assert!(settled[0].field(Field::Widen).unwrap().contains("containers = true"), "{settled:?}");

    let mut config = leads_to(&upstream, &name);
    config.exceptions[0].containers = true;
    let world = World::contained(config, reach(&[name.as_str()])).await;
    assert_eq!(world.inside(name.as_str(), &asks).await.status, 200);
}

#[tokio::test]
async fn n04_n05_n12_n13_t09_what_has_no_single_reading_is_400() {
    let name = host();
    let upstream = upstream(&name).await;
    let world =
        World::new(leads_to(&upstream, &name), reach(&[name.as_str(), &format!("http://{name}")])).await;
    for line in [
        format!("CONNECT {name} HTTP/1.1\r\nHost: {name}"),
        format!("CONNECT {name}:0 HTTP/1.1\r\nHost: {name}"),
        format!("CONNECT {name}:65536 HTTP/1.1\r\nHost: {name}"),
        format!("CONNECT user@{name}:443 HTTP/1.1\r\nHost: {name}:443"),
        format!("CONNECT {name}%00:443 HTTP/1.1\r\nHost: {name}:443"),
        "CONNECT [example.com]:443 HTTP/1.1\r\nHost: x".to_owned(),
        "CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\nHost: x".to_owned(),
        format!("GET http://user@{name}/ HTTP/1.1\r\nHost: {name}"),
        format!("GET http://{name}@evil.com/ HTTP/1.1\r\nHost: {name}"),
        format!("GET ftp://{name}/ HTTP/1.1\r\nHost: {name}"),
        format!("GET ws://{name}/ HTTP/1.1\r\nHost: {name}"),
        format!("GET /v1 HTTP/1.1\r\nHost: {name}"),
        format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\nHost: {name}"),
        format!("GET http://{name}/a/../b HTTP/1.1\r\nHost: {name}"),
        format!("TRACE http://{name}/ HTTP/1.1\r\nHost: {name}"),
        format!("get http://{name}/ HTTP/1.1\r\nHost: {name}"),
        format!("POST http://{name}/ HTTP/1.1\r\nHost: {name}\r\nContent-Length: 5\r\nContent-Length: 6"),
        format!("POST http://{name}/ HTTP/1.1\r\nHost: {name}\r\nTransfer-Encoding: xchunked"),
        format!("GET http://{name}/ HTTP/1.1\r\nHost : {name}"),
        format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n folded"),
    ] {
        let answer = world.raw(&format!("{line}\r\nTOKEN\r\n\r\n0\r\n\r\n")).await;
        assert_eq!(answer.status, 400, "{line}: {answer:?}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn p01_p02_m08_t13_what_changes_the_path_or_the_method_is_refused_inside() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[&format!("GET:{name}/public")])).await;
    for (request, status, code) in [
        ("GET /public/../secret", 400, "egress.malformed"),
        ("GET /public/%2e%2e/secret", 400, "egress.malformed"),
        ("GET /public//x", 400, "egress.malformed"),
        ("GET /public/%252e%252e/x", 400, "egress.malformed"),
        ("GET /public/..;/secret", 400, "egress.malformed"),
        ("GET /secret", 403, "policy.method-or-path"),
        ("GET /publicity", 403, "policy.method-or-path"),
        ("DELETE /public", 403, "policy.method-or-path"),
    ] {
        let answer =
            world.inside(name.as_str(), &format!("{request} HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
        assert_eq!((answer.status, &*answer.code()), (status, code), "{request}");
    }
    for header in [
        "X-HTTP-Method-Override: DELETE",
        "X-Original-URL: /secret",
        "X_Forwarded_Host: evil.com",
        "Upgrade: websocket\r\nConnection: upgrade",
    ] {
        let request = format!("GET /public HTTP/1.1\r\nHost: {name}\r\n{header}\r\n\r\n");
        let answer = world.inside(name.as_str(), &request).await;
        assert_eq!((answer.status, &*answer.code()), (403, "egress.routing-header"), "{header}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn t11_each_of_several_requests_in_a_tunnel_is_decided() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[&format!("{name}/public")])).await;
    let two = format!(
        "GET /public HTTP/1.1\r\nHost: {name}\r\n\r\nGET /secret HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    );
    let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
    stream.write_all(two.as_bytes()).await.unwrap();
    let mut answers = String::new();
    let _ = stream.read_to_string(&mut answers).await;
    assert!(answers.contains("200 OK") && answers.contains("policy.method-or-path"), "{answers}");
    let paths: Vec<String> = upstream.requests().iter().map(|seen| seen.uri().to_string()).collect();
    assert_eq!(paths, ["/public"]);
}

#[tokio::test]
async fn s01_s08_an_allowed_name_or_address_that_leads_inside_is_refused() {
    let upstream = Loopback::http(|_| reply(StatusCode::OK, "inside")).await.unwrap();
    let port = upstream.addr().port();
    let rules = [format!("http://127.0.0.1:{port}"), "http://169.254.169.254".to_owned()];
    let world = World::new(Config::default(), reach(&[&rules[0], &rules[1]])).await;
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://0x7f.1:{port}/"),
        "http://169.254.169.254/latest".to_owned(),
    ] {
        let authority = url.trim_start_matches("http://").split('/').next().unwrap();
        let answer = world.raw(&format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\nTOKEN\r\n\r\n")).await;
        assert_eq!((answer.status, &*answer.code()), (403, "egress.address"), "{url}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn r16_other_rules_hold_for_the_next_request_of_an_open_tunnel() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
    let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
    assert_eq!(super::world::exchange(&mut stream, request.as_bytes()).await.status, 200);
    world.proxy.run().replace(policy::Reach::default());
    let answer = super::world::exchange(&mut stream, request.as_bytes()).await;
    assert_eq!((answer.status, &*answer.code()), (403, "policy.not-allowed"));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn t09_a_body_with_two_lengths_has_one_reading_and_ends_the_connection() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: {name}\r\n\r\n");
    let request = format!(
        "POST /first HTTP/1.1\r\nHost: {name}\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        hidden.len() + 5
    );
    let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answers = String::new();
    let _ = stream.read_to_string(&mut answers).await;
    assert!(answers.starts_with("HTTP/1.1 200") && answers.contains("connection: close"), "{answers}");
    let seen = upstream.requests();
    let [first] = &seen[..] else { panic!("{seen:?}") };
    assert!(first.uri() == "/first" && first.body().is_empty());
}

#[tokio::test]
async fn a06_what_cannot_be_recorded_is_not_done() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::without_log(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let answer = world.inside(name.as_str(), &format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
    assert_eq!((answer.status, &*answer.code()), (503, "audit.not-recorded"));
    // Nor is a refusal told as if it had been.
    let answer =
        world.raw(&format!("CONNECT {name}:8443 HTTP/1.1\r\nHost: {name}:8443\r\nTOKEN\r\n\r\n")).await;
    assert_eq!((answer.status, &*answer.code()), (503, "audit.not-recorded"));
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn a04_nothing_in_an_address_writes_a_record_of_its_own() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[&format!("{name}/v1")])).await;
    for path in ["/v2/%0d%0a9%20allow", "/v2/%1b[2J", "/v2/a\u{202e}b", "/v2/\u{9b}2J"] {
        let answer =
            world.inside(name.as_str(), &format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
        assert!(matches!(answer.status, 400 | 403), "{path} {answer:?}");
    }
    let hosts =
        [format!("{name}\x1b[2J:443"), format!("{name}%0d%0a:443"), "a\u{202e}b.example:443".to_owned()];
    for host in hosts {
        let answer =
            world.raw(&format!("CONNECT {host} HTTP/1.1\r\nHost: {name}:443\r\nTOKEN\r\n\r\n")).await;
        assert_eq!(answer.status, 400, "{host:?}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    let hides = |text: &str| text.chars().any(|c| c.is_control() || c == '\u{202e}');
    for entry in world.close().await {
        assert!(entry.record.fields().iter().all(|(_, value)| !hides(value)), "{entry:?}");
    }
}

#[tokio::test]
async fn s11_what_changed_between_two_requests_of_one_tunnel_holds_for_the_second() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
    let get = |path: u32| format!("GET /{path} HTTP/1.1\r\nHost: {name}\r\n\r\n");
    for (path, connections) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        if path == 3 {
            // A policy of its own has connections of its own.
            world.policy.reload(policy::Settings::default()).unwrap();
        }
        assert_eq!(super::world::exchange(&mut stream, get(path).as_bytes()).await.status, 200);
        assert_eq!(upstream.connections(), connections);
    }
    world.proxy.run().replace(reach(&["other.example"]));
    assert_eq!(super::world::exchange(&mut stream, get(5).as_bytes()).await.code(), "policy.not-allowed");
    assert_eq!((upstream.connections(), upstream.requests().len()), (2, 4));
}

#[tokio::test]
async fn a09_a_request_that_nobody_answers_is_refused_at_the_time_limit() {
    let name = host();
    let upstream = upstream(&name).await;
    let rules =
        format!("[[allow]]\nhost = \"{name}\"\n[[allow]]\nhost = \"{name}\"\npath = \"/pay\"\nask = true\n");
    let rules = policy::Reach::parse(rules.as_bytes()).unwrap();
    let world =
        World::waiting(leads_to(&upstream, &name), rules, std::time::Duration::from_millis(600)).await;
    let post = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: {name}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let answer = world.inside(name.as_str(), &post("/pay/now", "amount=1")).await;
    assert_eq!((answer.status, &*answer.code()), (403, "policy.answered-late"));
    // One that is too long to be shown is not even held.
    let answer = world.inside(name.as_str(), &post("/pay/now", &"x".repeat(300_000))).await;
    assert_eq!((answer.status, &*answer.code()), (403, "policy.held-unseen"));
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    assert_eq!(world.inside(name.as_str(), &post("/other", "amount=1")).await.status, 200);
    let entries = world.close().await;
    let asked = entries.iter().filter(|entry| entry.record.verdict == Verdict::Ask);
    assert_eq!(asked.count(), 1);
}

#[tokio::test]
async fn a09_an_approval_does_not_outlive_the_rule_that_asked_for_it() {
    let name = host();
    let upstream = upstream(&name).await;
    let rules = format!("[[allow]]\nhost = \"{name}\"\nask = true\n");
    let rules = policy::Reach::parse(rules.as_bytes()).unwrap();
    let world = World::waiting(leads_to(&upstream, &name), rules, std::time::Duration::from_secs(60)).await;
    let get = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
    let (answer, ()) = tokio::join!(world.inside(name.as_str(), &get), world.approve());
    assert_eq!(answer.status, 200);
    let (answer, ()) = tokio::join!(world.inside(name.as_str(), &get), async {
        world.waits().await;
        world.proxy.run().replace(reach(&["other.example"]));
        world.approve().await;
    });
    assert_eq!((answer.status, &*answer.code()), (403, "policy.not-allowed"));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a09_an_approval_is_for_the_headers_that_were_shown() {
    let name = host();
    let upstream = upstream(&name).await;
    let rules = format!("[[allow]]\nhost = \"{name}\"\nask = true\n");
    let rules = policy::Reach::parse(rules.as_bytes()).unwrap();
    let wait = std::time::Duration::from_secs(2);
    let world = World::waiting(leads_to(&upstream, &name), rules, wait).await;
    let get = |amount: u32| {
        format!("GET / HTTP/1.1\r\nHost: {name}\r\nX-Amount: {amount}\r\nConnection: close\r\n\r\n")
    };
    let (shown, other) = (get(1), get(2));
    // The other one comes while the first waits, and does not take its approval.
    let (first, (second, card)) = tokio::join!(world.inside(name.as_str(), &shown), async {
        world.waits().await;
        tokio::join!(world.inside(name.as_str(), &other), world.approve_one("x-amount: 1"))
    });
    assert_eq!((first.status, second.status), (200, 403), "{second:?}");
    assert_eq!(second.code(), "policy.answered-late");
    assert!(card.contains("x-amount: 1"), "{card}");
    let seen = upstream.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].headers()["x-amount"], "1");
}

#[tokio::test]
async fn p05_a_batch_is_refused_where_a_rule_takes_one_call_a_request() {
    let name = host();
    let upstream = upstream(&name).await;
    let rules = format!(
        "[[allow]]\nhost = \"{name}\"\n[[allow]]\nhost = \"{name}\"\npath = \"/rpc\"\nsingle = true\n"
    );
    let rules = policy::Reach::parse(rules.as_bytes()).unwrap();
    let world = World::new(leads_to(&upstream, &name), rules).await;
    let post = |path: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: {name}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let call = r#"{"jsonrpc":"2.0","method":"read","id":1}"#;
    let batch = format!(" [{call},{call}]");
    let long = format!(r#"{{"method":"read","x":"{}"}}"#, "x".repeat(300_000));
    for body in [&*batch, "[]", "7", "query=%7Ba%7D", "\u{feff}{}", &format!("{call}{call}"), &long] {
        let answer = world.inside(name.as_str(), &post("/rpc", body)).await;
        assert_eq!(
            (answer.status, &*answer.code()),
            (403, "policy.not-single"),
            "{}",
            &body[..body.len().min(60)]
        );
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    assert_eq!(world.inside(name.as_str(), &post("/rpc", call)).await.status, 200);
    assert_eq!(world.inside(name.as_str(), &post("/rpc", "")).await.status, 200);
    assert_eq!(world.inside(name.as_str(), &post("/other", &batch)).await.status, 200);
}

/// What a WebSocket will carry is not known when it is opened: it is neither one call nor what an owner approved.
#[tokio::test]
async fn t13_a_websocket_opens_under_no_rule_that_looks_at_each_request() {
    let name = host();
    let upstream = upstream(&name).await;
    for (rule, code) in [("single", "policy.not-single"), ("ask", policy::rules::HELD_UNSEEN.id)] {
        let rules = format!("[[allow]]\nhost = \"{name}\"\n{rule} = true\n");
        let rules = policy::Reach::parse(rules.as_bytes()).unwrap();
        let world = World::waiting(leads_to(&upstream, &name), rules, Duration::from_millis(1)).await;
        let opens = format!(
            "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
        stream.write_all(opens.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer[..read.unwrap().unwrap()]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(code), "{rule}: {answer}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn c09_no_answer_of_the_proxys_own_repeats_what_the_client_sent() {
    let (name, gone, tls) = (host(), host(), host());
    let upstream = upstream(&name).await;
    let mut config = leads_to(&upstream, &name);
    // Nobody listens there, and nobody there proves to be this host.
    let nobody = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let mut exception = upstream.exception(&gone, types::Port::new(443).unwrap());
    exception.address = nobody;
    config.exceptions.push(exception);
    config.exceptions.push(upstream.exception(&tls, types::Port::new(443).unwrap()));
    let world = World::new(config, reach(&[&format!("{name}/v1"), gone.as_str(), tls.as_str()])).await;
    let marked =
        "X-Note: m4rk\r\nAuthorization: Bearer m4rk\r\nCookie: m4rk=m4rk\r\nContent-Length: 4\r\n\r\nm4rk";
    for (to, line, status) in [
        (&name, format!("POST /v2?m4rk HTTP/1.1\r\nHost: {name}"), 403),
        (&name, format!("POST /v1/../m4rk HTTP/1.1\r\nHost: {name}"), 400),
        (&name, "POST /v1?m4rk HTTP/1.1\r\nHost: m4rk.example".to_owned(), 421),
        (&gone, format!("POST /v1?m4rk HTTP/1.1\r\nHost: {gone}"), 502),
        (&tls, format!("POST /v1?m4rk HTTP/1.1\r\nHost: {tls}"), 502),
        (&name, format!("POST /v1?m4rk HTTP/1.1\r\nHost: {name}\r\nHost : m4rk"), 400),
    ] {
        let answer = world.inside(to.as_str(), &format!("{line}\r\n{marked}")).await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(!format!("{answer:?}").contains("m4rk"), "{line}: {answer:?}");
    }
    let unproven = world.raw(&format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n{marked}")).await;
    assert!(unproven.status == 407 && !format!("{unproven:?}").contains("m4rk"), "{unproven:?}");
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn s08_the_proxys_own_port_is_reached_through_no_proxy() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let own = format!("127.0.0.1:{}", world.port);
    world.proxy.run().replace(reach(&[&format!("http://{own}"), &own]));
    let answer = world.raw(&format!("GET http://{own}/ HTTP/1.1\r\nHost: {own}\r\nTOKEN\r\n\r\n")).await;
    assert_eq!((answer.status, &*answer.code()), (403, "egress.address"), "{answer:?}");
}

#[tokio::test]
async fn x01_lookups_in_tls_and_in_https_are_requests_like_any_other() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    for resolver in ["dns.google:853", "1.1.1.1:853", "dns.google:443", "1.1.1.1:443"] {
        let connect = format!("CONNECT {resolver} HTTP/1.1\r\nHost: {resolver}\r\nTOKEN\r\n\r\n");
        let answer = world.raw(&connect).await;
        assert_eq!((answer.status, &*answer.code()), (403, "policy.not-allowed"), "{resolver}: {answer:?}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    assert_eq!(world.refusals().await, ["policy.not-allowed"; 4]);
}

#[tokio::test]
async fn a08_of_one_host_port_and_method_one_question_waits_at_a_time() {
    let (name, other) = (host(), host());
    let upstream = upstream(&name).await;
    let rules =
        format!("[[allow]]\nhost = \"{name}\"\nask = true\n[[allow]]\nhost = \"{other}\"\nask = true\n");
    let rules = policy::Reach::parse(rules.as_bytes()).unwrap();
    let wait = std::time::Duration::from_secs(60);
    let world = World::waiting(leads_to(&upstream, &name), rules, wait).await;
    let post = |path: &str| {
        format!(
            "POST /{path} HTTP/1.1\r\nHost: {name}\r\nContent-Length: 8\r\nConnection: close\r\n\r\nto={path:>5}"
        )
    };
    let paths = ["a", "b", "c", "d"];
    let asked = futures_util::future::join_all(
        paths.map(async |path| world.inside(name.as_str(), &post(path)).await),
    );
    let owner = async {
        for _ in paths {
            let first = world.waits().await;
            let rows = world.waiting_rows().await;
            assert_eq!(rows.len(), 1, "{rows:?}");
            // What is asked is shown, body included.
            assert!(paths.iter().any(|path| rows[0].card.contains(&format!("to={path:>5}"))), "{rows:?}");
            world.approve().await;
            assert!(world.waiting_rows().await.iter().all(|row| row.id != first));
        }
    };
    let (answers, ()) = tokio::join!(asked, owner);
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    // Another place has a question of its own.
    let elsewhere = format!("POST /x HTTP/1.1\r\nHost: {other}\r\nContent-Length: 0\r\n\r\n");
    let both = async {
        for _ in 0..1000 {
            if world.waiting_rows().await.len() == 2 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("one question only");
    };
    let here = post("e");
    tokio::select! {
        answer = world.inside(name.as_str(), &here) => panic!("{answer:?}"),
        answer = world.inside(other.as_str(), &elsewhere) => panic!("{answer:?}"),
        () = both => {}
    }
}

#[tokio::test]
async fn a09_nothing_waits_of_a_run_that_has_ended() {
    let name = host();
    let upstream = upstream(&name).await;
    let rules = format!("[[allow]]\nhost = \"{name}\"\nask = true\n");
    let rules = policy::Reach::parse(rules.as_bytes()).unwrap();
    let wait = std::time::Duration::from_secs(600);
    let world = World::waiting(leads_to(&upstream, &name), rules, wait).await;
    let get = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
    let id = tokio::select! {
        answer = world.inside(name.as_str(), &get) => panic!("{answer:?}"),
        id = world.waits() => id,
    };
    let entries = world.close().await;
    let ended = entries.iter().map(|entry| &entry.record).filter(|record| {
        record.field(Field::Finding) == Some(&id.to_string()) && record.field(Field::State) == Some("expired")
    });
    assert_eq!(ended.count(), 1, "{entries:?}");
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn p02_a_parameter_that_asks_for_another_method_is_refused_where_the_method_counts() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[&format!("GET,POST:{name}/public")])).await;
    let post = |path: &str, kind: &str, body: &str| {
        format!(
            "POST /public{path} HTTP/1.1\r\nHost: {name}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let form = "application/x-www-form-urlencoded";
    let part = "--b\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nDELETE\r\n--b--\r\n";
    let overriding = [
        post("?a=b&_method=DELETE", form, ""),
        post("?%5Fmethod=put", form, ""),
        post("?X-HTTP-Method-Override=PUT", form, ""),
        post("", form, "a=b&_Method=DELETE"),
        post("", "multipart/form-data; boundary=b", part),
        post("", "application/json", "{\"_method\": \"DELETE\"}"),
    ];
    for request in &overriding {
        let answer = world.inside(name.as_str(), request).await;
        assert_eq!((answer.status, &*answer.code()), (403, "policy.method-override"), "{request}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    for honest in [post("?method=x", form, "a=_method"), post("", "application/json", "{\"a\": \"_method\"}")]
    {
        assert_eq!(world.inside(name.as_str(), &honest).await.status, 200, "{honest}");
    }
    // Where every method is allowed there is nothing to get around.
    world.proxy.run().replace(reach(&[name.as_str()]));
    assert_eq!(world.inside(name.as_str(), &overriding[0]).await.status, 200);
}

#[tokio::test]
async fn p01_no_spelling_of_a_path_leaves_the_rule_that_asks() {
    let name = host();
    let upstream = upstream(&name).await;
    let rules = format!(
        "[[allow]]\nhost = \"{name}\"\n[[allow]]\nhost = \"{name}\"\npath = \"/transfer\"\nask = true\n"
    );
    let rules = policy::Reach::parse(rules.as_bytes()).unwrap();
    let world = World::waiting(leads_to(&upstream, &name), rules, Duration::from_millis(1)).await;
    let post = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: {name}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    for path in ["/transfer;x=1", "/Transfer", "/transfer%20", "/transfer.", "/transfer.json"] {
        let answer = world.inside(name.as_str(), &post(path)).await;
        assert_eq!((answer.status, &*answer.code()), (403, "policy.answered-late"), "{path}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    assert_eq!(world.inside(name.as_str(), &post("/transfers")).await.status, 200);
}
