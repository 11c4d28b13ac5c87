//! The commands about what is kept: secrets, the vault over them, and the database.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `ironclaw secret`.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Store a value, read from a prompt, standard input or a file, never from the command line
    #[command(
        after_help = "Example:\n  ironclaw secret set WEATHER_KEY\n  pass show weather | ironclaw secret set WEATHER_KEY --days 90"
    )]
    Set {
        /// Its name
        name: String,
        /// Read the value from a file instead
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
        /// Never send this value after so many days
        #[arg(long, value_name = "N")]
        days: Option<u32>,
    },
    /// Ask for a new token with the refresh token that was granted to the vault
    #[command(
        after_help = "Example:\n  ironclaw secret set MAIL_REFRESH\n  ironclaw secret grant MAIL_REFRESH --tool vault --host login.example.com \\\n      --path /oauth/token --inject refresh:MAIL_TOKEN:my-client-id\n  ironclaw secret refresh MAIL_TOKEN\n  ironclaw secret grant MAIL_TOKEN --tool mail --host api.example.com \\\n      --inject bearer\n\nThe answer goes into the vault and is shown to nobody. A client that has a secret of its own proves itself with a second grant to the vault for the same place: --inject basic:my-client-id. While `ask`, `chat` or `proxy` runs, tokens that are about to end are renewed by themselves."
    )]
    Refresh {
        /// The name of the token, not of the refresh token
        name: String,
    },
    /// List the names; values are never shown
    #[command(after_help = "Example:\n  ironclaw secret list")]
    List,
    /// Show a secret's versions and grants; never its value
    #[command(after_help = "Example:\n  ironclaw secret show WEATHER_KEY")]
    Show {
        /// Its name
        name: String,
    },
    /// Store every value of a .env file, one secret a line; values are never shown
    #[command(
        after_help = "Example:\n  ironclaw secret import .env --dry-run\n\nA name that exists is left alone without --replace. Write values with a dollar sign in single quotes."
    )]
    Import {
        /// The file; `-` is standard input
        file: PathBuf,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Store a new version where a secret of that name exists
        #[arg(long)]
        replace: bool,
    },
    /// List the versions of a secret
    #[command(after_help = "Example:\n  ironclaw secret versions WEATHER_KEY")]
    Versions {
        /// Its name
        name: String,
    },
    /// Keep a secret from being sent until it is enabled again
    #[command(after_help = "Example:\n  ironclaw secret disable WEATHER_KEY")]
    Disable {
        /// Its name
        name: String,
    },
    /// Let a disabled secret be sent again
    #[command(after_help = "Example:\n  ironclaw secret enable WEATHER_KEY")]
    Enable {
        /// Its name
        name: String,
    },
    /// Put the previous version in use again
    #[command(after_help = "Example:\n  ironclaw secret rollback WEATHER_KEY")]
    Rollback {
        /// Its name
        name: String,
    },
    /// Destroy one version that is not in use
    #[command(
        after_help = "Example:\n  ironclaw secret destroy WEATHER_KEY 3\n\nCopies of the database from before still hold it, sealed. `ironclaw vault rotate` makes such copies unreadable where the master key is in a keychain or a file."
    )]
    Destroy {
        /// Its name
        name: String,
        /// The version
        #[arg(value_name = "VERSION")]
        number: i64,
    },
    /// Let one tool send a secret to one place
    #[command(
        after_help = "Example:\n  ironclaw secret grant WEATHER_KEY --tool weather --host api.weather.com \\\n      --inject bearer\n  ironclaw secret grant OPENAI_KEY --tool agent --host api.openai.com \\\n      --method POST --inject bearer"
    )]
    Grant(Grant),
    /// Take a grant back
    #[command(after_help = "Example:\n  ironclaw secret revoke 0199c6f23d417b02")]
    Revoke {
        /// The grant's id, as `secret show` prints it
        id: String,
    },
    /// Destroy a secret and its grants
    #[command(alias = "rm", after_help = "Example:\n  ironclaw secret delete WEATHER_KEY")]
    Delete {
        /// Its name
        name: String,
    },
}

