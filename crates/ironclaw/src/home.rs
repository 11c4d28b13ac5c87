//! Where state lives: the XDG folders, or everything under one folder with `--home`.

use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The folders of one installation.
#[derive(Clone, Debug)]
pub struct Home {
    /// The database, components, compiled components and the tools' own files.
    pub data: PathBuf,
    /// `config.toml` and `policies/`.
    pub config: PathBuf,
    /// The person's home folder, which no workspace may be.
    pub person: Option<PathBuf>,
    /// Where systemd put the credentials of this service.
    pub credentials: Option<PathBuf>,
}

/// The environment, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `IRONCLAW_HOME`.
    pub ironclaw_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub data_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY` (systemd.exec(5)).
    pub credentials: Option<PathBuf>,
    /// `NO_COLOR` is set and not empty (no-color.org).
    pub no_color: bool,
    /// `IRONCLAW_LOG`, a tracing filter.
    pub log: Option<String>,
}

impl Environment {
    /// Reads the process's environment.
    #[allow(clippy::disallowed_methods, reason = "the one place where the environment is read")]
    pub fn read() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            ironclaw_home: path("IRONCLAW_HOME"),
            data_home: path("XDG_DATA_HOME").filter(|path| path.is_absolute()),
            config_home: path("XDG_CONFIG_HOME").filter(|path| path.is_absolute()),
            // Without the variable, what the system's list of users says: a workspace must not be that folder.
            home: path("HOME").or_else(std::env::home_dir),
            credentials: path("CREDENTIALS_DIRECTORY").filter(|path| path.is_absolute()),
            no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            log: std::env::var("IRONCLAW_LOG").ok(),
        }
    }
}

impl Home {
    /// The folders that the option and the environment name.
    pub fn find(option: Option<&Path>, environment: &Environment) -> Result<Self, Failure> {
        let (person, credentials) = (environment.home.clone(), environment.credentials.clone());
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map_err(|_| Failure::usage("the folder of --home cannot be made absolute"))
        };
        if let Some(root) = option.or(environment.ironclaw_home.as_deref()) {
            let root = absolute(root)?;
            return Ok(Self { data: root.join("data"), config: root.join("config"), person, credentials });
        }
        let under = |set: &Option<PathBuf>, rest: &str| {
            set.clone()
                .or_else(|| person.as_ref().map(|home| home.join(rest)))
                .map(|base| base.join("ironclaw"))
        };
        let missing = || {
            Failure::environment(
                "neither HOME nor --home says where to keep state; name a folder with --home DIR",
            )
        };
        Ok(Self {
            data: under(&environment.data_home, ".local/share").ok_or_else(missing)?,
            config: under(&environment.config_home, ".config").ok_or_else(missing)?,
            person,
            credentials,
        })
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.data.join("ironclaw.db")
    }

    /// The name that the database file bears once all of it is on a server.
    pub fn moved_database(&self) -> PathBuf {
        self.data.join("ironclaw.db.moved")
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The folder of the owner's Cedar policies.
    pub fn policies(&self) -> PathBuf {
        self.config.join("policies")
    }

    /// Components and their compiled forms.
    pub fn components(&self) -> PathBuf {
        self.data.join("components")
    }

    /// The tools' own files.
    pub fn tool_files(&self) -> PathBuf {
        self.data.join("tools")
    }

    /// What runs of commands need on disk: their sockets, the container's first process, the image's digest.
    pub fn sandbox(&self) -> PathBuf {
        self.data.join("sandbox")
    }

    /// The folder of the `file` key slot; apart from the database, so that a copy of one is not both.
    pub fn key_folder(&self) -> PathBuf {
        self.config.join("keys")
    }

    /// Where the key of fingerprints is; apart from the records that hold fingerprints.
    pub fn fingerprint_folder(&self) -> PathBuf {
        self.config.join("fingerprints")
    }

    /// The public key of the audit log.
    pub fn verifying_key(&self) -> PathBuf {
        self.key_folder().join("audit-signing.pub")
    }

    /// Where older versions kept the key that seals the audit log.
    pub fn signing_key(&self) -> PathBuf {
        self.key_folder().join("audit-signing")
    }

    /// Where they kept the next key of the log until the log had handed over to it.
    pub fn next_signing_key(&self) -> PathBuf {
        self.key_folder().join("audit-signing.next")
    }

    /// Makes the folders, readable by their owner alone.
    pub fn create(&self) -> Result<(), Failure> {
        let made = [self.components(), self.tool_files(), self.policies(), self.sandbox()];
        for folder in [&self.data, &self.config].into_iter().chain(&made) {
            private_folder(folder).map_err(|error| {
                Failure::environment(format!(
                    "the folder {} cannot be made: {}",
                    folder.display(),
                    error.kind()
                ))
            })?;
        }
        Ok(())
    }
}

/// Makes a folder and those above it, each for its owner alone.
#[cfg(unix)]
pub(crate) fn private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a folder and those above it.
#[cfg(not(unix))]
pub(crate) fn private_folder(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).create(path)
}
