//! Files of a person's workspace that an agent does not touch, wherever in the tree they are.
//!
//! Guarded files are not written, because some program obeys them: whoever writes a git hook runs code the next time the
//! person commits. Credential files are not read, because nothing an agent does for a person needs their text.
//! Names are compared without regard to case, as some file systems do.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::WorkspacePath;

/// Folders whose whole content some program obeys.
const GUARDED_FOLDERS: &[(&str, &str)] = &[
    (".git", "git runs its hooks and obeys its configuration"),
    (".hg", "mercurial runs its hooks"),
    (".svn", "subversion obeys its configuration"),
    (".vscode", "the editor runs its tasks"),
    (".idea", "the editor runs its configurations"),
    (".devcontainer", "the editor runs its commands"),
    (".husky", "git runs its hooks"),
    (".githooks", "git runs its hooks"),
    (".github", "the forge runs its workflows"),
    (".gitlab", "the forge runs its pipelines"),
    (".circleci", "the build service runs it"),
    (".claude", "an agent obeys it"),
    (".codex", "an agent obeys it"),
    (".cursor", "an agent obeys it"),
    (".gemini", "an agent obeys it"),
    (".windsurf", "an agent obeys it"),
    (".continue", "an agent obeys it"),
    (".roo", "an agent obeys it"),
    (".agents", "an agent obeys it"),
    (".ironclaw", "this program obeys it"),
    (".cargo", "the build runs what it names"),
    (".ssh", "ssh obeys it"),
    (".gnupg", "gpg obeys it"),
    (".direnv", "the shell runs it"),
    (".jj", "jujutsu obeys its configuration"),
    (".zed", "the editor runs its tasks"),
    (".fleet", "the editor runs its configurations"),
    (".kiro", "an agent obeys it"),
    (".amazonq", "an agent obeys it"),
    (".junie", "an agent obeys it"),
    (".opencode", "an agent obeys it"),
    (".clinerules", "an agent obeys it"),
    (".buildkite", "the build service runs it"),
    (".woodpecker", "the build service runs it"),
];

/// Files that some program obeys.
const GUARDED_FILES: &[(&str, &str)] = &[
    (".git", "it redirects a git repository"),
    // A plain folder with HEAD, objects and refs in it is a bare repository, and git obeys its configuration.
    ("head", "git takes a folder that holds it for a repository"),
    (".gitmodules", "git fetches what it names"),
    (".gitattributes", "git runs the filters it names"),
    (".gitconfig", "git obeys it"),
    (".gitlab-ci.yml", "the forge runs it"),
    (".travis.yml", "the build service runs it"),
    (".drone.yml", "the build service runs it"),
    ("azure-pipelines.yml", "the build service runs it"),
    ("bitbucket-pipelines.yml", "the build service runs it"),
    ("jenkinsfile", "the build service runs it"),
    (".pre-commit-config.yml", "git runs what it names"),
    (".pre-commit-config.yaml", "git runs what it names"),
    (".mcp.json", "an agent starts what it names"),
    ("mcp.json", "an agent starts what it names"),
    ("claude.md", "an agent obeys it"),
    ("claude.local.md", "an agent obeys it"),
    ("agents.md", "an agent obeys it"),
    ("agent.md", "an agent obeys it"),
    ("gemini.md", "an agent obeys it"),
    (".cursorrules", "an agent obeys it"),
    (".windsurfrules", "an agent obeys it"),
    (".clinerules", "an agent obeys it"),
    (".goosehints", "an agent obeys it"),
    (".aider.conf.yml", "an agent obeys it"),
    ("ironclaw.toml", "this program obeys it"),
    (".bashrc", "a shell runs it"),
    (".bash_profile", "a shell runs it"),
    (".bash_login", "a shell runs it"),
    (".bash_logout", "a shell runs it"),
    (".bash_aliases", "a shell runs it"),
    (".profile", "a shell runs it"),
    (".zshrc", "a shell runs it"),
    (".zshenv", "a shell runs it"),
    (".zprofile", "a shell runs it"),
    (".zlogin", "a shell runs it"),
    (".zlogout", "a shell runs it"),
    (".kshrc", "a shell runs it"),
    (".cshrc", "a shell runs it"),
    (".tcshrc", "a shell runs it"),
    (".login", "a shell runs it"),
    ("config.fish", "a shell runs it"),
    (".inputrc", "a shell obeys it"),
    (".envrc", "the shell runs it"),
    (".vimrc", "the editor runs it"),
    (".nvim.lua", "the editor runs it"),
    (".rprofile", "R runs it"),
    (".irbrc", "ruby runs it"),
    (".pryrc", "ruby runs it"),
    (".exrc", "the editor runs it"),
    (".nvimrc", "the editor runs it"),
    (".dir-locals.el", "the editor runs it"),
    (".gdbinit", "the debugger runs it"),
    (".lldbinit", "the debugger runs it"),
    (".tmux.conf", "the terminal runs it"),
    (".screenrc", "the terminal runs it"),
    (".xinitrc", "the desktop runs it"),
    (".xprofile", "the desktop runs it"),
    (".npmrc", "the package manager runs what it names"),
    (".yarnrc", "the package manager runs what it names"),
    (".yarnrc.yml", "the package manager runs what it names"),
    (".pnpmfile.cjs", "the package manager runs it"),
    ("sitecustomize.py", "every python program runs it"),
    ("usercustomize.py", "every python program runs it"),
];

