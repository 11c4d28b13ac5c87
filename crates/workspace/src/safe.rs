//! Whether a folder may be a person's workspace at all.
//!
//! A workspace that is the home folder, holds this program's own folders or is a folder of keys gives an agent what its
//! walls are meant to keep. One that holds a socket gives it the service behind the socket. One whose content some program
//! obeys, as that of `.git` is obeyed, is nobody's to write in: names that give a file away are those around it.
//!
//! The folder is opened once, by its name; everything that is asked about it afterwards is asked of what was opened, so
//! that whoever exchanges the name meanwhile changes nothing.

mod content;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cap_fs_ext::MetadataExt as _;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::guard::obeyed_folder;
use super::path::Quoted;
use content::Mounts;

/// Trees of the system that are no workspace, nor anything in them.
const SYSTEM: &[&str] = &[
    "/run",
    "/dev",
    "/proc",
    "/sys",
    "/boot",
    "/etc",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/usr",
    "/var/run",
    "/var/lib",
    "/var/spool",
    "/var/log",
    "/var/cache",
];

/// Folders of keys and profiles, wherever they are.
const KEY_FOLDERS: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".gcloud",
    ".kube",
    ".docker",
    ".password-store",
    ".mozilla",
    ".thunderbird",
    ".config",
    ".local",
    ".pki",
    "keyrings",
    ".electrum",
    ".bitcoin",
    ".ironclaw",
];

/// A folder that was checked, held open: what is used later is what was checked, whatever its name then means.
#[derive(Debug)]
pub struct SafeFolder {
    pub(super) dir: Dir,
    path: PathBuf,
    /// The lock of a folder that is lent to a command. It ends when it is closed, with the process at the latest.
    lock: Option<OwnedFd>,
}

/// What a command may do with the folder that it is lent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loan {
    /// Read it, beside others that do.
    Shared,
    /// Change it, alone.
    Exclusive,
}

/// The folders a workspace must stay clear of.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The person's home folder: a workspace may lie in it, but not be it or hold it.
    pub home: Option<PathBuf>,
    /// This program's own folders: a workspace may not be, hold or lie in one.
    pub own: Vec<PathBuf>,
}

/// What tells a folder from one that takes its place later, also after it was renamed and after the machine was started
/// anew: its number in its file system, and when it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// Its number.
    pub inode: u64,
    /// Nanoseconds since 1970; 0 where the file system does not tell.
    pub made: u64,
}

/// Why a folder is no workspace.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnsafeFolder {
    /// It does not exist, is no folder or cannot be read.
    #[error("the workspace is not a folder that can be opened")]
    NotAFolder,
    /// `/`.
    #[error("the root of the file system is no workspace")]
    Root,
    /// The home folder or one that holds it.
    #[error("the home folder, or a folder that holds it, is no workspace; choose a folder inside it")]
    Home,
    /// This program's configuration or data.
    #[error("the workspace overlaps a folder of this program's own")]
    Own,
    /// `/run`, `/dev`, `/etc` and their like.
    #[error("a folder of the system is no workspace")]
    System,
    /// A folder of keys or profiles.
    #[error("a folder of keys or profiles is no workspace")]
    Keys,
    /// It is, or lies in, a folder whose content some program obeys.
    #[error("{why}, so {folder} and what is in it is no workspace to write in; choose {around}")]
    InObeyed {
        /// The folder whose content is obeyed.
        folder: Quoted,
        /// Who obeys it.
        why: &'static str,
        /// The folder around it.
        around: Quoted,
    },
    /// In it is a folder that does not list its names.
    #[error(
        "the workspace holds a folder that cannot be looked into, so nothing is known of what is in it: {0}"
    )]
    Closed(Quoted),
    /// Something else stands on a name in it. What lies below stays out of sight, and a command finds just that.
    #[error(
        "something is mounted in the workspace, which hides from a check what a command would find there: {0}"
    )]
    Mounted(Quoted),
    /// A name that Docker Engine cannot be told.
    #[error(
        "the name of a folder that has to be mounted is not UTF-8, so Docker Engine cannot be told of it: {0}"
    )]
    NotText(Quoted),
    /// A link under a name that some program obeys leads to all of it.
    #[error(
        "a link in the workspace that some program obeys leads to the workspace itself, so all of it would be obeyed"
    )]
    Obeyed,
    /// It holds a socket, a FIFO or a device.
    #[error("the workspace holds a socket, a FIFO or a device: {0}")]
    Special(Quoted),
    /// More names that some program obeys than can be kept from a command.
    #[error("the workspace holds too many files that some program obeys; choose a folder inside it")]
    TooManyGuarded,
    /// More names than can be checked.
    #[error("the workspace holds more than {} names, too many to check", content::MAX_CHECKED)]
    TooLarge,
    /// A command is lent it that changes it, or that reads what this one would change.
    #[error("another command is at work in the workspace, in a folder of it or around it")]
    Busy,
    /// A file system without locks, as some network file systems are.
    #[error("the file system of the workspace cannot be locked for one command at a time")]
    NoLocks,
    /// Something in it was exchanged while it was being checked.
    #[error("the workspace was changed by somebody else while it was checked")]
    Changed,
}

