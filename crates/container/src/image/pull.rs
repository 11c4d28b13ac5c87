//! An image that the engine fetches from its registry. Nothing else in this program makes it do so.

use std::collections::HashMap;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;
use policy::{Permit, Settlement};
use types::{Digest, Field, ImageName, Pull, Refusal, Verdict};

use super::{Found, Image};
use crate::engine::Engine;
use crate::rules;
use crate::unfit::sentence;

/// How long a pull may take: 10 GB over 20 Mbit/s, and somewhat more.
const PULL_TIME: Duration = Duration::from_secs(2 * 3600);

/// What the engine says of the digest of the manifest that it took.
const DIGEST: &str = "Digest: sha256:";

/// What the engine says of a layer while its bytes come, with their number.
const DOWNLOADING: &str = "Downloading";

/// An image that was pulled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pulled {
    /// What the engine has now.
    pub image: Image,
    /// Its name with the digest that came.
    pub name: ImageName,
}

/// Why an image was not pulled. Names are canonical, and of the engine's own words only plain characters are repeated.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// A rule refused it, before or after.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Whoever asked for it did not want it any more.
    #[error("the image was not pulled: it was ended before its end")]
    Ended,
    /// The registry has no such image, or none for everybody.
    #[error(
        "{registry} shows no such image to everybody: {0}\n  look at its name; or, if it is there for those who log in: \
         docker login {registry}; docker pull {0}; then this command again", registry = .0.registry()
    )]
    NotThere(ImageName),
    /// The registry wants to know who asks.
    #[error("{registry} wants a login\n  docker login {registry}; docker pull {0}; then this command again", registry = .0.registry())]
    Login(ImageName),
    /// The registry does not answer the engine.
    #[error(
        "Docker Engine does not reach {registry} ({1})\n  the engine has proxy and DNS settings of its own: docker info",
        registry = .0.registry()
    )]
    Unreachable(ImageName, String),
    /// It is made for another processor or system.
    #[error("{0} is not made for {os}/{arch}\n  choose another tag or digest of it", os = super::OS, arch = super::architecture())]
    Platform(ImageName),
    /// The engine's disk is full.
    #[error(
        "Docker Engine has no space left on its disk\n  ironclaw sandbox prune --images; docker system df"
    )]
    DiskFull,
    /// Something else; the engine said what.
    #[error("Docker Engine did not pull {0} ({1})")]
    Engine(ImageName, String),
    /// The outcome could not be recorded.
    #[error(transparent)]
    Unrecorded(#[from] audit::AuditError),
}

impl Image {
    /// Lets the engine fetch the image of a permit, given up once `ended` is over; `progress` is told of bytes as they come.
    /// Whatever its tag means by then, what this gives has the digest that came, and where the name says one, that one.
    ///
    /// Nothing is pulled on the strength of a name:
    ///
    /// ```compile_fail
    /// async fn pull(engine: &container::Engine, name: types::Pull) {
    ///     let _ = container::Image::pull(engine, name, |_| {}, std::future::pending()).await;
    /// }
    /// ```
    ///
    /// but of a permit:
    ///
    /// ```
    /// async fn pull(engine: &container::Engine, name: policy::Permit<types::Pull>) {
    ///     let _ = container::Image::pull(engine, name, |_| {}, std::future::pending()).await;
    /// }
    /// ```
    pub async fn pull(
        engine: &Engine,
        permit: Permit<Pull>,
        progress: impl FnMut(u64),
        ended: impl Future<Output = ()>,
    ) -> Result<Pulled, PullError> {
        let (Pull { image: name, .. }, settlement) = permit.redeem()?;
        let pulled = tokio::select! {
            biased;
            () = ended => Err(PullError::Ended),
            pulled = fetch(engine, &name, progress) => pulled,
            () = tokio::time::sleep(PULL_TIME) => Err(PullError::Engine(name, "it takes too long".to_owned())),
        };
        settle(settlement, &pulled).await?;
        pulled
    }
}

