//! The context of decisions: one turn of the agent, and one tool call inside it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use types::limits::ToolLimits;
use types::{CallId, Caller, Confidentiality, Digest, HostName, Integrity, Label, ToolName, Trace, TurnId};

use crate::catalog::Tool;
use crate::floor::Flow;
use crate::manifest::Manifest;

/// One turn: from a person's text to the reply. Its label only ever rises.
#[derive(Clone, Debug)]
pub struct Turn(Arc<TurnState>);

#[derive(Debug)]
struct TurnState {
    id: TurnId,
    trace: Trace,
    flow: Mutex<Flow>,
}

impl Turn {
    /// A turn that has read nothing yet.
    pub fn begin(trace: Trace) -> Self {
        Self(Arc::new(TurnState { id: TurnId::new(), trace, flow: Mutex::new(Flow::CLEAN) }))
    }

    /// The next turn of a conversation. Its model reads what earlier turns read, so its label starts there.
    pub fn after(previous: &Self, trace: Trace) -> Self {
        Self(Arc::new(TurnState { id: TurnId::new(), trace, flow: Mutex::new(previous.flow()) }))
    }

    /// Names the turn in every record.
    pub fn id(&self) -> TurnId {
        self.0.id
    }

    /// Where steps are collected for `--trace`.
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// The join of the labels of all that entered the turn.
    pub fn label(&self) -> Label {
        self.flow().label()
    }

    /// What was read so far, as decisions judge it.
    pub fn flow(&self) -> Flow {
        self.0.flow.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Joins the label of something that enters the turn. There is no way down.
    pub fn absorb(&self, label: Label) {
        self.absorb_for(label, &BTreeSet::new());
    }

    /// Joins what a tool returned: what came from the tool's own hosts may go back to them.
    pub fn absorb_result(&self, scope: &Scope) {
        self.absorb_for(scope.result_label(), &scope.manifest().readers());
    }

    fn absorb_for(&self, label: Label, readers: &BTreeSet<HostName>) {
        self.0.flow.lock().unwrap_or_else(PoisonError::into_inner).absorb(label, readers);
    }
}

/// What one permitted tool call may do next: the authority of its child permits.
#[derive(Clone, Debug)]
pub struct Scope(Arc<ScopeState>);

#[derive(Debug)]
struct ScopeState {
    call: CallId,
    tool: Arc<Tool>,
    turn: Turn,
    requests: AtomicU32,
}

impl Scope {
    pub(crate) fn open(call: CallId, tool: Arc<Tool>, turn: Turn) -> Self {
        Self(Arc::new(ScopeState { call, tool, turn, requests: AtomicU32::new(0) }))
    }

    /// The call.
    pub fn call(&self) -> CallId {
        self.0.call
    }

    /// The tool's name.
    pub fn tool(&self) -> &ToolName {
        &self.manifest().name
    }

    /// The digest of component and manifest that the owner approved.
    pub fn digest(&self) -> &Digest {
        &self.0.tool.digest
    }

    /// The digest of the compiled component, where the tool is one.
    pub fn compiled(&self) -> Option<&Digest> {
        self.0.tool.compiled.as_ref()
    }

    /// What the tool declared.
    pub fn manifest(&self) -> &Manifest {
        &self.0.tool.manifest
    }

    /// What the call may use.
    pub fn limits(&self) -> &ToolLimits {
        &self.manifest().limits
    }

    /// The turn.
    pub fn turn(&self) -> &Turn {
        &self.0.turn
    }

    /// Where steps are collected for `--trace`.
    pub fn trace(&self) -> &Trace {
        self.turn().trace()
    }

    /// Who sends the requests of this call.
    pub fn caller(&self) -> Caller {
        Caller::Tool { tool: self.tool().clone(), digest: *self.digest(), call: self.call() }
    }

    /// The label of what the tool returns: never trusted, and private when the tool can read
    /// anything of the owner's.
    pub fn result_label(&self) -> Label {
        let confidentiality =
            if self.manifest().reads_private() { Confidentiality::Private } else { Confidentiality::Public };
        Label { integrity: Integrity::Untrusted, confidentiality }
    }

    /// Counts one request; false when the limit is used up.
    pub(crate) fn count_request(&self) -> bool {
        self.0.requests.fetch_add(1, Ordering::Relaxed) < self.limits().requests
    }
}
