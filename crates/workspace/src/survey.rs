//! What some program obeys in a folder that a command may change: found before, compared after.
//!
//! A guarded name that exists is mounted read-only, and every folder above it is a mount of its own: a mount point
//! cannot be renamed, so no other file can take its place. A guarded name that appears during the run cannot be
//! prevented and is moved out of the way afterwards, wherever it is.

mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Dir, PermissionsExt as _, ReadDir};

use crate::guard::obeyed;
use crate::path::{MAX_SEGMENTS, Quoted};
use crate::{SafeFolder, UnsafeFolder};

pub use written::UnreadableSurvey;

/// How many guarded names and folders above them can be mounts. Each costs the start of a container a little.
const MAX_MOUNTS: usize = 512;

/// How many names are looked at before a run. Afterwards all are, however many the command made, for as long as the caller
/// has time.
const MAX_CHECKED: usize = 200_000;

/// The longest name that file systems take, in bytes.
const LONGEST_NAME: usize = 255;

/// The guarded names of a folder, as they stood before a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Survey {
    /// Paths inside the folder; for a link, where it pointed.
    guarded: BTreeMap<PathBuf, Option<PathBuf>>,
    /// Folders that could not be looked into then either.
    closed: BTreeSet<PathBuf>,
    /// What guarded links inside the folder lead to inside the folder.
    behind_links: BTreeSet<PathBuf>,
}

/// How a part of a workspace is mounted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Part {
    /// Its path inside the workspace.
    pub path: PathBuf,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// What a walk through a folder comes across.
enum Sight {
    /// A name that some program obeys, and where it points if it is a link.
    Guarded(Option<PathBuf>),
    /// A folder that cannot be looked into.
    Closed,
    /// Anything else, to be counted.
    Other,
}

