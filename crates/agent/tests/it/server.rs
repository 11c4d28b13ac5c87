//! A model's endpoint that answers from a script, in the recorded wire format, cut at awkward places.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use egress::loopback::{Loopback, Reply, reply, reply_in_frames};
use futures_util::stream;
use http::StatusCode;
use http_body::Frame;
use serde_json::{Value, json};
use types::{Host, HostName};

/// How many bytes each piece of an answer has: a prime, so that pieces end everywhere.
const PIECE: usize = 7;

/// An endpoint that gives these answers in order and the last one for ever.
pub(crate) async fn scripted(host: &HostName, answers: Vec<Vec<u8>>) -> Loopback {
    let answers = Mutex::new(VecDeque::from(answers));
    Loopback::https(&Host::Name(host.clone()), move |_| {
        let mut left = answers.lock().unwrap();
        let answer = if left.len() > 1 { left.pop_front() } else { left.front().cloned() };
        in_pieces(&answer.unwrap_or_default())
    })
    .await
    .unwrap()
}

/// An endpoint whose next answer the test may change.
pub(crate) async fn changing(host: &HostName) -> (Loopback, Arc<Mutex<Vec<u8>>>) {
    let answer = Arc::new(Mutex::new(says("Nothing yet.")));
    let told = answer.clone();
    let server =
        Loopback::https(&Host::Name(host.clone()), move |_| in_pieces(&told.lock().unwrap())).await.unwrap();
    (server, answer)
}

/// An endpoint that gives this status.
pub(crate) async fn failing(host: &HostName, status: StatusCode, body: &'static str) -> Loopback {
    Loopback::https(&Host::Name(host.clone()), move |_| reply(status, body)).await.unwrap()
}

fn in_pieces(answer: &[u8]) -> Reply {
    let frames: Vec<_> =
        answer.chunks(PIECE).map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
    let mut reply = reply_in_frames(stream::iter(frames));
    reply.headers_mut().insert("content-type", "text/event-stream; charset=utf-8".parse().unwrap());
    reply
}

/// An answer in words.
pub(crate) fn says(text: &str) -> Vec<u8> {
    let half = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
    stream_of(vec![
        delta(json!({"content": &text[..half]})),
        delta(json!({"content": &text[half..]})),
        finish("stop"),
    ])
}

/// An answer that calls tools; names and arguments come in fragments, as endpoints send them.
pub(crate) fn calls(list: &[(&str, &str)]) -> Vec<u8> {
    let mut chunks = Vec::new();
    for (index, (name, arguments)) in list.iter().enumerate() {
        let half = arguments.char_indices().nth(arguments.chars().count() / 2).map_or(0, |(at, _)| at);
        chunks.push(delta(json!({"tool_calls": [{"index": index, "id": "call_x1", "type": "function",
            "function": {"name": name, "arguments": ""}}]})));
        for part in [&arguments[..half], &arguments[half..]] {
            chunks.push(delta(json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]})));
        }
    }
    chunks.push(finish("tool_calls"));
    stream_of(chunks)
}

/// An answer in words, whose endpoint says that it used so many tokens.
pub(crate) fn says_using(text: &str, tokens: u64) -> Vec<u8> {
    let recorded = String::from_utf8(says(text)).unwrap();
    let told = recorded.replace("\"total_tokens\":25", &format!("\"total_tokens\":{tokens}"));
    assert!(tokens == 25 || told != recorded);
    told.into_bytes()
}

/// An answer that reads one file.
pub(crate) fn reads(path: &str) -> Vec<u8> {
    calls(&[("read_file", &json!({"path": path}).to_string())])
}

/// A recorded stream: a comment, a first chunk with the role, the rest, usage, and the end.
pub(crate) fn stream_of(chunks: Vec<Value>) -> Vec<u8> {
    let first = delta(json!({"role": "assistant", "content": ""}));
    let usage = json!({"id": "c1", "object": "chat.completion.chunk", "choices": [],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}});
    let mut text = String::from(": OPENROUTER PROCESSING\n\n");
    for chunk in [vec![first], chunks, vec![usage]].concat() {
        text.push_str(&format!("data: {chunk}\r\n\r\n"));
    }
    text.push_str("data: [DONE]\n\n");
    text.into_bytes()
}

pub(crate) fn delta(delta: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m", "system_fingerprint": null,
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}], "usage": null})
}

fn finish(reason: &str) -> Value {
    json!({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}
