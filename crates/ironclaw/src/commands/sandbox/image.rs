//! `ironclaw sandbox build-image`: the image that commands run in, made here, taken from the engine or pulled.

use container::{BuildError, Engine, Image, PullError};
use policy::Turn;
use serde_json::json;
use types::{CallId, Field, ImageName, Kind, Pull, Record, Trace, Verdict};

use super::super::progress::Progress;
use super::super::signals::Signals;
use super::{pin_file, unfit};
use crate::cli;
use crate::exit::{Failure, Outcome};
use crate::parts::{self, Base};
use crate::terminal::Terminal;

/// An image, and the name that it came under if it was not made here.
type Chosen = (Image, Option<ImageName>);

/// Makes or takes an image and remembers its digest.
pub async fn choose(args: &cli::BuildImage, base: &Base, terminal: &Terminal) -> Outcome {
    if let Some(name) = args.include.iter().find(|name| !is_package(name)) {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        return Err(Failure::usage(format!("{plain} is not the name of a Debian package")));
    }
    let from = args.from.as_deref().map(From::parse).transpose()?;
    let engine = Engine::connect(&parts::container_config(&base.home, &base.config)).await;
    let engine = engine.map_err(|fault| unfit(&fault, &base.home))?;
    let (image, name) = match from {
        None => (build(&args.include, args.again, &engine, base, terminal).await?, None),
        Some(From::Id(id)) => {
            (Image::pinned(&engine, &id).await.map_err(|fault| unfit(&fault, &base.home))?, None)
        }
        Some(From::Name(name)) => take(name, args.again, &engine, base, terminal).await?,
    };
    // First the record, then the pin that commands go by.
    let done = chosen(Verdict::Done).with(Field::Digest, &image.id);
    let done = name.iter().fold(done, |done, name| done.with(Field::Image, name));
    base.audit.record(done).await.map_err(Failure::environment)?;
    let unwritten = |_| Failure::environment("the image's digest cannot be kept in the data folder");
    std::fs::write(pin_file(&base.home), format!("{}\n", image.id)).map_err(unwritten)?;
    let shown = name.as_ref().map(ToString::to_string);
    let named = shown.as_ref().map(|name| format!("\n  it is {name}")).unwrap_or_default();
    terminal
        .done(json!({ "image": image.id, "name": shown }), format!("commands run in {}{named}", image.id));
    if base.config.sandbox.image.is_some() {
        terminal.warn("ironclaw: they still run in what image names in [sandbox] of the configuration; take it out there");
    }
    Ok(())
}

/// What a person calls an image.
enum From {
    /// By its digest in the engine.
    Id(String),
    Name(ImageName),
}

impl From {
    fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with("sha256:") {
            return Ok(Self::Id(text.to_owned()));
        }
        ImageName::parse(text).map(Self::Name).map_err(|error| Failure::usage(format!("--from: {error}")))
    }
}

fn chosen(verdict: Verdict) -> Record {
    Record::new(Kind::Image, verdict).with(Field::Actor, "owner")
}

/// The base image of Debian packages.
async fn build(
    include: &[String],
    again: bool,
    engine: &Engine,
    base: &Base,
    terminal: &Terminal,
) -> Result<Image, Failure> {
    if !terminal.is_json() {
        terminal.say("making the base image from Debian packages, or finding the one that was made");
    }
    let (mut signals, mut by) = (Signals::listen()?, None);
    let ended = async { by = Some(signals.ended().await) };
    match Image::build(engine, &base.home.sandbox(), include, again, ended).await {
        Ok(image) => Ok(image),
        Err(error) => {
            let failed = chosen(Verdict::Failed).with(Field::Reason, error);
            base.audit.record(failed).await.map_err(Failure::environment)?;
            Err(match error {
                BuildError::Ended => by.unwrap_or_else(|| Failure::environment(error)),
                error => Failure::environment(error),
            })
        }
    }
}

/// The image that the engine has under a name, or pulled.
async fn take(
    name: ImageName,
    again: bool,
    engine: &Engine,
    base: &Base,
    terminal: &Terminal,
) -> Result<Chosen, Failure> {
    // Where the name says a digest, the tag means nothing.
    let sought = match name.digest() {
        Some(digest) => format!("{}@sha256:{digest}", name.place()),
        None => name.to_string(),
    };
    let has = Image::present(engine, &sought).await.map_err(|fault| unfit(&fault, &base.home))?;
    if let (false, Some(image)) = (again, has) {
        return Ok((image, Some(name)));
    }
    let (mut signals, mut by) = (Signals::listen()?, None);
    let policy = parts::policy(base, parts::catalog(base, Vec::new()))?;
    let turn = Turn::begin(Trace::off());
    let pull = Pull { id: CallId::new(), image: name };
    let permit = policy.decide_pull(&turn, pull).await.map_err(|refusal| Failure::Refused(vec![refusal]))?;
    if !terminal.is_json() {
        terminal.say(format!("pulling {}", permit.effect().image));
    }
    let mut progress = Progress::new(None);
    let ended = async { by = Some(signals.ended().await) };
    match Image::pull(engine, permit, |more| progress.add(more), ended).await {
        Ok(pulled) => Ok((pulled.image, Some(pulled.name))),
        Err(PullError::Refused(refusal)) => Err(Failure::Refused(vec![refusal])),
        Err(error @ PullError::NotThere(_)) => Err(Failure::not_found(error)),
        Err(error @ PullError::Ended) => Err(by.unwrap_or_else(|| Failure::environment(error))),
        Err(error) => Err(Failure::environment(error)),
    }
}

/// Debian Policy 5.6.1: lower case letters, digits, `+`, `-` and `.`, at least two, and no option of a program.
fn is_package(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
    name.len() >= 2 && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_never_an_option_or_a_list() {
        for good in ["make", "g++", "libc6-dev", "python3.11"] {
            assert!(is_package(good), "{good}");
        }
        for bad in ["", "a", "-x", "--hook=x", "a,b", "a b", "A", "a;b", ".."] {
            assert!(!is_package(bad), "{bad}");
        }
    }
}
