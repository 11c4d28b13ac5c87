//! `ironclaw secret`: values go in and never come out; grants say where the wire may carry them.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use http::Method;
use secrets::rules::VALUE_REFUSED;
use secrets::{Plain, ValueError, VaultError};
use serde_json::json;
use types::limits::Bytes;
use types::{
    Caller, Digest, Endpoint, Grant, Host, Injection, PathPrefix, Refusal, SecretName, Target, Tenant,
    ToolName,
};

use crate::cli;
use crate::exit::{Failure, Outcome};
use crate::files;
use crate::parts::{Base, catalog, database, locked};
use crate::terminal::Terminal;

/// Runs the command.
pub async fn run(args: &cli::Secret, base: &Base, terminal: &Terminal) -> Outcome {
    match args {
        cli::Secret::Set { name, from_file, days } => {
            set(name, from_file.as_deref(), *days, base, terminal).await
        }
        cli::Secret::Refresh { name } => crate::renewal::run(&secret_name(name)?, base, terminal).await,
        cli::Secret::Import { file, dry_run, replace } => {
            let how = super::import::How { dry: *dry_run, replace: *replace };
            super::import::run(file, how, base, terminal).await
        }
        cli::Secret::List => list(base, terminal).await,
        cli::Secret::Show { name } => show(name, base, terminal).await,
        cli::Secret::Versions { name } => versions(name, base, terminal).await,
        cli::Secret::Disable { name } => {
            let name = secret_name(name)?;
            let vault = base.vault(terminal).await?;
            vault.disable(&name).await.map_err(changed)?;
            let words = format!("{name} is no longer sent. To send it again: ironclaw secret enable {name}");
            terminal.done(json!({ "secret": name.as_str(), "state": "disabled" }), words);
            Ok(())
        }
        cli::Secret::Enable { name } => {
            let name = secret_name(name)?;
            let vault = base.vault(terminal).await?;
            vault.enable(&name).await.map_err(changed)?;
            terminal.done(
                json!({ "secret": name.as_str(), "state": "current" }),
                format!("{name} is sent again."),
            );
            Ok(())
        }
        cli::Secret::Rollback { name } => {
            let name = secret_name(name)?;
            let version = base.vault(terminal).await?.rollback(&name).await.map_err(changed)?;
            let words = format!("Version {version} of {name} is in use again.");
            terminal.done(json!({ "secret": name.as_str(), "version": version }), words);
            Ok(())
        }
        cli::Secret::Destroy { name, number: version } => {
            let name = secret_name(name)?;
            let vault = base.vault(terminal).await?;
            vault.destroy(&name, *version).await.map_err(changed)?;
            terminal.done(
                json!({ "secret": name.as_str(), "version": version, "state": "destroyed" }),
                format!("Version {version} of {name} is destroyed. Copies of the database from before still hold it, sealed."),
            );
            Ok(())
        }
        cli::Secret::Grant(args) => grant(args, base, terminal).await,
        cli::Secret::Revoke { id } => revoke(id, base, terminal).await,
        cli::Secret::Delete { name } => delete(name, base, terminal).await,
    }
}

async fn set(
    name: &str,
    from_file: Option<&Path>,
    days: Option<u32>,
    base: &Base,
    terminal: &Terminal,
) -> Outcome {
    let name = secret_name(name)?;
    let vault = base.vault(terminal).await?;
    let value = read_value(&format!("Value of {name}: "), from_file, terminal)?;
    let current = base.reader.secret(&Tenant::local(), &name).await.map_err(database)?.map(|row| row.version);
    let stored = vault.put_until(&name, value, current, days.map(in_days)).await;
    stored.map_err(|error| not_stored(error, &name))?;
    let version = base.reader.last_secret_version(&Tenant::local(), &name).await.map_err(database)?;
    if terminal.is_json() {
        terminal.json(&json!({ "secret": name.as_str(), "version": version }));
    } else {
        terminal.say(format!("{name} is stored as version {version}."));
        terminal.say(format!("Nobody can use it yet. To let a tool send it: ironclaw secret grant {name} --tool TOOL --host HOST --inject bearer"));
    }
    Ok(())
}

/// A value that cannot be a secret is refused, with what can be done about it.
fn not_stored(error: VaultError, name: &SecretName) -> Failure {
    let VaultError::Value(why) = error else { return changed(error) };
    let refusal = Refusal::new(&VALUE_REFUSED, why.to_string());
    Failure::Unrecorded(match why {
        // A header of a request is one line. JSON is the same text on one; of a key in PEM nothing else is.
        ValueError::LineBreak => refusal.widened_by(format!(
            "encode it, for who decodes it again: base64 < FILE | tr -d '\\n' | ironclaw secret set {name}\n  \
             or, where it is JSON, write it on one line: tr -d '\\r\\n' < FILE | ironclaw secret set {name}"
        )),
        ValueError::TooShort | ValueError::TooLong | ValueError::Weak(_) => refusal,
    })
}

