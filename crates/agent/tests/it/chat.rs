//! Turns with a model behind an OpenAI-compatible endpoint.

use agent::{Conversation, Failure, Input};
use futures_util::FutureExt as _;
use http::StatusCode;
use policy::{Answer, Budget, Settings};
use safety::Untrusted;
use serde_json::Value;
use types::limits::MAX_STEPS;
use types::{Kind, Source};

use crate::server::{calls, failing, reads, says, scripted};
use crate::world::{Setup, World, host, reply, rules};

fn body(request: &http::Request<bytes::Bytes>) -> Value {
    serde_json::from_slice(request.body()).unwrap()
}

#[tokio::test]
async fn a_call_goes_round_and_the_key_is_on_the_wire_only() {
    let host = host();
    let server = scripted(&host, vec![reads("notes/tide.md"), says("High water is at 14:05.")]).await;
    let world = World::with_model(&host, &server).await;
    world.file("notes/tide.md", "14:05 high");
    let outcome = world.ask("When is high water?").await;
    assert_eq!((reply(&outcome), rules(&outcome)), ("High water is at 14:05.", vec![]));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(request.headers()["authorization"], format!("Bearer {}", world.key).as_str());
        assert!(!String::from_utf8_lossy(request.body()).contains(&world.key));
    }
    let first = body(&requests[0]);
    assert_eq!((&first["model"], &first["stream"]), (&Value::from("test/model-1"), &Value::from(true)));
    assert_eq!(first["messages"][1]["content"], "When is high water?");
    assert_eq!(first["tools"].as_array().unwrap().len(), 3);
    let second = body(&requests[1]);
    let [call, result] = [&second["messages"][2], &second["messages"][3]];
    assert_eq!(call["tool_calls"][0]["function"]["name"], "read_file");
    assert_eq!(call["tool_calls"][0]["id"], result["tool_call_id"]);
    let text = result["content"].as_str().unwrap();
    assert!(text.starts_with("<<<data ") && text.contains("14:05 high"), "{text}");
}

#[tokio::test]
async fn what_was_attached_comes_fenced_and_before_the_owners_word() {
    let host = host();
    let server = scripted(&host, vec![says("Short.")]).await;
    let world = World::with_model(&host, &server).await;
    let input = Input::typed("Summarise this").with(Untrusted::new(Source::Pipe, "a long story".to_owned()));
    let outcome = world.turn(&mut Conversation::default(), input, None).await;
    assert_eq!(reply(&outcome), "Short.");
    let messages = body(&server.requests()[0])["messages"].clone();
    assert!(messages[1]["content"].as_str().unwrap().starts_with("<<<data "));
    assert_eq!(messages[2]["content"], "Summarise this");
}

