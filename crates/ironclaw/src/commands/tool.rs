//! `ironclaw tool`: what may be installed, what it asks for, and calling it by hand.

use std::path::{Path, PathBuf};

use policy::Manifest;
use policy::manifest::ManifestError;
use safety::{Channel, Untrusted};
use serde_json::json;
use store::{Mutation, ToolRow, ToolState};
use types::limits::{MAX_COMPONENT, MAX_MANIFEST};
use types::{Digest, Field, Grant, Kind, Record, Source, Tenant, ToolName, Trace, Verdict};
use wasm::InstallError;

use crate::cli;
use crate::exit::{Code, Failure, Outcome};
use crate::files;
use crate::parts::{Base, Parts, database, installer};
use crate::terminal::Terminal;

/// The tool that `init` installs: it needs no network and no key.
const FIRST: Bundled = Bundled {
    manifest: include_str!("../../../../guests/notes/manifest.toml"),
    component: include_bytes!("../../../../guests/notes/notes.wasm"),
};

/// A tool whose files are part of this program.
pub struct Bundled {
    /// Its manifest.
    pub manifest: &'static str,
    /// Its component.
    pub component: &'static [u8],
}

/// A tool that may be installed: its manifest names exactly this component, and the component compiled.
pub struct Candidate {
    manifest: Manifest,
    text: String,
    digest: Digest,
    admitted: wasm::Admitted,
}

/// Runs the command.
pub async fn run(args: &cli::Tool, base: &Base, terminal: &Terminal) -> Outcome {
    match args {
        cli::Tool::Install { path, yes } => install(path, *yes, base, terminal).await,
        cli::Tool::List => list(base, terminal).await,
        cli::Tool::Show { name } => show(name, base, terminal).await,
        cli::Tool::Call { name, arguments, trace, workspace } => {
            call(name, arguments, *trace, workspace.as_deref(), base, terminal).await
        }
        cli::Tool::Approve { name } => approve(name, base, terminal).await,
        cli::Tool::Remove { name } => remove(name, base, terminal).await,
    }
}

async fn install(path: &Path, yes: bool, base: &Base, terminal: &Terminal) -> Outcome {
    let (text, component) = read(path)?;
    let candidate = Candidate::check(&text, &component, base).await?;
    if !terminal.is_json() {
        describe(&candidate.manifest, &candidate.digest, base, terminal);
    }
    let approved = yes || terminal.confirm("Approve this tool?").await?;
    let name = candidate.manifest.name.clone();
    let state = candidate.keep(base, approved).await?;
    if terminal.is_json() {
        terminal.json(&json!({ "tool": name.as_str(), "state": state.as_str() }));
    } else if approved {
        terminal.say(format!("{name} is installed and approved."));
    } else {
        terminal
            .say(format!("{name} is installed and waits for your approval: ironclaw tool approve {name}"));
    }
    Ok(())
}

/// Installs the first tool unless there is one already. The owner asked for it by running `init`.
pub async fn install_first(base: &Base, _terminal: &Terminal) -> Result<Option<ToolName>, Failure> {
    if !base.reader.tools(&Tenant::local()).await.map_err(database)?.is_empty() {
        return Ok(None);
    }
    let candidate = Candidate::check(FIRST.manifest, FIRST.component, base).await?;
    let name = candidate.manifest.name.clone();
    candidate.keep(base, true).await?;
    Ok(Some(name))
}

impl Candidate {
    /// Parses the manifest, pins the component in it, and compiles the component in a child process.
    pub async fn check(text: &str, component: &[u8], base: &Base) -> Result<Self, Failure> {
        let text = Manifest::pin(text, &Digest::of(component)).map_err(manifest_fault)?;
        let manifest = Manifest::parse(text.as_bytes()).map_err(manifest_fault)?;
        let admitted = installer(&base.home)?.admit(component).await.map_err(install_fault)?;
        Ok(Self { digest: Digest::of(text.as_bytes()), manifest, text, admitted })
    }

    /// Keeps the machine code, then the tool's row; in this order a crash leaves a file that nothing
    /// names.
    pub async fn keep(self, base: &Base, approved: bool) -> Result<ToolState, Failure> {
        let state = if approved { ToolState::Approved } else { ToolState::Pending };
        let compiled = self.admitted.keep(&self.digest).map_err(|error| {
            Failure::environment(format!("the compiled tool cannot be kept: {}", error.kind()))
        })?;
        let name = self.manifest.name.clone();
        let expected =
            base.reader.tool(&Tenant::local(), &name).await.map_err(database)?.map(|row| row.digest);
        let row = ToolRow {
            tenant: Tenant::local(),
            name: name.clone(),
            digest: self.digest,
            manifest: self.text,
            compiled: Some(compiled),
            state,
            installed_ms: audit::now_ms(),
        };
        let record = record(&name, &self.digest, state);
        base.audit.change(record, Mutation::InstallTool { row, expected }).await.map_err(Failure::failed)?;
        Ok(state)
    }
}

