//! The command line, as people type it.

mod auditing;
mod confining;
mod keeping;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use auditing::{Audit, ExportFormat};
pub use confining::{BuildImage, Exec, ExecPolicy, Proxy, Reaching, Sandbox};
pub use keeping::{Db, Grant, Secret, SlotKind, Slots, Vault};

/// An armored runtime for AI agents.
///
/// Screens what comes in, runs tools in a sandbox, lets them out through one door, keeps the keys, scans
/// what comes back, and records everything.
#[derive(Debug, Parser)]
#[command(name = "ironclaw", version, propagate_version = true, disable_help_subcommand = true)]
#[command(
    after_help = "Example:\n  ironclaw demo\n  ironclaw ask \"Please check today's weather in Beijing\" --trace"
)]
pub struct Cli {
    /// Keep all state under this folder [default: the XDG folders, or IRONCLAW_HOME]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print results as JSON: one object, or one a line
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the five layers on one request, then attacks on them
    #[command(
        after_help = "Example:\n  ironclaw demo\n\nEverything runs on this machine, in a folder that is removed at the end."
    )]
    Demo,
    /// Measure one turn on this machine, and where its time goes
    #[command(
        after_help = "Example:\n  ironclaw bench --turns 500\n\nTurns run against a service on loopback, in folders that are removed at the end."
    )]
    Bench(Bench),
    /// Make the key slot and the database, and install the first tool; safe to run again
    #[command(after_help = "Example:\n  ironclaw init\n  ironclaw init --slot passphrase")]
    Init(Init),
    /// Ask the agent once
    #[command(
        after_help = "Example:\n  ironclaw ask \"Please check today's weather in Beijing\" --trace\n  git diff | ironclaw ask \"Summarise this change\"\n\nWhat is piped in is untrusted; only TEXT is your word."
    )]
    Ask(Ask),
    /// Talk to the agent
    #[command(
        after_help = "Example:\n  ironclaw chat --workspace ~/notes\n\nWhat you type is your word; what you paste is untrusted. Ctrl-D ends."
    )]
    Chat(Chat),
    /// Install, list and call tools
    #[command(subcommand, after_help = "Example:\n  ironclaw tool install guests/weather")]
    Tool(Tool),
    /// Let programs reach what rules name and nothing else, with keys put in on the way
    #[command(
        after_help = "Example:\n  ironclaw proxy --allow GET,POST:api.example.com/v1 --secret EXAMPLE_KEY \\\n      --ca ca.pem\n\nIt prints what clients need in their environment, and serves until Ctrl-C."
    )]
    Proxy(Proxy),
    /// Keep secrets, and grant them to tools
    #[command(
        subcommand,
        after_help = "Example:\n  ironclaw secret set WEATHER_KEY\n  ironclaw secret grant WEATHER_KEY --tool weather --host api.weather.com \\\n      --inject bearer"
    )]
    Secret(Secret),
    /// The vault that holds the secrets
    #[command(subcommand, after_help = "Example:\n  ironclaw vault status")]
    Vault(Vault),
    /// The database: a file, or a PostgreSQL server
    #[command(
        subcommand,
        after_help = "Example:\n  ironclaw db status\n  ironclaw db migrate --as 'postgres://owner@/ironclaw?host=/run/postgresql'\n  ironclaw db move"
    )]
    Db(Db),
    /// Run a command in a fresh container
    #[command(
        after_help = "Example:\n  ironclaw exec -- git status\n  ironclaw exec --policy workspace-write --allow api.example.com/v1 \\\n      --secret EXAMPLE_KEY -- ./build-and-test.sh\n\nIt reaches what --allow and --rules name and nothing else; each of its requests is decided and recorded. For a secret it holds a placeholder, and the key is put in on the way to the place it was granted for. Its exit code is passed on (128 and the signal's number where a signal ended it); a refusal exits with 3, an engine that cannot hold the promise with 6. With --json its output and the account of its requests are JSON lines."
    )]
    Exec(Exec),
    /// The image and the engine of commands
    #[command(subcommand, after_help = "Example:\n  ironclaw sandbox build-image")]
    Sandbox(Sandbox),
    /// Scan files or standard input
    #[command(
        subcommand,
        after_help = "Example:\n  ironclaw scan leaks src/ --json\n  ironclaw scan leaks . --format sarif --baseline .ironclaw-baseline.json \\\n      > leaks.sarif\n  curl -s https://example.com | ironclaw scan prompt --source web -"
    )]
    Scan(Scan),
    /// Measure the detectors on a labelled file
    #[command(subcommand, after_help = "Example:\n  ironclaw eval leaks rows.jsonl.gz")]
    Eval(Eval),
    /// What would be decided, and why
    #[command(
        subcommand,
        after_help = "Example:\n  ironclaw policy explain 0199c6f2-3d41-7b02-8d0e-5a1f6a1b2c3d"
    )]
    Policy(Policy),
    /// Held calls and flagged findings that wait for you
    #[command(subcommand, after_help = "Example:\n  ironclaw approvals list")]
    Approvals(Approvals),
    /// The record of everything
    #[command(subcommand, after_help = "Example:\n  ironclaw audit verify")]
    Audit(Audit),
    /// The configuration
    #[command(subcommand, after_help = "Example:\n  ironclaw config explain budget")]
    Config(Config),
    /// What is and is not protected on this machine, and the command that mends it
    #[command(after_help = "Example:\n  ironclaw doctor --json")]
    Doctor,
    /// Print a completion script
    #[command(
        after_help = "Example:\n  ironclaw completions bash \\\n      > ~/.local/share/bash-completion/completions/ironclaw"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example:\n  ironclaw man | man -l -")]
    Man,
}

