//! The provider that needs no model: it matches what the owner typed to the tools by their names,
//! descriptions and parameters, and fills their arguments from the text.
//!
//! It is deterministic, knows no network and keeps nothing: where it stands in a turn it reads from the
//! transcript. Only the owner's own words are matched. A paste, a file or a tool's result is shown, never
//! obeyed.

mod arguments;
mod matching;
mod phrases;
mod unspaced;
mod words;

use policy::Tool;
use safety::Untrusted;
use serde_json::Value;
use types::{Source, ToolName};

use self::matching::Match;
pub(crate) use self::matching::Offer;
use super::{Proposal, Said};
use crate::transcript::{Message, Transcript};

/// The most clauses of one request. A person asks for a handful of things at once.
const MAX_CLAUSES: usize = 8;

/// The longest request that is matched. Longer ones are read up to here.
const MAX_REQUEST: usize = 16 << 10;

/// The offline provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offline;

impl Offline {
    /// The next call that the owner's request asks for, or the answer when all are done. The first refusal
    /// ends the turn: nobody here can judge what to do instead.
    pub fn answer(&self, transcript: &Transcript, tools: &[impl AsRef<Tool>]) -> Said {
        let tools: Vec<&Tool> = tools.iter().map(AsRef::as_ref).collect();
        let offers: Vec<Offer<'_>> = tools.iter().map(|tool| offer(tool)).collect();
        let (request, since) = last_request(transcript);
        let plan = Plan::of(request, &offers);
        let refused =
            since.iter().any(|message| matches!(message, Message::Refused { .. } | Message::Unreadable(_)));
        let done = since.iter().filter(|message| matches!(message, Message::Result { .. })).count();
        match plan.calls.get(done) {
            Some((tool, arguments)) if !refused => Said::call(tool, arguments),
            _ => Said::text(plan.answer(since, refused, &offers)),
        }
    }
}

fn offer(tool: &Tool) -> Offer<'_> {
    Offer {
        name: &tool.manifest.name,
        description: tool.description.as_str(),
        keywords: &tool.keywords,
        parameters: tool.parameters.get(),
    }
}

/// What the owner typed last, and what followed it.
fn last_request(transcript: &Transcript) -> (&str, &[Message]) {
    let messages = transcript.messages();
    let last = messages.iter().enumerate().rev().find_map(|(at, message)| match message {
        Message::Owner(text) => Some((text.as_str(), &messages[at + 1..])),
        _ => None,
    });
    last.unwrap_or(("", messages))
}

/// What a request comes to: calls in order, and what is to be said about the rest of it.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    calls: Vec<(ToolName, Value)>,
    remarks: Vec<String>,
    unknown: bool,
}

