//! One module a command.

pub mod approvals;
pub mod ask;
pub mod audit;
mod backup;
pub mod bench;
pub mod chat;
pub mod completions;
pub mod config;
pub mod db;
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod exec;
mod import;
pub mod init;
pub mod policy;
mod progress;
pub mod proxy;
mod reaching;
pub mod sandbox;
pub mod scan;
pub mod secret;
mod signals;
pub mod tool;
pub mod vault;

use types::{Field, Kind, Record, Refusal, Verdict};

use crate::cli::{Cli, Command};
use crate::config::Config;
use crate::exit::{Failure, Outcome};
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
        Command::Bench(args) => return bench::run(args, terminal).await,
        _ => {}
    }
    let home = Home::find(cli.home.as_deref(), environment)?;
    match &cli.command {
        Command::Config(args) => return config::run(args, &home, terminal),
        Command::Scan(args) => return scan::run(args, &Config::load(&home)?, terminal).await,
        Command::Eval(args) => return eval::run(args, &Config::load(&home)?, terminal).await,
        Command::Doctor => return doctor::run(&home, terminal).await,
        Command::Db(args) => return db::run(args, &home, &Config::load(&home)?, terminal).await,
        _ => {}
    }
    if matches!(cli.command, Command::Exec(_) | Command::Proxy(_)) {
        tokio::task::spawn_blocking(egress::ca::Authority::gather_entropy);
    }
    let config = Config::load(&home)?;
    let base = Base::open(home, config).await?;
    crate::logging::start(environment.log.as_deref(), base.safety.clone());
    let outcome = match with_base(&cli.command, &base, terminal).await {
        Err(Failure::Unrecorded(refusal)) => Err(on_record(refusal, &base).await),
        outcome => outcome,
    };
    base.close().await;
    outcome
}

/// Records what a command was refused before any decision was asked for, so that `policy explain` knows it.
async fn on_record(refusal: Refusal, base: &Base) -> Failure {
    let record = Record::new(Kind::Config, Verdict::Block)
        .with(Field::Actor, "owner")
        .with(Field::Rule, refusal.rule.id)
        .with(Field::Refusal, refusal.id)
        .with(Field::Reason, if refusal.detail.is_empty() { refusal.rule.says } else { &refusal.detail })
        .with(Field::Widen, refusal.widen.as_deref().unwrap_or_default());
    match base.audit.record(record).await {
        Ok(_) => Failure::Refused(vec![refusal]),
        Err(_) => Failure::Unrecorded(refusal),
    }
}

async fn with_base(command: &Command, base: &Base, terminal: &Terminal) -> Outcome {
    match command {
        Command::Init(args) => init::run(args, base, terminal).await,
        Command::Ask(args) => ask::run(args, base, terminal).await,
        Command::Chat(args) => chat::run(args, base, terminal).await,
        Command::Tool(args) => tool::run(args, base, terminal).await,
        Command::Proxy(args) => proxy::run(args, base, terminal).await,
        Command::Secret(args) => secret::run(args, base, terminal).await,
        Command::Vault(args) => vault::run(args, base, terminal).await,
        Command::Exec(args) => exec::run(args, base, terminal).await,
        Command::Sandbox(args) => sandbox::run(args, base, terminal).await,
        Command::Policy(args) => policy::run(args, base, terminal).await,
        Command::Approvals(args) => approvals::run(args, base, terminal).await,
        Command::Audit(args) => audit::run(args, base, terminal).await,
        // Handled before there is a base.
        Command::Demo
        | Command::Bench(_)
        | Command::Completions { .. }
        | Command::Man
        | Command::Config(_)
        | Command::Db(_)
        | Command::Scan(_)
        | Command::Eval(_)
        | Command::Doctor => Ok(()),
    }
}
