//! Every rule of this layer that can refuse.

use types::{Layer, Refusal, Rule};

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $says:literal;)*) => {
        $($(#[$doc])* pub static $name: Rule = Rule { id: $id, layer: Layer::Policy, says: $says };)*
        /// All of them, for `ironclaw policy check` and the documentation.
        pub static ALL: &[&Rule] = &[$(&$name,)*];
    };
}

rules! {
    /// No tool of that name is installed.
    TOOL_UNKNOWN = "policy.tool-unknown", "there is no such tool";
    /// The tool waits for the owner's approval.
    TOOL_PENDING = "policy.tool-pending", "the tool has not been approved by the owner";
    /// The tool was suspended after repeated leaks or by the owner.
    TOOL_SUSPENDED = "policy.tool-suspended", "the tool is suspended";
    /// Code or manifest are not those that were approved.
    TOOL_CHANGED = "policy.tool-changed", "the tool is not the one that was approved";
    /// The configuration says `never`.
    TOOL_NEVER = "policy.tool-never", "the owner does not allow this tool";
    /// The arguments do not fit the tool's schema.
    ARGUMENTS = "policy.arguments", "the arguments do not fit the parameters of the tool";
    /// Content from outside drives a tool that changes something.
    UNTRUSTED_DRIVES = "policy.untrusted-drives",
        "this turn has read untrusted content, so a tool that changes something needs the owner's approval";
    /// Private content could leave through a tool with network access.
    PRIVATE_FLOWS_OUT = "policy.private-flows-out",
        "this turn has read private content, so a tool that sends to the network needs the owner's approval";
    /// The configuration says `ask`.
    TOOL_ASKS = "policy.tool-asks", "the owner wants to be asked before this tool runs";
    /// A Cedar policy annotated `@decision("ask")` matched.
    CEDAR_ASKS = "policy.cedar-asks", "a policy wants the owner to be asked";
    /// A Cedar `forbid` matched.
    CEDAR_FORBIDS = "policy.cedar-forbids", "a policy forbids this";
    /// No Cedar `permit` matched.
    CEDAR_DEFAULT = "policy.default-deny", "no policy permits this";
    /// Cedar could not evaluate a policy.
    CEDAR_ERROR = "policy.evaluation", "a policy could not be evaluated";
    /// Nobody could be asked.
    UNATTENDED = "policy.needs-approval", "this needs the owner's approval and nobody could be asked";
    /// A request that waits for the owner and is too long to be read whole before.
    HELD_UNSEEN = "policy.held-unseen", "a request that waits for the owner has to be short enough to be read whole";
    /// A request that waits for the owner and whose JSON names something twice.
    HELD_TWICE = "policy.held-twice",
        "a request that waits for the owner has to read in one way, and its body names something twice or is no JSON after all";
    /// More requests of one run wait for the owner, or were not answered in the last minutes, than may.
    HELD_TOO_MANY = "policy.held-too-many", "as many requests of this run wait for the owner, or found no answer, as may";
    /// The owner said no.
    DECLINED = "policy.declined", "the owner declined";
    /// The question was answered too late.
    ANSWERED_LATE = "policy.answered-late", "the approval came after the time limit";
    /// Another request that asks the same has used the approval.
    APPROVAL_USED = "policy.approval-used", "the owner's yes was for one request, and another that asks the same has used it";
    /// Whoever asked is gone.
    ASKER_GONE = "policy.asker-gone", "whoever asked was gone before the owner answered";
    /// The host is not in the tool's manifest.
    HOST_NOT_LISTED = "policy.host-not-listed", "the tool may not connect to this host";
    /// The host is listed, but not with this method or path.
    PATH_NOT_LISTED = "policy.path-not-listed", "the tool may not use this method and path on this host";
    /// Clear text where the manifest asks for TLS.
    CLEAR_TEXT = "policy.clear-text", "the tool may only use https on this host";
    /// More requests in one call than the tool's limit.
    TOO_MANY_REQUESTS = "policy.requests", "the tool has used up its requests for this call";
    /// The tool wants a secret for this host that the owner has not granted.
    SECRET_NOT_GRANTED = "policy.secret-not-granted", "the owner has not granted the secret that this request needs";
    /// Values of keys came up in the run too often: in answers, or on their way out.
    RUN_SUSPENDED = "policy.run-suspended", "values of keys came up in this run too often; nothing of it is sent any more";
    /// A parameter by which frameworks take a request for one of another method, where the method counts.
    METHOD_OVERRIDE = "policy.method-override", "a parameter asks to take the request for one of another method";
    /// No rule of the run names the host and port.
    NOT_ALLOWED = "policy.not-allowed", "no rule allows this host and port";
    /// One name more under a wildcard rule than a run may use.
    WILDCARD_NAMES = "policy.wildcard-names", "this run has used as many names under a wildcard as it may";
    /// A batch, or what could be one, where the rule takes one call a request.
    NOT_SINGLE = "policy.not-single", "the rule takes one call a request, and the body is not a single JSON object";
    /// A rule names the host and port, but with the other scheme.
    SCHEME_NOT_ALLOWED = "policy.scheme", "the rule for this host asks for the other scheme";
    /// A rule names the host and port, but not this method and path.
    PATH_NOT_ALLOWED = "policy.method-or-path", "no rule allows this method and path on this host";
    /// The rule for this place requires a secret, and its placeholder does not stand in the request.
    SECRET_REQUIRED = "policy.secret-required", "requests to this host have to carry the owner's key, and this one does not";
    /// A credential of the program's own toward a place that a secret is bound to.
    OTHER_CREDENTIAL = "policy.other-credential",
        "this host is reached with the owner's key only, and the request carries another credential";
    /// Another process asks for the new token, or asked a moment ago.
    RENEWAL_TAKEN = "policy.renewal-taken", "a new token is being asked for already";
    /// Two grants put different secrets in one place.
    GRANTS_TIE = "policy.grants-tie", "two grants put a secret in the same place of this request";
    /// A command without a container, where the configuration does not allow any.
    FULL_ACCESS = "policy.full-access", "the configuration does not allow commands outside a sandbox";
    /// An image from a registry that the configuration does not name.
    REGISTRY = "policy.registry", "the configuration names no such registry to pull images from";
    /// A budget of the day is used up.
    BUDGET = "policy.budget", "the budget of the day is used up";
    /// The permit was not used in time.
    PERMIT_EXPIRED = "policy.permit-expired", "the permit was not used in time";
    /// The policy changed between decision and use.
    PERMIT_STALE = "policy.permit-stale", "the policy changed after this was permitted";
    /// The decision could not be recorded.
    NOT_RECORDED = "audit.not-recorded", "the decision could not be recorded, so nothing was done";
    /// The database did not answer.
    NOT_READ = "policy.not-read", "what was granted could not be read, so nothing was done";
}

/// The refusal when what was granted cannot be read.
pub(crate) fn not_read(what: &'static str) -> Refusal {
    Refusal::new(&NOT_READ, what).widened_by("ironclaw doctor")
}

/// The refusal of a Cedar policy: one of the owner's files, or of the shipped set.
pub(crate) fn by_policy(rule: &'static Rule, policy: String) -> Refusal {
    let widen = match policy.as_str() {
        "" => "look at the policies in the configuration folder: ironclaw config path".to_owned(),
        name if name.starts_with("default.") => {
            format!(
                "nothing lifts {name}, which is this program's own: send the request without what it forbids"
            )
        }
        name => format!("change {name} under policies/ in the configuration folder: ironclaw config path"),
    };
    Refusal::new(rule, policy).widened_by(widen)
}
