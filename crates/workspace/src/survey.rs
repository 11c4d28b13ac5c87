//! What some program obeys in a folder that a command may change: found before, compared after.
//!
//! A guarded name that exists is mounted read-only, and every folder above it is a mount of its own: a mount point
//! cannot be renamed, so no other file can take its place. A guarded name that appears during the run cannot be
//! prevented and is moved out of the way afterwards, wherever it is.

mod git;
mod quarantine;
mod shared;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Dir, ReadDir};

use crate::guard::obeyed;
use crate::path::{MAX_SEGMENTS, Quoted};
use crate::{SafeFolder, UnsafeFolder};

use quarantine::{Quarantine, give_back};
pub use written::UnreadableSurvey;

/// How many guarded names and folders above them can be mounts. Each costs the start of a container a little.
const MAX_MOUNTS: usize = 512;

/// How many names are looked at before a run. Afterwards all are, however many the command made, for as long as the caller
/// has time.
const MAX_CHECKED: usize = 200_000;

/// The guarded names of a folder, as they stood before a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Survey {
    /// Paths inside the folder; for a link, where it pointed.
    guarded: BTreeMap<PathBuf, Option<PathBuf>>,
    /// Folders that could not be looked into then either.
    closed: BTreeSet<PathBuf>,
    /// What guarded links inside the folder lead to inside the folder, and the other names of files that are obeyed.
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
        let (mut survey, mut linked) = Self::look(folder, &BTreeSet::new())?;
        // What git uses as its folder is known by what was found.
        let gits = git::folders(folder.path(), &survey.guarded);
        if !gits.is_empty() {
            (survey, linked) = Self::look(folder, &gits)?;
        }
        let obeyed = survey.guarded.keys().chain(&survey.behind_links);
        let shared = shared::files(&folder.dir, obeyed, MAX_CHECKED)?;
        let other_names = linked.into_iter().filter(|(file, _)| shared.contains(file));
        survey.behind_links.extend(other_names.map(|(_, path)| path));
        let parts = survey.parts();
        match parts.iter().find(|part| part.path.to_str().is_none()) {
            _ if parts.len() > MAX_MOUNTS => Err(UnsafeFolder::TooManyGuarded),
            Some(part) => Err(UnsafeFolder::NotText(Quoted(part.path.clone()))),
            None => Ok(survey),
        }
    }

    /// What is guarded by its name or behind a link, and beside it every other file that has a second name somewhere.
    fn look(
        folder: &SafeFolder,
        gits: &BTreeSet<PathBuf>,
    ) -> Result<(Self, Vec<(shared::File, PathBuf)>), UnsafeFolder> {
        let (mut survey, mut linked) = (Self::default(), Vec::new());
        let mut left = MAX_CHECKED;
        let mut all = false;
        let names = folder.dir.entries().map_err(|_| UnsafeFolder::NotAFolder)?;
        let _ =
            walk(&folder.dir, names, Path::new(""), MAX_SEGMENTS, gits, &mut |parent, name, path, sight| {
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
                    Sight::Other => {
                        left -= 1;
                        linked.extend(shared::File::of(parent, name).map(|file| (file, path.to_owned())));
                    }
                }
                if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
        match (left, all) {
            (0, _) => Err(UnsafeFolder::TooLarge),
            (_, true) => Err(UnsafeFolder::Obeyed),
            _ => Ok((survey, linked)),
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
    /// links are set back. What came from where is written down there, as the commands that move it back.
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
        let gits = git::folders(folder.path(), &self.guarded);
        let away = Quarantine::new(&folder.dir, quarantine);
        let mut settle = |parent: &Dir, name: &OsStr, path: &Path, sight: Sight| {
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
            } else if path != Path::new(quarantine) {
                match away.put(moved.len(), parent, name, path) {
                    Ok(()) => moved.push(path.to_owned()),
                    Err(error) => failed = Err(error),
                }
            }
            ControlFlow::Continue(())
        };
        let walked = walk(&folder.dir, names, Path::new(""), MAX_SEGMENTS, &gits, &mut settle);
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
            away.put(moved.len(), &parent, name, &led)?;
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
    gits: &BTreeSet<PathBuf>,
    see: &mut impl FnMut(&Dir, &OsStr, &Path, Sight) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for entry in names.flatten() {
        let name = entry.file_name();
        let path = at.join(&name);
        let Ok(kind) = entry.file_type() else { continue };
        if obeyed(&path, kind.is_dir(), gits).is_some() {
            let link = kind.is_symlink().then(|| folder.read_link_contents(&name).unwrap_or_default());
            see(folder, &name, &path, Sight::Guarded(link))?;
            continue;
        }
        see(folder, &name, &path, Sight::Other)?;
        if kind.is_dir() {
            // Opening a folder takes no right to it; reading it does.
            match folder.open_dir_nofollow(&name).and_then(|below| Ok((below.entries()?, below))) {
                Ok((names, below)) if levels > 0 => walk(&below, names, &path, levels - 1, gits, see)?,
                _ => see(folder, &name, &path, Sight::Closed)?,
            }
        }
    }
    ControlFlow::Continue(())
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
    fn m03_another_name_of_a_guarded_file_is_read_only_too() {
        let (dir, safe) = folder(&["scripts/pre-commit", ".git/hooks/x", "docs/rules", "free"]);
        let link = |from: &str, to: &str| fs::hard_link(dir.path().join(from), dir.path().join(to)).unwrap();
        link("scripts/pre-commit", ".git/hooks/pre-commit");
        symlink("docs/rules", dir.path().join("AGENTS.md")).unwrap();
        link("docs/rules", "rules");
        link("free", "also-free");
        let read_only = |survey: &Survey| {
            let parts = survey.parts().into_iter().filter(|part| part.read_only);
            parts.map(|part| part.path.display().to_string()).collect::<Vec<_>>()
        };
        let survey = Survey::of(&safe).unwrap();
        assert_eq!(read_only(&survey), [".git/hooks", "docs/rules", "rules", "scripts/pre-commit"]);
        // Over two commands: one makes a pair, the other would change what the owner has looked at since.
        fs::write(dir.path().join("x"), "harmless").unwrap();
        link("x", ".envrc");
        let quarantine = format!("{}0", crate::QUARANTINE);
        assert_eq!(survey.settle(&safe, &quarantine, LONG).unwrap(), [Path::new(".envrc")]);
        let survey = Survey::of(&safe).unwrap();
        let expected = [".git/hooks", "docs/rules", &quarantine, "rules", "scripts/pre-commit", "x"];
        assert_eq!(read_only(&survey), expected);
        assert!(survey.settle(&safe, "again", LONG).unwrap().is_empty());
    }

    #[test]
    fn f02_a_git_folder_of_another_name_is_known_by_what_makes_it_one() {
        let git = |at: &str| ["HEAD", "objects/a", "refs/b", "config"].map(|name| format!("{at}/{name}"));
        let files = [git("bare"), git("store/main")].concat();
        let (dir, safe) = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
        fs::create_dir(dir.path().join("tree")).unwrap();
        fs::write(dir.path().join("tree/.git"), "gitdir: ../store/main\n").unwrap();
        let survey = Survey::of(&safe).unwrap();
        for config in ["bare/config", "store/main/config"] {
            assert!(survey.parts().contains(&Part { path: config.into(), read_only: true }), "{config}");
        }
        fs::create_dir_all(dir.path().join("bare/hooks")).unwrap();
        fs::create_dir_all(dir.path().join("store/main/hooks")).unwrap();
        fs::create_dir_all(dir.path().join("hooks")).unwrap();
        let mut moved = survey.settle(&safe, "quarantine", LONG).unwrap();
        moved.sort();
        assert_eq!(moved, [Path::new("bare/hooks"), Path::new("store/main/hooks")]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a shell, which reads what was written for one")]
    fn f02_what_was_moved_is_written_down_as_the_commands_that_move_it_back() {
        use std::os::unix::fs::MetadataExt as _;
        let (dir, safe) = folder(&["a/b"]);
        let survey = Survey::of(&safe).unwrap();
        let hostile = "it's\u{1b}]0;x\u{7} $(touch owned)\nrm -rf .";
        let mut planted = vec![".envrc".to_owned(), format!("{hostile}/.bashrc")];
        planted.extend((0..12).map(|number| format!("d{number}/AGENTS.md")));
        for path in &planted {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), path).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(4242), Some(4343)).unwrap();
        }
        assert_eq!(survey.settle(&safe, "quarantine", LONG).unwrap().len(), planted.len());
        assert!(planted.iter().all(|path| !dir.path().join(path).exists()));
        let origins = fs::read(dir.path().join("quarantine/origins")).unwrap();
        assert!(origins.iter().all(|byte| *byte == b'\n' || (b' '..=b'~').contains(byte)), "{origins:?}");
        let owner = |path: &str| {
            let found = dir.path().join(path).metadata().unwrap();
            (found.uid(), found.gid())
        };
        assert!(["quarantine", "quarantine/origins"].map(owner) == [owner("."), owner(".")]);
        let back = std::process::Command::new("bash")
            .args(["-e", "quarantine/origins"])
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(back.success());
        for path in &planted {
            assert_eq!(&fs::read_to_string(dir.path().join(path)).unwrap(), path);
        }
        assert!(!dir.path().join("owned").exists());
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
        let long = "l".repeat(255);
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