impl SafeFolder {
    /// Checks a folder where it really is, links resolved, and keeps it open.
    pub fn check(folder: &Path, around: &Surroundings) -> Result<Self, UnsafeFolder> {
        let safe = Self::open(folder, around)?;
        check_unobeyed(&safe.path)?;
        content::check(&safe.dir, Mounts::Seen)?;
        Ok(safe)
    }

    /// The same for a command, which is lent the folder until this is dropped. Refused at once, before the content is
    /// looked at, while another command has it that this one does not go with.
    pub fn lend(folder: &Path, around: &Surroundings, loan: Loan) -> Result<Self, UnsafeFolder> {
        let mut safe = Self::open(folder, around)?;
        safe.lock = Some(lock(&safe.dir, loan)?);
        if safe.path.to_str().is_none() {
            return Err(UnsafeFolder::NotText(Quoted(safe.path)));
        }
        let mounts = match loan {
            Loan::Shared => Mounts::Seen,
            Loan::Exclusive => {
                check_unobeyed(&safe.path)?;
                Mounts::Refused
            }
        };
        content::check(&safe.dir, mounts)?;
        Ok(safe)
    }

    /// A folder that was lent to a command whose end nobody saw, for what is to be done about that. It is locked like
    /// one that is lent, and its content is not judged: the command may have left anything.
    pub fn reclaim(folder: &Path, around: &Surroundings) -> Result<Self, UnsafeFolder> {
        let mut safe = Self::open(folder, around)?;
        safe.lock = Some(lock(&safe.dir, Loan::Exclusive)?);
        Ok(safe)
    }

    fn open(folder: &Path, around: &Surroundings) -> Result<Self, UnsafeFolder> {
        let dir = Dir::open_ambient_dir(folder, ambient_authority()).map_err(|_| UnsafeFolder::NotAFolder)?;
        let path = place(&dir, folder).map_err(|_| UnsafeFolder::NotAFolder)?;
        let safe = Self { dir, path, lock: None };
        // A folder that was moved or removed since has no path that could be judged.
        let there = std::fs::symlink_metadata(&safe.path).map_err(|_| UnsafeFolder::Changed)?;
        if safe.identity().ok() != Some((there.dev(), there.ino())) {
            return Err(UnsafeFolder::Changed);
        }
        check_place(&safe.path, around)?;
        Ok(safe)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from any other folder of this machine: the device of its file system, and its number there.
    #[cfg(unix)]
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let found = self.dir.dir_metadata()?;
        Ok((found.dev(), found.ino()))
    }

    /// What tells it from a folder that takes its place later.
    #[cfg(unix)]
    pub fn fingerprint(&self) -> io::Result<Fingerprint> {
        let found = self.dir.dir_metadata()?;
        Ok(Fingerprint::of(found.ino(), found.created().ok().map(|made| made.into_std())))
    }

    /// Its user and its group.
    #[cfg(unix)]
    pub fn owner(&self) -> io::Result<(u32, u32)> {
        use cap_std::fs::MetadataExt as _;
        let found = self.dir.dir_metadata()?;
        Ok((found.uid(), found.gid()))
    }

    pub(super) fn into_dir(self) -> Dir {
        self.dir
    }
}

