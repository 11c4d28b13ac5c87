//! What is written down about a run before its command starts: for others that want to start one meanwhile, and for the case
//! that nobody sees its end.
//!
//! A file of this program's own folder, durable before it counts: written under another name, synced, renamed. The process
//! that answers for the run holds it locked, and the kernel lets the lock go with the process, whatever ended it. So a
//! note that can be locked is of a run whose process is gone. Whoever looks through the notes, or writes one, holds the folder
//! locked for these few milliseconds: of two commands that would be in each other's way one sees the other's note.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use types::{Digest, TurnId};
use workspace::{Fingerprint, Survey};

use crate::image::builder;

/// The first word, which says how the rest is to be read.
const FORMAT: &[u8] = b"ironclaw-run-3";

const ENDING: &str = "run";

/// What a note is called while it is being written.
const PARTIAL: &str = "partial";

/// The file that holds the name of this installation.
pub(crate) const INSTALLATION: &str = "installation";

/// What is written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    /// The name of the container.
    pub(crate) container: String,
    /// The number of the record of the decision.
    pub(crate) of: u64,
    /// The turn of that record.
    pub(crate) turn: TurnId,
    /// Where the workspace was, links resolved.
    pub(crate) workspace: PathBuf,
    /// What tells it, and each folder above it, from folders that take their places. Never empty.
    pub(crate) line: Vec<Fingerprint>,
    /// Whether the command may change it.
    pub(crate) writes: bool,
    /// What some program obeyed in it before; none as long as the command cannot have changed anything.
    pub(crate) survey: Option<Survey>,
}

/// The folder of the notes of one installation.
#[derive(Clone, Debug)]
pub(crate) struct Notes(PathBuf);

/// The note of a run that this process answers for, or puts in order. The lock ends when it is dropped, and with it a note
/// of a run that never had a container.
#[derive(Debug)]
pub(crate) struct Note {
    path: PathBuf,
    lock: File,
    stays: bool,
}

/// A note that was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Somebody answers for the run.
    Alive(Content),
    /// Nobody does.
    Left(Note, Content),
    /// Nobody does, and it cannot be told what the run was.
    Unreadable(PathBuf),
}

/// Another run is where this one would be in its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Busy;

impl Notes {
    /// The notes in a folder, which is made where there is none.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }

    /// Writes the note of a run, unless one that somebody answers for is in its way; gives the other notes too. Once this
    /// returns, the note outlives this process and the machine's next start.
    pub(crate) fn claim(&self, content: &Content) -> io::Result<Result<(Note, Vec<Found>), Busy>> {
        let _alone = self.alone()?;
        let all = self.all()?;
        if all.iter().any(|found| matches!(found, Found::Alive(other) if other.is_in_the_way_of(content))) {
            return Ok(Err(Busy));
        }
        let path = self.0.join(&content.container).with_extension(ENDING);
        let lock = write(&path, content)?;
        Ok(Ok((Note { path, lock, stays: false }, all)))
    }

    /// Writes the note of a run anew; from now on it stays until it is erased.
    pub(crate) fn rewrite(&self, note: &mut Note, content: &Content) -> io::Result<()> {
        let _alone = self.alone()?;
        note.lock = write(&note.path, content)?;
        note.stays = true;
        Ok(())
    }

    /// Removes what dead processes left in the folder beside their notes, and gives the containers of the runs that somebody
    /// answers for. A file of a run is called as its container ends, and made only once the run has a note.
    pub(crate) fn clear(&self) -> io::Result<Vec<String>> {
        let _alone = self.alone()?;
        let (litter, alive) = self.look()?;
        for path in litter {
            match path.is_dir() {
                // A builder that outlived its process may be at work in it still: it is tried again.
                true => _ = std::fs::remove_dir_all(&path),
                false => remove_file(&path)?,
            }
        }
        Ok(alive)
    }

    /// What [`Notes::clear`] would remove, and what it gives.
    pub(crate) fn litter(&self) -> io::Result<(Vec<PathBuf>, Vec<String>)> {
        let _alone = self.alone()?;
        self.look()
    }

    /// All notes.
    pub(crate) fn found(&self) -> io::Result<Vec<Found>> {
        let _alone = self.alone()?;
        self.all()
    }

