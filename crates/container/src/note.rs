//! What is written down about a run before its command starts, for the case that nobody sees its end.
//!
//! A file of this program's own folder, durable before it counts: written under another name, synced, renamed. The process
//! that answers for the run holds it locked, and the kernel lets the lock go with the process, whatever ended it. So a
//! note that can be locked is of a run whose process is gone.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use types::{Digest, TurnId};
use workspace::Survey;

/// The first word, which says how the rest is to be read.
const FORMAT: &[u8] = b"ironclaw-run-2";

const ENDING: &str = "run";

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
    /// What tells it from a folder that takes its place.
    pub(crate) fingerprint: (u64, u64),
    /// What some program obeyed in it before.
    pub(crate) survey: Survey,
}

/// The note of a run that this process answers for, or puts in order. The lock ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Note {
    path: PathBuf,
    _lock: File,
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

impl Note {
    /// Writes a note; once this returns, it outlives this process and the machine's next start.
    pub(crate) fn write(folder: &Path, content: &Content) -> io::Result<Self> {
        let path = folder.join(&content.container).with_extension(ENDING);
        let partial = path.with_extension("partial");
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&partial)?;
        // Before anybody else can find it.
        file.lock()?;
        file.write_all(&content.to_bytes())?;
        file.sync_all()?;
        std::fs::rename(&partial, &path)?;
        sync(folder)?;
        Ok(Self { path, _lock: file })
    }

    /// Looks through the notes of a folder.
    pub(crate) fn all(folder: &Path) -> io::Result<Vec<Found>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension() == Some(OsStr::new(ENDING)) {
                all.extend(Self::find(path)?);
            }
        }
        Ok(all)
    }

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
            (Some(content), false) => Found::Left(Self { path, _lock: file }, content),
            (None, _) => Found::Unreadable(path),
        }))
    }

    /// Removes the note: what it was for is done.
    pub(crate) fn erase(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)?;
        sync(self.path.parent().unwrap_or(Path::new("/")))
    }
}

impl Content {
    /// Words that each end in NUL, which none of them holds, after the digest of them all.
    fn to_bytes(&self) -> Vec<u8> {
        let (of, turn) = (self.of.to_string(), self.turn.to_string());
        let (inode, made) = (self.fingerprint.0.to_string(), self.fingerprint.1.to_string());
        let (container, workspace) = (self.container.as_bytes(), self.workspace.as_os_str().as_bytes());
        let words =
            [FORMAT, container, of.as_bytes(), turn.as_bytes(), workspace, inode.as_bytes(), made.as_bytes()];
        let mut body: Vec<u8> = words.iter().flat_map(|word| word.iter().copied().chain([0])).collect();
        body.extend(self.survey.to_bytes());
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
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
        let fingerprint = (number()?, number()?);
        let survey = Survey::parse(words.next()?).ok()?;
        let content = Self { container, of, turn, workspace, fingerprint, survey };
        (format == FORMAT && content.to_bytes() == bytes).then_some(content)
    }
}

/// Makes the names of a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use workspace::{SafeFolder, Surroundings};

    use super::*;

    fn content(container: &str) -> Content {
        let work = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(work.path().join(".git/hooks")).unwrap();
        std::os::unix::fs::symlink("elsewhere", work.path().join("AGENTS.md")).unwrap();
        let safe = SafeFolder::check(work.path(), &Surroundings::default()).unwrap();
        Content {
            container: container.to_owned(),
            of: 17,
            turn: TurnId::new(),
            workspace: safe.path().to_owned(),
            fingerprint: safe.fingerprint().unwrap(),
            survey: Survey::of(&safe).unwrap(),
        }
    }

    #[test]
    fn a_note_is_of_a_run_that_is_answered_for_until_its_process_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Note::all(folder.path()).unwrap().is_empty());
        let written = content("ironclaw-a");
        let note = Note::write(folder.path(), &written).unwrap();
        let all = Note::all(folder.path()).unwrap();
        assert!(matches!(&all[..], [Found::Alive(content)] if *content == written), "{all:?}");
        drop(note);
        let mut all = Note::all(folder.path()).unwrap();
        let Some(Found::Left(note, content)) = all.pop() else { panic!("{all:?}") };
        assert_eq!(content, written);
        // Whoever puts it in order has it alone, and then it is gone.
        assert!(matches!(&Note::all(folder.path()).unwrap()[..], [Found::Alive(_)]));
        note.erase().unwrap();
        assert!(Note::all(folder.path()).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_exactly_a_note_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let whole = content("ironclaw-a").to_bytes();
        assert!(Content::parse(&whole).is_some());
        for at in 0..whole.len() {
            assert_eq!(Content::parse(&whole[..at]), None);
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_eq!(Content::parse(&other), None, "{at}");
        }
        std::fs::write(folder.path().join("torn.run"), &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(&Note::all(folder.path()).unwrap()[..], [Found::Unreadable(_)]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Content::parse(&bytes), None);
        }
    }
}
