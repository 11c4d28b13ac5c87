//! A command's way to the network: real clients in a real container, one door, a real service behind it.

use std::path::{Path, PathBuf};

use egress::loopback::{Loopback, reply};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::exec::{DEBIAN, exec, workspace};
use crate::installation::{Installation, Ran, random, random_key};

/// What the clients of these tests are in: `scripts/make-test-image` makes the image before.
const CLIENTS: &str = "nodejs,openssl,python3-requests,python3-pip-whl";

/// An installation with a service, a host that nothing may reach, and a key that is granted for `/v1` of the service.
struct Joined {
    installation: Installation,
    service: Loopback,
    other: Loopback,
    host: String,
    forbidden: String,
    secret: String,
    key: String,
}

impl Joined {
    async fn new() -> Self {
        Self::on("").await
    }

    /// With more of the table `[sandbox]`.
    async fn on(sandbox: &str) -> Self {
        let mut installation = Installation::initialised();
        let host = format!("{}.example", random("api-"));
        let forbidden = format!("{}.example", random("other-"));
        // It says how long the key is that it was sent, and on `/v1/echo` what it is.
        let service = installation.service(&host, |seen| {
            let key = seen.headers().get("authorization").map_or("", |value| value.to_str().unwrap());
            match seen.uri().path() {
                "/v1/echo" => reply(StatusCode::OK, format!("you sent {key}\n")),
                "/v1/encoded" => reply(StatusCode::OK, hex(key)),
                path => reply(StatusCode::OK, format!("{} {path} {}\n", seen.method(), key.len())),
            }
        });
        let service = service.await;
        let other = installation.service(&forbidden, |_| reply(StatusCode::OK, "reached")).await;
        installation.open_to_containers();
        installation.configure(&format!("{DEBIAN}{sandbox}"));
        build_image(&installation);
        let (secret, key) = (random("KEY_").to_uppercase(), random_key());
        installation.run_with(&["secret", "set", &secret], &key).ok();
        let grant = ["secret", "grant", &secret, "--tool", "proxy", "--host", &host, "--path", "/v1"];
        installation
            .run(
                &[
                    &grant[..],
                    &["--method", "GET", "--method", "POST", "--method", "PUT", "--inject", "bearer"],
                ]
                .concat(),
            )
            .ok();
        Self { installation, service, other, host, forbidden, secret, key }
    }

    /// Runs a script that may reach the service, with the placeholder of its key in `$KEY`.
    fn run(&self, script: &str) -> Ran {
        let script = format!("KEY=${}; HOST={}; OTHER={}\n{script}", self.secret, self.host, self.forbidden);
        exec(&self.installation, &["--allow", &self.host, "--secret", &self.secret], &script)
    }

    /// How long the header is that the service should have been sent.
    fn sent(&self) -> usize {
        "Bearer ".len() + self.key.len()
    }

    /// Nothing of the run that a command could see shows the key.
    #[track_caller]
    fn hides_the_key(&self, ran: &Ran) {
        let files = everything_in(&workspace(&self.installation));
        for form in [self.key.clone(), hex(&self.key)] {
            assert!(!ran.stdout.contains(&form) && !ran.stderr.contains(&form), "{ran:#?}");
            assert!(!files.windows(form.len()).any(|window| window == form.as_bytes()));
        }
    }

    /// The place that nothing may reach was not sent one byte.
    #[track_caller]
    fn was_not_left(&self) {
        assert_eq!((self.other.connections(), self.other.received()), (0, 0));
    }
}

