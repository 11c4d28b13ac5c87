//! Compiled components on disk.
//!
//! A file is named for what it was made from and by which engine, and is machine code: loading one that somebody else
//! wrote is running their program. So its digest is kept in the database beside the owner's approval, and is compared
//! with the bytes that are then loaded, read once.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use types::Digest;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::runtime::compiling_engine;

/// A folder of compiled components.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    engine: String,
}

/// Why a compiled component was not loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no file, or it cannot be read.
    #[error("the compiled component is missing")]
    Missing,
    /// The file is not the one that was approved.
    #[error("the compiled component was changed")]
    Changed,
    /// The engine does not accept it.
    #[error("the compiled component was made for another version or processor")]
    Incompatible,
}

impl Cache {
    /// A cache in `folder`, which is this program's own.
    pub(crate) fn new(folder: &Path, engine: &Engine) -> Self {
        use std::hash::{Hash as _, Hasher as _};
        let mut hasher = Sha256Hasher::default();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let _ = hasher.finish();
        Self { folder: folder.to_owned(), engine: hasher.digest().short() }
    }

    /// The cache in `folder`, for benchmarks and tests that compile in their own process.
    pub fn open(folder: &Path) -> wasmtime::Result<Self> {
        Ok(Self::new(folder, &compiling_engine()?))
    }

    /// Where the machine code of a tool lies. `tool` is the digest that the owner approves.
    pub fn file(&self, tool: &Digest) -> PathBuf {
        self.folder.join(format!("{tool}-{}.cwasm", self.engine))
    }

    /// Keeps machine code and gives its digest. A file is replaced in one step.
    pub fn put(&self, tool: &Digest, compiled: &[u8]) -> std::io::Result<Digest> {
        std::fs::create_dir_all(&self.folder)?;
        let file = self.file(tool);
        let partial = file.with_extension(format!("partial-{}", std::process::id()));
        let mut written = std::fs::File::create(&partial)?;
        written.write_all(compiled)?;
        written.sync_all()?;
        std::fs::rename(&partial, &file)?;
        Ok(Digest::of(compiled))
    }

    /// Forgets a tool's machine code. That there is none is no error.
    pub fn remove(&self, tool: &Digest) -> std::io::Result<()> {
        match std::fs::remove_file(self.file(tool)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The component whose machine code has exactly this digest.
    pub(crate) fn load(
        &self,
        engine: &Engine,
        tool: &Digest,
        approved: &Digest,
    ) -> Result<Component, LoadError> {
        let compiled = std::fs::read(self.file(tool)).map_err(|_| LoadError::Missing)?;
        if Digest::of(&compiled) != *approved {
            return Err(LoadError::Changed);
        }
        from_own_compiler(engine, &compiled)
    }
}

/// Turns machine code into a component.
///
/// The caller vouches that the bytes came out of this program's own compiler: fresh from its child, or with the digest
/// that was recorded when they did.
#[allow(unsafe_code, reason = "the one place where compiled components are loaded")]
pub(crate) fn from_own_compiler(engine: &Engine, compiled: &[u8]) -> Result<Component, LoadError> {
    // SAFETY: `deserialize` asks that the bytes be the unmodified output of `precompile_component`. They are what our
    // compiler wrote, either just now over a pipe, or read once into `compiled` and found to have the digest that was
    // stored with the owner's approval when the compiler wrote them. No package and no tool supplies such bytes.
    // wasmtime itself checks that version, target and settings are this engine's.
    unsafe { Component::deserialize(engine, compiled) }.map_err(|_| LoadError::Incompatible)
}

/// Feeds a `Hash` into SHA-256: the default hasher may change between Rust releases, a file's name must not.
#[derive(Default)]
struct Sha256Hasher(Vec<u8>);

impl Sha256Hasher {
    fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl std::hash::Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
