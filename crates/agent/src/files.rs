//! The built-in tools: `read_file`, `write_file` and `list_dir` in one folder of the owner's.
//!
//! They run under the same permits, grants and records as any tool. The folder is checked before it is
//! opened (`workspace`), every path is parsed before it means anything, files that hold credentials
//! are not read and files that some program obeys are not written. Nothing found in the folder is policy.

use std::path::Path;
use std::sync::Arc;

use policy::manifest::Manifest;
use policy::{Permit, Tool};
use safety::{Safety, Untrusted};
use serde::Deserialize;
use serde_json::{Value, json};
use types::limits::Bytes;
use types::{Digest, Field, Lane, Refusal, Source, ToolCall, ToolName, Verdict};
use wasm::CallError;
use workspace::{
    PathError, SafeFolder, Surroundings, UnsafeFolder, Workspace, WorkspaceError, WorkspacePath,
};

use crate::alert::not_recorded;
use crate::rules;

pub(crate) const READ_FILE: &str = "Reads a text file of the workspace and gives its contents. A name without an ending also finds \
    the file with the ending .md or .txt.";
pub(crate) const WRITE_FILE: &str =
    "Writes a text file of the workspace, a new one or in place of the old one.";
pub(crate) const LIST_DIR: &str = "Lists the files and folders in a folder of the workspace.";

/// Endings that `read_file` tries when a name without one is not found.
const ENDINGS: [&str; 2] = [".md", ".txt"];

/// The file tools of one workspace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Files {
    workspace: Arc<Workspace>,
}

/// Why a folder is no workspace.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(transparent)]
pub struct UnsafeWorkspace(#[from] UnsafeFolder);

/// One thing to do, parsed.
#[derive(Debug)]
enum Job {
    Read(WorkspacePath),
    Write(WorkspacePath, String),
    List(Option<WorkspacePath>),
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("the file is not text")]
    NotText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    #[serde(default)]
    path: String,
    #[serde(default)]
    content: String,
}

impl UnsafeWorkspace {
    /// For the person: the rule, why, and what to do instead.
    pub fn refusal(self) -> Refusal {
        Refusal::new(&rules::UNSAFE_WORKSPACE, self.to_string())
            .widened_by("choose another folder: ironclaw config explain workspace.dir")
    }
}

impl Files {
    /// Opens the owner's folder if it is safe to work in.
    pub fn open(folder: &Path, around: &Surroundings) -> Result<Self, UnsafeWorkspace> {
        let folder = SafeFolder::check(folder, around)?;
        Ok(Self { workspace: Arc::new(Workspace::open(folder)) })
    }

    /// The three tools of a workspace, for the catalog: an approval of a call in one is none in another. One whose
    /// texts did not pass the owner's own rules would be left out.
    pub fn tools(workspace: &Path, safety: &Safety) -> Vec<Tool> {
        let path =
            |says: &str| json!({"type": "string", "minLength": 1, "maxLength": 1024, "description": says});
        let tools = [
            (
                "read_file",
                READ_FILE,
                false,
                json!({
                "type": "object", "additionalProperties": false, "required": ["path"],
                "properties": {"path": path("path of the file inside the workspace")}}),
            ),
            (
                "write_file",
                WRITE_FILE,
                true,
                json!({
                "type": "object", "additionalProperties": false, "required": ["path", "content"],
                "properties": {
                    "path": path("path of the file inside the workspace"),
                    "content": {"type": "string", "maxLength": 200_000, "description": "the text to write"}}}),
            ),
            (
                "list_dir",
                LIST_DIR,
                false,
                json!({
                "type": "object", "additionalProperties": false,
                "properties": {"path": {"type": "string", "maxLength": 1024, "default": "",
                    "description": "path of the folder inside the workspace; empty for the workspace itself"}}}),
            ),
        ];
        tools
            .into_iter()
            .filter_map(|(name, says, changes, schema)| tool(name, says, changes, schema, workspace, safety))
            .collect()
    }

    /// Runs one permitted call and records what became of it.
    pub(crate) async fn call(&self, permit: Permit<ToolCall>) -> Result<Untrusted<String>, CallError> {
        let longest = permit.scope().limits().output;
        let (call, settlement) = permit.redeem().map_err(CallError::Refused)?;
        let (path, done) = match Job::parse(&call) {
            Ok(job) => (job.path(), self.run(job, longest).await),
            Err(error) => (String::new(), Err(error.into())),
        };
        let path = (Field::Path, path);
        match done {
            Ok(text) => {
                settlement.settle(Verdict::Done, [path]).await.map_err(unrecorded)?;
                Ok(text)
            }
            Err(error) => match refused(&error) {
                Some(refusal) => {
                    let mut fields = vec![
                        path,
                        (Field::Rule, refusal.rule.id.to_owned()),
                        (Field::Refusal, refusal.id.to_string()),
                    ];
                    fields.push((Field::Reason, refusal.detail.clone()));
                    fields.extend(refusal.widen.clone().map(|widen| (Field::Widen, widen)));
                    settlement.settle(Verdict::Block, fields).await.map_err(unrecorded)?;
                    Err(CallError::Refused(refusal))
                }
                None => {
                    let reason = (Field::Reason, error.to_string());
                    settlement.settle(Verdict::Failed, [path, reason]).await.map_err(unrecorded)?;
                    Err(CallError::Failed(Untrusted::new(Source::Tool(call.tool), error.to_string())))
                }
            },
        }
    }

