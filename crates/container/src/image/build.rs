//! The base image, made from Debian packages where no registry has to be reached.

use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use bollard::query_parameters::{CreateImageOptions, TagImageOptions};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;
use tokio::sync::oneshot;
use types::Digest;

use super::builder::{Builder, LEAN, NOT_FOUND};
use super::{Found, Image};
use crate::engine::Engine;
use crate::note::Notes;

/// How the engine calls an image that this program made, with its recipe as tag, so that the same one is not made
/// again. An image gets the name once it is whole.
pub(crate) const REPOSITORY: &str = "ironclaw-base";

/// Marks images that this program made, with the name of the installation that did.
pub(crate) const BASE: &str = "org.ironclaw.base";

/// Hexadecimal digits of a recipe's digest in a tag.
const TAG: usize = 32;

/// Packages beside Debian's essential ones.
const PACKAGES: &[&str] = &["ca-certificates", "curl", "git", "python3-minimal"];

/// The release of Debian.
pub(super) const SUITE: &str = "bookworm";

/// How long making an image may take. The engine answers when it has all of it.
const BUILD_TIME: Duration = Duration::from_secs(1800);

/// How much of the root file system is passed on at a time.
const PIECE: usize = 64 * 1024;

/// Why an image was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BuildError {
    /// Neither mmdebstrap is installed nor, for root, debootstrap.
    #[error(
        "mmdebstrap is missing\n  install it: sudo apt-get install mmdebstrap (where root makes the image, debootstrap serves too)"
    )]
    NoBuilder,
    /// The builder did not get a folder to work in.
    #[error("there is no folder to make the image in: {0}")]
    Folder(io::ErrorKind),
    /// Whoever asked for it did not want it any more.
    #[error("the image was not made: it was ended before its end")]
    Ended,
    /// The builder did not come to its end; it said why.
    #[error("making the image failed; why stands above")]
    Builder,
    /// The engine did not take the root file system.
    #[error("Docker Engine did not take the image")]
    Import,
}

impl Image {
    /// The base image, made now from Debian's packages unless the engine has one of the same recipe; given up once `ended`
    /// is over. When this returns nothing of the builder lives on, and nothing that it mounted or wrote into `folder` stays.
    pub async fn build(
        engine: &Engine,
        folder: &Path,
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
        let id = import(engine, folder, &include, ended).await?;
        let name = TagImageOptions { repo: Some(REPOSITORY.to_owned()), tag: Some(tag.to_owned()) };
        engine.docker.tag_image(&id, Some(name)).await.map_err(|_| BuildError::Import)?;
        Self::pinned(engine, &id).await.map_err(|_| BuildError::Import)
    }
}

/// Lets a builder write a root file system into the engine, which answers with its digest.
async fn import(
    engine: &Engine,
    folder: &Path,
    include: &str,
    ended: impl Future<Output = ()>,
) -> Result<String, BuildError> {
    let made_by = Notes::open(folder).and_then(|notes| notes.installation());
    let made_by = made_by.map_err(|error| BuildError::Folder(error.kind()))?;
    let (mut builder, output) = Builder::start(folder, include)?;
    let (told, is_whole) = oneshot::channel();
    let made = async {
        let status = builder.program.wait().await;
        let _ = told.send(status.as_ref().is_ok_and(ExitStatus::success));
        match status.map(|status| status.code()) {
            Ok(Some(0)) => Ok(()),
            Ok(Some(NOT_FOUND)) => Err(BuildError::NoBuilder),
            _ => Err(BuildError::Builder),
        }
    };
    let imported = tokio::select! {
        biased;
        () = ended => Err(BuildError::Ended),
        // Whichever fails first is why; the engine takes no half of anything.
        imported = async { tokio::try_join!(made, take_in(engine, &made_by, output, is_whole)) } => {
            imported.map(|((), id)| id)
        }
    };
    builder.end().await;
    imported?.ok_or(BuildError::Import)
}

/// Gives the root file system to the engine, and the digest that it answers with, if any. What the builder wrote ends well
/// only if the builder does: the beginning of an archive can look like a whole one.
async fn take_in(
    engine: &Engine,
    made_by: &str,
    output: ChildStdout,
    is_whole: oneshot::Receiver<bool>,
) -> Result<Option<String>, BuildError> {
    let pieces = futures_util::stream::unfold(Some((output, is_whole)), |reading| async {
        let (mut output, is_whole) = reading?;
        let mut piece = vec![0; PIECE];
        match output.read(&mut piece).await {
            Ok(0) => match is_whole.await {
                Ok(true) => None,
                _ => Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None)),
            },
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(Bytes::from(piece)), Some((output, is_whole))))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        changes: vec![format!("LABEL {BASE}={made_by}")],
        ..CreateImageOptions::default()
    };
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
