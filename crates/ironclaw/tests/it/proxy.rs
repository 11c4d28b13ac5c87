//! `ironclaw proxy` as programs use it: a process, its environment, curl.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use egress::loopback::reply;
use http::StatusCode;
use serde_json::Value;

use crate::installation::{Installation, random, random_key};

/// A proxy that runs until it is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) environment: Vec<(String, String)>,
}

impl Running {
    pub(crate) fn start(installation: &Installation, arguments: &[&str]) -> Self {
        Self::start_at(installation, "127.0.0.1:0", arguments)
    }

    #[allow(clippy::disallowed_methods, reason = "the program under test is a process")]
    fn start_at(installation: &Installation, listen: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ironclaw"))
            .arg("--home")
            .arg(installation.home())
            .args(["--json", "proxy", "--listen", listen])
            .args(arguments)
            .env_clear()
            .env("HOME", installation.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let environment = said["environment"].as_object().unwrap();
        let text = |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
        Self { child, environment: environment.iter().map(text).collect() }
    }

    #[allow(clippy::disallowed_methods, reason = "a client of the program under test is a process")]
    fn curl(&self, arguments: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-w", " %{http_code}"]).args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
        curl.envs(self.environment.iter().cloned()).output().unwrap()
    }

    fn variable(&self, name: &str) -> &str {
        &self.environment.iter().find(|(own, _)| own == name).unwrap().1
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_uses_a_key_that_it_does_not_hold() {
    let mut installation = Installation::initialised();
    let host = format!("{}.example", random("api-"));
    let service = installation
        .service(&host, |seen| {
            let key = seen.headers().get("authorization").map(|value| value.as_bytes().to_vec());
            reply(StatusCode::OK, format!("{} bytes of key", key.map_or(0, |key| key.len())))
        })
        .await;
    let (secret, key) = (random("KEY_").to_uppercase(), random_key());
    installation.run_with(&["secret", "set", &secret], &key).ok();
    let ca = installation.folder.path().join("ca.pem").display().to_string();
    let arguments = ["proxy", "--listen", "127.0.0.1:0", "--allow", &host, "--secret", &secret, "--ca", &ca];
    let ran = installation.run(&arguments);
    assert!(ran.code == 3 && ran.stderr.contains("ironclaw secret grant"), "{ran:#?}");
    let grant = [
        "secret", "grant", &secret, "--tool", "proxy", "--host", &host, "--path", "/v1", "--inject", "bearer",
    ];
    installation.run(&grant).ok();
    let named = format!("{secret}=sk-");
    let proxy = Running::start(&installation, &["--allow", &host, "--secret", &named, "--ca", &ca]);
    let placeholder = proxy.variable(&secret).to_owned();
    assert!(placeholder.starts_with("sk-") && !placeholder.contains(&key));
    let bearer = format!("Authorization: Bearer {placeholder}");
    let answer = proxy.curl(&["-H", &bearer, &format!("https://{host}/v1/x")]);
    assert_eq!(
        text(&answer.stdout),
        format!("{} bytes of key 200", "Bearer ".len() + key.len()),
        "{answer:?}"
    );
    let sent = service.requests().remove(0);
    assert_eq!(sent.headers()["authorization"], format!("Bearer {key}"));
    let elsewhere = proxy.curl(&["-H", &bearer, &format!("https://{host}/v2")]);
    let (refusal, status) =
        text(&elsewhere.stdout).rsplit_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(status, " 403");
    let refusal: Value = serde_json::from_str(&refusal).unwrap();
    assert_eq!(refusal["error"]["code"], "policy.secret-not-granted");
    drop(proxy);
    // The owner learns what the program was not told.
    let explained =
        installation.run(&["policy", "explain", refusal["error"]["refusal"].as_str().unwrap()]).ok();
    assert!(explained.stdout.contains("ironclaw secret grant"), "{explained:#?}");
    let disk = text(&installation.everything_on_disk());
    assert!(!disk.contains(&key) && !disk.contains(&placeholder));
    assert!(!Path::new(&ca).exists() || !std::fs::read_to_string(&ca).unwrap().contains("PRIVATE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_a_rules_file_that_does_not_load_changes_nothing() {
    let mut installation = Installation::initialised();
    let (host, other) = (format!("{}.example", random("api-")), format!("{}.example", random("b-")));
    let _service = installation.service(&host, |_| reply(StatusCode::OK, "fine")).await;
    let _other = installation.service(&other, |_| reply(StatusCode::OK, "fine")).await;
    let rules = installation.folder.path().join("rules.toml");
    let write = |text: &str| std::fs::write(&rules, text).unwrap();
    write(&format!("[[allow]]\nhost = \"{host}\"\n"));
    let (file, ca) =
        (rules.display().to_string(), installation.folder.path().join("ca.pem").display().to_string());
    let proxy = Running::start(&installation, &["--rules", &file, "--ca", &ca]);
    let reaches = |name: &str| text(&proxy.curl(&[&format!("https://{name}/")]).stdout).ends_with(" 200");
    assert!(reaches(&host) && !reaches(&other));
    // A mistake beside a wider rule.
    write(&format!("[[allow]]\nhost = \"{host}\"\n[[allow]]\nhost = \"{other}\"\n[[allow]]\nhost = \"*\"\n"));
    let until = |reached: bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while reaches(&other) != reached {
            assert!(Instant::now() < deadline, "the file was not read again");
        }
    };
    let looked = Instant::now() + Duration::from_secs(3);
    while Instant::now() < looked {
        assert!(reaches(&host) && !reaches(&other));
    }
    write(&format!("[[allow]]\nhost = \"{other}\"\n"));
    until(true);
    assert!(!reaches(&host));
}

/// The one request that waits, once it does.
fn waiting(installation: &Installation) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut listed = installation.run(&["--json", "approvals", "list"]).ok().json();
        if let Some(row) = listed.pop() {
            assert!(listed.is_empty(), "{listed:?}");
            return row;
        }
        assert!(Instant::now() < deadline, "nothing waits");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a09_a_request_waits_for_the_owner_and_is_sent_as_it_was_shown_once() {
    let mut installation = Installation::initialised();
    let host = format!("{}.example", random("api-"));
    let service = installation.service(&host, |seen| reply(StatusCode::OK, seen.body().clone())).await;
    let rules = installation.folder.path().join("rules.toml");
    std::fs::write(&rules, format!("[[allow]]\nhost = \"{host}\"\nmethods = [\"POST\"]\nask = true\n"))
        .unwrap();
    let ca = installation.folder.path().join("ca.pem").display().to_string();
    let proxy = Running::start(&installation, &["--rules", rules.to_str().unwrap(), "--ca", &ca]);
    let (url, body) = (format!("https://{host}/pay?to=me"), random("amount="));
    let asked = |verb: &str, code: &str| {
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| text(&proxy.curl(&["-d", &body, &url]).stdout));
            let row = waiting(&installation);
            assert_eq!(row["kind"], "request");
            let card = row["card"].as_str().unwrap();
            assert!(card.contains(&format!("POST https://{host}/pay?to=me")), "{card}");
            assert!(card.contains(&format!("{} bytes of body", body.len())), "{card}");
            let id = row["id"].as_str().unwrap();
            let shown = installation.run(&["approvals", "show", id]).ok().stdout;
            assert!(shown.contains(&body) && shown.contains(row["digest"].as_str().unwrap()), "{shown}");
            // Nothing has left while it waits.
            let before = service.received();
            let said = installation.run(&["approvals", verb, id]).ok().stdout;
            assert!(verb == "deny" || said.contains("is sent now, once"), "{said}");
            let answer = answer.join().unwrap();
            assert!(answer.ends_with(code), "{answer}");
            (before, answer)
        })
    };
    let (before, answer) = asked("deny", " 403");
    assert!(before == 0 && answer.contains("policy.declined"), "{answer}");
    assert_eq!((service.connections(), service.received()), (0, 0));
    let (before, answer) = asked("approve", " 200");
    assert!(before == 0 && answer.contains(&body), "{answer}");
    assert_eq!(service.requests().len(), 1);
    // The approval is used up: the same request is a new question.
    let (_, answer) = asked("deny", " 403");
    assert!(answer.contains("policy.declined"), "{answer}");
    assert_eq!(service.requests().len(), 1);
    drop(proxy);
    let records = installation.run(&["--json", "audit", "tail", "-n", "200"]).ok();
    assert!(!records.stdout.contains("to=me"));
    installation.run(&["audit", "verify"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_proxy_left_is_taken_over_and_nothing_else_is() {
    let mut installation = Installation::initialised();
    let host = format!("{}.example", random("api-"));
    let _service = installation.service(&host, |_| reply(StatusCode::OK, "fine")).await;
    let folder = installation.folder.path().to_owned();
    let (socket, ca) = (folder.join("proxy.sock"), folder.join("ca.pem"));
    let (store, listen) = (folder.join("ca.pem.p12"), format!("unix:{}", socket.display()));
    let arguments = ["--allow", &host, "--ca", ca.to_str().unwrap()];
    let proxy = Running::start_at(&installation, &listen, &arguments);
    assert!(socket.exists() && ca.exists() && store.exists(), "{:?}", std::fs::read_dir(&folder));
    // While it lives nothing is taken from it.
    let second = installation.run(&[&["proxy", "--listen", &listen][..], &arguments].concat());
    assert!(second.code == 1 && second.stderr.contains("something listens there"), "{second:?}");
    // Killed: it removes nothing.
    drop(proxy);
    assert!(socket.exists() && ca.exists() && store.exists());
    let mut proxy = Running::start_at(&installation, &listen, &arguments);
    // At a normal end nothing stays.
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&proxy.child),
        rustix::process::Signal::INT,
    )
    .unwrap();
    proxy.child.wait().unwrap();
    assert!(!socket.exists() && !ca.exists() && !store.exists());
    // What is no socket, or no certificate of an earlier proxy, is nobody's to remove.
    std::fs::write(&socket, "mine").unwrap();
    let refused = installation.run(&[&["proxy", "--listen", &listen][..], &arguments].concat());
    assert!(refused.code == 1 && refused.stderr.contains("no socket of yours"), "{refused:?}");
    for file in [&ca, &store] {
        std::fs::write(file, "mine").unwrap();
        let refused = installation.run(&[&["proxy", "--listen", "127.0.0.1:0"][..], &arguments].concat());
        assert!(
            refused.code == 1 && refused.stderr.contains("name a file that does not exist"),
            "{refused:?}"
        );
        assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "mine");
    let elsewhere = installation.run(&[&["proxy", "--listen", "192.0.2.2:0"][..], &arguments].concat());
    assert!(elsewhere.code == 2 && elsewhere.stderr.contains("loopback"), "{elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a09_what_a_proxy_asked_does_not_wait_once_it_has_ended() {
    let mut installation = Installation::initialised();
    let host = format!("{}.example", random("api-"));
    let service = installation.service(&host, |_| reply(StatusCode::OK, "fine")).await;
    let rules = installation.folder.path().join("rules.toml");
    std::fs::write(&rules, format!("[[allow]]\nhost = \"{host}\"\nask = true\n")).unwrap();
    let ca = installation.folder.path().join("ca.pem").display().to_string();
    let mut proxy = Running::start(&installation, &["--rules", rules.to_str().unwrap(), "--ca", &ca]);
    let (id, _) = std::thread::scope(|scope| {
        let asks = scope.spawn(|| proxy.curl(&["-d", "to=me", &format!("https://{host}/pay")]));
        let row = waiting(&installation);
        assert!(row["card"].as_str().unwrap().contains("to=me"), "{row}");
        let pid = rustix::process::Pid::from_child(&proxy.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        (row["id"].as_str().unwrap().to_owned(), asks.join().unwrap())
    });
    proxy.child.wait().unwrap();
    assert_eq!(installation.run(&["--json", "approvals", "list"]).ok().stdout, "");
    let late = installation.run(&["approvals", "approve", &id]);
    assert!(late.code == 1 && late.stderr.contains("does not wait any more"), "{late:?}");
    assert_eq!((service.connections(), service.received()), (0, 0));
}
