//! One folder, and no way out of it.
//!
//! Tier 1. Tools keep their files in a folder of their own; the agent's built-in file tools work in one folder of the
//! person's. Both go through [`Workspace`]: a path is parsed into a [`WorkspacePath`] before it means anything, every
//! folder on the way is opened as a folder and never through a link, and only regular files are read. A link that is
//! swapped in while a call runs is therefore not followed either: each step starts from a handle, not from a name.
//!
//! What differs is the [`Keeper`]: a tool's folder has a quota, a person's folder has files that are not written (they
//! are programs or policy in disguise) and files that are not read (they are credentials).

mod guard;
mod held;
mod path;
mod safe;
mod survey;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use types::limits::{Bytes, ToolLimits};

pub use guard::{QUARANTINE, credential_file, guarded};
pub use held::{Held, HeldPart};
pub use path::{PathError, Quoted, WorkspacePath};
pub use safe::{Fingerprint, Loan, SafeFolder, Surroundings, UnsafeFolder};
pub use survey::{Part, Survey, UnreadableSurvey};

/// The most names one listing gives. A folder with more is listed as an error, not in part.
pub const MAX_LISTED: usize = 10_000;

/// How many folders deep a workspace is counted. Deeper ones cannot be made through [`WorkspacePath`].
const MAX_LEVELS: usize = path::MAX_SEGMENTS;

/// A folder that is open, with the rules that its keeper set.
#[derive(Debug)]
pub struct Workspace {
    root: Dir,
    keeper: Keeper,
}

/// Whose folder it is.
#[derive(Debug)]
enum Keeper {
    /// A tool's own: bounded in bytes and files.
    Tool { bytes: Bytes, files: u32 },
    /// The person's: guarded files are not written, credentials are not read.
    Person,
}

/// One name in a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    /// The name, without the folder. It is foreign text.
    pub name: String,
    /// Bytes; zero for a folder.
    pub size: u64,
    /// Whether it is a folder.
    pub folder: bool,
}