impl Plan {
    fn of(request: &str, offers: &[Offer<'_>]) -> Self {
        let mut plan = Self::default();
        for clause in clauses(request).into_iter().take(MAX_CLAUSES) {
            match matching::choose(clause, offers) {
                Match::Call { tool, arguments } => plan.calls.push((tool, arguments)),
                Match::Missing { tool, missing } => plan.remarks.push(match missing.description.as_str() {
                    "" => format!("{tool} needs to know: {}.", missing.name),
                    description => format!("{tool} needs to know: {} ({description}).", missing.name),
                }),
                Match::Unknown => plan.unknown = true,
                Match::Nothing => {}
            }
        }
        plan
    }

    /// The results as they came, then what is left to say. Nothing, when a refusal says it all.
    fn answer(&self, since: &[Message], refused: bool, offers: &[Offer<'_>]) -> Option<String> {
        let mut parts: Vec<String> = since.iter().filter_map(shown).collect();
        parts.extend(self.remarks.iter().cloned());
        let nothing_done = parts.is_empty() && self.calls.is_empty() && !refused;
        if self.unknown || nothing_done {
            parts.push(abilities(offers));
        }
        (!parts.is_empty()).then(|| parts.join("\n\n"))
    }
}

fn shown(message: &Message) -> Option<String> {
    match message {
        Message::Result { text, failed: false, .. } => Some(text.as_str().to_owned()),
        Message::Result { text, tool, .. } => Some(format!("{tool} failed: {}", text.as_str())),
        _ => None,
    }
}

/// What can be asked for.
fn abilities(offers: &[Offer<'_>]) -> String {
    if offers.is_empty() {
        return "There is no tool yet. Begin with: ironclaw init, or install one: ironclaw tool install PATH"
            .to_owned();
    }
    // On one line each: a description that breaks its line could speak as another tool.
    let says = |offer: &Offer<'_>| offer.description.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = offers.iter().map(|offer| format!("- {}: {}", offer.name, says(offer)));
    let lines = lines.collect::<Vec<_>>().join("\n");
    format!(
        "No language model is configured, and no tool matches this. What can be asked for:\n{lines}\n\
         For free conversation, configure a model: ironclaw config explain model"
    )
}

/// Cuts a request into the things it asks for: at semicolons, ends of sentences, "and then", "then" and
/// "also", outside quotation marks.
fn clauses(request: &str) -> Vec<&str> {
    let end =
        (0..=request.len().min(MAX_REQUEST)).rev().find(|at| request.is_char_boundary(*at)).unwrap_or(0);
    let request = &request[..end];
    let quoted = phrases::quoted_spans(request);
    let inside = |at: usize| quoted.iter().any(|span| span.contains(&at));
    let mut clauses = Vec::new();
    let mut from = 0;
    for (at, c) in request.char_indices() {
        if at < from || inside(at) {
            continue;
        }
        if let Some(length) = separator(&request[at..], c) {
            clauses.push(request[from..at].trim());
            from = at + length;
        }
    }
    clauses.push(request[from..].trim());
    clauses.retain(|clause| !clause.is_empty());
    clauses
}

/// The length of a separator that begins here.
fn separator(rest: &str, c: char) -> Option<usize> {
    const WORDS: [&str; 6] = [", and then ", " and then ", ", then ", " and also ", ", also ", " then "];
    let ends_sentence = matches!(c, '.' | '!' | '?') && rest[c.len_utf8()..].starts_with(char::is_whitespace);
    if matches!(c, ';' | '\n' | '\u{ff1b}' | '\u{3002}' | '\u{ff01}' | '\u{ff1f}') || ends_sentence {
        return Some(c.len_utf8());
    }
    let starts = |word: &&&str| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    WORDS.iter().find(starts).map(|word| word.len())
}

impl Said {
    fn call(tool: &ToolName, arguments: &Value) -> Self {
        let foreign = |text: String| Untrusted::new(Source::Model, text);
        let proposal =
            Proposal { tool: foreign(tool.to_string()), arguments: foreign(arguments.to_string()) };
        Self { text: None, calls: vec![proposal], tokens: None }
    }

    fn text(text: Option<String>) -> Self {
        Self { text: text.map(|text| Untrusted::new(Source::Model, text)), calls: Vec::new(), tokens: None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    struct Kit(Vec<(ToolName, String, Value)>);

    impl Kit {
        fn new(tools: &[(&str, &str, Value)]) -> Self {
            Self(
                tools
                    .iter()
                    .map(|(name, says, schema)| {
                        (ToolName::parse(name).unwrap(), (*says).to_owned(), schema.clone())
                    })
                    .collect(),
            )
        }

        fn usual() -> Self {
            let path = json!({"type": "string", "description": "a path inside the workspace"});
            Self::new(&[
                (
                    "read_file",
                    crate::files::READ_FILE,
                    json!({"type": "object", "required": ["path"], "properties": {"path": path}}),
                ),
                (
                    "list_dir",
                    crate::files::LIST_DIR,
                    json!({"type": "object", "properties": {"path": {"type": "string", "default": ""}}}),
                ),
                (
                    "write_file",
                    crate::files::WRITE_FILE,
                    json!({"type": "object", "required": ["path", "content"], "properties": {
                    "path": path, "content": {"type": "string", "description": "the text to write"}}}),
                ),
                (
                    "weather",
                    "Current weather of a city",
                    json!({"type": "object", "required": ["city"], "properties": {
                    "city": {"type": "string", "description": "the city"}}}),
                ),
            ])
        }

        fn plan(&self, request: &str) -> Plan {
            let offers: Vec<Offer<'_>> = self
                .0
                .iter()
                .map(|(name, description, parameters)| Offer { name, description, keywords: &[], parameters })
                .collect();
            Plan::of(request, &offers)
        }

        fn calls(&self, request: &str) -> Vec<(String, Value)> {
            self.plan(request)
                .calls
                .into_iter()
                .map(|(tool, arguments)| (tool.to_string(), arguments))
                .collect()
        }
    }

    fn call(tool: &str, arguments: Value) -> (String, Value) {
        (tool.to_owned(), arguments)
    }

    #[test]
    fn the_weather_of_a_city_in_many_wordings() {
        let kit = Kit::usual();
        for (request, city) in [
            ("Please check today's weather in Beijing", "Beijing"),
            ("What is the weather like in São Paulo today?", "São Paulo"),
            ("Beijing's weather, please", "Beijing"),
            ("weather in new york", "new york"),
            ("weather for Rio de Janeiro tomorrow", "Rio de Janeiro"),
            ("How is the weather at the moment in LONDON?", "LONDON"),
            ("weather oslo", "oslo"),
            ("Paris weather", "Paris"),
            ("Could you tell me the weather of 'Ulan Bator' now", "Ulan Bator"),
        ] {
            assert_eq!(kit.calls(request), [call("weather", json!({"city": city}))], "{request}");
        }
    }

    #[test]
    fn names_and_wordings_do_not_matter() {
        let kit = Kit::new(&[
            (
                "zq7",
                "Tells how many parcels wait in a warehouse",
                json!({"type": "object", "required": ["vbx"], "properties": {
                "vbx": {"type": "string", "description": "which warehouse"},
                "limit": {"type": "integer", "minimum": 1, "maximum": 50},
                "unit": {"enum": ["pallets", "boxes"]}}}),
            ),
            (
                "tide_table",
                "High and low water at a harbour",
                json!({"type": "object", "required": ["harbour"], "properties": {
                "harbour": {"type": "string"}}}),
            ),
        ]);
        assert_eq!(
            kit.calls("How many parcels wait in Rotterdam?"),
            [call("zq7", json!({"vbx": "Rotterdam"}))]
        );
        assert_eq!(
            kit.calls("parcels in Rotterdam in pallets, at most 20"),
            [call("zq7", json!({"vbx": "Rotterdam", "limit": 20, "unit": "pallets"}))]
        );
        assert_eq!(
            kit.calls("when is low water at Dover"),
            [call("tide_table", json!({"harbour": "Dover"}))]
        );
    }

    #[test]
    fn two_requests_in_one() {
        let kit = Kit::usual();
        assert_eq!(
            kit.calls("view the README; also send me the contents of .env"),
            [call("read_file", json!({"path": "README"})), call("read_file", json!({"path": ".env"}))]
        );
        assert_eq!(
            kit.calls("What's the weather in Oslo? And then show notes/today.md. Thanks!"),
            [call("weather", json!({"city": "Oslo"})), call("read_file", json!({"path": "notes/today.md"}))]
        );
    }

    #[test]
    fn files_are_read_listed_and_written() {
        let kit = Kit::usual();
        assert_eq!(kit.calls("list the files"), [call("list_dir", json!({}))]);
        assert_eq!(
            kit.calls("what files are in the src folder?"),
            [call("list_dir", json!({"path": "src"}))]
        );
        assert_eq!(
            kit.calls("write \"hello; world. Bye\" to notes/x.md"),
            [call("write_file", json!({"path": "notes/x.md", "content": "hello; world. Bye"}))]
        );
        assert_eq!(
            kit.calls("save to list.txt: milk and honey"),
            [call("write_file", json!({"path": "list.txt", "content": "milk and honey"}))]
        );
        assert_eq!(kit.calls("open the file Makefile"), [call("read_file", json!({"path": "Makefile"}))]);
    }

    #[test]
    fn what_is_missing_or_unknown_is_said() {
        let kit = Kit::usual();
        let plan = kit.plan("what is the weather?");
        assert!(plan.calls.is_empty() && plan.remarks == ["weather needs to know: city (the city)."]);
        for request in ["sing me a song", "who was the first president of France?", "2 + 2"] {
            let plan = kit.plan(request);
            assert!(plan.calls.is_empty() && plan.unknown, "{request}: {plan:?}");
        }
        assert_eq!(kit.plan("please, thank you!"), Plan::default());
    }

    #[test]
    fn requests_in_scripts_without_spaces_find_their_tool() {
        let safety = safety::Safety::new(Default::default()).unwrap();
        let manifest = include_str!("../../../../guests/weather/manifest.toml");
        let manifest = policy::Manifest::parse(manifest.as_bytes()).unwrap();
        let weather = Tool::new(manifest, types::Digest::of(b""), None, &safety).unwrap();
        for (request, city) in [
            ("请查一下北京今天的天气", "北京"),
            ("上海现在的天气怎么样？", "上海"),
            ("請問台北今天的天氣如何", "台北"),
            ("東京の今日の天気を教えてください。", "東京"),
            ("ニューヨークの天気は？", "ニューヨーク"),
            ("서울의 오늘 날씨를 알려 주세요", "서울"),
            ("부산 날씨 어때?", "부산"),
            ("请查一下 Paris 的天气", "Paris"),
        ] {
            let plan = Plan::of(request, &[offer(&weather)]);
            assert_eq!(
                plan.calls,
                [(ToolName::parse("weather").unwrap(), json!({"city": city}))],
                "{request}"
            );
        }
        for request in ["请写一首诗", "音楽を流して", "노래를 불러줘", "天"] {
            assert!(Plan::of(request, &[offer(&weather)]).calls.is_empty(), "{request}");
        }
        // A tool that describes itself in Chinese needs no keywords.
        let kit = Kit::new(&[(
            "zq8",
            "查询一个城市的天气预报",
            json!({"type": "object", "required": ["city"], "properties": {"city": {"type": "string", "description": "城市"}}}),
        )]);
        assert_eq!(kit.calls("请查一下北京今天的天气"), [call("zq8", json!({"city": "北京"}))]);
    }

    proptest! {
        #[test]
        fn no_request_in_scripts_without_spaces_panics(request in "[\\u4e00-\\u4e20天气の今日教えは를오늘\\uac00-\\uac20「」 a。]{0,60}") {
            Kit::usual().plan(&request);
        }

        #[test]
        fn no_request_panics(request in "\\PC{0,200}") {
            Kit::usual().plan(&request);
        }

        #[test]
        fn no_mixture_of_words_and_marks_panics(parts in prop::collection::vec(prop_oneof![
            Just("weather"), Just(" in "), Just("'s "), Just("\""), Just("'"), Just(": "), Just("; "), Just(". "), Just(" then "),
            Just("Beijing"), Just(".env"), Just("folder"), Just("called"), Just("\u{2019}s"), Just("é"), Just(" "), Just("-3.5e9"), Just("write"),
        ], 0..30)) {
            Kit::usual().plan(&parts.concat());
        }

        #[test]
        fn no_schema_panics(name in "[a-z]{1,8}", text in "\\PC{0,60}", kind in "string|integer|number|boolean|array|zz", request in "\\PC{0,80}") {
            let schema = json!({"type": "object", "required": [name.clone()], "properties": {name: {"type": kind, "description": text, "enum": []}, "x": 3}});
            Kit::new(&[("tool", &text, schema)]).plan(&format!("tool {request}"));
        }
    }
}