/// Files that hold credentials, by name.
const CREDENTIAL_FILES: &[(&str, &str)] = &[
    (".env", "an environment file"),
    (".envrc", "an environment file"),
    (".netrc", "passwords for hosts"),
    ("_netrc", "passwords for hosts"),
    (".npmrc", "a registry token"),
    (".yarnrc.yml", "a registry token"),
    (".pypirc", "a registry token"),
    (".gem", "a registry token"),
    (".pgpass", "database passwords"),
    (".my.cnf", "database passwords"),
    (".git-credentials", "passwords for git"),
    (".htpasswd", "passwords of a web server"),
    (".dockercfg", "registry passwords"),
    (".dockerconfigjson", "registry passwords"),
    (".s3cfg", "storage keys"),
    (".boto", "storage keys"),
    (".vault-token", "a vault token"),
    (".terraformrc", "a cloud token"),
    ("terraform.tfstate", "resources with their secrets"),
    ("terraform.tfvars", "variables with their secrets"),
    ("credentials.tfrc.json", "a cloud token"),
    ("credentials.json", "cloud credentials"),
    ("credentials", "cloud credentials"),
    ("service-account.json", "cloud credentials"),
    ("application_default_credentials.json", "cloud credentials"),
    ("secrets.yml", "secrets of an application"),
    ("secrets.yaml", "secrets of an application"),
    ("secrets.toml", "secrets of an application"),
    ("secrets.json", "secrets of an application"),
    ("master.key", "the key of an application"),
    ("kubeconfig", "keys of a cluster"),
    ("wallet.dat", "a wallet"),
    ("id_rsa", "a private key"),
    ("id_dsa", "a private key"),
    ("id_ecdsa", "a private key"),
    ("id_ecdsa_sk", "a private key"),
    ("id_ed25519", "a private key"),
    ("id_ed25519_sk", "a private key"),
];

/// Endings of files that hold keys.
const CREDENTIAL_ENDINGS: &[(&str, &str)] = &[
    (".pem", "a key or certificate"),
    (".key", "a private key"),
    (".p12", "a private key"),
    (".pfx", "a private key"),
    (".pkcs12", "a private key"),
    (".jks", "a key store"),
    (".keystore", "a key store"),
    (".kdbx", "a password store"),
    (".ppk", "a private key"),
    (".gpg", "an encrypted secret"),
    (".age", "an encrypted secret"),
    (".ovpn", "a network key"),
];

/// Folders whose whole content is credentials.
const CREDENTIAL_FOLDERS: &[(&str, &str)] = &[
    (".ssh", "private keys"),
    (".gnupg", "private keys"),
    (".aws", "cloud credentials"),
    (".azure", "cloud credentials"),
    (".gcloud", "cloud credentials"),
    (".kube", "keys of a cluster"),
    (".docker", "registry passwords"),
    (".password-store", "a password store"),
];

