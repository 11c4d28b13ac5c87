//! What is below a folder: the files that are read, and by name what is left out.
//!
//! Nothing here waits or goes in circles: links are not followed, and a pipe, a socket or a device is not opened, not
//! even where it took a file's place after it was listed.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Why something below a folder is not read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Reason {
    /// It holds NUL bytes and is in no encoding of text.
    Binary,
    /// A repository says that it is not committed.
    Ignored,
    /// A link; what it leads to is read where it is.
    Link,
    /// A pipe, a socket or a device.
    Special,
    /// It was there when the folder was read, and is not any more.
    Gone,
}

impl Reason {
    /// The word of JSON.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Ignored => "git-ignored",
            Self::Link => "link",
            Self::Special => "special",
            Self::Gone => "gone",
        }
    }

    /// So many of them, in words.
    pub(super) fn counted(self, count: u64) -> String {
        let (one, more) = match self {
            Self::Binary => ("binary file", "binary files"),
            Self::Ignored => ("name that git ignores", "names that git ignores"),
            Self::Link => ("link", "links"),
            Self::Special => ("pipe, socket or device", "pipes, sockets or devices"),
            Self::Gone => ("file that is gone", "files that are gone"),
        };
        format!("{count} {}", if count == 1 { one } else { more })
    }
}

/// What a walk comes to.
pub(super) enum Met {
    /// A file to read.
    File(PathBuf),
    /// Something that is left out.
    Skipped(PathBuf, Reason),
    /// A folder that cannot be read, where its name is known.
    Unreadable(Option<PathBuf>, ErrorKind),
}

/// Everything below a folder, in the order of names.
pub(super) struct Walk {
    walk: ignore::Walk,
    follows_git: bool,
    /// The folders on the way to what was met last, each with the names in it that were not met yet.
    open: Vec<Folder>,
    ready: VecDeque<Met>,
    /// Folders whose own rules are not read; what is below them is met at the end.
    unruly: Vec<PathBuf>,
}

struct Folder {
    path: PathBuf,
    depth: usize,
    left: BTreeSet<OsString>,
}

impl Walk {
    /// A repository's own ignore files say what will not be committed, so a search for leaks follows them; they do not
    /// say what an agent will read, so a search for attacks does not.
    pub(super) fn below(folder: &Path, follows_git: bool) -> Self {
        let follows_git = follows_git && is_ruly(folder);
        let walk = walk(folder, follows_git);
        Self { walk, follows_git, open: Vec::new(), ready: VecDeque::new(), unruly: Vec::new() }
    }

    fn meet(&mut self, entry: &ignore::DirEntry) {
        self.leave(entry.depth());
        self.cross_off(entry.path());
        let path = entry.path().to_owned();
        match entry.file_type() {
            Some(kind) if kind.is_file() => self.ready.push_back(Met::File(path)),
            Some(kind) if kind.is_dir() => {
                let left = if self.follows_git { names(&path) } else { BTreeSet::new() };
                self.open.push(Folder { path, depth: entry.depth(), left });
            }
            // The folder itself, named by a link to it.
            Some(kind) if kind.is_symlink() && entry.depth() == 0 => {}
            Some(kind) if kind.is_symlink() => self.ready.push_back(Met::Skipped(path, Reason::Link)),
            _ => self.ready.push_back(Met::Skipped(path, Reason::Special)),
        }
    }

    fn fail(&mut self, error: &ignore::Error) {
        let path = path(error);
        path.iter().for_each(|path| self.cross_off(path));
        let kind = error.io_error().map_or(ErrorKind::Other, io::Error::kind);
        self.ready.push_back(match (path, kind) {
            (Some(path), ErrorKind::NotFound) => Met::Skipped(path.to_owned(), Reason::Gone),
            (path, kind) => Met::Unreadable(path.map(Path::to_owned), kind),
        });
    }

    fn cross_off(&mut self, path: &Path) {
        if let (Some(folder), Some(name)) = (self.open.last_mut(), path.file_name())
            && path.parent() == Some(&folder.path)
        {
            folder.left.remove(name);
        }
    }

    /// Ends the folders that nothing at this depth is in. What was not met in one is what git ignores.
    fn leave(&mut self, depth: usize) {
        while let Some(folder) = self.open.pop_if(|folder| folder.depth >= depth) {
            let left = folder.left.into_iter().map(|name| folder.path.join(name));
            for path in left {
                match path.symlink_metadata() {
                    Ok(kind) if kind.is_dir() && !is_ruly(&path) => self.unruly.push(path),
                    Ok(_) => self.ready.push_back(Met::Skipped(path, Reason::Ignored)),
                    Err(_) => {}
                }
            }
        }
    }
}

impl Iterator for Walk {
    type Item = Met;

