//! A run from permit to settlement: streams, signals, exit codes, records.

use container::{Ended, Inside, Running, rules};
use futures_util::StreamExt as _;
use rustix::process::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use types::{Confinement, Field, Kind, Verdict};

use crate::world::World;

#[tokio::test]
async fn exit_codes_and_signals_pass_through() {
    let world = World::new().await;
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(world.read_only(script).await.ended, Ended::Exited(code), "{script}");
    }
    let missing = world.run(&["no-such-program"], Confinement::ReadOnly).await.unwrap();
    assert_eq!(missing.ended, Ended::Exited(127), "{missing:?}");
    assert!(missing.err.contains("no-such-program"));
    let folder = world.run(&["/etc"], Confinement::ReadOnly).await.unwrap();
    assert_eq!(folder.ended, Ended::Exited(126), "{folder:?}");
}

#[tokio::test]
async fn input_is_read_output_streams_and_both_streams_are_told_apart() {
    let world = World::new().await;
    let (outlet, _connections) = mpsc::channel(1);
    let permit = world
        .permit(&["sh", "-c", "read x; echo got $x; echo bad >&2; cat"], Confinement::ReadOnly)
        .await
        .unwrap();
    let running = world.sandbox().start_toward(permit, Inside::default(), outlet).await.unwrap();
    let Running { mut stdout, mut stderr, mut stdin, control: _control, outcome, .. } = running;
    stdin.write_all(b"first\nand the rest of it\n").await.unwrap();
    // A line comes while the command still waits for input, but for its end, which is held back until asked for.
    let line = stdout.next().await.unwrap().unwrap();
    assert!(line.starts_with(b"g"), "{line:?}");
    let mut out = line.to_vec();
    out.extend_from_slice(&stdout.release_lines());
    assert!(out.ends_with(b"\n"), "{out:?}");
    stdin.shutdown().await.unwrap();
    drop(stdin);
    while let Some(piece) = stdout.next().await {
        out.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(out, b"got first\nand the rest of it\n");
    assert_eq!(stderr.next().await.unwrap().unwrap(), "bad\n");
    assert_eq!(outcome.wait().await.unwrap().ended, Ended::Exited(0));
}

#[tokio::test]
async fn a_signal_reaches_the_whole_group_of_the_command() {
    let world = World::new().await;
    let (outlet, _connections) = mpsc::channel(1);
    let script =
        "trap 'echo interrupted; exit 3' INT; echo ready to be interrupted; sleep 600 & wait $!; wait";
    let running = world.start(&["sh", "-c", script], Confinement::ReadOnly, outlet).await.unwrap();
    let Running { mut stdout, control, outcome, .. } = running;
    let mut out = Vec::new();
    // The first piece says that the trap is set; the scanner holds the end of a line back.
    out.extend_from_slice(&stdout.next().await.unwrap().unwrap());
    control.signal(Signal::INT).await;
    while let Some(piece) = stdout.next().await {
        out.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(outcome.wait().await.unwrap().ended, Ended::Exited(3), "{out:?}");
    assert!(String::from_utf8_lossy(&out).contains("interrupted"));
}

#[tokio::test]
async fn every_run_is_recorded_before_it_starts_and_settled_after() {
    let world = World::new().await;
    world.read_only("exit 4").await;
    let records = world.records().await;
    let decided = records.iter().find(|entry| entry.record.kind == Kind::Command).unwrap();
    assert_eq!(decided.record.verdict, Verdict::Allow);
    assert_eq!(decided.record.field(Field::Command), Some("sh -c exit 4"));
    assert_eq!(decided.record.field(Field::Confinement), Some("read-only"));
    let settled = records.iter().find(|entry| entry.record.kind == Kind::Settle).unwrap();
    assert_eq!(settled.record.verdict, Verdict::Done);
    assert_eq!(settled.record.field(Field::Status), Some("4"));
    assert_eq!(settled.record.field(Field::Of), Some(decided.seq.to_string().as_str()));
}

#[tokio::test]
async fn a_permit_that_is_stopped_says_why() {
    let world = World::new().await;
    let (outlet, _connections) = mpsc::channel(1);
    let running = world.start(&["sleep", "600"], Confinement::ReadOnly, outlet).await.unwrap();
    running.control.stop(&rules::LEAK);
    assert_eq!(running.finished().await.unwrap().ended, Ended::Stopped(&rules::LEAK));
}