/// How the folders are called that hold what commands left and that was moved away. No command writes them: what was
/// looked at there and is moved back is what was looked at.
pub const QUARANTINE: &str = "ironclaw-quarantine-";

/// Why everything in a folder of this name, in lower case, is kept from being written.
fn folder_named(name: &str) -> Option<&'static str> {
    let quarantine = || name.starts_with(QUARANTINE).then_some("what was moved away is judged there");
    named(GUARDED_FOLDERS, name).or_else(quarantine)
}

/// Why a folder of this name is no workspace for what writes in it, wherever it is.
pub(crate) fn obeyed_folder(name: &OsStr) -> Option<&'static str> {
    let name = name.to_string_lossy().to_lowercase();
    let bare = || name.ends_with(".git").then_some("git runs its hooks and obeys its configuration");
    folder_named(&name).or_else(bare)
}

/// Why a file is not written, if it is one that some program obeys.
pub fn guarded(path: &WorkspacePath) -> Option<&'static str> {
    let names: Vec<String> = path.segments().map(str::to_lowercase).collect();
    let (file, folders) = names.split_last()?;
    folders
        .iter()
        .find_map(|folder| folder_named(folder))
        .or_else(|| folder_named(file))
        .or_else(|| named(GUARDED_FILES, file))
        .or_else(|| credential_file(path))
}

/// Names inside a git folder that git obeys; the rest of it is data.
const GUARDED_IN_GIT: &[(&str, &str)] = &[
    ("hooks", "git runs its hooks"),
    ("config", "git obeys it"),
    ("config.worktree", "git obeys it"),
    ("commondir", "it redirects a git repository"),
    ("gitdir", "it redirects a git repository"),
    ("info", "git obeys its attributes"),
    ("remotes", "git fetches from where it says, with the program that it names"),
    ("branches", "git fetches from where it says"),
    // Of an operation that is not finished: what is to be done next, commands among it (`exec` in a to-do list).
    ("rebase-merge", "git runs what it lists when a rebase goes on"),
    ("rebase-apply", "git obeys it when a rebase or a mailbox goes on"),
    ("sequencer", "git obeys it when a cherry-pick or revert goes on"),
];

/// Folders inside a git folder whose names are chosen by whoever commits.
const GIT_DATA: &[&str] = &["objects", "refs", "logs"];

/// Why a command may not change a name of its workspace, if some program obeys it. Unlike [`guarded`] this lets git
/// itself work: of a git folder only what git runs or obeys is guarded. `folder` says what the last name is, and `gits` are
/// folders that git uses as such though they are called otherwise.
pub(crate) fn obeyed(path: &Path, folder: bool, gits: &BTreeSet<PathBuf>) -> Option<&'static str> {
    let lower = |part: Component<'_>| part.as_os_str().to_string_lossy().to_lowercase();
    let names: Vec<String> = path.components().map(lower).collect();
    let name = names.last()?;
    let anywhere = || folder_named(name).or_else(|| named(GUARDED_FILES, name));
    // A repository without a working tree is called `name.git` by custom.
    let called = names.iter().rposition(|name| name.ends_with(".git"));
    let known = path.ancestors().skip(1).find(|above| gits.contains(*above));
    match called.max(known.map(|git| git.components().count() - 1)) {
        Some(git) if git + 1 < names.len() => {
            let is_data = GIT_DATA.contains(&names[git + 1].as_str());
            let in_git = named(GUARDED_IN_GIT, name).filter(|_| !is_data);
            if names[git] == ".git" { in_git } else { in_git.or_else(anywhere) }
        }
        Some(_) if folder => None,
        _ => anywhere(),
    }
}

/// Why a file is not read, if it is one that holds credentials. `.env.example` and its like hold none.
pub fn credential_file(path: &WorkspacePath) -> Option<&'static str> {
    let names: Vec<String> = path.segments().map(str::to_lowercase).collect();
    let (file, folders) = names.split_last()?;
    let environment = file.strip_prefix(".env.").or_else(|| file.strip_suffix(".env"));
    let is_example = |rest: &str| matches!(rest, "example" | "sample" | "template" | "dist");
    folders
        .iter()
        .find_map(|folder| named(CREDENTIAL_FOLDERS, folder))
        .or_else(|| named(CREDENTIAL_FILES, file))
        .or_else(|| environment.filter(|rest| !is_example(rest)).map(|_| "an environment file"))
        .or_else(|| {
            CREDENTIAL_ENDINGS.iter().find(|(ending, _)| file.ends_with(ending)).map(|(_, kind)| *kind)
        })
}

