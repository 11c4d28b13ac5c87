//! The root file system of commands, named by its digest.

mod build;
pub(crate) mod builder;
mod pull;

use bollard::errors::Error;
use bollard::models::ImageInspect;
use types::Digest;

use crate::engine::Engine;
use crate::unfit::{Unfit, plain};

pub use build::BuildError;
pub(crate) use build::{BASE, REPOSITORY};
pub use pull::{PullError, Pulled};

/// The system that images have to be made for.
const OS: &str = "linux";

/// An image that the engine has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// `sha256:` and the digest of its configuration, which names its layers by digest.
    pub id: String,
    /// Folders that it declares as volumes.
    pub(crate) volumes: Vec<String>,
}

/// What the engine has under a name.
enum Found {
    Fit(Image),
    /// One for another processor or system, in which nothing of this program would start.
    OtherPlatform,
    Nothing,
}

impl Image {
    /// The image of a digest, as `sha256:HEX` or `NAME@sha256:HEX`. A name alone is refused: it can come to mean
    /// another image. Nothing is pulled.
    pub async fn pinned(engine: &Engine, pin: &str) -> Result<Self, Unfit> {
        let digest = pin.rsplit_once('@').map_or(pin, |(_, digest)| digest);
        if digest.strip_prefix("sha256:").and_then(Digest::parse).is_none() {
            return Err(Unfit::ImageNotPinned(plain(pin)));
        }
        Self::present(engine, pin).await?.ok_or_else(|| Unfit::ImageGone(plain(pin)))
    }

    /// The image that the engine has under a name or a digest, if it has one. Nothing is pulled.
    pub async fn present(engine: &Engine, name: &str) -> Result<Option<Self>, Unfit> {
        match Self::find(engine, name).await {
            Ok(Found::Fit(image)) => Ok(Some(image)),
            Ok(Found::Nothing) => Ok(None),
            Ok(Found::OtherPlatform) => Err(Unfit::OtherPlatform(plain(name))),
            Err(_) => Err(Unfit::Broken("it does not tell about the image")),
        }
    }

    async fn find(engine: &Engine, name: &str) -> Result<Found, Error> {
        match engine.docker.inspect_image(name).await {
            Ok(found) => Ok(Found::of(found)),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }
}

impl Found {
    fn of(found: ImageInspect) -> Self {
        let is = |told: &Option<String>, own: &str| told.as_ref().is_none_or(|told| told == own);
        if !is(&found.os, OS) || !is(&found.architecture, architecture()) {
            return Self::OtherPlatform;
        }
        let volumes = found.config.and_then(|config| config.volumes).unwrap_or_default();
        found.id.map_or(Self::Nothing, |id| Self::Fit(Image { id, volumes }))
    }
}

/// The processor that this program, and with it a container's first process, is made for, as images call it: by Go's names.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}