impl Fingerprint {
    /// Those of a folder and of each one above it, by name: its own first, that of the root last.
    #[cfg(unix)]
    pub fn line(folder: &Path) -> io::Result<Vec<Self>> {
        let one = |folder: &Path| {
            let found = std::fs::symlink_metadata(folder)?;
            Ok(Self::of(found.ino(), found.created().ok()))
        };
        folder.ancestors().map(one).collect()
    }

    /// Whether it is of this folder whatever it is called, which the number alone does not tell.
    pub fn is_whole(self) -> bool {
        self.made != 0
    }

    fn of(inode: u64, made: Option<SystemTime>) -> Self {
        let made = made.and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        Self { inode, made: made.map_or(0, |made| made.as_nanos() as u64) }
    }
}

/// Where an open folder really is.
#[cfg(target_os = "linux")]
fn place(dir: &Dir, _: &Path) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

/// Where an open folder really is, if its name still leads to it, which the caller compares.
#[cfg(not(target_os = "linux"))]
fn place(_: &Dir, folder: &Path) -> io::Result<PathBuf> {
    folder.canonicalize()
}

/// Locks the folder itself (`flock`), which needs a handle that reads.
fn lock(dir: &Dir, loan: Loan) -> Result<OwnedFd, UnsafeFolder> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(dir, ".", flags, Mode::empty()).map_err(|_| UnsafeFolder::NotAFolder)?;
    let operation = match loan {
        Loan::Shared => FlockOperation::NonBlockingLockShared,
        Loan::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(&handle, operation) {
        Ok(()) => Ok(handle),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(UnsafeFolder::Busy),
        Err(_) => Err(UnsafeFolder::NoLocks),
    }
}

/// Judges the path alone.
fn check_place(path: &Path, around: &Surroundings) -> Result<(), UnsafeFolder> {
    if path.parent().is_none() {
        return Err(UnsafeFolder::Root);
    }
    let real = |folder: &PathBuf| folder.canonicalize().unwrap_or_else(|_| folder.clone());
    if around.home.iter().map(real).any(|home| home.starts_with(path)) {
        return Err(UnsafeFolder::Home);
    }
    if around.own.iter().map(real).any(|own| own.starts_with(path) || path.starts_with(own)) {
        return Err(UnsafeFolder::Own);
    }
    // A folder that holds a system tree is the root, which is refused above.
    if SYSTEM.iter().any(|system| path.starts_with(system))
        || path == Path::new("/var")
        || path == Path::new("/home")
    {
        return Err(UnsafeFolder::System);
    }
    let is_key = |part: std::path::Component<'_>| {
        part.as_os_str().to_str().is_some_and(|name| KEY_FOLDERS.contains(&name.to_lowercase().as_str()))
    };
    if path.components().any(is_key) { Err(UnsafeFolder::Keys) } else { Ok(()) }
}

/// Refuses a folder that is, or lies in, one whose content some program obeys: by its name, or because git takes it for a
/// repository. Inside of it no name is left that would give a file away.
fn check_unobeyed(path: &Path) -> Result<(), UnsafeFolder> {
    // The outermost one: around it nothing is obeyed as a whole.
    let mut obeyed = None;
    for folder in path.ancestors() {
        let by_name = folder.file_name().and_then(obeyed_folder);
        let why = by_name.or_else(|| is_repository(folder).then_some("git takes it for a repository"));
        obeyed = why.zip(folder.parent()).map(|(why, around)| (folder, why, around)).or(obeyed);
    }
    match obeyed {
        None => Ok(()),
        Some((folder, why, around)) => {
            let quoted = |path: &Path| Quoted(path.to_owned());
            Err(UnsafeFolder::InObeyed { folder: quoted(folder), why, around: quoted(around) })
        }
    }
}

