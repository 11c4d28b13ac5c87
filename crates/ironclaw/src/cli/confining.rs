//! The commands that confine programs: the proxy, commands in a container, and what those run on.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Where programs may go, and with which keys.
#[derive(Debug, Args)]
pub struct Reaching {
    /// A place that may be reached; repeat for several. One inside needs an exception in the configuration, too: ironclaw config explain egress.exception
    #[arg(long = "allow", value_name = "[METHOD,..:]HOST[:PORT][/PATH]")]
    pub allow: Vec<String>,
    /// More places, in a TOML file; proxy reads it again when it changes, exec once
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// A secret that programs may use without holding it; what stands for it begins with PREFIX
    #[arg(long = "secret", value_name = "NAME[=PREFIX]")]
    pub secrets: Vec<String>,
}

/// `ironclaw proxy`.
#[derive(Debug, Args)]
pub struct Proxy {
    /// Where to listen: an address of this machine with a port (0 for any free one), or a socket file
    #[arg(long, value_name = "ADDR|unix:PATH", default_value = "127.0.0.1:3128")]
    pub listen: String,
    /// Where its clients may go
    #[command(flatten)]
    pub reaching: Reaching,
    /// Write the certificate that clients have to trust here; its key is written nowhere
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
}

/// How far a command is confined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ExecPolicy {
    /// In a container; the workspace can be read
    ReadOnly,
    /// In a container; the workspace can be changed, but for what other programs obey
    WorkspaceWrite,
    /// No container: the command has everything that you have; the configuration must allow it too
    FullAccess,
}

/// `ironclaw exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// How far it is confined
    #[arg(long, value_enum, default_value = "read-only")]
    pub policy: ExecPolicy,
    /// The folder it works in [default: `[workspace] dir` of the configuration, or the current folder]
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// Where it may go; nowhere otherwise
    #[command(flatten)]
    pub reaching: Reaching,
    /// Give it a terminal, as an editor or a shell wants; what it prints is not read by lines then
    #[arg(short = 't', long)]
    pub terminal: bool,
    /// Print every layer with its verdict, reason and time, to standard error
    #[arg(long)]
    pub trace: bool,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `ironclaw sandbox`.
#[derive(Debug, Subcommand)]
pub enum Sandbox {
    /// Make the base image from Debian packages, or find the one that was made, or take one by name, and remember its digest
    #[command(
        after_help = "Example:\n  ironclaw sandbox build-image --include make,gcc\n  ironclaw sandbox build-image --from debian:bookworm-slim\n\nWhat the engine has under the name is taken as it is. Otherwise the engine pulls it, from a registry that [sandbox] registries in the configuration names."
    )]
    BuildImage(BuildImage),
    /// Remove what nothing uses any more: containers and files of runs that were cut off, of this installation and of deleted ones
    #[command(after_help = "Example:\n  ironclaw sandbox prune --images --yes")]
    Prune {
        /// Base images that this installation made and does not use, too
        #[arg(long)]
        images: bool,
        /// Remove it without asking
        #[arg(long)]
        yes: bool,
    },
    /// Whether commands can be confined on this machine, and the command that mends it
    #[command(after_help = "Example:\n  ironclaw sandbox status --json")]
    Status,
}

/// `ironclaw sandbox build-image`.
#[derive(Debug, Args)]
pub struct BuildImage {
    /// More Debian packages
    #[arg(long, value_name = "PACKAGE", value_delimiter = ',', conflicts_with = "from")]
    pub include: Vec<String>,
    /// An image that the engine has or pulls, instead
    #[arg(long, value_name = "NAME[:TAG|@DIGEST]")]
    pub from: Option<String>,
    /// Make it again with the packages of today, or pull what the name means today
    #[arg(long)]
    pub again: bool,
}
