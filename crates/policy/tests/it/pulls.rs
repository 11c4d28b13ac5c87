//! Decisions about images that the engine is to fetch.

use policy::{Permit, Policy, Settings};
use types::{CallId, Field, ImageName, Kind, Pull, Refusal, Registry, Verdict};

use crate::world::{World, turn};

async fn pull(policy: &Policy, name: &str) -> Result<Permit<Pull>, Refusal> {
    let image = ImageName::parse(name).unwrap();
    policy.decide_pull(&turn(), Pull { id: CallId::new(), image }).await
}

fn from(registries: &[&str], policies: &[(&str, &str)]) -> Settings {
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Settings {
        registries: registries.iter().map(|name| Registry::parse(name).unwrap()).collect(),
        policies: policies.iter().map(own).collect(),
        ..Settings::default()
    }
}

#[tokio::test]
async fn m07_an_image_is_pulled_from_a_registry_that_the_owner_named_and_on_the_record() {
    let world = World::new(from(&["docker.io", "registry.example:5000"], &[])).await;
    for (name, registry) in [
        ("ghcr.io/a/b", "ghcr.io"),
        ("registry.example/a", "registry.example"),
        ("registry.example:5001/a", "registry.example:5001"),
        ("docker.io.evil.example/a", "docker.io.evil.example"),
        ("localhost/docker.io", "localhost"),
    ] {
        let refusal = pull(&world.policy, name).await.unwrap_err();
        assert_eq!((refusal.rule.id, refusal.detail.as_str()), ("policy.registry", registry), "{name}");
        assert!(refusal.widen.unwrap().contains(&format!("add \"{registry}\" to [sandbox] registries")));
    }
    let permit = pull(&world.policy, "debian").await.unwrap();
    assert_eq!(permit.effect().image.to_string(), "docker.io/library/debian:latest");
    let seq = permit.seq().get();
    drop(permit);
    drop(
        pull(
            &world.policy,
            "registry.example:5000/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        )
        .await
        .unwrap(),
    );
    let log = world.close().await;
    let decided = log.iter().find(|entry| entry.seq == seq).unwrap();
    assert_eq!((decided.record.kind, decided.record.verdict), (Kind::Image, Verdict::Allow));
    assert_eq!(decided.record.field(Field::Image), Some("docker.io/library/debian:latest"));
    assert_eq!(decided.record.field(Field::Rule), Some("default.pull"));
    assert_eq!(log.iter().filter(|entry| entry.record.verdict == Verdict::Block).count(), 5);
    let of = seq.to_string();
    let abandoned = log.iter().find(|entry| entry.record.field(Field::Of) == Some(&of)).unwrap();
    assert_eq!(abandoned.record.verdict, Verdict::Abandoned);
}

#[tokio::test]
async fn no_registry_is_named_unless_the_owner_names_one_and_no_record_means_no_pull() {
    let world = World::new(Settings::default()).await;
    assert_eq!(pull(&world.policy, "debian").await.unwrap_err().rule.id, "policy.registry");
    let gone = world.policy_whose_log_is_gone().await;
    gone.reload(from(&["docker.io"], &[])).unwrap();
    assert_eq!(pull(&gone, "debian").await.unwrap_err().rule.id, "audit.not-recorded");
}

#[tokio::test]
async fn the_owners_policies_narrow_what_is_pulled() {
    let pinned = "@id(\"pinned\") forbid (principal, action == Action::\"pull\", resource) when { context.digest == \"\" };";
    let one = "@id(\"one\") forbid (principal, action == Action::\"pull\", resource == Registry::\"ghcr.io\") unless { context.repository like \"us/*\" };";
    let world = World::new(from(&["docker.io", "ghcr.io"], &[("pinned", pinned), ("one", one)])).await;
    let digest = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (name, by) in [
        ("debian".to_owned(), Some("pinned")),
        (format!("debian{digest}"), None),
        (format!("ghcr.io/them/a{digest}"), Some("one")),
        (format!("ghcr.io/us/a{digest}"), None),
    ] {
        let refused = pull(&world.policy, &name).await.err().map(|refusal| refusal.detail);
        assert_eq!(refused.as_deref(), by, "{name}");
    }
    // What was permitted before a change is void.
    let permit = pull(&world.policy, &format!("debian{digest}")).await.unwrap();
    world.policy.reload(Settings::default()).unwrap();
    assert_eq!(permit.redeem().err().unwrap().rule.id, "policy.permit-stale");
}
