//! Cedar as the decision engine: default deny, forbid wins, policies validated against a schema.
//!
//! An invalid policy set is refused as a whole when it is loaded, so that a typing error can never
//! widen anything.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{
    Authorizer, Context, Decision as CedarDecision, Entities, EntityId, EntityTypeName, EntityUid, PolicyId,
    PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use safety::Untrusted;
use safety::credential_detect::Carried;
use types::{Caller, Command, Integrity, Label, Lane, Outbound, Pull, Refusal, Rule, Source, ToolName};

use crate::manifest::Manifest;
use crate::rules;

const SCHEMA: &str = include_str!("../policies/schema.cedarschema");
const DEFAULT: &str = include_str!("../policies/default.cedar");

/// A validated policy set, ready to decide.
pub struct Engine {
    authorizer: Authorizer,
    policies: PolicySet,
    schema: Schema,
    /// None: nothing of an entity is asked but its name.
    entities: Entities,
}

/// Why a policy set was refused. Cedar's message quotes the policy, so it is foreign text.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It does not parse.
    #[error("a policy does not parse")]
    Syntax(Untrusted<String>),
    /// Two policies have one id, or an id is missing a name.
    #[error("two policies have the same @id")]
    Duplicate,
    /// It speaks of something that the schema does not know.
    #[error("a policy does not fit the schema")]
    Invalid(Untrusted<String>),
    /// The entity names of the request could not be formed.
    #[error("the schema of this program does not load")]
    Schema,
}

/// What Cedar said, and by which policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A permit matched and no forbid did.
    Permit(String),
    /// Only forbids annotated `@decision("ask")` stood in the way.
    Ask(String),
    /// A forbid matched, nothing matched, or evaluation failed.
    Refuse(&'static Rule, String),
}

impl Answer {
    /// The policy that permits, where nobody can be asked.
    pub(crate) fn permitted(self) -> Result<String, Refusal> {
        match self {
            Self::Permit(by) => Ok(by),
            Self::Ask(by) => Err(rules::by_policy(&rules::CEDAR_ASKS, by)),
            Self::Refuse(rule, by) => Err(rules::by_policy(rule, by)),
        }
    }
}

/// Whose command it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Runner {
    /// The owner typed it.
    Owner,
    /// The agent calls its shell.
    Agent,
}

impl Runner {
    /// One word, as records name who acted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Agent => "agent",
        }
    }
}

