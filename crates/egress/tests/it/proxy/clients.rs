//! Real clients: curl, git, openssl, Python with requests, gRPC and websockets.

use std::path::Path;
use std::process::{Output, Stdio};

use egress::loopback::{Loopback, reply};
use http::{Method, StatusCode};
use tokio::process::Command;
use types::{Host, HostName};

use super::sockets::Server;
use super::world::{Granted, World, leads_to, reach};
use crate::echo_server::EchoServer;
use crate::world::host;

/// A client in an environment that holds what `ironclaw proxy` prints, and nothing of the tester's.
#[allow(clippy::disallowed_methods, reason = "a client of the proxy under test is a process")]
async fn run(world: &World, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.args(arguments).env_clear().env("PATH", path).env("HOME", world.folder());
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env(name, world.url());
    }
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"] {
        command.env(name, &world.ca);
    }
    command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn echo(name: &HostName) -> Loopback {
    let answer = |seen: http::Request<bytes::Bytes>| {
        let key = seen.headers().get("authorization").is_some();
        reply(StatusCode::OK, format!("{} {} {} key: {key}", seen.method(), seen.uri(), seen.body().len()))
    };
    Loopback::https(&Host::Name(name.clone()), answer).await.unwrap()
}

#[tokio::test]
async fn t06_curl_in_either_version_of_http() {
    let name = host();
    let upstream = echo(&name).await;
    let granted = Granted { host: &name, path: "/", inject: "bearer" };
    let world = World::with_secret(leads_to(&upstream, &name), reach(&[name.as_str()]), granted).await;
    let file = world.folder().join("upload");
    std::fs::write(&file, "a line of an upload\n".repeat(50_000)).unwrap();
    let (file, url) = (format!("@{}", file.display()), format!("https://{name}/v1?q=x"));
    let bearer = format!("Authorization: Bearer {}", world.placeholder());
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let write = ["-sS", flag, "-w", " HTTP/%{http_version}", "-H", &bearer, "--data-binary", &file, &url];
        let ran = run(&world, "curl", &write).await;
        assert_eq!(text(&ran.stdout), format!("POST /v1?q=x 1000000 key: true HTTP/{version}"), "{ran:?}");
        let refused = ["-sS", flag, "-w", " %{http_code}", "-H", &bearer, "-X", "DELETE", &url];
        let ran = run(&world, "curl", &refused).await;
        assert!(
            text(&ran.stdout).contains("policy.secret-not-granted") && text(&ran.stdout).ends_with(" 403"),
            "{ran:?}"
        );
        let misdirected = ["-sS", flag, "-w", " %{http_code}", "-H", "Host: evil.example", &url];
        assert!(text(&run(&world, "curl", &misdirected).await.stdout).ends_with(" 421"));
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn t15_an_upstream_that_cannot_prove_itself_is_502() {
    let (name, other) = (host(), host());
    let identity = egress::ca::Authority::new().unwrap().issue(&Host::Name(other)).unwrap();
    let upstream = Loopback::https_as(identity, |_| reply(StatusCode::OK, "fine")).await.unwrap();
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let ran = run(&world, "curl", &["-sS", "-w", " %{http_code}", &format!("https://{name}/")]).await;
    assert!(text(&ran.stdout).contains("upstream.tls") && text(&ran.stdout).ends_with(" 502"), "{ran:?}");
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn t01_openssl_with_another_server_name() {
    let name = host();
    let upstream = echo(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let (proxy, to) = (format!("127.0.0.1:{}", world.port), format!("{name}:443"));
    let password = format!("pass:{}", world.token);
    let ca = world.ca.display().to_string();
    for (server_name, handshakes) in [(name.as_str(), true), ("evil.example", false)] {
        let arguments = [
            "s_client",
            "-proxy",
            &proxy,
            "-proxy_user",
            "x",
            "-proxy_pass",
            &password,
            "-connect",
            &to,
            "-servername",
            server_name,
            "-CAfile",
            &ca,
            "-verify_return_error",
            "-brief",
        ];
        let ran = run(&world, "openssl", &arguments).await;
        assert_eq!(text(&ran.stderr).contains("Verification: OK"), handshakes, "{ran:?}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn python_with_requests() {
    let name = host();
    let upstream = echo(&name).await;
    let granted = Granted { host: &name, path: "/", inject: "bearer" };
    let world = World::with_secret(leads_to(&upstream, &name), reach(&[name.as_str()]), granted).await;
    let script = format!(
        "import requests\ns = requests.Session()\nfor _ in range(2):\n    r = s.post('https://{name}/v1', json={{'a': 1}}, headers={{'Authorization': 'Bearer {}'}})\n    print(r.status_code, r.text)\nprint(requests.get('https://{name}/x', headers={{'Upgrade': 'websocket'}}).json()['error']['code'])\n",
        world.placeholder()
    );
    let ran = run(&world, "python3", &["-c", &script]).await;
    let expected = "200 POST /v1 8 key: true\n200 POST /v1 8 key: true\negress.routing-header\n";
    assert_eq!(text(&ran.stdout), expected, "{ran:?}");
}

#[tokio::test]
async fn t06_curl_to_an_upstream_in_http2() {
    let name = host();
    let served = Host::Name(name.clone());
    let upstream = Loopback::http2(&served, |seen| reply(StatusCode::OK, format!("{:?}", seen.version())))
        .await
        .unwrap();
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    for flag in ["--http1.1", "--http2"] {
        let ran = run(&world, "curl", &["-sS", flag, &format!("https://{name}/")]).await;
        assert_eq!(text(&ran.stdout), "HTTP/2.0", "{ran:?}");
    }
}

/// Debian's Python, which has its packages.
const PYTHON: &str = "/usr/bin/python3";

#[tokio::test]
async fn t14_grpc_from_python() {
    let name = host();
    let ok = |_: &http::HeaderMap| {
        http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), http::HeaderValue::from_static("0"))])
    };
    let server = EchoServer::start(&name, http::Version::HTTP_2, ok).await;
    let granted = Granted { host: &name, path: "/", inject: "bearer" };
    let world = World::with_secret(server.config.clone(), reach(&[name.as_str()]), granted).await;
    let script = format!(
        "import grpc, queue\n\
         trusted = grpc.ssl_channel_credentials(open('{}', 'rb').read())\n\
         channel = grpc.secure_channel('{name}:443', trusted)\n\
         said = queue.Queue()\n\
         talk = channel.stream_stream('/pkg.Service/Talk', lambda x: x, lambda x: x)\n\
         call = talk(iter(said.get, None), timeout=20, metadata=[('authorization', 'Bearer {}')])\n\
         for word in [b'first', b'second']:\n    said.put(word)\n    print(next(call))\n\
         said.put(None)\n\
         print(list(call), call.code())\n",
        world.ca.display(),
        world.placeholder()
    );
    let ran = run(&world, PYTHON, &["-c", &script]).await;
    assert_eq!(text(&ran.stdout), "b'first'\nb'second'\n[] StatusCode.OK\n", "{ran:?}");
    let heads = server.heads.lock().unwrap().clone();
    assert_eq!(heads[0]["authorization"], format!("Bearer {}", world.key));
}

#[tokio::test]
async fn t13_websockets_from_python() {
    let name = host();
    let server = Server::start(&name, |_, message| vec![message.clone()]).await;
    let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
    let script = format!(
        "import asyncio, socket, ssl, websockets\n\
         async def talk():\n\
         \x20   plain = socket.create_connection(('127.0.0.1', {}))\n\
         \x20   plain.sendall(b'CONNECT {name}:443 HTTP/1.1\\r\\nHost: {name}:443\\r\\nProxy-Authorization: Bearer {}\\r\\n\\r\\n')\n\
         \x20   assert b' 200 ' in plain.recv(4096)\n\
         \x20   trusted = ssl.create_default_context(cafile='{}')\n\
         \x20   async with websockets.connect('wss://{name}/', sock=plain, ssl=trusted, server_hostname='{name}') as s:\n\
         \x20       await s.send('hello')\n\
         \x20       print(await s.recv(), s.extensions)\n\
         \x20       await s.send('{}')\n\
         \x20       try:\n\
         \x20           await s.recv()\n\
         \x20       except websockets.ConnectionClosed as closed:\n\
         \x20           print(closed.rcvd.code, closed.rcvd.reason)\n\
         asyncio.run(talk())\n",
        world.port,
        world.token,
        world.ca.display(),
        world.key
    );
    let ran = run(&world, PYTHON, &["-c", &script]).await;
    assert_eq!(text(&ran.stdout), "hello []\n1008 leaks.known-value\n", "{ran:?}");
}

#[tokio::test]
async fn git_clones_over_https() {
    let name = host();
    let folder = tempfile::tempdir().unwrap();
    let served = folder.path().to_owned();
    // The protocol in which a repository is a folder of files (gitprotocol-http, "dumb clients").
    let served_as = Host::Name(name.clone());
    let upstream = Loopback::https(&served_as, move |seen| {
        let path = seen.uri().path().trim_start_matches('/');
        match std::fs::read(served.join(path)) {
            Ok(bytes) if *seen.method() == Method::GET => reply(StatusCode::OK, bytes),
            _ => reply(StatusCode::NOT_FOUND, ""),
        }
    });
    let upstream = upstream.await.unwrap();
    let world = World::new(leads_to(&upstream, &name), reach(&[&format!("GET:{name}/repo")])).await;
    let (source, bare) = (folder.path().join("source"), folder.path().join("repo"));
    let git = async |at: &Path, arguments: &[&str]| {
        let at = at.display().to_string();
        let who = ["-C", &at, "-c", "user.name=t", "-c", "user.email=t@example.com"];
        let ran = run(&world, "git", &[&who, arguments].concat()).await;
        assert!(ran.status.success(), "{arguments:?} {ran:?}");
    };
    std::fs::create_dir(&source).unwrap();
    git(&source, &["init", "-q"]).await;
    std::fs::write(source.join("file"), "what was committed\n".repeat(10_000)).unwrap();
    git(&source, &["add", "file"]).await;
    git(&source, &["commit", "-q", "-m", "first"]).await;
    git(folder.path(), &["clone", "-q", "--bare", "source", "repo"]).await;
    git(&bare, &["update-server-info"]).await;
    let clone = world.folder().join("clone");
    git(folder.path(), &["clone", "-q", &format!("https://{name}/repo"), &clone.display().to_string()]).await;
    assert_eq!(std::fs::read(clone.join("file")).unwrap(), std::fs::read(source.join("file")).unwrap());
    let outside = run(&world, "git", &["clone", "-q", &format!("https://{name}/source"), "x"]).await;
    assert!(!outside.status.success() && text(&outside.stderr).contains("403"), "{outside:?}");
}

/// Java takes a file of its own. Its parts are what another implementation of the format reads, and what Java asks for.
#[tokio::test]
async fn a_trust_store_of_javas_holds_the_authority_and_says_that_it_is_trusted() {
    let name = host();
    let upstream = echo(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let ca = world.ca.display().to_string();
    let store = egress::java::trust_store(world.proxy.ca_pem()).unwrap();
    std::fs::write(egress::java::beside(&ca), &store).unwrap();
    let file = egress::java::beside(&ca);
    let ran =
        run(&world, "openssl", &["pkcs12", "-in", &file, "-nokeys", "-nomacver", "-passin", "pass:"]).await;
    let certificate: String = world.proxy.ca_pem().split_whitespace().collect();
    let read: String = text(&ran.stdout).split_whitespace().collect();
    assert!(ran.status.success() && read.contains(&certificate), "{ran:?}");
    // The attribute 2.16.840.1.113894.746875.1.1, as DER has it, whose value is any use.
    let trusted = [0x06, 0x0c, 0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];
    assert!(store.windows(trusted.len()).any(|part| part == trusted));
    let variables = egress::proxy::environment(None, Some(&ca));
    assert!(variables.contains(&("JAVA_TOOL_OPTIONS", format!("-Djavax.net.ssl.trustStore={file}"))));
}
