//! The wire format of chat completions, split anywhere.

use agent::model::codec::Answer;
use agent::model::{Proposal, Said};
use proptest::prelude::*;
use safety::{StaticFault, Untrusted};
use serde_json::json;
use types::Source;

use crate::server::{calls, delta, says, stream_of};

fn read(pieces: &[&[u8]]) -> Result<Said, StaticFault> {
    let mut answer = Answer::default();
    pieces.iter().try_for_each(|piece| answer.feed(piece))?;
    answer.finish()
}

fn text(text: &str) -> Untrusted<String> {
    Untrusted::new(Source::Model, text.to_owned())
}

fn expected() -> Said {
    let proposal = |tool: &str, arguments: &str| Proposal { tool: text(tool), arguments: text(arguments) };
    let calls = vec![proposal("read_file", r#"{"path":"ü.md"}"#), proposal("list_dir", "")];
    Said { text: None, calls, tokens: Some(25) }
}

fn recorded() -> Vec<u8> {
    calls(&[("read_file", r#"{"path":"ü.md"}"#), ("list_dir", "")])
}

#[test]
fn every_boundary_of_a_recorded_answer_gives_the_same() {
    let stream = recorded();
    for at in 0..=stream.len() {
        assert_eq!(read(&[&stream[..at], &stream[at..]]), Ok(expected()), "split at {at}");
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(read(&bytes), Ok(expected()));
    let words = Said { text: Some(text("Grüße, 世界")), calls: vec![], tokens: Some(25) };
    assert_eq!(read(&[&says("Grüße, 世界")]), Ok(words));
}

#[test]
fn calls_without_an_index_are_told_apart_by_their_names() {
    let piece = |function: serde_json::Value| delta(json!({"tool_calls": [{"function": function}]}));
    let stream = stream_of(vec![
        piece(json!({"name": "read_file", "arguments": "{\"path\":"})),
        piece(json!({"arguments": "\"ü.md\"}"})),
        piece(json!({"name": "list_dir"})),
    ]);
    assert_eq!(read(&[&stream]), Ok(expected()));
}

#[test]
fn what_is_too_much_or_no_answer_is_a_fault_in_fixed_words() {
    let many: Vec<(&str, &str)> = vec![("read_file", "{}"); 17];
    let long = "x".repeat(300_000);
    let words = "x".repeat(600_000);
    for stream in [
        calls(&many),
        calls(&[("read_file", &long)]),
        stream_of(vec![delta(json!({"content": words})), delta(json!({"content": words}))]),
        b"data: {\"error\":{\"message\":\"secret words\"}}\n\n".to_vec(),
        b"data: secret words\n\n".to_vec(),
        b"data: \xff\xfe\n\n".to_vec(),
        b"data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n".to_vec(),
        b"".to_vec(),
    ] {
        let fault = read(&[&stream]).unwrap_err();
        assert!(!fault.to_string().contains("secret"));
    }
    // Some endpoints leave out the end marker or the reason.
    assert!(
        read(&[b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n"])
            .is_ok()
    );
    assert!(read(&[b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n"]).is_ok());
}

proptest! {
    #[test]
    fn no_cut_changes_an_answer(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let stream = recorded();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(&pieces), Ok(expected()));
    }

    #[test]
    fn no_bytes_panic(at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut stream = recorded();
        let at = at.index(stream.len());
        stream.splice(at..(at + bytes.len()).min(recorded().len()), bytes);
        let _ = read(&[&stream]);
    }
}
