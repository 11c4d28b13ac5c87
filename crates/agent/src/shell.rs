//! The built-in tool `shell`: one command of the model's in a fresh container.
//!
//! It runs under the same permits, grants and records as any tool, and takes the way of `ironclaw exec`: the command is
//! decided by itself, inside the permitted call; what it dials is judged by the proxy of its run; what it prints is
//! scanned while it streams and released like any tool's result. The owner's configuration says what it may do, and its
//! description says that to the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use container::{Control, Ended, Quarantine, RunError, Running, Sandbox};
use egress::Egress;
use egress::ca::Authority;
use egress::proxy::{Bounds, Parts, Proxy};
use futures_util::StreamExt as _;
use policy::manifest::{HostRule, Manifest};
use policy::{Permit, Policy, Reach, Run, Scope, Tool};
use safety::{BodyFault, Channel, Safety, Screened, ScreenedBody, Untrusted};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use types::{
    CallId, Command, Confinement, Digest, Field, Lane, Refusal, SecretName, Site, Source, ToolCall, ToolName,
    Trace, Verdict,
};
use wasm::CallError;

use crate::alert::not_recorded;
use crate::rules;

/// The name of the tool.
pub(crate) const NAME: &str = "shell";

/// The longest command. Whoever needs more writes a file and runs it.
const MAX_COMMAND: usize = 16 * 1024;

/// The shell of one workspace.
pub struct Shell {
    /// Where commands run, within the shell's own limits.
    pub sandbox: Sandbox,
    /// The door of their requests.
    pub egress: Arc<Egress>,
    /// Who decides.
    pub policy: Policy,
    /// The scanners.
    pub safety: Arc<Safety>,
    /// What commands may do.
    pub may: May,
}

/// What the commands of a shell may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct May {
    /// The folder they work in, links resolved.
    pub workspace: PathBuf,
    /// Whether they may change it.
    pub writes: bool,
    /// Where they may go: names that are written in full, so that everyone knows whom they stand for.
    pub reach: Reach,
    /// The secrets whose placeholders they hold, with what each begins with.
    pub secrets: BTreeMap<SecretName, String>,
}

/// What a command came to.
struct Printed {
    code: u8,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    command: String,
}

impl May {
    /// The tool, for the catalog; none where its texts did not pass the owner's own rules.
    pub fn tool(&self, safety: &Safety) -> Option<Tool> {
        let name = ToolName::parse(NAME).ok()?;
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["command"],
            "properties": {"command": {"type": "string", "minLength": 1, "maxLength": MAX_COMMAND,
                "description": "the command line, as for sh -c"}}});
        let description = self.description();
        // All that a call may do: an approval of one is for exactly this.
        let may = format!("{self:?}");
        let parts = [env!("CARGO_PKG_VERSION").as_bytes(), description.as_bytes(), may.as_bytes()];
        let digest = Digest::of_parts(parts);
        let mut manifest = Manifest::built_in(name, Lane::Shell, description, schema, self.writes);
        manifest.hosts = self.hosts().collect();
        manifest.folder = Some(self.workspace.clone());
        Tool::new(manifest, digest, None, safety).ok()
    }

    fn hosts(&self) -> impl Iterator<Item = HostRule> {
        self.reach.rules().iter().filter_map(policy::reach::ReachRule::as_host_rule)
    }

    fn description(&self) -> String {
        let folder = match self.writes {
            true => "can read and change",
            false => "can read and not change",
        };
        let mut says = format!(
            "Runs a shell command in a fresh container and gives what it prints. It starts in the workspace, which it {folder}; nothing \
             else is kept from one command to the next."
        );
        let places: Vec<String> = self.hosts().map(|rule| place(&rule)).collect();
        match places.is_empty() {
            true => says += " It has no network.",
            false => says += &format!(" Of the network it reaches {} and nothing else.", places.join(", ")),
        }
        let names: Vec<&str> = self.secrets.keys().map(SecretName::as_str).collect();
        if !names.is_empty() {
            says += &format!(
                " {} in its environment stands for a key, which is put in where the owner granted it.",
                names.join(", ")
            );
        }
        says
    }
}

fn place(rule: &HostRule) -> String {
    let methods = rule.methods.iter().map(http::Method::as_str).collect::<Vec<_>>().join("/");
    format!("{methods} {}://{}:{}{}", rule.scheme.as_str(), rule.host, rule.port.get(), rule.path.as_str())
}

