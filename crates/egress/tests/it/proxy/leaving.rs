//! Clients that leave at any moment, and proxies that end: what became of each request is on record (attack A01).

use std::collections::BTreeMap;
use std::time::Duration;

use audit::Entry;
use egress::loopback::{Loopback, reply};
use futures_util::SinkExt as _;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use types::{Field, Host, Kind, Record, Verdict};

use super::sockets::{Server, echo, hear, last, open};
use super::world::{World, leads_to, reach};
use crate::listener::Listener;
use crate::world::host;

const TIME: Duration = Duration::from_secs(20);

/// What became of each request that was permitted.
fn outcomes(entries: &[Entry]) -> Vec<Option<Record>> {
    let settled = entries.iter().filter(|entry| entry.record.kind == Kind::Settle);
    let mut of = BTreeMap::new();
    for entry in settled {
        let earlier = of.insert(entry.record.field(Field::Of).unwrap().to_owned(), entry.record.clone());
        assert!(earlier.is_none(), "settled twice: {entry:?}");
    }
    let permitted = entries
        .iter()
        .filter(|entry| (entry.record.kind, entry.record.verdict) == (Kind::Request, Verdict::Allow));
    permitted.map(|entry| of.remove(&entry.seq.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a01_whenever_a_client_leaves_what_became_of_its_request_is_on_record() {
    let name = host();
    let upstream =
        Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "fine")).await.unwrap();
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let asks = format!("GET /x HTTP/1.1\r\nHost: {name}\r\n\r\n");
    for micros in (0..12_000).step_by(300) {
        let mut client = world.secured(name.as_str(), name.as_str()).await.unwrap();
        client.write_all(asks.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        // Not to wait for something, but to leave in the middle of it.
        sleep(Duration::from_micros(micros)).await;
    }
    let entries = world.close().await;
    let outcomes = outcomes(&entries);
    assert!(!outcomes.is_empty());
    for outcome in &outcomes {
        let outcome = outcome.as_ref().expect("what became of it");
        assert!(
            outcome.field(Field::Target).is_some() && outcome.field(Field::Sent).is_some(),
            "{outcome:?}"
        );
    }
    // Nothing was sent without saying where to.
    let told = outcomes.iter().flatten().filter(|outcome| outcome.field(Field::Address).is_some()).count();
    assert!(told >= upstream.requests().len(), "{told} of {}", upstream.requests().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a01_a_request_whose_client_left_ends_at_once_with_all_that_is_known_of_it() {
    let name = host();
    let (listener, config) = Listener::of(&name, &["http/1.1"]).await;
    let world = World::new(config, reach(&[name.as_str()])).await;
    let mut client = world.secured(name.as_str(), name.as_str()).await.unwrap();
    let asks = format!("GET /x HTTP/1.1\r\nHost: {name}\r\n\r\n");
    client.write_all(asks.as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    let mut stream = listener.next().await.unwrap();
    let mut heard = [0; 1024];
    assert!(stream.read(&mut heard).await.unwrap() > 0);
    drop(client);
    // The upstream never answers.
    timeout(TIME, async { while stream.read(&mut heard).await.is_ok_and(|length| length > 0) {} })
        .await
        .unwrap();
    let settled = world.settled().await;
    let [record] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!(record.verdict, Verdict::Failed);
    assert_eq!(record.field(Field::Reason), Some("the request ended before its end"));
    assert_eq!(record.field(Field::Address), Some("127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn c08_what_ended_a_websocket_is_on_record_before_anybody_hears_of_it() {
    let name = host();
    let server = Server::start(&name, echo).await;
    let world = World::with_secret(
        server.config.clone(),
        reach(&[name.as_str()]),
        super::world::Granted { host: &name, path: "/other", inject: "bearer" },
    )
    .await;
    let mut client = open(&world, &name, "/", &[]).await.unwrap();
    client.send(Message::text(format!("it is {}", world.key))).await.unwrap();
    assert_eq!(&*last(&mut client).await.0.unwrap().reason, "leaks.known-value");
    // The client, and with it the run, may end now: nothing is waited for.
    let settled = world.records().await.into_iter().filter(|record| record.kind == Kind::Settle);
    let settled: Vec<Record> = settled.collect();
    let [record] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!((record.verdict, record.field(Field::Rule)), (Verdict::Block, Some("leaks.known-value")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a01_what_is_open_when_a_proxy_ends_is_on_record() {
    let name = host();
    let server = Server::start(&name, echo).await;
    let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
    let mut client = open(&world, &name, "/", &[]).await.unwrap();
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(hear(&mut client).await, Message::text("hello"));
    let settled = world.settled().await;
    let [record] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!((record.verdict, record.field(Field::Received)), (Verdict::Failed, Some("5")));
    assert_eq!(record.field(Field::Address), Some("127.0.0.1"));
}
