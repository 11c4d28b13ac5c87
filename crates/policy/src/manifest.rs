//! Tool manifests: what a tool says it is and asks for, in TOML.
//!
//! Read in two stages: what was written (serde, unknown keys refused), then what it means (names,
//! hosts and limits parsed). A manifest gives nothing; it bounds what the owner can grant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use safety::Untrusted;
use serde::Deserialize;
use serde_json::Value;
use types::limits::{Bytes, MAX_MANIFEST, ToolLimits};
use types::{
    Digest, Host, HostName, Injection, Lane, PathPrefix, Port, Scheme, SecretName, Source, Target, ToolName,
};

/// The tools that are part of this program. An installed one of that name would run under what the owner said of
/// these, wherever these are off.
pub const BUILT_IN: [&str; 4] = ["read_file", "write_file", "list_dir", "shell"];

/// A parsed manifest.
#[derive(Debug)]
pub struct Manifest {
    /// The tool's name.
    pub name: ToolName,
    /// The author's version, three numbers with dots.
    pub version: String,
    /// For the model and for people. It is foreign text.
    pub description: Untrusted<String>,
    /// Words that people ask for it with, in any language, for matching without a model. Foreign text.
    pub keywords: Vec<Untrusted<String>>,
    /// JSON Schema of the arguments, an object schema. Its texts are foreign.
    pub parameters: Untrusted<Value>,
    /// Where the tool wants to connect.
    pub hosts: Vec<HostRule>,
    /// The secrets it wants and where they stand in a request.
    pub secrets: Vec<SecretWish>,
    /// What one call may use.
    pub limits: ToolLimits,
    /// Settings that the tool reads through the host; foreign text, visible to the tool only.
    pub config: BTreeMap<String, String>,
    /// It keeps files of its own from call to call.
    pub workspace: bool,
    /// A call changes something beyond the tool's own workspace.
    pub consequential: bool,
    /// The file of the component beside the manifest; read at installation only.
    pub component: Option<String>,
    /// The digest of the component. Installation pins it, so that a digest of the manifest stands for
    /// both.
    pub component_digest: Option<Digest>,
    /// Where it runs.
    pub lane: Lane,
    /// The person's folder that a tool of this program works in, links resolved.
    pub folder: Option<PathBuf>,
}

/// One place a tool wants to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostRule {
    /// The host.
    pub host: HostName,
    /// The port.
    pub port: Port,
    /// With or without TLS.
    pub scheme: Scheme,
    /// The methods.
    pub methods: Vec<Method>,
    /// The paths.
    pub path: PathPrefix,
}

impl HostRule {
    /// True for the rule's own endpoint, whatever the method and path.
    pub fn names(&self, target: &Target) -> bool {
        *target.host() == Host::Name(self.host.clone()) && target.endpoint.port == self.port
    }

    /// True when the rule lists the target's method and path.
    pub fn covers(&self, target: &Target) -> bool {
        self.names(target) && self.methods.contains(&target.method) && self.path.covers(&target.path)
    }
}

