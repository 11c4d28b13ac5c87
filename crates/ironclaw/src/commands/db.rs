//! `ironclaw db`: where the database is, its schema, and the move from a file to a server.
//!
//! Nothing here needs the vault or the scanners: what is printed are this program's own words, names of
//! its tables, and numbers.

use std::path::Path;

use audit::{Broken, Log, Verified};
use serde_json::{Map, Value, json};
use store::{CopyError, Reader, Server};

use super::progress::Progress;
use crate::cli;
use crate::config::{self, Config};
use crate::exit::{Failure, Outcome};
use crate::home::Home;
use crate::parts::database;
use crate::terminal::Terminal;

/// Runs the command.
pub async fn run(args: &cli::Db, home: &Home, config: &Config, terminal: &Terminal) -> Outcome {
    match args {
        cli::Db::Status => status(home, config, terminal).await,
        cli::Db::Migrate { owner, password_file } => {
            migrate(owner.as_deref(), password_file.as_deref(), home, config, terminal).await
        }
        cli::Db::Move => move_to_server(home, config, terminal).await,
    }
}

/// Opens what is there, which brings a file's schema up to date and refuses a server that is not fit.
async fn status(home: &Home, config: &Config, terminal: &Terminal) -> Outcome {
    let (kind, place) = match &config.store {
        Some(server) => ("server", server.to_string()),
        None => ("file", home.database().display().to_string()),
    };
    let reader = match &config.store {
        Some(server) => store::connect(server).await.map_err(database)?.0,
        None if home.database().exists() => store::open(&home.database()).await.map_err(database)?.0,
        None => {
            return Err(Failure::not_found(format!(
                "there is no database yet at {place}\n  make one: ironclaw init"
            )));
        }
    };
    let tables = reader.tables().await.map_err(database)?;
    reader.close().await;
    if terminal.is_json() {
        let rows = object(&tables);
        terminal.json(&json!({ "kind": kind, "place": place, "schema": store::schema(), "rows": rows }));
        return Ok(());
    }
    terminal.say(format!("{kind} {place}\nschema {}, up to date", store::schema()));
    for (table, rows) in tables {
        terminal.say(format!("  {table:<14} {rows:>10} rows"));
    }
    Ok(())
}

async fn migrate(
    owner: Option<&str>,
    password_file: Option<&Path>,
    home: &Home,
    config: &Config,
    terminal: &Terminal,
) -> Outcome {
    let schema = store::schema();
    let Some(server) = &config.store else {
        if owner.is_some() {
            return Err(Failure::usage(
                "--as is for a server, and the configuration names none\n  more: ironclaw config explain store",
            ));
        }
        home.create()?;
        let (reader, writer) = store::open(&home.database()).await.map_err(database)?;
        writer.close().await;
        reader.close().await;
        terminal.done(json!({ "schema": schema }), format!("the file has schema {schema}"));
        return Ok(());
    };
    let owner = owner.ok_or_else(|| {
        Failure::usage(format!(
            "on a server the owner of the tables changes the schema; {} only reads and writes rows\n  ironclaw db migrate --as 'postgres://OWNER@HOST/DATABASE'",
            server.user()
        ))
    })?;
    let owner = config::server(owner, password_file).map_err(Failure::usage)?;
    let steps = store::migrate(&owner, server.user()).await.map_err(database)?;
    terminal.done(
        json!({ "schema": schema, "steps": steps, "role": server.user() }),
        format!(
            "{steps} steps taken; the server has schema {schema}, and {} may read and write rows",
            server.user()
        ),
    );
    Ok(())
}

/// Verify, copy, verify again, and put the file aside: two installations that both went on would be two
/// continuations of one chain.
async fn move_to_server(home: &Home, config: &Config, terminal: &Terminal) -> Outcome {
    let server = config.store.as_ref().ok_or_else(|| {
        Failure::usage("the configuration names no server to move to\n  more: ironclaw config explain store")
    })?;
    if !home.database().exists() {
        return moved_before(home, server, terminal).await;
    }
    let (source, from) = store::open(&home.database()).await.map_err(database)?;
    let (target, to) = store::connect(server).await.map_err(database)?;
    let before = verified(&source, "in the file").await?;
    let total = source.tables().await.map_err(database)?.iter().map(|(_, rows)| rows).sum();
    let mut progress = Progress::of_rows(total);
    let copied = store::copy(from, to, |rows| progress.add(rows)).await.map_err(not_copied)?;
    drop(progress);
    let after = verified(&target, "on the server").await?;
    if before != after {
        return Err(Failure::failed(
            "the chain on the server is not the one in the file; the file was left as it is",
        ));
    }
    source.close().await;
    target.close().await;
    std::fs::rename(home.database(), home.moved_database()).map_err(|error| {
        Failure::failed(format!(
            "everything is on the server, but the file cannot be put aside: {}",
            error.kind()
        ))
    })?;
    report(&copied.tables, copied.written, after, home, server, terminal);
    Ok(())
}

/// Repeated after all was done: says so, and that it is still whole.
async fn moved_before(home: &Home, server: &Server, terminal: &Terminal) -> Outcome {
    if !home.moved_database().exists() {
        return Err(Failure::not_found(format!(
            "there is no database to move at {}",
            home.database().display()
        )));
    }
    let (target, _) = store::connect(server).await.map_err(database)?;
    let after = verified(&target, "on the server").await?;
    let tables = target.tables().await.map_err(database)?;
    report(&tables, false, after, home, server, terminal);
    Ok(())
}

fn report(
    tables: &[(&'static str, u64)],
    written: bool,
    chain: Verified,
    home: &Home,
    server: &Server,
    terminal: &Terminal,
) {
    let (records, head) = (chain.records, chain.head.to_string());
    let object = json!({
        "moved": written, "to": server.to_string(), "rows": object(tables), "records": records, "head": head,
        "kept": home.moved_database().display().to_string(),
    });
    let what = if written { "everything was moved to" } else { "everything is already on" };
    terminal.done(
        object,
        format!(
            "{what} {server}\n{records} records, verified on both sides; head {head}\nthe file is kept as {}",
            home.moved_database().display()
        ),
    );
}

fn object(tables: &[(&'static str, u64)]) -> Map<String, Value> {
    tables.iter().map(|(table, rows)| ((*table).to_owned(), (*rows).into())).collect()
}

async fn verified(reader: &Reader, side: &str) -> Result<Verified, Failure> {
    Log::new(reader.clone()).verify().await.map_err(|error| match error {
        Broken::Store(error) => database(error),
        broken => Failure::failed(format!("{side}: {broken}; nothing was moved")),
    })
}

fn not_copied(error: CopyError) -> Failure {
    match error {
        CopyError::Store(error) => database(error),
        error => Failure::failed(error),
    }
}
