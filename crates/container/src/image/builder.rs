//! What makes a root file system of Debian packages: mmdebstrap, or debootstrap where root makes it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::process::{Child, ChildStdout, Command};
use types::CallId;

use super::build::{BuildError, SUITE};

/// Options of mmdebstrap: no documentation, no translations, no cached packages.
pub(super) const LEAN: &[&str] = &[
    "--quiet",
    "--variant=minbase",
    "--format=tar",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--aptopt=Acquire::Languages \"none\"",
];

/// The same with debootstrap, in a folder and a name space of mounts of its own, so that none of what it mounts outlives it.
/// Arguments: the folder, the packages, the release.
const DEBOOTSTRAP: &str = r#"
PATH="$PATH:/usr/sbin:/sbin"
command -v debootstrap >/dev/null || exit 127
debootstrap --variant=minbase "$2" "$3" "$1" >/dev/null
cd "$1"
rm -rf usr/share/doc/* usr/share/man/* usr/share/locale/* var/cache/apt/* var/lib/apt/lists/* var/log/*
exec tar --numeric-owner --one-file-system --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -c .
"#;

/// The exit code of a shell that does not find what it is to run.
pub(super) const NOT_FOUND: i32 = 127;

/// How a folder of a builder's begins.
pub(crate) const FOLDER: &str = "build-";

/// How long a builder may take to put away what it made. It removes some tens of thousands of files.
const END_TIME: Duration = Duration::from_secs(60);

/// How often to look whether everything that it started has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A builder at work, in a process group of its own: what is typed on the terminal is for whoever started it.
pub(super) struct Builder {
    pub(super) program: Child,
    group: Option<Pid>,
    folder: Option<Folder>,
}

impl Builder {
    /// Starts whichever is installed. What it writes is the root file system.
    pub(super) fn start(own: &Path, include: &str) -> Result<(Self, ChildStdout), BuildError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the owner asked for an image; fixed program and options"
        )]
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(LEAN).args([include, SUITE, "-"]);
        match spawn(mmdebstrap) {
            Ok(program) => Self::of(program, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound && rustix::process::geteuid().is_root() => {
                let folder = Folder::make(own).map_err(|error| BuildError::Folder(error.kind()))?;
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the owner asked for an image; fixed program and options"
                )]
                let mut unshare = Command::new("unshare");
                unshare
                    .args(["--mount", "sh", "-euc", DEBOOTSTRAP, "sh"])
                    .arg(&folder.path)
                    .args([include, SUITE]);
                Self::of(spawn(unshare).map_err(|_| BuildError::NoBuilder)?, Some(folder))
            }
            Err(_) => Err(BuildError::NoBuilder),
        }
    }

    fn of(mut program: Child, folder: Option<Folder>) -> Result<(Self, ChildStdout), BuildError> {
        let output = program.stdout.take().ok_or(BuildError::NoBuilder)?;
        let group = program.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok((Self { program, group, folder }, output))
    }

    /// Ends it if it has not ended, and waits: it unmounts what it mounted and removes what it made, which nobody does for it.
    pub(super) async fn end(mut self) {
        let Some(group) = self.group else { return };
        if self.program.id().is_some() {
            // debootstrap's shell does not pass a signal on.
            let _ = match self.folder {
                Some(_) => rustix::process::kill_process_group(group, Signal::TERM),
                None => rustix::process::kill_process(group, Signal::TERM),
            };
            let _ = tokio::time::timeout(END_TIME, self.program.wait()).await;
        }
        let began = Instant::now();
        while rustix::process::test_kill_process_group(group).is_ok() && began.elapsed() < END_TIME {
            tokio::time::sleep(LOOK).await;
            if began.elapsed() > END_TIME / 2 {
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
        }
        if let Some(folder) = self.folder {
            let _ = tokio::task::spawn_blocking(move || drop(folder)).await;
        }
    }
}

fn spawn(mut command: Command) -> io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true).spawn()
}

/// A folder for one builder. Dropped, it is gone; of a process that was killed it stays, unlocked.
struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    fn make(own: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(own)?;
        let path = own.join(format!("{FOLDER}{}", CallId::new()));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::open(&path)?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