/// From a file, a pipe, or a prompt without echo; one line break at the end is not part of it.
pub(super) fn read_value(
    prompt: &str,
    from_file: Option<&Path>,
    terminal: &Terminal,
) -> Result<Plain, Failure> {
    let stdin = std::io::stdin();
    let mut bytes = match from_file {
        // With room for the line break at the end; what is longer is refused as a value.
        Some(file) => files::read_start(file, Bytes(Plain::MAX as u64 + 3))?,
        None if stdin.is_terminal() => {
            return terminal.ask_secret(prompt, "standard input, or --from-file FILE");
        }
        None => {
            let mut bytes = Vec::new();
            let limit = Plain::MAX as u64 + 3;
            stdin
                .lock()
                .take(limit)
                .read_to_end(&mut bytes)
                .map_err(|_| Failure::failed("standard input cannot be read"))?;
            bytes
        }
    };
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(Plain::new(bytes))
}

async fn list(base: &Base, terminal: &Terminal) -> Outcome {
    let rows = base.reader.secrets(&Tenant::local()).await.map_err(database)?;
    let grants = base.reader.all_grants(&Tenant::local()).await.map_err(database)?;
    if rows.is_empty() && !terminal.is_json() {
        terminal.say("There are no secrets. To store one: ironclaw secret set NAME");
    }
    for row in &rows {
        let count = grants.iter().filter(|grant| grant.secret == row.name).count();
        if terminal.is_json() {
            terminal.json(&json!({
                "secret": row.name.as_str(), "version": row.version, "state": row.state.as_str(),
                "created_ms": row.created_ms, "expires_ms": secrets::expires_ms(row), "grants": count,
            }));
        } else {
            let end = match secrets::expires_ms(row) {
                Some(end) if end <= audit::now_ms() => {
                    format!(
                        ", ended {}: ironclaw secret refresh {1}, or set {1}",
                        super::audit::utc(end),
                        row.name
                    )
                }
                Some(end) => format!(", until {}", super::audit::utc(end)),
                None => String::new(),
            };
            let grants = if count == 1 { "1 grant".to_owned() } else { format!("{count} grants") };
            terminal
                .say(format!("{:<32} version {:<4} {:<9} {grants}{end}", row.name, row.version, row.state));
        }
    }
    Ok(())
}

async fn versions(name: &str, base: &Base, terminal: &Terminal) -> Outcome {
    let name = secret_name(name)?;
    let versions = base.reader.secret_versions(&Tenant::local(), &name).await.map_err(database)?;
    if versions.is_empty() {
        return Err(Failure::not_found(format!("there is no secret {name}")));
    }
    for row in &versions {
        if terminal.is_json() {
            terminal.json(&json!({
                "secret": name.as_str(), "version": row.version, "state": row.state.as_str(),
                "created_ms": row.created_ms,
            }));
        } else {
            terminal.say(format!("version {:<4} {}", row.version, row.state));
        }
    }
    Ok(())
}

/// What is not there is told from what failed.
fn changed(error: VaultError) -> Failure {
    match error {
        VaultError::NoSecret(ref name) => {
            Failure::not_found(format!("{error}\n  to store one: ironclaw secret set {name}"))
        }
        VaultError::NoVersion(_) => Failure::not_found(error),
        VaultError::InUse { .. } => Failure::usage(error),
        error => Failure::failed(error),
    }
}

async fn show(name: &str, base: &Base, terminal: &Terminal) -> Outcome {
    let name = secret_name(name)?;
    let versions = base.reader.secret_versions(&Tenant::local(), &name).await.map_err(database)?;
    if versions.is_empty() {
        return Err(Failure::not_found(format!("there is no secret {name}")));
    }
    let grants = base.reader.all_grants(&Tenant::local()).await.map_err(database)?;
    let grants: Vec<_> = grants.iter().filter(|row| row.secret == name).collect();
    if terminal.is_json() {
        let versions: Vec<_> = versions
            .iter()
            .map(|row| json!({ "version": row.version, "state": row.state.as_str(), "created_ms": row.created_ms }))
            .collect();
        let grants: Vec<_> = grants
            .iter()
            .map(|row| json!({ "id": row.id, "grant": Grant::decode(&row.body).ok().map(|grant| grant.to_string()) }))
            .collect();
        terminal.json(&json!({ "secret": name.as_str(), "versions": versions, "grants": grants }));
        return Ok(());
    }
    for row in &versions {
        terminal.say(format!("{name} version {} {}", row.version, row.state));
    }
    for row in grants {
        let what = Grant::decode(&row.body)
            .map_or("does not parse; revoke it".to_owned(), |grant| grant.to_string());
        terminal.say(format!("grant {}: {what}", row.id));
    }
    Ok(())
}

