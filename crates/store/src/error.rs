//! What can go wrong between here and the disk, told apart by what the reader of the error can do.

use std::path::PathBuf;

use sqlx::postgres::PgDatabaseError;

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
    /// Written by an older program, on a server, where only the owner of the tables changes them.
    #[error(
        "the database has schema {found}, older than this program's {known}; its owner brings it up to date: ironclaw db migrate --as URL"
    )]
    Older {
        /// The schema in the database.
        found: i64,
        /// The newest schema of this program.
        known: i64,
    },
    /// The server or this role of it does not keep what the store promises.
    #[error("the database server is not used: {0}")]
    Unfit(Unfit),
    /// Somebody else has held the write lock for too long.
    #[error("the database is busy: another process holds its write lock")]
    Busy,
    /// The server cannot be reached, or stopped answering. It is asked again at the next use.
    #[error("the database server cannot be reached or does not answer")]
    Away,
    /// The server does not know the user or the password.
    #[error("the database server refuses the user or the password")]
    Denied,
    /// Two transactions stood in each other's way and the server ended this one. Nothing of it is
    /// written; the whole of it can be tried again.
    #[error("the database gave way to another transaction")]
    Conflict,
    /// A value is larger than any that is meant to be stored, or a text holds a NUL, which PostgreSQL
    /// has no place for.
    #[error("a value is larger than the database takes, or not a text")]
    Unstorable,
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
        /// The extended result code of SQLite, the SQLSTATE of PostgreSQL, or 0 where the fault lies
        /// outside both.
        code: String,
    },
}

/// Why a server, or a role in it, is refused at start.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// A setting would acknowledge what is not on the disk.
    #[error("{name} is {value}, so that what it calls written may be lost; set {name} = on")]
    Setting {
        /// The setting of PostgreSQL.
        name: &'static str,
        /// What it is.
        value: String,
    },
    /// The role could look past, or take away, what separates tenants.
    #[error("the role {role} {power}; connect as one that may only read and write rows")]
    Role {
        /// The role.
        role: String,
        /// What it may do.
        power: Power,
    },
    /// A table does not separate tenants as this program's migrations made it.
    #[error("the table {table} lacks the row-level security that this program gives it: {fault}")]
    Table {
        /// The table.
        table: String,
        /// What it lacks.
        fault: &'static str,
    },
    /// The role that is to read and write rows is not there yet.
    #[error("there is no role of that name; make it first: CREATE ROLE name LOGIN")]
    NoRole,
    /// The role was not given the tables.
    #[error("the role may not use the tables; their owner gives it the right: ironclaw db migrate --as URL")]
    NotGranted,
    /// Older than the oldest version that is tested.
    #[error("it is PostgreSQL {found}; {needed} or newer is needed")]
    Version {
        /// Its major version.
        found: u32,
        /// The oldest that is used.
        needed: u32,
    },
}

/// What a role may do that the runtime's role must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Power {
    /// Everything.
    #[error("is a superuser")]
    Superuser,
    /// See every tenant's rows.
    #[error("bypasses row-level security (BYPASSRLS)")]
    BypassRls,
    /// Give itself another role.
    #[error("may create and grant roles (CREATEROLE)")]
    CreateRole,
    /// Read the write-ahead log.
    #[error("may replicate (REPLICATION)")]
    Replication,
    /// Reach the server's own files or start programs there.
    #[error("may read or write files of the server or run programs there")]
    ServerFiles,
    /// Take the separation away.
    #[error("owns the tables or is a member of their owner")]
    Owner,
    /// Change records that are written.
    #[error("may change or delete what is only ever added to: records, or steps of the schema")]
    Rewriter,
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
    /// A fault outside the database itself.
    pub(crate) fn failed(what: &'static str) -> Self {
        Self::Failed { what, code: "0".to_owned() }
    }

    /// Sorts an error of the driver. Its text is dropped: it may quote what was stored.
    pub(crate) fn from_driver(error: &sqlx::Error, what: &'static str) -> Self {
        match error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
                Some(error) => Self::from_state(error.code(), what),
                None => Self::from_result(error.code().as_deref().unwrap_or("0"), what),
            },
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Damaged(what),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed
            | sqlx::Error::PoolTimedOut => Self::Away,
            _ => Self::failed(what),
        }
    }

    /// Sorts a result code of SQLite. The low byte is the primary one (sqlite.org/rescode.html).
    fn from_result(code: &str, what: &'static str) -> Self {
        match code.parse::<i32>().map(|code| code & 0xff) {
            Ok(5 | 6) => Self::Busy,
            Ok(11) => Self::Damaged(what),
            Ok(13) => Self::Full,
            Ok(26) => Self::Damaged("it is not a SQLite database"),
            _ => Self::Failed { what, code: code.to_owned() },
        }
    }

    /// Sorts an SQLSTATE (PostgreSQL, appendix A).
    fn from_state(code: &str, what: &'static str) -> Self {
        match code {
            "40001" | "40P01" => Self::Conflict,
            // Ended while waiting for a lock, or for taking too long.
            "55P03" | "57014" => Self::Busy,
            "53100" => Self::Full,
            // A shutdown, a crash, a start that is not finished, no connection left.
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "53300" => Self::Away,
            "28000" | "28P01" => Self::Denied,
            "42501" => Self::Unfit(Unfit::NotGranted),
            "XX001" | "XX002" => Self::Damaged(what),
            _ if code.starts_with("08") => Self::Away,
            _ => Self::Failed { what, code: code.to_owned() },
        }
    }

    /// Whether the fault lies in what was to be stored: too big, against a constraint or of a wrong
    /// type. The database then takes back the one statement and the transaction can go on.
    pub(crate) fn blames_the_change(&self) -> bool {
        match self {
            Self::Unstorable => true,
            Self::Failed { code, .. } => match code.parse::<i32>() {
                // SQLite has decimal codes. An SQLSTATE that reads as a number is of five digits.
                Ok(result) if code.len() < 5 => matches!(result & 0xff, 18..=20),
                // Data exceptions and broken constraints.
                _ => code.starts_with("22") || code.starts_with("23"),
            },
            _ => false,
        }
    }

    /// Whether the whole transaction is worth another try at once.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict)
    }

    /// For `map_err`: sorts an error of the driver under the name of what was tried.
    pub(crate) fn at(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |error| Self::from_driver(&error, what)
    }
}
