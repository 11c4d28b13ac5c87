//! Images of any name: taken from the engine, or pulled from a real registry with a permit.

use std::net::TcpListener;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::engine::ask;
use crate::exec::{DEBIAN, exec};
use crate::installation::{Installation, random};
use crate::registry::{Registry, foreign_image, small_image};

fn allowing(registries: &[&str]) -> Installation {
    let installation = Installation::initialised();
    installation.configure(&format!("{DEBIAN}registries = {registries:?}\n"));
    installation
}

fn from<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["sandbox", "build-image", "--from", name], more].concat()
}

fn records(installation: &Installation) -> Vec<Value> {
    installation.run(&["audit", "tail", "-n", "100", "--json"]).ok().json()
}

#[test]
fn m07_an_image_is_pulled_where_the_owner_says_and_used_by_the_digest_that_came() {
    let registry = Registry::open();
    let says = [
        "ENTRYPOINT [\"/bin/busybox\", \"echo\", \"ENTRYPOINT\"]",
        "CMD [\"CMD\"]",
        "USER root",
        "ENV EVIL=1 LD_PRELOAD=/evil.so PATH=/evil",
        "VOLUME /data",
        "WORKDIR /bin",
        "HEALTHCHECK CMD touch /data/HEALTH",
    ];
    let first = small_image(&random("first"), &says);
    let digest = registry.push(&first, "team/tools", "1");
    let name = format!("{}/team/tools:1", registry.at);

    let installation = allowing(&["docker.io"]);
    let before = registry.asked();
    let ran = installation.run(&from(&name, &[]));
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains(&format!("add \"{}\" to [sandbox] registries", registry.at)), "{ran:?}");
    assert_eq!(registry.asked(), before);
    assert!(records(&installation).iter().any(|record| record["fields"]["rule"] == "policy.registry"));

    installation.configure(&format!("{DEBIAN}registries = [\"{}\"]\n", registry.at));
    let pulled = installation.run(&from(&name, &["--json"])).ok().json();
    assert_eq!(pulled[0]["image"], first.as_str());
    assert_eq!(pulled[0]["name"], format!("{name}@{digest}"));
    let kinds: Vec<_> = records(&installation).into_iter().rev().take(3).collect();
    let field = |record: &Value, name: &str| record["fields"][name].as_str().unwrap_or_default().to_owned();
    let (chosen, settled, allowed) = (&kinds[0], &kinds[1], &kinds[2]);
    assert_eq!(
        (&allowed["verdict"], field(allowed, "image")),
        (&Value::from("allow"), name.clone()),
        "{kinds:?}"
    );
    assert_eq!(field(settled, "of"), allowed["seq"].to_string(), "{kinds:?}");
    for record in [settled, chosen] {
        assert_eq!(record["verdict"], "done", "{kinds:?}");
        assert_eq!(
            (field(record, "image"), field(record, "digest")),
            (format!("{name}@{digest}"), first.clone())
        );
    }

    // Nothing that it says of itself takes effect.
    let ran = exec(&installation, &[], "env | sort; id -u; pwd; ls /data; cat /mark").ok();
    for word in ["EVIL", "evil", "ENTRYPOINT", "CMD", "HEALTH", "\n0\n"] {
        assert!(!ran.stdout.contains(word), "{word}: {ran:?}");
    }
    assert!(ran.stdout.contains("\n/workspace\nfirst"), "{ran:?}");

    // What the engine has is not asked for again, and what a tag means by now only where the owner says so.
    let second = small_image(&random("second"), &[]);
    let newer = registry.push(&second, "team/tools", "1");
    // It took the name from the first one in the engine.
    let (place, _) = name.rsplit_once(':').unwrap();
    ask("POST", &format!("/images/{first}/tag"), &[("repo", place), ("tag", "1")], &[]).ok();
    let before = registry.asked();
    assert_eq!(installation.run(&from(&name, &["--json"])).ok().json()[0]["image"], first.as_str());
    let by_digest = format!("{}/team/tools@{digest}", registry.at);
    assert_eq!(installation.run(&from(&by_digest, &["--json"])).ok().json()[0]["image"], first.as_str());
    assert_eq!(registry.asked(), before);
    let again = installation.run(&from(&name, &["--again", "--json"])).ok().json();
    assert_eq!(
        (&again[0]["image"], &again[0]["name"]),
        (&Value::from(second.as_str()), &Value::from(format!("{name}@{newer}")))
    );
    assert!(registry.asked() > before);
    assert!(exec(&installation, &[], "cat /mark").ok().stdout.starts_with("second"));
    // By its digest the first one is the first one, whatever the tag means.
    let old = installation.run(&from(&by_digest, &["--again", "--json"])).ok().json();
    assert_eq!(old[0]["image"], first.as_str());
    installation.run(&["audit", "verify"]).ok();
}

