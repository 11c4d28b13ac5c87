//! Every change that anyone can make to the database, and every way in which one can come too late.
//!
//! A mutation reaches the database only together with its audit record, in one transaction (see
//! [`Batch::append`](crate::Batch::append)): a change without a record cannot be written.

use types::{Digest, FindingId, SecretName, Tenant, ToolName};

use crate::rows::{
    ApprovalRow, ApprovalState, GrantRow, Meter, RotationRow, SecretRow, SecretState, SlotRow, TenantKeyRow,
    ToolRow, ToolState,
};
use crate::scope::Scope;

/// One change. Where two clients could race, it says what it expects to find and is [`Lost`] when
/// it finds something else.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// The first key slot and the first tenant key. Lost when any slot, tenant key or living secret
    /// exists: a master key is never made a second time.
    InitVault {
        /// The slot.
        slot: SlotRow,
        /// The key.
        tenant_key: TenantKeyRow,
    },
    /// Another slot for the same key-encryption key.
    AddSlot(SlotRow),
    /// Removes a slot; the last one stays.
    RemoveSlot {
        /// Its id.
        id: String,
    },
    /// Puts a tenant's key under a new wrap.
    RewrapTenantKey {
        /// The new wrap.
        row: TenantKeyRow,
        /// The generation of the wrap that it replaces.
        expected: i64,
    },
    /// Begins to exchange the master key. Lost where that is under way, or another key is in force.
    BeginRotation(RotationRow),
    /// Keeps tenants' keys under the new master key.
    PutPendingWraps(Vec<TenantKeyRow>),
    /// Puts the new master key in force, once every tenant's key and every slot has its successor.
    SwitchRotation {
        /// The generation of the new key.
        to: i64,
    },
    /// Removes the slots and wraps of the old master key.
    FinishRotation {
        /// The generation of the new key.
        to: i64,
    },
    /// Gives up a new master key that is not in force yet.
    AbortRotation {
        /// The generation of the new key.
        to: i64,
    },
    /// Puts a version of a secret in use. The version before becomes `previous`, and the one
    /// before that is destroyed.
    PutSecret {
        /// The new version: one above the highest number that the name ever had
        /// ([`Reader::last_secret_version`](crate::Reader::last_secret_version)), `current` or `disabled`.
        row: SecretRow,
        /// The version in use now.
        expected: Option<i64>,
    },
    /// Destroys every version of a secret and removes every grant of it.
    DeleteSecret {
        /// Whose.
        tenant: Tenant,
        /// Which.
        name: SecretName,
        /// The version in use now.
        expected: i64,
    },
    /// Moves versions of a secret from state to state, all or none. What is destroyed loses its bytes.
    SetSecretStates {
        /// Whose.
        tenant: Tenant,
        /// Which.
        name: SecretName,
        /// Version by version, in this order.
        changes: Vec<StateChange>,
    },
    /// Takes the bytes of old records out of the log of a file; their links stay. On a server the owner of the
    /// tables does it ([`detach`](crate::detach)), for nobody else changes what is written.
    Detach {
        /// The first one.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// Changes nothing but what its record claims.
    Claim,
    /// Installs a tool or replaces its code. Grants of replaced code stay in the table; they bind a
    /// digest and so are worth nothing to the new code.
    InstallTool {
        /// The tool.
        row: ToolRow,
        /// The digest that is installed now.
        expected: Option<Digest>,
    },
    /// Approves or suspends exactly these bytes.
    SetToolState {
        /// Whose.
        tenant: Tenant,
        /// Which.
        name: ToolName,
        /// The code that was looked at.
        digest: Digest,
        /// The state that was seen.
        from: ToolState,
        /// The state to go to.
        to: ToolState,
    },
    /// Removes a tool and every grant to it.
    RemoveTool {
        /// Whose.
        tenant: Tenant,
        /// Which.
        name: ToolName,
    },
    /// Adds a grant.
    PutGrant(GrantRow),
    /// Takes a grant back.
    DeleteGrant {
        /// Whose.
        tenant: Tenant,
        /// Its id.
        id: String,
    },
    /// Keeps a call or a finding for a person.
    Hold(ApprovalRow),
    /// Moves an approval on. Past its expiry it can only become `denied` or `expired`.
    Answer {
        /// Whose.
        tenant: Tenant,
        /// Which.
        id: FindingId,
        /// The state that was seen.
        from: ApprovalState,
        /// The state to go to.
        to: ApprovalState,
    },
    /// Charges a day's budgets, all of them or none.
    Spend {
        /// Whose.
        tenant: Tenant,
        /// Days since 1970-01-01.
        day: u32,
        /// What is spent.
        charges: Vec<Charge>,
    },
    /// Puts what was really used in the place of what [`Mutation::Spend`] charged before it was known. A budget
    /// may come out above its limit: it was used. Lost when that day's meter was never charged.
    Settle {
        /// Whose.
        tenant: Tenant,
        /// The day that was charged.
        day: u32,
        /// What was used.
        uses: Vec<Use>,
    },
}