fn record(name: &ToolName, digest: &Digest, state: ToolState) -> Record {
    Record::new(Kind::Tool, Verdict::Done)
        .with(Field::Actor, "owner")
        .with(Field::Tool, name)
        .with(Field::Digest, digest)
        .with(Field::State, state)
}

/// The manifest and the component that it names beside it.
fn read(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let file = if path.is_dir() { path.join("manifest.toml") } else { path.to_owned() };
    let text = String::from_utf8(files::read_regular(&file, MAX_MANIFEST)?)
        .map_err(|_| Failure::usage(format!("{} is not UTF-8", file.display())))?;
    let manifest = Manifest::parse(text.as_bytes()).map_err(manifest_fault)?;
    let Some(component) = manifest.component else {
        return Err(Failure::usage(format!(
            "{} names no component; add component = \"FILE.wasm\"",
            file.display()
        )));
    };
    let component: PathBuf = file.with_file_name(component);
    Ok((text, files::read_regular(&component, MAX_COMPONENT)?))
}

fn manifest_fault(error: ManifestError) -> Failure {
    match error {
        ManifestError::Toml(quoted) => {
            Failure::Quoting(Code::Usage, "the manifest does not parse".to_owned(), quoted)
        }
        other => Failure::usage(format!("manifest: {other}")),
    }
}

fn install_fault(error: InstallError) -> Failure {
    match error {
        InstallError::Refused { refusal, words: Some(quoted) } => {
            Failure::Quoting(Code::Refused, refusal.to_string(), quoted)
        }
        InstallError::Refused { refusal, words: None } => Failure::from(refusal),
        InstallError::Broken(words) => Failure::environment(words),
    }
}

/// Says what a tool asks for. Its description is its own word, so it is screened and marked.
fn describe(manifest: &Manifest, digest: &Digest, base: &Base, terminal: &Terminal) {
    terminal.say(format!("{} {}  ({})", manifest.name, manifest.version, digest.short()));
    match base.safety.screen(manifest.description.clone(), Channel::Description, &Trace::off()) {
        // On one line: what breaks its line could speak as one of the lines below.
        Ok(description) => {
            let words = description.as_str().split_whitespace().collect::<Vec<_>>().join(" ");
            terminal.say(format!("  says         \"{words}\""));
        }
        Err(blocked) => terminal.warn(format!("  its description is not shown: {}", blocked.refusal)),
    }
    for rule in &manifest.hosts {
        let methods = rule.methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(",");
        terminal.say(format!(
            "  connects to  {methods} {}://{}:{}{}",
            rule.scheme.as_str(),
            rule.host,
            rule.port,
            rule.path
        ));
    }
    for wish in &manifest.secrets {
        terminal.say(format!("  wants        {} for {} as {}", wish.secret, wish.host, wish.inject));
    }
    if manifest.workspace {
        terminal.say(format!("  keeps files  up to {}", manifest.limits.workspace));
    }
    let changes = if manifest.changes_things() { "can change things" } else { "only reads" };
    let limits = &manifest.limits;
    terminal.say(format!(
        "  {changes}; {} memory, {} ms, {} requests a call",
        limits.memory,
        limits.time.as_millis(),
        limits.requests
    ));
}

async fn list(base: &Base, terminal: &Terminal) -> Outcome {
    let rows = base.reader.tools(&Tenant::local()).await.map_err(database)?;
    if rows.is_empty() && !terminal.is_json() {
        terminal.say("No tools are installed. To install one: ironclaw tool install PATH");
    }
    for row in &rows {
        if terminal.is_json() {
            terminal.json(&json!({ "tool": row.name.as_str(), "state": row.state.as_str(), "digest": row.digest.to_string() }));
        } else {
            terminal.say(format!("{:<24} {:<10} {}", row.name, row.state, row.digest.short()));
        }
    }
    Ok(())
}

