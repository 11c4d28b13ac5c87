//! One module a command.

pub mod approvals;
pub mod ask;
pub mod audit;
pub mod chat;
pub mod completions;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod exec;
pub mod init;
pub mod policy;
mod progress;
pub mod sandbox;
pub mod scan;
pub mod secret;
pub mod tool;
pub mod vault;

use crate::cli::{Cli, Command};
use crate::config::Config;
use crate::exit::Outcome;
use crate::home::{Environment, Home};
use crate::parts::Base;
use crate::terminal::Terminal;

/// Runs one command.
pub async fn run(cli: Cli, environment: &Environment, terminal: &Terminal) -> Outcome {
    // Commands that need no installation.
    match &cli.command {
        Command::Completions { shell } => return completions::completions(*shell),
        Command::Man => return completions::man(),
        Command::Demo => return demo::run(terminal).await,
        _ => {}
    }
    let home = Home::find(cli.home.as_deref(), environment)?;
    match &cli.command {
        Command::Config(args) => return config::run(args, &home, terminal),
        Command::Scan(args) => return scan::run(args, &Config::load(&home)?, terminal).await,
        Command::Eval(args) => return eval::run(args, &Config::load(&home)?, terminal).await,
        Command::Doctor => return doctor::run(&home, terminal).await,
        _ => {}
    }
    let config = Config::load(&home)?;
    let base = Base::open(home, config).await?;
    crate::logging::start(environment.log.as_deref(), base.safety.clone());
    let outcome = with_base(&cli.command, &base, terminal).await;
    base.close().await;
    outcome
}

async fn with_base(command: &Command, base: &Base, terminal: &Terminal) -> Outcome {
    match command {
        Command::Init(args) => init::run(args, base, terminal).await,
        Command::Ask(args) => ask::run(args, base, terminal).await,
        Command::Chat(args) => chat::run(args, base, terminal).await,
        Command::Tool(args) => tool::run(args, base, terminal).await,
        Command::Secret(args) => secret::run(args, base, terminal).await,
        Command::Vault(args) => vault::run(args, base, terminal).await,
        Command::Exec(args) => exec::run(args, base, terminal).await,
        Command::Sandbox(args) => sandbox::run(args, base, terminal).await,
        Command::Policy(args) => policy::run(args, base, terminal).await,
        Command::Approvals(args) => approvals::run(args, base, terminal).await,
        Command::Audit(args) => audit::run(args, base, terminal).await,
        // Handled before there is a base.
        Command::Demo
        | Command::Completions { .. }
        | Command::Man
        | Command::Config(_)
        | Command::Scan(_)
        | Command::Eval(_)
        | Command::Doctor => Ok(()),
    }
}
