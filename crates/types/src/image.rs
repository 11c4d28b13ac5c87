//! Names of images in one canonical form.
//!
//! The grammar is that of the OCI Distribution Specification (1.1, "Pulling manifests"), and a name without a registry means
//! what it means to Docker: `debian` is `docker.io/library/debian:latest`. The canonical form leaves nothing to
//! be filled in, so whoever reads it names the same registry that was judged.

use std::fmt;

use crate::{Digest, Endpoint, Host};

/// The registry of names that name none.
const DEFAULT: &str = "docker.io";

/// Another name of the same.
const DEFAULT_INDEX: &str = "index.docker.io";

/// Where the default registry keeps images that are named without a slash.
const OFFICIAL: &str = "library";

/// The tag of a name without one and without a digest.
const LATEST: &str = "latest";

/// Bytes of a repository with its registry, and of a tag.
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// Why text is no name of an image. No variant quotes the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImageNameError {
    /// No host, or one that could be read as a part of the path.
    #[error("the registry is not a host, or a host and a port")]
    Registry,
    /// Upper case, an empty part, or a character that no repository has.
    #[error("the repository is not made of lower-case letters, digits and single separators")]
    Repository,
    /// A tag with a character that none has, or too long.
    #[error("the tag is not made of letters, digits, '_', '.' and '-'")]
    Tag,
    /// Anything but SHA-256.
    #[error("the digest is not sha256: and 64 hexadecimal digits")]
    Digest,
}

/// A registry: a host, and its port where the name says one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Registry(Box<str>);