/// How the master key is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Slot {
    /// In the keychain of the operating system
    Keychain,
    /// Derived from a passphrase that is asked for
    Passphrase,
    /// In a file that only its owner can read; for machines without a keychain
    File,
    /// From a credential that systemd gives to the service
    Systemd,
}

/// `ironclaw init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Where the master key is kept
    #[arg(long, value_enum, default_value = "keychain")]
    pub slot: Slot,
}

/// `ironclaw bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Turns to measure
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub turns: u32,
}

/// `ironclaw ask`.
#[derive(Debug, Args)]
pub struct Ask {
    /// What you want
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// Print every layer with its verdict, reason and time
    #[arg(long)]
    pub trace: bool,
    /// Read these files as untrusted material
    #[arg(long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The folder that the file tools may use [default: `[workspace] dir` of the configuration]
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
}

/// `ironclaw chat`.
#[derive(Debug, Args)]
pub struct Chat {
    /// Print every layer with its verdict, reason and time
    #[arg(long)]
    pub trace: bool,
    /// The folder that the file tools may use
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
}

/// `ironclaw tool`.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Install the tool whose manifest.toml is in a folder; shows what it asks for
    #[command(after_help = "Example:\n  ironclaw tool install guests/weather")]
    Install {
        /// The folder, or the manifest itself
        path: PathBuf,
        /// Approve it without asking
        #[arg(long)]
        yes: bool,
    },
    /// List the tools
    #[command(after_help = "Example:\n  ironclaw tool list --json")]
    List,
    /// Show one tool: what it asks for and what it was granted
    #[command(after_help = "Example:\n  ironclaw tool show weather")]
    Show {
        /// Its name
        name: String,
    },
    /// Call a tool yourself
    #[command(after_help = "Example:\n  ironclaw tool call weather '{\"city\":\"Beijing\"}' --trace")]
    Call {
        /// Its name
        name: String,
        /// The arguments, a JSON object
        arguments: String,
        /// Print every layer with its verdict, reason and time
        #[arg(long)]
        trace: bool,
        /// The folder that the file tools may use
        #[arg(long, value_name = "DIR")]
        workspace: Option<PathBuf>,
    },
    /// Approve a tool that waits or was suspended
    #[command(after_help = "Example:\n  ironclaw tool approve weather")]
    Approve {
        /// Its name
        name: String,
    },
    /// Remove a tool, its grants and its files
    #[command(after_help = "Example:\n  ironclaw tool remove weather")]
    Remove {
        /// Its name
        name: String,
    },
}

/// `ironclaw scan`.
#[derive(Debug, Subcommand)]
pub enum Scan {
    /// Find secrets
    #[command(after_help = "Example:\n  ironclaw scan leaks src/ --fail-on medium")]
    Leaks(ScanInput),
    /// Find prompt injection
    #[command(after_help = "Example:\n  curl -s https://example.com | ironclaw scan prompt --source web -")]
    Prompt(ScanInput),
}

/// What to scan and how.
#[derive(Debug, Args)]
pub struct ScanInput {
    /// Files or folders; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub inputs: Vec<PathBuf>,
    /// Whose text it is
    #[arg(long, value_enum, default_value = "file")]
    pub source: ScanSource,
    /// Whether it comes in or goes out
    #[arg(long, value_enum, default_value = "in")]
    pub direction: Direction,
    /// Exit with 4 at this severity or above
    #[arg(long, value_enum, default_value = "medium")]
    pub fail_on: FailOn,
    /// How findings are printed
    #[arg(long, value_enum, default_value = "text")]
    pub format: ScanFormat,
    /// Leave out what this baseline accepts
    #[arg(long, value_name = "FILE", conflicts_with = "write_baseline")]
    pub baseline: Option<PathBuf>,
    /// Write a baseline that accepts everything found now
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
    /// Read what git ignores, too: in a fresh clone that is what is committed in spite of it
    #[arg(long)]
    pub ignored: bool,
    /// Name what is not read: binary files, links, what git ignores
    #[arg(long)]
    pub verbose: bool,
}

