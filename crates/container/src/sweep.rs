//! What a process of this program that died leaves with the engine: a container that has ended, as everything in it
//! did when the lifeline broke, and that nobody removed.

use std::collections::HashMap;
use std::path::Path;

use bollard::Docker;
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};

use crate::spec::LABEL;

/// Removes containers that do not run and whose process is gone. What fails is tried again at the next run.
pub(crate) async fn sweep(docker: Docker) {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let filters = HashMap::from([
        ("label".to_owned(), words(&[LABEL])),
        ("status".to_owned(), words(&["created", "exited", "dead"])),
    ]);
    let options =
        ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
    let Ok(found) = docker.list_containers(Some(options)).await else { return };
    for container in found {
        let owner = container.labels.as_ref().and_then(|labels| labels.get(LABEL));
        let gone = owner.is_some_and(|process| !Path::new("/proc").join(process).exists());
        if let (true, Some(id)) = (gone, container.id) {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            let _ = docker.remove_container(&id, Some(options)).await;
        }
    }
}