#[tokio::test]
async fn several_calls_of_one_answer_run_in_order() {
    let host = host();
    let both =
        calls(&[("read_file", r#"{"path":"a"}"#), ("list_dir", ""), ("read_file", r#"{"path":"missing"}"#)]);
    let server = scripted(&host, vec![both, says("Done.")]).await;
    let world = World::with_model(&host, &server).await;
    world.file("a", "alpha");
    let outcome = world.ask("Look around").await;
    assert_eq!((reply(&outcome), rules(&outcome)), ("Done.", vec![]));
    let messages = body(&server.requests()[1])["messages"].as_array().unwrap().clone();
    let results: Vec<&str> =
        messages.iter().filter(|m| m["role"] == "tool").map(|m| m["content"].as_str().unwrap()).collect();
    assert!(
        results[0].contains("alpha")
            && results[1].contains("a (5 bytes)")
            && results[2].contains("no such file")
    );
}

#[tokio::test]
async fn a_refused_call_is_told_without_details_and_the_turn_goes_on() {
    let host = host();
    let server = scripted(&host, vec![reads("../outside"), says("I could not.")]).await;
    let world = World::with_model(&host, &server).await;
    let outcome = world.ask("Read it").await;
    assert_eq!((reply(&outcome), rules(&outcome)), ("I could not.", vec!["files.outside"]));
    let told = body(&server.requests()[1])["messages"][3]["content"].as_str().unwrap().to_owned();
    assert_eq!(told, "refused (files.outside): the path does not lie inside the workspace");
}

#[tokio::test]
async fn calls_that_are_none_are_told_and_never_run() {
    let host = host();
    let answers = vec![
        calls(&[("no_such_tool", "{}")]),
        calls(&[("Read File\n", "{}")]),
        calls(&[("read_file", "{\"path\":")]),
        calls(&[("read_file", "{\"path\":3}")]),
        calls(&[("read_file", "[1]")]),
        says("I give up."),
    ];
    let server = scripted(&host, answers).await;
    let world = World::with_model(&host, &server).await;
    let outcome = world.ask("Read it").await;
    assert_eq!(reply(&outcome), "I give up.");
    assert_eq!(rules(&outcome), ["policy.tool-unknown", "policy.arguments", "policy.arguments"]);
    let last = body(&server.requests()[5])["messages"].to_string();
    assert!(!last.contains("Read File") && last.contains("could not be read"));
    drop(outcome);
    assert!(
        world
            .close()
            .await
            .iter()
            .all(|entry| entry.record.kind != Kind::Settle || entry.record.turn.is_some())
    );
}

#[tokio::test]
async fn an_endless_loop_of_calls_ends() {
    let host = host();
    let server = scripted(&host, vec![reads("a")]).await;
    let world = World::with_model(&host, &server).await;
    world.file("a", "again");
    let outcome = world.ask("Go on for ever").await;
    assert_eq!(rules(&outcome), ["agent.steps"]);
    assert!(outcome.reply.is_none());
    assert_eq!(server.requests().len(), usize::try_from(MAX_STEPS).unwrap());
}

#[tokio::test]
async fn a_used_up_budget_sends_nothing() {
    for budget in
        [Budget { tokens: Some(50), ..Budget::default() }, Budget { money: Some(50), ..Budget::default() }]
    {
        let host = host();
        let server = scripted(&host, vec![says("Hello.")]).await;
        let settings = Settings { budget, ..Settings::default() };
        let world = World::build(Setup { settings, ..Setup::default() }, Some((&host, &server))).await;
        let outcome = world.ask("Hello").await;
        assert_eq!(rules(&outcome), ["policy.budget"]);
        assert!(outcome.refusals[0].widen.is_some());
        assert_eq!(server.connections(), 0);
    }
}

#[tokio::test]
async fn failures_of_the_endpoint_are_told_in_fixed_words() {
    let host = host();
    let server = failing(&host, StatusCode::PAYMENT_REQUIRED, "pay at http://evil.example").await;
    let outcome = World::with_model(&host, &server).await.ask("Hello").await;
    assert_eq!(outcome.failure, Some(Failure::Status(402)));
    assert_eq!(outcome.failure.unwrap().to_string(), "the model's endpoint answered with status 402");

    let server = failing(&host, StatusCode::OK, "{\"choices\":[]}").await;
    let outcome = World::with_model(&host, &server).await.ask("Hello").await;
    assert!(matches!(outcome.failure, Some(Failure::Protocol(_))));

    for broken in [
        b"data: {\"choices\":[".to_vec(),
        b"data: {\"choices\":[]}\n\n".to_vec(),
        b"data: {\"error\":{\"message\":\"x\"}}\n\n".to_vec(),
        vec![],
    ] {
        let server = scripted(&host, vec![broken]).await;
        let outcome = World::with_model(&host, &server).await.ask("Hello").await;
        assert!(matches!(outcome.failure, Some(Failure::Protocol(_))), "{:?}", outcome.failure);
        assert!(outcome.reply.is_none() && outcome.refusals.is_empty());
    }
}

#[tokio::test]
async fn a_conversation_remembers_what_it_read() {
    let host = host();
    let write = calls(&[("write_file", r#"{"path":"b","content":"beta"}"#)]);
    let server =
        scripted(&host, vec![write.clone(), says("Written."), reads("a"), says("Read."), write, says("Hm.")])
            .await;
    let world = World::with_model(&host, &server).await;
    world.file("a", "alpha");
    let mut conversation = Conversation::default();
    // Nothing but the owner's word was read, so nobody needs to be asked.
    let outcome = world.turn(&mut conversation, Input::typed("Write b"), None).await;
    assert_eq!(rules(&outcome), Vec::<&str>::new());
    let outcome = world.turn(&mut conversation, Input::typed("Read a"), None).await;
    assert_eq!(rules(&outcome), Vec::<&str>::new());
    let outcome = world.turn(&mut conversation, Input::typed("Write b"), Some(Answer::No)).await;
    assert_eq!(rules(&outcome), ["policy.declined"]);
    assert_eq!(body(server.requests().last().unwrap())["messages"].as_array().unwrap().len(), 12);
}

#[tokio::test]
async fn a_budget_pays_for_what_the_answer_says_was_used_and_never_for_nothing() {
    for (told, paid) in [(700, 700..=700), (0, 20..=400)] {
        let host = host();
        let server = scripted(&host, vec![crate::server::says_using("Hello.", told)]).await;
        let budget = Budget { tokens: Some(100_000), money: Some(100_000), ..Budget::default() };
        let settings = Settings { budget, ..Settings::default() };
        let world = World::build(Setup { settings, ..Setup::default() }, Some((&host, &server))).await;
        assert_eq!(reply(&world.ask("Hello").await), "Hello.");
        let day = (audit::now_ms() / 86_400_000) as u32;
        for (_, spent) in world.reader.spending(&types::Tenant::local(), day).await.unwrap() {
            assert!(paid.contains(&spent), "{told} were told, {spent} paid");
        }
    }
}

#[tokio::test]
async fn a_turn_that_was_abandoned_leaves_no_call_without_an_answer() {
    let host = host();
    let server =
        scripted(&host, vec![calls(&[("write_file", r#"{"path":"a","content":"b"}"#)]), says("Hello.")])
            .await;
    let settings = Settings {
        permissions: [(types::ToolName::parse("write_file").unwrap(), policy::Permission::Ask)].into(),
        ..Settings::default()
    };
    let world = World::build(Setup { settings, ..Setup::default() }, Some((&host, &server))).await;
    let mut conversation = Conversation::default();
    {
        // The owner is asked, and ends the turn instead of answering.
        let (sender, asked) = tokio::sync::oneshot::channel();
        let sender = std::sync::Mutex::new(Some(sender));
        let ask = |_: &policy::Card| {
            sender.lock().unwrap().take().unwrap().send(()).unwrap();
            std::future::pending().boxed()
        };
        let turn = world.agent.turn(&mut conversation, Input::typed("Write it"), types::Trace::off(), &ask);
        tokio::select! {
            _ = turn => panic!("the question was not waited for"),
            asked = asked => asked.unwrap(),
        }
    }
    let outcome = world.turn(&mut conversation, Input::typed("Hello"), Some(Answer::No)).await;
    assert_eq!(reply(&outcome), "Hello.");
    let messages = body(&server.requests()[1])["messages"].clone();
    assert_eq!(messages.as_array().unwrap().len(), 2, "{messages:#}");
    assert_eq!(messages[1]["content"], "Hello");
    assert!(!world.workspace().join("a").exists());
}