    async fn run(&self, job: Job, longest: Bytes) -> Result<Untrusted<String>, JobError> {
        let workspace = self.workspace.clone();
        let done = tokio::task::spawn_blocking(move || job.run(&workspace, longest));
        let text = done.await.map_err(|_| WorkspaceError::Io)??;
        Ok(Untrusted::new(Source::File, text))
    }
}

/// A built-in tool; its texts are this program's own and pass the screening of their own tests.
fn tool(
    name: &str,
    says: &'static str,
    changes: bool,
    schema: Value,
    workspace: &Path,
    safety: &Safety,
) -> Option<Tool> {
    let name = ToolName::parse(name).ok()?;
    let folder = workspace.as_os_str().as_encoded_bytes();
    let digest = Digest::of_parts([name.as_str().as_bytes(), env!("CARGO_PKG_VERSION").as_bytes(), folder]);
    let mut manifest = Manifest::built_in(name, Lane::Files, says.to_owned(), schema, changes);
    manifest.folder = Some(workspace.to_owned());
    Tool::new(manifest, digest, None, safety).ok()
}

impl Job {
    fn parse(call: &ToolCall) -> Result<Self, WorkspaceError> {
        let arguments: Arguments = serde_json::from_str(&call.arguments).map_err(|_| PathError::Character)?;
        let text = arguments.path.strip_prefix("./").unwrap_or(&arguments.path);
        match call.tool.as_str() {
            "list_dir" if matches!(text, "" | "." | "./") => Ok(Self::List(None)),
            "list_dir" => Ok(Self::List(Some(WorkspacePath::parse(text.trim_end_matches('/'))?))),
            "write_file" => Ok(Self::Write(WorkspacePath::parse(text)?, arguments.content)),
            _ => Ok(Self::Read(WorkspacePath::parse(text)?)),
        }
    }

    fn path(&self) -> String {
        match self {
            Self::Read(path) | Self::Write(path, _) | Self::List(Some(path)) => path.to_string(),
            Self::List(None) => ".".to_owned(),
        }
    }

    fn run(self, workspace: &Workspace, longest: Bytes) -> Result<String, JobError> {
        match self {
            Self::Read(path) => {
                let content = read(workspace, &path, longest)?;
                String::from_utf8(content).map_err(|_| JobError::NotText)
            }
            Self::Write(path, content) => {
                workspace.write(&path, content.as_bytes())?;
                Ok(format!("wrote {} bytes", content.len()))
            }
            Self::List(folder) => {
                let entries = workspace.list(folder.as_ref())?;
                let line = |entry: &workspace::Entry| match entry.folder {
                    true => format!("{}/", entry.name),
                    false => format!("{} ({} bytes)", entry.name, entry.size),
                };
                let lines: Vec<String> = entries.iter().map(line).collect();
                Ok(if lines.is_empty() { "the folder is empty".to_owned() } else { lines.join("\n") })
            }
        }
    }
}

/// A file by its name or, where the name has no ending and is not found, by its name with one.
fn read(workspace: &Workspace, path: &WorkspacePath, longest: Bytes) -> Result<Vec<u8>, WorkspaceError> {
    let bare = path.segments().next_back().is_some_and(|name| !name.contains('.'));
    match workspace.read(path, longest) {
        Err(WorkspaceError::NotFound) if bare => ENDINGS
            .iter()
            .filter_map(|ending| WorkspacePath::parse(&format!("{path}{ending}")).ok())
            .map(|path| workspace.read(&path, longest))
            .find(|read| *read != Err(WorkspaceError::NotFound))
            .unwrap_or(Err(WorkspaceError::NotFound)),
        read => read,
    }
}

/// What is refused by a rule, as against what merely did not work.
fn refused(error: &JobError) -> Option<Refusal> {
    match error {
        JobError::Workspace(WorkspaceError::Credential(kind)) => Some(
            Refusal::new(&rules::CREDENTIAL_FILE, *kind)
                .widened_by("put the keys into the vault instead: ironclaw secret set NAME --from-file FILE"),
        ),
        JobError::Workspace(WorkspaceError::Guarded(why)) => Some(Refusal::new(&rules::GUARDED, *why)),
        JobError::Workspace(WorkspaceError::Path(fault)) => {
            Some(Refusal::new(&rules::OUTSIDE, fault.to_string()))
        }
        _ => None,
    }
}

fn unrecorded(error: audit::AuditError) -> CallError {
    CallError::Refused(not_recorded(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_installed_tool_can_take_the_name_of_one_of_these() {
        let tools = Files::tools(Path::new("/w"), &Safety::new(Default::default()).unwrap());
        let names: Vec<&str> = tools.iter().map(|tool| tool.manifest.name.as_str()).collect();
        assert_eq!(names, policy::manifest::BUILT_IN[..3]);
        assert_eq!(crate::shell::NAME, policy::manifest::BUILT_IN[3]);
    }
}
