//! The one path that every request takes, with hosts, keys, names and wording made up anew each time.

use base64::Engine as _;
use egress::loopback::reply;
use http::StatusCode;

use crate::installation::{Installation, random, random_key};

/// A weather tool under random names, its service, and a granted key.
pub(crate) struct Weather {
    pub(crate) installation: Installation,
    pub(crate) service: egress::loopback::Loopback,
    pub(crate) host: String,
    pub(crate) tool: String,
    pub(crate) secret: String,
    pub(crate) key: String,
    pub(crate) subject: String,
}

impl Weather {
    /// `answer` is given the key that was sent and makes the body.
    pub(crate) async fn new(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let mut installation = Installation::initialised();
        let host = format!("{}.example", random("api-"));
        let (tool, secret, key) = (random("t"), random("KEY_").to_uppercase(), random_key());
        let subject = random("subject");
        let service = installation
            .service(&host, move |request| {
                let sent =
                    request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
                match sent.as_deref().and_then(|sent| sent.strip_prefix("Bearer ")) {
                    Some(key) => reply(StatusCode::OK, answer(key)),
                    None => reply(StatusCode::UNAUTHORIZED, "no key"),
                }
            })
            .await;
        installation.install("weather", |manifest| {
            manifest
                .replace("\"weather\"", &format!("\"{tool}\""))
                .replace("api.weather.com", &host)
                .replace("WEATHER_API_KEY", &secret)
                .replace(
                    "Tells the current weather of a city: today's temperature and conditions.",
                    &format!("Gives the {subject} report of a city."),
                )
        });
        let weather = Self { installation, service, host, tool, secret, key, subject };
        weather.installation.run_with(&["secret", "set", &weather.secret], &weather.key).ok();
        weather
    }

    pub(crate) fn grant(&self) {
        let arguments = [
            "secret",
            "grant",
            &self.secret,
            "--tool",
            &self.tool,
            "--host",
            &self.host,
            "--inject",
            "bearer",
        ];
        self.installation.run(&arguments).ok();
    }

    pub(crate) fn ask(&self) -> crate::installation::Ran {
        let text = format!("Could you give me the {} report in Beijing please", self.subject);
        self.installation.run(&["--json", "ask", &text, "--trace"])
    }

    /// The key in the forms in which it could show.
    pub(crate) fn shows_in(&self, text: &[u8]) -> bool {
        let encoded = base64::engine::general_purpose::STANDARD.encode(&self.key);
        let reversed: String = self.key.chars().rev().collect();
        let hex: String = self.key.bytes().map(|byte| format!("{byte:02x}")).collect();
        [self.key.as_str(), &encoded, &reversed, &hex]
            .iter()
            .any(|form| text.windows(form.len()).any(|window| window == form.as_bytes()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_passes_all_layers_and_the_key_is_only_on_the_wire() {
    for _ in 0..2 {
        let degrees = u64::from_str_radix(&random("")[..6], 16).unwrap() % 90 + 10;
        let weather = Weather::new(move |_| {
            format!("{{\"city\":\"Beijing\",\"temperature\":{degrees},\"conditions\":\"clear\"}}")
        })
        .await;
        weather.grant();
        let ran = weather.ask().ok();
        let turn = &ran.json()[0];
        assert!(turn["reply"].as_str().unwrap().contains(&degrees.to_string()), "{turn}");
        let trace = turn["trace"].as_array().unwrap();
        for (layer, stage) in [
            ("safety", "validator"),
            ("safety", "sanitizer"),
            ("safety", "rulebook"),
            ("wasm", "instance"),
            ("wasm", "fuel"),
            ("wasm", "memory"),
            ("egress", "allowlist"),
            ("egress", "secret"),
            ("leaks", "response head"),
            ("leaks", "leak detector"),
            ("output", "rulebook"),
        ] {
            assert!(
                trace.iter().any(|step| step["layer"] == layer && step["stage"] == stage),
                "{layer} {stage}: {turn:#}"
            );
        }
        let sent = weather.service.requests();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].headers()["authorization"], format!("Bearer {}", weather.key).as_str());
        let verify = weather.installation.run(&["audit", "verify"]).ok();
        let tail = weather.installation.run(&["--json", "audit", "tail", "-n", "200"]).ok();
        for text in [&ran.stdout, &ran.stderr, &verify.stdout, &tail.stdout] {
            assert!(!weather.shows_in(text.as_bytes()));
        }
        assert!(!weather.shows_in(&weather.installation.everything_on_disk()));
        for kind in ["admit", "call", "request", "unseal", "settle", "release"] {
            assert!(tail.json().iter().any(|record| record["kind"] == kind), "no record of kind {kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_for_the_key_would_find_it() {
    let weather = Weather::new(|_| String::new()).await;
    std::fs::write(weather.installation.home().join("data").join("leaked"), &weather.key).unwrap();
    assert!(weather.shows_in(&weather.installation.everything_on_disk()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_nothing_is_sent_and_the_command_that_grants_is_named() {
    let weather = Weather::new(|_| String::new()).await;
    let ran = weather.ask();
    assert_eq!(ran.code, 3);
    assert_eq!(ran.refused_by(), ["policy.secret-not-granted"]);
    assert_eq!(weather.service.received(), 0);
    let widen = ran.json()[0]["refusals"][0]["widen"].as_str().unwrap().to_owned();
    let command: Vec<&str> = widen.strip_prefix("ironclaw ").unwrap().split(' ').collect();
    weather.installation.run(&command).ok();
    assert_eq!(weather.ask().code, 1, "the service answers no JSON, so the tool fails");
    assert_eq!(weather.service.requests().len(), 1);
    let id = ran.json()[0]["refusals"][0]["id"].as_str().unwrap().to_owned();
    let explained = weather.installation.run(&["policy", "explain", &id]).ok();
    assert!(explained.stdout.contains("policy.secret-not-granted") && explained.stdout.contains(&widen));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_grant_ends_at_once() {
    let weather = Weather::new(|_| "{\"city\":\"Beijing\"}".to_owned()).await;
    weather.grant();
    weather.ask().ok();
    let shown = weather.installation.run(&["--json", "secret", "show", &weather.secret]).ok();
    let id = shown.json()[0]["grants"][0]["id"].as_str().unwrap().to_owned();
    weather.installation.run(&["secret", "revoke", &id]).ok();
    assert_eq!(weather.ask().refused_by(), ["policy.secret-not-granted"]);
    assert_eq!(weather.service.requests().len(), 1);
}