fn named(list: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    list.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse(text).unwrap()
    }

    #[test]
    fn m03_what_programs_obey_is_guarded_at_any_depth() {
        for name in [
            ".git/hooks/pre-commit",
            ".git/config",
            "deep/down/.git/hooks/x",
            ".GIT/Hooks/post-checkout",
            ".git",
            ".vscode/tasks.json",
            ".idea/workspace.xml",
            ".mcp.json",
            "sub/.mcp.json",
            "CLAUDE.md",
            "a/AGENTS.md",
            ".npmrc",
            ".bashrc",
            ".zshrc",
            "home/.profile",
            ".github/workflows/ci.yml",
            ".cargo/config.toml",
            ".env",
            ".claude/settings.json",
            "innocent/HEAD",
            ".jj/repo/config.toml",
            "ironclaw-quarantine-0/0-notes",
            ".Rprofile",
            "sub/Jenkinsfile",
        ] {
            assert!(guarded(&path(name)).is_some(), "{name}");
        }
        for name in
            ["git/hooks", "src/main.rs", "README.md", "notes/claude.txt", ".gitignore", ".env.example"]
        {
            assert!(guarded(&path(name)).is_none(), "{name}");
        }
    }

    #[test]
    fn f02_of_a_git_folder_only_what_git_obeys_is_kept_from_commands() {
        let gits = BTreeSet::from([PathBuf::from("store/main")]);
        for (name, folder) in [
            (".git/hooks", true),
            ("a/.git/config", false),
            (".git/modules/sub/hooks", true),
            (".git/modules/sub/config", false),
            (".git/worktrees/w/gitdir", false),
            (".git/rebase-merge", true),
            (".git/worktrees/w/rebase-apply", true),
            (".git/Sequencer", true),
            (".git/remotes", true),
            (".git/branches", true),
            ("ironclaw-quarantine-0", true),
            ("mirrors/a.git/hooks", true),
            ("a.git/config", false),
            ("a.git/HEAD", false),
            ("store/main/hooks", true),
            ("store/main/config", false),
            ("store/main/worktrees/w/gitdir", false),
            (".npmrc", false),
            (".git", false),
            (".vscode", true),
            ("a/b/.MCP.json", false),
            (".bashrc", false),
        ] {
            assert!(obeyed(Path::new(name), folder, &gits).is_some(), "{name}");
        }
        for (name, folder) in [
            (".git", true),
            (".git/objects", true),
            (".git/refs/heads/config", false),
            (".git/logs/refs/heads/hooks", false),
            (".git/refs/heads/sequencer", false),
            (".git/refs/remotes", true),
            ("a.git", true),
            ("a.git/objects", true),
            ("rebase-merge", true),
            ("store/main", true),
            ("store/main/refs/heads/config", false),
            ("store/config", false),
            ("config", false),
            ("src/hooks", true),
            (".env", false),
        ] {
            assert!(obeyed(Path::new(name), folder, &gits).is_none(), "{name}");
        }
    }

    #[test]
    fn credentials_are_known_by_name() {
        for name in [
            ".env",
            ".env.production",
            "app/.ENV.local",
            "prod.env",
            "id_rsa",
            "keys/id_ed25519",
            ".netrc",
            "server.pem",
            "tls/private.KEY",
            ".npmrc",
            ".aws/credentials",
            ".ssh/config",
            "store.kdbx",
            ".kube/config",
        ] {
            assert!(credential_file(&path(name)).is_some(), "{name}");
        }
        for name in [
            ".env.example",
            ".env.sample",
            "id_rsa.pub",
            "environment.md",
            "src/env.rs",
            "README.md",
            "key.rs",
        ] {
            assert!(credential_file(&path(name)).is_none(), "{name}");
        }
    }
}