/// Why an operation did not happen. No variant quotes a path or a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The path does not parse.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Nothing of that name, or a link, or not a regular file.
    #[error("there is no such file in the workspace, or it is not a regular file")]
    NotFound,
    /// The file is larger than what may be read at once.
    #[error("the file is larger than {0}")]
    TooLarge(Bytes),
    /// The folder holds more than [`MAX_LISTED`] names.
    #[error("the folder holds more than {MAX_LISTED} names")]
    TooMany,
    /// A write would go beyond the quota.
    #[error("the workspace may hold {bytes} in {files} files")]
    Quota {
        /// The granted bytes.
        bytes: Bytes,
        /// The granted files.
        files: u32,
    },
    /// A file that programs obey: a hook, a shell's start file, the instructions of an agent.
    #[error("the file is guarded: {0}")]
    Guarded(&'static str),
    /// A file that holds credentials.
    #[error("the file holds credentials: {0}")]
    Credential(&'static str),
    /// The file system failed: no space, no permission, a broken disk.
    #[error("the file system did not do it")]
    Io,
}

impl Workspace {
    /// A person's folder that was found safe.
    pub fn open(folder: SafeFolder) -> Self {
        Self { root: folder.into_dir(), keeper: Keeper::Person }
    }

    /// A tool's own folder, made if need be. `folder` is a path this program chose.
    pub fn of_tool(folder: &Path, limits: &ToolLimits) -> Result<Self, WorkspaceError> {
        let authority = ambient_authority();
        Dir::create_ambient_dir_all(folder, authority).map_err(|_| WorkspaceError::Io)?;
        let root = Dir::open_ambient_dir(folder, authority).map_err(|_| WorkspaceError::Io)?;
        Ok(Self { root, keeper: Keeper::Tool { bytes: limits.workspace, files: limits.files } })
    }

    /// The whole of a regular file, if it is at most `max` long.
    pub fn read(&self, path: &WorkspacePath, max: Bytes) -> Result<Vec<u8>, WorkspaceError> {
        if let (Keeper::Person, Some(kind)) = (&self.keeper, credential_file(path)) {
            return Err(WorkspaceError::Credential(kind));
        }
        let (folder, name) = self.folder_of(path, false)?;
        let mut options = OpenOptions::new();
        // Without `nonblock`, opening a FIFO waits for its other end.
        options.read(true).follow(FollowSymlinks::No).nonblock(true);
        let file = folder.open_with(name, &options).map_err(absent)?;
        let metadata = file.metadata().map_err(absent)?;
        if !metadata.is_file() {
            return Err(WorkspaceError::NotFound);
        }
        let mut content = Vec::with_capacity(metadata.len().min(max.0) as usize);
        let read = file.take(max.0 + 1).read_to_end(&mut content).map_err(|_| WorkspaceError::Io)?;
        if read as u64 > max.0 { Err(WorkspaceError::TooLarge(max)) } else { Ok(content) }
    }

    /// Writes a whole file in one step: whoever reads sees the old content or the new. Missing folders are made.
    pub fn write(&self, path: &WorkspacePath, content: &[u8]) -> Result<(), WorkspaceError> {
        self.may_change(path)?;
        if let Keeper::Tool { bytes, files } = self.keeper {
            self.room_for(path, content.len() as u64, bytes, files)?;
        }
        let (folder, name) = self.folder_of(path, true)?;
        // Nothing but a regular file is replaced.
        if folder.symlink_metadata(name).is_ok_and(|found| !found.is_file()) {
            return Err(WorkspaceError::NotFound);
        }
        let partial = partial_name();
        let written =
            write_new(&folder, &partial, content).and_then(|()| folder.rename(&partial, &folder, name));
        written.map_err(|_| {
            // What was begun is taken away again; if even that fails, the name says what it is.
            let _ = folder.remove_file(&partial);
            WorkspaceError::Io
        })
    }

    /// What a folder holds, sorted by name; links and anything but files and folders are left out.
    pub fn list(&self, path: Option<&WorkspacePath>) -> Result<Vec<Entry>, WorkspaceError> {
        let folder = match path {
            None => self.root.try_clone().map_err(|_| WorkspaceError::Io)?,
            Some(path) => {
                path.segments().try_fold(self.root.try_clone().map_err(|_| WorkspaceError::Io)?, enter)?
            }
        };
        let mut entries = Vec::new();
        for found in folder.entries().map_err(|_| WorkspaceError::Io)? {
            let found = found.map_err(|_| WorkspaceError::Io)?;
            let Ok(name) = found.file_name().into_string() else { continue };
            let Ok(metadata) = folder.symlink_metadata(&name) else { continue };
            if !(metadata.is_file() || metadata.is_dir()) || is_partial(&name) {
                continue;
            }
            if entries.len() == MAX_LISTED {
                return Err(WorkspaceError::TooMany);
            }
            let size = if metadata.is_file() { metadata.len() } else { 0 };
            entries.push(Entry { name, size, folder: metadata.is_dir() });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// Removes a regular file, a link (never what it points to) or an empty folder.
    pub fn remove(&self, path: &WorkspacePath) -> Result<(), WorkspaceError> {
        self.may_change(path)?;
        let (folder, name) = self.folder_of(path, false)?;
        let metadata = folder.symlink_metadata(name).map_err(absent)?;
        if metadata.is_dir() { folder.remove_dir(name) } else { folder.remove_file(name) }.map_err(absent)
    }

    /// Bytes and files in the whole folder.
    pub fn usage(&self) -> Result<(Bytes, u32), WorkspaceError> {
        let mut total = (0, 0);
        count(&self.root, MAX_LEVELS, &mut total)?;
        Ok((Bytes(total.0), total.1))
    }

    fn may_change(&self, path: &WorkspacePath) -> Result<(), WorkspaceError> {
        match (&self.keeper, guarded(path)) {
            (Keeper::Person, Some(kind)) => Err(WorkspaceError::Guarded(kind)),
            _ => Ok(()),
        }
    }

    /// Refuses a write that the quota has no room for. What a file replaces is given back.
    fn room_for(
        &self,
        path: &WorkspacePath,
        size: u64,
        bytes: Bytes,
        files: u32,
    ) -> Result<(), WorkspaceError> {
        let (used, count) = self.usage()?;
        let replaced = self
            .folder_of(path, false)
            .ok()
            .and_then(|(folder, name)| folder.symlink_metadata(name).ok())
            .filter(|found| found.is_file());
        let (old_bytes, old_files) = replaced.map_or((0, 0), |found| (found.len(), 1));
        let fits = used.0.saturating_sub(old_bytes).saturating_add(size) <= bytes.0
            && count.saturating_sub(old_files) < files;
        if fits { Ok(()) } else { Err(WorkspaceError::Quota { bytes, files }) }
    }

    /// The folder a path ends in, and its last segment.
    fn folder_of<'a>(&self, path: &'a WorkspacePath, make: bool) -> Result<(Dir, &'a str), WorkspaceError> {
        let (folders, name) = path.split();
        let mut folder = self.root.try_clone().map_err(|_| WorkspaceError::Io)?;
        for segment in folders {
            if make {
                match folder.create_dir(segment) {
                    Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                        return Err(WorkspaceError::Io);
                    }
                    _ => {}
                }
            }
            folder = enter(folder, segment)?;
        }
        Ok((folder, name))
    }
}

/// One step down, into a real folder only.
fn enter(folder: Dir, segment: &str) -> Result<Dir, WorkspaceError> {
    folder.open_dir_nofollow(segment).map_err(absent)
}

/// Files and bytes below a folder. Folders count as files: they take an inode too.
fn count(folder: &Dir, levels: usize, total: &mut (u64, u32)) -> Result<(), WorkspaceError> {
    for found in folder.entries().map_err(|_| WorkspaceError::Io)? {
        let found = found.map_err(|_| WorkspaceError::Io)?;
        let name = found.file_name();
        let Ok(metadata) = folder.symlink_metadata(&name) else { continue };
        total.1 = total.1.saturating_add(1);
        if metadata.is_dir() {
            if levels > 0
                && let Ok(below) = folder.open_dir_nofollow(&name)
            {
                count(&below, levels - 1, total)?;
            }
        } else {
            total.0 = total.0.saturating_add(metadata.len());
        }
    }
    Ok(())
}

fn write_new(folder: &Dir, name: &str, content: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).follow(FollowSymlinks::No);
    folder.open_with(name, &options)?.write_all(content)
}

const PARTIAL: &str = ".ironclaw-partial-";

/// A name that no other write of this machine uses at the moment.
fn partial_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{PARTIAL}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn is_partial(name: &str) -> bool {
    name.starts_with(PARTIAL)
}

/// Links, missing names and wrong kinds look alike from outside; a full disk does not.
fn absent(error: std::io::Error) -> WorkspaceError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::Other => WorkspaceError::Io,
        _ => WorkspaceError::NotFound,
    }
}
