//! How a client comes in: as a stranger, among whom nobody can keep a place, until it has shown that it may.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How long a stranger is left alone while others wait to be let in. Who knows the token sends it as soon as it is
/// connected; who sends none makes room then, the first one first.
const GRACE: Duration = Duration::from_millis(500);

/// How long a stranger that was sent away may take to be gone.
const MOMENT: Duration = Duration::from_millis(20);

/// How far a client has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Stranger,
    /// It may come in, once there is a slot.
    Known,
    Inside,
}

/// One connection on its way in.
#[derive(Debug)]
pub(super) struct Entry {
    slots: Arc<Semaphore>,
    /// Held while the connection lasts.
    slot: OnceCell<OwnedSemaphorePermit>,
    stage: watch::Sender<Stage>,
}

impl Entry {
    /// To one of these slots.
    pub(super) fn to(slots: Arc<Semaphore>) -> Self {
        Self { slots, slot: OnceCell::new(), stage: watch::Sender::new(Stage::Stranger) }
    }

    /// For a client that somebody else has let in.
    pub(super) fn open() -> Self {
        Self::to(Arc::new(Semaphore::new(1)))
    }

    /// Lets in a client that has shown that it may, once there is a slot.
    pub(super) async fn enter(&self) {
        if self.slot.initialized() {
            return;
        }
        self.stage.send_replace(Stage::Known);
        // Nobody closes the slots.
        let _ = self.slot.get_or_try_init(|| self.slots.clone().acquire_owned()).await;
        self.stage.send_replace(Stage::Inside);
    }

    async fn reached(&self, stage: Stage) {
        let mut seen = self.stage.subscribe();
        let _ = seen.wait_for(|now| *now >= stage).await;
    }
}

/// A stranger's place.
pub(super) struct Place {
    place: OwnedSemaphorePermit,
    leave: oneshot::Receiver<()>,
}

impl Place {
    /// Serves a connection to its end: as a stranger until it is known, for so long at most and as long as it is not sent
    /// away; in this place until it is inside.
    pub(super) async fn serve(self, entry: &Entry, most: Duration, serving: impl Future<Output = ()>) {
        tokio::pin!(serving);
        tokio::select! {
            biased;
            () = &mut serving => return,
            () = entry.reached(Stage::Known) => {}
            _ = self.leave => return,
            () = sleep(most) => return,
        }
        tokio::select! {
            () = &mut serving => return,
            () = entry.reached(Stage::Inside) => drop(self.place),
        }
        serving.await;
    }
}

/// Clients of which nothing is known yet.
pub(super) struct Strangers {
    places: Arc<Semaphore>,
    /// Since when each is here, and by what it is sent away, in their order.
    came: VecDeque<(Instant, oneshot::Sender<()>)>,
}

impl Strangers {
    /// So many at a time.
    pub(super) fn of(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), came: VecDeque::new() }
    }

    /// A place for the next one, as soon as one is free or somebody has been here long enough to make room.
    pub(super) async fn place(&mut self) -> OwnedSemaphorePermit {
        loop {
            // Who is known, or gone, has stopped listening.
            self.came.retain(|(_, leave)| !leave.is_closed());
            let until = self.came.front().map(|(since, _)| *since + GRACE);
            let wait = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Ok(place) = self.places.clone().acquire_owned() => return place,
                () = wait => {}
            }
            drop(self.came.pop_front());
            if let Ok(Ok(place)) = timeout(MOMENT, self.places.clone().acquire_owned()).await {
                return place;
            }
        }
    }

    /// Gives it to one that has just come.
    pub(super) fn came(&mut self, place: OwnedSemaphorePermit) -> Place {
        let (send, leave) = oneshot::channel();
        self.came.push_back((Instant::now(), send));
        Place { place, leave }
    }
}
