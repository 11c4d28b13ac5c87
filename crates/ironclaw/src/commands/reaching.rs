//! Where programs may go and with which keys, as `proxy` and `exec` are told on the command line.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use egress::Egress;
use egress::ca::Authority;
use egress::proxy::{Bounds, Parts, Proxy};
use policy::reach::{MAX_RULES_FILE, ReachError};
use policy::{Leak, Policy, Reach, Refused, Run, Turn};
use safety::{Channel, Safety, Screened, Untrusted};
use secrets::Vault;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use types::{Refusal, SecretName, Site, Source, Tenant, TokensInto, ToolName, Trace};

use crate::cli;
use crate::collector;
use crate::exit::{Code, Failure};
use crate::parts::{Base, database, egress_config};
use crate::renewal;
use crate::terminal::Terminal;

/// How often the rules file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Kinds of refusals that are shown one by one when a run is over.
const MOST_SHOWN: usize = 16;

/// What was told, read.
pub struct Reaching {
    /// The rules of the command line, which stay.
    words: Reach,
    file: Option<RulesFile>,
    /// Both together, at the start.
    reach: Reach,
    /// Whether the file is read again.
    changes: bool,
    /// The beginning of what stands for each secret.
    secrets: BTreeMap<SecretName, String>,
}

impl Reaching {
    /// Reads rules and secrets. One mistake, or a secret that is granted for no place, and there is nothing.
    pub async fn read(args: &cli::Reaching, base: &Base) -> Result<Self, Failure> {
        let words = Reach::of_words(args.allow.iter().map(String::as_str)).map_err(broken)?;
        let mut file = args.rules.as_deref().map(RulesFile::at);
        let reach = match &mut file {
            Some(file) => words.clone().and(file.read().await?).map_err(broken)?,
            None => words.clone(),
        };
        let secrets = secrets(&args.secrets, base).await?;
        let captured = reach.rules().iter().filter_map(|rule| rule.capture.as_ref());
        if let Some(name) = captured.flat_map(TokensInto::names).find(|name| !secrets.contains_key(*name)) {
            return Err(Failure::usage(format!(
                "--rules: a token becomes {name}, for which nothing stands yet: --secret {name}"
            )));
        }
        let changes = file.is_some();
        Ok(Self { words, file, reach, changes, secrets })
    }

    /// Reads them, once, for a command that works in `workspace`: whoever it runs could write rules there.
    pub async fn read_beside(args: &cli::Reaching, workspace: &Path, base: &Base) -> Result<Self, Failure> {
        let rules = args.rules.as_deref().and_then(|file| file.canonicalize().ok());
        if rules.is_some_and(|rules| rules.starts_with(workspace)) {
            return Err(Failure::usage(
                "--rules: the file lies in the workspace, where commands could change it; keep it elsewhere",
            ));
        }
        Ok(Self { changes: false, ..Self::read(args, base).await? })
    }

    /// True when something was told at all.
    pub fn is_asked(args: &cli::Reaching) -> bool {
        !args.allow.is_empty() || args.rules.is_some() || !args.secrets.is_empty()
    }

    /// The proxy for programs at `site` that may do this, and what goes on beside it as long as it is kept.
    pub async fn proxy(
        &self,
        site: Site,
        vault: Option<Arc<Vault>>,
        policy: Policy,
        turn: Turn,
        base: &Base,
        terminal: &Terminal,
    ) -> Result<(Proxy, Beside), Failure> {
        let egress = Egress::new(egress_config(&base.config), base.safety.clone(), vault.clone());
        let egress = Arc::new(egress.map_err(Failure::usage)?);
        let renewals = match vault {
            Some(vault) => Some(renewal::keep(vault, policy.clone(), egress.clone(), terminal).await?),
            None => None,
        };
        let collector = collector::keep(base, policy.clone(), egress.clone(), terminal);
        let run = Run::open(turn, site, self.reach.clone(), self.secrets.keys().cloned().collect());
        let (tell, leaks) = mpsc::unbounded_channel();
        let teller = terminal.clone();
        let run = run.alarmed(tell).asking(
            None,
            Box::new(move |held| {
                let (id, target) = (held.id, &held.target);
                teller.warn(format!("ironclaw: {target} waits for you: ironclaw approvals show {id}"));
            }),
        );
        // Rules that may change may come to name any host.
        let authority = if self.changes { Authority::new() } else { Authority::over(&self.reach) };
        let authority = authority.map_err(Failure::environment)?;
        let run = Arc::new(run);
        let alarms = Alarms::raise(leaks, run.clone(), base, terminal);
        let beside = Beside { run: run.clone(), alarms, _renewals: renewals, _collector: collector };
        let parts = Parts { egress, policy, run, authority, bounds: Bounds::default() };
        let shape = |name: &SecretName| self.secrets.get(name).cloned().unwrap_or_default();
        Ok((Proxy::new(parts, shape).map_err(Failure::usage)?, beside))
    }

