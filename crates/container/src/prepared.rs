//! A run that is prepared and not started. Whoever waits for it starts it; where nobody waits any more it is put away.

use bollard::container::AttachContainerResults;
use policy::Settlement;
use tokio::runtime::Handle;
use types::{Field, Verdict};

use crate::proof::Expected;
use crate::run::Run;
use crate::sweep::{Recovered, remove};

/// What a run was made of, so far. Dropped, it is put away.
pub(crate) struct Prepared(Option<Parts>);

/// The same in the hands of whoever starts it.
pub(crate) struct Parts {
    pub(crate) run: Run,
    pub(crate) attached: AttachContainerResults,
    pub(crate) expected: Expected,
    pub(crate) recovered: Vec<Recovered>,
    pub(crate) settlement: Settlement,
}

impl Prepared {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Some(parts))
    }

    /// The parts, for whoever starts the run without waiting for anything before.
    pub(crate) fn take(mut self) -> Option<Parts> {
        self.0.take()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Without a runtime this process is about to end. Then the note stays, and the next command puts it away.
        if let (Some(parts), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(parts.put_away());
        }
    }
}

impl Parts {
    /// Nothing of it ever ran.
    async fn put_away(self) {
        let Self { run, attached, settlement, .. } = self;
        drop(attached);
        // Of a container that stays the note stays, too.
        if remove(&run.docker, &run.id).await.is_ok() {
            let _ = run.ground.forget();
        }
        let why = "nobody waited for the command to start any more".to_owned();
        let _ = settlement.settle(Verdict::Abandoned, [(Field::Reason, why)]).await;
    }
}
