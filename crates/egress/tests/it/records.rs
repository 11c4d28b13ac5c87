//! How requests that were given up stand in the log.

use egress::loopback::{Loopback, reply};
use http::StatusCode;
use types::{Field, Host, Verdict};

use crate::world::{Setup, World, host};

#[tokio::test]
async fn a_body_dropped_half_way_is_recorded_as_abandoned() {
    let name = host();
    let upstream =
        Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "unread")).await.unwrap();
    let world = World::around(&upstream, Setup::open(&name)).await;
    drop(world.send("GET", "/", egress::Message::default()).await.unwrap());
    let settled = world.settled().await;
    assert_eq!(settled[0].verdict, Verdict::Abandoned);
    assert_eq!(settled[0].field(Field::Status), Some("200"));
}

#[tokio::test]
async fn a_request_dropped_while_it_waits_is_recorded_as_abandoned() {
    let name = host();
    let (entered, seen) = tokio::sync::watch::channel(false);
    let upstream = Loopback::https(&Host::Name(name.clone()), move |_| {
        entered.send_replace(true);
        reply(StatusCode::OK, "late")
    })
    .await
    .unwrap();
    let world = World::around(&upstream, Setup::open(&name)).await;
    let mut seen = seen;
    tokio::select! {
        biased;
        _ = seen.wait_for(|entered| *entered) => {}
        sent = world.send("GET", "/", egress::Message::default()) => drop(sent),
    }
    let settled = world.settled().await;
    assert_eq!(settled.len(), 1);
    assert_eq!(settled[0].verdict, Verdict::Abandoned);
}

#[tokio::test]
async fn a_refusal_names_its_rule_its_reason_and_what_would_widen_it() {
    let name = host();
    let names =
        crate::name_server::NameServer::start(vec![crate::name_server::Zone::of(&["10.1.2.3"])]).await;
    let config = egress::Config { name_servers: vec![names.addr], ..egress::Config::default() };
    let world = World::new(Setup::open(&name), config).await;
    let Err(egress::SendError::Refused(refusal)) = world.send("GET", "/", egress::Message::default()).await
    else {
        panic!("not refused");
    };
    assert_eq!(refusal.for_sandbox(), "refused (egress.address): the host does not lead to a public address");
    assert!(refusal.to_string().contains("[[egress.exception]]"));
    let settled = world.settled().await;
    assert_eq!(settled[0].field(Field::Refusal), Some(refusal.id.to_string().as_str()));
    assert!(settled[0].field(Field::Widen).unwrap().contains("ironclaw config explain egress.exception"));
    assert_eq!(settled[0].field(Field::Sent), Some("0"));
}