impl Shell {
    /// Runs one permitted call and records what became of it. What was moved out of the way in the workspace is told, however
    /// the call ended.
    pub(crate) async fn call(
        &self,
        permit: Permit<ToolCall>,
        moved: &mut Vec<Screened<String>>,
    ) -> Result<Untrusted<String>, CallError> {
        let scope = permit.scope().clone();
        let (call, settlement) = permit.redeem().map_err(CallError::Refused)?;
        let source = Source::Tool(call.tool.clone());
        let (verdict, fields, returned) = match self.run(&scope, &call, moved).await {
            Ok(Printed { code: 0, text }) => (Verdict::Done, Vec::new(), Ok(Untrusted::new(source, text))),
            Ok(Printed { code, text }) => {
                let text = format!("{text}\n(exit code {code})");
                let failed = CallError::Failed(Untrusted::new(source, text.trim_start().to_owned()));
                (Verdict::Failed, vec![(Field::Status, code.to_string())], Err(failed))
            }
            Err(RunError::Refused(refusal)) => {
                let mut fields = vec![
                    (Field::Rule, refusal.rule.id.to_owned()),
                    (Field::Refusal, refusal.id.to_string()),
                    (Field::Reason, refusal.detail.clone()),
                ];
                fields.extend(refusal.widen.clone().map(|widen| (Field::Widen, widen)));
                (Verdict::Block, fields, Err(CallError::Refused(refusal)))
            }
            Err(error) => {
                let failed = CallError::Failed(Untrusted::new(source, error.to_string()));
                (Verdict::Failed, vec![(Field::Reason, error.to_string())], Err(failed))
            }
        };
        settlement.settle(verdict, fields).await.map_err(|error| CallError::Refused(not_recorded(error)))?;
        returned
    }

    async fn run(
        &self,
        scope: &Scope,
        call: &ToolCall,
        moved: &mut Vec<Screened<String>>,
    ) -> Result<Printed, RunError> {
        let Arguments { command } = serde_json::from_str(&call.arguments)
            .map_err(|_| RunError::Failed("the arguments are no command".to_owned()))?;
        let shown = Untrusted::new(Source::Model, command.clone());
        let shown = self.safety.screen(shown, Channel::Log, scope.trace());
        let shown = shown.map_err(|blocked| RunError::Refused(blocked.refusal))?;
        let command = Command {
            id: CallId::new(),
            argv: ["sh".to_owned(), "-c".to_owned(), command].into(),
            confinement: match self.may.writes {
                true => Confinement::WorkspaceWrite,
                false => Confinement::ReadOnly,
            },
            workspace: self.may.workspace.clone(),
        };
        let permit = self.policy.decide_shell(scope, command, &shown).await?;
        let running = self.sandbox.start(permit, Arc::new(self.proxy(scope)?)).await?;
        let tell = |workspace: &Path, quarantine: &Quarantine| moved.extend(self.told(workspace, quarantine));
        attend(running, scope.limits().output.as_usize(), &self.may.workspace, tell).await
    }

    /// What was moved, for the person. The command chose the names: of such as may not be shown there is only the number.
    fn told(&self, workspace: &Path, quarantine: &Quarantine) -> Option<Screened<String>> {
        let screen = |names: &str| {
            let (folder, into) = (workspace.display(), &quarantine.folder);
            let text = format!(
                "in {folder} some program would obey {names}, so what is called so was moved to {into}/"
            );
            let text = Untrusted::new(Source::Tool(ToolName::parse(NAME).ok()?), text);
            self.safety.screen(text, Channel::Log, &Trace::off()).ok()
        };
        let names = quarantine.told()?;
        screen(&names).or_else(|| screen(&format!("{} names that cannot be shown", quarantine.moved.len())))
    }

    fn proxy(&self, scope: &Scope) -> Result<Proxy, RunError> {
        let authority = Authority::over(&self.may.reach);
        let secrets = self.may.secrets.keys().cloned().collect();
        let run = Run::open(scope.turn().clone(), Site::Container, self.may.reach.clone(), secrets);
        let parts = Parts {
            egress: self.egress.clone(),
            policy: self.policy.clone(),
            run: Arc::new(run),
            authority: authority.map_err(|error| RunError::Failed(error.to_string()))?,
            bounds: Bounds::default(),
        };
        let shape = |name: &SecretName| self.may.secrets.get(name).cloned().unwrap_or_default();
        Proxy::new(parts, shape).map_err(|error| RunError::Failed(error.to_string()))
    }
}

/// Ends the run when whoever waited for it is gone.
struct Leash(Control);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.stop(&rules::ABANDONED);
    }
}