impl Engine {
    /// Loads the shipped set and the owner's own: pairs of a name and a text.
    pub fn load(own: &[(String, String)]) -> Result<Self, PolicyError> {
        let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA).map_err(|_| PolicyError::Schema)?;
        let mut policies = PolicySet::new();
        add(&mut policies, "default", DEFAULT)?;
        for (name, text) in own {
            add(&mut policies, name, text)?;
        }
        let result = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
        if !result.validation_passed() {
            let errors =
                result.validation_errors().map(|error| error.to_string()).collect::<Vec<_>>().join("\n");
            return Err(PolicyError::Invalid(Untrusted::new(Source::File, errors)));
        }
        Ok(Self { authorizer: Authorizer::new(), policies, schema, entities: Entities::empty() })
    }

    /// May the agent call this tool now?
    pub fn call(&self, manifest: &Manifest, label: Label) -> Answer {
        let lane = match manifest.lane {
            Lane::Wasm => "wasm",
            Lane::Files => "files",
            Lane::Shell => "shell",
        };
        let mut context = label_pairs(label);
        context.extend([
            pair("lane", RestrictedExpression::new_string(lane.to_owned())),
            pair("changes", RestrictedExpression::new_bool(manifest.changes_things())),
            pair("network", RestrictedExpression::new_bool(manifest.reaches_network())),
        ]);
        self.answer(agent(), "call", uid("Tool", manifest.name.as_str()), context)
    }

    /// May this request be sent now? `brought` is what the caller brings of credentials of its own.
    pub fn request(&self, outbound: &Outbound, label: Label, brought: &[Carried]) -> Answer {
        let target = &outbound.target;
        let secrets = outbound
            .secrets
            .iter()
            .map(|used| RestrictedExpression::new_string(used.secret.to_string()))
            .collect::<Vec<_>>();
        let text = |value: String| RestrictedExpression::new_string(value);
        let credentials = brought.iter().map(|carried| text(carried.to_string())).collect::<Vec<_>>();
        let mut context = label_pairs(label);
        context.extend([
            pair("method", text(target.method.to_string())),
            pair("scheme", text(target.scheme.as_str().to_owned())),
            pair("host", text(target.host().to_string())),
            pair("port", RestrictedExpression::new_long(target.endpoint.port.get().into())),
            pair("path", text(target.path.to_string())),
            pair("secrets", RestrictedExpression::new_set(secrets)),
            pair("credentials", RestrictedExpression::new_set(credentials)),
        ]);
        let principal = match &outbound.caller {
            Caller::Tool { tool, .. } => tool_uid(tool),
            Caller::Agent => agent(),
            Caller::Client { .. } => uid("Client", "proxy"),
            Caller::Vault => uid("Vault", "local"),
            Caller::Log => uid("Log", "local"),
        };
        self.answer(principal, "request", uid("Endpoint", &target.endpoint.to_string()), context)
    }

    /// May this command run now, whoever runs it?
    pub fn run(&self, runner: Runner, command: &Command, label: Label) -> Answer {
        let text = RestrictedExpression::new_string;
        let mut context = label_pairs(label);
        context.extend([
            pair("confinement", text(command.confinement.to_string())),
            pair("workspace", text(command.workspace.to_string_lossy().into_owned())),
        ]);
        let principal = match runner {
            Runner::Owner => owner(),
            Runner::Agent => agent(),
        };
        self.answer(principal, "run", uid("Program", command.program()), context)
    }

    /// May the engine pull this image for the owner now?
    pub fn pull(&self, pull: &Pull) -> Answer {
        let text = |value: String| RestrictedExpression::new_string(value);
        let digest = pull.image.digest().map(|digest| format!("sha256:{digest}"));
        let context = vec![
            pair("repository", text(pull.image.repository().to_owned())),
            pair("tag", text(pull.image.tag().unwrap_or_default().to_owned())),
            pair("digest", text(digest.unwrap_or_default())),
        ];
        self.answer(owner(), "pull", uid("Registry", pull.image.registry().as_str()), context)
    }

    fn answer(
        &self,
        principal: Option<EntityUid>,
        action: &str,
        resource: Option<EntityUid>,
        context: Vec<(String, RestrictedExpression)>,
    ) -> Answer {
        let request = || {
            let context = Context::from_pairs(context).ok()?;
            // What is asked is put together in this file alone. That it fits the schema is asserted, for to compare takes
            // longer than to decide; where it did not, a policy that speaks of what is missing would fail, which refuses.
            let schema = cfg!(debug_assertions).then_some(&self.schema);
            Request::new(principal?, uid("Action", action)?, resource?, context, schema).ok()
        };
        let Some(request) = request() else {
            return Answer::Refuse(&rules::CEDAR_ERROR, String::new());
        };
        let response = self.authorizer.is_authorized(&request, &self.policies, &self.entities);
        if response.diagnostics().errors().next().is_some() {
            return Answer::Refuse(&rules::CEDAR_ERROR, String::new());
        }
        let reasons: Vec<&PolicyId> = response.diagnostics().reason().collect();
        let names = reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match response.decision() {
            CedarDecision::Allow => Answer::Permit(names),
            CedarDecision::Deny if reasons.is_empty() => Answer::Refuse(&rules::CEDAR_DEFAULT, names),
            CedarDecision::Deny if reasons.iter().all(|id| self.asks(id)) => Answer::Ask(names),
            CedarDecision::Deny => Answer::Refuse(&rules::CEDAR_FORBIDS, names),
        }
    }

    fn asks(&self, id: &PolicyId) -> bool {
        self.policies.annotation(id, "decision") == Some("ask")
    }
}

/// Adds the policies of one text under their `@id`, or under the text's name and a number. Ids reach
/// records and people, so they keep to a plain alphabet.
fn add(set: &mut PolicySet, name: &str, text: &str) -> Result<(), PolicyError> {
    let parsed = PolicySet::from_str(text)
        .map_err(|error| PolicyError::Syntax(Untrusted::new(Source::File, error.to_string())))?;
    for (number, policy) in parsed.policies().enumerate() {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
        let id: String = match policy.annotation("id") {
            Some(id) if !id.is_empty() => id.chars().take(64).map(plain).collect(),
            _ => format!("{}.{}", name.chars().take(48).map(plain).collect::<String>(), number + 1),
        };
        set.add(policy.new_id(PolicyId::new(id))).map_err(|_| PolicyError::Duplicate)?;
    }
    Ok(())
}