/// A secret that a tool wants to be sent with requests to one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretWish {
    /// The secret's name.
    pub secret: SecretName,
    /// The host, one of the manifest's.
    pub host: HostName,
    /// Where the secret stands.
    pub inject: Injection,
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST`] or not UTF-8.
    #[error("the manifest is larger than {MAX_MANIFEST} or not UTF-8")]
    Size,
    /// Not the TOML that a manifest is. The parser's message quotes the manifest, so it is foreign.
    #[error("the manifest is not valid TOML for a tool")]
    Toml(Untrusted<String>),
    /// A field that does not mean what it must.
    #[error("{field}: {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Manifest {
    /// Reads the manifest of a component.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::Size)?;
        if text.len() as u64 > MAX_MANIFEST.0 {
            return Err(ManifestError::Size);
        }
        let written: Written = toml::from_str(text)
            .map_err(|error| ManifestError::Toml(Untrusted::new(Source::File, error.to_string())))?;
        written.mean()
    }

    /// The text of a manifest that names this component. A manifest that names another one is refused.
    pub fn pin(text: &str, component: &Digest) -> Result<String, ManifestError> {
        match Self::parse(text.as_bytes())?.component_digest {
            None => Ok(format!("component_sha256 = \"{component}\"\n{text}")),
            Some(named) if named == *component => Ok(text.to_owned()),
            Some(_) => Err(field("component_sha256", "the component beside the manifest is another one")),
        }
    }

    /// The manifest of a tool that is part of this program.
    pub fn built_in(
        name: ToolName,
        lane: Lane,
        description: String,
        parameters: Value,
        consequential: bool,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: Untrusted::new(Source::Tool(name.clone()), description),
            keywords: Vec::new(),
            parameters: Untrusted::new(Source::Tool(name.clone()), parameters),
            hosts: Vec::new(),
            secrets: Vec::new(),
            limits: ToolLimits::DEFAULT,
            config: BTreeMap::new(),
            workspace: false,
            consequential,
            component: None,
            component_digest: None,
            folder: None,
            lane,
            name,
        }
    }

    /// True when a call can send something to the network.
    pub fn reaches_network(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// True when a call can return something of the owner's: a file, a note, what a key opens.
    pub fn reads_private(&self) -> bool {
        self.lane != Lane::Wasm || self.workspace || !self.secrets.is_empty()
    }

    /// True when a single call can both read the owner's files and send to the network.
    pub fn reads_and_sends(&self) -> bool {
        self.lane != Lane::Wasm && self.reaches_network()
    }

    /// The hosts that know already what a call returns: its own, where everything private that it reads came from
    /// them, opened by a key.
    pub fn readers(&self) -> BTreeSet<HostName> {
        let theirs = self.lane == Lane::Wasm && !self.workspace;
        self.hosts.iter().filter(|_| theirs).map(|rule| rule.host.clone()).collect()
    }

    /// True when a call can change something that outlives it, outside the tool's own workspace.
    /// A manifest may say so of itself; it cannot deny what its methods say.
    pub fn changes_things(&self) -> bool {
        let reads_only = |rule: &HostRule| rule.methods.iter().all(Method::is_safe);
        self.consequential || !self.hosts.iter().all(reads_only)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    version: String,
    description: String,
    #[serde(default)]
    keywords: Vec<String>,
    parameters: toml::Value,
    #[serde(default)]
    component: Option<String>,
    #[serde(default)]
    component_sha256: Option<String>,
    #[serde(default)]
    hosts: Vec<WrittenHost>,
    #[serde(default)]
    secrets: Vec<WrittenSecret>,
    #[serde(default)]
    limits: WrittenLimits,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    workspace: bool,
    #[serde(default)]
    consequential: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHost {
    host: String,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    clear_text: bool,
    methods: Vec<String>,
    #[serde(default)]
    path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSecret {
    name: String,
    host: String,
    inject: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WrittenLimits {
    memory_mib: Option<u64>,
    fuel: Option<u64>,
    time_ms: Option<u64>,
    output_kib: Option<u64>,
    log_kib: Option<u64>,
    host_calls: Option<u32>,
    requests: Option<u32>,
    response_kib: Option<u64>,
    workspace_mib: Option<u64>,
    files: Option<u32>,
}

fn field(field: &'static str, why: impl std::fmt::Display) -> ManifestError {
    ManifestError::Field { field, why: why.to_string() }
}

impl Written {
    fn mean(self) -> Result<Manifest, ManifestError> {
        let name = ToolName::parse(&self.name).map_err(|error| field("name", error))?;
        if [ToolName::agent(), ToolName::proxy(), ToolName::vault(), ToolName::log()].contains(&name)
            || BUILT_IN.contains(&name.as_str())
        {
            return Err(field("name", "the name is reserved for the agent and its own tools"));
        }
        let numbers = self.version.split('.').filter(|part| part.parse::<u32>().is_ok()).count();
        if numbers != 3 || self.version.split('.').count() != 3 {
            return Err(field("version", "three numbers with dots are expected, as in 1.0.0"));
        }
        if self.description.is_empty() || self.description.len() > 1024 {
            return Err(field("description", "between 1 and 1,024 bytes are expected"));
        }
        let fits = |word: &String| (1..=64).contains(&word.len()) && !word.contains(char::is_control);
        if self.keywords.len() > 64 || !self.keywords.iter().all(fits) {
            return Err(field("keywords", "at most 64 words of at most 64 bytes are expected"));
        }
        if self.component.as_ref().is_some_and(|file| file.is_empty() || file.contains(['/', '\\', '\0'])) {
            return Err(field("component", "a file name beside the manifest is expected"));
        }
        let component_digest = match &self.component_sha256 {
            Some(hex) => Some(
                Digest::parse(hex)
                    .ok_or_else(|| field("component_sha256", "64 hexadecimal digits are expected"))?,
            ),
            None => None,
        };
        let hosts = self.hosts.into_iter().map(WrittenHost::mean).collect::<Result<Vec<_>, _>>()?;
        let secrets =
            self.secrets.into_iter().map(|wish| wish.mean(&hosts)).collect::<Result<Vec<_>, _>>()?;
        Ok(Manifest {
            version: self.version,
            description: Untrusted::new(Source::Tool(name.clone()), self.description),
            keywords: self
                .keywords
                .into_iter()
                .map(|word| Untrusted::new(Source::Tool(name.clone()), word))
                .collect(),
            parameters: Untrusted::new(Source::Tool(name.clone()), object_schema(self.parameters)?),
            hosts,
            secrets,
            limits: self.limits.mean()?,
            config: self.config,
            workspace: self.workspace,
            consequential: self.consequential,
            component: self.component,
            component_digest,
            lane: Lane::Wasm,
            folder: None,
            name,
        })
    }
}

/// A schema may be written as TOML or as JSON text; either way it describes an object.
fn object_schema(written: toml::Value) -> Result<Value, ManifestError> {
    let schema = match written {
        toml::Value::String(json) => {
            serde_json::from_str(&json).map_err(|_| field("parameters", "the text is not JSON"))
        }
        table => serde_json::to_value(table).map_err(|_| field("parameters", "the schema has no JSON form")),
    }?;
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(field("parameters", "a JSON Schema with type = \"object\" is expected"));
    }
    Ok(schema)
}

impl WrittenHost {
    fn mean(self) -> Result<HostRule, ManifestError> {
        let host = HostName::parse(&self.host).map_err(|error| field("hosts.host", error))?;
        let scheme = if self.clear_text { Scheme::Http } else { Scheme::Https };
        let port = Port::new(self.port.unwrap_or(scheme.default_port()))
            .map_err(|error| field("hosts.port", error))?;
        if self.methods.is_empty() {
            return Err(field("hosts.methods", "at least one method is expected"));
        }
        let methods = self
            .methods
            .iter()
            .map(|method| Target::parse(method, "https://x.example/").map(|target| target.method))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| field("hosts.methods", error))?;
        let path = match self.path {
            Some(text) => PathPrefix::parse(&text).map_err(|error| field("hosts.path", error))?,
            None => PathPrefix::all(),
        };
        Ok(HostRule { host, port, scheme, methods, path })
    }
}

impl WrittenSecret {
    fn mean(self, hosts: &[HostRule]) -> Result<SecretWish, ManifestError> {
        let secret = SecretName::parse(&self.name).map_err(|error| field("secrets.name", error))?;
        let host = HostName::parse(&self.host).map_err(|error| field("secrets.host", error))?;
        let inject = Injection::parse(&self.inject).map_err(|error| field("secrets.inject", error))?;
        match hosts.iter().find(|rule| rule.host == host) {
            None => Err(field("secrets.host", "the host is not among the manifest's hosts")),
            Some(rule) if rule.scheme == Scheme::Http => {
                Err(field("secrets.host", "a secret never travels in clear text"))
            }
            Some(_) if matches!(inject, Injection::Refresh { .. }) => {
                Err(field("secrets.inject", "only the vault itself refreshes tokens"))
            }
            Some(_) => Ok(SecretWish { secret, host, inject }),
        }
    }
}

impl WrittenLimits {
    fn mean(self) -> Result<ToolLimits, ManifestError> {
        let base = ToolLimits::DEFAULT;
        let mib = |asked: Option<u64>, base: Bytes| asked.map_or(base, |n| Bytes(n.saturating_mul(1 << 20)));
        let kib = |asked: Option<u64>, base: Bytes| asked.map_or(base, |n| Bytes(n.saturating_mul(1 << 10)));
        let limits = ToolLimits {
            memory: mib(self.memory_mib, base.memory),
            fuel: self.fuel.unwrap_or(base.fuel),
            time: self.time_ms.map_or(base.time, Duration::from_millis),
            output: kib(self.output_kib, base.output),
            log: kib(self.log_kib, base.log),
            host_calls: self.host_calls.unwrap_or(base.host_calls),
            requests: self.requests.unwrap_or(base.requests),
            response: kib(self.response_kib, base.response),
            workspace: mib(self.workspace_mib, base.workspace),
            files: self.files.unwrap_or(base.files),
        };
        if limits.within(&ToolLimits::MAX) {
            Ok(limits)
        } else {
            Err(field("limits", "a limit is above the most that any tool may have"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) const WEATHER: &str = r#"
        name = "weather"
        version = "1.0.0"
        description = "Current weather of a city"
        component = "weather.wasm"
        [parameters]
        type = "object"
        required = ["city"]
        properties.city = { type = "string", description = "the city" }
        [[hosts]]
        host = "API.weather.com"
        methods = ["GET"]
        path = "/v1"
        [[secrets]]
        name = "WEATHER_KEY"
        host = "api.weather.com"
        inject = "bearer"
        [limits]
        time_ms = 2000
    "#;

    #[test]
    fn means_what_it_says() {
        let manifest = Manifest::parse(WEATHER.as_bytes()).unwrap();
        assert_eq!(manifest.hosts[0].host.as_str(), "api.weather.com");
        assert_eq!(manifest.hosts[0].port.get(), 443);
        assert_eq!(manifest.limits.time, Duration::from_secs(2));
        assert!(manifest.reaches_network() && manifest.reads_private() && !manifest.changes_things());
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        let change = |from: &str, to: &str| Manifest::parse(WEATHER.replace(from, to).as_bytes());
        for (from, to) in [
            ("name = \"weather\"", "name = \"We ather\""),
            ("name = \"weather\"", "name = \"write_file\""),
            ("name = \"weather\"", "name = \"agent\""),
            ("1.0.0", "one"),
            ("component = \"weather.wasm\"", "component = \"../x.wasm\""),
            ("component", "componemt"),
            ("API.weather.com", "*.weather.com"),
            ("API.weather.com", "10.0.0.1"),
            ("[\"GET\"]", "[]"),
            ("[\"GET\"]", "[\"TRACE\"]"),
            ("/v1", "/v1/../x"),
            ("host = \"api.weather.com\"", "host = \"evil.example\""),
            ("bearer", "cookie"),
            ("time_ms = 2000", "time_ms = 20000000"),
            ("component =", "keywords = [\"\"]\ncomponent ="),
            ("component =", "keywords = [\"a\\u001bb\"]\ncomponent ="),
            ("type = \"object\"", "type = \"array\""),
            ("methods", "clear_text = true\nmethods"),
        ] {
            assert!(change(from, to).is_err(), "{from} -> {to}");
        }
        assert!(Manifest::parse(&[0xff]).is_err());
        assert!(Manifest::parse(" ".repeat(70_000).as_bytes()).is_err());
    }

    #[test]
    fn a_tool_cannot_deny_what_its_methods_say() {
        let posts = WEATHER.replace("[\"GET\"]", "[\"POST\"]") + "";
        assert!(Manifest::parse(posts.as_bytes()).unwrap().changes_things());
    }

    #[test]
    fn a_pinned_manifest_stands_for_its_component() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let pinned = Manifest::pin(WEATHER, &one).unwrap();
        assert_eq!(Manifest::parse(pinned.as_bytes()).unwrap().component_digest, Some(one));
        assert_eq!(Manifest::pin(&pinned, &one).unwrap(), pinned);
        assert!(Manifest::pin(&pinned, &two).is_err());
        assert_ne!(pinned, Manifest::pin(WEATHER, &two).unwrap());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = Manifest::parse(text.as_bytes());
        }

        #[test]
        fn no_changed_manifest_panics(index in 0usize..600, byte in any::<u8>()) {
            let mut bytes = WEATHER.as_bytes().to_vec();
            let index = index % bytes.len();
            bytes[index] = byte;
            let _ = Manifest::parse(&bytes);
        }
    }
}
