//! K14: a data folder or file that others could touch, a symbolic link, another owner.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use store::{Exposure, StoreError};

use crate::fixture::{file_in, private_folder, refused};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// What is wrong, and the repair run as a person would run it.
async fn repaired(path: &Path) -> Exposure {
    let error = refused(path).await;
    let shown = error.to_string();
    let StoreError::Exposed { fault, repair, .. } = error else {
        panic!("refused for another reason: {error}");
    };
    assert!(shown.ends_with(&repair), "{shown}");
    #[allow(clippy::disallowed_methods, reason = "the test follows the advice of the error")]
    let status = std::process::Command::new("sh").args(["-c", &repair]).status().unwrap();
    assert!(status.success(), "{repair}");
    drop(store::open(path).await.unwrap());
    fault
}

#[tokio::test]
async fn k14_what_is_made_is_closed_to_others() {
    let outer = private_folder();
    let folder = outer.path().join("data/ironclaw");
    let _open = store::open(&file_in(&folder)).await.unwrap();
    assert_eq!(mode(&folder), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name());
    }
    names.sort();
    assert_eq!(names, ["ironclaw.db", "ironclaw.db-shm", "ironclaw.db-wal"]);
}

#[tokio::test]
async fn k14_loose_permissions_are_refused_with_the_repair() {
    for loose in [0o750, 0o705, 0o720, 0o777, 0o701] {
        let folder = tempfile::Builder::new().prefix("it's a; $(folder)").tempdir().unwrap();
        set_mode(folder.path(), loose);
        assert_eq!(repaired(&file_in(folder.path())).await, Exposure::Mode, "{loose:o}");
        assert_eq!(mode(folder.path()), 0o700);
    }
    for loose in [0o640, 0o604, 0o622, 0o666] {
        for name in ["ironclaw.db", "ironclaw.db-wal", "ironclaw.db-shm", "ironclaw.db-journal"] {
            let folder = private_folder();
            let (database, file) = (file_in(folder.path()), folder.path().join(name));
            fs::write(&database, b"").unwrap();
            set_mode(&database, 0o600);
            fs::write(&file, b"").unwrap();
            set_mode(&file, loose);
            assert_eq!(repaired(&file_in(folder.path())).await, Exposure::Mode, "{name} {loose:o}");
        }
    }
}

#[tokio::test]
async fn k14_links_are_refused_with_the_repair() {
    let outer = private_folder();
    let real = outer.path().join("real");
    drop(store::open(&file_in(&real)).await.unwrap());
    let link = outer.path().join("link");
    symlink(&real, &link).unwrap();
    assert_eq!(repaired(&file_in(&link)).await, Exposure::Link);

    let elsewhere = outer.path().join("elsewhere.db");
    fs::rename(file_in(&link), &elsewhere).unwrap();
    symlink(&elsewhere, file_in(&link)).unwrap();
    assert_eq!(repaired(&file_in(&link)).await, Exposure::Link);

    // A link to nowhere is not followed to make a file there.
    let nowhere = outer.path().join("nowhere.db");
    fs::remove_file(file_in(&link)).unwrap();
    symlink(&nowhere, file_in(&link)).unwrap();
    assert!(matches!(refused(&file_in(&link)).await, StoreError::Exposed { fault: Exposure::Link, .. }));
    assert!(!nowhere.exists());
}

#[tokio::test]
async fn k14_a_folder_in_the_place_of_the_file_is_refused() {
    let outer = private_folder();
    fs::create_dir(file_in(outer.path())).unwrap();
    assert_eq!(repaired(&file_in(outer.path())).await, Exposure::Kind);
}

#[tokio::test]
async fn k14_another_owner_is_refused() {
    // Only root can make a file that belongs to someone else; others meet one in `/`.
    let folder = private_folder();
    let foreign = match std::os::unix::fs::chown(folder.path(), Some(65_534), None) {
        Ok(()) => folder.path().to_owned(),
        Err(_) => Path::new("/").to_owned(),
    };
    let error = refused(&file_in(&foreign)).await;
    assert!(matches!(error, StoreError::Exposed { fault: Exposure::Owner, .. }), "{error}");
    assert!(error.to_string().contains("sudo chown"));
    assert!(!file_in(&foreign).exists());
}

#[tokio::test]
async fn a_database_that_goes_away_is_noticed_and_one_that_returns_works() {
    let folder = private_folder();
    let path = file_in(folder.path());
    let (reader, mut writer) = store::open(&path).await.unwrap();
    let aside = folder.path().join("aside.db");
    fs::rename(&path, &aside).unwrap();
    assert!(matches!(writer.begin().await.err(), Some(StoreError::Gone { .. })));
    assert!(!path.exists(), "the writer must not make a second database");

    // Another database in its place is not ours either.
    fs::write(&path, b"").unwrap();
    set_mode(&path, 0o600);
    assert!(matches!(writer.begin().await.err(), Some(StoreError::Gone { .. })));

    fs::rename(&aside, &path).unwrap();
    writer.begin().await.unwrap().commit().await.unwrap();
    assert!(reader.slots().await.unwrap().is_empty());
}