/// `ironclaw secret grant`.
#[derive(Debug, Args)]
pub struct Grant {
    /// The secret's name
    pub name: String,
    /// The tool; `agent` is the agent itself, toward its model; `vault` is the vault, for new tokens
    #[arg(long)]
    pub tool: String,
    /// The host, with a port where it is not 443
    #[arg(long, value_name = "HOST[:PORT]")]
    pub host: String,
    /// A method; repeat for several
    #[arg(long = "method", default_value = "GET")]
    pub methods: Vec<String>,
    /// Only paths under this one
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Where it stands: bearer, basic:USER, header:NAME, query:NAME or path; for `vault` refresh:SECRET:CLIENT_ID
    #[arg(long, value_name = "KIND")]
    pub inject: String,
    /// End the grant after so many days
    #[arg(long, value_name = "N")]
    pub days: Option<u32>,
    /// End the grant after so many uses
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: Option<u32>,
}

/// `ironclaw vault`.
#[derive(Debug, Subcommand)]
pub enum Vault {
    /// Which slot holds the master key and what it is worth
    #[command(after_help = "Example:\n  ironclaw vault status --json")]
    Status,
    /// Open every version of every secret, and show none
    #[command(after_help = "Example:\n  ironclaw vault check")]
    Check,
    /// The ways to open the vault
    #[command(
        subcommand,
        after_help = "Example:\n  ironclaw vault slots add recovery\n  ironclaw vault slots add keychain --with recovery"
    )]
    Slots(Slots),
    /// Exchange the master key; safe to interrupt, and to run again
    #[command(
        after_help = "Example:\n  ironclaw vault rotate\n\nSecrets stay as they are: only the keys over them are wrapped anew. A recovery code is replaced by a new one, which is printed once."
    )]
    Rotate {
        /// Keep the old key for so many seconds after the new one is in force
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        grace: u64,
        /// Give up an exchange that is not in force yet
        #[arg(long)]
        abort: bool,
        /// Read the vault's passphrase from a file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Write every secret and grant into one file under a passphrase
    #[command(after_help = "Example:\n  ironclaw vault backup ~/vault.backup")]
    Backup {
        /// The file; it must not exist
        file: PathBuf,
        /// Read the passphrase from a file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Bring back from a backup what is not there
    #[command(after_help = "Example:\n  ironclaw vault restore ~/vault.backup --dry-run")]
    Restore {
        /// The file
        file: PathBuf,
        /// Read the passphrase from a file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Bring back what was destroyed here, too
        #[arg(long)]
        revive: bool,
    },
}

/// `ironclaw vault slots`.
#[derive(Debug, Subcommand)]
pub enum Slots {
    /// List them
    #[command(after_help = "Example:\n  ironclaw vault slots list --json")]
    List,
    /// Make another one
    #[command(
        after_help = "Example:\n  ironclaw vault slots add recovery\n  ironclaw vault slots add keychain --with recovery"
    )]
    Add {
        /// Its kind
        #[arg(value_enum)]
        kind: SlotKind,
        /// Open the vault by this kind of slot
        #[arg(long, value_enum, value_name = "KIND")]
        with: Option<SlotKind>,
        /// Read the new passphrase from a file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Remove one; another must open first
    #[command(after_help = "Example:\n  ironclaw vault slots remove passphrase-1")]
    Remove {
        /// Its id, as `vault slots list` prints it
        id: String,
        /// Open the vault by this kind of slot
        #[arg(long, value_enum, value_name = "KIND")]
        with: Option<SlotKind>,
    },
}

/// A kind of key slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum SlotKind {
    /// The keychain of the operating system
    Keychain,
    /// A credential that systemd gives to the service
    Systemd,
    /// A file that only its owner can read
    File,
    /// A passphrase
    Passphrase,
    /// A code on paper, printed once
    Recovery,
}

/// `ironclaw db`.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Where the database is, its schema and how many rows each table has
    #[command(after_help = "Example:\n  ironclaw db status --json")]
    Status,
    /// Bring the schema up to date; safe to run again, and at once with others
    #[command(
        after_help = "Example:\n  ironclaw db migrate\n  ironclaw db migrate --as 'postgres://owner@/ironclaw?host=/run/postgresql' \\\n      --password-file owner-password\n\nA file is brought up to date by whatever opens it. On a server the owner of the tables does it, and gives the role of `[store] url` the right to read and write rows."
    )]
    Migrate {
        /// The owner of the tables on the server
        #[arg(long = "as", value_name = "URL")]
        owner: Option<String>,
        /// A file that holds the owner's password
        #[arg(long, value_name = "FILE", requires = "owner")]
        password_file: Option<PathBuf>,
    },
    /// Move the installation from the file to the server of `[store] url`; safe to repeat
    #[command(
        after_help = "Example:\n  ironclaw db move\n\nBefore and after, the chain of records is verified; the rows are counted on both sides; all of it is one transaction. The file is kept beside, under another name."
    )]
    Move,
}
