//! What nothing uses any more: containers and files of runs that have ended, base images that were replaced.
//!
//! Ours is what carries our label, and of that only what does not run. Containers of another installation are left to it as
//! long as its folder is there: which folder that is, a container tells by where its first process was mounted from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use audit::Audit;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, ImageSummary};
use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, RemoveImageOptions};
use policy::Earlier;
use workspace::Surroundings;

use crate::config::Config;
use crate::container::{RunError, failed, undone};
use crate::engine::Engine;
use crate::ground::waiting;
use crate::image::{BASE, REPOSITORY};
use crate::note::{Found, INSTALLATION, Notes};
use crate::spec::LABEL;
use crate::sweep::{ENDED, Recovered, put_away, remove};

/// What can go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Litter {
    /// Containers that have ended: what the engine calls them.
    pub containers: Vec<String>,
    /// Workspaces in which a command was cut off, and which were not put in order since.
    pub workspaces: Vec<PathBuf>,
    /// Sockets, certificates and half-written files of runs and builders that are gone.
    pub files: Vec<PathBuf>,
    /// Base images that this installation made and does not use, with their bytes.
    pub images: Vec<(String, u64)>,
}

/// What went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// All of it that is gone; of workspaces, those that are in order now.
    pub gone: Litter,
    /// What was moved out of the way in workspaces.
    pub recovered: Vec<Recovered>,
}

impl Litter {
    /// Looks for it: for images, too, where it is told which ones commands run in.
    pub async fn find(engine: &Engine, config: &Config, used: Option<&[String]>) -> Result<Self, RunError> {
        let notes = open(config).await?;
        let (installation, found, mut files, mut alive) = waiting(move || {
            let looked = || {
                let (files, alive) = notes.litter()?;
                Ok((notes.installation()?, notes.found()?, files, alive))
            };
            looked().map_err(failed("the folder for runs cannot be read"))
        })
        .await?;
        files.sort();
        alive.sort();
        let left = found.into_iter().filter_map(|found| match found {
            Found::Left(_, content) => Some(content.workspace),
            _ => None,
        });
        let ended = containers(engine, &ENDED).await?.into_iter().filter_map(|container| {
            let name = name_of(&container)?;
            let is_own = label_of(&container)? == installation;
            // Another installation's may be about to start.
            let is_new = container.state == Some(ContainerSummaryStateEnum::CREATED);
            let goes = match is_own {
                true => alive.binary_search(&name).is_err(),
                false => !is_new && is_orphan(&container),
            };
            goes.then_some(name)
        });
        let images = match used {
            Some(used) => idle(engine, &installation, used).await?,
            None => Vec::new(),
        };
        Ok(Self { containers: ended.collect(), workspaces: left.collect(), files, images })
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Removes it, unless it has come into use since.
    pub async fn remove(
        self,
        engine: &Engine,
        config: &Config,
        around: &Surroundings,
        audit: &Audit,
    ) -> Result<Pruned, RunError> {
        let (mut pruned, docker) = (Pruned::default(), &engine.docker);
        let notes = open(config).await?;
        for found in look(&notes).await? {
            let Found::Left(note, content) = found else { continue };
            // One that cannot be put in order now waits, as it would for the next command there.
            let left = put_away(docker, around, note, content, None, &Earlier::new(audit.clone())).await;
            let left = left.ok().flatten().filter(|left| !left.quarantine.moved.is_empty());
            pruned.recovered.extend(left);
        }
        // What has come into use since is not among these.
        let ended = Self::find(engine, config, None).await?;
        for name in ended.containers.iter().filter(|name| self.containers.contains(name)) {
            let _ = remove(docker, name).await;
        }
        let clearing = notes.clone();
        waiting(move || clearing.clear().map_err(failed("the folder for runs cannot be cleared"))).await?;
        let waits = look(&notes).await?.into_iter().filter_map(|found| match found {
            Found::Left(_, content) | Found::Alive(content) => Some(content.workspace),
            Found::Unreadable(_) => None,
        });
        let waits: Vec<PathBuf> = waits.collect();
        let there: Vec<_> = containers(engine, &[]).await?.iter().filter_map(name_of).collect();
        pruned.gone = Self {
            containers: self.containers.into_iter().filter(|name| !there.contains(name)).collect(),
            workspaces: self.workspaces.into_iter().filter(|path| !waits.contains(path)).collect(),
            files: self.files.into_iter().filter(|path| !path.exists()).collect(),
            images: Vec::new(),
        };
        for (id, bytes) in self.images {
            // Without force: one that a container uses stays.
            if docker.remove_image(&id, None::<RemoveImageOptions>, None).await.is_ok() {
                pruned.gone.images.push((id, bytes));
            }
        }
        Ok(pruned)
    }
}

async fn open(config: &Config) -> Result<Notes, RunError> {
    let folder = config.folder.clone();
    waiting(move || Notes::open(&folder).map_err(failed("the folder for runs cannot be read"))).await
}

async fn look(notes: &Notes) -> Result<Vec<Found>, RunError> {
    let notes = notes.clone();
    waiting(move || notes.found().map_err(failed("the notes of commands cannot be read"))).await
}

/// Containers of this program, of whichever installation, in one of these states; in any, where none is named.
async fn containers(engine: &Engine, states: &[&str]) -> Result<Vec<ContainerSummary>, RunError> {
    let mut filters = HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]);
    if !states.is_empty() {
        filters.insert("status".to_owned(), states.iter().map(|state| (*state).to_owned()).collect());
    }
    let options =
        ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
    engine
        .docker
        .list_containers(Some(options))
        .await
        .map_err(undone("Docker Engine does not list its containers"))
}

fn name_of(container: &ContainerSummary) -> Option<String> {
    Some(container.names.as_ref()?.first()?.trim_start_matches('/').to_owned())
}

fn label_of(container: &ContainerSummary) -> Option<&str> {
    container.labels.as_ref()?.get(LABEL).map(String::as_str)
}

/// Whether the folder of a container's installation is gone, or is another's by now. One that tells of none is left alone.
fn is_orphan(container: &ContainerSummary) -> bool {
    let mounts = container.mounts.iter().flatten();
    let program = mounts.into_iter().find(|mount| mount.destination.as_deref() == Some(init::PROGRAM));
    let source = program.and_then(|mount| mount.source.as_deref());
    let Some(folder) = source.and_then(|source| Path::new(source).parent()) else { return false };
    match std::fs::read_to_string(folder.join(INSTALLATION)) {
        Ok(name) => label_of(container) != Some(name.trim()),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Base images that an installation made, without another name than the one that they were made under.
async fn idle(engine: &Engine, installation: &str, used: &[String]) -> Result<Vec<(String, u64)>, RunError> {
    let filters = Some(HashMap::from([("label".to_owned(), vec![format!("{BASE}={installation}")])]));
    let options = ListImagesOptions { filters, ..ListImagesOptions::default() };
    let images = engine.docker.list_images(Some(options)).await;
    let images = images.map_err(undone("Docker Engine does not list its images"))?;
    let idle = images.into_iter().filter(|image| is_idle(image) && !used.contains(&image.id));
    Ok(idle.map(|image| (image.id, u64::try_from(image.size).unwrap_or_default())).collect())
}

/// What was built on a base image has its label too, and a parent or another name.
fn is_idle(image: &ImageSummary) -> bool {
    let is_made_here =
        |name: &String| name.split(':').next() == Some(REPOSITORY) || name.starts_with("<none>");
    image.parent_id.is_empty()
        && image.repo_tags.iter().all(is_made_here)
        && image.repo_digests.iter().all(|name| name.starts_with("<none>"))
}