    fn next(&mut self) -> Option<Met> {
        while self.ready.is_empty() {
            match self.walk.next() {
                Some(Ok(entry)) => self.meet(&entry),
                Some(Err(error)) => self.fail(&error),
                None if !self.open.is_empty() => self.leave(0),
                None => {
                    self.walk = walk(&self.unruly.pop()?, false);
                    self.follows_git = false;
                }
            }
        }
        self.ready.pop_front()
    }
}

fn walk(folder: &Path, follows_git: bool) -> ignore::Walk {
    ignore::WalkBuilder::new(folder)
        .standard_filters(false)
        .git_ignore(follows_git)
        .git_exclude(follows_git)
        .git_global(follows_git)
        .parents(follows_git)
        .filter_entry(move |entry| {
            let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
            entry.file_name() != ".git" && !(follows_git && is_folder && !is_ruly(entry.path()))
        })
        .sort_by_file_path(Path::cmp)
        .build()
}

/// The longest file of ignore rules that is read; those of large projects have some 10 KiB.
const MAX_RULES: u64 = 1 << 20;

/// True where whatever a walk reads of git's rules in a folder is a plain file. A link or a pipe in its place, which a
/// stranger's repository can hold, could have no end or never begin; git follows no such link either (gitignore(5)).
fn is_ruly(folder: &Path) -> bool {
    let git = folder.join(".git");
    let common = match git.metadata() {
        Ok(kind) if kind.is_dir() => Some(git),
        Ok(_) if !is_plain(&git) => return false,
        // Of a further working tree or a submodule (gitrepository-layout(5)).
        Ok(_) => match first_line(&git).and_then(|line| line.strip_prefix("gitdir: ").map(PathBuf::from)) {
            Some(own) if !is_plain(&own.join("commondir")) => return false,
            Some(own) => first_line(&own.join("commondir")).map(|line| own.join(line)),
            None => None,
        },
        Err(_) => None,
    };
    is_plain(&folder.join(".gitignore")) && common.is_none_or(|common| is_plain(&common.join("info/exclude")))
}

/// True for a file of its own that is not long, and for none.
fn is_plain(path: &Path) -> bool {
    path.symlink_metadata().map_or(true, |kind| kind.is_file() && kind.len() <= MAX_RULES)
}

fn first_line(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()?.lines().next().map(str::to_owned)
}

/// The names in a folder. One that cannot be read has none here, and the walk says so.
fn names(folder: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).filter(|name| name != ".git").collect()
}

/// What an error of the walk is about.
fn path(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path(err),
        _ => None,
    }
}

/// Opens a file that a walk met. Of one that grows while it is read, what it held when it was opened is read.
pub(super) fn open_met(path: &Path) -> Result<impl Read + use<>, Closed> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits().cast_signed());
    }
    let file = options.open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Closed::Skipped(Reason::Gone),
        _ => Closed::Unreadable(error),
    })?;
    let kind = file.metadata().map_err(Closed::Unreadable)?;
    match kind.is_file() {
        true => Ok(bounded(file, kind.len())),
        false => Err(Closed::Skipped(Reason::Special)),
    }
}

/// Opens what a person named, which may be a pipe.
pub(super) fn open_named(path: &Path) -> io::Result<impl Read + use<>> {
    let file = File::open(path)?;
    let kind = file.metadata()?;
    Ok(bounded(file, if kind.is_file() { kind.len() } else { 0 }))
}

/// A file of the length 0 is empty, or one of the kernel's, which tell no length.
fn bounded(file: File, length: u64) -> io::Take<File> {
    file.take(if length == 0 { u64::MAX } else { length })
}

/// Why a file that was met is not read.
pub(super) enum Closed {
    Skipped(Reason),
    Unreadable(io::Error),
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn of_a_file_that_grows_what_it_held_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, "before").unwrap();
        let mut met = open_met(&path).ok().unwrap();
        let mut named = open_named(&path).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b" and after").unwrap();
        for read in [&mut met as &mut dyn Read, &mut named] {
            let mut text = String::new();
            read.read_to_string(&mut text).unwrap();
            assert_eq!(text, "before");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_of_the_kernel_that_tells_no_length_is_read() {
        let mut text = String::new();
        open_named(Path::new("/proc/self/status")).unwrap().read_to_string(&mut text).unwrap();
        assert!(text.starts_with("Name:"), "{text}");
    }

    #[test]
    #[cfg(unix)]
    fn what_took_a_files_place_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        assert!(matches!(open_met(&path), Err(Closed::Skipped(Reason::Gone))));
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(matches!(open_met(&path), Err(Closed::Unreadable(_))));
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(matches!(open_met(&pipe), Err(Closed::Skipped(Reason::Special))));
    }
}