async fn grant(args: &cli::Grant, base: &Base, terminal: &Terminal) -> Outcome {
    let grant = wanted(args, base).await?;
    let vault = base.vault(terminal).await?;
    let id = vault.grant(&grant).await.map_err(changed)?;
    if terminal.is_json() {
        terminal.json(&json!({ "id": id, "grant": grant.to_string() }));
    } else {
        terminal.say(format!("Granted {grant}"));
        terminal.say(format!("To take it back: ironclaw secret revoke {id}"));
    }
    Ok(())
}

/// What the options mean. The grant binds the code that is installed now.
async fn wanted(args: &cli::Grant, base: &Base) -> Result<Grant, Failure> {
    let secret = secret_name(&args.name)?;
    let tool = ToolName::parse(&args.tool).map_err(|error| Failure::usage(format!("--tool: {error}")))?;
    let endpoint =
        Endpoint::parse(&args.host, Some(443)).map_err(|error| Failure::usage(format!("--host: {error}")))?;
    let Host::Name(host) = endpoint.host else {
        return Err(Failure::usage("--host: a host name is expected, not an address"));
    };
    let method = |text: &String| {
        Target::parse(&text.to_ascii_uppercase(), "https://x.example/")
            .map(|target: Target| -> Method { target.method })
    };
    let mut methods = args.methods.iter().map(method).collect::<Result<Vec<_>, _>>();
    let inject =
        Injection::parse(&args.inject).map_err(|error| Failure::usage(format!("--inject: {error}")))?;
    let renews = matches!(inject, Injection::Refresh { .. });
    if tool == ToolName::vault() {
        if !renews && !matches!(inject, Injection::Basic { .. }) {
            return Err(Failure::usage(
                "--tool vault: --inject is refresh:SECRET:CLIENT_ID, or basic:CLIENT_ID for the client's own secret",
            ));
        }
        // The one method of a token endpoint (RFC 6749, section 3.2).
        methods = Ok(vec![Method::POST]);
    } else if renews {
        return Err(Failure::usage("--inject refresh: only the vault itself refreshes: --tool vault"));
    }
    Ok(Grant {
        digest: digest_of(&tool, base).await?,
        tool,
        secret,
        host,
        port: endpoint.port,
        methods: methods.map_err(|error| Failure::usage(format!("--method: {error}")))?,
        path: PathPrefix::parse(&args.path).map_err(|error| Failure::usage(format!("--path: {error}")))?,
        inject,
        expires_ms: args.days.map(in_days),
        max_uses: args.uses,
    })
}

/// The moment so many days from now, in milliseconds since 1970.
fn in_days(days: u32) -> u64 {
    audit::now_ms() + u64::from(days) * 86_400_000
}

async fn digest_of(tool: &ToolName, base: &Base) -> Result<Digest, Failure> {
    if *tool == ToolName::agent() {
        return Ok(Caller::Agent.identity().1);
    }
    if *tool == ToolName::proxy() {
        return Ok(Caller::proxy_identity().1);
    }
    if *tool == ToolName::vault() {
        return Ok(Caller::Vault.identity().1);
    }
    if *tool == ToolName::log() {
        return Ok(Caller::Log.identity().1);
    }
    Ok(catalog(base, Vec::new()).find(tool).await?.digest)
}

async fn revoke(id: &str, base: &Base, terminal: &Terminal) -> Outcome {
    let vault = base.vault(terminal).await?;
    let known = base.reader.all_grants(&Tenant::local()).await.map_err(database)?;
    let Some(row) = known.iter().find(|row| row.id == id) else {
        return Err(Failure::not_found(
            "there is no such grant\n  those of a secret: ironclaw secret show NAME",
        ));
    };
    vault.revoke(&row.id).await.map_err(locked)?;
    terminal.done(json!({ "revoked": row.id }), "Revoked. New requests are refused from now on.");
    Ok(())
}

async fn delete(name: &str, base: &Base, terminal: &Terminal) -> Outcome {
    let name = secret_name(name)?;
    let vault = base.vault(terminal).await?;
    let Some(row) = base.reader.secret(&Tenant::local(), &name).await.map_err(database)? else {
        return Err(Failure::not_found(format!("there is no secret {name}")));
    };
    vault.delete(&name, row.version).await.map_err(Failure::failed)?;
    terminal.done(
        json!({ "deleted": name.as_str() }),
        format!("{name} is destroyed, with all its versions and grants."),
    );
    Ok(())
}

fn secret_name(text: &str) -> Result<SecretName, Failure> {
    SecretName::parse(text).map_err(|error| Failure::usage(format!("the secret's name: {error}")))
}
