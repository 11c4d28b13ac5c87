//! What the clients of one proxy, or one program in a container, may do: the authority for their permits.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use types::{
    CallId, Caller, Endpoint, Field, Host, Kind, Record, Refusal, Scheme, SecretName, Site, Target, Verdict,
};

use crate::held::{self, Held, Waiting};
use crate::reach::Reach;
use crate::rules;
use crate::storm::Storm;
use crate::tally::{Leak, Refused, Tally};
use crate::turn::Turn;

/// Names under wildcards that one run may use. A name that is looked up is read by the zone's name server, so each is room
/// to write into (attack X02); a run that needs more has its hosts named.
const MOST_NAMES: usize = 64;

/// Characters of all these names before the zone, together: of machines' names of the usual length there are 64, of labels
/// that hold as much as a label can, 16.
const MOST_LETTERS: usize = 1024;

/// How many quarters of either are used when the log says so, once a run.
const NEAR: usize = 3;

/// What the clients of one proxy, or one program in a container, may do: the authority for their permits.
pub struct Run {
    id: CallId,
    site: Site,
    turn: Turn,
    reach: RwLock<Arc<Reach>>,
    secrets: Vec<SecretName>,
    names: Mutex<WildcardNames>,
    pub(crate) storm: Storm,
    pub(crate) tally: Arc<Tally>,
    /// How long a request waits for the owner, what waits, and who tells the owner.
    pub(crate) wait: Duration,
    pub(crate) waiting: Waiting,
    teller: Option<Teller>,
}

/// Names under wildcards that were used.
#[derive(Default)]
struct WildcardNames {
    used: BTreeSet<Host>,
    /// Whether the owner was told that there are many.
    told: bool,
}

/// Tells the owner of a request that waits.
pub type Teller = Box<dyn Fn(&Held) + Send + Sync>;

impl Run {
    /// A run whose program runs at `site`, may go where `reach` says and may stand placeholders of `secrets` in its
    /// requests.
    pub fn open(turn: Turn, site: Site, reach: Reach, secrets: Vec<SecretName>) -> Self {
        let reach = RwLock::new(Arc::new(reach));
        Self {
            id: CallId::new(),
            site,
            turn,
            reach,
            secrets,
            names: Mutex::default(),
            storm: Storm::default(),
            tally: Arc::default(),
            wait: held::WAIT,
            waiting: Waiting::default(),
            teller: None,
        }
    }

    /// Tells the owner of requests that wait, each of which waits so long.
    #[must_use]
    pub fn asking(mut self, wait: Option<Duration>, teller: Teller) -> Self {
        self.wait = wait.unwrap_or(self.wait);
        self.teller = Some(teller);
        self
    }

    /// Tells of every leak that is stopped in the run.
    #[must_use]
    pub fn alarmed(self, alarm: UnboundedSender<Leak>) -> Self {
        self.tally.alarm(alarm);
        self
    }

    /// What was refused, by kinds, the most frequent first; and how many refusals there were of kinds beyond those.
    pub fn refused(&self) -> (Vec<Refused>, u64) {
        self.tally.kinds()
    }

    pub(crate) fn tell(&self, held: &Held) {
        if let Some(teller) = &self.teller {
            teller(held);
        }
    }

    /// Puts other rules in force, for every request from here on.
    pub fn replace(&self, reach: Reach) {
        *self.reach.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(reach);
    }

    /// The rules in force.
    pub fn reach(&self) -> Arc<Reach> {
        self.reach.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of the secrets that placeholders stand for.
    pub fn secrets(&self) -> &[SecretName] {
        &self.secrets
    }

    /// The turn that its records belong to.
    pub fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Counts a name that only a wildcard rule names. Where many are used by now, it says so once.
    pub(crate) fn count_name(
        &self,
        reach: &Reach,
        scheme: Scheme,
        endpoint: &Endpoint,
    ) -> Result<Option<String>, Refusal> {
        if reach.names_alone(scheme, endpoint) {
            return Ok(None);
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let letters = |host: &Host| match host {
            Host::Name(name) => name.as_str().split('.').next().map_or(0, str::len),
            Host::Addr(_) => 0,
        };
        if names.used.contains(&endpoint.host) {
            return Ok(None);
        }
        let before: usize = names.used.iter().map(letters).sum();
        let (number, length) = (names.used.len() + 1, before + letters(&endpoint.host));
        if number > MOST_NAMES || length > MOST_LETTERS {
            let detail = format!("{} names with {before} letters before {endpoint}", number - 1);
            let refusal = Refusal::new(&rules::WILDCARD_NAMES, detail);
            return Err(refusal.widened_by(format!("name the host by itself: --allow {endpoint}")));
        }
        names.used.insert(endpoint.host.clone());
        let is_near = 4 * number >= NEAR * MOST_NAMES || 4 * length >= NEAR * MOST_LETTERS;
        let is_new = is_near && !std::mem::replace(&mut names.told, true);
        Ok(is_new.then(|| {
            format!("{number} of {MOST_NAMES} names, {length} of {MOST_LETTERS} letters with {endpoint}")
        }))
    }

    /// Refuses everything once values of keys came up too often: where an answer breaks off can say what was in it, wherever
    /// it came from.
    pub(crate) fn refuse_spent(&self, target: &Target) -> Result<(), Refusal> {
        if !self.tally.is_spent() {
            return Ok(());
        }
        Err(Refusal::new(&rules::RUN_SUSPENDED, target.endpoint.to_string())
            .widened_by("look at what came back: ironclaw audit tail; a new run starts afresh"))
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller::Client { run: self.id, site: self.site }
    }

    pub(crate) fn record(&self, verdict: Verdict) -> Record {
        Record::new(Kind::Request, verdict)
            .of_turn(self.turn.id())
            .with(Field::Actor, self.caller())
            .with(Field::Call, self.id)
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("id", &self.id).field("secrets", &self.secrets).finish_non_exhaustive()
    }
}
