//! Docker Engine as the tests themselves speak to it, beside the program.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::Value;

pub(crate) const ENGINE: &str = "/var/run/docker.sock";

/// What the engine answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        let body = String::from_utf8(self.bytes).unwrap();
        assert!((200..300).contains(&self.status) && !body.contains("errorDetail"), "{} {body}", self.status);
        body
    }

    /// The objects of an answer that came one a line.
    #[track_caller]
    pub(crate) fn lines(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

#[allow(clippy::disallowed_methods, reason = "the test looks at the engine itself")]
pub(crate) fn dial() -> UnixStream {
    UnixStream::connect(ENGINE).unwrap()
}

/// Asks the engine something; `query` is encoded. Its answer ends with the connection.
pub(crate) fn ask(method: &str, path: &str, query: &[(&str, &str)], body: &[u8]) -> Answer {
    let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let mut engine = dial();
    // Of an account with a registry it is told that there is none.
    let head = format!(
        "{method} {path}?{} HTTP/1.0\r\nHost: docker\r\nX-Registry-Auth: e30=\r\nContent-Length: {}\r\n\r\n",
        query.join("&"),
        body.len()
    );
    engine.write_all(head.as_bytes()).unwrap();
    engine.write_all(body).unwrap();
    let mut answer = Vec::new();
    engine.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, bytes: answer.split_off(end + 4) }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The containers of an installation, also those that have ended.
pub(crate) fn containers(installation: &crate::installation::Installation) -> Vec<Value> {
    let name = std::fs::read_to_string(installation.home().join("data/sandbox/installation"));
    // Before the first run there is none.
    let Ok(name) = name else { return Vec::new() };
    let filter = format!("{{\"label\":[\"org.ironclaw.installation={}\"]}}", name.trim());
    let found = ask("GET", "/containers/json", &[("all", "1"), ("filters", &filter)], &[]).json();
    found.as_array().unwrap().clone()
}
