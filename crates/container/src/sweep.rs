//! What a process of this program that died leaves: with the engine a container that has ended, as everything in it did when
//! the lifeline broke, and that nobody removed; in the workspace whatever the command planted there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};
use policy::Settlement;
use types::{CallId, Field, Refusal, Verdict};
use workspace::{SafeFolder, Surroundings, UnsafeFolder};

use crate::container::{RunError, failed};
use crate::ground::{SETTLE_TIME, refusal, waiting};
use crate::note::{Content, Found, Note};
use crate::quarantine::Quarantine;
use crate::rules;
use crate::settle::fields_of_names;
use crate::spec::LABEL;

/// How often, and after which time, to ask again for what the engine is already removing.
const ASKED: u32 = 100;
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What the engine answers when there is no such container, and when it is being removed already.
const GONE: u16 = 404;
const BEING_REMOVED: u16 = 409;

/// What an earlier command left in a workspace when nobody saw its end, put away since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The workspace.
    pub workspace: PathBuf,
    /// What was moved out of the way in it.
    pub quarantine: Quarantine,
}

/// Removes a container and everything that still runs in it. Once this returns it is gone.
pub(crate) async fn remove(docker: &Docker, container: &str) -> Result<(), RunError> {
    for _ in 0..ASKED {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        match docker.remove_container(container, Some(options)).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: GONE, .. }) => return Ok(()),
            Err(Error::DockerResponseServerError { status_code: BEING_REMOVED, .. }) => {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Err(_) => break,
        }
    }
    Err(RunError::Failed("Docker Engine does not remove the container".to_owned()))
}

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
            let _ = remove(&docker, &id).await;
        }
    }
}

/// Puts away what commands left whose end nobody saw, each with its record, before a command may work in `workspace`. What
/// cannot be put away refuses the command where the folders overlap, and waits otherwise.
pub(crate) async fn recover(
    docker: &Docker,
    notes: &Path,
    workspace: &Path,
    around: &Surroundings,
    settlement: &Settlement,
) -> Result<Vec<Recovered>, RunError> {
    let all = Note::all(notes).map_err(failed("the notes of earlier commands cannot be read"))?;
    let mut recovered = Vec::new();
    for found in all {
        match found {
            Found::Alive(content) if content.workspace == workspace => {
                return Err(refusal(UnsafeFolder::Busy).into());
            }
            Found::Alive(_) => {}
            Found::Unreadable(path) => {
                let widen =
                    format!("look through the workspace of that command, then: rm '{}'", path.display());
                let why = "the note of an earlier command cannot be read, so what it left cannot be put away";
                return Err(Refusal::new(&rules::LEFTOVER, why).widened_by(widen).into());
            }
            Found::Left(note, content) => {
                let overlaps =
                    content.workspace.starts_with(workspace) || workspace.starts_with(&content.workspace);
                match put_away(docker, around, note, content, overlaps, settlement).await {
                    Ok(left) => recovered.extend(left),
                    Err(error) if overlaps => return Err(error),
                    Err(_) => {}
                }
            }
        }
    }
    Ok(recovered)
}

/// Puts away what one command left. None where there was nothing.
async fn put_away(
    docker: &Docker,
    around: &Surroundings,
    note: Note,
    content: Content,
    overlaps: bool,
    settlement: &Settlement,
) -> Result<Option<Recovered>, RunError> {
    let (of, turn, workspace) = (content.of, content.turn, content.workspace.clone());
    let container = content.container.clone();
    let is_there = std::fs::symlink_metadata(&workspace).is_ok();
    if !is_there && !overlaps {
        // It may be on a disk that is not mounted now.
        return Ok(None);
    }
    // Only once nothing of the run lives on is the workspace at rest.
    remove(docker, &container).await?;
    let around = around.clone();
    let quarantine = waiting(move || settle(&content, &around)).await?;
    let reason = match &quarantine {
        Some(_) => "nobody saw the end of the command",
        None if overlaps => "nobody saw the end of the command, and its workspace is gone",
        None => return Ok(None),
    };
    let mut fields = vec![(Field::Reason, reason.to_owned())];
    fields.extend(quarantine.iter().flat_map(fields_of_names));
    settlement.settle_earlier(of, turn, Verdict::Abandoned, fields).await?;
    note.erase().map_err(failed("the note of an earlier command cannot be removed"))?;
    Ok(quarantine
        .filter(|quarantine| !quarantine.moved.is_empty())
        .map(|quarantine| Recovered { workspace, quarantine }))
}

/// Compares a workspace with its survey, and moves what is new under a name that the command could not know. None where
/// the workspace itself is gone, or another folder is in its place.
fn settle(content: &Content, around: &Surroundings) -> Result<Option<Quarantine>, RunError> {
    if std::fs::symlink_metadata(&content.workspace).is_err() {
        return Ok(None);
    }
    let left = |fault: UnsafeFolder| {
        let why = format!("what an earlier command left in {} waits: {fault}", content.workspace.display());
        Refusal::new(&rules::LEFTOVER, why).widened_by("look through that folder, and try again")
    };
    let folder = SafeFolder::reclaim(&content.workspace, around).map_err(left)?;
    let fingerprint = folder.fingerprint().map_err(failed("the workspace cannot be read"))?;
    if fingerprint != content.fingerprint || folder.path() != content.workspace {
        return Ok(None);
    }
    let name = quarantine_name();
    let moved = content.survey.settle(&folder, &name, SETTLE_TIME);
    let moved = moved.map_err(failed("what an earlier command left in the workspace cannot be put away"))?;
    Ok(Some(Quarantine { folder: name, moved }))
}

/// A folder for what a run leaves, under a name that nothing inside of it can know.
pub(crate) fn quarantine_name() -> String {
    let id = CallId::new().to_string();
    format!("ironclaw-quarantine-{}", &id[id.len() - 12..])
}
