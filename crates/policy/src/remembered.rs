//! The grants to `proxy`, as they were read for an earlier request.
//!
//! To read them takes longer than to decide. What was read is good as long as nothing was granted or taken back since,
//! which only the record of a permit can say: it is written as of the moment before they were read
//! ([`Audit::record_as_of`](audit::Audit::record_as_of)), or not at all, and then they are read again.

use std::sync::{Arc, PoisonError, RwLock};

use audit::Moment;
use types::{Grant, Refusal, ToolName};

use crate::decide::Policy;

/// What was granted.
pub(crate) struct Known {
    pub(crate) grants: Vec<Grant>,
    /// Before they were read.
    pub(crate) moment: Moment,
}

/// What was read last.
#[derive(Default)]
pub(crate) struct Remembered(RwLock<Option<Arc<Known>>>);

impl Policy {
    /// What is remembered, unless it is known that it may be otherwise by now.
    pub(crate) fn remembered(&self) -> Option<Arc<Known>> {
        let known = self.0.remembered.0.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        (known.moment == self.audit().moment()).then_some(known)
    }

    /// Reads what is granted, and remembers it.
    pub(crate) async fn remember(&self) -> Result<Arc<Known>, Refusal> {
        let moment = self.audit().moment();
        let grants = self.grants_to(&ToolName::proxy()).await?;
        let known = Arc::new(Known { grants, moment });
        *self.0.remembered.0.write().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }
}
