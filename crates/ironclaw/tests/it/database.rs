//! `ironclaw db`, and an installation whose database is a server.

use testkit::{Database, Postgres};

use crate::installation::Installation;

/// The configuration that names a server.
fn on(database: &Database) -> String {
    format!("[store]\nurl = \"{}\"\n", database.runtime())
}

#[test]
fn an_installation_moves_to_a_server_whole_and_goes_on_there() {
    let installation = Installation::initialised();
    installation.run_with(&["secret", "set", "API_KEY"], "a-value-of-some-length").ok();
    let before = installation.run(&["audit", "verify", "--json"]).ok().json()[0].clone();
    let status = installation.run(&["db", "status", "--json"]).ok().json()[0].clone();
    assert_eq!((status["kind"].as_str(), status["rows"]["secret"].as_u64()), (Some("file"), Some(1)));

    let database = Postgres::shared();
    installation.configure(&on(&database));
    // Nobody has made the tables: every command says who does, and with what.
    for command in [&["secret", "list"][..], &["db", "status"], &["db", "move"]] {
        let refused = installation.run(command);
        assert_eq!(refused.code, 6, "{refused:#?}");
        assert!(refused.stderr.contains("ironclaw db migrate --as URL"), "{refused:#?}");
    }
    assert_eq!(installation.run(&["db", "migrate"]).code, 2);
    installation.run(&["db", "migrate", "--as", &database.owner()]).ok();
    let again = installation.run(&["db", "migrate", "--as", &database.owner(), "--json"]).ok();
    assert_eq!(again.json()[0]["steps"], 0);

    let doctor = installation.run(&["doctor"]);
    assert!(doctor.stdout.contains("ironclaw db move"), "{doctor:#?}");
    let moved = installation.run(&["db", "move", "--json"]).ok().json()[0].clone();
    assert_eq!((&moved["moved"], &moved["rows"]["secret"]), (&true.into(), &1.into()));
    assert_eq!((&moved["records"], &moved["head"]), (&before["records"], &before["head"]));
    assert!(!installation.home().join("data/ironclaw.db").exists());
    assert!(installation.home().join("data/ironclaw.db.moved").exists());
    assert!(!installation.home().join("data/ironclaw.db-wal").exists());
    let repeated = installation.run(&["db", "move", "--json"]).ok().json()[0].clone();
    assert_eq!((&repeated["moved"], &repeated["head"]), (&false.into(), &before["head"]));

    // The vault opens with the key it had, the chain is continued, and nothing is in a file.
    assert!(installation.run(&["secret", "list"]).ok().stdout.contains("API_KEY"));
    installation.run_with(&["secret", "set", "SECOND"], "another-value-of-some-length").ok();
    let after = installation.run(&["audit", "verify", "--json"]).ok().json()[0].clone();
    assert!(after["records"].as_u64() > before["records"].as_u64());
    let doctor = installation.run(&["doctor"]);
    assert!(doctor.stdout.contains("row-level security is forced"), "{doctor:#?}");
    assert!(!installation.home().join("data/ironclaw.db").exists());
}

#[test]
fn a_server_that_is_not_fit_is_named_with_what_would_make_it_so() {
    let installation = Installation::new();
    let database = Postgres::shared();
    installation.configure(&on(&database));
    installation.run(&["db", "migrate", "--as", &database.owner()]).ok();
    for (role, words) in [("ironclaw_owner", "owns the tables"), ("postgres", "is a superuser")] {
        installation.configure(&format!("[store]\nurl = \"{}\"\n", database.url(role)));
        let refused = installation.run(&["secret", "list"]);
        assert_eq!(refused.code, 6, "{refused:#?}");
        assert!(refused.stderr.contains(words), "{refused:#?}");
    }
    database.admin(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name));
    installation.configure(&on(&database));
    let refused = installation.run(&["secret", "list"]);
    assert!(refused.stderr.contains("set synchronous_commit = on"), "{refused:#?}");
    assert_eq!(refused.code, 6);
}

#[test]
fn a_password_stands_in_a_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt as _;
    let installation = Installation::new();
    let database = Postgres::shared();
    let url = database.runtime();
    installation.configure(&on(&database).replace("ironclaw_runtime@", "ironclaw_runtime:hunter2@"));
    let refused = installation.run(&["db", "status"]);
    assert_eq!(refused.code, 2, "{refused:#?}");
    assert!(refused.stderr.contains("a password does not stand in the URL"), "{refused:#?}");
    assert!(!refused.stderr.contains("hunter2"));

    installation.configure(&format!("[store]\nurl = \"{url}\"\npassword_file = \"word\"\n"));
    let file = installation.home().join("config/word");
    assert_eq!(installation.run(&["db", "status"]).code, 2);
    std::fs::write(&file, "word\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = installation.run(&["db", "status"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("chmod 600"), "{refused:#?}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    installation.run(&["db", "migrate", "--as", &database.owner()]).ok();
    installation.run(&["db", "status"]).ok();
}

#[test]
fn l02_l04_a_log_is_compared_with_what_was_kept_elsewhere() {
    let installation = Installation::initialised();
    let kept = installation.run(&["audit", "checkpoint", "--json"]).ok().json()[0].clone();
    let (note, key) = (kept["checkpoint"].as_str().unwrap(), kept["key"].as_str().unwrap());
    let file = installation.folder.path().join("kept.checkpoint");
    std::fs::write(&file, note).unwrap();
    let against = ["audit", "verify", "--json", "--against", file.to_str().unwrap(), "--key", key];
    installation.run(&against).ok();
    installation.run_with(&["secret", "set", "API_KEY"], "a-value-of-some-length").ok();
    let grown = installation.run(&against).ok().json()[0].clone();
    assert!(grown["records"].as_u64() > kept["records"].as_u64());
    assert!(grown["sealed"].as_u64() > Some(0));

    // Another installation's log in its place.
    let other = Installation::initialised();
    let against: Vec<&str> = against.to_vec();
    let found = other.run(&against);
    assert_eq!(found.code, 1, "{found:#?}");
    assert_eq!(found.json()[0]["ok"], false);
    let events = other.run(&["audit", "export", "--format", "ocsf"]).ok().json();
    assert!(events.len() > 1);
    for (place, event) in events.iter().enumerate() {
        assert_eq!(event["class_uid"], 6003);
        assert_eq!(event["metadata"]["sequence"], place as u64 + 1);
    }
    assert_eq!(other.run(&["audit", "export", "--after", "1"]).ok().json().len(), events.len() - 1);
}