/// Reads what a command prints, up to so many bytes of each stream, and waits for its end.
async fn attend(
    running: Running,
    longest: usize,
    workspace: &Path,
    mut tell: impl FnMut(&Path, &Quarantine),
) -> Result<Printed, RunError> {
    let Running { stdout, stderr, mut stdin, control, outcome, recovered } = running;
    recovered.iter().for_each(|left| tell(&left.workspace, &left.quarantine));
    // It has no input. One that has ended already reads no end of it.
    let _ = stdin.shutdown().await;
    let leash = Leash(control);
    let read = |body| read(body, longest / 2, &leash.0);
    let (out, err) = tokio::join!(read(stdout), read(stderr));
    let finished = outcome.wait().await;
    if let Ok(finished) = &finished {
        tell(workspace, &finished.quarantine);
    }
    // What was printed is why the run was ended, so it is what is told.
    let (out, err) = (out?, err?);
    let finished = finished?;
    match finished.ended {
        Ended::Exited(code) => {
            let mut text = out;
            let mut add = |more: String| {
                text += if text.is_empty() { "" } else { "\n" };
                text += &more;
            };
            if !err.is_empty() {
                add(format!("(standard error)\n{err}"));
            }
            recovered
                .iter()
                .filter_map(|left| told("an earlier command", &left.quarantine))
                .for_each(&mut add);
            told("this command", &finished.quarantine).into_iter().for_each(&mut add);
            Ok(Printed { code, text })
        }
        Ended::Stopped(rule) => {
            Err(Refusal::new(rule, "").widened_by("ironclaw config explain sandbox").into())
        }
    }
}

/// Names that were moved, for the model. The command chose them, so they are released like all that it printed.
fn told(whose: &str, quarantine: &Quarantine) -> Option<String> {
    let (names, folder) = (quarantine.told()?, &quarantine.folder);
    Some(format!("(some program would obey what {whose} made, so it was moved to {folder}/: {names})"))
}

async fn read(mut body: ScreenedBody, longest: usize, control: &Control) -> Result<String, RunError> {
    let mut printed = Vec::new();
    let mut more = 0;
    while let Some(piece) = body.next().await {
        match piece {
            Ok(bytes) => {
                let fits = bytes.len().min(longest - printed.len());
                printed.extend_from_slice(&bytes[..fits]);
                more += bytes.len() - fits;
            }
            Err(BodyFault::Blocked(blocked)) => {
                control.stop(&container::rules::LEAK);
                return Err(blocked.refusal.into());
            }
            Err(_) => {
                control.stop(&container::rules::OUTPUT);
                break;
            }
        }
    }
    let mut text = String::from_utf8_lossy(&printed).into_owned();
    if more > 0 {
        text += &format!("\n({more} more bytes were not kept)");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use policy::{Turn, floor};
    use types::{Confidentiality, Integrity, Label, Trace};

    use super::*;

    fn tool(writes: bool, allow: &[&str]) -> Tool {
        let may = May {
            workspace: "/work".into(),
            writes,
            reach: Reach::of_words(allow.iter().copied()).unwrap(),
            secrets: [(SecretName::parse("A_KEY").unwrap(), String::new())].into(),
        };
        may.tool(&Safety::new(Default::default()).unwrap()).unwrap()
    }

    #[test]
    fn the_description_says_what_commands_may_do() {
        let says = |writes, allow: &[&str]| tool(writes, allow).description.as_str().to_owned();
        assert!(
            says(false, &[]).contains("can read and not change") && says(false, &[]).contains("no network")
        );
        let says = says(true, &["GET:a.example/v1"]);
        assert!(
            says.contains("can read and change") && says.contains("GET https://a.example:443/v1 and nothing")
        );
        assert!(says.contains("A_KEY"));
    }

    #[test]
    fn what_was_read_bounds_what_a_shell_may_do_without_the_owner() {
        let turn = Turn::begin(Trace::off());
        turn.absorb(Label { integrity: Integrity::Untrusted, confidentiality: Confidentiality::Public });
        let asks = |tool: &Tool| floor::must_ask(&turn.flow(), &tool.manifest).map(|rule| rule.id);
        assert_eq!(asks(&tool(false, &[])), None);
        assert_eq!(asks(&tool(false, &["GET:a.example"])), Some("policy.private-flows-out"));
        for tool in [tool(true, &[]), tool(false, &["a.example"])] {
            assert_eq!(asks(&tool), Some("policy.untrusted-drives"));
        }
        turn.absorb(Label { integrity: Integrity::Untrusted, confidentiality: Confidentiality::Private });
        let asks = |tool: &Tool| floor::must_ask(&turn.flow(), &tool.manifest).map(|rule| rule.id);
        assert_eq!(asks(&tool(false, &[])), None);
        assert_eq!(asks(&tool(false, &["GET:a.example"])), Some("policy.private-flows-out"));
    }
}