#[test]
fn m07_what_is_not_what_was_asked_for_is_not_taken_and_what_to_do_is_said() {
    let registry = Registry::open();
    let (other, closed) = (foreign_image(&random("a")), Registry::closed());
    registry.push(&other, "other", "1");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let installation = allowing(&[&registry.at, &closed.at, &nobody]);
    for (name, code, says) in [
        (format!("{}/none:1", registry.at), 5, "shows no such image to everybody"),
        (format!("{}/none@sha256:{}", registry.at, "0".repeat(64)), 5, "shows no such image to everybody"),
        (format!("{}/other:1", registry.at), 6, "is not made for linux/"),
        (format!("{}/a:1", closed.at), 6, "docker login"),
        (format!("{nobody}/a:1"), 6, "does not reach"),
        (format!("{}/A", registry.at), 2, "lower-case"),
    ] {
        let ran = installation.run(&from(&name, &[]));
        assert_eq!(ran.code, code, "{name}: {ran:?}");
        assert!(ran.stderr.contains(says), "{name}: {ran:?}");
        assert!(!installation.home().join("data/sandbox/image").exists(), "{name}");
    }
    let failed = records(&installation);
    assert_eq!(failed.iter().filter(|record| record["verdict"] == "failed").count(), 5, "{failed:?}");

    // A registry that sends something else for a digest.
    let (good, evil) = (small_image(&random("good"), &[]), small_image(&random("evil"), &[]));
    let (good, evil) = (registry.push(&good, "kept", "1"), registry.push(&evil, "kept", "2"));
    std::fs::copy(registry.blob(&evil), registry.blob(&good)).unwrap();
    let ran = installation.run(&from(&format!("{}/kept@{good}", registry.at), &[]));
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("container.image-digest"), "{ran:?}");
    assert!(!installation.home().join("data/sandbox/image").exists());
}

#[test]
fn an_image_that_the_engine_has_needs_no_registry() {
    let installation = allowing(&[]);
    let (name, id) = (random("mine-"), small_image(&random("b"), &[]));
    ask("POST", &format!("/images/{id}/tag"), &[("repo", &name), ("tag", "latest")], &[]).ok();
    let taken = installation.run(&from(&name, &["--json"])).ok().json();
    assert_eq!(
        (&taken[0]["image"], &taken[0]["name"]),
        (&Value::from(id.as_str()), &Value::from(format!("docker.io/library/{name}:latest")))
    );
    assert_eq!(installation.run(&from(&id, &["--json"])).ok().json()[0]["image"], id.as_str());
    exec(&installation, &[], "true").ok();
    // In the configuration a name is refused, with the command that pins it.
    installation.configure(&format!("{DEBIAN}image = \"{name}\"\n"));
    let ran = exec(&installation, &[], "true");
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.stderr.contains(&format!("ironclaw sandbox build-image --from {name}")), "{ran:?}");
    ask("DELETE", &format!("/images/{id}"), &[("force", "1")], &[]).ok();
}

#[test]
fn a_pull_that_is_ended_ends_on_the_record() {
    // It takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let installation = allowing(&[&at]);
    let program = installation.start_under(&["env"], &from(&format!("{at}/a:1"), &[]));
    let _asked = silent.accept().unwrap();
    kill_process(Pid::from_child(&program), Signal::INT).unwrap();
    let ended = program.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    let ended = records(&installation);
    assert!(
        ended.iter().any(|record| record["fields"]["reason"]
            .as_str()
            .is_some_and(|why| why.contains("it was ended before its end"))),
        "{ended:?}"
    );
}
