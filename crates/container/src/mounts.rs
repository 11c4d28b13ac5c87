//! What of the host stands where in a container.

use std::path::{Path, PathBuf};

use bollard::models::{Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType};
use workspace::{Held, Part};

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

/// The workspace and its parts, by the names that they were held under. What is guarded in it, and every folder above
/// that, is a mount of its own; the order is the one in which they must be made. That a name leads to what is held is
/// proven when they are made (`proof`).
pub(crate) fn workspace(folder: &Path, held: &Held) -> Vec<Bind> {
    let bind = |part: &Part| {
        // Joining nothing would add a slash.
        let source =
            if part.path.as_os_str().is_empty() { folder.to_owned() } else { folder.join(&part.path) };
        Bind { source, target: place(part), read_only: part.read_only }
    };
    held.parts().iter().map(|held| bind(held.part())).collect()
}

/// Where a part of the workspace stands in the container.
pub(crate) fn place(part: &Part) -> String {
    match part.path.as_os_str().is_empty() {
        true => WORKSPACE.to_owned(),
        false => format!("{WORKSPACE}/{}", part.path.display()),
    }
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