/// Whether git takes a folder itself for a repository, whatever it is called (gitrepository-layout).
pub(super) fn is_repository(folder: &Path) -> bool {
    let is = |name: &str, folder_wanted: bool| {
        std::fs::metadata(folder.join(name)).is_ok_and(|found| found.is_dir() == folder_wanted)
    };
    is("HEAD", false) && is("objects", true) && is("refs", true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn check(path: &Path, around: &Surroundings) -> Option<UnsafeFolder> {
        SafeFolder::check(path, around).err()
    }

    #[test]
    fn m01_folders_that_give_too_much_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let home = base.path().join("someone");
        let data = home.join("data/ironclaw");
        let project = home.join("project");
        let keys = home.join(".ssh");
        for folder in [&data, &project, &keys, &keys.join("deep"), &data.join("tools")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&home, &link).unwrap();
        let around = Surroundings { home: Some(home.clone()), own: vec![data.clone()] };
        for (folder, why) in [
            (Path::new("/"), UnsafeFolder::Root),
            (Path::new("/run"), UnsafeFolder::System),
            (Path::new("/etc"), UnsafeFolder::System),
            (Path::new("/var/spool"), UnsafeFolder::System),
            (&home, UnsafeFolder::Home),
            (base.path(), UnsafeFolder::Home),
            (&link, UnsafeFolder::Home),
            (&home.join("data"), UnsafeFolder::Own),
            (&data, UnsafeFolder::Own),
            (&data.join("tools"), UnsafeFolder::Own),
            (&keys, UnsafeFolder::Keys),
            (&keys.join("deep"), UnsafeFolder::Keys),
            (&home.join("missing"), UnsafeFolder::NotAFolder),
        ] {
            assert_eq!(check(folder, &around), Some(why), "{}", folder.display());
        }
        assert_eq!(check(&project, &around), None);
    }

    #[test]
    fn f01_a_folder_is_what_was_opened_whatever_its_name_means_later() {
        let base = tempfile::tempdir().unwrap();
        let (project, outside) = (base.path().join("project"), base.path().join("outside"));
        std::fs::create_dir_all(project.join("src")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&project, &link).unwrap();
        let safe = SafeFolder::check(&link, &Surroundings::default()).unwrap();
        // Where it is, not what it was called.
        assert_eq!(safe.path(), project.canonicalize().unwrap());
        let identity = safe.identity().unwrap();
        std::fs::rename(&project, base.path().join("was")).unwrap();
        std::os::unix::fs::symlink(&outside, &project).unwrap();
        assert_eq!(safe.identity().unwrap(), identity);
        assert!(safe.dir.entries().unwrap().any(|entry| entry.unwrap().file_name() == "src"));
        // One whose name leads elsewhere by now, or nowhere, has no place that could be judged.
        let gone = Dir::open_ambient_dir(&outside, ambient_authority()).unwrap();
        std::fs::remove_dir(&outside).unwrap();
        assert!(std::fs::symlink_metadata(place(&gone, &outside).unwrap()).is_err());
    }

    #[test]
    fn a_folder_is_lent_to_one_that_changes_it_or_to_those_that_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let lend = |loan| SafeFolder::lend(folder.path(), &Surroundings::default(), loan);
        let writer = lend(Loan::Exclusive).unwrap();
        assert_eq!(lend(Loan::Exclusive).unwrap_err(), UnsafeFolder::Busy);
        assert_eq!(lend(Loan::Shared).unwrap_err(), UnsafeFolder::Busy);
        // Tools that look at files are none of the commands.
        assert_eq!(check(folder.path(), &Surroundings::default()), None);
        drop(writer);
        let readers = (lend(Loan::Shared).unwrap(), lend(Loan::Shared).unwrap());
        assert_eq!(lend(Loan::Exclusive).unwrap_err(), UnsafeFolder::Busy);
        drop(readers);
        lend(Loan::Exclusive).unwrap();
    }

    #[test]
    fn m02_sockets_fifos_and_devices_are_refused() {
        let around = Surroundings::default();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        assert_eq!(check(folder.path(), &around), None);
        let _listener = UnixListener::bind(folder.path().join("deep/agent.sock")).unwrap();
        let special = |path: &str| Some(UnsafeFolder::Special(Quoted(path.into())));
        assert_eq!(check(folder.path(), &around), special("deep/agent.sock"));

        let other = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            other.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert_eq!(check(other.path(), &around), special("pipe"));
    }

    #[test]
    fn m03_a_folder_that_is_obeyed_as_a_whole_is_no_workspace_to_write_in() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let make = |folder: &str| std::fs::create_dir_all(base.join(folder)).unwrap();
        for folder in ["x.git/hooks", "repo/.git/hooks", "ide/.VSCode", "gw/.github/workflows", "free"] {
            make(folder);
        }
        make("own/plain/objects");
        make("own/plain/refs");
        make("own/plain/hooks");
        std::fs::write(base.join("own/plain/HEAD"), "ref: refs/heads/main\n").unwrap();
        make(&format!("q/{}0/1-src", crate::guard::QUARANTINE));
        let around = Surroundings::default();
        for (folder, chosen) in [
            ("x.git", ""),
            ("x.git/hooks", ""),
            ("repo/.git", "repo"),
            ("repo/.git/hooks", "repo"),
            ("ide/.VSCode", "ide"),
            ("gw/.github/workflows", "gw"),
            ("own/plain", "own"),
            ("own/plain/hooks", "own"),
            ("q/ironclaw-quarantine-0/1-src", "q"),
        ] {
            // Whoever writes: the file tools, and a command. One that reads may look.
            let lent = SafeFolder::lend(&base.join(folder), &around, Loan::Exclusive).err();
            for refused in [check(&base.join(folder), &around), lent] {
                let Some(UnsafeFolder::InObeyed { around, .. }) = &refused else {
                    panic!("{folder}: {refused:?}")
                };
                assert_eq!(around.0, base.join(chosen).components().collect::<PathBuf>(), "{folder}");
            }
            SafeFolder::lend(&base.join(folder), &around, Loan::Shared).unwrap();
        }
        for folder in ["repo", "ide", "gw", "own", "free"] {
            assert_eq!(check(&base.join(folder), &around), None, "{folder}");
        }
    }

    /// Runs a test again in a mount namespace of its own, where it may mount; whether it did.
    #[expect(clippy::disallowed_methods, reason = "this test program itself, apart")]
    fn ran_apart(test: &str) -> bool {
        const APART: &str = "ran-apart";
        if std::env::args().any(|argument| argument == APART) {
            return false;
        }
        let mut again = std::process::Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            again.args(["--user", "--map-root-user"]);
        }
        let again = again
            .arg("--mount")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--skip", APART])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(again.status.success() && said.contains("1 passed"), "{said}");
        true
    }

    #[test]
    #[cfg(target_os = "linux")]
    #[expect(clippy::disallowed_methods, reason = "mount, in a namespace of the test's own")]
    fn m03_what_a_mount_hides_is_not_lent_to_whoever_writes() {
        if ran_apart("safe::tests::m03_what_a_mount_hides_is_not_lent_to_whoever_writes") {
            return;
        }
        let mount = |arguments: &[&str]| {
            let mounted = std::process::Command::new("mount").args(arguments).status().unwrap();
            assert!(mounted.success(), "{arguments:?}");
        };
        let around = Surroundings::default();
        let lend = |folder: &Path, loan| SafeFolder::lend(folder, &around, loan).err();
        let mounted = |path: &str| Some(UnsafeFolder::Mounted(Quoted(path.into())));
        // Another file system, the same one, and a single file.
        for (number, bind) in [None, Some("free"), Some("free/file")].into_iter().enumerate() {
            let base = tempfile::tempdir().unwrap();
            let at = |name: &str| base.path().join(name).to_str().unwrap().to_owned();
            std::fs::create_dir_all(at("nm/data")).unwrap();
            std::fs::create_dir_all(at("free")).unwrap();
            std::fs::write(at("free/file"), "").unwrap();
            std::fs::write(at("nm/file"), "").unwrap();
            assert_eq!(lend(&base.path().join("nm"), Loan::Exclusive), None);
            let place = if number == 2 { "file" } else { "data" };
            match bind {
                None => mount(&["-t", "tmpfs", "none", &at("nm/data")]),
                Some(bind) => mount(&["--bind", &at(bind), &at(&format!("nm/{place}"))]),
            }
            assert_eq!(lend(&base.path().join("nm"), Loan::Exclusive), mounted(place));
            assert_eq!(lend(&base.path().join("nm"), Loan::Shared), None);
            assert_eq!(check(&base.path().join("nm"), &around), None);
            // A mount as the workspace itself hides nothing of it.
            if number < 2 {
                assert_eq!(lend(&base.path().join("nm/data"), Loan::Exclusive), None);
            }
            unmount(&at(&format!("nm/{place}")));
        }
    }

    #[cfg(target_os = "linux")]
    #[expect(clippy::disallowed_methods, reason = "umount, in a namespace of the test's own")]
    fn unmount(place: &str) {
        assert!(std::process::Command::new("umount").arg(place).status().unwrap().success());
    }
}