/// A charge and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Use {
    /// What is counted.
    pub meter: Meter,
    /// What was charged.
    pub charged: u64,
    /// What was used.
    pub used: u64,
}

impl Mutation {
    /// Whether it changes nothing itself: what it allows is its record alone.
    pub(crate) fn only_looks(&self) -> bool {
        matches!(self, Self::Claim)
    }

    /// Whether it may add grants or take some away.
    pub fn changes_grants(&self) -> bool {
        matches!(
            self,
            Self::PutGrant(_)
                | Self::DeleteGrant { .. }
                | Self::DeleteSecret { .. }
                | Self::RemoveTool { .. }
        )
    }

    /// Whose rows it sees and changes. A row under a database's row-level security is out of reach of
    /// every change that names another tenant.
    pub(crate) fn scope(&self) -> Scope {
        match self {
            // Looks for anything sealed, whoever's it is.
            Self::InitVault { .. } | Self::AddSlot(_) | Self::RemoveSlot { .. } => Scope::Installation,
            // About every tenant's key at once.
            Self::BeginRotation(_)
            | Self::PutPendingWraps(_)
            | Self::SwitchRotation { .. }
            | Self::FinishRotation { .. }
            | Self::AbortRotation { .. } => Scope::Installation,
            // The log, which only the installation reads.
            Self::Detach { .. } | Self::Claim => Scope::Installation,
            Self::RewrapTenantKey { row, .. } => (&row.tenant).into(),
            Self::PutSecret { row, .. } => (&row.tenant).into(),
            Self::InstallTool { row, .. } => (&row.tenant).into(),
            Self::PutGrant(row) => (&row.tenant).into(),
            Self::Hold(row) => (&row.tenant).into(),
            Self::DeleteSecret { tenant, .. }
            | Self::SetSecretStates { tenant, .. }
            | Self::SetToolState { tenant, .. }
            | Self::RemoveTool { tenant, .. }
            | Self::DeleteGrant { tenant, .. }
            | Self::Answer { tenant, .. }
            | Self::Spend { tenant, .. }
            | Self::Settle { tenant, .. } => tenant.into(),
        }
    }
}

/// One version of a secret on its way from state to state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateChange {
    /// Which.
    pub version: i64,
    /// The state that was seen.
    pub from: SecretState,
    /// The state to go to.
    pub to: SecretState,
}

/// An amount against one budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Charge {
    /// What is counted.
    pub meter: Meter,
    /// How much this takes.
    pub amount: u64,
    /// The most that may be spent on that day, this amount included.
    pub limit: u64,
}

/// Why a change found something other than it expected. Nothing was changed and nothing recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Lost {
    /// It is there already.
    #[error("it exists already")]
    Exists,
    /// It is not there.
    #[error("it does not exist")]
    Missing,
    /// Its version, digest, generation or state is another one by now.
    #[error("it was changed by someone else")]
    Changed,
    /// Another record has made the claim.
    #[error("it was used or changed by someone else already")]
    Claimed,
    /// The last key slot cannot be removed.
    #[error("it is the last key slot; without one every secret would be lost")]
    LastSlot,
    /// The time for an answer or a use is over.
    #[error("it has expired")]
    Expired,
    /// Whoever was to judge it under the lock of the log said no.
    #[error("it was judged and refused")]
    Refused,
    /// A row that it is judged by is not one that this program writes, or the judge broke down.
    #[error("what it is judged by cannot be read")]
    Unjudged,
    /// It breaks a rule of the schema, or is larger than the database takes.
    #[error("the database does not take it")]
    Invalid,
    /// A budget does not cover the amount.
    #[error("the day's budget of {limit} {meter} does not cover it: {spent} are spent")]
    Budget {
        /// Which budget.
        meter: Meter,
        /// Spent so far.
        spent: u64,
        /// The most that may be spent.
        limit: u64,
    },
}
