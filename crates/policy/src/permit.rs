//! [`Permit`]: the proof that an effect was decided and recorded.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use audit::{Audit, AuditError, Seq};
use types::limits::PERMIT_LIFETIME;
use types::{Command, Field, Kind, Outbound, Pull, Record, Refusal, ToolCall, TurnId, Verdict};

use crate::rules;
use crate::tally::Counted;
use crate::turn::Scope;

/// Permission for exactly one effect, once, soon, under the policy that gave it.
///
/// It is minted only in this crate, after the decision's record is durable. It cannot be copied:
///
/// ```compile_fail
/// fn twice(permit: policy::Permit<types::Outbound>) {
///     let copy = permit.clone();
///     let _ = (permit.redeem(), copy.redeem());
/// }
/// ```
///
/// only used up:
///
/// ```
/// fn once(permit: policy::Permit<types::Outbound>) {
///     let _ = (permit.redeem(),);
/// }
/// ```
///
/// and nobody else can make one:
///
/// ```compile_fail
/// fn forge(effect: types::Outbound, seq: audit::Seq) -> policy::Permit<types::Outbound> {
///     policy::Permit { effect, seq }
/// }
/// ```
#[must_use = "a permit that is not redeemed permits nothing"]
pub struct Permit<E: Effect> {
    effect: E,
    context: E::Context,
    deadline: Instant,
    generation: u64,
    in_force: Arc<AtomicU64>,
    settlement: Settlement,
}

/// What a permit can be for, and what comes with it.
pub trait Effect: sealed::Sealed {
    /// What the holder of the permit may refer to.
    type Context: Send;
}

/// A tool call opens a scope: the authority for the requests of the call.
impl Effect for ToolCall {
    type Context = Scope;
}

/// A request stands alone.
impl Effect for Outbound {
    type Context = ();
}

/// A command starts nothing that is decided by this program, but its connections are.
impl Effect for Command {
    type Context = ();
}

/// An image is fetched by the engine, which asks nothing more of this program.
impl Effect for Pull {
    type Context = ();
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for types::Command {}
    impl Sealed for types::ToolCall {}
    impl Sealed for types::Outbound {}
    impl Sealed for types::Pull {}
}

/// What permits and decisions share: the log and the number of the policy in force.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) audit: Audit,
    pub(crate) generation: Arc<AtomicU64>,
}

impl<E: Effect> Permit<E> {
    /// The one place where authority is created.
    pub(crate) fn mint(
        effect: E,
        context: E::Context,
        authority: &Authority,
        seq: Seq,
        turn: TurnId,
        generation: u64,
    ) -> Self {
        let deadline = Instant::now() + PERMIT_LIFETIME;
        let settlement =
            Settlement { audit: authority.audit.clone(), of: seq, turn, open: true, counted: None };
        Self { effect, context, deadline, generation, in_force: authority.generation.clone(), settlement }
    }

    /// The same, whose refusal is counted where it comes to one.
    pub(crate) fn counted(mut self, counted: Counted) -> Self {
        self.settlement.counted = Some(Box::new(counted));
        self
    }

    /// The effect that is permitted.
    pub fn effect(&self) -> &E {
        &self.effect
    }

    /// The record of the decision.
    pub fn seq(&self) -> Seq {
        self.settlement.of
    }

    /// The turn in which it was decided.
    pub fn turn(&self) -> TurnId {
        self.settlement.turn
    }

    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The number of the policy under which it was given.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Refuses a permit that is late or older than the policy in force.
    pub fn check(&self) -> Result<(), Refusal> {
        if Instant::now() > self.deadline {
            return Err(Refusal::new(
                &rules::PERMIT_EXPIRED,
                format!("after {} s", PERMIT_LIFETIME.as_secs()),
            ));
        }
        if self.in_force.load(Ordering::Acquire) != self.generation {
            return Err(Refusal::new(&rules::PERMIT_STALE, "").widened_by("ask again"));
        }
        Ok(())
    }

    /// Uses the permit up, checking it once more. The settlement says what became of it; a permit that
    /// is dropped instead is recorded as abandoned.
    pub fn redeem(self) -> Result<(E, Settlement), Refusal> {
        match self.check() {
            Ok(()) => Ok((self.effect, self.settlement)),
            Err(refusal) => {
                self.settlement.settle_detached(
                    Verdict::Block,
                    [
                        (Field::Rule, refusal.rule.id.to_owned()),
                        (Field::Refusal, refusal.id.to_string()),
                        (Field::Reason, refusal.detail.clone()),
                    ],
                );
                Err(refusal)
            }
        }
    }
}

impl Permit<ToolCall> {
    /// What the call may do next.
    pub fn scope(&self) -> &Scope {
        &self.context
    }
}

impl<E: Effect + fmt::Debug> fmt::Debug for Permit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("seq", &self.seq())
            .field("effect", &self.effect)
            .finish_non_exhaustive()
    }
}

/// The obligation to say what became of a permitted effect. Dropped, it records "abandoned".
#[must_use = "settle it, or the record says that the effect was abandoned"]
pub struct Settlement {
    audit: Audit,
    of: Seq,
    turn: TurnId,
    open: bool,
    counted: Option<Box<Counted>>,
}

impl Settlement {
    /// Records the outcome and waits until the record is durable.
    pub async fn settle(
        mut self,
        verdict: Verdict,
        fields: impl IntoIterator<Item = (Field, String)>,
    ) -> Result<Seq, AuditError> {
        self.open = false;
        self.audit.record(self.record(verdict, fields)).await
    }

    /// The right to settle earlier effects, too.
    pub fn earlier(&self) -> Earlier {
        Earlier(self.audit.clone())
    }

    /// Hands the outcome to the writer without waiting, for code that cannot.
    pub fn settle_detached(mut self, verdict: Verdict, fields: impl IntoIterator<Item = (Field, String)>) {
        self.open = false;
        self.audit.record_detached(self.record(verdict, fields));
    }

    /// The turn of the decision that this settles.
    pub fn turn(&self) -> TurnId {
        self.turn
    }

    /// The record of the decision that this settles.
    pub fn of(&self) -> Seq {
        self.of
    }

    fn record(&self, verdict: Verdict, fields: impl IntoIterator<Item = (Field, String)>) -> Record {
        let record = settled(self.of.get(), self.turn, verdict, fields);
        self.counted.iter().for_each(|counted| counted.settled(&record));
        record
    }
}

/// The right to say what became of effects whose process ended before it could.
pub struct Earlier(Audit);

impl Earlier {
    /// It permits nothing, so whoever may record has it.
    pub fn new(audit: Audit) -> Self {
        Self(audit)
    }

    /// Records what became of an effect: `of` is the number of the record of its decision, in its turn.
    pub async fn settle(
        &self,
        of: u64,
        turn: TurnId,
        verdict: Verdict,
        fields: impl IntoIterator<Item = (Field, String)>,
    ) -> Result<Seq, AuditError> {
        self.0.record(settled(of, turn, verdict, fields)).await
    }
}

fn settled(
    of: u64,
    turn: TurnId,
    verdict: Verdict,
    fields: impl IntoIterator<Item = (Field, String)>,
) -> Record {
    let record = Record::new(Kind::Settle, verdict).of_turn(turn).with(Field::Of, of);
    fields.into_iter().fold(record, |record, (field, value)| record.with(field, value))
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if self.open {
            self.audit.record_detached(self.record(Verdict::Abandoned, []));
        }
    }
}
