//! What an agent can do to the world, as data. `policy` alone wraps an effect in a `Permit`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use crate::limits::Bytes;
use crate::{CallId, Digest, ImageName, SecretName, Target, ToolName};

/// Which sandbox runs a tool.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// A WebAssembly component in a fresh instance.
    Wasm,
    /// The built-in file tools, confined to one workspace folder.
    Files,
    /// The built-in shell: a command in a fresh container.
    Shell,
}

/// One call of one tool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolCall {
    /// Names this call in every record and request that it leads to.
    pub id: CallId,
    /// The tool.
    pub tool: ToolName,
    /// The digest of the code that will run: a grant is for these bytes, not for a name.
    pub digest: Digest,
    /// Where it runs.
    pub lane: Lane,
    /// The arguments as JSON text, screened and checked against the tool's schema.
    pub arguments: String,
}

/// How far a command is confined.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Confinement {
    /// A fresh container in which the workspace can be read.
    ReadOnly,
    /// A fresh container in which the workspace can be changed, but for what other programs obey.
    WorkspaceWrite,
    /// No container: the command has everything that its user has.
    FullAccess,
}

impl Confinement {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::FullAccess => "full-access",
        }
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One run of one command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Names this run in every record that it leads to.
    pub id: CallId,
    /// The program and its arguments; at least one.
    pub argv: Vec<String>,
    /// How far it is confined.
    pub confinement: Confinement,
    /// The folder it works in, links resolved.
    pub workspace: PathBuf,
}

impl Command {
    /// The name of the program, without the folder that it is in.
    pub fn program(&self) -> &str {
        let program = self.argv.first().map_or("", String::as_str);
        program.rsplit('/').next().unwrap_or(program)
    }

    /// The digest of the whole command line.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(self.argv.iter().map(String::as_bytes))
    }
}

/// One image that the engine is to fetch from its registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// Names this pull in every record that it leads to.
    pub id: CallId,
    /// The image.
    pub image: ImageName,
}

/// Who sends a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Caller {
    /// A tool, inside one permitted call.
    Tool {
        /// Its name.
        tool: ToolName,
        /// The digest of its code.
        digest: Digest,
        /// The call it is part of.
        call: CallId,
    },
    /// The agent itself, to its language model.
    Agent,
    /// A program that speaks to the proxy. Its code is not known to this one.
    Client {
        /// The run of the program, or of the proxy where it serves any client.
        run: CallId,
        /// Where it runs.
        site: Site,
    },
    /// The vault itself, to a place that gives it a new token.
    Vault,
    /// The audit log, to the owner's collector.
    Log,
}

/// Where a program behind the proxy runs. What the owner lets programs of this machine reach inside is not thereby
/// within reach of what was locked into a container.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Site {
    /// On this machine, where it could reach everything that this one can.
    Machine,
    /// In a container, whose one way out is the proxy.
    Container,
}

impl Caller {
    /// The name under which grants know the agent itself. No tool can be installed under it.
    pub const AGENT: &'static str = "agent";

    /// The name under which grants know whoever speaks to the proxy. No tool can be installed under it.
    pub const PROXY: &'static str = "proxy";

    /// The name under which grants know the vault itself. No tool can be installed under it.
    pub const VAULT: &'static str = "vault";

    /// The name under which grants know the audit log. No tool can be installed under it.
    pub const LOG: &'static str = "log";

    /// The name and the digest of code that a grant must bind to serve this caller. The agent, the proxy, the
    /// vault and the log are part of this program, so their digests are constants.
    pub fn identity(&self) -> (ToolName, Digest) {
        match self {
            Self::Tool { tool, digest, .. } => (tool.clone(), *digest),
            Self::Agent => (ToolName::agent(), Digest::of(b"ironclaw agent")),
            Self::Client { .. } => Self::proxy_identity(),
            Self::Vault => (ToolName::vault(), Digest::of(b"ironclaw vault")),
            Self::Log => (ToolName::log(), Digest::of(b"ironclaw log")),
        }
    }

    /// The same for whoever speaks to the proxy: grants to it serve every program behind it.
    pub fn proxy_identity() -> (ToolName, Digest) {
        (ToolName::proxy(), Digest::of(b"ironclaw proxy"))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool { tool, .. } => write!(f, "tool {tool}"),
            Self::Agent => f.write_str("agent"),
            Self::Client { .. } => f.write_str("client of the proxy"),
            Self::Vault => f.write_str("vault"),
            Self::Log => f.write_str("log"),
        }
    }
}

/// One request to the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outbound {
    /// Who sends it.
    pub caller: Caller,
    /// The one place it goes to.
    pub target: Target,
    /// The secrets that the owner granted for exactly this target.
    pub secrets: Vec<SecretUse>,
    /// Whether any secret of the caller's is granted for its host, at whatever path: what the server was told with another
    /// request it may say in answer to this one.
    pub bound: bool,
    /// The longest response body after decoding.
    pub response: Bytes,
    /// The time for the whole exchange.
    pub time: Duration,
    /// What becomes of tokens in the answer.
    pub tokens: Tokens,
}

impl Outbound {
    /// True when the answer may hold what its reader must not have, so that it is read whole and as what it stands for.
    pub fn is_watched(&self) -> bool {
        self.bound || !self.secrets.is_empty() || self.tokens != Tokens::PassOn
    }
}

