//! Whoever starts a command leaves before it is started: a turn of the agent that is cancelled.
//!
//! The sandbox reaches the real engine through a socket of the test's, which holds a request back until the start of the
//! command was dropped.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bollard::Docker;
use bollard::query_parameters::ListContainersOptions;
use container::{Config, Engine, Inside, Sandbox};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};
use types::{Confinement, Field, Verdict};
use workspace::Surroundings;

use crate::world::World;

/// A moment of a start, by what the engine is asked for then.
struct Held {
    moment: &'static str,
    came: Notify,
    goes_on: Notify,
}

/// Carries everything to the engine and back, and the request of the moment once it may go on.
fn relay(at: &Path, held: &Arc<Held>) {
    let (listener, held) = (UnixListener::bind(at).unwrap(), held.clone());
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let engine = dial().await;
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_engine, mut to_engine) = engine.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_engine, &mut to_client).await });
            let held = held.clone();
            tokio::spawn(async move {
                let mut piece = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = from_client.read(&mut piece).await {
                    if String::from_utf8_lossy(&piece[..length]).contains(held.moment) {
                        held.came.notify_one();
                        held.goes_on.notified().await;
                    }
                    if to_engine.write_all(&piece[..length]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
}

#[allow(clippy::disallowed_methods, reason = "the test stands between the sandbox and the engine")]
async fn dial() -> UnixStream {
    UnixStream::connect(container::config::DEFAULT_SOCKET).await.unwrap()
}

async fn containers(installation: &str) -> usize {
    let docker = Docker::connect_with_unix_defaults().unwrap().negotiate_version().await.unwrap();
    let label = format!("org.ironclaw.installation={installation}");
    let filters = Some(HashMap::from([("label".to_owned(), vec![label])]));
    let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
    docker.list_containers(Some(options)).await.unwrap().len()
}

#[tokio::test]
async fn r14_a_start_that_is_dropped_leaves_neither_a_run_nor_anything_of_it() {
    for moment in ["/containers/create", "/attach"] {
        let world = World::new().await;
        let held = Arc::new(Held { moment, came: Notify::new(), goes_on: Notify::new() });
        let sockets = tempfile::tempdir().unwrap();
        let socket = sockets.path().join("engine");
        relay(&socket, &held);
        let config = Config { engine: socket, ..world.config.clone() };
        let engine = Engine::connect(&config).await.unwrap();
        let around = Surroundings { home: None, own: vec![config.folder.clone()] };
        let sandbox = Sandbox::new(engine, world.image.clone(), config.clone(), around, world.safety.clone());
        let permit = world.permit(&["touch", "ran"], Confinement::WorkspaceWrite).await.unwrap();
        let of = permit.seq().get().to_string();
        let (outlet, _connections) = mpsc::channel(1);
        let start = sandbox.start_toward(permit, Inside::default(), outlet);
        tokio::select! {
            _ = start => panic!("{moment} did not come"),
            () = held.came.notified() => {}
        }
        held.goes_on.notify_one();
        let (log, workspace, home) = world.ended().await;
        let settled = log.iter().find(|entry| entry.record.field(Field::Of) == Some(&of)).unwrap();
        assert_eq!(settled.record.verdict, Verdict::Abandoned, "{moment}");
        assert!(!workspace.path().join("ran").exists(), "{moment}");
        let folder = home.path().join("sandbox");
        let name = std::fs::read_to_string(folder.join("installation")).unwrap();
        assert_eq!(containers(name.trim()).await, 0, "{moment}");
        let left = std::fs::read_dir(folder).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = left.filter(|name| name != "installation" && !name.starts_with("init-")).collect();
        assert!(left.is_empty(), "{moment}: {left:?}");
    }
}

#[tokio::test]
async fn r14_a_start_that_is_dropped_at_once_leaves_nothing() {
    let world = World::new().await;
    let permit = world.permit(&["touch", "ran"], Confinement::WorkspaceWrite).await.unwrap();
    let sandbox = world.sandbox();
    let (outlet, _connections) = mpsc::channel(1);
    let mut start = Box::pin(sandbox.start_toward(permit, Inside::default(), outlet));
    assert!(futures_util::poll!(&mut start).is_pending());
    drop(start);
    let (log, workspace, home) = world.ended().await;
    assert!(log.iter().any(|entry| entry.record.verdict == Verdict::Abandoned));
    assert!(!workspace.path().join("ran").exists());
    let left = std::fs::read_dir(home.path().join("sandbox")).unwrap();
    let is_left = |name: String| name.ends_with(".run") || name.ends_with(".pem");
    assert!(!left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).any(is_left));
}