async fn settle(settlement: Settlement, pulled: &Result<Pulled, PullError>) -> Result<(), audit::AuditError> {
    let (verdict, fields) = match pulled {
        Ok(Pulled { image, name }) => {
            (Verdict::Done, vec![(Field::Image, name.to_string()), (Field::Digest, image.id.clone())])
        }
        Err(PullError::Refused(refusal)) => {
            let rule = (Field::Rule, refusal.rule.id.to_owned());
            (
                Verdict::Block,
                vec![rule, (Field::Refusal, refusal.id.to_string()), (Field::Reason, refusal.detail.clone())],
            )
        }
        Err(error) => {
            let why = error.to_string().lines().next().unwrap_or_default().to_owned();
            (Verdict::Failed, vec![(Field::Reason, why)])
        }
    };
    settlement.settle(verdict, fields).await.map(drop)
}

/// Has the engine pull what a name means, and finds it again by its digest.
async fn fetch(
    engine: &Engine,
    name: &ImageName,
    mut progress: impl FnMut(u64),
) -> Result<Pulled, PullError> {
    let digest = name.digest().map(|digest| format!("sha256:{digest}"));
    let options = CreateImageOptions {
        from_image: Some(name.place()),
        // The engine takes either here.
        tag: digest.or_else(|| name.tag().map(str::to_owned)),
        ..CreateImageOptions::default()
    };
    let docker = engine.docker.clone().with_timeout(PULL_TIME);
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where an image is pulled: its permit was used up for it"
    )]
    let mut steps = std::pin::pin!(docker.create_image(Some(options), None, None));
    let (mut layers, mut came) = (HashMap::new(), None);
    while let Some(step) = steps.next().await {
        let step = step.map_err(|error| fault(name, &error))?;
        came = digest_of(&step).or(came);
        progress(more(&mut layers, &step));
    }
    let came = came.filter(|came| name.digest().is_none_or(|asked| asked == *came));
    let wrong = || PullError::from(Refusal::new(&rules::IMAGE_DIGEST, name.to_string()));
    let name = name.with_digest(came.ok_or_else(wrong)?);
    let by_digest = format!("{}@sha256:{}", name.place(), came.ok_or_else(wrong)?);
    match Image::find(engine, &by_digest).await {
        Ok(Found::Fit(image)) => Ok(Pulled { image, name }),
        Ok(Found::OtherPlatform) => Err(PullError::Platform(name)),
        Ok(Found::Nothing) => Err(wrong()),
        Err(error) => Err(fault(&name, &error)),
    }
}

/// The digest that a step tells of, if it does.
fn digest_of(step: &CreateImageInfo) -> Option<Digest> {
    Digest::parse(step.status.as_ref()?.strip_prefix(DIGEST)?)
}

/// How many bytes came since the step before of the same layer.
fn more(layers: &mut HashMap<String, u64>, step: &CreateImageInfo) -> u64 {
    let (Some(layer), Some(DOWNLOADING)) = (&step.id, step.status.as_deref()) else { return 0 };
    let current = step.progress_detail.as_ref().and_then(|detail| detail.current);
    let current = current.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
    let before = layers.insert(layer.clone(), current).unwrap_or_default();
    current.saturating_sub(before)
}

/// What the engine's words mean. It has no codes for it: what registries and the kernel say comes as it is, in an answer or
/// in the middle of one.
fn fault(name: &ImageName, error: &Error) -> PullError {
    let (status, words) = match error {
        Error::DockerResponseServerError { status_code, message } => (*status_code, message.as_str()),
        Error::DockerStreamError { error } => (0, error.as_str()),
        _ => return PullError::Engine(name.clone(), "it did not answer".to_owned()),
    };
    let lower = words.to_lowercase();
    let says = |any: &[&str]| any.iter().any(|phrase| lower.contains(phrase));
    match () {
        () if says(&["no space left on device"]) => PullError::DiskFull,
        () if says(&["verification failed", "digest mismatch", "mismatched digest"]) => {
            Refusal::new(&rules::IMAGE_DIGEST, name.to_string()).into()
        }
        () if says(&[
            "no matching manifest",
            "does not match the specified platform",
            "cannot be used on this platform",
        ]) =>
        {
            PullError::Platform(name.clone())
        }
        () if says(&["no basic auth", "unauthorized", "authentication required"]) => {
            PullError::Login(name.clone())
        }
        () if says(&["manifest unknown", "name unknown", "not found", "access denied", "does not exist"])
            || status == 404 =>
        {
            PullError::NotThere(name.clone())
        }
        () if says(UNREACHABLE) => PullError::Unreachable(name.clone(), sentence(words)),
        () => PullError::Engine(name.clone(), sentence(words)),
    }
}

