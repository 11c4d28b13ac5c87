//! What a process of this program that died leaves: with the engine a container that has ended, as everything in it did when
//! the lifeline broke, and that nobody removed; in the workspace whatever the command planted there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};
use policy::{Earlier, Settlement};
use types::{CallId, Field, Refusal, Verdict};
use workspace::{Fingerprint, SafeFolder, Surroundings, Survey, UnsafeFolder};

use crate::container::{RunError, failed};
use crate::ground::{SETTLE_TIME, waiting};
use crate::note::{Content, Found, Note, Notes};
use crate::quarantine::Quarantine;
use crate::rules;
use crate::settle::fields_of_names;
use crate::spec::LABEL;

/// How the engine calls the states of containers in which nothing runs.
pub(crate) const ENDED: [&str; 3] = ["created", "exited", "dead"];

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

/// Removes containers of this installation that do not run and for which nobody answers, and what their processes left
/// beside the notes. What fails is tried again at the next run.
pub(crate) async fn sweep(docker: Docker, notes: Notes, installation: String) {
    let words = |word: &[&str]| word.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let filters = HashMap::from([
        ("label".to_owned(), words(&[&format!("{LABEL}={installation}")])),
        ("status".to_owned(), words(&ENDED)),
    ]);
    let options =
        ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
    let Ok(found) = docker.list_containers(Some(options)).await else { return };
    // Asked for after the containers, each of which had its note before it was made.
    let cleared =
        waiting(move || notes.clear().map_err(failed("the folder for runs cannot be cleared"))).await;
    let Ok(alive) = cleared else { return };
    for container in found {
        let names = container.names.unwrap_or_default();
        let is_alive = names.iter().any(|name| alive.iter().any(|run| name.trim_start_matches('/') == run));
        if let (false, Some(id)) = (is_alive, container.id) {
            let _ = remove(&docker, &id).await;
        }
    }
}

/// Puts away what commands left whose end nobody saw, each with its record, before a command may work in the workspace of
/// `mine`. What cannot be put away refuses the command where the folders overlap, and waits otherwise.
pub(crate) async fn recover(
    docker: &Docker,
    found: Vec<Found>,
    mine: &Content,
    around: &Surroundings,
    settlement: &Settlement,
) -> Result<Vec<Recovered>, RunError> {
    let mut recovered = Vec::new();
    for found in found {
        match found {
            Found::Alive(_) => {}
            Found::Unreadable(path) => {
                let widen =
                    format!("look through the workspace of that command, then: rm '{}'", path.display());
                let why = "the note of an earlier command cannot be read, so what it left cannot be put away";
                return Err(Refusal::new(&rules::LEFTOVER, why).widened_by(widen).into());
            }
            Found::Left(note, content) => {
                let overlaps = content.overlaps(mine);
                match put_away(docker, around, note, content, Some(mine), &settlement.earlier()).await {
                    Ok(left) => recovered.extend(left),
                    Err(error) if overlaps => return Err(error),
                    Err(_) => {}
                }
            }
        }
    }
    Ok(recovered)
}

/// Puts away what one command left. None where there was nothing, or where its workspace is not to be found: it may be on
/// a disk that is not mounted now, or have another name. Then the note waits for somebody who comes to it.
pub(crate) async fn put_away(
    docker: &Docker,
    around: &Surroundings,
    note: Note,
    content: Content,
    mine: Option<&Content>,
    earlier: &Earlier,
) -> Result<Option<Recovered>, RunError> {
    let place = place(&content, mine);
    if place.is_none() && content.survey.is_some() {
        return Ok(None);
    }
    let (of, turn) = (content.of, content.turn);
    // Only once nothing of the run lives on is the workspace at rest.
    remove(docker, &content.container).await?;
    let left = match (place, content.survey) {
        (Some(place), Some(survey)) => {
            let (at, around, fingerprint) = (place.clone(), around.clone(), content.line[0]);
            let quarantine = waiting(move || settle(&at, fingerprint, &survey, &around)).await?;
            Some(Recovered { workspace: place, quarantine })
        }
        _ => None,
    };
    let mut fields = vec![(Field::Reason, "nobody saw the end of the command".to_owned())];
    fields.extend(left.iter().flat_map(|left| fields_of_names(&left.quarantine)));
    earlier.settle(of, turn, Verdict::Abandoned, fields).await?;
    note.erase().map_err(failed("the note of an earlier command cannot be removed"))?;
    Ok(left.filter(|left| !left.quarantine.moved.is_empty()))
}

/// Where the workspace of a command is now: where it was, unless another folder is there, or whichever folder of a new
/// command's path it has become.
fn place(left: &Content, mine: Option<&Content>) -> Option<PathBuf> {
    let was = left.fingerprint()?;
    let there = Fingerprint::line(&left.workspace).ok().and_then(|line| line.first().copied());
    if there == Some(was) {
        return Some(left.workspace.clone());
    }
    let mine = mine?;
    let mut above = mine.workspace.ancestors().zip(&mine.line);
    let found = above.find(|(_, fingerprint)| **fingerprint == was && was.is_whole());
    found.map(|(path, _)| path.to_owned())
}

/// Compares a workspace with its survey, and moves what is new under a name that the command could not know.
fn settle(
    place: &Path,
    fingerprint: Fingerprint,
    survey: &Survey,
    around: &Surroundings,
) -> Result<Quarantine, RunError> {
    let left = |fault: UnsafeFolder| {
        let why = format!("what an earlier command left in {} waits: {fault}", place.display());
        Refusal::new(&rules::LEFTOVER, why).widened_by("look through that folder, and try again")
    };
    let folder = SafeFolder::reclaim(place, around).map_err(left)?;
    let found = folder.fingerprint().map_err(failed("the workspace cannot be read"))?;
    if found != fingerprint || folder.path() != place {
        return Err(left(UnsafeFolder::Changed).into());
    }
    let name = quarantine_name();
    let moved = survey.settle(&folder, &name, SETTLE_TIME);
    let moved = moved.map_err(failed("what an earlier command left in the workspace cannot be put away"))?;
    Ok(Quarantine { folder: name, moved })
}

/// A folder for what a run leaves, under a name that nothing inside of it can know.
pub(crate) fn quarantine_name() -> String {
    let id = CallId::new().to_string();
    format!("{}{}", workspace::QUARANTINE, &id[id.len() - 12..])
}
