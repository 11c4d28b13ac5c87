//! A03: a command that takes all it can ends with the reason, and the machine does not notice.

use std::time::Duration;

use container::{Ended, rules};
use types::limits::Bytes;

use crate::world::World;

#[tokio::test]
async fn a03_a_fork_bomb_meets_the_limit_on_processes() {
    let mut world = World::new().await;
    world.config.limits.pids = 64;
    let script = "i=0; while [ $i -lt 500 ]; do sleep 60 & i=$((i+1)); done 2>/dev/null; echo never";
    let ran = world.read_only(script).await;
    assert_ne!(ran.ended, Ended::Exited(0), "{ran:?}");
    assert!(!ran.out.contains("never"), "{ran:?}");
}

#[tokio::test]
async fn a03_a_memory_bomb_ends_for_want_of_memory() {
    let mut world = World::new().await;
    world.config.limits.memory = Bytes::mib(64);
    let ran = world.python("x = []\nwhile True: x.append(bytearray(1 << 20))").await;
    assert_eq!(ran.ended, Ended::Stopped(&rules::MEMORY), "{ran:?}");
    // Temporary folders are memory too.
    let ran = world.read_only("exec dd if=/dev/zero of=/tmp/x bs=1M count=256 2>/dev/null").await;
    assert_ne!(ran.ended, Ended::Exited(0), "{ran:?}");
}

#[tokio::test]
async fn a03_the_temporary_folders_are_bounded() {
    let mut world = World::new().await;
    world.config.limits.temporary = Bytes::mib(4);
    for folder in ["/tmp", "/var/tmp", "/run", "$HOME"] {
        let ran = world
            .read_only(&format!("dd if=/dev/zero of={folder}/x bs=1M count=16 2>&1; stat -c %s {folder}/x"))
            .await;
        assert!(ran.out.contains("No space left"), "{ran:?}");
        assert_eq!(ran.out.lines().last(), Some("4194304"), "{ran:?}");
    }
}

#[tokio::test]
async fn a03_a_flood_of_output_ends_the_run() {
    let mut world = World::new().await;
    world.config.limits.output = Bytes::mib(1);
    let ran = world.read_only("yes").await;
    assert_eq!(ran.ended, Ended::Stopped(&rules::OUTPUT));
    assert!(ran.out.len() <= 1 << 20);
}

#[tokio::test]
async fn a03_open_files_are_bounded() {
    let mut world = World::new().await;
    world.config.limits.files = 64;
    let script = "import os\ntry:\n    while True: os.open('/dev/null', 0)\nexcept OSError as error: print(error.errno)";
    assert_eq!(world.python(script).await.ok(), "24\n");
}

#[tokio::test]
async fn a03_the_clock_ends_what_does_not_end() {
    let mut world = World::new().await;
    world.config.limits.time = Duration::from_millis(800);
    let ran = world.read_only("trap '' TERM INT HUP; while :; do :; done").await;
    assert_eq!(ran.ended, Ended::Stopped(&rules::TIME));
}
