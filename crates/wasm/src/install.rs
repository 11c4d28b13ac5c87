//! Admitting a component: compile it, and look at what it wants before it can ever run.

use std::path::Path;

use safety::Untrusted;
use types::{Digest, Refusal, Rule};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::allowlist::check_imports;
use crate::cache::{Cache, from_own_compiler};
use crate::compile::{CompileError, Compiler};
use crate::host::{Host, contract, link};
use crate::rules;
use crate::runtime::running_engine;

/// Checks and compiles components. It needs no policy, network or vault, and runs nothing.
pub struct Installer {
    engine: Engine,
    linker: Linker<Host>,
    compiler: Compiler,
    cache: Cache,
}

/// A component that may be installed, compiled. Only [`Installer::admit`] makes one.
pub struct Admitted {
    compiled: Vec<u8>,
    cache: Cache,
}

/// Why a component is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A rule says no. The compiler's own words about a malformed component quote it, so they are foreign.
    #[error("{refusal}")]
    Refused {
        /// The rule, and what it found.
        refusal: Refusal,
        /// More, for the tool's author.
        words: Option<Untrusted<String>>,
    },
    /// This machine could not do it.
    #[error("{0}")]
    Broken(&'static str),
}

impl Installer {
    /// An installer that keeps compiled components in `cache`.
    pub fn new(cache: &Path, compiler: Compiler) -> Result<Self, InstallError> {
        let broken = |_| InstallError::Broken("the WebAssembly engine does not start");
        // The engine that will run it, so that what is admitted here is what can run there.
        let (engine, _) = running_engine().map_err(broken)?;
        let mut linker = Linker::new(&engine);
        link(&mut linker).map_err(broken)?;
        let cache = Cache::new(cache, &engine);
        Ok(Self { engine, linker, compiler, cache })
    }

    /// Compiles a component in a child process and checks its imports and its export. Nothing of it runs.
    pub async fn admit(&self, component: &[u8]) -> Result<Admitted, InstallError> {
        let compiled = self.compiler.compile(component).await?;
        self.check(&compiled)?;
        Ok(Admitted { compiled, cache: self.cache.clone() })
    }

    /// Forgets the machine code of a tool that was removed.
    pub fn forget(&self, tool: &Digest) -> std::io::Result<()> {
        self.cache.remove(tool)
    }

    fn check(&self, compiled: &[u8]) -> Result<(), InstallError> {
        let component = from_own_compiler(&self.engine, compiled).map_err(|_| {
            refused(&rules::TABLES, "more memories, tables or instances than any tool may have")
        })?;
        check_imports(&component.component_type(), &self.engine)
            .map_err(|unlisted| refused(&rules::IMPORT, unlisted.to_string()))?;
        link_tool(&self.linker, &component).map_err(|rule| refused(rule, ""))?;
        Ok(())
    }
}

impl Admitted {
    /// Keeps the machine code under the digest that the owner approves, and gives the machine code's own digest, to be
    /// kept in the tool's row: a call loads nothing else.
    pub fn keep(self, tool: &Digest) -> std::io::Result<Digest> {
        self.cache.put(tool, &self.compiled)
    }
}

/// A component ready for instances, if its imports and its export have the types of the contract.
pub(crate) fn link_tool(
    linker: &Linker<Host>,
    component: &Component,
) -> Result<contract::ToolPre<Host>, &'static Rule> {
    let linked = linker.instantiate_pre(component).map_err(|_| &rules::IMPORT)?;
    contract::ToolPre::new(linked).map_err(|_| &rules::EXPORT)
}

fn refused(rule: &'static Rule, detail: impl Into<String>) -> InstallError {
    InstallError::Refused { refusal: Refusal::new(rule, detail), words: None }
}

impl From<CompileError> for InstallError {
    fn from(error: CompileError) -> Self {
        let detail = error.to_string();
        match error {
            CompileError::TooLarge => refused(&rules::MALFORMED, detail),
            CompileError::Budget => refused(&rules::COMPILE, ""),
            CompileError::Broken => Self::Broken("the compiler did not run"),
            CompileError::Malformed(words) => {
                Self::Refused { refusal: Refusal::new(&rules::MALFORMED, ""), words: Some(words) }
            }
        }
    }
}
