//! Questions to the owner, and what becomes of them (attacks A08, A09).

use std::collections::BTreeSet;
use std::time::Duration;

use egress::loopback::{Loopback, reply};
use http::StatusCode;
use tokio::io::AsyncWriteExt as _;
use types::{Field, Host, Kind, Verdict};

use super::world::{World, leads_to};
use crate::world::host;

async fn upstream(name: &types::HostName) -> Loopback {
    Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "fine")).await.unwrap()
}

#[tokio::test]
async fn a08_what_a_client_asked_that_left_is_taken_back_and_few_are_asked() {
    let name = host();
    let upstream = upstream(&name).await;
    let rules = format!("[[allow]]\nhost = \"{name}\"\nask = true\n");
    let rules = policy::Reach::parse(rules.as_bytes()).unwrap();
    let world = World::waiting(leads_to(&upstream, &name), rules, Duration::from_secs(600)).await;
    let get = |path: usize| format!("GET /{path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let mut asked = BTreeSet::new();
    for path in 0..8 {
        let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
        stream.write_all(get(path).as_bytes()).await.unwrap();
        asked.insert(world.waits().await);
        drop(stream);
        world.until_none_waits().await;
    }
    assert_eq!(asked.len(), 8);
    // Nobody answered those, so nobody is asked again for a while.
    let answer = world.inside(name.as_str(), &get(8)).await;
    assert_eq!((answer.status, &*answer.code()), (403, "policy.held-too-many"), "{answer:?}");
    let entries = world.close().await;
    let of = |verdict, field: Field| {
        let records =
            entries.iter().map(|entry| &entry.record).filter(move |record| record.verdict == verdict);
        records
            .filter(|record| record.kind == Kind::Approval)
            .filter_map(move |record| record.field(field))
            .count()
    };
    assert_eq!((of(Verdict::Ask, Field::Finding), of(Verdict::Block, Field::State)), (8, 8));
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn a09_a_request_is_shown_whole_and_read_in_one_way_before_it_is_approved() {
    let name = host();
    let upstream = upstream(&name).await;
    let rules = format!("[[allow]]\nhost = \"{name}\"\nask = true\n");
    let rules = policy::Reach::parse(rules.as_bytes()).unwrap();
    let world = World::waiting(leads_to(&upstream, &name), rules, Duration::from_secs(60)).await;
    let post = |body: &str| {
        let length = body.len();
        format!(
            "POST /pay HTTP/1.1\r\nHost: {name}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let note = "x".repeat(2000);
    let twice = format!(r#"{{"to":"alice","note":"{note}","to":"mallory"}}"#);
    let answer = world.inside(name.as_str(), &post(&twice)).await;
    assert_eq!((answer.status, &*answer.code()), (403, "policy.held-twice"));
    // Longer than anybody reads.
    let long = "x".repeat(70_000);
    let answer = world.inside(name.as_str(), &post(&long)).await;
    assert_eq!((answer.status, &*answer.code()), (403, "policy.held-unseen"));
    assert!(world.waiting_rows().await.is_empty());
    let body = format!(r#"{{"note":"{note}","to":"mallory"}}"#);
    let request = post(&body);
    let (answer, card) = tokio::join!(world.inside(name.as_str(), &request), world.approve_one("POST"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(card.ends_with(&body), "{card}");
    assert_eq!(upstream.requests().len(), 1);
}