impl Survey {
    /// Looks for guarded names.
    pub fn of(folder: &SafeFolder) -> Result<Self, UnsafeFolder> {
        let mut survey = Self::default();
        let mut left = MAX_CHECKED;
        let mut all = false;
        let names = folder.dir.entries().map_err(|_| UnsafeFolder::NotAFolder)?;
        let _ = walk(&folder.dir, names, Path::new(""), MAX_SEGMENTS, &mut |_, _, path, sight| {
            match sight {
                Sight::Guarded(link) => {
                    let led = link.as_ref().and_then(|_| inside(folder.path(), path));
                    match led {
                        Some(led) if led.as_os_str().is_empty() => all = true,
                        led => survey.behind_links.extend(led),
                    }
                    survey.guarded.insert(path.to_owned(), link);
                }
                Sight::Closed => _ = survey.closed.insert(path.to_owned()),
                Sight::Other => left -= 1,
            }
            if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let parts = survey.parts();
        match parts.iter().find(|part| part.path.to_str().is_none()) {
            _ if left == 0 => Err(UnsafeFolder::TooLarge),
            _ if all => Err(UnsafeFolder::Obeyed),
            _ if parts.len() > MAX_MOUNTS => Err(UnsafeFolder::TooManyGuarded),
            Some(part) => Err(UnsafeFolder::NotText(Quoted(part.path.clone()))),
            None => Ok(survey),
        }
    }

    /// What must be a mount of its own, outermost first.
    pub fn parts(&self) -> Vec<Part> {
        let closed: BTreeSet<&Path> = self
            .guarded
            .iter()
            .filter(|(_, link)| link.is_none())
            .map(|(path, _)| path.as_path())
            .chain(self.behind_links.iter().map(PathBuf::as_path))
            .collect();
        let above = |path: &Path| path.ancestors().skip(1).any(|above| closed.contains(above));
        let mut parts = BTreeMap::new();
        for path in self.guarded.keys().chain(&self.behind_links).filter(|path| !above(path)) {
            for folder in path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
                parts.entry(folder.to_owned()).or_insert(false);
            }
            if closed.contains(path.as_path()) {
                parts.insert(path.clone(), true);
            }
        }
        parts.into_iter().map(|(path, read_only)| Part { path, read_only }).collect()
    }

    /// Compares the folder with what it was: guarded names that are new, links that were turned, what guarded links lead to
    /// only since then, and folders that cannot be looked into are moved into a folder `quarantine` of the workspace, and
    /// links are set back.
    /// Gives the paths that were moved. Whoever filled the folder chose how much there is to look through: after `time` it is an
    /// error, with all moved that was found until then.
    pub fn settle(&self, folder: &SafeFolder, quarantine: &str, time: Duration) -> io::Result<Vec<PathBuf>> {
        let begun = Instant::now();
        let mut moved = Vec::new();
        let mut failed = Ok(());
        let mut found = BTreeSet::new();
        let names = folder.dir.entries().or_else(|_| {
            give_back(&folder.dir, Path::new("."))?;
            folder.dir.entries()
        })?;
        let walked =
            walk(&folder.dir, names, Path::new(""), MAX_SEGMENTS, &mut |parent, name, path, sight| {
                if begun.elapsed() > time {
                    return ControlFlow::Break(());
                }
                let unchanged = match &sight {
                    Sight::Guarded(link) => self.guarded.get(path) == Some(link),
                    Sight::Closed => self.closed.contains(path),
                    Sight::Other => return ControlFlow::Continue(()),
                };
                if unchanged {
                    found.insert(path.to_owned());
                } else {
                    match put_away(&folder.dir, quarantine, moved.len(), parent, name) {
                        Ok(()) => moved.push(path.to_owned()),
                        Err(error) => failed = Err(error),
                    }
                }
                ControlFlow::Continue(())
            });
        failed?;
        if walked.is_break() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        for (path, target) in &self.guarded {
            if let (Some(target), false) = (target, found.contains(path)) {
                match folder.dir.symlink_contents(target, path) {
                    // The folder that it was in is gone too, which its owner alone can have done.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        for path in self.guarded.iter().filter_map(|(path, link)| link.as_ref().and(Some(path))) {
            let Some(led) = inside(folder.path(), path).filter(|led| !self.knows(led)) else { continue };
            // What leads to the workspace itself makes a program obey all of it; what can be moved away is the link.
            let led = if led.as_os_str().is_empty() { path.clone() } else { led };
            let (above, name) = (led.parent(), led.file_name().unwrap_or_default());
            let parent = folder
                .dir
                .open_dir(above.filter(|above| *above != Path::new("")).unwrap_or(Path::new(".")))?;
            put_away(&folder.dir, quarantine, moved.len(), &parent, name)?;
            moved.push(led);
        }
        Ok(moved)
    }

    /// Whether this is, or lies in, what was obeyed before.
    fn knows(&self, path: &Path) -> bool {
        path.ancestors().any(|at| self.behind_links.contains(at) || self.guarded.contains_key(at))
    }
}

/// Where a link inside a folder leads to, if that is inside it too; nothing but an empty path for the folder itself.
fn inside(root: &Path, link: &Path) -> Option<PathBuf> {
    let target = root.join(link).canonicalize().ok()?;
    Some(target.strip_prefix(root).ok()?.to_owned())
}

/// Calls `see` with the folder, the name, the path and what is there, for every name below a folder until it breaks. Does
/// not look into what is guarded, nor into what is nested too deep or does not list its names. Of a folder that can be
/// entered but not read programs still find what they ask for by name.
fn walk(
    folder: &Dir,
    names: ReadDir,
    at: &Path,
    levels: usize,
    see: &mut impl FnMut(&Dir, &OsStr, &Path, Sight) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for entry in names.flatten() {
        let name = entry.file_name();
        let path = at.join(&name);
        let Ok(kind) = entry.file_type() else { continue };
        if obeyed(&path, kind.is_dir()).is_some() {
            let link = kind.is_symlink().then(|| folder.read_link_contents(&name).unwrap_or_default());
            see(folder, &name, &path, Sight::Guarded(link))?;
            continue;
        }
        see(folder, &name, &path, Sight::Other)?;
        if kind.is_dir() {
            // Opening a folder takes no right to it; reading it does.
            match folder.open_dir_nofollow(&name).and_then(|below| Ok((below.entries()?, below))) {
                Ok((names, below)) if levels > 0 => walk(&below, names, &path, levels - 1, see)?,
                _ => see(folder, &name, &path, Sight::Closed)?,
            }
        }
    }
    ControlFlow::Continue(())
}

/// Renames one name into the quarantine, under a number that keeps names apart and makes none of them guarded.
fn put_away(root: &Dir, quarantine: &str, number: usize, parent: &Dir, name: &OsStr) -> io::Result<()> {
    let number = format!("{number}-");
    let kept = &name.as_bytes()[..name.len().min(LONGEST_NAME - number.len())];
    let away = [number.as_bytes(), kept].concat();
    let put = || {
        match root.create_dir(quarantine) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        parent.rename(name, &root.open_dir_nofollow(quarantine)?, OsStr::from_bytes(&away))
    };
    match put() {
        // Whoever makes a folder can take the right to change it away, so that nothing in it can be moved.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            give_back(root, Path::new("."))?;
            give_back(parent, Path::new("."))?;
            if parent.symlink_metadata(name)?.is_dir() {
                give_back(parent, Path::new(name))?;
            }
            put()
        }
        outcome => outcome,
    }
}

/// Gives the owner of a folder every right to it.
fn give_back(parent: &Dir, folder: &Path) -> io::Result<()> {
    let mut permissions = parent.symlink_metadata(folder)?.permissions();
    permissions.set_mode(permissions.mode() | 0o700);
    parent.set_permissions(folder, permissions)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::Surroundings;

    const LONG: Duration = Duration::from_secs(600);

    fn folder(files: &[&str]) -> (tempfile::TempDir, SafeFolder) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "as it was").unwrap();
        }
        let safe = SafeFolder::check(dir.path(), &Surroundings::default()).unwrap();
        (dir, safe)
    }

    fn parts(survey: &Survey) -> Vec<(String, bool)> {
        survey.parts().into_iter().map(|part| (part.path.display().to_string(), part.read_only)).collect()
    }

    #[test]
    fn m03_every_folder_above_a_guarded_name_is_a_part_of_its_own() {
        let (_dir, safe) =
            folder(&[".git/hooks/x", ".git/config", ".git/objects/a", "a/b/.mcp.json", "src/main.rs"]);
        assert_eq!(
            parts(&Survey::of(&safe).unwrap()),
            [
                (".git".to_owned(), false),
                (".git/config".to_owned(), true),
                (".git/hooks".to_owned(), true),
                ("a".to_owned(), false),
                ("a/b".to_owned(), false),
                ("a/b/.mcp.json".to_owned(), true),
            ]
        );
    }

    #[test]
    fn m03_what_a_guarded_link_leads_to_is_read_only_too() {
        let (dir, safe) = folder(&[".git/HEAD", "scripts/hooks/pre-commit"]);
        symlink("../scripts/hooks", dir.path().join(".git/hooks")).unwrap();
        assert_eq!(
            parts(&Survey::of(&safe).unwrap()),
            [(".git".to_owned(), false), ("scripts".to_owned(), false), ("scripts/hooks".to_owned(), true)]
        );
    }

    #[test]
    fn f02_guarded_names_that_appear_at_any_depth_are_moved_away() {
        let (dir, safe) = folder(&[".git/hooks/x", ".git/config", "src/main.rs"]);
        symlink("elsewhere", dir.path().join("AGENTS.md")).unwrap();
        let survey = Survey::of(&safe).unwrap();
        assert!(survey.settle(&safe, "quarantine", LONG).unwrap().is_empty());
        assert!(!dir.path().join("quarantine").exists());

        fs::create_dir_all(dir.path().join("deep/down/.vscode")).unwrap();
        fs::write(dir.path().join("deep/down/.vscode/tasks.json"), "{}").unwrap();
        fs::create_dir_all(dir.path().join("other/.git/hooks")).unwrap();
        fs::write(dir.path().join(".BashRC"), "x").unwrap();
        fs::remove_file(dir.path().join("AGENTS.md")).unwrap();
        symlink("attack", dir.path().join("AGENTS.md")).unwrap();
        let deep = "d/".repeat(MAX_SEGMENTS + 2);
        fs::create_dir_all(dir.path().join(&deep).join(".husky")).unwrap();

        let moved = survey.settle(&safe, "quarantine", LONG).unwrap();
        assert_eq!(moved.len(), 5, "{moved:?}");
        for gone in ["deep/down/.vscode", "other/.git/hooks", ".BashRC"] {
            assert!(!dir.path().join(gone).exists(), "{gone}");
        }
        assert!(!dir.path().join(deep).join(".husky").exists());
        assert_eq!(fs::read_link(dir.path().join("AGENTS.md")).unwrap(), Path::new("elsewhere"));
        // What was nested too deep to be looked at is so no longer, and holds what was hidden there.
        let again = survey.settle(&safe, "again", LONG).unwrap();
        assert!(
            again.len() == 1 && again[0].starts_with("quarantine") && again[0].ends_with(".husky"),
            "{again:?}"
        );
    }

    #[test]
    fn f02_what_a_guarded_link_leads_to_only_since_is_moved_away() {
        let (dir, safe) = folder(&["v1/rules", "v1/hooks/a"]);
        let link = |to: &str, at: &str| symlink(to, dir.path().join(at)).unwrap();
        link("build/envrc", ".envrc");
        link("v1", "current");
        link("current/rules", "AGENTS.md");
        link("v1/hooks", ".githooks");
        let survey = Survey::of(&safe).unwrap();
        let survey = Survey::parse(&survey.to_bytes()).unwrap();
        assert!(survey.settle(&safe, "quarantine", LONG).unwrap().is_empty());
        for (path, text) in [("build/envrc", "planted"), ("v2/rules", "planted"), ("v1/hooks/a", "as it was")]
        {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), text).unwrap();
        }
        fs::remove_file(dir.path().join("current")).unwrap();
        link("v2", "current");
        let moved = survey.settle(&safe, "quarantine", LONG).unwrap();
        assert_eq!(moved, [Path::new("build/envrc"), Path::new("v2/rules")].map(|path| path.to_owned()));
        assert!(!dir.path().join(".envrc").exists() && !dir.path().join("AGENTS.md").exists());
        assert!(dir.path().join(".githooks/a").exists() && dir.path().join("v1/rules").exists());
    }

    #[test]
    fn f02_a_guarded_link_that_leads_to_the_workspace_itself_is_not_left_there() {
        let (dir, safe) = folder(&["build/hooks/pre-commit"]);
        symlink("build/hooks", dir.path().join(".githooks")).unwrap();
        let survey = Survey::of(&safe).unwrap();
        // From now on every name in the workspace is a hook's.
        fs::rename(dir.path().join("build/hooks"), dir.path().join("build/was")).unwrap();
        symlink("..", dir.path().join("build/hooks")).unwrap();
        fs::write(dir.path().join("pre-commit"), "planted").unwrap();
        assert_eq!(survey.settle(&safe, "quarantine", LONG).unwrap(), [Path::new(".githooks")]);
        assert!(dir.path().join(".githooks").symlink_metadata().is_err());
        assert_eq!(
            fs::read_link(dir.path().join("quarantine/0-.githooks")).unwrap(),
            Path::new("build/hooks")
        );
        // One that does already is no workspace for a command that writes.
        symlink(".", dir.path().join(".husky")).unwrap();
        assert_eq!(Survey::of(&safe).unwrap_err(), UnsafeFolder::Obeyed);
    }

    /// Runs a test again as a user whom modes hold back, where it was started as root; whether it did.
    #[expect(clippy::disallowed_methods, reason = "this test program itself, as somebody else")]
    fn ran_as_nobody(test: &str) -> bool {
        use std::os::unix::process::CommandExt as _;
        if !rustix::process::geteuid().is_root() {
            return false;
        }
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let program = place.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let again = std::process::Command::new(program)
            .args(["--exact", test, "--nocapture"])
            .current_dir(place.path())
            .env_clear()
            .gid(65_534)
            .uid(65_534)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(again.status.success() && said.contains("1 passed"), "{said}");
        true
    }

    #[test]
    fn f02_no_mode_hides_or_holds_fast_what_appeared() {
        if ran_as_nobody("survey::tests::f02_no_mode_hides_or_holds_fast_what_appeared") {
            return;
        }
        let mode = |path: &Path, mode: u32| {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        // What git and shells find by its name in a folder that does not tell its names.
        for closed in [0o311, 0o111, 0o444, 0o000] {
            let (dir, safe) = folder(&["src/main.rs"]);
            let survey = Survey::of(&safe).unwrap();
            fs::write(dir.path().join("src/.envrc"), "x").unwrap();
            mode(&dir.path().join("src"), closed);
            assert_eq!(survey.settle(&safe, "quarantine", LONG).unwrap(), [Path::new("src")], "{closed:o}");
            assert!(!dir.path().join("src").exists());
            mode(&dir.path().join("quarantine/0-src"), 0o700);
        }
        // What cannot be moved out of a folder, and the folder of all.
        for (place, held) in [("src", 0o555), ("", 0o555), ("", 0o311)] {
            let (dir, safe) = folder(&["src/main.rs"]);
            let survey = Survey::of(&safe).unwrap();
            let planted = Path::new(place).join(".github");
            fs::create_dir(dir.path().join(&planted)).unwrap();
            mode(&dir.path().join(&planted), 0o555);
            mode(&dir.path().join(place), held);
            let moved = survey.settle(&safe, "quarantine", LONG).unwrap();
            assert!(moved.len() == 1 && moved[0] == planted, "{place} {held:o}: {moved:?}");
            assert!(!dir.path().join(planted).exists() && dir.path().join("src/main.rs").exists());
        }
        // A name that leaves no room for a number before it.
        let (dir, safe) = folder(&["src/main.rs"]);
        let survey = Survey::of(&safe).unwrap();
        let long = "l".repeat(LONGEST_NAME);
        fs::create_dir(dir.path().join(&long)).unwrap();
        mode(&dir.path().join(&long), 0o000);
        assert_eq!(survey.settle(&safe, "quarantine", LONG).unwrap(), [Path::new(&long)]);
        mode(&dir.path().join(format!("quarantine/0-{}", &long[2..])), 0o700);
        // One that cannot be looked into beforehand is not lent: a socket may be in it.
        let (other, _) = folder(&["src/main.rs"]);
        mode(&other.path().join("src"), 0o311);
        let refused = SafeFolder::check(other.path(), &Surroundings::default()).unwrap_err();
        assert_eq!(refused, UnsafeFolder::Closed(Quoted("src".into())));
        mode(&other.path().join("src"), 0o700);
        // Nothing is said of a folder that nobody can look into.
        mode(dir.path(), 0o000);
        assert!(survey.settle(&safe, "again", LONG).is_err());
        mode(dir.path(), 0o700);
    }

    #[test]
    fn a_folder_that_takes_longer_than_there_is_time_is_an_error() {
        let (dir, safe) = folder(&["src/main.rs"]);
        let survey = Survey::of(&safe).unwrap();
        fs::write(dir.path().join(".bashrc"), "x").unwrap();
        let late = survey.settle(&safe, "quarantine", Duration::ZERO).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert_eq!(survey.settle(&safe, "quarantine", LONG).unwrap(), [Path::new(".bashrc")]);
    }
}
