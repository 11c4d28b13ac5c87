//! M07, C01: nothing that an image says of itself takes effect, and nothing secret is inside.

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody, HealthConfig};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, RemoveContainerOptions, RemoveImageOptions,
};
use container::{Config, Downgrade, Engine, Image, Unfit};
use types::Confinement;

use crate::world::{World, unique};

#[tokio::test]
async fn m07_what_an_image_says_of_itself_has_no_effect() {
    let world = World::new().await;
    let docker = Docker::connect_with_unix_defaults().unwrap().negotiate_version().await.unwrap();
    let base = ContainerCreateBody {
        image: Some(world.image.id.clone()),
        cmd: Some(vec!["true".into()]),
        ..Default::default()
    };
    let made = docker.create_container(None::<CreateContainerOptions>, base).await.unwrap();
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let hostile = ContainerConfig {
        entrypoint: words(&["/bin/echo", "ENTRYPOINT"]),
        cmd: words(&["CMD"]),
        user: Some("root".into()),
        env: words(&["LD_PRELOAD=/evil.so", "PATH=/evil", "EVIL=1", "http_proxy=http://evil"]),
        volumes: words(&["/data", "/var/lib/evil"]),
        working_dir: Some("/etc".into()),
        healthcheck: Some(HealthConfig {
            test: words(&["CMD-SHELL", "touch /tmp/HEALTHCHECK"]),
            interval: Some(1_000_000_000),
            ..Default::default()
        }),
        on_build: words(&["RUN evil"]),
        stop_signal: Some("SIGWINCH".into()),
        ..Default::default()
    };
    let options = CommitContainerOptions { container: Some(made.id.clone()), ..Default::default() };
    let committed = docker.commit_container(options, hostile).await.unwrap();
    let remove = RemoveContainerOptions { force: true, ..Default::default() };
    docker.remove_container(&made.id, Some(remove)).await.unwrap();

    let image = Image::pinned(&world.engine, &committed.id).await.unwrap();
    let sandbox = world.sandbox_on(image);
    let script = "env | sort; pwd; id -u; ls /tmp; dd if=/dev/zero of=/data/x bs=1M count=1024 2>/dev/null; \
        stat -f -c %T /data /var/lib/evil; stat -c %s /data/x";
    let ran = world.run_in(&sandbox, &["sh", "-c", script], Confinement::ReadOnly).await;
    docker.remove_image(&committed.id, None::<RemoveImageOptions>, None).await.unwrap();
    let out = ran.unwrap().ok();
    for word in ["evil", "EVIL", "ENTRYPOINT", "CMD", "HEALTHCHECK", "LD_PRELOAD"] {
        assert!(!out.contains(word), "{word} in {out}");
    }
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.contains(&"/workspace") && !lines.contains(&"0"), "{out}");
    // The declared volumes are memory with a bound, not folders of the host.
    assert_eq!(lines.iter().filter(|line| **line == "tmpfs").count(), 2, "{out}");
    assert_eq!(lines.last(), Some(&"536870912"), "{out}");
}

#[tokio::test]
async fn m07_an_image_is_named_by_its_digest_and_never_pulled() {
    let world = World::new().await;
    for name in ["debian", "debian:bookworm", "", "sha256:", "debian@sha256:xyz"] {
        assert_eq!(
            Image::pinned(&world.engine, name).await,
            Err(Unfit::ImageNotPinned(name.to_owned())),
            "{name}"
        );
    }
    let absent = format!("debian@sha256:{}", "0".repeat(64));
    assert_eq!(Image::pinned(&world.engine, &absent).await, Err(Unfit::ImageGone(absent.clone())));
    assert_eq!(Image::pinned(&world.engine, &world.image.id).await.as_ref(), Ok(&world.image));
}

#[tokio::test]
async fn c01_nothing_of_the_caller_is_in_the_environment_or_in_what_the_engine_tells() {
    let world = World::new().await;
    // What the test runner has in its own environment stands for the person's.
    let path = std::env::vars_os().find(|(name, _)| name == "CARGO_MANIFEST_DIR");
    let own = path.map_or_else(
        || env!("CARGO_MANIFEST_DIR").to_owned(),
        |(_, value)| value.to_string_lossy().into_owned(),
    );
    let mark = unique("mark-");
    let (outlet, _connections) = tokio::sync::mpsc::channel(1);
    let script = format!("env; cat /proc/[0-9]*/environ 2>/dev/null; : {mark}; echo; exec sleep 60");
    let running = world.start(&["sh", "-c", &script], Confinement::ReadOnly, outlet).await.unwrap();
    let container::Running { mut stdout, control, outcome, .. } = running;
    let mut seen = String::new();
    while !seen.ends_with("\n\n") {
        let piece = futures_util::StreamExt::next(&mut stdout).await.unwrap().unwrap();
        seen.push_str(&String::from_utf8_lossy(&piece));
        // The last bytes are held back until more follows.
        if seen.contains("http_proxy") && seen.len() > 400 {
            break;
        }
    }
    let docker = Docker::connect_with_unix_defaults().unwrap().negotiate_version().await.unwrap();
    let containers =
        docker.list_containers(None::<bollard::query_parameters::ListContainersOptions>).await.unwrap();
    let mut told = String::new();
    for container in containers {
        let found = docker
            .inspect_container(
                &container.id.unwrap(),
                None::<bollard::query_parameters::InspectContainerOptions>,
            )
            .await;
        if let Ok(found) = found {
            let found = serde_json::to_string(&found).unwrap();
            if found.contains(&mark) {
                told = found;
            }
        }
    }
    control.stop(&container::rules::TIME);
    outcome.wait().await.unwrap();
    assert!(told.contains("\"NetworkMode\":\"none\""), "{told}");
    assert!(!seen.contains(&own) && !seen.contains("CARGO"), "{seen}");
    assert!(!told.contains("CARGO"), "{told}");
}

#[tokio::test]
async fn r15_debians_runtime_is_refused_until_the_configuration_accepts_it() {
    let world = World::new().await;
    let strict = Config { downgrades: [].into(), ..world.config.clone() };
    let standing = world.engine.standing();
    match Engine::connect(&strict).await {
        Ok(engine) => assert!(engine.standing().accepted.is_empty()),
        Err(Unfit::UnverifiableRuntime(version)) => {
            assert_eq!(Some(version), standing.runtime_version);
            assert_eq!(standing.accepted[0].0, Downgrade::UnverifiableRuntime);
        }
        Err(other) => panic!("{other}"),
    }
}