impl Registry {
    /// Reads `HOST` or `HOST:PORT`. A host without a dot and without a port is one only as `localhost`, since in the name of an
    /// image it would be a part of the path.
    pub fn parse(text: &str) -> Result<Self, ImageNameError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if !text.bytes().all(is_plain) || !is_registry(text) {
            return Err(ImageNameError::Registry);
        }
        let port = text.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        // Which port a name without one means depends on what the registry speaks; the two stay different.
        let place = Endpoint::parse(text, Some(443)).map_err(|_| ImageNameError::Registry)?;
        let host = match &place.host {
            Host::Name(name) if name.as_str() == DEFAULT_INDEX => DEFAULT.to_owned(),
            host => host.to_authority(),
        };
        Ok(Self(if port { format!("{host}:{}", place.port) } else { host }.into()))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of an image: where it is, and which one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ImageName {
    registry: Registry,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageName {
    /// Reads `[REGISTRY/]REPOSITORY[:TAG][@sha256:HEX]`.
    pub fn parse(text: &str) -> Result<Self, ImageNameError> {
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => (name, Some(sha256(digest).ok_or(ImageNameError::Digest)?)),
        };
        let (registry, rest) = match name.split_once('/') {
            Some((host, rest)) if is_registry(host) => (Registry::parse(host)?, rest),
            _ => (Registry(DEFAULT.into()), name),
        };
        let (repository, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((repository, tag)) if is_tag(tag) => (repository, Some(tag.to_owned())),
            Some(_) => return Err(ImageNameError::Tag),
        };
        let is_official = registry.as_str() == DEFAULT && !repository.contains('/');
        let repository = if is_official { format!("{OFFICIAL}/{repository}") } else { repository.to_owned() };
        let is_whole = repository.split('/').all(is_component);
        if !is_whole || registry.as_str().len() + 1 + repository.len() > MAX_REPOSITORY {
            return Err(ImageNameError::Repository);
        }
        let tag = tag.or_else(|| digest.is_none().then(|| LATEST.to_owned()));
        Ok(Self { registry, repository, tag, digest })
    }

    /// Where it is.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Its path there.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Its tag, which can come to mean another image. A name with a digest means that digest, whatever its tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Its digest, where the name says it: that of its manifest.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository.
    pub fn place(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The image of this place that has a digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@sha256:{digest}"))
    }
}

/// Reads `sha256:` and 64 lower-case hexadecimal digits.
fn sha256(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix("sha256:")?;
    Digest::parse(hex).filter(|_| !hex.bytes().any(|byte| byte.is_ascii_uppercase()))
}

/// Whether what stands before the first slash is a registry and no part of the path.
fn is_registry(word: &str) -> bool {
    word.contains(['.', ':']) || word == "localhost"
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// One part of a repository's path: words with `.`, `_`, `__` or any number of `-` between them.
fn is_component(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_edge = |edge: Option<char>| edge.is_some_and(is_word);
    let separators = part.split(is_word).filter(|separator| !separator.is_empty());
    is_edge(part.chars().next())
        && is_edge(part.chars().last())
        && separators.into_iter().all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
        // Docker takes it for the digest of an image that it has.
        && Digest::parse(part).is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(text: &str) -> String {
        ImageName::parse(text).expect(text).to_string()
    }

    #[test]
    fn a_name_has_one_canonical_form() {
        for (text, canonical) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:bookworm-slim", "docker.io/library/debian:bookworm-slim"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest"),
            ("me/tools__a.b---c:V1_0.2-x", "docker.io/me/tools__a.b---c:V1_0.2-x"),
            ("localhost/a", "localhost/a:latest"),
            ("GHCR.io/a/b/c", "ghcr.io/a/b/c:latest"),
            ("registry.example.:5000/a", "registry.example:5000/a:latest"),
            ("registry:5000/a:1", "registry:5000/a:1"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
            ("127.1:5000/a", "127.0.0.1:5000/a:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ] {
            assert_eq!(read(text), canonical);
            assert_eq!(read(canonical), canonical);
        }
        let pinned = ImageName::parse(&format!("debian@sha256:{HEX}")).unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/library/debian@sha256:{HEX}"));
        assert_eq!((pinned.tag(), pinned.digest()), (None, Digest::parse(HEX)));
        assert_eq!(read(&format!("a.example/b:1@sha256:{HEX}")), format!("a.example/b:1@sha256:{HEX}"));
    }

    #[test]
    fn what_is_no_name_or_has_two_readings_is_refused() {
        use ImageNameError::{Digest as D, Registry as R, Repository as P, Tag as T};
        let upper = format!("a@sha256:{}", HEX.to_uppercase());
        for (text, error) in [
            ("", P),
            ("/a", P),
            ("a/", P),
            ("a//b", P),
            ("Debian", P),
            ("a/B", P),
            ("a/../b", P),
            ("-a", P),
            ("a_", P),
            ("a___b", P),
            ("a._b", P),
            ("a b", P),
            ("a\u{301}", P),
            (HEX, P),
            (&format!("{}/a", "a".repeat(255)), P),
            (":tag", P),
            ("a:", T),
            ("a:.b", T),
            ("a:b c", T),
            ("a:b:c", T),
            (&format!("a:{}", "b".repeat(129)), T),
            ("a:5000/b/c:d:e", T),
            (":5000/a", R),
            ("a.example:0/b", R),
            ("a..example/b", R),
            ("http://a.example/b", R),
            ("user@a.example/b", D),
            ("\u{ff47}hcr.io/a", R),
            ("a.example%2f/b", R),
            ("a@sha512:00", D),
            ("a@sha256:00", D),
            ("a@", D),
            (&upper, D),
            (&format!("a@sha256:{HEX}@sha256:{HEX}"), D),
        ] {
            assert_eq!(ImageName::parse(text), Err(error), "{text}");
        }
        for bad in ["registry", "", "a.example/b", "a b", "a.example:", "a.example:x", "*.example"] {
            assert!(Registry::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics_and_the_canonical_form_of_a_name_is_a_fixed_point(
            text in prop_oneof!["\\PC{0,60}", "([a-zA-Z0-9._:-]{0,9}/){0,3}[a-z0-9._-]{0,9}(:[a-z0-9.]{0,4})?(@sha256:[0-9a-f]{64})?"]
        ) {
            if let Ok(name) = ImageName::parse(&text) {
                prop_assert_eq!(ImageName::parse(&name.to_string()), Ok(name.clone()));
                prop_assert!(is_registry(name.registry().as_str()));
                prop_assert_eq!(&Registry::parse(name.registry().as_str()).unwrap(), name.registry());
            }
        }
    }
}
