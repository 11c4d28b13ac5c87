//! What can go wrong between here and the disk, told apart by what the reader of the error can do.

use std::path::PathBuf;

/// Why the database could not be used. No variant quotes a row; paths are the owner's own
/// configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or a file in it is open to others.
    #[error("{path} {fault}; repair it with: {repair}", path = path.display())]
    Exposed {
        /// What was looked at.
        path: PathBuf,
        /// What is wrong with it.
        fault: Exposure,
        /// The command that repairs it.
        repair: String,
    },
    /// The database file is no longer the one that was opened, or is not there.
    #[error("the database {path} is gone or was replaced while it was in use", path = path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error("the database has schema {found}; this program knows schemas up to {known}")]
    Newer {
        /// The schema in the database.
        found: i64,
        /// The newest schema of this program.
        known: i64,
    },
    /// A step of the schema is not the one this program would have taken.
    #[error("step {version} of the database's schema is not the one this program knows")]
    SchemaChanged {
        /// The step.
        version: i64,
    },
    /// The schema holds a trigger or a view. Ours has none; one could rewrite what is stored.
    #[error("the database holds triggers or views that this program did not make")]
    Foreign,
    /// Somebody else has held the write lock for too long.
    #[error("the database is busy: another process holds its write lock")]
    Busy,
    /// No room on the disk, or a quota is used up.
    #[error("the disk is full")]
    Full,
    /// What was read is not a database, or a row of this table is not what this program writes.
    #[error("the database is damaged: {0}")]
    Damaged(&'static str),
    /// The operating system or the database said no.
    #[error("the database cannot be used ({what}, code {code})")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// The extended result code of SQLite, or 0 where the fault lies outside it.
        code: i32,
    },
}

/// How a file or folder is open to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Exposure {
    /// A symbolic link may lead anywhere by the time it is followed.
    #[error("is a symbolic link")]
    Link,
    /// A socket, a device, a folder where a file should be, or the reverse.
    #[error("is not of the expected kind")]
    Kind,
    /// Owned by another user.
    #[error("belongs to another user")]
    Owner,
    /// Others may read or write it.
    #[error("may be read or written by others")]
    Mode,
}

impl StoreError {
    /// Sorts an error of the driver. Its text is dropped: it may quote what was stored.
    pub(crate) fn from_driver(error: &sqlx::Error, what: &'static str) -> Self {
        let code = match error {
            sqlx::Error::Database(error) => error.code().and_then(|code| code.parse().ok()).unwrap_or(0),
            sqlx::Error::PoolTimedOut => return Self::Busy,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => return Self::Damaged(what),
            _ => 0,
        };
        // The low byte is the primary result code (sqlite.org/rescode.html).
        match code & 0xff {
            5 | 6 => Self::Busy,
            11 => Self::Damaged(what),
            13 => Self::Full,
            26 => Self::Damaged("it is not a SQLite database"),
            _ => Self::Failed { what, code },
        }
    }

    /// Whether the fault lies in what was to be stored: too big, against a constraint or of a wrong
    /// type. SQLite then takes back the one statement and the transaction stands.
    pub(crate) fn blames_the_change(&self) -> bool {
        matches!(self, Self::Failed { code, .. } if matches!(code & 0xff, 18..=20))
    }

    /// For `map_err`: sorts an error of the driver under the name of what was tried.
    pub(crate) fn at(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |error| Self::from_driver(&error, what)
    }
}
