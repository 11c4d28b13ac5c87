//! Names, addresses and what they lead to (attacks S01 to S12, X04).

use std::time::Duration;

use egress::error::{ConnectFault, DnsFault};
use egress::loopback::{Loopback, reply};
use egress::{Config, Exception, Failure, Message, SendError};
use http::StatusCode;
use types::{Field, Host, Port, Verdict};

use crate::name_server::{NameServer, Zone};
use crate::world::{Setup, World, host};

/// An IPv6 address in unallocated global space: public by class, and nobody's.
const NOBODY: &str = "2d00::1";

async fn world_with_names(zones: Vec<Zone>, port: u16) -> (World, NameServer) {
    let server = NameServer::start(zones).await;
    let config =
        Config { name_servers: vec![server.addr], connect: Duration::from_millis(200), ..Config::default() };
    let world = World::new(Setup { port, ..Setup::open(&host()) }, config).await;
    (world, server)
}

#[tokio::test]
async fn s01_s04_s05_s06_s07_names_that_lead_inside_are_refused() {
    let upstream = Loopback::http(|_| reply(StatusCode::OK, "inside")).await.unwrap();
    for addr in [
        "127.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "198.18.0.1",
        "224.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "fe80::1",
        "fd00:ec2::254",
        "fec0::1",
    ] {
        let (world, _names) = world_with_names(vec![Zone::of(&[addr])], upstream.addr().port()).await;
        assert_eq!(world.refused("GET", "/", Message::default()).await, "egress.address", "{addr}");
        assert_eq!(world.outcome().await, (Verdict::Block, Some("egress.address".to_owned())), "{addr}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn s02_one_private_address_spoils_the_whole_answer() {
    let upstream = Loopback::http(|_| reply(StatusCode::OK, "inside")).await.unwrap();
    for addrs in
        [&["93.184.216.34", "127.0.0.1"][..], &["127.0.0.1", "93.184.216.34"], &["93.184.216.34", "::1"]]
    {
        let (world, _names) = world_with_names(vec![Zone::of(addrs)], upstream.addr().port()).await;
        assert_eq!(world.refused("GET", "/", Message::default()).await, "egress.address");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn s03_what_was_checked_is_what_is_dialled() {
    let upstream = Loopback::http(|_| reply(StatusCode::OK, "inside")).await.unwrap();
    let zones = vec![Zone::of(&[NOBODY]), Zone::of(&["127.0.0.1"])];
    let (world, names) = world_with_names(zones, upstream.addr().port()).await;
    let first = world.get("/").await.unwrap_err();
    assert!(
        matches!(
            first,
            SendError::Failed(Failure::Connect(ConnectFault::Unreachable | ConnectFault::TimedOut))
        ),
        "{first:?}"
    );
    assert_eq!(names.queries(), 1, "one resolution for one request");
    assert_eq!(world.refused("GET", "/", Message::default()).await, "egress.address");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn s09_an_alias_is_judged_by_where_it_ends() {
    let zone = Zone { alias: Some("metadata.google.internal."), ..Zone::of(&["169.254.169.254"]) };
    let (world, _names) = world_with_names(vec![zone], 443).await;
    assert_eq!(world.refused("GET", "/", Message::default()).await, "egress.address");
    let settled = world.settled().await;
    assert!(settled[0].field(Field::Reason).unwrap().contains("169.254.169.254 (metadata)"));
    assert_eq!(settled[0].field(Field::Widen), None, "metadata is beyond exception");
}

#[tokio::test]
async fn s12_an_exception_is_for_one_host_and_one_port() {
    let name = host();
    let upstream =
        Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "hello")).await.unwrap();
    let world = World::around(&upstream, Setup::open(&name)).await;
    assert_eq!(world.get("/").await.unwrap().bytes, b"hello");

    let names = NameServer::start(vec![Zone::of(&["127.0.0.1"])]).await;
    let elsewhere =
        Exception { port: Port::new(8443).unwrap(), ..upstream.exception(&name, Port::new(1).unwrap()) };
    let config = Config { name_servers: vec![names.addr], exceptions: vec![elsewhere], ..Config::default() };
    let world = World::new(Setup::open(&name), config).await;
    assert_eq!(world.refused("GET", "/", Message::default()).await, "egress.address");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn x04_what_is_not_listed_is_never_resolved() {
    let (world, names) = world_with_names(vec![Zone::of(&["127.0.0.1"])], 443).await;
    let refusal = world.decide("GET", "https://evil-hacker.example/").await.unwrap_err();
    assert_eq!(refusal.rule.id, "policy.host-not-listed");
    assert_eq!(names.queries(), 0);
}

#[tokio::test]
async fn names_without_addresses_are_failures_in_fixed_words() {
    for (zone, fault) in [
        (Zone { missing: true, ..Zone::default() }, DnsFault::NoSuchName),
        (Zone::default(), DnsFault::NoAddress),
    ] {
        let (world, _names) = world_with_names(vec![zone], 443).await;
        match world.get("/").await.unwrap_err() {
            SendError::Failed(failure) => assert_eq!(failure, Failure::Dns(fault)),
            other => panic!("{other:?}"),
        }
        assert_eq!(world.outcome().await, (Verdict::Failed, None));
    }
}