fn label_pairs(label: Label) -> Vec<(String, RestrictedExpression)> {
    let integrity = match label.integrity {
        Integrity::Trusted => "trusted",
        Integrity::Untrusted => "untrusted",
    };
    let confidentiality = match label.confidentiality {
        types::Confidentiality::Public => "public",
        types::Confidentiality::Private => "private",
    };
    vec![
        pair("integrity", RestrictedExpression::new_string(integrity.to_owned())),
        pair("confidentiality", RestrictedExpression::new_string(confidentiality.to_owned())),
    ]
}

fn pair(name: &str, value: RestrictedExpression) -> (String, RestrictedExpression) {
    (name.to_owned(), value)
}

fn agent() -> Option<EntityUid> {
    uid("Agent", "local")
}

fn owner() -> Option<EntityUid> {
    uid("Owner", "local")
}

fn tool_uid(tool: &ToolName) -> Option<EntityUid> {
    uid("Tool", tool.as_str())
}

/// The names of the schema's types. To read one takes longer than to decide.
static TYPES: LazyLock<BTreeMap<&str, EntityTypeName>> = LazyLock::new(|| {
    let names =
        ["Action", "Agent", "Client", "Endpoint", "Log", "Owner", "Program", "Registry", "Tool", "Vault"];
    names.into_iter().filter_map(|name| Some((name, EntityTypeName::from_str(name).ok()?))).collect()
});

fn uid(kind: &str, name: &str) -> Option<EntityUid> {
    Some(EntityUid::from_type_name_and_id(TYPES.get(kind)?.clone(), EntityId::new(name)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use types::limits::Bytes;
    use types::{Injection, SecretName, SecretUse, Target, Tokens};

    use super::*;

    fn outbound(url: &str, secret: bool) -> Outbound {
        let used = SecretUse { secret: SecretName::parse("KEY").unwrap(), inject: Injection::Bearer };
        Outbound {
            caller: Caller::Agent,
            target: Target::parse("GET", url).unwrap(),
            secrets: if secret { vec![used] } else { vec![] },
            bound: secret,
            response: Bytes::kib(1),
            time: Duration::from_secs(1),
            tokens: Tokens::PassOn,
        }
    }

    fn with(own: &str) -> Engine {
        Engine::load(&[("own".to_owned(), own.to_owned())]).unwrap()
    }

    #[test]
    fn the_shipped_set_permits_what_the_floor_let_through() {
        let engine = Engine::load(&[]).unwrap();
        assert_eq!(
            engine.request(&outbound("https://a.example/", true), Label::CLEAN, &[]),
            Answer::Permit("default.request".to_owned())
        );
        assert!(matches!(
            engine.request(&outbound("http://a.example/", true), Label::CLEAN, &[]),
            Answer::Refuse(rule, _) if *rule == rules::CEDAR_FORBIDS
        ));
    }

    #[test]
    fn the_owners_policies_narrow_and_ask() {
        let forbid =
            with("@id(\"no-b\") forbid (principal, action, resource == Endpoint::\"b.example:443\");");
        assert!(matches!(
            forbid.request(&outbound("https://b.example/", false), Label::CLEAN, &[]),
            Answer::Refuse(rule, by) if *rule == rules::CEDAR_FORBIDS && by == "no-b"
        ));
        assert!(matches!(
            forbid.request(&outbound("https://a.example/", false), Label::CLEAN, &[]),
            Answer::Permit(_)
        ));
        let ask = with("@decision(\"ask\") forbid (principal, action == Action::\"request\", resource);");
        assert_eq!(
            ask.request(&outbound("https://a.example/", false), Label::CLEAN, &[]),
            Answer::Ask("own.1".to_owned())
        );
    }

    #[test]
    fn a_policy_that_does_not_fit_is_refused_as_a_whole() {
        let load = |text: &str| Engine::load(&[("own".to_owned(), text.to_owned())]);
        assert!(matches!(load("permit (principal"), Err(PolicyError::Syntax(_))));
        assert!(matches!(
            load("forbid (principal, action, resource) when { context.integirty == \"x\" };"),
            Err(PolicyError::Invalid(_))
        ));
        assert!(matches!(
            load("@id(\"default.call\") permit (principal, action, resource);"),
            Err(PolicyError::Duplicate)
        ));
    }
}
