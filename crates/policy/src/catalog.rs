//! The tools that are installed and approved, and those that are part of this program.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use safety::validator::CompiledSchema;
use safety::{Channel, Safety, Screened};
use serde_json::Value;
use store::{Reader, ToolRow, ToolState};
use types::{Digest, Refusal, Tenant, ToolName, Trace};

use crate::manifest::Manifest;
use crate::rules;

/// A tool that may be offered to a model: its texts are screened, its schema is compiled.
#[derive(Debug)]
pub struct Tool {
    /// What it declared.
    pub manifest: Manifest,
    /// What the owner approved: the digest of the manifest, which pins that of the component.
    pub digest: Digest,
    /// The digest of the compiled component, for a tool that is one.
    pub compiled: Option<Digest>,
    /// The description, for the model.
    pub description: Screened<String>,
    /// Words that people ask for it with.
    pub keywords: Vec<Screened<String>>,
    /// The JSON Schema of the arguments, for the model.
    pub parameters: Screened<Value>,
    /// The same schema, ready to check arguments.
    pub schema: CompiledSchema,
}

/// Why a tool cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The manifest does not parse.
    #[error(transparent)]
    Manifest(#[from] crate::manifest::ManifestError),
    /// A text of the manifest was blocked.
    #[error("{0}")]
    Screening(Refusal),
    /// The parameters are no JSON Schema.
    #[error("the parameters are not a valid JSON Schema")]
    Schema,
}

impl Tool {
    /// Screens and compiles what a manifest says.
    pub fn new(
        manifest: Manifest,
        digest: Digest,
        compiled: Option<Digest>,
        safety: &Safety,
    ) -> Result<Self, ToolError> {
        let blocked = |blocked: safety::Blocked| ToolError::Screening(blocked.refusal);
        let off = Trace::off();
        let description =
            safety.screen(manifest.description.clone(), Channel::Description, &off).map_err(blocked)?;
        let keywords = manifest.keywords.iter().cloned();
        let keywords = keywords.map(|word| safety.screen(word, Channel::Description, &off).map_err(blocked));
        let keywords = keywords.collect::<Result<Vec<_>, _>>()?;
        let parameters =
            safety.screen_json(manifest.parameters.clone(), Channel::Description, &off).map_err(blocked)?;
        let schema = CompiledSchema::new(parameters.get()).map_err(|_| ToolError::Schema)?;
        Ok(Self { manifest, digest, compiled, description, keywords, parameters, schema })
    }
}

/// Finds tools by name. What is read from the database is checked again every time.
pub struct Catalog {
    reader: Reader,
    safety: Arc<Safety>,
    tenant: Tenant,
    built_in: Vec<Arc<Tool>>,
    parsed: Mutex<HashMap<Digest, Arc<Tool>>>,
}

impl Catalog {
    /// A catalog of the installed tools and of those that are part of this program.
    pub fn new(reader: Reader, safety: Arc<Safety>, tenant: Tenant, built_in: Vec<Tool>) -> Self {
        let built_in = built_in.into_iter().map(Arc::new).collect();
        Self { reader, safety, tenant, built_in, parsed: Mutex::default() }
    }

    /// The scanners.
    pub(crate) fn safety(&self) -> &Safety {
        &self.safety
    }

    /// Every tool that may be called now, built-in ones first, then by name.
    pub async fn approved(&self) -> Result<Vec<Arc<Tool>>, Refusal> {
        let rows = self.reader.tools(&self.tenant).await.map_err(|_| rules::not_read("tools"))?;
        let mut tools = self.built_in.clone();
        // A tool that does not pass is not offered; calling it by name says why.
        tools.extend(rows.iter().filter_map(|row| self.usable(row).ok()));
        Ok(tools)
    }

    /// The tool of that name, if it may be called.
    pub async fn find(&self, name: &ToolName) -> Result<Arc<Tool>, Refusal> {
        if let Some(tool) = self.built_in.iter().find(|tool| tool.manifest.name == *name) {
            return Ok(tool.clone());
        }
        let row = self.reader.tool(&self.tenant, name).await.map_err(|_| rules::not_read("tools"))?;
        match row {
            Some(row) => self.usable(&row),
            None => Err(Refusal::new(&rules::TOOL_UNKNOWN, name.to_string())
                .widened_by("ironclaw tool install PATH".to_owned())),
        }
    }

    fn usable(&self, row: &ToolRow) -> Result<Arc<Tool>, Refusal> {
        match row.state {
            ToolState::Approved => {}
            ToolState::Pending => {
                return Err(Refusal::new(&rules::TOOL_PENDING, row.name.to_string())
                    .widened_by(format!("ironclaw tool approve {}", row.name)));
            }
            ToolState::Suspended => {
                return Err(Refusal::new(&rules::TOOL_SUSPENDED, row.name.to_string())
                    .widened_by(format!("ironclaw tool approve {}", row.name)));
            }
        }
        let changed = || {
            Refusal::new(&rules::TOOL_CHANGED, row.name.to_string()).widened_by("ironclaw tool install PATH")
        };
        if Digest::of(row.manifest.as_bytes()) != row.digest {
            return Err(changed());
        }
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |tool: &&Arc<Tool>| tool.compiled == row.compiled && tool.manifest.name == row.name;
        if let Some(tool) = parsed.get(&row.digest).filter(is_same) {
            return Ok(tool.clone());
        }
        let manifest = Manifest::parse(row.manifest.as_bytes()).map_err(|_| changed())?;
        if manifest.name != row.name {
            return Err(changed());
        }
        let tool = match Tool::new(manifest, row.digest, row.compiled, &self.safety) {
            Ok(tool) => Arc::new(tool),
            Err(ToolError::Screening(refusal)) => return Err(refusal),
            Err(_) => return Err(changed()),
        };
        parsed.insert(row.digest, tool.clone());
        Ok(tool)
    }
}
