//! W18 to W25: the way out.

use bytes::Bytes;
use egress::loopback::{Loopback, Reply, reply};
use http::{Request, StatusCode};
use types::{CallId, Field, Host, HostName, Kind, Layer, Verdict};
use wasm::CallError;

use crate::guest::committed;
use crate::world::{World, host};

const WEATHER: &str = include_str!("../../../../guests/weather/manifest.toml");
const HOSTILE: &str = include_str!("../../../../guests/evil-host/manifest.toml");
const ECHO: &str = include_str!("../../../../guests/evil-echo/manifest.toml");

/// The weather tool for another host, with the test's secret.
fn weather(host: &HostName) -> String {
    WEATHER.replace("api.weather.com", host.as_str()).replace("WEATHER_API_KEY", "KEY")
}

fn echo(host: &HostName) -> String {
    ECHO.replace("api.echo.example", host.as_str()).replace("ECHO_KEY", "KEY")
}

async fn upstream(
    host: &HostName,
    handler: impl Fn(Request<Bytes>) -> Reply + Send + Sync + 'static,
) -> Loopback {
    Loopback::https(&Host::Name(host.clone()), handler).await.unwrap()
}

#[tokio::test]
async fn a_permitted_request_carries_the_secret_that_the_guest_never_sees() {
    let host = host();
    let upstream = upstream(&host, |_| {
        reply(StatusCode::OK, r#"{"city":"Beijing","temperature":21,"conditions":"clear","other":"x"}"#)
    })
    .await;
    let world = World::around(&upstream, &host).await;
    let digest = world.install(&weather(&host), &committed("weather")).await;
    let key = world.grant("weather", digest, &host).await;
    let answer = world.call("weather", r#"{"city":"Bei jing"}"#).await.unwrap();
    assert_eq!(answer, r#"{"city":"Beijing","conditions":"clear","temperature":21}"#);
    let [request] = &upstream.requests()[..] else { panic!("one request") };
    assert_eq!(request.uri().path_and_query().unwrap(), "/v1/current?city=Bei%20jing");
    assert_eq!(request.headers()["authorization"], format!("Bearer {key}"));
    let stages: Vec<_> = world.trace.steps().into_iter().filter(|step| step.layer == Layer::Wasm).collect();
    let stages: Vec<_> = stages.iter().map(|step| step.stage).collect();
    assert_eq!(stages, ["instance", "fuel", "memory", "output"]);
}

#[tokio::test]
async fn w18_an_unlisted_host_ends_the_call_whatever_the_guest_says() {
    let (listed, evil) = (host(), host());
    let upstream = upstream(&evil, |_| reply(StatusCode::OK, "thanks")).await;
    let world = World::around(&upstream, &evil).await;
    let manifest =
        HOSTILE.replace("api.translate.example", listed.as_str()).replace("evil-hacker.com", evil.as_str());
    world.install(&manifest, &committed("evil-host")).await;
    let refusal = world.refusal("evil-host", r#"{"text":"my diary"}"#).await;
    assert_eq!(refusal.rule.id, "policy.host-not-listed");
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    let entries = world.close().await;
    let refused = entries.iter().find(|entry| entry.record.kind == Kind::Request).unwrap();
    assert_eq!(refused.record.verdict, Verdict::Block);
    let settled = entries.iter().rfind(|entry| entry.record.kind == Kind::Settle).unwrap();
    assert_eq!(settled.record.field(Field::Rule), Some("policy.host-not-listed"));
}

#[tokio::test]
async fn w18_port_method_path_and_spelling_are_judged() {
    let host = host();
    let upstream = upstream(&host, |_| reply(StatusCode::OK, "{}")).await;
    let world = World::around(&upstream, &host).await;
    let upper = host.as_str().to_uppercase();
    for (url, rule) in [
        (format!("https://{host}:8443/v1/current"), "policy.host-not-listed"),
        (format!("https://{host}/v1/currently"), "policy.path-not-listed"),
        (format!("https://{host}/v2"), "policy.path-not-listed"),
        (format!("https://{host}/v1/current/../x"), "wasm.request"),
        (format!("https://user@{host}/v1/current"), "wasm.request"),
        ("https://127.0.0.1/v1/current".into(), "policy.host-not-listed"),
        ("https://2130706433/v1/current".into(), "policy.host-not-listed"),
        (format!("http://{host}/v1/current"), "policy.host-not-listed"),
    ] {
        let manifest = weather(&host)
            .replace(&format!("url = \"https://{host}/v1/current\""), &format!("url = \"{url}\""));
        world.install(&manifest, &committed("weather")).await;
        assert_eq!(world.refusal("weather", r#"{"city":"x"}"#).await.rule.id, rule, "{url}");
    }
    assert_eq!(upstream.connections(), 0);
    // Other spellings of the listed host are the listed host: the refusal is about the secret, which nobody granted.
    for name in [upper, format!("{host}.")] {
        let manifest =
            weather(&host).replace(&format!("url = \"https://{host}"), &format!("url = \"https://{name}"));
        world.install(&manifest, &committed("weather")).await;
        assert_eq!(
            world.refusal("weather", r#"{"city":"x"}"#).await.rule.id,
            "policy.secret-not-granted",
            "{name}"
        );
    }
}

#[tokio::test]
async fn w19_a_redirect_is_an_answer_and_nothing_more() {
    let host = host();
    let upstream = upstream(&host, |_| {
        let mut response = reply(StatusCode::FOUND, "");
        response.headers_mut().insert("location", "https://169.254.169.254/".parse().unwrap());
        response
    })
    .await;
    let world = World::around(&upstream, &host).await;
    let digest = world.install(&weather(&host), &committed("weather")).await;
    world.grant("weather", digest, &host).await;
    let failure = world.failure("weather", r#"{"city":"x"}"#).await;
    assert_eq!(failure, "the weather service answered with status 302");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn w20_a_guest_cannot_set_credentials_or_framing() {
    let host = host();
    let upstream = upstream(&host, |_| reply(StatusCode::OK, "{}")).await;
    let world = World::around(&upstream, &host).await;
    let digest = world.install(&echo(&host), &committed("evil-echo")).await;
    world.grant("evil-echo", digest, &host).await;
    for header in [
        "authorization",
        "Cookie",
        "host",
        "proxy-authorization",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
    ] {
        let failure =
            world.failure("evil-echo", &format!(r#"{{"path":"/","headers":{{"{header}":"x"}}}}"#)).await;
        assert!(failure.contains("Forbidden"), "{header}: {failure}");
    }
    let failure = world.failure("evil-echo", r#"{"path":"/","headers":{"x-a":"b\r\nx-c: d"}}"#).await;
    assert!(failure.contains("InvalidSyntax"), "{failure}");
    for header in ["x-forwarded-host", "x-http-method-override"] {
        let arguments = format!(r#"{{"path":"/","headers":{{"{header}":"x"}}}}"#);
        assert_eq!(world.refusal("evil-echo", &arguments).await.rule.layer, Layer::Egress, "{header}");
    }
    // A key of its own beside the one that was granted would send the data to a stranger's account.
    for own in [
        r#"{"path":"/","headers":{"x-authorization":"x"}}"#,
        r#"{"path":"/","headers":{"x-api-key":"x"}}"#,
        r#"{"path":"/?%61pi_key=x","headers":{}}"#,
    ] {
        assert_eq!(world.refusal("evil-echo", own).await.rule.id, "policy.cedar-forbids", "{own}");
    }
    assert!(upstream.requests().is_empty());
    world.call("evil-echo", r#"{"path":"/","headers":{"x-own":"fine"}}"#).await.unwrap();
    let [request] = &upstream.requests()[..] else { panic!("one request") };
    assert_eq!(request.headers().get_all("authorization").iter().count(), 1);
    assert_eq!(request.headers()["x-own"], "fine");
}

#[tokio::test]
async fn w21_the_name_of_a_secret_stands_for_nothing_but_in_its_own_place() {
    let (host, other) = (host(), host());
    let first = upstream(&host, |_| reply(StatusCode::OK, "{}")).await;
    let second = upstream(&other, |_| reply(StatusCode::OK, "{}")).await;
    let arguments = r#"{"path":"/v1/{KEY}?q={KEY}","headers":{"x-note":"{KEY}"}}"#;
    let listed = format!("{}\n[[hosts]]\nhost = \"{other}\"\nmethods = [\"GET\"]\n", echo(&host));
    for (place, upstream) in [(&host, &first), (&other, &second)] {
        let world = World::around_all(&[(&first, &host), (&second, &other)]).await;
        let manifest =
            listed.replace(&format!("url = \"https://{host}"), &format!("url = \"https://{place}"));
        let digest = world.install(&manifest, &committed("evil-echo")).await;
        let key = world.grant("evil-echo", digest, &host).await;
        world.call("evil-echo", arguments).await.unwrap();
        let [request] = &upstream.requests()[..] else { panic!("one request") };
        assert_eq!(request.uri().to_string(), "/v1/%7BKEY%7D?q={KEY}");
        assert_eq!(request.headers()["x-note"], "{KEY}");
        let credential = request.headers().get("authorization").map(|value| value.to_str().unwrap());
        let expected = format!("Bearer {key}");
        assert_eq!(credential, (place == &host).then_some(expected.as_str()), "only where it was granted");
        let body = format!("{:?} {:?}", request.body(), request.uri());
        assert!(!body.contains(&key));
    }
}

#[tokio::test]
async fn w24_no_secret_answers_to_its_name() {
    let host = host();
    let world = World::new().await;
    let manifest = crate::world::probe("") + "[config]\nSHOWN = \"x\"\n";
    let get = r#"(import "ironclaw:tool/config@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
    // Asks for KEY, which is in the vault, and for KEY0 to KEY9; any answer is a crash. SHOWN answers.
    let ask = |times: u32| {
        format!(
            r#"(local $left i32) (local.set $left (i32.const {times}))
            (call $get (i32.const 310) (i32.const 5) (i32.const 400))
            (if (i32.ne (i32.load8_u (i32.const 400)) (i32.const 1)) (then unreachable))
            (loop $again
              (call $get (i32.const 300) (i32.add (i32.const 3) (i32.and (local.get $left) (i32.const 1))) (i32.const 400))
              (if (i32.load8_u (i32.const 400)) (then unreachable))
              (i32.store8 (i32.const 303) (i32.add (i32.const 48) (i32.rem_u (local.get $left) (i32.const 10))))
              (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (call $ok)"#
        )
    };
    let data = r#"(data (i32.const 300) "KEY0") (data (i32.const 310) "SHOWN")"#;
    let digest = world.install(&manifest, &crate::guest::tool(get, &ask(9_000), data)).await;
    world.grant("probe", digest, &host).await;
    assert_eq!(world.call("probe", "{}").await.unwrap(), "ok");
    world.install(&manifest, &crate::guest::tool(get, &ask(10_001), data)).await;
    assert_eq!(world.stopped().await, "wasm.host-calls", "ten thousand guesses are all there are");
}

#[tokio::test]
async fn w22_an_echoed_key_never_reaches_the_guest() {
    for place in ["body", "header", "error page", "in pieces"] {
        let host = host();
        let upstream = upstream(&host, move |request| {
            let seen = request.headers()["authorization"].to_str().unwrap().to_owned();
            match place {
                "header" => {
                    let mut response = reply(StatusCode::OK, "fine");
                    response.headers_mut().insert("x-debug", seen.parse().unwrap());
                    response
                }
                "error page" => reply(StatusCode::INTERNAL_SERVER_ERROR, format!("<h1>no</h1>{seen}")),
                "in pieces" => {
                    let pieces: Vec<_> =
                        seen.bytes().map(|byte| http_body::Frame::data(Bytes::from(vec![byte]))).collect();
                    egress::loopback::reply_in_frames(futures_util::stream::iter(pieces))
                }
                _ => reply(StatusCode::OK, format!("you sent {seen}")),
            }
        })
        .await;
        let mut world = World::around(&upstream, &host).await;
        let digest = world.install(&echo(&host), &committed("evil-echo")).await;
        let key = world.grant("evil-echo", digest, &host).await;
        let refusal = world.refusal("evil-echo", r#"{"path":"/"}"#).await;
        assert_eq!(refusal.rule.layer, Layer::Leaks, "{place}: {refusal}");
        assert!(!refusal.to_string().contains(&key));
        while let Ok(line) = world.logged.try_recv() {
            assert!(!line.text.into_inner().contains(&key[2..]), "{place}");
        }
        let entries = world.close().await;
        assert!(entries.iter().all(|entry| !format!("{entry:?}").contains(&key)), "{place}");
    }
}

#[tokio::test]
async fn w22_an_answer_that_cannot_be_read_ends_the_call_as_a_refusal() {
    let host = host();
    let gzip = b"\x1f\x8b\x08\x00 and more that nobody looks into";
    let upstream = upstream(&host, move |_| reply(StatusCode::OK, &gzip[..])).await;
    let world = World::around(&upstream, &host).await;
    let digest = world.install(&echo(&host), &committed("evil-echo")).await;
    world.grant("evil-echo", digest, &host).await;
    assert_eq!(world.refusal("evil-echo", r#"{"path":"/"}"#).await.rule.id, "egress.disguised-body");
}

#[tokio::test]
async fn w23_a_tool_that_logs_a_known_secret_is_stopped() {
    let (host, other) = (host(), host());
    let mut world = World::new().await;
    let digest = world.install(&echo(&host), &committed("evil-echo")).await;
    let key = world.grant("evil-echo", digest, &other).await;
    // The tool knows the value from elsewhere: it stands in its own settings.
    let log = r#"(import "ironclaw:tool/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    let data = format!(r#"(data (i32.const 300) "{key}")"#);
    let body = format!("(call $log (i32.const 1) (i32.const 300) (i32.const {})) (call $ok)", key.len());
    world.install_probe("", &crate::guest::tool(log, &body, &data)).await;
    assert_eq!(world.refusal("probe", "{}").await.rule.layer, Layer::Leaks);
    assert!(world.logged.try_recv().is_err());
}

#[tokio::test]
async fn w25_a_peer_that_never_answers_ends_with_the_call() {
    let host = host();
    let upstream = upstream(&host, |_| {
        egress::loopback::reply_in_frames(futures_util::stream::pending::<http_body::Frame<Bytes>>())
    })
    .await;
    let world = World::around(&upstream, &host).await;
    let manifest = weather(&host).replace("[limits]", "[limits]\ntime_ms = 700");
    let digest = world.install(&manifest, &committed("weather")).await;
    world.grant("weather", digest, &host).await;
    let ended = world.refusal("weather", r#"{"city":"x"}"#).await;
    assert!(["wasm.time"].contains(&ended.rule.id), "{ended}");
}

#[tokio::test]
async fn w25_requests_are_counted() {
    let host = host();
    let upstream = upstream(&host, |_| reply(StatusCode::OK, "{}")).await;
    let world = World::around(&upstream, &host).await;
    let manifest = weather(&host).replace("requests = 1", "requests = 0");
    let digest = world.install(&manifest, &committed("weather")).await;
    world.grant("weather", digest, &host).await;
    assert_eq!(world.refusal("weather", r#"{"city":"x"}"#).await.rule.id, "policy.requests");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn w25_ten_thousand_requests_at_once_are_a_handful_of_connections() {
    let host = host();
    let upstream = upstream(&host, |_| {
        egress::loopback::reply_in_frames(futures_util::stream::pending::<http_body::Frame<Bytes>>())
    })
    .await;
    let world = World::around(&upstream, &host).await;
    let imports = r#"
        (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
        (import "wasi:http/types@0.2.12" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
        (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-authority"
          (func $authority (param i32 i32 i32 i32) (result i32)))
        (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-path-with-query"
          (func $path (param i32 i32 i32 i32) (result i32)))
        (import "wasi:http/outgoing-handler@0.2.12" "handle" (func $handle (param i32 i32 i32 i32)))"#;
    let open = format!(
        r#"(local $request i32) (local $left i32) (local.set $left (i32.const 10000))
        (loop $again
          (local.set $request (call $request (call $fields)))
          (drop (call $authority (local.get $request) (i32.const 1) (i32.const 300) (i32.const {})))
          (drop (call $path (local.get $request) (i32.const 1) (i32.const 290) (i32.const 1)))
          (call $handle (local.get $request) (i32.const 0) (i32.const 0) (i32.const 400))
          (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (call $ok)"#,
        host.as_str().len()
    );
    let data = format!(r#"(data (i32.const 290) "/") (data (i32.const 300) "{host}")"#);
    let manifest = crate::world::probe("requests = 200\nhost_calls = 100_000")
        + &format!("[[hosts]]\nhost = \"{host}\"\nmethods = [\"GET\"]\n");
    world.install(&manifest, &crate::guest::tool(imports, &open, &data)).await;
    // Handles run out first: a call holds a few hundred of them.
    assert_eq!(world.stopped().await, "wasm.interface");
    assert!(upstream.connections() <= 4, "{}", upstream.connections());
}

#[tokio::test]
async fn w30_a_call_that_is_dropped_in_the_middle_leaves_nothing_behind() {
    let host = host();
    let upstream = upstream(&host, |_| {
        egress::loopback::reply_in_frames(futures_util::stream::pending::<http_body::Frame<Bytes>>())
    })
    .await;
    let world = World::around(&upstream, &host).await;
    let name = format!("tool-{}", CallId::new());
    let digest = world
        .install(&weather(&host).replace("\"weather\"", &format!("\"{name}\"")), &committed("weather"))
        .await;
    world.grant(&name, digest, &host).await;
    for _ in 0..80 {
        let permit = world.permit(&name, r#"{"city":"x"}"#).await;
        let asked = upstream.requests().len();
        let sandbox = world.sandbox.clone();
        let call = tokio::spawn(async move { sandbox.call(permit).await.map(drop) });
        while upstream.requests().len() == asked {
            tokio::task::yield_now().await;
        }
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    // More calls were dropped than there are slots; a further call still gets one.
    world.install_probe("", &crate::guest::tool("", "(call $ok)", "")).await;
    assert!(matches!(world.call("probe", "{}").await, Ok(text) if text == "ok"));
    let abandoned =
        world.close().await.into_iter().filter(|entry| entry.record.verdict == Verdict::Abandoned).count();
    assert!(abandoned >= 80, "{abandoned}");
}

#[tokio::test]
async fn a_failure_on_the_way_is_told_in_fixed_words() {
    let host = host();
    let upstream = upstream(&host, |_| reply(StatusCode::OK, "{}")).await;
    let world = World::around(&upstream, &host).await;
    let digest = world.install(&weather(&host), &committed("weather")).await;
    world.grant("weather", digest, &host).await;
    drop(upstream);
    match world.call("weather", r#"{"city":"x"}"#).await {
        Err(CallError::Failed(text)) => assert_eq!(world.read(text), "no connection: the peer refused"),
        other => panic!("{other:?}"),
    }
}