/// What Go's network library says where no answer comes.
const UNREACHABLE: &[&str] = &[
    "dial tcp",
    "no such host",
    "connection refused",
    "connection reset",
    "timeout",
    "deadline exceeded",
    "x509",
    "server gave http response to https client",
    "tls:",
    ": eof",
];

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn name() -> ImageName {
        ImageName::parse("registry.example:5000/a:1").unwrap()
    }

    /// Words of engines 20.10 and 24.
    #[test]
    fn what_the_engine_says_becomes_what_to_do() {
        let stream = |error: &str| fault(&name(), &Error::DockerStreamError { error: error.to_owned() });
        let answer = |status_code: u16, message: &str| {
            fault(&name(), &Error::DockerResponseServerError { status_code, message: message.to_owned() })
        };
        let full = "failed to register layer: Error processing tar file(exit status 1): write /a: no space left on device";
        assert!(matches!(stream(full), PullError::DiskFull));
        let platform = "no matching manifest for linux/amd64 in the manifest list entries";
        assert!(matches!(answer(404, platform), PullError::Platform(_)));
        assert!(matches!(stream(platform), PullError::Platform(_)));
        let unknown = "manifest for registry.example:5000/a:1 not found: manifest unknown: manifest unknown";
        assert!(matches!(answer(404, unknown), PullError::NotThere(_)));
        let denied = "pull access denied for a, repository does not exist or may require 'docker login': denied: requested access to the resource is denied";
        assert!(matches!(answer(404, denied), PullError::NotThere(_)));
        let login = "Head \"https://registry.example:5000/v2/a/manifests/1\": no basic auth credentials";
        assert!(matches!(answer(500, login), PullError::Login(_)));
        for words in [
            "Get \"https://registry.example:5000/v2/\": dial tcp: lookup registry.example: no such host",
            "Get \"https://registry.example:5000/v2/\": net/http: TLS handshake timeout",
            "Get \"https://registry.example:5000/v2/\": http: server gave HTTP response to HTTPS client",
            "Get \"https://registry.example:5000/v2/\": x509: certificate signed by unknown authority",
        ] {
            assert!(matches!(answer(500, words), PullError::Unreachable(..)), "{words}");
        }
        let wrong = "manifest verification failed for digest sha256:00";
        assert!(
            matches!(stream(wrong), PullError::Refused(refusal) if refusal.rule.id == rules::IMAGE_DIGEST.id)
        );
        let other = answer(500, "it\u{1b}[2J broke");
        assert_eq!(other.to_string(), "Docker Engine did not pull registry.example:5000/a:1 (it [2J broke)");
    }

    #[test]
    fn bytes_are_counted_by_layer() {
        let mut layers = HashMap::new();
        let mut step = |id: &str, status: &str, current: i64| {
            let progress_detail = Some(ProgressDetail { current: Some(current), total: None });
            let step = CreateImageInfo {
                id: Some(id.to_owned()),
                status: Some(status.to_owned()),
                progress_detail,
                ..CreateImageInfo::default()
            };
            more(&mut layers, &step)
        };
        assert_eq!(
            [step("a", "Downloading", 10), step("b", "Downloading", 5), step("a", "Downloading", 30)],
            [10, 5, 20]
        );
        assert_eq!(
            [step("a", "Extracting", 90), step("a", "Downloading", 30), step("b", "Downloading", -1)],
            [0, 0, 0]
        );
    }
}
