//! What of the host stands where in a container.

use std::path::{Path, PathBuf};

use bollard::models::{Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType};
use types::Confinement;
use workspace::Survey;

/// Where the workspace stands in the container, and where the command starts.
pub(crate) const WORKSPACE: &str = "/workspace";

/// The command's home folder: empty, in memory, gone with the run.
pub(crate) const HOME: &str = "/home/sandbox";

/// Folders in memory that the command may write.
pub(crate) const TEMPORARY: [&str; 4] = ["/tmp", "/var/tmp", "/run", HOME];

/// One file or folder of the host in the container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

/// The workspace as the confinement wants it. What is guarded in it, and every folder above that, is a mount of
/// its own; the order is the one in which they must be made.
pub(crate) fn workspace(folder: &Path, confinement: Confinement, survey: &Survey) -> Vec<Bind> {
    let read_only = confinement == Confinement::ReadOnly;
    let whole = Bind { source: folder.to_owned(), target: WORKSPACE.to_owned(), read_only };
    let parts = survey.parts().into_iter().map(|part| Bind {
        source: folder.join(&part.path),
        target: format!("{WORKSPACE}/{}", part.path.display()),
        read_only: part.read_only,
    });
    std::iter::once(whole).chain(parts).collect()
}

impl Bind {
    pub(crate) fn new(source: PathBuf, target: &str, read_only: bool) -> Self {
        Self { source, target: target.to_owned(), read_only }
    }

    /// Mounts of the host that come or go later do not show, nor do those below the folder.
    pub(crate) fn to_mount(&self) -> Mount {
        Mount {
            typ: Some(MountType::BIND),
            source: Some(self.source.to_string_lossy().into_owned()),
            target: Some(self.target.clone()),
            read_only: Some(self.read_only),
            bind_options: Some(MountBindOptions {
                propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
                non_recursive: Some(true),
                ..MountBindOptions::default()
            }),
            ..Mount::default()
        }
    }
}