/// How a scan prints its findings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ScanFormat {
    /// A line each; objects with --json
    Text,
    /// One SARIF 2.1.0 log
    Sarif,
}

/// Whose text a scan judges.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ScanSource {
    /// Typed by the owner
    User,
    /// Returned by a tool
    Tool,
    /// From the web
    Web,
    /// From a file
    File,
}

/// Which way text goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Direction {
    /// Toward the agent
    In,
    /// Toward the network
    Out,
}

/// The severity at which a scan fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FailOn {
    /// Any finding
    Low,
    /// Medium and above
    Medium,
    /// High and above
    High,
    /// Critical only
    Critical,
    /// Never
    Never,
}

/// `ironclaw eval`.
#[derive(Debug, Subcommand)]
pub enum Eval {
    /// Leak detection on lines {"id","text","label":"positive|negative"}
    #[command(after_help = "Example:\n  ironclaw eval leaks rows.jsonl.gz")]
    Leaks {
        /// .jsonl or .jsonl.gz
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Prompt screening on lines {"id","text","label":"injection|benign"}
    #[command(after_help = "Example:\n  ironclaw eval injection rows.jsonl.gz --json")]
    Injection {
        /// .jsonl or .jsonl.gz
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Prompt screening on disguised attacks, each held to the severity that is due, on lines
    /// {"id","family","sample","severity"}
    #[command(after_help = "Example:\n  ironclaw eval evasions rows.jsonl.gz")]
    Evasions {
        /// .jsonl or .jsonl.gz
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Screening of what tools returned in runs of agents, on lines
    /// {"suite","steps":[{"output","output_contains_injection"}]}
    #[command(after_help = "Example:\n  ironclaw eval flows runs.jsonl.gz")]
    Flows {
        /// .jsonl or .jsonl.gz
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// `ironclaw policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Would this tool call or request be permitted now? Changes nothing and records nothing
    #[command(
        after_help = "Example:\n  ironclaw policy check weather \\\n      --request 'GET https://api.weather.com/v1/current'"
    )]
    Check {
        /// The tool
        tool: String,
        /// A request of it: METHOD URL
        #[arg(long, value_name = "METHOD URL")]
        request: Option<String>,
    },
    /// Why something was refused, and the command that would allow it
    #[command(after_help = "Example:\n  ironclaw policy explain 0199c6f2-3d41-7b02-8d0e-5a1f6a1b2c3d")]
    Explain {
        /// The refusal's id
        id: String,
    },
}

/// `ironclaw approvals`.
#[derive(Debug, Subcommand)]
pub enum Approvals {
    /// List what waits
    #[command(after_help = "Example:\n  ironclaw approvals list")]
    List,
    /// Show all of what one of them asks for
    #[command(after_help = "Example:\n  ironclaw approvals show 0199c6f2-3d41-7b02-8d0e-5a1f6a1b2c3d")]
    Show {
        /// Its id
        id: String,
    },
    /// Approve: the same call with the same arguments runs once
    #[command(after_help = "Example:\n  ironclaw approvals approve 0199c6f2-3d41-7b02-8d0e-5a1f6a1b2c3d")]
    Approve {
        /// Its id
        id: String,
    },
    /// Deny
    #[command(after_help = "Example:\n  ironclaw approvals deny 0199c6f2-3d41-7b02-8d0e-5a1f6a1b2c3d")]
    Deny {
        /// Its id
        id: String,
    },
}

/// `ironclaw config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// The configuration in force
    #[command(after_help = "Example:\n  ironclaw config show")]
    Show,
    /// What a key means, its default and an example
    #[command(after_help = "Example:\n  ironclaw config explain budget")]
    Explain {
        /// The key, as in `budget` or `model.url`
        key: Option<String>,
    },
    /// Check a configuration file
    #[command(after_help = "Example:\n  ironclaw config validate config.toml")]
    Validate {
        /// The file [default: the one in force]
        file: Option<PathBuf>,
    },
    /// Where the configuration and the data are
    #[command(after_help = "Example:\n  ironclaw config path --json")]
    Path,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_below_has_an_example_of_itself() {
        fn check(command: &clap::Command, line: &str) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:") && help.contains(line), "{line}: {help}");
            // One that is broken by the terminal cannot be pasted.
            let example = help.split("\n\n").next().unwrap_or_default();
            assert!(example.lines().all(|line| line.len() <= 80), "{line}: {help}");
            for below in command.get_subcommands() {
                check(below, &format!("{line} {}", below.get_name()));
            }
        }
        check(&Cli::command(), "ironclaw");
    }
}