async fn show(name: &str, base: &Base, terminal: &Terminal) -> Outcome {
    let row = find(name, base).await?;
    let manifest = Manifest::parse(row.manifest.as_bytes()).map_err(manifest_fault)?;
    let grants = base.reader.grants(&Tenant::local(), &row.name).await.map_err(database)?;
    let grants: Vec<(String, Option<Grant>)> =
        grants.into_iter().map(|row| (row.id, Grant::decode(&row.body).ok())).collect();
    if terminal.is_json() {
        terminal.json(&json!({
            "tool": row.name.as_str(),
            "version": manifest.version,
            "state": row.state.as_str(),
            "digest": row.digest.to_string(),
            "hosts": manifest.hosts.iter().map(|rule| format!("{}:{}{}", rule.host, rule.port, rule.path)).collect::<Vec<_>>(),
            "secrets": manifest.secrets.iter().map(|wish| wish.secret.as_str()).collect::<Vec<_>>(),
            "grants": grants.iter().map(|(id, grant)| json!({
                "id": id,
                "grant": grant.as_ref().map(Grant::to_string),
            })).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    describe(&manifest, &row.digest, base, terminal);
    terminal.say(format!("  state        {}", row.state));
    for (id, grant) in &grants {
        let what = grant.as_ref().map_or("does not parse; revoke it".to_owned(), Grant::to_string);
        terminal.say(format!("  grant        {id}: {what}"));
    }
    for wish in manifest.secrets.iter().filter(|wish| !granted(&grants, &wish.secret)) {
        for rule in manifest.hosts.iter().filter(|rule| rule.host == wish.host) {
            let methods: String = rule.methods.iter().map(|method| format!(" --method {method}")).collect();
            terminal.say(format!(
                "  missing      ironclaw secret grant {} --tool {} --host {}:{}{methods} --inject {}",
                wish.secret, row.name, rule.host, rule.port, wish.inject
            ));
        }
    }
    Ok(())
}

fn granted(grants: &[(String, Option<Grant>)], secret: &types::SecretName) -> bool {
    grants.iter().any(|(_, grant)| grant.as_ref().is_some_and(|grant| grant.secret == *secret))
}

async fn call(
    name: &str,
    arguments: &str,
    trace: bool,
    workspace: Option<&Path>,
    base: &Base,
    terminal: &Terminal,
) -> Outcome {
    let name = tool_name(name)?;
    let arguments = safety::validator::json::read(arguments)
        .map_err(|fault| Failure::usage(format!("the arguments are not a JSON object: {fault}")))?;
    let parts = Parts::build(base, terminal, workspace).await?;
    let trace = if trace { Trace::collecting() } else { Trace::off() };
    let ask = |card: &policy::Card| terminal.ask_card(card);
    let call = parts.agent.call(&name, Untrusted::new(Source::Owner, arguments), trace, &ask);
    super::ask::report(&terminal.unless_interrupted(call).await.map_err(Failure::failed)?, terminal)
}

async fn approve(name: &str, base: &Base, terminal: &Terminal) -> Outcome {
    let row = find(name, base).await?;
    if row.state == ToolState::Approved {
        terminal.done(
            json!({ "tool": row.name.as_str(), "state": "approved" }),
            format!("{} is approved already.", row.name),
        );
        return Ok(());
    }
    let change = Mutation::SetToolState {
        tenant: Tenant::local(),
        name: row.name.clone(),
        digest: row.digest,
        from: row.state,
        to: ToolState::Approved,
    };
    let record = record(&row.name, &row.digest, ToolState::Approved);
    base.audit.change(record, change).await.map_err(Failure::failed)?;
    terminal.done(
        json!({ "tool": row.name.as_str(), "state": "approved" }),
        format!("{} is approved.", row.name),
    );
    Ok(())
}

async fn remove(name: &str, base: &Base, terminal: &Terminal) -> Outcome {
    let row = find(name, base).await?;
    // One by one, on record: a row that comes back from a copy of the database is worth nothing then.
    for grant in base.reader.grants(&Tenant::local(), &row.name).await.map_err(database)? {
        secrets::revoke(&base.reader, &base.audit, &Tenant::local(), &grant.id)
            .await
            .map_err(Failure::failed)?;
    }
    let change = Mutation::RemoveTool { tenant: Tenant::local(), name: row.name.clone() };
    let record = Record::new(Kind::Tool, Verdict::Done)
        .with(Field::Actor, "owner")
        .with(Field::Tool, &row.name)
        .with(Field::Digest, row.digest)
        .with(Field::State, "removed");
    base.audit.change(record, change).await.map_err(Failure::failed)?;
    // The row is gone, so nothing loads the code any more; a file that stays is only disk space.
    let left = installer(&base.home)?.forget(&row.digest).is_err();
    let note = if left { " Its compiled code could not be deleted." } else { "" };
    terminal.done(
        json!({ "tool": row.name.as_str(), "removed": true }),
        format!("{} is removed, with its grants.{note}", row.name),
    );
    Ok(())
}

async fn find(name: &str, base: &Base) -> Result<ToolRow, Failure> {
    let name = tool_name(name)?;
    let row = base.reader.tool(&Tenant::local(), &name).await.map_err(database)?;
    row.ok_or_else(|| {
        Failure::not_found(format!("there is no tool {name}\n  all of them: ironclaw tool list"))
    })
}

fn tool_name(text: &str) -> Result<ToolName, Failure> {
    ToolName::parse(text).map_err(|error| Failure::usage(format!("the tool's name: {error}")))
}