/// What becomes of the tokens in the answer of a token endpoint (RFC 6749, 5.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tokens {
    /// They are passed on, unless the leak detector takes them for keys.
    PassOn,
    /// None may come: the owner has those of this host captured where they are expected, and this is another place.
    Refuse,
    /// They become secrets, and nothing of the answer is passed on.
    Capture(TokensInto),
}

impl Tokens {
    /// The secrets that they become, if any do.
    pub fn into_secrets(&self) -> Option<&TokensInto> {
        match self {
            Self::Capture(into) => Some(into),
            Self::PassOn | Self::Refuse => None,
        }
    }
}

/// The secrets that the tokens in the answer of a token endpoint become (RFC 6749, 5.1; OpenID Connect Core, 3.1.3.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokensInto {
    /// For `access_token`.
    pub access: SecretName,
    /// For `refresh_token`.
    pub refresh: Option<SecretName>,
    /// For `id_token`.
    pub id: Option<SecretName>,
}

impl TokensInto {
    /// Each member of the answer that is a token, with the secret that it becomes.
    pub fn members(&self) -> [(&'static str, Option<&SecretName>); 3] {
        [
            ("access_token", Some(&self.access)),
            ("refresh_token", self.refresh.as_ref()),
            ("id_token", self.id.as_ref()),
        ]
    }

    /// The secrets.
    pub fn names(&self) -> impl Iterator<Item = &SecretName> {
        self.members().into_iter().filter_map(|(_, name)| name)
    }
}

/// A secret and its one place in a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SecretUse {
    /// Which secret.
    pub secret: SecretName,
    /// Where the host puts it.
    pub inject: Injection,
}

/// Where a secret stands in a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Injection {
    /// `Authorization: Bearer VALUE` (RFC 6750).
    Bearer,
    /// `Authorization: Basic base64(user:VALUE)` (RFC 7617).
    Basic {
        /// The user name.
        user: String,
    },
    /// `NAME: VALUE`.
    Header {
        /// The header.
        name: HeaderName,
    },
    /// `?name=VALUE`.
    Query {
        /// The parameter.
        name: String,
    },
    /// The segment part `{SECRET_NAME}` of the path.
    Path,
    /// `refresh_token=VALUE` in the form that asks for a new token (RFC 6749, section 6). For the vault alone.
    Refresh {
        /// The secret that the answer's access token becomes.
        into: SecretName,
        /// The client's id; empty where a granted `basic:ID` at the same place says it.
        client: String,
    },
}

/// Why an injection was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the place of a secret is one of bearer, basic:USER, header:NAME, query:NAME, path and, for --tool vault, refresh:SECRET:CLIENT_ID"
)]
pub struct InjectionError;

impl Injection {
    /// Reads `bearer`, `basic:USER`, `header:NAME`, `query:NAME`, `path` or `refresh:SECRET:CLIENT_ID`.
    pub fn parse(text: &str) -> Result<Self, InjectionError> {
        // Ids of clients are the longest of these; Google's have 73 characters.
        let plain = |name: &str| {
            !name.is_empty()
                && name.len() <= 128
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        match text.split_once(':') {
            None if text == "bearer" => Ok(Self::Bearer),
            None if text == "path" => Ok(Self::Path),
            Some(("basic", user)) if user.is_empty() || plain(user) => {
                Ok(Self::Basic { user: user.to_owned() })
            }
            Some(("refresh", rest)) => {
                let (into, client) = rest.split_once(':').unwrap_or((rest, ""));
                if !client.is_empty() && !plain(client) || rest.ends_with(':') {
                    return Err(InjectionError);
                }
                let into = SecretName::parse(into).map_err(|_| InjectionError)?;
                Ok(Self::Refresh { into, client: client.to_owned() })
            }
            Some(("query", name)) if plain(name) => Ok(Self::Query { name: name.to_owned() }),
            Some(("header", name)) if plain(name) => {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| InjectionError)?;
                // A header that frames or routes the message is not a place for a secret.
                let framing = [
                    http::header::HOST,
                    http::header::CONTENT_LENGTH,
                    http::header::TRANSFER_ENCODING,
                    http::header::CONNECTION,
                    http::header::TE,
                    http::header::TRAILER,
                    http::header::UPGRADE,
                    http::header::EXPECT,
                ];
                if framing.contains(&name) || name.as_str().starts_with("proxy-") {
                    return Err(InjectionError);
                }
                Ok(Self::Header { name })
            }
            _ => Err(InjectionError),
        }
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Basic { user } => write!(f, "basic:{user}"),
            Self::Header { name } => write!(f, "header:{name}"),
            Self::Query { name } => write!(f, "query:{name}"),
            Self::Path => f.write_str("path"),
            Self::Refresh { into, client } if client.is_empty() => write!(f, "refresh:{into}"),
            Self::Refresh { into, client } => write!(f, "refresh:{into}:{client}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn injections_read_themselves_back() {
        for text in [
            "bearer",
            "basic:app",
            "basic:",
            "header:x-api-key",
            "query:appid",
            "path",
            "refresh:A_TOKEN",
            "refresh:A_TOKEN:id.7",
        ] {
            assert_eq!(Injection::parse(text).unwrap().to_string(), text);
        }
        for bad in [
            "",
            "Bearer",
            "header:",
            "header:host",
            "header:proxy-authorization",
            "query:a b",
            "cookie:x",
            "refresh:",
            "refresh:A:",
            "refresh:a b",
            "refresh:A:b&c",
        ] {
            assert!(Injection::parse(bad).is_err(), "{bad}");
        }
    }
}
