//! The base image, made from Debian packages where no registry has to be reached.

use std::process::Stdio;
use std::time::Duration;

use bollard::query_parameters::{CreateImageOptions, TagImageOptions};
use bytes::Bytes;
use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout};
use types::Digest;

use super::{Found, Image};
use crate::engine::Engine;

/// How the engine calls an image that this program made, with its recipe as tag, so that the same one is not made
/// again. An image gets the name once it is whole.
const REPOSITORY: &str = "ironclaw-base";

/// Hexadecimal digits of a recipe's digest in a tag.
const TAG: usize = 32;

/// Packages beside Debian's essential ones.
const PACKAGES: &[&str] = &["ca-certificates", "curl", "git", "python3-minimal"];

/// The release of Debian.
const SUITE: &str = "bookworm";

/// Options of mmdebstrap: no documentation, no translations, no cached packages.
const LEAN: &[&str] = &[
    "--quiet",
    "--variant=minbase",
    "--format=tar",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--aptopt=Acquire::Languages \"none\"",
];

/// How long making an image may take. The engine answers when it has all of it.
const BUILD_TIME: Duration = Duration::from_secs(1800);

/// How long the builder may take to put away what it made. It removes some tens of thousands of files.
const END_TIME: Duration = Duration::from_secs(60);

/// How much of the root file system is passed on at a time.
const PIECE: usize = 64 * 1024;

/// Why an image was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BuildError {
    /// mmdebstrap is not installed.
    #[error("mmdebstrap is missing\n  install it: sudo apt-get install mmdebstrap")]
    NoBuilder,
    /// Whoever asked for it did not want it any more.
    #[error("the image was not made: it was ended before its end")]
    Ended,
    /// mmdebstrap did not come to its end; it said why.
    #[error("mmdebstrap failed; what it said stands above")]
    Builder,
    /// The engine did not take the root file system.
    #[error("Docker Engine did not take the image")]
    Import,
}

impl Image {
    /// The base image, made now from Debian's packages unless the engine has one of the same recipe; given up once `ended`
    /// is over. When this returns nothing of the builder lives on, and nothing that it mounted stays.
    pub async fn build(
        engine: &Engine,
        packages: &[String],
        again: bool,
        ended: impl Future<Output = ()>,
    ) -> Result<Self, BuildError> {
        let packages: Vec<&str> =
            PACKAGES.iter().copied().chain(packages.iter().map(String::as_str)).collect();
        let include = format!("--include={}", packages.join(","));
        let parts = LEAN.iter().copied().chain([include.as_str(), SUITE]);
        let recipe = Digest::of_parts(parts.map(str::as_bytes)).to_string();
        let tag = &recipe[..TAG];
        let made = Self::find(engine, &format!("{REPOSITORY}:{tag}")).await;
        if let (false, Ok(Found::Fit(image))) = (again, made) {
            return Ok(image);
        }
        let id = import(engine, &include, ended).await?;
        let name = TagImageOptions { repo: Some(REPOSITORY.to_owned()), tag: Some(tag.to_owned()) };
        engine.docker.tag_image(&id, Some(name)).await.map_err(|_| BuildError::Import)?;
        Self::pinned(engine, &id).await.map_err(|_| BuildError::Import)
    }
}

/// Lets mmdebstrap write a root file system into the engine, which answers with its digest.
async fn import(
    engine: &Engine,
    include: &str,
    ended: impl Future<Output = ()>,
) -> Result<String, BuildError> {
    #[expect(clippy::disallowed_methods, reason = "the owner asked for an image; fixed program and options")]
    let mut builder = tokio::process::Command::new("mmdebstrap");
    builder
        .args(LEAN)
        .args([include, SUITE, "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut builder = builder.spawn().map_err(|_| BuildError::NoBuilder)?;
    let output = builder.stdout.take().ok_or(BuildError::NoBuilder)?;
    let imported = tokio::select! {
        imported = take_in(engine, output) => imported,
        () = ended => Err(BuildError::Ended),
    };
    if imported.is_err() {
        end(&mut builder).await;
    }
    let id = imported?;
    match builder.wait().await {
        Ok(status) if status.success() => id.ok_or(BuildError::Import),
        _ => Err(BuildError::Builder),
    }
}

/// Tells the builder to end, and waits: it unmounts what it mounted and ends its own children, which nobody does for it.
async fn end(builder: &mut Child) {
    let builder_id = builder.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(id) = builder_id {
        let _ = rustix::process::kill_process(id, Signal::TERM);
    }
    let _ = tokio::time::timeout(END_TIME, builder.wait()).await;
}

/// Gives the root file system to the engine, and the digest that it answers with, if any.
async fn take_in(engine: &Engine, output: ChildStdout) -> Result<Option<String>, BuildError> {
    let pieces = futures_util::stream::unfold(output, |mut output| async move {
        let mut piece = vec![0; PIECE];
        match output.read(&mut piece).await {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(Bytes::from(piece)), output))
            }
            Err(error) => Some((Err(error), output)),
        }
    });
    let options = CreateImageOptions { from_src: Some("-".to_owned()), ..CreateImageOptions::default() };
    let body = bollard::body_try_stream(pieces);
    let docker = engine.docker.clone().with_timeout(BUILD_TIME);
    #[expect(clippy::disallowed_methods, reason = "what is imported comes from the builder and no registry")]
    let mut progress = std::pin::pin!(docker.create_image(Some(options), Some(body), None));
    let mut id = None;
    while let Some(step) = progress.next().await {
        let step = step.map_err(|_| BuildError::Import)?;
        id = step.status.filter(|status| status.starts_with("sha256:")).or(id);
    }
    Ok(id)
}
