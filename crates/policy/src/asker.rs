//! Whether whoever asked is still there.
//!
//! Who answers a request is told when its client is gone, and not dropped then: what was decided and sent is on
//! record with all that is known of it.

use tokio::sync::watch;
use types::Refusal;

use crate::rules;

/// The client of one request, as whoever answers it sees it.
#[derive(Clone)]
pub struct Asker(watch::Receiver<()>);

/// Kept as long as the client is there.
pub struct Here {
    _here: watch::Sender<()>,
}

impl Asker {
    /// An asker that is there as long as the other is kept.
    pub fn watched() -> (Here, Self) {
        let (here, watching) = watch::channel(());
        (Here { _here: here }, Self(watching))
    }

    /// Comes about when the client is gone.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut watching = self.0.clone();
        async move { while watching.changed().await.is_ok() {} }
    }

    /// Waits for the owner as long as the client does. What is dropped must leave nothing undone.
    pub(crate) async fn unless_gone<T>(
        &self,
        waits: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        tokio::select! {
            done = waits => done,
            () = self.gone() => Err(Refusal::new(&rules::ASKER_GONE, "")),
        }
    }
}