    /// Puts the rules of a changed file in force, for ever. A file that does not load changes nothing: the last good
    /// rules stay.
    pub async fn watch(self, proxy: &Proxy, safety: &Safety, terminal: &Terminal) -> Infallible {
        let Some(mut file) = self.file else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            // A file that is being written may be missing for a moment.
            let Ok(bytes) = file.bytes().await else { continue };
            if !file.takes(bytes) {
                continue;
            }
            let shown = file.path.display();
            match Reach::parse(&file.read).and_then(|reach| self.words.clone().and(reach)) {
                Ok(reach) => {
                    terminal.warn(format!("{shown} was read again: {} rules", reach.rules().len()));
                    proxy.run().replace(reach);
                }
                Err(error) => {
                    terminal.warn(format!("{shown} does not load; the last good rules stay: {error}"));
                    if !terminal.is_json()
                        && let ReachError::Toml(quoted) = error
                        && let Ok(quoted) = safety.screen(quoted, Channel::Log, &Trace::off())
                    {
                        terminal.show(&quoted);
                    }
                }
            }
        }
    }
}

/// Renews tokens, hands over records and tells of leaks as long as it is kept.
pub struct Beside {
    run: Arc<Run>,
    alarms: Alarms,
    _renewals: Option<renewal::Kept>,
    _collector: Option<collector::Kept>,
}

impl Beside {
    /// Ends it when what happened is told. Gives what was refused, the most frequent first, and how many refusals there
    /// were beyond that.
    pub async fn end(self, safety: &Safety, terminal: &Terminal) -> (Vec<Refused>, u64) {
        let Self { run, alarms, .. } = self;
        alarms.end().await;
        let (mut kinds, more) = run.refused();
        for kind in &mut kinds {
            // The program chose method and host.
            let asked = Untrusted::new(Source::Model, std::mem::take(&mut kind.asked));
            let asked = safety.screen(asked, Channel::Log, &Trace::off());
            kind.asked = asked.map(Screened::into_inner).unwrap_or_default();
        }
        if !terminal.is_json() {
            tell_refused(&kinds, more, terminal);
        }
        (kinds, more)
    }
}

/// Tells of leaks while it goes on, each as [`alarm`] does.
struct Alarms {
    closing: oneshot::Sender<()>,
    telling: JoinHandle<()>,
}

impl Alarms {
    fn raise(leaks: UnboundedReceiver<Leak>, run: Arc<Run>, base: &Base, terminal: &Terminal) -> Self {
        let (closing, closed) = oneshot::channel();
        let (alarm, terminal) = (alarm(base), terminal.clone());
        let telling = tokio::spawn(async move {
            let (mut leaks, mut closed) = (leaks, closed);
            let source = Source::Tool(ToolName::proxy());
            loop {
                let leak = tokio::select! {
                    biased;
                    leak = leaks.recv() => leak,
                    // What was told by then is still passed on.
                    _ = &mut closed, if !leaks.is_closed() => {
                        leaks.close();
                        continue;
                    }
                };
                let Some(Leak { rule, reason }) = leak else { return };
                match alarm.tell_leak((&rule, &reason), run.turn(), &source).await {
                    Ok(alert) => terminal.alert(alert),
                    Err(refusal) => terminal.warn(refusal),
                }
            }
        });
        Self { closing, telling }
    }

    async fn end(self) {
        drop(self.closing);
        let _ = self.telling.await;
    }
}

