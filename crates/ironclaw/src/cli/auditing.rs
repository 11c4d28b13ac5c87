//! `ironclaw audit`: what its commands take.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

/// `ironclaw audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// The last records
    #[command(after_help = "Example:\n  ironclaw audit tail -n 50")]
    Tail {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: u32,
    },
    /// One record
    #[command(after_help = "Example:\n  ironclaw audit show 12")]
    Show {
        /// Its number
        seq: u64,
    },
    /// Check every record, the chain and its seals; names the first bad record
    #[command(
        after_help = "Example:\n  ironclaw audit verify\n  ironclaw audit verify --against yesterday.checkpoint\n  ironclaw audit verify --archive 2026-q3.archive\n\nThe checkpoint and the key belong on another machine: against them also a log that was cut, rewritten whole or put back to an older state is found."
    )]
    Verify {
        /// A checkpoint that was kept elsewhere
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// The key of the log, as `audit checkpoint` prints it [default: the key of this installation]
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// An archive whose records are checked too; repeat for several
        #[arg(long = "archive", value_name = "FILE")]
        archives: Vec<PathBuf>,
    },
    /// Verify the log, then print a signed checkpoint of it to keep elsewhere
    #[command(after_help = "Example:\n  ironclaw audit checkpoint > today.checkpoint")]
    Checkpoint,
    /// Find every record of one value of a secret, as when a key was found where it should not be
    #[command(
        after_help = "Example:\n  ironclaw audit find\n  ironclaw audit find --from-file found-in-a-paste.txt --json\n\nThe value is read from a prompt, standard input or a file, compared by keyed digests, and kept nowhere. It finds when the value was stored and each place that it was sent to, also of a secret that was deleted since."
    )]
    Find {
        /// Read the value from a file instead
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// Exchange the key that seals the log, as when somebody may have read it
    #[command(
        after_help = "Example:\n  ironclaw audit rotate-key\n  ironclaw audit checkpoint > today.checkpoint\n\nThe log hands over in a record that both keys sign: checkpoints and keys that you kept stay good. Whoever has the old key can still rewrite what it sealed, so print a new checkpoint and keep it elsewhere. Other machines of this installation have the new key when they open the vault."
    )]
    RotateKey,
    /// Write old records into a file and take their bytes out of the database; proofs still verify
    #[command(
        after_help = "Example:\n  ironclaw audit archive 2026-q3.archive --days 90\n  ironclaw audit archive 2026-q3.archive \\\n      --as 'postgres://owner@/ironclaw?host=/run/postgresql'\n\nThe database keeps each record's link of the chain, and whole what something is read from: heads of secrets, grants that were taken back, uses of bounded grants. Keep the file: `audit verify --archive FILE` proves it against the log, `audit export --archive FILE` reads it. On a server the owner of the tables does it. A database file does not shrink; its room is used again."
    )]
    Archive {
        /// The file; it must not exist
        file: PathBuf,
        /// Only records that are older than so many days
        #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..))]
        days: u32,
        /// Only records up to this number
        #[arg(long, value_name = "SEQ")]
        through: Option<u64>,
        /// The owner of the tables on the server
        #[arg(long = "as", value_name = "URL")]
        owner: Option<String>,
        /// A file that holds the owner's password
        #[arg(long, value_name = "FILE", requires = "owner")]
        password_file: Option<PathBuf>,
    },
    /// Print the records as JSON lines, for another system
    #[command(
        after_help = "Example:\n  ironclaw audit export --after 1000\n  ironclaw audit export --push\n  ironclaw audit export --format ocsf | vector --config sink.toml\n  ironclaw audit export --format otlp --follow --after 1000 | otelcol \\\n      --config collector.yaml\n\nIt only reads: a reader that is slow or gone holds up nothing and loses nothing. Go on later with --after and the last number. With --push they are handed to the collector of [export]; what it has taken is on record, and the next time goes on there."
    )]
    Export {
        /// The form of a line
        #[arg(long, value_enum, default_value = "json")]
        format: ExportFormat,
        /// Only records after this number
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
        /// Go on with what is recorded from now on, until Ctrl-C
        #[arg(long, conflicts_with = "archive")]
        follow: bool,
        /// Hand what is new to the collector of [export] in the configuration
        #[arg(long, conflicts_with_all = ["archive", "format", "after"])]
        push: bool,
        /// Print the records of an archive instead
        #[arg(long, value_name = "FILE")]
        archive: Option<PathBuf>,
    },
}

/// The form of an exported record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ExportFormat {
    /// As `audit tail --json` prints it
    Json,
    /// OCSF 1.4, class API Activity
    Ocsf,
    /// OpenTelemetry logs in the JSON form of OTLP, several records a line
    Otlp,
}
