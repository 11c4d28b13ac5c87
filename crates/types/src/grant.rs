//! A grant: the owner lets one tool's code use one secret at one place.

use std::fmt;

use http::Method;

use crate::{
    Digest, Host, HostName, Injection, PathPrefix, Port, Scheme, SecretName, SecretUse, Target, ToolName,
};

/// Everything a grant binds. Whatever is not inside is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The tool.
    pub tool: ToolName,
    /// The digest of its component: a new version needs a new grant.
    pub digest: Digest,
    /// The secret.
    pub secret: SecretName,
    /// The one host it may go to.
    pub host: HostName,
    /// The port there.
    pub port: Port,
    /// The methods it may go with.
    pub methods: Vec<Method>,
    /// The paths it may go to.
    pub path: PathPrefix,
    /// Where it stands in the request.
    pub inject: Injection,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
    /// How often it may be used; `None` without a bound.
    pub max_uses: Option<u32>,
}

/// Why bytes are not a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the stored grant does not parse")]
pub struct GrantError;

impl Grant {
    const VERSION: u8 = 2;

    /// True when the grant lets this code send its secret to this target. Never in clear text.
    pub fn covers(&self, tool: &ToolName, digest: &Digest, target: &Target) -> bool {
        self.is_for(tool, digest, target) && self.path.covers(&target.path)
    }

    /// True when it covers the target, or some path that a less exact server may read instead of the one that is written.
    pub fn meets(&self, tool: &ToolName, digest: &Digest, target: &Target) -> bool {
        self.is_for(tool, digest, target) && target.path.folded().begins_under(self.path.folded())
    }

    fn is_for(&self, tool: &ToolName, digest: &Digest, target: &Target) -> bool {
        self.tool == *tool
            && self.digest == *digest
            && target.scheme == Scheme::Https
            && *target.host() == Host::Name(self.host.clone())
            && target.endpoint.port == self.port
            && self.methods.contains(&target.method)
    }

    /// The use that this grant allows.
    pub fn secret_use(&self) -> SecretUse {
        SecretUse { secret: self.secret.clone(), inject: self.inject.clone() }
    }

    /// The canonical bytes: a version, then every field behind its length.
    pub fn encode(&self) -> Vec<u8> {
        let methods = self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(",");
        let expires = self.expires_ms.map(|ms| ms.to_string()).unwrap_or_default();
        let uses = self.max_uses.map(|uses| uses.to_string()).unwrap_or_default();
        let fields = [
            self.tool.as_str(),
            &self.digest.to_string(),
            self.secret.as_str(),
            self.host.as_str(),
            &self.port.to_string(),
            &methods,
            self.path.as_str(),
            &self.inject.to_string(),
            &expires,
            &uses,
        ];
        let mut out = vec![Self::VERSION];
        for field in fields {
            out.extend_from_slice(&(field.len() as u32).to_be_bytes());
            out.extend_from_slice(field.as_bytes());
        }
        out
    }

    /// Reads canonical bytes back; accepts only what [`Grant::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, GrantError> {
        let (version, mut rest) = bytes.split_first().ok_or(GrantError)?;
        if *version != Self::VERSION {
            return Err(GrantError);
        }
        let mut field = || -> Result<&str, GrantError> {
            let (length, tail) = rest.split_first_chunk::<4>().ok_or(GrantError)?;
            let length = u32::from_be_bytes(*length) as usize;
            let value = tail.get(..length).ok_or(GrantError)?;
            rest = &tail[length..];
            std::str::from_utf8(value).map_err(|_| GrantError)
        };
        let grant = Self {
            tool: ToolName::parse(field()?).map_err(|_| GrantError)?,
            digest: Digest::parse(field()?).ok_or(GrantError)?,
            secret: SecretName::parse(field()?).map_err(|_| GrantError)?,
            host: HostName::parse(field()?).map_err(|_| GrantError)?,
            port: Port::parse(field()?).map_err(|_| GrantError)?,
            methods: field()?
                .split(',')
                .map(|method| Method::from_bytes(method.as_bytes()).map_err(|_| GrantError))
                .collect::<Result<_, _>>()?,
            path: PathPrefix::parse(field()?).map_err(|_| GrantError)?,
            inject: Injection::parse(field()?).map_err(|_| GrantError)?,
            expires_ms: match field()? {
                "" => None,
                digits => Some(digits.parse().map_err(|_| GrantError)?),
            },
            max_uses: match field()? {
                "" => None,
                digits => Some(digits.parse().map_err(|_| GrantError)?),
            },
        };
        if grant.encode() != bytes {
            return Err(GrantError);
        }
        Ok(grant)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(",");
        write!(
            f,
            "{} for {}@{} to {} {}:{}{} as {}",
            self.secret,
            self.tool,
            self.digest.short(),
            methods,
            self.host,
            self.port,
            self.path,
            self.inject
        )?;
        match self.max_uses {
            Some(uses) => write!(f, ", {uses} times"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant() -> Grant {
        Grant {
            tool: ToolName::parse("weather").unwrap(),
            digest: Digest::of(b"component"),
            secret: SecretName::parse("WEATHER_KEY").unwrap(),
            host: HostName::parse("api.weather.com").unwrap(),
            port: Port::new(443).unwrap(),
            methods: vec![Method::GET],
            path: PathPrefix::parse("/v1").unwrap(),
            inject: Injection::Bearer,
            expires_ms: Some(5),
            max_uses: Some(3),
        }
    }

    #[test]
    fn covers_only_what_it_names() {
        let grant = grant();
        let covers = |method: &str, url: &str| {
            grant.covers(&grant.tool, &grant.digest, &Target::parse(method, url).unwrap())
        };
        let meets = |method: &str, url: &str| {
            grant.meets(&grant.tool, &grant.digest, &Target::parse(method, url).unwrap())
        };
        assert!(covers("GET", "https://API.weather.com/v1/now?q=1"));
        assert!(!covers("GET", "https://api.weather.com/V1") && meets("GET", "https://api.weather.com/V1;x"));
        for (method, url) in [
            ("POST", "https://api.weather.com/v1"),
            ("GET", "http://api.weather.com:443/v1"),
            ("GET", "https://api.weather.com:8443/v1"),
            ("GET", "https://weather.com/v1"),
            ("GET", "https://api.weather.com/v10"),
        ] {
            assert!(!covers(method, url) && !meets(method, url), "{method} {url}");
        }
        let target = Target::parse("GET", "https://api.weather.com/v1").unwrap();
        assert!(!grant.covers(&grant.tool, &Digest::of(b"other"), &target));
    }

    #[test]
    fn reads_itself_back() {
        assert_eq!(Grant::decode(&grant().encode()), Ok(grant()));
        let open = Grant { expires_ms: None, max_uses: None, ..grant() };
        assert_eq!(Grant::decode(&open.encode()), Ok(open));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Grant::decode(&bytes);
        }

        #[test]
        fn a_changed_byte_is_never_the_same_grant(index in 0usize..180, bit in 0u8..8) {
            let mut bytes = grant().encode();
            let index = index % bytes.len();
            bytes[index] ^= 1 << bit;
            prop_assert_ne!(Grant::decode(&bytes), Ok(grant()));
        }
    }
}