/// Makes the image with clients, unless it is there; one test at a time.
fn build_image(installation: &Installation) {
    let lock = std::fs::File::create(std::env::temp_dir().join("ironclaw-test-image.lock")).unwrap();
    lock.lock().unwrap();
    installation.run(&["sandbox", "build-image", "--include", CLIENTS]).ok();
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn everything_in(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => all.extend(std::fs::read(path).unwrap()),
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn c01_a_command_uses_a_key_that_is_nowhere_in_its_container() {
    let joined = Joined::new().await;
    let ran = joined.run(
        r#"curl -sS -H "Authorization: Bearer $KEY" https://$HOST/v1/x
        curl -sS --noproxy '*' -H "Authorization: Bearer $KEY" https://$HOST/v1/y
        curl -sS -H "Authorization: Bearer $KEY" https://$HOST/v2
        echo "$KEY"; env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\0' '\n'
        cat /.ironclaw/ca.pem; ls -l /.ironclaw; find / -xdev -newer /etc/hostname -type f 2>/dev/null; true"#,
    );
    assert_eq!(ran.code, 0, "{ran:#?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[..2], [format!("GET /v1/x {}", joined.sent()), format!("GET /v1/y {}", joined.sent())]);
    let refused: Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(refused["error"]["code"], "policy.secret-not-granted");
    assert!(lines[3].len() == 32 && !ran.stdout.contains("PRIVATE"), "{ran:#?}");
    joined.hides_the_key(&ran);
    let keys: Vec<_> = joined.service.requests();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|sent| sent.headers()["authorization"] == format!("Bearer {}", joined.key)));
    let disk = joined.installation.everything_on_disk();
    assert!(!disk.windows(joined.key.len()).any(|window| window == joined.key.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn c08_a_key_that_comes_back_does_not_reach_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let write = format!("echo $0 >>{}", told.display());
    let joined = Joined::on(&format!("[alert]\ncommand = ['/bin/sh', '-c', '{write}']\n")).await;
    let ran = joined.run(
        r#"for path in echo encoded; do
            curl -sS -o $path.out -H "Authorization: Bearer $KEY" https://$HOST/v1/$path; echo $?
            cat $path.out 2>/dev/null
        done; true"#,
    );
    assert_eq!(ran.code, 0, "{ran:#?}");
    joined.hides_the_key(&ran);
    // The service did send it.
    assert_eq!(joined.service.requests().len(), 2);
    let audit = joined.installation.run(&["audit", "tail", "-n", "60"]).ok();
    assert!(audit.stdout.contains("leaks."), "{audit:#?}");
    // The owner is told at once, of each kind of leak once, and so is the command for alerts.
    let line = ran.stderr.lines().find(|line| line.contains("ALERT (critical): leaks.known-value"));
    assert!(line.is_some_and(|line| line.contains(&joined.secret)), "{ran:#?}");
    let ids = std::fs::read_to_string(&told).unwrap();
    let waiting = joined.installation.run(&["--json", "approvals", "list"]).ok().stdout;
    assert!(ids.lines().count() >= 1 && ids.lines().all(|id| waiting.contains(id)), "{ids} {waiting}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_x04_a_refused_place_gets_its_rule_and_not_one_byte() {
    let joined = Joined::new().await;
    let script = r#"
        curl -sS -H "Authorization: Bearer $KEY" http://$OTHER/ | cat
        curl -sS --noproxy '*' http://$OTHER/ | cat
        for flags in "" "--noproxy *"; do set -f
            curl -sS $flags -H "Authorization: Bearer $KEY" https://$OTHER/; echo "curl $?"; set +f
        done
        python3 -c "
import socket, ssl
tls = ssl.create_default_context(cafile='/.ironclaw/ca.pem')
for name in ['$OTHER', '$HOST']:
    try:
        inner = tls.wrap_socket(socket.create_connection((name, 443)), server_hostname='$OTHER')
        print(inner.version())
    except (ssl.SSLError, OSError) as error: print('python', name == '$HOST', 'stopped')
"
        openssl s_client -connect $OTHER:443 -servername $OTHER -brief </dev/null 2>&1 | grep -o 'alert access denied' | head -1
        node -e 'fetch("https://" + process.argv[1]).then(() => console.log("node reached"), () => console.log("node stopped"))' $OTHER
        git ls-remote https://$OTHER/x 2>/dev/null || echo "git stopped"
        "#;
    let ran = joined.run(script);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    for line in &lines[..2] {
        let told: Value = serde_json::from_str(line).unwrap();
        assert_eq!(told["error"]["code"], "policy.not-allowed", "{line}");
    }
    // Through the proxy the tunnel is refused (56), without it TLS is (35).
    assert_eq!(
        lines[2..],
        [
            "curl 56",
            "curl 35",
            "python False stopped",
            "python True stopped",
            "alert access denied",
            "node stopped",
            "git stopped"
        ],
        "{ran:#?}"
    );
    joined.was_not_left();
    assert_eq!(joined.service.received(), 0);
    // Most of these programs said nothing of it. Whoever ran the command is told, and by the id finds what would allow it.
    let asked = format!(" CONNECT {}:443, policy.not-allowed: ironclaw policy explain ", joined.forbidden);
    let line = ran.stderr.lines().find(|line| line.starts_with("ironclaw: refused") && line.contains(&asked));
    let id = line.unwrap_or_else(|| panic!("{ran:#?}")).rsplit_once(' ').unwrap().1;
    let explained = joined.installation.run(&["policy", "explain", id]).ok();
    assert!(explained.stdout.contains("--allow"), "{explained:#?}");
}

/// What the owner opened to the programs of this machine is not open to a command whose rules name it.
#[tokio::test(flavor = "multi_thread")]
async fn s12_an_exception_holds_for_a_command_only_where_it_says_so() {
    let mut joined = Joined::new().await;
    let closed = format!("{}.example", random("closed-"));
    let service = joined.installation.service(&closed, |_| reply(StatusCode::OK, "reached")).await;
    joined.installation.configure(DEBIAN);
    let script = format!(
        "curl -sS https://{closed}/; curl -sS --noproxy '*' https://{closed}/ | cat; curl -sS https://{}/v1",
        joined.host
    );
    let options = ["--allow", &closed, "--allow", &joined.host];
    let ran = exec(&joined.installation, &options, &script);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    for line in &lines[..2] {
        let told: Value = serde_json::from_str(line).unwrap();
        assert_eq!(told["error"]["code"], "egress.not-from-container", "{ran:#?}");
        let id = told["error"]["refusal"].as_str().unwrap();
        let explained = joined.installation.run(&["policy", "explain", id]).ok().stdout;
        for said in ["by an exception that is not for programs in containers", "containers = true"] {
            assert!(explained.contains(said), "{explained}");
        }
    }
    assert_eq!(lines[2..], ["GET /v1 0"], "{ran:#?}");
    assert_eq!((service.connections(), service.received()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_clients_work_with_and_without_looking_for_a_proxy() {
    let joined = Joined::new().await;
    let script = r#"
        curl -sS --http1.1 -H "Authorization: Bearer $KEY" -d body https://$HOST/v1/curl
        curl -sS --http2 --noproxy '*' -H "Authorization: Bearer $KEY" https://$HOST/v1/direct
        python3 -c "import requests; print(requests.put('https://$HOST/v1/requests', headers={'Authorization': 'Bearer $KEY'}).text, end='')"
        python3 -c "import urllib.request as u; print(u.build_opener(u.ProxyHandler({})).open(u.Request('https://$HOST/v1/direct', headers={'Authorization': 'Bearer $KEY'})).read().decode(), end='')"
        node -e 'fetch("https://" + process.argv[1] + "/v1/node", {headers: {authorization: "Bearer " + process.argv[2]}}).then(r => r.text()).then(t => process.stdout.write(t))' $HOST $KEY
        printf 'GET /v1/openssl HTTP/1.0\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n' $HOST $KEY | openssl s_client -quiet -verify_return_error -connect $HOST:443 -servername $HOST 2>/dev/null | grep ^GET
        env -i /usr/bin/curl -sS https://$HOST/v1/nothing-set
        "#;
    let ran = joined.run(script);
    let n = joined.sent();
    let expected = [
        format!("POST /v1/curl {n}"),
        format!("GET /v1/direct {n}"),
        format!("PUT /v1/requests {n}"),
        format!("GET /v1/direct {n}"),
        format!("GET /v1/node {n}"),
        format!("GET /v1/openssl {n}"),
        "GET /v1/nothing-set 0".to_owned(),
    ];
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected, "{ran:#?}");
    joined.hides_the_key(&ran);
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_over_https_inside() {
    let mut installation = Installation::initialised();
    let host = format!("{}.example", random("git-"));
    let served = tempfile::tempdir().unwrap();
    let (source, bare) = (served.path().join("source"), served.path().join("repo"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "what was committed\n".repeat(1000)).unwrap();
    git(&source, &["init", "-q"]);
    git(&source, &["add", "file"]);
    git(&source, &["commit", "-q", "-m", "first"]);
    git(served.path(), &["clone", "-q", "--bare", "source", "repo"]);
    git(&bare, &["update-server-info"]);
    let root = served.path().to_owned();
    // The protocol in which a repository is a folder of files (gitprotocol-http, "dumb clients").
    let service = installation.service(&host, move |seen| {
        match std::fs::read(root.join(seen.uri().path().trim_start_matches('/'))) {
            Ok(bytes) if *seen.method() == Method::GET => reply(StatusCode::OK, bytes),
            _ => reply(StatusCode::NOT_FOUND, ""),
        }
    });
    let service = service.await;
    installation.open_to_containers();
    installation.configure(DEBIAN);
    installation.run(&["sandbox", "build-image"]).ok();
    let allow = format!("GET:{host}/repo");
    let script = format!("git clone -q https://{host}/repo copy && git clone -q https://{host}/source x");
    let ran = exec(&installation, &["--policy", "workspace-write", "--allow", &allow], &script);
    assert!(ran.code == 128 && ran.stderr.contains("403"), "{ran:#?}");
    let copy = workspace(&installation).join("copy/file");
    assert_eq!(std::fs::read(copy).unwrap(), std::fs::read(source.join("file")).unwrap());
    assert!(service.requests().iter().all(|seen| seen.uri().path().starts_with("/repo/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_installs_from_an_index_inside() {
    let mut installation = Installation::initialised();
    let host = format!("{}.example", random("index-"));
    let wheel = wheel();
    // The index of files (PEP 503) with one project.
    let service = installation.service(&host, move |seen| match seen.uri().path() {
        "/simple/tiny/" => {
            let page = "<a href=\"/files/tiny-1.0-py3-none-any.whl\">tiny-1.0-py3-none-any.whl</a>";
            let mut page = reply(StatusCode::OK, page);
            page.headers_mut().insert("content-type", "text/html".parse().unwrap());
            page
        }
        "/files/tiny-1.0-py3-none-any.whl" => reply(StatusCode::OK, wheel.clone()),
        _ => reply(StatusCode::NOT_FOUND, ""),
    });
    let service = service.await;
    installation.open_to_containers();
    installation.configure(DEBIAN);
    build_image(&installation);
    let script = format!(
        "pip() {{ python3 \"$(echo /usr/share/python-wheels/pip-*.whl)/pip\" \"$@\"; }}
        pip install -q --no-cache-dir --no-deps --index-url https://{host}/simple/ --target /tmp/to tiny==1.0 &&
        PYTHONPATH=/tmp/to python3 -c 'import tiny; print(tiny.says)'
        pip install -q --no-cache-dir --retries 0 --index-url https://{host}/other/ --target /tmp/to other; echo $?"
    );
    let ran = exec(
        &installation,
        &["--allow", &format!("GET:{host}/simple"), "--allow", &format!("GET:{host}/files")],
        &script,
    );
    assert_eq!(ran.stdout, "it was installed\n1\n", "{ran:#?}");
    // pip says that it found nothing; whoever ran it learns why.
    assert!(ran.stderr.contains(&format!("GET {host}:443, policy.method-or-path")), "{ran:#?}");
    assert!(service.requests().iter().all(|seen| !seen.uri().path().starts_with("/other")));
}

/// A wheel with one module (PEP 427), made by Python.
#[allow(clippy::disallowed_methods, reason = "the wheel that is served is made by Python")]
fn wheel() -> Vec<u8> {
    let script = "import io, sys, zipfile
made = io.BytesIO()
with zipfile.ZipFile(made, 'w') as wheel:
    wheel.writestr('tiny.py', 'says = \\'it was installed\\'\\n')
    wheel.writestr('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')
    wheel.writestr('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr('tiny-1.0.dist-info/RECORD', 'tiny.py,,\\n')
sys.stdout.buffer.write(made.getvalue())";
    let made = std::process::Command::new("python3").args(["-c", script]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    made.stdout
}

#[allow(clippy::disallowed_methods, reason = "the repository that is served is made by git")]
fn git(at: &Path, arguments: &[&str]) {
    let who = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    let made =
        std::process::Command::new("git").arg("-C").arg(at).args(who).args(arguments).output().unwrap();
    assert!(made.status.success(), "{arguments:?} {made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_run_asks_for_is_recorded_and_told_as_json() {
    let joined = Joined::new().await;
    let named = format!("{}=sk-", joined.secret);
    let script = format!(
        "curl -sS -H \"Authorization: Bearer ${}\" https://{}/v1/x; curl -s https://{}/; exit 5",
        joined.secret, joined.host, joined.forbidden
    );
    let options = ["--json", "--allow", &joined.host, "--secret", &named];
    let ran = exec(&joined.installation, &options, &script);
    assert_eq!(ran.code, 5, "{ran:#?}");
    let lines = ran.json();
    let (told, output) = lines.split_last().unwrap();
    let text: String = output.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(text, format!("GET /v1/x {}\n", joined.sent()));
    assert_eq!((&told["ended"], &told["code"]), (&Value::from("exited"), &Value::from(5)));
    let records = told["records"].as_array().unwrap();
    let find = |kind: &str, verdict: &str| {
        let is = |record: &&Value| record["kind"] == kind && record["verdict"] == verdict;
        records.iter().find(is).unwrap_or_else(|| panic!("no {kind} {verdict}: {told:#}"))
    };
    find("command", "allow");
    let allowed = find("request", "allow");
    assert_eq!(allowed["fields"]["target"], format!("GET https://{}/v1/x", joined.host));
    assert_eq!(allowed["fields"]["secret"], joined.secret);
    let refused = find("request", "block");
    assert_eq!(refused["fields"]["rule"], "policy.not-allowed");
    let seq = allowed["seq"].to_string();
    let settles = |record: &&Value| record["kind"] == "settle" && record["fields"]["of"] == *seq;
    assert_eq!(records.iter().find(settles).unwrap()["fields"]["status"], "200");
    // The person is told what would allow it; the program inside was not.
    let id = refused["fields"]["refusal"].as_str().unwrap();
    let place = format!("CONNECT {}:443", joined.forbidden);
    let kind = json!({ "rule": "policy.not-allowed", "asked": place, "count": 1, "refusal": id });
    assert_eq!((&told["refused"], &told["refused_more"]), (&json!([kind]), &json!(0)), "{told:#}");
    let explained = joined.installation.run(&["policy", "explain", id]).ok();
    assert!(explained.stdout.contains("--allow"), "{explained:#?}");
    joined.was_not_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_flags_cannot_mean_is_refused_before_anything_runs() {
    let installation = Installation::initialised();
    installation.configure(&format!("{DEBIAN}full_access = true\n"));
    let inside = workspace(&installation).join("rules.toml");
    std::fs::write(&inside, "allow = []\n").unwrap();
    let inside = inside.to_str().unwrap();
    for (options, code, said) in [
        (&["--allow", "*"][..], 2, "rule 1"),
        (&["--allow", "a.example", "--secret", "NOT_STORED"], 5, "ironclaw secret set"),
        (&["--rules", "/nowhere/rules.toml"], 1, "cannot be read"),
        (&["--policy", "full-access", "--allow", "a.example"], 2, "full access"),
        (&["--rules", inside], 2, "lies in the workspace"),
    ] {
        let ran = exec(&installation, options, "echo ran");
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{options:?} {ran:#?}");
        assert!(ran.stderr.contains(said), "{options:?} {ran:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_runtime_by_configuration_is_held_to_the_same() {
    let joined = Joined::on("runtime = \"runsc\"\n").await;
    let ran = joined.run(
        r#"dmesg | grep -o 'Starting gVisor'
        curl -sS -H "Authorization: Bearer $KEY" https://$HOST/v1/x
        curl -sS --noproxy '*' -H "Authorization: Bearer $KEY" https://$HOST/v1/y
        curl -sS http://$OTHER/
        env; touch new 2>&1"#,
    );
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let n = joined.sent();
    assert_eq!(
        lines[..3],
        ["Starting gVisor", &format!("GET /v1/x {n}"), &format!("GET /v1/y {n}")],
        "{ran:#?}"
    );
    let told: Value = serde_json::from_str(lines[3]).unwrap();
    assert_eq!(told["error"]["code"], "policy.not-allowed");
    assert!(ran.stdout.contains("Read-only file system"), "{ran:#?}");
    joined.hides_the_key(&ran);
    joined.was_not_left();
}