/// What tells the owner of leaks.
pub fn alarm(base: &Base) -> agent::Alarm {
    agent::Alarm {
        audit: base.audit.clone(),
        reader: base.reader.clone(),
        tenant: Tenant::local(),
        command: base.config.alert.clone(),
    }
}

/// Says what a program may not have shown: of an answer to `CONNECT` most show nothing.
fn tell_refused(kinds: &[Refused], more: u64, terminal: &Terminal) {
    for Refused { rule, asked, count, id } in kinds.iter().take(MOST_SHOWN) {
        let times = if *count == 1 { String::new() } else { format!(" {count} times") };
        let asked = if asked.is_empty() { String::new() } else { format!(" {asked},") };
        terminal.warn(format!("ironclaw: refused{times}:{asked} {rule}: ironclaw policy explain {id}"));
    }
    let others = kinds.iter().skip(MOST_SHOWN).map(|kind| kind.count).sum::<u64>() + more;
    if others > 0 {
        terminal.warn(format!("ironclaw: refused {others} times more: ironclaw audit tail"));
    }
}

/// The names and prefixes of `--secret`, each granted to the proxy for some place.
async fn secrets(written: &[String], base: &Base) -> Result<BTreeMap<SecretName, String>, Failure> {
    let grants = base.reader.grants(&Tenant::local(), &ToolName::proxy()).await.map_err(database)?;
    let mut secrets = BTreeMap::new();
    for text in written {
        let (name, prefix) = text.split_once('=').unwrap_or((text, ""));
        let name = SecretName::parse(name).map_err(|error| Failure::usage(format!("--secret: {error}")))?;
        if !grants.iter().any(|grant| grant.secret == name) {
            if base.reader.secret(&Tenant::local(), &name).await.map_err(database)?.is_none() {
                let words =
                    format!("--secret: there is no secret {name}\n  store it: ironclaw secret set {name}");
                return Err(Failure::not_found(words));
            }
            let refusal = Refusal::new(&policy::rules::SECRET_NOT_GRANTED, format!("{name}, to the proxy"));
            let widen =
                format!("ironclaw secret grant {name} --tool proxy --host HOST --path PATH --inject bearer");
            return Err(refusal.widened_by(widen).into());
        }
        secrets.insert(name, prefix.to_owned());
    }
    Ok(secrets)
}

/// A file of rules and what was read of it last.
struct RulesFile {
    path: PathBuf,
    read: Vec<u8>,
    /// What the last look saw, where it was something else.
    seen: Option<Vec<u8>>,
}

impl RulesFile {
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), read: Vec::new(), seen: None }
    }

    async fn read(&mut self) -> Result<Reach, Failure> {
        self.read = self.bytes().await.map_err(|error| {
            Failure::failed(format!("--rules: {} cannot be read: {}", self.path.display(), error.kind()))
        })?;
        Reach::parse(&self.read).map_err(broken)
    }

    /// True when what a look saw is new and stands still: half of a file that is being written may read as rules, of which
    /// the wider one may not have its end yet. So it is taken when two looks in a row have seen the same.
    fn takes(&mut self, bytes: Vec<u8>) -> bool {
        if bytes == self.read {
            self.seen = None;
            return false;
        }
        let is_still = self.seen.as_ref() == Some(&bytes);
        if is_still {
            self.read = bytes;
            self.seen = None;
        } else {
            self.seen = Some(bytes);
        }
        is_still
    }

    async fn bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(&self.path).await?;
        file.take(MAX_RULES_FILE.0 + 1).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
}

/// Why rules do not load. The parser quotes the file, so its words are screened.
fn broken(error: ReachError) -> Failure {
    match error {
        ReachError::Toml(quoted) => Failure::Quoting(Code::Usage, "the rules do not load".to_owned(), quoted),
        other => Failure::usage(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r16_a_file_that_is_being_written_is_not_taken_before_it_stands_still() {
        let mut file = RulesFile::at(Path::new("rules.toml"));
        file.read = b"whole".to_vec();
        let looks = ["whole", "ha", "half", "half", "half", "whole", "half", "ha", "ha"];
        let taken = looks.map(|seen| file.takes(seen.as_bytes().to_vec()));
        assert_eq!(taken, [false, false, false, true, false, false, false, false, true]);
    }
}