    fn look(&self) -> io::Result<(Vec<PathBuf>, Vec<String>)> {
        let alive = self.all()?.into_iter().filter_map(|found| match found {
            Found::Alive(content) => Some(content.container),
            _ => None,
        });
        let alive: Vec<String> = alive.collect();
        let mut litter = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let (Some(name), ending) = (path.file_stem().and_then(OsStr::to_str), path.extension()) else {
                continue;
            };
            let is_of_a_run =
                kind.is_socket() || ["pem", "p12"].map(|own| Some(OsStr::new(own))).contains(&ending);
            let name = name.trim_end_matches(".pem");
            let is_litter = match is_of_a_run {
                true => !alive.iter().any(|container| container.ends_with(name)),
                false if kind.is_dir() => name.starts_with(builder::FOLDER) && !is_locked(&path),
                // Nobody is writing a note now, whatever else is being written has a process in its name.
                false => ending == Some(OsStr::new(PARTIAL)) && !is_being_written(name),
            };
            litter.extend(is_litter.then_some(path));
        }
        Ok((litter, alive))
    }

    /// A name that no other installation has, for what is kept where others keep theirs.
    pub(crate) fn installation(&self) -> io::Result<String> {
        let _alone = self.alone()?;
        let path = self.0.join(INSTALLATION);
        match std::fs::read_to_string(&path) {
            Ok(name) if TurnId::parse(&name).is_some() => return Ok(name),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let name = TurnId::new().to_string();
        let mut file = create(&path.with_extension(PARTIAL))?;
        file.write_all(name.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(path.with_extension(PARTIAL), &path)?;
        sync(&self.0)?;
        Ok(name)
    }

    fn all(&self) -> io::Result<Vec<Found>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension() == Some(OsStr::new(ENDING)) {
                all.extend(Note::find(path)?);
            }
        }
        Ok(all)
    }

    /// Holds others off the folder, until what this gives is dropped.
    fn alone(&self) -> io::Result<File> {
        let folder = File::open(&self.0)?;
        folder.lock()?;
        Ok(folder)
    }
}

impl Note {
    fn find(path: PathBuf) -> io::Result<Option<Found>> {
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let is_alive = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        // It may have been put in order and removed before it was locked.
        let opened = file.metadata()?;
        if !std::fs::metadata(&path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (opened.dev(), opened.ino()))
        {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(match (Content::parse(&bytes), is_alive) {
            (Some(content), true) => Found::Alive(content),
            (Some(content), false) => Found::Left(Self { path, lock: file, stays: true }, content),
            (None, _) => Found::Unreadable(path),
        }))
    }

    /// Removes the note: what it was for is done.
    pub(crate) fn erase(mut self) -> io::Result<()> {
        remove_file(&self.path)?;
        self.stays = true;
        sync(self.path.parent().unwrap_or(Path::new("/")))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if !self.stays {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes a note in one step, and gives the lock of it.
fn write(path: &Path, content: &Content) -> io::Result<File> {
    let partial = path.with_extension(PARTIAL);
    let mut file = create(&partial)?;
    // Before anybody else can find it.
    file.lock()?;
    file.write_all(&content.to_bytes())?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    sync(path.parent().unwrap_or(Path::new("/")))?;
    Ok(file)
}

/// A new file. What a dead process left under its name is in nobody's way, since nobody else writes now.
fn create(path: &Path) -> io::Result<File> {
    remove_file(path)?;
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Removes a file if it is there.
fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Content {
    /// What tells the workspace from a folder that takes its place.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.line.first().copied()
    }

    /// Whether one of two workspaces is the other or in it, by their names or, whatever they are called by now, by what
    /// tells folders from each other.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let is_in = |inner: &Self, outer: &Self| {
            let known = outer.fingerprint().filter(|fingerprint| fingerprint.is_whole());
            inner.workspace.starts_with(&outer.workspace)
                || known.is_some_and(|known| inner.line.contains(&known))
        };
        is_in(self, other) || is_in(other, self)
    }

    /// Whether one of two runs would change what the other sees.
    fn is_in_the_way_of(&self, other: &Self) -> bool {
        (self.writes || other.writes) && self.overlaps(other)
    }

    /// Words that each end in NUL, which none of them holds, after the digest of them all.
    fn to_bytes(&self) -> Vec<u8> {
        let (of, turn) = (self.of.to_string(), self.turn.to_string());
        let numbers = |one: &Fingerprint| format!("{}-{}", one.inode, one.made);
        let line = self.line.iter().map(numbers).collect::<Vec<_>>().join(" ");
        let kind: &[u8] = match (self.writes, &self.survey) {
            (false, _) => b"reads",
            (true, None) => b"begins",
            (true, Some(_)) => b"writes",
        };
        let (container, workspace) = (self.container.as_bytes(), self.workspace.as_os_str().as_bytes());
        let words = [FORMAT, container, of.as_bytes(), turn.as_bytes(), workspace, line.as_bytes(), kind];
        let mut body: Vec<u8> = words.iter().flat_map(|word| word.iter().copied().chain([0])).collect();
        body.extend(self.survey.iter().flat_map(Survey::to_bytes));
        let digest = Digest::of(&body).to_string();
        [digest.as_bytes(), &[0], &body].concat()
    }

    /// Reads a note. Only what [`Content::to_bytes`] would write again is accepted.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.splitn(9, |byte| *byte == 0);
        let (_digest, format) = (words.next()?, words.next()?);
        let mut text = || std::str::from_utf8(words.next()?).ok();
        let (container, of, turn) = (text()?.to_owned(), text()?.parse().ok()?, TurnId::parse(text()?)?);
        let workspace = PathBuf::from(OsStr::from_bytes(words.next()?));
        let numbers = |word: &str| {
            let (inode, made) = word.split_once('-')?;
            Some(Fingerprint { inode: inode.parse().ok()?, made: made.parse().ok()? })
        };
        let line = std::str::from_utf8(words.next()?).ok()?.split(' ').map(numbers).collect::<Option<_>>()?;
        let (writes, survey) = match (words.next()?, words.next()?) {
            (b"writes", survey) => (true, Some(Survey::parse(survey).ok()?)),
            (b"begins", b"") => (true, None),
            (b"reads", b"") => (false, None),
            _ => return None,
        };
        let content = Self { container, of, turn, workspace, line, writes, survey };
        (format == FORMAT && content.to_bytes() == bytes).then_some(content)
    }
}

/// Whether a file is being written by a living process, as its name says: `init-PROCESS-NUMBER`.
fn is_being_written(name: &str) -> bool {
    let process = name.split('-').nth(1).filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    process.is_some_and(|process| Path::new("/proc").join(process).exists())
}

/// Whether somebody holds a folder locked, as a builder does with its own.
fn is_locked(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|folder| matches!(folder.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Makes the names of a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use proptest::prelude::*;
    use workspace::{SafeFolder, Surroundings};

    use super::*;

    /// A folder that some program obeys something in.
    fn work() -> tempfile::TempDir {
        let work = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(work.path().join(".git/hooks")).unwrap();
        std::os::unix::fs::symlink("elsewhere", work.path().join("AGENTS.md")).unwrap();
        work
    }

    fn content(container: &str, workspace: &Path, writes: bool) -> Content {
        let safe = SafeFolder::check(workspace, &Surroundings::default()).unwrap();
        let content = Content {
            container: container.to_owned(),
            of: 17,
            turn: TurnId::new(),
            workspace: safe.path().to_owned(),
            line: Fingerprint::line(safe.path()).unwrap(),
            writes,
            survey: writes.then(|| Survey::of(&safe).unwrap()),
        };
        assert_eq!(content.fingerprint(), safe.fingerprint().ok());
        content
    }

    fn claim(notes: &Notes, content: &Content) -> Note {
        notes.claim(content).unwrap().unwrap().0
    }

    #[test]
    fn a_note_is_of_a_run_that_is_answered_for_until_its_process_lets_go() {
        let (folder, work) = (tempfile::tempdir().unwrap(), work());
        let notes = Notes::open(&folder.path().join("made")).unwrap();
        assert!(notes.all().unwrap().is_empty());
        let written = content("ironclaw-a", work.path(), true);
        let mut note = claim(&notes, &Content { survey: None, ..written.clone() });
        notes.rewrite(&mut note, &written).unwrap();
        let all = notes.all().unwrap();
        assert!(matches!(&all[..], [Found::Alive(content)] if *content == written), "{all:?}");
        drop(note);
        let mut all = notes.all().unwrap();
        let Some(Found::Left(note, content)) = all.pop() else { panic!("{all:?}") };
        assert_eq!(content, written);
        // Whoever puts it in order has it alone, and then it is gone.
        assert!(matches!(&notes.all().unwrap()[..], [Found::Alive(_)]));
        note.erase().unwrap();
        assert!(notes.all().unwrap().is_empty());
        // One of a run that came to nothing goes by itself.
        drop(claim(&notes, &written));
        assert_eq!(std::fs::read_dir(folder.path().join("made")).unwrap().count(), 0);
    }

    #[test]
    fn f01_of_two_runs_in_folders_of_each_other_one_that_changes_something_is_alone() {
        let (folder, work) = (tempfile::tempdir().unwrap(), work());
        let notes = Notes::open(folder.path()).unwrap();
        let (inner, beside) = (work.path().join("a/b"), work.path().join("ab"));
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::create_dir(&beside).unwrap();
        let places = [work.path(), inner.as_path()];
        for (one, other) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
            for (first, second, busy) in
                [(true, true, true), (true, false, true), (false, true, true), (false, false, false)]
            {
                let note = claim(&notes, &content("ironclaw-a", places[one], first));
                let next = content("ironclaw-b", places[other], second);
                assert_eq!(notes.claim(&next).unwrap().is_err(), busy, "{one} {other} {first} {second}");
                // Whatever the folder above both is called by now.
                let renamed =
                    Content { workspace: Path::new("/renamed").join(other.to_string()), ..next.clone() };
                assert_eq!(notes.claim(&renamed).unwrap().is_err(), busy, "{one} {other} {first} {second}");
                // Nobody waits for the dead.
                drop(note);
                drop(claim(&notes, &next));
            }
        }
        let _inner = claim(&notes, &content("ironclaw-a", &inner, true));
        drop(claim(&notes, &content("ironclaw-b", &beside, true)));
        // A folder without a time tells nothing by its number, which is another's elsewhere.
        let blind = |path: &str, numbers: [u64; 2]| {
            let line = numbers.map(|inode| Fingerprint { inode, made: 0 }).to_vec();
            Content { workspace: path.into(), line, ..content("ironclaw-c", &inner, true) }
        };
        assert!(!blind("/x", [7, 2]).overlaps(&blind("/y/z", [2, 7])));
        assert!(blind("/x", [7, 2]).overlaps(&blind("/x/z", [8, 9])));
    }

    #[test]
    fn what_dead_processes_left_is_cleared_and_nothing_of_the_living() {
        let (folder, work) = (tempfile::tempdir().unwrap(), work());
        let notes = Notes::open(folder.path()).unwrap();
        let name = notes.installation().unwrap();
        assert_eq!(notes.installation().unwrap(), name);
        let _note = claim(&notes, &content("ironclaw-run-alive", work.path(), true));
        let _doors = ["alive", "dead"].map(|run| UnixListener::bind(folder.path().join(run)).unwrap());
        // No process has a number of so many digits.
        let (living, dead) = (format!("init-{}-1.partial", std::process::id()), "init-99999999999-1.partial");
        for name in [
            "alive.pem",
            "alive.pem.p12",
            "dead.pem",
            "dead.pem.p12",
            &living,
            dead,
            "ironclaw-x.partial",
            "init-0011",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(notes.clear().unwrap(), ["ironclaw-run-alive"]);
        let left = std::fs::read_dir(folder.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut expected = [
            "alive",
            "alive.pem",
            "alive.pem.p12",
            &living,
            "init-0011",
            "installation",
            "ironclaw-run-alive.run",
        ];
        expected.sort();
        assert_eq!(left, expected);
        // A name that is none is not kept.
        std::fs::write(folder.path().join(INSTALLATION), "torn").unwrap();
        assert_ne!(notes.installation().unwrap(), "torn");
    }

    #[test]
    fn what_is_not_exactly_a_note_cannot_be_read() {
        let (folder, work) = (tempfile::tempdir().unwrap(), work());
        let notes = Notes::open(folder.path()).unwrap();
        let written = content("ironclaw-a", work.path(), true);
        for content in [
            Content { survey: None, ..written.clone() },
            Content { survey: None, writes: false, ..written.clone() },
            written.clone(),
        ] {
            let whole = content.to_bytes();
            assert_eq!(Content::parse(&whole).as_ref(), Some(&content));
            for at in 0..whole.len() {
                assert_eq!(Content::parse(&whole[..at]), None);
                let mut other = whole.clone();
                other[at] ^= 1;
                assert_eq!(Content::parse(&other), None, "{at}");
            }
        }
        let whole = written.to_bytes();
        std::fs::write(folder.path().join("torn.run"), &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(&notes.all().unwrap()[..], [Found::Unreadable(_)]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Content::parse(&bytes), None);
        }
    }
}
